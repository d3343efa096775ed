//! Exact counts per microsecond, in pages that exist only where values fell.
//!
//! Invariant: a quantile is the smallest recorded value with at least that share of all values at or below it
//! (nearest rank), exactly, until [`MOST_PAGES`] pages are in use; later values outside them are rounded up to
//! the next 2^20 µs and [`Latencies::is_exact`] turns false.

use std::collections::BTreeMap;

const PAGE_BITS: u32 = 8;
const PAGE: usize = 1 << PAGE_BITS;
/// Values below 2^20 µs (about a second) are found by index, slower ones through a tree.
const NEAR_PAGES: usize = 1 << 12;
/// One page holds 1 KiB, so one set of counts holds at most 64 MiB.
const MOST_PAGES: usize = 1 << 16;
const COARSE_BITS: u32 = 20;
/// About 71 minutes; anything slower is counted as this.
const LARGEST_US: u64 = u32::MAX as u64;

type Page = Box<[u32; PAGE]>;

/// A set of durations, kept as exact counts per microsecond.
#[derive(Default, Clone)]
pub struct Latencies {
    near: Vec<Option<Page>>,
    far: BTreeMap<u32, Page>,
    coarse: BTreeMap<u32, u32>,
    /// Indexes of near pages that hold a count, in the order of their first use.
    touched: Vec<u32>,
    pages: usize,
    count: u64,
    sum_us: u64,
    max_us: u64,
}

impl Latencies {
    pub fn new() -> Latencies {
        Latencies::default()
    }

    pub fn record(&mut self, us: u64) {
        self.add(us.min(LARGEST_US), 1);
    }

    /// As `times` times [`Latencies::record`].
    pub fn record_many(&mut self, us: u64, times: u32) {
        self.add(us.min(LARGEST_US), times);
    }

    fn add(&mut self, us: u64, times: u32) {
        self.count += u64::from(times);
        self.sum_us = self.sum_us.saturating_add(us.saturating_mul(u64::from(times)));
        self.max_us = self.max_us.max(us);
        let index = (us >> PAGE_BITS) as usize;
        let slot = us as usize & (PAGE - 1);
        if let Some(page) = self.page(index) {
            page[slot] = page[slot].saturating_add(times);
        } else {
            let count = self.coarse.entry((us >> COARSE_BITS) as u32).or_insert(0);
            *count = count.saturating_add(times);
        }
    }

    /// The page with this index, made when there is room for it.
    fn page(&mut self, index: usize) -> Option<&mut Page> {
        let full = self.pages >= MOST_PAGES;
        if index < NEAR_PAGES {
            if self.near.len() <= index {
                self.near.resize_with(index + 1, || None);
            }
            let slot = self.near.get_mut(index)?;
            if slot.is_none() {
                if full {
                    return None;
                }
                self.pages += 1;
                self.touched.push(index as u32);
                *slot = Some(Box::new([0; PAGE]));
            }
            return slot.as_mut();
        }
        let index = index as u32;
        if full && !self.far.contains_key(&index) {
            return None;
        }
        let pages = &mut self.pages;
        Some(self.far.entry(index).or_insert_with(|| {
            *pages += 1;
            Box::new([0; PAGE])
        }))
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Latencies) {
        for &index in &other.touched {
            if let Some(Some(page)) = other.near.get(index as usize) {
                self.merge_page(index, page);
            }
        }
        for (&index, page) in &other.far {
            self.merge_page(index, page);
        }
        for (&second, &times) in &other.coarse {
            let count = self.coarse.entry(second).or_insert(0);
            *count = count.saturating_add(times);
            self.count += u64::from(times);
            self.sum_us = self.sum_us.saturating_add(u64::from(times) * coarse_value(second));
        }
        self.max_us = self.max_us.max(other.max_us);
    }

    fn merge_page(&mut self, index: u32, page: &Page) {
        let first = u64::from(index) << PAGE_BITS;
        for (offset, &times) in page.iter().enumerate().filter(|(_, times)| **times > 0) {
            self.add(first + offset as u64, times);
        }
    }

    /// Empties the set; its near pages stay allocated for the next window only while they are few.
    pub fn clear(&mut self) {
        *self = Latencies::default();
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    pub fn sum_us(&self) -> u64 {
        self.sum_us
    }

    /// The largest value, 0 when there is none.
    pub fn max_us(&self) -> u64 {
        self.max_us
    }

    pub fn mean_us(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum_us as f64 / self.count as f64)
    }

    pub fn is_exact(&self) -> bool {
        self.coarse.is_empty()
    }

