//! Replacements: the value of one field copied into others.

use gantry_yaml::{Data, FileId, Node, Scalar, Span, Style, Tag};
use serde::Deserialize;
use smol_str::SmolStr;

use crate::error::{Error, Result};
use crate::id::{Gvk, ResId};
use crate::patch::place_all;
use crate::path::{Make, each, lookup, split_dotted};
use crate::resource::Resource;
use crate::selector::{Matcher, Selector};
use crate::shared;
use crate::written::Texts;

/// An entry of `replacements`: written out, or the path of a file with one or several.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct ReplacementField {
    pub(crate) path: String,
    pub(crate) source: Option<Source>,
    pub(crate) source_value: Option<String>,
    pub(crate) targets: Vec<Target>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct Source {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) field_path: String,
    pub(crate) options: Option<Options>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct Target {
    pub(crate) select: Option<Selector>,
    pub(crate) reject: Vec<Selector>,
    pub(crate) field_paths: Vec<String>,
    pub(crate) options: Option<Options>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct Options {
    pub(crate) delimiter: String,
    pub(crate) index: i64,
    pub(crate) encoding: String,
    pub(crate) create: bool,
}

const DEFAULT_PATH: &str = "metadata.name";

/// Applies one replacement. Returns the places of those of its targets that select nothing.
pub(crate) fn apply(resources: &mut [Resource], replacement: &ReplacementField) -> Result<Vec<usize>> {
    let value = match (&replacement.source, &replacement.source_value) {
        (Some(_), Some(_)) => return Err(Error::new("value and resource selectors are mutually exclusive")),
        (Some(source), None) => source_value(resources, source)?,
        (None, Some(value)) => Node::string(value.as_str(), Default::default()),
        (None, None) => {
            return Err(Error::new("replacements must specify a source and at least one target"));
        }
    };
    if replacement.targets.is_empty() {
        return Err(Error::new("replacements must specify a source and at least one target"));
    }
    let mut idle = Vec::new();
    for (place, target) in replacement.targets.iter().enumerate() {
        if !copy_to(resources, &value, target)? {
            idle.push(place);
        }
    }
    Ok(idle)
}

impl Source {
    fn id(&self) -> ResId {
        let gvk = Gvk {
            group: self.group.as_str().into(),
            version: self.version.as_str().into(),
            kind: self.kind.as_str().into(),
        };
        ResId { gvk, name: self.name.as_str().into(), namespace: self.namespace.as_str().into() }
    }

    fn text(&self) -> String {
        let path = if self.field_path.is_empty() { String::new() } else { format!(":{}", self.field_path) };
        format!("{}{path}", self.id())
    }
}

fn source_value(resources: &[Resource], source: &Source) -> Result<Node> {
    let wanted = source.id();
    let mut found =
        resources.iter().filter(|resource| resource.any_ids().any(|id| id.is_selected_by(&wanted)));
    let Some(first) = found.next() else {
        return Err(Error::new(format!("nothing selected by {}", source.text())));
    };
    if found.next().is_some() {
        return Err(Error::new(format!("multiple matches for selector {}", source.text())));
    }
    let path = if source.field_path.is_empty() { DEFAULT_PATH } else { &source.field_path };
    let value =
        lookup(&first.node, &split_dotted(path)).filter(|value| !value.is_null()).ok_or_else(|| {
            Error::at(
                format!("fieldPath `{path}` is missing for replacement source {}", source.text()),
                first.span(),
            )
        })?;
    let Some(options) = source.options.as_ref().filter(|options| !options.delimiter.is_empty()) else {
        return Ok(value.clone());
    };
    let text = value.text().ok_or_else(|| only_scalars(value))?;
    let parts: Vec<&str> = text.split(options.delimiter.as_str()).collect();
    let part = usize::try_from(options.index).ok().and_then(|index| parts.get(index)).ok_or_else(|| {
        Error::at(format!("options.index {} is out of bounds for value {text}", options.index), value.span)
    })?;
    Ok(Node::string(*part, value.span))
}

fn only_scalars(node: &Node) -> Error {
    Error::at("delimiter option can only be used with scalar nodes", node.span)
}

/// Returns whether the target selects anything.
fn copy_to(resources: &mut [Resource], value: &Node, target: &Target) -> Result<bool> {
    let Some(select) = &target.select else {
        return Err(Error::new("target must specify resources to select"));
    };
    let matcher = Matcher::new(select)?;
    let rejects = target
        .reject
        .iter()
        .filter(|reject| **reject != Selector::default())
        .map(Matcher::new)
        .collect::<Result<Vec<_>>>()?;
    let default = [DEFAULT_PATH.to_owned()];
    let paths = if target.field_paths.is_empty() { &default[..] } else { &target.field_paths };
    let mut selected = false;
    for resource in resources.iter_mut() {
        if !matcher.matches_any_id(resource) || rejects.iter().any(|reject| reject.matches_any_id(resource)) {
            continue;
        }
        selected = true;
        for path in paths {
            copy_into(&mut resource.node, value, path, target.options.as_ref())
                .map_err(|error| error.or_at(resource.node.span))?;
            shared::after_field(&resource.shared, &mut resource.node, &split_dotted(path))?;
        }
    }
    Ok(selected)
}

fn copy_into(node: &mut Node, value: &Node, path: &str, options: Option<&Options>) -> Result<()> {
    let create = options.is_some_and(|options| options.create);
    let make = match (&value.data, create) {
        (_, false) => Make::Nothing,
        (Data::Scalar(_), true) => Make::Scalar,
        (Data::Mapping(_), true) => Make::Mapping,
        (Data::Sequence(_), true) => Make::Sequence,
    };
    let steps = split_dotted(path);
    let verb = if create { "find or create" } else { "find" };
    let unable = || format!("unable to {verb} field \"{path}\" in replacement target");
    let count = each(node, &steps, make, &mut |field| set_field(field, value, options))
        .map_err(|error| error.wrap(unable()))?;
    if count == 0 && !into_embedded(node, value, &steps, options)? {
        return Err(Error::new(unable()));
    }
    Ok(())
}

fn set_field(field: &mut Node, value: &Node, options: Option<&Options>) -> Result<()> {
    let mut value = value.clone();
    if let Some(options) = options.filter(|options| !options.delimiter.is_empty()) {
        let text = field.text().ok_or_else(|| only_scalars(field))?;
        // Of a list or a mapping upstream takes the text, which is empty.
        let part = value.text().unwrap_or_default().to_owned();
        let mut parts: Vec<&str> = text.split(options.delimiter.as_str()).collect();
        match usize::try_from(options.index) {
            Err(_) => parts.insert(0, &part),
            Ok(index) => match parts.get_mut(index) {
                Some(slot) => *slot = &part,
                None => parts.push(&part),
            },
        }
        value = Node::string(parts.join(&options.delimiter), value.span);
    }
    let span = field.span;
    match (&field.data, &value.data) {
        // The field keeps its type and its quotes; one that was just made takes what the text means.
        (Data::Scalar(old), Data::Scalar(new)) => {
            let text = new.text.clone();
            let plain = Node::plain(text.clone(), span);
            let plain_tag = plain.as_scalar().map(|scalar| scalar.tag);
            let is_of_type = plain_tag == Some(old.tag);
            *field = match old.tag {
                Tag::Str => string_like(old, text, span),
                Tag::Null if new.tag == Tag::Str && text.is_empty() => Node::string(text, span),
                Tag::Null if old.text.is_empty() => plain,
                _ if is_of_type || (old.tag == Tag::Float && plain_tag == Some(Tag::Int)) => plain,
                // What the field is cannot be read from the text any more.
                _ => {
                    let (new, old) = (go_tag(plain_tag.unwrap_or(Tag::Str)), go_tag(old.tag));
                    return Err(Error::at(format!("yaml: cannot decode {new} `{text}` as a {old}"), span));
                }
            };
        }
        // For the same reason a field with one value gets none from a list or a mapping.
        (Data::Scalar(old), _) => {
            *field = if old.tag == Tag::Str { string_like(old, "".into(), span) } else { Node::null(span) };
        }
        _ => {
            *field = value;
            field.span = span;
        }
    }
    Ok(())
}

fn go_tag(tag: Tag) -> &'static str {
    match tag {
        Tag::Null => "!!null",
        Tag::Bool => "!!bool",
        Tag::Int => "!!int",
        Tag::Float => "!!float",
        Tag::Str => "!!str",
        Tag::Timestamp => "!!timestamp",
        Tag::Binary => "!!binary",
        Tag::Merge => "!!merge",
    }
}

