//! Data sources: what there is, and the ways through to them.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use gantry_dashboards::Sources;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::reply::{Failure, Reply, apart};
use crate::Grafana;
use crate::datasource::Entry;
use crate::remote::Remote;

fn none() -> Failure {
    Failure::not_found("Data source")
}

pub(super) async fn list(State(grafana): State<Grafana>) -> Reply {
    Reply(grafana.shared.datasources.all().iter().map(Entry::shown).collect())
}

pub(super) async fn frontend_settings(State(grafana): State<Grafana>) -> Reply {
    let all = grafana.shared.datasources.all();
    let default = all.iter().find(|entry| entry.is_default).map(|entry| entry.name.clone());
    let sources: serde_json::Map<String, Value> =
        all.iter().map(|entry| (entry.name.clone(), entry.shown())).collect();
    Reply(json!({
        "datasources": sources, "defaultDatasource": default, "buildInfo": { "version": env!("CARGO_PKG_VERSION"), "edition": "Gantry" },
        "appSubUrl": "", "authProxyEnabled": false,
    }))
}

fn found(grafana: &Grafana, fits: impl Fn(&Entry) -> bool) -> Result<Entry, Failure> {
    grafana.shared.datasources.find(fits).ok_or_else(none)
}

pub(super) async fn by_id(State(grafana): State<Grafana>, Path(id): Path<u64>) -> Result<Reply, Failure> {
    Ok(Reply(found(&grafana, |entry| entry.id == id)?.shown()))
}

pub(super) async fn by_uid(
    State(grafana): State<Grafana>,
    Path(uid): Path<String>,
) -> Result<Reply, Failure> {
    Ok(Reply(found(&grafana, |entry| entry.uid == uid)?.shown()))
}

pub(super) async fn by_name(
    State(grafana): State<Grafana>,
    Path(name): Path<String>,
) -> Result<Reply, Failure> {
    Ok(Reply(found(&grafana, |entry| entry.name == name)?.shown()))
}

pub(super) async fn id_of(
    State(grafana): State<Grafana>,
    Path(name): Path<String>,
) -> Result<Reply, Failure> {
    Ok(Reply(json!({ "id": found(&grafana, |entry| entry.name == name)?.id })))
}

fn read(body: Value) -> Result<Entry, Failure> {
    serde_json::from_value(body).map_err(|error| Failure::bad(format!("bad request data: {error}")))
}

fn put(grafana: &Grafana, entry: Entry, message: &str) -> Result<Reply, Failure> {
    let entry = grafana.shared.datasources.put(entry).map_err(Failure::bad)?;
    grafana.keep_datasources().map_err(|reason| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, reason))?;
    Ok(Reply(json!({ "id": entry.id, "name": entry.name, "message": message, "datasource": entry.shown() })))
}

pub(super) async fn create(State(grafana): State<Grafana>, Json(body): Json<Value>) -> Response {
    apart(grafana, move |grafana| add(grafana, body)).await
}

fn add(grafana: &Grafana, body: Value) -> Result<Reply, Failure> {
    let _one_at_a_time = grafana.shared.changing_datasources.lock();
    let entry = Entry { read_only: false, ..read(body)? };
    if grafana
        .shared
        .datasources
        .find(|old| old.name == entry.name || (!entry.uid.is_empty() && old.uid == entry.uid))
        .is_some()
    {
        return Err(Failure::new(
            StatusCode::CONFLICT,
            "data source with the same name or uid already exists",
        ));
    }
    put(grafana, entry, "Datasource added")
}

