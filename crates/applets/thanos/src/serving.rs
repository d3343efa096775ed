//! What every component serves: health and metrics over HTTP, its store over gRPC.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use gantry_bucket::storeapi::StoreApi;
use gantry_prom_model::Registry;
use gantry_serve::{ListenConfig, Listener};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Whether a component can answer yet.
#[derive(Debug, Clone, Default)]
pub(crate) struct Readiness(Arc<AtomicBool>);

impl Readiness {
    pub(crate) fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Release);
    }
}

/// Sockets of a component; all are bound before anything is served.
pub(crate) struct Sockets {
    pub(crate) http: Listener,
    pub(crate) grpc: Option<Listener>,
}

impl Sockets {
    pub(crate) async fn bind(http: SocketAddr, grpc: Option<SocketAddr>) -> Result<Sockets, String> {
        let bind = async |address| {
            Listener::bind(ListenConfig::plain(address)).await.map_err(|error| error.to_string())
        };
        let http = bind(http).await?;
        let grpc = match grpc {
            Some(address) => Some(bind(address).await?),
            None => None,
        };
        // Printed, not logged: whoever started us reads where we are from it.
        eprintln!("listening on http://{}", http.local_addr());
        if let Some(grpc) = &grpc {
            eprintln!("listening on grpc://{}", grpc.local_addr());
        }
        Ok(Sockets { http, grpc })
    }

    /// Serves until `stop`.
    pub(crate) fn serve(
        self,
        router: Router,
        store: Arc<dyn StoreApi>,
        stop: &CancellationToken,
    ) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        let until = stop.clone();
        tasks.spawn(async move { self.http.serve(router, until).await });
        if let Some(grpc) = self.grpc {
            let until = stop.clone();
            let service = gantry_bucket::service(store);
            tasks.spawn(async move { grpc.serve(service, until).await });
        }
        tasks
    }
}

/// `/-/healthy`, `/-/ready` and `/metrics`.
pub(crate) fn probes(registry: Registry, ready: Readiness) -> Router {
    Router::new()
        .route("/-/healthy", get(async || "OK"))
        .route("/healthz", get(async || "ok\n"))
        .route("/-/ready", get(is_ready))
        .route("/readyz", get(is_ready))
        .route("/metrics", get(metrics))
        .with_state((registry, ready))
}

async fn is_ready(State((_, ready)): State<(Registry, Readiness)>) -> Response {
    if ready.0.load(Ordering::Acquire) {
        "OK".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready yet").into_response()
    }
}

async fn metrics(State((registry, _)): State<(Registry, Readiness)>) -> Response {
    match tokio::task::spawn_blocking(move || registry.encode()).await {
        Ok(text) => ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
