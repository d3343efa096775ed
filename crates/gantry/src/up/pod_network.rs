//! Whose network pods are in: decided at the start, told once, and joined with what listens and connects.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use gantry_node::{Cidr, NetworksConfig, PodNetworks};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use tokio::net::{TcpSocket, TcpStream};

use super::Error;
use super::network::{self, Network};
use super::project::PodNetwork;
use super::stack::StackConfig;
use super::state::StateDir;
use super::steps::Steps;

/// The pods' networks, if they have some, and the addresses in use.
pub(super) async fn decide(
    config: &StackConfig,
    wanted: PodNetwork,
    steps: &mut Steps,
) -> Result<(Option<PodNetworks>, Network), Error> {
    let host = Network::of(config.state_dir.root());
    if wanted == PodNetwork::Host {
        return Ok((None, host));
    }
    let isolated = isolated(config.state_dir.root());
    let networks = NetworksConfig {
        state_dir: config.state_dir.node(),
        launcher: std::env::current_exe()?,
        cluster: Cidr { network: isolated.pods, prefix: network::BOTH_PREFIX },
        services: Cidr { network: isolated.services, prefix: network::PREFIX },
    };
    match tokio::task::spawn_blocking(move || PodNetworks::start(networks)).await? {
        Ok(networks) => Ok((Some(networks), isolated)),
        Err(reason) if wanted == PodNetwork::Isolated => Err(format!(
            "pods cannot have networks of their own here: {reason}; `podNetwork: auto` or `host` in {} runs them in this machine's",
            super::project::FILE_NAME
        )
        .into()),
        Err(reason) => {
            steps.warn(&format!("pods share this machine's network: {reason}"));
            Ok((None, host))
        }
    }
}

fn isolated(state_dir: &Path) -> Network {
    Network::isolated(state_dir, &std::fs::read_to_string("/proc/net/route").unwrap_or_default())
}

/// By which pods may reach the API server, whichever network they are in.
pub(super) fn kubernetes_addresses(state_dir: &Path) -> [String; 2] {
    [Network::of(state_dir), isolated(state_dir)].map(|network| network.kubernetes().to_string())
}

/// Makes the API server the endpoint of the Service `kubernetes`, as an API server of a cluster does.
pub(super) async fn publish_api_server(
    client: &kube::Client,
    address: SocketAddr,
) -> Result<(), kube::Error> {
    let slice = serde_json::json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "kubernetes", "namespace": "default", "labels": {"kubernetes.io/service-name": "kubernetes"},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address.ip().to_string()], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": address.port(), "protocol": "TCP"}],
    });
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), "default");
    let applied = PatchParams::apply("gantry").force();
    slices.patch("kubernetes", &applied, &Patch::Apply(slice)).await.map(drop)
}

/// Gives Services whose address is of another network, from a start with another `podNetwork`, one of this network.
/// An address cannot be changed, so they are made anew. They are written down before the first one goes: a start that is
/// broken off in between is made good by the next.
pub(super) async fn move_services(
    client: &kube::Client,
    state_dir: &StateDir,
    network: Network,
) -> Result<(), Error> {
    let begun: Vec<Service> = state_dir.read_moving()?;
    let mut moving: Vec<Service> = begun.into_iter().map(|service| moved(service, network)).collect();
    let services: Api<Service> = Api::all(client.clone());
    for service in services.list(&ListParams::default()).await?.items {
        let address = service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()?.parse().ok());
        let is_known = |known: &Service| {
            known.metadata.name == service.metadata.name
                && known.metadata.namespace == service.metadata.namespace
        };
        if address.is_some_and(|address| !network.holds(address)) && !moving.iter().any(is_known) {
            moving.push(moved(service, network));
        }
    }
    if moving.is_empty() {
        return Ok(());
    }
    state_dir.write_moving(&moving)?;
    for service in &moving {
        let api: Api<Service> =
            Api::namespaced(client.clone(), service.metadata.namespace.as_deref().unwrap_or_default());
        let name = service.metadata.name.as_deref().unwrap_or_default();
        if let Some(there) = api.get_opt(name).await? {
            let address = there.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()?.parse().ok());
            if address.is_some_and(|address| network.holds(address)) {
                continue;
            }
            // Nobody is up who could answer a finalizer; the new object has them again.
            if there.metadata.finalizers.as_ref().is_some_and(|held| !held.is_empty()) {
                let free = Patch::Merge(serde_json::json!({"metadata": {"finalizers": null}}));
                api.patch(name, &PatchParams::default(), &free).await?;
            }
            match api.delete(name, &DeleteParams::default()).await {
                Ok(_) => {}
                // It was only held by its finalizers.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(error.into()),
            }
        }
        api.create(&PostParams::default(), service).await?;
    }
    Ok(state_dir.clear_moving()?)
}

/// The Service as it is created in this network.
fn moved(mut service: Service, network: Network) -> Service {
    let metadata = &mut service.metadata;
    (metadata.uid, metadata.resource_version, metadata.creation_timestamp) = (None, None, None);
    (metadata.deletion_timestamp, metadata.managed_fields) = (None, None);
    let is_kubernetes =
        metadata.name.as_deref() == Some("kubernetes") && metadata.namespace.as_deref() == Some("default");
    if let Some(spec) = service.spec.as_mut() {
        spec.cluster_ip = is_kubernetes.then(|| network.kubernetes().to_string());
        spec.cluster_ips = None;
    }
    service
}

/// The pods' networks as the gateway and the scraper know them.
pub(super) struct Joined(pub(super) PodNetworks);

impl gantry_gateway::Network for Joined {
    fn owns(&self, address: IpAddr) -> bool {
        self.0.owns(address)
    }

    fn listen(&self, address: SocketAddr) -> io::Result<std::net::TcpListener> {
        self.0.listen_tcp(address)
    }

    fn socket(&self) -> io::Result<TcpSocket> {
        self.0.tcp_connector()
    }
}

#[async_trait]
impl gantry_scrape::Dialer for Joined {
    fn owns(&self, address: IpAddr) -> bool {
        self.0.owns(address)
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        self.0.connect_tcp(address).await
    }
}

/// For those who take one.
pub(super) fn joined(networks: &Option<PodNetworks>) -> Option<Arc<Joined>> {
    networks.clone().map(|networks| Arc::new(Joined(networks)))
}
