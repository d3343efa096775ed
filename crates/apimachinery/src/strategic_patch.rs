//! Strategic merge patch as the API server applies it: lists merge by key, `$patch`, `$deleteFromPrimitiveList`,
//! `$setElementOrder` and `$retainKeys` directives.
//!
//! Kustomize's walker differs on purpose (comments, order of additions, null handling); both share the merge keys.

use std::collections::{HashMap, HashSet};

use smol_str::SmolStr;

use crate::value::{Key, Kind, Map, Value};

/// How the field of a type merges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldMerge {
    /// `merge` in the field's patch strategy: a list merges instead of being replaced.
    pub merge: bool,
    /// `retainKeys` in the field's patch strategy.
    pub retain_keys: bool,
    /// The key that tells the elements of a merging list of maps apart; `None` for a list of scalars.
    pub merge_key: Option<SmolStr>,
}

/// Merge rules of a type's fields. `Type` names the type of an object; unknown types replace lists.
pub trait MergeSchema {
    type Type: Clone;
    /// The rule for `field` of an object of type `of`, and the type of the field's value (of an element's, for a list or map).
    fn field(&self, of: &Self::Type, field: &str) -> (FieldMerge, Self::Type);
}

#[derive(Debug, thiserror::Error, PartialEq)]
pub enum Error {
    #[error("map: {element} does not contain declared merge key: {key}")]
    NoMergeKey { element: String, key: String },
    #[error("unknown patch type found: {0}")]
    UnknownDirective(String),
    #[error("invalid patch: {0}")]
    Malformed(&'static str),
}

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM_LIST: &str = "$deleteFromPrimitiveList/";
const SET_ORDER: &str = "$setElementOrder/";

/// Merges `patch` into `target`, an object of type `of`.
pub fn strategic_patch<S: MergeSchema>(
    target: &mut Value,
    patch: &Value,
    schema: &S,
    of: &S::Type,
) -> Result<(), Error> {
    let Some(patch) = patch.as_object() else {
        return Err(Error::Malformed("a strategic merge patch is an object"));
    };
    if target.as_object().is_none() {
        target.kind = Kind::Object(Map::new());
    }
    match &mut target.kind {
        Kind::Object(map) => merge_map(map, patch, schema, of),
        _ => Ok(()),
    }
}

fn merge_map<S: MergeSchema>(target: &mut Map, patch: &Map, schema: &S, of: &S::Type) -> Result<(), Error> {
    match patch.get(PATCH).map(|directive| directive.as_str().unwrap_or("<not a string>")) {
        Some("replace") => {
            *target = without_directives(patch);
            return Ok(());
        }
        Some("delete") => {
            *target = Map::new();
            return Ok(());
        }
        None | Some("merge") => {}
        Some(other) => return Err(Error::UnknownDirective(other.into())),
    }
    if let Some(retained) = patch.get(RETAIN_KEYS) {
        let retained = retained.as_array().ok_or(Error::Malformed("$retainKeys is a list of field names"))?;
        let retained: HashSet<&str> = retained.iter().filter_map(Value::as_str).collect();
        target.retain(|key, _| retained.contains(key.as_str()));
    }
    for (key, value) in patch.iter() {
        if key == PATCH || key == RETAIN_KEYS || key.starts_with(SET_ORDER) {
            continue;
        }
        if let Some(field) = key.strip_prefix(DELETE_FROM_LIST) {
            delete_scalars(target, field, value)?;
            continue;
        }
        if value.is_null() {
            target.remove(key);
            continue;
        }
        let (rule, field_type) = schema.field(of, key);
        let key_name = rule.merge_key.as_deref();
        let server = match (target.get(key).and_then(Value::as_array), rule.merge, &value.kind) {
            (Some(before), true, Kind::Array(_)) => places(before, key_name),
            _ => HashMap::new(),
        };
        merge_field(target, key, value, &rule, schema, &field_type)?;
        if let (true, Kind::Array(patched)) = (rule.merge, &value.kind)
            && !patched.iter().any(|item| item.str_at(&[PATCH]) == Some("replace"))
            && let Some(items) = target.get_mut(key).and_then(Value::as_array_mut)
        {
            let order = match patch.get(&format!("{SET_ORDER}{key}")) {
                Some(order) => order.as_array().ok_or(Error::Malformed("$setElementOrder is a list"))?,
                None => patched,
            };
            sort_by_order(items, order, &server, key_name);
        }
    }
    // Orders also hold for lists that this patch does not change otherwise.
    for (key, order) in patch.iter() {
        let Some(field) = key.strip_prefix(SET_ORDER).filter(|field| !patch.contains_key(field)) else {
            continue;
        };
        let (rule, _) = schema.field(of, field);
        let order = order.as_array().ok_or(Error::Malformed("$setElementOrder is a list"))?;
        if let Some(items) = target.get_mut(field).and_then(Value::as_array_mut) {
            let key = rule.merge_key.as_deref();
            let server = places(items, key);
            sort_by_order(items, order, &server, key);
        }
    }
    Ok(())
}

fn merge_field<S: MergeSchema>(
    target: &mut Map,
    key: &Key,
    value: &Value,
    rule: &FieldMerge,
    schema: &S,
    field_type: &S::Type,
) -> Result<(), Error> {
    match &value.kind {
        Kind::Object(fields) => {
            let slot = target.entry(key);
            if slot.as_object().is_none() {
                slot.kind = Kind::Object(Map::new());
            }
            if let Kind::Object(map) = &mut slot.kind {
                merge_map(map, fields, schema, field_type)?;
            }
        }
        Kind::Array(items) if rule.merge => {
            let existing = match target.get_mut(key).map(|slot| std::mem::take(&mut slot.kind)) {
                Some(Kind::Array(existing)) => existing,
                _ => Vec::new(),
            };
            let merged = merge_list(existing, items, rule.merge_key.as_deref(), schema, field_type)?;
            target.insert(key.clone(), merged);
        }
        Kind::Array(items) => {
            let clean =
                items.iter().filter(|item| item.get(PATCH).is_none()).map(clean_value).collect::<Vec<_>>();
            target.insert(key.clone(), clean);
        }
        _ => drop(target.insert(key.clone(), value.clone())),
    }
    Ok(())
}

fn merge_list<S: MergeSchema>(
    existing: Vec<Value>,
    patch: &[Value],
    merge_key: Option<&str>,
    schema: &S,
    element_type: &S::Type,
) -> Result<Vec<Value>, Error> {
    let Some(merge_key) = merge_key else {
        let mut merged = existing;
        let mut known: HashSet<String> = merged.iter().map(Value::canonical).collect();
        merged.extend(patch.iter().filter(|item| known.insert(item.canonical())).cloned());
        return Ok(merged);
    };
    if patch.iter().any(|item| item.str_at(&[PATCH]) == Some("replace")) {
        return Ok(patch.iter().filter(|item| item.get(PATCH).is_none()).map(clean_value).collect());
    }
    let mut merged: Vec<Option<Value>> = existing.into_iter().map(Some).collect();
    let mut known: HashMap<String, Vec<usize>> = HashMap::with_capacity(merged.len());
    for (place, item) in merged.iter().enumerate() {
        if let Some(id) = item.as_ref().and_then(|item| item.get(merge_key)) {
            known.entry(id.canonical()).or_default().push(place);
        }
    }
    for item in patch {
        let Some(fields) = item.as_object() else {
            return Err(Error::Malformed("an element of a list of maps is not a map"));
        };
        let Some(id) = fields.get(merge_key) else {
            return Err(Error::NoMergeKey { element: format!("{item:?}"), key: merge_key.into() });
        };
        let id = id.canonical();
        if item.str_at(&[PATCH]) == Some("delete") {
            for place in known.remove(&id).unwrap_or_default() {
                merged[place] = None;
            }
            continue;
        }
        match known.get(&id).and_then(|places| places.first()) {
            Some(place) => {
                if let Some(old) = &mut merged[*place] {
                    strategic_patch(old, item, schema, element_type)?;
                }
            }
            None => {
                known.insert(id, vec![merged.len()]);
                merged.push(Some(clean_value(item)));
            }
        }
    }
    Ok(merged.into_iter().flatten().collect())
}

fn delete_scalars(target: &mut Map, field: &str, values: &Value) -> Result<(), Error> {
    let values = values.as_array().ok_or(Error::Malformed("$deleteFromPrimitiveList is a list"))?;
    if let Some(items) = target.get_mut(field).and_then(Value::as_array_mut) {
        let values: HashSet<String> = values.iter().map(Value::canonical).collect();
        items.retain(|item| !values.contains(&item.canonical()));
    }
    Ok(())
}

/// Elements named by the order come in that order; those it does not name (only the server has them) keep their
/// place before those that they stood before, and otherwise come last.
fn sort_by_order(
    items: &mut Vec<Value>,
    order: &[Value],
    server: &HashMap<String, usize>,
    merge_key: Option<&str>,
) {
    struct Placed {
        wanted: Option<usize>,
        server: Option<usize>,
        item: Value,
    }
    let wanted = places(order, merge_key);
    let placed = |item: Value| {
        let id = identity(&item, merge_key).map(Value::canonical);
        let place = |ids: &HashMap<String, usize>| ids.get(id.as_ref()?).copied();
        Placed { wanted: place(&wanted), server: place(server), item }
    };
    let (mut named, unnamed): (Vec<Placed>, Vec<Placed>) =
        std::mem::take(items).into_iter().map(placed).partition(|placed| placed.wanted.is_some());
    named.sort_by_key(|placed| placed.wanted);
    let mut named = named.into_iter().peekable();
    let mut unnamed = unnamed.into_iter().peekable();
    loop {
        let server_first = match (unnamed.peek(), named.peek()) {
            (None, None) => return,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some(only), Some(next)) => match (only.server, next.server) {
                (Some(only), Some(next)) => only < next,
                _ => false,
            },
        };
        let next = if server_first { unnamed.next() } else { named.next() };
        items.extend(next.map(|placed| placed.item));
    }
}

