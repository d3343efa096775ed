//! TLS for listeners: certificates in PEM, replaced while running, client certificates when an authority is given.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// The certificate a listener shows, swappable while connections are open: those keep the one they began with.
#[derive(Clone)]
pub struct TlsConfig {
    current: Arc<ArcSwap<rustls::ServerConfig>>,
}

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("the {what} is not valid PEM: {error}")]
    Pem { what: &'static str, error: rustls_pki_types::pem::Error },
    #[error("the {what} holds no certificate")]
    NoCertificate { what: &'static str },
    #[error("the client authority cannot be used: {0}")]
    ClientAuthority(String),
    #[error("the certificate and its key do not make a TLS configuration: {0}")]
    Rustls(#[from] rustls::Error),
}

struct Pem<'a> {
    certificate_chain: &'a str,
    private_key: &'a str,
    client_authority: Option<&'a str>,
}

impl TlsConfig {
    /// `client_authority`: when given, a client *may* show a certificate signed by it (the service decides what an
    /// anonymous client may do); one signed by anyone else is refused.
    pub fn from_pem(
        certificate_chain: &str,
        private_key: &str,
        client_authority: Option<&str>,
    ) -> Result<TlsConfig, TlsError> {
        let pem = Pem { certificate_chain, private_key, client_authority };
        Ok(TlsConfig { current: Arc::new(ArcSwap::from_pointee(server_config(&pem)?)) })
    }

    /// New connections use the new certificate; on an error the old one stays.
    pub fn replace(
        &self,
        certificate_chain: &str,
        private_key: &str,
        client_authority: Option<&str>,
    ) -> Result<(), TlsError> {
        let pem = Pem { certificate_chain, private_key, client_authority };
        self.current.store(Arc::new(server_config(&pem)?));
        Ok(())
    }

    pub(crate) fn current(&self) -> Arc<rustls::ServerConfig> {
        self.current.load_full()
    }
}

fn certificates(what: &'static str, pem: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let list = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| TlsError::Pem { what, error })?;
    if list.is_empty() { Err(TlsError::NoCertificate { what }) } else { Ok(list) }
}

fn server_config(pem: &Pem<'_>) -> Result<rustls::ServerConfig, TlsError> {
    let chain = certificates("certificate chain", pem.certificate_chain)?;
    let key = PrivateKeyDer::from_pem_slice(pem.private_key.as_bytes())
        .map_err(|error| TlsError::Pem { what: "private key", error })?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?;
    let builder = match pem.client_authority {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates("client authority", authority)? {
                roots.add(certificate)?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .allow_unauthenticated()
                .build()
                .map_err(|error| TlsError::ClientAuthority(error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
