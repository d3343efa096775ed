//! Reading the head.

use std::collections::VecDeque;
use std::sync::Arc;

use gantry_prom_model::{
    Labels, Matcher, Querier, Queryable, SampleBuffer, SelectHints, SeriesSet, StorageError,
};
use roaring::RoaringBitmap;

use super::Head;
use super::series::MemSeries;
use crate::block::{ChunkSeriesSet, RawChunk};

/// A view over a time range of the head.
#[derive(Debug)]
struct HeadQuerier<'h> {
    head: &'h Head,
    min_ms: i64,
    max_ms: i64,
}

impl Queryable for Head {
    fn querier(&self, min_time_ms: i64, max_time_ms: i64) -> Result<Box<dyn Querier + '_>, StorageError> {
        Ok(Box::new(HeadQuerier { head: self, min_ms: min_time_ms, max_ms: max_time_ms }))
    }
}

impl Head {
    /// The series that fulfil the matchers and have samples in the range; at most `limit` (0: all), unsorted.
    fn find(
        &self,
        matchers: &[Matcher],
        min_ms: i64,
        max_ms: i64,
        limit: usize,
    ) -> Vec<(Labels, Arc<MemSeries>)> {
        let mut found = Vec::new();
        if !self.time_range().is_some_and(|(min, max)| min <= max_ms && min_ms <= max) {
            return found;
        }
        let index = self.index.read();
        for slot in &index.select(matchers) {
            if let Some(series) = index.series(slot)
                && series.range().is_some_and(|(min, max)| min <= max_ms && min_ms <= max)
            {
                found.push((index.labels(slot), series.clone()));
                if limit > 0 && found.len() >= limit {
                    break;
                }
            }
        }
        found
    }

    /// The series that fulfil the matchers and have samples in `min_ms..=max_ms`, by their labels, chunk by chunk.
    pub fn raw_series(&self, matchers: &[Matcher], min_ms: i64, max_ms: i64) -> Box<dyn ChunkSeriesSet> {
        Box::new(self.chunk_series(matchers, min_ms, max_ms))
    }

    /// The chunks of the series that fulfil the matchers, in the order of labels.
    pub(crate) fn chunk_series(&self, matchers: &[Matcher], min_ms: i64, max_ms: i64) -> HeadChunks {
        let mut found = self.find(matchers, min_ms, max_ms, 0);
        found.sort_unstable_by(|left, right| left.0.cmp(&right.0));
        HeadChunks { rest: found.into(), current: None, min_ms, max_ms }
    }
}

impl HeadQuerier<'_> {
    fn overlaps(&self) -> bool {
        self.head.time_range().is_some_and(|(min, max)| min <= self.max_ms && self.min_ms <= max)
    }
}

fn limited(mut values: Vec<String>, limit: usize) -> Vec<String> {
    if limit > 0 {
        values.truncate(limit);
    }
    values
}

impl Querier for HeadQuerier<'_> {
    fn select<'a>(
        &'a self,
        sorted: bool,
        hints: &SelectHints,
        matchers: &[Matcher],
    ) -> Result<Box<dyn SeriesSet + 'a>, StorageError> {
        // The hints may narrow the querier's range, they never widen it.
        let hinted = hints.start_ms != 0 || hints.end_ms != 0;
        let min_ms = if hinted { self.min_ms.max(hints.start_ms) } else { self.min_ms };
        let max_ms = if hinted { self.max_ms.min(hints.end_ms) } else { self.max_ms };
        let limit = if sorted { 0 } else { hints.limit };
        let mut found = self.head.find(matchers, min_ms, max_ms, limit);
        if sorted {
            found.sort_unstable_by(|left, right| left.0.cmp(&right.0));
            if hints.limit > 0 {
                found.truncate(hints.limit);
            }
        }
        Ok(Box::new(HeadSeriesSet { rest: found.into(), current: None }))
    }

    fn label_names(&self, matchers: &[Matcher], limit: usize) -> Result<Vec<String>, StorageError> {
        if !self.overlaps() {
            return Ok(Vec::new());
        }
        let index = self.head.index.read();
        let slots: Option<RoaringBitmap> = (!matchers.is_empty()).then(|| index.select(matchers));
        Ok(limited(index.label_names(slots.as_ref()), limit))
    }

    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        limit: usize,
    ) -> Result<Vec<String>, StorageError> {
        if !self.overlaps() {
            return Ok(Vec::new());
        }
        let index = self.head.index.read();
        let slots: Option<RoaringBitmap> = (!matchers.is_empty()).then(|| index.select(matchers));
        Ok(limited(index.label_values(name, slots.as_ref()), limit))
    }
}

/// Series of the head whose chunks are handed out as they are.
pub(crate) struct HeadChunks {
    rest: VecDeque<(Labels, Arc<MemSeries>)>,
    current: Option<(Labels, Arc<MemSeries>)>,
    min_ms: i64,
    max_ms: i64,
}

impl ChunkSeriesSet for HeadChunks {
    fn advance(&mut self) -> Result<bool, StorageError> {
        self.current = self.rest.pop_front();
        Ok(self.current.is_some())
    }

    fn labels(&self) -> &Labels {
        self.current.as_ref().map_or(&*NO_LABELS, |(labels, _)| labels)
    }

    fn chunks(&mut self) -> Result<Vec<RawChunk>, StorageError> {
        let current = self.current.as_ref();
        Ok(current.map_or_else(Vec::new, |(_, series)| series.raw_chunks(self.min_ms, self.max_ms)))
    }
}

struct HeadSeriesSet {
    rest: VecDeque<(Labels, Arc<MemSeries>)>,
    current: Option<(Labels, Arc<MemSeries>)>,
}

static NO_LABELS: std::sync::LazyLock<Labels> = std::sync::LazyLock::new(Labels::empty);

impl SeriesSet for HeadSeriesSet {
    fn advance(&mut self) -> Result<bool, StorageError> {
        self.current = self.rest.pop_front();
        Ok(self.current.is_some())
    }

    fn labels(&self) -> &Labels {
        self.current.as_ref().map_or(&*NO_LABELS, |(labels, _)| labels)
    }

    fn fill(
        &mut self,
        min_time_ms: i64,
        max_time_ms: i64,
        into: &mut SampleBuffer,
    ) -> Result<(), StorageError> {
        match &self.current {
            Some((_, series)) => {
                series.fill(min_time_ms, max_time_ms, into).map_err(StorageError::Unreadable)
            }
            None => Ok(()),
        }
    }
}
