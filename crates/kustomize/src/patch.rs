//! Patches of both kinds: read, told apart, and brought to their targets.

use gantry_yaml::{FileId, Node, Span, parse_documents};

use crate::error::{Error, Result};
use crate::json6902::{self, Operation};
use crate::kustomization::Patch;
use crate::loader::Loader;
use crate::merge::strategic_merge;
use crate::resmap::{NameIndex, ResMap};
use crate::resource::{Resource, child, resources_from, set_text};
use crate::schema::Rules;
use crate::selector::{Matcher, Selector};
use crate::shared;

/// A patch ready to apply.
pub(crate) enum Loaded {
    Strategic(Vec<Resource>),
    Json(Vec<Operation>),
}

/// Whether a strategic merge may rename its target.
#[derive(Clone, Copy, Default)]
pub(crate) struct Changes {
    pub(crate) name: bool,
    pub(crate) kind: bool,
}

/// The text of an entry with the file it stands in. Inline text has the entry's place.
fn source(entry: &Patch, loader: &Loader<'_>) -> Result<(FileId, String, bool)> {
    if !entry.path.is_empty() {
        let (file, text) = loader.load_text(&entry.path)?;
        return Ok((file, text, false));
    }
    Ok((FileId(0), entry.patch.clone(), true))
}

/// Parses the text of a patch. Places inside inline text are those of the entry that holds it.
pub(crate) fn parse(file: FileId, text: &str, inline_at: Option<Span>) -> Result<Vec<Node>> {
    let documents = parse_documents(file, text).map_err(|error| match inline_at {
        Some(span) => {
            Error::at(format!("line {} of the patch: {}", error.span().line(), error.message()), span)
        }
        None => Error::at(error.message(), error.span()),
    })?;
    let mut documents: Vec<Node> = documents.into_iter().filter(|node| !node.is_null()).collect();
    if let Some(span) = inline_at {
        documents.iter_mut().for_each(|node| place_all(node, span));
    }
    Ok(documents)
}

/// Gives every part of a node one place.
pub(crate) fn place_all(node: &mut Node, span: Span) {
    use gantry_yaml::Data;
    node.span = span;
    match &mut node.data {
        Data::Scalar(_) => {}
        Data::Sequence(items) => items.iter_mut().for_each(|item| place_all(item, span)),
        Data::Mapping(entries) => entries.iter_mut().for_each(|(key, value)| {
            key.span = span;
            place_all(value, span);
        }),
    }
}

/// Reads one patch. `None` for a file without content, where the caller lets that pass.
pub(crate) fn load(
    entry: &Patch,
    loader: &Loader<'_>,
    span: Span,
    empty_passes: bool,
) -> Result<Option<Loaded>> {
    let inline = entry.patch.trim();
    if inline.is_empty() && entry.path.is_empty() {
        return Err(Error::at("must specify one of patch and path in this patch", span));
    }
    if !inline.is_empty() && !entry.path.is_empty() {
        return Err(Error::at("patch and path can't be set at the same time", span));
    }
    let (file, text, is_inline) = source(entry, loader).map_err(|error| error.or_at(span))?;
    let documents = parse(file, &text, is_inline.then_some(span))
        .map_err(|error| error.wrap("unable to parse SM or JSON patch"))?;
    let Some(first) = documents.first() else {
        if is_inline || !empty_passes {
            return Err(Error::at("unable to parse SM or JSON patch: it has no content", span));
        }
        return Ok(None);
    };
    let place = first.span;
    if first.as_sequence().is_some() {
        let operations = json6902::operations(first);
        let operations = operations
            .ok_or_else(|| Error::at("unable to parse SM or JSON patch: not a list of operations", place))?;
        if entry.target.is_none() {
            return Err(Error::at("must specify a target for JSON patch", span));
        }
        return Ok(Some(Loaded::Json(operations)));
    }
    let patches = resources_from(documents)
        .map_err(|error| error.wrap("unable to parse SM or JSON patch").or_at(place))?;
    if patches.len() > 1 && entry.target.is_some() {
        return Err(Error::at(
            "Multiple Strategic-Merge Patches in one `patches` entry is not allowed to set `patches.target` field",
            span,
        ));
    }
    Ok(Some(Loaded::Strategic(patches)))
}

