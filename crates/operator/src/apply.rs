//! Declarative apply: makes the server's objects what the files say, and removes what the files no longer say.
//!
//! The three-way rule is `kubectl apply`'s: a field set in the files wins; a field that the files set last time and no
//! longer set is removed; every other field belongs to whoever wrote it. What the files said last time is kept in the
//! annotation that kubectl uses, so that either can follow the other.

use std::collections::HashMap;
use std::fmt;

use gantry_apimachinery::{Kind, Map, Value};
use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::params::ValidationDirective;
use kube::core::{ApiResource, GroupVersionKind, Request};
use kube::discovery::{ApiCapabilities, Scope, pinned_kind};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::explain::explain;

pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Which object, in the words of its manifest.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectRef {
    pub api_version: String,
    pub kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    pub name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    Created,
    Configured,
    Unchanged,
    Pruned,
}

#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error("object {index} has no {field}")]
    Incomplete { index: usize, field: &'static str },
    #[error("{object}: the server does not know {api_version} {kind}; if it is a custom resource, its CustomResourceDefinition must come before it{why}", api_version = object.api_version, kind = object.kind, why = why_unknown(error))]
    UnknownKind { object: ObjectRef, error: Box<kube::Error> },
    #[error("{object}: {error}", error = explain(&**error))]
    Refused { object: ObjectRef, error: Box<kube::Error> },
    #[error("{object}: not an object the API can hold: {error}")]
    Malformed { object: ObjectRef, error: serde_json::Error },
}

/// Applies objects one after the other, in the order given. As with `kubectl apply`, a field that the kind does not have
/// is refused: it is a slip of the pen that would otherwise be dropped without a word.
pub struct Applier {
    client: Client,
    field_manager: String,
    kinds: HashMap<(String, String), (ApiResource, ApiCapabilities)>,
}

// === impl ObjectRef ===

impl ObjectRef {
    /// `index` names the object in the error when it has no name yet.
    pub fn of(object: &Value, index: usize) -> Result<ObjectRef, ApplyError> {
        let field = |path: &[&str], field| {
            let value = object.str_at(path).filter(|text| !text.is_empty());
            value.map(str::to_owned).ok_or(ApplyError::Incomplete { index, field })
        };
        Ok(ObjectRef {
            api_version: field(&["apiVersion"], "apiVersion")?,
            kind: field(&["kind"], "kind")?,
            namespace: object.str_at(&["metadata", "namespace"]).map(str::to_owned),
            name: field(&["metadata", "name"], "metadata.name")?,
        })
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)?;
        match &self.namespace {
            Some(namespace) => write!(f, " in {namespace}"),
            None => Ok(()),
        }
    }
}

// === impl Applier ===

impl Applier {
    pub fn new(client: Client, field_manager: impl Into<String>) -> Applier {
        Applier { client, field_manager: field_manager.into(), kinds: HashMap::new() }
    }

    pub(crate) fn field_manager(&self) -> &str {
        &self.field_manager
    }

    pub async fn apply(&mut self, object: &Value, index: usize) -> Result<(ObjectRef, Change), ApplyError> {
        let mut id = ObjectRef::of(object, index)?;
        let api = self.api(&mut id).await?;
        let mut desired = object.clone();
        set_last_applied(&mut desired, object, &id)?;
        let refused = |error| ApplyError::Refused { object: id.clone(), error: Box::new(error) };
        let change = match api.get_opt(&id.name).await.map_err(refused)? {
            None => {
                let body = body_of(&desired, &id)?;
                self.create(&api, body, false).await.map_err(refused)?;
                Change::Created
            }
            Some(live) => {
                let live: Value = convert(&live, &id)?;
                let previous = last_applied(&live).unwrap_or_else(Value::object);
                match three_way(&previous, &desired, &live) {
                    None => Change::Unchanged,
                    Some(patch) => {
                        let params = PatchParams {
                            field_manager: Some(self.field_manager.clone()),
                            field_validation: Some(ValidationDirective::Strict),
                            ..PatchParams::default()
                        };
                        if let Err(error) = api.patch(&id.name, &params, &Patch::Merge(&patch)).await {
                            let body = body_of(&desired, &id)?;
                            return Err(refused(self.clearer(&api, body, error).await));
                        }
                        Change::Configured
                    }
                }
            }
        };
        Ok((id, change))
    }

