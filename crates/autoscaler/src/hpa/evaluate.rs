//! Computes one metric of an autoscaler: reads it, calculates replicas, and says what the status shows.

use std::collections::BTreeMap;
use std::sync::Arc;

use gantry_apimachinery::quantity::{format_decimal, milli};
use gantry_prom_model::Labels;
use k8s_openapi::api::autoscaling::v2::{
    ContainerResourceMetricStatus, ExternalMetricStatus, MetricIdentifier, MetricSpec, MetricStatus,
    MetricTarget, MetricValueStatus, ObjectMetricStatus, PodsMetricStatus, ResourceMetricStatus,
};
use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::calculator::{
    self, CalculationError, Patience, PodFacts, PodPhase, Proposal, Reading, Readings, Tolerance,
};
use super::decide::{Asked, Failed};
use super::target;
use crate::custom::ObjectMetrics;
use crate::external::ExternalMetrics;
use crate::metrics::{PodMetrics, ResourceMetrics};
use crate::query::MetricsQuery;

/// Annotation prefix that gives a metric its PromQL: `gantry.dev/query.<metric name>`.
pub const QUERY_ANNOTATION: &str = "gantry.dev/query.";

/// What all metrics of one reconciliation look at.
pub struct Scene<'a> {
    pub namespace: &'a str,
    pub annotations: &'a BTreeMap<String, String>,
    pub spec_replicas: i32,
    pub status_replicas: i32,
    pub pods: &'a [Arc<Pod>],
    pub facts: &'a [PodFacts],
    pub tolerance: Tolerance,
    pub patience: Patience,
    pub now_ms: i64,
    pub resources: &'a dyn ResourceMetrics,
    pub queries: Option<&'a dyn MetricsQuery>,
    pub external: Option<&'a dyn ExternalMetrics>,
    pub objects: Option<&'a dyn ObjectMetrics>,
}

/// What a pod's object says that matters here.
pub fn pod_facts(pod: &Pod) -> PodFacts {
    let status = pod.status.as_ref();
    let ready = status.and_then(|s| s.conditions.iter().flatten().find(|c| c.type_ == "Ready")).map(|c| {
        let changed = c.last_transition_time.as_ref().map_or(0, |t| t.0.as_millisecond());
        (c.status == "True", changed)
    });
    PodFacts {
        name: pod.metadata.name.clone().unwrap_or_default(),
        phase: match status.and_then(|s| s.phase.as_deref()) {
            Some("Pending") | None => PodPhase::Pending,
            Some("Running") => PodPhase::Running,
            Some("Failed" | "Succeeded") => PodPhase::Terminal,
            Some(_) => PodPhase::Unknown,
        },
        deleted: pod.metadata.deletion_timestamp.is_some(),
        start_ms: status.and_then(|s| s.start_time.as_ref()).map(|t| t.0.as_millisecond()),
        ready,
    }
}

/// The request of each pod, in thousandths: the pod's own, else the sum of its containers (or that of one).
pub fn requests(
    pods: &[Arc<Pod>],
    resource: &str,
    container: Option<&str>,
) -> Result<BTreeMap<String, i64>, CalculationError> {
    let mut requests = BTreeMap::new();
    for pod in pods {
        let name = pod.metadata.name.clone().unwrap_or_default();
        let Some(spec) = &pod.spec else { continue };
        let amount = |of: Option<&BTreeMap<String, Quantity>>| of?.get(resource).and_then(|q| milli(&q.0));
        let pod_level = amount(spec.resources.as_ref().and_then(|r| r.requests.as_ref()));
        if let (Some(request), None) = (pod_level, container) {
            requests.insert(name, request);
            continue;
        }
        let is_sidecar = |c: &&Container| c.restart_policy.as_deref() == Some("Always");
        let init = spec.init_containers.iter().flatten().filter(is_sidecar);
        let mut sum = 0i64;
        for c in
            spec.containers.iter().chain(init).filter(|c| container.is_none_or(|wanted| c.name == wanted))
        {
            let request = amount(c.resources.as_ref().and_then(|r| r.requests.as_ref()));
            let request = request.ok_or_else(|| CalculationError::MissingRequest {
                resource: resource.into(),
                container: c.name.clone(),
                pod: name.clone(),
            })?;
            sum = sum.saturating_add(request);
        }
        requests.insert(name, sum);
    }
    Ok(requests)
}

