//! Kong's entities and declarative files against the reference's recorded validations.

use std::path::Path;

use gantry_kong_model::{Context, Declarative, Faults, Model, Seeded, flattened_errors};
use serde_json::{Map, Value};

use super::Case;

fn read(data: &Path, file: &str) -> Option<Value> {
    let text = std::fs::read_to_string(data.join("kong").join(file)).ok()?;
    serde_json::from_str(&text).ok()
}

fn cases(data: &Path, file: &str, judge: impl Fn(&Value) -> Result<(), String>) -> Option<Vec<Case>> {
    let data = read(data, file)?;
    let cases = data["cases"].as_array()?;
    let named = |case: &Value| case["test"].as_str().map_or_else(|| file.to_owned(), str::to_owned);
    Some(cases.iter().map(|case| Case::new(named(case), judge(case))).collect())
}

/// Values drawn by the recorder say nothing but that something was drawn.
fn is_drawn(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.starts_with("00000000-0000-4000-8000-"))
}

fn is_empty_table(value: &Value) -> bool {
    value.as_object().is_some_and(Map::is_empty) || value.as_array().is_some_and(Vec::is_empty)
}

/// Equality as far as Lua's tables can tell: empty ones are alike, and times and drawn ids are what they are.
fn same(expected: &Value, found: &Value) -> bool {
    if is_empty_table(expected) && is_empty_table(found) {
        return true;
    }
    match (expected, found) {
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left.iter().all(|(key, value)| {
                    let is_time = matches!(key.as_str(), "created_at" | "updated_at");
                    right.get(key).is_some_and(|other| {
                        (is_time && value.is_number() && other.is_number()) || same(value, other)
                    })
                })
        }
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| same(left, right))
        }
        (Value::Number(left), Value::Number(right)) => left.as_f64() == right.as_f64(),
        _ => expected == found || (is_drawn(expected) && found.is_string()),
    }
}

fn compare(case: &Value, outcome: Result<Value, Faults>) -> Result<(), String> {
    let is_ok = case["ok"].as_bool().unwrap_or_default();
    match outcome {
        Ok(_) if !is_ok => Err(format!("accepted, expected {}", case["error"])),
        Err(faults) if is_ok => Err(format!("refused with {}", faults.to_json())),
        Ok(found) => {
            let expected = &case["output"];
            if expected.is_null() || same(expected, &found) {
                return Ok(());
            }
            Err(format!("made {found}, expected {expected}"))
        }
        Err(faults) => {
            let found = faults.to_json();
            if same(&case["error"], &found) {
                return Ok(());
            }
            Err(format!("refused with {found}, expected {}", case["error"]))
        }
    }
}

/// `kong/entity_schema_cases.json`: one call of a schema.
pub(crate) fn entities(data: &Path) -> Option<Vec<Case>> {
    let model = Model::load();
    cases(data, "entity_schema_cases.json", |case| {
        let schema = model.schema(case["schema"].as_str().unwrap_or_default()).ok_or("no such schema")?;
        let input = &case["input"];
        let outcome = match case["op"].as_str() {
            Some("process_auto_fields") => {
                let mut entity = input.as_object().cloned().unwrap_or_default();
                schema.fill(&mut entity, Context::Insert, &mut Seeded::new(1, 1_795_370_903));
                Ok(Value::Object(entity))
            }
            Some("validate_update") => schema.validate_part(input).map(|()| Value::Null),
            _ => schema.validate(input).map(|()| Value::Null),
        };
        compare(case, outcome)
    })
}

/// `kong/plugin_config_cases.json`: a configuration of a plugin.
pub(crate) fn plugin_configs(data: &Path) -> Option<Vec<Case>> {
    let model = Model::load();
    cases(data, "plugin_config_cases.json", |case| {
        let schema = model.schema("plugins").ok_or("no schema of plugins")?;
        let mut entity = Map::new();
        entity.insert("id".to_owned(), Value::from("00000000-0000-4000-8000-0000000000aa"));
        entity.insert("name".to_owned(), case["schema"].clone());
        entity.insert("config".to_owned(), case["input"].clone());
        schema.fill(&mut entity, Context::Insert, &mut Seeded::new(1, 1_795_370_903));
        let entity = Value::Object(entity);
        compare(case, schema.validate(&entity).map(|()| entity.clone()))
    })
}

/// `kong/declarative_cases.json`: a declarative configuration, checked or made flat.
pub(crate) fn declarative(data: &Path) -> Option<Vec<Case>> {
    let model = Model::load();
    let reader = Declarative::new(&model);
    cases(data, "declarative_cases.json", |case| {
        let input = case["input"].clone();
        let outcome = match case["op"].as_str() {
            Some("validate") if has_keys(&input) => reader.validate_keyed(&input).map(|()| Value::Null),
            Some("validate") => reader.validate(&input).map(|()| Value::Null),
            _ => reader.flatten(input, &mut Seeded::new(1, 1_795_370_903)).map(|parsed| {
                Value::Object(
                    parsed.entities.0.into_iter().map(|(name, all)| (name, Value::Object(all))).collect(),
                )
            }),
        };
        // Entities whose ids were drawn are filed under them.
        if let (Ok(Value::Object(found)), Value::Object(expected)) = (&outcome, &case["output"]) {
            return flat_entities(expected, found);
        }
        compare(case, outcome)
    })
}

