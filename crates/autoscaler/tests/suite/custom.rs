//! custom.metrics.k8s.io over a store of a few series, by rules as users of prometheus-adapter write them.

use std::sync::Arc;

use async_trait::async_trait;
use gantry_apiserver::{ApiServer, Config as ServerConfig, UserInfo};
use gantry_autoscaler::custom::{CustomMetrics, CustomMetricsApi, ObjectMetrics, QueriedResources, Rules};
use gantry_autoscaler::{ExternalMetrics, MetricsQuery, QueryError, ResourceMetrics};
use gantry_clock::SystemClock;
use gantry_operator::Operator;
use gantry_prom_model::Labels;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::Client;
use kube::api::{Api, PostParams};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

const RULES: &str = r#"
rules:
- seriesQuery: 'http_requests_total{namespace!=""}'
  resources: {template: "<<.Resource>>"}
  name: {matches: "^(.*)_total$", as: "${1}_per_second"}
  metricsQuery: 'sum(rate(<<.Series>>{<<.LabelMatchers>>}[2m])) by (<<.GroupBy>>)'
- seriesQuery: 'temperature'
  resources: {overrides: {machine: {resource: node}, ns: {resource: namespace}}}
  metricsQuery: 'max(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)'
externalRules:
- seriesQuery: 'queue_length'
  resources: {overrides: {ns: {resource: namespace}}}
  metricsQuery: 'sum(<<.Series>>{<<.LabelMatchers>>})'
resourceRules:
  cpu:
    containerQuery: 'cpu(<<.LabelMatchers>>) by (<<.GroupBy>>)'
    nodeQuery: 'nodecpu(<<.LabelMatchers>>)'
    resources: {template: "<<.Resource>>"}
    containerLabel: container
  memory:
    containerQuery: 'memory(<<.LabelMatchers>>) by (<<.GroupBy>>)'
    nodeQuery: 'nodememory(<<.LabelMatchers>>)'
    resources: {template: "<<.Resource>>"}
    containerLabel: container
  window: 3m
"#;

/// Answers exactly these queries.
struct Store;

#[async_trait]
impl MetricsQuery for Store {
    async fn query(&self, promql: &str) -> Result<Vec<(Labels, f64)>, QueryError> {
        let row = |pairs: &[(&str, &str)], value: f64| (Labels::from_pairs(pairs.iter().copied()), value);
        Ok(match promql {
            "http_requests_total{namespace!=\"\"}" => {
                let of = |pod| {
                    row(
                        &[
                            ("__name__", "http_requests_total"),
                            ("namespace", "shop"),
                            ("pod", pod),
                            ("service", "web"),
                            ("code", "200"),
                        ],
                        1.0,
                    )
                };
                vec![of("web-1"), of("web-2")]
            }
            "temperature" => {
                vec![row(&[("__name__", "temperature"), ("machine", "n1"), ("ns", "shop")], 1.0)]
            }
            "queue_length" => vec![row(&[("__name__", "queue_length"), ("ns", "shop")], 1.0)],
            "sum(rate(http_requests_total{namespace=\"shop\",pod=~\"web-1|web-2\"}[2m])) by (pod)" => {
                vec![
                    row(&[("pod", "web-1")], 0.5),
                    row(&[("pod", "web-2")], 12.3456),
                    row(&[("pod", "old")], 9.0),
                ]
            }
            "sum(rate(http_requests_total{namespace=\"shop\",pod=\"web-1\"}[2m])) by (pod)" => {
                vec![row(&[("pod", "web-1")], f64::NAN)]
            }
            "sum(rate(http_requests_total{code=\"200\",namespace=\"shop\",service=\"web\"}[2m])) by (service)" =>
            {
                vec![row(&[("service", "web")], 7.0)]
            }
            "max(temperature{machine=\"n1\"}) by (machine)" => vec![row(&[("machine", "n1")], 55.0)],
            "max(temperature{ns=\"shop\"}) by (ns)" => vec![row(&[("ns", "shop")], 54.0)],
            "sum(queue_length{queue=\"a\",ns=\"shop\"})" => vec![row(&[], 3.0)],
            "cpu(namespace=\"shop\",pod=~\"web-1|web-2\") by (pod,container)" => {
                vec![
                    row(&[("pod", "web-1"), ("container", "c")], 0.25),
                    row(&[("pod", "web-2"), ("container", "c")], 1.0),
                ]
            }
            "memory(namespace=\"shop\",pod=~\"web-1|web-2\") by (pod,container)" => {
                vec![row(&[("pod", "web-1"), ("container", "c")], 1024.0)]
            }
            other => return Err(QueryError(format!("unexpected query {other}"))),
        })
    }
}

struct House {
    metrics: CustomMetrics,
    usage: QueriedResources,
    _server: ApiServer,
    stop: CancellationToken,
}