    /// The value at quantile `q` (0 to 1) by nearest rank; `None` when nothing was recorded.
    pub fn quantile_us(&self, q: f64) -> Option<u64> {
        self.quantiles_us(&[q]).first().copied().flatten()
    }

    /// As [`Latencies::quantile_us`] for several quantiles in ascending order, in one pass.
    pub fn quantiles_us(&self, quantiles: &[f64]) -> Vec<Option<u64>> {
        let mut results = vec![None; quantiles.len()];
        if self.count == 0 {
            return results;
        }
        let ranks: Vec<u64> = quantiles
            .iter()
            .map(|q| ((q.clamp(0.0, 1.0) * self.count as f64).ceil() as u64).clamp(1, self.count))
            .collect();
        let mut seen = 0;
        let mut next = 0;
        self.for_each(|us, times| {
            seen += u64::from(times);
            while next < ranks.len() && ranks[next] <= seen {
                results[next] = Some(us);
                next += 1;
            }
            next < ranks.len()
        });
        // Saturated counters can lose values at the end.
        for result in results.iter_mut().skip(next) {
            *result = Some(self.max_us);
        }
        results
    }

    /// Every value with its count, in ascending order, until `visit` returns false.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(u64, u32) -> bool) {
        let mut coarse = self.coarse.iter().peekable();
        let near = self.near.iter().enumerate().filter_map(|(i, page)| Some((i as u32, page.as_ref()?)));
        for (index, page) in near.chain(self.far.iter().map(|(i, page)| (*i, page))) {
            let first = u64::from(index) << PAGE_BITS;
            while let Some((&second, &times)) = coarse.next_if(|(second, _)| coarse_value(**second) < first) {
                if !visit(coarse_value(second), times) {
                    return;
                }
            }
            for (offset, &times) in page.iter().enumerate() {
                if times > 0 && !visit(first + offset as u64, times) {
                    return;
                }
            }
        }
        for (&second, &times) in coarse {
            if !visit(coarse_value(second).min(self.max_us), times) {
                return;
            }
        }
    }
}

fn coarse_value(second: u32) -> u64 {
    ((u64::from(second) + 1) << COARSE_BITS) - 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Rng;

    /// The definition itself, on a sorted list.
    fn by_sorting(values: &[u64], q: f64) -> u64 {
        let mut sorted = values.to_vec();
        sorted.sort_unstable();
        let rank = ((q * sorted.len() as f64).ceil() as usize).clamp(1, sorted.len());
        sorted[rank - 1]
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_values() {
        let mut rng = Rng::new(7, 0);
        for scale in [100.0, 5_000.0, 3_000_000.0] {
            let values: Vec<u64> = (0..5000).map(|_| rng.exponential(scale) as u64).collect();
            let mut whole = Latencies::new();
            let mut halves = [Latencies::new(), Latencies::new()];
            for (i, &value) in values.iter().enumerate() {
                whole.record(value);
                halves[i % 2].record(value);
            }
            let mut merged = Latencies::new();
            merged.merge(&halves[0]);
            merged.merge(&halves[1]);
            let quantiles = [0.0, 0.5, 0.9, 0.99, 0.999, 1.0];
            let expected: Vec<_> = quantiles.iter().map(|q| Some(by_sorting(&values, *q))).collect();
            assert_eq!(whole.quantiles_us(&quantiles), expected);
            assert_eq!(merged.quantiles_us(&quantiles), expected);
            assert_eq!(merged.sum_us(), values.iter().sum::<u64>());
            assert!(merged.is_exact());
        }
    }

    #[test]
    fn nothing_recorded_has_no_quantile() {
        assert_eq!(Latencies::new().quantile_us(0.5), None);
        assert_eq!(Latencies::new().mean_us(), None);
    }

    #[test]
    fn memory_is_bounded_and_the_rounding_is_told() {
        let mut latencies = Latencies::new();
        let values = (0..MOST_PAGES as u64 + 500).map(|i| i << PAGE_BITS);
        values.for_each(|value| latencies.record(value));
        assert_eq!(latencies.pages, MOST_PAGES);
        assert!(!latencies.is_exact());
        assert_eq!(latencies.quantile_us(1.0), Some(latencies.max_us()));
        assert_eq!(latencies.count(), MOST_PAGES as u64 + 500);
    }

    #[test]
    fn an_absurd_value_is_counted_as_the_largest() {
        let mut latencies = Latencies::new();
        latencies.record(u64::MAX);
        assert_eq!(latencies.quantile_us(0.5), Some(LARGEST_US));
    }
}
