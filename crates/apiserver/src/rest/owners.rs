//! Who owns which field of an object that is written: `metadata.managedFields` on every write.

use gantry_apimachinery::fields::{FieldSet, Node, compare, set_of};
use gantry_apimachinery::managed_fields::{Apply, ApplyError, Conflict, ManagedFields, Manager, Operation};
use gantry_apimachinery::value::SmolStr;
use gantry_apimachinery::{Map, Value};
use http::header;

use crate::convert;
use crate::rest::{Call, body, write};
use crate::status::{About, Cause, Details, Failure, FieldError};

/// Names of managers are at most this long.
const MANAGER_MAX: usize = 128;
/// What `kubectl apply` without `--server-side` remembers in the object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
const KUBECTL: &str = "kubectl";

/// Checks the parameters that say who writes.
pub(crate) fn check_options(call: &Call, options: &str, is_apply: bool) -> Result<(), Failure> {
    let name = call.query.get("fieldManager").unwrap_or_default();
    let mut errors = Vec::new();
    if name.is_empty() && is_apply {
        errors.push(FieldError::required("fieldManager", "is required for apply patch"));
    }
    if name.len() > MANAGER_MAX {
        errors.push(FieldError::too_long("fieldManager", MANAGER_MAX));
    }
    if name.chars().any(char::is_control) {
        errors.push(FieldError::invalid(
            "fieldManager",
            &name.into(),
            "should only contain printable characters",
        ));
    }
    if call.query.get("force").is_some() && !is_apply && options == "PatchOptions" {
        errors.push(FieldError::forbidden("force", "may not be specified for non-apply patch"));
    }
    let validation = call.query.get("fieldValidation").unwrap_or_default();
    if !matches!(validation, "" | "Ignore" | "Warn" | "Strict") {
        errors.push(FieldError::not_supported(
            "fieldValidation",
            &validation.into(),
            &["", "Ignore", "Strict", "Warn"],
        ));
    }
    match errors.is_empty() {
        true => Ok(()),
        false => {
            Err(Failure::invalid(About { group: "meta.k8s.io", resource: "", kind: options }, "", errors))
        }
    }
}

/// The manager that a write names, else the program that writes.
fn manager(call: &Call, operation: Operation, subresource: &str) -> Manager {
    let name = match call.query.get("fieldManager").filter(|name| !name.is_empty()) {
        Some(name) => SmolStr::new(name),
        None => {
            let agent = call.header(header::USER_AGENT).unwrap_or_default();
            let program = agent.split('/').next().unwrap_or_default();
            match program.chars().filter(|c| !c.is_control()).take(MANAGER_MAX).collect::<String>() {
                name if name.is_empty() => "unknown".into(),
                name => name.into(),
            }
        }
    };
    let resource = &call.resource;
    let api_version = match resource.custom {
        Some(_) => resource.api_version().into(),
        None => resource.stored_version.clone(),
    };
    Manager { name, operation, api_version, subresource: subresource.into() }
}

fn node<'c>(call: &'c Call) -> Node<'c> {
    let resource = &call.resource;
    let schema = resource.custom.as_ref().and_then(|custom| custom.structural());
    let (group, version) = resource.stored_version.split_once('/').unwrap_or(("", &resource.stored_version));
    match resource.custom {
        Some(_) => Node::of_kind(&resource.group, &resource.version, &resource.kind, schema),
        None => Node::of_kind(group, version, &resource.kind, None),
    }
}

/// Leaves of a set the fields that a write through this path may change.
fn writable(call: &Call, subresource: Option<&str>, mut set: FieldSet) -> FieldSet {
    match subresource {
        Some("status") if call.resource.custom.is_some() => set.only("f:status"),
        Some("status") => {
            let mut kept = FieldSet::default();
            for step in ["f:status", "f:metadata"] {
                if let Some(below) = set.take(step) {
                    kept.add(step.into(), below);
                }
            }
            kept
        }
        Some("finalize" | "ephemeralcontainers" | "resize") => set.only("f:spec"),
        _ => {
            if call.resource.has_status() {
                set.take("f:status");
            }
            set
        }
    }
}

/// Gives the fields of a new object to who creates it.
pub(crate) fn of_created(call: &Call, object: &mut Value) {
    let given = object.at(&["metadata", "managedFields"]);
    let mut owners = ManagedFields::from_value(given).unwrap_or_default();
    let subresource = call.path.subresource.clone().unwrap_or_default();
    let comparison = compare(&Value::object(), object, node(call));
    let comparison = comparison.map(|set| writable(call, None, set));
    owners.update(comparison, manager(call, Operation::Update, &subresource), Some(write::now(call).into()));
    set(object, &owners);
}

