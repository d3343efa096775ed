//! `redis`, `redis-streams` and their cluster and sentinel forms: lengths of lists, sets, hashes and streams.

mod endpoint;
pub(crate) mod keyspace;

use std::sync::Arc;

use async_trait::async_trait;

use crate::cluster::external_type;
use crate::config::{Secret, TriggerConfig};
use crate::parameters::{AUTH, Field, Fields, META, META_AUTH_ENV, Origin};
use crate::scaler::{Hear, Reading, Scaler, ScalerError, Subscription};
use crate::spec::{Amount, MetricSpec, MetricType, metric_name};

pub(crate) use endpoint::{Endpoint, EndpointPool};

/// How the servers are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Topology {
    Single,
    Cluster,
    Sentinel,
}

/// Where and as whom to connect; equal ones share a client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Connection {
    pub(crate) topology: Topology,
    /// `host:port` each.
    pub(crate) addresses: Vec<String>,
    pub(crate) username: String,
    pub(crate) password: Secret,
    pub(crate) sentinel_username: String,
    pub(crate) sentinel_password: Secret,
    pub(crate) sentinel_master: String,
    pub(crate) tls: Option<Tls>,
    pub(crate) database: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Tls {
    /// Certificates and names are not verified.
    pub(crate) is_unsafe: bool,
    pub(crate) authority: Secret,
    pub(crate) certificate: Secret,
    pub(crate) key: Secret,
}

/// What is counted.
#[derive(Clone, Debug, PartialEq)]
enum Count {
    /// Elements of a list, set, sorted set or hash.
    Length {
        key: String,
    },
    StreamLength {
        key: String,
    },
    Pending {
        key: String,
        group: String,
    },
    Lag {
        key: String,
        group: String,
    },
}

pub(crate) struct Redis {
    name: String,
    metric_type: MetricType,
    target: i64,
    activation: i64,
    count: Count,
    endpoint: Arc<Endpoint>,
}

impl Redis {
    pub(crate) fn list(
        config: &TriggerConfig,
        topology: Topology,
        pool: &EndpointPool,
    ) -> Result<Redis, ScalerError> {
        let mut fields = Fields::of(config);
        let target: i64 = fields.required(Field::new(&["listLength"], META).default("5"));
        let activation: i64 = fields.required(Field::new(&["activationListLength"], META).default("0"));
        let key: String = fields.required(Field::new(&["listName"], META));
        let connection = connection(&mut fields, topology);
        let metric_type = external_type(&mut fields, config);
        fields.finish()?;
        let name = metric_name(config.index, &format!("redis-{key}"));
        let endpoint = pool.endpoint(connection)?;
        Ok(Redis { name, metric_type, target, activation, count: Count::Length { key }, endpoint })
    }

    pub(crate) fn streams(
        config: &TriggerConfig,
        topology: Topology,
        pool: &EndpointPool,
    ) -> Result<Redis, ScalerError> {
        let mut fields = Fields::of(config);
        let key: String = fields.required(Field::new(&["stream"], META));
        let group: Option<String> = fields.optional(Field::new(&["consumerGroup"], META));
        let pending: i64 = fields.required(Field::new(&["pendingEntriesCount"], META).default("5"));
        let length: i64 = fields.required(Field::new(&["streamLength"], META).default("5"));
        let lag: Option<i64> = fields.optional(Field::new(&["lagCount"], META));
        let activation: i64 = fields.required(Field::new(&["activationLagCount"], META).default("0"));
        let connection = connection(&mut fields, topology);
        let metric_type = external_type(&mut fields, config);
        fields.finish()?;
        let name = metric_name(config.index, &format!("redis-streams-{key}"));
        let (count, target) = match (group, lag) {
            (Some(group), Some(lag)) => (Count::Lag { key, group }, lag),
            (Some(group), None) => (Count::Pending { key, group }, pending),
            (None, _) => (Count::StreamLength { key }, length),
        };
        let endpoint = pool.endpoint(connection)?;
        Ok(Redis { name, metric_type, target, activation, count, endpoint })
    }
}

