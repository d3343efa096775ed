//! Requests as bytes, made once before the run; a range in a path (`/products/{1..20}`) becomes one variant each.

use crate::executor::Target;
use crate::scenario::{Request, Scenario};

/// What may be sent for one request of the scenario.
pub(crate) struct Encoded {
    pub(crate) variants: Vec<Box<[u8]>>,
    pub(crate) is_head: bool,
}

/// All requests of the scenario, in its order.
pub(crate) fn encode(scenario: &Scenario, target: &Target) -> Vec<Encoded> {
    scenario.requests.iter().map(|request| encode_one(scenario, request, target)).collect()
}

fn encode_one(scenario: &Scenario, request: &Request, target: &Target) -> Encoded {
    let variants = request.path.expand().map(|path| {
        let mut bytes = format!("{} {}{} HTTP/1.1\r\n", request.method, target.prefix(), path).into_bytes();
        let headers =
            || scenario.headers.iter().filter(|(name, _)| !has(request, name)).chain(&request.headers);
        let given = |wanted: &str| headers().any(|(name, _)| name.eq_ignore_ascii_case(wanted));
        if !given("host") {
            header(&mut bytes, "host", target.authority());
        }
        if !given("user-agent") {
            header(&mut bytes, "user-agent", concat!("gantry-load/", env!("CARGO_PKG_VERSION")));
        }
        if let Some(kind) = request.body.content_type().filter(|_| !given("content-type")) {
            header(&mut bytes, "content-type", kind);
        }
        let body = request.body.bytes();
        let may_have_body =
            !matches!(request.method.as_str(), "GET" | "HEAD" | "DELETE" | "OPTIONS" | "TRACE");
        if (may_have_body || !body.is_empty()) && !given("content-length") {
            header(&mut bytes, "content-length", &body.len().to_string());
        }
        if !scenario.keep_alive && !given("connection") {
            header(&mut bytes, "connection", "close");
        }
        for (name, value) in headers() {
            header(&mut bytes, name, value);
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(body);
        bytes.into_boxed_slice()
    });
    Encoded { variants: variants.collect(), is_head: request.method == "HEAD" }
}

fn has(request: &Request, name: &str) -> bool {
    request.headers.iter().any(|(own, _)| own.eq_ignore_ascii_case(name))
}

fn header(bytes: &mut Vec<u8>, name: &str, value: &str) {
    for part in [name, ": ", value, "\r\n"] {
        bytes.extend_from_slice(part.as_bytes());
    }
}
