//! From what metrics ask for to the size that is set: one reconciliation without any I/O.

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscalerBehavior;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::behavior::{self, Behavior, Recommendation, Rules, ScaleEvent};
use super::conditions::{ABLE_TO_SCALE, Conditions, SCALING_ACTIVE, SCALING_LIMITED};

/// What is remembered of one autoscaler between reconciliations.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    pub recommendations: Vec<Recommendation>,
    pub up_events: Vec<ScaleEvent>,
    pub down_events: Vec<ScaleEvent>,
}

/// The bounds and rules of one autoscaler.
#[derive(Clone, Debug)]
pub struct Bounds<'a> {
    /// `None` is 1.
    pub min: Option<i32>,
    pub max: i32,
    pub behavior: Option<&'a HorizontalPodAutoscalerBehavior>,
    /// The controller's window where the object sets none.
    pub downscale_window_ms: i64,
}

/// What one metric asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    pub replicas: i32,
    /// As conditions and events name it.
    pub metric: String,
    pub value: String,
    pub wanted: String,
}

/// A metric that could not be computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// Reason of the `ScalingActive` condition and of the event.
    pub reason: &'static str,
    pub message: String,
}

/// What all metrics together came to.
pub type Computed = Result<Asked, Failed>;

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    pub desired: i32,
    pub rescale: bool,
    /// The event's reason for a change of size.
    pub reason: String,
    /// The metric that decided.
    pub asked: Option<Asked>,
    /// Set when metrics could not be computed: nothing may be changed.
    pub failure: Option<Failed>,
    /// Reasons of the rules that changed the proposal.
    pub policy: Option<String>,
}

/// The metrics' proposal: the highest; failing metrics forbid to shrink. Sets `ScalingActive`.
pub fn combine(
    metrics: &[Computed],
    spec_replicas: i32,
    conditions: &mut Conditions,
    now: &Time,
) -> Result<Asked, Failed> {
    let failures: Vec<&Failed> = metrics.iter().filter_map(|m| m.as_ref().err()).collect();
    let mut best: Option<&Asked> = None;
    for asked in metrics.iter().flatten() {
        if best.is_none_or(|best| asked.replicas > best.replicas) {
            best = Some(asked);
        }
    }
    let would_shrink = best.is_none_or(|best| best.replicas < spec_replicas);
    if let Some(first) = failures.first()
        && (best.is_none() || would_shrink)
    {
        let message = format!("the HPA was unable to compute the replica count: {}", first.message);
        conditions.set(SCALING_ACTIVE, false, first.reason, message, now);
        let text = format!(
            "invalid metrics ({} invalid out of {}), first error is: {}",
            failures.len(),
            metrics.len(),
            first.message
        );
        return Err(Failed { reason: first.reason, message: text });
    }
    let Some(best) = best else {
        let message = "the HPA has no metrics".to_string();
        return Err(Failed { reason: "InvalidMetricSourceType", message });
    };
    let message = format!("the HPA was able to successfully calculate a replica count from {}", best.metric);
    conditions.set(SCALING_ACTIVE, true, "ValidMetricFound", message, now);
    Ok(best.clone())
}

