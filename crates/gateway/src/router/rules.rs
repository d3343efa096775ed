//! What a route asks of a request, compiled once: hosts, headers, one path, methods, names and addresses.

use super::host::Wildcard;
use super::{Request, RouterError, path};
use crate::entities::{Endpoint, Protocol, Route};
use crate::entrances::{is_of, without_port};
use crate::net::IpRange;
use crate::plugins::query;
use regex::bytes::{Regex, RegexBuilder};
use std::net::IpAddr;

pub(crate) const HOST: u8 = 0x40;
pub(crate) const HEADER: u8 = 0x20;
pub(crate) const URI: u8 = 0x10;
pub(crate) const METHOD: u8 = 0x08;
pub(crate) const SNI: u8 = 0x04;
pub(crate) const SRC: u8 = 0x02;
pub(crate) const DST: u8 = 0x01;

/// Bounds the memory a route's pattern may take when compiled; matching itself is linear.
const REGEX_SIZE_LIMIT_BYTES: usize = 1 << 20;

#[derive(Debug)]
pub(crate) struct HeaderRule {
    /// In lower case.
    pub(crate) name: String,
    /// In lower case.
    pub(crate) values: Vec<Vec<u8>>,
    pub(crate) pattern: Option<Regex>,
}

#[derive(Debug)]
pub(crate) struct EndpointRule {
    pub(crate) ip: Option<(String, IpRange)>,
    pub(crate) port: Option<u16>,
}

impl EndpointRule {
    fn matches(&self, ip: Option<IpAddr>, port: Option<u16>) -> bool {
        let ip_fits = match &self.ip {
            None => true,
            Some((_, range)) => ip.is_some_and(|ip| range.contains(ip)),
        };
        ip_fits && (self.port.is_none() || self.port == port)
    }
}

/// Everything of a route but its paths.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) plain_hosts: Vec<String>,
    pub(crate) wildcard_hosts: Vec<(String, Wildcard)>,
    pub(crate) headers: Vec<HeaderRule>,
    pub(crate) methods: Vec<String>,
    pub(crate) snis: Vec<String>,
    pub(crate) sources: Vec<EndpointRule>,
    pub(crate) destinations: Vec<EndpointRule>,
    pub(crate) queries: Vec<QueryRule>,
    /// Hosts that are not the route's, whatever its own are.
    pub(crate) other_hosts: Vec<String>,
    /// The one scheme that is taken, where others are another route's.
    pub(crate) only_scheme: Option<&'static str>,
    /// Bits of all fields present but the path.
    pub(crate) mask: u8,
}

#[derive(Debug)]
pub(crate) struct QueryRule {
    name: String,
    value: String,
    pattern: Option<Regex>,
}

#[derive(Debug)]
pub(crate) enum PathRule {
    Prefix(Vec<u8>),
    Pattern {
        source: String,
        /// Anchored, with the rest of the path as its last group, `uri_postfix`.
        regex: Regex,
    },
}

/// What a path rule found: ends of the matched prefix and start of the rest, absent when a pattern's branch names neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PathHit {
    pub(crate) prefix_len: Option<usize>,
    pub(crate) postfix_start: Option<usize>,
}

impl PathRule {
    /// `text` is a route's path: a prefix, or a pattern behind `~`.
    pub(crate) fn parse(text: &str) -> Result<PathRule, String> {
        match text.strip_prefix('~') {
            None => Ok(PathRule::Prefix(text.as_bytes().to_vec())),
            Some(pattern) => {
                let anchored = format!("^(?:{pattern}(?P<uri_postfix>.*))");
                let regex = build_regex(&anchored)?;
                Ok(PathRule::Pattern { source: pattern.to_owned(), regex })
            }
        }
    }

    pub(crate) fn matches(&self, request_path: &[u8]) -> Option<PathHit> {
        let rest_start = match self {
            PathRule::Prefix(prefix) => {
                if !request_path.starts_with(prefix) {
                    return None;
                }
                prefix.len()
            }
            PathRule::Pattern { regex, .. } => {
                let captures = regex.captures(request_path)?;
                match captures.name("uri_postfix") {
                    Some(postfix) => request_path.len() - postfix.len(),
                    None => return Some(PathHit { prefix_len: None, postfix_start: None }),
                }
            }
        };
        let postfix = path::sanitize_postfix(&request_path[rest_start..]);
        Some(PathHit {
            prefix_len: Some(rest_start),
            postfix_start: Some(request_path.len() - postfix.len()),
        })
    }
}

/// A pattern over bytes, ASCII classes as in PCRE without its UTF mode.
pub(crate) fn build_regex(pattern: &str) -> Result<Regex, String> {
    let build = |unicode: bool| {
        RegexBuilder::new(pattern).unicode(unicode).size_limit(REGEX_SIZE_LIMIT_BYTES).build()
    };
    build(false).or_else(|_| build(true)).map_err(|error| {
        let text = error.to_string();
        text.lines().last().unwrap_or("invalid pattern").trim().to_owned()
    })
}

fn lower(values: &[String]) -> Vec<Vec<u8>> {
    values.iter().map(|value| value.to_ascii_lowercase().into_bytes()).collect()
}

