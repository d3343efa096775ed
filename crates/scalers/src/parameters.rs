//! The reader of trigger parameters: where each is looked up, in which order, and what values it may have.
//!
//! A parameter is looked up in the order its [`Field`] gives: the trigger's metadata, the environment variable that
//! `<name>FromEnv` in the metadata names, the authentication parameters. Blank values count as absent. All mistakes of
//! a trigger are reported together.

use std::collections::BTreeMap;
use std::time::Duration;

use gantry_clock::parse_go_duration;

use crate::config::{Secret, TriggerConfig};
use crate::scaler::ScalerError;

/// A place where a parameter may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Metadata,
    Env,
    Auth,
}

impl Origin {
    fn as_str(self) -> &'static str {
        match self {
            Origin::Metadata => "triggerMetadata",
            Origin::Env => "resolvedEnv",
            Origin::Auth => "authParams",
        }
    }
}

pub const META: &[Origin] = &[Origin::Metadata];
pub const ENV: &[Origin] = &[Origin::Env];
pub const AUTH: &[Origin] = &[Origin::Auth];
pub const META_ENV: &[Origin] = &[Origin::Metadata, Origin::Env];
pub const META_AUTH: &[Origin] = &[Origin::Metadata, Origin::Auth];
pub const AUTH_META: &[Origin] = &[Origin::Auth, Origin::Metadata];
pub const AUTH_ENV: &[Origin] = &[Origin::Auth, Origin::Env];
pub const AUTH_ENV_META: &[Origin] = &[Origin::Auth, Origin::Env, Origin::Metadata];
pub const META_ENV_AUTH: &[Origin] = &[Origin::Metadata, Origin::Env, Origin::Auth];
pub const META_AUTH_ENV: &[Origin] = &[Origin::Metadata, Origin::Auth, Origin::Env];
pub const AUTH_META_ENV: &[Origin] = &[Origin::Auth, Origin::Metadata, Origin::Env];

/// One parameter: its names, where it may stand and what it may say.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    names: &'a [&'a str],
    order: &'a [Origin],
    default: Option<&'a str>,
    /// What to use instead, empty when nothing.
    deprecated: Option<&'a str>,
    /// Like `deprecated`, for a parameter that still works.
    announced: Option<&'a str>,
    one_of: &'a [&'a str],
    exclusive: &'a [&'a str],
    range: Option<&'a str>,
}

impl<'a> Field<'a> {
    /// A parameter that may have several names; the first one that is given counts.
    pub const fn new(names: &'a [&'a str], order: &'a [Origin]) -> Field<'a> {
        Field {
            names,
            order,
            default: None,
            deprecated: None,
            announced: None,
            one_of: &[],
            exclusive: &[],
            range: None,
        }
    }

    pub const fn default(self, value: &'a str) -> Field<'a> {
        Field { default: Some(value), ..self }
    }

    /// Giving it is a mistake; `message` says what to do.
    pub const fn deprecated(self, message: &'a str) -> Field<'a> {
        Field { deprecated: Some(message), ..self }
    }

    /// Giving it still works and is warned about.
    pub const fn announced(self, message: &'a str) -> Field<'a> {
        Field { announced: Some(message), ..self }
    }

    /// Each element must be one of these.
    pub const fn one_of(self, values: &'a [&'a str]) -> Field<'a> {
        Field { one_of: values, ..self }
    }

    /// At most one element may be one of these.
    pub const fn exclusive(self, values: &'a [&'a str]) -> Field<'a> {
        Field { exclusive: values, ..self }
    }

    /// Elements of a list of integers may be ranges, with this between their ends.
    pub const fn range(self, separator: &'a str) -> Field<'a> {
        Field { range: Some(separator), ..self }
    }
}

/// A type that a parameter can have.
pub trait Parameter: Sized {
    fn parse(text: &str, range: Option<&str>) -> Result<Self, String>;
}

/// Reads the parameters of one trigger and collects what is wrong with them.
pub struct Fields<'a> {
    config: &'a TriggerConfig,
    errors: Vec<String>,
    warnings: Vec<String>,
}

