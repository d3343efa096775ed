//! The API over a Prometheus of our own making: saving, finding, asking, drawing.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::routing::{get, post};
use gantry_applet_grafana::Grafana;
use gantry_clock::ManualClock;
use gantry_serve::{ListenConfig, Listener};
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

const NOW_MS: i64 = 1_795_861_230_000;

fn grafana() -> Grafana {
    Grafana::open(None, None, Arc::new(ManualClock::new(NOW_MS))).expect("nothing is kept")
}

/// Answers every query with two series, and says what it was asked.
async fn prometheus() -> String {
    let range = async |body: String| {
        let step: f64 = body
            .split('&')
            .find_map(|pair| pair.strip_prefix("step="))
            .map_or(15.0, |step| step.replace("%2E", ".").parse().unwrap_or(15.0));
        let start: f64 = body
            .split('&')
            .find_map(|pair| pair.strip_prefix("start="))
            .map_or(0.0, |start| start.replace("%2E", ".").parse().unwrap_or(0.0));
        let values: Vec<Value> = (0..50)
            .map(|n| json!([start + f64::from(n) * step, f64::from(n * n % 83).to_string()]))
            .collect();
        let series = |pod: &str| json!({ "metric": { "pod": pod }, "values": values });
        json!({ "status": "success", "data": { "resultType": "matrix", "result": [series("a"), series("b")] } }).to_string()
    };
    let instant = async || {
        let row =
            |pod: &str, value: &str| json!({ "metric": { "pod": pod }, "value": [NOW_MS / 1000, value] });
        json!({ "status": "success", "data": { "resultType": "vector", "result": [row("a", "3"), row("b", "NaN")] } }).to_string()
    };
    let values = async || json!({ "status": "success", "data": ["a", "b"] }).to_string();
    let router = Router::new()
        .route("/api/v1/query_range", post(range))
        .route("/api/v1/query", post(instant).get(instant))
        .route("/api/v1/label/pod/values", get(values));
    let listener = Listener::bind(ListenConfig::plain(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))))
        .await
        .expect("a free port");
    let address = listener.local_addr();
    tokio::spawn(listener.serve(router, CancellationToken::new()));
    format!("http://{address}")
}

async fn call(grafana: &Grafana, method: &str, path: &str, body: Option<Value>) -> (StatusCode, Vec<u8>) {
    let mut request = Request::builder().method(method).uri(path);
    if body.is_some() {
        request = request.header("content-type", "application/json").header("content-length", "1");
    }
    let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
    let response =
        grafana.router().oneshot(request.body(body).expect("a request")).await.expect("never fails");
    let status = response.status();
    (status, response.into_body().collect().await.expect("a body").to_bytes().to_vec())
}

async fn json_of(grafana: &Grafana, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
    let (status, body) = call(grafana, method, path, body).await;
    (
        status.as_u16(),
        serde_json::from_slice(&body)
            .unwrap_or_else(|_| panic!("{path}: {}", String::from_utf8_lossy(&body))),
    )
}

fn board() -> Value {
    json!({
        "uid": "demo", "title": "Demo", "tags": ["x"], "time": { "from": "now-1h", "to": "now" },
        "templating": { "list": [{ "name": "pod", "type": "query", "query": "label_values(up, pod)", "includeAll": true, "multi": true }] },
        "panels": [
            { "id": 1, "type": "timeseries", "title": "Rate of $pod", "gridPos": { "x": 0, "y": 0, "w": 12, "h": 8 },
              "targets": [{ "expr": "rate(x{pod=~\"$pod\"}[$__rate_interval])", "legendFormat": "{{pod}}" }],
              "options": { "legend": { "displayMode": "table", "calcs": ["mean", "max"] } } },
            { "id": 2, "type": "table", "title": "Pods", "gridPos": { "x": 12, "y": 0, "w": 12, "h": 8 },
              "targets": [{ "expr": "x", "instant": true, "format": "table" }] },
        ],
    })
}

#[tokio::test]
async fn dashboards_are_saved_found_and_deleted() {
    let grafana = grafana();
    let save =
        |dashboard: Value, overwrite: bool| Some(json!({ "dashboard": dashboard, "overwrite": overwrite }));
    let (status, saved) = json_of(&grafana, "POST", "/api/dashboards/db", save(board(), false)).await;
    assert_eq!((status, &saved["url"], &saved["version"]), (200, &json!("/d/demo/demo"), &json!(1)));
    let (status, refused) = json_of(&grafana, "POST", "/api/dashboards/db", save(board(), false)).await;
    assert_eq!((status, &refused["status"]), (412, &json!("version-mismatch")));
    let (status, saved) = json_of(&grafana, "POST", "/api/dashboards/db", save(board(), true)).await;
    assert_eq!((status, &saved["version"]), (200, &json!(2)));
    let (_, hits) = json_of(&grafana, "GET", "/api/search?query=dem&tag=x", None).await;
    assert_eq!(hits[0]["uid"], "demo");
    let (_, read) = json_of(&grafana, "GET", "/api/dashboards/uid/demo", None).await;
    assert_eq!((&read["dashboard"]["version"], &read["meta"]["slug"]), (&json!(2), &json!("demo")));
    let (status, _) =
        json_of(&grafana, "POST", "/api/folders", Some(json!({ "uid": "team", "title": "Team" }))).await;
    assert_eq!(status, 200);
    let move_it = Some(json!({ "dashboard": board(), "overwrite": true, "folderUid": "team" }));
    assert_eq!(json_of(&grafana, "POST", "/api/dashboards/db", move_it).await.0, 200);
    let (_, hits) = json_of(&grafana, "GET", "/api/search?folderUIDs=team", None).await;
    assert_eq!(hits[0]["folderTitle"], "Team");
    assert_eq!(json_of(&grafana, "DELETE", "/api/dashboards/uid/demo", None).await.0, 200);
    assert_eq!(json_of(&grafana, "GET", "/api/dashboards/uid/demo", None).await.0, 404);
}

