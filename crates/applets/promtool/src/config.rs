//! `check config`: the configuration, and the rule files it names.

use std::io::{Result, Write};
use std::path::{Path, PathBuf};

use gantry_scrape::Config;
use gantry_scrape::discover::glob;

use crate::check::{CheckOptions, check_rules};

const SUCCESS: u8 = 0;
const FAILURE: u8 = 1;

/// Checks configuration files and gives the exit code: 0, 1 when one is wrong, 3 when rule files have lints and those
/// are fatal. With `syntax_only` files that are named are not looked at.
///
/// # Errors
/// When the outcome cannot be written.
pub fn check_config(
    files: &[PathBuf],
    syntax_only: bool,
    options: &CheckOptions,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<u8> {
    let mut code = SUCCESS;
    for file in files {
        let name = file.display().to_string();
        writeln!(out, "Checking {name}")?;
        match read(file, syntax_only) {
            Ok((config, rule_files, warnings)) => {
                for warning in warnings {
                    writeln!(err, "  WARNING: {warning}")?;
                }
                for section in config.without_effect() {
                    writeln!(err, "  WARNING: {section} has no effect in gantry prometheus yet")?;
                }
                if !rule_files.is_empty() {
                    writeln!(out, "  SUCCESS: {} rule files found", rule_files.len())?;
                }
                writeln!(out, " SUCCESS: {name} is valid prometheus config file syntax\n")?;
                if !rule_files.is_empty() {
                    code = worse(code, check_rules(&rule_files, options, out, err)?);
                }
            }
            Err(reasons) => {
                writeln!(err, "  FAILED: {}\n", reasons.join("\n"))?;
                code = FAILURE;
            }
        }
    }
    Ok(code)
}

/// A mistake outweighs a lint.
fn worse(left: u8, right: u8) -> u8 {
    if left == FAILURE || right == FAILURE { FAILURE } else { left.max(right) }
}

type Checked = (Config, Vec<PathBuf>, Vec<String>);

fn read(file: &Path, syntax_only: bool) -> std::result::Result<Checked, Vec<String>> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file).map_err(|error| vec![format!("{name}: {error}")])?;
    let config = Config::parse(&name, &text).map_err(|error| vec![error.to_string()])?;
    if syntax_only {
        return Ok((config, Vec::new(), Vec::new()));
    }
    let base = file.parent().unwrap_or(Path::new("."));
    let (mut rule_files, mut warnings, mut mistakes) = (Vec::new(), Vec::new(), Vec::new());
    for pattern in &config.rule_files {
        let found = glob(&base.join(pattern));
        if found.is_empty() {
            match pattern.contains(['*', '?', '[']) {
                true => warnings.push(format!("no rule file is of the name {pattern:?}")),
                false => mistakes.push(format!("{name}: {pattern:?} does not point to an existing file")),
            }
        }
        rule_files.extend(found);
    }
    for path in config.named_files() {
        let path = base.join(path);
        if let Err(error) = std::fs::metadata(&path) {
            mistakes.push(format!("{name}: error checking file {:?}: {error}", path.display()));
        }
    }
    if mistakes.is_empty() { Ok((config, rule_files, warnings)) } else { Err(mistakes) }
}
