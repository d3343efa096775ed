//! Kubernetes' protobuf bodies as object trees, over the table of field numbers.
//!
//! A body is four magic bytes and a `runtime.Unknown` whose `raw` is the object. Go writes every field that is no
//! pointer, set or not; what an absent field means is left out again here.

mod encode;

pub use encode::{encode, watch_frame};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::time;
use crate::types::{Field, FieldType, TypeId, Types};
use crate::value::{Map, Value};

const MAGIC: &[u8; 4] = b"k8s\0";
/// Messages that nest deeper are refused.
const MAX_DEPTH: usize = 64;

#[derive(Debug, thiserror::Error, PartialEq)]
pub enum Error {
    #[error("provided data does not appear to be a protobuf message, expected prefix {MAGIC:?}")]
    NoMagic,
    #[error("proto: the message is cut short")]
    Short,
    #[error("proto: wrong wireType = {wire} for field {field}")]
    WireType { field: String, wire: u8 },
    #[error("proto: text is not UTF-8 in field {0}")]
    NotUtf8(String),
    #[error("proto: messages nest deeper than {MAX_DEPTH}")]
    TooDeep,
    #[error("no kind \"{kind}\" is registered for version \"{api_version}\"")]
    UnknownKind { api_version: String, kind: String },
    #[error("invalid JSON in field {0}")]
    RawJson(String),
}

/// Decodes a body. `kind` and `apiVersion` of the result are the envelope's, or those given where it has none.
pub fn decode(body: &[u8], default_api_version: &str, default_kind: &str) -> Result<Value, Error> {
    let envelope = body.strip_prefix(MAGIC).ok_or(Error::NoMagic)?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    for field in Fields(envelope) {
        match field? {
            (1, Wire::Bytes(meta)) => {
                for field in Fields(meta) {
                    match field? {
                        (1, Wire::Bytes(text)) => api_version = String::from_utf8_lossy(text).into_owned(),
                        (2, Wire::Bytes(text)) => kind = String::from_utf8_lossy(text).into_owned(),
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    if api_version.is_empty() {
        api_version = default_api_version.into();
    }
    if kind.is_empty() {
        kind = default_kind.into();
    }
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    let types = Types::built_in();
    let of = match kind.as_str() {
        // Sent under the version of whatever is deleted.
        "DeleteOptions" => types.named("meta.v1.DeleteOptions"),
        _ => types.kind(group, version, &kind),
    };
    let of = of.ok_or_else(|| Error::UnknownKind { api_version: api_version.clone(), kind: kind.clone() })?;
    let mut object = Map::new();
    object.insert("kind", kind);
    object.insert("apiVersion", api_version);
    Decoder { types }.message(raw, of, [0, 0], &mut object, 0)?;
    Ok(object.into())
}

enum Wire<'b> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'b [u8]),
}

struct Fields<'b>(&'b [u8]);

impl<'b> Iterator for Fields<'b> {
    type Item = Result<(u32, Wire<'b>), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let result = self.read();
        if result.is_err() {
            self.0 = &[];
        }
        Some(result)
    }
}

impl<'b> Fields<'b> {
    fn read(&mut self) -> Result<(u32, Wire<'b>), Error> {
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).map_err(|_| Error::Short)?;
        let wire = match key & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => {
                Wire::Fixed64(self.take(8)?.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
            }
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Error::Short)?;
                Wire::Bytes(self.take(length)?)
            }
            5 => {
                Wire::Fixed32(self.take(4)?.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte)))
            }
            wire => return Err(Error::WireType { field: number.to_string(), wire: wire as u8 }),
        };
        Ok((number, wire))
    }

    fn take(&mut self, length: usize) -> Result<&'b [u8], Error> {
        let taken = self.0.get(..length).ok_or(Error::Short)?;
        self.0 = &self.0[length..];
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, Error> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Error::Short)
    }
}

struct Decoder {
    types: &'static Types,
}

