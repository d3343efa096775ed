//! Everything wrong with an object by the types of the built-in kinds: fields that are unknown, missing, or of another type.
//!
//! It changes nothing and goes on after the first mistake, unlike [`types::normalise`], which is what a server does with a
//! body: this is for telling a person.

use crate::field_path::{FieldPath, Step};
use crate::types::{self, FieldType, TypeId, Types};
use crate::value::{Kind, Map, Number, Value};
use crate::{quantity::Quantity, time};

/// More is not told of one object.
pub const MAX_FINDINGS: usize = 100;
/// Known names are listed up to this many.
const MOST_NAMES: usize = 12;

/// One thing that is wrong with one field.
#[derive(Clone, Debug)]
pub struct Finding<'v> {
    pub path: FieldPath,
    /// The field's value, or what it is missing in.
    pub value: &'v Value,
    pub why: String,
}

/// What is wrong with an object, or a part of one, of a type.
pub fn check(object: &Value, of: TypeId) -> Vec<Finding<'_>> {
    let mut walk = Walk { types: Types::built_in(), path: FieldPath::default(), findings: Vec::new() };
    walk.value(object, &FieldType::Object(of));
    walk.findings
}

/// What to say of a field that is not among the known ones.
pub fn unknown_field(name: &str, known: &[&str]) -> String {
    match gantry_yaml::nearest(name, known) {
        Some(near) => format!("unknown field, did you mean {near}?"),
        None if known.is_empty() => "unknown field, none is known here".to_owned(),
        None if known.len() <= MOST_NAMES => format!("unknown field, known are {}", known.join(", ")),
        None => "unknown field".to_owned(),
    }
}

struct Walk<'v> {
    types: &'static Types,
    path: FieldPath,
    findings: Vec<Finding<'v>>,
}

impl<'v> Walk<'v> {
    fn push(&mut self, value: &'v Value, why: String) {
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(Finding { path: self.path.clone(), value, why });
        }
    }

    fn below(&mut self, step: Step, check: impl FnOnce(&mut Walk<'v>)) {
        self.path.push(step);
        check(self);
        self.path.pop();
    }

    fn object(&mut self, value: &'v Value, map: &'v Map, of: TypeId) {
        let types = self.types;
        for (name, value) in map.iter() {
            self.below(Step::Field(name.clone()), |walk| match types.field(of, name) {
                Some(field) => walk.value(value, &field.kind),
                // Every kind has these two, which the table leaves out.
                None if matches!(name.as_str(), "kind" | "apiVersion") && types.is_kind(of) => {
                    walk.value(value, &FieldType::String);
                }
                None => {
                    let mut known: Vec<&str> = types.fields(of).iter().map(|field| field.name).collect();
                    known.sort_unstable();
                    walk.push(value, unknown_field(name, &known));
                }
            });
        }
        // What Go writes even if it is empty is what the schema requires, but for the metadata of objects.
        let required = types.fields(of).iter().filter(|field| field.required && field.name != "metadata");
        for field in required {
            if map.get(field.name).is_none_or(Value::is_null) {
                self.below(Step::Field(field.name.into()), |walk| {
                    walk.push(value, format!("missing, a {} needs it", types.short_name(of)));
                });
            }
        }
    }

    fn value(&mut self, value: &'v Value, kind: &FieldType) {
        let wanted = match (kind, &value.kind) {
            (
                FieldType::Raw
                | FieldType::SchemaOrBool
                | FieldType::SchemaOrArray
                | FieldType::SchemaOrStrings,
                _,
            )
            | (_, Kind::Null) => return,
            (FieldType::Object(of), Kind::Object(map)) => return self.object(value, map, *of),
            (FieldType::List(element), Kind::Array(items)) => {
                for (index, item) in items.iter().enumerate() {
                    self.below(Step::Index(index), |walk| walk.value(item, element));
                }
                return;
            }
            (FieldType::Map(element), Kind::Object(map)) => {
                for (name, item) in map.iter() {
                    self.below(Step::Field(name.clone()), |walk| walk.value(item, element));
                }
                return;
            }
            _ => match misfit(value, kind) {
                None => return,
                Some(wanted) => wanted,
            },
        };
        self.push(value, wanted);
    }
}

