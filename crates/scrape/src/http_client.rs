//! One server over HTTP: a kept-alive connection, TLS, credentials that go to nobody else, redirects.

mod tls;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::header::{
    AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, LOCATION, USER_AGENT,
};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::config::HttpClientConfig;

const MAX_REDIRECTS: usize = 10;
/// How much of an answer that only says yes or no is read.
const MAX_ANSWER_BYTES: u64 = 64 * 1024;

/// Speaks with one server. The caller bounds the time.
pub struct HttpClient {
    url: Uri,
    headers: HeaderMap,
    config: HttpClientConfig,
    tls: Option<Arc<rustls::ClientConfig>>,
    connection: Option<(String, SendRequest<Full<Bytes>>)>,
    dialer: Option<Arc<dyn Dialer>>,
}

/// Connects to servers that are not in this machine's own network.
#[async_trait]
pub trait Dialer: Send + Sync + 'static {
    /// Whether the address is one of the other network.
    fn owns(&self, address: IpAddr) -> bool;

    /// Connects to an address that it owns.
    async fn connect(&self, address: SocketAddr) -> std::io::Result<TcpStream>;
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("{0}")]
    Failed(String),
    #[error("body size limit exceeded")]
    BodyTooLarge,
}

pub(crate) fn failed(reason: impl std::fmt::Display) -> HttpError {
    HttpError::Failed(reason.to_string())
}

impl std::fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpClient").field("url", &self.url).finish_non_exhaustive()
    }
}

// === impl HttpClient ===

