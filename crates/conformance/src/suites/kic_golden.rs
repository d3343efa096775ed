//! Kong's ingress controller's own translations: objects in, the configuration that it would send out.
//!
//! Two things are looked past. Our gateway serves the Services' own addresses too, so a service without a route is none of
//! the configuration; and the controller sends an upstream called `kong` where it has nothing to say, since Kong takes no
//! empty configuration.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gantry_gateway::entities::Snapshot;
use gantry_ingress::{CONTROLLER_NAME, Input, Translator};
use gantry_kong_model::{Declarative, Model, Seeded, hash_basic_password};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::Case;

const STAND_IN: &str = "kong";

/// `kic-golden/*/in.yaml` and each `*_golden.yaml` beside it.
pub(crate) fn cases(data: &Path) -> Option<Vec<Case>> {
    let mut folders: Vec<PathBuf> = std::fs::read_dir(data.join("kic-golden"))
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    let model = Model::load();
    let translator = Translator::new();
    let mut out = Vec::new();
    for folder in folders {
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(&folder).ok()?.filter_map(|entry| Some(entry.ok()?.path())).collect();
        files.sort();
        for file in files {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let Some(settings) = name.strip_suffix("_golden.yaml") else { continue };
            let folder_name = folder.file_name().unwrap_or_default().to_string_lossy();
            let outcome = match settings {
                "default" => judge(&model, &translator, &folder, &file),
                _ => Err(format!("the setting {settings} is not built")),
            };
            out.push(Case::new(format!("{folder_name}/{settings}"), outcome));
        }
    }
    Some(out)
}

/// The objects of a file of YAML documents.
pub(crate) fn objects(text: &str) -> Vec<Value> {
    let documents = text.split("\n---").map(|part| part.strip_prefix("---").unwrap_or(part));
    documents.filter_map(gantry_kong_model::read_yaml).filter(Value::is_object).collect()
}

/// What a translation reads, of these objects.
pub(crate) fn input(objects: &[Value]) -> Result<Input<'static>, String> {
    fn all<T: DeserializeOwned>(objects: &[Value], kind: &str) -> Result<Vec<Arc<T>>, String> {
        let of_kind = objects.iter().filter(|object| object["kind"] == kind);
        let read = |object: &Value| serde_json::from_value(object.clone()).map(Arc::new);
        of_kind.map(|object| read(object).map_err(|error| format!("{kind}: {error}"))).collect()
    }
    Ok(Input {
        class: "kong",
        claims_classless: false,
        ingresses: all(objects, "Ingress")?,
        services: all(objects, "Service")?,
        endpoint_slices: all(objects, "EndpointSlice")?,
        secrets: all(objects, "Secret")?,
        config_maps: all(objects, "ConfigMap")?,
        namespaces: all(objects, "Namespace")?,
        plugins: all(objects, "KongPlugin")?,
        cluster_plugins: all(objects, "KongClusterPlugin")?,
        consumers: all(objects, "KongConsumer")?,
        upstream_policies: all(objects, "KongUpstreamPolicy")?,
        gateway_classes: all(objects, "GatewayClass")?,
        gateways: all(objects, "Gateway")?,
        listener_sets: all(objects, "ListenerSet")?,
        http_routes: all(objects, "HTTPRoute")?,
        tls_routes: all(objects, "TLSRoute")?,
        reference_grants: all(objects, "ReferenceGrant")?,
    })
}

/// The Gateways that the routes name; the cases take them as given.
fn gateways(objects: &[Value]) -> Vec<Value> {
    let class = json!({"kind": "GatewayClass", "metadata": {"name": "kong"},
        "spec": {"controllerName": CONTROLLER_NAME}});
    let mut made = vec![class];
    let mut seen = HashSet::new();
    for route in objects.iter().filter(|object| object["kind"] == "HTTPRoute") {
        for parent in route["spec"]["parentRefs"].as_array().into_iter().flatten() {
            let namespace = parent["namespace"].as_str().or(route["metadata"]["namespace"].as_str());
            let (namespace, name) =
                (namespace.unwrap_or_default(), parent["name"].as_str().unwrap_or_default());
            if seen.insert((namespace, name)) {
                made.push(json!({"kind": "Gateway", "metadata": {"name": name, "namespace": namespace},
                    "spec": {"gatewayClassName": "kong", "listeners": [{"name": "http", "port": 80,
                        "protocol": "HTTP", "allowedRoutes": {"namespaces": {"from": "All"}}}]}}));
            }
        }
    }
    made
}

