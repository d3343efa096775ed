//! Where targets come from.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::ConfigError;
use super::http::HttpClientConfig;
use super::values::Milliseconds;

/// Targets written in the configuration, with labels they share.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StaticConfig {
    /// `host:port` each.
    pub targets: Vec<String>,
    /// On every one of them.
    pub labels: BTreeMap<String, String>,
}

/// Targets in files that may change.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSdConfig {
    /// Paths; the last part may hold `*`.
    pub files: Vec<String>,
    /// Between two looks at the files.
    #[serde(default = "five_minutes")]
    pub refresh_interval: Milliseconds,
}

/// Targets that a server lists in JSON.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct HttpSdConfig {
    /// Where it lists them.
    pub url: String,
    /// Between two requests.
    #[serde(default = "one_minute")]
    pub refresh_interval: Milliseconds,
    /// How the server is reached.
    #[serde(flatten)]
    pub http: HttpClientConfig,
}

impl HttpSdConfig {
    pub(crate) fn complete(&mut self) -> Result<(), ConfigError> {
        let (scheme, rest) = self.url.split_once("://").unwrap_or(("", &self.url));
        if !matches!(scheme, "http" | "https") {
            return Err(ConfigError("http_sd_configs: URL scheme must be 'http' or 'https'".into()));
        }
        if rest.split(['/', '?']).next().is_none_or(str::is_empty) {
            return Err(ConfigError("http_sd_configs: host is missing in URL".into()));
        }
        self.http.complete().map_err(|ConfigError(reason)| ConfigError(format!("http_sd_configs: {reason}")))
    }
}

fn one_minute() -> Milliseconds {
    Milliseconds(60_000)
}

fn five_minutes() -> Milliseconds {
    Milliseconds(300_000)
}

/// Which Kubernetes objects become targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KubernetesRole {
    /// Nodes.
    Node,
    /// Ports of containers.
    Pod,
    /// Ports of services.
    Service,
    /// Addresses of Endpoints.
    Endpoints,
    /// Addresses of EndpointSlices.
    EndpointSlice,
    /// Paths of ingresses.
    Ingress,
}

impl KubernetesRole {
    /// The word in a configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            KubernetesRole::Node => "node",
            KubernetesRole::Pod => "pod",
            KubernetesRole::Service => "service",
            KubernetesRole::Endpoints => "endpoints",
            KubernetesRole::EndpointSlice => "endpointslice",
            KubernetesRole::Ingress => "ingress",
        }
    }
}

/// In which namespaces is looked; all when empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KubernetesNamespaces {
    /// The namespace of this pod as well.
    pub own_namespace: bool,
    /// By name.
    pub names: Vec<String>,
}

/// Narrows what is watched of a role.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KubernetesSelector {
    /// Of which role.
    pub role: KubernetesRole,
    /// A label selector.
    #[serde(default)]
    pub label: String,
    /// A field selector.
    #[serde(default)]
    pub field: String,
}

/// Targets from a Kubernetes API server.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct KubernetesSdConfig {
    /// The server; the one we run in or beside when absent.
    #[serde(default)]
    pub api_server: Option<String>,
    /// Which objects.
    pub role: KubernetesRole,
    /// A kubeconfig file.
    #[serde(default)]
    pub kubeconfig_file: Option<String>,
    /// Where to look.
    #[serde(default)]
    pub namespaces: KubernetesNamespaces,
    /// What to look for.
    #[serde(default)]
    pub selectors: Vec<KubernetesSelector>,
    /// Which metadata of other objects is attached.
    #[serde(default)]
    pub attach_metadata: AttachMetadata,
    /// How the server is reached.
    #[serde(flatten)]
    pub http: HttpClientConfig,
}

/// Which metadata of other objects is attached to targets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AttachMetadata {
    /// Labels and annotations of the pod's node.
    pub node: bool,
    /// Labels and annotations of the pod's namespace.
    pub namespace: bool,
}
