//! Unit tests of rules, as `promtool test rules` runs them: series in, alerts and values out.
//!
//! Rules are evaluated at every interval from the start to the last time that anything is asked for; an alert is asked for
//! at the evaluation at or before its time, an expression at its own.

mod compare;
mod read;

pub use read::{UnitTestFile, read_unit_test_file};

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use gantry_clock::{ManualClock, format_prometheus_duration};
use gantry_prom_model::{Labels, Registry};
use gantry_promql::testing::{InputSeries, LiveStorage, parse_histogram_description, parse_series_labels};
use gantry_promql::{Cancellation, Engine, EngineOptions};

use crate::alerting::{ALERT_NAME, AlertState};
use crate::environment::{Environment, Notify};
use crate::file::RuleFile;
use crate::group::{Group, GroupDefaults};
use crate::metrics::RuleMetrics;
use crate::notify::Notification;
use compare::{AlertText, SampleText, same_value, show_alerts, show_samples};
use read::{AlertTest, ExprTest, TestGroup};

/// More evaluations than this are refused, so that a file cannot take a day.
const MAX_EVALUATIONS: i64 = 10_000_000;

/// What became of one test of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestOutcome {
    /// Its name, or its number.
    pub name: String,
    /// What was not as expected; empty when it passed.
    pub failures: Vec<String>,
}

/// Runs the tests of a file whose names `is_wanted` says yes to, with the groups of these rule files (each with its name).
///
/// # Errors
/// When the file cannot be run at all.
pub fn run_unit_tests(
    file: &UnitTestFile,
    rule_files: &[(String, RuleFile)],
    is_wanted: &dyn Fn(&str) -> bool,
) -> Result<Vec<TestOutcome>, String> {
    let mut order = BTreeMap::new();
    for (index, name) in file.group_eval_order.iter().enumerate() {
        if order.insert(name.as_str(), index).is_some() {
            return Err(format!("group name repeated in evaluation order: {name}"));
        }
    }
    let wanted = file.tests.iter().enumerate().filter(|(_, test)| is_wanted(&test.name));
    Ok(wanted
        .map(|(index, test)| TestOutcome {
            name: if test.name.is_empty() { format!("test {}", index + 1) } else { test.name.clone() },
            failures: run_test(file, test, rule_files, &order).unwrap_or_else(|reason| vec![reason]),
        })
        .collect())
}

struct Ignored;

impl Notify for Ignored {
    fn notify(&self, _alerts: Vec<Notification>) {}
}

/// A test being run.
struct Bench<'t> {
    test: &'t TestGroup,
    storage: Arc<LiveStorage>,
    environment: Arc<Environment>,
    groups: Vec<Group>,
    fuzzy: bool,
}

fn run_test(
    file: &UnitTestFile,
    test: &TestGroup,
    rule_files: &[(String, RuleFile)],
    order: &BTreeMap<&str, usize>,
) -> Result<Vec<String>, String> {
    let interval_ms = file.evaluation_interval_ms;
    let step_ms = test.interval_ms.unwrap_or(interval_ms);
    let end_ms = test.last_time_ms();
    if end_ms / interval_ms > MAX_EVALUATIONS {
        return Err(format!(
            "{} evaluations are more than the {MAX_EVALUATIONS} that are made; ask for earlier times or set a longer evaluation_interval",
            end_ms / interval_ms
        ));
    }
    let mut bench = Bench::new(file, test, rule_files, order)?;
    let mut inputs = Vec::new();
    for series in &test.input_series {
        inputs.push(InputSeries::parse(&series.series, &series.values)?);
    }
    let mut alert_tests: BTreeMap<i64, Vec<&AlertTest>> = BTreeMap::new();
    for alert in &test.alert_tests {
        if alert.alert.is_empty() {
            let place =
                if test.name.is_empty() { String::new() } else { format!(" (in TestGroup {})", test.name) };
            return Err(format!(
                "an item under alert_rule_test misses required attribute alertname at eval_time {}{place}",
                format_prometheus_duration(alert.at_ms)
            ));
        }
        alert_tests.entry(alert.at_ms).or_default().push(alert);
    }
    let mut failures = Vec::new();
    let mut elapsed_ms = 0;
    while elapsed_ms <= end_ms {
        let now_ms = test.start_ms + elapsed_ms;
        for input in &mut inputs {
            input
                .write_until(&*bench.storage, (test.start_ms, step_ms), now_ms)
                .map_err(|error| format!("input_series: {error}"))?;
        }
        let broken = bench.evaluate_rules(now_ms, elapsed_ms);
        if !broken.is_empty() {
            failures.extend(broken);
            return Ok(failures);
        }
        for tests in alert_tests.range(elapsed_ms..elapsed_ms + interval_ms).map(|(_, tests)| tests) {
            failures.extend(tests.iter().filter_map(|alert| bench.check_alert(alert)));
        }
        elapsed_ms += interval_ms;
    }
    failures.extend(test.expr_tests.iter().filter_map(|expr| bench.check_expression(expr)));
    Ok(failures)
}