    /// Creates the object, or with `dry_run` only asks whether it could be.
    async fn create(
        &self,
        api: &Api<DynamicObject>,
        body: Vec<u8>,
        dry_run: bool,
    ) -> Result<(), kube::Error> {
        let params = PostParams { field_manager: Some(self.field_manager.clone()), dry_run };
        let mut request =
            Request::new(api.resource_url()).create(&params, body).map_err(kube::Error::BuildRequest)?;
        let strict = format!("{}&fieldValidation=Strict", request.uri());
        *request.uri_mut() = strict.parse().expect("a URI with one more parameter is one");
        self.client.request(request).await.map(|_: IgnoredAny| ())
    }

    /// A server says of a patch with a wrong field only that the whole patch is wrong; asked to create the same object
    /// it names the field.
    async fn clearer(&self, api: &Api<DynamicObject>, body: Vec<u8>, error: kube::Error) -> kube::Error {
        let vague = "patch: Invalid value";
        let names_no_field = matches!(&error, kube::Error::Api(status) if status.message.contains(vague));
        if !names_no_field {
            return error;
        }
        match self.create(api, body, true).await {
            Err(kube::Error::Api(status)) if status.code == 400 => kube::Error::Api(status),
            _ => error,
        }
    }

    /// Whether the server has the object.
    pub async fn exists(&mut self, id: &ObjectRef) -> Result<bool, ApplyError> {
        let mut id = id.clone();
        let api = self.api(&mut id).await?;
        match api.get_metadata_opt(&id.name).await {
            Ok(found) => Ok(found.is_some()),
            Err(error) => Err(ApplyError::Refused { object: id, error: Box::new(error) }),
        }
    }

    /// Deletes those of `previous` that are not in `current`; what is already gone is not mentioned.
    pub async fn prune(
        &mut self,
        previous: &[ObjectRef],
        current: &[ObjectRef],
    ) -> Result<Vec<ObjectRef>, ApplyError> {
        let mut pruned = Vec::new();
        // Last applied, first removed: a namespace goes after what lies in it.
        for id in previous.iter().rev().filter(|id| !current.contains(id)) {
            let mut id = id.clone();
            let Ok(api) = self.api(&mut id).await else { continue };
            match api.delete(&id.name, &DeleteParams::background()).await {
                Ok(_) => pruned.push(id),
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(ApplyError::Refused { object: id, error: Box::new(error) }),
            }
        }
        Ok(pruned)
    }

    /// The client for the object's kind; fills in the default namespace where the kind needs one.
    pub(crate) async fn api(&mut self, id: &mut ObjectRef) -> Result<Api<DynamicObject>, ApplyError> {
        let (resource, capabilities) = self.resource(id).await?;
        Ok(match capabilities.scope {
            Scope::Cluster => {
                id.namespace = None;
                Api::all_with(self.client.clone(), &resource)
            }
            Scope::Namespaced => {
                let namespace = id.namespace.get_or_insert_with(|| "default".to_owned());
                Api::namespaced_with(self.client.clone(), namespace, &resource)
            }
        })
    }

    async fn resource(&mut self, id: &ObjectRef) -> Result<(ApiResource, ApiCapabilities), ApplyError> {
        let key = (id.api_version.clone(), id.kind.clone());
        if let Some(known) = self.kinds.get(&key) {
            return Ok(known.clone());
        }
        let (group, version) = id.api_version.rsplit_once('/').unwrap_or(("", &id.api_version));
        let kind = GroupVersionKind::gvk(group, version, &id.kind);
        let found = pinned_kind(&self.client, &kind)
            .await
            .map_err(|error| ApplyError::UnknownKind { object: id.clone(), error: Box::new(error) })?;
        self.kinds.insert(key, found.clone());
        Ok(found)
    }
}

/// That a group or kind is not there is already told; anything else is the reason why it was not found.
fn why_unknown(error: &kube::Error) -> String {
    match error {
        kube::Error::Discovery(_) => String::new(),
        kube::Error::Api(status) if status.code == 404 => String::new(),
        other => format!(": {}", explain(other)),
    }
}

fn body_of(object: &Value, id: &ObjectRef) -> Result<Vec<u8>, ApplyError> {
    serde_json::to_vec(object).map_err(|error| ApplyError::Malformed { object: id.clone(), error })
}

pub(crate) fn convert<T: Serialize, U: for<'de> Deserialize<'de>>(
    from: &T,
    id: &ObjectRef,
) -> Result<U, ApplyError> {
    serde_json::to_value(from)
        .and_then(serde_json::from_value)
        .map_err(|error| ApplyError::Malformed { object: id.clone(), error })
}

pub(crate) fn last_applied(live: &Value) -> Option<Value> {
    serde_json::from_str(live.str_at(&["metadata", "annotations", LAST_APPLIED])?).ok()
}

