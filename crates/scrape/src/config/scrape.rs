//! One job: its targets, how they are scraped, and what becomes of their samples.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::http::HttpClientConfig;
use super::sd::{FileSdConfig, HttpSdConfig, KubernetesSdConfig, StaticConfig};
use super::values::{ByteSize, Milliseconds};
use super::{ConfigError, GlobalConfig};
use crate::relabel::RelabelConfig;

/// An exposition format that a target is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum ScrapeProtocol {
    /// Protocol buffers.
    PrometheusProto,
    /// OpenMetrics 0.0.1.
    #[serde(rename = "OpenMetricsText0.0.1")]
    OpenMetricsText001,
    /// OpenMetrics 1.0.0.
    #[serde(rename = "OpenMetricsText1.0.0")]
    OpenMetricsText100,
    /// The classic text format.
    #[serde(rename = "PrometheusText0.0.4")]
    PrometheusText004,
    /// The classic text format with quoted names.
    #[serde(rename = "PrometheusText1.0.0")]
    PrometheusText100,
}

impl ScrapeProtocol {
    /// What is asked for when nothing is configured.
    pub const DEFAULT: [ScrapeProtocol; 4] = [
        ScrapeProtocol::OpenMetricsText100,
        ScrapeProtocol::OpenMetricsText001,
        ScrapeProtocol::PrometheusText100,
        ScrapeProtocol::PrometheusText004,
    ];

    /// Its media type in an `Accept` header.
    pub fn media_type(self) -> &'static str {
        match self {
            ScrapeProtocol::PrometheusProto => {
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
            }
            ScrapeProtocol::OpenMetricsText001 => "application/openmetrics-text;version=0.0.1",
            ScrapeProtocol::OpenMetricsText100 => {
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8"
            }
            ScrapeProtocol::PrometheusText004 => "text/plain;version=0.0.4",
            ScrapeProtocol::PrometheusText100 => "text/plain;version=1.0.0;escaping=allow-utf-8",
        }
    }
}

