//! Roles `endpoints` and `endpointslice`: a target for each address and port, with the labels of its pod and service.

use std::collections::HashSet;
use std::sync::Arc;

use gantry_operator::{Informers, Key};
use gantry_scrape::{Discovered, TargetGroup};
use k8s_openapi::api::core::v1::{EndpointAddress, Endpoints, ObjectReference, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::core::ObjectMeta;

use crate::labels::{Meta, join_host_port};
use crate::pod;

/// The service that a slice belongs to.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Pods and services to attach.
#[derive(Clone)]
pub(crate) struct Attached {
    pub(crate) pods: gantry_operator::Informer<Pod>,
    pub(crate) services: gantry_operator::Informer<Service>,
}

impl Attached {
    pub(crate) fn new(informers: &Informers) -> Attached {
        Attached { pods: informers.of(), services: informers.of() }
    }

    fn pod(&self, namespace: &str, reference: Option<&ObjectReference>) -> Option<Arc<Pod>> {
        let reference = reference.filter(|reference| reference.kind.as_deref() == Some("Pod"))?;
        let namespace = reference.namespace.as_deref().unwrap_or(namespace);
        self.pods.get(&Key::new(namespace, reference.name.as_deref()?))
    }

    fn describe_service(&self, meta: &mut Meta, namespace: &str, name: &str) {
        if let Some(service) = self.services.get(&Key::new(namespace, name)) {
            meta.set("service_name", name).details("service", &service.metadata);
        }
    }
}

/// One address and port before its pod is attached.
struct Place<'a> {
    meta: Meta,
    address: &'a str,
    port: i32,
    pod: Option<Arc<Pod>>,
}

/// Targets of the places, and of the ports that their pods have beside them.
fn targets(places: Vec<Place<'_>>) -> Vec<Discovered> {
    let mut found: Vec<Discovered> = Vec::new();
    let mut pods: Vec<Arc<Pod>> = Vec::new();
    let mut seen: HashSet<(String, i32)> = HashSet::new();
    for mut place in places {
        place.meta.plain("__address__", &join_host_port(place.address, place.port));
        if let Some(attached) = &place.pod {
            pod::describe(&mut place.meta, attached);
            for (container, is_init) in pod::containers(attached) {
                let ports = container.ports.iter().flatten();
                if let Some(port) = ports.into_iter().find(|port| port.container_port == place.port) {
                    pod::describe_container(&mut place.meta, attached, container, is_init);
                    place
                        .meta
                        .set_some("pod_container_port_name", port.name.as_deref())
                        .set("pod_container_port_number", &port.container_port.to_string())
                        .set("pod_container_port_protocol", port.protocol.as_deref().unwrap_or("TCP"));
                    break;
                }
            }
            seen.insert((place.address.to_owned(), place.port));
            if !pods.iter().any(|known| {
                known.metadata.uid == attached.metadata.uid && known.metadata.name == attached.metadata.name
            }) {
                pods.push(attached.clone());
            }
        }
        found.push(place.meta.build().into());
    }
    for attached in pods {
        let Some(address) = attached.status.as_ref().and_then(|status| status.pod_ip.as_deref()) else {
            continue;
        };
        for (container, is_init) in pod::containers(&attached) {
            for port in container.ports.iter().flatten() {
                if !seen.insert((address.to_owned(), port.container_port)) {
                    continue;
                }
                let mut meta = Meta::default();
                pod::describe(&mut meta, &attached);
                pod::describe_container(&mut meta, &attached, container, is_init);
                meta.plain("__address__", &join_host_port(address, port.container_port))
                    .set_some("pod_container_port_name", port.name.as_deref())
                    .set("pod_container_port_number", &port.container_port.to_string())
                    .set("pod_container_port_protocol", port.protocol.as_deref().unwrap_or("TCP"));
                found.push(meta.build().into());
            }
        }
    }
    found
}

fn describe_reference(meta: &mut Meta, prefix: &str, reference: Option<&ObjectReference>) {
    if let Some(reference) = reference {
        meta.set_some(&format!("{prefix}_address_target_kind"), reference.kind.as_deref())
            .set_some(&format!("{prefix}_address_target_name"), reference.name.as_deref());
    }
}

