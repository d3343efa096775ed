//! The end of a namespace: its contents are deleted, and when nothing is left so is the namespace.

use std::sync::Arc;
use std::time::Duration;

use gantry_operator::{Action, Informer, Key, MetaChange, Operator, ReconcileError, Trigger};
use k8s_openapi::api::core::v1::Namespace;
use kube::Client;
use kube::api::{Api, ApiResource, DeleteParams, ListParams, PostParams};
use kube::core::Request;

use crate::inventory::{Inventory, KnownKind, ObjectId};
use crate::replicaset::ignore_missing;

/// The finalizer in `spec`, which stands for the contents.
const CONTENTS: &str = "kubernetes";
/// Deletions wake the controller; this is for those that cannot be seen.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

pub(crate) struct Namespaces {
    client: Client,
    namespaces: Informer<Namespace>,
    inventory: Inventory,
    trigger: Trigger,
}

pub(crate) fn register(operator: &Operator, inventory: &Inventory) -> Arc<Namespaces> {
    let controller = operator.controller::<Namespace>("namespace").concurrency(4);
    let this = Arc::new(Namespaces {
        client: operator.client().clone(),
        namespaces: controller.store(),
        inventory: inventory.clone(),
        trigger: controller.trigger(),
    });
    let namespaces = this.clone();
    controller.reconcile(move |key| {
        let this = this.clone();
        async move { this.reconcile(key).await }
    });
    namespaces
}

fn is_ending(namespace: &Namespace) -> bool {
    namespace.metadata.deletion_timestamp.is_some()
}

impl Namespaces {
    /// Hears of every object that goes: it may have been the last of its namespace.
    pub(crate) fn hear(&self, id: &ObjectId, change: MetaChange<'_>) {
        if change.new.is_some() || id.key.namespace().is_empty() {
            return;
        }
        let namespace = Key::cluster(id.key.namespace());
        if self.namespaces.get(&namespace).is_some_and(|namespace| is_ending(&namespace)) {
            self.trigger.now(namespace);
        }
    }

    async fn reconcile(&self, key: Key) -> Result<Action, ReconcileError> {
        let Some(namespace) = self.namespaces.get(&key).filter(|namespace| is_ending(namespace)) else {
            return Ok(Action::await_change());
        };
        let finalizers = namespace.spec.as_ref().and_then(|spec| spec.finalizers.clone()).unwrap_or_default();
        if !finalizers.iter().any(|finalizer| finalizer == CONTENTS) {
            return Ok(Action::await_change());
        }
        if !self.inventory.is_complete() {
            return Ok(Action::requeue_after(Duration::from_millis(50)));
        }
        let kinds: Vec<KnownKind> =
            self.inventory.kinds().into_iter().filter(|kind| kind.namespaced).collect();
        // The stores say quickly that something is left; that nothing is left only the server can say.
        let seen =
            kinds.iter().filter_map(|kind| kind.informer.as_ref()).any(|one| one.has_any_in(key.name()));
        let mut left = false;
        for kind in &kinds {
            let worth_asking = match &kind.informer {
                Some(informer) => !seen || informer.has_any_in(key.name()),
                None => !seen,
            };
            if worth_asking {
                self.delete_all(key.name(), kind).await?;
                left |= self.has_any(key.name(), &kind.resource).await?;
            }
        }
        if seen || left {
            return Ok(Action::requeue_after(LOOK_AGAIN));
        }
        self.finalize(&namespace, &finalizers).await?;
        Ok(Action::await_change())
    }

    async fn delete_all(&self, namespace: &str, kind: &KnownKind) -> Result<(), ReconcileError> {
        let url = url(namespace, &kind.resource);
        let params = DeleteParams::background();
        if kind.deletes_collections {
            let request = Request::new(url).delete_collection(&params, &ListParams::default())?;
            ignore_missing(self.client.request_text(request).await)?;
            return Ok(());
        }
        for name in self.names(&url, &ListParams::default()).await? {
            let request = Request::new(url.clone()).delete(&name, &params)?;
            ignore_missing(self.client.request_text(request).await)?;
        }
        Ok(())
    }

    async fn has_any(&self, namespace: &str, resource: &ApiResource) -> Result<bool, ReconcileError> {
        let names = self.names(&url(namespace, resource), &ListParams::default().limit(1)).await?;
        Ok(!names.is_empty())
    }

    async fn names(&self, url: &str, params: &ListParams) -> Result<Vec<String>, ReconcileError> {
        let request = Request::new(url).list_metadata(params)?;
        let Some(text) = ignore_missing(self.client.request_text(request).await)? else {
            return Ok(Vec::new());
        };
        let list: serde_json::Value = serde_json::from_str(&text)?;
        let items = list.get("items").and_then(serde_json::Value::as_array);
        let names = items.into_iter().flatten().filter_map(|item| item.pointer("/metadata/name")?.as_str());
        Ok(names.map(str::to_owned).collect())
    }

    async fn finalize(&self, namespace: &Namespace, finalizers: &[String]) -> Result<(), ReconcileError> {
        let mut finalized = namespace.clone();
        let left = finalizers.iter().filter(|finalizer| *finalizer != CONTENTS).cloned().collect();
        finalized.spec.get_or_insert_default().finalizers = Some(left);
        let api: Api<Namespace> = Api::all(self.client.clone());
        let name = namespace.metadata.name.as_deref().unwrap_or("");
        ignore_missing(api.replace_subresource("finalize", name, &PostParams::default(), &finalized).await)?;
        Ok(())
    }
}

fn url(namespace: &str, resource: &ApiResource) -> String {
    <kube::core::DynamicObject as kube::Resource>::url_path(resource, Some(namespace))
}
