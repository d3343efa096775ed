//! The HTTP request of a probe or hook, over plain TCP or TLS, with the kubelet's headers, redirects and messages.
//!
//! The certificate of a pod is not verified: a probe asks whether the program answers, not who it is.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Uri, header};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use super::describe;

/// More of a body than this is not read; it is only shown in messages.
const BODY_BYTES: usize = 10 * 1024;
const REDIRECTS: usize = 10;

/// Where and what to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Get {
    pub(super) tls: bool,
    pub(super) host: String,
    pub(super) port: u16,
    /// Begins with a slash; a query may follow.
    pub(super) path: String,
    pub(super) headers: Vec<(String, String)>,
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

impl Get {
    pub(super) fn url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}:{}{}", self.host, self.port, self.path)
    }

    /// Asks, following redirects to the same host. A redirect to another host is an answer, as for the kubelet.
    pub(super) async fn run(&self, dialer: &super::Dialer) -> Result<(), String> {
        let mut get = self.clone();
        for _ in 0..=REDIRECTS {
            let answer =
                get.once(dialer).await.map_err(|e| format!("Get \"{}\": {}", get.url(), describe(&*e)))?;
            let next = answer.location.as_deref().filter(|_| matches!(answer.status, 301..=303 | 307 | 308));
            match next.and_then(|location| get.redirected(location)) {
                Some(next) => get = next,
                None if (200..400).contains(&answer.status) => return Ok(()),
                None => return Err(format!("HTTP probe failed with statuscode: {}", answer.status)),
            }
        }
        Err(format!("Get \"{}\": stopped after {REDIRECTS} redirects", self.url()))
    }

    /// `None` when the location is another host or not understood.
    fn redirected(&self, location: &str) -> Option<Get> {
        let target: Uri = location.parse().ok()?;
        let path = target.path_and_query().map_or("/", |path| path.as_str());
        let Some(host) = target.host() else {
            let path = match path.starts_with('/') {
                true => path.to_owned(),
                false => {
                    let folder = self.path.split('?').next().and_then(|path| path.rsplit_once('/'));
                    format!("{}/{path}", folder.map_or("", |(folder, _)| folder))
                }
            };
            return Some(Get { path, ..self.clone() });
        };
        if !host.eq_ignore_ascii_case(&self.host) {
            return None;
        }
        let tls = match target.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return None,
        };
        let port = target.port_u16().unwrap_or(if tls { 443 } else { 80 });
        Some(Get { tls, port, path: path.to_owned(), ..self.clone() })
    }

    async fn once(&self, dialer: &super::Dialer) -> Result<Answer, AnyError> {
        let stream = dialer.connect(&self.host, self.port).await?;
        if !self.tls {
            return self.exchange(stream).await;
        }
        let name = ServerName::try_from(self.host.clone())?;
        let stream = TlsConnector::from(Arc::new(tls_config()?)).connect(name, stream).await?;
        self.exchange(stream).await
    }

    fn request(&self) -> Result<Request<Empty<Bytes>>, AnyError> {
        let mut request = Request::get(&self.path);
        let given = |name: &str| self.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
        if !given("host") {
            request = request.header(header::HOST, format!("{}:{}", self.host, self.port));
        }
        if !given("user-agent") {
            request = request.header(header::USER_AGENT, super::USER_AGENT);
        }
        if !given("accept") {
            request = request.header(header::ACCEPT, "*/*");
        }
        request = request.header(header::CONNECTION, "close");
        // An empty value means that the header is not sent.
        for (name, value) in self.headers.iter().filter(|(_, value)| !value.is_empty()) {
            request = request.header(name, value);
        }
        Ok(request.body(Empty::new())?)
    }

    async fn exchange(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<Answer, AnyError> {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let request = self.request()?;
        let exchange = async {
            let response = sender.send_request(request).await?;
            let status = response.status().as_u16();
            let location = response.headers().get(header::LOCATION).and_then(|l| l.to_str().ok());
            let location = location.map(str::to_owned);
            let mut body = response.into_body();
            let mut read = 0;
            while let Some(frame) = body.frame().await {
                read += frame?.data_ref().map_or(0, Bytes::len);
                if read > BODY_BYTES {
                    break;
                }
            }
            Ok::<Answer, AnyError>(Answer { status, location })
        };
        tokio::pin!(connection, exchange);
        tokio::select! {
            done = &mut exchange => done,
            ended = &mut connection => {
                ended?;
                exchange.await
            }
        }
    }
}

