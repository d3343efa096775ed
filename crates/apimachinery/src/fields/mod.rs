//! Sets of fields as `fieldsV1` writes them: `f:name`, `k:{"name":"main"}`, `v:"x"`, `i:0`, and `.` for the place itself.
//!
//! Invariant: none of the steps of a set is there that neither is a member nor has anything below it.

mod compare;
mod merge;
mod node;
mod remove;
mod walk;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use smol_str::SmolStr;

use crate::value::{Kind, Map, Value};

pub use compare::{Comparison, compare};
pub use merge::merge;
pub use node::{Node, Ownership};
pub use remove::remove;
pub(crate) use remove::with_named_fields;
pub use walk::{Error, set_of};

/// The key of a set in which the place itself is a member.
const SELF: &str = ".";
/// Sets that nest deeper are refused.
const MAX_DEPTH: usize = 128;

/// What of an object a manager has, by the steps below one place.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FieldSet {
    /// Written in their order, and added in whatever order an object has them.
    steps: BTreeMap<SmolStr, Below>,
}

/// One step of a set: whether the place it leads to is a member, and what is below it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Below {
    pub member: bool,
    pub fields: FieldSet,
}

impl Below {
    pub(crate) fn is_empty(&self) -> bool {
        !self.member && self.fields.is_empty()
    }
}

impl FieldSet {
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// What is at a step such as `f:spec`.
    pub fn get(&self, step: &str) -> Option<&Below> {
        self.steps.get(step)
    }

    /// Takes a step and all below it out of the set.
    pub fn take(&mut self, step: &str) -> Option<Below> {
        self.steps.remove(step)
    }

    /// Only the given step and what is below it.
    pub fn only(mut self, step: &str) -> FieldSet {
        self.steps.retain(|known, _| known == step);
        self
    }

    pub fn steps(&self) -> impl Iterator<Item = (&SmolStr, &Below)> {
        self.steps.iter()
    }

    /// Adds to what is at a step.
    pub fn add(&mut self, step: SmolStr, below: Below) {
        if below.is_empty() {
            return;
        }
        match self.steps.entry(step) {
            Entry::Vacant(entry) => {
                entry.insert(below);
            }
            Entry::Occupied(entry) => {
                let known = entry.into_mut();
                known.member |= below.member;
                if known.fields.is_empty() {
                    known.fields = below.fields;
                } else {
                    known.fields = known.fields.union(&below.fields);
                }
            }
        }
    }

    /// Makes the place at the end of a path a member.
    pub fn insert(&mut self, path: &[&str]) {
        let Some((first, rest)) = path.split_first() else { return };
        let mut below = Below { member: rest.is_empty(), fields: FieldSet::default() };
        below.fields.insert(rest);
        self.add(SmolStr::new(first), below);
    }

    pub fn union(&self, other: &FieldSet) -> FieldSet {
        self.combine(other, &|a, b| a || b)
    }

    pub fn intersection(&self, other: &FieldSet) -> FieldSet {
        self.combine(other, &|a, b| a && b)
    }

    /// What is in this set and not in the other. A member does not stand for what is below it.
    pub fn difference(&self, other: &FieldSet) -> FieldSet {
        self.combine(other, &|a, b| a && !b)
    }

    fn combine(&self, other: &FieldSet, keep: &dyn Fn(bool, bool) -> bool) -> FieldSet {
        let none = Below::default();
        let mut out = FieldSet::default();
        let (mut ours, mut theirs) = (self.steps.iter().peekable(), other.steps.iter().peekable());
        loop {
            let (step, a, b) = match (ours.peek().copied(), theirs.peek().copied()) {
                (None, None) => return out,
                (Some((step, a)), None) => (step, a, &none),
                (None, Some((step, b))) => (step, &none, b),
                (Some((ours, a)), Some((theirs, b))) => match ours.cmp(theirs) {
                    std::cmp::Ordering::Less => (ours, a, &none),
                    std::cmp::Ordering::Greater => (theirs, &none, b),
                    std::cmp::Ordering::Equal => (ours, a, b),
                },
            };
            let below = Below { member: keep(a.member, b.member), fields: a.fields.combine(&b.fields, keep) };
            if !below.is_empty() {
                out.steps.insert(step.clone(), below);
            }
            let step = step.clone();
            ours.next_if(|(known, _)| **known == step);
            theirs.next_if(|(known, _)| **known == step);
        }
    }

