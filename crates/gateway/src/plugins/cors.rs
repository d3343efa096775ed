//! `cors`: which pages of other origins may use a service (the Fetch standard's CORS protocol).

use super::settings::Settings;
use super::{Answer, AnswerBody, Plugin, Request};
use regex::Regex;

pub(crate) struct Cors {
    origins: Vec<Origin>,
    any: bool,
    is_single: bool,
    headers: Option<Vec<String>>,
    exposed: Option<Vec<String>>,
    methods: String,
    max_age: Option<f64>,
    credentials: bool,
    private_network: bool,
    continues: bool,
    allows_absent: bool,
}

enum Origin {
    Text(String),
    Pattern(Regex),
}

fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:/_".contains(&byte))
}

impl Cors {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Cors, String> {
        let given = settings.texts("origins").unwrap_or_default();
        let any = given.is_empty() || given.iter().any(|origin| origin == "*");
        let mut origins = Vec::new();
        for origin in given.iter().filter(|origin| *origin != "*") {
            if is_plain(origin) {
                origins.push(Origin::Text(origin.to_ascii_lowercase()));
                if !origin.contains("://") {
                    let pattern = format!("^(?:.*//)?{}$", regex::escape(origin));
                    origins.push(Origin::Pattern(Regex::new(&pattern).map_err(|error| error.to_string())?));
                }
            } else {
                let pattern = format!("^(?:{origin})$");
                let pattern = Regex::new(&pattern)
                    .map_err(|_| format!("origins: {origin:?} is not a valid pattern"))?;
                origins.push(Origin::Pattern(pattern));
            }
        }
        let methods = settings.texts("methods").unwrap_or_else(|| {
            ["GET", "HEAD", "PUT", "PATCH", "POST", "DELETE", "OPTIONS", "TRACE", "CONNECT"]
                .map(str::to_owned)
                .to_vec()
        });
        Ok(Cors {
            is_single: given.len() == 1,
            origins,
            any,
            headers: settings.texts("headers").filter(|list| !list.is_empty()),
            exposed: settings.texts("exposed_headers").filter(|list| !list.is_empty()),
            methods: methods.join(","),
            max_age: settings.number("max_age"),
            credentials: settings.flag("credentials", false),
            private_network: settings.flag("private_network", false),
            continues: settings.flag("preflight_continue", false),
            allows_absent: settings.flag("allow_origin_absent", true),
        })
    }

    fn accepts(&self, origin: &str) -> bool {
        let lower = origin.to_ascii_lowercase();
        self.origins.iter().any(|known| match known {
            Origin::Text(text) => *text == lower,
            Origin::Pattern(pattern) => pattern.is_match(origin),
        })
    }

    /// Says which origin may read the answer; false when that is every one, so that credentials cannot be allowed.
    fn allow_origin(&self, request: &mut Request<'_>) -> bool {
        let origin = request.header("origin");
        if self.any {
            if self.credentials
                && let Some(origin) = &origin
            {
                request.response.set("Access-Control-Allow-Origin", origin);
                request.response.add("Vary", "Origin");
                return true;
            }
            request.response.set("Access-Control-Allow-Origin", "*");
            return false;
        }
        if self.is_single
            && let [Origin::Text(only), ..] = self.origins.as_slice()
        {
            request.response.set("Access-Control-Allow-Origin", only);
            request.response.add("Vary", "Origin");
            return true;
        }
        match origin.filter(|origin| self.accepts(origin)) {
            Some(origin) => {
                request.response.set("Access-Control-Allow-Origin", &origin);
                request.response.add("Vary", "Origin");
                true
            }
            None => {
                request.response.remove("Access-Control-Allow-Origin");
                request.response.add("Vary", "Origin");
                false
            }
        }
    }
}

impl Plugin for Cors {
    fn access(&self, request: &mut Request<'_>) -> Result<(), Answer> {
        let origin = request.header("origin");
        if origin.is_none() && !self.allows_absent {
            return Ok(());
        }
        let is_preflight = request.method() == "OPTIONS"
            && origin.is_some()
            && request.header("access-control-request-method").is_some();
        let is_named = self.allow_origin(request);
        if self.credentials && is_named {
            request.response.set("Access-Control-Allow-Credentials", "true");
        }
        if !is_preflight || self.continues {
            if let Some(exposed) = &self.exposed {
                request.response.set("Access-Control-Expose-Headers", &exposed.join(","));
            }
            return Ok(());
        }
        let allowed = match &self.headers {
            Some(headers) => Some(headers.join(",")),
            None => request.header("access-control-request-headers"),
        };
        if let Some(allowed) = allowed {
            request.response.set("Access-Control-Allow-Headers", &allowed);
        }
        request.response.set("Access-Control-Allow-Methods", &self.methods);
        if let Some(max_age) = self.max_age {
            request.response.set("Access-Control-Max-Age", &max_age.to_string());
        }
        if self.private_network
            && request.header("access-control-request-private-network").as_deref() == Some("true")
        {
            request.response.set("Access-Control-Allow-Private-Network", "true");
        }
        Err(Answer { status: 200, body: AnswerBody::None, headers: Vec::new() })
    }
}