impl Decoder {
    /// Reads a message of type `of` into `out`. `outer` holds the numbers of the embedded messages being read.
    fn message(
        &self,
        bytes: &[u8],
        of: TypeId,
        outer: [u32; 2],
        out: &mut Map,
        depth: usize,
    ) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(Error::TooDeep);
        }
        let fields = self.types.fields(of);
        for read in Fields(bytes) {
            let (number, wire) = read?;
            let inner = match outer {
                [0, _] => Some([number, 0]),
                [first, 0] => Some([first, number]),
                _ => None,
            };
            let embedded = |inner: &[u32; 2]| {
                let level = if outer[0] == 0 { 1 } else { 2 };
                fields.iter().any(|field| field.outer[..level] == inner[..level])
            };
            if let Some(inner) = inner.filter(embedded) {
                if let Wire::Bytes(bytes) = wire {
                    self.message(bytes, of, inner, out, depth + 1)?;
                }
                continue;
            }
            // Numbers that the table does not know belong to newer versions.
            let Some(field) = fields.iter().find(|field| field.number == number && field.outer == outer)
            else {
                continue;
            };
            self.field(field, wire, out, depth)?;
        }
        Ok(())
    }

    fn field(&self, field: &Field, wire: Wire<'_>, out: &mut Map, depth: usize) -> Result<(), Error> {
        match &field.kind {
            FieldType::List(element) => {
                let item = self.value(field, element, wire, depth)?;
                let slot = out.entry(field.name);
                if slot.as_array().is_none() {
                    *slot = Vec::new().into();
                }
                if let Some(list) = slot.as_array_mut() {
                    list.push(item);
                }
            }
            FieldType::Map(element) => {
                let Wire::Bytes(entry) = wire else { return Err(wrong_wire(field, &wire)) };
                let (mut key, mut value) = (String::new(), None);
                for read in Fields(entry) {
                    match read? {
                        (1, Wire::Bytes(bytes)) => key = text(field, bytes)?,
                        (2, wire) => value = Some(self.value(field, element, wire, depth)?),
                        _ => {}
                    }
                }
                let slot = out.entry(field.name);
                if slot.as_object().is_none() {
                    *slot = Value::object();
                }
                if let Some(map) = slot.as_object_mut() {
                    map.insert(key, value.unwrap_or_else(|| zero(element)));
                }
            }
            kind => {
                let value = self.value(field, kind, wire, depth)?;
                if !stands_for_absent(field, &value) {
                    out.insert(field.name, value);
                }
            }
        }
        Ok(())
    }

    fn value(&self, field: &Field, kind: &FieldType, wire: Wire<'_>, depth: usize) -> Result<Value, Error> {
        Ok(match (kind, wire) {
            (FieldType::String, Wire::Bytes(bytes)) => text(field, bytes)?.into(),
            (FieldType::Int32, Wire::Varint(number)) => i64::from(number as i32).into(),
            (FieldType::Int64, Wire::Varint(number)) => (number as i64).into(),
            (FieldType::Bool, Wire::Varint(number)) => (number != 0).into(),
            (FieldType::Float, Wire::Fixed64(bits)) => f64::from_bits(bits).into(),
            (FieldType::Float, Wire::Fixed32(bits)) => f64::from(f32::from_bits(bits)).into(),
            (FieldType::Bytes, Wire::Bytes(bytes)) => BASE64_STANDARD.encode(bytes).into(),
            (FieldType::Quantity, Wire::Bytes(bytes)) => match first_bytes(bytes, 1)? {
                Some(digits) => text(field, digits)?.into(),
                None => "0".into(),
            },
            (FieldType::Time | FieldType::MicroTime, Wire::Bytes(bytes)) => {
                time_value(bytes, kind == &FieldType::MicroTime)?
            }
            (FieldType::IntOrString, Wire::Bytes(bytes)) => int_or_string(field, bytes)?,
            (FieldType::Raw, Wire::Bytes(bytes)) => {
                let json = first_bytes(bytes, 1)?.unwrap_or_default();
                if json.is_empty() {
                    Value::NULL
                } else {
                    serde_json::from_slice(json).map_err(|_| Error::RawJson(field.name.into()))?
                }
            }
            (FieldType::SchemaOrBool, Wire::Bytes(bytes)) => self.schema_or(field, bytes, 2, depth)?,
            (FieldType::SchemaOrArray | FieldType::SchemaOrStrings, Wire::Bytes(bytes)) => {
                self.schema_or(field, bytes, 1, depth)?
            }
            (FieldType::Object(of), Wire::Bytes(bytes)) => {
                let mut map = Map::new();
                self.message(bytes, *of, [0, 0], &mut map, depth + 1)?;
                map.into()
            }
            // A list of strings as a message of its own (`ExtraValue`).
            (FieldType::List(element), Wire::Bytes(bytes)) => {
                let mut items = Vec::new();
                for read in Fields(bytes) {
                    let (_, wire) = read?;
                    items.push(self.value(field, element, wire, depth + 1)?);
                }
                items.into()
            }
            (_, wire) => return Err(wrong_wire(field, &wire)),
        })
    }

    /// `allows` is field 1 beside a schema in 2; otherwise a schema in 1 beside a list in 2.
    fn schema_or(
        &self,
        field: &Field,
        bytes: &[u8],
        schema_number: u32,
        depth: usize,
    ) -> Result<Value, Error> {
        let Some(schema) = self.types.named("apiextensions.v1.JSONSchemaProps") else {
            return Ok(Value::NULL);
        };
        let (mut allows, mut list, mut found) = (None, Vec::new(), None);
        for read in Fields(bytes) {
            match read? {
                (number, Wire::Bytes(bytes)) if number == schema_number => {
                    let mut map = Map::new();
                    self.message(bytes, schema, [0, 0], &mut map, depth + 1)?;
                    found = Some(Value::from(map));
                }
                (1, Wire::Varint(flag)) => allows = Some(flag != 0),
                (2, Wire::Bytes(bytes)) if field.kind == FieldType::SchemaOrStrings => {
                    list.push(text(field, bytes)?.into())
                }
                (2, Wire::Bytes(bytes)) => {
                    let mut map = Map::new();
                    self.message(bytes, schema, [0, 0], &mut map, depth + 1)?;
                    list.push(map.into());
                }
                _ => {}
            }
        }
        Ok(match (found, allows) {
            (Some(schema), _) => schema,
            (None, Some(allows)) => allows.into(),
            (None, None) => list.into(),
        })
    }
}

