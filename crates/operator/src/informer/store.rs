//! The local copy of one kind, its indexes and its subscribers.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use gantry_clock::Clock;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use super::{Informer, Object};
use crate::key::Key;

/// One change of one object.
#[derive(Clone, Debug)]
pub enum Change<K> {
    /// The object is new (`old` is absent) or was modified.
    Applied {
        old: Option<Arc<K>>,
        new: Arc<K>,
        /// The object was found by listing, not by watching: it may be older than this process.
        listed: bool,
    },
    /// The object is gone; this is its last known state.
    Deleted(Arc<K>),
}

impl<K> Change<K> {
    /// The newest state known.
    pub fn object(&self) -> &Arc<K> {
        match self {
            Change::Applied { new, .. } => new,
            Change::Deleted(last) => last,
        }
    }

    /// The states before and after.
    pub fn sides(&self) -> (Option<&Arc<K>>, Option<&Arc<K>>) {
        match self {
            Change::Applied { old, new, .. } => (old.as_ref(), Some(new)),
            Change::Deleted(last) => (Some(last), None),
        }
    }
}

type Hear<K> = Arc<dyn Fn(&Change<K>) + Send + Sync>;
type KeysOf<K> = Arc<dyn Fn(&K) -> Vec<String> + Send + Sync>;

pub(crate) struct Store<K: Object> {
    inner: Arc<Inner<K>>,
}

struct Inner<K: Object> {
    clock: Arc<dyn Clock>,
    objects: RwLock<BTreeMap<Key, Arc<K>>>,
    indexes: RwLock<Vec<Weak<IndexData<K>>>>,
    /// Held while a change is stored and told, so that a new subscriber misses none and hears none twice.
    telling: Mutex<Subscribers<K>>,
    seen: AtomicU64,
    activity_ms: AtomicU64,
    decode_errors: AtomicU64,
    synced: watch::Sender<bool>,
    changes: watch::Sender<u64>,
}

struct Subscribers<K> {
    next_id: u64,
    hears: BTreeMap<u64, Hear<K>>,
}

/// Ends the subscription when dropped; [`keep`](Subscription::keep) lets it live as long as the informer.
#[must_use = "dropping a subscription ends it"]
pub struct Subscription {
    end: Option<Box<dyn FnOnce() + Send + Sync>>,
}

struct IndexData<K> {
    keys_of: KeysOf<K>,
    entries: RwLock<HashMap<String, BTreeSet<Key>>>,
}

/// Objects by a computed value, for example pods by the uid of their owner. Cloning shares it.
pub struct StoreIndex<K: Object> {
    data: Arc<IndexData<K>>,
    informer: Informer<K>,
}

// === impl Store ===

impl<K: Object> Clone for Store<K> {
    fn clone(&self) -> Self {
        Store { inner: self.inner.clone() }
    }
}

impl<K: Object> Store<K> {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Store<K> {
        Store {
            inner: Arc::new(Inner {
                clock,
                objects: RwLock::default(),
                indexes: RwLock::default(),
                telling: Mutex::new(Subscribers { next_id: 0, hears: BTreeMap::new() }),
                seen: AtomicU64::new(0),
                activity_ms: AtomicU64::new(0),
                decode_errors: AtomicU64::new(0),
                synced: watch::Sender::new(false),
                changes: watch::Sender::new(0),
            }),
        }
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.inner.objects.read().get(key).cloned()
    }

    pub(crate) fn list(&self) -> Vec<Arc<K>> {
        self.inner.objects.read().values().cloned().collect()
    }

    pub(crate) fn list_in(&self, namespace: &str) -> Vec<Arc<K>> {
        let objects = self.inner.objects.read();
        let in_namespace = objects.range(Key::new(namespace, "")..);
        in_namespace
            .take_while(|(key, _)| key.namespace() == namespace)
            .map(|(_, object)| object.clone())
            .collect()
    }

    pub(crate) fn has_any_in(&self, namespace: &str) -> bool {
        let objects = self.inner.objects.read();
        objects.range(Key::new(namespace, "")..).next().is_some_and(|(key, _)| key.namespace() == namespace)
    }

    pub(crate) fn len(&self) -> usize {
        self.inner.objects.read().len()
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }

    pub(crate) fn synced_signal(&self) -> watch::Receiver<bool> {
        self.inner.synced.subscribe()
    }

    pub(crate) fn seen(&self) -> u64 {
        self.inner.seen.load(Ordering::Acquire)
    }

    pub(crate) fn last_activity(&self) -> Duration {
        Duration::from_millis(self.inner.activity_ms.load(Ordering::Relaxed))
    }

    pub(crate) fn decode_errors(&self) -> u64 {
        self.inner.decode_errors.load(Ordering::Relaxed)
    }

