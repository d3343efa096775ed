//! HTTPRoutes as services and routes, in the order that the Gateway API gives them.
//!
//! Invariant: a rule that cannot be served as it is written answers 500; it is never served in part.

use crate::annotations::Annotations;
use crate::attach::{Attaching, Attachment, Place, Verdict, attach};
use crate::filters::{captures_rest, needs_prefix, plugins_of};
use crate::grants::Reference;
use crate::kinds::{
    GATEWAY_GROUP, HttpBackendRef, HttpRoute, HttpRouteFilter, HttpRouteMatch, HttpRouteRule,
};
use crate::listeners::Bound;
use crate::matches::{
    Matched, MatchedPath, hosts_at, in_order, kind_of, match_key, matched_path, queries, servable,
};
use crate::plugins::{Asked, Scope};
use crate::services::{known_ports, tcp_ports};
use crate::subject::{Kind, Subject, tags};
use crate::translate::Building;
use gantry_gateway::entities::{
    Mirror, Plugin, Route, RouteExtras, Service as GatewayService, Share, Target, Upstream,
};
use gantry_gateway::router::{Flavour, Router};
use gantry_kong_model::entity_id;
use gantry_operator::Key;
use k8s_openapi::api::core::v1::{Service, ServicePort};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// A backend that is there.
pub(crate) struct Backend<'a> {
    pub(crate) key: Key,
    pub(crate) service: &'a Service,
    pub(crate) port: &'a ServicePort,
    pub(crate) weight: u64,
}

/// What is known of the route that is being translated.
struct Parent<'r> {
    object: &'r HttpRoute,
    subject: Subject,
    hostnames: Option<Vec<String>>,
    places: Vec<Place>,
    tags: Vec<String>,
    /// Place among all HTTPRoutes, the oldest first.
    position: u64,
}

impl<'a> Building<'a> {
    /// Adds all HTTPRoutes that some listener takes; tells what became of each.
    pub(crate) fn add_http_routes(&mut self, bound: &[Bound<'_>]) -> BTreeMap<Key, Vec<Attachment>> {
        let input = self.input;
        let mut all: Vec<Arc<HttpRoute>> = input.http_routes.clone();
        all.sort_by_key(|route| {
            let meta = &route.metadata;
            let created = meta.creation_timestamp.as_ref().map(|time| time.0.as_second());
            (created, meta.namespace.clone(), meta.name.clone())
        });
        let mut out = BTreeMap::new();
        for (position, route) in all.iter().enumerate() {
            let mut attachments = attach(input, bound, &Attaching::from(&**route));
            if attachments.is_empty() {
                continue;
            }
            let accepted = attachments.iter().filter(|attachment| attachment.accepted.holds);
            let hostnames = accepted.map(|attachment| attachment.hostnames.clone()).reduce(|left, right| {
                let mut both = left?;
                both.extend(right?);
                Some(both)
            });
            if let Some(mut hostnames) = hostnames {
                if let Some(names) = &mut hostnames {
                    let mut seen = HashSet::new();
                    names.retain(|name| seen.insert(name.clone()));
                }
                let accepted = attachments.iter().filter(|attachment| attachment.accepted.holds);
                let parent = Parent {
                    object: route,
                    places: accepted.flat_map(|attachment| attachment.places.clone()).collect(),
                    subject: Subject::of(Kind::HttpRoute, &route.metadata),
                    hostnames,
                    tags: tags(&route.metadata, Kind::HttpRoute.name(), GATEWAY_GROUP),
                    position: position as u64,
                };
                let faults = self.add_http_route(&parent);
                for attachment in attachments.iter_mut().filter(|one| one.accepted.holds) {
                    judge(attachment, &faults, route.spec.rules.len());
                }
            }
            let resolved = self.resolved_refs(route);
            for attachment in &mut attachments {
                attachment.resolved = resolved.clone();
            }
            out.insert(Key::of(&**route), attachments);
        }
        out
    }

    /// The first reference of a rule that leads nowhere.
    fn resolved_refs(&self, route: &HttpRoute) -> Verdict {
        let from = Subject::of(Kind::HttpRoute, &route.metadata);
        let rules = &route.spec.rules;
        let mirrors =
            rules.iter().flat_map(|rule| &rule.filters).filter_map(|filter| filter.request_mirror.as_ref());
        let backends = rules.iter().flat_map(|rule| &rule.backend_refs);
        for reference in backends.chain(mirrors.map(|mirror| &mirror.backend_ref)) {
            if let Err(verdict) = self.backend_of(&from, reference) {
                return verdict;
            }
        }
        Verdict::holds("ResolvedRefs")
    }

    pub(crate) fn backend_of(
        &self,
        from: &Subject,
        reference: &HttpBackendRef,
    ) -> Result<Backend<'a>, Verdict> {
        let own = from.key.namespace();
        let group = reference.group.as_deref().unwrap_or_default();
        let kind = reference.kind.as_deref().unwrap_or("Service");
        if !group.is_empty() || kind != "Service" {
            let message =
                format!("backendRef {:?}: found {group}/{kind}, expected a Service", reference.name);
            return Err(Verdict::fails("InvalidKind", message));
        }
        let namespace = reference.namespace.as_deref().unwrap_or(own);
        let allowed = Reference {
            from_group: GATEWAY_GROUP,
            from_kind: from.kind.name(),
            from_namespace: own,
            to_group: "",
            to_kind: "Service",
            to_namespace: namespace,
            to_name: &reference.name,
        };
        if !allowed.is_allowed(&self.input.reference_grants) {
            let message = format!(
                "service {:?} of namespace {namespace:?}: no ReferenceGrant there allows {}s of namespace {own:?}",
                reference.name,
                from.kind.name()
            );
            return Err(Verdict::fails("RefNotPermitted", message));
        }
        let key = Key::new(namespace, &reference.name);
        let Some(service) = self.services.get(&key).copied() else {
            let message = format!("there is no service {:?} in namespace {namespace:?}", reference.name);
            return Err(Verdict::fails("BackendNotFound", message));
        };
        let Some(port) = tcp_ports(service).find(|port| Some(port.port) == reference.port) else {
            let known = known_ports(service);
            let wanted = reference.port.map_or("no port".to_owned(), |port| format!("port {port}"));
            let message = format!("service {:?}: found {wanted}, expected one of: {known}", reference.name);
            return Err(Verdict::fails("BackendNotFound", message));
        };
        let weight = u64::try_from(reference.weight.unwrap_or(1)).unwrap_or(0);
        Ok(Backend { key, service, port, weight })
    }

