//! Functions over the samples of a window: `*_over_time`, `changes`, `resets`, regressions.

use super::Evaluator;
use super::math::{KahanSum, Mean, quantile};
use super::rate::{anchor, mixed_floats_histograms, mixed_schemas, reconciled_bounds};
use super::selector::Window;
use super::series::Cell;
use crate::annotations::Annotations;
use crate::ast::PosRange;
use crate::engine::QueryError;
use gantry_prom_model::{CounterResetHint, FloatHistogram, HistogramError};
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

/// Sums histograms, keeping what rounding would lose.
pub(super) struct HistogramSum {
    sum: FloatHistogram,
    /// What the sum has lost so far, bucket by bucket.
    lost: Option<FloatHistogram>,
    pub(super) reconciled_bounds: bool,
}

impl HistogramSum {
    pub(super) fn of(first: &FloatHistogram) -> Self {
        HistogramSum { sum: first.clone(), lost: None, reconciled_bounds: false }
    }

    pub(super) fn add(&mut self, other: &FloatHistogram) -> Result<(), HistogramError> {
        let before = self.sum.clone();
        let mut after = before.clone();
        self.reconciled_bounds |= after.add(other)?.custom_bounds;
        // (before - after) + other is what the addition lost; the larger operand has to come first.
        let (larger, smaller) =
            if before.sum.abs() >= other.sum.abs() { (&before, other) } else { (other, &before) };
        let mut lost = larger.clone();
        lost.subtract(&after)?;
        lost.add(smaller)?;
        match &mut self.lost {
            Some(so_far) => {
                so_far.add(&lost)?;
            }
            None => self.lost = Some(lost),
        }
        self.sum = after;
        Ok(())
    }

    pub(super) fn total(mut self) -> FloatHistogram {
        if let Some(mut lost) = self.lost {
            // Where the sum is infinite or NaN the loss is meaningless.
            if !lost.sum.is_finite() {
                lost.sum = 0.0;
            }
            if lost.count.is_finite() {
                lost.counter_reset_hint = self.sum.counter_reset_hint;
                let hint = self.sum.counter_reset_hint;
                if self.sum.add(&lost).is_ok() {
                    self.sum.counter_reset_hint = hint;
                }
            }
        }
        self.sum
    }
}

fn has_overflow(histogram: &FloatHistogram) -> bool {
    let counts = histogram.positive_buckets.iter().chain(&histogram.negative_buckets);
    histogram.sum.is_infinite()
        || histogram.count.is_infinite()
        || histogram.zero_count.is_infinite()
        || counts.into_iter().any(|count| count.is_infinite())
}

/// The mean of histograms; incremental when their sum would overflow.
fn mean_of(histograms: &[Arc<FloatHistogram>]) -> Result<(FloatHistogram, bool), HistogramError> {
    let count = histograms.len() as f64;
    let mut sum = HistogramSum::of(&histograms[0]);
    for histogram in &histograms[1..] {
        sum.add(histogram)?;
    }
    let has_reconciled = sum.reconciled_bounds;
    let mut mean = sum.total();
    if !has_overflow(&mean) {
        mean.divide(count);
        return Ok((mean, has_reconciled));
    }
    let mut mean = (*histograms[0]).clone();
    for (index, histogram) in histograms.iter().enumerate().skip(1) {
        let so_far = (index + 1) as f64;
        let mut share = (**histogram).clone();
        share.divide(so_far);
        mean.scale((so_far - 1.0) / so_far);
        mean.add(&share)?;
    }
    Ok((mean, has_reconciled))
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
        let result = if is_average {
            mean_of(window.histograms)
        } else {
            let mut sum = HistogramSum::of(&window.histograms[0]);
            let added = window.histograms[1..].iter().try_for_each(|histogram| sum.add(histogram));
            let has_reconciled = sum.reconciled_bounds;
            added.map(|()| (sum.total(), has_reconciled))
        };
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
    floats_differ: impl Fn(f64, f64) -> bool,
    histograms_differ: impl Fn(&FloatHistogram, &FloatHistogram) -> bool,
) -> Option<f64> {
    let first = anchor(window)?;
    let mut samples: Vec<(i64, Cell)> = Vec::with_capacity(window.times.len() + window.histograms.len());
    for (time, value) in window.times.iter().zip(window.values).skip(first) {
        samples.push((*time, Cell::Float(*value)));
    }
    for (time, histogram) in window.histogram_times.iter().zip(window.histograms) {
        samples.push((*time, Cell::Histogram(Arc::clone(histogram))));
    }
    samples.sort_by_key(|(time, _)| *time);
    let mut transitions = 0.0;
    for pair in samples.windows(2) {
        let differs = match (&pair[0].1, &pair[1].1) {
            (Cell::Float(before), Cell::Float(now)) => floats_differ(*before, *now),
            (Cell::Histogram(before), Cell::Histogram(now)) => histograms_differ(before, now),
            _ => true,
        };
        if differs {
            transitions += 1.0;
        }
    }
    Some(transitions)
}
