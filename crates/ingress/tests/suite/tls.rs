//! TLS on the way in: an Ingress' Secret and a Gateway's certificates, through an API server and real handshakes.

use crate::objects::{api, catalog, create, told};
use crate::{World, eventually};
use gantry_gateway::Mode;
use gantry_ingress::{Config, GatewayAddresses};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{Api, PostParams};
use rustls_pki_types::ServerName;
use serde_json::json;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A certificate that nobody signed but itself, as clients trust it, and the Secret that holds it.
fn certificate(name: &str, secret: &str) -> (rustls_pki_types::CertificateDer<'static>, Secret) {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let object = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": secret}, "type": "kubernetes.io/tls",
        "stringData": {"tls.crt": made.cert.pem(), "tls.key": made.signing_key.serialize_pem()},
    });
    (made.cert.der().clone(), serde_json::from_value(object).unwrap())
}

async fn get(
    address: SocketAddr,
    name: &'static str,
    trusted: &rustls_pki_types::CertificateDer<'static>,
) -> Option<String> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await.ok()?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let mut stream = connector.connect(ServerName::try_from(name).unwrap(), stream).await.ok()?;
    let request = format!("GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    Some(String::from_utf8_lossy(&answer).into_owned())
}

fn config() -> Config {
    Config {
        tls_listen: Some("127.0.0.1:0".parse().unwrap()),
        gateway_addresses: Some(GatewayAddresses {
            network: [127, 94, (std::process::id() % 256) as u8, 0].into(),
            prefix: 24,
        }),
        ..Config::default()
    }
}

/// The listener of a mode, besides the one that was there at the start.
fn opened(world: &World, fits: impl Fn(&Mode) -> bool) -> Option<SocketAddr> {
    let all = world.gateway.listeners();
    all.into_iter().find(|(address, mode)| *address != world.proxy && fits(mode)).map(|(address, _)| address)
}

#[tokio::test]
async fn an_ingress_is_served_over_tls_with_the_certificate_of_its_secret() {
    let world = World::start_with(config(), false).await;
    catalog(&world).await;
    let _: Ingress = world
        .create(json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "shop"},
            "spec": {
                "ingressClassName": "kong",
                "tls": [{"hosts": ["shop.localhost"], "secretName": "shop-tls"}],
                "rules": [{"host": "shop.localhost", "http": {"paths": [
                    {"path": "/", "pathType": "Prefix",
                     "backend": {"service": {"name": "catalog", "port": {"name": "http"}}}},
                ]}}],
            },
        }))
        .await;
    told(&world, "tls: there is no secret \"shop-tls\" in namespace \"default\"").await;
    assert_eq!(
        opened(&world, |mode| *mode == Mode::Proxy),
        None,
        "nothing to present, nothing to listen for"
    );

    let (trusted, secret) = certificate("shop.localhost", "shop-tls");
    world.api::<Secret>().create(&PostParams::default(), &secret).await.unwrap();
    let address = eventually("the listener", || async { opened(&world, |mode| *mode == Mode::Proxy) }).await;
    eventually("the route", || async {
        get(address, "shop.localhost", &trusted).await.filter(|answer| answer.contains("200 OK"))
    })
    .await;
    assert_eq!(get(address, "other.localhost", &trusted).await, None);
    shown_by_openssl(address, "shop.localhost").await;
}

/// What another implementation of TLS sees.
async fn shown_by_openssl(address: SocketAddr, name: &str) {
    if Command::new("openssl").arg("version").output().is_err() {
        println!("skipped: openssl not found");
        return;
    }
    let client = tokio::task::spawn_blocking({
        let (address, name) = (address.to_string(), name.to_owned());
        move || {
            Command::new("openssl")
                .args(["s_client", "-connect", &address, "-servername", &name, "-alpn", "h2"])
                .stdin(Stdio::null())
                .output()
        }
    });
    let output = client.await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("ALPN protocol: h2"), "{text}");
    assert!(text.contains("BEGIN CERTIFICATE"), "{text}");
}

#[tokio::test]
async fn a_gateway_listens_for_https_once_it_may_use_its_certificate() {
    let world = World::start_with(config(), true).await;
    catalog(&world).await;
    let group = "gateway.networking.k8s.io";
    for object in [
        json!({"apiVersion": format!("{group}/v1"), "kind": "GatewayClass", "metadata": {"name": "kong"},
            "spec": {"controllerName": "konghq.com/kic-gateway-controller"}}),
        json!({"apiVersion": format!("{group}/v1"), "kind": "Gateway", "metadata": {"name": "gw"},
            "spec": {"gatewayClassName": "kong", "listeners": [{"name": "https", "port": 8443,
                "protocol": "HTTPS", "hostname": "gw.localhost",
                "tls": {"certificateRefs": [{"name": "gw-tls", "namespace": "kube-public"}]}}]}}),
        json!({"apiVersion": format!("{group}/v1"), "kind": "HTTPRoute", "metadata": {"name": "r"},
            "spec": {"parentRefs": [{"name": "gw"}],
                "rules": [{"backendRefs": [{"name": "catalog", "port": 8080}]}]}}),
    ] {
        create(&world, object).await;
    }
    let gateway = json!({"apiVersion": format!("{group}/v1"), "kind": "Gateway"});
    let reason = |kind: &'static str| {
        let (world, gateway) = (&world, &gateway);
        async move {
            let status = api(world, gateway).get("gw").await.unwrap().data["status"].clone();
            let conditions = status["listeners"][0]["conditions"].as_array()?.clone();
            let found = conditions.into_iter().find(|one| one["type"] == kind)?;
            Some((found["status"].as_str()?.to_owned(), found["reason"].as_str()?.to_owned()))
        }
    };
    let pair = |status: &str, reason: &str| Some((status.to_owned(), reason.to_owned()));
    eventually("the refusal", || async {
        (reason("ResolvedRefs").await == pair("False", "RefNotPermitted")).then_some(())
    })
    .await;
    assert_eq!(reason("Programmed").await, pair("False", "Invalid"));

    let far: Api<Secret> = Api::namespaced(world.client.clone(), "kube-public");
    let (trusted, secret) = certificate("gw.localhost", "gw-tls");
    far.create(&PostParams::default(), &secret).await.unwrap();
    let grant = json!({"apiVersion": format!("{group}/v1beta1"), "kind": "ReferenceGrant",
        "metadata": {"name": "grant"}, "spec": {
            "from": [{"group": group, "kind": "Gateway", "namespace": "default"}],
            "to": [{"group": "", "kind": "Secret", "name": "gw-tls"}]}});
    let typed: kube::api::DynamicObject = serde_json::from_value(grant.clone()).unwrap();
    crate::objects::api_in(&world, &grant, "kube-public")
        .create(&PostParams::default(), &typed)
        .await
        .unwrap();
    eventually("the listener", || async {
        (reason("Programmed").await == pair("True", "Programmed")).then_some(())
    })
    .await;
    let is_entrance = |mode: &Mode| matches!(mode, Mode::Entrance { name } if name == "default/gw:8443");
    let address = eventually("the port", || async { opened(&world, is_entrance) }).await;
    assert_eq!(address.port(), 8443);
    eventually("the route", || async {
        get(address, "gw.localhost", &trusted).await.filter(|answer| answer.contains("200 OK"))
    })
    .await;
    eventually("the address", || async {
        let status = api(&world, &gateway).get("gw").await.unwrap().data["status"].clone();
        (status["addresses"][0]["value"] == address.ip().to_string()).then_some(())
    })
    .await;
}
