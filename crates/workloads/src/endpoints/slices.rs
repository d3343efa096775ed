//! The EndpointSlices of a Service: which to write and which to remove so that they list its backends.
//!
//! Backends with the same ports share slices of at most a hundred. A backend stays in the slice it is in, so
//! that one pod's change is one small write.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ObjectReference, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use kube::ResourceExt;
use kube::core::ObjectMeta;

use super::view::{Backend, Port};
use crate::pods::controller_reference;

pub(crate) const SERVICE_LABEL: &str = "kubernetes.io/service-name";
pub(crate) const MANAGED_BY_LABEL: &str = "endpointslice.kubernetes.io/managed-by";
pub(crate) const MANAGED_BY: &str = "endpointslice-controller.k8s.io";
const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";
const PER_SLICE: usize = 100;

#[derive(Debug, Default, PartialEq)]
pub(crate) struct SlicePlan {
    pub(crate) create: Vec<EndpointSlice>,
    pub(crate) update: Vec<EndpointSlice>,
    pub(crate) delete: Vec<Arc<EndpointSlice>>,
}

/// Compares the slices that are there with the backends.
pub(crate) fn plan(service: &Service, backends: &[Backend], existing: &[Arc<EndpointSlice>]) -> SlicePlan {
    let mut plan = SlicePlan::default();
    for family in families(service) {
        let of_family: Vec<&Backend> =
            backends.iter().filter(|backend| (family == "IPv6") == backend.address.contains(':')).collect();
        let slices: Vec<&Arc<EndpointSlice>> =
            existing.iter().filter(|slice| slice.address_type == family).collect();
        plan_family(service, &family, &of_family, &slices, &mut plan);
    }
    let wanted = families(service);
    plan.delete.extend(existing.iter().filter(|slice| !wanted.contains(&slice.address_type)).cloned());
    plan
}

fn families(service: &Service) -> Vec<String> {
    let families = service.spec.as_ref().and_then(|spec| spec.ip_families.clone());
    families.filter(|families| !families.is_empty()).unwrap_or_else(|| vec!["IPv4".to_owned()])
}

/// A slice as it should be: the one it is made of, its ports and its endpoints.
struct Wanted<'a> {
    known: Option<&'a Arc<EndpointSlice>>,
    ports: Vec<EndpointPort>,
    endpoints: Vec<Endpoint>,
}

fn plan_family(
    service: &Service,
    family: &str,
    backends: &[&Backend],
    existing: &[&Arc<EndpointSlice>],
    plan: &mut SlicePlan,
) {
    let mut groups: BTreeMap<Vec<Port>, Vec<&Backend>> = BTreeMap::new();
    for backend in backends {
        groups.entry(backend.ports.clone()).or_default().push(backend);
    }
    if groups.is_empty() {
        // A Service without backends keeps one empty slice, which says that it was looked at.
        groups.insert(Vec::new(), Vec::new());
    }
    let mut free: Vec<&Arc<EndpointSlice>> = existing.to_vec();
    let mut wanted: Vec<Wanted<'_>> = Vec::new();
    for (ports, backends) in groups {
        let ports: Vec<EndpointPort> = ports.iter().map(endpoint_port).collect();
        let (own, others): (Vec<_>, Vec<_>) =
            free.into_iter().partition(|slice| slice.ports.as_deref().unwrap_or_default() == ports);
        free = others;
        for (known, endpoints) in fill(&backends, own, &mut free) {
            wanted.push(Wanted { known, ports: ports.clone(), endpoints });
        }
    }
    let mut reusable = free.into_iter();
    for slice in wanted {
        let known = slice.known.or_else(|| reusable.next());
        let base = known.map(|known| (**known).clone()).unwrap_or_else(|| blank(service, family));
        let dressed = dress(service, family, base, &slice.ports, slice.endpoints);
        match known {
            Some(known) if dressed == **known => {}
            Some(_) => plan.update.push(dressed),
            None => plan.create.push(dressed),
        }
    }
    plan.delete.extend(reusable.cloned());
}

