//! A run with a master of ours: with workers from elsewhere, or with worker processes of its own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gantry_clock::SystemClock;
use gantry_load::locust::{Config, MasterHandle, ServerConfig, StartOutcome};
use gantry_serve::{ListenConfig, Listener, TlsConfig};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::api::{self, Api, Defaults};
use crate::flags::Cli;
use crate::logging::LogLines;
use crate::output::{self, CsvFiles};
use crate::worker::LocalWorkers;
use crate::{files, process_count};

/// How long workers may take to report after a ramp; Locust's default of the same variable.
const REPORT_WAIT: Duration = Duration::from_secs(1);
const WORKER_REPORT_INTERVAL: f64 = 3.0;
const POLL: Duration = Duration::from_millis(50);
/// Until then nothing is said about workers that are still to come.
const QUIET_WAIT: Duration = Duration::from_secs(5);
const SAY_EVERY: Duration = Duration::from_secs(5);

/// Why the run is over.
enum End {
    RunTime,
    Interrupt,
    Terminate,
    /// The last worker left, or our own worker processes ended.
    WorkersGone,
    /// It could not begin.
    Failed(String),
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

/// Runs the test, and gives the exit code.
pub(crate) async fn run(cli: Cli, log: LogLines) -> Result<u8, String> {
    let locustfiles = files::find(&cli.locustfile)?;
    let processes = process_count(&cli)?;
    let config = Config {
        locustfiles: files::for_workers(&locustfiles)?,
        options: options(&cli),
        stop_timeout: cli.stop_timeout as f64,
        reset_stats: cli.reset_stats,
        enable_rebalancing: cli.enable_rebalancing,
        full_history: cli.stats_history_enabled,
        node_name: (!cli.master && cli.processes.is_none()).then(|| "local".to_owned()),
        ..Config::default()
    };
    let addr = match cli.master {
        true => address(&cli.master_bind_host, cli.master_bind_port)?,
        false => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
    };
    let server = ServerConfig { addr, report_wait: report_wait()? };
    let clock = Arc::new(SystemClock::new());
    let master = MasterHandle::start(config, server, clock).await.map_err(|error| error.to_string())?;
    master.lock().set_host(cli.host.clone());
    // Before any worker comes: what does not fit the locustfile shows when one has told of it.
    for settings in user_settings(&cli) {
        master.update_user_class(&settings?).map_err(|reason| format!("--config-users: {reason}"))?;
    }
    if !cli.user_classes.is_empty() {
        let chosen = master.lock().choose_classes(Some(cli.user_classes.clone()));
        chosen.map_err(|unknown| format!("Unknown User(s): {}", unknown.join(", ")))?;
    }
    let mut signals = Signals::new()?;
    let mut engine = "the workers' own".to_owned();
    let mut workers = None;
    if cli.master {
        tracing::info!(target: "locust.main", "Waiting for workers on {}", master.local_addr());
    } else {
        let started = LocalWorkers::start(&cli, &locustfiles, processes, master.local_addr().port())?;
        engine = started.engine.clone();
        workers = Some(started);
    }
    let mut csv = match &cli.csv_prefix {
        Some(prefix) => Some(CsvFiles::create(prefix, cli.stats_history_enabled)?),
        None => None,
    };
    let shutdown = CancellationToken::new();
    let (api, web) = serve_web(&cli, &master, &log, &locustfiles, engine, &shutdown).await?;
    let end = {
        let printing = !cli.only_summary && (cli.print_stats || cli.headless);
        tokio::select! {
            end = drive(&cli, &master, &mut workers, &mut signals, &api) => end,
            () = output::keep_printing(&master, &log), if printing => End::Interrupt,
            () = write_csv(&mut csv, &master) => End::Interrupt,
        }
    };
    let failure = end_run(&cli, &master, end).await;
    let chosen = match &mut workers {
        Some(workers) => workers.end().await,
        None => None,
    };
    if let Some(csv) = &mut csv {
        csv.write_now(&master);
    }
    shutdown.cancel();
    if let Some(web) = web {
        let _ = web.await;
    }
    let failed = master.lock().failed();
    let code = if failure.is_some() {
        1
    } else if let Some(chosen) = chosen {
        chosen
    } else if failed {
        cli.exit_code_on_error
    } else {
        0
    };
    tracing::info!(target: "locust.main", "Shutting down (exit code {code})");
    if master.lock().worker_cpu_warned() {
        tracing::warn!(target: "locust.runners", "CPU usage threshold was exceeded on workers during the test!");
    }
    output::finish(&cli, &master, &log, &file_name(&locustfiles))?;
    if let Some(failure) = failure {
        tracing::error!(target: "locust.main", "{failure}");
    }
    Ok(code)
}

/// Says why it ends, lets workers send what they have, and gives what went wrong.
async fn end_run(cli: &Cli, master: &MasterHandle, end: End) -> Option<String> {
    let failure = match end {
        End::RunTime => {
            tracing::info!(target: "locust.main", "--run-time limit reached, shutting down");
            None
        }
        End::Interrupt => None,
        End::Terminate => {
            tracing::info!(target: "locust.main", "Got SIGTERM signal");
            None
        }
        End::WorkersGone if cli.master => None,
        End::WorkersGone => Some("the worker processes ended before the test did".to_owned()),
        End::Failed(reason) => Some(reason),
    };
    master.quit().await;
    failure
}

async fn write_csv(csv: &mut Option<CsvFiles>, master: &MasterHandle) {
    match csv {
        Some(csv) => csv.keep_writing(master).await,
        None => std::future::pending().await,
    }
}

/// Lets the run happen until something ends it.
async fn drive(
    cli: &Cli,
    master: &MasterHandle,
    workers: &mut Option<LocalWorkers>,
    signals: &mut Signals,
    api: &Option<Arc<Api>>,
) -> End {
    tokio::select! {
        end = automatic(cli, master, api), if cli.headless || cli.autostart => end,
        end = signals.next() => end,
        reason = workers_ended(workers, master) => reason,
        () = master.abandoned(), if cli.headless => End::WorkersGone,
    }
}

/// Starts the run at once and ends it after its time.
async fn automatic(cli: &Cli, master: &MasterHandle, api: &Option<Arc<Api>>) -> End {
    if let Err(reason) = wait_for_workers(cli, master).await {
        return End::Failed(reason);
    }
    if !cli.user_classes.is_empty()
        && let Err(unknown) = master.lock().choose_classes(Some(cli.user_classes.clone()))
    {
        return End::Failed(format!("Unknown User(s): {}", unknown.join(", ")));
    }
    let unknown = master.lock().unknown_settings();
    if !unknown.is_empty() {
        return End::Failed(format!("--config-users: the locustfile has no {}", unknown.join(", ")));
    }
    match master.swarm(u64::from(cli.num_users.unwrap_or(1)), cli.spawn_rate.unwrap_or(1.0)) {
        StartOutcome::Started | StartOutcome::NoWorkers => {}
        StartOutcome::NoClasses => return End::Failed("No User class found!".to_owned()),
        StartOutcome::Refused(reason) => return End::Failed(reason),
    }
    let Some(seconds) = cli.run_time else {
        tracing::info!(target: "locust.main", "No run time limit set, use CTRL+C to interrupt");
        return std::future::pending().await;
    };
    tracing::info!(target: "locust.main", "Run time limit set to {seconds} seconds");
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    if cli.headless {
        return End::RunTime;
    }
    tracing::info!(target: "locust.main", "--run-time limit reached, stopping test");
    if let Some(api) = api {
        api.runs.send_modify(|run| *run += 1);
    }
    master.stop().await;
    match cli.autoquit {
        Some(seconds) => {
            tokio::time::sleep(Duration::from_secs(seconds.into())).await;
            tracing::info!(target: "locust.main", "--autoquit time reached, shutting down");
            End::Interrupt
        }
        None => {
            tracing::info!(target: "locust.main", "--autoquit not specified, leaving web ui running indefinitely");
            std::future::pending().await
        }
    }
}

/// Until enough workers are there and one has told which users it has.
async fn wait_for_workers(cli: &Cli, master: &MasterHandle) -> Result<(), String> {
    let expected = match cli.master {
        true => cli.expect_workers,
        false => process_count(cli)?,
    };
    let began = tokio::time::Instant::now();
    let mut say_at = began + QUIET_WAIT;
    loop {
        let (ready, knows) = {
            let master = master.lock();
            (master.ready_count(), master.knows_classes())
        };
        if ready >= expected as usize && knows {
            return Ok(());
        }
        let most = Duration::from_secs(cli.expect_workers_max_wait.into());
        if !most.is_zero() && began.elapsed() > most {
            return Err("Gave up waiting for workers to connect".to_owned());
        }
        if tokio::time::Instant::now() >= say_at {
            say_at += SAY_EVERY;
            tracing::info!(
                target: "locust.main",
                "Waiting for workers to be ready, {ready} of {expected} connected"
            );
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Returns when one of our own worker processes has ended.
async fn workers_ended(workers: &mut Option<LocalWorkers>, master: &MasterHandle) -> End {
    let Some(workers) = workers else { return std::future::pending().await };
    loop {
        if let Some(code) = workers.ended()
            && master.lock().worker_count() == 0
        {
            return End::Failed(format!("the worker process ended with exit code {code}"));
        }
        tokio::time::sleep(POLL).await;
    }
}

fn user_settings(cli: &Cli) -> Vec<Result<Value, String>> {
    let mut all = Vec::new();
    for text in &cli.config_users {
        let read = if text.ends_with(".json") {
            std::fs::read_to_string(text).map_err(|error| format!("--config-users {text}: {error}"))
        } else {
            Ok(text.clone())
        };
        let parsed = read.and_then(|text| {
            serde_json::from_str::<Value>(&text).map_err(|error| {
                format!("The --config-users argument must be a valid JSON string or file: {error}")
            })
        });
        match parsed {
            Ok(Value::Array(list)) => all.extend(list.into_iter().map(Ok)),
            other => all.push(other),
        }
    }
    let named = |settings: &Value| settings.get("user_class_name").is_some_and(Value::is_string);
    all.into_iter()
        .map(|settings| match settings {
            Ok(settings) if !named(&settings) => {
                Err("The user config must specify a user_class_name".to_owned())
            }
            other => other,
        })
        .collect()
}

/// Locust's own options, as a worker expects them with a spawn.
fn options(cli: &Cli) -> Map<String, Value> {
    let options = json!({
        "host": cli.host,
        "num_users": cli.num_users,
        "spawn_rate": cli.spawn_rate,
        "run_time": cli.run_time,
        "headless": cli.headless,
        "expect_workers": cli.expect_workers,
        "tags": cli.tags,
        "exclude_tags": cli.exclude_tags,
        "stop_timeout": cli.stop_timeout,
        "reset_stats": cli.reset_stats,
        "profile": cli.profile,
    });
    match options {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

async fn serve_web(
    cli: &Cli,
    master: &MasterHandle,
    log: &LogLines,
    locustfiles: &[PathBuf],
    engine: String,
    shutdown: &CancellationToken,
) -> Result<(Option<Arc<Api>>, Option<tokio::task::JoinHandle<()>>), String> {
    if cli.headless {
        return Ok((None, None));
    }
    let addr = address(if cli.web_host.is_empty() { "*" } else { &cli.web_host }, cli.web_port)?;
    let tls = match (&cli.tls_cert, &cli.tls_key) {
        (Some(certificate), Some(key)) => {
            let read = |path: &PathBuf| {
                std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
            };
            Some(
                TlsConfig::from_pem(&read(certificate)?, &read(key)?, None)
                    .map_err(|error| error.to_string())?,
            )
        }
        _ => None,
    };
    let scheme = if tls.is_some() { "https" } else { "http" };
    let config = ListenConfig { tls, ..ListenConfig::plain(addr) };
    let listener = Listener::bind(config).await.map_err(|error| error.to_string())?;
    let shown = cli
        .web_host_display_name
        .clone()
        .unwrap_or_else(|| format!("{scheme}://{}{}", listener.local_addr(), cli.web_base_path));
    tracing::info!(target: "locust.main", "Starting web interface at {shown}");
    let full_history =
        cli.csv_prefix.as_deref().filter(|_| cli.stats_history_enabled).map(CsvFiles::history_path);
    let api = Arc::new(Api {
        master: master.clone(),
        log: log.clone(),
        locustfile: file_name(locustfiles),
        is_distributed: cli.master || cli.processes.is_some(),
        class_picker: cli.class_picker,
        engine,
        full_history,
        defaults: Defaults { users: cli.num_users, rate: cli.spawn_rate, run_time: cli.run_time },
        profile: Mutex::new(cli.profile.clone()),
        runs: watch::Sender::new(0),
    });
    let router = api::router(api.clone(), &cli.web_base_path);
    let web = tokio::spawn(listener.serve(router, shutdown.clone()));
    Ok((Some(api), Some(web)))
}

/// `*` and nothing mean all interfaces.
fn address(host: &str, port: u16) -> Result<SocketAddr, String> {
    if host.is_empty() || host == "*" {
        return Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port));
    }
    let mut found = (host, port).to_socket_addrs().map_err(|error| format!("address {host:?}: {error}"))?;
    found.next().ok_or_else(|| format!("address {host:?}: the name has no address"))
}

/// `LOCUST_WAIT_FOR_WORKERS_REPORT_AFTER_RAMP_UP`: seconds, or `N * WORKER_REPORT_INTERVAL`.
fn report_wait() -> Result<Duration, String> {
    const NAME: &str = "LOCUST_WAIT_FOR_WORKERS_REPORT_AFTER_RAMP_UP";
    let Ok(text) = std::env::var(NAME) else { return Ok(REPORT_WAIT) };
    let (number, factor) = match text.strip_suffix("WORKER_REPORT_INTERVAL") {
        Some(rest) => (rest.trim_end().trim_end_matches('*').trim_end(), WORKER_REPORT_INTERVAL),
        None => (text.as_str(), 1.0),
    };
    let seconds =
        number.parse::<f64>().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds * factor).ok());
    seconds.ok_or_else(|| format!("{NAME}: expected seconds or N * WORKER_REPORT_INTERVAL, found {text:?}"))
}

fn file_name(locustfiles: &[PathBuf]) -> String {
    let first = locustfiles.first().and_then(|path| path.file_name());
    first.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

// === impl Signals ===

impl Signals {
    fn new() -> Result<Signals, String> {
        let listen = |kind| signal(kind).map_err(|error| format!("cannot listen for signals: {error}"));
        Ok(Signals {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> End {
        tokio::select! {
            _ = self.interrupt.recv() => End::Interrupt,
            _ = self.terminate.recv() => End::Terminate,
        }
    }
}
