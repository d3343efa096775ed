//! Changes that a handler wants made to its object; written in as few requests as possible after it ends.

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Map, Value, json};

/// A merge patch that grows. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Patch {
    changes: Arc<Mutex<Map<String, Value>>>,
}

impl Patch {
    /// Adds a merge patch (RFC 7396): later values win, null removes.
    pub fn merge(&self, changes: Value) {
        if let Value::Object(changes) = changes {
            merge_into(&mut self.changes.lock(), changes);
        }
    }

    /// Sets `status.<field>`.
    pub fn status(&self, field: &str, value: impl Into<Value>) {
        self.merge(json!({ "status": { field: value.into() } }));
    }

    /// Sets an annotation.
    pub fn annotation(&self, name: &str, value: impl Into<String>) {
        self.merge(json!({ "metadata": { "annotations": { name: value.into() } } }));
    }

    /// Sets a label.
    pub fn label(&self, name: &str, value: impl Into<String>) {
        self.merge(json!({ "metadata": { "labels": { name: value.into() } } }));
    }

    pub fn is_empty(&self) -> bool {
        self.changes.lock().is_empty()
    }

    /// Takes what was gathered: the status, and all the rest.
    pub(crate) fn take(&self) -> (Option<Value>, Option<Value>) {
        let mut changes = std::mem::take(&mut *self.changes.lock());
        let status = changes.shift_remove("status").map(|status| json!({ "status": status }));
        let rest = Some(changes).filter(|changes| !changes.is_empty()).map(Value::Object);
        (status, rest)
    }
}

fn merge_into(target: &mut Map<String, Value>, changes: Map<String, Value>) {
    for (field, change) in changes {
        match (target.get_mut(&field), change) {
            (Some(Value::Object(known)), Value::Object(change)) => merge_into(known, change),
            (_, change) => {
                target.insert(field, change);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_gather_and_the_status_is_apart() {
        let patch = Patch::default();
        patch.status("ready", true);
        patch.status("size", 3);
        patch.annotation("a", "1");
        patch.merge(json!({ "spec": { "x": null } }));
        let (status, rest) = patch.take();
        assert_eq!(status, Some(json!({ "status": { "ready": true, "size": 3 } })));
        assert_eq!(rest, Some(json!({ "metadata": { "annotations": { "a": "1" } }, "spec": { "x": null } })));
        assert!(patch.is_empty());
    }
}
