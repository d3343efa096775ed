//! Values of metrics: which query to ask, for which objects, and whose value each result is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use gantry_apimachinery::selector::{Selector, parse_label_selector};
use gantry_clock::Clock;
use gantry_operator::{Informer, Operator, ServedKind, served_kinds};
use gantry_prom_model::Labels;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, ListParams};
use kube::core::{DynamicObject, PartialObjectMeta};
use parking_lot::RwLock;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::ObjectMetrics;
use super::kinds::{GroupResource, Kinds, identity};
use super::query::{self, Wanted};
use super::rules::Rules;
use super::series::{self, Known, Metric, Source};
use crate::query::MetricsQuery;

/// Series come and go; what discovery says may be this old.
const RELIST: Duration = Duration::from_secs(30);
/// A metric that is asked for and not known is looked for again, but not more often than this.
const LEAST_AGE: Duration = Duration::from_secs(2);
/// Kinds change more seldom.
const KINDS_AGE: Duration = Duration::from_secs(60);

/// Why there is no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CustomMetricsError {
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    BadRequest(String),
    #[error("Internal error occurred: {0}")]
    Internal(String),
}

/// The metrics of a cluster's objects. Cloning shares it.
#[derive(Clone)]
pub struct CustomMetrics {
    inner: Arc<Inner>,
}

struct Inner {
    rules: Rules,
    queries: Arc<dyn MetricsQuery>,
    client: Client,
    pods: Informer<Pod>,
    clock: Arc<dyn Clock>,
    known: RwLock<Arc<Known>>,
    /// When the list was last begun, and when the kinds were; held while one is made.
    listed: tokio::sync::Mutex<Listed>,
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct Listed {
    series_at: Option<Duration>,
    kinds_at: Option<Duration>,
}

/// A value and the object it is of.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MetricValue {
    pub(crate) kind: String,
    pub(crate) api_version: String,
    pub(crate) namespace: Option<String>,
    pub(crate) name: String,
    pub(crate) milli: i64,
}

impl CustomMetrics {
    /// Registers the informer it reads, so it must be made before the operator runs.
    pub fn new(operator: &Operator, rules: Rules, queries: Arc<dyn MetricsQuery>) -> CustomMetrics {
        let inner = Inner {
            rules,
            queries,
            client: operator.client().clone(),
            pods: operator.informer(),
            clock: operator.clock().clone(),
            known: RwLock::default(),
            listed: tokio::sync::Mutex::default(),
            changes: watch::Sender::new(0),
        };
        CustomMetrics { inner: Arc::new(inner) }
    }

    /// Changes when other metrics are known than before.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }

    /// Keeps the list of metrics fresh until `cancel`.
    pub async fn run(&self, cancel: CancellationToken) {
        loop {
            self.inner.relist(Duration::ZERO).await;
            tokio::select! {
                _ = cancel.cancelled() => return,
                _ = tokio::time::sleep(RELIST) => {}
            }
        }
    }

    pub(crate) fn known(&self) -> Arc<Known> {
        self.inner.known.read().clone()
    }

    pub(crate) fn rules(&self) -> &Rules {
        &self.inner.rules
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.inner.clock
    }

    /// What is known after `found` finds nothing in what was known before.
    pub(crate) async fn known_with(&self, found: impl Fn(&Known) -> bool) -> Arc<Known> {
        let known = self.known();
        if found(&known) {
            return known;
        }
        self.inner.relist(LEAST_AGE).await;
        self.known()
    }

    pub(crate) async fn ask(&self, promql: &str) -> Result<Vec<(Labels, f64)>, CustomMetricsError> {
        self.inner.queries.query(promql).await.map_err(|error| {
            CustomMetricsError::Internal(format!("unable to fetch metrics: query {promql:?}: {error}"))
        })
    }

    async fn source(
        &self,
        given: &GroupResource,
        namespaced: bool,
        metric: &str,
    ) -> Result<(Arc<Known>, Metric, Source), CustomMetricsError> {
        let wanted = |known: &Known| {
            let resource = known.kinds.normalised(given)?;
            let metric = Metric { resource, namespaced, name: metric.to_owned() };
            let source = known.metrics.get(&metric)?.clone();
            Some((metric, source))
        };
        let known = self.known_with(|known| wanted(known).is_some()).await;
        match wanted(&known) {
            Some((metric, source)) => Ok((known, metric, source)),
            None => Err(CustomMetricsError::NotFound(format!(
                "the server could not find the metric {metric} for {given}"
            ))),
        }
    }