/// What pods use of a resource, in thousandths; of one container where one is named.
pub fn readings(
    metrics: &[Arc<PodMetrics>],
    resource: &str,
    container: Option<&str>,
) -> Result<Readings, String> {
    let mut readings = Readings::new();
    for pod in metrics {
        let usage = match container {
            None => pod.containers.values().map(|u| amount(u, resource)).sum::<Option<i64>>(),
            Some(wanted) => match pod.containers.get(wanted) {
                Some(usage) => amount(usage, resource),
                None => {
                    return Err(format!(
                        "container {wanted} not present in metrics for pod {}/{}",
                        pod.namespace, pod.name
                    ));
                }
            },
        };
        let Some(value) = usage else { return Err(format!("no readings of resource {resource}")) };
        let reading = Reading { value, at_ms: pod.at_ms, window_ms: pod.window_ms };
        readings.insert(pod.name.clone(), reading);
    }
    if readings.is_empty() {
        return Err(format!(
            "unable to get metrics for resource {resource}: no metrics returned from resource metrics API"
        ));
    }
    Ok(readings)
}

impl Scene<'_> {
    /// The metric's proposal and status; an error carries the condition's reason.
    pub async fn evaluate(&self, metric: &MetricSpec) -> Result<(Asked, MetricStatus), Failed> {
        match metric.type_.as_str() {
            "Resource" => {
                let source = metric.resource.as_ref().ok_or_else(|| invalid(metric))?;
                let (asked, current) = self.resource(&source.name, None, &source.target)?;
                let status = ResourceMetricStatus { name: source.name.clone(), current };
                Ok((asked, MetricStatus { resource: Some(status), ..status_of("Resource") }))
            }
            "ContainerResource" => {
                let source = metric.container_resource.as_ref().ok_or_else(|| invalid(metric))?;
                let (asked, current) =
                    self.resource(&source.name, Some(&source.container), &source.target)?;
                let status = ContainerResourceMetricStatus {
                    name: source.name.clone(),
                    container: source.container.clone(),
                    current,
                };
                Ok((
                    asked,
                    MetricStatus { container_resource: Some(status), ..status_of("ContainerResource") },
                ))
            }
            "Pods" => {
                let source = metric.pods.as_ref().ok_or_else(|| invalid(metric))?;
                let (asked, current) = self.pods_metric(&source.metric, &source.target).await?;
                let status = PodsMetricStatus { metric: source.metric.clone(), current };
                Ok((asked, MetricStatus { pods: Some(status), ..status_of("Pods") }))
            }
            "Object" => {
                let source = metric.object.as_ref().ok_or_else(|| invalid(metric))?;
                let object = &source.described_object;
                let title = format!("{} metric {}", object.kind, source.metric.name);
                let what = What {
                    reason: "FailedGetObjectMetric",
                    kind: "object",
                    name: &source.metric.name,
                    title,
                };
                let usage = match self.objects.filter(|_| !self.has_query(&source.metric.name)) {
                    Some(objects) => {
                        let group = object.api_version.as_deref().unwrap_or_default();
                        let group = group.split_once('/').map_or("", |(group, _)| group);
                        let (kind, name) = (&object.kind, &object.name);
                        let selector = selector_query(&source.metric);
                        objects
                            .of_object(self.namespace, group, kind, name, &source.metric.name, &selector)
                            .await
                            .map_err(|error| what.failed(error))?
                    }
                    None => self.query_total(&what).await?,
                };
                let (asked, current) = self.total_metric(what, &source.target, usage)?;
                let status = ObjectMetricStatus {
                    metric: source.metric.clone(),
                    described_object: object.clone(),
                    current,
                };
                Ok((asked, MetricStatus { object: Some(status), ..status_of("Object") }))
            }
            "External" => {
                let source = metric.external.as_ref().ok_or_else(|| invalid(metric))?;
                let selector =
                    source.metric.selector.as_ref().map_or_else(|| "nil".to_string(), selector_text);
                let title = format!("external metric {}({selector})", source.metric.name);
                let what = What {
                    reason: "FailedGetExternalMetric",
                    kind: "external",
                    name: &source.metric.name,
                    title,
                };
                let usage = match self.known_external(&source.metric).await {
                    Some(known) => known.map_err(|error| what.failed(error))?,
                    None => self.query_total(&what).await?,
                };
                let (asked, current) = self.total_metric(what, &source.target, usage)?;
                let status = ExternalMetricStatus { metric: source.metric.clone(), current };
                Ok((asked, MetricStatus { external: Some(status), ..status_of("External") }))
            }
            _ => Err(invalid(metric)),
        }
    }

    fn resource(
        &self,
        name: &str,
        container: Option<&str>,
        target: &MetricTarget,
    ) -> Result<(Asked, MetricValueStatus), Failed> {
        let reason = match container {
            Some(_) => "FailedGetContainerResourceMetric",
            None => "FailedGetResourceMetric",
        };
        let failed = |what: &str, error: String| Failed {
            reason,
            message: format!("failed to get {name} {what}: {error}"),
        };
        let is_cpu = name == "cpu";
        let kind = if container.is_some() { "container resource" } else { "resource" };
        if let Some(average) = &target.average_value {
            let readings = self.readings(name, container).map_err(|e| failed("usage", e))?;
            let wanted = quantity(average)
                .ok_or_else(|| failed("target", format!("{:?} is not a quantity", average.0)))?;
            let proposal = calculator::average_replicas(
                self.spec_replicas,
                wanted,
                readings,
                self.facts,
                is_cpu,
                self.tolerance,
                self.patience,
                self.now_ms,
            )
            .map_err(|e| failed("usage", e.to_string()))?;
            let current =
                MetricValueStatus { average_value: Some(shown(name, proposal.usage)), ..Default::default() };
            let asked = Asked {
                replicas: proposal.replicas,
                metric: format!("{name} {kind}"),
                value: shown(name, proposal.usage).0,
                wanted: average.0.clone(),
            };
            return Ok((asked, current));
        }
        let Some(wanted) = target.average_utilization else {
            let message = format!(
                "invalid {kind} metric source: neither an average utilization target nor an average value (usage) target was set"
            );
            return Err(Failed { reason, message });
        };
        let readings = self.readings(name, container).map_err(|e| failed("utilization", e))?;
        let requests =
            requests(self.pods, name, container).map_err(|e| failed("utilization", e.to_string()))?;
        let proposal = calculator::utilization_replicas(
            self.spec_replicas,
            wanted,
            readings,
            &requests,
            self.facts,
            is_cpu,
            self.tolerance,
            self.patience,
            self.now_ms,
        )
        .map_err(|e| failed("utilization", e.to_string()))?;
        let current = MetricValueStatus {
            average_utilization: proposal.utilization,
            average_value: Some(shown(name, proposal.usage)),
            value: None,
        };
        let asked = Asked {
            replicas: proposal.replicas,
            metric: format!("{name} {kind} utilization (percentage of request)"),
            value: format!("{}%", proposal.utilization.unwrap_or(0)),
            wanted: format!("{wanted}%"),
        };
        Ok((asked, current))
    }

    fn readings(&self, resource: &str, container: Option<&str>) -> Result<Readings, String> {
        let of_target = |m: &Arc<PodMetrics>| self.facts.iter().any(|p| p.name == m.name);
        let metrics: Vec<_> =
            self.resources.pods(Some(self.namespace)).into_iter().filter(of_target).collect();
        readings(&metrics, resource, container)
    }

    async fn pods_metric(
        &self,
        metric: &MetricIdentifier,
        target: &MetricTarget,
    ) -> Result<(Asked, MetricValueStatus), Failed> {
        let name = &metric.name;
        let failed = |error: String| Failed {
            reason: "FailedGetPodsMetric",
            message: format!("failed to get pods metric value: {error}"),
        };
        let wanted_text = target.average_value.as_ref();
        let wanted =
            wanted_text.and_then(quantity).ok_or_else(|| failed("averageValue is missing".into()))?;
        let readings = match self.objects.filter(|_| !self.has_query(name)) {
            Some(objects) => {
                let pods: Vec<String> = self.facts.iter().map(|pod| pod.name.clone()).collect();
                let selector = selector_query(metric);
                let values = objects.of_pods(self.namespace, &pods, name, &selector).await.map_err(failed)?;
                let reading = |value| Reading { value, at_ms: self.now_ms, window_ms: 0 };
                values.into_iter().map(|(pod, value)| (pod, reading(value))).collect()
            }
            None => self.queried_readings(name).await.map_err(failed)?,
        };
        let proposal = calculator::average_replicas(
            self.spec_replicas,
            wanted,
            readings,
            self.facts,
            false,
            self.tolerance,
            self.patience,
            self.now_ms,
        )
        .map_err(|e| failed(e.to_string()))?;
        let average = Quantity(format_decimal(proposal.usage, -3));
        let asked = Asked {
            replicas: proposal.replicas,
            metric: format!("pods metric {name}"),
            value: average.0.clone(),
            wanted: wanted_text.map(|q| q.0.clone()).unwrap_or_default(),
        };
        Ok((asked, MetricValueStatus { average_value: Some(average), ..Default::default() }))
    }

    /// What the metric's query gives for each of the pods.
    async fn queried_readings(&self, name: &str) -> Result<Readings, String> {
        let mut readings = Readings::new();
        for (labels, value) in self.query("pods", name).await? {
            let Some(pod) = labels.get("pod") else {
                return Err(format!("the query of metric {name:?} must keep the label `pod`"));
            };
            if self.facts.iter().any(|p| p.name == pod) {
                let reading = Reading { value: in_milli(value)?, at_ms: self.now_ms, window_ms: 0 };
                readings.insert(pod.to_string(), reading);
            }
        }
        Ok(readings)
    }

    /// Whether an annotation says how the metric is asked for.
    fn has_query(&self, metric: &str) -> bool {
        self.annotations.contains_key(&format!("{QUERY_ANNOTATION}{metric}"))
    }

    /// The sum of an external metric whose source is known by name, in thousandths.
    async fn known_external(&self, metric: &MetricIdentifier) -> Option<Result<i64, String>> {
        let labels =
            metric.selector.as_ref().and_then(|selector| selector.match_labels.clone()).unwrap_or_default();
        let values = self.external?.external(self.namespace, &metric.name, &labels).await?;
        Some(values.and_then(|values| external_total(metric, &values)))
    }

    /// The sum of what the metric's query returns, in thousandths.
    async fn query_total(&self, what: &What<'_>) -> Result<i64, Failed> {
        let failed = |error: String| what.failed(error);
        let series = self.query(what.kind, what.name).await.map_err(failed)?;
        if series.is_empty() {
            return Err(failed("the query returned no series".into()));
        }
        let mut usage = 0i64;
        for (_, value) in series {
            usage = usage.saturating_add(in_milli(value).map_err(failed)?);
        }
        Ok(usage)
    }

    fn total_metric(
        &self,
        what: What<'_>,
        target: &MetricTarget,
        usage: i64,
    ) -> Result<(Asked, MetricValueStatus), Failed> {
        let failed = |error: String| what.failed(error);
        let wrong_target =
            || what.failed("neither a value target nor an average value target was set".into());
        let (proposal, average, wanted): (Proposal, bool, &Quantity) =
            match (&target.average_value, &target.value) {
                (Some(wanted), _) => {
                    let amount = quantity(wanted).ok_or_else(wrong_target)?;
                    let proposal = calculator::value_per_pod_replicas(
                        self.status_replicas,
                        amount,
                        usage,
                        self.tolerance,
                    );
                    (proposal.map_err(|e| failed(e.to_string()))?, true, wanted)
                }
                (None, Some(wanted)) => {
                    let amount = quantity(wanted).ok_or_else(wrong_target)?;
                    let proposal = calculator::value_replicas(
                        self.spec_replicas,
                        amount,
                        usage,
                        self.facts,
                        self.tolerance,
                    );
                    (proposal.map_err(|e| failed(e.to_string()))?, false, wanted)
                }
                (None, None) => return Err(wrong_target()),
            };
        let shown = Quantity(format_decimal(proposal.usage, -3));
        let asked = Asked {
            replicas: proposal.replicas,
            metric: what.title,
            value: shown.0.clone(),
            wanted: wanted.0.clone(),
        };
        let mut current = MetricValueStatus::default();
        *(if average { &mut current.average_value } else { &mut current.value }) = Some(shown);
        Ok((asked, current))
    }

    async fn query(&self, kind: &str, metric: &str) -> Result<Vec<(Labels, f64)>, String> {
        let annotation = format!("{QUERY_ANNOTATION}{metric}");
        let promql = self.annotations.get(&annotation).ok_or_else(|| {
            format!("{kind} metric {metric:?} has no query: annotate the HorizontalPodAutoscaler with {annotation}: <PromQL>")
        })?;
        let queries = self.queries.ok_or("there is no metric store to ask")?;
        queries.query(promql).await.map_err(|e| format!("query {promql:?}: {e}"))
    }
}

