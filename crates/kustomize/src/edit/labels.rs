//! Labels and annotations of a kustomization.

use std::collections::BTreeMap;

use gantry_yaml::Node;

use super::LabelChange;
use super::document::Document;
use super::tree;
use crate::error::Result;

/// Keys with their values.
pub type Pairs = BTreeMap<String, String>;

const LABELS: &str = "labels";
const COMMON_LABELS: &str = "commonLabels";
const COMMON_ANNOTATIONS: &str = "commonAnnotations";

pub(super) fn add_annotations(document: &mut Document<'_>, pairs: &Pairs, force: bool) -> Result<()> {
    refuse_present(document, document.get(COMMON_ANNOTATIONS), pairs, force, "annotation")?;
    write(document, COMMON_ANNOTATIONS, pairs);
    Ok(())
}

pub(super) fn set_annotations(document: &mut Document<'_>, pairs: &Pairs) {
    write(document, COMMON_ANNOTATIONS, pairs);
}

pub(super) fn add_labels(document: &mut Document<'_>, change: &LabelChange) -> Result<()> {
    if change.without_selector {
        let entry = document.items(LABELS).iter().find(|entry| is_for(entry, change));
        refuse_present(
            document,
            entry.and_then(|entry| entry.get("pairs")),
            &change.pairs,
            change.force,
            "label",
        )?;
        write_without_selector(document, change);
    } else {
        refuse_present(document, document.get(COMMON_LABELS), &change.pairs, change.force, "label")?;
        write(document, COMMON_LABELS, &change.pairs);
    }
    Ok(())
}

pub(super) fn set_labels(document: &mut Document<'_>, change: &LabelChange) {
    if !change.without_selector {
        write(document, COMMON_LABELS, &change.pairs);
        return;
    }
    // A key has one place: others would win over it or be refused by a build.
    for key in change.pairs.keys() {
        if document.get(COMMON_LABELS).is_some() {
            document.change_mapping(COMMON_LABELS, |labels| labels.remove(key));
        }
    }
    let keys: Vec<&String> = change.pairs.keys().collect();
    take_keys(document, &keys, |entry| !is_for(entry, change));
    write_without_selector(document, change);
}

/// Removes keys from `commonLabels` and from every entry of `labels`.
pub(super) fn remove_labels(
    document: &mut Document<'_>,
    keys: &[String],
    ignore_missing: bool,
) -> Result<()> {
    let is_defined = document.get(COMMON_LABELS).is_some() || document.get(LABELS).is_some();
    if !is_defined && !ignore_missing {
        return Err(document.field_error("commonLabels is not defined in kustomization file", COMMON_LABELS));
    }
    for key in keys {
        let has = |node: Option<&Node>| node.is_some_and(|node| node.get(key).is_some());
        let is_there = has(document.get(COMMON_LABELS))
            || document.items(LABELS).iter().any(|entry| has(entry.get("pairs")));
        if !is_there && !ignore_missing {
            return Err(document
                .field_error(format!("label {key} is not defined in kustomization file"), COMMON_LABELS));
        }
    }
    remove_keys(document, COMMON_LABELS, keys);
    take_keys(document, &keys.iter().collect::<Vec<_>>(), |_| true);
    Ok(())
}

pub(super) fn remove_annotations(
    document: &mut Document<'_>,
    keys: &[String],
    ignore_missing: bool,
) -> Result<()> {
    let annotations = document.get(COMMON_ANNOTATIONS);
    if annotations.is_none() && !ignore_missing {
        let message = "commonAnnotations is not defined in kustomization file";
        return Err(document.field_error(message, COMMON_ANNOTATIONS));
    }
    let missing =
        keys.iter().find(|key| annotations.is_none_or(|annotations| annotations.get(key).is_none()));
    if let Some(key) = missing.filter(|_| !ignore_missing) {
        let message = format!("annotation {key} is not defined in kustomization file");
        return Err(document.field_error(message, COMMON_ANNOTATIONS));
    }
    remove_keys(document, COMMON_ANNOTATIONS, keys);
    Ok(())
}

fn is_true(entry: &Node, key: &str) -> bool {
    entry.text_at(&[key]) == Some("true")
}

/// Whether an entry of `labels` reaches exactly as far as the change.
fn is_for(entry: &Node, change: &LabelChange) -> bool {
    !is_true(entry, "includeSelectors") && is_true(entry, "includeTemplates") == change.include_templates
}

fn refuse_present(
    document: &Document<'_>,
    present: Option<&Node>,
    pairs: &Pairs,
    force: bool,
    what: &str,
) -> Result<()> {
    let entries = present.and_then(Node::as_mapping).unwrap_or_default();
    let known = entries.iter().find(|(key, _)| key.text().is_some_and(|key| pairs.contains_key(key)));
    match known {
        Some((key, _)) if !force => {
            let name = key.text().unwrap_or_default();
            Err(document.error(format!("{what} {name} already in kustomization file"), key.span))
        }
        _ => Ok(()),
    }
}

fn write(document: &mut Document<'_>, field: &str, pairs: &Pairs) {
    document.change_mapping(field, |node| {
        for (key, value) in pairs {
            tree::set(node, key, tree::string(value));
        }
    });
}

fn write_without_selector(document: &mut Document<'_>, change: &LabelChange) {
    document.change_list(LABELS, |entries| {
        if let Some(entry) = entries.iter_mut().find(|entry| is_for(entry, change)) {
            let mut pairs = entry.get("pairs").cloned().unwrap_or_else(|| tree::mapping([]));
            for (key, value) in &change.pairs {
                tree::set(&mut pairs, key, tree::string(value));
            }
            match entry.get_mut("pairs") {
                Some(old) => *old = pairs,
                None => tree::set(entry, "pairs", pairs),
            }
            return;
        }
        let pairs = change.pairs.iter().map(|(key, value)| (key.as_str(), tree::string(value)));
        let mut entry = tree::mapping([("pairs", tree::mapping(pairs))]);
        if change.include_templates {
            tree::set(&mut entry, "includeTemplates", tree::boolean(true));
        }
        entries.push(entry);
    });
}

fn remove_keys(document: &mut Document<'_>, field: &str, keys: &[String]) {
    if document.get(field).is_some() {
        document.change_mapping(field, |node| {
            for key in keys {
                node.remove(key);
            }
        });
    }
}

/// Takes keys out of entries of `labels`; an entry that loses its last pair goes.
fn take_keys(document: &mut Document<'_>, keys: &[&String], from: impl Fn(&Node) -> bool) {
    if document.get(LABELS).is_none() {
        return;
    }
    document.change_list(LABELS, |entries| {
        entries.retain_mut(|entry| {
            if !from(entry) {
                return true;
            }
            let Some(pairs) = entry.get_mut("pairs") else { return true };
            let had = keys.iter().filter(|key| pairs.remove(key).is_some()).count();
            had == 0 || pairs.as_mapping().is_some_and(|pairs| !pairs.is_empty())
        });
    });
}
