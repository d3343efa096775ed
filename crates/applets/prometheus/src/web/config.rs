//! Reads the file, strictly; files that it names are taken from its own folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use gantry_serve::TlsConfig;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::bcrypt::Hash;

/// Headers that the file may set.
const HEADERS: [&str; 5] = [
    "Content-Security-Policy",
    "X-Frame-Options",
    "X-Content-Type-Options",
    "X-XSS-Protection",
    "Strict-Transport-Security",
];

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    tls_server_config: Option<Tls>,
    http_server_config: Http,
    basic_auth_users: BTreeMap<String, String>,
    rate_limit: Option<IgnoredAny>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Tls {
    cert: Option<String>,
    cert_file: Option<PathBuf>,
    key: Option<String>,
    key_file: Option<PathBuf>,
    client_auth_type: Option<String>,
    client_ca: Option<String>,
    client_ca_file: Option<PathBuf>,
    client_allowed_sans: Vec<String>,
    min_version: Option<String>,
    max_version: Option<String>,
    cipher_suites: Vec<String>,
    curve_preferences: Vec<String>,
    prefer_server_cipher_suites: Option<bool>,
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Http {
    http2: bool,
    headers: BTreeMap<String, String>,
}

impl Default for Http {
    fn default() -> Http {
        Http { http2: true, headers: BTreeMap::new() }
    }
}

/// Certificates as texts.
struct Pem {
    certificate: String,
    key: String,
    client_authority: Option<String>,
}

/// How the server is reached by others.
pub struct WebConfig {
    file: PathBuf,
    tls: Option<TlsConfig>,
    /// Whether a client has to show a certificate.
    pub(super) needs_client_certificate: bool,
    /// Users with what their passwords have to match.
    pub(super) users: BTreeMap<String, Hash>,
    /// Headers of every answer.
    pub(super) headers: Vec<(http::HeaderName, http::HeaderValue)>,
}

impl std::fmt::Debug for WebConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebConfig").field("file", &self.file).finish_non_exhaustive()
    }
}

fn read(file: &Path) -> Result<File, String> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file).map_err(|error| format!("{name}: {error}"))?;
    if text.trim().is_empty() {
        return Ok(File::default());
    }
    gantry_yaml::from_str(&name, &text).map_err(|error| error.to_string())
}

/// A text that is in the file itself or in another.
fn text(what: &str, own: Option<&str>, other: Option<&Path>, base: &Path) -> Result<Option<String>, String> {
    match (own, other) {
        (Some(_), Some(_)) => Err(format!("only one of {what} and {what}_file must be given")),
        (Some(own), None) => Ok(Some(own.to_owned())),
        (None, Some(path)) => {
            let path = base.join(path);
            let text = std::fs::read_to_string(&path)
                .map_err(|error| format!("{what}_file {}: {error}", path.display()))?;
            Ok(Some(text))
        }
        (None, None) => Ok(None),
    }
}

impl Tls {
    /// Whether clients have to show a certificate, and whether theirs are looked at.
    fn client_auth(&self, has_authority: bool) -> Result<bool, String> {
        let kind = self.client_auth_type.as_deref().unwrap_or("");
        match (kind, has_authority) {
            ("" | "NoClientCert", false) | ("VerifyClientCertIfGiven", true) => Ok(false),
            ("RequireAndVerifyClientCert", true) => Ok(true),
            ("" | "NoClientCert", true) => {
                Err("client CA's have been configured without a client auth policy: set client_auth_type"
                    .into())
            }
            ("VerifyClientCertIfGiven" | "RequireAndVerifyClientCert", false) => {
                Err(format!("client_auth_type {kind} needs client_ca_file"))
            }
            ("RequestClientCert" | "RequireAnyClientCert", _) => Err(format!(
                "client_auth_type {kind} is not supported: certificates that nobody verifies say nothing; use RequireAndVerifyClientCert"
            )),
            _ => Err(format!("invalid client_auth_type {kind:?}")),
        }
    }

    fn check(&self) -> Result<(), String> {
        for (name, version) in [("min_version", &self.min_version), ("max_version", &self.max_version)] {
            match version.as_deref() {
                None | Some("TLS13") => {}
                Some("TLS12") if name == "min_version" => {}
                Some("TLS12") => return Err("max_version TLS12 is not supported; leave it out".into()),
                Some(other) => return Err(format!("{name} must be TLS12 or TLS13, not {other:?}")),
            }
        }
        if self.min_version.as_deref() == Some("TLS13") {
            return Err("min_version TLS13 is not supported yet; TLS12 is".into());
        }
        for (name, is_given) in [
            ("cipher_suites", !self.cipher_suites.is_empty()),
            ("curve_preferences", !self.curve_preferences.is_empty()),
            ("client_allowed_sans", !self.client_allowed_sans.is_empty()),
        ] {
            if is_given {
                return Err(format!("{name} is not supported yet; remove it"));
            }
        }
        let _ = self.prefer_server_cipher_suites;
        Ok(())
    }