impl<'t> Bench<'t> {
    fn new(
        file: &UnitTestFile,
        test: &'t TestGroup,
        rule_files: &[(String, RuleFile)],
        order: &BTreeMap<&str, usize>,
    ) -> Result<Bench<'t>, String> {
        let storage = Arc::new(LiveStorage::new());
        let interval = u64::try_from(file.evaluation_interval_ms).unwrap_or(60_000);
        let engine = Engine::new(EngineOptions {
            max_samples: 10_000,
            default_subquery_step: std::time::Duration::from_millis(interval),
            delayed_name_removal: true,
            ..EngineOptions::default()
        });
        let environment = Arc::new(Environment {
            storage: storage.clone(),
            appendable: storage.clone(),
            engine,
            clock: Arc::new(ManualClock::new(test.start_ms)),
            notify: Arc::new(Ignored),
            external_labels: Labels::from_pairs(&test.external_labels),
            external_url: test.external_url.as_str().into(),
            resend_delay_ms: 0,
            outage_tolerance_ms: 0,
            for_grace_period_ms: 0,
            extra_threads: Arc::new(AtomicUsize::new(0)),
            metrics: RuleMetrics::new(&Registry::new()),
            cancellation: Cancellation::new(),
        });
        let step_ms = test.interval_ms.unwrap_or(file.evaluation_interval_ms);
        let defaults = GroupDefaults { interval_ms: step_ms, query_offset_ms: 0 };
        let mut groups = Vec::new();
        for (name, rules) in rule_files {
            for group in &rules.groups {
                groups.push(Group::new(name, group.clone(), defaults, environment.clone(), true));
            }
        }
        // Those that the order does not name come with its first.
        groups.sort_by_key(|group: &Group| order.get(group.name.as_str()).copied().unwrap_or(0));
        Ok(Bench { test, storage, environment, groups, fuzzy: file.fuzzy_compare })
    }

    /// What failed.
    fn evaluate_rules(&mut self, now_ms: i64, elapsed_ms: i64) -> Vec<String> {
        let mut broken = Vec::new();
        for group in &self.groups {
            group.evaluate(now_ms);
            for rule in &group.rules {
                if let Some(reason) = rule.status().last_error {
                    let at = format_prometheus_duration(elapsed_ms);
                    broken.push(format!("    rule: {}, time: {at}, err: {reason}", rule.name));
                }
            }
        }
        broken
    }

    fn title(&self) -> String {
        if self.test.name.is_empty() { String::new() } else { format!("    name: {},\n", self.test.name) }
    }

    fn check_alert(&self, test: &AlertTest) -> Option<String> {
        let firing = self
            .groups
            .iter()
            .flat_map(|group| &group.rules)
            .filter(|rule| rule.name == test.alert)
            .filter_map(|rule| rule.alerting())
            .flat_map(|alerting| alerting.alerts())
            .filter(|alert| alert.state == AlertState::Firing);
        let mut found: Vec<AlertText> =
            firing.map(|alert| AlertText { labels: alert.labels, annotations: alert.annotations }).collect();
        let mut expected: Vec<AlertText> = test
            .expected
            .iter()
            .map(|alert| {
                let mut labels = Labels::from_pairs(&alert.labels).to_builder();
                labels.set(ALERT_NAME, &test.alert);
                AlertText { labels: labels.build(), annotations: Labels::from_pairs(&alert.annotations) }
            })
            .collect();
        found.sort();
        expected.sort();
        (found != expected).then(|| {
            format!(
                "{}    alertname: {}, time: {},\n        exp:{},\n        got:{}",
                self.title(),
                test.alert,
                format_prometheus_duration(test.at_ms),
                show_alerts(&expected),
                show_alerts(&found)
            )
        })
    }

    fn check_expression(&self, test: &ExprTest) -> Option<String> {
        let at = format_prometheus_duration(test.at_ms);
        let title = self.title();
        let failed =
            |reason: String| Some(format!("{title}    expr: {:?}, time: {at}, err: {reason}", test.expr));
        let mut found: Vec<SampleText> =
            match self.environment.evaluate_text(&test.expr, self.test.start_ms + test.at_ms) {
                Ok(samples) => samples
                    .into_iter()
                    .map(|sample| SampleText { labels: sample.labels, value: sample.value })
                    .collect(),
                Err(reason) => return failed(reason),
            };
        let mut expected = Vec::new();
        for sample in &test.expected {
            let labels = match parse_series_labels(&sample.labels) {
                Ok(labels) => labels,
                Err(reason) => return failed(format!("labels {:?}: {reason}", sample.labels)),
            };
            let value = match &sample.histogram {
                None => gantry_promql::Value::Float(sample.value),
                Some(text) => match parse_histogram_description(text) {
                    Ok(histogram) => gantry_promql::Value::Histogram(Arc::new(histogram)),
                    Err(reason) => return failed(format!("histogram {text:?}: {reason}")),
                },
            };
            expected.push(SampleText { labels, value });
        }
        found.sort_by(|left, right| left.labels.cmp(&right.labels));
        expected.sort_by(|left, right| left.labels.cmp(&right.labels));
        let is_same = found.len() == expected.len()
            && found.iter().zip(&expected).all(|(found, expected)| {
                found.labels == expected.labels && same_value(&expected.value, &found.value, self.fuzzy)
            });
        (!is_same).then(|| {
            format!(
                "{title}    expr: {:?}, time: {at},\n        exp: {}\n        got: {}",
                test.expr,
                show_samples(&expected),
                show_samples(&found)
            )
        })
    }
}
