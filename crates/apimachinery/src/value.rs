//! The object tree: JSON's shapes with cheap keys and the place each node was read from.
//!
//! Invariant: a map keeps insertion order and never holds a key twice. Equality ignores spans and key order.

use std::collections::HashMap;
use std::fmt;

use gantry_yaml::Span;
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
pub use smol_str::SmolStr;

/// Maps up to this size are looked through from the start; text with larger ones must not cost its square.
const LINEAR_SEARCH_MAX: usize = 32;

/// A map key. Up to 23 bytes live inline, so that almost no Kubernetes field name allocates.
pub type Key = SmolStr;

#[derive(Clone, Default)]
pub struct Value {
    pub kind: Kind,
    /// Where the node was read, or [`Span::NONE`].
    pub span: Span,
}

#[derive(Clone, Debug, Default)]
pub enum Kind {
    #[default]
    Null,
    Bool(bool),
    Number(Number),
    String(SmolStr),
    Array(Vec<Value>),
    Object(Map),
}

/// A JSON number as Go keeps it: an integer where it is one, otherwise a float.
#[derive(Clone, Copy, Debug)]
pub enum Number {
    Int(i64),
    /// Only for values above `i64::MAX`.
    Uint(u64),
    Float(f64),
}

/// An insertion-ordered map. Small maps (the rule in Kubernetes objects) are searched linearly.
#[derive(Clone, Debug, Default)]
pub struct Map {
    entries: Vec<(Key, Value)>,
}

// === impl Value ===

impl Value {
    pub const NULL: Value = Value { kind: Kind::Null, span: Span::NONE };

    pub fn new(kind: Kind, span: Span) -> Value {
        Value { kind, span }
    }

    pub fn object() -> Value {
        Kind::Object(Map::default()).into()
    }

    pub fn is_null(&self) -> bool {
        matches!(self.kind, Kind::Null)
    }

    pub fn as_bool(&self) -> Option<bool> {
        match self.kind {
            Kind::Bool(b) => Some(b),
            _ => None,
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        match &self.kind {
            Kind::String(s) => Some(s),
            _ => None,
        }
    }

    pub fn as_i64(&self) -> Option<i64> {
        match self.kind {
            Kind::Number(Number::Int(i)) => Some(i),
            _ => None,
        }
    }

    pub fn as_f64(&self) -> Option<f64> {
        match self.kind {
            Kind::Number(n) => Some(n.as_f64()),
            _ => None,
        }
    }

    pub fn as_array(&self) -> Option<&Vec<Value>> {
        match &self.kind {
            Kind::Array(items) => Some(items),
            _ => None,
        }
    }

    pub fn as_array_mut(&mut self) -> Option<&mut Vec<Value>> {
        match &mut self.kind {
            Kind::Array(items) => Some(items),
            _ => None,
        }
    }

    pub fn as_object(&self) -> Option<&Map> {
        match &self.kind {
            Kind::Object(map) => Some(map),
            _ => None,
        }
    }

    pub fn as_object_mut(&mut self) -> Option<&mut Map> {
        match &mut self.kind {
            Kind::Object(map) => Some(map),
            _ => None,
        }
    }

    /// The named field, if this is a map that has it.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.as_object()?.get(key)
    }

    pub fn get_mut(&mut self, key: &str) -> Option<&mut Value> {
        self.as_object_mut()?.get_mut(key)
    }

    /// Follows field names through nested maps: `value.at(&["metadata", "name"])`.
    pub fn at(&self, path: &[&str]) -> Option<&Value> {
        path.iter().try_fold(self, |value, key| value.get(key))
    }

    pub fn at_mut(&mut self, path: &[&str]) -> Option<&mut Value> {
        path.iter().try_fold(self, |value, key| value.get_mut(key))
    }

    pub fn str_at(&self, path: &[&str]) -> Option<&str> {
        self.at(path)?.as_str()
    }