    /// Adds a route; gives what is wrong with its rules, by rule.
    fn add_http_route(&mut self, parent: &Parent<'_>) -> BTreeMap<usize, String> {
        let mut faults = BTreeMap::new();
        let rules = &parent.object.spec.rules;
        // Rules with the same backends and timeouts share a service, named after the first.
        let mut groups: Vec<(String, Vec<usize>)> = Vec::new();
        for (number, rule) in rules.iter().enumerate() {
            let key = serde_json::to_string(&(&rule.backend_refs, &rule.timeouts)).unwrap_or_default();
            match groups.iter_mut().find(|(known, _)| *known == key) {
                Some((_, members)) => members.push(number),
                None => groups.push((key, vec![number])),
            }
        }
        for (_, members) in groups {
            let Some(&first) = members.first() else { continue };
            let key = &parent.subject.key;
            let name = format!("httproute.{}.{}.{first}", key.namespace(), key.name());
            let is_served = self.add_route_service(parent, &name, &members);
            self.add_rules(parent, &name, &members, is_served, &mut faults);
        }
        for message in faults.values() {
            self.problem(&parent.subject, message.clone());
        }
        faults
    }

    /// The service behind rules that share their backends; false when none of them is there.
    fn add_route_service(&mut self, parent: &Parent<'_>, name: &str, members: &[usize]) -> bool {
        let rules: Vec<&HttpRouteRule> =
            members.iter().filter_map(|&rule| parent.object.spec.rules.get(rule)).collect();
        let Some(rule) = rules.first() else { return false };
        let mut backends: Vec<Backend<'a>> = Vec::new();
        for reference in &rule.backend_refs {
            match self.backend_of(&parent.subject, reference) {
                Ok(backend) => backends.push(backend),
                Err(verdict) => self.problem(&parent.subject, verdict.message),
            }
        }
        let Some(last) = backends.last() else { return false };
        let tags = match backends.as_slice() {
            [only] if rule.backend_refs.len() == 1 => tags(&only.service.metadata, "Service", ""),
            _ => parent.tags.clone(),
        };
        let mut service = GatewayService {
            id: entity_id("services", name),
            name: Some(name.to_owned()),
            host: name.to_owned(),
            port: u16::try_from(last.port.port).unwrap_or(80),
            tags: tags.clone(),
            ..GatewayService::default()
        };
        for rule in &rules {
            self.apply_timeouts(parent, rule, &mut service);
        }
        let weighted: Vec<(u64, Vec<Target>)> = backends
            .iter()
            .map(|backend| (backend.weight, self.targets(&backend.key, backend.service, backend.port)))
            .collect();
        let upstream = Upstream {
            id: entity_id("upstreams", name),
            name: name.to_owned(),
            targets: weigh(weighted),
            tags,
            ..Upstream::default()
        };
        let services: Vec<&Service> = backends.iter().map(|backend| backend.service).collect();
        self.put_service(service, upstream, &services);
        for service in services {
            self.refer(name, service, &parent.subject);
        }
        let behind = backends.iter().filter(|backend| backend.weight > 0).map(|backend| backend.key.clone());
        let behind: Vec<Key> = behind.collect();
        let is_served = !behind.is_empty();
        self.behind.insert(name.to_owned(), behind);
        is_served
    }

