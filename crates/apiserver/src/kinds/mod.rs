//! What single kinds add to the generic registry: defaults, preparation, validation, and rules of deletion.
//!
//! Every hook dispatches on the collection (`apps/deployments`); a kind that is not named has no rule of its own.

mod autoscaling;
mod core;
mod pod;
mod service;
mod workloads;

use std::sync::Arc;

use gantry_apimachinery::{Value, names};

use crate::crd;
use crate::resources::Resource;
use crate::rest::{Call, body};
use crate::server::Inner;
use crate::status::Failure;
use crate::store::Object;

/// Sets `path` to a default where it is absent or null.
pub(crate) fn default_at(object: &mut Value, path: &[&str], default: impl Into<Value>) {
    let slot = object.entry_at(path);
    if slot.is_null() {
        *slot = default.into();
    }
}

/// Fills in what a client may leave out. Runs on creation and on every change.
pub(crate) fn set_defaults(resource: &Resource, object: &mut Value) {
    match resource.id() {
        "/pods" => pod::default_pod(object),
        "/replicationcontrollers" => workloads::default_replication_controller(object),
        "/services" => service::default_service(object),
        "/secrets" => core::default_secret(object),
        "/namespaces" => core::default_namespace(object),
        "/persistentvolumeclaims" => core::default_claim(object),
        "/persistentvolumes" => core::default_volume(object),
        "/nodes" => core::default_node(object),
        "apps/deployments" => workloads::default_deployment(object),
        "apps/replicasets" => workloads::default_replica_set(object),
        "apps/statefulsets" => workloads::default_stateful_set(object),
        "apps/daemonsets" => workloads::default_daemon_set(object),
        "batch/jobs" => workloads::default_job(object),
        "batch/cronjobs" => workloads::default_cron_job(object),
        "autoscaling/horizontalpodautoscalers" => autoscaling::default_autoscaler(object),
        "discovery.k8s.io/endpointslices" => core::default_endpoint_slice(object),
        "networking.k8s.io/networkpolicies" => core::default_network_policy(object),
        "rbac.authorization.k8s.io/rolebindings" | "rbac.authorization.k8s.io/clusterrolebindings" => {
            core::default_binding(object)
        }
        "storage.k8s.io/storageclasses" => core::default_storage_class(object),
        "scheduling.k8s.io/priorityclasses" => {
            default_at(object, &["preemptionPolicy"], "PreemptLowerPriority")
        }
        _ => {}
    }
}

/// What the server sets on a new object whatever the client sent: status, generation, labels of its own.
pub(crate) fn prepare_create(call: &Call, object: &mut Value) -> Result<(), Failure> {
    let resource = &call.resource;
    if resource.has_status()
        && !keeps_status_on_create(resource.id())
        && let Some(map) = object.as_object_mut()
    {
        map.remove("status");
    }
    if has_generation(resource) {
        body::metadata_mut(object).insert("generation", 1i64);
    }
    let now_ms = call.server.clock.now_ms();
    match resource.id() {
        "/services" => {
            service::set_families(object);
            initial_status(resource.id(), object);
        }
        crd::COLLECTION => {
            crd::prepare(object, now_ms, true);
            call.warn(crd::rule_warnings(object));
        }
        "/pods" => pod::prepare_create(object),
        "/namespaces" => core::prepare_namespace(object),
        "batch/jobs" => workloads::prepare_job(object),
        "apps/deployments"
        | "apps/replicasets"
        | "apps/statefulsets"
        | "apps/daemonsets"
        | "batch/cronjobs"
        | "policy/poddisruptionbudgets"
        | "/persistentvolumeclaims"
        | "networking.k8s.io/ingresses"
        | "autoscaling/horizontalpodautoscalers" => {
            initial_status(resource.id(), object);
        }
        _ => {}
    }
    Ok(())
}

/// The status that a fresh object shows, as Go prints an empty one.
fn initial_status(id: &str, object: &mut Value) {
    match id {
        "apps/replicasets" | "apps/statefulsets" => default_at(object, &["status", "replicas"], 0i64),
        "apps/daemonsets" => {
            for field in
                ["currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady"]
            {
                default_at(object, &["status", field], 0i64);
            }
        }
        "/services" | "networking.k8s.io/ingresses" => {
            default_at(object, &["status", "loadBalancer"], Value::object())
        }
        "/persistentvolumeclaims" => default_at(object, &["status", "phase"], "Pending"),
        "autoscaling/horizontalpodautoscalers" => {
            default_at(object, &["status", "desiredReplicas"], 0i64);
            default_at(object, &["status", "currentMetrics"], Value::NULL);
        }
        "policy/poddisruptionbudgets" => {
            for field in ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"] {
                default_at(object, &["status", field], 0i64);
            }
        }
        _ => default_at(object, &["status"], Value::object()),
    }
}

