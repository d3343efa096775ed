//! What the Gateway API's conformance requests are sent to: a gateway with a listener for each port of each Gateway, servers
//! behind all Services, and the certificates that the suite makes for itself.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gantry_gateway::{Gateway, Listener, Mode};
use gantry_ingress::{CONTROLLER_NAME, Translator, Way};
use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::{Value, json};

use super::kic_golden::{input, objects};

const CLASS: &str = "kong";
/// The first byte of a connection over TLS.
const HANDSHAKE: u8 = 22;
/// A name for requests that are meant for the gateway's address.
pub(super) const ANY_HOST: &str = "gateway.invalid";
/// Tells the answering server to add fields, as the suite's own does.
const SET_HEADER: &str = "x-echo-set-header";
/// What the suite makes when it starts: a certificate in this Secret, and authorities in these ConfigMaps.
const OWN_CERTIFICATES: [(&str, &str); 2] = [
    ("gateway-conformance-infra", "tls-validity-checks-certificate"),
    ("gateway-conformance-web-backend", "certificate"),
];
const OWN_AUTHORITIES: [&str; 2] =
    ["tls-validity-checks-ca-certificate", "tls-validity-checks-per-port-ca-certificate"];

/// Requests that servers have seen: namespace, service and path, without the query.
type Seen = Arc<Mutex<BTreeMap<(String, String, String), usize>>>;

pub(super) struct World {
    pub(super) gateway: Gateway,
    translator: Translator,
    authority: Authority,
    seen: Seen,
    /// The listener for all routes.
    main: SocketAddr,
}

/// Where a request may be sent.
#[derive(Clone, Debug)]
pub(super) struct Door {
    pub(super) address: SocketAddr,
    /// As the Gateway has it.
    pub(super) port: u16,
    pub(super) is_tls: bool,
}

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Result<Authority, String> {
        let made = || -> Result<_, rcgen::Error> {
            let mut params = CertificateParams::new(Vec::new())?;
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            CertifiedIssuer::self_signed(params, KeyPair::generate()?)
        };
        made().map(Authority).map_err(|error| error.to_string())
    }

    /// How servers speak TLS under the names of a test.
    fn server(&self, names: &[String]) -> Result<Arc<rustls::ServerConfig>, String> {
        let (cert, key) = self.sign(names.to_vec())?;
        let cert = CertificateDer::from_pem_slice(cert.as_bytes()).map_err(|error| error.to_string())?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| error.to_string())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![cert], key));
        config.map(Arc::new).map_err(|error| error.to_string())
    }

    /// Chain and key in PEM.
    fn sign(&self, names: Vec<String>) -> Result<(String, String), String> {
        let made = || -> Result<_, rcgen::Error> {
            let key = KeyPair::generate()?;
            let signed = CertificateParams::new(names)?.signed_by(&key, &self.0)?;
            Ok((signed.pem(), key.serialize_pem()))
        };
        made().map_err(|error| error.to_string())
    }
}

impl World {
    pub(super) fn new(gateway: Gateway) -> Result<World, String> {
        let main = gateway.listeners().first().map(|listener| listener.0).ok_or("it listens nowhere")?;
        let (translator, seen) = (Translator::new(), Seen::default());
        Ok(World { gateway, translator, authority: Authority::new()?, seen, main })
    }

