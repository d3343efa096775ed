//! Deployments: roll a template out over ReplicaSets, at a pace that keeps enough pods available.
//!
//! [`plan`] decides from what is there; this file reads the stores and carries the plan out.

mod plan;
mod rolling;
mod scaling;
mod sets;
mod status;
mod template;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use gantry_operator::{
    Action, EventType, Informer, Key, Operator, ReconcileError, Recorder, StoreIndex, Writes,
};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Client, ResourceExt};
use serde_json::json;

use crate::claim::{self, Claim, Labels};
use crate::replicaset::{ignore_missing, message_of, orphan_of};
use crate::stores::Stores;
use sets::Step;
pub(crate) use sets::scaled;

/// A short name for a template, for controllers that tell their pods apart by it.
pub(crate) fn template_hash(template: &k8s_openapi::api::core::v1::PodTemplateSpec) -> String {
    template::hash(template, None)
}

struct Deployments {
    client: Client,
    clock: Arc<dyn gantry_clock::Clock>,
    recorder: Recorder,
    deployments: Informer<Deployment>,
    sets: Informer<ReplicaSet>,
    sets_by_owner: StoreIndex<ReplicaSet>,
    pods_by_owner: StoreIndex<Pod>,
    writes: Writes,
}

pub(crate) fn register(operator: &Operator, stores: &Stores) {
    let controller = operator.controller::<Deployment>("deployment").concurrency(8);
    let deployments = controller.store();
    let adopters = deployments.clone();
    let set_store = operator.informer::<ReplicaSet>();
    let sets_of_pods = set_store.clone();
    let this = Arc::new(Deployments {
        client: operator.client().clone(),
        clock: operator.clock().clone(),
        recorder: operator.recorder("deployment-controller"),
        deployments,
        sets: set_store,
        sets_by_owner: stores.replica_sets_by_owner.clone(),
        pods_by_owner: stores.pods_by_owner.clone(),
        writes: Writes::new(operator.clock().clone()),
    });
    controller
        .owns::<ReplicaSet>()
        .watches(move |set: &ReplicaSet| adopters_of(&adopters, set))
        .hears(&stores.pods, move |change| match change {
            // Only the end of a pod matters: the `Recreate` strategy waits for the last one.
            gantry_operator::Change::Deleted(pod) => deployment_of(&sets_of_pods, pod).into_iter().collect(),
            gantry_operator::Change::Applied { .. } => Vec::new(),
        })
        .reconcile(move |key| {
            let this = this.clone();
            async move { this.reconcile(key).await }
        });
}

/// The Deployments that could adopt a set without controller.
fn adopters_of(deployments: &Informer<Deployment>, set: &ReplicaSet) -> Vec<Key> {
    if gantry_operator::controller_of(set).is_some() || set.metadata.labels.is_none() {
        return Vec::new();
    }
    let namespace = set.metadata.namespace.as_deref().unwrap_or("");
    let all = deployments.list_in(namespace);
    let matching = all.iter().filter(|deployment| {
        deployment.spec.as_ref().is_some_and(|spec| Labels::of(&spec.selector).matches(&set.metadata))
    });
    matching.map(|deployment| Key::of(&**deployment)).collect()
}

fn deployment_of(sets: &Informer<ReplicaSet>, pod: &Pod) -> Option<Key> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("");
    let owner = gantry_operator::controller_of(pod).filter(|owner| owner.kind == "ReplicaSet")?;
    let set = sets.get(&Key::new(namespace, &owner.name))?;
    let deployment = gantry_operator::controller_of(&*set).filter(|owner| owner.kind == "Deployment")?;
    Some(Key::new(namespace, &deployment.name))
}

impl Deployments {
    async fn reconcile(&self, key: Key) -> Result<Action, ReconcileError> {
        let Some(deployment) = self.deployments.get(&key) else {
            self.writes.forget(&key);
            return Ok(Action::await_change());
        };
        if !self.writes.settled(&key) {
            return Ok(Action::requeue_after(Duration::from_secs(5)));
        }
        let selector = deployment.spec.as_ref().map(|spec| Labels::of(&spec.selector));
        let Some(labels) = selector.filter(|labels| !labels.is_empty()) else {
            let message = "This deployment is selecting all pods. A non-empty selector is required.";
            self.recorder.event(&*deployment, EventType::Warning, "SelectingAll", message);
            return Ok(Action::await_change());
        };
        let sets = self.claim_sets(&key, &deployment, &labels).await?;
        let uids = sets.iter().filter_map(|set| set.metadata.uid.as_deref());
        let pods: Vec<Arc<Pod>> = uids.flat_map(|uid| self.pods_by_owner.get(uid)).collect();
        let now_ms = self.clock.now_ms();
        let plan = plan::plan(&deployment, &sets, &pods, now_ms);
        for step in plan.steps {
            if let Some(status) = self.take(&key, &deployment, step, now_ms).await? {
                self.update_status(&key, &deployment, status).await?;
                return Ok(Action::await_change());
            }
        }
        if let Some(revision) = plan.revision {
            self.note_revision(&key, &deployment, revision).await?;
        }
        self.update_status(&key, &deployment, plan.status).await?;
        Ok(plan.look_again.map_or(Action::await_change(), Action::requeue_after))
    }

