//! Proposes entries for a host and a path: hosts by hash, leading wildcards by their suffix, paths by radix tree,
//! patterns through one set per host.

use super::Entry;
use super::host::{self, Wildcard};
use super::radix::Radix;
use super::rules::{self, PathRule, Rules};
use regex::bytes::{RegexSet, RegexSetBuilder};
use std::collections::HashMap;

/// From here on one pass over a set is cheaper than trying patterns one by one.
const REGEX_SET_FROM: usize = 8;
const REGEX_SET_SIZE_LIMIT_BYTES: usize = 64 << 20;

/// The entries of one host.
#[derive(Debug, Default)]
struct Paths {
    prefixes: Radix,
    without_path: Vec<u32>,
    patterns: Vec<u32>,
    set: Option<RegexSet>,
}

impl Paths {
    fn candidates(&self, path: &[u8], out: &mut Vec<u32>) {
        out.extend_from_slice(&self.without_path);
        match &self.set {
            Some(set) => out.extend(set.matches(path).into_iter().map(|i| self.patterns[i])),
            None => out.extend_from_slice(&self.patterns),
        }
        self.prefixes.walk(path, |id| out.push(id));
    }
}

#[derive(Debug, Default)]
pub(super) struct Index {
    buckets: Vec<Paths>,
    any_host: Paths,
    plain: HashMap<String, usize>,
    /// Wildcards like `*.shop.org`, by `.shop.org`.
    suffixes: HashMap<String, usize>,
    wildcards: Vec<(Wildcard, usize)>,
    has_wildcards: bool,
}

impl Index {
    pub(super) fn new(entries: &[Entry], all_rules: &[Rules]) -> Index {
        let mut index = Index::default();
        for (id, entry) in entries.iter().enumerate() {
            let rules = &all_rules[entry.route as usize];
            let mut buckets = Vec::new();
            for name in &rules.plain_hosts {
                buckets.push(index.plain_bucket(name));
            }
            for (text, wildcard) in &rules.wildcard_hosts {
                buckets.push(index.wildcard_bucket(text, wildcard));
                index.has_wildcards = true;
            }
            buckets.sort_unstable();
            buckets.dedup();
            if entry.mask & rules::HOST == 0 {
                add(&mut index.any_host, id as u32, entry);
            }
            for bucket in buckets {
                add(&mut index.buckets[bucket], id as u32, entry);
            }
        }
        for paths in index.buckets.iter_mut().chain(std::iter::once(&mut index.any_host)) {
            paths.set = pattern_set(paths, entries);
        }
        index
    }

    fn plain_bucket(&mut self, name: &str) -> usize {
        let buckets = &mut self.buckets;
        *self.plain.entry(name.to_owned()).or_insert_with(|| {
            buckets.push(Paths::default());
            buckets.len() - 1
        })
    }

    fn wildcard_bucket(&mut self, text: &str, wildcard: &Wildcard) -> usize {
        if let Some(suffix) = wildcard.leading_suffix() {
            if let Some(&bucket) = self.suffixes.get(suffix) {
                return bucket;
            }
            self.buckets.push(Paths::default());
            self.suffixes.insert(suffix.to_owned(), self.buckets.len() - 1);
            return self.buckets.len() - 1;
        }
        let same = Wildcard::parse(text);
        if let Some((_, bucket)) = self.wildcards.iter().find(|(known, _)| Some(known) == same.as_ref()) {
            return *bucket;
        }
        self.buckets.push(Paths::default());
        self.wildcards.push((wildcard.clone(), self.buckets.len() - 1));
        self.buckets.len() - 1
    }

    /// Whether a request's host must be completed with its port before rules are checked.
    pub(super) fn needs_port(&self) -> bool {
        self.has_wildcards
    }

    pub(super) fn has_plain(&self, host: &str) -> bool {
        self.plain.contains_key(host)
    }

    pub(super) fn candidates(&self, host: Option<&str>, path: &[u8], out: &mut Vec<u32>) {
        self.any_host.candidates(path, out);
        let Some(raw) = host else { return };
        let bare = host::split_port(raw).bare;
        if let Some(&bucket) = self.plain.get(bare) {
            self.buckets[bucket].candidates(path, out);
        }
        if raw != bare
            && let Some(&bucket) = self.plain.get(raw)
        {
            self.buckets[bucket].candidates(path, out);
        }
        if !self.has_wildcards {
            return;
        }
        for (dot, _) in raw.match_indices('.') {
            let suffix = &raw[dot..];
            let suffix = suffix.split_once(':').map_or(suffix, |(name, _)| name);
            if let Some(&bucket) = self.suffixes.get(suffix) {
                self.buckets[bucket].candidates(path, out);
            }
        }
        if self.wildcards.is_empty() {
            return;
        }
        // The scheme decides which port a bare host stands for; proposing for both is harmless.
        let plain = host::with_port(raw, 80);
        let secure = host::with_port(raw, 443);
        for (wildcard, bucket) in &self.wildcards {
            if wildcard.matches(&plain) || wildcard.matches(&secure) {
                self.buckets[*bucket].candidates(path, out);
            }
        }
    }
}

fn add(paths: &mut Paths, id: u32, entry: &Entry) {
    match &entry.path {
        None => paths.without_path.push(id),
        Some(PathRule::Prefix(prefix)) => paths.prefixes.insert(prefix, id),
        Some(PathRule::Pattern { .. }) => paths.patterns.push(id),
    }
}

fn pattern_set(paths: &Paths, entries: &[Entry]) -> Option<RegexSet> {
    if paths.patterns.len() < REGEX_SET_FROM {
        return None;
    }
    let mut sources = Vec::new();
    for &id in &paths.patterns {
        let Some(PathRule::Pattern { regex, .. }) = &entries[id as usize].path else { continue };
        sources.push(regex.as_str());
    }
    // A set too large to build only costs speed: each pattern is then proposed on its own.
    RegexSetBuilder::new(sources).unicode(false).size_limit(REGEX_SET_SIZE_LIMIT_BYTES).build().ok()
}
