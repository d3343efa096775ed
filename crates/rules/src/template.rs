//! Templates of alert texts: Go's language with Prometheus' functions.

use std::sync::Arc;

use gantry_clock::{format_go_duration, parse_prometheus_duration};
use gantry_gotemplate::{
    Function, Functions, Limits, Member, MissingKey, Object, Template, Value, url_query,
};
use gantry_prom_model::{Labels, compile_go_regex_search, parse_float};

use crate::humanize;
use crate::links::{graph_link, path_of, table_link};

/// Variables that every text has.
const DEFINITIONS: &str = "{{$labels := .Labels}}{{$externalLabels := .ExternalLabels}}{{$externalURL := .ExternalURL}}{{$value := .Value}}";
/// A text may not become longer.
const LIMITS: Limits = Limits { output_bytes: 1 << 20, steps: 200_000, depth: 100 };

/// One element of what `query` gives.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(crate) labels: Labels,
    pub(crate) value: f64,
}

/// Evaluates a query of a template.
pub(crate) type Query = Arc<dyn Fn(&str) -> Result<Vec<Sample>, String> + Send + Sync>;

/// What the texts of one alert are made of.
#[derive(Clone)]
pub(crate) struct Expander {
    pub(crate) alert: String,
    pub(crate) external_labels: Value,
    pub(crate) external_url: Arc<str>,
    pub(crate) now_ms: i64,
    pub(crate) query: Query,
}

/// Checks that a text is a template.
///
/// # Errors
/// What is wrong with it, in the shape of Go's message.
pub(crate) fn check(alert: &str, text: &str) -> Result<(), String> {
    let nothing: Query = Arc::new(|_| Ok(Vec::new()));
    parse(alert, text, functions(&nothing, "", 0)).map(drop)
}

fn parse(alert: &str, text: &str, functions: Functions) -> Result<Template, String> {
    Template::new(&format!("__alert_{alert}"))
        .functions(functions)
        .missing_key(MissingKey::Zero)
        .limits(LIMITS)
        .parse(&format!("{DEFINITIONS}{text}"))
        .map_err(|error| error.to_string())
}

/// A label set as a template sees it.
pub(crate) fn label_map(labels: &Labels) -> Value {
    Value::string_map(labels.iter())
}

impl Expander {
    /// The text that a template makes for a result.
    ///
    /// # Errors
    /// When it is no template or cannot be executed.
    pub(crate) fn expand(&self, text: &str, labels: &Value, value: &Value) -> Result<String, String> {
        if !text.contains("{{") {
            return Ok(text.to_owned());
        }
        let template = parse(&self.alert, text, functions(&self.query, &self.external_url, self.now_ms))
            .map_err(|error| format!("error parsing template __alert_{}: {error}", self.alert))?;
        let data = Data {
            labels: labels.clone(),
            external_labels: self.external_labels.clone(),
            external_url: self.external_url.clone(),
            value: value.clone(),
        };
        template
            .execute(&Value::Object(Arc::new(data)))
            .map_err(|error| format!("error executing template __alert_{}: {error}", self.alert))
    }
}

/// `.` of an alert's template.
struct Data {
    labels: Value,
    external_labels: Value,
    external_url: Arc<str>,
    value: Value,
}

impl Object for Data {
    fn type_name(&self) -> &str {
        "template.AlertData"
    }

    fn member(&self, name: &str) -> Option<Member> {
        match name {
            "Labels" => Some(Member::Field(self.labels.clone())),
            "ExternalLabels" => Some(Member::Field(self.external_labels.clone())),
            "ExternalURL" => Some(Member::Field(Value::String(self.external_url.clone()))),
            "Value" => Some(Member::Field(self.value.clone())),
            _ => None,
        }
    }

    fn text(&self) -> String {
        String::from("{alert data}")
    }
}

/// A sample as a template sees it.
struct SampleObject {
    labels: Value,
    value: f64,
}

impl Object for SampleObject {
    fn type_name(&self) -> &str {
        "*template.sample"
    }

    fn member(&self, name: &str) -> Option<Member> {
        match name {
            "Labels" => Some(Member::Field(self.labels.clone())),
            "Value" => Some(Member::Field(Value::Float(self.value))),
            _ => None,
        }
    }

    fn text(&self) -> String {
        gantry_gotemplate::printf("&{%v %v}", &[self.labels.clone(), Value::Float(self.value)])
    }
}

