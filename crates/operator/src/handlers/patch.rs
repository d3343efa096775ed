//! Changes that a handler wants made to its object; written in as few requests as possible after it ends.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use super::context::HandlerError;

type Transformed = Pin<Box<dyn Future<Output = Result<Value, HandlerError>> + Send>>;

/// Makes the object that is wanted from the object as it is.
pub(crate) type Transform = Arc<dyn Fn(Value) -> Transformed + Send + Sync>;

/// A merge patch that grows, and transformations of the whole object. Cloning shares it.
#[derive(Clone, Default)]
pub struct Patch {
    changes: Arc<Mutex<Map<String, Value>>>,
    transforms: Arc<Mutex<Vec<Transform>>>,
}

impl fmt::Debug for Patch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let transforms = self.transforms.lock().len();
        f.debug_struct("Patch")
            .field("changes", &*self.changes.lock())
            .field("transforms", &transforms)
            .finish()
    }
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

    /// Adds a change that depends on what the object is when it is written, such as one within a list: `transform`
    /// is given the newest object and returns what it shall become, again and again until nobody interferes.
    pub fn transform<F, Fut>(&self, transform: F)
    where
        F: Fn(Value) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Value, HandlerError>> + Send + 'static,
    {
        self.transforms.lock().push(Arc::new(move |body| Box::pin(transform(body))));
    }

    pub fn is_empty(&self) -> bool {
        self.changes.lock().is_empty() && self.transforms.lock().is_empty()
    }

    pub(crate) fn take_transforms(&self) -> Vec<Transform> {
        std::mem::take(&mut *self.transforms.lock())
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

/// The merge patch that leads from `before` to `after`; nothing when they are the same.
pub(crate) fn merge_patch_between(before: &Value, after: &Value) -> Option<Value> {
    match (before, after) {
        _ if before == after => None,
        (Value::Object(before), Value::Object(after)) => {
            let mut changes = Map::new();
            for (field, value) in after {
                let change = match before.get(field) {
                    Some(known) => merge_patch_between(known, value),
                    None => Some(value.clone()),
                };
                changes.extend(change.map(|change| (field.clone(), change)));
            }
            let gone = before.keys().filter(|field| !after.contains_key(*field));
            changes.extend(gone.map(|field| (field.clone(), Value::Null)));
            Some(Value::Object(changes))
        }
        _ => Some(after.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_from_one_state_to_another() {
        let before = json!({ "a": { "x": 1, "y": [1] }, "b": 2, "c": 3 });
        let after = json!({ "a": { "x": 1, "y": [1, 2] }, "c": 3, "d": {} });
        let patch = merge_patch_between(&before, &after);
        assert_eq!(patch, Some(json!({ "a": { "y": [1, 2] }, "d": {}, "b": null })));
        assert_eq!(merge_patch_between(&before, &before), None);
    }

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
