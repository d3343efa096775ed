//! A Deployment's pods become processes: ready, logged, measured, replaced, adopted, ended.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use gantry_apiserver::{ApiServer, Config as ServerConfig, UserInfo};
use gantry_clock::SystemClock;
use gantry_node::{Config, LogOptions, Node, Shutdown};
use gantry_operator::Operator;
use gantry_workloads::Controllers;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Node as NodeObject, Pod};
use kube::Client;
use kube::api::{Api, DeleteParams, PostParams};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

pub(crate) struct Cluster {
    pub(crate) client: Client,
    pub(crate) server: ApiServer,
}

/// One life of the program's node and controllers.
pub(crate) struct Life {
    pub(crate) node: Node,
    stop_node: CancellationToken,
    stop_operator: CancellationToken,
    running: tokio::task::JoinHandle<()>,
}

pub(crate) async fn cluster() -> Cluster {
    let mut config = ServerConfig::ephemeral(Arc::new(SystemClock::new()));
    // Two clusters on one machine must not share uids: a node ends what carries the uid of a pod that is gone.
    config.seed = RandomState::new().build_hasher().finish();
    let server = ApiServer::open(config).await.unwrap();
    let client = Client::new(server.service_as(UserInfo::admin()), "default");
    Cluster { client, server }
}

impl Cluster {
    pub(crate) fn live(&self, dir: &Path, shutdown: Shutdown) -> Life {
        let client = Client::new(self.server.service_as(UserInfo::admin()), "default");
        let operator = Operator::new(client, Arc::new(SystemClock::new()));
        Controllers::register(&operator, gantry_workloads::Config::default());
        let mut config = Config::new("laptop", dir);
        config.images.insert("shell".into(), vec!["sh".into(), "-c".into()]);
        config.host_env.insert("PATH".into(), "/usr/bin:/bin".into());
        config.pod_cidr = "127.97.0.0/17".parse().unwrap();
        config.backoff_initial = Duration::from_millis(200);
        config.eager_probe_interval = Some(Duration::from_millis(20));
        config.usage_interval = Duration::from_millis(200);
        let node = Node::new(config, &operator, None).unwrap();
        let (stop_node, stop_operator) = (CancellationToken::new(), CancellationToken::new());
        let until = stop_operator.clone();
        tokio::spawn(async move { operator.run(until).await });
        let (runner, until) = (node.clone(), stop_node.clone());
        let running = tokio::spawn(async move { runner.run(until, shutdown).await });
        Life { node, stop_node, stop_operator, running }
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), "default")
    }

    async fn pods(&self) -> Vec<Pod> {
        self.api::<Pod>().list(&Default::default()).await.unwrap().items
    }

    pub(crate) async fn ready(&self) -> Vec<Pod> {
        let ready = |pod: &Pod| {
            let conditions = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
            pod.metadata.deletion_timestamp.is_none()
                && conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True")
        };
        self.pods().await.into_iter().filter(ready).collect()
    }
}

impl Life {
    pub(crate) async fn end(self) {
        self.stop_node.cancel();
        tokio::time::timeout(Duration::from_secs(30), self.running).await.unwrap().unwrap();
        self.stop_operator.cancel();
    }
}

pub(crate) fn object<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn deployment(replicas: i32, script: &str) -> Deployment {
    object(json!({
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"terminationGracePeriodSeconds": 5, "containers": [{
                "name": "web", "image": "shell:1", "args": [script],
                "env": [{"name": "GREETING", "valueFrom": {"configMapKeyRef": {"name": "conf", "key": "greeting"}}}],
                "resources": {"requests": {"cpu": "100m"}},
            }]}}}
    }))
}

pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn alive(pids: &[u32]) -> usize {
    pids.iter().filter(|pid| Path::new(&format!("/proc/{pid}/exe")).exists()).count()
}

