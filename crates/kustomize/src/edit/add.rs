//! `edit add`.

use super::document::Document;
use super::{Addition, generator, glob, labels, patch, tree};
use crate::door::Doors;
use crate::error::{Error, Result};
use crate::fs::FileSystem;
use crate::generate::Kind;
use crate::loader::Loader;
use crate::remote::{is_http, is_http_repository, is_surely_repository};
use crate::resource::resources_from;

const RESOURCES: &str = "resources";
const BASES: &str = "bases";
pub(super) const BUILD_METADATA: &str = "buildMetadata";

pub(super) fn add(
    fs: &dyn FileSystem,
    doors: Doors<'_>,
    document: &mut Document<'_>,
    addition: &Addition,
    notes: &mut Vec<String>,
) -> Result<()> {
    match addition {
        Addition::Resources { patterns, verify } => {
            let paths = loadable(fs, doors, &document.loader, patterns, *verify)?;
            add_paths(document, RESOURCES, "resource", &paths, notes);
        }
        Addition::Components(patterns) => {
            let paths = loadable(fs, doors, &document.loader, patterns, true)?;
            add_paths(document, "components", "component", &paths, notes);
        }
        Addition::Bases(paths) => return add_bases(fs, document, paths),
        Addition::Transformers(patterns) => {
            let paths = present(fs, &document.loader, patterns, notes)?;
            add_paths(document, "transformers", "transformer", &paths, notes);
        }
        Addition::Generators(patterns) => {
            let paths = present(fs, &document.loader, patterns, notes)?;
            add_paths(document, "generators", "generator", &paths, notes);
        }
        Addition::Patch(entry) => return patch::add(document, entry, notes),
        Addition::ConfigMap(sources) => return generator::add(fs, document, Kind::ConfigMap, sources, notes),
        Addition::Secret(sources) => return generator::add(fs, document, Kind::Secret, sources, notes),
        Addition::Labels(change) => return labels::add_labels(document, change),
        Addition::Annotations { pairs, force } => return labels::add_annotations(document, pairs, *force),
        Addition::BuildMetadata(options) => return add_build_metadata(document, options),
    }
    Ok(())
}

/// The files and directories that patterns stand for; one without a match must be a directory or repository that a build
/// could load, or an address that has a file with objects.
pub(super) fn loadable(
    fs: &dyn FileSystem,
    doors: Doors<'_>,
    loader: &Loader<'_>,
    patterns: &[String],
    verify: bool,
) -> Result<Vec<String>> {
    let mut loader = loader.clone();
    loader.doors = doors;
    let mut paths = Vec::new();
    for pattern in patterns {
        let files =
            if verify && !is_http(pattern) { glob::files(fs, &loader.root, pattern)? } else { Vec::new() };
        if verify && files.is_empty() {
            look_up(&loader, pattern).map_err(|error| error.wrap(format!("{pattern} has no match")))?;
        }
        if files.is_empty() {
            paths.push(pattern.clone());
        } else {
            paths.extend(files);
        }
    }
    Ok(paths)
}

/// Whether a build could load what is there, in the order in which a build tries: a file, or else a directory.
fn look_up(loader: &Loader<'_>, path: &str) -> Result<()> {
    if !is_http(path) || is_surely_repository(path) {
        return loader.enter(path).map(drop);
    }
    let as_file = loader.load_text(path).and_then(|(file, text)| {
        let documents = gantry_yaml::parse_documents(file, &text)
            .map_err(|error| Error::at(error.message(), error.span()))?;
        resources_from(documents)
    });
    match as_file {
        Ok(_) => Ok(()),
        Err(not_a_file) if is_http_repository(path) => {
            loader.enter(path).map(drop).map_err(|error| error.wrap(not_a_file.message()))
        }
        Err(not_a_file) => Err(not_a_file),
    }
}

/// The files that patterns stand for; one without a match is noted.
pub(super) fn present(
    fs: &dyn FileSystem,
    loader: &Loader<'_>,
    patterns: &[String],
    notes: &mut Vec<String>,
) -> Result<Vec<String>> {
    let mut paths = Vec::new();
    for pattern in patterns {
        let files = glob::files(fs, &loader.root, pattern)?;
        if files.is_empty() {
            notes.push(format!("{pattern} has no match"));
        }
        paths.extend(files);
    }
    Ok(paths)
}

fn add_paths(
    document: &mut Document<'_>,
    field: &str,
    what: &str,
    paths: &[String],
    notes: &mut Vec<String>,
) {
    let mut known = document.strings(field);
    if field == RESOURCES {
        known.extend(document.strings(BASES));
    }
    let mut added = Vec::new();
    for path in paths {
        // A pattern may match the file that is being edited.
        if path == document.file_name {
            continue;
        }
        if known.contains(path) {
            notes.push(format!("{what} {path} already in kustomization file"));
            continue;
        }
        known.push(path.clone());
        added.push(tree::string(path));
    }
    if !added.is_empty() {
        document.change_list(field, |items| items.extend(added));
    }
}

fn add_bases(fs: &dyn FileSystem, document: &mut Document<'_>, paths: &[String]) -> Result<()> {
    let mut added: Vec<String> = Vec::new();
    for path in paths {
        if path.is_empty() || fs.canonical(&document.loader.root.join(path)).is_err() {
            return Err(Error::new(format!("{path} does not exist")));
        }
        for field in [RESOURCES, BASES] {
            if let Some(known) = document.items(field).iter().find(|item| item.text() == Some(path)) {
                let message = format!("base {path} already in kustomization file");
                return Err(document.error(message, known.span));
            }
        }
        if added.contains(path) {
            return Err(Error::new(format!("base {path} is named twice")));
        }
        added.push(path.clone());
    }
    document.change_list(RESOURCES, |items| items.extend(added.iter().map(|path| tree::string(path))));
    Ok(())
}

fn add_build_metadata(document: &mut Document<'_>, options: &[String]) -> Result<()> {
    let mut added: Vec<&String> = Vec::new();
    for option in options {
        let known = document.items(BUILD_METADATA).iter().find(|item| item.text() == Some(option));
        let message = format!("buildMetadata option {option} already in kustomization file");
        if let Some(known) = known {
            return Err(document.error(message, known.span));
        }
        if added.contains(&option) {
            return Err(Error::new(message));
        }
        added.push(option);
    }
    document
        .change_list(BUILD_METADATA, |items| items.extend(added.iter().map(|option| tree::string(option))));
    Ok(())
}
