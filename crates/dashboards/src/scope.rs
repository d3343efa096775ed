//! Texts with variables in them: `$name`, `${name}`, `${name:format}`, `[[name]]`, and the built-in ones.

use std::collections::HashMap;

use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;

use crate::dates;
use crate::interval::{Intervals, write_duration};
use crate::units::Locale;

/// A text may not grow beyond this, whatever its variables hold.
const LONGEST: usize = 1 << 20;
/// What `encodeURIComponent` leaves as it is.
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'!')
    .remove(b'~')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')');
/// What `encodeURI` leaves as it is.
const WHOLE_URI: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// A variable with what is chosen of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bound {
    pub values: Vec<String>,
    /// What a person reads for each value.
    pub texts: Vec<String>,
    /// More than one can be chosen, or all: its values are escaped for a regular expression.
    pub is_many: bool,
    /// All are chosen, and this stands for them.
    pub all_value: Option<String>,
    /// All are chosen.
    pub is_all: bool,
}

/// Where a text is going, which decides how values are written into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A PromQL expression.
    PromQl,
    /// Something a person reads.
    Text,
    /// A title, which names what is chosen as a person chose it: All, and not all of them.
    Title,
    /// An address.
    Url,
}

/// All that a text can refer to.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    pub variables: HashMap<String, Bound>,
    pub from_ms: i64,
    pub to_ms: i64,
    pub locale: Locale,
    pub dashboard_title: String,
    pub dashboard_uid: String,
}

// === impl Scope ===

impl Scope {
    /// `text` with every known variable replaced. What is not known stays as it is written.
    pub fn expand(&self, text: &str, intervals: Option<Intervals>, purpose: Purpose) -> String {
        if !text.contains(['$', '[']) {
            return text.to_owned();
        }
        let mut out = String::with_capacity(text.len() + 16);
        let mut rest = text;
        while let Some(at) = rest.find(['$', '[']) {
            out.push_str(&rest[..at]);
            rest = &rest[at..];
            let replaced = reference(rest)
                .and_then(|reference| Some((self.value(&reference, intervals, purpose)?, reference.length)));
            match replaced {
                Some((value, length)) if out.len() + value.len() <= LONGEST => {
                    out.push_str(&value);
                    rest = &rest[length..];
                }
                _ => {
                    out.push_str(&rest[..1]);
                    rest = &rest[1..];
                }
            }
        }
        out.push_str(rest);
        out
    }

    /// Names in `text` that look like variables and that nothing stands behind.
    pub fn unknown(&self, text: &str) -> Vec<String> {
        let mut names = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(['$', '[']) {
            rest = &rest[at..];
            match reference(rest) {
                Some(reference) => {
                    if self
                        .value(
                            &reference,
                            Some(Intervals { interval_ms: 1, rate_interval_ms: 1, step_ms: 1 }),
                            Purpose::Text,
                        )
                        .is_none()
                    {
                        names.push(reference.name.to_owned());
                    }
                    rest = &rest[reference.length..];
                }
                None => rest = &rest[1..],
            }
        }
        names
    }

    fn value(
        &self,
        reference: &Reference<'_>,
        intervals: Option<Intervals>,
        purpose: Purpose,
    ) -> Option<String> {
        if let Some(bound) = self.variables.get(reference.name) {
            if reference.field == Some("text") {
                return Some(bound.texts.join(" + "));
            }
            let format = reference.format.unwrap_or(match purpose {
                Purpose::PromQl => "promql",
                Purpose::Text => "glob",
                Purpose::Title => "text",
                Purpose::Url => "percentencode",
            });
            return Some(bound.write(reference.name, format));
        }
        self.built_in(reference, intervals)
    }

    fn built_in(&self, reference: &Reference<'_>, intervals: Option<Intervals>) -> Option<String> {
        let range_s = ((self.to_ms - self.from_ms) + 500).div_euclid(1000);
        let text = match reference.name {
            "__interval" => write_duration(intervals?.interval_ms),
            "__interval_ms" => intervals?.interval_ms.to_string(),
            "__rate_interval" => write_duration(intervals?.rate_interval_ms),
            "__rate_interval_ms" => intervals?.rate_interval_ms.to_string(),
            "__range" => format!("{range_s}s"),
            "__range_s" => range_s.to_string(),
            "__range_ms" => (self.to_ms - self.from_ms).to_string(),
            "__from" => self.moment(self.from_ms, reference.format),
            "__to" => self.moment(self.to_ms, reference.format),
            "__dashboard" if reference.field == Some("uid") => self.dashboard_uid.clone(),
            "__dashboard" => self.dashboard_title.clone(),
            "__org" if reference.field == Some("name") => "Main Org.".to_owned(),
            "__org" => "1".to_owned(),
            "__user" => "admin".to_owned(),
            "__url_time_range" => format!("from={}&to={}", self.from_ms, self.to_ms),
            "__all_variables" => self.url_variables(),
            _ => return None,
        };
        Some(text)
    }

