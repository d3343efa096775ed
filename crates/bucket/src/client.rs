//! HTTP towards S3, over the libraries that the rest of the program uses.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector as TcpConnector;
use hyper_util::rt::TokioExecutor;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse,
    HttpResponseBody, HttpService,
};
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};

use crate::config::{ConfigError, wrong};

/// Longer than this no request waits for the head of its answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

#[derive(Debug, Clone)]
pub(crate) struct Connector {
    client: Client<HttpsConnector<TcpConnector>, HttpRequestBody>,
}

impl Connector {
    /// Trusts the certificates in `ca_file`, those of the system when it is empty.
    pub(crate) fn new(ca_file: &str) -> Result<Connector, ConfigError> {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong("config.http_config", error.to_string()))?;
        let tls = if ca_file.is_empty() {
            use hyper_rustls::ConfigBuilderExt;
            builder.with_native_roots().map_err(|error| wrong("config.http_config", error.to_string()))?
        } else {
            builder.with_root_certificates(roots(ca_file)?)
        }
        .with_no_client_auth();
        let connector =
            hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(Duration::from_secs(90))
            .build(connector.build());
        Ok(Connector { client })
    }
}

fn roots(ca_file: &str) -> Result<RootCertStore, ConfigError> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    const FIELD: &str = "config.http_config.tls_config.ca_file";
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(ca_file)
        .map_err(|error| wrong(FIELD, format!("cannot read {ca_file}: {error}")))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| wrong(FIELD, format!("{ca_file}: {error}")))?;
        roots.add(certificate).map_err(|error| wrong(FIELD, format!("{ca_file}: {error}")))?;
    }
    Ok(roots)
}

impl HttpConnector for Connector {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Connector {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, self.client.request(request)).await;
        let response = match answer {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                let kind = if error.is_connect() { HttpErrorKind::Connect } else { HttpErrorKind::Request };
                return Err(HttpError::new(kind, error));
            }
            Err(error) => return Err(HttpError::new(HttpErrorKind::Timeout, error)),
        };
        use http_body_util::BodyExt;
        Ok(response.map(|body| {
            HttpResponseBody::new(body.map_err(|error| HttpError::new(HttpErrorKind::Interrupted, error)))
        }))
    }
}
