//! The garbage collector: what is owned goes with its owners, in the background, before them, or not at all.
//!
//! It looks at objects, not at events: each object with owners is judged by the state of these owners, and an
//! owner that seems to be absent is asked for at the server before anything is deleted for it.

mod decide;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use gantry_operator::{
    Action, Key, MetaChange, MetaObject, Operator, ReconcileError, RetryDelay, WorkQueue, group_of,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, Preconditions, PropagationPolicy};
use kube::core::ObjectMeta;
use parking_lot::RwLock;
use serde_json::json;

use crate::inventory::{Inventory, KnownKind, ObjectId};
use crate::replicaset::ignore_missing;
use decide::{Decision, FOREGROUND, ORPHAN, Owner, decide, has_finalizer, waits_for};

/// Objects that are asked for at once.
const PAGE: u32 = 500;

pub(crate) struct Collector {
    client: Client,
    inventory: Inventory,
    queue: Arc<WorkQueue<ObjectId>>,
    /// Objects by the uid of each of their owners.
    dependents: RwLock<HashMap<String, HashSet<ObjectId>>>,
}

/// Adds the collector; the caller feeds it with [`Collector::hear`].
pub(crate) fn register(operator: &Operator, inventory: &Inventory) -> Arc<Collector> {
    let queue = Arc::new(WorkQueue::new(RetryDelay::default()));
    let this = Arc::new(Collector {
        client: operator.client().clone(),
        inventory: inventory.clone(),
        queue: queue.clone(),
        dependents: RwLock::default(),
    });
    let collector = this.clone();
    operator.worker("garbage-collector", queue, 8, move |id| {
        let this = this.clone();
        async move { this.collect(id).await }
    });
    collector
}

impl Collector {
    /// Notes who is owned by whom and asks for judgement where something changed.
    pub(crate) fn hear(&self, id: &ObjectId, change: MetaChange<'_>) {
        let owners = |meta: Option<&ObjectMeta>| -> HashSet<String> {
            let references = meta.and_then(|meta| meta.owner_references.clone()).unwrap_or_default();
            references.into_iter().map(|reference| reference.uid).collect()
        };
        let (old, new) = (owners(change.old), owners(change.new));
        self.index(id, &old, &new);
        match change.new {
            Some(meta) => {
                let judged_before = change.old.is_some_and(|before| {
                    before.owner_references == meta.owner_references
                        && before.finalizers == meta.finalizers
                        && before.deletion_timestamp == meta.deletion_timestamp
                });
                let concerns = meta.owner_references.is_some() || meta.deletion_timestamp.is_some();
                if concerns && !judged_before {
                    self.queue.add(id.clone());
                }
            }
            None => {
                // What it owned is without owner now, and its owners may have waited for it to go.
                let uid = change.old.and_then(|meta| meta.uid.clone()).unwrap_or_default();
                for dependent in self.dependents_of(&uid) {
                    self.queue.add(dependent);
                }
                for reference in
                    change.old.and_then(|meta| meta.owner_references.as_ref()).into_iter().flatten()
                {
                    if let Some(owner) = self.owner_id(id, reference) {
                        self.queue.add(owner);
                    }
                }
            }
        }
    }

    fn index(&self, id: &ObjectId, old: &HashSet<String>, new: &HashSet<String>) {
        if old == new && !old.is_empty() {
            return;
        }
        let mut dependents = self.dependents.write();
        for uid in old.difference(new) {
            if let Some(of_owner) = dependents.get_mut(uid) {
                of_owner.remove(id);
                if of_owner.is_empty() {
                    dependents.remove(uid);
                }
            }
        }
        for uid in new.difference(old) {
            dependents.entry(uid.clone()).or_default().insert(id.clone());
        }
    }

    fn dependents_of(&self, uid: &str) -> Vec<ObjectId> {
        self.dependents.read().get(uid).map(|all| all.iter().cloned().collect()).unwrap_or_default()
    }

