//! What the workers' reports add up to: one entry per name and method, the total, the errors, and the run's history.

use std::collections::{BTreeMap, VecDeque};

use indexmap::IndexMap;
use serde_json::{Value, json};

use super::message::{EntryReport, ErrorReport, LatencyReport, StatsReport};
use super::number::{Number, proper_round, python_repr};
use crate::latency::Latencies;

/// The quantiles of the tables and CSV files.
pub const PERCENTILES: [f64; 11] = [0.50, 0.66, 0.75, 0.80, 0.90, 0.95, 0.98, 0.99, 0.999, 0.9999, 1.0];
/// How far "current" looks back, and how many seconds are kept for it.
const WINDOW_SECONDS: i64 = 10;
const CACHED_SECONDS: usize = 20;
/// Distinct names (or errors) beyond this are counted in the total only.
const MOST_ENTRIES: usize = 10_000;
const MOST_ERRORS: usize = 10_000;
/// Of a name, a method or an error; the rest is cut off.
const MOST_TEXT: usize = 4096;
/// A day of seconds; older ones are forgotten.
const MOST_SECONDS: usize = 86_400;
/// Distinct response times of one entry; Locust's own rounding makes about 310.
const MOST_BUCKETS: usize = 50_000;
/// One point per five seconds: about ten days.
const MOST_HISTORY: usize = 172_800;

/// Everything that was counted since the start or the last reset.
pub struct Stats {
    entries: BTreeMap<(String, String), Entry>,
    pub total: Entry,
    /// By Locust's key, in the order of their first occurrence.
    pub errors: IndexMap<String, StatsError>,
    pub history: Vec<History>,
    /// Whether every entry keeps its last seconds, and not only the total.
    full_history: bool,
    /// Names that found no room.
    pub left_out: u64,
}

/// The counts of one name and method.
#[derive(Clone)]
pub struct Entry {
    pub name: String,
    pub method: String,
    pub num_requests: i64,
    pub num_none_requests: i64,
    pub num_failures: i64,
    pub total_response_time: f64,
    pub min_response_time: Option<Number>,
    pub max_response_time: Number,
    pub total_content_length: i64,
    pub start_time: f64,
    pub last_request_timestamp: Option<f64>,
    pub response_times: BTreeMap<Number, i64>,
    pub num_reqs_per_sec: BTreeMap<i64, i64>,
    pub num_fail_per_sec: BTreeMap<i64, i64>,
    /// Exact, from the workers that send them.
    pub exact: Latencies,
    cache: Option<VecDeque<Cached>>,
}

#[derive(Clone)]
struct Cached {
    second: i64,
    response_times: Vec<(Number, i64)>,
    samples: i64,
}

#[derive(Clone, Debug)]
pub struct StatsError {
    pub name: String,
    pub method: String,
    pub error: String,
    pub occurrences: i64,
    pub first_seen: Option<f64>,
    pub last_seen: Option<f64>,
}

/// One point of the charts.
#[derive(Clone, Debug)]
pub struct History {
    /// `2026-11-28T07:00:00Z`.
    pub time: String,
    pub at_ms: i64,
    pub current_rps: f64,
    pub current_fail_per_sec: f64,
    pub p50: Number,
    pub p95: Number,
    pub avg: f64,
    pub user_count: i64,
}

/// The key under which a worker files an error.
pub fn error_key(method: &str, name: &str, error: &str) -> String {
    crate::locust::sha256_hex(&format!("{method}.{name}.{}", python_repr(error)))
}

// === impl Stats ===

impl Stats {
    /// `full_history`: every entry can tell its current percentiles, not only the total.
    pub fn new(now: f64, full_history: bool) -> Stats {
        Stats {
            entries: BTreeMap::new(),
            total: Entry::new("Aggregated", "", now, true),
            errors: IndexMap::new(),
            history: Vec::new(),
            full_history,
            left_out: 0,
        }
    }

    /// Forgets everything, names too.
    pub fn clear(&mut self, now: f64) {
        *self = Stats::new(now, self.full_history);
    }

    /// Sets every count to zero; names stay.
    pub fn reset(&mut self, now: f64) {
        self.total = Entry::new("Aggregated", "", now, true);
        for ((name, method), entry) in &mut self.entries {
            *entry = Entry::new(name, method, now, self.full_history);
        }
        self.errors.clear();
        self.history.clear();
        self.left_out = 0;
    }

