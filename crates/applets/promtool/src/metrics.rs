//! `check metrics`: exposition text on standard input, checked for consistency and for what names should be like.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Result, Write};

use gantry_prom_model::{
    BUCKET_LABEL, Entry, ExpositionFormat, ExpositionParser, LabelsBuilder, METRIC_NAME, MetricKind,
    QUANTILE_LABEL,
};

/// More than this is not read.
const MAX_INPUT_BYTES: u64 = 256 << 20;
const FAILURE: u8 = 1;
const LINT_FAILURE: u8 = 3;

/// Units with what they should be given in.
const UNITS: [(&str, &str); 21] = [
    ("milliseconds", "seconds"),
    ("microseconds", "seconds"),
    ("nanoseconds", "seconds"),
    ("minutes", "seconds"),
    ("hours", "seconds"),
    ("days", "seconds"),
    ("weeks", "seconds"),
    ("kelvins", "celsius"),
    ("kelvin", "celsius"),
    ("fahrenheit", "celsius"),
    ("rankine", "celsius"),
    ("inches", "meters"),
    ("yards", "meters"),
    ("miles", "meters"),
    ("bits", "bytes"),
    ("calories", "joules"),
    ("pounds", "grams"),
    ("ounces", "grams"),
    ("percent", "ratio"),
    ("decibels", "bels"),
    ("kilobytes", "bytes"),
];

/// Endings that are too short to be understood.
const ABBREVIATIONS: [&str; 13] = ["s", "ms", "us", "ns", "sec", "b", "kb", "mb", "gb", "tb", "pb", "m", "h"];

/// What is known of a metric after reading.
#[derive(Default)]
struct Metric {
    kind: MetricKind,
    has_help: bool,
    has_kind: bool,
    labels: BTreeSet<String>,
}

/// Checks what `input` has and gives the exit code: 0, 1 when it cannot be read, 3 when names are not as they should be.
///
/// # Errors
/// When the outcome cannot be written.
pub fn check_metrics(input: &mut dyn Read, err: &mut dyn Write) -> Result<u8> {
    let mut text = String::new();
    if let Err(error) = input.take(MAX_INPUT_BYTES).read_to_string(&mut text) {
        writeln!(err, "error while linting: {error}")?;
        return Ok(FAILURE);
    }
    match read(&text) {
        Ok(metrics) => {
            let mut code = 0;
            for (name, metric) in &metrics {
                for problem in lint(name, metric) {
                    writeln!(err, "{name} {problem}")?;
                    code = LINT_FAILURE;
                }
            }
            Ok(code)
        }
        Err(reason) => {
            writeln!(err, "error while linting: {reason}")?;
            Ok(FAILURE)
        }
    }
}

/// The metric that a series belongs to: a histogram's `_bucket` to the histogram.
fn family<'n>(metrics: &BTreeMap<String, Metric>, name: &'n str) -> &'n str {
    for suffix in ["_bucket", "_count", "_sum"] {
        let Some(base) = name.strip_suffix(suffix) else { continue };
        let is_compound = metrics
            .get(base)
            .is_some_and(|metric| matches!(metric.kind, MetricKind::Histogram | MetricKind::Summary));
        if is_compound {
            return base;
        }
    }
    name
}

fn read(text: &str) -> std::result::Result<BTreeMap<String, Metric>, String> {
    let mut metrics: BTreeMap<String, Metric> = BTreeMap::new();
    let mut parser = ExpositionParser::new(text, ExpositionFormat::Classic);
    let mut labels = LabelsBuilder::new();
    while let Some(entry) = parser.next_entry().map_err(|error| error.to_string())? {
        match entry {
            Entry::Help { name, .. } => metrics.entry(name.into_owned()).or_default().has_help = true,
            Entry::Type { name, kind } => {
                let metric = metrics.entry(name.into_owned()).or_default();
                metric.kind = kind;
                metric.has_kind = true;
            }
            Entry::Sample(_) => {
                parser.read_labels(&mut labels);
                let name = labels.get(METRIC_NAME).unwrap_or("");
                let base = family(&metrics, name).to_owned();
                let own =
                    labels.iter().map(|(label, _)| label.to_owned()).filter(|label| label != METRIC_NAME);
                metrics.entry(base).or_default().labels.extend(own);
            }
            Entry::Unit { .. } | Entry::Comment(_) => {}
        }
    }
    Ok(metrics)
}

fn is_camel_case(name: &str) -> bool {
    name.as_bytes().windows(2).any(|pair| pair[0].is_ascii_lowercase() && pair[1].is_ascii_uppercase())
}