    fn apply_timeouts(&mut self, parent: &Parent<'_>, rule: &HttpRouteRule, service: &mut GatewayService) {
        for (is_given, field) in
            [(rule.retry.is_some(), "retry"), (rule.session_persistence.is_some(), "sessionPersistence")]
        {
            if is_given {
                self.problem(&parent.subject, format!("{field}: not done by this gateway"));
            }
        }
        let given = rule.timeouts.as_ref().and_then(|timeouts| timeouts.backend_request.as_deref());
        let Some(text) = given else { return };
        match duration_ms(text) {
            // Zero stands for none.
            Some(0) => {}
            Some(ms) => {
                service.connect_timeout = ms;
                service.read_timeout = ms;
                service.write_timeout = ms;
            }
            None => {
                let message =
                    format!("timeouts.backendRequest: found {text:?}, expected a duration such as 1m30s");
                self.problem(&parent.subject, message);
            }
        }
    }

    /// From a request's arrival to the end of its answer, in milliseconds; `None` for no bound.
    fn request_timeout(&mut self, parent: &Parent<'_>, rule: &HttpRouteRule) -> Option<u64> {
        let text = rule.timeouts.as_ref()?.request.as_deref()?;
        let found = duration_ms(text);
        if found.is_none() {
            let message = format!("timeouts.request: found {text:?}, expected a duration such as 1m30s");
            self.problem(&parent.subject, message);
        }
        found.filter(|ms| *ms > 0)
    }

    /// Who gets copies; a reference that leads nowhere is left out and told.
    fn mirrors(&mut self, parent: &Parent<'_>, filters: &[HttpRouteFilter]) -> Vec<Mirror> {
        let mut out = Vec::new();
        for mirror in filters.iter().filter_map(|filter| filter.request_mirror.as_ref()) {
            let backend = match self.backend_of(&parent.subject, &mirror.backend_ref) {
                Ok(backend) => backend,
                Err(verdict) => {
                    self.problem(&parent.subject, verdict.message);
                    continue;
                }
            };
            let (numerator, denominator) = match (&mirror.fraction, mirror.percent) {
                (Some(fraction), _) => (fraction.numerator, fraction.denominator.unwrap_or(100).max(1)),
                (None, percent) => (percent.unwrap_or(100), 100),
            };
            let label = backend.port.port.to_string();
            let service = self.add_service(&backend.key, backend.service, backend.port, &label);
            out.push(Mirror { service, numerator: numerator.min(denominator), denominator });
        }
        out
    }