    fn pem(&self, base: &Path) -> Result<(Pem, bool), String> {
        self.check()?;
        let certificate = text("cert", self.cert.as_deref(), self.cert_file.as_deref(), base)?;
        let key = text("key", self.key.as_deref(), self.key_file.as_deref(), base)?;
        let authority = text("client_ca", self.client_ca.as_deref(), self.client_ca_file.as_deref(), base)?;
        let is_required = self.client_auth(authority.is_some())?;
        let certificate = certificate.ok_or("missing one of cert or cert_file")?;
        let key = key.ok_or("missing one of key or key_file")?;
        Ok((Pem { certificate, key, client_authority: authority }, is_required))
    }
}

impl WebConfig {
    /// Reads the file and what it names.
    ///
    /// # Errors
    /// What is wrong, with the file's name.
    pub fn load(file: &Path) -> Result<WebConfig, String> {
        let read = read(file)?;
        let place = |reason: String| format!("{}: {reason}", file.display());
        let base = file.parent().unwrap_or(Path::new("."));
        if read.rate_limit.is_some() {
            return Err(place("rate_limit is not supported yet; remove it".into()));
        }
        if !read.http_server_config.http2 {
            return Err(place("http2: false is not supported; both versions are served".into()));
        }
        let (mut tls, mut needs_client_certificate) = (None, false);
        if let Some(section) = &read.tls_server_config {
            let (pem, is_required) =
                section.pem(base).map_err(|reason| place(format!("tls_server_config: {reason}")))?;
            let made = TlsConfig::from_pem(&pem.certificate, &pem.key, pem.client_authority.as_deref());
            tls = Some(made.map_err(|error| place(format!("tls_server_config: {error}")))?);
            needs_client_certificate = is_required;
        }
        let mut users = BTreeMap::new();
        for (user, hash) in read.basic_auth_users {
            let parsed =
                Hash::parse(&hash).map_err(|reason| place(format!("basic_auth_users: {user}: {reason}")))?;
            users.insert(user, parsed);
        }
        let mut headers = Vec::new();
        for (name, value) in &read.http_server_config.headers {
            if !HEADERS.iter().any(|known| known.eq_ignore_ascii_case(name)) {
                return Err(place(format!(
                    "HTTP header {name:?} can not be configured; these can: {}",
                    HEADERS.join(", ")
                )));
            }
            let wrong = || place(format!("HTTP header {name:?} has the invalid value {value:?}"));
            let name = http::HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
            headers.push((name, http::HeaderValue::from_str(value).map_err(|_| wrong())?));
        }
        Ok(WebConfig { file: file.to_path_buf(), tls, needs_client_certificate, users, headers })
    }

    /// The certificate that listeners show, if they do.
    pub fn tls(&self) -> Option<TlsConfig> {
        self.tls.clone()
    }

    /// Reads certificates again; connections that are open keep theirs.
    ///
    /// # Errors
    /// What is wrong; then the certificates stay.
    pub fn reload_certificates(&self) -> Result<(), String> {
        let Some(tls) = &self.tls else { return Ok(()) };
        let read = read(&self.file)?;
        let base = self.file.parent().unwrap_or(Path::new("."));
        let section = read.tls_server_config.ok_or("TLS cannot be turned off by a reload; start again")?;
        let (pem, _) = section.pem(base)?;
        tls.replace(&pem.certificate, &pem.key, pem.client_authority.as_deref())
            .map_err(|error| format!("{}: tls_server_config: {error}", self.file.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<WebConfig, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("web.yml");
        std::fs::write(&file, text).unwrap();
        WebConfig::load(&file)
    }

    #[test]
    fn what_cannot_be_done_is_named() {
        for (text, reason) in [
            ("tls_server_config: {}", "missing one of cert or cert_file"),
            ("tls_server_config: {cert_file: gone.pem, key_file: gone.key}", "cert_file"),
            ("tls_server_config: {cert: a, cert_file: b}", "only one of cert and cert_file"),
            ("tls_server_config: {client_auth_type: RequireAnyClientCert}", "not supported"),
            ("tls_server_config: {min_version: SSL3}", "TLS12 or TLS13"),
            ("tls_server_config: {cipher_suites: [x]}", "cipher_suites is not supported"),
            ("basic_auth_users: {a: plain}", "basic_auth_users: a: "),
            ("http_server_config: {headers: {X-Other: x}}", "can not be configured"),
            ("rate_limit: {}", "rate_limit is not supported"),
            ("users: {}", "unknown field"),
        ] {
            let error = load(text).expect_err(text);
            assert!(error.contains(reason), "{error}");
            assert!(error.contains("web.yml"), "{error}");
        }
        assert!(load("").is_ok());
        assert!(load("basic_auth_users: {}").is_ok());
    }

    #[test]
    fn headers_and_users_are_taken() {
        let config = load(
            "http_server_config: {headers: {x-frame-options: deny}}\nbasic_auth_users:\n  u: $2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW\n",
        )
        .unwrap();
        assert_eq!(config.headers[0].0.as_str(), "x-frame-options");
        assert!(config.users["u"].is_of("U*U"));
    }
}
