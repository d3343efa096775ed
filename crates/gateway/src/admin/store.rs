//! Entities in memory, with the rules that hold between them: unique fields, references, what a deletion takes along.

use super::problem::Problem;
use gantry_kong_model::{Entities, Kind, Model, Schema};
use serde_json::{Map, Value};

/// Where entities are kept between runs.
pub trait Persist: Send + Sync {
    fn load(&self) -> Result<Entities, String>;
    /// Returns when the entities would survive a crash.
    fn save(&self, entities: &Entities) -> Result<(), String>;
}

#[derive(Clone, Debug, Default)]
pub(super) struct Store {
    entities: Entities,
}

impl Store {
    pub(super) fn new(entities: Entities) -> Store {
        Store { entities }
    }

    pub(super) fn entities(&self) -> &Entities {
        &self.entities
    }

    /// By id, or by the field that names entities of the kind.
    pub(super) fn find(&self, schema: &Schema, key: &str) -> Option<&Value> {
        if let Some(entity) = self.entities.get(&schema.name, key) {
            return Some(entity);
        }
        let endpoint = schema.endpoint_key.as_deref()?;
        self.entities.of(&schema.name).find(|entity| entity[endpoint] == key)
    }

    /// Checks what `entity` says about others: that those it names exist, and that it repeats nothing unique.
    pub(super) fn check(&self, model: &Model, schema: &Schema, entity: &Value) -> Result<(), Problem> {
        for (field, target, _) in schema.references() {
            let Some(id) = entity[field]["id"].as_str() else { continue };
            if model.schema(target).is_some() && self.entities.get(target, id).is_none() {
                return Err(Problem::foreign(field, id, target));
            }
        }
        let id = entity["id"].as_str().unwrap_or_default();
        let others = || self.entities.of(&schema.name).filter(|other| other["id"] != id);
        for (name, field) in schema.fields.iter().filter(|(_, field)| field.unique) {
            let value = &entity[name];
            if !value.is_null() && field.kind != Kind::Foreign && others().any(|other| other[name] == *value)
            {
                return Err(Problem::unique(single(name, value)));
            }
        }
        // Plugins and targets are unique by all fields of their cache key together.
        let composite = matches!(schema.name.as_str(), "plugins" | "targets");
        let same = |other: &Value| schema.cache_key.iter().all(|name| other[name] == entity[name]);
        if composite && others().any(same) {
            let mut fields = Map::new();
            for name in &schema.cache_key {
                fields.insert(name.clone(), entity[name].clone());
            }
            return Err(Problem::unique(Value::Object(fields)));
        }
        Ok(())
    }

    pub(super) fn put(&mut self, schema: &Schema, entity: Value) {
        let id = entity["id"].as_str().unwrap_or_default().to_owned();
        self.entities.insert(&schema.name, &id, entity);
    }

    /// Takes an entity out, with those that cannot be without it.
    pub(super) fn delete(&mut self, model: &Model, collection: &str, id: &str) -> Result<(), Problem> {
        let children: Vec<(String, String)> =
            model.children(collection).map(|(child, field)| (child.to_owned(), field.to_owned())).collect();
        for (child, field) in children {
            let Some(schema) = model.schema(&child) else { continue };
            let on_delete =
                schema.references().find(|(name, _, _)| *name == field).and_then(|(_, _, rule)| rule);
            let ids: Vec<String> = self
                .entities
                .of(&child)
                .filter(|entity| entity[&field]["id"] == id)
                .filter_map(|entity| entity["id"].as_str().map(str::to_owned))
                .collect();
            // A certificate's names go with it.
            let takes_along = on_delete == Some("cascade") || child == "snis";
            for owned in ids {
                if !takes_along {
                    return Err(Problem::referenced(&child, collection));
                }
                self.delete(model, &child, &owned)?;
            }
        }
        if let Some(all) = self.entities.0.get_mut(collection) {
            all.remove(id);
        }
        Ok(())
    }
}

fn single(name: &str, value: &Value) -> Value {
    let mut map = Map::new();
    map.insert(name.to_owned(), value.clone());
    Value::Object(map)
}
