//! Ways in that lead to some of the routes only: a router, TLS settings and host names of their own.
//!
//! Invariant: a request that came in through an entrance is matched against the routes that name it, and no others.

use crate::certificates;
use crate::entities::{Entrance, EntranceTls, Route, Snapshot};
use crate::router::{Flavour, Match, Request, Router, Scratch};
use crate::snapshot::{CompiledService, ConfigError};
use std::collections::HashMap;
use std::sync::Arc;

pub(crate) struct CompiledEntrance {
    pub(crate) router: Router,
    /// Of each route of the router, its number in the configuration.
    numbers: Vec<usize>,
    pub(crate) tls: Option<Arc<rustls::ServerConfig>>,
    hostnames: Vec<String>,
    /// Services by the names of connections that are passed on as they are.
    pub(crate) passthrough: Arc<[(String, Arc<CompiledService>)]>,
    /// What `tls` was made of.
    entity: Option<EntranceTls>,
}

/// Whether `host` is `pattern`, or ends in what is behind the `*` of it.
pub(crate) fn is_of(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('*') {
        None => pattern.eq_ignore_ascii_case(host),
        Some(suffix) => {
            host.len() > suffix.len()
                && host.is_char_boundary(host.len() - suffix.len())
                && host[host.len() - suffix.len()..].eq_ignore_ascii_case(suffix)
        }
    }
}

/// A host without its port.
pub(crate) fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// The longest of the names that a host is of, an exact one before all.
fn narrowest<'n>(names: impl Iterator<Item = &'n str>, host: &str) -> Option<&'n str> {
    let fitting = names.filter(|name| name.is_empty() || is_of(name, host));
    fitting.max_by_key(|name| (!name.starts_with('*') && !name.is_empty(), name.len()))
}

/// The service that connections for `host` are passed on to.
pub(crate) fn passed_to<'p>(
    passthrough: &'p [(String, Arc<CompiledService>)],
    host: &str,
) -> Option<&'p Arc<CompiledService>> {
    let name = narrowest(passthrough.iter().map(|(name, _)| name.as_str()), host)?;
    passthrough.iter().find(|(known, _)| known == name).map(|(_, service)| service)
}

impl CompiledEntrance {
    /// The route for a request, by its number in the configuration.
    pub(crate) fn select(&self, request: &Request<'_>, scratch: &mut Scratch) -> Option<(Match, usize)> {
        let found = self.router.select(request, scratch)?;
        Some((found, *self.numbers.get(found.route)?))
    }

    /// The listener of a host: the one with the longest name that the host is of.
    fn listener(&self, host: &str) -> Option<&str> {
        let fitting = self.hostnames.iter().filter(|name| name.is_empty() || is_of(name, host));
        fitting
            .max_by_key(|name| (!name.starts_with('*') && !name.is_empty(), name.len()))
            .map(String::as_str)
    }

    /// Whether a connection for one listener carries a request for another: its certificate says nothing about that.
    pub(crate) fn is_misdirected(&self, sni: Option<&str>, host: &str) -> bool {
        let host = without_port(host);
        sni.is_some_and(|sni| !sni.eq_ignore_ascii_case(host) && self.listener(sni) != self.listener(host))
    }
}

/// The entrances of a configuration; settings of TLS that stay the same are kept, and their sessions with them.
pub(crate) fn compile(
    snapshot: &Snapshot,
    routes: &[Route],
    services: &HashMap<String, Arc<CompiledService>>,
    flavour: Flavour,
    previous: &HashMap<String, CompiledEntrance>,
) -> Result<HashMap<String, CompiledEntrance>, ConfigError> {
    let mut out = HashMap::new();
    for Entrance { name, hostnames, tls, passthrough } in &snapshot.entrances {
        let mut own = Vec::new();
        let mut numbers = Vec::new();
        for (number, route) in routes.iter().enumerate() {
            if !route.extras.is_share && route.extras.entrances.contains(name) {
                own.push(route.clone());
                numbers.push(number);
            }
        }
        let known = previous.get(name).filter(|known| known.entity == *tls);
        let config = match (known, tls) {
            (_, None) => None,
            (Some(known), Some(_)) => known.tls.clone(),
            (None, Some(tls)) => Some(certificates::of_entrance(name, tls)?),
        };
        let entrance = CompiledEntrance {
            router: Router::new(&own, flavour)?,
            numbers,
            tls: config,
            hostnames: hostnames.iter().map(|name| name.to_ascii_lowercase()).collect(),
            passthrough: passthrough
                .iter()
                .filter_map(|one| {
                    Some((one.hostname.to_ascii_lowercase(), Arc::clone(services.get(&one.service)?)))
                })
                .collect(),
            entity: tls.clone(),
        };
        out.insert(name.clone(), entrance);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_of_the_listener_with_the_longest_name() {
        let entrance = CompiledEntrance {
            router: Router::default(),
            numbers: Vec::new(),
            tls: None,
            hostnames: ["", "*.org", "*.shop.org", "a.shop.org"].map(str::to_owned).to_vec(),
            passthrough: Arc::default(),
            entity: None,
        };
        assert_eq!(entrance.listener("a.shop.org"), Some("a.shop.org"));
        assert_eq!(entrance.listener("b.shop.org"), Some("*.shop.org"));
        assert_eq!(entrance.listener("shop.org"), Some("*.org"));
        assert_eq!(entrance.listener("a.com"), Some(""));
        assert!(entrance.is_misdirected(Some("a.shop.org"), "b.shop.org:8443"));
        assert!(!entrance.is_misdirected(Some("b.shop.org"), "c.shop.org"));
        assert!(!entrance.is_misdirected(None, "c.shop.org"));
    }
}
