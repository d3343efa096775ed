//! Connection upgrades for callers in this process, whose requests come on no connection.
//!
//! A client takes over a connection that its HTTP library has made, so one is made here: both ends of a pipe in
//! memory speak HTTP/1.1, the request travels over it, and each side finds its end when the answer is 101.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use std::convert::Infallible;
use std::sync::Arc;

use crate::doors::{NodeProxy, PodRequest};
use crate::response;
use crate::service::{BoxError, ResponseBody};
use crate::status::Failure;

/// As much as a socket would hold.
const PIPE_BYTES: usize = 256 * 1024;

/// Whether the request wants to take over a connection and has none.
pub(crate) fn is_needed(request: &Request<Bytes>) -> bool {
    request.headers().contains_key(http::header::UPGRADE) && request.extensions().get::<OnUpgrade>().is_none()
}

/// Passes the request to the node over a connection of its own.
pub(crate) async fn pod(
    proxy: Arc<dyn NodeProxy>,
    target: PodRequest,
    request: Request<Bytes>,
) -> Response<ResponseBody> {
    match exchange(proxy, target, request).await {
        Ok(answer) => answer,
        Err(error) => {
            response::failure(&Failure::bad_request(format!("the connection cannot be upgraded: {error}")))
        }
    }
}

async fn exchange(
    proxy: Arc<dyn NodeProxy>,
    target: PodRequest,
    request: Request<Bytes>,
) -> Result<Response<ResponseBody>, BoxError> {
    let (near, far) = tokio::io::duplex(PIPE_BYTES);
    let mut asked =
        Request::builder().method(request.method()).uri(request.uri().clone()).body(Empty::<Bytes>::new())?;
    asked.headers_mut().clone_from(request.headers());
    asked.headers_mut().entry(http::header::HOST).or_insert(http::HeaderValue::from_static("localhost"));

    // The request itself does not travel, so its extensions reach the node as they are.
    let kept = Mutex::new(Some((target, request)));
    let service = hyper::service::service_fn(move |mut arrived: Request<Incoming>| {
        let call = kept.lock().take().zip(arrived.extensions_mut().remove::<OnUpgrade>());
        let proxy = proxy.clone();
        async move {
            let Some(((target, mut request), upgrade)) = call else {
                return Ok::<_, Infallible>(response::failure(&Failure::bad_request(
                    "the request asks for an upgrade without `Connection: Upgrade`",
                )));
            };
            request.extensions_mut().insert(upgrade);
            Ok(proxy.pod(target, request).await)
        }
    });
    let serving = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), service);
    tokio::spawn(serving.with_upgrades());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(near)).await?;
    tokio::spawn(connection.with_upgrades());
    let answer = sender.send_request(asked).await?;
    Ok(answer.map(|body| body.map_err(BoxError::from).boxed_unsync()))
}
