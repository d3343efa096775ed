//! Which route gets a request: our own index over hosts and paths, executed in Kong's priority order.
//!
//! Invariant: the index only proposes; every proposal is checked against all fields of the route, so an index that
//! proposes too much is slow, never wrong.
//!
//! `traditional_compatible` packs a route's priority into 64 bits. `traditional` first compares *categories* (how many
//! fields a route constrains, then which), starts at the category the request could reach at best, and inside it
//! prefers the routes that share the request's most specific host or path.

mod host;
mod index;
mod order;
pub mod path;
mod radix;
mod rules;
mod traditional;

use crate::entities::Route;
use index::Index;
use rules::{PathHit, PathRule, Rules};
use std::net::IpAddr;

/// The order in which routes are tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flavour {
    Traditional,
    #[default]
    TraditionalCompatible,
}

/// A route that cannot be used, and why.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("route {route:?}: {field}: {reason}")]
pub struct RouterError {
    pub route: String,
    pub field: String,
    pub reason: String,
}

impl RouterError {
    fn new(route: &str, field: String, reason: String) -> RouterError {
        RouterError { route: route.to_owned(), field, reason }
    }
}

/// Access to a request's headers without a map of them.
pub trait Headers {
    /// Calls `found` with each value of the header `name`, which is in lower case.
    fn each_value(&self, name: &str, found: &mut dyn FnMut(&[u8]));
}

impl Headers for [(&str, &str)] {
    fn each_value(&self, name: &str, found: &mut dyn FnMut(&[u8])) {
        for (_, value) in self.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name)) {
            found(value.as_bytes());
        }
    }
}

/// What of a request decides its route.
pub struct Request<'a> {
    pub method: &'a [u8],
    /// Normalised ([`path::normalize`]), without the query.
    pub path: &'a [u8],
    /// Without its `?`.
    pub query: &'a [u8],
    /// The `Host` value, port included.
    pub host: Option<&'a str>,
    pub scheme: &'a str,
    pub sni: Option<&'a str>,
    pub src_ip: Option<IpAddr>,
    pub src_port: Option<u16>,
    pub dst_ip: Option<IpAddr>,
    pub dst_port: Option<u16>,
    pub headers: &'a dyn Headers,
}

/// A route that matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match {
    /// The index of the route in the list the router was built from.
    pub route: usize,
    /// Length of the part of the path that the route's path matched.
    pub prefix_len: Option<usize>,
    /// Where the rest of the path begins.
    pub postfix_start: Option<usize>,
    entry: u32,
}

impl Match {
    /// The rest of `request_path` behind the matched part: what is appended to the service's path when it is stripped.
    pub fn postfix<'p>(&self, request_path: &'p [u8]) -> &'p [u8] {
        request_path.get(self.postfix_start.unwrap_or(1)..).unwrap_or_default()
    }
}

/// What a match was made of, for a person or a plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Explanation {
    pub host: Option<String>,
    pub uri: Option<String>,
    /// Group 0 is the whole matched path.
    pub captures: Vec<(String, String)>,
    pub method: Option<String>,
    pub headers: Vec<(String, String)>,
    pub sni: Option<String>,
    pub src_ip: Option<String>,
    pub src_port: Option<u16>,
    pub dst_ip: Option<String>,
    pub dst_port: Option<u16>,
}

/// Room for the candidates of one lookup, kept by the caller so that a lookup allocates nothing.
#[derive(Debug, Default)]
pub struct Scratch {
    candidates: Vec<u32>,
}

/// One route with at most one of its paths.
#[derive(Debug)]
struct Entry {
    route: u32,
    path: Option<PathRule>,
    mask: u8,
    /// Index into the sorted categories (`traditional` only).
    category: u32,
}

/// An immutable set of routes.
#[derive(Debug, Default)]
pub struct Router {
    flavour: Flavour,
    rules: Vec<Rules>,
    /// In the order in which they are tried.
    entries: Vec<Entry>,
    index: Index,
    traditional: traditional::Tables,
}

impl Router {
    /// Compiles `routes`. Fails on the first that constrains nothing or has an invalid pattern.
    pub fn new(routes: &[Route], flavour: Flavour) -> Result<Router, RouterError> {
        let mut rules = Vec::with_capacity(routes.len());
        let mut unordered = Vec::new();
        for (i, route) in routes.iter().enumerate() {
            let compiled = Rules::compile(route)?;
            let paths = route.paths.as_deref().unwrap_or_default();
            if compiled.mask == 0 && paths.is_empty() {
                let reason =
                    "at least one of methods, hosts, headers, paths, snis, sources, destinations is needed";
                return Err(RouterError::new(route.label(), "paths".into(), reason.into()));
            }
            let entry = |path: Option<PathRule>| Entry {
                route: i as u32,
                mask: compiled.mask | if path.is_some() { rules::URI } else { 0 },
                path,
                category: 0,
            };
            if paths.is_empty() {
                unordered.push(entry(None));
            }
            for text in paths {
                let path = PathRule::parse(text).map_err(|reason| {
                    RouterError::new(route.label(), "paths".into(), format!("{text:?}: {reason}"))
                })?;
                unordered.push(entry(Some(path)));
            }
            rules.push(compiled);
        }
        let (entries, traditional) = match flavour {
            Flavour::TraditionalCompatible => {
                (order::by_packed_priority(unordered, routes, &rules), traditional::Tables::default())
            }
            Flavour::Traditional => traditional::order(unordered, routes, &rules),
        };
        let index = Index::new(&entries, &rules);
        Ok(Router { flavour, rules, entries, index, traditional })
    }

