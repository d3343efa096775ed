//! The ScaledObject controller: keeps the HPA as the object says, polls the triggers, wakes and rests the target.

use std::sync::Arc;
use std::time::Duration;

use gantry_operator::{Action, EventType, Key, Operator, ReconcileError, explain, time_to_ms};
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::autoscaling::v2::{CrossVersionObjectReference, HorizontalPodAutoscaler};
use kube::api::{Api, DynamicObject};
use kube::core::ObjectMeta;

use super::conditions::{self, ACTIVE, FALLBACK, PAUSED, READY, Verdict};
use super::decide::Step;
use super::entry::{Blueprint, Entry, Observed, signature};
use super::evaluate::{Outcome, outcome};
use super::resolve::Resolver;
use super::types::{
    Activity, AuthenticationRef, COMPOSITE_METRIC, ClusterTriggerAuthentication, Gvkr, Health, ScaledObject,
    ScaledObjectStatus, TriggerAuthentication,
};
use super::{Inner, annotations, hpa, validate};

pub(super) const FINALIZER: &str = "finalizer.keda.sh";
pub(super) const CONDITIONS: [&str; 4] = [READY, ACTIVE, FALLBACK, PAUSED];

/// The target as it is now.
pub(super) struct Target {
    pub api: Api<DynamicObject>,
    pub scale: Scale,
}

/// Why an object cannot be worked on: what the condition says, and the cause.
pub(super) struct Refusal {
    pub message: String,
    pub cause: String,
}

impl Refusal {
    pub(super) fn new(message: &str, cause: impl std::fmt::Display) -> Refusal {
        Refusal { message: message.into(), cause: cause.to_string() }
    }
}

pub(super) fn register(inner: &Arc<Inner>, operator: &Operator) {
    let (by_name, everywhere) = (inner.clone(), inner.clone());
    let controller = operator
        .controller::<ScaledObject>("scaled-object")
        .concurrency(inner.config.concurrency)
        .owns::<HorizontalPodAutoscaler>()
        .watches(move |changed: &TriggerAuthentication| {
            let namespace = changed.metadata.namespace.as_deref().unwrap_or_default();
            by_name.users(
                by_name.objects.list_in(namespace),
                "TriggerAuthentication",
                changed.metadata.name.as_deref(),
            )
        })
        .watches(move |changed: &ClusterTriggerAuthentication| {
            everywhere.users(
                everywhere.objects.list(),
                "ClusterTriggerAuthentication",
                changed.metadata.name.as_deref(),
            )
        });
    // The queue is given once, here.
    let _ = inner.object_queue.set(controller.trigger());
    let reconciler = inner.clone();
    controller.reconcile(move |key| {
        let inner = reconciler.clone();
        async move { inner.reconcile_object(&key).await }
    });
}

impl Inner {
    /// The keys of objects whose triggers use an authentication.
    fn users(&self, objects: Vec<Arc<ScaledObject>>, kind: &str, name: Option<&str>) -> Vec<Key> {
        let is_used = |reference: &AuthenticationRef| {
            let given = if reference.kind.is_empty() { "TriggerAuthentication" } else { &reference.kind };
            given == kind && Some(reference.name.as_str()) == name
        };
        let uses = |object: &Arc<ScaledObject>| {
            object.spec.triggers.iter().filter_map(|trigger| trigger.authentication_ref.as_ref()).any(is_used)
        };
        objects.into_iter().filter(uses).map(|object| Key::of(&*object)).collect()
    }

    async fn reconcile_object(&self, key: &Key) -> Result<Action, ReconcileError> {
        let Some(object) = self.objects.get(key) else {
            self.forget_object(false, key);
            return Ok(Action::await_change());
        };
        if object.metadata.deletion_timestamp.is_some() {
            self.finalize(key, &object).await?;
            return Ok(Action::await_change());
        }
        self.claim(key, &object).await?;
        let before = object.status.clone().unwrap_or_default();
        let mut status = before.clone();
        let interval = self.interval(object.spec.polling_interval);
        let action = match self.work(key, &object, &mut status, interval).await {
            Ok(action) => action,
            Err(refusal) => {
                self.refuse(&object, &mut status, &refusal);
                Action::requeue_after(interval)
            }
        };
        self.write_status::<ScaledObject>(key, &before, &status).await?;
        Ok(action)
    }