/// What `toDuration` and `toTime` give.
struct Quantity {
    type_name: &'static str,
    seconds: f64,
    text: String,
}

/// No name of Go's begins with a lower-case letter where a template can see it.
const SECONDS_MEMBER: &str = "seconds";

impl Object for Quantity {
    fn type_name(&self) -> &str {
        self.type_name
    }

    fn member(&self, name: &str) -> Option<Member> {
        let seconds = self.seconds;
        match (self.type_name, name) {
            (_, SECONDS_MEMBER) => Some(Member::Field(Value::Float(seconds))),
            ("*time.Duration", "Seconds") => {
                Some(Member::Method(Function::new(0, move |_| Ok(Value::Float(seconds)))))
            }
            ("*time.Time", "Unix") => {
                Some(Member::Method(Function::new(0, move |_| Ok(Value::Int(seconds.floor() as i64)))))
            }
            (_, "String") => {
                let text = self.text.clone();
                Some(Member::Method(Function::new(0, move |_| Ok(text.as_str().into()))))
            }
            _ => None,
        }
    }

    fn text(&self) -> String {
        self.text.clone()
    }
}

fn text(value: &Value) -> Result<&str, String> {
    value.as_str().ok_or_else(|| format!("wrong type for value; expected string; got {}", value.type_name()))
}

/// A number, or a text that is one.
fn number(value: &Value) -> Result<f64, String> {
    match value {
        Value::Int(_) | Value::Float(_) => Ok(value.as_number().unwrap_or(f64::NAN)),
        Value::String(text) => parse_float(text).ok_or_else(|| format!("{text:?} is not a number")),
        Value::Object(object) => match object.member(SECONDS_MEMBER) {
            Some(Member::Field(Value::Float(seconds))) => Ok(seconds),
            _ => Err(format!("can't convert {} to float", value.type_name())),
        },
        other => Err(format!("can't convert {} to float", other.type_name())),
    }
}

fn member(value: &Value, name: &str) -> Result<Value, String> {
    if let Value::Object(object) = value
        && let Some(Member::Field(field)) = object.member(name)
    {
        return Ok(field);
    }
    Err(format!("wrong type for value; expected *template.sample; got {}", value.type_name()))
}

fn label_of(name: &str, sample: &Value) -> Result<String, String> {
    match member(sample, "Labels")? {
        Value::Map(map) => Ok(map.entries.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()),
        _ => Ok(String::new()),
    }
}

fn samples(value: &Value) -> Result<Arc<[Value]>, String> {
    match value {
        Value::List(items) => Ok(items.clone()),
        other => {
            Err(format!("wrong type for value; expected template.queryResult; got {}", other.type_name()))
        }
    }
}

fn function<R: Into<Value>>(
    arguments: usize,
    call: impl Fn(&[Value]) -> Result<R, String> + Send + Sync + 'static,
) -> Function {
    Function::new(arguments, move |args| call(args).map(Into::into))
}

fn functions(query: &Query, external_url: &str, now_ms: i64) -> Functions {
    let mut all = Functions::new();
    let mut add = |name: &str, function: Function| {
        all.insert(name.to_owned(), function);
    };
    let query = query.clone();
    add(
        "query",
        Function::new(1, move |args| {
            let found = query(text(&args[0])?)?;
            Ok(Value::list(found.into_iter().map(|sample| {
                Value::Object(Arc::new(SampleObject {
                    labels: label_map(&sample.labels),
                    value: sample.value,
                }))
            })))
        }),
    );
    add(
        "first",
        Function::new(1, |args| {
            let first = samples(&args[0])?.first().cloned();
            first.ok_or_else(|| "first() called on vector with no elements".to_owned())
        }),
    );
    add("label", function(2, |args| label_of(text(&args[0])?, &args[1])));
    add("value", function(1, |args| member(&args[0], "Value")));
    add("strvalue", function(1, |args| label_of("__value__", &args[0])));
    add(
        "sortByLabel",
        Function::new(2, |args| {
            let name = text(&args[0])?;
            let items = samples(&args[1])?;
            let mut keyed = Vec::with_capacity(items.len());
            for item in items.iter() {
                keyed.push((label_of(name, item)?, item.clone()));
            }
            keyed.sort_by(|left, right| left.0.cmp(&right.0));
            Ok(Value::list(keyed.into_iter().map(|(_, item)| item)))
        }),
    );
    add(
        "args",
        Function::variadic(0, |args| {
            let named = args.iter().enumerate().map(|(index, arg)| (format!("arg{index}"), arg.clone()));
            Ok(Value::map(named))
        }),
    );
    add_texts(&mut add);
    add_numbers(&mut add, now_ms);
    add("graphLink", function(1, |args| Ok(graph_link(text(&args[0])?))));
    add("tableLink", function(1, |args| Ok(table_link(text(&args[0])?))));
    let (url, path) = (external_url.to_owned(), path_of(external_url).to_owned());
    add("externalURL", function(0, move |_| Ok(url.clone())));
    add("pathPrefix", function(0, move |_| Ok(path.clone())));
    all
}

