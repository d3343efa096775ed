//! Checking an object against its schema, in the words of the API server.

use std::collections::HashSet;

use super::fit::is_associative;
use super::former::Former;
use super::{Checks, ListType, Structural, Type};
use crate::time;
use crate::value::{Kind, Map, Number, Value};

/// More are not told of one object.
pub const MAX_PROBLEMS: usize = 100;

/// One thing wrong with one place.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// `spec.parts[1].name`; empty for the object itself.
    pub path: String,
    pub trouble: Trouble,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Trouble {
    Required,
    NotSupported {
        value: Value,
        supported: Vec<Value>,
    },
    Invalid {
        value: Value,
        why: String,
    },
    /// A value of another type: `found` is its type's name.
    Type {
        found: String,
        why: String,
    },
    TooLong {
        max: u64,
    },
    TooMany {
        found: usize,
        max: u64,
    },
    Duplicate {
        value: Value,
    },
    /// A rule that is broken.
    Rule {
        reason: &'static str,
        message: String,
    },
}

impl Trouble {
    /// True if rules cannot be evaluated on an object that has this trouble.
    pub fn blocks_rules(&self) -> bool {
        !matches!(self, Trouble::Invalid { .. } | Trouble::Duplicate { .. } | Trouble::Rule { .. })
    }
}

/// What is wrong with the object by its schema. Metadata is somebody else's to check. What is wrong with a place that
/// is as it was is passed over, so that an object which a newer schema forbids can be changed elsewhere.
pub fn validate(object: &Value, old: Option<&Value>, schema: &Structural) -> Vec<Problem> {
    let mut walk = Walk { problems: Vec::new(), path: String::new() };
    walk.value(object, old, schema, true);
    walk.problems
}

/// Elements that a list which tells its elements apart has twice.
pub fn duplicates(object: &Value, schema: &Structural) -> Vec<Problem> {
    let mut walk = Walk { problems: Vec::new(), path: String::new() };
    walk.duplicates(object, schema);
    walk.problems
}

struct Walk {
    problems: Vec<Problem>,
    path: String,
}

