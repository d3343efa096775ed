//! Where samples are sent and read from: `remote_write` and `remote_read`.

use std::collections::{BTreeMap, HashSet};

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::ConfigError;
use super::http::{Authorization, BasicAuth, HeaderValues, HttpClientConfig, Secret, TlsConfig};
use super::values::Milliseconds;
use crate::relabel::RelabelConfig;

/// Headers that belong to the protocol.
const RESERVED_HEADERS: [&str; 13] = [
    "host",
    "content-encoding",
    "content-length",
    "content-type",
    "user-agent",
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "www-authenticate",
    "accept-encoding",
    "x-prometheus-remote-write-version",
    "x-prometheus-remote-read-version",
];

/// A receiver of samples.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RemoteWriteConfig {
    /// Where requests are posted.
    pub url: Option<String>,
    /// A request that takes longer has failed.
    pub remote_timeout: Milliseconds,
    /// Further headers.
    pub headers: BTreeMap<String, String>,
    /// What is done to the labels of what is sent.
    pub write_relabel_configs: Vec<Option<RelabelConfig>>,
    /// The queue's name.
    pub name: String,
    /// Whether exemplars are sent.
    pub send_exemplars: bool,
    /// Whether native histograms are sent.
    pub send_native_histograms: bool,
    round_robin_dns: bool,
    /// The full name of the message that is sent.
    pub protobuf_message: String,
    /// How the queue works.
    pub queue_config: QueueConfig,
    /// How metadata is sent.
    pub metadata_config: MetadataConfig,
    sigv4: Option<IgnoredAny>,
    azuread: Option<IgnoredAny>,
    google_iam: Option<IgnoredAny>,
    basic_auth: Option<BasicAuth>,
    authorization: Option<Authorization>,
    bearer_token: Option<Secret>,
    bearer_token_file: Option<String>,
    oauth2: Option<IgnoredAny>,
    tls_config: TlsConfig,
    follow_redirects: bool,
    enable_http2: Option<bool>,
    proxy_url: Option<String>,
    no_proxy: Option<String>,
    proxy_from_environment: bool,
    proxy_connect_header: Option<IgnoredAny>,
    http_headers: BTreeMap<String, HeaderValues>,
    /// How the receiver is reached; made of the fields above.
    #[serde(skip)]
    pub http: HttpClientConfig,
}

impl Default for RemoteWriteConfig {
    fn default() -> RemoteWriteConfig {
        RemoteWriteConfig {
            url: None,
            remote_timeout: Milliseconds(30_000),
            headers: BTreeMap::new(),
            write_relabel_configs: Vec::new(),
            name: String::new(),
            send_exemplars: false,
            send_native_histograms: false,
            round_robin_dns: false,
            protobuf_message: MESSAGES[0].into(),
            queue_config: QueueConfig::default(),
            metadata_config: MetadataConfig::default(),
            sigv4: None,
            azuread: None,
            google_iam: None,
            basic_auth: None,
            authorization: None,
            bearer_token: None,
            bearer_token_file: None,
            oauth2: None,
            tls_config: TlsConfig::default(),
            follow_redirects: true,
            enable_http2: None,
            proxy_url: None,
            no_proxy: None,
            proxy_from_environment: false,
            proxy_connect_header: None,
            http_headers: BTreeMap::new(),
            http: HttpClientConfig::default(),
        }
    }
}

const MESSAGES: [&str; 2] = ["prometheus.WriteRequest", "io.prometheus.write.v2.Request"];

/// How a queue works.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueueConfig {
    /// Samples that wait in one shard.
    pub capacity: usize,
    /// Most shards.
    pub max_shards: usize,
    /// Fewest shards.
    pub min_shards: usize,
    /// Samples in one request.
    pub max_samples_per_send: usize,
    /// A batch that is not full is sent after this long.
    pub batch_send_deadline: Milliseconds,
    /// First pause before another attempt.
    pub min_backoff: Milliseconds,
    /// Longest pause between attempts.
    pub max_backoff: Milliseconds,
    /// Whether a 429 is worth another attempt.
    pub retry_on_http_429: bool,
    /// Older samples are not sent; 0 for no bound.
    pub sample_age_limit: Milliseconds,
}

