//! The 64-bit priority of the `traditional_compatible` flavour.
//!
//! Bits 61-63 count the fields a route constrains, 60 says all hosts are plain, 52-59 count headers, 51 says the path
//! is a pattern, 19-50 hold `regex_priority`, 0-18 the path's length. Equal priorities go by descending id. A route that
//! brings a priority of its own keeps that.

use super::Entry;
use super::rules::{PathRule, Rules};
use crate::entities::Route;
use std::cmp::Reverse;

pub(super) fn packed_priority(entry: &Entry, route: &Route, rules: &Rules) -> u64 {
    let fields = u64::from(entry.mask.count_ones()).min(7);
    let plain_hosts = !rules.plain_hosts.is_empty() && rules.wildcard_hosts.is_empty();
    let headers = (rules.headers.len() as u64).min(255);
    let (pattern, priority, length) = match &entry.path {
        Some(PathRule::Pattern { .. }) => (1, route.regex_priority.clamp(0, i64::from(u32::MAX)) as u64, 0),
        Some(PathRule::Prefix(prefix)) => (0, 0, (prefix.len() as u64).min((1 << 19) - 1)),
        None => (0, 0, 0),
    };
    fields << 61 | u64::from(plain_hosts) << 60 | headers << 52 | pattern << 51 | priority << 19 | length
}

pub(super) fn by_packed_priority(
    mut entries: Vec<Entry>,
    routes: &[Route],
    all_rules: &[Rules],
) -> Vec<Entry> {
    entries.sort_by_cached_key(|entry| {
        let route = &routes[entry.route as usize];
        let packed = || packed_priority(entry, route, &all_rules[entry.route as usize]);
        let priority = route.extras.priority.unwrap_or_else(packed);
        (Reverse(priority), Reverse(route.id.clone()))
    });
    entries
}