fn judge(model: &Model, translator: &Translator, folder: &Path, golden: &Path) -> Result<(), String> {
    let read = |path: &Path| std::fs::read_to_string(path).map_err(|error| error.to_string());
    let mut given = objects(&read(&folder.join("in.yaml"))?);
    // What a fallback configuration leaves out was refused by Kong before; here nothing refuses it.
    given.extend(gateways(&given));
    let translation = translator.translate(&input(&given)?);
    let expected = gantry_kong_model::read_yaml(&read(golden)?).ok_or("the golden file is not YAML")?;
    let mut written = HashSet::new();
    collect_made(&expected, &mut written);
    let reader = Declarative::new(model);
    let flat = |value: Value| {
        let parsed = reader.flatten(value, &mut Seeded::new(1, 1));
        parsed.map(|parsed| parsed.entities.0).map_err(|faults| faults.to_json().to_string())
    };
    let mut expected = flat(expected).map_err(|error| format!("the golden file: {error}"))?;
    if let Some(upstreams) = expected.get_mut("upstreams") {
        upstreams.retain(|_, upstream| upstream["name"] != STAND_IN);
    }
    for credential in expected.get_mut("basicauth_credentials").into_iter().flat_map(|all| all.values_mut()) {
        let consumer = credential["consumer"]["id"].as_str().unwrap_or_default().to_owned();
        let password = credential["password"].as_str().unwrap_or_default();
        credential["password"] = json!(hash_basic_password(&consumer, password));
    }
    let mut found = flat(declared(&translation.snapshot))?;
    for (name, wanted) in &expected {
        let mut left: Vec<Value> =
            found.remove(name).unwrap_or_default().into_iter().map(|(_, entity)| entity).collect();
        for (_, entity) in wanted {
            let at = left.iter().position(|ours| is_same(entity, ours, &written));
            let at = at.ok_or_else(|| format!("{name}: no {entity}\namong {}", json!(left)))?;
            left.remove(at);
        }
        if !left.is_empty() {
            return Err(format!("{name}: unexpected {}", json!(left)));
        }
    }
    match found.into_iter().find(|(_, all)| !all.is_empty()) {
        None => Ok(()),
        Some((name, all)) => Err(format!("{name}: unexpected {}", json!(all))),
    }
}

/// The ids and secrets that a file gives; others are made when it is read, and say nothing.
fn collect_made(value: &Value, written: &mut HashSet<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect_made(item, written)),
        Value::Object(map) => {
            let made = ["id", "secret"].iter().filter_map(|name| map.get(*name)?.as_str());
            written.extend(made.map(str::to_owned));
            map.values().for_each(|item| collect_made(item, written));
        }
        _ => {}
    }
}

fn is_same(expected: &Value, found: &Value, written: &HashSet<String>) -> bool {
    let (Value::Object(expected), Value::Object(found)) = (expected, found) else { return expected == found };
    let names: HashSet<&String> = expected.keys().chain(found.keys()).collect();
    names.into_iter().all(|name| {
        let (wanted, ours) =
            (expected.get(name).unwrap_or(&Value::Null), found.get(name).unwrap_or(&Value::Null));
        match name.as_str() {
            "created_at" | "updated_at" => true,
            // Drawn where the file has none.
            "id" | "secret" => wanted == ours || wanted.as_str().is_none_or(|text| !written.contains(text)),
            "paths" | "hosts" | "methods" | "protocols" => as_set(wanted) == as_set(ours),
            _ => wanted == ours,
        }
    })
}

