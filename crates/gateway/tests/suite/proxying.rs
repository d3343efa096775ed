//! Requests through the gateway: heads, bodies of every framing, retries, waiting for a first target.

use crate::support::{Echo, Running, Wire, shop};
use gantry_gateway::entities::{Protocol, Snapshot};
use gantry_gateway::{Activator, Config, ListenError, Listener, Mode, ScaleFromZero};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

const GET: &str = "GET /items?x=1 HTTP/1.1\r\nHost: shop.org\r\n\r\n";

#[tokio::test]
async fn a_request_is_passed_on_with_its_origin_and_answered_on_the_same_connection() {
    let echo = Echo::start().await;
    let running = Running::start(shop(&[echo.address]));
    let mut client = running.connect().await;
    for _ in 0..3 {
        let (head, body) = client.exchange(GET).await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        for field in
            ["X-Target: echo", "Via: 1.1 kong/3.9.3", "X-Kong-Request-Id: ", "X-Kong-Proxy-Latency: "]
        {
            assert!(head.contains(field), "{field} in {head}");
        }
        assert!(body.starts_with("GET /items?x=1 HTTP/1.1\r\n"), "{body}");
        assert!(body.contains(&format!("Host: {}\r\n", echo.address)), "{body}");
        assert!(body.contains("X-Forwarded-For: 127.0.0.1\r\n"), "{body}");
        assert!(body.contains("X-Forwarded-Host: shop.org\r\n"), "{body}");
    }
    assert_eq!(echo.connections.load(std::sync::atomic::Ordering::SeqCst), 1);
    let series = "kong_http_requests_total{code=\"200\",route=\"shop-route\",service=\"shop\",source=\"service\",workspace=\"default\"}";
    running.metric_becomes(series, 3.0).await;
    running
        .metric_becomes("gantry_gateway_upstream_requests_in_flight{upstream=\"shop-upstream\"}", 0.0)
        .await;
}

#[tokio::test]
async fn nothing_found_is_said_in_kongs_words() {
    let echo = Echo::start().await;
    let running = Running::start(shop(&[echo.address]));
    let mut client = running.connect().await;
    let (head, body) = client.exchange("GET / HTTP/1.1\r\nHost: other.org\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 404 Not Found\r\n"), "{head}");
    assert!(head.contains("Server: kong/3.9.3"), "{head}");
    let json: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(json["message"], "no Route matched with those values");
    assert_eq!(json["request_id"].as_str().unwrap().len(), 32);
    let (head, _) = client.exchange(GET).await;
    assert!(head.starts_with("HTTP/1.1 200"), "the connection goes on: {head}");
}

#[tokio::test]
async fn bodies_of_every_framing_go_both_ways() {
    let echo = Echo::answering(|head, body| {
        let text = String::from_utf8_lossy(body);
        if head.contains("/chunked") {
            let mut out = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            for piece in body.chunks(1_000) {
                out.extend(format!("{:x}\r\n", piece.len()).into_bytes());
                out.extend(piece);
                out.extend(b"\r\n");
            }
            out.extend(b"0\r\nTrailer: x\r\n\r\n");
            return out;
        }
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len()).into_bytes()
    })
    .await;
    let running = Running::start(shop(&[echo.address]));
    let mut client = running.connect().await;
    for size in [0usize, 1, 1_000, 70_000, 1_000_000] {
        let text = "x".repeat(size);
        for path in ["/plain", "/chunked"] {
            let (head, body) = client
                .exchange(&format!(
                    "POST {path} HTTP/1.1\r\nHost: shop.org\r\nContent-Length: {size}\r\n\r\n{text}"
                ))
                .await;
            assert!(head.starts_with("HTTP/1.1 200") && body == text, "{path} {size}: {head}");
            let chunk = if size == 0 { String::new() } else { format!("{size:x}\r\n{text}\r\n") };
            let (head, body) = client
                .exchange(&format!(
                    "POST {path} HTTP/1.1\r\nHost: shop.org\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}0\r\n\r\n"
                ))
                .await;
            assert!(head.starts_with("HTTP/1.1 200") && body == text, "{path} {size} chunked: {head}");
        }
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let echo = Echo::start().await;
    let running = Running::start(shop(&[echo.address]));
    let mut client = running.connect().await;
    let mut all = String::new();
    for i in 0..5 {
        all += &format!("POST /{i} HTTP/1.1\r\nHost: shop.org\r\nContent-Length: 3\r\n\r\nabc");
    }
    client.send(all.as_bytes()).await.unwrap();
    for i in 0..5 {
        let (_, body) = client.message().await.unwrap();
        let body = String::from_utf8(body).unwrap();
        assert!(body.starts_with(&format!("POST /{i} ")) && body.ends_with("|abc"), "{body}");
    }
}

