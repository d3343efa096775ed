//! From an object to the set of its fields, and the steps that lead to the elements of lists.

use std::collections::HashMap;

use smol_str::SmolStr;

use super::node::{Node, Ownership};
use super::{Below, FieldSet, field_step, key_step, shown_step, value_step};
use crate::value::{Kind, Map, Value};

/// Lists with more elements are not owned element by element.
const MAX_ELEMENTS: usize = 10_000;

/// An object that does not have the shape its type says.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum Error {
    #[error("{0}: field not declared in schema")]
    NotDeclared(String),
    #[error(
        "{path}: element {index}: associative list with keys has an element that omits key field {key:?} (and doesn't have default value)"
    )]
    NoKey { path: String, index: usize, key: String },
    #[error("{path}: element {index}: {why}")]
    NoMap { path: String, index: usize, why: &'static str },
    #[error("{path}: {found} elements, at most {max} can be told apart", max = MAX_ELEMENTS)]
    TooMany { path: String, found: usize },
    #[error("{0}: duplicate entries for key {1}")]
    Duplicate(String, String),
}

/// The fields of an object that a manager applies: those it names, whatever their values.
pub fn set_of(value: &Value, node: Node<'_>) -> Result<FieldSet, Error> {
    Ok(below(value, node, &mut String::new())?.fields)
}

/// What is at and below the place of `value`; the place itself is a member only where it is a leaf.
fn below(value: &Value, node: Node<'_>, path: &mut String) -> Result<Below, Error> {
    let leaf = Below { member: true, fields: FieldSet::default() };
    match (&value.kind, node.ownership(value)) {
        (Kind::Object(map), Ownership::Fields) => {
            let mut fields = FieldSet::default();
            for (name, value) in map.iter() {
                let length = path.len();
                path.push('.');
                path.push_str(name);
                let (child, declared) = node.field(name).ok_or_else(|| Error::NotDeclared(path.clone()))?;
                let mut at = below(value, child, path)?;
                let is_empty_map = value.as_object().is_some_and(Map::is_empty);
                at.member |= value.is_null() || is_empty_map || !declared;
                fields.add(field_step(name), at);
                path.truncate(length);
            }
            Ok(Below { member: false, fields })
        }
        (Kind::Array(items), ownership @ (Ownership::Set | Ownership::Keyed(_))) => {
            if items.is_empty() {
                return Ok(leaf);
            }
            let mut fields = FieldSet::default();
            for (step, item) in elements(items, &ownership, path)? {
                let length = path.len();
                path.push_str(&shown_step(&step));
                let mut at = below(item, node.element(), path)?;
                at.member = true;
                fields.add(step, at);
                path.truncate(length);
            }
            Ok(Below { member: false, fields })
        }
        _ => Ok(leaf),
    }
}

/// The elements of a list with the steps to them, each step once.
pub(super) fn elements<'v>(
    items: &'v [Value],
    ownership: &Ownership<'_>,
    path: &str,
) -> Result<Vec<(SmolStr, &'v Value)>, Error> {
    if items.len() > MAX_ELEMENTS {
        return Err(Error::TooMany { path: path.to_owned(), found: items.len() });
    }
    let mut found: Vec<(SmolStr, &Value)> = Vec::with_capacity(items.len());
    let mut seen: HashMap<SmolStr, ()> = HashMap::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let step = step_of(item, ownership, path, index)?;
        if seen.insert(step.clone(), ()).is_some() {
            return Err(Error::Duplicate(path.to_owned(), shown_step(&step)));
        }
        found.push((step, item));
    }
    Ok(found)
}

fn step_of(item: &Value, ownership: &Ownership<'_>, path: &str, index: usize) -> Result<SmolStr, Error> {
    let Ownership::Keyed(keys) = ownership else { return Ok(value_step(item)) };
    if item.as_object().is_none() {
        let why = "associative list with keys may not have non-map elements";
        return Err(Error::NoMap { path: path.to_owned(), index, why });
    }
    let present: Vec<(&str, &Value)> =
        keys.iter().filter_map(|(key, default)| Some((*key, item.get(key).or(default.as_ref())?))).collect();
    if !keys.iter().any(|(key, _)| item.get(key).is_some()) {
        let key = keys.first().map(|(key, _)| (*key).to_owned()).unwrap_or_default();
        return Err(Error::NoKey { path: path.to_owned(), index, key });
    }
    Ok(key_step(present))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(kind: (&str, &str, &str), text: &str) -> Result<String, String> {
        let value: Value = serde_json::from_str(text).unwrap();
        let node = Node::of_kind(kind.0, kind.1, kind.2, None);
        match set_of(&value, node) {
            Ok(set) => Ok(serde_json::to_string(&set.to_value()).unwrap()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn a_deployment_by_its_keys() {
        let deployment = ("apps", "v1", "Deployment");
        assert_eq!(
            fields(
                deployment,
                r#"{"metadata":{"labels":{"a":"b"}},"spec":{"replicas":2,"selector":{"matchLabels":{"a":"b"}},"template":{"spec":{"containers":[{"name":"main","ports":[{"containerPort":80}],"command":["x"]}]}}}}"#
            )
            .unwrap(),
            r#"{"f:metadata":{"f:labels":{"f:a":{}}},"f:spec":{"f:replicas":{},"f:selector":{},"f:template":{"f:spec":{"f:containers":{"k:{\"name\":\"main\"}":{".":{},"f:command":{},"f:name":{},"f:ports":{"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":{".":{},"f:containerPort":{}}}}}}}}}"#
        );
        assert_eq!(
            fields(deployment, r#"{"spec":{"replica":2}}"#).unwrap_err(),
            ".spec.replica: field not declared in schema"
        );
        assert_eq!(
            fields(
                deployment,
                r#"{"spec":{"template":{"spec":{"containers":[{"name":"a"},{"name":"a"}]}}}}"#
            )
            .unwrap_err(),
            r#".spec.template.spec.containers: duplicate entries for key [name="a"]"#
        );
        assert!(
            fields(deployment, r#"{"spec":{"template":{"spec":{"containers":[{"image":"a"}]}}}}"#)
                .unwrap_err()
                .contains("omits key field \"name\"")
        );
    }

    #[test]
    fn a_list_of_very_many_elements_is_refused() {
        let finalizers = |count: usize| {
            let names: Vec<String> = (0..count).map(|number| format!("\"a/{number}\"")).collect();
            format!(r#"{{"metadata":{{"finalizers":[{}]}}}}"#, names.join(","))
        };
        let kind = ("", "v1", "ConfigMap");
        assert!(fields(kind, &finalizers(MAX_ELEMENTS)).is_ok());
        assert_eq!(
            fields(kind, &finalizers(MAX_ELEMENTS + 1)).unwrap_err(),
            ".metadata.finalizers: 10001 elements, at most 10000 can be told apart"
        );
    }

    #[test]
    fn sets_and_the_unknown() {
        assert_eq!(
            fields(("", "v1", "ConfigMap"), r#"{"metadata":{"finalizers":["a/b"]},"data":{}}"#).unwrap(),
            r#"{"f:data":{},"f:metadata":{"f:finalizers":{"v:\"a/b\"":{}}}}"#
        );
        assert_eq!(
            fields(("x.io", "v1", "Thing"), r#"{"spec":{"a":[1,2],"b":{"c":1}}}"#).unwrap(),
            r#"{"f:spec":{".":{},"f:a":{},"f:b":{".":{},"f:c":{}}}}"#
        );
    }
}
