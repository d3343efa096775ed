//! Load that is there makes replicas, load that is gone takes them away.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use gantry_apiserver::{ApiServer, Config as ServerConfig, UserInfo};
use gantry_autoscaler::{
    Autoscaler, Config, ContainerPoint, Cumulative, MetricsApi, MetricsQuery, MetricsStore, PodPoint,
    QueryError, StoreSettings, UsagePoint,
};
use gantry_clock::SystemClock;
use gantry_node::{Node, Shutdown, UsageSnapshot};
use gantry_operator::Operator;
use gantry_prom_model::Labels;
use gantry_workloads::Controllers;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::Client;
use kube::api::{Api, PostParams};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// Answers every query with one number.
struct Number(Mutex<f64>);

#[async_trait]
impl MetricsQuery for Number {
    async fn query(&self, promql: &str) -> Result<Vec<(Labels, f64)>, QueryError> {
        match promql {
            "sum(queue)" => Ok(vec![(Labels::empty(), *self.0.lock())]),
            other => Err(QueryError(format!("unknown query {other}"))),
        }
    }
}

struct House {
    client: Client,
    _server: ApiServer,
    autoscaler: Autoscaler,
    api: MetricsApi,
    number: Arc<Number>,
    stop_node: CancellationToken,
    stop: CancellationToken,
    running: tokio::task::JoinHandle<()>,
}

fn point(snapshot: &UsageSnapshot) -> UsagePoint {
    let cumulative =
        |u: gantry_node::Usage| Cumulative { cpu_ns: u.cpu_ns, memory_bytes: u.working_set_bytes };
    let container = |c: &gantry_node::ContainerUsage| ContainerPoint {
        name: c.name.clone(),
        started_ms: c.started_at.as_millisecond(),
        usage: cumulative(c.usage),
    };
    UsagePoint {
        at_ms: snapshot.at.as_millisecond(),
        node: "laptop".into(),
        node_usage: cumulative(snapshot.node),
        pods: snapshot
            .pods
            .iter()
            .map(|p| PodPoint {
                namespace: p.pod.namespace.clone(),
                name: p.pod.name.clone(),
                containers: p.containers.iter().map(container).collect(),
            })
            .collect(),
    }
}

async fn house(dir: &std::path::Path) -> House {
    let clock = Arc::new(SystemClock::new());
    let server = ApiServer::open(ServerConfig::ephemeral(clock.clone())).await.unwrap();
    let client = Client::new(server.service_as(UserInfo::admin()), "default");
    let operator = Operator::new(client.clone(), clock);
    Controllers::register(&operator, gantry_workloads::Config::default());
    let mut config = gantry_node::Config::new("laptop", dir);
    config.images.insert("shell".into(), vec!["sh".into(), "-c".into()]);
    config.host_env.insert("PATH".into(), "/usr/bin:/bin".into());
    config.pod_cidr = "127.96.0.0/17".parse().unwrap();
    config.usage_interval = Duration::from_millis(250);
    let node = Node::new(config, &operator, None).unwrap();
    let settings = StoreSettings { least_window_ms: 400, fresh_from_ms: 200, resolution_ms: 1000 };
    let store = Arc::new(MetricsStore::new(settings));
    let number = Arc::new(Number(Mutex::new(0.0)));
    let config = Config {
        sync_period: Duration::from_millis(500),
        cpu_initialization_period: Duration::ZERO,
        initial_readiness_delay: Duration::ZERO,
        on_push: Some(Duration::from_millis(100)),
        ..Config::default()
    };
    let autoscaler = Autoscaler::new(config, &operator, store.clone(), Some(number.clone()));
    let api = MetricsApi::new(&operator, store.clone());

    let (stop_node, stop) = (CancellationToken::new(), CancellationToken::new());
    let mut usage = node.watch_usage();
    tokio::spawn(async move {
        while usage.changed().await.is_ok() {
            let snapshot = usage.borrow_and_update().clone();
            store.push(point(&snapshot));
        }
    });
    let (until, pushed) = (stop.clone(), autoscaler.clone());
    tokio::spawn(async move { pushed.run(until).await });
    let until = stop.clone();
    tokio::spawn(async move { operator.run(until).await });
    let until = stop_node.clone();
    let shutdown = Shutdown::StopPods { grace: Duration::from_secs(2) };
    let running = tokio::spawn(async move { node.run(until, shutdown).await });
    House { client, _server: server, autoscaler, api, number, stop_node, stop, running }
}

