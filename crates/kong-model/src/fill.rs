//! What Kong fills in: defaults, ids, secrets and times, and the fields that others stand for.

use crate::field::{Field, Kind, Shorthand};
use serde_json::{Map, Value};

/// Where what an entity is given comes from: times, ids and secrets.
pub trait Generate {
    /// Seconds since the epoch.
    fn now(&self) -> i64;
    /// A UUID of version 4.
    fn uuid(&mut self) -> String;
    /// 32 letters and digits nobody can guess.
    fn secret(&mut self) -> String;
}

/// Ids and secrets from a seed, the same each time: for tests and for entities whose ids do not matter.
#[derive(Clone, Debug)]
pub struct Seeded {
    state: u64,
    now: i64,
}

impl Seeded {
    pub fn new(seed: u64, now: i64) -> Seeded {
        Seeded { state: seed, now }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl Generate for Seeded {
    fn now(&self) -> i64 {
        self.now
    }

    fn uuid(&mut self) -> String {
        let (high, low) = (self.next(), self.next());
        crate::ids::uuid_text(((u128::from(high) << 64) | u128::from(low)).to_be_bytes(), 4)
    }

    fn secret(&mut self) -> String {
        const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        (0..32).map(|_| LETTERS[(self.next() % 62) as usize] as char).collect()
    }
}

/// What is being done with the entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// Everything absent is filled in.
    Insert,
    /// Only what is there is completed; the time of the change is noted.
    Update,
}

/// Completes a record in place.
pub(crate) fn record(field: &Field, value: &mut Value, context: Context, generate: &mut dyn Generate) {
    if value.as_array().is_some_and(Vec::is_empty) {
        *value = Value::Object(Map::new());
    }
    let Some(entity) = value.as_object_mut() else { return };
    shorthands(&field.shorthands, entity);
    fields(field.fields.iter().map(|(name, field)| (name.as_str(), field)), entity, context, generate);
}

/// Completes the fields of an entity in place.
pub(crate) fn fields<'f>(
    all: impl Iterator<Item = (&'f str, &'f Field)>,
    entity: &mut Map<String, Value>,
    context: Context,
    generate: &mut dyn Generate,
) {
    for (name, field) in all {
        match entity.get_mut(name) {
            Some(value) => complete(field, value, context, generate),
            None if context == Context::Insert => {
                if let Some(value) = missing(field, name, generate) {
                    entity.insert(name.to_owned(), value);
                }
            }
            None => {}
        }
        if context == Context::Update && field.auto && name == "updated_at" {
            entity.insert(name.to_owned(), Value::from(generate.now()));
        }
    }
}

/// What stands in an absent field's place; `None` leaves it absent, to be complained about.
fn missing(field: &Field, name: &str, generate: &mut dyn Generate) -> Option<Value> {
    if field.auto {
        if field.uuid {
            return Some(Value::String(generate.uuid()));
        }
        if field.kind == Kind::String {
            return Some(Value::String(generate.secret()));
        }
        if matches!(name, "created_at" | "updated_at") {
            return Some(Value::from(generate.now()));
        }
    }
    if let Some(default) = &field.default {
        // As it is written; a record's own defaults come when the entity is filled in again.
        return Some(default.clone());
    }
    if field.is_abstract {
        return None;
    }
    if field.transient {
        return None;
    }
    if field.is_expanded() {
        let mut value = Value::Object(Map::new());
        record(field, &mut value, Context::Insert, generate);
        return Some(value);
    }
    (!field.is_required()).then_some(Value::Null)
}

/// Completes a value that is there.
fn complete(field: &Field, value: &mut Value, context: Context, generate: &mut dyn Generate) {
    match field.kind {
        Kind::Record if value.is_null() => {}
        Kind::Record => record(field, value, context, generate),
        Kind::Array | Kind::Set => {
            if value.as_object().is_some_and(Map::is_empty) {
                *value = Value::Array(Vec::new());
            }
            let Some(items) = value.as_array_mut() else { return };
            if let Some(element) = field.elements.as_ref().filter(|element| element.kind.is_compound()) {
                for item in items.iter_mut() {
                    complete(element, item, context, generate);
                }
            }
            if field.kind == Kind::Set {
                let mut kept: Vec<Value> = Vec::with_capacity(items.len());
                for item in items.drain(..) {
                    if !kept.contains(&item) {
                        kept.push(item);
                    }
                }
                *items = kept;
            }
        }
        Kind::Map => {
            if value.as_array().is_some_and(Vec::is_empty) {
                *value = Value::Object(Map::new());
            }
            if let (Some(map), Some(values)) = (value.as_object_mut(), &field.values) {
                for item in map.values_mut() {
                    complete(values, item, context, generate);
                }
            }
        }
        _ => {}
    }
}