/// Decides the size. `compute` is called only when the metrics matter.
pub fn decide(
    bounds: &Bounds<'_>,
    current: i32,
    memory: &mut Memory,
    conditions: &mut Conditions,
    now_ms: i64,
    now: &Time,
    compute: impl FnOnce(&mut Conditions) -> Result<Asked, Failed>,
) -> Outcome {
    if memory.recommendations.is_empty() {
        memory.recommendations.push(Recommendation { replicas: current, at_ms: now_ms });
    }
    let min = bounds.min.unwrap_or(1);
    let fixed = |desired: i32, reason: &str| Outcome {
        desired,
        rescale: true,
        reason: reason.into(),
        asked: None,
        failure: None,
        policy: None,
    };
    if current == 0 && min != 0 {
        let message = "scaling is disabled since the replica count of the target is zero";
        conditions.set(SCALING_ACTIVE, false, "ScalingDisabled", message, now);
        return Outcome { rescale: false, ..fixed(0, "") };
    }
    if current > bounds.max {
        return fixed(bounds.max, "Current number of replicas above Spec.MaxReplicas");
    }
    if current < min {
        return fixed(min, "Current number of replicas below Spec.MinReplicas");
    }
    let asked = match compute(conditions) {
        Ok(asked) => asked,
        Err(failure) => {
            return Outcome { rescale: false, failure: Some(failure), ..fixed(current, "") };
        }
    };
    // A proposal below zero cannot be: upstream starts from zero.
    let proposed = asked.replicas.max(0);
    let reason = match proposed.cmp(&current) {
        std::cmp::Ordering::Greater => format!("{} above target", asked.metric),
        std::cmp::Ordering::Less => "All metrics below target".to_string(),
        std::cmp::Ordering::Equal => String::new(),
    };
    let (stabilized, stabilized_why, (desired, limit_why)) = match bounds.behavior {
        None => {
            let window = bounds.downscale_window_ms;
            let (stabilized, why) =
                behavior::stabilize(&mut memory.recommendations, proposed, window, now_ms);
            (stabilized, why, behavior::limit(current, stabilized, min, bounds.max))
        }
        Some(given) => {
            let rules = Behavior::of(given);
            let (stabilized, why) = behavior::stabilize_with_behavior(
                &mut memory.recommendations,
                current,
                proposed,
                rules.up.window_ms.unwrap_or(0),
                rules.down.window_ms.unwrap_or(bounds.downscale_window_ms),
                now_ms,
            );
            let (ups, downs) = (&memory.up_events, &memory.down_events);
            let limited = behavior::limit_with_behavior(
                &rules, ups, downs, current, stabilized, min, bounds.max, now_ms,
            );
            (stabilized, why, limited)
        }
    };
    match stabilized_why {
        Some((reason, message)) => conditions.set(ABLE_TO_SCALE, true, reason, message, now),
        None => {
            let message = "recommended size matches current size";
            conditions.set(ABLE_TO_SCALE, true, "ReadyForNewScale", message, now);
        }
    }
    let limited = desired != stabilized;
    conditions.set(SCALING_LIMITED, limited, limit_why.0, limit_why.1, now);
    let policies: Vec<&str> =
        stabilized_why.map(|(reason, _)| reason).into_iter().chain(limited.then_some(limit_why.0)).collect();
    Outcome {
        desired,
        rescale: desired != current,
        reason,
        asked: Some(asked),
        failure: None,
        policy: (!policies.is_empty()).then(|| policies.join(",")),
    }
}

