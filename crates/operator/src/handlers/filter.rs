//! Which objects a handler wants: by labels, annotations and fields.

use serde_json::Value;

use super::diff::{parse_path, resolve};

/// What the value of a label, annotation or field must be.
#[derive(Clone, Debug, PartialEq)]
pub enum Expect {
    Present,
    Absent,
    Is(Value),
    /// Anything: whoever asks decides otherwise.
    Any,
}

impl From<&str> for Expect {
    fn from(value: &str) -> Expect {
        Expect::Is(Value::from(value))
    }
}

impl From<Value> for Expect {
    fn from(value: Value) -> Expect {
        Expect::Is(value)
    }
}

impl Expect {
    fn accepts(&self, found: Option<&Value>) -> bool {
        match self {
            Expect::Present => found.is_some(),
            Expect::Absent => found.is_none(),
            Expect::Is(wanted) => found == Some(wanted),
            Expect::Any => true,
        }
    }
}

/// All that an object must fulfil.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    requirements: Vec<(Vec<String>, Expect)>,
}

impl Filter {
    pub(crate) fn label(&mut self, name: &str, expect: Expect) {
        self.requirements.push((vec!["metadata".into(), "labels".into(), name.into()], expect));
    }

    pub(crate) fn annotation(&mut self, name: &str, expect: Expect) {
        self.requirements.push((vec!["metadata".into(), "annotations".into(), name.into()], expect));
    }

    pub(crate) fn field(&mut self, path: &str, expect: Expect) {
        self.requirements.push((parse_path(path), expect));
    }

    pub(crate) fn accepts(&self, body: &Value) -> bool {
        self.requirements.iter().all(|(path, expect)| expect.accepts(resolve(body, path)))
    }
}

/// The field that a handler is about, and what it must be.
#[derive(Clone, Debug, Default)]
pub(crate) struct FieldFilter {
    pub(crate) path: Vec<String>,
    /// Of the field now, or before the change; it must be there when nothing is said.
    pub(crate) value: Option<Expect>,
    pub(crate) old: Option<Expect>,
    pub(crate) new: Option<Expect>,
    /// Only when the field has changed.
    pub(crate) needs_change: bool,
}

impl FieldFilter {
    /// Whether the field's value is as wanted on one of `sides`, which are whole objects or essences.
    pub(crate) fn accepts_value(&self, sides: &[&Value]) -> bool {
        let expect = self.value.as_ref().unwrap_or(&Expect::Present);
        sides.iter().any(|side| expect.accepts(resolve(side, &self.path)))
    }

    /// Whether the field went from what is wanted to what is wanted.
    pub(crate) fn accepts_change(&self, old: &Value, new: &Value) -> bool {
        let (old, new) = (resolve(old, &self.path), resolve(new, &self.path));
        (!self.needs_change || old != new)
            && self.old.as_ref().is_none_or(|expect| expect.accepts(old))
            && self.new.as_ref().is_none_or(|expect| expect.accepts(new))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn all_requirements_must_hold() {
        let body = json!({ "metadata": { "labels": { "app": "web" } }, "spec": { "size": 3 } });
        for (expect, accepted) in
            [(Expect::Present, true), (Expect::Absent, false), ("web".into(), true), ("db".into(), false)]
        {
            let mut filter = Filter::default();
            filter.label("app", expect);
            filter.field("spec.size", json!(3).into());
            filter.annotation("x", Expect::Absent);
            assert_eq!(filter.accepts(&body), accepted);
        }
    }

    #[test]
    fn a_field_is_asked_for_its_value_and_its_change() {
        let filter = |value: Option<Expect>, old: Option<Expect>, new: Option<Expect>, needs_change| {
            FieldFilter { path: parse_path("spec.mode"), value, old, new, needs_change }
        };
        let (on, off, none) =
            (json!({ "spec": { "mode": "on" } }), json!({ "spec": { "mode": "off" } }), json!({}));
        let present = filter(None, None, None, false);
        assert!(present.accepts_value(&[&none, &on]) && !present.accepts_value(&[&none]));
        assert!(filter(Some(Expect::Absent), None, None, false).accepts_value(&[&on, &none]));
        assert!(!filter(Some("on".into()), None, None, false).accepts_value(&[&off]));
        assert!(filter(None, None, None, true).accepts_change(&none, &on));
        assert!(!filter(None, None, None, true).accepts_change(&on, &on));
        assert!(filter(None, Some("off".into()), Some("on".into()), true).accepts_change(&off, &on));
        assert!(!filter(None, Some(Expect::Absent), None, true).accepts_change(&off, &on));
    }
}
