//! Defaults of the horizontal autoscaler.

use gantry_apimachinery::Value;

use super::default_at;

pub(super) fn default_autoscaler(object: &mut Value) {
    default_at(object, &["spec", "minReplicas"], 1i64);
    if object.at(&["spec", "metrics"]).and_then(Value::as_array).is_none_or(Vec::is_empty) {
        let mut metric = Value::object();
        *metric.entry_at(&["type"]) = "Resource".into();
        *metric.entry_at(&["resource", "name"]) = "cpu".into();
        *metric.entry_at(&["resource", "target", "type"]) = "Utilization".into();
        *metric.entry_at(&["resource", "target", "averageUtilization"]) = 80.into();
        *object.entry_at(&["spec", "metrics"]) = vec![metric].into();
    }
    if object.at(&["spec", "behavior"]).is_some_and(|behavior| !behavior.is_null()) {
        // Up: at most four more pods or twice as many every 15 seconds, whichever is more, at once.
        default_rules(object, "scaleUp", Some(0), &[("Pods", 4), ("Percent", 100)]);
        // Down: everything that is too much, once it has been too much for the stabilisation window.
        default_rules(object, "scaleDown", None, &[("Percent", 100)]);
    }
}

fn default_rules(object: &mut Value, direction: &str, window: Option<i64>, policies: &[(&str, i64)]) {
    let rules = object.entry_at(&["spec", "behavior", direction]);
    if let Some(window) = window {
        default_at(rules, &["stabilizationWindowSeconds"], window);
    }
    default_at(rules, &["selectPolicy"], "Max");
    // An empty list is the author's, and refused.
    if rules.get("policies").is_none_or(Value::is_null) {
        let list: Vec<Value> = policies
            .iter()
            .map(|(kind, value)| {
                let mut policy = Value::object();
                *policy.entry_at(&["type"]) = (*kind).into();
                *policy.entry_at(&["value"]) = (*value).into();
                *policy.entry_at(&["periodSeconds"]) = 15.into();
                policy
            })
            .collect();
        *rules.entry_at(&["policies"]) = list.into();
    }
}
