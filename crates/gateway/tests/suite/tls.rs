//! TLS on both sides: targets over https, and entrances with certificates of their own.

use crate::support::{Running, shop};
use gantry_gateway::entities::{
    CaCertificate, Certificate, ClientValidation, Entrance, EntranceTls, Passthrough, Protocol, Snapshot,
};
use gantry_gateway::{Listener, Mode};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// An authority, and what it signed for a name: chain and key in PEM.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Another name than that of what it signs, or OpenSSL takes both for one.
        params.distinguished_name.push(DnType::CommonName, "authority");
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    fn sign(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }
}

fn chain(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap).collect()
}

fn key(pem: &str) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap()
}

fn roots(authority: &Authority) -> Arc<rustls::RootCertStore> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(chain(&authority.pem()).remove(0)).unwrap();
    Arc::new(roots)
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// A target over TLS that answers `body` to all that ends a head; it may ask for a certificate.
struct Secure {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Secure {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Secure {
    async fn start(own: (String, String), clients: Option<&Authority>, body: Vec<u8>) -> Secure {
        let builder = rustls::ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(roots(authority), provider()).build().unwrap(),
            ),
        };
        let config = builder.with_single_cert(chain(&own.0), key(&own.1)).unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let opened = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, body, opened) = (acceptor.clone(), body.clone(), Arc::clone(&opened));
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    opened.fetch_add(1, Ordering::SeqCst);
                    let mut seen = Vec::new();
                    while let Ok(1..) = stream.read_buf(&mut seen).await {
                        if !seen.ends_with(b"\r\n\r\n") {
                            continue;
                        }
                        let text = String::from_utf8_lossy(&seen).into_owned();
                        let host = text.lines().find_map(|line| line.strip_prefix("Host: "));
                        let host = host.unwrap_or_default();
                        let sni = stream.get_ref().1.server_name().unwrap_or("none").to_owned();
                        let head = format!(
                            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nX-Host: {host}\r\nX-Sni: {sni}\r\n\r\n",
                            body.len()
                        );
                        seen.clear();
                        stream.write_all(head.as_bytes()).await.unwrap();
                        stream.write_all(&body).await.unwrap();
                        stream.flush().await.unwrap();
                    }
                });
            }
        });
        Secure { address, connections, task }
    }
}

const GET: &str = "GET / HTTP/1.1\r\nHost: shop.org\r\n\r\n";

fn secured(target: SocketAddr) -> Snapshot {
    let mut snapshot = shop(&[target]);
    snapshot.services[0].protocol = Protocol::Https;
    snapshot.services[0].retries = 0;
    snapshot.routes[0].preserve_host = true;
    snapshot
}

#[tokio::test]
async fn a_service_over_https_is_checked_only_where_that_is_asked_for() {
    let (authority, other) = (Authority::new(), Authority::new());
    let target = Secure::start(authority.sign("shop.org"), None, b"hello".to_vec()).await;
    let mut snapshot = secured(target.address);
    let running = Running::start(snapshot.clone());
    let mut wire = running.connect().await;
    for _ in 0..3 {
        let (head, body) = wire.exchange(GET).await;
        assert!(head.starts_with("HTTP/1.1 200") && body == "hello", "{head}{body}");
        assert!(head.contains("X-Host: shop.org\r\n") && head.contains("X-Sni: shop.org\r\n"), "{head}");
    }
    assert_eq!(target.connections.load(Ordering::SeqCst), 1, "the connection is kept");

    let trust = |snapshot: &mut Snapshot, authority: &Authority| {
        snapshot.services[0].tls_verify = Some(true);
        snapshot.services[0].ca_certificates = Some(vec!["ca".to_owned()]);
        snapshot.ca_certificates =
            vec![CaCertificate { id: "ca".into(), cert: authority.pem(), ..CaCertificate::default() }];
    };
    trust(&mut snapshot, &authority);
    running.gateway.apply(snapshot.clone()).unwrap();
    assert!(wire.exchange(GET).await.0.starts_with("HTTP/1.1 200"));
    assert_eq!(target.connections.load(Ordering::SeqCst), 2, "not one that was opened unchecked");

    trust(&mut snapshot, &other);
    running.gateway.apply(snapshot.clone()).unwrap();
    let (head, body) = wire.exchange(GET).await;
    assert!(head.starts_with("HTTP/1.1 502"), "{head}{body}");

    // The name counts as well: the target's address is in no certificate.
    trust(&mut snapshot, &authority);
    snapshot.routes[0].preserve_host = false;
    running.gateway.apply(snapshot).unwrap();
    assert!(wire.exchange(GET).await.0.starts_with("HTTP/1.1 502"));
}

