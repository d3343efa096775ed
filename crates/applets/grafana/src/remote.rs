//! A Prometheus behind its HTTP API.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use bytes::Bytes;
use gantry_dashboards::{Answer, DataSource, Series, SourceError};
use gantry_prom_model::Labels;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use crate::datasource::Entry;

const TIMEOUT: Duration = Duration::from_secs(60);
const MOST_BYTES: usize = 128 << 20;

/// Asks over HTTP or HTTPS, with the credentials of its entry.
pub(crate) struct Remote {
    base: String,
    headers: HeaderMap,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

/// What a source answered, undecoded.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) content_type: Option<HeaderValue>,
    pub(crate) body: Bytes,
}

#[derive(Deserialize)]
struct Envelope<T> {
    status: String,
    #[serde(default)]
    error: String,
    data: Option<T>,
    #[serde(default)]
    warnings: Vec<String>,
}

#[derive(Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
enum Found {
    Matrix(Vec<Row>),
    Vector(Vec<Row>),
    Scalar((f64, String)),
    String(#[expect(dead_code, reason = "that it is a text is all that matters")] (f64, String)),
}

#[derive(Deserialize)]
struct Row {
    metric: std::collections::BTreeMap<String, String>,
    #[serde(default)]
    values: Vec<(f64, String)>,
    value: Option<(f64, String)>,
}

// === impl Remote ===

impl Remote {
    pub(crate) fn new(entry: &Entry) -> Result<Remote, String> {
        let wrong = |reason: &str| format!("data source {}: url {:?} {reason}", entry.name, entry.url);
        let base = entry.url.trim_end_matches('/').to_owned();
        let uri: Uri = base.parse().map_err(|_| wrong("is not a URL"))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() {
            return Err(wrong("is not an http:// or https:// address"));
        }
        let mut headers = HeaderMap::new();
        if entry.basic_auth {
            let password = entry.secret("basicAuthPassword").unwrap_or_default();
            let pair = format!("{}:{password}", entry.basic_auth_user);
            let value = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair));
            let mut value = HeaderValue::from_str(&value)
                .map_err(|_| wrong("has credentials that no header can carry"))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        for n in 1..50 {
            let Some(name) =
                entry.json_data.get(&format!("httpHeaderName{n}")).and_then(|name| name.as_str())
            else {
                break;
            };
            let value = entry.secret(&format!("httpHeaderValue{n}")).unwrap_or_default();
            let name = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| wrong("has a header name that is none"))?;
            let mut value =
                HeaderValue::from_str(value).map_err(|_| wrong("has a header value that is none"))?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        let builder = hyper_rustls::HttpsConnectorBuilder::new();
        let builder = if uri.scheme_str() == Some("https") {
            builder.with_provider_and_native_roots(rustls::crypto::ring::default_provider())
        } else {
            // Where nothing is encrypted the system need not have any certificates.
            without_roots().map(|config| builder.with_tls_config(config)).map_err(std::io::Error::other)
        };
        let builder = builder.map_err(|error| format!("data source {}: {error}", entry.name))?;
        let connector = builder.https_or_http().enable_http1().build();
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(16)
            .build(connector);
        Ok(Remote { base, headers, client })
    }

