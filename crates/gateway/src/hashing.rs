//! Consistent hashing: what of a request is hashed, and the ring on which a hash finds its target.
//!
//! As in Kong the place of a target on the ring follows from its address alone, so that one that comes or goes moves only
//! the requests of its own part. The cookie that ties a client to a target is made when the client has none yet.

use crate::entities::{HashOn, Upstream};
use crate::http1::head::{Head, Kind};
use std::net::SocketAddr;

/// Points of a target of average weight, and of all targets at most.
const POINTS: u64 = 160;
const MAX_POINTS: u64 = 65_536;

/// One thing that is hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Consumer,
    Ip,
    Header(String),
    Cookie { name: String, path: String },
    Path,
    QueryArg(String),
    UriCapture(String),
}

/// What an upstream hashes: the first of these that a request has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hashing(pub(crate) Vec<Source>);

impl Hashing {
    /// `None` where nothing is hashed; an error names the field that is missing.
    pub(crate) fn of(upstream: &Upstream) -> Result<Option<Hashing>, &'static str> {
        let source =
            |on: HashOn, names: [&Option<String>; 3], fields: [&'static str; 3]| -> Result<_, &'static str> {
                let name = |at: usize| names[at].clone().ok_or(fields[at]);
                Ok(Some(match on {
                    HashOn::None => return Ok(None),
                    HashOn::Consumer => Source::Consumer,
                    HashOn::Ip => Source::Ip,
                    HashOn::Header => Source::Header(name(0)?),
                    HashOn::Cookie => Source::Cookie {
                        name: upstream.hash_on_cookie.clone().ok_or("hash_on_cookie")?,
                        path: upstream.hash_on_cookie_path.clone(),
                    },
                    HashOn::Path => Source::Path,
                    HashOn::QueryArg => Source::QueryArg(name(1)?),
                    HashOn::UriCapture => Source::UriCapture(name(2)?),
                }))
            };
        let first = source(
            upstream.hash_on,
            [&upstream.hash_on_header, &upstream.hash_on_query_arg, &upstream.hash_on_uri_capture],
            ["hash_on_header", "hash_on_query_arg", "hash_on_uri_capture"],
        )?;
        let second = source(
            upstream.hash_fallback,
            [
                &upstream.hash_fallback_header,
                &upstream.hash_fallback_query_arg,
                &upstream.hash_fallback_uri_capture,
            ],
            ["hash_fallback_header", "hash_fallback_query_arg", "hash_fallback_uri_capture"],
        )?;
        let all: Vec<Source> = first.into_iter().chain(second).collect();
        Ok((!all.is_empty()).then_some(Hashing(all)))
    }

    /// Whether what a route's pattern captured is asked for.
    pub(crate) fn needs_captures(&self) -> bool {
        self.0.iter().any(|source| matches!(source, Source::UriCapture(_)))
    }
}

/// The same on every machine and in every run: FNV-1a, its bits mixed.
pub(crate) fn hash(parts: &[&[u8]]) -> u64 {
    let mut state = 0xcbf2_9ce4_8422_2325u64;
    for part in parts {
        for &byte in *part {
            state = (state ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        // So that parts cannot be moved between one another.
        state = (state ^ 0x1ff).wrapping_mul(0x0000_0100_0000_01b3);
    }
    state ^= state >> 32;
    state = state.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    state ^ (state >> 29)
}

/// All values of a field.
pub(crate) fn header_values<'b>(head: &'b Head, buffer: &'b [u8], name: &str) -> Vec<&'b [u8]> {
    let is_meant =
        |field: &&crate::http1::head::Field| head.name(buffer, field).eq_ignore_ascii_case(name.as_bytes());
    head.fields.iter().filter(is_meant).map(|field| head.value(buffer, field)).collect()
}

/// The value of a cookie.
pub(crate) fn cookie<'b>(head: &'b Head, buffer: &'b [u8], name: &str) -> Option<&'b [u8]> {
    let fields = head.fields.iter().filter(|field| field.kind == Kind::Other);
    let cookies = fields.filter(|field| head.name(buffer, field).eq_ignore_ascii_case(b"cookie"));
    cookies.flat_map(|field| head.value(buffer, field).split(|&byte| byte == b';')).find_map(|pair| {
        let at = pair.iter().position(|&byte| byte == b'=')?;
        (pair[..at].trim_ascii() == name.as_bytes()).then(|| pair[at + 1..].trim_ascii())
    })
}

/// Points in order, each of a target by its position.
#[derive(Debug, Default)]
pub(crate) struct Ring(Vec<(u64, u32)>);

impl Ring {
    pub(crate) fn new(targets: &[(SocketAddr, u16)]) -> Ring {
        let total: u64 = targets.iter().map(|(_, weight)| u64::from(*weight)).sum();
        let count = targets.iter().filter(|(_, weight)| *weight > 0).count() as u64;
        let all = (count * POINTS).min(MAX_POINTS);
        let mut points = Vec::new();
        for (position, (address, weight)) in targets.iter().enumerate().filter(|(_, (_, weight))| *weight > 0)
        {
            let name = address.to_string();
            let own = (u64::from(*weight) * all / total.max(1)).max(1);
            for number in 0..own {
                points.push((hash(&[name.as_bytes(), &number.to_le_bytes()]), position as u32));
            }
        }
        points.sort_unstable();
        Ring(points)
    }

    /// Positions of targets in the order in which a hash meets them, repeated as their points are.
    pub(crate) fn from(&self, hash: u64) -> impl Iterator<Item = u32> + '_ {
        let start = self.0.partition_point(|(point, _)| *point < hash);
        let (before, after) = self.0.split_at(start);
        after.iter().chain(before).map(|(_, position)| *position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], port))
    }

    fn shares(targets: &[(SocketAddr, u16)]) -> (Vec<SocketAddr>, HashMap<SocketAddr, usize>) {
        let ring = Ring::new(targets);
        let chosen: Vec<SocketAddr> = (0..4_000u32)
            .map(|number| {
                let key = hash(&[&number.to_le_bytes()]);
                targets[ring.from(key).next().unwrap() as usize].0
            })
            .collect();
        let mut counts = HashMap::new();
        chosen.iter().for_each(|address| *counts.entry(*address).or_default() += 1);
        (chosen, counts)
    }

    #[test]
    fn weights_share_the_ring_and_a_target_that_goes_moves_only_its_own() {
        let (before, counts) = shares(&[(address(1), 100), (address(2), 100), (address(3), 200)]);
        assert!((700..1_300).contains(&counts[&address(1)]), "{counts:?}");
        assert!((1_600..2_400).contains(&counts[&address(3)]), "{counts:?}");
        let (after, _) = shares(&[(address(3), 200), (address(2), 100)]);
        let moved = before.iter().zip(&after).filter(|(old, new)| old != new && **old != address(1)).count();
        // The others' points become a few more, for there are fewer to share them.
        assert!(moved < 800, "{moved}");
        assert!(shares(&[(address(1), 0), (address(2), 1)]).1.contains_key(&address(2)));
    }

    #[test]
    fn what_is_hashed_must_be_named() {
        let upstream = Upstream { hash_on: HashOn::Header, ..Upstream::default() };
        assert_eq!(Hashing::of(&upstream), Err("hash_on_header"));
        assert_eq!(Hashing::of(&Upstream::default()), Ok(None));
        let both = Upstream { hash_on: HashOn::Consumer, hash_fallback: HashOn::Ip, ..Upstream::default() };
        assert_eq!(Hashing::of(&both), Ok(Some(Hashing(vec![Source::Consumer, Source::Ip]))));
    }
}
