//! Sums, differences and multiples of native histograms.
//!
//! Two exponential histograms meet at the lower of their resolutions and the wider of their zero buckets; two
//! with custom bounds at the bounds they have in common.

use super::layout::Indexed;
use super::{CounterResetHint, FloatHistogram};
use std::sync::Arc;

/// Histograms that cannot be combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HistogramError {
    #[error("cannot apply this operation on histograms with a mix of exponential and custom bucket schemas")]
    MixedSchemas,
}

/// What had to be given up to combine two histograms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reconciled {
    /// One side says that its counts started again, the other that they did not.
    pub counter_reset_collision: bool,
    /// The custom bounds differed; only the common ones are left.
    pub custom_bounds: bool,
}

/// Sums histograms and keeps, count by count, what rounding would lose.
#[derive(Debug, Clone)]
pub struct HistogramSum {
    sum: FloatHistogram,
    /// Same layout as `sum`.
    lost: FloatHistogram,
}

impl HistogramSum {
    pub fn of(first: &FloatHistogram) -> Self {
        HistogramSum { sum: first.clone(), lost: first.zeroed() }
    }

    /// # Errors
    /// When one has custom bounds and the other has not; the sum is unchanged then.
    pub fn add(&mut self, other: &FloatHistogram) -> Result<Reconciled, HistogramError> {
        if self.sum.has_layout_of(other) {
            let counter_reset_collision = self.sum.adjust_hint(other.counter_reset_hint);
            self.add_counts(other);
            return Ok(Reconciled { counter_reset_collision, custom_bounds: false });
        }
        // Both are brought to a common layout by adding empty histograms, which changes no count.
        let mut aligned = self.sum.clone();
        let reconciled = aligned.add(&other.zeroed())?;
        let hint = aligned.counter_reset_hint;
        let mut other_aligned = aligned.zeroed();
        other_aligned.add(other)?;
        let mut lost = aligned.zeroed();
        lost.add(&self.lost)?;
        if aligned.has_layout_of(&other_aligned) && aligned.has_layout_of(&lost) {
            self.sum = aligned;
            self.lost = lost;
            self.add_counts(&other_aligned);
        } else {
            // Zero buckets that swallow others differ with the counts; the loss is then folded in.
            self.sum.add(other)?;
            self.sum.add(&self.lost)?;
            self.lost = self.sum.zeroed();
        }
        self.sum.counter_reset_hint = hint;
        Ok(reconciled)
    }

    fn add_counts(&mut self, other: &FloatHistogram) {
        let (sum, lost) = (&mut self.sum, &mut self.lost);
        add_compensated(&mut sum.zero_count, &mut lost.zero_count, other.zero_count);
        add_compensated(&mut sum.count, &mut lost.count, other.count);
        add_compensated(&mut sum.sum, &mut lost.sum, other.sum);
        let sides = [
            (&mut sum.positive_buckets, &mut lost.positive_buckets, &other.positive_buckets),
            (&mut sum.negative_buckets, &mut lost.negative_buckets, &other.negative_buckets),
        ];
        for (sums, losts, others) in sides {
            for ((sum, lost), other) in sums.iter_mut().zip(losts.iter_mut()).zip(others) {
                add_compensated(sum, lost, *other);
            }
        }
    }

    /// The sum with what was lost of it.
    pub fn total(&self) -> FloatHistogram {
        let mut total = self.sum.clone();
        total.zero_count += self.lost.zero_count;
        total.count += self.lost.count;
        total.sum += self.lost.sum;
        let pairs = total.positive_buckets.iter_mut().zip(&self.lost.positive_buckets);
        pairs.for_each(|(count, lost)| *count += lost);
        let pairs = total.negative_buckets.iter_mut().zip(&self.lost.negative_buckets);
        pairs.for_each(|(count, lost)| *count += lost);
        total
    }
}

/// Neumaier's step: adds to the sum and notes what the addition lost.
fn add_compensated(sum: &mut f64, lost: &mut f64, value: f64) {
    let total = *sum + value;
    if total.is_infinite() {
        *lost = 0.0;
    } else if sum.abs() >= value.abs() {
        *lost += (*sum - total) + value;
    } else {
        *lost += (value - total) + *sum;
    }
    *sum = total;
}

