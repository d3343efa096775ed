//! Functions over the samples of a window: `*_over_time`, `changes`, `resets`, regressions.

use super::Evaluator;
use super::math::{KahanSum, Mean, quantile};
use super::rate::{mixed_floats_histograms, mixed_schemas, reconciled_bounds};
use super::selector::Window;
use super::series::Cell;
use crate::annotations::Annotations;
use crate::ast::{Extension, PosRange};
use crate::engine::QueryError;
use gantry_prom_model::{CounterResetHint, FloatHistogram, HistogramError, HistogramSum};
use std::sync::Arc;

pub(super) fn histograms_ignored(annotations: &mut Annotations, window: &Window<'_>, range: PosRange) {
    if !window.histograms.is_empty() && !window.values.is_empty() {
        let message = format!(
            "ignored histograms in a range containing both floats and histograms for metric name {:?}",
            window.metric_name()
        );
        annotations.info(range, &message);
    }
}

/// Whether samples of a window say that their counts started again and others that they did not.
fn has_hint_collision(histograms: &[Arc<FloatHistogram>]) -> bool {
    let has =
        |hint: CounterResetHint| histograms.iter().any(|histogram| histogram.counter_reset_hint == hint);
    has(CounterResetHint::Reset) && has(CounterResetHint::NotReset)
}

pub(super) fn counter_reset_collision(annotations: &mut Annotations, operation: &str, range: PosRange) {
    annotations.warn(range, &format!("conflicting counter resets during histogram {operation}"));
}

pub(super) fn has_overflow(histogram: &FloatHistogram) -> bool {
    let counts = histogram.positive_buckets.iter().chain(&histogram.negative_buckets);
    histogram.sum.is_infinite()
        || histogram.count.is_infinite()
        || histogram.zero_count.is_infinite()
        || counts.into_iter().any(|count| count.is_infinite())
}

/// The sum of histograms; the flag says whether custom bounds were reconciled.
fn sum_of(histograms: &[Arc<FloatHistogram>]) -> Result<(FloatHistogram, bool), HistogramError> {
    let mut sum = HistogramSum::of(&histograms[0]);
    let mut has_reconciled = false;
    for histogram in &histograms[1..] {
        has_reconciled |= sum.add(histogram)?.custom_bounds;
    }
    Ok((sum.total(), has_reconciled))
}

/// The mean of histograms; incremental when their sum would overflow.
fn mean_of(histograms: &[Arc<FloatHistogram>]) -> Result<(FloatHistogram, bool), HistogramError> {
    let (mut mean, has_reconciled) = sum_of(histograms)?;
    if !has_overflow(&mean) {
        mean.divide(histograms.len() as f64);
        return Ok((mean, has_reconciled));
    }
    // Each histogram's share is summed, which stays in range.
    let count = histograms.len() as f64;
    let share = |histogram: &FloatHistogram| {
        let mut share = histogram.clone();
        share.divide(count);
        share
    };
    let mut sum = HistogramSum::of(&share(&histograms[0]));
    for histogram in &histograms[1..] {
        sum.add(&share(histogram))?;
    }
    Ok((sum.total(), has_reconciled))
}

impl Evaluator<'_> {
    /// `sum_over_time` and `avg_over_time`.
    pub(super) fn sum_over_time(
        &mut self,
        window: &Window<'_>,
        is_average: bool,
        range: PosRange,
    ) -> Result<Cell, QueryError> {
        if !window.values.is_empty() && !window.histograms.is_empty() {
            mixed_floats_histograms(&mut self.annotations, window.metric_name(), range);
            return Ok(Cell::Absent);
        }
        if let [first, rest @ ..] = window.values {
            if is_average {
                let mut mean = Mean::of(*first);
                rest.iter().for_each(|value| mean.add(*value));
                return Ok(Cell::Float(mean.value()));
            }
            let mut sum = KahanSum::of(*first);
            rest.iter().for_each(|value| sum.add(*value));
            return Ok(Cell::Float(sum.total()));
        }
        if has_hint_collision(window.histograms) {
            counter_reset_collision(&mut self.annotations, "aggregation", range);
        }
        let result = if is_average { mean_of(window.histograms) } else { sum_of(window.histograms) };
        match result {
            Ok((histogram, has_reconciled)) => {
                if has_reconciled {
                    reconciled_bounds(&mut self.annotations, "aggregation", range);
                }
                Ok(Cell::Histogram(Arc::new(histogram)))
            }
            Err(HistogramError::MixedSchemas) => {
                mixed_schemas(&mut self.annotations, window.metric_name(), range);
                Ok(Cell::Absent)
            }
        }
    }
}

/// Maximum and minimum, or the time of them; NaN gives way to any number.
pub(super) fn extreme(window: &Window<'_>, replaces: impl Fn(f64, f64) -> bool) -> Option<(i64, f64)> {
    let mut samples = window.times.iter().copied().zip(window.values.iter().copied());
    let mut best = samples.next()?;
    for (time, value) in samples {
        if replaces(value, best.1) || best.1.is_nan() {
            best = (time, value);
        }
    }
    Some(best)
}