/// A text in the quotes of another.
fn string_like(old: &Scalar, text: SmolStr, span: Span) -> Node {
    let style = match old.style {
        Style::SingleQuoted | Style::DoubleQuoted => old.style,
        _ => Style::Plain,
    };
    Node::new(Data::Scalar(Scalar { text, tag: Tag::Str, style }), span)
}

/// A path may lead on into text that is itself JSON or YAML. False when it does not.
fn into_embedded(node: &mut Node, value: &Node, steps: &[String], options: Option<&Options>) -> Result<bool> {
    // Places in the text are its own, and those of the value are not.
    let mut value = value.clone();
    place_all(&mut value, Span::NONE);
    for at in (1..steps.len()).rev() {
        let (outer, inner) = steps.split_at(at);
        let mut changed = false;
        each(node, outer, Make::Nothing, &mut |field| {
            let Some(text) = field.as_str().map(str::to_owned) else { return Ok(()) };
            let Some(mut document) = embedded_document(&text) else { return Ok(()) };
            let mut texts = Texts::new(&[&text]);
            texts.note(&document);
            let count =
                each(&mut document, inner, Make::Nothing, &mut |inner| set_field(inner, &value, options))?;
            if count > 0 {
                *field = Node::string(write_embedded(&document, &text, &texts), field.span);
                changed = true;
            }
            Ok(())
        })?;
        if changed {
            return Ok(true);
        }
    }
    Ok(false)
}

fn embedded_document(text: &str) -> Option<Node> {
    let mut documents = gantry_yaml::parse_documents(FileId(0), text).ok()?;
    let document = documents.pop().filter(|_| documents.is_empty())?;
    document.as_scalar().is_none().then_some(document)
}

/// In the notation of the old text: YAML as it was written, or JSON with sorted keys, compact or indented.
fn write_embedded(document: &Node, old: &str, texts: &Texts<'_>) -> String {
    if !old.trim_start().starts_with(['{', '[']) {
        let mut yaml = texts.write(document);
        if !old.ends_with('\n') {
            yaml.truncate(yaml.trim_end_matches('\n').len());
        }
        return yaml;
    }
    let value = gantry_apimachinery::from_yaml(document).ok();
    let pretty = old.trim_end().contains('\n');
    let json = value.and_then(|value| {
        let mut json: serde_json::Value = serde_json::to_value(&value).ok()?;
        json.sort_all_objects();
        if pretty { serde_json::to_string_pretty(&json).ok() } else { serde_json::to_string(&json).ok() }
    });
    json.unwrap_or_else(|| old.to_owned())
}
