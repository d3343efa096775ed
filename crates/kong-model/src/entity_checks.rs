//! Checks across the fields of an entity or record.

use crate::fault::{Fault, Faults};
use crate::field::{self, Field};
use crate::validate;
use serde_json::Value;

const FOR_CHECK: &str = "field required for entity check";

/// One check.
#[derive(Clone, Debug)]
pub(crate) enum EntityCheck {
    AtLeastOneOf(Vec<String>),
    OnlyOneOf(Vec<String>),
    Distinct(Vec<String>),
    MutuallyRequired(Vec<String>),
    MutuallyExclusive(Vec<String>),
    Conditional {
        if_field: String,
        if_match: Box<Field>,
        then_field: String,
        then_match: Box<Field>,
        then_err: Option<String>,
    },
    ConditionalAtLeastOneOf {
        if_field: String,
        branches: Vec<Branch>,
    },
    /// A rule that the facts only name by the fields it looks at.
    Custom(Vec<String>),
}

/// What a conditional check asks for when its match fits.
#[derive(Clone, Debug)]
pub(crate) struct Branch {
    matches: Field,
    at_least_one_of: Vec<String>,
    err: Option<String>,
}

fn names(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(|name| name.as_str().map(str::to_owned)).collect()
}

/// Reads checks; conditions build on the definitions of the fields they look at, `own` before `inherited`.
pub(crate) fn parse(
    value: Option<&Value>,
    own: &[(String, Field)],
    inherited: &[(String, Field)],
) -> Vec<EntityCheck> {
    let field_at = |path: &str| field::find(own, path).or_else(|| field::find(inherited, path));
    let mut out = Vec::new();
    for entry in value.and_then(Value::as_array).into_iter().flatten() {
        let Some((kind, argument)) = entry.as_object().and_then(|entry| entry.iter().next()) else {
            continue;
        };
        let text = |name: &str| argument[name].as_str().unwrap_or_default().to_owned();
        let option = |name: &str| argument[name].as_str().map(str::to_owned);
        out.push(match kind.as_str() {
            "at_least_one_of" => EntityCheck::AtLeastOneOf(names(argument)),
            "only_one_of" => EntityCheck::OnlyOneOf(names(argument)),
            "distinct" => EntityCheck::Distinct(names(argument)),
            "mutually_required" => EntityCheck::MutuallyRequired(names(argument)),
            "mutually_exclusive" => EntityCheck::MutuallyExclusive(names(argument)),
            "conditional" => {
                let (if_field, then_field) = (text("if_field"), text("then_field"));
                EntityCheck::Conditional {
                    if_match: Box::new(Field::overlaid(field_at(&if_field), &argument["if_match"])),
                    then_match: Box::new(Field::overlaid(field_at(&then_field), &argument["then_match"])),
                    then_err: option("then_err"),
                    if_field,
                    then_field,
                }
            }
            "conditional_at_least_one_of" => {
                let if_field = text("if_field");
                let mut branches = Vec::new();
                for (matches, list, err) in [
                    ("if_match", "then_at_least_one_of", "then_err"),
                    ("else_match", "else_then_at_least_one_of", "else_then_err"),
                ] {
                    if argument.get(matches).is_some() {
                        branches.push(Branch {
                            matches: Field::overlaid(field_at(&if_field), &argument[matches]),
                            at_least_one_of: names(&argument[list]),
                            err: option(err),
                        });
                    }
                }
                EntityCheck::ConditionalAtLeastOneOf { if_field, branches }
            }
            _ => EntityCheck::Custom(names(&argument["field_sources"])),
        });
    }
    out
}

/// The value at a path; `None` when it is absent, which is not the same as null.
pub(crate) fn value_at<'v>(entity: &'v Value, path: &str) -> Option<&'v Value> {
    path.split('.').try_fold(entity, |value, name| value.get(name))
}

fn is_nonempty(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => false,
        Some(Value::Object(map)) => !map.is_empty(),
        Some(Value::Array(list)) => !list.is_empty(),
        Some(Value::String(text)) => !text.is_empty(),
        Some(_) => true,
    }
}

/// The names in single quotes, as messages list them.
pub(crate) fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ")
}

