//! `metrics.k8s.io/v1beta1`: what `kubectl top` reads, as plain answers to GET requests.

use std::collections::BTreeMap;
use std::sync::Arc;

use gantry_apimachinery::quantity::{format_binary, format_decimal};
use gantry_apimachinery::selector::{Selector, parse_field_selector, parse_label_selector};
use gantry_apimachinery::time::format_time;
use gantry_operator::{Informer, Key, Operator};
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};

use super::store::{NodeMetrics, PodMetrics, ResourceMetrics, Use};

pub const GROUP: &str = "metrics.k8s.io";
pub const VERSION: &str = "v1beta1";
const API_VERSION: &str = "metrics.k8s.io/v1beta1";

/// A resource of the group, for discovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServedResource {
    pub plural: &'static str,
    pub kind: &'static str,
    pub namespaced: bool,
    pub verbs: &'static [&'static str],
}

pub const RESOURCES: [ServedResource; 2] = [
    ServedResource { plural: "nodes", kind: "NodeMetrics", namespaced: false, verbs: &["get", "list"] },
    ServedResource { plural: "pods", kind: "PodMetrics", namespaced: true, verbs: &["get", "list"] },
];

/// A complete JSON answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub body: Value,
}

/// Serves the group from resource metrics, with the labels of the pods and nodes themselves.
#[derive(Clone)]
pub struct MetricsApi {
    metrics: Arc<dyn ResourceMetrics>,
    pods: Informer<Pod>,
    nodes: Informer<Node>,
}

/// An object of either kind, ready to be selected and shown.
struct Row {
    namespace: Option<String>,
    name: String,
    labels: BTreeMap<String, String>,
    at_ms: i64,
    window_ms: i64,
    total: Use,
    /// For pods.
    containers: Option<Vec<Value>>,
}

impl MetricsApi {
    /// Registers the informers it reads, so it must be made before the operator runs.
    pub fn new(operator: &Operator, metrics: Arc<dyn ResourceMetrics>) -> MetricsApi {
        MetricsApi { metrics, pods: operator.informer(), nodes: operator.informer() }
    }

    /// Answers `GET path?query`, where `path` follows `/apis/metrics.k8s.io/v1beta1`. `accept` is the request's header.
    pub fn get(&self, path: &str, query: &str, accept: &str) -> Answer {
        let as_table = accept.split(',').next().is_some_and(|first| first.contains("as=Table"));
        let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
        let (kind, rows, name) = match parts.as_slice() {
            [] => return resource_list(),
            ["nodes"] => ("NodeMetrics", self.node_rows(), None),
            ["nodes", name] => ("NodeMetrics", self.node_rows(), Some(*name)),
            ["pods"] => ("PodMetrics", self.pod_rows(None), None),
            ["namespaces", namespace, "pods"] => ("PodMetrics", self.pod_rows(Some(namespace)), None),
            ["namespaces", namespace, "pods", name] => {
                ("PodMetrics", self.pod_rows(Some(namespace)), Some(*name))
            }
            _ => return not_found("the server could not find the requested resource", None),
        };
        if let Some(name) = name {
            return match rows.iter().find(|row| row.name == name) {
                Some(row) if as_table => Answer { status: 200, body: table(std::slice::from_ref(row)) },
                Some(row) => Answer { status: 200, body: row.object(Some(kind)) },
                None => {
                    let plural = if kind == "PodMetrics" { "podmetrics" } else { "nodemetrics" };
                    not_found(&format!("{plural}.{GROUP} {name:?} not found"), Some((plural, name)))
                }
            };
        }
        match select(rows, query) {
            Err(message) => failure(400, "BadRequest", &message, None),
            Ok(rows) if as_table => Answer { status: 200, body: table(&rows) },
            Ok(rows) => {
                let items: Vec<Value> = rows.iter().map(|row| row.object(None)).collect();
                let body = json!({
                    "kind": format!("{kind}List"), "apiVersion": API_VERSION, "metadata": {}, "items": items,
                });
                Answer { status: 200, body }
            }
        }
    }