    pub(crate) fn count_decode_error(&self) {
        self.inner.decode_errors.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes a sign of life from the server and the resourceVersion it carried.
    pub(crate) fn note_seen(&self, resource_version: &str) {
        let now_ms = u64::try_from(self.inner.clock.monotonic().as_millis()).unwrap_or(u64::MAX);
        self.inner.activity_ms.store(now_ms, Ordering::Relaxed);
        if let Ok(version) = resource_version.parse::<u64>() {
            self.inner.seen.fetch_max(version, Ordering::AcqRel);
        }
    }

    pub(crate) fn mark_synced(&self) {
        self.inner.synced.send_replace(true);
    }

    /// Stores a new or modified object and tells everybody.
    pub(crate) fn apply(&self, object: K) {
        let telling = self.inner.telling.lock();
        let key = Key::of(&object);
        let version = object.meta().resource_version.clone().unwrap_or_default();
        self.store_and_tell(&telling, key, Arc::new(object), false);
        self.note_seen(&version);
        self.inner.changes.send_modify(|count| *count += 1);
    }

    /// Removes the object and tells everybody its last state; nothing happens when it was not there.
    pub(crate) fn remove(&self, key: &Key, last: Option<K>) {
        let telling = self.inner.telling.lock();
        if let Some(version) = last.as_ref().and_then(|last| last.meta().resource_version.as_deref()) {
            self.note_seen(version);
        }
        self.remove_and_tell(&telling, key, last.map(Arc::new));
        self.inner.changes.send_modify(|count| *count += 1);
    }

    /// Replaces everything by a fresh list: what is missing was deleted meanwhile, what differs was modified.
    pub(crate) fn replace(&self, objects: Vec<K>, resource_version: &str) {
        let telling = self.inner.telling.lock();
        let fresh: BTreeMap<Key, Arc<K>> =
            objects.into_iter().map(|object| (Key::of(&object), Arc::new(object))).collect();
        let gone: Vec<Key> =
            self.inner.objects.read().keys().filter(|key| !fresh.contains_key(*key)).cloned().collect();
        for key in &gone {
            self.remove_and_tell(&telling, key, None);
        }
        for (key, object) in fresh {
            let known = self.get(&key);
            let same = known.is_some_and(|known| {
                known.meta().uid == object.meta().uid
                    && known.meta().resource_version.is_some()
                    && known.meta().resource_version == object.meta().resource_version
            });
            if !same {
                self.store_and_tell(&telling, key, object, true);
            }
        }
        self.note_seen(resource_version);
        self.inner.changes.send_modify(|count| *count += 1);
        self.mark_synced();
    }

    fn store_and_tell(&self, telling: &Subscribers<K>, key: Key, object: Arc<K>, listed: bool) {
        let known = self.get(&key);
        let same_object = |known: &Arc<K>| known.meta().uid == object.meta().uid;
        // A missed deletion followed by a creation under the same name: two objects, so two changes.
        let old = match known {
            Some(known) if !same_object(&known) => {
                self.remove_and_tell(telling, &key, None);
                None
            }
            known => known,
        };
        self.inner.objects.write().insert(key.clone(), object.clone());
        self.for_indexes(|index| index.change(&key, old.as_deref(), Some(&object)));
        telling.tell(&Change::Applied { old, new: object, listed });
    }

    fn remove_and_tell(&self, telling: &Subscribers<K>, key: &Key, last: Option<Arc<K>>) {
        let Some(known) = self.inner.objects.write().remove(key) else { return };
        self.for_indexes(|index| index.change(key, Some(&known), None));
        telling.tell(&Change::Deleted(last.unwrap_or(known)));
    }

    fn for_indexes(&self, visit: impl Fn(&IndexData<K>)) {
        for index in self.inner.indexes.read().iter().filter_map(Weak::upgrade) {
            visit(&index);
        }
    }

    pub(crate) fn subscribe(&self, hear: Hear<K>) -> Subscription {
        let mut telling = self.inner.telling.lock();
        for object in self.list() {
            hear(&Change::Applied { old: None, new: object, listed: true });
        }
        let id = telling.next_id;
        telling.next_id += 1;
        telling.hears.insert(id, hear);
        let store = Arc::downgrade(&self.inner);
        Subscription {
            end: Some(Box::new(move || {
                if let Some(store) = store.upgrade() {
                    store.telling.lock().hears.remove(&id);
                }
            })),
        }
    }

    pub(crate) fn index(&self, keys_of: KeysOf<K>, informer: Informer<K>) -> StoreIndex<K> {
        let telling = self.inner.telling.lock();
        let data = Arc::new(IndexData { keys_of, entries: RwLock::default() });
        for object in self.list() {
            data.change(&Key::of(&*object), None, Some(&object));
        }
        let mut indexes = self.inner.indexes.write();
        indexes.retain(|index| index.strong_count() > 0);
        indexes.push(Arc::downgrade(&data));
        drop(telling);
        StoreIndex { data, informer }
    }
}

impl<K> Subscribers<K> {
    fn tell(&self, change: &Change<K>) {
        for hear in self.hears.values() {
            hear(change);
        }
    }
}

// === impl Subscription ===

impl Subscription {
    /// Keeps the subscription for as long as the informer lives.
    pub fn keep(mut self) {
        self.end = None;
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(end) = self.end.take() {
            end();
        }
    }
}

// === impl StoreIndex ===

impl<K> IndexData<K> {
    fn change(&self, key: &Key, old: Option<&K>, new: Option<&K>) {
        let old_values = old.map(|object| (self.keys_of)(object)).unwrap_or_default();
        let new_values = new.map(|object| (self.keys_of)(object)).unwrap_or_default();
        if old.is_some() && old_values == new_values {
            return;
        }
        let mut entries = self.entries.write();
        for value in &old_values {
            if let Some(keys) = entries.get_mut(value) {
                keys.remove(key);
                if keys.is_empty() {
                    entries.remove(value);
                }
            }
        }
        for value in new_values {
            entries.entry(value).or_default().insert(key.clone());
        }
    }
}

impl<K: Object> Clone for StoreIndex<K> {
    fn clone(&self) -> Self {
        StoreIndex { data: self.data.clone(), informer: self.informer.clone() }
    }
}

impl<K: Object> StoreIndex<K> {
    /// The objects under `value`, ordered by namespace and name.
    pub fn get(&self, value: &str) -> Vec<Arc<K>> {
        self.keys(value).iter().filter_map(|key| self.informer.get(key)).collect()
    }

