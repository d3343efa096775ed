//! `edit fix`: deprecated fields become those that replace them, missing identity is filled in.

use std::path::Path;

use gantry_yaml::{Data, Node};

use super::document::Document;
use super::overlay::Overlay;
use super::{Outcome, tree, vars};
use crate::error::{Error, Result};
use crate::fs::FileSystem;
use crate::kustomization::api_version_of;
use crate::{Options, build};

const PATCHES: &str = "patches";
/// A patch file with more documents is not taken apart.
const MAX_PATCHES_IN_FILE: usize = 1000;
/// How often a suffix is tried for the name of a new file.
const MAX_NAME_TRIES: usize = 100;

pub(super) fn fix(fs: &dyn FileSystem, dir: &Path, with_vars: bool) -> Result<Outcome> {
    let mut document = Document::open(fs, dir)?;
    let mut files = Overlay::new(fs);
    let mut fixed: Vec<(&str, &str)> = Vec::new();
    let changes = change(&mut document, &mut files, &mut fixed, with_vars);
    changes.map_err(|error| document.loader.locate(error))?;
    if let Some(text) = document.rewritten()? {
        files.write(document.path(), text);
    }
    let mut outcome = Outcome { report: report(&document, &fixed, with_vars), ..Outcome::default() };
    outcome.notes.extend(difference(fs, &files, dir));
    (outcome.writes, outcome.removals) = files.into_changes();
    Ok(outcome)
}

fn change(
    document: &mut Document<'_>,
    files: &mut Overlay<'_>,
    fixed: &mut Vec<(&'static str, &'static str)>,
    with_vars: bool,
) -> Result<()> {
    if document.text("kind").is_empty() {
        document.set_text("kind", "Kustomization");
    }
    if document.text("apiVersion").is_empty() {
        let api_version = api_version_of(document.text("kind"));
        document.set_text("apiVersion", api_version);
    }
    for (old, new) in [("bases", "resources"), ("imageTags", "images")] {
        if move_items(document, old, new) {
            fixed.push((old, new));
        }
    }
    for field in ["configMapGenerator", "secretGenerator"] {
        if rename_env(document, field) {
            fixed.push(("env", "envs"));
        }
    }
    fixed.dedup();
    if helm_charts(document) {
        fixed.push(("helmChartInflationGenerator", "helmCharts"));
    }
    if name_patches(document, files)? {
        fixed.push(("patches by name", PATCHES));
    }
    if move_items(document, "patchesJson6902", PATCHES) {
        fixed.push(("patchesJson6902", PATCHES));
    }
    if let Some(patches) = document.remove("patchesStrategicMerge") {
        let mut entries = Vec::new();
        for patch in patches.as_sequence().unwrap_or_default() {
            entries.extend(strategic_merge(document, files, patch)?);
        }
        document.change_list(PATCHES, |items| items.extend(entries));
        fixed.push(("patchesStrategicMerge", PATCHES));
    }
    if common_labels(document)? {
        fixed.push(("commonLabels", "labels"));
    }
    if with_vars && vars::convert(document, files)? {
        fixed.push(("vars", "replacements"));
    }
    Ok(())
}

/// Whether there was such a field.
fn move_items(document: &mut Document<'_>, old: &str, new: &str) -> bool {
    let Some(value) = document.remove(old) else { return false };
    if let Data::Sequence(moved) = value.data {
        document.change_list(new, |items| items.extend(moved));
    }
    true
}

fn rename_env(document: &mut Document<'_>, field: &str) -> bool {
    if !document.items(field).iter().any(|entry| entry.get("env").is_some()) {
        return false;
    }
    document.change_list(field, |entries| {
        for entry in entries {
            if let Some(env) = entry.remove("env") {
                tree::append(entry, "envs", &[env.text().unwrap_or_default().to_owned()]);
            }
        }
    });
    true
}