/// Applies an entry of `patches`. Returns whether it had any target.
pub(crate) fn apply(
    map: &mut ResMap,
    entry: &Patch,
    loaded: Loaded,
    rules: &Rules,
    span: Span,
) -> Result<bool> {
    let option = |name: &str| entry.options.get(name).copied().unwrap_or(false);
    let changes = Changes { name: option("allowNameChange"), kind: option("allowKindChange") };
    match (loaded, &entry.target) {
        (Loaded::Json(operations), Some(target)) => {
            let matcher = Matcher::new(target).map_err(|error| error.or_at(span))?;
            let mut matched = false;
            for resource in map.resources_mut().iter_mut().filter(|resource| matcher.matches(resource)) {
                matched = true;
                json(resource, &operations)?;
            }
            Ok(matched)
        }
        (Loaded::Json(_), None) => Err(Error::at("must specify a target for JSON patch", span)),
        (Loaded::Strategic(patches), None) => {
            by_identity(map, &patches, changes, rules)?;
            Ok(true)
        }
        (Loaded::Strategic(patches), Some(target)) => {
            to_selected(map, &patches, target, changes, rules, span)
        }
    }
}

/// The older ways to name a patch make strings of all its labels and annotations, of a null too.
pub(crate) fn make_legacy(patch: &mut Resource) {
    for field in ["labels", "annotations"] {
        patch.make_strings(field);
    }
}

/// Applies each patch to the one resource that has or had its identity.
pub(crate) fn by_identity(
    map: &mut ResMap,
    patches: &[Resource],
    changes: Changes,
    rules: &Rules,
) -> Result<()> {
    let resources = map.resources_mut();
    let mut index = NameIndex::of_any(resources);
    for patch in patches {
        let place =
            index.demand_one(resources, &patch.original_id()).map_err(|error| error.or_at(patch.span()))?;
        let Some(resource) = resources.get_mut(place) else { continue };
        let kept = strategic(resource, patch, changes, rules)?;
        if !kept {
            resources.remove(place);
        }
        if !kept || changes.name || changes.kind {
            index = NameIndex::of_any(resources);
        }
    }
    Ok(())
}

fn to_selected(
    map: &mut ResMap,
    patches: &[Resource],
    target: &Selector,
    changes: Changes,
    rules: &Rules,
    span: Span,
) -> Result<bool> {
    let matcher = Matcher::new(target).map_err(|error| error.or_at(span))?;
    let resources = map.resources_mut();
    let selected: Vec<bool> = resources.iter().map(|resource| matcher.matches(resource)).collect();
    for patch in patches {
        for (resource, selected) in resources.iter_mut().zip(&selected) {
            if !*selected || resource.is_empty() {
                continue;
            }
            let mut fitted = patch.clone();
            let api_version = resource.api_version().to_owned();
            set_text(&mut fitted.node, "apiVersion", &api_version);
            for field in ["labels", "annotations"] {
                fitted.make_strings(field);
            }
            if !strategic(resource, &fitted, changes, rules)? {
                resource.node = Node::null(resource.span());
            }
        }
    }
    resources.retain(|resource| !resource.is_empty());
    Ok(selected.iter().any(|selected| *selected))
}

/// Merges a patch into a resource. False when that deletes it.
fn strategic(resource: &mut Resource, patch: &Resource, changes: Changes, rules: &Rules) -> Result<bool> {
    let id = resource.current_id();
    if changes.name || changes.kind {
        resource.store_previous_id();
    }
    let node = std::mem::replace(&mut resource.node, Node::null(patch.span()));
    let merged = strategic_merge(node, &patch.node, rules)
        .map_err(|error| error.wrap(format!("patching {id}")).or_at(patch.span()))?;
    let Some(merged) = merged else { return Ok(false) };
    resource.node = merged;
    if resource.is_empty() {
        return Ok(false);
    }
    shared::after_merge(&resource.shared, &mut resource.node, &patch.node)?;
    if !changes.kind {
        resource.set_kind(&id.gvk.kind);
    }
    if !changes.name {
        resource.set_name(&id.name);
    }
    resource.set_namespace(&id.namespace);
    Ok(true)
}

/// Applies JSON patch operations to one resource.
pub(crate) fn json(resource: &mut Resource, operations: &[Operation]) -> Result<()> {
    let id = resource.current_id();
    resource.store_previous_id();
    // Upstream reads the object anew from JSON, in which every field has its own value.
    resource.shared.clear();
    // Upstream keeps notes in the annotations at this point, so patches may count on the map.
    let span = resource.span();
    if let Some(metadata) = resource.node.get_mut("metadata") {
        child(metadata, "annotations", || Node::mapping(span));
    }
    json6902::apply(&mut resource.node, operations).map_err(|error| error.wrap(format!("patching {id}")))
}
