//! The rules of HorizontalPodAutoscalers: bounds, metric sources and their targets, behaviours.

use gantry_apimachinery::{Value, names, quantity};

use super::{integer, list, one_of};
use crate::status::FieldError;

/// Sources by their type, with the field that holds each.
const SOURCES: [(&str, &str); 5] = [
    ("ContainerResource", "containerResource"),
    ("External", "external"),
    ("Object", "object"),
    ("Pods", "pods"),
    ("Resource", "resource"),
];
const MOST_WINDOW_SECONDS: i64 = 3600;
const MOST_PERIOD_SECONDS: i64 = 1800;

pub(super) fn autoscaler(object: &Value, errors: &mut Vec<FieldError>) {
    reference(object.at(&["spec", "scaleTargetRef"]), "spec.scaleTargetRef", errors);
    let min = integer(object, &["spec", "minReplicas"]).unwrap_or(1);
    let max = integer(object, &["spec", "maxReplicas"]).unwrap_or(0);
    let metrics = list(object, &["spec", "metrics"]);
    // Zero is for metrics that are there without pods.
    let external =
        metrics.iter().any(|metric| matches!(metric.str_at(&["type"]), Some("External" | "Object")));
    let lowest = i64::from(!external);
    if min < lowest {
        let detail = format!("must be greater than or equal to {lowest}");
        errors.push(FieldError::invalid("spec.minReplicas", &min.into(), &detail));
    }
    if max < 1 {
        errors.push(FieldError::invalid("spec.maxReplicas", &max.into(), "must be greater than 0"));
    }
    if max < min {
        let detail = "must be greater than or equal to `minReplicas`";
        errors.push(FieldError::invalid("spec.maxReplicas", &max.into(), detail));
    }
    for (index, metric) in metrics.iter().enumerate() {
        source(metric, &format!("spec.metrics[{index}]"), errors);
    }
    for direction in ["scaleUp", "scaleDown"] {
        if let Some(rules) = object.at(&["spec", "behavior", direction]).filter(|rules| !rules.is_null()) {
            scaling_rules(rules, &format!("spec.behavior.{direction}"), errors);
        }
    }
}

/// What refers to an object: a kind and a name that may stand in a path.
fn reference(reference: Option<&Value>, path: &str, errors: &mut Vec<FieldError>) {
    for field in ["kind", "name"] {
        let given = reference.and_then(|reference| reference.str_at(&[field])).unwrap_or_default();
        let field = format!("{path}.{field}");
        if given.is_empty() {
            errors.push(FieldError::required(field, ""));
        } else {
            segment(given, &field, errors);
        }
    }
}

fn segment(given: &str, field: &str, errors: &mut Vec<FieldError>) {
    for why in names::path_segment_errors(given) {
        errors.push(FieldError::invalid(field, &given.into(), &why));
    }
}

fn present<'v>(value: &'v Value, field: &str) -> Option<&'v Value> {
    value.get(field).filter(|value| !value.is_null())
}

fn source(metric: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let kind = metric.str_at(&["type"]).unwrap_or_default();
    if kind.is_empty() {
        errors.push(FieldError::required(format!("{path}.type"), "must specify a metric source type"));
    } else {
        let supported = SOURCES.map(|(kind, _)| kind);
        one_of(metric.get("type"), format!("{path}.type"), &supported, errors);
    }
    let given: Vec<&str> =
        SOURCES.iter().map(|(_, field)| *field).filter(|field| present(metric, field).is_some()).collect();
    if let Some((first, value)) = given.first().and_then(|first| Some((*first, present(metric, first)?))) {
        metric_source(first, value, &format!("{path}.{first}"), errors);
    }
    let Some((_, expected)) = SOURCES.iter().find(|(known, _)| *known == kind) else { return };
    if present(metric, expected).is_none() {
        let detail = "must populate information for the given metric source";
        errors.push(FieldError::required(format!("{path}.{expected}"), detail));
    }
    if given.len() != 1 {
        for other in given.iter().filter(|field| *field != expected) {
            let detail = "must populate the given metric source only";
            errors.push(FieldError::forbidden(format!("{path}.{other}"), detail));
        }
    }
}