/// Where the elements of a merging list stand, by what tells them apart.
fn places(items: &[Value], merge_key: Option<&str>) -> HashMap<String, usize> {
    let mut places = HashMap::with_capacity(items.len());
    for (place, item) in items.iter().enumerate() {
        if let Some(id) = identity(item, merge_key) {
            places.entry(id.canonical()).or_insert(place);
        }
    }
    places
}

/// What tells an element of a merging list from the others.
fn identity<'v>(item: &'v Value, merge_key: Option<&str>) -> Option<&'v Value> {
    match merge_key {
        Some(key) => item.get(key),
        None => Some(item),
    }
}

fn clean_value(value: &Value) -> Value {
    match &value.kind {
        Kind::Object(map) => without_directives(map).into(),
        Kind::Array(items) => items
            .iter()
            .filter(|item| item.str_at(&[PATCH]) != Some("delete"))
            .map(clean_value)
            .collect::<Vec<_>>()
            .into(),
        _ => value.clone(),
    }
}

fn without_directives(map: &Map) -> Map {
    map.iter()
        .filter(|(key, value)| !value.is_null() && !is_directive(key))
        .map(|(key, value)| (key.clone(), clean_value(value)))
        .collect()
}

fn is_directive(key: &str) -> bool {
    key == PATCH || key == RETAIN_KEYS || key.starts_with(DELETE_FROM_LIST) || key.starts_with(SET_ORDER)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct ByName;

    impl MergeSchema for ByName {
        type Type = ();
        fn field(&self, (): &(), field: &str) -> (FieldMerge, ()) {
            let rule = match field {
                "containers" => {
                    FieldMerge { merge: true, merge_key: Some("name".into()), ..Default::default() }
                }
                "finalizers" => FieldMerge { merge: true, ..Default::default() },
                _ => FieldMerge::default(),
            };
            (rule, ())
        }
    }

    fn json(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    fn run(target: &str, patch: &str) -> Result<String, Error> {
        let mut target = json(target);
        strategic_patch(&mut target, &json(patch), &ByName, &())?;
        Ok(serde_json::to_string(&target).unwrap())
    }

    #[test]
    fn lists_merge_by_key_and_directives_work() {
        for (target, patch, expected) in [
            (
                r#"{"containers":[{"name":"a","image":"1"}]}"#,
                r#"{"containers":[{"name":"b"},{"name":"a","image":"2"}]}"#,
                r#"{"containers":[{"name":"b"},{"name":"a","image":"2"}]}"#,
            ),
            (
                r#"{"containers":[{"name":"a"},{"name":"b"}]}"#,
                r#"{"containers":[{"name":"a","$patch":"delete"}]}"#,
                r#"{"containers":[{"name":"b"}]}"#,
            ),
            (
                r#"{"containers":[{"name":"a"}]}"#,
                r#"{"containers":[{"$patch":"replace"},{"name":"z"}]}"#,
                r#"{"containers":[{"name":"z"}]}"#,
            ),
            (r#"{"args":["a"]}"#, r#"{"args":["b"]}"#, r#"{"args":["b"]}"#),
            (r#"{"finalizers":["a"]}"#, r#"{"finalizers":["b","a"]}"#, r#"{"finalizers":["b","a"]}"#),
            (
                r#"{"finalizers":["a","b"]}"#,
                r#"{"$deleteFromPrimitiveList/finalizers":["a"]}"#,
                r#"{"finalizers":["b"]}"#,
            ),
            (r#"{"s":{"a":1,"b":2}}"#, r#"{"s":{"$retainKeys":["a"],"a":3}}"#, r#"{"s":{"a":3}}"#),
            (r#"{"s":{"a":1}}"#, r#"{"s":{"$patch":"replace","b":2}}"#, r#"{"s":{"b":2}}"#),
            (r#"{"a":1,"b":1}"#, r#"{"a":null}"#, r#"{"b":1}"#),
            (
                r#"{"containers":[{"name":"a"},{"name":"srv"},{"name":"b"}]}"#,
                r#"{"$setElementOrder/containers":[{"name":"b"},{"name":"a"}],"containers":[{"name":"b","x":1}]}"#,
                r#"{"containers":[{"name":"srv"},{"name":"b","x":1},{"name":"a"}]}"#,
            ),
        ] {
            assert_eq!(run(target, patch).as_deref(), Ok(expected), "{patch}");
        }
    }

    #[test]
    fn elements_that_a_list_has_twice_go_together() {
        assert_eq!(
            run(
                r#"{"containers":[{"name":"a"},{"name":"b"},{"name":"a"}]}"#,
                r#"{"containers":[{"name":"a","$patch":"delete"},{"name":"a","image":"1"}]}"#
            )
            .unwrap(),
            r#"{"containers":[{"name":"a","image":"1"},{"name":"b"}]}"#
        );
    }

    #[test]
    fn long_lists_merge() {
        let list = |numbers: &mut dyn Iterator<Item = usize>| {
            let names: Vec<String> = numbers.map(|number| format!(r#"{{"name":"{number}"}}"#)).collect();
            format!(r#"{{"containers":[{}]}}"#, names.join(","))
        };
        let merged = run(&list(&mut (0..20_000_usize)), &list(&mut (10_000..30_000_usize).rev())).unwrap();
        let new = (20_000..30_000_usize).rev();
        assert_eq!(merged, list(&mut new.chain(0..10_000).chain((10_000..20_000).rev())));
    }

    #[test]
    fn an_element_without_its_key_is_an_error() {
        assert!(matches!(run("{}", r#"{"containers":[{"image":"x"}]}"#), Err(Error::NoMergeKey { .. })));
        assert!(matches!(run("{}", r#"{"$patch":"explode"}"#), Err(Error::UnknownDirective(_))));
    }
}
