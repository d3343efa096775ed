//! `check rules`.

use std::io::{Read, Result, Write};
use std::path::{Path, PathBuf};

use clap::ArgMatches;
use gantry_rules::{ReadOptions, RuleFile, duplicate_rules, read_rule_file};

/// More than this is not read from standard input.
const MAX_INPUT_BYTES: u64 = 64 << 20;
const SUCCESS: u8 = 0;
const FAILURE: u8 = 1;
/// Only with `--lint-fatal`.
const LINT_FAILURE: u8 = 3;

/// What is looked for beside mistakes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lint {
    #[default]
    DuplicateRules,
    None,
}

/// The flags of `check rules`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CheckOptions {
    pub lint: Lint,
    pub lint_fatal: bool,
    pub read: ReadOptions,
}

impl CheckOptions {
    pub(crate) fn read(matches: &ArgMatches) -> CheckOptions {
        let is_off = matches.get_one::<String>("lint").is_some_and(|lint| lint == "none");
        CheckOptions {
            lint: if is_off { Lint::None } else { Lint::DuplicateRules },
            lint_fatal: matches.get_flag("lint-fatal"),
            read: ReadOptions {
                ignore_unknown_fields: matches.get_flag("ignore-unknown-fields"),
                ..ReadOptions::default()
            },
        }
    }
}

/// Checks rule files and gives the exit code: 0, 1 when one is wrong, 3 when there are only lints and they are fatal.
///
/// # Errors
/// When the outcome cannot be written.
pub fn check_rules(
    files: &[PathBuf],
    options: &CheckOptions,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<u8> {
    let input = [PathBuf::from("-")];
    let files = if files.is_empty() { &input } else { files };
    let (mut has_mistakes, mut has_lints) = (false, false);
    for file in files {
        let is_input = file == Path::new("-");
        let name = if is_input { "standard input".to_owned() } else { file.display().to_string() };
        writeln!(out, "Checking {name}")?;
        let text = if is_input {
            let mut text = String::new();
            std::io::stdin().lock().take(MAX_INPUT_BYTES).read_to_string(&mut text).map(|_| text)
        } else {
            std::fs::read_to_string(file)
        };
        let read = match text {
            Ok(text) => read_rule_file(&name, &text, options.read)
                .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>()),
            Err(error) => Err(vec![format!("{name}: {error}")]),
        };
        match read {
            Ok(read) => has_lints |= report(&read, options.lint, out, err)?,
            Err(errors) => {
                has_mistakes = true;
                writeln!(err, "  FAILED:")?;
                for error in errors {
                    writeln!(err, "{error}")?;
                }
            }
        }
        writeln!(out)?;
    }
    Ok(match (has_mistakes, has_lints && options.lint_fatal) {
        (true, _) => FAILURE,
        (false, true) => LINT_FAILURE,
        (false, false) => SUCCESS,
    })
}

/// Whether a lint was found.
fn report(read: &RuleFile, lint: Lint, out: &mut dyn Write, err: &mut dyn Write) -> Result<bool> {
    for warning in &read.warnings {
        writeln!(err, "  WARNING: {warning}")?;
    }
    let duplicates = if lint == Lint::DuplicateRules { duplicate_rules(&read.groups) } else { Vec::new() };
    if duplicates.is_empty() {
        let count: usize = read.groups.iter().map(|group| group.rules.len()).sum();
        writeln!(out, "  SUCCESS: {count} rules found")?;
        return Ok(false);
    }
    writeln!(err, "  FAILED:")?;
    writeln!(err, "lint error {} duplicate rule(s) found.", duplicates.len())?;
    for (name, labels) in &duplicates {
        writeln!(err, "Metric: {name}\nLabel(s):")?;
        for (label, value) in labels {
            writeln!(err, "\t{label}: {value}")?;
        }
    }
    writeln!(err, "Might cause inconsistency while recording expressions")?;
    Ok(true)
}
