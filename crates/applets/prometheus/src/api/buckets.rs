//! The buckets of a native histogram with their bounds, in rising order.

use gantry_prom_model::{FloatHistogram, Span};

/// One bucket with observations.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Bucket {
    /// 0: the upper bound belongs to it; 1: the lower; 2: neither; 3: both.
    pub(crate) bounds: u8,
    pub(crate) lower: f64,
    pub(crate) upper: f64,
    pub(crate) count: f64,
}

/// Upper bound of bucket `index` of an exponential schema.
fn exponential_bound(index: i32, schema: i32) -> f64 {
    if schema <= 0 {
        return 2f64.powi(index.saturating_mul(1i32.checked_shl(schema.unsigned_abs()).unwrap_or(i32::MAX)));
    }
    let per_doubling = 1i32 << schema.min(30);
    let fraction = f64::from(index.rem_euclid(per_doubling)) / f64::from(per_doubling);
    fraction.exp2() * 2f64.powi(index.div_euclid(per_doubling))
}

fn indexed<'h>(spans: &'h [Span], counts: &'h [f64]) -> impl Iterator<Item = (i32, f64)> + 'h {
    let mut next = 0i32;
    let indexes = spans.iter().flat_map(move |span| {
        let start = next.saturating_add(span.offset);
        next = start.saturating_add(i32::try_from(span.length).unwrap_or(i32::MAX));
        start..next
    });
    indexes.zip(counts.iter().copied())
}

/// The buckets that are not empty.
pub(crate) fn buckets(histogram: &FloatHistogram) -> Vec<Bucket> {
    let mut found = Vec::new();
    if histogram.uses_custom_buckets() {
        let bound = |index: i32| {
            usize::try_from(index).ok().and_then(|index| histogram.custom_values.get(index)).copied()
        };
        for (index, count) in indexed(&histogram.positive_spans, &histogram.positive_buckets) {
            let lower = if index > 0 { bound(index - 1).unwrap_or(f64::INFINITY) } else { f64::NEG_INFINITY };
            let upper = bound(index).unwrap_or(f64::INFINITY);
            let bounds = if index == 0 { 3 } else { 0 };
            found.push(Bucket { bounds, lower, upper, count });
        }
    } else {
        let schema = histogram.schema;
        for (index, count) in indexed(&histogram.negative_spans, &histogram.negative_buckets) {
            let (lower, upper) =
                (-exponential_bound(index, schema), -exponential_bound(index.saturating_sub(1), schema));
            found.push(Bucket { bounds: 1, lower, upper, count });
        }
        found.reverse();
        if histogram.zero_count != 0.0 {
            let (lower, upper) = (-histogram.zero_threshold, histogram.zero_threshold);
            found.push(Bucket { bounds: 3, lower, upper, count: histogram.zero_count });
        }
        for (index, count) in indexed(&histogram.positive_spans, &histogram.positive_buckets) {
            let (lower, upper) =
                (exponential_bound(index.saturating_sub(1), schema), exponential_bound(index, schema));
            found.push(Bucket { bounds: 0, lower, upper, count });
        }
    }
    found.retain(|bucket| bucket.count != 0.0);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_of_both_sides() {
        let histogram = FloatHistogram {
            schema: 0,
            zero_threshold: 0.001,
            zero_count: 2.0,
            positive_spans: vec![Span { offset: 0, length: 2 }, Span { offset: 1, length: 1 }],
            positive_buckets: vec![1.0, 0.0, 3.0],
            negative_spans: vec![Span { offset: 1, length: 1 }],
            negative_buckets: vec![4.0],
            ..FloatHistogram::default()
        };
        let found: Vec<_> =
            buckets(&histogram).iter().map(|b| (b.bounds, b.lower, b.upper, b.count)).collect();
        assert_eq!(
            found,
            [(1, -2.0, -1.0, 4.0), (3, -0.001, 0.001, 2.0), (0, 0.5, 1.0, 1.0), (0, 4.0, 8.0, 3.0)]
        );
        assert_eq!(exponential_bound(1, 1), 2f64.sqrt());
        assert_eq!(exponential_bound(-1, -1), 0.25);
    }
}
