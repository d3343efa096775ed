//! The clock trait, Go and Prometheus durations, back-off.
//!
//! Everything that depends on time takes a [`Clock`], everything that depends on chance takes a seed,
//! so that a run can be repeated exactly.
#![forbid(unsafe_code)]

mod backoff;
mod civil;
mod duration;
mod go_duration;
mod prometheus_duration;

pub use backoff::{Backoff, BackoffConfig};
pub use civil::{CivilTime, format_rfc3339, parse_rfc3339};
pub use duration::DurationError;
pub use go_duration::{format_go_duration, parse_go_duration, parse_go_duration_unsigned};
pub use prometheus_duration::{format_prometheus_duration, parse_prometheus_duration};

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where the time comes from.
pub trait Clock: Send + Sync {
    /// Milliseconds since the Unix epoch. May jump when the machine's clock is set.
    fn now_ms(&self) -> i64;

    /// Time since an arbitrary fixed point; never goes back.
    fn monotonic(&self) -> Duration;
}

impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn now_ms(&self) -> i64 {
        (**self).now_ms()
    }

    fn monotonic(&self) -> Duration {
        (**self).monotonic()
    }
}

impl<C: Clock + ?Sized> Clock for &C {
    fn now_ms(&self) -> i64 {
        (**self).now_ms()
    }

    fn monotonic(&self) -> Duration {
        (**self).monotonic()
    }
}

/// The machine's clock.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    pub fn new() -> Self {
        SystemClock { started: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        SystemClock::new()
    }
}

impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
        }
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}

/// A clock that moves only when told to. Clones share the time.
#[derive(Debug, Clone, Default)]
pub struct ManualClock {
    time: Arc<ManualTime>,
}

#[derive(Debug, Default)]
struct ManualTime {
    wall_ms: AtomicI64,
    monotonic_nanos: AtomicU64,
}

impl ManualClock {
    /// A clock standing at `now_ms` since the epoch, with the monotonic time at zero.
    pub fn new(now_ms: i64) -> Self {
        let clock = ManualClock::default();
        clock.time.wall_ms.store(now_ms, Ordering::SeqCst);
        clock
    }

    /// Moves both the wall clock and the monotonic time forward.
    pub fn advance(&self, by: Duration) {
        let ms = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        self.time.wall_ms.fetch_add(ms, Ordering::SeqCst);
        self.time.monotonic_nanos.fetch_add(nanos, Ordering::SeqCst);
    }

    /// Sets the wall clock alone, as an administrator or NTP would; the monotonic time stays.
    pub fn set_wall_ms(&self, now_ms: i64) {
        self.time.wall_ms.store(now_ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> i64 {
        self.time.wall_ms.load(Ordering::SeqCst)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.time.monotonic_nanos.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_when_told() {
        let clock = ManualClock::new(1_000);
        let shared = clock.clone();
        clock.advance(Duration::from_millis(250));
        assert_eq!(shared.now_ms(), 1_250);
        assert_eq!(shared.monotonic(), Duration::from_millis(250));
        clock.set_wall_ms(5);
        assert_eq!((shared.now_ms(), shared.monotonic()), (5, Duration::from_millis(250)));
    }

    #[test]
    fn the_system_clock_is_after_2020() {
        assert!(SystemClock::new().now_ms() > 1_577_836_800_000);
    }
}
