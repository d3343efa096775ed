//! The things a probe or a lifecycle hook does: an HTTP request, a TCP connection, a health check, a command.

mod grpc;
mod http;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, ExecAction, GRPCAction, HTTPGetAction, LifecycleHandler, Probe, SleepAction,
    TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::net::TcpStream;

use crate::isolation::PodNetworks;
use crate::runtime::{ContainerKey, Runtime, RuntimeError};
use grpc::Check;
use http::Get;

/// As the kubelet names itself.
const USER_AGENT: &str = "kube-probe/1.36";

/// An action with its port numbers resolved.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    Http(Get),
    Grpc(Check),
    Tcp {
        host: String,
        port: u16,
    },
    Exec(Vec<String>),
    Sleep(Duration),
    /// Cannot be done; says why.
    Impossible(String),
}

/// Where actions happen.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) key: ContainerKey,
    pub(crate) address: Ipv4Addr,
    pub(crate) dialer: Dialer,
}

/// Connects to pods, and to whatever else an action names.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dialer {
    pub(crate) networks: Option<PodNetworks>,
}

/// A connection that could not be made, in Go's words.
#[derive(Debug, thiserror::Error)]
#[error("dial tcp {address}: connect: {}", in_go_words(source))]
struct DialError {
    address: String,
    source: std::io::Error,
}

impl Action {
    pub(crate) fn of_probe(probe: &Probe, container: &Container, address: Ipv4Addr) -> Action {
        Action::of(&probe.http_get, &probe.tcp_socket, &probe.exec, &probe.grpc, &None, container, address)
    }

    pub(crate) fn of_hook(hook: &LifecycleHandler, container: &Container, address: Ipv4Addr) -> Action {
        Action::of(&hook.http_get, &hook.tcp_socket, &hook.exec, &None, &hook.sleep, container, address)
    }

    fn of(
        http: &Option<HTTPGetAction>,
        tcp: &Option<TCPSocketAction>,
        exec: &Option<ExecAction>,
        grpc: &Option<GRPCAction>,
        sleep: &Option<SleepAction>,
        container: &Container,
        address: Ipv4Addr,
    ) -> Action {
        let host_or = |host: &Option<String>| {
            host.clone().filter(|h| !h.is_empty()).unwrap_or_else(|| address.to_string())
        };
        let ports = container.ports.as_deref().unwrap_or_default();
        if let Some(exec) = exec {
            return Action::Exec(exec.command.clone().unwrap_or_default());
        }
        if let Some(get) = http {
            let tls = get.scheme.as_deref().is_some_and(|s| s.eq_ignore_ascii_case("https"));
            let headers = get.http_headers.iter().flatten().map(|h| (h.name.clone(), h.value.clone()));
            return match port_number(&get.port, ports) {
                Ok(port) => Action::Http(Get {
                    tls,
                    host: host_or(&get.host),
                    port,
                    path: path_of(get.path.as_deref().unwrap_or("/")),
                    headers: headers.collect(),
                }),
                Err(reason) => Action::Impossible(reason),
            };
        }
        if let Some(tcp) = tcp {
            return match port_number(&tcp.port, ports) {
                Ok(port) => Action::Tcp { host: host_or(&tcp.host), port },
                Err(reason) => Action::Impossible(reason),
            };
        }
        if let Some(grpc) = grpc {
            return match port_number(&IntOrString::Int(grpc.port), ports) {
                Ok(port) => Action::Grpc(Check {
                    host: address.to_string(),
                    port,
                    service: grpc.service.clone().unwrap_or_default(),
                }),
                Err(reason) => Action::Impossible(reason),
            };
        }
        match sleep {
            Some(sleep) => Action::Sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0))),
            None => Action::Impossible("no action is given (httpGet, tcpSocket, grpc or exec)".into()),
        }
    }

    /// Does it once; the error says what went wrong, as the kubelet would.
    pub(crate) async fn run(&self, target: &Target, timeout: Duration) -> Result<(), String> {
        match self {
            Action::Exec(command) => match target.runtime.exec(&target.key, command, timeout).await {
                Ok(output) if output.code == 0 => Ok(()),
                Ok(output) if output.output.is_empty() => Err(format!("command exited with {}", output.code)),
                Ok(output) => Err(output.output),
                Err(RuntimeError::Timeout { .. }) => Err(format!("command {:?} timed out", command.join(" "))),
                Err(error) => Err(error.to_string()),
            },
            Action::Http(get) => tokio::time::timeout(timeout, get.run(&target.dialer)).await.unwrap_or_else(|_| {
                let url = get.url();
                Err(format!(
                    "Get \"{url}\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
                ))
            }),
            Action::Grpc(check) => tokio::time::timeout(timeout, check.run(&target.dialer))
                .await
                .unwrap_or_else(|_| Err(format!("timeout: health rpc did not complete within {}", go(timeout)))),
            Action::Tcp { host, port } => match tokio::time::timeout(timeout, target.dialer.connect(host, *port)).await {
                Ok(connected) => connected.map(drop).map_err(|error| error.to_string()),
                Err(_) => Err(format!("dial tcp {host}:{port}: i/o timeout")),
            },
            Action::Sleep(duration) => {
                tokio::time::sleep(*duration).await;
                Ok(())
            }
            Action::Impossible(reason) => Err(reason.clone()),
        }
    }
}

