//! What a run came to, as data and as text.

use std::fmt::Write as _;

use serde::Serialize;

use crate::latency::Latencies;
use crate::recorder::{Counts, Window};
use crate::threshold::Outcome;

/// Past this, the generator's own lag is part of what "from the intended start" shows, and the summary says so.
const LATE_MS: f64 = 10.0;

/// One second of the run; latencies are those of requests that ended in it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Snapshot {
    /// Wall clock at its end.
    pub at_ms: i64,
    /// Seconds since the start of the run.
    pub elapsed: f64,
    /// What the scenario asks for: users when it is closed, requests per second when it is open.
    pub target: f64,
    pub users: u64,
    pub in_flight: u64,
    /// Requests that ended per second.
    pub rate: f64,
    pub failed: u64,
    pub error_rate: f64,
    pub intended: LatencySummary,
    pub sent: LatencySummary,
    pub lag_p99_ms: Option<f64>,
    pub total_requests: u64,
    pub total_failed: u64,
    pub requests: Vec<RequestSnapshot>,
}

/// One kind of request in one second.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RequestSnapshot {
    pub name: String,
    pub rate: f64,
    pub failed: u64,
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
}

/// Percentiles in milliseconds, exact to the microsecond; empty when nothing was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct LatencySummary {
    pub count: u64,
    pub mean_ms: Option<f64>,
    pub p50_ms: Option<f64>,
    pub p90_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    pub p999_ms: Option<f64>,
    pub max_ms: Option<f64>,
}

/// One kind of request, or all of them, over the whole run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RequestSummary {
    pub name: String,
    pub requests: u64,
    pub failed: u64,
    pub error_rate: f64,
    /// Requests that ended per second.
    pub rate: f64,
    pub bytes: u64,
    /// From when the request was due. The honest one: it includes waiting that the target caused.
    pub intended: LatencySummary,
    /// From when the request was sent.
    pub sent: LatencySummary,
    /// Answers by status.
    pub codes: Vec<(u16, u64)>,
    /// Failures by reason.
    pub failures: Vec<(String, u64)>,
}

/// How the generator itself did.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct GeneratorSummary {
    pub threads: u64,
    pub connects: u64,
    /// From when a request was due until the generator turned to it.
    pub lag: LatencySummary,
    /// The lag is large enough to be seen in the results.
    pub late: bool,
    /// False when so many different latencies were seen that some had to be rounded up.
    pub exact: bool,
}

/// The whole run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    pub scenario: String,
    pub target: String,
    pub started_ms: i64,
    pub seconds: f64,
    pub total: RequestSummary,
    pub requests: Vec<RequestSummary>,
    pub generator: GeneratorSummary,
    pub thresholds: Vec<Outcome>,
    /// Why the run ended before its time.
    pub ended_early: Option<String>,
    /// Every threshold held and the run was not cut short by one.
    pub passed: bool,
    pub timeline: Vec<Snapshot>,
}

// === impl LatencySummary ===

impl LatencySummary {
    pub(crate) fn of(latencies: &Latencies) -> LatencySummary {
        let quantiles = latencies.quantiles_us(&[0.5, 0.9, 0.99, 0.999]);
        let ms = |index: usize| quantiles.get(index).copied().flatten().map(|us| us as f64 / 1000.0);
        LatencySummary {
            count: latencies.count(),
            mean_ms: latencies.mean_us().map(|us| us / 1000.0),
            p50_ms: ms(0),
            p90_ms: ms(1),
            p99_ms: ms(2),
            p999_ms: ms(3),
            max_ms: (latencies.count() > 0).then(|| latencies.max_us() as f64 / 1000.0),
        }
    }
}

// === impl RequestSummary ===

