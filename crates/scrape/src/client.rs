//! Fetches an exposition: what is asked for, what came, and bounds on its size.

use std::io::Read;
use std::sync::Arc;

use gantry_prom_model::ExpositionFormat;
use http::StatusCode;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName};

use crate::config::{ScrapeConfig, ScrapeProtocol};
use crate::http_client::{Dialer, HttpClient, HttpError, failed, read_body, show_status};
use crate::target::Target;

/// The bound on a body where none is configured; without one a target could take all memory.
const MAX_BODY_BYTES: u64 = 512 * 1024 * 1024;

/// Fetches one target.
pub(crate) struct Client {
    http: HttpClient,
    body_limit: u64,
    fallback: Option<ScrapeProtocol>,
}

impl Client {
    pub(crate) fn new(
        config: &ScrapeConfig,
        target: &Target,
        dialer: Option<Arc<dyn Dialer>>,
    ) -> Result<Client, String> {
        let mut http = HttpClient::new(&target.url, &config.http)?.reaching(dialer);
        let protocols = config.scrape_protocols.as_deref().unwrap_or(&ScrapeProtocol::DEFAULT);
        http.header(ACCEPT, &accept(protocols))?;
        http.header(ACCEPT_ENCODING, if config.enable_compression { "gzip" } else { "identity" })?;
        let timeout = HeaderName::from_static("x-prometheus-scrape-timeout-seconds");
        http.header(timeout, &(target.timeout_ms as f64 / 1000.0).to_string())?;
        Ok(Client {
            http,
            body_limit: config.body_size_limit.map_or(0, |limit| limit.0),
            fallback: config.fallback_scrape_protocol,
        })
    }

    /// The exposition, decompressed, with its format. The caller bounds the time.
    pub(crate) async fn fetch(&mut self) -> Result<(String, ExpositionFormat), HttpError> {
        let response = self.http.get().await?;
        if response.status() != StatusCode::OK {
            return Err(failed(format!("server returned HTTP status {}", show_status(response.status()))));
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

fn format_of(headers: &HeaderMap, fallback: Option<ScrapeProtocol>) -> Result<ExpositionFormat, HttpError> {
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

fn gunzip(body: &[u8], limit: u64) -> Result<Vec<u8>, HttpError> {
    let mut plain = Vec::with_capacity(body.len().saturating_mul(4).min(1 << 20));
    let mut decoder = flate2::read::MultiGzDecoder::new(body).take(limit.saturating_add(1));
    decoder
        .read_to_end(&mut plain)
        .map_err(|error| failed(format!("cannot decompress the body: {error}")))?;
    if plain.len() as u64 > limit {
        return Err(HttpError::BodyTooLarge);
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
    fn a_small_body_that_unpacks_to_a_large_one_is_refused() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        std::io::Write::write_all(&mut encoder, &vec![b'a'; 1 << 20]).unwrap();
        let packed = encoder.finish().unwrap();
        assert!(packed.len() < 2000);
        assert!(matches!(gunzip(&packed, 1000), Err(HttpError::BodyTooLarge)));
        assert_eq!(gunzip(&packed, 1 << 20).unwrap().len(), 1 << 20);
    }
}
