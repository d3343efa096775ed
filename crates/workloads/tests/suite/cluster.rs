//! An API server, the controllers and a kubelet that only pretends, all in this process.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use gantry_apiserver::{ApiServer, Config as ServerConfig, UserInfo};
use gantry_clock::SystemClock;
use gantry_operator::{Action, Key, Operator, time_from_ms};
use gantry_workloads::{Config, Controllers};
use k8s_openapi::api::core::v1::{Node, Pod, PodCondition};
use kube::api::{Api, DeleteParams, PostParams};
use kube::{Client, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

pub(crate) struct Cluster {
    pub(crate) client: Client,
    pub(crate) operator: Operator,
    #[allow(dead_code, reason = "the server lives as long as the cluster")]
    pub(crate) server: ApiServer,
    cancel: CancellationToken,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

impl Cluster {
    /// Starts everything with one ready node.
    pub(crate) async fn start() -> Cluster {
        let clock = Arc::new(SystemClock::new());
        let server = ApiServer::open(ServerConfig::ephemeral(clock.clone())).await.expect("a server");
        let client = Client::new(server.service_as(UserInfo::admin()), "default");
        let operator = Operator::new(client.clone(), clock);
        Controllers::register(
            &operator,
            Config { root_ca: Some("certificate".to_owned()), ..Config::default() },
        );
        register_kubelet(&operator);
        let cancel = CancellationToken::new();
        let (running, until) = (operator.clone(), cancel.clone());
        tokio::spawn(async move { running.run(until).await });
        let cluster = Cluster { client, operator, server, cancel };
        cluster.add_node("only").await;
        cluster
    }

    pub(crate) async fn add_node(&self, name: &str) {
        let node: Node = object(json!({ "metadata": { "name": name } }));
        let api: Api<Node> = Api::all(self.client.clone());
        let mut node = api.create(&PostParams::default(), &node).await.expect("a node");
        node.status = Some(object(json!({ "conditions": [{ "type": "Ready", "status": "True" }] })));
        api.replace_status(name, &PostParams::default(), &node).await.expect("a ready node");
    }

    pub(crate) fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    pub(crate) async fn create<K>(&self, namespace: &str, value: Value) -> K
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + serde::Serialize
            + std::fmt::Debug,
    {
        self.api::<K>(namespace).create(&PostParams::default(), &object(value)).await.expect("created")
    }

    pub(crate) async fn pods(&self, namespace: &str) -> Vec<Pod> {
        self.api::<Pod>(namespace).list(&Default::default()).await.expect("pods").items
    }
}

pub(crate) fn object<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("an object of that kind")
}

/// Waits until `look` finds something; a test that waits too long says for what.
pub(crate) async fn eventually<T, F, Fut>(what: &str, mut look: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let begun = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Runs no pod, but says that it does; a pod labelled `broken` is never ready, one labelled `job` ends well.
fn register_kubelet(operator: &Operator) {
    let pods = operator.informer::<Pod>();
    let client = operator.client().clone();
    let clock = operator.clock().clone();
    let next_address = Arc::new(AtomicU32::new(1));
    operator.controller::<Pod>("pretend-kubelet").concurrency(8).reconcile(move |key: Key| {
        let (pods, client, clock, next_address) =
            (pods.clone(), client.clone(), clock.clone(), next_address.clone());
        async move {
            let Some(pod) = pods.get(&key) else { return Ok(Action::await_change()) };
            let api: Api<Pod> = Api::namespaced(client, key.namespace());
            if pod.metadata.deletion_timestamp.is_some() {
                let gone = api.delete(key.name(), &DeleteParams::default().grace_period(0)).await;
                return match gone {
                    Err(kube::Error::Api(status)) if status.code != 404 => {
                        Err(kube::Error::Api(status).into())
                    }
                    _ => Ok(Action::await_change()),
                };
            }
            let assigned = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
            let phase = pod.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default();
            if !assigned || phase == "Running" || phase == "Succeeded" || phase == "Failed" {
                return Ok(Action::await_change());
            }
            let mut updated = (*pod).clone();
            let labels: &BTreeMap<String, String> = pod.labels();
            let status = updated.status.get_or_insert_default();
            let mut ready = !labels.contains_key("broken");
            status.phase = Some("Running".to_owned());
            if let Some(end) = labels.get("ends") {
                status.phase = Some(end.clone());
                ready = false;
            }
            let number = next_address.fetch_add(1, Ordering::Relaxed);
            status.pod_ip = Some(format!("127.50.{}.{}", number / 250, number % 250 + 1));
            let condition = |kind: &str, value: bool| PodCondition {
                type_: kind.to_owned(),
                status: if value { "True" } else { "False" }.to_owned(),
                last_transition_time: Some(time_from_ms(clock.now_ms())),
                ..PodCondition::default()
            };
            status.conditions = Some(vec![condition("PodScheduled", true), condition("Ready", ready)]);
            api.replace_status(key.name(), &PostParams::default(), &updated).await?;
            Ok(Action::await_change())
        }
    });
}