#[tokio::test]
async fn a_target_that_asks_for_a_certificate_is_shown_the_services_own() {
    let authority = Authority::new();
    let target = Secure::start(authority.sign("shop.org"), Some(&authority), b"hello".to_vec()).await;
    let mut snapshot = secured(target.address);
    let running = Running::start(snapshot.clone());
    let mut wire = running.connect().await;
    assert!(wire.exchange(GET).await.0.starts_with("HTTP/1.1 502"));
    let (cert, key) = authority.sign("gateway");
    snapshot.certificates = vec![Certificate {
        id: "own".into(),
        cert,
        key,
        snis: vec!["own.org".into()],
        ..Certificate::default()
    }];
    snapshot.services[0].client_certificate = Some("own".into());
    running.gateway.apply(snapshot.clone()).unwrap();
    assert!(running.connect().await.exchange(GET).await.0.starts_with("HTTP/1.1 200"));
    // The upstream's stands in where the service has none.
    snapshot.services[0].client_certificate = None;
    snapshot.upstreams[0].client_certificate = Some("own".into());
    running.gateway.apply(snapshot.clone()).unwrap();
    assert!(running.connect().await.exchange(GET).await.0.starts_with("HTTP/1.1 200"));
    snapshot.services[0].client_certificate = Some("nobody".into());
    let error = running.gateway.apply(snapshot).unwrap_err();
    assert_eq!((error.entity, error.field.as_str()), ("service", "client_certificate"));
}

/// A client that trusts `authority`.
async fn connect(
    address: SocketAddr,
    name: &str,
    authority: &Authority,
    own: Option<&(String, String)>,
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let builder = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots(authority));
    let config = match own {
        None => builder.with_no_client_auth(),
        Some((pem, secret)) => builder.with_client_auth_cert(chain(pem), key(secret)).unwrap(),
    };
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let stream = TcpStream::connect(address).await?;
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// The status of a request for `host`; the connection ends with it.
async fn status(mut stream: tokio_rustls::client::TlsStream<TcpStream>, host: &str) -> Option<String> {
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    // The other side may end without a word when it turns the client away.
    let _ = stream.read_to_end(&mut answer).await;
    let text = String::from_utf8_lossy(&answer).into_owned();
    Some(text.split(' ').nth(1)?.to_owned())
}

fn entrance(authority: &Authority) -> Entrance {
    let certificate = |id: &str, name: &str, snis: Vec<String>| {
        let (cert, key) = authority.sign(name);
        Certificate { id: id.into(), cert, key, snis, ..Certificate::default() }
    };
    Entrance {
        name: "web:443".into(),
        hostnames: vec![String::new(), "*.shop.org".into()],
        tls: Some(EntranceTls {
            certificates: vec![
                certificate("any", "other.org", Vec::new()),
                certificate("shop", "*.shop.org", vec!["*.shop.org".into()]),
            ],
            clients: None,
        }),
        passthrough: Vec::new(),
    }
}

#[tokio::test]
async fn a_connection_is_passed_on_by_its_name_and_the_others_are_terminated() {
    let (authority, own) = (Authority::new(), Authority::new());
    let target = Secure::start(authority.sign("far.org"), None, b"far".to_vec()).await;
    let mut snapshot = shop(&[target.address]);
    snapshot.entrances = vec![entrance(&own)];
    snapshot.entrances[0].passthrough =
        vec![Passthrough { hostname: "far.org".into(), service: "shop".into() }];
    let running = Running::start(snapshot);
    let mode = Mode::Entrance { name: "web:443".into() };
    let any = "127.0.0.1:0".parse().unwrap();
    let address = running.gateway.listen(Listener { address: any, mode, tls: None }).unwrap();
    let mut stream = connect(address, "far.org", &authority, None).await.unwrap();
    stream.write_all(GET.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"far") {
        assert!(stream.read_buf(&mut answer).await.unwrap() > 0, "ends after {answer:?}");
    }
    let stream = connect(address, "other.org", &own, None).await.unwrap();
    assert_eq!(status(stream, "other.org").await.as_deref(), Some("404"));
    let mut plain = crate::support::Wire::connect(address).await;
    plain.send(GET.as_bytes()).await.unwrap();
    assert_eq!(plain.rest().await, "");
}

