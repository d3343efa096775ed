//! Fetches an exposition over HTTP: one kept-alive connection per target, bounds on time and size.

mod tls;

use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use gantry_prom_model::ExpositionFormat;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderMap, HeaderName,
    HeaderValue, LOCATION, USER_AGENT,
};
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::config::{HttpClientConfig, ScrapeConfig, ScrapeProtocol};
use crate::target::Target;

/// The bound on a body where none is configured; without one a target could take all memory.
const MAX_BODY_BYTES: u64 = 512 * 1024 * 1024;
const MAX_REDIRECTS: usize = 10;

/// Fetches one target.
pub(crate) struct Client {
    url: Uri,
    headers: HeaderMap,
    http: HttpClientConfig,
    tls: Option<Arc<rustls::ClientConfig>>,
    body_limit: u64,
    fallback: Option<ScrapeProtocol>,
    connection: Option<(String, SendRequest<Empty<Bytes>>)>,
    dialer: Option<Arc<dyn Dialer>>,
}

/// Connects to targets that are not in this machine's own network.
#[async_trait]
pub trait Dialer: Send + Sync + 'static {
    /// Whether the address is one of the other network.
    fn owns(&self, address: IpAddr) -> bool;

    /// Connects to an address that it owns.
    async fn connect(&self, address: SocketAddr) -> std::io::Result<TcpStream>;
}

/// Why a fetch failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("{0}")]
    Failed(String),
    #[error("body size limit exceeded")]
    BodyTooLarge,
}

fn failed(reason: impl std::fmt::Display) -> FetchError {
    FetchError::Failed(reason.to_string())
}

