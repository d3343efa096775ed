//! The namespace and name that identify an object of a known kind.

use std::fmt;
use std::sync::Arc;

use kube::Resource;
use serde::{Deserialize, Serialize};

/// Namespace and name of one object; cluster-scoped objects have an empty namespace.
///
/// Ordered by namespace first, so that the objects of one namespace are neighbours in an ordered map.
/// Cloning is cheap.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key {
    namespace: Arc<str>,
    name: Arc<str>,
}

impl Key {
    /// The key of a namespaced object, or of a cluster-scoped one when `namespace` is empty.
    pub fn new(namespace: &str, name: &str) -> Key {
        Key { namespace: namespace.into(), name: name.into() }
    }

    /// The key of a cluster-scoped object.
    pub fn cluster(name: &str) -> Key {
        Key::new("", name)
    }

    /// The key of `object`; its name is empty when the object has none yet.
    pub fn of<K: Resource>(object: &K) -> Key {
        let meta = object.meta();
        Key::new(meta.namespace.as_deref().unwrap_or(""), meta.name.as_deref().unwrap_or(""))
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The namespace, empty for a cluster-scoped object.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespace_sorts_first() {
        let mut keys = [Key::new("b", "a"), Key::cluster("z"), Key::new("a", "z")];
        keys.sort();
        assert_eq!(keys.map(|key| key.to_string()), ["z", "a/z", "b/a"]);
    }
}