impl Walk {
    fn push(&mut self, trouble: Trouble) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(Problem { path: self.path.clone(), trouble });
        }
    }

    fn extend(&mut self, problems: Vec<Problem>) {
        let room = MAX_PROBLEMS - self.problems.len();
        self.problems.extend(problems.into_iter().take(room));
    }

    fn invalid(&mut self, value: &Value, why: &str) {
        let why = format!("{} in body {why}", self.path);
        self.push(Trouble::Invalid { value: value.clone(), why });
    }

    fn wrong_type(&mut self, value: &Value, wanted: &str) {
        let found = type_name(value).to_owned();
        let why = format!("{} in body must be of type {wanted}: {found:?}", self.path);
        self.push(Trouble::Type { found, why });
    }

    fn below(&mut self, step: &str, check: impl FnOnce(&mut Walk)) {
        let length = self.path.len();
        if !self.path.is_empty() && !step.starts_with('[') {
            self.path.push('.');
        }
        self.path.push_str(step);
        check(self);
        self.path.truncate(length);
    }

    fn value(&mut self, value: &Value, old: Option<&Value>, schema: &Structural, is_resource: bool) {
        let before = self.problems.len();
        self.judge(value, old, schema, is_resource);
        if self.problems.len() > before && old == Some(value) {
            self.problems.truncate(before);
        }
    }

    fn judge(&mut self, value: &Value, old: Option<&Value>, schema: &Structural, is_resource: bool) {
        if value.is_null() {
            if !schema.nullable
                && let Some(kind) = schema.kind
            {
                self.wrong_type(value, kind.name());
            }
            return;
        }
        if schema.int_or_string {
            if !matches!(value.kind, Kind::String(_) | Kind::Number(Number::Int(_))) {
                self.wrong_type(value, "integer,string");
                return;
            }
        } else if let Some(kind) = schema.kind
            && !has_type(value, kind)
        {
            self.wrong_type(value, kind.name());
            return;
        }
        self.checks(value, &schema.checks);
        match &value.kind {
            Kind::Object(map) => {
                for (name, value) in map.iter() {
                    if is_resource && matches!(name.as_str(), "kind" | "apiVersion" | "metadata") {
                        continue;
                    }
                    let property = schema.properties.get(name).or(schema.additional.as_deref());
                    if let Some(property) = property {
                        let old = old.and_then(|old| old.get(name)).filter(|_| !schema.map_is_atomic);
                        self.below(name, |walk| {
                            walk.value(value, old, property, property.embedded_resource);
                        });
                    }
                }
                for name in &schema.checks.required {
                    if !map.contains_key(name) {
                        self.below(name, |walk| walk.push(Trouble::Required));
                    }
                }
            }
            Kind::Array(items) => {
                let Some(element) = &schema.items else { return };
                let former = Former::of(old, &schema.list_type);
                for (index, item) in items.iter().enumerate() {
                    self.below(&format!("[{index}]"), |walk| {
                        walk.value(item, former.of_item(item), element, element.embedded_resource);
                    });
                }
            }
            _ => {}
        }
    }

    fn checks(&mut self, value: &Value, checks: &Checks) {
        if let Some(supported) = &checks.one_of_values
            && !supported.contains(value)
        {
            self.push(Trouble::NotSupported { value: value.clone(), supported: supported.clone() });
        }
        match &value.kind {
            Kind::String(text) => self.string(value, text, checks),
            Kind::Number(number) => self.number(value, number.as_f64(), checks),
            Kind::Array(items) => self.array(value, items, checks),
            Kind::Object(map) => self.properties(value, map, checks),
            _ => {}
        }
        self.composite(value, checks);
    }

    fn string(&mut self, value: &Value, text: &str, checks: &Checks) {
        let length = text.chars().count() as u64;
        if let Some(max) = checks.max_length.filter(|max| length > *max) {
            self.push(Trouble::TooLong { max });
        }
        if let Some(min) = checks.min_length.filter(|min| length < *min) {
            self.invalid(value, &format!("should be at least {min} chars long"));
        }
        if let Some(pattern) = &checks.pattern
            && !pattern.is_match(text)
        {
            self.invalid(value, &format!("should match '{}'", pattern.as_str()));
        }
        if let Some(format) = &checks.format
            && !has_format(text, format)
        {
            let why = format!("{} in body must be of type {format}: {text:?}", self.path);
            self.push(Trouble::Invalid { value: value.clone(), why });
        }
    }

    fn number(&mut self, value: &Value, number: f64, checks: &Checks) {
        if let Some((bound, exclusive)) = checks.maximum
            && (number > bound || exclusive && number == bound)
        {
            let how = if exclusive { "less than" } else { "less than or equal to" };
            self.invalid(value, &format!("should be {how} {}", shown(bound)));
        }
        if let Some((bound, exclusive)) = checks.minimum
            && (number < bound || exclusive && number == bound)
        {
            let how = if exclusive { "greater than" } else { "greater than or equal to" };
            self.invalid(value, &format!("should be {how} {}", shown(bound)));
        }
        if let Some(factor) = checks.multiple_of
            && (number / factor).fract() != 0.0
        {
            self.invalid(value, &format!("should be a multiple of {}", shown(factor)));
        }
        if let Some(format) = &checks.format {
            let fits = match format.as_str() {
                "int32" => number >= f64::from(i32::MIN) && number <= f64::from(i32::MAX),
                _ => true,
            };
            if !fits {
                self.invalid(value, &format!("should be of the format {format}"));
            }
        }
    }

    fn array(&mut self, value: &Value, items: &[Value], checks: &Checks) {
        if let Some(min) = checks.min_items.filter(|min| (items.len() as u64) < *min) {
            self.invalid(value, &format!("should have at least {min} items"));
        }
        if let Some(max) = checks.max_items.filter(|max| items.len() as u64 > *max) {
            self.push(Trouble::TooMany { found: items.len(), max });
        }
        if checks.unique_items {
            let mut seen = HashSet::new();
            if items.iter().any(|item| !seen.insert(item.canonical())) {
                self.invalid(value, "shouldn't contain duplicates");
            }
        }
    }

    fn properties(&mut self, value: &Value, map: &Map, checks: &Checks) {
        if let Some(min) = checks.min_properties.filter(|min| (map.len() as u64) < *min) {
            self.invalid(value, &format!("should have at least {min} properties"));
        }
        if let Some(max) = checks.max_properties.filter(|max| map.len() as u64 > *max) {
            self.invalid(value, &format!("should have at most {max} properties"));
        }
    }

    fn composite(&mut self, value: &Value, checks: &Checks) {
        let fits = |schema: &Structural, path: &str| {
            let mut walk = Walk { problems: Vec::new(), path: path.to_owned() };
            walk.value(value, None, schema, false);
            walk.problems
        };
        for schema in &checks.all_of {
            let problems = fits(schema, &self.path);
            if !problems.is_empty() {
                self.extend(problems);
                self.must(value, "must validate all the schemas (allOf)");
            }
        }
        if !checks.any_of.is_empty() {
            let mut found: Vec<Vec<Problem>> =
                checks.any_of.iter().map(|schema| fits(schema, &self.path)).collect();
            if !found.iter().any(Vec::is_empty) {
                // The alternative that comes closest says what would be needed.
                found.sort_by_key(Vec::len);
                self.must(value, "must validate at least one schema (anyOf)");
                self.extend(found.into_iter().next().unwrap_or_default());
            }
        }
        if !checks.one_of.is_empty() {
            let valid = checks.one_of.iter().filter(|schema| fits(schema, &self.path).is_empty()).count();
            let found = match valid {
                0 => Some("Found none valid".to_owned()),
                1 => None,
                several => Some(format!("Found {several} valid alternatives")),
            };
            if let Some(found) = found {
                self.must(value, &format!("must validate one and only one schema (oneOf). {found}"));
            }
        }
        if let Some(not) = &checks.not
            && fits(not, &self.path).is_empty()
        {
            self.must(value, "must not validate the schema (not)");
        }
    }

    fn must(&mut self, value: &Value, why: &str) {
        let why = format!("{:?} {why}", self.path);
        self.push(Trouble::Invalid { value: value.clone(), why });
    }

    fn duplicates(&mut self, value: &Value, schema: &Structural) {
        match &value.kind {
            Kind::Object(map) => {
                for (name, value) in map.iter() {
                    let property = schema.properties.get(name).or(schema.additional.as_deref());
                    if let Some(property) = property {
                        self.below(name, |walk| walk.duplicates(value, property));
                    }
                }
            }
            Kind::Array(items) => {
                let mut seen = HashSet::new();
                for (index, item) in items.iter().enumerate() {
                    let Some(element) = &schema.items else { continue };
                    self.below(&format!("[{index}]"), |walk| walk.duplicates(item, element));
                    if !is_associative(schema) {
                        continue;
                    }
                    let told_by = match &schema.list_type {
                        ListType::Map(keys) => {
                            let keys = keys.iter();
                            Value::from(
                                keys.filter_map(|key| Some((key.clone(), item.get(key)?.clone())))
                                    .collect::<Map>(),
                            )
                        }
                        _ => item.clone(),
                    };
                    if !seen.insert(told_by.canonical()) {
                        self.below(&format!("[{index}]"), |walk| {
                            walk.push(Trouble::Duplicate { value: told_by });
                        });
                    }
                }
            }
            _ => {}
        }
    }
}

