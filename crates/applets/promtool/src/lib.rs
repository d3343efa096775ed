//! Checks, tests, questions to a server and looks into its data, with `promtool`'s verbs, flags, output and exit codes.
//!
//! [`command`] and [`run`] are the applet; a function for each verb does the same for other programs.
#![forbid(unsafe_code)]

mod check;
mod config;
mod junit;
mod metrics;
mod promql;
mod query;
mod test;
mod tsdb;
mod web_config;

pub use check::{CheckOptions, Lint, check_rules};
pub use config::check_config;
pub use metrics::check_metrics;
pub use promql::test_promql;
pub use query::{Format, Question, query};
pub use test::{TestOptions, test_rules};
pub use tsdb::{analyze as tsdb_analyze, dump as tsdb_dump, list as tsdb_list};
pub use web_config::check_web_config;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

const EXAMPLES: &str = "\
Examples:
  gantry promtool check rules rules/*.yml
  gantry promtool check rules --lint-fatal rules.yml
  gantry promtool test rules tests.yml
  gantry promtool test rules --run '^slow' --junit report.xml tests.yml
  gantry promtool test promql operators.test
  gantry promtool check config prometheus.yml
  curl -s localhost:9090/metrics | gantry promtool check metrics
  gantry promtool query instant http://localhost:9090 'sum by (job) (up)'
  gantry promtool tsdb list -r data";

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
        .arg(ignore.clone());
    let lint = || check_rules.get_arguments().find(|arg| arg.get_id() == "lint").cloned();
    let lint_fatal = || check_rules.get_arguments().find(|arg| arg.get_id() == "lint-fatal").cloned();
    let check_config = Command::new("config")
        .about("Check that configuration files are valid, and the rule files they name")
        .arg(files().required(true).help("Configuration files"))
        .arg(
            Arg::new("syntax-only")
                .long("syntax-only")
                .action(ArgAction::SetTrue)
                .help("Do not look at the files that are named"),
        )
        .args(lint())
        .args(lint_fatal())
        .arg(ignore.clone());
    let check_web = Command::new("web-config")
        .about("Check that web configuration files are valid")
        .arg(files().required(true).help("Web configuration files"));
    let check_metrics =
        Command::new("metrics").about("Check metrics on standard input for consistency and good names");
    let test_promql = Command::new("promql")
        .about("Run test scripts of the query language")
        .arg(files().required(true).help("Test scripts"));
    Command::new("promtool")
        .about("Check, test and ask Prometheus, and look into its data")
        .after_help(EXAMPLES)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(group("check", "Check files").subcommands([
            check_rules.clone(),
            check_config,
            check_web,
            check_metrics,
        ]))
        .subcommand(group("test", "Run tests").subcommands([test_rules, test_promql]))
        .subcommand(query_command())
        .subcommand(tsdb_command())
}

fn group(name: &'static str, about: &'static str) -> Command {
    Command::new(name).about(about).subcommand_required(true).arg_required_else_help(true)
}

fn option(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).help(help)
}

fn query_command() -> Command {
    let server = || Arg::new("server").value_name("SERVER").required(true).help("The server's URL");
    let expr = || Arg::new("expr").value_name("EXPR").required(true).help("The expression");
    let times = || {
        [
            option("start", "TIME", "From when, RFC 3339 or Unix seconds"),
            option("end", "TIME", "Until when, RFC 3339 or Unix seconds"),
        ]
    };
    let selectors =
        || option("match", "SELECTOR", "Series; may be given more than once").action(ArgAction::Append);
    let format = Arg::new("format")
        .short('o')
        .long("format")
        .value_name("FORMAT")
        .default_value("promql")
        .value_parser(["promql", "json"])
        .global(true)
        .help("How the answer is printed");
    group("query", "Ask a server")
        .arg(format)
        .subcommand(Command::new("instant").about("At one time").args([
            server(),
            expr(),
            option("time", "TIME", "When, RFC 3339 or Unix seconds"),
        ]))
        .subcommand(
            Command::new("range")
                .about("Over a time")
                .args([server(), expr(), option("step", "DURATION", "Between two points")])
                .args(times()),
        )
        .subcommand(
            Command::new("series").about("Series").args([server(), selectors().required(true)]).args(times()),
        )
        .subcommand(
            Command::new("labels")
                .about("Values of a label")
                .args([
                    server(),
                    Arg::new("name").value_name("NAME").required(true).help("The label"),
                    selectors(),
                ])
                .args(times()),
        )
}

fn tsdb_command() -> Command {
    let dir = || {
        Arg::new("dir")
            .value_name("DB")
            .default_value("data/")
            .value_parser(value_parser!(PathBuf))
            .help("The data folder")
    };
    let selectors = || {
        option("match", "SELECTOR", "Only these series; may be given more than once")
            .action(ArgAction::Append)
    };
    let time =
        |name, help| option(name, "MS", help).value_parser(value_parser!(i64)).allow_hyphen_values(true);
    group("tsdb", "Look into a data folder")
        .subcommand(
            Command::new("list").about("List its blocks").arg(dir()).arg(
                Arg::new("human-readable")
                    .short('r')
                    .long("human-readable")
                    .action(ArgAction::SetTrue)
                    .help("Times and sizes for people"),
            ),
        )
        .subcommand(
            Command::new("analyze")
                .about("Say what takes room in a block")
                .arg(dir())
                .arg(Arg::new("block").value_name("BLOCK").help("The block; the newest when absent"))
                .arg(
                    option("limit", "N", "Entries in each list")
                        .default_value("20")
                        .value_parser(value_parser!(usize)),
                )
                .arg(selectors()),
        )
        .subcommand(
            Command::new("dump")
                .about("Print samples, one a line")
                .arg(dir())
                .arg(time("min-time", "First time, in Unix milliseconds"))
                .arg(time("max-time", "Last time, in Unix milliseconds"))
                .arg(selectors()),
        )
}

/// Runs what the command line says.
pub fn run(matches: &ArgMatches) -> ExitCode {
    let (mut out, mut err) = (std::io::stdout().lock(), std::io::stderr().lock());
    let outcome = match matches.subcommand() {
        Some(("check", matches)) => check(matches, &mut out, &mut err),
        Some(("test", matches)) => test(matches, &mut out, &mut err),
        Some(("query", matches)) => ask(matches, &mut out, &mut err),
        Some(("tsdb", matches)) => look(matches, &mut out, &mut err),
        _ => Ok(2),
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

type Outcome = std::io::Result<u8>;

fn check(matches: &ArgMatches, out: &mut dyn Write, err: &mut dyn Write) -> Outcome {
    match matches.subcommand() {
        Some(("rules", matches)) => check_rules(&paths(matches), &CheckOptions::read(matches), out, err),
        Some(("config", matches)) => {
            let options = CheckOptions::read(matches);
            check_config(&paths(matches), matches.get_flag("syntax-only"), &options, out, err)
        }
        Some(("web-config", matches)) => check_web_config(&paths(matches), out, err),
        Some(("metrics", _)) => check_metrics(&mut std::io::stdin().lock(), err),
        _ => Ok(2),
    }
}

fn test(matches: &ArgMatches, out: &mut dyn Write, err: &mut dyn Write) -> Outcome {
    match matches.subcommand() {
        Some(("rules", matches)) => match TestOptions::read(matches) {
            Ok(options) => test_rules(&paths(matches), &options, out, err),
            Err(reason) => {
                eprintln_to(err, &reason);
                Ok(2)
            }
        },
        Some(("promql", matches)) => test_promql(&paths(matches), out, err),
        _ => Ok(2),
    }
}

fn ask(matches: &ArgMatches, out: &mut dyn Write, err: &mut dyn Write) -> Outcome {
    let Some((verb, matches)) = matches.subcommand() else { return Ok(2) };
    let text = |name: &str| matches.try_get_one::<String>(name).ok().flatten().cloned();
    let mut parameters = Vec::new();
    for (parameter, name) in
        [("query", "expr"), ("time", "time"), ("start", "start"), ("end", "end"), ("step", "step")]
    {
        parameters.extend(text(name).map(|value| (parameter.to_owned(), value)));
    }
    if verb == "range" {
        complete_range(&mut parameters);
    }
    let selectors = matches.try_get_many::<String>("match").ok().flatten();
    parameters
        .extend(selectors.into_iter().flatten().map(|selector| ("match[]".to_owned(), selector.clone())));
    let endpoint = match verb {
        "instant" => "query".to_owned(),
        "range" => "query_range".to_owned(),
        "series" => "series".to_owned(),
        _ => format!("label/{}/values", text("name").unwrap_or_default()),
    };
    let is_json = text("format").is_some_and(|format| format == "json");
    let format = if is_json { Format::Json } else { Format::Prometheus };
    query(&text("server").unwrap_or_default(), &Question { endpoint, parameters }, format, out, err)
}

/// A range without bounds is the last five minutes; without a step it has 250 points.
fn complete_range(parameters: &mut Vec<(String, String)>) {
    use gantry_clock::Clock;
    let time = |parameters: &[(String, String)], name: &str| {
        let text = parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())?;
        text.parse::<f64>().ok().or_else(|| gantry_clock::parse_rfc3339(text).map(|ms| ms as f64 / 1000.0))
    };
    let now = gantry_clock::SystemClock::new().now_ms() as f64 / 1000.0;
    let end = time(parameters, "end").unwrap_or(now);
    let start = time(parameters, "start").unwrap_or(end - 300.0);
    let step = ((end - start) / 250.0).floor().max(1.0);
    for (name, value) in [("end", end), ("start", start), ("step", step)] {
        if !parameters.iter().any(|(known, _)| known == name) {
            parameters.push((name.to_owned(), value.to_string()));
        }
    }
}

fn look(matches: &ArgMatches, out: &mut dyn Write, err: &mut dyn Write) -> Outcome {
    let Some((verb, matches)) = matches.subcommand() else { return Ok(2) };
    let Some(dir) = matches.get_one::<PathBuf>("dir") else { return Ok(2) };
    let selectors = matches.try_get_many::<String>("match").ok().flatten().into_iter().flatten();
    let selectors: Result<Vec<_>, _> = selectors.map(|text| gantry_promql::parse_selector(text)).collect();
    let selectors = match selectors {
        Ok(selectors) => selectors,
        Err(error) => {
            eprintln_to(err, &format!("--match: {error}"));
            return Ok(1);
        }
    };
    match verb {
        "list" => tsdb_list(dir, matches.get_flag("human-readable"), out, err),
        "analyze" => {
            let matchers = selectors.into_iter().flatten().collect::<Vec<_>>();
            let block = matches.get_one::<String>("block").map(String::as_str);
            let limit = matches.get_one::<usize>("limit").copied().unwrap_or(20);
            tsdb_analyze(dir, block, &matchers, limit, out, err)
        }
        _ => {
            let time = |name: &str, default: i64| matches.get_one::<i64>(name).copied().unwrap_or(default);
            let range = (time("min-time", i64::MIN / 4), time("max-time", i64::MAX / 4));
            let everything = || gantry_promql::parse_selector("{__name__=~\".*\",__name__!=\"\"}").ok();
            let selectors = if selectors.is_empty() { everything().into_iter().collect() } else { selectors };
            tsdb_dump(dir, &selectors, range, out, err)
        }
    }
}
