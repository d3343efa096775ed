//! What the service answers: files, JSON, the stream.

use std::sync::Arc;

use ::http::{Request, Response, StatusCode, header};
use gantry_console::{Body, Console};
use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;

use crate::source::{Demo, Scene};

async fn get(console: &Console, path: &str) -> Response<Body> {
    let request = Request::builder().uri(path).header(header::ACCEPT_ENCODING, "gzip, br").body(()).unwrap();
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
    let again = Request::builder().uri("/").header(header::IF_NONE_MATCH, etag).body(()).unwrap();
    assert_eq!(console.clone().oneshot(again).await.unwrap().status(), StatusCode::NOT_MODIFIED);
    if Console::is_built() {
        let script = get(&console, "/app.js").await;
        assert_eq!(script.headers()[header::CONTENT_ENCODING], "gzip");
        assert!(Console::first_load_bytes() < 100 * 1024, "{} bytes", Console::first_load_bytes());
    } else {
        println!("skipped: the page was not built, Node.js was not found");
    }
    assert_eq!(get(&console, "/../etc/passwd").await.status(), StatusCode::NOT_FOUND);
    let post = Request::builder().method("POST").uri("/api/snapshot").body(()).unwrap();
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
