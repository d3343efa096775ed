//! `rate-limiting` with the policy `local`: fixed windows of the calendar, counted for the node.
//!
//! Counters outlive configurations. Their number is bounded: windows that are over go first, and when all are current a
//! new caller is let through uncounted, as Kong does when its shared memory is full.

use super::settings::Settings;
use super::{Answer, Plugin, Request};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

const SHARDS: usize = 16;
const MAX_COUNTERS_PER_SHARD: usize = 65_536;
const PERIODS: [(&str, &str, i64); 6] = [
    ("second", "Second", 1),
    ("minute", "Minute", 60),
    ("hour", "Hour", 3_600),
    ("day", "Day", 86_400),
    ("month", "Month", 2_592_000),
    ("year", "Year", 31_536_000),
];

/// One caller's requests in one window.
#[derive(Clone, Copy, Debug)]
struct Window {
    starts_at: i64,
    ends_at: i64,
    count: u64,
}

/// All counters of a node.
#[derive(Debug)]
pub(crate) struct Counters {
    seed: u64,
    shards: Vec<Mutex<HashMap<u128, Window>>>,
}

impl Counters {
    pub(crate) fn new(seed: u64) -> Counters {
        Counters { seed, shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }

    fn key(&self, parts: (&str, &str, usize)) -> u128 {
        let hash = |salt: u64| {
            let mut hasher = DefaultHasher::new();
            (self.seed ^ salt).hash(&mut hasher);
            parts.hash(&mut hasher);
            hasher.finish()
        };
        (u128::from(hash(0)) << 64) | u128::from(hash(0x9e37_79b9_7f4a_7c15))
    }

    fn count(&self, key: u128, starts_at: i64) -> u64 {
        let shard = self.shards[(key as usize) % SHARDS].lock();
        shard.get(&key).filter(|window| window.starts_at == starts_at).map_or(0, |window| window.count)
    }

    fn increment(&self, key: u128, starts_at: i64, ends_at: i64, now: i64) {
        let mut shard = self.shards[(key as usize) % SHARDS].lock();
        if let Some(window) = shard.get_mut(&key) {
            if window.starts_at != starts_at {
                *window = Window { starts_at, ends_at, count: 0 };
            }
            window.count += 1;
            return;
        }
        if shard.len() >= MAX_COUNTERS_PER_SHARD {
            shard.retain(|_, window| window.ends_at > now);
            if shard.len() >= MAX_COUNTERS_PER_SHARD {
                return;
            }
        }
        shard.insert(key, Window { starts_at, ends_at, count: 1 });
    }
}

/// Days since the epoch as year, month and day (proleptic Gregorian calendar).
fn civil(days: i64) -> (i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month)
}

