//! Slices and Endpoints from Services and pods.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

use super::slices::plan;
use super::view::backends;
use super::{legacy, slices};

fn service(spec: Value) -> Service {
    serde_json::from_value(json!({
        "metadata": { "name": "web", "namespace": "team", "uid": "s", "labels": { "tier": "front" } },
        "spec": spec,
    }))
    .expect("a service")
}

fn web() -> Service {
    service(
        json!({ "selector": { "app": "web" }, "ports": [{ "name": "http", "port": 80, "targetPort": "main" }] }),
    )
}

fn pod(name: &str, ip: &str, ready: bool, port: i32) -> Pod {
    let ready = if ready { "True" } else { "False" };
    serde_json::from_value(json!({
        "metadata": { "name": name, "namespace": "team", "uid": name, "labels": { "app": "web" } },
        "spec": { "nodeName": "n", "containers": [
            { "name": "c", "ports": [{ "name": "main", "containerPort": port }] }
        ]},
        "status": { "podIP": ip, "phase": "Running", "conditions": [{ "type": "Ready", "status": ready }] },
    }))
    .expect("a pod")
}

fn pods(pods: &[Pod]) -> Vec<Arc<Pod>> {
    pods.iter().cloned().map(Arc::new).collect()
}

/// Plans, and carries the plan out.
fn apply(service: &Service, pods: &[Arc<Pod>], slices: &mut Vec<Arc<EndpointSlice>>) -> slices::SlicePlan {
    let plan = plan(service, &backends(service, pods), slices);
    for deleted in &plan.delete {
        slices.retain(|known| known.metadata.name != deleted.metadata.name);
    }
    for updated in &plan.update {
        let known = slices.iter_mut().find(|known| known.metadata.name == updated.metadata.name);
        *known.expect("a slice that exists") = Arc::new(updated.clone());
    }
    for created in &plan.create {
        let mut created = created.clone();
        created.metadata.name = Some(format!("web-{}", slices.len()));
        slices.push(Arc::new(created));
    }
    plan
}

fn summary(slices: &[Arc<EndpointSlice>]) -> Vec<(Vec<i32>, Vec<String>)> {
    let mut all: Vec<_> = slices
        .iter()
        .map(|slice| {
            let ports = slice.ports.iter().flatten().filter_map(|port| port.port).collect();
            let endpoints = slice.endpoints.iter().flatten().map(|endpoint| {
                let conditions = endpoint.conditions.clone().unwrap_or_default();
                let flag = |value: Option<bool>, letter: &str| {
                    value.filter(|set| *set).map_or("", |_| "x").replace('x', letter)
                };
                format!(
                    "{} {}{}{}",
                    endpoint.addresses.join(","),
                    flag(conditions.ready, "r"),
                    flag(conditions.serving, "s"),
                    flag(conditions.terminating, "t")
                )
            });
            (ports, endpoints.collect())
        })
        .collect();
    all.sort();
    all
}

#[test]
fn pods_become_endpoints_with_their_conditions() {
    let mut leaving = pod("c", "127.9.0.3", true, 8080);
    leaving.metadata.deletion_timestamp = Some(gantry_operator::time_from_ms(0));
    let mut over = pod("d", "127.9.0.4", true, 8080);
    over.status.get_or_insert_default().phase = Some("Succeeded".to_owned());
    let mut no_address = pod("e", "", true, 8080);
    no_address.status.get_or_insert_default().pod_ip = None;
    let all = pods(&[
        pod("a", "127.9.0.1", true, 8080),
        pod("b", "127.9.0.2", false, 8080),
        leaving,
        over,
        no_address,
    ]);
    let mut slices = Vec::new();
    apply(&web(), &all, &mut slices);
    let endpoints = ["127.9.0.1 rs", "127.9.0.2 ", "127.9.0.3 st"].map(str::to_owned).to_vec();
    assert_eq!(summary(&slices), [(vec![8080], endpoints)]);
    let labels = slices[0].metadata.labels.clone().unwrap_or_default();
    assert_eq!(labels.get(slices::SERVICE_LABEL).map(String::as_str), Some("web"));
    assert_eq!(labels.get("tier").map(String::as_str), Some("front"));
}

