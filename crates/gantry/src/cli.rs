//! The command line: verbs of our own, applets by name, and applets by the name of a link to this binary.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::up::control::VerbResult;
use crate::up::ports::Ports;
use crate::up::steps::Output;
use crate::up::{self, UpOptions, control, logs, status};
use crate::{prove, resident};

const DEFAULT_DATA_DIR: &str = ".gantry";

/// An applet: the tool's name, its flags, and what runs it.
struct Applet {
    command: fn() -> Command,
    run: fn(&ArgMatches) -> ExitCode,
    life: Life,
}

/// What an applet is for the process: over with its answer, or there until it is stopped.
#[derive(PartialEq)]
enum Life {
    Tool,
    Server,
}

const APPLETS: &[Applet] = &[
    Applet::tool(gantry_applet_kustomize::command, gantry_applet_kustomize::run),
    Applet::tool(gantry_applet_diff::command, gantry_applet_diff::run),
    Applet::server(gantry_applet_prometheus::command, gantry_applet_prometheus::run),
    Applet::tool(gantry_applet_promtool::command, gantry_applet_promtool::run),
    Applet::server(gantry_applet_grafana::command, gantry_applet_grafana::run),
    Applet::server(gantry_applet_kong::command, gantry_applet_kong::run),
    Applet::tool(gantry_applet_load::command, gantry_applet_load::run),
    Applet::server(gantry_applet_kopf::command, gantry_applet_kopf::run),
    Applet::server(gantry_applet_locust::command, gantry_applet_locust::run),
    Applet::server(gantry_applet_sample_service::command, gantry_applet_sample_service::run),
    Applet::server(gantry_applet_thanos::command, gantry_applet_thanos::run),
];

impl Applet {
    const fn tool(command: fn() -> Command, run: fn(&ArgMatches) -> ExitCode) -> Applet {
        Applet { command, run, life: Life::Tool }
    }

    const fn server(command: fn() -> Command, run: fn(&ArgMatches) -> ExitCode) -> Applet {
        Applet { command, run, life: Life::Server }
    }

    fn start(&self, matches: &ArgMatches) -> ExitCode {
        if self.life == Life::Server {
            resident::give_back_after_the_start();
        }
        (self.run)(matches)
    }
}

/// Runs the command line (program name first) and gives the process' exit code.
pub(crate) fn run(args: Vec<OsString>) -> ExitCode {
    if let Some(code) = gantry_node::isolation::verb(&args) {
        return code;
    }
    let program = args.first().map(PathBuf::from).unwrap_or_default();
    let link_name = program.file_name().and_then(|name| name.to_str()).unwrap_or("gantry").to_owned();
    let by_name = |name: &str| APPLETS.iter().find(|applet| (applet.command)().get_name() == name);
    // Whoever asks all applets for their names sets all of them up: the usual name is not asked for.
    if link_name != "gantry"
        && let Some(applet) = by_name(&link_name)
    {
        return match (applet.command)().try_get_matches_from(args) {
            Ok(matches) => applet.start(&matches),
            Err(error) => usage(&error),
        };
    }
    // An applet that the first word names is all that is set up.
    let named = args.get(1).and_then(|word| word.to_str()).and_then(by_name);
    let command = match named {
        Some(applet) => Command::new("gantry").subcommand((applet.command)()),
        None => command(),
    };
    let matches = match command.try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) => return usage(&error),
    };
    let Some((verb, matches)) = matches.subcommand() else { return ExitCode::from(2) };
    if let Some(applet) = named.or_else(|| by_name(verb)) {
        return applet.start(matches);
    }
    let result = match verb {
        "up" => up_verb(matches),
        "down" => control::down(data_dir(matches), matches.get_flag("purge"), output(matches)),
        "status" => status::status(data_dir(matches), output(matches)),
        "logs" => logs::logs(&logs_options(matches)),
        "prove" => prove::prove(&prove_options(matches)),
        other => unreachable!("clap accepted the verb {other}, which is not in the table"),
    };
    result.unwrap_or_else(|error| fail(error.as_ref()))
}

