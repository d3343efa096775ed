//! The functions that every template may call.

use std::cmp::Ordering;

use crate::escape;
use crate::format;
use crate::value::{Function, Value};

/// Least and most arguments; `None` for what is no built-in function.
pub(crate) fn arity(name: &str) -> Option<(usize, Option<usize>)> {
    Some(match name {
        "and" | "or" | "call" | "index" | "slice" | "eq" | "printf" => (1, None),
        "not" | "len" => (1, Some(1)),
        "ne" | "lt" | "le" | "gt" | "ge" => (2, Some(2)),
        "html" | "js" | "urlquery" | "print" | "println" => (0, None),
        _ => return None,
    })
}

/// `and` and `or` are not here: they do not evaluate all their arguments. No text gets longer than `most_bytes`.
pub(crate) fn call(name: &str, args: &[Value], most_bytes: usize) -> Result<Value, String> {
    match name {
        "not" => Ok(Value::Bool(!args[0].is_true())),
        "len" => length(&args[0]),
        "index" => args[1..].iter().try_fold(args[0].clone(), |item, at| index(&item, at)),
        "slice" => slice(&args[0], &args[1..]),
        "call" => call_value(&args[0], &args[1..]),
        "eq" => equal_to_any(&args[0], &args[1..]).map(Value::Bool),
        "ne" => equal_to_any(&args[0], &args[1..]).map(|equal| Value::Bool(!equal)),
        "lt" => less(&args[0], &args[1]).map(Value::Bool),
        "le" => less_or_equal(&args[0], &args[1]).map(Value::Bool),
        "gt" => less_or_equal(&args[0], &args[1]).map(|le| Value::Bool(!le)),
        "ge" => less(&args[0], &args[1]).map(|less| Value::Bool(!less)),
        "html" => Ok(escape::html(&format::print_bounded(args, most_bytes)?).into()),
        "js" => Ok(escape::javascript(&format::print_bounded(args, most_bytes)?).into()),
        "urlquery" => Ok(escape::query(&format::print_bounded(args, most_bytes)?).into()),
        "print" => Ok(format::print_bounded(args, most_bytes)?.into()),
        "println" => Ok(format::println_bounded(args, most_bytes)?.into()),
        "printf" => match &args[0] {
            Value::String(text) => Ok(format::printf_bounded(text, &args[1..], most_bytes)?.into()),
            other => Err(format!("wrong type for value; expected string; got {}", other.type_name())),
        },
        other => Err(format!("{other:?} is not a defined function")),
    }
}

fn length(value: &Value) -> Result<Value, String> {
    let length = match value {
        Value::Missing | Value::Nil => return Err("len of untyped nil".into()),
        Value::String(text) => text.len(),
        Value::Map(map) => map.entries.len(),
        other => match other.items() {
            Some(items) => items.len(),
            None => return Err(format!("len of type {}", other.type_name())),
        },
    };
    Ok(Value::Int(i64::try_from(length).unwrap_or(i64::MAX)))
}

fn position(value: &Value, most: usize) -> Result<usize, String> {
    match value {
        Value::Int(at) => usize::try_from(*at)
            .ok()
            .filter(|position| *position <= most)
            .ok_or_else(|| format!("index out of range: {at}")),
        Value::Missing | Value::Nil => Err("cannot index slice/array with nil".into()),
        other => Err(format!("cannot index slice/array with type {}", other.type_name())),
    }
}

fn index(item: &Value, at: &Value) -> Result<Value, String> {
    match item {
        Value::Missing | Value::Nil => Err("index of untyped nil".into()),
        Value::Map(map) => match at {
            Value::String(key) => Ok(map.entries.get(key).unwrap_or(&map.zero).clone()),
            Value::Missing | Value::Nil => Err("value is nil; should be of type string".into()),
            other => Err(format!("value has type {}; should be string", other.type_name())),
        },
        Value::String(text) => {
            let at = position(at, text.len())?;
            let byte = text.as_bytes().get(at).ok_or_else(|| format!("index out of range: {at}"))?;
            Ok(Value::Int(i64::from(*byte)))
        }
        other => {
            let items =
                other.items().ok_or_else(|| format!("can't index item of type {}", other.type_name()))?;
            let at = position(at, items.len())?;
            items.get(at).cloned().ok_or_else(|| format!("index out of range: {at}"))
        }
    }
}

