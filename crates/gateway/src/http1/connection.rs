//! A client connection: one request after the other until either side has had enough.

use super::body::consume;
use super::errors::{OwnAnswer, message_of};
use super::head::{Head, HeadError};
use super::plugged::Plugged;
use super::transport::{Transport, read_some};
use crate::metrics::{Measured, ScopeMetrics, Source};
use crate::node::{Mode, Worker};
use crate::router::Scratch;
use crate::timer::Timer;
use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

const READ_BYTES: usize = 8 * 1024;
/// After a refusal the rest of a body is read over for at most this long, so that the client gets to see the answer.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1 << 20;

/// What the listener knows about a connection.
#[derive(Clone)]
pub(crate) struct Accepted {
    pub(crate) peer: SocketAddr,
    pub(crate) local_port: u16,
    pub(crate) is_tls: bool,
    pub(crate) sni: Option<String>,
    pub(crate) mode: Arc<Mode>,
}

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    KeepAlive,
    Close,
    /// Close, but let the client finish sending first.
    Linger,
}

/// An answer of our own.
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) message: Cow<'static, str>,
    pub(super) extra_fields: String,
    pub(super) metrics: Option<Arc<ScopeMetrics>>,
    /// Type and bytes in place of the message.
    pub(super) body: Option<(String, Vec<u8>)>,
    pub(super) counts_consumers: bool,
}

impl Refusal {
    pub(super) fn new(status: u16) -> Refusal {
        Refusal {
            status,
            message: message_of(status).into(),
            extra_fields: String::new(),
            metrics: None,
            body: None,
            counts_consumers: false,
        }
    }

    pub(super) fn saying(self, message: &'static str) -> Refusal {
        Refusal { message: message.into(), ..self }
    }

    pub(super) fn counted_by(self, metrics: &Arc<ScopeMetrics>) -> Refusal {
        Refusal { metrics: Some(Arc::clone(metrics)), ..self }
    }
}

pub(crate) struct Connection<S> {
    pub(super) io: S,
    pub(super) worker: Arc<Worker>,
    pub(super) accepted: Accepted,
    /// What was read and not used; a request's head begins at its start.
    pub(super) buffer: Vec<u8>,
    pub(super) head: Head,
    pub(super) response_head: Head,
    pub(super) out: Vec<u8>,
    pub(super) uri: Vec<u8>,
    pub(super) host: String,
    pub(super) request_id: String,
    pub(super) scratch: Scratch,
    pub(super) timer: Timer,
    /// Only while a request with plugins is served.
    pub(super) plugged: Option<Box<Plugged>>,
    /// Whether the client was sent a part of the answer to its request.
    pub(super) has_begun: bool,
}

enum Wait {
    Readable,
    Closed,
}

/// Serves `io` until it is closed.
pub(crate) async fn serve<S: Transport>(io: S, accepted: Accepted, worker: Arc<Worker>) {
    let mut connection = Connection {
        io,
        worker,
        accepted,
        buffer: Vec::new(),
        head: Head::default(),
        response_head: Head::default(),
        out: Vec::new(),
        uri: Vec::new(),
        host: String::new(),
        request_id: String::new(),
        scratch: Scratch::default(),
        timer: Timer::new(),
        plugged: None,
        has_begun: false,
    };
    connection.run().await;
}

impl<S: Transport> Connection<S> {
    async fn run(&mut self) {
        let shared = Arc::clone(&self.worker.shared);
        let mut stop = pin!(shared.stop.notified());
        stop.as_mut().enable();
        let mut is_first = true;
        loop {
            if self.buffer.is_empty() {
                let patience = if is_first {
                    shared.config.limits.head_timeout
                } else {
                    shared.config.limits.idle_timeout
                };
                let deadline = Instant::now() + patience;
                self.worker.give_buffers(&mut self.buffer, &mut self.out);
                let (io, timer) = (&self.io, &mut self.timer);
                let wait = std::future::poll_fn(|cx| {
                    if io.poll_readable(cx).is_ready() {
                        return Poll::Ready(Wait::Readable);
                    }
                    // A connection that never said anything is let go as well as one that has been served.
                    if stop.as_mut().poll(cx).is_ready() {
                        return Poll::Ready(Wait::Closed);
                    }
                    Poll::Pending
                });
                match timer.limit(deadline, wait).await {
                    Ok(Wait::Readable) => self.worker.take_buffers(&mut self.buffer, &mut self.out),
                    Ok(Wait::Closed) | Err(_) => return,
                }
            }
            match self.read_head().await {
                Ok(true) => {}
                Ok(false) => return,
                Err(refusal) => {
                    self.worker.shared.metrics.refused_heads.with([&refusal.status.to_string()]).inc();
                    let _ = self.refuse(refusal, Instant::now(), false).await;
                    self.linger().await;
                    return;
                }
            }
            is_first = false;
            match self.exchange().await {
                After::KeepAlive if !shared.stopping.load(Ordering::Relaxed) => {}
                After::KeepAlive | After::Close => {
                    let _ = self.io.shutdown().await;
                    return;
                }
                After::Linger => {
                    self.linger().await;
                    return;
                }
            }
        }
    }

