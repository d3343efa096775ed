//! The rate family: `rate`, `increase`, `delta`, `irate`, `idelta`.

use super::Evaluator;
use super::selector::Window;
use super::series::Cell;
use crate::annotations::Annotations;
use crate::ast::{Extension, PosRange};
use crate::engine::QueryError;
use gantry_prom_model::{CounterResetHint, FloatHistogram, SampleBuffer};
use std::sync::Arc;

/// What distinguishes the members of the family.
#[derive(Debug, Clone, Copy)]
pub(super) struct RateKind {
    /// Falling values are resets.
    pub(super) is_counter: bool,
    /// Per second.
    pub(super) is_rate: bool,
}

pub(super) fn mixed_floats_histograms(annotations: &mut Annotations, name: &str, range: PosRange) {
    annotations.warn(range, &format!("encountered a mix of histograms and floats for metric name {name:?}"));
}

pub(super) fn mixed_schemas(annotations: &mut Annotations, name: &str, range: PosRange) {
    let message = format!(
        "vector contains a mix of histograms with exponential and custom buckets schemas for metric name {name:?}"
    );
    annotations.warn(range, &message);
}

pub(super) fn reconciled_bounds(annotations: &mut Annotations, operation: &str, range: PosRange) {
    annotations.info(range, &format!("mismatched custom buckets were reconciled during {operation}"));
}

pub(super) fn not_a_counter(annotations: &mut Annotations, name: &str, range: PosRange) {
    annotations.warn(range, &format!("this native histogram metric is not a counter: {name:?}"));
}

pub(super) fn not_a_gauge(annotations: &mut Annotations, name: &str, range: PosRange) {
    annotations.warn(range, &format!("this native histogram metric is not a gauge: {name:?}"));
}

/// Whether the start times of two neighbours say that the counting began anew between them.
pub(super) fn is_start_time_reset(starts: &[i64], times: &[i64], index: usize) -> bool {
    let (Some(previous_start), Some(start)) = (starts.get(index), starts.get(index + 1)) else {
        return false;
    };
    let (previous_time, time) = (times[index], times[index + 1]);
    // Unknown, or not before the sample it belongs to, as some send it for "unknown".
    if *start == 0 || *start >= time || *start < previous_time {
        return false;
    }
    // Counting from the sample before is a delta, if that one knew its own start.
    *start > previous_time || (*previous_start != 0 && *previous_start < previous_time)
}

/// The start of the first sample's counting, if it lies inside the window: the value was zero then.
fn zero_time(starts: &[i64], times: &[i64], range_start: i64) -> Option<i64> {
    let start = *starts.first()?;
    (start != 0 && start < *times.first()? && start > range_start).then_some(start)
}

