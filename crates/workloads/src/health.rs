//! Whether workloads are as their authors want them: what `up` waits for, and what `status` and the console show.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use serde::Serialize;

/// One Deployment, StatefulSet, DaemonSet, Job, or Pod that belongs to none of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Workload {
    pub kind: &'static str,
    pub namespace: String,
    pub name: String,
    pub desired: i32,
    pub ready: i32,
    /// Whether the controller has seen the newest spec and every wanted pod is ready.
    pub healthy: bool,
    /// Why not, in the words of the pod or condition that holds it up. Empty when healthy.
    pub reason: String,
}

/// All workloads of the cluster, by namespace, kind and name.
pub async fn survey(client: &Client) -> Result<Vec<Workload>, kube::Error> {
    let everything = ListParams::default();
    let pods = Api::<Pod>::all(client.clone()).list(&everything).await?.items;
    let mut workloads = Vec::new();
    for deployment in Api::<Deployment>::all(client.clone()).list(&everything).await?.items {
        workloads.push(of_deployment(&deployment, &pods));
    }
    for set in Api::<StatefulSet>::all(client.clone()).list(&everything).await?.items {
        workloads.push(of_stateful_set(&set, &pods));
    }
    for set in Api::<DaemonSet>::all(client.clone()).list(&everything).await?.items {
        workloads.push(of_daemon_set(&set, &pods));
    }
    for job in Api::<Job>::all(client.clone()).list(&everything).await?.items {
        workloads.push(of_job(&job));
    }
    let lone = |pod: &&Pod| pod.metadata.owner_references.as_ref().is_none_or(Vec::is_empty);
    workloads.extend(pods.iter().filter(lone).map(of_pod));
    workloads.sort_by(|a, b| (&a.namespace, a.kind, &a.name).cmp(&(&b.namespace, b.kind, &b.name)));
    Ok(workloads)
}

pub fn of_deployment(deployment: &Deployment, pods: &[Pod]) -> Workload {
    let spec = deployment.spec.as_ref();
    let status = deployment.status.as_ref();
    let desired = spec.and_then(|spec| spec.replicas).unwrap_or(1);
    let ready = status.and_then(|status| status.ready_replicas).unwrap_or(0);
    let updated = status.and_then(|status| status.updated_replicas).unwrap_or(0);
    let total = status.and_then(|status| status.replicas).unwrap_or(0);
    let seen = seen(deployment.metadata.generation, status.and_then(|status| status.observed_generation));
    let healthy = seen && ready >= desired && updated >= desired && total == updated;
    let reason = || {
        waiting_pod(pods, &deployment.namespace().unwrap_or_default(), spec.map(|spec| &spec.selector))
            .unwrap_or_else(|| format!("{ready} of {desired} ready, {updated} updated"))
    };
    workload("Deployment", deployment, desired, ready, healthy, reason)
}

pub fn of_stateful_set(set: &StatefulSet, pods: &[Pod]) -> Workload {
    let spec = set.spec.as_ref();
    let status = set.status.as_ref();
    let desired = spec.and_then(|spec| spec.replicas).unwrap_or(1);
    let ready = status.and_then(|status| status.ready_replicas).unwrap_or(0);
    let seen = seen(set.metadata.generation, status.and_then(|status| status.observed_generation));
    let reason = || {
        waiting_pod(pods, &set.namespace().unwrap_or_default(), spec.map(|spec| &spec.selector))
            .unwrap_or_else(|| format!("{ready} of {desired} ready"))
    };
    workload("StatefulSet", set, desired, ready, seen && ready >= desired, reason)
}

pub fn of_daemon_set(set: &DaemonSet, pods: &[Pod]) -> Workload {
    let status = set.status.as_ref();
    let desired = status.map_or(0, |status| status.desired_number_scheduled);
    let ready = status.map_or(0, |status| status.number_ready);
    let seen = seen(set.metadata.generation, status.and_then(|status| status.observed_generation));
    let selector = set.spec.as_ref().map(|spec| &spec.selector);
    let reason = || {
        waiting_pod(pods, &set.namespace().unwrap_or_default(), selector)
            .unwrap_or_else(|| format!("{ready} of {desired} ready"))
    };
    workload("DaemonSet", set, desired, ready, seen && ready >= desired, reason)
}

