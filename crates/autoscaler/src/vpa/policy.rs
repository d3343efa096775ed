//! What the author allows: bounds per container, resources to leave alone, whole cores.

use std::collections::BTreeMap;

use gantry_apimachinery::quantity::{compare, format_decimal, milli};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::types::{ContainerPolicy, ContainerRecommendation, ResourcePolicy};

const INTEGER_CPU_PREFIX: &str = "vpa-post-processor.kubernetes.io/";
const INTEGER_CPU_SUFFIX: &str = "_integerCPU";

/// The container's own policy, or the one for all.
pub fn container_policy<'a>(
    policy: Option<&'a ResourcePolicy>,
    container: &str,
) -> Option<&'a ContainerPolicy> {
    let policies = &policy?.container_policies;
    let named = |name: &str| policies.iter().find(|policy| policy.container_name == name);
    named(container).or_else(|| named("*"))
}

/// Keeps a recommendation within the policy's bounds; `most` is what no container may have more of where its policy
/// says nothing. What is uncapped stays.
pub fn apply(
    recommendation: &mut ContainerRecommendation,
    policy: Option<&ResourcePolicy>,
    most: Option<&BTreeMap<String, Quantity>>,
) {
    let policy = container_policy(policy, &recommendation.container_name);
    let bounds =
        [&mut recommendation.target, &mut recommendation.lower_bound, &mut recommendation.upper_bound];
    for quantities in bounds {
        for (resource, amount) in quantities.iter_mut() {
            let least = policy.and_then(|policy| policy.min_allowed.get(resource));
            let own_most = policy.and_then(|policy| policy.max_allowed.get(resource));
            let most = own_most.or_else(|| most?.get(resource));
            if let Some(least) = least.filter(|least| is_less(amount, least)) {
                *amount = least.clone();
            }
            if let Some(most) = most.filter(|most| is_less(most, amount)) {
                *amount = most.clone();
            }
        }
    }
}

fn is_less(a: &Quantity, b: &Quantity) -> bool {
    compare(&a.0, &b.0) == Some(std::cmp::Ordering::Less)
}

/// The container that an annotation `vpa-post-processor.kubernetes.io/NAME_integerCPU` names.
pub fn integer_cpu_container(annotation: &str) -> Option<&str> {
    annotation.strip_prefix(INTEGER_CPU_PREFIX)?.strip_suffix(INTEGER_CPU_SUFFIX)
}

/// Rounds CPU up to whole cores where an annotation asks for it.
pub fn whole_cores(recommendation: &mut ContainerRecommendation, annotations: &BTreeMap<String, String>) {
    let asked = annotations.iter().any(|(name, value)| {
        value == "true" && integer_cpu_container(name) == Some(recommendation.container_name.as_str())
    });
    if !asked {
        return;
    }
    let all = [
        &mut recommendation.target,
        &mut recommendation.lower_bound,
        &mut recommendation.upper_bound,
        &mut recommendation.uncapped_target,
    ];
    for quantities in all {
        if let Some(cpu) = quantities.get_mut("cpu")
            && let Some(amount) = milli(&cpu.0)
        {
            let cores = amount / 1000 + i64::from(amount % 1000 > 0);
            *cpu = Quantity(format_decimal(cores, 0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Quantities = BTreeMap<String, Quantity>;

    fn quantities(cpu: &str, memory: &str) -> Quantities {
        [("cpu".into(), Quantity(cpu.into())), ("memory".into(), Quantity(memory.into()))].into()
    }

    fn recommendation() -> ContainerRecommendation {
        ContainerRecommendation {
            container_name: "web".into(),
            target: quantities("42m", "42Mi"),
            lower_bound: quantities("31m", "31Mi"),
            upper_bound: quantities("53m", "53Mi"),
            uncapped_target: quantities("42m", "42Mi"),
        }
    }

    #[test]
    fn bounds_of_the_policy_and_of_all() {
        let policy: ResourcePolicy = serde_json::from_value(serde_json::json!({"containerPolicies": [
            {"containerName": "*", "minAllowed": {"cpu": "35m"}, "maxAllowed": {"memory": "40Mi"}},
        ]}))
        .unwrap();
        let mut capped = recommendation();
        apply(&mut capped, Some(&policy), Some(&quantities("50m", "1Mi")));
        assert_eq!(capped.target, quantities("42m", "40Mi"));
        assert_eq!(capped.lower_bound, quantities("35m", "31Mi"));
        assert_eq!(capped.upper_bound, quantities("50m", "40Mi"));
        assert_eq!(capped.uncapped_target, quantities("42m", "42Mi"));
    }

    #[test]
    fn an_annotation_asks_for_whole_cores() {
        let mut rounded = recommendation();
        let annotations = [("vpa-post-processor.kubernetes.io/web_integerCPU".into(), "true".into())].into();
        whole_cores(&mut rounded, &annotations);
        assert_eq!(rounded.target, quantities("1", "42Mi"));
        let other = [("vpa-post-processor.kubernetes.io/db_integerCPU".into(), "true".into())].into();
        let mut same = recommendation();
        whole_cores(&mut same, &other);
        assert_eq!(same, recommendation());
    }
}
