//! Store, engine, scraping and API as one thing, for the applet and for a larger process that has them inside.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use gantry_clock::Clock;
use gantry_prom_model::{Labels, Queryable, Registry};
use gantry_promql::{Cancellation, Engine, EngineOptions};
use gantry_remote::Receiver;
use gantry_rules::{
    Environment, GroupDefaults, Notifier, NotifierOptions, RuleFile, RuleMetrics, Rules, RulesOptions,
};
use gantry_scrape::config::KubernetesSdConfig;
use gantry_scrape::config::{AlertingConfig, FileSdConfig, HttpSdConfig, StaticConfig};
use gantry_scrape::{Config, Dialer, Discoverer, FileDiscoverer, HttpDiscoverer, Job, Scraping, Static};
use gantry_tsdb::{Db, DbOptions, TsdbError};
use tokio_util::sync::CancellationToken;

use crate::alertmanagers::{AlertmanagerDiscovery, AlertmanagerSection};
use crate::api::{ApiParts, Doors, PrometheusApi, StorageFor};
use crate::remote_write::RemoteWrites;

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
    /// How rules are evaluated.
    pub rules: RuleSettings,
    /// How alerts are delivered.
    pub notifier: NotifierOptions,
    /// Whether others may write their samples here.
    pub receive_remote_writes: bool,
    /// Samples in the answer to one remote read; 0 for no bound.
    pub read_samples: usize,
    /// Bytes of a frame of a streamed remote read.
    pub read_frame_bytes: usize,
}

/// How rules are evaluated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleSettings {
    /// Where people reach this server, without a slash at the end; links in alerts begin with it.
    pub external_url: String,
    /// After a longer outage the state of alerts is not restored.
    pub outage_tolerance_ms: i64,
    /// An alert that is restored waits at least this long before it fires.
    pub for_grace_period_ms: i64,
    /// An alert that goes on is sent again after this long.
    pub resend_delay_ms: i64,
    /// Rules evaluated at the same time beside those of their groups' own turns.
    pub max_concurrent: usize,
}

impl Default for RuleSettings {
    fn default() -> RuleSettings {
        RuleSettings {
            external_url: "http://localhost:9090".into(),
            outage_tolerance_ms: 3_600_000,
            for_grace_period_ms: 600_000,
            resend_delay_ms: 60_000,
            max_concurrent: 4,
        }
    }
}

/// What a configuration says about rules and alerts.
pub struct RuleConfig {
    /// Rule files, each with its name.
    pub files: Vec<(String, RuleFile)>,
    /// Between two evaluations of groups that do not say it.
    pub interval_ms: i64,
    /// How far back groups look that do not say it.
    pub query_offset_ms: i64,
    /// Labels that every alert gets.
    pub external_labels: Labels,
    alerting: AlertingConfig,
    sections: Vec<Vec<Box<dyn Discoverer>>>,
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
            rules: RuleSettings::default(),
            notifier: NotifierOptions::default(),
            receive_remote_writes: false,
            read_samples: 50_000_000,
            read_frame_bytes: 1 << 20,
        }
    }
}

/// A whole metric server in this process.
pub struct Prometheus {
    db: Arc<Db>,
    storage_for: Option<StorageFor>,
    scraping: Arc<Scraping>,
    rules: Arc<Rules>,
    notifier: Arc<Notifier>,
    alertmanagers: AlertmanagerDiscovery,
    rule_settings: RuleSettings,
    rule_metrics: RuleMetrics,
    /// Threads that rules may take.
    rule_threads: Arc<AtomicUsize>,
    engine: Engine,
    api: PrometheusApi,
    remote_writes: Arc<RemoteWrites>,
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
        let scraping = Arc::new(match &settings.dialer {
            Some(dialer) => scraping.reaching(dialer.clone()),
            None => scraping,
        });
        let engine = Engine::new(settings.engine);
        let rules = Arc::new(Rules::new(RulesOptions::default()));
        let notifier = Arc::new(Notifier::new(settings.notifier, clock.clone(), registry));
        let storage_for = settings.storage_for.map(|make| make(&db));
        let api = PrometheusApi::new(ApiParts {
            storage: db.clone(),
            storage_for: storage_for.clone(),
            engine: engine.clone(),
            scraping: Some(scraping.clone()),
            rules: Some(rules.clone()),
            notifier: Some(notifier.clone()),
            db: Some(db.clone()),
            clock: clock.clone(),
            registry: registry.clone(),
            max_concurrency: settings.max_concurrency,
            flags: settings.flags,
            reload: settings.reload,
            quit: settings.quit,
            doors: Doors {
                receiver: settings
                    .receive_remote_writes
                    .then(|| Arc::new(Receiver::new(db.clone(), clock.clone(), registry))),
                read_samples: settings.read_samples,
                read_frame_bytes: settings.read_frame_bytes,
            },
        });
        let remote_writes =
            RemoteWrites::new(db.dir(), scraping.clone(), clock.clone(), settings.dialer.clone(), registry);
        Ok(Prometheus {
            db,
            storage_for,
            scraping,
            rules,
            alertmanagers: AlertmanagerDiscovery::new(notifier.clone(), settings.dialer),
            notifier,
            rule_threads: Arc::new(AtomicUsize::new(settings.rules.max_concurrent)),
            rule_settings: settings.rules,
            rule_metrics: RuleMetrics::new(registry),
            engine,
            api,
            remote_writes: Arc::new(remote_writes),
            clock,
        })
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

