//! Jobs, CronJobs, StatefulSets and DaemonSets.

use k8s_openapi::api::apps::v1::{DaemonSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::cluster::{Cluster, eventually};

fn spec(more: Value) -> Value {
    let mut spec = json!({
        "selector": { "matchLabels": { "app": "it" } },
        "template": {
            "metadata": { "labels": { "app": "it" } },
            "spec": { "containers": [{ "name": "main", "image": "it:1" }] },
        },
    });
    for (field, value) in more.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    spec
}

fn job(ends: &str, more: Value) -> Value {
    let mut spec = json!({ "template": {
        "metadata": { "labels": { "ends": ends } },
        "spec": { "restartPolicy": "Never", "containers": [{ "name": "main", "image": "it:1" }] },
    }});
    for (field, value) in more.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    json!({ "metadata": { "name": "work" }, "spec": spec })
}

async fn ended(cluster: &Cluster, kind: &str) -> Job {
    eventually(kind, || async {
        let job = cluster.api::<Job>("default").get("work").await.ok()?;
        let conditions = job.status.as_ref()?.conditions.clone()?;
        conditions
            .iter()
            .any(|condition| condition.type_ == kind && condition.status == "True")
            .then_some(job)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_runs_to_its_completions() {
    let cluster = Cluster::start().await;
    let indexed = json!({ "completions": 5, "parallelism": 2, "completionMode": "Indexed" });
    cluster.create::<Job>("default", job("Succeeded", indexed)).await;
    let status = ended(&cluster, "Complete").await.status.unwrap_or_default();
    assert_eq!((status.succeeded, status.completed_indexes.as_deref()), (Some(5), Some("0-4")));
    assert_eq!(cluster.pods("default").await.len(), 5, "no pod was made twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_fails_is_given_up_and_removed() {
    let cluster = Cluster::start().await;
    cluster.create::<Job>("default", job("Failed", json!({ "backoffLimit": 0 }))).await;
    ended(&cluster, "Failed").await;
    let patch = Patch::Merge(json!({ "spec": { "ttlSecondsAfterFinished": 0 } }));
    cluster.api::<Job>("default").patch("work", &PatchParams::default(), &patch).await.expect("patched");
    eventually("the job and its pods to go", || async {
        let gone = cluster.api::<Job>("default").get_opt("work").await.expect("an answer").is_none();
        (gone && cluster.pods("default").await.is_empty()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stateful_set_comes_up_in_order_and_updates_from_the_end() {
    let cluster = Cluster::start().await;
    let value =
        json!({ "metadata": { "name": "db" }, "spec": spec(json!({ "replicas": 3, "serviceName": "db" })) });
    cluster.create::<StatefulSet>("default", value).await;
    let updated = |image: &'static str| {
        let cluster = &cluster;
        async move {
            eventually(image, || async {
                let set = cluster.api::<StatefulSet>("default").get("db").await.ok()?;
                let status = set.status?;
                let done = status.observed_generation == set.metadata.generation
                    && status.ready_replicas == Some(3)
                    && status.updated_replicas == Some(3)
                    && status.current_revision == status.update_revision;
                done.then_some(())
            })
            .await;
        }
    };
    updated("the first version").await;
    let mut pods = cluster.pods("default").await;
    pods.sort_by_key(|pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0));
    let mut names: Vec<String> = pods.iter().map(ResourceExt::name_any).collect();
    names.sort();
    assert_eq!(names, ["db-0", "db-1", "db-2"]);
    let uids: Vec<_> = pods.iter().map(ResourceExt::uid).collect();
    let patch = Patch::Merge(json!({ "spec": { "template": { "spec": { "containers": [
        { "name": "main", "image": "it:2" }
    ]}}}}));
    cluster
        .api::<StatefulSet>("default")
        .patch("db", &PatchParams::default(), &patch)
        .await
        .expect("patched");
    updated("the second version").await;
    let pods = cluster.pods("default").await;
    assert_eq!(pods.len(), 3);
    assert!(pods.iter().all(|pod| !uids.contains(&pod.uid())), "all were replaced");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_set_has_a_pod_on_each_node() {
    let cluster = Cluster::start().await;
    cluster
        .create::<DaemonSet>("default", json!({ "metadata": { "name": "agent" }, "spec": spec(json!({})) }))
        .await;
    let ready = |count: i32| {
        let cluster = &cluster;
        async move {
            eventually(&format!("{count} ready"), || async {
                let status = cluster.api::<DaemonSet>("default").get("agent").await.ok()?.status?;
                (status.number_ready == count && status.desired_number_scheduled == count).then_some(())
            })
            .await;
        }
    };
    ready(1).await;
    cluster.add_node("second").await;
    ready(2).await;
    let mut nodes: Vec<_> = cluster
        .pods("default")
        .await
        .into_iter()
        .filter_map(|pod| pod.spec.and_then(|spec| spec.node_name))
        .collect();
    nodes.sort();
    assert_eq!(nodes, ["only", "second"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cron_job_makes_jobs_and_keeps_the_newest() {
    let cluster = Cluster::start().await;
    let template = job("Succeeded", json!({}))["spec"].clone();
    // Forbid: on a machine that needs longer than a second for a run, runs must not pile up.
    let cron = json!({ "metadata": { "name": "tick" }, "spec": {
        "schedule": "@every 1s", "concurrencyPolicy": "Forbid", "successfulJobsHistoryLimit": 1,
        "jobTemplate": { "spec": template },
    }});
    cluster.create::<CronJob>("default", cron).await;
    let complete = || async {
        let jobs = cluster.api::<Job>("default").list(&Default::default()).await.ok()?.items;
        let complete = jobs
            .into_iter()
            .filter(|job| job.status.as_ref().is_some_and(|status| status.completion_time.is_some()));
        Some(complete.filter_map(|job| job.metadata.name).collect::<Vec<_>>())
    };
    let (first, names) = eventually("the first run's end", || async {
        let cron = cluster.api::<CronJob>("default").get("tick").await.ok()?;
        let names = complete().await.filter(|names| !names.is_empty())?;
        Some((cron.status?.last_successful_time?, names))
    })
    .await;
    eventually("a later run, and the earlier one forgotten", || async {
        let cron = cluster.api::<CronJob>("default").get("tick").await.ok()?;
        let later = cron.status?.last_successful_time?.0 > first.0;
        let kept = complete().await?;
        (later && !kept.is_empty() && !kept.iter().any(|name| names.contains(name))).then_some(())
    })
    .await;
    let suspend = Patch::Merge(json!({ "spec": { "suspend": true } }));
    cluster
        .api::<CronJob>("default")
        .patch("tick", &PatchParams::default(), &suspend)
        .await
        .expect("suspended");
}
