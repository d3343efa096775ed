//! Locust's HTTP API and our own page, on the web interface's port.

mod form;
mod swarm;

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use gantry_load::locust::{CsvTables, LOCUST_VERSION, MasterHandle, Stats, file_time, task_ratio};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::logging::LogLines;

/// Rows and errors one answer shows; the total counts all.
const MOST_ROWS: usize = 500;
/// A full history larger than this is not sent from memory.
const MOST_HISTORY_BYTES: u64 = 256 * 1024 * 1024;

/// What the handlers work on.
pub(crate) struct Api {
    pub(crate) master: MasterHandle,
    pub(crate) log: LogLines,
    pub(crate) locustfile: String,
    /// Workers are elsewhere, and not processes of this command.
    pub(crate) is_distributed: bool,
    pub(crate) class_picker: bool,
    pub(crate) engine: String,
    /// `_stats_history.csv` with every entry, when it is written.
    pub(crate) full_history: Option<PathBuf>,
    pub(crate) defaults: Defaults,
    pub(crate) profile: Mutex<Option<String>>,
    /// Counts starts and stops by hand, so that an old run time does not stop a new run.
    pub(crate) runs: watch::Sender<u64>,
}

/// What the form of the page begins with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Defaults {
    pub(crate) users: Option<u32>,
    pub(crate) rate: Option<f64>,
    pub(crate) run_time: Option<u64>,
}

/// All routes, below the base path.
pub(crate) fn router(api: Arc<Api>, base: &str) -> Router {
    let routes = Router::new()
        .route("/assets/page.css", get(|| async { asset("text/css", include_str!("page/page.css")) }))
        .route("/assets/page.js", get(|| async { asset("text/javascript", include_str!("page/page.js")) }))
        .route("/swarm", post(swarm::swarm))
        .route("/stop", post(stop))
        .route("/stats/reset", post(reset))
        .route("/stats/requests", get(requests))
        .route("/stats/requests/csv", get(requests_csv))
        .route("/stats/failures/csv", get(failures_csv))
        .route("/stats/requests_full_history/csv", get(full_history_csv))
        .route("/stats/report", get(report))
        .route("/stats/history", get(history))
        .route("/exceptions", get(exceptions))
        .route("/exceptions/csv", get(exceptions_csv))
        .route("/tasks", get(tasks))
        .route("/logs", get(logs))
        .route("/worker-count", get(worker_count))
        .route("/user", post(user))
        .route("/login", get(|| async { Redirect::to("./") }))
        .route("/state", get(state))
        .with_state(api);
    let page = format!("{base}/");
    let routes = if base.is_empty() {
        routes.route("/", get(index))
    } else {
        let to_page = page.clone();
        Router::new()
            .nest(base, routes)
            .route(base, get(move || async move { Redirect::permanent(&to_page) }))
            .route(&page, get(index))
    };
    routes
        .fallback(|| async { (StatusCode::NOT_FOUND, "404 Not Found: there is nothing at this address") })
        .layer(map_response(|mut response: Response| async move {
            let headers = response.headers_mut();
            headers.insert("access-control-allow-origin", HeaderValue::from_static("*"));
            headers.insert("cache-control", HeaderValue::from_static("no-store"));
            response
        }))
}

fn asset(kind: &'static str, text: &'static str) -> Response {
    ([(CONTENT_TYPE, kind)], text).into_response()
}

