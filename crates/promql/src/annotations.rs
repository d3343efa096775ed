//! Warnings and infos, each once, with the place in the query.

use crate::ast::PosRange;
use std::collections::BTreeMap;

/// More distinct annotations than this are counted, not kept.
const MAX_KEPT: usize = 1_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Severity {
    Warning,
    Info,
}

/// The annotations of one query.
#[derive(Debug, Default)]
pub(crate) struct Annotations {
    /// By severity and text, so that each comes once and the order does not depend on that of the series.
    texts: BTreeMap<(Severity, String), ()>,
    /// Monotonicity repairs of one metric are told as one.
    monotonicity: BTreeMap<(String, usize), Monotonicity>,
    query: String,
}

/// What was repaired in the classic histograms of one metric.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Monotonicity {
    pub(crate) first_timestamp_ms: i64,
    pub(crate) last_timestamp_ms: i64,
    pub(crate) min_bucket: f64,
    pub(crate) max_bucket: f64,
    pub(crate) max_difference: f64,
    pub(crate) count: u64,
}

impl Annotations {
    pub(crate) fn new(query: &str) -> Self {
        Annotations { query: query.to_owned(), ..Annotations::default() }
    }

    pub(crate) fn warn(&mut self, range: PosRange, message: &str) {
        self.add(Severity::Warning, range, &format!("PromQL warning: {message}"));
    }

    pub(crate) fn info(&mut self, range: PosRange, message: &str) {
        self.add(Severity::Info, range, &format!("PromQL info: {message}"));
    }

    /// A warning from the storage, which has no place in the query.
    pub(crate) fn storage_warning(&mut self, message: String) {
        self.insert(Severity::Warning, message);
    }

    pub(crate) fn monotonicity(&mut self, metric: &str, range: PosRange, seen: Monotonicity) {
        if self.monotonicity.len() >= MAX_KEPT {
            return;
        }
        let known = self
            .monotonicity
            .entry((metric.to_owned(), range.start))
            .or_insert(Monotonicity { count: 0, ..seen });
        known.first_timestamp_ms = known.first_timestamp_ms.min(seen.first_timestamp_ms);
        known.last_timestamp_ms = known.last_timestamp_ms.max(seen.last_timestamp_ms);
        known.min_bucket = known.min_bucket.min(seen.min_bucket);
        known.max_bucket = known.max_bucket.max(seen.max_bucket);
        known.max_difference = known.max_difference.max(seen.max_difference);
        known.count += seen.count;
    }

    fn add(&mut self, severity: Severity, range: PosRange, message: &str) {
        let (line, column) = range.line_column(&self.query);
        self.insert(severity, format!("{message} ({line}:{column})"));
    }

    fn insert(&mut self, severity: Severity, text: String) {
        if self.texts.len() < MAX_KEPT {
            self.texts.insert((severity, text), ());
        }
    }

    /// Warnings and infos.
    pub(crate) fn into_texts(mut self) -> (Vec<String>, Vec<String>) {
        for ((metric, start), seen) in std::mem::take(&mut self.monotonicity) {
            let place =
                if metric.is_empty() { String::new() } else { format!(" for metric name {metric:?}") };
            let message = format!(
                "PromQL info: input to histogram_quantile needed to be fixed for monotonicity (see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile){place}, from buckets {} to {}, with a max diff of {:.2}, over {} samples from {} to {}",
                gantry_prom_model::format_float(seen.min_bucket),
                gantry_prom_model::format_float(seen.max_bucket),
                seen.max_difference,
                seen.count,
                rfc3339(seen.first_timestamp_ms),
                rfc3339(seen.last_timestamp_ms),
            );
            self.add(Severity::Info, PosRange::new(start, start), &message);
        }
        let mut warnings = Vec::new();
        let mut infos = Vec::new();
        for ((severity, text), ()) in self.texts {
            match severity {
                Severity::Warning => warnings.push(text),
                Severity::Info => infos.push(text),
            }
        }
        (warnings, infos)
    }
}

/// ` for metric name "x"`, or nothing when the name is not known.
pub(crate) fn for_metric(name: &str) -> String {
    if name.is_empty() { String::new() } else { format!(" for metric name {name:?}") }
}

fn rfc3339(timestamp_ms: i64) -> String {
    let civil = crate::calendar::Civil::from_unix_seconds(timestamp_ms.div_euclid(1000));
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        civil.year, civil.month, civil.day, civil.hour, civil.minute, civil.second
    )
}