/// A Job is healthy while it works and when it is complete; it is not when it has failed.
pub fn of_job(job: &Job) -> Workload {
    let status = job.status.as_ref();
    let desired = job.spec.as_ref().and_then(|spec| spec.completions).unwrap_or(1);
    let succeeded = status.and_then(|status| status.succeeded).unwrap_or(0);
    let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let failed =
        conditions.iter().find(|condition| condition.type_ == "Failed" && condition.status == "True");
    let reason =
        || failed.and_then(|condition| condition.message.clone()).unwrap_or_else(|| "failed".to_owned());
    workload("Job", job, desired, succeeded, failed.is_none(), reason)
}

pub fn of_pod(pod: &Pod) -> Workload {
    let done = pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Succeeded"));
    let ready = is_ready(pod);
    let reason = || why_not_ready(pod).unwrap_or_else(|| "not ready".to_owned());
    workload("Pod", pod, 1, i32::from(ready), ready || done, reason)
}

fn seen(generation: Option<i64>, observed: Option<i64>) -> bool {
    observed.unwrap_or(0) >= generation.unwrap_or(0)
}

fn workload<K: ResourceExt>(
    kind: &'static str,
    object: &K,
    desired: i32,
    ready: i32,
    healthy: bool,
    reason: impl FnOnce() -> String,
) -> Workload {
    Workload {
        kind,
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
        desired,
        ready,
        healthy,
        reason: if healthy { String::new() } else { reason() },
    }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// What the first unready pod of the selector waits for.
fn waiting_pod(pods: &[Pod], namespace: &str, selector: Option<&LabelSelector>) -> Option<String> {
    let labels: &BTreeMap<String, String> = selector?.match_labels.as_ref()?;
    let belongs = |pod: &&Pod| {
        pod.namespace().as_deref() == Some(namespace)
            && labels.iter().all(|(key, value)| pod.labels().get(key) == Some(value))
    };
    pods.iter().filter(belongs).filter(|pod| !is_ready(pod)).find_map(|pod| {
        let why = why_not_ready(pod)?;
        Some(format!("pod {}: {why}", pod.name_any()))
    })
}

/// The most telling part of a pod's status: a waiting container, then a terminated one, then a false condition.
fn why_not_ready(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let containers = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    for container in containers {
        let Some(state) = &container.state else { continue };
        if let Some(waiting) = &state.waiting {
            let reason = waiting.reason.as_deref().unwrap_or("waiting");
            let message = waiting.message.as_deref().map(|text| format!(": {text}")).unwrap_or_default();
            return Some(format!("container {}: {reason}{message}", container.name));
        }
        if let Some(ended) = state.terminated.as_ref().filter(|ended| ended.exit_code != 0) {
            return Some(format!("container {} ended with code {}", container.name, ended.exit_code));
        }
    }
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let explained =
        conditions.iter().find(|condition| condition.status == "False" && condition.message.is_some());
    explained.and_then(|condition| condition.message.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn deployment(value: serde_json::Value) -> Deployment {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_deployment_is_healthy_when_every_pod_is_new_and_ready() {
        let mut object = json!({
            "metadata": {"name": "web", "namespace": "shop", "generation": 2},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": {}},
            "status": {"observedGeneration": 2, "replicas": 2, "readyReplicas": 2, "updatedReplicas": 2}
        });
        assert!(of_deployment(&deployment(object.clone()), &[]).healthy);
        object["status"]["replicas"] = json!(3);
        assert!(!of_deployment(&deployment(object.clone()), &[]).healthy, "an old pod is still there");
        object["status"]["replicas"] = json!(2);
        object["metadata"]["generation"] = json!(3);
        assert!(
            !of_deployment(&deployment(object), &[]).healthy,
            "the controller has not seen the newest spec"
        );
    }

    #[test]
    fn the_waiting_container_explains_it() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "web-1", "namespace": "shop", "labels": {"app": "web"}},
            "status": {"containerStatuses": [{
                "name": "main", "image": "x", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}
            }]}
        }))
        .unwrap();
        let object = deployment(json!({
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": {}}
        }));
        let found = of_deployment(&object, &[pod]);
        assert_eq!(found.reason, "pod web-1: container main: CrashLoopBackOff: back-off 10s");
    }
}
