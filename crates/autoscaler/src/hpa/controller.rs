//! The reconciliation with its I/O, on the operator's queue.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use gantry_apimachinery::selector::{Selector, parse_label_selector};
use gantry_clock::Clock;
use gantry_operator::{
    Action, EventType, Informer, Key, Operator, ReconcileError, Recorder, Trigger, explain,
};
use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscaler, HorizontalPodAutoscalerStatus, MetricSpec, MetricStatus, MetricTarget,
    ResourceMetricSource,
};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use parking_lot::{Mutex, RwLock};
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Config;
use super::behavior::Behavior;
use super::calculator::{Patience, Tolerance};
use super::conditions::{ABLE_TO_SCALE, Conditions, SCALING_ACTIVE};
use super::decide::{self, Bounds, Computed, Failed, Memory};
use super::evaluate::{Scene, pod_facts};
use super::target::{Targets, resize};
use crate::custom::ObjectMetrics;
use crate::decisions::{Decision, Decisions};
use crate::external::ExternalMetrics;
use crate::metrics::ResourceMetrics;
use crate::query::MetricsQuery;

/// The HorizontalPodAutoscaler controller. Cloning shares it.
#[derive(Clone)]
pub struct Autoscaler {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    client: Client,
    clock: Arc<dyn Clock>,
    autoscalers: Informer<HorizontalPodAutoscaler>,
    pods: Informer<Pod>,
    recorder: Recorder,
    resources: Arc<dyn ResourceMetrics>,
    queries: Option<Arc<dyn MetricsQuery>>,
    external: Option<Arc<dyn ExternalMetrics>>,
    objects: RwLock<Option<Arc<dyn ObjectMetrics>>>,
    targets: Targets,
    state: Mutex<HashMap<Key, State>>,
    decisions: Decisions,
    trigger: Trigger,
}

/// What is kept of one autoscaler.
#[derive(Default)]
struct State {
    memory: Memory,
    /// Labels of its target's pods, to find autoscalers that fight over pods.
    selector: Option<Selector>,
}

/// The rest of a status beside its conditions.
struct Sizes {
    current: i32,
    desired: i32,
    metrics: Vec<MetricStatus>,
    scaled: bool,
}

impl Autoscaler {
    /// Registers the controller; it works while the operator runs.
    pub fn new(
        config: Config,
        operator: &Operator,
        resources: Arc<dyn ResourceMetrics>,
        queries: Option<Arc<dyn MetricsQuery>>,
    ) -> Autoscaler {
        Autoscaler::with_external(config, operator, resources, queries, None, Decisions::default())
    }

    /// Like [`new`](Autoscaler::new), asking `external` for external metrics first and recording into `decisions`.
    pub fn with_external(
        config: Config,
        operator: &Operator,
        resources: Arc<dyn ResourceMetrics>,
        queries: Option<Arc<dyn MetricsQuery>>,
        external: Option<Arc<dyn ExternalMetrics>>,
        decisions: Decisions,
    ) -> Autoscaler {
        let pods = operator.informer::<Pod>();
        let controller =
            operator.controller::<HorizontalPodAutoscaler>("horizontal-pod-autoscaler").reads(&pods);
        let inner = Arc::new(Inner {
            client: operator.client().clone(),
            clock: operator.clock().clone(),
            autoscalers: controller.store(),
            pods,
            recorder: operator.recorder("horizontal-pod-autoscaler"),
            resources,
            queries,
            external,
            objects: RwLock::default(),
            targets: Targets::new(operator.client().clone()),
            state: Mutex::default(),
            decisions,
            trigger: controller.trigger(),
            config,
        });
        let reconciler = inner.clone();
        controller.reconcile(move |key| {
            let inner = reconciler.clone();
            async move { inner.reconcile(&key).await }
        });
        Autoscaler { inner }
    }

    /// Takes metrics of pods and objects from `objects`, where no annotation gives a query.
    pub fn read_objects_from(&self, objects: Arc<dyn ObjectMetrics>) {
        *self.inner.objects.write() = Some(objects);
    }

    /// The record of changes of size.
    pub fn decisions(&self) -> &Decisions {
        &self.inner.decisions
    }

