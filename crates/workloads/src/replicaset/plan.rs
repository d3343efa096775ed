//! What a ReplicaSet needs, given its pods: which to delete, how many to create, what its status is.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;

use super::rank::{Ranked, deletion_order};
use crate::pods;

/// At most this many pods are created or deleted before looking again.
const BURST: usize = 500;

/// What to do about the number of pods.
#[derive(Debug, Default)]
pub(crate) struct Change {
    pub(crate) create: usize,
    pub(crate) delete: Vec<Arc<Pod>>,
}

pub(crate) fn replicas(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1).max(0)
}

/// Compares the pods the set controls with the number it should have.
///
/// `siblings` are all pods of the set's own controller, which decide how crowded a node is.
pub(crate) fn change(set: &ReplicaSet, own: &[Arc<Pod>], siblings: &[Arc<Pod>], now_ms: i64) -> Change {
    let active: Vec<&Arc<Pod>> = own.iter().filter(|pod| pods::is_active(pod)).collect();
    let wanted = usize::try_from(replicas(set)).unwrap_or(0);
    if active.len() <= wanted {
        return Change { create: (wanted - active.len()).min(BURST), delete: Vec::new() };
    }
    let excess = (active.len() - wanted).min(BURST);
    let mut on_node: HashMap<&str, usize> = HashMap::new();
    for pod in siblings.iter().filter(|pod| pods::is_active(pod)) {
        if let Some(node) = pods::node_name(pod) {
            *on_node.entry(node).or_insert(0) += 1;
        }
    }
    let mut ranked: Vec<Ranked> = active
        .into_iter()
        .map(|pod| Ranked {
            pod: pod.clone(),
            siblings: pods::node_name(pod).and_then(|node| on_node.get(node)).copied().unwrap_or(0),
        })
        .collect();
    ranked.sort_by(|one, other| deletion_order(one, other, now_ms));
    Change { create: 0, delete: ranked.into_iter().take(excess).map(|ranked| ranked.pod).collect() }
}

/// The status the set should have. `failure` is what went wrong while creating or deleting pods.
pub(crate) fn status(
    set: &ReplicaSet,
    own: &[Arc<Pod>],
    failure: Option<(&str, String)>,
    now_ms: i64,
) -> ReplicaSetStatus {
    let min_ready_seconds = set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
    let template = set.spec.as_ref().and_then(|spec| spec.template.as_ref());
    let wanted_labels =
        template.and_then(|template| template.metadata.as_ref()?.labels.clone()).unwrap_or_default();
    let active: Vec<&Arc<Pod>> = own.iter().filter(|pod| pods::is_active(pod)).collect();
    let count = |test: &dyn Fn(&Pod) -> bool| {
        i32::try_from(active.iter().filter(|pod| test(pod)).count()).unwrap_or(i32::MAX)
    };
    let fully_labeled = |pod: &Pod| {
        let labels = pod.metadata.labels.clone().unwrap_or_default();
        wanted_labels.iter().all(|(name, value)| labels.get(name) == Some(value))
    };
    let terminating = own.iter().filter(|pod| pods::is_terminating(pod) && !pods::is_over(pod)).count();
    let old = set.status.clone().unwrap_or_default();
    ReplicaSetStatus {
        replicas: count(&|_| true),
        fully_labeled_replicas: Some(count(&fully_labeled)).filter(|count| *count > 0),
        ready_replicas: Some(count(&pods::is_ready)).filter(|count| *count > 0),
        available_replicas: Some(count(&|pod| pods::is_available(pod, min_ready_seconds, now_ms)))
            .filter(|count| *count > 0),
        terminating_replicas: Some(i32::try_from(terminating).unwrap_or(i32::MAX)),
        observed_generation: set.metadata.generation.or(old.observed_generation),
        conditions: conditions(old.conditions, failure, now_ms),
    }
}

