//! The environment variables that announce Services to a container: `X_SERVICE_HOST` and the link-style family.
//!
//! Names follow the ports that Services declare; values say where these are really reached, which differs where a
//! privileged port could not be bound.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Service, ServicePort};
use tokio::time::Instant;

use crate::config::ServiceAddresses;

/// A Service that was made together with the pod is served within this time, unless it cannot be.
const SERVED_WITHIN: Duration = Duration::from_millis(500);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// The services announced to a pod: those of its namespace that have a cluster IP, plus `kubernetes` of `default`.
/// Without `enable_links` only the latter, as upstream.
pub(crate) fn announced<'a>(
    services: &'a [Arc<Service>],
    namespace: &str,
    enable_links: bool,
) -> BTreeMap<&'a str, &'a Service> {
    let mut chosen: BTreeMap<&str, &Service> = BTreeMap::new();
    for service in services {
        let Some(name) = service.metadata.name.as_deref() else { continue };
        let of_namespace = service.metadata.namespace.as_deref().unwrap_or_default();
        let master = of_namespace == "default" && name == "kubernetes";
        if of_namespace == namespace && (enable_links || master) {
            chosen.insert(name, service);
        } else if master {
            chosen.entry(name).or_insert(service);
        }
    }
    chosen.retain(|_, service| cluster_ip(service).is_some());
    chosen
}

/// Their variables. `addresses` is asked for each TCP port; without an answer the cluster address is announced.
pub(crate) fn variables(
    announced: &BTreeMap<&str, &Service>,
    addresses: Option<&ServiceAddresses>,
) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    for (name, service) in announced {
        announce(name, service, addresses, &mut variables);
    }
    variables
}