impl House {
    async fn create<K>(&self, value: Value)
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + serde::Serialize
            + std::fmt::Debug,
    {
        let object: K = serde_json::from_value(value).unwrap();
        Api::<K>::namespaced(self.client.clone(), "default")
            .create(&PostParams::default(), &object)
            .await
            .unwrap();
    }

    async fn deploy(&self, script: &str, metrics: Value, query: Value) {
        self.create::<Deployment>(json!({
            "metadata": {"name": "web"},
            "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"terminationGracePeriodSeconds": 1, "containers": [{
                    "name": "web", "image": "shell", "args": [script], "resources": {"requests": {"cpu": "100m"}}}]}}}
        }))
        .await;
        self.create::<HorizontalPodAutoscaler>(json!({
            "metadata": {"name": "web", "annotations": query},
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
                "minReplicas": 1, "maxReplicas": 3, "metrics": metrics,
                "behavior": {"scaleDown": {"stabilizationWindowSeconds": 1}},
            },
        }))
        .await;
    }

    async fn ready_replicas(&self) -> i32 {
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), "default");
        api.get("web").await.unwrap().status.and_then(|s| s.ready_replicas).unwrap_or(0)
    }

    async fn wait_for(&self, replicas: i32) {
        let begun = Instant::now();
        while self.ready_replicas().await != replicas {
            let api: Api<HorizontalPodAutoscaler> = Api::namespaced(self.client.clone(), "default");
            let status = api.get("web").await.unwrap().status;
            assert!(begun.elapsed() < Duration::from_secs(60), "waited for {replicas} replicas: {status:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn end(self) {
        self.stop_node.cancel();
        tokio::time::timeout(Duration::from_secs(30), self.running).await.unwrap().unwrap();
        self.stop.cancel();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promql_value_scales_up_and_down() {
    let dir = tempfile::tempdir().unwrap();
    let house = house(dir.path()).await;
    let metric = json!([{"type": "External", "external": {
        "metric": {"name": "queue"}, "target": {"type": "AverageValue", "averageValue": "10"}}}]);
    house.deploy("exec sleep 300", metric, json!({"gantry.dev/query.queue": "sum(queue)"})).await;
    house.wait_for(1).await;
    *house.number.0.lock() = 28.0;
    house.wait_for(3).await;
    *house.number.0.lock() = 4.0;
    house.wait_for(1).await;
    let decisions = house.autoscaler.decisions().recent();
    let path: Vec<(i32, i32)> = decisions.iter().map(|d| (d.from, d.to)).collect();
    assert_eq!(path, [(1, 3), (3, 1)]);
    assert_eq!((decisions[0].value.as_str(), decisions[0].wanted.as_str()), ("28", "10"));
    assert_eq!(decisions[0].target, "Deployment/web");
    house.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn busy_processes_scale_up_by_cpu() {
    let dir = tempfile::tempdir().unwrap();
    let house = house(dir.path()).await;
    let metric = json!([{"type": "Resource", "resource": {
        "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 20}}}]);
    house.deploy("while :; do :; done", metric, json!({})).await;
    house.wait_for(3).await;
    let list = house.api.get("/namespaces/default/pods", "labelSelector=app%3Dweb", "application/json");
    let items = list.body["items"].as_array().unwrap();
    assert!(!items.is_empty() && items[0]["containers"][0]["name"] == "web", "{items:?}");
    let api: Api<HorizontalPodAutoscaler> = Api::namespaced(house.client.clone(), "default");
    let status = api.get("web").await.unwrap().status.unwrap();
    let condition = |name: &str| {
        let conditions = status.conditions.iter().flatten();
        conditions
            .filter(|c| c.type_ == name)
            .map(|c| (c.status.clone(), c.reason.clone().unwrap()))
            .next()
            .unwrap()
    };
    assert_eq!(condition("ScalingActive"), ("True".to_string(), "ValidMetricFound".to_string()));
    assert!(house.autoscaler.decisions().recent()[0].metric.contains("cpu resource utilization"));
    house.end().await;
}
