//! `custom.metrics.k8s.io` in both its versions, as plain answers to GET requests.

use gantry_apimachinery::quantity::format_decimal;
use gantry_apimachinery::selector::{Op, Selector, parse_label_selector};
use gantry_apimachinery::time::format_time;
use serde_json::{Value, json};

use super::kinds::GroupResource;
use super::provider::{CustomMetrics, CustomMetricsError, MetricValue};
use crate::metrics::{Answer, decode};

const GROUP: &str = "custom.metrics.k8s.io";
/// The preferred one first.
pub const CUSTOM_METRICS_VERSIONS: [&str; 2] = ["v1beta2", "v1beta1"];
const KIND: &str = "MetricValueList";

/// One version of the group.
#[derive(Clone)]
pub struct CustomMetricsApi {
    metrics: CustomMetrics,
    version: &'static str,
}

/// What a request's query says.
#[derive(Default)]
struct Asked {
    objects: String,
    metric: String,
}

impl CustomMetricsApi {
    pub const GROUP: &'static str = GROUP;
    pub const KIND: &'static str = KIND;

    /// `version` is one of [`CUSTOM_METRICS_VERSIONS`].
    pub fn new(metrics: CustomMetrics, version: &'static str) -> CustomMetricsApi {
        CustomMetricsApi { metrics, version }
    }

    pub fn version(&self) -> &'static str {
        self.version
    }

    /// `pods/http_requests` and whether it is namespaced, for all metrics that are known.
    pub fn resources(&self) -> Vec<(String, bool)> {
        let known = self.metrics.known();
        known.metrics.keys().map(|m| (format!("{}/{}", m.resource, m.name), m.namespaced)).collect()
    }

    /// Answers `GET path?query`, where `path` follows `/apis/custom.metrics.k8s.io/VERSION`.
    pub async fn get(&self, path: &str, query: &str) -> Answer {
        let parts: Vec<String> = path.split('/').filter(|part| !part.is_empty()).map(decode).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let asked = Asked::of(query);
        match parts.as_slice() {
            [] => Answer { status: 200, body: self.resource_list() },
            ["namespaces", namespace, "metrics", metric] => {
                self.values(GroupResource::core("namespaces"), None, namespace, metric, &asked).await
            }
            ["namespaces", namespace, resource, name, metric] => {
                self.values(GroupResource::parse(resource), Some(namespace), name, metric, &asked).await
            }
            [resource, name, metric] => {
                self.values(GroupResource::parse(resource), None, name, metric, &asked).await
            }
            _ => failure(404, "NotFound", "the server could not find the requested resource"),
        }
    }

    async fn values(
        &self,
        resource: GroupResource,
        namespace: Option<&str>,
        name: &str,
        metric: &str,
        asked: &Asked,
    ) -> Answer {
        let selector = match parse_label_selector(&asked.metric) {
            Ok(selector) => selector,
            Err(error) => return failure(400, "BadRequest", &error.to_string()),
        };
        let found = match name {
            "*" => self.metrics.of_selected(&resource, namespace, &asked.objects, metric, &selector).await,
            name => {
                let one = self.metrics.of_one(&resource, namespace, name, metric, &selector).await;
                one.map(|value| vec![value])
            }
        };
        match found {
            Ok(values) => {
                let now = format_time(self.metrics.clock().now_ms());
                let items: Vec<Value> =
                    values.iter().map(|value| self.item(value, metric, &selector, &now)).collect();
                let body = json!({
                    "kind": KIND, "apiVersion": format!("{GROUP}/{}", self.version), "metadata": {}, "items": items,
                });
                Answer { status: 200, body }
            }
            Err(error) => {
                let (status, reason) = match error {
                    CustomMetricsError::NotFound(_) => (404, "NotFound"),
                    CustomMetricsError::BadRequest(_) => (400, "BadRequest"),
                    CustomMetricsError::Internal(_) => (500, "InternalError"),
                };
                failure(status, reason, &error.to_string())
            }
        }
    }

    fn item(&self, value: &MetricValue, metric: &str, selector: &Selector, now: &str) -> Value {
        let mut object = json!({"kind": value.kind});
        if let Some(namespace) = &value.namespace {
            object["namespace"] = json!(namespace);
        }
        object["name"] = json!(value.name);
        object["apiVersion"] = json!(value.api_version);
        let selector = selector_object(selector);
        let amount = format_decimal(value.milli, -3);
        match self.version {
            "v1beta1" => json!({
                "describedObject": object, "metricName": metric, "timestamp": now, "value": amount,
                "selector": selector,
            }),
            _ => json!({
                "describedObject": object, "metric": {"name": metric, "selector": selector},
                "timestamp": now, "value": amount,
            }),
        }
    }

    fn resource_list(&self) -> Value {
        let resource = |(name, namespaced): (String, bool)| json!({"name": name, "singularName": "", "namespaced": namespaced, "kind": KIND, "verbs": ["get"]});
        json!({
            "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": format!("{GROUP}/{}", self.version),
            "resources": self.resources().into_iter().map(resource).collect::<Vec<_>>(),
        })
    }
}

impl Asked {
    fn of(query: &str) -> Asked {
        let mut asked = Asked::default();
        for pair in query.split('&') {
            match pair.split_once('=') {
                Some(("labelSelector", text)) => asked.objects = decode(text),
                Some(("metricLabelSelector", text)) => asked.metric = decode(text),
                _ => {}
            }
        }
        asked
    }
}

/// A selector as an object; null for none.
fn selector_object(selector: &Selector) -> Value {
    if selector.requirements.is_empty() {
        return Value::Null;
    }
    let mut labels = serde_json::Map::new();
    let mut expressions = Vec::new();
    for requirement in &selector.requirements {
        let operator = match requirement.op {
            Op::Equals => {
                let value = requirement.values.first().map(|value| value.as_str()).unwrap_or_default();
                labels.insert(requirement.key.to_string(), json!(value));
                continue;
            }
            Op::NotEquals | Op::NotIn => "NotIn",
            Op::In => "In",
            Op::Exists => "Exists",
            Op::Absent => "DoesNotExist",
            Op::Greater => "Gt",
            Op::Less => "Lt",
        };
        let values: Vec<&str> = requirement.values.iter().map(|value| value.as_str()).collect();
        let mut expression = json!({"key": requirement.key.as_str(), "operator": operator});
        if !values.is_empty() {
            expression["values"] = json!(values);
        }
        expressions.push(expression);
    }
    let mut object = json!({});
    if !labels.is_empty() {
        object["matchLabels"] = Value::Object(labels);
    }
    if !expressions.is_empty() {
        object["matchExpressions"] = json!(expressions);
    }
    object
}

fn failure(status: u16, reason: &str, message: &str) -> Answer {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": status,
    });
    Answer { status, body }
}
