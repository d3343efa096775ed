//! Every endpoint: shapes, codes, words.

use axum::body::Body;
use gantry_scrape::{Config, InProcess, Job};
use http::Request;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::common::{STEPS, Server, T0, server};

async fn send(server: &Server, request: Request<Body>) -> (u16, String) {
    let response = server.prometheus.api().router().oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let body = axum::body::to_bytes(response.into_body(), 1 << 24).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

async fn text(server: &Server, path: &str) -> (u16, String) {
    send(server, Request::get(path).body(Body::empty()).unwrap()).await
}

async fn get(server: &Server, path: &str) -> (u16, Value) {
    let (status, body) = text(server, &format!("/api/v1/{path}")).await;
    (status, serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}")))
}

async fn post(server: &Server, path: &str, form: &str) -> (u16, Value) {
    let request = Request::post(format!("/api/v1/{path}"))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Body::from(form.to_owned()))
        .unwrap();
    let (status, body) = send(server, request).await;
    (status, serde_json::from_str(&body).unwrap())
}

/// Seconds of the last sample.
fn last() -> String {
    format!("{}.137", (T0 + (STEPS - 1) * 15_000) / 1000)
}

#[tokio::test]
async fn queries_answer_in_all_four_shapes() {
    let server = server();
    let (status, answer) = get(
        &server,
        &format!("query?query=node_load1%7Binstance=%2210.0.0.1:9100%22%7D*0%2B7&time={}", last()),
    )
    .await;
    assert_eq!(status, 200);
    assert_eq!(
        answer,
        json!({"status": "success", "data": {"resultType": "vector", "result": [{
            "metric": {"instance": "10.0.0.1:9100", "job": "node"},
            "value": [last().parse::<f64>().unwrap(), "7"]
        }]}})
    );
    let (_, answer) = get(&server, "query?query=1e-7&time=10.5").await;
    assert_eq!(answer["data"], json!({"resultType": "scalar", "result": [10.5, "1e-7"]}));
    let (_, answer) = get(&server, "query?query=%22x%22&time=10").await;
    assert_eq!(answer["data"], json!({"resultType": "string", "result": [10, "x"]}));
    let (_, answer) = get(&server, &format!("query?query=up%5B31s%5D&time={}", last())).await;
    assert_eq!(answer["data"]["resultType"], "matrix");
    assert_eq!(answer["data"]["result"][0]["values"].as_array().unwrap().len(), 3);
    let (start, end) = (T0 / 1000 + 60, T0 / 1000 + 120);
    let form = format!("query=sum(up)&start={start}&end={end}&step=30");
    let (status, answer) = post(&server, "query_range", &form).await;
    assert_eq!(status, 200);
    assert_eq!(
        answer["data"],
        json!({"resultType": "matrix", "result": [
            {"metric": {}, "values": [[start, "3"], [start + 30, "3"], [end, "3"]]}
        ]})
    );
    // Without a time it is now, which is when the clock says.
    let (_, answer) = get(&server, "query?query=time()").await;
    assert_eq!(answer["data"]["result"][1], (T0 / 1000 + STEPS * 15).to_string());
    server.clock.advance(std::time::Duration::from_secs(3));
    let (_, answer) = get(&server, "query?query=time()&stats=all").await;
    assert_eq!(answer["data"]["result"][1], (T0 / 1000 + STEPS * 15 + 3).to_string());
    assert!(answer["data"]["stats"]["samples"]["peakSamples"].is_number());
}

#[tokio::test]
async fn mistakes_have_their_code_and_word() {
    let server = server();
    for (path, status, kind, message) in [
        ("query?query=up%7B", 400, "bad_data", "invalid parameter \"query\": 1:4: parse error: "),
        (
            "query?query=up&time=abc",
            400,
            "bad_data",
            "invalid parameter \"time\": cannot parse \"abc\" to a valid timestamp",
        ),
        (
            "query_range?query=up&start=2&end=1&step=1",
            400,
            "bad_data",
            "invalid parameter \"end\": end timestamp must not be before start time",
        ),
        (
            "query_range?query=up&start=1&end=2&step=0",
            400,
            "bad_data",
            "invalid parameter \"step\": zero or negative query resolution step widths are not accepted. Try a positive integer",
        ),
        (
            "query_range?query=up&start=0&end=11001&step=1",
            400,
            "bad_data",
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
        ),
        (
            "query_range?query=up%5B1m%5D&start=0&end=1&step=1",
            400,
            "bad_data",
            "invalid parameter \"query\": invalid expression type \"range vector\" for range query, must be Scalar or instant Vector",
        ),
        ("query?query=up*on(job)up", 422, "execution", ""),
        (
            "query?query=up&limit=-1",
            400,
            "bad_data",
            "invalid parameter \"limit\": limit must be non-negative",
        ),
        (
            "query?query=up&timeout=x",
            400,
            "bad_data",
            "invalid parameter \"timeout\": cannot parse \"x\" to a valid duration",
        ),
        ("series", 400, "bad_data", "no match[] parameter provided"),
        ("labels?match[]=%7B", 400, "bad_data", "invalid parameter \"match[]\": "),
        ("nothing", 404, "not_found", ""),
    ] {
        let (found, answer) = get(&server, path).await;
        assert_eq!(
            (found, answer["status"].as_str(), answer["errorType"].as_str()),
            (status, Some("error"), Some(kind)),
            "{path}: {answer}"
        );
        let text = answer["error"].as_str().unwrap();
        assert!(text.starts_with(message), "{path}: {text}");
        assert!(answer.get("data").is_none());
    }
}