    async fn work(
        &self,
        key: &Key,
        object: &ScaledObject,
        status: &mut ScaledObjectStatus,
        interval: Duration,
    ) -> Result<Action, Refusal> {
        let given = object.metadata.annotations.clone().unwrap_or_default();
        if annotations::is_paused(&given) {
            return self.pause(key, object, status).await;
        }
        status.paused_replica_count = None;
        let unpaused = Verdict::new("False", "ScaledObjectUnpaused", "ScaledObject is unpaused");
        conditions::set(&mut status.conditions, &CONDITIONS, PAUSED, unpaused);
        let target = self.target(object, status).await?;
        let entry = self.current_entry(key, object, status).await?;
        let ensured = self.ensure(key, object, status, &entry).await;
        let autoscaler = ensured.map_err(|error| {
            Refusal::new("Failed to ensure HPA is correctly created for ScaledObject", error)
        })?;
        if !entry.is_due(interval, self.clock.monotonic()) {
            self.tell_ready(object, status, &entry, None);
            return Ok(self.next_poll(&entry, interval));
        }
        let observed = entry.poll(&*self.clock).await;
        self.count(key, &observed, false);
        let scene = self.scene(key, &target);
        let outcome = outcome(&object.spec, &entry, &observed, scene);
        self.tell_observed(object, status, &entry, &observed, &outcome);
        let step = self.scale(key, object, status, &entry, target, &outcome).await?;
        if let Some(queue) = self.hpa_queue.get() {
            queue.now(Key::new(key.namespace(), &autoscaler));
        }
        let action = self.next_poll(&entry, interval);
        Ok(match step {
            Step::CoolingDown { until_ms } => {
                action.or_earlier(Action::requeue_after(millis(until_ms - self.clock.now_ms() + 1)))
            }
            _ => action,
        })
    }

    /// When to look again: at the next poll, or when a source changes by the clock alone.
    fn next_poll(&self, entry: &Entry, interval: Duration) -> Action {
        let since = entry.state.lock().polled_at.map(|at| self.clock.monotonic().saturating_sub(at));
        let left = since.map_or(Duration::ZERO, |since| interval.saturating_sub(since));
        // Never at once: the queue would turn without a pause.
        let action = Action::requeue_after(left.max(Duration::from_millis(1)));
        let now_ms = self.clock.now_ms();
        let changes = entry.triggers.iter().filter_map(|trigger| trigger.scaler.next_change_ms(now_ms));
        match changes.min() {
            Some(at) => action.or_earlier(Action::requeue_after(millis(at - now_ms + 1))),
            None => action,
        }
    }

    /// Finds the target and notes what it is and what it was.
    pub(super) async fn target(
        &self,
        object: &ScaledObject,
        status: &mut ScaledObjectStatus,
    ) -> Result<Target, Refusal> {
        const MESSAGE: &str = "ScaledObject doesn't have correct scaleTargetRef specification";
        let refused = |error: &kube::Error| Refusal::new(MESSAGE, explain(error));
        validate::scaled_object(object).map_err(|error| Refusal::new("ScaledObject is not valid", error))?;
        let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
        let reference = reference(object);
        let (api, scale) =
            self.targets.scale(namespace, &reference).await.map_err(|error| refused(&error))?;
        let resource = self.targets.resource(&reference).await.map_err(|error| refused(&error))?;
        let found = Gvkr {
            group: resource.group.clone(),
            version: resource.version.clone(),
            kind: resource.kind.clone(),
            resource: resource.plural.clone(),
        };
        status.scale_target_kind = Some(format!("{}.{}", hpa::api_version(&found), found.kind));
        status.scale_target_gvkr = Some(found);
        status.original_replica_count.get_or_insert(replicas_of(&scale));
        Ok(Target { api, scale })
    }

