//! `create`: a kustomization file for a directory, with the resources that are there.

use std::path::Path;

use gantry_yaml::{FileId, Node, parse_documents};

use super::document::{file_name_in, loader_at};
use super::{Outcome, Pairs, add, tree};
use crate::door::Doors;
use crate::error::{Error, Result};
use crate::fs::FileSystem;
use crate::kustomization::{FILE_NAMES, api_version_of};
use crate::loader::Loader;
use crate::resource::resources_from;

/// What the new file says.
#[derive(Clone, Debug, Default)]
pub struct Create {
    /// Files, directories and URLs; patterns are expanded.
    pub resources: Vec<String>,
    pub namespace: String,
    pub name_prefix: String,
    pub name_suffix: String,
    pub annotations: Pairs,
    pub labels: Pairs,
    /// Look for files with Kubernetes objects.
    pub autodetect: bool,
    /// In directories below too; those with a kustomization are resources themselves.
    pub recursive: bool,
}

/// More files than this are not searched.
const MAX_FILES: usize = 100_000;
const MAX_DEPTH: usize = 64;

pub(super) fn create(fs: &dyn FileSystem, doors: Doors<'_>, dir: &Path, create: &Create) -> Result<Outcome> {
    let loader = loader_at(fs, dir)?;
    let mut resources = add::loadable(fs, doors, &loader, &create.resources, true)?;
    if let Some(name) = file_name_in(&loader)? {
        let path = loader.root.join(name);
        return Err(Error::new(format!("kustomization file already exists: {}", path.display())));
    }
    if create.autodetect {
        let mut detected = Vec::new();
        let mut visited = 0;
        detect(fs, &loader, "", create.recursive, 0, &mut visited, &mut detected)?;
        for path in detected {
            if !resources.contains(&path) {
                resources.push(path);
            }
        }
    }
    let kind = "Kustomization";
    let mut fields: Vec<(&str, Node)> =
        vec![("apiVersion", tree::string(api_version_of(kind))), ("kind", tree::string(kind))];
    if !resources.is_empty() {
        fields.push(("resources", tree::list(resources.iter().map(|path| tree::string(path)).collect())));
    }
    for (field, text) in [
        ("namePrefix", &create.name_prefix),
        ("nameSuffix", &create.name_suffix),
        ("namespace", &create.namespace),
    ] {
        if !text.is_empty() {
            fields.push((field, tree::string(text)));
        }
    }
    for (field, pairs) in [("commonLabels", &create.labels), ("commonAnnotations", &create.annotations)] {
        if !pairs.is_empty() {
            let pairs = pairs.iter().map(|(key, value)| (key.as_str(), tree::string(value)));
            fields.push((field, tree::mapping(pairs)));
        }
    }
    // Field by field: a whole mapping would come out sorted.
    let text = fields.into_iter().map(|field| gantry_yaml::emit(&tree::mapping([field]))).collect();
    Ok(Outcome { writes: vec![(loader.root.join(FILE_NAMES[0]), text)], ..Outcome::default() })
}

/// Adds the paths, relative to the root, of files with objects and of directories with a kustomization.
fn detect(
    fs: &dyn FileSystem,
    loader: &Loader<'_>,
    dir: &str,
    recursive: bool,
    depth: usize,
    visited: &mut usize,
    found: &mut Vec<String>,
) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(Error::new(format!("directories nest deeper than {MAX_DEPTH} at '{dir}'")));
    }
    let path = loader.root.join(dir);
    let names = fs.list(&path).map_err(|error| Error::new(format!("'{}': {error}", path.display())))?;
    for name in names {
        *visited += 1;
        if *visited > MAX_FILES {
            return Err(Error::new(format!(
                "more than {MAX_FILES} files to look at: name the resources with --resources"
            )));
        }
        let shown = if dir.is_empty() { name.clone() } else { format!("{dir}/{name}") };
        let path = loader.root.join(&shown);
        if fs.is_dir(&path) {
            // A directory that a link leads to is reached where it is.
            let is_link = fs.canonical(&path).is_ok_and(|real| real != path);
            if !recursive || is_link || name == ".git" {
                continue;
            }
            if FILE_NAMES.iter().any(|file| fs.canonical(&path.join(file)).is_ok()) {
                found.push(shown);
            } else {
                detect(fs, loader, &shown, recursive, depth + 1, visited, found)?;
            }
        } else if holds_objects(fs, &path) {
            found.push(shown);
        }
    }
    Ok(())
}

fn holds_objects(fs: &dyn FileSystem, path: &Path) -> bool {
    let Ok(bytes) = fs.read(path) else { return false };
    let Ok(text) = String::from_utf8(bytes) else { return false };
    let Ok(documents) = parse_documents(FileId(0), &text) else { return false };
    resources_from(documents).is_ok_and(|resources| !resources.is_empty())
}