#[tokio::test]
async fn an_entrance_serves_its_own_routes_with_its_own_certificates() {
    let authority = Authority::new();
    let target = Secure::start(authority.sign("shop.org"), None, b"hello".to_vec()).await;
    let mut snapshot = secured(target.address);
    let mut inside = snapshot.routes[0].clone();
    inside.id = "r2".into();
    inside.name = Some("inside".into());
    inside.hosts = None;
    inside.extras.entrances = vec!["web:443".into()];
    snapshot.routes.push(inside);
    snapshot.entrances = vec![entrance(&authority)];
    let running = Running::start(snapshot.clone());
    let mode = Mode::Entrance { name: "web:443".into() };
    let any = "127.0.0.1:0".parse().unwrap();
    let address = running.gateway.listen(Listener { address: any, mode, tls: None }).unwrap();

    let to = |name: &'static str| connect(address, name, &authority, None);
    assert_eq!(status(to("a.shop.org").await.unwrap(), "a.shop.org").await.as_deref(), Some("200"));
    assert_eq!(status(to("other.org").await.unwrap(), "other.org").await.as_deref(), Some("200"));
    // A connection for one listener is not one for another.
    assert_eq!(status(to("a.shop.org").await.unwrap(), "other.org").await.as_deref(), Some("421"));
    assert_eq!(status(to("a.shop.org").await.unwrap(), "b.shop.org").await.as_deref(), Some("200"));
    // The certificate of the listener for every name is for another name than this.
    assert!(to("third.org").await.is_err());

    // What does not name the entrance is not reached through it.
    snapshot.routes[1].extras.other_hosts = vec!["*.shop.org".into()];
    running.gateway.apply(snapshot.clone()).unwrap();
    assert_eq!(status(to("a.shop.org").await.unwrap(), "a.shop.org").await.as_deref(), Some("404"));
    assert_eq!(status(to("other.org").await.unwrap(), "other.org").await.as_deref(), Some("200"));
    snapshot.routes[1].extras.entrances.clear();
    running.gateway.apply(snapshot.clone()).unwrap();
    assert_eq!(status(to("other.org").await.unwrap(), "other.org").await.as_deref(), Some("404"));

    snapshot.routes[1].extras.entrances = vec!["web:443".into()];
    let clients = ClientValidation { authorities: vec![authority.pem()], is_required: true };
    snapshot.entrances[0].tls.as_mut().unwrap().clients = Some(clients.clone());
    running.gateway.apply(snapshot.clone()).unwrap();
    let own = authority.sign("client");
    let known = connect(address, "other.org", &authority, Some(&own)).await.unwrap();
    assert_eq!(status(known, "other.org").await.as_deref(), Some("200"));
    let turned_away = match to("other.org").await {
        Ok(stream) => status(stream, "other.org").await,
        Err(_) => None,
    };
    assert_eq!(turned_away, None);
    snapshot.entrances[0].tls.as_mut().unwrap().clients =
        Some(ClientValidation { is_required: false, ..clients });
    running.gateway.apply(snapshot).unwrap();
    assert_eq!(status(to("other.org").await.unwrap(), "other.org").await.as_deref(), Some("200"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_reads_a_long_answer_over_tls_on_both_sides() {
    let found = Command::new("curl").arg("--version").output();
    if found.is_err() {
        println!("skipped: curl not found");
        return;
    }
    let authority = Authority::new();
    let body: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
    let target = Secure::start(authority.sign("shop.org"), None, body.clone()).await;
    let mut snapshot = secured(target.address);
    let (cert, key) = authority.sign("shop.org");
    snapshot.certificates = vec![Certificate {
        id: "c".into(),
        cert,
        key,
        snis: vec!["shop.org".into()],
        ..Certificate::default()
    }];
    let running = Running::start(snapshot);
    let tls = running.gateway.tls(None).unwrap();
    let any = "127.0.0.1:0".parse().unwrap();
    let listener = Listener { address: any, mode: Mode::Proxy, tls: Some(tls) };
    let address = running.gateway.listen(listener).unwrap();
    let folder = std::env::temp_dir().join(format!("gantry-gateway-tls-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let trusted = folder.join("ca.pem");
    std::fs::write(&trusted, authority.pem()).unwrap();
    for version in ["--http1.1", "--http2"] {
        let output = tokio::process::Command::new("curl")
            .args(["--silent", "--show-error", "--noproxy", "*", "--max-time", "60", version, "--cacert"])
            .arg(&trusted)
            .args(["--resolve", &format!("shop.org:{}:127.0.0.1", address.port())])
            .arg(format!("https://shop.org:{}/", address.port()))
            .output()
            .await
            .unwrap();
        assert!(output.status.success(), "{version}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stdout == body, "{version}: {} bytes", output.stdout.len());
    }
    std::fs::remove_dir_all(&folder).unwrap();
}
