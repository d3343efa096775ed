//! A kustomization file that is being edited: its text, the tree read from it, and the tree it is to become.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use gantry_yaml::{Data, FileId, Node, Scalar, Span, Style, Tag};

use super::rewrite::rewrite;
use crate::door::Doors;
use crate::error::{Error, Result};
use crate::fs::FileSystem;
use crate::kustomization::{FILE_NAMES, Kustomization, for_reading};
use crate::loader::{LoadRestrictor, Loader};

/// The order in which upstream writes the fields that a file did not have before.
const FIELD_ORDER: &[&str] = &[
    "apiVersion",
    "kind",
    "metadata",
    "sortOptions",
    "resources",
    "bases",
    "namePrefix",
    "nameSuffix",
    "namespace",
    "crds",
    "commonLabels",
    "labels",
    "commonAnnotations",
    "patchesStrategicMerge",
    "patchesJson6902",
    "patches",
    "configMapGenerator",
    "secretGenerator",
    "helmCharts",
    "helmChartInflationGenerator",
    "helmGlobals",
    "generatorOptions",
    "vars",
    "images",
    "replacements",
    "replicas",
    "configurations",
    "generators",
    "transformers",
    "validators",
    "components",
    "openapi",
    "buildMetadata",
];

/// A kustomization file longer than this is not edited.
const MAX_BYTES: usize = 16 << 20;

pub(super) struct Document<'a> {
    pub(super) loader: Loader<'a>,
    pub(super) file_name: &'static str,
    file: FileId,
    text: String,
    before: Node,
    /// What the file is to say. Nodes that were read keep their places: that is how they are recognised.
    fields: Vec<(Node, Node)>,
}

/// The kustomization file of the loader's directory, if there is exactly one.
pub(super) fn file_name_in(loader: &Loader<'_>) -> Result<Option<&'static str>> {
    let found: Vec<&'static str> = FILE_NAMES.into_iter().filter(|name| loader.has(name)).collect();
    match found[..] {
        [] => Ok(None),
        [name] => Ok(Some(name)),
        _ => Err(Error::new(format!(
            "Found multiple kustomization file: [{}]; keep one of them",
            found.join(" ")
        ))),
    }
}

pub(super) fn loader_at<'a>(fs: &'a dyn FileSystem, dir: &Path) -> Result<Loader<'a>> {
    Loader::new(fs, Doors::closed(), dir, LoadRestrictor::RootOnly, Rc::default())
}

