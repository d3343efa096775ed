//! The scoreboard: runs the suites of a data folder against the crates and prints *suite, passed, total*.

mod floors;
mod suites;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// Runs conformance suites and compares each with its floor.
#[derive(Parser)]
struct Arguments {
    /// Folder with the conformance data.
    #[arg(long, value_name = "DIR", default_value = "../shared/conformance")]
    data: PathBuf,
    /// Name every failed case and say why.
    #[arg(long)]
    failures: bool,
    /// Suites to run, all when none is named. A name stands for every suite that begins with it.
    suites: Vec<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if !arguments.data.is_dir() {
        println!("no conformance data at {}; nothing run", arguments.data.display());
        return ExitCode::SUCCESS;
    }
    // Messages name files by their absolute path, which is what cases take off.
    let data = std::fs::canonicalize(&arguments.data).unwrap_or(arguments.data);
    let wanted = |name: &str| {
        arguments.suites.is_empty() || arguments.suites.iter().any(|wanted| name.starts_with(wanted.as_str()))
    };
    let floors = floors::read();
    let mut below_floor = false;
    let mut known = false;
    println!("{:<28} {:>7} {:>7} {:>7}", "suite", "passed", "total", "floor");
    for suite in suites::SUITES.iter().filter(|suite| wanted(suite.name)) {
        known = true;
        let cases = (suite.run)(&data);
        let passed = cases.iter().flatten().filter(|case| case.failure.is_none()).count();
        let floor = floors.get(suite.name).copied().unwrap_or(0);
        // A suite that did not run has passed nothing: a folder that was moved must not look like success.
        let verdict = if passed < floor { "  below its floor" } else { "" };
        below_floor |= passed < floor;
        let Some(cases) = cases else {
            println!("{:<28} {:>7} {:>7} {floor:>7}{verdict}", suite.name, "not run", "");
            continue;
        };
        println!("{:<28} {passed:>7} {:>7} {floor:>7}{verdict}", suite.name, cases.len());
        if arguments.failures {
            for case in &cases {
                if let Some(failure) = &case.failure {
                    println!("  {}\n    {}", case.name, failure.replace('\n', "\n    "));
                }
            }
        }
    }
    for name in suites::NOT_RUN.iter().filter(|name| wanted(name)) {
        known = true;
        println!("{name:<28} {:>7}", "not run");
    }
    if !known {
        eprintln!("no suite begins with any of: {}", arguments.suites.join(", "));
        return ExitCode::FAILURE;
    }
    if below_floor { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
