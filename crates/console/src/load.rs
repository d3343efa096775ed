//! A load that the page can start, watch and stop: `/api/load`, `/api/load/start`, `/api/load/stop`.
//!
//! Invariant: only a page that this console served can change anything. A request must carry JSON (which another site's
//! page cannot send without being asked first), come from the address it is sent to, and name that address by number or
//! as localhost (so that no name of another site can be pointed here).

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use serde::{Deserialize, Serialize};

use crate::service::{Body, json, plain};

/// A scenario is a page of text; more is a mistake.
const MOST_BYTES: usize = 256 * 1024;

/// Whoever can send load implements this for the page.
pub trait LoadControl: Send + Sync + 'static {
    /// The scenarios there are, and the run that goes on or was last.
    fn view(&self) -> LoadView;

    /// Starts a run; an error says why not, in words for the one who asked.
    fn start(&self, wish: LoadWish) -> Result<(), String>;

    /// Ends the run, if one goes on; what was sent is still answered.
    fn stop(&self);
}

/// What is to be run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoadWish {
    /// What messages call the text: a file's name, or anything.
    pub name: String,
    /// The scenario, as YAML.
    pub text: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LoadView {
    pub scenarios: Vec<LoadScenario>,
    pub run: Option<LoadRun>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LoadScenario {
    pub name: String,
    pub text: String,
}

/// A run, column by column as a chart takes it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LoadRun {
    pub scenario: String,
    pub target: String,
    pub running: bool,
    pub started_ms: i64,
    /// How long it has run, and how long it is to run.
    pub seconds: f64,
    pub duration: f64,
    pub total_requests: u64,
    pub total_failed: u64,
    pub times_ms: Vec<i64>,
    /// Requests per second.
    pub rate: Vec<f64>,
    /// Failed requests in that second.
    pub failed: Vec<f64>,
    /// From when a request was due, in seconds.
    pub p50: Vec<Option<f64>>,
    pub p99: Vec<Option<f64>>,
    pub users: Vec<f64>,
    pub in_flight: Vec<f64>,
    pub requests: Vec<LoadRequest>,
    pub thresholds: Vec<LoadThreshold>,
    /// Why it ended before its time.
    pub ended_early: Option<String>,
}

/// One kind of request: over the whole run, or the last second while it goes on.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LoadRequest {
    pub name: String,
    pub rate: f64,
    pub failed: u64,
    pub p50_seconds: Option<f64>,
    pub p99_seconds: Option<f64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LoadThreshold {
    pub expr: String,
    pub passed: bool,
    pub measured: String,
}

/// Answers what is below `/api/load`.
pub(crate) async fn answer<B>(
    load: Option<&dyn LoadControl>,
    method: &Method,
    path: &str,
    headers: &HeaderMap,
    body: B,
) -> Response<Body>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let Some(load) = load else {
        return plain(StatusCode::NOT_FOUND, "no load can be started from here");
    };
    match (path, method) {
        ("/api/load", &Method::GET | &Method::HEAD) => return json(&load.view()),
        ("/api/load/start" | "/api/load/stop", &Method::POST) => {}
        ("/api/load" | "/api/load/start" | "/api/load/stop", _) => {
            return plain(
                StatusCode::METHOD_NOT_ALLOWED,
                "GET /api/load, POST /api/load/start, POST /api/load/stop",
            );
        }
        _ => return plain(StatusCode::NOT_FOUND, "no such address; the load is at /api/load"),
    }
    if let Err(reason) = from_this_page(headers) {
        return plain(StatusCode::FORBIDDEN, reason);
    }
    if path == "/api/load/stop" {
        load.stop();
        return json(&serde_json::json!({}));
    }
    let body = match Limited::new(body, MOST_BYTES).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => {
            return plain(StatusCode::BAD_REQUEST, &format!("the request could not be read: {error}"));
        }
    };
    let started = serde_json::from_slice::<LoadWish>(&body)
        .map_err(|error| format!("the request is not a scenario: {error}"))
        .and_then(|wish| load.start(wish));
    match started {
        Ok(()) => json(&serde_json::json!({})),
        Err(reason) => plain(StatusCode::BAD_REQUEST, &reason),
    }
}

fn from_this_page(headers: &HeaderMap) -> Result<(), &'static str> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if !text(header::CONTENT_TYPE).is_some_and(|kind| kind.starts_with("application/json")) {
        return Err("content-type must be application/json");
    }
    let host = text(header::HOST).unwrap_or_default();
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.split(':').next().unwrap_or_default(),
    };
    if name != "localhost" && name.parse::<std::net::IpAddr>().is_err() {
        return Err("the console is changed only by its number or as localhost, not by another name");
    }
    gantry_serve::from_same_site(headers, host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_page_may_change_something() {
        let check = |pairs: &[(&'static str, &'static str)]| {
            let headers = pairs.iter().map(|(name, value)| {
                (http::HeaderName::from_static(name), http::HeaderValue::from_static(value))
            });
            from_this_page(&headers.collect())
        };
        let kind = ("content-type", "application/json");
        assert!(check(&[kind, ("host", "127.0.0.1:3000"), ("origin", "http://127.0.0.1:3000")]).is_ok());
        assert!(check(&[kind, ("host", "[::1]:3000")]).is_ok());
        assert!(check(&[kind, ("host", "localhost:3000"), ("origin", "http://evil.example")]).is_err());
        assert!(
            check(&[kind, ("host", "evil.example:3000"), ("origin", "http://evil.example:3000")]).is_err()
        );
        assert!(check(&[("content-type", "text/plain"), ("host", "localhost:3000")]).is_err());
        assert!(check(&[kind]).is_err());
    }
}
