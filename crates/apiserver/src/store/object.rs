//! A stored object: its canonical JSON, where the resourceVersion stands in it, and what selectors look at.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use gantry_apimachinery::value::SmolStr;
use gantry_apimachinery::{Key, Kind, Value};

/// Where an object lives within its collection. Orders by namespace, then name, as lists do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// Empty for a cluster-scoped object.
    pub namespace: SmolStr,
    pub name: SmolStr,
}

/// One version of one object.
pub struct Object {
    pub key: ObjectKey,
    pub revision: u64,
    /// Canonical JSON: `kind`, `apiVersion`, `metadata` first, in that order, in the stored version.
    pub bytes: Bytes,
    labels: OnceLock<Labels>,
    /// Table cells, made when first asked for; the cell of an age is left open.
    pub(crate) cells: OnceLock<Arc<str>>,
}

type Labels = Box<[(Key, SmolStr)]>;

/// An object's encoding before the store has given it a revision.
#[derive(Clone, Debug)]
pub struct Encoded {
    text: Vec<u8>,
    /// Where the digits of the resourceVersion go.
    revision_at: usize,
    labels: Labels,
}

// === impl Object ===

impl Object {
    pub(crate) fn new(key: ObjectKey, revision: u64, encoded: Encoded) -> Object {
        Object {
            key,
            revision,
            bytes: encoded.at_revision(revision),
            labels: OnceLock::from(encoded.labels),
            cells: OnceLock::new(),
        }
    }

    /// An object read back from disk. Its labels are looked up when first asked for.
    pub(crate) fn recovered(key: ObjectKey, revision: u64, bytes: Bytes) -> Object {
        Object { key, revision, bytes, labels: OnceLock::new(), cells: OnceLock::new() }
    }

    /// The parsed object.
    pub fn value(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_default()
    }

    pub fn label(&self, key: &str) -> Option<&str> {
        let labels = self.labels.get_or_init(|| labels_of(&self.value()));
        labels.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }
}

fn labels_of(object: &Value) -> Labels {
    let labels = object.at(&["metadata", "labels"]).and_then(Value::as_object);
    let pairs = labels.into_iter().flat_map(|labels| labels.iter());
    pairs.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.into()))).collect()
}

// === impl Encoded ===

/// Metadata fields in the order in which they are written; any other follows.
const METADATA_ORDER: [&str; 14] = [
    "name",
    "generateName",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "labels",
    "annotations",
    "ownerReferences",
    "finalizers",
    "managedFields",
];

impl Encoded {
    /// Writes `object` canonically. Whatever resourceVersion it has is left out.
    pub fn new(object: &Value) -> Encoded {
        let mut writer = Writer { text: Vec::with_capacity(1024), first: true };
        let mut revision_at = 0;
        writer.text.push(b'{');
        for field in ["kind", "apiVersion"] {
            if let Some(value) = object.get(field) {
                writer.field(field, value);
            }
        }
        writer.name("metadata");
        writer.text.push(b'{');
        writer.first = true;
        let metadata = object.get("metadata").and_then(Value::as_object);
        for field in METADATA_ORDER {
            if field == "resourceVersion" {
                writer.name(field);
                writer.text.push(b'"');
                revision_at = writer.text.len();
                writer.text.push(b'"');
            } else if let Some(value) = metadata.and_then(|metadata| metadata.get(field)) {
                writer.field(field, value);
            }
        }
        for (field, value) in metadata.into_iter().flat_map(|metadata| metadata.iter()) {
            if !METADATA_ORDER.contains(&field.as_str()) {
                writer.field(field, value);
            }
        }
        writer.text.push(b'}');
        writer.first = false;
        for (field, value) in object.as_object().into_iter().flat_map(|fields| fields.iter()) {
            if !matches!(field.as_str(), "kind" | "apiVersion" | "metadata") {
                writer.field(field, value);
            }
        }
        writer.text.push(b'}');
        Encoded { text: writer.text, revision_at, labels: labels_of(object) }
    }

    /// True if giving this encoding the revision of `object` makes the same bytes: nothing would change.
    pub fn is_same_as(&self, object: &Object) -> bool {
        let digits = object.revision.to_string();
        let (before, after) = self.text.split_at(self.revision_at);
        object
            .bytes
            .strip_prefix(before)
            .and_then(|rest| rest.strip_prefix(digits.as_bytes()))
            .is_some_and(|rest| rest == after)
    }

