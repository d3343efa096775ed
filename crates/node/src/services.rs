//! The environment variables that announce Services to a container: `X_SERVICE_HOST` and the link-style family.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Service;

/// Variables for every service of the pod's namespace that has a cluster IP, plus `kubernetes` of `default`.
/// Without `enable_links` only the latter is announced, as upstream.
pub(crate) fn variables<'a>(
    services: impl IntoIterator<Item = &'a Service>,
    namespace: &str,
    enable_links: bool,
) -> BTreeMap<String, String> {
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
    let mut variables = BTreeMap::new();
    for (name, service) in chosen {
        announce(name, service, &mut variables);
    }
    variables
}

fn announce(name: &str, service: &Service, variables: &mut BTreeMap<String, String>) {
    let Some(spec) = &service.spec else { return };
    let Some(ip) = spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty() && *ip != "None") else { return };
    let ports = spec.ports.as_deref().unwrap_or_default();
    let Some(first) = ports.first() else { return };
    let prefix = variable_name(name);
    let mut set = |suffix: String, value: String| variables.insert(format!("{prefix}_{suffix}"), value);

    set("SERVICE_HOST".into(), ip.into());
    set("SERVICE_PORT".into(), first.port.to_string());
    for port in ports {
        if let Some(port_name) = port.name.as_deref().filter(|n| !n.is_empty()) {
            set(format!("SERVICE_PORT_{}", variable_name(port_name)), port.port.to_string());
        }
    }
    for (index, port) in ports.iter().enumerate() {
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let number = port.port;
        let url = format!("{}://{ip}:{number}", protocol.to_lowercase());
        if index == 0 {
            set("PORT".into(), url.clone());
        }
        let link = format!("PORT_{number}_{}", protocol.to_uppercase());
        set(link.clone(), url);
        set(format!("{link}_PROTO"), protocol.to_lowercase());
        set(format!("{link}_PORT"), number.to_string());
        set(format!("{link}_ADDR"), ip.into());
    }
}

fn variable_name(name: &str) -> String {
    name.replace('-', "_").to_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service(namespace: &str, name: &str, ip: &str, ports: serde_json::Value) -> Service {
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"clusterIP": ip, "ports": ports},
        }))
        .unwrap()
    }

    #[test]
    fn announces_hosts_ports_and_links() {
        let services = [
            service(
                "shop",
                "my-api",
                "127.78.0.5",
                json!([{"name": "http", "port": 80}, {"port": 53, "protocol": "UDP"}]),
            ),
            service("shop", "headless", "None", json!([{"port": 1}])),
            service("other", "hidden", "127.78.0.6", json!([{"port": 1}])),
            service("default", "kubernetes", "127.78.0.1", json!([{"name": "https", "port": 443}])),
        ];
        let variables = variables(&services, "shop", true);
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
    fn without_links_only_the_api_server_is_announced() {
        let services = [
            service("shop", "a", "127.78.0.5", json!([{"port": 80}])),
            service("default", "kubernetes", "127.78.0.1", json!([{"port": 443}])),
        ];
        let variables = variables(&services, "shop", false);
        assert!(variables.keys().all(|k| k.starts_with("KUBERNETES_")) && !variables.is_empty());
    }
}
