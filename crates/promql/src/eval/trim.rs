//! The trim operators: a histogram without the observations above or below a bound.

use gantry_prom_model::{FloatHistogram, HistogramBucket};

/// What is left of a bucket, and where its observations are taken to lie.
#[derive(Clone, Copy)]
struct Part {
    count: f64,
    midpoint: f64,
}

const NOTHING: Part = Part { count: 0.0, midpoint: 0.0 };

/// How observations are taken to lie inside a bucket.
#[derive(Clone, Copy, PartialEq)]
enum Spread {
    Linear,
    Exponential,
}

fn midpoint(low: f64, high: f64, spread: Spread) -> f64 {
    match spread {
        Spread::Linear => (low + high) / 2.0,
        Spread::Exponential if high <= 0.0 => -(low * high).sqrt(),
        Spread::Exponential => (low * high).sqrt(),
    }
}

/// The share of a bucket's observations at or below `bound`, which lies inside.
fn share_below(bucket: &HistogramBucket, bound: f64, spread: Spread) -> f64 {
    if spread == Spread::Linear {
        return (bound - bucket.lower) / (bucket.upper - bucket.lower);
    }
    let [low, high, at] = [bucket.lower, bucket.upper, bound].map(|value| value.abs().log2());
    if bucket.lower >= 0.0 { (at - low) / (high - low) } else { 1.0 - (at - high) / (low - high) }
}

/// A bucket with finite bounds.
fn cut(bucket: &HistogramBucket, bound: f64, is_upper: bool, spread: Spread) -> Part {
    let whole = Part { count: bucket.count, midpoint: midpoint(bucket.lower, bucket.upper, spread) };
    let (is_inside, is_outside) = if is_upper {
        (bucket.upper <= bound, bucket.lower >= bound)
    } else {
        (bucket.lower >= bound, bucket.upper <= bound)
    };
    if is_inside {
        return whole;
    }
    if is_outside {
        return NOTHING;
    }
    let below = share_below(bucket, bound, spread);
    if is_upper {
        Part { count: bucket.count * below, midpoint: midpoint(bucket.lower, bound, spread) }
    } else {
        Part { count: bucket.count * (1.0 - below), midpoint: midpoint(bound, bucket.upper, spread) }
    }
}

/// The first custom bucket. One that ends above zero is taken to begin there; nothing is known of how the
/// observations of any other lie, so it is kept or removed whole.
fn cut_first(bucket: &HistogramBucket, bound: f64, is_upper: bool) -> Part {
    if bucket.upper > 0.0 && bucket.upper.is_finite() {
        let from_zero = HistogramBucket { lower: 0.0, ..*bucket };
        // A bound below zero is inside the bucket all the same, and what lies where in it is not known.
        return if bound < 0.0 && bound != f64::NEG_INFINITY {
            NOTHING
        } else {
            cut(&from_zero, bound, is_upper, Spread::Linear)
        };
    }
    let is_unbounded = bucket.upper == f64::INFINITY;
    let is_kept = match is_upper {
        true if is_unbounded => bound == f64::INFINITY,
        true => bound != f64::NEG_INFINITY,
        false => bound == f64::NEG_INFINITY,
    };
    let end = if bucket.upper.is_finite() { bucket.upper } else { 0.0 };
    if is_kept {
        Part { count: bucket.count, midpoint: if is_upper { end.min(bound) } else { end } }
    } else {
        NOTHING
    }
}

/// The last custom bucket, which has no upper bound.
fn cut_last(bucket: &HistogramBucket, bound: f64, is_upper: bool) -> Part {
    let is_kept = if is_upper { bound == f64::INFINITY } else { bound != f64::INFINITY };
    if is_kept {
        let midpoint = if is_upper { bucket.lower } else { bucket.lower.max(bound) };
        Part { count: bucket.count, midpoint }
    } else {
        NOTHING
    }
}

/// Removes what lies above (`is_upper`) or below `bound`. When something is removed, the sum is estimated from
/// what is left.
pub(super) fn trim(histogram: &mut FloatHistogram, bound: f64, is_upper: bool) {
    let is_custom = histogram.uses_custom_buckets();
    let spread = if is_custom { Spread::Linear } else { Spread::Exponential };
    let (mut count, mut sum) = (0.0, 0.0);
    let mut is_changed = false;
    let mut take = |bucket: &HistogramBucket, part: Part| {
        is_changed |= part.count != bucket.count;
        count += part.count;
        sum += part.count * part.midpoint;
        part.count
    };
    let has_positive = !histogram.positive_buckets.is_empty();
    let has_negative = !histogram.negative_buckets.is_empty();
    let part_of = |bucket: &HistogramBucket| {
        if bucket.count == 0.0 {
            NOTHING
        } else if bucket.lower == f64::NEG_INFINITY {
            cut_first(bucket, bound, is_upper)
        } else if bucket.upper == f64::INFINITY {
            cut_last(bucket, bound, is_upper)
        } else {
            cut(bucket, bound, is_upper, spread)
        }
    };
    let positive = histogram.positive_bucket_list();
    for (slot, bucket) in histogram.positive_buckets.iter_mut().zip(&positive) {
        *slot = take(bucket, part_of(bucket));
    }
    let negative = histogram.negative_bucket_list();
    for (slot, bucket) in histogram.negative_buckets.iter_mut().zip(&negative) {
        *slot = take(bucket, part_of(bucket));
    }
    if histogram.zero_count > 0.0 {
        let mut zero = histogram.zero_bucket();
        // The zero bucket of a one-sided histogram ends at zero.
        if has_positive && !has_negative {
            zero.lower = 0.0;
        } else if has_negative && !has_positive {
            zero.upper = 0.0;
        }
        let part = if zero.lower == zero.upper {
            let is_kept = if is_upper { bound >= zero.upper } else { bound <= zero.lower };
            if is_kept { Part { count: zero.count, midpoint: 0.0 } } else { NOTHING }
        } else {
            cut(&zero, bound, is_upper, Spread::Linear)
        };
        histogram.zero_count = take(&zero, part);
    }
    if is_changed {
        histogram.count = count;
        histogram.sum = sum;
    }
    histogram.compact();
}

#[cfg(test)]
mod tests {
    use super::*;
    use gantry_prom_model::Span;

    fn histogram() -> FloatHistogram {
        FloatHistogram {
            count: 6.0,
            sum: 10.0,
            positive_spans: vec![Span { offset: 1, length: 2 }],
            positive_buckets: vec![2.0, 4.0],
            ..FloatHistogram::default()
        }
    }

    #[test]
    fn a_bound_that_cuts_nothing_changes_nothing() {
        for (bound, is_upper) in
            [(4.0, true), (f64::INFINITY, true), (1.0, false), (f64::NEG_INFINITY, false)]
        {
            let mut trimmed = histogram();
            trim(&mut trimmed, bound, is_upper);
            assert_eq!((trimmed.count, trimmed.sum), (6.0, 10.0));
        }
    }

    #[test]
    fn both_sides_of_a_cut_make_the_whole() {
        for bound in [1.5, 2.0, 3.0] {
            let (mut below, mut above) = (histogram(), histogram());
            trim(&mut below, bound, true);
            trim(&mut above, bound, false);
            assert!((below.count + above.count - 6.0).abs() < 1e-9);
        }
    }
}