    /// Follows field names, making missing (or null) steps into empty maps. A step that is neither a map nor
    /// null is replaced.
    pub fn entry_at(&mut self, path: &[&str]) -> &mut Value {
        let mut value = self;
        for key in path {
            if value.as_object().is_none() {
                value.kind = Kind::Object(Map::default());
            }
            value = value.as_object_mut().expect("made an object above").entry(key);
        }
        value
    }

    /// A text that is the same for equal values, whatever the order of their keys, so that equal ones are found
    /// without comparing each with each.
    pub fn canonical(&self) -> String {
        match &self.kind {
            Kind::Object(map) => {
                let mut pairs: Vec<(&Key, &Value)> = map.iter().collect();
                pairs.sort_by_key(|(key, _)| *key);
                let pairs: Vec<String> =
                    pairs.into_iter().map(|(key, value)| format!("{key:?}:{}", value.canonical())).collect();
                format!("{{{}}}", pairs.join(","))
            }
            Kind::Array(items) => {
                let items: Vec<String> = items.iter().map(Value::canonical).collect();
                format!("[{}]", items.join(","))
            }
            Kind::Number(Number::Int(number)) => number.to_string(),
            Kind::Number(Number::Uint(number)) => number.to_string(),
            // Without the sign of zero, and an integer as one.
            Kind::Number(Number::Float(number)) => (number + 0.0).to_string(),
            _ => serde_json::to_string(self).unwrap_or_default(),
        }
    }

