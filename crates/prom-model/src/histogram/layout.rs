//! Where the buckets of a native histogram lie.

use super::{CUSTOM_BUCKETS_SCHEMA, FloatHistogram, Span};
use std::fmt;

/// One bucket with its bounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HistogramBucket {
    pub lower: f64,
    pub upper: f64,
    pub lower_inclusive: bool,
    pub upper_inclusive: bool,
    pub count: f64,
}

impl fmt::Display for HistogramBucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open = if self.lower_inclusive { '[' } else { '(' };
        let close = if self.upper_inclusive { ']' } else { ')' };
        let number = crate::format_float;
        write!(f, "{open}{},{}{close}:{}", number(self.lower), number(self.upper), number(self.count))
    }
}

/// Index and count of each bucket of one side, rising by index.
pub(super) type Indexed = Vec<(i32, f64)>;

/// No histogram has more buckets than this; spans that claim more are cut.
const MAX_BUCKETS: usize = 1 << 20;

pub(super) fn to_indexed(spans: &[Span], counts: &[f64]) -> Indexed {
    let mut indexed = Vec::with_capacity(counts.len());
    let mut counts = counts.iter();
    let mut index: i32 = 0;
    'spans: for span in spans {
        index = index.saturating_add(span.offset);
        for _ in 0..span.length {
            let Some(count) = counts.next() else { break 'spans };
            if indexed.len() >= MAX_BUCKETS {
                break 'spans;
            }
            indexed.push((index, *count));
            index = index.saturating_add(1);
        }
    }
    indexed
}

pub(super) fn from_indexed(indexed: &[(i32, f64)]) -> (Vec<Span>, Vec<f64>) {
    let mut spans: Vec<Span> = Vec::new();
    let mut counts = Vec::with_capacity(indexed.len());
    let mut next_index = 0;
    for (index, count) in indexed {
        match spans.last_mut() {
            Some(span) if *index == next_index => span.length += 1,
            _ => spans.push(Span { offset: index.saturating_sub(next_index), length: 1 }),
        }
        next_index = index.saturating_add(1);
        counts.push(*count);
    }
    (spans, counts)
}

/// Upper bound of bucket `index` of the positive side of an exponential schema.
pub(super) fn exponential_bound(index: i32, schema: i32) -> f64 {
    let exponent = if schema < 0 {
        f64::from(index) * f64::from(1u32 << (-schema).min(30))
    } else {
        f64::from(index) / f64::from(1u32 << schema.min(30))
    };
    // The bucket that reaches to 2^1024 ends at the largest number; what lies above it holds infinity alone.
    if exponent == 1024.0 { f64::MAX } else { exponent.exp2() }
}

impl FloatHistogram {
    pub(super) fn bucket_bounds(&self, index: i32) -> (f64, f64) {
        if self.schema == CUSTOM_BUCKETS_SCHEMA {
            let bound = |at: i32| usize::try_from(at).ok().and_then(|at| self.custom_values.get(at)).copied();
            let lower =
                if index <= 0 { f64::NEG_INFINITY } else { bound(index - 1).unwrap_or(f64::INFINITY) };
            return (lower, bound(index).unwrap_or(f64::INFINITY));
        }
        (exponential_bound(index.saturating_sub(1), self.schema), exponential_bound(index, self.schema))
    }

    pub(super) fn positive(&self) -> Indexed {
        to_indexed(&self.positive_spans, &self.positive_buckets)
    }

    pub(super) fn negative(&self) -> Indexed {
        to_indexed(&self.negative_spans, &self.negative_buckets)
    }

    /// The positive buckets from low to high.
    pub fn positive_bucket_list(&self) -> Vec<HistogramBucket> {
        let bucket = |(index, count): (i32, f64)| {
            let (lower, upper) = self.bucket_bounds(index);
            let lower_inclusive = self.uses_custom_buckets() && index == 0;
            HistogramBucket { lower, upper, lower_inclusive, upper_inclusive: true, count }
        };
        self.positive().into_iter().map(bucket).collect()
    }

    /// The negative buckets from the one next to zero downwards, in the order of `negative_buckets`.
    pub fn negative_bucket_list(&self) -> Vec<HistogramBucket> {
        let bucket = |(index, count): (i32, f64)| {
            let (lower, upper) = self.bucket_bounds(index);
            HistogramBucket {
                lower: -upper,
                upper: -lower,
                lower_inclusive: true,
                upper_inclusive: false,
                count,
            }
        };
        self.negative().into_iter().map(bucket).collect()
    }

    /// The bucket of the values next to zero.
    pub fn zero_bucket(&self) -> HistogramBucket {
        HistogramBucket {
            lower: -self.zero_threshold,
            upper: self.zero_threshold,
            lower_inclusive: true,
            upper_inclusive: true,
            count: self.zero_count,
        }
    }

    /// All buckets from low to high, the zero bucket among them if it holds something.
    pub(super) fn buckets_unclipped(&self) -> Vec<HistogramBucket> {
        let mut buckets = self.negative_bucket_list();
        buckets.reverse();
        if self.zero_count > 0.0 {
            buckets.push(self.zero_bucket());
        }
        buckets.extend(self.positive_bucket_list());
        buckets
    }

    /// All buckets from low to high, none reaching into the zero bucket.
    pub fn buckets(&self) -> Vec<HistogramBucket> {
        let mut buckets = self.buckets_unclipped();
        for bucket in &mut buckets {
            if bucket.upper < 0.0 && bucket.upper > -self.zero_threshold {
                bucket.upper = -self.zero_threshold;
            } else if bucket.lower > 0.0 && bucket.lower < self.zero_threshold {
                bucket.lower = self.zero_threshold;
            }
        }
        buckets
    }

    pub(super) fn set_positive(&mut self, indexed: &[(i32, f64)]) {
        (self.positive_spans, self.positive_buckets) = from_indexed(indexed);
    }

    pub(super) fn set_negative(&mut self, indexed: &[(i32, f64)]) {
        (self.negative_spans, self.negative_buckets) = from_indexed(indexed);
    }

    /// Removes empty buckets and joins spans.
    pub fn compact(&mut self) {
        let is_used = |(_, count): &(i32, f64)| *count != 0.0;
        let positive: Indexed = self.positive().into_iter().filter(is_used).collect();
        let negative: Indexed = self.negative().into_iter().filter(is_used).collect();
        self.set_positive(&positive);
        self.set_negative(&negative);
    }

    /// What it takes in memory, in bytes.
    pub fn size_bytes(&self) -> usize {
        size_of::<Self>()
            + 8 * (self.positive_buckets.len() + self.negative_buckets.len() + self.custom_values.len())
            + 8 * (self.positive_spans.len() + self.negative_spans.len())
    }

    /// Whether both have the same buckets with the same counts; hints do not matter, nor how spans are cut.
    pub fn same_as(&self, other: &FloatHistogram) -> bool {
        let same = |a: f64, b: f64| a.to_bits() == b.to_bits() || a == b;
        let is_same_side = |a: Indexed, b: Indexed| {
            a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| a.0 == b.0 && same(a.1, b.1))
        };
        self.schema == other.schema
            && same(self.zero_threshold, other.zero_threshold)
            && same(self.zero_count, other.zero_count)
            && same(self.count, other.count)
            && same(self.sum, other.sum)
            && self.custom_values == other.custom_values
            && is_same_side(self.positive(), other.positive())
            && is_same_side(self.negative(), other.negative())
    }
}
