//! How an HTTP server is reached: TLS, credentials, headers.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::ConfigError;

/// A text that never shows in a log or an error.
#[derive(Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

/// User and password.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BasicAuth {
    /// The user.
    pub username: String,
    /// A file that holds the user.
    pub username_file: Option<String>,
    /// The password.
    pub password: Option<Secret>,
    /// A file that holds the password.
    pub password_file: Option<String>,
}

/// The `Authorization` header.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Authorization {
    /// Its first word.
    #[serde(rename = "type")]
    pub scheme: String,
    /// The rest.
    pub credentials: Option<Secret>,
    /// A file that holds the rest, read before each request.
    pub credentials_file: Option<String>,
}

impl Default for Authorization {
    fn default() -> Authorization {
        Authorization { scheme: "Bearer".into(), credentials: None, credentials_file: None }
    }
}

/// How a server is trusted and what is shown to it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// Certificates to trust, PEM.
    pub ca: Option<String>,
    /// A file of them.
    pub ca_file: Option<String>,
    /// Our certificate, PEM.
    pub cert: Option<String>,
    /// A file of it.
    pub cert_file: Option<String>,
    /// Our key, PEM.
    pub key: Option<Secret>,
    /// A file of it.
    pub key_file: Option<String>,
    /// The name the server's certificate has to have.
    pub server_name: Option<String>,
    /// Trust anything.
    pub insecure_skip_verify: bool,
    /// `TLS12` or `TLS13`.
    pub min_version: Option<String>,
    /// `TLS12` or `TLS13`.
    pub max_version: Option<String>,
}

/// How an HTTP server is reached.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct HttpClientConfig {
    /// User and password.
    pub basic_auth: Option<BasicAuth>,
    /// The `Authorization` header.
    pub authorization: Option<Authorization>,
    /// The old name of a bearer credential.
    pub bearer_token: Option<Secret>,
    /// The old name of a bearer credential's file.
    pub bearer_token_file: Option<String>,
    oauth2: Option<IgnoredAny>,
    /// TLS.
    pub tls_config: TlsConfig,
    /// Whether redirects are followed.
    pub follow_redirects: bool,
    /// Whether HTTP/2 is offered over TLS.
    pub enable_http2: bool,
    proxy_url: Option<String>,
    no_proxy: Option<String>,
    proxy_from_environment: Option<bool>,
    proxy_connect_header: Option<IgnoredAny>,
    /// Further headers.
    pub http_headers: BTreeMap<String, HeaderValues>,
}

/// Values of a header.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HeaderValues {
    /// Plain.
    pub values: Vec<String>,
    /// Not shown.
    pub secrets: Vec<Secret>,
    /// Each in a file.
    pub files: Vec<String>,
}

impl Default for HttpClientConfig {
    fn default() -> HttpClientConfig {
        HttpClientConfig {
            basic_auth: None,
            authorization: None,
            bearer_token: None,
            bearer_token_file: None,
            oauth2: None,
            tls_config: TlsConfig::default(),
            follow_redirects: true,
            enable_http2: true,
            proxy_url: None,
            no_proxy: None,
            proxy_from_environment: None,
            proxy_connect_header: None,
            http_headers: BTreeMap::new(),
        }
    }
}

impl PartialEq for HttpClientConfig {
    fn eq(&self, other: &HttpClientConfig) -> bool {
        self.basic_auth == other.basic_auth
            && self.authorization == other.authorization
            && self.bearer_token == other.bearer_token
            && self.bearer_token_file == other.bearer_token_file
            && self.tls_config == other.tls_config
            && self.follow_redirects == other.follow_redirects
            && self.http_headers == other.http_headers
    }
}

impl HttpClientConfig {
    /// Files that have to be there.
    pub(super) fn named_files(&self) -> impl Iterator<Item = &str> {
        let basic = self.basic_auth.as_ref();
        [
            basic.and_then(|basic| basic.username_file.as_deref()),
            basic.and_then(|basic| basic.password_file.as_deref()),
            self.authorization.as_ref().and_then(|authorization| authorization.credentials_file.as_deref()),
            self.tls_config.ca_file.as_deref(),
            self.tls_config.cert_file.as_deref(),
            self.tls_config.key_file.as_deref(),
        ]
        .into_iter()
        .flatten()
    }

    /// Brings the old names to the new ones, and says what cannot be done.
    pub(crate) fn complete(&mut self) -> Result<(), ConfigError> {
        let ways = [
            self.basic_auth.is_some(),
            self.authorization.is_some(),
            self.bearer_token.is_some() || self.bearer_token_file.is_some(),
            self.oauth2.is_some(),
        ];
        if ways.iter().filter(|given| **given).count() > 1 {
            let reason =
                "at most one of basic_auth, oauth2, authorization and bearer_token must be configured";
            return Err(ConfigError(reason.into()));
        }
        if self.oauth2.is_some() {
            return Err(ConfigError(
                "oauth2 is not supported yet; use authorization with credentials_file".into(),
            ));
        }
        if self.proxy_url.as_deref().is_some_and(|url| !url.is_empty())
            || self.proxy_from_environment == Some(true)
        {
            return Err(ConfigError(
                "scraping through a proxy is not supported yet; remove proxy_url".into(),
            ));
        }
        if self.bearer_token.is_some() || self.bearer_token_file.is_some() {
            self.authorization = Some(Authorization {
                credentials: self.bearer_token.take(),
                credentials_file: self.bearer_token_file.take(),
                ..Authorization::default()
            });
        }
        if let Some(authorization) = &self.authorization
            && authorization.scheme.eq_ignore_ascii_case("basic")
        {
            let reason = "authorization type cannot be set to \"basic\", use \"basic_auth\" instead";
            return Err(ConfigError(reason.into()));
        }
        Ok(())
    }
}

impl HttpClientConfig {
    /// From the fields of a job, which have the same names beside its own.
    pub(crate) fn from_parts(
        (basic_auth, authorization): (Option<BasicAuth>, Option<Authorization>),
        (bearer_token, bearer_token_file): (Option<Secret>, Option<String>),
        oauth2: bool,
        tls_config: TlsConfig,
        follow_redirects: bool,
        proxy_url: Option<String>,
        http_headers: BTreeMap<String, HeaderValues>,
    ) -> HttpClientConfig {
        HttpClientConfig {
            basic_auth,
            authorization,
            bearer_token,
            bearer_token_file,
            oauth2: oauth2.then_some(IgnoredAny),
            tls_config,
            follow_redirects,
            proxy_url,
            http_headers,
            ..HttpClientConfig::default()
        }
    }
}