/// Keys sorted and a line break at the end, as kubectl writes it.
pub(crate) fn set_last_applied(
    desired: &mut Value,
    object: &Value,
    id: &ObjectRef,
) -> Result<(), ApplyError> {
    let mut kept = object.clone();
    if let Some(annotations) = kept.at_mut(&["metadata", "annotations"]).and_then(Value::as_object_mut) {
        annotations.remove(LAST_APPLIED);
    }
    let text = serde_json::to_string(&sorted(kept))
        .map_err(|error| ApplyError::Malformed { object: id.clone(), error })?;
    *desired.entry_at(&["metadata", "annotations", LAST_APPLIED]) = format!("{text}\n").into();
    Ok(())
}

fn sorted(value: Value) -> Value {
    let kind = match value.kind {
        Kind::Array(items) => Kind::Array(items.into_iter().map(sorted).collect()),
        Kind::Object(map) => {
            let mut entries: Vec<_> = map.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Kind::Object(entries.into_iter().collect())
        }
        other => other,
    };
    Value::new(kind, value.span)
}

/// The merge patch that brings `live` to `desired`, or `None` when nothing is to be done.
pub(crate) fn three_way(previous: &Value, desired: &Value, live: &Value) -> Option<Value> {
    let (Some(desired), Some(live)) = (desired.as_object(), live.as_object()) else { return None };
    let empty = Map::new();
    let previous = previous.as_object().unwrap_or(&empty);
    let mut patch = Map::new();
    for (key, wanted) in desired.iter() {
        let before = previous.get(key).unwrap_or(&Value::NULL);
        match live.get(key) {
            None if wanted.is_null() => {}
            None => {
                patch.insert(key.clone(), wanted.clone());
            }
            Some(there) if wanted.as_object().is_some() && there.as_object().is_some() => {
                if let Some(inner) = three_way(before, wanted, there) {
                    patch.insert(key.clone(), inner);
                }
            }
            Some(there) => {
                let list_changed_in_files =
                    wanted.as_array().is_some() && !before.is_null() && before != wanted;
                if list_changed_in_files || !covers(there, wanted) {
                    patch.insert(key.clone(), wanted.clone());
                }
            }
        }
    }
    for key in previous.keys().filter(|key| !desired.contains_key(key) && live.contains_key(key)) {
        patch.insert(key.clone(), Value::NULL);
    }
    (!patch.is_empty()).then(|| patch.into())
}

/// Whether everything in `wanted` is in `there`, which may hold more (defaults, other writers' fields).
fn covers(there: &Value, wanted: &Value) -> bool {
    match (&there.kind, &wanted.kind) {
        (Kind::Object(there), Kind::Object(wanted)) => wanted
            .iter()
            .all(|(key, value)| there.get(key).map_or(value.is_null(), |found| covers(found, value))),
        (Kind::Array(there), Kind::Array(wanted)) => {
            there.len() == wanted.len()
                && there.iter().zip(wanted).all(|(there, wanted)| covers(there, wanted))
        }
        _ => there == wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn server_defaults_are_not_a_difference() {
        let desired = json(r#"{"spec":{"ports":[{"port":80}]}}"#);
        let live = json(r#"{"spec":{"ports":[{"port":80,"protocol":"TCP"}],"type":"ClusterIP"}}"#);
        assert_eq!(three_way(&desired, &desired, &live), None);
    }

    #[test]
    fn a_field_dropped_from_the_files_is_removed_and_others_stay() {
        let previous = json(r#"{"data":{"a":"1","b":"2"}}"#);
        let desired = json(r#"{"data":{"a":"1"}}"#);
        let live = json(r#"{"data":{"a":"1","b":"2","theirs":"3"}}"#);
        assert_eq!(three_way(&previous, &desired, &live), Some(json(r#"{"data":{"b":null}}"#)));
    }

    #[test]
    fn a_changed_list_is_replaced_whole() {
        let previous = json(r#"{"args":[{"name":"a","x":1}]}"#);
        let desired = json(r#"{"args":[{"name":"a"}]}"#);
        let live = json(r#"{"args":[{"name":"a","x":1}]}"#);
        assert_eq!(three_way(&previous, &desired, &live), Some(desired));
    }

    #[test]
    fn the_annotation_is_what_kubectl_would_write() {
        let object =
            json(r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"x","annotations":{}}}"#);
        let id = ObjectRef::of(&object, 0).unwrap();
        let mut desired = object.clone();
        set_last_applied(&mut desired, &object, &id).unwrap();
        assert_eq!(
            desired.str_at(&["metadata", "annotations", LAST_APPLIED]),
            Some(
                "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"annotations\":{},\"name\":\"x\"}}\n"
            )
        );
    }
}
