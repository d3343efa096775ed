//! Shared informers: one list-and-watch per kind, whoever asks, and a local store that all controllers read.
//!
//! Invariants: a kind is watched once per [`Informers`]; the store and its indexes are updated before any
//! subscriber hears of a change; subscribers hear changes of one object in the order of the server;
//! `managedFields` are never kept.

mod reflect;
mod store;

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use gantry_clock::Clock;
use kube::Client;
use kube::api::ApiResource;
use kube::core::{ObjectMeta, PartialObjectMeta};
use kube::{Resource, core::DynamicObject};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use crate::key::Key;
use store::Store;
pub use store::{Change, StoreIndex, Subscription};

/// What an object type needs to be informed about: a typed kind, `DynamicObject` or `PartialObjectMeta`.
pub trait Object:
    Resource<DynamicType: Clone> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
}

impl<K> Object for K where
    K: Resource<DynamicType: Clone> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
}

/// An object of which only the metadata is kept.
pub type MetaObject = PartialObjectMeta<DynamicObject>;

/// How informers list and watch.
#[derive(Clone, Debug)]
pub struct InformerSettings {
    /// Objects per page of the first list; 0 asks for one page.
    pub page_size: u32,
    /// After this long the server is asked to end a watch, which is then continued.
    pub watch_timeout: Duration,
    /// A watch that brings neither an event nor a bookmark for this long is started anew.
    pub idle_timeout: Duration,
    /// First and longest pause after a failed request.
    pub backoff: (Duration, Duration),
    /// Only this namespace is watched; then every kind asked for must be namespaced.
    pub namespace: Option<String>,
}

impl Default for InformerSettings {
    fn default() -> Self {
        InformerSettings {
            page_size: 500,
            watch_timeout: Duration::from_secs(290),
            idle_timeout: Duration::from_secs(320),
            backoff: (Duration::from_millis(100), Duration::from_secs(30)),
            namespace: None,
        }
    }
}

/// All informers of one operator. Cloning shares them.
///
/// An informer asked for before [`start`](Informers::start) begins then; one asked for later begins at once.
#[derive(Clone)]
pub struct Informers {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    clock: Arc<dyn Clock>,
    settings: InformerSettings,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: Option<CancellationToken>,
    by_kind: HashMap<(TypeId, String), Box<dyn Any + Send + Sync>>,
    erased: Vec<Arc<dyn AnyInformer>>,
}

/// The view of one kind: reads from the store, subscriptions, indexes. Cloning shares it.
pub struct Informer<K: Object> {
    shared: Arc<Shared<K>>,
}

struct Shared<K: Object> {
    resource: ApiResource,
    dynamic_type: K::DynamicType,
    store: Store<K>,
    stop: CancellationToken,
}

/// What changed about an object, as far as its metadata tells; exactly one side may be absent.
#[derive(Clone, Copy, Debug)]
pub struct MetaChange<'a> {
    pub old: Option<&'a ObjectMeta>,
    pub new: Option<&'a ObjectMeta>,
}

