//! The filters of an HTTPRoute's rule as plugins of its routes.

use crate::kinds::{
    Cors, HeaderModifier, HttpRouteFilter, KONG_GROUP, PathModifier, RequestRedirect, UrlRewrite,
};
use gantry_gateway::{HTTP_ROUTE_CORS, HTTP_ROUTE_REDIRECT};
use serde_json::{Map, Value, json};

/// What the filters of a rule come to.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Filters {
    /// Plugins by name, each with its configuration.
    pub(crate) plugins: Vec<(&'static str, Value)>,
    /// KongPlugins that are referred to.
    pub(crate) references: Vec<String>,
    /// The rule's own answer; no backend is asked.
    pub(crate) redirects: bool,
}

/// Whether a filter is made of the matched prefix, so that matches cannot share a route.
pub(crate) fn needs_prefix(filters: &[HttpRouteFilter]) -> bool {
    filters.iter().any(|filter| {
        filter.kind == "RequestRedirect"
            || filter
                .url_rewrite
                .as_ref()
                .and_then(|rewrite| rewrite.path.as_ref())
                .is_some_and(|path| path.kind == "ReplacePrefixMatch")
    })
}

/// Whether the rest behind the matched prefix must be captured.
pub(crate) fn captures_rest(filters: &[HttpRouteFilter]) -> bool {
    filters
        .iter()
        .filter_map(|filter| filter.url_rewrite.as_ref()?.path.as_ref())
        .any(|path| path.kind == "ReplacePrefixMatch" && path.replace_prefix_match.is_some())
}

/// Lists of a transformer's operations under construction.
#[derive(Default)]
struct Operations(Map<String, Value>);

impl Operations {
    fn push(&mut self, operation: &str, entry: String) {
        let place = self.0.entry(operation.to_owned()).or_insert_with(|| json!({}));
        if let Some(place) = place.as_object_mut() {
            let list = place.entry("headers".to_owned()).or_insert_with(|| json!([]));
            if let Some(list) = list.as_array_mut() {
                list.push(Value::String(entry));
            }
        }
    }

    fn modify(&mut self, modifier: &HeaderModifier) {
        for header in &modifier.set {
            self.push("replace", format!("{}:{}", header.name, header.value));
            self.push("add", format!("{}:{}", header.name, header.value));
        }
        for header in &modifier.add {
            self.push("append", format!("{}:{}", header.name, header.value));
        }
        for name in &modifier.remove {
            self.push("remove", name.clone());
        }
    }

    fn replace_uri(&mut self, uri: String) {
        let place = self.0.entry("replace".to_owned()).or_insert_with(|| json!({}));
        if let Some(place) = place.as_object_mut() {
            place.insert("uri".to_owned(), Value::String(uri));
        }
    }
}

/// The filters as plugins; `prefix` is the path of the match they stand behind.
pub(crate) fn plugins_of(filters: &[HttpRouteFilter], prefix: &str) -> Result<Filters, String> {
    let mut request = Operations::default();
    let mut response = Operations::default();
    let mut out = Filters::default();
    for filter in filters {
        let missing = || format!("filter {}: found nothing to do", filter.kind);
        match filter.kind.as_str() {
            "RequestHeaderModifier" => {
                request.modify(filter.request_header_modifier.as_ref().ok_or_else(missing)?);
            }
            "ResponseHeaderModifier" => {
                response.modify(filter.response_header_modifier.as_ref().ok_or_else(missing)?);
            }
            "RequestRedirect" => {
                let redirect = filter.request_redirect.as_ref().ok_or_else(missing)?;
                out.plugins.push((HTTP_ROUTE_REDIRECT, redirect_config(redirect, prefix)));
                out.redirects = true;
            }
            "URLRewrite" => rewrite(filter.url_rewrite.as_ref().ok_or_else(missing)?, prefix, &mut request)?,
            // Copies are the route's own business.
            "RequestMirror" => {
                filter.request_mirror.as_ref().ok_or_else(missing)?;
            }
            "CORS" => {
                out.plugins.push((HTTP_ROUTE_CORS, cors_config(filter.cors.as_ref().ok_or_else(missing)?)))
            }
            "ExtensionRef" => {
                let reference = filter.extension_ref.as_ref().ok_or_else(missing)?;
                if reference.group != KONG_GROUP || reference.kind != "KongPlugin" {
                    return Err(format!(
                        "filter ExtensionRef: found {}/{}, expected {KONG_GROUP}/KongPlugin",
                        reference.group, reference.kind
                    ));
                }
                out.references.push(reference.name.clone());
            }
            other => {
                return Err(format!(
                    "filter {other}: not supported, use RequestHeaderModifier, ResponseHeaderModifier, RequestRedirect, URLRewrite, RequestMirror, CORS or ExtensionRef"
                ));
            }
        }
    }
    if !request.0.is_empty() {
        out.plugins.push(("request-transformer", Value::Object(request.0)));
    }
    if !response.0.is_empty() {
        out.plugins.push(("response-transformer", Value::Object(response.0)));
    }
    Ok(out)
}

