//! `test rules`.

use std::io::{Result, Write};
use std::path::{Path, PathBuf};

use clap::ArgMatches;
use gantry_rules::unit_test::{TestOutcome, UnitTestFile, read_unit_test_file, run_unit_tests};
use gantry_rules::{ReadOptions, RuleFile, read_rule_file};
use gantry_scrape::discover::glob;
use regex::RegexSet;

use crate::junit;

/// The flags of `test rules`.
#[derive(Debug, Clone, Default)]
pub struct TestOptions {
    /// Only tests whose name one of them matches; all when there is none.
    pub run: Option<RegexSet>,
    pub read: ReadOptions,
    /// Where JUnit XML goes.
    pub junit: Option<PathBuf>,
}

impl TestOptions {
    pub(crate) fn read(matches: &ArgMatches) -> std::result::Result<TestOptions, String> {
        let patterns: Vec<&String> = matches.get_many::<String>("run").into_iter().flatten().collect();
        let run = match patterns.is_empty() {
            true => None,
            false => Some(RegexSet::new(patterns).map_err(|error| format!("--run: {error}"))?),
        };
        Ok(TestOptions {
            run,
            read: ReadOptions {
                ignore_unknown_fields: matches.get_flag("ignore-unknown-fields"),
                ..ReadOptions::default()
            },
            junit: matches.get_one::<PathBuf>("junit").cloned(),
        })
    }
}

/// Runs unit test files and gives the exit code: 0, or 1 when a test fails or a file is wrong.
///
/// # Errors
/// When the outcome cannot be written.
pub fn test_rules(
    files: &[PathBuf],
    options: &TestOptions,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<u8> {
    let mut is_failed = false;
    let mut suites = Vec::new();
    for file in files {
        let name = file.display().to_string();
        writeln!(out, "Unit Testing:  {name}")?;
        let outcomes = run_file(file, options, err)?;
        let failures: Vec<&String> = outcomes.iter().flat_map(|outcome| &outcome.failures).collect();
        if failures.is_empty() {
            writeln!(out, "  SUCCESS")?;
        } else {
            is_failed = true;
            writeln!(err, "  FAILED:")?;
            for failure in failures {
                writeln!(err, "{failure}\n")?;
            }
        }
        writeln!(out)?;
        suites.push((name, outcomes));
    }
    if let Some(path) = &options.junit
        && let Err(error) = std::fs::write(path, junit::xml(&suites))
    {
        writeln!(err, "cannot write {}: {error}", path.display())?;
        is_failed = true;
    }
    Ok(u8::from(is_failed))
}

fn failed(reasons: Vec<String>) -> Vec<TestOutcome> {
    vec![TestOutcome { name: "file".into(), failures: reasons }]
}

fn run_file(file: &Path, options: &TestOptions, err: &mut dyn Write) -> Result<Vec<TestOutcome>> {
    let name = file.display().to_string();
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => return Ok(failed(vec![format!("{name}: {error}")])),
    };
    let tests = match read_unit_test_file(&name, &text) {
        Ok(tests) => tests,
        Err(errors) => return Ok(failed(errors.iter().map(ToString::to_string).collect())),
    };
    let rules = match rule_files(&tests, file.parent().unwrap_or(Path::new("")), options.read, err)? {
        Ok(rules) => rules,
        Err(mistakes) => return Ok(failed(mistakes)),
    };
    let is_wanted = |name: &str| options.run.as_ref().is_none_or(|run| run.is_match(name));
    Ok(run_unit_tests(&tests, &rules, &is_wanted).unwrap_or_else(|reason| failed(vec![reason])))
}

type RuleFiles = std::result::Result<Vec<(String, RuleFile)>, Vec<String>>;

fn rule_files(
    tests: &UnitTestFile,
    base: &Path,
    options: ReadOptions,
    err: &mut dyn Write,
) -> Result<RuleFiles> {
    let (mut files, mut mistakes) = (Vec::new(), Vec::new());
    for pattern in &tests.rule_files {
        let full = base.join(pattern);
        let found = glob(&full);
        if found.is_empty() {
            writeln!(err, "  WARNING: no file match pattern {}", full.display())?;
        }
        for path in found {
            let name = path.display().to_string();
            match std::fs::read_to_string(&path) {
                Err(error) => mistakes.push(format!("{name}: {error}")),
                Ok(text) => match read_rule_file(&name, &text, options) {
                    Ok(file) => files.push((name, file)),
                    Err(errors) => mistakes.extend(errors.iter().map(ToString::to_string)),
                },
            }
        }
    }
    Ok(if mistakes.is_empty() { Ok(files) } else { Err(mistakes) })
}
