//! Deployments from creation to a second version and back, with the Service in front of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ConfigMap, Endpoints, Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::cluster::{Cluster, eventually};

fn deployment(name: &str, replicas: i32) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": name },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": name } },
            "strategy": { "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 0 } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": { "containers": [{
                    "name": "main", "image": "web:1", "ports": [{ "name": "http", "containerPort": 8080 }]
                }]},
            },
        },
    })
}

async fn patch(cluster: &Cluster, name: &str, patch: Value) {
    let api = cluster.api::<Deployment>("default");
    api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.expect("patched");
}

/// Waits for what `kubectl rollout status` waits for.
async fn rolled_out(cluster: &Cluster, name: &str, replicas: i32) -> Deployment {
    eventually("the rollout", || async {
        let deployment = cluster.api::<Deployment>("default").get(name).await.ok()?;
        let status = deployment.status.clone()?;
        let done = status.observed_generation == deployment.metadata.generation
            && status.updated_replicas.unwrap_or(0) == replicas
            && status.replicas.unwrap_or(0) == replicas
            && status.available_replicas.unwrap_or(0) == replicas;
        done.then_some(deployment)
    })
    .await
}

fn ready_addresses(slices: &[EndpointSlice]) -> usize {
    let endpoints = slices.iter().flat_map(|slice| slice.endpoints.iter().flatten());
    endpoints.filter(|endpoint| endpoint.conditions.as_ref().is_some_and(|c| c.ready == Some(true))).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_comes_up_rolls_scales_and_goes_back() {
    let cluster = Cluster::start().await;
    let service = json!({
        "metadata": { "name": "web" },
        "spec": { "selector": { "app": "web" }, "ports": [{ "name": "http", "port": 80, "targetPort": "http" }] },
    });
    cluster.create::<Service>("default", service).await;
    cluster.create::<Deployment>("default", deployment("web", 3)).await;
    let first = rolled_out(&cluster, "web", 3).await;
    assert_eq!(first.annotations().get("deployment.kubernetes.io/revision").map(String::as_str), Some("1"));
    assert_eq!(cluster.pods("default").await.len(), 3);

    let slices = ListParams::default().labels("kubernetes.io/service-name=web");
    eventually("three endpoints", || async {
        let found = cluster.api::<EndpointSlice>("default").list(&slices).await.ok()?.items;
        (ready_addresses(&found) == 3).then_some(())
    })
    .await;
    eventually("the Endpoints object", || async {
        let endpoints = cluster.api::<Endpoints>("default").get("web").await.ok()?;
        let subset = endpoints.subsets?.into_iter().next()?;
        (subset.addresses?.len() == 3 && subset.ports?.first()?.port == 8080).then_some(())
    })
    .await;

    let most = Arc::new(AtomicUsize::new(0));
    // What is asked for is bounded at every moment; the pods themselves follow a little later.
    let (seen, sets) = (most.clone(), cluster.operator.informer::<ReplicaSet>());
    let counting = sets.clone();
    let subscription = sets.subscribe(move |_| {
        let sets = counting.list_in("default");
        let wanted: i32 = sets.iter().filter_map(|set| set.spec.as_ref()?.replicas).sum();
        seen.fetch_max(usize::try_from(wanted).unwrap_or(0), Ordering::Relaxed);
    });
    patch(
        &cluster,
        "web",
        json!({ "spec": { "template": { "spec": { "containers": [
            { "name": "main", "image": "web:2", "ports": [{ "name": "http", "containerPort": 8080 }] }
        ]}}}}),
    )
    .await;
    let second = rolled_out(&cluster, "web", 3).await;
    drop(subscription);
    assert_eq!(most.load(Ordering::Relaxed), 4, "three and one of surge");
    assert_eq!(second.annotations().get("deployment.kubernetes.io/revision").map(String::as_str), Some("2"));
    let images: Vec<Option<String>> = eventually("the old pods to go", || async {
        let pods = cluster.pods("default").await;
        let images =
            pods.iter().map(|pod| pod.spec.as_ref()?.containers.first()?.image.clone()).collect::<Vec<_>>();
        (images.len() == 3).then_some(images)
    })
    .await;
    assert_eq!(images, vec![Some("web:2".to_owned()); 3]);

    patch(&cluster, "web", json!({ "spec": { "replicas": 5 } })).await;
    rolled_out(&cluster, "web", 5).await;
    patch(&cluster, "web", json!({ "spec": { "replicas": 1 } })).await;
    rolled_out(&cluster, "web", 1).await;
    eventually("one pod to be left", || async { (cluster.pods("default").await.len() == 1).then_some(()) })
        .await;
    let sets = cluster.api::<ReplicaSet>("default").list(&ListParams::default()).await.expect("sets").items;
    assert_eq!(sets.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_are_replaced_and_never_doubled() {
    let cluster = Cluster::start().await;
    cluster.create::<Deployment>("default", deployment("web", 4)).await;
    rolled_out(&cluster, "web", 4).await;
    let made = Arc::new(AtomicUsize::new(0));
    let counter = made.clone();
    let subscription = cluster.operator.informer::<Pod>().subscribe(move |change| {
        if let gantry_operator::Change::Applied { old: None, .. } = change {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    });
    let there = made.load(Ordering::Relaxed);
    let victim = cluster.pods("default").await.remove(0);
    cluster.api::<Pod>("default").delete(&victim.name_any(), &Default::default()).await.expect("deleted");
    eventually("a replacement", || async {
        let pods = cluster.pods("default").await;
        let replaced = pods.len() == 4 && pods.iter().all(|pod| pod.name_any() != victim.name_any());
        replaced.then_some(())
    })
    .await;
    rolled_out(&cluster, "web", 4).await;
    drop(subscription);
    assert_eq!(made.load(Ordering::Relaxed) - there, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_version_leaves_the_old_one_serving() {
    let cluster = Cluster::start().await;
    cluster.create::<Deployment>("default", deployment("web", 2)).await;
    rolled_out(&cluster, "web", 2).await;
    patch(
        &cluster,
        "web",
        json!({ "spec": { "template": { "metadata": { "labels": { "broken": "yes" } } } } }),
    )
    .await;
    eventually("the broken pod", || async { (cluster.pods("default").await.len() == 3).then_some(()) }).await;
    let status = cluster.api::<Deployment>("default").get("web").await.expect("a deployment").status;
    assert_eq!(status.and_then(|status| status.available_replicas), Some(2));
    patch(
        &cluster,
        "web",
        json!({ "spec": { "template": { "metadata": { "labels": { "broken": null } } } } }),
    )
    .await;
    rolled_out(&cluster, "web", 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_is_born_with_an_account_and_the_certificate() {
    let cluster = Cluster::start().await;
    eventually("the account", || async {
        cluster.api::<ServiceAccount>("default").get("default").await.ok()
    })
    .await;
    let map = eventually("the certificate", || async {
        cluster.api::<ConfigMap>("default").get("kube-root-ca.crt").await.ok()
    })
    .await;
    assert_eq!(map.data.and_then(|data| data.get("ca.crt").cloned()).as_deref(), Some("certificate"));
}
