//! Discovery: which groups, versions and resources are served, in the legacy documents and the aggregated one.

use bytes::Bytes;
use gantry_apimachinery::value::SmolStr;
use gantry_apimachinery::{Map, Value};
use http::{Request, Response, header};
use sha2::{Digest, Sha256};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::resources::{GroupVersion, Registry, Resource, Verbs, api_version};
use crate::response;
use crate::service::ResponseBody;

/// The Kubernetes version whose API this is.
const MINOR: &str = "36";

pub(crate) fn version(product_version: &str) -> Vec<u8> {
    let git_version = format!("v1.{MINOR}.2+gantry-{product_version}");
    let mut version = Map::new();
    for (field, text) in [
        ("major", "1"),
        ("minor", MINOR),
        ("emulationMajor", "1"),
        ("emulationMinor", MINOR),
        ("minCompatibilityMajor", "1"),
        ("minCompatibilityMinor", "35"),
        ("gitVersion", git_version.as_str()),
        ("gitCommit", ""),
        ("gitTreeState", ""),
        ("buildDate", "1970-01-01T00:00:00Z"),
        ("goVersion", ""),
        ("compiler", "rustc"),
        ("platform", concat!("linux/", "amd64")),
    ] {
        version.insert(field, text);
    }
    serde_json::to_vec_pretty(&Value::from(version)).unwrap_or_default()
}

pub(crate) fn root(registry: &Registry) -> Value {
    let mut paths: Vec<String> = vec!["/api".into(), "/api/v1".into(), "/apis".into()];
    for group_version in registry.group_versions.iter().filter(|gv| !gv.group.is_empty()) {
        let group = format!("/apis/{}", group_version.group);
        if paths.last().is_none_or(|last| !last.starts_with(&group)) {
            paths.push(group.clone());
        }
        paths.push(format!("{group}/{}", group_version.version));
    }
    paths.extend(
        ["/healthz", "/livez", "/openapi/v2", "/openapi/v3", "/readyz", "/version"].map(String::from),
    );
    let mut root = Map::new();
    root.insert("paths", paths.into_iter().map(Value::from).collect::<Vec<_>>());
    root.into()
}

pub(crate) fn core_versions(request: &Request<Bytes>) -> Value {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let mut address = Map::new();
    address.insert("clientCIDR", "0.0.0.0/0");
    address.insert("serverAddress", host);
    let mut versions = Map::new();
    versions.insert("kind", "APIVersions");
    versions.insert("versions", vec![Value::from("v1")]);
    versions.insert("serverAddressByClientCIDRs", vec![Value::from(address)]);
    versions.into()
}

pub(crate) fn group_list(registry: &Registry) -> Value {
    let groups: Vec<Value> = registry
        .groups()
        .into_iter()
        .filter(|versions| !versions[0].group.is_empty())
        .map(group_entry)
        .map(Value::from)
        .collect();
    let mut list = Map::new();
    list.insert("kind", "APIGroupList");
    list.insert("apiVersion", "v1");
    list.insert("groups", groups);
    list.into()
}

pub(crate) fn group(registry: &Registry, group: &str) -> Option<Value> {
    let versions =
        registry.groups().into_iter().find(|versions| versions[0].group == group && !group.is_empty())?;
    let mut out = Map::new();
    out.insert("kind", "APIGroup");
    out.insert("apiVersion", "v1");
    for (key, value) in group_entry(versions) {
        out.insert(key, value);
    }
    Some(out.into())
}

fn group_entry(versions: &[GroupVersion]) -> Map {
    let entry = |group_version: &GroupVersion| {
        let mut entry = Map::new();
        entry.insert("groupVersion", api_version(&group_version.group, &group_version.version));
        entry.insert("version", group_version.version.as_str());
        Value::from(entry)
    };
    let mut group = Map::new();
    group.insert("name", versions[0].group.as_str());
    group.insert("versions", versions.iter().map(entry).collect::<Vec<_>>());
    group.insert("preferredVersion", entry(&versions[0]));
    group
}