fn replace(grafana: &Grafana, fits: impl Fn(&Entry) -> bool, body: Value) -> Result<Reply, Failure> {
    let _one_at_a_time = grafana.shared.changing_datasources.lock();
    let old = found(grafana, fits)?;
    if old.read_only {
        return Err(Failure::new(StatusCode::FORBIDDEN, "Cannot update read-only data source"));
    }
    let mut entry = Entry { uid: old.uid.clone(), read_only: false, ..read(body)? };
    if grafana.shared.datasources.find(|other| other.name == entry.name && other.uid != old.uid).is_some() {
        return Err(Failure::new(StatusCode::CONFLICT, "data source with the same name already exists"));
    }
    // Secrets that are not sent again stay, but only where they were meant to go.
    if entry.url == old.url {
        for (key, value) in &old.secure_json_data {
            entry.secure_json_data.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    put(grafana, entry, "Datasource updated")
}

pub(super) async fn update(
    State(grafana): State<Grafana>,
    Path(uid): Path<String>,
    Json(body): Json<Value>,
) -> Response {
    apart(grafana, move |grafana| replace(grafana, |entry| entry.uid == uid, body)).await
}

pub(super) async fn update_by_id(
    State(grafana): State<Grafana>,
    Path(id): Path<u64>,
    Json(body): Json<Value>,
) -> Response {
    apart(grafana, move |grafana| replace(grafana, |entry| entry.id == id, body)).await
}

fn remove(grafana: &Grafana, fits: impl Fn(&Entry) -> bool) -> Result<Reply, Failure> {
    let _one_at_a_time = grafana.shared.changing_datasources.lock();
    let old = found(grafana, fits)?;
    if old.read_only {
        return Err(Failure::new(StatusCode::FORBIDDEN, "Cannot delete read-only data source"));
    }
    grafana.shared.datasources.remove(|entry| entry.uid == old.uid);
    grafana.keep_datasources().map_err(|reason| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, reason))?;
    Ok(Reply(json!({ "message": "Data source deleted", "id": old.id })))
}

pub(super) async fn delete(State(grafana): State<Grafana>, Path(uid): Path<String>) -> Response {
    apart(grafana, move |grafana| remove(grafana, |entry| entry.uid == uid)).await
}

pub(super) async fn delete_by_id(State(grafana): State<Grafana>, Path(id): Path<u64>) -> Response {
    apart(grafana, move |grafana| remove(grafana, |entry| entry.id == id)).await
}

pub(super) async fn delete_by_name(State(grafana): State<Grafana>, Path(name): Path<String>) -> Response {
    apart(grafana, move |grafana| remove(grafana, |entry| entry.name == name)).await
}

pub(super) async fn health(
    State(grafana): State<Grafana>,
    Path(uid): Path<String>,
) -> Result<Reply, Failure> {
    let entry = found(&grafana, |entry| entry.uid == uid)?;
    let source = grafana.shared.datasources.open(&uid);
    let Some(source) = source else {
        return Err(Failure::bad(format!(
            "data source {} is of type {}; only prometheus can be asked",
            entry.name, entry.kind
        )));
    };
    match source.instant("1+1", grafana.shared.clock.now_ms()).await {
        Ok(_) => Ok(Reply(
            json!({ "status": "OK", "message": "Successfully queried the Prometheus API.", "details": {} }),
        )),
        Err(error) => Err(Failure::bad(error.to_string())),
    }
}

/// What a source is asked with a form. Anything else that is posted may change it, such as its rules or its series, and
/// the credentials that would be sent along are not the caller's.
const ASKED_BY_POST: [&str; 6] = [
    "api/v1/query",
    "api/v1/query_range",
    "api/v1/query_exemplars",
    "api/v1/series",
    "api/v1/labels",
    "api/v1/format_query",
];

fn is_passed_on(method: &Method, path: &str) -> bool {
    match *method {
        Method::GET | Method::HEAD => true,
        Method::POST => ASKED_BY_POST.contains(&path),
        _ => false,
    }
}

/// Passes a question on to the source, with the source's credentials and none of the caller's.
pub(super) async fn proxy(
    State(grafana): State<Grafana>,
    Path((uid, path)): Path<(String, String)>,
    method: Method,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Failure> {
    let entry = found(&grafana, |entry| entry.uid == uid)?;
    if path.split('/').any(|part| part == "..") {
        return Err(Failure::bad("the path must not have .. in it"));
    }
    if !is_passed_on(&method, &path) {
        let text = format!("{method} /{path} is not passed on to a data source");
        return Err(Failure::new(StatusCode::FORBIDDEN, text));
    }
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    let target = format!("/{path}{query}");
    let kind = headers.get(header::CONTENT_TYPE).cloned();
    if let Some(local) = grafana.shared.local_api.as_ref().filter(|_| entry.url.is_empty()) {
        let mut request = http::Request::builder().method(method).uri(&target);
        if let Some(kind) = kind {
            request = request.header(header::CONTENT_TYPE, kind);
        }
        let request =
            request.body(axum::body::Body::from(body)).map_err(|error| Failure::bad(error.to_string()))?;
        return match local.clone().oneshot(request).await {
            Ok(response) => Ok(response),
            Err(never) => match never {},
        };
    }
    let remote = match grafana.shared.datasources.remote(&uid) {
        Some(remote) => remote,
        // Only Prometheus is asked for panels; others are only passed on to.
        None => Arc::new(Remote::new(&entry).map_err(Failure::bad)?),
    };
    let reply = remote.send(method, &target, kind, body).await;
    let reply = reply.map_err(|error| Failure::new(StatusCode::BAD_GATEWAY, error.to_string()))?;
    let mut response = (reply.status, reply.body).into_response();
    let kind = reply.content_type.unwrap_or(HeaderValue::from_static("application/octet-stream"));
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    // What a source answers is data here and never a page of ours.
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(response)
}
