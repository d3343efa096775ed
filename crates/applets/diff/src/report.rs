//! What differs, object by object and field by field, for a person or as JSON.
//!
//! Invariant: nothing that a Secret holds is shown.

use std::fmt::Write as _;

use gantry_apimachinery::Value;
use gantry_apimachinery::difference::{Difference, differences, hidden, in_short, is_secret};
use serde_json::json;

use crate::objects::Objects;
use crate::pairing::pair;

const MOST_VALUE_CHARS: usize = 120;
/// Of a text in several lines, this many that differ are shown.
const MOST_LINES: usize = 40;

/// What differs between two sides.
#[derive(Debug, Default)]
pub struct Report {
    pub changes: Vec<ObjectChange>,
    /// Objects that are the same.
    pub same: usize,
}

#[derive(Debug)]
pub struct ObjectChange {
    pub object: Name,
    /// What the old side calls it, where that is something else.
    pub was: Option<Name>,
    pub change: Change,
    /// Where it is said: on the new side, or on the old one for what is removed.
    pub at: Option<String>,
    pub fields: Vec<FieldChange>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Added,
    Removed,
    Changed,
}

/// One field; values as JSON, with secrets masked already.
#[derive(Debug)]
pub struct FieldChange {
    pub path: String,
    pub old: Option<serde_json::Value>,
    pub new: Option<serde_json::Value>,
    /// The two values in a few characters.
    in_short: (String, String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    pub api_version: String,
    pub kind: String,
    pub namespace: String,
    pub name: String,
}

impl Name {
    fn of(object: &Value) -> Name {
        let text = |path: &[&str]| object.str_at(path).unwrap_or_default().to_owned();
        Name {
            api_version: text(&["apiVersion"]),
            kind: text(&["kind"]),
            namespace: text(&["metadata", "namespace"]),
            name: text(&["metadata", "name"]),
        }
    }

    fn to_json(&self) -> serde_json::Value {
        let namespace = (!self.namespace.is_empty()).then_some(&self.namespace);
        json!({ "apiVersion": self.api_version, "kind": self.kind, "namespace": namespace, "name": self.name })
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)?;
        if self.namespace.is_empty() { Ok(()) } else { write!(f, " in {}", self.namespace) }
    }
}

impl Report {
    /// Compares all objects of two sides.
    pub fn of(old: &Objects, new: &Objects) -> Report {
        let mut report = Report::default();
        for (before, after) in pair(&old.objects, &new.objects) {
            let before = before.and_then(|index| old.objects.get(index)).map(|object| &object.value);
            let after = after.and_then(|index| new.objects.get(index)).map(|object| &object.value);
            let at =
                after.map_or_else(|| before.and_then(|object| old.place(object)), |object| new.place(object));
            report.compare(before, after, at);
        }
        report
    }

    /// Adds what differs in one object, which is written at `at`.
    pub fn compare(&mut self, old: Option<&Value>, new: Option<&Value>, at: Option<String>) {
        let (change, object) = match (old, new) {
            (Some(old), Some(new)) if old == new => {
                self.same += 1;
                return;
            }
            (Some(_), Some(new)) => (Change::Changed, new),
            (None, Some(new)) => (Change::Added, new),
            (Some(old), None) => (Change::Removed, old),
            (None, None) => return,
        };
        let name = Name::of(object);
        let (mut was, mut fields) = (None, Vec::new());
        if let (Some(old), Some(new)) = (old, new) {
            let old_name = Name::of(old);
            was = Some(old_name).filter(|old| (&old.namespace, &old.name) != (&name.namespace, &name.name));
            for difference in differences(old, new) {
                fields.push(FieldChange::of(&name.kind, &difference));
            }
        }
        self.changes.push(ObjectChange { object: name, was, change, at, fields });
    }

    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    pub fn to_json(&self) -> String {
        let objects: Vec<serde_json::Value> = self.changes.iter().map(ObjectChange::to_json).collect();
        let report = json!({ "objects": objects, "unchanged": self.same });
        serde_json::to_string_pretty(&report).unwrap_or_default() + "\n"
    }

    /// Nothing where nothing differs.
    pub fn to_text(&self, colour: bool) -> String {
        if self.is_empty() {
            return String::new();
        }
        let paint = Paint { colour };
        let mut text = String::new();
        for change in &self.changes {
            change.write(&paint, &mut text);
        }
        let count = |wanted: Change| self.changes.iter().filter(|change| change.change == wanted).count();
        let _ = writeln!(
            text,
            "{} changed, {} added, {} removed, {} unchanged",
            count(Change::Changed),
            count(Change::Added),
            count(Change::Removed),
            self.same
        );
        text
    }
}

impl FieldChange {
    fn of(kind: &str, difference: &Difference<'_>) -> FieldChange {
        let secret = is_secret(kind, &difference.path);
        let json = |value: Option<&Value>| match value {
            Some(_) if secret => Some(hidden(value).into()),
            Some(value) => serde_json::to_value(value).ok(),
            None => None,
        };
        let short =
            |value: Option<&Value>| if secret { hidden(value) } else { in_short(value, MOST_VALUE_CHARS) };
        FieldChange {
            path: difference.path.to_string(),
            old: json(difference.old),
            new: json(difference.new),
            in_short: (short(difference.old), short(difference.new)),
        }
    }
}

