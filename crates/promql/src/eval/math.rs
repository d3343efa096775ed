//! Sums without loss, quantiles, and the order in which people count.

use std::cmp::Ordering;

/// Kahan-Neumaier summation: the sum so far and what was lost of it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct KahanSum {
    pub(crate) sum: f64,
    pub(crate) compensation: f64,
}

impl KahanSum {
    pub(crate) fn of(value: f64) -> Self {
        KahanSum { sum: value, compensation: 0.0 }
    }

    pub(crate) fn add(&mut self, value: f64) {
        let total = self.sum + value;
        if total.is_infinite() {
            self.compensation = 0.0;
        } else if self.sum.abs() >= value.abs() {
            self.compensation += (self.sum - total) + value;
        } else {
            self.compensation += (value - total) + self.sum;
        }
        self.sum = total;
    }

    pub(crate) fn total(self) -> f64 {
        if self.sum.is_infinite() { self.sum } else { self.sum + self.compensation }
    }
}

/// A mean that sums as long as the sum does not overflow, then goes on incrementally.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mean {
    sum: KahanSum,
    count: f64,
    /// Whether `sum` holds the mean itself.
    is_incremental: bool,
}

impl Mean {
    pub(crate) fn of(value: f64) -> Self {
        Mean { sum: KahanSum::of(value), count: 1.0, is_incremental: false }
    }

    pub(crate) fn add(&mut self, value: f64) {
        self.count += 1.0;
        if !self.is_incremental {
            let mut sum = self.sum;
            sum.add(value);
            if !sum.sum.is_infinite() {
                self.sum = sum;
                return;
            }
            self.is_incremental = true;
            self.sum.sum /= self.count - 1.0;
            self.sum.compensation /= self.count - 1.0;
        }
        let share = (self.count - 1.0) / self.count;
        self.sum.sum *= share;
        self.sum.compensation *= share;
        self.sum.add(value / self.count);
    }

    pub(crate) fn value(self) -> f64 {
        if self.is_incremental {
            return self.sum.sum + self.sum.compensation;
        }
        self.sum.sum / self.count + self.sum.compensation / self.count
    }
}

/// NaN first, then by size.
pub(crate) fn compare_nan_first(a: f64, b: f64) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
        (false, false) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
    }
}

/// The `q`-quantile, interpolated between neighbours; reorders the values.
pub(crate) fn quantile(q: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    let last = (values.len() - 1) as f64;
    let rank = q * last;
    let lower = rank.floor().max(0.0);
    let weight = rank - rank.floor();
    // Only the two neighbours have to be in their places.
    let (_, low, above) = values.select_nth_unstable_by(lower as usize, |a, b| compare_nan_first(*a, *b));
    let low = *low;
    let high = above.iter().copied().min_by(|a, b| compare_nan_first(*a, *b)).unwrap_or(low);
    low * (1.0 - weight) + high * weight
}

/// Compares texts with the numbers in them taken as numbers: `a2` before `a10`.
pub(crate) fn natural_order(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        let (Some(x), Some(y)) = (a.first(), b.first()) else { return a.len().cmp(&b.len()) };
        if x.is_ascii_digit() && y.is_ascii_digit() {
            let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let (number_a, rest_a) = a.split_at(digits(a));
            let (number_b, rest_b) = b.split_at(digits(b));
            fn significant(number: &[u8]) -> &[u8] {
                let zeros = number.iter().take_while(|digit| **digit == b'0').count();
                &number[zeros..]
            }
            let (left, right) = (significant(number_a), significant(number_b));
            let order = left.len().cmp(&right.len()).then_with(|| left.cmp(right));
            // Equal numbers with more leading zeros come later.
            let order = order.then_with(|| number_a.len().cmp(&number_b.len()));
            if order != Ordering::Equal {
                return order;
            }
            (a, b) = (rest_a, rest_b);
        } else if x != y {
            return x.cmp(y);
        } else {
            (a, b) = (&a[1..], &b[1..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_parts_are_not_lost() {
        let mut sum = KahanSum::default();
        for value in [1.0, 1e100, 1.0, -1e100] {
            sum.add(value);
        }
        assert_eq!(sum.total(), 2.0);
    }

    #[test]
    fn a_mean_of_huge_values_does_not_overflow() {
        let mut mean = Mean::of(f64::MAX);
        mean.add(f64::MAX);
        mean.add(f64::MAX);
        assert!((mean.value() / f64::MAX - 1.0).abs() < 1e-12);
    }

    #[test]
    fn quantiles_interpolate() {
        assert_eq!(quantile(0.5, &mut [3.0, 1.0, 2.0, 4.0]), 2.5);
        assert_eq!(quantile(0.0, &mut [3.0, f64::NAN]).to_bits(), f64::NAN.to_bits());
        assert_eq!(quantile(2.0, &mut [3.0]), f64::INFINITY);
    }

    #[test]
    fn numbers_in_texts_count_as_numbers() {
        let mut names = ["cpu10", "cpu2", "cpu1", "10", "9", "a", "cpu02"];
        names.sort_by(|a, b| natural_order(a, b));
        assert_eq!(names, ["9", "10", "a", "cpu1", "cpu2", "cpu02", "cpu10"]);
    }
}
