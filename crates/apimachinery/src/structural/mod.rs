//! Structural schemas of custom resources, read from `openAPIV3Schema`: what is known, what is kept, what is checked.

mod fit;
mod former;
mod rules;
mod validate;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use regex::Regex;
use smol_str::SmolStr;

use crate::cel::{self, Expression, ParseError};
use crate::value::{Map, Value};

pub use fit::{Unknown, fit};
pub use rules::{broken_rules, check_rules, unsupported};
pub use validate::{MAX_PROBLEMS, Problem, Trouble, duplicates, validate};

/// Schemas that nest deeper are refused.
const MAX_DEPTH: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
}

impl Type {
    fn parse(name: &str) -> Option<Type> {
        Some(match name {
            "object" => Type::Object,
            "array" => Type::Array,
            "string" => Type::String,
            "integer" => Type::Integer,
            "number" => Type::Number,
            "boolean" => Type::Boolean,
            _ => return None,
        })
    }

    pub fn name(self) -> &'static str {
        match self {
            Type::Object => "object",
            Type::Array => "array",
            Type::String => "string",
            Type::Integer => "integer",
            Type::Number => "number",
            Type::Boolean => "boolean",
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub enum ListType {
    #[default]
    Atomic,
    Set,
    /// Told apart by these fields.
    Map(Vec<SmolStr>),
}

/// A rule of `x-kubernetes-validations`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    pub rule: String,
    /// The rule as it was read, or why it cannot be evaluated.
    pub expression: Result<Expression, ParseError>,
    pub message: String,
    /// Makes the message, where there is one and it has a value.
    pub message_expression: Option<Result<Expression, ParseError>>,
    /// `FieldValueInvalid` where the definition names none.
    pub reason: String,
    /// Below the place of the rule, as `.spec.size`.
    pub field_path: String,
    pub optional_old_self: bool,
}

/// The schema of one place.
#[derive(Clone, Debug, Default)]
pub struct Structural {
    pub kind: Option<Type>,
    pub nullable: bool,
    pub properties: BTreeMap<SmolStr, Structural>,
    /// The schema of all other fields.
    pub additional: Option<Box<Structural>>,
    pub items: Option<Box<Structural>>,
    pub default: Option<Value>,
    pub preserve_unknown: bool,
    pub embedded_resource: bool,
    pub int_or_string: bool,
    pub list_type: ListType,
    pub map_is_atomic: bool,
    pub rules: Vec<Rule>,
    checks: Checks,
}

/// What a value must satisfy besides its type.
#[derive(Clone, Debug, Default)]
struct Checks {
    required: Vec<SmolStr>,
    one_of_values: Option<Vec<Value>>,
    format: Option<SmolStr>,
    pattern: Option<Arc<Regex>>,
    min_length: Option<u64>,
    max_length: Option<u64>,
    minimum: Option<(f64, bool)>,
    maximum: Option<(f64, bool)>,
    multiple_of: Option<f64>,
    min_items: Option<u64>,
    max_items: Option<u64>,
    unique_items: bool,
    min_properties: Option<u64>,
    max_properties: Option<u64>,
    all_of: Vec<Structural>,
    any_of: Vec<Structural>,
    one_of: Vec<Structural>,
    not: Option<Box<Structural>>,
}

/// A schema that cannot be used.
#[derive(Debug, thiserror::Error, PartialEq)]
#[error("{path}: {why}")]
pub struct SchemaError {
    /// Below `openAPIV3Schema`, as `properties[spec].type`.
    pub path: String,
    pub why: String,
}

impl Structural {
    /// Reads a schema; what it says that Kubernetes does not know is ignored.
    pub fn parse(schema: &Value) -> Result<Structural, SchemaError> {
        parse(schema, "", 0, &Patterns::default())
    }

