//! The paths of a group and version with the operations and parameters that clients look for.

use gantry_apimachinery::{Map, Value};

use super::base_path;
use crate::resources::{GroupVersion, Resource};

/// Query parameters that kubectl looks for before it uses them.
const WRITE_PARAMETERS: [&str; 3] = ["dryRun", "fieldManager", "fieldValidation"];

pub(super) fn group_version_kind(resource: &Resource) -> Map {
    let mut gvk = Map::new();
    gvk.insert("group", resource.group.as_str());
    gvk.insert("kind", resource.kind.as_str());
    gvk.insert("version", resource.version.as_str());
    gvk
}

fn operation(resource: &Resource, action: &str, parameters: &[&str]) -> Map {
    let parameter = |name: &&str| {
        let mut schema = Map::new();
        schema.insert("type", "string");
        let mut parameter = Map::new();
        parameter.insert("name", *name);
        parameter.insert("in", "query");
        parameter.insert("schema", schema);
        Value::from(parameter)
    };
    let mut operation = Map::new();
    operation.insert("parameters", parameters.iter().map(parameter).collect::<Vec<_>>());
    operation.insert("x-kubernetes-action", action);
    operation.insert("x-kubernetes-group-version-kind", group_version_kind(resource));
    operation
}

pub(super) fn of(group_version: &GroupVersion) -> Map {
    let mut paths = Map::new();
    let base = base_path(group_version);
    for resource in &group_version.resources {
        let scope = if resource.namespaced { "namespaces/{namespace}/" } else { "" };
        let collection = format!("/{base}/{scope}{}", resource.plural);
        let mut on_collection = Map::new();
        let mut on_object = Map::new();
        for (verb, method, action, parameters) in [
            ("list", "get", "list", &[][..]),
            ("create", "post", "post", &WRITE_PARAMETERS[..]),
            ("deletecollection", "delete", "deletecollection", &WRITE_PARAMETERS[..1]),
        ] {
            if resource.verbs.has(verb) {
                on_collection.insert(method, operation(resource, action, parameters));
            }
        }
        for (verb, method, action, parameters) in [
            ("get", "get", "get", &[][..]),
            ("update", "put", "put", &WRITE_PARAMETERS[..]),
            ("patch", "patch", "patch", &WRITE_PARAMETERS[..]),
            ("delete", "delete", "delete", &WRITE_PARAMETERS[..1]),
        ] {
            if resource.verbs.has(verb) {
                on_object.insert(method, operation(resource, action, parameters));
            }
        }
        paths.insert(collection.as_str(), on_collection);
        if !on_object.is_empty() {
            paths.insert(format!("{collection}/{{name}}"), on_object);
        }
    }
    paths
}
