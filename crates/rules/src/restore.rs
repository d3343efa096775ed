//! Restoring alerts after a restart: an alert that was pending goes on waiting from where it was.
//!
//! What is known is in the series `ALERTS_FOR_STATE`, whose value is the Unix second since which an alert is active.

use std::collections::HashMap;

use gantry_prom_model::{
    Labels, METRIC_NAME, Matcher, SampleBuffer, SelectHints, StorageError, is_stale_nan,
};

use crate::alerting::{ALERT_NAME, FOR_STATE_SERIES};
use crate::environment::Environment;
use crate::group::Group;

/// The last known state of an alert.
#[derive(Debug, Clone, Copy, PartialEq)]
struct KnownState {
    /// When it was written last.
    seen_ms: i64,
    active_at_ms: i64,
}

impl Group {
    /// Restores the alerts of all rules as of `now_ms`.
    pub(crate) fn restore(&self, now_ms: i64) {
        let environment = self.environment();
        let started = environment.clock.monotonic();
        for rule in &self.rules {
            let Some(alerting) = rule.alerting() else { continue };
            // An alert that fires sooner than the grace period gains nothing by being restored.
            if alerting.hold_ms >= environment.for_grace_period_ms && !alerting.is_restored() {
                match known_states(&environment, &rule.name, now_ms) {
                    Ok(known) => alerting.for_each_active(|alert| {
                        if let Some(state) = known.get(&alert.labels) {
                            alert.active_at_ms =
                                restored(*state, alerting.hold_ms, environment.for_grace_period_ms, now_ms)
                                    .unwrap_or(state.active_at_ms);
                        }
                    }),
                    Err(error) => {
                        tracing::error!(group = %self.name, alert = %rule.name, %error, "the state of an alert could not be restored; it waits anew");
                    }
                }
            }
            alerting.set_restored();
        }
        let seconds = environment.clock.monotonic().saturating_sub(started).as_secs_f64();
        environment.metrics.last_restore_seconds.with([&self.key()]).set(seconds);
    }
}

/// Since when an alert counts as active; `None` leaves it as it was.
fn restored(state: KnownState, hold_ms: i64, grace_ms: i64, now_ms: i64) -> Option<i64> {
    let waited = state.seen_ms - state.active_at_ms;
    let remaining = hold_ms - waited;
    if remaining <= 0 {
        // It was firing, and fires again at the next evaluation.
        None
    } else if remaining < grace_ms {
        Some(now_ms + grace_ms - hold_ms)
    } else {
        // The outage does not count as waiting.
        Some(state.active_at_ms + (now_ms - state.seen_ms))
    }
}

/// The last state of each alert of a rule within the tolerated outage, by the alert's labels.
fn known_states(
    environment: &Environment,
    alert: &str,
    now_ms: i64,
) -> Result<HashMap<Labels, KnownState>, StorageError> {
    let from_ms = now_ms - environment.outage_tolerance_ms;
    let querier = environment.storage.querier(from_ms, now_ms)?;
    let matchers = [Matcher::equal(METRIC_NAME, FOR_STATE_SERIES), Matcher::equal(ALERT_NAME, alert)];
    let mut set = querier.select(false, &SelectHints::range(from_ms, now_ms), &matchers)?;
    let mut known = HashMap::new();
    let mut samples = SampleBuffer::default();
    while set.advance()? {
        samples.clear();
        set.fill(from_ms, now_ms, &mut samples)?;
        let (Some(seen_ms), Some(value)) = (samples.timestamps.last(), samples.values.last()) else {
            continue;
        };
        // A stale marker: the alert was not active any more.
        if is_stale_nan(*value) || !value.is_finite() {
            continue;
        }
        let state = KnownState { seen_ms: *seen_ms, active_at_ms: (*value as i64).saturating_mul(1000) };
        known.insert(set.labels().without_name(), state);
    }
    Ok(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;

    #[test]
    fn waiting_goes_on_where_it_was() {
        let state = KnownState { seen_ms: 10 * MINUTE, active_at_ms: 4 * MINUTE };
        // Six of thirty minutes waited, then an outage of five.
        assert_eq!(restored(state, 30 * MINUTE, 10 * MINUTE, 15 * MINUTE), Some(9 * MINUTE));
        // Two minutes were left: it gets the grace period instead.
        assert_eq!(restored(state, 8 * MINUTE, 10 * MINUTE, 15 * MINUTE), Some(17 * MINUTE));
        // It was firing.
        assert_eq!(restored(state, 6 * MINUTE, 10 * MINUTE, 15 * MINUTE), None);
    }
}
