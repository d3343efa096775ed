//! What is kept of one ScaledObject or ScaledJob between polls: its scalers, their last readings, their failures.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::join_all;
use gantry_operator::{Key, Trigger};
use gantry_scalers::{
    Hear, MetricSpec, MetricType, PodIdentity, Reading, Scaler, Sources, Subscription, TriggerConfig,
};
use k8s_openapi::api::core::v1::PodSpec;
use kube::core::ObjectMeta;
use parking_lot::Mutex;

use super::formula::Formula;
use super::resolve::Resolver;
use super::types::ScaleTrigger;

/// Sources that cannot be read are made anew (with secrets and addresses read again) not more often than this.
const REBUILD_AFTER: Duration = Duration::from_secs(2);
/// After a read a push waits this long, so that a busy source is not read for each of its changes.
const PUSH_GAP: Duration = Duration::from_millis(50);

/// One trigger with its scaler.
pub(crate) struct Built {
    pub name: String,
    pub kind: String,
    pub use_cached: bool,
    pub scaler: Arc<dyn Scaler>,
    pub metrics: Vec<MetricSpec>,
}

pub(crate) struct Entry {
    signature: u64,
    pub triggers: Vec<Built>,
    pub formula: Option<Formula>,
    built_at: Duration,
    pushed: AtomicBool,
    pub state: Mutex<State>,
    /// Held so that pushes come; set once all is built.
    subscriptions: Mutex<Vec<Subscription>>,
}

#[derive(Default)]
pub(crate) struct State {
    pub polled_at: Option<Duration>,
    readings: HashMap<String, Stored>,
    /// Failures in a row by metric.
    failures: BTreeMap<String, i32>,
    pub last_active_ms: Option<i64>,
    /// The HPA's version that was last found to be right.
    pub hpa_version: Option<String>,
    pub last_error: Option<String>,
}

#[derive(Clone)]
struct Stored {
    at: Duration,
    outcome: Result<Reading, String>,
}

/// One external metric after a poll.
#[derive(Clone, Debug)]
pub(crate) struct Observed {
    pub trigger: String,
    pub kind: String,
    pub index: usize,
    pub metric: String,
    pub metric_type: MetricType,
    pub target: f64,
    pub outcome: Result<Reading, String>,
    pub failures: i32,
    pub took: Duration,
}

/// What scalers are built from.
pub(crate) struct Blueprint<'a> {
    pub namespace: &'a str,
    pub triggers: &'a [ScaleTrigger],
    pub pod: Option<PodSpec>,
    pub container: &'a str,
    pub formula: Option<Formula>,
    pub timeout: Duration,
}

impl Entry {
    pub(crate) async fn build(
        signature: u64,
        blueprint: Blueprint<'_>,
        resolver: &mut Resolver<'_>,
        sources: &Sources,
        now: Duration,
    ) -> Result<Entry, String> {
        let refers = |trigger: &ScaleTrigger| {
            trigger.authentication_ref.is_some()
                || trigger.metadata.keys().any(|key| key.ends_with("FromEnv"))
        };
        let environment = match &blueprint.pod {
            Some(pod) if blueprint.triggers.iter().any(refers) => {
                resolver.environment(pod, blueprint.container).await?
            }
            _ => BTreeMap::new(),
        };
        let mut triggers = Vec::with_capacity(blueprint.triggers.len());
        for (index, trigger) in blueprint.triggers.iter().enumerate() {
            let authentication = resolver
                .authentication(trigger.authentication_ref.as_ref(), &environment, blueprint.pod.as_ref())
                .await?;
            let config = TriggerConfig {
                namespace: blueprint.namespace.to_owned(),
                index,
                kind: trigger.kind.clone(),
                metric_type: MetricType::parse(&trigger.metric_type)?,
                metadata: trigger.metadata.clone(),
                auth: authentication.parameters,
                env: environment.clone(),
                pod_identity: PodIdentity(authentication.identity),
                timeout: blueprint.timeout,
            };
            let scaler = sources.scaler(&config).map_err(|error| error.to_string())?;
            let metrics = scaler.metrics().await.map_err(|error| error.to_string())?;
            triggers.push(Built {
                name: trigger.name.clone(),
                kind: trigger.kind.clone(),
                use_cached: trigger.use_cached_metrics,
                scaler,
                metrics,
            });
        }
        Ok(Entry {
            signature,
            triggers,
            formula: blueprint.formula,
            built_at: now,
            pushed: AtomicBool::new(false),
            state: Mutex::default(),
            subscriptions: Mutex::default(),
        })
    }

    /// Lets sources that can tell ask for a reconciliation of `key`.
    pub(crate) fn subscribe(
        self: &Arc<Entry>,
        key: &Key,
        queue: &Trigger,
        clock: &Arc<dyn gantry_operator::Clock>,
    ) {
        let entry = Arc::downgrade(self);
        let (key, queue, clock) = (key.clone(), queue.clone(), clock.clone());
        let hear: Hear = Arc::new(move || {
            let Some(entry) = entry.upgrade() else { return };
            entry.pushed.store(true, Ordering::Release);
            let since = entry.state.lock().polled_at.map(|at| clock.monotonic().saturating_sub(at));
            match since {
                Some(since) if since < PUSH_GAP => queue.after(key.clone(), PUSH_GAP - since),
                _ => queue.now(key.clone()),
            }
        });
        let subscriptions =
            self.triggers.iter().filter_map(|trigger| trigger.scaler.subscribe(hear.clone())).collect();
        *self.subscriptions.lock() = subscriptions;
    }