impl Dialer {
    async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, DialError> {
        let address = host.parse::<IpAddr>().ok();
        let inside =
            self.networks.as_ref().zip(address).filter(|(networks, address)| networks.owns(*address));
        let connected = match inside {
            Some((networks, address)) => networks.connect_tcp((address, port).into()).await,
            None => TcpStream::connect((host, port)).await,
        };
        connected.map_err(|source| DialError { address: format!("{host}:{port}"), source })
    }
}

/// The text of the C library without Rust's capital and error number.
pub(crate) fn in_go_words(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

/// An error and what caused it, each part once.
fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = error.to_string();
        if error.downcast_ref::<std::io::Error>().is_none() && !text.contains(&part) {
            text = format!("{text}: {part}");
        }
        cause = error.source();
    }
    text
}

fn go(duration: Duration) -> String {
    gantry_clock::format_go_duration(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
}

fn path_of(path: &str) -> String {
    if path.starts_with('/') { path.into() } else { format!("/{path}") }
}

fn port_number(port: &IntOrString, ports: &[ContainerPort]) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => match ports.iter().find(|p| p.name.as_deref() == Some(name)) {
            Some(port) => port.container_port,
            None => {
                name.parse().map_err(|_| format!("couldn't find port: {name:?} in the container's ports"))?
            }
        },
    };
    u16::try_from(number).ok().filter(|n| *n > 0).ok_or_else(|| format!("invalid port number: {number}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn action(probe: serde_json::Value) -> Action {
        let container: Container =
            serde_json::from_value(json!({"name": "c", "ports": [{"name": "web", "containerPort": 81}]}))
                .unwrap();
        let probe: Probe = serde_json::from_value(probe).unwrap();
        Action::of_probe(&probe, &container, Ipv4Addr::new(127, 1, 2, 3))
    }

    #[test]
    fn ports_are_resolved_by_name() {
        let get = |action| match action {
            Action::Http(get) => get,
            other => panic!("{other:?}"),
        };
        let web = get(action(json!({"httpGet": {"port": "web", "path": "x"}})));
        assert_eq!(web.url(), "http://127.1.2.3:81/x");
        let tls = get(action(json!({"httpGet": {"port": 8443, "scheme": "HTTPS", "host": "h"}})));
        assert_eq!(tls.url(), "https://h:8443/");
        assert!(matches!(action(json!({"tcpSocket": {"port": 82, "host": "h"}})),
            Action::Tcp { port: 82, host } if host == "h"));
        assert!(
            matches!(action(json!({"tcpSocket": {"port": "nope"}})), Action::Impossible(why) if why.contains("nope"))
        );
        assert!(matches!(action(json!({"httpGet": {"port": 0}})), Action::Impossible(_)));
        assert!(matches!(action(json!({"grpc": {"port": 83, "service": "db"}})),
            Action::Grpc(check) if check.address() == "127.1.2.3:83" && check.service == "db"));
        assert!(matches!(action(json!({"grpc": {"port": 0}})), Action::Impossible(_)));
    }

    #[tokio::test]
    async fn silence_is_a_timeout_in_the_words_of_the_kubelet() {
        // The backlog takes the connection; nobody answers on it.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let target = Target {
            runtime: Arc::new(crate::ProcessRuntime::new(crate::logs::Limits { max_bytes: 1, max_files: 1 })),
            key: ContainerKey { pod_uid: "u".into(), container: "c".into(), attempt: 0 },
            address: Ipv4Addr::LOCALHOST,
            dialer: Dialer::default(),
        };
        let run = async |probe| action(probe).run(&target, Duration::from_millis(50)).await.unwrap_err();
        let http = run(json!({"httpGet": {"port": port, "host": "127.0.0.1"}})).await;
        assert_eq!(
            http,
            format!(
                "Get \"http://127.0.0.1:{port}/\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
            )
        );
        let check = Check { host: "127.0.0.1".into(), port, service: String::new() };
        let grpc = Action::Grpc(check).run(&target, Duration::from_millis(50)).await.unwrap_err();
        assert_eq!(grpc, "timeout: health rpc did not complete within 50ms");
        assert!(go(Duration::from_secs(90)) == "1m30s");
    }
}
