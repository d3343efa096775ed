//! A storage in memory that is written to while it is read, as rules under test do.

use super::run::as_stored;
use super::storage::MemoryStorage;
use gantry_prom_model::{
    AppendError, Appendable, Appender, FloatHistogram, Labels, Matcher, Querier, Queryable, SampleBuffer,
    SelectHints, SeriesRef, SeriesSet, StorageError,
};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

/// Series in memory; each takes samples that are newer than what it has.
#[derive(Debug, Default)]
pub struct LiveStorage {
    series: RwLock<MemoryStorage>,
}

impl LiveStorage {
    pub fn new() -> Self {
        LiveStorage::default()
    }

    fn read(&self) -> RwLockReadGuard<'_, MemoryStorage> {
        self.series.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queryable for LiveStorage {
    fn querier(&self, min_time_ms: i64, max_time_ms: i64) -> Result<Box<dyn Querier + '_>, StorageError> {
        Ok(Box::new(LiveQuerier { series: self, min_time_ms, max_time_ms }))
    }
}

struct LiveQuerier<'s> {
    series: &'s LiveStorage,
    min_time_ms: i64,
    max_time_ms: i64,
}

/// The series as they were when they were asked for.
struct Snapshot {
    series: std::vec::IntoIter<(Labels, SampleBuffer)>,
    current: (Labels, SampleBuffer),
}

impl Querier for LiveQuerier<'_> {
    fn select<'a>(
        &'a self,
        _sorted: bool,
        _hints: &SelectHints,
        matchers: &[Matcher],
    ) -> Result<Box<dyn SeriesSet + 'a>, StorageError> {
        let stored = self.series.read();
        let mut found = Vec::new();
        let mut set = stored.select(matchers);
        while set.advance()? {
            let mut samples = SampleBuffer::default();
            set.fill(self.min_time_ms, self.max_time_ms, &mut samples)?;
            found.push((set.labels().clone(), samples));
        }
        let current = (Labels::empty(), SampleBuffer::default());
        Ok(Box::new(Snapshot { series: found.into_iter(), current }))
    }

    fn label_names(&self, matchers: &[Matcher], limit: usize) -> Result<Vec<String>, StorageError> {
        self.series.read().querier(i64::MIN, i64::MAX)?.label_names(matchers, limit)
    }

    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        limit: usize,
    ) -> Result<Vec<String>, StorageError> {
        self.series.read().querier(i64::MIN, i64::MAX)?.label_values(name, matchers, limit)
    }
}

impl SeriesSet for Snapshot {
    fn advance(&mut self) -> Result<bool, StorageError> {
        match self.series.next() {
            Some(next) => {
                self.current = next;
                Ok(true)
            }
            None => Ok(false),
        }
    }

    fn labels(&self) -> &Labels {
        &self.current.0
    }

    fn fill(
        &mut self,
        min_time_ms: i64,
        max_time_ms: i64,
        into: &mut SampleBuffer,
    ) -> Result<(), StorageError> {
        let samples = &self.current.1;
        let bounds = |times: &[i64]| {
            let from = times.partition_point(|time| *time < min_time_ms);
            from..times.partition_point(|time| *time <= max_time_ms).max(from)
        };
        for index in bounds(&samples.timestamps) {
            into.push(samples.timestamps[index], samples.values[index]);
        }
        for index in bounds(&samples.histogram_timestamps) {
            into.push_histogram(samples.histogram_timestamps[index], Arc::clone(&samples.histograms[index]));
        }
        Ok(())
    }
}

impl Appendable for LiveStorage {
    fn appender(&self) -> Box<dyn Appender + '_> {
        Box::new(LiveAppender { storage: self, floats: Vec::new(), histograms: Vec::new() })
    }
}

struct LiveAppender<'s> {
    storage: &'s LiveStorage,
    floats: Vec<(Labels, i64, f64)>,
    histograms: Vec<(Labels, i64, Arc<FloatHistogram>)>,
}

impl LiveAppender<'_> {
    /// Whether the sample is new; an equal one that is there already is none.
    fn check(&self, labels: &Labels, timestamp_ms: i64, value: Option<f64>) -> Result<bool, AppendError> {
        let mut stored = self.storage.series.write().unwrap_or_else(PoisonError::into_inner);
        let samples = stored.series_mut(labels);
        let last_float = samples.timestamps.last().copied();
        let last = last_float.max(samples.histogram_timestamps.last().copied());
        match last {
            Some(last) if last > timestamp_ms => Err(AppendError::OutOfOrder),
            Some(last) if last == timestamp_ms => {
                let same = last_float == Some(last)
                    && value.map(f64::to_bits) == samples.values.last().copied().map(f64::to_bits);
                if same { Ok(false) } else { Err(AppendError::DuplicateForTimestamp) }
            }
            _ => Ok(true),
        }
    }
}

impl Appender for LiveAppender<'_> {
    fn append(
        &mut self,
        _series: Option<SeriesRef>,
        labels: &Labels,
        timestamp_ms: i64,
        value: f64,
    ) -> Result<SeriesRef, AppendError> {
        if self.check(labels, timestamp_ms, Some(value))? {
            self.floats.push((labels.clone(), timestamp_ms, value));
        }
        Ok(SeriesRef(0))
    }

    fn append_histogram(
        &mut self,
        _series: Option<SeriesRef>,
        labels: &Labels,
        timestamp_ms: i64,
        histogram: &FloatHistogram,
    ) -> Result<SeriesRef, AppendError> {
        if self.check(labels, timestamp_ms, None)? {
            self.histograms.push((labels.clone(), timestamp_ms, Arc::new(histogram.clone())));
        }
        Ok(SeriesRef(0))
    }

    fn commit(self: Box<Self>) -> Result<(), AppendError> {
        let mut stored = self.storage.series.write().unwrap_or_else(PoisonError::into_inner);
        for (labels, time, value) in self.floats {
            let samples = stored.series_mut(&labels);
            if samples.timestamps.last().is_none_or(|last| *last < time) {
                samples.push(time, value);
            }
        }
        for (labels, time, histogram) in self.histograms {
            let samples = stored.series_mut(&labels);
            if samples.histogram_timestamps.last().is_none_or(|last| *last < time) {
                let histogram = as_stored(samples, time, &histogram);
                samples.push_histogram(time, histogram);
            }
        }
        Ok(())
    }

    fn rollback(self: Box<Self>) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Engine;

    #[test]
    fn samples_are_taken_in_the_order_of_time() {
        let storage = LiveStorage::new();
        let labels = Labels::from_pairs([("__name__", "a")]);
        let append = |time, value| {
            let mut appender = storage.appender();
            let outcome = appender.append(None, &labels, time, value);
            appender.commit().expect("memory takes everything");
            outcome
        };
        append(1_000, 1.0).expect("the first");
        append(1_000, 1.0).expect("the same again");
        assert!(matches!(append(1_000, 2.0), Err(AppendError::DuplicateForTimestamp)));
        assert!(matches!(append(500, 2.0), Err(AppendError::OutOfOrder)));
        append(2_000, 5.0).expect("a newer one");
        let result = Engine::default().instant(&storage, "sum_over_time(a[10s])", 2_000).expect("an answer");
        assert!(format!("{:?}", result.value).contains("Float(6.0)"), "{:?}", result.value);
    }
}