struct What<'a> {
    reason: &'static str,
    kind: &'static str,
    name: &'a str,
    title: String,
}

impl What<'_> {
    fn failed(&self, error: String) -> Failed {
        Failed {
            reason: self.reason,
            message: format!("failed to get {} {} metric value: {error}", self.name, self.kind),
        }
    }
}

fn status_of(kind: &str) -> MetricStatus {
    MetricStatus { type_: kind.into(), ..MetricStatus::default() }
}

fn invalid(metric: &MetricSpec) -> Failed {
    let message = format!("unknown metric source type {:?} or its part of the spec is missing", metric.type_);
    Failed { reason: "InvalidMetricSourceType", message }
}

fn quantity(quantity: &Quantity) -> Option<i64> {
    milli(&quantity.0)
}

fn amount(usage: &crate::metrics::Use, resource: &str) -> Option<i64> {
    let whole = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    match resource {
        // Rounded up, as a quantity in thousandths is.
        "cpu" => Some(whole(usage.cpu_nano.div_ceil(1_000_000))),
        "memory" => Some(whole(usage.memory_bytes).saturating_mul(1000)),
        _ => None,
    }
}

/// A resource's average as the status shows it.
fn shown(resource: &str, milli: i64) -> Quantity {
    match resource {
        "memory" => Quantity(gantry_apimachinery::quantity::format_binary(milli / 1000)),
        _ => Quantity(format_decimal(milli, -3)),
    }
}

