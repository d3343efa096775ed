//! What a DaemonSet needs now: one pod on each node that takes it.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::deployment::scaled;
use crate::pods;

pub(crate) const REVISION_LABEL: &str = "controller-revision-hash";

#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Nodes that lack a pod.
    pub(crate) create: Vec<String>,
    pub(crate) delete: Vec<Arc<Pod>>,
    pub(crate) status: DaemonSetStatus,
}

/// Decides. `nodes` are those that take the pod, `revision` names the template as it is now.
pub(crate) fn plan(set: &DaemonSet, own: &[Arc<Pod>], nodes: &[String], revision: &str, now_ms: i64) -> Plan {
    let spec = set.spec.clone().unwrap_or_default();
    let min_ready_seconds = spec.min_ready_seconds.unwrap_or(0);
    let mut on_node: BTreeMap<&str, Vec<&Arc<Pod>>> = BTreeMap::new();
    for pod in own {
        on_node.entry(pods::node_name(pod).unwrap_or("")).or_default().push(pod);
    }
    let mut plan = Plan::default();
    let mut kept: Vec<&Arc<Pod>> = Vec::new();
    for node in nodes {
        let mut here = on_node.remove(node.as_str()).unwrap_or_default();
        here.sort_by_key(|pod| {
            (!pods::is_ready(pod), pod.metadata.creation_timestamp.as_ref().map(|time| time.0))
        });
        let (over, living): (Vec<_>, Vec<_>) = here.into_iter().partition(|pod| pods::is_over(pod));
        plan.delete.extend(over.into_iter().filter(|pod| !pods::is_terminating(pod)).cloned());
        match living.split_first() {
            None => plan.create.push(node.clone()),
            Some((first, others)) => {
                kept.push(first);
                plan.delete
                    .extend(others.iter().filter(|pod| !pods::is_terminating(pod)).map(|pod| (*pod).clone()));
            }
        }
    }
    let misplaced: Vec<&Arc<Pod>> = on_node.into_values().flatten().collect();
    plan.delete.extend(misplaced.iter().filter(|pod| pods::is_active(pod)).map(|pod| (*pod).clone()));

    let is_new = |pod: &Pod| {
        pod.metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get(REVISION_LABEL))
            .is_some_and(|own| own == revision)
    };
    let count = |test: &dyn Fn(&Pod) -> bool| {
        i32::try_from(kept.iter().filter(|pod| test(pod)).count()).unwrap_or(i32::MAX)
    };
    let available = count(&|pod| pods::is_active(pod) && pods::is_available(pod, min_ready_seconds, now_ms));
    let desired = i32::try_from(nodes.len()).unwrap_or(i32::MAX);
    plan.status = DaemonSetStatus {
        desired_number_scheduled: desired,
        current_number_scheduled: i32::try_from(kept.len()).unwrap_or(i32::MAX),
        number_misscheduled: i32::try_from(misplaced.len()).unwrap_or(i32::MAX),
        number_ready: count(&|pod| pods::is_active(pod) && pods::is_ready(pod)),
        number_available: Some(available).filter(|count| *count > 0),
        number_unavailable: Some(desired.saturating_sub(available)).filter(|count| *count > 0),
        updated_number_scheduled: Some(count(&is_new)).filter(|count| *count > 0),
        observed_generation: set.metadata.generation,
        ..set.status.clone().unwrap_or_default()
    };
    let strategy = spec.update_strategy.unwrap_or_default();
    if strategy.type_.as_deref() != Some("OnDelete") && set.metadata.deletion_timestamp.is_none() {
        let one = IntOrString::Int(1);
        let limit = strategy.rolling_update.and_then(|rolling| rolling.max_unavailable).unwrap_or(one);
        let allowed = scaled(&limit, desired, true).max(1).saturating_sub(desired.saturating_sub(available));
        let old = kept.iter().filter(|pod| !is_new(pod) && pods::is_active(pod));
        // A pod that is of no use anyway may always go.
        let (unfit, fit): (Vec<_>, Vec<_>) =
            old.partition(|pod| !pods::is_available(pod, min_ready_seconds, now_ms));
        plan.delete.extend(unfit.into_iter().map(Arc::clone));
        plan.delete.extend(fit.into_iter().take(usize::try_from(allowed).unwrap_or(0)).map(Arc::clone));
    }
    if set.metadata.deletion_timestamp.is_some() {
        plan.create.clear();
        plan.delete.clear();
    }
    plan
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set() -> DaemonSet {
        serde_json::from_value(
            json!({ "metadata": { "name": "agent" }, "spec": { "selector": {}, "template": {} } }),
        )
        .expect("a set")
    }

    fn pod(name: &str, node: &str, ready: bool, revision: &str) -> Arc<Pod> {
        let ready = if ready { "True" } else { "False" };
        let pod = json!({
            "metadata": { "name": name, "labels": { REVISION_LABEL: revision } },
            "spec": { "nodeName": node, "containers": [] },
            "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": ready }] },
        });
        Arc::new(serde_json::from_value(pod).expect("a pod"))
    }

    fn names(plan: &Plan) -> Vec<String> {
        plan.delete.iter().filter_map(|pod| pod.metadata.name.clone()).collect()
    }

    #[test]
    fn one_pod_on_each_node() {
        let nodes = ["a", "b"].map(str::to_owned);
        let own = [pod("a1", "a", true, "x"), pod("a2", "a", false, "x"), pod("c1", "c", true, "x")];
        let plan = plan(&set(), &own, &nodes, "x", 0);
        assert_eq!(
            (plan.create.clone(), names(&plan)),
            (vec!["b".to_owned()], vec!["a2".to_owned(), "c1".to_owned()])
        );
        let status = &plan.status;
        assert_eq!(
            (status.desired_number_scheduled, status.number_ready, status.number_misscheduled),
            (2, 1, 1)
        );
    }

    #[test]
    fn updates_spare_all_but_one() {
        let nodes = ["a", "b", "c"].map(str::to_owned);
        let all_ready = ["a", "b", "c"].map(|node| pod(node, node, true, "old"));
        assert_eq!(names(&plan(&set(), &all_ready, &nodes, "new", 0)).len(), 1);
        let one_missing =
            [pod("a", "a", false, "new"), pod("b", "b", true, "old"), pod("c", "c", true, "old")];
        assert!(names(&plan(&set(), &one_missing, &nodes, "new", 0)).is_empty());
        let unfit = [pod("a", "a", false, "old"), pod("b", "b", true, "old"), pod("c", "c", true, "old")];
        assert_eq!(names(&plan(&set(), &unfit, &nodes, "new", 0)), ["a"]);
    }
}