/// Merges two sides; counts of the second are multiplied by `sign`.
fn merge(a: &[(i32, f64)], b: &[(i32, f64)], sign: f64) -> Indexed {
    let mut merged = Vec::with_capacity(a.len().max(b.len()));
    let (mut left, mut right) = (a.iter().peekable(), b.iter().peekable());
    loop {
        match (left.peek(), right.peek()) {
            (Some((i, x)), Some((j, y))) if i == j => {
                merged.push((*i, x + sign * y));
                left.next();
                right.next();
            }
            (Some((i, x)), Some((j, _))) if i < j => {
                merged.push((*i, *x));
                left.next();
            }
            (Some((i, x)), None) => {
                merged.push((*i, *x));
                left.next();
            }
            (_, Some((j, y))) => {
                merged.push((*j, sign * y));
                right.next();
            }
            (None, None) => return merged,
        }
    }
}

/// The same counts at a lower resolution.
fn reduce(indexed: &[(i32, f64)], from: i32, to: i32) -> Indexed {
    if from <= to {
        return indexed.to_vec();
    }
    let shift = (from - to).min(31);
    let mut reduced: Indexed = Vec::new();
    for (index, count) in indexed {
        let target = (index.saturating_sub(1) >> shift) + 1;
        match reduced.last_mut() {
            Some((last, sum)) if *last == target => *sum += count,
            _ => reduced.push((target, *count)),
        }
    }
    reduced
}

/// The bounds both lists have.
fn common_bounds(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().copied().filter(|bound| b.contains(bound)).collect()
}

/// Counts over `from` bounds brought to the subset `to`.
pub(super) fn rebin(indexed: &[(i32, f64)], from: &[f64], to: &[f64]) -> Indexed {
    let mut rebinned: Indexed = Vec::new();
    for (index, count) in indexed {
        let upper =
            usize::try_from(*index).ok().and_then(|at| from.get(at)).copied().unwrap_or(f64::INFINITY);
        let target = to.partition_point(|bound| *bound < upper) as i32;
        match rebinned.last_mut() {
            Some((last, sum)) if *last == target => *sum += count,
            _ => rebinned.push((target, *count)),
        }
    }
    rebinned
}

impl FloatHistogram {
    /// Multiplies every count and the sum. Counts below zero can only be those of a gauge.
    pub fn scale(&mut self, factor: f64) {
        if factor < 0.0 {
            self.counter_reset_hint = CounterResetHint::Gauge;
        }
        self.for_each_count(|count| *count *= factor);
    }

    /// Divides every count and the sum.
    pub fn divide(&mut self, divisor: f64) {
        if divisor < 0.0 {
            self.counter_reset_hint = CounterResetHint::Gauge;
        }
        self.for_each_count(|count| *count /= divisor);
        // Division by zero leaves no sensible buckets.
        if divisor == 0.0 {
            self.positive_spans.clear();
            self.negative_spans.clear();
            self.positive_buckets.clear();
            self.negative_buckets.clear();
        }
    }

    fn for_each_count(&mut self, mut change: impl FnMut(&mut f64)) {
        change(&mut self.zero_count);
        change(&mut self.count);
        change(&mut self.sum);
        self.positive_buckets.iter_mut().for_each(&mut change);
        self.negative_buckets.iter_mut().for_each(&mut change);
    }

    /// Adds another histogram to this one.
    ///
    /// # Errors
    /// When one has custom bounds and the other has not.
    pub fn add(&mut self, other: &FloatHistogram) -> Result<Reconciled, HistogramError> {
        self.combine(other, 1.0)
    }

    /// Subtracts another histogram from this one.
    ///
    /// # Errors
    /// When one has custom bounds and the other has not.
    pub fn subtract(&mut self, other: &FloatHistogram) -> Result<Reconciled, HistogramError> {
        self.combine(other, -1.0)
    }

    fn combine(&mut self, other: &FloatHistogram, sign: f64) -> Result<Reconciled, HistogramError> {
        if self.uses_custom_buckets() != other.uses_custom_buckets() {
            return Err(HistogramError::MixedSchemas);
        }
        let mut reconciled = Reconciled {
            counter_reset_collision: self.adjust_hint(other.counter_reset_hint),
            custom_bounds: false,
        };
        if self.uses_custom_buckets() {
            reconciled.custom_bounds = self.combine_custom(other, sign);
        } else {
            self.combine_exponential(other, sign);
        }
        self.count += sign * other.count;
        self.sum += sign * other.sum;
        Ok(reconciled)
    }

    /// The same layout and hint with every count zero.
    fn zeroed(&self) -> FloatHistogram {
        let mut zeroed = self.clone();
        zeroed.for_each_count(|count| *count = 0.0);
        zeroed
    }