impl Default for QueueConfig {
    fn default() -> QueueConfig {
        QueueConfig {
            capacity: 10_000,
            max_shards: 50,
            min_shards: 1,
            max_samples_per_send: 2_000,
            batch_send_deadline: Milliseconds(5_000),
            min_backoff: Milliseconds(30),
            max_backoff: Milliseconds(5_000),
            retry_on_http_429: false,
            sample_age_limit: Milliseconds(0),
        }
    }
}

/// How metadata is sent.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetadataConfig {
    /// Whether it is.
    pub send: bool,
    /// Between two rounds.
    pub send_interval: Milliseconds,
    /// Metrics in one request.
    pub max_samples_per_send: usize,
}

impl Default for MetadataConfig {
    fn default() -> MetadataConfig {
        MetadataConfig { send: true, send_interval: Milliseconds(60_000), max_samples_per_send: 2_000 }
    }
}

/// A server that samples are read from.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RemoteReadConfig {
    /// Where requests are posted.
    pub url: Option<String>,
    /// A request that takes longer has failed.
    pub remote_timeout: Milliseconds,
    /// Further headers.
    pub headers: BTreeMap<String, String>,
    /// Its name.
    pub name: String,
    /// Only queries with these matchers go there.
    pub required_matchers: BTreeMap<String, String>,
    /// Whether it is asked for times that the local store has.
    pub read_recent: bool,
    /// Whether queries are restricted to series without our external labels.
    pub filter_external_labels: bool,
    chunked_read_limit: Option<IgnoredAny>,
    basic_auth: Option<BasicAuth>,
    authorization: Option<Authorization>,
    bearer_token: Option<Secret>,
    bearer_token_file: Option<String>,
    oauth2: Option<IgnoredAny>,
    tls_config: TlsConfig,
    follow_redirects: bool,
    enable_http2: Option<bool>,
    proxy_url: Option<String>,
    no_proxy: Option<String>,
    proxy_from_environment: bool,
    proxy_connect_header: Option<IgnoredAny>,
    http_headers: BTreeMap<String, HeaderValues>,
    /// How the server is reached; made of the fields above.
    #[serde(skip)]
    pub http: HttpClientConfig,
}

impl Default for RemoteReadConfig {
    fn default() -> RemoteReadConfig {
        RemoteReadConfig {
            url: None,
            remote_timeout: Milliseconds(60_000),
            headers: BTreeMap::new(),
            name: String::new(),
            required_matchers: BTreeMap::new(),
            read_recent: false,
            filter_external_labels: true,
            chunked_read_limit: None,
            basic_auth: None,
            authorization: None,
            bearer_token: None,
            bearer_token_file: None,
            oauth2: None,
            tls_config: TlsConfig::default(),
            follow_redirects: true,
            enable_http2: None,
            proxy_url: None,
            no_proxy: None,
            proxy_from_environment: false,
            proxy_connect_header: None,
            http_headers: BTreeMap::new(),
            http: HttpClientConfig::default(),
        }
    }
}

fn fail<T>(reason: impl Into<String>) -> Result<T, ConfigError> {
    Err(ConfigError(reason.into()))
}

fn check_headers(headers: &BTreeMap<String, String>) -> Result<(), ConfigError> {
    for header in headers.keys() {
        let lower = header.to_ascii_lowercase();
        if lower == "authorization" {
            return fail(
                "authorization header must be changed via the basic_auth, authorization, oauth2, sigv4, azuread or google_iam parameter",
            );
        }
        if RESERVED_HEADERS.contains(&lower.as_str()) {
            return fail(format!("{header} is a reserved header. It must not be changed"));
        }
    }
    Ok(())
}

/// Headers of the section beside those of the client.
fn all_headers(
    headers: &BTreeMap<String, String>,
    http_headers: &BTreeMap<String, HeaderValues>,
) -> BTreeMap<String, HeaderValues> {
    let mut all = http_headers.clone();
    for (name, value) in headers {
        all.entry(name.clone()).or_default().values.push(value.clone());
    }
    all
}

