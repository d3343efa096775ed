//! Object trees as Kubernetes' protobuf bodies, over the same table as decoding.
//!
//! Only what the object has is written: a field that Go would write as zero reads as zero where it is absent. Fields
//! come in the order of their numbers, maps in the order of their keys.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::MAGIC;
use crate::time;
use crate::types::{Field, FieldType, TypeId, Types};
use crate::value::{Kind, Map, Number, Value};

/// The body for `object`, whose kind and version it names itself. `None` if the table does not have the kind.
pub fn encode(object: &Value) -> Option<Vec<u8>> {
    let kind = object.str_at(&["kind"]).unwrap_or_default();
    let api_version = object.str_at(&["apiVersion"]).unwrap_or_default();
    let raw = raw(object, api_version, kind)?;
    Some(envelope(api_version, kind, &raw))
}

/// The envelope around the message of an object.
fn envelope(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let mut meta = Vec::new();
    bytes_field(&mut meta, 1, api_version.as_bytes());
    bytes_field(&mut meta, 2, kind.as_bytes());
    let mut out = Vec::with_capacity(raw.len() + meta.len() + 24);
    out.extend_from_slice(MAGIC);
    bytes_field(&mut out, 1, &meta);
    bytes_field(&mut out, 2, raw);
    bytes_field(&mut out, 3, b"");
    bytes_field(&mut out, 4, b"");
    out
}

/// The object's message alone.
fn raw(object: &Value, api_version: &str, kind: &str) -> Option<Vec<u8>> {
    let types = Types::built_in();
    let encoder = Encoder { types };
    let map = object.as_object()?;
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let metadata = types.named("meta.v1.ObjectMeta");
    let of = match kind {
        "Status" => types.named("meta.v1.Status"),
        "DeleteOptions" => types.named("meta.v1.DeleteOptions"),
        _ => types.kind(group, version, kind),
    };
    if let Some(of) = of {
        let mut out = Vec::new();
        encoder.message(&mut out, map, of);
        return Some(out);
    }
    if kind == "PartialObjectMetadata" && group == "meta.k8s.io" {
        let mut out = Vec::new();
        encoder.nested(&mut out, 1, map.get("metadata")?, metadata?);
        return Some(out);
    }
    // A list: its metadata, then the messages of its items.
    let item_kind = kind.strip_suffix("List")?;
    let item = match item_kind {
        "PartialObjectMetadata" => None,
        _ => Some(types.kind(group, version, item_kind)?),
    };
    let mut out = Vec::new();
    encoder.nested(
        &mut out,
        1,
        map.get("metadata").unwrap_or(&Value::NULL),
        types.named("meta.v1.ListMeta")?,
    );
    for object in map.get("items").and_then(Value::as_array).into_iter().flatten() {
        let mut message = Vec::new();
        match item {
            Some(of) => encoder.message(&mut message, object.as_object()?, of),
            None => encoder.nested(&mut message, 1, object.get("metadata")?, metadata?),
        }
        bytes_field(&mut out, 2, &message);
    }
    Some(out)
}

/// One frame of a watch: its length, then the event's type and the object's body.
pub fn watch_frame(event: &str, object: &Value) -> Option<Vec<u8>> {
    let mut extension = Vec::new();
    bytes_field(&mut extension, 1, &encode(object)?);
    let mut message = Vec::new();
    bytes_field(&mut message, 1, event.as_bytes());
    bytes_field(&mut message, 2, &extension);
    let mut frame = Vec::with_capacity(message.len() + 4);
    frame.extend_from_slice(&u32::try_from(message.len()).ok()?.to_be_bytes());
    frame.extend_from_slice(&message);
    Some(frame)
}

struct Encoder {
    types: &'static Types,
}

impl Encoder {
    fn message(&self, out: &mut Vec<u8>, map: &Map, of: TypeId) {
        let mut fields: Vec<(&Field, &Value)> = map
            .iter()
            .filter(|(_, value)| !value.is_null())
            .filter_map(|(name, value)| Some((self.types.field(of, name)?, value)))
            .filter(|(field, _)| field.number != 0)
            .collect();
        fields.sort_by_key(|(field, _)| match field.outer {
            [0, _] => [field.number, 0, 0],
            [first, 0] => [first, field.number, 0],
            [first, second] => [first, second, field.number],
        });
        self.level(out, &fields, 0);
    }

