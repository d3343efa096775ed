//! The store: memory is the authority for reads, every write is durable before it is acknowledged or seen.
//!
//! Invariant: one thread commits (under one lock when nothing is kept on disk); it takes all writes that wait, checks
//! them against what is stored, makes them durable with one sync, and only then shows them to readers and watchers.

mod feed;
pub mod journal;
pub mod log;
mod object;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;
use std::sync::Arc;

use gantry_apimachinery::value::SmolStr;
use parking_lot::RwLock;
use tokio::sync::{mpsc, oneshot, watch};

use feed::Feed;
pub use feed::{Event, EventKind, Expired, watch_line};
use journal::{Journal, Record, SnapshotSource};
pub use object::{Encoded, Object, ObjectKey};

/// Writes that may wait for the committing thread; further writers wait for room.
const MAX_WAITING: usize = 4096;
/// Writes that one sync makes durable.
const MAX_BATCH: usize = 1024;

/// A change to one object, checked against the state it was made from.
pub struct Write {
    pub collection: SmolStr,
    pub key: ObjectKey,
    pub expect: Expect,
    pub change: Change,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    Absent,
    Revision(u64),
}

pub enum Change {
    Put(Encoded),
    /// The last state, which watchers see under the revision of the deletion.
    Delete(Encoded),
}

#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The object is not what was expected. Holds what it is now.
    #[error("the object has changed")]
    Conflict(Option<Arc<Object>>),
    #[error("writing to disk failed: {0}")]
    Storage(#[source] Arc<io::Error>),
    #[error("the store is closed")]
    Closed,
}

impl std::fmt::Debug for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}@{}", self.key.namespace, self.key.name, self.revision)
    }
}

/// Objects of one collection at one revision.
pub struct Listing {
    pub revision: u64,
    pub objects: Vec<Arc<Object>>,
}

struct State {
    revision: u64,
    collections: HashMap<SmolStr, Collection>,
    /// Collections that appear later know nothing from before this revision.
    floor: u64,
}

struct Collection {
    objects: BTreeMap<ObjectKey, Arc<Object>>,
    feed: Feed,
}

pub struct Store {
    state: Arc<RwLock<State>>,
    commits: Commits,
}

enum Commits {
    /// Nothing is kept on disk: writers commit themselves.
    Inline,
    Thread {
        queue: Option<mpsc::Sender<Waiting>>,
        thread: Option<std::thread::JoinHandle<()>>,
    },
}

struct Waiting {
    write: Write,
    reply: oneshot::Sender<Result<Arc<Object>, WriteError>>,
}

impl Store {
    /// A store that is gone when it is dropped.
    pub fn ephemeral() -> Store {
        let state = State { revision: 1, collections: HashMap::new(), floor: 0 };
        Store { state: Arc::new(RwLock::new(state)), commits: Commits::Inline }
    }

    /// A store kept in `folder`, with what was acknowledged before.
    pub fn open(folder: &Path) -> Result<Store, log::Error> {
        let (journal, recovered) = log::Log::open(folder)?;
        let mut state = State {
            revision: recovered.snapshot_revision.max(1),
            collections: HashMap::new(),
            floor: recovered.snapshot_revision,
        };
        for record in recovered.snapshot {
            let collection = state.collection(&record.collection);
            let object = Object::recovered(record.key.clone(), record.revision, record.object);
            collection.objects.insert(record.key, Arc::new(object));
        }
        for record in recovered.changes {
            let object = Arc::new(Object::recovered(record.key, record.revision, record.object));
            state.apply(&record.collection, object, record.deleted);
        }
        Ok(Store::with_journal(state, Box::new(journal)))
    }

    fn with_journal(state: State, journal: Box<dyn Journal>) -> Store {
        let state = Arc::new(RwLock::new(state));
        let (queue, waiting) = mpsc::channel(MAX_WAITING);
        let shared = state.clone();
        let thread = std::thread::Builder::new()
            .name("apiserver-store".into())
            .spawn(move || commit_loop(&shared, waiting, journal))
            .ok();
        Store { state, commits: Commits::Thread { queue: thread.is_some().then_some(queue), thread } }
    }

    pub fn revision(&self) -> u64 {
        self.state.read().revision
    }

    pub fn get(&self, collection: &str, key: &ObjectKey) -> Option<Arc<Object>> {
        self.state.read().collections.get(collection)?.objects.get(key).cloned()
    }

    /// Applies one write. When this returns `Ok`, the write is durable.
    pub async fn commit(&self, write: Write) -> Result<Arc<Object>, WriteError> {
        match &self.commits {
            Commits::Inline => {
                let mut state = self.state.write();
                let revision = state.revision + 1;
                let current = state.current(&write.collection, &write.key);
                let (object, deleted) = check(write.expect, write.change, &write.key, current, revision)?;
                state.apply(&write.collection, object.clone(), deleted);
                state.wake(&write.collection);
                Ok(object)
            }
            Commits::Thread { queue, .. } => {
                let queue = queue.as_ref().ok_or(WriteError::Closed)?;
                let (reply, answer) = oneshot::channel();
                queue.send(Waiting { write, reply }).await.map_err(|_| WriteError::Closed)?;
                answer.await.map_err(|_| WriteError::Closed)?
            }
        }
    }

