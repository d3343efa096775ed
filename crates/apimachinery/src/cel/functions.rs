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

const TWO_TO_63: f64 = 9_223_372_036_854_775_808.0;

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
        ("int", Kind::Number(number)) => {
            signed(*number).map(Value::from).ok_or(EvalError::Arithmetic("integer overflow"))
        }
        ("uint", Kind::Number(number)) => {
            unsigned(*number).ok_or(EvalError::Arithmetic("unsigned integer overflow"))
        }
        ("int", Kind::String(text)) => {
            text.parse::<i64>().map(Value::from).map_err(|_| EvalError::Arithmetic("the text is no integer"))
        }
        ("uint", Kind::String(text)) => {
            let number = text.parse::<u64>().ok().and_then(|number| unsigned(Number::Uint(number)));
            number.ok_or(EvalError::Arithmetic("the text is no unsigned integer"))
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

/// The integer that the number is, without what comes after the point.
fn signed(number: Number) -> Option<i64> {
    match number {
        Number::Int(number) => Some(number),
        Number::Uint(number) => i64::try_from(number).ok(),
        // As the reference, which refuses the least integer too.
        Number::Float(number) => (number > -TWO_TO_63 && number < TWO_TO_63).then_some(number as i64),
    }
}

fn unsigned(number: Number) -> Option<Value> {
    let number = match number {
        Number::Int(number) => u64::try_from(number).ok()?,
        Number::Uint(number) => number,
        Number::Float(number) if (0.0..2.0 * TWO_TO_63).contains(&number) => number as u64,
        Number::Float(_) => return None,
    };
    Some(match i64::try_from(number) {
        Ok(number) => number.into(),
        Err(_) => Kind::Number(Number::Uint(number)).into(),
    })
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
        ("split", Some(separator), [_, limit]) => {
            let limit = limit.as_i64().ok_or_else(|| no_overload(name))?;
            match usize::try_from(limit) {
                Ok(limit) => text.splitn(limit, separator).map(Value::from).collect::<Vec<_>>().into(),
                Err(_) => text.split(separator).map(Value::from).collect::<Vec<_>>().into(),
            }
        }
        ("replace", Some(from), [_, to, limit @ ..]) => {
            let to = to.as_str().ok_or_else(|| no_overload(name))?;
            let limit = match limit {
                [] => -1,
                [limit] => limit.as_i64().ok_or_else(|| no_overload(name))?,
                _ => return Err(no_overload(name)),
            };
            match usize::try_from(limit) {
                Ok(limit) => text.replacen(from, to, limit).into(),
                Err(_) => text.replace(from, to).into(),
            }
        }
        ("indexOf", Some(part), [_]) => position(text.find(part)),
        ("lastIndexOf", Some(part), [_]) => position(text.rfind(part)),
        ("indexOf" | "lastIndexOf", Some(part), [_, from]) => {
            let from = from.as_i64().ok_or_else(|| no_overload(name))?;
            if part.is_empty() {
                return Ok(from.into());
            }
            let characters = usize::try_from(from).map_err(|_| EvalError::OutOfBounds(from))?;
            let Some((start, _)) = text.char_indices().nth(characters) else { return Ok((-1_i64).into()) };
            match name {
                "indexOf" => position(text[start..].find(part).map(|at| start + at)),
                _ => position(text[..boundary(text, start.saturating_add(part.len()))].rfind(part)),
            }
        }
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

/// The last place up to `at` where a character begins, or the end.
fn boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default()
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
        ("lastIndexOf", [wanted]) => {
            items.iter().rposition(|item| item == *wanted).map_or(-1, |at| at as i64).into()
        }
        _ => return Err(no_overload(name)),
    })
}
