//! The verbs as a user calls them, and beside the real promtool.

mod verbs;

use std::path::{Path, PathBuf};
use std::process::Command;

use gantry_applet_promtool::{CheckOptions, TestOptions, check_rules, test_rules};

const GOOD: &str = "groups:\n- name: g\n  rules:\n  - record: a:sum\n    expr: sum(a)\n  - alert: Down\n    expr: up == 0\n    for: 5m\n    annotations: {summary: '{{ $labels.instance }} is down'}\n";
const WRONG: &str = "groups:\n- name: g\n  rules:\n  - record: a\n    expr: rate(hi)\n";
const TWICE: &str = "groups:\n- name: g\n  rules:\n  - {record: a, expr: b, labels: {x: y}}\n  - {record: a, expr: c, labels: {x: y}}\n";
const TESTS: &str = "rule_files: ['r*.yml']\nevaluation_interval: 1m\ntests:\n- interval: 1m\n  name: counts\n  input_series: [{series: 'a{x=\"1\"}', values: '1+1x10'}, {series: 'a{x=\"2\"}', values: '5x10'}]\n  promql_expr_test:\n  - expr: a:sum\n    eval_time: 2m\n    exp_samples: [{labels: 'a:sum', value: 8}]\n- interval: 1m\n  name: alerts\n  input_series: [{series: 'up{instance=\"i\"}', values: '0x10'}]\n  alert_rule_test:\n  - eval_time: 6m\n    alertname: Down\n    exp_alerts: [{exp_labels: {instance: i}, exp_annotations: {summary: i is down}}]\n";

fn write(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn check(files: &[PathBuf], options: &CheckOptions) -> (u8, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = check_rules(files, options, &mut out, &mut err).unwrap();
    (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

fn test(files: &[PathBuf], options: &TestOptions) -> (u8, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = test_rules(files, options, &mut out, &mut err).unwrap();
    (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

#[test]
fn rule_files_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    let good = write(dir.path(), "good.yml", GOOD);
    let wrong = write(dir.path(), "wrong.yml", WRONG);
    let twice = write(dir.path(), "twice.yml", TWICE);
    let (code, out, err) = check(std::slice::from_ref(&good), &CheckOptions::default());
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(out, format!("Checking {}\n  SUCCESS: 2 rules found\n\n", good.display()));
    let (code, _, err) = check(&[good, wrong.clone()], &CheckOptions::default());
    assert_eq!(code, 1);
    assert!(
        err.contains(&format!("{}:5:11: group \"g\", rule 1, \"a\": could not parse", wrong.display())),
        "{err}"
    );
    let (code, _, err) = check(std::slice::from_ref(&twice), &CheckOptions::default());
    assert_eq!(code, 0, "lints are told and forgiven");
    assert!(err.contains("1 duplicate rule(s) found.\nMetric: a\nLabel(s):\n\tx: y\n"), "{err}");
    let fatal = CheckOptions { lint_fatal: true, ..CheckOptions::default() };
    assert_eq!(check(&[twice], &fatal).0, 3);
}

#[test]
fn unit_tests_are_run_by_name_and_reported() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "r1.yml", GOOD);
    let wrong = TESTS.replace("value: 8", "value: 9");
    let tests = write(dir.path(), "tests.yml", &wrong);
    let junit = dir.path().join("junit.xml");
    let options = TestOptions { junit: Some(junit.clone()), ..TestOptions::default() };
    let (code, out, err) = test(std::slice::from_ref(&tests), &options);
    assert_eq!((code, out), (1, format!("Unit Testing:  {}\n\n", tests.display())));
    assert!(err.contains("expr: \"a:sum\", time: 2m,\n        exp: {__name__=\"a:sum\"} 9\n"), "{err}");
    let report = std::fs::read_to_string(junit).unwrap();
    assert!(report.contains("tests=\"2\" failures=\"1\""), "{report}");
    let only = TestOptions { run: Some(regex::RegexSet::new(["^alert"]).unwrap()), ..TestOptions::default() };
    let (code, out, _) = test(&[tests], &only);
    assert_eq!(code, 0);
    assert!(out.ends_with("  SUCCESS\n\n"), "{out}");
}

fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file());
    if found.is_none() {
        println!("skipped: {name} not found");
    }
    found
}

#[test]
fn the_real_promtool_says_the_same() {
    let Some(promtool) = program("promtool") else { return };
    let dir = tempfile::tempdir().unwrap();
    let real = |verb: &[&str], file: &Path| {
        let output = Command::new(&promtool).args(verb).arg(file).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    for (name, text) in [("good.yml", GOOD), ("wrong.yml", WRONG), ("twice.yml", TWICE)] {
        let file = write(dir.path(), name, text);
        let (code, out) = real(&["check", "rules"], &file);
        let ours = check(&[file], &CheckOptions::default());
        assert_eq!((i32::from(ours.0), ours.1.trim_end()), (code, out.trim_end()), "{name}");
    }
    write(dir.path(), "r1.yml", GOOD);
    for (name, text) in [("right", TESTS.to_owned()), ("wrong", TESTS.replace("value: 8", "value: 9"))] {
        let file = write(dir.path(), &format!("{name}.test"), &text);
        let (code, out) = real(&["test", "rules"], &file);
        let ours = test(&[file], &TestOptions::default());
        assert_eq!((i32::from(ours.0), ours.1.trim_end()), (code, out.trim_end()), "{name}");
    }
}
