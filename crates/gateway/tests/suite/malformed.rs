//! What a hostile or broken client sends, end to end: refused with a status, counted, and never seen by a target.

use crate::support::{Echo, Running, shop};
use gantry_gateway::{Config, Limits};
use std::time::Duration;

#[tokio::test]
async fn requests_with_two_readings_are_refused() {
    let echo = Echo::start().await;
    let running = Running::start(shop(&[echo.address]));
    let corpus = [
        ("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ("Content-Length: 4\r\nContent-Length: 5\r\n\r\nshop!", 400),
        ("Content-Length: 4\r\nContent-Length: 4\r\n\r\nshop", 400),
        ("Content-Length: 4,4\r\n\r\nshop", 400),
        ("Content-Length: -1\r\n\r\n", 400),
        ("Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", 400),
        ("Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400),
        ("Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400),
        ("X: a\r\n b\r\n\r\n", 400),
        ("X: a\nY: b\r\n\r\n", 400),
        ("Host: other.org\r\n\r\n", 400),
        ("X: a\0b\r\n\r\n", 400),
    ];
    for (rest, status) in corpus {
        let mut client = running.connect().await;
        client.send(format!("POST / HTTP/1.1\r\nHost: shop.org\r\n{rest}").as_bytes()).await.unwrap();
        let answer = client.rest().await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{rest:?}: {answer}");
        assert!(answer.contains("Connection: close\r\n"), "{answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "one answer only: {answer}");
    }
    assert_eq!(echo.requests(), 0);
    assert!(running.metric("gantry_gateway_refused_heads_total{code=\"400\"}").unwrap() >= 10.0);
}

#[tokio::test]
async fn a_broken_chunked_body_ends_the_request_and_the_connection() {
    let echo = Echo::start().await;
    let running = Running::start(shop(&[echo.address]));
    for body in ["zz\r\n", "4\r\nshopX0\r\n\r\n", "4\nshop\r\n0\r\n\r\n", "4\r\nshop\r\n0\r\n\n"] {
        let mut client = running.connect().await;
        let head = "POST / HTTP/1.1\r\nHost: shop.org\r\nTransfer-Encoding: chunked\r\n\r\n";
        client.send(format!("{head}{body}").as_bytes()).await.unwrap();
        let answer = client.rest().await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{body:?}: {answer}");
    }
    assert_eq!(echo.requests(), 0);
}

#[tokio::test]
async fn oversized_and_slow_heads_are_bounded() {
    let echo = Echo::start().await;
    let limits = Limits { head_timeout: Duration::from_millis(50), ..Limits::default() };
    let running = Running::with(Config { limits, ..Config::default() }, shop(&[echo.address]));
    let cases = [
        (format!("GET /{} HTTP/1.1\r\nHost: shop.org\r\n\r\n", "x".repeat(9_000)), "HTTP/1.1 414 "),
        (format!("GET / HTTP/1.1\r\nHost: shop.org\r\nX: {}\r\n\r\n", "x".repeat(40_000)), "HTTP/1.1 400 "),
        ("GET / HTTP/1.1\r\nHost: shop.org\r\n".to_owned(), "HTTP/1.1 408 "),
        ("GET / HTTP/2.0\r\nHost: shop.org\r\n\r\n".to_owned(), "HTTP/1.1 505 "),
        ("CONNECT shop.org:443 HTTP/1.1\r\nHost: shop.org\r\n\r\n".to_owned(), "HTTP/1.1 405 "),
    ];
    for (request, status) in cases {
        let mut client = running.connect().await;
        client.send(request.as_bytes()).await.unwrap();
        let (answer, _) = client.message().await.unwrap_or_else(|| panic!("no answer to {request:.40}"));
        assert!(answer.starts_with(status), "{request:.40}: {answer}");
    }
    let mut idle = running.connect().await;
    assert_eq!(idle.rest().await, "");
    assert_eq!(echo.requests(), 0);
}

#[tokio::test]
async fn connections_beyond_the_bound_are_closed() {
    let echo = Echo::start().await;
    let limits = Limits { max_connections: 2, ..Limits::default() };
    let running = Running::with(Config { limits, ..Config::default() }, shop(&[echo.address]));
    let (mut first, mut second) = (running.connect().await, running.connect().await);
    let request = "GET / HTTP/1.1\r\nHost: shop.org\r\n\r\n";
    assert!(first.exchange(request).await.0.starts_with("HTTP/1.1 200"));
    assert!(second.exchange(request).await.0.starts_with("HTTP/1.1 200"));
    let mut third = running.connect().await;
    assert_eq!(third.rest().await, "");
    assert!(first.exchange(request).await.0.starts_with("HTTP/1.1 200"));
}
