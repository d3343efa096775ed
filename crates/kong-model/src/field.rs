//! One field of a schema, read from the facts: its type, what is checked, what is filled in.

use crate::checks::Check;
use crate::lua_pattern::Pattern;
use serde_json::{Map, Value};

/// The types of Kong's schema language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    String,
    Integer,
    Number,
    Boolean,
    Array,
    Set,
    Map,
    Record,
    Foreign,
    Json,
    Any,
}

impl Kind {
    fn parse(text: &str) -> Kind {
        match text {
            "string" => Kind::String,
            "integer" => Kind::Integer,
            "number" => Kind::Number,
            "boolean" => Kind::Boolean,
            "array" => Kind::Array,
            "set" => Kind::Set,
            "map" => Kind::Map,
            "record" => Kind::Record,
            "foreign" => Kind::Foreign,
            "json" => Kind::Json,
            _ => Kind::Any,
        }
    }

    /// Whether a value is a table of some sort.
    pub fn is_compound(self) -> bool {
        matches!(self, Kind::Array | Kind::Set | Kind::Map | Kind::Record | Kind::Foreign)
    }
}

/// A pattern with what is said when it decides against a value.
#[derive(Clone, Debug)]
pub(crate) struct Matcher {
    pub(crate) patterns: Vec<Pattern>,
    pub(crate) err: Option<String>,
}

/// A field that stands for others: `url` of a service, a setting's former name.
#[derive(Clone, Debug)]
pub(crate) struct Shorthand {
    pub(crate) name: String,
    pub(crate) field: Field,
    /// Where the value goes; `None` when a rule of its own takes it apart.
    pub(crate) replaced_with: Option<Vec<String>>,
}

/// A field's definition.
#[derive(Clone, Debug)]
pub struct Field {
    pub kind: Kind,
    pub required: Option<bool>,
    pub default: Option<Value>,
    pub(crate) auto: bool,
    pub(crate) uuid: bool,
    pub(crate) timestamp: bool,
    pub unique: bool,
    pub(crate) eq: Option<Value>,
    pub(crate) ne: Option<Value>,
    pub(crate) gt: Option<f64>,
    pub(crate) between: Option<(f64, f64)>,
    pub(crate) len_eq: Option<usize>,
    pub(crate) len_min: Option<usize>,
    pub(crate) len_max: Option<usize>,
    pub(crate) pattern: Option<Pattern>,
    pub(crate) match_none: Vec<Matcher>,
    pub(crate) match_all: Vec<Matcher>,
    pub(crate) match_any: Option<Matcher>,
    pub(crate) starts_with: Option<String>,
    pub(crate) one_of: Option<Vec<Value>>,
    pub(crate) not_one_of: Option<Vec<Value>>,
    pub(crate) contains: Option<Value>,
    pub(crate) exclusive_subsets: Option<Vec<Vec<String>>>,
    pub(crate) err: Option<String>,
    pub(crate) check: Option<Check>,
    pub(crate) is_abstract: bool,
    pub(crate) transient: bool,
    pub(crate) elements: Option<Box<Field>>,
    pub(crate) keys: Option<Box<Field>>,
    pub(crate) values: Option<Box<Field>>,
    /// Of a record.
    pub fields: Vec<(String, Field)>,
    pub(crate) shorthands: Vec<Shorthand>,
    pub(crate) entity_checks: Vec<crate::entity_checks::EntityCheck>,
    pub reference: Option<String>,
    pub on_delete: Option<String>,
    /// As it was read, for `/schemas` and for conditions that build on it.
    pub(crate) source: Value,
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
}

fn matchers(value: Option<&Value>) -> Vec<Matcher> {
    let mut out = Vec::new();
    for entry in value.and_then(Value::as_array).into_iter().flatten() {
        let pattern = entry["pattern"].as_str().unwrap_or_default();
        let err = entry["err"].as_str().map(str::to_owned);
        out.push(Matcher { patterns: vec![Pattern::new(pattern)], err });
    }
    out
}

/// The fields of a record or schema: a list of objects with one key each.
pub(crate) fn fields_of(definition: &Value) -> Vec<(String, Field)> {
    let mut out = Vec::new();
    for entry in definition.get("fields").and_then(Value::as_array).into_iter().flatten() {
        for (name, field) in entry.as_object().into_iter().flatten() {
            out.push((name.clone(), Field::parse(field)));
        }
    }
    out
}

fn shorthands_of(definition: &Value) -> Vec<Shorthand> {
    let mut out = Vec::new();
    for entry in definition.get("shorthand_fields").and_then(Value::as_array).into_iter().flatten() {
        for (name, field) in entry.as_object().into_iter().flatten() {
            let mut path = field.get("replaced_with").map(texts).filter(|path| !path.is_empty());
            if path.is_none() {
                path = renamed(name).map(|new| vec![new.to_owned()]);
            }
            out.push(Shorthand { name: name.clone(), field: Field::parse(field), replaced_with: path });
        }
    }
    out
}