    /// A route for each backend of a rule, with the filters of both.
    fn add_shares(
        &mut self,
        parent: &Parent<'_>,
        service: &str,
        route: &Route,
        rule: &HttpRouteRule,
        parts: &[(&HttpBackendRef, u32)],
        prefix: &str,
    ) -> Result<Vec<Route>, String> {
        let mut out = Vec::new();
        for (number, (reference, _)) in parts.iter().enumerate() {
            let name = format!("{}#{number}", route.label());
            let mut filters = rule.filters.clone();
            filters.extend(reference.filters.iter().cloned());
            let made = plugins_of(&filters, prefix)?;
            // Those of the rule stand before the route, and before its shares with it.
            if let Some(own) = reference.filters.iter().find(|filter| filter.kind == "ExtensionRef") {
                let name = own.extension_ref.as_ref().map(|reference| reference.name.as_str());
                let name = name.unwrap_or_default();
                return Err(format!("filter ExtensionRef {name:?} of a backendRef: give it to the rule"));
            }
            let mirrors = self.mirrors(parent, &filters);
            let target = match self.backend_of(&parent.subject, reference) {
                Ok(backend) => {
                    let label = backend.port.port.to_string();
                    let port = self.add_service(&backend.key, backend.service, backend.port, &label);
                    let own = format!("{service}#{number}");
                    let shared = self.gateway_services.get(service).cloned().unwrap_or_default();
                    let found = self.gateway_services.get(&port).cloned().unwrap_or_default();
                    self.gateway_services.insert(
                        own.clone(),
                        GatewayService {
                            id: entity_id("services", &own),
                            name: Some(own.clone()),
                            connect_timeout: shared.connect_timeout,
                            read_timeout: shared.read_timeout,
                            write_timeout: shared.write_timeout,
                            ..found
                        },
                    );
                    self.refer(&own, backend.service, &parent.subject);
                    Some(own)
                }
                // The backend's share is answered with an error; the others are served.
                Err(_) => None,
            };
            for (plugin, config) in made.plugins {
                self.put(Plugin {
                    id: entity_id("plugins", &format!("{plugin}:route/{name}")),
                    name: plugin.to_owned(),
                    config,
                    route: Some(name.clone()),
                    tags: parent.tags.clone(),
                    ..Plugin::default()
                });
            }
            if target.is_none() && !made.redirects {
                let plugin = crate::translate::termination(
                    &format!("route/{name}"),
                    500,
                    "no existing backendRef provided",
                );
                self.put(Plugin { route: Some(name.clone()), ..plugin });
            }
            out.push(Route {
                id: entity_id("routes", &name),
                name: Some(name),
                service: target,
                extras: RouteExtras { is_share: true, mirrors, shares: Vec::new(), ..route.extras.clone() },
                ..route.clone()
            });
        }
        Ok(out)
    }

