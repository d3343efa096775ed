//! Series under changed labels, put in order again.

use gantry_prom_model::Labels;
use gantry_tsdb::block::ChunkSeriesSet;

use super::{AggrChunk, Aggregate, Ready, SeriesQuery, SeriesStream, StoreError, StoreSeries};

/// An answer that has to be sorted is held in memory up to so many bytes.
const MAX_BUFFERED_BYTES: u64 = 1 << 30;

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
        let mut bytes = 0u64;
        while let Some(series) = self.read()? {
            let data: usize =
                series.chunks.iter().flat_map(AggrChunk::parts).map(|part| part.data.len()).sum();
            bytes += (data + series.labels.encoded_len() + 64 * series.chunks.len()) as u64;
            if bytes > MAX_BUFFERED_BYTES {
                return Err(StoreError::Limit {
                    what: "the size of an answer that has to be sorted".into(),
                    limit: MAX_BUFFERED_BYTES,
                });
            }
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