    fn pod_rows(&self, namespace: Option<&str>) -> Vec<Row> {
        // Readings may outlive a pod by one interval; what is gone is not shown.
        let with_pod = |m: Arc<PodMetrics>| {
            let pod = self.pods.get(&Key::new(&m.namespace, &m.name))?;
            Some(pod_row(&m, pod.metadata.labels.clone().unwrap_or_default()))
        };
        self.metrics.pods(namespace).into_iter().filter_map(with_pod).collect()
    }

    fn node_rows(&self) -> Vec<Row> {
        let with_node = |m: Arc<NodeMetrics>| {
            let node = self.nodes.get(&Key::cluster(&m.name))?;
            Some(node_row(&m, node.metadata.labels.clone().unwrap_or_default()))
        };
        self.metrics.nodes().into_iter().filter_map(with_node).collect()
    }
}

fn pod_row(metrics: &PodMetrics, labels: BTreeMap<String, String>) -> Row {
    let total = metrics.containers.values().fold(Use::default(), |sum, u| Use {
        cpu_nano: sum.cpu_nano.saturating_add(u.cpu_nano),
        memory_bytes: sum.memory_bytes.saturating_add(u.memory_bytes),
    });
    let containers =
        metrics.containers.iter().map(|(name, usage)| json!({"name": name, "usage": quantities(*usage)}));
    Row {
        namespace: Some(metrics.namespace.clone()),
        name: metrics.name.clone(),
        labels,
        at_ms: metrics.at_ms,
        window_ms: metrics.window_ms,
        total,
        containers: Some(containers.collect()),
    }
}

fn node_row(metrics: &NodeMetrics, labels: BTreeMap<String, String>) -> Row {
    Row {
        namespace: None,
        name: metrics.name.clone(),
        labels,
        at_ms: metrics.at_ms,
        window_ms: metrics.window_ms,
        total: metrics.usage,
        containers: None,
    }
}

fn quantities(usage: Use) -> Value {
    let whole = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    json!({"cpu": format_decimal(whole(usage.cpu_nano), -9), "memory": format_binary(whole(usage.memory_bytes))})
}

impl Row {
    fn metadata(&self) -> Value {
        let mut metadata = json!({"name": self.name});
        if let Some(namespace) = &self.namespace {
            metadata["namespace"] = json!(namespace);
        }
        metadata["creationTimestamp"] = json!(format_time(self.at_ms));
        if !self.labels.is_empty() {
            metadata["labels"] = json!(self.labels);
        }
        metadata
    }

    /// The object; items of a list carry no kind.
    fn object(&self, kind: Option<&str>) -> Value {
        let mut object = match kind {
            Some(kind) => json!({"kind": kind, "apiVersion": API_VERSION}),
            None => json!({}),
        };
        object["metadata"] = self.metadata();
        object["timestamp"] = json!(format_time(self.at_ms));
        object["window"] = json!(self.window());
        match &self.containers {
            Some(containers) => object["containers"] = json!(containers),
            None => object["usage"] = quantities(self.total),
        }
        object
    }

    fn window(&self) -> String {
        gantry_clock::format_go_duration(self.window_ms.saturating_mul(1_000_000))
    }
}

fn table(rows: &[Row]) -> Value {
    let column = |name: &str, format: &str, description: &str| json!({"name": name, "type": "string", "format": format, "description": description, "priority": 0});
    let rows: Vec<Value> = rows
        .iter()
        .map(|row| {
            let usage = quantities(row.total);
            let object =
                json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": row.metadata()});
            json!({"cells": [row.name, usage["cpu"], usage["memory"], row.window()], "object": object})
        })
        .collect();
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {},
        "columnDefinitions": [
            column("Name", "name", "Name of the resource"),
            column("cpu", "quantity", "CPU in use"),
            column("memory", "quantity", "Memory in use"),
            column("Window", "duration", "Time over which CPU was measured"),
        ],
        "rows": rows,
    })
}

