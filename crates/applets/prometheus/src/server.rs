//! Store, engine, scraping and API as one thing, for the applet and for a larger process that has them inside.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use gantry_clock::Clock;
use gantry_prom_model::{Queryable, Registry};
use gantry_promql::{Engine, EngineOptions};
use gantry_scrape::config::KubernetesSdConfig;
use gantry_scrape::{Config, Dialer, Discoverer, FileDiscoverer, Job, Scraping, Static};
use gantry_tsdb::{Db, DbOptions, TsdbError};
use tokio_util::sync::CancellationToken;

use crate::api::{ApiParts, PrometheusApi, StorageFor};

/// Between two looks at what is to become a block or is too old.
const MAINTAIN_EVERY: Duration = Duration::from_secs(60);

/// Makes of the opened store where requests read.
pub type MakeStorageFor = Box<dyn FnOnce(&Arc<Db>) -> StorageFor + Send>;

/// How a [`Prometheus`] is set up.
pub struct Settings {
    /// The folder of the samples.
    pub data_dir: PathBuf,
    /// How they are kept.
    pub storage: DbOptions,
    /// How queries are evaluated.
    pub engine: EngineOptions,
    /// Queries that run at the same time.
    pub max_concurrency: usize,
    /// Shown by `status/flags`.
    pub flags: BTreeMap<String, String>,
    /// Makes of the store where requests read, if that is more than the store itself.
    pub storage_for: Option<MakeStorageFor>,
    /// What `/-/reload` does.
    pub reload: Option<Arc<dyn Fn() -> Result<(), String> + Send + Sync>>,
    /// What `/-/quit` does.
    pub quit: Option<Arc<dyn Fn() + Send + Sync>>,
    /// Reaches targets that are not in this machine's own network.
    pub dialer: Option<Arc<dyn Dialer>>,
}

impl Settings {
    /// Upstream's defaults over a folder.
    pub fn new(data_dir: impl Into<PathBuf>) -> Settings {
        Settings {
            data_dir: data_dir.into(),
            storage: DbOptions::default(),
            engine: EngineOptions::default(),
            max_concurrency: 20,
            flags: BTreeMap::new(),
            storage_for: None,
            reload: None,
            quit: None,
            dialer: None,
        }
    }
}

/// A whole metric server in this process.
pub struct Prometheus {
    db: Arc<Db>,
    storage_for: Option<StorageFor>,
    scraping: Arc<Scraping>,
    engine: Engine,
    api: PrometheusApi,
    clock: Arc<dyn Clock>,
}

impl Prometheus {
    /// Opens the store (reading its log back) and sets everything up; nothing is scraped yet. Its own metrics are
    /// registered in `registry`.
    ///
    /// # Errors
    /// When the folder is in use or cannot be read or written.
    pub fn open(
        settings: Settings,
        clock: Arc<dyn Clock>,
        registry: &Registry,
    ) -> Result<Prometheus, TsdbError> {
        let db = Arc::new(Db::open(&settings.data_dir, settings.storage, clock.now_ms())?);
        crate::metrics::register(registry, &db);
        // Two servers over the same targets differ in their folders, and so in when they scrape.
        let seed = gantry_prom_model::Labels::from_pairs([("dir", db.dir().to_string_lossy())]).stable_hash();
        let scraping = Scraping::new(db.clone(), clock.clone(), registry, seed);
        let scraping = Arc::new(match settings.dialer {
            Some(dialer) => scraping.reaching(dialer),
            None => scraping,
        });
        let engine = Engine::new(settings.engine);
        let storage_for = settings.storage_for.map(|make| make(&db));
        let api = PrometheusApi::new(ApiParts {
            storage: db.clone(),
            storage_for: storage_for.clone(),
            engine: engine.clone(),
            scraping: Some(scraping.clone()),
            db: Some(db.clone()),
            clock: clock.clone(),
            registry: registry.clone(),
            max_concurrency: settings.max_concurrency,
            flags: settings.flags,
            reload: settings.reload,
            quit: settings.quit,
        });
        Ok(Prometheus { db, storage_for, scraping, engine, api, clock })
    }

    /// The store: append to it, query it.
    pub fn db(&self) -> &Arc<Db> {
        &self.db
    }

    /// Where a request without parameters reads: the store, and what else is queried with it.
    pub fn storage(&self) -> Arc<dyn Queryable> {
        let made = self.storage_for.as_ref().and_then(|make| make(&|_: &str| Vec::new()).ok());
        made.unwrap_or_else(|| self.db.clone())
    }

    /// The query engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The targets.
    pub fn scraping(&self) -> &Arc<Scraping> {
        &self.scraping
    }

    /// The HTTP API; [`PrometheusApi::router`] is its `axum` router.
    pub fn api(&self) -> &PrometheusApi {
        &self.api
    }

