//! From a request head to the service that gets it and the target line it gets.

use super::connection::{Connection, Refusal};
use super::head::Head;
use super::transport::Transport;
use crate::hashing::Hashing;
use crate::metrics::ScopeMetrics;
use crate::mirrors::CompiledMirror;
use crate::node::Mode;
use crate::plugins::chain::Chain;
use crate::plugins::consumers::Consumers;
use crate::router::{self, Headers, path};
use crate::snapshot::{Compiled, CompiledRoute, CompiledService};
use crate::upstream_tls::UpstreamTls;
use std::sync::Arc;
use std::time::Duration;

/// Where a request goes; its new target line is in the connection's `uri`, its host in `host`.
pub(super) struct Plan {
    pub(super) service: Arc<CompiledService>,
    pub(super) metrics: Arc<ScopeMetrics>,
    pub(super) preserve_host: bool,
    /// The matched prefix when it was stripped.
    pub(super) prefix: Option<Vec<u8>>,
    pub(super) is_transparent: bool,
    /// Range of the path in the request's target, and thereby in the buffer.
    pub(super) path: (usize, usize),
    pub(super) chain: Option<Arc<Chain>>,
    /// Only plugins answer here.
    pub(super) has_no_service: bool,
    pub(super) consumers: Arc<Consumers>,
    /// What a pattern of the route's captured; only where plugins may ask for it.
    pub(super) captures: Vec<(String, String)>,
    pub(super) route_label: Arc<str>,
    pub(super) service_label: Arc<str>,
    /// From the request's arrival to the end of its answer.
    pub(super) timeout: Option<Duration>,
    pub(super) mirrors: Option<Arc<[CompiledMirror]>>,
}

impl Plan {
    /// How the target is spoken to over TLS. A Service address passes on what it gets as it is.
    pub(super) fn tls(&self) -> Option<&UpstreamTls> {
        self.service.tls.as_deref().filter(|_| !self.is_transparent)
    }
}

struct HeadView<'a> {
    head: &'a Head,
    buffer: &'a [u8],
}

impl Headers for HeadView<'_> {
    fn each_value(&self, name: &str, found: &mut dyn FnMut(&[u8])) {
        for field in &self.head.fields {
            if self.head.name(self.buffer, field).eq_ignore_ascii_case(name.as_bytes()) {
                found(self.head.value(self.buffer, field));
            }
        }
    }
}

/// A target taken apart; positions are relative to it.
struct TargetParts<'a> {
    authority: Option<&'a [u8]>,
    path_start: usize,
    path_end: usize,
}

fn split_target(target: &[u8]) -> Option<TargetParts<'_>> {
    let (authority, path_start) = if target.first() == Some(&b'/') {
        (None, 0)
    } else {
        let scheme_len = [&b"http://"[..], b"https://"]
            .iter()
            .find(|scheme| {
                target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
            })?
            .len();
        let rest = &target[scheme_len..];
        let authority_len = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
        if authority_len == 0 || rest[..authority_len].contains(&b'@') {
            return None;
        }
        (Some(&rest[..authority_len]), scheme_len + authority_len)
    };
    let after = &target[path_start..];
    let path_end = path_start + memchr::memchr(b'?', after).unwrap_or(after.len());
    Some(TargetParts { authority, path_start, path_end })
}

impl<S: Transport> Connection<S> {
    /// Finds the service of the request in `head` and prepares `uri` and `host`.
    pub(super) fn plan(&mut self, snapshot: &Compiled) -> Result<Plan, Refusal> {
        let method = self.head.method(&self.buffer);
        if method == b"CONNECT" {
            return Err(Refusal::new(405));
        }
        let target = self.head.target(&self.buffer);
        let Some(parts) = split_target(target) else { return Err(Refusal::new(400)) };
        let host = parts.authority.or_else(|| self.head.host(&self.buffer)).unwrap_or_default();
        let Ok(host) = std::str::from_utf8(host) else { return Err(Refusal::new(400)) };
        self.host.clear();
        self.host.push_str(host);
        self.host.make_ascii_lowercase();
        let offset = self.head.target_start();
        let range = (offset + parts.path_start, offset + parts.path_end);
        let mode = Arc::clone(&self.accepted.mode);
        match &*mode {
            Mode::Service { service } => self.plan_direct(snapshot, service, range),
            _ => self.plan_routed(snapshot, range),
        }
    }

    /// A Service address: straight to the service, nothing rewritten.
    fn plan_direct(
        &mut self,
        snapshot: &Compiled,
        name: &str,
        path: (usize, usize),
    ) -> Result<Plan, Refusal> {
        let Some(service) = snapshot.service(name) else { return Err(Refusal::new(503)) };
        let target = self.head.target(&self.buffer);
        let offset = path.0 - self.head.target_start();
        self.uri.clear();
        if path.0 == path.1 {
            self.uri.push(b'/');
        }
        self.uri.extend_from_slice(target.get(offset..).unwrap_or_default());
        Ok(Plan {
            service: Arc::clone(service),
            metrics: Arc::clone(&service.metrics),
            preserve_host: true,
            prefix: None,
            is_transparent: true,
            path,
            chain: None,
            has_no_service: false,
            consumers: Arc::clone(&snapshot.consumers),
            captures: Vec::new(),
            route_label: Arc::clone(&snapshot.no_label),
            service_label: Arc::clone(&snapshot.no_label),
            timeout: None,
            mirrors: None,
        })
    }