    /// By name and method, in that order.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = &Entry> {
        self.entries.values()
    }

    pub fn entry(&self, name: &str, method: &str) -> Option<&Entry> {
        self.entries.get(&(name.to_owned(), method.to_owned()))
    }

    /// Errors by their key, as the CSV file lists them.
    pub fn sorted_errors(&self) -> Vec<&StatsError> {
        let mut errors: Vec<_> = self.errors.iter().collect();
        errors.sort_unstable_by(|a, b| a.0.cmp(b.0));
        errors.into_iter().map(|(_, error)| error).collect()
    }

    /// Adds what a worker reports.
    pub fn merge(&mut self, report: StatsReport, now: f64) {
        for entry in &report.stats {
            if let Some(own) = self.entry_mut(&entry.name, &entry.method, now) {
                own.extend(entry);
            }
        }
        for (key, error) in report.errors {
            self.merge_error(key, error);
        }
        for exact in &report.latencies {
            self.merge_exact(exact, now);
        }
        self.total.extend(&report.stats_total);
    }

    fn entry_mut(&mut self, name: &str, method: &str, now: f64) -> Option<&mut Entry> {
        let (name, method) = (cut(name), cut(method));
        let key = (name.to_owned(), method.to_owned());
        if self.entries.len() >= MOST_ENTRIES && !self.entries.contains_key(&key) {
            self.left_out += 1;
            return None;
        }
        let full_history = self.full_history;
        Some(self.entries.entry(key).or_insert_with(|| Entry::new(name, method, now, full_history)))
    }

    fn merge_error(&mut self, key: String, report: ErrorReport) {
        let key = cut(&key).to_owned();
        if let Some(own) = self.errors.get_mut(&key) {
            add(&mut own.occurrences, report.occurrences);
            own.first_seen = earliest(own.first_seen, report.first_seen);
            own.last_seen = latest(own.last_seen, report.last_seen);
        } else if self.errors.len() < MOST_ERRORS {
            let ErrorReport { name, method, error, occurrences, first_seen, last_seen } = report;
            let [name, method, error] = [name, method, error].map(|text| cut(&text).to_owned());
            let own = StatsError { name, method, error, occurrences, first_seen, last_seen };
            self.errors.insert(key, own);
        } else {
            self.left_out += 1;
        }
    }

    fn merge_exact(&mut self, report: &LatencyReport, now: f64) {
        for &(us, times) in &report.us {
            self.total.exact.record_many(us, times);
        }
        if let Some(own) = self.entry_mut(&report.name, &report.method, now) {
            for &(us, times) in &report.us {
                own.exact.record_many(us, times);
            }
        }
    }

    /// Remembers how things stand for the charts.
    pub fn remember(&mut self, time: String, now: f64, user_count: i64) {
        if self.history.len() >= MOST_HISTORY {
            self.history.remove(0);
        }
        let total = &self.total;
        self.history.push(History {
            time,
            at_ms: (now * 1000.0) as i64,
            current_rps: self.current_rps(total),
            current_fail_per_sec: self.current_fail_per_sec(total),
            p50: total.current_percentile(0.5, now).unwrap_or(Number::ZERO),
            p95: total.current_percentile(0.95, now).unwrap_or(Number::ZERO),
            avg: proper_round(total.avg_response_time(), 2),
            user_count,
        });
    }

    /// Requests per second over the ten seconds that ended two seconds before the last request.
    pub fn current_rps(&self, entry: &Entry) -> f64 {
        self.current(&entry.num_reqs_per_sec)
    }

    pub fn current_fail_per_sec(&self, entry: &Entry) -> f64 {
        self.current(&entry.num_fail_per_sec)
    }

    fn current(&self, per_second: &BTreeMap<i64, i64>) -> f64 {
        let Some(last) = self.total.last_request_timestamp else { return 0.0 };
        let from = (last as i64 - 12).max(self.total.start_time as i64);
        let to = last as i64 - 2;
        if to <= from {
            return 0.0;
        }
        per_second.range(from..to).map(|(_, count)| *count as f64).sum::<f64>() / (to - from) as f64
    }

    /// Requests per second since the start.
    pub fn total_rps(&self, entry: &Entry) -> f64 {
        self.per_second(entry.num_requests)
    }

    pub fn total_fail_per_sec(&self, entry: &Entry) -> f64 {
        self.per_second(entry.num_failures)
    }

    fn per_second(&self, count: i64) -> f64 {
        let Some(last) = self.total.last_request_timestamp else { return 0.0 };
        let seconds = last - self.total.start_time;
        if self.total.start_time == 0.0 || seconds == 0.0 { 0.0 } else { count as f64 / seconds }
    }

    /// An entry as Locust's API shows it. Exact percentiles are added where the workers send them.
    pub fn entry_json(&self, entry: &Entry) -> Value {
        let mut value = json!({
            "method": entry.method,
            "name": entry.name,
            "num_requests": entry.num_requests,
            "num_failures": entry.num_failures,
            "min_response_time": match entry.min_response_time {
                None => json!(0),
                Some(min) => json!(proper_round(min.as_f64(), 0)),
            },
            "max_response_time": proper_round(entry.max_response_time.as_f64(), 0),
            "current_rps": self.current_rps(entry),
            "current_fail_per_sec": self.current_fail_per_sec(entry),
            "avg_response_time": entry.avg_response_time(),
            "median_response_time": entry.median().to_json(),
            "total_rps": self.total_rps(entry),
            "total_fail_per_sec": self.total_fail_per_sec(entry),
            "response_time_percentile_0.95": entry.percentile(0.95).to_json(),
            "response_time_percentile_0.99": entry.percentile(0.99).to_json(),
            "avg_content_length": entry.avg_content_length().to_json(),
        });
        if let Some(exact) = entry.exact_json() {
            value["exact_ms"] = exact;
        }
        value
    }

    /// As `--json` prints it.
    pub fn serialized(&self) -> Value {
        let asked = self.entries().filter(|entry| entry.num_requests != 0 || entry.num_failures != 0);
        Value::Array(asked.map(Entry::serialized).collect())
    }
}

