//! One HTTP/1.1 connection to the target, opened when needed and kept while the target keeps it.
//!
//! Bytes are read into one buffer per thread, so that ten thousand idle users cost no buffers.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::recorder::Failure;
use crate::response::{Progress, ResponseReader};
use crate::timer::Timers;

const READ_BUFFER: usize = 64 * 1024;

/// What the connections of one thread share.
pub(crate) struct Shared {
    pub(crate) timers: Rc<Timers>,
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) tls: Option<(Arc<rustls::ClientConfig>, ServerName<'static>)>,
    buffer: RefCell<Box<[u8]>>,
    next_address: Cell<usize>,
    pub(crate) connects: Cell<u64>,
}

/// One request and what became of it; times are those of the clock's `monotonic`.
pub(crate) struct Exchange {
    /// When the first byte was about to be written: after the connection was there.
    pub(crate) sent: Duration,
    pub(crate) finished: Duration,
    /// The status, or why there is none.
    pub(crate) outcome: Result<u16, Failure>,
    pub(crate) bytes: u64,
}

pub(crate) struct Client {
    stream: Option<Stream>,
    reader: ResponseReader,
    /// Moved only when it fires too early or is too late, so that most requests do not touch the timer wheel.
    sleep: Pin<Box<Sleep>>,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

// === impl Shared ===

impl Shared {
    pub(crate) fn new(
        timers: Rc<Timers>,
        addresses: Vec<SocketAddr>,
        tls: Option<(Arc<rustls::ClientConfig>, ServerName<'static>)>,
    ) -> Shared {
        let buffer = RefCell::new(vec![0; READ_BUFFER].into_boxed_slice());
        Shared { timers, addresses, tls, buffer, next_address: Cell::new(0), connects: Cell::new(0) }
    }

    async fn connect(&self) -> Result<Stream, Failure> {
        let index = self.next_address.get();
        self.next_address.set(index.wrapping_add(1));
        let address = self.addresses.get(index % self.addresses.len().max(1)).ok_or(Failure::Connect)?;
        let stream = TcpStream::connect(address).await.map_err(|_| Failure::Connect)?;
        self.connects.set(self.connects.get() + 1);
        let _ = stream.set_nodelay(true);
        let Some((config, name)) = &self.tls else { return Ok(Stream::Plain(stream)) };
        let connector = TlsConnector::from(config.clone());
        match connector.connect(name.clone(), stream).await {
            Ok(stream) => Ok(Stream::Tls(Box::new(stream))),
            Err(error) => {
                tracing::debug!(%error, "TLS handshake with the target failed");
                Err(Failure::Tls)
            }
        }
    }
}

// === impl Client ===

impl Client {
    pub(crate) fn new() -> Client {
        let sleep = Box::pin(tokio::time::sleep(Duration::from_secs(3600)));
        Client { stream: None, reader: ResponseReader::new(), sleep }
    }

    /// A client that keeps what its user acts on: redirects, cookies, the reason phrase.
    pub(crate) fn keeping() -> Client {
        Client { reader: ResponseReader::keeping(), ..Client::new() }
    }

    /// The last answer, after an exchange whose outcome is a status.
    pub(crate) fn answer(&self) -> &ResponseReader {
        &self.reader
    }

    /// Sends one request and reads its answer within `timeout`, which covers the connection too.
    pub(crate) async fn exchange(
        &mut self,
        shared: &Shared,
        request: &[u8],
        is_head: bool,
        timeout: Duration,
    ) -> Exchange {
        let deadline = Instant::now() + timeout;
        self.close_if_ended(shared);
        if self.stream.is_none() {
            let connected = tokio::time::timeout_at(deadline, shared.connect()).await;
            match connected.unwrap_or(Err(Failure::Timeout)) {
                Ok(stream) => self.stream = Some(stream),
                Err(failure) => {
                    let now = shared.timers.now();
                    return Exchange { sent: now, finished: now, outcome: Err(failure), bytes: 0 };
                }
            }
        }
        self.reader.begin(is_head);
        let mut written = 0;
        let sent = shared.timers.now();
        let outcome = poll_fn(|context| match self.poll_exchange(context, shared, request, &mut written) {
            Poll::Pending => self.poll_timeout(context, deadline).map(|()| Err(Failure::Timeout)),
            ready => ready,
        })
        .await;
        let finished = shared.timers.now();
        if outcome.is_err() || !self.reader.keep_alive() {
            self.stream = None;
        }
        let outcome = outcome.map(|()| self.reader.status());
        Exchange { sent, finished, outcome, bytes: self.reader.bytes() }
    }

    /// Forgets a kept connection that the target has closed meanwhile (or on which it spoke unasked).
    fn close_if_ended(&mut self, shared: &Shared) {
        let Some(stream) = &mut self.stream else { return };
        let mut context = Context::from_waker(Waker::noop());
        let mut scratch = shared.buffer.borrow_mut();
        let mut buffer = ReadBuf::new(&mut scratch);
        if stream.poll_read(&mut context, &mut buffer).is_ready() {
            self.stream = None;
        }
    }

    fn poll_exchange(
        &mut self,
        context: &mut Context<'_>,
        shared: &Shared,
        request: &[u8],
        written: &mut usize,
    ) -> Poll<Result<(), Failure>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(Err(Failure::Closed)) };
        while let Some(rest) = request.get(*written..).filter(|rest| !rest.is_empty()) {
            match ready!(stream.poll_write(context, rest)) {
                Ok(0) => return Poll::Ready(Err(Failure::Closed)),
                Ok(count) => *written += count,
                Err(error) => return Poll::Ready(Err(Failure::from_io(&error))),
            }
        }
        if let Err(error) = ready!(stream.poll_flush(context)) {
            return Poll::Ready(Err(Failure::from_io(&error)));
        }
        loop {
            let mut scratch = shared.buffer.borrow_mut();
            let mut buffer = ReadBuf::new(&mut scratch);
            match ready!(stream.poll_read(context, &mut buffer)) {
                Err(error) => return Poll::Ready(Err(Failure::from_io(&error))),
                Ok(()) if buffer.filled().is_empty() => {
                    let result = if self.reader.end_of_stream() { Ok(()) } else { Err(Failure::Closed) };
                    return Poll::Ready(result);
                }
                Ok(()) => {}
            }
            match self.reader.feed(buffer.filled()) {
                Ok(Progress::More) => {}
                Ok(Progress::Done(used)) => {
                    // More than was asked for: the next answer on this connection could not be trusted.
                    if used < buffer.filled().len() {
                        self.stream = None;
                    }
                    return Poll::Ready(Ok(()));
                }
                Err(error) => {
                    tracing::debug!(%error, "the target's answer is malformed");
                    return Poll::Ready(Err(Failure::Protocol));
                }
            }
        }
    }

    fn poll_timeout(&mut self, context: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        if deadline < self.sleep.deadline() {
            self.sleep.as_mut().reset(deadline);
        }
        while self.sleep.as_mut().poll(context).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

// === impl Stream ===

impl Stream {
    fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }

    fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Stream::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Plain(_) => Poll::Ready(Ok(())),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }
}
