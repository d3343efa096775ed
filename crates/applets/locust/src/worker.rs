//! Workers: those of a local run, and `--worker` for a master elsewhere; and which engine runs the locustfile.

use std::path::{Path, PathBuf};

use tokio::signal::unix::{SignalKind, signal};

use crate::flags::{Cli, Engine};
use crate::lift::{Obstacle, lift};
use crate::native::NativeWorkers;
use crate::python::Workers;
use crate::{cores, files, find_python, process_count};

/// Workers of this command.
pub(crate) struct LocalWorkers {
    /// Which engine runs the users, and why that one.
    pub(crate) engine: String,
    pub(crate) count: u32,
    workers: Running,
}

enum Running {
    Python(Workers),
    Native(NativeWorkers),
}

// === impl LocalWorkers ===

impl LocalWorkers {
    /// Starts workers that join a master.
    ///
    /// # Errors
    /// When neither engine can run the file: why not, for each.
    pub(crate) fn start(cli: &Cli, locustfiles: &[PathBuf], master: (&str, u16)) -> Result<LocalWorkers, String> {
        let obstacle = match choose(cli, locustfiles)? {
            Chosen::Native(program) => {
                let count = process_count(cli, cores())?;
                let engine = "native: every task of the locustfile is a straight request".to_owned();
                tracing::info!(target: "locust.main", "Engine: {engine}, {count} worker thread(s)");
                let workers = NativeWorkers::start(program, count, master, cli.reset_stats)?;
                return Ok(LocalWorkers { engine, count, workers: Running::Native(workers) });
            }
            Chosen::Python(obstacle) => obstacle,
        };
        let why = obstacle.map(|reason| format!(", because of {reason}")).unwrap_or_default();
        let python = find_python(cli).map_err(|problem| format!("{problem}{}", not_native(&why)))?;
        let count = process_count(cli, 1)?;
        let engine = format!("locust {} of {}{why}", python.locust, python.path().display());
        tracing::info!(target: "locust.main", "Engine: {engine}, {count} worker process(es)");
        let workers = python.start_workers(count, locustfiles, master, &arguments(cli))?;
        Ok(LocalWorkers { engine, count, workers: Running::Python(workers) })
    }

    /// The exit code of the first worker that has ended, if one has.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        match &mut self.workers {
            Running::Python(workers) => workers.ended(),
            Running::Native(workers) => workers.ended(),
        }
    }

    /// Ends what has not ended by itself.
    pub(crate) async fn end(&mut self) {
        match &mut self.workers {
            Running::Python(workers) => workers.end().await,
            Running::Native(workers) => workers.end().await,
        }
    }

    async fn wait(&mut self) -> i32 {
        match &mut self.workers {
            Running::Python(workers) => workers.wait().await,
            Running::Native(workers) => workers.wait().await,
        }
    }

    /// Asks them to end, as Ctrl-C does.
    fn interrupt(&self) {
        match &self.workers {
            Running::Python(workers) => workers.interrupt(),
            Running::Native(workers) => workers.stop(),
        }
    }
}

enum Chosen {
    Native(gantry_load::locust::native::Program),
    /// And why not the native one, when that was tried.
    Python(Option<Obstacle>),
}

fn choose(cli: &Cli, locustfiles: &[PathBuf]) -> Result<Chosen, String> {
    if cli.engine == Engine::Python {
        return Ok(Chosen::Python(None));
    }
    if !cli.config_users.is_empty() {
        let obstacle = Obstacle {
            place: "--config-users".to_owned(),
            reason: "the native engine does not change user classes".to_owned(),
        };
        return refuse_or_python(cli, obstacle);
    }
    let program = match lift(locustfiles) {
        Ok(program) => program,
        Err(obstacle) => return refuse_or_python(cli, obstacle),
    };
    let mut program = program.with_tags(cli.tags.as_deref(), cli.exclude_tags.as_deref());
    if let Some(unknown) =
        cli.user_classes.iter().find(|name| !program.users.iter().any(|user| user.name == **name))
    {
        return Err(format!("Unknown User(s): {unknown}"));
    }
    if !cli.user_classes.is_empty() {
        program.users.retain(|user| cli.user_classes.contains(&user.name));
    }
    if cli.equal_weights {
        program.users.iter_mut().flat_map(|user| &mut user.tasks).for_each(|task| task.weight = 1);
    }
    if program.users.is_empty() {
        return Err("No tasks are left after the tags".to_owned());
    }
    Ok(Chosen::Native(program))
}

fn refuse_or_python(cli: &Cli, obstacle: Obstacle) -> Result<Chosen, String> {
    if cli.engine == Engine::Native {
        return Err(format!("the native engine cannot run this locustfile: {obstacle}; --engine python can"));
    }
    Ok(Chosen::Python(Some(obstacle)))
}

fn not_native(why: &str) -> String {
    if why.is_empty() { String::new() } else { format!("; the native engine cannot run it{why}") }
}

/// What a worker process is told besides its master.
fn arguments(cli: &Cli) -> Vec<String> {
    let mut arguments = vec!["--loglevel".to_owned(), cli.loglevel.to_ascii_uppercase()];
    let flags = [
        (cli.reset_stats, "--reset-stats"),
        (cli.equal_weights, "--equal-weights"),
        (cli.skip_log_setup, "--skip-log-setup"),
    ];
    arguments.extend(flags.iter().filter(|(given, _)| *given).map(|(_, flag)| (*flag).to_owned()));
    if let Some(host) = &cli.host {
        arguments.extend(["--host".to_owned(), host.clone()]);
    }
    arguments.extend(cli.user_classes.iter().cloned());
    arguments
}

/// `--worker`: joins a master elsewhere and gives the exit code.
pub(crate) async fn run(cli: Cli) -> Result<u8, String> {
    let master = (cli.master_host.as_str(), cli.master_port);
    let mut workers = if cli.locustfile.trim() == "-" {
        downloading(&cli, master)?
    } else {
        LocalWorkers::start(&cli, &files::find(&cli.locustfile)?, master)?
    };
    let listen = |kind| signal(kind).map_err(|error| format!("cannot listen for signals: {error}"));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    loop {
        tokio::select! {
            code = workers.wait() => return Ok(u8::try_from(code).unwrap_or(1)),
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        workers.interrupt();
    }
}

/// The master's locustfile is fetched by the locust package, which may then import whatever it names.
fn downloading(cli: &Cli, master: (&str, u16)) -> Result<LocalWorkers, String> {
    if cli.engine == Engine::Native {
        return Err("-f -: the native engine needs the locustfile here; name the file".to_owned());
    }
    let python = find_python(cli)?;
    let count = process_count(cli, 1)?;
    let engine = format!("locust {} of {}", python.locust, Path::display(python.path()));
    tracing::info!(target: "locust.main", "Engine: {engine}, {count} worker process(es)");
    let workers = python.start_downloading_workers(count, master, &arguments(cli))?;
    Ok(LocalWorkers { engine, count, workers: Running::Python(workers) })
}
