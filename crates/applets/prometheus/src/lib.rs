//! The Prometheus server: flags, configuration file and HTTP API over tsdb, promql and scrape.
//!
//! [`command`] and [`run`] are the applet; [`Prometheus`] is the same server inside another process.
#![forbid(unsafe_code)]

mod alertmanagers;
mod api;
mod flags;
mod metrics;
mod remote_write;
mod rule_files;
mod server;
mod web;

pub use api::{ApiParts, Doors, Parameters, PrometheusApi, StorageFor};
pub use rule_files::{name_scheme, read_rule_files};
pub use server::{
    KubernetesDiscovery, MakeStorageFor, Prometheus, RuleConfig, RuleSettings, Settings, hide_secrets, jobs,
    rule_config,
};
pub use web::WebConfig;

use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock, Weak};

use clap::{ArgMatches, Command};
use gantry_clock::{Clock, SystemClock};
use gantry_operator::{InformerSettings, Informers};
use gantry_prom_model::Registry;
use gantry_promql::EngineOptions;
use gantry_rules::{NotifierOptions, ReadOptions};
use gantry_scrape::Config;
use gantry_serve::{ListenConfig, Listener};
use gantry_tsdb::{DbOptions, HeadOptions, wal::Compression};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use flags::Flags;

/// The command line of the applet.
pub fn command() -> Command {
    flags::command()
}

/// Runs the server until it is told to end.
pub fn run(matches: &ArgMatches) -> ExitCode {
    let outcome = Flags::read(matches).and_then(|flags| {
        log_to_stderr(&flags);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("cannot start the runtime: {error}"))?;
        runtime.block_on(serve(flags))
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("gantry prometheus: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn log_to_stderr(flags: &Flags) {
    let filter = tracing_subscriber::EnvFilter::new(&flags.log_level);
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    // A larger program may have set up logging already: then that stays.
    let _ = if flags.log_json { builder.json().try_init() } else { builder.try_init() };
}

fn load(file: &Path) -> Result<(String, Config), String> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        format!("cannot read the configuration {}: {error}; name another with --config.file", file.display())
    })?;
    let config = Config::parse(&file.display().to_string(), &text).map_err(|error| error.to_string())?;
    for section in config.without_effect() {
        tracing::warn!(section, "this section of the configuration has no effect yet");
    }
    Ok((text, config))
}

/// Informers for `kubernetes_sd_configs`, connected when a configuration first needs them.
async fn cluster(
    config: &Config,
    clock: &Arc<dyn Clock>,
    stop: &CancellationToken,
) -> Result<Option<Informers>, String> {
    let of_jobs = config.scrape_configs.iter().flat_map(|job| &job.kubernetes_sd_configs);
    let of_alertmanagers =
        config.alerting.alertmanagers.iter().flat_map(|section| &section.kubernetes_sd_configs);
    let mut entries = of_jobs.chain(of_alertmanagers).peekable();
    let Some(first) = entries.peek() else { return Ok(None) };
    let kubeconfig = first.kubeconfig_file.clone();
    if entries.any(|entry| entry.kubeconfig_file != kubeconfig || entry.api_server.is_some()) {
        return Err(
            "kubernetes_sd_configs: one cluster is supported, by kubeconfig_file or from within it".into()
        );
    }
    let client = gantry_operator::connect(kubeconfig.as_deref().map(Path::new), None)
        .await
        .map_err(|error| format!("kubernetes_sd_configs: {error}"))?;
    let informers = Informers::new(client, clock.clone(), InformerSettings::default());
    informers.start(stop.clone());
    Ok(Some(informers))
}

/// All of a configuration that can be wrong, made before any of it is applied.
fn make(
    config: &Config,
    file: &Path,
    informers: Option<&Informers>,
) -> Result<(Vec<gantry_scrape::Job>, RuleConfig), String> {
    let base = file.parent().unwrap_or(Path::new("."));
    let kubernetes = |entry: &gantry_scrape::config::KubernetesSdConfig| {
        let informers = informers.ok_or("a cluster cannot be added by a reload; start again")?;
        gantry_discovery::kubernetes(entry, informers, None)
    };
    let names = name_scheme(config.global.metric_name_validation_scheme.as_deref());
    let options = ReadOptions { names, ignore_unknown_fields: false };
    let files = read_rule_files(&config.rule_files, base, options)?;
    Ok((jobs(config, base, &kubernetes)?, rule_config(config, files, base, &kubernetes)?))
}