    /// The metric's values by object name.
    async fn values(
        &self,
        given: &GroupResource,
        namespace: Option<&str>,
        names: &[String],
        metric: &str,
        selector: &Selector,
    ) -> Result<(Arc<Known>, Metric, BTreeMap<String, i64>), CustomMetricsError> {
        let (known, metric, source) = self.source(given, namespace.is_some(), metric).await?;
        let not_found = || {
            CustomMetricsError::NotFound(format!(
                "the server could not find the metric {} for {}",
                metric.name, metric.resource
            ))
        };
        if names.is_empty() {
            return Err(not_found());
        }
        let Some(rule) = self.inner.rules.custom.get(source.rule) else { return Err(not_found()) };
        let wanted = Wanted {
            series: &source.series,
            resource: &metric.resource,
            namespace: namespace.unwrap_or_default(),
            names,
            selector,
            also_group_by: &[],
        };
        let promql = query::of_objects(&rule.query, &rule.labels, &known.kinds, &wanted)
            .map_err(CustomMetricsError::BadRequest)?;
        let label =
            rule.labels.label(&known.kinds, &metric.resource).map_err(CustomMetricsError::Internal)?;
        let results = self.ask(&promql).await?;
        let values = results
            .into_iter()
            .filter_map(|(labels, value)| Some((labels.get(&label)?.to_owned(), in_milli(value))))
            .collect();
        Ok((known, metric, values))
    }

    /// The value of one object; `namespace` is `None` for what has none.
    pub(crate) async fn of_one(
        &self,
        given: &GroupResource,
        namespace: Option<&str>,
        name: &str,
        metric: &str,
        selector: &Selector,
    ) -> Result<MetricValue, CustomMetricsError> {
        let names = [name.to_owned()];
        let (known, metric, values) = self.values(given, namespace, &names, metric, selector).await?;
        let Some(milli) = values.get(name) else {
            return Err(CustomMetricsError::NotFound(format!(
                "the server could not find the metric {} for {} {name}",
                metric.name, metric.resource
            )));
        };
        Ok(described(&known, &metric.resource, namespace, name, *milli))
    }

    /// The values of the objects that `objects` selects.
    pub(crate) async fn of_selected(
        &self,
        given: &GroupResource,
        namespace: Option<&str>,
        objects: &str,
        metric: &str,
        selector: &Selector,
    ) -> Result<Vec<MetricValue>, CustomMetricsError> {
        let (known, _, _) = self.source(given, namespace.is_some(), metric).await?;
        let kind = known.kinds.find(&given.group, &given.resource).cloned();
        let kind = kind.ok_or_else(|| CustomMetricsError::NotFound(format!("no resource {given}")))?;
        let names = self.names(&kind, namespace, objects).await?;
        let (known, metric, values) = self.values(given, namespace, &names, metric, selector).await?;
        let value =
            |name: &String| Some(described(&known, &metric.resource, namespace, name, *values.get(name)?));
        Ok(names.iter().filter_map(value).collect())
    }

    async fn names(
        &self,
        kind: &ServedKind,
        namespace: Option<&str>,
        selector: &str,
    ) -> Result<Vec<String>, CustomMetricsError> {
        if let Some(namespace) = namespace
            && identity(kind) == GroupResource::core("pods")
        {
            let parsed = parse_label_selector(selector)
                .map_err(|error| CustomMetricsError::BadRequest(error.to_string()))?;
            let matches = |pod: &Arc<Pod>| {
                let labels = pod.metadata.labels.as_ref();
                parsed.matches(|key| labels.and_then(|labels| labels.get(key)).map(String::as_str))
            };
            let pods = self.inner.pods.list_in(namespace).into_iter().filter(matches);
            return Ok(pods.filter_map(|pod| pod.metadata.name.clone()).collect());
        }
        let client = self.inner.client.clone();
        let api: Api<DynamicObject> = match namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, &kind.resource),
            None => Api::all_with(client, &kind.resource),
        };
        let list = api.list_metadata(&ListParams::default().labels(selector)).await;
        let list = list.map_err(|error| {
            CustomMetricsError::Internal(format!("unable to list matching {}: {error}", kind.resource.plural))
        })?;
        let name = |object: PartialObjectMeta<DynamicObject>| object.metadata.name;
        Ok(list.items.into_iter().filter_map(name).collect())
    }
}

