//! exec, attach and port-forward: requests that become a connection of their own.
//!
//! A request is checked, answered with 101, and a task takes over its connection. Two ways to speak on it are served:
//! WebSocket channels (`v4.channel.k8s.io`, `v5.channel.k8s.io`), where each message begins with a channel's number,
//! and for port-forward SPDY/3.1, either tunnelled through a WebSocket as kubectl does, or bare as its older versions
//! do.

mod channels;
mod forward;
mod spdy;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, coding::CloseCode};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use crate::log_stream::{LogError, decode};
use crate::node::Node;
use crate::runtime::{ContainerKey, RuntimeError, SessionSpec};

/// A message of a client; kubectl sends 32 KiB.
const MESSAGE_BYTES: usize = 1 << 20;
const V5: &str = "v5.channel.k8s.io";
const V4: &str = "v4.channel.k8s.io";
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
const FORWARD: &str = "portforward.k8s.io";
const SPDY: &str = "SPDY/3.1";
const STREAM_PROTOCOL: &str = "x-stream-protocol-version";

/// Why a request did not become a connection. [`StreamError::status`] is the HTTP status of the answer.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    #[error(transparent)]
    Container(#[from] LogError),
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    #[error("unable to upgrade: the request has no `Connection: Upgrade`, `Upgrade: websocket` and key")]
    NoUpgrade,
    #[error("unable to upgrade: none of the protocols {offered} is served here; {accepted} are")]
    Protocol { offered: String, accepted: String },
    #[error(
        "{subresource} over SPDY is not served, only over WebSocket (kubectl 1.31 or later uses it by itself; before that set KUBECTL_REMOTE_COMMAND_WEBSOCKETS=true)"
    )]
    Spdy { subresource: &'static str },
    #[error("you must specify at least 1 of stdin, stdout, stderr")]
    NoStream,
    #[error("tty and stderr cannot both be true")]
    TtyWithStderr,
    #[error("you must specify a command: the parameter `command` is missing")]
    NoCommand,
    #[error("query parameter {name}={value:?} is not {expected}")]
    Parameter { name: &'static str, value: String, expected: &'static str },
    #[error("pod {0} does not run")]
    NoAddress(String),
}

impl StreamError {
    pub fn status(&self) -> u16 {
        match self {
            StreamError::Container(error) => error.status(),
            StreamError::Runtime(_) => 500,
            StreamError::Protocol { .. } => 403,
            _ => 400,
        }
    }
}

/// What the query of exec and attach says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    container: Option<String>,
    command: Vec<String>,
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
    ports: Vec<u16>,
}

