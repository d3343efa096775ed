//! Parts of a kustomization's tree, made and changed in the form that upstream writes.

use gantry_yaml::{Data, Node, Span};

pub(super) fn string(text: &str) -> Node {
    Node::string(text, Span::NONE)
}

pub(super) fn boolean(value: bool) -> Node {
    Node::plain(if value { "true" } else { "false" }, Span::NONE)
}

pub(super) fn integer(value: i64) -> Node {
    Node::plain(value.to_string(), Span::NONE)
}

pub(super) fn list(items: Vec<Node>) -> Node {
    Node::new(Data::Sequence(items), Span::NONE)
}

pub(super) fn mapping<'k>(entries: impl IntoIterator<Item = (&'k str, Node)>) -> Node {
    let entries = entries.into_iter().map(|(key, value)| (string(key), value)).collect();
    Node::new(Data::Mapping(entries), Span::NONE)
}

/// A mapping of those texts that are not empty, as upstream leaves empty ones out.
pub(super) fn filled(texts: &[(&str, &str)]) -> Node {
    mapping(texts.iter().filter(|(_, text)| !text.is_empty()).map(|(key, text)| (*key, string(text))))
}

/// Sets a key of a mapping. What is there keeps its place; a new key goes where sorted keys have it, else to the end.
pub(super) fn set(node: &mut Node, key: &str, value: Node) {
    if let Some(old) = node.get_mut(key) {
        if *old != value {
            old.data = value.data;
        }
        return;
    }
    if node.as_mapping().is_none() {
        node.data = Data::Mapping(Vec::new());
    }
    let Some(entries) = node.as_mapping_mut() else { return };
    let at = entries.len();
    let at = if entries.is_sorted_by_key(|(key, _)| key.text().map(str::to_owned)) {
        entries.iter().position(|(other, _)| other.text() > Some(key)).unwrap_or(at)
    } else {
        at
    };
    entries.insert(at, (string(key), value));
}

/// Sets a key to a text; an empty text takes the key away.
pub(super) fn set_or_remove(node: &mut Node, key: &str, text: &str) {
    if text.is_empty() {
        node.remove(key);
    } else {
        set(node, key, string(text));
    }
}

/// Adds an item by name to a list whose items have names: in its place among sorted ones, else at the end.
pub(super) fn insert_by_name(items: &mut Vec<Node>, item: Node) {
    let name = |node: &Node| node.text_at(&["name"]).unwrap_or_default().to_owned();
    let at = if items.is_sorted_by_key(name) {
        items.partition_point(|other| name(other) <= name(&item))
    } else {
        items.len()
    };
    items.insert(at, item);
}

/// Adds texts to the list at a key of a mapping.
pub(super) fn append(node: &mut Node, key: &str, texts: &[String]) {
    if texts.is_empty() {
        return;
    }
    let added = texts.iter().map(|text| string(text));
    match node.get_mut(key).and_then(Node::as_sequence_mut) {
        Some(items) => items.extend(added),
        None => set(node, key, list(added.collect())),
    }
}

/// Whether two namespaces are the same one: none is `default`.
pub(super) fn is_same_namespace(a: &str, b: &str) -> bool {
    let effective =
        |namespace: &str| if namespace.is_empty() { "default".to_owned() } else { namespace.to_owned() };
    effective(a) == effective(b)
}
