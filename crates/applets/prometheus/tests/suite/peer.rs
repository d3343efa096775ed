//! The real Prometheus and ours on copies of one folder: the same questions, the same answers.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use gantry_tsdb::{Db, DbOptions};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::common::{STEPS, T0, fill, listen, program, server_at};

pub(crate) struct Peer(Child, pub(crate) SocketAddr);

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(prometheus: &Path, dir: &Path) -> Peer {
    start_with(prometheus, dir, "global: {}\n", &[])
}

/// Starts the real Prometheus with a configuration and further flags, over `theirs` in a folder.
pub(crate) fn start_with(prometheus: &Path, dir: &Path, config: &str, flags: &[&str]) -> Peer {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    fs::write(dir.join("prometheus.yml"), config).unwrap();
    let child = Command::new(prometheus)
        .arg(format!("--config.file={}", dir.join("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", dir.join("theirs").display()))
        .arg(format!("--web.listen-address={address}"))
        // The samples are years old: they must not be dropped.
        .arg("--storage.tsdb.retention.time=100y")
        .arg("--log.level=error")
        .args(flags)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let peer = Peer(child, address);
    let deadline = Instant::now() + Duration::from_secs(60);
    while !fetch(address, "/-/ready").is_some_and(|answer| answer.starts_with("HTTP/1.0 200")) {
        assert!(Instant::now() < deadline, "prometheus is not ready");
        std::thread::sleep(Duration::from_millis(50));
    }
    peer
}

pub(crate) fn fetch(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

pub(crate) fn ask(address: SocketAddr, path: &str) -> Value {
    let answer = fetch(address, path).unwrap();
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{path}: {error}: {answer}"))
}

pub(crate) fn escape(query: &str) -> String {
    query
        .bytes()
        .map(
            |byte| {
                if byte.is_ascii_alphanumeric() {
                    char::from(byte).to_string()
                } else {
                    format!("%{byte:02X}")
                }
            },
        )
        .collect()
}

/// Equal, numbers to one part in 100,000; lists in any order, since an instant vector has none.
pub(crate) fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::String(left), Value::String(right)) => match (left.parse::<f64>(), right.parse::<f64>()) {
            (Ok(left), Ok(right)) => {
                left == right
                    || (left.is_nan() && right.is_nan())
                    || (left - right).abs() / (left.abs() + right.abs()) < 1e-5
            }
            _ => left == right,
        },
        (Value::Array(left), Value::Array(right)) => {
            let keyed = |list: &[Value]| {
                let mut list = list.to_vec();
                if list.iter().all(|item| item.get("metric").is_some()) {
                    list.sort_by_key(|item| sorted_text(&item["metric"]));
                }
                list
            };
            left.len() == right.len()
                && keyed(left).iter().zip(&keyed(right)).all(|(left, right)| same(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left.iter().all(|(name, value)| right.get(name).is_some_and(|other| same(value, other)))
        }
        _ => left == right,
    }
}

fn sorted_text(labels: &Value) -> Vec<String> {
    let mut pairs: Vec<String> =
        labels.as_object().into_iter().flatten().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.sort();
    pairs
}

const QUERIES: [&str; 30] = [
    "up",
    "count({__name__=~\".+\"})",
    "sum by(instance)(rate(node_cpu_seconds_total{mode!=\"idle\"}[5m]))",
    "100*(1-avg by(instance)(rate(node_cpu_seconds_total{mode=\"idle\"}[5m])))",
    "topk(2,sum by(job,instance)(rate(http_requests_total[1m])))",
    "node_load1/on(instance)group_left()up",
    "histogram_quantile(0.99,sum by(le)(rate(latency_seconds_bucket[5m])))",
    "histogram_quantile(0.5,latency_seconds_bucket)",
    "max_over_time(sum(rate(http_requests_total[5m]))[20m:1m])",
    "avg_over_time(node_load1[10m])",
    "quantile_over_time(0.95,node_load1[30m]) and on(instance)(up==1)",
    "increase(http_requests_total[10m])",
    "irate(http_requests_total[2m])",
    "resets(http_requests_total[50m])",
    "changes(node_load1[5m])",
    "delta(node_load1[5m])",
    "deriv(node_load1[5m])",
    "predict_linear(node_load1[10m],600)",
    "stddev(node_load1)",
    "count_values(\"v\",up)",
    "label_replace(up,\"host\",\"$1\",\"instance\",\"(.*):.*\")",
    "absent(nothing{a=\"b\"})",
    "node_load1 > bool 2",
    "node_load1 offset 5m - node_load1",
    "sum without(mode,instance)(node_cpu_seconds_total)",
    "clamp_max(node_load1,2)",
    "time()-timestamp(up)",
    "up unless on(instance) node_load1 > 2",
    "sort_desc(node_load1)",
    "-up + 2^3 % 5",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_answers_as_prometheus() {
    let Some(prometheus) = program("prometheus") else { return };
    let dir = tempfile::tempdir().unwrap();
    for name in ["ours", "theirs"] {
        let db = Db::open(&dir.path().join(name), DbOptions::default(), T0).unwrap();
        fill(&db);
    }
    let peer = start(&prometheus, dir.path());
    let theirs = peer.1;
    let server = server_at(&dir.path().join("ours"));
    let stop = CancellationToken::new();
    let ours = listen(&server, &stop).await;
    let mut different = Vec::new();
    for query in QUERIES {
        let query = escape(query);
        let at = T0 / 1000 + STEPS * 10;
        let paths = [
            format!("/api/v1/query?query={query}&time={at}"),
            format!("/api/v1/query_range?query={query}&start={}&end={at}&step=60", T0 / 1000),
        ];
        for path in paths {
            let asked = path.clone();
            let (left, right) =
                tokio::task::spawn_blocking(move || (ask(ours, &asked), ask(theirs, &asked))).await.unwrap();
            if !same(&left["data"], &right["data"]) || left["status"] != right["status"] {
                different.push(format!("{path}\n  ours   {left}\n  theirs {right}"));
            }
        }
    }
    for path in ["labels", "label/__name__/values", "series?match[]=up"] {
        let path = format!("/api/v1/{path}");
        let (left, right) =
            tokio::task::spawn_blocking(move || (ask(ours, &path), ask(theirs, &path))).await.unwrap();
        if !same(&left, &right) {
            different.push(format!("ours   {left}\n  theirs {right}"));
        }
    }
    stop.cancel();
    assert!(different.is_empty(), "{} answers differ:\n{}", different.len(), different.join("\n"));
}
