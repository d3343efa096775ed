//! Plans against a simulated cluster: sets get their pods, pods become available one at a time.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::plan::{Plan, plan};
use super::sets::{self, REVISION, Step, bounds, scaled};
use super::status::condition;

const START_MS: i64 = 1_700_000_000_000;

struct Cluster {
    deployment: Deployment,
    sets: Vec<ReplicaSet>,
    pods: Vec<Arc<Pod>>,
    now_ms: i64,
}

fn deployment(replicas: i32, strategy: Value) -> Deployment {
    serde_json::from_value(json!({
        "metadata": { "name": "web", "namespace": "team", "uid": "d", "generation": 1 },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": "web" } },
            "strategy": strategy,
            "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": { "containers": [{ "name": "main", "image": "web:1" }] },
            },
        },
    }))
    .expect("a deployment")
}

fn rolling(surge: Value, unavailable: Value) -> Value {
    json!({ "type": "RollingUpdate", "rollingUpdate": { "maxSurge": surge, "maxUnavailable": unavailable } })
}

impl Cluster {
    fn new(deployment: Deployment) -> Cluster {
        Cluster { deployment, sets: Vec::new(), pods: Vec::new(), now_ms: START_MS }
    }

    fn plan(&self) -> Plan {
        let sets: Vec<Arc<ReplicaSet>> = self.sets.iter().cloned().map(Arc::new).collect();
        plan(&self.deployment, &sets, &self.pods, self.now_ms)
    }

    /// Plans and carries the plan out; returns how many steps it had.
    fn reconcile(&mut self) -> usize {
        let plan = self.plan();
        let count = plan.steps.len();
        for step in plan.steps {
            match step {
                Step::Create(mut set) => {
                    self.now_ms += 1000;
                    set.metadata.uid = Some(set.name_any());
                    set.metadata.creation_timestamp = Some(gantry_operator::time_from_ms(self.now_ms));
                    self.sets.push(*set);
                }
                Step::Update { set, .. } => {
                    let known = self.sets.iter_mut().find(|known| known.metadata.name == set.metadata.name);
                    *known.expect("a set that exists") = *set;
                }
                Step::Delete(set) => self.sets.retain(|known| known.metadata.name != set.metadata.name),
            }
        }
        if let Some(revision) = plan.revision {
            self.deployment.annotations_mut().insert(REVISION.to_owned(), revision.to_string());
        }
        self.deployment.status = Some(plan.status);
        count
    }

    /// Sets delete excess pods at once and create missing ones; one pod in all becomes available.
    fn work(&mut self) -> bool {
        let mut moved = false;
        let mut one_more = true;
        for set in &mut self.sets {
            let wanted = sets::size(set);
            let mut status = set.status.clone().unwrap_or_default();
            let before = status.clone();
            status.replicas = wanted;
            let mut available = status.available_replicas.unwrap_or(0).min(wanted);
            if one_more && available < wanted {
                available += 1;
                one_more = false;
            }
            status.available_replicas = Some(available);
            status.ready_replicas = Some(available);
            moved |= status != before;
            set.status = Some(status);
        }
        moved
    }

    /// Reconciles and works until nothing changes, checking `invariant` at each step.
    fn settle(&mut self, invariant: impl Fn(&Cluster)) {
        for _ in 0..500 {
            let steps = self.reconcile();
            invariant(self);
            let moved = self.work();
            invariant(self);
            if steps == 0 && !moved {
                self.reconcile();
                return;
            }
        }
        panic!("the rollout does not end");
    }

    fn set_image(&mut self, image: &str) {
        let spec = self.deployment.spec.as_mut().expect("a spec");
        spec.template.spec.as_mut().expect("a pod spec").containers[0].image = Some(image.to_owned());
        self.deployment.metadata.generation =
            self.deployment.metadata.generation.map(|generation| generation + 1);
    }

    fn resize(&mut self, replicas: i32) {
        self.deployment.spec.as_mut().expect("a spec").replicas = Some(replicas);
        self.deployment.metadata.generation =
            self.deployment.metadata.generation.map(|generation| generation + 1);
    }