    /// The paths of all members, as messages show them: `.spec.containers[name="main"].image`.
    pub fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect_paths(&mut String::new(), &mut paths);
        paths
    }

    fn collect_paths(&self, path: &mut String, paths: &mut Vec<String>) {
        for (step, below) in &self.steps {
            let length = path.len();
            path.push_str(&shown_step(step));
            if below.member {
                paths.push(path.clone());
            }
            below.fields.collect_paths(path, paths);
            path.truncate(length);
        }
    }

    /// The value of `fieldsV1`.
    pub fn to_value(&self) -> Value {
        let mut map = Map::with_capacity(self.steps.len());
        for (step, below) in &self.steps {
            let mut value = below.fields.to_value();
            if below.member && !below.fields.is_empty() {
                let mut inner = Map::with_capacity(below.fields.steps.len() + 1);
                inner.push_new(SELF.into(), Value::object());
                for (key, value) in value.as_object_mut().map(std::mem::take).unwrap_or_default() {
                    inner.push_new(key, value);
                }
                value = inner.into();
            }
            map.push_new(step.clone(), value);
        }
        map.into()
    }

    /// Reads the value of `fieldsV1`.
    pub fn from_value(value: &Value) -> Result<FieldSet, MalformedSet> {
        FieldSet::read(value, 0)
    }

    fn read(value: &Value, depth: usize) -> Result<FieldSet, MalformedSet> {
        let Kind::Object(map) = &value.kind else { return Err(MalformedSet(value.type_name().into())) };
        if depth > MAX_DEPTH {
            return Err(MalformedSet(format!("more than {MAX_DEPTH} levels")));
        }
        let mut set = FieldSet::default();
        for (key, value) in map.iter() {
            if key == SELF {
                continue;
            }
            let fields = FieldSet::read(value, depth + 1)?;
            let member = fields.is_empty() || value.get(SELF).is_some();
            set.add(canonical_step(key)?, Below { member, fields });
        }
        Ok(set)
    }
}

/// A text that is no set of fields.
#[derive(Debug, thiserror::Error, PartialEq)]
#[error("not a set of fields: {0}")]
pub struct MalformedSet(String);

impl fmt::Display for FieldSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.paths().join(", "))
    }
}

/// A step as this server writes it, whatever the spaces and the order of keys it came with.
fn canonical_step(step: &str) -> Result<SmolStr, MalformedSet> {
    let malformed = || MalformedSet(step.into());
    match step.split_once(':').ok_or_else(malformed)? {
        ("f", _) => Ok(step.into()),
        ("i", index) => index.parse::<u64>().map(|_| step.into()).map_err(|_| malformed()),
        ("v", text) => {
            let value: Value = serde_json::from_str(text).map_err(|_| malformed())?;
            Ok(value_step(&value))
        }
        ("k", text) => {
            let value: Value = serde_json::from_str(text).map_err(|_| malformed())?;
            let map = value.as_object().ok_or_else(malformed)?;
            Ok(key_step(map.iter().map(|(key, value)| (key.as_str(), value)).collect()))
        }
        _ => Err(malformed()),
    }
}

pub(crate) fn field_step(name: &str) -> SmolStr {
    let mut step = String::with_capacity(name.len() + 2);
    step.push_str("f:");
    step.push_str(name);
    step.into()
}