impl<'a> Document<'a> {
    pub(super) fn open(fs: &'a dyn FileSystem, dir: &Path) -> Result<Document<'a>> {
        let loader = loader_at(fs, dir)?;
        let Some(file_name) = file_name_in(&loader)? else {
            return Err(Error::new(format!(
                "Missing kustomization file '{}' in '{}'",
                FILE_NAMES[0],
                loader.root.display()
            )));
        };
        let (file, text) = loader.load_text(file_name)?;
        if text.len() > MAX_BYTES {
            return Err(Error::new(format!(
                "{file_name} has {} bytes, at most {MAX_BYTES} are edited",
                text.len()
            )));
        }
        let before = read(file, &text).map_err(|error| loader.locate(error))?;
        let fields = before.as_mapping().unwrap_or_default().to_vec();
        Ok(Document { loader, file_name, file, text, before, fields })
    }

    pub(super) fn path(&self) -> PathBuf {
        self.loader.root.join(self.file_name)
    }

    /// Where the file begins: the place of what is not in it yet.
    pub(super) fn span(&self) -> Span {
        Span::new(self.file, 1, 1)
    }

    /// An error about a part of the file.
    pub(super) fn error(&self, message: impl Into<String>, at: Span) -> Error {
        self.loader.locate(Error::at(message, at))
    }

    /// An error about a field, or about the file where the field is not there.
    pub(super) fn field_error(&self, message: impl Into<String>, field: &str) -> Error {
        let before = self.before.as_mapping().unwrap_or_default();
        let place = before.iter().find(|(key, _)| is_named(key, field)).map(|(key, _)| key.span);
        self.error(message, place.unwrap_or(self.span()))
    }

    /// The file's text as it is to be, `None` when nothing changes.
    pub(super) fn rewritten(&self) -> Result<Option<String>> {
        let after = Node::new(Data::Mapping(self.fields.clone()), self.before.span);
        match rewrite(&self.text, self.file, &self.before, &after) {
            Some(text) if text == self.text => Ok(None),
            Some(text) => Ok(Some(text)),
            None => Err(self.cannot_rewrite()),
        }
    }

    /// Names the first field that was to change.
    fn cannot_rewrite(&self) -> Error {
        let before = self.before.as_mapping().unwrap_or_default();
        let is_changed = |old: &&(Node, Node)| !self.fields.iter().any(|new| new == *old);
        let (name, span) = match before.iter().find(is_changed) {
            Some((key, _)) => (key.text().unwrap_or_default(), key.span),
            None => ("", self.before.span),
        };
        self.error(
            format!(
                "the field '{name}' cannot be changed without losing what stands there: write it as a plain list or \
                 mapping, one entry a line, without anchors and without comments inside of brackets"
            ),
            span,
        )
    }

    // === fields, whatever their letter case in the file ===

    pub(super) fn get(&self, field: &str) -> Option<&Node> {
        self.fields.iter().find(|(key, _)| is_named(key, field)).map(|(_, value)| value)
    }

    pub(super) fn text(&self, field: &str) -> &str {
        self.get(field).and_then(Node::text).unwrap_or_default()
    }

    pub(super) fn remove(&mut self, field: &str) -> Option<Node> {
        let index = self.fields.iter().position(|(key, _)| is_named(key, field))?;
        Some(self.fields.remove(index).1)
    }

    /// The items of a list field; none where the field is missing, null or empty.
    pub(super) fn items(&self, field: &str) -> &[Node] {
        self.get(field).and_then(Node::as_sequence).unwrap_or_default()
    }

    pub(super) fn strings(&self, field: &str) -> Vec<String> {
        self.items(field).iter().filter_map(|item| item.text().map(str::to_owned)).collect()
    }

    /// Changes the list of a field, made where it is missing; a list that becomes empty goes with its field, as
    /// upstream leaves it out.
    pub(super) fn change_list<R>(&mut self, field: &str, change: impl FnOnce(&mut Vec<Node>) -> R) -> R {
        let had_items = !self.items(field).is_empty();
        let is_new = self.get(field).is_none();
        let value = self.value_or_insert(field);
        let mut items = match value.data {
            Data::Sequence(ref mut items) => std::mem::take(items),
            _ => Vec::new(),
        };
        let outcome = change(&mut items);
        if items.is_empty() && (had_items || is_new) {
            self.remove(field);
        } else if !items.is_empty() {
            self.value_or_insert(field).data = Data::Sequence(items);
        }
        outcome
    }

    /// Changes the mapping of a field in the same way.
    pub(super) fn change_mapping<R>(&mut self, field: &str, change: impl FnOnce(&mut Node) -> R) -> R {
        let entries = |node: Option<&Node>| node.and_then(Node::as_mapping).map_or(0, <[_]>::len);
        let had_entries = entries(self.get(field)) > 0;
        let is_new = self.get(field).is_none();
        let value = self.value_or_insert(field);
        let mut changed = value.clone();
        if changed.as_mapping().is_none() {
            changed.data = Data::Mapping(Vec::new());
        }
        let outcome = change(&mut changed);
        let is_empty = entries(Some(&changed)) == 0;
        if is_empty && (had_entries || is_new) {
            self.remove(field);
        } else if !is_empty {
            *self.value_or_insert(field) = changed;
        }
        outcome
    }

    /// Sets a field to a text; an empty text takes the field away, as upstream leaves it out.
    pub(super) fn set_text(&mut self, field: &str, text: &str) {
        if text.is_empty() {
            self.remove(field);
        } else {
            self.value_or_insert(field).data =
                Data::Scalar(Scalar { text: text.into(), tag: Tag::Str, style: Style::Plain });
        }
    }

    /// The value of a field; a new field has null, and stands after all that was read, among new fields in upstream's
    /// order.
    fn value_or_insert(&mut self, field: &str) -> &mut Node {
        let rank = |key: &Node| FIELD_ORDER.iter().position(|name| is_named(key, name));
        let index = match self.fields.iter().position(|(key, _)| is_named(key, field)) {
            Some(index) => index,
            None => {
                let key = Node::string(field, Span::NONE);
                let is_later = |(other, _): &(Node, Node)| other.span.is_none() && rank(other) > rank(&key);
                let index = self.fields.iter().position(is_later).unwrap_or(self.fields.len());
                self.fields.insert(index, (key, Node::null(Span::NONE)));
                index
            }
        };
        &mut self.fields[index].1
    }
}

/// The tree of a kustomization file, whose fields are known and of the right types.
fn read(file: FileId, text: &str) -> Result<Node> {
    let top = Span::new(file, 1, 1);
    let documents = gantry_yaml::parse_documents(file, text)
        .map_err(|error| Error::at(format!("invalid Kustomization: {}", error.message()), error.span()))?;
    if let Some(second) = documents.get(1) {
        return Err(Error::at("a kustomization file is one document, found another one here", second.span));
    }
    let tree = match documents.into_iter().next() {
        Some(tree) if !tree.is_null() => tree,
        _ => return Ok(Node::mapping(top)),
    };
    if tree.as_mapping().is_none() {
        return Err(Error::at(
            format!("invalid Kustomization: expected a mapping of fields, found a {}", tree.type_name()),
            tree.span,
        ));
    }
    let is_flow = super::source::Source::new(text).is_flow(&tree);
    if is_flow {
        return Err(Error::at(
            "a kustomization in braces is not edited: write its fields on lines of their own",
            tree.span,
        ));
    }
    let checked: std::result::Result<Kustomization, _> = gantry_yaml::from_node(&for_reading(&tree));
    checked
        .map_err(|error| Error::at(format!("invalid Kustomization: {}", error.message()), error.span()))?;
    Ok(tree)
}

fn is_named(key: &Node, field: &str) -> bool {
    key.text().is_some_and(|text| text.eq_ignore_ascii_case(field))
}
