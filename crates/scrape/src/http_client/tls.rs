//! TLS towards targets: whom we trust and who we are.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use crate::config::TlsConfig;

/// Where systems keep the certificates they trust.
const SYSTEM_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
];

/// The TLS settings of a `tls_config` section.
pub(super) fn client_config(config: &TlsConfig) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = if config.insecure_skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(TrustAnything(provider)))
    } else {
        builder.with_root_certificates(roots(config)?)
    };
    let certificate = text(config.cert.as_deref(), config.cert_file.as_deref())?;
    let key = text(config.key.as_ref().map(|key| key.0.as_str()), config.key_file.as_deref())?;
    let client = match (certificate, key) {
        (Some(certificate), Some(key)) => {
            let chain = certificates(&certificate)?;
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
                .map_err(|error| format!("the client key is not PEM: {error}"))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| format!("client certificate: {error}"))?
        }
        (None, None) => builder.with_no_client_auth(),
        _ => return Err("tls_config needs both a certificate and a key, or neither".into()),
    };
    Ok(Arc::new(client))
}

fn text(inline: Option<&str>, file: Option<&str>) -> Result<Option<String>, String> {
    match (inline, file) {
        (Some(text), _) if !text.is_empty() => Ok(Some(text.to_owned())),
        (_, Some(file)) => std::fs::read_to_string(file)
            .map(Some)
            .map_err(|error| format!("unable to read file {file}: {error}")),
        _ => Ok(None),
    }
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format!("a certificate is not PEM: {error}"))
}

fn roots(config: &TlsConfig) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    match text(config.ca.as_deref(), config.ca_file.as_deref())? {
        Some(pem) => {
            for certificate in certificates(&pem)? {
                roots.add(certificate).map_err(|error| format!("certificate authority: {error}"))?;
            }
        }
        None => {
            for bundle in SYSTEM_BUNDLES {
                if let Ok(pem) = std::fs::read_to_string(bundle) {
                    roots.add_parsable_certificates(certificates(&pem)?);
                    break;
                }
            }
        }
    }
    Ok(roots)
}

/// `insecure_skip_verify`: who the server is does not matter, but its signatures still have to be right.
#[derive(Debug)]
struct TrustAnything(Arc<CryptoProvider>);

impl ServerCertVerifier for TrustAnything {
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
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
