//! What KEDA's admission webhook refuses, checked before anything is done; a mistake shows in the conditions.

use std::collections::HashSet;

use super::formula::Formula;
use super::hpa;
use super::types::{ScaleTrigger, ScaledObject, ScaledObjectSpec};

/// An object's names end up in label values.
const LONGEST_NAME: usize = 63;

/// Everything about a ScaledObject that needs no other object.
pub fn scaled_object(object: &ScaledObject) -> Result<(), String> {
    let spec = &object.spec;
    if spec.scale_target_ref.name.is_empty() {
        return Err("ScaledObject.spec.scaleTargetRef.name is missing".into());
    }
    let name = object.metadata.name.as_deref().unwrap_or_default();
    for (what, name) in [("name", name.to_owned()), ("HPA name", hpa::name(object))] {
        if name.len() > LONGEST_NAME {
            return Err(format!("{what} {name:?} is longer than {LONGEST_NAME} characters"));
        }
    }
    triggers(&spec.triggers)?;
    replica_bounds(spec)?;
    fallback(spec)?;
    let only_resources = spec.triggers.iter().all(|trigger| is_resource(&trigger.kind));
    if only_resources && spec.min_replica_count == Some(0) {
        return Err(
            "scaledobject has only cpu/memory triggers but minReplica is 0, it should be at least 1".into()
        );
    }
    modifiers(spec)
}

/// The triggers of either kind of object.
pub fn triggers(triggers: &[ScaleTrigger]) -> Result<(), String> {
    if triggers.is_empty() {
        return Err("no triggers defined in the ScaledObject/ScaledJob".into());
    }
    let mut names = HashSet::new();
    for trigger in triggers {
        if trigger.use_cached_metrics && matches!(trigger.kind.as_str(), "cpu" | "memory" | "cron") {
            return Err(format!(
                "property \"useCachedMetrics\" is not supported for {:?} scaler",
                trigger.kind
            ));
        }
        if !trigger.name.is_empty() && !names.insert(trigger.name.as_str()) {
            return Err(format!(
                "triggerName {:?} is defined multiple times in the ScaledObject/ScaledJob, but it must be unique",
                trigger.name
            ));
        }
    }
    Ok(())
}

/// Idle below minimum, minimum not above maximum.
pub fn replica_bounds(spec: &ScaledObjectSpec) -> Result<(), String> {
    let min = spec.min_replica_count.unwrap_or(0);
    let max = spec.hpa_max();
    if min > max {
        return Err(format!("MinReplicaCount={min} must be less than MaxReplicaCount={max}"));
    }
    if let Some(idle) = spec.idle_replica_count.filter(|idle| *idle >= min) {
        return Err(format!("IdleReplicaCount={idle} must be less than MinReplicaCount={min}"));
    }
    Ok(())
}

/// A fallback has sensible numbers and a trigger that it can stand in for.
pub fn fallback(spec: &ScaledObjectSpec) -> Result<(), String> {
    let Some(fallback) = &spec.fallback else { return Ok(()) };
    if fallback.failure_threshold < 0 || fallback.replicas < 0 {
        return Err(format!(
            "FailureThreshold={} & Replicas={} must both be greater than or equal to 0",
            fallback.failure_threshold, fallback.replicas
        ));
    }
    let has_modifiers = spec.modifiers().is_some();
    let can_fall_back = |trigger: &ScaleTrigger| {
        !is_resource(&trigger.kind) && matches!(trigger.metric_type.as_str(), "" | "AverageValue" | "Value")
    };
    if !has_modifiers && !spec.triggers.iter().any(can_fall_back) {
        return Err(
            "at least one trigger (that is not cpu or memory) has to have the `AverageValue` or `Value` type for the fallback to be enabled"
                .into(),
        );
    }
    Ok(())
}

fn modifiers(spec: &ScaledObjectSpec) -> Result<(), String> {
    let Some(modifiers) = spec.modifiers() else { return Ok(()) };
    if modifiers.formula.is_empty() {
        return Err("formula not given in ScalingModifiers, it is required with a target".into());
    }
    hpa::composite_target(modifiers)?;
    if !modifiers.activation_target.is_empty() && modifiers.activation_target.parse::<f64>().is_err() {
        return Err(format!(
            "scalingModifiers.activationTarget {:?} must be a number",
            modifiers.activation_target
        ));
    }
    compile(spec).map(|_| ())
}

/// The formula where there is one; every trigger that is not cpu or memory needs a name for it.
pub fn compile(spec: &ScaledObjectSpec) -> Result<Option<Formula>, String> {
    let Some(modifiers) = spec.modifiers().filter(|modifiers| !modifiers.formula.is_empty()) else {
        return Ok(None);
    };
    let external: Vec<&ScaleTrigger> =
        spec.triggers.iter().filter(|trigger| !is_resource(&trigger.kind)).collect();
    if let Some(nameless) = external.iter().find(|trigger| trigger.name.is_empty()) {
        return Err(format!(
            "trigger of type {:?} has no name but scalingModifiers.formula is defined",
            nameless.kind
        ));
    }
    let names: Vec<&str> = external.iter().map(|trigger| trigger.name.as_str()).collect();
    Formula::compile(&modifiers.formula, &names).map(Some)
}

pub fn is_resource(kind: &str) -> bool {
    matches!(kind, "cpu" | "memory")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn check(spec: Value) -> Result<(), String> {
        let object = json!({"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": "so"}, "spec": spec});
        scaled_object(&serde_json::from_value(object).map_err(|error| error.to_string())?)
    }

    fn with(changes: Value) -> Value {
        let mut spec =
            json!({"scaleTargetRef": {"name": "web"}, "triggers": [{"type": "redis", "name": "a"}]});
        for (key, value) in changes.as_object().unwrap() {
            spec[key] = value.clone();
        }
        spec
    }

    #[test]
    fn what_is_accepted_and_what_is_refused() {
        assert_eq!(check(with(json!({}))), Ok(()));
        for (changes, says) in [
            (json!({"scaleTargetRef": {}}), "scaleTargetRef.name"),
            (json!({"triggers": []}), "no triggers"),
            (json!({"minReplicaCount": 5, "maxReplicaCount": 2}), "MinReplicaCount=5"),
            (json!({"minReplicaCount": 1, "idleReplicaCount": 1}), "IdleReplicaCount=1"),
            (json!({"minReplicaCount": 0, "triggers": [{"type": "cpu"}]}), "only cpu/memory"),
            (json!({"triggers": [{"type": "a", "name": "x"}, {"type": "b", "name": "x"}]}), "multiple times"),
            (json!({"advanced": {"scalingModifiers": {"formula": "a + missing", "target": "2"}}}), "missing"),
            (json!({"advanced": {"scalingModifiers": {"formula": "a", "target": "0"}}}), "greater than 0"),
            (json!({"advanced": {"scalingModifiers": {"target": "2"}}}), "formula not given"),
            (
                json!({"fallback": {"failureThreshold": 1, "replicas": 2}, "triggers": [{"type": "cpu"}]}),
                "fallback",
            ),
        ] {
            let error = check(with(changes.clone())).expect_err(&changes.to_string());
            assert!(error.contains(says), "{changes}: {error}");
        }
    }
}
