//! The CORS filter of an HTTPRoute (the Fetch standard's protocol with the Gateway API's wildcards).
//!
//! Not one of Kong's plugins, whose `cors` answers preflights and wildcards in other ways: only a controller names it.

use super::settings::Settings;
use super::{Answer, AnswerBody, Plugin, Request};

/// Under which name a controller asks for it.
pub const NAME: &str = "httproute-cors";

const ANY: &str = "*";
/// Fields that a backend's own idea of CORS would contradict.
const FIELDS: [&str; 6] = [
    "access-control-allow-origin",
    "access-control-allow-credentials",
    "access-control-allow-methods",
    "access-control-allow-headers",
    "access-control-expose-headers",
    "access-control-max-age",
];

pub(crate) struct HttpRouteCors {
    /// `*`, `https://a.org`, or with one `*` for at least one label of the host.
    origins: Vec<String>,
    methods: Vec<String>,
    headers: Vec<String>,
    exposed: Vec<String>,
    max_age: u64,
    credentials: bool,
}

fn fits(pattern: &str, origin: &str) -> bool {
    match pattern.split_once('*') {
        _ if pattern == ANY => true,
        None => pattern.eq_ignore_ascii_case(origin),
        Some((start, end)) => {
            let origin = origin.to_ascii_lowercase();
            let rest = origin.strip_prefix(&start.to_ascii_lowercase());
            let middle = rest.and_then(|rest| rest.strip_suffix(&end.to_ascii_lowercase()));
            middle.is_some_and(|middle| !middle.is_empty() && !middle.contains('/'))
        }
    }
}

impl HttpRouteCors {
    pub(crate) fn new(settings: &Settings<'_>) -> HttpRouteCors {
        let texts = |name: &str| settings.texts(name).unwrap_or_default();
        HttpRouteCors {
            origins: texts("origins"),
            methods: texts("methods"),
            headers: texts("headers"),
            exposed: texts("exposed_headers"),
            max_age: settings.number("max_age").map_or(5, |seconds| seconds as u64),
            credentials: settings.flag("credentials", false),
        }
    }

    /// A list as it is answered. With credentials `*` would be taken by its letter, so what was asked for is named.
    fn allowed(&self, list: &[String], asked: Option<String>) -> Option<String> {
        if !list.iter().any(|entry| entry == ANY) {
            return (!list.is_empty()).then(|| list.join(", "));
        }
        if self.credentials { asked } else { Some(ANY.to_owned()) }
    }
}

impl Plugin for HttpRouteCors {
    fn access(&self, request: &mut Request<'_>) -> Result<(), Answer> {
        for name in FIELDS {
            request.response.remove(name);
        }
        let origin = request.header("origin");
        let asked_method = request.header("access-control-request-method");
        let is_preflight = request.method() == "OPTIONS" && asked_method.is_some();
        let is_any = self.origins.iter().any(|pattern| pattern == ANY);
        if !is_any || self.credentials {
            request.response.add("Vary", "Origin");
        }
        let no_content = Answer { status: 204, body: AnswerBody::None, headers: Vec::new() };
        let known = origin.filter(|origin| self.origins.iter().any(|pattern| fits(pattern, origin)));
        let Some(origin) = known else {
            return if is_preflight { Err(no_content) } else { Ok(()) };
        };
        let named = if is_any && !self.credentials { ANY } else { &origin };
        request.response.set("Access-Control-Allow-Origin", named);
        if self.credentials {
            request.response.set("Access-Control-Allow-Credentials", "true");
        }
        if !self.exposed.is_empty() {
            request.response.set("Access-Control-Expose-Headers", &self.exposed.join(", "));
        }
        if !is_preflight {
            return Ok(());
        }
        if let Some(methods) = self.allowed(&self.methods, asked_method) {
            request.response.set("Access-Control-Allow-Methods", &methods);
        }
        let asked_headers = request.header("access-control-request-headers");
        if let Some(headers) = self.allowed(&self.headers, asked_headers) {
            request.response.set("Access-Control-Allow-Headers", &headers);
        }
        request.response.set("Access-Control-Max-Age", &self.max_age.to_string());
        Err(no_content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_wildcard_stands_for_one_or_more_labels_of_the_host() {
        assert!(fits("https://*.bar.com", "https://www.bar.com"));
        assert!(fits("https://*.bar.com", "https://a.b.bar.com"));
        assert!(!fits("https://*.bar.com", "https://bar.com"));
        assert!(!fits("https://*.bar.com", "http://www.bar.com"));
        assert!(!fits("https://*.bar.com", "https://evil.org/.bar.com"));
        assert!(fits("*", "null") && fits("https://a.org", "https://A.org"));
    }

    #[test]
    fn with_credentials_a_wildcard_names_what_was_asked_for() {
        let of = |credentials: bool| {
            let config = json!({"origins": ["*"], "methods": ["*"], "credentials": credentials});
            let cors = HttpRouteCors::new(&Settings(&config));
            cors.allowed(&cors.methods, Some("PUT".to_owned()))
        };
        assert_eq!((of(true).as_deref(), of(false).as_deref()), (Some("PUT"), Some("*")));
        let config = json!({"origins": ["*"], "methods": ["GET", "OPTIONS"]});
        let cors = HttpRouteCors::new(&Settings(&config));
        assert_eq!(cors.allowed(&cors.methods, None).as_deref(), Some("GET, OPTIONS"));
    }
}
