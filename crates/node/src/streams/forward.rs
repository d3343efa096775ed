//! port-forward: bytes between a client's streams and connections to ports of a pod.
//!
//! A forwarded connection is a pair of SPDY streams, one for errors and one for data, which name the port and each
//! other by their headers; or, with WebSocket channels, one connection per port of the query: channel 2n carries its
//! data and 2n+1 its errors, and each begins with the port's number.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use gantry_operator::Key;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

use super::spdy::{Decoder, Encoder, Frame};
use super::{Connection, Socket, StreamError};
use crate::isolation::PodNetworks;
use crate::log_stream::LogError;
use crate::node::Node;
use crate::procfs;
use crate::runtime::Runtime;

const CHUNK: usize = 32 * 1024;
const WAITING_CHUNKS: usize = 64;
/// Streams of one client at a time.
const STREAMS: usize = 2_000;
const TUNNEL_BYTES: usize = 256 * 1024;

/// The pod whose ports are forwarded.
#[derive(Clone)]
pub(super) struct Target {
    name: String,
    uid: String,
    address: Ipv4Addr,
    runtime: Arc<dyn Runtime>,
    networks: Option<PodNetworks>,
}

impl Target {
    pub(super) fn of(node: &Node, namespace: &str, pod: &str) -> Result<Target, StreamError> {
        let name = format!("{namespace}/{pod}");
        let object = node.inner.pods.get(&Key::new(namespace, pod));
        let object = object.ok_or_else(|| LogError::NoPod { pod: name.clone() })?;
        let status = object.status.as_ref();
        let running = status.and_then(|status| status.phase.as_deref()) == Some("Running");
        let address = status.and_then(|status| status.pod_ip.as_deref()?.parse().ok());
        match address.filter(|_| running) {
            Some(address) => Ok(Target {
                name,
                uid: object.metadata.uid.clone().unwrap_or_default(),
                address,
                runtime: node.inner.shared.runtime.clone(),
                networks: node.inner.shared.config.networks.clone(),
            }),
            None => Err(StreamError::NoAddress(name)),
        }
    }

