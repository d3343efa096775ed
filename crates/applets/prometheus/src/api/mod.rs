//! The HTTP API of Prometheus over any storage; a router that a server of its own or a larger one mounts.

mod answer;
mod buckets;
mod params;
mod pretty;
mod query;
mod remote;
mod rules;
mod series;
mod status;
mod targets;
mod tree;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post, put};
use gantry_clock::Clock;
use gantry_prom_model::{Labels, Queryable, Registry};
use gantry_promql::Engine;
use gantry_remote::Receiver;
use gantry_rules::{Notifier, Rules};
use gantry_scrape::Scraping;
use gantry_tsdb::Db;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use parking_lot::RwLock;
use tokio::sync::Semaphore;

use answer::{ApiError, ErrorKind};
use params::Params;

/// Forms larger than this are refused.
const MAX_FORM_BYTES: usize = 10 * 1024 * 1024;

/// The values of a request's parameter, by its name.
pub type Parameters<'a> = dyn Fn(&str) -> Vec<String> + 'a;

/// Chooses by a request's parameters where it reads; an error is what is wrong with them.
pub type StorageFor = Arc<dyn Fn(&Parameters<'_>) -> Result<Arc<dyn Queryable>, String> + Send + Sync>;

/// Requests that write at the same time; others wait.
const CONCURRENT_WRITES: usize = 16;

/// Ways in and out beside queries.
pub struct Doors {
    /// Who takes remote writes, if anybody does.
    pub receiver: Option<Arc<Receiver>>,
    /// Samples in the answer to one remote read; 0 for no bound.
    pub read_samples: usize,
    /// Bytes of a frame of a streamed remote read.
    pub read_frame_bytes: usize,
}

impl Default for Doors {
    fn default() -> Doors {
        Doors { receiver: None, read_samples: 50_000_000, read_frame_bytes: 1 << 20 }
    }
}

/// What the API shows and asks.
pub struct ApiParts {
    /// Where queries read.
    pub storage: Arc<dyn Queryable>,
    /// Where a request reads, if that depends on its parameters.
    pub storage_for: Option<StorageFor>,
    /// How they are evaluated.
    pub engine: Engine,
    /// The targets, if there are any.
    pub scraping: Option<Arc<Scraping>>,
    /// The rules, if there are any.
    pub rules: Option<Arc<Rules>>,
    /// Where alerts go, if they go anywhere.
    pub notifier: Option<Arc<Notifier>>,
    /// The local store, if it is one.
    pub db: Option<Arc<Db>>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// This process' own metrics, for `/metrics`.
    pub registry: Registry,
    /// Queries that run at the same time; others wait.
    pub max_concurrency: usize,
    /// The flags, for `status/flags`.
    pub flags: BTreeMap<String, String>,
    /// What `/-/reload` does; without it the call is refused.
    pub reload: Option<Arc<dyn Fn() -> Result<(), String> + Send + Sync>>,
    /// What `/-/quit` does; without it the call is refused.
    pub quit: Option<Arc<dyn Fn() + Send + Sync>>,
    /// Ways in and out beside queries.
    pub doors: Doors,
}

/// Configuration that was loaded last.
#[derive(Debug)]
struct Loaded {
    config_text: Arc<str>,
    external_labels: Labels,
    config_loaded: bool,
    config_loaded_ms: i64,
    ready: bool,
}

impl Default for Loaded {
    fn default() -> Loaded {
        Loaded {
            config_text: Arc::from(""),
            external_labels: Labels::empty(),
            config_loaded: false,
            config_loaded_ms: 0,
            ready: false,
        }
    }
}

struct Shared {
    storage: Arc<dyn Queryable>,
    storage_for: Option<StorageFor>,
    engine: Engine,
    scraping: Option<Arc<Scraping>>,
    rules: Option<Arc<Rules>>,
    notifier: Option<Arc<Notifier>>,
    db: Option<Arc<Db>>,
    clock: Arc<dyn Clock>,
    registry: Registry,
    queries: Arc<Semaphore>,
    flags: BTreeMap<String, String>,
    reload: Option<Arc<dyn Fn() -> Result<(), String> + Send + Sync>>,
    quit: Option<Arc<dyn Fn() + Send + Sync>>,
    doors: Doors,
    writes: Arc<Semaphore>,
    started_ms: i64,
    state: RwLock<Loaded>,
}

impl Shared {
    /// Where a request reads.
    fn storage(&self, params: &Params) -> Result<Arc<dyn Queryable>, ApiError> {
        let Some(choose) = &self.storage_for else { return Ok(self.storage.clone()) };
        choose(&|name| params.all(name).map(str::to_owned).collect()).map_err(ApiError::bad)
    }
}

/// The API. Cloning shares it.
#[derive(Clone)]
pub struct PrometheusApi {
    shared: Arc<Shared>,
}

impl PrometheusApi {
    /// The API over these parts.
    pub fn new(parts: ApiParts) -> PrometheusApi {
        let started_ms = parts.clock.now_ms();
        let shared = Shared {
            storage: parts.storage,
            storage_for: parts.storage_for,
            engine: parts.engine,
            scraping: parts.scraping,
            rules: parts.rules,
            notifier: parts.notifier,
            db: parts.db,
            clock: parts.clock,
            registry: parts.registry,
            queries: Arc::new(Semaphore::new(parts.max_concurrency.max(1))),
            flags: parts.flags,
            reload: parts.reload,
            quit: parts.quit,
            doors: parts.doors,
            writes: Arc::new(Semaphore::new(CONCURRENT_WRITES)),
            started_ms,
            state: RwLock::default(),
        };
        PrometheusApi { shared: Arc::new(shared) }
    }

    /// Shows a configuration (its text with secrets removed) as the one that runs, or that the last load failed.
    pub fn config_loaded(&self, text: Option<&str>) {
        let mut state = self.shared.state.write();
        state.config_loaded = text.is_some();
        if let Some(text) = text {
            state.config_text = Arc::from(text);
            state.config_loaded_ms = self.shared.clock.now_ms();
        }
    }

    /// Labels that tell this server from others, for those who read remotely.
    pub fn set_external_labels(&self, labels: Labels) {
        self.shared.state.write().external_labels = labels;
    }

    /// Makes `/-/ready` answer that the server is (or is no longer) ready.
    pub fn set_ready(&self, ready: bool) {
        self.shared.state.write().ready = ready;
    }

    /// The whole API: `/api/v1`, `/-/`, `/metrics`, `/federate` and `/version`.
    pub fn router(&self) -> Router {
        Router::new()
            .nest("/api/v1", self.api_routes())
            .route("/-/healthy", get(async || "Prometheus Server is Healthy.\n"))
            .route("/-/ready", get(ready))
            .route("/healthz", get(async || "ok\n"))
            .route("/readyz", get(ready))
            .route("/-/reload", put(reload).post(reload))
            .route("/-/quit", put(quit).post(quit))
            .route("/metrics", get(metrics))
            .route("/federate", get(series::federate))
            .route("/version", get(version))
            .route("/", get(index))
            .layer(DefaultBodyLimit::max(MAX_FORM_BYTES))
            .with_state(self.clone())
    }

    fn api_routes(&self) -> Router<PrometheusApi> {
        Router::new()
            .route("/query", get(query::instant).post(query::instant))
            .route("/query_range", get(query::range).post(query::range))
            .route("/query_exemplars", get(query::exemplars).post(query::exemplars))
            .route("/format_query", get(query::format).post(query::format))
            .route("/parse_query", get(query::parsed).post(query::parsed))
            .route("/series", get(series::series).post(series::series))
            .route("/labels", get(series::labels).post(series::labels))
            .route("/label/{name}/values", get(series::label_values))
            .route("/targets", get(targets::targets))
            .route("/targets/metadata", get(targets::target_metadata))
            .route("/scrape_pools", get(targets::pools))
            .route("/metadata", get(targets::metadata))
            .route("/rules", get(rules::rules))
            .route("/alerts", get(rules::alerts))
            .route("/alertmanagers", get(rules::alertmanagers))
            .route("/write", post(remote::write))
            .route("/read", get(remote::read).post(remote::read))
            .route("/status/buildinfo", get(status::build_info))
            .route("/status/config", get(status::config))
            .route("/status/flags", get(status::flags))
            .route("/status/runtimeinfo", get(status::runtime_info))
            .route("/status/tsdb", get(status::tsdb))
            .route("/status/tsdb/blocks", get(status::blocks))
            .route("/features", get(status::features))
            .route("/notifications", get(status::notifications))
            .route("/status/walreplay", get(status::wal_replay))
            .route("/{*rest}", any(unknown))
    }
}

async fn unknown() -> ApiError {
    ApiError::new(ErrorKind::NotFound, "no such API endpoint")
}

async fn ready(State(api): State<PrometheusApi>) -> Response {
    if api.shared.state.read().ready {
        "Prometheus Server is Ready.\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable").into_response()
    }
}

