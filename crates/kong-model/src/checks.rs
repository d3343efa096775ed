//! The validators that Kong's schemas name by function, each under the name the facts give it.

use crate::entity_checks::value_at;
use crate::hosts::{self, Invalid, Sort};
use crate::pem;
use crate::validate::{as_list, lua_text};
use serde_json::Value;

/// One validator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    Host,
    HostWithOptionalPort,
    HostWithWildcards,
    WildcardHost,
    Sni,
    HeaderName,
    CookieName,
    IpOrCidr,
    Ip,
    Url,
    Path,
    RouterPath,
    Certificate,
    Key,
    Name,
    Tag,
    UpstreamName,
    Target,
    RedirectUri,
    CorsOrigin,
    LuaFunction,
    HttpLogHeader,
    HttpLogAuth,
    DistinctNames,
    TemplatePair,
    Template,
    OrderedLimits,
    TerminationBody,
}

const PERIODS: [&str; 6] = ["second", "minute", "hour", "day", "month", "year"];

impl Check {
    pub(crate) fn parse(name: &str) -> Option<Check> {
        Some(match name {
            "host" => Check::Host,
            "host_with_optional_port" => Check::HostWithOptionalPort,
            "host_with_wildcards" => Check::HostWithWildcards,
            "wildcard_host" => Check::WildcardHost,
            "sni" => Check::Sni,
            "header_name" => Check::HeaderName,
            "cookie_name" => Check::CookieName,
            "ip_or_cidr" => Check::IpOrCidr,
            "ip" => Check::Ip,
            "url" => Check::Url,
            "path" => Check::Path,
            "router_path" => Check::RouterPath,
            "certificate" => Check::Certificate,
            "key" => Check::Key,
            "utf8_name" => Check::Name,
            "tag" => Check::Tag,
            "upstream_name" => Check::UpstreamName,
            "target" => Check::Target,
            "redirect_uri" => Check::RedirectUri,
            "cors_origin" => Check::CorsOrigin,
            "lua_function" => Check::LuaFunction,
            "http_log_header" => Check::HttpLogHeader,
            "http_log_auth" => Check::HttpLogAuth,
            "distinct_names" => Check::DistinctNames,
            "template_pair" => Check::TemplatePair,
            "template" => Check::Template,
            "ordered_limits" => Check::OrderedLimits,
            "termination_body" => Check::TerminationBody,
            _ => return None,
        })
    }

    pub(crate) fn run(self, value: &Value) -> Result<(), String> {
        match self {
            Check::OrderedLimits => ordered_limits(value),
            Check::TerminationBody => {
                let given = |name: &str| value_at(value, name).is_some_and(|value| !value.is_null());
                if given("message") && (given("content_type") || given("body")) {
                    return Err("message cannot be used with content_type or body".into());
                }
                Ok(())
            }
            Check::HttpLogAuth => http_log_auth(value),
            Check::DistinctNames => distinct_names(value),
            _ => match value.as_str() {
                Some(text) => self.text(text),
                None => Ok(()),
            },
        }
    }

    fn text(self, text: &str) -> Result<(), String> {
        match self {
            Check::Host => plain_host(text),
            Check::HostWithOptionalPort => optional_port(text, text),
            Check::HostWithWildcards => optional_port(&text.replace('*', "wildcard"), text),
            Check::WildcardHost => wildcard_host(text),
            Check::Sni => name_only(text),
            Check::HeaderName => token_name(text),
            Check::CookieName => cookie_name(text),
            Check::IpOrCidr if hosts::is_ip_or_cidr(text) => Ok(()),
            Check::IpOrCidr => Err(format!("invalid ip or cidr range: '{text}'")),
            Check::Ip if text.parse::<core::net::IpAddr>().is_ok() => Ok(()),
            Check::Ip => Err(format!("not an ip address: {text}")),
            Check::Url => url(text),
            Check::Path => path(text),
            Check::RouterPath => router_path(text),
            Check::Certificate if is_reference(text) => Ok(()),
            Check::Certificate => pem::read_certificates(text)
                .map(drop)
                .map_err(|reason| format!("invalid certificate: {reason}")),
            Check::Key if is_reference(text) => Ok(()),
            Check::Key => pem::read_key(text).map(drop).map_err(|reason| format!("invalid key: {reason}")),
            Check::Name => name(text),
            Check::Tag => tag(text),
            Check::UpstreamName => upstream_name(text),
            Check::Target => target(text),
            Check::RedirectUri => redirect_uri(text),
            Check::CorsOrigin => cors_origin(text),
            Check::LuaFunction => Ok(()),
            Check::HttpLogHeader => http_log_header(text),
            Check::TemplatePair => template(text.split_once(':').map_or(text, |(_, value)| value)),
            Check::Template => template(text),
            Check::OrderedLimits | Check::TerminationBody | Check::HttpLogAuth | Check::DistinctNames => {
                Ok(())
            }
        }
    }
}

