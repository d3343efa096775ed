//! Functions and methods of expressions.

use super::eval::EvalError;
use crate::value::{Kind, Number, Value};

const FUNCTIONS: [&str; 7] = ["size", "int", "uint", "double", "string", "bool", "dyn"];
const METHODS: [&str; 18] = [
    "size",
    "startsWith",
    "endsWith",
    "contains",
    "matches",
    "lowerAscii",
    "upperAscii",
    "trim",
    "split",
    "replace",
    "indexOf",
    "lastIndexOf",
    "substring",
    "join",
    "isSorted",
    "sum",
    "min",
    "max",
];

pub(super) fn is_function(name: &str) -> bool {
    FUNCTIONS.contains(&name)
}

pub(super) fn is_method(name: &str) -> bool {
    METHODS.contains(&name)
}

fn no_overload(name: &str) -> EvalError {
    EvalError::NoOverload(format!("{name}()"))
}

/// A function of one argument.
pub(super) fn call(name: &str, of: &Value) -> Result<Value, EvalError> {
    match (name, &of.kind) {
        ("size", _) => method("size", of, &[]),
        ("int" | "uint", Kind::Number(Number::Int(number))) => Ok((*number).into()),
        ("int" | "uint", Kind::Number(number)) => Ok((number.as_f64() as i64).into()),
        ("int" | "uint", Kind::String(text)) => {
            text.parse::<i64>().map(Value::from).map_err(|_| EvalError::Arithmetic("the text is no integer"))
        }
        ("double", Kind::Number(number)) => Ok(number.as_f64().into()),
        ("double", Kind::String(text)) => {
            text.parse::<f64>().map(Value::from).map_err(|_| EvalError::Arithmetic("the text is no number"))
        }
        ("string", Kind::String(_)) => Ok(of.clone()),
        ("string", Kind::Number(_) | Kind::Bool(_)) => {
            Ok(serde_json::to_string(of).unwrap_or_default().into())
        }
        ("bool", Kind::Bool(_)) => Ok(of.clone()),
        ("bool", Kind::String(text)) => match text.as_str() {
            "true" => Ok(true.into()),
            "false" => Ok(false.into()),
            _ => Err(EvalError::Arithmetic("the text is no boolean")),
        },
        _ => Err(no_overload(name)),
    }
}

pub(super) fn method(name: &str, of: &Value, arguments: &[&Value]) -> Result<Value, EvalError> {
    match &of.kind {
        Kind::String(text) => text_method(name, text, arguments),
        Kind::Array(items) => list_method(name, items, arguments),
        Kind::Object(map) if name == "size" && arguments.is_empty() => Ok((map.len() as i64).into()),
        _ => Err(no_overload(name)),
    }
}

/// Positions are those of characters.
fn text_method(name: &str, text: &str, arguments: &[&Value]) -> Result<Value, EvalError> {
    let first = arguments.first().and_then(|argument| argument.as_str());
    let position =
        |at: Option<usize>| -> Value { at.map_or(-1, |bytes| text[..bytes].chars().count() as i64).into() };
    Ok(match (name, first, arguments) {
        ("size", _, []) => (text.chars().count() as i64).into(),
        ("startsWith", Some(prefix), [_]) => text.starts_with(prefix).into(),
        ("endsWith", Some(suffix), [_]) => text.ends_with(suffix).into(),
        ("contains", Some(part), [_]) => text.contains(part).into(),
        ("lowerAscii", _, []) => text.to_ascii_lowercase().into(),
        ("upperAscii", _, []) => text.to_ascii_uppercase().into(),
        ("trim", _, []) => text.trim().into(),
        ("split", Some(separator), [_]) => text.split(separator).map(Value::from).collect::<Vec<_>>().into(),
        ("replace", Some(from), [_, to]) => match to.as_str() {
            Some(to) => text.replace(from, to).into(),
            None => return Err(no_overload(name)),
        },
        ("indexOf", Some(part), [_]) => position(text.find(part)),
        ("lastIndexOf", Some(part), [_]) => position(text.rfind(part)),
        ("substring", _, [start, rest @ ..]) => {
            let length = text.chars().count() as i64;
            let start = start.as_i64().ok_or_else(|| no_overload(name))?;
            let end = match rest {
                [] => length,
                [end] => end.as_i64().ok_or_else(|| no_overload(name))?,
                _ => return Err(no_overload(name)),
            };
            if start < 0 || end > length || start > end {
                return Err(EvalError::OutOfBounds(start));
            }
            let part: String = text.chars().skip(start as usize).take((end - start) as usize).collect();
            part.into()
        }
        _ => return Err(no_overload(name)),
    })
}

fn list_method(name: &str, items: &[Value], arguments: &[&Value]) -> Result<Value, EvalError> {
    let number = |value: &Value| value.as_f64().ok_or_else(|| no_overload(name));
    Ok(match (name, arguments) {
        ("size", []) => (items.len() as i64).into(),
        ("join", _) => {
            let separator = arguments.first().and_then(|argument| argument.as_str()).unwrap_or_default();
            let texts: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
            texts.ok_or_else(|| no_overload(name))?.join(separator).into()
        }
        ("isSorted", []) => {
            let in_order = |pair: &[Value]| match (&pair[0].kind, &pair[1].kind) {
                (Kind::String(a), Kind::String(b)) => a <= b,
                (Kind::Number(a), Kind::Number(b)) => a.as_f64() <= b.as_f64(),
                _ => false,
            };
            items.windows(2).all(in_order).into()
        }
        ("sum", []) => match items.iter().map(Value::as_i64).collect::<Option<Vec<i64>>>() {
            Some(numbers) => {
                let sum = numbers.iter().try_fold(0_i64, |sum, number| sum.checked_add(*number));
                sum.map(Value::from).ok_or(EvalError::Arithmetic("integer overflow"))?
            }
            None => items.iter().map(number).sum::<Result<f64, _>>()?.into(),
        },
        ("min" | "max", []) => {
            let mut best: Option<&Value> = None;
            for item in items {
                let better = match best {
                    None => true,
                    Some(best) if name == "min" => number(item)? < number(best)?,
                    Some(best) => number(item)? > number(best)?,
                };
                if better {
                    best = Some(item);
                }
            }
            best.cloned().ok_or(EvalError::Arithmetic("the list is empty"))?
        }
        ("indexOf", [wanted]) => {
            items.iter().position(|item| item == *wanted).map_or(-1, |at| at as i64).into()
        }
        _ => return Err(no_overload(name)),
    })
}