    /// The keys under `value`.
    pub fn keys(&self, value: &str) -> Vec<Key> {
        self.data.entries.read().get(value).map(|keys| keys.iter().cloned().collect()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use gantry_clock::ManualClock;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::core::ObjectMeta;

    use super::*;

    fn config_map(name: &str, uid: &str, version: u64) -> ConfigMap {
        ConfigMap {
            metadata: ObjectMeta {
                namespace: Some("team".into()),
                name: Some(name.into()),
                uid: Some(uid.into()),
                resource_version: Some(version.to_string()),
                ..ObjectMeta::default()
            },
            ..ConfigMap::default()
        }
    }

    fn store() -> (Store<ConfigMap>, Arc<Mutex<Vec<String>>>, Subscription) {
        let store = Store::new(Arc::new(ManualClock::new(0)));
        let heard = Arc::new(Mutex::new(Vec::new()));
        let log = heard.clone();
        let subscription = store.subscribe(Arc::new(move |change: &Change<ConfigMap>| {
            let describe = |object: &Arc<ConfigMap>| {
                let meta = &object.metadata;
                format!(
                    "{}@{}",
                    meta.uid.clone().unwrap_or_default(),
                    meta.resource_version.clone().unwrap_or_default()
                )
            };
            let (old, new) = change.sides();
            log.lock().push(format!("{:?}>{:?}", old.map(describe), new.map(describe)).replace("Some", ""));
        }));
        (store, heard, subscription)
    }

    #[test]
    fn relist_tells_only_what_differs() {
        let (store, heard, _subscription) = store();
        store.replace(vec![config_map("a", "1", 5), config_map("b", "2", 6)], "7");
        heard.lock().clear();
        store.replace(vec![config_map("a", "1", 5), config_map("c", "3", 8)], "9");
        assert_eq!(*heard.lock(), [r#"("2@6")>None"#, r#"None>("3@8")"#]);
        assert_eq!(store.seen(), 9);
        assert!(*store.synced_signal().borrow());
    }

    #[test]
    fn a_name_used_again_is_another_object() {
        let (store, heard, _subscription) = store();
        store.apply(config_map("a", "1", 5));
        store.apply(config_map("a", "2", 9));
        assert_eq!(*heard.lock(), [r#"None>("1@5")"#, r#"("1@5")>None"#, r#"None>("2@9")"#]);
    }

    #[test]
    fn late_subscribers_hear_of_what_is_there_and_dropped_ones_of_nothing() {
        let (store, heard, subscription) = store();
        drop(subscription);
        store.apply(config_map("a", "1", 5));
        assert!(heard.lock().is_empty());
        let count = Arc::new(AtomicU64::new(0));
        let counter = count.clone();
        store
            .subscribe(Arc::new(move |_: &Change<ConfigMap>| {
                counter.fetch_add(1, Ordering::Relaxed);
            }))
            .keep();
        store.remove(&Key::new("team", "a"), None);
        assert_eq!(count.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn indexes_follow_changes() {
        let (store, _, _subscription) = store();
        store.apply(config_map("a", "1", 5));
        let data = IndexData {
            keys_of: Arc::new(|object: &ConfigMap| object.metadata.uid.clone().into_iter().collect()),
            entries: RwLock::default(),
        };
        let key = Key::new("team", "a");
        data.change(&key, None, Some(&config_map("a", "1", 5)));
        data.change(&key, Some(&config_map("a", "1", 5)), Some(&config_map("a", "2", 6)));
        assert!(!data.entries.read().contains_key("1"));
        assert!(data.entries.read().get("2").is_some_and(|keys| keys.contains(&key)));
        data.change(&key, Some(&config_map("a", "2", 6)), None);
        assert!(data.entries.read().is_empty());
    }
}