impl<'a> Fields<'a> {
    pub fn of(config: &'a TriggerConfig) -> Fields<'a> {
        Fields { config, errors: Vec::new(), warnings: Vec::new() }
    }

    /// The parameter, or its type's default after noting why there is none.
    pub fn required<T: Parameter + Default>(&mut self, field: Field<'_>) -> T {
        let errors_before = self.errors.len();
        let value = self.optional(field);
        if value.is_none() && self.errors.len() == errors_before {
            let places: Vec<&str> = field.order.iter().map(|origin| origin.as_str()).collect();
            self.errors.push(format!(
                "missing required parameter {:?} in [{}]",
                field.names.first().unwrap_or(&""),
                places.join(" ")
            ));
        }
        value.unwrap_or_default()
    }

    /// The parameter if it is given or has a default.
    pub fn optional<T: Parameter>(&mut self, field: Field<'_>) -> Option<T> {
        let found = field.names.iter().find_map(|name| Some((*name, self.look_up(name, field.order)?)));
        let name = found.map_or_else(|| field.names.first().copied().unwrap_or_default(), |(name, _)| name);
        if let (Some(message), Some(_)) = (field.deprecated, found) {
            let hint = if message.is_empty() { String::new() } else { format!(": {message}") };
            self.errors.push(format!("parameter {name:?} is deprecated{hint}"));
            return None;
        }
        if let (Some(message), Some(_)) = (field.announced, found) {
            self.warnings.push(format!("parameter {name:?} is deprecated: {message}"));
        }
        let text = found.map(|(_, text)| text).or(field.default)?;
        let elements = || text.split(',').map(str::trim);
        if !field.one_of.is_empty() && elements().any(|element| !field.one_of.contains(&element)) {
            let allowed = field.one_of.join(" ");
            self.errors.push(format!("parameter {name:?} value {text:?} must be one of [{allowed}]"));
            return None;
        }
        if elements().filter(|element| field.exclusive.contains(element)).count() > 1 {
            let set = field.exclusive.join(" ");
            self.errors.push(format!("parameter {name:?} value {text:?} must contain only one of [{set}]"));
            return None;
        }
        match T::parse(text, field.range) {
            Ok(value) => Some(value),
            Err(error) => {
                // Values from anywhere else than the metadata may be secrets.
                let is_shown = self.config.metadata.get(name).is_some_and(|shown| shown.trim() == text);
                let shown = if is_shown || field.default == Some(text) { text } else { "(hidden)" };
                self.errors.push(format!("unable to set param {name:?} value {shown:?}: {error}"));
                None
            }
        }
    }

    /// Whether a parameter is given anywhere in `order`.
    pub fn is_given(&self, name: &str, order: &[Origin]) -> bool {
        self.look_up(name, order).is_some()
    }

    /// Notes a mistake that concerns more than one parameter.
    pub fn require(&mut self, holds: bool, message: impl FnOnce() -> String) {
        if !holds {
            self.errors.push(message());
        }
    }

    /// What is not wrong but should be changed.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// All mistakes in one error.
    pub fn finish(self) -> Result<(), ScalerError> {
        for warning in &self.warnings {
            tracing::warn!(trigger = %self.config.kind, namespace = %self.config.namespace, "{warning}");
        }
        if self.errors.is_empty() {
            return Ok(());
        }
        Err(ScalerError::Metadata { kind: self.config.kind.clone(), message: self.errors.join("; ") })
    }

    fn look_up(&self, name: &str, order: &[Origin]) -> Option<&'a str> {
        let config = self.config;
        order.iter().find_map(|origin| {
            let value = match origin {
                Origin::Metadata => config.metadata.get(name),
                Origin::Auth => config.auth.get(name),
                Origin::Env => config
                    .metadata
                    .get(&format!("{name}FromEnv"))
                    .and_then(|variable| config.env.get(variable)),
            };
            value.map(|text| text.trim()).filter(|text| !text.is_empty())
        })
    }
}

// === impl Parameter ===

impl Parameter for String {
    fn parse(text: &str, _range: Option<&str>) -> Result<String, String> {
        Ok(text.to_owned())
    }
}

impl Parameter for Secret {
    fn parse(text: &str, _range: Option<&str>) -> Result<Secret, String> {
        Ok(Secret::new(text))
    }
}

impl Parameter for bool {
    fn parse(text: &str, _range: Option<&str>) -> Result<bool, String> {
        match text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err("expected true or false".into()),
        }
    }
}

impl Parameter for i64 {
    fn parse(text: &str, _range: Option<&str>) -> Result<i64, String> {
        // A plus sign is no part of a JSON number, which is what is read here.
        let text = if text.starts_with('+') { "" } else { text };
        text.parse().map_err(|_| "expected a whole number".to_owned())
    }
}

impl Parameter for i32 {
    fn parse(text: &str, range: Option<&str>) -> Result<i32, String> {
        i32::try_from(i64::parse(text, range)?).map_err(|_| "the number is too large".to_owned())
    }
}

impl Parameter for f64 {
    fn parse(text: &str, _range: Option<&str>) -> Result<f64, String> {
        let number: serde_json::Number =
            serde_json::from_str(text).map_err(|_| "expected a number".to_owned())?;
        number.as_f64().filter(|number| number.is_finite()).ok_or_else(|| "expected a number".to_owned())
    }
}

/// A plain number is a count of milliseconds.
impl Parameter for Duration {
    fn parse(text: &str, _range: Option<&str>) -> Result<Duration, String> {
        if let Ok(millis) = text.parse::<i64>() {
            return u64::try_from(millis)
                .map(Duration::from_millis)
                .map_err(|_| "a duration cannot be negative".to_owned());
        }
        let nanos = parse_go_duration(text)
            .map_err(|_| "expected milliseconds, or a duration such as 30s or 1m30s".to_owned())?;
        u64::try_from(nanos).map(Duration::from_nanos).map_err(|_| "a duration cannot be negative".to_owned())
    }
}

