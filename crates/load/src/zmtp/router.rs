//! The ROUTER: listens, knows its peers by identity, takes their messages in one bounded queue.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;

use super::codec::{self, Decoder, GREETING_BYTES, Item, Malformed};

const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
/// Messages to one peer are written together up to about this many bytes.
const WRITE_BATCH_BYTES: usize = 64 * 1024;
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The bounds of a router.
#[derive(Clone, Copy, Debug)]
pub struct RouterConfig {
    pub addr: SocketAddr,
    /// Further connections are closed at once.
    pub max_peers: usize,
    /// Messages waiting for one peer; further ones are dropped, as at libzmq's high-water mark.
    pub peer_queue: usize,
    /// Messages waiting for the owner; then connections are not read.
    pub inbound_queue: usize,
    /// Bytes of those messages together, with the ones that the owner holds.
    pub inbound_bytes: u32,
    /// A larger message ends its connection.
    pub max_message: usize,
    pub handshake_timeout: Duration,
}

/// What comes out of a router.
#[derive(Debug)]
pub enum Inbound {
    /// A message's last part, and who sent it. It counts as waiting until `held` is dropped.
    Message { peer: Arc<str>, body: Bytes, held: OwnedSemaphorePermit },
    /// The peer's connection ended (and was not replaced by a newer one).
    Gone { peer: Arc<str> },
}

/// Why a message was not sent.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SendError {
    #[error("{0} is not connected")]
    Unknown(String),
    #[error("{0} does not read: its queue is full, the message was dropped")]
    Full(String),
}

pub struct Router {
    listener: TcpListener,
    local_addr: SocketAddr,
    config: RouterConfig,
    peers: Peers,
    inbound: mpsc::Receiver<Inbound>,
    sender: mpsc::Sender<Inbound>,
}

/// Sends to peers by identity; cheap to clone.
#[derive(Clone)]
pub struct RouterHandle {
    peers: Peers,
}

type Peers = Arc<Mutex<PeerTable>>;

#[derive(Default)]
struct PeerTable {
    by_identity: HashMap<Arc<str>, Peer>,
    connections: usize,
    numbers: u64,
}

struct Peer {
    /// Which connection this is, so that an old one's end does not remove a newer one.
    number: u64,
    queue: mpsc::Sender<Bytes>,
}

// === impl RouterConfig ===

impl RouterConfig {
    pub fn new(addr: SocketAddr) -> RouterConfig {
        RouterConfig {
            addr,
            max_peers: 10_000,
            peer_queue: 1000,
            inbound_queue: 4096,
            inbound_bytes: 256 * 1024 * 1024,
            // Locust's reports of ten thousand names stay below it.
            max_message: 16 * 1024 * 1024,
            handshake_timeout: Duration::from_secs(10),
        }
    }
}

// === impl Router ===

impl Router {
    /// Listens; connections are taken while [`Router::recv`] is awaited or [`Router::serve`] runs.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn bind(config: RouterConfig) -> io::Result<Router> {
        let listener = TcpListener::bind(config.addr).await?;
        let local_addr = listener.local_addr()?;
        let (sender, inbound) = mpsc::channel(config.inbound_queue.max(1));
        Ok(Router { listener, local_addr, config, peers: Peers::default(), inbound, sender })
    }

    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    pub fn handle(&self) -> RouterHandle {
        RouterHandle { peers: self.peers.clone() }
    }

    /// Accepts connections until the returned receiver is dropped; then all of them are closed.
    pub fn serve(self) -> mpsc::Receiver<Inbound> {
        let Router { listener, config, peers, inbound, sender, .. } = self;
        tokio::spawn(accept(listener, config, peers, sender));
        inbound
    }
}

