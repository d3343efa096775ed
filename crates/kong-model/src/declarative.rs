//! Declarative files (`_format_version` 1.1, 2.1, 3.0): entities nested in each other, referring to each other by name,
//! made into flat entities with ids.

use crate::checks::shown;
use crate::fault::{Fault, Faults, Key};
use crate::field::{Field, Kind};
use crate::fill::{Context, Generate};
use crate::ids;
use crate::model::Model;
use crate::schema::Schema;
use crate::validate::{self, as_list};
use gantry_yaml::{Data, FileId, Node, Resolved, Span};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap};

/// Flat entities by collection and id.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entities(pub BTreeMap<String, Map<String, Value>>);

impl Entities {
    /// The entities of a collection, in the order they were declared.
    pub fn of<'e>(&'e self, collection: &str) -> impl Iterator<Item = &'e Value> {
        self.0.get(collection).into_iter().flat_map(Map::values)
    }

    pub fn get(&self, collection: &str, id: &str) -> Option<&Value> {
        self.0.get(collection)?.get(id)
    }

    pub fn insert(&mut self, collection: &str, id: &str, entity: Value) {
        self.0.entry(collection.to_owned()).or_default().insert(id.to_owned(), entity);
    }
}

/// A declarative file that was understood.
#[derive(Clone, Debug)]
pub struct Parsed {
    pub entities: Entities,
    /// The fields that begin with an underscore.
    pub meta: Map<String, Value>,
}

/// Why a declarative file is refused.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// It is not YAML or JSON.
    #[error("{0}")]
    Syntax(String),
    /// It is, but not one of ours; the faults, and the input they are about.
    #[error("{}", .places.join("; "))]
    Invalid { faults: Faults, input: Box<Value>, places: Vec<String> },
}

/// How references to other entities are written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum References {
    /// By name, or by being nested.
    Named,
    /// As keys, `{id: …}`.
    Keyed,
}

/// The reader of declarative files.
pub struct Declarative<'m> {
    model: &'m Model,
    /// For each collection the schema of its nested and top-level entries.
    named: HashMap<String, (Schema, Schema)>,
    keyed: HashMap<String, Schema>,
    /// Parents before children.
    order: Vec<String>,
}

/// Collections that a declarative file does not have.
const NOT_DECLARED: [&str; 1] = ["tags"];

fn extra_fields(schema: &mut Schema) {
    schema.put_field("_comment", Field::parse(&json!({"type": "string"})));
    schema.put_field("_ignore", Field::parse(&json!({"type": "array", "elements": {"type": "any"}})));
    if schema.has_ttl && schema.field("ttl").is_none() {
        schema.put_field("ttl", Field::parse(&json!({"type": "number"})));
    }
}

/// The same schema with references written in another way.
fn with_references(schema: &Schema, change: impl Fn(&Field) -> Field) -> Schema {
    let mut changed = schema.clone();
    extra_fields(&mut changed);
    for (name, _, _) in schema.references() {
        if let Some(field) = schema.field(name) {
            changed.put_field(name, change(field));
        }
    }
    changed
}

impl<'m> Declarative<'m> {
    pub fn new(model: &'m Model) -> Declarative<'m> {
        let mut named = HashMap::new();
        let mut keyed = HashMap::new();
        let mut order: Vec<String> = Vec::new();
        for schema in model.schemas().filter(|schema| !NOT_DECLARED.contains(&schema.name.as_str())) {
            let top = with_references(schema, |field| Field {
                required: field.required,
                ..Field::parse(&json!({"type": "string"}))
            });
            let nested = with_references(schema, |_| Field {
                eq: Some(Value::Null),
                ..Field::parse(&json!({"type": "foreign"}))
            });
            named.insert(schema.name.clone(), (top, nested));
            keyed.insert(schema.name.clone(), with_references(schema, Field::clone));
            order.push(schema.name.clone());
        }
        let mut sorted: Vec<String> = Vec::new();
        while sorted.len() < order.len() {
            let before = sorted.len();
            for name in &order {
                let is_ready = !sorted.contains(name)
                    && model.schema(name).is_some_and(|schema| {
                        schema.references().all(|(_, target, _)| {
                            target == name || sorted.iter().any(|known| known == target)
                        })
                    });
                if is_ready {
                    sorted.push(name.clone());
                }
            }
            if sorted.len() == before {
                sorted
                    .extend(order.iter().filter(|name| !sorted.contains(name)).cloned().collect::<Vec<_>>());
            }
        }
        Declarative { model, named, keyed, order: sorted }
    }

    fn schema(&self, collection: &str) -> Option<&'m Schema> {
        self.model.schema(collection)
    }

