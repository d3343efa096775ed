//! Prints what the server costs here: durable writes a second, an unpaged list of 10,000 pods, memory.
//! `cargo run --release -p gantry-apiserver --example measure -- FOLDER`

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use gantry_apiserver::{ApiServer, ApiService, Config, UserInfo};
use gantry_clock::SystemClock;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use tower::Service;

const WRITERS: usize = 64;
const WRITES_EACH: usize = 100;
const PODS: usize = 10_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).unwrap_or_else(|| "measure-data".into());
    let start = Instant::now();
    let config = Config { data_dir: Some(folder.into()), ..Config::ephemeral(Arc::new(SystemClock::new())) };
    let server = ApiServer::open(config).await?;
    println!(
        "start to serving {:.1} ms; resident {} kB",
        start.elapsed().as_secs_f64() * 1000.0,
        resident_kb()
    );
    let service = server.service_as(UserInfo::admin());
    writes(&service).await;
    pods(&service).await;
    Ok(())
}

async fn writes(service: &ApiService) {
    let start = Instant::now();
    let cpu = cpu_ms();
    let mut tasks = Vec::new();
    for writer in 0..WRITERS {
        let service = service.clone();
        tasks.push(tokio::spawn(async move {
            for number in 0..WRITES_EACH {
                let body = format!(
                    r#"{{"metadata":{{"name":"c-{writer}-{number}"}},"data":{{"k":"{}"}}}}"#,
                    "x".repeat(1000)
                );
                send(
                    &service,
                    Method::POST,
                    "/api/v1/namespaces/default/configmaps",
                    "application/json",
                    &body,
                )
                .await;
            }
        }));
    }
    for task in tasks {
        // A writer that panicked has said so.
        let _ = task.await;
    }
    let total = (WRITERS * WRITES_EACH) as f64;
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{total} creates of 1 KB, {WRITERS} writers, synced: {:.0}/s, {:.3} ms CPU each",
        total / seconds,
        (cpu_ms() - cpu) / total
    );
}

async fn pods(service: &ApiService) {
    let padding = "x".repeat(2900);
    for number in 0..PODS {
        let body = format!(
            r#"{{"metadata":{{"name":"p-{number}","annotations":{{"a":"{padding}"}}}},"spec":{{"containers":[{{"name":"c","image":"i"}}]}}}}"#
        );
        send(service, Method::POST, "/api/v1/namespaces/kube-public/pods", "application/json", &body).await;
    }
    println!("{PODS} pods stored; resident {} kB", resident_kb());
    for accept in ["application/json", "application/json;as=Table;v=v1;g=meta.k8s.io"] {
        for round in 0..2 {
            let cpu = cpu_ms();
            let length = send(service, Method::GET, "/api/v1/namespaces/kube-public/pods", accept, "").await;
            println!("list {accept} round {round}: {:.0} ms CPU, {length} bytes", cpu_ms() - cpu);
        }
    }
}

async fn send(service: &ApiService, method: Method, path: &str, accept: &str, body: &str) -> usize {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", "application/json")
        .header("accept", accept)
        .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
        .unwrap_or_default();
    let Ok(response) = service.clone().call(request).await;
    if !response.status().is_success() {
        println!("{path}: {}", response.status());
    }
    response.into_body().collect().await.map_or(0, |body| body.to_bytes().len())
}

fn resident_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Processor time of all threads, in clock ticks of a hundredth of a second.
fn cpu_ms() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: f64 = fields.iter().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    ticks * 10.0
}
