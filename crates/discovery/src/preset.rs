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

#[cfg(test)]
mod tests {
    use super::*;
    use gantry_scrape::{GlobalConfig, Outcome, ScrapeConfig, populate};
    use k8s_openapi::api::core::v1::Pod;

    fn targets(annotations: serde_json::Value) -> Vec<(String, String)> {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"namespace": "shop", "name": "catalog-1", "labels": {"app": "catalog"}, "annotations": annotations},
            "spec": {"nodeName": "laptop", "containers": [
                {"name": "web", "ports": [{"containerPort": 8080}, {"containerPort": 8081}]}
            ]},
            "status": {"phase": "Running", "podIP": "127.1.0.5"}
        }))
        .unwrap();
        let mut config = ScrapeConfig::default();
        config.job_name = "pods".into();
        config.relabel_configs = annotated_pods().unwrap();
        config.complete(&GlobalConfig::default()).unwrap();
        let group = crate::pod::group(&pod);
        let mut found: Vec<_> = group
            .targets
            .iter()
            .filter_map(|target| match populate(&config, &group, target) {
                Outcome::Kept(target) => Some((target.url, target.labels.to_string())),
                _ => None,
            })
            .collect();
        found.dedup();
        found
    }

    #[test]
    fn annotations_say_where() {
        let labels = |address: &str| {
            format!(
                "{{app=\"catalog\", instance=\"{address}\", job=\"pods\", namespace=\"shop\", node=\"laptop\", pod=\"catalog-1\"}}"
            )
        };
        let all = serde_json::json!({
            "prometheus.io/scrape": "true", "prometheus.io/port": "9102",
            "prometheus.io/path": "/stats", "prometheus.io/scheme": "https"
        });
        assert_eq!(targets(all), [("https://127.1.0.5:9102/stats".to_owned(), labels("127.1.0.5:9102"))]);
        assert_eq!(
            targets(serde_json::json!({"prometheus.io/scrape": "true"})),
            [
                ("http://127.1.0.5:8080/metrics".to_owned(), labels("127.1.0.5:8080")),
                ("http://127.1.0.5:8081/metrics".to_owned(), labels("127.1.0.5:8081")),
            ]
        );
        assert!(targets(serde_json::json!({"prometheus.io/scrape": "false"})).is_empty());
        assert!(targets(serde_json::json!({})).is_empty());
    }
}