    fn add_rules(
        &mut self,
        parent: &Parent<'_>,
        service: &str,
        members: &[usize],
        is_served: bool,
        faults: &mut BTreeMap<usize, String>,
    ) {
        let any = HttpRouteMatch::default();
        // Rules with the same filters, and among them matches that differ in their path only, share a route.
        let mut groups: Vec<(String, usize, Vec<Matched<'_>>)> = Vec::new();
        for &number in members {
            let Some(rule) = parent.object.spec.rules.get(number) else { continue };
            let matches: Vec<&HttpRouteMatch> =
                if rule.matches.is_empty() { vec![&any] } else { rule.matches.iter().collect() };
            for (at, of) in matches.into_iter().enumerate() {
                if let Err(message) = servable(of) {
                    faults.entry(number).or_insert(format!("rule {number}: match {at}: {message}"));
                    continue;
                }
                let filters = serde_json::to_string(&(&rule.filters, &rule.timeouts)).unwrap_or_default();
                let mut key = format!("{filters}{}", match_key(of));
                if needs_prefix(&rule.filters)
                    || rule.backend_refs.iter().any(|reference| needs_prefix(&reference.filters))
                {
                    key.push_str(&format!("#{number}.{at}"));
                }
                let matched = Matched { rule: number, number: at, of };
                match groups.iter_mut().find(|(known, ..)| *known == key) {
                    Some((_, _, list)) => list.push(matched),
                    None => groups.push((key, number, vec![matched])),
                }
            }
        }
        for (_, number, matches) in groups {
            if let Some(rule) = parent.object.spec.rules.get(number) {
                let fault = self.add_route(parent, service, rule, &matches, is_served);
                if let Err(message) = fault {
                    faults.entry(number).or_insert(format!("rule {number}: {message}"));
                }
            }
        }
    }

    fn add_route(
        &mut self,
        parent: &Parent<'_>,
        service: &str,
        rule: &HttpRouteRule,
        matches: &[Matched<'_>],
        is_served: bool,
    ) -> Result<(), String> {
        let Some(first) = matches.first() else { return Ok(()) };
        let key = &parent.subject.key;
        let name = format!("httproute.{}.{}.{}.{}", key.namespace(), key.name(), first.rule, first.number);
        let rule_filters = filters_of(rule);
        let parts = shares_of(rule);
        let captures = captures_rest(&rule_filters)
            || parts.iter().any(|(reference, _)| captures_rest(&reference.filters));
        let paths: Vec<MatchedPath> = matches.iter().map(|one| matched_path(one.of, captures)).collect();
        let created = parent.object.metadata.creation_timestamp.as_ref();
        let mut route = Route {
            id: entity_id("routes", &name),
            name: Some(name.clone()),
            hosts: parent.hostnames.clone(),
            paths: Some(paths.iter().flat_map(|path| path.paths.clone()).collect()),
            methods: first.of.method.clone().map(|method| vec![method]),
            strip_path: false,
            preserve_host: true,
            created_at: created.map(|time| time.0.as_second()),
            service: is_served.then(|| service.to_owned()),
            extras: RouteExtras {
                queries: queries(first.of),
                request_timeout: self.request_timeout(parent, rule),
                mirrors: self.mirrors(parent, &rule_filters),
                ..RouteExtras::default()
            },
            tags: parent.tags.clone(),
            ..Route::default()
        };
        for header in first.of.headers.iter() {
            let value = match header.kind.as_deref() {
                Some("RegularExpression") => format!("~*{}", header.value),
                _ => header.value.clone(),
            };
            // Of several for one header the first counts.
            let headers = route.headers.get_or_insert_default();
            if !headers.keys().any(|known| known.eq_ignore_ascii_case(&header.name)) {
                headers.insert(header.name.clone(), vec![value]);
            }
        }
        let annotations = Annotations::of(&parent.object.metadata);
        let mut warnings = Vec::new();
        annotations.change_route(&mut route, &mut warnings);
        let closes = warnings.iter().any(|fault| fault.closes);
        for fault in warnings {
            self.problem(&parent.subject, fault.message);
        }
        // A pattern that is none matches nothing.
        Router::new(std::slice::from_ref(&route), Flavour::default())
            .map_err(|error| format!("{}: {}", error.field, error.reason))?;
        let prefix = first.of.path.as_ref().and_then(|path| path.value.as_deref()).unwrap_or("/");
        let is_prefix = kind_of(first.of.path.as_ref()) == "PathPrefix";
        let aliases: Vec<String> = route.hosts.iter().flatten().cloned().collect();
        let aliases: Vec<String> = aliases
            .into_iter()
            .filter(|host| !parent.hostnames.as_ref().is_some_and(|known| known.contains(host)))
            .collect();
        let hosts = hosts_at(&parent.places, &aliases);
        let shared = match parts.as_slice() {
            [] => Ok(Vec::new()),
            _ if captures && !is_prefix => Ok(Vec::new()),
            parts => self.add_shares(parent, service, &route, rule, parts, prefix),
        };
        let shares = shared.clone().unwrap_or_default();
        for share in &shares {
            let weight = parts.get(route.extras.shares.len()).map_or(1, |(_, weight)| *weight);
            route.extras.shares.push(Share { route: share.label().to_owned(), weight });
        }
        let mut ordered = in_order(&route, &hosts, parent.position, matches, &paths);
        ordered.extend(shares);
        self.ordered.insert(name.clone(), ordered);
        self.routes.insert(
            name.clone(),
            Route { extras: RouteExtras { shares: Vec::new(), ..route.extras.clone() }, ..route },
        );
        if closes {
            self.close_route(&name, 503, crate::translate::INCOMPLETE);
        }
        let made = if captures && !is_prefix {
            Err("ReplacePrefixMatch: the path of the match must be of type PathPrefix".to_owned())
        } else if let Err(message) = shared {
            Err(message)
        } else {
            plugins_of(&rule_filters, prefix)
        };
        let filters = match made {
            Ok(filters) => filters,
            Err(message) => {
                self.close_route(&name, 500, "a filter of the route is not supported");
                return Err(message);
            }
        };
        if !filters.redirects && !is_served {
            self.close_route(&name, 500, "no existing backendRef provided");
        }
        for (plugin, config) in filters.plugins {
            self.put(Plugin {
                id: entity_id("plugins", &format!("{plugin}:route/{name}")),
                name: plugin.to_owned(),
                config,
                route: Some(name.clone()),
                tags: parent.tags.clone(),
                ..Plugin::default()
            });
        }
        let mut references = annotations.plugins();
        references.extend(filters.references);
        for reference in references {
            let scope = Scope::Route(name.clone());
            let asked = Asked { subject: parent.subject.clone(), scope, reference };
            if !self.asked.contains(&asked) {
                self.asked.push(asked);
            }
        }
        Ok(())
    }
}

/// The filters of all requests of a rule: its own, and those of its backend where it has but one.
fn filters_of(rule: &HttpRouteRule) -> Vec<HttpRouteFilter> {
    let mut filters = rule.filters.clone();
    if let [only] = weighted(rule).as_slice() {
        filters.extend(only.0.filters.iter().cloned());
    }
    filters
}

/// The backends that get requests, with their weights.
fn weighted(rule: &HttpRouteRule) -> Vec<(&HttpBackendRef, u32)> {
    let weight = |reference: &HttpBackendRef| u32::try_from(reference.weight.unwrap_or(1)).unwrap_or(0);
    let all = rule.backend_refs.iter().map(|reference| (reference, weight(reference)));
    all.filter(|(_, weight)| *weight > 0).collect()
}

/// The backends of a rule where some of several have filters of their own, so that each needs a route of its own.
fn shares_of(rule: &HttpRouteRule) -> Vec<(&HttpBackendRef, u32)> {
    let all = weighted(rule);
    let differ = all.len() > 1 && all.iter().any(|(reference, _)| !reference.filters.is_empty());
    if differ { all } else { Vec::new() }
}

/// What the faults of its rules mean for a route that was accepted.
fn judge(attachment: &mut Attachment, faults: &BTreeMap<usize, String>, rules: usize) {
    if faults.is_empty() {
        return;
    }
    let message: Vec<&str> = faults.values().map(String::as_str).collect();
    let verdict = Verdict::fails("UnsupportedValue", message.join("; "));
    if faults.len() >= rules {
        attachment.accepted = verdict;
    } else {
        attachment.partially_invalid = Some(Verdict { holds: true, ..verdict });
    }
}

/// Targets of several backends, so that each backend gets its share however many targets it has.
pub(crate) fn weigh(backends: Vec<(u64, Vec<Target>)>) -> Vec<Target> {
    const FINEST: u64 = 65_535;
    if let [(weight, targets)] = backends.as_slice() {
        return if *weight == 0 { Vec::new() } else { targets.clone() };
    }
    let total: u64 = backends.iter().map(|(weight, _)| weight).sum();
    let mut out = Vec::new();
    for (weight, targets) in
        backends.into_iter().filter(|(weight, targets)| *weight > 0 && !targets.is_empty())
    {
        let share = weight * FINEST / total.max(1) / targets.len() as u64;
        let share = u16::try_from(share.max(1)).unwrap_or(u16::MAX);
        out.extend(targets.into_iter().map(|target| Target { weight: share, ..target }));
    }
    out
}

/// A duration of the Gateway API (`1h2m3s4ms`) in milliseconds.
fn duration_ms(text: &str) -> Option<u64> {
    let mut total = 0u64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest.get(..digits)?.parse().ok()?;
        rest = rest.get(digits..)?;
        let (unit, length) = match rest.as_bytes() {
            [b'm', b's', ..] => (1, 2),
            [b's', ..] => (1_000, 1),
            [b'm', ..] => (60_000, 1),
            [b'h', ..] => (3_600_000, 1),
            _ => return None,
        };
        total = total.checked_add(number.checked_mul(unit)?)?;
        rest = rest.get(length..)?;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        assert_eq!(duration_ms("1m30s"), Some(90_000));
        assert_eq!(duration_ms("500ms"), Some(500));
        assert_eq!(duration_ms("0s"), Some(0));
        assert_eq!((duration_ms(""), duration_ms("1"), duration_ms("s")), (None, None, None));
    }

    #[test]
    fn backends_share_by_weight_whatever_their_size() {
        let targets = |count: usize| (0..count).map(|_| Target::default()).collect::<Vec<_>>();
        let weights: Vec<u16> = weigh(vec![(3, targets(3)), (1, targets(1)), (0, targets(5))])
            .iter()
            .map(|one| one.weight)
            .collect();
        assert_eq!(weights.len(), 4);
        assert_eq!(weights[0], weights[3]);
    }
}
