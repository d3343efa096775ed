//! Custom resource definitions: accepted as they are written, served at once, gone with their objects.

use std::sync::Arc;

use gantry_apimachinery::structural::{self, Structural};
use gantry_apimachinery::value::SmolStr;
use gantry_apimachinery::{Value, time};

use crate::resources::{Custom, PrinterColumn, Registry, Resource, ScalePaths, Schema, Subresource, Verbs};
use crate::server::Inner;
use crate::store::Object;

pub(crate) const COLLECTION: &str = "apiextensions.k8s.io/customresourcedefinitions";
/// Holds a definition until its objects are gone.
pub(crate) const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

/// Makes the registry anew from what is stored and what is aggregated.
pub(crate) fn load(server: &Arc<Inner>) {
    // From what is listed to what is served, one at a time: an older list must not replace a newer one.
    let _one_at_a_time = server.loading.lock();
    let (definitions, _) = server.store.list(COLLECTION, None, None, usize::MAX, |_| true);
    let before = server.registry.load();
    let mut resources = Vec::new();
    for definition in &definitions.objects {
        // What has not changed is not read again.
        let known = before.of_definition(&definition.key.name, definition.revision);
        if known.is_empty() {
            let read = resources_of(&definition.value(), definition.revision);
            resources.extend(read.into_iter().map(Arc::new));
        } else {
            resources.extend(known);
        }
    }
    let mut registry = Registry::built_in();
    for api in server.aggregated.read().iter() {
        resources.extend(api.resources());
    }
    registry = registry.with(resources);
    for (group, version) in server.aggregated.read().iter().filter_map(|api| api.group_version()) {
        registry.serve(&group, &version);
    }
    server.documents.keep_served(&registry);
    server.registry.store(Arc::new(registry));
}

/// Called after every write; does something where it was a definition.
pub(crate) fn after_write(server: &Arc<Inner>, collection: &str, object: &Object) {
    if collection != COLLECTION {
        return;
    }
    load(server);
    if object.value().at(&["metadata", "deletionTimestamp"]).is_some() {
        let server = server.clone();
        let name = object.key.name.clone();
        tokio::spawn(async move { crate::crd_cleanup::remove_objects(&server, &name).await });
    }
}

/// The resources that a revision of a definition declares: one for each served version.
pub(crate) fn resources_of(definition: &Value, revision: u64) -> Vec<Resource> {
    let text = |path: &[&str]| SmolStr::new(definition.str_at(path).unwrap_or_default());
    let group = text(&["spec", "group"]);
    let plural = text(&["spec", "names", "plural"]);
    let kind = text(&["spec", "names", "kind"]);
    let list_kind = match definition.str_at(&["spec", "names", "listKind"]) {
        Some(list_kind) if !list_kind.is_empty() => SmolStr::new(list_kind),
        _ => format!("{kind}List").into(),
    };
    let singular = match definition.str_at(&["spec", "names", "singular"]) {
        Some(singular) if !singular.is_empty() => SmolStr::new(singular),
        _ => kind.to_lowercase().into(),
    };
    let names = |field: &str| -> Vec<SmolStr> {
        let list = definition.at(&["spec", "names", field]).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(|name| name.as_str().map(SmolStr::new)).collect()
    };
    let versions: Vec<Value> =
        definition.at(&["spec", "versions"]).and_then(Value::as_array).cloned().unwrap_or_default();
    let flag = |version: &Value, field: &str| version.get(field).and_then(Value::as_bool).unwrap_or(false);
    let stored = versions
        .iter()
        .find(|version| flag(version, "storage"))
        .and_then(|version| version.str_at(&["name"]))
        .unwrap_or_default();
    let mut served: Vec<&Value> = versions.iter().filter(|version| flag(version, "served")).collect();
    served.sort_by_key(|version| {
        std::cmp::Reverse(version_priority(version.str_at(&["name"]).unwrap_or_default()))
    });
    served
        .into_iter()
        .map(|version| {
            let name = version.str_at(&["name"]).unwrap_or_default();
            let schema = version.at(&["schema", "openAPIV3Schema"]);
            Resource {
                group: group.clone(),
                version: name.into(),
                plural: plural.clone(),
                singular: singular.clone(),
                kind: kind.clone(),
                list_kind: list_kind.clone(),
                namespaced: definition.str_at(&["spec", "scope"]) != Some("Cluster"),
                verbs: Verbs::ALL,
                short_names: names("shortNames"),
                categories: names("categories"),
                subresources: subresources(version, &kind),
                collection: format!("{group}/{plural}").into(),
                stored_version: format!("{group}/{stored}").into(),
                custom: Some(Arc::new(Custom {
                    definition: text(&["metadata", "name"]),
                    scale: version.at(&["subresources", "scale"]).map(scale_paths),
                    columns: columns(version),
                    schema: schema.map(|schema| Arc::new(Schema::of(schema))),
                    revision,
                })),
            }
        })
        .collect()
}

