//! What a StatefulSet needs now: pods with lasting names, made in order, removed in reverse.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec, StatefulSetStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use crate::pods;

pub(crate) const REVISION_LABEL: &str = "controller-revision-hash";

#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Ordinals of pods to create.
    pub(crate) create: Vec<i32>,
    pub(crate) delete: Vec<Arc<Pod>>,
    pub(crate) status: StatefulSetStatus,
}

struct Member {
    ordinal: i32,
    pod: Option<Arc<Pod>>,
}

/// Decides. `revision` names the template as it is now.
pub(crate) fn plan(set: &StatefulSet, own: &[Arc<Pod>], revision: &str, now_ms: i64) -> Plan {
    let spec = set.spec.clone().unwrap_or_default();
    let mut plan = Plan { status: status(set, &spec, own, revision, now_ms), ..Plan::default() };
    if set.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    let first = spec.ordinals.as_ref().and_then(|ordinals| ordinals.start).unwrap_or(0).max(0);
    let last = first.saturating_add(spec.replicas.unwrap_or(1).max(0));
    let name = set.name_any();
    let ordinal_of = |pod: &Pod| ordinal(&name, pod);
    let find = |wanted: i32| own.iter().find(|pod| ordinal_of(pod) == Some(wanted)).cloned();
    let members: Vec<Member> = (first..last).map(|ordinal| Member { ordinal, pod: find(ordinal) }).collect();
    let mut condemned: Vec<&Arc<Pod>> = own
        .iter()
        .filter(|pod| ordinal_of(pod).is_none_or(|ordinal| !(first..last).contains(&ordinal)))
        .collect();
    condemned.sort_by_key(|pod| std::cmp::Reverse(ordinal_of(pod)));
    let in_order = spec.pod_management_policy.as_deref() != Some("Parallel");
    let healthy = |pod: &Pod| !pods::is_terminating(pod) && is_available(pod, &spec, now_ms);

    for member in &members {
        match &member.pod {
            None => plan.create.push(member.ordinal),
            Some(pod) if pods::is_over(pod) && !pods::is_terminating(pod) => plan.delete.push(pod.clone()),
            Some(pod) if healthy(pod) => continue,
            Some(_) => {}
        }
        if in_order {
            // Nobody follows before this one is well.
            return plan;
        }
    }
    for pod in condemned {
        if !pods::is_terminating(pod) {
            plan.delete.push(pod.clone());
        }
        if in_order {
            return plan;
        }
    }
    if plan.create.is_empty() && plan.delete.is_empty() {
        plan.delete.extend(next_to_update(&spec, &members, revision, healthy));
    }
    plan
}

/// The highest pod of an old template, when all above it are well.
fn next_to_update(
    spec: &StatefulSetSpec,
    members: &[Member],
    revision: &str,
    healthy: impl Fn(&Pod) -> bool,
) -> Option<Arc<Pod>> {
    let strategy = spec.update_strategy.clone().unwrap_or_default();
    if strategy.type_.as_deref() == Some("OnDelete") {
        return None;
    }
    let partition = strategy.rolling_update.and_then(|rolling| rolling.partition).unwrap_or(0);
    for member in members.iter().rev().take_while(|member| member.ordinal >= partition) {
        let pod = member.pod.as_ref()?;
        if !has_revision(pod, revision) && !pods::is_terminating(pod) {
            return Some(pod.clone());
        }
        if !healthy(pod) {
            return None;
        }
    }
    None
}

fn status(
    set: &StatefulSet,
    spec: &StatefulSetSpec,
    own: &[Arc<Pod>],
    revision: &str,
    now_ms: i64,
) -> StatefulSetStatus {
    let old = set.status.clone().unwrap_or_default();
    let count = |test: &dyn Fn(&Pod) -> bool| {
        i32::try_from(own.iter().filter(|pod| test(pod)).count()).unwrap_or(i32::MAX)
    };
    let update_name = format!("{}-{revision}", set.name_any());
    let current_name = old.current_revision.clone().unwrap_or_else(|| update_name.clone());
    let replicas = count(&|pod| !pods::is_over(pod));
    let updated = count(&|pod| !pods::is_terminating(pod) && has_revision(pod, revision));
    let ready = count(&|pod| !pods::is_terminating(pod) && pods::is_ready(pod));
    let wanted = spec.replicas.unwrap_or(1).max(0);
    // When the last pod follows, the new template is the current one.
    let complete = updated == wanted && ready == wanted && replicas == wanted;
    let current_name = if complete { update_name.clone() } else { current_name };
    let current_hash = current_name.rsplit('-').next().unwrap_or("").to_owned();
    StatefulSetStatus {
        replicas,
        ready_replicas: Some(ready).filter(|count| *count > 0),
        available_replicas: Some(count(&|pod| !pods::is_terminating(pod) && is_available(pod, spec, now_ms))),
        updated_replicas: Some(updated).filter(|count| *count > 0),
        current_replicas: Some(count(&|pod| !pods::is_terminating(pod) && has_revision(pod, &current_hash)))
            .filter(|count| *count > 0),
        current_revision: Some(current_name),
        update_revision: Some(update_name),
        observed_generation: set.metadata.generation,
        collision_count: old.collision_count.or(Some(0)),
        conditions: old.conditions,
    }
}

