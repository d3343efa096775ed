//! Patching: JSON patch, merge patch, strategic merge patch.

use gantry_apimachinery::{Value, json_patch, merge_patch, strategic_patch};
use http::header;

use crate::merge_schema::BuiltInTypes;
use crate::negotiate::media_type;
use crate::rest::write;
use crate::rest::{Answer, Call, update};
use crate::status::Failure;

const REJECTED: &str = "the server rejected our request due to an error in our request";

pub(crate) enum Patch {
    Json(Vec<json_patch::Operation>),
    Merge(Value),
    Strategic(Value),
}

pub(crate) async fn patch(call: &Call) -> Answer {
    let dry_run = write::is_dry_run(call, "PatchOptions")?;
    let patch = parse(call)?;
    let written = update::change(call, dry_run, |served| apply(call, &patch, served)).await?;
    Ok(write::answer(call, 200, written))
}

pub(crate) fn parse(call: &Call) -> Result<Patch, Failure> {
    let content_type = call.header(header::CONTENT_TYPE).map_or("", media_type);
    let decode = || -> Result<Value, Failure> {
        serde_json::from_slice(&call.body).map_err(|error| {
            Failure::bad_request(format!(
                "error decoding patch: {}",
                crate::go_json::syntax_error(&call.body, &error)
            ))
        })
    };
    match content_type {
        "application/json-patch+json" => {
            let operations = json_patch::parse(&decode()?)
                .map_err(|error| Failure::bad_request(format!("error decoding patch: {error}")))?;
            Ok(Patch::Json(operations))
        }
        "application/merge-patch+json" => Ok(Patch::Merge(decode()?)),
        "application/strategic-merge-patch+json" => {
            if call.resource.custom.is_some() {
                return Err(unsupported());
            }
            Ok(Patch::Strategic(decode()?))
        }
        "application/apply-patch+yaml" => Err(Failure::unsupported_media_type(
            "server-side apply is not supported by this server yet; use client-side apply (kubectl apply without --server-side)",
        )),
        _ => Err(unsupported()),
    }
}

fn unsupported() -> Failure {
    let mut failure = Failure::unsupported_media_type("415: Unsupported Media Type");
    failure.details = Some(Default::default());
    failure
}

pub(crate) fn apply(call: &Call, patch: &Patch, served: &Value) -> Result<Value, Failure> {
    let mut object = served.clone();
    match patch {
        Patch::Json(operations) => {
            json_patch::apply(&mut object, operations).map_err(|_| Failure::unprocessable(REJECTED))?
        }
        Patch::Merge(patch) => {
            if patch.as_object().is_none() {
                return Err(Failure::bad_request("a merge patch must be an object"));
            }
            merge_patch(&mut object, patch.clone());
        }
        Patch::Strategic(patch) => {
            let schema = BuiltInTypes::new();
            let of = schema.of_kind(&call.resource.api_version(), &call.resource.kind);
            strategic_patch::strategic_patch(&mut object, patch, &schema, &of)
                .map_err(|error| Failure::unprocessable(error.to_string()))?;
        }
    }
    let named = |field: &str| object.str_at(&[field]).map(str::to_owned);
    if named("kind").as_deref() != served.str_at(&["kind"])
        || named("apiVersion").as_deref() != served.str_at(&["apiVersion"])
    {
        return Err(Failure::bad_request("a patch may not change apiVersion or kind"));
    }
    update::check_identity(call, &mut object)?;
    // Unless the patch itself names a version, it applies to whatever is there.
    let patched = object.str_at(&["metadata", "resourceVersion"]).map(str::to_owned);
    if patched.as_deref() == served.str_at(&["metadata", "resourceVersion"])
        && !names_version(patch)
        && let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut)
    {
        metadata.remove("resourceVersion");
    }
    Ok(object)
}

fn names_version(patch: &Patch) -> bool {
    match patch {
        Patch::Merge(patch) | Patch::Strategic(patch) => {
            patch.str_at(&["metadata", "resourceVersion"]).is_some()
        }
        Patch::Json(_) => true,
    }
}
