//! An entity's schema: fields, subschemas, keys, and what is checked of the whole.

use crate::entity_checks::{self, EntityCheck, quoted};
use crate::fault::Faults;
use crate::field::{self, Field, Kind};
use crate::fill::{self, Context, Generate};
use crate::validate::{self, check_fields, is_set, lua_text};
use serde_json::{Map, Value};
use std::collections::HashMap;

/// Where credentials of a plugin are found in the Admin API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// `key-auth`: below a consumer.
    pub nested: String,
    /// `key-auths`: all of them.
    pub top: String,
}

#[derive(Clone, Debug)]
pub(crate) struct Subschema {
    pub(crate) fields: Vec<(String, Field)>,
    pub(crate) checks: Vec<EntityCheck>,
}

/// Values that must be given together because one is made of the others.
#[derive(Clone, Debug)]
struct Transformation {
    input: Vec<String>,
    needs: Vec<String>,
}

/// The schema of one kind of entity.
#[derive(Clone, Debug)]
pub struct Schema {
    /// The collection: `services`, `keyauth_credentials` …
    pub name: String,
    pub fields: Vec<(String, Field)>,
    pub primary_key: Vec<String>,
    /// The field by which an entity can be named besides its id.
    pub endpoint_key: Option<String>,
    pub cache_key: Vec<String>,
    /// The plugin that brings the entity along.
    pub plugin: Option<String>,
    pub admin: Option<Credential>,
    pub has_ttl: bool,
    pub(crate) subschema_key: Option<String>,
    subschema_error: Option<String>,
    pub(crate) subschemas: HashMap<String, Subschema>,
    checks: Vec<EntityCheck>,
    transformations: Vec<Transformation>,
    /// The record of the whole, for its shorthands.
    record: Field,
    pub(crate) source: Value,
}

fn names(value: Option<&Value>) -> Vec<String> {
    value
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|name| name.as_str().map(str::to_owned))
        .collect()
}

impl Schema {
    pub(crate) fn parse(source: &Value) -> Schema {
        let text = |name: &str| source.get(name).and_then(Value::as_str).map(str::to_owned);
        let mut record = source.clone();
        if let Some(record) = record.as_object_mut() {
            record.insert("type".into(), Value::from("record"));
        }
        let record = Field::parse(&record);
        let fields = record.fields.clone();
        let mut transformations = Vec::new();
        for entry in source.get("transformations").and_then(Value::as_array).into_iter().flatten() {
            transformations
                .push(Transformation { input: names(entry.get("input")), needs: names(entry.get("needs")) });
        }
        let name = text("name").unwrap_or_default();
        let top = text("admin_api_name");
        let nested = text("admin_api_nested_name");
        let plugin = text("plugin");
        let admin = plugin.as_ref().and_then(|_| {
            let top = top.or_else(|| (name == "acls").then(|| "acls".to_owned()))?;
            Some(Credential { nested: nested.unwrap_or_else(|| top.clone()), top })
        });
        let mut schema = Schema {
            primary_key: names(source.get("primary_key")),
            endpoint_key: text("endpoint_key"),
            cache_key: names(source.get("cache_key")),
            has_ttl: source.get("ttl").and_then(Value::as_bool).unwrap_or_default(),
            subschema_key: text("subschema_key"),
            subschema_error: text("subschema_error"),
            subschemas: HashMap::new(),
            checks: entity_checks::parse(source.get("entity_checks"), &fields, &[]),
            transformations,
            record,
            source: source.clone(),
            name,
            fields,
            plugin,
            admin,
        };
        for (key, subschema) in source.get("subschemas").and_then(Value::as_object).into_iter().flatten() {
            schema.add_subschema(key, subschema);
        }
        schema
    }

    pub(crate) fn add_subschema(&mut self, key: &str, source: &Value) {
        let fields = field::fields_of(source);
        let checks = entity_checks::parse(source.get("entity_checks"), &fields, &self.fields);
        self.subschemas.insert(key.to_owned(), Subschema { fields, checks });
    }

    /// What the schema key of an entity selects.
    fn subschema(&self, entity: &Value) -> Option<&Subschema> {
        let key = match entity.get(self.subschema_key.as_ref()?)? {
            Value::String(key) => key,
            Value::Array(keys) => keys.first()?.as_str()?,
            _ => return None,
        };
        self.subschemas.get(key)
    }

    /// The field `name` of entities like `entity`.
    pub fn field(&self, name: &str) -> Option<&Field> {
        field::find(&self.fields, name)
    }

