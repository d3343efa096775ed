//! The penalty algorithm: follow one replica, and go to the other only when it has paused for two intervals.
//!
//! Replicas are joined in pairs from the left, as Thanos joins them; the result is the same sample for sample.

use std::sync::Arc;

use gantry_prom_model::{FloatHistogram, SampleBuffer};

/// The penalty while no interval is known, in milliseconds.
const INITIAL_PENALTY_MS: i64 = 5000;

/// A sample of either kind.
#[derive(Debug, Clone)]
enum Value {
    Float(f64),
    Histogram(Arc<FloatHistogram>),
}

/// A source of samples that stands on one of them.
pub trait Replica {
    /// Goes to the next sample; `false` at the end.
    fn advance(&mut self) -> bool;

    /// Goes to the first sample at or after `t`, wherever it stands; `t` is later than all that was taken.
    fn seek(&mut self, t: i64) -> bool;

    /// The time it stands on.
    fn time(&self) -> i64;

    /// The float it stands on.
    fn float(&self) -> Option<f64>;

    /// The histogram it stands on.
    fn histogram(&self) -> Option<Arc<FloatHistogram>>;

    /// A value below `last`, and all behind it, is raised to it.
    fn adjust(&mut self, last: f64);
}

/// The samples of one replica.
struct Samples {
    samples: Vec<(i64, Value)>,
    /// Number of samples that were passed; the current one is the one before.
    next: usize,
    is_counter: bool,
    raised: f64,
}

impl Samples {
    fn new(buffer: &SampleBuffer, is_counter: bool) -> Samples {
        let floats = buffer.timestamps.iter().zip(&buffer.values).map(|(t, v)| (*t, Value::Float(*v)));
        let mut samples: Vec<(i64, Value)> = floats.collect();
        if !buffer.histograms.is_empty() {
            let histograms = buffer.histogram_timestamps.iter().zip(&buffer.histograms);
            samples.extend(histograms.map(|(t, h)| (*t, Value::Histogram(h.clone()))));
            samples.sort_by_key(|(t, _)| *t);
        }
        Samples { samples, next: 0, is_counter, raised: 0.0 }
    }

    fn current(&self) -> Option<&(i64, Value)> {
        self.samples.get(self.next.checked_sub(1)?)
    }
}

impl Replica for Samples {
    fn advance(&mut self) -> bool {
        self.next = (self.next + 1).min(self.samples.len() + 1);
        self.next <= self.samples.len()
    }

    fn seek(&mut self, t: i64) -> bool {
        // A penalty holds for one step: the next one may go back to what this one passes over.
        self.next = self.samples.partition_point(|(time, _)| *time < t) + 1;
        self.current().is_some()
    }

    fn time(&self) -> i64 {
        self.current().map_or(i64::MIN, |(t, _)| *t)
    }

    fn float(&self) -> Option<f64> {
        match self.current() {
            // Without a change the bits stay as they are: a stale marker is told by them.
            Some((_, Value::Float(v))) => Some(if self.raised == 0.0 { *v } else { v + self.raised }),
            _ => None,
        }
    }

    fn histogram(&self) -> Option<Arc<FloatHistogram>> {
        match self.current() {
            Some((_, Value::Histogram(h))) => Some(h.clone()),
            _ => None,
        }
    }

    fn adjust(&mut self, last: f64) {
        if let Some(value) = self.float().filter(|value| self.is_counter && last > *value) {
            self.raised += last - value;
        }
    }
}

/// Two replicas as one.
struct Pair {
    a: Box<dyn Replica>,
    b: Box<dyn Replica>,
    has_a: bool,
    has_b: bool,
    last_t: i64,
    penalty_a: i64,
    penalty_b: i64,
    /// Whose sample is the current one.
    uses_a: bool,
}

impl Pair {
    fn new(mut a: Box<dyn Replica>, mut b: Box<dyn Replica>) -> Pair {
        let (has_a, has_b) = (a.advance(), b.advance());
        Pair { a, b, has_a, has_b, last_t: i64::MIN, penalty_a: 0, penalty_b: 0, uses_a: true }
    }

    fn used(&self) -> &dyn Replica {
        if self.uses_a { self.a.as_ref() } else { self.b.as_ref() }
    }

