//! Taking a set of fields out of an object.

use super::node::{Node, Ownership};
use super::walk::elements;
use super::{FieldSet, field_step};
use crate::value::{Kind, Map, Value};

/// The object without the members of the set and what is below them. Maps and lists that end up empty go too.
pub fn remove(value: &Value, set: &FieldSet, node: Node<'_>) -> Value {
    at(value, set, node)
}

fn at(value: &Value, set: &FieldSet, node: Node<'_>) -> Value {
    match (&value.kind, node.ownership(value)) {
        (Kind::Object(map), Ownership::Fields) => {
            let mut kept = Map::with_capacity(map.len());
            for (name, value) in map.iter() {
                match set.get(&field_step(name)) {
                    Some(below) if below.member => continue,
                    Some(below) => {
                        let child = node.field(name).map_or(Node::Unknown, |(child, _)| child);
                        let left = at(value, &below.fields, child);
                        if !left.is_null() {
                            kept.push_new(name.clone(), left);
                        }
                    }
                    None => kept.push_new(name.clone(), value.clone()),
                }
            }
            if kept.is_empty() && !map.is_empty() { Value::NULL } else { kept.into() }
        }
        (Kind::Array(items), ownership @ (Ownership::Set | Ownership::Keyed(_))) => {
            let Ok(elements) = elements(items, &ownership, "") else { return value.clone() };
            let mut kept = Vec::with_capacity(items.len());
            for (step, item) in elements {
                match set.get(&step) {
                    Some(below) if below.member => continue,
                    Some(below) => kept.push(at(item, &below.fields, node.element())),
                    None => kept.push(item.clone()),
                }
            }
            if kept.is_empty() && !items.is_empty() { Value::NULL } else { kept.into() }
        }
        _ => value.clone(),
    }
}

/// The set with the declared fields on the way to its members as members too, so that whole objects come and go.
pub(crate) fn with_named_fields(set: &FieldSet, node: Node<'_>) -> FieldSet {
    let mut out = FieldSet::default();
    for (step, below) in set.steps() {
        let (child, declared) = match step.strip_prefix("f:") {
            Some(name) => node.field(name).unwrap_or((Node::Unknown, false)),
            None => (node.element(), false),
        };
        let mut below =
            super::Below { member: below.member, fields: with_named_fields(&below.fields, child) };
        below.member |= declared && !below.fields.is_empty();
        out.add(step.clone(), below);
    }
    out
}