fn is_available(pod: &Pod, spec: &StatefulSetSpec, now_ms: i64) -> bool {
    pods::phase(pod) == "Running" && pods::is_available(pod, spec.min_ready_seconds.unwrap_or(0), now_ms)
}

fn has_revision(pod: &Pod, revision: &str) -> bool {
    pod.metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(REVISION_LABEL))
        .is_some_and(|own| own == revision)
}

/// The number at the end of the name of a member.
fn ordinal(set: &str, pod: &Pod) -> Option<i32> {
    pod.metadata.name.as_deref()?.strip_prefix(set)?.strip_prefix('-')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn set(spec: Value) -> StatefulSet {
        let mut full = json!({ "selector": {}, "template": {} });
        for (field, value) in spec.as_object().into_iter().flatten() {
            full[field] = value.clone();
        }
        serde_json::from_value(json!({ "metadata": { "name": "db", "generation": 1 }, "spec": full }))
            .expect("a set")
    }

    fn pod(ordinal: i32, ready: bool, revision: &str) -> Arc<Pod> {
        let ready = if ready { "True" } else { "False" };
        let pod = json!({
            "metadata": { "name": format!("db-{ordinal}"), "labels": { REVISION_LABEL: revision } },
            "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": ready }] },
        });
        Arc::new(serde_json::from_value(pod).expect("a pod"))
    }

    fn names(pods: &[Arc<Pod>]) -> Vec<String> {
        pods.iter().map(|pod| pod.name_any()).collect()
    }

    #[test]
    fn one_after_the_other() {
        let set = set(json!({ "replicas": 3 }));
        for (own, create) in [
            (vec![], vec![0]),
            (vec![pod(0, false, "a")], vec![]),
            (vec![pod(0, true, "a")], vec![1]),
            (vec![pod(0, true, "a"), pod(1, true, "a")], vec![2]),
            (vec![pod(1, true, "a"), pod(2, true, "a")], vec![0]),
        ] {
            assert_eq!(plan(&set, &own, "a", 0).create, create);
        }
    }

    #[test]
    fn all_at_once_when_parallel() {
        let parallel = set(json!({ "replicas": 3, "podManagementPolicy": "Parallel" }));
        assert_eq!(plan(&parallel, &[pod(1, false, "a")], "a", 0).create, [0, 2]);
    }

    #[test]
    fn the_highest_goes_first() {
        let own: Vec<Arc<Pod>> = (0..4).map(|ordinal| pod(ordinal, true, "a")).collect();
        assert_eq!(names(&plan(&set(json!({ "replicas": 2 })), &own, "a", 0).delete), ["db-3"]);
    }

    #[test]
    fn updates_go_down_to_the_partition_one_at_a_time() {
        let rolling =
            set(json!({ "replicas": 3, "updateStrategy": { "rollingUpdate": { "partition": 1 } } }));
        let all_old: Vec<Arc<Pod>> = (0..3).map(|ordinal| pod(ordinal, true, "a")).collect();
        assert_eq!(names(&plan(&rolling, &all_old, "b", 0).delete), ["db-2"]);
        let unwell = [pod(0, true, "a"), pod(1, true, "a"), pod(2, false, "b")];
        assert!(plan(&rolling, &unwell, "b", 0).delete.is_empty());
        let well = [pod(0, true, "a"), pod(1, true, "a"), pod(2, true, "b")];
        assert_eq!(names(&plan(&rolling, &well, "b", 0).delete), ["db-1"]);
        let done = [pod(0, true, "a"), pod(1, true, "b"), pod(2, true, "b")];
        let plan = plan(&rolling, &done, "b", 0);
        assert!(plan.delete.is_empty());
        assert_eq!(
            (plan.status.updated_replicas, plan.status.update_revision.as_deref()),
            (Some(2), Some("db-b"))
        );
    }
}
