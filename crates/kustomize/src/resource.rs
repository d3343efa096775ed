//! A resource with what the build knows about it beyond its text: earlier names, prefixes, generator behaviour.

use gantry_yaml::{Data, Node, Span, Style, Tag};
use smol_str::SmolStr;

use crate::error::{Error, Result};
use crate::id::{Gvk, ResId};
use crate::shared::Shared;

/// What a generator does when a resource of its name is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum Behavior {
    #[default]
    Unspecified,
    Create,
    Merge,
    Replace,
}

/// A name and kind that the resource had before; the namespace is the effective one.
#[derive(Clone, Debug)]
pub(crate) struct Previous {
    pub(crate) namespace: SmolStr,
    pub(crate) name: SmolStr,
    pub(crate) kind: SmolStr,
}

#[derive(Clone, Debug)]
pub(crate) struct Resource {
    pub(crate) node: Node,
    pub(crate) previous: Vec<Previous>,
    pub(crate) prefixes: Vec<SmolStr>,
    pub(crate) suffixes: Vec<SmolStr>,
    pub(crate) behavior: Behavior,
    pub(crate) needs_hash: bool,
    pub(crate) var_names: Vec<SmolStr>,
    /// Whether upstream would have kept notes in the annotations: those rewrite the annotations at the end.
    pub(crate) annotated: bool,
    /// A chart knows its own namespaces.
    pub(crate) of_chart: bool,
    /// Its number in the trail of a build that is asked about; 0 in all others.
    pub(crate) serial: u32,
    /// Fields that have one value.
    pub(crate) shared: Vec<Shared>,
}

impl Behavior {
    pub(crate) fn parse(word: &str) -> Behavior {
        match word {
            "create" => Behavior::Create,
            "merge" => Behavior::Merge,
            "replace" => Behavior::Replace,
            _ => Behavior::Unspecified,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Behavior::Unspecified => "unspecified",
            Behavior::Create => "create",
            Behavior::Merge => "merge",
            Behavior::Replace => "replace",
        }
    }
}

impl Resource {
    pub(crate) fn new(node: Node) -> Resource {
        Resource {
            node,
            previous: Vec::new(),
            prefixes: Vec::new(),
            suffixes: Vec::new(),
            behavior: Behavior::Unspecified,
            needs_hash: false,
            var_names: Vec::new(),
            annotated: false,
            of_chart: false,
            serial: 0,
            shared: Vec::new(),
        }
    }

    /// A resource whose annotations may say what it was called before, in upstream's notation.
    pub(crate) fn with_notes(node: Node) -> Resource {
        let mut resource = Resource::new(node);
        let list = |what: &str| -> Vec<SmolStr> {
            let text = resource.annotation(&format!("internal.config.kubernetes.io/previous{what}"));
            text.map(|text| text.split(',').map(SmolStr::new).collect()).unwrap_or_default()
        };
        let (names, kinds, namespaces) = (list("Names"), list("Kinds"), list("Namespaces"));
        let rows = names.into_iter().zip(kinds).zip(namespaces);
        resource.previous =
            rows.map(|((name, kind), namespace)| Previous { namespace, name, kind }).collect();
        resource
    }

    pub(crate) fn span(&self) -> Span {
        self.node.span
    }

    pub(crate) fn kind(&self) -> &str {
        self.node.text_at(&["kind"]).unwrap_or_default()
    }

    pub(crate) fn api_version(&self) -> &str {
        self.node.text_at(&["apiVersion"]).unwrap_or_default()
    }

    pub(crate) fn name(&self) -> &str {
        self.node.text_at(&["metadata", "name"]).unwrap_or_default()
    }

    pub(crate) fn namespace(&self) -> &str {
        match self.node.at(&["metadata", "namespace"]) {
            Some(node) if !node.is_null() => node.text().unwrap_or_default(),
            _ => "",
        }
    }

    pub(crate) fn gvk(&self) -> Gvk {
        Gvk::new(self.api_version(), self.kind())
    }

    pub(crate) fn current_id(&self) -> ResId {
        ResId { gvk: self.gvk(), name: self.name().into(), namespace: self.namespace().into() }
    }

    /// The identity it had when it was read.
    pub(crate) fn original_id(&self) -> ResId {
        match self.previous.first() {
            Some(previous) => self.previous_id(previous),
            None => self.current_id(),
        }
    }

