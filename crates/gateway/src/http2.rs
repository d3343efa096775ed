//! The hyper codec: HTTP/2 by ALPN or prior knowledge (RFC 9113), each stream handed to the HTTP/1 path in memory.
//!
//! A stream takes a connection of the byte-range path over a duplex pipe, kept for the next stream: routing, plugins,
//! balancing and counting are the same code for both versions of the protocol.

use crate::http1::connection::{Accepted, serve as serve_http1};
use crate::node::Worker;
use http::header::{self, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode, Version};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};

/// What HTTP/2 connections begin with (RFC 9113 section 3.4).
pub(crate) const PREFACE_START: &[u8; 4] = b"PRI ";
/// Streams of a connection that are served at once.
const MAX_STREAMS: u32 = 128;
const PIPE_BYTES: usize = 64 * 1024;
/// Idle pipes kept for a connection.
const MAX_IDLE_PIPES: usize = 16;

type Body = BoxBody<Bytes, hyper::Error>;

/// What all streams of a connection share.
struct Shared {
    accepted: Accepted,
    worker: Arc<Worker>,
    idle: Mutex<Vec<SendRequest<Incoming>>>,
}

/// Serves `io` until it is closed.
pub(crate) async fn serve<S>(io: S, accepted: Accepted, worker: Arc<Worker>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = worker.shared.config.limits;
    let stopping = Arc::clone(&worker.shared);
    let peer = accepted.peer;
    let shared = Arc::new(Shared { accepted, worker, idle: Mutex::default() });
    let service = hyper::service::service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(exchange(&shared, request).await) }
    });
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(limits.head.max_head_bytes as u32)
        .keep_alive_interval(Some(limits.idle_timeout))
        .keep_alive_timeout(limits.head_timeout);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(io), service));
    let mut stop = pin!(stopping.stop.notified());
    let mut is_stopping = false;
    let outcome = std::future::poll_fn(|cx| {
        use std::future::Future;
        if !is_stopping && stop.as_mut().poll(cx).is_ready() {
            is_stopping = true;
            connection.as_mut().graceful_shutdown();
        }
        connection.as_mut().poll(cx)
    })
    .await;
    if let Err(error) = outcome {
        tracing::debug!(%peer, %error, "http/2 connection failed");
    }
}

fn failed(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed());
    *response.status_mut() = status;
    response
}

/// A connection of the HTTP/1 path, an idle one if there is one.
async fn pipe(shared: &Shared) -> Option<SendRequest<Incoming>> {
    loop {
        let Some(mut idle) = shared.idle.lock().pop() else { break };
        if idle.ready().await.is_ok() {
            return Some(idle);
        }
    }
    let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
    tokio::spawn(serve_http1(theirs, shared.accepted.clone(), Arc::clone(&shared.worker)));
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(ours)).await.ok()?;
    tokio::spawn(async move {
        // The other end says on the response itself what went wrong.
        let _ = connection.await;
    });
    Some(sender)
}

/// Fields that belong to a connection of HTTP/1 (RFC 9113 section 8.2.2).
const CONNECTION_FIELDS: [HeaderName; 5] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// The request as HTTP/1.1 has it.
fn downgraded(mut request: Request<Incoming>) -> Request<Incoming> {
    let authority = request.uri().authority().cloned();
    let target =
        request.uri().path_and_query().map_or("/", |target| target.as_str()).parse().unwrap_or_default();
    *request.uri_mut() = target;
    *request.version_mut() = Version::HTTP_11;
    let headers = request.headers_mut();
    for name in CONNECTION_FIELDS {
        headers.remove(name);
    }
    headers.remove(header::TE);
    if let Some(host) = authority.and_then(|authority| HeaderValue::from_str(authority.as_str()).ok()) {
        headers.insert(header::HOST, host);
    }
    // HTTP/2 may split cookies into fields of their own (RFC 9113 section 8.2.3).
    let cookies: Vec<HeaderValue> = headers.get_all(header::COOKIE).iter().cloned().collect();
    if cookies.len() > 1 {
        let joined = cookies.iter().map(HeaderValue::as_bytes).collect::<Vec<_>>().join(&b"; "[..]);
        if let Ok(joined) = HeaderValue::from_bytes(&joined) {
            headers.insert(header::COOKIE, joined);
        }
    }
    request
}

async fn exchange(shared: &Arc<Shared>, request: Request<Incoming>) -> Response<Body> {
    let Some(mut sender) = pipe(shared).await else { return failed(StatusCode::INTERNAL_SERVER_ERROR) };
    let response = match sender.send_request(downgraded(request)).await {
        Ok(response) => response,
        Err(error) => {
            tracing::debug!(%error, "stream failed");
            return failed(StatusCode::BAD_GATEWAY);
        }
    };
    let keeper = Arc::clone(shared);
    tokio::spawn(async move {
        if sender.ready().await.is_ok() {
            let mut idle = keeper.idle.lock();
            if idle.len() < MAX_IDLE_PIPES {
                idle.push(sender);
            }
        }
    });
    let (mut parts, body) = response.into_parts();
    for name in CONNECTION_FIELDS {
        parts.headers.remove(name);
    }
    Response::from_parts(parts, body.boxed())
}