    /// A way to ask for one autoscaler to be computed now.
    pub fn trigger(&self) -> Trigger {
        self.inner.trigger.clone()
    }

    /// Asks for all autoscalers to be computed now.
    pub fn kick(&self) {
        for autoscaler in self.inner.autoscalers.list() {
            self.inner.trigger.now(Key::of(&*autoscaler));
        }
    }

    /// Computes on every push of readings and samples until `cancel`, where the configuration asks for it.
    pub async fn run(&self, cancel: CancellationToken) {
        let Some(pause) = self.inner.config.on_push else { return };
        let mut readings = self.inner.resources.changes();
        let mut samples = self.inner.queries.as_ref().and_then(|q| q.changes());
        loop {
            tokio::select! {
                _ = cancel.cancelled() => return,
                changed = readings.changed() => if changed.is_err() { return },
                _ = changed(&mut samples) => {}
            }
            self.kick();
            tokio::select! {
                _ = cancel.cancelled() => return,
                _ = tokio::time::sleep(pause) => {}
            }
        }
    }
}

async fn changed(samples: &mut Option<watch::Receiver<u64>>) {
    let ended = match samples {
        Some(receiver) => receiver.changed().await.is_err(),
        None => std::future::pending().await,
    };
    if ended {
        *samples = None;
    }
}

impl Inner {
    async fn reconcile(&self, key: &Key) -> Result<Action, ReconcileError> {
        let Some(hpa) = self.autoscalers.get(key) else {
            self.state.lock().remove(key);
            return Ok(Action::await_change());
        };
        let mut status = hpa.status.clone().unwrap_or_default();
        let mut conditions = Conditions(status.conditions.take().unwrap_or_default());
        let now_ms = self.clock.now_ms();
        let now = Time(Timestamp::from_millisecond(now_ms).unwrap_or_default());
        let sizes = self.compute(key, &hpa, &mut conditions, now_ms, &now).await;
        self.write_status(&hpa, conditions, sizes, &now).await?;
        Ok(Action::requeue_after(self.config.sync_period))
    }

