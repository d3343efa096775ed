//! Values of a locustfile's expressions: evaluated per use, written as Python's `str`, `json.dumps` and form encoding do.

use std::fmt::Write as _;

use super::super::number::python_float;
use crate::plan::Rng;

/// An expression.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    /// Texts one after the other; what is no text is written as `str` does.
    Join(Vec<Value>),
    List(Vec<Value>),
    Dict(Vec<(Value, Value)>),
    Variable(usize),
    /// `random.randint`: both included.
    RandInt(i64, i64),
    /// `random.uniform`.
    Uniform(f64, f64),
    /// `random.choice` of a list that is not empty.
    Choice(Vec<Value>),
    /// `uuid.uuid4()`, as text.
    Uuid,
}

/// What evaluation needs: the variables of the user, and its chance.
pub(super) struct Frame<'a> {
    pub(super) variables: &'a mut Vec<Value>,
    pub(super) rng: &'a mut Rng,
}

// === impl Value ===

impl Value {
    /// A value without variables and chance.
    pub(super) fn evaluate(&self, frame: &mut Frame<'_>) -> Value {
        match self {
            Value::Variable(index) => frame.variables.get(*index).cloned().unwrap_or(Value::None),
            Value::RandInt(least, most) => {
                let span = most.abs_diff(*least).saturating_add(1);
                Value::Int(least.saturating_add_unsigned(frame.rng.below(span)))
            }
            Value::Uniform(least, most) => Value::Float(least + (most - least) * frame.rng.unit()),
            Value::Choice(items) => {
                let index = frame.rng.below(items.len() as u64) as usize;
                items.get(index).map_or(Value::None, |item| item.evaluate(frame))
            }
            Value::Uuid => Value::Text(uuid(frame.rng)),
            Value::Join(items) => {
                let mut text = String::new();
                for item in items {
                    item.evaluate(frame).write_text(&mut text);
                }
                Value::Text(text)
            }
            Value::List(items) => Value::List(items.iter().map(|item| item.evaluate(frame)).collect()),
            Value::Dict(items) => Value::Dict(
                items.iter().map(|(key, value)| (key.evaluate(frame), value.evaluate(frame))).collect(),
            ),
            other => other.clone(),
        }
    }

    pub(super) fn number(&self) -> f64 {
        match self {
            Value::Int(value) => *value as f64,
            Value::Float(value) => *value,
            Value::Bool(value) => f64::from(u8::from(*value)),
            _ => 0.0,
        }
    }

    /// As `str` writes it.
    pub(super) fn write_text(&self, out: &mut String) {
        match self {
            Value::None => out.push_str("None"),
            Value::Bool(value) => out.push_str(if *value { "True" } else { "False" }),
            Value::Int(value) => drop(write!(out, "{value}")),
            Value::Float(value) => out.push_str(&python_float(*value)),
            Value::Text(text) => out.push_str(text),
            other => other.write_json(out),
        }
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        self.write_text(&mut text);
        text
    }

    /// As `json.dumps` writes it: a space after `,` and `:`, nothing but ASCII.
    pub(super) fn write_json(&self, out: &mut String) {
        match self {
            Value::None => out.push_str("null"),
            Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Value::Text(text) => write_json_text(text, out),
            Value::List(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    out.push_str(if index > 0 { ", " } else { "" });
                    item.write_json(out);
                }
                out.push(']');
            }
            Value::Dict(items) => {
                out.push('{');
                for (index, (key, value)) in items.iter().enumerate() {
                    out.push_str(if index > 0 { ", " } else { "" });
                    match key {
                        Value::Text(text) => write_json_text(text, out),
                        Value::Bool(_) | Value::None => {
                            let mut text = String::new();
                            key.write_json(&mut text);
                            write_json_text(&text, out);
                        }
                        other => write_json_text(&other.text(), out),
                    }
                    out.push_str(": ");
                    value.write_json(out);
                }
                out.push('}');
            }
            other => other.write_text(out),
        }
    }

    /// As `urllib.parse.urlencode` writes a dict: lists repeat their key, `None` is left out (as requests does).
    pub(super) fn write_form(&self, out: &mut String) {
        let Value::Dict(items) = self else { return self.write_text(out) };
        for (key, value) in items {
            let values = match value {
                Value::None => continue,
                Value::List(values) => values.as_slice(),
                single => std::slice::from_ref(single),
            };
            for value in values {
                if !out.is_empty() {
                    out.push('&');
                }
                quote_plus(&key.text(), out);
                out.push('=');
                quote_plus(&value.text(), out);
            }
        }
    }
}

fn write_json_text(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            ' '..='~' => out.push(c),
            other => {
                for unit in other.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push('"');
}

fn quote_plus(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b' ' => out.push('+'),
            b'_' | b'.' | b'-' | b'~' => out.push(byte as char),
            other if other.is_ascii_alphanumeric() => out.push(other as char),
            other => drop(write!(out, "%{other:02X}")),
        }
    }
}

/// A path as requests sends it: what is not allowed in one is escaped, what is escaped already stays.
pub(super) fn requote_path(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        let allowed = byte.is_ascii_alphanumeric() || b"!#$%&'()*+,/:;=?@[]~-._".contains(&byte);
        if byte == b'#' {
            break;
        }
        if allowed {
            out.push(byte as char);
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

fn uuid(rng: &mut Rng) -> String {
    let (high, low) = (rng.next(), rng.next());
    let high = (high & !0xf000) | 0x4000;
    let low = (low & 0x3fff_ffff_ffff_ffff) | 0x8000_0000_0000_0000;
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xffff,
        low >> 48,
        low & 0xffff_ffff_ffff
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> Value {
        Value::Text(value.to_owned())
    }

    #[test]
    fn json_is_written_as_python_does() {
        let value = Value::Dict(vec![
            (text("product"), Value::Int(3)),
            (text("price"), Value::Float(2.0)),
            (text("tags"), Value::List(vec![text("é\n"), Value::None, Value::Bool(true)])),
        ]);
        let mut out = String::new();
        value.write_json(&mut out);
        assert_eq!(out, r#"{"product": 3, "price": 2.0, "tags": ["\u00e9\n", null, true]}"#);
    }

    #[test]
    fn forms_and_paths_are_quoted_as_requests_does() {
        let value = Value::Dict(vec![(text("a b"), text("x&y/é")), (text("n"), Value::None), (text("l"), Value::List(vec![Value::Int(1), Value::Int(2)]))]);
        let mut out = String::new();
        value.write_form(&mut out);
        assert_eq!(out, "a+b=x%26y%2F%C3%A9&l=1&l=2");
        assert_eq!(requote_path("/a b/é?q=x y%20z#frag"), "/a%20b/%C3%A9?q=x%20y%20z");
    }

    #[test]
    fn chance_stays_in_its_bounds() {
        let (mut rng, mut variables) = (Rng::new(1, 2), vec![Value::Int(7)]);
        let mut frame = Frame { variables: &mut variables, rng: &mut rng };
        let path = Value::Join(vec![text("/p/"), Value::RandInt(1, 3), text("/"), Value::Variable(0)]);
        for _ in 0..50 {
            let text = path.evaluate(&mut frame).text();
            assert!(["/p/1/7", "/p/2/7", "/p/3/7"].contains(&text.as_str()), "{text}");
        }
        let id = Value::Uuid.evaluate(&mut frame).text();
        assert!(id.len() == 36 && id.as_bytes()[14] == b'4', "{id}");
        Value::RandInt(i64::MIN, i64::MAX).evaluate(&mut frame);
    }
}