    /// Writes fields that share their first `level` outer messages.
    fn level(&self, out: &mut Vec<u8>, fields: &[(&Field, &Value)], level: usize) {
        let outer_of = |field: &Field| field.outer.get(level).copied().unwrap_or(0);
        for group in fields.chunk_by(|(a, _), (b, _)| outer_of(a) == outer_of(b)) {
            match outer_of(group[0].0) {
                0 => {
                    for (field, value) in group {
                        self.field(out, field, value);
                    }
                }
                number => {
                    let mut inner = Vec::new();
                    self.level(&mut inner, group, level + 1);
                    bytes_field(out, number, &inner);
                }
            }
        }
    }

    fn field(&self, out: &mut Vec<u8>, field: &Field, value: &Value) {
        match (&field.kind, &value.kind) {
            (FieldType::List(element), Kind::Array(items)) => {
                for item in items {
                    self.value(out, field.number, element, item);
                }
            }
            (FieldType::Map(element), Kind::Object(map)) => {
                let mut entries: Vec<_> = map.iter().collect();
                entries.sort_by_key(|(key, _)| *key);
                for (key, item) in entries {
                    let mut entry = Vec::new();
                    bytes_field(&mut entry, 1, key.as_bytes());
                    self.value(&mut entry, 2, element, item);
                    bytes_field(out, field.number, &entry);
                }
            }
            (kind, _) => self.value(out, field.number, kind, value),
        }
    }

    /// Values of another type than the table's are left out: they have been checked before they are stored.
    fn value(&self, out: &mut Vec<u8>, number: u32, kind: &FieldType, value: &Value) {
        match (kind, &value.kind) {
            (FieldType::String, Kind::String(text)) => bytes_field(out, number, text.as_bytes()),
            (FieldType::Int32 | FieldType::Int64, Kind::Number(Number::Int(int))) => {
                varint_field(out, number, *int as u64)
            }
            (FieldType::Bool, Kind::Bool(flag)) => varint_field(out, number, u64::from(*flag)),
            (FieldType::Float, Kind::Number(float)) => {
                varint(out, u64::from(number) << 3 | 1);
                out.extend_from_slice(&float.as_f64().to_le_bytes());
            }
            (FieldType::Bytes, Kind::String(text)) => {
                let compact: String = text.chars().filter(|c| !matches!(c, '\n' | '\r')).collect();
                bytes_field(out, number, &BASE64_STANDARD.decode(compact).unwrap_or_default());
            }
            (FieldType::Quantity, Kind::String(text)) => {
                let mut inner = Vec::new();
                bytes_field(&mut inner, 1, text.as_bytes());
                bytes_field(out, number, &inner);
            }
            (FieldType::Time | FieldType::MicroTime, Kind::String(text)) => {
                let mut inner = Vec::new();
                if let Some(micros) = time::parse_micro_time(text) {
                    varint_field(&mut inner, 1, micros.div_euclid(1_000_000) as u64);
                    varint_field(&mut inner, 2, (micros.rem_euclid(1_000_000) * 1000) as u64);
                }
                bytes_field(out, number, &inner);
            }
            (FieldType::IntOrString, kind) => {
                let (code, int, text) = match kind {
                    Kind::Number(Number::Int(int)) => (0, *int, ""),
                    Kind::String(text) => (1, 0, text.as_str()),
                    _ => return,
                };
                let mut inner = Vec::new();
                varint_field(&mut inner, 1, code);
                varint_field(&mut inner, 2, int as u64);
                bytes_field(&mut inner, 3, text.as_bytes());
                bytes_field(out, number, &inner);
            }
            (FieldType::Raw, _) => {
                let mut inner = Vec::new();
                bytes_field(&mut inner, 1, &serde_json::to_vec(value).unwrap_or_default());
                bytes_field(out, number, &inner);
            }
            (FieldType::SchemaOrBool | FieldType::SchemaOrArray | FieldType::SchemaOrStrings, _) => {
                self.schema_or(out, number, kind, value)
            }
            (FieldType::Object(of), Kind::Object(_)) => self.nested(out, number, value, *of),
            // A list within a list or map is a message of its own.
            (FieldType::List(element), Kind::Array(items)) => {
                let mut inner = Vec::new();
                for item in items {
                    self.value(&mut inner, 1, element, item);
                }
                bytes_field(out, number, &inner);
            }
            // Null where Go has no pointer: an empty message.
            (FieldType::Time | FieldType::MicroTime | FieldType::Object(_), Kind::Null) => {
                bytes_field(out, number, b"")
            }
            _ => {}
        }
    }

