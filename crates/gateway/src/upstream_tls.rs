//! TLS towards targets: what is presented to them, what they are checked against, and the settings of it shared between
//! services, so that sessions are resumed and connections kept across configurations.
//!
//! As in Kong, a certificate is only checked where `tls_verify` asks for that, and the name it must be for is the host that
//! the request is sent with.

use crate::entities::{Protocol, Service, Snapshot};
use crate::snapshot::ConfigError;
use gantry_kong_model::{read_certificates, read_key};
use parking_lot::Mutex;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// What makes connections differ: all of it, so that none is used under other settings than its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Settings {
    verifies: bool,
    depth: Option<u16>,
    /// In PEM; those of the node where there are none.
    authorities: Vec<String>,
    /// Chain and key in PEM.
    client: Option<(String, String)>,
}

/// How the targets of a service are spoken to.
#[derive(Debug)]
pub(crate) struct UpstreamTls {
    config: Arc<ClientConfig>,
    number: u64,
}

/// A connection's settings and the name it was opened for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TlsPeer {
    settings: u64,
    name: String,
}

/// The settings in use.
#[derive(Debug, Default)]
pub(crate) struct TlsSettings {
    known: Mutex<HashMap<Settings, Arc<UpstreamTls>>>,
    next: AtomicU64,
}

/// The name that a target is asked for and checked against: the host without its port.
fn bare(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    host.split(':').next().unwrap_or(host)
}

impl UpstreamTls {
    /// What connections for a request to `host` are kept under.
    pub(crate) fn peer(&self, host: &str) -> TlsPeer {
        TlsPeer { settings: self.number, name: bare(host).to_ascii_lowercase() }
    }

    /// Shakes hands over a connection to a target.
    pub(crate) async fn connect(&self, host: &str, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(bare(host).to_owned())
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "the host is no name that TLS knows"))?;
        TlsConnector::from(Arc::clone(&self.config)).connect(name, stream).await
    }
}

/// Whether the targets of a service are spoken to over TLS.
pub(crate) fn is_tls(protocol: Protocol) -> bool {
    matches!(protocol, Protocol::Https | Protocol::Tls)
}

impl TlsSettings {
    /// Forgets the settings that no service has any more.
    pub(crate) fn sweep(&self) {
        self.known.lock().retain(|_, tls| Arc::strong_count(tls) > 1);
    }

    /// The settings of a service; `None` for one without TLS. `trusted` is what the node trusts, in PEM.
    pub(crate) fn of_service(
        &self,
        service: &Service,
        upstream_certificate: Option<&str>,
        snapshot: &Snapshot,
        trusted: Option<&str>,
    ) -> Result<Option<Arc<UpstreamTls>>, ConfigError> {
        let error = |field: &str, reason: String| ConfigError {
            entity: "service",
            name: service.label().to_owned(),
            field: field.to_owned(),
            reason,
        };
        if !is_tls(service.protocol) {
            return Ok(None);
        }
        let verifies = service.tls_verify.unwrap_or(false);
        let mut authorities = Vec::new();
        for id in service.ca_certificates.iter().flatten() {
            let found = snapshot.ca_certificates.iter().find(|known| known.id == *id);
            let found = found
                .ok_or_else(|| error("ca_certificates", format!("there is no ca_certificate {id:?}")))?;
            authorities.push(found.cert.clone());
        }
        if authorities.is_empty() && verifies {
            let reason =
                "needs ca_certificates, or certificates that the node trusts (lua_ssl_trusted_certificate)";
            authorities.push(trusted.ok_or_else(|| error("tls_verify", reason.to_owned()))?.to_owned());
        }
        let client = service.client_certificate.as_deref().or(upstream_certificate);
        let client = client.map(|id| -> Result<_, ConfigError> {
            let found = snapshot.certificates.iter().find(|known| known.id == id);
            let found = found
                .ok_or_else(|| error("client_certificate", format!("there is no certificate {id:?}")))?;
            Ok((found.cert.clone(), found.key.clone()))
        });
        let settings =
            Settings { verifies, depth: service.tls_verify_depth, authorities, client: client.transpose()? };
        let mut known = self.known.lock();
        if let Some(tls) = known.get(&settings) {
            return Ok(Some(Arc::clone(tls)));
        }
        let config = settings.config().map_err(|(field, reason)| error(field, reason))?;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let tls = Arc::new(UpstreamTls { config: Arc::new(config), number });
        known.insert(settings, Arc::clone(&tls));
        Ok(Some(tls))
    }
}

