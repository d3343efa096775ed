//! What evaluating costs: about a unit for each value that is looked at or made, and for each ten bytes of text.
//!
//! Invariant: no step of an evaluation takes more time or memory than some constant times its cost.

use super::Binary;
use crate::value::{Key, Kind, Value};

/// Reading a pattern that is not written out in the rule.
pub(super) const PATTERN: usize = 10_000;
/// Values that nest deeper are not copied or compared: both go down by recursion, and a rule can make a value that
/// nests deeper than any object.
const MAX_DEPTH: usize = 300;
/// More than any evaluation may cost.
const TOO_DEEP: usize = 1 << 30;

/// Going through text, or through the elements of a value but not into them.
pub(super) fn size(value: &Value) -> usize {
    match &value.kind {
        Kind::String(text) => 1 + text.len() / 10,
        Kind::Array(items) => 1 + items.len(),
        Kind::Object(map) => 1 + map.len(),
        _ => 1,
    }
}

/// Going through all of a value, or copying it.
pub(super) fn weight(value: &Value) -> usize {
    weight_at(value, 0)
}

fn weight_at(value: &Value, depth: usize) -> usize {
    if depth > MAX_DEPTH {
        return TOO_DEEP;
    }
    match &value.kind {
        Kind::String(text) => 1 + text.len() / 10,
        Kind::Array(items) => 1 + items.iter().map(|item| weight_at(item, depth + 1)).sum::<usize>(),
        Kind::Object(map) => {
            let entry = |(key, value): (&Key, &Value)| 1 + key.len() / 10 + weight_at(value, depth + 1);
            1 + map.iter().map(entry).sum::<usize>()
        }
        _ => 1,
    }
}

/// Looking for a key: maps are searched from the start.
pub(super) fn lookup(of: &Value) -> usize {
    of.as_object().map_or(0, |map| map.len() / 8)
}

fn is_scalar(value: &Value) -> bool {
    !matches!(value.kind, Kind::Array(_) | Kind::Object(_))
}

fn equality(a: &Value, b: &Value) -> usize {
    match is_scalar(a) || is_scalar(b) {
        true => size(a).min(size(b)),
        false => weight(a).saturating_add(weight(b)),
    }
}

/// Looking for an equal element.
fn search(wanted: &Value, items: &[Value]) -> usize {
    match is_scalar(wanted) {
        true => items.len().saturating_mul(size(wanted)),
        false => items.iter().map(|item| equality(item, wanted)).sum(),
    }
}

pub(super) fn binary(operator: Binary, a: &Value, b: &Value) -> usize {
    match (operator, &a.kind, &b.kind) {
        (Binary::Equal | Binary::NotEqual, ..) => equality(a, b),
        (Binary::In, _, Kind::Array(items)) => search(a, items),
        (Binary::In, ..) => weight(a) + lookup(b),
        (Binary::Add, Kind::Array(_), Kind::Array(_)) => weight(a) + weight(b),
        (Binary::Add, ..) => size(a) + size(b),
        _ => size(a).min(size(b)),
    }
}

pub(super) fn method(name: &str, of: &Value, arguments: &[&Value]) -> usize {
    let text = |at: usize| arguments.get(at).and_then(|argument| argument.as_str()).unwrap_or_default();
    let own: usize = arguments.iter().map(|argument| size(argument)).sum::<usize>() + size(of);
    match (&of.kind, name) {
        (Kind::String(of), "replace") => own + of.matches(text(0)).count().saturating_mul(text(1).len()) / 10,
        (Kind::String(of), "split") => own + of.matches(text(0)).count(),
        (Kind::Array(_), "size") => 1,
        (Kind::Array(items), "indexOf" | "lastIndexOf") => {
            arguments.first().map_or(1, |wanted| search(wanted, items))
        }
        (Kind::Array(items), "join") => weight(of) + items.len().saturating_mul(text(0).len()) / 10,
        (Kind::Array(_), _) => weight(of),
        _ => own,
    }
}