/// How the client wants to speak.
enum Dialect {
    WebSocket { key: String, protocol: &'static str },
    Spdy { protocol: &'static str },
}

impl Node {
    /// `kubectl exec`: runs a command beside the container. The connection's task ends with the command.
    pub async fn exec_stream(
        &self,
        namespace: &str,
        pod: &str,
        request: Request<Bytes>,
    ) -> Result<Response<()>, StreamError> {
        let options = Options::parse(request.uri().query().unwrap_or_default())?;
        options.check_streams()?;
        if options.command.is_empty() {
            return Err(StreamError::NoCommand);
        }
        let spoken = dialect(request.headers(), &[V5, V4])?;
        // First, because kubectl falls back to SPDY when its first request is refused, and shows the second answer.
        let container = self.running_container(namespace, pod, options.container.as_deref())?;
        let Dialect::WebSocket { key, protocol } = spoken else {
            return Err(StreamError::Spdy { subresource: "exec" });
        };
        let spec = SessionSpec { command: options.command.clone(), stdin: options.stdin, tty: options.tty };
        let upgrade = take_upgrade(request)?;
        let runtime = self.inner.shared.runtime.clone();
        tokio::spawn(async move {
            let Some(socket) = websocket(upgrade).await else { return };
            let session = runtime.session(&container, &spec).await;
            channels::exec(socket, session, &options, protocol == V5).await;
        });
        Ok(switching_to_websocket(&key, protocol))
    }

    /// `kubectl attach`: connects to what the container itself reads and writes.
    pub async fn attach_stream(
        &self,
        namespace: &str,
        pod: &str,
        request: Request<Bytes>,
    ) -> Result<Response<()>, StreamError> {
        let options = Options::parse(request.uri().query().unwrap_or_default())?;
        options.check_streams()?;
        let spoken = dialect(request.headers(), &[V5, V4])?;
        // First, because kubectl falls back to SPDY when its first request is refused, and shows the second answer.
        let container = self.running_container(namespace, pod, options.container.as_deref())?;
        let Dialect::WebSocket { key, protocol } = spoken else {
            return Err(StreamError::Spdy { subresource: "attach" });
        };
        let attachment = self.inner.shared.runtime.attach(&container)?;
        let stdin_once = self.stdin_once(namespace, pod, &container.container);
        let upgrade = take_upgrade(request)?;
        let runtime = self.inner.shared.runtime.clone();
        tokio::spawn(async move {
            let Some(socket) = websocket(upgrade).await else { return };
            let fed = options.stdin && attachment.stdin.is_some();
            let close = move || {
                if fed && stdin_once {
                    runtime.close_stdin(&container);
                }
            };
            channels::attach(socket, attachment, &options, protocol == V5, close.clone()).await;
            close();
        });
        Ok(switching_to_websocket(&key, protocol))
    }

    /// `kubectl port-forward`: connections to ports of the pod.
    pub async fn forward_stream(
        &self,
        namespace: &str,
        pod: &str,
        request: Request<Bytes>,
    ) -> Result<Response<()>, StreamError> {
        let options = Options::parse(request.uri().query().unwrap_or_default())?;
        let target = forward::Target::of(self, namespace, pod)?;
        match dialect(request.headers(), &[TUNNEL, V5, V4, FORWARD])? {
            Dialect::WebSocket { key, protocol: TUNNEL } => {
                let upgrade = take_upgrade(request)?;
                tokio::spawn(async move {
                    if let Some(socket) = websocket(upgrade).await {
                        forward::through_tunnel(socket, target).await;
                    }
                });
                Ok(switching_to_websocket(&key, TUNNEL))
            }
            // Channels have no close signal here, so the older protocol says all.
            Dialect::WebSocket { key, protocol: V5 | V4 } => {
                if options.ports.is_empty() {
                    return Err(StreamError::Parameter {
                        name: "ports",
                        value: String::new(),
                        expected: "a list of port numbers",
                    });
                }
                let offered = offered_protocols(request.headers());
                let protocol = if offered.contains(V4) { V4 } else { V5 };
                let upgrade = take_upgrade(request)?;
                tokio::spawn(async move {
                    if let Some(socket) = websocket(upgrade).await {
                        forward::by_channels(socket, &options.ports, target).await;
                    }
                });
                Ok(switching_to_websocket(&key, protocol))
            }
            Dialect::WebSocket { protocol, .. } => Err(StreamError::Protocol {
                offered: protocol.to_owned(),
                accepted: format!("{TUNNEL}, {V4}"),
            }),
            Dialect::Spdy { protocol } => {
                let upgrade = take_upgrade(request)?;
                tokio::spawn(async move {
                    if let Some(connection) = upgraded(upgrade).await {
                        forward::over_spdy(connection, target).await;
                    }
                });
                Ok(switching_to_spdy(protocol))
            }
        }
    }

    /// The container, which must be running.
    fn running_container(
        &self,
        namespace: &str,
        pod: &str,
        container: Option<&str>,
    ) -> Result<ContainerKey, StreamError> {
        let (key, _) = self.container(namespace, pod, container)?;
        match self.inner.shared.runtime.log_growth(&key) {
            Some(_) => Ok(key),
            None => Err(LogError::NotRunning { container: key.container, pod: pod.to_owned() }.into()),
        }
    }

    fn stdin_once(&self, namespace: &str, pod: &str, container: &str) -> bool {
        let pod = self.inner.pods.get(&gantry_operator::Key::new(namespace, pod));
        let containers = pod.as_ref().and_then(|pod| pod.spec.as_ref()).map(|spec| &spec.containers);
        containers.into_iter().flatten().any(|c| c.name == container && c.stdin_once == Some(true))
    }
}

impl Options {
    fn parse(query: &str) -> Result<Options, StreamError> {
        let mut options = Options::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decode(value);
            let flag = |name| match value.as_str() {
                "1" | "t" | "T" | "true" | "TRUE" | "True" | "" => Ok(true),
                "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
                _ => Err(StreamError::Parameter { name, value: value.clone(), expected: "true or false" }),
            };
            match name {
                "container" => options.container = Some(value).filter(|name| !name.is_empty()),
                "command" => options.command.push(value),
                "stdin" => options.stdin = flag("stdin")?,
                "stdout" => options.stdout = flag("stdout")?,
                "stderr" => options.stderr = flag("stderr")?,
                "tty" => options.tty = flag("tty")?,
                "ports" => {
                    for port in value.split(',') {
                        let number = port.trim().parse::<u16>().ok().filter(|number| *number > 0);
                        options.ports.push(number.ok_or_else(|| StreamError::Parameter {
                            name: "ports",
                            value: value.clone(),
                            expected: "a list of port numbers",
                        })?);
                    }
                }
                _ => {}
            }
        }
        Ok(options)
    }

    fn check_streams(&self) -> Result<(), StreamError> {
        if self.tty && self.stderr {
            return Err(StreamError::TtyWithStderr);
        }
        match self.stdin || self.stdout || self.stderr {
            true => Ok(()),
            false => Err(StreamError::NoStream),
        }
    }
}

fn offered_protocols(headers: &HeaderMap) -> String {
    let values = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    values.filter_map(|value| value.to_str().ok()).collect::<Vec<_>>().join(", ")
}

/// Picks the first protocol of `served` that the client offers.
fn dialect(headers: &HeaderMap, served: &[&'static str]) -> Result<Dialect, StreamError> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let pick = |offered: &str| {
        let offers = |protocol: &str| offered.split(',').any(|offer| offer.trim() == protocol);
        served.iter().copied().find(|protocol| offers(protocol)).ok_or_else(|| StreamError::Protocol {
            offered: if offered.is_empty() { "(none)".to_owned() } else { offered.to_owned() },
            accepted: served.join(", "),
        })
    };
    let upgrade = text("upgrade");
    if upgrade.eq_ignore_ascii_case("websocket") {
        let key = text("sec-websocket-key").to_owned();
        if key.is_empty() {
            return Err(StreamError::NoUpgrade);
        }
        return Ok(Dialect::WebSocket { key, protocol: pick(&offered_protocols(headers))? });
    }
    if upgrade.eq_ignore_ascii_case(SPDY) {
        if !served.contains(&FORWARD) {
            return Ok(Dialect::Spdy { protocol: FORWARD });
        }
        let values = headers.get_all(STREAM_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
        let offered = values.collect::<Vec<_>>().join(", ");
        return match pick(&offered)? {
            FORWARD => Ok(Dialect::Spdy { protocol: FORWARD }),
            other => Err(StreamError::Protocol { offered: other.to_owned(), accepted: FORWARD.to_owned() }),
        };
    }
    Err(StreamError::NoUpgrade)
}

fn take_upgrade(mut request: Request<Bytes>) -> Result<OnUpgrade, StreamError> {
    request.extensions_mut().remove::<OnUpgrade>().ok_or(StreamError::NoUpgrade)
}

fn switching_to_websocket(key: &str, protocol: &'static str) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(&derive_accept_key(key.as_bytes())) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    response
}

fn switching_to_spdy(protocol: &'static str) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static(SPDY));
    headers.insert(STREAM_PROTOCOL, HeaderValue::from_static(protocol));
    response
}

type Connection = TokioIo<hyper::upgrade::Upgraded>;
type Socket = WebSocketStream<Connection>;

async fn upgraded(upgrade: OnUpgrade) -> Option<Connection> {
    match upgrade.await {
        Ok(connection) => Some(TokioIo::new(connection)),
        Err(error) => {
            tracing::debug!(%error, "a client went away before its connection was upgraded");
            None
        }
    }
}

async fn websocket(upgrade: OnUpgrade) -> Option<Socket> {
    let config =
        WebSocketConfig::default().max_message_size(Some(MESSAGE_BYTES)).max_frame_size(Some(MESSAGE_BYTES));
    let connection = upgraded(upgrade).await?;
    Some(WebSocketStream::from_raw_socket(connection, Role::Server, Some(config)).await)
}

/// Clients take a close without a code for a failure.
fn normal_closure() -> CloseFrame {
    CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::from_static("") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_of_kubectl_exec() {
        let options = Options::parse(
            "command=sh&command=-c&command=echo+a%26b&container=c&stdin=true&stdout=1&tty=false",
        )
        .unwrap();
        assert_eq!(options.command, ["sh", "-c", "echo a&b"]);
        assert_eq!(options.container.as_deref(), Some("c"));
        assert!(options.stdin && options.stdout && !options.stderr && !options.tty);
        assert_eq!(Options::parse("ports=80,81&ports=82").unwrap().ports, [80, 81, 82]);
        for bad in ["tty=x", "ports=0", "ports=x"] {
            assert_eq!(Options::parse(bad).unwrap_err().status(), 400, "{bad}");
        }
        assert!(Options::default().check_streams().is_err());
    }

    #[test]
    fn a_protocol_is_agreed_on_or_refused() {
        let headers = |upgrade: &str, protocols: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("upgrade", upgrade.parse().unwrap());
            headers.insert("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==".parse().unwrap());
            headers.insert("sec-websocket-protocol", protocols.parse().unwrap());
            headers
        };
        let picked = |headers: &HeaderMap| match dialect(headers, &[V5, V4]) {
            Ok(Dialect::WebSocket { protocol, .. }) => protocol.to_owned(),
            Ok(Dialect::Spdy { .. }) => "spdy".to_owned(),
            Err(error) => error.status().to_string(),
        };
        assert_eq!(picked(&headers("websocket", "v4.channel.k8s.io, v5.channel.k8s.io")), V5);
        assert_eq!(picked(&headers("WebSocket", V4)), V4);
        assert_eq!(picked(&headers("websocket", "chat")), "403");
        assert_eq!(picked(&headers("SPDY/3.1", "")), "spdy");
        assert_eq!(picked(&headers("h2c", "")), "400");
        let response = switching_to_websocket("dGhlIHNhbXBsZSBub25jZQ==", V5);
        assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
