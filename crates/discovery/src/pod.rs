//! Role `pod`: a target for each port of each container.

use gantry_scrape::TargetGroup;
use k8s_openapi::api::core::v1::{Container, Pod};
use kube::ResourceExt;

use crate::labels::{Meta, join_host_port};

/// The labels that all targets of a pod share, also when another role attaches them.
pub(crate) fn describe(meta: &mut Meta, pod: &Pod) {
    let status = pod.status.as_ref();
    let text = |value: Option<&String>| value.map(String::as_str).unwrap_or_default().to_owned();
    meta.object("pod", &pod.metadata)
        .set("pod_ip", &text(status.and_then(|status| status.pod_ip.as_ref())))
        .set("pod_ready", &ready(pod))
        .set("pod_phase", &text(status.and_then(|status| status.phase.as_ref())))
        .set("pod_node_name", &text(pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref())))
        .set("pod_host_ip", &text(status.and_then(|status| status.host_ip.as_ref())))
        .set("pod_uid", &text(pod.metadata.uid.as_ref()));
    if let Some(controller) = pod.owner_references().iter().find(|owner| owner.controller == Some(true)) {
        meta.set("pod_controller_kind", &controller.kind).set("pod_controller_name", &controller.name);
    }
}

fn ready(pod: &Pod) -> String {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .find(|condition| condition.type_ == "Ready")
        .map_or_else(|| "unknown".to_owned(), |condition| condition.status.to_lowercase())
}

/// A pod's containers, the flag saying which are init containers.
pub(crate) fn containers(pod: &Pod) -> impl Iterator<Item = (&Container, bool)> {
    let spec = pod.spec.as_ref();
    let main = spec.into_iter().flat_map(|spec| &spec.containers).map(|container| (container, false));
    let init = spec.into_iter().flat_map(|spec| spec.init_containers.iter().flatten());
    main.chain(init.map(|container| (container, true)))
}

/// The labels of a container, and of one of its ports.
pub(crate) fn describe_container(meta: &mut Meta, pod: &Pod, container: &Container, is_init: bool) {
    let status = pod.status.as_ref();
    let statuses = if is_init {
        status.and_then(|status| status.init_container_statuses.as_ref())
    } else {
        status.and_then(|status| status.container_statuses.as_ref())
    };
    let id = statuses
        .into_iter()
        .flatten()
        .find(|status| status.name == container.name)
        .and_then(|status| status.container_id.as_deref());
    meta.set("pod_container_name", &container.name)
        .set_some("pod_container_id", id)
        .set_some("pod_container_image", container.image.as_deref())
        .set("pod_container_init", if is_init { "true" } else { "false" });
}

/// The targets of a pod; none before it has an address.
pub(crate) fn group(pod: &Pod) -> TargetGroup {
    let mut shared = Meta::default();
    describe(&mut shared, pod);
    let mut targets = Vec::new();
    let address = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref()).unwrap_or("");
    for (container, is_init) in containers(pod) {
        if address.is_empty() {
            break;
        }
        let mut meta = Meta::default();
        describe_container(&mut meta, pod, container, is_init);
        let ports = container.ports.as_deref().unwrap_or_default();
        if ports.is_empty() {
            // Without a port there is still one target: relabelling may give it one.
            targets.push(meta.plain("__address__", address).build().into());
        }
        for port in ports {
            let mut meta = Meta::default();
            describe_container(&mut meta, pod, container, is_init);
            meta.plain("__address__", &join_host_port(address, port.container_port))
                .set_some("pod_container_port_name", port.name.as_deref())
                .set("pod_container_port_number", &port.container_port.to_string())
                .set("pod_container_port_protocol", port.protocol.as_deref().unwrap_or("TCP"));
            targets.push(meta.build().into());
        }
    }
    TargetGroup { source: String::new(), labels: shared.build(), targets }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(value: serde_json::Value) -> Pod {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_target_for_each_port() {
        let pod = pod(serde_json::json!({
            "metadata": {
                "namespace": "shop", "name": "catalog-1", "uid": "u-1",
                "labels": {"app.kubernetes.io/name": "catalog"},
                "annotations": {"prometheus.io/scrape": "true"},
                "ownerReferences": [
                    {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "catalog", "uid": "r", "controller": true}
                ]
            },
            "spec": {
                "nodeName": "laptop",
                "containers": [
                    {"name": "web", "image": "catalog:1", "ports": [
                        {"name": "http", "containerPort": 8080, "protocol": "TCP"},
                        {"containerPort": 9090}
                    ]},
                    {"name": "side", "image": "side:2"}
                ],
                "initContainers": [{"name": "init", "image": "init:3"}]
            },
            "status": {
                "phase": "Running", "podIP": "127.1.0.5", "hostIP": "127.0.0.1",
                "conditions": [{"type": "Ready", "status": "True"}],
                "containerStatuses": [{
                    "name": "web", "containerID": "process://42", "image": "", "imageID": "", "ready": true,
                    "restartCount": 0
                }]
            }
        }));
        let group = group(&pod);
        let shared: Vec<String> =
            group.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            shared,
            [
                "__meta_kubernetes_namespace=shop",
                "__meta_kubernetes_pod_annotation_prometheus_io_scrape=true",
                "__meta_kubernetes_pod_annotationpresent_prometheus_io_scrape=true",
                "__meta_kubernetes_pod_controller_kind=ReplicaSet",
                "__meta_kubernetes_pod_controller_name=catalog",
                "__meta_kubernetes_pod_host_ip=127.0.0.1",
                "__meta_kubernetes_pod_ip=127.1.0.5",
                "__meta_kubernetes_pod_label_app_kubernetes_io_name=catalog",
                "__meta_kubernetes_pod_labelpresent_app_kubernetes_io_name=true",
                "__meta_kubernetes_pod_name=catalog-1",
                "__meta_kubernetes_pod_node_name=laptop",
                "__meta_kubernetes_pod_phase=Running",
                "__meta_kubernetes_pod_ready=true",
                "__meta_kubernetes_pod_uid=u-1",
            ]
        );
        let addresses: Vec<_> =
            group.targets.iter().map(|target| target.labels.get("__address__").unwrap()).collect();
        assert_eq!(addresses, ["127.1.0.5:8080", "127.1.0.5:9090", "127.1.0.5", "127.1.0.5"]);
        assert_eq!(
            group.targets[0].labels.to_string(),
            "{__address__=\"127.1.0.5:8080\", __meta_kubernetes_pod_container_id=\"process://42\", \
             __meta_kubernetes_pod_container_image=\"catalog:1\", __meta_kubernetes_pod_container_init=\"false\", \
             __meta_kubernetes_pod_container_name=\"web\", __meta_kubernetes_pod_container_port_name=\"http\", \
             __meta_kubernetes_pod_container_port_number=\"8080\", \
             __meta_kubernetes_pod_container_port_protocol=\"TCP\"}"
        );
        assert_eq!(group.targets[3].labels.get("__meta_kubernetes_pod_container_init"), Some("true"));
    }

    #[test]
    fn no_targets_before_there_is_an_address() {
        let pod = pod(serde_json::json!({
            "metadata": {"namespace": "a", "name": "b"},
            "spec": {"containers": [{"name": "c"}]}
        }));
        assert!(group(&pod).targets.is_empty());
    }
}
