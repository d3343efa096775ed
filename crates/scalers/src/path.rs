//! Where a number stands in a JSON or YAML document: paths in gjson's syntax, as far as it selects one value.
//!
//! Keys are separated by dots, `\` takes a dot or wildcard literally, digits index a list, `#` is a list's length or
//! (with more behind it) each of its elements, `#(key==value)` the first element for which that holds, and `*` and `?`
//! match parts of a key.

use serde_json::Value;

/// Deeper paths are refused.
const DEEPEST: usize = 64;

/// The text of the scalar at `location` in a `json` or `yaml` document.
pub(crate) fn text_at(format: &str, document: &str, location: &str) -> Result<String, String> {
    let value: Value = match format {
        "json" => serde_json::from_str(document).map_err(|_| not_found(location))?,
        // The parser's error shows the line, which may be that of a Secret.
        "yaml" => gantry_yaml::from_str::<Value>("answer", document)
            .map_err(|_| "the answer is no YAML".to_owned())?,
        other => return Err(format!("format {other:?} has no paths")),
    };
    match find(&value, location) {
        Some(Value::String(text)) => Ok(text),
        Some(Value::Number(number)) => Ok(number.to_string()),
        Some(Value::Bool(flag)) => Ok(flag.to_string()),
        Some(Value::Null) | None => Err(not_found(location)),
        Some(_) => Err(format!("valueLocation {location:?} is no number: it holds a list or an object")),
    }
}

/// The number at `location`: a number, a numeric string, or a quantity.
pub(crate) fn number_at(format: &str, document: &str, location: &str) -> Result<f64, String> {
    let text = text_at(format, document, location)?;
    number(&text).ok_or_else(|| format!("valueLocation {location:?} must point to a number, found {text:?}"))
}

/// A finite number or a quantity such as `500m`.
pub(crate) fn number(text: &str) -> Option<f64> {
    let plain = text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
    plain.or_else(|| {
        gantry_apimachinery::quantity::Quantity::parse(text.trim()).map(|quantity| quantity.as_f64())
    })
}

fn not_found(location: &str) -> String {
    format!("valueLocation {location:?} not found in the answer")
}

/// The value at `location`, if there is one.
pub(crate) fn find(value: &Value, location: &str) -> Option<Value> {
    let parts = split(location);
    if parts.len() > DEEPEST {
        return None;
    }
    walk(value, &parts)
}

fn walk(value: &Value, parts: &[Part]) -> Option<Value> {
    let Some((first, rest)) = parts.split_first() else { return Some(value.clone()) };
    match (first, value) {
        (Part::Key { text, wild }, Value::Object(map)) => {
            let found = if *wild {
                map.iter().find(|(key, _)| wildcard(text, key)).map(|(_, value)| value)
            } else {
                map.get(text)
            };
            walk(found?, rest)
        }
        (Part::Key { text, .. }, Value::Array(list)) => walk(list.get(text.parse::<usize>().ok()?)?, rest),
        (Part::Each, Value::Array(list)) if rest.is_empty() => Some(Value::from(list.len())),
        (Part::Each, Value::Array(list)) => {
            Some(Value::Array(list.iter().filter_map(|element| walk(element, rest)).collect()))
        }
        (Part::Query { key, operator, operand }, Value::Array(list)) => {
            let holds = |element: &&Value| {
                let found = if key.is_empty() { Some((*element).clone()) } else { find(element, key) };
                found.is_some_and(|found| compares(&found, operator, operand))
            };
            walk(list.iter().find(holds)?, rest)
        }
        _ => None,
    }
}

enum Part {
    Key { text: String, wild: bool },
    Each,
    Query { key: String, operator: String, operand: String },
}

