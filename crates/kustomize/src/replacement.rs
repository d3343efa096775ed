//! Replacements: the value of one field copied into others.

use gantry_yaml::{Data, Node, Scalar, Style, Tag};
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::id::{Gvk, ResId};
use crate::path::{Make, each, lookup, split_dotted};
use crate::resource::Resource;
use crate::selector::{Matcher, Selector};

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

/// Applies one replacement.
pub(crate) fn apply(resources: &mut [Resource], replacement: &ReplacementField) -> Result<()> {
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
    replacement.targets.iter().try_for_each(|target| copy_to(resources, &value, target))
}

impl Source {
    fn fits(&self, id: &ResId) -> bool {
        let wanted = Gvk {
            group: self.group.as_str().into(),
            version: self.version.as_str().into(),
            kind: self.kind.as_str().into(),
        };
        let asked =
            ResId { gvk: id.gvk.clone(), name: id.name.clone(), namespace: self.namespace.as_str().into() };
        (self.name.is_empty() || self.name == id.name.as_str())
            && (self.namespace.is_empty() || asked.effective_namespace() == id.effective_namespace())
            && id.gvk.is_selected(&wanted)
    }

    fn text(&self) -> String {
        let gvk = Gvk {
            group: self.group.as_str().into(),
            version: self.version.as_str().into(),
            kind: self.kind.as_str().into(),
        };
        let id = ResId { gvk, name: self.name.as_str().into(), namespace: self.namespace.as_str().into() };
        let path = if self.field_path.is_empty() { String::new() } else { format!(":{}", self.field_path) };
        format!("{id}{path}")
    }
}

fn source_value(resources: &[Resource], source: &Source) -> Result<Node> {
    let mut found = resources.iter().filter(|resource| resource.any_ids().any(|id| source.fits(&id)));
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

fn copy_to(resources: &mut [Resource], value: &Node, target: &Target) -> Result<()> {
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
    for resource in resources.iter_mut() {
        if !matcher.matches_any_id(resource) || rejects.iter().any(|reject| reject.matches_any_id(resource)) {
            continue;
        }
        for path in paths {
            copy_into(&mut resource.node, value, path, target.options.as_ref())
                .map_err(|error| error.or_at(resource.node.span))?;
        }
    }
    Ok(())
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
        let part = value.text().ok_or_else(|| only_scalars(&value))?.to_owned();
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
        // The field keeps its type; one that was just made takes what the text means.
        (Data::Scalar(old), Data::Scalar(new)) if old.tag == Tag::Str && old.style != Style::Folded => {
            *field = Node::string(new.text.clone(), span);
        }
        (Data::Scalar(old), Data::Scalar(new)) => {
            let (old_tag, new_tag) = (old.tag, new.tag);
            let plain = Node::plain(new.text.clone(), span);
            let text_tag = plain.as_scalar().map(|scalar| scalar.tag);
            *field = if old_tag == Tag::Null {
                let Scalar { text, style, .. } = new.clone();
                Node::new(Data::Scalar(Scalar { text, tag: new_tag, style }), span)
            } else if text_tag == Some(old_tag) {
                plain
            } else {
                Node::string(new.text.clone(), span)
            };
        }
        _ => {
            *field = value;
            field.span = span;
        }
    }
    Ok(())
}

/// A path may lead on into text that is itself JSON or YAML. False when it does not.
fn into_embedded(node: &mut Node, value: &Node, steps: &[String], options: Option<&Options>) -> Result<bool> {
    for at in (1..steps.len()).rev() {
        let (outer, inner) = steps.split_at(at);
        let mut changed = false;
        each(node, outer, Make::Nothing, &mut |field| {
            let Some(text) = field.as_str().map(str::to_owned) else { return Ok(()) };
            let Some(mut document) = embedded_document(&text) else { return Ok(()) };
            let count =
                each(&mut document, inner, Make::Nothing, &mut |inner| set_field(inner, value, options))?;
            if count > 0 {
                *field = Node::string(write_embedded(&document, &text), field.span);
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
    let mut documents = gantry_yaml::parse_documents(gantry_yaml::FileId(0), text).ok()?;
    let document = documents.pop().filter(|_| documents.is_empty())?;
    document.as_scalar().is_none().then_some(document)
}

/// In the notation of the old text: YAML, compact JSON or indented JSON.
fn write_embedded(document: &Node, old: &str) -> String {
    let trimmed = old.trim_start();
    if !trimmed.starts_with(['{', '[']) {
        return gantry_yaml::emit(document);
    }
    let value = gantry_apimachinery::from_yaml(document).ok();
    let pretty = old.trim_end().contains('\n');
    let json = value.and_then(|value| {
        let sorted: serde_json::Value = serde_json::to_value(&value).ok()?;
        if pretty { serde_json::to_string_pretty(&sorted).ok() } else { serde_json::to_string(&sorted).ok() }
    });
    json.unwrap_or_else(|| old.to_owned())
}