    fn choose(&mut self) -> bool {
        let after = self.last_t.saturating_add(1);
        self.has_a = self.has_a && self.a.seek(after.saturating_add(self.penalty_a));
        self.has_b = self.has_b && self.b.seek(after.saturating_add(self.penalty_b));
        match (self.has_a, self.has_b) {
            (false, has_b) => {
                self.uses_a = false;
                if has_b {
                    self.last_t = self.b.time();
                    self.penalty_b = 0;
                }
                return has_b;
            }
            (true, false) => {
                self.uses_a = true;
                self.last_t = self.a.time();
                self.penalty_a = 0;
                return true;
            }
            (true, true) => {}
        }
        let (time_a, time_b) = (self.a.time(), self.b.time());
        self.uses_a = time_a <= time_b;
        let now = time_a.min(time_b);
        // The one that was not chosen has to be later by two intervals, or it would make samples denser than they are.
        let penalty = match self.last_t {
            i64::MIN => INITIAL_PENALTY_MS,
            last => now.saturating_sub(last).saturating_mul(2),
        };
        (self.penalty_a, self.penalty_b) = if self.uses_a { (0, penalty) } else { (penalty, 0) };
        self.last_t = now;
        true
    }
}

impl Replica for Pair {
    fn advance(&mut self) -> bool {
        let used_a = self.uses_a;
        let exists = if used_a { self.has_a } else { self.has_b };
        let last = self.used().float().filter(|_| exists);
        let found = self.choose();
        if let Some(last) = last.filter(|_| self.uses_a != used_a) {
            self.adjust(last);
        }
        found
    }

    fn seek(&mut self, t: i64) -> bool {
        while self.time() < t {
            if !self.advance() {
                return false;
            }
        }
        true
    }

    fn time(&self) -> i64 {
        self.used().time()
    }

    fn float(&self) -> Option<f64> {
        self.used().float()
    }

    fn histogram(&self) -> Option<Arc<FloatHistogram>> {
        self.used().histogram()
    }

    fn adjust(&mut self, last: f64) {
        if self.has_a {
            self.a.adjust(last);
        }
        if self.has_b {
            self.b.adjust(last);
        }
    }
}

/// The samples of `replicas` as those of one series. With `is_counter` a value never falls because of a change of
/// replica.
pub fn penalty(replicas: &[SampleBuffer], is_counter: bool) -> SampleBuffer {
    let mut merged = SampleBuffer::default();
    let mut all: Option<Box<dyn Replica>> = None;
    for replica in replicas {
        let one: Box<dyn Replica> = Box::new(Samples::new(replica, is_counter));
        all = Some(match all {
            None => one,
            Some(before) => Box::new(Pair::new(before, one)),
        });
    }
    let Some(mut all) = all else { return merged };
    while all.advance() {
        match (all.float(), all.histogram()) {
            (Some(value), _) => merged.push(all.time(), value),
            (None, Some(histogram)) => merged.push_histogram(all.time(), histogram),
            (None, None) => {}
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer(samples: &[(i64, f64)]) -> SampleBuffer {
        let mut buffer = SampleBuffer::default();
        samples.iter().for_each(|(t, v)| buffer.push(*t, *v));
        buffer
    }

    fn merged(replicas: &[&[(i64, f64)]], is_counter: bool) -> Vec<(i64, f64)> {
        let replicas: Vec<SampleBuffer> = replicas.iter().map(|samples| buffer(samples)).collect();
        let merged = penalty(&replicas, is_counter);
        merged.timestamps.into_iter().zip(merged.values).collect()
    }

    #[test]
    fn a_gap_is_filled_by_the_other() {
        let a = [(0, 0.0), (10_000, 1.0), (20_000, 2.0), (60_000, 6.0), (70_000, 7.0)];
        let b = [(1_000, 0.0), (11_000, 1.1), (21_000, 2.1), (31_000, 3.1), (41_000, 4.1), (51_000, 5.1)];
        let times: Vec<i64> = merged(&[&a, &b], false).iter().map(|(t, _)| *t).collect();
        assert_eq!(times, [0, 10_000, 20_000, 41_000, 51_000]);
    }

    #[test]
    fn a_counter_does_not_fall_when_the_replica_changes() {
        let a = [(10_000, 8.0), (20_000, 9.0)];
        let b = [(10_001, 8.0), (45_001, 8.5), (55_001, 9.5)];
        assert_eq!(merged(&[&a, &b], true), [(10_000, 8.0), (20_000, 9.0), (45_001, 9.0), (55_001, 10.0)]);
        assert_eq!(merged(&[&a, &b], false), [(10_000, 8.0), (20_000, 9.0), (45_001, 8.5), (55_001, 9.5)]);
    }

    #[test]
    fn any_number_of_replicas() {
        assert!(merged(&[], false).is_empty());
        assert!(merged(&[&[], &[]], false).is_empty());
        assert_eq!(merged(&[&[], &[(5, 1.0)], &[(5, 2.0)]], false), [(5, 1.0)]);
    }
}
