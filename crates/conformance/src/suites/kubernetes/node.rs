//! A node that only pretends: it takes every pod, says that it runs, and lets it go when it is deleted.

use std::time::Duration;

use gantry_apimachinery::time;
use gantry_clock::{Clock, SystemClock};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

const NAME: &str = "node-0";
const INTERVAL: Duration = Duration::from_millis(150);

/// Runs until it is dropped. What fails is tried again with the next round.
pub(super) async fn run(client: Client) {
    let nodes: Api<Node> = Api::all(client.clone());
    let labels = json!({ "kubernetes.io/hostname": NAME });
    let node = json!({ "metadata": { "name": NAME, "labels": labels } });
    if let Ok(node) = serde_json::from_value(node) {
        let _ = nodes.create(&PostParams::default(), &node).await;
    }
    let mut pods_seen: u32 = 1;
    for round in 0_u32.. {
        if round % 30 == 0 {
            let status = json!({ "status": node_status() });
            let _ = nodes.patch_status(NAME, &PatchParams::default(), &Patch::Strategic(status)).await;
        }
        let all: Api<Pod> = Api::all(client.clone());
        let pods = all.list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default();
        for pod in pods {
            pods_seen += 1;
            step(&client, &pod, pods_seen).await;
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

async fn step(client: &Client, pod: &Pod, number: u32) {
    let name = pod.name_any();
    let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    if pod.metadata.deletion_timestamp.is_some() {
        let _ = api.delete(&name, &DeleteParams::default().grace_period(0)).await;
        return;
    }
    let is_bound = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
    if !is_bound {
        let binding = json!({
            "metadata": { "name": name },
            "target": { "apiVersion": "v1", "kind": "Node", "name": NAME },
        });
        let _: Result<Value, _> =
            api.create_subresource("binding", &name, &PostParams::default(), &binding).await;
        return;
    }
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    if phase == Some("Pending") {
        let status = json!({ "status": pod_status(pod, number) });
        let _ = api.patch_status(&name, &PatchParams::default(), &Patch::Strategic(status)).await;
    }
}

fn now() -> Value {
    json!(time::format_time(SystemClock::new().now_ms()))
}

fn node_status() -> Value {
    json!({
        "capacity": { "cpu": "8", "memory": "16Gi", "pods": "110" },
        "allocatable": { "cpu": "8", "memory": "16Gi", "pods": "110" },
        "conditions": [{
            "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "ok",
            "lastHeartbeatTime": now(), "lastTransitionTime": now(),
        }],
        "addresses": [
            { "type": "InternalIP", "address": "127.0.0.1" },
            { "type": "Hostname", "address": NAME },
        ],
        "nodeInfo": {
            "architecture": "amd64", "bootID": "b", "containerRuntimeVersion": "fake://1", "kernelVersion": "6",
            "kubeProxyVersion": "", "kubeletVersion": "v1.36.2", "machineID": "m", "operatingSystem": "linux",
            "osImage": "fake", "systemUUID": "s",
        },
    })
}

fn pod_status(pod: &Pod, number: u32) -> Value {
    let is_job = pod.owner_references().iter().any(|owner| owner.kind == "Job");
    let state = match is_job {
        true => json!({ "terminated": {
            "exitCode": 0, "reason": "Completed", "startedAt": now(), "finishedAt": now(),
        } }),
        false => json!({ "running": { "startedAt": now() } }),
    };
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers).map(|container| {
        json!({
            "name": container.name, "image": container.image, "imageID": "fake",
            "containerID": format!("fake://{number}"), "ready": !is_job, "started": !is_job,
            "restartCount": 0, "state": state,
        })
    });
    let ready = if is_job { "False" } else { "True" };
    let conditions = ["PodScheduled", "Initialized", "ContainersReady", "Ready"].map(|kind| {
        let status = if kind == "PodScheduled" { "True" } else { ready };
        json!({ "type": kind, "status": status, "lastTransitionTime": now() })
    });
    let ip = format!("10.1.0.{}", number % 250);
    json!({
        "phase": if is_job { "Succeeded" } else { "Running" },
        "startTime": now(), "hostIP": "127.0.0.1", "podIP": ip, "podIPs": [{ "ip": ip }],
        "containerStatuses": containers.collect::<Vec<_>>(), "conditions": conditions,
    })
}
