//! `write` and `read`: samples of others come in, and ours go out to whoever reads remotely.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use gantry_prom_model::Queryable;
use gantry_remote::read::{
    Accepts, ReadLimits, ReadRequest, STREAM_CONTENT_TYPE, answer_samples, answer_stream,
};
use gantry_remote::{MAX_DECODED_BYTES, Outcome, compress, decompress};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tokio::sync::OwnedSemaphorePermit;

use super::PrometheusApi;

/// A body that takes longer holds back others.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// Frames of a stream that wait for a slow reader.
const FRAMES_IN_FLIGHT: usize = 8;

fn plain(status: StatusCode, message: impl Into<String>) -> Response {
    (status, message.into()).into_response()
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// The body of a request; one that is larger compressed than it may be decompressed is refused unread.
pub(super) async fn body(request: Request) -> Result<Bytes, Response> {
    let read = axum::body::to_bytes(request.into_body(), MAX_DECODED_BYTES);
    let read = tokio::time::timeout(BODY_TIMEOUT, read).await.map_err(|_| {
        plain(StatusCode::REQUEST_TIMEOUT, format!("the body did not come within {BODY_TIMEOUT:?}"))
    })?;
    read.map_err(|error| {
        plain(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body cannot be read: {error}; send smaller batches"),
        )
    })
}

pub(super) async fn permit(api: &PrometheusApi) -> Result<OwnedSemaphorePermit, Response> {
    let permit = api.shared.writes.clone().acquire_owned().await;
    permit.map_err(|_| plain(StatusCode::SERVICE_UNAVAILABLE, "the server is shutting down"))
}

pub(super) async fn write(State(api): State<PrometheusApi>, request: Request) -> Result<Response, Response> {
    let Some(receiver) = api.shared.doors.receiver.clone() else {
        return Err(plain(
            StatusCode::NOT_FOUND,
            "remote write receiver needs to be enabled with --web.enable-remote-write-receiver",
        ));
    };
    let content_type = text(request.headers(), CONTENT_TYPE);
    let encoding = text(request.headers(), CONTENT_ENCODING);
    let permit = permit(&api).await?;
    let body = body(request).await?;
    let outcome = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        receiver.receive(content_type.as_deref(), encoding.as_deref(), &body)
    })
    .await
    .map_err(|error| plain(StatusCode::INTERNAL_SERVER_ERROR, format!("the write failed: {error}")))?;
    Ok(answer(outcome))
}

fn answer(outcome: Outcome) -> Response {
    let status = StatusCode::from_u16(outcome.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = plain(status, outcome.message);
    if status == StatusCode::NO_CONTENT {
        response = status.into_response();
    }
    if let Some(written) = outcome.written {
        for (name, count) in [
            ("x-prometheus-remote-write-samples-written", written.samples),
            ("x-prometheus-remote-write-histograms-written", written.histograms),
            ("x-prometheus-remote-write-exemplars-written", written.exemplars),
        ] {
            response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from(count));
        }
    }
    response
}

pub(super) async fn read(State(api): State<PrometheusApi>, request: Request) -> Result<Response, Response> {
    let body = body(request).await?;
    let bad = |reason: String| plain(StatusCode::BAD_REQUEST, reason);
    let request = decompress(&body)
        .and_then(|bytes| ReadRequest::read(&bytes).map_err(|error| error.to_string()))
        .map_err(bad)?;
    let permit = api.shared.queries.clone().acquire_owned().await;
    let permit = permit.map_err(|_| plain(StatusCode::SERVICE_UNAVAILABLE, "the server is shutting down"))?;
    let storage = api.shared.storage.clone();
    match request.answer_as() {
        Accepts::Samples => samples(&api, storage, request, permit).await,
        Accepts::Chunks => Ok(stream(&api, storage, request, permit)),
    }
}

async fn samples(
    api: &PrometheusApi,
    storage: Arc<dyn Queryable>,
    request: ReadRequest,
    permit: OwnedSemaphorePermit,
) -> Result<Response, Response> {
    let limits = ReadLimits { samples: api.shared.doors.read_samples, ..ReadLimits::default() };
    let external = api.shared.state.read().external_labels.clone();
    let done = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let plain = answer_samples(&*storage, &request, &external, &limits).map_err(|e| e.to_string())?;
        compress(&plain)
    })
    .await;
    let failed = |reason: String| plain(StatusCode::INTERNAL_SERVER_ERROR, reason);
    let bytes = done.map_err(|error| failed(error.to_string()))?.map_err(|reason| {
        match reason.contains("exceeds the limit") {
            true => plain(StatusCode::BAD_REQUEST, reason),
            false => failed(reason),
        }
    })?;
    Ok(([(CONTENT_TYPE, "application/x-protobuf"), (CONTENT_ENCODING, "snappy")], bytes).into_response())
}

fn stream(
    api: &PrometheusApi,
    storage: Arc<dyn Queryable>,
    request: ReadRequest,
    permit: OwnedSemaphorePermit,
) -> Response {
    let external = api.shared.state.read().external_labels.clone();
    let limits = ReadLimits { frame_bytes: api.shared.doors.read_frame_bytes, ..ReadLimits::default() };
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Bytes, std::io::Error>>(FRAMES_IN_FLIGHT);
    tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let mut emit = |frame: Bytes| sender.blocking_send(Ok(frame)).is_ok();
        if let Err(error) = answer_stream(&*storage, &request, &external, &limits, &mut emit) {
            tracing::error!(%error, "a remote read broke off");
            // The status is gone already: breaking the body off is what tells the reader.
            let _ = sender.blocking_send(Err(std::io::Error::other(error.to_string())));
        }
    });
    let body = Body::from_stream(tokio_stream::wrappers::ReceiverStream::new(receiver));
    ([(CONTENT_TYPE, STREAM_CONTENT_TYPE)], body).into_response()
}
