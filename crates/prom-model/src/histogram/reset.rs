//! Whether a histogram's counts started again.

use super::arithmetic::{bounds_in_common, rebin};
use super::{CounterResetHint, FloatHistogram};

/// Whether a bucket of `previous` has fewer in `current`.
fn has_fallen(current: &[(i32, f64)], previous: &[(i32, f64)]) -> bool {
    let mut current = current.iter().peekable();
    for (index, before) in previous {
        if *before == 0.0 {
            continue;
        }
        while current.next_if(|(candidate, _)| candidate < index).is_some() {}
        match current.peek() {
            Some((candidate, now)) if candidate == index => {
                if now < before {
                    return true;
                }
            }
            _ => return true,
        }
    }
    false
}

impl FloatHistogram {
    /// Whether the counts started again between `previous` and this sample: some count fell, or the layout
    /// became finer, which no running histogram does.
    pub fn is_reset_after(&self, previous: &FloatHistogram) -> bool {
        match self.counter_reset_hint {
            CounterResetHint::Reset => return true,
            CounterResetHint::NotReset => return false,
            // Hints of a gauge say nothing about the counts.
            CounterResetHint::Unknown | CounterResetHint::Gauge => {}
        }
        if self.count < previous.count || self.uses_custom_buckets() != previous.uses_custom_buckets() {
            return true;
        }
        if self.uses_custom_buckets() {
            if self.custom_values == previous.custom_values {
                return has_fallen(&self.positive(), &previous.positive());
            }
            let bounds = bounds_in_common(self, previous);
            let current = rebin(&self.positive(), &self.custom_values, &bounds);
            return has_fallen(&current, &rebin(&previous.positive(), &previous.custom_values, &bounds));
        }
        if self.schema > previous.schema || self.zero_threshold < previous.zero_threshold {
            return true;
        }
        let (previous_zero_count, threshold) = previous.zero_count_within(self.zero_threshold);
        if threshold != self.zero_threshold || self.zero_count < previous_zero_count {
            return true;
        }
        let current = self.reduced_sides(self.schema, self.zero_threshold);
        let before = previous.reduced_sides(self.schema, self.zero_threshold);
        current.iter().zip(&before).any(|(current, before)| has_fallen(current, before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Span;

    fn counts(counts: &[f64]) -> FloatHistogram {
        FloatHistogram {
            count: counts.iter().sum(),
            positive_spans: vec![Span { offset: 0, length: counts.len() as u32 }],
            positive_buckets: counts.to_vec(),
            ..FloatHistogram::default()
        }
    }

    #[test]
    fn a_falling_count_is_a_reset() {
        assert!(!counts(&[1.0, 2.0]).is_reset_after(&counts(&[1.0, 1.0])));
        assert!(counts(&[0.0, 5.0]).is_reset_after(&counts(&[1.0, 1.0])));
        assert!(counts(&[5.0]).is_reset_after(&counts(&[1.0, 1.0])));
        let finer = FloatHistogram { schema: 2, ..counts(&[9.0]) };
        assert!(finer.is_reset_after(&counts(&[1.0])));
        let hinted = FloatHistogram { counter_reset_hint: CounterResetHint::NotReset, ..counts(&[0.0]) };
        assert!(!hinted.is_reset_after(&counts(&[1.0])));
    }
}
