//! Relabelling: the eleven actions, as Prometheus defines them.

use std::fmt;
use std::sync::Arc;

use gantry_prom_model::{LabelsBuilder, compile_go_regex};
use regex::Regex;
use serde::{Deserialize, Deserializer};

use crate::md5::md5;

/// A regular expression that has to match the whole text.
#[derive(Clone)]
pub struct Anchored {
    /// As it was written.
    pub pattern: Arc<str>,
    regex: Arc<Regex>,
}

impl Anchored {
    /// # Errors
    /// What is wrong with the pattern.
    pub fn new(pattern: &str) -> Result<Anchored, String> {
        let regex = compile_go_regex(&format!("^(?s:{pattern})$"))?;
        Ok(Anchored { pattern: Arc::from(pattern), regex: Arc::new(regex) })
    }

    /// Whether the whole text matches.
    pub fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }
}

impl fmt::Debug for Anchored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.pattern, f)
    }
}

impl PartialEq for Anchored {
    fn eq(&self, other: &Anchored) -> bool {
        self.pattern == other.pattern
    }
}

impl<'de> Deserialize<'de> for Anchored {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Anchored, D::Error> {
        let pattern = String::deserialize(deserializer)?;
        Anchored::new(&pattern).map_err(|reason| {
            serde::de::Error::custom(format!("invalid regular expression {pattern:?}: {reason}"))
        })
    }
}

/// What a relabelling step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Action {
    /// Sets the target label to the replacement, if the expression matches.
    #[default]
    Replace,
    /// Drops the target or sample if the expression does not match.
    Keep,
    /// Drops it if the expression matches.
    Drop,
    /// Drops it if the sources do not equal the target label.
    KeepEqual,
    /// Drops it if they do.
    DropEqual,
    /// Sets the target label to a hash of the sources modulo a number.
    HashMod,
    /// Copies the labels whose names match to the names that the replacement gives.
    LabelMap,
    /// Removes the labels whose names match.
    LabelDrop,
    /// Removes those whose names do not match.
    LabelKeep,
    /// Sets the target label to the sources in lower case.
    Lowercase,
    /// Sets it to the sources in upper case.
    Uppercase,
}

const ACTIONS: [(&str, Action); 11] = [
    ("replace", Action::Replace),
    ("keep", Action::Keep),
    ("drop", Action::Drop),
    ("keepequal", Action::KeepEqual),
    ("dropequal", Action::DropEqual),
    ("hashmod", Action::HashMod),
    ("labelmap", Action::LabelMap),
    ("labeldrop", Action::LabelDrop),
    ("labelkeep", Action::LabelKeep),
    ("lowercase", Action::Lowercase),
    ("uppercase", Action::Uppercase),
];

impl Action {
    /// The word in a configuration.
    pub fn as_str(self) -> &'static str {
        ACTIONS.iter().find(|(_, action)| *action == self).map_or("replace", |(word, _)| word)
    }
}

impl<'de> Deserialize<'de> for Action {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Action, D::Error> {
        let word = String::deserialize(deserializer)?.to_lowercase();
        let found = ACTIONS.iter().find(|(known, _)| *known == word);
        found.map(|(_, action)| *action).ok_or_else(|| {
            let known: Vec<_> = ACTIONS.iter().map(|(known, _)| *known).collect();
            serde::de::Error::custom(format!(
                "unknown relabel action {word:?}, known are {}",
                known.join(", ")
            ))
        })
    }
}

/// One relabelling step.
#[derive(Debug, Clone, PartialEq)]
pub struct RelabelConfig {
    /// Labels whose values are joined.
    pub source_labels: Vec<String>,
    /// Between the joined values.
    pub separator: String,
    /// What the joined value (or a label name) has to match.
    pub regex: Anchored,
    /// For `hashmod`.
    pub modulus: u64,
    /// The label that is set; may refer to groups of the expression.
    pub target_label: String,
    /// What it is set to; may refer to groups of the expression.
    pub replacement: String,
    /// What is done.
    pub action: Action,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(default)]
    source_labels: Option<Vec<String>>,
    #[serde(default)]
    separator: Option<String>,
    #[serde(default)]
    regex: Option<Anchored>,
    #[serde(default)]
    modulus: Option<u64>,
    #[serde(default)]
    target_label: Option<String>,
    #[serde(default)]
    replacement: Option<String>,
    #[serde(default)]
    action: Option<Action>,
}