/// The first day of a month, in days since the epoch.
fn days_of(year: i64, month: i64) -> i64 {
    let shifted_year = year - i64::from(month <= 2);
    let era = shifted_year.div_euclid(400);
    let year_of_era = shifted_year.rem_euclid(400);
    let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The window of period number `period` that holds `now`, in seconds.
fn window_start(period: usize, now: i64) -> i64 {
    match period {
        0..=3 => now - now.rem_euclid(PERIODS[period].2),
        4 => {
            let (year, month) = civil(now.div_euclid(86_400));
            days_of(year, month) * 86_400
        }
        _ => days_of(civil(now.div_euclid(86_400)).0, 1) * 86_400,
    }
}

enum LimitBy {
    Consumer,
    Credential,
    Ip,
    Service,
    Header(String),
    Path(String),
}

pub(crate) struct RateLimiting {
    id: String,
    limits: Vec<(usize, f64)>,
    by: LimitBy,
    hides_headers: bool,
    error_code: u16,
    error_message: String,
}

impl RateLimiting {
    pub(crate) fn new(id: &str, settings: &Settings<'_>) -> Result<RateLimiting, String> {
        if let Some(policy) = settings.text("policy").filter(|policy| policy != "local") {
            return Err(format!("policy: {policy:?} is not supported by this gateway, use \"local\""));
        }
        let mut limits = Vec::new();
        for (i, (name, _, _)) in PERIODS.iter().enumerate() {
            if let Some(limit) = settings.number(name) {
                limits.push((i, limit));
            }
        }
        if limits.is_empty() {
            return Err("at least one of second, minute, hour, day, month and year is needed".into());
        }
        let by = match settings.text("limit_by").as_deref() {
            Some("credential") => LimitBy::Credential,
            Some("ip") => LimitBy::Ip,
            Some("service") => LimitBy::Service,
            Some("header") => {
                LimitBy::Header(settings.text("header_name").unwrap_or_default().to_ascii_lowercase())
            }
            Some("path") => LimitBy::Path(settings.text("path").unwrap_or_default()),
            _ => LimitBy::Consumer,
        };
        let error_code = settings.number("error_code").map_or(429, |code| code as u16);
        Ok(RateLimiting {
            id: id.to_owned(),
            limits,
            by,
            hides_headers: settings.flag("hide_client_headers", false),
            error_code: if (100..600).contains(&error_code) { error_code } else { 429 },
            error_message: settings
                .text("error_message")
                .unwrap_or_else(|| "API rate limit exceeded".to_owned()),
        })
    }

    /// What tells callers apart; the address where the request does not show it.
    fn caller(&self, request: &Request<'_>) -> String {
        let known = match &self.by {
            LimitBy::Ip => None,
            LimitBy::Service => Some(request.service.to_owned()).filter(|service| !service.is_empty()),
            LimitBy::Consumer => request
                .identity
                .consumer
                .as_ref()
                .map(|consumer| consumer.id.clone())
                .or_else(|| request.identity.credential.clone()),
            LimitBy::Credential => request.identity.credential.clone(),
            LimitBy::Header(name) => request.header(name),
            LimitBy::Path(path) => (request.path == path.as_bytes()).then(|| path.clone()),
        };
        known.unwrap_or_else(|| request.client_ip.to_string())
    }
}

impl Plugin for RateLimiting {
    fn access(&self, request: &mut Request<'_>) -> Result<(), Answer> {
        let now_ms = request.clock.now_ms();
        let now = now_ms.div_euclid(1_000);
        let caller = self.caller(request);
        let counters = request.counters;
        let mut keys = Vec::with_capacity(self.limits.len());
        let mut exceeded = None;
        // The limit that is nearest, the longer one of two: its numbers are the ones of the draft's fields.
        let mut nearest: Option<(f64, f64, i64, i64)> = None;
        let mut lines = Vec::with_capacity(self.limits.len());
        for &(period, limit) in &self.limits {
            let starts_at = window_start(period, now);
            let key = counters.key((&self.id, &caller, period));
            let left = limit - counters.count(key, starts_at) as f64;
            keys.push((key, starts_at, starts_at + PERIODS[period].2));
            if left <= 0.0 {
                exceeded = exceeded.or(Some(period));
            }
            lines.push((period, limit, left));
        }
        for &(period, limit, left) in &lines {
            let counts_this = exceeded.is_none_or(|exceeded| exceeded == period);
            let left = (if counts_this { left - 1.0 } else { left }).max(0.0);
            let length = PERIODS[period].2;
            let reset = (length - (now - window_start(period, now))).max(1);
            if nearest.is_none_or(|(_, known, window, _)| left < known || (left == known && length > window))
            {
                nearest = Some((limit, left, length, reset));
            }
            if !self.hides_headers {
                let name = PERIODS[period].1;
                request.response.set(&format!("X-RateLimit-Limit-{name}"), &limit.to_string());
                request.response.set(&format!("X-RateLimit-Remaining-{name}"), &left.to_string());
            }
        }
        let reset = nearest.map_or(1, |(_, _, _, reset)| reset);
        if let Some((limit, left, _, _)) = nearest.filter(|_| !self.hides_headers) {
            request.response.set("RateLimit-Limit", &limit.to_string());
            request.response.set("RateLimit-Remaining", &left.to_string());
            request.response.set("RateLimit-Reset", &reset.to_string());
        }
        if exceeded.is_some() {
            let refusal = Answer::error(self.error_code, self.error_message.clone());
            return Err(if self.hides_headers {
                refusal
            } else {
                refusal.with("Retry-After", reset.to_string())
            });
        }
        for (key, starts_at, ends_at) in keys {
            counters.increment(key, starts_at, ends_at, now);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_follow_the_calendar() {
        // 2024-02-29T12:34:56Z
        let now = 1_709_210_096;
        assert_eq!(window_start(0, now), now);
        assert_eq!(window_start(1, now), now - 56);
        assert_eq!(window_start(2, now), now - 34 * 60 - 56);
        assert_eq!(window_start(3, now), 1_709_164_800);
        assert_eq!(window_start(4, now), 1_706_745_600);
        assert_eq!(window_start(5, now), 1_704_067_200);
    }

    #[test]
    fn a_new_window_starts_from_nothing_and_the_number_of_counters_is_bounded() {
        let counters = Counters::new(1);
        let key = counters.key(("plugin", "caller", 0));
        counters.increment(key, 10, 11, 10);
        counters.increment(key, 10, 11, 10);
        assert_eq!((counters.count(key, 10), counters.count(key, 11)), (2, 0));
        counters.increment(key, 11, 12, 11);
        assert_eq!(counters.count(key, 11), 1);
        for i in 0..MAX_COUNTERS_PER_SHARD + 10 {
            counters.increment((i * SHARDS) as u128, 10, 11, 10);
        }
        assert!(counters.shards[0].lock().len() <= MAX_COUNTERS_PER_SHARD);
    }
}
