//! The Grafana server: provisioning, settings, HTTP API, rendering over dashboards and the console's page.
//!
//! [`command`] and [`run`] are the applet; [`Grafana`] is the same server inside another process.
#![forbid(unsafe_code)]

mod api;
mod configmaps;
mod datasource;
mod flags;
mod local;
mod provisioning;
mod remote;
mod settings;
mod store;

pub use local::Local;
pub use settings::Settings;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use clap::{ArgMatches, Command};
use gantry_clock::{Clock, SystemClock};
use gantry_dashboards::{DataSource, Locale};
use gantry_operator::{Informer, InformerSettings, Informers};
use gantry_serve::{ListenConfig, Listener};
use k8s_openapi::api::core::v1::ConfigMap;
use parking_lot::{Mutex, RwLock};
use serde_json::{Map, Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use api::Annotations;
use datasource::{Datasources, Entry};
use provisioning::{Environment, Provider};
use store::{Provided, Store};

/// Dashboards, pictures and API queries that are worked on at once; others wait.
const VIEWS_AT_ONCE: usize = 8;
/// Between two looks at the files of dashboards.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// The server. Cheap to clone; clones are the same.
#[derive(Clone)]
pub struct Grafana {
    shared: Arc<Shared>,
}

struct Shared {
    store: RwLock<Store>,
    datasources: Datasources,
    /// Held from the look at what there is until what came of it is kept.
    changing_datasources: Mutex<()>,
    /// The Prometheus API of the store in this process, for the proxy.
    local_api: Option<Router>,
    annotations: Annotations,
    providers: Mutex<Vec<Provider>>,
    views: Arc<Semaphore>,
    clock: Arc<dyn Clock>,
    data_dir: Option<PathBuf>,
}

/// A metric store in this process.
pub struct LocalStore {
    pub source: Local,
    /// Its HTTP API.
    pub api: Router,
    /// How often it is fed, such as `1s`.
    pub interval: String,
}

/// The command line of the applet.
pub fn command() -> Command {
    flags::command()
}

/// Runs the applet.
pub fn run(matches: &ArgMatches) -> ExitCode {
    flags::log_to_stderr();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome =
        runtime.map_err(|error| format!("cannot start the runtime: {error}")).and_then(
            |runtime| match matches.subcommand() {
                Some(("render", matches)) => runtime.block_on(flags::render(matches)),
                _ => runtime.block_on(serve(matches)),
            },
        );
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("gantry grafana: {reason}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(matches: &ArgMatches) -> Result<(), String> {
    let settings = flags::settings(matches)?;
    let environment = |name: &str| std::env::var(name).ok();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let grafana = Grafana::open(Some(&settings.data_dir), None, clock.clone())?;
    grafana.provision(&settings.provisioning_dir, &environment)?;
    if let Some(url) = flags::prometheus(matches) {
        grafana.add_prometheus(&url)?;
    }
    let stop = CancellationToken::new();
    if flags::wants_cluster(matches) {
        let client =
            gantry_operator::connect(None, None).await.map_err(|error| format!("--configmaps: {error}"))?;
        let informers = Informers::new(client, clock, InformerSettings::default());
        let configmaps = informers.of::<ConfigMap>();
        informers.start(stop.clone());
        grafana.follow(configmaps);
    }
    let listener =
        Listener::bind(ListenConfig::plain(settings.listen)).await.map_err(|error| error.to_string())?;
    // Printed, not logged: whoever started us reads where we are from it.
    eprintln!("listening on http://{}", listener.local_addr());
    let looking = tokio::spawn(grafana.clone().look_at_files());
    let router = grafana.router().fallback_service(gantry_console::Pages);
    let serving = tokio::spawn(listener.serve(router, stop.clone()));
    let listen = |kind| signal(kind).map_err(|error| format!("cannot listen for signals: {error}"));
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    stop.cancel();
    looking.abort();
    let _ = serving.await;
    Ok(())
}

// === impl Grafana ===

impl Grafana {
    /// Opens what was saved in `data_dir`; without one nothing outlives the process. With `local`, the store of this
    /// process is the default data source.
    ///
    /// # Errors
    /// When the folder cannot be read or written.
    pub fn open(
        data_dir: Option<&Path>,
        local: Option<LocalStore>,
        clock: Arc<dyn Clock>,
    ) -> Result<Grafana, String> {
        let store = Store::open(data_dir)?;
        let (source, local_api) = match local {
            Some(local) => {
                let mut json_data = Map::new();
                json_data.insert("timeInterval".to_owned(), json!(local.interval));
                let entry = Entry {
                    uid: "prometheus".to_owned(),
                    name: "Prometheus".to_owned(),
                    kind: "prometheus".to_owned(),
                    is_default: true,
                    read_only: true,
                    json_data,
                    ..Entry::default()
                };
                (Some((entry, Arc::new(local.source) as Arc<dyn DataSource>)), Some(local.api))
            }
            None => (None, None),
        };
        let shared = Shared {
            store: RwLock::new(store),
            datasources: Datasources::new(source),
            changing_datasources: Mutex::default(),
            local_api,
            annotations: Annotations::default(),
            providers: Mutex::default(),
            views: Arc::new(Semaphore::new(VIEWS_AT_ONCE)),
            clock,
            data_dir: data_dir.map(Path::to_owned),
        };
        let grafana = Grafana { shared: Arc::new(shared) };
        grafana.read_datasources()?;
        Ok(grafana)
    }

    /// The API. The page itself is the caller's fallback.
    pub fn router(&self) -> Router {
        api::router(self.clone())
    }

    /// Reads `datasources/` and `dashboards/` of a provisioning folder.
    ///
    /// # Errors
    /// The file and place that cannot be read. A dashboard that cannot be read is only logged.
    fn provision(&self, folder: &Path, environment: &Environment<'_>) -> Result<(), String> {
        let files = provisioning::datasources(folder, environment)?;
        for name in &files.delete {
            self.shared.datasources.remove(|entry| entry.name == *name);
        }
        for entry in files.entries {
            self.shared.datasources.put(entry)?;
        }
        *self.shared.providers.lock() = provisioning::providers(folder, environment)?;
        self.reload()
    }

    fn add_prometheus(&self, url: &str) -> Result<(), String> {
        let entry = Entry {
            name: "Prometheus".to_owned(),
            uid: "prometheus".to_owned(),
            kind: "prometheus".to_owned(),
            url: url.to_owned(),
            read_only: true,
            is_default: !self.shared.datasources.has_local(),
            ..Entry::default()
        };
        self.shared.datasources.put(entry).map(drop)
    }

    /// Shows the dashboards of ConfigMaps that are labelled `grafana_dashboard`, now and as they change.
    pub fn follow(&self, configmaps: Informer<ConfigMap>) {
        tokio::spawn(configmaps::follow(self.clone(), configmaps));
    }

    fn provide(&self, provider: &str, list: Vec<Provided>) {
        let problems = self.shared.store.write().provide(provider, list, self.shared.clock.now_ms());
        for problem in problems {
            tracing::warn!(%problem, "a provided dashboard needs attention");
        }
    }

    fn reload(&self) -> Result<(), String> {
        let providers = self.shared.providers.lock().clone();
        for provider in providers {
            let (found, problems) = provider.dashboards();
            for problem in problems {
                tracing::warn!(%problem, provider = provider.name, "a dashboard file cannot be read");
            }
            self.provide(&format!("provider {}", provider.name), found);
        }
        Ok(())
    }

    async fn look_at_files(self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let own = self.clone();
            let _ = tokio::task::spawn_blocking(move || own.reload()).await;
        }
    }

    fn locale(&self, utc_offset_min: i32) -> Locale {
        Locale { now_ms: self.shared.clock.now_ms(), utc_offset_min: utc_offset_min.clamp(-14 * 60, 14 * 60) }
    }

    fn datasource_file(&self) -> Option<PathBuf> {
        Some(self.shared.data_dir.as_ref()?.join("datasources.json"))
    }

    fn read_datasources(&self) -> Result<(), String> {
        let Some(path) = self.datasource_file() else { return Ok(()) };
        let Some(text) = store::read_if_there(&path)? else { return Ok(()) };
        let entries: Vec<Entry> = serde_json::from_str(&text)
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        entries.into_iter().try_for_each(|entry| self.shared.datasources.put(entry).map(drop))
    }

    /// Keeps those that came over the API; files are read again on every start.
    fn keep_datasources(&self) -> Result<(), String> {
        let Some(path) = self.datasource_file() else { return Ok(()) };
        let own: Vec<Entry> =
            self.shared.datasources.all().into_iter().filter(|entry| !entry.read_only).collect();
        let text = serde_json::to_value(&own)
            .map(|value: Value| value.to_string())
            .map_err(|error| error.to_string())?;
        store::write_private(&path, text.as_bytes())
    }
}
