//! A real client against a real listener: plain, TLS with client certificates, drain, and a taken port.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Extension;
use axum::routing::get;
use gantry_serve::{BindError, ConnectInfo, ListenConfig, Listener, TlsConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

fn router() -> Router {
    Router::new()
        .route("/", get(|| async { "hello" }))
        .route(
            "/slow",
            get(|| async {
                tokio::time::sleep(Duration::from_millis(300)).await;
                "finished"
            }),
        )
        .route(
            "/who",
            get(|Extension(info): Extension<ConnectInfo>| async move {
                if info.client_certificate.is_some() { "certificate" } else { "anonymous" }
            }),
        )
}

async fn request(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin), path: &str) -> String {
    let head = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn shutdown_lets_a_request_in_flight_end_and_takes_no_new_one() {
    let listener = Listener::bind(ListenConfig::plain("127.0.0.1:0".parse().unwrap())).await.unwrap();
    let addr = listener.local_addr();
    let shutdown = CancellationToken::new();
    let server = tokio::spawn(listener.serve(router(), shutdown.clone()));

    let mut stream = TcpStream::connect(addr).await.unwrap();
    let in_flight = tokio::spawn(async move { request(&mut stream, "/slow").await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    shutdown.cancel();

    assert!(in_flight.await.unwrap().ends_with("finished"));
    server.await.unwrap();
    assert!(TcpStream::connect(addr).await.is_err());
}

#[tokio::test]
async fn a_taken_port_names_its_holder() {
    let first = Listener::bind(ListenConfig::plain("127.0.0.1:0".parse().unwrap())).await.unwrap();
    let Err(error) = Listener::bind(ListenConfig::plain(first.local_addr())).await else {
        panic!("bound the same port twice");
    };
    assert!(matches!(error, BindError::InUse { .. }), "{error}");
    assert!(error.to_string().contains(&format!("pid {}", std::process::id())), "{error}");
}

#[tokio::test]
async fn a_client_certificate_reaches_the_service_and_a_foreign_one_does_not() {
    let authority = Authority::new();
    let foreign = Authority::new();
    let (server_pem, server_key) = authority.issue("127.0.0.1");
    let tls = TlsConfig::from_pem(&server_pem, &server_key, Some(&authority.pem())).unwrap();
    let listener = Listener::bind(ListenConfig::tls("127.0.0.1:0".parse().unwrap(), tls)).await.unwrap();
    let addr = listener.local_addr();
    let shutdown = CancellationToken::new();
    let server = tokio::spawn(listener.serve(router(), shutdown.clone()));

    let ask = async |identity: Option<(String, String)>| -> String {
        let config = authority.client_config(identity);
        let stream = TcpStream::connect(addr).await.unwrap();
        let name = "127.0.0.1".try_into().unwrap();
        match tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await {
            Ok(mut stream) => request(&mut stream, "/who").await,
            Err(error) => error.to_string(),
        }
    };
    assert!(ask(None).await.ends_with("anonymous"));
    assert!(ask(Some(authority.issue("someone"))).await.ends_with("certificate"));
    assert!(!ask(Some(foreign.issue("someone"))).await.contains("200 OK"));
    shutdown.cancel();
    server.await.unwrap();
}

struct Authority {
    issuer: rcgen::CertifiedIssuer<'static, rcgen::KeyPair>,
}

impl Authority {
    fn new() -> Authority {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        Authority { issuer: rcgen::CertifiedIssuer::self_signed(params, key).unwrap() }
    }

    fn pem(&self) -> String {
        self.issuer.pem()
    }

    fn issue(&self, name: &str) -> (String, String) {
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    fn client_config(&self, identity: Option<(String, String)>) -> rustls::ClientConfig {
        use rustls_pki_types::pem::PemObject;
        use rustls_pki_types::{CertificateDer, PrivateKeyDer};
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem().as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        match identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => builder
                .with_client_auth_cert(
                    vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
                    PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
                )
                .unwrap(),
        }
    }
}
