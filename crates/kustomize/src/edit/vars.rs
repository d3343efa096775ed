//! Variables become replacements: each use is a target, and a placeholder stands where it was.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use gantry_yaml::{Data, FileId, Node};

use super::document::Document;
use super::overlay::Overlay;
use super::tree;
use crate::error::{Error, Result};
use crate::fs::{FileSystem as _, normal};
use crate::kustomization::{FILE_NAMES, Kustomization, Patch, Var, for_reading};
use crate::selector::Selector;

const VARS: &str = "vars";
const MAX_DEPTH: usize = 64;
const MAX_FILES: usize = 100_000;

/// A file that a build of the kustomization reads objects or patches from.
struct Used {
    /// As the kustomization names it, for messages.
    shown: String,
    path: PathBuf,
    patch: Option<Patch>,
}

/// Whether there were variables.
pub(super) fn convert(document: &mut Document<'_>, files: &mut Overlay<'_>) -> Result<bool> {
    let Some(vars) = document.remove(VARS) else { return Ok(false) };
    let mut used = Vec::new();
    let root = document.loader.root.clone();
    let patches: Vec<Patch> =
        document.items("patches").iter().filter_map(|item| gantry_yaml::from_node(item).ok()).collect();
    let mut seen = BTreeSet::from([root.clone()]);
    collect(files, &root, "", &document.strings("resources"), &patches, &mut seen, &mut used)?;
    let mut replacements = Vec::new();
    for node in vars.as_sequence().unwrap_or_default() {
        let var: Var =
            gantry_yaml::from_node(node).map_err(|error| Error::at(error.message(), error.span()))?;
        let mut targets = Vec::new();
        for file in &used {
            let Some(text) = files.text(&file.path) else { continue };
            let Ok(documents) = gantry_yaml::parse_documents(FileId(0), &text) else { continue };
            for object in documents.iter().flat_map(objects) {
                let mut uses = Vec::new();
                find(object, &format!("$({})", var.name), &mut Vec::new(), &mut uses)
                    .map_err(|error| error.wrap(format!("error with {}", file.shown)).or_at(node.span))?;
                targets.extend(uses.into_iter().map(|used| target(file, object, used)));
            }
        }
        replacements.push(replacement(&var, targets));
        for file in &used {
            let Some(text) = files.text(&file.path) else { continue };
            let (before, after) = (format!("$({})", var.name), format!("{}_PLACEHOLDER", var.name));
            if text.contains(&before) {
                files.write(file.path.clone(), text.replace(&before, &after));
            }
        }
    }
    document.change_list("replacements", |items| items.extend(replacements));
    Ok(true)
}

/// The files of a kustomization's resources, those of the kustomizations it names, and its patch files.
fn collect(
    files: &Overlay<'_>,
    dir: &Path,
    shown_dir: &str,
    resources: &[String],
    patches: &[Patch],
    seen: &mut BTreeSet<PathBuf>,
    used: &mut Vec<Used>,
) -> Result<()> {
    if seen.len() > MAX_FILES || used.len() > MAX_FILES {
        return Err(Error::new(format!("the kustomization uses more than {MAX_FILES} files")));
    }
    if shown_dir.matches('/').count() > MAX_DEPTH {
        return Err(Error::new(format!("kustomizations nest deeper than {MAX_DEPTH} directories")));
    }
    let shown = |path: &str| format!("{shown_dir}{path}");
    for resource in resources {
        let Ok(path) = files.canonical(&normal(&dir.join(resource))) else { continue };
        if !files.is_dir(&path) {
            used.push(Used { shown: shown(resource), path, patch: None });
            continue;
        }
        if !seen.insert(path.clone()) {
            continue;
        }
        for name in FILE_NAMES {
            let Some(text) = files.text(&path.join(name)) else { continue };
            let below = format!("{}/", shown(resource).trim_end_matches('/'));
            let inner = read(&text).map_err(|error| error.wrap(format!("{below}{name}")))?;
            let mut resources = inner.resources;
            resources.extend(inner.bases);
            collect(files, &path, &below, &resources, &inner.patches, seen, used)?;
        }
    }
    for patch in patches.iter().filter(|patch| !patch.path.is_empty()) {
        if let Ok(path) = files.canonical(&normal(&dir.join(&patch.path))) {
            used.push(Used { shown: shown(&patch.path), path, patch: Some(patch.clone()) });
        }
    }
    Ok(())
}

fn read(text: &str) -> Result<Kustomization> {
    let failed = |error: gantry_yaml::Error| Error::new(error.to_string());
    let documents = gantry_yaml::parse_documents_with(FileId(0), text, gantry_yaml::DuplicateKeys::LastWins);
    match documents.map_err(failed)?.first() {
        Some(node) if !node.is_null() => gantry_yaml::from_node(&for_reading(node)).map_err(failed),
        _ => Ok(Kustomization::default()),
    }
}

/// A document's objects: those of a list, or itself.
fn objects(document: &Node) -> Vec<&Node> {
    let is_list = matches!(document.text_at(&["kind"]), Some("List" | "ResourceList"));
    match document.get("items").and_then(Node::as_sequence) {
        Some(items) if is_list => items.iter().collect(),
        _ => vec![document],
    }
}

/// Where a variable stands: the field, and which part of its text.
struct Use {
    path: String,
    delimiter: String,
    index: usize,
}