/// One list held charts and what is common to them.
fn helm_charts(document: &mut Document<'_>) -> bool {
    const FIELDS: [(&str, &str); 7] = [
        ("chartName", "name"),
        ("chartVersion", "version"),
        ("chartRepoUrl", "repo"),
        ("values", "valuesFile"),
        ("valuesLocal", "valuesInline"),
        ("valuesMerge", "valuesMerge"),
        ("releaseName", "releaseName"),
    ];
    let Some(old) = document.remove("helmChartInflationGenerator") else { return false };
    let mut charts = Vec::new();
    let mut globals = tree::mapping([]);
    for entry in old.as_sequence().unwrap_or_default() {
        let mut chart = tree::mapping([]);
        for (from, to) in FIELDS {
            if let Some(value) = entry.get(from) {
                tree::set(&mut chart, to, value.clone());
            }
        }
        charts.push(chart);
        for (from, to) in [("chartHome", "chartHome"), ("helmHome", "configHome")] {
            if let Some(value) = entry.get(from) {
                tree::set(&mut globals, to, value.clone());
            }
        }
    }
    document.change_list("helmCharts", |items| items.extend(charts));
    if document.get("helmGlobals").is_none()
        && globals.as_mapping().is_some_and(|entries| !entries.is_empty())
    {
        document.change_mapping("helmGlobals", |value| *value = globals);
    }
    true
}

/// The first versions listed file names under `patches`.
fn name_patches(document: &mut Document<'_>, files: &mut Overlay<'_>) -> Result<bool> {
    let is_name = |item: &Node| item.as_str().is_some();
    if !document.items(PATCHES).iter().any(is_name) {
        return Ok(false);
    }
    let mut entries = Vec::new();
    for item in document.items(PATCHES) {
        if is_name(item) {
            entries.extend(strategic_merge(document, files, item)?);
        } else {
            entries.push(item.clone());
        }
    }
    document.change_list(PATCHES, |items| *items = entries);
    Ok(true)
}

/// The entries that stand for a strategic merge patch: one for each of its documents.
fn strategic_merge(document: &Document<'_>, files: &mut Overlay<'_>, patch: &Node) -> Result<Vec<Node>> {
    let written = patch.text().unwrap_or_default();
    let path = document.loader.root.join(written);
    let is_file = files.exists(&path) && !files.is_dir(&path);
    let text = if is_file {
        document.loader.load_text(written).map_err(|error| error.or_at(patch.span))?.1
    } else {
        written.to_owned()
    };
    let documents = split_documents(&text).map_err(|error| error.or_at(patch.span))?;
    let entry = |key: &str, text: &str| tree::mapping([(key, tree::string(text))]);
    if documents.len() == 1 {
        // The name keeps its place, and by that its comments.
        return Ok(vec![tree::mapping([(if is_file { "path" } else { "patch" }, patch.clone())])]);
    }
    let patches: Vec<String> = documents
        .iter()
        .map(|text| text.trim())
        .filter(|text| !text.is_empty())
        .map(|text| format!("{text}\n"))
        .collect();
    if patches.len() > MAX_PATCHES_IN_FILE {
        let message = format!(
            "the patch has {} documents, at most {MAX_PATCHES_IN_FILE} are taken apart",
            patches.len()
        );
        return Err(Error::at(message, patch.span));
    }
    if !is_file {
        return Ok(patches.iter().map(|text| entry("patch", text)).collect());
    }
    let path =
        files.canonical(&path).map_err(|error| Error::at(format!("'{written}': {error}"), patch.span))?;
    if let [only] = patches.as_slice() {
        files.write(path, only.clone());
        return Ok(vec![entry("path", written)]);
    }
    let mut entries = Vec::new();
    for (index, text) in patches.into_iter().enumerate() {
        let name = free_name(document, files, written, index + 1).ok_or_else(|| {
            Error::at(format!("no free file name for the parts of '{written}'"), patch.span)
        })?;
        entries.push(entry("path", &name));
        files.write(crate::fs::normal(&document.loader.root.join(name)), text);
    }
    files.remove(path);
    Ok(entries)
}

