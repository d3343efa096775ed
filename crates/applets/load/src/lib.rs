//! The load command line: `gantry load FILE`.
//!
//! Exit codes: 0 when every threshold held, 1 when one did not, 2 when there was nothing to run.

#![forbid(unsafe_code)]

mod progress;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{CommandFactory, FromArgMatches, Parser, ValueEnum};
use gantry_clock::SystemClock;
use gantry_load::{Options, Run, Scenario, Summary, Target};

/// Send load as a scenario describes it, and judge the answers.
///
/// Latency is measured twice: from the moment a request was due, and from the moment it was sent. Percentiles are
/// exact. Ctrl-C ends the load early and still prints what was measured; a second one ends at once.
#[derive(Parser)]
#[command(
    name = "load",
    after_help = "A scenario:\n
  target: http://127.0.0.1:8080
  duration: 30s
  users: {count: 20, ramp: 5s, think: {between: [100ms, 300ms]}}   # or arrivals: {rate: 200/s}
  requests:
    - {path: '/products/{1..20}', weight: 9}
    - {method: POST, path: /checkout, json: {product: 3, quantity: 2}}
  thresholds:
    load: [p99 < 250ms, error_rate == 0]

Examples:
  gantry load load.yaml
  gantry load load.yaml --target http://127.0.0.1:9000 --duration 10s
  gantry load load.yaml --output json | jq .total.intended.p99_ms

Exit codes: 0 every threshold held, 1 one did not, 2 the scenario could not be run."
)]
struct Cli {
    /// Scenario file (YAML).
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Send to this URL instead of the scenario's target.
    #[arg(long, value_name = "URL", value_parser = Target::parse)]
    target: Option<Target>,
    /// End after this time; a shorter scenario is held at its last level.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    duration: Option<Duration>,
    /// Choose requests, think times and Poisson arrivals by this number instead of the scenario's.
    #[arg(long)]
    seed: Option<u64>,
    /// Threads that send; 0: one per core, fewer when the load is small.
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=256))]
    threads: u16,
    /// How to print the summary.
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// Write a report as one HTML page that needs no other file.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write the verdicts as JUnit XML.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// No progress line.
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

pub fn command() -> clap::Command {
    Cli::command()
}

pub fn run(matches: &clap::ArgMatches) -> ExitCode {
    let cli = match Cli::from_arg_matches(matches) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    match execute(&cli) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::from(2)
        }
    }
}

/// Whether every threshold held.
fn execute(cli: &Cli) -> Result<bool, String> {
    let name = cli.file.display().to_string();
    let text = std::fs::read_to_string(&cli.file).map_err(|error| format!("{name}: {error}"))?;
    let mut scenario = Scenario::parse(&name, &text).map_err(|error| error.to_string())?;
    if let Some(duration) = cli.duration {
        scenario.set_duration(duration);
    }
    if let Some(seed) = cli.seed {
        scenario.seed = seed;
    }
    if !scenario.thresholds.promql.is_empty() {
        eprintln!(
            "note: thresholds.promql is judged by gantry prove, which has the metrics; not judged here"
        );
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start the runtime: {error}"))?;
    let summary = runtime.block_on(drive(cli, scenario))?;
    print_summary(cli.output, &summary)?;
    let report = gantry_load::report::Report::of_run(&summary);
    if let Some(path) = &cli.html {
        write(path, &report.to_html())?;
    }
    if let Some(path) = &cli.junit {
        write(path, &report.to_junit())?;
    }
    Ok(summary.passed)
}

async fn drive(cli: &Cli, scenario: Scenario) -> Result<Arc<Summary>, String> {
    let total = scenario.duration();
    let options = Options { target: cli.target.clone(), threads: cli.threads.into(), ..Options::default() };
    let run =
        Run::start(scenario, Arc::new(SystemClock::new()), options).map_err(|error| error.to_string())?;
    let mut snapshots = run.snapshots();
    let mut progress =
        (!cli.quiet && std::io::stderr().is_terminal()).then(|| progress::Progress::new(total));
    let mut waiting = std::pin::pin!(run.wait());
    let mut interrupts = 0;
    loop {
        tokio::select! {
            summary = &mut waiting => {
                if let Some(progress) = &mut progress {
                    progress.end();
                }
                return Ok(summary);
            }
            Ok(()) = snapshots.changed() => {
                if let (Some(progress), Some(snapshot)) = (&mut progress, &*snapshots.borrow_and_update()) {
                    progress.show(snapshot);
                }
            }
            Ok(()) = tokio::signal::ctrl_c() => {
                interrupts += 1;
                if interrupts > 1 {
                    return Err("ended at once; nothing was summed up".to_owned());
                }
                run.stop();
            }
        }
    }
}

fn print_summary(output: Output, summary: &Summary) -> Result<(), String> {
    match output {
        Output::Text => {
            println!("{} against {}, {:.1} s", summary.scenario, summary.target, summary.seconds);
            print!("{}", summary.to_text());
        }
        Output::Json => {
            let json = serde_json::to_string_pretty(summary).map_err(|error| error.to_string())?;
            println!("{json}");
        }
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

fn duration(text: &str) -> Result<Duration, String> {
    let time = gantry_clock::parse_go_duration_unsigned(text).map_err(|error| error.to_string())?;
    if time.is_zero() { Err("must be longer than 0".to_owned()) } else { Ok(time) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_is_consistent() {
        command().debug_assert();
    }
}
