//! Collections and nested collections: list, create, read, replace, change, delete.

use super::problem::Problem;
use super::{Admin, body};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use gantry_kong_model::{Context, Kind, Schema, entity_id, hash_basic_password, is_uuid};
use http::{Method, Request, StatusCode};
use serde_json::{Map, Value, json};

const DEFAULT_PAGE: usize = 100;
const MAX_PAGE: usize = 1_000;

/// Where the entities of a schema are found.
pub(super) fn path_of(schema: &Schema) -> &str {
    schema.admin.as_ref().map_or(schema.name.as_str(), |admin| admin.top.as_str())
}

/// One field a nested collection is narrowed by.
struct Parent {
    field: String,
    id: String,
}

impl Admin {
    fn schema_at(&self, path: &str) -> Option<&Schema> {
        let path = match path {
            "ca_certificates" | "key-sets" => path.replace('-', "_"),
            other => other.to_owned(),
        };
        self.model
            .schemas()
            .find(|schema| path_of(schema) == path && !matches!(schema.name.as_str(), "tags" | "workspaces"))
    }

    /// The collection below entities of `parent`, and the field that refers to them.
    fn nested_at(&self, parent: &Schema, path: &str) -> Option<(&Schema, String)> {
        self.model.schemas().find_map(|schema| {
            let nested = schema.admin.as_ref().map_or(schema.name.as_str(), |admin| admin.nested.as_str());
            let is_it = nested == path || schema.name == path;
            let (field, _, _) = schema.references().find(|(_, target, _)| *target == parent.name)?;
            is_it.then(|| (schema, field.to_owned()))
        })
    }

    pub(super) fn collection(
        &self,
        parts: &[&str],
        request: &Request<Bytes>,
        query: &[(String, String)],
    ) -> Result<(StatusCode, Value), Problem> {
        let Some((first, rest)) = parts.split_first() else { return Err(Problem::not_found()) };
        let schema = self.schema_at(first).ok_or_else(Problem::not_found)?;
        match rest {
            [] => self.on_collection(schema, None, request, query),
            [key] => self.on_entity(schema, key, None, request),
            [key, nested, more @ ..] => {
                let owner = {
                    let state = self.state.lock();
                    state.store.find(schema, key).cloned()
                }
                .ok_or_else(Problem::not_found)?;
                // The one entity that this one refers to: the service of a route.
                let reference = schema.references().find(|(field, _, _)| field == nested);
                if let (Some((_, target, _)), []) = (reference, more) {
                    let id = owner[*nested]["id"].as_str().ok_or_else(Problem::not_found)?.to_owned();
                    let target = self.model.schema(target).ok_or_else(Problem::not_found)?;
                    return self.on_entity(target, &id, None, request);
                }
                if schema.name == "upstreams" && (*nested == "health" || more == ["all"]) {
                    return self.upstream_targets(&owner, *nested == "health");
                }
                let (child, field) = self.nested_at(schema, nested).ok_or_else(Problem::not_found)?;
                let id = owner["id"].as_str().unwrap_or_default().to_owned();
                let parent = Parent { field, id };
                match more {
                    [] => self.on_collection(child, Some(&parent), request, query),
                    [key] => self.on_entity(child, key, Some(&parent), request),
                    _ => Err(Problem::not_found()),
                }
            }
        }
    }

    fn upstream_targets(&self, owner: &Value, with_health: bool) -> Result<(StatusCode, Value), Problem> {
        let state = self.state.lock();
        let mut data = Vec::new();
        for target in
            state.store.entities().of("targets").filter(|target| target["upstream"]["id"] == owner["id"])
        {
            let mut target = target.clone();
            if with_health {
                target["health"] = Value::from("HEALTHCHECKS_OFF");
            }
            data.push(target);
        }
        Ok((StatusCode::OK, json!({"data": data, "next": null})))
    }

