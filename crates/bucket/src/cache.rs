//! Bytes that were fetched, as long as there is room.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

/// What a range is known by: the object, and where it begins and how long it is.
type Key = (Arc<str>, u64, u64);

#[derive(Debug, Default)]
struct Kept {
    entries: HashMap<Key, (Bytes, u64)>,
    /// When each entry was last of use, the oldest first.
    order: BTreeMap<u64, Key>,
    bytes: usize,
    now: u64,
}

/// Ranges of objects, those that were not asked for longest gone first. Shared by all blocks of a store.
#[derive(Debug)]
pub struct RangeCache {
    kept: Mutex<Kept>,
    max_bytes: usize,
}

/// What an entry takes besides its bytes, about.
const ENTRY_BYTES: usize = 160;

impl RangeCache {
    /// At most `max_bytes`.
    pub fn new(max_bytes: usize) -> RangeCache {
        RangeCache { kept: Mutex::default(), max_bytes }
    }

    pub(crate) fn get(&self, object: &Arc<str>, start: u64, len: u64) -> Option<Bytes> {
        let key = (object.clone(), start, len);
        let mut kept = self.kept.lock();
        kept.now += 1;
        let now = kept.now;
        let (bytes, used) = kept.entries.get_mut(&key)?;
        let (bytes, before) = (bytes.clone(), std::mem::replace(used, now));
        kept.order.remove(&before);
        kept.order.insert(now, key);
        Some(bytes)
    }

    pub(crate) fn put(&self, object: &Arc<str>, start: u64, len: u64, bytes: &Bytes) {
        if bytes.len() + ENTRY_BYTES > self.max_bytes / 4 {
            return;
        }
        let key = (object.clone(), start, len);
        let mut kept = self.kept.lock();
        kept.now += 1;
        let now = kept.now;
        // A slice keeps the whole of what it was cut from; the copy keeps what is counted.
        let copy = Bytes::copy_from_slice(bytes);
        kept.bytes += copy.len() + ENTRY_BYTES;
        if let Some((old, used)) = kept.entries.insert(key.clone(), (copy, now)) {
            kept.bytes -= old.len() + ENTRY_BYTES;
            kept.order.remove(&used);
        }
        kept.order.insert(now, key);
        while kept.bytes > self.max_bytes
            && let Some((_, oldest)) = kept.order.pop_first()
        {
            if let Some((gone, _)) = kept.entries.remove(&oldest) {
                kept.bytes -= gone.len() + ENTRY_BYTES;
            }
        }
    }

    /// Bytes that are kept now.
    pub fn bytes(&self) -> usize {
        self.kept.lock().bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_asked_for_longest_goes() {
        let cache = RangeCache::new(10 * (100 + ENTRY_BYTES));
        let object: Arc<str> = Arc::from("o");
        let bytes = Bytes::from(vec![1; 100]);
        for start in 0..10 {
            cache.put(&object, start, 100, &bytes);
        }
        assert!(cache.get(&object, 0, 100).is_some());
        cache.put(&object, 10, 100, &bytes);
        assert!(cache.get(&object, 0, 100).is_some() && cache.get(&object, 1, 100).is_none());
        assert!(cache.bytes() <= 10 * (100 + ENTRY_BYTES));
        cache.put(&object, 11, 5000, &Bytes::from(vec![0; 5000]));
        assert!(cache.get(&object, 11, 5000).is_none(), "larger than a quarter of the room");
    }
}