/// Notes a change of size that was made, for the policies.
pub fn store(memory: &mut Memory, bounds: &Bounds<'_>, from: i32, to: i32, now_ms: i64) {
    let Some(given) = bounds.behavior else { return };
    if to > from {
        behavior::store_event(&mut memory.up_events, &Rules::up(given.scale_up.as_ref()), to - from, now_ms);
    } else {
        let rules = Rules::down(given.scale_down.as_ref());
        behavior::store_event(&mut memory.down_events, &rules, from - to, now_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: i64 = 10_000_000;

    fn now() -> Time {
        Time(k8s_openapi::jiff::Timestamp::from_millisecond(NOW).unwrap())
    }

    fn asked(replicas: i32) -> Asked {
        Asked { replicas, metric: "cpu resource".into(), value: String::new(), wanted: String::new() }
    }

    fn run(
        bounds: &Bounds<'_>,
        current: i32,
        memory: &mut Memory,
        metrics: &[Computed],
    ) -> (Outcome, Conditions) {
        let mut conditions = Conditions::default();
        let outcome = decide(bounds, current, memory, &mut conditions, NOW, &now(), |conditions| {
            combine(metrics, current, conditions, &now())
        });
        (outcome, conditions)
    }

    fn reason<'a>(conditions: &'a Conditions, name: &str) -> (&'a str, &'a str) {
        let condition = conditions.get(name).unwrap();
        (&condition.status, condition.reason.as_deref().unwrap())
    }

    #[test]
    fn bounds_come_before_metrics() {
        let bounds = Bounds { min: Some(2), max: 5, behavior: None, downscale_window_ms: 300_000 };
        let size = |current| {
            let (outcome, _) = run(&bounds, current, &mut Memory::default(), &[Ok(asked(3))]);
            (outcome.desired, outcome.rescale)
        };
        assert_eq!(size(0), (0, false));
        assert_eq!(size(1), (2, true));
        assert_eq!(size(9), (5, true));
        assert_eq!(size(3), (3, false));
    }

    #[test]
    fn up_at_once_down_after_the_window() {
        let bounds = Bounds { min: None, max: 10, behavior: None, downscale_window_ms: 300_000 };
        let mut memory = Memory::default();
        let (up, conditions) = run(&bounds, 2, &mut memory, &[Ok(asked(4)), Ok(asked(3))]);
        assert_eq!((up.desired, up.rescale, up.reason.as_str()), (4, true, "cpu resource above target"));
        assert_eq!(reason(&conditions, ABLE_TO_SCALE), ("True", "ReadyForNewScale"));
        let (held, conditions) = run(&bounds, 4, &mut memory, &[Ok(asked(1))]);
        assert_eq!((held.desired, held.rescale), (4, false));
        assert_eq!(reason(&conditions, ABLE_TO_SCALE), ("True", "ScaleDownStabilized"));
        memory.recommendations.iter_mut().for_each(|r| r.at_ms -= 400_000);
        let (down, conditions) = run(&bounds, 4, &mut memory, &[Ok(asked(1))]);
        assert_eq!((down.desired, down.reason.as_str()), (1, "All metrics below target"));
        assert_eq!(reason(&conditions, SCALING_LIMITED), ("False", "DesiredWithinRange"));
    }

    #[test]
    fn a_failing_metric_forbids_to_shrink_only() {
        let bounds = Bounds { min: None, max: 10, behavior: None, downscale_window_ms: 0 };
        let failed = || Err(Failed { reason: "FailedGetExternalMetric", message: "no query".into() });
        let (outcome, conditions) = run(&bounds, 3, &mut Memory::default(), &[Ok(asked(1)), failed()]);
        assert!(!outcome.rescale);
        let text = "invalid metrics (1 invalid out of 2), first error is: no query";
        assert_eq!(outcome.failure.unwrap().message, text);
        assert_eq!(reason(&conditions, SCALING_ACTIVE), ("False", "FailedGetExternalMetric"));
        let (outcome, conditions) = run(&bounds, 3, &mut Memory::default(), &[Ok(asked(5)), failed()]);
        assert_eq!((outcome.desired, outcome.rescale), (5, true));
        assert_eq!(reason(&conditions, SCALING_ACTIVE), ("True", "ValidMetricFound"));
    }

    #[test]
    fn policies_use_up_their_period() {
        let behavior: HorizontalPodAutoscalerBehavior = serde_json::from_value(json!({
            "scaleUp": {"policies": [{"type": "Pods", "value": 2, "periodSeconds": 60}]},
            "scaleDown": {"stabilizationWindowSeconds": 0, "selectPolicy": "Disabled"},
        }))
        .unwrap();
        let bounds = Bounds { min: None, max: 10, behavior: Some(&behavior), downscale_window_ms: 300_000 };
        let mut memory = Memory::default();
        let (first, conditions) = run(&bounds, 1, &mut memory, &[Ok(asked(9))]);
        assert_eq!((first.desired, first.policy.as_deref()), (3, Some("ScaleUpLimit")));
        assert_eq!(reason(&conditions, SCALING_LIMITED), ("True", "ScaleUpLimit"));
        store(&mut memory, &bounds, 1, 3, NOW);
        assert!(!run(&bounds, 3, &mut memory, &[Ok(asked(9))]).0.rescale);
        let (down, _) = run(&bounds, 3, &mut Memory::default(), &[Ok(asked(1))]);
        assert!(!down.rescale);
    }
}
