//! Cluster addresses of Services as listeners of the gateway.

use crate::services::{service_name, service_of_upstream, tcp_ports};
use gantry_gateway::{Gateway, ListenError, Listener, Mode};
use gantry_operator::Key;
use k8s_openapi::api::core::v1::{Service, ServicePort as PortSpec};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Added to a port that needs a privilege we do not have.
const UNPRIVILEGED_OFFSET: u16 = 8_000;

/// One port of one Service.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServicePort {
    pub service: Key,
    pub port: u16,
}

/// Where each Service's port is served on this node. Clones share the table.
#[derive(Clone, Default)]
pub struct AddressTable {
    open: Arc<Mutex<BTreeMap<ServicePort, Open>>>,
    /// The Services behind upstreams that are not called after one.
    behind: Arc<Mutex<BTreeMap<String, Vec<Key>>>>,
}

#[derive(Clone, Debug)]
struct Open {
    wanted: SocketAddr,
    mode: Mode,
    /// What was bound; another port than the wanted one when that needs a privilege.
    bound: SocketAddr,
}

/// A Service's port that could not be served, and why.
#[derive(Debug)]
pub(crate) struct Unserved {
    pub(crate) service: Key,
    pub(crate) message: String,
}

impl AddressTable {
    /// The address on which `port` of the Service is reached; differs from its cluster address where a privileged port
    /// could not be bound.
    pub fn address(&self, namespace: &str, name: &str, port: u16) -> Option<SocketAddr> {
        let key = ServicePort { service: Key::new(namespace, name), port };
        self.open.lock().get(&key).map(|open| open.bound)
    }

    /// Every Service port that is served, with its address.
    pub fn all(&self) -> Vec<(ServicePort, SocketAddr)> {
        self.open.lock().iter().map(|(key, open)| (key.clone(), open.bound)).collect()
    }

    /// The Services whose endpoints are an upstream's targets: what to scale when a request waits there.
    pub fn services_behind(&self, upstream: &str) -> Vec<Key> {
        match service_of_upstream(upstream) {
            Some(service) => vec![service],
            None => self.behind.lock().get(upstream).cloned().unwrap_or_default(),
        }
    }

    pub(crate) fn set_behind(&self, behind: BTreeMap<String, Vec<Key>>) {
        *self.behind.lock() = behind;
    }

    /// Opens and closes listeners until they are those of `services`. A listener that stays is not touched.
    pub(crate) fn reconcile(
        &self,
        gateway: &Gateway,
        services: &[Arc<Service>],
        is_ours: &dyn Fn(IpAddr) -> bool,
    ) -> Vec<Unserved> {
        let wanted = wanted(services, is_ours);
        let mut open = self.open.lock();
        let keep = |key: &ServicePort, known: &Open| {
            wanted.get(key).is_some_and(|(address, mode)| *address == known.wanted && *mode == known.mode)
        };
        open.retain(|key, known| {
            let stays = keep(key, known);
            if !stays {
                gateway.unlisten(known.bound);
            }
            stays
        });
        let mut unserved = Vec::new();
        for (key, (address, mode)) in wanted {
            if open.contains_key(&key) {
                continue;
            }
            match bind(gateway, address, &mode) {
                Ok(bound) => {
                    open.insert(key, Open { wanted: address, mode, bound });
                }
                Err(error) => unserved.push(Unserved { service: key.service, message: error.to_string() }),
            }
        }
        unserved
    }

    /// Closes all listeners.
    pub(crate) fn close(&self, gateway: &Gateway) {
        for (_, open) in std::mem::take(&mut *self.open.lock()) {
            gateway.unlisten(open.bound);
        }
    }
}

