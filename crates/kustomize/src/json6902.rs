//! JSON Patch (RFC 6902) over YAML nodes, with the leniencies of the library that Kustomize uses.

use gantry_yaml::{Data, Node, Style, Tag};

use crate::error::{Error, Result};

/// One operation of a patch.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    op: String,
    path: String,
    from: String,
    value: Option<Node>,
    node: Node,
}

impl Operation {
    /// What it does, where in the object, and where it stands.
    pub(crate) fn place(&self) -> (&str, &str, gantry_yaml::Span) {
        (&self.op, &self.path, self.node.span)
    }
}

/// The operations in a patch document; `None` when it is no list of operations.
pub(crate) fn operations(document: &Node) -> Option<Vec<Operation>> {
    document.as_sequence()?.iter().map(operation).collect()
}

fn operation(node: &Node) -> Option<Operation> {
    node.as_mapping()?;
    let text = |key: &str| node.get(key).and_then(Node::text).unwrap_or_default().to_owned();
    Some(Operation {
        op: text("op"),
        path: text("path"),
        from: text("from"),
        value: node.get("value").cloned().map(as_json),
        node: node.clone(),
    })
}

/// The patch text is read by YAML 1.1 rules, in which `yes` and `on` are booleans.
fn as_json(mut node: Node) -> Node {
    match &mut node.data {
        Data::Sequence(items) => items.iter_mut().for_each(|item| *item = as_json(item.clone())),
        Data::Mapping(entries) => entries.iter_mut().for_each(|(_, value)| *value = as_json(value.clone())),
        Data::Scalar(scalar) if scalar.style == Style::Plain && scalar.tag == Tag::Str => {
            let word = match scalar.text.as_str() {
                "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Some("true"),
                "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Some("false"),
                _ => None,
            };
            if let Some(word) = word {
                return Node::plain(word, node.span);
            }
        }
        Data::Scalar(_) => {}
    }
    node
}

/// Applies the operations in order.
pub(crate) fn apply(document: &mut Node, operations: &[Operation]) -> Result<()> {
    for operation in operations {
        let Operation { op, path, node, .. } = operation;
        apply_one(document, operation)
            .map_err(|error| error.wrap(format!("operation {op} '{path}'")).or_at(node.span))?;
    }
    Ok(())
}

fn apply_one(document: &mut Node, operation: &Operation) -> Result<()> {
    let value = || operation.value.clone().ok_or_else(|| Error::new("the operation has no value"));
    match operation.op.as_str() {
        "add" => add(document, &operation.path, value()?),
        "remove" => remove(document, &operation.path).map(drop),
        "replace" => {
            let place = find(document, &operation.path).ok_or_else(|| {
                missing("replace operation does not apply: doc is missing key", &operation.path)
            })?;
            *place = value()?;
            Ok(())
        }
        "move" => {
            let taken = remove(document, &operation.from)?;
            add(document, &operation.path, taken)
        }
        "copy" => {
            let source = find(document, &operation.from).ok_or_else(|| {
                missing("copy operation does not apply: doc is missing from path", &operation.from)
            })?;
            let copied = source.clone();
            add(document, &operation.path, copied)
        }
        "test" => {
            let expected = operation.value.clone().unwrap_or_else(|| Node::null(operation.node.span));
            let found = find(document, &operation.path);
            let same = match found {
                Some(found) => same_json(found, &expected),
                None => expected.is_null(),
            };
            if same { Ok(()) } else { Err(Error::new(format!("testing value {} failed", operation.path))) }
        }
        other => Err(Error::new(format!(
            "unexpected kind '{other}'; known are add, remove, replace, move, copy, test"
        ))),
    }
}