fn subresources(version: &Value, kind: &SmolStr) -> Vec<Subresource> {
    let verbs = Verbs::default().and(&["get", "patch", "update"]);
    let mut subresources = Vec::new();
    if version.at(&["subresources", "status"]).is_some() {
        subresources.push(Subresource {
            name: "status".into(),
            kind: kind.clone(),
            group_version: "".into(),
            verbs,
        });
    }
    if version.at(&["subresources", "scale"]).is_some() {
        subresources.push(Subresource {
            name: "scale".into(),
            kind: "Scale".into(),
            group_version: "autoscaling/v1".into(),
            verbs,
        });
    }
    subresources
}

fn scale_paths(scale: &Value) -> ScalePaths {
    let path = |field: &str| {
        scale
            .str_at(&[field])
            .map(|path| path.split('.').filter(|step| !step.is_empty()).map(SmolStr::new).collect::<Vec<_>>())
    };
    ScalePaths {
        spec_replicas: path("specReplicasPath").unwrap_or_default(),
        status_replicas: path("statusReplicasPath").unwrap_or_default(),
        selector: path("labelSelectorPath"),
    }
}

fn columns(version: &Value) -> Vec<PrinterColumn> {
    let list = version.get("additionalPrinterColumns").and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .map(|column| {
            let text = |field: &str| column.str_at(&[field]).unwrap_or_default().to_owned();
            PrinterColumn {
                name: text("name"),
                kind: text("type"),
                format: text("format"),
                description: text("description"),
                priority: column.get("priority").and_then(Value::as_i64).unwrap_or(0),
                json_path: text("jsonPath"),
            }
        })
        .collect()
}

/// Orders versions as Kubernetes prefers them: v2 before v1 before v1beta2 before v1alpha1 before anything else.
fn version_priority(version: &str) -> (u8, u32, u32) {
    let parse = || -> Option<(u8, u32, u32)> {
        let rest = version.strip_prefix('v')?;
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let major = rest[..digits].parse().ok()?;
        let (stage, minor) = match &rest[digits..] {
            "" => (3, "0"),
            pre if pre.starts_with("beta") => (2, &pre[4..]),
            pre if pre.starts_with("alpha") => (1, &pre[5..]),
            _ => return None,
        };
        Some((stage, major, minor.parse().ok()?))
    };
    parse().unwrap_or((0, 0, 0))
}

/// What the server adds to a definition that is created: defaults, its finalizer and its state.
pub(crate) fn prepare(definition: &mut Value, now_ms: i64, creating: bool) {
    let kind = definition.str_at(&["spec", "names", "kind"]).unwrap_or_default().to_owned();
    for (field, default) in [("singular", kind.to_lowercase()), ("listKind", format!("{kind}List"))] {
        let slot = definition.entry_at(&["spec", "names", field]);
        if slot.as_str().is_none_or(str::is_empty) {
            *slot = default.into();
        }
    }
    let strategy = definition.entry_at(&["spec", "conversion", "strategy"]);
    if strategy.is_null() {
        *strategy = "None".into();
    }
    if creating {
        *definition.entry_at(&["metadata", "finalizers"]) = vec![Value::from(CLEANUP)].into();
    }
    let names = definition.at(&["spec", "names"]).cloned().unwrap_or_default();
    *definition.entry_at(&["status", "acceptedNames"]) = names;
    let stored: Vec<Value> = definition
        .at(&["spec", "versions"])
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter(|version| version.get("storage").and_then(Value::as_bool) == Some(true))
        .filter_map(|version| version.get("name").cloned())
        .collect();
    let versions = definition.entry_at(&["status", "storedVersions"]);
    let mut all = versions.as_array().cloned().unwrap_or_default();
    all.extend(
        stored.into_iter().filter(|version| versions.as_array().is_none_or(|known| !known.contains(version))),
    );
    *versions = all.into();
    let now = time::format_time(now_ms);
    let condition = |kind: &str, reason: &str, message: &str| {
        let mut condition = Value::object();
        for (field, text) in [
            ("type", kind),
            ("status", "True"),
            ("lastTransitionTime", now.as_str()),
            ("reason", reason),
            ("message", message),
        ] {
            *condition.entry_at(&[field]) = text.into();
        }
        condition
    };
    let conditions = definition.entry_at(&["status", "conditions"]);
    if conditions.as_array().is_none_or(Vec::is_empty) {
        *conditions = vec![
            condition("NamesAccepted", "NoConflicts", "no conflicts found"),
            condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
        ]
        .into();
    }
}

/// What a definition asks for that this server does not do, so that nobody relies on it.
pub(crate) fn rule_warnings(definition: &Value) -> Vec<String> {
    let versions = definition.at(&["spec", "versions"]).and_then(Value::as_array);
    let schemas =
        versions.into_iter().flatten().filter_map(|version| version.at(&["schema", "openAPIV3Schema"]));
    let parsed = schemas.filter_map(|schema| Structural::parse(schema).ok());
    let rules = parsed.flat_map(|schema| structural::unsupported(&schema));
    rules.map(|(path, why)| format!("the validation rule of {path} is not evaluated: {why}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_and_stabler_versions_come_first() {
        let mut versions = ["v1alpha1", "v2", "foo", "v1beta2", "v1", "v10"];
        versions.sort_by_key(|version| std::cmp::Reverse(version_priority(version)));
        assert_eq!(versions, ["v10", "v2", "v1", "v1beta2", "v1alpha1", "foo"]);
    }
}
