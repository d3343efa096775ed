//! Anchored and smoothed rates, and smoothed values, of native histograms.

use super::Evaluator;
use super::rate::{RateKind, extended_bounds, mixed_schemas, not_a_counter, not_a_gauge};
use super::selector::Window;
use super::series::Cell;
use crate::ast::{Extension, PosRange};
use gantry_prom_model::{CounterResetHint, FloatHistogram, HistogramError};
use std::sync::Arc;

/// The histogram between two samples, `share` of the way; after a reset the counter began at zero. The flag says
/// whether there was one.
pub(super) fn between(
    before: &FloatHistogram,
    after: &FloatHistogram,
    share: f64,
    is_counter: bool,
) -> Result<(FloatHistogram, bool), HistogramError> {
    let mut result = after.clone();
    let is_reset = is_counter && after.is_reset_after(before);
    if before.uses_custom_buckets() != after.uses_custom_buckets() {
        return Err(HistogramError::MixedSchemas);
    }
    if is_reset {
        result.scale(share);
    } else {
        result.subtract(before)?;
        result.scale(share);
        result.add(before)?;
    }
    // A hint is about two samples, and this is none.
    if result.counter_reset_hint != CounterResetHint::Gauge {
        result.counter_reset_hint = CounterResetHint::Unknown;
    }
    Ok((result, is_reset))
}

fn share(times: &[i64], index: usize, at: i64) -> f64 {
    (at - times[index]) as f64 / (times[index + 1] - times[index]) as f64
}

impl Evaluator<'_> {
    pub(super) fn extended_histogram_rate(
        &mut self,
        window: &Window<'_>,
        kind: RateKind,
        range: PosRange,
    ) -> Cell {
        let is_smoothed = window.extension == Extension::Smoothed;
        let times = window.histogram_times;
        let Some((first, last)) = extended_bounds(times, window.range_start, window.range_end, is_smoothed)
        else {
            return Cell::Absent;
        };
        let used = &window.histograms[first..=last];
        let is_gauge = |histogram: &FloatHistogram| histogram.counter_reset_hint == CounterResetHint::Gauge;
        let name = window.metric_name();
        if kind.is_counter && used.iter().any(|histogram| is_gauge(histogram)) {
            not_a_counter(&mut self.annotations, name, range);
        }
        if !kind.is_counter && (!is_gauge(&window.histograms[first]) || !is_gauge(&window.histograms[last])) {
            not_a_gauge(&mut self.annotations, name, range);
        }
        match extended_increase(window, (first, last), is_smoothed, kind) {
            Ok(mut increase) => {
                if kind.is_rate {
                    increase.divide(window.range_seconds());
                }
                increase.counter_reset_hint = CounterResetHint::Gauge;
                increase.compact();
                Cell::Histogram(Arc::new(increase))
            }
            Err(HistogramError::MixedSchemas) => {
                mixed_schemas(&mut self.annotations, name, range);
                Cell::Absent
            }
        }
    }
}

fn extended_increase(
    window: &Window<'_>,
    (mut first, last): (usize, usize),
    is_smoothed: bool,
    kind: RateKind,
) -> Result<FloatHistogram, HistogramError> {
    let (times, histograms) = (window.histogram_times, window.histograms);
    let is_left_between = is_smoothed && times[first] < window.range_start && first + 1 < times.len();
    let is_right_between = is_smoothed && last > 0 && times[last] > window.range_end;
    let (left, is_left_reset) = if is_left_between {
        let at = share(times, first, window.range_start);
        between(&histograms[first], &histograms[first + 1], at, kind.is_counter)?
    } else {
        ((*histograms[first]).clone(), false)
    };
    let (right, _) = if is_right_between {
        let at = share(times, last - 1, window.range_end);
        between(&histograms[last - 1], &histograms[last], at, kind.is_counter)?
    } else {
        ((*histograms[last]).clone(), false)
    };
    let mut increase = right.clone();
    increase.subtract(&left)?;
    let is_one_segment = is_left_between && is_right_between && last == first + 1;
    if !kind.is_counter || is_one_segment {
        return Ok(increase);
    }
    // Resets at the bounds are in their values already; what is left are those between the samples inside.
    if times[first] <= window.range_start {
        first += 1;
    }
    let end = if times[last] >= window.range_end { last } else { last + 1 };
    let inner = histograms.get(first..end).unwrap_or(&[]);
    let mut previous: &FloatHistogram = &left;
    let mut is_known_reset = is_left_reset;
    for histogram in inner {
        if !std::mem::take(&mut is_known_reset) && histogram.is_reset_after(previous) {
            increase.add(previous)?;
        }
        previous = histogram;
    }
    if right.is_reset_after(previous) && !(inner.is_empty() && is_known_reset) {
        increase.add(previous)?;
    }
    Ok(increase)
}
