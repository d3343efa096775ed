//! The things a probe or a lifecycle hook does: an HTTP request, a TCP connection, a command.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, ExecAction, GRPCAction, HTTPGetAction, LifecycleHandler, Probe, SleepAction,
    TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::net::TcpStream;

use crate::runtime::{ContainerKey, Runtime, RuntimeError};

/// An action with its port numbers resolved.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    Http {
        host: String,
        port: u16,
        path: String,
        headers: Vec<(String, String)>,
    },
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
}

const BODY_BYTES: usize = 10 * 1024;

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
            if get.scheme.as_deref().is_some_and(|s| s.eq_ignore_ascii_case("https")) {
                return Action::Impossible(
                    "HTTPS is not supported for pods run as processes; use scheme HTTP, tcpSocket or exec"
                        .into(),
                );
            }
            let headers = get.http_headers.iter().flatten().map(|h| (h.name.clone(), h.value.clone()));
            return match port_number(&get.port, ports) {
                Ok(port) => Action::Http {
                    host: host_or(&get.host),
                    port,
                    path: path_of(get.path.as_deref().unwrap_or("/")),
                    headers: headers.collect(),
                },
                Err(reason) => Action::Impossible(reason),
            };
        }
        if let Some(tcp) = tcp {
            return match port_number(&tcp.port, ports) {
                Ok(port) => Action::Tcp { host: host_or(&tcp.host), port },
                Err(reason) => Action::Impossible(reason),
            };
        }
        if grpc.is_some() {
            return Action::Impossible(
                "grpc probes are not supported for pods run as processes; use httpGet, tcpSocket or exec"
                    .into(),
            );
        }
        match sleep {
            Some(sleep) => Action::Sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0))),
            None => Action::Impossible("no action is given (httpGet, tcpSocket or exec)".into()),
        }
    }

    /// Does it once; the error says what went wrong, as the kubelet would.
    pub(crate) async fn run(&self, target: &Target, timeout: Duration) -> Result<(), String> {
        match self {
            Action::Exec(command) => match target.runtime.exec(&target.key, command, timeout).await {
                Ok(output) if output.code == 0 => Ok(()),
                Ok(output) if output.output.is_empty() => Err(format!("command exited with {}", output.code)),
                Ok(output) => Err(output.output),
                Err(error @ RuntimeError::Timeout { .. }) => Err(error.to_string()),
                Err(error) => Err(error.to_string()),
            },
            Action::Http { host, port, path, headers } => {
                let url = format!("http://{host}:{port}{path}");
                let request = get(host, *port, path, headers);
                match tokio::time::timeout(timeout, request).await {
                    Ok(Ok(200..=399)) => Ok(()),
                    Ok(Ok(status)) => Err(format!("HTTP probe failed with statuscode: {status}")),
                    Ok(Err(error)) => Err(format!("Get \"{url}\": {error}")),
                    Err(_) => Err(format!("Get \"{url}\": no answer within {timeout:?}")),
                }
            }
            Action::Tcp { host, port } => {
                match tokio::time::timeout(timeout, TcpStream::connect((host.as_str(), *port))).await {
                    Ok(Ok(_)) => Ok(()),
                    Ok(Err(error)) => Err(format!("dial tcp {host}:{port}: {error}")),
                    Err(_) => Err(format!("dial tcp {host}:{port}: no answer within {timeout:?}")),
                }
            }
            Action::Sleep(duration) => {
                tokio::time::sleep(*duration).await;
                Ok(())
            }
            Action::Impossible(reason) => Err(reason.clone()),
        }
    }
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// One request on a connection of its own; the status code.
async fn get(host: &str, port: u16, path: &str, headers: &[(String, String)]) -> Result<u16, AnyError> {
    let stream = TcpStream::connect((host, port)).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let mut request = http::Request::get(path);
    let given = |name: &str| headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
    if given("host").is_none() {
        request = request.header("host", format!("{host}:{port}"));
    }
    if given("user-agent").is_none() {
        request = request.header("user-agent", "kube-probe/1.36");
    }
    if given("accept").is_none() {
        request = request.header("accept", "*/*");
    }
    request = request.header("connection", "close");
    for (name, value) in headers.iter().filter(|(_, value)| !value.is_empty()) {
        request = request.header(name, value);
    }
    let request = request.body(Empty::<Bytes>::new())?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let mut body = response.into_body();
        let mut read = 0;
        while let Some(frame) = body.frame().await {
            read += frame?.data_ref().map_or(0, Bytes::len);
            if read > BODY_BYTES {
                break;
            }
        }
        Ok::<u16, AnyError>(status)
    };
    tokio::pin!(connection, exchange);
    tokio::select! {
        done = &mut exchange => done,
        ended = &mut connection => {
            ended?;
            exchange.await
        }
    }
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
        assert!(matches!(action(json!({"httpGet": {"port": "web", "path": "x"}})),
            Action::Http { port: 81, path, host, .. } if path == "/x" && host == "127.1.2.3"));
        assert!(matches!(action(json!({"tcpSocket": {"port": 82, "host": "h"}})),
            Action::Tcp { port: 82, host } if host == "h"));
        assert!(
            matches!(action(json!({"tcpSocket": {"port": "nope"}})), Action::Impossible(why) if why.contains("nope"))
        );
        assert!(matches!(action(json!({"httpGet": {"port": 0}})), Action::Impossible(_)));
        assert!(
            matches!(action(json!({"grpc": {"port": 1}})), Action::Impossible(why) if why.contains("grpc"))
        );
    }

    #[tokio::test]
    async fn http_statuses_decide() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            for status in ["204 No Content", "302 Found", "503 Busy"] {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = vec![0; 1024];
                let n = stream.read(&mut request).await.unwrap();
                assert!(String::from_utf8_lossy(&request[..n]).contains("x-probe: 1"));
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let headers = [("x-probe".to_string(), "1".to_string())];
        assert_eq!(get("127.0.0.1", port, "/", &headers).await.unwrap(), 204);
        assert_eq!(get("127.0.0.1", port, "/", &headers).await.unwrap(), 302);
        assert_eq!(get("127.0.0.1", port, "/", &headers).await.unwrap(), 503);
    }
}