/// Marks the fields of `paths` that are absent; true when there was one.
fn marks_missing(entity: &Value, paths: &[&String], faults: &mut Faults) -> bool {
    let mut missing = false;
    for path in paths {
        if value_at(entity, path).is_none() {
            faults.set_path(path, Fault::of(FOR_CHECK));
            missing = true;
        }
    }
    missing
}

fn has_any(entity: &Value, paths: &[&String]) -> bool {
    paths.iter().any(|path| value_at(entity, path).is_some())
}

impl EntityCheck {
    /// Runs the check on `entity`, with the faults its fields have already.
    pub(crate) fn run(&self, entity: &Value, faults: &mut Faults) {
        match self {
            EntityCheck::AtLeastOneOf(fields) => {
                if !fields.iter().any(|path| is_nonempty(value_at(entity, path))) {
                    faults.add_entity(format!(
                        "at least one of these fields must be non-empty: {}",
                        quoted(fields)
                    ));
                }
            }
            EntityCheck::OnlyOneOf(fields) => {
                let given = fields.iter().filter(|path| is_nonempty(value_at(entity, path))).count();
                if given != 1 {
                    faults.add_entity(format!(
                        "exactly one of these fields must be non-empty: {}",
                        quoted(fields)
                    ));
                }
            }
            EntityCheck::Distinct(fields) => {
                if !has_any(entity, &fields.iter().collect::<Vec<_>>()) {
                    return;
                }
                let given: Vec<&Value> = fields
                    .iter()
                    .filter_map(|path| value_at(entity, path))
                    .filter(|value| is_nonempty(Some(value)))
                    .collect();
                if given.iter().enumerate().any(|(i, value)| given[..i].contains(value)) {
                    faults.add_entity(format!("values of these fields must be distinct: {}", quoted(fields)));
                }
            }
            EntityCheck::MutuallyRequired(fields) => {
                let given = fields.iter().filter(|path| is_nonempty(value_at(entity, path))).count();
                if given != 0 && given != fields.len() {
                    faults.add_entity(format!("all or none of these fields must be set: {}", quoted(fields)));
                }
            }
            EntityCheck::MutuallyExclusive(fields) => {
                let given = fields.iter().filter(|path| is_nonempty(value_at(entity, path))).count();
                if given > 1 {
                    faults.add_entity(format!(
                        "only one or none of these fields must be set: {}",
                        quoted(fields)
                    ));
                }
            }
            EntityCheck::Conditional { if_field, if_match, then_field, then_match, then_err } => {
                if !has_any(entity, &[if_field, then_field]) || marks_missing(entity, &[if_field], faults) {
                    return;
                }
                let if_value = value_at(entity, if_field).unwrap_or(&Value::Null);
                if validate::value(if_match, if_value).is_err() {
                    return;
                }
                let then_value = value_at(entity, then_field).unwrap_or(&Value::Null);
                let outcome = if then_match.required == Some(true) && then_value.is_null() {
                    Err(Fault::of(validate::REQUIRED))
                } else {
                    validate::value(then_match, then_value)
                };
                let Err(fault) = outcome else { return };
                faults.set_path(then_field, fault);
                faults.add_entity(match then_err {
                    Some(text) => text.replacen("%s", if_field, 1),
                    None => format!("failed conditional validation given value of field '{if_field}'"),
                });
            }
            EntityCheck::ConditionalAtLeastOneOf { if_field, branches } => {
                let Some(if_value) = value_at(entity, if_field) else { return };
                let Some(branch) =
                    branches.iter().find(|branch| validate::value(&branch.matches, if_value).is_ok())
                else {
                    return;
                };
                let fields = &branch.at_least_one_of;
                if fields.iter().any(|path| is_nonempty(value_at(entity, path))) {
                    return;
                }
                faults.add_entity(match &branch.err {
                    Some(text) => text.replacen("%s", &quoted(fields), 1),
                    None => format!("at least one of these fields must be non-empty: {}", quoted(fields)),
                });
            }
            EntityCheck::Custom(fields) => {
                if fields.iter().any(|path| faults.get(path.split('.').next().unwrap_or(path)).is_some()) {
                    return;
                }
                if let Err(message) = crate::checks::custom_entity_check(fields, entity) {
                    faults.add_entity(message);
                }
            }
        }
    }
}