#[tokio::test]
async fn a_query_that_takes_too_long_is_ended() {
    let server = server();
    let deep = format!(
        "query={}&timeout=1ms&start={}&end={}&step=1",
        "sum(rate(%7B__name__=~%22.%2B%22%7D%5B30m%5D))",
        T0 / 1000,
        T0 / 1000 + 3000
    );
    let (status, answer) = post(&server, "query_range", &deep).await;
    assert_eq!((status, answer["errorType"].as_str()), (503, Some("timeout")), "{answer}");
}

#[tokio::test]
async fn series_and_labels() {
    let server = server();
    let (_, answer) =
        get(&server, "series?match[]=up&match[]=node_load1%7Binstance=%2210.0.0.1:9100%22%7D&match[]=up")
            .await;
    let found = answer["data"].as_array().unwrap();
    assert_eq!(found.len(), 4);
    assert_eq!(found[0], json!({"__name__": "node_load1", "instance": "10.0.0.1:9100", "job": "node"}));
    let (_, answer) = post(&server, "series", "match%5B%5D=up&limit=2").await;
    assert_eq!(answer["data"].as_array().unwrap().len(), 2);
    assert_eq!(answer["warnings"], json!(["results truncated due to limit"]));
    let (_, answer) = get(&server, "labels").await;
    assert_eq!(answer["data"], json!(["__name__", "code", "instance", "job", "le", "mode"]));
    let (_, answer) = post(&server, "labels", "match[]=up&start=0").await;
    assert_eq!(answer["data"], json!(["__name__", "instance", "job"]));
    let (_, answer) = get(&server, "label/mode/values").await;
    assert_eq!(answer["data"], json!(["idle", "user"]));
    let (_, answer) = get(&server, "label/__name__/values?match[]=%7Bcode=~%22.%2B%22%7D&limit=1").await;
    assert_eq!(answer, json!({"status": "success", "data": ["http_requests_total"]}));
    let past = format!("label/mode/values?end={}", T0 / 1000 - 1);
    assert_eq!(get(&server, &past).await.1["data"], json!([]));
}

#[tokio::test]
async fn queries_are_formatted_and_taken_apart() {
    let server = server();
    let (_, answer) = post(&server, "format_query", "query=sum(rate(a%5B5m%5D))by(job)").await;
    assert_eq!(answer["data"], "sum by (job) (rate(a[5m]))");
    let (_, answer) = get(&server, "parse_query?query=-rate(a%7Bb!=%22c%22%7D%5B5m%5D+offset+1m)").await;
    assert_eq!(
        answer["data"],
        json!({"type": "unaryExpr", "op": "-", "expr": {
            "type": "call",
            "func": {"name": "rate", "argTypes": ["matrix"], "variadic": 0, "returnType": "vector"},
            "args": [{
                "type": "matrixSelector", "name": "a", "range": 300_000, "offset": 60_000,
                "matchers": [
                    {"name": "b", "value": "c", "type": "!="},
                    {"name": "__name__", "value": "a", "type": "="}
                ],
                "timestamp": null, "startOrEnd": null
            }]
        }})
    );
    assert_eq!(get(&server, "format_query?query=(").await.0, 400);
}

