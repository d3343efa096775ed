//! Where alerts go: what is done to their labels, and the Alertmanagers.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::ConfigError;
use super::http::HttpClientConfig;
use super::scrape::discovering_config;
use super::sd::{FileSdConfig, HttpSdConfig, KubernetesSdConfig, StaticConfig};
use super::values::Milliseconds;
use crate::relabel::RelabelConfig;

/// Where alerts go.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AlertingConfig {
    /// What is done to the labels of every alert.
    pub alert_relabel_configs: Vec<RelabelConfig>,
    /// Whom it is sent to.
    pub alertmanagers: Vec<AlertmanagerConfig>,
}

discovering_config! {
    /// Alertmanagers that are found and reached in one way.
    AlertmanagerConfig;
    fields {
    /// `http` or `https`.
    pub scheme: String = "http".into(),
    /// In front of the API's own path.
    pub path_prefix: String = String::new(),
    /// A delivery that takes longer has failed.
    pub timeout: Milliseconds = Milliseconds(10_000),
    /// `v2`, the only one there still is.
    pub api_version: String = "v2".into(),
    sigv4: Option<IgnoredAny> = None,
    /// Those written here.
    pub static_configs: Vec<StaticConfig> = Vec::new(),
    /// Those in files.
    pub file_sd_configs: Vec<FileSdConfig> = Vec::new(),
    /// Those that servers list.
    pub http_sd_configs: Vec<HttpSdConfig> = Vec::new(),
    /// Those of Kubernetes.
    pub kubernetes_sd_configs: Vec<KubernetesSdConfig> = Vec::new(),
    /// What is done to an Alertmanager's labels.
    pub relabel_configs: Vec<RelabelConfig> = Vec::new(),
    /// What is done to the labels of alerts for these alone.
    pub alert_relabel_configs: Vec<RelabelConfig> = Vec::new(),
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
    /// How they are reached; made of the fields above.
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

impl AlertingConfig {
    pub(super) fn complete(&mut self) -> Result<(), ConfigError> {
        for (index, alertmanager) in self.alertmanagers.iter_mut().enumerate() {
            alertmanager.complete().map_err(|ConfigError(reason)| {
                ConfigError(format!("alerting: alertmanagers, entry {}: {reason}", index + 1))
            })?;
        }
        Ok(())
    }
}

impl AlertmanagerConfig {
    fn complete(&mut self) -> Result<(), ConfigError> {
        if let Some(name) = self.unsupported_discovery() {
            return Err(ConfigError(format!(
                "{name} is not supported yet; write the addresses to a file and use file_sd_configs"
            )));
        }
        if self.api_version != "v2" {
            return Err(ConfigError(format!(
                "expected Alertmanager api version to be one of [v2] but got {}",
                self.api_version
            )));
        }
        if !matches!(self.scheme.as_str(), "http" | "https") {
            return Err(ConfigError(format!("scheme must be http or https, not {:?}", self.scheme)));
        }
        if self.timeout.0 <= 0 {
            return Err(ConfigError("timeout must be greater than 0".into()));
        }
        if self.sigv4.is_some() {
            return Err(ConfigError(
                "sigv4 is not supported yet; use authorization with credentials_file".into(),
            ));
        }
        for address in self.static_configs.iter().flat_map(|config| &config.targets) {
            if address.contains('/') && self.relabel_configs.is_empty() {
                return Err(ConfigError(format!("{address:?} is not a valid hostname")));
            }
        }
        for server in &mut self.http_sd_configs {
            server.complete()?;
        }
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
        self.http.complete()
    }
}
