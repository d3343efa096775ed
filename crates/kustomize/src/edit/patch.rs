//! Patches of a kustomization: adding one, and removing the one that is exactly like it.

use gantry_yaml::Node;

use super::document::Document;
use super::tree;
use crate::error::{Error, Result};
use crate::kustomization::Patch;

const PATCHES: &str = "patches";

/// A patch by file or by content, and what it is for.
#[derive(Clone, Debug, Default)]
pub struct PatchEntry {
    pub path: String,
    pub patch: String,
    pub group: String,
    pub version: String,
    pub kind: String,
    pub name: String,
    pub namespace: String,
    pub annotation_selector: String,
    pub label_selector: String,
}

impl PatchEntry {
    fn node(&self) -> Node {
        let mut node = tree::filled(&[("patch", &self.patch), ("path", &self.path)]);
        let target = tree::filled(&[
            ("annotationSelector", &self.annotation_selector),
            ("group", &self.group),
            ("kind", &self.kind),
            ("labelSelector", &self.label_selector),
            ("name", &self.name),
            ("namespace", &self.namespace),
            ("version", &self.version),
        ]);
        if target.as_mapping().is_some_and(|entries| !entries.is_empty()) {
            tree::set(&mut node, "target", target);
        }
        node
    }

    fn is(&self, other: &Node) -> bool {
        let typed = |node: &Node| gantry_yaml::from_node::<Patch>(node).ok();
        let (Some(own), Some(other)) = (typed(&self.node()), typed(other)) else { return false };
        own.path == other.path
            && own.patch == other.patch
            && own.target == other.target
            && own.options == other.options
    }

    fn check(&self) -> Result<()> {
        if !self.patch.is_empty() && !self.path.is_empty() {
            return Err(Error::new("patch and path can't be set at the same time"));
        }
        Ok(())
    }
}

/// The first versions had file names here; those are `patchesStrategicMerge` now.
fn refuse_names(document: &Document<'_>) -> Result<()> {
    match document.items(PATCHES).iter().find(|item| item.as_str().is_some()) {
        Some(name) => Err(document.error(
            "'patches' lists file names, which is no longer read: move them to entries with a path, as `edit fix` does",
            name.span,
        )),
        None => Ok(()),
    }
}

pub(super) fn add(document: &mut Document<'_>, entry: &PatchEntry, notes: &mut Vec<String>) -> Result<()> {
    entry.check()?;
    if entry.patch.is_empty() && entry.path.is_empty() {
        return Err(Error::new("must provide either patch or path"));
    }
    refuse_names(document)?;
    if document.items(PATCHES).iter().any(|item| entry.is(item)) {
        notes.push(format!("patch {} already in kustomization file", entry.named()));
        return Ok(());
    }
    document.change_list(PATCHES, |items| items.push(entry.node()));
    Ok(())
}

pub(super) fn remove(document: &mut Document<'_>, entry: &PatchEntry, notes: &mut Vec<String>) -> Result<()> {
    entry.check()?;
    refuse_names(document)?;
    if !document.items(PATCHES).iter().any(|item| entry.is(item)) {
        notes.push(format!("patch {} doesn't exist in kustomization file", entry.named()));
        return Ok(());
    }
    document.change_list(PATCHES, |items| items.retain(|item| !entry.is(item)));
    Ok(())
}

impl PatchEntry {
    /// What messages call it: its path, or the beginning of its content.
    fn named(&self) -> String {
        if self.path.is_empty() {
            self.patch.lines().next().unwrap_or_default().chars().take(80).collect()
        } else {
            self.path.clone()
        }
    }
}
