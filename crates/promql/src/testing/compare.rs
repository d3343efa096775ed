//! When two results count as the same.

use crate::value::Value;
use gantry_prom_model::{CounterResetHint, FloatHistogram, HistogramBucket, is_stale_nan};

/// Relative difference that still counts as equal.
const EPSILON: f64 = 1e-6;

pub(super) fn is_close(a: f64, b: f64) -> bool {
    // A stale marker is only equal to itself.
    if is_stale_nan(a) || is_stale_nan(b) {
        return is_stale_nan(a) && is_stale_nan(b);
    }
    if a.is_nan() && b.is_nan() || a == b {
        return true;
    }
    let sum = a.abs() + b.abs();
    let difference = (a - b).abs();
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < EPSILON * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < EPSILON
}

pub(super) fn is_same_value(expected: &Value, found: &Value) -> bool {
    match (expected, found) {
        (Value::Float(expected), Value::Float(found)) => is_close(*expected, *found),
        (Value::Histogram(expected), Value::Histogram(found)) => is_same_histogram(expected, found),
        _ => false,
    }
}

fn is_same_histogram(expected: &FloatHistogram, found: &FloatHistogram) -> bool {
    let compact = |histogram: &FloatHistogram| {
        let mut copy = histogram.clone();
        copy.compact();
        copy
    };
    let (expected, found) = (compact(expected), compact(found));
    let is_same_side = |a: Vec<HistogramBucket>, b: Vec<HistogramBucket>| {
        a.len() == b.len()
            && a.iter()
                .zip(&b)
                .all(|(a, b)| a.upper.to_bits() == b.upper.to_bits() && is_close(a.count, b.count))
    };
    expected.schema == found.schema
        && expected.zero_threshold == found.zero_threshold
        && expected.custom_values == found.custom_values
        && is_close(expected.zero_count, found.zero_count)
        && is_close(expected.count, found.count)
        && is_close(expected.sum, found.sum)
        && is_same_side(expected.positive_bucket_list(), found.positive_bucket_list())
        && is_same_side(expected.negative_bucket_list(), found.negative_bucket_list())
        && (expected.counter_reset_hint == CounterResetHint::Unknown
            || expected.counter_reset_hint == found.counter_reset_hint)
}