    fn moment(&self, ms: i64, format: Option<&str>) -> String {
        match format.map(|format| format.strip_prefix("date").unwrap_or(format)) {
            None => ms.to_string(),
            Some("" | ":iso") => dates::pattern(ms, "YYYY-MM-DD[T]HH:mm:ss.SSS[Z]", Locale::default()),
            Some(":seconds") => ms.div_euclid(1000).to_string(),
            Some(pattern) => dates::pattern(ms, pattern.trim_start_matches(':'), self.locale),
        }
    }

    /// `var-a=1&var-b=2`, in the order of names.
    pub fn url_variables(&self) -> String {
        let mut names: Vec<&String> = self.variables.keys().collect();
        names.sort();
        let pairs = names.into_iter().map(|name| self.variables[name].write(name, "queryparam"));
        pairs.collect::<Vec<_>>().join("&")
    }
}

// === impl Bound ===

impl Bound {
    /// One value, which a person reads as it is.
    pub fn one(value: impl Into<String>) -> Bound {
        let value = value.into();
        Bound { texts: vec![value.clone()], values: vec![value], ..Bound::default() }
    }

    fn write(&self, name: &str, format: &str) -> String {
        let joined = |separator: &str, one: &dyn Fn(&str) -> String| {
            self.values.iter().map(|value| one(value)).collect::<Vec<_>>().join(separator)
        };
        // A value for all is written as its author wrote it, except where it is a parameter.
        if self.is_all
            && let Some(all) = &self.all_value
            && !matches!(format, "text" | "queryparam")
        {
            return if format == "percentencode" { encode(all, COMPONENT) } else { all.clone() };
        }
        match format {
            "promql" if !self.is_many => joined(",", &escape_string),
            "promql" => match self.values.as_slice() {
                [one] => escape_regex_in_string(one),
                _ => format!("({})", joined("|", &escape_regex_in_string)),
            },
            "raw" => joined(",", &str::to_owned),
            "csv" => joined(",", &str::to_owned),
            "pipe" => joined("|", &str::to_owned),
            "regex" => match self.values.as_slice() {
                [one] => escape_regex(one),
                _ => format!("({})", joined("|", &escape_regex)),
            },
            "json" => match self.values.as_slice() {
                [one] if !self.is_many => json!(one).to_string(),
                _ => json!(self.values).to_string(),
            },
            "lucene" => match self.values.as_slice() {
                [] => "__empty__".to_owned(),
                [one] => escape_lucene(one),
                _ => format!("({})", joined(" OR ", &|value| format!("\"{}\"", escape_lucene(value)))),
            },
            "text" => self.texts.join(" + "),
            "queryparam" if self.is_all => format!("var-{}=$__all", encode(name, COMPONENT)),
            "queryparam" => {
                joined("&", &|value| format!("var-{}={}", encode(name, COMPONENT), encode(value, COMPONENT)))
            }
            "percentencode" => match self.values.as_slice() {
                [one] => encode(one, COMPONENT),
                _ => encode(&format!("{{{}}}", self.values.join(",")), COMPONENT),
            },
            "uriencode" => match self.values.as_slice() {
                [one] => encode(one, WHOLE_URI),
                _ => encode(&format!("{{{}}}", self.values.join(",")), WHOLE_URI),
            },
            "singlequote" => joined(",", &|value| format!("'{}'", value.replace('\'', "\\'"))),
            "doublequote" => joined(",", &|value| format!("\"{}\"", value.replace('"', "\\\""))),
            "sqlstring" => joined(",", &|value| format!("'{}'", value.replace('\'', "''"))),
            "distributed" => {
                let mut values = self.values.iter();
                let first = values.next().cloned().unwrap_or_default();
                values.fold(first, |out, value| format!("{out},{name}={value}"))
            }
            "html" => joined(", ", &escape_html),
            // Also what an unknown format is.
            _ => match self.values.as_slice() {
                [one] => one.clone(),
                _ => format!("{{{}}}", self.values.join(",")),
            },
        }
    }
}

/// A reference to a variable at the start of a text.
struct Reference<'a> {
    name: &'a str,
    field: Option<&'a str>,
    format: Option<&'a str>,
    /// Bytes it takes.
    length: usize,
}

fn is_word(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphanumeric()
}

/// Numbers are none: `$1` and `${1}` belong to label_replace.
fn is_name(text: &str) -> bool {
    text.bytes().all(is_word) && text.bytes().any(|byte| !byte.is_ascii_digit())
}

fn reference(text: &str) -> Option<Reference<'_>> {
    if let Some(rest) = text.strip_prefix("[[") {
        let inner = &rest[..rest.find("]]")?];
        let (name, format) =
            inner.split_once(':').map_or((inner, None), |(name, format)| (name, Some(format)));
        return is_name(name).then_some(Reference { name, field: None, format, length: inner.len() + 4 });
    }
    let rest = text.strip_prefix('$')?;
    if let Some(rest) = rest.strip_prefix('{') {
        let inner = &rest[..rest.find('}')?];
        let (path, format) =
            inner.split_once(':').map_or((inner, None), |(path, format)| (path, Some(format)));
        let (name, field) = path.split_once('.').map_or((path, None), |(name, field)| (name, Some(field)));
        return is_name(name).then_some(Reference { name, field, format, length: inner.len() + 3 });
    }
    let length = rest.bytes().take_while(|byte| is_word(*byte)).count();
    is_name(&rest[..length]).then_some(Reference {
        name: &rest[..length],
        field: None,
        format: None,
        length: length + 1,
    })
}