    /// Serves a test's manifests; gives the doors of the Gateways that its routes name, in their order.
    pub(super) fn apply(&self, folder: &Path, test: &Value, hosts: &[String]) -> Result<Vec<Door>, String> {
        let mut all = Vec::new();
        let base = "base-manifests.yaml".to_owned();
        let manifests = test["manifests"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let named = manifests.map(|name| name.replacen("tests/", "conformance/", 1));
        let mut own = 0;
        for (number, file) in std::iter::once(base).chain(named).enumerate() {
            let path = folder.join(&file);
            let text = std::fs::read_to_string(&path).map_err(|error| format!("{file}: {error}"))?;
            all.extend(objects(&text.replace("{GATEWAY_CLASS_NAME}", CLASS)));
            if number == 0 {
                own = all.len();
            }
        }
        all.push(json!({"kind": "GatewayClass", "metadata": {"name": CLASS},
            "spec": {"controllerName": CONTROLLER_NAME}}));
        all.extend(self.certificates(hosts)?);
        for object in &mut all {
            let has_namespace = object["metadata"]["namespace"].is_string();
            if !has_namespace && object["kind"] != "GatewayClass" && object["kind"] != "Namespace" {
                object["metadata"]["namespace"] = json!("default");
            }
        }
        let services = all.iter().filter(|object| object["kind"] == "Service");
        let tls = self.authority.server(hosts)?;
        let slices: Vec<Value> = services.filter_map(|service| endpoint(service, &self.seen, &tls)).collect();
        let gateways = gateways(&all[own..], &all);
        all.extend(slices);
        let translation = self.translator.translate(&input(&all)?);
        self.gateway.apply(translation.for_gateway()).map_err(|error| error.to_string())?;
        self.open(&gateways, &translation.ways)
    }

    /// Listens for the ways in of `gateways`, and no longer for those of the test before.
    fn open(&self, gateways: &[(String, String)], ways: &[Way]) -> Result<Vec<Door>, String> {
        for (address, _) in self.gateway.listeners() {
            if address != self.main {
                self.gateway.unlisten(address);
            }
        }
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut out = Vec::new();
        for (namespace, name) in gateways {
            let own =
                ways.iter().filter(|way| way.gateway.namespace() == namespace && way.gateway.name() == name);
            for way in own {
                let mode = Mode::Entrance { name: way.entrance.clone() };
                let listener = Listener { address: any, mode, tls: None };
                let address = self.gateway.listen(listener).map_err(|error| error.to_string())?;
                out.push(Door { address, port: way.port, is_tls: way.is_tls });
            }
        }
        // Routes of no Gateway lead nowhere, which is asked of the listener for all routes.
        if out.is_empty() {
            out.push(Door { address: self.main, port: 80, is_tls: false });
        }
        Ok(out)
    }

    fn certificates(&self, hosts: &[String]) -> Result<Vec<Value>, String> {
        let (cert, key) = self.authority.sign(hosts.to_vec())?;
        let (cert, key) = (base64(cert.as_bytes()), base64(key.as_bytes()));
        let secrets = OWN_CERTIFICATES.iter().map(|(namespace, name)| {
            json!({"kind": "Secret", "metadata": {"name": name, "namespace": namespace},
                "type": "kubernetes.io/tls", "data": {"tls.crt": cert, "tls.key": key}})
        });
        let authorities = OWN_AUTHORITIES.iter().map(|name| {
            json!({"kind": "ConfigMap",
                "metadata": {"name": name, "namespace": "gateway-conformance-infra"},
                "data": {"ca.crt": self.authority.0.pem()}})
        });
        Ok(secrets.chain(authorities).collect())
    }

    /// How often a service has seen a path.
    pub(super) fn seen(&self, namespace: &str, service: &str, path: &str) -> usize {
        let key = (namespace.to_owned(), service.to_owned(), path.to_owned());
        self.seen.lock().get(&key).copied().unwrap_or(0)
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// The Gateways that the routes among `own` name, by themselves or through a ListenerSet, in the order of their naming.
fn gateways(own: &[Value], all: &[Value]) -> Vec<(String, String)> {
    let mut out: Vec<(String, String)> = Vec::new();
    let text = |value: &Value, absent: &str| value.as_str().unwrap_or(absent).to_owned();
    for object in
        own.iter().filter(|object| object["kind"].as_str().is_some_and(|kind| kind.ends_with("Route")))
    {
        let namespace = text(&object["metadata"]["namespace"], "default");
        for parent in object["spec"]["parentRefs"].as_array().into_iter().flatten() {
            let mut named = (text(&parent["namespace"], &namespace), text(&parent["name"], ""));
            if parent["kind"] == "ListenerSet" {
                let set = all.iter().find(|set| {
                    set["kind"] == "ListenerSet"
                        && set["metadata"]["namespace"] == named.0
                        && set["metadata"]["name"] == named.1
                });
                let Some(set) = set else { continue };
                let parent = &set["spec"]["parentRef"];
                named = (text(&parent["namespace"], &named.0), text(&parent["name"], ""));
            }
            if !out.contains(&named) {
                out.push(named);
            }
        }
    }
    out
}

/// A slice with one server for all ports of a Service, which answers over TLS whoever begins with that.
fn endpoint(service: &Value, seen: &Seen, tls: &Arc<rustls::ServerConfig>) -> Option<Value> {
    let (name, namespace) =
        (service["metadata"]["name"].as_str()?, service["metadata"]["namespace"].as_str()?);
    let listener = TcpListener::bind("127.0.0.1:0").ok()?;
    let address = listener.local_addr().ok()?;
    let (own_name, own_namespace) = (name.to_owned(), namespace.to_owned());
    let (seen, tls) = (Arc::clone(seen), Arc::clone(tls));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (name, namespace, seen) = (own_name.clone(), own_namespace.clone(), Arc::clone(&seen));
            let tls = Arc::clone(&tls);
            std::thread::spawn(move || {
                let mut first = [0u8; 1];
                let is_tls = matches!(stream.peek(&mut first), Ok(1)) && first[0] == HANDSHAKE;
                // A client that went away has nothing to be told.
                match rustls::ServerConnection::new(tls) {
                    Ok(session) if is_tls => {
                        let stream = rustls::StreamOwned::new(session, stream);
                        if let Ok(mut stream) = echo(stream, &name, &namespace, &seen) {
                            stream.conn.send_close_notify();
                            let _ = stream.flush();
                        }
                    }
                    _ => drop(echo(stream, &name, &namespace, &seen)),
                }
            });
        }
    });
    let ports: Vec<Value> = service["spec"]["ports"]
        .as_array()?
        .iter()
        .map(|port| json!({"name": port["name"], "port": address.port(), "protocol": "TCP"}))
        .collect();
    Some(json!({"kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": namespace, "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address.ip().to_string()], "conditions": {"ready": true}}],
        "ports": ports}))
}