/// Waits until every TCP port is served or has had its time: a variable cannot be corrected after the start.
pub(crate) async fn served(announced: &BTreeMap<&str, &Service>, addresses: &ServiceAddresses) {
    let deadline = Instant::now() + SERVED_WITHIN;
    let missing = |service: &Service| {
        let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
        ports.filter(|port| protocol(port) == "TCP").any(|port| reached(service, port, addresses).is_none())
    };
    while announced.values().any(|service| missing(service)) && Instant::now() < deadline {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

fn cluster_ip(service: &Service) -> Option<&str> {
    service.spec.as_ref()?.cluster_ip.as_deref().filter(|ip| !ip.is_empty() && *ip != "None")
}

fn protocol(port: &ServicePort) -> &str {
    port.protocol.as_deref().unwrap_or("TCP")
}

fn reached(service: &Service, port: &ServicePort, addresses: &ServiceAddresses) -> Option<SocketAddr> {
    let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
    let name = service.metadata.name.as_deref().unwrap_or_default();
    addresses.get(namespace, name, u16::try_from(port.port).ok()?)
}

fn announce(
    name: &str,
    service: &Service,
    addresses: Option<&ServiceAddresses>,
    variables: &mut BTreeMap<String, String>,
) {
    let Some(cluster_ip) = cluster_ip(service) else { return };
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    let place = |port: &ServicePort| -> (String, i32) {
        let served = addresses.filter(|_| protocol(port) == "TCP");
        match served.and_then(|addresses| reached(service, port, addresses)) {
            Some(address) => (address.ip().to_string(), i32::from(address.port())),
            None => (cluster_ip.to_owned(), port.port),
        }
    };
    let Some(first) = ports.first() else { return };
    let prefix = variable_name(name);
    let mut set = |suffix: String, value: String| variables.insert(format!("{prefix}_{suffix}"), value);

    let (host, number) = place(first);
    set("SERVICE_HOST".into(), host);
    set("SERVICE_PORT".into(), number.to_string());
    for port in ports {
        if let Some(port_name) = port.name.as_deref().filter(|n| !n.is_empty()) {
            set(format!("SERVICE_PORT_{}", variable_name(port_name)), place(port).1.to_string());
        }
    }
    for (index, port) in ports.iter().enumerate() {
        let (host, number) = place(port);
        let protocol = protocol(port);
        let url = format!("{}://{host}:{number}", protocol.to_lowercase());
        if index == 0 {
            set("PORT".into(), url.clone());
        }
        let link = format!("PORT_{}_{}", port.port, protocol.to_uppercase());
        set(link.clone(), url);
        set(format!("{link}_PROTO"), protocol.to_lowercase());
        set(format!("{link}_PORT"), number.to_string());
        set(format!("{link}_ADDR"), host);
    }
}

fn variable_name(name: &str) -> String {
    name.replace('-', "_").to_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service(namespace: &str, name: &str, ip: &str, ports: serde_json::Value) -> Arc<Service> {
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"clusterIP": ip, "ports": ports},
        }))
        .unwrap()
    }

    fn shop() -> Vec<Arc<Service>> {
        vec![
            service(
                "shop",
                "my-api",
                "127.78.0.5",
                json!([{"name": "http", "port": 80}, {"port": 53, "protocol": "UDP"}]),
            ),
            service("shop", "headless", "None", json!([{"port": 1}])),
            service("other", "hidden", "127.78.0.6", json!([{"port": 1}])),
            service("default", "kubernetes", "127.78.0.1", json!([{"name": "https", "port": 443}])),
        ]
    }

    #[test]
    fn announces_hosts_ports_and_links() {
        let services = shop();
        let variables = variables(&announced(&services, "shop", true), None);
        let expected = [
            ("MY_API_SERVICE_HOST", "127.78.0.5"),
            ("MY_API_SERVICE_PORT", "80"),
            ("MY_API_SERVICE_PORT_HTTP", "80"),
            ("MY_API_PORT", "tcp://127.78.0.5:80"),
            ("MY_API_PORT_80_TCP", "tcp://127.78.0.5:80"),
            ("MY_API_PORT_80_TCP_PROTO", "tcp"),
            ("MY_API_PORT_80_TCP_PORT", "80"),
            ("MY_API_PORT_80_TCP_ADDR", "127.78.0.5"),
            ("MY_API_PORT_53_UDP", "udp://127.78.0.5:53"),
            ("KUBERNETES_SERVICE_HOST", "127.78.0.1"),
            ("KUBERNETES_SERVICE_PORT_HTTPS", "443"),
        ];
        for (name, value) in expected {
            assert_eq!(variables.get(name).map(String::as_str), Some(value), "{name}");
        }
        assert!(!variables.keys().any(|k| k.starts_with("HEADLESS") || k.starts_with("HIDDEN")));
    }

    #[test]
    fn a_port_served_elsewhere_keeps_its_name_and_says_where() {
        let services = shop();
        let addresses = ServiceAddresses::new(|namespace, name, port| match (namespace, name, port) {
            ("shop", "my-api", 80) => Some("127.78.0.5:8080".parse().unwrap()),
            _ => None,
        });
        let variables = variables(&announced(&services, "shop", true), Some(&addresses));
        let expected = [
            ("MY_API_SERVICE_PORT", "8080"),
            ("MY_API_SERVICE_PORT_HTTP", "8080"),
            ("MY_API_PORT", "tcp://127.78.0.5:8080"),
            ("MY_API_PORT_80_TCP", "tcp://127.78.0.5:8080"),
            ("MY_API_PORT_80_TCP_PORT", "8080"),
            ("MY_API_PORT_53_UDP", "udp://127.78.0.5:53"),
            ("KUBERNETES_SERVICE_PORT", "443"),
        ];
        for (name, value) in expected {
            assert_eq!(variables.get(name).map(String::as_str), Some(value), "{name}");
        }
    }

    #[tokio::test]
    async fn a_start_waits_for_what_is_about_to_be_served_but_not_for_ever() {
        use std::sync::atomic::{AtomicU32, Ordering};
        let services = shop();
        let asked = Arc::new(AtomicU32::new(0));
        let count = asked.clone();
        let soon = ServiceAddresses::new(move |_, _, port| {
            let known = count.fetch_add(1, Ordering::Relaxed) > 3;
            known.then(|| SocketAddr::from(([127, 78, 0, 5], port)))
        });
        let announced = announced(&services, "shop", true);
        served(&announced, &soon).await;
        assert!(asked.load(Ordering::Relaxed) > 3);
        served(&announced, &ServiceAddresses::new(|_, _, _| None)).await;
    }

    #[test]
    fn without_links_only_the_api_server_is_announced() {
        let services = [
            service("shop", "a", "127.78.0.5", json!([{"port": 80}])),
            service("default", "kubernetes", "127.78.0.1", json!([{"port": 443}])),
        ];
        let variables = variables(&announced(&services, "shop", false), None);
        assert!(variables.keys().all(|k| k.starts_with("KUBERNETES_")) && !variables.is_empty());
    }
}