pub(super) fn variance(window: &Window<'_>) -> f64 {
    let mut count = 0.0;
    let mut mean = KahanSum::default();
    let mut squares = KahanSum::default();
    for value in window.values {
        count += 1.0;
        let delta = value - (mean.sum + mean.compensation);
        mean.add(delta / count);
        squares.add(delta * (value - (mean.sum + mean.compensation)));
    }
    (squares.sum + squares.compensation) / count
}

/// Median of the distances from the median.
pub(super) fn median_deviation(window: &Window<'_>) -> f64 {
    if window.values.iter().any(|value| value.is_nan()) {
        return f64::NAN;
    }
    let mut values = window.values.to_vec();
    let median = quantile(0.5, &mut values);
    values.iter_mut().for_each(|value| *value = (*value - median).abs());
    quantile(0.5, &mut values)
}

/// The first or last sample of a window, whatever its kind, with its time.
pub(super) fn end_sample(window: &Window<'_>, is_last: bool) -> Option<(i64, Cell)> {
    let pick =
        |times: &[i64]| if is_last { times.len().checked_sub(1) } else { (!times.is_empty()).then_some(0) };
    let float = pick(window.times).map(|index| (window.times[index], Cell::Float(window.values[index])));
    let histogram = pick(window.histogram_times)
        .map(|index| (window.histogram_times[index], Cell::Histogram(Arc::clone(&window.histograms[index]))));
    match (float, histogram) {
        (Some(float), Some(histogram)) => {
            let float_wins = if is_last { float.0 > histogram.0 } else { float.0 < histogram.0 };
            Some(if float_wins { float } else { histogram })
        }
        (float, histogram) => float.or(histogram),
    }
}

/// Slope and value at `at` of the line through the samples.
pub(super) fn regression(window: &Window<'_>, at: i64) -> (f64, f64) {
    let first = window.values[0];
    if window.values.iter().all(|value| *value == first) {
        return if first.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, first) };
    }
    let mut count = 0.0;
    let [mut sum_x, mut sum_y, mut sum_xy, mut sum_xx] = [KahanSum::default(); 4];
    for (time, y) in window.times.iter().zip(window.values) {
        let x = (time - at) as f64 / 1000.0;
        count += 1.0;
        sum_x.add(x);
        sum_y.add(*y);
        sum_xy.add(x * y);
        sum_xx.add(x * x);
    }
    let [x, y, xy, xx] = [sum_x, sum_y, sum_xy, sum_xx].map(|sum| sum.sum + sum.compensation);
    let slope = (xy - x * y / count) / (xx - x * x / count);
    (slope, y / count - slope * x / count)
}

/// Holt's linear smoothing.
pub(super) fn double_exponential_smoothing(values: &[f64], smoothing: f64, trend_factor: f64) -> f64 {
    let mut level = values[0];
    let mut previous_level = 0.0;
    let mut trend = values[1] - values[0];
    for (index, value) in values.iter().enumerate().skip(1) {
        if index > 1 {
            trend = trend_factor * (level - previous_level) + (1.0 - trend_factor) * trend;
        }
        let next = smoothing * value + (1.0 - smoothing) * (level + trend);
        previous_level = level;
        level = next;
    }
    level
}

/// Counts the neighbours for which `differs` holds; a change of kind always counts.
pub(super) fn count_transitions(
    window: &Window<'_>,
    start_resets: impl Fn(&[i64], &[i64], usize) -> bool,
    floats_differ: impl Fn(f64, f64) -> bool,
    histograms_differ: impl Fn(&FloatHistogram, &FloatHistogram) -> bool,
) -> Option<f64> {
    /// A sample by its place in its column.
    #[derive(Clone, Copy)]
    enum At {
        Float(usize),
        Histogram(usize),
    }
    let mut samples: Vec<(i64, At)> = Vec::with_capacity(window.times.len() + window.histograms.len());
    samples.extend(window.times.iter().enumerate().map(|(index, time)| (*time, At::Float(index))));
    samples
        .extend(window.histogram_times.iter().enumerate().map(|(index, time)| (*time, At::Histogram(index))));
    samples.sort_by_key(|(time, _)| *time);
    let mut first = 0;
    if window.extension == Extension::Anchored {
        // The last sample before the window stands for its start.
        samples.last().filter(|(time, _)| *time > window.range_start)?;
        first = samples.partition_point(|(time, _)| *time <= window.range_start).saturating_sub(1);
    }
    let mut transitions = 0.0;
    for pair in samples[first..].windows(2) {
        let differs = match (pair[0].1, pair[1].1) {
            (At::Float(before), At::Float(now)) => {
                floats_differ(window.values[before], window.values[now])
                    || start_resets(window.start_times, window.times, before)
            }
            (At::Histogram(before), At::Histogram(now)) => {
                histograms_differ(&window.histograms[before], &window.histograms[now])
                    || start_resets(window.histogram_start_times, window.histogram_times, before)
            }
            _ => true,
        };
        if differs {
            transitions += 1.0;
        }
    }
    Some(transitions)
}