fn shorthands(all: &[Shorthand], entity: &mut Map<String, Value>) {
    for shorthand in all {
        let Some(value) = entity.get(&shorthand.name) else { continue };
        if !value.is_null() && crate::validate::value(&shorthand.field, value).is_err() {
            continue;
        }
        let value = value.clone();
        match &shorthand.replaced_with {
            Some(path) => {
                entity.remove(&shorthand.name);
                if !value.is_null() {
                    put(entity, path, value);
                }
            }
            None if shorthand.name == "url" => {
                entity.remove(&shorthand.name);
                if let Some(url) = value.as_str() {
                    entity.extend(url_parts(url));
                }
            }
            // These stand for themselves, and for one another: an upstream that hashes needs no algorithm to say so.
            None if shorthand.name == "algorithm" => {
                if value == "least-connections" {
                    entity.entry("hash_on").or_insert(Value::Null);
                }
            }
            None if shorthand.name == "hash_on" => {
                let algorithm = match value.as_str() {
                    None => {
                        entity.insert("hash_on".to_owned(), Value::from("none"));
                        continue;
                    }
                    Some("none") => "round-robin",
                    Some(_) => "consistent-hashing",
                };
                entity.entry("algorithm").or_insert(Value::from(algorithm));
            }
            None => {
                entity.remove(&shorthand.name);
            }
        }
    }
}

fn put(entity: &mut Map<String, Value>, path: &[String], value: Value) {
    let [first, rest @ ..] = path else { return };
    if rest.is_empty() {
        if entity.get(first).is_none_or(Value::is_null) {
            entity.insert(first.clone(), value);
        }
        return;
    }
    let inner = entity.entry(first.clone()).or_insert_with(|| Value::Object(Map::new()));
    if inner.is_null() || inner.as_array().is_some_and(Vec::is_empty) {
        *inner = Value::Object(Map::new());
    }
    if let Some(inner) = inner.as_object_mut() {
        put(inner, rest, value);
    }
}

/// A service's `url` as protocol, host, port and path.
fn url_parts(url: &str) -> Map<String, Value> {
    let mut parts = Map::new();
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, url),
    };
    let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(authority_end);
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let path = tail.split(['?', '#']).next().unwrap_or_default();
    if scheme.is_none() {
        parts.insert("path".into(), Value::from(url));
        parts.insert("host".into(), Value::Null);
        return parts;
    }
    let bracket_end = authority.rfind(']').map_or(0, |at| at + 1);
    let (host, port) = match authority[bracket_end..].rfind(':') {
        Some(at) => (&authority[..bracket_end + at], authority[bracket_end + at + 1..].parse::<u32>().ok()),
        None => (authority, None),
    };
    let protocol = scheme.unwrap_or("http");
    parts.insert("protocol".into(), Value::from(protocol));
    parts.insert("host".into(), if host.is_empty() { Value::Null } else { Value::from(host) });
    let default_port = match protocol {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    };
    if let Some(port) = port.or(default_port) {
        parts.insert("port".into(), Value::from(port));
    }
    parts.insert("path".into(), if path.is_empty() { Value::Null } else { Value::from(path) });
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_url_becomes_its_parts() {
        let parts = |url: &str| Value::Object(url_parts(url));
        assert_eq!(
            parts("https://shop.org/a?b"),
            json!({"protocol": "https", "host": "shop.org", "port": 443, "path": "/a"})
        );
        assert_eq!(
            parts("http://u:p@[::1]:81"),
            json!({"protocol": "http", "host": "[::1]", "port": 81, "path": null})
        );
        assert_eq!(
            parts("grpc://shop.org:9000"),
            json!({"protocol": "grpc", "host": "shop.org", "port": 9000, "path": null})
        );
    }

    #[test]
    fn an_upstream_keeps_its_algorithm_and_what_it_hashes() {
        let model = crate::Model::load();
        let filled = |given: Value| {
            let mut entity = given.as_object().cloned().unwrap();
            model.schema("upstreams").unwrap().fill(&mut entity, Context::Insert, &mut Seeded::new(1, 1));
            (entity["algorithm"].clone(), entity["hash_on"].clone())
        };
        let pair = |algorithm: &str, hash_on: &str| (Value::from(algorithm), Value::from(hash_on));
        assert_eq!(filled(json!({})), pair("round-robin", "none"));
        assert_eq!(filled(json!({"hash_on": "ip"})), pair("consistent-hashing", "ip"));
        assert_eq!(filled(json!({"algorithm": "least-connections"})), pair("least-connections", "none"));
        let latency = json!({"algorithm": "latency", "hash_on": "none"});
        assert_eq!(filled(latency), pair("latency", "none"));
    }

    #[test]
    fn seeded_ids_are_uuids_and_repeat() {
        let (mut first, mut second) = (Seeded::new(7, 1), Seeded::new(7, 1));
        let id = first.uuid();
        assert_eq!(id, second.uuid());
        assert!(crate::ids::is_uuid(&id) && id.as_bytes()[14] == b'4', "{id}");
        assert_ne!(id, first.uuid());
        assert_eq!(first.secret().len(), 32);
    }
}
