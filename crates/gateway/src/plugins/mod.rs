//! Plugins: native, run in Kong's PRIORITY order, and seen by the byte-range path as edits to heads.
//!
//! Invariant: a plugin that is configured and cannot be run is an error of the configuration, never a request that
//! passes. A route without plugins has no chain and pays nothing.

mod acl;
mod basic_auth;
pub(crate) mod chain;
pub(crate) mod consumers;
mod correlation_id;
mod cors;
mod http_route_cors;
mod ip_restriction;
mod jwt;
mod key_auth;
pub(crate) mod query;
mod rate_limiting;
mod redirect;
mod request_termination;
mod request_transformer;
mod response_transformer;
mod settings;
mod size_limiting;

pub use http_route_cors::NAME as HTTP_ROUTE_CORS;
pub(crate) use rate_limiting::Counters;
pub use redirect::NAME as HTTP_ROUTE_REDIRECT;

use crate::http1::head::{Head, frames, is_token};
use consumers::{Consumers, Identity};
use gantry_clock::Clock;
use serde_json::Value;
use settings::Settings;
use std::net::IpAddr;
use std::sync::Arc;

/// Largest body that is read into memory for a plugin that looks into it.
pub(crate) const MAX_PLUGIN_BODY_BYTES: usize = 8 << 20;

/// Plugins that are run here.
pub const SUPPORTED: [&str; 13] = [
    "acl",
    "basic-auth",
    "correlation-id",
    "cors",
    "ip-restriction",
    "jwt",
    "key-auth",
    "prometheus",
    "rate-limiting",
    "request-size-limiting",
    "request-termination",
    "request-transformer",
    "response-transformer",
];

/// Changes to the fields of a head that is passed on.
///
/// Invariant: no field that frames the message is among them. Without its length, or with a second one, the target would
/// read the rest of a body as the next request of a connection that others share.
#[derive(Debug, Default)]
pub(crate) struct Edits {
    /// In lower case.
    removed: Vec<String>,
    added: Vec<(String, String)>,
}

/// A value that cannot break out of its line.
fn clean(value: &str) -> String {
    value.chars().filter(|c| !matches!(c, '\r' | '\n' | '\0')).collect()
}

