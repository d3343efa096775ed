//! Reading head and blocks as one.

use std::collections::BTreeSet;
use std::sync::Arc;

use gantry_prom_model::{Labels, Matcher, Querier, Queryable, SelectHints, SeriesSet, StorageError};

use super::{Db, State};
use crate::block::{Block, ChunkSeriesSet, RawChunk, SampleSet};
use crate::merge::{MergedChunks, MergedSeries};

/// A view over a time range of the store.
struct DbQuerier<'d> {
    state: Arc<State>,
    head: Box<dyn Querier + 'd>,
    min_ms: i64,
    max_ms: i64,
}

impl Queryable for Db {
    fn querier(&self, min_time_ms: i64, max_time_ms: i64) -> Result<Box<dyn Querier + '_>, StorageError> {
        // The blocks first: what then leaves the head is held back until this moment is let go.
        let state = self.state();
        let head = self.head.querier(min_time_ms, max_time_ms)?;
        Ok(Box::new(DbQuerier { state, head, min_ms: min_time_ms, max_ms: max_time_ms }))
    }
}

impl DbQuerier<'_> {
    fn blocks(&self, min_ms: i64, max_ms: i64) -> impl Iterator<Item = &Arc<Block>> {
        self.state.blocks.iter().filter(move |block| block.overlaps(min_ms, max_ms))
    }
}

fn limited(values: BTreeSet<String>, limit: usize) -> Vec<String> {
    let limit = if limit == 0 { usize::MAX } else { limit };
    values.into_iter().take(limit).collect()
}

impl Querier for DbQuerier<'_> {
    fn select<'a>(
        &'a self,
        sorted: bool,
        hints: &SelectHints,
        matchers: &[Matcher],
    ) -> Result<Box<dyn SeriesSet + 'a>, StorageError> {
        let hinted = hints.start_ms != 0 || hints.end_ms != 0;
        let min_ms = if hinted { self.min_ms.max(hints.start_ms) } else { self.min_ms };
        let max_ms = if hinted { self.max_ms.min(hints.end_ms) } else { self.max_ms };
        let mut sets: Vec<Box<dyn SeriesSet + 'a>> = Vec::new();
        for block in self.blocks(min_ms, max_ms) {
            sets.push(Box::new(SampleSet::new(block.select(matchers, min_ms, max_ms)?, hints.limit)));
        }
        let head = self.head.select(sorted || !sets.is_empty(), hints, matchers)?;
        if sets.is_empty() {
            return Ok(head);
        }
        sets.push(head);
        Ok(Box::new(MergedSeries::new(sets, hints.limit)))
    }

    fn label_names(&self, matchers: &[Matcher], limit: usize) -> Result<Vec<String>, StorageError> {
        let mut names: BTreeSet<String> = self.head.label_names(matchers, 0)?.into_iter().collect();
        for block in self.blocks(self.min_ms, self.max_ms) {
            names.extend(block.index().label_names_of(matchers)?);
        }
        Ok(limited(names, limit))
    }

    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        limit: usize,
    ) -> Result<Vec<String>, StorageError> {
        let mut values: BTreeSet<String> = self.head.label_values(name, matchers, 0)?.into_iter().collect();
        for block in self.blocks(self.min_ms, self.max_ms) {
            values.extend(block.index().label_values_of(name, matchers)?);
        }
        Ok(limited(values, limit))
    }
}

/// Series of the store whose chunks are handed out as they are; the chunks of a series may overlap.
pub struct DbChunks {
    merged: MergedChunks<'static>,
    _state: Arc<State>,
}

impl Db {
    /// The series that fulfil the matchers and have samples in `min_ms..=max_ms`, in the order of labels.
    ///
    /// # Errors
    /// When a block cannot be read.
    pub fn chunk_series(
        &self,
        matchers: &[Matcher],
        min_ms: i64,
        max_ms: i64,
    ) -> Result<DbChunks, StorageError> {
        let state = self.state();
        let mut sets: Vec<Box<dyn ChunkSeriesSet>> = Vec::new();
        for block in state.blocks.iter().filter(|block| block.overlaps(min_ms, max_ms)) {
            sets.push(Box::new(block.select(matchers, min_ms, max_ms)?));
        }
        sets.push(Box::new(self.head.chunk_series(matchers, min_ms, max_ms)));
        Ok(DbChunks { merged: MergedChunks::new(sets), _state: state })
    }
}

impl ChunkSeriesSet for DbChunks {
    fn advance(&mut self) -> Result<bool, StorageError> {
        self.merged.advance()
    }

    fn labels(&self) -> &Labels {
        self.merged.labels()
    }

    fn chunks(&mut self) -> Result<Vec<RawChunk>, StorageError> {
        self.merged.chunks()
    }
}