    /// What the field is called in messages: `null`, `boolean`, `number`, `string`, `array` or `object`.
    pub fn type_name(&self) -> &'static str {
        match self.kind {
            Kind::Null => "null",
            Kind::Bool(_) => "boolean",
            Kind::Number(_) => "number",
            Kind::String(_) => "string",
            Kind::Array(_) => "array",
            Kind::Object(_) => "object",
        }
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Value) -> bool {
        match (&self.kind, &other.kind) {
            (Kind::Null, Kind::Null) => true,
            (Kind::Bool(a), Kind::Bool(b)) => a == b,
            (Kind::Number(a), Kind::Number(b)) => a == b,
            (Kind::String(a), Kind::String(b)) => a == b,
            (Kind::Array(a), Kind::Array(b)) => a == b,
            (Kind::Object(a), Kind::Object(b)) => a == b,
            _ => false,
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

impl From<Kind> for Value {
    fn from(kind: Kind) -> Value {
        Value { kind, span: Span::NONE }
    }
}

impl From<&str> for Value {
    fn from(s: &str) -> Value {
        Kind::String(s.into()).into()
    }
}

impl From<String> for Value {
    fn from(s: String) -> Value {
        Kind::String(s.into()).into()
    }
}

impl From<bool> for Value {
    fn from(b: bool) -> Value {
        Kind::Bool(b).into()
    }
}

impl From<i64> for Value {
    fn from(i: i64) -> Value {
        Kind::Number(Number::Int(i)).into()
    }
}

impl From<f64> for Value {
    fn from(x: f64) -> Value {
        Kind::Number(Number::Float(x)).into()
    }
}

impl From<Vec<Value>> for Value {
    fn from(items: Vec<Value>) -> Value {
        Kind::Array(items).into()
    }
}

impl From<Map> for Value {
    fn from(map: Map) -> Value {
        Kind::Object(map).into()
    }
}

// === impl Number ===

impl Number {
    pub fn as_f64(self) -> f64 {
        match self {
            Number::Int(i) => i as f64,
            Number::Uint(u) => u as f64,
            Number::Float(x) => x,
        }
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Number) -> bool {
        match (self, other) {
            (Number::Int(a), Number::Int(b)) => a == b,
            (Number::Uint(a), Number::Uint(b)) => a == b,
            _ => self.as_f64() == other.as_f64(),
        }
    }
}

// === impl Map ===

impl Map {
    pub fn new() -> Map {
        Map::default()
    }

    pub fn with_capacity(capacity: usize) -> Map {
        Map { entries: Vec::with_capacity(capacity) }
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn position(&self, key: &str) -> Option<usize> {
        self.entries.iter().position(|(k, _)| k == key)
    }

    pub fn contains_key(&self, key: &str) -> bool {
        self.position(key).is_some()
    }

    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entries.iter().find(|(k, _)| k == key).map(|(_, v)| v)
    }

    pub fn get_mut(&mut self, key: &str) -> Option<&mut Value> {
        self.entries.iter_mut().find(|(k, _)| k == key).map(|(_, v)| v)
    }

    /// Replaces the value in place, or appends the key. Returns what was there.
    pub fn insert(&mut self, key: impl Into<Key>, value: impl Into<Value>) -> Option<Value> {
        let key = key.into();
        let value = value.into();
        match self.get_mut(&key) {
            Some(old) => Some(std::mem::replace(old, value)),
            None => {
                self.entries.push((key, value));
                None
            }
        }
    }

    /// Appends without looking for the key: only for a caller that knows it is absent.
    pub fn push_new(&mut self, key: Key, value: Value) {
        debug_assert!(!self.contains_key(&key), "key {key} twice");
        self.entries.push((key, value));
    }

    /// The value of `key`, appended as null when it is absent.
    pub fn entry(&mut self, key: &str) -> &mut Value {
        let index = match self.position(key) {
            Some(index) => index,
            None => {
                self.entries.push((key.into(), Value::NULL));
                self.entries.len() - 1
            }
        };
        &mut self.entries[index].1
    }

    /// Removes the key; the others keep their order.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        self.position(key).map(|index| self.entries.remove(index).1)
    }

    pub fn retain(&mut self, mut keep: impl FnMut(&Key, &mut Value) -> bool) {
        self.entries.retain_mut(|(key, value)| keep(key, value));
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&Key, &Value)> + ExactSizeIterator {
        self.entries.iter().map(|(k, v)| (k, v))
    }

    pub fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = (&Key, &mut Value)> + ExactSizeIterator {
        self.entries.iter_mut().map(|(k, v)| (&*k, v))
    }

    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &Key> + ExactSizeIterator {
        self.entries.iter().map(|(k, _)| k)
    }

    pub fn values(&self) -> impl DoubleEndedIterator<Item = &Value> + ExactSizeIterator {
        self.entries.iter().map(|(_, v)| v)
    }
}

impl PartialEq for Map {
    fn eq(&self, other: &Map) -> bool {
        if self.len() != other.len() {
            return false;
        }
        // Mostly the order is the same too, and then nothing must be looked for.
        let same_order = self.iter().zip(other.iter()).take_while(|((a, _), (b, _))| a == b).count();
        if !self.iter().zip(other.iter()).take(same_order).all(|((_, a), (_, b))| a == b) {
            return false;
        }
        if self.len() - same_order <= LINEAR_SEARCH_MAX {
            return self.iter().skip(same_order).all(|(key, value)| other.get(key) == Some(value));
        }
        let others: HashMap<&Key, &Value> = other.iter().skip(same_order).collect();
        self.iter().skip(same_order).all(|(key, value)| others.get(key) == Some(&value))
    }
}

impl IntoIterator for Map {
    type Item = (Key, Value);
    type IntoIter = std::vec::IntoIter<(Key, Value)>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}

impl FromIterator<(Key, Value)> for Map {
    /// A later entry wins over an earlier one with the same key.
    fn from_iter<I: IntoIterator<Item = (Key, Value)>>(iter: I) -> Map {
        let mut map = Map::new();
        for (key, value) in iter {
            map.insert(key, value);
        }
        map
    }
}

// === serde ===

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.kind {
            Kind::Null => serializer.serialize_unit(),
            Kind::Bool(b) => serializer.serialize_bool(*b),
            Kind::Number(Number::Int(i)) => serializer.serialize_i64(*i),
            Kind::Number(Number::Uint(u)) => serializer.serialize_u64(*u),
            Kind::Number(Number::Float(x)) => serializer.serialize_f64(*x),
            Kind::String(s) => serializer.serialize_str(s),
            Kind::Array(items) => {
                let mut seq = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    seq.serialize_element(item)?;
                }
                seq.end()
            }
            Kind::Object(map) => {
                let mut out = serializer.serialize_map(Some(map.len()))?;
                for (key, value) in map.iter() {
                    out.serialize_entry(key.as_str(), value)?;
                }
                out.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::NULL)
    }

    fn visit_none<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::NULL)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E: de::Error>(self, b: bool) -> Result<Value, E> {
        Ok(b.into())
    }

    fn visit_i64<E: de::Error>(self, i: i64) -> Result<Value, E> {
        Ok(i.into())
    }

    fn visit_u64<E: de::Error>(self, u: u64) -> Result<Value, E> {
        Ok(match i64::try_from(u) {
            Ok(i) => i.into(),
            Err(_) => Kind::Number(Number::Uint(u)).into(),
        })
    }

    fn visit_f64<E: de::Error>(self, x: f64) -> Result<Value, E> {
        Ok(x.into())
    }

    fn visit_str<E: de::Error>(self, s: &str) -> Result<Value, E> {
        Ok(s.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(items.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        // Where each key stands, once there are too many to look through.
        let mut positions: HashMap<Key, usize> = HashMap::new();
        while let Some((key, value)) = access.next_entry::<Key, Value>()? {
            if map.len() < LINEAR_SEARCH_MAX {
                map.insert(key, value);
                continue;
            }
            if positions.is_empty() {
                positions = map.keys().cloned().enumerate().map(|(index, key)| (key, index)).collect();
            }
            match positions.get(&key) {
                Some(index) => map.entries[*index].1 = value,
                None => {
                    positions.insert(key.clone(), map.len());
                    map.entries.push((key, value));
                }
            }
        }
        Ok(map.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_goes_through_unchanged_and_in_order() {
        let text = r#"{"b":1,"a":[true,null,1.5,"x"],"big":18446744073709551615}"#;
        let value: Value = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&value).unwrap(), text);
    }

    #[test]
    fn large_maps_keep_order_and_the_last_of_equal_keys() {
        let keys: Vec<String> = (0..1000).map(|n| format!("\"k{n}\":{n}")).collect();
        let text = format!("{{{},\"k5\":0,\"k900\":0}}", keys.join(","));
        let value: Value = serde_json::from_str(&text).unwrap();
        let map = value.as_object().unwrap();
        assert_eq!(
            (map.len(), map.get("k5"), map.get("k900")),
            (1000, Some(&0i64.into()), Some(&0i64.into()))
        );
        let reversed: Map = map.clone().into_iter().collect::<Vec<_>>().into_iter().rev().collect();
        assert_eq!(*map, reversed);
    }

    #[test]
    fn equality_ignores_key_order() {
        let a: Value = serde_json::from_str(r#"{"a":1,"b":2}"#).unwrap();
        let b: Value = serde_json::from_str(r#"{"b":2,"a":1}"#).unwrap();
        assert_eq!(a, b);
    }

    #[test]
    fn equal_values_have_the_same_text() {
        let text = |text: &str| serde_json::from_str::<Value>(text).unwrap().canonical();
        assert_eq!(text(r#"{"a":[1,-0.0],"b":"x"}"#), text(r#"{"b":"x","a":[1.0,0]}"#));
        assert_ne!(text("9007199254740993"), text("9007199254740992"));
        assert_ne!(text(r#""1""#), text("1"));
    }

    #[test]
    fn entry_at_makes_the_path() {
        let mut value = Value::object();
        *value.entry_at(&["metadata", "labels", "app"]) = "web".into();
        assert_eq!(value.str_at(&["metadata", "labels", "app"]), Some("web"));
    }
}