/// A value to be looked up in a vault, `{vault://…}`.
pub(crate) fn is_reference(text: &str) -> bool {
    text.starts_with("{vault://") && text.ends_with('}')
}

fn plain_host(text: &str) -> Result<(), String> {
    if is_reference(text) {
        return Ok(());
    }
    match hosts::parse(text) {
        Err(Invalid::Other(_)) => Err(format!("invalid value: {text}")),
        Err(Invalid::Port) => Err("must not have a port".into()),
        Ok(host) if host.port.is_some() => Err("must not have a port".into()),
        Ok(_) => Ok(()),
    }
}

fn optional_port(text: &str, shown: &str) -> Result<(), String> {
    match hosts::parse(text) {
        Ok(_) => Ok(()),
        Err(Invalid::Port) => Err("invalid port number".into()),
        Err(Invalid::Other(_)) => Err(format!("invalid hostname: {shown}")),
    }
}

fn name_only(text: &str) -> Result<(), String> {
    match hosts::parse(text) {
        Err(Invalid::Other(_)) => Err(format!("invalid value: {text}")),
        Ok(host) if host.sort != Sort::Name => Err("must not be an IP".into()),
        Err(Invalid::Port) => Err("must not have a port".into()),
        Ok(host) if host.port.is_some() => Err("must not have a port".into()),
        Ok(_) => Ok(()),
    }
}

fn wildcard_host(text: &str) -> Result<(), String> {
    match text.matches('*').count() {
        0 => return name_only(text),
        1 => {}
        _ => return Err("only one wildcard must be specified".into()),
    }
    if !text.starts_with('*') && !text.ends_with('*') {
        return Err("wildcard must be leftmost or rightmost character".into());
    }
    name_only(&text.replace('*', "wildcard"))
}

/// Names of headers: letters, digits, hyphens and underscores.
fn token_name(text: &str) -> Result<(), String> {
    if text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
        return Ok(());
    }
    Err(format!("bad header name '{text}', allowed characters are A-Z, a-z, 0-9, '_', and '-'"))
}

fn cookie_name(text: &str) -> Result<(), String> {
    let is_refused = |byte: u8| byte < 0x20 || byte == 0x7f || b"()<>@,;:\\\"/?={}[] \t".contains(&byte);
    if text.bytes().any(is_refused) {
        return Err("contains one or more invalid characters. ASCII control characters (0-31;127), space, tab and the characters ()<>@,;:\\\"/?={}[] are not allowed.".into());
    }
    Ok(())
}

fn url(text: &str) -> Result<(), String> {
    if is_reference(text) {
        return Ok(());
    }
    let Some((scheme, rest)) = text.split_once("://") else { return Err("missing host in url".into()) };
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'.' | b'-'));
    if !is_scheme {
        return Err("missing host in url".into());
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    if host.is_empty() || host.starts_with(':') {
        return Err("missing host in url".into());
    }
    Ok(())
}

fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b".-_~/%:@!$&'()*+,;=".contains(&byte)
}

/// The pair of a broken percent encoding, if there is one.
fn broken_encoding(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'%' {
            let is_whole =
                bytes.get(at + 1..at + 3).is_some_and(|pair| pair.iter().all(u8::is_ascii_hexdigit));
            if !is_whole {
                return Some(text.chars().skip(text[..at].chars().count()).take(3).collect());
            }
            at += 3;
        } else {
            at += 1;
        }
    }
    None
}