struct Answer {
    status: u16,
    location: Option<String>,
}

fn tls_config() -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let schemes = provider.signature_verification_algorithms.supported_schemes();
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let verifier = Arc::new(AnyCertificate { schemes });
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

#[derive(Debug)]
struct AnyCertificate {
    schemes: Vec<SignatureScheme>,
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn get(port: u16, path: &str) -> Get {
        let headers = vec![("x-probe".to_string(), "1".to_string())];
        Get { tls: false, host: "127.0.0.1".into(), port, path: path.into(), headers }
    }

    async fn serve(answers: Vec<String>) -> (u16, tokio::task::JoinHandle<Vec<String>>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = tokio::spawn(async move {
            let mut asked = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                asked.push(exchange(&mut stream, &answer).await);
            }
            asked
        });
        (port, serving)
    }

    async fn exchange(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), answer: &str) -> String {
        let mut request = vec![0; 1024];
        let n = stream.read(&mut request).await.unwrap();
        let answer = format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        String::from_utf8_lossy(&request[..n]).into_owned()
    }

    #[tokio::test]
    async fn statuses_decide_and_redirects_to_the_same_host_are_followed() {
        let answers = [
            "204 No Content",
            "302 Found\r\nlocation: http://elsewhere.test/",
            "503 Busy",
            "301 Moved\r\nlocation: /b?c",
            "500 No",
        ];
        let (port, serving) = serve(answers.map(str::to_owned).to_vec()).await;
        assert_eq!(get(port, "/").run(&crate::action::Dialer::default()).await, Ok(()));
        assert_eq!(get(port, "/").run(&crate::action::Dialer::default()).await, Ok(()));
        assert_eq!(
            get(port, "/").run(&crate::action::Dialer::default()).await,
            Err("HTTP probe failed with statuscode: 503".into())
        );
        assert_eq!(
            get(port, "/a").run(&crate::action::Dialer::default()).await,
            Err("HTTP probe failed with statuscode: 500".into())
        );
        let asked = serving.await.unwrap();
        assert!(asked.iter().all(|request| request.contains("x-probe: 1")));
        assert!(asked[4].starts_with("GET /b?c HTTP/1.1\r\n"), "{}", asked[4]);
    }

    #[tokio::test]
    async fn endless_redirects_end() {
        let (port, _serving) = serve(vec!["301 Moved\r\nlocation: /".to_owned(); 11]).await;
        let message = get(port, "/").run(&crate::action::Dialer::default()).await.unwrap_err();
        assert!(message.ends_with("stopped after 10 redirects"), "{message}");
    }

    #[tokio::test]
    async fn a_self_signed_certificate_is_good_enough() {
        let key = rcgen::generate_simple_self_signed(["pod".to_string()]).unwrap();
        let certificate = key.cert.der().clone();
        let private = rustls::pki_types::PrivatePkcs8KeyDer::from(key.signing_key.serialize_der()).into();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], private)
            .unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        tokio::spawn(async move {
            for answer in ["200 OK", "503 Busy"] {
                let (stream, _) = listener.accept().await.unwrap();
                let mut stream = acceptor.accept(stream).await.unwrap();
                exchange(&mut stream, answer).await;
            }
        });
        let get = Get { tls: true, ..get(port, "/healthz") };
        assert_eq!(get.run(&crate::action::Dialer::default()).await, Ok(()));
        assert_eq!(
            get.run(&crate::action::Dialer::default()).await,
            Err("HTTP probe failed with statuscode: 503".into())
        );
    }

    #[tokio::test]
    async fn what_refuses_a_connection_is_named_as_go_names_it() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let expected = format!(
            "Get \"http://127.0.0.1:{port}/x\": dial tcp 127.0.0.1:{port}: connect: connection refused"
        );
        assert_eq!(get(port, "/x").run(&crate::action::Dialer::default()).await, Err(expected));
    }
}