    /// The name and the namespace it had when it was read.
    pub(crate) fn original(&self) -> crate::Original {
        let (namespace, name) = match self.previous.first() {
            Some(previous) => (previous.namespace.as_str(), previous.name.as_str()),
            None => (self.namespace(), self.name()),
        };
        // Effective namespaces are also those that are none.
        let none = matches!(namespace, "default" | crate::id::NO_NAMESPACE);
        crate::Original {
            namespace: if none { String::new() } else { namespace.to_owned() },
            name: name.to_owned(),
        }
    }

    fn previous_id(&self, previous: &Previous) -> ResId {
        let gvk = Gvk { kind: previous.kind.clone(), ..self.gvk() };
        ResId { gvk, name: previous.name.clone(), namespace: previous.namespace.clone() }
    }

    pub(crate) fn previous_ids(&self) -> impl Iterator<Item = ResId> {
        self.previous.iter().map(|previous| self.previous_id(previous))
    }

    /// Every identity it has or had.
    pub(crate) fn any_ids(&self) -> impl Iterator<Item = ResId> {
        self.previous_ids().chain(std::iter::once(self.current_id()))
    }

    /// Notes the present identity before it changes.
    pub(crate) fn store_previous_id(&mut self) {
        let id = self.current_id();
        let namespace = id.effective_namespace().into();
        self.annotated = true;
        self.previous.push(Previous { namespace, name: id.name, kind: id.gvk.kind });
    }

    pub(crate) fn set_name(&mut self, name: &str) {
        set_text(self.metadata(), "name", name);
    }

    pub(crate) fn set_kind(&mut self, kind: &str) {
        set_text(&mut self.node, "kind", kind);
    }

    pub(crate) fn set_namespace(&mut self, namespace: &str) {
        if namespace.is_empty() {
            if let Some(metadata) = self.node.get_mut("metadata") {
                metadata.remove("namespace");
            }
        } else {
            set_text(self.metadata(), "namespace", namespace);
        }
    }

    fn metadata(&mut self) -> &mut Node {
        let span = self.node.span;
        child(&mut self.node, "metadata", || Node::mapping(span))
    }

    pub(crate) fn string_map(&self, path: &[&str]) -> Vec<(SmolStr, SmolStr)> {
        let entries = self.node.at(path).and_then(Node::as_mapping).unwrap_or_default();
        entries.iter().filter_map(|(key, value)| Some((key.text()?.into(), value.text()?.into()))).collect()
    }

    /// Replaces a map of strings below metadata; an empty one is removed.
    pub(crate) fn set_metadata_map(&mut self, field: &str, entries: &[(SmolStr, SmolStr)]) {
        let span = self.node.span;
        let metadata = self.metadata();
        if entries.is_empty() {
            metadata.remove(field);
            return;
        }
        let mut map = Node::mapping(span);
        for (key, value) in entries {
            map.set(key, Node::string(value.clone(), span));
        }
        metadata.set(field, map);
    }

    /// Makes strings of the values of a map below metadata, a null one too.
    pub(crate) fn make_strings(&mut self, field: &str) {
        let map = self.node.get_mut("metadata").and_then(|metadata| metadata.get_mut(field));
        for (_, value) in map.and_then(Node::as_mapping_mut).into_iter().flatten() {
            if let Some(text) = value.text() {
                *value = Node::string(text, value.span);
            }
        }
    }

    pub(crate) fn annotation(&self, key: &str) -> Option<&str> {
        self.node.at(&["metadata", "annotations"])?.get(key)?.text()
    }

    pub(crate) fn set_annotation(&mut self, key: &str, value: &str) {
        let span = self.node.span;
        let annotations = child(self.metadata(), "annotations", || Node::mapping(span));
        set_text(annotations, key, value);
    }

    pub(crate) fn set_label(&mut self, key: &str, value: &str) {
        let span = self.node.span;
        let labels = child(self.metadata(), "labels", || Node::mapping(span));
        set_text(labels, key, value);
    }

