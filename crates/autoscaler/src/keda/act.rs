//! What follows from a poll: the target wakes or rests, and the HorizontalPodAutoscaler is answered.

use gantry_operator::{EventType, Key, explain, time_from_ms, time_to_ms};

use super::conditions::{self, ACTIVE, Verdict};
use super::decide::{self, Situation, Step};
use super::entry::Entry;
use super::evaluate::{Outcome, outcome};
use super::fallback::Scene;
use super::scaled_object::{CONDITIONS, Refusal, Target, reference, replicas_of, status_kind};
use super::types::{ScaledObject, ScaledObjectStatus};
use super::{Inner, annotations, hpa};
use crate::decisions::Decision;
use crate::hpa::target::resize;

/// The status' time of activity is at least this old before it is written again.
const ACTIVE_TIME_MS: i64 = 1_000;

impl Inner {
    pub(super) fn scene(&self, key: &Key, target: &Target) -> Scene {
        let selector =
            target.scale.status.as_ref().and_then(|status| status.selector.as_deref()).unwrap_or_default();
        let ready = gantry_apimachinery::selector::parse_label_selector(selector).map_or(0, |selector| {
            let pods = self.pods.list_in(key.namespace());
            let counts = pods.iter().filter(|pod| {
                let labels = pod.metadata.labels.as_ref();
                selector.matches(|name| labels.and_then(|labels| labels.get(name)).map(String::as_str))
                    && crate::hpa::pod_facts(pod).ready.is_some_and(|(ready, _)| ready)
            });
            i32::try_from(counts.count()).unwrap_or(i32::MAX)
        });
        Scene { current_replicas: replicas_of(&target.scale), ready_replicas: ready }
    }

    /// Wakes the target or lets it rest.
    pub(super) async fn scale(
        &self,
        key: &Key,
        object: &ScaledObject,
        status: &mut ScaledObjectStatus,
        entry: &Entry,
        target: Target,
        outcome: &Outcome,
    ) -> Result<Step, Refusal> {
        let given = object.metadata.annotations.clone().unwrap_or_default();
        let spec = &object.spec;
        let now_ms = self.clock.now_ms();
        let current = replicas_of(&target.scale);
        let is_active = outcome.is_active || annotations::forces_activation(&given);
        let seconds = |given: Option<i32>, default: i32| i64::from(given.unwrap_or(default)) * 1000;
        let last_active_ms = {
            let state = entry.state.lock();
            state.last_active_ms.max(status.last_active_time.as_ref().map(time_to_ms))
        };
        let step = decide::step(&Situation {
            current,
            min: spec.min_replica_count,
            idle: spec.idle_replica_count,
            is_active,
            has_error: !outcome.errors.is_empty(),
            is_scale_in_paused: annotations::is_scale_in_paused(&given),
            is_scale_out_paused: annotations::is_scale_out_paused(&given),
            now_ms,
            created_ms: object.metadata.creation_timestamp.as_ref().map_or(0, time_to_ms),
            last_active_ms,
            cooldown_ms: seconds(spec.cooldown_period, 300),
            initial_cooldown_ms: seconds(spec.initial_cooldown_period, 0),
        });
        let to = match step {
            Step::Activate(to) | Step::Deactivate(to) | Step::RaiseToMin(to) => Some(to),
            Step::Hold | Step::Busy | Step::CoolingDown { .. } => None,
        };
        if let Some(to) = to {
            self.resize_target(key, object, target, current, to, step, &outcome.active_triggers).await?;
        }
        if is_active {
            entry.state.lock().last_active_ms = Some(now_ms);
            let written_ms = status.last_active_time.as_ref().map_or(0, time_to_ms);
            if now_ms - written_ms >= ACTIVE_TIME_MS {
                status.last_active_time = Some(time_from_ms(now_ms));
            }
        }
        let verdict = match step {
            Step::CoolingDown { .. } => Verdict::cooling_down(),
            _ => Verdict::active(is_active),
        };
        conditions::set(&mut status.conditions, &CONDITIONS, ACTIVE, verdict);
        Ok(step)
    }