fn type_name(value: &Value) -> &'static str {
    match value.kind {
        Kind::Number(Number::Int(_) | Number::Uint(_)) => "integer",
        _ => value.type_name(),
    }
}

fn has_type(value: &Value, kind: Type) -> bool {
    match (kind, &value.kind) {
        (Type::Object, Kind::Object(_))
        | (Type::Array, Kind::Array(_))
        | (Type::String, Kind::String(_))
        | (Type::Boolean, Kind::Bool(_))
        | (Type::Number, Kind::Number(_)) => true,
        (Type::Integer, Kind::Number(number)) => number.as_f64().fract() == 0.0,
        _ => false,
    }
}

/// A bound as Go prints it.
fn shown(number: f64) -> String {
    if number.fract() == 0.0 && number.abs() < 1e15 { format!("{number:.0}") } else { number.to_string() }
}

/// Formats that are not known accept any text.
fn has_format(text: &str, format: &str) -> bool {
    match format {
        "date-time" | "datetime" => time::parse_time(text).is_some(),
        "date" => time::parse_time(&format!("{text}T00:00:00Z")).is_some(),
        "ipv4" => text.parse::<core::net::Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<core::net::Ipv6Addr>().is_ok(),
        "ip" => text.parse::<core::net::IpAddr>().is_ok(),
        "cidr" => text.split_once('/').is_some_and(|(address, prefix)| {
            match (address.parse::<core::net::IpAddr>(), prefix.parse::<u8>()) {
                (Ok(address), Ok(prefix)) => prefix <= if address.is_ipv4() { 32 } else { 128 },
                _ => false,
            }
        }),
        "uuid" | "uuid3" | "uuid4" | "uuid5" => {
            let compact: String = text.chars().filter(|c| *c != '-').collect();
            compact.len() == 32 && compact.chars().all(|c| c.is_ascii_hexdigit())
        }
        "hostname" => {
            !text.is_empty()
                && text.len() <= 255
                && text.split('.').all(|label| {
                    (1..=63).contains(&label.len())
                        && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
                })
        }
        "email" => text.split_once('@').is_some_and(|(user, host)| !user.is_empty() && host.contains('.')),
        "uri" => {
            text.split_once(':').is_some_and(|(scheme, _)| {
                scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                    && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
            }) || text.starts_with('/')
        }
        "duration" => is_go_duration(text),
        _ => true,
    }
}