/// What the server sets on a changed object.
pub(crate) fn prepare_update(call: &Call, object: &mut Value, old: &Value) -> Result<(), Failure> {
    match call.resource.id() {
        crd::COLLECTION if call.path.subresource.is_none() => {
            crd::prepare(object, call.server.clock.now_ms(), false);
            call.warn(crd::rule_warnings(object));
        }
        "/namespaces" if call.path.subresource.is_none() => {
            // Only `finalize` changes what holds a namespace.
            if let Some(finalizers) = old.at(&["spec", "finalizers"]) {
                *object.entry_at(&["spec", "finalizers"]) = finalizers.clone();
            } else if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
                spec.remove("finalizers");
            }
            core::name_label(object);
        }
        "/services" => {
            service::set_families(object);
            service::keep_address(call, object, old)?;
        }
        _ => {}
    }
    Ok(())
}

/// What creating an object takes or checks outside it. Undone by [`undo_create`] if the object is then not stored.
pub(crate) fn admit_create(call: &Call, object: &mut Value, dry_run: bool) -> Result<(), Failure> {
    match call.resource.id() {
        "/services" => service::assign_address(call, object, dry_run),
        _ => Ok(()),
    }
}

pub(crate) fn undo_create(server: &Inner, id: &str, object: &Value) {
    if id == "/services" {
        service::release_address(server, object);
    }
}

/// Gives back what a removed object had taken.
pub(crate) fn after_removal(server: &Inner, id: &str, object: &Object) {
    if id == "/services" {
        service::release_address(server, &object.value());
    }
}

pub(crate) fn after_update(server: &Arc<Inner>, id: &str, old: &Value, new: &Value) {
    if id == "/services" {
        service::release_changed(server, old, new);
    }
}

pub(crate) use crate::validate::validate;

/// Which names a kind accepts.
pub(crate) fn name_rule(id: &str) -> fn(&str) -> Vec<String> {
    match id {
        "/namespaces" => names::label_errors,
        "/services" => names::label_1035_errors,
        _ if id.starts_with("rbac.authorization.k8s.io/") => names::path_segment_errors,
        _ => names::subdomain_errors,
    }
}

/// Kinds that a PUT creates where they are missing.
pub(crate) fn creates_on_update(id: &str) -> bool {
    matches!(
        id,
        "coordination.k8s.io/leases"
            | "/events"
            | "/endpoints"
            | "/limitranges"
            | "/services"
            | "node.k8s.io/runtimeclasses"
    ) || id.starts_with("rbac.authorization.k8s.io/")
}

/// Kinds whose deletion answers with the object instead of a `Status`.
pub(crate) fn returns_deleted(id: &str) -> bool {
    matches!(
        id,
        "/pods"
            | "/services"
            | "/namespaces"
            | "/persistentvolumeclaims"
            | "/persistentvolumes"
            | "/podtemplates"
            | "/resourcequotas"
            | "/serviceaccounts"
    )
}

fn keeps_status_on_create(id: &str) -> bool {
    matches!(id, "/nodes" | "/namespaces")
}

/// Kinds that count changes of what is wanted.
fn has_generation(resource: &Resource) -> bool {
    resource.custom.is_some()
        || matches!(
            resource.id(),
            "/pods"
                | "/replicationcontrollers"
                | "apps/deployments"
                | "apps/replicasets"
                | "apps/statefulsets"
                | "apps/daemonsets"
                | "batch/jobs"
                | "batch/cronjobs"
                | "policy/poddisruptionbudgets"
                | "networking.k8s.io/ingresses"
                | "networking.k8s.io/networkpolicies"
                | "networking.k8s.io/ingressclasses"
                | "discovery.k8s.io/endpointslices"
                | "apiextensions.k8s.io/customresourcedefinitions"
                | "scheduling.k8s.io/priorityclasses"
                | "flowcontrol.apiserver.k8s.io/flowschemas"
                | "flowcontrol.apiserver.k8s.io/prioritylevelconfigurations"
        )
        || resource.id().starts_with("admissionregistration.k8s.io/")
}

/// How long a deletion leaves an object to end by itself.
pub(crate) fn grace_seconds(id: &str, object: &Value, asked: Option<i64>) -> i64 {
    if id != "/pods" {
        return 0;
    }
    let unscheduled = object.str_at(&["spec", "nodeName"]).is_none_or(str::is_empty);
    let finished = matches!(object.str_at(&["status", "phase"]), Some("Succeeded" | "Failed"));
    if unscheduled || finished {
        return 0;
    }
    let own = object.at(&["spec", "terminationGracePeriodSeconds"]).and_then(Value::as_i64).unwrap_or(30);
    asked.unwrap_or(own).max(0)
}

pub(crate) fn on_deletion_mark(id: &str, object: &mut Value) {
    if id == "/namespaces" {
        *object.entry_at(&["status", "phase"]) = "Terminating".into();
    }
}

/// Refuses deletions that would break the cluster.
pub(crate) fn check_delete(call: &Call) -> Result<(), Failure> {
    let is_protected = call.resource.id() == "/namespaces"
        && matches!(call.name(), "default" | "kube-system" | "kube-public");
    if is_protected {
        return Err(Failure::forbidden(call.about(), call.name(), "this namespace may not be deleted"));
    }
    Ok(())
}