    /// The rules.
    pub fn rules(&self) -> &Arc<Rules> {
        &self.rules
    }

    /// Evaluates these rules and sends their alerts from now on. Within a tokio runtime.
    pub fn apply_rules(&self, config: RuleConfig) {
        let sections = config.alerting.alertmanagers.into_iter().zip(config.sections);
        self.alertmanagers.apply(
            config.external_labels.clone(),
            config.alerting.alert_relabel_configs,
            sections.map(|(config, discoverers)| AlertmanagerSection { config, discoverers }).collect(),
        );
        let environment = Arc::new(Environment {
            storage: self.storage(),
            appendable: self.db.clone(),
            engine: self.engine.clone(),
            clock: self.clock.clone(),
            notify: self.notifier.clone(),
            external_labels: config.external_labels,
            external_url: self.rule_settings.external_url.as_str().into(),
            resend_delay_ms: self.rule_settings.resend_delay_ms,
            outage_tolerance_ms: self.rule_settings.outage_tolerance_ms,
            for_grace_period_ms: self.rule_settings.for_grace_period_ms,
            extra_threads: self.rule_threads.clone(),
            metrics: self.rule_metrics.clone(),
            cancellation: Cancellation::new(),
        });
        let defaults =
            GroupDefaults { interval_ms: config.interval_ms, query_offset_ms: config.query_offset_ms };
        self.rules.apply(config.files, defaults, &environment);
    }

    /// Sends what is stored to these receivers from now on; `config` is of the file that was applied.
    pub async fn apply_remote_writes(&self, config: &Config) {
        let external_labels = Labels::from_pairs(&config.global.external_labels);
        self.api.set_external_labels(external_labels.clone());
        let receivers = config.remote_write.iter().flatten().cloned().collect();
        self.remote_writes.apply(receivers, external_labels).await;
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

    /// Ends rules, delivers what waits, ends scraping after the scrapes under way, and makes all samples durable.
    ///
    /// # Errors
    /// When the log cannot be synced.
    pub async fn shutdown(&self) -> Result<(), TsdbError> {
        self.api.set_ready(false);
        self.rules.shutdown().await;
        self.alertmanagers.stop();
        self.notifier.shutdown().await;
        self.scraping.shutdown().await;
        // Last, so that the last samples are on their way too.
        self.remote_writes.shutdown().await;
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
        let found = discoverers(
            (&job.static_configs, &job.file_sd_configs),
            (&job.http_sd_configs, &job.kubernetes_sd_configs),
            base,
            kubernetes,
        );
        let discoverers =
            found.map_err(|reason| format!("scrape config with job name {:?}: {reason}", job.job_name))?;
        jobs.push(Job { config: job.clone(), discoverers });
    }
    Ok(jobs)
}

/// What a configuration says about rules and alerts; `files` are those that it names. Relative names of files with
/// Alertmanagers are taken from `base`.
///
/// # Errors
/// Which section of `alertmanagers` has a discovery that cannot be made, and why.
pub fn rule_config(
    config: &Config,
    files: Vec<(String, RuleFile)>,
    base: &Path,
    kubernetes: &KubernetesDiscovery<'_>,
) -> Result<RuleConfig, String> {
    let mut sections = Vec::new();
    for (index, section) in config.alerting.alertmanagers.iter().enumerate() {
        let found = discoverers(
            (&section.static_configs, &section.file_sd_configs),
            (&section.http_sd_configs, &section.kubernetes_sd_configs),
            base,
            kubernetes,
        );
        let found =
            found.map_err(|reason| format!("alerting: alertmanagers, entry {}: {reason}", index + 1))?;
        sections.push(found);
    }
    let global = &config.global;
    Ok(RuleConfig {
        files,
        interval_ms: global.evaluation_interval.0,
        query_offset_ms: global.rule_query_offset.map_or(0, |offset| offset.0),
        external_labels: Labels::from_pairs(&global.external_labels),
        alerting: config.alerting.clone(),
        sections,
    })
}

fn discoverers(
    (fixed, files): (&[StaticConfig], &[FileSdConfig]),
    (servers, clusters): (&[HttpSdConfig], &[KubernetesSdConfig]),
    base: &Path,
    kubernetes: &KubernetesDiscovery<'_>,
) -> Result<Vec<Box<dyn Discoverer>>, String> {
    let mut found: Vec<Box<dyn Discoverer>> = Vec::new();
    if !fixed.is_empty() {
        found.push(Box::new(Static::from_config(fixed)));
    }
    for config in files {
        found.push(Box::new(FileDiscoverer::new(config, base)));
    }
    for config in servers {
        let server = HttpDiscoverer::new(config).map_err(|reason| format!("http_sd_configs: {reason}"))?;
        found.push(Box::new(server));
    }
    for config in clusters {
        found.push(kubernetes(config).map_err(|reason| format!("kubernetes_sd_configs: {reason}"))?);
    }
    Ok(found)
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