#[tokio::test]
async fn targets_and_their_metadata() {
    let server = server();
    let text = "scrape_configs: [{job_name: gantry, scrape_interval: 50ms, relabel_configs: [{source_labels: [__address__], regex: away, action: drop}]}]";
    let config = Config::parse("t.yml", text).unwrap().scrape_configs.remove(0);
    let registry = gantry_prom_model::Registry::new();
    registry.counter("hits_total", "Hits.").inc_by(2);
    let gather: std::sync::Arc<dyn gantry_prom_model::Gather> = std::sync::Arc::new(registry);
    let local = ["self", "away"].map(|name| (name.to_owned(), gather.clone()));
    server.prometheus.apply(
        "global: {}\npassword: x\n",
        vec![Job { config, discoverers: vec![Box::new(InProcess::new(local))] }],
    );
    let mut answer = Value::Null;
    for _ in 0..500 {
        answer = get(&server, "targets").await.1;
        if answer["data"]["activeTargets"][0]["health"] == "up" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let target = &answer["data"]["activeTargets"][0];
    assert_eq!(target["health"], "up", "{answer}");
    assert_eq!(target["labels"], json!({"instance": "self", "job": "gantry"}));
    assert_eq!(target["discoveredLabels"]["__address__"], "self");
    assert_eq!(
        (&target["scrapePool"], &target["scrapeUrl"]),
        (&json!("gantry"), &json!("http://self/metrics"))
    );
    assert_eq!((&target["scrapeInterval"], &target["lastError"]), (&json!("50ms"), &json!("")));
    assert!(target["lastScrape"].as_str().unwrap().ends_with('Z'));
    assert_eq!(answer["data"]["droppedTargets"][0]["discoveredLabels"]["__address__"], "away");
    assert_eq!(answer["data"]["droppedTargetCounts"], json!({"gantry": 1}));
    assert_eq!(get(&server, "targets?state=dropped").await.1["data"]["activeTargets"], json!([]));
    assert_eq!(get(&server, "scrape_pools").await.1["data"], json!({"scrapePools": ["gantry"]}));
    let (_, answer) = get(&server, "metadata?metric=hits_total").await;
    assert_eq!(answer["data"], json!({"hits_total": [{"type": "counter", "help": "Hits.", "unit": ""}]}));
    let (_, answer) = get(&server, "targets/metadata?match_target=%7Bjob=%22gantry%22%7D").await;
    assert_eq!(
        answer["data"],
        json!([{"target": {"instance": "self", "job": "gantry"}, "metric": "hits_total", "type": "counter", "help": "Hits.", "unit": ""}])
    );
    assert_eq!(get(&server, "targets/metadata?metric=absent").await.0, 404);
    let config = get(&server, "status/config").await.1;
    assert_eq!(config["data"]["yaml"], "global: {}\npassword: <secret>\n");
    server.prometheus.shutdown().await.unwrap();
}

#[tokio::test]
async fn status_and_lifecycle() {
    let server = server();
    assert_eq!(get(&server, "status/buildinfo").await.1["data"]["version"], "3.14.0");
    let (_, answer) = get(&server, "status/tsdb?limit=1").await;
    assert_eq!(answer["data"]["headStats"]["numSeries"], 27);
    assert_eq!(
        answer["data"]["seriesCountByMetricName"],
        json!([{"name": "latency_seconds_bucket", "value": 12}])
    );
    assert_eq!(answer["data"]["headStats"]["minTime"], T0 + 137);
    assert_eq!(get(&server, "status/runtimeinfo").await.1["data"]["storageRetention"], "15d");
    for (path, expected) in [
        ("status/flags", json!({})),
        ("rules", json!({"groups": []})),
        ("alerts", json!({"alerts": []})),
        ("query_exemplars?query=up", json!([])),
        ("alertmanagers", json!({"activeAlertmanagers": [], "droppedAlertmanagers": []})),
    ] {
        assert_eq!(get(&server, path).await.1["data"], expected, "{path}");
    }
    assert_eq!(text(&server, "/-/healthy").await, (200, "Prometheus Server is Healthy.\n".into()));
    assert_eq!(text(&server, "/-/ready").await.0, 503);
    server.prometheus.api().set_ready(true);
    assert_eq!(text(&server, "/-/ready").await, (200, "Prometheus Server is Ready.\n".into()));
    let reload = Request::post("/-/reload").body(Body::empty()).unwrap();
    assert_eq!(send(&server, reload).await, (403, "Lifecycle API is not enabled.".into()));
    let (_, metrics) = text(&server, "/metrics").await;
    assert!(metrics.contains("prometheus_tsdb_head_series 27\n"), "{metrics}");
    let (_, federated) = text(&server, "/federate?match[]=up").await;
    let line =
        format!("up{{instance=\"10.0.0.1:9100\",job=\"node\"}} 1 {}\n", T0 + (STEPS - 1) * 15_000 + 137);
    assert!(federated.starts_with("# TYPE up untyped\n") && federated.contains(&line), "{federated}");
}
