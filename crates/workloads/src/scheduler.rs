//! The scheduler of a machine that is one node: pending pods go to a ready node, those that cannot say why.

use std::sync::Arc;
use std::time::Duration;

use gantry_operator::{Action, EventType, Informer, Key, Operator, ReconcileError, Recorder};
use k8s_openapi::api::core::v1::{Binding, Node, ObjectReference, Pod, PodCondition, Taint, Toleration};
use kube::api::{Api, PostParams};
use kube::core::ObjectMeta;
use kube::{Client, ResourceExt};

use crate::pods;
use crate::replicaset::{ignore_missing, message_of};

/// The only profile there is; pods that name another scheduler are left to it.
const NAME: &str = "default-scheduler";

struct Scheduler {
    client: Client,
    clock: Arc<dyn gantry_clock::Clock>,
    recorder: Recorder,
    pods: Informer<Pod>,
    nodes: Informer<Node>,
}

pub(crate) fn register(operator: &Operator) {
    let nodes = operator.informer::<Node>();
    let pending = operator.informer::<Pod>();
    let controller = operator.controller::<Pod>("scheduler").concurrency(16);
    let this = Arc::new(Scheduler {
        client: operator.client().clone(),
        clock: operator.clock().clone(),
        recorder: operator.recorder(NAME),
        pods: controller.store(),
        nodes: nodes.clone(),
    });
    controller
        .hears(&nodes, move |change| {
            let ready_before = change.sides().0.is_some_and(|node| is_schedulable(node));
            let ready_now = change.sides().1.is_some_and(|node| is_schedulable(node));
            let waiting = |pod: &&Arc<Pod>| is_waiting(pod);
            // Heartbeats change nodes all the time; only a node that newly takes pods is news.
            if !ready_now || ready_before {
                return Vec::new();
            }
            pending.list().iter().filter(waiting).map(|pod| Key::of(&**pod)).collect()
        })
        .reconcile(move |key| {
            let this = this.clone();
            async move { this.reconcile(key).await }
        });
}

fn is_waiting(pod: &Pod) -> bool {
    let scheduler = pod.spec.as_ref().and_then(|spec| spec.scheduler_name.as_deref());
    pods::node_name(pod).is_none() && pods::is_active(pod) && scheduler.is_none_or(|name| name == NAME)
}

fn is_schedulable(node: &Node) -> bool {
    let cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false);
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let ready = conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    ready && !cordoned && node.metadata.deletion_timestamp.is_none()
}

/// Why `pod` cannot run on `node`, in the words of the scheduler's message; nothing when it can.
///
/// `must_be_ready` asks for a ready node as well.
pub(crate) fn obstacle(pod: &Pod, node: &Node, must_be_ready: bool) -> Option<String> {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let ready = conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    if must_be_ready && !ready {
        return Some("node(s) were not ready".to_owned());
    }
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    if node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false) {
        let cordon = Taint {
            key: "node.kubernetes.io/unschedulable".to_owned(),
            effect: "NoSchedule".to_owned(),
            ..Taint::default()
        };
        if !tolerations.iter().any(|toleration| tolerates(toleration, &cordon)) {
            return Some("node(s) were unschedulable".to_owned());
        }
    }
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let hard = taints.iter().filter(|taint| taint.effect != "PreferNoSchedule");
    for taint in hard {
        if !tolerations.iter().any(|toleration| tolerates(toleration, taint)) {
            let value = taint.value.as_deref().unwrap_or("");
            return Some(format!("node(s) had untolerated taint {{{}: {value}}}", taint.key));
        }
    }
    let labels = node.labels();
    let selector = pod.spec.as_ref().and_then(|spec| spec.node_selector.as_ref());
    let matches = selector.into_iter().flatten().all(|(name, value)| labels.get(name) == Some(value));
    if !matches {
        return Some("node(s) didn't match Pod's node affinity/selector".to_owned());
    }
    None
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or("");
    let key = toleration.key.as_deref().unwrap_or("");
    if !effect.is_empty() && effect != taint.effect {
        return false;
    }
    if !key.is_empty() && key != taint.key {
        return false;
    }
    match toleration.operator.as_deref().unwrap_or("Equal") {
        "Exists" => true,
        _ => {
            !key.is_empty()
                && toleration.value.as_deref().unwrap_or("") == taint.value.as_deref().unwrap_or("")
        }
    }
}

/// The node for `pod`, or the message why there is none.
fn choose(pod: &Pod, nodes: &[Arc<Node>], pods_on: impl Fn(&str) -> usize) -> Result<String, String> {
    let mut reasons: std::collections::BTreeMap<String, usize> = std::collections::BTreeMap::new();
    let mut best: Option<(usize, String)> = None;
    for node in nodes.iter().filter(|node| node.metadata.deletion_timestamp.is_none()) {
        match obstacle(pod, node, true) {
            Some(reason) => *reasons.entry(reason).or_insert(0) += 1,
            None => {
                let name = node.name_any();
                let candidate = (pods_on(&name), name);
                if best.as_ref().is_none_or(|best| candidate < *best) {
                    best = Some(candidate);
                }
            }
        }
    }
    if let Some((_, name)) = best {
        return Ok(name);
    }
    if reasons.is_empty() {
        return Err("no nodes available to schedule pods".to_owned());
    }
    let reasons: Vec<String> =
        reasons.into_iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    Err(format!("0/{} nodes are available: {}.", nodes.len(), reasons.join(", ")))
}