fn add_texts(add: &mut impl FnMut(&str, Function)) {
    add(
        "reReplaceAll",
        function(3, |args| {
            let regex = compile_go_regex_search(text(&args[0])?)?;
            Ok(regex.replace_all(text(&args[2])?, text(&args[1])?).into_owned())
        }),
    );
    add("match", function(2, |args| Ok(compile_go_regex_search(text(&args[0])?)?.is_match(text(&args[1])?))));
    add("safeHtml", function(1, |args| Ok(text(&args[0])?.to_owned())));
    add("title", function(1, |args| Ok(title(text(&args[0])?))));
    add("toUpper", function(1, |args| Ok(text(&args[0])?.to_uppercase())));
    add("toLower", function(1, |args| Ok(text(&args[0])?.to_lowercase())));
    add("urlQueryEscape", function(1, |args| Ok(url_query(text(&args[0])?))));
    add("stripPort", function(1, |args| Ok(strip_port(text(&args[0])?))));
    add("stripDomain", function(1, |args| Ok(strip_domain(text(&args[0])?))));
}

fn add_numbers(add: &mut impl FnMut(&str, Function), now_ms: i64) {
    add("humanize", function(1, |args| Ok(humanize::humanize(number(&args[0])?))));
    add("humanize1024", function(1, |args| Ok(humanize::humanize_1024(number(&args[0])?))));
    add("humanizeDuration", function(1, |args| Ok(humanize::humanize_duration(number(&args[0])?))));
    add("humanizePercentage", function(1, |args| Ok(humanize::humanize_percentage(number(&args[0])?))));
    add("humanizeTimestamp", function(1, |args| humanize::humanize_timestamp(number(&args[0])?)));
    add(
        "toTime",
        Function::new(1, |args| {
            let seconds = number(&args[0])?;
            let text = humanize::humanize_timestamp(seconds)?;
            Ok(Value::Object(Arc::new(Quantity { type_name: "*time.Time", seconds, text })))
        }),
    );
    add(
        "toDuration",
        Function::new(1, |args| {
            let seconds = number(&args[0])?;
            let nanos = seconds * 1e9;
            if !nanos.is_finite() || nanos.abs() > i64::MAX as f64 {
                return Err(format!(
                    "{seconds} cannot be represented as a duration since it overflows int64"
                ));
            }
            let text = format_go_duration(nanos as i64);
            Ok(Value::Object(Arc::new(Quantity { type_name: "*time.Duration", seconds, text })))
        }),
    );
    add("now", function(0, move |_| Ok(now_ms as f64 / 1000.0)));
    add(
        "parseDuration",
        function(1, |args| {
            let ms = parse_prometheus_duration(text(&args[0])?).map_err(|error| error.to_string())?;
            Ok(ms as f64 / 1000.0)
        }),
    );
}

/// The first letter of each word in upper case.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_word = false;
    for c in text.chars() {
        if in_word {
            out.push(c);
        } else {
            out.extend(c.to_uppercase());
        }
        in_word = c.is_alphanumeric() || c == '_' || c == '\'';
    }
    out
}

/// Host and port of `host:port` or `[host]:port`.
fn split_host_port(text: &str) -> Option<(&str, &str)> {
    let (host, port) = text.rsplit_once(':')?;
    match host.strip_prefix('[') {
        Some(inner) => Some((inner.strip_suffix(']')?, port)),
        None if host.contains(':') => None,
        None => Some((host, port)),
    }
}

fn strip_port(text: &str) -> String {
    split_host_port(text).map_or(text, |(host, _)| host).to_owned()
}