/// Listens; a port that needs a privilege we do not have becomes another.
pub(crate) fn bind(gateway: &Gateway, address: SocketAddr, mode: &Mode) -> Result<SocketAddr, ListenError> {
    let open = |address| gateway.listen(Listener { address, mode: mode.clone(), tls: None });
    match open(address) {
        Err(ListenError::PermissionDenied { .. }) if address.port() < 1_024 => {
            open(SocketAddr::new(address.ip(), address.port() + UNPRIVILEGED_OFFSET))
        }
        outcome => outcome,
    }
}

fn wanted(
    services: &[Arc<Service>],
    is_ours: &dyn Fn(IpAddr) -> bool,
) -> BTreeMap<ServicePort, (SocketAddr, Mode)> {
    let mut wanted = BTreeMap::new();
    let mut taken = BTreeSet::new();
    for service in services {
        let cluster_ip = service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref());
        // Headless Services say "None"; addresses that are not ours to bind are another node's business.
        let Some(ip) = cluster_ip.and_then(|ip| ip.parse::<IpAddr>().ok()) else { continue };
        if !ip.is_loopback() && !is_ours(ip) {
            continue;
        }
        for spec in tcp_ports(service) {
            let Ok(port) = u16::try_from(spec.port) else { continue };
            let address = SocketAddr::new(ip, port);
            let key = Key::of(&**service);
            let name = service_name(&key, &port.to_string());
            let mode =
                if is_http(spec) { Mode::Service { service: name } } else { Mode::Stream { service: name } };
            if taken.insert(address) {
                wanted.insert(ServicePort { service: key, port }, (address, mode));
            }
        }
    }
    wanted
}

/// Whether a port speaks HTTP/1: by its `appProtocol`, otherwise by its name, otherwise by the usual numbers.
fn is_http(port: &PortSpec) -> bool {
    if let Some(protocol) = port.app_protocol.as_deref() {
        return matches!(protocol, "http" | "HTTP" | "kubernetes.io/ws");
    }
    match port.name.as_deref() {
        Some(name) if !name.is_empty() => {
            name == "http"
                || name == "web"
                || name.starts_with("http-")
                || name.ends_with("-http")
                || name.starts_with("http1")
        }
        _ => matches!(port.port, 80 | 8_000 | 8_080),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(name: Option<&str>, app_protocol: Option<&str>, port: i32) -> PortSpec {
        PortSpec {
            name: name.map(str::to_owned),
            app_protocol: app_protocol.map(str::to_owned),
            port,
            ..PortSpec::default()
        }
    }

    #[test]
    fn a_port_says_in_three_ways_what_it_speaks() {
        assert!(is_http(&port(Some("db"), Some("http"), 5_432)));
        assert!(!is_http(&port(Some("http"), Some("tcp"), 80)));
        assert!(is_http(&port(Some("http"), None, 9_000)));
        assert!(is_http(&port(Some("metrics-http"), None, 9_000)));
        assert!(!is_http(&port(Some("https"), None, 443)));
        assert!(!is_http(&port(Some("grpc"), None, 8_080)));
        assert!(is_http(&port(None, None, 8_080)));
        assert!(!is_http(&port(None, None, 6_379)));
    }

    #[test]
    fn only_services_with_a_loopback_address_are_wanted() {
        let service = |name: &str, ip: &str| -> Arc<Service> {
            Arc::new(
                serde_json::from_value(serde_json::json!({
                    "metadata": {"name": name, "namespace": "shop"},
                    "spec": {"clusterIP": ip, "ports": [{"port": 80}, {"port": 53, "protocol": "UDP"}]},
                }))
                .unwrap(),
            )
        };
        let services =
            [service("a", "127.96.0.1"), service("b", "None"), service("c", "10.0.0.1"), service("d", "")];
        let wanted: Vec<_> = wanted(&services, &|_| false).into_iter().collect();
        assert_eq!(wanted.len(), 1);
        assert_eq!(wanted[0].1.0, "127.96.0.1:80".parse().unwrap());
        let ours = super::wanted(&services, &|ip| ip == IpAddr::from([10, 0, 0, 1]));
        assert_eq!(ours.len(), 2);
    }
}
