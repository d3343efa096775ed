//! Reading the loosely typed JSON of dashboards: a value that is missing or of another type is simply not there.

use serde_json::{Map, Value};

/// The text at a JSON pointer; numbers are texts too, since hand-made dashboards mix them.
pub(crate) fn text(value: &Value, pointer: &str) -> Option<String> {
    match value.pointer(pointer)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

pub(crate) fn str_at<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer)?.as_str()
}

/// The number at a JSON pointer, also when it is written as a text.
pub(crate) fn number(value: &Value, pointer: &str) -> Option<f64> {
    as_number(value.pointer(pointer)?)
}

pub(crate) fn as_number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok().filter(|number: &f64| number.is_finite()),
        _ => None,
    }
}

pub(crate) fn whole(value: &Value, pointer: &str) -> Option<i64> {
    number(value, pointer).map(|number| number as i64)
}

pub(crate) fn flag(value: &Value, pointer: &str) -> Option<bool> {
    value.pointer(pointer)?.as_bool()
}

pub(crate) fn is_set(value: &Value, pointer: &str) -> bool {
    flag(value, pointer).unwrap_or(false)
}

pub(crate) fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

pub(crate) fn strings(value: &Value, pointer: &str) -> Vec<String> {
    list(value, pointer).iter().filter_map(|item| Some(item.as_str()?.to_owned())).collect()
}

/// The object behind a key, made when it is not one.
pub(crate) fn object_mut<'a>(value: &'a mut Value, key: &str) -> &'a mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    let slot = value.as_object_mut().expect("just made one").entry(key).or_insert(Value::Null);
    if !slot.is_object() {
        *slot = Value::Object(Map::new());
    }
    slot.as_object_mut().expect("just made one")
}

/// Sets `a.b.c`, making the objects on the way.
pub(crate) fn set_path(value: &mut Value, path: &str, new: Value) {
    let mut at = value;
    for key in path.split('.') {
        if !at.is_object() {
            *at = Value::Object(Map::new());
        }
        at = at.as_object_mut().expect("just made one").entry(key).or_insert(Value::Null);
    }
    *at = new;
}
