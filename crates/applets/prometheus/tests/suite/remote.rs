//! Remote write and read: over the API, and to and from the real Prometheus.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use gantry_applet_prometheus::{Prometheus, Settings};
use gantry_clock::{Clock, SystemClock};
use gantry_prom_model::{Appendable, Exemplar, Labels, Registry};
use gantry_remote::compress;
use gantry_remote::write::message::{Outgoing, Point, encode_v1, encode_v2};
use gantry_scrape::Config;
use gantry_serve::{ListenConfig, Listener};
use http::Request;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::common::{STEPS, Server, T0, listen, program, server, server_at};
use crate::peer::{ask, escape, same, start_with};

fn open(dir: &Path, receives: bool) -> Arc<Prometheus> {
    let settings = Settings { receive_remote_writes: receives, ..Settings::new(dir) };
    Arc::new(Prometheus::open(settings, Arc::new(SystemClock::new()), &Registry::new()).unwrap())
}

async fn serve(prometheus: &Arc<Prometheus>, stop: &CancellationToken) -> SocketAddr {
    let listener = Listener::bind(ListenConfig::plain("127.0.0.1:0".parse().unwrap())).await.unwrap();
    let address = listener.local_addr();
    let (router, stop) = (prometheus.api().router(), stop.clone());
    tokio::spawn(async move { listener.serve(router, stop).await });
    address
}

fn points(at_ms: i64) -> Vec<Outgoing> {
    let labels = Labels::from_pairs([("__name__", "written_total"), ("job", "j")]);
    let exemplar = Point::Exemplar(Labels::from_pairs([("trace_id", "abc")]), 0.5);
    vec![
        Outgoing { labels: labels.clone(), timestamp_ms: at_ms, point: Point::Float(7.0) },
        Outgoing { labels, timestamp_ms: at_ms, point: exemplar },
    ]
}

fn write(content_type: &str, body: Vec<u8>) -> Request<Body> {
    Request::post("/api/v1/write")
        .header("content-type", content_type)
        .header("content-encoding", "snappy")
        .body(Body::from(compress(&body).unwrap()))
        .unwrap()
}

async fn query(prometheus: &Prometheus, path: &str) -> Value {
    let request = Request::get(path).body(Body::empty()).unwrap();
    let response = prometheus.api().router().oneshot(request).await.unwrap();
    let body = axum::body::to_bytes(response.into_body(), 1 << 24).await.unwrap();
    serde_json::from_slice(&body).unwrap()
}

#[tokio::test]
async fn both_versions_are_taken_with_exemplars_and_told_in_headers() {
    for is_v2 in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let prometheus = open(dir.path(), true);
        let now = SystemClock::new().now_ms();
        let (content_type, body) = match is_v2 {
            true => (
                "application/x-protobuf;proto=io.prometheus.write.v2.Request",
                encode_v2(&points(now), &|_| None),
            ),
            false => ("application/x-protobuf", encode_v1(&points(now))),
        };
        let response = prometheus.api().router().oneshot(write(content_type, body)).await.unwrap();
        assert_eq!(response.status(), 204);
        for (name, count) in [("samples", "1"), ("histograms", "0"), ("exemplars", "1")] {
            assert_eq!(response.headers()[format!("x-prometheus-remote-write-{name}-written")], count);
        }
        let seconds = now / 1000;
        let path = format!(
            "/api/v1/query_exemplars?query=rate(written_total[1m])&start={}&end={}",
            seconds - 9,
            seconds + 9
        );
        let answer = query(&prometheus, &path).await;
        assert_eq!(answer["data"][0]["seriesLabels"], json!({"__name__": "written_total", "job": "j"}));
        let exemplar = &answer["data"][0]["exemplars"][0];
        assert_eq!((&exemplar["labels"], &exemplar["value"]), (&json!({"trace_id": "abc"}), &json!("0.5")));
    }
}

#[tokio::test]
async fn a_server_that_was_not_asked_to_takes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let prometheus = open(dir.path(), false);
    let response = prometheus
        .api()
        .router()
        .oneshot(write("application/x-protobuf", encode_v1(&points(1))))
        .await
        .unwrap();
    assert_eq!(response.status(), 404);
}

#[tokio::test]
async fn exemplars_are_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let now = SystemClock::new().now_ms();
    {
        let prometheus = open(dir.path(), false);
        let labels = Labels::from_pairs([("__name__", "m")]);
        let mut appender = prometheus.db().appender();
        let series = appender.append(None, &labels, now, 1.0).unwrap();
        let exemplar =
            Exemplar { labels: Labels::from_pairs([("trace_id", "t")]), value: 2.0, timestamp_ms: Some(now) };
        appender.append_exemplar(series, &labels, &exemplar).unwrap();
        appender.commit().unwrap();
        assert_eq!(prometheus.db().head().exemplar_count(), 1);
        prometheus.shutdown().await.unwrap();
    }
    let prometheus = open(dir.path(), false);
    let path = format!("/api/v1/query_exemplars?query=m&start=0&end={}", now / 1000 + 9);
    let answer = query(&prometheus, &path).await;
    assert_eq!(answer["data"][0]["exemplars"][0]["labels"], json!({"trace_id": "t"}));
}

