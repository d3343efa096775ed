//! From the node's readings to replicas: usage into the metrics API, decisions out to whoever shows them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use gantry_apiserver::{AggregatedApi, Resource, ResponseBody, UserInfo, Verbs};
use gantry_autoscaler::keda::Keda;
use gantry_autoscaler::{
    Autoscaler, ContainerPoint, Cumulative, Decision, Decisions, ExternalMetrics, GROUP, MetricsApi,
    MetricsStore, PodPoint, RESOURCES, ResourceMetrics, StoreSettings, UsagePoint, VERSION,
};
use gantry_node::{Node, Usage, UsageSnapshot};
use gantry_operator::Operator;
use http::{Method, Request, Response, header};
use tokio_util::sync::CancellationToken;

use super::custom_metrics::CustomMetricsPart;
use super::metrics::Metrics;

/// Upstream syncs every 15 seconds; here someone watches.
const SYNC: Duration = Duration::from_secs(1);
/// Readings come once a second; a decision follows each.
const ON_PUSH: Duration = Duration::from_millis(200);
/// Long enough to smooth the scheduler's jitter, short enough to follow a step of load.
const RATE_WINDOW_MS: i64 = 1_500;
/// Readings come once a second, so a young container has a rate as soon as there are two.
const FRESH_FROM_MS: i64 = 1_000;

pub(super) struct Scaling {
    autoscaler: Autoscaler,
    store: Arc<MetricsStore>,
    usage: Arc<dyn ResourceMetrics>,
    node: Node,
}

impl Scaling {
    /// Must be made before the operator runs. Gives the metrics API as well, for the API server to serve.
    pub(super) fn new(
        operator: &Operator,
        node: Node,
        metrics: Metrics,
        objects: &CustomMetricsPart,
        keda: &Keda,
        external: Arc<dyn ExternalMetrics>,
        decisions: Decisions,
    ) -> (Scaling, Arc<dyn AggregatedApi>) {
        let settings = StoreSettings {
            least_window_ms: RATE_WINDOW_MS,
            fresh_from_ms: FRESH_FROM_MS,
            resolution_ms: RATE_WINDOW_MS,
        };
        let store = Arc::new(MetricsStore::new(settings));
        let config = gantry_autoscaler::Config {
            sync_period: SYNC,
            on_push: Some(ON_PUSH),
            ..gantry_autoscaler::Config::default()
        };
        let usage: Arc<dyn ResourceMetrics> = objects.usage().unwrap_or_else(|| store.clone());
        let autoscaler = Autoscaler::with_external(
            config,
            operator,
            usage.clone(),
            Some(Arc::new(metrics)),
            Some(external),
            decisions,
        );
        autoscaler.read_objects_from(objects.source());
        keda.wakes(autoscaler.trigger());
        let api = Arc::new(ServedMetrics(MetricsApi::new(operator, usage.clone())));
        (Scaling { autoscaler, store, usage, node }, api)
    }

    /// What pods and nodes use.
    pub(super) fn usage(&self) -> Arc<dyn ResourceMetrics> {
        self.usage.clone()
    }

    /// Feeds readings and computes until `cancel`.
    pub(super) async fn run(self, cancel: CancellationToken) {
        let computing = tokio::spawn({
            let (autoscaler, cancel) = (self.autoscaler.clone(), cancel.clone());
            async move { autoscaler.run(cancel).await }
        });
        let mut readings = self.node.watch_usage();
        while let Some(Ok(())) = cancel.run_until_cancelled(readings.changed()).await {
            let snapshot = readings.borrow_and_update().clone();
            self.store.push(usage_point(self.node.name(), &snapshot));
        }
        if computing.await.is_err() {
            tracing::error!("the autoscaler ended with a panic");
        }
    }
}

fn usage_point(node: &str, snapshot: &UsageSnapshot) -> UsagePoint {
    let cumulative =
        |usage: Usage| Cumulative { cpu_ns: usage.cpu_ns, memory_bytes: usage.working_set_bytes };
    let pods = snapshot.pods.iter().map(|pod| PodPoint {
        namespace: pod.pod.namespace.clone(),
        name: pod.pod.name.clone(),
        containers: pod
            .containers
            .iter()
            .map(|container| ContainerPoint {
                name: container.name.clone(),
                started_ms: container.started_at.as_millisecond(),
                usage: cumulative(container.usage),
            })
            .collect(),
    });
    UsagePoint {
        at_ms: snapshot.at.as_millisecond(),
        node: node.to_owned(),
        node_usage: cumulative(snapshot.node),
        pods: pods.collect(),
    }
}

/// `deployment/NAME` and one line that says why.
pub(super) fn in_words(decision: &Decision) -> (String, String) {
    let mut reason = decision.reason.clone();
    if !decision.metric.is_empty() {
        reason = format!("{} is {}, wanted {}; {reason}", decision.metric, decision.value, decision.wanted);
    }
    if let Some(policy) = &decision.policy {
        reason.push_str(&format!(" ({policy})"));
    }
    (decision.target.to_lowercase(), reason)
}

/// metrics.k8s.io behind the API server's door for aggregated groups.
struct ServedMetrics(MetricsApi);

#[async_trait]
impl AggregatedApi for ServedMetrics {
    fn resources(&self) -> Vec<Arc<Resource>> {
        let resource = |served: &gantry_autoscaler::ServedResource| {
            Arc::new(Resource {
                group: GROUP.into(),
                version: VERSION.into(),
                plural: served.plural.into(),
                singular: "".into(),
                kind: served.kind.into(),
                list_kind: format!("{}List", served.kind).into(),
                namespaced: served.namespaced,
                verbs: Verbs::default().and(served.verbs),
                short_names: Vec::new(),
                categories: Vec::new(),
                subresources: Vec::new(),
                collection: "".into(),
                stored_version: "".into(),
                custom: None,
            })
        };
        RESOURCES.iter().map(resource).collect()
    }

    async fn handle(&self, request: Request<Bytes>) -> Response<ResponseBody> {
        let _caller = request.extensions().get::<UserInfo>();
        if request.method() != Method::GET {
            let text = "metrics are read with GET";
            return gantry_apiserver::json_bytes(
                405,
                format!(
                    "{{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"status\":\"Failure\",\"message\":\"{text}\",\"reason\":\"MethodNotAllowed\",\"code\":405}}"
                ),
            );
        }
        let prefix = format!("/apis/{GROUP}/{VERSION}");
        let uri = request.uri();
        let path = uri.path().strip_prefix(&prefix).unwrap_or_default();
        let accept =
            request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let answer = self.0.get(path, uri.query().unwrap_or_default(), accept);
        gantry_apiserver::json_bytes(answer.status, answer.body.to_string())
    }
}