    /// Collections that may be nested in entities of `parent`, and the field that refers to it.
    fn nested<'a>(&'a self, parent: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.order.iter().filter_map(move |name| {
            let (field, _, _) = self.schema(name)?.references().find(|(_, target, _)| *target == parent)?;
            Some((name.as_str(), field))
        })
    }

    /// Reads a file; errors say where in it.
    pub fn parse(
        &self,
        file_name: &str,
        text: &str,
        generate: &mut dyn Generate,
    ) -> Result<Parsed, ParseError> {
        let syntax =
            |error: gantry_yaml::Error| ParseError::Syntax(error.in_file(file_name, text).to_string());
        let documents = gantry_yaml::parse_documents(FileId(0), text).map_err(syntax)?;
        let Some(node) = documents.into_iter().find(|node| !node.is_null()) else {
            return Err(ParseError::Syntax(format!(
                "{file_name}: found nothing, expected a declarative configuration with _format_version"
            )));
        };
        let input = to_json(&node);
        if !input.is_object() {
            return Err(ParseError::Syntax(format!(
                "{file_name}:1:1: found {}, expected a mapping with _format_version",
                node.type_name()
            )));
        }
        self.read(input, generate).map_err(|(faults, input)| {
            let mut places = Vec::new();
            for (path, message) in faults.messages() {
                let span = locate(&node, &path);
                let at = if span.is_none() {
                    file_name.to_owned()
                } else {
                    format!("{file_name}:{}:{}", span.line(), span.column())
                };
                let shown = if path.is_empty() { String::new() } else { format!("{path}: ") };
                places.push(format!("{at}: {shown}{message}"));
            }
            ParseError::Invalid { faults, input: Box::new(input), places }
        })
    }

    /// Makes flat entities of a configuration; on an error gives the configuration back with its faults.
    pub fn read(&self, input: Value, generate: &mut dyn Generate) -> Result<Parsed, (Faults, Value)> {
        let mut migrated = input.clone();
        migrate(&mut migrated);
        self.flatten(migrated, generate).map_err(|faults| (faults, input))
    }

    /// Whether the configuration is one, by its schemas alone: references by name.
    pub fn validate(&self, input: &Value) -> Result<(), Faults> {
        self.check(input, References::Named)
    }

    /// The same for a configuration whose references are keys.
    pub fn validate_keyed(&self, input: &Value) -> Result<(), Faults> {
        self.check(input, References::Keyed)
    }

    fn check(&self, input: &Value, references: References) -> Result<(), Faults> {
        let mut faults = Faults::default();
        let version =
            Field::parse(&json!({"type": "string", "required": true, "one_of": ["1.1", "2.1", "3.0"]}));
        for (name, item) in input.as_object().into_iter().flatten() {
            let outcome = match name.as_str() {
                "_format_version" => validate::value(&version, item),
                "_transform" => validate::value(&Field::parse(&json!({"type": "boolean"})), item),
                "_comment" | "_workspace" => validate::value(&Field::parse(&json!({"type": "string"})), item),
                "_ignore" => validate::value(
                    &Field::parse(&json!({"type": "array", "elements": {"type": "any"}})),
                    item,
                ),
                "_info" | "_konnect" => Ok(()),
                collection if self.named.contains_key(collection) => {
                    self.check_list(collection, item, None, references)
                }
                _ => Err(Fault::of("unknown field")),
            };
            if let Err(fault) = outcome {
                faults.set_name(name, fault);
            }
        }
        if input.get("_format_version").is_none() {
            faults.set_name("_format_version", Fault::of(validate::REQUIRED));
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    fn check_list(
        &self,
        collection: &str,
        items: &Value,
        parent: Option<&str>,
        references: References,
    ) -> Result<(), Fault> {
        if items.is_null() {
            return Ok(());
        }
        let Some(items) = as_list(items) else { return Err(Fault::of("expected an array")) };
        let mut faults = Faults::default();
        for (i, item) in items.iter().enumerate() {
            let fault = match item {
                Value::Null => Fault::of(validate::REQUIRED),
                Value::Object(_) => match self.check_item(collection, item, parent, references) {
                    Ok(()) => continue,
                    Err(faults) => Fault::Nested(faults),
                },
                Value::Array(list) if list.is_empty() => {
                    match self.check_item(collection, &json!({}), parent, references) {
                        Ok(()) => continue,
                        Err(faults) => Fault::Nested(faults),
                    }
                }
                _ => Fault::of("expected a record"),
            };
            faults.set(Key::Position(i + 1), fault);
        }
        if faults.is_empty() { Ok(()) } else { Err(Fault::Nested(faults)) }
    }

    fn check_item(
        &self,
        collection: &str,
        item: &Value,
        parent: Option<&str>,
        references: References,
    ) -> Result<(), Faults> {
        let (own, children) = self.split(collection, item);
        let schema = match (references, parent, self.named.get(collection)) {
            (References::Keyed, _, _) => self.keyed.get(collection),
            (References::Named, None, Some((top, _))) => Some(top),
            (References::Named, Some(_), Some((_, nested))) => Some(nested),
            (References::Named, _, None) => None,
        };
        let Some(schema) = schema else { return Ok(()) };
        let mut filled = own;
        schema.fill(&mut filled, Context::Insert, &mut crate::fill::Seeded::new(0, 1));
        // A reference that is nested in its owner is an entity of its own.
        let mut faults = Faults::default();
        for (name, target, _) in self.schema(collection).into_iter().flat_map(Schema::references) {
            let is_inline = filled
                .get(name)
                .and_then(Value::as_object)
                .is_some_and(|inline| inline.keys().any(|name| name != "id") || inline.is_empty());
            if is_inline && parent.is_none() {
                if let Some(inline) = filled.get(name)
                    && let Err(nested) = self.check_item(target, inline, None, references)
                {
                    faults.set_name(name, Fault::Nested(nested));
                }
                filled.insert(name.to_owned(), Value::Null);
            }
        }
        if let Err(found) = schema.validate(&Value::Object(filled)) {
            for (key, fault) in found.0 {
                if !faults.0.iter().any(|(known, _)| *known == key) {
                    faults.set(key, fault);
                }
            }
        }
        for (child, items) in children {
            if let Err(fault) = self.check_list(child, items, Some(collection), references) {
                faults.set_name(child, fault);
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    /// An entry's own fields, and the collections nested in it.
    fn split<'v>(
        &self,
        collection: &str,
        item: &'v Value,
    ) -> (Map<String, Value>, Vec<(&'v str, &'v Value)>) {
        let mut own = Map::new();
        let mut children = Vec::new();
        for (name, value) in item.as_object().into_iter().flatten() {
            let is_nested = self.nested(collection).any(|(child, _)| child == name)
                && !(name == "snis" && as_list(value).is_some_and(|list| list.iter().any(Value::is_string)));
            if is_nested {
                children.push((name.as_str(), value));
            } else {
                own.insert(name.clone(), value.clone());
            }
        }
        (own, children)
    }

    /// Validates, gives ids, fills in and resolves references.
    pub fn flatten(&self, input: Value, generate: &mut dyn Generate) -> Result<Parsed, Faults> {
        let mut input = input;
        if let Some(fields) = input.as_object_mut()
            && fields.get("_transform").is_none_or(Value::is_null)
        {
            fields.insert("_transform".to_owned(), Value::Bool(true));
        }
        if let Err(found) = self.check(&input, References::Named) {
            // Some rules look into the entity referred to; they are judged again with keys in place of names.
            let mut keyed = input.clone();
            let mut known = Known::default();
            self.give_ids(&mut keyed, None, true);
            self.collect(&mut keyed, None, &mut known, &mut Faults::default());
            self.resolve_in_place(&mut keyed, None, &known);
            if let Err(mut faults) = self.check(&keyed, References::Keyed) {
                faults.merge(null_faults(&found));
                return Err(faults);
            }
        }
        self.give_ids(&mut input, None, false);
        self.fill_in(&mut input, None, generate);
        let mut known = Known::default();
        let mut faults = Faults::default();
        self.collect(&mut input, None, &mut known, &mut faults);
        if !faults.is_empty() {
            return Err(faults);
        }
        let mut entities = Entities::default();
        self.take_out(&input, None, &known, &mut entities, &mut faults);
        if !faults.is_empty() {
            return Err(faults);
        }
        let mut meta = Map::new();
        for (name, value) in input.as_object().into_iter().flatten() {
            if name.starts_with('_') {
                meta.insert(name.clone(), value.clone());
            }
        }
        Ok(Parsed { entities, meta })
    }

    /// Visits every collection of a configuration or entry that `parent` may hold.
    fn collections_in(&self, holder: &Value, parent: Option<&str>) -> Vec<(String, Option<String>)> {
        let mut out = Vec::new();
        for name in &self.order {
            if !holder.get(name).is_some_and(Value::is_array) {
                continue;
            }
            match parent {
                None => out.push((name.clone(), None)),
                Some(parent) => {
                    if let Some((_, field)) = self.nested(parent).find(|(child, _)| child == name) {
                        out.push((name.clone(), Some(field.to_owned())));
                    }
                }
            }
        }
        out
    }

    /// Gives each entry without an id the one that follows from its name; with `all`, a placeholder to the rest.
    fn give_ids(&self, holder: &mut Value, parent: Option<(&str, Option<String>)>, all: bool) {
        for (collection, child_field) in self.collections_in(holder, parent.as_ref().map(|(name, _)| *name)) {
            let Some(schema) = self.schema(&collection) else { continue };
            let parent_id = parent.as_ref().and_then(|(_, id)| id.clone());
            let Some(items) = holder.get_mut(&collection).and_then(Value::as_array_mut) else { continue };
            for (i, item) in items.iter_mut().enumerate() {
                if !item.is_object() {
                    continue;
                }
                if let Some(id) =
                    id_of(schema, item, parent.is_some(), parent_id.as_deref(), child_field.as_deref())
                {
                    item["id"] = Value::String(id);
                } else if all && item.get("id").is_none() {
                    item["id"] = Value::String(ids::entity_id(&collection, &format!("entry {i}")));
                }
                let id = item.get("id").and_then(Value::as_str).map(str::to_owned);
                self.give_ids(item, Some((&collection, id)), all);
            }
        }
    }

    fn fill_in(&self, holder: &mut Value, parent: Option<&str>, generate: &mut dyn Generate) {
        for (collection, _) in self.collections_in(holder, parent) {
            let Some((top, _)) = self.named.get(&collection) else { continue };
            let Some(items) = holder.get_mut(&collection).and_then(Value::as_array_mut) else { continue };
            for item in items {
                let (mut own, children) = self.split(&collection, item);
                let children: Vec<(String, Value)> =
                    children.into_iter().map(|(name, value)| (name.to_owned(), value.clone())).collect();
                top.fill(&mut own, Context::Insert, generate);
                top.fill(&mut own, Context::Insert, generate);
                own.extend(children);
                *item = Value::Object(own);
                self.fill_in(item, Some(&collection), generate);
            }
        }
    }

    /// Notes every entry under its id and name, and makes nested entries refer to their parents.
    fn collect(
        &self,
        holder: &mut Value,
        parent: Option<(&str, &str)>,
        known: &mut Known,
        faults: &mut Faults,
    ) {
        for (collection, child_field) in self.collections_in(holder, parent.map(|(name, _)| name)) {
            let Some(schema) = self.schema(&collection) else { continue };
            let Some(items) = holder.get_mut(&collection).and_then(Value::as_array_mut) else { continue };
            let mut list = Faults::default();
            for (i, item) in items.iter_mut().enumerate() {
                if !item.is_object() {
                    continue;
                }
                let id = item.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
                if let (Some(field), Some((_, parent_id))) = (&child_field, parent)
                    && item.get(field).is_none_or(Value::is_null)
                {
                    item[field.as_str()] = json!({"id": parent_id});
                }
                let mut own = Faults::default();
                if let Some(key) = &schema.endpoint_key
                    && let Some(name) = item.get(key).and_then(Value::as_str)
                {
                    let is_unique = schema.field(key).is_some_and(|field| field.unique);
                    let names = known.by_name.entry(collection.clone()).or_default();
                    if is_unique && names.contains_key(name) {
                        let message = format!(
                            "uniqueness violation: '{collection}' entity with {key} set to '{name}' already declared"
                        );
                        list.set(Key::Position(i + 1), Fault::Message(message));
                    }
                    names.entry(name.to_owned()).or_insert_with(|| id.clone());
                }
                let of_collection = known.by_id.entry(collection.clone()).or_default();
                if !id.is_empty()
                    && of_collection.insert(id.clone(), ()).is_some()
                    && !list.0.iter().any(|(key, _)| *key == Key::Position(i + 1))
                {
                    let message = format!(
                        "uniqueness violation: '{collection}' entity with primary key set to '{id}' already declared"
                    );
                    list.set(Key::Position(i + 1), Fault::Message(message));
                }
                self.collect(item, Some((&collection, &id)), known, &mut own);
                if !own.is_empty() && !list.0.iter().any(|(key, _)| *key == Key::Position(i + 1)) {
                    list.set(Key::Position(i + 1), Fault::Nested(own));
                }
            }
            if !list.is_empty() {
                faults.set_name(&collection, Fault::Nested(list));
            }
        }
    }

    /// Puts keys where names of known entities stand.
    fn resolve_in_place(&self, holder: &mut Value, parent: Option<&str>, known: &Known) {
        for (collection, _) in self.collections_in(holder, parent) {
            let Some(schema) = self.schema(&collection) else { continue };
            let Some(items) = holder.get_mut(&collection).and_then(Value::as_array_mut) else { continue };
            for item in items.iter_mut().filter(|item| item.is_object()) {
                for (field, target, _) in schema.references() {
                    if let Some(id) = item.get(field).and_then(|value| known.find(target, value)) {
                        item[field] = json!({"id": id});
                    }
                }
                self.resolve_in_place(item, Some(&collection), known);
            }
        }
    }

    fn take_out(
        &self,
        holder: &Value,
        parent: Option<&str>,
        known: &Known,
        entities: &mut Entities,
        faults: &mut Faults,
    ) {
        for (collection, _) in self.collections_in(holder, parent) {
            let Some(schema) = self.schema(&collection) else { continue };
            for (i, item) in holder.get(&collection).and_then(as_list).into_iter().flatten().enumerate() {
                let mut flat = Map::new();
                let mut messages: Vec<(String, String)> = Vec::new();
                for (name, field) in &schema.fields {
                    let Some(value) = item.get(name) else { continue };
                    if field.kind != Kind::Foreign || value.is_null() {
                        flat.insert(name.clone(), value.clone());
                        continue;
                    }
                    let target = field.reference.as_deref().unwrap_or_default();
                    match known.find(target, value) {
                        Some(id) => {
                            flat.insert(name.clone(), json!({"id": id}));
                        }
                        None => {
                            let said = shown(value.get("id").unwrap_or(value));
                            let message =
                                format!("invalid reference '{name}: {said}' (no such entry in '{target}')");
                            messages.push((target.to_owned(), message));
                        }
                    }
                }
                if schema.has_ttl
                    && let Some(ttl) = item.get("ttl").filter(|ttl| ttl.is_number())
                {
                    flat.insert("ttl".to_owned(), ttl.clone());
                }
                if !messages.is_empty() {
                    messages.sort();
                    let at = match schema.endpoint_key.as_ref().and_then(|key| item.get(key)) {
                        Some(Value::String(name)) => name.clone(),
                        Some(Value::Null) => "null".to_owned(),
                        _ => {
                            item.get("id").and_then(Value::as_str).map_or((i + 1).to_string(), str::to_owned)
                        }
                    };
                    let list = messages
                        .into_iter()
                        .enumerate()
                        .map(|(i, (_, message))| (Key::Position(i + 1), Fault::Message(message)));
                    faults.set_path(
                        &collection,
                        match faults.get(&collection) {
                            Some(Fault::Nested(old)) => Fault::Nested(old.clone()),
                            _ => Fault::Nested(Faults::default()),
                        },
                    );
                    for (key, fault) in &mut faults.0 {
                        if let (Key::Name(name), Fault::Nested(nested)) = (key, fault)
                            && *name == collection
                        {
                            nested.set(Key::Name(at.clone()), Fault::Nested(Faults(list.collect())));
                            break;
                        }
                    }
                }
                if let Some(id) = item.get("id").and_then(Value::as_str) {
                    entities.insert(&collection, id, Value::Object(flat));
                }
                self.take_out(item, Some(&collection), known, entities, faults);
            }
        }
    }
}

/// Every entry of a file, by collection and id or name.
#[derive(Default)]
struct Known {
    by_id: HashMap<String, HashMap<String, ()>>,
    by_name: HashMap<String, HashMap<String, String>>,
}

impl Known {
    fn find(&self, collection: &str, value: &Value) -> Option<String> {
        let name = value.as_str().or_else(|| value.get("id").and_then(Value::as_str))?;
        if let Some(id) = self.by_name.get(collection).and_then(|names| names.get(name)) {
            return Some(id.clone());
        }
        self.by_id.get(collection)?.contains_key(name).then(|| name.to_owned())
    }
}

/// The id that follows from what an entry says about itself.
fn id_of(
    schema: &Schema,
    item: &Value,
    is_nested: bool,
    parent_id: Option<&str>,
    child_field: Option<&str>,
) -> Option<String> {
    let [key] = schema.primary_key.as_slice() else { return None };
    if item.get(key).is_some_and(|value| !value.is_null()) || !schema.field(key)?.uuid {
        return None;
    }
    let text = |name: &str| item.get(name).and_then(Value::as_str);
    if schema.cache_key.is_empty() {
        let endpoint = schema.endpoint_key.as_deref()?;
        let mut whole = text(endpoint)?.to_owned();
        if !schema.field(endpoint)?.unique {
            for (field, _, on_delete) in schema.references() {
                if on_delete != Some("cascade") {
                    continue;
                }
                let owner = if is_nested { parent_id? } else { text(field)? };
                whole = format!("{whole}:{owner}");
            }
        }
        return Some(ids::entity_id(&schema.name, &whole));
    }
    // The star stands for the workspace of an entity that names none.
    let mut parts = vec![schema.name.clone(), "*".to_owned()];
    for name in &schema.cache_key {
        let field = schema.field(name)?;
        if field.auto {
            return None;
        }
        match item.get(name) {
            Some(Value::String(text)) => parts.push(text.clone()),
            None if child_field == Some(name.as_str()) => parts.push(parent_id?.to_owned()),
            None if field.is_required() => return None,
            None => parts.push(String::new()),
            Some(_) => {}
        }
    }
    Some(ids::entity_id(&schema.name, &parts.join(":")))
}

/// Only the complaints about references that stand where none may.
fn null_faults(faults: &Faults) -> Faults {
    let mut kept = Faults::default();
    for (key, fault) in &faults.0 {
        match fault {
            Fault::Nested(nested) => {
                let nested = null_faults(nested);
                if !nested.is_empty() {
                    kept.set(key.clone(), Fault::Nested(nested));
                }
            }
            Fault::Message(message) if message == "value must be null" => {
                kept.set(key.clone(), fault.clone())
            }
            Fault::Message(_) => {}
        }
    }
    kept
}

/// Paths of formats before 3.0 that can only be meant as patterns get the `~` of 3.0.
fn migrate(input: &mut Value) {
    let is_old = matches!(input.get("_format_version").and_then(Value::as_str), Some("1.1" | "2.1"));
    if !is_old {
        return;
    }
    fn migrate_routes(holder: &mut Value) {
        for route in holder.get_mut("routes").and_then(Value::as_array_mut).into_iter().flatten() {
            for path in route.get_mut("paths").and_then(Value::as_array_mut).into_iter().flatten() {
                let Value::String(text) = path else { continue };
                let is_plain =
                    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_~/%".contains(&byte));
                if !is_plain && !text.starts_with('~') {
                    text.insert(0, '~');
                }
            }
        }
    }
    migrate_routes(input);
    for service in input.get_mut("services").and_then(Value::as_array_mut).into_iter().flatten() {
        migrate_routes(service);
    }
    input["_format_version"] = Value::from("3.0");
}

/// The first document of a YAML text as JSON; `None` when it is not YAML.
pub fn read_yaml(text: &str) -> Option<Value> {
    let documents = gantry_yaml::parse_documents(FileId(0), text).ok()?;
    documents.first().map(to_json)
}

fn to_json(node: &Node) -> Value {
    match &node.data {
        Data::Scalar(scalar) => match scalar.resolve() {
            Resolved::Null => Value::Null,
            Resolved::Bool(flag) => Value::Bool(flag),
            Resolved::Int(number) => Value::from(number),
            Resolved::Uint(number) => Value::from(number),
            Resolved::Float(number) => {
                serde_json::Number::from_f64(number).map_or(Value::Null, Value::Number)
            }
            Resolved::Str(text) => Value::String(text.to_string()),
        },
        Data::Sequence(items) => Value::Array(items.iter().map(to_json).collect()),
        Data::Mapping(entries) => {
            let mut map = Map::new();
            for (key, value) in entries {
                map.insert(key.text().unwrap_or_default().to_owned(), to_json(value));
            }
            Value::Object(map)
        }
    }
}

/// The place of the node that a fault's path names, or of the nearest one above it.
fn locate(node: &Node, path: &str) -> Span {
    let mut at = node;
    let mut span = node.span;
    for part in path.split('.').filter(|part| !part.is_empty()) {
        let next = match &at.data {
            Data::Mapping(entries) => entries.iter().find(|(key, _)| key.text() == Some(part)),
            Data::Sequence(items) => {
                let item =
                    part.parse::<usize>().ok().and_then(|position| items.get(position.checked_sub(1)?));
                let Some(item) = item else { return span };
                at = item;
                span = item.span;
                continue;
            }
            Data::Scalar(_) => None,
        };
        let Some((key, value)) = next else { return span };
        span = if key.span.is_none() { value.span } else { key.span };
        at = value;
    }
    span
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fill::Seeded;

    const SHOP: &str = "_format_version: \"3.0\"\nservices:\n- name: shop\n  url: http://shop.internal:8080/api\n  routes:\n  - name: all\n    paths: [/shop]\n    plugins:\n    - name: key-auth\nconsumers:\n- username: ann\n  keyauth_credentials:\n  - key: secret\n";

    fn parse(text: &str) -> Result<Parsed, ParseError> {
        let model = Model::load();
        Declarative::new(&model).parse("kong.yml", text, &mut Seeded::new(1, 100))
    }

    #[test]
    fn nested_entities_become_flat_ones_with_ids_and_defaults() {
        let parsed = parse(SHOP).unwrap();
        let service = parsed.entities.of("services").next().unwrap();
        assert_eq!(service["host"], "shop.internal");
        assert_eq!(service["port"], 8080);
        assert_eq!(service["retries"], 5);
        let route = parsed.entities.of("routes").next().unwrap();
        assert_eq!(route["service"]["id"], service["id"]);
        let plugin = parsed.entities.of("plugins").next().unwrap();
        assert_eq!(plugin["route"]["id"], route["id"]);
        assert_eq!(plugin["config"]["key_names"], json!(["apikey"]));
        let credential = parsed.entities.of("keyauth_credentials").next().unwrap();
        assert_eq!(credential["consumer"]["id"], parsed.entities.of("consumers").next().unwrap()["id"]);
    }

    #[test]
    fn errors_say_where_in_the_file() {
        let text = SHOP.replace("paths: [/shop]", "paths: [shop]");
        let message = parse(&text).unwrap_err().to_string();
        assert!(
            message.contains("kong.yml:7:13: services.1.routes.1.paths.1: should start with: /"),
            "{message}"
        );
        let message = parse("_format_version: \"3.0\"\nroutes:\n- name: a\n  paths: [/]\n  service: gone\n")
            .unwrap_err();
        assert!(message.to_string().contains("invalid reference 'service: gone'"), "{message}");
        assert!(parse("").unwrap_err().to_string().contains("_format_version"));
        assert!(parse("[").is_err());
    }

    #[test]
    fn patterns_of_older_formats_get_their_mark() {
        let text = "_format_version: \"2.1\"\nroutes:\n- name: a\n  paths: [\"/a/(?<id>\\\\d+)\", /b]\n";
        let parsed = parse(text).unwrap();
        let route = parsed.entities.of("routes").next().unwrap();
        assert_eq!(route["paths"], json!(["~/a/(?<id>\\d+)", "/b"]));
    }
}
