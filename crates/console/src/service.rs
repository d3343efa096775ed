//! The console as a `tower` service: the page's files, the API, the stream.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use serde::Serialize;

use crate::Source;
use crate::api::{self, Range};
use crate::assets::{self, Asset};
use crate::load::{self, LoadControl};
use crate::stream::Hub;

pub type Body = BoxBody<Bytes, Infallible>;

/// Only this page's own files and API; no other host, no inline script, no frame around it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; img-src 'self' data:; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The web console over a [`Source`]. Clones share it.
#[derive(Clone)]
pub struct Console {
    source: Arc<dyn Source>,
    load: Option<Arc<dyn LoadControl>>,
    hub: Hub,
}

// === impl Console ===

impl Console {
    /// Must be called within a Tokio runtime only when a page connects to the stream.
    pub fn new(source: Arc<dyn Source>) -> Console {
        Console { hub: Hub::new(source.clone()), source, load: None }
    }

    /// The page can start, watch and stop load.
    pub fn with_load(self, load: Arc<dyn LoadControl>) -> Console {
        Console { load: Some(load), ..self }
    }

    /// Bytes that a browser loads to show the page for the first time, compressed.
    pub fn first_load_bytes() -> usize {
        assets::ASSETS
            .iter()
            .filter(|asset| asset.first)
            .map(|asset| if asset.gzip.is_empty() { asset.plain.len() } else { asset.gzip.len() })
            .sum()
    }

    /// Whether the page was built in; without Node at build time there is one that says so instead.
    pub fn is_built() -> bool {
        assets::ASSETS.len() > 1
    }

    async fn answer(
        self,
        method: Method,
        path: String,
        query: Option<String>,
        headers: HeaderMap,
    ) -> Response<Body> {
        if method != Method::GET && method != Method::HEAD {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "the console only reads: GET and HEAD");
        }
        match path.as_str() {
            "/api/snapshot" => json(&self.source.snapshot()),
            "/api/events" => match Range::parse(query.as_deref()) {
                Ok(range) => json(&api::events(&*self.source, range)),
                Err(problem) => plain(StatusCode::BAD_REQUEST, &problem),
            },
            "/api/charts" => match Range::parse(query.as_deref()) {
                Ok(range) => json(&api::charts(&*self.source, range).await),
                Err(problem) => plain(StatusCode::BAD_REQUEST, &problem),
            },
            "/api/stream" => self.hub.connect(),
            _ => match assets::find(&path) {
                Some(asset) => file(asset, &headers),
                None => plain(StatusCode::NOT_FOUND, "no such page; the console is at /"),
            },
        }
    }
}

/// The page alone, without anything live behind it: for a server that shows only dashboards.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pages;

impl<B> tower::Service<Request<B>> for Pages {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let mut response = match assets::find(request.uri().path()) {
            _ if !matches!(*request.method(), Method::GET | Method::HEAD) => {
                plain(StatusCode::METHOD_NOT_ALLOWED, "the page is only read: GET and HEAD")
            }
            Some(asset) => file(asset, request.headers()),
            None => plain(StatusCode::NOT_FOUND, "no such page; dashboards are at /#/dashboards"),
        };
        confine(&mut response);
        std::future::ready(Ok(response))
    }
}

fn confine(response: &mut Response<Body>) {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
}

impl<B> tower::Service<Request<B>> for Console
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        let query = parts.uri.query().map(str::to_owned);
        let console = self.clone();
        Box::pin(async move {
            let mut response = if path == "/api/load" || path.starts_with("/api/load/") {
                load::answer(console.load.as_deref(), &parts.method, &path, &parts.headers, body).await
            } else {
                console.answer(parts.method, path, query, parts.headers).await
            };
            confine(&mut response);
            Ok(response)
        })
    }
}

fn file(asset: &'static Asset, headers: &HeaderMap) -> Response<Body> {
    let wanted = |name, needle: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.contains(needle))
    };
    let mut response = Response::new(full(Bytes::new()));
    let out = response.headers_mut();
    out.insert(header::ETAG, HeaderValue::from_static(asset.etag));
    out.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    // Asked again each time, answered with 304: a new binary is a new page at once.
    out.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if wanted(header::IF_NONE_MATCH, asset.etag) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return response;
    }
    out.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.content_type));
    let compressed = !asset.gzip.is_empty() && wanted(header::ACCEPT_ENCODING, "gzip");
    if compressed {
        out.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    *response.body_mut() = full(Bytes::from_static(if compressed { asset.gzip } else { asset.plain }));
    response
}

pub(crate) fn json(value: &impl Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(bytes) => {
            let mut response = Response::new(full(Bytes::from(bytes)));
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response
        }
        Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

pub(crate) fn plain(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(full(Bytes::from(format!("{text}\n"))));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes).boxed()
}
