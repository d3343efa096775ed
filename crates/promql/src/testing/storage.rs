//! A storage in memory, for tests and examples.

use gantry_prom_model::{
    Labels, Matcher, Querier, Queryable, SampleBuffer, SelectHints, SeriesSet, StorageError,
};
use std::collections::{BTreeMap, BTreeSet};

/// Series in memory, sorted by labels.
#[derive(Debug, Clone, Default)]
pub struct MemoryStorage {
    series: BTreeMap<Labels, SampleBuffer>,
}

impl MemoryStorage {
    pub fn new() -> Self {
        MemoryStorage::default()
    }

    /// The samples of a series, to add to; they must rise in time.
    pub fn series_mut(&mut self, labels: &Labels) -> &mut SampleBuffer {
        self.series.entry(labels.clone()).or_default()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Labels, &SampleBuffer)> {
        self.series.iter()
    }

    pub fn clear(&mut self) {
        self.series.clear();
    }

    /// The series that fulfil all matchers.
    pub(super) fn select<'a>(&'a self, matchers: &[Matcher]) -> Box<dyn SeriesSet + 'a> {
        let found: Vec<(&Labels, &SampleBuffer)> = self
            .series
            .iter()
            .filter(|(labels, _)| matchers.iter().all(|matcher| matcher.matches_labels(labels)))
            .collect();
        Box::new(MemorySeriesSet { series: found, next: 0, empty: Labels::empty() })
    }

    fn matching<'a>(
        &'a self,
        matchers: &'a [Matcher],
    ) -> impl Iterator<Item = (&'a Labels, &'a SampleBuffer)> {
        self.series.iter().filter(|(labels, _)| matchers.iter().all(|matcher| matcher.matches_labels(labels)))
    }
}

impl Queryable for MemoryStorage {
    fn querier(&self, _min_time_ms: i64, _max_time_ms: i64) -> Result<Box<dyn Querier + '_>, StorageError> {
        Ok(Box::new(MemoryQuerier { storage: self }))
    }
}

struct MemoryQuerier<'s> {
    storage: &'s MemoryStorage,
}

fn limited(names: BTreeSet<String>, limit: usize) -> Vec<String> {
    names.into_iter().take(if limit == 0 { usize::MAX } else { limit }).collect()
}

impl Querier for MemoryQuerier<'_> {
    fn select<'a>(
        &'a self,
        _sorted: bool,
        _hints: &SelectHints,
        matchers: &[Matcher],
    ) -> Result<Box<dyn SeriesSet + 'a>, StorageError> {
        Ok(self.storage.select(matchers))
    }

    fn label_names(&self, matchers: &[Matcher], limit: usize) -> Result<Vec<String>, StorageError> {
        let series = self.storage.matching(matchers);
        let names = series.flat_map(|(labels, _)| labels.iter().map(|(name, _)| name.to_owned()));
        Ok(limited(names.collect(), limit))
    }

    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        limit: usize,
    ) -> Result<Vec<String>, StorageError> {
        let series = self.storage.matching(matchers);
        let values = series.filter_map(|(labels, _)| labels.get(name).map(str::to_owned));
        Ok(limited(values.collect(), limit))
    }
}

struct MemorySeriesSet<'s> {
    series: Vec<(&'s Labels, &'s SampleBuffer)>,
    next: usize,
    empty: Labels,
}

impl MemorySeriesSet<'_> {
    fn current(&self) -> Option<&(&Labels, &SampleBuffer)> {
        self.series.get(self.next.checked_sub(1)?)
    }
}

impl SeriesSet for MemorySeriesSet<'_> {
    fn advance(&mut self) -> Result<bool, StorageError> {
        self.next += 1;
        Ok(self.next <= self.series.len())
    }

    fn labels(&self) -> &Labels {
        self.current().map_or(&self.empty, |(labels, _)| labels)
    }

    fn fill(
        &mut self,
        min_time_ms: i64,
        max_time_ms: i64,
        into: &mut SampleBuffer,
    ) -> Result<(), StorageError> {
        let Some((_, samples)) = self.current() else { return Ok(()) };
        let bounds = |times: &[i64]| {
            let from = times.partition_point(|time| *time < min_time_ms);
            from..times.partition_point(|time| *time <= max_time_ms).max(from)
        };
        for index in bounds(&samples.timestamps) {
            let start = samples.start_timestamps.get(index).copied().unwrap_or(0);
            into.push_with_start(samples.timestamps[index], samples.values[index], start);
        }
        for index in bounds(&samples.histogram_timestamps) {
            let start = samples.histogram_start_timestamps.get(index).copied().unwrap_or(0);
            let histogram = samples.histograms[index].clone();
            into.push_histogram_with_start(samples.histogram_timestamps[index], histogram, start);
        }
        Ok(())
    }
}