    pub(crate) fn remove_annotation(&mut self, key: &str) {
        if let Some(annotations) = self.node.get_mut("metadata").and_then(|m| m.get_mut("annotations")) {
            annotations.remove(key);
            if annotations.as_mapping().is_some_and(<[_]>::is_empty) {
                self.metadata().remove("annotations");
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.node.is_null() || self.node.as_mapping().is_some_and(<[_]>::is_empty)
    }
}

/// Sets a string, keeping the place of the key and the quotes of what was there.
pub(crate) fn set_text(map: &mut Node, key: &str, value: &str) {
    let old = map.get(key);
    let span = old.map_or(map.span, |old| old.span);
    let quotes = old.and_then(Node::as_scalar).map(|scalar| scalar.style);
    let mut text = Node::string(value, span);
    if let (Data::Scalar(scalar), Some(style @ (Style::SingleQuoted | Style::DoubleQuoted))) =
        (&mut text.data, quotes)
    {
        scalar.style = style;
    }
    map.set(key, text);
}

/// The value of a key, made when it is missing or null.
pub(crate) fn child<'a>(map: &'a mut Node, key: &str, make: impl FnOnce() -> Node) -> &'a mut Node {
    let missing = map.get(key).is_none_or(Node::is_null);
    if missing {
        map.set(key, make());
    }
    let entries = match &mut map.data {
        Data::Mapping(entries) => entries,
        // `set` has made it a mapping unless the key was there, which only a mapping has.
        _ => unreachable!("a node with a key is a mapping"),
    };
    let index = entries.iter().position(|(k, _)| k.text() == Some(key)).unwrap_or(0);
    &mut entries[index].1
}

/// Makes resources of the documents in a text: empty ones left out, lists taken apart.
pub(crate) fn resources_from(documents: Vec<Node>) -> Result<Vec<Resource>> {
    let mut resources = Vec::with_capacity(documents.len());
    for document in documents {
        add_document(document, &mut resources)?;
    }
    Ok(resources)
}

fn add_document(document: Node, resources: &mut Vec<Resource>) -> Result<()> {
    if document.is_null() || document.as_mapping().is_some_and(<[_]>::is_empty) {
        return Ok(());
    }
    if document.as_mapping().is_none() {
        let found = match (&document.data, document.type_name()) {
            (Data::Sequence(_), _) => "array",
            (_, "boolean") => "bool",
            (_, "integer" | "number") => "number",
            _ => "string",
        };
        return Err(Error::at(
            format!(
                "missing Resource metadata: expected an object: json: cannot unmarshal {found} into Go value of type map[string]interface {{}}"
            ),
            document.span,
        ));
    }
    let kind = document.text_at(&["kind"]).unwrap_or_default();
    if kind.ends_with("List") && document.get("items").is_some() {
        let mut document = document;
        return match document.remove("items") {
            Some(Node { data: Data::Sequence(items), .. }) => {
                items.into_iter().try_for_each(|item| add_document(item, resources))
            }
            Some(items) if !items.is_null() => {
                Err(Error::at(format!("expected a list in items, found a {}", items.type_name()), items.span))
            }
            _ => Ok(()),
        };
    }
    if kind.is_empty() {
        return Err(Error::at("Object 'Kind' is missing", document.span));
    }
    let name = document.at(&["metadata", "name"]);
    let named = name.is_some_and(|name| !name.is_null() && name.text().is_some_and(|text| !text.is_empty()));
    if !named {
        let id = Gvk::new(document.text_at(&["apiVersion"]).unwrap_or_default(), kind);
        return Err(Error::at(format!("missing metadata.name in object {id}"), document.span));
    }
    check_keys(&document)?;
    resources.push(Resource::new(document));
    Ok(())
}

/// Output goes through JSON, whose keys are strings.
fn check_keys(node: &Node) -> Result<()> {
    match &node.data {
        Data::Scalar(_) => Ok(()),
        Data::Sequence(items) => items.iter().try_for_each(check_keys),
        Data::Mapping(entries) => entries.iter().try_for_each(|(key, value)| {
            let ok = key.as_scalar().is_some_and(|scalar| {
                matches!(scalar.tag, Tag::Str | Tag::Binary | Tag::Timestamp | Tag::Merge)
            });
            if !ok {
                return Err(Error::at(
                    format!("a key must be a string, found a {}; quote it", key.type_name()),
                    key.span,
                ));
            }
            check_keys(value)
        }),
    }
}