fn is_go_duration(text: &str) -> bool {
    let mut rest = text.trim_start_matches(['-', '+']);
    if rest == "0" {
        return true;
    }
    if rest.is_empty() {
        return false;
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
        if digits == 0 {
            return false;
        }
        rest = &rest[digits..];
        let units = ["ns", "us", "µs", "ms", "s", "m", "h"];
        match units.iter().filter(|unit| rest.starts_with(**unit)).max_by_key(|unit| unit.len()) {
            Some(unit) => rest = &rest[unit.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(schema: &str, object: &str) -> Vec<String> {
        let schema = Structural::parse(&serde_json::from_str(schema).unwrap()).unwrap();
        let object: Value = serde_json::from_str(object).unwrap();
        let mut problems = validate(&object, None, &schema);
        problems.extend(duplicates(&object, &schema));
        problems
            .into_iter()
            .map(|problem| match problem.trouble {
                Trouble::Required => format!("{}: required", problem.path),
                Trouble::NotSupported { .. } => format!("{}: not supported", problem.path),
                Trouble::Invalid { why, .. } | Trouble::Type { why, .. } => why,
                Trouble::TooLong { max } => format!("{}: longer than {max}", problem.path),
                Trouble::TooMany { found, max } => format!("{}: {found} over {max}", problem.path),
                Trouble::Duplicate { value } => format!("{}: twice {value:?}", problem.path),
                Trouble::Rule { message, .. } => message,
            })
            .collect()
    }

    #[test]
    fn what_is_as_it_was_is_passed_over() {
        let schema = r#"{"properties":{"size":{"minimum":5},"spec":{"required":["name"],"properties":{"size":{"minimum":5},
            "parts":{"x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["n"],"items":{"properties":{"w":{"minimum":5}}}},
            "list":{"items":{"minimum":5}}}}}}"#;
        let schema = Structural::parse(&serde_json::from_str(schema).unwrap()).unwrap();
        let paths = |object: &str, old: &str| -> Vec<String> {
            let json = |text: &str| -> Value { serde_json::from_str(text).unwrap() };
            let problems = validate(&json(object), Some(&json(old)), &schema);
            problems.into_iter().map(|problem| problem.path).collect()
        };
        let old = r#"{"size":1,"spec":{"size":1,"parts":[{"n":"a","w":1},{"n":"b","w":1}],"list":[1,2]}}"#;
        assert_eq!(paths(&old.replacen("\"size\":1", "\"size\":6", 1), old), [""; 0]);
        // Of what changed around them only what is wrong by itself stays out.
        let new = r#"{"size":1,"spec":{"size":2,"parts":[{"n":"b","w":1},{"n":"a","w":2}],"list":[1,2,3]}}"#;
        assert_eq!(
            paths(new, old),
            ["spec.size", "spec.parts[1].w", "spec.list[0]", "spec.list[1]", "spec.list[2]", "spec.name"]
        );
    }

    #[test]
    fn so_many_problems_are_told_and_no_more() {
        let schema =
            Structural::parse(&serde_json::from_str(r#"{"items":{"type":"string"}}"#).unwrap()).unwrap();
        let items: Vec<Value> = (0..1_000_i64).map(Value::from).collect();
        assert_eq!(validate(&items.clone().into(), None, &schema).len(), MAX_PROBLEMS);
        assert_eq!(validate(&items.clone().into(), Some(&items.into()), &schema), []);
    }

    #[test]
    fn values_are_checked() {
        let schema = r#"{"type":"object","required":["size"],"properties":{
            "size":{"type":"integer","minimum":1,"maximum":10},
            "name":{"type":"string","maxLength":3,"pattern":"^a"},
            "colour":{"type":"string","enum":["red"]},
            "port":{"x-kubernetes-int-or-string":true},
            "parts":{"type":"array","maxItems":3,"x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["n"],"items":{"type":"object","properties":{"n":{"type":"string"}}}},
            "when":{"type":"string","format":"date-time"},
            "either":{"type":"object","oneOf":[{"required":["a"]},{"required":["b"]}],"properties":{"a":{"type":"integer"},"b":{"type":"integer"}}}
        }}"#;
        assert_eq!(
            told(schema, r#"{"size":3,"port":"x","name":"abc","parts":[{"n":"a"},{"n":"b"}]}"#),
            [""; 0]
        );
        assert_eq!(
            told(
                schema,
                r#"{"name":"baaa","colour":"blue","port":1.5,"parts":[{"n":"a"},{"n":"a"}],"when":"now","either":{"a":1,"b":2}}"#
            ),
            [
                "name: longer than 3",
                "name in body should match '^a'",
                "colour: not supported",
                "port in body must be of type integer,string: \"number\"",
                "when in body must be of type date-time: \"now\"",
                "\"either\" must validate one and only one schema (oneOf). Found 2 valid alternatives",
                "size: required",
                "parts[1]: twice {\"n\":\"a\"}",
            ]
        );
        assert_eq!(told(schema, r#"{"size":"x"}"#), ["size in body must be of type integer: \"string\""]);
        assert_eq!(told(schema, r#"{"size":0}"#), ["size in body should be greater than or equal to 1"]);
    }
}
