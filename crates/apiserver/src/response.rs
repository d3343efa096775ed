//! Answers as HTTP: JSON, YAML, plain text, failures and streams.

use bytes::Bytes;
use futures::Stream;
use futures::TryStreamExt;
use gantry_apimachinery::{Value, protobuf};
use http::{HeaderValue, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};

use crate::negotiate::{Accepted, Format};
use crate::service::{BoxError, ResponseBody, full};
use crate::status::Failure;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const YAML: HeaderValue = HeaderValue::from_static("application/yaml");
const PROTOBUF: HeaderValue = HeaderValue::from_static("application/vnd.kubernetes.protobuf");
const OPENAPI_PROTOBUF: HeaderValue =
    HeaderValue::from_static("application/com.github.proto-openapi.spec.v2.v1.0+protobuf");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

fn build(code: u16, content_type: HeaderValue, body: ResponseBody) -> Response<ResponseBody> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, content_type);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

pub fn json_bytes(code: u16, body: impl Into<Bytes>) -> Response<ResponseBody> {
    build(code, JSON, full(body))
}

/// JSON with parameters in its content type, as aggregated discovery has.
pub(crate) fn json_as(content_type: &'static str, body: impl Into<Bytes>) -> Response<ResponseBody> {
    build(200, HeaderValue::from_static(content_type), full(body))
}

/// An OpenAPI document of version 2 as kubectl asks for it.
pub(crate) fn openapi_protobuf(body: &'static [u8]) -> Response<ResponseBody> {
    build(200, OPENAPI_PROTOBUF, full(Bytes::from_static(body)))
}

pub fn text(code: u16, body: impl Into<Bytes>) -> Response<ResponseBody> {
    build(code, TEXT, full(body))
}

pub(crate) fn value(code: u16, value: &Value) -> Response<ResponseBody> {
    json_bytes(code, to_json(value))
}

/// JSON text that is already there, in the format the client accepts.
pub(crate) fn negotiated(code: u16, accepted: Accepted, json: Bytes) -> Response<ResponseBody> {
    match accepted.format {
        Format::Json if accepted.pretty => {
            let value: Value = serde_json::from_slice(&json).unwrap_or_default();
            json_bytes(code, serde_json::to_vec_pretty(&value).unwrap_or_default())
        }
        Format::Json => json_bytes(code, json),
        Format::Protobuf => {
            let value: Value = serde_json::from_slice(&json).unwrap_or_default();
            match protobuf::encode(&value) {
                Some(body) => build(code, PROTOBUF, full(body)),
                None => json_bytes(code, json),
            }
        }
        Format::Yaml => {
            let value: Value = serde_json::from_slice(&json).unwrap_or_default();
            build(code, YAML, full(crate::yaml::emit(&value)))
        }
    }
}

pub fn failure(failure: &Failure) -> Response<ResponseBody> {
    let mut response = value(failure.code, &failure.to_value());
    if let Some(seconds) =
        failure.details.as_ref().map(|details| details.retry_after_seconds).filter(|seconds| *seconds > 0)
    {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

/// A body that is sent piece by piece as the stream yields.
pub fn stream<S>(content_type: &'static str, pieces: S) -> Response<ResponseBody>
where
    S: Stream<Item = Result<Bytes, BoxError>> + Send + 'static,
{
    let body = StreamBody::new(pieces.map_ok(Frame::data)).boxed_unsync();
    build(200, HeaderValue::from_static(content_type), body)
}

pub(crate) fn to_json(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}
