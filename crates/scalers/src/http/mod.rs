//! Requests of HTTP sources: one pooled client per TLS configuration, bounded in time and size.

mod auth;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

pub(crate) use auth::Auth;

use crate::config::Secret;

/// Larger answers are refused.
const LARGEST_BODY: usize = 8 << 20;
/// TLS configurations that may be in use at once.
const MOST_CLIENTS: usize = 1024;
const IDLE: Duration = Duration::from_secs(90);

/// Leads names that only the cluster knows to an address.
pub trait Resolve: Send + Sync + 'static {
    /// Where `host:port` is served; `None` when the name is no Service's and the system should be asked.
    fn resolve(&self, host: &str, port: u16) -> Option<SocketAddr>;
}

/// How a server is trusted, and who we are to it; equal ones share a client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct HttpTls {
    pub(crate) is_unsafe: bool,
    pub(crate) authority: Secret,
    pub(crate) certificate: Secret,
    pub(crate) key: Secret,
}

pub(crate) struct HttpClients {
    resolve: Option<Arc<dyn Resolve>>,
    clients: Mutex<HashMap<HttpTls, Weak<HttpClient>>>,
}

pub(crate) struct HttpClient {
    resolve: Option<Arc<dyn Resolve>>,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

/// A request to a source.
pub(crate) struct Ask<'a> {
    pub(crate) method: Method,
    pub(crate) uri: &'a str,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) timeout: Duration,
}

impl<'a> Ask<'a> {
    pub(crate) fn get(uri: &'a str, timeout: Duration) -> Ask<'a> {
        Ask { method: Method::GET, uri, headers: HeaderMap::new(), body: Bytes::new(), timeout }
    }
}

impl HttpClients {
    pub(crate) fn new(resolve: Option<Arc<dyn Resolve>>) -> HttpClients {
        HttpClients { resolve, clients: Mutex::default() }
    }

    pub(crate) fn client(&self, tls: &HttpTls) -> Result<Arc<HttpClient>, String> {
        let mut clients = self.clients.lock();
        if let Some(known) = clients.get(tls).and_then(Weak::upgrade) {
            return Ok(known);
        }
        clients.retain(|_, client| client.strong_count() > 0);
        if clients.len() >= MOST_CLIENTS {
            return Err(format!("more than {MOST_CLIENTS} TLS configurations are in use"));
        }
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls_config(tls)?)
            .https_or_http()
            .enable_http1()
            .build();
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_timer(hyper_util::rt::TokioTimer::new())
            .pool_max_idle_per_host(2)
            .build(connector);
        let client = Arc::new(HttpClient { resolve: self.resolve.clone(), client });
        clients.insert(tls.clone(), Arc::downgrade(&client));
        Ok(client)
    }
}

impl HttpClient {
    /// The body of a successful answer. Errors hold neither query nor credentials.
    pub(crate) async fn ask(&self, ask: Ask<'_>) -> Result<Bytes, String> {
        let (status, body) = self.ask_any(ask).await?;
        if status.is_success() {
            return Ok(body);
        }
        let text = String::from_utf8_lossy(&body);
        let hint: String = text.chars().take(200).filter(|c| !c.is_control()).collect();
        Err(format!("the server answered {status}: {hint}"))
    }

    /// Status and body, whatever the status is.
    pub(crate) async fn ask_any(&self, ask: Ask<'_>) -> Result<(http::StatusCode, Bytes), String> {
        let uri: Uri = ask.uri.parse().map_err(|_| "the address is not a URL".to_owned())?;
        let shown = shown(&uri);
        let mut request = Request::new(Full::new(ask.body));
        *request.method_mut() = ask.method;
        *request.headers_mut() = ask.headers;
        if let Some(host) = uri.host() {
            let host = uri.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
            let host =
                HeaderValue::from_str(&host).map_err(|_| "the address has no valid host".to_owned())?;
            request.headers_mut().entry(header::HOST).or_insert(host);
        }
        *request.uri_mut() = self.place(uri)?;
        let answered = async {
            let response = self.client.request(request).await.map_err(|error| chain(&error))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), LARGEST_BODY).collect().await;
            let body = body.map_err(|error| format!("the answer could not be read: {error}"))?;
            Ok((status, body.to_bytes()))
        };
        let timeout = ask.timeout;
        match tokio::time::timeout(timeout, answered).await {
            Ok(answer) => answer.map_err(|error: String| format!("{shown}: {error}")),
            Err(_) => Err(format!("{shown}: no answer within {timeout:?}")),
        }
    }

    /// Plain HTTP to a Service goes to one of its pods; with TLS the name is needed.
    fn place(&self, uri: Uri) -> Result<Uri, String> {
        let (Some(resolve), Some(host)) = (&self.resolve, uri.host()) else { return Ok(uri) };
        if uri.scheme_str() != Some("http") {
            return Ok(uri);
        }
        let Some(known) = resolve.resolve(host, uri.port_u16().unwrap_or(80)) else { return Ok(uri) };
        let mut parts = uri.into_parts();
        parts.authority =
            Some(known.to_string().parse().map_err(|_| "the Service has no usable address".to_owned())?);
        Uri::from_parts(parts).map_err(|error| error.to_string())
    }
}

/// What of an address an error may tell: neither user nor path nor query, which hold credentials.
fn shown(uri: &Uri) -> String {
    let (scheme, host) = (uri.scheme_str().unwrap_or("http"), uri.host().unwrap_or_default());
    uri.port().map_or_else(|| format!("{scheme}://{host}"), |port| format!("{scheme}://{host}:{port}"))
}

/// The error with its causes, which say what really happened.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

pub(crate) fn tls_config(tls: &HttpTls) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = if tls.is_unsafe {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
    } else {
        builder.with_root_certificates(roots(&tls.authority)?)
    };
    if tls.certificate.is_empty() {
        return Ok(builder.with_no_client_auth());
    }
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_slice_iter(tls.certificate.expose().as_bytes()).collect();
    let chain = chain.map_err(|_| "cert holds no PEM certificate".to_owned())?;
    let key = PrivateKeyDer::from_pem_slice(tls.key.expose().as_bytes())
        .map_err(|_| "key holds no PEM private key without encryption".to_owned())?;
    builder.with_client_auth_cert(chain, key).map_err(|_| "cert and key do not fit together".to_owned())
}

/// The system's authorities and the one that is given.
fn roots(authority: &Secret) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if !authority.is_empty() {
        let given: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(authority.expose().as_bytes()).collect();
        let given = given.map_err(|_| "ca holds no PEM certificate".to_owned())?;
        if given.is_empty() {
            return Err("ca holds no PEM certificate".into());
        }
        roots.add_parsable_certificates(given);
    }
    Ok(roots)
}

/// For `unsafeSsl`: the user asked for a connection whose peer is not verified.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Text as part of a query.
pub(crate) fn query_escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' ' => out.push('+'),
            byte if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) => out.push(char::from(byte)),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