fn in_milli(value: f64) -> Result<i64, String> {
    if !value.is_finite() {
        return Err(format!("the query gave {value}, which is no amount"));
    }
    // The cast saturates.
    Ok((value * 1000.0).round() as i64)
}

/// The sum of what a source says. No value is no zero: the target would go to its minimum because a source is silent.
fn external_total(metric: &MetricIdentifier, values: &[i64]) -> Result<i64, String> {
    let expressions = metric.selector.as_ref().and_then(|selector| selector.match_expressions.as_ref());
    if expressions.is_some_and(|expressions| !expressions.is_empty()) {
        return Err(
            "matchExpressions of an external metric's selector are not supported; matchLabels are".into()
        );
    }
    if values.is_empty() {
        return Err("no metrics returned from external metrics API".into());
    }
    Ok(values.iter().copied().fold(0i64, i64::saturating_add))
}

fn selector_text(selector: &k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector) -> String {
    let labels = selector.match_labels.iter().flatten().map(|(k, v)| format!("{k}: {v},"));
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{}}},MatchExpressions:[]LabelSelectorRequirement{{}},}}",
        labels.collect::<String>()
    )
}

/// The metric's selector as a request has it.
fn selector_query(metric: &MetricIdentifier) -> String {
    metric.selector.as_ref().map(target::selector_text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_external_source_is_no_zero() {
        let metric = |selector: serde_json::Value| -> MetricIdentifier {
            serde_json::from_value(serde_json::json!({"name": "queue", "selector": selector})).unwrap()
        };
        let plain = metric(serde_json::json!({"matchLabels": {"a": "b"}}));
        assert_eq!(external_total(&plain, &[1500, 500]), Ok(2000));
        assert_eq!(external_total(&plain, &[i64::MAX, 1]), Ok(i64::MAX));
        assert!(external_total(&plain, &[]).unwrap_err().contains("no metrics returned"));
        let expressions =
            metric(serde_json::json!({"matchExpressions": [{"key": "a", "operator": "Exists"}]}));
        assert!(external_total(&expressions, &[1]).unwrap_err().contains("matchExpressions"));
    }
}
