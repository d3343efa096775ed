//! `test promql`: runs test scripts of the query language, in the language of Prometheus' own.

use std::io::{Result, Write};
use std::path::PathBuf;

use gantry_promql::testing::run_script;

/// Runs the scripts and gives the exit code: 0, or 1 when an evaluation is not as expected or a file is no script.
///
/// # Errors
/// When the outcome cannot be written.
pub fn test_promql(files: &[PathBuf], out: &mut dyn Write, err: &mut dyn Write) -> Result<u8> {
    let (mut passed, mut total, mut is_broken) = (0, 0, false);
    for file in files {
        let name = file.display();
        let report = std::fs::read_to_string(file)
            .map_err(|error| error.to_string())
            .and_then(|text| run_script(&text));
        match report {
            Ok(report) => {
                writeln!(out, "{name}: {} of {} evaluations passed", report.passed, report.total())?;
                passed += report.passed;
                total += report.total();
                for failure in &report.failures {
                    writeln!(err, "{name}:{}: {}: {}", failure.line, failure.query, failure.message)?;
                }
            }
            Err(reason) => {
                is_broken = true;
                writeln!(err, "{name}: {reason}")?;
            }
        }
    }
    writeln!(out, "passed: {passed}, failed: {}", total - passed)?;
    Ok(u8::from(is_broken || passed != total))
}