    fn has_layout_of(&self, other: &FloatHistogram) -> bool {
        self.schema == other.schema
            && self.zero_threshold == other.zero_threshold
            && self.custom_values == other.custom_values
            && self.positive_spans == other.positive_spans
            && self.negative_spans == other.negative_spans
            && self.positive_buckets.len() == other.positive_buckets.len()
            && self.negative_buckets.len() == other.negative_buckets.len()
    }

    /// Returns whether the hints contradict each other.
    fn adjust_hint(&mut self, other: CounterResetHint) -> bool {
        let own = self.counter_reset_hint;
        match (own, other) {
            _ if own == other => false,
            (CounterResetHint::Gauge, _) | (_, CounterResetHint::Gauge) => {
                self.counter_reset_hint = CounterResetHint::Gauge;
                false
            }
            (CounterResetHint::Unknown, _) | (_, CounterResetHint::Unknown) => {
                self.counter_reset_hint = CounterResetHint::Unknown;
                false
            }
            _ => {
                self.counter_reset_hint = CounterResetHint::Unknown;
                true
            }
        }
    }

    /// Returns whether the bounds had to be reconciled.
    fn combine_custom(&mut self, other: &FloatHistogram, sign: f64) -> bool {
        if self.custom_values == other.custom_values {
            self.set_positive(&merge(&self.positive(), &other.positive(), sign));
            return false;
        }
        let bounds = common_bounds(&self.custom_values, &other.custom_values);
        let own = rebin(&self.positive(), &self.custom_values, &bounds);
        let theirs = rebin(&other.positive(), &other.custom_values, &bounds);
        self.set_positive(&merge(&own, &theirs, sign));
        self.custom_values = Arc::from(bounds);
        true
    }

    fn combine_exponential(&mut self, other: &FloatHistogram, sign: f64) {
        let other_zero_count = self.reconcile_zero_buckets(other);
        self.zero_count += sign * other_zero_count;
        let schema = self.schema.min(other.schema);
        let threshold = self.zero_threshold;
        // What lies in the common zero bucket has been counted there.
        let outside = |side: Indexed| -> Indexed {
            side.into_iter().filter(|(index, _)| other.bucket_bounds(*index).0 >= threshold).collect()
        };
        let positive = merge(
            &reduce(&self.positive(), self.schema, schema),
            &reduce(&outside(other.positive()), other.schema, schema),
            sign,
        );
        let negative = merge(
            &reduce(&self.negative(), self.schema, schema),
            &reduce(&outside(other.negative()), other.schema, schema),
            sign,
        );
        self.schema = schema;
        self.set_positive(&positive);
        self.set_negative(&negative);
    }

    /// Widens this histogram's zero bucket as far as needed; returns what the other's then holds.
    fn reconcile_zero_buckets(&mut self, other: &FloatHistogram) -> f64 {
        let (mut other_count, mut other_threshold) = (other.zero_count, other.zero_threshold);
        // Each round widens one side to a bound of the other, of which there are finitely many.
        while other_threshold != self.zero_threshold {
            if self.zero_threshold > other_threshold {
                (other_count, other_threshold) = other.zero_count_within(self.zero_threshold);
            }
            if other_threshold > self.zero_threshold {
                let (count, threshold) = self.zero_count_within(other_threshold);
                let inside = |side: Indexed, histogram: &FloatHistogram| -> Indexed {
                    side.into_iter()
                        .filter(|(index, _)| histogram.bucket_bounds(*index).0 >= threshold)
                        .collect()
                };
                let positive = inside(self.positive(), self);
                let negative = inside(self.negative(), self);
                self.set_positive(&positive);
                self.set_negative(&negative);
                self.zero_count = count;
                self.zero_threshold = threshold;
            }
            if other_threshold.is_nan() || self.zero_threshold.is_nan() {
                break;
            }
        }
        other_count
    }