impl ObjectChange {
    fn to_json(&self) -> serde_json::Value {
        let fields: Vec<serde_json::Value> = self
            .fields
            .iter()
            .map(|field| json!({ "path": field.path, "old": field.old, "new": field.new }))
            .collect();
        let change = match self.change {
            Change::Added => "added",
            Change::Removed => "removed",
            Change::Changed => "changed",
        };
        json!({
            "object": self.object.to_json(),
            "was": self.was.as_ref().map(Name::to_json),
            "change": change,
            "at": self.at,
            "fields": fields,
        })
    }

    fn write(&self, paint: &Paint, text: &mut String) {
        let word = match self.change {
            Change::Added => paint.come("added"),
            Change::Removed => paint.gone("removed"),
            Change::Changed => paint.bold("changed"),
        };
        let was = self.was.as_ref().map_or(String::new(), |was| format!(" (was {was})"));
        let _ = writeln!(text, "{word} {}{was}", paint.bold(&self.object.to_string()));
        for field in &self.fields {
            let lines = |value: &Option<serde_json::Value>| match value {
                Some(serde_json::Value::String(value)) => Some(value.clone()),
                _ => None,
            };
            match (lines(&field.old), lines(&field.new)) {
                (Some(old), Some(new)) if old.trim_end().contains('\n') || new.trim_end().contains('\n') => {
                    let _ = writeln!(text, "  {}:", field.path);
                    write_lines(&old, &new, paint, text);
                }
                _ => {
                    let (old, new) = &field.in_short;
                    let _ = writeln!(text, "  {}: {} → {}", field.path, paint.gone(old), paint.come(new));
                }
            }
        }
    }
}

/// The lines between those that both texts begin and end with.
fn write_lines(old: &str, new: &str, paint: &Paint, text: &mut String) {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let head = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let tail = old[head..].iter().rev().zip(new[head..].iter().rev()).take_while(|(a, b)| a == b).count();
    let (gone, come) = (&old[head..old.len() - tail], &new[head..new.len() - tail]);
    let mut left = MOST_LINES;
    for (lines, sign) in [(gone, '-'), (come, '+')] {
        for line in lines.iter().take(left) {
            let line = format!("{sign} {line}");
            let _ = writeln!(text, "    {}", if sign == '-' { paint.gone(&line) } else { paint.come(&line) });
        }
        if lines.len() > left {
            let _ = writeln!(text, "    {sign} … {} more lines", lines.len() - left);
        }
        left = left.saturating_sub(lines.len()).max(MOST_LINES / 2);
    }
    if gone.is_empty() && come.is_empty() {
        let _ = writeln!(text, "    only the line break at the end differs");
    }
}

struct Paint {
    colour: bool,
}

impl Paint {
    fn gone(&self, text: &str) -> String {
        self.with("31", text)
    }

    fn come(&self, text: &str) -> String {
        self.with("32", text)
    }

    fn bold(&self, text: &str) -> String {
        self.with("1", text)
    }

    fn with(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(old: &str, new: &str) -> Report {
        let (old, new): (Value, Value) =
            (serde_json::from_str(old).unwrap(), serde_json::from_str(new).unwrap());
        let mut report = Report::default();
        report.compare(Some(&old), Some(&new), None);
        report
    }

    #[test]
    fn texts_in_lines_differ_by_line() {
        let config = |data: &str| {
            format!(
                r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"a"}},"data":{{"f":"{data}"}}}}"#
            )
        };
        let text = report(&config(r"a\nb\nc\n"), &config(r"a\nx\ny\nc\n")).to_text(false);
        assert_eq!(
            text,
            "changed ConfigMap/a\n  data.f:\n    - b\n    + x\n    + y\n1 changed, 0 added, 0 removed, 0 unchanged\n"
        );
        let text = report(&config(r"a\nb\n"), &config(r"a\nb")).to_text(false);
        assert!(text.contains("only the line break"), "{text}");
    }

    #[test]
    fn colours_are_only_for_terminals() {
        let one = r#"{"kind":"A","metadata":{"name":"a"},"x":1}"#;
        let two = r#"{"kind":"A","metadata":{"name":"a"},"x":2}"#;
        assert!(report(one, two).to_text(true).contains("\x1b[31m1\x1b[0m → \x1b[32m2\x1b[0m"));
        assert!(!report(one, two).to_text(false).contains('\x1b'));
        assert_eq!(report(one, one).to_text(true), "");
    }

    #[test]
    fn secrets_are_masked_in_every_form() {
        let secret = |word: &str| {
            format!(
                r#"{{"apiVersion":"v1","kind":"Secret","metadata":{{"name":"a"}},"stringData":{{"f":"{word}\n{word}"}},"type":"{word}"}}"#
            )
        };
        let report = report(&secret("hunter2"), &secret("hunter3"));
        let json = report.to_json();
        assert_eq!(json.matches("hunter").count(), 2, "only the type is told: {json}");
        assert_eq!(report.to_text(false).lines().nth(1), Some("  stringData.f: (…) → (…)"));
    }
}
