//! Where two objects differ, field by field, and how a changed value is shown to a person.
//!
//! Invariant: nothing that a Secret holds is shown. Elements of lists pair by their keys where they have some, so that one
//! more element in front changes nothing else.

use std::collections::{HashMap, HashSet};

use crate::field_path::{FieldPath, Step, identity_of, key_values};
use crate::value::{Kind, Map, Value};

/// One field that is not the same on both sides; `None` where it is not there.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference<'v> {
    pub path: FieldPath,
    pub old: Option<&'v Value>,
    pub new: Option<&'v Value>,
}

/// Every field that differs, in the order of the new object, with those that are gone after their neighbours.
pub fn differences<'v>(old: &'v Value, new: &'v Value) -> Vec<Difference<'v>> {
    let mut walk = Walk { path: FieldPath::default(), found: Vec::new() };
    walk.compare(Some(old), Some(new));
    walk.found
}

/// Whether a field of an object of this kind holds, or may hold, a secret. Annotations may hold the whole object, as it was
/// applied last.
pub fn is_secret(kind: &str, path: &FieldPath) -> bool {
    const SHOWN: &[&[&str]] = &[
        &["apiVersion"],
        &["kind"],
        &["type"],
        &["immutable"],
        &["metadata", "name"],
        &["metadata", "namespace"],
    ];
    let labels = ["metadata", "labels"];
    let shown = SHOWN.iter().any(|names| path.steps().len() == names.len() && path.starts_with(names))
        || path.starts_with(&labels);
    kind == "Secret" && !shown
}

/// A value in at most so many characters, on one line; `–` for none.
pub fn in_short(value: Option<&Value>, most_chars: usize) -> String {
    let Some(value) = value else { return "–".to_owned() };
    let text = match value.as_str() {
        Some(text) => text.to_owned(),
        None => serde_json::to_string(value).unwrap_or_default(),
    };
    let mut short: String = text.chars().take(most_chars).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short.replace('\n', "⏎")
}

/// What is shown instead of a secret; `–` for none.
pub fn hidden(value: Option<&Value>) -> String {
    if value.is_some() { "(…)".to_owned() } else { "–".to_owned() }
}

impl Difference<'_> {
    /// `path: old → new`, in an object of this kind.
    pub fn in_words(&self, kind: &str, most_chars: usize) -> String {
        let (old, new) = if is_secret(kind, &self.path) {
            (hidden(self.old), hidden(self.new))
        } else {
            (in_short(self.old, most_chars), in_short(self.new, most_chars))
        };
        format!("{}: {old} → {new}", self.path)
    }
}

struct Walk<'v> {
    path: FieldPath,
    found: Vec<Difference<'v>>,
}

impl<'v> Walk<'v> {
    fn compare(&mut self, old: Option<&'v Value>, new: Option<&'v Value>) {
        if old == new {
            return;
        }
        let before = self.found.len();
        match (old.map(|value| &value.kind), new.map(|value| &value.kind)) {
            (Some(Kind::Object(old)), Some(Kind::Object(new))) => self.objects(old, new),
            (Some(Kind::Array(old)), Some(Kind::Array(new))) => self.lists(old, new),
            _ => {}
        }
        // Of another kind, of lists whose elements do not pair, or only in another order.
        if self.found.len() == before {
            self.found.push(Difference { path: self.path.clone(), old, new });
        }
    }

    fn at(&mut self, step: Step, old: Option<&'v Value>, new: Option<&'v Value>) {
        self.path.push(step);
        self.compare(old, new);
        self.path.pop();
    }

    fn objects(&mut self, old: &'v Map, new: &'v Map) {
        let gone = old.keys().filter(|key| !new.contains_key(key));
        for key in new.keys().chain(gone) {
            self.at(Step::Field(key.clone()), old.get(key), new.get(key));
        }
    }

