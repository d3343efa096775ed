//! The redirect of an HTTPRoute: an answer whose `Location` is made of the request and of what the filter replaces.
//!
//! Not one of Kong's plugins: no configuration file names it, only a controller does.

use super::settings::Settings;
use super::{Answer, AnswerBody, Plugin, Request};

/// Under which name a controller asks for it.
pub const NAME: &str = "httproute-redirect";

enum PathChange {
    Whole(String),
    /// The matched prefix, and what stands in its place.
    Prefix(String, String),
}

pub(crate) struct Redirect {
    status: u16,
    scheme: Option<String>,
    host: Option<String>,
    port: Option<u16>,
    path: Option<PathChange>,
}

impl Redirect {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Redirect, String> {
        let status = settings.number("status_code").map_or(302, |status| status as u16);
        if !(300..400).contains(&status) {
            return Err(format!("status_code: found {status}, expected one of 3xx"));
        }
        let prefix = settings.text("prefix").zip(settings.text("replace_prefix"));
        let path = settings.text("path").map(PathChange::Whole);
        Ok(Redirect {
            status,
            scheme: settings.text("scheme"),
            host: settings.text("hostname"),
            port: settings.number("port").map(|port| port as u16),
            path: path.or(prefix.map(|(prefix, new)| PathChange::Prefix(prefix, new))),
        })
    }

    fn location(&self, request: &Request<'_>) -> String {
        let scheme = self.scheme.as_deref().unwrap_or(request.scheme);
        let (name, asked_port) = match request.host.rsplit_once(':') {
            Some((name, port)) if !name.ends_with(':') && !port.ends_with(']') => (name, port.parse().ok()),
            _ => (request.host, None),
        };
        // Without a scheme of its own the client is sent to the port that it used.
        let port = self.port.or(asked_port.filter(|_| self.scheme.is_none()));
        let usual = if scheme == "https" { 443 } else { 80 };
        let port = port.filter(|port| *port != usual).map(|port| format!(":{port}")).unwrap_or_default();
        let query = request.query();
        let query = if query.is_empty() { String::new() } else { format!("?{query}") };
        let host = self.host.as_deref().unwrap_or(name);
        format!("{scheme}://{host}{port}{}{query}", self.new_path(&String::from_utf8_lossy(request.path)))
    }

    fn new_path(&self, path: &str) -> String {
        let path = if path.is_empty() { "/" } else { path };
        match &self.path {
            None => path.to_owned(),
            Some(PathChange::Whole(new)) => new.clone(),
            Some(PathChange::Prefix(prefix, new)) => {
                let rest = path.strip_prefix(prefix.trim_end_matches('/')).unwrap_or_default();
                let joined = format!("{}{rest}", new.trim_end_matches('/'));
                if joined.starts_with('/') { joined } else { format!("/{joined}") }
            }
        }
    }
}

impl Plugin for Redirect {
    fn access(&self, request: &mut Request<'_>) -> Result<(), Answer> {
        let answer = Answer { status: self.status, body: AnswerBody::None, headers: Vec::new() };
        Err(answer.with("Location", self.location(request)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_prefix_is_replaced_at_the_boundary_of_a_segment() {
        let path = |prefix: &str, new: &str, path: &str| {
            let config = json!({"prefix": prefix, "replace_prefix": new});
            Redirect::new(&Settings(&config)).unwrap().new_path(path)
        };
        assert_eq!(path("/old", "/new", "/old/a"), "/new/a");
        assert_eq!(path("/old/", "/new/", "/old/a"), "/new/a");
        assert_eq!(path("/old", "/", "/old"), "/");
        assert_eq!(path("/old", "", "/old/a"), "/a");
        assert_eq!(path("/", "/new", "/a"), "/new/a");
    }

    #[test]
    fn a_status_that_redirects_nothing_is_refused() {
        assert!(Redirect::new(&Settings(&json!({"status_code": 200}))).is_err());
    }
}