fn metric_source(kind: &str, source: &Value, path: &str, errors: &mut Vec<FieldError>) {
    if kind == "object" {
        reference(source.get("describedObject"), &format!("{path}.describedObject"), errors);
    }
    if matches!(kind, "resource" | "containerResource") {
        let name = source.str_at(&["name"]).unwrap_or_default();
        if name.is_empty() {
            errors.push(FieldError::required(format!("{path}.name"), "must specify a resource name"));
        } else if kind == "containerResource" && !is_resource_name(name) {
            let detail = "must be a standard resource type or fully qualified";
            errors.push(FieldError::invalid(format!("{path}.name"), &name.into(), detail));
        }
    } else {
        let name = source.str_at(&["metric", "name"]).unwrap_or_default();
        let field = format!("{path}.metric.name");
        if name.is_empty() {
            errors.push(FieldError::required(field, "must specify a metric name"));
        } else {
            segment(name, &field, errors);
        }
    }
    if kind == "containerResource" {
        let container = source.str_at(&["container"]).unwrap_or_default();
        let field = format!("{path}.container");
        if container.is_empty() {
            errors.push(FieldError::required(field, "must specify a container"));
        } else {
            for why in names::label_errors(container) {
                errors.push(FieldError::invalid(field.clone(), &container.into(), &why));
            }
        }
    }
    let nothing = Value::object();
    let target_of = source.get("target").unwrap_or(&nothing);
    let path = format!("{path}.target");
    target(target_of, &path, errors);
    let has = |field: &str| present(target_of, field).is_some();
    match kind {
        "object" if !has("value") && !has("averageValue") => {
            let detail = "must set either a target value or averageValue";
            errors.push(FieldError::required(format!("{path}.averageValue"), detail));
        }
        "external" if !has("value") && !has("averageValue") => {
            let detail = "must set either a target value for metric or a per-pod target";
            errors.push(FieldError::required(format!("{path}.averageValue"), detail));
        }
        "external" if has("value") && has("averageValue") => {
            let detail = "may not set both a target value for metric and a per-pod target";
            errors.push(FieldError::forbidden(format!("{path}.value"), detail));
        }
        "pods" if !present(target_of, "averageValue").is_some_and(is_positive) => {
            let detail = "must specify a positive target averageValue";
            errors.push(FieldError::required(format!("{path}.averageValue"), detail));
        }
        "resource" | "containerResource" if !has("averageUtilization") && !has("averageValue") => {
            let detail = "must set either a target raw value or a target utilization";
            errors.push(FieldError::required(format!("{path}.averageUtilization"), detail));
        }
        "resource" | "containerResource" if has("averageUtilization") && has("averageValue") => {
            let detail = "may not set both a target raw value and a target utilization";
            errors.push(FieldError::forbidden(format!("{path}.averageValue"), detail));
        }
        _ => {}
    }
}

fn is_resource_name(name: &str) -> bool {
    name.contains('/')
        || matches!(name, "cpu" | "memory" | "ephemeral-storage")
        || name.starts_with("hugepages-")
}

fn is_positive(amount: &Value) -> bool {
    let nano = match amount.as_str() {
        Some(text) => quantity::nano(text),
        None => amount.as_f64().map(|number| number as i128),
    };
    nano.is_some_and(|nano| nano > 0)
}

fn target(target: &Value, path: &str, errors: &mut Vec<FieldError>) {
    match target.str_at(&["type"]).unwrap_or_default() {
        "" => {
            let detail = "must specify a metric target type";
            errors.push(FieldError::required(format!("{path}.type"), detail));
        }
        "Utilization" | "Value" | "AverageValue" => {}
        other => {
            let detail = "must be either Utilization, Value, or AverageValue";
            errors.push(FieldError::invalid(format!("{path}.type"), &other.into(), detail));
        }
    }
    for field in ["value", "averageValue"] {
        if let Some(amount) = present(target, field).filter(|amount| !is_positive(amount)) {
            errors.push(FieldError::invalid(format!("{path}.{field}"), amount, "must be positive"));
        }
    }
    if let Some(percent) = integer(target, &["averageUtilization"]).filter(|percent| *percent < 1) {
        let field = format!("{path}.averageUtilization");
        errors.push(FieldError::invalid(field, &percent.into(), "must be greater than 0"));
    }
}

fn scaling_rules(rules: &Value, path: &str, errors: &mut Vec<FieldError>) {
    if let Some(window) = integer(rules, &["stabilizationWindowSeconds"]) {
        let detail = match window {
            ..0 => "must be greater than or equal to zero".to_owned(),
            0..=MOST_WINDOW_SECONDS => String::new(),
            _ => format!("must be less than or equal to {MOST_WINDOW_SECONDS}"),
        };
        if !detail.is_empty() {
            let field = format!("{path}.stabilizationWindowSeconds");
            errors.push(FieldError::invalid(field, &window.into(), &detail));
        }
    }
    one_of(
        present(rules, "selectPolicy"),
        format!("{path}.selectPolicy"),
        &["Disabled", "Max", "Min"],
        errors,
    );
    let policies = list(rules, &["policies"]);
    if policies.is_empty() {
        errors.push(FieldError::required(format!("{path}.policies"), "must specify at least one Policy"));
    }
    for (index, policy) in policies.iter().enumerate() {
        let path = format!("{path}.policies[{index}]");
        let nothing = Value::from("");
        let kind = policy.get("type").unwrap_or(&nothing);
        one_of(Some(kind), format!("{path}.type"), &["Percent", "Pods"], errors);
        let value = integer(policy, &["value"]).unwrap_or(0);
        if value <= 0 {
            let field = format!("{path}.value");
            errors.push(FieldError::invalid(field, &value.into(), "must be greater than zero"));
        }
        let period = integer(policy, &["periodSeconds"]).unwrap_or(0);
        let field = format!("{path}.periodSeconds");
        if period <= 0 {
            errors.push(FieldError::invalid(field, &period.into(), "must be greater than zero"));
        } else if period > MOST_PERIOD_SECONDS {
            let detail = format!("must be less than or equal to {MOST_PERIOD_SECONDS}");
            errors.push(FieldError::invalid(field, &period.into(), &detail));
        }
    }
}