/// A name like `patch-1.yaml` that no file has.
fn free_name(document: &Document<'_>, files: &Overlay<'_>, name: &str, number: usize) -> Option<String> {
    let (base, extension) = match name.rfind('.') {
        Some(at) if at > name.rfind('/').map_or(0, |slash| slash + 1) => name.split_at(at),
        _ => (name, ""),
    };
    let mut base = base.to_owned();
    for _ in 0..MAX_NAME_TRIES {
        base.push_str(&format!("-{number}"));
        let candidate = format!("{base}{extension}");
        if !files.exists(&document.loader.root.join(&candidate)) {
            return Some(candidate);
        }
    }
    None
}

/// The texts between separator lines.
fn split_documents(text: &str) -> Result<Vec<&str>> {
    let mut documents = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("\n---") {
        let Some(length) = rest[start + 1..].find('\n') else { break };
        let after = &rest[start + 4..start + 1 + length];
        let content = after.trim();
        if !content.is_empty() && !content.starts_with('#') {
            return Err(Error::new(format!("invalid document separator: ---{}", after.trim_end())));
        }
        documents.push(&rest[..start]);
        // The break that ends the separator may begin the next one.
        rest = &rest[start + 1 + length + 1..];
    }
    documents.push(rest);
    Ok(documents)
}

fn common_labels(document: &mut Document<'_>) -> Result<bool> {
    let Some(common) = document.get("commonLabels").and_then(Node::as_mapping) else { return Ok(false) };
    if common.is_empty() {
        return Ok(false);
    }
    for (key, _) in common {
        let name = key.text().unwrap_or_default();
        let has = |entry: &Node| entry.get("pairs").is_some_and(|pairs| pairs.get(name).is_some());
        if document.items("labels").iter().any(has) {
            let message = format!("label name '{name}' exists in both commonLabels and labels");
            return Err(document.error(message, key.span));
        }
    }
    let pairs = common
        .iter()
        .map(|(key, value)| (key.text().unwrap_or_default(), tree::string(value.text().unwrap_or_default())));
    let entry = tree::mapping([("includeSelectors", tree::boolean(true)), ("pairs", tree::mapping(pairs))]);
    document.remove("commonLabels");
    document.change_list("labels", |items| items.push(entry));
    Ok(true)
}

fn report(document: &Document<'_>, fixed: &[(&str, &str)], with_vars: bool) -> String {
    let mut report = String::new();
    if !fixed.is_empty() {
        report.push_str("Fixed fields:\n");
        for (old, new) in fixed {
            report.push_str(&format!("  {old} -> {new}\n"));
        }
    }
    if !with_vars && !document.items("vars").is_empty() {
        report.push_str(
            "'vars' stays as it is: `kustomize edit fix --vars` turns it into replacements. That writes to the files \
             that use the variables, so run it where a change can be undone.\n",
        );
    }
    report
}

/// What a build says now that it did not say before.
fn difference(fs: &dyn FileSystem, files: &Overlay<'_>, dir: &Path) -> Option<String> {
    let built = |fs: &dyn FileSystem| match build(fs, dir, &Options::default()) {
        Ok(built) => Ok(built.to_yaml()),
        Err(error) => Err(error.message().to_owned()),
    };
    match (built(fs), built(files)) {
        (before, after) if before == after => None,
        (_, Err(message)) => Some(format!(
            "Warning: 'Fixed' kustomization now produces the error when running `kustomize build`: {message}"
        )),
        (Err(_), Ok(_)) => None,
        (Ok(before), Ok(after)) => {
            let same =
                before.lines().zip(after.lines()).take_while(|(before, after)| before == after).count();
            let line = |text: &str| text.lines().nth(same).unwrap_or("(the end)").to_owned();
            Some(format!(
                "Warning: 'Fixed' kustomization now produces different output when running `kustomize build`: line {} \
                 was '{}' and is '{}'",
                same + 1,
                line(&before),
                line(&after)
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separator_lines_divide_a_text() {
        assert_eq!(split_documents("a: 1").expect("one"), ["a: 1"]);
        assert_eq!(split_documents("a: 1\n--- # x\nb: 2\n").expect("two"), ["a: 1", "b: 2\n"]);
        assert_eq!(split_documents("---\na: 1\n---").expect("one"), ["---\na: 1\n---"]);
        assert!(split_documents("a: 1\n--- b: 2\n").is_err());
    }
}
