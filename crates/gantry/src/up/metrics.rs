//! The metric store of `up`: what it keeps, what it scrapes, and the queries others in this process ask of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use gantry_applet_prometheus::{Prometheus, Settings};
use gantry_autoscaler::{MetricsQuery, QueryError};
use gantry_clock::Clock;
use gantry_operator::Operator;
use gantry_prom_model::{Gather, Labels, Registry};
use gantry_promql::{QueryValue, Value};
use gantry_scrape::InProcess;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Error;
use super::sharing::{Shared, Sharing};

const CONFIGURATION: &str = include_str!("scrape.yaml");
const CONFIGURATION_NAME: &str = "scrape.yaml";
/// As long as Prometheus keeps samples, in blocks on disk; in memory are the last hours.
const RETENTION_MS: i64 = 15 * 24 * 3600 * 1000;
const MOST_DISK_BYTES: u64 = 4 << 30;
const MOST_MEMORY_BYTES: usize = 32 << 20;
/// The jobs of the configuration whose targets only this program can name.
const IN_PROCESS_JOB: &str = "gantry";
const PODS_JOB: &str = "pods";

pub(crate) type SeriesPoints = (Labels, Vec<(i64, f64)>);

/// Cheap to clone; all clones are the same store.
#[derive(Clone)]
pub(crate) struct Metrics {
    prometheus: Arc<Prometheus>,
    clock: Arc<dyn Clock>,
    maintenance: CancellationToken,
    registry: Registry,
    shared: Shared,
}

impl Metrics {
    /// Opens the store. Nothing is scraped yet.
    pub(crate) fn open(
        folder: PathBuf,
        clock: Arc<dyn Clock>,
        sharing: &Sharing,
        dialer: Option<Arc<dyn gantry_scrape::Dialer>>,
    ) -> Result<Metrics, Error> {
        let registry = Registry::new();
        let mut settings = Settings::new(folder);
        settings.storage.retention_ms = RETENTION_MS;
        settings.storage.retention_bytes = MOST_DISK_BYTES;
        settings.storage.max_head_bytes = MOST_MEMORY_BYTES;
        settings.dialer = dialer;
        let archive = sharing.open_archive()?;
        settings.storage_for = archive.as_ref().map(|archive| archive.storage_for(sharing));
        let prometheus = Arc::new(Prometheus::open(settings, clock.clone(), &registry)?);
        let shared = Shared::new(prometheus.db(), sharing, archive);
        Ok(Metrics { prometheus, clock, maintenance: CancellationToken::new(), registry, shared })
    }

    /// Begins to scrape: what in this process counts for itself (by the `instance` it is scraped as), and the pods.
    /// Must be called before the operator runs, since it registers the informers it reads.
    pub(crate) fn scrape(
        &self,
        operator: &Operator,
        in_process: Vec<(String, Arc<dyn Gather>)>,
    ) -> Result<(), Error> {
        let mut config = gantry_scrape::Config::parse(CONFIGURATION_NAME, CONFIGURATION)?;
        for job in config.scrape_configs.iter_mut().filter(|job| job.job_name == PODS_JOB) {
            job.relabel_configs = gantry_discovery::annotated_pods()?;
        }
        let kubernetes = |sd: &gantry_scrape::config::KubernetesSdConfig| {
            gantry_discovery::kubernetes(sd, operator.informers(), None)
        };
        let mut jobs = gantry_applet_prometheus::jobs(&config, Path::new("."), &kubernetes)?;
        let own: Vec<(String, Arc<dyn Gather>)> = in_process
            .into_iter()
            .chain([("metrics".to_owned(), Arc::new(self.registry.clone()) as _)])
            .collect();
        if let Some(job) = jobs.iter_mut().find(|job| job.config.job_name == IN_PROCESS_JOB) {
            job.discoverers.push(Box::new(InProcess::new(own)));
        }
        self.prometheus.apply(CONFIGURATION, jobs);
        let (prometheus, stop) = (self.prometheus.clone(), self.maintenance.clone());
        tokio::spawn(async move { prometheus.maintain(stop).await });
        tokio::spawn(self.shared.clone().keep(self.clock.clone(), self.maintenance.clone()));
        Ok(())
    }

