//! Checks and tests of Prometheus' rule files, with `promtool`'s verbs, flags, output and exit codes.
//!
//! [`command`] and [`run`] are the applet; [`check_rules`] and [`test_rules`] do the same for other programs.
#![forbid(unsafe_code)]

mod check;
mod junit;
mod test;

pub use check::{CheckOptions, Lint, check_rules};
pub use test::{TestOptions, test_rules};

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

const EXAMPLES: &str = "\
Examples:
  gantry promtool check rules rules/*.yml
  gantry promtool check rules --lint-fatal rules.yml
  gantry promtool test rules tests.yml
  gantry promtool test rules --run '^slow' --junit report.xml tests.yml";

/// The command line of the applet.
pub fn command() -> Command {
    let files = || Arg::new("files").value_name("FILE").num_args(0..).value_parser(value_parser!(PathBuf));
    let ignore = Arg::new("ignore-unknown-fields")
        .long("ignore-unknown-fields")
        .action(ArgAction::SetTrue)
        .help("Pass over fields of rule files that nobody knows");
    let check_rules = Command::new("rules")
        .about("Check that rule files are valid; without a file, what comes on standard input")
        .arg(files().help("Rule files; - is standard input"))
        .arg(
            Arg::new("lint")
                .long("lint")
                .value_name("WHAT")
                .default_value("duplicate-rules")
                .value_parser(["all", "duplicate-rules", "none"])
                .help("What else is looked for"),
        )
        .arg(
            Arg::new("lint-fatal")
                .long("lint-fatal")
                .action(ArgAction::SetTrue)
                .help("End with 3 when that is found"),
        )
        .arg(ignore.clone());
    let test_rules = Command::new("rules")
        .about("Run unit test files of rules")
        .arg(files().required(true).help("Unit test files"))
        .arg(
            Arg::new("run")
                .long("run")
                .value_name("REGEX")
                .action(ArgAction::Append)
                .help("Only tests whose name matches; may be given more than once"),
        )
        .arg(
            Arg::new("junit")
                .long("junit")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("Write JUnit XML there as well"),
        )
        .arg(ignore);
    Command::new("promtool")
        .about("Check and test Prometheus' rule files")
        .after_help(EXAMPLES)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            Command::new("check")
                .about("Check files")
                .subcommand_required(true)
                .arg_required_else_help(true)
                .subcommand(check_rules),
        )
        .subcommand(
            Command::new("test")
                .about("Run tests")
                .subcommand_required(true)
                .arg_required_else_help(true)
                .subcommand(test_rules),
        )
}

/// Runs what the command line says.
pub fn run(matches: &ArgMatches) -> ExitCode {
    let (mut out, mut err) = (std::io::stdout().lock(), std::io::stderr().lock());
    let outcome = match matches.subcommand() {
        Some(("check", matches)) => match matches.subcommand() {
            Some((_, matches)) => {
                check_rules(&paths(matches), &CheckOptions::read(matches), &mut out, &mut err)
            }
            None => Ok(2),
        },
        Some((_, matches)) => match matches.subcommand() {
            Some((_, matches)) => match TestOptions::read(matches) {
                Ok(options) => test_rules(&paths(matches), &options, &mut out, &mut err),
                Err(reason) => {
                    eprintln_to(&mut err, &reason);
                    Ok(2)
                }
            },
            None => Ok(2),
        },
        None => Ok(2),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        // Whoever reads the output has gone.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln_to(&mut err, &error.to_string());
            ExitCode::FAILURE
        }
    }
}

fn eprintln_to(err: &mut dyn std::io::Write, reason: &str) {
    // Nothing is left to be told where even this fails.
    let _ = writeln!(err, "gantry promtool: {reason}");
}

fn paths(matches: &ArgMatches) -> Vec<PathBuf> {
    matches.get_many::<PathBuf>("files").into_iter().flatten().cloned().collect()
}