    /// Reads until a head is complete. `Ok(false)` when the client left before it sent one.
    async fn read_head(&mut self) -> Result<bool, Refusal> {
        let limits = &self.worker.shared.config.limits;
        let head_limits = limits.head;
        let mut deadline = None;
        loop {
            if !self.buffer.is_empty() {
                match self.head.parse_request(&self.buffer, &head_limits) {
                    Ok(true) => return Ok(true),
                    Ok(false) => {}
                    Err(error) => return Err(refusal_of(error)),
                }
            }
            let until = *deadline.get_or_insert_with(|| Instant::now() + limits.head_timeout);
            let read = read_some(&mut self.io, &mut self.buffer, READ_BYTES);
            match self.timer.limit(until, read).await {
                Ok(Ok(0)) if self.buffer.is_empty() => return Ok(false),
                Ok(Ok(0)) => return Err(Refusal::new(400)),
                Ok(Ok(_)) => {}
                Ok(Err(_)) => return Ok(false),
                Err(_) if self.buffer.is_empty() => return Ok(false),
                Err(_) => return Err(Refusal::new(408)),
            }
        }
    }

    /// Writes an answer of our own and counts it.
    pub(super) async fn refuse(&mut self, refusal: Refusal, since: Instant, keep_alive: bool) -> After {
        let shared = Arc::clone(&self.worker.shared);
        if self.request_id.is_empty() {
            shared.ids.next(&mut self.request_id);
        }
        let body_bytes = self.body_in_buffer();
        let keeps = keep_alive && body_bytes.is_some() && self.client_keeps_alive();
        let latency = since.elapsed();
        let mut extra_fields = refusal.extra_fields;
        let plugged = self.plugged.take();
        if let Some(plugged) = plugged.as_deref().filter(|plugged| !plugged.response.is_empty()) {
            let mut lines = Vec::new();
            plugged.response.write(&mut lines);
            extra_fields.push_str(&String::from_utf8_lossy(&lines));
        }
        let answer = OwnAnswer {
            status: refusal.status,
            message: &refusal.message,
            extra_fields: &extra_fields,
            body: refusal.body.as_ref().map(|(content_type, body)| (content_type.as_str(), body.as_slice())),
            request_id: &self.request_id,
            latency_ms: latency.as_millis() as u64,
            is_head: self.head.method(&self.buffer) == b"HEAD",
            close: !keeps,
        };
        self.out.clear();
        answer.write(&self.head, &self.buffer, &mut self.out);
        let egress_bytes = self.out.len() as u64;
        let ingress_bytes = (self.head.len + body_bytes.unwrap_or(0)) as u64;
        if let Some(metrics) = &refusal.metrics {
            metrics.record(&Measured {
                status: refusal.status,
                source: Source::Kong,
                request_ms: latency.as_secs_f64() * 1_000.0,
                upstream_ms: None,
                ingress_bytes,
                egress_bytes,
                consumer: plugged
                    .as_deref()
                    .and_then(Plugged::consumer_label)
                    .filter(|_| refusal.counts_consumers),
            });
        }
        let deadline = Instant::now() + shared.config.limits.send_timeout;
        let send = async {
            self.io.write_all(&self.out).await?;
            self.io.flush().await
        };
        let sent = self.timer.limit(deadline, send).await;
        self.request_id.clear();
        match (sent, body_bytes) {
            (Ok(Ok(())), Some(body_bytes)) if keeps => {
                consume(&mut self.buffer, self.head.len + body_bytes);
                After::KeepAlive
            }
            (Ok(Ok(())), _) => After::Linger,
            _ => After::Close,
        }
    }

    /// The length of the request's body when all of it was received together with the head.
    pub(super) fn body_in_buffer(&self) -> Option<usize> {
        if self.plugged.as_ref().is_some_and(|plugged| plugged.body.is_some()) {
            return Some(0);
        }
        if self.head.is_chunked {
            return None;
        }
        let length = usize::try_from(self.head.content_length.unwrap_or(0)).ok()?;
        (self.buffer.len().checked_sub(self.head.len)? >= length).then_some(length)
    }

    pub(super) fn client_keeps_alive(&self) -> bool {
        let head = &self.head;
        let willing = if head.is_http10 { head.wants_keep_alive } else { !head.wants_close };
        willing && !self.worker.shared.stopping.load(Ordering::Relaxed)
    }

    pub(super) fn is_trusted(&self) -> bool {
        let peer: IpAddr = self.accepted.peer.ip();
        self.worker.shared.config.trusted_ips.iter().any(|range| range.contains(peer))
    }

    /// Ends our side and reads over what the client still sends: closing with unread bytes would reset the connection
    /// and could take the answer with it.
    async fn linger(&mut self) {
        if self.io.shutdown().await.is_err() {
            return;
        }
        let deadline = Instant::now() + LINGER;
        let mut seen = 0;
        while seen < LINGER_BYTES {
            self.buffer.clear();
            match self.timer.limit(deadline, read_some(&mut self.io, &mut self.buffer, READ_BYTES)).await {
                Ok(Ok(count)) if count > 0 => seen += count,
                _ => return,
            }
        }
    }
}

fn refusal_of(error: HeadError) -> Refusal {
    Refusal::new(error.status())
}