    fn owner_id(&self, id: &ObjectId, reference: &OwnerReference) -> Option<ObjectId> {
        let kind = self.inventory.find(group_of(&reference.api_version), &reference.kind)?;
        Some(ObjectId { key: owner_key(&kind, id, reference), resource: Arc::new(kind.resource) })
    }

    fn metadata(&self, id: &ObjectId) -> Option<ObjectMeta> {
        let kind = self.inventory.find(&id.resource.group, &id.resource.kind)?;
        kind.informer?.metadata(&id.key)
    }

    async fn collect(&self, id: ObjectId) -> Result<Action, ReconcileError> {
        if !self.inventory.is_complete() {
            return Ok(Action::requeue_after(Duration::from_millis(50)));
        }
        let Some(meta) = self.metadata(&id) else { return Ok(Action::await_change()) };
        let uid = meta.uid.clone().unwrap_or_default();
        if meta.deletion_timestamp.is_some() {
            if has_finalizer(&meta, ORPHAN) {
                self.orphan_dependents(&id, &uid).await?;
                self.remove_finalizer(&id, &meta, ORPHAN).await?;
            } else if has_finalizer(&meta, FOREGROUND) {
                self.go_after_dependents(&id, &meta, &uid).await?;
            }
            return Ok(Action::await_change());
        }
        let mut owners = Vec::new();
        for reference in meta.owner_references.iter().flatten() {
            owners.push(self.state_of(&id, reference).await?);
        }
        let has_dependents = !self.dependents_of(&uid).is_empty();
        match decide(&meta, &owners, has_dependents) {
            Decision::Keep => {}
            Decision::KeepOnly(references) => {
                self.patch(&id, &meta, json!({ "ownerReferences": references })).await?;
            }
            Decision::Delete { foreground, orphan } => {
                let policy = match (foreground, orphan) {
                    (true, _) => PropagationPolicy::Foreground,
                    (false, true) => PropagationPolicy::Orphan,
                    (false, false) => PropagationPolicy::Background,
                };
                let params = DeleteParams {
                    propagation_policy: Some(policy),
                    preconditions: Some(Preconditions {
                        uid: meta.uid.clone(),
                        resource_version: meta.resource_version.clone(),
                    }),
                    ..DeleteParams::default()
                };
                tracing::debug!(object = %id, "collecting an object without owner");
                self.delete(&id, &params).await?;
            }
        }
        Ok(Action::await_change())
    }

    /// Looks the owner up, first in the stores and, before calling it absent, at the server.
    async fn state_of(&self, id: &ObjectId, reference: &OwnerReference) -> Result<Owner, ReconcileError> {
        // Nothing is deleted because of a kind that is not known (yet).
        let Some(kind) = self.inventory.find(group_of(&reference.api_version), &reference.kind) else {
            return Ok(Owner::Solid);
        };
        if kind.namespaced && id.key.namespace().is_empty() {
            // A cluster-scoped object cannot have a namespaced owner; upstream leaves it alone as well.
            return Ok(Owner::Solid);
        }
        let key = owner_key(&kind, id, reference);
        let known = kind.informer.as_ref().and_then(|informer| informer.metadata(&key));
        let known = known.filter(|meta| meta.uid.as_deref() == Some(&reference.uid));
        let owner = match known {
            Some(meta) => Some(meta),
            None => {
                let found = ignore_missing(self.api(&kind.resource, &key).get(key.name()).await)?;
                found.map(|object| object.metadata).filter(|meta| meta.uid.as_deref() == Some(&reference.uid))
            }
        };
        Ok(match owner {
            None => Owner::Absent,
            Some(owner) if waits_for(&owner, reference) => Owner::Waiting,
            Some(_) => Owner::Solid,
        })
    }