fn slice(item: &Value, bounds: &[Value]) -> Result<Value, String> {
    if bounds.len() > 3 {
        return Err(format!("too many slice indexes: {}", bounds.len()));
    }
    let ends = |length: usize| {
        let mut ends = [0, length, length];
        for (end, bound) in ends.iter_mut().zip(bounds) {
            *end = position(bound, length)?;
        }
        let [from, to, capacity] = ends;
        if from > to {
            return Err(format!("invalid slice index: {from} > {to}"));
        }
        if to > capacity {
            return Err(format!("invalid slice index: {to} > {capacity}"));
        }
        Ok((from, to))
    };
    match item {
        Value::Missing | Value::Nil => Err("slice of untyped nil".into()),
        Value::String(_) if bounds.len() == 3 => Err("cannot 3-index slice a string".into()),
        Value::String(text) => {
            let (from, to) = ends(text.len())?;
            let part = text.get(from..to);
            part.map(Value::from)
                .ok_or_else(|| format!("slice {from}:{to} cuts a character of {text:?} in two"))
        }
        other => {
            let items =
                other.items().ok_or_else(|| format!("can't slice item of type {}", other.type_name()))?;
            let (from, to) = ends(items.len())?;
            Ok(Value::list(items[from..to].iter().cloned()))
        }
    }
}

fn call_value(function: &Value, args: &[Value]) -> Result<Value, String> {
    match function {
        Value::Missing | Value::Nil => Err("call of nil".into()),
        Value::Function(function) => {
            Function::check_count("function", function.least, function.most, args.len())?;
            (function.call)(args)
        }
        other => Err(format!("non-function of type {}", other.type_name())),
    }
}

const NOTHING_TO_COMPARE: &str = "missing argument for comparison";
const DIFFERENT_KINDS: &str = "incompatible types for comparison";
const NO_ORDER: &str = "invalid type for comparison";

fn equal_to_any(value: &Value, others: &[Value]) -> Result<bool, String> {
    if others.is_empty() {
        return Err(NOTHING_TO_COMPARE.into());
    }
    for other in others {
        if equal(value, other)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn equal(a: &Value, b: &Value) -> Result<bool, String> {
    match (a, b) {
        (a, b) if a.is_nil() || b.is_nil() => Ok(a.is_nil() && b.is_nil()),
        (Value::Bool(_), Value::Bool(_))
        | (Value::Int(_), Value::Int(_))
        | (Value::Float(_), Value::Float(_))
        | (Value::String(_), Value::String(_))
        | (Value::Object(_), Value::Object(_)) => Ok(a == b),
        (Value::List(_), Value::List(_)) | (Value::Map(_), Value::Map(_)) => {
            let shown = format::printf(
                "%s: %v, %s: %v",
                &[a.type_name().into(), a.clone(), b.type_name().into(), b.clone()],
            );
            Err(format!("non-comparable types {shown}"))
        }
        _ => Err(DIFFERENT_KINDS.into()),
    }
}

fn less(a: &Value, b: &Value) -> Result<bool, String> {
    let order = match (a, b) {
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        (Value::Float(a), Value::Float(b)) => a.partial_cmp(b),
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (a, _) | (_, a)
            if !matches!(a, Value::Int(_) | Value::Float(_) | Value::String(_) | Value::Bool(_)) =>
        {
            return Err(NO_ORDER.into());
        }
        (Value::Bool(_), Value::Bool(_)) => return Err(NO_ORDER.into()),
        _ => return Err(DIFFERENT_KINDS.into()),
    };
    Ok(order == Some(Ordering::Less))
}

fn less_or_equal(a: &Value, b: &Value) -> Result<bool, String> {
    Ok(less(a, b)? || equal(a, b)?)
}
