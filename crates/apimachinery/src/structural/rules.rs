//! The rules of `x-kubernetes-validations`, evaluated on an object and, where they ask for it, on what it was.

use super::{ListType, Problem, Rule, Structural, Trouble};
use crate::cel;
use crate::value::{Kind, Value};

/// Rules that the object breaks. Rules that this server cannot evaluate are passed over: see [`unsupported`].
pub fn broken_rules(object: &Value, old: Option<&Value>, schema: &Structural) -> Vec<Problem> {
    let mut walk = Walk { problems: Vec::new(), path: String::new() };
    walk.value(object, old, schema);
    walk.problems
}

/// The places of rules that cannot be evaluated, and why.
pub fn unsupported(schema: &Structural) -> Vec<(String, String)> {
    let mut found = Vec::new();
    collect(schema, "", &mut found);
    found
}

fn collect(schema: &Structural, path: &str, found: &mut Vec<(String, String)>) {
    for rule in &schema.rules {
        if let Err(why) = &rule.expression {
            found.push((
                if path.is_empty() { "self" } else { path }.to_owned(),
                format!("{:?}: {why}", rule.rule),
            ));
        }
    }
    let join = |step: &str| if path.is_empty() { step.to_owned() } else { format!("{path}.{step}") };
    for (name, property) in &schema.properties {
        collect(property, &join(name), found);
    }
    if let Some(additional) = &schema.additional {
        collect(additional, &join("*"), found);
    }
    if let Some(items) = &schema.items {
        collect(items, &format!("{path}[*]"), found);
    }
}

struct Walk {
    problems: Vec<Problem>,
    path: String,
}

impl Walk {
    fn value(&mut self, value: &Value, old: Option<&Value>, schema: &Structural) {
        if value.is_null() {
            return;
        }
        for rule in &schema.rules {
            self.rule(rule, value, old);
        }
        match &value.kind {
            Kind::Object(map) => {
                for (name, value) in map.iter() {
                    if let Some(property) = schema.properties.get(name).or(schema.additional.as_deref()) {
                        let old = old.and_then(|old| old.get(name)).filter(|_| !schema.map_is_atomic);
                        let length = self.path.len();
                        if !self.path.is_empty() {
                            self.path.push('.');
                        }
                        self.path.push_str(name);
                        self.value(value, old, property);
                        self.path.truncate(length);
                    }
                }
            }
            Kind::Array(items) => {
                let Some(element) = &schema.items else { return };
                for (index, item) in items.iter().enumerate() {
                    let length = self.path.len();
                    self.path.push_str(&format!("[{index}]"));
                    self.value(item, old.and_then(|old| former(old, item, &schema.list_type)), element);
                    self.path.truncate(length);
                }
            }
            _ => {}
        }
    }

    fn rule(&mut self, rule: &Rule, value: &Value, old: Option<&Value>) {
        let Ok(expression) = &rule.expression else { return };
        // A rule about a change says nothing about what is new.
        if expression.mentions("oldSelf") && (old.is_none() || rule.optional_old_self) {
            return;
        }
        let mut names = vec![("self", value)];
        names.extend(old.map(|old| ("oldSelf", old)));
        let told = || match rule.message.trim() {
            "" => format!("failed rule: {}", rule.rule.trim()),
            message => message.to_owned(),
        };
        let message = match cel::evaluate(expression, &names) {
            Ok(result) if result.as_bool() == Some(true) => return,
            Ok(_) => rule.message_of(&names).unwrap_or_else(told),
            Err(error) => format!("{error} evaluating rule: {}", told()),
        };
        let path = format!("{}{}", self.path, rule.field_path);
        let path = path.trim_start_matches('.').to_owned();
        let reason = match rule.reason.as_str() {
            "FieldValueRequired" => "FieldValueRequired",
            "FieldValueForbidden" => "FieldValueForbidden",
            "FieldValueDuplicate" => "FieldValueDuplicate",
            _ => "FieldValueInvalid",
        };
        self.problems.push(Problem { path, trouble: Trouble::Rule { reason, message } });
    }
}

/// The element that was this one, where the list tells its elements apart by their keys.
fn former<'v>(old: &'v Value, item: &Value, list: &ListType) -> Option<&'v Value> {
    let ListType::Map(keys) = list else { return None };
    old.as_array()?.iter().find(|other| keys.iter().all(|key| other.get(key) == item.get(key)))
}

impl Rule {
    fn message_of(&self, names: &[(&str, &Value)]) -> Option<String> {
        if self.message_expression.is_empty() {
            return None;
        }
        let expression = cel::parse(&self.message_expression).ok()?;
        let message = cel::evaluate(&expression, names).ok()?;
        message.as_str().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_of_states_and_of_changes() {
        let schema = Structural::parse(
            &serde_json::from_str(
                r#"{"type":"object","properties":{"spec":{"type":"object","x-kubernetes-validations":[
                {"rule":"self.count <= self.size * 10","message":"too many"},
                {"rule":"self.size >= oldSelf.size","messageExpression":"'was ' + string(oldSelf.size)"},
                {"rule":"quantity(self.q).isLessThan(self.q)"}],
              "properties":{"size":{"type":"integer"},"count":{"type":"integer"}}}}}"#,
            )
            .unwrap(),
        )
        .unwrap();
        let json = |text: &str| -> Value { serde_json::from_str(text).unwrap() };
        let broken = |new: &str, old: Option<&str>| -> Vec<String> {
            let old = old.map(json);
            broken_rules(&json(new), old.as_ref(), &schema)
                .into_iter()
                .map(|problem| match problem.trouble {
                    Trouble::Rule { message, .. } => format!("{}: {message}", problem.path),
                    other => format!("{other:?}"),
                })
                .collect()
        };
        assert_eq!(broken(r#"{"spec":{"size":1,"count":3}}"#, None), [""; 0]);
        assert_eq!(broken(r#"{"spec":{"size":1,"count":30}}"#, None), ["spec: too many"]);
        assert_eq!(
            broken(r#"{"spec":{"size":1,"count":3}}"#, Some(r#"{"spec":{"size":2}}"#)),
            ["spec: was 2"]
        );
        assert_eq!(
            broken(r#"{"spec":{"size":1}}"#, None),
            ["spec: no such key: count evaluating rule: too many"]
        );
        assert_eq!(unsupported(&schema).len(), 1);
    }
}