/// Settings whose new name the facts do not say.
fn renamed(name: &str) -> Option<&'static str> {
    Some(match name {
        "endpoint" => "traces_endpoint",
        "cookie_lifetime" => "rolling_timeout",
        "cookie_idletime" => "idling_timeout",
        "cookie_samesite" => "cookie_same_site",
        "cookie_httponly" => "cookie_http_only",
        "cookie_discard" => "stale_ttl",
        "cookie_persistent" => "remember",
        _ => return None,
    })
}

impl Field {
    /// Reads a definition of the facts.
    pub(crate) fn parse(source: &Value) -> Field {
        let text = |name: &str| source.get(name).and_then(Value::as_str);
        let flag = |name: &str| source.get(name).and_then(Value::as_bool).unwrap_or_default();
        let size = |name: &str| source.get(name).and_then(Value::as_u64).map(|size| size as usize);
        let list = |name: &str| source.get(name).and_then(Value::as_array).cloned();
        let inner = |name: &str| source.get(name).map(|inner| Box::new(Field::parse(inner)));
        let kind = Kind::parse(text("type").unwrap_or("any"));
        let between = source.get("between").and_then(Value::as_array).and_then(|pair| {
            Some((pair.first().and_then(Value::as_f64)?, pair.get(1).and_then(Value::as_f64)?))
        });
        let match_any = source.get("match_any").map(|any| Matcher {
            patterns: texts(&any["patterns"]).iter().map(|pattern| Pattern::new(pattern)).collect(),
            err: any["err"].as_str().map(str::to_owned),
        });
        let default = source.get("default").map(|default| match (kind, default) {
            // An empty table of Lua has no kind of its own.
            (Kind::Array | Kind::Set, Value::Object(map)) if map.is_empty() => Value::Array(Vec::new()),
            _ => default.clone(),
        });
        let subsets = list("mutually_exclusive_subsets").map(|sets| sets.iter().map(texts).collect());
        let fields = fields_of(source);
        let entity_checks = crate::entity_checks::parse(source.get("entity_checks"), &fields, &[]);
        Field {
            kind,
            required: source.get("required").and_then(Value::as_bool),
            default,
            auto: flag("auto"),
            uuid: flag("uuid"),
            timestamp: flag("timestamp"),
            unique: flag("unique"),
            eq: source.get("eq").cloned(),
            ne: source.get("ne").cloned(),
            gt: source.get("gt").and_then(Value::as_f64),
            between,
            len_eq: size("len_eq"),
            len_min: size("len_min"),
            len_max: size("len_max"),
            pattern: text("match").map(Pattern::new),
            match_none: matchers(source.get("match_none")),
            match_all: matchers(source.get("match_all")),
            match_any,
            starts_with: text("starts_with").map(str::to_owned),
            one_of: list("one_of"),
            not_one_of: list("not_one_of"),
            contains: source.get("contains").cloned(),
            exclusive_subsets: subsets,
            err: text("err").map(str::to_owned),
            check: text("check").and_then(Check::parse),
            is_abstract: flag("abstract"),
            transient: flag("transient"),
            elements: inner("elements"),
            keys: inner("keys"),
            values: inner("values"),
            fields,
            shorthands: shorthands_of(source),
            entity_checks,
            reference: text("reference").map(str::to_owned),
            on_delete: text("on_delete").map(str::to_owned),
            source: source.clone(),
        }
    }

    /// This field with `condition` laid over it.
    pub(crate) fn overlaid(base: Option<&Field>, condition: &Value) -> Field {
        let mut source =
            base.map_or_else(Map::new, |base| base.source.as_object().cloned().unwrap_or_default());
        for (name, value) in condition.as_object().into_iter().flatten() {
            source.insert(name.clone(), value.clone());
        }
        Field::parse(&Value::Object(source))
    }

    /// Whether a missing value is an error.
    pub fn is_required(&self) -> bool {
        self.required == Some(true)
    }

    /// Whether an absent record is completed from its own defaults.
    pub(crate) fn is_expanded(&self) -> bool {
        self.kind == Kind::Record && self.required != Some(false) && !self.is_abstract
    }

    /// What a list holds.
    pub fn element(&self) -> Option<&Field> {
        self.elements.as_deref()
    }

    /// The field of a record, or the values of a map, under `name`.
    pub fn child(&self, name: &str) -> Option<&Field> {
        match self.kind {
            Kind::Map => self.values.as_deref(),
            _ => self.at(name),
        }
    }

    /// The field below at a path of names.
    pub(crate) fn at(&self, path: &str) -> Option<&Field> {
        find(&self.fields, path)
    }
}

/// The field at a path of names joined by dots.
pub(crate) fn find<'a>(fields: &'a [(String, Field)], path: &str) -> Option<&'a Field> {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let (_, field) = fields.iter().find(|(name, _)| name == first)?;
    match rest {
        None => Some(field),
        Some(rest) => field.at(rest),
    }
}