// === impl Entry ===

impl Entry {
    fn new(name: &str, method: &str, now: f64, cached: bool) -> Entry {
        let mut entry = Entry {
            name: name.to_owned(),
            method: method.to_owned(),
            num_requests: 0,
            num_none_requests: 0,
            num_failures: 0,
            total_response_time: 0.0,
            min_response_time: None,
            max_response_time: Number::ZERO,
            total_content_length: 0,
            start_time: now,
            last_request_timestamp: None,
            response_times: BTreeMap::new(),
            num_reqs_per_sec: BTreeMap::new(),
            num_fail_per_sec: BTreeMap::new(),
            exact: Latencies::new(),
            cache: cached.then(VecDeque::new),
        };
        entry.remember_second(now as i64);
        entry
    }

    /// Adds a worker's counts since its last report.
    fn extend(&mut self, other: &EntryReport) {
        let before = self.last_request_timestamp;
        self.last_request_timestamp = latest(before, other.last_request_timestamp);
        self.start_time = self.start_time.min(other.start_time);
        add(&mut self.num_requests, other.num_requests);
        add(&mut self.num_none_requests, other.num_none_requests);
        add(&mut self.num_failures, other.num_failures);
        self.total_response_time += other.total_response_time;
        self.max_response_time = self.max_response_time.max(other.max_response_time.0);
        self.min_response_time = match (self.min_response_time, other.min_response_time) {
            (Some(own), Some(theirs)) => Some(own.min(theirs)),
            (own, theirs) => own.or(theirs),
        };
        add(&mut self.total_content_length, other.total_content_length);
        for &(time, count) in &other.response_times {
            if self.response_times.len() < MOST_BUCKETS || self.response_times.contains_key(&time) {
                add(self.response_times.entry(time).or_insert(0), count);
            }
        }
        add_seconds(&mut self.num_reqs_per_sec, &other.num_reqs_per_sec);
        add_seconds(&mut self.num_fail_per_sec, &other.num_fail_per_sec);
        if let Some(last) = self.last_request_timestamp
            && last as i64 > before.map_or(0, |before| before as i64)
        {
            self.remember_second(last as i64);
        }
    }

