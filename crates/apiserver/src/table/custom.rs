//! Columns of custom resources: the printer columns of their definition, by a subset of JSONPath.

use gantry_apimachinery::{Kind, Map, Value};

use super::{age_cell, json_text};
use crate::resources::{Custom, PrinterColumn};

pub(super) fn definitions(custom: &Custom) -> Value {
    let definition = |name: &str, kind: &str, format: &str, description: &str, priority: i64| {
        let mut definition = Map::new();
        definition.insert("name", name);
        definition.insert("type", kind);
        definition.insert("format", format);
        definition.insert("description", description);
        definition.insert("priority", priority);
        Value::from(definition)
    };
    let mut definitions = vec![definition("Name", "string", "name", "", 0)];
    if custom.columns.is_empty() {
        definitions.push(definition("Age", "date", "", "", 0));
    }
    for column in &custom.columns {
        definitions.push(definition(
            &column.name,
            &column.kind,
            &column.format,
            &column.description,
            column.priority,
        ));
    }
    definitions.into()
}

pub(super) fn cells(custom: &Custom, object: &Value) -> String {
    let mut cells = vec![json_text(object.str_at(&["metadata", "name"]).unwrap_or_default())];
    if custom.columns.is_empty() {
        cells.push(age_cell(object.str_at(super::CREATED)));
    }
    for column in &custom.columns {
        cells.push(cell(column, object));
    }
    format!("[{}]", cells.join(","))
}

fn cell(column: &PrinterColumn, object: &Value) -> String {
    let found = find(object, &column.json_path);
    let Some(first) = found.first().filter(|value| !value.is_null()) else { return "null".into() };
    match column.kind.as_str() {
        "date" => match first.as_str() {
            Some(timestamp) => age_cell(Some(timestamp)),
            None => "null".into(),
        },
        "integer" | "number" | "boolean" => match &first.kind {
            Kind::Number(_) | Kind::Bool(_) => serde_json::to_string(first).unwrap_or_default(),
            _ => "null".into(),
        },
        _ => {
            let text = |value: &Value| {
                value.as_str().map_or_else(|| serde_json::to_string(value).unwrap_or_default(), str::to_owned)
            };
            let joined: Vec<String> = found.iter().map(|value| text(value)).collect();
            json_text(&joined.join(","))
        }
    }
}

/// Evaluates `.spec.list[*].name`, `.status.conditions[?(@.type=="Ready")].status`, `['a.b']`, `[0]`.
fn find<'v>(root: &'v Value, path: &str) -> Vec<&'v Value> {
    let mut found = vec![root];
    let mut rest = path.trim().trim_start_matches('{').trim_end_matches('}').trim_start_matches('$');
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('.') {
            let end = field_end(after);
            let name = after[..end].replace("\\.", ".");
            found = found.into_iter().filter_map(|value| value.get(&name)).collect();
            rest = &after[end..];
        } else if let Some(after) = rest.strip_prefix('[') {
            let Some(end) = bracket_end(after) else { return Vec::new() };
            found = index(found, &after[..end]);
            rest = &after[end + 1..];
        } else {
            return Vec::new();
        }
    }
    found
}

fn field_end(text: &str) -> usize {
    let mut escaped = false;
    for (index, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '.' | '[' => return index,
            _ => {}
        }
    }
    text.len()
}

/// The closing bracket, not one within quotes.
fn bracket_end(text: &str) -> Option<usize> {
    let mut quote = None;
    for (index, c) in text.char_indices() {
        match (quote, c) {
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), _) if open == c => quote = None,
            (None, ']') => return Some(index),
            _ => {}
        }
    }
    None
}

fn unquote(text: &str) -> Option<&str> {
    let text = text.trim();
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    text.get(1..)?.strip_suffix(quote)
}

fn index<'v>(values: Vec<&'v Value>, inside: &str) -> Vec<&'v Value> {
    if inside == "*" {
        return values.into_iter().filter_map(Value::as_array).flatten().collect();
    }
    if let Some(name) = unquote(inside) {
        return values.into_iter().filter_map(|value| value.get(name)).collect();
    }
    if let Some(condition) = inside.strip_prefix("?(").and_then(|condition| condition.strip_suffix(')')) {
        let Some((path, wanted)) = condition.split_once("==") else { return Vec::new() };
        let path = path.trim().trim_start_matches('@');
        let wanted = unquote(wanted)
            .map_or_else(|| serde_json::from_str(wanted.trim()).unwrap_or_default(), Value::from);
        let elements = values.into_iter().filter_map(Value::as_array).flatten();
        return elements.filter(|element| find(element, path).first() == Some(&&wanted)).collect();
    }
    let Ok(position) = inside.trim().parse::<i64>() else { return Vec::new() };
    let at = |list: &'v Vec<Value>| {
        let position = if position < 0 {
            list.len().checked_sub(position.unsigned_abs() as usize)?
        } else {
            position as usize
        };
        list.get(position)
    };
    values.into_iter().filter_map(|value| at(value.as_array()?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let object: Value = serde_json::from_str(
            r#"{"spec":{"size":3,"list":[{"n":"a"},{"n":"b"}],"a.b":"dot"},"status":{"conditions":[{"type":"Ready","status":"True"}]}}"#,
        )
        .unwrap();
        for (path, expected) in [
            (".spec.size", "3"),
            (".spec.list[*].n", r#""a","b""#),
            (".spec.list[-1].n", r#""b""#),
            (".spec['a.b']", r#""dot""#),
            (r".spec.a\.b", r#""dot""#),
            (r#".status.conditions[?(@.type=="Ready")].status"#, r#""True""#),
            (".spec.nothing", ""),
            (".spec.list[9]", ""),
            (".spec[", ""),
        ] {
            let found: Vec<String> =
                find(&object, path).into_iter().map(|value| serde_json::to_string(value).unwrap()).collect();
            assert_eq!(found.join(","), expected, "{path}");
        }
    }
}
