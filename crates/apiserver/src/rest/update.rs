//! Replacing objects, whole or a subresource of them, and what every change to an existing object goes through.

use std::sync::Arc;

use gantry_apimachinery::Value;

use crate::convert;
use crate::kinds;
use crate::query;
use crate::rbac;
use crate::rest::write::{self, Written};
use crate::rest::{Answer, Call, body, create, owners};
use crate::status::{Failure, FieldError};
use crate::store::{Encoded, Expect, Object, WriteError};

/// A change that does not name the version it was made from is tried again this often when others write too.
const ATTEMPTS: usize = 50;

/// Metadata that only the server sets.
const SERVER_FIELDS: [&str; 5] =
    ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"];

pub(crate) async fn replace(call: &Call) -> Answer {
    let dry_run = write::is_dry_run(call, "UpdateOptions")?;
    owners::check_options(call, "UpdateOptions", false)?;
    let mut object = body::object(call, &call.resource.kind, &call.resource.api_version())?;
    check_identity(call, &mut object)?;
    let create_allowed = kinds::creates_on_update(call.resource.id()) && call.path.subresource.is_none();
    if create_allowed && call.server.store.get(&call.resource.collection, &call.key()).is_none() {
        call.authorize_create()?;
        body::metadata_mut(&mut object).remove("resourceVersion");
        let written = create::create_object(call, object, dry_run).await?;
        return Ok(write::answer(call, 201, written));
    }
    let written = change(call, dry_run, |_| Ok(object.clone())).await?;
    Ok(write::answer(call, 200, written))
}

/// Name and namespace of the body are those of the path.
pub(crate) fn check_identity(call: &Call, object: &mut Value) -> Result<(), Failure> {
    create::check_namespace_field(call, object)?;
    let metadata = body::metadata_mut(object);
    let name = metadata.get("name").and_then(Value::as_str).unwrap_or_default();
    if !name.is_empty() && name != call.name() {
        return Err(Failure::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            call.name()
        )));
    }
    metadata.insert("name", call.name());
    Ok(())
}

/// Changes the object of the call: `make` turns what is served now (in the version of the call's resource) into what
/// it should be. It is asked again when someone else wrote in between.
pub(crate) async fn change(
    call: &Call,
    dry_run: bool,
    make: impl Fn(&Value) -> Result<Value, Failure>,
) -> Result<Written, Failure> {
    change_through(call, dry_run, false, make).await
}

/// The same, perhaps through the scale of the object: that is told apart in who owns what.
pub(crate) async fn change_through(
    call: &Call,
    dry_run: bool,
    through_scale: bool,
    make: impl Fn(&Value) -> Result<Value, Failure>,
) -> Result<Written, Failure> {
    let resource = &call.resource;
    for _ in 0..ATTEMPTS {
        let Some(current) = call.server.store.get(&resource.collection, &call.key()) else {
            return Err(Failure::not_found(call.about(), call.name()));
        };
        let old = current.value();
        let served = convert::from_stored(resource, old.clone());
        let mut new = make(&served)?;
        let asked_version = new.str_at(&["metadata", "resourceVersion"]).unwrap_or_default().to_owned();
        check_preconditions(call, &new, &current, &old)?;
        convert::to_stored(resource, &mut new);
        kinds::set_defaults(resource, &mut new);
        if !call.is_apply() {
            owners::of_updated(call, &mut new, &old, through_scale);
        }
        merge_unchangeable(call, &mut new, &old);
        kinds::prepare_update(call, &mut new, &old)?;
        set_generation(call, &mut new, &old);
        let mut errors = metadata_errors(&new, &old);
        errors.extend(kinds::validate(resource, &new, Some(&old)));
        if !errors.is_empty() {
            return Err(Failure::invalid(call.about(), call.name(), errors));
        }
        rbac::check_write(call, &new, Some(&old))?;
        let encoded = Encoded::new(&new);
        if encoded.is_same_as(&current) && !write::may_go(&new) {
            return Ok(Written::Stored(current));
        }
        if dry_run {
            return Ok(Written::Dry(encoded.at_revision(current.revision)));
        }
        let expect = Expect::Revision(current.revision);
        let result = if write::may_go(&new) {
            // The object ends with this change; the answer shows its last state.
            write::remove(call, call.key(), expect, encoded).await.map(Written::Removed)
        } else {
            write::put(call, call.key(), expect, encoded).await.map(Written::Stored)
        };
        match result {
            Ok(written) => {
                kinds::after_update(&call.server, resource.id(), &old, &new);
                return Ok(written);
            }
            Err(WriteError::Conflict(_)) if asked_version.is_empty() || asked_version == "0" => continue,
            // The version was right when it was read above; what is stored now is newer.
            Err(WriteError::Conflict(_)) => continue,
            Err(error) => return Err(write::storage_failure(call, call.name(), error)),
        }
    }
    Err(Failure::modified(call.about(), call.name()))
}

