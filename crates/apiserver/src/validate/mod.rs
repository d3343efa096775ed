//! What an object must satisfy, with Kubernetes' field paths and words.
//!
//! Covers the mistakes people make: names, labels, selectors, containers, ports, what may not change. A kind without
//! rules here is checked for its metadata alone.

mod autoscaling;
mod custom;
mod kinds;
mod pod;

use gantry_apimachinery::names;
use gantry_apimachinery::{Map, Value};

use crate::resources::Resource;
use crate::status::FieldError;

/// Largest sum of the sizes of all annotations.
const ANNOTATIONS_MAX_BYTES: usize = 256 << 10;

/// Everything wrong with an object that is created (`old` absent) or changed.
pub(crate) fn validate(resource: &Resource, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    metadata(object, &mut errors);
    kinds::validate(resource.id(), object, old, &mut errors);
    if let Some(custom) = &resource.custom {
        custom::validate(custom, object, old, &mut errors);
    }
    errors
}

fn metadata(object: &Value, errors: &mut Vec<FieldError>) {
    labels(object.at(&["metadata", "labels"]), "metadata.labels", errors);
    if let Some(annotations) = object.at(&["metadata", "annotations"]).and_then(Value::as_object) {
        annotation_keys(annotations, errors);
    }
    for (index, owner) in list(object, &["metadata", "ownerReferences"]).iter().enumerate() {
        for field in ["apiVersion", "kind", "name", "uid"] {
            if owner.str_at(&[field]).is_none_or(str::is_empty) {
                let word =
                    if field == "apiVersion" { "version must not be empty" } else { "must not be empty" };
                let value = Value::from(owner.str_at(&[field]).unwrap_or_default());
                errors.push(FieldError::invalid(
                    format!("metadata.ownerReferences[{index}].{field}"),
                    &value,
                    word,
                ));
            }
        }
    }
    for finalizer in list(object, &["metadata", "finalizers"]) {
        let name = finalizer.as_str().unwrap_or_default();
        if let Some(why) = names::qualified_name_error(name) {
            errors.push(FieldError::invalid("metadata.finalizers", finalizer, &why));
        }
    }
}

fn annotation_keys(annotations: &Map, errors: &mut Vec<FieldError>) {
    let mut size = 0;
    for (key, value) in annotations.iter() {
        // Keys of annotations may be written in capitals.
        if let Some(why) = names::qualified_name_error(&key.to_lowercase()) {
            errors.push(FieldError::invalid("metadata.annotations", &key.as_str().into(), &why));
        }
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > ANNOTATIONS_MAX_BYTES {
        errors.push(FieldError::too_long("metadata.annotations", ANNOTATIONS_MAX_BYTES));
    }
}

fn labels(labels: Option<&Value>, field: &str, errors: &mut Vec<FieldError>) {
    for (key, value) in labels.and_then(Value::as_object).into_iter().flat_map(|labels| labels.iter()) {
        if let Some(why) = names::qualified_name_error(key) {
            errors.push(FieldError::invalid(field, &key.as_str().into(), &why));
        }
        if let Some(why) = names::label_value_error(value.as_str().unwrap_or_default()) {
            errors.push(FieldError::invalid(field, value, &why));
        }
    }
}

// === shared by the kinds ===

fn list<'v>(object: &'v Value, path: &[&str]) -> &'v [Value] {
    object.at(path).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn integer(object: &Value, path: &[&str]) -> Option<i64> {
    object.at(path).and_then(Value::as_i64)
}

fn not_negative(object: &Value, path: &[&str], errors: &mut Vec<FieldError>) {
    if let Some(number) = integer(object, path).filter(|number| *number < 0) {
        errors.push(FieldError::invalid(
            path.join("."),
            &number.into(),
            "must be greater than or equal to 0",
        ));
    }
}

fn port_in_range(number: i64, field: String, errors: &mut Vec<FieldError>) {
    if !(1..=65535).contains(&number) {
        errors.push(FieldError::invalid(field, &number.into(), "must be between 1 and 65535, inclusive"));
    }
}

fn one_of(value: Option<&Value>, field: impl Into<String>, supported: &[&str], errors: &mut Vec<FieldError>) {
    if let Some(value) = value
        && !value.as_str().is_some_and(|text| supported.contains(&text))
    {
        errors.push(FieldError::not_supported(field, value, supported));
    }
}

fn immutable(object: &Value, old: Option<&Value>, path: &[&str], errors: &mut Vec<FieldError>) {
    let Some(old) = old else { return };
    if object.at(path) != old.at(path) {
        let value = object.at(path).cloned().unwrap_or_default();
        errors.push(FieldError::invalid(path.join("."), &value, "field is immutable"));
    }
}