    /// Keeps what an earlier entry of the same object has learned.
    pub(crate) fn inherit(&self, earlier: &Entry) {
        let earlier = earlier.state.lock();
        let mut state = self.state.lock();
        state.failures.clone_from(&earlier.failures);
        state.last_active_ms = earlier.last_active_ms;
        state.last_error.clone_from(&earlier.last_error);
    }

    /// Whether it was built of the same and its sources work, or were made anew just now.
    pub(crate) fn is_current(&self, signature: u64, now: Duration) -> bool {
        let has_failed = || self.state.lock().failures.values().any(|failures| *failures > 0);
        self.signature == signature && (now.saturating_sub(self.built_at) < REBUILD_AFTER || !has_failed())
    }

    /// Whether the sources should be read now; a push counts once.
    pub(crate) fn is_due(&self, interval: Duration, now: Duration) -> bool {
        let pushed = self.pushed.swap(false, Ordering::AcqRel);
        let polled = self.state.lock().polled_at;
        pushed || polled.is_none_or(|at| now.saturating_sub(at) >= interval)
    }

    /// The specs of all metrics, in the order of the triggers.
    pub(crate) fn specs(&self) -> Vec<MetricSpec> {
        self.triggers.iter().flat_map(|trigger| trigger.metrics.iter().cloned()).collect()
    }

    pub(crate) fn has_only_resources(&self) -> bool {
        self.triggers
            .iter()
            .all(|trigger| trigger.metrics.iter().all(|metric| metric.external_name().is_none()))
    }

    /// Reads all external metrics at the same time.
    pub(crate) async fn poll(&self, clock: &dyn gantry_operator::Clock) -> Vec<Observed> {
        self.state.lock().polled_at = Some(clock.monotonic());
        let external = self.externals();
        let reads = external.iter().map(|(index, trigger, metric)| self.read(*index, trigger, metric, clock));
        join_all(reads).await
    }

    /// The metrics as they were read at most `patience` ago, and otherwise now.
    pub(crate) async fn observed(
        &self,
        clock: &dyn gantry_operator::Clock,
        patience: Duration,
    ) -> Vec<Observed> {
        let now = clock.monotonic();
        let external = self.externals();
        let reads = external.iter().map(|(index, trigger, metric)| async move {
            let name = metric.external_name().unwrap_or_default();
            let stored = {
                let state = self.state.lock();
                state
                    .readings
                    .get(name)
                    .cloned()
                    .map(|stored| (stored, state.failures.get(name).copied().unwrap_or(0)))
            };
            match stored {
                Some((stored, failures))
                    if trigger.use_cached || now.saturating_sub(stored.at) <= patience =>
                {
                    observed(*index, trigger, metric, stored.outcome, failures, Duration::ZERO)
                }
                _ => self.read(*index, trigger, metric, clock).await,
            }
        });
        join_all(reads).await
    }

    fn externals(&self) -> Vec<(usize, &Built, &MetricSpec)> {
        let indexed = self.triggers.iter().enumerate();
        let all = indexed
            .flat_map(|(index, trigger)| trigger.metrics.iter().map(move |metric| (index, trigger, metric)));
        all.filter(|(_, _, metric)| metric.external_name().is_some()).collect()
    }

    async fn read(
        &self,
        index: usize,
        trigger: &Built,
        metric: &MetricSpec,
        clock: &dyn gantry_operator::Clock,
    ) -> Observed {
        let name = metric.external_name().unwrap_or_default();
        let began = clock.monotonic();
        let outcome = trigger.scaler.read(name).await.map_err(|error| error.to_string());
        let now = clock.monotonic();
        let failures = {
            let mut state = self.state.lock();
            let failures = match (&outcome, state.failures.get(name)) {
                (Ok(_), _) => 0,
                (Err(_), before) => before.copied().unwrap_or(0).saturating_add(1),
            };
            state.failures.insert(name.to_owned(), failures);
            state.readings.insert(name.to_owned(), Stored { at: now, outcome: outcome.clone() });
            failures
        };
        observed(index, trigger, metric, outcome, failures, now.saturating_sub(began))
    }
}

fn observed(
    index: usize,
    trigger: &Built,
    metric: &MetricSpec,
    outcome: Result<Reading, String>,
    failures: i32,
    took: Duration,
) -> Observed {
    let (name, metric_type, target) = match metric {
        MetricSpec::External { name, metric_type, target } => (name.clone(), *metric_type, target.as_f64()),
        MetricSpec::Resource { name, .. } => ((*name).to_owned(), MetricType::Utilization, 0.0),
    };
    let (trigger, kind) = (trigger.name.clone(), trigger.kind.clone());
    Observed { trigger, kind, index, metric: name, metric_type, target, outcome, failures, took }
}

/// Differs when anything that scalers are built from may have changed.
pub(crate) fn signature(meta: &ObjectMeta, authentications: &[String]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (meta.uid.as_deref(), meta.generation, &meta.annotations, &meta.labels, authentications)
        .hash(&mut hasher);
    hasher.finish()
}
