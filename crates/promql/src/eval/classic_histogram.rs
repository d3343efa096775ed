//! Quantiles and fractions of classic histograms: series with an `le` label.

/// One bucket; the count includes the buckets below.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ClassicBucket {
    pub(super) upper_bound: f64,
    pub(super) count: f64,
}

/// Counts that differ by less than this, relatively, are taken to be equal.
const TOLERANCE: f64 = 1e-12;

/// How buckets had to be changed so that counts do not fall.
#[derive(Debug, Clone, Copy)]
pub(super) struct Repair {
    pub(super) min_bucket: f64,
    pub(super) max_bucket: f64,
    pub(super) max_difference: f64,
}

fn sort_and_join(buckets: &mut Vec<ClassicBucket>) {
    buckets.sort_by(|a, b| a.upper_bound.total_cmp(&b.upper_bound));
    buckets.dedup_by(|later, kept| {
        let is_same = later.upper_bound == kept.upper_bound;
        if is_same {
            kept.count += later.count;
        }
        is_same
    });
}

fn is_almost_equal(a: f64, b: f64) -> bool {
    if a == b {
        return true;
    }
    let difference = (a - b).abs();
    let sum = a.abs() + b.abs();
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < TOLERANCE * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < TOLERANCE
}

fn make_monotonic(buckets: &mut [ClassicBucket]) -> Option<Repair> {
    let mut repair: Option<Repair> = None;
    let mut highest = buckets.first()?.count;
    for bucket in &mut buckets[1..] {
        if is_almost_equal(highest, bucket.count) {
            bucket.count = highest;
        } else if bucket.count < highest {
            let difference = highest - bucket.count;
            let so_far = repair.get_or_insert(Repair {
                min_bucket: bucket.upper_bound,
                max_bucket: bucket.upper_bound,
                max_difference: difference,
            });
            so_far.min_bucket = so_far.min_bucket.min(bucket.upper_bound);
            so_far.max_bucket = so_far.max_bucket.max(bucket.upper_bound);
            so_far.max_difference = so_far.max_difference.max(difference);
            bucket.count = highest;
        } else {
            highest = bucket.count;
        }
    }
    repair
}

/// The `q`-quantile, interpolated linearly, and what had to be repaired.
pub(super) fn bucket_quantile(q: f64, buckets: &mut Vec<ClassicBucket>) -> (f64, Option<Repair>) {
    if q.is_nan() {
        return (f64::NAN, None);
    }
    if q < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if q > 1.0 {
        return (f64::INFINITY, None);
    }
    sort_and_join(buckets);
    if buckets.last().is_none_or(|last| last.upper_bound != f64::INFINITY) {
        return (f64::NAN, None);
    }
    let repair = make_monotonic(buckets);
    let last = buckets.len() - 1;
    let observations = buckets[last].count;
    if buckets.len() < 2 || observations == 0.0 || observations.is_nan() {
        return (f64::NAN, None);
    }
    let mut rank = q * observations;
    let found = buckets[..last].iter().position(|bucket| bucket.count >= rank).unwrap_or(last);
    if found == last {
        return (buckets[last - 1].upper_bound, repair);
    }
    let end = buckets[found].upper_bound;
    if found == 0 && end <= 0.0 {
        return (end, repair);
    }
    let mut start = 0.0;
    let mut count = buckets[found].count;
    if found > 0 {
        start = buckets[found - 1].upper_bound;
        count -= buckets[found - 1].count;
        rank -= buckets[found - 1].count;
    }
    (start + (end - start) * (rank / count), repair)
}

/// The share of observations between two values.
pub(super) fn bucket_fraction(lower: f64, upper: f64, buckets: &mut Vec<ClassicBucket>) -> f64 {
    sort_and_join(buckets);
    let Some(last) = buckets.last().filter(|last| last.upper_bound == f64::INFINITY) else { return f64::NAN };
    let count = last.count;
    if count == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let rank_of = |value: f64| {
        let mut below = 0.0;
        // The first bucket begins at zero, unless it ends below.
        let mut start = if buckets[0].upper_bound > 0.0 { 0.0 } else { f64::NEG_INFINITY };
        for bucket in buckets.iter() {
            if start >= value {
                return below;
            }
            if bucket.upper_bound > value {
                if start == f64::NEG_INFINITY {
                    return bucket.count;
                }
                return below + (bucket.count - below) * (value - start) / (bucket.upper_bound - start);
            }
            below = bucket.count;
            start = bucket.upper_bound;
        }
        count
    };
    let rank = |value: f64| {
        let rank = rank_of(value);
        if rank > count { count } else { rank }
    };
    (rank(upper) - rank(lower)) / count
}
