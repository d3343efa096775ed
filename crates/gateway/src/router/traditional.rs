//! The `traditional` flavour: categories, and inside a category the preferred candidates first.

use super::host;
use super::index::Index;
use super::radix::Radix;
use super::rules::{self, DST, HEADER, HOST, METHOD, PathRule, Rules, SNI, SRC, URI};
use super::{Entry, Flavour, HostView, Match, Request, Router};
use crate::entities::Route;
use host::Wildcard;
use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

/// Sizes of the groups by which a category's candidates are narrowed.
#[derive(Debug, Default)]
struct Category {
    mask: u8,
    by_host: HashMap<String, usize>,
    by_uri: HashMap<Vec<u8>, usize>,
    by_method: HashMap<String, usize>,
    by_sni: HashMap<String, usize>,
    by_source: HashMap<String, usize>,
    by_destination: HashMap<String, usize>,
    by_header: HashSet<String>,
}

/// What is looked up about a request before any route is.
#[derive(Debug, Default)]
pub(super) struct Tables {
    categories: Vec<Category>,
    header_names: Vec<String>,
    /// In route order; the first that fits is the request's wildcard.
    wildcards: Vec<(String, Wildcard)>,
    /// Ids of entries with a pattern, in route order before categories.
    patterns: Vec<u32>,
    prefixes: Radix,
    /// Prefix of each value in `prefixes`.
    prefix_texts: Vec<Vec<u8>>,
    methods: HashSet<String>,
    snis: HashSet<String>,
    has_sources: bool,
    has_destinations: bool,
}

