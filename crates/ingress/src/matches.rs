//! The matches of an HTTPRoute's rules as hosts, paths, parameters and places of routes.

use crate::attach::{Place, narrower};
use crate::kinds::{HttpRouteMatch, PathMatch};
use gantry_gateway::entities::{Protocol, QueryMatch, Route, RouteExtras};
use gantry_kong_model::entity_id;

/// One match of one rule.
pub(crate) struct Matched<'r> {
    pub(crate) rule: usize,
    pub(crate) number: usize,
    pub(crate) of: &'r HttpRouteMatch,
}

/// A route's path as one match has it.
pub(crate) struct MatchedPath {
    /// As Kong writes it.
    pub(crate) paths: Vec<String>,
    rank: u64,
    length: usize,
}

pub(crate) fn kind_of(path: Option<&PathMatch>) -> &str {
    path.and_then(|path| path.kind.as_deref()).unwrap_or("PathPrefix")
}

/// Whether all that a match asks for can be told apart here.
pub(crate) fn servable(of: &HttpRouteMatch) -> Result<(), String> {
    let kind = kind_of(of.path.as_ref());
    if !["Exact", "PathPrefix", "RegularExpression"].contains(&kind) {
        return Err(format!("path: type: found {kind:?}, expected Exact, PathPrefix or RegularExpression"));
    }
    for (field, list) in [("headers", &of.headers), ("queryParams", &of.query_params)] {
        for one in list {
            let kind = one.kind.as_deref().unwrap_or("Exact");
            if !["Exact", "RegularExpression"].contains(&kind) {
                return Err(format!("{field}: type: found {kind:?}, expected Exact or RegularExpression"));
            }
        }
    }
    Ok(())
}

/// Matches with the same key differ in their path at most.
pub(crate) fn match_key(of: &HttpRouteMatch) -> String {
    let mut headers: Vec<(String, &str, &str)> = Vec::new();
    for header in &of.headers {
        let name = header.name.to_ascii_lowercase();
        if !headers.iter().any(|(known, ..)| *known == name) {
            headers.push((name, header.kind.as_deref().unwrap_or("Exact"), &header.value));
        }
    }
    headers.sort();
    format!("{:?}{headers:?}{:?}", of.method, queries(of))
}

/// The query parameters of a match; of several for one name the first counts.
pub(crate) fn queries(of: &HttpRouteMatch) -> Vec<QueryMatch> {
    let mut out: Vec<QueryMatch> = Vec::new();
    for one in &of.query_params {
        if !out.iter().any(|known| known.name == one.name) {
            out.push(QueryMatch {
                name: one.name.clone(),
                value: one.value.clone(),
                is_pattern: one.kind.as_deref() == Some("RegularExpression"),
            });
        }
    }
    out.sort_by(|left, right| left.name.cmp(&right.name));
    out
}

pub(crate) fn matched_path(of: &HttpRouteMatch, captures: bool) -> MatchedPath {
    let value = of.path.as_ref().and_then(|path| path.value.as_deref()).unwrap_or("/");
    let made = |paths, rank| MatchedPath { paths, rank, length: value.len() };
    match kind_of(of.path.as_ref()) {
        "Exact" => made(vec![format!("~{}$", quoted(value))], 3),
        "RegularExpression" => made(vec![format!("~{value}")], 2),
        _ => {
            let base = value.trim_end_matches('/');
            let paths = match (captures, base.is_empty()) {
                (true, true) => vec!["~/$".to_owned(), "~/(.*)".to_owned()],
                (true, false) => vec![format!("~{}$", quoted(base)), format!("~{}(/.*)", quoted(base))],
                (false, true) => vec!["~/$".to_owned(), "/".to_owned()],
                (false, false) => vec![format!("~{}$", quoted(base)), format!("{base}/")],
            };
            MatchedPath { length: base.len().max(1), ..made(paths, 1) }
        }
    }
}

/// A path in which nothing means anything to a pattern.
fn quoted(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for c in path.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// A host of a route, and the ways in on which it is the route's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostAt {
    host: Option<String>,
    other_hosts: Vec<String>,
    protocols: Vec<Protocol>,
    entrances: Vec<String>,
}