/// Gives the fields of a question, which is answered and not kept, to who asks.
pub(crate) fn of_review(call: &Call, review: &mut Value, api_version: &str, kind: &str) {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let subresource = call.path.subresource.clone().unwrap_or_default();
    let manager =
        Manager { api_version: api_version.into(), ..manager(call, Operation::Update, &subresource) };
    let mut owners = ManagedFields::default();
    let comparison = compare(&Value::object(), review, Node::of_kind(group, version, kind, None));
    owners.update(comparison, manager, Some(write::now(call).into()));
    set(review, &owners);
}

/// Gives the fields that a write changed to who wrote. An object whose owners nobody tracks stays without.
pub(crate) fn of_updated(call: &Call, new: &mut Value, old: &Value, scale: bool) {
    let live = || ManagedFields::from_value(old.at(&["metadata", "managedFields"])).unwrap_or_default();
    let given = new.at(&["metadata", "managedFields"]);
    let subresource = call.path.subresource.as_deref();
    let mut owners = match subresource {
        Some(_) => live(),
        None if is_reset(given) => ManagedFields::default(),
        None => ManagedFields::from_value(given).filter(|owners| !owners.is_empty()).unwrap_or_else(live),
    };
    if !owners.is_empty() {
        let comparison = compare(old, new, node(call)).map(|set| writable(call, subresource, set));
        let (named, time) = match scale {
            // Kubernetes tracks what goes through a scale without a time.
            true => ("scale", None),
            false => (subresource.unwrap_or_default(), Some(write::now(call).into())),
        };
        owners.update(comparison, manager(call, Operation::Update, named), time);
    }
    set(new, &owners);
}

/// A list of one empty entry asks for the owners to be forgotten.
fn is_reset(given: Option<&Value>) -> bool {
    given
        .and_then(Value::as_array)
        .is_some_and(|entries| entries.len() == 1 && entries[0].as_object().is_some_and(Map::is_empty))
}

fn set(object: &mut Value, owners: &ManagedFields) {
    let metadata = body::metadata_mut(object);
    match owners.to_value() {
        Some(value) => drop(metadata.insert("managedFields", value)),
        None => drop(metadata.remove("managedFields")),
    }
}

/// Applies a configuration to a served object (none when it is to be created). The result is in the stored version,
/// with its owners.
pub(crate) fn apply(call: &Call, served: Option<&Value>, config: &Value) -> Result<Value, Failure> {
    let resource = &call.resource;
    let mut config = config.clone();
    let shown = format!(
        "({}/{}; {}, Kind={})",
        call.namespace(),
        config.str_at(&["metadata", "name"]).unwrap_or_default(),
        resource.api_version(),
        resource.kind
    );
    let failed = |why: &dyn std::fmt::Display| {
        Failure::unclassified(format!("failed to create typed patch object {shown}: {why}"))
    };
    check_shape(call, &config).map_err(|why| failed(&why))?;
    if resource.custom.is_none() {
        convert::to_stored(resource, &mut config);
    }
    let mut live = served.cloned().unwrap_or_else(Value::object);
    if served.is_some() && resource.custom.is_none() {
        convert::to_stored(resource, &mut live);
    }
    let given = live.at(&["metadata", "managedFields"]);
    let mut owners = ManagedFields::from_value(given).unwrap_or_default();
    if let Some(metadata) = live.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    let subresource = call.path.subresource.as_deref();
    let node = node(call);
    let manager = manager(call, Operation::Apply, subresource.unwrap_or_default());
    let writable = |set: FieldSet| writable(call, subresource, set);
    let mut apply = Apply {
        live: &live,
        config: &config,
        node,
        manager: manager.clone(),
        now: write::now(call).into(),
        force: call.query.flag("force"),
        writable: &writable,
    };
    let applied = match owners.apply(&apply) {
        Err(ApplyError::Conflicts(mut conflicts)) => {
            if manager.name == KUBECTL {
                let allowed = client_side_fields(&live, node);
                conflicts.retain(|conflict| !allowed.contains(&conflict.path));
            }
            if !conflicts.is_empty() {
                return Err(conflict_failure(&conflicts));
            }
            apply.force = true;
            owners.apply(&apply)
        }
        other => other,
    };
    let mut object = applied.map_err(|error| failed(&error))?;
    if manager.name == KUBECTL && last_applied(&live).is_some() {
        *object.entry_at(&["metadata", "annotations", LAST_APPLIED]) = remembered(&config).into();
    }
    // What the kind does not keep goes, and a custom resource gets its defaults.
    let version = match resource.custom {
        Some(_) => resource.api_version(),
        None => resource.stored_version.to_string(),
    };
    body::normalise(call, &mut object, &resource.kind, &version)?;
    set(&mut object, &owners);
    if config.str_at(&["metadata", "resourceVersion"]).is_none() {
        body::metadata_mut(&mut object).remove("resourceVersion");
    }
    Ok(object)
}