impl HttpClient {
    /// # Errors
    /// When `url` is none, or a header, certificate or file of the configuration cannot be used.
    pub fn new(url: &str, config: &HttpClientConfig) -> Result<HttpClient, String> {
        let url: Uri = url.parse().map_err(|error| format!("{url:?} is not a URL: {error}"))?;
        let tls = match url.scheme_str() {
            Some("https") => Some(tls::client_config(&config.tls_config)?),
            _ => None,
        };
        let mut client = HttpClient {
            url,
            headers: HeaderMap::new(),
            config: config.clone(),
            tls,
            connection: None,
            dialer: None,
        };
        client.header(USER_AGENT, concat!("gantry/", env!("CARGO_PKG_VERSION")))?;
        for (name, values) in &config.http_headers {
            let name = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| format!("{name:?} is not a header name"))?;
            for value in values.values.iter().chain(values.secrets.iter().map(|secret| &secret.0)) {
                client.header(name.clone(), value)?;
            }
            for file in &values.files {
                client.header(name.clone(), &read_secret(file)?)?;
            }
        }
        Ok(client)
    }

    /// Adds a header to every request.
    pub(crate) fn header(&mut self, name: HeaderName, value: &str) -> Result<(), String> {
        let value = HeaderValue::from_str(value)
            .map_err(|_| format!("header {name} has characters it cannot have"))?;
        self.headers.append(name, value);
        Ok(())
    }

    /// Connects through `dialer` to addresses that it owns.
    #[must_use]
    pub fn reaching(mut self, dialer: Option<Arc<dyn Dialer>>) -> HttpClient {
        self.dialer = dialer;
        self
    }

    /// The answer to a GET, after redirects.
    pub(crate) async fn get(&mut self) -> Result<Response<Incoming>, HttpError> {
        self.send(&Method::GET, &Bytes::new()).await
    }

    /// The body of the answer to a GET, which must be a 200 of at most `limit` bytes, with its `Content-Type`.
    ///
    /// # Errors
    /// When there is no such answer.
    pub async fn get_body(&mut self, limit: u64) -> Result<(String, Bytes), HttpError> {
        let response = self.get().await?;
        if response.status() != StatusCode::OK {
            return Err(failed(format!("server returned HTTP status {}", show_status(response.status()))));
        }
        let header = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let content_type = header.unwrap_or("").to_owned();
        Ok((content_type, read_body(response.into_body(), limit).await?))
    }

    /// Posts a body; any status of 2xx is a yes.
    ///
    /// # Errors
    /// When the server cannot be reached or says no.
    pub async fn post(&mut self, content_type: &'static str, body: &Bytes) -> Result<(), HttpError> {
        self.headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        let response = self.send(&Method::POST, body).await?;
        let status = response.status();
        // Read to its end, so that the connection can be used again.
        let _ = read_body(response.into_body(), MAX_ANSWER_BYTES).await;
        if status.is_success() {
            Ok(())
        } else {
            Err(failed(format!("bad response status {}", show_status(status))))
        }
    }

    /// The answer to a POST, whatever its status; of its body at most `limit` bytes are kept.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn exchange(
        &mut self,
        headers: &[(&'static str, &'static str)],
        body: &Bytes,
        limit: usize,
    ) -> Result<Response<Bytes>, HttpError> {
        for (name, value) in headers {
            self.headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let (parts, mut body) = self.send(&Method::POST, body).await?.into_parts();
        let mut kept = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| failed(describe(&error)))?;
            let Ok(data) = frame.into_data() else { continue };
            let room = limit.saturating_sub(kept.len());
            kept.extend_from_slice(&data[..data.len().min(room)]);
            if data.len() > room {
                // What is not read would stand in the way of the next answer.
                self.connection = None;
                break;
            }
        }
        Ok(Response::from_parts(parts, kept.freeze()))
    }

    async fn send(&mut self, method: &Method, body: &Bytes) -> Result<Response<Incoming>, HttpError> {
        let mut url = self.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let response = self.request(&url, method, body).await?;
            let status = response.status().as_u16();
            // What was posted is posted again only where the server says that the method stays.
            let is_redirect = match *method {
                Method::GET => matches!(status, 301 | 302 | 303 | 307 | 308),
                _ => matches!(status, 307 | 308),
            };
            if !is_redirect || !self.config.follow_redirects {
                return Ok(response);
            }
            let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            let location = location.ok_or_else(|| failed("redirect without a location"))?;
            url = resolve(&url, location)
                .ok_or_else(|| failed(format!("redirect to {location:?}, which is no URL")))?;
        }
        Err(failed(format!("stopped after {MAX_REDIRECTS} redirects")))
    }

    async fn request(
        &mut self,
        url: &Uri,
        method: &Method,
        body: &Bytes,
    ) -> Result<Response<Incoming>, HttpError> {
        let authority = url.authority().ok_or_else(|| failed("the URL has no host"))?.to_string();
        let origin = format!("{}://{authority}", url.scheme_str().unwrap_or("http"));
        let path = url.path_and_query().map_or("/", |path| path.as_str());
        let mut request =
            Request::builder().method(method).uri(path).body(Full::new(body.clone())).map_err(failed)?;
        *request.headers_mut() = self.headers.clone();
        request.headers_mut().insert(HOST, HeaderValue::from_str(&authority).map_err(failed)?);
        // Credentials are for the server alone, not for wherever it sends us.
        if url.authority() == self.url.authority() {
            self.authorize(request.headers_mut()).map_err(HttpError::Failed)?;
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
        let value = if let Some(basic) = &self.config.basic_auth {
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
        } else if let Some(authorization) = &self.config.authorization {
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

    async fn connect(&self, url: &Uri) -> Result<SendRequest<Full<Bytes>>, HttpError> {
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
            None => tls::client_config(&self.config.tls_config).map_err(HttpError::Failed)?,
        };
        let name = self.config.tls_config.server_name.clone().unwrap_or(host);
        let name = rustls_pki_types::ServerName::try_from(name).map_err(failed)?;
        let stream = tokio_rustls::TlsConnector::from(config).connect(name, stream).await.map_err(failed)?;
        handshake(stream).await
    }
}

async fn handshake<S>(stream: S) -> Result<SendRequest<Full<Bytes>>, HttpError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    // Ends when the sender is dropped or the server closes.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::trace!(%error, "connection to a server ended");
        }
    });
    Ok(sender)
}

/// `503 Service Unavailable`.
pub(crate) fn show_status(status: StatusCode) -> String {
    format!("{} {}", status.as_u16(), status.canonical_reason().unwrap_or("")).trim_end().to_owned()
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

pub(crate) async fn read_body(mut body: Incoming, limit: u64) -> Result<Bytes, HttpError> {
    let mut collected = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| failed(describe(&error)))?;
        if let Ok(data) = frame.into_data() {
            if collected.len() as u64 + data.len() as u64 > limit {
                return Err(HttpError::BodyTooLarge);
            }
            collected.extend_from_slice(&data);
        }
    }
    Ok(collected.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_resolved() {
        let base: Uri = "http://h:1/a/b?c=d".parse().unwrap();
        assert_eq!(resolve(&base, "/x").unwrap().to_string(), "http://h:1/x");
        assert_eq!(resolve(&base, "x?y=1").unwrap().to_string(), "http://h:1/a/x?y=1");
        assert_eq!(resolve(&base, "https://g/x").unwrap().to_string(), "https://g/x");
        assert!(resolve(&base, "ftp://g/x").is_none());
    }
}
