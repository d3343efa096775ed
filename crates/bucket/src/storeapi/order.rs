//! Series under changed labels, put in order again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gantry_prom_model::Labels;
use gantry_tsdb::block::ChunkSeriesSet;

use super::{AggrChunk, Aggregate, Ready, SeriesQuery, SeriesStream, StoreError, StoreSeries};

/// What an answer that has to be sorted holds in memory, of all blocks and stores in this process together.
const MAX_BUFFERED_BYTES: u64 = 1 << 30;

/// What a question may still hold in memory. Clones share it.
#[derive(Debug, Clone)]
pub struct Budget {
    limit: u64,
    left: Arc<AtomicU64>,
}

impl Budget {
    /// So many bytes.
    pub fn new(limit: u64) -> Budget {
        Budget { limit, left: Arc::new(AtomicU64::new(limit)) }
    }

    /// Takes from it.
    ///
    /// # Errors
    /// When there is not so much left.
    fn take(&self, bytes: u64) -> Result<(), StoreError> {
        let take = |left: u64| left.checked_sub(bytes);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).map(drop).map_err(|_| {
            StoreError::Limit {
                what: "the size of an answer that has to be sorted".into(),
                limit: self.limit,
            }
        })
    }
}

impl Default for Budget {
    fn default() -> Budget {
        Budget::new(MAX_BUFFERED_BYTES)
    }
}

/// The labels of a series with the external ones over them and without those of `without`.
pub(crate) fn relabel(labels: &Labels, external: &Labels, without: &[String]) -> Labels {
    if external.is_empty() && !without.iter().any(|name| labels.has(name)) {
        return labels.clone();
    }
    let mut builder = labels.to_builder();
    for (name, value) in external.iter() {
        builder.set(name, value);
    }
    for name in without {
        builder.set(name, "");
    }
    builder.build()
}

/// The series of a block or of the local store as an answer: with external labels, in order.
pub(crate) struct Sorted<C> {
    set: C,
    external: Labels,
    query: SeriesQuery,
    /// Series are handed out as they come: nothing changes their order.
    streams: bool,
    ready: Option<Ready>,
    left: usize,
}

impl<C: ChunkSeriesSet> Sorted<C> {
    pub(crate) fn new(set: C, external: Labels, query: &SeriesQuery) -> Sorted<C> {
        let streams = external.is_empty() && query.without.is_empty();
        let left = if query.limit == 0 { usize::MAX } else { query.limit };
        Sorted { set, external, query: query.clone(), streams, ready: None, left }
    }

    fn read(&mut self) -> Result<Option<StoreSeries>, StoreError> {
        while self.set.advance()? {
            let labels = relabel(self.set.labels(), &self.external, &self.query.without);
            if self.query.shard.as_ref().is_some_and(|shard| !shard.holds(&labels)) {
                continue;
            }
            let chunks = if self.query.skip_chunks {
                Vec::new()
            } else {
                aggregate(&mut self.set, &self.query.aggregates)?
            };
            return Ok(Some(StoreSeries { labels, chunks }));
        }
        Ok(None)
    }

    fn collect(&mut self) -> Result<Ready, StoreError> {
        let mut all: Vec<StoreSeries> = Vec::new();
        while let Some(series) = self.read()? {
            let data: usize =
                series.chunks.iter().flat_map(AggrChunk::parts).map(|part| part.data.len()).sum();
            self.query.budget.take((data + series.labels.encoded_len() + 64 * series.chunks.len()) as u64)?;
            all.push(series);
        }
        all.sort_by(|left, right| left.labels.cmp(&right.labels));
        let mut joined: Vec<StoreSeries> = Vec::with_capacity(all.len());
        for series in all {
            match joined.last_mut() {
                Some(last) if last.labels == series.labels => {
                    last.chunks.extend(series.chunks);
                    last.chunks.sort_by_key(|chunk| (chunk.min_t, chunk.max_t));
                }
                _ => joined.push(series),
            }
        }
        Ok(Ready { series: joined.into_iter() })
    }
}

/// The chunks of the current series.
fn aggregate(set: &mut impl ChunkSeriesSet, wanted: &[Aggregate]) -> Result<Vec<AggrChunk>, StoreError> {
    let mut chunks = Vec::new();
    for chunk in set.chunks()? {
        let chunk = AggrChunk::from_block(chunk, wanted).map_err(|reason| StoreError::Unavailable {
            store: "block".into(),
            reason: format!("{}: {reason}", set.labels()),
        })?;
        chunks.push(chunk);
    }
    Ok(chunks)
}

impl<C: ChunkSeriesSet> SeriesStream for Sorted<C> {
    fn next(&mut self) -> Result<Option<StoreSeries>, StoreError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        if self.streams {
            return self.read();
        }
        if self.ready.is_none() {
            self.ready = Some(self.collect()?);
        }
        self.ready.as_mut().map_or(Ok(None), Ready::next)
    }
}

#[cfg(test)]
mod tests {
    use gantry_prom_model::StorageError;
    use gantry_tsdb::block::RawChunk;

    use super::*;

    /// Series without chunks.
    struct Names(std::vec::IntoIter<Labels>, Labels);

    impl ChunkSeriesSet for Names {
        fn advance(&mut self) -> Result<bool, StorageError> {
            let next = self.0.next();
            let is_there = next.is_some();
            self.1 = next.unwrap_or_else(Labels::empty);
            Ok(is_there)
        }

        fn labels(&self) -> &Labels {
            &self.1
        }

        fn chunks(&mut self) -> Result<Vec<RawChunk>, StorageError> {
            Ok(Vec::new())
        }
    }

    #[test]
    fn all_blocks_of_a_question_have_one_budget() {
        let external = Labels::from_pairs([("cluster", "eu")]);
        let series = Labels::from_pairs([("job", "shop")]);
        let one = relabel(&series, &external, &[]).encoded_len() as u64;
        let blocks = |budget: u64| {
            let query =
                SeriesQuery { budget: Budget::new(budget), skip_chunks: true, ..SeriesQuery::default() };
            let block = || {
                let set = Names(vec![series.clone()].into_iter(), Labels::empty());
                Sorted::new(set, external.clone(), &query).next().map(|series| series.is_some())
            };
            (block(), block())
        };
        assert!(matches!(blocks(2 * one), (Ok(true), Ok(true))));
        assert!(matches!(blocks(2 * one - 1), (Ok(true), Err(StoreError::Limit { .. }))));
    }
}
