//! What a pod's worker asks of the API server, as a door, so that pods can be run in tests without one.

use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Service;

use crate::env::References;
use crate::runtime::PodRef;

/// A request to the API server failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClusterError {
    /// The object is gone or another one has its name; there is nothing left to tell.
    #[error("{0} is no longer there")]
    Gone(String),
    #[error("cannot {doing}: {reason}")]
    Failed { doing: String, reason: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Normal,
    Warning,
}

#[async_trait]
pub trait Cluster: Send + Sync + 'static {
    /// The named ConfigMaps and Secrets that exist.
    async fn references(
        &self,
        namespace: &str,
        config_maps: &[String],
        secrets: &[String],
    ) -> Result<References, ClusterError>;

    /// The services of the namespace and `kubernetes` of `default`.
    fn services(&self, namespace: &str) -> Vec<Arc<Service>>;

    /// Whether a service account says that pods get its tokens, where they do not say so themselves.
    async fn automounts(&self, namespace: &str, account: &str) -> Result<bool, ClusterError>;

    /// A token of a service account of the pod's namespace, which ends with the pod or after `seconds`.
    async fn token(&self, pod: &PodRef, account: &str, seconds: i64) -> Result<String, ClusterError>;

    /// Merges `status` into the pod's status; nothing happens to a pod with another uid.
    async fn write_status(&self, pod: &PodRef, status: serde_json::Value) -> Result<(), ClusterError>;

    /// Removes a terminated pod for good.
    async fn remove(&self, pod: &PodRef) -> Result<(), ClusterError>;

    /// Records an event about the pod or one of its containers.
    fn event(&self, pod: &PodRef, container: Option<&str>, severity: Severity, reason: &str, message: String);
}

/// Asked before the processes of a pod are told to stop, so that nobody sends it work any more.
#[async_trait]
pub trait BeforeStop: Send + Sync + 'static {
    /// Returns when the pod gets no new requests and those in flight have been answered. The node bounds the wait.
    async fn before_stop(&self, pod: &PodRef);
}