fn json_response(value: &Value) -> Response {
    ([(CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

async fn index() -> Response {
    ([(CONTENT_TYPE, "text/html; charset=utf-8")], include_str!("page/index.html")).into_response()
}

/// What the page needs to draw itself before the first statistics.
async fn state(State(api): State<Arc<Api>>) -> Response {
    let master = api.master.lock();
    let classes: Vec<&str> = master.classes().iter().map(|class| class.name.as_str()).collect();
    json_response(&json!({
        "locustfile": api.locustfile,
        "engine": api.engine,
        "version": LOCUST_VERSION,
        "state": master.state().name(),
        "is_distributed": api.is_distributed,
        "host": master.effective_host().unwrap_or_default(),
        "num_users": api.defaults.users,
        "spawn_rate": api.defaults.rate,
        "run_time": api.defaults.run_time,
        "show_userclass_picker": api.class_picker,
        "available_user_classes": classes,
        "full_history": api.full_history.is_some(),
    }))
}

async fn stop(State(api): State<Arc<Api>>) -> Response {
    api.runs.send_modify(|run| *run += 1);
    api.master.stop().await;
    json_response(&json!({"success": true, "message": "Test stopped"}))
}

async fn reset(State(api): State<Arc<Api>>) -> &'static str {
    let now = api.master.now();
    api.master.lock().reset_stats(now);
    "ok"
}

async fn requests(State(api): State<Arc<Api>>) -> Response {
    let now = api.master.now();
    let master = api.master.lock();
    let stats = &master.stats;
    let total = &stats.total;
    let mut rows: Vec<Value> = stats.entries().take(MOST_ROWS).map(|entry| stats.entry_json(entry)).collect();
    rows.push(stats.entry_json(total));
    let errors = stats.errors.values().take(MOST_ROWS).map(|error| {
        json!({
            "method": error.method,
            "name": error.name,
            "error": error.error,
            "occurrences": error.occurrences,
            "first_seen": error.first_seen,
            "last_seen": error.last_seen,
        })
    });
    let current = |share| total.current_percentile(share, now).map(gantry_load::locust::Number::to_json);
    let mut value = json!({
        "stats": rows,
        "errors": errors.collect::<Vec<_>>(),
        "current_rps": stats.current_rps(total),
        "current_fail_per_sec": stats.current_fail_per_sec(total),
        "total_rps": stats.total_rps(total),
        "total_fail_per_sec": stats.total_fail_per_sec(total),
        "fail_ratio": total.fail_ratio(),
        "current_response_time_percentiles": {
            "response_time_percentile_0.5": current(0.5),
            "response_time_percentile_0.95": current(0.95),
        },
        "state": master.state().name(),
        "user_count": master.user_count(),
    });
    if api.is_distributed {
        let workers = master.workers().into_iter().map(|worker| {
            json!({
                "id": worker.id,
                "state": worker.state,
                "user_count": worker.user_count,
                "cpu_usage": worker.cpu_usage,
                "memory_usage": worker.memory_usage,
            })
        });
        value["workers"] = workers.collect();
        value["worker_count"] = json!(master.worker_count());
    }
    json_response(&value)
}

/// The points of the charts, for a page that is opened during a run.
async fn history(State(api): State<Arc<Api>>) -> Response {
    let master = api.master.lock();
    let points = master.stats.history.iter().map(|point| {
        json!({
            "time": point.time,
            "current_rps": point.current_rps,
            "current_fail_per_sec": point.current_fail_per_sec,
            "p50": point.p50.to_json(),
            "p95": point.p95.to_json(),
            "user_count": point.user_count,
        })
    });
    json_response(&points.collect())
}

async fn requests_csv(State(api): State<Arc<Api>>) -> Response {
    let text = CsvTables::stats_header() + &CsvTables::stats_rows(&api.master.lock().stats);
    api.csv("requests", text)
}

async fn failures_csv(State(api): State<Arc<Api>>) -> Response {
    let text = CsvTables::failures_header() + &CsvTables::failures_rows(&api.master.lock().stats);
    api.csv("failures", text)
}

async fn exceptions_csv(State(api): State<Arc<Api>>) -> Response {
    let text = CsvTables::exceptions_header() + &CsvTables::exceptions_rows(api.master.lock().exceptions());
    api.csv("exceptions", text)
}

async fn full_history_csv(State(api): State<Arc<Api>>) -> Response {
    let Some(path) = &api.full_history else {
        let text = "Error: Server was not started with option to generate full history.";
        return (StatusCode::NOT_FOUND, text).into_response();
    };
    let read = async {
        let size = tokio::fs::metadata(path).await?.len();
        if size > MOST_HISTORY_BYTES {
            return Err(std::io::Error::other(format!("{} is larger than 256 MiB", path.display())));
        }
        tokio::fs::read_to_string(path).await
    };
    match read.await {
        Ok(text) => api.csv("requests_full_history", text),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn report(State(api): State<Arc<Api>>, Query(query): Query<Vec<(String, String)>>) -> Response {
    let download = query.iter().any(|(name, value)| name == "download" && !value.is_empty());
    let profile = api.profile.lock().clone();
    let page = crate::report::html(&api.master.lock(), &api.locustfile, profile.as_deref());
    let mut response = ([(CONTENT_TYPE, "text/html; charset=utf-8")], page).into_response();
    if download {
        let name = format!("{}.html", api.download_name());
        response.headers_mut().insert(CONTENT_DISPOSITION, attachment(&name));
    }
    response
}

async fn exceptions(State(api): State<Arc<Api>>) -> Response {
    let master = api.master.lock();
    let rows = master.exceptions().map(|exception| {
        let nodes: Vec<&str> = exception.nodes.iter().map(String::as_str).collect();
        json!({
            "count": exception.count,
            "msg": exception.msg,
            "traceback": exception.traceback,
            "nodes": nodes.join(", "),
        })
    });
    json_response(&json!({"exceptions": rows.collect::<Vec<_>>()}))
}

async fn tasks(State(api): State<Arc<Api>>) -> Response {
    let master = api.master.lock();
    let (classes, spawned) = (master.chosen_classes(), master.reported_classes());
    json_response(&json!({
        "per_class": task_ratio(&classes, &spawned, false),
        "total": task_ratio(&classes, &spawned, true),
    }))
}

async fn logs(State(api): State<Arc<Api>>) -> Response {
    let workers: serde_json::Map<String, Value> =
        api.master.lock().worker_logs().iter().map(|(id, lines)| (id.clone(), json!(lines))).collect();
    json_response(&json!({"master": api.log.all(), "workers": workers}))
}

async fn worker_count(State(api): State<Arc<Api>>) -> Response {
    let count = if api.is_distributed { api.master.lock().worker_count() } else { 0 };
    json_response(&json!({"worker_count": count}))
}

async fn user(State(api): State<Arc<Api>>, body: Bytes) -> Response {
    match serde_json::from_slice::<Value>(&body) {
        Ok(settings) => match api.master.update_user_class(&settings) {
            Ok(()) => (StatusCode::CREATED, json_response(&json!({}))).into_response(),
            Err(reason) => (StatusCode::BAD_REQUEST, reason).into_response(),
        },
        Err(error) => (StatusCode::BAD_REQUEST, format!("the body is not JSON: {error}")).into_response(),
    }
}

// === impl Api ===

impl Api {
    fn csv(&self, what: &str, text: String) -> Response {
        let name = format!("{}_{what}.csv", self.download_name());
        (
            [(CONTENT_TYPE, HeaderValue::from_static("text/csv")), (CONTENT_DISPOSITION, attachment(&name))],
            text,
        )
            .into_response()
    }

    fn download_name(&self) -> String {
        let master = self.master.lock();
        let host = master.host().map(|host| format!("_{host}")).unwrap_or_default();
        let stats: &Stats = &master.stats;
        format!("Locust_{}_{}{host}", file_time(stats.total.start_time), self.locustfile)
    }
}

fn attachment(name: &str) -> HeaderValue {
    let safe: String =
        name.chars().filter(|c| c.is_ascii_graphic() && !matches!(c, '"' | ';' | '\\')).collect();
    HeaderValue::try_from(format!("attachment;filename={safe}"))
        .unwrap_or_else(|_| HeaderValue::from_static("attachment"))
}