#[tokio::test]
async fn a_client_that_asks_first_is_told_to_go_on() {
    let echo = Echo::start().await;
    let running = Running::start(shop(&[echo.address]));
    let mut client = running.connect().await;
    let head = "POST / HTTP/1.1\r\nHost: shop.org\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";
    client.send(head.as_bytes()).await.unwrap();
    assert_eq!(client.head().await.unwrap(), "HTTP/1.1 100 Continue\r\n\r\n");
    let (head, body) = client.exchange("shop").await;
    assert!(head.starts_with("HTTP/1.1 200") && body.ends_with("|shop"), "{body}");
    assert!(!body.contains("Expect"));
}

#[tokio::test]
async fn head_requests_and_old_clients_get_what_they_can_read() {
    let echo = Echo::answering(|head, _| {
        let body = if head.starts_with("HEAD") { "" } else { "3\r\nabc\r\n0\r\n\r\n" };
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}").into_bytes()
    })
    .await;
    let running = Running::start(shop(&[echo.address]));
    let mut client = running.connect().await;
    client.send(b"HEAD / HTTP/1.1\r\nHost: shop.org\r\n\r\n").await.unwrap();
    assert!(client.head().await.unwrap().starts_with("HTTP/1.1 200"));
    let (_, body) = client.exchange(GET).await;
    assert_eq!(body, "abc");
    let mut old = running.connect().await;
    old.send(b"GET / HTTP/1.0\r\nHost: shop.org\r\n\r\n").await.unwrap();
    let all = old.rest().await;
    assert!(all.contains("Connection: close\r\n") && all.ends_with("\r\n\r\nabc"), "{all}");
    assert!(!all.contains("chunked"), "{all}");
}

#[tokio::test]
async fn a_target_that_refuses_is_passed_over_and_one_that_hangs_up_is_asked_again() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let echo = Echo::start().await;
    let running = Running::start(shop(&[closed, echo.address]));
    let mut client = running.connect().await;
    for _ in 0..6 {
        let (head, _) = client.exchange(GET).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    }
    let nobody = Running::start(shop(&[closed]));
    let (head, body) = nobody.connect().await.exchange(GET).await;
    assert!(head.starts_with("HTTP/1.1 502"), "{head}");
    assert!(body.contains("An invalid response was received from the upstream server"), "{body}");

    // Closes after each answer without saying so: the next request finds a dead connection and is sent again.
    let rude = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = rude.local_addr().unwrap();
    let task = tokio::spawn(async move {
        loop {
            let (stream, _) = rude.accept().await.unwrap();
            let mut wire = Wire::over(stream);
            let Some(_) = wire.message().await else { continue };
            let _ = wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        }
    });
    let running = Running::start(shop(&[address]));
    let mut client = running.connect().await;
    for _ in 0..50 {
        let (head, _) = client.exchange(GET).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    }
    task.abort();
}

#[tokio::test]
async fn a_target_that_says_nothing_in_time_is_a_timeout_and_nonsense_is_a_bad_gateway() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut snapshot = shop(&[silent.local_addr().unwrap()]);
    snapshot.services[0].read_timeout = 50;
    let running = Running::start(snapshot);
    let (head, body) = running.connect().await.exchange(GET).await;
    assert!(head.starts_with("HTTP/1.1 504") && body.contains("timing out"), "{head}{body}");
    for nonsense in [
        "SSH-2.0-x\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nBad Name: 1\r\n\r\n",
    ] {
        let echo = Echo::answering(move |_, _| nonsense.as_bytes().to_vec()).await;
        let running = Running::start(shop(&[echo.address]));
        let (head, _) = running.connect().await.exchange(GET).await;
        assert!(head.starts_with("HTTP/1.1 502"), "{nonsense:?}: {head}");
    }
}

#[tokio::test]
async fn paths_are_stripped_and_joined() {
    let echo = Echo::start().await;
    let mut snapshot = shop(&[echo.address]);
    snapshot.routes[0].paths = Some(vec!["/shop".into()]);
    snapshot.routes[0].strip_path = true;
    snapshot.routes[0].preserve_host = true;
    snapshot.services[0].path = Some("/api".into());
    let running = Running::start(snapshot);
    let (_, body) = running
        .connect()
        .await
        .exchange("GET /shop/a%20b/../c?q=%2F HTTP/1.1\r\nHost: SHOP.org\r\n\r\n")
        .await;
    assert!(body.starts_with("GET /api/c?q=%2F HTTP/1.1\r\nHost: SHOP.org\r\n"), "{body}");
    assert!(body.contains("X-Forwarded-Prefix: /shop\r\n"), "{body}");
}