/// Waits until a query gives something.
async fn until(what: &str, mut get: impl AsyncFnMut() -> Value) -> Value {
    let deadline = Instant::now() + Duration::from_secs(90);
    loop {
        let answer = get().await;
        if answer["data"]["result"].as_array().is_some_and(|result| !result.is_empty()) {
            return answer["data"]["result"].clone();
        }
        assert!(Instant::now() < deadline, "{what} does not come: {answer}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prometheus_writes_to_us() {
    let Some(program) = program("prometheus") else { return };
    let dir = tempfile::tempdir().unwrap();
    let prometheus = open(&dir.path().join("ours"), true);
    let stop = CancellationToken::new();
    let ours = serve(&prometheus, &stop).await;
    // It scrapes us, which is as good as any target.
    let config = format!(
        "global: {{scrape_interval: 1s, external_labels: {{from: peer}}}}\nscrape_configs: [{{job_name: us, static_configs: [{{targets: ['{ours}']}}]}}]\nremote_write: [{{url: 'http://{ours}/api/v1/write', queue_config: {{batch_send_deadline: 1s}}}}]\n"
    );
    let started = dir.path().to_path_buf();
    let peer =
        tokio::task::spawn_blocking(move || start_with(&program, &started, &config, &[])).await.unwrap();
    let found = until("up", async || query(&prometheus, "/api/v1/query?query=up").await).await;
    assert_eq!(
        found[0]["metric"],
        json!({"__name__": "up", "from": "peer", "instance": ours.to_string(), "job": "us"})
    );
    assert_eq!(found[0]["value"][1], "1");
    drop(peer);
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn we_write_to_prometheus() {
    let Some(program) = program("prometheus") else { return };
    let dir = tempfile::tempdir().unwrap();
    let started = dir.path().to_path_buf();
    let peer = tokio::task::spawn_blocking(move || {
        start_with(&program, &started, "global: {}\n", &["--web.enable-remote-write-receiver"])
    })
    .await
    .unwrap();
    let theirs = peer.1;
    let prometheus = open(&dir.path().join("ours"), false);
    let text = format!(
        "global: {{external_labels: {{from: us}}}}\nremote_write:\n- url: http://{theirs}/api/v1/write\n  queue_config: {{batch_send_deadline: 100ms}}\n  write_relabel_configs: [{{source_labels: [__name__], regex: hidden, action: drop}}]\n"
    );
    prometheus.apply_remote_writes(&Config::parse("p.yml", &text).unwrap()).await;
    let now = SystemClock::new().now_ms() + 1000;
    let mut appender = prometheus.db().appender();
    for name in ["shown", "hidden"] {
        appender.append(None, &Labels::from_pairs([("__name__", name)]), now, 5.0).unwrap();
    }
    appender.commit().unwrap();
    let path =
        format!("/api/v1/query?query={}&time={}", escape("{__name__=~\"shown|hidden\"}"), now / 1000 + 2);
    let found = until("the sample", async || {
        let path = path.clone();
        tokio::task::spawn_blocking(move || ask(theirs, &path)).await.unwrap()
    })
    .await;
    assert_eq!(found.as_array().map(Vec::len), Some(1), "{found}");
    assert_eq!(found[0]["metric"], json!({"__name__": "shown", "from": "us"}));
    prometheus.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prometheus_reads_from_us() {
    let Some(program) = program("prometheus") else { return };
    let server: Server = server();
    let stop = CancellationToken::new();
    let ours = listen(&server, &stop).await;
    let dir = tempfile::tempdir().unwrap();
    let started = dir.path().to_path_buf();
    let config = format!("remote_read: [{{url: 'http://{ours}/api/v1/read', read_recent: true}}]\n");
    let peer =
        tokio::task::spawn_blocking(move || start_with(&program, &started, &config, &[])).await.unwrap();
    let theirs = peer.1;
    let at = T0 / 1000 + STEPS * 10;
    for asked in ["sum by(instance)(rate(node_cpu_seconds_total[5m]))", "count(up)"] {
        let path = format!("/api/v1/query?query={}&time={at}", escape(asked));
        let (left, right) =
            tokio::task::spawn_blocking(move || (ask(ours, &path), ask(theirs, &path))).await.unwrap();
        assert!(left["data"]["result"].as_array().is_some_and(|result| !result.is_empty()), "{left}");
        assert!(same(&left["data"], &right["data"]), "{asked}\n  ours   {left}\n  theirs {right}");
    }
    stop.cancel();
}

#[tokio::test]
async fn a_remote_read_is_answered_with_our_external_labels() {
    use gantry_prom_model::{Matcher, SelectHints};
    use gantry_remote::read::{Accepts, Query, ReadRequest, encode_request};
    let dir = tempfile::tempdir().unwrap();
    let server = server_at(dir.path());
    crate::common::fill(server.prometheus.db());
    server.prometheus.api().set_external_labels(Labels::from_pairs([("cluster", "c")]));
    let end = T0 + STEPS * 15_000;
    let asked = Query {
        start_ms: T0,
        end_ms: end,
        matchers: vec![Matcher::equal("__name__", "up"), Matcher::equal("cluster", "c")],
        hints: SelectHints::range(T0, end),
    };
    let body = encode_request(&ReadRequest { queries: vec![asked], accepts: vec![Accepts::Samples] });
    let request = Request::post("/api/v1/read").body(Body::from(compress(&body).unwrap())).unwrap();
    let response = server.prometheus.api().router().oneshot(request).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/x-protobuf");
    let body = axum::body::to_bytes(response.into_body(), 1 << 24).await.unwrap();
    let plain = gantry_remote::decompress(&body).unwrap();
    let text = String::from_utf8_lossy(&plain).into_owned();
    assert_eq!(text.matches("cluster").count(), 3, "each of the three series has it");
}
