//! The scale subresource: `autoscaling/v1` Scale over whatever fields a kind keeps its replicas in.

use gantry_apimachinery::value::SmolStr;
use gantry_apimachinery::{Map, Selector, Value};

use crate::resources::{Resource, ScalePaths};
use crate::rest::write::{self, Written};
use crate::rest::{Answer, Call, body, patch, respond, update};
use crate::status::{Failure, FieldError};

pub(crate) async fn handle(call: &Call, verb: &'static str) -> Answer {
    let paths = paths(&call.resource).ok_or_else(Failure::no_such_resource)?;
    if verb == "get" {
        let object = call
            .server
            .store
            .get(&call.resource.collection, &call.key())
            .ok_or_else(|| Failure::not_found(call.about(), call.name()))?;
        return Ok(respond(call, 200, &scale_of(&object.value(), &paths)));
    }
    let dry_run = write::is_dry_run(call, "UpdateOptions")?;
    let body = match verb {
        "update" => {
            let mut scale = body::object(call, "Scale", "autoscaling/v1")?;
            update::check_identity(call, &mut scale)?;
            Some(scale)
        }
        _ => None,
    };
    let patch = if body.is_none() { Some(patch::parse(call)?) } else { None };
    // The write goes to the object itself, under the scale's rules: nothing but the replicas changes.
    let inner = Call {
        path: crate::path::ResourcePath { subresource: None, ..call.path.clone() },
        ..call.clone_for_write()
    };
    let written = update::change_through(&inner, dry_run, true, |served| {
        let current = scale_of(served, &paths);
        let scale = match (&body, &patch) {
            (Some(scale), _) => scale.clone(),
            (None, Some(patch)) => patch::apply(call, patch, &current)?,
            (None, None) => current,
        };
        let replicas = scale.at(&["spec", "replicas"]).and_then(Value::as_i64).unwrap_or(0);
        if replicas < 0 {
            let error =
                FieldError::invalid("spec.replicas", &replicas.into(), "must be greater than or equal to 0");
            let about = crate::status::About { group: "autoscaling", resource: "scales", kind: "Scale" };
            return Err(Failure::invalid(about, call.name(), vec![error]));
        }
        let mut object = served.clone();
        let steps: Vec<&str> = paths.spec_replicas.iter().map(SmolStr::as_str).collect();
        *object.entry_at(&steps) = replicas.into();
        let metadata = body::metadata_mut(&mut object);
        for field in ["resourceVersion", "uid"] {
            match scale.str_at(&["metadata", field]).filter(|text| !text.is_empty()) {
                Some(text) => drop(metadata.insert(field, text)),
                None => drop(metadata.remove(field)),
            }
        }
        Ok(object)
    })
    .await?;
    let object = match written {
        Written::Stored(object) | Written::Removed(object) => object.value(),
        Written::Dry(json) => serde_json::from_slice(&json).unwrap_or_default(),
    };
    Ok(respond(call, 200, &scale_of(&object, &paths)))
}

fn paths(resource: &Resource) -> Option<ScalePaths> {
    if let Some(custom) = &resource.custom {
        return custom.scale.clone();
    }
    resource.subresource("scale")?;
    let path = |steps: [&str; 2]| steps.iter().map(SmolStr::new).collect::<Vec<_>>();
    Some(ScalePaths {
        spec_replicas: path(["spec", "replicas"]),
        status_replicas: path(["status", "replicas"]),
        selector: None,
    })
}

fn scale_of(object: &Value, paths: &ScalePaths) -> Value {
    let at = |path: &[SmolStr]| path.iter().try_fold(object, |value, step| value.get(step));
    let number = |path: &[SmolStr]| at(path).and_then(Value::as_i64).unwrap_or(0);
    let mut metadata = Map::new();
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object.at(&["metadata", field]) {
            metadata.insert(field, value.clone());
        }
    }
    let selector = match &paths.selector {
        Some(path) => at(path).and_then(Value::as_str).unwrap_or_default().to_owned(),
        None => selector_text(object.at(&["spec", "selector"])),
    };
    let mut spec = Map::new();
    let replicas = number(&paths.spec_replicas);
    if replicas != 0 {
        spec.insert("replicas", replicas);
    }
    let mut status = Map::new();
    status.insert("replicas", number(&paths.status_replicas));
    if !selector.is_empty() {
        status.insert("selector", selector);
    }
    let mut scale = Map::new();
    scale.insert("kind", "Scale");
    scale.insert("apiVersion", "autoscaling/v1");
    scale.insert("metadata", metadata);
    scale.insert("spec", spec);
    scale.insert("status", status);
    scale.into()
}

/// A label selector, or the plain map that replication controllers have, as text.
fn selector_text(selector: Option<&Value>) -> String {
    let is_plain = selector
        .and_then(Value::as_object)
        .is_some_and(|map| map.values().any(|value| value.as_str().is_some()));
    if is_plain {
        let pairs = selector.and_then(Value::as_object).into_iter().flat_map(|map| map.iter());
        let mut texts: Vec<String> =
            pairs.filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?))).collect();
        texts.sort();
        return texts.join(",");
    }
    Selector::from_object(selector).ok().flatten().map(|selector| selector.to_string()).unwrap_or_default()
}
