//! Read your own writes: what a controller wrote and has not yet seen in its stores.
//!
//! A watch lags behind the writes, and a controller that counts objects in a stale store creates them twice.
//! It therefore notes each write here and leaves a key alone until [`Writes::settled`] says that all of them
//! have come back, or were lost for so long that the store must be believed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use gantry_clock::Clock;
use parking_lot::Mutex;

use crate::informer::{AnyInformer, Informer, Object};
use crate::key::Key;

/// Writes that did not come back for this long are forgotten.
const LOST_AFTER: Duration = Duration::from_secs(60);

/// The outstanding writes of one controller, by the key it was reconciling.
pub struct Writes {
    clock: Arc<dyn Clock>,
    outstanding: Mutex<HashMap<Key, Vec<Outstanding>>>,
}

struct Outstanding {
    informer: Arc<dyn AnyInformer>,
    since: Duration,
    await_: Await,
}

enum Await {
    /// The store has reached this resourceVersion.
    Version(u64),
    /// The store no longer has this object, or knows that it is being deleted.
    Gone { key: Key, uid: Option<String> },
}

impl Writes {
    pub fn new(clock: Arc<dyn Clock>) -> Writes {
        Writes { clock, outstanding: Mutex::default() }
    }

    /// Notes that reconciling `key` created or changed `object`, as the server returned it.
    pub fn wrote<K: Object>(&self, key: &Key, informer: &Informer<K>, object: &K) {
        // A version that is no number cannot be compared; then the store has to be believed.
        let Some(version) =
            object.meta().resource_version.as_deref().and_then(|version| version.parse().ok())
        else {
            return;
        };
        self.note(key, informer, Await::Version(version));
    }

    /// Notes that reconciling `key` deleted `object`.
    pub fn deleted<K: Object>(&self, key: &Key, informer: &Informer<K>, object: &K) {
        let gone = Await::Gone { key: Key::of(object), uid: object.meta().uid.clone() };
        self.note(key, informer, gone);
    }

    fn note<K: Object>(&self, key: &Key, informer: &Informer<K>, await_: Await) {
        let outstanding = Outstanding { informer: informer.erased(), since: self.clock.monotonic(), await_ };
        self.outstanding.lock().entry(key.clone()).or_default().push(outstanding);
    }

    /// True when the stores show everything that reconciling `key` has written.
    ///
    /// The watched event that makes it true also brings the key back to the controller, as long as it
    /// watches what it writes.
    pub fn settled(&self, key: &Key) -> bool {
        self.settled_within(key, LOST_AFTER)
    }

    /// Like [`settled`](Writes::settled), believing the store already after `patience`.
    pub fn settled_within(&self, key: &Key, patience: Duration) -> bool {
        let mut all = self.outstanding.lock();
        let Some(outstanding) = all.get_mut(key) else { return true };
        let now = self.clock.monotonic();
        outstanding.retain(|write| !write.came_back() && now.saturating_sub(write.since) < patience);
        let settled = outstanding.is_empty();
        if settled {
            all.remove(key);
        }
        settled
    }

    /// Forgets what was written for `key`, which is gone.
    pub fn forget(&self, key: &Key) {
        self.outstanding.lock().remove(key);
    }
}

impl Outstanding {
    fn came_back(&self) -> bool {
        match &self.await_ {
            Await::Version(version) => self.informer.seen() >= *version,
            Await::Gone { key, uid } => match self.informer.metadata(key) {
                Some(meta) => meta.uid != *uid || meta.deletion_timestamp.is_some(),
                None => true,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use gantry_clock::ManualClock;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::core::ObjectMeta;

    use super::*;
    use crate::informer::tests::idle_informers;

    fn object(version: &str) -> ConfigMap {
        let metadata = ObjectMeta {
            name: Some("a".into()),
            uid: Some("u".into()),
            resource_version: Some(version.into()),
            ..ObjectMeta::default()
        };
        ConfigMap { metadata, ..ConfigMap::default() }
    }

    #[tokio::test]
    async fn settled_when_the_watch_has_caught_up() {
        let clock = ManualClock::new(0);
        let informer = idle_informers(&clock).of::<ConfigMap>();
        let writes = Writes::new(Arc::new(clock.clone()));
        let key = Key::cluster("owner");
        writes.wrote(&key, &informer, &object("7"));
        assert!(!writes.settled(&key));
        informer.store().apply(object("7"));
        assert!(writes.settled(&key));
        writes.deleted(&key, &informer, &object("7"));
        assert!(!writes.settled(&key));
        informer.store().remove(&Key::cluster("a"), None);
        assert!(writes.settled(&key));
    }

    #[tokio::test]
    async fn lost_writes_are_forgotten_in_the_end() {
        let clock = ManualClock::new(0);
        let informer = idle_informers(&clock).of::<ConfigMap>();
        let writes = Writes::new(Arc::new(clock.clone()));
        let key = Key::cluster("owner");
        writes.wrote(&key, &informer, &object("7"));
        clock.advance(LOST_AFTER);
        assert!(writes.settled(&key));
    }
}