    /// The Prometheus HTTP API and, over gRPC, the StoreAPI.
    pub(crate) fn router(&self) -> axum::Router {
        self.prometheus.api().router().merge(self.shared.router())
    }

    /// What evaluates queries.
    pub(crate) fn engine(&self) -> gantry_promql::Engine {
        self.prometheus.engine().clone()
    }

    /// What queries read.
    pub(crate) fn storage(&self) -> Arc<dyn gantry_prom_model::Queryable> {
        self.prometheus.storage()
    }

    /// The series of an instant query, now; nothing when it cannot be answered. For expressions of our own.
    pub(crate) fn instant(&self, expr: &str) -> Vec<(Labels, f64)> {
        let now_ms = self.clock.now_ms();
        match self.prometheus.engine().instant(self.prometheus.db().as_ref(), expr, now_ms) {
            Ok(result) => series(result.value).unwrap_or_default(),
            Err(error) => {
                tracing::debug!(expr, %error, "query failed");
                Vec::new()
            }
        }
    }

    /// The series of an instant query; a scalar has no labels.
    pub(crate) async fn query(&self, expr: &str, at_ms: i64) -> Result<Vec<(Labels, f64)>, String> {
        let (prometheus, expr) = (self.prometheus.clone(), expr.to_owned());
        let task = tokio::task::spawn_blocking(move || {
            prometheus.engine().instant(prometheus.db().as_ref(), &expr, at_ms)
        });
        let result = task.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        series(result.value).ok_or_else(|| "the query is neither a scalar nor an instant vector".to_owned())
    }

    /// The series of a range query.
    pub(crate) async fn range(
        &self,
        expr: &str,
        from_ms: i64,
        to_ms: i64,
        step: Duration,
    ) -> Result<Vec<SeriesPoints>, String> {
        let (prometheus, expr) = (self.prometheus.clone(), expr.to_owned());
        let step_ms = i64::try_from(step.as_millis()).unwrap_or(i64::MAX).max(1);
        let task = tokio::task::spawn_blocking(move || {
            prometheus.engine().range(prometheus.db().as_ref(), &expr, from_ms, to_ms, step_ms)
        });
        let result = task.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        let QueryValue::Matrix(series) = result.value else { return Err("not a range result".to_owned()) };
        let points = |series: gantry_promql::MatrixSeries| {
            let points = series.points.iter();
            let points =
                points.filter_map(|point| Some((point.timestamp_ms, float(&point.value)?))).collect();
            (series.labels, points)
        };
        Ok(series.into_iter().map(points).collect())
    }

    /// Where whatever joins later counts, such as a load.
    pub(crate) fn registry(&self) -> Registry {
        self.registry.clone()
    }

    pub(crate) async fn end(&self) {
        self.maintenance.cancel();
        if let Err(error) = self.prometheus.shutdown().await {
            tracing::error!(%error, "the metric store's log could not be synced");
        }
    }
}

#[async_trait]
impl MetricsQuery for Metrics {
    async fn query(&self, promql: &str) -> Result<Vec<(Labels, f64)>, QueryError> {
        Metrics::query(self, promql, self.clock.now_ms()).await.map_err(QueryError)
    }

    fn changes(&self) -> Option<watch::Receiver<u64>> {
        Some(self.prometheus.scraping().stored())
    }
}

fn series(value: QueryValue) -> Option<Vec<(Labels, f64)>> {
    match value {
        QueryValue::Scalar { value, .. } => Some(vec![(Labels::empty(), value)]),
        QueryValue::Vector(samples) => Some(
            samples.into_iter().filter_map(|sample| Some((sample.labels, float(&sample.value)?))).collect(),
        ),
        QueryValue::String { .. } | QueryValue::Matrix(_) => None,
    }
}

fn float(value: &Value) -> Option<f64> {
    match value {
        Value::Float(value) => Some(*value),
        Value::Histogram(_) => None,
    }
}
