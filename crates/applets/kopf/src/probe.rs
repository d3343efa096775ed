//! The liveness endpoint: answers with the results of the user's probes, asked anew every ten seconds at most.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gantry_operator::Clock;
use gantry_serve::{ListenConfig, Listener};
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::worker::Worker;

const MAX_AGE: Duration = Duration::from_secs(10);
/// A worker that does not answer in this time is not alive.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where probes are answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) addr: SocketAddr,
    pub(crate) path: String,
}

impl Endpoint {
    /// Reads `http://HOST:PORT/PATH`; without a host it is localhost, without a port 80.
    pub(crate) fn parse(url: &str) -> Result<Endpoint, String> {
        let cannot = |why: &str| format!("--liveness {url}: {why}, say http://HOST:PORT/PATH");
        let uri: http::Uri = url.parse().map_err(|_| cannot("this is no URL"))?;
        if uri.scheme_str() != Some("http") {
            return Err(cannot("only http is served"));
        }
        let host = uri.host().unwrap_or("localhost").trim_matches(['[', ']']);
        let port = uri.port_u16().unwrap_or(80);
        let addr = match host.parse::<IpAddr>() {
            Ok(address) => SocketAddr::new(address, port),
            Err(_) => (host, port)
                .to_socket_addrs()
                .ok()
                .and_then(|mut found| found.next())
                .ok_or_else(|| cannot("the host is not known"))?,
        };
        Ok(Endpoint { addr, path: uri.path().to_owned() })
    }
}

/// Answers until `shutdown`.
pub(crate) async fn serve(
    endpoint: Endpoint,
    worker: Worker,
    clock: Arc<dyn Clock>,
    shutdown: CancellationToken,
) -> Result<(), String> {
    let listener = Listener::bind(ListenConfig::plain(endpoint.addr))
        .await
        .map_err(|error| format!("--liveness: {error}"))?;
    let path: Arc<str> = endpoint.path.as_str().into();
    let known: Arc<tokio::sync::Mutex<Option<(Duration, Value)>>> = Arc::default();
    let service = tower::service_fn(move |request: Request<hyper::body::Incoming>| {
        let (worker, clock, path, known) = (worker.clone(), clock.clone(), path.clone(), known.clone());
        async move {
            if request.uri().path() != &*path {
                return Ok::<_, Infallible>(answer(StatusCode::NOT_FOUND, &json!({ "error": "not found" })));
            }
            // Requests that come meanwhile wait for the same answer.
            let mut known = known.lock().await;
            let now = clock.monotonic();
            if let Some((at, value)) = &*known
                && now.saturating_sub(*at) < MAX_AGE
            {
                return Ok(answer(StatusCode::OK, value));
            }
            match tokio::time::timeout(PATIENCE, ask(&worker)).await {
                Ok(Ok(value)) => {
                    let response = answer(StatusCode::OK, &value);
                    *known = Some((now, value));
                    Ok(response)
                }
                Ok(Err(reason)) => Ok(answer(StatusCode::INTERNAL_SERVER_ERROR, &json!({ "error": reason }))),
                Err(_) => Ok(answer(
                    StatusCode::SERVICE_UNAVAILABLE,
                    &json!({ "error": "the worker process does not answer" }),
                )),
            }
        }
    });
    listener.serve(service, shutdown).await;
    Ok(())
}

async fn ask(worker: &Worker) -> Result<Value, String> {
    let session = worker.session().await.ok_or("there is no worker process")?;
    let asked = session.ask(json!({ "op": "activity", "kind": "probe" })).await;
    let said = asked.map_err(|error| error.to_string())?;
    match said.error {
        Some(raised) => Err(raised.message),
        None => Ok(said.result),
    }
}

fn answer(status: StatusCode, value: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(value.to_string())));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_and_refused() {
        let endpoint = Endpoint::parse("http://0.0.0.0:8080/healthz").expect("good");
        assert_eq!(
            (endpoint.addr.to_string().as_str(), endpoint.path.as_str()),
            ("0.0.0.0:8080", "/healthz")
        );
        assert_eq!(Endpoint::parse("http://127.0.0.1").expect("good").addr.port(), 80);
        for url in ["https://127.0.0.1:1/x", "8080", "http://no.such.host.invalid:1/"] {
            assert!(Endpoint::parse(url).is_err_and(|error| error.contains("say http://")), "{url}");
        }
    }
}