impl Rules {
    pub(crate) fn compile(route: &Route) -> Result<Rules, RouterError> {
        let error = |field: &str, reason: String| RouterError::new(route.label(), field.to_owned(), reason);
        let mut rules = Rules {
            plain_hosts: Vec::new(),
            wildcard_hosts: Vec::new(),
            headers: Vec::new(),
            methods: Vec::new(),
            snis: Vec::new(),
            sources: Vec::new(),
            destinations: Vec::new(),
            queries: Vec::new(),
            other_hosts: route.extras.other_hosts.clone(),
            only_scheme: match route.protocols.as_slice() {
                [Protocol::Http] if route.extras.has_strict_protocols => Some("http"),
                [Protocol::Https] if route.extras.has_strict_protocols => Some("https"),
                _ => None,
            },
            mask: 0,
        };
        for host in route.hosts.iter().flatten() {
            if host.contains('*') {
                let wildcard = Wildcard::parse(host)
                    .ok_or_else(|| error("hosts", format!("{host:?} has more than one wildcard")))?;
                rules.wildcard_hosts.push((host.clone(), wildcard));
            } else {
                rules.plain_hosts.push(host.clone());
            }
            rules.mask |= HOST;
        }
        for (name, values) in route.headers.iter().flatten() {
            let name = name.to_ascii_lowercase();
            if name == "host" {
                continue;
            }
            let pattern = match values.as_slice() {
                [one] => one.strip_prefix("~*").map(build_regex).transpose(),
                _ => Ok(None),
            }
            .map_err(|reason| error(&format!("headers.{name}"), reason))?;
            rules.headers.push(HeaderRule { name, values: lower(values), pattern });
            rules.mask |= HEADER;
        }
        for query in &route.extras.queries {
            let pattern = query.is_pattern.then(|| build_regex(&query.value)).transpose();
            let pattern = pattern.map_err(|reason| error(&format!("queries.{}", query.name), reason))?;
            let (name, value) = (query.name.clone(), query.value.clone());
            rules.queries.push(QueryRule { name, value, pattern });
        }
        for method in route.methods.iter().flatten() {
            rules.methods.push(method.to_ascii_uppercase());
            rules.mask |= METHOD;
        }
        for sni in route.snis.iter().flatten() {
            let name = if sni.len() > 1 { sni.strip_suffix('.').unwrap_or(sni) } else { sni };
            rules.snis.push(name.to_owned());
            rules.mask |= SNI;
        }
        let endpoints =
            |field: &str, list: &Option<Vec<Endpoint>>| -> Result<Vec<EndpointRule>, RouterError> {
                let mut out = Vec::new();
                for endpoint in list.iter().flatten() {
                    let ip = match &endpoint.ip {
                        None => None,
                        Some(text) => {
                            let range =
                                text.parse::<IpRange>().map_err(|reason| error(field, reason.to_string()))?;
                            Some((text.clone(), range))
                        }
                    };
                    out.push(EndpointRule { ip, port: endpoint.port });
                }
                Ok(out)
            };
        rules.sources = endpoints("sources", &route.sources)?;
        rules.destinations = endpoints("destinations", &route.destinations)?;
        if !rules.sources.is_empty() {
            rules.mask |= SRC;
        }
        if !rules.destinations.is_empty() {
            rules.mask |= DST;
        }
        Ok(rules)
    }

    pub(crate) fn headers_match(&self, request: &Request<'_>) -> bool {
        self.headers.iter().all(|rule| rule.matched_value(request).is_some())
    }

    pub(crate) fn others_match(&self, request: &Request<'_>) -> bool {
        if self.mask & METHOD != 0 && !self.methods.iter().any(|method| method.as_bytes() == request.method) {
            return false;
        }
        if self.mask & SNI != 0
            && request.scheme != "http"
            && !request.sni.is_some_and(|sni| self.snis.iter().any(|name| name == sni))
        {
            return false;
        }
        if self.mask & SRC != 0
            && !self.sources.iter().any(|rule| rule.matches(request.src_ip, request.src_port))
        {
            return false;
        }
        if !self.queries.iter().all(|rule| rule.matches(request.query)) {
            return false;
        }
        if self.only_scheme.is_some_and(|scheme| scheme != request.scheme) {
            return false;
        }
        if !self.other_hosts.is_empty()
            && let Some(host) = request.host.map(without_port)
            && self.other_hosts.iter().any(|other| is_of(other, host))
        {
            return false;
        }
        self.mask & DST == 0
            || self.destinations.iter().any(|rule| rule.matches(request.dst_ip, request.dst_port))
    }

    pub(crate) fn matched_source(
        list: &[EndpointRule],
        ip: Option<IpAddr>,
        port: Option<u16>,
    ) -> Option<&EndpointRule> {
        list.iter().find(|rule| rule.matches(ip, port))
    }
}

impl QueryRule {
    fn matches(&self, query: &[u8]) -> bool {
        let text = String::from_utf8_lossy(query);
        let found = query::values(&text, &self.name).into_iter().next();
        found.is_some_and(|found| match &self.pattern {
            Some(pattern) => pattern.is_match(found.as_bytes()),
            None => found == self.value,
        })
    }
}

impl HeaderRule {
    /// The request's value that satisfies the rule, in lower case.
    pub(crate) fn matched_value(&self, request: &Request<'_>) -> Option<Vec<u8>> {
        let mut matched = None;
        request.headers.each_value(&self.name, &mut |value| {
            if matched.is_some() {
                return;
            }
            let value = value.to_ascii_lowercase();
            let fits = self.values.contains(&value)
                || self.pattern.as_ref().is_some_and(|pattern| pattern.is_match(&value));
            if fits {
                matched = Some(value);
            }
        });
        matched
    }
}