    /// The pod's address first; then 127.0.0.1, when it is this pod that listens there.
    async fn connect(&self, port: u16) -> Result<TcpStream, String> {
        if let Some(networks) = self.networks.as_ref().filter(|networks| networks.owns(self.address.into())) {
            let connected = networks.connect_inside(&self.uid, port).await;
            return connected.map_err(|error| self.refusal(port, &error));
        }
        let error = match TcpStream::connect((self.address, port)).await {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        let (runtime, uid) = (self.runtime.clone(), self.uid.clone());
        let local = tokio::task::spawn_blocking(move || listens_locally(&*runtime, &uid, port)).await;
        if local.unwrap_or(false)
            && let Ok(stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await
        {
            return Ok(stream);
        }
        Err(self.refusal(port, &error))
    }

    fn refusal(&self, port: u16, error: &std::io::Error) -> String {
        let refused = crate::action::in_go_words(error);
        format!(
            "error forwarding port {port} to pod {}, uid {}: dial tcp4 {}:{port}: connect: {refused}",
            self.name, self.uid, self.address
        )
    }
}

fn listens_locally(runtime: &dyn Runtime, uid: &str, port: u16) -> bool {
    let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let inodes: Vec<u64> = procfs::listeners()
        .into_iter()
        .filter(|listener| listener.port == port && listener.address == local)
        .map(|listener| listener.inode)
        .collect();
    let owners = procfs::socket_owners(&inodes);
    owners.values().any(|pid| runtime.pod_of_process(*pid).is_some_and(|pod| pod.uid == uid))
}

// === WebSocket channels ===

/// Ends when every forwarded connection has ended or the client has gone.
pub(super) async fn by_channels(socket: Socket, ports: &[u16], target: Target) {
    let (mut sink, mut messages) = socket.split();
    let (send, mut waiting) = mpsc::channel::<Bytes>(WAITING_CHUNKS);
    let mut inputs = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let Ok(channel) = u8::try_from(index * 2) else { break };
        for channel in [channel, channel + 1] {
            let mut greeting = BytesMut::new();
            greeting.put_u8(channel);
            greeting.put_u16_le(*port);
            if sink.send(Message::Binary(greeting.freeze())).await.is_err() {
                return;
            }
        }
        let (input, received) = mpsc::channel::<Bytes>(WAITING_CHUNKS);
        inputs.push(input);
        let (target, port, send) = (target.clone(), *port, send.clone());
        tokio::spawn(async move {
            let outgoing = |data: &[u8]| {
                let mut message = BytesMut::with_capacity(1 + data.len());
                message.put_u8(channel);
                message.put_slice(data);
                message.freeze()
            };
            match target.connect(port).await {
                Ok(stream) => pump(stream, received, &send, outgoing).await,
                Err(message) => {
                    let text = [&[channel + 1], message.as_bytes()].concat();
                    let _ = send.send(text.into()).await;
                }
            }
        });
    }
    drop(send);
    let incoming = async {
        while let Some(Ok(message)) = messages.next().await {
            let Message::Binary(mut data) = message else { continue };
            if data.is_empty() {
                continue;
            }
            let channel = data.split_to(1)[0];
            // Errors flow only to the client.
            if channel % 2 == 0
                && let Some(input) = inputs.get(usize::from(channel / 2))
            {
                let _ = input.send(data).await;
            }
        }
    };
    let outgoing = async {
        while let Some(message) = waiting.recv().await {
            if sink.send(Message::Binary(message)).await.is_err() {
                return;
            }
        }
        let _ = sink.send(Message::Close(Some(super::normal_closure()))).await;
    };
    tokio::select! {
        () = incoming => {}
        () = outgoing => {}
    }
}

/// Copies both ways until the pod has closed its side, or the client its own and the pod has answered.
async fn pump(
    stream: TcpStream,
    mut received: mpsc::Receiver<Bytes>,
    send: &mpsc::Sender<Bytes>,
    outgoing: impl Fn(&[u8]) -> Bytes,
) {
    let (mut from_pod, mut to_pod) = stream.into_split();
    let writing = tokio::spawn(async move {
        while let Some(data) = received.recv().await {
            if to_pod.write_all(&data).await.is_err() {
                return;
            }
        }
        let _ = to_pod.shutdown().await;
    });
    let mut buffer = vec![0; CHUNK];
    while let Ok(count @ 1..) = from_pod.read(&mut buffer).await {
        if send.send(outgoing(&buffer[..count])).await.is_err() {
            break;
        }
    }
    writing.abort();
}

// === SPDY ===

/// SPDY inside binary messages.
pub(super) async fn through_tunnel(socket: Socket, target: Target) {
    let (near, far) = tokio::io::duplex(TUNNEL_BYTES);
    let (mut from_spdy, mut to_spdy) = tokio::io::split(near);
    let (mut sink, mut messages) = socket.split();
    let incoming = async {
        while let Some(Ok(message)) = messages.next().await {
            if let Message::Binary(data) = message
                && to_spdy.write_all(&data).await.is_err()
            {
                return;
            }
        }
    };
    let outgoing = async {
        let mut buffer = vec![0; CHUNK];
        while let Ok(count @ 1..) = from_spdy.read(&mut buffer).await {
            let message = Message::Binary(Bytes::copy_from_slice(&buffer[..count]));
            if sink.send(message).await.is_err() {
                return;
            }
        }
        let _ = sink.send(Message::Close(Some(super::normal_closure()))).await;
    };
    tokio::select! {
        () = incoming => {}
        () = outgoing => {}
        () = serve(far, target) => {}
    }
}

pub(super) async fn over_spdy(connection: Connection, target: Target) {
    serve(connection, target).await;
}

/// A stream that waits for the other one of its pair.
#[derive(Default)]
struct Pair {
    error: Option<u32>,
    data: Option<(u32, mpsc::Receiver<Bytes>)>,
    port: Option<u16>,
}

async fn serve(connection: impl AsyncRead + AsyncWrite + Send + 'static, target: Target) {
    let (mut reader, mut writer) = tokio::io::split(connection);
    let (send, mut waiting) = mpsc::channel::<Bytes>(WAITING_CHUNKS);
    let writing = async move {
        while let Some(frame) = waiting.recv().await {
            if writer.write_all(&frame).await.is_err() {
                return;
            }
        }
    };
    let reading = async move {
        let mut decoder = Decoder::new();
        let mut session = Session {
            target,
            send,
            encoder: Encoder::default(),
            streams: HashMap::new(),
            pairs: HashMap::new(),
        };
        let mut buffer = BytesMut::with_capacity(CHUNK);
        loop {
            match decoder.decode(&mut buffer) {
                Ok(Some(frame)) => {
                    if session.take(frame).await.is_none() {
                        return;
                    }
                }
                Ok(None) => match reader.read_buf(&mut buffer).await {
                    Ok(1..) => {}
                    _ => return,
                },
                Err(error) => return tracing::debug!(%error, "port-forward connection closed"),
            }
        }
    };
    tokio::select! {
        () = writing => {}
        () = reading => {}
    }
}

struct Session {
    target: Target,
    send: mpsc::Sender<Bytes>,
    encoder: Encoder,
    /// Where the data of each stream that the client has not closed goes.
    streams: HashMap<u32, mpsc::Sender<Bytes>>,
    /// By request id.
    pairs: HashMap<String, Pair>,
}

impl Session {
    /// Does what a frame asks for; `None` when the connection is over.
    async fn take(&mut self, frame: Frame) -> Option<()> {
        match frame {
            Frame::SynStream { stream, fin, headers } => self.open(stream, fin, &headers).await?,
            Frame::Data { stream, fin, data } => {
                if !data.is_empty()
                    && let Some(input) = self.streams.get(&stream)
                    && input.send(data).await.is_err()
                {
                    self.streams.remove(&stream);
                }
                if fin {
                    self.streams.remove(&stream);
                }
            }
            Frame::RstStream { stream } => {
                self.streams.remove(&stream);
            }
            Frame::Ping { id } => self.send.send(Encoder::ping(id)).await.ok()?,
            Frame::GoAway => return None,
            Frame::Other => {}
        }
        Some(())
    }