/// Why a value is none of a type without parts; `None` when it is one.
fn misfit(value: &Value, kind: &FieldType) -> Option<String> {
    let of_type = |wanted: &str| {
        // A plain scalar in YAML that was meant as text.
        let hint = match (kind, &value.kind) {
            (FieldType::String, Kind::Bool(_) | Kind::Number(_)) => "; put it in quotes",
            _ => "",
        };
        Some(format!("must be {wanted}, found {}{hint}", found(value)))
    };
    match (kind, &value.kind) {
        (FieldType::String, Kind::String(_)) | (FieldType::Bool, Kind::Bool(_)) => None,
        (FieldType::Float, Kind::Number(_)) => None,
        (FieldType::IntOrString, Kind::String(_) | Kind::Number(Number::Int(_))) => None,
        (FieldType::Int32 | FieldType::Int64, Kind::Number(number)) => {
            let (number, most) =
                (number.as_f64(), if *kind == FieldType::Int32 { 2f64.powi(31) } else { 2f64.powi(63) });
            if number.fract() != 0.0 {
                of_type("an integer")
            } else if (-most..most).contains(&number) {
                None
            } else {
                Some("is too large a number for this field".to_owned())
            }
        }
        (FieldType::Bytes, Kind::String(text)) => {
            types::check_base64(text).err().map(|error| format!("must be base64: {error}"))
        }
        (FieldType::Quantity, Kind::Number(_)) => None,
        (FieldType::Quantity, Kind::String(text)) => match Quantity::parse(text) {
            Some(_) => None,
            None => Some(format!("must be a quantity such as 100m, 1.5 or 64Mi, found {text:?}")),
        },
        (FieldType::Time, Kind::String(text)) => match time::parse_time(text) {
            Some(_) => None,
            None => Some(format!("must be a time such as 2006-01-02T15:04:05Z, found {text:?}")),
        },
        (FieldType::MicroTime, Kind::String(text)) => match time::parse_micro_time(text) {
            Some(_) => None,
            None => Some(format!("must be a time such as 2006-01-02T15:04:05.000000Z, found {text:?}")),
        },
        (FieldType::String | FieldType::Bytes | FieldType::Time | FieldType::MicroTime, _) => {
            of_type("a string")
        }
        (FieldType::Int32 | FieldType::Int64, _) => of_type("an integer"),
        (FieldType::Bool, _) => of_type("true or false"),
        (FieldType::Float, _) => of_type("a number"),
        (FieldType::Quantity, _) => of_type("a quantity"),
        (FieldType::IntOrString, _) => of_type("an integer or a string"),
        (FieldType::List(_), _) => of_type("a list"),
        (FieldType::Map(_) | FieldType::Object(_), _) => of_type("an object"),
        _ => None,
    }
}

fn found(value: &Value) -> &'static str {
    match value.kind {
        Kind::Null => "null",
        Kind::Bool(_) => "a boolean",
        Kind::Number(_) => "a number",
        Kind::String(_) => "a string",
        Kind::Array(_) => "a list",
        Kind::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(group: &str, version: &str, kind: &str, text: &str) -> Vec<String> {
        let object: Value = serde_json::from_str(text).unwrap();
        let of = Types::built_in().kind(group, version, kind).unwrap();
        check(&object, of).iter().map(|finding| format!("{}: {}", finding.path, finding.why)).collect()
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let found = told(
            "apps",
            "v1",
            "Deployment",
            r#"{"kind":"Deployment","apiVersion":"apps/v1","metadata":{"name":"a","labels":{"a":1},"creationTimestamp":"now"},
                "spec":{"replica":2,"replicas":"two","selector":{},"template":{"metadata":{},"spec":{"containers":[
                {"image":"x","ports":[{"containerPort":"80"}],"resources":{"limits":{"cpu":"1x","memory":64}},"tty":"yes"},
                {"name":"b","env":{}}],"hostNetwork":null}}}}"#,
        );
        assert_eq!(
            found,
            [
                "metadata.labels.a: must be a string, found a number; put it in quotes",
                r#"metadata.creationTimestamp: must be a time such as 2006-01-02T15:04:05Z, found "now""#,
                "spec.replica: unknown field, did you mean replicas?",
                "spec.replicas: must be an integer, found a string",
                "spec.template.spec.containers[0].ports[0].containerPort: must be an integer, found a string",
                r#"spec.template.spec.containers[0].resources.limits.cpu: must be a quantity such as 100m, 1.5 or 64Mi, found "1x""#,
                "spec.template.spec.containers[0].tty: must be true or false, found a string",
                "spec.template.spec.containers[0].name: missing, a Container needs it",
                "spec.template.spec.containers[1].env: must be a list, found an object",
            ]
        );
    }

    #[test]
    fn numbers_fit_their_fields() {
        let replicas = |number: &str| {
            told(
                "apps",
                "v1",
                "ReplicaSet",
                &format!(r#"{{"spec":{{"selector":{{}},"replicas":{number}}}}}"#),
            )
        };
        assert!(replicas("3").is_empty() && replicas("3.0").is_empty());
        assert_eq!(replicas("3.5"), ["spec.replicas: must be an integer, found a number"]);
        assert_eq!(replicas("3000000000"), ["spec.replicas: is too large a number for this field"]);
        let secret = |data: &str| told("", "v1", "Secret", &format!(r#"{{"data":{{"a":"{data}"}}}}"#));
        assert!(secret("aHVudGVyMg==").is_empty());
        let found = secret("hunter2!");
        assert!(found[0].starts_with("data.a: must be base64") && !found[0].contains("hunter2"), "{found:?}");
    }

    #[test]
    fn a_sound_object_has_nothing_wrong() {
        let service = r#"{"kind":"Service","apiVersion":"v1","metadata":{"name":"a"},"spec":{"ports":[{"port":80,"targetPort":"http"}],"selector":{"a":"b"}}}"#;
        assert!(told("", "v1", "Service", service).is_empty());
        assert_eq!(told("", "v1", "Service", r#"{"spec":[1]}"#), ["spec: must be an object, found a list"]);
    }

    #[test]
    fn what_is_told_is_bounded() {
        let many: Vec<String> = (0..500).map(|index| format!("\"x{index}\":1")).collect();
        assert_eq!(told("", "v1", "ConfigMap", &format!("{{{}}}", many.join(","))).len(), MAX_FINDINGS);
    }
}
