//! ReplicaSets: keep a number of pods of one template.

mod plan;
mod rank;

use std::sync::Arc;

use futures::future::join_all;
use gantry_operator::{
    Action, EventType, Informer, Key, Operator, ReconcileError, Recorder, StoreIndex, Writes,
};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, PostParams, Preconditions};
use kube::{Client, ResourceExt};

use crate::claim::{self, Claim, Labels};
use crate::pods;
use crate::stores::Stores;

pub(crate) use plan::replicas;

struct ReplicaSets {
    client: Client,
    clock: Arc<dyn gantry_clock::Clock>,
    recorder: Recorder,
    sets: Informer<ReplicaSet>,
    pods: Informer<Pod>,
    pods_by_owner: StoreIndex<Pod>,
    sets_by_owner: StoreIndex<ReplicaSet>,
    writes: Writes,
}

pub(crate) fn register(operator: &Operator, stores: &Stores) {
    let controller = operator.controller::<ReplicaSet>("replicaset").concurrency(8);
    let sets = controller.store();
    let selectors = sets.clone();
    let this = Arc::new(ReplicaSets {
        client: operator.client().clone(),
        clock: operator.clock().clone(),
        recorder: operator.recorder("replicaset-controller"),
        sets,
        pods: stores.pods.clone(),
        pods_by_owner: stores.pods_by_owner.clone(),
        sets_by_owner: stores.replica_sets_by_owner.clone(),
        writes: Writes::new(operator.clock().clone()),
    });
    controller.owns::<Pod>().watches(move |pod: &Pod| orphan_matches(&selectors, pod)).reconcile(
        move |key| {
            let this = this.clone();
            async move { this.reconcile(key).await }
        },
    );
}

/// The sets that could adopt a pod without controller.
fn orphan_matches(sets: &Informer<ReplicaSet>, pod: &Pod) -> Vec<Key> {
    if gantry_operator::controller_of(pod).is_some() || pod.metadata.labels.is_none() {
        return Vec::new();
    }
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("");
    let all = sets.list_in(namespace);
    let matching = all.iter().filter(|set| {
        set.spec.as_ref().is_some_and(|spec| Labels::of(&spec.selector).matches(&pod.metadata))
    });
    matching.map(|set| Key::of(&**set)).collect()
}

impl ReplicaSets {
    async fn reconcile(&self, key: Key) -> Result<Action, ReconcileError> {
        let Some(set) = self.sets.get(&key) else {
            self.writes.forget(&key);
            return Ok(Action::await_change());
        };
        if !self.writes.settled(&key) {
            // The events that settle it lead back here; the delay is for a watch that has stopped.
            return Ok(Action::requeue_after(std::time::Duration::from_secs(5)));
        }
        let own = self.claim_pods(&key, &set).await?;
        let now_ms = self.clock.now_ms();
        let failure = if set.metadata.deletion_timestamp.is_some() {
            None
        } else {
            self.bring_to_size(&key, &set, &own, now_ms).await
        };
        self.update_status(&key, &set, &own, failure.as_ref(), now_ms).await?;
        if let Some((_, _, error)) = failure {
            return Err(error);
        }
        Ok(plan::next_available(&set, &own, now_ms).map_or(Action::await_change(), Action::requeue_after))
    }

    async fn claim_pods(&self, key: &Key, set: &ReplicaSet) -> Result<Vec<Arc<Pod>>, ReconcileError> {
        let Some(spec) = &set.spec else { return Ok(Vec::new()) };
        let labels = Labels::of(&spec.selector);
        let api: Api<Pod> = Api::namespaced(self.client.clone(), key.namespace());
        let mut candidates = self.pods_by_owner.get(set.metadata.uid.as_deref().unwrap_or(""));
        candidates.extend(self.pods_by_owner.get(&orphan_of(key.namespace())));
        let mut own = Vec::new();
        for pod in candidates {
            match claim::claim(&set.metadata, &labels, &pod.metadata) {
                Claim::Own => own.push(pod),
                Claim::Adopt if pods::is_active(&pod) => {
                    let adopted = claim::adopt(&api, set, &*pod).await?;
                    self.writes.wrote(key, &self.pods, &adopted);
                    own.push(Arc::new(adopted));
                }
                Claim::Release => {
                    let released = claim::release(&api, set, &*pod).await;
                    // A pod that is gone needs no release.
                    if let Some(released) = ignore_missing(released)? {
                        self.writes.wrote(key, &self.pods, &released);
                    }
                }
                Claim::Adopt | Claim::Ignore => {}
            }
        }
        Ok(own)
    }

    /// Creates or deletes pods; returns the reason, message and error of the first failure.
    async fn bring_to_size(
        &self,
        key: &Key,
        set: &ReplicaSet,
        own: &[Arc<Pod>],
        now_ms: i64,
    ) -> Option<(&'static str, String, ReconcileError)> {
        let siblings = self.siblings(set, own);
        let change = plan::change(set, own, &siblings, now_ms);
        if change.create > 0 {
            let error = self.create(key, set, change.create).await?;
            return Some(("FailedCreate", error.to_string(), error));
        }
        if !change.delete.is_empty() {
            let error = self.delete(key, set, change.delete).await?;
            return Some(("FailedDelete", error.to_string(), error));
        }
        None
    }