/// Fields by lower-case name, several of a name joined.
pub(super) type Fields = BTreeMap<String, String>;

/// The first line and the fields of a message.
fn read_head(reader: &mut impl BufRead) -> std::io::Result<Option<(String, Fields)>> {
    let mut first = String::new();
    if reader.read_line(&mut first)? == 0 {
        return Ok(None);
    }
    let mut fields = Fields::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            return Ok(Some((first.trim_end().to_owned(), fields)));
        }
        let Some((name, value)) = line.trim_end().split_once(':') else { continue };
        let value = value.trim();
        let known = fields.entry(name.to_ascii_lowercase());
        known.and_modify(|known| *known = format!("{known},{value}")).or_insert_with(|| value.to_owned());
    }
}

/// Answers requests with what they were, until the connection ends or is to end; gives it back then.
fn echo<S: Read + Write>(stream: S, name: &str, namespace: &str, seen: &Seen) -> std::io::Result<S> {
    let mut reader = BufReader::new(stream);
    while let Some((first, fields)) = read_head(&mut reader)? {
        let length = fields.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        std::io::copy(&mut Read::by_ref(&mut reader).take(length), &mut std::io::sink())?;
        let mut words = first.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let bare = path.split('?').next().unwrap_or_default().to_owned();
        *seen.lock().entry((namespace.to_owned(), name.to_owned(), bare)).or_default() += 1;
        std::thread::sleep(asked_delay(path));
        let body = json!({"service": name, "namespace": namespace, "method": method, "path": path, "fields": fields});
        let body = body.to_string();
        let mut extra = String::new();
        for pair in fields.get(SET_HEADER).map(String::as_str).unwrap_or_default().split(',') {
            if let Some((name, value)) = pair.split_once(':') {
                extra.push_str(&format!("{}: {}\r\n", name.trim(), value.trim()));
            }
        }
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{extra}\r\n", body.len());
        let writer = reader.get_mut();
        writer.write_all(head.as_bytes())?;
        if method != "HEAD" {
            writer.write_all(body.as_bytes())?;
        }
        writer.flush()?;
        if fields.get("connection").is_some_and(|option| option == "close") {
            break;
        }
    }
    Ok(reader.into_inner())
}