fn lint(name: &str, metric: &Metric) -> Vec<String> {
    let mut problems = Vec::new();
    if !metric.has_help {
        problems.push("no help text".into());
    }
    let parts: Vec<&str> = name.split('_').collect();
    if let Some((unit, base)) = UNITS.iter().find(|(unit, _)| parts.contains(unit)) {
        problems.push(format!("use base unit {base:?} instead of {unit:?}"));
    }
    let is_total = name.ends_with("_total");
    if metric.kind == MetricKind::Counter && !is_total {
        problems.push("counter metrics should have \"_total\" suffix".into());
    }
    if metric.has_kind && metric.kind != MetricKind::Counter && is_total {
        problems.push("non-counter metrics should not have \"_total\" suffix".into());
    }
    if metric.has_kind && metric.kind != MetricKind::Unknown {
        reserved(name, metric, &mut problems);
        let lower = name.to_ascii_lowercase();
        for kind in ["counter", "gauge", "histogram", "summary"] {
            if lower.ends_with(&format!("_{kind}")) || lower.contains(&format!("_{kind}_")) {
                problems.push(format!("metric name should not include type '{kind}'"));
            }
        }
    }
    if name.contains(':') {
        problems.push("metric names should not contain ':'".into());
    }
    if is_camel_case(name) {
        problems.push("metric names should be written in 'snake_case' not 'camelCase'".into());
    }
    if metric.labels.iter().any(|label| is_camel_case(label)) {
        problems.push("label names should be written in 'snake_case' not 'camelCase'".into());
    }
    if parts.iter().skip(1).any(|part| ABBREVIATIONS.contains(&part.to_ascii_lowercase().as_str())) {
        problems.push("metric names should not contain abbreviated units".into());
    }
    problems
}

/// Endings and labels that only some types may have.
fn reserved(name: &str, metric: &Metric, problems: &mut Vec<String>) {
    let is_histogram = metric.kind == MetricKind::Histogram;
    let is_compound = is_histogram || metric.kind == MetricKind::Summary;
    for (suffix, is_allowed, kinds) in [
        ("_bucket", is_histogram, "non-histogram"),
        ("_count", is_compound, "non-histogram and non-summary"),
        ("_sum", is_compound, "non-histogram and non-summary"),
    ] {
        if !is_allowed && name.ends_with(suffix) {
            problems.push(format!("{kinds} metrics should not have \"{suffix}\" suffix"));
        }
    }
    if !is_histogram && metric.labels.contains(BUCKET_LABEL) {
        problems.push("non-histogram metrics should not have \"le\" label".into());
    }
    if metric.kind != MetricKind::Summary && metric.labels.contains(QUANTILE_LABEL) {
        problems.push("non-summary metrics should not have \"quantile\" label".into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> (u8, String) {
        let mut err = Vec::new();
        let code = check_metrics(&mut text.as_bytes(), &mut err).expect("it is written");
        (code, String::from_utf8(err).expect("text"))
    }

    #[test]
    fn good_names_pass() {
        let text = "# HELP http_requests_total All requests.\n# TYPE http_requests_total counter\nhttp_requests_total{code=\"200\"} 1\n# HELP latency_seconds How long.\n# TYPE latency_seconds histogram\nlatency_seconds_bucket{le=\"+Inf\"} 1\nlatency_seconds_sum 1\nlatency_seconds_count 1\n";
        assert_eq!(check(text), (0, String::new()));
    }

    #[test]
    fn every_problem_is_named() {
        let text = "# TYPE requests counter\nrequests 1\n# HELP wait_milliseconds W.\n# TYPE wait_milliseconds gauge\nwait_milliseconds{someLabel=\"x\",le=\"1\"} 1\n# HELP size_mb S.\n# TYPE size_mb gauge\nsize_mb 1\n# HELP x_total X.\n# TYPE x_total gauge\nx_total 1\n";
        let (code, problems) = check(text);
        assert_eq!(code, 3);
        for problem in [
            "requests no help text",
            "requests counter metrics should have \"_total\" suffix",
            "wait_milliseconds use base unit \"seconds\" instead of \"milliseconds\"",
            "wait_milliseconds label names should be written in 'snake_case' not 'camelCase'",
            "wait_milliseconds non-histogram metrics should not have \"le\" label",
            "size_mb metric names should not contain abbreviated units",
            "x_total non-counter metrics should not have \"_total\" suffix",
        ] {
            assert!(problems.contains(problem), "{problem} is not in {problems}");
        }
    }

    #[test]
    fn what_is_no_exposition_fails() {
        let (code, problems) = check("a{b=\"c} 1\n");
        assert_eq!(code, 1);
        assert!(problems.starts_with("error while linting: "), "{problems}");
    }
}
