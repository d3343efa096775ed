//! Role `node`: one target for each node, its kubelet.

use gantry_scrape::TargetGroup;
use k8s_openapi::api::core::v1::Node;

use crate::labels::{Meta, join_host_port, sanitize};

/// Addresses in the order in which one is chosen to reach the node.
const ADDRESS_ORDER: [&str; 5] = ["InternalIP", "InternalDNS", "ExternalIP", "ExternalDNS", "Hostname"];
/// Where kubelets listen when the node does not say.
const KUBELET_PORT: i32 = 10250;

/// The target of a node.
pub(crate) fn group(node: &Node) -> TargetGroup {
    let mut shared = Meta::default();
    shared.object("node", &node.metadata);
    shared.set_some("node_provider_id", node.spec.as_ref().and_then(|spec| spec.provider_id.as_deref()));
    let status = node.status.as_ref();
    let addresses = status.and_then(|status| status.addresses.as_deref()).unwrap_or_default();
    let port = status
        .and_then(|status| status.daemon_endpoints.as_ref()?.kubelet_endpoint.as_ref())
        .map_or(KUBELET_PORT, |endpoint| endpoint.port);
    let address = ADDRESS_ORDER
        .iter()
        .find_map(|kind| addresses.iter().find(|address| address.type_ == *kind))
        .or(addresses.first());
    let mut targets = Vec::new();
    if let Some(address) = address {
        let mut meta = Meta::default();
        meta.plain("__address__", &join_host_port(&address.address, port))
            .plain("instance", node.metadata.name.as_deref().unwrap_or(""));
        for kind in ADDRESS_ORDER {
            if let Some(first) = addresses.iter().find(|address| address.type_ == kind) {
                meta.set(&format!("node_address_{}", sanitize(kind)), &first.address);
            }
        }
        targets.push(meta.build().into());
    }
    TargetGroup { source: String::new(), labels: shared.build(), targets }
}
