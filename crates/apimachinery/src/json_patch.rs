//! JSON patch (RFC 6902) over JSON pointers (RFC 6901).

use crate::value::{Kind, Value};

#[derive(Debug, thiserror::Error, PartialEq)]
pub enum Error {
    #[error("operation {index}: {what}")]
    Malformed { index: usize, what: &'static str },
    #[error("operation {index}: path {path:?} does not exist")]
    NoSuchPath { index: usize, path: String },
    #[error("operation {index}: value at {path:?} is not the one tested for")]
    TestFailed { index: usize, path: String },
    #[error("operation {index}: the document would grow beyond {limit} nodes")]
    TooLarge { index: usize, limit: usize },
}

/// Copies may not multiply a document beyond this many nodes.
const MAX_NODES: usize = 2_000_000;

#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    Add { path: Pointer, value: Value },
    Remove { path: Pointer },
    Replace { path: Pointer, value: Value },
    Move { from: Pointer, path: Pointer },
    Copy { from: Pointer, path: Pointer },
    Test { path: Pointer, value: Value },
}

/// A JSON pointer, split and unescaped.
#[derive(Clone, Debug, PartialEq)]
pub struct Pointer(Vec<String>);

/// Reads the array of operations.
pub fn parse(patch: &Value) -> Result<Vec<Operation>, Error> {
    let items = patch
        .as_array()
        .ok_or(Error::Malformed { index: 0, what: "a JSON patch is an array of operations" })?;
    items.iter().enumerate().map(|(index, item)| parse_operation(index, item)).collect()
}

fn parse_operation(index: usize, item: &Value) -> Result<Operation, Error> {
    let malformed = |what| Error::Malformed { index, what };
    let pointer = |field: &str| -> Result<Pointer, Error> {
        let text = item.get(field).and_then(Value::as_str).ok_or(malformed("a path is missing"))?;
        Pointer::parse(text).ok_or(malformed("a path must be empty or begin with \"/\""))
    };
    let value = || item.get("value").cloned().ok_or(malformed("the value is missing"));
    match item.get("op").and_then(Value::as_str) {
        Some("add") => Ok(Operation::Add { path: pointer("path")?, value: value()? }),
        Some("remove") => Ok(Operation::Remove { path: pointer("path")? }),
        Some("replace") => Ok(Operation::Replace { path: pointer("path")?, value: value()? }),
        Some("move") => Ok(Operation::Move { from: pointer("from")?, path: pointer("path")? }),
        Some("copy") => Ok(Operation::Copy { from: pointer("from")?, path: pointer("path")? }),
        Some("test") => Ok(Operation::Test { path: pointer("path")?, value: value()? }),
        _ => Err(malformed("op must be add, remove, replace, move, copy or test")),
    }
}

/// Applies the operations in order. On an error the document is left half changed: apply to a copy.
pub fn apply(document: &mut Value, operations: &[Operation]) -> Result<(), Error> {
    let mut copied = 0;
    for (index, operation) in operations.iter().enumerate() {
        let missing = |path: &Pointer| Error::NoSuchPath { index, path: path.to_string() };
        match operation {
            Operation::Add { path, value } => {
                path.add(document, value.clone()).ok_or_else(|| missing(path))?
            }
            Operation::Remove { path } => drop(path.remove(document).ok_or_else(|| missing(path))?),
            Operation::Replace { path, value } => {
                *path.get_mut(document).ok_or_else(|| missing(path))? = value.clone();
            }
            Operation::Move { from, path } => {
                if path.0.len() > from.0.len() && path.0.starts_with(&from.0) {
                    return Err(Error::Malformed { index, what: "a value cannot be moved into itself" });
                }
                let value = from.remove(document).ok_or_else(|| missing(from))?;
                path.add(document, value).ok_or_else(|| missing(path))?;
            }
            Operation::Copy { from, path } => {
                let value = from.get(document).ok_or_else(|| missing(from))?.clone();
                copied += node_count(&value);
                if copied > MAX_NODES {
                    return Err(Error::TooLarge { index, limit: MAX_NODES });
                }
                path.add(document, value).ok_or_else(|| missing(path))?;
            }
            Operation::Test { path, value } => {
                if path.get(document) != Some(value) {
                    return Err(Error::TestFailed { index, path: path.to_string() });
                }
            }
        }
    }
    Ok(())
}

fn node_count(value: &Value) -> usize {
    match &value.kind {
        Kind::Array(items) => 1 + items.iter().map(node_count).sum::<usize>(),
        Kind::Object(map) => 1 + map.values().map(node_count).sum::<usize>(),
        _ => 1,
    }
}

