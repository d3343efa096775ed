//! Defaults of the smaller kinds.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use gantry_apimachinery::Value;

use super::default_at;

pub(super) fn default_secret(object: &mut Value) {
    default_at(object, &["type"], "Opaque");
    let Some(texts) = object.as_object_mut().and_then(|map| map.remove("stringData")) else { return };
    for (key, value) in texts.as_object().into_iter().flat_map(|texts| texts.iter()) {
        let text = value.as_str().unwrap_or_default();
        *object.entry_at(&["data", key]) = BASE64_STANDARD.encode(text).into();
    }
}

pub(super) fn default_namespace(object: &mut Value) {
    default_at(object, &["status", "phase"], "Active");
    name_label(object);
}

/// Every namespace can be selected by its name.
pub(super) fn name_label(object: &mut Value) {
    let name = object.str_at(&["metadata", "name"]).unwrap_or_default().to_owned();
    if !name.is_empty() {
        *object.entry_at(&["metadata", "labels", "kubernetes.io/metadata.name"]) = name.into();
    }
}

pub(super) fn prepare_namespace(object: &mut Value) {
    *object.entry_at(&["status", "phase"]) = "Active".into();
    let finalizers = object.entry_at(&["spec", "finalizers"]);
    let mut list = finalizers.as_array().cloned().unwrap_or_default();
    if !list.iter().any(|finalizer| finalizer.as_str() == Some("kubernetes")) {
        list.push("kubernetes".into());
    }
    *finalizers = list.into();
}

pub(super) fn default_claim(object: &mut Value) {
    default_at(object, &["spec", "volumeMode"], "Filesystem");
    default_at(object, &["status", "phase"], "Pending");
}

pub(super) fn default_volume(object: &mut Value) {
    default_at(object, &["spec", "volumeMode"], "Filesystem");
    default_at(object, &["spec", "persistentVolumeReclaimPolicy"], "Retain");
    default_at(object, &["status", "phase"], "Pending");
}

pub(super) fn default_node(object: &mut Value) {
    if object.get("spec").is_none() {
        *object.entry_at(&["spec"]) = Value::object();
    }
}

pub(super) fn default_endpoint_slice(object: &mut Value) {
    for port in object.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        default_at(port, &["name"], "");
        default_at(port, &["protocol"], "TCP");
    }
}

pub(super) fn default_network_policy(object: &mut Value) {
    if object.at(&["spec", "policyTypes"]).is_none() {
        let mut types = vec![Value::from("Ingress")];
        if object.at(&["spec", "egress"]).and_then(Value::as_array).is_some_and(|rules| !rules.is_empty()) {
            types.push("Egress".into());
        }
        *object.entry_at(&["spec", "policyTypes"]) = types.into();
    }
}

pub(super) fn default_binding(object: &mut Value) {
    default_at(object, &["roleRef", "apiGroup"], "rbac.authorization.k8s.io");
    for subject in object.get_mut("subjects").and_then(Value::as_array_mut).into_iter().flatten() {
        if matches!(subject.str_at(&["kind"]), Some("User" | "Group")) {
            default_at(subject, &["apiGroup"], "rbac.authorization.k8s.io");
        }
    }
}

pub(super) fn default_storage_class(object: &mut Value) {
    default_at(object, &["reclaimPolicy"], "Delete");
    default_at(object, &["volumeBindingMode"], "Immediate");
}