    pub fn len(&self) -> usize {
        self.text.len()
    }

    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// The JSON of the object at a revision.
    pub fn at_revision(&self, revision: u64) -> Bytes {
        let digits = revision.to_string();
        let mut text = Vec::with_capacity(self.text.len() + digits.len());
        let (before, after) = self.text.split_at(self.revision_at);
        text.extend_from_slice(before);
        text.extend_from_slice(digits.as_bytes());
        text.extend_from_slice(after);
        text.into()
    }

    /// The JSON of an object that was never stored (a dry run): the resourceVersion is left out.
    pub fn without_revision(&self) -> Bytes {
        const FIELD: &str = "\"resourceVersion\":\"\"";
        let start = self.revision_at + 1 - FIELD.len();
        let mut text = Vec::with_capacity(self.text.len());
        text.extend_from_slice(&self.text[..start]);
        let mut rest = &self.text[self.revision_at + 1..];
        if text.last() == Some(&b',') {
            text.pop();
        } else if rest.first() == Some(&b',') {
            rest = &rest[1..];
        }
        text.extend_from_slice(rest);
        text.into()
    }
}

struct Writer {
    text: Vec<u8>,
    first: bool,
}

impl Writer {
    fn name(&mut self, name: &str) {
        if !std::mem::take(&mut self.first) {
            self.text.push(b',');
        }
        self.string(name);
        self.text.push(b':');
    }

    fn field(&mut self, name: &str, value: &Value) {
        self.name(name);
        self.value(value);
    }

    fn string(&mut self, text: &str) {
        let plain = text.bytes().all(|b| b >= 0x20 && b != b'"' && b != b'\\');
        if plain {
            self.text.push(b'"');
            self.text.extend_from_slice(text.as_bytes());
            self.text.push(b'"');
        } else {
            // Writing to a vector cannot fail.
            let _ = serde_json::to_writer(&mut self.text, text);
        }
    }

    fn value(&mut self, value: &Value) {
        match &value.kind {
            Kind::String(text) => self.string(text),
            Kind::Object(map) => {
                self.text.push(b'{');
                self.first = true;
                for (key, value) in map.iter() {
                    self.field(key, value);
                }
                self.text.push(b'}');
                self.first = false;
            }
            Kind::Array(items) => {
                self.text.push(b'[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        self.text.push(b',');
                    }
                    self.value(item);
                }
                self.text.push(b']');
            }
            _ => {
                let _ = serde_json::to_writer(&mut self.text, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    fn key() -> ObjectKey {
        ObjectKey { namespace: "ns".into(), name: "a".into() }
    }

    #[test]
    fn the_revision_is_put_in_its_place() {
        let value = json(
            r#"{"data":{"k":"q\"\n"},"metadata":{"labels":{"x":"y"},"name":"a","resourceVersion":"1"},"apiVersion":"v1","kind":"ConfigMap"}"#,
        );
        let encoded = Encoded::new(&value);
        let object = Object::new(key(), 42, encoded.clone());
        let expected = r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a","resourceVersion":"42","labels":{"x":"y"}},"data":{"k":"q\"\n"}}"#;
        assert_eq!(std::str::from_utf8(&object.bytes).unwrap(), expected);
        assert!(encoded.is_same_as(&object));
        assert_eq!(object.label("x"), Some("y"));
        assert_eq!(Object::recovered(key(), 42, object.bytes.clone()).label("x"), Some("y"));
        assert_eq!(
            std::str::from_utf8(&encoded.without_revision()).unwrap(),
            expected.replace(r#","resourceVersion":"42""#, "")
        );
    }

    #[test]
    fn an_object_without_metadata_still_has_a_revision() {
        let encoded = Encoded::new(&json(r#"{"kind":"X"}"#));
        let object = Object::new(key(), 7, encoded.clone());
        assert_eq!(&object.bytes[..], br#"{"kind":"X","metadata":{"resourceVersion":"7"}}"#);
        assert_eq!(&encoded.without_revision()[..], br#"{"kind":"X","metadata":{}}"#);
    }
}
