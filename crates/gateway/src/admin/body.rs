//! Bodies of requests: JSON, forms and multipart, with dotted names for what is nested and `[]` for lists.

use super::problem::Problem;
use bytes::Bytes;
use gantry_kong_model::{Field, Kind, Schema};
use http::{Request, StatusCode, header};
use serde_json::{Map, Value};

const BAD_JSON: &str = "Cannot parse JSON body";
/// More than any schema nests; without a bound the name of one field could be as deep as a body is long.
const MAX_DEPTH: usize = 32;

pub(super) fn percent_decoded(text: &str) -> String {
    decoded(text, false)
}

fn decoded(text: &str, plus_is_blank: bool) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let pair = bytes.get(at + 1..at + 3).and_then(|pair| std::str::from_utf8(pair).ok());
        match (bytes[at], pair.and_then(|pair| u8::from_str_radix(pair, 16).ok())) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 2;
            }
            (b'+', _) if plus_is_blank => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The pairs of a query or form.
pub(super) fn query(text: &str) -> Vec<(String, String)> {
    let parts = text.split('&').filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            (decoded(name, true), decoded(value, true))
        })
        .collect()
}

fn content_type(request: &Request<Bytes>) -> &str {
    let value = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    value.unwrap_or_default()
}

/// The parts of a multipart form that are not files.
fn multipart(body: &[u8], boundary: &str) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(body);
    let mut out = Vec::new();
    for part in text.split(&format!("--{boundary}")) {
        let Some((head, value)) = part.split_once("\r\n\r\n") else { continue };
        let Some(at) = head.find("name=\"") else { continue };
        let rest = &head[at + 6..];
        let Some(end) = rest.find('"') else { continue };
        out.push((rest[..end].to_owned(), value.strip_suffix("\r\n").unwrap_or(value).to_owned()));
    }
    out
}

fn pairs(request: &Request<Bytes>) -> Result<Option<Vec<(String, String)>>, Problem> {
    let kind = content_type(request);
    let media = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match media.as_str() {
        "application/x-www-form-urlencoded" => Ok(Some(query(&String::from_utf8_lossy(request.body())))),
        "multipart/form-data" => {
            let boundary = kind.split(';').find_map(|part| part.trim().strip_prefix("boundary="));
            let boundary = boundary.unwrap_or_default().trim_matches('"');
            Ok(Some(multipart(request.body(), boundary)))
        }
        "" | "application/json" => Ok(None),
        _ => Err(Problem::message(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Unsupported media type")),
    }
}

/// A text of a form as the type its field has.
fn typed(field: Option<&Field>, text: String) -> Value {
    let Some(field) = field else { return Value::String(text) };
    match field.kind {
        Kind::Integer | Kind::Number => match (text.parse::<i64>(), text.parse::<f64>()) {
            (Ok(number), _) => Value::from(number),
            (_, Ok(number)) => {
                serde_json::Number::from_f64(number).map_or(Value::String(text), Value::Number)
            }
            _ if text.is_empty() => Value::Null,
            _ => Value::String(text),
        },
        Kind::Boolean => match text.as_str() {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            "" => Value::Null,
            _ => Value::String(text),
        },
        Kind::Array | Kind::Set => match text.as_str() {
            "" => Value::Null,
            _ => Value::Array(vec![typed(field.element(), text)]),
        },
        Kind::String if text.is_empty() => Value::Null,
        _ => Value::String(text),
    }
}

fn put(target: &mut Value, path: &[&str], field: Option<&Field>, text: String) {
    let [first, rest @ ..] = path else { return };
    let (name, is_list) = match first.strip_suffix(']').and_then(|inner| inner.split_once('[')) {
        Some((name, _)) => (name, true),
        None => (*first, false),
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(map) = target.as_object_mut() else { return };
    if !rest.is_empty() {
        let below = field.and_then(|field| field.child(rest[0].split('[').next().unwrap_or_default()));
        put(map.entry(name.to_owned()).or_insert(Value::Null), rest, below, text);
        return;
    }
    let is_list = is_list || field.is_some_and(|field| matches!(field.kind, Kind::Array | Kind::Set));
    if !is_list {
        map.insert(name.to_owned(), typed(field, text));
        return;
    }
    let value = typed(field.and_then(Field::element), text);
    match map.get_mut(name) {
        Some(Value::Array(list)) => list.push(value),
        _ => {
            map.insert(name.to_owned(), Value::Array(vec![value]));
        }
    }
}

/// The entity a request describes.
pub(super) fn parse(request: &Request<Bytes>, schema: &Schema) -> Result<Map<String, Value>, Problem> {
    if request.body().is_empty() {
        return Ok(Map::new());
    }
    let Some(pairs) = pairs(request)? else {
        return match serde_json::from_slice(request.body()) {
            Ok(Value::Object(map)) => Ok(map),
            _ => Err(Problem::message(StatusCode::BAD_REQUEST, BAD_JSON)),
        };
    };
    let name = pairs.iter().find(|(key, _)| key == "name").map(|(_, value)| value.clone());
    let mut out = Value::Object(Map::new());
    for (key, value) in pairs {
        let path: Vec<&str> = key.split('.').take(MAX_DEPTH + 1).collect();
        if path.len() > MAX_DEPTH {
            let message = format!("field names nest deeper than {MAX_DEPTH}");
            return Err(Problem::message(StatusCode::BAD_REQUEST, message));
        }
        let first = path[0].split('[').next().unwrap_or_default();
        let field = schema.field_of(first, name.as_deref());
        put(&mut out, &path, field, value);
    }
    match out {
        Value::Object(map) => Ok(map),
        _ => Ok(Map::new()),
    }
}

/// The text of a declarative configuration: the body, or its field `config`.
pub(super) fn declarative(request: &Request<Bytes>) -> Result<String, Problem> {
    let kind = content_type(request).to_ascii_lowercase();
    if kind.starts_with("text/yaml")
        || kind.starts_with("application/yaml")
        || kind.starts_with("application/x-yaml")
    {
        return Ok(String::from_utf8_lossy(request.body()).into_owned());
    }
    if let Some(pairs) = pairs(request)? {
        let config = pairs.into_iter().find(|(name, _)| name == "config").map(|(_, value)| value);
        return config
            .ok_or_else(|| Problem::declarative("expected a declarative configuration", Value::Null));
    }
    let text = String::from_utf8_lossy(request.body()).into_owned();
    if let Ok(Value::Object(map)) = serde_json::from_str::<Value>(&text)
        && let Some(Value::String(config)) = map.get("config")
    {
        return Ok(config.clone());
    }
    Ok(text)
}
