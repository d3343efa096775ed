//! Whether a value is what its field says, with Kong's words for what it is not.

use crate::entity_checks::value_at;
use crate::fault::{Fault, Faults, Key};
use crate::field::{Field, Kind, Matcher};
use crate::fill::{self, Context, Generate};
use crate::ids;
use serde_json::Value;

pub(crate) const REQUIRED: &str = "required field missing";
const UNKNOWN: &str = "unknown field";
const MISSING_KEY: &str = "missing primary key";

/// Records are completed before they are checked; what is drawn for them is thrown away, so nothing needs to be random.
struct Placeholder;

impl Generate for Placeholder {
    fn now(&self) -> i64 {
        1
    }

    fn uuid(&mut self) -> String {
        "00000000-0000-4000-8000-000000000000".to_owned()
    }

    fn secret(&mut self) -> String {
        "x".repeat(32)
    }
}

fn number_text(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e15 { format!("{value:.0}") } else { format!("{value}") }
}

/// A value as Lua's `tostring` has it.
pub(crate) fn lua_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.as_f64().map_or_else(|| number.to_string(), number_text),
        Value::Null => "null".to_owned(),
        other => other.to_string(),
    }
}

fn list(values: &[Value]) -> String {
    values.iter().map(lua_text).collect::<Vec<_>>().join(", ")
}

/// Lua's tables do not know whether they are empty lists or empty objects.
pub(crate) fn as_list(value: &Value) -> Option<&[Value]> {
    match value {
        Value::Array(items) => Some(items),
        Value::Object(map) if map.is_empty() => Some(&[]),
        _ => None,
    }
}

pub(crate) fn is_integer(value: &Value) -> bool {
    value.as_f64().is_some_and(|number| number.fract() == 0.0 && number.is_finite())
}

fn same(left: &Value, right: &Value) -> bool {
    match (left.as_f64(), right.as_f64()) {
        (Some(left), Some(right)) => left == right,
        _ => left == right,
    }
}

/// Checks `value` against `field`.
pub(crate) fn value(field: &Field, value: &Value) -> Result<(), Fault> {
    let say = |message: String| Err(Fault::Message(field.err.clone().unwrap_or(message)));
    if value.is_null() {
        if field.ne == Some(Value::Null) {
            return say("value must not be null".into());
        }
        if let Some(eq) = field.eq.as_ref().filter(|eq| !eq.is_null()) {
            return say(format!("value must be {}", lua_text(eq)));
        }
        if field.is_required() {
            return say(REQUIRED.into());
        }
        return Ok(());
    }
    if field.eq == Some(Value::Null) {
        return say("value must be null".into());
    }
    match field.kind {
        Kind::Array | Kind::Set => {
            let Some(items) = as_list(value) else {
                return say(
                    if field.kind == Kind::Array { "expected an array" } else { "expected a set" }.into()
                );
            };
            if let Some(element) = &field.elements {
                elements(element, items)?;
            }
        }
        Kind::Map => match value {
            Value::Object(map) => {
                for (key, value) in map {
                    entry(field.keys.as_deref(), &Value::String(key.clone()))?;
                    entry(field.values.as_deref(), value)?;
                }
            }
            Value::Array(items) => {
                // A list is a table whose keys are numbers.
                for (i, item) in items.iter().enumerate() {
                    entry(field.keys.as_deref(), &Value::from(i + 1))?;
                    entry(field.values.as_deref(), item)?;
                }
            }
            _ => return say("expected a map".into()),
        },
        Kind::Record => {
            if !matches!(value, Value::Object(_) | Value::Array(_)) {
                return say("expected a record".into());
            }
            record(field, value).map_err(Fault::Nested)?;
        }
        Kind::Foreign => foreign(value)?,
        Kind::Integer if !is_integer(value) => return say("expected an integer".into()),
        Kind::Number if !value.is_number() => return say("expected a number".into()),
        Kind::Boolean if !value.is_boolean() => return say("expected a boolean".into()),
        Kind::String if !value.is_string() => return say("expected a string".into()),
        _ => {}
    }
    rules(field, value).map_err(|fault| match (&field.err, fault) {
        (Some(err), Fault::Message(_)) => Fault::Message(err.clone()),
        (_, fault) => fault,
    })
}

