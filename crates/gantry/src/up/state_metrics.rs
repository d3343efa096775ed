//! Counts of the objects themselves, under the names kube-state-metrics gives them, read from the shared informers.

use std::sync::Arc;

use gantry_operator::{Informer, Operator};
use gantry_prom_model::{Gather, Labels, Metric, MetricFamily, MetricKind, MetricValue};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

pub(super) struct StateMetrics {
    deployments: Informer<Deployment>,
    pods: Informer<Pod>,
}

impl StateMetrics {
    pub(super) fn new(operator: &Operator) -> StateMetrics {
        StateMetrics { deployments: operator.informer(), pods: operator.informer() }
    }
}

impl Gather for StateMetrics {
    fn gather(&self) -> Vec<MetricFamily> {
        let deployments = self.deployments.list();
        let of_deployments = |count: fn(&Deployment) -> i32| {
            deployments
                .iter()
                .map(|deployment| {
                    let namespace = deployment.namespace().unwrap_or_default();
                    let labels = [("deployment", deployment.name_any()), ("namespace", namespace)];
                    gauge(&labels, f64::from(count(deployment)))
                })
                .collect()
        };
        let restarts = self.pods.list().iter().flat_map(restarts).collect();
        vec![
            family(
                "kube_deployment_spec_replicas",
                "Number of desired pods for a deployment.",
                of_deployments(|deployment| {
                    deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
                }),
            ),
            family(
                "kube_deployment_status_replicas_ready",
                "The number of ready replicas per deployment.",
                of_deployments(|deployment| {
                    deployment.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0)
                }),
            ),
            family(
                "kube_pod_container_status_restarts",
                "The number of container restarts per container.",
                restarts,
            ),
        ]
    }
}

fn restarts(pod: &Arc<Pod>) -> Vec<Metric> {
    let statuses =
        pod.status.as_ref().and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    let of_container = |status: &k8s_openapi::api::core::v1::ContainerStatus| {
        let labels = [
            ("container", status.name.clone()),
            ("namespace", pod.namespace().unwrap_or_default()),
            ("pod", pod.name_any()),
        ];
        gauge(&labels, f64::from(status.restart_count))
    };
    statuses.iter().map(of_container).collect()
}

/// Labels must come sorted by name.
fn gauge(labels: &[(&str, String)], value: f64) -> Metric {
    let labels = Labels::from_pairs(labels.iter().map(|(name, value)| (*name, value.as_str())));
    Metric { labels, value: MetricValue::Gauge(value), timestamp_ms: None }
}

fn family(name: &str, help: &str, metrics: Vec<Metric>) -> MetricFamily {
    MetricFamily {
        name: Arc::from(name),
        help: Arc::from(help),
        unit: Arc::from(""),
        kind: MetricKind::Gauge,
        metrics,
    }
}
