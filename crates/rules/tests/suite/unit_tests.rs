//! Unit test files as a user writes them.

use gantry_rules::unit_test::{TestOutcome, read_unit_test_file, run_unit_tests};
use gantry_rules::{ReadOptions, read_rule_file};

const RULES: &str = r#"
groups:
- name: second
  rules:
  - record: job:up:sum
    expr: sum by (job) (up)
  - record: twice
    expr: 2 * base
- name: first
  rules:
  - record: base
    expr: vector(21)
  - alert: Down
    expr: up == 0
    for: 2m
    labels: {severity: '{{ if eq $labels.job "api" }}page{{ else }}mail{{ end }}'}
    annotations: {summary: '{{ $labels.instance }} of {{ $externalLabels.cluster }} is {{ $value }}'}
"#;

fn run(tests: &str) -> Vec<TestOutcome> {
    let rules = read_rule_file("rules.yml", RULES, ReadOptions::default()).expect("good rules");
    let file = read_unit_test_file("tests.yml", tests).expect("a good file");
    run_unit_tests(&file, &[("rules.yml".to_owned(), rules)], &|_| true).expect("it runs")
}

const GOOD: &str = r#"
rule_files: [rules.yml]
evaluation_interval: 1m
group_eval_order: [first, second]
tests:
- interval: 1m
  external_labels: {cluster: c1}
  input_series:
  - series: up{job="api", instance="a"}
    values: 1 1 0x5
  - series: up{job="web", instance="b"}
    values: 1x10
  promql_expr_test:
  - expr: job:up:sum
    eval_time: 2m
    exp_samples:
    - {labels: 'job:up:sum{job="api"}', value: 0}
    - {labels: 'job:up:sum{job="web"}', value: 1}
  - expr: twice
    eval_time: 0m
    exp_samples: [{labels: twice, value: 42}]
  - expr: ALERTS{alertstate="pending"}
    eval_time: 3m
    exp_samples: [{labels: 'ALERTS{alertname="Down", alertstate="pending", instance="a", job="api", severity="page"}', value: 1}]
  alert_rule_test:
  - {eval_time: 3m, alertname: Down, exp_alerts: []}
  - eval_time: 4m30s
    alertname: Down
    exp_alerts:
    - exp_labels: {job: api, instance: a, severity: page}
      exp_annotations: {summary: a of c1 is 0}
"#;

#[test]
fn alerts_and_values_are_as_expected() {
    let outcomes = run(GOOD);
    assert_eq!(outcomes, [TestOutcome { name: "test 1".into(), failures: Vec::new() }]);
}

#[test]
fn what_is_otherwise_is_told() {
    let wrong = GOOD.replace("value: 42", "value: 43").replace("a of c1 is 0", "a is down");
    let failures = &run(&wrong)[0].failures;
    assert_eq!(failures.len(), 2, "{failures:?}");
    assert!(
        failures[0].contains("alertname: Down, time: 4m30s") && failures[0].contains("is down"),
        "{failures:?}"
    );
    assert!(failures[1].contains("exp: {__name__=\"twice\"} 43"), "{failures:?}");
}

#[test]
fn groups_are_evaluated_in_the_order_that_is_given() {
    let other = GOOD.replace("group_eval_order: [first, second]", "group_eval_order: [second, first]");
    let failures = &run(&other)[0].failures;
    assert_eq!(failures.len(), 1, "`twice` has nothing to read at first: {failures:?}");
    assert!(failures[0].contains("expr: \"twice\""), "{failures:?}");
}