impl Client {
    pub(crate) fn new(
        config: &ScrapeConfig,
        target: &Target,
        dialer: Option<Arc<dyn Dialer>>,
    ) -> Result<Client, String> {
        let url: Uri =
            target.url.parse().map_err(|error| format!("{:?} is not a URL: {error}", target.url))?;
        let mut headers = HeaderMap::new();
        let mut set = |name: HeaderName, value: String| -> Result<(), String> {
            let value = HeaderValue::from_str(&value)
                .map_err(|_| format!("header {name} has characters it cannot have"))?;
            headers.append(name, value);
            Ok(())
        };
        let protocols = config.scrape_protocols.as_deref().unwrap_or(&ScrapeProtocol::DEFAULT);
        set(ACCEPT, accept(protocols))?;
        set(ACCEPT_ENCODING, if config.enable_compression { "gzip" } else { "identity" }.into())?;
        set(USER_AGENT, concat!("gantry/", env!("CARGO_PKG_VERSION")).into())?;
        let timeout = HeaderName::from_static("x-prometheus-scrape-timeout-seconds");
        set(timeout, (target.timeout_ms as f64 / 1000.0).to_string())?;
        for (name, values) in &config.http.http_headers {
            let name = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| format!("{name:?} is not a header name"))?;
            for value in values.values.iter().chain(values.secrets.iter().map(|secret| &secret.0)) {
                set(name.clone(), value.clone())?;
            }
            for file in &values.files {
                set(name.clone(), read_secret(file)?)?;
            }
        }
        let tls = match url.scheme_str() {
            Some("https") => Some(tls::client_config(&config.http.tls_config)?),
            _ => None,
        };
        Ok(Client {
            url,
            headers,
            http: config.http.clone(),
            tls,
            body_limit: config.body_size_limit.map_or(0, |limit| limit.0),
            fallback: config.fallback_scrape_protocol,
            connection: None,
            dialer,
        })
    }

    /// The exposition, decompressed, with its format. The caller bounds the time.
    pub(crate) async fn fetch(&mut self) -> Result<(String, ExpositionFormat), FetchError> {
        let response = self.get().await?;
        let status = response.status();
        if status != http::StatusCode::OK {
            let reason = status.canonical_reason().unwrap_or("");
            return Err(failed(
                format!("server returned HTTP status {} {reason}", status.as_u16()).trim_end(),
            ));
        }
        let format = format_of(response.headers(), self.fallback)?;
        let encoding = response.headers().get(CONTENT_ENCODING).map(|value| value.as_bytes().to_vec());
        let limit = if self.body_limit > 0 { self.body_limit } else { MAX_BODY_BYTES };
        let body = read_body(response.into_body(), limit).await?;
        let bytes = match encoding.as_deref() {
            None | Some(b"identity" | b"") => body.to_vec(),
            Some(b"gzip") => gunzip(&body, limit)?,
            Some(other) => {
                return Err(failed(format!("unknown content encoding {:?}", String::from_utf8_lossy(other))));
            }
        };
        let text = String::from_utf8(bytes)
            .map_err(|error| failed(format!("invalid UTF-8 at byte {}", error.utf8_error().valid_up_to())))?;
        Ok((text, format))
    }

    async fn get(&mut self) -> Result<Response<Incoming>, FetchError> {
        let mut url = self.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let response = self.request(&url).await?;
            let is_redirect = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
            if !is_redirect || !self.http.follow_redirects {
                return Ok(response);
            }
            let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            let location = location.ok_or_else(|| failed("redirect without a location"))?;
            url = resolve(&url, location)
                .ok_or_else(|| failed(format!("redirect to {location:?}, which is no URL")))?;
        }
        Err(failed(format!("stopped after {MAX_REDIRECTS} redirects")))
    }

    async fn request(&mut self, url: &Uri) -> Result<Response<Incoming>, FetchError> {
        let authority = url.authority().ok_or_else(|| failed("the URL has no host"))?.to_string();
        let origin = format!("{}://{authority}", url.scheme_str().unwrap_or("http"));
        let path = url.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::get(path).body(Empty::new()).map_err(failed)?;
        *request.headers_mut() = self.headers.clone();
        request.headers_mut().insert(HOST, HeaderValue::from_str(&authority).map_err(failed)?);
        // Credentials are for the target alone, not for wherever it sends us.
        if url.authority() == self.url.authority() {
            self.authorize(request.headers_mut()).map_err(FetchError::Failed)?;
        }
        if let Some((open, sender)) = &mut self.connection
            && *open == origin
            && sender.ready().await.is_ok()
        {
            match sender.send_request(request.clone()).await {
                Ok(response) => return Ok(response),
                // The server closed an idle connection: once more on a new one.
                Err(error) if error.is_canceled() || error.is_closed() || error.is_incomplete_message() => {}
                Err(error) => {
                    self.connection = None;
                    return Err(failed(describe(&error)));
                }
            }
        }
        self.connection = None;
        let mut sender = self.connect(url).await?;
        let response = sender.send_request(request).await.map_err(|error| failed(describe(&error)))?;
        self.connection = Some((origin, sender));
        Ok(response)
    }

    fn authorize(&self, headers: &mut HeaderMap) -> Result<(), String> {
        let value = if let Some(basic) = &self.http.basic_auth {
            let user = match &basic.username_file {
                Some(file) => read_secret(file)?,
                None => basic.username.clone(),
            };
            let password = match (&basic.password, &basic.password_file) {
                (Some(password), _) => password.0.clone(),
                (None, Some(file)) => read_secret(file)?,
                (None, None) => String::new(),
            };
            use base64::Engine as _;
            let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
            format!("Basic {pair}")
        } else if let Some(authorization) = &self.http.authorization {
            let credentials = match (&authorization.credentials, &authorization.credentials_file) {
                (Some(credentials), _) => credentials.0.clone(),
                (None, Some(file)) => read_secret(file)?,
                (None, None) => return Ok(()),
            };
            format!("{} {credentials}", authorization.scheme)
        } else {
            return Ok(());
        };
        let mut value = HeaderValue::from_str(&value)
            .map_err(|_| "the credentials have characters a header cannot have")?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
        Ok(())
    }

    async fn connect(&self, url: &Uri) -> Result<SendRequest<Empty<Bytes>>, FetchError> {
        let host = url.host().unwrap_or("").trim_start_matches('[').trim_end_matches(']').to_owned();
        let secure = url.scheme_str() == Some("https");
        let port = url.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let address = host.parse::<IpAddr>().ok();
        let elsewhere = self.dialer.as_ref().zip(address).filter(|(dialer, address)| dialer.owns(*address));
        let connected = match elsewhere {
            Some((dialer, address)) => dialer.connect(SocketAddr::new(address, port)).await,
            None => TcpStream::connect((host.as_str(), port)).await,
        };
        let stream = connected.map_err(|error| failed(format!("dial {host}:{port}: {error}")))?;
        let _ = stream.set_nodelay(true);
        if !secure {
            return handshake(stream).await;
        }
        let config = match &self.tls {
            Some(config) => config.clone(),
            None => tls::client_config(&self.http.tls_config).map_err(FetchError::Failed)?,
        };
        let name = self.http.tls_config.server_name.clone().unwrap_or(host);
        let name = rustls_pki_types::ServerName::try_from(name).map_err(failed)?;
        let stream = tokio_rustls::TlsConnector::from(config).connect(name, stream).await.map_err(failed)?;
        handshake(stream).await
    }
}

async fn handshake<S>(stream: S) -> Result<SendRequest<Empty<Bytes>>, FetchError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    // Ends when the sender is dropped or the server closes.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::trace!(%error, "connection to a target ended");
        }
    });
    Ok(sender)
}