#[tokio::test]
async fn an_upgrade_becomes_a_tunnel() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let target = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut wire = Wire::over(stream);
        let head = wire.head().await.unwrap();
        assert!(
            head.contains("Upgrade: websocket\r\n") && head.contains("Connection: Upgrade\r\n"),
            "{head}"
        );
        wire.send(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhello",
        )
        .await
        .unwrap();
        let mut echoed = [0u8; 4];
        tokio::io::AsyncReadExt::read_exact(&mut wire.stream, &mut echoed).await.unwrap();
        wire.send(&echoed).await.unwrap();
    });
    let running = Running::start(shop(&[address]));
    let mut client = running.connect().await;
    client
        .send(b"GET /ws HTTP/1.1\r\nHost: shop.org\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        .await
        .unwrap();
    let head = client.head().await.unwrap();
    assert!(head.starts_with("HTTP/1.1 101") && head.contains("Upgrade: websocket"), "{head}");
    client.send(b"ping").await.unwrap();
    assert_eq!(client.rest().await, "helloping");
    target.await.unwrap();
}

struct Started(tokio::sync::mpsc::UnboundedSender<String>);

impl Activator for Started {
    fn activate(&self, upstream: &str) {
        let _ = self.0.send(upstream.to_owned());
    }
}

#[tokio::test]
async fn requests_wait_for_the_first_target_instead_of_failing() {
    let (asked, mut wanted) = tokio::sync::mpsc::unbounded_channel();
    let scale = ScaleFromZero { max_pending: 2, ..ScaleFromZero::new(Arc::new(Started(asked))) };
    let config = Config { scale_from_zero: Some(scale), ..Config::default() };
    let running = Running::with(config, shop(&[]));
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = running.connect().await;
        client.send(GET.as_bytes()).await.unwrap();
        assert_eq!(wanted.recv().await.unwrap(), "shop-upstream");
        clients.push(client);
    }
    let pending = "gantry_gateway_upstream_requests_pending{upstream=\"shop-upstream\"}";
    running.metric_becomes(pending, 2.0).await;
    let (head, body) = running.connect().await.exchange(GET).await;
    assert!(head.starts_with("HTTP/1.1 503") && body.contains("too many"), "{head}{body}");
    let echo = Echo::start().await;
    running.gateway.apply(shop(&[echo.address])).unwrap();
    for client in &mut clients {
        let (head, _) = client.message().await.unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    }
    running.metric_becomes(pending, 0.0).await;
    let without = Running::start(shop(&[]));
    let (head, body) = without.connect().await.exchange(GET).await;
    assert!(head.starts_with("HTTP/1.1 503") && body.contains("ring-balancer"), "{head}{body}");
}

#[tokio::test]
async fn a_service_address_is_transparent_and_a_stream_address_passes_bytes() {
    let echo = Echo::start().await;
    let mut snapshot = shop(&[echo.address]);
    snapshot.services[0].protocol = Protocol::Tcp;
    let running = Running::start(snapshot);
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let listen = |mode| running.gateway.listen(Listener { address: any, mode, tls: None }).unwrap();
    let direct = listen(Mode::Service { service: "shop".into() });
    let stream = listen(Mode::Stream { service: "shop".into() });
    let request = "GET /a//b?x HTTP/1.1\r\nHost: catalog:80\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n";
    for address in [direct, stream] {
        let (head, body) = Wire::connect(address).await.exchange(request).await;
        assert!(head.starts_with("HTTP/1.1 200") && !head.contains("Kong"), "{head}");
        assert!(body.starts_with("GET /a//b?x HTTP/1.1\r\nHost: catalog:80\r\n"), "{body}");
        assert!(body.contains("X-Forwarded-For: 1.2.3.4\r\n") && !body.contains("Via"), "{body}");
    }
    let error = running.gateway.listen(Listener::proxy(direct)).unwrap_err();
    assert!(matches!(error, ListenError::InUse { .. }), "{error}");
    assert!(running.gateway.unlisten(direct));
    assert!(!running.gateway.unlisten(direct));
    let again = running.gateway.listen(Listener::proxy(direct));
    let mut attempts = 0;
    let mut again = again;
    // The threads close their copies of the socket a moment later.
    while again.is_err() && attempts < 500 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        again = running.gateway.listen(Listener::proxy(direct));
        attempts += 1;
    }
    assert_eq!(again.unwrap(), direct);
}

#[tokio::test]
async fn a_target_by_name_is_looked_up() {
    let echo = Echo::start().await;
    let mut snapshot: Snapshot = shop(&[]);
    snapshot.services[0].host = "localhost".into();
    snapshot.services[0].port = echo.address.port();
    let running = Running::start(snapshot);
    let mut status = String::new();
    for _ in 0..500 {
        let (head, body) = running.connect().await.exchange(GET).await;
        status = head;
        if status.starts_with("HTTP/1.1 200") {
            assert!(body.contains(&format!("Host: localhost:{}\r\n", echo.address.port())), "{body}");
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(status.starts_with("HTTP/1.1 200"), "{status}");
}