async fn reload(State(api): State<PrometheusApi>) -> Response {
    let Some(reload) = api.shared.reload.clone() else {
        return (StatusCode::FORBIDDEN, "Lifecycle API is not enabled.").into_response();
    };
    match reload() {
        Ok(()) => StatusCode::OK.into_response(),
        Err(reason) => (StatusCode::INTERNAL_SERVER_ERROR, format!("failed to reload config: {reason}\n"))
            .into_response(),
    }
}

async fn quit(State(api): State<PrometheusApi>) -> Response {
    let Some(quit) = &api.shared.quit else {
        return (StatusCode::FORBIDDEN, "Lifecycle API is not enabled.").into_response();
    };
    quit();
    "Requesting termination... Goodbye!".into_response()
}

async fn metrics(State(api): State<PrometheusApi>) -> Response {
    let registry = api.shared.registry.clone();
    match tokio::task::spawn_blocking(move || registry.encode()).await {
        Ok(text) => ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn version() -> Response {
    let body = concat!("{\"version\":\"", env!("CARGO_PKG_VERSION"), "\",\"product\":\"gantry\"}");
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}

async fn index() -> Response {
    let page = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>gantry prometheus</title>\
        <body style=\"font-family:system-ui;margin:3rem;max-width:40rem\"><h1>gantry prometheus</h1>\
        <p>The HTTP API of Prometheus is served here.</p><ul>\
        <li><a href=\"/api/v1/targets\">targets</a><li><a href=\"/api/v1/query?query=up\">query: up</a>\
        <li><a href=\"/api/v1/rules\">rules</a>\
        <li><a href=\"/api/v1/alerts\">alerts</a><li><a href=\"/api/v1/status/tsdb\">head statistics</a><li><a href=\"/metrics\">own metrics</a></ul>";
    ([(CONTENT_TYPE, "text/html; charset=utf-8")], page).into_response()
}