    async fn open(&mut self, stream: u32, fin: bool, headers: &[(String, String)]) -> Option<()> {
        let header =
            |wanted: &str| headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
        let port = header("port").and_then(|port| port.parse::<u16>().ok()).filter(|port| *port > 0);
        let kind = header("streamtype").unwrap_or_default();
        self.streams.retain(|_, input| !input.is_closed());
        let refused = port.is_none() || self.streams.len() >= STREAMS || self.pairs.len() >= STREAMS;
        if refused || !matches!(kind, "error" | "data") {
            return self.send.send(Encoder::rst_stream(stream)).await.ok();
        }
        self.send.send(self.encoder.syn_reply(stream)).await.ok()?;
        // Clients without request ids open the error stream right before the data stream.
        let request = header("requestid").unwrap_or_default().to_owned();
        let pair = self.pairs.entry(request.clone()).or_default();
        pair.port = port;
        if kind == "error" {
            pair.error = Some(stream);
        } else {
            let (input, received) = mpsc::channel(WAITING_CHUNKS);
            if !fin {
                self.streams.insert(stream, input);
            }
            pair.data = Some((stream, received));
        }
        if pair.error.is_none() || pair.data.is_none() {
            return Some(());
        }
        if let Some(Pair { error: Some(error), data: Some((data, received)), port: Some(port) }) =
            self.pairs.remove(&request)
        {
            tokio::spawn(forward(self.target.clone(), port, error, data, received, self.send.clone()));
        }
        Some(())
    }
}

/// One forwarded connection: both streams are closed at its end, which the client waits for.
async fn forward(
    target: Target,
    port: u16,
    error: u32,
    data: u32,
    received: mpsc::Receiver<Bytes>,
    send: mpsc::Sender<Bytes>,
) {
    match target.connect(port).await {
        Ok(stream) => pump(stream, received, &send, |bytes| Encoder::data(data, false, bytes)).await,
        Err(message) => {
            let _ = send.send(Encoder::data(error, false, message.as_bytes())).await;
        }
    }
    let _ = send.send(Encoder::data(data, true, &[])).await;
    let _ = send.send(Encoder::data(error, true, &[])).await;
}
