//! Schemas of custom resources as they are published: the definition's own, with what every object has.

use gantry_apimachinery::{Map, Value};

use super::paths;
use super::schemas::{Made, published_name};
use crate::resources::{Custom, Resource};

pub(super) fn add(made: &mut Made, resource: &Resource, custom: &Custom) {
    // `com.example.play.v1.Toy` for Toy of play.example.com.
    let reversed: Vec<&str> = resource.group.split('.').rev().collect();
    let name = format!("{}.{}.{}", reversed.join("."), resource.version, resource.kind);
    let written = custom.schema.as_ref().map(|schema| schema.written());
    let mut schema = written.as_ref().and_then(Value::as_object).cloned().unwrap_or_else(|| {
        let mut open = Map::new();
        open.insert("type", "object");
        open
    });
    let types = gantry_apimachinery::types::Types::built_in();
    if let Some(meta) = types.named("meta.v1.ObjectMeta") {
        made.add_all(meta);
    }
    let meta = made.reference(&published_name("meta.v1.ObjectMeta"));
    let properties = schema.entry("properties");
    if properties.as_object().is_none() {
        *properties = Value::object();
    }
    if let Some(properties) = properties.as_object_mut() {
        for field in ["apiVersion", "kind"] {
            let mut text = Map::new();
            text.insert("type", "string");
            properties.insert(field, text);
        }
        let mut metadata = Map::new();
        metadata.insert("allOf", vec![Value::from(meta)]);
        properties.insert("metadata", metadata);
    }
    schema.insert("x-kubernetes-group-version-kind", vec![Value::from(paths::group_version_kind(resource))]);
    made.schemas.insert(name.as_str(), schema);
    made.add_list(&name, &resource.list_kind, resource);
}