    fn remember_second(&mut self, second: i64) {
        let samples = self.num_requests.saturating_sub(self.num_none_requests);
        let Some(cache) = &mut self.cache else { return };
        let response_times = self.response_times.iter().map(|(time, count)| (*time, *count)).collect();
        let now = Cached { second, response_times, samples };
        match cache.iter_mut().find(|cached| cached.second == second) {
            Some(cached) => *cached = now,
            None => cache.push_back(now),
        }
        while cache.len() > CACHED_SECONDS {
            cache.pop_front();
        }
    }

    fn samples(&self) -> i64 {
        self.num_requests.saturating_sub(self.num_none_requests)
    }

    pub fn fail_ratio(&self) -> f64 {
        match (self.num_requests, self.num_failures) {
            (0, 0) => 0.0,
            (0, _) => 1.0,
            (requests, failures) => failures as f64 / requests as f64,
        }
    }

    pub fn avg_response_time(&self) -> f64 {
        if self.samples() == 0 { 0.0 } else { self.total_response_time / self.samples() as f64 }
    }

    /// 0 when nothing was asked, a float otherwise.
    pub fn avg_content_length(&self) -> Number {
        if self.num_requests == 0 {
            return Number::ZERO;
        }
        Number::Float(self.total_content_length as f64 / self.num_requests as f64)
    }

    /// By Locust's rounded response times, kept within the exact minimum and maximum.
    pub fn median(&self) -> Number {
        if self.response_times.is_empty() {
            return Number::ZERO;
        }
        let median = self.percentile(0.5);
        if median > self.max_response_time {
            return self.max_response_time;
        }
        match self.min_response_time {
            Some(min) if median < min => min,
            _ => median,
        }
    }

    /// The response time within which this share of the requests finished, by Locust's rounded response times.
    pub fn percentile(&self, share: f64) -> Number {
        let times = self.response_times.iter().rev().map(|(time, count)| (*time, *count));
        percentile(times, self.samples(), share)
    }

    /// The same over about the last ten seconds; `None` without a second to compare with (or when it is not kept).
    pub fn current_percentile(&self, share: f64, now: f64) -> Option<Number> {
        let cache = self.cache.as_ref()?;
        let wanted = now as i64 - WINDOW_SECONDS;
        let offsets = std::iter::once(0).chain((1..9).flat_map(|i| [-i, i]));
        let mut found = offsets.map(|offset| wanted + offset);
        let cached = found.find_map(|second| cache.iter().find(|cached| cached.second == second))?;
        let mut old = cached.response_times.iter().rev().peekable();
        let times = self.response_times.iter().rev().filter_map(|(time, count)| {
            while old.next_if(|(old_time, _)| old_time > time).is_some() {}
            let before = old.next_if(|(old_time, _)| old_time == time).map_or(0, |(_, count)| *count);
            (*count != before).then_some((*time, count.saturating_sub(before)))
        });
        Some(percentile(times, self.samples().saturating_sub(cached.samples), share))
    }

    pub fn caches(&self) -> bool {
        self.cache.is_some()
    }

    /// Exact percentiles in milliseconds; `None` without exact samples.
    pub fn exact_json(&self) -> Option<Value> {
        let quantiles = self.exact.quantiles_us(&[0.5, 0.9, 0.95, 0.99, 0.999]);
        let ms = |index: usize| quantiles.get(index).copied().flatten().map(|us| us as f64 / 1000.0);
        ms(0)?;
        Some(json!({
            "p50": ms(0), "p90": ms(1), "p95": ms(2), "p99": ms(3), "p999": ms(4), "samples": self.exact.count(),
        }))
    }

    fn serialized(&self) -> Value {
        let seconds = |map: &BTreeMap<i64, i64>| -> Value {
            map.iter()
                .map(|(second, count)| (second.to_string(), json!(count)))
                .collect::<serde_json::Map<_, _>>()
                .into()
        };
        let times = self.response_times.iter().map(|(time, count)| (time.to_string(), json!(count)));
        json!({
            "name": self.name,
            "method": self.method,
            "last_request_timestamp": self.last_request_timestamp,
            "start_time": self.start_time,
            "num_requests": self.num_requests,
            "num_none_requests": self.num_none_requests,
            "num_failures": self.num_failures,
            "total_response_time": self.total_response_time,
            "max_response_time": self.max_response_time.to_json(),
            "min_response_time": self.min_response_time.map(Number::to_json),
            "total_content_length": self.total_content_length,
            "response_times": Value::Object(times.collect()),
            "num_reqs_per_sec": seconds(&self.num_reqs_per_sec),
            "num_fail_per_sec": seconds(&self.num_fail_per_sec),
        })
    }
}