impl Evaluator<'_> {
    fn starts<'w>(&self, starts: &'w [i64]) -> &'w [i64] {
        if self.options.use_start_timestamps { starts } else { &[] }
    }

    /// `rate`, `increase` and `delta`, extrapolated to the bounds of the window.
    pub(super) fn rate(
        &mut self,
        window: &Window<'_>,
        kind: RateKind,
        range: PosRange,
    ) -> Result<Cell, QueryError> {
        if !window.values.is_empty() && !window.histograms.is_empty() {
            mixed_floats_histograms(&mut self.annotations, window.metric_name(), range);
            return Ok(Cell::Absent);
        }
        if window.extension != Extension::None {
            return Ok(if window.histograms.is_empty() {
                extended_rate(window, kind)
            } else {
                self.extended_histogram_rate(window, kind, range)
            });
        }
        self.warn_overlapping_starts(window, range);
        let starts = self.starts(window.start_times);
        let zero = zero_time(starts, window.times, window.range_start).filter(|_| kind.is_counter);
        if let [first, .., last] = window.values
            && (zero.is_some() || window.values.len() > 1)
        {
            return Ok(Cell::Float(float_rate(window, starts, zero, (*first, *last), kind)));
        }
        if let ([only], Some(_)) = (window.values, zero) {
            return Ok(Cell::Float(float_rate(window, starts, zero, (*only, *only), kind)));
        }
        let starts = self.starts(window.histogram_start_times);
        let zero = zero_time(starts, window.histogram_times, window.range_start).filter(|_| kind.is_counter);
        if window.histograms.len() < 2 && (window.histograms.is_empty() || zero.is_none()) {
            return Ok(Cell::Absent);
        }
        let Some(mut increase) = self.histogram_increase(window, zero.is_some(), kind, range) else {
            return Ok(Cell::Absent);
        };
        let first_count = window.histograms[0].count;
        let zero_point = (increase.count > 0.0 && first_count >= 0.0).then(|| first_count / increase.count);
        increase.scale(extrapolation(window, window.histogram_times, zero, kind, zero_point));
        Ok(Cell::Histogram(Arc::new(increase)))
    }

    /// Start times that reach behind the sample before contradict it.
    fn warn_overlapping_starts(&mut self, window: &Window<'_>, range: PosRange) {
        let columns = [
            (self.starts(window.start_times), window.times),
            (self.starts(window.histogram_start_times), window.histogram_times),
        ];
        for (starts, times) in columns {
            let overlaps = starts
                .windows(2)
                .zip(times)
                .any(|(pair, previous_time)| pair[1] != 0 && pair[1] < *previous_time && pair[1] != pair[0]);
            if overlaps {
                let message = format!(
                    "sample has start time that overlaps with previous sample timestamp for metric {:?}",
                    window.metric_name()
                );
                self.annotations.warn(range, &message);
            }
        }
    }

    /// The difference of the last and the first histogram with resets undone; `None` when the layouts do not
    /// go together.
    fn histogram_increase(
        &mut self,
        window: &Window<'_>,
        begins_at_zero: bool,
        kind: RateKind,
        range: PosRange,
    ) -> Option<FloatHistogram> {
        let name = window.metric_name().to_owned();
        let starts = self.starts(window.histogram_start_times);
        let annotations = &mut self.annotations;
        let histograms = window.histograms;
        let (first, last) = (histograms.first()?, histograms.last()?);
        let is_gauge = |histogram: &FloatHistogram| histogram.counter_reset_hint == CounterResetHint::Gauge;
        if kind.is_counter && histograms.iter().any(|histogram| is_gauge(histogram)) {
            not_a_counter(annotations, &name, range);
        }
        let is_reset = |index: usize, previous: &FloatHistogram| {
            is_start_time_reset(starts, window.histogram_times, index)
                || histograms[index + 1].is_reset_after(previous)
        };
        let empty_like = |histogram: &FloatHistogram| {
            Arc::new(FloatHistogram {
                schema: histogram.schema,
                custom_values: Arc::clone(&histogram.custom_values),
                ..FloatHistogram::default()
            })
        };
        // When the counting starts again right after the first sample, nothing of that sample matters.
        let mut previous: Arc<FloatHistogram> = Arc::clone(first);
        if begins_at_zero {
            previous = empty_like(first);
        } else if kind.is_counter && is_reset(0, first) {
            previous = empty_like(&histograms[1]);
        }
        let is_custom = previous.uses_custom_buckets();
        let mut schema = last.schema.min(previous.schema);
        let mut is_mixed = last.uses_custom_buckets() != is_custom;
        if kind.is_counter && histograms.len() > 2 {
            for histogram in &histograms[1..histograms.len() - 1] {
                schema = schema.min(histogram.schema);
                is_mixed |= histogram.uses_custom_buckets() != is_custom;
            }
        }
        if is_mixed {
            mixed_schemas(annotations, &name, range);
            return None;
        }
        let mut increase = last.at_schema(schema);
        if increase.subtract(&previous).ok()?.custom_bounds {
            reconciled_bounds(annotations, "subtraction", range);
        }
        if kind.is_counter {
            if begins_at_zero {
                previous = Arc::clone(first);
            }
            for (index, histogram) in histograms[1..].iter().enumerate() {
                if is_reset(index, &previous) && increase.add(&previous).ok()?.custom_bounds {
                    reconciled_bounds(annotations, "addition", range);
                }
                previous = Arc::clone(histogram);
            }
        } else if !is_gauge(first) || !is_gauge(last) {
            not_a_gauge(annotations, &name, range);
        }
        increase.counter_reset_hint = CounterResetHint::Gauge;
        increase.compact();
        Some(increase)
    }

    /// `irate` and `idelta`: from the last two samples alone.
    pub(super) fn instant_rate(
        &mut self,
        window: &Window<'_>,
        is_rate: bool,
        range: PosRange,
    ) -> Result<Cell, QueryError> {
        let mut latest: Vec<(i64, Option<usize>, Option<usize>)> = Vec::with_capacity(4);
        for index in window.times.len().saturating_sub(2)..window.times.len() {
            latest.push((window.times[index], Some(index), None));
        }
        for index in window.histogram_times.len().saturating_sub(2)..window.histogram_times.len() {
            latest.push((window.histogram_times[index], None, Some(index)));
        }
        latest.sort_by_key(|(time, ..)| *time);
        let [.., (first_time, first_float, first_histogram), (last_time, last_float, last_histogram)] =
            latest[..]
        else {
            return Ok(Cell::Absent);
        };
        let seconds = (last_time - first_time) as f64 / 1000.0;
        if seconds == 0.0 {
            return Ok(Cell::Absent);
        }
        match (first_float, last_float, first_histogram, last_histogram) {
            (Some(first), Some(last), _, _) => {
                let (before, now) = (window.values[first], window.values[last]);
                let starts = self.starts(window.start_times);
                let is_reset = is_rate && (now < before || is_start_time_reset(starts, window.times, first));
                let difference = if is_reset { now } else { now - before };
                Ok(Cell::Float(if is_rate { difference / seconds } else { difference }))
            }
            (_, _, Some(first), Some(last)) => {
                let (before, now) = (&window.histograms[first], &window.histograms[last]);
                let is_start_reset = is_start_time_reset(
                    self.starts(window.histogram_start_times),
                    window.histogram_times,
                    first,
                );
                Ok(self.instant_histogram(window, (before, now), is_start_reset, is_rate, seconds, range))
            }
            _ => {
                mixed_floats_histograms(&mut self.annotations, window.metric_name(), range);
                Ok(Cell::Absent)
            }
        }
    }

    fn instant_histogram(
        &mut self,
        window: &Window<'_>,
        (before, now): (&FloatHistogram, &FloatHistogram),
        is_start_reset: bool,
        is_rate: bool,
        seconds: f64,
        range: PosRange,
    ) -> Cell {
        let name = window.metric_name();
        let is_gauge = |histogram: &FloatHistogram| histogram.counter_reset_hint == CounterResetHint::Gauge;
        if is_rate && (is_gauge(before) || is_gauge(now)) {
            not_a_counter(&mut self.annotations, name, range);
        }
        if !is_rate && (!is_gauge(before) || !is_gauge(now)) {
            not_a_gauge(&mut self.annotations, name, range);
        }
        let mut difference = now.clone();
        if !is_rate || (!is_start_reset && !now.is_reset_after(before)) {
            match difference.subtract(before) {
                Ok(reconciled) if reconciled.custom_bounds => {
                    reconciled_bounds(&mut self.annotations, "subtraction", range);
                }
                Ok(_) => {}
                Err(_) => {
                    mixed_schemas(&mut self.annotations, name, range);
                    return Cell::Absent;
                }
            }
        }
        difference.counter_reset_hint = CounterResetHint::Gauge;
        difference.compact();
        if is_rate {
            difference.divide(seconds);
        }
        Cell::Histogram(Arc::new(difference))
    }
}

