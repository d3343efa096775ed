//! Creating objects.

use gantry_apimachinery::Value;
use gantry_apimachinery::value::SmolStr;

use crate::convert;
use crate::kinds;
use crate::rbac;
use crate::rest::write::{self, Written};
use crate::rest::{Answer, Call, body, owners};
use crate::status::{Failure, FieldError};
use crate::store::{Encoded, Expect, ObjectKey, WriteError};

/// Generated names are tried this often before the client has to.
const NAME_ATTEMPTS: usize = 8;
/// Kubernetes cuts the prefix of a generated name so that the whole is a DNS label.
const GENERATED_PREFIX_MAX: usize = 58;

pub(crate) async fn create(call: &Call) -> Answer {
    if call.path.name.is_some() && call.path.subresource.is_none() {
        return Err(Failure::method_not_allowed());
    }
    let dry_run = write::is_dry_run(call, "CreateOptions")?;
    owners::check_options(call, "CreateOptions", false)?;
    let object = body::object(call, &call.resource.kind, &call.resource.api_version())?;
    let written = create_object(call, object, dry_run).await?;
    Ok(write::answer(call, 201, written))
}

/// Stores an object that is in the version of the call's resource.
pub(crate) async fn create_object(call: &Call, mut object: Value, dry_run: bool) -> Result<Written, Failure> {
    check_namespace_field(call, &mut object)?;
    let metadata = body::metadata_mut(&mut object);
    if metadata
        .get("resourceVersion")
        .and_then(Value::as_str)
        .is_some_and(|version| !version.is_empty() && version != "0")
    {
        return Err(Failure::unclassified("resourceVersion should not be set on objects to be created"));
    }
    let given_name: SmolStr = metadata.get("name").and_then(Value::as_str).unwrap_or_default().into();
    let prefix: SmolStr = metadata.get("generateName").and_then(Value::as_str).unwrap_or_default().into();
    for field in [
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
        "generation",
    ] {
        metadata.remove(field);
    }
    metadata.insert("uid", call.server.random.uid());
    metadata.insert("creationTimestamp", write::now(call));
    write::check_namespace(call, &given_name, true)?;
    convert::to_stored(&call.resource, &mut object);
    let attempts = if given_name.is_empty() && !prefix.is_empty() { NAME_ATTEMPTS } else { 1 };
    let mut last_name = given_name.clone();
    for _ in 0..attempts {
        let mut object = object.clone();
        if given_name.is_empty() && !prefix.is_empty() {
            let kept = prefix
                .char_indices()
                .nth(GENERATED_PREFIX_MAX)
                .map_or(prefix.as_str(), |(end, _)| &prefix[..end]);
            last_name = format!("{kept}{}", call.server.random.suffix()).into();
            body::metadata_mut(&mut object).insert("name", last_name.as_str());
        }
        match store_new(call, object, &last_name, dry_run).await? {
            Some(written) => return Ok(written),
            None => continue,
        }
    }
    Err(Failure::already_exists(call.about(), &last_name))
}

/// `None` if the name is taken.
async fn store_new(
    call: &Call,
    mut object: Value,
    name: &str,
    dry_run: bool,
) -> Result<Option<Written>, Failure> {
    let resource = &call.resource;
    let key = ObjectKey { namespace: call.namespace().into(), name: name.into() };
    // Asked before admission, so that nothing (an address) is taken for an object that cannot be created.
    if !name.is_empty() && call.server.store.get(&resource.collection, &key).is_some() {
        return Ok(None);
    }
    kinds::set_defaults(resource, &mut object);
    if !call.is_apply() {
        owners::of_created(call, &mut object);
    }
    kinds::prepare_create(call, &mut object)?;
    let mut errors = name_errors(call, &object);
    errors.extend(kinds::validate(resource, &object, None));
    if !errors.is_empty() {
        return Err(Failure::invalid(call.about(), name, errors));
    }
    rbac::check_write(call, &object, None)?;
    kinds::admit_create(call, &mut object, dry_run)?;
    let encoded = Encoded::new(&object);
    if dry_run {
        return Ok(Some(Written::Dry(encoded.without_revision())));
    }
    match write::put(call, key, Expect::Absent, encoded).await {
        Ok(object) => Ok(Some(Written::Stored(object))),
        Err(WriteError::Conflict(_)) => {
            kinds::undo_create(&call.server, resource.id(), &object);
            Ok(None)
        }
        Err(error) => {
            kinds::undo_create(&call.server, resource.id(), &object);
            Err(write::storage_failure(call, name, error))
        }
    }
}

/// The object's namespace is the path's; another one in the body is a mistake.
pub(crate) fn check_namespace_field(call: &Call, object: &mut Value) -> Result<(), Failure> {
    let metadata = body::metadata_mut(object);
    let given = metadata.get("namespace").and_then(Value::as_str).unwrap_or_default();
    if !call.resource.namespaced {
        metadata.remove("namespace");
        return Ok(());
    }
    if call.namespace().is_empty() {
        // Creating across namespaces is not a thing: the path must name one.
        return Err(Failure::method_not_allowed());
    }
    if !given.is_empty() && given != call.namespace() {
        return Err(Failure::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    metadata.insert("namespace", call.namespace());
    Ok(())
}

fn name_errors(call: &Call, object: &Value) -> Vec<FieldError> {
    let name = object.str_at(&["metadata", "name"]).unwrap_or_default();
    let generate = object.str_at(&["metadata", "generateName"]).unwrap_or_default();
    if name.is_empty() {
        if generate.is_empty() {
            return vec![FieldError::required("metadata.name", "name or generateName is required")];
        }
        return Vec::new();
    }
    let value = Value::from(name);
    kinds::name_rule(call.resource.id())(name)
        .into_iter()
        .map(|why| FieldError::invalid("metadata.name", &value, &why))
        .collect()
}