fn conditions(
    old: Option<Vec<ReplicaSetCondition>>,
    failure: Option<(&str, String)>,
    now_ms: i64,
) -> Option<Vec<ReplicaSetCondition>> {
    const FAILURE: &str = "ReplicaFailure";
    let mut conditions = old.unwrap_or_default();
    let known = conditions.iter().any(|condition| condition.type_ == FAILURE);
    match failure {
        Some((reason, message)) if !known => conditions.push(ReplicaSetCondition {
            type_: FAILURE.to_owned(),
            status: "True".to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_transition_time: Some(gantry_operator::time_from_ms(now_ms)),
        }),
        Some(_) => {}
        None => conditions.retain(|condition| condition.type_ != FAILURE),
    }
    Some(conditions).filter(|conditions| !conditions.is_empty())
}

/// When the next pod that is ready becomes available.
pub(crate) fn next_available(set: &ReplicaSet, own: &[Arc<Pod>], now_ms: i64) -> Option<Duration> {
    let min_ready_seconds = set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
    if min_ready_seconds <= 0 {
        return None;
    }
    let ready = own.iter().filter(|pod| pods::is_active(pod));
    let moments = ready.filter_map(|pod| pods::available_at_ms(pod, min_ready_seconds));
    let next = moments.filter(|at| *at > now_ms).min()?;
    Some(Duration::from_millis(u64::try_from(next - now_ms).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW_MS: i64 = 100_000;

    fn set(replicas: i32, min_ready_seconds: i32) -> ReplicaSet {
        serde_json::from_value(json!({
            "metadata": { "name": "web", "generation": 3 },
            "spec": {
                "replicas": replicas, "minReadySeconds": min_ready_seconds, "selector": {},
                "template": { "metadata": { "labels": { "app": "web" } } },
            },
        }))
        .expect("a ReplicaSet")
    }

    fn pod(uid: &str, ready_for_seconds: Option<i64>, deleted: bool) -> Arc<Pod> {
        let since = json!(gantry_operator::time_from_ms(NOW_MS - ready_for_seconds.unwrap_or(0) * 1000));
        let ready = if ready_for_seconds.is_some() { "True" } else { "False" };
        let deletion = if deleted { json!("2026-01-01T00:00:00Z") } else { json!(null) };
        let pod = json!({
            "metadata": { "uid": uid, "labels": { "app": "web" }, "deletionTimestamp": deletion },
            "spec": { "nodeName": "n", "containers": [] },
            "status": { "phase": "Running", "conditions": [
                { "type": "Ready", "status": ready, "lastTransitionTime": since }
            ]},
        });
        Arc::new(serde_json::from_value(pod).expect("a pod"))
    }

    #[test]
    fn missing_pods_are_created_and_terminating_ones_do_not_count() {
        let own = [pod("a", Some(1), false), pod("b", Some(1), true)];
        let change = change(&set(3, 0), &own, &own, NOW_MS);
        assert_eq!((change.create, change.delete.len()), (2, 0));
    }

    #[test]
    fn unready_pods_go_first() {
        let own = [pod("a", Some(50), false), pod("b", None, false), pod("c", Some(50), false)];
        let change = change(&set(2, 0), &own, &own, NOW_MS);
        let deleted: Vec<_> = change.delete.iter().map(|pod| pod.metadata.uid.clone()).collect();
        assert_eq!((change.create, deleted), (0, vec![Some("b".to_owned())]));
    }

    #[test]
    fn the_status_counts_and_waits_for_min_ready() {
        let own = [
            pod("a", Some(50), false),
            pod("b", Some(4), false),
            pod("c", None, false),
            pod("d", None, true),
        ];
        let set = set(3, 10);
        let status = status(&set, &own, None, NOW_MS);
        assert_eq!(
            (status.replicas, status.ready_replicas, status.available_replicas, status.terminating_replicas),
            (3, Some(2), Some(1), Some(1))
        );
        assert_eq!(status.observed_generation, Some(3));
        assert_eq!(next_available(&set, &own, NOW_MS), Some(Duration::from_secs(6)));
    }

    #[test]
    fn a_failure_is_a_condition_until_it_is_over() {
        let mut set = set(1, 0);
        let failed = status(&set, &[], Some(("FailedCreate", "quota".to_owned())), NOW_MS);
        let condition = failed.conditions.as_ref().and_then(|conditions| conditions.first().cloned());
        assert_eq!(condition.and_then(|condition| condition.reason), Some("FailedCreate".to_owned()));
        set.status = Some(failed);
        assert_eq!(status(&set, &[], None, NOW_MS).conditions, None);
    }
}
