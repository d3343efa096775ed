//! The HTTP API: Grafana's, as far as dashboards and data sources go, and the view that the page draws.

mod annotations;
mod boards;
mod folders;
mod query;
mod render;
mod reply;
mod sources;
mod view;

pub(crate) use annotations::Annotations;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, delete, get, post};
use http::{Method, StatusCode, header};
use serde_json::json;

use crate::Grafana;
use reply::{Failure, Reply, apart};

const MOST_BODY_BYTES: usize = 20 << 20;

/// All routes; what is not among them is left to the caller's fallback.
pub(crate) fn router(grafana: Grafana) -> Router {
    Router::new()
        .route("/api/health", get(health))
        .route("/api/org", get(async || Reply(json!({ "id": 1, "name": "Main Org." }))))
        .route("/api/user", get(user))
        .route("/api/login/ping", get(async || Reply(json!({ "message": "Logged in" }))))
        .route("/api/frontend/settings", get(sources::frontend_settings))
        .route("/api/search", get(boards::search))
        .route("/api/dashboards/db", post(boards::save))
        .route("/api/dashboards/home", get(boards::home))
        .route("/api/dashboards/tags", get(boards::tags))
        .route("/api/dashboards/uid/{uid}", get(boards::get).delete(boards::delete))
        .route("/api/dashboards/uid/{uid}/view", post(view::view))
        .route("/api/folders", get(folders::list).post(folders::create))
        .route("/api/folders/{uid}", get(folders::get).put(folders::rename).delete(folders::delete))
        .route("/api/datasources", get(sources::list).post(sources::create))
        .route(
            "/api/datasources/{id}",
            get(sources::by_id).put(sources::update_by_id).delete(sources::delete_by_id),
        )
        .route("/api/datasources/name/{name}", get(sources::by_name).delete(sources::delete_by_name))
        .route("/api/datasources/id/{name}", get(sources::id_of))
        .route(
            "/api/datasources/uid/{uid}",
            get(sources::by_uid).put(sources::update).delete(sources::delete),
        )
        .route("/api/datasources/uid/{uid}/health", get(sources::health))
        .route("/api/datasources/uid/{uid}/resources/{*path}", any(sources::proxy))
        .route("/api/datasources/proxy/uid/{uid}/{*path}", any(sources::proxy))
        .route("/api/ds/query", post(query::query))
        .route("/api/annotations", get(annotations::list).post(annotations::create))
        .route("/api/annotations/{id}", delete(annotations::delete))
        .route("/api/admin/provisioning/dashboards/reload", post(reload))
        .route("/api/admin/provisioning/datasources/reload", post(reload))
        .route("/render/d-solo/{uid}/{slug}", get(render::panel))
        .route("/render/d-solo/{uid}", get(render::panel_without_slug))
        .layer(DefaultBodyLimit::max(MOST_BODY_BYTES))
        .layer(from_fn(only_json))
        .layer(from_fn(only_this_site))
        .with_state(grafana)
}

async fn health() -> Reply {
    Reply(json!({ "commit": "", "database": "ok", "version": env!("CARGO_PKG_VERSION") }))
}

async fn user() -> Reply {
    Reply(
        json!({ "id": 1, "login": "admin", "name": "", "email": "", "theme": "", "orgId": 1, "isGrafanaAdmin": true }),
    )
}

async fn reload(axum::extract::State(grafana): axum::extract::State<Grafana>) -> Response {
    apart(grafana, |grafana| {
        grafana.reload().map_err(|reason| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, reason))?;
        Ok(Reply(json!({ "message": "Dashboards config reloaded" })))
    })
    .await
}

/// What changes something, here or behind a data source, comes from no page of another site.
async fn only_this_site(request: Request, next: Next) -> Response {
    let writes = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    let host = gantry_serve::host_of(request.headers(), request.uri());
    if writes && let Err(reason) = gantry_serve::from_same_site(request.headers(), host) {
        return Failure::new(StatusCode::FORBIDDEN, reason).into_response();
    }
    next.run(request).await
}

/// A page of another site can send a form here, but no JSON: what changes something must be JSON.
async fn only_json(request: Request, next: Next) -> Response {
    let writes = matches!(*request.method(), Method::POST | Method::PUT | Method::PATCH);
    let kind =
        request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let is_proxied = request.uri().path().starts_with("/api/datasources/")
        && !request.uri().path().ends_with("/api/datasources");
    let is_form = kind.starts_with("application/x-www-form-urlencoded") && is_proxied;
    let has_body = request.headers().get(header::CONTENT_LENGTH).is_some_and(|length| length != "0");
    if writes && has_body && !kind.starts_with("application/json") && !is_form {
        let text = format!("expected a body of type application/json, found {kind:?}");
        return Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text).into_response();
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc;
    use std::time::Duration;

    use axum::body::Body;
    use gantry_clock::ManualClock;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn who_waits_for_the_store_keeps_nobody_else_waiting() {
        let grafana = Grafana::open(None, None, Arc::new(ManualClock::new(0))).unwrap();
        let requests = [
            (Method::GET, "/api/search"),
            (Method::GET, "/api/folders"),
            (Method::GET, "/api/dashboards/uid/a"),
            (Method::DELETE, "/api/dashboards/uid/a"),
            (Method::POST, "/api/dashboards/uid/a/view"),
        ];
        for (method, path) in requests {
            let (locked, is_locked) = mpsc::channel();
            let (free, is_free) = mpsc::channel::<()>();
            let own = grafana.clone();
            let writer = std::thread::spawn(move || {
                let _store = own.shared.store.write();
                locked.send(()).unwrap();
                is_free.recv_timeout(Duration::from_secs(20)).is_ok()
            });
            is_locked.recv().unwrap();
            let request = Request::builder().method(method).uri(path);
            let request = request.header(header::CONTENT_TYPE, "application/json").body(Body::from("{}"));
            let asked = tokio::spawn(router(grafana.clone()).oneshot(request.unwrap()));
            // This runtime has one thread: if the request waited on it, nobody could free the store.
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            let _ = free.send(());
            assert!(writer.join().unwrap(), "{path} holds up the runtime");
            assert!(asked.await.unwrap().is_ok());
        }
    }
}
