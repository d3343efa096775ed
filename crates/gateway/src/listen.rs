//! Listening sockets: bound by the caller's thread so that it learns what went wrong, accepted from by every worker.

use crate::client_hello;
use crate::entrances;
use crate::http1::connection::{Accepted, serve};
use crate::http2;
use crate::node::{Mode, Worker};
use crate::stream;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

const BACKLOG: i32 = 4_096;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two looks at the first bytes of a connection.
const PREFACE_PAUSE: Duration = Duration::from_millis(2);
/// After an accept that failed for want of descriptors, which the next one would too.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// An address to listen on, and what for.
#[derive(Clone)]
pub struct Listener {
    /// Port 0 takes a free one.
    pub address: SocketAddr,
    pub mode: Mode,
    /// Terminates TLS; certificates come from its resolver. An entrance knows its own settings.
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

impl Listener {
    /// Routes requests without TLS.
    pub fn proxy(address: SocketAddr) -> Listener {
        Listener { address, mode: Mode::Proxy, tls: None }
    }
}

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("{address} is taken by another process")]
    InUse { address: SocketAddr },
    #[error("{address}: ports below 1024 need a privilege this process does not have")]
    PermissionDenied { address: SocketAddr },
    #[error("{address} is not an address of this machine")]
    NotAvailable { address: SocketAddr },
    #[error("listening on {address}: {source}")]
    Other { address: SocketAddr, source: io::Error },
}

impl ListenError {
    pub(crate) fn new(address: SocketAddr, source: io::Error) -> ListenError {
        match source.kind() {
            io::ErrorKind::AddrInUse => ListenError::InUse { address },
            io::ErrorKind::PermissionDenied => ListenError::PermissionDenied { address },
            io::ErrorKind::AddrNotAvailable => ListenError::NotAvailable { address },
            _ => ListenError::Other { address, source },
        }
    }
}

/// Binds without sharing the port with anyone.
pub(crate) fn bind(address: SocketAddr) -> Result<std::net::TcpListener, ListenError> {
    let open = || -> io::Result<std::net::TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    open().map_err(|error| ListenError::new(address, error))
}

/// What a worker needs to accept.
#[derive(Clone)]
pub(crate) struct AcceptFrom {
    pub(crate) mode: Arc<Mode>,
    pub(crate) tls: Option<TlsAcceptor>,
    pub(crate) port: u16,
    pub(crate) closed: Arc<Notify>,
    pub(crate) is_closed: Arc<std::sync::atomic::AtomicBool>,
}

/// Accepts until told to stop; connections the kernel has completed by then are still served.
pub(crate) async fn accept(socket: std::net::TcpListener, from: AcceptFrom, worker: Arc<Worker>) {
    let listener = match TcpListener::from_std(socket) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "cannot accept connections");
            return;
        }
    };
    loop {
        let closed = from.closed.notified();
        tokio::pin!(closed);
        closed.as_mut().enable();
        if from.is_closed.load(Ordering::SeqCst) {
            break;
        }
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut closed => break,
        };
        match accepted {
            Ok((stream, peer)) => start(stream, peer, &from, &worker),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    let mut last = std::pin::pin!(async {
        while let Ok((stream, peer)) = listener.accept().await {
            start(stream, peer, &from, &worker);
        }
    });
    std::future::poll_fn(|cx| {
        let _ = last.as_mut().poll(cx);
        std::task::Poll::Ready(())
    })
    .await;
}

/// Counts a connection while it lives.
struct Counted(Arc<Worker>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.shared.connections.fetch_sub(1, Ordering::SeqCst);
        self.0.shared.metrics.connections.dec();
        self.0.shared.connection_ended.notify_waiters();
    }
}

/// Whether the client begins with the preface of HTTP/2. Looks without taking; a client that says nothing for too long,
/// or leaves, is the HTTP/1 path's to deal with.
async fn speaks_http2(stream: &TcpStream, worker: &Worker) -> bool {
    let shared = &worker.shared;
    let mut stop = std::pin::pin!(shared.stop.notified());
    stop.as_mut().enable();
    let look = async {
        let mut start = [0u8; http2::PREFACE_START.len()];
        loop {
            match stream.peek(&mut start).await {
                Ok(count)
                    if count < start.len()
                        && count > 0
                        && http2::PREFACE_START.starts_with(&start[..count]) =>
                {
                    tokio::time::sleep(PREFACE_PAUSE).await;
                }
                Ok(count) => return start[..count] == http2::PREFACE_START[..],
                Err(_) => return false,
            }
        }
    };
    tokio::select! {
        seen = tokio::time::timeout(shared.config.limits.head_timeout, look) => seen.unwrap_or(false),
        () = &mut stop => false,
    }
}

fn start(stream: TcpStream, peer: SocketAddr, from: &AcceptFrom, worker: &Arc<Worker>) {
    let shared = &worker.shared;
    shared.metrics.connections.inc();
    let before = shared.connections.fetch_add(1, Ordering::SeqCst);
    let counted = Counted(Arc::clone(worker));
    if before >= shared.config.limits.max_connections {
        tracing::debug!(%peer, "too many connections");
        return;
    }
    let _ = stream.set_nodelay(true);
    let (from, worker) = (from.clone(), Arc::clone(worker));
    tokio::spawn(async move {
        let _counted = counted;
        let accepted = |is_tls: bool, sni: Option<String>| Accepted {
            peer,
            local_port: from.port,
            is_tls,
            sni,
            mode: Arc::clone(&from.mode),
        };
        if matches!(*from.mode, Mode::Stream { .. }) {
            return stream::serve(stream, accepted(false, None), worker).await;
        }
        let (of_entrance, passthrough) = match &*from.mode {
            Mode::Entrance { name } => match worker.shared.current.load().entrance(name) {
                Some(entrance) => {
                    (entrance.tls.clone().map(TlsAcceptor::from), Some(Arc::clone(&entrance.passthrough)))
                }
                None => return,
            },
            _ => (None, None),
        };
        if let Some(passthrough) = passthrough.filter(|all| !all.is_empty()) {
            let hello = tokio::time::timeout(HANDSHAKE_TIMEOUT, client_hello::server_name(&stream));
            let Ok(Ok(name)) = hello.await else {
                tracing::debug!(%peer, "no hello of TLS");
                return;
            };
            if let Some(service) = entrances::passed_to(&passthrough, name.as_deref().unwrap_or_default()) {
                return stream::pass(stream, service, &worker).await;
            }
            if of_entrance.is_none() {
                return;
            }
        }
        let Some(tls) = of_entrance.as_ref().or(from.tls.as_ref()) else {
            let is_routed = matches!(*from.mode, Mode::Proxy | Mode::Entrance { .. });
            let is_http2 = is_routed && speaks_http2(&stream, &worker).await;
            return if is_http2 {
                http2::serve(stream, accepted(false, None), worker).await;
            } else {
                serve(stream, accepted(false, None), worker).await;
            };
        };
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
            Ok(Ok(stream)) => {
                let session = stream.get_ref().1;
                let sni = session.server_name().map(str::to_owned);
                if session.alpn_protocol() == Some(b"h2") {
                    http2::serve(stream, accepted(true, sni), worker).await;
                } else {
                    serve(stream, accepted(true, sni), worker).await;
                }
            }
            Ok(Err(error)) => tracing::debug!(%peer, %error, "tls handshake failed"),
            Err(_) => tracing::debug!(%peer, "tls handshake took too long"),
        }
    });
}