async fn house() -> House {
    let clock = Arc::new(SystemClock::new());
    let server = ApiServer::open(ServerConfig::ephemeral(clock.clone())).await.unwrap();
    let client = Client::new(server.service_as(UserInfo::admin()), "default");
    let operator = Operator::new(client.clone(), clock);
    let metrics = CustomMetrics::new(&operator, Rules::parse("rules.yaml", RULES).unwrap(), Arc::new(Store));
    let usage = QueriedResources::new(&operator, metrics.clone());
    let pods = operator.informer::<Pod>();
    let stop = CancellationToken::new();
    let until = stop.clone();
    tokio::spawn(async move { operator.run(until).await });

    let namespace: k8s_openapi::api::core::v1::Namespace =
        serde_json::from_value(json!({"metadata": {"name": "shop"}})).unwrap();
    Api::all(client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
    let api: Api<Pod> = Api::namespaced(client.clone(), "shop");
    for name in ["web-1", "web-2"] {
        let pod = json!({"metadata": {"name": name, "labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
        api.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
    }
    let service = json!({"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}});
    let api: Api<Service> = Api::namespaced(client, "shop");
    api.create(&PostParams::default(), &serde_json::from_value(service).unwrap()).await.unwrap();
    while pods.list_in("shop").len() < 2 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    House { metrics, usage, _server: server, stop }
}

fn values(body: &Value) -> Vec<(&str, &str)> {
    let items = body["items"].as_array().unwrap_or_else(|| panic!("{body}"));
    items
        .iter()
        .map(|i| (i["describedObject"]["name"].as_str().unwrap(), i["value"].as_str().unwrap()))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_answered_by_the_rules() {
    let house = house().await;
    let api = CustomMetricsApi::new(house.metrics.clone(), "v1beta2");
    let all = api.get("/namespaces/shop/pods/*/http_requests_per_second", "labelSelector=app%3Dweb").await;
    assert_eq!(all.status, 200, "{}", all.body);
    assert_eq!(values(&all.body), [("web-1", "500m"), ("web-2", "12345m")]);
    let item = &all.body["items"][0];
    assert_eq!(item["metric"], json!({"name": "http_requests_per_second", "selector": null}));
    assert_eq!(
        item["describedObject"],
        json!({"kind": "Pod", "namespace": "shop", "name": "web-1", "apiVersion": "/v1"})
    );

    let one = api.get("/namespaces/shop/pods/web-1/http_requests_per_second", "").await;
    assert_eq!(values(&one.body), [("web-1", "0")], "no number is nothing");
    let service = "/namespaces/shop/services/web/http_requests_per_second";
    let selected = api.get(service, "metricLabelSelector=code%3D200").await;
    assert_eq!(values(&selected.body), [("web", "7")]);
    let old = CustomMetricsApi::new(house.metrics.clone(), "v1beta1")
        .get(service, "metricLabelSelector=code%3D200")
        .await;
    assert_eq!(old.body["items"][0]["metricName"], "http_requests_per_second");
    assert_eq!(old.body["items"][0]["selector"], json!({"matchLabels": {"code": "200"}}));

    assert_eq!(values(&api.get("/nodes/n1/temperature", "").await.body), [("n1", "55")]);
    assert_eq!(values(&api.get("/namespaces/shop/metrics/temperature", "").await.body), [("shop", "54")]);

    let missing = api.get("/namespaces/shop/pods/*/nosuch", "").await;
    assert_eq!(missing.status, 404);
    assert_eq!(missing.body["message"], "the server could not find the metric nosuch for pods");
    let nobody =
        api.get("/namespaces/shop/pods/*/http_requests_per_second", "labelSelector=app%3Dnone").await;
    assert_eq!((nobody.status, nobody.body["reason"].as_str()), (404, Some("NotFound")));
    let bad = api.get("/namespaces/shop/pods/*/http_requests_per_second", "metricLabelSelector=%21%21").await;
    assert_eq!(bad.status, 400);

    let listed = api.get("", "").await;
    let names: Vec<&str> =
        listed.body["resources"].as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "namespaces/http_requests_per_second",
            "namespaces/temperature",
            "nodes/temperature",
            "pods/http_requests_per_second",
            "services/http_requests_per_second"
        ]
    );
    house.stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn autoscalers_read_the_same_values() {
    let house = house().await;
    let pods = ["web-1".to_owned(), "web-2".to_owned()];
    let read = house.metrics.of_pods("shop", &pods, "http_requests_per_second", "").await.unwrap();
    assert_eq!((read["web-1"], read["web-2"]), (500, 12345));
    let error = house.metrics.of_pods("shop", &pods, "nosuch", "").await.unwrap_err();
    assert_eq!(
        error,
        "unable to get metric nosuch: unable to fetch metrics from custom metrics API: the server could not find the metric nosuch for pods"
    );
    let object = |kind: &'static str, name: &'static str, metric: &'static str, selector: &'static str| {
        house.metrics.of_object("shop", "", kind, name, metric, selector)
    };
    assert_eq!(object("Service", "web", "http_requests_per_second", "code=200").await, Ok(7000));
    assert_eq!(object("Namespace", "ignored", "temperature", "").await, Ok(54000));
    assert!(object("Nosuch", "x", "temperature", "").await.unwrap_err().contains("no kind Nosuch"));

    let external = |metric: &'static str| {
        let metrics = house.metrics.clone();
        async move { metrics.external("shop", metric, &[("queue".to_owned(), "a".to_owned())].into()).await }
    };
    assert_eq!(external("queue_length").await, Some(Ok(vec![3000])));
    assert_eq!(external("nosuch").await, None);
    house.stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn usage_can_come_from_queries() {
    let house = house().await;
    let mut changes = house.usage.changes();
    let cancel = CancellationToken::new();
    tokio::select! {
        () = house.usage.run(std::time::Duration::from_millis(10), cancel.clone()) => {}
        _ = changes.changed() => {}
    }
    let pods = house.usage.pods(Some("shop"));
    assert_eq!(pods.len(), 1, "a pod without memory is left out");
    assert_eq!((pods[0].name.as_str(), pods[0].window_ms), ("web-1", 180_000));
    let usage = pods[0].containers["c"];
    assert_eq!((usage.cpu_nano, usage.memory_bytes), (250_000_000, 1024));
    house.stop.cancel();
}
