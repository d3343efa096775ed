//! An applied configuration laid over an object: what it names wins, everything else stays.

use std::collections::{HashMap, HashSet};

use smol_str::SmolStr;

use super::node::{Node, Ownership};
use super::shown_step;
use super::walk::{Error, elements};
use crate::value::{Kind, Map, Value};

/// The live object with the configuration laid over it.
pub fn merge(live: &Value, config: &Value, node: Node<'_>) -> Result<Value, Error> {
    at(live, config, node, &mut String::new())
}

fn at(live: &Value, config: &Value, node: Node<'_>, path: &mut String) -> Result<Value, Error> {
    let ownership = node.ownership(config);
    match (&live.kind, &config.kind) {
        _ if ownership == Ownership::Whole => Ok(config.clone()),
        (Kind::Object(old), Kind::Object(new)) => {
            let mut merged = Map::with_capacity(old.len() + new.len());
            for (name, value) in old.iter() {
                let value = match new.get(name) {
                    Some(wanted) => field(value, wanted, node, name, path)?,
                    None => value.clone(),
                };
                merged.push_new(name.clone(), value);
            }
            for (name, value) in new.iter().filter(|(name, _)| !old.contains_key(name)) {
                merged.push_new(name.clone(), value.clone());
            }
            Ok(merged.into())
        }
        (Kind::Array(old), Kind::Array(new)) => {
            if old.is_empty() {
                return Ok(config.clone());
            }
            list(old, new, node, &ownership, path)
        }
        _ => Ok(config.clone()),
    }
}

fn field(
    live: &Value,
    config: &Value,
    node: Node<'_>,
    name: &str,
    path: &mut String,
) -> Result<Value, Error> {
    let length = path.len();
    path.push('.');
    path.push_str(name);
    let child = node.field(name).map_or(Node::Unknown, |(child, _)| child);
    let merged = at(live, config, child, path)?;
    path.truncate(length);
    Ok(merged)
}

/// The order of the configuration; elements that only the object has stay after those they stood behind.
fn list(
    live: &[Value],
    config: &[Value],
    node: Node<'_>,
    ownership: &Ownership<'_>,
    path: &mut String,
) -> Result<Value, Error> {
    let old = elements(live, ownership, path)?;
    let new = elements(config, ownership, path)?;
    let old_by_step: HashMap<&SmolStr, &Value> = old.iter().map(|(step, item)| (step, *item)).collect();
    let wanted: HashSet<&SmolStr> = new.iter().map(|(step, _)| step).collect();
    let shared: Vec<&SmolStr> =
        new.iter().map(|(step, _)| step).filter(|step| old_by_step.contains_key(*step)).collect();
    let mut merged = Vec::with_capacity(old.len() + new.len());
    let (mut left, mut right, mut next_shared) = (0, 0, 0);
    while left < old.len() || right < new.len() {
        if let Some((step, item)) = old.get(left) {
            if !wanted.contains(step) {
                merged.push((*item).clone());
                left += 1;
                continue;
            }
            // A shared element that the configuration has elsewhere comes with its turn there.
            if shared.get(next_shared) != Some(&step) {
                left += 1;
                continue;
            }
        }
        let Some((step, item)) = new.get(right) else { break };
        let length = path.len();
        path.push_str(&shown_step(step));
        match old_by_step.get(step) {
            Some(before) => merged.push(at(before, item, node.element(), path)?),
            None => merged.push((*item).clone()),
        }
        path.truncate(length);
        if shared.get(next_shared) == Some(&step) {
            next_shared += 1;
            if old.get(left).is_some_and(|(at_left, _)| at_left == step) {
                left += 1;
            }
        }
        right += 1;
    }
    Ok(merged.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(live: &str, config: &str) -> String {
        let json = |text: &str| -> Value { serde_json::from_str(text).unwrap() };
        let node = Node::of_kind("", "v1", "Pod", None);
        serde_json::to_string(&merge(&json(live), &json(config), node).unwrap()).unwrap()
    }

    #[test]
    fn elements_pair_by_key_and_keep_the_configurations_order() {
        assert_eq!(
            merged(
                r#"{"spec":{"containers":[{"name":"a","image":"1"},{"name":"x"},{"name":"b"}]}}"#,
                r#"{"spec":{"containers":[{"name":"b","image":"2"},{"name":"a"},{"name":"n"}]}}"#
            ),
            r#"{"spec":{"containers":[{"name":"x"},{"name":"b","image":"2"},{"name":"a","image":"1"},{"name":"n"}]}}"#
        );
        assert_eq!(
            merged(
                r#"{"spec":{"nodeSelector":{"a":"1"},"containers":[{"name":"a","command":["x","y"]}]}}"#,
                r#"{"spec":{"nodeSelector":{"b":"2"},"containers":[{"name":"a","command":["z"]}]}}"#
            ),
            r#"{"spec":{"nodeSelector":{"b":"2"},"containers":[{"name":"a","command":["z"]}]}}"#
        );
    }

    #[test]
    fn what_the_object_alone_has_stays() {
        assert_eq!(
            merged(
                r#"{"metadata":{"finalizers":["a"],"labels":{"x":"1"}},"status":{"phase":"Running"}}"#,
                r#"{"metadata":{"finalizers":["b"],"labels":{"y":"2"}}}"#
            ),
            r#"{"metadata":{"finalizers":["a","b"],"labels":{"x":"1","y":"2"}},"status":{"phase":"Running"}}"#
        );
    }
}