/// Spreads backends over slices: first those that stay where they are, then the rest into what has room.
/// Slices left without any go to `free`.
fn fill<'a>(
    backends: &[&Backend],
    own: Vec<&'a Arc<EndpointSlice>>,
    free: &mut Vec<&'a Arc<EndpointSlice>>,
) -> Vec<(Option<&'a Arc<EndpointSlice>>, Vec<Endpoint>)> {
    let mut left: Vec<&Backend> = backends.to_vec();
    let mut filled: Vec<(Option<&'a Arc<EndpointSlice>>, Vec<Endpoint>)> = Vec::new();
    for slice in own {
        let present = slice.endpoints.as_deref().unwrap_or_default();
        let (staying, rest): (Vec<&Backend>, Vec<&Backend>) =
            left.into_iter().partition(|backend| present.iter().any(|endpoint| lists(endpoint, backend)));
        left = rest;
        if staying.is_empty() {
            free.push(slice);
        } else {
            filled.push((Some(slice), staying.into_iter().map(endpoint).collect()));
        }
    }
    let mut rest = left.into_iter().map(endpoint).peekable();
    for (_, endpoints) in &mut filled {
        while endpoints.len() < PER_SLICE && rest.peek().is_some() {
            endpoints.extend(rest.next());
        }
    }
    while rest.peek().is_some() {
        filled.push((None, rest.by_ref().take(PER_SLICE).collect()));
    }
    if filled.is_empty() {
        filled.push((None, Vec::new()));
    }
    filled
}

fn lists(endpoint: &Endpoint, backend: &Backend) -> bool {
    let uid = endpoint.target_ref.as_ref().and_then(|target| target.uid.as_ref());
    uid == backend.pod.metadata.uid.as_ref() && endpoint.addresses.contains(&backend.address)
}

fn endpoint(backend: &Backend) -> Endpoint {
    let pod = &backend.pod;
    Endpoint {
        addresses: vec![backend.address.clone()],
        conditions: Some(backend.conditions()),
        hostname: backend.hostname.clone(),
        node_name: crate::pods::node_name(pod).map(str::to_owned),
        target_ref: Some(target(backend)),
        ..Endpoint::default()
    }
}

/// What an endpoint points at.
pub(crate) fn target(backend: &Backend) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".to_owned()),
        namespace: backend.pod.metadata.namespace.clone(),
        name: backend.pod.metadata.name.clone(),
        uid: backend.pod.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

fn endpoint_port(port: &Port) -> EndpointPort {
    EndpointPort {
        name: Some(port.name.clone()),
        port: Some(port.number),
        protocol: Some(port.protocol.clone()),
        app_protocol: port.app_protocol.clone(),
    }
}

fn blank(service: &Service, family: &str) -> EndpointSlice {
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", service.name_any())),
            namespace: service.metadata.namespace.clone(),
            owner_references: Some(vec![controller_reference(service)]),
            ..ObjectMeta::default()
        },
        address_type: family.to_owned(),
        ..EndpointSlice::default()
    }
}

/// Gives a slice its labels, ports and endpoints.
fn dress(
    service: &Service,
    family: &str,
    mut slice: EndpointSlice,
    ports: &[EndpointPort],
    endpoints: Vec<Endpoint>,
) -> EndpointSlice {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_LABEL.to_owned(), service.name_any());
    labels.insert(MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned());
    labels.remove(HEADLESS_LABEL);
    if service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None") {
        labels.insert(HEADLESS_LABEL.to_owned(), String::new());
    }
    slice.metadata.labels = Some(labels);
    slice.address_type = family.to_owned();
    if slice.ports.as_deref().unwrap_or_default() != ports {
        slice.ports = Some(ports.to_vec());
    }
    slice.endpoints = Some(endpoints);
    slice
}
