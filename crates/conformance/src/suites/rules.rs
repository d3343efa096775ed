//! Prometheus' own rule files, unit test files and configurations: which are accepted and which refused.

use std::path::{Path, PathBuf};

use gantry_applet_promtool::{CheckOptions, TestOptions, check_rules, test_rules};
use gantry_rules::{NameScheme, ReadOptions, read_rule_file};
use regex::RegexSet;

use super::Case;

const FOLDER: &str = "promql";

fn yaml_files(folder: &Path) -> Option<Vec<PathBuf>> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "yml" || extension == "yaml"));
    paths.sort();
    Some(paths)
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// What is expected of a file: by its name (`.bad`, `.good`) where that says it, else what a real promtool said.
fn verdicts(data: &Path) -> Option<serde_json::Value> {
    let text = std::fs::read_to_string(data.join(FOLDER).join("verdicts.json")).ok()?;
    serde_json::from_str(&text).ok()
}

fn is_to_be_accepted(verdicts: &serde_json::Value, suite: &str, name: &str) -> Option<bool> {
    let verdict = &verdicts[format!("{suite}/{name}")];
    let word = verdict["by_name"].as_str().or(verdict["promtool_2_42"].as_str())?;
    Some(word == "accept")
}

fn judge(found: Result<(), String>, accepted: bool) -> Result<(), String> {
    match (found, accepted) {
        (Ok(()), true) => Ok(()),
        (Ok(()), false) => Err("accepted, must be refused".into()),
        (Err(reason), true) => Err(format!("refused: {reason}")),
        // A refusal for what is not built is not the refusal that is asked for.
        (Err(reason), false) if reason.contains("not supported") => {
            Err(format!("refused, but because: {reason}"))
        }
        (Err(_), false) => Ok(()),
    }
}

/// `promql/rulefmt`: rule files.
pub(crate) fn files(data: &Path) -> Option<Vec<Case>> {
    let verdicts = verdicts(data)?;
    let mut cases = Vec::new();
    for path in yaml_files(&data.join(FOLDER).join("rulefmt"))? {
        let name = name_of(&path);
        let Some(accepted) = is_to_be_accepted(&verdicts, "rulefmt", &name) else { continue };
        // These are read with the names from before UTF-8, as the file's name says.
        let names = if name.starts_with("legacy_") { NameScheme::Legacy } else { NameScheme::Utf8 };
        let options = ReadOptions { names, ..ReadOptions::default() };
        let found = std::fs::read_to_string(&path).map_err(|error| error.to_string()).and_then(|text| {
            read_rule_file(&name, &text, options).map(drop).map_err(|errors| errors[0].to_string())
        });
        cases.push(Case::new(name, judge(found, accepted)));
    }
    Some(cases)
}

/// Unit test files with their flags (only tests of these names; unknown fields passed over) and whether they pass.
const UNIT_TESTS: &[(&str, &[&str], bool, bool)] = &[
    ("unittest.yml", &[], false, true),
    ("at-modifier-test.yml", &[], false, true),
    ("negative-offset-test.yml", &[], false, true),
    ("no-test-group-interval.yml", &[], false, true),
    ("start-time-test.yml", &[], false, true),
    ("long-period.yml", &[], false, true),
    ("bad-input-series.yml", &[], false, false),
    ("bad-promql.yml", &[], false, false),
    ("bad-rules-error-test.yml", &[], false, false),
    ("bad-rules-syntax-test.yml", &[], false, false),
    ("failing.yml", &[], false, false),
    ("rules_run.yml", &[], false, false),
    ("rules_run.yml", &["correct"], false, true),
    ("rules_run.yml", &["wrong"], false, false),
    ("rules_run.yml", &["correct", "wrong"], false, false),
    ("rules_run_extrafields.yml", &[], false, false),
    ("rules_run_extrafields.yml", &[], true, true),
    ("rules_run_fuzzy.yml", &["correct"], false, true),
    ("rules_run_fuzzy.yml", &["wrong"], false, false),
    ("rules_run_no_fuzzy.yml", &["correct"], false, false),
];

/// Rule files with whether unknown fields are passed over, and the exit code when lints are fatal.
const CHECKED: &[(&str, bool, u8)] = &[
    ("rules.yml", false, 0),
    ("rules_large.yml", false, 3),
    ("features.yml", false, 0),
    ("at-modifier.yml", false, 0),
    ("negative-offset.yml", false, 0),
    ("bad-rules-error.yml", false, 0),
    ("prometheus-config.rules.good.yml", false, 0),
    ("rules-bad.yml", false, 1),
    ("bad-rules-syntax.yml", false, 1),
    ("rules_extrafields.yml", false, 1),
    ("rules_extrafields.yml", true, 0),
    ("rules_duplicates.yml", false, 3),
    ("prometheus-rules.lint.yml", false, 3),
];

/// `promql/rule_unit_tests`: unit tests of rules, and checks of the rule files beside them.
pub(crate) fn unit_tests(data: &Path) -> Option<Vec<Case>> {
    let folder = data.join(FOLDER).join("rule_unit_tests");
    if !folder.is_dir() {
        return None;
    }
    let mut cases = Vec::new();
    for (file, run, ignore_unknown_fields, passes) in UNIT_TESTS {
        let read = ReadOptions { ignore_unknown_fields: *ignore_unknown_fields, ..ReadOptions::default() };
        let run = if run.is_empty() { None } else { RegexSet::new(*run).ok() };
        let options = TestOptions { run: run.clone(), read, junit: None };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = test_rules(&[folder.join(file)], &options, &mut out, &mut err);
        let expected = u8::from(!passes);
        let outcome = match code {
            Ok(code) if code == expected => Ok(()),
            Ok(code) => Err(format!("ended with {code}, not {expected}: {}", String::from_utf8_lossy(&err))),
            Err(error) => Err(error.to_string()),
        };
        let patterns = run.map(|run| run.patterns().join(",")).unwrap_or_default();
        cases.push(Case::new(format!("test {file} {patterns} {ignore_unknown_fields}"), outcome));
    }
    for (file, ignore_unknown_fields, expected) in CHECKED {
        let read = ReadOptions { ignore_unknown_fields: *ignore_unknown_fields, ..ReadOptions::default() };
        let options = CheckOptions { lint_fatal: true, read, ..CheckOptions::default() };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let outcome = match check_rules(&[folder.join(file)], &options, &mut out, &mut err) {
            Ok(code) if code == *expected => Ok(()),
            Ok(code) => Err(format!("ended with {code}, not {expected}: {}", String::from_utf8_lossy(&err))),
            Err(error) => Err(error.to_string()),
        };
        cases.push(Case::new(format!("check {file} {ignore_unknown_fields}"), outcome));
    }
    Some(cases)
}

/// `promql/config_testdata`: configurations.
pub(crate) fn configurations(data: &Path) -> Option<Vec<Case>> {
    let verdicts = verdicts(data)?;
    let mut cases = Vec::new();
    for path in yaml_files(&data.join(FOLDER).join("config_testdata"))? {
        let name = name_of(&path);
        let Some(accepted) = is_to_be_accepted(&verdicts, "config_testdata", &name) else { continue };
        let found = std::fs::read_to_string(&path).map_err(|error| error.to_string()).and_then(|text| {
            gantry_scrape::Config::parse(&name, &text).map(drop).map_err(|error| error.to_string())
        });
        cases.push(Case::new(name, judge(found, accepted)));
    }
    Some(cases)
}
