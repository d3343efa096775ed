//! HTTP towards S3, over the libraries that the rest of the program uses.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
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
use tokio::time::Sleep;

use crate::config::{ConfigError, wrong};

/// Longer than this no request waits for the head of its answer, nor for the next part of it.
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
        Ok(response
            .map(|body| HttpResponseBody::new(Watched { body, timeout: ANSWER_TIMEOUT, waiting: None })))
    }
}

/// A body that fails when nothing comes for too long. How long all of it takes is not limited: objects are of any size.
struct Watched<B> {
    body: B,
    timeout: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<B> Body for Watched<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let Watched { body, timeout, waiting } = &mut *self;
        if let Poll::Ready(frame) = Pin::new(body).poll_frame(context) {
            *waiting = None;
            return Poll::Ready(
                frame.map(|frame| frame.map_err(|error| HttpError::new(HttpErrorKind::Interrupted, error))),
            );
        }
        let sleep = waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(*timeout)));
        if sleep.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        let text = format!("nothing more came for {} s", timeout.as_secs_f64());
        let error = std::io::Error::new(std::io::ErrorKind::TimedOut, text);
        Poll::Ready(Some(Err(HttpError::new(HttpErrorKind::Timeout, error))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt, Channel};

    #[tokio::test]
    async fn a_body_that_stops_half_way_is_an_error() {
        let (mut sender, body) = Channel::<Bytes, std::io::Error>::new(1);
        sender.send_data(Bytes::from_static(b"half")).await.unwrap();
        let mut watched = Watched { body, timeout: Duration::from_millis(20), waiting: None };
        let first = watched.frame().await.unwrap().unwrap();
        assert_eq!(first.into_data().unwrap(), "half");
        let error = watched.frame().await.unwrap().unwrap_err();
        assert!(matches!(error.kind(), HttpErrorKind::Timeout), "{error:?}");
        drop(sender);
    }
}
