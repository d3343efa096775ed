//! Deleting objects: preconditions, finalizers, grace, propagation; one or a whole collection.

use gantry_apimachinery::{Value, time};

use crate::kinds;
use crate::response;
use crate::rest::selection::Selection;
use crate::rest::write::{self};
use crate::rest::{Answer, Call, body, present};
use crate::status::{About, Details, Failure, FieldError, success};
use crate::store::{Encoded, Expect, Object, ObjectKey, WriteError};
use crate::table;

const ATTEMPTS: usize = 50;
const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

/// What a deletion asks for, from the query and the body.
struct Options {
    dry_run: bool,
    grace_seconds: Option<i64>,
    uid: Option<String>,
    revision: Option<u64>,
    propagation: Option<Propagation>,
}

#[derive(Clone, Copy, PartialEq)]
enum Propagation {
    Foreground,
    Background,
    Orphan,
}

pub(crate) async fn delete(call: &Call) -> Answer {
    let options = options(call)?;
    kinds::check_delete(call)?;
    match delete_one(call, call.key(), &options).await? {
        Some((object, true)) if !kinds::returns_deleted(call.resource.id()) => {
            let uid = object.value().str_at(&["metadata", "uid"]).unwrap_or_default().to_owned();
            let details = Details {
                name: call.name().into(),
                group: call.resource.group.to_string(),
                kind: call.resource.plural.to_string(),
                uid,
                ..Details::default()
            };
            Ok(response::negotiated(200, call.accepted, response::to_json(&success(details)).into()))
        }
        Some((object, _)) => Ok(present::object(call, 200, &object)),
        None => Err(Failure::not_found(call.about(), call.name())),
    }
}

pub(crate) async fn delete_collection(call: &Call) -> Answer {
    let options = options(call)?;
    let selection = Selection::parse(&call.query, &call.resource)?;
    let (listing, _) = call.server.store.list(
        &call.resource.collection,
        call.path.namespace.as_deref(),
        None,
        usize::MAX,
        |object| selection.matches(object),
    );
    let mut deleted = Vec::new();
    for object in &listing.objects {
        match delete_one(call, object.key.clone(), &options).await? {
            Some((object, _)) => deleted.push(object),
            // Someone else was faster.
            None => continue,
        }
    }
    let meta =
        table::ListMeta { revision: call.server.store.revision().to_string(), ..table::ListMeta::default() };
    Ok(present::list(call, &deleted, &meta))
}

/// Deletes one object or marks it for deletion. Gives its last state and whether it is gone; `None` if there is none.
async fn delete_one(
    call: &Call,
    key: ObjectKey,
    options: &Options,
) -> Result<Option<(std::sync::Arc<Object>, bool)>, Failure> {
    let resource = &call.resource;
    for _ in 0..ATTEMPTS {
        let Some(current) = call.server.store.get(&resource.collection, &key) else { return Ok(None) };
        let mut object = current.value();
        check_preconditions(call, &object, &current, options)?;
        let was_deleting = object.at(&["metadata", "deletionTimestamp"]).is_some();
        let graceful = mark(call, &mut object, options, was_deleting);
        let gone = write::may_go(&object) && !graceful;
        if options.dry_run {
            return Ok(Some((current, gone)));
        }
        let expect = Expect::Revision(current.revision);
        if gone && !was_deleting {
            // Removed at once: watchers see the object as it was, not a mark that nobody could have seen.
            object = current.value();
        }
        let encoded = Encoded::new(&object);
        if !gone && encoded.is_same_as(&current) {
            return Ok(Some((current, false)));
        }
        let result = if gone {
            write::remove(call, key.clone(), expect, encoded).await
        } else {
            write::put(call, key.clone(), expect, encoded).await
        };
        match result {
            Ok(object) => return Ok(Some((object, gone))),
            Err(WriteError::Conflict(_)) => continue,
            Err(error) => return Err(write::storage_failure(call, &key.name, error)),
        }
    }
    Err(Failure::modified(call.about(), &key.name))
}