/// An informer of any kind, seen through the metadata that all objects share.
pub trait AnyInformer: Send + Sync {
    fn resource(&self) -> &ApiResource;
    /// True when only metadata is held.
    fn is_metadata_only(&self) -> bool;
    fn has_synced(&self) -> bool;
    /// The newest resourceVersion this informer has seen.
    fn seen(&self) -> u64;
    /// The clock's monotonic time of the last sign of life from the watch.
    fn last_activity(&self) -> Duration;
    /// Objects that could not be decoded since the start.
    fn decode_errors(&self) -> u64;
    fn object_count(&self) -> usize;
    /// True when the store has an object in `namespace`.
    fn has_any_in(&self, namespace: &str) -> bool;
    fn metadata(&self, key: &Key) -> Option<ObjectMeta>;
    fn for_each_metadata(&self, visit: &mut dyn FnMut(&ObjectMeta));
    /// Hears of every change, first of all objects already there, until the subscription is dropped.
    fn subscribe_metadata(&self, hear: Arc<dyn Fn(MetaChange<'_>) + Send + Sync>) -> Subscription;
    /// Ends the watch of this kind for good, for example because its definition was deleted.
    fn stop(&self);
    #[doc(hidden)]
    fn start(&self, client: Client, settings: InformerSettings, cancel: CancellationToken);
    #[doc(hidden)]
    fn sync_signal(&self) -> tokio::sync::watch::Receiver<bool>;
}

// === impl Informers ===

impl Informers {
    pub fn new(client: Client, clock: Arc<dyn Clock>, settings: InformerSettings) -> Informers {
        Informers { inner: Arc::new(Inner { client, clock, settings, state: Mutex::default() }) }
    }

    pub fn client(&self) -> &Client {
        &self.inner.client
    }

    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.inner.clock
    }

    /// The informer of a kind known at compile time.
    pub fn of<K>(&self) -> Informer<K>
    where
        K: Object<DynamicType = ()>,
    {
        self.of_type(())
    }

    /// The informer of a kind named at run time, holding whole objects.
    pub fn dynamic(&self, resource: &ApiResource) -> Informer<DynamicObject> {
        self.of_type(resource.clone())
    }

    /// Metadata of a kind. When the kind is already watched with whole objects, that watch is shared.
    pub fn metadata(&self, resource: &ApiResource) -> Arc<dyn AnyInformer> {
        let known = self.find(resource);
        match known {
            Some(informer) => informer,
            None => self.of_type::<MetaObject>(resource.clone()).erased(),
        }
    }

    /// The informer that already watches `resource`, in whatever representation.
    pub fn find(&self, resource: &ApiResource) -> Option<Arc<dyn AnyInformer>> {
        let state = self.inner.state.lock();
        state
            .erased
            .iter()
            .find(|known| {
                let known = known.resource();
                known.group == resource.group
                    && known.version == resource.version
                    && known.plural == resource.plural
            })
            .cloned()
    }

    /// The informer of `K` with its run-time type.
    pub fn of_type<K: Object>(&self, dynamic_type: K::DynamicType) -> Informer<K> {
        let resource = ApiResource::erase::<K>(&dynamic_type);
        let slot = (TypeId::of::<K>(), format!("{}/{}", resource.api_version, resource.plural));
        let mut state = self.inner.state.lock();
        if let Some(known) = state.by_kind.get(&slot).and_then(|known| known.downcast_ref::<Informer<K>>()) {
            return known.clone();
        }
        let informer = Informer {
            shared: Arc::new(Shared {
                resource,
                dynamic_type,
                store: Store::new(self.inner.clock.clone()),
                stop: CancellationToken::new(),
            }),
        };
        state.by_kind.insert(slot, Box::new(informer.clone()));
        state.erased.push(informer.erased());
        if let Some(cancel) = state.running.clone() {
            self.start_one(&informer.erased(), cancel);
        }
        informer
    }

    /// Forgets and stops the informers of `resource`; a later request for the kind begins a new watch.
    pub fn forget(&self, resource: &ApiResource) {
        let mut state = self.inner.state.lock();
        let same = |other: &ApiResource| {
            other.api_version == resource.api_version && other.plural == resource.plural
        };
        for informer in state.erased.iter().filter(|informer| same(informer.resource())) {
            informer.stop();
        }
        state.erased.retain(|informer| !same(informer.resource()));
        let name = format!("{}/{}", resource.api_version, resource.plural);
        state.by_kind.retain(|(_, known), _| *known != name);
    }

    /// Begins all watches asked for so far and those asked for later, until `cancel`.
    ///
    /// Must be called within a tokio runtime; a second call does nothing.
    pub fn start(&self, cancel: CancellationToken) {
        let waiting = {
            let mut state = self.inner.state.lock();
            if state.running.is_some() {
                return;
            }
            state.running = Some(cancel.clone());
            state.erased.clone()
        };
        for informer in &waiting {
            self.start_one(informer, cancel.clone());
        }
    }

    /// Every informer there is, for metrics and diagnostics.
    pub fn all(&self) -> Vec<Arc<dyn AnyInformer>> {
        self.inner.state.lock().erased.clone()
    }

    /// Returns when all informers asked for so far hold a complete list.
    pub async fn synced(&self) {
        for informer in self.all() {
            await_sync(informer.sync_signal()).await;
        }
    }

    fn start_one(&self, informer: &Arc<dyn AnyInformer>, cancel: CancellationToken) {
        let inner = &self.inner;
        informer.start(inner.client.clone(), inner.settings.clone(), cancel);
    }
}

async fn await_sync(mut signal: tokio::sync::watch::Receiver<bool>) {
    // An error means that the informer is gone, and so is everybody who could still be waiting for it.
    let _ = signal.wait_for(|synced| *synced).await;
}

// === impl Informer ===

impl<K: Object> Clone for Informer<K> {
    fn clone(&self) -> Self {
        Informer { shared: self.shared.clone() }
    }
}

impl<K: Object> Informer<K> {
    pub fn resource(&self) -> &ApiResource {
        &self.shared.resource
    }

    /// The object, if the store has it.
    pub fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.shared.store.get(key)
    }

    /// All objects, ordered by namespace and name.
    pub fn list(&self) -> Vec<Arc<K>> {
        self.shared.store.list()
    }

    /// The objects of one namespace, ordered by name.
    pub fn list_in(&self, namespace: &str) -> Vec<Arc<K>> {
        self.shared.store.list_in(namespace)
    }