pub(crate) fn resource_list(registry: &Registry, group: &str, version: &str) -> Option<Value> {
    let group_version = registry.group_version(group, version)?;
    let mut resources = Vec::new();
    for resource in &group_version.resources {
        resources.push(Value::from(resource_entry(resource)));
        for subresource in &resource.subresources {
            let mut entry = Map::new();
            entry.insert("name", format!("{}/{}", resource.plural, subresource.name));
            entry.insert("singularName", "");
            entry.insert("namespaced", resource.namespaced);
            insert_group_version(&mut entry, &subresource.group_version);
            entry.insert("kind", subresource.kind.as_str());
            entry.insert("verbs", verb_list(subresource.verbs, false));
            resources.push(entry.into());
        }
    }
    let mut list = Map::new();
    list.insert("kind", "APIResourceList");
    // The oldest group's document has no version of its own.
    if !group.is_empty() {
        list.insert("apiVersion", "v1");
    }
    list.insert("groupVersion", api_version(group, version));
    list.insert("resources", resources);
    Some(list.into())
}

fn resource_entry(resource: &Resource) -> Map {
    let mut entry = Map::new();
    entry.insert("name", resource.plural.as_str());
    entry.insert("singularName", resource.singular.as_str());
    entry.insert("namespaced", resource.namespaced);
    entry.insert("kind", resource.kind.as_str());
    entry.insert("verbs", verb_list(resource.verbs, resource.custom.is_some()));
    insert_names(&mut entry, resource);
    if !resource.collection.is_empty() {
        entry.insert("storageVersionHash", storage_version_hash(resource));
    }
    entry
}

fn insert_names(entry: &mut Map, resource: &Resource) {
    let list = |names: &[SmolStr]| names.iter().map(|name| Value::from(name.as_str())).collect::<Vec<_>>();
    if !resource.short_names.is_empty() {
        entry.insert("shortNames", list(&resource.short_names));
    }
    if !resource.categories.is_empty() {
        entry.insert("categories", list(&resource.categories));
    }
}

fn insert_group_version(entry: &mut Map, group_version: &str) {
    if group_version.is_empty() {
        return;
    }
    let (group, version) = group_version.split_once('/').unwrap_or(("", group_version));
    if !group.is_empty() {
        entry.insert("group", group);
    }
    entry.insert("version", version);
}

/// Custom resources list their verbs in another order.
fn verb_list(verbs: Verbs, custom: bool) -> Vec<Value> {
    const CUSTOM: [&str; 8] =
        ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"];
    if custom && verbs == Verbs::ALL {
        return CUSTOM.map(Value::from).to_vec();
    }
    verbs.names().map(Value::from).collect()
}

/// First eight bytes of a SHA-256 over group, version and kind of what is stored.
fn storage_version_hash(resource: &Resource) -> String {
    let (group, version) = resource.stored_version.split_once('/').unwrap_or(("", &resource.stored_version));
    let digest = Sha256::digest(format!("{group}/{version}/{}", resource.kind));
    BASE64_STANDARD.encode(&digest[..8])
}

/// `APIGroupDiscoveryList`, of the core group alone or of all others.
pub(crate) fn aggregated(registry: &Registry, core: bool) -> Response<ResponseBody> {
    let groups = registry.groups().into_iter().filter(|versions| versions[0].group.is_empty() == core);
    let items: Vec<Value> = groups.map(aggregated_group).collect();
    let mut list = Map::new();
    list.insert("kind", "APIGroupDiscoveryList");
    list.insert("apiVersion", "apidiscovery.k8s.io/v2");
    list.insert("metadata", Value::object());
    list.insert("items", items);
    response::json_as(
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
        response::to_json(&list.into()),
    )
}