    fn sizes(&self) -> Vec<i32> {
        self.sets.iter().map(sets::size).collect()
    }

    fn total(&self) -> i32 {
        self.sizes().iter().sum()
    }

    fn available(&self) -> i32 {
        self.sets.iter().map(sets::available).sum()
    }

    fn reason(&self, kind: &str) -> Option<String> {
        condition(self.deployment.status.as_ref(), kind)?.reason.clone()
    }
}

#[test]
fn surge_rounds_up_and_unavailability_down() {
    for (replicas, surge, unavailable, expected) in [
        (10, json!("25%"), json!("25%"), (3, 2)),
        (1, json!("25%"), json!("25%"), (1, 0)),
        (4, json!("25%"), json!("25%"), (1, 1)),
        (10, json!(0), json!(0), (0, 1)),
        (3, json!("0%"), json!("10%"), (0, 1)),
        (2, json!(5), json!(7), (5, 2)),
        (0, json!(1), json!(1), (1, 0)),
    ] {
        let bounds = bounds(&deployment(replicas, rolling(surge, unavailable)));
        assert_eq!((bounds.max_surge, bounds.max_unavailable), expected, "{replicas}");
    }
    assert_eq!(scaled(&IntOrString::String("nonsense".into()), 10, true), 0);
}

#[test]
fn rollouts_stay_within_their_bounds_and_end_complete() {
    for (replicas, surge, unavailable) in [
        (1, json!("25%"), json!("25%")),
        (3, json!(1), json!(0)),
        (10, json!("25%"), json!("25%")),
        (5, json!(0), json!(1)),
        (7, json!("100%"), json!("100%")),
    ] {
        let mut cluster = Cluster::new(deployment(replicas, rolling(surge, unavailable)));
        cluster.settle(|_| {});
        assert_eq!(cluster.sizes(), [replicas]);
        let limits = bounds(&cluster.deployment);
        cluster.set_image("web:2");
        cluster.settle(|cluster| {
            assert!(cluster.total() <= replicas + limits.max_surge, "{:?}", cluster.sizes());
            assert!(cluster.available() >= replicas - limits.max_unavailable, "{:?}", cluster.sizes());
        });
        assert_eq!(cluster.sizes(), [0, replicas]);
        assert_eq!(cluster.reason("Progressing").as_deref(), Some("NewReplicaSetAvailable"));
        assert_eq!(cluster.reason("Available").as_deref(), Some("MinimumReplicasAvailable"));
        let status = cluster.deployment.status.clone().expect("a status");
        assert_eq!((status.updated_replicas, status.observed_generation), (Some(replicas), Some(2)));
    }
}

#[test]
fn going_back_reuses_the_old_set_under_a_new_revision() {
    let mut cluster = Cluster::new(deployment(2, rolling(json!(1), json!(0))));
    cluster.settle(|_| {});
    cluster.set_image("web:2");
    cluster.settle(|_| {});
    cluster.set_image("web:1");
    cluster.settle(|_| {});
    assert_eq!(cluster.sizes(), [2, 0]);
    assert_eq!(sets::annotation(&cluster.sets[0], REVISION), Some("3"));
    assert_eq!(sets::annotation(&cluster.sets[0], "deployment.kubernetes.io/revision-history"), Some("1"));
    assert_eq!(cluster.deployment.annotations().get(REVISION).map(String::as_str), Some("3"));
}

#[test]
fn a_deployment_resized_in_mid_rollout_grows_in_proportion() {
    let mut cluster = Cluster::new(deployment(10, rolling(json!(3), json!(2))));
    cluster.settle(|_| {});
    cluster.set_image("web:2");
    cluster.reconcile();
    cluster.reconcile();
    assert_eq!(cluster.sizes(), [8, 5], "two old ones may be missing, three new ones may be too many");
    cluster.work();
    cluster.work();
    cluster.reconcile();
    let before = cluster.sizes();
    cluster.resize(20);
    cluster.reconcile();
    let after = cluster.sizes();
    assert_eq!(cluster.total(), 23);
    assert!(after[0] > before[0] && after[1] > before[1], "{before:?} {after:?}");
    cluster.settle(|cluster| assert!(cluster.total() <= 23));
    assert_eq!(cluster.sizes(), [0, 20]);
}

