//! Pod templates: whether two are the same, and the hash that tells their pods apart.

use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::Value;

pub(crate) const HASH_LABEL: &str = "pod-template-hash";

/// The characters of a hash; none can form a word, as in names the API server generates.
const SAFE: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// True when both templates make the same pods: the hash label and empty fields do not count.
pub(crate) fn same(one: &PodTemplateSpec, other: &PodTemplateSpec) -> bool {
    let (one, other) = (without_hash(one), without_hash(other));
    one == other || canonical(&one) == canonical(&other)
}

/// A short name for a template, different after each collision.
pub(crate) fn hash(template: &PodTemplateSpec, collision_count: Option<i32>) -> String {
    let mut hash = Fnv32::default();
    hash.write(canonical(template).to_string().as_bytes());
    if let Some(count) = collision_count {
        hash.write(&count.to_le_bytes());
    }
    let digits = hash.0.to_string();
    digits.bytes().map(|digit| char::from(SAFE[usize::from(digit) % SAFE.len()])).collect()
}

fn without_hash(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = template.clone();
    if let Some(labels) = template.metadata.as_mut().and_then(|metadata| metadata.labels.as_mut()) {
        labels.remove(HASH_LABEL);
    }
    template
}

/// The template as JSON with sorted keys and without nulls and empty lists.
fn canonical(template: &PodTemplateSpec) -> Value {
    // A typed template is always representable.
    let mut value = serde_json::to_value(template).unwrap_or(Value::Null);
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        for map in ["labels", "annotations"] {
            if metadata.get(map).and_then(Value::as_object).is_some_and(serde_json::Map::is_empty) {
                metadata.remove(map);
            }
        }
        metadata.remove("creationTimestamp");
    }
    prune(&mut value);
    value.sort_all_objects();
    value
}

fn prune(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(prune);
            fields.retain(|_, field| !field.is_null() && !field.as_array().is_some_and(Vec::is_empty));
        }
        Value::Array(items) => items.iter_mut().for_each(prune),
        _ => {}
    }
}

/// The 32-bit FNV-1a hash.
struct Fnv32(u32);

impl Default for Fnv32 {
    fn default() -> Self {
        Fnv32(0x811c_9dc5)
    }
}

impl Fnv32 {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn template(value: Value) -> PodTemplateSpec {
        serde_json::from_value(value).expect("a template")
    }

    #[test]
    fn the_hash_label_and_empty_fields_do_not_count() {
        let plain =
            template(json!({ "metadata": { "labels": { "app": "web" } }, "spec": { "containers": [] } }));
        let hashed = template(json!({
            "metadata": { "labels": { "app": "web", HASH_LABEL: "x" }, "annotations": {} },
            "spec": { "containers": [], "tolerations": [] },
        }));
        assert!(same(&plain, &hashed));
        let other =
            template(json!({ "metadata": { "labels": { "app": "db" } }, "spec": { "containers": [] } }));
        assert!(!same(&plain, &other));
    }

    #[test]
    fn hashes_are_stable_and_change_after_a_collision() {
        let plain = template(json!({ "spec": { "containers": [{ "name": "a", "image": "b" }] } }));
        assert_eq!(hash(&plain, None), hash(&plain, None));
        assert_ne!(hash(&plain, None), hash(&plain, Some(1)));
        assert!(hash(&plain, None).bytes().all(|byte| SAFE.contains(&byte)));
        assert!(hash(&plain, None).len() <= 10);
    }
}
