//! From a trigger to its scaler: the kinds there are, and what all of them share.

use std::sync::Arc;

use gantry_clock::Clock;

use crate::cluster::{Cluster, StoredNumber, Workload};
use crate::config::TriggerConfig;
use crate::cron::Cron;
use crate::http::{HttpClients, Resolve};
use crate::local::LocalMetrics;
use crate::postgres::{Postgres, ServerPool};
use crate::redis::keyspace::KeyspaceEvents;
use crate::redis::{EndpointPool, Redis, Topology};
use crate::resource::PodResource;
use crate::scaler::{Scaler, ScalerError};
use crate::web::metrics_api::MetricsApi;
use crate::web::prometheus::Prometheus;

/// The kinds of triggers that can be used.
pub const SUPPORTED: &[&str] = &[
    "cpu",
    "cron",
    "kubernetes-resource",
    "kubernetes-workload",
    "memory",
    "metrics-api",
    "postgresql",
    "prometheus",
    "redis",
    "redis-cluster",
    "redis-cluster-streams",
    "redis-sentinel",
    "redis-sentinel-streams",
    "redis-streams",
];

/// What sources are made with.
pub struct Settings {
    pub clock: Arc<dyn Clock>,
    pub cluster: Option<Arc<dyn Cluster>>,
    pub local_metrics: Option<Arc<dyn LocalMetrics>>,
    pub resolve: Option<Arc<dyn Resolve>>,
    pub keyspace_events: KeyspaceEvents,
}

impl Settings {
    /// Sources that need nothing of this process and change no server's configuration.
    pub fn new(clock: Arc<dyn Clock>) -> Settings {
        Settings {
            clock,
            cluster: None,
            local_metrics: None,
            resolve: None,
            keyspace_events: KeyspaceEvents::default(),
        }
    }
}

/// Makes scalers, and pools the clients they share.
pub struct Sources {
    clock: Arc<dyn Clock>,
    cluster: Option<Arc<dyn Cluster>>,
    local_metrics: Option<Arc<dyn LocalMetrics>>,
    http: HttpClients,
    redis: EndpointPool,
    postgres: ServerPool,
}

impl Sources {
    pub fn new(settings: Settings) -> Sources {
        let resolve = settings.resolve;
        Sources {
            clock: settings.clock,
            cluster: settings.cluster,
            local_metrics: settings.local_metrics,
            http: HttpClients::new(resolve.clone()),
            redis: EndpointPool::new(resolve.clone(), settings.keyspace_events),
            postgres: ServerPool::new(resolve),
        }
    }

    /// The scaler of a trigger, or what is wrong with the trigger. Connects to nothing yet.
    pub fn scaler(&self, config: &TriggerConfig) -> Result<Arc<dyn Scaler>, ScalerError> {
        let cluster = || {
            self.cluster
                .clone()
                .ok_or_else(|| ScalerError::source(&*config.kind, "there is no cluster to ask"))
        };
        let redis = &self.redis;
        Ok(match config.kind.as_str() {
            "cpu" => Arc::new(PodResource::new("cpu", config)?),
            "memory" => Arc::new(PodResource::new("memory", config)?),
            "cron" => Arc::new(Cron::new(config, self.clock.clone())?),
            "kubernetes-resource" => Arc::new(StoredNumber::new(config, cluster()?)?),
            "kubernetes-workload" => Arc::new(Workload::new(config, cluster()?)?),
            "metrics-api" => Arc::new(MetricsApi::new(config, &self.http)?),
            "postgresql" => Arc::new(Postgres::new(config, &self.postgres)?),
            "prometheus" => {
                Arc::new(Prometheus::new(config, &self.http, self.local_metrics.clone(), self.clock.clone())?)
            }
            "redis" => Arc::new(Redis::list(config, Topology::Single, redis)?),
            "redis-cluster" => Arc::new(Redis::list(config, Topology::Cluster, redis)?),
            "redis-sentinel" => Arc::new(Redis::list(config, Topology::Sentinel, redis)?),
            "redis-streams" => Arc::new(Redis::streams(config, Topology::Single, redis)?),
            "redis-cluster-streams" => Arc::new(Redis::streams(config, Topology::Cluster, redis)?),
            "redis-sentinel-streams" => Arc::new(Redis::streams(config, Topology::Sentinel, redis)?),
            other => {
                return Err(ScalerError::UnknownKind { kind: other.into(), supported: SUPPORTED.join(", ") });
            }
        })
    }
}
