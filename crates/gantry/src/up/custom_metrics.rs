//! Metrics of pods and objects: the store's series as `custom.metrics.k8s.io`, by the project's rules or our own.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use gantry_apimachinery::value::SmolStr;
use gantry_apiserver::{AggregatedApi, ApiServer, Resource, ResponseBody, Verbs};
use gantry_autoscaler::custom::{
    CUSTOM_METRICS_VERSIONS, CustomMetrics, CustomMetricsApi, ObjectMetrics, QueriedResources, Rules,
};
use gantry_autoscaler::keda::Keda;
use gantry_autoscaler::{ExternalMetrics, FirstThatKnows, ResourceMetrics};
use gantry_operator::Operator;
use http::{Method, Request, Response};
use tokio_util::sync::CancellationToken;

use super::Error;
use super::metrics::Metrics;
use super::project::LoadedProject;

const OUR_RULES: &str = include_str!("metric-rules.yaml");
const OUR_RULES_NAME: &str = "metric-rules.yaml";
/// As often as the node's own readings come.
const USAGE_INTERVAL: Duration = Duration::from_secs(1);

/// The metrics, their two API versions, and usage where the rules say how it is asked for.
pub(super) struct CustomMetricsPart {
    metrics: CustomMetrics,
    usage: Option<Arc<QueriedResources>>,
}

/// What the file of rules that `gantry.yaml` names holds now.
pub(super) fn text(project: &LoadedProject) -> Option<String> {
    std::fs::read_to_string(project.folder().join(project.project.metric_rules.as_ref()?)).ok()
}

/// The rules of `gantry.yaml`, or those that make every series with a namespace a metric.
pub(super) fn rules(project: &LoadedProject) -> Result<Rules, Error> {
    let Some(path) = &project.project.metric_rules else {
        return Ok(Rules::parse(OUR_RULES_NAME, OUR_RULES)?);
    };
    let path = project.folder().join(path);
    let text = std::fs::read_to_string(&path)
        .map_err(|error| format!("metricRules: cannot read {}: {error}", path.display()))?;
    Ok(Rules::parse(&path.display().to_string(), &text)?)
}

impl CustomMetricsPart {
    /// Must be made before the operator runs.
    pub(super) fn new(operator: &Operator, rules: Rules, metrics: Metrics) -> CustomMetricsPart {
        let asks_for_usage = rules.has_resources();
        let metrics = CustomMetrics::new(operator, rules, Arc::new(metrics));
        let usage = asks_for_usage.then(|| Arc::new(QueriedResources::new(operator, metrics.clone())));
        CustomMetricsPart { metrics, usage }
    }

    pub(super) fn source(&self) -> Arc<dyn ObjectMetrics> {
        Arc::new(self.metrics.clone())
    }

    /// External metrics: those of ScaledObjects, then those of the rules.
    pub(super) fn external_after(&self, keda: Keda) -> Arc<dyn ExternalMetrics> {
        Arc::new(FirstThatKnows(vec![Arc::new(keda), Arc::new(self.metrics.clone())]))
    }

    /// Usage of pods and nodes, where it is not to be what the node measures.
    pub(super) fn usage(&self) -> Option<Arc<dyn ResourceMetrics>> {
        self.usage.clone().map(|usage| usage as Arc<dyn ResourceMetrics>)
    }

    pub(super) fn serve(&self, server: &ApiServer) {
        for version in CUSTOM_METRICS_VERSIONS {
            server.add_api(Arc::new(Served(CustomMetricsApi::new(self.metrics.clone(), version))));
        }
    }

    /// Follows the store's series until `cancel`.
    pub(super) async fn run(self, server: ApiServer, cancel: CancellationToken) {
        let mut changes = self.metrics.changes();
        let (metrics, until) = (self.metrics.clone(), cancel.clone());
        let mut tasks = vec![tokio::spawn(async move { metrics.run(until).await })];
        if let Some(usage) = self.usage {
            let until = cancel.clone();
            tasks.push(tokio::spawn(async move { usage.run(USAGE_INTERVAL, until).await }));
        }
        while let Some(Ok(())) = cancel.run_until_cancelled(changes.changed()).await {
            server.reload_apis();
        }
        for task in tasks {
            if task.await.is_err() {
                tracing::error!("metrics of objects ended with a panic");
            }
        }
    }
}

/// One version of custom.metrics.k8s.io behind the API server's door for aggregated groups.
struct Served(CustomMetricsApi);

#[async_trait]
impl AggregatedApi for Served {
    fn resources(&self) -> Vec<Arc<Resource>> {
        let (group, version) = (CustomMetricsApi::GROUP, self.0.version());
        let resource = |(plural, namespaced): (String, bool)| {
            Arc::new(Resource {
                group: group.into(),
                version: version.into(),
                plural: plural.into(),
                singular: "".into(),
                kind: CustomMetricsApi::KIND.into(),
                list_kind: CustomMetricsApi::KIND.into(),
                namespaced,
                verbs: Verbs::default().and(&["get"]),
                short_names: Vec::new(),
                categories: Vec::new(),
                subresources: Vec::new(),
                collection: "".into(),
                stored_version: "".into(),
                custom: None,
            })
        };
        self.0.resources().into_iter().map(resource).collect()
    }

    fn group_version(&self) -> Option<(SmolStr, SmolStr)> {
        Some((CustomMetricsApi::GROUP.into(), self.0.version().into()))
    }

    async fn handle(&self, request: Request<Bytes>) -> Response<ResponseBody> {
        if request.method() != Method::GET {
            return gantry_apiserver::failure_response(&gantry_apiserver::Failure {
                code: 405,
                reason: "MethodNotAllowed",
                message: "metrics are read with GET".to_owned(),
                details: None,
            });
        }
        let prefix = format!("/apis/{}/{}", CustomMetricsApi::GROUP, self.0.version());
        let uri = request.uri();
        let path = uri.path().strip_prefix(&prefix).unwrap_or_default();
        let answer = self.0.get(path, uri.query().unwrap_or_default()).await;
        gantry_apiserver::json_bytes(answer.status, answer.body.to_string())
    }
}
