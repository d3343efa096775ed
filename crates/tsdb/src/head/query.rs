//! Reading the head.

use std::collections::VecDeque;
use std::sync::Arc;

use gantry_prom_model::{
    Labels, Matcher, Querier, Queryable, SampleBuffer, SelectHints, SeriesSet, StorageError,
};
use roaring::RoaringBitmap;

use super::Head;
use super::series::MemSeries;

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

impl HeadQuerier<'_> {
    fn overlaps(&self) -> bool {
        self.head.time_range().is_some_and(|(min, max)| min <= self.max_ms && self.min_ms <= max)
    }

    fn in_range(&self, series: &MemSeries, min_ms: i64, max_ms: i64) -> bool {
        series.range().is_some_and(|(min, max)| min <= max_ms && min_ms <= max)
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
        let mut found: Vec<(Labels, Arc<MemSeries>)> = Vec::new();
        // The hints may narrow the querier's range, they never widen it.
        let hinted = hints.start_ms != 0 || hints.end_ms != 0;
        let min_ms = if hinted { self.min_ms.max(hints.start_ms) } else { self.min_ms };
        let max_ms = if hinted { self.max_ms.min(hints.end_ms) } else { self.max_ms };
        if self.overlaps() {
            let index = self.head.index.read();
            for slot in &index.select(matchers) {
                if let Some(series) = index.series(slot)
                    && self.in_range(series, min_ms, max_ms)
                {
                    found.push((index.labels(slot), series.clone()));
                    if !sorted && hints.limit > 0 && found.len() >= hints.limit {
                        break;
                    }
                }
            }
        }
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
