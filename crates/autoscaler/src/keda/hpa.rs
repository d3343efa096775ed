//! The HorizontalPodAutoscaler of a ScaledObject, and whether one that exists says the same.

use std::collections::BTreeMap;

use gantry_scalers::{Amount, MetricSpec, MetricType, ResourceTarget};
use k8s_openapi::api::autoscaling::v2::{
    ContainerResourceMetricSource, CrossVersionObjectReference, ExternalMetricSource, HPAScalingRules,
    HorizontalPodAutoscaler, HorizontalPodAutoscalerSpec, MetricIdentifier, MetricSpec as HpaMetric,
    MetricTarget, ResourceMetricSource,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::Resource;
use kube::core::ObjectMeta;
use serde_json::Value;

use super::annotations;
use super::types::{COMPOSITE_METRIC, Gvkr, ScaledObject, ScaledObjectSpec, ScalingModifiers};

/// The label by which an external metric's ScaledObject is found.
pub const NAME_LABEL: &str = "scaledobject.keda.sh/name";
const LONGEST_LABEL: usize = 63;

/// The HPA's name: the configured one or `keda-hpa-<name>`.
pub fn name(object: &ScaledObject) -> String {
    let configured = object.spec.advanced.as_ref().and_then(|a| a.horizontal_pod_autoscaler_config.as_ref());
    match configured.map(|config| config.name.as_str()).filter(|name| !name.is_empty()) {
        Some(name) => name.to_owned(),
        None => format!("keda-hpa-{}", object.metadata.name.as_deref().unwrap_or_default()),
    }
}

/// A name as the value of a label.
pub fn label_value(name: &str) -> String {
    let cut = name.char_indices().nth(LONGEST_LABEL).map_or(name.len(), |(at, _)| at);
    name.get(..cut).unwrap_or_default().trim_end_matches(['-', '_', '.']).to_owned()
}

/// The metrics of the HPA, sorted by type, with the composite metric in place of all external ones where a formula is.
pub fn metrics(object: &ScaledObject, specs: &[MetricSpec]) -> Result<Vec<HpaMetric>, String> {
    let selector = LabelSelector {
        match_labels: Some(
            [(NAME_LABEL.to_owned(), label_value(object.metadata.name.as_deref().unwrap_or_default()))]
                .into(),
        ),
        ..LabelSelector::default()
    };
    let composite = object.spec.modifiers().filter(|modifiers| !modifiers.formula.is_empty());
    let mut metrics: Vec<HpaMetric> = Vec::with_capacity(specs.len());
    for spec in specs {
        match spec {
            MetricSpec::External { .. } if composite.is_some() => {}
            MetricSpec::External { name, metric_type, target } => {
                if metrics
                    .iter()
                    .any(|metric| metric.external.as_ref().is_some_and(|e| e.metric.name == *name))
                {
                    return Err(format!("metricName {name} defined multiple times in ScaledObject"));
                }
                metrics.push(external(name, *metric_type, *target, &selector));
            }
            MetricSpec::Resource { name, container, target } => {
                metrics.push(resource(name, container.as_deref(), target))
            }
        }
    }
    if let Some(modifiers) = composite {
        let (metric_type, target) = composite_target(modifiers)?;
        metrics.push(external(COMPOSITE_METRIC, metric_type, Amount::of(target), &selector));
    }
    metrics.sort_by(|a, b| a.type_.cmp(&b.type_));
    Ok(metrics)
}

/// The type and target of the composite metric.
pub fn composite_target(modifiers: &ScalingModifiers) -> Result<(MetricType, f64), String> {
    let metric_type = MetricType::external(MetricType::parse(&modifiers.metric_type)?)?;
    let target = modifiers.target.parse::<f64>().ok().filter(|target| target.is_finite() && *target > 0.0);
    let target = target.ok_or_else(|| {
        format!("scalingModifiers.target {:?} must be a number greater than 0", modifiers.target)
    })?;
    Ok((metric_type, target))
}

fn external(name: &str, metric_type: MetricType, target: Amount, selector: &LabelSelector) -> HpaMetric {
    let amount = Some(Quantity(target.to_string()));
    let is_value = metric_type == MetricType::Value;
    HpaMetric {
        type_: "External".into(),
        external: Some(ExternalMetricSource {
            metric: MetricIdentifier { name: name.to_owned(), selector: Some(selector.clone()) },
            target: MetricTarget {
                type_: metric_type.as_str().into(),
                average_value: if is_value { None } else { amount.clone() },
                value: if is_value { amount } else { None },
                average_utilization: None,
            },
        }),
        ..HpaMetric::default()
    }
}

fn resource(name: &str, container: Option<&str>, target: &ResourceTarget) -> HpaMetric {
    let target = match target {
        ResourceTarget::Utilization(percent) => MetricTarget {
            type_: "Utilization".into(),
            average_utilization: Some(*percent),
            ..MetricTarget::default()
        },
        ResourceTarget::AverageValue(quantity) => MetricTarget {
            type_: "AverageValue".into(),
            average_value: Some(Quantity(quantity.clone())),
            ..MetricTarget::default()
        },
    };
    match container {
        Some(container) => HpaMetric {
            type_: "ContainerResource".into(),
            container_resource: Some(ContainerResourceMetricSource {
                name: name.into(),
                container: container.into(),
                target,
            }),
            ..HpaMetric::default()
        },
        None => HpaMetric {
            type_: "Resource".into(),
            resource: Some(ResourceMetricSource { name: name.into(), target }),
            ..HpaMetric::default()
        },
    }
}

/// The whole HPA.
pub fn build(
    object: &ScaledObject,
    target: &Gvkr,
    specs: &[MetricSpec],
) -> Result<HorizontalPodAutoscaler, String> {
    let spec: &ScaledObjectSpec = &object.spec;
    let given = object.metadata.annotations.clone().unwrap_or_default();
    let owner_name = object.metadata.name.as_deref().unwrap_or_default();
    let hpa_name = name(object);
    let excluded = annotations::excluded_labels(&given);
    let mut labels: BTreeMap<String, String> = [
        ("app.kubernetes.io/name", label_value(&hpa_name)),
        ("app.kubernetes.io/version", env!("CARGO_PKG_VERSION").to_owned()),
        ("app.kubernetes.io/part-of", label_value(owner_name)),
        ("app.kubernetes.io/managed-by", "keda-operator".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    for (name, value) in
        object.metadata.labels.iter().flatten().filter(|(name, _)| !excluded.contains(&name.as_str()))
    {
        labels.insert(name.clone(), value.clone());
    }
    let mut behavior = spec
        .advanced
        .as_ref()
        .and_then(|advanced| advanced.horizontal_pod_autoscaler_config.as_ref())
        .and_then(|config| config.behavior.clone());
    let disabled = |rules: Option<HPAScalingRules>| {
        Some(HPAScalingRules { select_policy: Some("Disabled".into()), ..rules.unwrap_or_default() })
    };
    if annotations::is_scale_in_paused(&given) {
        let rules = behavior.get_or_insert_default();
        rules.scale_down = disabled(rules.scale_down.take());
    }
    if annotations::is_scale_out_paused(&given) {
        let rules = behavior.get_or_insert_default();
        rules.scale_up = disabled(rules.scale_up.take());
    }
    let mut copied = given;
    copied.remove(annotations::LAST_APPLIED);
    Ok(HorizontalPodAutoscaler {
        metadata: ObjectMeta {
            name: Some(hpa_name),
            namespace: object.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: (!copied.is_empty()).then_some(copied),
            owner_references: object.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec: HorizontalPodAutoscalerSpec {
            min_replicas: Some(spec.hpa_min()),
            max_replicas: spec.hpa_max(),
            metrics: Some(metrics(object, specs)?),
            behavior,
            scale_target_ref: CrossVersionObjectReference {
                name: spec.scale_target_ref.name.clone(),
                kind: target.kind.clone(),
                api_version: Some(api_version(target)),
            },
        },
        status: None,
    })
}

pub fn api_version(target: &Gvkr) -> String {
    if target.group.is_empty() {
        target.version.clone()
    } else {
        format!("{}/{}", target.group, target.version)
    }
}

/// Whether `there` says all that `wanted` says, and no further metric or behaviour.
pub fn says_the_same(wanted: &HorizontalPodAutoscaler, there: &HorizontalPodAutoscaler) -> bool {
    let count = |hpa: &HorizontalPodAutoscaler| hpa.spec.metrics.as_ref().map_or(0, Vec::len);
    let value = |part: &HorizontalPodAutoscalerSpec| serde_json::to_value(part).unwrap_or_default();
    let part_of = |wanted: &Option<BTreeMap<String, String>>, there: &Option<BTreeMap<String, String>>| {
        wanted.iter().flatten().all(|(key, value)| there.as_ref().and_then(|t| t.get(key)) == Some(value))
    };
    // A pause of one side is a policy that is set here; that nothing more is asked of that side must lift it.
    let pauses = |hpa: &HorizontalPodAutoscaler| {
        let is_paused = |rules: Option<&HPAScalingRules>| {
            rules.and_then(|rules| rules.select_policy.as_deref()) == Some("Disabled")
        };
        let behavior = hpa.spec.behavior.as_ref();
        (
            is_paused(behavior.and_then(|b| b.scale_up.as_ref())),
            is_paused(behavior.and_then(|b| b.scale_down.as_ref())),
        )
    };
    count(wanted) == count(there)
        && pauses(wanted) == pauses(there)
        && wanted.spec.behavior.is_some() == there.spec.behavior.is_some()
        && covers(&value(&there.spec), &value(&wanted.spec))
        && part_of(&wanted.metadata.labels, &there.metadata.labels)
        && part_of(&wanted.metadata.annotations, &there.metadata.annotations)
        && wanted.metadata.owner_references == there.metadata.owner_references
}

/// Whether everything in `wanted` is in `there`; quantities are the same when their values are.
fn covers(there: &Value, wanted: &Value) -> bool {
    match (there, wanted) {
        (Value::Object(there), Value::Object(wanted)) => {
            wanted.iter().all(|(key, value)| there.get(key).is_some_and(|found| covers(found, value)))
        }
        (Value::Array(there), Value::Array(wanted)) => {
            there.len() == wanted.len()
                && there.iter().zip(wanted).all(|(there, wanted)| covers(there, wanted))
        }
        (Value::String(a), Value::String(b)) => {
            a == b || gantry_apimachinery::quantity::compare(a, b) == Some(std::cmp::Ordering::Equal)
        }
        _ => there == wanted,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pause_of_one_side_is_lifted() {
        let built = |annotations: Value| {
            let object = json!({
                "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject",
                "metadata": {"name": "so", "annotations": annotations},
                "spec": {
                    "scaleTargetRef": {"name": "web"},
                    "advanced": {"horizontalPodAutoscalerConfig": {
                        "behavior": {"scaleDown": {"stabilizationWindowSeconds": 5}},
                    }},
                },
            });
            let mut hpa = build(&serde_json::from_value(object).unwrap(), &Gvkr::default(), &[]).unwrap();
            // Annotations are only added to what is there, so they make no difference.
            hpa.metadata.annotations = None;
            hpa
        };
        let plain = built(json!({}));
        for pause in ["autoscaling.keda.sh/paused-scale-in", "autoscaling.keda.sh/paused-scale-out"] {
            let paused = built(json!({pause: "true"}));
            assert!(says_the_same(&paused, &paused), "{pause}");
            assert!(!says_the_same(&paused, &plain), "{pause}");
            assert!(!says_the_same(&plain, &paused), "{pause}");
        }
        // What the server adds by default is no difference.
        let mut defaulted = plain.clone();
        defaulted.spec.behavior.get_or_insert_default().scale_up.get_or_insert_default().select_policy =
            Some("Max".into());
        assert!(says_the_same(&plain, &defaulted));
    }
}
