//! The rules of `x-kubernetes-validations`, evaluated on an object and, where they ask for it, on what it was.

use super::former::Former;
use super::validate::MAX_PROBLEMS;
use super::{Problem, Rule, SchemaError, Structural, Trouble};
use crate::cel;
use crate::value::{Kind, Value};

/// Rules that the object breaks. Rules that this server cannot evaluate are passed over: see [`unsupported`].
/// What a place breaks that is as it was is passed over too, so that an object which a newer rule forbids can be changed
/// elsewhere; rules about a change hold always.
/// They share one budget, however many elements a rule is asked about; where it is used up no more are asked.
pub fn broken_rules(object: &Value, old: Option<&Value>, schema: &Structural) -> Vec<Problem> {
    let mut walk =
        Walk { problems: Vec::new(), path: String::new(), budget: cel::OBJECT_BUDGET, stopped: false };
    walk.value(object, old, schema);
    walk.problems
}

/// An error for the first rule that is not written in the language. One that asks for what this server does not have
/// is none: see [`unsupported`].
pub fn check_rules(schema: &Structural) -> Result<(), SchemaError> {
    check(schema, "")
}

fn check(schema: &Structural, path: &str) -> Result<(), SchemaError> {
    let join = |step: &str| if path.is_empty() { step.to_owned() } else { format!("{path}.{step}") };
    for (index, rule) in schema.rules.iter().enumerate() {
        for (field, read) in
            [("rule", Some(&rule.expression)), ("messageExpression", rule.message_expression.as_ref())]
        {
            if let Some(Err(error)) = read
                && !error.unsupported
            {
                return Err(SchemaError {
                    path: join(&format!("x-kubernetes-validations[{index}].{field}")),
                    why: error.to_string(),
                });
            }
        }
    }
    for (name, property) in &schema.properties {
        check(property, &join(&format!("properties[{name}]")))?;
    }
    if let Some(additional) = &schema.additional {
        check(additional, &join("additionalProperties"))?;
    }
    match &schema.items {
        Some(items) => check(items, &join("items")),
        None => Ok(()),
    }
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
    budget: u64,
    /// A rule was too costly, which is said once, and no more are evaluated.
    stopped: bool,
}

impl Walk {
    fn value(&mut self, value: &Value, old: Option<&Value>, schema: &Structural) {
        if value.is_null() {
            return;
        }
        for rule in &schema.rules {
            if self.stopped || self.problems.len() == MAX_PROBLEMS {
                return;
            }
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
                let former = Former::of(old, &schema.list_type);
                for (index, item) in items.iter().enumerate() {
                    let length = self.path.len();
                    self.path.push_str(&format!("[{index}]"));
                    self.value(item, former.of_item(item), element);
                    self.path.truncate(length);
                }
            }
            _ => {}
        }
    }

    fn rule(&mut self, rule: &Rule, value: &Value, old: Option<&Value>) {
        let Ok(expression) = &rule.expression else { return };
        // A rule about a change says nothing about what is new.
        let is_of_change = expression.mentions("oldSelf");
        if is_of_change && (old.is_none() || rule.optional_old_self) {
            return;
        }
        let mut names = vec![("self", value)];
        names.extend(old.map(|old| ("oldSelf", old)));
        let told = || match rule.message.trim() {
            "" => format!("failed rule: {}", rule.rule.trim()),
            message => message.to_owned(),
        };
        let message = match cel::evaluate(expression, &names, &mut self.budget) {
            Ok(result) if result.as_bool() == Some(true) => return,
            Err(error @ cel::EvalError::TooCostly) => {
                self.stopped = true;
                format!("{error} evaluating rule: {}", told())
            }
            _ if !is_of_change && old == Some(value) => return,
            Ok(_) => rule.message_of(&names, &mut self.budget).unwrap_or_else(told),
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

impl Rule {
    fn message_of(&self, names: &[(&str, &Value)], budget: &mut u64) -> Option<String> {
        let expression = self.message_expression.as_ref()?.as_ref().ok()?;
        let message = cel::evaluate(expression, names, budget).ok()?;
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
        // What breaks a rule as before may stay.
        let old = r#"{"spec":{"size":1,"count":30}}"#;
        assert_eq!(broken(r#"{"spec":{"size":1,"count":30},"other":1}"#, Some(old)), [""; 0]);
        assert_eq!(broken(r#"{"spec":{"size":1,"count":31}}"#, Some(old)), ["spec: too many"]);
    }

    #[test]
    fn a_rule_that_is_none_is_refused() {
        let check = |rule: &str| {
            let schema = format!(r#"{{"properties":{{"a":{{"x-kubernetes-validations":[{rule}]}}}}}}"#);
            let schema = Structural::parse(&serde_json::from_str(&schema).unwrap()).unwrap();
            check_rules(&schema).map_err(|error| error.to_string())
        };
        assert_eq!(check(r#"{"rule":"self == 1"},{"rule":"isURL(self)"}"#), Ok(()));
        assert_eq!(
            check(r#"{"rule":"self == 1"},{"rule":"self ="}"#).unwrap_err(),
            "properties[a].x-kubernetes-validations[1].rule: at character 6: expected the end, found Sign(\"=\")"
        );
        assert!(
            check(r#"{"rule":"true","messageExpression":"'"}"#).unwrap_err().contains("messageExpression")
        );
    }

    #[test]
    fn a_rule_of_elements_has_one_budget_for_all_of_them() {
        let schema = Structural::parse(
            &serde_json::from_str(
                r#"{"properties":{"l":{"type":"array","items":{"type":"array","x-kubernetes-validations":[
                {"rule":"self.all(a, self.all(b, a == b))","message":"not the same"}],
                "items":{"type":"integer"}}}}}"#,
            )
            .unwrap(),
        )
        .unwrap();
        let object = |elements: usize| -> Value {
            let list = format!("[{}]", vec!["1"; 100].join(","));
            serde_json::from_str(&format!(r#"{{"l":[{}]}}"#, vec![list; elements].join(","))).unwrap()
        };
        assert_eq!(broken_rules(&object(20), None, &schema), []);
        let broken = broken_rules(&object(2000), None, &schema);
        assert_eq!(broken.len(), 1);
        assert!(
            matches!(&broken[0].trouble, Trouble::Rule { message, .. } if message.contains("cost limit"))
        );
    }
}
