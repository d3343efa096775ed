//! Between the stored version of a kind and the others that are served.

use gantry_apimachinery::{Map, Value};

use crate::resources::Resource;

/// A stored object in the version of `resource`.
pub(crate) fn from_stored(resource: &Resource, mut object: Value) -> Value {
    match (resource.id(), resource.version.as_str()) {
        ("autoscaling/horizontalpodautoscalers", "v1") => hpa_to_v1(&mut object),
        ("/events", _) if resource.group == "events.k8s.io" => event_to_events_group(&mut object),
        _ => {}
    }
    set_version(&mut object, &resource.api_version());
    object
}

/// An object in the version of `resource` as it is stored.
pub(crate) fn to_stored(resource: &Resource, object: &mut Value) {
    match (resource.id(), resource.version.as_str()) {
        ("autoscaling/horizontalpodautoscalers", "v1") => hpa_from_v1(object),
        ("/events", _) if resource.group == "events.k8s.io" => event_from_events_group(object),
        _ => {}
    }
    set_version(object, &resource.stored_version);
}

fn set_version(object: &mut Value, api_version: &str) {
    if let Some(map) = object.as_object_mut() {
        map.insert("apiVersion", api_version);
    }
}

fn rename(map: &mut Map, from: &str, to: &str) {
    if let Some(value) = map.remove(from) {
        map.insert(to, value);
    }
}

const EVENT_FIELDS: [(&str, &str); 6] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

fn event_to_events_group(object: &mut Value) {
    let Some(map) = object.as_object_mut() else { return };
    for (core, events) in EVENT_FIELDS {
        rename(map, core, events);
    }
    rename(map, "reportingComponent", "reportingController");
}

fn event_from_events_group(object: &mut Value) {
    let Some(map) = object.as_object_mut() else { return };
    for (core, events) in EVENT_FIELDS {
        rename(map, events, core);
    }
    rename(map, "reportingController", "reportingComponent");
}

const CPU_ANNOTATIONS: [&str; 4] = [
    "autoscaling.alpha.kubernetes.io/metrics",
    "autoscaling.alpha.kubernetes.io/behavior",
    "autoscaling.alpha.kubernetes.io/conditions",
    "autoscaling.alpha.kubernetes.io/current-metrics",
];

/// The cpu utilisation target has a field in v1; everything else that v2 knows goes into annotations as JSON.
fn hpa_to_v1(object: &mut Value) {
    let is_cpu = |metric: &Value| {
        metric.str_at(&["type"]) == Some("Resource") && metric.str_at(&["resource", "name"]) == Some("cpu")
    };
    let mut annotations: Vec<(&str, Value)> = Vec::new();
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        if let Some(metrics) = spec.remove("metrics") {
            let mut others = Vec::new();
            for metric in metrics.as_array().into_iter().flatten() {
                let target = metric.at(&["resource", "target", "averageUtilization"]).and_then(Value::as_i64);
                match target {
                    Some(target) if is_cpu(metric) => {
                        drop(spec.insert("targetCPUUtilizationPercentage", target))
                    }
                    _ => others.push(metric.clone()),
                }
            }
            if !others.is_empty() {
                annotations.push((CPU_ANNOTATIONS[0], others.into()));
            }
        }
        if let Some(behavior) = spec.remove("behavior") {
            annotations.push((CPU_ANNOTATIONS[1], behavior));
        }
    }
    if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
        if let Some(metrics) = status
            .remove("currentMetrics")
            .filter(|metrics| metrics.as_array().is_some_and(|metrics| !metrics.is_empty()))
        {
            let cpu = metrics.as_array().into_iter().flatten().find(|metric| is_cpu(metric));
            if let Some(current) = cpu
                .and_then(|metric| metric.at(&["resource", "current", "averageUtilization"]))
                .and_then(Value::as_i64)
            {
                status.insert("currentCPUUtilizationPercentage", current);
            }
            annotations.push((CPU_ANNOTATIONS[3], metrics));
        }
        if let Some(conditions) = status
            .remove("conditions")
            .filter(|conditions| conditions.as_array().is_some_and(|list| !list.is_empty()))
        {
            annotations.push((CPU_ANNOTATIONS[2], conditions));
        }
        for counter in ["currentReplicas", "desiredReplicas"] {
            if !status.contains_key(counter) {
                status.insert(counter, 0);
            }
        }
    }
    for (key, value) in annotations {
        let text = serde_json::to_string(&value).unwrap_or_default();
        *object.entry_at(&["metadata", "annotations", key]) = text.into();
    }
}

fn hpa_from_v1(object: &mut Value) {
    let mut kept: Vec<Option<Value>> = Vec::new();
    if let Some(annotations) = object.at_mut(&["metadata", "annotations"]).and_then(Value::as_object_mut) {
        for key in CPU_ANNOTATIONS {
            let text = annotations.remove(key);
            kept.push(text.and_then(|text| serde_json::from_str(text.as_str()?).ok()));
        }
    }
    kept.resize(CPU_ANNOTATIONS.len(), None);
    let [metrics, behavior, conditions, current] = &mut kept[..] else { return };
    let mut all = metrics.take().and_then(|metrics| metrics.as_array().cloned()).unwrap_or_default();
    let spec = object.entry_at(&["spec"]);
    if let Some(spec) = spec.as_object_mut() {
        if let Some(target) = spec.remove("targetCPUUtilizationPercentage").and_then(|target| target.as_i64())
        {
            let mut metric = Value::object();
            *metric.entry_at(&["type"]) = "Resource".into();
            *metric.entry_at(&["resource", "name"]) = "cpu".into();
            *metric.entry_at(&["resource", "target", "type"]) = "Utilization".into();
            *metric.entry_at(&["resource", "target", "averageUtilization"]) = target.into();
            all.push(metric);
        }
        if !all.is_empty() {
            spec.insert("metrics", all);
        }
        if let Some(behavior) = behavior.take() {
            spec.insert("behavior", behavior);
        }
    }
    if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
        status.remove("currentCPUUtilizationPercentage");
        if let Some(conditions) = conditions.take() {
            status.insert("conditions", conditions);
        }
        if let Some(current) = current.take() {
            status.insert("currentMetrics", current);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::Registry;

    #[test]
    fn an_autoscaler_keeps_everything_through_v1() {
        let registry = Registry::built_in();
        let v1 = registry.get("autoscaling", "v1", "horizontalpodautoscalers").unwrap();
        let stored: Value = serde_json::from_str(
            r#"{"apiVersion":"autoscaling/v2","metadata":{"name":"h"},"spec":{"maxReplicas":3,"metrics":[{"type":"Pods","pods":{"x":1}},{"type":"Resource","resource":{"name":"cpu","target":{"type":"Utilization","averageUtilization":50}}}],"behavior":{"scaleDown":{"y":1}}}}"#,
        )
        .unwrap();
        let mut converted = from_stored(v1, stored.clone());
        assert_eq!(
            converted.at(&["spec", "targetCPUUtilizationPercentage"]).and_then(Value::as_i64),
            Some(50)
        );
        assert_eq!(converted.str_at(&["apiVersion"]), Some("autoscaling/v1"));
        to_stored(v1, &mut converted);
        assert_eq!(converted.get("spec"), stored.get("spec"));
    }
}
