//! `edit set`.

use gantry_yaml::Node;

use super::document::Document;
use super::{ImageChange, Part, Setting, add, generator, labels, tree};
use crate::error::Result;
use crate::generate::Kind;

const IMAGES: &str = "images";
/// What `images` was called.
const IMAGE_TAGS: &str = "imageTags";
const REPLICAS: &str = "replicas";

pub(super) fn set(document: &mut Document<'_>, setting: &Setting) -> Result<()> {
    match setting {
        Setting::Images(images) => images.iter().for_each(|image| set_image(document, image)),
        Setting::Namespace(namespace) => document.set_text("namespace", namespace),
        Setting::NamePrefix(prefix) => document.set_text("namePrefix", prefix),
        Setting::NameSuffix(suffix) => document.set_text("nameSuffix", suffix),
        Setting::Replicas(counts) => {
            counts.iter().for_each(|(name, count)| set_count(document, name, *count))
        }
        Setting::Labels(change) => labels::set_labels(document, change),
        Setting::Annotations(pairs) => labels::set_annotations(document, pairs),
        Setting::ConfigMap(change) => return generator::set(document, Kind::ConfigMap, change),
        Setting::Secret(change) => return generator::set(document, Kind::Secret, change),
        Setting::BuildMetadata(options) => set_build_metadata(document, options),
    }
    Ok(())
}

fn is_named(item: &Node, name: &str) -> bool {
    item.text_at(&["name"]) == Some(name)
}

/// The first entry of that name takes the change; further ones go.
fn set_image(document: &mut Document<'_>, image: &ImageChange) {
    let has = |field: &str| document.items(field).iter().any(|item| is_named(item, &image.name));
    let field = if !has(IMAGES) && has(IMAGE_TAGS) { IMAGE_TAGS } else { IMAGES };
    document.change_list(field, |items| {
        let Some(index) = items.iter().position(|item| is_named(item, &image.name)) else {
            let mut item = tree::mapping([]);
            apply(&mut item, image);
            tree::insert_by_name(items, item);
            return;
        };
        apply(&mut items[index], image);
        let mut at = 0;
        items.retain(|item| {
            at += 1;
            at - 1 <= index || !is_named(item, &image.name)
        });
    });
}

fn apply(item: &mut Node, image: &ImageChange) {
    let parts = [("digest", &image.digest), ("newName", &image.new_name), ("newTag", &image.new_tag)];
    for (key, part) in parts {
        match part {
            Part::None => tree::set_or_remove(item, key, ""),
            Part::Keep => {}
            Part::Is(text) => tree::set_or_remove(item, key, text),
        }
    }
    tree::set(item, "name", tree::string(&image.name));
    // Upstream's change knows no suffix either.
    item.remove("tagSuffix");
}

fn set_count(document: &mut Document<'_>, name: &str, count: i64) {
    document.change_list(REPLICAS, |items| match items.iter_mut().find(|item| is_named(item, name)) {
        Some(item) => tree::set(item, "count", tree::integer(count)),
        None => {
            let item = tree::mapping([("count", tree::integer(count)), ("name", tree::string(name))]);
            tree::insert_by_name(items, item);
        }
    });
}

/// Those that are there already keep their lines.
fn set_build_metadata(document: &mut Document<'_>, options: &[String]) {
    document.change_list(add::BUILD_METADATA, |items| {
        let is_kept = items.len() <= options.len()
            && items.iter().zip(options).all(|(item, option)| item.text() == Some(option));
        if !is_kept {
            items.clear();
        }
        items.extend(options[items.len()..].iter().map(|option| tree::string(option)));
    });
}
