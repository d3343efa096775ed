//! The variables of a dashboard: what kinds there are, and how their options are made of what was found.

use std::collections::HashSet;

use fancy_regex::{Regex, RegexBuilder};
use serde_json::Value;

use crate::json::{flag, is_set, list, number, str_at, text};
use crate::model::DatasourceRef;

/// Backtracking beyond this gives the expression up.
const MOST_STEPS: usize = 100_000;
/// Options of one variable; what is beyond is left out.
pub(crate) const MOST_OPTIONS: usize = 10_000;
const ALL: &str = "$__all";

/// How the options of a variable come about.
#[derive(Clone, Debug, PartialEq)]
pub enum VariableKind {
    /// Asked of a data source.
    Query {
        query: String,
        datasource: Option<DatasourceRef>,
    },
    /// Written down: `a, b : 2`.
    Custom {
        query: String,
    },
    /// Lengths of time, and how many parts the range has when it is to be chosen by itself.
    Interval {
        query: String,
        auto: Option<(i64, String)>,
    },
    /// The data sources of a plugin.
    Datasource {
        plugin: String,
    },
    Textbox {
        query: String,
    },
    Constant {
        query: String,
    },
    /// A kind that is not known; what is stored is all there is.
    Other,
}

/// A variable of a dashboard.
#[derive(Clone, Debug, PartialEq)]
pub struct Variable {
    pub name: String,
    pub label: String,
    /// 0 shows name and value, 1 the value only, 2 nothing.
    pub hide: u8,
    pub kind: VariableKind,
    pub regex: String,
    pub sort: u8,
    pub multi: bool,
    pub include_all: bool,
    pub all_value: Option<String>,
    /// What was chosen when the dashboard was saved: value and text.
    pub current: Vec<(String, String)>,
    /// The options that were saved with it.
    pub stored: Vec<VariableOption>,
}

/// One of the values a variable can have.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize)]
pub struct VariableOption {
    pub text: String,
    pub value: String,
}

// === impl Variable ===

impl Variable {
    pub(crate) fn read(value: &Value) -> Option<Variable> {
        let name = text(value, "/name").filter(|name| !name.is_empty())?;
        let query = match value.pointer("/query") {
            Some(Value::String(query)) => query.clone(),
            Some(object @ Value::Object(_)) => {
                text(object, "/query").or_else(|| text(object, "/expr")).unwrap_or_default()
            }
            Some(Value::Number(number)) => number.to_string(),
            _ => String::new(),
        };
        let kind = match str_at(value, "/type").unwrap_or_default() {
            "query" => {
                let query =
                    if query.is_empty() { text(value, "/definition").unwrap_or_default() } else { query };
                VariableKind::Query { query, datasource: datasource(value) }
            }
            "custom" => VariableKind::Custom { query },
            "interval" => VariableKind::Interval {
                query,
                auto: is_set(value, "/auto").then(|| {
                    let count =
                        number(value, "/auto_count").map_or(30, |count| count as i64).clamp(1, 11_000);
                    (count, text(value, "/auto_min").unwrap_or_else(|| "10s".to_owned()))
                }),
            },
            "datasource" => VariableKind::Datasource { plugin: query },
            "textbox" => VariableKind::Textbox { query },
            "constant" => VariableKind::Constant { query },
            _ => VariableKind::Other,
        };
        let stored = list(value, "/options").iter().filter_map(|option| {
            let (text, value) = (text(option, "/text")?, text(option, "/value")?);
            (value != ALL).then_some(VariableOption { text, value })
        });
        Some(Variable {
            label: text(value, "/label").unwrap_or_default(),
            hide: number(value, "/hide").map_or(0, |hide| hide as u8),
            regex: text(value, "/regex").unwrap_or_default(),
            sort: number(value, "/sort").map_or(0, |sort| sort as u8),
            multi: is_set(value, "/multi"),
            include_all: is_set(value, "/includeAll"),
            all_value: text(value, "/allValue").filter(|all| !all.is_empty()),
            current: current(value),
            stored: stored.collect(),
            name,
            kind,
        })
    }

    /// An entry of `__inputs`: what an exported dashboard wants to be told when it is imported.
    pub(crate) fn read_input(value: &Value) -> Option<Variable> {
        let name = text(value, "/name").filter(|name| !name.is_empty())?;
        let kind = match str_at(value, "/type")? {
            "datasource" => VariableKind::Datasource { plugin: text(value, "/pluginId").unwrap_or_default() },
            "constant" => VariableKind::Constant { query: text(value, "/value").unwrap_or_default() },
            _ => return None,
        };
        Some(Variable {
            label: text(value, "/label").unwrap_or_default(),
            hide: 2,
            kind,
            regex: String::new(),
            sort: 0,
            multi: false,
            include_all: false,
            all_value: None,
            current: Vec::new(),
            stored: Vec::new(),
            name,
        })
    }

