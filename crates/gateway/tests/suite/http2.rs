//! HTTP/2 by prior knowledge and by ALPN, and certificates by name.

use crate::support::{Echo, Running, shop};
use gantry_gateway::entities::Certificate;
use gantry_gateway::{Listener, Mode};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::sync::Arc;
use tokio::net::TcpStream;

fn request(path: &str, body: &'static str) -> http::Request<Full<Bytes>> {
    http::Request::post(format!("http://shop.org{path}")).body(Full::new(Bytes::from(body))).unwrap()
}

#[tokio::test]
async fn streams_share_a_connection_and_are_routed_like_any_request() {
    let echo = Echo::start().await;
    let running = Running::start(shop(&[echo.address]));
    let stream = TcpStream::connect(running.address).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let driver = tokio::spawn(connection);
    let asks = (0..20).map(|i| {
        let mut sender = sender.clone();
        async move {
            let response = sender.send_request(request(&format!("/{i}"), "shop")).await.unwrap();
            assert_eq!(response.status(), 200);
            assert!(response.headers().contains_key("x-kong-request-id"));
            assert!(!response.headers().contains_key("connection"));
            let body = response.into_body().collect().await.unwrap().to_bytes();
            let text = String::from_utf8_lossy(&body).into_owned();
            assert!(
                text.starts_with(&format!("POST /{i} HTTP/1.1\r\n")) && text.ends_with("|shop"),
                "{text}"
            );
        }
    });
    let mut tasks = tokio::task::JoinSet::new();
    for ask in asks {
        tasks.spawn(ask);
    }
    while let Some(outcome) = tasks.join_next().await {
        outcome.unwrap();
    }
    let mut sender = sender;
    let other = http::Request::get("http://other.org/").body(Full::new(Bytes::new())).unwrap();
    let response = sender.send_request(other).await.unwrap();
    assert_eq!(response.status(), 404);
    drop((sender, response));
    driver.abort();
}

#[tokio::test]
async fn the_certificate_follows_the_name_and_is_swapped_without_closing_anything() {
    let echo = Echo::start().await;
    let mut snapshot = shop(&[echo.address]);
    let made = |name: &str| {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        (made.cert.der().clone(), made.cert.pem(), made.signing_key.serialize_pem())
    };
    let (default, shop_org, renewed) = (made("localhost"), made("shop.org"), made("shop.org"));
    let certificate = |of: &(rustls_pki_types::CertificateDer<'static>, String, String)| Certificate {
        id: "c1".into(),
        cert: of.1.clone(),
        key: of.2.clone(),
        snis: vec!["shop.org".into(), "*.shop.org".into()],
        ..Certificate::default()
    };
    snapshot.certificates = vec![certificate(&shop_org)];
    let running = Running::start(snapshot.clone());
    let tls = running.gateway.tls(Some((&default.1, &default.2))).unwrap();
    let address = running
        .gateway
        .listen(Listener { address: "127.0.0.1:0".parse().unwrap(), mode: Mode::Proxy, tls: Some(tls) })
        .unwrap();
    let connect = |trusted: rustls_pki_types::CertificateDer<'static>, name: &'static str| async move {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(trusted).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let stream = TcpStream::connect(address).await.unwrap();
        let name = rustls_pki_types::ServerName::try_from(name).unwrap();
        tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await
    };
    let stream = connect(shop_org.0.clone(), "shop.org").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    connect(default.0.clone(), "localhost").await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let driver = tokio::spawn(connection);
    let response = sender.send_request(request("/", "")).await.unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&body).contains("X-Forwarded-Proto: https\r\n"));
    snapshot.certificates = vec![certificate(&renewed)];
    running.gateway.apply(snapshot.clone()).unwrap();
    connect(renewed.0.clone(), "shop.org").await.unwrap();
    assert!(connect(shop_org.0.clone(), "shop.org").await.is_err());
    assert_eq!(
        sender.send_request(request("/", "")).await.unwrap().status(),
        200,
        "the old connection goes on"
    );
    snapshot.certificates[0].key = shop_org.2.clone();
    let error = running.gateway.apply(snapshot).unwrap_err();
    assert_eq!(error.entity, "certificate");
    driver.abort();
}