fn find(node: &Node, variable: &str, path: &mut Vec<String>, uses: &mut Vec<Use>) -> Result<()> {
    match &node.data {
        Data::Sequence(items) => {
            for (index, item) in items.iter().enumerate() {
                path.push(index.to_string());
                find(item, variable, path, uses)?;
                path.pop();
            }
        }
        Data::Mapping(entries) => {
            for (key, value) in entries {
                let key = key.text().unwrap_or_default().trim();
                path.push(if key.contains('.') { format!("[{key}]") } else { key.to_owned() });
                find(value, variable, path, uses)?;
                path.pop();
            }
        }
        Data::Scalar(scalar) => {
            if let Some((delimiter, index)) = part_of(&scalar.text, variable)? {
                uses.push(Use { path: path.join("."), delimiter, index });
            }
        }
    }
    Ok(())
}

/// The delimiter and index by which a replacement reaches the variable; no delimiter where it is the whole text.
fn part_of(text: &str, variable: &str) -> Result<Option<(String, usize)>> {
    let Some(at) = text.find(variable) else { return Ok(None) };
    let before = text[..at].chars().next_back();
    let after = text[at + variable.len()..].chars().next();
    let undelimited =
        || Error::new(format!("cannot convert all vars to replacements; {variable} is not delimited"));
    let part = match (before, after) {
        (None, None) => (String::new(), 0),
        (None, Some(after)) => (after.to_string(), 0),
        (Some(before), None) => {
            let delimiter = before.to_string();
            let index = text.split(&delimiter).count() - 1;
            (delimiter, index)
        }
        (Some(before), Some(after)) => {
            if before != after {
                return Err(undelimited());
            }
            let delimiter = before.to_string();
            let index = text.split(&delimiter).position(|part| part == variable).ok_or_else(undelimited)?;
            (delimiter, index)
        }
    };
    Ok(Some(part))
}

fn target(file: &Used, object: &Node, used: Use) -> Node {
    let select = match &file.patch {
        Some(patch) if !(is_allowed(patch, "allowNameChange") && is_allowed(patch, "allowKindChange")) => {
            patched(patch, object)
        }
        _ => own(object),
    };
    let mut target = tree::mapping([("fieldPaths", tree::list(vec![tree::string(&used.path)]))]);
    let mut options = tree::filled(&[("delimiter", &used.delimiter)]);
    if used.index > 0 {
        tree::set(&mut options, "index", tree::integer(used.index as i64));
    }
    if options.as_mapping().is_some_and(|entries| !entries.is_empty()) {
        tree::set(&mut target, "options", options);
    }
    tree::set(&mut target, "select", select);
    target
}

fn is_allowed(patch: &Patch, option: &str) -> bool {
    patch.options.get(option).copied().unwrap_or_default()
}

fn name_of(object: &Node) -> &str {
    object.text_at(&["metadata", "name"]).unwrap_or_default()
}

fn namespace_of(object: &Node) -> &str {
    object.text_at(&["metadata", "namespace"]).unwrap_or_default()
}

/// A resource is selected by its identity.
fn own(object: &Node) -> Node {
    let api_version = object.text_at(&["apiVersion"]).unwrap_or_default();
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    tree::filled(&[
        ("group", group),
        ("kind", object.text_at(&["kind"]).unwrap_or_default()),
        ("name", name_of(object)),
        ("namespace", namespace_of(object)),
        ("version", version),
    ])
}

/// What a patch reaches is selected by the patch's target: it may be several objects, with other names.
fn patched(patch: &Patch, object: &Node) -> Node {
    let mut target: Selector = patch.target.clone().unwrap_or_default();
    if is_allowed(patch, "allowNameChange") {
        target.name = name_of(object).to_owned();
    }
    if is_allowed(patch, "allowKindChange") {
        target.kind = object.text_at(&["kind"]).unwrap_or_default().to_owned();
    }
    if !namespace_of(object).is_empty() {
        target.namespace = namespace_of(object).to_owned();
    }
    tree::filled(&[
        ("annotationSelector", &target.annotation_selector),
        ("group", &target.group),
        ("kind", &target.kind),
        ("labelSelector", &target.label_selector),
        ("name", &target.name),
        ("namespace", &target.namespace),
        ("version", &target.version),
    ])
}

fn replacement(var: &Var, targets: Vec<Node>) -> Node {
    let object = &var.objref;
    let (group, version) = match object.api_version.split_once('/') {
        Some(parts) => parts,
        None if object.api_version.is_empty() => (object.group.as_str(), object.version.as_str()),
        None => ("", object.api_version.as_str()),
    };
    let source = tree::filled(&[
        ("fieldPath", &var.fieldref.fieldpath),
        ("group", group),
        ("kind", &object.kind),
        ("name", &object.name),
        ("namespace", &object.namespace),
        ("version", version),
    ]);
    let mut replacement = tree::mapping([("source", source)]);
    if !targets.is_empty() {
        tree::set(&mut replacement, "targets", tree::list(targets));
    }
    replacement
}

#[cfg(test)]
mod tests {
    use super::part_of;

    #[test]
    fn a_variable_is_reached_by_what_delimits_it() {
        let part = |text: &str| part_of(text, "$(V)").map_err(|error| error.to_string());
        assert_eq!(part("none"), Ok(None));
        assert_eq!(part("$(V)"), Ok(Some((String::new(), 0))));
        assert_eq!(part("$(V)/path"), Ok(Some(("/".to_owned(), 0))));
        assert_eq!(part("path/$(V)"), Ok(Some(("/".to_owned(), 1))));
        assert_eq!(part("a/b/$(V)/c"), Ok(Some(("/".to_owned(), 2))));
        assert!(part("x$(V)/c").is_err());
        assert!(part("a.b-$(V)-c$(V)").is_ok());
    }
}
