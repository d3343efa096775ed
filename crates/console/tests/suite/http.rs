//! What the service answers: files, JSON, the stream.

use std::sync::Arc;

use ::http::{Request, Response, StatusCode, header};
use gantry_console::{Body, Console};
use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;

use crate::load::DemoLoad;
use crate::source::{Demo, Scene};

async fn get(console: &Console, path: &str) -> Response<Body> {
    let request =
        Request::builder().uri(path).header(header::ACCEPT_ENCODING, "gzip, br").body(String::new()).unwrap();
    console.clone().oneshot(request).await.unwrap()
}

async fn json(console: &Console, path: &str) -> Value {
    let response = get(console, path).await;
    assert_eq!(response.status(), StatusCode::OK, "{path}");
    serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
}

#[tokio::test]
async fn the_page_is_small_cached_by_content_and_confined() {
    let console = Console::new(Arc::new(Demo::start(Scene::Shop)));
    let page = get(&console, "/").await;
    assert_eq!(page.status(), StatusCode::OK);
    let policy = page.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'self';"), "{policy}");
    let etag = page.headers()[header::ETAG].clone();
    let again = Request::builder().uri("/").header(header::IF_NONE_MATCH, etag).body(String::new()).unwrap();
    assert_eq!(console.clone().oneshot(again).await.unwrap().status(), StatusCode::NOT_MODIFIED);
    if Console::is_built() {
        let script = get(&console, "/app.js").await;
        assert_eq!(script.headers()[header::CONTENT_ENCODING], "gzip");
        assert!(Console::first_load_bytes() < 100 * 1024, "{} bytes", Console::first_load_bytes());
    } else {
        println!("skipped: the page was not built, Node.js was not found");
    }
    assert_eq!(get(&console, "/../etc/passwd").await.status(), StatusCode::NOT_FOUND);
    let post = Request::builder().method("POST").uri("/api/snapshot").body(String::new()).unwrap();
    assert_eq!(console.clone().oneshot(post).await.unwrap().status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn charts_are_columns_on_one_time_axis() {
    let console = Console::new(Arc::new(Demo::start(Scene::Shop)));
    let charts = json(&console, "/api/charts?from=1700000000000&to=1700000060000&step=1000").await;
    let times = charts["times_ms"].as_array().unwrap().len();
    assert_eq!(times, 61);
    let list = charts["charts"].as_array().unwrap();
    assert_eq!(list.len(), 6);
    for chart in list {
        for series in chart["series"].as_array().unwrap() {
            assert_eq!(series["values"].as_array().unwrap().len(), times, "{chart}");
        }
    }
    for wrong in ["/api/charts", "/api/charts?from=2&to=1", "/api/events?from=a&to=b"] {
        assert_eq!(get(&console, wrong).await.status(), StatusCode::BAD_REQUEST, "{wrong}");
    }
}

#[tokio::test]
async fn the_stream_begins_with_a_snapshot_and_goes_on() {
    let console = Console::new(Arc::new(Demo::start(Scene::Shop)));
    let mut body = get(&console, "/api/stream").await.into_body();
    for _ in 0..2 {
        let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
        let text = std::str::from_utf8(&frame).unwrap();
        let data =
            text.strip_prefix("event: snapshot\ndata: ").and_then(|rest| rest.strip_suffix("\n\n")).unwrap();
        let snapshot: Value = serde_json::from_str(data).unwrap();
        assert_eq!(snapshot["services"][0]["name"], "catalog");
    }
}

#[tokio::test]
async fn too_many_pages_are_refused() {
    let console = Console::new(Arc::new(Demo::start(Scene::Empty)));
    let mut open = Vec::new();
    let refused = loop {
        let response = get(&console, "/api/stream").await;
        if response.status() != StatusCode::OK {
            break response.status();
        }
        open.push(response);
        assert!(open.len() < 1000);
    };
    assert_eq!((refused, open.len()), (StatusCode::SERVICE_UNAVAILABLE, 64));
}

#[tokio::test]
async fn load_is_started_and_stopped_only_by_the_page_itself() {
    let console = Console::new(Arc::new(Demo::start(Scene::Shop)));
    assert_eq!(get(&console, "/api/load").await.status(), StatusCode::NOT_FOUND);
    let console = console.with_load(Arc::new(DemoLoad::default()));
    let view = json(&console, "/api/load").await;
    assert_eq!((view["scenarios"][0]["name"].as_str(), view["run"].is_null()), (Some("load.yaml"), true));
    let post = async |path: &str, origin: &'static str, body: &str| {
        let request = Request::builder()
            .method("POST")
            .uri(path)
            .header(header::HOST, "127.0.0.1:3000")
            .header(header::ORIGIN, origin)
            .header(header::CONTENT_TYPE, "application/json")
            .body(body.to_owned())
            .unwrap();
        let response = console.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let text = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8_lossy(&text).into_owned())
    };
    let (own, other) = ("http://127.0.0.1:3000", "http://example.com");
    let wish = r#"{"name": "load.yaml", "text": "requests: [/]"}"#;
    assert_eq!(post("/api/load/start", other, wish).await.0, StatusCode::FORBIDDEN);
    let (status, text) = post("/api/load/start", own, r#"{"name": "x", "text": ""}"#).await;
    assert!(status == StatusCode::BAD_REQUEST && text.contains("requests: is missing"), "{text}");
    assert_eq!(post("/api/load/start", own, wish).await.0, StatusCode::OK);
    let run = json(&console, "/api/load").await["run"].clone();
    assert_eq!(
        (run["running"].as_bool(), run["times_ms"].as_array().unwrap().len() > 30),
        (Some(true), true)
    );
    assert_eq!(post("/api/load/stop", own, "{}").await.0, StatusCode::OK);
    assert_eq!(json(&console, "/api/load").await["run"]["running"], false);
    assert_eq!(get(&console, "/api/load/start").await.status(), StatusCode::METHOD_NOT_ALLOWED);
}
