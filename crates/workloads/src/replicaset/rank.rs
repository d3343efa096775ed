//! Which pods go first when a ReplicaSet shrinks.
//!
//! In this order: without a node, not running, not ready, cheaper to delete, on a node with more siblings,
//! ready for a shorter time, restarted more often, younger. Times are compared by their order of magnitude,
//! as upstream does, so that not always the newest go; equals are told apart by uid.

use std::cmp::Ordering;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::pods;

const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// A pod with the number of its active siblings on the same node.
#[derive(Clone, Debug)]
pub(crate) struct Ranked {
    pub(crate) pod: Arc<Pod>,
    pub(crate) siblings: usize,
}

/// `Less` when `one` should be deleted before `other`.
pub(crate) fn deletion_order(one: &Ranked, other: &Ranked, now_ms: i64) -> Ordering {
    let (first, second) = (&*one.pod, &*other.pod);
    let assigned = |pod: &Pod| pods::node_name(pod).is_some();
    assigned(first)
        .cmp(&assigned(second))
        .then_with(|| phase_rank(first).cmp(&phase_rank(second)))
        .then_with(|| pods::is_ready(first).cmp(&pods::is_ready(second)))
        .then_with(|| deletion_cost(first).cmp(&deletion_cost(second)))
        .then_with(|| other.siblings.cmp(&one.siblings))
        .then_with(|| age(pods::ready_since(first), now_ms).cmp(&age(pods::ready_since(second), now_ms)))
        .then_with(|| restarts(second).cmp(&restarts(first)))
        .then_with(|| {
            let created = |pod: &Pod| age(pod.metadata.creation_timestamp.as_ref(), now_ms);
            created(first).cmp(&created(second))
        })
        .then_with(|| first.metadata.uid.cmp(&second.metadata.uid))
}

fn phase_rank(pod: &Pod) -> u8 {
    match pods::phase(pod) {
        "Pending" => 0,
        "Unknown" => 1,
        "Running" => 2,
        // A pod without status is as good as pending.
        _ => 0,
    }
}

fn deletion_cost(pod: &Pod) -> i32 {
    let annotations = pod.metadata.annotations.as_ref();
    let cost = annotations.and_then(|annotations| annotations.get(DELETION_COST));
    cost.and_then(|cost| cost.parse().ok()).unwrap_or(0)
}

fn restarts(pod: &Pod) -> i32 {
    let statuses =
        pod.status.as_ref().and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    statuses.iter().map(|status| status.restart_count).max().unwrap_or(0)
}

/// The order of magnitude of an age: the whole part of the binary logarithm of its nanoseconds, -1 for no age
/// and less for an unknown one.
fn age(since: Option<&Time>, now_ms: i64) -> i64 {
    let Some(since) = since else { return i64::MIN };
    match u128::try_from(now_ms.saturating_sub(gantry_operator::time_to_ms(since))) {
        Ok(ms) if ms > 0 => i64::from((ms * 1_000_000).ilog2()),
        _ => -1,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOW_MS: i64 = 1_000_000_000;

    fn ranked(name: &str, pod: Value) -> Ranked {
        let mut pod: Pod = serde_json::from_value(pod).expect("a pod");
        pod.metadata.uid = Some(name.to_owned());
        Ranked { pod: Arc::new(pod), siblings: 0 }
    }

    fn seconds_ago(seconds: i64) -> Value {
        json!(gantry_operator::time_from_ms(NOW_MS - seconds * 1000))
    }

    fn ready(name: &str, since: i64, extra: Value) -> Ranked {
        let mut pod = json!({
            "metadata": { "creationTimestamp": seconds_ago(since) },
            "spec": { "containers": [], "nodeName": "n" },
            "status": { "phase": "Running", "conditions": [
                { "type": "Ready", "status": "True", "lastTransitionTime": seconds_ago(since) }
            ]},
        });
        if let (Some(pod), Some(extra)) = (pod.pointer_mut("/metadata"), extra.as_object()) {
            for (field, value) in extra {
                pod[field] = value.clone();
            }
        }
        ranked(name, pod)
    }

    #[test]
    fn each_rule_in_turn() {
        let unassigned = ranked("unassigned", json!({ "status": { "phase": "Pending" } }));
        let pending = ranked(
            "pending",
            json!({ "spec": { "containers": [], "nodeName": "n" }, "status": { "phase": "Pending" } }),
        );
        let unready = ranked(
            "unready",
            json!({ "spec": { "containers": [], "nodeName": "n" }, "status": { "phase": "Running" } }),
        );
        let cheap = ready("cheap", 5000, json!({ "annotations": { DELETION_COST: "-5" } }));
        let mut crowded = ready("crowded", 5000, json!({}));
        crowded.siblings = 3;
        let young = ready("young", 10, json!({}));
        let same_magnitude_first = ready("aa", 5000, json!({}));
        let same_magnitude_second = ready("bb", 4500, json!({}));
        let expected = [
            &unassigned,
            &pending,
            &unready,
            &cheap,
            &crowded,
            &young,
            &same_magnitude_first,
            &same_magnitude_second,
        ];
        for reversed in [false, true] {
            let mut pods: Vec<&Ranked> = expected.to_vec();
            if reversed {
                pods.reverse();
            }
            pods.sort_by(|one, other| deletion_order(one, other, NOW_MS));
            let names =
                |pods: &[&Ranked]| pods.iter().map(|pod| pod.pod.metadata.uid.clone()).collect::<Vec<_>>();
            assert_eq!(names(&pods), names(&expected));
        }
    }
}
