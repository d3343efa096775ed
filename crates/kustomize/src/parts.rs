//! The parts of a build, each by itself: for whoever tests them, and for tools that need one of them.
//!
//! Invariant: every function here is the one that a build calls; nothing is written anew.

use std::collections::BTreeMap;

use gantry_yaml::{FileId, Node, parse_documents};
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::replacement::ReplacementField;
use crate::resource::Resource;
use crate::schema::Rules;
use crate::{hash, json6902, merge, merge3, order, path, plugin, replacement, transform, vars};

pub use crate::config::split_path;
pub use crate::id::{Gvk, NO_NAMESPACE, ResId};

/// Whether a kind comes before another in the legacy order.
pub fn is_before(one: &Gvk, other: &Gvk) -> bool {
    order::is_before(one, other)
}

/// Whether an image is one of this name, which is a pattern.
pub fn is_image_of(image: &str, name: &str) -> bool {
    transform::is_image_of(image, name)
}

/// The suffix that the object in a text gets for its content.
pub fn hash_suffix(text: &str) -> Result<String> {
    Ok(hash::suffix(&Resource::new(one(text)?)))
}

/// The text that the suffix is the hash of.
pub fn hashed_text(text: &str) -> Result<String> {
    Ok(hash::hashed(&Resource::new(one(text)?)))
}

/// The object with a strategic merge patch applied by the rules of the built-in kinds; `None` when that deletes it.
pub fn strategic_merge(object: Node, patch: &Node) -> Result<Option<Node>> {
    merge::strategic_merge(object, patch, &Rules::default())
}

/// What changed from `original` to `updated`, brought into `local`: order, quotes and comments of that stay.
pub fn three_way_merge(local: &str, original: &str, updated: &str, infer: bool) -> Result<String> {
    merge3::three_way(local, original, updated, infer, &Rules::default())
}

/// Applies the operations of a JSON patch (RFC 6902) in order.
pub fn json_patch(document: &mut Node, patch: &Node) -> Result<()> {
    let operations = json6902::operations(patch)
        .ok_or_else(|| Error::at("not a list of operations of a JSON patch", patch.span))?;
    json6902::apply(document, &operations)
}

/// The steps of a dotted field path, as in `spec.containers.[name=web].image`.
pub fn split_dotted(text: &str) -> Vec<String> {
    path::split_dotted(text)
}

/// The one field that a dotted path leads to.
pub fn lookup<'n>(node: &'n Node, text: &str) -> Option<&'n Node> {
    path::lookup(node, &path::split_dotted(text))
}

/// Sets every field that a dotted path leads to; returns how many there were. With `create` what is missing is made.
pub fn set_each(node: &mut Node, text: &str, create: bool, value: &Node) -> Result<usize> {
    let make = if create { path::Make::Scalar } else { path::Make::Nothing };
    path::each(node, &path::split_dotted(text), make, &mut |field| {
        *field = value.clone();
        Ok(())
    })
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Replacements {
    replacements: Vec<ReplacementField>,
}

/// The documents of `objects` with the list under `replacements:` applied.
pub fn replace(objects: &str, replacements: &str) -> Result<Vec<Node>> {
    let mut resources: Vec<Resource> = documents(objects)?.into_iter().map(Resource::with_notes).collect();
    let list: Replacements = plugin::read(&one(replacements)?)?;
    for entry in &list.replacements {
        replacement::apply(&mut resources, entry)?;
    }
    Ok(resources.into_iter().map(|resource| resource.node).collect())
}

/// A text with its variables (`$(NAME)`) in place, and how often each was. Text that is one variable takes its type.
pub fn expand(text: &str, values: &BTreeMap<&str, Node>) -> (Node, BTreeMap<String, usize>) {
    let mut uses = BTreeMap::new();
    let expanded = vars::expand(text, values, &mut uses);
    (expanded.unwrap_or_else(|| Node::string(text, Default::default())), uses)
}

fn documents(text: &str) -> Result<Vec<Node>> {
    let documents = parse_documents(FileId(0), text);
    let documents = documents.map_err(|error| Error::at(error.message(), error.span()))?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}

fn one(text: &str) -> Result<Node> {
    documents(text)?.into_iter().next().ok_or_else(|| Error::new("the text has no document"))
}
