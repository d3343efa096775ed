//! Which pods stand behind a Service, on which ports, and in what state.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Service, ServicePort};
use k8s_openapi::api::discovery::v1::EndpointConditions;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::pods;

/// A port as a slice lists it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Port {
    pub(crate) name: String,
    pub(crate) number: i32,
    pub(crate) protocol: String,
    pub(crate) app_protocol: Option<String>,
}

/// One pod behind a Service.
#[derive(Clone, Debug)]
pub(crate) struct Backend {
    pub(crate) pod: Arc<Pod>,
    pub(crate) address: String,
    pub(crate) ports: Vec<Port>,
    /// It answers, though it may be on its way out.
    pub(crate) serving: bool,
    pub(crate) terminating: bool,
    pub(crate) ready: bool,
    /// The name under which it can be looked up, when it has one of its own.
    pub(crate) hostname: Option<String>,
}

impl Backend {
    pub(crate) fn conditions(&self) -> EndpointConditions {
        EndpointConditions {
            ready: Some(self.ready),
            serving: Some(self.serving),
            terminating: Some(self.terminating),
        }
    }
}

/// True when the pods of the Service are looked for at all.
pub(crate) fn has_selector(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    let external = spec.and_then(|spec| spec.type_.as_deref()) == Some("ExternalName");
    !external && spec.and_then(|spec| spec.selector.as_ref()).is_some_and(|selector| !selector.is_empty())
}

pub(crate) fn selects(service: &Service, pod: &Pod) -> bool {
    let Some(selector) = service.spec.as_ref().and_then(|spec| spec.selector.as_ref()) else { return false };
    let Some(labels) = pod.metadata.labels.as_ref() else { return false };
    !selector.is_empty() && selector.iter().all(|(name, value)| labels.get(name) == Some(value))
}

/// The pods behind `service`, ordered by address.
pub(crate) fn backends(service: &Service, pods_in_namespace: &[Arc<Pod>]) -> Vec<Backend> {
    if !has_selector(service) {
        return Vec::new();
    }
    let spec = service.spec.clone().unwrap_or_default();
    let publish_not_ready = spec.publish_not_ready_addresses.unwrap_or(false);
    let service_ports = spec.ports.unwrap_or_default();
    let mut backends: Vec<Backend> = Vec::new();
    for pod in pods_in_namespace.iter().filter(|pod| selects(service, pod) && !pods::is_over(pod)) {
        let Some(address) = pod.status.as_ref().and_then(|status| status.pod_ip.clone()) else { continue };
        if address.is_empty() {
            continue;
        }
        let serving = pods::is_ready(pod);
        let terminating = pods::is_terminating(pod);
        let pod_spec = pod.spec.clone().unwrap_or_default();
        let in_subdomain = pod_spec.subdomain.is_some() && pod_spec.subdomain == service.metadata.name;
        backends.push(Backend {
            pod: pod.clone(),
            address,
            ports: ports_of(&service_ports, pod),
            serving,
            terminating,
            ready: publish_not_ready || (serving && !terminating),
            hostname: pod_spec.hostname.filter(|_| in_subdomain),
        });
    }
    backends.sort_by(|one, other| one.address.cmp(&other.address).then_with(|| name(one).cmp(&name(other))));
    backends
}

fn name(backend: &Backend) -> Option<String> {
    backend.pod.metadata.name.clone()
}

/// The ports of the Service on this pod; a named port that the pod does not have is left out.
fn ports_of(service_ports: &[ServicePort], pod: &Pod) -> Vec<Port> {
    let mut ports: Vec<Port> = service_ports
        .iter()
        .filter_map(|port| {
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
            let number = match &port.target_port {
                None | Some(IntOrString::Int(0)) => port.port,
                Some(IntOrString::Int(number)) => *number,
                Some(IntOrString::String(name)) => named_port(pod, name, &protocol)?,
            };
            Some(Port {
                name: port.name.clone().unwrap_or_default(),
                number,
                protocol,
                app_protocol: port.app_protocol.clone(),
            })
        })
        .collect();
    ports.sort();
    ports
}

fn named_port(pod: &Pod, name: &str, protocol: &str) -> Option<i32> {
    if let Ok(number) = name.parse() {
        return Some(number);
    }
    let containers = pod.spec.as_ref().map(|spec| spec.containers.as_slice()).unwrap_or_default();
    let mut ports = containers.iter().flat_map(|container| container.ports.as_deref().unwrap_or_default());
    let port = ports.find(|port| {
        port.name.as_deref() == Some(name) && port.protocol.as_deref().unwrap_or("TCP") == protocol
    })?;
    Some(port.container_port)
}