fn escape_string(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"")
}

fn is_special(c: char) -> bool {
    matches!(c, '\\' | '^' | '$' | '*' | '+' | '?' | '.' | '(' | ')' | '|' | '{' | '}' | '[' | ']')
}

/// For a regular expression inside a string literal: every backslash is written twice.
fn escape_regex_in_string(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\\\\\"),
            '"' => out.push_str("\\\""),
            c if is_special(c) => {
                out.push_str("\\\\");
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}

fn escape_regex(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        if is_special(c) || c == '/' {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

fn escape_lucene(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        if "+-=&|><!(){}[]^\"~*?:\\/ ".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

fn escape_html(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

fn encode(text: &str, set: &'static AsciiSet) -> String {
    utf8_percent_encode(text, set).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope() -> Scope {
        let many = |values: &[&str]| Bound {
            values: values.iter().map(|v| (*v).to_owned()).collect(),
            texts: values.iter().map(|v| v.to_uppercase()).collect(),
            is_many: true,
            ..Bound::default()
        };
        let mut scope = Scope { from_ms: 0, to_ms: 3_600_000, ..Scope::default() };
        scope.variables.insert("one".into(), Bound::one("a\\b\"c"));
        scope.variables.insert("pods".into(), many(&["web-1.x", "db (2)"]));
        scope.variables.insert("pod".into(), many(&["web-1.x"]));
        let all = Bound { is_all: true, all_value: Some(".+".into()), ..many(&["a", "b"]) };
        scope.variables.insert("all".into(), all);
        scope
    }

    #[test]
    fn promql_gets_escaped_values() {
        let scope = scope();
        let intervals = Intervals { interval_ms: 15_000, rate_interval_ms: 60_000, step_ms: 15_000 };
        for (text, wanted) in [
            ("up{a=\"$one\"}", r#"up{a="a\\b\"c"}"#),
            ("up{a=~\"$pods\"}", r#"up{a=~"(web-1\\.x|db \\(2\\))"}"#),
            ("up{a=~\"[[pod]]\"}", r#"up{a=~"web-1\\.x"}"#),
            ("up{a=~\"${all}\"}", "up{a=~\".+\"}"),
            ("rate(x[$__rate_interval]) + $__interval_ms", "rate(x[60s]) + 15000"),
            ("rate(x[${__range}])", "rate(x[3600s])"),
            (
                "label_replace(x, \"a\", \"$1\", \"b\", \"(.*)\")",
                "label_replace(x, \"a\", \"$1\", \"b\", \"(.*)\")",
            ),
            ("x[5m:$nothing] $ ${1}xx", "x[5m:$nothing] $ ${1}xx"),
            ("${pods:pipe} ${pods:csv} ${pods:text}", "web-1.x|db (2) web-1.x,db (2) WEB-1.X + DB (2)"),
        ] {
            let wanted = wanted.replace("60s", "1m");
            assert_eq!(scope.expand(text, Some(intervals), Purpose::PromQl), wanted);
        }
        assert_eq!(scope.unknown("$one $nothing ${gone} $__interval"), ["nothing", "gone"]);
    }

    #[test]
    fn every_format_is_written() {
        let scope = scope();
        for (format, wanted) in [
            ("json", r#"["web-1.x","db (2)"]"#),
            ("regex", r"(web-1\.x|db \(2\))"),
            ("queryparam", "var-pods=web-1.x&var-pods=db%20(2)"),
            ("singlequote", "'web-1.x','db (2)'"),
            ("sqlstring", "'web-1.x','db (2)'"),
            ("distributed", "web-1.x,pods=db (2)"),
            ("glob", "{web-1.x,db (2)}"),
            ("lucene", r#"("web\-1.x" OR "db\ \(2\)")"#),
            ("percentencode", "%7Bweb-1.x%2Cdb%20(2)%7D"),
        ] {
            assert_eq!(scope.expand(&format!("${{pods:{format}}}"), None, Purpose::Text), wanted, "{format}");
        }
        assert_eq!(
            scope.expand("$pods ${pods:csv}", None, Purpose::Title),
            "WEB-1.X + DB (2) web-1.x,db (2)"
        );
        assert_eq!(scope.expand("${__from:date:YYYY-MM}", None, Purpose::Text), "1970-01");
        assert_eq!(scope.expand("${__to:date}", None, Purpose::Text), "1970-01-01T01:00:00.000Z");
    }

    proptest::proptest! {
        #[test]
        fn any_text_can_be_expanded(text in ".{0,60}", tail in "[$\\[{}a-z:é]{0,30}") {
            let scope = scope();
            scope.expand(&text, None, Purpose::PromQl);
            scope.expand(&tail, None, Purpose::Url);
            scope.unknown(&tail);
        }
    }
}
