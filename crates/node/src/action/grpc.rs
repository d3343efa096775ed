//! The gRPC health check (`grpc.health.v1.Health/Check`) over HTTP/2 without TLS, with the kubelet's messages.
//!
//! The two messages have one field each, so they are encoded by hand: a request is field 1, a string; a response is
//! field 1, an enum of which 1 is SERVING.

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Request, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::describe;

const PATH: &str = "/grpc.health.v1.Health/Check";
/// A health response is a few bytes; more is not one.
const RESPONSE_BYTES: usize = 4 * 1024;
const UNIMPLEMENTED: u32 = 12;
const DEADLINE_EXCEEDED: u32 = 4;

/// Where to ask about which service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Check {
    pub(super) host: String,
    pub(super) port: u16,
    /// Empty asks about the server as a whole.
    pub(super) service: String,
}

/// A call that ended with something else than a response.
#[derive(Debug)]
struct Status {
    code: u32,
    message: String,
}

impl Check {
    pub(super) fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Asks once; the caller bounds the time.
    pub(super) async fn run(&self, dialer: &super::Dialer) -> Result<(), String> {
        let address = self.address();
        let stream = dialer
            .connect(&self.host, self.port)
            .await
            .map_err(|e| format!("error: failed to connect service at {address:?}: {}", describe(&e)))?;
        match self.call(stream).await {
            Ok(1) => Ok(()),
            Ok(status) => Err(format!("service unhealthy (responded with {:?})", serving_status(status))),
            Err(Status { code: UNIMPLEMENTED, message }) => Err(format!(
                "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {message}"
            )),
            Err(Status { code: DEADLINE_EXCEEDED, .. }) => {
                Err("timeout: health rpc did not complete in the server's time".to_owned())
            }
            Err(Status { code, message }) => Err(format!(
                "error: health rpc probe failed: rpc error: code = {} desc = {message}",
                code_name(code)
            )),
        }
    }

    async fn call(&self, stream: tokio::net::TcpStream) -> Result<u64, Status> {
        let unavailable = |error: hyper::Error| Status { code: 14, message: describe(&error) };
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (mut sender, connection) = handshake.await.map_err(unavailable)?;
        let request = Request::post(format!("http://{}{PATH}", self.address()))
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            .header(header::USER_AGENT, super::USER_AGENT)
            .body(Full::new(frame(&request_message(&self.service))))
            .map_err(|error| Status { code: 13, message: error.to_string() })?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(unavailable)?;
            let (head, mut body) = response.into_parts();
            if head.status != http::StatusCode::OK {
                let message = format!("unexpected HTTP status code received from server: {}", head.status);
                return Err(Status { code: code_of_http(head.status.as_u16()), message });
            }
            let mut status = status_of(&head.headers);
            let mut bytes = BytesMut::new();
            while let Some(frame) = body.frame().await {
                match frame.map_err(unavailable)?.into_data() {
                    Ok(data) if bytes.len() + data.len() <= RESPONSE_BYTES => bytes.extend_from_slice(&data),
                    Ok(_) => return Err(Status { code: 8, message: "the response is too long".into() }),
                    Err(frame) => {
                        status = frame.into_trailers().ok().and_then(|trailers| status_of(&trailers));
                    }
                }
            }
            match status {
                Some(Status { code: 0, .. }) => response_status(&bytes).ok_or_else(|| Status {
                    code: 13,
                    message: "the response is not a HealthCheckResponse".into(),
                }),
                Some(status) => Err(status),
                None => Err(Status {
                    code: 13,
                    message: "server closed the stream without sending trailers".into(),
                }),
            }
        };
        tokio::pin!(connection, exchange);
        tokio::select! {
            done = &mut exchange => done,
            ended = &mut connection => {
                ended.map_err(unavailable)?;
                exchange.await
            }
        }
    }
}