/// The targets of an Endpoints object.
pub(crate) fn endpoints_group(endpoints: &Endpoints, attached: &Attached) -> TargetGroup {
    let namespace = endpoints.metadata.namespace.as_deref().unwrap_or("");
    let mut shared = Meta::default();
    shared.object("endpoints", &endpoints.metadata);
    attached.describe_service(&mut shared, namespace, endpoints.metadata.name.as_deref().unwrap_or(""));
    let mut places = Vec::new();
    for subset in endpoints.subsets.iter().flatten() {
        let ready = subset.addresses.iter().flatten().map(|address| (address, "true"));
        let not_ready = subset.not_ready_addresses.iter().flatten().map(|address| (address, "false"));
        let addresses: Vec<(&EndpointAddress, &str)> = ready.chain(not_ready).collect();
        for port in subset.ports.iter().flatten() {
            for (address, is_ready) in &addresses {
                let mut meta = Meta::default();
                meta.set_some("endpoint_port_name", port.name.as_deref())
                    .set("endpoint_port_protocol", port.protocol.as_deref().unwrap_or("TCP"))
                    .set("endpoint_ready", is_ready)
                    .set_some("endpoint_node_name", address.node_name.as_deref())
                    .set_some("endpoint_hostname", address.hostname.as_deref());
                describe_reference(&mut meta, "endpoint", address.target_ref.as_ref());
                let pod = attached.pod(namespace, address.target_ref.as_ref());
                places.push(Place { meta, address: &address.ip, port: port.port, pod });
            }
        }
    }
    TargetGroup { source: String::new(), labels: shared.build(), targets: targets(places) }
}

fn service_of(metadata: &ObjectMeta) -> Option<&str> {
    metadata.labels.as_ref()?.get(SERVICE_NAME).map(String::as_str)
}

/// The targets of an EndpointSlice.
pub(crate) fn slice_group(slice: &EndpointSlice, attached: &Attached) -> TargetGroup {
    let namespace = slice.metadata.namespace.as_deref().unwrap_or("");
    let mut shared = Meta::default();
    shared.object("endpointslice", &slice.metadata).set("endpointslice_address_type", &slice.address_type);
    if let Some(service) = service_of(&slice.metadata) {
        attached.describe_service(&mut shared, namespace, service);
    }
    let flag = |value: Option<bool>| value.map_or("", |on| if on { "true" } else { "false" });
    let mut places = Vec::new();
    for port in slice.ports.iter().flatten() {
        for endpoint in slice.endpoints.iter().flatten() {
            for address in &endpoint.addresses {
                let number = port.port.unwrap_or(0);
                let mut meta = Meta::default();
                meta.set_some("endpointslice_port_name", port.name.as_deref())
                    .set("endpointslice_port_protocol", port.protocol.as_deref().unwrap_or("TCP"))
                    .set("endpointslice_port", &number.to_string())
                    .set_some("endpointslice_port_app_protocol", port.app_protocol.as_deref())
                    .set_some("endpointslice_endpoint_hostname", endpoint.hostname.as_deref())
                    .set_some("endpointslice_endpoint_node_name", endpoint.node_name.as_deref())
                    .set_some("endpointslice_endpoint_zone", endpoint.zone.as_deref());
                if let Some(conditions) = &endpoint.conditions {
                    meta.set("endpointslice_endpoint_conditions_ready", flag(conditions.ready))
                        .set("endpointslice_endpoint_conditions_serving", flag(conditions.serving))
                        .set("endpointslice_endpoint_conditions_terminating", flag(conditions.terminating));
                }
                describe_reference(&mut meta, "endpointslice", endpoint.target_ref.as_ref());
                let pod = attached.pod(namespace, endpoint.target_ref.as_ref());
                places.push(Place { meta, address, port: number, pod });
            }
        }
    }
    TargetGroup { source: String::new(), labels: shared.build(), targets: targets(places) }
}
