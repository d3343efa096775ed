//! The configuration file of Prometheus, as types: what is scraped and how.

mod alerting;
mod http;
mod remote;
mod scrape;
mod sd;
mod values;

pub use alerting::{AlertingConfig, AlertmanagerConfig};
pub use http::{Authorization, BasicAuth, HttpClientConfig, Secret, TlsConfig};
pub use remote::{MetadataConfig, QueueConfig, RemoteReadConfig, RemoteWriteConfig};
pub use scrape::{ScrapeConfig, ScrapeProtocol};
pub use sd::{
    FileSdConfig, HttpSdConfig, KubernetesNamespaces, KubernetesRole, KubernetesSdConfig, KubernetesSelector,
    StaticConfig,
};
pub use values::{ByteSize, Milliseconds};

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

/// A configuration that is well-formed but cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

/// A whole `prometheus.yml`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Defaults of all jobs.
    pub global: GlobalConfig,
    /// Accepted; the Go runtime is not ours.
    runtime: Option<IgnoredAny>,
    /// Where alerts go.
    pub alerting: AlertingConfig,
    /// Files with recording and alerting rules.
    pub rule_files: Vec<String>,
    /// Files with further jobs.
    pub scrape_config_files: Vec<String>,
    /// What is scraped.
    pub scrape_configs: Vec<ScrapeConfig>,
    /// Storage options.
    pub storage: Option<IgnoredAny>,
    tracing: Option<IgnoredAny>,
    /// Where samples are sent.
    pub remote_write: Vec<Option<RemoteWriteConfig>>,
    /// Where samples are read from.
    pub remote_read: Vec<Option<RemoteReadConfig>>,
    otlp: Option<IgnoredAny>,
}

/// Defaults of all jobs.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GlobalConfig {
    /// Between two scrapes of a target.
    pub scrape_interval: Milliseconds,
    /// A scrape that takes longer has failed.
    pub scrape_timeout: Option<Milliseconds>,
    /// Formats in order of preference.
    pub scrape_protocols: Option<Vec<ScrapeProtocol>>,
    /// Between two evaluations of the rules.
    pub evaluation_interval: Milliseconds,
    /// How far back rules look by default.
    pub rule_query_offset: Option<Milliseconds>,
    /// Labels that leave the house with every series and alert.
    pub external_labels: BTreeMap<String, String>,
    /// Where queries are logged.
    pub query_log_file: Option<String>,
    /// Where failures of scrapes are logged.
    pub scrape_failure_log_file: Option<String>,
    /// Larger bodies fail the scrape; 0 is no limit.
    pub body_size_limit: Option<ByteSize>,
    /// More samples fail the scrape; 0 is no limit.
    pub sample_limit: Option<u64>,
    /// More targets fail all scrapes of the job; 0 is no limit.
    pub target_limit: Option<u64>,
    /// More labels on a series fail the scrape; 0 is no limit.
    pub label_limit: Option<u64>,
    /// Longer label names fail the scrape; 0 is no limit.
    pub label_name_length_limit: Option<u64>,
    /// Longer label values fail the scrape; 0 is no limit.
    pub label_value_length_limit: Option<u64>,
    /// Dropped targets that are kept for display; 0 is no limit.
    pub keep_dropped_targets: Option<u64>,
    /// `utf8` or `legacy`: which names metrics and labels may have.
    pub metric_name_validation_scheme: Option<String>,
    metric_name_escaping_scheme: Option<String>,
    scrape_native_histograms: Option<bool>,
    convert_classic_histograms_to_nhcb: Option<bool>,
    always_scrape_classic_histograms: Option<bool>,
    extra_scrape_metrics: Option<bool>,
}

impl Default for GlobalConfig {
    fn default() -> GlobalConfig {
        GlobalConfig {
            scrape_interval: Milliseconds(60_000),
            scrape_timeout: None,
            scrape_protocols: None,
            evaluation_interval: Milliseconds(60_000),
            rule_query_offset: None,
            external_labels: BTreeMap::new(),
            query_log_file: None,
            scrape_failure_log_file: None,
            body_size_limit: None,
            sample_limit: None,
            target_limit: None,
            label_limit: None,
            label_name_length_limit: None,
            label_value_length_limit: None,
            keep_dropped_targets: None,
            metric_name_validation_scheme: None,
            metric_name_escaping_scheme: None,
            scrape_native_histograms: None,
            convert_classic_histograms_to_nhcb: None,
            always_scrape_classic_histograms: None,
            extra_scrape_metrics: None,
        }
    }
}

impl GlobalConfig {
    fn timeout(&self) -> i64 {
        self.scrape_timeout.map_or(10_000, |timeout| timeout.0).min(self.scrape_interval.0)
    }
}

impl Config {
    /// Reads a file's text, and fills in what jobs inherit.
    ///
    /// # Errors
    /// What is wrong and, where one place is to blame, `file:line:col`.
    pub fn parse(file_name: &str, text: &str) -> Result<Config, ConfigError> {
        let mut config: Config =
            gantry_yaml::from_str(file_name, text).map_err(|error| ConfigError(error.to_string()))?;
        config.complete().map_err(|ConfigError(reason)| ConfigError(format!("{file_name}: {reason}")))?;
        Ok(config)
    }

    fn complete(&mut self) -> Result<(), ConfigError> {
        let global = &self.global;
        if global.scrape_interval.0 <= 0 {
            return Err(ConfigError("global: scrape_interval must be greater than 0".into()));
        }
        if global.scrape_timeout.is_some_and(|timeout| timeout.0 > global.scrape_interval.0) {
            return Err(ConfigError("global: scrape timeout greater than scrape interval".into()));
        }
        if global.evaluation_interval.0 <= 0 {
            return Err(ConfigError("global: evaluation_interval must be greater than 0".into()));
        }
        self.alerting.complete()?;
        remote::complete(&mut self.remote_write, &mut self.remote_read)?;
        let mut names = std::collections::HashSet::new();
        for job in &mut self.scrape_configs {
            job.complete(global)?;
            if !names.insert(job.job_name.clone()) {
                return Err(ConfigError(format!(
                    "found multiple scrape configs with job name {:?}",
                    job.job_name
                )));
            }
        }
        Ok(())
    }

    /// Files that the configuration names and that have to be there: certificates, keys and credentials.
    pub fn named_files(&self) -> Vec<&str> {
        let clients = self
            .scrape_configs
            .iter()
            .map(|job| &job.http)
            .chain(self.alerting.alertmanagers.iter().map(|section| &section.http))
            .chain(self.remote_write.iter().flatten().map(|section| &section.http))
            .chain(self.remote_read.iter().flatten().map(|section| &section.http));
        clients.flat_map(HttpClientConfig::named_files).collect()
    }

    /// Sections that were given but have no effect yet, to be said at the start.
    pub fn without_effect(&self) -> Vec<&'static str> {
        let set = [
            (!self.scrape_config_files.is_empty(), "scrape_config_files"),
            (!self.remote_read.is_empty(), "remote_read"),
            (self.storage.is_some(), "storage"),
            (self.tracing.is_some(), "tracing"),
            (self.otlp.is_some(), "otlp"),
        ];
        set.into_iter().filter_map(|(given, name)| given.then_some(name)).collect()
    }
}