    /// The entry as the object is now, built anew when anything changed.
    async fn current_entry(
        &self,
        key: &Key,
        object: &ScaledObject,
        status: &mut ScaledObjectStatus,
    ) -> Result<Arc<Entry>, Refusal> {
        let references =
            object.spec.triggers.iter().filter_map(|trigger| trigger.authentication_ref.as_ref());
        let signature =
            signature(&object.metadata, &self.authentication_versions(key.namespace(), references));
        let known = self.entry(false, key);
        if let Some(entry) =
            known.as_ref().filter(|entry| entry.is_current(signature, self.clock.monotonic()))
        {
            return Ok(entry.clone());
        }
        self.only_ours(key, object)?;
        let failed = |cause: String| Refusal::new("Failed to build the scalers of ScaledObject", cause);
        let spec = &object.spec;
        let pod = self
            .targets
            .pod_template(key.namespace(), &reference(object))
            .await
            .map_err(|error| failed(explain(&error)))?;
        let blueprint = Blueprint {
            namespace: key.namespace(),
            triggers: &spec.triggers,
            pod,
            container: &spec.scale_target_ref.env_source_container_name,
            formula: validate::compile(spec).map_err(failed)?,
            timeout: self.config.http_timeout,
        };
        let mut resolver = Resolver::new(&self.client, key.namespace(), &self.config.cluster_namespace);
        let entry = Entry::build(signature, blueprint, &mut resolver, &self.sources, self.clock.monotonic());
        let entry = Arc::new(entry.await.map_err(failed)?);
        if let Some(known) = &known {
            entry.inherit(known);
        } else {
            entry.state.lock().last_active_ms = status.last_active_time.as_ref().map(time_to_ms);
            self.recorder.event(object, EventType::Normal, "KEDAScalersStarted", "Started scalers watch");
        }
        self.entries.lock().insert((false, key.clone()), entry.clone());
        if let Some(queue) = self.object_queue.get() {
            entry.subscribe(key, queue, &self.clock);
        }
        status.external_metric_names =
            entry.specs().iter().filter_map(|s| s.external_name().map(str::to_owned)).collect();
        status.resource_metric_names = entry
            .specs()
            .iter()
            .filter_map(|spec| match spec {
                gantry_scalers::MetricSpec::Resource { name, .. } => Some((*name).to_owned()),
                gantry_scalers::MetricSpec::External { .. } => None,
            })
            .collect();
        status.composite_scaler_name =
            entry.formula.as_ref().map(|_| COMPOSITE_METRIC.to_owned()).unwrap_or_default();
        status.triggers_types = joined(spec.triggers.iter().map(|trigger| trigger.kind.as_str()));
        status.authentications_types = joined(
            spec.triggers
                .iter()
                .filter_map(|trigger| trigger.authentication_ref.as_ref())
                .map(|r| r.name.as_str()),
        );
        let names = status.external_metric_names.clone();
        status.health.retain(|metric, _| names.contains(metric));
        status.triggers_activity.retain(|metric, _| names.contains(metric));
        self.counters.paused(key, false);
        Ok(entry)
    }

    /// One target has one autoscaler.
    fn only_ours(&self, key: &Key, object: &ScaledObject) -> Result<(), Refusal> {
        let wanted = reference(object);
        let kind = status_kind(object);
        let refused = |by: String| {
            let cause = format!("the workload '{}' of type '{kind}' is already managed by {by}", wanted.name);
            Refusal::new("ScaledObject is not valid", cause)
        };
        for other in self.objects.list_in(key.namespace()) {
            let theirs = reference(&other);
            if Key::of(&*other) != *key
                && came_first(&other.metadata, &object.metadata)
                && theirs.name == wanted.name
                && theirs.kind == wanted.kind
            {
                return Err(refused(format!("the ScaledObject '{}'", Key::of(&*other).name())));
            }
        }
        let given = object.metadata.annotations.clone().unwrap_or_default();
        if !annotations::checks_hpa(&given) {
            return Ok(());
        }
        for other in self.hpas.list_in(key.namespace()) {
            let theirs = &other.spec.scale_target_ref;
            let is_mine = is_owned(&other, object)
                || (annotations::takes_over_hpa(&given)
                    && other.metadata.name.as_deref() == Some(&hpa::name(object)));
            if !is_mine && theirs.name == wanted.name && theirs.kind == wanted.kind {
                return Err(refused(format!(
                    "the hpa '{}'",
                    other.metadata.name.as_deref().unwrap_or_default()
                )));
            }
        }
        Ok(())
    }