    /// `None` when the sizes of the status stay as they are.
    async fn compute(
        &self,
        key: &Key,
        hpa: &HorizontalPodAutoscaler,
        conditions: &mut Conditions,
        now_ms: i64,
        now: &Time,
    ) -> Option<Sizes> {
        let spec = &hpa.spec;
        let reference = &spec.scale_target_ref;
        let namespace = key.namespace();
        let (api, scale) = match self.targets.scale(namespace, reference).await {
            Ok(found) => found,
            Err(error) => {
                let error = explain(&error);
                let message =
                    format!("the HPA controller was unable to get the target's current scale: {error}");
                conditions.set(ABLE_TO_SCALE, false, "FailedGetScale", message, now);
                self.warn(hpa, "FailedGetScale", error);
                return None;
            }
        };
        let message = "the HPA controller was able to get the target's current scale";
        conditions.set(ABLE_TO_SCALE, true, "SucceededGetScale", message, now);
        let current = scale.spec.as_ref().and_then(|s| s.replicas).unwrap_or(0);
        let running = scale.status.as_ref().map_or(0, |s| s.replicas);
        let behavior = spec.behavior.as_ref();
        let bounds = Bounds {
            min: spec.min_replicas,
            max: spec.max_replicas,
            behavior,
            downscale_window_ms: millis(self.config.downscale_stabilization),
        };

        let mut metric_statuses = Vec::new();
        let min = spec.min_replicas.unwrap_or(1);
        let metrics_matter = current >= min && current <= spec.max_replicas && (current > 0 || min == 0);
        let computed: Result<Vec<Computed>, Failed> = if metrics_matter {
            let selector = scale.status.as_ref().and_then(|s| s.selector.as_deref()).unwrap_or_default();
            match self.select(key, selector, conditions, now) {
                Ok(pods) => {
                    let rules = behavior.map(Behavior::of);
                    let default = self.config.tolerance;
                    let tolerance = Tolerance {
                        up: rules.as_ref().and_then(|r| r.up.tolerance).unwrap_or(default),
                        down: rules.as_ref().and_then(|r| r.down.tolerance).unwrap_or(default),
                    };
                    Ok(self
                        .metrics(hpa, &pods, current, running, tolerance, now_ms, &mut metric_statuses)
                        .await)
                }
                Err(failure) => Err(failure),
            }
        } else {
            Ok(Vec::new())
        };
        if let Err(failure) = &computed {
            self.warn(hpa, failure.reason, failure.message.clone());
        }

        let mut memory = std::mem::take(&mut self.state.lock().entry(key.clone()).or_default().memory);
        let outcome = decide::decide(&bounds, current, &mut memory, conditions, now_ms, now, |conditions| {
            decide::combine(&computed?, current, conditions, now)
        });
        let mut desired = outcome.desired;
        let mut scaled = false;
        if let Some(failure) = &outcome.failure {
            self.warn(hpa, "FailedComputeMetricsReplicas", failure.message.clone());
            desired = hpa.status.as_ref().map_or(0, |s| s.desired_replicas);
        } else if outcome.rescale {
            match resize(&api, scale, desired).await {
                Ok(_) => {
                    let message =
                        format!("the HPA controller was able to update the target scale to {desired}");
                    conditions.set(ABLE_TO_SCALE, true, "SucceededRescale", message, now);
                    let text = format!("New size: {desired}; reason: {}", outcome.reason);
                    self.recorder.event(hpa, EventType::Normal, "SuccessfulRescale", text);
                    decide::store(&mut memory, &bounds, current, desired, now_ms);
                    scaled = true;
                    let asked = outcome.asked.unwrap_or_else(|| decide::Asked {
                        replicas: desired,
                        metric: String::new(),
                        value: String::new(),
                        wanted: String::new(),
                    });
                    tracing::info!(autoscaler = %key, from = current, to = desired, reason = outcome.reason, "rescaled");
                    self.decisions.record(Decision {
                        at_ms: now_ms,
                        namespace: namespace.into(),
                        autoscaler: key.name().into(),
                        target: format!("{}/{}", reference.kind, reference.name),
                        metric: asked.metric,
                        value: asked.value,
                        wanted: asked.wanted,
                        from: current,
                        to: desired,
                        reason: outcome.reason,
                        policy: outcome.policy,
                    });
                }
                Err(error) => {
                    let error = explain(&error);
                    let message =
                        format!("the HPA controller was unable to update the target scale: {error}");
                    conditions.set(ABLE_TO_SCALE, false, "FailedUpdateScale", message, now);
                    let text = format!("New size: {desired}; reason: {}; error: {error}", outcome.reason);
                    self.warn(hpa, "FailedRescale", text);
                    desired = hpa.status.as_ref().map_or(0, |s| s.desired_replicas);
                }
            }
        } else {
            desired = current;
        }
        self.state.lock().entry(key.clone()).or_default().memory = memory;
        Some(Sizes { current, desired, metrics: metric_statuses, scaled })
    }

    /// The pods of the target's selector, or why there can be none.
    fn select(
        &self,
        key: &Key,
        selector: &str,
        conditions: &mut Conditions,
        now: &Time,
    ) -> Result<Vec<Arc<Pod>>, Failed> {
        if selector.is_empty() {
            let message = "the HPA target's scale is missing a selector";
            conditions.set(SCALING_ACTIVE, false, "InvalidSelector", message, now);
            return Err(Failed { reason: "SelectorRequired", message: "selector is required".into() });
        }
        let parsed = parse_label_selector(selector).map_err(|error| {
            let message =
                format!("couldn't convert selector into a corresponding internal selector object: {error}");
            conditions.set(SCALING_ACTIVE, false, "InvalidSelector", message.clone(), now);
            Failed { reason: "InvalidSelector", message }
        })?;
        let of = |selector: &Selector, pod: &Pod| {
            let labels = pod.metadata.labels.as_ref();
            selector.matches(|name| labels.and_then(|l| l.get(name)).map(String::as_str))
        };
        let pods: Vec<Arc<Pod>> =
            self.pods.list_in(key.namespace()).into_iter().filter(|p| of(&parsed, p)).collect();
        let mut state = self.state.lock();
        let rivals: Vec<String> = state
            .iter()
            .filter(|(other, state)| {
                let theirs = |selector: &Selector| pods.iter().any(|p| of(selector, p));
                *other != key
                    && other.namespace() == key.namespace()
                    && state.selector.as_ref().is_some_and(theirs)
            })
            .map(|(other, _)| other.name().to_string())
            .collect();
        state.entry(key.clone()).or_default().selector = Some(parsed);
        if rivals.is_empty() {
            return Ok(pods);
        }
        let message = format!(
            "pods by selector {selector} are controlled by multiple HPAs: {}, {}",
            key.name(),
            rivals.join(", ")
        );
        conditions.set(SCALING_ACTIVE, false, "AmbiguousSelector", message.clone(), now);
        Err(Failed { reason: "AmbiguousSelector", message })
    }