fn wrong_wire(field: &Field, wire: &Wire<'_>) -> Error {
    let wire = match wire {
        Wire::Varint(_) => 0,
        Wire::Fixed64(_) => 1,
        Wire::Bytes(_) => 2,
        Wire::Fixed32(_) => 5,
    };
    Error::WireType { field: field.name.into(), wire }
}

fn text(field: &Field, bytes: &[u8]) -> Result<String, Error> {
    String::from_utf8(bytes.to_vec()).map_err(|_| Error::NotUtf8(field.name.into()))
}

fn first_bytes(message: &[u8], number: u32) -> Result<Option<&[u8]>, Error> {
    for read in Fields(message) {
        if let (found, Wire::Bytes(bytes)) = read?
            && found == number
        {
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}

fn time_value(bytes: &[u8], micro: bool) -> Result<Value, Error> {
    let (mut seconds, mut nanos) = (0i64, 0i64);
    for read in Fields(bytes) {
        match read? {
            (1, Wire::Varint(value)) => seconds = value as i64,
            (2, Wire::Varint(value)) => nanos = i64::from(value as i32),
            _ => {}
        }
    }
    // The zero time is no time; beyond what a text can show is none either.
    if (seconds == 0 && nanos == 0) || !(-62_135_596_800..=253_402_300_799).contains(&seconds) {
        return Ok(Value::NULL);
    }
    Ok(match micro {
        true => time::format_micro_time(seconds * 1_000_000 + nanos / 1000).into(),
        false => time::format_time(seconds * 1000).into(),
    })
}

fn int_or_string(field: &Field, bytes: &[u8]) -> Result<Value, Error> {
    let (mut is_text, mut number, mut string) = (false, 0i64, String::new());
    for read in Fields(bytes) {
        match read? {
            (1, Wire::Varint(kind)) => is_text = kind == 1,
            (2, Wire::Varint(value)) => number = i64::from(value as i32),
            (3, Wire::Bytes(bytes)) => string = text(field, bytes)?,
            _ => {}
        }
    }
    Ok(if is_text { string.into() } else { number.into() })
}

fn zero(kind: &FieldType) -> Value {
    match kind {
        FieldType::String | FieldType::Bytes => "".into(),
        FieldType::Quantity => "0".into(),
        FieldType::Int32 | FieldType::Int64 => 0i64.into(),
        FieldType::Bool => false.into(),
        FieldType::List(_) => Vec::new().into(),
        _ => Value::object(),
    }
}

/// Fields that Go keeps behind a pointer, so that a zero on the wire was written on purpose.
const OPTIONAL_ZERO: &[&str] = &[
    "activeDeadlineSeconds",
    "allowPrivilegeEscalation",
    "automountServiceAccountToken",
    "averageUtilization",
    "backoffLimit",
    "blockOwnerDeletion",
    "completions",
    "controller",
    "defaultMode",
    "enableServiceLinks",
    "expirationSeconds",
    "failedJobsHistoryLimit",
    "gracePeriodSeconds",
    "immutable",
    "leaseDurationSeconds",
    "leaseTransitions",
    "manualSelector",
    "minReplicas",
    "mode",
    "optional",
    "orphanDependents",
    "parallelism",
    "partition",
    "port",
    "priority",
    "privileged",
    "progressDeadlineSeconds",
    "readOnlyRootFilesystem",
    "ready",
    "replicas",
    "revisionHistoryLimit",
    "runAsGroup",
    "runAsNonRoot",
    "runAsUser",
    "serving",
    "stabilizationWindowSeconds",
    "startingDeadlineSeconds",
    "successfulJobsHistoryLimit",
    "suspend",
    "terminating",
    "terminationGracePeriodSeconds",
    "tolerationSeconds",
    "ttlSecondsAfterFinished",
];

fn stands_for_absent(field: &Field, value: &Value) -> bool {
    if value.is_null() {
        return true;
    }
    if field.required {
        return false;
    }
    match &field.kind {
        FieldType::String | FieldType::Bytes => value.as_str() == Some(""),
        FieldType::Int32 | FieldType::Int64 => {
            value.as_i64() == Some(0) && !OPTIONAL_ZERO.contains(&field.name)
        }
        FieldType::Bool => value.as_bool() == Some(false) && !OPTIONAL_ZERO.contains(&field.name),
        // An embedded int-or-string that was never set reads as the number 0.
        FieldType::IntOrString => {
            value.as_i64() == Some(0)
                && field.name != "minAvailable"
                && field.name != "maxUnavailable"
                && field.name != "maxSurge"
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2, bytes.len() as u8];
        out.extend_from_slice(bytes);
        out
    }

    fn body(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
        let meta = [field(1, api_version.as_bytes()), field(2, kind.as_bytes())].concat();
        [MAGIC.to_vec(), field(1, &meta), field(2, raw)].concat()
    }

    #[test]
    fn a_config_map() {
        let metadata = [field(1, b"a"), field(3, b"")].concat();
        let entry = [field(1, b"k"), field(2, b"v")].concat();
        let raw = [field(1, &metadata), field(2, &entry)].concat();
        let value = decode(&body("v1", "ConfigMap", &raw), "", "").unwrap();
        let expected = r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a"},"data":{"k":"v"}}"#;
        assert_eq!(serde_json::to_string(&value).unwrap(), expected);
    }

    #[test]
    fn embedded_messages_are_flat_in_json() {
        // A volume whose source (2) is an emptyDir (2).
        let volume = [field(1, b"v"), field(2, &field(2, b""))].concat();
        let spec = field(1, &volume);
        let value = decode(&body("v1", "Pod", &field(2, &spec)), "", "").unwrap();
        assert_eq!(
            serde_json::to_string(value.get("spec").unwrap()).unwrap(),
            r#"{"volumes":[{"name":"v","emptyDir":{}}]}"#
        );
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        assert_eq!(decode(b"{}", "", ""), Err(Error::NoMagic));
        let whole = body("v1", "ConfigMap", &field(1, &field(1, b"abc")));
        for end in 5..whole.len() {
            let _ = decode(&whole[..end], "v1", "ConfigMap");
        }
        assert!(decode(&whole[..whole.len() - 1], "", "").is_err());
        assert!(matches!(decode(&body("v9", "Nope", b""), "", ""), Err(Error::UnknownKind { .. })));
    }
}