    /// The texts in which other variables may be named.
    pub(crate) fn texts(&self) -> Vec<&str> {
        let mut texts = vec![self.regex.as_str()];
        match &self.kind {
            VariableKind::Query { query, datasource } => {
                texts.push(query);
                texts.extend(datasource.iter().map(|reference| reference.name.as_str()));
            }
            VariableKind::Custom { query }
            | VariableKind::Interval { query, .. }
            | VariableKind::Textbox { query }
            | VariableKind::Constant { query } => texts.push(query),
            VariableKind::Datasource { .. } | VariableKind::Other => {}
        }
        texts
    }
}

fn datasource(value: &Value) -> Option<DatasourceRef> {
    match value.pointer("/datasource")? {
        Value::String(name) => Some(DatasourceRef { name: name.clone(), kind: String::new() }),
        object @ Value::Object(_) => Some(DatasourceRef {
            name: text(object, "/uid").unwrap_or_default(),
            kind: text(object, "/type").unwrap_or_default(),
        }),
        _ => None,
    }
}

fn current(value: &Value) -> Vec<(String, String)> {
    let texts = |pointer: &str| match value.pointer(pointer) {
        Some(Value::Array(items)) => {
            items.iter().filter_map(|item| Some(item.as_str()?.to_owned())).collect()
        }
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Number(one)) => vec![one.to_string()],
        Some(Value::Bool(one)) => vec![one.to_string()],
        _ => Vec::new(),
    };
    let values: Vec<String> = texts("/current/value");
    let names: Vec<String> = texts("/current/text");
    let name_of = |index: usize, value: &String| names.get(index).unwrap_or(value).clone();
    // Old files keep "All" as a text only.
    if values.is_empty() && flag(value, "/includeAll") == Some(true) && names == ["All"] {
        return vec![(ALL.to_owned(), "All".to_owned())];
    }
    values.iter().enumerate().map(|(index, value)| (value.clone(), name_of(index, value))).collect()
}

/// Whether a value stands for all options.
pub(crate) fn is_all(value: &str) -> bool {
    value == ALL
}

/// `a, b\,c, text : value`
pub(crate) fn custom_options(query: &str) -> Vec<VariableOption> {
    let mut parts = vec![String::new()];
    let mut chars = query.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if chars.peek() == Some(&',') => {
                chars.next();
                parts.last_mut().expect("never empty").push(',');
            }
            ',' => parts.push(String::new()),
            c => parts.last_mut().expect("never empty").push(c),
        }
    }
    let option = |part: &String| {
        let part = part.trim();
        let (text, value) =
            part.split_once(" : ").map_or((part, part), |(text, value)| (text.trim(), value.trim()));
        (!part.is_empty()).then(|| VariableOption { text: text.to_owned(), value: value.to_owned() })
    };
    parts.iter().filter_map(option).take(MOST_OPTIONS).collect()
}

/// `5m,10m, 1h` or quoted, as intervals are written.
pub(crate) fn interval_options(query: &str) -> Vec<VariableOption> {
    let words =
        query.split(',').map(|word| word.trim().trim_matches(['"', '\''])).filter(|word| !word.is_empty());
    words
        .map(|word| VariableOption { text: word.to_owned(), value: word.to_owned() })
        .take(MOST_OPTIONS)
        .collect()
}

/// A regular expression as a dashboard writes it: `/…/flags`, or bare for the whole text.
pub(crate) fn regex(text: &str) -> Option<Regex> {
    let (pattern, flags) = match text.strip_prefix('/').and_then(|rest| rest.rsplit_once('/')) {
        Some((pattern, flags)) => (pattern.to_owned(), flags),
        None => (format!("^(?:{text})$"), ""),
    };
    let pattern =
        pattern.replace("(?<", "(?P<").replace("(?P<=", "(?<=").replace("(?P<!", "(?<!").replace("\\/", "/");
    let flags: String = flags.chars().filter(|flag| matches!(flag, 'i' | 's' | 'm')).collect();
    let pattern = if flags.is_empty() { pattern } else { format!("(?{flags}){pattern}") };
    RegexBuilder::new(&pattern).backtrack_limit(MOST_STEPS).build().ok()
}

