//! Server-side apply: a configuration laid over an object, or the object made from it.

use gantry_apimachinery::Value;

use crate::rest::write;
use crate::rest::{Answer, Call, body, create, owners, update};
use crate::status::Failure;

/// How often an object may come and go between looking for it and applying to it.
const ATTEMPTS: usize = 5;

pub(crate) const CONTENT_TYPE: &str = "application/apply-patch+yaml";

pub(crate) async fn apply(call: &Call) -> Answer {
    let dry_run = write::is_dry_run(call, "PatchOptions")?;
    owners::check_options(call, "PatchOptions", true)?;
    let config = configuration(call)?;
    for _ in 0..ATTEMPTS {
        let exists = call.server.store.get(&call.resource.collection, &call.key()).is_some();
        if exists {
            let written =
                update::change(call, dry_run, |served| owners::apply(call, Some(served), &config)).await;
            match written {
                Err(failure) if failure.code == 404 => continue,
                written => return Ok(write::answer(call, 200, written?)),
            }
        }
        if call.path.subresource.is_some() {
            return Err(Failure::not_found(call.about(), call.name()));
        }
        if config.str_at(&["metadata", "resourceVersion"]).is_some_and(|version| !version.is_empty()) {
            return Err(Failure::modified(call.about(), call.name()));
        }
        call.authorize_create()?;
        let mut object = owners::apply(call, None, &config)?;
        body::metadata_mut(&mut object).insert("name", call.name());
        match create::create_object(call, object, dry_run).await {
            Err(failure) if failure.reason == "AlreadyExists" => continue,
            written => return Ok(write::answer(call, 201, written?)),
        }
    }
    Err(Failure::modified(call.about(), call.name()))
}

/// The body: YAML or JSON of the kind and version of the path.
fn configuration(call: &Call) -> Result<Value, Failure> {
    let text = std::str::from_utf8(&call.body)
        .map_err(|_| Failure::bad_request("error decoding YAML: the body is not UTF-8"))?;
    let mut config = crate::yaml::parse(text)
        .map_err(|error| Failure::bad_request(format!("error decoding YAML: {error}")))?;
    if config.as_object().is_none() {
        return Err(Failure::bad_request("error decoding YAML: the configuration is no object"));
    }
    body::check_limits(call, &config)?;
    let expected = call.resource.api_version();
    let given = config.str_at(&["apiVersion"]).unwrap_or_default();
    if given != expected {
        return Err(Failure::bad_request(format!(
            "Incorrect version specified in apply patch. Specified patch version: {given}, expected: {expected}"
        )));
    }
    let kind = config.str_at(&["kind"]).unwrap_or_default();
    if kind != call.resource.kind {
        return Err(Failure::bad_request(format!(
            "invalid object type: {kind}, expected: {}",
            call.resource.kind
        )));
    }
    let managed = config.at(&["metadata", "managedFields"]);
    if managed.is_some_and(|managed| !managed.is_null()) {
        return Err(Failure::bad_request("metadata.managedFields must be nil"));
    }
    let name = config.str_at(&["metadata", "name"]).unwrap_or_default();
    if !name.is_empty() && name != call.name() {
        return Err(Failure::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            call.name()
        )));
    }
    let namespace = config.str_at(&["metadata", "namespace"]).unwrap_or_default();
    if !namespace.is_empty() && namespace != call.namespace() {
        return Err(Failure::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    if let Some(map) = config.as_object_mut() {
        map.retain(|_, value| !value.is_null());
    }
    Ok(config)
}
