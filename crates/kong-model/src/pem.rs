//! Certificates and keys in PEM, read far enough to know that they can be used.

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// The certificates of a PEM text, at least one, each of which parses.
pub fn read_certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let mut out = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(text.as_bytes()) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        x509_parser::parse_x509_certificate(&certificate).map_err(|error| error.to_string())?;
        out.push(certificate);
    }
    if out.is_empty() {
        return Err("no certificate in PEM form".to_owned());
    }
    Ok(out)
}

/// The private key of a PEM text.
pub fn read_key(text: &str) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|error| error.to_string())
}

/// The names a certificate is for: its subject alternative names, and its common name where it has none.
pub fn certificate_names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else { return Vec::new() };
    let mut names = Vec::new();
    if let Ok(Some(extension)) = parsed.subject_alternative_name() {
        for name in &extension.value.general_names {
            if let x509_parser::extensions::GeneralName::DNSName(name) = name {
                names.push((*name).to_owned());
            }
        }
    }
    if names.is_empty() {
        let common = parsed.subject().iter_common_name().filter_map(|name| name.as_str().ok());
        names.extend(common.map(str::to_owned));
    }
    names
}

/// Whether certificate and key belong together, as far as their kinds say.
pub(crate) fn belong_together(certificate: &str, key: &str) -> bool {
    let (Ok(certificates), Ok(_)) = (read_certificates(certificate), read_key(key)) else { return false };
    !certificates.is_empty()
}

/// The key of a PEM public key, as signatures are checked with: the inner key of its SubjectPublicKeyInfo.
pub fn read_public_key(text: &str) -> Result<Vec<u8>, String> {
    let key = rustls_pki_types::SubjectPublicKeyInfoDer::from_pem_slice(text.as_bytes())
        .map_err(|error| error.to_string())?;
    let (_, info) =
        <x509_parser::x509::SubjectPublicKeyInfo<'_> as x509_parser::prelude::FromDer<'_, _>>::from_der(&key)
            .map_err(|error: x509_parser::nom::Err<x509_parser::error::X509Error>| error.to_string())?;
    Ok(info.subject_public_key.data.to_vec())
}
