//! Thanos: `sidecar`, `store`, `query` and `compact` over blocks in object storage.
//!
//! [`command`] and [`run`] are the applet; [`query_api`] is the query component inside another process.
#![forbid(unsafe_code)]

mod compact;
mod flags;
mod query;
mod serving;
mod sidecar;
mod store;

pub use query::{QueryApi, QuerySettings, query_api, storage_for};

use std::process::ExitCode;

use clap::{ArgMatches, Command};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

const EXAMPLES: &str = "\
Examples:
  gantry thanos sidecar --prometheus.url=http://127.0.0.1:9090 --tsdb.path=data --objstore.config-file=bucket.yml
  gantry thanos store --objstore.config-file=bucket.yml --grpc-address=127.0.0.1:10905
  gantry thanos query --endpoint=127.0.0.1:10901 --endpoint=127.0.0.1:10905 --query.replica-label=replica
  gantry thanos compact --objstore.config-file=bucket.yml --data-dir=work

bucket.yml is Thanos' own: `type: FILESYSTEM` or `type: S3` with its `config` and `prefix`.";

/// The command line of the applet.
pub fn command() -> Command {
    Command::new("thanos")
        .about(
            "Keep metrics in object storage and query them together: Thanos' components, flags and formats",
        )
        .after_help(EXAMPLES)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(sidecar::command())
        .subcommand(store::command())
        .subcommand(query::command())
        .subcommand(compact::command())
}

/// Runs a component until it is told to end.
pub fn run(matches: &ArgMatches) -> ExitCode {
    let Some((component, matches)) = matches.subcommand() else { return ExitCode::from(2) };
    let outcome = flags::log_to_stderr(matches).and_then(|()| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("cannot start the runtime: {error}"))?;
        let outcome = match component {
            "sidecar" => until_told(&runtime, |stop| sidecar::run(matches, stop)),
            "store" => until_told(&runtime, |stop| store::run(matches, stop)),
            "query" => until_told(&runtime, |stop| query::run(matches, stop)),
            "compact" => until_told(&runtime, |stop| compact::run(matches, stop)),
            other => Err(format!("component {other} is not built; sidecar, store, query and compact are")),
        };
        runtime.shutdown_timeout(std::time::Duration::from_secs(5));
        outcome
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("gantry thanos {component}: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a component; SIGTERM and SIGINT cancel its token.
fn until_told<F>(runtime: &Runtime, component: impl FnOnce(CancellationToken) -> F) -> Result<(), String>
where
    F: Future<Output = Result<(), String>>,
{
    runtime.block_on(async {
        let stop = CancellationToken::new();
        let listen = |kind| signal(kind).map_err(|error| format!("cannot listen for signals: {error}"));
        let (mut terminate, mut interrupt) =
            (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
        let ended = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            ended.cancel();
        });
        component(stop).await
    })
}