/// A store of authorities in PEM.
pub(crate) fn roots(texts: &[String]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for text in texts {
        let (added, _) = roots.add_parsable_certificates(read_certificates(text)?);
        if added == 0 {
            return Err("found no certificate that can sign others".to_owned());
        }
    }
    Ok(roots)
}

impl Settings {
    fn config(&self) -> Result<ClientConfig, (&'static str, String)> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = match self.verifies {
            false => Arc::new(Unchecked(Arc::clone(&provider))),
            true => {
                let roots = roots(&self.authorities).map_err(|reason| ("ca_certificates", reason))?;
                let inner =
                    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                        .build()
                        .map_err(|error| ("ca_certificates", error.to_string()))?;
                Arc::new(Checked { inner, depth: self.depth })
            }
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| ("protocol", error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match &self.client {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let field = "client_certificate";
                let chain = read_certificates(chain).map_err(|reason| (field, reason))?;
                let key = read_key(key).map_err(|reason| (field, reason))?;
                builder.with_client_auth_cert(chain, key).map_err(|error| (field, error.to_string()))?
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

/// Takes every certificate, but only from whoever has its key.
#[derive(Debug)]
struct Unchecked(Arc<CryptoProvider>);

impl ServerCertVerifier for Unchecked {
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

/// Checks chain and name, and how long the chain is.
#[derive(Debug)]
struct Checked {
    inner: Arc<WebPkiServerVerifier>,
    depth: Option<u16>,
}

impl ServerCertVerifier for Checked {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.depth.is_some_and(|depth| intermediates.len() > usize::from(depth)) {
            return Err(CertificateError::UnknownIssuer.into());
        }
        self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn https() -> Service {
        Service { host: "shop.org".into(), protocol: Protocol::Https, ..Service::default() }
    }

    #[test]
    fn services_with_the_same_settings_share_them() {
        let store = TlsSettings::default();
        let of = |service: &Service| store.of_service(service, None, &Snapshot::default(), None).unwrap();
        let (first, second) = (of(&https()).unwrap(), of(&https()).unwrap());
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!(first.peer("Shop.org:443"), second.peer("shop.org"));
        assert!(of(&Service { protocol: Protocol::Http, ..https() }).is_none());
        drop((first, second));
        store.sweep();
        assert!(store.known.lock().is_empty());
    }

    #[test]
    fn what_is_missing_is_an_error_of_its_field() {
        let store = TlsSettings::default();
        let field = |service: Service| {
            let error = store.of_service(&service, None, &Snapshot::default(), None).unwrap_err();
            (error.entity, error.field)
        };
        let named = |field: &str| ("service", field.to_owned());
        assert_eq!(field(Service { tls_verify: Some(true), ..https() }), named("tls_verify"));
        let unknown = Some("nobody".to_owned());
        assert_eq!(
            field(Service { client_certificate: unknown.clone(), ..https() }),
            named("client_certificate")
        );
        assert_eq!(
            field(Service { ca_certificates: unknown.map(|id| vec![id]), ..https() }),
            named("ca_certificates")
        );
    }

    #[test]
    fn the_name_is_the_host_without_its_port() {
        assert_eq!((bare("a.org:8443"), bare("[::1]:8443"), bare("a.org")), ("a.org", "::1", "a.org"));
    }
}