impl RequestSummary {
    pub(crate) fn of(name: &str, counts: &Counts, seconds: f64) -> RequestSummary {
        let mut codes = counts.codes.clone();
        codes.sort_unstable();
        RequestSummary {
            name: name.to_owned(),
            requests: counts.requests,
            failed: counts.failed(),
            error_rate: share(counts.failed(), counts.requests),
            rate: if seconds > 0.0 { counts.requests as f64 / seconds } else { 0.0 },
            bytes: counts.bytes,
            intended: LatencySummary::of(&counts.intended),
            sent: LatencySummary::of(&counts.sent),
            codes,
            failures: counts.failures().map(|(failure, count)| (failure.name().to_owned(), count)).collect(),
        }
    }
}

// === impl GeneratorSummary ===

impl GeneratorSummary {
    pub(crate) fn of(whole: &Window, threads: u64, connects: u64) -> GeneratorSummary {
        let lag = LatencySummary::of(&whole.lag);
        GeneratorSummary {
            threads,
            connects,
            lag,
            late: lag.p99_ms.is_some_and(|ms| ms > LATE_MS),
            exact: whole.requests.iter().all(|counts| counts.intended.is_exact() && counts.sent.is_exact()),
        }
    }
}

// === impl Summary ===

impl Summary {
    /// A table of requests, then what went wrong, then the verdicts.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        let width = self.requests.iter().map(|r| r.name.chars().count()).max().unwrap_or(0).clamp(7, 40);
        let _ = writeln!(
            text,
            "{:width$}  {:>9}  {:>8}  {:>9}  {:>9}  {:>9}  {:>9}  {:>9}  {:>9}",
            "request", "requests", "failed", "rate/s", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "max ms"
        );
        let many = self.requests.len() > 1;
        for row in self.requests.iter().chain(many.then_some(&self.total)) {
            let latency = &row.intended;
            let name: String = row.name.chars().take(width).collect();
            let _ = writeln!(
                text,
                "{name:width$}  {:>9}  {:>8}  {:>9}  {:>9}  {:>9}  {:>9}  {:>9}  {:>9}",
                row.requests,
                row.failed,
                three_digits(row.rate),
                ms(latency.p50_ms),
                ms(latency.p90_ms),
                ms(latency.p99_ms),
                ms(latency.p999_ms),
                ms(latency.max_ms),
            );
        }
        let sent = &self.total.sent;
        let _ = writeln!(
            text,
            "\nLatency is from the intended start. From the actual send: p50 {} ms, p99 {} ms, max {} ms.",
            ms(sent.p50_ms),
            ms(sent.p99_ms),
            ms(sent.max_ms)
        );
        if !self.total.failures.is_empty() {
            let reasons = self.total.failures.iter().map(|(reason, count)| format!("{count} {reason}"));
            let _ = writeln!(text, "Failed: {}", reasons.collect::<Vec<_>>().join(", "));
        }
        if self.total.codes.iter().any(|(code, _)| *code >= 400) {
            let codes = self.total.codes.iter().map(|(code, count)| format!("{count} × {code}"));
            let _ = writeln!(text, "Answers: {}", codes.collect::<Vec<_>>().join(", "));
        }
        if self.generator.late {
            let _ = writeln!(
                text,
                "The generator itself was late (p99 {} ms): latencies from the intended start include that.",
                ms(self.generator.lag.p99_ms)
            );
        }
        if !self.generator.exact {
            text.push_str("Some slow latencies were rounded up to a second: more than 65,536 distinct ranges were seen.\n");
        }
        if let Some(reason) = &self.ended_early {
            let _ = writeln!(text, "Ended early: {reason}");
        }
        for outcome in &self.thresholds {
            let verdict = if outcome.passed { "ok    " } else { "FAILED" };
            let _ = writeln!(text, "{verdict}  {}  (measured {})", outcome.threshold, outcome.measured);
        }
        text
    }
}

pub(crate) fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn ms(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), three_digits)
}

/// At most three significant digits, whole numbers in full.
pub(crate) fn three_digits(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 || v == 0.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
