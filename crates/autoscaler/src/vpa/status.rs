//! From estimates to the status of a VerticalPodAutoscaler.

use std::collections::BTreeMap;

use gantry_apimachinery::quantity::format_decimal;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::amounts::Amounts;
use super::estimate::Estimate;
use super::policy;
use super::types::{ContainerRecommendation, ResourcePolicy, VpaCondition};

pub(crate) const NO_PODS: &str = "NoPodsMatched";
pub(crate) const PROVIDED: &str = "RecommendationProvided";
pub(crate) const UNSUPPORTED: &str = "ConfigUnsupported";

/// The recommendations of a status, by container name: uncapped, then within the policy.
pub fn container_recommendations(
    estimates: &BTreeMap<String, Estimate>,
    policy: Option<&ResourcePolicy>,
    most: Option<&BTreeMap<String, Quantity>>,
    annotations: &BTreeMap<String, String>,
) -> Vec<ContainerRecommendation> {
    let recommendation = |(name, estimate): (&String, &Estimate)| {
        let controlled =
            policy::container_policy(policy, name).and_then(|policy| policy.controlled_resources.as_deref());
        let quantities = |amounts: Amounts| {
            let mut quantities = quantities(amounts);
            quantities.retain(|name, _| controlled.is_none_or(|controlled| controlled.contains(name)));
            quantities
        };
        let mut recommendation = ContainerRecommendation {
            container_name: name.clone(),
            target: quantities(estimate.target),
            lower_bound: quantities(estimate.lower),
            upper_bound: quantities(estimate.upper),
            uncapped_target: quantities(estimate.target),
        };
        policy::whole_cores(&mut recommendation, annotations);
        policy::apply(&mut recommendation, policy, most);
        recommendation
    };
    estimates.iter().map(recommendation).collect()
}

fn quantities(amounts: Amounts) -> BTreeMap<String, Quantity> {
    let cpu = amounts.cpu_milli.map(|milli| ("cpu".to_owned(), Quantity(format_decimal(milli, -3))));
    let memory = amounts.memory_bytes.map(|bytes| ("memory".to_owned(), Quantity(format_decimal(bytes, 0))));
    cpu.into_iter().chain(memory).collect()
}

/// Sets a condition; its time only changes with its status. Conditions stay ordered by type.
pub fn set_condition(
    conditions: &mut Vec<VpaCondition>,
    kind: &str,
    status: bool,
    reason: &str,
    message: &str,
    now: &Time,
) {
    let status = if status { "True" } else { "False" };
    let known = conditions.iter().find(|condition| condition.kind == kind && condition.status == status);
    let since = known.and_then(|condition| condition.last_transition_time.clone());
    conditions.retain(|condition| condition.kind != kind);
    conditions.push(VpaCondition {
        kind: kind.into(),
        status: status.into(),
        last_transition_time: Some(since.unwrap_or_else(|| now.clone())),
        reason: reason.into(),
        message: message.into(),
    });
    conditions.sort_by(|a, b| a.kind.cmp(&b.kind));
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::jiff::Timestamp;

    #[test]
    fn a_policy_says_what_is_recommended() {
        let amounts = |cpu, memory| Amounts { cpu_milli: Some(cpu), memory_bytes: Some(memory) };
        let estimate = Estimate {
            target: amounts(587, 262_144_000),
            lower: amounts(25, 131_072_000),
            upper: amounts(1174, 524_288_000),
        };
        let policy: ResourcePolicy = serde_json::from_value(serde_json::json!({"containerPolicies": [
            {"containerName": "web", "maxAllowed": {"memory": "128Mi"}},
            {"containerName": "*", "controlledResources": ["cpu"]},
        ]}))
        .unwrap();
        let estimates = [("db".to_owned(), estimate), ("web".to_owned(), estimate)].into();
        let made = container_recommendations(&estimates, Some(&policy), None, &BTreeMap::new());
        let text = serde_json::to_value(&made).unwrap();
        assert_eq!(text[0]["target"], serde_json::json!({"cpu": "587m"}));
        assert_eq!(text[1]["target"], serde_json::json!({"cpu": "587m", "memory": "128Mi"}));
        assert_eq!(text[1]["uncappedTarget"], serde_json::json!({"cpu": "587m", "memory": "262144k"}));
        assert_eq!(text[1]["lowerBound"]["memory"], "131072k");
    }

    #[test]
    fn the_time_of_a_condition_is_that_of_its_change() {
        let time = |ms| Time(Timestamp::from_millisecond(ms).unwrap());
        let mut conditions = Vec::new();
        set_condition(&mut conditions, PROVIDED, false, "", "", &time(1000));
        set_condition(&mut conditions, NO_PODS, true, "NoPodsMatched", "none", &time(1000));
        set_condition(&mut conditions, PROVIDED, false, "later", "", &time(2000));
        let at = |kind: &str| {
            conditions.iter().find(|c| c.kind == kind).unwrap().last_transition_time.clone().unwrap()
        };
        assert_eq!(at(PROVIDED), time(1000));
        assert_eq!(conditions[0].kind, NO_PODS);
        set_condition(&mut conditions, PROVIDED, true, "", "", &time(3000));
        assert_eq!(conditions[1].last_transition_time, Some(time(3000)));
    }
}
