//! What both services share: the listener, probes, metrics, and an end on SIGTERM that cuts no request.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use gantry_serve::{BindError, ListenConfig, Listener};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::instruments::Instruments;
use crate::work::{Busy, Workers};

pub(crate) struct Options {
    pub(crate) listen: SocketAddr,
    pub(crate) work_ms: f64,
    pub(crate) workers: u16,
    pub(crate) startup_delay: Duration,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error("cannot wait for signals: {0}")]
    Signals(std::io::Error),
    #[error("cannot start a work thread: {0}")]
    Thread(std::io::Error),
    #[error("{0}")]
    Config(String),
    #[error("the address of the queue: {0}")]
    Queue(redis::RedisError),
}

pub(crate) type Reply = Response<Full<Bytes>>;

/// An answer and the handler it is counted under.
pub(crate) struct Answer {
    pub(crate) handler: &'static str,
    pub(crate) response: Reply,
}

/// What a service does with a request that is neither a probe nor a scrape.
pub(crate) trait Handler: Send + Sync + 'static {
    fn handle(&self, request: Request<Incoming>) -> impl Future<Output = Answer> + Send;
}

pub(crate) struct Server {
    name: &'static str,
    listen: SocketAddr,
    startup_delay: Duration,
    workers: Workers,
}

impl Server {
    pub(crate) fn new(name: &'static str, options: &Options) -> Result<Server, RunError> {
        let workers = Workers::start(options.workers, options.work_ms).map_err(RunError::Thread)?;
        Ok(Server { name, listen: options.listen, startup_delay: options.startup_delay, workers })
    }

    pub(crate) fn workers(&self) -> Workers {
        self.workers.clone()
    }

    /// Serves until SIGTERM or SIGINT, then finishes the requests in flight.
    pub(crate) async fn run(self, handler: impl Handler) -> Result<(), RunError> {
        let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Signals)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Signals)?;
        let mut stopped = std::pin::pin!(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        });
        if !self.startup_delay.is_zero() {
            tokio::select! {
                () = tokio::time::sleep(self.startup_delay) => {}
                () = &mut stopped => return Ok(()),
            }
        }
        let listener = self.listen().await?;
        println!("{} listens on http://{}", self.name, listener.local_addr());
        serve(listener, handler, stopped).await;
        println!("{} has finished its requests", self.name);
        Ok(())
    }

    pub(crate) async fn listen(&self) -> Result<Listener, RunError> {
        Ok(Listener::bind(ListenConfig::plain(self.listen)).await?)
    }
}

/// Serves until `stopped`, then finishes the requests in flight.
pub(crate) async fn serve(listener: Listener, handler: impl Handler, stopped: impl Future<Output = ()>) {
    let shutdown = CancellationToken::new();
    let mut serving = std::pin::pin!(listener.serve(service(Arc::new(handler)), shutdown.clone()));
    tokio::select! {
        () = &mut serving => {}
        () = stopped => {
            shutdown.cancel();
            serving.await;
        }
    }
}

type HttpService = tower::util::BoxCloneService<Request<Incoming>, Reply, Infallible>;

fn service<H: Handler>(handler: Arc<H>) -> HttpService {
    let instruments = Arc::new(Instruments::new());
    tower::util::BoxCloneService::new(tower::service_fn(move |request: Request<Incoming>| {
        let (handler, instruments) = (handler.clone(), instruments.clone());
        async move { Ok(answer(&*handler, &instruments, request).await) }
    }))
}

async fn answer<H: Handler>(handler: &H, instruments: &Instruments, request: Request<Incoming>) -> Reply {
    match request.uri().path() {
        "/metrics" => return text("text/plain; version=0.0.4; charset=utf-8", instruments.exposition()),
        "/healthz" | "/readyz" => return text("text/plain; charset=utf-8", "ok\n".to_owned()),
        _ => {}
    }
    let method = request.method().clone();
    let started = Instant::now();
    let _in_flight = instruments.begin();
    let answer = handler.handle(request).await;
    instruments.end(&method, answer.handler, answer.response.status(), started.elapsed());
    answer.response
}

// === answers ===

fn text(content_type: &'static str, body: String) -> Reply {
    let mut response = Response::new(Full::from(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

pub(crate) fn json(status: StatusCode, body: &serde_json::Value) -> Reply {
    let mut response = text("application/json", format!("{body}\n"));
    *response.status_mut() = status;
    response
}

pub(crate) fn error(status: StatusCode, message: &str) -> Reply {
    json(status, &serde_json::json!({ "error": message }))
}

pub(crate) fn busy(_: Busy) -> Reply {
    error(StatusCode::SERVICE_UNAVAILABLE, "too many requests are waiting")
}

pub(crate) fn not_found(path: &str) -> Answer {
    // One fixed name, so that a client cannot make series.
    Answer { handler: "unmatched", response: error(StatusCode::NOT_FOUND, &format!("no such path: {path}")) }
}

pub(crate) fn method_not_allowed(handler: &'static str, allowed: &'static str) -> Answer {
    let mut response = error(StatusCode::METHOD_NOT_ALLOWED, &format!("allowed here: {allowed}"));
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    Answer { handler, response }
}

pub(crate) fn is_read(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}

/// The value of `name` in a query string of plain numbers and words; escapes are not needed for those.
pub(crate) fn query_value<'a>(query: Option<&'a str>, name: &str) -> Option<&'a str> {
    query?.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, v)| v)
}