fn strip_domain(text: &str) -> String {
    let (host, port) = split_host_port(text).unwrap_or((text, ""));
    if host.parse::<std::net::IpAddr>().is_ok() {
        return text.to_owned();
    }
    let first = host.split('.').next().unwrap_or(host);
    if port.is_empty() { first.to_owned() } else { format!("{first}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(text: &str) -> Result<String, String> {
        let query: Query = Arc::new(|query| match query {
            "broken" => Err("no such series".into()),
            _ => Ok(["b", "a"]
                .iter()
                .zip([21.0, 11.0])
                .map(|(instance, value)| Sample {
                    labels: Labels::from_pairs([("__name__", "metric"), ("instance", *instance)]),
                    value,
                })
                .collect()),
        });
        let expander = Expander {
            alert: "test".into(),
            external_labels: label_map(&Labels::from_pairs([("cluster", "c1")])),
            external_url: "http://prom.example:9090/base".into(),
            now_ms: 1_500,
            query,
        };
        let labels = label_map(&Labels::from_pairs([("job", "api"), ("instance", "h.example.com:80")]));
        expander.expand(text, &labels, &Value::Float(1_234_567.0))
    }

    #[test]
    fn what_alert_texts_are_made_of() {
        for (text, expected) in [
            ("plain", "plain"),
            ("{{ $labels.job }} {{ $labels.none }}|{{ .Labels.job }}", "api |api"),
            ("{{ $externalLabels.cluster }} {{ $externalURL }}", "c1 http://prom.example:9090/base"),
            ("{{ $value | humanize }} {{ humanize1024 1048576.0 }}", "1.235M 1Mi"),
            ("{{ humanizeDuration \"3661\" }} {{ humanizePercentage 0.5 }}", "1h 1m 1s 50%"),
            ("{{ humanizeTimestamp 1.5 }}", "1970-01-01 00:00:01.5 +0000 UTC"),
            ("{{ query \"metric\" | first | value }}", "21"),
            ("{{ query \"metric\" | first | label \"instance\" }}", "b"),
            (
                "{{ range query \"metric\" | sortByLabel \"instance\" }}{{ .Labels.instance }}={{ .Value }};{{ end }}",
                "a=11;b=21;",
            ),
            ("{{ with args 1 \"two\" }}{{ .arg1 }}{{ end }}", "two"),
            ("{{ reReplaceAll \"(a)p\" \"$1-\" \"api ap\" }}", "a-i a-"),
            (
                "{{ match \"a.*c\" \"xabcx\" }} {{ toUpper \"a\" }}{{ toLower \"B\" }} {{ title \"one two\" }}",
                "true Ab One Two",
            ),
            (
                "{{ stripPort $labels.instance }} {{ stripDomain $labels.instance }} {{ stripDomain \"1.2.3.4:80\" }}",
                "h.example.com h:80 1.2.3.4:80",
            ),
            (
                "{{ tableLink \"up == 0\" }} {{ graphLink \"up\" }}",
                "/graph?g0.expr=up+%3D%3D+0&g0.tab=1 /graph?g0.expr=up&g0.tab=0",
            ),
            ("{{ externalURL }} {{ pathPrefix }}", "http://prom.example:9090/base /base"),
            (
                "{{ parseDuration \"1m30s\" }} {{ toDuration 90 }} {{ toDuration 90 | humanizeDuration }}",
                "90 1m30s 1m 30s",
            ),
            ("{{ now }} {{ toTime 0 }}", "1.5 1970-01-01 00:00:00 +0000 UTC"),
            (
                "{{ printf \"%.1f\" $value }} {{ urlQueryEscape \"a b\" }} {{ safeHtml \"<b>\" }}",
                "1234567.0 a+b <b>",
            ),
        ] {
            assert_eq!(expand(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn mistakes_are_errors() {
        for (text, part) in [
            ("{{ $label.foo }}", "undefined variable"),
            ("{{ nothing 1 }}", "function \"nothing\" not defined"),
            ("{{ query \"broken\" }}", "no such series"),
            ("{{ humanize \"x\" }}", "not a number"),
            ("{{ query \"metric\" | value }}", "expected *template.sample"),
            ("{{ .Nothing }}", "Nothing"),
            ("{{ reReplaceAll \"(\" \"\" \"\" }}", "reReplaceAll"),
        ] {
            let error = expand(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn no_text_grows_without_bound() {
        let grown = expand("{{ define \"x\" }}{{ template \"x\" }}{{ end }}{{ template \"x\" }}");
        assert!(grown.is_err());
    }
}
