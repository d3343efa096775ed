//! Patching: JSON patch, merge patch, strategic merge patch.

use gantry_apimachinery::{Kind, Value, json_patch, merge_patch, strategic_patch};
use http::header;

use crate::merge_schema::BuiltInTypes;
use crate::negotiate::media_type;
use crate::rest::write;
use crate::rest::{Answer, Call, body, owners, update};
use crate::status::{About, Failure, FieldError};

const REJECTED: &str = "the server rejected our request due to an error in our request";

pub(crate) enum Patch {
    Json(Vec<json_patch::Operation>),
    Merge(Value),
    Strategic(Value),
}

pub(crate) async fn patch(call: &Call) -> Answer {
    let dry_run = write::is_dry_run(call, "PatchOptions")?;
    owners::check_options(call, "PatchOptions", false)?;
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
    check_fields(call, patch, &mut object)?;
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

/// Fields that the kind does not know are dropped, refused or warned about; values of a wrong type are refused.
fn check_fields(call: &Call, patch: &Patch, object: &mut Value) -> Result<(), Failure> {
    let kind = object.str_at(&["kind"]).unwrap_or_default().to_owned();
    let api_version = object.str_at(&["apiVersion"]).unwrap_or_default().to_owned();
    let invalid = |why: &str| {
        let shown = match patch {
            Patch::Merge(patch) | Patch::Strategic(patch) => go_print(patch),
            Patch::Json(_) => String::from_utf8_lossy(&call.body).into_owned(),
        };
        let error = FieldError {
            reason: "FieldValueInvalid",
            field: "patch".into(),
            message: format!("Invalid value: {shown:?}: {why}"),
        };
        Failure::invalid(About { group: "", resource: "", kind: "" }, "", vec![error])
    };
    match body::normalise(call, object, &kind, &api_version) {
        Ok(unknown) if unknown.is_empty() => Ok(()),
        Ok(unknown) => {
            let all: Vec<String> = unknown.iter().map(|path| format!("unknown field \"{path}\"")).collect();
            match call.query.get("fieldValidation") {
                Some("Ignore") => {}
                Some("Strict") => return Err(invalid(&format!("strict decoding error: {}", all.join(", ")))),
                _ => call.warn(all),
            }
            Ok(())
        }
        Err(failure) => {
            let wanted = failure.message.rsplit(" of type ").next().unwrap_or_default().to_owned();
            Err(invalid(&format!("unrecognized type: {wanted}")))
        }
    }
}

/// A value as Go prints a map: keys sorted, no quotes.
fn go_print(value: &Value) -> String {
    match &value.kind {
        Kind::Null => "<nil>".into(),
        Kind::String(text) => text.to_string(),
        Kind::Object(map) => {
            let mut pairs: Vec<String> =
                map.iter().map(|(key, value)| format!("{key}:{}", go_print(value))).collect();
            pairs.sort();
            format!("map[{}]", pairs.join(" "))
        }
        Kind::Array(items) => format!("[{}]", items.iter().map(go_print).collect::<Vec<_>>().join(" ")),
        _ => serde_json::to_string(value).unwrap_or_default(),
    }
}

fn names_version(patch: &Patch) -> bool {
    match patch {
        Patch::Merge(patch) | Patch::Strategic(patch) => {
            patch.str_at(&["metadata", "resourceVersion"]).is_some()
        }
        Patch::Json(_) => true,
    }
}