#[tokio::test]
async fn a_form_of_another_site_changes_nothing() {
    let grafana = grafana();
    let request = Request::post("/api/dashboards/db")
        .header("content-type", "text/plain")
        .header("content-length", "2");
    let response = grafana.router().oneshot(request.body(Body::from("{}")).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test]
async fn data_sources_are_kept_without_showing_their_secrets() {
    let grafana = grafana();
    let url = prometheus().await;
    let entry = json!({ "name": "P", "uid": "p", "type": "prometheus", "url": url, "basicAuth": true, "basicAuthUser": "u",
        "secureJsonData": { "basicAuthPassword": "hush" } });
    let (status, made) = json_of(&grafana, "POST", "/api/datasources", Some(entry.clone())).await;
    assert_eq!((status, &made["datasource"]["isDefault"]), (200, &json!(true)));
    assert_eq!(json_of(&grafana, "POST", "/api/datasources", Some(entry)).await.0, 409);
    let (_, list) = json_of(&grafana, "GET", "/api/datasources", None).await;
    assert!(
        !list.to_string().contains("hush") && list[0]["secureJsonFields"]["basicAuthPassword"] == true,
        "{list}"
    );
    assert_eq!(json_of(&grafana, "GET", "/api/datasources/uid/p/health", None).await.1["status"], "OK");
    let (status, passed) =
        json_of(&grafana, "GET", "/api/datasources/proxy/uid/p/api/v1/query?query=up", None).await;
    assert_eq!((status, &passed["status"]), (200, &json!("success")));
    let body = json!({ "from": "now-1h", "to": "now", "queries": [
        { "refId": "A", "datasource": { "uid": "p" }, "expr": "up", "instant": true },
        { "refId": "B", "datasource": { "uid": "p" }, "expr": "up", "maxDataPoints": 100 }] });
    let (_, answer) = json_of(&grafana, "POST", "/api/ds/query", Some(body)).await;
    let frames = &answer["results"]["A"]["frames"];
    assert_eq!(frames[0]["data"]["values"][1], json!([3.0]));
    assert_eq!(frames[1]["data"]["entities"][1]["NaN"], json!([0]));
    assert_eq!(answer["results"]["B"]["frames"][0]["schema"]["fields"][1]["labels"]["pod"], "a");
    assert_eq!(json_of(&grafana, "DELETE", "/api/datasources/uid/p", None).await.0, 200);
    assert_eq!(json_of(&grafana, "GET", "/api/datasources/uid/p/health", None).await.0, 404);
    let wrong = json!({ "name": "Q", "type": "prometheus", "url": "file:///etc/passwd" });
    assert_eq!(json_of(&grafana, "POST", "/api/datasources", Some(wrong)).await.0, 400);
}

#[tokio::test]
async fn a_page_of_another_site_changes_nothing() {
    let grafana = grafana();
    let entry = json!({ "name": "P", "uid": "p", "type": "prometheus", "url": prometheus().await });
    json_of(&grafana, "POST", "/api/datasources", Some(entry)).await;
    let send = async |method: &str, path: &str, origin: &str| {
        let request = Request::builder().method(method).uri(path);
        let request = request.header("host", "localhost:3000").header("origin", origin);
        grafana.router().oneshot(request.body(Body::empty()).unwrap()).await.unwrap().status()
    };
    let query = "/api/datasources/proxy/uid/p/api/v1/query";
    assert_eq!(send("POST", query, "http://evil.example").await, StatusCode::FORBIDDEN);
    assert_eq!(send("POST", query, "null").await, StatusCode::FORBIDDEN);
    assert_eq!(send("DELETE", "/api/datasources/uid/p", "http://evil.example").await, StatusCode::FORBIDDEN);
    assert_eq!(send("POST", query, "http://localhost:3000").await, StatusCode::OK);
    assert_eq!(send("GET", "/api/datasources/uid/p", "http://evil.example").await, StatusCode::OK);
}

#[tokio::test]
async fn only_questions_are_passed_on_to_a_data_source() {
    let grafana = grafana();
    let url = prometheus().await;
    let entry = json!({ "name": "P", "uid": "p", "type": "prometheus", "url": url });
    json_of(&grafana, "POST", "/api/datasources", Some(entry)).await;
    for (method, path) in [
        ("POST", "api/v1/admin/tsdb/delete_series"),
        ("POST", "api/v1/write"),
        ("POST", "-/reload"),
        ("PUT", "api/v1/query"),
        ("DELETE", "api/v1/query"),
    ] {
        for way in ["/api/datasources/proxy/uid/p", "/api/datasources/uid/p/resources"] {
            let (status, refused) = json_of(&grafana, method, &format!("{way}/{path}"), None).await;
            let wanted = format!("{method} /{path} is not passed on to a data source");
            assert_eq!((status, refused["message"].as_str()), (403, Some(wanted.as_str())));
        }
    }
    let asked = "/api/datasources/proxy/uid/p/api/v1/query";
    assert_eq!(call(&grafana, "POST", asked, None).await.0, StatusCode::OK);
    assert_eq!(call(&grafana, "HEAD", asked, None).await.0, StatusCode::OK);
}

/// Answers with the password it was asked with.
async fn mirror() -> String {
    let echo = async |headers: http::HeaderMap| {
        headers.get("authorization").map_or_else(String::new, |value| value.to_str().unwrap().to_owned())
    };
    let listener = Listener::bind(ListenConfig::plain(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))))
        .await
        .expect("a free port");
    let address = listener.local_addr();
    let router = Router::new().route("/who", get(echo));
    tokio::spawn(listener.serve(router, CancellationToken::new()));
    format!("http://{address}")
}

