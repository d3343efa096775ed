//! Differences between two states of an object: what was added, changed and removed, and where.
//!
//! Objects are compared field by field; lists and scalars are compared whole.

use serde_json::{Map, Value};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Add,
    Change,
    Remove,
}

impl Operation {
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Add => "add",
            Operation::Change => "change",
            Operation::Remove => "remove",
        }
    }
}

/// One difference. `old` is null for an addition, `new` for a removal.
#[derive(Clone, Debug, PartialEq)]
pub struct DiffItem {
    pub operation: Operation,
    /// The fields that lead to it, from the root.
    pub path: Vec<String>,
    pub old: Value,
    pub new: Value,
}

/// All differences, in the order in which Kopf lists them: additions and removals by field, deeper ones inside.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Diff {
    pub items: Vec<DiffItem>,
}

impl Diff {
    /// Compares two states; null stands for an absent one.
    pub fn between(old: &Value, new: &Value) -> Diff {
        let mut items = Vec::new();
        compare(old, new, &mut Vec::new(), &mut items);
        Diff { items }
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The differences at and below `path`, told relative to it.
    ///
    /// A difference above it (the whole `spec` was added, say) is split so that only the part below counts.
    pub fn reduce(&self, path: &[String]) -> Diff {
        let mut items = Vec::new();
        for item in &self.items {
            if let Some(rest) = item.path.strip_prefix(path) {
                items.push(DiffItem { path: rest.to_vec(), ..item.clone() });
            } else if let Some(below) = path.strip_prefix(item.path.as_slice()) {
                let at = |value: &Value| resolve(value, below).cloned().unwrap_or(Value::Null);
                compare(&at(&item.old), &at(&item.new), &mut Vec::new(), &mut items);
            }
        }
        Diff { items }
    }
}

/// The value at `path`; null counts as absent.
pub(crate) fn resolve<'a>(value: &'a Value, path: &[String]) -> Option<&'a Value> {
    let found = path.iter().try_fold(value, |value, field| value.get(field))?;
    Some(found).filter(|found| !found.is_null())
}

/// Splits a dotted path such as `spec.size`.
pub(crate) fn parse_path(path: &str) -> Vec<String> {
    path.split('.').filter(|field| !field.is_empty()).map(str::to_owned).collect()
}

fn compare(old: &Value, new: &Value, path: &mut Vec<String>, items: &mut Vec<DiffItem>) {
    let item = |operation| DiffItem { operation, path: path.clone(), old: old.clone(), new: new.clone() };
    match (old, new) {
        _ if old == new => {}
        // The same number written differently is the same number.
        (Value::Number(one), Value::Number(other)) if one.as_f64() == other.as_f64() => {}
        (Value::Null, _) => items.push(item(Operation::Add)),
        (_, Value::Null) => items.push(item(Operation::Remove)),
        (Value::Object(before), Value::Object(after)) => compare_fields(before, after, path, items),
        _ => items.push(item(Operation::Change)),
    }
}

fn compare_fields(
    before: &Map<String, Value>,
    after: &Map<String, Value>,
    path: &mut Vec<String>,
    items: &mut Vec<DiffItem>,
) {
    let mut visit = |field: &String, old: &Value, new: &Value| {
        path.push(field.clone());
        compare(old, new, path, items);
        path.pop();
    };
    for (field, new) in after.iter().filter(|(field, _)| !before.contains_key(*field)) {
        visit(field, &Value::Null, new);
    }
    for (field, old) in before.iter().filter(|(field, _)| !after.contains_key(*field)) {
        visit(field, old, &Value::Null);
    }
    for (field, old) in before {
        if let Some(new) = after.get(field) {
            visit(field, old, new);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(diff: &Diff) -> Vec<String> {
        let tell = |item: &DiffItem| {
            format!("{} {} {} {}", item.operation.as_str(), item.path.join("."), item.old, item.new)
        };
        diff.items.iter().map(tell).collect()
    }

    #[test]
    fn fields_are_compared_one_by_one_and_lists_whole() {
        let old = json!({ "kept": 1, "gone": 2, "deep": { "a": [1], "b": "x" } });
        let new = json!({ "kept": 1, "deep": { "a": [1, 2], "b": "x", "c": null }, "born": 3 });
        assert_eq!(
            told(&Diff::between(&old, &new)),
            ["add born null 3", "remove gone 2 null", "change deep.a [1] [1,2]"]
        );
        assert!(Diff::between(&old, &old).is_empty());
    }

    #[test]
    fn null_is_absence() {
        assert_eq!(told(&Diff::between(&Value::Null, &json!({ "a": 1 }))), [r#"add  null {"a":1}"#]);
        assert!(Diff::between(&json!({ "a": null }), &json!({})).is_empty());
    }

    #[test]
    fn reduced_to_a_field_from_above_and_below() {
        let path = parse_path("spec.size");
        let created = Diff::between(&Value::Null, &json!({ "spec": { "size": 3 } }));
        assert_eq!(told(&created.reduce(&path)), ["add  null 3"]);
        let changed = Diff::between(
            &json!({ "spec": { "size": 3, "x": 1 } }),
            &json!({ "spec": { "size": 4, "x": 2 } }),
        );
        assert_eq!(told(&changed.reduce(&path)), ["change  3 4"]);
        let deeper = Diff::between(
            &json!({ "spec": { "size": { "a": 1 } } }),
            &json!({ "spec": { "size": { "a": 2 } } }),
        );
        assert_eq!(told(&deeper.reduce(&path)), ["change a 1 2"]);
        assert!(changed.reduce(&parse_path("spec.other")).is_empty());
    }
}
