//! The newest exemplars of all series, a bounded number of them; the oldest go first.

use std::collections::{HashMap, VecDeque};

use gantry_prom_model::{AppendError, Exemplar, Labels, Matcher};
use parking_lot::Mutex;

use super::Head;

/// Characters that the labels of an exemplar may have together, as OpenMetrics says.
const MAX_LABEL_CHARS: usize = 128;

/// An exemplar with its time.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stored {
    pub(super) labels: Labels,
    pub(super) t: i64,
    pub(super) v: f64,
}

impl Stored {
    fn is_repeated_by(&self, next: &Stored) -> bool {
        next.t >= self.t && next.v.to_bits() == self.v.to_bits() && next.labels == self.labels
    }
}

/// Exemplars by series.
#[derive(Debug, Default)]
struct Ring {
    by_series: HashMap<u64, VecDeque<Stored>>,
    /// The series of each exemplar, the oldest first.
    order: VecDeque<u64>,
}

/// The exemplars of the head.
#[derive(Debug)]
pub(super) struct Exemplars {
    capacity: usize,
    ring: Mutex<Ring>,
}

/// The exemplars of one series.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesExemplars {
    /// The series.
    pub labels: Labels,
    /// Its exemplars, by time; every one has a time.
    pub exemplars: Vec<Exemplar>,
}

impl Exemplars {
    pub(super) fn new(capacity: usize) -> Exemplars {
        Exemplars { capacity, ring: Mutex::default() }
    }

    /// Whether an exemplar can be taken; `false` when the very same is there already.
    pub(super) fn check(&self, series: u64, exemplar: &Stored) -> Result<bool, AppendError> {
        let chars: usize =
            exemplar.labels.iter().map(|(name, value)| name.chars().count() + value.chars().count()).sum();
        if chars > MAX_LABEL_CHARS {
            return Err(AppendError::Invalid(format!(
                "label length for exemplar exceeds maximum of {MAX_LABEL_CHARS} UTF-8 characters"
            )));
        }
        if self.capacity == 0 {
            return Ok(false);
        }
        match self.ring.lock().by_series.get(&series).and_then(VecDeque::back) {
            // Exemplars without a time of their own come again with each scrape.
            Some(last) if last.is_repeated_by(exemplar) => Ok(false),
            Some(last) if exemplar.t <= last.t => Err(AppendError::OutOfOrderExemplar),
            _ => Ok(true),
        }
    }

    /// Keeps an exemplar; one that is not newer than its series' last is left out.
    pub(super) fn add(&self, series: u64, exemplar: Stored) {
        if self.capacity == 0 {
            return;
        }
        let ring = &mut *self.ring.lock();
        let list = ring.by_series.entry(series).or_default();
        if list.back().is_some_and(|last| exemplar.t <= last.t) {
            return;
        }
        list.push_back(exemplar);
        ring.order.push_back(series);
        while ring.order.len() > self.capacity {
            let Some(oldest) = ring.order.pop_front() else { return };
            if let Some(list) = ring.by_series.get_mut(&oldest) {
                list.pop_front();
                if list.is_empty() {
                    ring.by_series.remove(&oldest);
                }
            }
        }
    }

    fn of(&self, series: u64, min_t: i64, max_t: i64) -> Vec<Exemplar> {
        let ring = self.ring.lock();
        let list = ring.by_series.get(&series).into_iter().flatten();
        list.filter(|stored| (min_t..=max_t).contains(&stored.t))
            .map(|stored| Exemplar {
                labels: stored.labels.clone(),
                value: stored.v,
                timestamp_ms: Some(stored.t),
            })
            .collect()
    }

    pub(super) fn len(&self) -> usize {
        self.ring.lock().order.len()
    }
}

impl Head {
    /// The exemplars with `min_t <= t <= max_t` of the series that fulfil the matchers, by the series' labels.
    pub fn exemplars(&self, matchers: &[Matcher], min_t: i64, max_t: i64) -> Vec<SeriesExemplars> {
        let index = self.index.read();
        let mut found: Vec<SeriesExemplars> = Vec::new();
        for slot in index.select(matchers) {
            let Some(series) = index.series(slot) else { continue };
            let exemplars = self.exemplars.of(series.reference, min_t, max_t);
            if !exemplars.is_empty() {
                found.push(SeriesExemplars { labels: index.labels(slot), exemplars });
            }
        }
        found.sort_by(|left, right| left.labels.iter().cmp(right.labels.iter()));
        found
    }

    /// Number of exemplars in memory.
    pub fn exemplar_count(&self) -> usize {
        self.exemplars.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(t: i64) -> Stored {
        Stored { labels: Labels::from_pairs([("trace_id", "x")]), t, v: t as f64 }
    }

    #[test]
    fn the_oldest_of_all_series_goes_first() {
        let exemplars = Exemplars::new(3);
        for (series, t) in [(1, 1), (2, 2), (1, 3), (2, 4)] {
            exemplars.add(series, at(t));
        }
        let times = |series| -> Vec<_> {
            exemplars.of(series, i64::MIN, i64::MAX).iter().filter_map(|e| e.timestamp_ms).collect()
        };
        assert_eq!((times(1), times(2)), (vec![3], vec![2, 4]));
        assert_eq!(exemplars.len(), 3);
    }

    #[test]
    fn order_repetition_and_length_are_checked() {
        let exemplars = Exemplars::new(3);
        exemplars.add(1, at(5));
        assert!(!exemplars.check(1, &at(5)).expect("the same again is no error"));
        assert!(matches!(exemplars.check(1, &at(4)), Err(AppendError::OutOfOrderExemplar)));
        assert!(exemplars.check(2, &at(4)).expect("another series has its own order"));
        let long = Stored { labels: Labels::from_pairs([("trace_id", "x".repeat(121))]), ..at(9) };
        assert!(matches!(exemplars.check(1, &long), Err(AppendError::Invalid(_))));
    }
}