fn split(location: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut chars = location.chars().peekable();
    let (mut text, mut wild, mut depth) = (String::new(), false, 0usize);
    let mut quoted = false;
    while let Some(c) = chars.next() {
        if depth > 0 {
            match c {
                '"' => quoted = !quoted,
                '(' if !quoted => depth += 1,
                ')' if !quoted => depth -= 1,
                _ => {}
            }
            text.push(c);
            continue;
        }
        match c {
            '\\' => text.extend(chars.next()),
            '.' => parts.push(part(std::mem::take(&mut text), std::mem::take(&mut wild))),
            '(' if text == "#" => {
                depth = 1;
                text.push(c);
            }
            _ => {
                wild |= matches!(c, '*' | '?');
                text.push(c);
            }
        }
    }
    parts.push(part(text, wild));
    parts
}

fn part(text: String, wild: bool) -> Part {
    if text == "#" {
        return Part::Each;
    }
    let Some(query) = text.strip_prefix("#(").and_then(|query| query.strip_suffix(')')) else {
        return Part::Key { text, wild };
    };
    // The longer operators first: `>=` begins with `>`.
    let operators = ["==", "!=", ">=", "<=", "%", ">", "<", "="];
    let found = operators
        .iter()
        .filter_map(|operator| Some((query.find(operator)?, *operator)))
        .min_by_key(|(at, operator)| (*at, usize::MAX - operator.len()));
    match found {
        Some((at, operator)) => {
            let (key, rest) = query.split_at(at);
            let operand = rest.strip_prefix(operator).unwrap_or_default().trim().trim_matches('"');
            Part::Query { key: key.trim().into(), operator: operator.into(), operand: operand.into() }
        }
        None => Part::Query { key: query.trim().into(), operator: String::new(), operand: String::new() },
    }
}

fn compares(found: &Value, operator: &str, operand: &str) -> bool {
    let text = match found {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let order = match (found.as_f64(), operand.parse::<f64>()) {
        (Some(found), Ok(operand)) => found.partial_cmp(&operand),
        _ => Some(text.as_str().cmp(operand)),
    };
    let Some(order) = order else { return false };
    match operator {
        "" => true,
        "=" | "==" => order.is_eq(),
        "!=" => order.is_ne(),
        ">" => order.is_gt(),
        "<" => order.is_lt(),
        ">=" => order.is_ge(),
        "<=" => order.is_le(),
        _ => wildcard(operand, &text),
    }
}

/// Whether `text` matches a pattern of `*` and `?`; linear in both but for the last star.
fn wildcard(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == '?' || Some(c) == text.get(t) => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    p = at + 1;
                    t = from + 1;
                    star = Some((at, from + 1));
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(p).all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DOCUMENT: &str =
        r#"{"a.b":1,"queue":{"depth":7,"text":"12"},"items":[{"n":"x","v":3},{"n":"y","v":4}],"none":null}"#;

    #[test]
    fn paths_find_numbers() {
        let at = |location| number_at("json", DOCUMENT, location);
        assert_eq!(at("queue.depth"), Ok(7.0));
        assert_eq!(at("queue.text"), Ok(12.0));
        assert_eq!(at("a\\.b"), Ok(1.0));
        assert_eq!(at("items.1.v"), Ok(4.0));
        assert_eq!(at("items.#"), Ok(2.0));
        assert_eq!(at("items.#(n==\"y\").v"), Ok(4.0));
        assert_eq!(at("items.#(v>=4).v"), Ok(4.0));
        assert_eq!(at("qu*.dep?h"), Ok(7.0));
        assert!(at("items.#.v").is_err());
        assert!(at("none").is_err() && at("gone").is_err() && at("").is_err());
        assert_eq!(number_at("yaml", "a:\n- b: 1.5\n", "a.0.b"), Ok(1.5));
    }

    #[test]
    fn errors_do_not_show_the_document() {
        for format in ["json", "yaml"] {
            let error = text_at(format, "a: [hunter2", "a").unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_path_panics(location in ".{0,40}", document in ".{0,60}") {
            let _ = number_at("json", &document, &location);
            let _ = number_at("json", DOCUMENT, &location);
            let _ = number_at("yaml", &document, &location);
        }
    }
}
