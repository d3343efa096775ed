//! Paths that are no resources: discovery, version, health, OpenAPI.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, header};

use crate::discovery;
use crate::doors::UserInfo;
use crate::openapi;
use crate::query::Query;
use crate::rbac::Attributes;
use crate::response;
use crate::rest::Answer;
use crate::server::Inner;
use crate::service::ResponseBody;
use crate::status::Failure;

pub(crate) fn page_not_found() -> Response<ResponseBody> {
    response::text(404, "404 page not found\n")
}

pub(crate) fn handle(
    server: &Arc<Inner>,
    user: &UserInfo,
    segments: &[String],
    request: &Request<Bytes>,
) -> Answer {
    let path: Vec<&str> = segments.iter().map(String::as_str).collect();
    let verb = request.method().as_str().to_ascii_lowercase();
    let asked = Attributes { verb: &verb, path: Some(request.uri().path()), ..Attributes::default() };
    if !server.authorizer.decide(&server.store, user, &asked).allowed {
        return Err(Failure::forbidden_path(&user.name, &verb, request.uri().path()));
    }
    if let ["healthz" | "livez" | "readyz", ..] = path[..] {
        let query = Query::parse(request.uri().query().unwrap_or_default());
        return Ok(health(path[0], path.get(1).copied(), query.get("verbose").is_some()));
    }
    let registry = server.registry.load();
    let known = !matches!(
        path[..],
        [] | ["api" | "apis" | "version" | "openapi" | "openid" | ".well-known" | "metrics", ..]
    );
    if known {
        return Ok(page_not_found());
    }
    if *request.method() != Method::GET {
        return Err(Failure::method_not_allowed());
    }
    let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let aggregated = crate::negotiate::wants_aggregated_discovery(accept);
    match path[..] {
        [] => Ok(response::value(200, &discovery::root(&registry))),
        ["version"] => Ok(response::json_bytes(200, discovery::version(&server.product_version))),
        ["api"] if aggregated => Ok(discovery::aggregated(&registry, true)),
        ["apis"] if aggregated => Ok(discovery::aggregated(&registry, false)),
        ["api"] => Ok(response::value(200, &discovery::core_versions(request))),
        ["apis"] => Ok(response::value(200, &discovery::group_list(&registry))),
        ["api", version] => discovery::resource_list(&registry, "", version)
            .map_or_else(|| Ok(page_not_found()), |list| Ok(response::value(200, &list))),
        ["apis", group] => discovery::group(&registry, group)
            .map_or_else(|| Ok(page_not_found()), |group| Ok(response::value(200, &group))),
        ["apis", group, version] => discovery::resource_list(&registry, group, version)
            .map_or_else(|| Ok(page_not_found()), |list| Ok(response::value(200, &list))),
        ["openid", "v1", "jwks"] => Ok(response::value(200, &server.tokens.key_set())),
        [".well-known", "openid-configuration"] => Ok(response::value(200, &server.tokens.configuration())),
        ["openapi", ..] => {
            let query = Query::parse(request.uri().query().unwrap_or_default());
            openapi::handle(server, &path[1..], &query, request.headers())
        }
        _ => Ok(page_not_found()),
    }
}

/// The server answers, so it lives; it opens its store before it serves, so it is ready.
fn health(endpoint: &str, check: Option<&str>, verbose: bool) -> Response<ResponseBody> {
    const CHECKS: [&str; 3] = ["ping", "log", "store"];
    match check {
        Some(check) if CHECKS.contains(&check) => response::text(200, "ok"),
        Some(_) => page_not_found(),
        None if verbose => {
            let mut text: String = CHECKS.iter().map(|check| format!("[+]{check} ok\n")).collect();
            text.push_str(&format!("{endpoint} check passed\n"));
            response::text(200, text)
        }
        None => response::text(200, "ok"),
    }
}