fn path(text: &str) -> Result<(), String> {
    let is_known = text.starts_with('/') && text.bytes().all(|byte| is_path_byte(byte) || byte >= 0x80);
    if !is_known {
        return Err(format!(
            "invalid path: '{text}' (characters outside of the reserved list of RFC 3986 found)"
        ));
    }
    match broken_encoding(text) {
        Some(broken) => Err(format!("invalid url-encoded value: '{broken}'")),
        None => Ok(()),
    }
}

fn router_path(text: &str) -> Result<(), String> {
    if let Some(pattern) = text.strip_prefix('~') {
        return match regex::Regex::new(pattern) {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("invalid regex: '{pattern}' ({})", last_line(&error.to_string()))),
        };
    }
    if !text.starts_with('/') || !text.bytes().all(|byte| is_path_byte(byte) || byte >= 0x80) {
        return Err(format!(
            "invalid path: '{text}' (characters outside of the reserved list of RFC 3986 found)"
        ));
    }
    match broken_encoding(text) {
        Some(broken) => Err(format!("invalid url-encoded value: '{broken}'")),
        None => Ok(()),
    }
}

fn last_line(text: &str) -> &str {
    text.lines().last().unwrap_or("invalid pattern").trim()
}

fn name(text: &str) -> Result<(), String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".-_~".contains(&byte) || byte >= 0x80;
    if text.bytes().all(fits) {
        return Ok(());
    }
    Err(format!(
        "invalid value '{text}': the only accepted ascii characters are alphanumerics or ., -, _, and ~"
    ))
}

fn tag(text: &str) -> Result<(), String> {
    let fits = |byte: u8| (0x20..0x7f).contains(&byte) && !matches!(byte, b',' | b'/') || byte >= 0x80;
    if text.bytes().all(fits) {
        return Ok(());
    }
    Err(format!(
        "invalid tag '{text}': expected printable ascii (except `,` and `/`) or valid utf-8 sequences"
    ))
}

fn upstream_name(text: &str) -> Result<(), String> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    match hosts::parse(text) {
        Ok(_) if is_number => Err(format!("Invalid name ('{text}'); must be a valid hostname")),
        Ok(host) if host.sort != Sort::Name => {
            Err(format!("Invalid name ('{text}'); no ip addresses allowed"))
        }
        Ok(host) if host.port.is_some() => Err(format!("Invalid name ('{text}'); no port allowed")),
        Err(Invalid::Port) => Err(format!("Invalid name ('{text}'); no port allowed")),
        Ok(_) => Ok(()),
        Err(_) => Err(format!("Invalid name ('{text}'); must be a valid hostname")),
    }
}

fn target(text: &str) -> Result<(), String> {
    match hosts::parse(text) {
        Ok(_) => Ok(()),
        Err(_) => Err(format!("Invalid target ('{text}'); not a valid hostname or ip address")),
    }
}

fn redirect_uri(text: &str) -> Result<(), String> {
    let is_absolute = text.split_once(':').is_some_and(|(scheme, rest)| {
        !rest.is_empty() && !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric())
    });
    if !is_absolute || url(text).is_err() {
        return Err(format!("cannot parse '{text}'"));
    }
    if text.contains('#') {
        return Err(format!("fragment not allowed in '{text}'"));
    }
    Ok(())
}

fn cors_origin(text: &str) -> Result<(), String> {
    if text == "*" || regex::Regex::new(text).is_ok() && !text.contains("**") {
        return Ok(());
    }
    Err(format!("'{text}' is not a valid regex"))
}

fn http_log_header(text: &str) -> Result<(), String> {
    for name in ["Host", "Content-Length", "Content-Type"] {
        if text.eq_ignore_ascii_case(name) {
            return Err(format!("cannot contain '{name}' header"));
        }
    }
    token_name(text)
}

fn http_log_auth(value: &Value) -> Result<(), String> {
    let endpoint = value_at(value, "http_endpoint").and_then(Value::as_str).unwrap_or_default();
    let authority =
        endpoint.split_once("://").map_or("", |(_, rest)| rest.split('/').next().unwrap_or_default());
    let has_header = value_at(value, "headers")
        .and_then(Value::as_object)
        .is_some_and(|headers| headers.keys().any(|name| name.eq_ignore_ascii_case("authorization")));
    if has_header && authority.contains('@') {
        return Err(
            "specifying both an 'Authorization' header and user info in 'http_endpoint' is not allowed"
                .into(),
        );
    }
    Ok(())
}