/// The rate or increase between the ends, resets undone. With `zero` the counting began there, inside the window.
fn float_rate(
    window: &Window<'_>,
    starts: &[i64],
    zero: Option<i64>,
    (first, last): (f64, f64),
    kind: RateKind,
) -> f64 {
    let mut increase = if zero.is_some() { last } else { last - first };
    if kind.is_counter {
        for (index, pair) in window.values.windows(2).enumerate() {
            if pair[1] < pair[0] || is_start_time_reset(starts, window.times, index) {
                increase += pair[0];
            }
        }
    }
    let zero_point = (increase > 0.0 && first >= 0.0).then(|| first / increase);
    increase * extrapolation(window, window.times, zero, kind, zero_point)
}

/// How much more the whole window has seen than lies between its first and last sample.
///
/// `zero` is the time at which the counting began, when that is known; `zero_point` the share of the sampled
/// interval before its start at which the counter would have been zero, when it is not.
fn extrapolation(
    window: &Window<'_>,
    times: &[i64],
    zero: Option<i64>,
    kind: RateKind,
    zero_point: Option<f64>,
) -> f64 {
    let (first, last) = (times[0], times[times.len() - 1]);
    let between_samples =
        if times.len() > 1 { (last - first) as f64 / 1000.0 / (times.len() - 1) as f64 } else { 0.0 };
    let sampled = (last - zero.unwrap_or(first)) as f64 / 1000.0;
    // Samples further from a bound than this say that the series does not reach it.
    let threshold = between_samples * 1.1;
    let mut to_start = (first - window.range_start) as f64 / 1000.0;
    let mut to_end = (window.range_end - last) as f64 / 1000.0;
    if to_start >= threshold {
        to_start = between_samples / 2.0;
    }
    if zero.is_some() {
        to_start = 0.0;
    } else if let Some(share) = zero_point.filter(|_| kind.is_counter) {
        // A counter is never below zero, so neither is its extrapolation.
        to_start = to_start.min(sampled * share);
    }
    if to_end >= threshold {
        to_end = between_samples / 2.0;
    }
    let factor = (sampled + to_start + to_end) / sampled;
    if kind.is_rate { factor / window.range_seconds() } else { factor }
}