    /// The objects of a namespace (of all, if `None`) after `after`, that `keep` accepts, and how many more there
    /// are after the first `limit`. Objects beyond the limit are counted without asking `keep`.
    pub fn list(
        &self,
        collection: &str,
        namespace: Option<&str>,
        after: Option<&ObjectKey>,
        limit: usize,
        mut keep: impl FnMut(&Object) -> bool,
    ) -> (Listing, usize) {
        let state = self.state.read();
        let mut objects = Vec::new();
        let mut remaining = 0;
        if let Some(collection) = state.collections.get(collection) {
            for object in range(&collection.objects, namespace, after) {
                if objects.len() == limit {
                    remaining += 1;
                } else if keep(object) {
                    objects.push(object.clone());
                }
            }
        }
        (Listing { revision: state.revision, objects }, remaining)
    }

    /// All objects of a namespace as they were at `revision`, after `after`.
    pub fn list_at(
        &self,
        collection: &str,
        namespace: Option<&str>,
        after: Option<&ObjectKey>,
        revision: u64,
    ) -> Result<Listing, Expired> {
        let state = self.state.read();
        let Some(collection) = state.collections.get(collection) else {
            if revision < state.floor {
                return Err(Expired { oldest: state.floor });
            }
            return Ok(Listing { revision, objects: Vec::new() });
        };
        let mut changes = collection.feed.back_to(revision)?.peekable();
        if changes.peek().is_none() {
            let objects = range(&collection.objects, namespace, after).cloned().collect();
            return Ok(Listing { revision, objects });
        }
        let mut objects: BTreeMap<ObjectKey, Arc<Object>> = range(&collection.objects, namespace, after)
            .map(|object| (object.key.clone(), object.clone()))
            .collect();
        for event in changes {
            let key = &event.object.key;
            if namespace.is_some_and(|namespace| namespace != key.namespace)
                || after.is_some_and(|after| key <= after)
            {
                continue;
            }
            match &event.previous {
                Some(previous) => drop(objects.insert(key.clone(), previous.clone())),
                None => drop(objects.remove(key)),
            }
        }
        Ok(Listing { revision, objects: objects.into_values().collect() })
    }

    /// Up to `limit` events of a collection after `revision`, and the revision up to which that is everything
    /// unless the limit was reached.
    pub fn events_after(
        &self,
        collection: &str,
        revision: u64,
        limit: usize,
    ) -> Result<(Vec<Arc<Event>>, u64), Expired> {
        let state = self.state.read();
        match state.collections.get(collection) {
            Some(collection) => Ok((collection.feed.after(revision, limit)?, state.revision)),
            None if revision < state.floor => Err(Expired { oldest: state.floor }),
            None => Ok((Vec::new(), state.revision)),
        }
    }

    /// Changes whenever the collection does.
    pub fn subscribe(&self, collection: &str) -> watch::Receiver<u64> {
        if let Some(collection) = self.state.read().collections.get(collection) {
            return collection.feed.subscribe();
        }
        self.state.write().collection(collection).feed.subscribe()
    }

    /// The number of objects in each collection that has any.
    pub fn counts(&self) -> Vec<(SmolStr, usize)> {
        let state = self.state.read();
        let counts =
            state.collections.iter().map(|(name, collection)| (name.clone(), collection.objects.len()));
        counts.filter(|(_, count)| *count > 0).collect()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Commits::Thread { queue, thread } = &mut self.commits {
            drop(queue.take());
            if let Some(thread) = thread.take() {
                // A panic there has been reported by the thread itself.
                let _ = thread.join();
            }
        }
    }
}

fn range<'m>(
    objects: &'m BTreeMap<ObjectKey, Arc<Object>>,
    namespace: Option<&'m str>,
    after: Option<&ObjectKey>,
) -> impl Iterator<Item = &'m Arc<Object>> + use<'m> {
    use std::ops::Bound;
    let start = match (after, namespace) {
        (Some(after), _) => Bound::Excluded(after.clone()),
        (None, Some(namespace)) => {
            Bound::Included(ObjectKey { namespace: namespace.into(), name: SmolStr::default() })
        }
        (None, None) => Bound::Unbounded,
    };
    objects
        .range((start, Bound::Unbounded))
        .map(|(_, object)| object)
        .take_while(move |object| namespace.is_none_or(|namespace| object.key.namespace == namespace))
}

// === committing ===

