//! What one thread counts between two collections.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::client::Exchange;
use crate::latency::Latencies;

/// Why a request has no (good) answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Failure {
    /// The connection could not be made.
    Connect,
    /// The TLS handshake failed.
    Tls,
    /// No complete answer within the request's timeout.
    Timeout,
    /// The target closed or reset the connection before the answer was complete.
    Closed,
    /// The answer is not HTTP/1.1.
    Protocol,
    /// An answer with a status that the scenario does not expect.
    Status,
    /// Never sent: too many requests were in flight and too many were waiting.
    Dropped,
    /// In flight when the run ended and its grace period with it.
    Unfinished,
}

impl Failure {
    pub(crate) const ALL: [Failure; 8] = [
        Failure::Connect,
        Failure::Tls,
        Failure::Timeout,
        Failure::Closed,
        Failure::Protocol,
        Failure::Status,
        Failure::Dropped,
        Failure::Unfinished,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Failure::Connect => "connect",
            Failure::Tls => "tls",
            Failure::Timeout => "timeout",
            Failure::Closed => "closed",
            Failure::Protocol => "protocol",
            Failure::Status => "status",
            Failure::Dropped => "dropped",
            Failure::Unfinished => "unfinished",
        }
    }

    pub(crate) fn from_io(error: &io::Error) -> Failure {
        tracing::debug!(%error, "connection to the target failed");
        Failure::Closed
    }
}

/// The counts of one request of the scenario.
#[derive(Clone, Default)]
pub(crate) struct Counts {
    /// From the moment it was due to its answer; answers of any status, and timeouts with the time they took.
    pub(crate) intended: Latencies,
    /// From the moment its bytes were sent.
    pub(crate) sent: Latencies,
    pub(crate) codes: Vec<(u16, u64)>,
    failures: [u64; Failure::ALL.len()],
    pub(crate) bytes: u64,
    pub(crate) requests: u64,
}

/// Everything counted since the last collection.
#[derive(Clone, Default)]
pub(crate) struct Window {
    pub(crate) requests: Vec<Counts>,
    /// How late the generator itself was.
    pub(crate) lag: Latencies,
}

/// Where one thread writes and the collector reads.
#[derive(Clone)]
pub(crate) struct Recorder {
    window: Arc<Mutex<Window>>,
    gauges: Arc<Gauges>,
}

#[derive(Default)]
pub(crate) struct Gauges {
    pub(crate) users: AtomicU64,
    pub(crate) in_flight: AtomicU64,
    pub(crate) connects: AtomicU64,
}

// === impl Counts ===

impl Counts {
    pub(crate) fn failed(&self) -> u64 {
        self.failures.iter().sum()
    }

    pub(crate) fn failures(&self) -> impl Iterator<Item = (Failure, u64)> + '_ {
        Failure::ALL.into_iter().zip(self.failures).filter(|(_, count)| *count > 0)
    }

    fn fail(&mut self, failure: Failure) {
        if let Some(count) = self.failures.get_mut(failure as usize) {
            *count += 1;
        }
    }

    pub(crate) fn merge(&mut self, other: &Counts) {
        self.intended.merge(&other.intended);
        self.sent.merge(&other.sent);
        self.bytes += other.bytes;
        self.requests += other.requests;
        for (mine, theirs) in self.failures.iter_mut().zip(other.failures) {
            *mine += theirs;
        }
        for &(code, count) in &other.codes {
            self.count_code(code, count);
        }
    }

    /// At most 900 codes exist: httparse takes three digits.
    fn count_code(&mut self, code: u16, times: u64) {
        match self.codes.iter_mut().find(|(known, _)| *known == code) {
            Some((_, count)) => *count += times,
            None => self.codes.push((code, times)),
        }
    }
}

// === impl Window ===

impl Window {
    pub(crate) fn new(requests: usize) -> Window {
        Window { requests: vec![Counts::default(); requests], lag: Latencies::new() }
    }

    pub(crate) fn merge(&mut self, other: &Window) {
        for (mine, theirs) in self.requests.iter_mut().zip(&other.requests) {
            mine.merge(theirs);
        }
        self.lag.merge(&other.lag);
    }

    /// All requests together.
    pub(crate) fn total(&self) -> Counts {
        let mut total = Counts::default();
        self.requests.iter().for_each(|counts| total.merge(counts));
        total
    }
}

// === impl Recorder ===

impl Recorder {
    pub(crate) fn new(requests: usize) -> Recorder {
        Recorder { window: Arc::new(Mutex::new(Window::new(requests))), gauges: Arc::default() }
    }

    pub(crate) fn gauges(&self) -> &Gauges {
        &self.gauges
    }

    pub(crate) fn user_came(&self) {
        self.gauges.users.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn user_left(&self) {
        self.gauges.users.fetch_sub(1, Ordering::Relaxed);
    }

    /// One request came to an end. `due` is its intended start, `began` when the generator turned to it.
    pub(crate) fn record(
        &self,
        request: usize,
        due: Duration,
        began: Duration,
        exchange: &Exchange,
        expected: impl FnOnce(u16) -> bool,
    ) {
        let mut window = self.window.lock();
        window.lag.record(microseconds(began, due));
        let Some(counts) = window.requests.get_mut(request) else { return };
        counts.requests += 1;
        counts.bytes += exchange.bytes;
        match exchange.outcome {
            Ok(status) => {
                counts.count_code(status, 1);
                if !expected(status) {
                    counts.fail(Failure::Status);
                }
            }
            Err(failure) => {
                counts.fail(failure);
                if failure != Failure::Timeout {
                    return;
                }
            }
        }
        counts.intended.record(microseconds(exchange.finished, due));
        counts.sent.record(microseconds(exchange.finished, exchange.sent));
    }

    /// A request that never got so far as to be sent, or never came back.
    pub(crate) fn record_failure(&self, request: usize, failure: Failure) {
        if let Some(counts) = self.window.lock().requests.get_mut(request) {
            counts.requests += 1;
            counts.fail(failure);
        }
    }

    /// Takes what was counted and starts anew.
    pub(crate) fn take(&self) -> Window {
        let mut window = self.window.lock();
        let fresh = Window::new(window.requests.len());
        std::mem::replace(&mut *window, fresh)
    }
}

fn microseconds(later: Duration, earlier: Duration) -> u64 {
    u64::try_from(later.saturating_sub(earlier).as_micros()).unwrap_or(u64::MAX)
}