fn interpolate(times: &[i64], values: &[f64], index: usize, at: i64, is_counter: bool) -> f64 {
    let (mut before, after) = (values[index], values[index + 1]);
    // After a reset the counter began at zero.
    if is_counter && after < before {
        before = 0.0;
    }
    before + (after - before) * (at - times[index]) as f64 / (times[index + 1] - times[index]) as f64
}

/// First and last sample that count for a window with samples around it; `None` when none is inside.
pub(super) fn extended_bounds(
    times: &[i64],
    range_start: i64,
    range_end: i64,
    is_smoothed: bool,
) -> Option<(usize, usize)> {
    let mut last = times.len().checked_sub(1)?;
    let first = times[..last].partition_point(|time| *time <= range_start).saturating_sub(1);
    if is_smoothed {
        last = times[..last].partition_point(|time| *time < range_end);
        if times[first] > range_end {
            return None;
        }
    }
    (times[last] > range_start).then_some((first, last))
}

/// Values at both bounds of the window.
fn bound_values(
    (times, values): (&[i64], &[f64]),
    (first, last): (usize, usize),
    (range_start, range_end): (i64, i64),
    is_smoothed: bool,
    is_counter: bool,
) -> (f64, f64) {
    let left = if is_smoothed && times[first] < range_start && first + 1 < times.len() {
        interpolate(times, values, first, range_start, is_counter)
    } else {
        values[first]
    };
    let right = if is_smoothed && last > 0 && times[last] > range_end {
        interpolate(times, values, last - 1, range_end, is_counter)
    } else {
        values[last]
    };
    (left, right)
}

fn extended_rate(window: &Window<'_>, kind: RateKind) -> Cell {
    let (times, values) = (window.times, window.values);
    let is_smoothed = window.extension == Extension::Smoothed;
    let bounds = (window.range_start, window.range_end);
    let Some((mut first, last)) = extended_bounds(times, bounds.0, bounds.1, is_smoothed) else {
        return Cell::Absent;
    };
    let (left, right) = bound_values((times, values), (first, last), bounds, is_smoothed, kind.is_counter);
    let mut result = right - left;
    if kind.is_counter {
        if times[first] <= window.range_start {
            first += 1;
        }
        let end = if times[last] >= window.range_end { last } else { last + 1 };
        let mut previous = left;
        for value in values.get(first..end).unwrap_or(&[]).iter().chain([&right]) {
            if *value < previous {
                result += previous;
            }
            previous = *value;
        }
    }
    if kind.is_rate {
        result /= window.range_seconds();
    }
    Cell::Float(result)
}

/// Replaces the samples around a window by values at its bounds.
pub(super) fn extend_to_bounds(
    buffer: &mut SampleBuffer,
    range_start: i64,
    range_end: i64,
    extension: Extension,
) {
    let is_smoothed = extension == Extension::Smoothed;
    let mut extended = SampleBuffer::default();
    let (times, values) = (&buffer.timestamps, &buffer.values);
    if let Some((first, last)) = extended_bounds(times, range_start, range_end, is_smoothed) {
        let (left, right) =
            bound_values((times, values), (first, last), (range_start, range_end), is_smoothed, false);
        extended.push(range_start, left);
        for (time, value) in times[first..=last].iter().zip(&values[first..=last]) {
            if *time > range_start && *time < range_end {
                extended.push(*time, *value);
            }
        }
        extended.push(range_end, right);
    }
    *buffer = extended;
}
