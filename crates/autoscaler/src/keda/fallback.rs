//! `fallback`: what a metric says while its source has failed too often.

use gantry_scalers::MetricType;

use super::types::{Fallback, ScaledObjectSpec};

/// What the rule looks at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scene {
    pub current_replicas: i32,
    /// Pods of the target that run and are ready; a target of type `Value` is divided among them.
    pub ready_replicas: i32,
}

/// Whether a metric with so many failures has fallen back.
pub fn applies(fallback: &Fallback, failures: i32) -> bool {
    fallback.failure_threshold >= 0 && fallback.replicas >= 0 && failures > fallback.failure_threshold
}

/// How many replicas the behaviour asks for.
pub fn replicas(fallback: &Fallback, current: i32) -> i32 {
    match fallback.behavior.as_str() {
        "currentReplicas" => current,
        "currentReplicasIfHigher" => current.max(fallback.replicas),
        "currentReplicasIfLower" => current.min(fallback.replicas),
        _ => fallback.replicas,
    }
}

/// The value that makes the autoscaler ask for those replicas.
pub fn value(fallback: &Fallback, metric_type: MetricType, target: f64, scene: Scene) -> f64 {
    let wanted = f64::from(replicas(fallback, scene.current_replicas));
    match metric_type {
        MetricType::Value => target * wanted / f64::from(scene.ready_replicas.max(1)),
        MetricType::AverageValue | MetricType::Utilization => target * wanted,
    }
}

/// The target of the composite metric, for which a fallback needs a whole number.
pub fn composite_target(spec: &ScaledObjectSpec) -> Option<f64> {
    let target: i64 = spec.modifiers()?.target.parse().ok()?;
    (target > 0).then_some(target as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fallback(behavior: &str) -> Fallback {
        Fallback { failure_threshold: 3, replicas: 6, behavior: behavior.into() }
    }

    #[test]
    fn behaviours_choose_replicas() {
        for (behavior, current, expected) in [
            ("", 10, 6),
            ("static", 10, 6),
            ("currentReplicas", 10, 10),
            ("currentReplicasIfHigher", 10, 10),
            ("currentReplicasIfHigher", 2, 6),
            ("currentReplicasIfLower", 10, 6),
            ("currentReplicasIfLower", 2, 2),
        ] {
            assert_eq!(replicas(&fallback(behavior), current), expected, "{behavior} at {current}");
        }
    }

    #[test]
    fn the_threshold_must_be_passed() {
        assert!(!applies(&fallback(""), 3));
        assert!(applies(&fallback(""), 4));
        assert!(!applies(&Fallback { replicas: -1, ..fallback("") }, 4));
    }

    #[test]
    fn the_value_asks_for_the_replicas() {
        let scene = Scene { current_replicas: 2, ready_replicas: 2 };
        assert_eq!(value(&fallback(""), MetricType::AverageValue, 5.0, scene), 30.0);
        assert_eq!(value(&fallback(""), MetricType::Value, 5.0, scene), 15.0);
        let nobody = Scene { ready_replicas: 0, ..scene };
        assert_eq!(value(&fallback(""), MetricType::Value, 5.0, nobody), 30.0);
    }
}