    pub fn len(&self) -> usize {
        self.shared.store.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Calls `hear` for every object already there and then for every change, until the subscription is dropped.
    ///
    /// `hear` runs on the watch's own task: it must be quick (put a key into a queue, bump a counter) and must
    /// not subscribe to the same informer. It may read the store.
    pub fn subscribe(&self, hear: impl Fn(&Change<K>) + Send + Sync + 'static) -> Subscription {
        self.shared.store.subscribe(Arc::new(hear))
    }

    /// An index from values that `keys_of` computes to objects, kept up to date with the store.
    pub fn index(&self, keys_of: impl Fn(&K) -> Vec<String> + Send + Sync + 'static) -> StoreIndex<K> {
        self.shared.store.index(Arc::new(keys_of), self.clone())
    }

    /// A number that grows with every change of the store: wait for it to rebuild something from a whole kind.
    pub fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.shared.store.changes()
    }

    pub fn has_synced(&self) -> bool {
        *self.shared.store.synced_signal().borrow()
    }

    /// Returns when the store holds a complete list.
    pub async fn synced(&self) {
        await_sync(self.shared.store.synced_signal()).await;
    }

    /// The newest resourceVersion this informer has seen; 0 before the first list.
    pub fn seen(&self) -> u64 {
        self.shared.store.seen()
    }

    pub fn erased(&self) -> Arc<dyn AnyInformer> {
        self.shared.clone()
    }

    #[cfg(test)]
    pub(crate) fn store(&self) -> &Store<K> {
        &self.shared.store
    }
}

// === impl AnyInformer ===

impl<K: Object> AnyInformer for Shared<K> {
    fn resource(&self) -> &ApiResource {
        &self.resource
    }

    fn is_metadata_only(&self) -> bool {
        K::metadata_api()
    }

    fn has_synced(&self) -> bool {
        *self.store.synced_signal().borrow()
    }

    fn seen(&self) -> u64 {
        self.store.seen()
    }

    fn last_activity(&self) -> Duration {
        self.store.last_activity()
    }

    fn decode_errors(&self) -> u64 {
        self.store.decode_errors()
    }

    fn object_count(&self) -> usize {
        self.store.len()
    }

    fn has_any_in(&self, namespace: &str) -> bool {
        self.store.has_any_in(namespace)
    }

    fn metadata(&self, key: &Key) -> Option<ObjectMeta> {
        self.store.get(key).map(|object| object.meta().clone())
    }

    fn for_each_metadata(&self, visit: &mut dyn FnMut(&ObjectMeta)) {
        for object in self.store.list() {
            visit(object.meta());
        }
    }

    fn subscribe_metadata(&self, hear: Arc<dyn Fn(MetaChange<'_>) + Send + Sync>) -> Subscription {
        self.store.subscribe(Arc::new(move |change: &Change<K>| {
            let (old, new) = change.sides();
            hear(MetaChange { old: old.map(|object| object.meta()), new: new.map(|object| object.meta()) });
        }))
    }

    fn stop(&self) {
        self.stop.cancel();
        // Nobody may wait for ever for a kind that is no longer watched.
        self.store.mark_synced();
    }

    fn start(&self, client: Client, settings: InformerSettings, cancel: CancellationToken) {
        let url = K::url_path(&self.dynamic_type, settings.namespace.as_deref());
        let into = reflect::Decoded { store: self.store.clone(), kind: self.resource.kind.clone() };
        reflect::Reflector {
            client,
            settings,
            resource: self.resource.clone(),
            url,
            metadata_only: K::metadata_api(),
            sink: Box::new(into),
        }
        .start(cancel, self.stop.clone());
    }

    fn sync_signal(&self) -> tokio::sync::watch::Receiver<bool> {
        self.store.synced_signal()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use gantry_clock::ManualClock;

    use super::*;

    /// Informers that are never started.
    pub(crate) fn idle_informers(clock: &ManualClock) -> Informers {
        let config = kube::Config::new("http://127.0.0.1:1".parse().expect("a valid address"));
        let client = Client::try_from(config).expect("a client that is never used");
        Informers::new(client, Arc::new(clock.clone()), InformerSettings::default())
    }

    #[tokio::test]
    async fn a_kind_is_watched_once_and_metadata_is_shared_with_it() {
        let informers = idle_informers(&ManualClock::new(0));
        let pods = informers.of::<k8s_openapi::api::core::v1::Pod>();
        let again = informers.of::<k8s_openapi::api::core::v1::Pod>();
        assert!(Arc::ptr_eq(&pods.shared, &again.shared));
        assert!(!informers.metadata(pods.resource()).is_metadata_only());
        assert_eq!(informers.all().len(), 1);
        informers.forget(pods.resource());
        assert!(informers.all().is_empty());
        assert!(pods.has_synced(), "nobody waits for a kind that is no longer watched");
    }
}