fn distinct_names(value: &Value) -> Result<(), String> {
    let mut seen: Vec<&str> = Vec::new();
    for name in as_list(value).into_iter().flatten().filter_map(|item| item["name"].as_str()) {
        if seen.contains(&name) {
            return Err(format!("repeated tags are not allowed: {name}"));
        }
        seen.push(name);
    }
    Ok(())
}

/// A number as Lua's `%s` shows a float.
fn float_text(number: f64) -> String {
    if number.fract() == 0.0 { format!("{number:.1}") } else { format!("{number}") }
}

/// The limit of a longer period may not be lower than that of a shorter one.
fn ordered_limits(value: &Value) -> Result<(), String> {
    let of_plugin = value.get("limit_by").is_some();
    let mut shorter: Option<(&str, f64)> = None;
    for period in PERIODS {
        let Some(limit) = value_at(value, period).and_then(Value::as_f64) else { continue };
        if let Some((name, lower)) = shorter.filter(|(_, lower)| limit < *lower) {
            let the = if of_plugin { "The" } else { "the" };
            return Err(format!(
                "{the} limit for {period}({}) cannot be lower than the limit for {name}({})",
                float_text(limit),
                float_text(lower)
            ));
        }
        shorter = Some((period, limit));
    }
    Ok(())
}

/// Whether the braces of a transformer's template can be read: `$(expression)`.
fn template(text: &str) -> Result<(), String> {
    let mut rest = text;
    while let Some(at) = rest.find("$(") {
        let inner = &rest[at + 2..];
        let Some(end) = closing(inner) else {
            return Err(format!(
                "value '{text}' is not in supported format, error:[string \"TMP\"]:4: unfinished expression"
            ));
        };
        let mut words = inner[..end].split_whitespace();
        if let (Some(first), Some(second)) = (words.next(), words.next())
            && is_word(first)
            && is_word(second)
            && !matches!(first, "not" | "and" | "or")
            && !matches!(second, "and" | "or")
        {
            return Err(format!(
                "value '{text}' is not in supported format, error:[string \"TMP\"]:4: ')' expected near '{second}'"
            ));
        }
        rest = &inner[end + 1..];
    }
    Ok(())
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// The position of the parenthesis that ends an expression.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0;
    for (i, byte) in text.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' if depth == 0 => return Some(i),
            b')' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// Rules that the facts name only by the fields they look at.
pub(crate) fn custom_entity_check(fields: &[String], entity: &Value) -> Result<(), String> {
    let text = |path: &str| value_at(entity, path).and_then(Value::as_str);
    match fields.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [certificate @ ("cert" | "cert_alt"), key @ ("key" | "key_alt")] => {
            let (Some(certificate), Some(key)) = (text(certificate), text(key)) else { return Ok(()) };
            if is_reference(certificate) || is_reference(key) || pem::belong_together(certificate, key) {
                return Ok(());
            }
            Err("certificate does not match key".into())
        }
        ["config.proxy_url"] => match text("config.proxy_url") {
            Some(url) if !url.starts_with("http://") => Err("proxy_url scheme must be http".into()),
            _ => Ok(()),
        },
        ["config"] => {
            let config = value_at(entity, "config").unwrap_or(&Value::Null);
            match config["strategy"].as_str() {
                Some("memory") if config["memory"]["dictionary_name"].is_null() => {
                    Err("memory strategy requires a dictionary_name".into())
                }
                _ => Ok(()),
            }
        }
        ["jwk", "pem", "kid"] => {
            let Some(jwk) = text("jwk").filter(|jwk| !is_reference(jwk)) else { return Ok(()) };
            let Ok(parsed) = serde_json::from_str::<Value>(jwk) else {
                return Err("could not json decode jwk string".into());
            };
            match (parsed["kid"].as_str(), text("kid")) {
                (Some(inner), Some(outer)) if inner == outer => Ok(()),
                (None, _) => Err("kid in jwk.kid must be equal to keys.kid".into()),
                (Some(_), _) => Err("kid in jwk.kid must be equal to keys.kid".into()),
            }
        }
        _ => Ok(()),
    }
}

/// A foreign key as messages show it.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other if other.is_object() => other.to_string(),
        other => lua_text(other),
    }
}
