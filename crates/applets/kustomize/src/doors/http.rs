//! Files by http and https: one GET with a bound on redirects, on time and on size.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gantry_kustomize::remote::without_credentials;
use http::header::{ACCEPT, AUTHORIZATION, ETAG, HeaderValue, IF_NONE_MATCH, LOCATION, USER_AGENT};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

const MOST_BYTES: usize = 64 << 20;
const MOST_REDIRECTS: usize = 10;
const TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) enum Reply {
    /// It is what the ETag said.
    Unchanged,
    File {
        bytes: Bytes,
        etag: String,
    },
    /// Another answer than a success.
    Status(u16),
}

/// What is at an address; `etag` is of what is there already.
pub(super) fn get(address: &str, etag: Option<&str>) -> Result<Reply, String> {
    let wrong = |reason: String| format!("{}: {reason}", without_credentials(address));
    // A thread of its own, because whoever builds may be inside of a runtime.
    let outcome = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| error.to_string())?;
            runtime.block_on(async {
                tokio::time::timeout(TIMEOUT, follow(address, etag))
                    .await
                    .unwrap_or_else(|_| Err(format!("no answer within {} s", TIMEOUT.as_secs())))
            })
        });
        asking.join().unwrap_or_else(|_| Err("the request broke off".to_owned()))
    });
    outcome.map_err(wrong)
}

async fn follow(address: &str, etag: Option<&str>) -> Result<Reply, String> {
    let mut target = Target::parse(address.split('#').next().unwrap_or(address))?;
    for _ in 0..=MOST_REDIRECTS {
        let connector = hyper_rustls::HttpsConnectorBuilder::new();
        let connector = if target.uri.scheme_str() == Some("https") {
            connector
                .with_provider_and_native_roots(rustls::crypto::ring::default_provider())
                .map_err(|error| error.to_string())?
        } else {
            // Where nothing is encrypted the system need not have any certificates.
            connector.with_tls_config(without_roots().map_err(|error| error.to_string())?)
        };
        let client = Client::builder(TokioExecutor::new())
            .build::<_, Empty<Bytes>>(connector.https_or_http().enable_http1().build());
        let response = client.request(target.request(etag)?).await.map_err(|error| {
            let cause =
                std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            format!("{error}{cause}")
        })?;
        let status = response.status();
        if status == StatusCode::NOT_MODIFIED {
            return Ok(Reply::Unchanged);
        }
        let header = |name| response.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        if let Some(location) = header(LOCATION).filter(|_| status.is_redirection()) {
            target = target.redirected(location)?;
            continue;
        }
        if !status.is_success() {
            return Ok(Reply::Status(status.as_u16()));
        }
        let etag = header(ETAG).unwrap_or_default().to_owned();
        let body = Limited::new(response.into_body(), MOST_BYTES).collect().await;
        let bytes =
            body.map_err(|error| format!("{error} (at most {MOST_BYTES} bytes are read)"))?.to_bytes();
        return Ok(Reply::File { bytes, etag });
    }
    Err(format!("more than {MOST_REDIRECTS} redirects"))
}

fn without_roots() -> Result<rustls::ClientConfig, rustls::Error> {
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth())
}

#[derive(Debug)]
struct Target {
    uri: Uri,
    /// From `user:password@` in the address; goes to no other host.
    credentials: Option<HeaderValue>,
}

impl Target {
    fn parse(address: &str) -> Result<Target, String> {
        let (scheme, rest) = address.split_once("://").ok_or("is no address of the web")?;
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let uri: Uri = format!("{}://{host}{path}", scheme.to_ascii_lowercase())
            .parse()
            .map_err(|_| "is no address of the web".to_owned())?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none_or(str::is_empty) {
            return Err("is not an http:// or https:// address".to_owned());
        }
        let credentials = user.map(|user| {
            let (name, password) = user.split_once(':').unwrap_or((user, ""));
            let decode = |text| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
            let pair = format!("{}:{}", decode(name), decode(password));
            HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(pair)))
        });
        let mut credentials =
            credentials.transpose().map_err(|_| "has credentials that no header can carry")?;
        if let Some(value) = &mut credentials {
            value.set_sensitive(true);
        }
        Ok(Target { uri, credentials })
    }

    fn request(&self, etag: Option<&str>) -> Result<Request<Empty<Bytes>>, String> {
        let mut request =
            Request::get(self.uri.clone()).body(Empty::new()).map_err(|error| error.to_string())?;
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        headers.insert(USER_AGENT, HeaderValue::from_static("gantry-kustomize"));
        if let Some(credentials) = &self.credentials {
            headers.insert(AUTHORIZATION, credentials.clone());
        }
        if let Some(etag) = etag.and_then(|etag| HeaderValue::from_str(etag).ok()) {
            headers.insert(IF_NONE_MATCH, etag);
        }
        Ok(request)
    }

    fn redirected(&self, location: &str) -> Result<Target, String> {
        let authority = self.uri.authority().map_or("", |authority| authority.as_str());
        let scheme = self.uri.scheme_str().unwrap_or("https");
        let address = if location.contains("://") {
            location.to_owned()
        } else if let Some(rest) = location.strip_prefix("//") {
            format!("{scheme}://{rest}")
        } else if location.starts_with('/') {
            format!("{scheme}://{authority}{location}")
        } else {
            let folder = self.uri.path().rsplit_once('/').map_or("", |(folder, _)| folder);
            format!("{scheme}://{authority}{folder}/{location}")
        };
        let mut next = Target::parse(address.split('#').next().unwrap_or(&address))?;
        if scheme == "https" && next.uri.scheme_str() == Some("http") {
            return Err("redirects from https to http".to_owned());
        }
        if next.credentials.is_none() && next.uri.authority() == self.uri.authority() {
            next.credentials.clone_from(&self.credentials);
        }
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_is_read_from_where_it_stands() {
        let from = Target::parse("https://me:pw@a.example/x/y?z=1").unwrap();
        assert_eq!(from.uri.to_string(), "https://a.example/x/y?z=1");
        for (location, to, credentials) in [
            ("/b", "https://a.example/b", true),
            ("b?c", "https://a.example/x/b?c", true),
            ("//b.example/c", "https://b.example/c", false),
            ("https://b.example", "https://b.example/", false),
        ] {
            let found = from.redirected(location).unwrap();
            assert_eq!(
                (found.uri.to_string().as_str(), found.credentials.is_some()),
                (to, credentials),
                "{location}"
            );
        }
        assert!(from.redirected("http://a.example/b").is_err());
        assert!(from.redirected("ftp://a.example/b").is_err());
    }
}