/// A section with discovery: its fields, and the kinds of discovery that are refused by name.
macro_rules! discovering_config {
    (
        $(#[$of_section:meta])* $section:ident;
        fields { $($(#[$meta:meta])* $visibility:vis $field:ident: $type:ty = $default:expr,)* }
        unsupported { $($sd:ident,)* }
    ) => {
        $(#[$of_section])*
        #[derive(Debug, Clone, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $section {
            $($(#[$meta])* $visibility $field: $type,)*
            $($sd: Option<IgnoredAny>,)*
        }

        impl Default for $section {
            fn default() -> $section {
                $section { $($field: $default,)* $($sd: None,)* }
            }
        }

        impl $section {
            fn unsupported_discovery(&self) -> Option<&'static str> {
                $(if self.$sd.is_some() { return Some(stringify!($sd)); })*
                None
            }
        }
    };
}

pub(super) use discovering_config;

discovering_config! {
    /// One job.
    ScrapeConfig;
    fields {
    /// Its name, the `job` label of its targets.
    pub job_name: String = String::new(),
    /// Between two scrapes of a target.
    pub scrape_interval: Option<Milliseconds> = None,
    /// A scrape that takes longer has failed.
    pub scrape_timeout: Option<Milliseconds> = None,
    /// Formats in order of preference.
    pub scrape_protocols: Option<Vec<ScrapeProtocol>> = None,
    /// What a body without a usable `Content-Type` is taken for.
    pub fallback_scrape_protocol: Option<ScrapeProtocol> = None,
    scrape_native_histograms: Option<bool> = None,
    always_scrape_classic_histograms: Option<bool> = None,
    scrape_classic_histograms: Option<bool> = None,
    convert_classic_histograms_to_nhcb: Option<bool> = None,
    extra_scrape_metrics: Option<bool> = None,
    /// The path of the metrics.
    pub metrics_path: String = "/metrics".into(),
    /// Whether a sample's own labels win over those of its target.
    pub honor_labels: bool = false,
    /// Whether a sample's own time is used.
    pub honor_timestamps: bool = true,
    /// Whether series with times of their own are marked stale when they vanish.
    pub track_timestamps_staleness: bool = false,
    /// `http` or `https`.
    pub scheme: String = "http".into(),
    /// Parameters of the URL.
    pub params: BTreeMap<String, Vec<String>> = BTreeMap::new(),
    /// Whether compressed bodies are asked for.
    pub enable_compression: bool = true,
    /// Targets written here.
    pub static_configs: Vec<StaticConfig> = Vec::new(),
    /// Targets in files.
    pub file_sd_configs: Vec<FileSdConfig> = Vec::new(),
    /// Targets that servers list.
    pub http_sd_configs: Vec<HttpSdConfig> = Vec::new(),
    /// Targets from Kubernetes.
    pub kubernetes_sd_configs: Vec<KubernetesSdConfig> = Vec::new(),
    /// What is done to a target's labels.
    pub relabel_configs: Vec<RelabelConfig> = Vec::new(),
    /// What is done to a sample's labels.
    pub metric_relabel_configs: Vec<RelabelConfig> = Vec::new(),
    /// Larger bodies fail the scrape; 0 is no limit.
    pub body_size_limit: Option<ByteSize> = None,
    /// More samples fail the scrape; 0 is no limit.
    pub sample_limit: Option<u64> = None,
    /// More targets fail all scrapes of the job; 0 is no limit.
    pub target_limit: Option<u64> = None,
    /// More labels on a series fail the scrape; 0 is no limit.
    pub label_limit: Option<u64> = None,
    /// Longer label names fail the scrape; 0 is no limit.
    pub label_name_length_limit: Option<u64> = None,
    /// Longer label values fail the scrape; 0 is no limit.
    pub label_value_length_limit: Option<u64> = None,
    native_histogram_bucket_limit: Option<u64> = None,
    native_histogram_min_bucket_factor: Option<f64> = None,
    /// Dropped targets that are kept for display; 0 is no limit.
    pub keep_dropped_targets: Option<u64> = None,
    metric_name_validation_scheme: Option<String> = None,
    metric_name_escaping_scheme: Option<String> = None,
    scrape_failure_log_file: Option<String> = None,
    /// User and password.
    basic_auth: Option<super::BasicAuth> = None,
    authorization: Option<super::Authorization> = None,
    bearer_token: Option<super::Secret> = None,
    bearer_token_file: Option<String> = None,
    oauth2: Option<IgnoredAny> = None,
    tls_config: Option<super::TlsConfig> = None,
    follow_redirects: Option<bool> = None,
    enable_http2: Option<bool> = None,
    proxy_url: Option<String> = None,
    no_proxy: Option<String> = None,
    proxy_from_environment: Option<bool> = None,
    proxy_connect_header: Option<IgnoredAny> = None,
    http_headers: BTreeMap<String, super::http::HeaderValues> = BTreeMap::new(),
    /// How the targets are reached; made of the fields above.
    #[serde(skip)]
    pub http: HttpClientConfig = HttpClientConfig::default(),
    }
    unsupported {
    azure_sd_configs, consul_sd_configs, digitalocean_sd_configs, dns_sd_configs, docker_sd_configs,
    dockerswarm_sd_configs, ec2_sd_configs, aws_sd_configs, eureka_sd_configs, gce_sd_configs, hetzner_sd_configs,
    ionos_sd_configs, kuma_sd_configs, lightsail_sd_configs, linode_sd_configs, marathon_sd_configs,
    nerve_sd_configs, nomad_sd_configs, oci_sd_configs, openstack_sd_configs, outscale_sd_configs,
    ovhcloud_sd_configs, puppetdb_sd_configs, scaleway_sd_configs, serverset_sd_configs, stackit_sd_configs,
    triton_sd_configs, uyuni_sd_configs, vultr_sd_configs,
    }
}

impl ScrapeConfig {
    /// Milliseconds between two scrapes.
    pub fn interval_ms(&self) -> i64 {
        self.scrape_interval.map_or(60_000, |interval| interval.0)
    }

    /// Milliseconds a scrape may take.
    pub fn timeout_ms(&self) -> i64 {
        self.scrape_timeout.map_or(10_000, |timeout| timeout.0)
    }

    /// Whether the target's scrape also reports its limits.
    pub(crate) fn extra_metrics(&self) -> bool {
        self.extra_scrape_metrics == Some(true)
    }

    /// Fills in what the job inherits; for jobs made in code, with [`GlobalConfig::default`].
    ///
    /// # Errors
    /// When the job cannot be used.
    pub fn complete(&mut self, global: &GlobalConfig) -> Result<(), ConfigError> {
        if self.job_name.is_empty() {
            return Err(ConfigError("job_name is empty".into()));
        }
        let job = self.job_name.clone();
        let of_job =
            move |reason: String| ConfigError(format!("scrape config with job name {job:?}: {reason}"));
        if let Some(name) = self.unsupported_discovery() {
            let reason =
                format!("{name} is not supported yet; write the targets to a file and use file_sd_configs");
            return Err(of_job(reason));
        }
        for server in &mut self.http_sd_configs {
            server.complete().map_err(|ConfigError(reason)| of_job(reason))?;
        }
        let interval = *self.scrape_interval.get_or_insert(global.scrape_interval);
        let timeout = *self.scrape_timeout.get_or_insert(Milliseconds(global.timeout().min(interval.0)));
        if interval.0 <= 0 {
            return Err(of_job("scrape_interval must be greater than 0".into()));
        }
        if timeout.0 > interval.0 {
            return Err(of_job("scrape timeout greater than scrape interval".into()));
        }
        if !matches!(self.scheme.as_str(), "http" | "https") {
            return Err(of_job(format!("scheme must be http or https, not {:?}", self.scheme)));
        }
        let protocols = self.scrape_protocols.get_or_insert_with(|| {
            global.scrape_protocols.clone().unwrap_or(ScrapeProtocol::DEFAULT.to_vec())
        });
        if protocols.is_empty() {
            return Err(of_job("scrape_protocols cannot be empty".into()));
        }
        // Protocol buffers are not read yet: asking for them would make every scrape fail.
        protocols.retain(|protocol| *protocol != ScrapeProtocol::PrometheusProto);
        if protocols.is_empty() {
            protocols.extend(ScrapeProtocol::DEFAULT);
        }
        for (own, inherited) in [
            (&mut self.sample_limit, global.sample_limit),
            (&mut self.target_limit, global.target_limit),
            (&mut self.label_limit, global.label_limit),
            (&mut self.label_name_length_limit, global.label_name_length_limit),
            (&mut self.label_value_length_limit, global.label_value_length_limit),
            (&mut self.keep_dropped_targets, global.keep_dropped_targets),
        ] {
            *own = own.or(inherited);
        }
        self.body_size_limit = self.body_size_limit.or(global.body_size_limit);
        self.http = HttpClientConfig::from_parts(
            (self.basic_auth.clone(), self.authorization.clone()),
            (self.bearer_token.clone(), self.bearer_token_file.clone()),
            self.oauth2.is_some(),
            self.tls_config.clone().unwrap_or_default(),
            self.follow_redirects.unwrap_or(true),
            self.proxy_url
                .clone()
                .or(self.proxy_from_environment.filter(|on| *on).map(|_| "environment".into())),
            self.http_headers.clone(),
        );
        self.http.complete().map_err(|ConfigError(reason)| of_job(reason))
    }
}
