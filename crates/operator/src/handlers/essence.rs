//! The essence of an object: what of it a user configures, without what the system keeps in it.

use serde_json::{Map, Value};

use super::annotations::operator_prefixes;
use super::diff::resolve;

const KUBECTL_LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Everything but `apiVersion`, `kind`, `status` and `metadata`; of the latter two labels, annotations that are
/// not notes of operators or of kubectl, and the fields that handlers ask for.
pub(crate) fn essence(body: &Value, extra_fields: &[Vec<String>]) -> Value {
    let mut essence: Map<String, Value> = body.as_object().cloned().unwrap_or_default();
    for field in ["apiVersion", "kind", "metadata", "status"] {
        essence.shift_remove(field);
    }
    let mut essence = Value::Object(essence);
    for path in [["metadata", "labels"], ["metadata", "annotations"]] {
        pick(body, &mut essence, &path.map(str::to_owned));
    }
    if let Some(annotations) = essence.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        let prefixes = operator_prefixes(annotations.keys().map(String::as_str));
        annotations.retain(|key, _| {
            let prefix = key.split_once('/').map(|(prefix, _)| prefix);
            let noted = prefix.is_some_and(|prefix| prefixes.iter().any(|known| known == prefix));
            !noted && key != KUBECTL_LAST_APPLIED
        });
    }
    for path in extra_fields {
        pick(body, &mut essence, path);
    }
    remove_empty(&mut essence);
    essence
}

/// Removes the annotations under `prefix` and what becomes empty by that.
pub(crate) fn without_annotations(essence: &mut Value, keys: &[String]) {
    if let Some(annotations) = essence.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.retain(|key, _| !keys.contains(key));
    }
    remove_empty(essence);
}

/// Removes `fields` and what becomes empty by that.
pub(crate) fn without_fields(essence: &mut Value, fields: &[Vec<String>]) {
    for path in fields {
        remove(essence, path);
    }
}

fn remove(value: &mut Value, path: &[String]) {
    let (Some(fields), Some((first, rest))) = (value.as_object_mut(), path.split_first()) else { return };
    if rest.is_empty() {
        fields.shift_remove(first);
        return;
    }
    let Some(inner) = fields.get_mut(first) else { return };
    remove(inner, rest);
    if inner.as_object().is_some_and(Map::is_empty) {
        fields.shift_remove(first);
    }
}

fn pick(source: &Value, target: &mut Value, path: &[String]) {
    let Some(found) = resolve(source, path) else { return };
    let mut place = target;
    for field in path {
        if !place.is_object() {
            *place = Value::Object(Map::new());
        }
        let Some(fields) = place.as_object_mut() else { return };
        place = fields.entry(field.clone()).or_insert(Value::Null);
    }
    *place = found.clone();
}

fn remove_empty(essence: &mut Value) {
    let is_empty = |value: &Value| value.as_object().is_some_and(Map::is_empty);
    if let Some(metadata) = essence.get_mut("metadata").and_then(Value::as_object_mut) {
        for part in ["annotations", "labels"] {
            if metadata.get(part).is_some_and(is_empty) {
                metadata.shift_remove(part);
            }
        }
    }
    if let Some(fields) = essence.as_object_mut() {
        for part in ["metadata", "status"] {
            if fields.get(part).is_some_and(is_empty) {
                fields.shift_remove(part);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_essence_is_what_a_user_wrote() {
        let body = json!({
            "apiVersion": "v1", "kind": "Widget",
            "metadata": {
                "name": "a", "uid": "u", "resourceVersion": "7",
                "labels": { "app": "web" },
                "annotations": {
                    "note": "mine", KUBECTL_LAST_APPLIED: "{}",
                    "kopf.zalando.org/on_create": "{}", "other.io/kopf-managed": "yes", "other.io/state": "x",
                },
            },
            "spec": { "size": 1 },
            "data": "x",
            "status": { "phase": "Ready", "x": 1 },
        });
        assert_eq!(
            essence(&body, &[]),
            json!({ "spec": { "size": 1 }, "data": "x",
                "metadata": { "labels": { "app": "web" }, "annotations": { "note": "mine" } } })
        );
        let with_phase = essence(&body, &[vec!["status".into(), "phase".into()]]);
        assert_eq!(with_phase["status"], json!({ "phase": "Ready" }));
        let mut without = with_phase.clone();
        without_fields(
            &mut without,
            &[vec!["status".into(), "phase".into()], vec!["spec".into(), "none".into()]],
        );
        assert_eq!(without, essence(&body, &[]));
        let bare = json!({ "metadata": { "annotations": { "kopf.zalando.org/x": "1" } }, "spec": {} });
        assert_eq!(essence(&bare, &[]), json!({ "spec": {} }));
    }
}
