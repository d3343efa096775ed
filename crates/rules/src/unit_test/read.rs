//! Unit test files, read strictly.

use std::collections::BTreeMap;

use gantry_clock::parse_rfc3339;
use gantry_prom_model::parse_float;
use gantry_yaml::Node;

use crate::fields::{Fields, FileError, get};

const DEFAULT_INTERVAL_MS: i64 = 60_000;

/// A unit test file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct UnitTestFile {
    /// As written: relative to the file, with wildcards.
    pub rule_files: Vec<String>,
    pub(super) evaluation_interval_ms: i64,
    pub(super) group_eval_order: Vec<String>,
    pub(super) fuzzy_compare: bool,
    pub(super) tests: Vec<TestGroup>,
}

/// One test.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct TestGroup {
    pub(super) name: String,
    /// Between two samples of the input; the evaluation interval when absent.
    pub(super) interval_ms: Option<i64>,
    pub(super) start_ms: i64,
    pub(super) input_series: Vec<InputText>,
    pub(super) alert_tests: Vec<AlertTest>,
    pub(super) expr_tests: Vec<ExprTest>,
    pub(super) external_labels: BTreeMap<String, String>,
    pub(super) external_url: String,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct InputText {
    pub(super) series: String,
    pub(super) values: String,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct AlertTest {
    pub(super) at_ms: i64,
    pub(super) alert: String,
    pub(super) expected: Vec<ExpectedAlert>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct ExpectedAlert {
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct ExprTest {
    pub(super) at_ms: i64,
    pub(super) expr: String,
    pub(super) expected: Vec<ExpectedSample>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct ExpectedSample {
    pub(super) labels: String,
    pub(super) value: f64,
    pub(super) histogram: Option<String>,
}

impl TestGroup {
    /// The last time after the start that anything is asked for.
    pub(super) fn last_time_ms(&self) -> i64 {
        let alerts = self.alert_tests.iter().map(|test| test.at_ms);
        alerts.chain(self.expr_tests.iter().map(|test| test.at_ms)).max().unwrap_or(0)
    }
}

/// Reads a unit test file's text; `file` is its name in messages.
///
/// # Errors
/// Every mistake in it, each with its place.
pub fn read_unit_test_file(file: &str, text: &str) -> Result<UnitTestFile, Vec<FileError>> {
    let mut fields = Fields::new(file, false);
    let documents = fields.documents(text);
    let mut read = UnitTestFile { evaluation_interval_ms: DEFAULT_INTERVAL_MS, ..UnitTestFile::default() };
    if let Some(document) = documents.first() {
        let known = ["rule_files", "evaluation_interval", "group_eval_order", "tests", "fuzzy_compare"];
        let entries = fields.mapping(document, &known);
        let files = fields.list(get(entries, "rule_files"));
        read.rule_files = files.iter().map(|node| fields.text(Some(node))).collect();
        if let Some(interval) = fields.duration(get(entries, "evaluation_interval")).filter(|ms| *ms > 0) {
            read.evaluation_interval_ms = interval;
        }
        let order = fields.list(get(entries, "group_eval_order"));
        read.group_eval_order = order.iter().map(|node| fields.text(Some(node))).collect();
        read.fuzzy_compare = fields.boolean(get(entries, "fuzzy_compare"));
        let tests = fields.list(get(entries, "tests"));
        read.tests = tests.iter().map(|node| read_test(&mut fields, node)).collect();
    }
    if fields.errors.is_empty() { Ok(read) } else { Err(fields.errors) }
}

fn read_test(fields: &mut Fields<'_>, node: &Node) -> TestGroup {
    let known = [
        "interval",
        "input_series",
        "alert_rule_test",
        "promql_expr_test",
        "external_labels",
        "external_url",
        "name",
        "start_timestamp",
    ];
    let entries = fields.mapping(node, &known);
    let texts = |fields: &mut Fields<'_>, name: &str| -> BTreeMap<String, String> {
        fields.texts(get(entries, name)).into_iter().map(|(name, value, _)| (name, value)).collect()
    };
    let inputs = fields.list(get(entries, "input_series"));
    let alerts = fields.list(get(entries, "alert_rule_test"));
    let exprs = fields.list(get(entries, "promql_expr_test"));
    TestGroup {
        name: fields.text(get(entries, "name")),
        interval_ms: fields.duration(get(entries, "interval")).filter(|ms| *ms > 0),
        start_ms: read_start(fields, get(entries, "start_timestamp")),
        external_labels: texts(fields, "external_labels"),
        external_url: fields.text(get(entries, "external_url")).trim_end_matches('/').to_owned(),
        input_series: inputs
            .iter()
            .map(|node| {
                let entries = fields.mapping(node, &["series", "values"]);
                InputText {
                    series: fields.text(get(entries, "series")),
                    values: fields.text(get(entries, "values")),
                }
            })
            .collect(),
        alert_tests: alerts.iter().map(|node| read_alert_test(fields, node)).collect(),
        expr_tests: exprs.iter().map(|node| read_expr_test(fields, node)).collect(),
    }
}

/// Unix seconds or RFC 3339.
fn read_start(fields: &mut Fields<'_>, node: Option<&Node>) -> i64 {
    let Some(node) = node.filter(|node| !node.is_null()) else { return 0 };
    let text = fields.text(Some(node));
    let seconds = parse_float(&text).filter(|seconds| seconds.abs() < 1e12);
    match seconds.map(|seconds| (seconds * 1000.0).round() as i64).or_else(|| parse_rfc3339(&text)) {
        Some(ms) => ms,
        None => {
            fields.fail(node.span, format!("{text:?} is neither Unix seconds nor a time of RFC 3339"));
            0
        }
    }
}

fn read_alert_test(fields: &mut Fields<'_>, node: &Node) -> AlertTest {
    let entries = fields.mapping(node, &["eval_time", "alertname", "exp_alerts"]);
    let expected = fields.list(get(entries, "exp_alerts"));
    AlertTest {
        at_ms: fields.duration(get(entries, "eval_time")).unwrap_or(0),
        alert: fields.text(get(entries, "alertname")),
        expected: expected
            .iter()
            .map(|node| {
                let entries = fields.mapping(node, &["exp_labels", "exp_annotations"]);
                let mut texts = |name: &str| -> BTreeMap<String, String> {
                    let texts = fields.texts(get(entries, name));
                    texts.into_iter().map(|(name, value, _)| (name, value)).collect()
                };
                ExpectedAlert { labels: texts("exp_labels"), annotations: texts("exp_annotations") }
            })
            .collect(),
    }
}

fn read_expr_test(fields: &mut Fields<'_>, node: &Node) -> ExprTest {
    let entries = fields.mapping(node, &["expr", "eval_time", "exp_samples"]);
    let expected = fields.list(get(entries, "exp_samples"));
    ExprTest {
        at_ms: fields.duration(get(entries, "eval_time")).unwrap_or(0),
        expr: fields.text(get(entries, "expr")),
        expected: expected
            .iter()
            .map(|node| {
                let entries = fields.mapping(node, &["labels", "value", "histogram"]);
                let value = get(entries, "value").filter(|value| !value.is_null());
                ExpectedSample {
                    labels: fields.text(get(entries, "labels")),
                    value: value.map_or(0.0, |value| read_number(fields, value)),
                    histogram: Some(fields.text(get(entries, "histogram"))).filter(|text| !text.is_empty()),
                }
            })
            .collect(),
    }
}

/// A number as YAML or Go write it.
fn read_number(fields: &mut Fields<'_>, node: &Node) -> f64 {
    let text = fields.text(Some(node));
    let plain = match text.as_str() {
        ".inf" | ".Inf" | ".INF" | "+.inf" => "+Inf",
        "-.inf" | "-.Inf" | "-.INF" => "-Inf",
        ".nan" | ".NaN" | ".NAN" => "NaN",
        other => other,
    };
    parse_float(&plain.replace('_', "")).unwrap_or_else(|| {
        fields.fail(node.span, format!("expected a number, found {text:?}"));
        0.0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_strictly() {
        let text = "rule_files: [r.yml]\ntests:\n- interval: 1m\n  start_timestamp: 2024-01-01T00:00:00Z\n  promql_expr_test:\n  - expr: up\n    eval_time: 5m\n    exp_samples: [{labels: up, value: -.inf}]\n";
        let file = read_unit_test_file("t.yml", text).expect("a good file");
        let test = &file.tests[0];
        assert_eq!((test.start_ms, test.last_time_ms()), (1_704_067_200_000, 300_000));
        assert_eq!(test.expr_tests[0].expected[0].value, f64::NEG_INFINITY);
        let wrong = "tests:\n- promql_expr_test:\n  - exp: up\n    eval_time: soon\n  start_timestamp: now\n";
        let errors = read_unit_test_file("t.yml", wrong).expect_err("mistakes");
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), 3, "{texts:?}");
        assert!(
            texts.iter().any(|text| text.starts_with("t.yml:3:5: unknown field `exp`, did you mean `expr`?"))
        );
        assert!(texts.iter().any(|text| text.starts_with("t.yml:4:16: ")));
        assert!(texts.iter().any(|text| text.starts_with("t.yml:5:20: ")));
    }
}
