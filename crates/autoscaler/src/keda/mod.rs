//! ScaledObject and ScaledJob: event sources to replicas and Jobs, with the metrics that the HorizontalPodAutoscaler
//! asks for.
//!
//! Invariant: what decides is a pure function over values ([`decide`], [`jobs`], [`fallback`], [`formula`]); the
//! controllers read, call them and write. A source that cannot be read never counts as empty.

mod act;
pub mod annotations;
pub mod conditions;
mod counters;
pub mod decide;
mod ensure_hpa;
mod entry;
mod evaluate;
pub mod fallback;
pub mod formula;
pub mod hpa;
pub mod jobs;
mod lifecycle;
mod metrics_api;
pub mod resolve;
pub mod scaled_job;
mod scaled_object;
pub mod types;
pub mod validate;
mod world;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use gantry_clock::Clock;
use gantry_operator::{Informer, Key, Operator, Recorder, Trigger, Writes};
use gantry_prom_model::Registry;
use gantry_scalers::{Amount, Settings, Sources};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use parking_lot::Mutex;
use serde_json::{Value, json};

pub use gantry_scalers::KeyspaceEvents;
pub use metrics_api::ExternalMetricsApi;
pub use world::Reach;

use self::counters::Counters;
use self::entry::Entry;
use self::types::{
    AuthenticationRef, ClusterTriggerAuthentication, ScaledJob, ScaledObject, TriggerAuthentication,
};
use crate::decisions::Decisions;
use crate::external::ExternalMetrics;
use crate::hpa::target::Targets;
use crate::query::MetricsQuery;

/// The definitions of KEDA's kinds, for [`install_definitions`](gantry_operator::install_definitions).
pub const DEFINITIONS: &[&str] = &[include_str!("../../data/keda@2.21/crds.json")];

/// The controllers' settings; the defaults are upstream's.
#[derive(Clone)]
pub struct KedaConfig {
    /// Sources are polled at least this often, whatever the objects say.
    pub slowest_polling: Option<Duration>,
    /// A reading of this age still answers the HorizontalPodAutoscaler.
    pub reading_patience: Duration,
    /// Where the secrets of ClusterTriggerAuthentications are.
    pub cluster_namespace: String,
    /// For requests of sources that set no timeout of their own.
    pub http_timeout: Duration,
    pub keyspace_events: KeyspaceEvents,
    /// `serverAddress`es that mean the metric store of this process.
    pub own_addresses: Vec<String>,
    /// Names of Services lead to their pods, where there is no cluster DNS.
    pub resolves_services: bool,
    /// How pods are reached from here; asked where names of Services are resolved.
    pub reach: Option<Arc<dyn Reach>>,
    /// Objects that are worked on at the same time.
    pub concurrency: usize,
}

impl Default for KedaConfig {
    fn default() -> KedaConfig {
        KedaConfig {
            slowest_polling: None,
            reading_patience: Duration::ZERO,
            cluster_namespace: "keda".into(),
            http_timeout: Duration::from_secs(3),
            keyspace_events: KeyspaceEvents::Listen,
            own_addresses: Vec::new(),
            resolves_services: false,
            reach: None,
            concurrency: 32,
        }
    }
}

/// Both controllers and the external metrics they stand for. Cloning shares it.
#[derive(Clone)]
pub struct Keda {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    config: KedaConfig,
    client: Client,
    clock: Arc<dyn Clock>,
    objects: Informer<ScaledObject>,
    scaled_jobs: Informer<ScaledJob>,
    authentications: Informer<TriggerAuthentication>,
    cluster_authentications: Informer<ClusterTriggerAuthentication>,
    hpas: Informer<HorizontalPodAutoscaler>,
    jobs: Informer<Job>,
    job_writes: Writes,
    pods: Informer<Pod>,
    sources: Sources,
    targets: Targets,
    recorder: Recorder,
    decisions: Decisions,
    counters: Counters,
    /// By kind (true for ScaledJob) and key.
    entries: Mutex<HashMap<(bool, Key), Arc<Entry>>>,
    object_queue: OnceLock<Trigger>,
    job_queue: OnceLock<Trigger>,
    hpa_queue: OnceLock<Trigger>,
}