/// The hosts of a route at all its listeners; what is the same at several is there once.
pub(crate) fn hosts_at(places: &[Place], more: &[String]) -> Vec<HostAt> {
    let mut out: Vec<HostAt> = Vec::new();
    for place in places {
        let hosts: Vec<Option<String>> = match &place.hostnames {
            None => vec![None],
            Some(names) => names.iter().chain(more).cloned().map(Some).collect(),
        };
        let protocols = if place.is_tls { vec![Protocol::Https] } else { vec![Protocol::Http] };
        for host in hosts {
            let of_host = place.other_hosts.iter().filter(|other| match (&host, other.strip_prefix('*')) {
                (None, _) => true,
                (Some(host), None) => narrower(host, other).is_some_and(|both| both == other.as_str()),
                (Some(host), Some(_)) => narrower(host, other).is_some(),
            });
            let other_hosts: Vec<String> = of_host.cloned().collect();
            // Another listener has all of it.
            if host.as_ref().is_some_and(|host| {
                other_hosts
                    .iter()
                    .any(|other| narrower(host, other).is_some_and(|both| both == host.as_str()))
            }) {
                continue;
            }
            let known = out.iter_mut().find(|known| known.host == host && known.other_hosts == other_hosts);
            match known {
                Some(known) => {
                    for protocol in &protocols {
                        if !known.protocols.contains(protocol) {
                            known.protocols.push(*protocol);
                        }
                    }
                    if !known.entrances.contains(&place.entrance) {
                        known.entrances.push(place.entrance.clone());
                    }
                }
                None => out.push(HostAt {
                    host,
                    other_hosts,
                    protocols: protocols.clone(),
                    entrances: vec![place.entrance.clone()],
                }),
            }
        }
    }
    out
}

/// A route for each host and path, so that each has the place which the Gateway API gives it: the longest host, an exact
/// path, the longest prefix, a method, most headers, most query parameters, the oldest object, the first rule and match.
/// `position` is the object's place by age.
pub(crate) fn in_order(
    route: &Route,
    hosts: &[HostAt],
    position: u64,
    matches: &[Matched<'_>],
    paths: &[MatchedPath],
) -> Vec<Route> {
    const LAST: u64 = (1 << 28) - 1;
    let name = route.name.as_deref().unwrap_or_default();
    let mut out = Vec::new();
    for (number, at) in hosts.iter().enumerate() {
        let host = at.host.as_ref();
        for (matched, path) in matches.iter().zip(paths) {
            let place = (position << 14) | ((matched.rule as u64) << 7) | matched.number as u64;
            let is_plain = host.is_some_and(|host| !host.contains('*'));
            let priority = (if host.is_some() { 2 } else { 1 }) << 61
                | u64::from(is_plain) << 60
                | (host.map_or(0, |host| host.len()).min(255) as u64) << 52
                | path.rank << 50
                | (path.length.min(2_047) as u64) << 39
                | u64::from(matched.of.method.is_some()) << 38
                | (matched.of.headers.len().min(31) as u64) << 33
                | (matched.of.query_params.len().min(31) as u64) << 28
                | (LAST - place.min(LAST));
            let label = format!("{}#{number}", host.map_or("*", String::as_str));
            out.push(Route {
                id: entity_id("routes", &format!("{name}#{label}#{}.{}", matched.rule, matched.number)),
                protocols: at.protocols.clone(),
                hosts: host.map(|host| vec![host.clone()]),
                paths: Some(path.paths.clone()),
                extras: RouteExtras {
                    priority: Some(priority),
                    entrances: at.entrances.clone(),
                    other_hosts: at.other_hosts.clone(),
                    has_strict_protocols: true,
                    ..route.extras.clone()
                },
                ..route.clone()
            });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_match_whole_segments() {
        let path = |kind: &str, value: &str| {
            let path = PathMatch { kind: Some(kind.into()), value: Some(value.into()) };
            matched_path(&HttpRouteMatch { path: Some(path), ..HttpRouteMatch::default() }, false).paths
        };
        assert_eq!(path("PathPrefix", "/a/"), ["~/a$", "/a/"]);
        assert_eq!(path("PathPrefix", "/"), ["~/$", "/"]);
        assert_eq!(path("Exact", "/a.b"), ["~/a\\.b$"]);
        assert_eq!(path("RegularExpression", "/a[0-9]"), ["~/a[0-9]"]);
    }
}