#[test]
fn recreate_waits_for_the_last_old_pod() {
    let mut cluster = Cluster::new(deployment(2, json!({ "type": "Recreate" })));
    cluster.settle(|_| {});
    assert_eq!(cluster.sizes(), [2]);
    cluster.set_image("web:2");
    let old = json!({
        "metadata": { "name": "web-old", "ownerReferences": [
            { "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "x", "uid": cluster.sets[0].metadata.uid, "controller": true }
        ]},
        "status": { "phase": "Running" },
    });
    cluster.pods = vec![Arc::new(serde_json::from_value(old).expect("a pod"))];
    cluster.reconcile();
    cluster.work();
    cluster.reconcile();
    assert_eq!(cluster.sizes(), [0], "the old pod still runs");
    cluster.pods.clear();
    cluster.settle(|_| {});
    assert_eq!(cluster.sizes(), [0, 2]);
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let mut cluster = Cluster::new(deployment(2, rolling(json!(1), json!(0))));
    cluster.settle(|_| {});
    cluster.deployment.spec.as_mut().expect("a spec").paused = Some(true);
    cluster.set_image("web:2");
    cluster.resize(4);
    cluster.settle(|_| {});
    assert_eq!(cluster.sizes(), [4]);
    assert_eq!(cluster.reason("Progressing").as_deref(), Some("DeploymentPaused"));
    cluster.deployment.spec.as_mut().expect("a spec").paused = Some(false);
    cluster.settle(|_| {});
    assert_eq!(cluster.sizes(), [0, 4]);
    assert_eq!(cluster.reason("Progressing").as_deref(), Some("NewReplicaSetAvailable"));
}

#[test]
fn without_progress_the_deadline_passes() {
    let mut cluster = Cluster::new(deployment(1, rolling(json!(1), json!(0))));
    cluster.deployment.spec.as_mut().expect("a spec").progress_deadline_seconds = Some(10);
    cluster.reconcile();
    assert_eq!(cluster.reason("Progressing").as_deref(), Some("NewReplicaSetCreated"));
    let wait = cluster.plan().look_again.expect("a deadline to look at");
    cluster.now_ms += i64::try_from(wait.as_millis()).expect("a short time") + 1000;
    cluster.reconcile();
    assert_eq!(cluster.reason("Progressing").as_deref(), Some("ProgressDeadlineExceeded"));
    assert_eq!(cluster.plan().look_again, None);
    cluster.settle(|_| {});
    assert_eq!(cluster.reason("Progressing").as_deref(), Some("NewReplicaSetAvailable"));
}

#[test]
fn old_sets_beyond_the_history_limit_go() {
    let mut cluster = Cluster::new(deployment(1, rolling(json!(1), json!(0))));
    cluster.deployment.spec.as_mut().expect("a spec").revision_history_limit = Some(2);
    for version in 1..=5 {
        cluster.set_image(&format!("web:{version}"));
        cluster.settle(|_| {});
    }
    let revisions: Vec<i64> = cluster.sets.iter().map(sets::revision).collect();
    assert_eq!(revisions, [3, 4, 5]);
}

#[test]
fn failing_sets_show_on_the_deployment() {
    let mut cluster = Cluster::new(deployment(1, rolling(json!(1), json!(0))));
    cluster.reconcile();
    let failed = json!({ "replicas": 0, "conditions": [
        { "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "no room" }
    ]});
    cluster.sets[0].status = Some(serde_json::from_value::<ReplicaSetStatus>(failed).expect("a status"));
    cluster.reconcile();
    assert_eq!(cluster.reason("ReplicaFailure").as_deref(), Some("FailedCreate"));
    cluster.sets[0].status = None;
    cluster.settle(|_| {});
    assert_eq!(cluster.reason("ReplicaFailure"), None);
}
