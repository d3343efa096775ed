//! The run as metrics: what a scrape of the generator sees while it works.

use gantry_prom_model::{Counter, CounterVec, Gauge, Histogram, HistogramVec, Registry, exponential_buckets};

use crate::recorder::{Counts, Window};

/// The instruments of one run in a registry of the caller's.
pub(crate) struct Series {
    requests: CounterVec<2>,
    failures: CounterVec<2>,
    intended: Vec<Histogram>,
    sent: Vec<Histogram>,
    lag: Histogram,
    pub(crate) users: Gauge,
    pub(crate) target: Gauge,
    pub(crate) in_flight: Gauge,
    bytes: Counter,
    names: Vec<String>,
}

impl Series {
    pub(crate) fn new(registry: &Registry, names: &[String]) -> Series {
        // From 100 µs to 52 s in steps of 1.5: fine enough for a p99 within 20 % by histogram_quantile.
        let bounds = exponential_buckets(0.0001, 1.5, 33);
        let duration: HistogramVec<2> = registry.histogram_vec(
            "gantry_load_request_duration_seconds",
            "Time to the answer, from when the request was due (intended) and from when it was sent (send).",
            ["request", "from"],
            &bounds,
        );
        let of = |from: &str| names.iter().map(|name| duration.with([name, from])).collect();
        Series {
            requests: registry.counter_vec(
                "gantry_load_requests_total",
                "Requests that ended, by status code; the code is 0 without an answer.",
                ["request", "code"],
            ),
            failures: registry.counter_vec(
                "gantry_load_failures_total",
                "Requests that failed, by reason.",
                ["request", "reason"],
            ),
            intended: of("intended"),
            sent: of("send"),
            lag: registry.histogram(
                "gantry_load_lag_seconds",
                "How late the generator itself was to start a request.",
                &bounds,
            ),
            users: registry.gauge("gantry_load_users", "Users that are active."),
            target: registry.gauge(
                "gantry_load_target",
                "What the scenario asks for now: users when it is closed, requests per second when it is open.",
            ),
            in_flight: registry.gauge("gantry_load_requests_in_flight", "Requests sent and not yet answered."),
            bytes: registry.counter("gantry_load_received_bytes_total", "Bytes of answers, heads included."),
            names: names.to_vec(),
        }
    }

    pub(crate) fn add(&self, window: &Window) {
        for (index, counts) in window.requests.iter().enumerate() {
            let Some(name) = self.names.get(index) else { continue };
            self.add_counts(index, name, counts);
        }
        window.lag.for_each(|us, times| observe(&self.lag, us, times));
    }

    fn add_counts(&self, index: usize, name: &str, counts: &Counts) {
        let mut answered = 0;
        for &(code, count) in &counts.codes {
            answered += count;
            self.requests.with([name, &code.to_string()]).inc_by(count);
        }
        if counts.requests > answered {
            self.requests.with([name, "0"]).inc_by(counts.requests - answered);
        }
        for (failure, count) in counts.failures() {
            self.failures.with([name, failure.name()]).inc_by(count);
        }
        self.bytes.inc_by(counts.bytes);
        if let Some(histogram) = self.intended.get(index) {
            counts.intended.for_each(|us, times| observe(histogram, us, times));
        }
        if let Some(histogram) = self.sent.get(index) {
            counts.sent.for_each(|us, times| observe(histogram, us, times));
        }
    }
}

fn observe(histogram: &Histogram, us: u64, times: u32) -> bool {
    for _ in 0..times {
        histogram.observe(us as f64 / 1e6);
    }
    true
}