impl<'de> Deserialize<'de> for RelabelConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RelabelConfig, D::Error> {
        RelabelConfig::from_raw(Raw::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

fn refers_to_groups(template: &str) -> bool {
    template.contains('$')
}

fn is_label_name(text: &str) -> bool {
    !text.is_empty()
}

impl RelabelConfig {
    fn from_raw(raw: Raw) -> Result<RelabelConfig, String> {
        let action = raw.action.unwrap_or_default();
        let word = action.as_str();
        let has = |set: bool, field: &str| if set { Some(field.to_owned()) } else { None };
        let target = raw.target_label.clone().unwrap_or_default();
        match action {
            Action::HashMod if raw.modulus.unwrap_or(0) == 0 => {
                return Err("relabel configuration for hashmod requires non-zero modulus".into());
            }
            Action::Replace
            | Action::HashMod
            | Action::Lowercase
            | Action::Uppercase
            | Action::KeepEqual
            | Action::DropEqual
                if target.is_empty() =>
            {
                return Err(format!("relabel configuration for {word} action requires 'target_label' value"));
            }
            Action::Lowercase | Action::Uppercase | Action::KeepEqual | Action::DropEqual
                if refers_to_groups(&target) =>
            {
                return Err(format!("{target:?} is invalid 'target_label' for {word} action"));
            }
            Action::Lowercase | Action::Uppercase if raw.replacement.is_some() => {
                return Err(format!("'replacement' can not be set for {word} action"));
            }
            Action::LabelDrop | Action::LabelKeep => {
                let set = [
                    has(raw.source_labels.is_some(), "source_labels"),
                    has(raw.target_label.is_some(), "target_label"),
                    has(raw.modulus.is_some_and(|modulus| modulus != 0), "modulus"),
                    has(raw.separator.is_some(), "separator"),
                    has(raw.replacement.is_some(), "replacement"),
                ];
                if let Some(field) = set.into_iter().flatten().next() {
                    return Err(format!(
                        "{word} action requires only 'regex', and no other fields: {field} is set"
                    ));
                }
            }
            Action::KeepEqual | Action::DropEqual => {
                let set = [
                    has(raw.regex.is_some(), "regex"),
                    has(raw.modulus.is_some_and(|modulus| modulus != 0), "modulus"),
                    has(raw.separator.is_some(), "separator"),
                    has(raw.replacement.is_some(), "replacement"),
                ];
                if let Some(field) = set.into_iter().flatten().next() {
                    return Err(format!(
                        "{word} action requires only 'source_labels' and 'target_label', and no other fields: {field} is set"
                    ));
                }
            }
            _ => {}
        }
        let regex = match raw.regex {
            Some(regex) => regex,
            None => Anchored::new(DEFAULT_REGEX)?,
        };
        Ok(RelabelConfig {
            source_labels: raw.source_labels.unwrap_or_default(),
            separator: raw.separator.unwrap_or_else(|| ";".into()),
            regex,
            modulus: raw.modulus.unwrap_or(0),
            target_label: target,
            replacement: raw.replacement.unwrap_or_else(|| "$1".into()),
            action,
        })
    }

    /// A step in code: `action` over the joined `sources`.
    ///
    /// # Errors
    /// When the expression is invalid or the fields do not go with the action.
    pub fn new(action: Action, sources: &[&str], regex: &str) -> Result<RelabelConfig, String> {
        Ok(RelabelConfig {
            source_labels: sources.iter().map(|name| (*name).to_owned()).collect(),
            separator: ";".into(),
            regex: Anchored::new(regex)?,
            modulus: 0,
            target_label: String::new(),
            replacement: "$1".into(),
            action,
        })
    }

    /// The same step with a target label and what it is set to.
    pub fn target(mut self, label: &str, replacement: &str) -> RelabelConfig {
        label.clone_into(&mut self.target_label);
        replacement.clone_into(&mut self.replacement);
        self
    }

    fn joined(&self, labels: &LabelsBuilder) -> String {
        let mut joined = String::new();
        for (index, name) in self.source_labels.iter().enumerate() {
            if index > 0 {
                joined.push_str(&self.separator);
            }
            joined.push_str(labels.get(name).unwrap_or(""));
        }
        joined
    }

    /// Does the step. `false`: the target or sample is dropped.
    pub fn apply(&self, labels: &mut LabelsBuilder) -> bool {
        match self.action {
            Action::Keep => return self.regex.is_match(&self.joined(labels)),
            Action::Drop => return !self.regex.is_match(&self.joined(labels)),
            Action::KeepEqual => return labels.get(&self.target_label).unwrap_or("") == self.joined(labels),
            Action::DropEqual => return labels.get(&self.target_label).unwrap_or("") != self.joined(labels),
            Action::Replace => self.replace(labels),
            Action::Lowercase => {
                let value = self.joined(labels).to_lowercase();
                labels.set(&self.target_label, &value);
            }
            Action::Uppercase => {
                let value = self.joined(labels).to_uppercase();
                labels.set(&self.target_label, &value);
            }
            Action::HashMod => {
                let [.., a, b, c, d, e, f, g, h] = md5(self.joined(labels).as_bytes());
                let hash = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
                labels.set(&self.target_label, &(hash % self.modulus.max(1)).to_string());
            }
            Action::LabelMap => {
                let mapped: Vec<(String, String)> = labels
                    .iter()
                    .filter(|(name, _)| self.regex.is_match(name))
                    .map(|(name, value)| {
                        let renamed = self.regex.regex.replace_all(name, self.replacement.as_str());
                        (renamed.into_owned(), value.to_owned())
                    })
                    .collect();
                for (name, value) in mapped {
                    labels.set(&name, &value);
                }
            }
            Action::LabelDrop => labels.retain(|name, _| !self.regex.is_match(name)),
            Action::LabelKeep => labels.retain(|name, _| self.regex.is_match(name)),
        }
        true
    }

    fn replace(&self, labels: &mut LabelsBuilder) {
        let value = self.joined(labels);
        let Some(groups) = self.regex.regex.captures(&value) else { return };
        let mut target = String::new();
        groups.expand(&self.target_label, &mut target);
        if !is_label_name(&target) {
            return;
        }
        let mut replacement = String::new();
        groups.expand(&self.replacement, &mut replacement);
        labels.set(&target, &replacement);
    }
}

const DEFAULT_REGEX: &str = "(.*)";

/// Does all steps. `false`: dropped, the labels are then as the dropping step found them.
pub fn relabel(steps: &[RelabelConfig], labels: &mut LabelsBuilder) -> bool {
    steps.iter().all(|step| step.apply(labels))
}

#[cfg(test)]
mod tests {
    use super::*;
    use gantry_prom_model::Labels;

    fn run(yaml: &str, labels: &[(&str, &str)]) -> Option<Vec<(String, String)>> {
        let steps: Vec<RelabelConfig> = gantry_yaml::from_str("relabel.yml", yaml).unwrap();
        let mut builder = Labels::from_pairs(labels.iter().copied()).to_builder();
        relabel(&steps, &mut builder)
            .then(|| builder.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect())
    }

    fn pairs(labels: &[(&str, &str)]) -> Option<Vec<(String, String)>> {
        Some(labels.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect())
    }

    const ABC: [(&str, &str); 3] = [("a", "foo"), ("b", "bar"), ("c", "baz")];

    #[test]
    fn replace_joins_matches_and_expands() {
        let step = "- {source_labels: [a, b], regex: '(f).*;(.*)r', target_label: 'd_${1}', separator: ';', replacement: '$2-${1}x$$'}";
        assert_eq!(run(step, &ABC), pairs(&[("a", "foo"), ("b", "bar"), ("c", "baz"), ("d_f", "ba-fx$")]));
        let no_match = "- {source_labels: [a], regex: 'fo', target_label: d}";
        assert_eq!(run(no_match, &ABC), pairs(&ABC));
        let removes = "- {source_labels: [absent], target_label: b}";
        assert_eq!(run(removes, &ABC), pairs(&[("a", "foo"), ("c", "baz")]));
        let constant = "- {target_label: d, replacement: x}";
        assert_eq!(run(constant, &[("a", "1")]), pairs(&[("a", "1"), ("d", "x")]));
    }

    #[test]
    fn actions_that_drop() {
        assert_eq!(run("- {source_labels: [a], regex: 'f|foo', action: drop}", &ABC), None);
        assert_eq!(run("- {source_labels: [a], regex: 'f|fo', action: drop}", &ABC), pairs(&ABC));
        assert_eq!(run("- {source_labels: [a], regex: 'no', action: keep}", &ABC), None);
        let same = [("__port", "80"), ("want", "80")];
        assert_eq!(
            run("- {source_labels: [__port], target_label: want, action: keepequal}", &same),
            pairs(&same)
        );
        assert_eq!(run("- {source_labels: [__port], target_label: want, action: dropequal}", &same), None);
    }

    #[test]
    fn actions_on_names() {
        let meta = [("__meta_pod_label_app", "web"), ("x", "1"), ("y", "2")];
        assert_eq!(
            run(
                "- {regex: '__meta_pod_label_(.+)', action: labelmap}\n- {regex: '__.*|x', action: labeldrop}",
                &meta
            ),
            pairs(&[("app", "web"), ("y", "2")])
        );
        assert_eq!(run("- {regex: 'x|y', action: labelkeep}", &meta), pairs(&[("x", "1"), ("y", "2")]));
    }

    #[test]
    fn actions_on_values() {
        assert_eq!(
            run("- {source_labels: [c], target_label: d, action: hashmod, modulus: 1000}", &ABC),
            pairs(&[("a", "foo"), ("b", "bar"), ("c", "baz"), ("d", "976")])
        );
        assert_eq!(
            run(
                "- {source_labels: [n], target_label: n, action: Uppercase}\n- {source_labels: [n], target_label: m, action: lowercase}",
                &[("n", "Ab")]
            ),
            pairs(&[("m", "ab"), ("n", "AB")])
        );
    }

    #[test]
    fn steps_that_make_no_sense_are_refused() {
        for (yaml, expected) in [
            ("- {source_labels: [a]}", "requires 'target_label'"),
            ("- {source_labels: [a], target_label: b, action: hashmod}", "non-zero modulus"),
            ("- {regex: a, action: labeldrop, source_labels: [b]}", "requires only 'regex'"),
            ("- {action: dance}", "unknown relabel action"),
            ("- {regex: '(', target_label: b}", "invalid regular expression"),
            (
                "- {source_labels: [a], target_label: b, replacement: c, action: uppercase}",
                "'replacement' can not be set",
            ),
        ] {
            let error = gantry_yaml::from_str::<Vec<RelabelConfig>>("r.yml", yaml).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