    /// One request to a path below the source's address.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: Option<HeaderValue>,
        body: Bytes,
    ) -> Result<Reply, SourceError> {
        let wrong = |reason: String| {
            SourceError(format!("{}{}: {reason}", self.base, path.split('?').next().unwrap_or("")))
        };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .body(Full::new(body))
            .map_err(|error| wrong(error.to_string()))?;
        let headers = request.headers_mut();
        headers.extend(self.headers.clone());
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, */*"));
        if let Some(content_type) = content_type {
            headers.insert(CONTENT_TYPE, content_type);
        }
        let exchange = async {
            let response = self.client.request(request).await.map_err(|error| {
                let cause =
                    std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
                wrong(format!("{error}{cause}"))
            })?;
            let (parts, body) = response.into_parts();
            let body =
                Limited::new(body, MOST_BYTES).collect().await.map_err(|error| wrong(error.to_string()))?;
            Ok(Reply {
                status: parts.status,
                content_type: parts.headers.get(CONTENT_TYPE).cloned(),
                body: body.to_bytes(),
            })
        };
        match tokio::time::timeout(TIMEOUT, exchange).await {
            Ok(reply) => reply,
            Err(_) => Err(wrong(format!("no answer within {} s", TIMEOUT.as_secs()))),
        }
    }

    async fn ask<T: for<'de> Deserialize<'de>>(
        &self,
        method: Method,
        path: &str,
        parameters: &[(&str, String)],
    ) -> Result<(T, Vec<String>), SourceError> {
        let pairs = parameters
            .iter()
            .map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)));
        let form = pairs.collect::<Vec<_>>().join("&");
        let reply = if method == Method::POST {
            let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
            self.send(method, path, Some(kind), Bytes::from(form)).await?
        } else {
            self.send(method, &format!("{path}?{form}"), None, Bytes::new()).await?
        };
        let read: Result<Envelope<T>, _> = serde_json::from_slice(&reply.body);
        match read {
            Ok(Envelope { status, data: Some(data), warnings, .. }) if status == "success" => {
                Ok((data, warnings))
            }
            Ok(Envelope { error, .. }) if !error.is_empty() => Err(SourceError(error)),
            _ => Err(SourceError(format!(
                "{}{path} answered {} and no Prometheus answer",
                self.base, reply.status
            ))),
        }
    }
}

fn without_roots() -> Result<rustls::ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth())
}

fn seconds(ms: i64) -> String {
    format!("{}.{:03}", ms.div_euclid(1000), ms.rem_euclid(1000))
}

fn answer(found: Found, warnings: Vec<String>) -> Result<Answer, SourceError> {
    let number = |text: &str| gantry_prom_model::parse_float(text).unwrap_or(f64::NAN);
    let ms = |seconds: f64| (seconds * 1000.0).round() as i64;
    let one = |row: Row| {
        let points = row.values.into_iter().chain(row.value);
        let (times_ms, values) = points.map(|(time, value)| (ms(time), number(&value))).unzip();
        Series { labels: Labels::from_pairs(&row.metric), times_ms, values }
    };
    let series = match found {
        Found::Matrix(rows) | Found::Vector(rows) => rows.into_iter().map(one).collect(),
        Found::Scalar((time, value)) => {
            vec![Series { labels: Labels::empty(), times_ms: vec![ms(time)], values: vec![number(&value)] }]
        }
        Found::String(_) => {
            return Err(SourceError("the query answers with a text, which no panel can show".to_owned()));
        }
    };
    Ok(Answer { series, warnings })
}

#[async_trait]
impl DataSource for Remote {
    async fn range(
        &self,
        expr: &str,
        start_ms: i64,
        end_ms: i64,
        step_ms: i64,
    ) -> Result<Answer, SourceError> {
        let parameters = [
            ("query", expr.to_owned()),
            ("start", seconds(start_ms)),
            ("end", seconds(end_ms)),
            ("step", seconds(step_ms)),
        ];
        let (found, warnings) = self.ask(Method::POST, "/api/v1/query_range", &parameters).await?;
        answer(found, warnings)
    }

    async fn instant(&self, expr: &str, time_ms: i64) -> Result<Answer, SourceError> {
        let parameters = [("query", expr.to_owned()), ("time", seconds(time_ms))];
        let (found, warnings) = self.ask(Method::POST, "/api/v1/query", &parameters).await?;
        answer(found, warnings)
    }

    async fn label_values(
        &self,
        label: &str,
        selector: Option<&str>,
        start_ms: i64,
        end_ms: i64,
    ) -> Result<Vec<String>, SourceError> {
        let mut parameters = vec![("start", seconds(start_ms)), ("end", seconds(end_ms))];
        parameters.extend(selector.map(|selector| ("match[]", selector.to_owned())));
        let path = format!(
            "/api/v1/label/{}/values",
            utf8_percent_encode(label, NON_ALPHANUMERIC).to_string().replace("%5F", "_")
        );
        Ok(self.ask(Method::GET, &path, &parameters).await?.0)
    }

    async fn label_names(&self, start_ms: i64, end_ms: i64) -> Result<Vec<String>, SourceError> {
        let parameters = [("start", seconds(start_ms)), ("end", seconds(end_ms))];
        Ok(self.ask(Method::GET, "/api/v1/labels", &parameters).await?.0)
    }

    async fn series(&self, selector: &str, start_ms: i64, end_ms: i64) -> Result<Vec<Labels>, SourceError> {
        let parameters =
            [("match[]", selector.to_owned()), ("start", seconds(start_ms)), ("end", seconds(end_ms))];
        let (rows, _): (Vec<std::collections::BTreeMap<String, String>>, _) =
            self.ask(Method::GET, "/api/v1/series", &parameters).await?;
        Ok(rows.iter().map(Labels::from_pairs).collect())
    }
}