impl Edits {
    pub(crate) fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.added.is_empty()
    }

    pub(crate) fn remove(&mut self, name: &str) {
        if frames(name.as_bytes()) {
            return;
        }
        self.added.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        if !self.removed.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            self.removed.push(name.to_ascii_lowercase());
        }
    }

    pub(crate) fn add(&mut self, name: &str, value: &str) {
        // A name that is no token could hold another field: `Transfer-Encoding ` or `A: b`.
        if is_token(name.as_bytes()) && !frames(name.as_bytes()) {
            self.added.push((name.to_owned(), clean(value)));
        }
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.remove(name);
        self.add(name, value);
    }

    pub(crate) fn removes(&self, name: &[u8]) -> bool {
        self.removed.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(name))
    }

    pub(crate) fn removes_any(&self) -> bool {
        !self.removed.is_empty()
    }

    /// Values of `name` that were added.
    pub(crate) fn values<'e>(&'e self, name: &'e str) -> impl Iterator<Item = &'e str> {
        self.added
            .iter()
            .filter(move |(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Appends the added fields as lines.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        self.write_except("", out);
    }

    /// The same without the field `except`.
    pub(crate) fn write_except(&self, except: &str, out: &mut Vec<u8>) {
        for (name, value) in self.added.iter().filter(|(name, _)| !name.eq_ignore_ascii_case(except)) {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// A request as its plugins see and change it.
pub(crate) struct Request<'a> {
    pub(crate) head: &'a Head,
    pub(crate) buffer: &'a [u8],
    pub(crate) edits: &'a mut Edits,
    /// Fields for the client, whoever answers.
    pub(crate) response: &'a mut Edits,
    pub(crate) method: &'a mut Option<String>,
    /// Target line for the service, its query included.
    pub(crate) uri: &'a mut Vec<u8>,
    /// The body, when a plugin of the chain asked for it.
    pub(crate) body: Option<&'a mut Vec<u8>>,
    pub(crate) body_changed: &'a mut bool,
    pub(crate) client_ip: IpAddr,
    pub(crate) host: &'a str,
    pub(crate) scheme: &'static str,
    pub(crate) port: u16,
    /// As the client sent it, without the query.
    pub(crate) path: &'a [u8],
    pub(crate) request_id: &'a str,
    pub(crate) captures: &'a [(String, String)],
    pub(crate) route: &'a str,
    pub(crate) service: &'a str,
    pub(crate) identity: &'a mut Identity,
    pub(crate) consumers: &'a Consumers,
    pub(crate) counters: &'a Counters,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) id_seed: u64,
}

impl Request<'_> {
    /// The first value of a field, as it stands now; `name` in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        self.headers(name).into_iter().next()
    }

    /// All values of a field as they stand now.
    pub(crate) fn headers(&self, name: &str) -> Vec<String> {
        let mut out = Vec::new();
        if !self.edits.removes(name.as_bytes()) {
            for field in &self.head.fields {
                if self.head.name(self.buffer, field).eq_ignore_ascii_case(name.as_bytes()) {
                    out.push(String::from_utf8_lossy(self.head.value(self.buffer, field)).into_owned());
                }
            }
        }
        out.extend(self.edits.values(name).map(str::to_owned));
        out
    }

    pub(crate) fn method(&self) -> &str {
        match &*self.method {
            Some(method) => method,
            None => std::str::from_utf8(self.head.method(self.buffer)).unwrap_or_default(),
        }
    }

    /// The query of the target line, without its `?`.
    pub(crate) fn query(&self) -> &str {
        let text = std::str::from_utf8(self.uri).unwrap_or_default();
        text.split_once('?').map_or("", |(_, query)| query)
    }

    pub(crate) fn set_query(&mut self, query: &str) {
        let end = self.uri.iter().position(|&byte| byte == b'?').unwrap_or(self.uri.len());
        self.uri.truncate(end);
        if !query.is_empty() {
            self.uri.push(b'?');
            self.uri.extend_from_slice(query.as_bytes());
        }
    }

    pub(crate) fn set_path(&mut self, path: &str) {
        let query = self.query().to_owned();
        self.uri.clear();
        if !path.starts_with('/') {
            self.uri.push(b'/');
        }
        let bytes = path.bytes().filter(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#'));
        self.uri.extend(bytes);
        self.set_query(&query);
    }

    pub(crate) fn content_type(&self) -> String {
        self.header("content-type").unwrap_or_default().to_ascii_lowercase()
    }
}

/// What a plugin answers in the service's place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: AnswerBody,
    pub(crate) headers: Vec<(String, String)>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum AnswerBody {
    /// Kong's error, in the type the client asked for.
    Error(String),
    /// These bytes of this type.
    Raw(String, Vec<u8>),
    None,
}

impl Answer {
    pub(crate) fn error(status: u16, message: impl Into<String>) -> Answer {
        Answer { status, body: AnswerBody::Error(message.into()), headers: Vec::new() }
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Answer {
        self.headers.push((name.to_owned(), clean(&value.into())));
        self
    }
}

/// A response on its way to the client.
pub(crate) struct Response<'a> {
    pub(crate) head: &'a Head,
    pub(crate) buffer: &'a [u8],
    pub(crate) edits: &'a mut Edits,
}

impl Response<'_> {
    pub(crate) fn has(&self, name: &str) -> bool {
        let in_head = !self.edits.removes(name.as_bytes())
            && self
                .head
                .fields
                .iter()
                .any(|field| self.head.name(self.buffer, field).eq_ignore_ascii_case(name.as_bytes()));
        in_head || self.edits.values(name).next().is_some()
    }

    pub(crate) fn first(&self, name: &str) -> Option<String> {
        let field = self.head.fields.iter().find(|field| {
            !self.edits.removes(name.as_bytes())
                && self.head.name(self.buffer, field).eq_ignore_ascii_case(name.as_bytes())
        });
        field
            .map(|field| String::from_utf8_lossy(self.head.value(self.buffer, field)).into_owned())
            .or_else(|| self.edits.values(name).next().map(str::to_owned))
    }
}

/// One configured plugin.
pub(crate) trait Plugin: Send + Sync {
    /// Before the request is passed on; an answer ends it.
    fn access(&self, _request: &mut Request<'_>) -> Result<(), Answer> {
        Ok(())
    }

    /// Before the response of a service is passed on.
    fn respond(&self, _response: &mut Response<'_>) {}

    /// Largest body to be read for the plugin before it runs; `None` when it does not look into bodies.
    fn reads_body(&self) -> Option<usize> {
        None
    }

    /// The same for bodies whose length the head does not say.
    fn reads_unknown_body(&self) -> Option<usize> {
        self.reads_body()
    }

    /// Whether [`Plugin::respond`] does anything.
    fn responds(&self) -> bool {
        false
    }

    /// Whether requests are counted by consumer.
    fn counts_consumers(&self) -> bool {
        false
    }
}

/// `prometheus`: everything is counted anyway; the plugin says whether by consumer.
struct Prometheus {
    per_consumer: bool,
}

impl Plugin for Prometheus {
    fn counts_consumers(&self) -> bool {
        self.per_consumer
    }
}

/// Makes the plugin `name` with `config`; the error says which field is wrong or what is not supported.
pub(crate) fn build(name: &str, id: &str, config: &Value) -> Result<Arc<dyn Plugin>, String> {
    let settings = Settings(config);
    Ok(match name {
        "acl" => Arc::new(acl::Acl::new(&settings)?),
        "basic-auth" => Arc::new(basic_auth::BasicAuth::new(&settings)),
        "correlation-id" => Arc::new(correlation_id::CorrelationId::new(&settings)),
        "cors" => Arc::new(cors::Cors::new(&settings)?),
        "ip-restriction" => Arc::new(ip_restriction::IpRestriction::new(&settings)?),
        "jwt" => Arc::new(jwt::Jwt::new(&settings)),
        "key-auth" => Arc::new(key_auth::KeyAuth::new(&settings)),
        "prometheus" => Arc::new(Prometheus { per_consumer: settings.flag("per_consumer", false) }),
        "rate-limiting" => Arc::new(rate_limiting::RateLimiting::new(id, &settings)?),
        "request-size-limiting" => Arc::new(size_limiting::SizeLimiting::new(&settings)),
        http_route_cors::NAME => Arc::new(http_route_cors::HttpRouteCors::new(&settings)),
        redirect::NAME => Arc::new(redirect::Redirect::new(&settings)?),
        "request-termination" => Arc::new(request_termination::Termination::new(&settings)?),
        "request-transformer" => Arc::new(request_transformer::RequestTransformer::new(&settings)?),
        "response-transformer" => Arc::new(response_transformer::ResponseTransformer::new(&settings)?),
        _ => {
            return Err(format!(
                "plugin {name:?} is not run by this gateway, use one of {}",
                SUPPORTED.join(", ")
            ));
        }
    })
}

/// Whether a plugin so configured can be run.
pub fn check(name: &str, config: &Value) -> Result<(), String> {
    build(name, "", config).map(drop)
}

/// Sets the identity a credential proves, or that of the anonymous consumer.
fn authenticate(request: &mut Request<'_>, consumer_id: &str, credential: &str, identifier: &str) {
    let consumer = request.consumers.by_id(consumer_id).cloned();
    if let Some(consumer) = &consumer {
        request.edits.set("X-Consumer-ID", &consumer.id);
        match &consumer.custom_id {
            Some(custom_id) => request.edits.set("X-Consumer-Custom-ID", custom_id),
            None => request.edits.remove("X-Consumer-Custom-ID"),
        }
        match &consumer.username {
            Some(username) => request.edits.set("X-Consumer-Username", username),
            None => request.edits.remove("X-Consumer-Username"),
        }
    }
    request.edits.set("X-Credential-Identifier", identifier);
    request.edits.remove("X-Anonymous-Consumer");
    request.identity.consumer = consumer;
    request.identity.credential = Some(credential.to_owned());
    request.identity.is_anonymous = false;
}

/// What becomes of a request without a valid credential: the anonymous consumer's, or `refusal`.
fn fall_back(request: &mut Request<'_>, anonymous: Option<&str>, refusal: Answer) -> Result<(), Answer> {
    let Some(anonymous) = anonymous.filter(|name| !name.is_empty()) else { return Err(refusal) };
    let Some(consumer) = request.consumers.find(anonymous).cloned() else {
        return Err(Answer::error(
            500,
            format!("anonymous consumer {anonymous} is configured but doesn't exist"),
        ));
    };
    request.edits.set("X-Consumer-ID", &consumer.id);
    for (name, value) in
        [("X-Consumer-Custom-ID", &consumer.custom_id), ("X-Consumer-Username", &consumer.username)]
    {
        match value {
            Some(value) => request.edits.set(name, value),
            None => request.edits.remove(name),
        }
    }
    request.edits.remove("X-Credential-Identifier");
    request.edits.set("X-Anonymous-Consumer", "true");
    request.identity.consumer = Some(consumer);
    request.identity.credential = None;
    request.identity.is_anonymous = true;
    Ok(())
}
