//! `external.metrics.k8s.io/v1beta1`: the metrics of ScaledObjects, as plain answers to GET requests.

use std::collections::BTreeMap;
use std::sync::Arc;

use gantry_apimachinery::quantity::format_decimal;
use gantry_apimachinery::time::format_time;
use gantry_clock::Clock;
use serde_json::{Value, json};

use crate::external::ExternalMetrics;
use crate::metrics::Answer;

const GROUP: &str = "external.metrics.k8s.io";
const VERSION: &str = "v1beta1";
/// The one resource that discovery names; the metrics themselves are not listed.
const RESOURCE: (&str, &str) = ("externalmetrics", "ExternalMetricValueList");

/// Serves the group from whoever knows external metrics.
#[derive(Clone)]
pub struct ExternalMetricsApi {
    metrics: Arc<dyn ExternalMetrics>,
    clock: Arc<dyn Clock>,
}

impl ExternalMetricsApi {
    pub const GROUP: &'static str = GROUP;
    pub const VERSION: &'static str = VERSION;
    pub const RESOURCE: (&'static str, &'static str) = RESOURCE;

    pub fn new(metrics: Arc<dyn ExternalMetrics>, clock: Arc<dyn Clock>) -> ExternalMetricsApi {
        ExternalMetricsApi { metrics, clock }
    }

    /// Answers `GET path?query`, where `path` follows `/apis/external.metrics.k8s.io/v1beta1`.
    pub async fn get(&self, path: &str, query: &str) -> Answer {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        match parts.as_slice() {
            [] => Answer { status: 200, body: resource_list() },
            ["namespaces", namespace, metric] => self.values(namespace, &decode(metric), query).await,
            _ => failure(404, "NotFound", "the server could not find the requested resource"),
        }
    }

    async fn values(&self, namespace: &str, metric: &str, query: &str) -> Answer {
        let selector = query
            .split('&')
            .find_map(|pair| pair.strip_prefix("labelSelector="))
            .map(decode)
            .unwrap_or_default();
        let mut labels = BTreeMap::new();
        for part in selector.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let pair = part.split_once("==").or_else(|| part.split_once('='));
            let Some((name, value)) = pair.filter(|(name, _)| !name.ends_with('!')) else {
                return failure(
                    400,
                    "BadRequest",
                    &format!("label selector {selector:?}: only name=value is understood"),
                );
            };
            labels.insert(name.trim().to_owned(), value.trim().to_owned());
        }
        match self.metrics.external(namespace, metric, &labels).await {
            Some(Ok(values)) => {
                let now = format_time(self.clock.now_ms());
                let item = |milli: &i64| json!({"metricName": metric, "metricLabels": null, "timestamp": now, "value": format_decimal(*milli, -3)});
                let body = json!({
                    "kind": "ExternalMetricValueList", "apiVersion": format!("{GROUP}/{VERSION}"), "metadata": {},
                    "items": values.iter().map(item).collect::<Vec<_>>(),
                });
                Answer { status: 200, body }
            }
            Some(Err(error)) => failure(500, "InternalError", &error),
            None => failure(
                400,
                "BadRequest",
                "scaledObject name is not specified: the label selector must hold scaledobject.keda.sh/name",
            ),
        }
    }
}

fn resource_list() -> Value {
    let (name, kind) = RESOURCE;
    json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": format!("{GROUP}/{VERSION}"),
        "resources": [{"name": name, "singularName": "", "namespaced": true, "kind": kind, "verbs": ["get"]}],
    })
}

fn failure(status: u16, reason: &str, message: &str) -> Answer {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": status,
    });
    Answer { status, body }
}

fn decode(text: &str) -> String {
    crate::metrics::decode(text)
}