/// The longest list a range may stand for.
const LONGEST_RANGE: i64 = 65_536;

impl<T: Parameter> Parameter for Vec<T> {
    fn parse(text: &str, range: Option<&str>) -> Result<Vec<T>, String> {
        let mut list = Vec::new();
        for (index, element) in text.split(',').map(str::trim).enumerate() {
            let failed = |error: String| format!("element {index}: {error}");
            let ends = range.and_then(|separator| {
                let (start, end) = element.split_once(separator)?;
                Some((start.parse::<i64>().ok()?, end.parse::<i64>().ok()?))
            });
            match ends {
                Some((start, end)) => {
                    if end.saturating_sub(start) >= LONGEST_RANGE {
                        return Err(failed(format!("the range holds more than {LONGEST_RANGE} numbers")));
                    }
                    for number in start..=end {
                        list.push(T::parse(&number.to_string(), None).map_err(failed)?);
                    }
                }
                None => list.push(T::parse(element, None).map_err(failed)?),
            }
        }
        Ok(list)
    }
}

/// `key=value,key=value`.
impl<T: Parameter> Parameter for BTreeMap<String, T> {
    fn parse(text: &str, range: Option<&str>) -> Result<BTreeMap<String, T>, String> {
        let mut map = BTreeMap::new();
        for element in text.split(',').map(str::trim) {
            let parts: Vec<&str> = element.split('=').collect();
            let [key, value] = parts.as_slice() else { return Err("expected format key=value".to_owned()) };
            map.insert(key.trim().to_owned(), T::parse(value.trim(), range)?);
        }
        Ok(map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(metadata: &[(&str, &str)], auth: &[(&str, &str)], env: &[(&str, &str)]) -> TriggerConfig {
        let map = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<BTreeMap<_, _>>()
        };
        TriggerConfig {
            metadata: map(metadata),
            auth: map(auth),
            env: map(env),
            ..TriggerConfig::new("test")
        }
    }

    #[test]
    fn the_order_decides_and_blanks_do_not_count() {
        let config = config(
            &[("a", "1"), ("aFromEnv", "A"), ("b", "  "), ("bFromEnv", "B")],
            &[("b", "4")],
            &[("A", "2"), ("B", "3")],
        );
        let mut fields = Fields::of(&config);
        assert_eq!(fields.required::<i64>(Field::new(&["a"], META_ENV)), 1);
        assert_eq!(fields.required::<i64>(Field::new(&["a"], &[Origin::Env, Origin::Metadata])), 2);
        assert_eq!(fields.required::<i64>(Field::new(&["b"], META_ENV_AUTH)), 3);
        assert_eq!(fields.optional::<i64>(Field::new(&["c", "a"], META)), Some(1));
        fields.finish().unwrap();
    }

    #[test]
    fn mistakes_are_reported_together_and_hide_what_may_be_secret() {
        let config = config(&[("old", "x"), ("mode", "c"), ("set", "1,2")], &[("n", "s3cret")], &[]);
        let mut fields = Fields::of(&config);
        fields.required::<String>(Field::new(&["gone"], META_ENV));
        fields.optional::<String>(Field::new(&["old"], META).deprecated("use new"));
        fields.optional::<String>(Field::new(&["mode"], META).one_of(&["a", "b"]));
        fields.optional::<Vec<i64>>(Field::new(&["set"], META).exclusive(&["1", "2"]));
        fields.optional::<i64>(Field::new(&["n"], AUTH));
        let text = fields.finish().unwrap_err().to_string();
        assert_eq!(
            text,
            "error parsing test metadata: missing required parameter \"gone\" in [triggerMetadata resolvedEnv]; \
             parameter \"old\" is deprecated: use new; parameter \"mode\" value \"c\" must be one of [a b]; \
             parameter \"set\" value \"1,2\" must contain only one of [1 2]; \
             unable to set param \"n\" value \"(hidden)\": expected a whole number"
        );
    }

    #[test]
    fn lists_ranges_maps_and_durations() {
        let parse = |text| Vec::<i64>::parse(text, Some("-"));
        assert_eq!(parse("5-7, 15"), Ok(vec![5, 6, 7, 15]));
        assert_eq!(parse("5-3"), Ok(vec![]));
        assert!(parse("1-99999999").is_err());
        assert_eq!(BTreeMap::<String, i64>::parse("a=1, b=2", None).unwrap().len(), 2);
        assert!(BTreeMap::<String, i64>::parse("a=1,b", None).is_err());
        assert_eq!(Duration::parse("1000", None), Ok(Duration::from_secs(1)));
        assert_eq!(Duration::parse("30s", None), Ok(Duration::from_secs(30)));
        assert!(Duration::parse("-1", None).is_err());
    }
}