    /// Scrapes these jobs from now on. `config_text` is shown by `status/config`. Within a tokio runtime.
    pub fn apply(&self, config_text: &str, jobs: Vec<Job>) {
        self.scraping.apply(jobs);
        self.api.config_loaded(Some(&hide_secrets(config_text)));
        self.api.set_ready(true);
    }

    /// Writes and merges blocks and drops what is too old, looking once a minute, until `stop`.
    pub async fn maintain(&self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(MAINTAIN_EVERY) => {}
            }
            let (db, now_ms) = (self.db.clone(), self.clock.now_ms());
            match tokio::task::spawn_blocking(move || db.maintain(now_ms)).await {
                Ok(Ok(done)) if done.is_empty() => {}
                Ok(Ok(done)) => tracing::info!(
                    written = ?done.cut,
                    compacted = ?done.compacted,
                    expired = ?done.expired,
                    "blocks kept"
                ),
                Ok(Err(error)) => {
                    tracing::error!(%error, "blocks and log could not be kept; nothing is lost, it is tried again")
                }
                Err(error) => tracing::error!(%error, "keeping blocks and log failed"),
            }
        }
    }

    /// Ends scraping after the scrapes under way, and makes all samples durable.
    ///
    /// # Errors
    /// When the log cannot be synced.
    pub async fn shutdown(&self) -> Result<(), TsdbError> {
        self.api.set_ready(false);
        self.scraping.shutdown().await;
        self.db.sync()
    }
}

/// Makes the discoverer of a `kubernetes_sd_configs` entry.
pub type KubernetesDiscovery<'a> = dyn Fn(&KubernetesSdConfig) -> Result<Box<dyn Discoverer>, String> + 'a;

/// The jobs of a configuration. Relative file names are taken from `base`.
///
/// # Errors
/// Which job has a discovery that cannot be made, and why.
pub fn jobs(config: &Config, base: &Path, kubernetes: &KubernetesDiscovery<'_>) -> Result<Vec<Job>, String> {
    let mut jobs = Vec::new();
    for job in &config.scrape_configs {
        let mut discoverers: Vec<Box<dyn Discoverer>> = Vec::new();
        if !job.static_configs.is_empty() {
            discoverers.push(Box::new(Static::from_config(&job.static_configs)));
        }
        for files in &job.file_sd_configs {
            discoverers.push(Box::new(FileDiscoverer::new(files, base)));
        }
        for cluster in &job.kubernetes_sd_configs {
            let found = kubernetes(cluster).map_err(|reason| {
                format!("scrape config with job name {:?}: kubernetes_sd_configs: {reason}", job.job_name)
            })?;
            discoverers.push(found);
        }
        jobs.push(Job { config: job.clone(), discoverers });
    }
    Ok(jobs)
}

/// Keys whose values are secrets.
const SECRET_KEYS: [&str; 7] =
    ["password", "credentials", "bearer_token", "client_secret", "secret_key", "key", "api_key"];

/// A configuration's text with the values of secret keys replaced.
pub fn hide_secrets(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut hidden_below: Option<usize> = None;
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        if let Some(limit) = hidden_below {
            // The rest of a value that spans lines.
            if line.trim().is_empty() || indent > limit {
                continue;
            }
            hidden_below = None;
        }
        let body = line.trim_start();
        let key_at = indent + (body.len() - body.trim_start_matches(['-', ' ']).len());
        let key = line[key_at..].split(':').next().unwrap_or("").trim().trim_matches(['"', '\'']);
        if SECRET_KEYS.contains(&key) && line[key_at..].contains(':') {
            shown.push_str(&line[..key_at]);
            shown.push_str(key);
            shown.push_str(": <secret>\n");
            hidden_below = Some(key_at);
        } else if SECRET_KEYS
            .iter()
            .any(|key| line.contains(&format!("{key}:")) || line.contains(&format!("{key}\":")))
        {
            // A flow mapping with a secret somewhere in it.
            shown.push_str(&line[..key_at]);
            shown.push_str("<line with a secret>\n");
        } else {
            shown.push_str(line);
            shown.push('\n');
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::hide_secrets;

    #[test]
    fn no_form_of_secret_is_shown() {
        let text = "a: 1\nbasic_auth:\n  username: u\n  password: hunter2\nauthorization:\n  credentials: |\n    hunter2\n    more\n  type: x\n- bearer_token: hunter2\nb: {password: hunter2}\npassword_file: /p\n";
        let shown = hide_secrets(text);
        assert!(!shown.contains("hunter2") && !shown.contains("more"), "{shown}");
        for kept in ["a: 1", "username: u", "type: x", "password_file: /p", "password: <secret>"] {
            assert!(shown.contains(kept), "{kept} is not in {shown}");
        }
    }
}