impl Scheduler {
    async fn reconcile(&self, key: Key) -> Result<Action, ReconcileError> {
        let Some(pod) = self.pods.get(&key).filter(|pod| is_waiting(pod)) else {
            return Ok(Action::await_change());
        };
        let gates = pod.spec.as_ref().and_then(|spec| spec.scheduling_gates.as_deref()).unwrap_or_default();
        if !gates.is_empty() {
            let message = format!("Scheduling is blocked due to non-empty scheduling gates: {}", gates.len());
            return self.say_unschedulable(&key, &pod, "SchedulingGated", message).await;
        }
        let nodes = self.nodes.list();
        // With one node there is nothing to weigh; with several, the emptiest takes the pod.
        let everywhere = if nodes.len() > 1 { self.pods.list() } else { Vec::new() };
        let pods_on = |node: &str| everywhere.iter().filter(|pod| pods::node_name(pod) == Some(node)).count();
        match choose(&pod, &nodes, pods_on) {
            Ok(node) => self.bind(&key, &pod, &node).await,
            Err(message) => self.say_unschedulable(&key, &pod, "Unschedulable", message).await,
        }
    }

    async fn bind(&self, key: &Key, pod: &Pod, node: &str) -> Result<Action, ReconcileError> {
        let binding = Binding {
            metadata: ObjectMeta {
                name: Some(pod.name_any()),
                namespace: Some(key.namespace().to_owned()),
                uid: pod.metadata.uid.clone(),
                ..ObjectMeta::default()
            },
            target: ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Node".to_owned()),
                name: Some(node.to_owned()),
                ..ObjectReference::default()
            },
        };
        let api: Api<Pod> = Api::namespaced(self.client.clone(), key.namespace());
        let bound: Result<serde_json::Value, kube::Error> =
            api.create_subresource("binding", &pod.name_any(), &PostParams::default(), &binding).await;
        match bound {
            Ok(_) => {
                let message = format!("Successfully assigned {key} to {node}");
                self.recorder.event(pod, EventType::Normal, "Scheduled", message);
                Ok(Action::await_change())
            }
            // Bound already, or gone: the watch will say which.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {
                tracing::debug!(%key, message = %status.message, "pod was not bound");
                Ok(Action::await_change())
            }
            Err(error) => {
                let message = format!("Binding rejected: {}", message_of(&error));
                self.recorder.event(pod, EventType::Warning, "FailedScheduling", message);
                Err(error.into())
            }
        }
    }

    async fn say_unschedulable(
        &self,
        key: &Key,
        pod: &Pod,
        reason: &str,
        message: String,
    ) -> Result<Action, ReconcileError> {
        // A node that becomes ready wakes the pod; the delay is for changes of taints and labels.
        let again = Action::requeue_after(Duration::from_secs(60));
        let known = pods::condition(pod, "PodScheduled").is_some_and(|condition| {
            condition.status == "False" && condition.message.as_deref() == Some(message.as_str())
        });
        if known {
            return Ok(again);
        }
        self.recorder.event(pod, EventType::Warning, "FailedScheduling", message.clone());
        let mut updated = pod.clone();
        let status = updated.status.get_or_insert_default();
        let conditions = status.conditions.get_or_insert_default();
        conditions.retain(|condition| condition.type_ != "PodScheduled");
        conditions.push(PodCondition {
            type_: "PodScheduled".to_owned(),
            status: "False".to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_transition_time: Some(gantry_operator::time_from_ms(self.clock.now_ms())),
            ..PodCondition::default()
        });
        let api: Api<Pod> = Api::namespaced(self.client.clone(), key.namespace());
        ignore_missing(api.replace_status(&pod.name_any(), &PostParams::default(), &updated).await)?;
        Ok(again)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn node(name: &str, ready: bool, spec: Value) -> Arc<Node> {
        let status = if ready { "True" } else { "False" };
        Arc::new(
            serde_json::from_value(json!({
                "metadata": { "name": name, "labels": { "disk": "fast" } },
                "spec": spec,
                "status": { "conditions": [{ "type": "Ready", "status": status }] },
            }))
            .expect("a node"),
        )
    }

    fn pod(spec: Value) -> Pod {
        let mut spec = spec;
        spec["containers"] = json!([]);
        serde_json::from_value(json!({ "spec": spec })).expect("a pod")
    }

    #[test]
    fn choices() {
        let taint = json!({ "taints": [{ "key": "gpu", "value": "yes", "effect": "NoSchedule" }] });
        let exists = json!({ "tolerations": [{ "key": "gpu", "operator": "Exists" }] });
        let wrong = json!({ "tolerations": [{ "key": "gpu", "value": "no" }] });
        for (pod_spec, nodes, expected) in [
            (json!({}), vec![], Err("no nodes available to schedule pods")),
            (json!({}), vec![node("a", true, json!({}))], Ok("a")),
            (json!({}), vec![node("a", true, json!({})), node("b", true, json!({}))], Ok("b")),
            (
                json!({}),
                vec![node("a", false, json!({}))],
                Err("0/1 nodes are available: 1 node(s) were not ready."),
            ),
            (
                json!({}),
                vec![node("a", true, json!({ "unschedulable": true }))],
                Err("0/1 nodes are available: 1 node(s) were unschedulable."),
            ),
            (json!({ "nodeSelector": { "disk": "fast" } }), vec![node("a", true, json!({}))], Ok("a")),
            (
                json!({ "nodeSelector": { "disk": "slow" } }),
                vec![node("a", true, json!({}))],
                Err("0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."),
            ),
            (exists, vec![node("a", true, taint.clone())], Ok("a")),
            (
                wrong,
                vec![node("a", true, taint)],
                Err("0/1 nodes are available: 1 node(s) had untolerated taint {gpu: yes}."),
            ),
        ] {
            let crowded = |name: &str| usize::from(name == "a");
            let chosen = choose(&pod(pod_spec.clone()), &nodes, crowded);
            assert_eq!(chosen.as_deref().map_err(String::as_str), expected, "{pod_spec}");
        }
    }
}