    #[allow(clippy::too_many_arguments)]
    async fn metrics(
        &self,
        hpa: &HorizontalPodAutoscaler,
        pods: &[Arc<Pod>],
        spec_replicas: i32,
        status_replicas: i32,
        tolerance: Tolerance,
        now_ms: i64,
        statuses: &mut Vec<MetricStatus>,
    ) -> Vec<Computed> {
        let facts: Vec<_> = pods.iter().map(|p| pod_facts(p)).collect();
        let annotations = hpa.metadata.annotations.clone().unwrap_or_default();
        let objects = self.objects.read().clone();
        let scene = Scene {
            namespace: hpa.metadata.namespace.as_deref().unwrap_or_default(),
            annotations: &annotations,
            spec_replicas,
            status_replicas,
            pods,
            facts: &facts,
            tolerance,
            patience: Patience {
                cpu_initialization_ms: millis(self.config.cpu_initialization_period),
                initial_readiness_delay_ms: millis(self.config.initial_readiness_delay),
            },
            now_ms,
            resources: &*self.resources,
            queries: self.queries.as_deref(),
            external: self.external.as_deref(),
            objects: objects.as_deref(),
        };
        let given = hpa.spec.metrics.clone().unwrap_or_default();
        let metrics = if given.is_empty() { vec![default_metric()] } else { given };
        let mut computed = Vec::with_capacity(metrics.len());
        for metric in &metrics {
            match scene.evaluate(metric).await {
                Ok((asked, status)) => {
                    statuses.push(status);
                    computed.push(Ok(asked));
                }
                Err(failure) => {
                    self.warn(hpa, failure.reason, failure.message.clone());
                    computed.push(Err(failure));
                }
            }
        }
        computed
    }

    async fn write_status(
        &self,
        hpa: &HorizontalPodAutoscaler,
        conditions: Conditions,
        sizes: Option<Sizes>,
        now: &Time,
    ) -> Result<(), kube::Error> {
        let old = hpa.status.clone().unwrap_or_default();
        let mut status = HorizontalPodAutoscalerStatus {
            conditions: Some(conditions.0),
            observed_generation: hpa.metadata.generation.or(old.observed_generation),
            ..old.clone()
        };
        if let Some(sizes) = sizes {
            status.current_replicas = Some(sizes.current);
            status.desired_replicas = sizes.desired;
            status.current_metrics = (!sizes.metrics.is_empty()).then_some(sizes.metrics);
            if sizes.scaled {
                status.last_scale_time = Some(now.clone());
            }
        }
        if hpa.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let mut patch = json!({"status": status});
        if status.current_metrics.is_none() {
            patch["status"]["currentMetrics"] = serde_json::Value::Null;
        }
        let namespace = hpa.metadata.namespace.as_deref().unwrap_or_default();
        let api: Api<HorizontalPodAutoscaler> = Api::namespaced(self.client.clone(), namespace);
        let name = hpa.metadata.name.as_deref().unwrap_or_default();
        match api.patch_status(name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(_) => Ok(()),
            // It was deleted meanwhile.
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn warn(&self, hpa: &HorizontalPodAutoscaler, reason: &str, message: String) {
        self.recorder.event(hpa, EventType::Warning, reason, message);
    }
}

/// An autoscaler without metrics aims at 80 % of the requested CPU.
fn default_metric() -> MetricSpec {
    let target = MetricTarget {
        type_: "Utilization".into(),
        average_utilization: Some(80),
        ..MetricTarget::default()
    };
    MetricSpec {
        type_: "Resource".into(),
        resource: Some(ResourceMetricSource { name: "cpu".into(), target }),
        ..MetricSpec::default()
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
