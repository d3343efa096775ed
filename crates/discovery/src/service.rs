//! Role `service`: a target for each port of a service.

use gantry_scrape::TargetGroup;
use k8s_openapi::api::core::v1::Service;

use crate::labels::{Meta, join_host_port};

/// The targets of a service.
pub(crate) fn group(service: &Service) -> TargetGroup {
    let mut shared = Meta::default();
    shared.object("service", &service.metadata);
    let (name, namespace) =
        (service.metadata.name.as_deref().unwrap_or(""), service.metadata.namespace.as_deref().unwrap_or(""));
    let spec = service.spec.as_ref();
    let kind = spec.and_then(|spec| spec.type_.as_deref()).unwrap_or("ClusterIP");
    let mut targets = Vec::new();
    for port in spec.into_iter().flat_map(|spec| spec.ports.iter().flatten()) {
        let mut meta = Meta::default();
        meta.plain("__address__", &join_host_port(&format!("{name}.{namespace}.svc"), port.port))
            .set_some("service_port_name", port.name.as_deref())
            .set("service_port_number", &port.port.to_string())
            .set("service_port_protocol", port.protocol.as_deref().unwrap_or("TCP"))
            .set("service_type", kind);
        if kind == "ExternalName" {
            meta.set_some("service_external_name", spec.and_then(|spec| spec.external_name.as_deref()));
        } else {
            meta.set_some("service_cluster_ip", spec.and_then(|spec| spec.cluster_ip.as_deref()));
        }
        if kind == "LoadBalancer" {
            meta.set_some("service_loadbalancer_ip", spec.and_then(|spec| spec.load_balancer_ip.as_deref()));
        }
        targets.push(meta.build().into());
    }
    TargetGroup { source: String::new(), labels: shared.build(), targets }
}
