//! Runs test scripts and prints passed and failed evaluations: `run_scripts FILE…`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let (mut passed, mut total) = (0, 0);
    for path in std::env::args().skip(1) {
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) => {
                eprintln!("{path}: {error}");
                return ExitCode::FAILURE;
            }
        };
        match gantry_promql::testing::run_script(&text) {
            Ok(report) => {
                println!("{:5}/{:5} {path}", report.passed, report.total());
                passed += report.passed;
                total += report.total();
                for failure in report.failures {
                    println!("  {}: {}\n      {}", failure.line, failure.query, failure.message);
                }
            }
            Err(message) => {
                eprintln!("{path}: {message}");
                return ExitCode::FAILURE;
            }
        }
    }
    println!("{passed:5}/{total:5}");
    if passed == total { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
