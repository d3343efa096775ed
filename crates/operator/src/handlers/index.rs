//! Indices over objects: values by key, kept in memory, complete before the first handler runs.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::informer::{Change, Informer, Object};
use crate::key::Key;

/// Values of type `V` by keys of type `I`, each contributed by an object. Cloning shares it.
pub struct Index<I, V> {
    entries: Arc<RwLock<Entries<I, V>>>,
}

struct Entries<I, V> {
    by_key: HashMap<I, BTreeMap<Key, Vec<V>>>,
    by_object: HashMap<Key, Vec<I>>,
}

impl<I, V> Clone for Index<I, V> {
    fn clone(&self) -> Self {
        Index { entries: self.entries.clone() }
    }
}

impl<I, V> Index<I, V>
where
    I: Eq + Hash + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Follows `informer`; each object contributes what `entries_of` says, anew after each change.
    pub fn over<K: Object>(
        informer: &Informer<K>,
        entries_of: impl Fn(&K) -> Vec<(I, V)> + Send + Sync + 'static,
    ) -> Index<I, V> {
        let entries = Entries { by_key: HashMap::new(), by_object: HashMap::new() };
        let index = Index { entries: Arc::new(RwLock::new(entries)) };
        let written = index.clone();
        informer
            .subscribe(move |change| {
                let key = Key::of(&**change.object());
                let contributed = match change {
                    Change::Applied { new, .. } => entries_of(new),
                    Change::Deleted(_) => Vec::new(),
                };
                written.entries.write().replace(&key, contributed);
            })
            .keep();
        index
    }

    /// All values under `key`, ordered by the objects that contributed them.
    pub fn get(&self, key: &I) -> Vec<V> {
        let entries = self.entries.read();
        entries.by_key.get(key).into_iter().flat_map(|of_key| of_key.values().flatten().cloned()).collect()
    }

    pub fn contains(&self, key: &I) -> bool {
        self.entries.read().by_key.contains_key(key)
    }

    /// The number of keys.
    pub fn len(&self) -> usize {
        self.entries.read().by_key.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn keys(&self) -> Vec<I> {
        self.entries.read().by_key.keys().cloned().collect()
    }
}

impl<I: Eq + Hash + Clone, V> Entries<I, V> {
    fn replace(&mut self, object: &Key, contributed: Vec<(I, V)>) {
        for key in self.by_object.remove(object).unwrap_or_default() {
            if let Some(of_key) = self.by_key.get_mut(&key) {
                of_key.remove(object);
                if of_key.is_empty() {
                    self.by_key.remove(&key);
                }
            }
        }
        let mut keys = Vec::new();
        for (key, value) in contributed {
            self.by_key.entry(key.clone()).or_default().entry(object.clone()).or_default().push(value);
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        if !keys.is_empty() {
            self.by_object.insert(object.clone(), keys);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_replaces_what_it_contributed() {
        let mut entries = Entries { by_key: HashMap::new(), by_object: HashMap::new() };
        let (one, other) = (Key::cluster("a"), Key::cluster("b"));
        entries.replace(&one, vec![("x", 1), ("x", 2), ("y", 3)]);
        entries.replace(&other, vec![("x", 4)]);
        entries.replace(&one, vec![("y", 5)]);
        let values = |key: &str| {
            entries.by_key.get(key).map(|of_key| of_key.values().flatten().copied().collect::<Vec<_>>())
        };
        assert_eq!((values("x"), values("y")), (Some(vec![4]), Some(vec![5])));
        entries.replace(&other, vec![]);
        assert!(!entries.by_key.contains_key("x"));
    }
}