fn usage(error: &clap::Error) -> ExitCode {
    // clap prints help to standard output and mistakes to standard error.
    let _ = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

fn fail(error: &(dyn std::error::Error + 'static)) -> ExitCode {
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let label = if colour { "\x1b[31merror:\x1b[0m" } else { "error:" };
    eprintln!("{label} {}", gantry_operator::explain(error));
    ExitCode::from(1)
}

fn command() -> Command {
    let mut command = Command::new("gantry")
        .version(env!("CARGO_PKG_VERSION"))
        .about("One binary for the nine jobs around running services on Kubernetes")
        .after_help(
            "Start here:\n  gantry up examples/shop/overlays/dev     bring a kustomization up on this machine\n  \
             gantry kustomize build DIR               print what an overlay makes\n  \
             gantry diff DIR DIR                      compare two overlays by object and field\n  \
             gantry prove DIR --scenario FILE         the whole loop as a verdict for CI\n\n\
             A link to this binary that is named like an applet (kustomize, prometheus, thanos, locust) behaves as that tool.",
        )
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(up_command())
        .subcommand(down_command())
        .subcommand(status_command())
        .subcommand(logs_command())
        .subcommand(prove_command());
    for applet in APPLETS {
        command = command.subcommand((applet.command)());
    }
    command
}

fn up_command() -> Command {
    Command::new("up")
        .about("Bring a kustomization up on this machine: control plane, pods, gateway, metrics, scaling, console")
        .long_about(
            "Builds DIR as `kustomize build` does, starts a Kubernetes API on loopback, applies the objects, runs the \
             pods as processes of this machine, routes traffic to them, watches them, scales them and shows it, in one \
             process. Needs no cluster, container engine or root.\n\n\
             An image is run by the local command that gantry.yaml (at or above DIR) gives for it under `images:`, or \
             by the pod annotation gantry.dev/command.",
        )
        .after_help(
            "Examples:\n  gantry up examples/shop/overlays/dev\n  gantry up DIR --ports gateway=8080,console=auto\n  \
             gantry up DIR --detach && gantry status && gantry down\n\nCtrl-C drains and ends everything it started.",
        )
        .arg(Arg::new("dir").value_name("DIR").required(true).value_parser(value_parser!(PathBuf)).help("A folder with a kustomization.yaml"))
        .arg(data_dir_arg())
        .arg(
            Arg::new("ports")
                .long("ports")
                .value_name("NAME=PORT,…")
                .overrides_with("ports")
                .value_parser(|text: &str| text.parse::<Ports>())
                .help("Ports for apiserver, gateway, metrics, console; `auto` takes free ones: for one, for all, or for all but those named after it (auto,gateway=8080) [default: apiserver=16443,gateway=8000,metrics=9090,console=3000]"),
        )
        .arg(Arg::new("detach").long("detach").short('d').action(ArgAction::SetTrue).help("Return when everything is ready; end it with `gantry down`"))
        .arg(output_arg())
}

fn down_command() -> Command {
    Command::new("down")
        .about("End a running `up` and every process it started")
        .arg(data_dir_arg())
        .arg(
            Arg::new("purge")
                .long("purge")
                .action(ArgAction::SetTrue)
                .help("Also remove the state folder: objects, metrics, logs, keys"),
        )
        .arg(output_arg())
}

fn status_command() -> Command {
    Command::new("status")
        .about("Show what a running `up` has: addresses, objects and their health")
        .after_help("Ends with 0 when everything is ready, 1 when something is not or nothing runs.")
        .arg(data_dir_arg())
        .arg(output_arg())
}

fn logs_command() -> Command {
    Command::new("logs")
        .about("Print the logs of the pods of a running `up`, merged")
        .arg(
            Arg::new("name").value_name("NAME").help("Only pods whose name starts with this; all without it"),
        )
        .arg(
            Arg::new("follow")
                .long("follow")
                .short('f')
                .action(ArgAction::SetTrue)
                .help("Go on with new lines until Ctrl-C"),
        )
        .arg(
            Arg::new("tail")
                .long("tail")
                .value_name("LINES")
                .value_parser(value_parser!(i64))
                .help("Only the last lines of each container"),
        )
        .arg(
            Arg::new("namespace")
                .long("namespace")
                .short('n')
                .value_name("NAME")
                .help("Only this namespace; all without it"),
        )
        .arg(data_dir_arg())
}

fn prove_command() -> Command {
    Command::new("prove")
        .about("Bring DIR up, drive a load, assert, and end with 0 or 1: the whole loop as a verdict for CI")
        .long_about(
            "Brings DIR up (or uses the cluster of --context), waits until everything is ready, drives the load of the \
             scenario through the gateway, and then judges the assertions under the scenario's `prove:` key: PromQL \
             thresholds, failed requests, the path the replicas took, and the time to recover after the load. Writes \
             JUnit XML for the CI and one HTML page on which load, latency, replicas and events lie on one timeline.",
        )
        .after_help("Ends with 0 when every assertion holds, 1 when one does not or the run could not be made, 2 on wrong usage.")
        .arg(Arg::new("dir").value_name("DIR").required(true).value_parser(value_parser!(PathBuf)).help("A folder with a kustomization.yaml"))
        .arg(Arg::new("scenario").long("scenario").value_name("FILE").required(true).value_parser(value_parser!(PathBuf)).help("The load and the assertions"))
        .arg(Arg::new("context").long("context").value_name("NAME").help("Use this kubeconfig context instead of bringing DIR up here"))
        .arg(Arg::new("prometheus").long("prometheus").value_name("URL").requires("context").help("With --context: where the PromQL thresholds are asked"))
        .arg(Arg::new("junit").long("junit").value_name("FILE").default_value("gantry-prove.xml").value_parser(value_parser!(PathBuf)).help("Where the JUnit XML goes"))
        .arg(Arg::new("report").long("report").value_name("FILE").default_value("gantry-prove.html").value_parser(value_parser!(PathBuf)).help("Where the HTML page goes"))
        .arg(Arg::new("data-dir").long("data-dir").value_name("DIR").value_parser(value_parser!(PathBuf)).help("Keep the state there; without it a temporary folder is used and removed"))
        .arg(output_arg())
}

fn data_dir_arg() -> Arg {
    Arg::new("data-dir")
        .long("data-dir")
        .value_name("DIR")
        .env("GANTRY_DATA_DIR")
        .default_value(DEFAULT_DATA_DIR)
        .value_parser(value_parser!(PathBuf))
        .help("The folder that keeps all state")
}

fn output_arg() -> Arg {
    Arg::new("output")
        .long("output")
        .short('o')
        .value_name("FORMAT")
        .default_value("text")
        .value_parser(value_parser!(Output))
        .help("text for a person, json for one object a line")
}

fn data_dir(matches: &ArgMatches) -> &Path {
    matches.get_one::<PathBuf>("data-dir").expect("it has a default")
}

fn output(matches: &ArgMatches) -> Output {
    *matches.get_one::<Output>("output").expect("it has a default")
}

fn up_verb(matches: &ArgMatches) -> VerbResult {
    let options = UpOptions {
        dir: matches.get_one::<PathBuf>("dir").expect("it is required").clone(),
        data_dir: data_dir(matches).to_owned(),
        ports: matches.get_one::<Ports>("ports").copied().unwrap_or_default(),
        output: output(matches),
    };
    if matches.get_flag("detach") {
        return up::detach::detach(&options);
    }
    resident::give_back_after_the_start();
    up::run_in_foreground(&options)
}

fn logs_options(matches: &ArgMatches) -> logs::LogsOptions {
    logs::LogsOptions {
        data_dir: data_dir(matches).to_owned(),
        name: matches.get_one::<String>("name").cloned().unwrap_or_default(),
        namespace: matches.get_one::<String>("namespace").cloned(),
        follow: matches.get_flag("follow"),
        tail: matches.get_one::<i64>("tail").copied(),
    }
}

fn prove_options(matches: &ArgMatches) -> prove::ProveOptions {
    let path = |name: &str| matches.get_one::<PathBuf>(name).expect("required or defaulted").clone();
    prove::ProveOptions {
        dir: path("dir"),
        scenario: path("scenario"),
        context: matches.get_one::<String>("context").cloned(),
        prometheus: matches.get_one::<String>("prometheus").cloned(),
        junit: path("junit"),
        report: path("report"),
        data_dir: matches.get_one::<PathBuf>("data-dir").cloned(),
        output: output(matches),
    }
}