    /// The route for `request`, if any.
    pub fn select(&self, request: &Request<'_>, scratch: &mut Scratch) -> Option<Match> {
        scratch.candidates.clear();
        self.index.candidates(request.host, request.path, &mut scratch.candidates);
        scratch.candidates.sort_unstable();
        scratch.candidates.dedup();
        match self.flavour {
            Flavour::TraditionalCompatible => {
                let host = self.host_view(request);
                scratch.candidates.iter().find_map(|&id| self.check(id, request, &host))
            }
            Flavour::Traditional => self.select_traditional(request, &scratch.candidates),
        }
    }

    fn host_view<'r>(&self, request: &Request<'r>) -> HostView<'r> {
        let default_port = if request.scheme == "https" { 443 } else { 80 };
        let with_port = match request.host {
            Some(host) if self.index.needs_port() => host::with_port(host, default_port),
            _ => String::new(),
        };
        HostView { raw: request.host, with_port, wildcard_hit: None }
    }

    /// Checks every field of one entry.
    fn check(&self, id: u32, request: &Request<'_>, host: &HostView<'_>) -> Option<Match> {
        let entry = self.entries.get(id as usize)?;
        let rules = &self.rules[entry.route as usize];
        if entry.mask & rules::HOST != 0 && host.matched(rules).is_none() {
            return None;
        }
        if entry.mask & rules::HEADER != 0 && !rules.headers_match(request) {
            return None;
        }
        if !rules.others_match(request) {
            return None;
        }
        let hit = match &entry.path {
            None => PathHit { prefix_len: None, postfix_start: None },
            Some(path) => path.matches(request.path)?,
        };
        Some(Match {
            route: entry.route as usize,
            prefix_len: hit.prefix_len,
            postfix_start: hit.postfix_start,
            entry: id,
        })
    }

    /// What `found` matched on.
    pub fn explain(&self, request: &Request<'_>, found: &Match) -> Explanation {
        let Some(entry) = self.entries.get(found.entry as usize) else { return Explanation::default() };
        let rules = &self.rules[entry.route as usize];
        let mut out = Explanation::default();
        if entry.mask & rules::HOST != 0 {
            let mut view = self.host_view(request);
            view.wildcard_hit = self.traditional.wildcard_hit(self.flavour, &self.index, request);
            out.host = view.matched(rules).map(str::to_owned);
        }
        if entry.mask & rules::METHOD != 0 {
            out.method = Some(String::from_utf8_lossy(request.method).into_owned());
        }
        for header in &rules.headers {
            if let Some(value) = header.matched_value(request) {
                out.headers.push((header.name.clone(), String::from_utf8_lossy(&value).into_owned()));
            }
        }
        if entry.mask & rules::SNI != 0 {
            out.sni = request.sni.map(str::to_owned);
        }
        if let Some(rule) = Rules::matched_source(&rules.sources, request.src_ip, request.src_port) {
            out.src_ip = rule.ip.as_ref().map(|(text, _)| text.clone());
            out.src_port = rule.port;
        }
        if let Some(rule) = Rules::matched_source(&rules.destinations, request.dst_ip, request.dst_port) {
            out.dst_ip = rule.ip.as_ref().map(|(text, _)| text.clone());
            out.dst_port = rule.port;
        }
        match &entry.path {
            None => {}
            Some(PathRule::Prefix(prefix)) => {
                out.uri = Some(String::from_utf8_lossy(prefix).into_owned());
            }
            Some(PathRule::Pattern { source, regex }) => {
                out.uri = Some(source.clone());
                out.captures = captures(regex, request.path);
            }
        }
        out
    }
}

/// Numbered and named groups without the one we added; empty when the pattern has none of its own.
fn captures(regex: &regex::bytes::Regex, path: &[u8]) -> Vec<(String, String)> {
    let Some(found) = regex.captures(path) else { return Vec::new() };
    let own_groups = regex.captures_len().saturating_sub(2);
    if own_groups == 0 {
        return Vec::new();
    }
    let text = |group: Option<regex::bytes::Match<'_>>| {
        group.map(|found| String::from_utf8_lossy(found.as_bytes()).into_owned())
    };
    let mut out = Vec::new();
    for (i, name) in regex.capture_names().enumerate().take(own_groups + 1) {
        let Some(value) = text(found.get(i)) else { continue };
        out.push((i.to_string(), value.clone()));
        if let Some(name) = name {
            out.push((name.to_owned(), value));
        }
    }
    out
}

/// A request's host in the forms that rules compare.
struct HostView<'r> {
    raw: Option<&'r str>,
    /// Only filled when a wildcard or a port needs it.
    with_port: String,
    /// `traditional`: the wildcard that was found before routes are looked at takes the raw host's place.
    wildcard_hit: Option<String>,
}

impl HostView<'_> {
    /// The route's host that fits.
    fn matched<'a>(&self, rules: &'a Rules) -> Option<&'a str> {
        let raw = self.raw?;
        let bare = host::split_port(raw).bare;
        let wanted = self.wildcard_hit.as_deref().unwrap_or(raw);
        let plain = |name: &str| rules.plain_hosts.iter().find(|host| host.as_str() == name);
        if let Some(host) = plain(wanted).or_else(|| plain(bare)) {
            return Some(host);
        }
        rules
            .wildcard_hosts
            .iter()
            .find(|(_, wildcard)| wildcard.matches(&self.with_port))
            .map(|(text, _)| text.as_str())
    }
}

#[cfg(test)]
mod tests;