    /// True if any rule of `x-kubernetes-validations` is here or below.
    pub fn has_rules(&self) -> bool {
        !self.rules.is_empty()
            || self.properties.values().any(Structural::has_rules)
            || self.additional.as_ref().is_some_and(|additional| additional.has_rules())
            || self.items.as_ref().is_some_and(|items| items.has_rules())
    }
}

/// The patterns of a schema that was read so far: definitions use a few many times, and each is large once compiled.
type Patterns = RefCell<HashMap<String, Arc<Regex>>>;

fn parse(schema: &Value, path: &str, depth: usize, patterns: &Patterns) -> Result<Structural, SchemaError> {
    let error = |why: &str| SchemaError { path: path.to_owned(), why: why.to_owned() };
    if depth > MAX_DEPTH {
        return Err(error("the schema nests too deeply"));
    }
    let map = schema.as_object().ok_or_else(|| error("a schema must be an object"))?;
    let join = |step: &str| match path.is_empty() {
        true => step.to_owned(),
        false => format!("{path}.{step}"),
    };
    let below = |value: &Value, step: &str| parse(value, &join(step), depth + 1, patterns);
    let flag = |name: &str| map.get(name).and_then(Value::as_bool).unwrap_or(false);
    let text = |name: &str| map.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let kind = match text("type") {
        None => None,
        Some(name) => Some(Type::parse(name).ok_or_else(|| error(&format!("unknown type {name:?}")))?),
    };
    let mut properties = BTreeMap::new();
    for (name, value) in map.get("properties").and_then(Value::as_object).into_iter().flat_map(Map::iter) {
        properties.insert(name.clone(), below(value, &format!("properties[{name}]"))?);
    }
    let additional = match map.get("additionalProperties") {
        Some(value) if value.as_bool() == Some(true) => {
            Some(Box::new(Structural { preserve_unknown: true, ..Structural::default() }))
        }
        Some(value) if value.as_object().is_some() => Some(Box::new(below(value, "additionalProperties")?)),
        _ => None,
    };
    let items = match map.get("items").filter(|items| items.as_object().is_some()) {
        Some(items) => Some(Box::new(below(items, "items")?)),
        None => None,
    };
    let list_type = match text("x-kubernetes-list-type") {
        Some("set") => ListType::Set,
        Some("map") => {
            let keys = map.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
            ListType::Map(
                keys.into_iter().flatten().filter_map(|key| key.as_str().map(SmolStr::new)).collect(),
            )
        }
        _ => ListType::Atomic,
    };
    let mut rules = Vec::new();
    for rule in map.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten() {
        let text = |name: &str| rule.str_at(&[name]).unwrap_or_default().to_owned();
        rules.push(Rule {
            expression: cel::parse(&text("rule")),
            rule: text("rule"),
            message: text("message"),
            message_expression: Some(text("messageExpression"))
                .filter(|text| !text.is_empty())
                .map(|text| cel::parse(&text)),
            reason: text("reason"),
            field_path: text("fieldPath"),
            optional_old_self: rule.get("optionalOldSelf").and_then(Value::as_bool).unwrap_or(false),
        });
    }
    Ok(Structural {
        kind,
        nullable: flag("nullable"),
        properties,
        additional,
        items,
        default: map.get("default").cloned(),
        preserve_unknown: flag("x-kubernetes-preserve-unknown-fields"),
        embedded_resource: flag("x-kubernetes-embedded-resource"),
        int_or_string: flag("x-kubernetes-int-or-string"),
        list_type,
        map_is_atomic: text("x-kubernetes-map-type") == Some("atomic"),
        rules,
        checks: checks(map, patterns, &below, &error)?,
    })
}

fn checks(
    map: &Map,
    patterns: &Patterns,
    below: &dyn Fn(&Value, &str) -> Result<Structural, SchemaError>,
    error: &dyn Fn(&str) -> SchemaError,
) -> Result<Checks, SchemaError> {
    let number = |name: &str| map.get(name).and_then(Value::as_f64);
    let count =
        |name: &str| map.get(name).and_then(Value::as_i64).and_then(|count| u64::try_from(count).ok());
    let flag = |name: &str| map.get(name).and_then(Value::as_bool).unwrap_or(false);
    let list = |name: &str| -> Result<Vec<Structural>, SchemaError> {
        let schemas = map.get(name).and_then(Value::as_array).into_iter().flatten().enumerate();
        schemas.map(|(index, schema)| below(schema, &format!("{name}[{index}]"))).collect()
    };
    let pattern = match map.get("pattern").and_then(Value::as_str).filter(|pattern| !pattern.is_empty()) {
        None => None,
        Some(pattern) => {
            let known = patterns.borrow().get(pattern).cloned();
            let regex = match known {
                Some(regex) => regex,
                None => Arc::new(Regex::new(pattern).map_err(|_| {
                    error(&format!("must be a valid regular expression, but isn't: {pattern:?}"))
                })?),
            };
            patterns.borrow_mut().insert(pattern.to_owned(), regex.clone());
            Some(regex)
        }
    };
    let required = map.get("required").and_then(Value::as_array).into_iter().flatten();
    Ok(Checks {
        required: required.filter_map(|name| name.as_str().map(SmolStr::new)).collect(),
        one_of_values: map.get("enum").and_then(Value::as_array).cloned(),
        format: map.get("format").and_then(Value::as_str).map(SmolStr::new),
        pattern,
        min_length: count("minLength"),
        max_length: count("maxLength"),
        minimum: number("minimum").map(|bound| (bound, flag("exclusiveMinimum"))),
        maximum: number("maximum").map(|bound| (bound, flag("exclusiveMaximum"))),
        multiple_of: number("multipleOf").filter(|factor| *factor > 0.0),
        min_items: count("minItems"),
        max_items: count("maxItems"),
        unique_items: flag("uniqueItems"),
        min_properties: count("minProperties"),
        max_properties: count("maxProperties"),
        all_of: list("allOf")?,
        any_of: list("anyOf")?,
        one_of: list("oneOf")?,
        not: match map.get("not").filter(|not| not.as_object().is_some()) {
            Some(not) => Some(Box::new(below(not, "not")?)),
            None => None,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Structural, SchemaError> {
        Structural::parse(&serde_json::from_str(text).unwrap())
    }

    #[test]
    fn what_a_schema_says() {
        let schema = parse(
            r#"{"type":"object","properties":{"l":{"type":"array","x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["n"],"items":{"type":"object"}},"m":{"additionalProperties":true}}}"#,
        )
        .unwrap();
        assert_eq!(schema.properties["l"].list_type, ListType::Map(vec!["n".into()]));
        assert!(schema.properties["m"].additional.is_some());
        assert!(!schema.has_rules());
    }

    #[test]
    fn equal_patterns_are_kept_once() {
        let schema = parse(
            r#"{"properties":{"a":{"pattern":"^x"},"b":{"items":{"pattern":"^x"}},"c":{"pattern":"^y"}}}"#,
        );
        let properties = schema.unwrap().properties;
        let a = properties["a"].checks.pattern.as_ref().unwrap();
        let b = properties["b"].items.as_ref().unwrap().checks.pattern.as_ref().unwrap();
        let c = properties["c"].checks.pattern.as_ref().unwrap();
        assert!(Arc::ptr_eq(a, b) && !Arc::ptr_eq(a, c));
    }

    #[test]
    fn what_is_no_schema_says_where() {
        let error = parse(r#"{"properties":{"a":{"type":"thing"}}}"#).unwrap_err();
        assert_eq!(error.to_string(), r#"properties[a]: unknown type "thing""#);
        assert!(parse(r#"{"pattern":"("}"#).is_err());
        assert!(parse("[]").is_err());
    }
}
