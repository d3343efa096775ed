//! The rule files that a configuration names.

use std::path::Path;

use gantry_rules::{NameScheme, ReadOptions, RuleFile, read_rule_file};
use gantry_scrape::discover::glob;

/// Reads the files of `rule_files`, wildcards expanded, relative ones from `base`. Each comes with its name.
///
/// # Errors
/// Every mistake in any of them, one a line, each with `file:line:col`.
pub fn read_rule_files(
    patterns: &[String],
    base: &Path,
    options: ReadOptions,
) -> Result<Vec<(String, RuleFile)>, String> {
    let mut files = Vec::new();
    let mut mistakes = Vec::new();
    for pattern in patterns {
        let found = glob(&base.join(pattern));
        if found.is_empty() {
            tracing::warn!(pattern, "no rule file is of this name");
        }
        for path in found {
            let name = path.display().to_string();
            if files.iter().any(|(known, _): &(String, RuleFile)| *known == name) {
                continue;
            }
            let text = match std::fs::read_to_string(&path) {
                Ok(text) => text,
                Err(error) => {
                    mistakes.push(format!("{name}: {error}"));
                    continue;
                }
            };
            match read_rule_file(&name, &text, options) {
                Ok(file) => {
                    for warning in &file.warnings {
                        tracing::warn!("{warning}");
                    }
                    files.push((name, file));
                }
                Err(errors) => mistakes.extend(errors.iter().map(ToString::to_string)),
            }
        }
    }
    if mistakes.is_empty() { Ok(files) } else { Err(mistakes.join("\n")) }
}

/// Which names a configuration's `metric_name_validation_scheme` allows.
pub fn name_scheme(word: Option<&str>) -> NameScheme {
    match word {
        Some("legacy") => NameScheme::Legacy,
        _ => NameScheme::Utf8,
    }
}
