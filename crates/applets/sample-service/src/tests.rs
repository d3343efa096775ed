//! Both services on real sockets, talking to each other.

use std::net::SocketAddr;

use bytes::Bytes;
use clap::Parser;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::*;

/// Starts a service as its command line would, on a free port.
async fn start(arguments: &[&str], stop: CancellationToken) -> (SocketAddr, tokio::task::JoinHandle<()>) {
    let fixed = ["sample-service"].iter().chain(arguments).chain(&["--address=127.0.0.1", "--port=0"]);
    let cli = Cli::try_parse_from(fixed).unwrap();
    let stopped = async move { stop.cancelled().await };
    match cli.service {
        Which::Catalog { common, catalog } => {
            let server = Server::new("catalog", &common.server_options()).unwrap();
            let handler = catalog::Catalog::new(catalog, server.workers()).unwrap();
            let listener = server.listen().await.unwrap();
            (listener.local_addr(), tokio::spawn(service::serve(listener, handler, stopped)))
        }
        Which::Checkout { common, checkout } => {
            let server = Server::new("checkout", &common.server_options()).unwrap();
            let handler = checkout::Checkout::new(checkout, server.workers()).unwrap();
            let listener = server.listen().await.unwrap();
            (listener.local_addr(), tokio::spawn(service::serve(listener, handler, stopped)))
        }
        Which::Worker { .. } => panic!("a worker listens nowhere"),
    }
}

async fn call(address: SocketAddr, method: &str, path: &str, body: &str) -> (StatusCode, String) {
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let request = Request::builder().method(method).uri(format!("http://{address}{path}"));
    let response = client.request(request.body(Full::from(body.to_owned())).unwrap()).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

fn parsed(body: &str) -> Value {
    serde_json::from_str(body).unwrap()
}

#[test]
fn command_line_is_consistent() {
    command().debug_assert();
}

#[test]
fn numbers_outside_their_range_are_refused() {
    assert_eq!(milliseconds("2.5"), Ok(2.5));
    assert!(milliseconds("-1").is_err());
    assert!(milliseconds("nan").is_err());
    assert!(seconds("1e9").is_err());
}

#[tokio::test]
async fn an_order_costs_what_catalog_says() {
    let stop = CancellationToken::new();
    let (catalog, _) =
        start(&["catalog", "--work=0.1", "--currency=CHF", "--page-size=3"], stop.clone()).await;
    let url = format!("--catalog-url=http://{catalog}");
    let (checkout, _) = start(&["checkout", &url], stop.clone()).await;

    let (status, page) = call(catalog, "GET", "/products?page=333", "").await;
    assert_eq!((status, parsed(&page)["products"].as_array().map(Vec::len)), (StatusCode::OK, Some(1)));
    let (_, product) = call(catalog, "GET", "/products/3", "").await;
    let price = parsed(&product)["price_cents"].as_u64().unwrap();
    let (status, order) = call(checkout, "POST", "/checkout", r#"{"product":3,"quantity":2}"#).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(parsed(&order)["total_cents"], json!(price * 2));
    assert_eq!(parsed(&order)["currency"], json!("CHF"));
    assert_eq!(parsed(&call(checkout, "GET", "/checkout?product=3&quantity=2", "").await.1), parsed(&order));

    for (address, method, path, body, expected) in [
        (catalog, "GET", "/products/0", "", 404),
        (catalog, "GET", "/products?page=x", "", 400),
        (catalog, "DELETE", "/products/1", "", 405),
        (catalog, "GET", "/nothing", "", 404),
        (checkout, "POST", "/checkout", r#"{"product":"x"}"#, 400),
        (checkout, "POST", "/checkout", r#"{"product":5000}"#, 404),
    ] {
        let (status, answer) = call(address, method, path, body).await;
        assert_eq!(status.as_u16(), expected, "{method} {path}");
        assert!(parsed(&answer)["error"].is_string(), "{answer}");
    }

    let (_, metrics) = call(catalog, "GET", "/metrics", "").await;
    let line = r#"http_requests_total{code="200",handler="/products/{id}",method="GET"} 3"#;
    assert!(metrics.contains(line), "{line} in {metrics}");
    assert!(metrics.contains("http_requests_in_flight 0"), "{metrics}");
    assert_eq!(call(catalog, "GET", "/readyz", "").await.1, "ok\n");
    stop.cancel();
}

#[tokio::test]
async fn a_catalog_that_is_gone_is_a_bad_gateway() {
    let stop = CancellationToken::new();
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("--catalog-url=http://{gone}");
    let (checkout, _) = start(&["checkout", &url], stop.clone()).await;
    let (status, answer) = call(checkout, "GET", "/checkout", "").await;
    assert_eq!(status, StatusCode::BAD_GATEWAY);
    assert!(parsed(&answer)["error"].as_str().is_some_and(|e| e.contains("refused")), "{answer}");
    stop.cancel();
}

#[tokio::test]
async fn stopping_finishes_the_request_in_flight() {
    let stop = CancellationToken::new();
    let (catalog, serving) = start(&["catalog", "--work=200"], stop.clone()).await;
    let request = tokio::spawn(async move { call(catalog, "GET", "/products/1", "").await });
    // The request is in flight when the metrics say so.
    while !call(catalog, "GET", "/metrics", "").await.1.contains("http_requests_in_flight 1") {
        tokio::task::yield_now().await;
    }
    stop.cancel();
    assert_eq!(request.await.unwrap().0, StatusCode::OK);
    serving.await.unwrap();
}
