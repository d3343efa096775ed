//! The Endpoints object of a Service, for clients that do not read EndpointSlices.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Service};
use kube::core::ObjectMeta;

use super::slices::target;
use super::view::{Backend, Port};

const MANAGED_BY_LABEL: &str = "endpoints.kubernetes.io/managed-by";
const MANAGED_BY: &str = "endpoint-controller";
const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";

/// The object as it should be; nothing when `existing` is right.
pub(crate) fn wanted(
    service: &Service,
    backends: &[Backend],
    existing: Option<&Arc<Endpoints>>,
) -> Option<Endpoints> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert(MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned());
    if service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None") {
        labels.insert(HEADLESS_LABEL.to_owned(), String::new());
    }
    let mut object = existing.map(|known| (**known).clone()).unwrap_or_else(|| Endpoints {
        metadata: ObjectMeta {
            name: service.metadata.name.clone(),
            namespace: service.metadata.namespace.clone(),
            ..ObjectMeta::default()
        },
        subsets: None,
    });
    object.metadata.labels = Some(labels);
    object.subsets = Some(subsets(backends)).filter(|subsets| !subsets.is_empty());
    Some(object).filter(|object| existing.is_none_or(|known| **known != *object))
}

fn subsets(backends: &[Backend]) -> Vec<EndpointSubset> {
    let mut by_ports: BTreeMap<Vec<Port>, EndpointSubset> = BTreeMap::new();
    for backend in backends.iter().filter(|backend| !backend.terminating) {
        let subset = by_ports.entry(backend.ports.clone()).or_insert_with(|| EndpointSubset {
            ports: Some(backend.ports.iter().map(port).collect()).filter(|ports: &Vec<_>| !ports.is_empty()),
            ..EndpointSubset::default()
        });
        let addresses = if backend.ready { &mut subset.addresses } else { &mut subset.not_ready_addresses };
        addresses.get_or_insert_default().push(EndpointAddress {
            ip: backend.address.clone(),
            hostname: backend.hostname.clone(),
            node_name: crate::pods::node_name(&backend.pod).map(str::to_owned),
            target_ref: Some(target(backend)),
        });
    }
    by_ports.into_values().collect()
}

fn port(port: &Port) -> EndpointPort {
    EndpointPort {
        name: Some(port.name.clone()).filter(|name| !name.is_empty()),
        port: port.number,
        protocol: Some(port.protocol.clone()),
        app_protocol: port.app_protocol.clone(),
    }
}

/// True when the object was made here and not by a user.
pub(crate) fn is_managed(endpoints: &Endpoints) -> bool {
    let labels = endpoints.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(MANAGED_BY_LABEL)).is_some_and(|manager| manager == MANAGED_BY)
}
