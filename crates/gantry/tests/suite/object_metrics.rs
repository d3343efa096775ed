//! Metrics of pods and objects by a project's own rules, and recommendations: what `kubectl` sees of both.

use serde_json::{Value, json};

use crate::harness::{Shop, Up, wait_until};

const NAMESPACE: &str = "shop-dev";
const RULES: &str = r#"
rules:
- seriesQuery: 'http_requests_total{namespace!="",pod!=""}'
  resources: {template: "<<.Resource>>"}
  name: {matches: "^(.*)_total$", as: "${1}_per_second"}
  metricsQuery: 'sum(rate(<<.Series>>{<<.LabelMatchers>>}[10s])) by (<<.GroupBy>>)'
"#;

/// What `kubectl get --raw` gives; `None` while the server refuses it.
fn raw(up: &Up, path: &str) -> Option<Value> {
    let output = up.kubectl(&["get", "--raw", path])?;
    output.status.success().then(|| serde_json::from_slice(&output.stdout).expect("JSON"))
}

fn apply(up: &Up, shop: &Shop, object: &Value) {
    let file = shop.file("applied.json");
    std::fs::write(&file, object.to_string()).expect("the copy is writable");
    let file = file.display().to_string();
    let output = up.kubectl(&["apply", "-n", NAMESPACE, "-f", &file]).expect("kubectl is there");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn object(up: &Up, kind: &str, name: &str) -> Value {
    let output = up.kubectl(&["get", kind, name, "-n", NAMESPACE, "-o", "json"]).expect("kubectl is there");
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

#[test]
fn series_become_metrics_of_pods_that_scale_them() {
    let shop = Shop::copy();
    std::fs::write(shop.file("rules.yaml"), RULES).expect("the copy is writable");
    shop.edit("gantry.yaml", "images:", "metricRules: rules.yaml\nimages:");
    let up = shop.up();
    if up.kubectl(&["version", "--client"]).is_none() {
        return;
    }
    let base = "/apis/custom.metrics.k8s.io/v1beta2";
    for _ in 0..40 {
        up.get("gateway", "shop.localhost", "/products");
    }
    let path = format!("{base}/namespaces/{NAMESPACE}/pods/*/http_requests_per_second");
    let list = wait_until("a value for every pod", || {
        let list = raw(&up, &path)?;
        list["items"].as_array().is_some_and(|items| !items.is_empty()).then_some(list)
    })
    .expect("a list");
    assert_eq!(list["kind"], "MetricValueList");
    assert_eq!(list["items"][0]["describedObject"]["kind"], "Pod");
    let resources = raw(&up, base).expect("discovery")["resources"].clone();
    let names: Vec<&str> = resources.as_array().unwrap().iter().filter_map(|r| r["name"].as_str()).collect();
    assert!(names.contains(&"pods/http_requests_per_second"), "{names:?}");
    assert!(raw(&up, "/apis/custom.metrics.k8s.io/v1beta1").is_some());
    let all = up.kubectl(&["api-resources"]).expect("kubectl is there");
    assert!(all.status.success(), "{}", String::from_utf8_lossy(&all.stderr));

    let metric = json!([{"type": "Pods", "pods": {
        "metric": {"name": "http_requests_per_second"}, "target": {"type": "AverageValue", "averageValue": "1m"}}}]);
    apply(
        &up,
        &shop,
        &json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "checkout"},
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "checkout"},
                "minReplicas": 1, "maxReplicas": 2, "metrics": metric,
            },
        }),
    );
    wait_until("a second replica", || {
        up.get("gateway", "shop.localhost", "/checkout");
        (object(&up, "deployment", "checkout")["spec"]["replicas"] == 2).then_some(())
    });
    let status = object(&up, "hpa", "checkout")["status"].clone();
    assert_eq!(status["currentMetrics"][0]["type"], "Pods", "{status:#}");
}

#[test]
fn a_vertical_autoscaler_recommends_requests() {
    let shop = Shop::copy();
    let up = shop.up();
    if up.kubectl(&["version", "--client"]).is_none() {
        return;
    }
    apply(
        &up,
        &shop,
        &json!({
            "apiVersion": "autoscaling.k8s.io/v1", "kind": "VerticalPodAutoscaler", "metadata": {"name": "catalog"},
            "spec": {
                "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "catalog"},
                "updatePolicy": {"updateMode": "Off"},
                "resourcePolicy": {"containerPolicies": [{"containerName": "*", "maxAllowed": {"memory": "64Mi"}}]},
            },
        }),
    );
    let recommended = wait_until("a recommendation", || {
        let status = object(&up, "vpa", "catalog")["status"].clone();
        status["recommendation"]["containerRecommendations"].as_array()?.first().cloned()
    })
    .expect("one container");
    assert_eq!(recommended["containerName"], "catalog");
    assert_eq!(recommended["target"]["memory"], "64Mi", "{recommended:#}");
    assert_eq!(recommended["uncappedTarget"]["memory"], "262144k");
    let conditions = object(&up, "vpa", "catalog")["status"]["conditions"].clone();
    assert_eq!(conditions[0]["type"], "RecommendationProvided", "{conditions:#}");
    assert_eq!(conditions[0]["status"], "True");
    wait_until("a checkpoint", || {
        let checkpoint = object(&up, "verticalpodautoscalercheckpoint", "catalog-catalog");
        (checkpoint["status"]["version"] == "v3").then_some(())
    });
}
