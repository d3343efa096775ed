//! What creating, replacing, patching and deleting share: namespaces, dry runs, and committing to the store.

use std::sync::Arc;

use bytes::Bytes;
use gantry_apimachinery::{Value, time};
use http::Response;

use crate::convert;
use crate::crd;
use crate::kinds;
use crate::query;
use crate::response;
use crate::rest::{Call, present};
use crate::service::ResponseBody;
use crate::status::{Cause, Failure};
use crate::store::{Change, Encoded, Expect, Object, ObjectKey, Write, WriteError};

/// What became of a write.
pub(crate) enum Written {
    /// Stored, or found unchanged.
    Stored(Arc<Object>),
    /// Stored and, as nothing held it any more, removed: its last state.
    Removed(Arc<Object>),
    /// A dry run: what would have been stored; a change has the revision that the object has.
    Dry(Bytes),
}

pub(crate) fn now(call: &Call) -> String {
    time::format_time(call.server.clock.now_ms())
}

/// The answer to a write.
pub(crate) fn answer(call: &Call, code: u16, written: Written) -> Response<ResponseBody> {
    match written {
        Written::Stored(object) | Written::Removed(object) => present::object(call, code, &object),
        Written::Dry(json) => {
            if call.resource.api_version() == call.resource.stored_version {
                return response::negotiated(code, call.accepted, json);
            }
            let value: Value = serde_json::from_slice(&json).unwrap_or_default();
            let converted = convert::from_stored(&call.resource, value);
            response::negotiated(code, call.accepted, response::to_json(&converted).into())
        }
    }
}

/// Refuses a write into a namespace that is missing or, for a creation, ending.
pub(crate) fn check_namespace(call: &Call, name: &str, creating: bool) -> Result<(), Failure> {
    if !call.resource.namespaced || !creating {
        return Ok(());
    }
    let namespace = call.namespace();
    let key = ObjectKey { namespace: "".into(), name: namespace.into() };
    let Some(object) = call.server.store.get("/namespaces", &key) else {
        let about = crate::status::About { group: "", resource: "namespaces", kind: "Namespace" };
        return Err(Failure::not_found(about, namespace));
    };
    if object.value().at(&["metadata", "deletionTimestamp"]).is_none() {
        return Ok(());
    }
    // Events may still tell why a namespace does not go.
    let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
    let mut failure = Failure::forbidden(call.about(), name, &why);
    if let Some(details) = &mut failure.details {
        details.causes.push(Cause {
            reason: "NamespaceTerminating",
            message: format!("namespace {namespace} is being terminated"),
            field: "metadata.namespace".into(),
        });
    }
    Err(failure)
}

pub(crate) fn is_dry_run(call: &Call, options: &str) -> Result<bool, Failure> {
    query::dry_run(&call.query, options)
}

pub(crate) fn storage_failure(call: &Call, name: &str, error: WriteError) -> Failure {
    match error {
        WriteError::Conflict(_) => Failure::modified(call.about(), name),
        WriteError::Storage(error) => Failure::internal(format!(
            "writing {} \"{name}\" to disk failed: {error}",
            call.about().qualified_resource()
        )),
        WriteError::Closed => Failure::unavailable("the server is shutting down"),
    }
}

/// Commits an object that is in its stored version.
pub(crate) async fn put(
    call: &Call,
    key: ObjectKey,
    expect: Expect,
    encoded: Encoded,
) -> Result<Arc<Object>, WriteError> {
    commit(call, key, expect, Change::Put(encoded)).await
}

pub(crate) async fn remove(
    call: &Call,
    key: ObjectKey,
    expect: Expect,
    last: Encoded,
) -> Result<Arc<Object>, WriteError> {
    let object = commit(call, key, expect, Change::Delete(last)).await?;
    kinds::after_removal(&call.server, call.resource.id(), &object);
    Ok(object)
}

async fn commit(
    call: &Call,
    key: ObjectKey,
    expect: Expect,
    change: Change,
) -> Result<Arc<Object>, WriteError> {
    let write = Write { collection: call.resource.collection.clone(), key, expect, change };
    let object = call.server.store.commit(write).await?;
    call.server.authorizer.after_write(call.resource.id());
    crd::after_write(&call.server, call.resource.id(), &object);
    Ok(object)
}

/// True when an object that is being deleted is held by nothing any more.
pub(crate) fn may_go(object: &Value) -> bool {
    let metadata = object.get("metadata");
    let is_empty = |field: &str| {
        metadata.and_then(|metadata| metadata.get(field)).and_then(Value::as_array).is_none_or(Vec::is_empty)
    };
    let grace =
        metadata.and_then(|metadata| metadata.get("deletionGracePeriodSeconds")).and_then(Value::as_i64);
    let namespace_content =
        object.at(&["spec", "finalizers"]).filter(|_| object.str_at(&["kind"]) == Some("Namespace"));
    metadata.is_some_and(|metadata| metadata.get("deletionTimestamp").is_some())
        && is_empty("finalizers")
        && grace.unwrap_or(0) == 0
        && namespace_content.and_then(Value::as_array).is_none_or(Vec::is_empty)
}
