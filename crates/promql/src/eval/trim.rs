//! The trim operators: a histogram without the observations above or below a bound.

use gantry_prom_model::{FloatHistogram, HistogramBucket};

/// What is left of a bucket, and where its removed observations are taken to lie.
struct Split {
    kept: f64,
    midpoint: f64,
}

/// The part of a bucket's count at or below `bound`.
fn count_below(bucket: &HistogramBucket, bound: f64, is_positive: bool, is_linear: bool) -> f64 {
    if bound <= bucket.lower {
        return 0.0;
    }
    if bound >= bucket.upper {
        return bucket.count;
    }
    let fraction = if is_linear {
        (bound - bucket.lower) / (bucket.upper - bucket.lower)
    } else {
        let [lower, upper, at] = [bucket.lower, bucket.upper, bound].map(|value| value.abs().log2());
        if is_positive { (at - lower) / (upper - lower) } else { 1.0 - (at - upper) / (lower - upper) }
    };
    bucket.count * fraction
}

/// A bucket that reaches to infinity: nothing is known of how its observations lie, so it is kept or removed
/// whole, except that the first custom bucket is taken to begin at zero when it ends above.
fn split_infinite(bucket: &HistogramBucket, bound: f64, is_upper: bool) -> Split {
    let whole = Split { kept: bucket.count, midpoint: 0.0 };
    if bucket.lower == f64::NEG_INFINITY {
        let begins_at_zero = bound >= 0.0 && bucket.upper > bound && bucket.upper.is_finite();
        return match is_upper {
            true if bound >= bucket.upper => whole,
            true if begins_at_zero => {
                Split { kept: bucket.count * bound / bucket.upper, midpoint: (bound + bucket.upper) / 2.0 }
            }
            false if bound <= bucket.lower => whole,
            false if begins_at_zero => {
                Split { kept: bucket.count * (1.0 - bound / bucket.upper), midpoint: bound / 2.0 }
            }
            _ => Split { kept: 0.0, midpoint: bucket.upper },
        };
    }
    if !is_upper && bound <= bucket.lower { whole } else { Split { kept: 0.0, midpoint: bucket.lower } }
}

fn split(bucket: &HistogramBucket, bound: f64, is_upper: bool, is_positive: bool, is_linear: bool) -> Split {
    if bucket.lower.is_infinite() || bucket.upper.is_infinite() {
        return split_infinite(bucket, bound, is_upper);
    }
    let below = count_below(bucket, bound, is_positive, is_linear);
    let product = if is_upper { bucket.lower.abs() * bound.abs() } else { bound.abs() * bucket.upper.abs() };
    let midpoint = if is_linear {
        (bucket.lower + bucket.upper) / 2.0
    } else if is_positive {
        product.sqrt()
    } else {
        -product.sqrt()
    };
    Split { kept: if is_upper { below } else { bucket.count - below }, midpoint }
}

/// Removes what lies above (`is_upper`) or below `bound`; count and sum are estimated from the buckets.
pub(super) fn trim(histogram: &mut FloatHistogram, bound: f64, is_upper: bool) {
    let is_custom = histogram.uses_custom_buckets();
    let mut count = 0.0;
    let mut removed_sum = 0.0;
    let (mut has_positive, mut has_negative) = (false, false);
    let sides = [(true, histogram.positive_bucket_list()), (false, histogram.negative_bucket_list())];
    for (is_positive, buckets) in sides {
        for (index, bucket) in buckets.iter().enumerate() {
            if bucket.count == 0.0 {
                continue;
            }
            if is_custom {
                has_negative |= bucket.lower < 0.0;
                has_positive |= bucket.upper > 0.0;
                // A first bucket that ends above zero is taken to begin there.
                if bucket.lower == f64::NEG_INFINITY && bucket.upper > 0.0 {
                    has_negative = true;
                }
            } else {
                has_positive |= is_positive;
                has_negative |= !is_positive;
            }
            let part = split(bucket, bound, is_upper, is_positive, is_custom);
            let is_whole = if is_upper { bucket.upper <= bound } else { bucket.lower >= bound };
            let is_cut = if is_upper { bucket.lower < bound } else { bucket.upper > bound };
            let (kept, midpoint) = if is_whole {
                (bucket.count, 0.0)
            } else if is_cut {
                (part.kept, part.midpoint)
            } else if is_custom {
                (0.0, part.midpoint)
            } else {
                let middle = (bucket.lower * bucket.upper).sqrt();
                (0.0, middle)
            };
            removed_sum += (bucket.count - kept) * midpoint;
            count += kept;
            let counts =
                if is_positive { &mut histogram.positive_buckets } else { &mut histogram.negative_buckets };
            if let Some(slot) = counts.get_mut(index) {
                *slot = kept;
            }
        }
    }
    if histogram.zero_count > 0.0 {
        let below = count_below(&histogram.zero_bucket(), bound, true, true);
        let kept = if is_upper { below } else { histogram.zero_count - below };
        histogram.zero_count = kept;
        count += kept;
    }
    let mut sum = 0.0;
    if count != 0.0 {
        sum = histogram.sum - removed_sum;
        // An estimate may not have a sign that no observation has.
        if (!has_negative && sum < 0.0) || (!has_positive && sum > 0.0) {
            sum = 0.0;
        }
    }
    histogram.count = count;
    histogram.sum = sum;
    histogram.compact();
}