impl Keda {
    /// Registers the controllers; they work while the operator runs. The definitions must be there by then:
    /// see [`install`].
    pub fn new(
        config: KedaConfig,
        operator: &Operator,
        queries: Option<Arc<dyn MetricsQuery>>,
        decisions: Decisions,
    ) -> Keda {
        let pods = operator.informer::<Pod>();
        let client = operator.client().clone();
        let own_store = |queries| {
            Arc::new(world::OwnStore::new(queries, config.own_addresses.clone()))
                as Arc<dyn gantry_scalers::LocalMetrics>
        };
        let sources = Sources::new(Settings {
            cluster: Some(Arc::new(world::Objects { client: client.clone(), pods: pods.clone() })),
            local_metrics: queries.map(own_store),
            resolve: config
                .resolves_services
                .then(|| Arc::new(world::Services::new(operator, config.reach.clone())) as _),
            keyspace_events: config.keyspace_events,
            ..Settings::new(operator.clock().clone())
        });
        let inner = Arc::new(Inner {
            clock: operator.clock().clone(),
            objects: operator.informer(),
            scaled_jobs: operator.informer(),
            authentications: operator.informer(),
            cluster_authentications: operator.informer(),
            hpas: operator.informer(),
            jobs: operator.informer(),
            job_writes: Writes::new(operator.clock().clone()),
            pods,
            sources,
            targets: Targets::new(client.clone()),
            recorder: operator.recorder("keda-operator"),
            decisions,
            counters: Counters::new(),
            entries: Mutex::default(),
            object_queue: OnceLock::new(),
            job_queue: OnceLock::new(),
            hpa_queue: OnceLock::new(),
            client,
            config,
        });
        scaled_object::register(&inner, operator);
        scaled_job::register(&inner, operator);
        Keda { inner }
    }

    /// Asks this queue for the HorizontalPodAutoscaler of an object whose sources have just been read.
    pub fn wakes(&self, hpas: Trigger) {
        // A second queue would be a second autoscaler of the same objects.
        let _ = self.inner.hpa_queue.set(hpas);
    }

    /// What is counted under KEDA's names.
    pub fn registry(&self) -> Registry {
        self.inner.counters.registry()
    }
}

#[async_trait]
impl ExternalMetrics for Keda {
    async fn external(
        &self,
        namespace: &str,
        metric: &str,
        selector: &BTreeMap<String, String>,
    ) -> Option<Result<Vec<i64>, String>> {
        let name = selector.get(hpa::NAME_LABEL)?;
        let value = self.inner.external_value(namespace, name, metric).await;
        Some(value.map(|value| vec![Amount::of(value).milli()]))
    }
}

impl Inner {
    fn entry(&self, is_job: bool, key: &Key) -> Option<Arc<Entry>> {
        self.entries.lock().get(&(is_job, key.clone())).cloned()
    }

    /// Ends the polling of an object.
    fn forget(&self, is_job: bool, key: &Key) {
        self.entries.lock().remove(&(is_job, key.clone()));
        self.counters.forget_series(key, is_job);
    }

    /// Ends everything that is kept of an object.
    fn forget_object(&self, is_job: bool, key: &Key) {
        self.forget(is_job, key);
        self.counters.forget_object(key, is_job);
    }

    fn interval(&self, seconds: Option<i32>) -> Duration {
        let given = Duration::from_secs(u64::try_from(seconds.unwrap_or(30)).unwrap_or(30).max(1));
        self.config.slowest_polling.map_or(given, |slowest| given.min(slowest))
    }

    /// What changes when an authentication that triggers refer to does.
    fn authentication_versions<'a>(
        &self,
        namespace: &str,
        references: impl Iterator<Item = &'a AuthenticationRef>,
    ) -> Vec<String> {
        let version = |reference: &AuthenticationRef| {
            if reference.kind == "ClusterTriggerAuthentication" {
                self.cluster_authentications
                    .get(&Key::cluster(&reference.name))?
                    .metadata
                    .resource_version
                    .clone()
            } else {
                self.authentications
                    .get(&Key::new(namespace, &reference.name))?
                    .metadata
                    .resource_version
                    .clone()
            }
        };
        references.map(|reference| version(reference).unwrap_or_default()).collect()
    }

    /// Writes the difference between two statuses; an object that is gone needs none.
    async fn write_status<K>(
        &self,
        key: &Key,
        before: &impl serde::Serialize,
        after: &impl serde::Serialize,
    ) -> Result<(), kube::Error>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
    {
        let before = serde_json::to_value(before).unwrap_or_default();
        let after = serde_json::to_value(after).unwrap_or_default();
        let Some(patch) = difference(&before, &after) else { return Ok(()) };
        let api: Api<K> = Api::namespaced(self.client.clone(), key.namespace());
        let patch = Patch::Merge(json!({ "status": patch }));
        match api.patch_status(key.name(), &PatchParams::default(), &patch).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// The merge patch from one value to another; `None` when they are the same.
fn difference(before: &Value, after: &Value) -> Option<Value> {
    let (Value::Object(before), Value::Object(after)) = (before, after) else {
        return (before != after).then(|| after.clone());
    };
    let mut patch = serde_json::Map::new();
    for (key, value) in after {
        match before.get(key) {
            Some(there) => {
                if let Some(inner) = difference(there, value) {
                    patch.insert(key.clone(), inner);
                }
            }
            None => {
                patch.insert(key.clone(), value.clone());
            }
        }
    }
    for key in before.keys().filter(|key| !after.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_differences_are_written() {
        let before = json!({"a": 1, "b": {"c": 1, "d": 2}, "e": [1]});
        assert_eq!(difference(&before, &before), None);
        let after = json!({"a": 1, "b": {"c": 2}, "e": [1, 2], "f": true});
        assert_eq!(
            difference(&before, &after),
            Some(json!({"b": {"c": 2, "d": null}, "e": [1, 2], "f": true}))
        );
    }
}
