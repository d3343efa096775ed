//! Quantiles, fractions and variance of native histograms.

use super::math::KahanSum;
use gantry_prom_model::{FloatHistogram, HistogramBucket};

/// Observations of NaN, which no bucket counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NanNote {
    /// The quantile falls among them.
    Result,
    /// They push the quantile up.
    Skew,
    /// They are in no fraction.
    Fraction,
}

/// One-sided histograms have a zero bucket that ends at zero.
fn one_sided(bucket: &mut HistogramBucket, histogram: &FloatHistogram) {
    let has_negative = !histogram.negative_buckets.is_empty();
    let has_positive = !histogram.positive_buckets.is_empty();
    if !has_negative && has_positive {
        bucket.lower = 0.0;
    } else if !has_positive && has_negative {
        bucket.upper = 0.0;
    }
}

pub(super) fn quantile(q: f64, histogram: &FloatHistogram) -> (f64, Option<NanNote>) {
    if q < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if q > 1.0 {
        return (f64::INFINITY, None);
    }
    if histogram.count == 0.0 || q.is_nan() {
        return (f64::NAN, None);
    }
    // From the nearer end; NaN observations count as if they were above all buckets, so then from below.
    let is_forward = histogram.sum.is_nan() || q < 0.5;
    let mut buckets = histogram.buckets();
    if !is_forward {
        buckets.reverse();
    }
    let mut rank = if is_forward { q * histogram.count } else { (1.0 - q) * histogram.count };
    let mut count = 0.0;
    let mut found: Option<HistogramBucket> = None;
    let mut remaining = buckets.iter();
    for bucket in remaining.by_ref() {
        found = Some(*bucket);
        if bucket.count == 0.0 {
            continue;
        }
        count += bucket.count;
        if count >= rank {
            break;
        }
    }
    let Some(mut bucket) = found else {
        return (f64::NAN, histogram.sum.is_nan().then_some(NanNote::Result));
    };
    if histogram.uses_custom_buckets() {
        if bucket.lower == f64::NEG_INFINITY {
            if bucket.upper <= 0.0 {
                return (bucket.upper, None);
            }
            bucket.lower = 0.0;
        } else if bucket.upper == f64::INFINITY {
            return (bucket.lower, None);
        }
    } else if bucket.lower < 0.0 && bucket.upper > 0.0 {
        one_sided(&mut bucket, histogram);
    }
    count = count.min(histogram.count);
    if count < rank {
        if histogram.sum.is_nan() {
            return (f64::NAN, Some(NanNote::Result));
        }
        return (bucket.upper, None);
    }
    if is_forward {
        rank -= count - bucket.count;
    } else {
        rank = count - rank;
    }
    let mut note = None;
    if histogram.sum.is_nan() {
        let rest: f64 = remaining.map(|bucket| bucket.count).sum();
        note = (count + rest < histogram.count).then_some(NanNote::Skew);
    }
    let fraction = rank / bucket.count;
    if histogram.uses_custom_buckets() || (bucket.lower <= 0.0 && bucket.upper >= 0.0) {
        return (bucket.lower + (bucket.upper - bucket.lower) * fraction, note);
    }
    let (lower, upper) = (bucket.lower.abs().log2(), bucket.upper.abs().log2());
    if bucket.lower > 0.0 {
        return ((lower + (upper - lower) * fraction).exp2(), note);
    }
    (-(upper + (lower - upper) * (1.0 - fraction)).exp2(), note)
}

pub(super) fn fraction(lower: f64, upper: f64, histogram: &FloatHistogram) -> (f64, Option<NanNote>) {
    if histogram.count == 0.0 || lower.is_nan() || upper.is_nan() {
        return (f64::NAN, None);
    }
    if lower >= upper {
        return (0.0, None);
    }
    let buckets = histogram.buckets();
    let mut total = histogram.count;
    let mut note = None;
    if histogram.sum.is_nan() {
        total = buckets.iter().map(|bucket| bucket.count).sum();
        note = (total < histogram.count).then_some(NanNote::Fraction);
    }
    let rank = |value: f64| {
        let rank = rank_of(value, histogram, &buckets).unwrap_or(total);
        if rank > total { total } else { rank }
    };
    ((rank(upper) - rank(lower)) / histogram.count, note)
}

/// Observations below a value; `None` when it is above all buckets.
fn rank_of(value: f64, histogram: &FloatHistogram, buckets: &[HistogramBucket]) -> Option<f64> {
    let mut below = 0.0;
    for bucket in buckets {
        let mut bucket = *bucket;
        let is_zero_bucket = bucket.lower <= 0.0 && bucket.upper >= 0.0;
        if is_zero_bucket {
            one_sided(&mut bucket, histogram);
        }
        if bucket.lower >= value {
            return Some(below);
        }
        if bucket.upper > value {
            if histogram.uses_custom_buckets() || is_zero_bucket {
                if bucket.lower == f64::NEG_INFINITY {
                    return Some(bucket.count);
                }
                return Some(below + bucket.count * (value - bucket.lower) / (bucket.upper - bucket.lower));
            }
            let [low, high, at] = [bucket.lower, bucket.upper, value].map(|bound| bound.abs().log2());
            let share =
                if value > 0.0 { (at - low) / (high - low) } else { 1.0 - (at - high) / (low - high) };
            return Some(below + bucket.count * share);
        }
        below += bucket.count;
    }
    None
}

/// Observations are taken to lie in the middle of their bucket.
pub(super) fn variance(histogram: &FloatHistogram) -> f64 {
    let mean = histogram.sum / histogram.count;
    let mut sum = KahanSum::default();
    for bucket in histogram.buckets() {
        if bucket.count == 0.0 {
            continue;
        }
        let middle = if histogram.uses_custom_buckets() {
            (bucket.upper + bucket.lower) / 2.0
        } else if bucket.lower <= 0.0 && bucket.upper >= 0.0 {
            0.0
        } else {
            let geometric = (bucket.upper * bucket.lower).sqrt();
            if bucket.upper < 0.0 { -geometric } else { geometric }
        };
        let delta = middle - mean;
        sum.add(bucket.count * delta * delta);
    }
    (sum.sum + sum.compensation) / histogram.count
}