pub(crate) fn value_step(value: &Value) -> SmolStr {
    format!("v:{}", serde_json::to_string(value).unwrap_or_default()).into()
}

pub(crate) fn key_step(mut keys: Vec<(&str, &Value)>) -> SmolStr {
    keys.sort_by_key(|(name, _)| *name);
    let pairs: Vec<String> = keys
        .into_iter()
        .map(|(name, value)| {
            let value = serde_json::to_string(value).unwrap_or_default();
            format!("{}:{value}", serde_json::to_string(name).unwrap_or_default())
        })
        .collect();
    format!("k:{{{}}}", pairs.join(",")).into()
}

/// A step as messages show it.
pub(crate) fn shown_step(step: &str) -> String {
    match step.split_once(':') {
        Some(("f", name)) => format!(".{name}"),
        Some(("v", value)) => format!("[={value}]"),
        Some(("i", index)) => format!("[{index}]"),
        Some(("k", keys)) => {
            let keys: Value = serde_json::from_str(keys).unwrap_or_default();
            let pairs: Vec<String> = keys
                .as_object()
                .into_iter()
                .flat_map(Map::iter)
                .map(|(key, value)| format!("{key}={}", serde_json::to_string(value).unwrap_or_default()))
                .collect();
            format!("[{}]", pairs.join(","))
        }
        _ => format!(".{step}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> FieldSet {
        FieldSet::from_value(&serde_json::from_str(text).unwrap()).unwrap()
    }

    #[test]
    fn what_is_read_is_written_the_same() {
        let text = r#"{"f:data":{".":{},"f:a":{}},"f:spec":{"f:ports":{"k:{\"port\":80,\"protocol\":\"TCP\"}":{".":{},"f:port":{}}},"f:set":{"v:\"x\"":{}}}}"#;
        assert_eq!(serde_json::to_string(&set(text).to_value()).unwrap(), text);
        let loose = set(r#"{"k:{ \"protocol\":\"TCP\", \"port\":80 }":{}}"#);
        assert!(loose.get(r#"k:{"port":80,"protocol":"TCP"}"#).is_some());
    }

    #[test]
    fn what_is_no_set_is_an_error() {
        for text in ["[]", r#"{"a":{}}"#, r#"{"k:[]":{}}"#, r#"{"i:x":{}}"#, r#"{"f:a":1}"#] {
            assert!(FieldSet::from_value(&serde_json::from_str(text).unwrap()).is_err(), "{text}");
        }
    }

    #[test]
    fn sets_combine_member_by_member() {
        let a = set(r#"{"f:a":{".":{},"f:x":{}},"f:b":{}}"#);
        let b = set(r#"{"f:a":{"f:x":{},"f:y":{}},"f:c":{}}"#);
        assert_eq!(a.union(&b), set(r#"{"f:a":{".":{},"f:x":{},"f:y":{}},"f:b":{},"f:c":{}}"#));
        assert_eq!(a.intersection(&b), set(r#"{"f:a":{"f:x":{}}}"#));
        assert_eq!(a.difference(&b), set(r#"{"f:a":{},"f:b":{}}"#));
        assert!(a.difference(&a).is_empty());
    }

    #[test]
    fn steps_may_come_in_any_order() {
        let mut set = FieldSet::default();
        for number in (0..100_000).rev() {
            set.insert(&[&format!("f:{number:06}"), "f:x"]);
        }
        set.insert(&["f:000000", "f:y"]);
        assert_eq!(set.paths()[..3], [".000000.x", ".000000.y", ".000001.x"]);
    }

    #[test]
    fn paths_read_as_kubernetes_writes_them() {
        let all = set(r#"{"f:a":{"k:{\"n\":\"m\",\"p\":8}":{"f:i":{}},"v:\"x\"":{},"i:3":{}}}"#);
        assert_eq!(all.paths(), [".a[3]", r#".a[n="m",p=8].i"#, r#".a[="x"]"#]);
    }
}
