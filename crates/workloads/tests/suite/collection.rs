//! What goes when its owner or its namespace goes.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use serde_json::{Value, json};

use crate::cluster::{Cluster, eventually, object};

fn web() -> Value {
    json!({
        "metadata": { "name": "web" },
        "spec": {
            "replicas": 2,
            "selector": { "matchLabels": { "app": "web" } },
            "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": { "containers": [{ "name": "main", "image": "web:1" }] },
            },
        },
    })
}

async fn with_web(namespace: &str) -> Cluster {
    let cluster = Cluster::start().await;
    let api: Api<Namespace> = Api::all(cluster.client.clone());
    let new: Namespace = object(json!({ "metadata": { "name": namespace } }));
    api.create(&PostParams::default(), &new).await.expect("a namespace");
    cluster.create::<Deployment>(namespace, web()).await;
    eventually("the pods", || async { (cluster.pods(namespace).await.len() == 2).then_some(()) }).await;
    cluster
}

async fn sets(cluster: &Cluster, namespace: &str) -> Vec<ReplicaSet> {
    cluster.api::<ReplicaSet>(namespace).list(&ListParams::default()).await.expect("sets").items
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn owned_objects_follow_their_owner() {
    let cluster = with_web("team").await;
    cluster.api::<Deployment>("team").delete("web", &DeleteParams::background()).await.expect("deleted");
    eventually("everything to be gone", || async {
        (cluster.pods("team").await.is_empty() && sets(&cluster, "team").await.is_empty()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreground_deletion_goes_last() {
    let cluster = with_web("team").await;
    cluster.api::<Deployment>("team").delete("web", &DeleteParams::foreground()).await.expect("deleted");
    eventually("the deployment to go", || async {
        let there = cluster.api::<Deployment>("team").get_opt("web").await.expect("an answer").is_some();
        (!there).then_some(())
    })
    .await;
    assert!(sets(&cluster, "team").await.is_empty(), "the deployment waited for its sets");
    assert!(cluster.pods("team").await.is_empty(), "and they for their pods");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orphans_stay() {
    let cluster = with_web("team").await;
    cluster.api::<Deployment>("team").delete("web", &DeleteParams::orphan()).await.expect("deleted");
    eventually("the deployment to go", || async {
        let there = cluster.api::<Deployment>("team").get_opt("web").await.expect("an answer").is_some();
        (!there).then_some(())
    })
    .await;
    let left = sets(&cluster, "team").await;
    assert_eq!(left.len(), 1);
    assert!(left[0].metadata.owner_references.as_ref().is_none_or(Vec::is_empty));
    assert_eq!(cluster.pods("team").await.len(), 2);
    // A deployment of the same kind takes them over instead of making new ones.
    cluster.create::<Deployment>("team", web()).await;
    eventually("the adoption", || async {
        let sets = sets(&cluster, "team").await;
        let owned =
            sets.len() == 1 && sets[0].metadata.owner_references.as_ref().is_some_and(|all| all.len() == 1);
        owned.then_some(())
    })
    .await;
    assert_eq!(cluster.pods("team").await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_ends_with_all_that_is_in_it() {
    let cluster = with_web("team").await;
    cluster.create::<ConfigMap>("team", json!({ "metadata": { "name": "settings" } })).await;
    let api: Api<Namespace> = Api::all(cluster.client.clone());
    api.delete("team", &DeleteParams::default()).await.expect("deleted");
    eventually("the namespace to end", || async {
        api.get_opt("team").await.expect("an answer").is_none().then_some(())
    })
    .await;
    let everywhere: Api<Pod> = Api::all(cluster.client.clone());
    let pods = everywhere.list(&ListParams::default()).await.expect("pods").items;
    assert!(pods.iter().all(|pod| pod.metadata.namespace.as_deref() != Some("team")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_collected_for_an_owner_of_an_unknown_kind() {
    let cluster = Cluster::start().await;
    let owned = |name: &str, kind: &str| {
        json!({ "metadata": { "name": name, "ownerReferences": [
            { "apiVersion": "example.com/v1", "kind": kind, "name": "x", "uid": "no-such-uid" }
        ]}})
    };
    cluster.create::<ConfigMap>("default", owned("kept", "Unknown")).await;
    let mut of_config_map = owned("collected", "ConfigMap");
    of_config_map["metadata"]["ownerReferences"][0]["apiVersion"] = json!("v1");
    cluster.create::<ConfigMap>("default", of_config_map).await;
    let api = cluster.api::<ConfigMap>("default");
    eventually("the other one to be collected", || async {
        api.get_opt("collected").await.expect("an answer").is_none().then_some(())
    })
    .await;
    assert!(api.get_opt("kept").await.expect("an answer").is_some());
}