    fn nested(&self, out: &mut Vec<u8>, number: u32, value: &Value, of: TypeId) {
        let mut inner = Vec::new();
        if let Some(map) = value.as_object() {
            self.message(&mut inner, map, of);
        }
        bytes_field(out, number, &inner);
    }

    fn schema_or(&self, out: &mut Vec<u8>, number: u32, kind: &FieldType, value: &Value) {
        let Some(schema) = self.types.named("apiextensions.v1.JSONSchemaProps") else { return };
        let mut inner = Vec::new();
        match (kind, &value.kind) {
            (FieldType::SchemaOrBool, Kind::Bool(allows)) => varint_field(&mut inner, 1, u64::from(*allows)),
            (FieldType::SchemaOrBool, Kind::Object(_)) => {
                varint_field(&mut inner, 1, 1);
                self.nested(&mut inner, 2, value, schema);
            }
            (_, Kind::Object(_)) => self.nested(&mut inner, 1, value, schema),
            (_, Kind::Array(items)) => {
                for item in items {
                    match item.as_str() {
                        Some(text) => bytes_field(&mut inner, 2, text.as_bytes()),
                        None => self.nested(&mut inner, 2, item, schema),
                    }
                }
            }
            _ => return,
        }
        bytes_field(out, number, &inner);
    }
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn varint_field(out: &mut Vec<u8>, number: u32, value: u64) {
    varint(out, u64::from(number) << 3);
    varint(out, value);
}

fn bytes_field(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    varint(out, u64::from(number) << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::super::decode;
    use super::*;

    fn round_trip(text: &str) {
        let value: Value = serde_json::from_str(text).unwrap();
        let body = encode(&value).unwrap();
        let back = decode(&body, "", "").unwrap();
        assert_eq!(back, value, "{text}");
    }

    #[test]
    fn what_is_written_is_read_back() {
        for text in [
            r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a","creationTimestamp":"2026-01-02T03:04:05Z","labels":{"b":"1","a":"2"}},"data":{"k":"v"},"binaryData":{"b":"AAEC"}}"#,
            r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"i","resources":{"limits":{"cpu":"100m"}},"livenessProbe":{"httpGet":{"path":"/","port":"http"},"periodSeconds":5},"ports":[{"containerPort":80}]}],"volumes":[{"name":"v","emptyDir":{}}],"terminationGracePeriodSeconds":0}}"#,
            r#"{"kind":"Lease","apiVersion":"coordination.k8s.io/v1","metadata":{"name":"l"},"spec":{"renewTime":"2026-01-02T03:04:05.123456Z"}}"#,
            r#"{"kind":"CustomResourceDefinition","apiVersion":"apiextensions.k8s.io/v1","metadata":{"name":"t.x"},"spec":{"group":"x","names":{"plural":"t","kind":"T"},"scope":"Namespaced","versions":[{"name":"v1","served":true,"storage":false,"schema":{"openAPIV3Schema":{"type":"object","additionalProperties":{"type":"string"},"items":{"type":"integer"},"default":{"a":[1]}}}}]}}"#,
            r#"{"kind":"ValidatingAdmissionPolicy","apiVersion":"admissionregistration.k8s.io/v1","metadata":{"name":"p"},"spec":{"matchConstraints":{"resourceRules":[{"resourceNames":["n"],"operations":["*"],"apiGroups":["g"],"apiVersions":["v"],"resources":["r"],"scope":"*"}]}}}"#,
        ] {
            round_trip(text);
        }
    }

    #[test]
    fn a_list_has_the_messages_of_its_items() {
        let list: Value = serde_json::from_str(
            r#"{"kind":"ConfigMapList","apiVersion":"v1","metadata":{"resourceVersion":"7"},"items":[{"metadata":{"name":"a"}}]}"#,
        )
        .unwrap();
        let body = encode(&list).unwrap();
        assert!(body.windows(3).any(|window| window == b"\x0a\x01a"));
        assert!(encode(&Value::object()).is_none());
    }

    #[test]
    fn a_watch_frame_says_its_length() {
        let object: Value =
            serde_json::from_str(r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a"}}"#)
                .unwrap();
        let frame = watch_frame("ADDED", &object).unwrap();
        let length = u32::from_be_bytes(frame[..4].try_into().unwrap()) as usize;
        assert_eq!(length, frame.len() - 4);
    }
}