async fn accept(listener: TcpListener, config: RouterConfig, peers: Peers, sender: mpsc::Sender<Inbound>) {
    let mut connections = JoinSet::new();
    let room = Arc::new(Semaphore::new(config.inbound_bytes as usize));
    loop {
        let accepted = tokio::select! {
            () = sender.closed() => return,
            accepted = listener.accept() => accepted,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, addr)) => {
                if peers.lock().connections >= config.max_peers {
                    tracing::warn!(%addr, most = config.max_peers, "too many workers, connection closed");
                    continue;
                }
                peers.lock().connections += 1;
                let (peers, sender, room) = (peers.clone(), sender.clone(), room.clone());
                connections.spawn(async move {
                    if let Err(error) = serve_peer(stream, config, &peers, &sender, &room).await {
                        tracing::debug!(%addr, %error, "worker connection ended");
                    }
                    peers.lock().connections -= 1;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                // Out of descriptors: the next accept would fail at once.
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_peer(
    mut stream: TcpStream,
    config: RouterConfig,
    peers: &Peers,
    sender: &mpsc::Sender<Inbound>,
    room: &Arc<Semaphore>,
) -> io::Result<()> {
    let mut reading = BytesMut::with_capacity(8 * 1024);
    let mut decoder = Decoder::of_at_most(config.max_message);
    let shake = handshake(&mut stream, "ROUTER", b"", &mut reading, &mut decoder);
    let identity = tokio::time::timeout(config.handshake_timeout, shake).await??;
    let (queue, mut outgoing) = mpsc::channel(config.peer_queue.max(1));
    let (peer, number) = {
        let mut table = peers.lock();
        table.numbers += 1;
        let number = table.numbers;
        let name = match std::str::from_utf8(&identity) {
            Ok(name) if !name.is_empty() => Arc::from(name),
            // A peer without a (readable) identity gets one, as from libzmq.
            _ => Arc::from(format!("anonymous-{number}")),
        };
        table.by_identity.insert(Arc::clone(&name), Peer { number, queue });
        (name, number)
    };
    let result = pump(&mut stream, &mut reading, &mut decoder, &mut outgoing, |body| {
        let (peer, room) = (peer.clone(), room.clone());
        // One that is larger than all the room waits for all of it.
        let size = u32::try_from(body.len()).unwrap_or(u32::MAX).min(config.inbound_bytes);
        async move {
            let Ok(held) = room.acquire_many_owned(size).await else { return false };
            sender.send(Inbound::Message { peer, body, held }).await.is_ok()
        }
    })
    .await;
    let last = {
        let mut table = peers.lock();
        let is_current = table.by_identity.get(&peer).is_some_and(|current| current.number == number);
        if is_current {
            table.by_identity.remove(&peer);
        }
        is_current
    };
    if last {
        let _ = sender.send(Inbound::Gone { peer }).await;
    }
    result
}

/// Greets and gives the peer's identity. What was read beyond stays in `reading`.
pub(super) async fn handshake(
    stream: &mut TcpStream,
    ours: &'static str,
    identity: &[u8],
    reading: &mut BytesMut,
    decoder: &mut Decoder,
) -> io::Result<Bytes> {
    stream.set_nodelay(true)?;
    let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE_IDLE);
    socket2::SockRef::from(&*stream).set_tcp_keepalive(&keepalive)?;
    stream.write_all(&codec::greeting()).await?;
    let mut theirs = [0; GREETING_BYTES];
    stream.read_exact(&mut theirs).await?;
    codec::check_greeting(&theirs).map_err(invalid)?;
    let mut out = BytesMut::new();
    codec::ready(ours, identity, &mut out);
    stream.write_all(&out).await?;
    loop {
        match decoder.next(reading).map_err(invalid)? {
            Some(Item::Ready { socket_type, identity }) => {
                let fits = match ours {
                    "ROUTER" => matches!(socket_type.as_str(), "DEALER" | "REQ" | "ROUTER"),
                    _ => matches!(socket_type.as_str(), "ROUTER" | "REP" | "DEALER"),
                };
                if !fits {
                    return Err(invalid(Malformed::SocketType { found: socket_type, ours }));
                }
                return Ok(identity);
            }
            Some(_) => return Err(invalid(Malformed::Command)),
            None => {
                if stream.read_buf(reading).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
        }
    }
}

/// Moves messages both ways until either side ends, or `took` answers false.
pub(super) async fn pump<F>(
    stream: &mut TcpStream,
    reading: &mut BytesMut,
    decoder: &mut Decoder,
    outgoing: &mut mpsc::Receiver<Bytes>,
    mut took: impl FnMut(Bytes) -> F,
) -> io::Result<()>
where
    F: Future<Output = bool>,
{
    let (mut input, mut output) = stream.split();
    let mut out = BytesMut::new();
    loop {
        while let Some(item) = decoder.next(reading).map_err(invalid)? {
            match item {
                Item::Message(mut parts) => {
                    if let Some(body) = parts.pop()
                        && !took(body).await
                    {
                        return Ok(());
                    }
                }
                Item::Ping(context) => {
                    codec::pong(&context, &mut out);
                    output.write_all(&out.split()).await?;
                }
                Item::Ready { .. } => return Err(invalid(Malformed::Command)),
                Item::Other => {}
            }
        }
        tokio::select! {
            read = input.read_buf(reading) => {
                if read? == 0 {
                    return Ok(());
                }
            }
            body = outgoing.recv() => {
                let Some(body) = body else { return Ok(()) };
                codec::message(&body, &mut out);
                while out.len() < WRITE_BATCH_BYTES {
                    let Ok(body) = outgoing.try_recv() else { break };
                    codec::message(&body, &mut out);
                }
                output.write_all(&out.split()).await?;
            }
        }
    }
}

fn invalid(error: Malformed) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

// === impl RouterHandle ===

impl RouterHandle {
    /// Queues a message of one part for a peer.
    ///
    /// # Errors
    /// When the peer is not connected or does not read; the message is dropped then.
    pub fn send(&self, peer: &str, body: Bytes) -> Result<(), SendError> {
        let table = self.peers.lock();
        let found = table.by_identity.get(peer).ok_or_else(|| SendError::Unknown(peer.to_owned()))?;
        found.queue.try_send(body).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => SendError::Full(peer.to_owned()),
            mpsc::error::TrySendError::Closed(_) => SendError::Unknown(peer.to_owned()),
        })
    }

    pub fn is_connected(&self, peer: &str) -> bool {
        self.peers.lock().by_identity.contains_key(peer)
    }
}