    /// What a poll found, in status, events and metrics.
    fn tell_observed(
        &self,
        object: &ScaledObject,
        status: &mut ScaledObjectStatus,
        entry: &Entry,
        observed: &[Observed],
        outcome: &Outcome,
    ) {
        for metric in observed {
            let failing = metric.outcome.is_err();
            let word = if failing { "Failing" } else { "Happy" };
            // A number that only grows past the threshold is not worth a write for each failure.
            let shown = metric
                .failures
                .min(object.spec.fallback.as_ref().map_or(1, |f| f.failure_threshold.saturating_add(1)));
            status
                .health
                .insert(metric.metric.clone(), Health { number_of_failures: shown, status: word.into() });
            let is_active = metric.outcome.as_ref().is_ok_and(|reading| reading.active);
            status.triggers_activity.insert(metric.metric.clone(), Activity { is_active });
        }
        conditions::set(
            &mut status.conditions,
            &CONDITIONS,
            FALLBACK,
            Verdict::fallback(outcome.has_fallen_back),
        );
        let error = outcome.errors.first().cloned();
        let is_news = {
            let mut state = entry.state.lock();
            let is_news = error.is_some() && state.last_error != error;
            state.last_error.clone_from(&error);
            is_news
        };
        if let Some(error) = error.filter(|_| is_news) {
            self.recorder.event(object, EventType::Warning, "KEDAScalerFailed", error);
        }
        self.tell_ready(object, status, entry, Some(outcome.is_active));
    }

    /// Ready as the last poll left it; `polled` says of a poll just now whether anything is active.
    fn tell_ready(
        &self,
        object: &ScaledObject,
        status: &mut ScaledObjectStatus,
        entry: &Entry,
        polled: Option<bool>,
    ) {
        // With a fallback the object does what it is for while a trigger fails.
        let error = entry.state.lock().last_error.clone().filter(|_| object.spec.fallback.is_none());
        let verdict = conditions::readiness("ScaledObject", "ScaledObjectReady", error.as_deref(), polled);
        if conditions::became_ready(&mut status.conditions, &CONDITIONS, verdict) {
            self.recorder.event(
                object,
                EventType::Normal,
                "ScaledObjectReady",
                "ScaledObject is ready for scaling",
            );
        }
    }
}

pub(super) fn replicas_of(scale: &Scale) -> i32 {
    scale.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0)
}

pub(super) fn is_owned(hpa: &HorizontalPodAutoscaler, object: &ScaledObject) -> bool {
    gantry_operator::controller_of(hpa).is_some_and(|owner| Some(&owner.uid) == object.metadata.uid.as_ref())
}

pub(super) fn status_kind(object: &ScaledObject) -> String {
    let reference = reference(object);
    format!("{}.{}", reference.api_version.unwrap_or_default(), reference.kind)
}

/// Whether one object is older than another. Times are whole seconds, so of two in one second the uid decides: else
/// both would scale the target.
fn came_first(one: &ObjectMeta, other: &ObjectMeta) -> bool {
    (&one.creation_timestamp, &one.uid) < (&other.creation_timestamp, &other.uid)
}

/// The target with its defaults.
pub(super) fn reference(object: &ScaledObject) -> CrossVersionObjectReference {
    let given = &object.spec.scale_target_ref;
    let or = |text: &str, default: &str| if text.is_empty() { default.to_owned() } else { text.to_owned() };
    CrossVersionObjectReference {
        api_version: Some(or(&given.api_version, "apps/v1")),
        kind: or(&given.kind, "Deployment"),
        name: given.name.clone(),
    }
}

/// Each word once, in order.
pub(super) fn joined<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let mut seen: Vec<&str> = Vec::new();
    for word in words {
        if !seen.contains(&word) {
            seen.push(word);
        }
    }
    seen.join(",")
}

fn millis(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0).max(1))
}

#[cfg(test)]
mod tests {
    use gantry_operator::time_from_ms;

    use super::*;

    #[test]
    fn one_of_two_objects_of_the_same_second_came_first() {
        let meta = |uid: &str, ms| ObjectMeta {
            uid: Some(uid.into()),
            creation_timestamp: Some(time_from_ms(ms)),
            ..ObjectMeta::default()
        };
        let (a, b, late) = (meta("a", 1_000), meta("b", 1_000), meta("0", 2_000));
        assert!(came_first(&a, &b) && !came_first(&b, &a));
        assert!(came_first(&b, &late) && !came_first(&late, &b));
        assert!(!came_first(&a, &a));
    }
}