    /// The same for entities whose schema key is `key`: a plugin's `config` by its name.
    pub fn field_of(&self, name: &str, key: Option<&str>) -> Option<&Field> {
        let subschema = key.filter(|_| self.subschema_key.as_deref() == Some("name"));
        let over = subschema.and_then(|key| self.subschemas.get(key));
        over.and_then(|subschema| field::find(&subschema.fields, name)).or_else(|| self.field(name))
    }

    /// Every field, those that the subschema defines anew in their place.
    fn resolved<'s>(
        &'s self,
        subschema: Option<&'s Subschema>,
    ) -> impl Iterator<Item = (&'s str, &'s Field)> {
        self.fields.iter().map(move |(name, own)| {
            let over = subschema.and_then(|subschema| field::find(&subschema.fields, name));
            (name.as_str(), over.unwrap_or(own))
        })
    }

    /// Fills `entity` in.
    pub fn fill(&self, entity: &mut Map<String, Value>, context: Context, generate: &mut dyn Generate) {
        let mut whole = Value::Object(std::mem::take(entity));
        let shorthands = Field { fields: Vec::new(), ..self.record.clone() };
        fill::record(&shorthands, &mut whole, context, generate);
        let subschema = self.subschema(&whole);
        if let Value::Object(mut filled) = whole.clone() {
            fill::fields(self.resolved(subschema), &mut filled, context, generate);
            whole = Value::Object(filled);
        }
        if let Value::Object(filled) = whole {
            *entity = filled;
        }
    }

    /// Checks a filled-in entity.
    pub fn validate(&self, entity: &Value) -> Result<(), Faults> {
        if let Some(key) = &self.subschema_key
            && let Some(given) = entity.get(key).filter(|given| !given.is_null())
            && self.subschema(entity).is_none()
        {
            if let Some(field) = self.field(key)
                && !matches!(given, Value::Array(_) | Value::String(_))
                && !given.as_object().is_some_and(Map::is_empty)
                && let Err(fault) = validate::value(field, given)
            {
                return Err(Faults(vec![(crate::fault::Key::Name(key.clone()), fault)]));
            }
            let first = match given {
                Value::Array(items) => items.first().map_or("nil".to_owned(), lua_text),
                Value::Object(map) if map.is_empty() => "nil".to_owned(),
                other => lua_text(other),
            };
            let template = self.subschema_error.as_deref().unwrap_or("unknown type: %s");
            return Err(Faults::one(key, template.replacen("%s", &first, 1)));
        }
        let subschema = self.subschema(entity);
        let mut faults = Faults::default();
        check_fields(
            &self.fields,
            subschema.map(|subschema| subschema.fields.as_slice()),
            entity,
            &mut faults,
        );
        for check in self.checks.iter().chain(subschema.into_iter().flat_map(|subschema| &subschema.checks)) {
            check.run(entity, &mut faults);
        }
        for transformation in &self.transformations {
            let all: Vec<String> =
                transformation.input.iter().chain(&transformation.needs).cloned().collect();
            let has_input = transformation.input.iter().any(|path| is_set(entity, path));
            if has_input && !all.iter().all(|path| is_set(entity, path)) {
                faults.add_entity(format!("all or none of these fields must be set: {}", quoted(&all)));
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    /// Checks part of an entity: only the fields that are there.
    pub fn validate_part(&self, part: &Value) -> Result<(), Faults> {
        let mut faults = Faults::default();
        let subschema = self.subschema(part);
        check_fields(&self.fields, subschema.map(|subschema| subschema.fields.as_slice()), part, &mut faults);
        let absent: Vec<String> = self
            .fields
            .iter()
            .filter(|(name, _)| part.get(name).is_none())
            .map(|(name, _)| name.clone())
            .collect();
        for name in absent {
            faults.remove(&name);
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    /// Fields that refer to other entities: name, collection, what happens when that one is deleted.
    pub fn references(&self) -> impl Iterator<Item = (&str, &str, Option<&str>)> {
        self.fields.iter().filter(|(_, field)| field.kind == Kind::Foreign).filter_map(|(name, field)| {
            Some((name.as_str(), field.reference.as_deref()?, field.on_delete.as_deref()))
        })
    }

    /// The definition, as `/schemas` shows it.
    pub fn definition(&self) -> Value {
        let mut shown = Map::new();
        for name in ["fields", "entity_checks"] {
            if let Some(part) = self.source.get(name) {
                shown.insert(name.to_owned(), part.clone());
            }
        }
        Value::Object(shown)
    }

    /// Takes a field of the schema away, or gives it another one: declarative files see entities differently.
    pub(crate) fn put_field(&mut self, name: &str, field: Field) {
        match self.fields.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = field,
            None => self.fields.push((name.to_owned(), field)),
        }
    }
}
