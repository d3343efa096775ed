//! `key-auth`: a consumer is who shows one of its keys.

use super::settings::Settings;
use super::{Answer, MAX_PLUGIN_BODY_BYTES, Plugin, Request, authenticate, fall_back, query};
use serde_json::Value;

pub(crate) struct KeyAuth {
    names: Vec<String>,
    in_header: bool,
    in_query: bool,
    in_body: bool,
    hides: bool,
    on_preflight: bool,
    anonymous: Option<String>,
    realm: Option<String>,
}

enum Found {
    Nothing,
    Several,
    Key(String),
}

impl KeyAuth {
    pub(crate) fn new(settings: &Settings<'_>) -> KeyAuth {
        KeyAuth {
            names: settings.texts("key_names").unwrap_or_else(|| vec!["apikey".to_owned()]),
            in_header: settings.flag("key_in_header", true),
            in_query: settings.flag("key_in_query", true),
            in_body: settings.flag("key_in_body", false),
            hides: settings.flag("hide_credentials", false),
            on_preflight: settings.flag("run_on_preflight", true),
            anonymous: settings.text("anonymous"),
            realm: settings.text("realm"),
        }
    }

    fn refusal(&self, message: &str) -> Answer {
        let challenge =
            self.realm.as_ref().map_or("Key".to_owned(), |realm| format!("Key realm=\"{realm}\""));
        Answer::error(401, message).with("WWW-Authenticate", challenge)
    }

    fn find(&self, request: &mut Request<'_>) -> Found {
        for name in &self.names {
            let mut values = if self.in_header { request.headers(name) } else { Vec::new() };
            if values.is_empty() && self.in_query {
                values = query::values(request.query(), name);
            }
            if values.is_empty() && self.in_body {
                values = body_values(request, name);
            }
            if values.is_empty() {
                continue;
            }
            if self.hides {
                self.hide(request, name);
            }
            return match values.len() {
                1 => values.pop().filter(|key| !key.is_empty()).map_or(Found::Nothing, Found::Key),
                _ => Found::Several,
            };
        }
        Found::Nothing
    }

    fn hide(&self, request: &mut Request<'_>, name: &str) {
        request.edits.remove(name);
        let mut pairs = query::parse(request.query());
        let before = pairs.len();
        pairs.retain(|(known, _)| known != name);
        if pairs.len() != before {
            request.set_query(&query::write(&pairs));
        }
        if self.in_body {
            remove_from_body(request, name);
        }
    }
}

fn body_values(request: &Request<'_>, name: &str) -> Vec<String> {
    let Some(body) = &request.body else { return Vec::new() };
    let kind = request.content_type();
    if kind.starts_with("application/x-www-form-urlencoded") {
        return query::values(&String::from_utf8_lossy(body), name);
    }
    if kind.starts_with("application/json")
        && let Ok(json) = serde_json::from_slice::<Value>(body)
        && let Some(value) = json.get(name).and_then(Value::as_str)
    {
        return vec![value.to_owned()];
    }
    Vec::new()
}

fn remove_from_body(request: &mut Request<'_>, name: &str) {
    let kind = request.content_type();
    let Some(body) = &mut request.body else { return };
    if kind.starts_with("application/x-www-form-urlencoded") {
        let mut pairs = query::parse(&String::from_utf8_lossy(body));
        pairs.retain(|(known, _)| known != name);
        **body = query::write(&pairs).into_bytes();
        *request.body_changed = true;
    } else if kind.starts_with("application/json")
        && let Ok(Value::Object(mut json)) = serde_json::from_slice::<Value>(body)
        && json.remove(name).is_some()
    {
        **body = Value::Object(json).to_string().into_bytes();
        *request.body_changed = true;
    }
}

impl Plugin for KeyAuth {
    fn access(&self, request: &mut Request<'_>) -> Result<(), Answer> {
        if !self.on_preflight && request.method() == "OPTIONS" {
            return Ok(());
        }
        // With an anonymous consumer several kinds of authentication may be tried; one that succeeded is enough.
        if self.anonymous.is_some() && request.identity.credential.is_some() {
            return Ok(());
        }
        let key = match self.find(request) {
            Found::Key(key) => key,
            Found::Several => {
                return fall_back(
                    request,
                    self.anonymous.as_deref(),
                    self.refusal("Duplicate API key found"),
                );
            }
            Found::Nothing => {
                let refusal = self.refusal("No API key found in request");
                return fall_back(request, self.anonymous.as_deref(), refusal);
            }
        };
        let consumers = request.consumers;
        match consumers.key(&key) {
            Some(credential) => {
                authenticate(request, &credential.consumer, &credential.id, &credential.id);
                Ok(())
            }
            None => fall_back(request, self.anonymous.as_deref(), self.refusal("Unauthorized")),
        }
    }

    fn reads_body(&self) -> Option<usize> {
        self.in_body.then_some(MAX_PLUGIN_BODY_BYTES)
    }
}