/// Whether ids were put into the configuration to check it against keys: each entity has one.
fn has_keys(input: &Value) -> bool {
    let mut entities =
        input.as_object().into_iter().flat_map(Map::values).filter_map(Value::as_array).flatten().peekable();
    entities.peek().is_some() && entities.all(|entity| entity.get("id").is_some())
}

fn flat_entities(expected: &Map<String, Value>, found: &Map<String, Value>) -> Result<(), String> {
    let mut expected = expected.clone();
    // The workspace is put in by whoever loads the entities.
    expected.remove("workspaces");
    for (name, all) in &expected {
        let ours = found.get(name).and_then(Value::as_object);
        let mut left: Vec<&Value> = ours.into_iter().flat_map(Map::values).collect();
        for wanted in all.as_object().into_iter().flat_map(Map::values) {
            let at = left.iter().position(|entity| same(wanted, entity));
            let at = at.ok_or_else(|| format!("{name}: no {wanted} among {ours:?}"))?;
            left.remove(at);
        }
        if !left.is_empty() {
            return Err(format!("{name}: unexpected {left:?}"));
        }
    }
    let extra: Vec<&String> = found
        .iter()
        .filter(|(name, all)| !expected.contains_key(*name) && !is_empty_table(all))
        .map(|(name, _)| name)
        .collect();
    if extra.is_empty() { Ok(()) } else { Err(format!("unexpected collections {extra:?}")) }
}

/// Puts a key of ours where the recorder took a private key out.
fn with_key(value: &mut Value, key: &str) {
    match value {
        Value::String(text) if text.starts_with("@@PRIVATE-KEY") => key.clone_into(text),
        Value::Array(items) => items.iter_mut().for_each(|item| with_key(item, key)),
        Value::Object(map) => map.values_mut().for_each(|item| with_key(item, key)),
        _ => {}
    }
}

/// The words of the TLS library behind a refusal are its own.
fn without_library_words(value: &mut Value) {
    match value {
        Value::String(text) => {
            for start in ["invalid certificate: ", "invalid key: "] {
                if text.starts_with(start) {
                    start.clone_into(text);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(without_library_words),
        Value::Object(map) => map.values_mut().for_each(without_library_words),
        _ => {}
    }
}

/// Entries and their errors in one order: Lua's tables have none.
fn sorted(value: &Value) -> Vec<String> {
    let mut out = Vec::new();
    for entry in value.as_array().into_iter().flatten() {
        let mut entry = entry.clone();
        if let Some(errors) = entry.get_mut("errors").and_then(Value::as_array_mut) {
            errors.sort_by_key(|error| ordered(error).to_string());
        }
        out.push(ordered(&entry).to_string());
    }
    out.sort();
    out
}

/// The same value with the keys of its objects sorted.
fn ordered(value: &Value) -> Value {
    match value {
        Value::Object(map) if map.is_empty() => Value::Array(Vec::new()),
        Value::Object(map) => {
            let mut entries: Vec<(&String, &Value)> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            Value::Object(entries.into_iter().map(|(key, value)| (key.clone(), ordered(value))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(ordered).collect()),
        other => other.clone(),
    }
}

/// A key of the kind a case wants, made for this run.
const KEY: &str = "@@PRIVATE-KEY";

/// `kong/declarative_error_flattening.json`: a configuration and its faults by entity.
pub(crate) fn flatten_errors(data: &Path) -> Option<Vec<Case>> {
    let model = Model::load();
    let reader = Declarative::new(&model);
    let all = read(data, "declarative_error_flattening.json")?;
    let key = rcgen::KeyPair::generate().map_or_else(|_| KEY.to_owned(), |key| key.serialize_pem());
    let judged = all["cases"].as_array()?.iter().enumerate().map(|(number, case)| {
        let mut input = case["input"]["config"].clone();
        let mut expected = case["output"]["err_t"].clone();
        with_key(&mut input, &key);
        with_key(&mut expected, &key);
        let outcome = match reader.read(input, &mut Seeded::new(1, 1)) {
            Ok(_) => Err("accepted".to_owned()),
            Err((faults, input)) => {
                let (flattened, rest) = flattened_errors(&model, &input, &faults);
                let mut found = Value::Array(flattened);
                without_library_words(&mut found);
                without_library_words(&mut expected);
                let (ours, theirs) = (sorted(&found), sorted(&expected["flattened_errors"]));
                if ours != theirs {
                    let missing: Vec<&String> = theirs.iter().filter(|entry| !ours.contains(entry)).collect();
                    let extra: Vec<&String> = ours.iter().filter(|entry| !theirs.contains(entry)).collect();
                    Err(format!("missing {missing:#?}\nextra {extra:#?}"))
                } else if !same(&expected["fields"], &rest.to_json()) {
                    Err(format!("left {}, expected {}", rest.to_json(), expected["fields"]))
                } else {
                    Ok(())
                }
            }
        };
        Case::new(format!("flattening {number}"), outcome)
    });
    Some(judged.collect())
}