fn select(rows: Vec<Row>, query: &str) -> Result<Vec<Row>, String> {
    let mut labels = Selector::default();
    let mut fields = Selector::default();
    for pair in query.split('&') {
        match pair.split_once('=') {
            Some(("labelSelector", text)) => {
                labels = parse_label_selector(&decode(text)).map_err(|e| e.to_string())?;
            }
            Some(("fieldSelector", text)) => {
                fields = parse_field_selector(&decode(text)).map_err(|e| e.to_string())?;
            }
            _ => {}
        }
    }
    let matches = |row: &Row| {
        labels.matches(|key| row.labels.get(key).map(String::as_str))
            && fields.matches(|field| match field {
                "metadata.name" => Some(row.name.as_str()),
                "metadata.namespace" => Some(row.namespace.as_deref().unwrap_or_default()),
                _ => None,
            })
    };
    Ok(rows.into_iter().filter(|row| matches(row)).collect())
}

pub(crate) fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let hex = bytes.get(at + 1..at + 3).and_then(|h| std::str::from_utf8(h).ok());
        let escaped = hex.filter(|_| *byte == b'%').and_then(|h| u8::from_str_radix(h, 16).ok());
        at += if escaped.is_some() { 3 } else { 1 };
        out.push(escaped.unwrap_or(if *byte == b'+' { b' ' } else { *byte }));
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn resource_list() -> Answer {
    let resources: Vec<Value> = RESOURCES
        .iter()
        .map(|r| json!({"name": r.plural, "singularName": "", "namespaced": r.namespaced, "kind": r.kind, "verbs": r.verbs}))
        .collect();
    let body = json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": API_VERSION, "resources": resources,
    });
    Answer { status: 200, body }
}

fn not_found(message: &str, about: Option<(&str, &str)>) -> Answer {
    failure(404, "NotFound", message, about)
}

fn failure(status: u16, reason: &str, message: &str, about: Option<(&str, &str)>) -> Answer {
    let details = match about {
        Some((kind, name)) => json!({"name": name, "group": GROUP, "kind": kind}),
        None => json!({}),
    };
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "details": details, "code": status,
    });
    Answer { status, body }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, app: &str) -> Row {
        let usage = Use { cpu_nano: 5_000_000, memory_bytes: 3 << 20 };
        let metrics = PodMetrics {
            namespace: "ns".into(),
            name: name.into(),
            at_ms: 1_000_000,
            window_ms: 15_020,
            containers: [("a".to_string(), usage), ("b".to_string(), usage)].into(),
        };
        pod_row(&metrics, [("app".to_string(), app.to_string())].into())
    }

    #[test]
    fn an_object_and_a_table() {
        let object = row("p", "web").object(Some("PodMetrics"));
        let expected = json!({
            "kind": "PodMetrics", "apiVersion": "metrics.k8s.io/v1beta1",
            "metadata": {"name": "p", "namespace": "ns", "creationTimestamp": "1970-01-01T00:16:40Z", "labels": {"app": "web"}},
            "timestamp": "1970-01-01T00:16:40Z", "window": "15.02s",
            "containers": [{"name": "a", "usage": {"cpu": "5m", "memory": "3Mi"}}, {"name": "b", "usage": {"cpu": "5m", "memory": "3Mi"}}],
        });
        assert_eq!(object, expected);
        let table = table(&[row("p", "web")]);
        assert_eq!(table["rows"][0]["cells"], json!(["p", "10m", "6Mi", "15.02s"]));
    }

    #[test]
    fn selectors_choose() {
        let names = |query: &str| {
            let rows = select(vec![row("a", "web"), row("b", "db")], query).unwrap();
            rows.into_iter().map(|r| r.name).collect::<Vec<_>>()
        };
        assert_eq!(names(""), ["a", "b"]);
        assert_eq!(names("labelSelector=app%3Dweb"), ["a"]);
        assert_eq!(names("labelSelector=app+in+(db)&limit=5"), ["b"]);
        assert_eq!(names("fieldSelector=metadata.name%3Db"), ["b"]);
        assert!(select(vec![], "labelSelector=%3D%3D").is_err());
    }
}
