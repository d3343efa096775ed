//! What one worker's users have measured since its last report.

use std::collections::{BTreeMap, HashMap};

use super::super::csv::without_addresses;
use super::super::message::{EntryReport, ErrorReport, LatencyReport, MaxNumber, StatsReport};
use super::super::number::{Number, bucket};
use super::super::stats::error_key;
use crate::latency::Latencies;

/// Distinct names (or errors) between two reports; a locustfile that makes more has forgotten `name=`.
const MOST_NAMES: usize = 10_000;
/// Response times below 100 ms are counted by index.
const FAST: usize = 101;

#[derive(Default)]
pub(super) struct WorkerStats {
    indexes: HashMap<(String, String), usize>,
    entries: Vec<Recorded>,
    total: Option<Recorded>,
    errors: BTreeMap<String, ErrorReport>,
}

struct Recorded {
    report: EntryReport,
    fast: Box<[u32; FAST]>,
    slow: BTreeMap<i64, i64>,
    latencies: Latencies,
}

/// One finished request.
pub(super) struct Sample<'a> {
    pub(super) method: &'a str,
    pub(super) name: &'a str,
    pub(super) us: f64,
    pub(super) bytes: u64,
    pub(super) error: Option<String>,
    /// Seconds since 1970.
    pub(super) now: f64,
}

// === impl WorkerStats ===

impl WorkerStats {
    pub(super) fn record(&mut self, sample: &Sample<'_>) {
        let total = self.total.get_or_insert_with(|| Recorded::new("Aggregated", "", sample.now));
        total.add(sample);
        let key = (sample.name.to_owned(), sample.method.to_owned());
        let index = match self.indexes.get(&key) {
            Some(index) => *index,
            None if self.entries.len() >= MOST_NAMES => return,
            None => {
                let index = self.entries.len();
                self.entries.push(Recorded::new(sample.name, sample.method, sample.now));
                self.indexes.insert(key, index);
                index
            }
        };
        if let Some(entry) = self.entries.get_mut(index) {
            entry.add(sample);
        }
        if let Some(error) = &sample.error {
            self.record_error(sample, error);
        }
    }

    fn record_error(&mut self, sample: &Sample<'_>, error: &str) {
        let error = without_addresses(error);
        let key = error_key(sample.method, sample.name, &error);
        if self.errors.len() >= MOST_NAMES && !self.errors.contains_key(&key) {
            return;
        }
        let own = self.errors.entry(key).or_insert_with(|| ErrorReport {
            name: sample.name.to_owned(),
            method: sample.method.to_owned(),
            error,
            first_seen: Some(sample.now),
            ..ErrorReport::default()
        });
        own.occurrences += 1;
        own.last_seen = Some(sample.now);
    }

    /// Everything since the last report, which is forgotten here.
    pub(super) fn report(&mut self, now: f64, classes: BTreeMap<String, i64>) -> StatsReport {
        let asked = self.entries.iter_mut().filter(|entry| entry.report.num_requests > 0);
        let (mut stats, mut latencies) = (Vec::new(), Vec::new());
        for entry in asked {
            let (report, exact) = entry.take(now);
            stats.push(report);
            latencies.push(exact);
        }
        let total = self.total.get_or_insert_with(|| Recorded::new("Aggregated", "", now));
        StatsReport {
            stats,
            stats_total: total.take(now).0,
            errors: std::mem::take(&mut self.errors),
            user_count: classes.values().sum(),
            user_classes_count: classes,
            latencies,
        }
    }

    pub(super) fn clear(&mut self) {
        *self = WorkerStats::default();
    }
}

// === impl Recorded ===

impl Recorded {
    fn new(name: &str, method: &str, now: f64) -> Recorded {
        let report =
            EntryReport { name: name.to_owned(), method: method.to_owned(), start_time: now, ..EntryReport::default() };
        Recorded { report, fast: Box::new([0; FAST]), slow: BTreeMap::new(), latencies: Latencies::new() }
    }

    fn add(&mut self, sample: &Sample<'_>) {
        let ms = sample.us / 1000.0;
        let report = &mut self.report;
        report.num_requests += 1;
        report.total_response_time += ms;
        report.total_content_length += sample.bytes as i64;
        report.last_request_timestamp = Some(sample.now);
        report.max_response_time = MaxNumber(report.max_response_time.0.max(Number::Float(ms)));
        let min = report.min_response_time.map_or(Number::Float(ms), |min| min.min(Number::Float(ms)));
        report.min_response_time = Some(min);
        let second = sample.now as i64;
        count_second(&mut report.num_reqs_per_sec, second);
        if sample.error.is_some() {
            report.num_failures += 1;
            count_second(&mut report.num_fail_per_sec, second);
        }
        let bucket = bucket(ms);
        match usize::try_from(bucket).ok().and_then(|index| self.fast.get_mut(index)) {
            Some(count) => *count += 1,
            None => *self.slow.entry(bucket).or_insert(0) += 1,
        }
        self.latencies.record(sample.us.round() as u64);
    }

    fn take(&mut self, now: f64) -> (EntryReport, LatencyReport) {
        let fast = self.fast.iter().enumerate().filter(|(_, count)| **count > 0);
        let fast = fast.map(|(ms, count)| (Number::Int(ms as i64), i64::from(*count)));
        let slow = std::mem::take(&mut self.slow).into_iter().map(|(ms, count)| (Number::Int(ms), count));
        self.report.response_times = fast.chain(slow).collect();
        let mut us = Vec::new();
        self.latencies.for_each(|value, count| {
            us.push((value, count));
            true
        });
        let (name, method) = (self.report.name.clone(), self.report.method.clone());
        let fresh = Recorded::new(&name, &method, now);
        let done = std::mem::replace(self, fresh);
        (done.report, LatencyReport { name, method, us })
    }
}

/// Seconds only grow, so the last is the one.
fn count_second(seconds: &mut Vec<(i64, i64)>, second: i64) {
    match seconds.last_mut() {
        Some((last, count)) if *last == second => *count += 1,
        _ => seconds.push((second, 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::locust::stats::Stats;

    #[test]
    fn a_report_holds_what_was_recorded_once() {
        let mut recorder = WorkerStats::default();
        for (us, error) in [(1500.0, None), (250.0, Some("boom")), (120_000.0, None)] {
            recorder.record(&Sample { method: "GET", name: "/a", us, bytes: 10, error: error.map(str::to_owned), now: 50.0 });
        }
        let report = recorder.report(51.0, BTreeMap::from([("Shopper".to_owned(), 2)]));
        assert_eq!(report.stats[0].response_times, [(Number::Int(0), 1), (Number::Int(2), 1), (Number::Int(120), 1)]);
        assert_eq!(report.latencies[0].us, [(250, 1), (1500, 1), (120_000, 1)]);
        let mut stats = Stats::new(50.0, false);
        stats.merge(report, 51.0);
        assert_eq!((stats.total.num_requests, stats.total.num_failures), (3, 1));
        assert_eq!(stats.total.min_response_time, Some(Number::Float(0.25)));
        assert_eq!(stats.total.exact.quantile_us(0.5), Some(1500));
        assert_eq!(stats.errors[0].occurrences, 1);
        let second = recorder.report(54.0, BTreeMap::new());
        assert!(second.stats.is_empty() && second.errors.is_empty() && second.stats_total.num_requests == 0);
    }
}
