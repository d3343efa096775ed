//! The ways to authenticate that HTTP sources share: `authModes` with basic, bearer, apiKey, custom and tls.

use base64::Engine;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{HttpTls, query_escape};
use crate::config::Secret;
use crate::parameters::{AUTH, Field, Fields, META, META_AUTH};

/// What a request carries to be let in.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Auth {
    pub(crate) tls: HttpTls,
    basic: Option<(Secret, Secret)>,
    bearer: Option<Secret>,
    header: Option<(String, Secret)>,
    query: Option<(String, Secret)>,
}

const MODES: &[&str] = &["apiKey", "basic", "tls", "bearer", "custom", "oauth"];

impl Auth {
    /// Reads `authModes` and what each mode needs; `token` is the name of the bearer token's parameter.
    pub(crate) fn read(fields: &mut Fields<'_>, token: &'static str) -> Auth {
        let modes: Vec<String> = fields
            .optional(
                Field::new(&["authModes", "authMode"], META_AUTH)
                    .one_of(MODES)
                    .exclusive(&["bearer", "basic", "oauth"]),
            )
            .unwrap_or_default();
        let has = |mode: &str| modes.iter().any(|given| given == mode);
        let mut auth = Auth::default();
        auth.tls.is_unsafe = fields.required(Field::new(&["unsafeSsl"], META).default("false"));
        let secret = |fields: &mut Fields<'_>, name: &'static str| -> Secret {
            fields.required(Field::new(&[name], AUTH))
        };
        // An authority is trusted whatever the modes are.
        auth.tls.authority = fields.optional(Field::new(&["ca"], AUTH)).unwrap_or_default();
        if has("tls") {
            auth.tls.certificate = secret(fields, "cert");
            auth.tls.key = secret(fields, "key");
        }
        if has("basic") {
            let password = fields.optional(Field::new(&["password"], AUTH)).unwrap_or_default();
            auth.basic = Some((secret(fields, "username"), password));
        }
        if has("bearer") {
            auth.bearer = Some(secret(fields, token));
        }
        if has("custom") {
            let name: String = fields.required(Field::new(&["customAuthHeader"], AUTH));
            auth.header = Some((name, secret(fields, "customAuthValue")));
        }
        if has("apiKey") {
            let key = secret(fields, "apiKey");
            let method: String = fields
                .required(Field::new(&["method"], META_AUTH).default("header").one_of(&["header", "query"]));
            let name: Option<String> = fields.optional(Field::new(&["keyParamName"], META_AUTH));
            if method == "query" {
                auth.query = Some((name.unwrap_or_else(|| "api_key".into()), key));
            } else {
                auth.header = Some((name.unwrap_or_else(|| "X-API-KEY".into()), key));
            }
        }
        fields.require(!has("oauth"), || "authModes oauth is not supported".into());
        auth
    }

    /// Adds what this way needs to a request.
    pub(crate) fn apply(&self, headers: &mut HeaderMap, uri: &mut String) -> Result<(), String> {
        if let Some((username, password)) = &self.basic {
            let text = format!("{}:{}", username.expose(), password.expose());
            let encoded = base64::engine::general_purpose::STANDARD.encode(text);
            headers.insert(header::AUTHORIZATION, sensitive(&format!("Basic {encoded}"))?);
        }
        if let Some(token) = &self.bearer {
            headers.insert(header::AUTHORIZATION, sensitive(&format!("Bearer {}", token.expose()))?);
        }
        if let Some((name, value)) = &self.header {
            let name =
                HeaderName::try_from(name.as_str()).map_err(|_| format!("{name:?} is no header's name"))?;
            headers.insert(name, sensitive(value.expose())?);
        }
        if let Some((name, value)) = &self.query {
            uri.push(if uri.contains('?') { '&' } else { '?' });
            uri.push_str(&format!("{}={}", query_escape(name), query_escape(value.expose())));
        }
        Ok(())
    }
}

fn sensitive(text: &str) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_str(text)
        .map_err(|_| "a credential holds characters no header may have".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}
