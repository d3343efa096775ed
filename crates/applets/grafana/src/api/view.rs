//! `POST /api/dashboards/uid/{uid}/view`: a whole dashboard as it is seen, in one request.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use gantry_dashboards::{DashboardView, Request, Theme, ViewOptions, view as view_of};
use http::{HeaderValue, StatusCode, header};
use serde::Deserialize;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::reply::Failure;
use crate::Grafana;

const MOST_SERIES: usize = 1000;

/// How the page wants to see it.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Ask {
    from: String,
    to: String,
    variables: BTreeMap<String, Vec<String>>,
    width: u32,
    light: bool,
    utc_offset_min: i32,
    toggled_rows: BTreeSet<i64>,
    only: BTreeSet<i64>,
    all_series: bool,
}

fn unavailable(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
}

/// What `then` makes of the view of a dashboard. All of it happens on a thread of its own, because between the answers
/// of the data sources there is much to compute; it ends early when nobody waits for it any more.
pub(super) async fn seen<T: Send + 'static>(
    grafana: &Grafana,
    uid: String,
    options: ViewOptions,
    then: impl FnOnce(DashboardView) -> T + Send + 'static,
) -> Result<T, Failure> {
    let permit = grafana.shared.views.clone().acquire_owned().await.map_err(|error| unavailable(&error))?;
    let (grafana, runtime) = (grafana.clone(), Handle::current());
    let left = CancellationToken::new();
    let (_leaves, left) = (left.clone().drop_guard(), left);
    let work = move || {
        let _permit = permit;
        let dashboard = grafana.shared.store.read().get(&uid).map(|one| one.parsed.clone());
        let dashboard = dashboard.ok_or_else(|| Failure::not_found("Dashboard"))?;
        let view = view_of(&dashboard, &options, &grafana.shared.datasources);
        let view = runtime.block_on(left.run_until_cancelled(view));
        view.map(then).ok_or_else(|| unavailable(&"nobody waits for the answer"))
    };
    tokio::task::spawn_blocking(work).await.map_err(|error| unavailable(&error))?
}

pub(super) async fn view(
    State(grafana): State<Grafana>,
    Path(uid): Path<String>,
    Json(ask): Json<Ask>,
) -> Result<Response, Failure> {
    let options = ViewOptions {
        request: Request {
            from: ask.from,
            to: ask.to,
            variables: ask.variables,
            locale: grafana.locale(ask.utc_offset_min),
        },
        theme: if ask.light { Theme::Light } else { Theme::Dark },
        width: ask.width.clamp(300, 6000),
        toggled_rows: ask.toggled_rows,
        only: ask.only,
        most_series: if ask.all_series { MOST_SERIES } else { 0 },
    };
    let written = seen(&grafana, uid, options, |view| serde_json::to_vec(&view)).await?;
    let body = written.map_err(|error| unavailable(&error))?;
    let mut response = body.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
