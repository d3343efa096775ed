//! Request bodies: JSON or YAML into an object tree, checked for kind and version.

use gantry_apimachinery::types::{self, Types};
use gantry_apimachinery::{Kind, Map, Value, protobuf, structural};
use http::header;

use crate::negotiate::media_type;
use crate::rest::Call;
use crate::status::Failure;

pub(crate) const ACCEPTED_TYPES: &str =
    "application/json, application/yaml, application/vnd.kubernetes.protobuf";

/// The body as an object of `kind` in `api_version`; both may be left out of the body and are then filled in.
pub(crate) fn object(call: &Call, kind: &str, api_version: &str) -> Result<Value, Failure> {
    let mut object = decode(call, kind)?;
    check_type(&mut object, kind, api_version)?;
    let duplicates = duplicate_fields(call);
    let unknown = normalise(call, &mut object, kind, api_version)?;
    let complaints = duplicates
        .into_iter()
        .chain(unknown.into_iter().map(|path| format!("unknown field \"{path}\"")))
        .collect();
    judge(call, kind, complaints)?;
    Ok(object)
}

/// Drops what a kind does not know and gives the paths; a custom resource gets its defaults.
pub(crate) fn normalise(
    call: &Call,
    object: &mut Value,
    kind: &str,
    api_version: &str,
) -> Result<Vec<String>, Failure> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let refused = |mismatch: types::Mismatch| {
        Failure::bad_request(format!(
            "{kind} in version \"{version}\" cannot be handled as a {kind}: {mismatch}"
        ))
    };
    let custom = call.resource.custom.as_deref().filter(|_| kind == call.resource.kind);
    if let Some(custom) = custom {
        return match custom.structural() {
            Some(schema) => structural::fit(object, schema).map_err(refused),
            None => Ok(Vec::new()),
        };
    }
    match Types::built_in().kind(group, version, kind) {
        Some(of) => types::normalise(object, of).map_err(refused),
        None => Ok(Vec::new()),
    }
}

/// Refuses or warns about fields, as `fieldValidation` asks; a warning where it asks nothing.
fn judge(call: &Call, kind: &str, complaints: Vec<String>) -> Result<(), Failure> {
    if complaints.is_empty() {
        return Ok(());
    }
    match call.query.get("fieldValidation") {
        Some("Ignore") => {}
        Some("Strict") => {
            let version = &call.resource.version;
            let all = complaints.join(", ");
            return Err(Failure::bad_request(format!(
                "{kind} in version \"{version}\" cannot be handled as a {kind}: strict decoding error: {all}"
            )));
        }
        _ => call.warn(complaints),
    }
    Ok(())
}

/// Keys that a JSON body has twice in one object.
fn duplicate_fields(call: &Call) -> Vec<String> {
    match call.header(header::CONTENT_TYPE).map_or("application/json", media_type) {
        "application/json" | "" => crate::duplicates::find(&call.body),
        _ => Vec::new(),
    }
}

pub(crate) fn decode(call: &Call, kind: &str) -> Result<Value, Failure> {
    let content_type = call.header(header::CONTENT_TYPE).map_or("application/json", media_type);
    let object = match content_type {
        "application/json" | "" => parse_json(&call.body, kind)?,
        "application/yaml" | "application/x-yaml" => parse_yaml(&call.body)?,
        "application/vnd.kubernetes.protobuf" => {
            protobuf::decode(&call.body, "", kind).map_err(|error| Failure::bad_request(error.to_string()))?
        }
        _ => {
            return Err(Failure::unsupported_media_type(format!(
                "the body of the request was in an unknown format - accepted media types include: {ACCEPTED_TYPES}"
            )));
        }
    };
    check_limits(call, &object)?;
    match object.kind {
        Kind::Object(_) => Ok(object),
        _ => Err(Failure::bad_request(format!(
            "the object provided is unrecognized (must be of type {kind}): a {} is no object",
            object.type_name()
        ))),
    }
}

/// Refuses what is too deep or too wide to be walked at leisure.
pub(crate) fn check_limits(call: &Call, object: &Value) -> Result<(), Failure> {
    if depth(object) > call.server.limits.depth {
        return Err(Failure::bad_request(format!(
            "the object nests deeper than {} levels",
            call.server.limits.depth
        )));
    }
    if largest_map(object) > call.server.limits.map_keys {
        return Err(Failure::bad_request(format!(
            "a map in the object has more than {} keys",
            call.server.limits.map_keys
        )));
    }
    Ok(())
}

fn parse_json(body: &[u8], kind: &str) -> Result<Value, Failure> {
    serde_json::from_slice(body).map_err(|error| {
        let shown: String = String::from_utf8_lossy(body).chars().take(100).collect();
        let why = crate::go_json::syntax_error(body, &error);
        Failure::bad_request(format!(
            "the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; json parse error: {why} ({shown})"
        ))
    })
}

fn parse_yaml(body: &[u8]) -> Result<Value, Failure> {
    let text = std::str::from_utf8(body).map_err(|_| Failure::bad_request("yaml: the body is not UTF-8"))?;
    crate::yaml::parse(text)
        .map_err(|error| Failure::bad_request(format!("error converting YAML to JSON: {error}")))
}

fn depth(value: &Value) -> usize {
    match &value.kind {
        Kind::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Kind::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn largest_map(value: &Value) -> usize {
    match &value.kind {
        Kind::Array(items) => items.iter().map(largest_map).max().unwrap_or(0),
        Kind::Object(map) => map.values().map(largest_map).max().unwrap_or(0).max(map.len()),
        _ => 0,
    }
}

fn check_type(object: &mut Value, kind: &str, api_version: &str) -> Result<(), Failure> {
    let given_kind = object.str_at(&["kind"]).unwrap_or_default().to_owned();
    let given_version = object.str_at(&["apiVersion"]).unwrap_or_default().to_owned();
    let wrong_kind = !given_kind.is_empty() && given_kind != kind;
    let wrong_version = !given_version.is_empty() && given_version != api_version;
    if wrong_kind || wrong_version {
        let given_kind = if given_kind.is_empty() { kind.to_owned() } else { given_kind };
        let given_version = if given_version.is_empty() { api_version.to_owned() } else { given_version };
        return Err(mismatch(&given_kind, &given_version, kind, api_version));
    }
    if let Some(map) = object.as_object_mut() {
        map.insert("kind", kind);
        map.insert("apiVersion", api_version);
    }
    Ok(())
}

fn mismatch(given_kind: &str, given_version: &str, kind: &str, api_version: &str) -> Failure {
    let (_, given) = given_version.split_once('/').unwrap_or(("", given_version));
    let (group, _) = api_version.split_once('/').unwrap_or(("", api_version));
    if given_kind == kind {
        return Failure::bad_request(format!(
            "the API version in the data ({given_version}) does not match the expected API version ({api_version})"
        ));
    }
    let package = if group.is_empty() { "core" } else { group.split('.').next().unwrap_or(group) };
    Failure::bad_request(format!(
        "{given_kind} in version \"{given}\" cannot be handled as a {kind}: converting ({given}.{given_kind}) to ({package}.{kind}): unknown conversion"
    ))
}

/// The metadata of an object, made if it is missing or null.
pub(crate) fn metadata_mut(object: &mut Value) -> &mut Map {
    let metadata = object.entry_at(&["metadata"]);
    if metadata.as_object().is_none() {
        metadata.kind = Kind::Object(Map::new());
    }
    metadata.as_object_mut().expect("made an object above")
}