fn check(
    expect: Expect,
    change: Change,
    key: &ObjectKey,
    current: Option<Arc<Object>>,
    revision: u64,
) -> Result<(Arc<Object>, bool), WriteError> {
    let as_expected = match expect {
        Expect::Absent => current.is_none(),
        Expect::Revision(revision) => current.as_ref().is_some_and(|current| current.revision == revision),
    };
    if !as_expected {
        return Err(WriteError::Conflict(current));
    }
    let (encoded, deleted) = match change {
        Change::Put(encoded) => (encoded, false),
        Change::Delete(encoded) => (encoded, true),
    };
    Ok((Arc::new(Object::new(key.clone(), revision, encoded)), deleted))
}

fn commit_loop(state: &RwLock<State>, mut waiting: mpsc::Receiver<Waiting>, mut journal: Box<dyn Journal>) {
    while let Some(first) = waiting.blocking_recv() {
        let mut batch = vec![first];
        while batch.len() < MAX_BATCH {
            let Ok(next) = waiting.try_recv() else { break };
            batch.push(next);
        }
        commit_batch(state, batch, journal.as_mut());
        if journal.wants_snapshot() {
            let source = snapshot_source(&state.read());
            if let Err(error) = journal.snapshot(source) {
                tracing::error!(%error, "starting a snapshot failed; the log grows on");
            }
        }
    }
}

fn commit_batch(state: &RwLock<State>, batch: Vec<Waiting>, journal: &mut dyn Journal) {
    type Accepted = (SmolStr, Arc<Object>, bool, oneshot::Sender<Result<Arc<Object>, WriteError>>);
    let mut accepted: Vec<Accepted> = Vec::with_capacity(batch.len());
    let mut records = Vec::with_capacity(batch.len());
    // What this batch has changed so far, for writes to the same object.
    let mut changed: HashMap<(SmolStr, ObjectKey), Option<Arc<Object>>> = HashMap::new();
    let mut revision;
    {
        let state = state.read();
        revision = state.revision;
        for Waiting { write, reply } in batch {
            let place = (write.collection.clone(), write.key.clone());
            let current = match changed.get(&place) {
                Some(current) => current.clone(),
                None => state.current(&write.collection, &write.key),
            };
            match check(write.expect, write.change, &write.key, current, revision + 1) {
                Ok((object, deleted)) => {
                    revision += 1;
                    records.push(Record {
                        revision,
                        collection: write.collection.to_string(),
                        key: write.key,
                        object: object.bytes.clone(),
                        deleted,
                    });
                    changed.insert(place, (!deleted).then(|| object.clone()));
                    accepted.push((write.collection, object, deleted, reply));
                }
                // A reply that nobody waits for any more is no error: the client went away.
                Err(error) => drop(reply.send(Err(error))),
            }
        }
    }
    if records.is_empty() {
        return;
    }
    if let Err(error) = journal.append(&records) {
        tracing::error!(%error, "writing to the store failed");
        let error = Arc::new(error);
        for (_, _, _, reply) in accepted {
            drop(reply.send(Err(WriteError::Storage(error.clone()))));
        }
        return;
    }
    let mut state = state.write();
    let mut touched: Vec<SmolStr> = Vec::new();
    let mut replies = Vec::with_capacity(accepted.len());
    for (collection, object, deleted, reply) in accepted {
        state.apply(&collection, object.clone(), deleted);
        if !touched.contains(&collection) {
            touched.push(collection);
        }
        replies.push((reply, object));
    }
    for collection in touched {
        state.wake(&collection);
    }
    drop(state);
    for (reply, object) in replies {
        drop(reply.send(Ok(object)));
    }
}

fn snapshot_source(state: &State) -> SnapshotSource {
    let mut objects = Vec::new();
    for (name, collection) in &state.collections {
        for (key, object) in &collection.objects {
            objects.push(Record {
                revision: object.revision,
                collection: name.to_string(),
                key: key.clone(),
                object: object.bytes.clone(),
                deleted: false,
            });
        }
    }
    SnapshotSource { revision: state.revision, objects }
}

impl State {
    fn collection(&mut self, name: &str) -> &mut Collection {
        let floor = self.floor;
        self.collections
            .entry(name.into())
            .or_insert_with(|| Collection { objects: BTreeMap::new(), feed: Feed::new(floor) })
    }

    fn current(&self, collection: &str, key: &ObjectKey) -> Option<Arc<Object>> {
        self.collections.get(collection)?.objects.get(key).cloned()
    }

    fn apply(&mut self, collection: &str, object: Arc<Object>, deleted: bool) {
        self.revision = self.revision.max(object.revision);
        let collection = self.collection(collection);
        let previous = if deleted {
            collection.objects.remove(&object.key)
        } else {
            collection.objects.insert(object.key.clone(), object.clone())
        };
        let kind = match (deleted, &previous) {
            (true, _) => EventKind::Deleted,
            (false, Some(_)) => EventKind::Modified,
            (false, None) => EventKind::Added,
        };
        collection.feed.push(Event::new(kind, object, previous));
    }

    fn wake(&self, collection: &str) {
        if let Some(found) = self.collections.get(collection) {
            found.feed.wake(self.revision);
        }
    }
}

#[cfg(test)]
mod tests;
