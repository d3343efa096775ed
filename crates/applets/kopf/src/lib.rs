//! Kopf's command line: the user's Python handlers in a worker process, under the operator framework.
//!
//! The engine (what happened to an object, which handler is due, what is written) is `operator`. The user's
//! interpreter runs in a process of its own and only calls functions; it is given a package `kopf` that this binary
//! carries. When the process dies, it is started again and what it was doing is tried again.
#![forbid(unsafe_code)]

mod calls;
mod declared;
mod feed;
mod flags;
mod logging;
mod peering;
mod probe;
mod python;
mod register;
mod resources;
mod running;
mod session;
mod worker;

use std::process::ExitCode;

use clap::{ArgMatches, Command};

/// The command line of the applet.
pub fn command() -> Command {
    flags::command()
}

/// Runs the operator until it is told to end.
pub fn run(matches: &ArgMatches) -> ExitCode {
    let Some((verb, matches)) = matches.subcommand() else { return ExitCode::from(2) };
    let outcome = match verb {
        "run" => flags::RunFlags::read(matches).and_then(|flags| {
            logging::to_stderr(&flags.log);
            in_runtime(running::run(flags))
        }),
        "freeze" | "resume" => flags::PeerFlags::read(matches, verb == "resume").and_then(|flags| {
            logging::to_stderr(&flags.log);
            in_runtime(peering::touch_once(flags))
        }),
        other => Err(format!("no such command: {other}; there are run, freeze and resume")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("gantry kopf: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn in_runtime<F>(work: F) -> Result<(), String>
where
    F: std::future::Future<Output = Result<(), String>>,
{
    // One thread: an operator waits for its server and for Python, and each thread would cost memory.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start the runtime: {error}"))?;
    let outcome = runtime.block_on(work);
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    outcome
}
