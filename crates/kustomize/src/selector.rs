//! Which resources a patch or replacement is for: anchored patterns on ids, label and annotation selectors.

use regex::Regex;
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::id::{Gvk, ResId};
use crate::resource::Resource;

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct Selector {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) annotation_selector: String,
    pub(crate) label_selector: String,
}

impl Selector {
    /// The identity that it names where none of its parts is a pattern.
    pub(crate) fn plain_id(&self) -> ResId {
        let gvk = Gvk {
            group: self.group.as_str().into(),
            version: self.version.as_str().into(),
            kind: self.kind.as_str().into(),
        };
        ResId { gvk, name: self.name.as_str().into(), namespace: self.namespace.as_str().into() }
    }
}

/// A selector made ready to match.
pub(crate) struct Matcher {
    group: Option<Regex>,
    version: Option<Regex>,
    kind: Option<Regex>,
    name: Option<Regex>,
    namespace: Option<Regex>,
    labels: Requirements,
    annotations: Requirements,
}

/// A whole-text pattern; an empty one matches everything and is `None`.
fn anchored(pattern: &str) -> Result<Option<Regex>> {
    if pattern.is_empty() {
        return Ok(None);
    }
    Regex::new(&format!("^(?:{pattern})$")).map(Some).map_err(|error| {
        Error::new(format!("selector pattern '{pattern}' is no regular expression: {error}"))
    })
}

fn matches(pattern: &Option<Regex>, text: &str) -> bool {
    pattern.as_ref().is_none_or(|pattern| pattern.is_match(text))
}

impl Matcher {
    pub(crate) fn new(selector: &Selector) -> Result<Matcher> {
        Ok(Matcher {
            group: anchored(&selector.group)?,
            version: anchored(&selector.version)?,
            kind: anchored(&selector.kind)?,
            name: anchored(&selector.name)?,
            namespace: anchored(&selector.namespace)?,
            labels: Requirements::parse(&selector.label_selector)?,
            annotations: Requirements::parse(&selector.annotation_selector)?,
        })
    }

    /// Whether the present kind fits, and the original or present name and namespace.
    pub(crate) fn matches(&self, resource: &Resource) -> bool {
        let gvk = resource.gvk();
        if !(matches(&self.kind, &gvk.kind)
            && matches(&self.group, &gvk.group)
            && matches(&self.version, &gvk.version))
        {
            return false;
        }
        let (current, original) = (resource.current_id(), resource.original_id());
        let namespace_fits = matches(&self.namespace, original.effective_namespace())
            || matches(&self.namespace, current.effective_namespace());
        namespace_fits
            && (matches(&self.name, &original.name) || matches(&self.name, &current.name))
            && self.selected_by_metadata(resource)
    }
}

impl Matcher {
    /// Whether any identity that the resource has or had fits.
    pub(crate) fn matches_any_id(&self, resource: &Resource) -> bool {
        let id_fits = resource.any_ids().any(|id| {
            matches(&self.kind, &id.gvk.kind)
                && matches(&self.group, &id.gvk.group)
                && matches(&self.version, &id.gvk.version)
                && matches(&self.name, &id.name)
                && (matches(&self.namespace, id.effective_namespace())
                    || matches(&self.namespace, &id.namespace))
        });
        id_fits && self.selected_by_metadata(resource)
    }

    fn selected_by_metadata(&self, resource: &Resource) -> bool {
        self.labels.matches(|key| resource.node.text_at(&["metadata", "labels", key]))
            && self.annotations.matches(|key| resource.node.text_at(&["metadata", "annotations", key]))
    }
}

/// A label selector: all its requirements hold.
#[derive(Debug, Default)]
struct Requirements(Vec<Requirement>);

#[derive(Debug)]
enum Requirement {
    Exists(String),
    Absent(String),
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
}

impl Requirements {
    fn parse(text: &str) -> Result<Requirements> {
        let mut requirements = Vec::new();
        for part in split_outside_parentheses(text) {
            let part = part.trim();
            if !part.is_empty() {
                let requirement = Requirement::parse(part).ok_or_else(|| {
                    Error::new(format!("unable to parse requirement '{part}' of selector '{text}'"))
                })?;
                requirements.push(requirement);
            }
        }
        Ok(Requirements(requirements))
    }

    fn matches<'a>(&self, value_of: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.0.iter().all(|requirement| match requirement {
            Requirement::Exists(key) => value_of(key).is_some(),
            Requirement::Absent(key) => value_of(key).is_none(),
            Requirement::In(key, values) => value_of(key).is_some_and(|own| values.iter().any(|v| v == own)),
            Requirement::NotIn(key, values) => {
                !value_of(key).is_some_and(|own| values.iter().any(|v| v == own))
            }
        })
    }
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0usize);
    for (index, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

impl Requirement {
    fn parse(text: &str) -> Option<Requirement> {
        if let Some(key) = text.strip_prefix('!') {
            return Some(Requirement::Absent(word(key)?));
        }
        if let Some((key, value)) = text.split_once("!=") {
            return Some(Requirement::NotIn(word(key)?, vec![value.trim().to_owned()]));
        }
        if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
            return Some(Requirement::In(word(key)?, vec![value.trim().to_owned()]));
        }
        let Some((head, values)) = text.split_once('(') else {
            return Some(Requirement::Exists(word(text)?));
        };
        let values =
            values.trim_end().strip_suffix(')')?.split(',').map(|value| value.trim().to_owned()).collect();
        let mut words = head.split_whitespace();
        let key = word(words.next()?)?;
        match (words.next()?, words.next()) {
            ("in", None) => Some(Requirement::In(key, values)),
            ("notin", None) => Some(Requirement::NotIn(key, values)),
            _ => None,
        }
    }
}

fn word(text: &str) -> Option<String> {
    let text = text.trim();
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    (!text.is_empty() && text.chars().all(fits)).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::Requirements;

    #[test]
    fn label_selectors() {
        let labels = |key: &str| match key {
            "app" => Some("web"),
            "tier" => Some("front"),
            _ => None,
        };
        for (selector, expected) in [
            ("app=web", true),
            ("app == web,tier!=back", true),
            ("app in (web, api),!gone", true),
            ("app notin (web)", false),
            ("gone", false),
            ("", true),
        ] {
            assert_eq!(Requirements::parse(selector).unwrap().matches(labels), expected, "{selector}");
        }
        assert!(Requirements::parse("a b").is_err());
    }
}