/// Sets what a deletion sets on the object. True if the object must stay although nothing but time holds it.
fn mark(call: &Call, object: &mut Value, options: &Options, was_deleting: bool) -> bool {
    let id = call.resource.id();
    let grace = kinds::grace_seconds(id, object, options.grace_seconds);
    let now_ms = call.server.clock.now_ms();
    let metadata = body::metadata_mut(object);
    let finalizers = metadata.get("finalizers").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut wanted: Vec<Value> = finalizers
        .iter()
        .filter(|finalizer| {
            !matches!(finalizer.as_str(), Some(FOREGROUND | ORPHAN)) || options.propagation.is_none()
        })
        .cloned()
        .collect();
    match options.propagation {
        Some(Propagation::Foreground) => wanted.push(FOREGROUND.into()),
        Some(Propagation::Orphan) => wanted.push(ORPHAN.into()),
        Some(Propagation::Background) | None => {}
    }
    if wanted.is_empty() {
        metadata.remove("finalizers");
    } else {
        metadata.insert("finalizers", wanted);
    }
    let previous_grace = metadata.get("deletionGracePeriodSeconds").and_then(Value::as_i64);
    if was_deleting {
        // A second deletion may only shorten the time that is left.
        if let (Some(previous), Some(_)) = (previous_grace, options.grace_seconds)
            && grace < previous
        {
            metadata.insert("deletionGracePeriodSeconds", grace);
            metadata.insert("deletionTimestamp", time::format_time(now_ms + grace * 1000));
        }
    } else {
        metadata.insert("deletionTimestamp", time::format_time(now_ms + grace * 1000));
        if id != "/namespaces" {
            metadata.insert("deletionGracePeriodSeconds", grace);
        }
        if let Some(generation) = metadata.get("generation").and_then(Value::as_i64) {
            metadata.insert("generation", generation + 1);
        }
        kinds::on_deletion_mark(id, object);
    }
    object.at(&["metadata", "deletionGracePeriodSeconds"]).and_then(Value::as_i64).unwrap_or(0) > 0
}

fn check_preconditions(
    call: &Call,
    object: &Value,
    current: &Object,
    options: &Options,
) -> Result<(), Failure> {
    let uid = object.str_at(&["metadata", "uid"]).unwrap_or_default();
    // Here Kubernetes names the kind where it names the resource elsewhere.
    let about =
        About { group: &call.resource.group, resource: &call.resource.kind, kind: &call.resource.kind };
    if let Some(asked) = options.uid.as_deref().filter(|asked| *asked != uid) {
        let why = format!(
            "the UID in the precondition ({asked}) does not match the UID in record ({uid}). The object might have been deleted and then recreated"
        );
        return Err(Failure::conflict(about, &current.key.name, &why));
    }
    if let Some(asked) = options.revision.filter(|asked| *asked != current.revision) {
        let why = format!(
            "the ResourceVersion in the precondition ({asked}) does not match the ResourceVersion in record ({}). The object might have been modified",
            current.revision
        );
        return Err(Failure::conflict(about, &current.key.name, &why));
    }
    Ok(())
}

fn options(call: &Call) -> Result<Options, Failure> {
    let body = if call.body.is_empty() { Value::object() } else { body::decode(call, "DeleteOptions")? };
    let about = About { group: "meta.k8s.io", resource: "", kind: "DeleteOptions" };
    let propagation = body
        .str_at(&["propagationPolicy"])
        .or(call.query.get("propagationPolicy"))
        .filter(|policy| !policy.is_empty());
    let propagation = match propagation {
        None => match body.get("orphanDependents").and_then(Value::as_bool) {
            Some(true) => Some(Propagation::Orphan),
            Some(false) => Some(Propagation::Background),
            None => None,
        },
        Some("Foreground") => Some(Propagation::Foreground),
        Some("Background") => Some(Propagation::Background),
        Some("Orphan") => Some(Propagation::Orphan),
        Some(other) => {
            let error = FieldError::not_supported(
                "propagationPolicy",
                &other.into(),
                &["Foreground", "Background", "Orphan", "nil"],
            );
            return Err(Failure::invalid(about, "", vec![error]));
        }
    };
    let in_body = body
        .get("dryRun")
        .and_then(Value::as_array)
        .is_some_and(|values| values.iter().any(|value| value.as_str() == Some("All")));
    Ok(Options {
        dry_run: in_body || write::is_dry_run(call, "DeleteOptions")?,
        grace_seconds: body
            .get("gracePeriodSeconds")
            .and_then(Value::as_i64)
            .or(call.query.number("gracePeriodSeconds"))
            .map(|seconds| seconds.clamp(0, i64::from(i32::MAX))),
        uid: body.str_at(&["preconditions", "uid"]).map(str::to_owned),
        revision: crate::query::parse_revision(body.str_at(&["preconditions", "resourceVersion"]))?,
        propagation,
    })
}
