//! Our own certificate authority: made on the first start, kept under the data folder, readable by the owner alone.

use std::fs;
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use gantry_apimachinery::time;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};

/// How long certificates are good for. They never leave the machine whose folder they are in.
const YEARS: i32 = 10;
const AUTHORITY_NAME: &str = "gantry-ca";

#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("making a certificate failed: {0}")]
    Certificate(#[from] rcgen::Error),
}

/// A certificate and its private key, both PEM.
#[derive(Clone)]
pub struct KeyAndCertificate {
    pub certificate: String,
    pub key: String,
}

/// What signs the server's and the clients' certificates.
pub struct Authority {
    pub certificate: String,
    key: KeyPair,
}

/// Everything a server with TLS and one administrator needs.
pub struct Credentials {
    pub authority_certificate: String,
    pub server: KeyAndCertificate,
    pub admin: KeyAndCertificate,
}

impl Authority {
    pub fn generate(now_ms: i64) -> Result<Authority, PkiError> {
        let key = KeyPair::generate()?;
        let certificate = authority_params(now_ms)?.self_signed(&key)?.pem();
        Ok(Authority { certificate, key })
    }

    fn sign(&self, mut params: CertificateParams, now_ms: i64) -> Result<KeyAndCertificate, PkiError> {
        set_validity(&mut params, now_ms);
        let key = KeyPair::generate()?;
        // The issuer's name and key are all that signing takes from its parameters.
        let issuer_params = authority_params(now_ms)?;
        let issuer = Issuer::from_params(&issuer_params, &self.key);
        let certificate = params.signed_by(&key, &issuer)?.pem();
        Ok(KeyAndCertificate { certificate, key: key.serialize_pem() })
    }

    /// A certificate for a server that is reached by these names and addresses.
    pub fn server(&self, hosts: &[&str], now_ms: i64) -> Result<KeyAndCertificate, PkiError> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "gantry-apiserver");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        for host in hosts {
            params.subject_alt_names.push(match host.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName((*host).try_into()?),
            });
        }
        self.sign(params, now_ms)
    }

    /// A certificate for a user in a group.
    pub fn client(&self, user: &str, group: &str, now_ms: i64) -> Result<KeyAndCertificate, PkiError> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, user);
        params.distinguished_name.push(DnType::OrganizationName, group);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        self.sign(params, now_ms)
    }
}

fn authority_params(now_ms: i64) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::default();
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::CommonName, AUTHORITY_NAME);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    set_validity(&mut params, now_ms);
    Ok(params)
}

/// From the first of January of last year, so that a clock that was set back does not matter.
fn set_validity(params: &mut CertificateParams, now_ms: i64) {
    let year: i32 = time::format_time(now_ms).get(..4).and_then(|year| year.parse().ok()).unwrap_or(2026);
    params.not_before = date_time_ymd(year - 1, 1, 1);
    params.not_after = date_time_ymd(year + YEARS, 1, 1);
}

/// Reads the credentials under `folder`, making those that are missing. The server's certificate is made anew when it
/// was made for other hosts.
pub fn credentials(folder: &Path, hosts: &[&str], now_ms: i64) -> Result<Credentials, PkiError> {
    crate::store::log::create_private_folder(folder)
        .map_err(|source| PkiError::Io { path: folder.to_owned(), source })?;
    let authority = match read_pair(folder, "ca")? {
        Some(pair) => Authority { certificate: pair.certificate, key: KeyPair::from_pem(&pair.key)? },
        None => {
            let authority = Authority::generate(now_ms)?;
            let pair = KeyAndCertificate {
                certificate: authority.certificate.clone(),
                key: authority.key.serialize_pem(),
            };
            write_pair(folder, "ca", &pair)?;
            // Whatever an authority that is gone has signed is worth nothing now.
            for name in ["server", "admin"] {
                remove_pair(folder, name)?;
            }
            authority
        }
    };
    let wanted_hosts = hosts.join("\n");
    let hosts_path = folder.join("server.hosts");
    let same_hosts = fs::read_to_string(&hosts_path).is_ok_and(|text| text == wanted_hosts);
    let server = match read_pair(folder, "server")?.filter(|_| same_hosts) {
        Some(pair) => pair,
        None => {
            let pair = authority.server(hosts, now_ms)?;
            write_pair(folder, "server", &pair)?;
            write_private(&hosts_path, &wanted_hosts)?;
            pair
        }
    };
    let admin = match read_pair(folder, "admin")? {
        Some(pair) => pair,
        None => {
            let pair = authority.client("kubernetes-admin", "system:masters", now_ms)?;
            write_pair(folder, "admin", &pair)?;
            pair
        }
    };
    Ok(Credentials { authority_certificate: authority.certificate, server, admin })
}

fn paths(folder: &Path, name: &str) -> (PathBuf, PathBuf) {
    (folder.join(format!("{name}.crt")), folder.join(format!("{name}.key")))
}

fn read_pair(folder: &Path, name: &str) -> Result<Option<KeyAndCertificate>, PkiError> {
    let (certificate, key) = paths(folder, name);
    let read = |path: &Path| match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(PkiError::Io { path: path.to_owned(), source }),
    };
    Ok(match (read(&certificate)?, read(&key)?) {
        (Some(certificate), Some(key)) => Some(KeyAndCertificate { certificate, key }),
        _ => None,
    })
}

fn write_pair(folder: &Path, name: &str, pair: &KeyAndCertificate) -> Result<(), PkiError> {
    let (certificate, key) = paths(folder, name);
    write_private(&key, &pair.key)?;
    write_private(&certificate, &pair.certificate)
}

fn remove_pair(folder: &Path, name: &str) -> Result<(), PkiError> {
    let (certificate, key) = paths(folder, name);
    for path in [certificate, key] {
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(PkiError::Io { path, source });
            }
            _ => {}
        }
    }
    Ok(())
}

/// Writes a file that only its owner can read, whole or not at all.
pub fn write_private(path: &Path, text: &str) -> Result<(), PkiError> {
    use std::os::unix::fs::OpenOptionsExt;
    let failed = |source| PkiError::Io { path: path.to_owned(), source };
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&temporary, path).map_err(failed)
}

/// A kubeconfig with one context, `name`, for the administrator at `server` (`https://127.0.0.1:6443`).
pub fn kubeconfig_yaml(name: &str, server: &str, credentials: &Credentials) -> String {
    let encode = |text: &str| BASE64_STANDARD.encode(text);
    let authority = encode(&credentials.authority_certificate);
    let certificate = encode(&credentials.admin.certificate);
    let key = encode(&credentials.admin.key);
    format!(
        "apiVersion: v1
kind: Config
clusters:
- name: {name}
  cluster:
    server: {server}
    certificate-authority-data: {authority}
contexts:
- name: {name}
  context:
    cluster: {name}
    user: {name}
current-context: {name}
users:
- name: {name}
  user:
    client-certificate-data: {certificate}
    client-key-data: {key}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn credentials_are_made_once_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("pki");
        let first = credentials(&folder, &["127.0.0.1", "localhost"], 0).unwrap();
        let second = credentials(&folder, &["127.0.0.1", "localhost"], 0).unwrap();
        assert_eq!(first.server.certificate, second.server.certificate);
        assert_eq!(first.admin.key, second.admin.key);
        let third = credentials(&folder, &["127.0.0.2"], 0).unwrap();
        assert_ne!(first.server.certificate, third.server.certificate);
        assert_eq!(first.authority_certificate, third.authority_certificate);
        for entry in fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
        }
        assert!(kubeconfig_yaml("gantry", "https://127.0.0.1:1", &first).contains("current-context: gantry"));
    }
}
