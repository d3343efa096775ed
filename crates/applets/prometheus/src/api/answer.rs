//! The envelope of every answer, and how labels, samples and numbers look in JSON.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use gantry_prom_model::{FloatHistogram, Labels, format_float_plain};
use gantry_promql::{QueryError, QueryValue, Value};
use http::{HeaderValue, StatusCode, header};

/// A failed request: a word for machines and a text for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct ApiError {
    pub(crate) kind: ErrorKind,
    pub(crate) message: String,
}

/// The `errorType` of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorKind {
    BadData,
    Execution,
    Timeout,
    Canceled,
    Internal,
    Unavailable,
    NotFound,
}

impl ErrorKind {
    fn word(self) -> &'static str {
        match self {
            ErrorKind::BadData => "bad_data",
            ErrorKind::Execution => "execution",
            ErrorKind::Timeout => "timeout",
            ErrorKind::Canceled => "canceled",
            ErrorKind::Internal => "internal",
            ErrorKind::Unavailable => "unavailable",
            ErrorKind::NotFound => "not_found",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            ErrorKind::BadData => StatusCode::BAD_REQUEST,
            ErrorKind::Execution => StatusCode::UNPROCESSABLE_ENTITY,
            ErrorKind::Timeout | ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            // The code that Prometheus uses for a client that went away.
            ErrorKind::Canceled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
            ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            ErrorKind::NotFound => StatusCode::NOT_FOUND,
        }
    }
}

impl ApiError {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> ApiError {
        ApiError { kind, message: message.into() }
    }

    pub(crate) fn bad(message: impl Into<String>) -> ApiError {
        ApiError::new(ErrorKind::BadData, message)
    }

    pub(crate) fn invalid(parameter: &str, reason: &str) -> ApiError {
        ApiError::bad(format!("invalid parameter {parameter:?}: {reason}"))
    }
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> ApiError {
        let kind = match &error {
            QueryError::Parse(_) => return ApiError::invalid("query", &error.to_string()),
            QueryError::Storage(_) => ErrorKind::Internal,
            QueryError::Timeout(_) => ErrorKind::Timeout,
            QueryError::Canceled => ErrorKind::Canceled,
            QueryError::Execution(_)
            | QueryError::TooManySamples { .. }
            | QueryError::TooManyBytes { .. } => ErrorKind::Execution,
        };
        ApiError::new(kind, error.to_string())
    }
}

impl From<gantry_prom_model::StorageError> for ApiError {
    fn from(error: gantry_prom_model::StorageError) -> ApiError {
        ApiError::new(ErrorKind::Execution, error.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut body = String::from("{\"status\":\"error\",\"errorType\":\"");
        body.push_str(self.kind.word());
        body.push_str("\",\"error\":");
        push_string(&mut body, &self.message);
        body.push('}');
        respond(self.kind.status(), body)
    }
}

/// A successful answer: its data as JSON, and what the user should know.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answer {
    pub(crate) data: String,
    pub(crate) warnings: Vec<String>,
    pub(crate) infos: Vec<String>,
}

impl Answer {
    /// Data that is JSON already.
    pub(crate) fn json(data: impl Into<String>) -> Answer {
        Answer { data: data.into(), ..Answer::default() }
    }

    /// Data made of a value.
    pub(crate) fn value(value: &serde_json::Value) -> Answer {
        Answer::json(value.to_string())
    }

    /// A list of texts, cut to `limit` (0: none) with a warning.
    pub(crate) fn list(mut values: Vec<String>, limit: usize) -> Answer {
        let mut answer = Answer::default();
        if limit > 0 && values.len() > limit {
            values.truncate(limit);
            answer.warnings.push(TRUNCATED.into());
        }
        answer.data.push('[');
        for (index, value) in values.iter().enumerate() {
            if index > 0 {
                answer.data.push(',');
            }
            push_string(&mut answer.data, value);
        }
        answer.data.push(']');
        answer
    }
}

/// Said when a limit cut an answer.
pub(crate) const TRUNCATED: &str = "results truncated due to limit";

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut body = String::with_capacity(self.data.len() + 40);
        body.push_str("{\"status\":\"success\",\"data\":");
        body.push_str(&self.data);
        for (name, texts) in [("warnings", &self.warnings), ("infos", &self.infos)] {
            if !texts.is_empty() {
                body.push_str(",\"");
                body.push_str(name);
                body.push_str("\":[");
                for (index, text) in texts.iter().enumerate() {
                    if index > 0 {
                        body.push(',');
                    }
                    push_string(&mut body, text);
                }
                body.push(']');
            }
        }
        body.push('}');
        respond(StatusCode::OK, body)
    }
}

fn respond(status: StatusCode, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A text in JSON's quotes.
pub(crate) fn push_string(out: &mut String, text: &str) {
    // A string always serialises.
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}

/// Labels as an object.
pub(crate) fn push_labels(out: &mut String, labels: &Labels) {
    out.push('{');
    for (index, (name, value)) in labels.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        push_string(out, name);
        out.push(':');
        push_string(out, value);
    }
    out.push('}');
}

