//! Answers as JSON, good and bad, and what handlers share.

use axum::response::{IntoResponse, Response};
use gantry_dashboards::Locale;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use crate::Grafana;
use crate::store::SaveError;

/// A good answer.
pub(crate) struct Reply(pub(crate) Value);

/// A bad one: `{"message": …}`, with `status` where clients look at it.
pub(crate) struct Failure {
    code: StatusCode,
    message: String,
    status: Option<&'static str>,
}

impl Failure {
    pub(crate) fn new(code: StatusCode, message: impl Into<String>) -> Failure {
        Failure { code, message: message.into(), status: None }
    }

    pub(crate) fn not_found(what: &str) -> Failure {
        Failure::new(StatusCode::NOT_FOUND, format!("{what} not found"))
    }

    pub(crate) fn bad(message: impl Into<String>) -> Failure {
        Failure::new(StatusCode::BAD_REQUEST, message)
    }
}

impl From<SaveError> for Failure {
    fn from(error: SaveError) -> Failure {
        let (code, status) = match &error {
            SaveError::NoTitle => (StatusCode::BAD_REQUEST, Some("empty-name")),
            SaveError::VersionMismatch => (StatusCode::PRECONDITION_FAILED, Some("version-mismatch")),
            SaveError::NameExists => (StatusCode::PRECONDITION_FAILED, Some("name-exists")),
            SaveError::Provisioned(_) | SaveError::Invalid(_) => (StatusCode::BAD_REQUEST, None),
            SaveError::NotFound | SaveError::NoFolder(_) => (StatusCode::NOT_FOUND, Some("not-found")),
            SaveError::Disk(_) => (StatusCode::INTERNAL_SERVER_ERROR, None),
        };
        Failure { code, message: error.to_string(), status }
    }
}

fn json_response(code: StatusCode, value: &Value) -> Response {
    let mut response = (code, value.to_string()).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        json_response(StatusCode::OK, &self.0)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut body = json!({ "message": self.message });
        if let Some(status) = self.status {
            body["status"] = json!(status);
        }
        json_response(self.code, &body)
    }
}

/// Answers with what `work` finds, on a thread that may wait: for the disk, for whoever has the store and writes, for a
/// large answer to become text.
pub(crate) async fn apart(
    grafana: Grafana,
    work: impl FnOnce(&Grafana) -> Result<Reply, Failure> + Send + 'static,
) -> Response {
    let done = tokio::task::spawn_blocking(move || work(&grafana).into_response()).await;
    done.unwrap_or_else(|error| {
        Failure::new(StatusCode::INTERNAL_SERVER_ERROR, format!("the request failed: {error}"))
            .into_response()
    })
}

/// A moment as the API writes it.
pub(crate) fn iso(ms: i64) -> String {
    let unit = gantry_dashboards::Unit::of("time:YYYY-MM-DD[T]HH:mm:ss[Z]");
    unit.write(ms as f64, None, Locale::default()).text
}

/// The pairs of a query string, decoded.
pub(crate) fn pairs(query: Option<&str>) -> Vec<(String, String)> {
    let decode = |text: &str| {
        let text = text.replace('+', " ");
        percent_encoding::percent_decode_str(&text).decode_utf8_lossy().into_owned()
    };
    let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decode(name), decode(value)))
        .collect()
}
