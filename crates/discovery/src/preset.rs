//! The relabelling that makes targets of annotated pods.

use gantry_scrape::ConfigError;
use gantry_scrape::relabel::{Action, RelabelConfig};

/// Keeps the pods annotated `prometheus.io/scrape: "true"`; `prometheus.io/port`, `path` and `scheme` say where.
/// Their samples get the labels `namespace`, `pod`, `node` and those of the pod itself.
///
/// # Errors
/// Never: the expressions are ours.
pub fn annotated_pods() -> Result<Vec<RelabelConfig>, ConfigError> {
    let step = |action, sources: &[&str], regex: &str| {
        RelabelConfig::new(action, sources, regex).map_err(ConfigError)
    };
    let annotation = |name: &str| format!("__meta_kubernetes_pod_annotation_prometheus_io_{name}");
    let mut steps = vec![
        step(Action::Keep, &[&annotation("scrape")], "true")?,
        step(Action::Drop, &["__meta_kubernetes_pod_phase"], "Pending|Succeeded|Failed|Completed")?,
        step(Action::Drop, &["__meta_kubernetes_pod_container_init"], "true")?,
        step(Action::Replace, &[&annotation("scheme")], "(https?)")?.target("__scheme__", "$1"),
        step(Action::Replace, &[&annotation("path")], "(.+)")?.target("__metrics_path__", "$1"),
        // With the port annotated, every port of the pod gives the same address and labels: one target is left.
        step(Action::Replace, &["__address__", &annotation("port")], "(.+?)(?::\\d+)?;(\\d+)")?
            .target("__address__", "$1:$2"),
    ];
    steps.push(step(Action::LabelMap, &[], "__meta_kubernetes_pod_label_(.+)")?);
    for (source, target) in [
        ("__meta_kubernetes_namespace", "namespace"),
        ("__meta_kubernetes_pod_name", "pod"),
        ("__meta_kubernetes_pod_node_name", "node"),
    ] {
        steps.push(step(Action::Replace, &[source], "(.+)")?.target(target, "$1"));
    }
    Ok(steps)
}
