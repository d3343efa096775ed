//! DaemonSets: one pod of a template on every node.

mod plan;

use std::sync::Arc;
use std::time::Duration;

use gantry_operator::{Action, Informer, Key, Operator, ReconcileError};
use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetStatus};
use k8s_openapi::api::core::v1::{Node, Pod, PodTemplateSpec, Toleration};
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt};

use crate::claim::Labels;
use crate::pod_control::PodControl;
use crate::pods;
use crate::replicaset::ignore_missing;
use crate::scheduler::obstacle;
use crate::stores::Stores;
use plan::REVISION_LABEL;

/// What the pods of a DaemonSet bear without being asked.
const TOLERATED: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];

struct DaemonSets {
    client: Client,
    clock: Arc<dyn gantry_clock::Clock>,
    sets: Informer<DaemonSet>,
    nodes: Informer<Node>,
    control: PodControl,
}

pub(crate) fn register(operator: &Operator, stores: &Stores) {
    let nodes = operator.informer::<Node>();
    let controller = operator.controller::<DaemonSet>("daemonset");
    let sets = controller.store();
    let this = Arc::new(DaemonSets {
        client: operator.client().clone(),
        clock: operator.clock().clone(),
        sets: sets.clone(),
        nodes: nodes.clone(),
        control: PodControl::new(operator, stores, "daemonset-controller"),
    });
    controller
        .owns::<Pod>()
        .hears(&nodes, move |change| {
            // Heartbeats do not matter, only where pods may go.
            let places = |node: &Arc<Node>| (node.metadata.labels.clone(), node.spec.clone());
            let (old, new) = change.sides();
            if old.map(places) == new.map(places) {
                return Vec::new();
            }
            sets.list().iter().map(|set| Key::of(&**set)).collect()
        })
        .reconcile(move |key| {
            let this = this.clone();
            async move { this.reconcile(key).await }
        });
}

impl DaemonSets {
    async fn reconcile(&self, key: Key) -> Result<Action, ReconcileError> {
        let Some(set) = self.sets.get(&key) else {
            self.control.writes.forget(&key);
            return Ok(Action::await_change());
        };
        if !self.control.writes.settled(&key) {
            return Ok(Action::requeue_after(Duration::from_secs(5)));
        }
        let Some(spec) = &set.spec else { return Ok(Action::await_change()) };
        let own = self.control.claim(&key, &*set, &Labels::of(&spec.selector)).await?;
        let revision = crate::deployment::template_hash(&spec.template);
        let model = pod_of(&set, &spec.template, "", &revision);
        let nodes = self.nodes.list();
        // Whether a node is ready does not matter to a daemon, so that is not asked.
        let fitting = nodes.iter().filter(|node| obstacle(&model, node, false).is_none());
        let fitting: Vec<String> = fitting.map(|node| node.name_any()).collect();
        let plan = plan::plan(&set, &own, &fitting, &revision, self.clock.now_ms());
        for node in &plan.create {
            self.control.create(&key, &*set, &pod_of(&set, &spec.template, node, &revision)).await?;
        }
        for pod in &plan.delete {
            self.control.delete(&key, &*set, pod).await?;
        }
        self.update_status(&key, &set, plan.status).await?;
        // Pods that become available by mere waiting cause no event.
        let waits = spec.min_ready_seconds.unwrap_or(0) > 0;
        Ok(if waits { Action::requeue_after(Duration::from_secs(1)) } else { Action::await_change() })
    }

    async fn update_status(
        &self,
        key: &Key,
        set: &DaemonSet,
        status: DaemonSetStatus,
    ) -> Result<(), ReconcileError> {
        if set.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let mut updated = set.clone();
        updated.status = Some(status);
        let api: Api<DaemonSet> = Api::namespaced(self.client.clone(), key.namespace());
        let replaced = api.replace_status(key.name(), &PostParams::default(), &updated).await;
        if let Some(replaced) = ignore_missing(replaced)? {
            self.control.writes.wrote(key, &self.sets, &replaced);
        }
        Ok(())
    }
}

fn pod_of(set: &DaemonSet, template: &PodTemplateSpec, node: &str, revision: &str) -> Pod {
    let mut pod = pods::from_template(template, pods::controller_reference(set));
    pod.metadata.generate_name = Some(pods::generate_name(&set.name_any()));
    pod.metadata.namespace.clone_from(&set.metadata.namespace);
    pod.metadata.labels.get_or_insert_default().insert(REVISION_LABEL.to_owned(), revision.to_owned());
    let spec = pod.spec.get_or_insert_default();
    spec.node_name = Some(node.to_owned()).filter(|node| !node.is_empty());
    let tolerations = spec.tolerations.get_or_insert_default();
    tolerations.extend(TOLERATED.map(|(key, effect)| Toleration {
        key: Some(key.to_owned()),
        operator: Some("Exists".to_owned()),
        effect: Some(effect.to_owned()),
        ..Toleration::default()
    }));
    pod
}
