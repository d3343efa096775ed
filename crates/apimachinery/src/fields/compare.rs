//! What changed between two states of an object, as sets of fields.

use std::collections::HashMap;

use smol_str::SmolStr;

use super::node::{Node, Ownership};
use super::walk::{Error, elements};
use super::{Below, FieldSet, field_step};
use crate::value::{Kind, Value};

/// The fields that one state has and the other has not, and those of different values.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    pub added: FieldSet,
    pub modified: FieldSet,
    pub removed: FieldSet,
}

impl Comparison {
    /// All that the newer state has other than the older one.
    pub fn changed(&self) -> FieldSet {
        self.added.union(&self.modified)
    }

    /// The comparison of only the fields that `keep` leaves of a set.
    pub fn map(self, keep: impl Fn(FieldSet) -> FieldSet) -> Comparison {
        Comparison { added: keep(self.added), modified: keep(self.modified), removed: keep(self.removed) }
    }
}

/// One place of a comparison.
#[derive(Default)]
struct Place {
    added: Below,
    modified: Below,
    removed: Below,
}

/// Compares an older state with a newer one. Elements that a list has twice are compared as a whole list.
pub fn compare(old: &Value, new: &Value, node: Node<'_>) -> Comparison {
    let place = at(Some(old), Some(new), node);
    Comparison { added: place.added.fields, modified: place.modified.fields, removed: place.removed.fields }
}

fn at(old: Option<&Value>, new: Option<&Value>, node: Node<'_>) -> Place {
    // A null is nothing of whatever the other one is.
    let ownership_of =
        |value: Option<&Value>| value.filter(|value| !value.is_null()).map(|value| node.ownership(value));
    let old_ownership = ownership_of(old);
    let new_ownership = ownership_of(new);
    let ownership = match (&old_ownership, &new_ownership) {
        (Some(a), Some(b)) if a == b => a.clone(),
        (Some(a), None) | (None, Some(a)) => a.clone(),
        _ => Ownership::Whole,
    };
    let is_empty = |value: Option<&Value>| match value.map(|value| &value.kind) {
        None | Some(Kind::Null) => true,
        Some(Kind::Object(map)) => map.is_empty(),
        Some(Kind::Array(items)) => items.is_empty(),
        Some(_) => false,
    };
    if ownership == Ownership::Whole || (is_empty(old) && is_empty(new)) {
        return leaf(old, new);
    }
    let mut place = match ownership {
        Ownership::Fields => fields(old, new, node),
        _ => match items(old, new, node, &ownership) {
            Ok(place) => place,
            Err(_) => return leaf(old, new),
        },
    };
    match (old, new) {
        (None, _) => place.added.member = true,
        (_, None) => place.removed.member = true,
        _ => {}
    }
    place
}

fn leaf(old: Option<&Value>, new: Option<&Value>) -> Place {
    let mut place = Place::default();
    match (old, new) {
        (None, Some(_)) => place.added.member = true,
        (Some(_), None) => place.removed.member = true,
        (Some(old), Some(new)) => place.modified.member = old != new,
        (None, None) => {}
    }
    place
}

fn attach(place: &mut Place, step: SmolStr, child: Place) {
    if child.added.is_empty() && child.modified.is_empty() && child.removed.is_empty() {
        return;
    }
    place.added.fields.add(step.clone(), child.added);
    place.modified.fields.add(step.clone(), child.modified);
    place.removed.fields.add(step, child.removed);
}

fn fields(old: Option<&Value>, new: Option<&Value>, node: Node<'_>) -> Place {
    let mut place = Place::default();
    let old_map = old.and_then(Value::as_object);
    let new_map = new.and_then(Value::as_object);
    let child = |name: &str| node.field(name).map_or(Node::Unknown, |(child, _)| child);
    let null = Value::NULL;
    // What every object has is never added or removed, only what is in it.
    let always = |name: &str| node.always_has(name).then_some(&null);
    for (name, value) in new_map.into_iter().flat_map(|map| map.iter()) {
        let before = old_map.and_then(|map| map.get(name));
        if before == Some(value) {
            continue;
        }
        attach(&mut place, field_step(name), at(before.or(always(name)), Some(value), child(name)));
    }
    for (name, value) in old_map.into_iter().flat_map(|map| map.iter()) {
        if new_map.is_none_or(|map| !map.contains_key(name)) {
            attach(&mut place, field_step(name), at(Some(value), always(name), child(name)));
        }
    }
    place
}

fn list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn items(
    old: Option<&Value>,
    new: Option<&Value>,
    node: Node<'_>,
    ownership: &Ownership<'_>,
) -> Result<Place, Error> {
    let old_items = elements(list(old), ownership, "")?;
    let new_items = elements(list(new), ownership, "")?;
    let before: HashMap<&SmolStr, &Value> = old_items.iter().map(|(step, item)| (step, *item)).collect();
    let after: HashMap<&SmolStr, ()> = new_items.iter().map(|(step, _)| (step, ())).collect();
    let mut place = Place::default();
    for (step, item) in &new_items {
        attach(&mut place, step.clone(), at(before.get(step).copied(), Some(item), node.element()));
    }
    for (step, item) in &old_items {
        if !after.contains_key(step) {
            attach(&mut place, step.clone(), at(Some(item), None, node.element()));
        }
    }
    Ok(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn added_modified_removed() {
        let json = |text: &str| -> Value { serde_json::from_str(text).unwrap() };
        let old = json(r#"{"data":{"a":"1","b":"1"},"metadata":{"labels":{"x":"y"}}}"#);
        let new = json(r#"{"data":{"a":"2","c":"1"},"metadata":{}}"#);
        let result = compare(&old, &new, Node::of_kind("", "v1", "ConfigMap", None));
        assert_eq!(result.added.paths(), [".data.c"]);
        assert_eq!(result.modified.paths(), [".data.a"]);
        assert_eq!(result.removed.paths(), [".data.b", ".metadata.labels", ".metadata.labels.x"]);
        let all = compare(&Value::object(), &old, Node::of_kind("", "v1", "ConfigMap", None));
        assert_eq!(
            serde_json::to_string(&all.added.only("f:data").to_value()).unwrap(),
            r#"{"f:data":{".":{},"f:a":{},"f:b":{}}}"#
        );
    }
}