    fn on_collection(
        &self,
        schema: &Schema,
        parent: Option<&Parent>,
        request: &Request<Bytes>,
        query: &[(String, String)],
    ) -> Result<(StatusCode, Value), Problem> {
        match *request.method() {
            Method::GET | Method::HEAD => self.list(schema, parent, request, query),
            Method::POST => {
                self.may_write("create", schema)?;
                let given = body::parse(request, schema)?;
                let entity = self.create(schema, given, parent, None)?;
                Ok((StatusCode::CREATED, entity))
            }
            _ => Err(Problem::method()),
        }
    }

    fn list(
        &self,
        schema: &Schema,
        parent: Option<&Parent>,
        request: &Request<Bytes>,
        query: &[(String, String)],
    ) -> Result<(StatusCode, Value), Problem> {
        let parameter =
            |name: &str| query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let size = match parameter("size") {
            None => DEFAULT_PAGE,
            Some(text) => {
                let size = text.parse().ok().filter(|size| (1..=MAX_PAGE).contains(size));
                size.ok_or_else(|| Problem::size(text))?
            }
        };
        let start = match parameter("offset") {
            None => None,
            Some(text) => {
                let decoded =
                    URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
                Some(decoded.ok_or_else(|| Problem::offset(text))?)
            }
        };
        let tags = parameter("tags");
        let has_tags = |entity: &Value| {
            let Some(tags) = tags else { return true };
            let has =
                |tag: &str| entity["tags"].as_array().is_some_and(|all| all.iter().any(|known| known == tag));
            if tags.contains('/') { tags.split('/').any(has) } else { tags.split(',').all(has) }
        };
        let state = self.state.lock();
        let mut ids: Vec<(&str, &Value)> = state
            .store
            .entities()
            .of(&schema.name)
            .filter(|entity| parent.is_none_or(|parent| entity[&parent.field]["id"] == parent.id.as_str()))
            .filter(|entity| has_tags(entity))
            .filter_map(|entity| Some((entity["id"].as_str()?, entity)))
            .collect();
        // Pages go on behind the last id, so that one that was deleted meanwhile does no harm.
        ids.sort_by_key(|(id, _)| *id);
        let mut page = ids.iter().skip_while(|(id, _)| start.as_deref().is_some_and(|start| *id <= start));
        let data: Vec<Value> = page.by_ref().take(size).map(|(_, entity)| (*entity).clone()).collect();
        let last = data.last().and_then(|entity| entity["id"].as_str()).map(|id| URL_SAFE_NO_PAD.encode(id));
        let mut answer = json!({"data": data, "next": null});
        if let Some(offset) = last.filter(|_| page.next().is_some()) {
            let mut next = format!("{}?offset={offset}", request.uri().path());
            for name in ["tags", "size"] {
                if let Some(value) = parameter(name) {
                    next.push_str(&format!("&{name}={value}"));
                }
            }
            answer["next"] = Value::from(next);
            answer["offset"] = Value::from(offset);
        }
        Ok((StatusCode::OK, answer))
    }

    fn on_entity(
        &self,
        schema: &Schema,
        key: &str,
        parent: Option<&Parent>,
        request: &Request<Bytes>,
    ) -> Result<(StatusCode, Value), Problem> {
        // What a change is made from must still be so when it is stored: otherwise of two changes one would be lost, and
        // a change would bring back what was deleted meanwhile.
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        let _writing = (!is_read).then(|| self.writing.lock());
        let found = {
            let state = self.state.lock();
            let found = state.store.find(schema, key).cloned();
            found.filter(|entity| {
                parent.is_none_or(|parent| entity[&parent.field]["id"] == parent.id.as_str())
            })
        };
        match *request.method() {
            Method::GET | Method::HEAD => Ok((StatusCode::OK, found.ok_or_else(Problem::not_found)?)),
            Method::DELETE => {
                self.may_write("delete", schema)?;
                if let Some(id) = found.as_ref().and_then(|entity| entity["id"].as_str()) {
                    self.change(|store| store.delete(&self.model, &schema.name, id))?;
                }
                Ok((StatusCode::NO_CONTENT, Value::Null))
            }
            Method::PATCH => {
                self.may_write("update", schema)?;
                let mut given = body::parse(request, schema)?;
                let mut entity = found.ok_or_else(Problem::not_found)?;
                // The entity is the one in the path: another id would change somebody else's.
                given.remove("id");
                merge(schema, &mut entity, given);
                self.store_changed(schema, entity).map(|entity| (StatusCode::OK, entity))
            }
            Method::PUT => {
                self.may_write("create or update", schema)?;
                let given = body::parse(request, schema)?;
                let entity = self.create(schema, given, parent, Some((key, found.as_ref())))?;
                Ok((StatusCode::OK, entity))
            }
            _ => Err(Problem::method()),
        }
    }

