//! Which objects a handler wants: by labels, annotations and fields.

use serde_json::Value;

use super::diff::{parse_path, resolve};

/// What the value of a label, annotation or field must be.
#[derive(Clone, Debug, PartialEq)]
pub enum Expect {
    Present,
    Absent,
    Is(Value),
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
}
