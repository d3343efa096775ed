//! Custom resources against the schema of their definition.

use gantry_apimachinery::Value;
use gantry_apimachinery::structural::{self, Problem, Trouble};

use crate::resources::Custom;
use crate::status::FieldError;

pub(super) fn validate(custom: &Custom, object: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let Some(schema) = custom.structural() else { return };
    let mut problems = structural::validate(object, old, schema);
    let duplicates = structural::duplicates(object, schema);
    // A list may stay as wrong as it was.
    let had_duplicates = || old.is_some_and(|old| !structural::duplicates(old, schema).is_empty());
    if !duplicates.is_empty() && !had_duplicates() {
        problems.extend(duplicates);
    }
    let blocked = problems.iter().any(|problem| problem.trouble.blocks_rules());
    if schema.has_rules() && !blocked {
        problems.extend(structural::broken_rules(object, old, schema));
    }
    errors.extend(problems.into_iter().take(structural::MAX_PROBLEMS).map(field_error));
    if schema.has_rules() && blocked {
        errors.push(FieldError::invalid(
            "<nil>",
            &Value::NULL,
            "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation",
        ));
    }
}

fn field_error(problem: Problem) -> FieldError {
    let path = if problem.path.is_empty() { "<nil>".to_owned() } else { problem.path };
    match problem.trouble {
        Trouble::Required => FieldError::required(path, ""),
        Trouble::NotSupported { value, supported } => {
            let texts: Vec<String> = supported
                .iter()
                .map(|value| value.as_str().map_or_else(|| format!("{value:?}"), str::to_owned))
                .collect();
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            FieldError::not_supported(path, &value, &texts)
        }
        Trouble::Invalid { value, why } => FieldError::invalid(path, &value, &why),
        Trouble::Type { found, why } => FieldError::wrong_type(path, &found.into(), &why),
        Trouble::TooLong { max } => FieldError::too_long(path, max as usize),
        Trouble::TooMany { found, max } => FieldError::too_many(path, found, max as usize),
        Trouble::Duplicate { value } => FieldError::duplicate(path, &value),
        Trouble::Rule { reason, message } => {
            let title = match reason {
                "FieldValueRequired" => "Required value",
                "FieldValueForbidden" => "Forbidden",
                "FieldValueDuplicate" => "Duplicate value",
                _ => "Invalid value",
            };
            FieldError { reason, field: path, message: format!("{title}: {message}") }
        }
    }
}
