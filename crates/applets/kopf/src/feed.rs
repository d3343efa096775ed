//! What the worker process has to know of objects without being called: for its indices, for the live views of
//! daemons, and to forget what is gone.
//!
//! Invariant: what was heard before a call is sent before it. Each object waits at most once, and the newest state of
//! it is sent; so the queue is bounded by the number of objects.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use gantry_operator::{Informer, Key};
use kube::core::DynamicObject;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Notify;

#[derive(Default)]
pub(crate) struct Feed {
    state: Mutex<State>,
    pub(crate) wake: Notify,
}

#[derive(Default)]
struct State {
    /// Objects to be told of; with the last state of those that are gone.
    dirty: BTreeMap<(String, Key), Option<Arc<DynamicObject>>>,
    followed: HashMap<String, Followed>,
    /// How many daemons and timers of an object are being called, by its uid.
    live: HashMap<String, usize>,
    /// The process is not ready to be told.
    held: bool,
}

struct Followed {
    store: Informer<DynamicObject>,
    /// Positions of the index handlers.
    indexers: Vec<usize>,
}

impl Feed {
    /// Begins to tell of the objects of `store`.
    pub(crate) fn follow(
        self: &Arc<Self>,
        resource: &str,
        store: &Informer<DynamicObject>,
        indexers: Vec<usize>,
    ) {
        let followed = Followed { store: store.clone(), indexers };
        self.state.lock().followed.insert(resource.to_owned(), followed);
        let (feed, resource) = (self.clone(), resource.to_owned());
        store
            .subscribe(move |change| {
                let (_, new) = change.sides();
                feed.mark(&resource, change.object(), new.is_none());
            })
            .keep();
    }

    pub(crate) fn unfollow(&self, resource: &str) {
        self.state.lock().followed.remove(resource);
    }

    /// The newest state of an object.
    pub(crate) fn newest(&self, resource: &str, key: &Key) -> Option<Arc<DynamicObject>> {
        self.state.lock().followed.get(resource)?.store.get(key)
    }

    fn mark(&self, resource: &str, object: &Arc<DynamicObject>, gone: bool) {
        let mut state = self.state.lock();
        let indexed = state.followed.get(resource).is_some_and(|followed| !followed.indexers.is_empty());
        let live = object.metadata.uid.as_ref().is_some_and(|uid| state.live.contains_key(uid));
        if !(indexed || live || gone) {
            return;
        }
        let last = gone.then(|| object.clone());
        state.dirty.insert((resource.to_owned(), Key::of(&**object)), last);
        drop(state);
        self.wake.notify_one();
    }

    /// Tells nothing until [`begin_anew`](Feed::begin_anew): indices are functions of the user's, and no function may
    /// run before those for the start have.
    pub(crate) fn hold(&self) {
        self.state.lock().held = true;
    }

    /// Tells everything anew, to a process that knows nothing yet.
    pub(crate) fn begin_anew(&self) {
        let mut state = self.state.lock();
        state.dirty.clear();
        state.live.clear();
        let mut all = Vec::new();
        for (resource, followed) in
            state.followed.iter().filter(|(_, followed)| !followed.indexers.is_empty())
        {
            all.extend(followed.store.list().iter().map(|object| (resource.clone(), Key::of(&**object))));
        }
        state.dirty.extend(all.into_iter().map(|at| (at, None)));
        state.held = false;
        drop(state);
        self.wake.notify_one();
    }

    /// Counts the calls beside an object, whose view follows it meanwhile.
    pub(crate) fn live(self: &Arc<Self>, uid: &str) -> Live {
        *self.state.lock().live.entry(uid.to_owned()).or_insert(0) += 1;
        Live { feed: self.clone(), uid: uid.to_owned() }
    }

    /// Takes all frames that wait.
    pub(crate) fn take(&self) -> Vec<Value> {
        let mut state = self.state.lock();
        if state.held {
            return Vec::new();
        }
        let dirty = std::mem::take(&mut state.dirty);
        let mut frames = Vec::new();
        for ((resource, key), gone) in dirty {
            let Some(followed) = state.followed.get(&resource) else { continue };
            let Some(object) = followed.store.get(&key).or_else(|| gone.clone()) else { continue };
            let is_gone = followed.store.get(&key).is_none();
            let uid = object.metadata.uid.clone().unwrap_or_default();
            let body = whole(&object, followed.store.resource());
            if state.live.contains_key(&uid) {
                frames.push(json!({ "op": "fresh", "uid": uid, "body": body }));
            }
            if !followed.indexers.is_empty() {
                frames.push(json!({ "op": "index", "resource": resource, "handlers": followed.indexers,
                    "gone": is_gone, "body": body }));
            }
            // A namesake may have come in its place by now.
            if let Some(gone) = gone {
                frames.push(json!({ "op": "gone", "uid": gone.metadata.uid }));
            }
        }
        frames
    }
}

/// A call beside an object, for as long as it lasts.
pub(crate) struct Live {
    feed: Arc<Feed>,
    uid: String,
}

impl Drop for Live {
    fn drop(&mut self) {
        let mut state = self.feed.state.lock();
        if let Some(count) = state.live.get_mut(&self.uid) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                state.live.remove(&self.uid);
            }
        }
    }
}

/// The object with the type that lists leave out of their items.
fn whole(object: &DynamicObject, resource: &kube::api::ApiResource) -> Value {
    let mut body = serde_json::to_value(object).unwrap_or_default();
    if let Some(fields) = body.as_object_mut() {
        fields.entry("apiVersion").or_insert_with(|| json!(resource.api_version));
        fields.entry("kind").or_insert_with(|| json!(resource.kind));
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_waits_for_a_new_beginning() {
        let feed = Feed::default();
        let at = ("boxes".to_owned(), Key::new("default", "one"));
        feed.hold();
        feed.state.lock().dirty.insert(at, None);
        assert!(feed.take().is_empty());
        assert_eq!(feed.state.lock().dirty.len(), 1);
        feed.begin_anew();
        assert!(feed.take().is_empty());
        assert!(feed.state.lock().dirty.is_empty() && !feed.state.lock().held);
    }
}