/// A message behind its uncompressed flag and length.
fn frame(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(5 + message.len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.put_slice(message);
    framed.freeze()
}

fn request_message(service: &str) -> Vec<u8> {
    let mut message = Vec::with_capacity(service.len() + 6);
    if !service.is_empty() {
        message.push(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.push((length as u8 & 0x7f) | 0x80);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend_from_slice(service.as_bytes());
    }
    message
}

/// The serving status of a framed response; 0 (UNKNOWN) when the field is absent.
fn response_status(framed: &[u8]) -> Option<u64> {
    let (prefix, mut message) = framed.split_at_checked(5)?;
    let length = usize::try_from(u32::from_be_bytes(prefix[1..].try_into().ok()?)).ok()?;
    if prefix[0] != 0 || length != message.len() {
        return None;
    }
    let mut status = 0;
    while !message.is_empty() {
        let key = varint(&mut message)?;
        let skipped = match key & 7 {
            0 => {
                let value = varint(&mut message)?;
                if key >> 3 == 1 {
                    status = value;
                }
                0
            }
            1 => 8,
            2 => usize::try_from(varint(&mut message)?).ok()?,
            5 => 4,
            _ => return None,
        };
        message = message.get(skipped..)?;
    }
    Some(status)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn status_of(headers: &HeaderMap) -> Option<Status> {
    let code = headers.get("grpc-status")?.to_str().ok()?.parse().unwrap_or(2);
    let message = headers.get("grpc-message").map(|m| percent_decoded(m.as_bytes())).unwrap_or_default();
    Some(Status { code, message })
}

fn percent_decoded(text: &[u8]) -> String {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let escaped = (*first == b'%').then(|| std::str::from_utf8(after.get(..2)?).ok()).flatten();
        match escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                rest = &after[2..];
            }
            None => {
                decoded.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn serving_status(number: u64) -> String {
    match number {
        0 => "UNKNOWN".to_owned(),
        1 => "SERVING".to_owned(),
        2 => "NOT_SERVING".to_owned(),
        3 => "SERVICE_UNKNOWN".to_owned(),
        other => other.to_string(),
    }
}

fn code_of_http(status: u16) -> u32 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => UNIMPLEMENTED,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

fn code_name(code: u32) -> String {
    const NAMES: [&str; 17] = [
        "OK",
        "Canceled",
        "Unknown",
        "InvalidArgument",
        "DeadlineExceeded",
        "NotFound",
        "AlreadyExists",
        "PermissionDenied",
        "ResourceExhausted",
        "FailedPrecondition",
        "Aborted",
        "OutOfRange",
        "Unimplemented",
        "Internal",
        "Unavailable",
        "DataLoss",
        "Unauthenticated",
    ];
    let name = usize::try_from(code).ok().and_then(|code| NAMES.get(code));
    name.map_or_else(|| format!("Code({code})"), |name| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Response;
    use http_body_util::StreamBody;
    use hyper::body::{Frame, Incoming};
    use std::convert::Infallible;

    /// A health server of one service `db`, which answers as the real one does.
    async fn serve() -> u16 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = hyper::service::service_fn(answer);
                tokio::spawn(async move {
                    hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await
                });
            }
        });
        port
    }

    async fn answer(
        request: Request<Incoming>,
    ) -> Result<Response<impl hyper::body::Body<Data = Bytes, Error = Infallible>>, Infallible> {
        assert_eq!(request.uri().path(), PATH);
        assert_eq!(request.headers()["content-type"], "application/grpc");
        let asked = request.into_body().collect().await.unwrap().to_bytes();
        let (message, code, text) = match &asked[5..] {
            [] => (vec![0x08, 1], "0", ""),
            b"\x0a\x02db" => (vec![0x08, 2], "0", ""),
            b"\x0a\x04slow" => {
                tokio::time::sleep(std::time::Duration::from_secs(60)).await;
                (vec![], "0", "")
            }
            b"\x0a\x03old" => (vec![], "12", "unknown service%21"),
            _ => (vec![], "5", "unknown service"),
        };
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", code.parse().unwrap());
        trailers.insert("grpc-message", text.parse().unwrap());
        let data = (code == "0").then(|| Ok(Frame::data(frame(&message))));
        let frames = data.into_iter().chain([Ok(Frame::trailers(trailers))]);
        let body = StreamBody::new(futures::stream::iter(frames));
        Ok(Response::builder().header("content-type", "application/grpc").body(body).unwrap())
    }

    #[tokio::test]
    async fn asks_a_health_server() {
        let port = serve().await;
        let check = |service: &str| Check { host: "127.0.0.1".into(), port, service: service.into() };
        assert_eq!(check("").run(&crate::action::Dialer::default()).await, Ok(()));
        let cases = [
            ("db", "service unhealthy (responded with \"NOT_SERVING\")"),
            (
                "old",
                "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): unknown service!",
            ),
            ("x", "error: health rpc probe failed: rpc error: code = NotFound desc = unknown service"),
        ];
        for (service, expected) in cases {
            assert_eq!(
                check(service).run(&crate::action::Dialer::default()).await,
                Err(expected.to_owned()),
                "{service}"
            );
        }
    }

    #[test]
    fn responses_are_read_and_refused() {
        assert_eq!(response_status(&frame(&[])), Some(0));
        assert_eq!(response_status(&frame(&[0x12, 2, 9, 9, 0x08, 3])), Some(3));
        for bad in [&[][..], &[0, 0, 0, 0, 9], &[1, 0, 0, 0, 0], &frame(&[0x08]), &frame(&[0x12, 200, 1])] {
            assert_eq!(response_status(bad), None, "{bad:?}");
        }
        let name = "x".repeat(300);
        assert_eq!(&request_message(&name)[..3], [0x0a, 0xac, 0x02]);
    }
}
