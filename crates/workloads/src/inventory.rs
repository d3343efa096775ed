//! All kinds the server has: which they are, and a metadata watch of each.
//!
//! Kinds that a controller watches anyway are not watched a second time. The list is renewed when a custom
//! resource definition or an API service changes.

use std::sync::Arc;
use std::time::Duration;

use gantry_operator::{AnyInformer, Informers, Key, MetaChange, MetaObject, Subscription};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::ApiResource;
use kube::discovery::{Discovery, Scope, verbs};
use parking_lot::RwLock;
use tokio::sync::watch;

/// Kinds of which there are many that never own or are owned.
const UNWATCHED: [(&str, &str); 2] = [("", "Event"), ("events.k8s.io", "Event")];

/// One kind of the server.
#[derive(Clone)]
pub(crate) struct KnownKind {
    pub(crate) resource: ApiResource,
    pub(crate) namespaced: bool,
    pub(crate) deletes_collections: bool,
    /// Its metadata; absent for kinds that are not watched.
    pub(crate) informer: Option<Arc<dyn AnyInformer>>,
}

/// An object of any kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ObjectId {
    pub(crate) resource: Arc<ApiResource>,
    pub(crate) key: Key,
}

impl std::fmt::Display for ObjectId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.resource.kind, self.key)
    }
}

type Hear = Arc<dyn Fn(&ObjectId, MetaChange<'_>) + Send + Sync>;

/// See the module's documentation. Cloning shares it.
#[derive(Clone)]
pub(crate) struct Inventory {
    informers: Informers,
    kinds: Arc<RwLock<Vec<KnownKind>>>,
    complete: watch::Sender<bool>,
}

impl Inventory {
    pub(crate) fn new(informers: &Informers) -> Inventory {
        Inventory { informers: informers.clone(), kinds: Arc::default(), complete: watch::Sender::new(false) }
    }

    pub(crate) fn kinds(&self) -> Vec<KnownKind> {
        self.kinds.read().clone()
    }

    /// The kind by group and name, in whatever version it is watched.
    pub(crate) fn find(&self, group: &str, kind: &str) -> Option<KnownKind> {
        let kinds = self.kinds.read();
        kinds.iter().find(|known| known.resource.group == group && known.resource.kind == kind).cloned()
    }

    /// True when every kind has been listed, so that what is absent in the stores does not exist.
    pub(crate) fn is_complete(&self) -> bool {
        let kinds = self.kinds.read();
        *self.complete.borrow()
            && kinds.iter().filter_map(|kind| kind.informer.as_ref()).all(|one| one.has_synced())
    }

    /// Keeps the list of kinds and tells `hear` of all changes of all objects, for as long as it is polled.
    pub(crate) async fn follow(&self, hear: Hear) {
        // Their metadata: only that one changed is of interest, and with their schemas they are large.
        let kind = ApiResource::erase::<CustomResourceDefinition>(&());
        let definitions = self.informers.of_type::<MetaObject>(kind);
        let mut changes = definitions.changes();
        definitions.synced().await;
        let mut watched: Vec<(ApiResource, Subscription)> = Vec::new();
        let mut pause = Duration::from_millis(100);
        loop {
            changes.mark_unchanged();
            match self.discover().await {
                Ok(kinds) => {
                    self.adopt(kinds, &mut watched, &hear);
                    self.complete.send_replace(true);
                    pause = Duration::from_millis(100);
                    if changes.changed().await.is_err() {
                        return;
                    }
                    // Definitions come in groups and are served a moment after they are stored.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(error) => {
                    tracing::warn!(%error, "the kinds of the server could not be listed");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(10));
                }
            }
        }
    }

    async fn discover(&self) -> Result<Vec<KnownKind>, kube::Error> {
        let client = self.informers.client().clone();
        let discovery = match Discovery::new(client.clone()).run_aggregated().await {
            Ok(discovery) => discovery,
            // Servers before 1.26 have only one document per group.
            Err(_) => Discovery::new(client).run().await?,
        };
        let mut kinds = Vec::new();
        for group in discovery.groups() {
            for (resource, capabilities) in group.recommended_resources() {
                let can = |verb| capabilities.supports_operation(verb);
                if !(can(verbs::LIST) && can(verbs::WATCH) && can(verbs::DELETE)) {
                    continue;
                }
                kinds.push(KnownKind {
                    namespaced: capabilities.scope == Scope::Namespaced,
                    deletes_collections: can(verbs::DELETE_COLLECTION),
                    resource,
                    informer: None,
                });
            }
        }
        Ok(kinds)
    }

    fn adopt(&self, mut kinds: Vec<KnownKind>, watched: &mut Vec<(ApiResource, Subscription)>, hear: &Hear) {
        let gone = |known: &ApiResource| !kinds.iter().any(|kind| kind.resource == *known);
        let (lost, kept): (Vec<_>, Vec<_>) =
            std::mem::take(watched).into_iter().partition(|(known, _)| gone(known));
        *watched = kept;
        for (resource, subscription) in lost {
            drop(subscription);
            self.informers.forget(&resource);
        }
        for kind in &mut kinds {
            let name = (kind.resource.group.as_str(), kind.resource.kind.as_str());
            if UNWATCHED.contains(&name) {
                continue;
            }
            let informer = self.informers.metadata(&kind.resource);
            if !watched.iter().any(|(known, _)| *known == kind.resource) {
                let resource = Arc::new(kind.resource.clone());
                let hear = hear.clone();
                let subscription = informer.subscribe_metadata(Arc::new(move |change| {
                    let Some(meta) = change.new.or(change.old) else { return };
                    let namespace = meta.namespace.as_deref().unwrap_or("");
                    let key = Key::new(namespace, meta.name.as_deref().unwrap_or(""));
                    hear(&ObjectId { resource: resource.clone(), key }, change);
                }));
                watched.push((kind.resource.clone(), subscription));
            }
            kind.informer = Some(informer);
        }
        *self.kinds.write() = kinds;
    }
}