/// Pids of the running containers, from their ids.
fn pids(pods: &[Pod]) -> Vec<u32> {
    let statuses =
        pods.iter().flat_map(|p| p.status.iter().flat_map(|s| s.container_statuses.iter().flatten()));
    let pid = |id: &String| id.rsplit('-').next()?.parse().ok();
    statuses.filter_map(|s| s.container_id.as_ref().and_then(pid)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_runs_logs_and_ends() {
    let cluster = cluster().await;
    let dir = tempfile::tempdir().unwrap();
    let life = cluster.live(dir.path(), Shutdown::StopPods { grace: Duration::from_secs(5) });
    let script =
        "exec 2>/dev/null; echo $GREETING from $POD_IP; trap 'exit 0' TERM; while :; do sleep 0.05; done";
    cluster.api::<Deployment>().create(&PostParams::default(), &deployment(2, script)).await.unwrap();
    eventually("an event about the missing ConfigMap", async || {
        let events = cluster.api::<Event>().list(&Default::default()).await.unwrap().items;
        events
            .into_iter()
            .find(|e| e.message.as_deref().is_some_and(|m| m.contains("configmap \"conf\" not found")))
    })
    .await;
    let conf: ConfigMap = object(json!({"metadata": {"name": "conf"}, "data": {"greeting": "hello"}}));
    cluster.api().create(&PostParams::default(), &conf).await.unwrap();

    let pods =
        eventually("two ready pods", async || Some(cluster.ready().await).filter(|p| p.len() == 2)).await;
    let ips: Vec<String> = pods.iter().filter_map(|p| p.status.as_ref()?.pod_ip.clone()).collect();
    assert!(ips.len() == 2 && ips[0] != ips[1] && ips.iter().all(|ip| ip.starts_with("127.97.")), "{ips:?}");
    let node: NodeObject = Api::all(cluster.client.clone()).get("laptop").await.unwrap();
    assert!(node.status.unwrap().capacity.unwrap().contains_key("cpu"));
    eventually("readings of both", async || Some(()).filter(|_| life.node.usage().pods.len() == 2)).await;

    let name = pods[0].metadata.name.clone().unwrap();
    let options = LogOptions { follow: true, ..LogOptions::default() };
    let mut log = Box::pin(life.node.logs("default", &name, None, options).unwrap());
    let first = tokio::time::timeout(Duration::from_secs(10), log.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(String::from_utf8_lossy(&first), format!("hello from {}\n", ips[0]));

    let processes = pids(&pods);
    assert_eq!(alive(&processes), 2);
    cluster.api::<Pod>().delete(&name, &DeleteParams::default()).await.unwrap();
    let end = tokio::time::timeout(Duration::from_secs(20), log.next()).await.unwrap();
    assert!(end.is_none(), "a followed log ends with its container");
    eventually("a replacement", async || {
        let ready = cluster.ready().await;
        Some(()).filter(|_| ready.len() == 2 && ready.iter().all(|p| p.metadata.name.as_ref() != Some(&name)))
    })
    .await;
    cluster.api::<Deployment>().delete("web", &DeleteParams::background()).await.unwrap();
    eventually("no pods", async || Some(()).filter(|_| life.node.usage().pods.is_empty())).await;
    eventually("no objects", async || Some(cluster.pods().await).filter(Vec::is_empty)).await;
    assert_eq!(alive(&processes), 0);
    assert_eq!(std::fs::read_dir(dir.path().join("pods")).unwrap().count(), 0);
    life.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_life_adopts_what_it_finds_and_ends_what_is_gone() {
    let cluster = cluster().await;
    let dir = tempfile::tempdir().unwrap();
    let conf: ConfigMap = object(json!({"metadata": {"name": "conf"}, "data": {"greeting": "hello"}}));
    cluster.api().create(&PostParams::default(), &conf).await.unwrap();
    let first = cluster.live(dir.path(), Shutdown::LeavePods);
    cluster.api::<Deployment>().create(&PostParams::default(), &deployment(2, "sleep 300")).await.unwrap();
    let pods =
        eventually("two ready pods", async || Some(cluster.ready().await).filter(|p| p.len() == 2)).await;
    let before = pids(&pods);
    first.end().await;
    assert_eq!(alive(&before), 2);

    // While nobody runs them, one pod is removed by force.
    let gone = pods[0].metadata.name.clone().unwrap();
    cluster.api::<Pod>().delete(&gone, &DeleteParams::default().grace_period(0)).await.unwrap();
    let second = cluster.live(dir.path(), Shutdown::StopPods { grace: Duration::from_secs(5) });
    let now = eventually("a replacement", async || {
        let ready = cluster.ready().await;
        let replaced = ready.iter().all(|p| p.metadata.name.as_ref() != Some(&gone));
        Some(ready).filter(|r| r.len() == 2 && replaced)
    })
    .await;
    eventually("the end of the removed pod's process", async || Some(()).filter(|_| alive(&before) == 1))
        .await;
    let after = pids(&now);
    assert_eq!(before.iter().filter(|pid| after.contains(pid)).count(), 1, "one was adopted");
    second.end().await;
    assert_eq!(alive(&after) + alive(&before), 0, "a shutdown leaves nothing");
}
