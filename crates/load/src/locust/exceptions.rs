//! Exceptions of the users' code, counted by their traceback.

use indexmap::{IndexMap, IndexSet};

const MOST_EXCEPTIONS: usize = 1000;
const MOST_NODES: usize = 1000;

/// An exception of the user's code, by its traceback.
#[derive(Clone, Debug)]
pub struct Exception {
    pub count: u64,
    pub msg: String,
    pub traceback: String,
    pub nodes: IndexSet<String>,
}

#[derive(Default)]
pub(super) struct Exceptions(IndexMap<String, Exception>);

// === impl Exceptions ===

impl Exceptions {
    /// One more of it, on `node`.
    pub(super) fn add(&mut self, node: String, msg: String, traceback: String) {
        if self.0.len() >= MOST_EXCEPTIONS && !self.0.contains_key(&traceback) {
            return;
        }
        let known = self.0.entry(traceback.clone()).or_insert_with(|| Exception {
            count: 0,
            msg,
            traceback,
            nodes: IndexSet::new(),
        });
        known.count = known.count.saturating_add(1);
        if known.nodes.len() < MOST_NODES {
            known.nodes.insert(node);
        }
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Exception> {
        self.0.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_new_is_dropped_at_the_bound_and_what_is_known_is_counted() {
        let mut exceptions = Exceptions::default();
        for number in 0..=MOST_EXCEPTIONS {
            exceptions.add("a".into(), "m".into(), number.to_string());
        }
        exceptions.add("b".into(), "m".into(), "0".into());
        assert_eq!(exceptions.iter().count(), MOST_EXCEPTIONS);
        let first = exceptions.iter().next().unwrap();
        assert_eq!((first.count, first.nodes.len()), (2, 2));
        exceptions.clear();
        assert!(exceptions.is_empty());
    }
}