/// Seconds since the epoch, with milliseconds where there are any.
pub(crate) fn push_time(out: &mut String, ms: i64) {
    if ms < 0 {
        out.push('-');
    }
    let ms = ms.unsigned_abs();
    out.push_str(&(ms / 1000).to_string());
    if !ms.is_multiple_of(1000) {
        out.push_str(&format!(".{:03}", ms % 1000));
    }
}

/// A float as text: numbers beyond 1e21 and below 1e-6 with an exponent, as JavaScript prints them.
pub(crate) fn float_text(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude != 0.0 && value.is_finite() && !(1e-6..1e21).contains(&magnitude) {
        let text = format!("{value:e}");
        return match text.split_once('e') {
            Some((mantissa, exponent)) if !exponent.starts_with('-') => format!("{mantissa}e+{exponent}"),
            _ => text,
        };
    }
    format_float_plain(value)
}

fn push_float(out: &mut String, value: f64) {
    out.push('"');
    out.push_str(&float_text(value));
    out.push('"');
}

fn push_point(out: &mut String, ms: i64, value: &Value) {
    out.push('[');
    push_time(out, ms);
    out.push(',');
    match value {
        Value::Float(value) => push_float(out, *value),
        Value::Histogram(histogram) => push_histogram(out, histogram),
    }
    out.push(']');
}

/// A histogram as `{"count", "sum", "buckets"}`; a bucket is its kind of bounds, lower, upper and count.
fn push_histogram(out: &mut String, histogram: &FloatHistogram) {
    out.push_str("{\"count\":");
    push_float(out, histogram.count);
    out.push_str(",\"sum\":");
    push_float(out, histogram.sum);
    let buckets = super::buckets::buckets(histogram);
    if !buckets.is_empty() {
        out.push_str(",\"buckets\":[");
        for (index, bucket) in buckets.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            out.push('[');
            out.push_str(&bucket.bounds.to_string());
            for number in [bucket.lower, bucket.upper, bucket.count] {
                out.push(',');
                push_float(out, number);
            }
            out.push(']');
        }
        out.push(']');
    }
    out.push('}');
}

/// The `data` of a query's answer. With a limit, at most that many series are written; says whether some are not.
pub(crate) fn push_query_value(out: &mut String, value: &QueryValue, limit: usize) -> bool {
    let limit = if limit == 0 { usize::MAX } else { limit };
    let mut truncated = false;
    out.push_str("{\"resultType\":\"");
    out.push_str(value.result_type());
    out.push_str("\",\"result\":");
    match value {
        QueryValue::Scalar { timestamp_ms, value } => push_point(out, *timestamp_ms, &Value::Float(*value)),
        QueryValue::String { timestamp_ms, value } => {
            out.push('[');
            push_time(out, *timestamp_ms);
            out.push(',');
            push_string(out, value);
            out.push(']');
        }
        QueryValue::Vector(samples) => {
            truncated = samples.len() > limit;
            out.push('[');
            for (index, sample) in samples.iter().take(limit).enumerate() {
                out.push_str(if index > 0 { ",{\"metric\":" } else { "{\"metric\":" });
                push_labels(out, &sample.labels);
                out.push_str(match sample.value {
                    Value::Float(_) => ",\"value\":",
                    Value::Histogram(_) => ",\"histogram\":",
                });
                push_point(out, sample.timestamp_ms, &sample.value);
                out.push('}');
            }
            out.push(']');
        }
        QueryValue::Matrix(series) => {
            truncated = series.len() > limit;
            out.push('[');
            for (index, series) in series.iter().take(limit).enumerate() {
                out.push_str(if index > 0 { ",{\"metric\":" } else { "{\"metric\":" });
                push_labels(out, &series.labels);
                for (name, floats) in [("values", true), ("histograms", false)] {
                    let points =
                        series.points.iter().filter(|point| matches!(point.value, Value::Float(_)) == floats);
                    for (index, point) in points.enumerate() {
                        if index == 0 {
                            out.push_str(&format!(",\"{name}\":["));
                        } else {
                            out.push(',');
                        }
                        push_point(out, point.timestamp_ms, &point.value);
                    }
                    if series.points.iter().any(|point| matches!(point.value, Value::Float(_)) == floats) {
                        out.push(']');
                    }
                }
                out.push('}');
            }
            out.push(']');
        }
    }
    truncated
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_prometheus_writes_them() {
        for (value, text) in [
            (1.0, "1"),
            (-0.5, "-0.5"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (1.5e-7, "1.5e-7"),
            (0.000001, "0.000001"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (0.0, "0"),
        ] {
            assert_eq!(float_text(value), text);
        }
        for (ms, text) in
            [(1_435_781_430_781, "1435781430.781"), (1000, "1"), (1001, "1.001"), (-1500, "-1.500")]
        {
            let mut out = String::new();
            push_time(&mut out, ms);
            assert_eq!(out, text);
        }
    }

    #[test]
    fn errors_have_their_code() {
        for (kind, status) in [
            (ErrorKind::BadData, 400),
            (ErrorKind::Execution, 422),
            (ErrorKind::Timeout, 503),
            (ErrorKind::Canceled, 499),
            (ErrorKind::Internal, 500),
            (ErrorKind::NotFound, 404),
        ] {
            assert_eq!(ApiError::new(kind, "x").into_response().status().as_u16(), status);
        }
    }
}
