//! `flatten_errors`: the faults of a declarative configuration as a list, each beside the entity it is about.

use crate::fault::{ENTITY, Fault, Faults, Key};
use crate::ids::is_uuid;
use crate::model::Model;
use serde_json::{Map, Value, json};

fn singular(collection: &str) -> &str {
    collection.strip_suffix('s').unwrap_or(collection)
}

fn primary_key(entity: &Map<String, Value>) -> Option<Value> {
    let id = entity.get("id")?.as_str().filter(|id| is_uuid(id))?;
    Some(json!({"id": id}))
}

fn categorise(faults: &Faults, prefix: &str, out: &mut Vec<Value>) {
    let mut sorted: Vec<&(Key, Fault)> = faults.0.iter().collect();
    sorted.sort_by_key(|(key, _)| match key {
        Key::Position(position) => (0, *position, String::new()),
        Key::Name(name) => (1, 0, name.clone()),
    });
    for (key, fault) in sorted {
        let is_entity = matches!(key, Key::Name(name) if name == ENTITY);
        let path = if prefix.is_empty() { key.to_string() } else { format!("{prefix}.{key}") };
        match fault {
            Fault::Message(message) if is_entity => out.push(json!({"type": "entity", "message": message})),
            Fault::Message(message) => {
                out.push(json!({"type": "field", "field": path, "message": message}));
            }
            Fault::Nested(list) if is_entity => {
                for (_, fault) in &list.0 {
                    if let Fault::Message(message) = fault {
                        out.push(json!({"type": "entity", "message": message}));
                    }
                }
            }
            Fault::Nested(nested) => categorise(nested, &path, out),
        }
    }
}

/// Adds the faults of one entity and of the ones nested in it.
fn add(model: &Model, collection: &str, entity: Value, fault: Option<Fault>, out: &mut Vec<Value>) {
    let mut faults = match fault {
        None => return,
        Some(Fault::Message(message)) => {
            Faults(vec![(Key::Name(ENTITY.to_owned()), Fault::Message(message))])
        }
        Some(Fault::Nested(faults)) if faults.is_empty() => return,
        Some(Fault::Nested(faults)) => faults,
    };
    let Value::Object(mut entity) = entity else { return };
    let key = primary_key(&entity);
    let own: Vec<(String, String)> = model
        .schema(collection)
        .into_iter()
        .flat_map(|schema| schema.references())
        .map(|(field, target, _)| (field.to_owned(), target.to_owned()))
        .collect();
    for (field, target) in own {
        let Some(value @ Value::Object(_)) = entity.get(&field).cloned() else { continue };
        let nested_key = value.as_object().and_then(primary_key);
        match nested_key {
            Some(key) => entity.insert(field.clone(), key),
            None => entity.remove(&field),
        };
        let nested = faults.remove(&field);
        add(model, &target, value, nested, out);
    }
    let children: Vec<(String, String)> =
        model.children(collection).map(|(child, field)| (child.to_owned(), field.to_owned())).collect();
    for (child, field) in children {
        let Some(Value::Array(items)) = entity.get(&child).cloned() else { continue };
        if child == "snis" && items.iter().all(Value::is_string) {
            continue;
        }
        entity.remove(&child);
        let Some(Fault::Nested(nested)) = faults.remove(&child) else { continue };
        let mut nested = nested.0;
        for (i, mut item) in items.into_iter().enumerate() {
            if let Value::Object(item) = &mut item
                && item.get(&field).is_none()
                && let Some(key) = &key
            {
                item.insert(field.clone(), key.clone());
            }
            let position = nested.iter().position(|(key, _)| *key == Key::Position(i + 1));
            let fault = position.map(|at| nested.swap_remove(at).1);
            add(model, &child, item, fault, out);
        }
    }
    if faults.is_empty() {
        return;
    }
    let mut errors = Vec::new();
    categorise(&faults, "", &mut errors);
    if errors.is_empty() {
        return;
    }
    let mut entry = Map::new();
    entry.insert("entity_type".into(), Value::from(singular(collection)));
    if let Some(name) = entity.get("name").filter(|name| name.as_str().is_some_and(|name| !name.is_empty())) {
        entry.insert("entity_name".into(), name.clone());
    }
    if let Some(id) = entity.get("id").filter(|id| id.as_str().is_some_and(is_uuid)) {
        entry.insert("entity_id".into(), id.clone());
    }
    let tags = entity.get("tags").and_then(Value::as_array).filter(|tags| tags.iter().all(Value::is_string));
    if let Some(tags) = tags {
        entry.insert("entity_tags".into(), Value::Array(tags.clone()));
    }
    entry.insert("entity".into(), Value::Object(entity));
    entry.insert("errors".into(), Value::Array(errors));
    out.push(Value::Object(entry));
}

/// Splits `faults` of the configuration `input` into a list by entity and what is about no entity.
pub fn flattened_errors(model: &Model, input: &Value, faults: &Faults) -> (Vec<Value>, Faults) {
    let mut flattened = Vec::new();
    let mut rest = Faults::default();
    let mut sections: Vec<&(Key, Fault)> = faults.0.iter().collect();
    sections.sort_by_key(|(key, _)| key.to_string());
    for (key, fault) in sections {
        let name = key.to_string();
        let (Fault::Nested(section), Some(items)) = (fault, input.get(&name).and_then(Value::as_array))
        else {
            rest.set(key.clone(), fault.clone());
            continue;
        };
        let mut left = Faults::default();
        for (position, fault) in &section.0 {
            let item = match position {
                Key::Position(position) => items.get(position - 1),
                Key::Name(_) => None,
            };
            match item {
                Some(item @ Value::Object(_)) => {
                    add(model, &name, item.clone(), Some(fault.clone()), &mut flattened);
                }
                _ => left.set(position.clone(), fault.clone()),
            }
        }
        if !left.is_empty() {
            rest.set(key.clone(), Fault::Nested(left));
        }
    }
    (flattened, rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::declarative::Declarative;
    use crate::fill::Seeded;

    #[test]
    fn each_fault_stands_beside_its_entity() {
        let model = Model::load();
        let input = json!({
            "_format_version": "3.0",
            "services": [{"name": "shop", "host": "shop", "tags": ["a"], "routes": [{"name": "r", "protocols": ["nope"]}]}],
            "extra": 1
        });
        let (faults, input) =
            Declarative::new(&model).read(input, &mut Seeded::new(1, 1)).expect_err("it is invalid");
        let (flattened, rest) = flattened_errors(&model, &input, &faults);
        assert_eq!(flattened.len(), 1, "{flattened:?}");
        assert_eq!(flattened[0]["entity_type"], "route");
        assert_eq!(flattened[0]["errors"][0]["message"], "unknown type: nope");
        assert_eq!(rest.to_json(), json!({"extra": "unknown field"}));
    }
}