/// Locust's rule: the slowest response time below which at most `share` of the samples (rounded down) lie.
fn percentile(descending: impl Iterator<Item = (Number, i64)>, samples: i64, share: f64) -> Number {
    let wanted = (samples as f64 * share) as i64;
    let mut seen = 0_i64;
    for (time, count) in descending {
        seen = seen.saturating_add(count);
        if samples.saturating_sub(seen) <= wanted {
            return time;
        }
    }
    Number::ZERO
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MOST_TEXT)]
}

/// Whatever workers report, the sum is a number.
fn add(sum: &mut i64, count: i64) {
    *sum = sum.saturating_add(count);
}

fn add_seconds(own: &mut BTreeMap<i64, i64>, theirs: &[(i64, i64)]) {
    for &(second, count) in theirs {
        add(own.entry(second).or_insert(0), count);
    }
    while own.len() > MOST_SECONDS {
        own.pop_first();
    }
}

fn earliest(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

fn latest(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.max(b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::locust::number::bucket;

    fn report(samples_us: &[u64], now: f64) -> StatsReport {
        let mut entry = EntryReport {
            name: "/a".into(),
            method: "GET".into(),
            start_time: now,
            ..EntryReport::default()
        };
        let mut times = BTreeMap::new();
        let mut us = BTreeMap::new();
        for &sample in samples_us {
            let ms = sample as f64 / 1000.0;
            entry.num_requests += 1;
            entry.total_response_time += ms;
            entry.max_response_time.0 = entry.max_response_time.0.max(Number::Float(ms));
            entry.min_response_time =
                Some(entry.min_response_time.map_or(Number::Float(ms), |m| m.min(Number::Float(ms))));
            *times.entry(Number::Int(bucket(ms))).or_insert(0) += 1;
            *us.entry(sample).or_insert(0) += 1;
        }
        entry.response_times = times.into_iter().collect();
        entry.last_request_timestamp = Some(now + 1.0);
        entry.num_reqs_per_sec = vec![(now as i64, entry.num_requests)];
        let mut total = entry.clone();
        total.name = "Aggregated".into();
        let latencies =
            vec![LatencyReport { name: "/a".into(), method: "GET".into(), us: us.into_iter().collect() }];
        StatsReport { stats: vec![entry], stats_total: total, latencies, ..StatsReport::default() }
    }

    #[test]
    fn merged_percentiles_are_those_of_all_samples() {
        let mut rng = crate::plan::Rng::new(11, 0);
        let mut all = Vec::new();
        let mut stats = Stats::new(1000.0, false);
        for worker in 0..4 {
            let samples: Vec<u64> = (0..2500).map(|_| rng.exponential(20_000.0) as u64 + worker).collect();
            stats.merge(report(&samples, 1000.0), 1001.0);
            all.extend(samples);
        }
        all.sort_unstable();
        for share in [0.5, 0.95, 0.99, 0.999] {
            let rank = ((share * all.len() as f64).ceil() as usize).max(1);
            assert_eq!(stats.total.exact.quantile_us(share), Some(all[rank - 1]));
            // Locust's own answer over the rounded times of all samples.
            let mut rounded: Vec<i64> = all.iter().map(|us| bucket(*us as f64 / 1000.0)).collect();
            rounded.sort_unstable();
            let wanted = (rounded.len() as f64 * share) as usize;
            let reference = rounded.iter().rev().enumerate().find(|(seen, time)| {
                let with_this_time = rounded.len() - rounded.partition_point(|other| other < time);
                let _ = seen;
                rounded.len() - with_this_time <= wanted
            });
            assert_eq!(stats.total.percentile(share), Number::Int(*reference.unwrap().1));
        }
        assert_eq!(stats.entry("/a", "GET").unwrap().num_requests, 10_000);
    }

    #[test]
    fn the_median_stays_between_minimum_and_maximum() {
        let mut stats = Stats::new(1000.0, false);
        stats.merge(report(&[104_400], 1000.0), 1001.0);
        assert_eq!(stats.total.percentile(0.5), Number::Int(100));
        assert_eq!(stats.total.median(), Number::Float(104.4));
        stats.reset(1002.0);
        assert_eq!((stats.total.median(), stats.entries().len()), (Number::ZERO, 1));
    }

    #[test]
    fn current_percentiles_leave_out_what_is_older() {
        let mut stats = Stats::new(1000.0, false);
        stats.merge(report(&[900_000; 10], 1000.0), 1000.0);
        stats.merge(report(&[5_000; 10], 1009.0), 1009.0);
        // Compared with second 1001, in which the slow ones had been counted.
        assert_eq!(stats.total.current_percentile(0.5, 1011.0), Some(Number::Int(5)));
        assert_eq!(stats.total.current_percentile(0.5, 5000.0), None);
        assert_eq!(stats.total.percentile(1.0), Number::Int(900));
    }

    #[test]
    fn endless_names_are_cut() {
        let mut stats = Stats::new(1000.0, false);
        let mut report = report(&[1000], 1000.0);
        report.stats[0].name = "é".repeat(MOST_TEXT);
        report.latencies[0].name = report.stats[0].name.clone();
        let error = ErrorReport { error: "x".repeat(MOST_TEXT + 1), ..ErrorReport::default() };
        report.errors.insert("y".repeat(MOST_TEXT + 1), error);
        stats.merge(report, 1001.0);
        let name = &stats.entries().next().unwrap().name;
        assert_eq!((stats.entries().len(), name.len()), (1, MOST_TEXT));
        let (key, error) = stats.errors.first().unwrap();
        assert_eq!((key.len(), error.error.len()), (MOST_TEXT, MOST_TEXT));
    }

    #[test]
    fn sums_beyond_what_a_number_holds_stay_the_largest() {
        let mut stats = Stats::new(1000.0, true);
        for sign in [1, 1, -1, -1, -1] {
            let mut report = report(&[1000], 1000.0);
            let most = if sign > 0 { i64::MAX } else { i64::MIN };
            for entry in report.stats.iter_mut().chain([&mut report.stats_total]) {
                entry.num_requests = most;
                entry.num_none_requests = most;
                entry.num_failures = most;
                entry.total_content_length = most;
                entry.response_times = vec![(Number::Int(1), most), (Number::Int(2), most)];
                entry.num_reqs_per_sec = vec![(1000, most), (1001, most)];
            }
            stats.merge(report, 1001.0);
            stats.remember("now".to_owned(), 1011.0, 0);
            assert!(stats.entry_json(&stats.total).is_object());
        }
        assert_eq!(stats.total.num_failures, i64::MIN);
    }

    #[test]
    fn rates_end_two_seconds_before_the_last_request() {
        let mut stats = Stats::new(1000.0, false);
        stats.merge(report(&[1000; 30], 1000.0), 1000.0);
        stats.merge(report(&[1000; 12], 1008.0), 1008.0);
        assert_eq!(stats.current_rps(&stats.total), 30.0 / 7.0);
        assert_eq!(stats.total_rps(&stats.total), 42.0 / 9.0);
    }

    #[test]
    fn errors_are_filed_under_locusts_key() {
        // From hashlib.sha256("GET./nope.'boom'".encode()).hexdigest().
        let key = error_key("GET", "/nope", "boom");
        assert_eq!(key.len(), 64);
        let mut stats = Stats::new(0.0, false);
        for (seen, count) in [(5.0, 2), (3.0, 1)] {
            let error = ErrorReport {
                name: "/nope".into(),
                method: "GET".into(),
                error: "boom".into(),
                occurrences: count,
                first_seen: Some(seen),
                last_seen: Some(seen),
            };
            let errors = BTreeMap::from([(key.clone(), error)]);
            stats.merge(StatsReport { errors, ..StatsReport::default() }, 6.0);
        }
        let error = &stats.errors[&key];
        assert_eq!((error.occurrences, error.first_seen, error.last_seen), (3, Some(3.0), Some(5.0)));
    }
}
