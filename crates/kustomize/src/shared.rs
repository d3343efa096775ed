//! Values that upstream holds once and shows in several fields.
//!
//! A label or annotation that a transformer adds to several fields of an object is one node there: whoever changes it in
//! one field changes it in all of them. Overlays of many people rely on what comes out, so it is kept.

use gantry_yaml::Node;
use smol_str::SmolStr;

use crate::config::FieldSpec;
use crate::error::Result;
use crate::field::{Create, visit};
use crate::resource::set_text;

/// The fields of one object that have one value: the maps that a transformer has added a key to.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    key: SmolStr,
    maps: Vec<FieldSpec>,
}

impl Shared {
    /// `None` where there is nothing to share.
    pub(crate) fn new(key: &str, maps: Vec<FieldSpec>) -> Option<Shared> {
        (maps.len() > 1).then(|| Shared { key: key.into(), maps })
    }

    fn has_map(&self, path: &str) -> bool {
        self.maps.iter().any(|map| map.path == path)
    }

    /// Gives the value to all fields that are still there.
    fn set(&self, object: &mut Node, value: &str) -> Result<()> {
        for map in &self.maps {
            visit(object, map, Create::Nothing, &mut |node| {
                if node.get(&self.key).is_some() {
                    set_text(node, &self.key, value);
                }
                Ok(())
            })?;
        }
        Ok(())
    }
}

/// A transformer has given a key of some maps a value.
pub(crate) fn after_entry(
    groups: &[Shared],
    object: &mut Node,
    key: &str,
    value: &str,
    touched: &[&str],
) -> Result<()> {
    let affected = groups.iter().filter(|group| group.key == key);
    affected
        .filter(|group| touched.iter().any(|path| group.has_map(path)))
        .try_for_each(|group| group.set(object, value))
}

/// A strategic merge patch has been merged in: what it says last, in the order of field names, holds for all.
pub(crate) fn after_merge(groups: &[Shared], object: &mut Node, patch: &Node) -> Result<()> {
    for group in groups {
        let mut said: Vec<(&str, &str)> = Vec::new();
        for map in &group.maps {
            let steps = map.steps();
            let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
            let value = patch.at(&steps).and_then(|map| map.get(&group.key)).filter(|value| !value.is_null());
            said.extend(value.and_then(Node::text).map(|value| (map.path.as_str(), value)));
        }
        said.sort_unstable();
        if let Some((_, value)) = said.last() {
            group.set(object, value)?;
        }
    }
    Ok(())
}

/// A field at these steps has been given a value.
pub(crate) fn after_field(groups: &[Shared], object: &mut Node, steps: &[String]) -> Result<()> {
    let Some((key, map)) = steps.split_last() else { return Ok(()) };
    for group in groups.iter().filter(|group| group.key == key.as_str()) {
        if !group.maps.iter().any(|spec| spec.steps() == map) {
            continue;
        }
        let path: Vec<&str> = steps.iter().map(String::as_str).collect();
        if let Some(value) = object.text_at(&path).map(str::to_owned) {
            group.set(object, &value)?;
        }
    }
    Ok(())
}