    fn plan_routed(&mut self, snapshot: &Compiled, range: (usize, usize)) -> Result<Plan, Refusal> {
        let Connection { buffer, head, accepted, host, scratch, uri, .. } = self;
        let raw_path = if range.0 == range.1 { b"/" } else { &buffer[range.0..range.1] };
        let is_plain = path::is_plain(raw_path);
        let request_path = path::normalize(raw_path);
        let view = HeadView { head, buffer };
        let query_start = range.1 - head.target_start();
        let query = head.target(buffer).get(query_start..).unwrap_or_default();
        let request = router::Request {
            query: query.strip_prefix(b"?").unwrap_or_default(),
            method: head.method(buffer),
            path: &request_path,
            host: (!host.is_empty()).then_some(host.as_str()),
            scheme: if accepted.is_tls { "https" } else { "http" },
            sni: accepted.sni.as_deref(),
            src_ip: Some(accepted.peer.ip()),
            src_port: Some(accepted.peer.port()),
            dst_ip: None,
            dst_port: Some(accepted.local_port),
            headers: &view,
        };
        let no_route = || Refusal::new(404).saying("no Route matched with those values");
        let (router, found, number) = match &*accepted.mode {
            Mode::Entrance { name } => {
                let entrance = snapshot.entrance(name).ok_or_else(no_route)?;
                if accepted.is_tls && entrance.is_misdirected(accepted.sni.as_deref(), host) {
                    return Err(Refusal::new(421).saying("the connection is for another host"));
                }
                let (found, number) = entrance.select(&request, scratch).ok_or_else(no_route)?;
                (&entrance.router, found, number)
            }
            _ => {
                let found = snapshot.router.select(&request, scratch).ok_or_else(no_route)?;
                (&snapshot.router, found, found.route)
            }
        };
        let route = snapshot.routes.get(number).ok_or_else(no_route)?.taken_by(&snapshot.routes);
        check_protocol(route, accepted.is_tls, head, buffer, host)?;
        let service = route.service.as_ref().or(route.chain.as_ref().map(|_| &snapshot.no_service));
        let Some(service) = service.filter(|service| service.is_enabled) else {
            return Err(Refusal::new(503)
                .saying("no Service found with those values")
                .counted_by(&route.metrics));
        };
        uri.clear();
        let is_root = service.path == b"/";
        if is_plain && is_root && !route.strip_path {
            uri.extend_from_slice(&request_path);
        } else {
            let joined = path::upstream_path(
                &service.path,
                &request_path,
                found.postfix(&request_path),
                route.strip_path,
                route.path_handling,
            );
            path::escape_into(&joined, uri);
        }
        uri.extend_from_slice(query);
        let prefix = found.prefix_len.filter(|_| route.strip_path);
        Ok(Plan {
            service: Arc::clone(service),
            metrics: Arc::clone(&route.metrics),
            preserve_host: route.preserve_host,
            prefix: prefix.map(|len| {
                let mut text = Vec::new();
                path::escape_into(request_path.get(..len).unwrap_or_default(), &mut text);
                text
            }),
            is_transparent: false,
            path: range,
            captures: match route.chain.is_some()
                || service.hashing.as_ref().is_some_and(Hashing::needs_captures)
            {
                true => router.explain(&request, &found).captures,
                false => Vec::new(),
            },
            chain: route.chain.clone(),
            has_no_service: route.service.is_none(),
            consumers: Arc::clone(&snapshot.consumers),
            route_label: Arc::clone(&route.label),
            service_label: Arc::clone(&route.service_label),
            timeout: route.request_timeout,
            mirrors: route.mirrors.clone(),
        })
    }
}

fn check_protocol(
    route: &CompiledRoute,
    is_tls: bool,
    head: &Head,
    buffer: &[u8],
    host: &str,
) -> Result<(), Refusal> {
    let accepted = if is_tls { route.accepts_https } else { route.accepts_http };
    if accepted {
        return Ok(());
    }
    if is_tls {
        return Err(Refusal::new(404).saying("no Route matched with those values"));
    }
    if !route.accepts_https {
        return Err(Refusal::new(426).saying("Please use HTTPS protocol").counted_by(&route.metrics));
    }
    let mut refusal = Refusal::new(route.https_redirect_status).counted_by(&route.metrics);
    refusal.message = "Please use HTTPS protocol".into();
    if route.https_redirect_status == 426 {
        refusal.extra_fields = "Upgrade: TLS/1.2, HTTP/1.1\r\n".into();
    } else {
        let bare = host.rsplit_once(':').map_or(host, |(name, _)| name);
        let target = String::from_utf8_lossy(head.target(buffer)).into_owned();
        if target.starts_with('/') {
            refusal.extra_fields = format!("Location: https://{bare}{target}\r\n");
        }
    }
    Err(refusal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_come_as_paths_or_as_whole_urls() {
        let split = |target: &'static str| {
            split_target(target.as_bytes()).map(|parts| {
                let path = &target[parts.path_start..parts.path_end];
                (parts.authority.map(|authority| String::from_utf8_lossy(authority).into_owned()), path)
            })
        };
        assert_eq!(split("/a?b"), Some((None, "/a")));
        assert_eq!(split("http://shop.org:80/a?b"), Some((Some("shop.org:80".into()), "/a")));
        assert_eq!(split("HTTP://shop.org"), Some((Some("shop.org".into()), "")));
        assert_eq!(split("*"), None);
        assert_eq!(split("shop.org:80"), None);
        assert_eq!(split("http:///a"), None);
        assert_eq!(split("http://user@shop.org/"), None);
    }
}
