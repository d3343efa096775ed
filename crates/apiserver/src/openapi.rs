//! OpenAPI documents: which kinds there are and that patches of all types and field validation are understood.
//!
//! Schemas are open objects: kubectl finds its group, version, kind and parameters, and leaves validation to the server.

use gantry_apimachinery::{Map, Value};

use crate::resources::{GroupVersion, Registry, api_version};
use crate::response;
use crate::rest::Answer;
use crate::status::Failure;

pub(crate) fn handle(registry: &Registry, path: &[&str]) -> Answer {
    match path {
        ["v3"] => Ok(response::value(200, &index(registry))),
        ["v3", "api", version] => document(registry, "", version),
        ["v3", "apis", group, version] => document(registry, group, version),
        ["v2"] => Ok(response::value(200, &v2(registry))),
        _ => Err(Failure::no_such_resource()),
    }
}

fn base_path(group_version: &GroupVersion) -> String {
    if group_version.group.is_empty() {
        return format!("api/{}", group_version.version);
    }
    format!("apis/{}/{}", group_version.group, group_version.version)
}

fn index(registry: &Registry) -> Value {
    let mut paths = Map::new();
    for group_version in &registry.group_versions {
        let path = base_path(group_version);
        let mut entry = Map::new();
        let kinds: usize =
            group_version.resources.iter().map(|resource| 1 + resource.subresources.len()).sum();
        entry.insert("serverRelativeURL", format!("/openapi/v3/{path}?hash={kinds:08X}"));
        paths.insert(path, entry);
    }
    let mut index = Map::new();
    index.insert("paths", paths);
    index.into()
}

fn document(registry: &Registry, group: &str, version: &str) -> Answer {
    let Some(group_version) = registry.group_version(group, version) else {
        return Err(Failure::no_such_resource());
    };
    let mut out = Map::new();
    out.insert("openapi", "3.0.0");
    out.insert("info", info());
    out.insert("paths", paths(group_version));
    let mut components = Map::new();
    components.insert("schemas", schemas(group_version));
    out.insert("components", components);
    Ok(response::value(200, &out.into()))
}

fn info() -> Map {
    let mut info = Map::new();
    info.insert("title", "Kubernetes");
    info.insert("version", "v1.36.2");
    info
}

fn group_version_kind(group: &str, version: &str, kind: &str) -> Map {
    let mut gvk = Map::new();
    gvk.insert("group", group);
    gvk.insert("kind", kind);
    gvk.insert("version", version);
    gvk
}

fn schemas(group_version: &GroupVersion) -> Map {
    let mut schemas = Map::new();
    for resource in &group_version.resources {
        let mut schema = Map::new();
        schema.insert("type", "object");
        schema.insert("x-kubernetes-preserve-unknown-fields", true);
        let gvk = group_version_kind(&resource.group, &resource.version, &resource.kind);
        schema.insert("x-kubernetes-group-version-kind", vec![Value::from(gvk)]);
        let name = format!(
            "{}.{}",
            api_version(&resource.group, &resource.version).replace('/', "."),
            resource.kind
        );
        schemas.insert(name, schema);
    }
    schemas
}

/// Query parameters that kubectl looks for before it uses them.
const WRITE_PARAMETERS: [&str; 3] = ["dryRun", "fieldManager", "fieldValidation"];

fn paths(group_version: &GroupVersion) -> Map {
    let mut paths = Map::new();
    for resource in &group_version.resources {
        let base = base_path(group_version);
        let scope = if resource.namespaced { "namespaces/{namespace}/" } else { "" };
        let gvk = group_version_kind(&resource.group, &resource.version, &resource.kind);
        let operation = |action: &str| {
            let parameters = WRITE_PARAMETERS.map(|name| {
                let mut parameter = Map::new();
                parameter.insert("name", name);
                parameter.insert("in", "query");
                parameter.insert("schema", {
                    let mut schema = Map::new();
                    schema.insert("type", "string");
                    schema
                });
                Value::from(parameter)
            });
            let mut operation = Map::new();
            operation.insert("parameters", parameters.to_vec());
            operation.insert("x-kubernetes-action", action);
            operation.insert("x-kubernetes-group-version-kind", gvk.clone());
            operation
        };
        let collection = format!("/{base}/{scope}{}", resource.plural);
        let mut on_collection = Map::new();
        let mut on_object = Map::new();
        if resource.verbs.has("create") {
            on_collection.insert("post", operation("post"));
        }
        if resource.verbs.has("update") {
            on_object.insert("put", operation("put"));
        }
        if resource.verbs.has("patch") {
            on_object.insert("patch", operation("patch"));
        }
        paths.insert(collection.as_str(), on_collection);
        paths.insert(format!("{collection}/{{name}}"), on_object);
    }
    paths
}

fn v2(registry: &Registry) -> Value {
    let mut definitions = Map::new();
    let mut all_paths = Map::new();
    for group_version in &registry.group_versions {
        for (name, schema) in schemas(group_version) {
            definitions.insert(name, schema);
        }
        for (path, operations) in paths(group_version) {
            all_paths.insert(path, operations);
        }
    }
    let mut out = Map::new();
    out.insert("swagger", "2.0");
    out.insert("info", info());
    out.insert("paths", all_paths);
    out.insert("definitions", definitions);
    out.into()
}