    #[allow(clippy::too_many_arguments)]
    pub(super) async fn resize_target(
        &self,
        key: &Key,
        object: &ScaledObject,
        target: Target,
        from: i32,
        to: i32,
        step: Step,
        triggers: &[String],
    ) -> Result<(), Refusal> {
        let name =
            format!("{} {}/{}", status_kind(object), key.namespace(), object.spec.scale_target_ref.name);
        match resize(&target.api, target.scale, to).await {
            Ok(_) => {}
            // The target changed meanwhile: the next look, which comes at once, sees how.
            Err(kube::Error::Api(status)) if status.code == 409 => {
                if let Some(queue) = self.object_queue.get() {
                    if let Some(entry) = self.entry(false, key) {
                        entry.state.lock().polled_at = None;
                    }
                    queue.now(key.clone());
                }
                return Ok(());
            }
            Err(error) => {
                let message = format!("Failed to scale {name} from {from} to {to}");
                return Err(Refusal::new(&message, explain(&error)));
            }
        }
        tracing::info!(scaled_object = %key, from, to, "scaled the target");
        let (reason, text, why) = match step {
            Step::Deactivate(_) => (
                "KEDAScaleTargetDeactivated",
                format!("Deactivated {name} from {from} to {to}"),
                "no trigger is active".to_owned(),
            ),
            Step::RaiseToMin(_) => (
                "KEDAScaleTargetActivated",
                format!("Scaled {name} from {from} to {to}"),
                "below minReplicaCount".to_owned(),
            ),
            _ => (
                "KEDAScaleTargetActivated",
                format!("Scaled {name} from {from} to {to}, triggered by {}", triggers.join(", ")),
                format!("triggered by {}", triggers.join(", ")),
            ),
        };
        self.recorder.event(object, EventType::Normal, reason, text);
        self.record(key, object, from, to, &why);
        Ok(())
    }

    pub(super) fn record(&self, key: &Key, object: &ScaledObject, from: i32, to: i32, why: &str) {
        self.decisions.record(Decision {
            at_ms: self.clock.now_ms(),
            namespace: key.namespace().into(),
            autoscaler: key.name().into(),
            target: format!("{}/{}", reference(object).kind, object.spec.scale_target_ref.name),
            metric: String::new(),
            value: String::new(),
            wanted: String::new(),
            from,
            to,
            reason: why.to_owned(),
            policy: None,
        });
    }

    /// The value of an external metric of the object with this label, for the HorizontalPodAutoscaler.
    pub(super) async fn external_value(
        &self,
        namespace: &str,
        name: &str,
        metric: &str,
    ) -> Result<f64, String> {
        let object =
            match self.objects.get(&Key::new(namespace, name)) {
                Some(object) => Some(object),
                // A long name is cut in the label.
                None => self.objects.list_in(namespace).into_iter().find(|object| {
                    hpa::label_value(object.metadata.name.as_deref().unwrap_or_default()) == name
                }),
            };
        let missing = || format!("no ScaledObject {namespace}/{name} with metric {metric} is being scaled");
        let object = object.ok_or_else(missing)?;
        let key = Key::of(&*object);
        let entry = self.entry(false, &key).ok_or_else(missing)?;
        let observed = entry.observed(&*self.clock, self.config.reading_patience).await;
        // A fallback needs the target; nothing else does.
        let has_error = observed.iter().any(|metric| metric.outcome.is_err());
        let scene = if has_error && object.spec.fallback.is_some() {
            let (api, scale) = self
                .targets
                .scale(namespace, &reference(&object))
                .await
                .map_err(|error| error.to_string())?;
            self.scene(&key, &Target { api, scale })
        } else {
            Scene { current_replicas: 0, ready_replicas: 0 }
        };
        let outcome = outcome(&object.spec, &entry, &observed, scene);
        let found = outcome.metrics.into_iter().find(|(name, _)| name == metric);
        found.ok_or_else(missing)?.1
    }
}