fn cors_config(cors: &Cors) -> Value {
    json!({
        "origins": cors.allow_origins,
        "credentials": cors.allow_credentials.unwrap_or(false),
        "max_age": cors.max_age.unwrap_or(5),
        "methods": cors.allow_methods,
        "headers": cors.allow_headers,
        "exposed_headers": cors.expose_headers,
    })
}

fn redirect_config(redirect: &RequestRedirect, prefix: &str) -> Value {
    let mut config = json!({
        "status_code": redirect.status_code.unwrap_or(302),
        "scheme": redirect.scheme,
        "hostname": redirect.hostname,
        "port": redirect.port,
    });
    if let Some(path) = &redirect.path {
        match path.kind.as_str() {
            "ReplaceFullPath" => config["path"] = json!(path.replace_full_path.as_deref().unwrap_or("/")),
            _ => {
                config["prefix"] = json!(prefix);
                config["replace_prefix"] = json!(path.replace_prefix_match.as_deref().unwrap_or("/"));
            }
        }
    }
    config
}

fn rewrite(rewrite: &UrlRewrite, prefix: &str, request: &mut Operations) -> Result<(), String> {
    if let Some(host) = &rewrite.hostname {
        request.push("replace", format!("host:{host}"));
        request.push("add", format!("host:{host}"));
    }
    match &rewrite.path {
        None => {}
        Some(PathModifier { kind, replace_full_path: Some(path), .. }) if kind == "ReplaceFullPath" => {
            request.replace_uri(path.clone());
        }
        Some(PathModifier { kind, replace_prefix_match, .. }) if kind == "ReplacePrefixMatch" => {
            request.replace_uri(prefix_template(replace_prefix_match.as_deref(), prefix));
        }
        Some(other) => return Err(format!("filter URLRewrite: path: type {:?} is not complete", other.kind)),
    }
    Ok(())
}

/// The new path, of which group 1 is what followed the prefix: with its slash, except behind the root.
fn prefix_template(new: Option<&str>, prefix: &str) -> String {
    let Some(new) = new else { return "/".to_owned() };
    let new = new.trim_end_matches('/');
    let is_root = prefix.trim_end_matches('/').is_empty();
    match (new.is_empty(), is_root) {
        (true, true) => r#"$(uri_captures[1] == nil and "/" or "/" .. uri_captures[1])"#.to_owned(),
        (true, false) => r#"$(uri_captures[1] == nil and "/" or uri_captures[1])"#.to_owned(),
        (false, true) => format!(r#"{new}$(uri_captures[1] == nil and "" or "/" .. uri_captures[1])"#),
        (false, false) => format!("{new}$(uri_captures[1])"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(value: Value) -> Vec<HttpRouteFilter> {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn header_filters_become_transformers() {
        let made = plugins_of(
            &filters(json!([
                {"type": "RequestHeaderModifier", "requestHeaderModifier": {
                    "set": [{"name": "X-A", "value": "1"}], "add": [{"name": "X-B", "value": "2"}], "remove": ["X-C"]}},
                {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"remove": ["Server"]}},
            ])),
            "/",
        )
        .unwrap();
        let transformer = json!({
            "replace": {"headers": ["X-A:1"]}, "add": {"headers": ["X-A:1"]},
            "append": {"headers": ["X-B:2"]}, "remove": {"headers": ["X-C"]},
        });
        assert_eq!(made.plugins[0], ("request-transformer", transformer));
        assert_eq!(made.plugins[1], ("response-transformer", json!({"remove": {"headers": ["Server"]}})));
    }

    #[test]
    fn a_prefix_is_rewritten_by_what_followed_it() {
        assert_eq!(prefix_template(Some("/new/"), "/old"), "/new$(uri_captures[1])");
        assert_eq!(prefix_template(None, "/old"), "/");
        assert!(prefix_template(Some("/"), "/old").ends_with("or uri_captures[1])"));
        assert!(prefix_template(Some("/new"), "/").contains(r#""/" .. uri_captures[1]"#));
    }

    #[test]
    fn what_is_not_supported_is_said() {
        let fault =
            plugins_of(&filters(json!([{"type": "ExternalAuth", "externalAuth": {}}])), "/").unwrap_err();
        assert!(fault.starts_with("filter ExternalAuth: not supported"), "{fault}");
        let foreign =
            json!([{"type": "ExtensionRef", "extensionRef": {"group": "a", "kind": "B", "name": "c"}}]);
        assert!(plugins_of(&filters(foreign), "/").is_err());
    }
}
