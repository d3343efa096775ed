//! What a trigger says, with what was resolved for it: metadata, authentication parameters, environment.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::spec::MetricType;

/// Text that must not reach a log or an error.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    pub fn expose(&self) -> &str {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "Secret()" } else { "Secret(…)" })
    }
}

/// Whose identity a trigger uses at a cloud provider; empty or `none` is nobody's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodIdentity(pub String);

impl PodIdentity {
    pub fn is_none(&self) -> bool {
        self.0.is_empty() || self.0 == "none"
    }
}

/// One trigger of a ScaledObject or ScaledJob, ready to be made into a scaler.
#[derive(Clone)]
pub struct TriggerConfig {
    /// The namespace of the object that the trigger belongs to.
    pub namespace: String,
    /// The position in the object's list; part of the metric's name.
    pub index: usize,
    pub kind: String,
    pub metric_type: Option<MetricType>,
    pub metadata: BTreeMap<String, String>,
    /// From a (Cluster)TriggerAuthentication.
    pub auth: BTreeMap<String, String>,
    /// The environment of the scale target's container.
    pub env: BTreeMap<String, String>,
    pub pod_identity: PodIdentity,
    /// For requests of sources that set no timeout of their own.
    pub timeout: Duration,
}

impl TriggerConfig {
    /// A trigger of `kind` that says nothing yet.
    pub fn new(kind: &str) -> TriggerConfig {
        TriggerConfig {
            namespace: "default".into(),
            index: 0,
            kind: kind.into(),
            metric_type: None,
            metadata: BTreeMap::new(),
            auth: BTreeMap::new(),
            env: BTreeMap::new(),
            pod_identity: PodIdentity::default(),
            timeout: Duration::from_secs(3),
        }
    }
}

/// Names only what is no secret: parameters may hold passwords.
impl fmt::Debug for TriggerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TriggerConfig")
            .field("namespace", &self.namespace)
            .field("index", &self.index)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}