    async fn claim_sets(
        &self,
        key: &Key,
        deployment: &Deployment,
        labels: &Labels,
    ) -> Result<Vec<Arc<ReplicaSet>>, ReconcileError> {
        let api: Api<ReplicaSet> = Api::namespaced(self.client.clone(), key.namespace());
        let mut candidates = self.sets_by_owner.get(deployment.metadata.uid.as_deref().unwrap_or(""));
        candidates.extend(self.sets_by_owner.get(&orphan_of(key.namespace())));
        let mut own = Vec::new();
        for set in candidates {
            match claim::claim(&deployment.metadata, labels, &set.metadata) {
                Claim::Own => own.push(set),
                Claim::Adopt => {
                    let adopted = claim::adopt(&api, deployment, &*set).await?;
                    self.writes.wrote(key, &self.sets, &adopted);
                    own.push(Arc::new(adopted));
                }
                Claim::Release => {
                    if let Some(released) = ignore_missing(claim::release(&api, deployment, &*set).await)? {
                        self.writes.wrote(key, &self.sets, &released);
                    }
                }
                Claim::Ignore => {}
            }
        }
        Ok(own)
    }

    /// Carries out one step. A status is returned when the plan cannot go on and that status says why.
    async fn take(
        &self,
        key: &Key,
        deployment: &Deployment,
        step: Step,
        now_ms: i64,
    ) -> Result<Option<DeploymentStatus>, ReconcileError> {
        let api: Api<ReplicaSet> = Api::namespaced(self.client.clone(), key.namespace());
        match step {
            Step::Create(set) => return self.create(key, deployment, &api, &set, now_ms).await,
            Step::Update { set, replicas_before } => {
                let replaced = api.replace(&set.name_any(), &PostParams::default(), &set).await?;
                self.writes.wrote(key, &self.sets, &replaced);
                self.tell_scaling(deployment, &set, replicas_before);
            }
            Step::Delete(set) => {
                let preconditions = Preconditions {
                    uid: set.metadata.uid.clone(),
                    resource_version: set.metadata.resource_version.clone(),
                };
                let params = DeleteParams::background().preconditions(preconditions);
                if ignore_missing(api.delete(&set.name_any(), &params).await)?.is_some() {
                    self.writes.deleted(key, &self.sets, &*set);
                }
            }
        }
        Ok(None)
    }

    async fn create(
        &self,
        key: &Key,
        deployment: &Deployment,
        api: &Api<ReplicaSet>,
        set: &ReplicaSet,
        now_ms: i64,
    ) -> Result<Option<DeploymentStatus>, ReconcileError> {
        match api.create(&PostParams::default(), set).await {
            Ok(created) => {
                self.writes.wrote(key, &self.sets, &created);
                self.tell_scaling(deployment, set, 0);
                Ok(None)
            }
            Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {
                let known = ignore_missing(api.get(&set.name_any()).await)?;
                if known.is_some_and(|known| is_ours(deployment, set, &known)) {
                    // Created before, only not seen yet; its event leads back here.
                    return Err("the new replica set is not in the store yet".into());
                }
                let mut status = deployment.status.clone().unwrap_or_default();
                status.collision_count = Some(status.collision_count.unwrap_or(0).saturating_add(1));
                Ok(Some(status))
            }
            Err(error) => {
                let message = format!(
                    "Failed to create new replica set \"{}\": {}",
                    set.name_any(),
                    message_of(&error)
                );
                self.recorder.event(deployment, EventType::Warning, "ReplicaSetCreateError", message.clone());
                let mut status = deployment.status.clone().unwrap_or_default();
                status::note_create_error(&mut status, message, now_ms);
                self.update_status(key, deployment, status).await?;
                Err(error.into())
            }
        }
    }

    fn tell_scaling(&self, deployment: &Deployment, set: &ReplicaSet, before: i32) {
        let after = sets::size(set);
        if before != after {
            let direction = if after > before { "up" } else { "down" };
            let message =
                format!("Scaled {direction} replica set {} from {before} to {after}", set.name_any());
            self.recorder.event(deployment, EventType::Normal, "ScalingReplicaSet", message);
        }
    }

    async fn note_revision(
        &self,
        key: &Key,
        deployment: &Deployment,
        revision: i64,
    ) -> Result<(), ReconcileError> {
        let revision = revision.to_string();
        let annotations = deployment.metadata.annotations.as_ref();
        if annotations.and_then(|annotations| annotations.get(sets::REVISION)) == Some(&revision) {
            return Ok(());
        }
        let patch = json!({ "metadata": {
            "uid": deployment.metadata.uid,
            "annotations": { sets::REVISION: revision },
        }});
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), key.namespace());
        let patched = api.patch(&deployment.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await;
        if let Some(patched) = ignore_missing(patched)? {
            self.writes.wrote(key, &self.deployments, &patched);
        }
        Ok(())
    }

    async fn update_status(
        &self,
        key: &Key,
        deployment: &Deployment,
        status: DeploymentStatus,
    ) -> Result<(), ReconcileError> {
        if deployment.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let mut updated = deployment.clone();
        // The annotation written a moment ago has changed the version, which is ours to overwrite.
        updated.metadata.resource_version = None;
        updated.status = Some(status);
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), key.namespace());
        let replaced = api.replace_status(&deployment.name_any(), &PostParams::default(), &updated).await;
        if let Some(replaced) = ignore_missing(replaced)? {
            self.writes.wrote(key, &self.deployments, &replaced);
        }
        Ok(())
    }
}

fn is_ours(deployment: &Deployment, wanted: &ReplicaSet, known: &ReplicaSet) -> bool {
    let controlled = gantry_operator::controller_of(known).map(|owner| Some(&owner.uid))
        == Some(deployment.metadata.uid.as_ref());
    let template =
        |set: &ReplicaSet| set.spec.as_ref().and_then(|spec| spec.template.clone()).unwrap_or_default();
    controlled && template::same(&template(wanted), &template(known))
}