fn entry(field: Option<&Field>, item: &Value) -> Result<(), Fault> {
    let Some(field) = field else { return Ok(()) };
    if item.is_null() {
        return Err(Fault::of(REQUIRED));
    }
    value(field, item)
}

fn elements(element: &Field, items: &[Value]) -> Result<(), Fault> {
    let mut faults = Faults::default();
    for (i, item) in items.iter().enumerate() {
        let outcome = if item.is_null() { Err(Fault::of(REQUIRED)) } else { value(element, item) };
        if let Err(fault) = outcome {
            faults.set(Key::Position(i + 1), fault);
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(Fault::Nested(faults)) }
}

fn foreign(value: &Value) -> Result<(), Fault> {
    let missing = || Err(Fault::Nested(Faults::one("id", MISSING_KEY)));
    let Some(reference) = value.as_object() else { return missing() };
    match reference.get("id") {
        None => missing(),
        Some(Value::Null) => Err(Fault::Nested(Faults::one("id", REQUIRED))),
        Some(Value::String(id)) if ids::is_uuid(id) => {
            let mut faults = Faults::default();
            for name in reference.keys().filter(|name| *name != "id") {
                faults.set_name(name, Fault::of("not a primary key"));
            }
            if faults.is_empty() { Ok(()) } else { Err(Fault::Nested(faults)) }
        }
        Some(Value::String(_)) => Err(Fault::Nested(Faults::one("id", "expected a valid UUID"))),
        Some(_) => Err(Fault::Nested(Faults::one("id", "expected a string"))),
    }
}

/// Completes a record and checks its fields.
fn record(field: &Field, value: &Value) -> Result<(), Faults> {
    let mut faults = Faults::default();
    let mut copy = match value {
        Value::Array(items) if items.is_empty() => Value::Object(Default::default()),
        Value::Array(items) => {
            for i in 0..items.len() {
                faults.set(Key::Position(i + 1), Fault::of(UNKNOWN));
            }
            Value::Object(Default::default())
        }
        other => other.clone(),
    };
    fill::record(field, &mut copy, Context::Insert, &mut Placeholder);
    check_fields(&field.fields, None, &copy, &mut faults);
    for check in &field.entity_checks {
        check.run(&copy, &mut faults);
    }
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

/// Checks each field of `entity` against `own`, whose fields `over` may replace, and that none required is missing.
pub(crate) fn check_fields(
    own: &[(String, Field)],
    over: Option<&[(String, Field)]>,
    entity: &Value,
    faults: &mut Faults,
) {
    let resolve = |name: &str| {
        let find = |fields: &'_ [(String, Field)]| fields.iter().position(|(known, _)| known == name);
        match (find(own), over) {
            (None, _) => None,
            (Some(at), None) => Some(&own[at].1),
            (Some(at), Some(over)) => Some(find(over).map_or(&own[at].1, |at| &over[at].1)),
        }
    };
    for (name, item) in entity.as_object().into_iter().flatten() {
        match resolve(name) {
            None => faults.set_name(name, Fault::of(UNKNOWN)),
            Some(field) => {
                if let Err(fault) = value(field, item) {
                    faults.set_name(name, fault);
                }
            }
        }
    }
    for (name, _) in own {
        let Some(field) = resolve(name) else { continue };
        if field.is_required() && entity.get(name).is_none() && faults.get(name).is_none() {
            faults.set_name(name, Fault::of(REQUIRED));
        }
    }
}

fn length(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.len(),
        Value::Object(map) => map.len(),
        _ => 0,
    }
}

fn decide(matcher: &Matcher, wanted: bool, text: &str) -> Result<(), Fault> {
    let found = matcher.patterns.iter().any(|pattern| pattern.is_match(text));
    if found == wanted {
        return Ok(());
    }
    Err(Fault::Message(matcher.err.clone().unwrap_or_else(|| format!("invalid value: {text}"))))
}

/// The validators in Kong's order; the first that objects speaks.
fn rules(field: &Field, value: &Value) -> Result<(), Fault> {
    let say = |message: String| Err(Fault::Message(message));
    if let Some(eq) = field.eq.as_ref().filter(|eq| !same(eq, value)) {
        return say(format!("value must be {}", lua_text(eq)));
    }
    if let Some(ne) = field.ne.as_ref().filter(|ne| same(ne, value)) {
        return say(format!("value must not be {}", lua_text(ne)));
    }
    if let Some(refused) =
        field.not_one_of.as_ref().filter(|refused| refused.iter().any(|one| same(one, value)))
    {
        return say(format!("must not be one of: {}", list(refused)));
    }
    if let Some(known) = field.one_of.as_ref().filter(|known| !known.iter().any(|one| same(one, value))) {
        return say(format!("expected one of: {}", list(known)));
    }
    if let Some(least) = field.gt
        && value.as_f64().is_some_and(|number| number <= least)
    {
        return say(format!("value must be greater than {}", number_text(least)));
    }
    if field.timestamp && value.as_f64().is_some_and(|number| number <= 0.0) {
        return say("expected a valid timestamp".into());
    }
    if field.uuid && value.as_str().is_some_and(|text| !ids::is_uuid(text)) {
        return say("expected a valid UUID".into());
    }
    if let Some((low, high)) = field.between
        && value.as_f64().is_some_and(|number| number < low || number > high)
    {
        return say(format!("value should be between {} and {}", number_text(low), number_text(high)));
    }
    if let Some(wanted) = field.len_eq
        && length(value) != wanted
    {
        return say(format!("length must be {wanted}"));
    }
    // Empty strings are only accepted where that is said.
    let least = field.len_min.or((field.kind == Kind::String).then_some(1));
    if let Some(least) = least
        && length(value) < least
    {
        return say(format!("length must be at least {least}"));
    }
    if let Some(most) = field.len_max
        && length(value) > most
    {
        return say(format!("length must be at most {most}"));
    }
    if let Value::String(text) = value {
        if let Some(start) = field.starts_with.as_ref().filter(|start| !text.starts_with(start.as_str())) {
            return say(format!("should start with: {start}"));
        }
        for matcher in &field.match_none {
            decide(matcher, false, text)?;
        }
        if field.pattern.as_ref().is_some_and(|pattern| !pattern.is_match(text)) {
            return say(format!("invalid value: {text}"));
        }
        for matcher in &field.match_all {
            decide(matcher, true, text)?;
        }
        if let Some(any) = &field.match_any {
            decide(any, true, text)?;
        }
    }
    if let Some(wanted) = &field.contains
        && !as_list(value).is_some_and(|items| items.iter().any(|item| same(item, wanted)))
    {
        return say(format!("expected to contain: {}", lua_text(wanted)));
    }
    if let Some(sets) = &field.exclusive_subsets {
        exclusive(sets, value)?;
    }
    match field.check {
        Some(check) => check.run(value).map_err(Fault::Message),
        None => Ok(()),
    }
}

fn exclusive(sets: &[Vec<String>], value: &Value) -> Result<(), Fault> {
    let items: Vec<&str> = as_list(value).into_iter().flatten().filter_map(Value::as_str).collect();
    let hit: Vec<&Vec<String>> =
        sets.iter().filter(|set| set.iter().any(|name| items.contains(&name.as_str()))).collect();
    if hit.len() < 2 {
        return Ok(());
    }
    let text: Vec<String> = hit
        .iter()
        .map(|set| format!("({})", set.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ")))
        .collect();
    Err(Fault::Message(format!("these sets are mutually exclusive: {}", text.join(", "))))
}

/// Whether any of `paths` is set on `entity`.
pub(crate) fn is_set(entity: &Value, path: &str) -> bool {
    value_at(entity, path).is_some_and(|value| !value.is_null())
}