fn same_json(a: &Node, b: &Node) -> bool {
    match (&a.data, &b.data) {
        (Data::Scalar(a), Data::Scalar(b)) => a.resolve() == b.resolve(),
        (Data::Sequence(a), Data::Sequence(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_json(a, b))
        }
        (Data::Mapping(a), Data::Mapping(_)) => {
            let other = b;
            let keys = other.as_mapping().map_or(0, <[_]>::len);
            a.len() == keys
                && a.iter().all(|(key, value)| {
                    other.get(key.text().unwrap_or_default()).is_some_and(|other| same_json(value, other))
                })
        }
        _ => false,
    }
}

fn missing(message: &str, path: &str) -> Error {
    Error::new(format!("{message}: {path}: missing value"))
}

fn tokens(path: &str) -> Option<Vec<String>> {
    let rest = path.strip_prefix('/')?;
    Some(rest.split('/').map(|token| token.replace("~1", "/").replace("~0", "~")).collect())
}

fn find<'a>(document: &'a mut Node, path: &str) -> Option<&'a mut Node> {
    if path.is_empty() {
        return Some(document);
    }
    tokens(path)?.iter().try_fold(document, |node, token| step(node, token))
}

fn step<'a>(node: &'a mut Node, token: &str) -> Option<&'a mut Node> {
    match &mut node.data {
        Data::Mapping(entries) => {
            entries.iter_mut().find(|(key, _)| key.text() == Some(token)).map(|(_, v)| v)
        }
        Data::Sequence(items) => {
            let place = index(token, items.len())?;
            items.get_mut(place)
        }
        Data::Scalar(_) => None,
    }
}

/// An index of a list; negative ones count from the end.
fn index(token: &str, length: usize) -> Option<usize> {
    let number: i64 = token.parse().ok()?;
    if number < 0 { length.checked_sub(number.unsigned_abs() as usize) } else { usize::try_from(number).ok() }
}

fn parent<'a>(document: &'a mut Node, path: &str) -> Option<(&'a mut Node, String)> {
    let mut tokens = tokens(path)?;
    let last = tokens.pop()?;
    let parent = tokens.iter().try_fold(document, |node, token| step(node, token))?;
    Some((parent, last))
}

fn add(document: &mut Node, path: &str, value: Node) -> Result<()> {
    if path.is_empty() {
        *document = value;
        return Ok(());
    }
    let no_place = || missing("add operation does not apply: doc is missing path", path);
    let (parent, last) = parent(document, path).ok_or_else(no_place)?;
    match &mut parent.data {
        Data::Mapping(_) => {
            parent.set(&last, value);
            Ok(())
        }
        Data::Sequence(items) => {
            let place = if last == "-" { Some(items.len()) } else { add_index(&last, items.len()) };
            match place.filter(|place| *place <= items.len()) {
                Some(place) => {
                    items.insert(place, value);
                    Ok(())
                }
                None => Err(Error::new(format!(
                    "unable to access invalid index: {last}: the list has {} items",
                    items.len()
                ))),
            }
        }
        Data::Scalar(_) => Err(no_place()),
    }
}

/// Where a new item goes: a negative index counts from the end of the longer list.
fn add_index(token: &str, length: usize) -> Option<usize> {
    let number: i64 = token.parse().ok()?;
    if number < 0 {
        (length + 1).checked_sub(number.unsigned_abs() as usize)
    } else {
        usize::try_from(number).ok()
    }
}

fn remove(document: &mut Node, path: &str) -> Result<Node> {
    let no_place = || missing("remove operation does not apply: doc is missing path", path);
    let (parent, last) = parent(document, path).ok_or_else(no_place)?;
    match &mut parent.data {
        Data::Mapping(_) => parent
            .remove(&last)
            .ok_or_else(|| Error::new(format!("unable to remove nonexistent key: {last}: missing value"))),
        Data::Sequence(items) => match index(&last, items.len()).filter(|place| *place < items.len()) {
            Some(place) => Ok(items.remove(place)),
            None => Err(Error::new(format!(
                "unable to access invalid index: {last}: the list has {} items",
                items.len()
            ))),
        },
        Data::Scalar(_) => Err(no_place()),
    }
}