#[test]
fn a_second_plan_changes_nothing() {
    let all = pods(&[pod("a", "127.9.0.1", true, 8080), pod("b", "127.9.0.2", true, 9090)]);
    let mut slices = Vec::new();
    assert_eq!(apply(&web(), &all, &mut slices).create.len(), 2, "one slice for each port number");
    assert_eq!(apply(&web(), &all, &mut slices), slices::SlicePlan::default());
}

#[test]
fn without_backends_one_empty_slice_stays() {
    let mut slices = Vec::new();
    apply(&web(), &[], &mut slices);
    assert_eq!(summary(&slices), [(vec![], vec![])]);
    assert_eq!(apply(&web(), &[], &mut slices), slices::SlicePlan::default());
    apply(&web(), &pods(&[pod("a", "127.9.0.1", true, 8080)]), &mut slices);
    assert_eq!(summary(&slices), [(vec![8080], vec!["127.9.0.1 rs".to_owned()])]);
    apply(&web(), &[], &mut slices);
    assert_eq!(summary(&slices), [(vec![], vec![])]);
}

#[test]
fn many_backends_fill_slices_of_a_hundred_and_stay_where_they_are() {
    let mut all: Vec<Pod> =
        (0..250).map(|index| pod(&format!("p{index}"), &format!("127.9.{index}.1"), true, 8080)).collect();
    let mut slices = Vec::new();
    apply(&web(), &pods(&all), &mut slices);
    let sizes = |slices: &[Arc<EndpointSlice>]| {
        slices.iter().map(|slice| slice.endpoints.iter().flatten().count()).collect::<Vec<_>>()
    };
    assert_eq!(sizes(&slices), [100, 100, 50]);
    let gone = slices[0].endpoints.clone().unwrap_or_default()[7].addresses[0].clone();
    all.retain(|pod| pod.status.as_ref().and_then(|status| status.pod_ip.as_deref()) != Some(&gone));
    let plan = apply(&web(), &pods(&all), &mut slices);
    assert_eq!((plan.create.len(), plan.update.len(), plan.delete.len()), (0, 1, 0), "one pod, one write");
    assert_eq!(sizes(&slices), [99, 100, 50]);
}

#[test]
fn unready_pods_can_be_published_and_named() {
    let headless = service(json!({
        "selector": { "app": "web" }, "clusterIP": "None", "publishNotReadyAddresses": true,
        "ports": [{ "port": 80 }],
    }));
    let mut member = pod("db-0", "127.9.0.1", false, 8080);
    let spec = member.spec.get_or_insert_default();
    spec.hostname = Some("db-0".to_owned());
    spec.subdomain = Some("web".to_owned());
    let mut slices = Vec::new();
    apply(&headless, &pods(&[member]), &mut slices);
    assert_eq!(summary(&slices), [(vec![80], vec!["127.9.0.1 r".to_owned()])]);
    assert_eq!(slices[0].endpoints.clone().unwrap_or_default()[0].hostname.as_deref(), Some("db-0"));
    assert!(
        slices[0]
            .metadata
            .labels
            .as_ref()
            .is_some_and(|labels| labels.contains_key("service.kubernetes.io/headless"))
    );
}

#[test]
fn the_endpoints_object_tells_ready_from_not_ready() {
    let all = pods(&[pod("a", "127.9.0.1", true, 8080), pod("b", "127.9.0.2", false, 8080)]);
    let service = web();
    let object = legacy::wanted(&service, &backends(&service, &all), None).expect("a new object");
    let subset = object.subsets.clone().unwrap_or_default().remove(0);
    let addresses = |list: Option<Vec<k8s_openapi::api::core::v1::EndpointAddress>>| {
        list.unwrap_or_default().into_iter().map(|address| address.ip).collect::<Vec<_>>()
    };
    assert_eq!(addresses(subset.addresses), ["127.9.0.1"]);
    assert_eq!(addresses(subset.not_ready_addresses), ["127.9.0.2"]);
    assert_eq!(legacy::wanted(&service, &backends(&service, &all), Some(&Arc::new(object))), None);
}

#[test]
fn services_without_selector_are_left_to_their_users() {
    let manual = service(json!({ "ports": [{ "port": 80 }] }));
    assert!(backends(&manual, &pods(&[pod("a", "127.9.0.1", true, 8080)])).is_empty());
}