// === impl Pointer ===

impl Pointer {
    pub fn parse(text: &str) -> Option<Pointer> {
        if text.is_empty() {
            return Some(Pointer(Vec::new()));
        }
        let steps = text.strip_prefix('/')?.split('/');
        Some(Pointer(steps.map(|step| step.replace("~1", "/").replace("~0", "~")).collect()))
    }

    fn get<'v>(&self, document: &'v Value) -> Option<&'v Value> {
        self.0.iter().try_fold(document, |value, step| match &value.kind {
            Kind::Object(map) => map.get(step),
            Kind::Array(items) => items.get(array_index(step)?),
            _ => None,
        })
    }

    fn get_mut<'v>(&self, document: &'v mut Value) -> Option<&'v mut Value> {
        walk(document, &self.0)
    }

    fn add(&self, document: &mut Value, value: Value) -> Option<()> {
        let Some((last, parents)) = self.0.split_last() else {
            *document = value;
            return Some(());
        };
        match &mut walk(document, parents)?.kind {
            Kind::Object(map) => drop(map.insert(last.as_str(), value)),
            Kind::Array(items) if last == "-" => items.push(value),
            Kind::Array(items) => {
                let index = array_index(last).filter(|index| *index <= items.len())?;
                items.insert(index, value);
            }
            _ => return None,
        }
        Some(())
    }

    fn remove(&self, document: &mut Value) -> Option<Value> {
        let (last, parents) = self.0.split_last()?;
        match &mut walk(document, parents)?.kind {
            Kind::Object(map) => map.remove(last),
            Kind::Array(items) => {
                let index = array_index(last).filter(|index| *index < items.len())?;
                Some(items.remove(index))
            }
            _ => None,
        }
    }
}

fn walk<'v>(document: &'v mut Value, steps: &[String]) -> Option<&'v mut Value> {
    steps.iter().try_fold(document, |value, step| match &mut value.kind {
        Kind::Object(map) => map.get_mut(step),
        Kind::Array(items) => items.get_mut(array_index(step)?),
        _ => None,
    })
}

fn array_index(step: &str) -> Option<usize> {
    let canonical = step == "0" || !step.starts_with('0');
    (canonical && step.bytes().all(|b| b.is_ascii_digit())).then(|| step.parse().ok())?
}

impl std::fmt::Display for Pointer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for step in &self.0 {
            write!(f, "/{}", step.replace('~', "~0").replace('/', "~1"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    fn run(document: &str, patch: &str) -> Result<Value, Error> {
        let mut document = json(document);
        apply(&mut document, &parse(&json(patch))?)?;
        Ok(document)
    }

    #[test]
    fn the_six_operations() {
        for (document, patch, expected) in [
            (r#"{"a":[1,3]}"#, r#"[{"op":"add","path":"/a/1","value":2}]"#, r#"{"a":[1,2,3]}"#),
            (r#"{"a":[1]}"#, r#"[{"op":"add","path":"/a/-","value":2}]"#, r#"{"a":[1,2]}"#),
            (
                r#"{"a/b":1,"m~n":2}"#,
                r#"[{"op":"remove","path":"/a~1b"},{"op":"test","path":"/m~0n","value":2}]"#,
                r#"{"m~n":2}"#,
            ),
            (r#"{"a":{"b":1}}"#, r#"[{"op":"move","from":"/a/b","path":"/c"}]"#, r#"{"a":{},"c":1}"#),
            (
                r#"{"a":{"b":1}}"#,
                r#"[{"op":"copy","from":"/a","path":"/c"},{"op":"replace","path":"/c/b","value":2}]"#,
                r#"{"a":{"b":1},"c":{"b":2}}"#,
            ),
            (r#"{"a":1}"#, r#"[{"op":"replace","path":"","value":7}]"#, "7"),
        ] {
            assert_eq!(run(document, patch), Ok(json(expected)), "{patch}");
        }
    }

    #[test]
    fn what_is_not_there_is_an_error() {
        for patch in [
            r#"[{"op":"remove","path":"/x"}]"#,
            r#"[{"op":"replace","path":"/x","value":1}]"#,
            r#"[{"op":"add","path":"/a/9","value":1}]"#,
            r#"[{"op":"add","path":"/a/01","value":1}]"#,
            r#"[{"op":"test","path":"/a","value":[2]}]"#,
            r#"[{"op":"move","from":"/a","path":"/a/0"}]"#,
            r#"[{"op":"nope","path":"/a"}]"#,
            r#"{"op":"add"}"#,
        ] {
            assert!(run(r#"{"a":[1]}"#, patch).is_err(), "{patch}");
        }
    }
}
