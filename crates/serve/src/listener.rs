//! A listening socket and the connections behind it: HTTP/1.1 and HTTP/2, plain or TLS, drained at the end.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls_pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::util::BoxCloneService;
use tower::{Service, ServiceExt};

use crate::port::{PortHolder, port_holder};
use crate::stream::Stream;
use crate::tls::TlsConfig;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Whatever is served, as one type: the two protocols' machinery is large, and compiled here once instead of in every
/// room that serves something.
type AnyService = BoxCloneService<Request<Incoming>, Response<UnsyncBoxBody<Bytes, BoxError>>, Infallible>;

/// Where and how to listen.
#[derive(Clone)]
pub struct ListenConfig {
    /// Port 0 lets the system choose; ask [`Listener::local_addr`].
    pub addr: SocketAddr,
    pub tls: Option<TlsConfig>,
    pub limits: Limits,
}

/// The bounds of one listener.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Further connections wait in the kernel's queue.
    pub max_connections: usize,
    /// From accept to the end of the TLS handshake.
    pub handshake_timeout: Duration,
    /// From the first byte of a request head to its end.
    pub head_timeout: Duration,
    pub max_head_bytes: usize,
    pub max_headers: usize,
    /// How long requests in flight may take to end after shutdown began; then their connections are closed.
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_connections: 10_000,
            handshake_timeout: Duration::from_secs(10),
            head_timeout: Duration::from_secs(30),
            max_head_bytes: 64 * 1024,
            max_headers: 100,
            drain_timeout: Duration::from_secs(10),
        }
    }
}

/// Who is at the other end; a request extension.
#[derive(Clone, Debug)]
pub struct ConnectInfo {
    pub peer: SocketAddr,
    /// The verified client certificate, when one was shown and [`TlsConfig`] has a client authority.
    pub client_certificate: Option<CertificateDer<'static>>,
}

#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("{addr} is already in use{}", holder.as_ref().map(|h| format!(" by {h}")).unwrap_or_default())]
    InUse { addr: SocketAddr, holder: Option<PortHolder> },
    #[error("not allowed to listen on {addr}: ports below 1024 need privileges here; choose a higher one")]
    Denied { addr: SocketAddr },
    #[error("cannot listen on {addr}: {error}")]
    Io { addr: SocketAddr, error: io::Error },
}

pub struct Listener {
    socket: TcpListener,
    local_addr: SocketAddr,
    tls: Option<TlsConfig>,
    limits: Limits,
}

// === impl ListenConfig ===

impl ListenConfig {
    pub fn plain(addr: SocketAddr) -> ListenConfig {
        ListenConfig { addr, tls: None, limits: Limits::default() }
    }

    pub fn tls(addr: SocketAddr, tls: TlsConfig) -> ListenConfig {
        ListenConfig { addr, tls: Some(tls), limits: Limits::default() }
    }
}

// === impl Listener ===

impl Listener {
    pub async fn bind(config: ListenConfig) -> Result<Listener, BindError> {
        let addr = config.addr;
        let socket = TcpListener::bind(addr).await.map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => BindError::InUse { addr, holder: port_holder(addr) },
            io::ErrorKind::PermissionDenied => BindError::Denied { addr },
            _ => BindError::Io { addr, error },
        })?;
        let local_addr = socket.local_addr().map_err(|error| BindError::Io { addr, error })?;
        Ok(Listener { socket, local_addr, tls: config.tls, limits: config.limits })
    }

    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Serves until `shutdown` is cancelled, then takes no new connection, lets requests in flight end within
    /// `drain_timeout`, and returns.
    pub async fn serve<S, B>(self, service: S, shutdown: CancellationToken)
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let service = service.map_response(|response: Response<B>| {
            response.map(|body| body.map_err(Into::into).boxed_unsync())
        });
        self.serve_any(BoxCloneService::new(service), shutdown).await;
    }

    async fn serve_any(self, service: AnyService, shutdown: CancellationToken) {
        let slots = Arc::new(Semaphore::new(self.limits.max_connections));
        let kill = CancellationToken::new();
        let _kill_on_drop = kill.clone().drop_guard();
        loop {
            let Some(Ok(slot)) = until(&shutdown, slots.clone().acquire_owned()).await else { break };
            let (stream, peer) = match until(&shutdown, self.socket.accept()).await {
                None => break,
                Some(Ok(accepted)) => accepted,
                Some(Err(error)) => {
                    tracing::warn!(addr = %self.local_addr, %error, "accept failed");
                    // Out of descriptors: the next accept would fail at once, so give others time to end.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                }
            };
            let connection = Connection {
                service: service.clone(),
                peer,
                limits: self.limits,
                tls: self.tls.as_ref().map(TlsConfig::current),
            };
            let (kill, shutdown) = (kill.clone(), shutdown.clone());
            tokio::spawn(async move {
                let _slot = slot;
                until(&kill, connection.run(stream, &shutdown)).await;
            });
        }
        drop(self.socket);
        let drained = async {
            let all = slots.acquire_many(u32::try_from(self.limits.max_connections).unwrap_or(u32::MAX));
            let _ = all.await;
        };
        if tokio::time::timeout(self.limits.drain_timeout, drained).await.is_err() {
            tracing::info!(addr = %self.local_addr, "closing connections that did not end in time");
        }
    }
}

/// The future's result, or `None` when `token` is cancelled first.
async fn until<F: Future>(token: &CancellationToken, future: F) -> Option<F::Output> {
    token.run_until_cancelled(future).await
}

struct Connection {
    service: AnyService,
    peer: SocketAddr,
    limits: Limits,
    tls: Option<Arc<rustls::ServerConfig>>,
}

impl Connection {
    async fn run(self, stream: TcpStream, shutdown: &CancellationToken) {
        let _ = stream.set_nodelay(true);
        let Some(config) = self.tls.clone() else {
            return self.http(Stream::Plain(stream), None, shutdown).await;
        };
        let handshake = TlsAcceptor::from(config).accept(stream);
        let bounded = tokio::time::timeout(self.limits.handshake_timeout, handshake);
        let Some(Ok(Ok(stream))) = until(shutdown, bounded).await else {
            tracing::debug!(peer = %self.peer, "TLS handshake did not complete");
            return;
        };
        let certificate = stream
            .get_ref()
            .1
            .peer_certificates()
            .and_then(|chain| chain.first())
            .map(|c| c.clone().into_owned());
        self.http(Stream::Tls(Box::new(stream)), certificate, shutdown).await;
    }

    async fn http(
        self,
        stream: Stream,
        client_certificate: Option<CertificateDer<'static>>,
        shutdown: &CancellationToken,
    ) {
        let info = ConnectInfo { peer: self.peer, client_certificate };
        let service = self.service;
        let handler = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(info.clone());
            service.clone().oneshot(request)
        });
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.head_timeout)
            .max_buf_size(self.limits.max_head_bytes.max(8192))
            .max_headers(self.limits.max_headers);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_header_list_size(u32::try_from(self.limits.max_head_bytes).unwrap_or(u32::MAX))
            .max_concurrent_streams(1_000)
            .keep_alive_interval(Duration::from_secs(30));
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), handler).into_owned();
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(peer = %self.peer, %error, "connection ended with an error");
        }
    }
}