impl RemoteWriteConfig {
    fn complete(&mut self) -> Result<(), ConfigError> {
        if self.url.as_deref().unwrap_or("").is_empty() {
            return fail("url for remote_write is empty");
        }
        if self.write_relabel_configs.iter().any(Option::is_none) {
            return fail("empty or null relabeling rule in remote write config");
        }
        check_headers(&self.headers)?;
        if !MESSAGES.contains(&self.protobuf_message.as_str()) {
            return fail(format!(
                "invalid protobuf_message value: unknown type for remote write protobuf message {}, supported: {}",
                self.protobuf_message,
                MESSAGES.join(", ")
            ));
        }
        let clouds = [("sigv4", &self.sigv4), ("azuread", &self.azuread), ("google_iam", &self.google_iam)];
        for (name, given) in clouds {
            if given.is_some() {
                return fail(format!("{name} is not supported yet; use authorization with credentials_file"));
            }
        }
        if self.round_robin_dns {
            return fail("round_robin_dns is not supported yet; remove it");
        }
        self.queue_config.check()?;
        if self.metadata_config.send_interval.0 <= 0 || self.metadata_config.max_samples_per_send == 0 {
            return fail("metadata_config: send_interval and max_samples_per_send must be greater than 0");
        }
        self.http = HttpClientConfig::from_parts(
            (self.basic_auth.clone(), self.authorization.clone()),
            (self.bearer_token.clone(), self.bearer_token_file.clone()),
            self.oauth2.is_some(),
            self.tls_config.clone(),
            self.follow_redirects,
            self.proxy_url.clone().or(self.proxy_from_environment.then(|| "environment".into())),
            all_headers(&self.headers, &self.http_headers),
        );
        self.http.complete()
    }

    /// The steps of relabelling.
    pub fn relabel_configs(&self) -> Vec<RelabelConfig> {
        self.write_relabel_configs.iter().flatten().cloned().collect()
    }
}

impl QueueConfig {
    fn check(&self) -> Result<(), ConfigError> {
        for (name, value) in [
            ("capacity", self.capacity),
            ("max_shards", self.max_shards),
            ("min_shards", self.min_shards),
            ("max_samples_per_send", self.max_samples_per_send),
        ] {
            if value == 0 {
                return fail(format!("queue_config: {name} must be greater than 0"));
            }
        }
        if self.min_shards > self.max_shards {
            return fail("queue_config: min_shards must not be greater than max_shards");
        }
        if self.batch_send_deadline.0 <= 0 || self.min_backoff.0 <= 0 {
            return fail("queue_config: batch_send_deadline and min_backoff must be greater than 0");
        }
        if self.max_backoff.0 < self.min_backoff.0 {
            return fail("queue_config: max_backoff must not be less than min_backoff");
        }
        Ok(())
    }
}

impl RemoteReadConfig {
    fn complete(&mut self) -> Result<(), ConfigError> {
        if self.url.as_deref().unwrap_or("").is_empty() {
            return fail("url for remote_read is empty");
        }
        check_headers(&self.headers)?;
        self.http = HttpClientConfig::from_parts(
            (self.basic_auth.clone(), self.authorization.clone()),
            (self.bearer_token.clone(), self.bearer_token_file.clone()),
            self.oauth2.is_some(),
            self.tls_config.clone(),
            self.follow_redirects,
            self.proxy_url.clone().or(self.proxy_from_environment.then(|| "environment".into())),
            all_headers(&self.headers, &self.http_headers),
        );
        self.http.complete()
    }
}

fn section<T>(
    list: &mut [Option<T>],
    what: &str,
    complete: impl Fn(&mut T) -> Result<(), ConfigError>,
    name: impl Fn(&T) -> &str,
) -> Result<(), ConfigError> {
    let mut names = HashSet::new();
    for (index, entry) in list.iter_mut().enumerate() {
        let Some(entry) = entry else { return fail(format!("empty or null {what} config section")) };
        complete(entry).map_err(|ConfigError(reason)| {
            ConfigError(format!("{}, entry {}: {reason}", what.replace(' ', "_"), index + 1))
        })?;
        if !name(entry).is_empty() && !names.insert(name(entry).to_owned()) {
            return fail(format!("found multiple {what} configs with job name {:?}", name(entry)));
        }
    }
    Ok(())
}

/// Checks both sections and fills in what follows from them.
pub(super) fn complete(
    write: &mut [Option<RemoteWriteConfig>],
    read: &mut [Option<RemoteReadConfig>],
) -> Result<(), ConfigError> {
    section(write, "remote write", RemoteWriteConfig::complete, |entry| &entry.name)?;
    section(read, "remote read", RemoteReadConfig::complete, |entry| &entry.name)
}
