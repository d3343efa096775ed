//! Certificates by server name, swapped with the configuration: new handshakes see the new ones, open connections go on.

use crate::entities::{Certificate, EntranceTls};
use crate::snapshot::ConfigError;
use crate::upstream_tls::roots;
use arc_swap::ArcSwap;
use gantry_kong_model::{certificate_names, read_certificates, read_key};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use std::collections::HashMap;
use std::sync::Arc;

#[derive(Debug, Default)]
struct Names {
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// Behind `*.`.
    leading: HashMap<String, Arc<CertifiedKey>>,
    /// Before `.*`.
    trailing: HashMap<String, Arc<CertifiedKey>>,
    /// For names nobody has a certificate for.
    fallback: Option<Arc<CertifiedKey>>,
    /// Whether `*.` stands for more than one label.
    is_deep: bool,
}

/// The resolver of a gateway's TLS listeners.
#[derive(Debug, Default)]
pub(crate) struct Certificates {
    names: ArcSwap<Names>,
    default: ArcSwap<Option<Arc<CertifiedKey>>>,
}

fn certified(cert: &str, key: &str) -> Result<Arc<CertifiedKey>, String> {
    let chain = read_certificates(cert)?;
    let key =
        rustls::crypto::ring::sign::any_supported_type(&read_key(key)?).map_err(|error| error.to_string())?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {
            Ok(Arc::new(certified))
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Whether a chain in PEM and a key can be presented together.
pub fn check_certificate(cert: &str, key: &str) -> Result<(), String> {
    certified(cert, key).map(drop)
}

/// Certificates ready to be swapped in.
pub(crate) struct Checked(Names);

/// Reads the certificates of a configuration.
pub(crate) fn check(certificates: &[Certificate]) -> Result<Checked, ConfigError> {
    Ok(Checked(Names::read(certificates)?))
}

impl Names {
    fn read(certificates: &[Certificate]) -> Result<Names, ConfigError> {
        let mut names = Names::default();
        for certificate in certificates {
            let key = certified(&certificate.cert, &certificate.key).map_err(|reason| ConfigError {
                entity: "certificate",
                name: certificate.id.clone(),
                field: "cert".into(),
                reason,
            })?;
            for name in &certificate.snis {
                let name = name.to_ascii_lowercase();
                if name == "*" {
                    names.fallback = Some(Arc::clone(&key));
                } else if let Some(rest) = name.strip_prefix("*.") {
                    names.leading.insert(rest.to_owned(), Arc::clone(&key));
                } else if let Some(rest) = name.strip_suffix(".*") {
                    names.trailing.insert(rest.to_owned(), Arc::clone(&key));
                } else {
                    names.exact.insert(name, Arc::clone(&key));
                }
            }
        }
        Ok(names)
    }

    /// The certificate of a name, in lower case.
    fn of(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        if let Some(key) = self.exact.get(name) {
            return Some(key);
        }
        let mut rest = name;
        while let Some((_, behind)) = rest.split_once('.') {
            if let Some(key) = self.leading.get(behind) {
                return Some(key);
            }
            if !self.is_deep {
                break;
            }
            rest = behind;
        }
        name.rsplit_once('.').and_then(|(start, _)| self.trailing.get(start))
    }
}

/// The certificates of an entrance, which presents no others.
impl ResolvesServerCert for Names {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase);
        name.and_then(|name| self.of(&name)).or(self.fallback.as_ref()).cloned()
    }
}

/// The TLS settings of an entrance.
pub(crate) fn of_entrance(name: &str, tls: &EntranceTls) -> Result<Arc<rustls::ServerConfig>, ConfigError> {
    let error = |field: &str, reason: String| ConfigError {
        entity: "entrance",
        name: name.to_owned(),
        field: field.to_owned(),
        reason,
    };
    let mut names = Names::read(&tls.certificates)?;
    names.is_deep = true;
    for certificate in tls.certificates.iter().filter(|certificate| certificate.snis.is_empty()) {
        let key = certified(&certificate.cert, &certificate.key);
        names.fallback = Some(key.map_err(|reason| error("certificates", reason))?);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|reason| error("tls", reason.to_string()))?;
    // Where every client may come in none is asked for a certificate.
    let builder = match tls.clients.as_ref().filter(|clients| clients.is_required) {
        None => builder.with_no_client_auth(),
        Some(clients) => {
            let roots = roots(&clients.authorities).map_err(|reason| error("clients", reason))?;
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|reason| error("clients", reason.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(names));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

impl Certificates {
    pub(crate) fn install(&self, checked: Checked) {
        self.names.store(Arc::new(checked.0));
    }

    /// What is presented when no certificate fits.
    pub(crate) fn set_default(&self, cert: &str, key: &str) -> Result<Vec<String>, String> {
        let certified = certified(cert, key)?;
        let names = certified.cert.first().map(certificate_names).unwrap_or_default();
        self.default.store(Arc::new(Some(certified)));
        Ok(names)
    }

    fn find(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let names = self.names.load();
        let default = || names.fallback.clone().or_else(|| self.default.load().as_ref().clone());
        let Some(name) = name else { return default() };
        let name = name.to_ascii_lowercase();
        names.of(&name).cloned().or_else(default)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.find(hello.server_name())
    }
}

/// The TLS settings of listeners that present `certificates`, for HTTP/2 and HTTP/1.1.
pub(crate) fn server_config(
    certificates: Arc<Certificates>,
) -> Result<Arc<rustls::ServerConfig>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
