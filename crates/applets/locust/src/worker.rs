//! Workers: those of a local run, and `--worker` for a master elsewhere.

use std::path::PathBuf;

use tokio::signal::unix::{SignalKind, signal};

use crate::flags::Cli;
use crate::python::Workers;
use crate::{files, find_python, process_count};

/// The workers of a local run.
pub(crate) struct LocalWorkers {
    /// Which engine runs the users, and why that one.
    pub(crate) engine: String,
    workers: Workers,
}

// === impl LocalWorkers ===

impl LocalWorkers {
    pub(crate) fn start(
        cli: &Cli,
        locustfiles: &[PathBuf],
        count: u32,
        port: u16,
    ) -> Result<LocalWorkers, String> {
        let python = find_python(cli)?;
        let engine = format!("locust {} of {}", python.locust, python.path().display());
        tracing::info!(target: "locust.main", "Engine: {engine}, {count} worker process(es)");
        let workers = python.start_workers(count, locustfiles, ("127.0.0.1", port), &arguments(cli), true)?;
        Ok(LocalWorkers { engine, workers })
    }

    pub(crate) fn ended(&mut self) -> Option<i32> {
        self.workers.ended()
    }

    /// Waits for them to end, and gives the exit code that the locustfile has set.
    pub(crate) async fn end(&mut self) -> Option<u8> {
        self.workers.end().await;
        self.workers.chosen_exit_code()
    }
}

/// What a worker process is told besides its master.
fn arguments(cli: &Cli) -> Vec<String> {
    let mut arguments = vec!["--loglevel".to_owned(), cli.loglevel.to_ascii_uppercase()];
    for (given, flag) in [
        (cli.reset_stats, "--reset-stats"),
        (cli.equal_weights, "--equal-weights"),
        (cli.skip_log_setup, "--skip-log-setup"),
    ] {
        if given {
            arguments.push(flag.to_owned());
        }
    }
    if let Some(host) = &cli.host {
        arguments.extend(["--host".to_owned(), host.clone()]);
    }
    arguments.extend(cli.user_classes.iter().cloned());
    arguments
}

/// `--worker`: joins a master elsewhere and gives the exit code.
pub(crate) async fn run(cli: Cli) -> Result<u8, String> {
    let count = process_count(&cli)?;
    let python = find_python(&cli)?;
    tracing::info!(target: "locust.main", "Engine: locust {} of {}", python.locust, python.path().display());
    let master = (cli.master_host.as_str(), cli.master_port);
    let mut workers = if cli.locustfile.trim() == "-" {
        python.start_downloading_workers(count, master, &arguments(&cli))?
    } else {
        python.start_workers(count, &files::find(&cli.locustfile)?, master, &arguments(&cli), false)?
    };
    let listen = |kind| signal(kind).map_err(|error| format!("cannot listen for signals: {error}"));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let mut asked = 0;
    loop {
        tokio::select! {
            code = workers.wait() => return Ok(u8::try_from(code).unwrap_or(1)),
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        asked += 1;
        if asked > 1 {
            workers.end_now().await;
            return Ok(1);
        }
        workers.interrupt();
    }
}