fn as_set(list: &Value) -> HashSet<String> {
    list.as_array().into_iter().flatten().map(Value::to_string).collect()
}

fn without_nulls(value: Value) -> Map<String, Value> {
    let Value::Object(map) = value else { return Map::new() };
    map.into_iter().filter(|(_, value)| !value.is_null()).collect()
}

fn entity(value: impl serde::Serialize) -> Map<String, Value> {
    without_nulls(serde_json::to_value(value).unwrap_or_default())
}

/// A snapshot as a declarative file has it.
fn declared(snapshot: &Snapshot) -> Value {
    let led_to: HashSet<&str> = snapshot.routes.iter().filter_map(|route| route.service.as_deref()).collect();
    let services: Vec<_> = snapshot
        .services
        .iter()
        .filter(|service| service.name.as_deref().is_some_and(|name| led_to.contains(name)))
        .collect();
    let hosts: HashSet<&str> = services.iter().map(|service| service.host.as_str()).collect();
    let routes = snapshot.routes.iter().map(|route| {
        let mut value = entity(route);
        value.remove("created_at");
        value
    });
    let upstreams = snapshot.upstreams.iter().filter(|upstream| hosts.contains(upstream.name.as_str()));
    let upstreams = upstreams.map(|upstream| {
        let mut value = entity(upstream);
        // The golden files give upstreams no ids.
        value.remove("id");
        value
    });
    let name_of = |id: &str| {
        let consumer = snapshot.consumers.iter().find(|consumer| consumer.id == id);
        consumer.and_then(|consumer| consumer.username.clone()).unwrap_or_else(|| id.to_owned())
    };
    let of_consumer = |value: Map<String, Value>| {
        let mut value = value;
        value.remove("id");
        if let Some(id) = value.get("consumer").and_then(Value::as_str) {
            let name = name_of(id);
            value.insert("consumer".to_owned(), json!(name));
        }
        Value::Object(value)
    };
    let plugins = snapshot.plugins.iter().map(|plugin| {
        let mut value = entity(plugin);
        if let Some(id) = &plugin.consumer {
            value.insert("consumer".to_owned(), json!(name_of(id)));
        }
        value
    });
    let list = |values: Vec<Value>| Value::Array(values);
    let mut out = json!({
        "_format_version": "3.0",
        "services": services.iter().map(|service| Value::Object(entity(service))).collect::<Vec<_>>(),
        "routes": routes.collect::<Vec<_>>(),
        "upstreams": upstreams.collect::<Vec<_>>(),
        "plugins": plugins.collect::<Vec<_>>(),
        "consumers": snapshot.consumers.iter().map(|one| Value::Object(entity(one))).collect::<Vec<_>>(),
    });
    out["keyauth_credentials"] =
        list(snapshot.keyauth_credentials.iter().map(|one| of_consumer(entity(one))).collect());
    out["basicauth_credentials"] =
        list(snapshot.basicauth_credentials.iter().map(|one| of_consumer(entity(one))).collect());
    out["jwt_secrets"] = list(snapshot.jwt_secrets.iter().map(|one| of_consumer(entity(one))).collect());
    out["acls"] = list(snapshot.acls.iter().map(|one| of_consumer(entity(one))).collect());
    out
}

#[cfg(test)]
mod tests {
    use super::{collect_made, is_same};
    use serde_json::json;
    use std::collections::HashSet;

    #[test]
    fn a_secret_that_the_file_gives_is_compared() {
        let golden =
            json!({"consumers": [{"username": "a", "jwt_secrets": [{"key": "k", "secret": "given"}]}]});
        let mut written = HashSet::new();
        collect_made(&golden, &mut written);
        let (given, other) = (json!({"key": "k", "secret": "given"}), json!({"key": "k", "secret": "other"}));
        assert!(is_same(&given, &given, &written));
        assert!(!is_same(&given, &other, &written));
        // One that is not in the file was drawn when it was read.
        assert!(is_same(&json!({"key": "k", "secret": "drawn"}), &other, &written));
    }
}