    fn may_write(&self, what: &str, schema: &Schema) -> Result<(), Problem> {
        match self.persist {
            Some(_) => Ok(()),
            None => Err(Problem::without_database(what, &schema.name)),
        }
    }

    /// References given by name become keys.
    fn resolve(&self, schema: &Schema, entity: &mut Map<String, Value>) {
        let state = self.state.lock();
        for (field, target, _) in schema.references() {
            let Some(target) = self.model.schema(target) else { continue };
            let Some(reference) = entity.get(field).and_then(Value::as_object) else { continue };
            let name =
                target.endpoint_key.as_deref().and_then(|key| reference.get(key)).and_then(Value::as_str);
            if let Some(found) = name.and_then(|name| state.store.find(target, name)) {
                entity.insert(field.to_owned(), json!({"id": found["id"]}));
            }
        }
    }

    fn create(
        &self,
        schema: &Schema,
        given: Map<String, Value>,
        parent: Option<&Parent>,
        replaces: Option<(&str, Option<&Value>)>,
    ) -> Result<Value, Problem> {
        let mut entity = given;
        if let Some(parent) = parent {
            entity.insert(parent.field.clone(), json!({"id": parent.id}));
        }
        if let Some((key, old)) = replaces {
            match (old, &schema.endpoint_key) {
                (Some(old), _) => {
                    entity.insert("id".into(), old["id"].clone());
                    if let Some(created) = old.get("created_at") {
                        entity.insert("created_at".into(), created.clone());
                    }
                    if let Some(name) = schema.endpoint_key.as_ref().filter(|name| old[name.as_str()] == key)
                    {
                        entity.entry(name.clone()).or_insert_with(|| Value::from(key));
                    }
                }
                (None, _) if is_uuid(key) => {
                    entity.insert("id".into(), Value::from(key));
                }
                (None, Some(name)) => {
                    entity.insert(name.clone(), Value::from(key));
                }
                (None, None) => return Err(Problem::not_found()),
            }
        }
        self.resolve(schema, &mut entity);
        let names = match entity.remove("snis") {
            Some(names) if schema.name == "certificates" => names,
            Some(other) => {
                entity.insert("snis".into(), other);
                Value::Null
            }
            None => Value::Null,
        };
        let mut entity = {
            let mut state = self.state.lock();
            // Once for the defaults, once for what is inside them.
            schema.fill(&mut entity, Context::Insert, &mut *state.generate);
            schema.fill(&mut entity, Context::Insert, &mut *state.generate);
            Value::Object(entity)
        };
        schema.validate(&entity).map_err(|faults| Problem::schema(&faults))?;
        hash_password(schema, &mut entity, None);
        let now = entity["created_at"].clone();
        let stored = entity.clone();
        let is_new = replaces.is_none_or(|(_, old)| old.is_none());
        self.change(|store| {
            let id = stored["id"].as_str().unwrap_or_default();
            if is_new && store.entities().get(&schema.name, id).is_some() {
                return Err(Problem::primary_key(id));
            }
            store.check(&self.model, schema, &stored)?;
            store.put(schema, stored);
            if let (Some(names), Some(snis)) = (names.as_array(), self.model.schema("snis")) {
                for name in names.iter().filter_map(Value::as_str) {
                    let sni = json!({
                        "id": entity_id("snis", name),
                        "name": name,
                        "certificate": {"id": entity["id"]},
                        "created_at": now, "updated_at": now, "tags": null,
                    });
                    snis.validate(&sni).map_err(|faults| Problem::schema(&faults))?;
                    // The id follows from the name, so `check` takes another certificate's name for this one.
                    let known = store.find(snis, name);
                    if known.is_some_and(|known| known["certificate"]["id"] != entity["id"]) {
                        return Err(Problem::unique(json!({"name": name})));
                    }
                    store.check(&self.model, snis, &sni)?;
                    store.put(snis, sni);
                }
            }
            Ok(())
        })?;
        if names.is_array() {
            entity["snis"] = names;
        }
        Ok(entity)
    }