/// A field that the kind does not have, or a value of the wrong type.
fn check_shape(call: &Call, config: &Value) -> Result<(), String> {
    let mut copy = config.clone();
    let resource = &call.resource;
    let unknown =
        body::normalise(call, &mut copy, &resource.kind, &resource.api_version()).map_err(|failure| {
            failure.message.rsplit("Go struct field ").next().unwrap_or_default().to_owned()
        })?;
    match unknown.first() {
        Some(path) => Err(format!(".{path}: field not declared in schema")),
        None => Ok(()),
    }
}

fn last_applied(object: &Value) -> Option<&str> {
    object.str_at(&["metadata", "annotations", LAST_APPLIED])
}

/// The fields that `kubectl apply` had and that nobody changed since: these an apply of kubectl's may take over.
fn client_side_fields(live: &Value, node: Node<'_>) -> Vec<String> {
    let parsed: Option<Value> = last_applied(live).and_then(|text| serde_json::from_str(text).ok());
    let Some(config) = parsed else { return Vec::new() };
    let Ok(set) = set_of(&config, node) else { return Vec::new() };
    let comparison = compare(&config, live, node);
    set.difference(&comparison.modified).difference(&comparison.added).difference(&comparison.removed).paths()
}

/// A configuration as `kubectl apply` remembers it: sorted, and without what it is remembered in.
fn remembered(config: &Value) -> String {
    let mut config = config.clone();
    if let Some(metadata) = config.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
        let annotations = metadata.entry("annotations");
        match annotations.as_object_mut() {
            Some(annotations) => drop(annotations.remove(LAST_APPLIED)),
            None => *annotations = Value::object(),
        }
    }
    let sorted: serde_json::Value =
        serde_json::to_value(&config).map(sort).unwrap_or(serde_json::Value::Null);
    format!("{sorted}\n")
}

fn sort(value: serde_json::Value) -> serde_json::Value {
    match value {
        serde_json::Value::Object(map) => {
            let mut pairs: Vec<(String, serde_json::Value)> = map.into_iter().collect();
            pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
            serde_json::Value::Object(pairs.into_iter().map(|(key, value)| (key, sort(value))).collect())
        }
        serde_json::Value::Array(items) => items.into_iter().map(sort).collect(),
        other => other,
    }
}

fn shown_manager(manager: &Manager) -> String {
    let name = format!("{:?}", manager.name.as_str());
    match (manager.operation, manager.subresource.as_str()) {
        (Operation::Apply, _) => name,
        (Operation::Update, "") => format!("{name} using {}", manager.api_version),
        (Operation::Update, subresource) => {
            format!("{name} with subresource {subresource:?} using {}", manager.api_version)
        }
    }
}

fn conflict_failure(conflicts: &[Conflict]) -> Failure {
    let causes = conflicts
        .iter()
        .map(|conflict| Cause {
            reason: "FieldManagerConflict",
            message: format!("conflict with {}", shown_manager(&conflict.manager)),
            field: conflict.path.clone(),
        })
        .collect();
    let message = match conflicts {
        [one] => format!(
            "Apply failed with 1 conflict: conflict with {}: {}",
            shown_manager(&one.manager),
            one.path
        ),
        several => {
            let mut managers: Vec<String> =
                several.iter().map(|conflict| shown_manager(&conflict.manager)).collect();
            managers.sort();
            managers.dedup();
            let mut lines = Vec::new();
            for name in managers {
                lines.push(format!("conflicts with {name}:"));
                let paths = several.iter().filter(|conflict| shown_manager(&conflict.manager) == name);
                lines.extend(paths.map(|conflict| format!("- {}", conflict.path)));
            }
            format!("Apply failed with {} conflicts: {}", several.len(), lines.join("\n"))
        }
    };
    Failure {
        code: 409,
        reason: "Conflict",
        message,
        details: Some(Details { causes, ..Details::default() }),
    }
}