    fn lists(&mut self, old: &'v [Value], new: &'v [Value]) {
        if let Some(keys) = identity_of(&[old, new]) {
            let index = |items: &'v [Value]| -> Vec<_> {
                items.iter().filter_map(|item| Some((key_values(item, keys)?, item))).collect()
            };
            let (olds, news) = (index(old), index(new));
            let before: HashMap<_, &'v Value> = olds.iter().map(|(key, item)| (key, *item)).collect();
            let kept: HashSet<_> = news.iter().map(|(key, _)| key).collect();
            for (key, item) in &news {
                self.at(Step::Item(key.clone()), before.get(key).copied(), Some(item));
            }
            for (key, item) in olds.iter().filter(|(key, _)| !kept.contains(key)) {
                self.at(Step::Item(key.clone()), Some(item), None);
            }
        } else if old.len() == new.len() {
            for (index, (old, new)) in old.iter().zip(new).enumerate() {
                self.at(Step::Index(index), Some(old), Some(new));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    fn told(kind: &str, old: &str, new: &str) -> Vec<String> {
        let (old, new) = (json(old), json(new));
        differences(&old, &new).iter().map(|difference| difference.in_words(kind, 40)).collect()
    }

    #[test]
    fn differing_fields_are_told_by_path() {
        let old = r#"{"spec":{"replicas":1,"c":[{"image":"a:1"}],"gone":true}}"#;
        let new = r#"{"spec":{"replicas":2,"c":[{"image":"a:2"}],"new":"x"}}"#;
        assert_eq!(
            told("Deployment", old, new),
            ["spec.replicas: 1 → 2", "spec.c[0].image: a:1 → a:2", "spec.new: – → x", "spec.gone: true → –"]
        );
    }

    #[test]
    fn elements_with_names_pair_by_them() {
        let old = r#"{"env":[{"name":"A","value":"1"},{"name":"B","value":"2"}]}"#;
        let new = r#"{"env":[{"name":"C","value":"3"},{"name":"B","value":"4"},{"name":"A","value":"1"}]}"#;
        assert_eq!(
            told("Pod", old, new),
            [r#"env[name=C]: – → {"name":"C","value":"3"}"#, "env[name=B].value: 2 → 4"]
        );
        let turned = r#"{"env":[{"name":"B","value":"2"},{"name":"A","value":"1"}]}"#;
        assert_eq!(told("Pod", old, turned).len(), 1, "another order is one difference");
        assert_eq!(told("Pod", old, r#"{"env":[]}"#).len(), 2);
    }

    #[test]
    fn lists_of_values_differ_as_a_whole_unless_they_are_as_long() {
        assert_eq!(told("Pod", r#"{"args":["a","b"]}"#, r#"{"args":["a","c"]}"#), ["args[1]: b → c"]);
        assert_eq!(told("Pod", r#"{"args":["a"]}"#, r#"{"args":["a","c"]}"#), [r#"args: ["a"] → ["a","c"]"#]);
        assert_eq!(told("Pod", "{}", r#"{"a":null}"#), ["a: – → null"]);
        assert_eq!(told("Pod", r#"{"a":1.0}"#, r#"{"a":1}"#), Vec::<String>::new());
    }

    #[test]
    fn what_a_secret_holds_is_not_told() {
        let old = r#"{"kind":"Secret","data":{"key":"aHVudGVyMg=="}}"#;
        let new = r#"{"kind":"Secret","data":{"key":"b3RoZXI="},"stringData":{"key":"hunter2"}}"#;
        assert_eq!(told("Secret", old, new), ["data.key: (…) → (…)", "stringData: – → (…)"]);
        let old = r#"{"metadata":{"name":"a","labels":{"a":"1"},"annotations":{"last":"hunter2"}}}"#;
        let new = r#"{"metadata":{"name":"b","labels":{"a":"2"},"annotations":{"last":"hunter3"}}}"#;
        assert_eq!(
            told("Secret", old, new),
            ["metadata.name: a → b", "metadata.labels.a: 1 → 2", "metadata.annotations.last: (…) → (…)"]
        );
        // A part that holds more than what may be shown is not shown either.
        assert_eq!(told("Secret", "{}", new), ["metadata: – → (…)"]);
    }
}
