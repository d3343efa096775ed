//! `edit remove`.

use gantry_yaml::Node;

use super::document::Document;
use super::{Removal, add, generator, glob, labels, patch};
use crate::error::Result;
use crate::generate::Kind;

pub(super) fn remove(document: &mut Document<'_>, removal: &Removal, notes: &mut Vec<String>) -> Result<()> {
    match removal {
        Removal::Resources(patterns) => remove_paths(document, &["resources", "bases"], patterns),
        Removal::Components(patterns) => remove_paths(document, &["components"], patterns),
        Removal::Transformers(patterns) => remove_paths(document, &["transformers"], patterns),
        Removal::Patch(entry) => patch::remove(document, entry, notes),
        Removal::Labels { keys, ignore_missing } => labels::remove_labels(document, keys, *ignore_missing),
        Removal::Annotations { keys, ignore_missing } => {
            labels::remove_annotations(document, keys, *ignore_missing)
        }
        Removal::BuildMetadata(options) => {
            remove_items(document, add::BUILD_METADATA, |item| {
                item.text().is_some_and(|text| options.iter().any(|option| option == text))
            });
            Ok(())
        }
        Removal::ConfigMaps { names, namespace } => {
            generator::remove(document, Kind::ConfigMap, names, namespace, notes)
        }
        Removal::Secrets { names, namespace } => {
            generator::remove(document, Kind::Secret, names, namespace, notes)
        }
    }
}

/// Removes the paths that fit a pattern; that none does is no error.
fn remove_paths(document: &mut Document<'_>, fields: &[&str], patterns: &[String]) -> Result<()> {
    for field in fields {
        let mut unwanted: Vec<String> = Vec::new();
        for path in document.strings(field) {
            for pattern in patterns {
                if glob::matches(pattern, &path)? {
                    unwanted.push(path.clone());
                    break;
                }
            }
        }
        remove_items(document, field, |item| {
            item.text().is_some_and(|text| unwanted.iter().any(|path| path == text))
        });
    }
    Ok(())
}

fn remove_items(document: &mut Document<'_>, field: &str, is_unwanted: impl Fn(&Node) -> bool) {
    if document.get(field).is_some() {
        document.change_list(field, |items| items.retain(|item| !is_unwanted(item)));
    }
}