async fn serve(flags: Flags) -> Result<(), String> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let stop = CancellationToken::new();
    let (text, config) = load(&flags.config_file)?;
    let informers = cluster(&config, &clock, &stop).await?;
    let (jobs, rules) = make(&config, &flags.config_file, informers.as_ref())?;
    let web = flags.web_config.as_deref().map(WebConfig::load).transpose()?.map(Arc::new);
    let registry = Registry::new();
    metrics::register_process(&registry);
    let server: Arc<OnceLock<Weak<Prometheus>>> = Arc::default();
    let reload = {
        let (server, file, informers) = (server.clone(), flags.config_file.clone(), informers.clone());
        let web = web.clone();
        move || -> Result<(), String> {
            let Some(server) = server.get().and_then(Weak::upgrade) else {
                return Err("not started yet".into());
            };
            let loaded = load(&file).and_then(|(text, config)| {
                let made = make(&config, &file, informers.as_ref())?;
                Ok((text, config, made))
            });
            match loaded {
                Ok((text, config, (jobs, rules))) => {
                    server.apply(&text, jobs);
                    server.apply_rules(rules);
                    // Queues that end may wait for their receivers; the reload does not.
                    tokio::spawn(async move { server.apply_remote_writes(&config).await });
                }
                Err(reason) => {
                    server.api().config_loaded(None);
                    return Err(reason);
                }
            }
            if let Some(web) = &web {
                web.reload_certificates()?;
            }
            tracing::info!(file = %file.display(), "configuration loaded");
            Ok(())
        }
    };
    let reload: Arc<dyn Fn() -> Result<(), String> + Send + Sync> = Arc::new(reload);
    let quit: Arc<dyn Fn() + Send + Sync> = {
        let stop = stop.clone();
        Arc::new(move || stop.cancel())
    };
    let compression = if flags.snappy { Compression::Snappy } else { Compression::None };
    let settings = Settings {
        storage: DbOptions {
            head: HeadOptions {
                wal_compression: compression,
                chunk_range_ms: flags.min_block_ms,
                ..HeadOptions::default()
            },
            retention_ms: flags.retention_ms,
            retention_bytes: flags.retention_bytes,
            max_block_ms: flags.max_block_ms,
            ..DbOptions::default()
        },
        engine: EngineOptions {
            lookback: flags.lookback,
            max_samples: flags.query_max_samples,
            timeout: flags.query_timeout,
            ..EngineOptions::default()
        },
        max_concurrency: flags.query_concurrency,
        rules: RuleSettings {
            external_url: flags.external_url.clone(),
            outage_tolerance_ms: flags.outage_tolerance_ms,
            for_grace_period_ms: flags.for_grace_period_ms,
            resend_delay_ms: flags.resend_delay_ms,
            max_concurrent: flags.concurrent_rules,
        },
        notifier: NotifierOptions {
            queue_capacity: flags.notification_queue,
            max_batch: flags.notification_batch,
            drain: flags.drain_notifications,
            ..NotifierOptions::default()
        },
        receive_remote_writes: flags.remote_write_receiver,
        read_samples: flags.read_samples,
        read_frame_bytes: flags.read_frame_bytes,
        flags: flags.all.clone(),
        reload: flags.enable_lifecycle.then(|| reload.clone()),
        quit: flags.enable_lifecycle.then_some(quit),
        ..Settings::new(&flags.data_dir)
    };
    let mut listeners = Vec::new();
    for address in &flags.listen {
        let listen = match web.as_ref().and_then(|web| web.tls()) {
            Some(tls) => ListenConfig::tls(*address, tls),
            None => ListenConfig::plain(*address),
        };
        listeners.push(Listener::bind(listen).await.map_err(|error| error.to_string())?);
    }
    let prometheus = Prometheus::open(settings, clock, &registry).map_err(|error| error.to_string())?;
    let prometheus = Arc::new(prometheus);
    let replay = prometheus.db().replay_stats();
    tracing::info!(series = replay.series, samples = replay.samples, "store opened");
    let _ = server.set(Arc::downgrade(&prometheus));
    prometheus.apply(&text, jobs);
    prometheus.apply_rules(rules);
    prometheus.apply_remote_writes(&config).await;
    let mut tasks = tokio::task::JoinSet::new();
    for listener in listeners {
        // Printed, not logged: whoever started us reads where we are from it.
        let scheme = if web.as_ref().is_some_and(|web| web.tls().is_some()) { "https" } else { "http" };
        eprintln!("listening on {scheme}://{}", listener.local_addr());
        let (router, stop) = (prometheus.api().router(), stop.clone());
        let router = match &web {
            Some(web) => web::guard(router, web),
            None => router,
        };
        tasks.spawn(async move { listener.serve(router, stop).await });
    }
    let (keeper, keep_until) = (prometheus.clone(), stop.clone());
    tasks.spawn(async move { keeper.maintain(keep_until).await });
    wait(&stop, &reload).await?;
    stop.cancel();
    while tasks.join_next().await.is_some() {}
    prometheus.shutdown().await.map_err(|error| error.to_string())
}

/// Returns when the server is to end; reads the configuration again at SIGHUP.
async fn wait(
    stop: &CancellationToken,
    reload: &Arc<dyn Fn() -> Result<(), String> + Send + Sync>,
) -> Result<(), String> {
    let listen = |kind| signal(kind).map_err(|error| format!("cannot listen for signals: {error}"));
    let mut hangup = listen(SignalKind::hangup())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = hangup.recv() => {
                if let Err(reason) = reload() {
                    tracing::error!(%reason, "the configuration was not loaded; the one before stays");
                }
            }
        }
    }
}