/// Which of a category's entries come first.
enum Preferred<'a> {
    Nothing,
    Header(&'a str),
    Host(&'a str),
    Uri(&'a [u8]),
    Method(&'a str),
    Sni(&'a str),
    Source(String),
    Destination(String),
}

fn compare(a: &Entry, b: &Entry, routes: &[Route], all_rules: &[Rules]) -> Ordering {
    let facts = |entry: &Entry| {
        let (route, rules) = (&routes[entry.route as usize], &all_rules[entry.route as usize]);
        let is_pattern = matches!(entry.path, Some(PathRule::Pattern { .. }));
        let wildcard_with_port = rules.wildcard_hosts.iter().any(|(_, wildcard)| wildcard.has_port);
        let only_plain = route.hosts.is_some() && rules.wildcard_hosts.is_empty();
        let sub_weight = u8::from(wildcard_with_port) << 2 | u8::from(only_plain) << 1 | u8::from(is_pattern);
        let regex_priority = if is_pattern { route.regex_priority } else { 0 };
        let length = match &entry.path {
            Some(PathRule::Prefix(prefix)) => prefix.len(),
            _ => 0,
        };
        (sub_weight, rules.headers.len(), regex_priority, length)
    };
    facts(b).cmp(&facts(a)).then_with(|| {
        match (routes[a.route as usize].created_at, routes[b.route as usize].created_at) {
            (Some(a), Some(b)) => a.cmp(&b),
            _ => Ordering::Equal,
        }
    })
}

fn endpoint_keys(list: &[rules::EndpointRule]) -> impl Iterator<Item = String> {
    list.iter().flat_map(|rule| {
        let ip = rule.ip.as_ref().map(|(text, _)| text.clone());
        ip.into_iter().chain(rule.port.map(|port| port.to_string()))
    })
}

pub(super) fn order(mut entries: Vec<Entry>, routes: &[Route], all_rules: &[Rules]) -> (Vec<Entry>, Tables) {
    entries.sort_by(|a, b| compare(a, b, routes, all_rules));
    let mut masks: Vec<u8> = entries.iter().map(|entry| entry.mask).collect();
    masks.sort_unstable_by_key(|mask| std::cmp::Reverse((mask.count_ones(), *mask)));
    masks.dedup();
    let mut tables = Tables {
        categories: masks.iter().map(|&mask| Category { mask, ..Category::default() }).collect(),
        ..Tables::default()
    };
    for entry in &mut entries {
        entry.category = masks.iter().position(|&mask| mask == entry.mask).unwrap_or(0) as u32;
        tables.add(entry, &all_rules[entry.route as usize]);
    }
    // Entries carry their place in route order along, because patterns are looked up in that order.
    let mut placed: Vec<(usize, Entry)> = entries.into_iter().enumerate().collect();
    placed.sort_by_key(|(place, entry)| (entry.category, *place));
    let mut patterns: Vec<(usize, u32)> = Vec::new();
    for (id, (place, entry)) in placed.iter().enumerate() {
        if matches!(entry.path, Some(PathRule::Pattern { .. })) {
            patterns.push((*place, id as u32));
        }
    }
    patterns.sort_unstable();
    tables.patterns = patterns.into_iter().map(|(_, id)| id).collect();
    (placed.into_iter().map(|(_, entry)| entry).collect(), tables)
}

impl Tables {
    fn add(&mut self, entry: &Entry, rules: &Rules) {
        let category = &mut self.categories[entry.category as usize];
        for name in rules.plain_hosts.iter().chain(rules.wildcard_hosts.iter().map(|(text, _)| text)) {
            *category.by_host.entry(name.clone()).or_default() += 1;
        }
        self.wildcards.extend(rules.wildcard_hosts.iter().cloned());
        for header in &rules.headers {
            category.by_header.insert(header.name.clone());
            if !self.header_names.contains(&header.name) {
                self.header_names.push(header.name.clone());
            }
        }
        match &entry.path {
            None => {}
            Some(PathRule::Prefix(prefix)) => {
                *category.by_uri.entry(prefix.clone()).or_default() += 1;
                self.prefixes.insert(prefix, self.prefix_texts.len() as u32);
                self.prefix_texts.push(prefix.clone());
            }
            Some(PathRule::Pattern { source, .. }) => {
                *category.by_uri.entry(source.clone().into_bytes()).or_default() += 1;
            }
        }
        for method in &rules.methods {
            *category.by_method.entry(method.clone()).or_default() += 1;
            self.methods.insert(method.clone());
        }
        for sni in &rules.snis {
            *category.by_sni.entry(sni.clone()).or_default() += 1;
            self.snis.insert(sni.clone());
        }
        for key in endpoint_keys(&rules.sources) {
            *category.by_source.entry(key).or_default() += 1;
            self.has_sources = true;
        }
        for key in endpoint_keys(&rules.destinations) {
            *category.by_destination.entry(key).or_default() += 1;
            self.has_destinations = true;
        }
    }

    /// The first wildcard that fits a host no route names.
    pub(super) fn wildcard_hit(
        &self,
        flavour: Flavour,
        index: &Index,
        request: &Request<'_>,
    ) -> Option<String> {
        if flavour != Flavour::Traditional {
            return None;
        }
        let raw = request.host?;
        let with_port = host::with_port(raw, if request.scheme == "https" { 443 } else { 80 });
        if index.has_plain(&with_port) || index.has_plain(host::split_port(raw).bare) {
            return None;
        }
        let fits = |(_, wildcard): &&(String, Wildcard)| wildcard.matches(&with_port);
        self.wildcards.iter().find(fits).map(|(text, _)| text.clone())
    }
}

impl Router {
    /// The most specific path any route has for the request: the first pattern, otherwise the longest prefix.
    fn uri_hit(&self, request: &Request<'_>) -> Option<Vec<u8>> {
        for &id in &self.traditional.patterns {
            if let Some(PathRule::Pattern { source, regex }) = &self.entries[id as usize].path
                && regex.is_match(request.path)
            {
                return Some(source.clone().into_bytes());
            }
        }
        let mut longest = None;
        self.traditional.prefixes.walk(request.path, |value| longest = Some(value));
        longest.map(|value| self.traditional.prefix_texts[value as usize].clone())
    }

    pub(super) fn select_traditional(&self, request: &Request<'_>, candidates: &[u32]) -> Option<Match> {
        let tables = &self.traditional;
        let mut view = self.host_view(request);
        view.wildcard_hit = tables.wildcard_hit(self.flavour, &self.index, request);
        let uri_hit = self.uri_hit(request);
        let header_hit = tables.header_names.iter().find(|name| {
            let mut present = false;
            request.headers.each_value(name, &mut |_| present = true);
            present
        });
        let mut reachable = 0;
        if let Some(raw) = request.host {
            let with_port = host::with_port(raw, if request.scheme == "https" { 443 } else { 80 });
            if view.wildcard_hit.is_some()
                || self.index.has_plain(&with_port)
                || self.index.has_plain(host::split_port(raw).bare)
            {
                reachable |= HOST;
            }
        }
        let method = std::str::from_utf8(request.method).unwrap_or_default();
        let any = |list: fn(&Rules) -> &[rules::EndpointRule], ip, port| {
            self.rules.iter().any(|rules| {
                // Address and port are looked up apart from one another before routes are.
                list(rules).iter().any(|rule| {
                    let ip_fits = rule.ip.as_ref().zip(ip).is_some_and(|((_, range), ip)| range.contains(ip));
                    ip_fits || (rule.port.is_some() && rule.port == port)
                })
            })
        };
        let bits = [
            (HEADER, header_hit.is_some()),
            (URI, uri_hit.is_some()),
            (METHOD, tables.methods.contains(method)),
            (SNI, tables.snis.contains(request.sni.unwrap_or_default())),
            (SRC, tables.has_sources && any(|rules| &rules.sources, request.src_ip, request.src_port)),
            (
                DST,
                tables.has_destinations && any(|rules| &rules.destinations, request.dst_ip, request.dst_port),
            ),
        ];
        for (bit, hit) in bits {
            reachable |= if hit { bit } else { 0 };
        }
        if reachable == 0 {
            return None;
        }
        let start = tables.categories.iter().position(|category| category.mask == reachable).unwrap_or(0);
        let of_start =
            candidates.partition_point(|&id| (self.entries[id as usize].category as usize) < start);
        let mut rest = &candidates[of_start..];
        while let Some(&first) = rest.first() {
            let number = self.entries[first as usize].category;
            let len = rest.partition_point(|&id| self.entries[id as usize].category <= number);
            let (group, after) = rest.split_at(len);
            rest = after;
            let category = &tables.categories[number as usize];
            let preferred = category.preferred(request, method, &view, uri_hit.as_deref(), header_hit);
            let in_preferred = |id: &&u32| self.is_preferred(**id, &preferred);
            let names_both = |id: &&u32| self.names_address_and_port(**id, &preferred);
            let first = group.iter().filter(in_preferred).filter(names_both);
            let found = first.chain(group.iter().filter(in_preferred)).chain(group.iter());
            if let Some(found) = found.into_iter().find_map(|&id| self.check(id, request, &view)) {
                return Some(found);
            }
        }
        None
    }

    /// Among routes found by an endpoint, those that name its address together with its port go first.
    fn names_address_and_port(&self, id: u32, preferred: &Preferred<'_>) -> bool {
        let rules = &self.rules[self.entries[id as usize].route as usize];
        let list = match preferred {
            Preferred::Source(_) => &rules.sources,
            Preferred::Destination(_) => &rules.destinations,
            _ => return false,
        };
        list.iter().any(|rule| rule.ip.is_some() && rule.port.is_some())
    }

    fn is_preferred(&self, id: u32, preferred: &Preferred<'_>) -> bool {
        let entry = &self.entries[id as usize];
        let rules = &self.rules[entry.route as usize];
        let has_key =
            |list: &[rules::EndpointRule], wanted: &str| endpoint_keys(list).any(|key| key == wanted);
        match preferred {
            Preferred::Nothing => false,
            Preferred::Header(name) => rules.headers.iter().any(|header| header.name == *name),
            Preferred::Host(name) => {
                rules.plain_hosts.iter().any(|host| host == name)
                    || rules.wildcard_hosts.iter().any(|(text, _)| text == name)
            }
            Preferred::Uri(uri) => match &entry.path {
                Some(PathRule::Prefix(prefix)) => prefix == uri,
                Some(PathRule::Pattern { source, .. }) => source.as_bytes() == *uri,
                None => false,
            },
            Preferred::Method(name) => rules.methods.iter().any(|method| method == name),
            Preferred::Sni(name) => rules.snis.iter().any(|sni| sni == name),
            Preferred::Source(key) => has_key(&rules.sources, key),
            Preferred::Destination(key) => has_key(&rules.destinations, key),
        }
    }
}

impl Category {
    /// The smallest group the request points at; a header's group goes before all.
    fn preferred<'a>(
        &self,
        request: &Request<'a>,
        method: &'a str,
        view: &'a HostView<'a>,
        uri_hit: Option<&'a [u8]>,
        header_hit: Option<&'a String>,
    ) -> Preferred<'a> {
        if self.mask & HEADER != 0
            && let Some(name) = header_hit.filter(|name| self.by_header.contains(*name))
        {
            return Preferred::Header(name);
        }
        let mut best: (usize, Preferred<'a>) = (usize::MAX, Preferred::Nothing);
        let mut offer = |size: Option<&usize>, preferred: Preferred<'a>| {
            if let Some(&size) = size
                && size < best.0
            {
                best = (size, preferred);
            }
        };
        if self.mask & HOST != 0
            && let Some(name) = view.wildcard_hit.as_deref().or(view.raw)
        {
            offer(self.by_host.get(name), Preferred::Host(name));
        }
        if self.mask & URI != 0
            && let Some(uri) = uri_hit
        {
            offer(self.by_uri.get(uri), Preferred::Uri(uri));
        }
        if self.mask & METHOD != 0 {
            offer(self.by_method.get(method), Preferred::Method(method));
        }
        if self.mask & SNI != 0
            && let Some(sni) = request.sni
        {
            offer(self.by_sni.get(sni), Preferred::Sni(sni));
        }
        let endpoint_key =
            |table: &HashMap<String, usize>, ip: Option<std::net::IpAddr>, port: Option<u16>| {
                let ip = ip.map(|ip| ip.to_string()).filter(|ip| table.contains_key(ip));
                ip.or_else(|| port.map(|port| port.to_string()).filter(|port| table.contains_key(port)))
            };
        if self.mask & SRC != 0
            && let Some(key) = endpoint_key(&self.by_source, request.src_ip, request.src_port)
        {
            offer(self.by_source.get(&key), Preferred::Source(key.clone()));
        }
        if self.mask & DST != 0
            && let Some(key) = endpoint_key(&self.by_destination, request.dst_ip, request.dst_port)
        {
            offer(self.by_destination.get(&key), Preferred::Destination(key.clone()));
        }
        best.1
    }
}