    /// All pods of all sets of the same Deployment.
    fn siblings(&self, set: &ReplicaSet, own: &[Arc<Pod>]) -> Vec<Arc<Pod>> {
        match gantry_operator::controller_of(set) {
            Some(owner) => {
                let sets = self.sets_by_owner.get(&owner.uid);
                sets.iter()
                    .flat_map(|set| self.pods_by_owner.get(set.metadata.uid.as_deref().unwrap_or("")))
                    .collect()
            }
            None => own.to_vec(),
        }
    }

    /// Creates pods in batches that double as long as they succeed, so that a refusal is met once, not often.
    async fn create(&self, key: &Key, set: &ReplicaSet, count: usize) -> Option<ReconcileError> {
        let template = set.spec.as_ref().and_then(|spec| spec.template.as_ref()).cloned().unwrap_or_default();
        let mut pod = pods::from_template(&template, pods::controller_reference(set));
        pod.metadata.generate_name = Some(pods::generate_name(&set.name_any()));
        pod.metadata.namespace = Some(key.namespace().to_owned());
        let api: Api<Pod> = Api::namespaced(self.client.clone(), key.namespace());
        let params = PostParams::default();
        let (mut left, mut batch) = (count, 1usize);
        while left > 0 {
            let size = batch.min(left);
            let results = join_all((0..size).map(|_| api.create(&params, &pod))).await;
            let mut failed = None;
            for result in results {
                match result {
                    Ok(created) => {
                        self.writes.wrote(key, &self.pods, &created);
                        let message = format!("Created pod: {}", created.name_any());
                        self.recorder.event(set, EventType::Normal, "SuccessfulCreate", message);
                    }
                    // The namespace is going away; so is the set.
                    Err(kube::Error::Api(status)) if namespace_is_terminating(&status) => return None,
                    Err(error) => {
                        let message = format!("Error creating: {}", message_of(&error));
                        self.recorder.event(set, EventType::Warning, "FailedCreate", message);
                        failed = Some(error);
                    }
                }
            }
            if let Some(error) = failed {
                return Some(error.into());
            }
            left -= size;
            batch = batch.saturating_mul(2);
        }
        None
    }

    async fn delete(&self, key: &Key, set: &ReplicaSet, doomed: Vec<Arc<Pod>>) -> Option<ReconcileError> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), key.namespace());
        let deletions = doomed.iter().map(|pod| {
            let api = &api;
            async move {
                let preconditions = Preconditions { uid: pod.metadata.uid.clone(), resource_version: None };
                let params = DeleteParams::default().preconditions(preconditions);
                (pod, api.delete(&pod.name_any(), &params).await)
            }
        });
        let mut failed = None;
        for (pod, result) in join_all(deletions).await {
            match result {
                Ok(_) => {
                    self.writes.deleted(key, &self.pods, &**pod);
                    let message = format!("Deleted pod: {}", pod.name_any());
                    self.recorder.event(set, EventType::Normal, "SuccessfulDelete", message);
                }
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => {
                    let message = format!("Error deleting: {}", message_of(&error));
                    self.recorder.event(set, EventType::Warning, "FailedDelete", message);
                    failed = Some(error);
                }
            }
        }
        failed.map(Into::into)
    }

    async fn update_status(
        &self,
        key: &Key,
        set: &ReplicaSet,
        own: &[Arc<Pod>],
        failure: Option<&(&'static str, String, ReconcileError)>,
        now_ms: i64,
    ) -> Result<(), ReconcileError> {
        let failure = failure.map(|(reason, message, _)| (*reason, message.clone()));
        let status = plan::status(set, own, failure, now_ms);
        if set.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let mut updated = set.clone();
        updated.status = Some(status);
        let api: Api<ReplicaSet> = Api::namespaced(self.client.clone(), key.namespace());
        let replaced = api.replace_status(&set.name_any(), &PostParams::default(), &updated).await;
        if let Some(replaced) = ignore_missing(replaced)? {
            self.writes.wrote(key, &self.sets, &replaced);
        }
        Ok(())
    }
}

/// The value under which objects of `namespace` without controller are indexed.
pub(crate) fn orphan_of(namespace: &str) -> String {
    format!("orphan in {namespace}")
}

/// Turns "not found" into nothing.
pub(crate) fn ignore_missing<T>(result: Result<T, kube::Error>) -> Result<Option<T>, kube::Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(error),
    }
}

/// What the server said, without the wrapping.
pub(crate) fn message_of(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

fn namespace_is_terminating(status: &kube::core::Status) -> bool {
    status
        .details
        .as_ref()
        .is_some_and(|details| details.causes.iter().any(|cause| cause.reason == "NamespaceTerminating"))
}