#[tokio::test]
async fn a_changed_data_source_takes_no_name_and_no_secret_of_another() {
    let grafana = grafana();
    let (url, elsewhere) = (mirror().await, mirror().await);
    let entry = |name: &str, url: &str| json!({ "name": name, "uid": "p", "type": "prometheus", "url": url, "basicAuth": true, "basicAuthUser": "u" });
    let mut first = entry("P", &url);
    first["secureJsonData"] = json!({ "basicAuthPassword": "hush" });
    json_of(&grafana, "POST", "/api/datasources", Some(first)).await;
    let other = json!({ "name": "Q", "uid": "q", "type": "prometheus", "url": elsewhere });
    json_of(&grafana, "POST", "/api/datasources", Some(other)).await;
    let change = async |body: Value| json_of(&grafana, "PUT", "/api/datasources/uid/p", Some(body)).await;
    let (status, refused) = change(entry("Q", &url)).await;
    assert_eq!((status, &refused["message"]), (409, &json!("data source with the same name already exists")));
    assert_eq!(json_of(&grafana, "GET", "/api/datasources/uid/q", None).await.1["url"], elsewhere);
    let sent = async || call(&grafana, "GET", "/api/datasources/proxy/uid/p/who", None).await.1;
    assert_eq!(change(entry("P2", &url)).await.0, 200);
    assert_eq!(sent().await, b"Basic dTpodXNo", "the same place keeps its password");
    assert_eq!(change(entry("P2", &elsewhere)).await.0, 200);
    assert_eq!(sent().await, b"Basic dTo=", "another place is not told the password");
}

#[tokio::test]
async fn a_dashboard_is_seen_whole_and_drawn_in_parts() {
    let grafana = grafana();
    let entry = json!({ "name": "P", "type": "prometheus", "url": prometheus().await });
    json_of(&grafana, "POST", "/api/datasources", Some(entry)).await;
    json_of(&grafana, "POST", "/api/dashboards/db", Some(json!({ "dashboard": board() }))).await;
    let ask = json!({ "variables": { "pod": ["a"] }, "width": 1200 });
    let (status, seen) = json_of(&grafana, "POST", "/api/dashboards/uid/demo/view", Some(ask)).await;
    assert_eq!((status, &seen["variables"][0]["current"]), (200, &json!(["a"])), "{seen}");
    let chart = &seen["panels"][0];
    assert_eq!((&chart["title"], &chart["body"]["type"]), (&json!("Rate of a"), &json!("chart")));
    assert_eq!(chart["body"]["series"][1]["name"], "b");
    assert_eq!(seen["panels"][1]["body"]["rows"][0][1]["t"], "a");
    for (path, starts) in [
        ("/render/d-solo/demo/x?panelId=1&width=600&height=300&theme=light", b"\x89PNG".as_slice()),
        ("/render/d-solo/demo/x?panelId=2&format=svg", b"<svg ".as_slice()),
    ] {
        let (status, picture) = call(&grafana, "GET", path, None).await;
        assert!(status == StatusCode::OK && picture.starts_with(starts), "{path}: {status}");
    }
    assert_eq!(call(&grafana, "GET", "/render/d-solo/demo/x?panelId=9", None).await.0, StatusCode::NOT_FOUND);
    assert_eq!(call(&grafana, "GET", "/render/d-solo/demo/x", None).await.0, StatusCode::BAD_REQUEST);
}