fn aggregated_group(versions: &[GroupVersion]) -> Value {
    let mut metadata = Map::new();
    if !versions[0].group.is_empty() {
        metadata.insert("name", versions[0].group.as_str());
    }
    let versions: Vec<Value> = versions
        .iter()
        .map(|group_version| {
            let mut entry = Map::new();
            entry.insert("version", group_version.version.as_str());
            entry.insert("resources", aggregated_resources(group_version));
            entry.insert("freshness", "Current");
            Value::from(entry)
        })
        .collect();
    let mut group = Map::new();
    group.insert("metadata", metadata);
    group.insert("versions", versions);
    group.into()
}

/// A plural with a slash is a subresource here, of a parent that needs not be served itself.
fn aggregated_resources(group_version: &GroupVersion) -> Vec<Value> {
    let mut entries = Vec::new();
    let mut parents: Vec<(&str, bool, Vec<Value>)> = Vec::new();
    for resource in &group_version.resources {
        let Some((parent, name)) = resource.plural.split_once('/') else {
            entries.push(aggregated_resource(resource));
            continue;
        };
        let mut entry = Map::new();
        entry.insert("subresource", name);
        entry.insert("responseKind", own_kind(&resource.kind));
        entry.insert("verbs", verb_list(resource.verbs, false));
        match parents
            .iter_mut()
            .find(|(known, namespaced, _)| *known == parent && *namespaced == resource.namespaced)
        {
            Some((_, _, names)) => names.push(entry.into()),
            None => parents.push((parent, resource.namespaced, vec![entry.into()])),
        }
    }
    for (parent, namespaced, subresources) in parents {
        let mut entry = Map::new();
        entry.insert("resource", parent);
        entry.insert("responseKind", own_kind(""));
        entry.insert("scope", if namespaced { "Namespaced" } else { "Cluster" });
        entry.insert("singularResource", "");
        entry.insert("verbs", Vec::<Value>::new());
        entry.insert("subresources", subresources);
        entries.push(entry.into());
    }
    entries
}

/// A kind of the group and version that it is listed in.
fn own_kind(kind: &str) -> Map {
    let mut own = Map::new();
    own.insert("group", "");
    own.insert("version", "");
    own.insert("kind", kind);
    own
}

fn aggregated_resource(resource: &Resource) -> Value {
    let response_kind = |kind: &str, group_version: &str, own: bool| {
        // Built-in kinds leave group and version empty where they are the resource's own; custom ones name them.
        let (group, version) = match (own, group_version.split_once('/')) {
            (true, _) if resource.custom.is_some() => (resource.group.as_str(), resource.version.as_str()),
            (true, _) => ("", ""),
            (false, Some((group, version))) => (group, version),
            (false, None) => ("", group_version),
        };
        let mut response_kind = Map::new();
        response_kind.insert("group", group);
        response_kind.insert("version", version);
        response_kind.insert("kind", kind);
        response_kind
    };
    let mut entry = Map::new();
    entry.insert("resource", resource.plural.as_str());
    entry.insert("responseKind", response_kind(&resource.kind, "", true));
    entry.insert("scope", if resource.namespaced { "Namespaced" } else { "Cluster" });
    entry.insert("singularResource", resource.singular.as_str());
    entry.insert("verbs", verb_list(resource.verbs, resource.custom.is_some()));
    insert_names(&mut entry, resource);
    let subresources: Vec<Value> = resource
        .subresources
        .iter()
        .map(|subresource| {
            let mut entry = Map::new();
            entry.insert("subresource", subresource.name.as_str());
            entry.insert(
                "responseKind",
                response_kind(
                    &subresource.kind,
                    &subresource.group_version,
                    subresource.group_version.is_empty(),
                ),
            );
            entry.insert("verbs", verb_list(subresource.verbs, false));
            Value::from(entry)
        })
        .collect();
    if !subresources.is_empty() {
        entry.insert("subresources", subresources);
    }
    entry.into()
}