/// Reads addresses, credentials and TLS, which all six kinds share.
fn connection(fields: &mut Fields<'_>, topology: Topology) -> Connection {
    let place = META_AUTH_ENV;
    let text = |fields: &mut Fields<'_>, names: &[&str]| -> String {
        fields.optional(Field::new(names, place)).unwrap_or_default()
    };
    let list = |fields: &mut Fields<'_>, names: &[&str]| -> Vec<String> {
        fields.optional(Field::new(names, place)).unwrap_or_default()
    };
    let mut addresses = list(fields, &["address", "addresses"]);
    let hosts = list(fields, &["host", "hosts"]);
    let ports = list(fields, &["port", "ports"]);
    if addresses.is_empty() {
        fields.require(!hosts.is_empty() || !ports.is_empty(), || {
            "no addresses or hosts given. address should be a comma separated list of host:port or set the host/port values".into()
        });
        fields.require(hosts.len() == ports.len(), || {
            "not enough hosts or ports given. number of hosts should be equal to the number of ports".into()
        });
        addresses = hosts.iter().zip(&ports).map(|(host, port)| format!("{host}:{port}")).collect();
    }
    let enabled: Option<bool> = fields.optional(Field::new(&["enableTLS"], META));
    let mode: Option<String> = fields.optional(Field::new(&["tls"], AUTH).one_of(&["enable", "disable"]));
    fields.require(enabled.is_none() || mode.is_none(), || {
        "unable to set `tls` in both ScaledObject and TriggerAuthentication together".into()
    });
    let is_unsafe: bool = fields.required(Field::new(&["unsafeSsl"], META).default("false"));
    let secret = |fields: &mut Fields<'_>, names: &[&str]| -> Secret {
        fields.optional(Field::new(names, AUTH)).unwrap_or_default()
    };
    let certificate = secret(fields, &["Cert", "cert"]);
    let (key, authority) = (secret(fields, &["key"]), secret(fields, &["ca"]));
    let key_password = secret(fields, &["keyPassword"]);
    fields.require(certificate.is_empty() == key.is_empty(), || {
        "cert and key must be given together, or neither of them".into()
    });
    fields.require(key_password.is_empty(), || {
        "keyPassword is not supported: give the key without encryption".into()
    });
    let uses_tls = enabled.unwrap_or(false) || mode.as_deref() == Some("enable");
    Connection {
        topology,
        addresses,
        username: text(fields, &["username"]),
        password: Secret::new(text(fields, &["password"])),
        sentinel_username: text(fields, &["sentinelUsername"]),
        sentinel_password: Secret::new(text(fields, &["sentinelPassword"])),
        sentinel_master: text(fields, &["sentinelMaster"]),
        tls: uses_tls.then_some(Tls { is_unsafe, authority, certificate, key }),
        database: fields.optional(Field::new(&["databaseIndex"], &[Origin::Metadata])).unwrap_or(0),
    }
}

impl Count {
    fn key(&self) -> &str {
        match self {
            Count::Length { key }
            | Count::StreamLength { key }
            | Count::Pending { key, .. }
            | Count::Lag { key, .. } => key,
        }
    }
}

#[async_trait]
impl Scaler for Redis {
    async fn metrics(&self) -> Result<Vec<MetricSpec>, ScalerError> {
        let target = Amount::of(self.target as f64);
        Ok(vec![MetricSpec::External { name: self.name.clone(), metric_type: self.metric_type, target }])
    }

    async fn read(&self, _metric: &str) -> Result<Reading, ScalerError> {
        let count = match &self.count {
            Count::Length { key } => self.endpoint.length(key).await,
            Count::StreamLength { key } => self.endpoint.stream_length(key).await,
            Count::Pending { key, group } => self.endpoint.pending(key, group).await,
            Count::Lag { key, group } => self.endpoint.lag(key, group).await,
        };
        let count =
            count.map_err(|error| ScalerError::source(format!("redis key {:?}", self.count.key()), error))?;
        Ok(Reading { value: count as f64, active: count > self.activation })
    }

    fn subscribe(&self, hear: Hear) -> Option<Subscription> {
        self.endpoint.hear(self.count.key(), hear)
    }
}