    fn store_changed(&self, schema: &Schema, entity: Value) -> Result<Value, Problem> {
        let Value::Object(mut entity) = entity else { return Err(Problem::not_found()) };
        self.resolve(schema, &mut entity);
        let id = entity.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
        let mut entity = {
            let mut state = self.state.lock();
            schema.fill(&mut entity, Context::Insert, &mut *state.generate);
            if entity.contains_key("updated_at") {
                entity.insert("updated_at".into(), Value::from(state.generate.now()));
            }
            Value::Object(entity)
        };
        schema.validate(&entity).map_err(|faults| Problem::schema(&faults))?;
        let old = self.state.lock().store.entities().get(&schema.name, &id).cloned();
        hash_password(schema, &mut entity, old.as_ref());
        let stored = entity.clone();
        self.change(|store| {
            store.check(&self.model, schema, &stored)?;
            store.put(schema, stored);
            Ok(())
        })?;
        Ok(entity)
    }

    /// Makes a change: applied to the gateway and written to the store, or not made at all.
    fn change(&self, change: impl FnOnce(&mut super::Store) -> Result<(), Problem>) -> Result<(), Problem> {
        let mut state = self.state.lock();
        let mut changed = state.store.clone();
        change(&mut changed)?;
        self.apply(changed.entities(), state.transform).map_err(Problem::refused)?;
        if let Some(persist) = &self.persist
            && let Err(reason) = persist.save(changed.entities())
        {
            let before = self.apply(state.store.entities(), state.transform);
            tracing::error!(reason, restored = before.is_ok(), "cannot keep a change");
            return Err(Problem::message(StatusCode::INTERNAL_SERVER_ERROR, "An unexpected error occurred"));
        }
        state.store = changed;
        Ok(())
    }
}

/// Passwords are kept as hashes. One that did not change is one already.
fn hash_password(schema: &Schema, entity: &mut Value, old: Option<&Value>) {
    if schema.name != "basicauth_credentials" || old.is_some_and(|old| old["password"] == entity["password"])
    {
        return;
    }
    if let (Some(consumer), Some(password)) = (entity["consumer"]["id"].as_str(), entity["password"].as_str())
    {
        entity["password"] = Value::from(hash_basic_password(consumer, password));
    }
}

/// Lays changed fields over an entity; records field by field.
fn merge(schema: &Schema, entity: &mut Value, given: Map<String, Value>) {
    for (name, value) in given {
        let is_record = schema.field(&name).is_some_and(|field| field.kind == Kind::Record);
        match (is_record, entity.get_mut(&name)) {
            (true, Some(old)) if old.is_object() && value.is_object() => merge_records(old, value),
            _ => entity[name] = value,
        }
    }
}

fn merge_records(old: &mut Value, new: Value) {
    let (Value::Object(old), Value::Object(new)) = (old, new) else { return };
    for (name, value) in new {
        match old.get_mut(&name) {
            Some(inner) if inner.is_object() && value.is_object() => merge_records(inner, value),
            _ => {
                old.insert(name, value);
            }
        }
    }
}