    /// Lets an object in foreground deletion go when nothing it must wait for is left.
    async fn go_after_dependents(
        &self,
        id: &ObjectId,
        meta: &ObjectMeta,
        uid: &str,
    ) -> Result<(), ReconcileError> {
        let dependents = self.dependents_of(uid);
        let blocking = dependents.iter().any(|dependent| {
            let references =
                self.metadata(dependent).and_then(|meta| meta.owner_references).unwrap_or_default();
            references
                .iter()
                .any(|reference| reference.uid == uid && reference.block_owner_deletion == Some(true))
        });
        if !blocking {
            return self.remove_finalizer(id, meta, FOREGROUND).await;
        }
        for dependent in dependents {
            self.queue.add(dependent);
        }
        Ok(())
    }

    /// The dependents are asked for at the server: a store may not have heard yet of what was made a moment ago, and that
    /// would go with an owner which is to leave it.
    async fn orphan_dependents(&self, owner: &ObjectId, uid: &str) -> Result<(), ReconcileError> {
        let namespace = owner.key.namespace();
        for kind in self.inventory.kinds().iter().filter(|kind| kind.informer.is_some()) {
            // What has a namespace owns nothing outside of it.
            if !namespace.is_empty() && !kind.namespaced {
                continue;
            }
            let resource = Arc::new(kind.resource.clone());
            let api = self.api(&resource, &Key::new(namespace, ""));
            let mut page = ListParams::default().limit(PAGE);
            loop {
                let found = api.list_metadata(&page).await?;
                for meta in found.items.into_iter().map(|object| object.metadata) {
                    let references = meta.owner_references.as_deref().unwrap_or_default();
                    let left: Vec<_> = references.iter().filter(|reference| reference.uid != uid).collect();
                    if left.len() == references.len() {
                        continue;
                    }
                    let key = Key::new(
                        meta.namespace.as_deref().unwrap_or_default(),
                        meta.name.as_deref().unwrap_or_default(),
                    );
                    let dependent = ObjectId { resource: resource.clone(), key };
                    self.patch(&dependent, &meta, json!({ "ownerReferences": left })).await?;
                }
                match found.metadata.continue_.filter(|token| !token.is_empty()) {
                    Some(token) => page.continue_token = Some(token),
                    None => break,
                }
            }
        }
        Ok(())
    }

    async fn remove_finalizer(
        &self,
        id: &ObjectId,
        meta: &ObjectMeta,
        name: &str,
    ) -> Result<(), ReconcileError> {
        let finalizers = meta.finalizers.iter().flatten().filter(|finalizer| *finalizer != name);
        let left: Vec<&String> = finalizers.collect();
        self.patch(id, meta, json!({ "finalizers": left })).await
    }

    async fn patch(
        &self,
        id: &ObjectId,
        meta: &ObjectMeta,
        changes: serde_json::Value,
    ) -> Result<(), ReconcileError> {
        let mut metadata = changes;
        metadata["uid"] = json!(meta.uid);
        metadata["resourceVersion"] = json!(meta.resource_version);
        let patch = Patch::Merge(json!({ "metadata": metadata }));
        let api = self.api(&id.resource, &id.key);
        ignore_missing(api.patch(id.key.name(), &PatchParams::default(), &patch).await)?;
        Ok(())
    }

    async fn delete(&self, id: &ObjectId, params: &DeleteParams) -> Result<(), ReconcileError> {
        let url = self.api(&id.resource, &id.key).resource_url().to_owned();
        let request = kube::core::Request::new(url).delete(id.key.name(), params)?;
        ignore_missing(self.client.request_text(request).await)?;
        Ok(())
    }

    fn api(&self, resource: &kube::api::ApiResource, key: &Key) -> Api<MetaObject> {
        match key.namespace() {
            "" => Api::all_with(self.client.clone(), resource),
            namespace => Api::namespaced_with(self.client.clone(), namespace, resource),
        }
    }
}

fn owner_key(kind: &KnownKind, dependent: &ObjectId, reference: &OwnerReference) -> Key {
    let namespace = if kind.namespaced { dependent.key.namespace() } else { "" };
    Key::new(namespace, &reference.name)
}