/// The error with what caused it: hyper's own text alone says little.
fn describe(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

fn read_secret(file: &str) -> Result<String, String> {
    let text =
        std::fs::read_to_string(file).map_err(|error| format!("unable to read file {file}: {error}"))?;
    Ok(text.trim().to_owned())
}

/// The `Accept` header: what is wanted first has the largest weight.
fn accept(protocols: &[ScrapeProtocol]) -> String {
    let mut weight = 6;
    let mut parts = Vec::new();
    for protocol in protocols {
        parts.push(format!("{};q=0.{weight}", protocol.media_type()));
        weight -= 1;
    }
    parts.push(format!("*/*;q=0.{}", weight.max(1)));
    parts.join(",")
}

fn format_of(headers: &HeaderMap, fallback: Option<ScrapeProtocol>) -> Result<ExpositionFormat, FetchError> {
    let header = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let media_type = header.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    let known = match media_type.as_str() {
        "application/openmetrics-text" => Some(ExpositionFormat::OpenMetrics),
        "text/plain" => Some(ExpositionFormat::Classic),
        _ => None,
    };
    if let Some(format) = known {
        return Ok(format);
    }
    match fallback {
        Some(ScrapeProtocol::OpenMetricsText001 | ScrapeProtocol::OpenMetricsText100) => {
            Ok(ExpositionFormat::OpenMetrics)
        }
        Some(ScrapeProtocol::PrometheusText004 | ScrapeProtocol::PrometheusText100) => {
            Ok(ExpositionFormat::Classic)
        }
        _ if header.is_empty() => Err(failed(
            "non-compliant scrape target sending blank Content-Type and no fallback_scrape_protocol specified for target",
        )),
        _ => Err(failed(format!(
            "received unsupported Content-Type {header:?} and no fallback_scrape_protocol specified for target"
        ))),
    }
}

fn resolve(base: &Uri, location: &str) -> Option<Uri> {
    if location.contains("://") {
        let target: Uri = location.parse().ok()?;
        let usable = target.authority().is_some() && matches!(target.scheme_str(), Some("http" | "https"));
        return usable.then_some(target);
    }
    let mut parts = base.clone().into_parts();
    let path = if location.starts_with('/') {
        location.to_owned()
    } else {
        let folder = base.path().rfind('/').map_or("/", |slash| &base.path()[..=slash]);
        format!("{folder}{location}")
    };
    parts.path_and_query = Some(path.parse().ok()?);
    Uri::from_parts(parts).ok()
}

async fn read_body(mut body: Incoming, limit: u64) -> Result<Bytes, FetchError> {
    let mut collected = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| failed(describe(&error)))?;
        if let Ok(data) = frame.into_data() {
            if collected.len() as u64 + data.len() as u64 > limit {
                return Err(FetchError::BodyTooLarge);
            }
            collected.extend_from_slice(&data);
        }
    }
    Ok(collected.freeze())
}

fn gunzip(body: &[u8], limit: u64) -> Result<Vec<u8>, FetchError> {
    let mut plain = Vec::with_capacity(body.len().saturating_mul(4).min(1 << 20));
    let mut decoder = flate2::read::MultiGzDecoder::new(body).take(limit.saturating_add(1));
    decoder
        .read_to_end(&mut plain)
        .map_err(|error| failed(format!("cannot decompress the body: {error}")))?;
    if plain.len() as u64 > limit {
        return Err(FetchError::BodyTooLarge);
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accept_header_is_prometheus_own() {
        assert_eq!(
            accept(&ScrapeProtocol::DEFAULT),
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
             application/openmetrics-text;version=0.0.1;q=0.5,\
             text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
        );
    }

    #[test]
    fn redirects_are_resolved() {
        let base: Uri = "http://h:1/a/b?c=d".parse().unwrap();
        assert_eq!(resolve(&base, "/x").unwrap().to_string(), "http://h:1/x");
        assert_eq!(resolve(&base, "x?y=1").unwrap().to_string(), "http://h:1/a/x?y=1");
        assert_eq!(resolve(&base, "https://g/x").unwrap().to_string(), "https://g/x");
        assert!(resolve(&base, "ftp://g/x").is_none());
    }

    #[test]
    fn a_small_body_that_unpacks_to_a_large_one_is_refused() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        std::io::Write::write_all(&mut encoder, &vec![b'a'; 1 << 20]).unwrap();
        let packed = encoder.finish().unwrap();
        assert!(packed.len() < 2000);
        assert!(matches!(gunzip(&packed, 1000), Err(FetchError::BodyTooLarge)));
        assert_eq!(gunzip(&packed, 1 << 20).unwrap().len(), 1 << 20);
    }
}
