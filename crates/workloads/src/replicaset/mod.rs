//! ReplicaSets: keep a number of pods of one template.

mod plan;
mod rank;

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use gantry_operator::{Action, Informer, Key, Operator, ReconcileError};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt};

use crate::claim::Labels;
use crate::pod_control::PodControl;
use crate::pods;
use crate::stores::Stores;

pub(crate) use plan::replicas;

struct ReplicaSets {
    client: Client,
    clock: Arc<dyn gantry_clock::Clock>,
    sets: Informer<ReplicaSet>,
    stores: Stores,
    control: PodControl,
}

/// What went wrong while bringing a set to size.
struct SizeError {
    reason: &'static str,
    error: kube::Error,
}

pub(crate) fn register(operator: &Operator, stores: &Stores) {
    let controller = operator.controller::<ReplicaSet>("replicaset").concurrency(8);
    let sets = controller.store();
    let selectors = sets.clone();
    let this = Arc::new(ReplicaSets {
        client: operator.client().clone(),
        clock: operator.clock().clone(),
        sets,
        stores: stores.clone(),
        control: PodControl::new(operator, stores, "replicaset-controller"),
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
            self.control.writes.forget(&key);
            return Ok(Action::await_change());
        };
        if !self.control.writes.settled(&key) {
            // The events that settle it lead back here; the delay is for a watch that has stopped.
            return Ok(Action::requeue_after(Duration::from_secs(5)));
        }
        let labels = set.spec.as_ref().map(|spec| Labels::of(&spec.selector)).unwrap_or_else(Labels::none);
        let own = self.control.claim(&key, &*set, &labels).await?;
        let now_ms = self.clock.now_ms();
        let sized = match set.metadata.deletion_timestamp {
            Some(_) => Ok(()),
            None => self.bring_to_size(&key, &set, &own, now_ms).await,
        };
        self.update_status(&key, &set, &own, sized.as_ref().err(), now_ms).await?;
        if let Err(failed) = sized {
            return Err(failed.error.into());
        }
        Ok(plan::next_available(&set, &own, now_ms).map_or(Action::await_change(), Action::requeue_after))
    }

    async fn bring_to_size(
        &self,
        key: &Key,
        set: &ReplicaSet,
        own: &[Arc<Pod>],
        now_ms: i64,
    ) -> Result<(), SizeError> {
        let change = plan::change(set, own, &self.siblings(set, own), now_ms);
        self.create(key, set, change.create)
            .await
            .map_err(|error| SizeError { reason: "FailedCreate", error })?;
        let deletions = change.delete.iter().map(|pod| self.control.delete(key, set, pod));
        for result in join_all(deletions).await {
            result.map_err(|error| SizeError { reason: "FailedDelete", error })?;
        }
        Ok(())
    }

    /// All pods of all sets of the same Deployment.
    fn siblings(&self, set: &ReplicaSet, own: &[Arc<Pod>]) -> Vec<Arc<Pod>> {
        match gantry_operator::controller_of(set) {
            Some(owner) => {
                let sets = self.stores.replica_sets_by_owner.get(&owner.uid);
                sets.iter().flat_map(|set| self.control.owned_by(set.metadata.uid.as_deref())).collect()
            }
            None => own.to_vec(),
        }
    }

    /// Creates pods in batches that double as long as they succeed, so that a refusal is met once, not often.
    async fn create(&self, key: &Key, set: &ReplicaSet, count: usize) -> Result<(), kube::Error> {
        if count == 0 {
            return Ok(());
        }
        let template = set.spec.as_ref().and_then(|spec| spec.template.as_ref()).cloned().unwrap_or_default();
        let mut pod = pods::from_template(&template, pods::controller_reference(set));
        pod.metadata.generate_name = Some(pods::generate_name(&set.name_any()));
        pod.metadata.namespace = Some(key.namespace().to_owned());
        let (mut left, mut batch) = (count, 1usize);
        while left > 0 {
            let size = batch.min(left);
            for result in join_all((0..size).map(|_| self.control.create(key, set, &pod))).await {
                result?;
            }
            left -= size;
            batch = batch.saturating_mul(2);
        }
        Ok(())
    }

    async fn update_status(
        &self,
        key: &Key,
        set: &ReplicaSet,
        own: &[Arc<Pod>],
        failed: Option<&SizeError>,
        now_ms: i64,
    ) -> Result<(), ReconcileError> {
        let failure = failed.map(|failed| (failed.reason, message_of(&failed.error)));
        let status = plan::status(set, own, failure, now_ms);
        if set.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let mut updated = set.clone();
        updated.status = Some(status);
        let api: Api<ReplicaSet> = Api::namespaced(self.client.clone(), key.namespace());
        let replaced = api.replace_status(&set.name_any(), &PostParams::default(), &updated).await;
        if let Some(replaced) = ignore_missing(replaced)? {
            self.control.writes.wrote(key, &self.sets, &replaced);
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