fn described(
    known: &Known,
    resource: &GroupResource,
    namespace: Option<&str>,
    name: &str,
    milli: i64,
) -> MetricValue {
    let kind = known.kinds.of(resource);
    MetricValue {
        kind: kind.map(|kind| kind.resource.kind.clone()).unwrap_or_default(),
        // As the adapter writes it, with a slash before the core group's version as well.
        api_version: kind
            .map(|kind| format!("{}/{}", kind.resource.group, kind.resource.version))
            .unwrap_or_default(),
        namespace: namespace.map(str::to_owned),
        name: name.to_owned(),
        milli,
    }
}

/// Truncated, and no number is nothing.
pub(crate) fn in_milli(value: f64) -> i64 {
    // The cast saturates, and takes NaN for zero.
    (value * 1000.0) as i64
}

impl Inner {
    /// Lists anew unless that was done less than `age` ago.
    async fn relist(&self, age: Duration) {
        let mut listed = self.listed.lock().await;
        let now = self.clock.monotonic();
        if listed.series_at.is_some_and(|at| now.saturating_sub(at) < age) {
            return;
        }
        listed.series_at = Some(now);
        let before = self.known.read().clone();
        let kinds = if listed.kinds_at.is_none_or(|at| now.saturating_sub(at) >= KINDS_AGE) {
            match served_kinds(&self.client).await {
                Ok(served) => {
                    listed.kinds_at = Some(now);
                    let kinds = Kinds::new(served);
                    for rule in self.rules.custom.iter().chain(&self.rules.external) {
                        for unknown in rule.labels.unknown(&kinds) {
                            tracing::warn!(
                                rule = rule.series_query,
                                label = unknown,
                                "a rule's label is of a kind that the cluster does not serve"
                            );
                        }
                    }
                    kinds
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot ask which kinds there are, for the metrics of their objects");
                    before.kinds.clone()
                }
            }
        } else {
            before.kinds.clone()
        };
        match series::list(&self.rules, kinds, &*self.queries).await {
            Ok(known) => {
                let changed = !known.metrics.keys().eq(before.metrics.keys());
                *self.known.write() = Arc::new(known);
                if changed {
                    self.changes.send_modify(|version| *version += 1);
                }
            }
            Err(error) => tracing::warn!(%error, "cannot list the series that are metrics of objects"),
        }
    }
}

#[async_trait]
impl ObjectMetrics for CustomMetrics {
    async fn of_pods(
        &self,
        namespace: &str,
        pods: &[String],
        metric: &str,
        selector: &str,
    ) -> Result<BTreeMap<String, i64>, String> {
        let unable = |error: String| {
            format!("unable to get metric {metric}: unable to fetch metrics from custom metrics API: {error}")
        };
        let selector = parse_label_selector(selector).map_err(|error| unable(error.to_string()))?;
        let resource = GroupResource::core("pods");
        let found = self.values(&resource, Some(namespace), pods, metric, &selector).await;
        found.map(|(_, _, values)| values).map_err(|error| unable(error.to_string()))
    }

    async fn of_object(
        &self,
        namespace: &str,
        group: &str,
        kind: &str,
        name: &str,
        metric: &str,
        selector: &str,
    ) -> Result<i64, String> {
        let unable =
            |error: String| format!("unable to get metric {metric}: {kind} on {namespace} {name}/{error}");
        let selector = parse_label_selector(selector).map_err(|error| unable(error.to_string()))?;
        let known = self.known_with(|known| known.kinds.by_kind(group, kind).is_some()).await;
        let served = known.kinds.by_kind(group, kind);
        let served = served.ok_or_else(|| unable(format!("no kind {kind} in group {group:?} is served")))?;
        let resource = identity(served);
        // The namespace itself is the object that such a metric describes.
        let (namespace, name) = match resource.is_namespaces() {
            true => (None, namespace),
            false => (Some(namespace).filter(|_| served.namespaced), name),
        };
        let value = self.of_one(&resource, namespace, name, metric, &selector).await;
        value.map(|value| value.milli).map_err(|error| unable(error.to_string()))
    }
}