/// What a query found, as options: filtered and cut by `regex`, each once, sorted.
pub(crate) fn options_of(
    found: Vec<VariableOption>,
    pattern: &str,
    sort: u8,
) -> Result<Vec<VariableOption>, String> {
    let mut options: Vec<VariableOption> = match pattern {
        "" => found,
        pattern => {
            let regex = regex(pattern)
                .ok_or_else(|| format!("the regex {pattern:?} of the variable is not valid"))?;
            found.iter().filter_map(|option| cut(option, &regex)).collect()
        }
    };
    let mut seen = HashSet::new();
    options.retain(|option| seen.insert(option.value.clone()));
    options.truncate(MOST_OPTIONS);
    let lower = |option: &VariableOption| option.text.to_lowercase();
    match sort {
        1 | 2 => options.sort_by(|a, b| a.text.cmp(&b.text)),
        3 | 4 => options.sort_by(|a, b| first_number(&a.text).total_cmp(&first_number(&b.text))),
        5 | 6 => options.sort_by_key(lower),
        7 | 8 => options.sort_by(|a, b| natural(&a.text, &b.text)),
        _ => {}
    }
    if matches!(sort, 2 | 4 | 6 | 8) {
        options.reverse();
    }
    Ok(options)
}

fn cut(option: &VariableOption, regex: &Regex) -> Option<VariableOption> {
    let captures = regex.captures(&option.value).ok()??;
    let group = |name: &str| captures.name(name).map(|found| found.as_str().to_owned());
    let (text, value) = (group("text"), group("value"));
    if text.is_some() || value.is_some() {
        let value_or_text = value.clone().or_else(|| text.clone())?;
        return Some(VariableOption { text: text.or(value)?, value: value_or_text });
    }
    match captures.get(1) {
        Some(first) => {
            Some(VariableOption { text: first.as_str().to_owned(), value: first.as_str().to_owned() })
        }
        None if captures.len() > 1 => None,
        None => Some(option.clone()),
    }
}

fn first_number(text: &str) -> f64 {
    let start = text.find(|c: char| c.is_ascii_digit());
    let digits = start.map_or("", |start| &text[start..]);
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().unwrap_or(-1.0)
}

/// Runs of digits compare as numbers.
fn natural(a: &str, b: &str) -> std::cmp::Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let (in_a, in_b) = (digits(a), digits(b));
        if in_a > 0 && in_b > 0 {
            let trimmed = |text: &str, count: usize| text[..count].trim_start_matches('0').to_owned();
            let (x, y) = (trimmed(a, in_a), trimmed(b, in_b));
            let order = x.len().cmp(&y.len()).then_with(|| x.cmp(&y));
            if order.is_ne() {
                return order;
            }
            (a, b) = (&a[in_a..], &b[in_b..]);
            continue;
        }
        match (a.chars().next(), b.chars().next()) {
            (None, None) => return std::cmp::Ordering::Equal,
            (None, _) => return std::cmp::Ordering::Less,
            (_, None) => return std::cmp::Ordering::Greater,
            (Some(x), Some(y)) if x != y => return x.cmp(&y),
            (Some(x), Some(_)) => (a, b) = (&a[x.len_utf8()..], &b[x.len_utf8()..]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(values: &[&str]) -> Vec<VariableOption> {
        values.iter().map(|v| VariableOption { text: (*v).into(), value: (*v).into() }).collect()
    }

    fn texts(values: &[&str], regex: &str, sort: u8) -> Vec<String> {
        options_of(options(values), regex, sort).unwrap().into_iter().map(|option| option.text).collect()
    }

    #[test]
    fn a_regex_filters_and_cuts() {
        assert_eq!(texts(&["a:1", "b:2", "a:3"], "/([^:]+):.*/", 0), ["a", "b"]);
        assert_eq!(texts(&["grafanacloud-usage", "prod"], "(?!grafanacloud-usage).+", 0), ["prod"]);
        assert_eq!(texts(&["Web", "db"], "/WEB/i", 0), ["Web"]);
        let named =
            options_of(options(&["id=7 name=x"]), "/id=(?<value>\\d+) name=(?<text>\\w+)/", 0).unwrap();
        assert_eq!(named, [VariableOption { text: "x".into(), value: "7".into() }]);
        assert!(options_of(options(&["a"]), "/(/", 0).is_err());
    }

    #[test]
    fn options_are_sorted_as_asked() {
        let given = ["b10", "B9", "a2"];
        assert_eq!(texts(&given, "", 1), ["B9", "a2", "b10"]);
        assert_eq!(texts(&given, "", 3), ["a2", "B9", "b10"]);
        assert_eq!(texts(&given, "", 6), ["B9", "b10", "a2"]);
        assert_eq!(texts(&["n10", "n9", "n010"], "", 7), ["n9", "n10", "n010"]);
    }

    #[test]
    fn custom_values_have_texts_and_commas() {
        let all: Vec<(String, String)> =
            custom_options("a, two : 2,x\\,y,,").into_iter().map(|o| (o.text, o.value)).collect();
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(all, [pair("a", "a"), pair("two", "2"), pair("x,y", "x,y")]);
    }
}