fn check_preconditions(call: &Call, new: &Value, current: &Arc<Object>, old: &Value) -> Result<(), Failure> {
    let version = new.str_at(&["metadata", "resourceVersion"]);
    let version = query::parse_revision(version)?.filter(|version| *version != 0);
    if version.is_some_and(|version| version != current.revision) {
        return Err(Failure::modified(call.about(), call.name()));
    }
    let asked_uid = new.str_at(&["metadata", "uid"]).unwrap_or_default();
    let uid = old.str_at(&["metadata", "uid"]).unwrap_or_default();
    if !asked_uid.is_empty() && asked_uid != uid {
        let path = format!("/registry{}/{}", storage_path(call), call.name());
        let why = format!(
            "StorageError: invalid object, Code: 4, Key: {path}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: {asked_uid}, UID in object meta: {uid}"
        );
        return Err(Failure::conflict(call.about(), call.name(), &why));
    }
    Ok(())
}

fn storage_path(call: &Call) -> String {
    let group =
        if call.resource.group.contains('.') { format!("/{}", call.resource.group) } else { String::new() };
    let namespace =
        if call.namespace().is_empty() { String::new() } else { format!("/{}", call.namespace()) };
    format!("{group}/{}{namespace}", call.resource.plural)
}

/// What a client cannot change comes from the old object: server-set metadata, and the parts that belong to another
/// subresource than the one being written.
fn merge_unchangeable(call: &Call, new: &mut Value, old: &Value) {
    let old_metadata = old.get("metadata").cloned().unwrap_or_default();
    match call.path.subresource.as_deref() {
        Some("status") => {
            let status = new.as_object_mut().and_then(|map| map.remove("status"));
            let mut metadata = new.get("metadata").cloned().unwrap_or_default();
            *new = old.clone();
            // Built-in kinds take annotations and finalizers with their status, custom ones only who owns what.
            for (field, value) in metadata.as_object_mut().map(std::mem::take).unwrap_or_default() {
                let taken = match field.as_str() {
                    "managedFields" => true,
                    "annotations" | "finalizers" | "ownerReferences" => call.resource.custom.is_none(),
                    _ => false,
                };
                if taken {
                    body::metadata_mut(new).insert(field, value);
                }
            }
            if let Some(map) = new.as_object_mut() {
                match status.filter(|status| !status.is_null()) {
                    Some(status) => drop(map.insert("status", status)),
                    None => drop(map.remove("status")),
                }
            }
            return;
        }
        Some("finalize") => {
            let finalizers = new.at(&["spec", "finalizers"]).cloned().unwrap_or_default();
            restore(new, old);
            match finalizers.as_array().is_some_and(|list| !list.is_empty()) {
                true => *new.entry_at(&["spec", "finalizers"]) = finalizers,
                false => {
                    if let Some(spec) = new.get_mut("spec").and_then(Value::as_object_mut) {
                        spec.remove("finalizers");
                    }
                }
            }
            return;
        }
        Some(_) => {
            // `resize` and `ephemeralcontainers` change the pod's spec alone.
            let spec = new.get("spec").cloned();
            restore(new, old);
            if let Some((map, spec)) = new.as_object_mut().zip(spec) {
                map.insert("spec", spec);
            }
            return;
        }
        None => {}
    }
    if call.resource.has_status()
        && let Some(map) = new.as_object_mut()
    {
        match old.get("status") {
            Some(status) => drop(map.insert("status", status.clone())),
            None => drop(map.remove("status")),
        }
    }
    let metadata = body::metadata_mut(new);
    for field in SERVER_FIELDS {
        match old_metadata.get(field) {
            Some(value) => drop(metadata.insert(field, value.clone())),
            None => drop(metadata.remove(field)),
        }
    }
    metadata.remove("selfLink");
}

/// The old object, with the new one's owners.
fn restore(new: &mut Value, old: &Value) {
    let owners = new.at(&["metadata", "managedFields"]).cloned();
    *new = old.clone();
    if let Some(owners) = owners {
        body::metadata_mut(new).insert("managedFields", owners);
    }
}

/// A change of what is wanted counts up the generation; status and metadata do not.
fn set_generation(call: &Call, new: &mut Value, old: &Value) {
    let Some(generation) = old.at(&["metadata", "generation"]).and_then(Value::as_i64) else { return };
    let wanted = |object: &Value| -> Value {
        let mut wanted = object.clone();
        if let Some(map) = wanted.as_object_mut() {
            for field in ["metadata", "status", "apiVersion", "kind"] {
                map.remove(field);
            }
        }
        wanted
    };
    let changed = call.path.subresource.as_deref() != Some("status") && wanted(new) != wanted(old);
    let generation = if changed { generation + 1 } else { generation };
    body::metadata_mut(new).insert("generation", generation);
}

fn metadata_errors(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if old.at(&["metadata", "deletionTimestamp"]).is_some() {
        let finalizers = |object: &Value| -> Vec<String> {
            let list =
                object.at(&["metadata", "finalizers"]).and_then(Value::as_array).cloned().unwrap_or_default();
            list.iter().filter_map(|finalizer| finalizer.as_str().map(str::to_owned)).collect()
        };
        let before = finalizers(old);
        let added: Vec<String> =
            finalizers(new).into_iter().filter(|finalizer| !before.contains(finalizer)).collect();
        if !added.is_empty() {
            let listed: Vec<String> = added.iter().map(|finalizer| format!("\"{finalizer}\"")).collect();
            let why = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                listed.join(", ")
            );
            // Two layers of Kubernetes check this, and both report.
            errors.push(FieldError::forbidden("metadata.finalizers", &why));
            errors.push(FieldError::forbidden("metadata.finalizers", &why));
        }
    }
    errors
}