    /// What a zero bucket of at least this width would hold, and the width it would have: a bucket that holds
    /// something is never cut.
    pub(super) fn zero_count_within(&self, threshold: f64) -> (f64, f64) {
        let mut width = threshold;
        let sides = [self.positive(), self.negative()];
        'widen: loop {
            let mut count = self.zero_count;
            for side in &sides {
                for (index, bucket_count) in side {
                    let (lower, upper) = self.bucket_bounds(*index);
                    if lower >= width {
                        break;
                    }
                    count += bucket_count;
                    if upper > width {
                        if *bucket_count != 0.0 {
                            width = upper;
                            continue 'widen;
                        }
                        break;
                    }
                }
            }
            return (count, width);
        }
    }

    /// This histogram at a lower resolution; unchanged when it has that or a lower one already.
    pub fn at_schema(&self, schema: i32) -> FloatHistogram {
        let mut copy = self.clone();
        if !self.uses_custom_buckets() && schema < self.schema && super::is_exponential_schema(schema) {
            copy.set_positive(&reduce(&self.positive(), self.schema, schema));
            copy.set_negative(&reduce(&self.negative(), self.schema, schema));
            copy.schema = schema;
        }
        copy
    }

    pub(super) fn reduced_sides(&self, schema: i32, threshold: f64) -> [Indexed; 2] {
        [self.positive(), self.negative()].map(|side| {
            let outside: Indexed =
                side.into_iter().filter(|(index, _)| self.bucket_bounds(*index).0 >= threshold).collect();
            reduce(&outside, self.schema, schema)
        })
    }
}

pub(super) fn bounds_in_common(a: &FloatHistogram, b: &FloatHistogram) -> Vec<f64> {
    common_bounds(&a.custom_values, &b.custom_values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CUSTOM_BUCKETS_SCHEMA, Span};

    fn histogram(schema: i32, offset: i32, counts: &[f64]) -> FloatHistogram {
        FloatHistogram {
            schema,
            count: counts.iter().sum(),
            sum: 1.0,
            positive_spans: vec![Span { offset, length: counts.len() as u32 }],
            positive_buckets: counts.to_vec(),
            ..FloatHistogram::default()
        }
    }

    #[test]
    fn resolutions_meet_at_the_lower_one() {
        let mut coarse = histogram(0, 1, &[1.0, 2.0]);
        let fine = histogram(1, 1, &[1.0, 1.0, 1.0, 1.0]);
        coarse.add(&fine).expect("both exponential");
        assert_eq!((coarse.schema, coarse.positive_buckets.as_slice()), (0, [3.0, 4.0].as_slice()));
        assert_eq!(coarse.count, 7.0);
        let mut refined = histogram(1, 1, &[1.0, 1.0, 1.0, 1.0]);
        refined.subtract(&histogram(0, 1, &[1.0, 2.0])).expect("both exponential");
        assert_eq!(refined.positive_buckets, [1.0, 0.0]);
    }

    #[test]
    fn zero_buckets_meet_at_the_wider_one() {
        let mut narrow = histogram(0, 1, &[5.0, 1.0]);
        let wide =
            FloatHistogram { zero_threshold: 1.5, zero_count: 2.0, count: 2.0, ..histogram(0, 5, &[]) };
        narrow.add(&wide).expect("both exponential");
        // The bucket (1, 2] holds something and is swallowed whole.
        assert_eq!((narrow.zero_threshold, narrow.zero_count), (2.0, 7.0));
        assert_eq!(narrow.positive_buckets, [1.0]);
    }

    #[test]
    fn custom_bounds_meet_at_the_common_ones() {
        let custom = |bounds: &[f64], counts: &[f64]| FloatHistogram {
            custom_values: Arc::from(bounds),
            ..histogram(CUSTOM_BUCKETS_SCHEMA, 0, counts)
        };
        let mut a = custom(&[1.0, 2.0, 3.0], &[1.0, 1.0, 1.0, 1.0]);
        let reconciled = a.add(&custom(&[2.0, 4.0], &[10.0, 10.0, 10.0])).expect("both custom");
        assert!(reconciled.custom_bounds);
        assert_eq!(
            (&*a.custom_values, a.positive_buckets.as_slice()),
            ([2.0].as_slice(), [12.0, 22.0].as_slice())
        );
        assert_eq!(a.add(&histogram(0, 0, &[1.0])), Err(HistogramError::MixedSchemas));
    }

    #[test]
    fn opposite_hints_are_told() {
        let mut a = FloatHistogram { counter_reset_hint: CounterResetHint::Reset, ..histogram(0, 0, &[1.0]) };
        let b = FloatHistogram { counter_reset_hint: CounterResetHint::NotReset, ..histogram(0, 0, &[1.0]) };
        assert!(a.add(&b).expect("both exponential").counter_reset_collision);
        assert_eq!(a.counter_reset_hint, CounterResetHint::Unknown);
    }
}