/// How long the answer is to take: `delay=1s` in the query.
fn asked_delay(path: &str) -> Duration {
    let text = path.split_once("delay=").map_or("", |(_, text)| text.split('&').next().unwrap_or_default());
    let (unit, number) = match text.strip_suffix("ms") {
        Some(number) => (1, number),
        None => (1_000, text.trim_end_matches('s')),
    };
    Duration::from_millis(number.parse::<u64>().unwrap_or(0) * unit)
}

pub(super) struct Answer {
    pub(super) status: u64,
    pub(super) fields: Fields,
    pub(super) body: String,
}

/// Whatever bytes go over.
trait Connection: Read + Write {}

impl<T: Read + Write> Connection for T {}

impl World {
    fn connect(
        &self,
        door: &Door,
        host: &str,
        shows_certificate: bool,
    ) -> Result<Box<dyn Connection>, String> {
        let stream = TcpStream::connect(door.address).map_err(|error| error.to_string())?;
        stream.set_read_timeout(Some(Duration::from_secs(20))).map_err(|error| error.to_string())?;
        if !door.is_tls {
            return Ok(Box::new(stream));
        }
        let mut roots = rustls::RootCertStore::empty();
        let authority = CertificateDer::from_pem_slice(self.authority.0.pem().as_bytes());
        roots.add(authority.map_err(|error| error.to_string())?).map_err(|error| error.to_string())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots);
        let config = if shows_certificate {
            let (cert, key) = self.authority.sign(vec!["client".to_owned()])?;
            let cert = CertificateDer::from_pem_slice(cert.as_bytes()).map_err(|error| error.to_string())?;
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| error.to_string())?;
            builder.with_client_auth_cert(vec![cert], key).map_err(|error| error.to_string())?
        } else {
            builder.with_no_client_auth()
        };
        let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
        let session =
            rustls::ClientConnection::new(Arc::new(config), name).map_err(|error| error.to_string())?;
        Ok(Box::new(rustls::StreamOwned::new(session, stream)))
    }

    /// Sends the request of an expectation.
    pub(super) fn ask(
        &self,
        door: &Door,
        expectation: &Value,
        shows_certificate: bool,
    ) -> Result<Answer, String> {
        let request = &expectation["Request"];
        if request["Protocol"].get("$expr").is_some() {
            return Err("the request is not in HTTP/1.1".to_owned());
        }
        let text = |value: &Value, absent: &str| value.as_str().unwrap_or(absent).to_owned();
        let usual = if door.is_tls { 443 } else { 80 };
        let address =
            if door.port == usual { ANY_HOST.to_owned() } else { format!("{ANY_HOST}:{}", door.port) };
        let host = text(&request["Host"], &address);
        let mut head = format!(
            "{} {} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n",
            text(&request["Method"], "GET"),
            text(&request["Path"], "/"),
        );
        let pairs = |value: &Value| -> Vec<(String, String)> {
            let map = value.as_object().cloned().unwrap_or_default();
            map.into_iter().map(|(name, value)| (name, text(&value, ""))).collect()
        };
        for (name, value) in pairs(&request["Headers"]) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let set: Vec<String> = pairs(&expectation["BackendSetResponseHeaders"])
            .into_iter()
            .map(|(name, value)| format!("{name}:{value}"))
            .collect();
        if !set.is_empty() {
            head.push_str(&format!("{SET_HEADER}: {}\r\n", set.join(",")));
        }
        head.push_str("Content-Length: 0\r\n\r\n");
        let bare = host.split(':').next().unwrap_or_default();
        let mut stream = self.connect(door, bare, shows_certificate)?;
        let asked = || -> std::io::Result<Option<Answer>> {
            stream.write_all(head.as_bytes())?;
            stream.flush()?;
            let mut reader = BufReader::new(stream);
            let Some((first, fields)) = read_head(&mut reader)? else { return Ok(None) };
            let mut body = String::new();
            reader.read_to_string(&mut body)?;
            let status = first.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
            Ok(Some(Answer { status, fields, body }))
        };
        asked().map_err(|error| error.to_string())?.ok_or_else(|| "no answer".to_owned())
    }
}
