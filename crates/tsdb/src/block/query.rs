//! Reading series of a block as a stream: some entries of the index at a time, and their chunks with one wave of reads.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use gantry_prom_model::{Labels, Matcher, SampleBuffer, SeriesSet, StorageError};

use super::chunks::ChunkPlace;
use super::index::{ChunkMeta, SeriesCursor};
use super::symbols::Symbols;
use super::{Block, BlockError};
use crate::chunks::{self, encoding};
use crate::merge::append_merged;

/// Series whose entries are read together.
const BATCH_SERIES: usize = 128;
/// Bytes of chunks that are read together, about.
const BATCH_BYTES: u64 = 2 << 20;
/// What a chunk is taken to have when nothing better is known.
const CHUNK_BYTES: u64 = 512;

/// Samples of one series as they are encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawChunk {
    /// First time.
    pub min_t: i64,
    /// Last time.
    pub max_t: i64,
    /// How they are encoded, as on disk.
    pub encoding: u8,
    /// The encoded samples.
    pub data: Bytes,
}

impl RawChunk {
    /// Number of samples: all encodings begin with it. An aggregate has that of its counts.
    pub fn samples(&self) -> u64 {
        let counted = match self.encoding {
            encoding::AGGREGATES => {
                let after_length = self.data.iter().position(|byte| *byte < 0x80).map_or(0, |at| at + 2);
                self.data.get(after_length..).unwrap_or_default()
            }
            _ => &self.data,
        };
        counted.first_chunk::<2>().map_or(0, |count| u64::from(u16::from_be_bytes(*count)))
    }
}

/// A cursor over series whose chunks are handed out as they are.
pub trait ChunkSeriesSet: Send {
    /// Moves to the next series; `false` when there is none.
    ///
    /// # Errors
    /// When the storage cannot be read.
    fn advance(&mut self) -> Result<bool, StorageError>;

    /// The labels of the series the cursor stands on.
    fn labels(&self) -> &Labels;

    /// Its chunks that have samples in the range asked for, rising by their first time.
    ///
    /// # Errors
    /// When they cannot be read.
    fn chunks(&mut self) -> Result<Vec<RawChunk>, StorageError>;

    /// Things the user should know about an otherwise complete answer.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }
}

impl<C: ChunkSeriesSet + ?Sized> ChunkSeriesSet for Box<C> {
    fn advance(&mut self) -> Result<bool, StorageError> {
        (**self).advance()
    }

    fn labels(&self) -> &Labels {
        (**self).labels()
    }

    fn chunks(&mut self) -> Result<Vec<RawChunk>, StorageError> {
        (**self).chunks()
    }

    fn warnings(&self) -> Vec<String> {
        (**self).warnings()
    }
}

#[derive(Debug)]
struct Found {
    id: u32,
    labels: Labels,
    metas: Vec<ChunkMeta>,
    places: Vec<ChunkPlace>,
    chunks: Option<Vec<(u8, Bytes)>>,
}

/// The series of one block that were selected, in the order of their labels.
#[derive(Debug)]
pub struct BlockSeries {
    block: Arc<Block>,
    symbols: Arc<Symbols>,
    ids: Vec<u32>,
    next: usize,
    min_t: i64,
    max_t: i64,
    batch: VecDeque<Found>,
    current: Option<Found>,
}

static NO_LABELS: std::sync::LazyLock<Labels> = std::sync::LazyLock::new(Labels::empty);

impl BlockSeries {
    pub(super) fn new(
        block: Arc<Block>,
        matchers: &[Matcher],
        min_t: i64,
        max_t: i64,
    ) -> Result<BlockSeries, BlockError> {
        let ids = block.index().select(matchers)?.iter().collect();
        let symbols = block.index().symbols()?;
        Ok(BlockSeries { block, symbols, ids, next: 0, min_t, max_t, batch: VecDeque::new(), current: None })
    }

    /// Number of series that the matchers chose, before times are looked at.
    pub fn selected(&self) -> usize {
        self.ids.len()
    }

    fn refill(&mut self) -> Result<(), BlockError> {
        let mut cursor = SeriesCursor::resume(self.block.index(), self.symbols.clone());
        while self.batch.len() < BATCH_SERIES
            && let Some(id) = self.ids.get(self.next).copied()
        {
            self.next += 1;
            let entry = cursor.read(id, self.ids.get(self.next..).unwrap_or_default())?;
            let deleted = self.block.tombstones().of(u64::from(id));
            let wanted = |chunk: &ChunkMeta| {
                chunk.min_t <= self.max_t
                    && self.min_t <= chunk.max_t
                    && !deleted.iter().any(|(min, max)| *min <= chunk.min_t && chunk.max_t <= *max)
            };
            let mut found =
                Found { id, labels: entry.labels, metas: Vec::new(), places: Vec::new(), chunks: None };
            for (index, chunk) in entry.chunks.iter().enumerate() {
                if wanted(chunk) {
                    let next = entry.chunks.get(index + 1).map(|next| next.reference);
                    let next = next.or_else(|| cursor.next_chunk(id));
                    found.metas.push(*chunk);
                    found.places.push(ChunkPlace { reference: chunk.reference, next });
                }
            }
            if !found.metas.is_empty() {
                self.batch.push_back(found);
            }
        }
        Ok(())
    }

    /// Reads the chunks of the current series, and with them those of the series behind it.
    fn load(&mut self) -> Result<(), BlockError> {
        let mut waiting: Vec<&mut Found> = Vec::new();
        let mut bytes = 0;
        for found in self.current.iter_mut().chain(&mut self.batch) {
            if found.chunks.is_some() {
                continue;
            }
            bytes += found
                .places
                .iter()
                .map(|place| match place.next {
                    Some(next) if next > place.reference => (next - place.reference).min(1 << 16),
                    _ => CHUNK_BYTES,
                })
                .sum::<u64>();
            waiting.push(found);
            if bytes > BATCH_BYTES {
                break;
            }
        }
        let places: Vec<ChunkPlace> = waiting.iter().flat_map(|found| found.places.iter().copied()).collect();
        let mut read = self.block.chunks().read(&places)?.into_iter();
        for found in waiting {
            found.chunks = Some(read.by_ref().take(found.places.len()).collect());
        }
        Ok(())
    }
}

impl ChunkSeriesSet for BlockSeries {
    fn advance(&mut self) -> Result<bool, StorageError> {
        if self.batch.is_empty() {
            self.refill()?;
        }
        self.current = self.batch.pop_front();
        Ok(self.current.is_some())
    }

    fn labels(&self) -> &Labels {
        self.current.as_ref().map_or(&*NO_LABELS, |found| &found.labels)
    }

    fn chunks(&mut self) -> Result<Vec<RawChunk>, StorageError> {
        if self.current.as_ref().is_some_and(|found| found.chunks.is_none()) {
            self.load()?;
        }
        let Some(found) = &mut self.current else { return Ok(Vec::new()) };
        let read = found.chunks.clone().unwrap_or_default();
        let chunks = found.metas.iter().zip(read).map(|(meta, (encoding, data))| RawChunk {
            min_t: meta.min_t,
            max_t: meta.max_t,
            encoding,
            data,
        });
        let deleted = self.block.tombstones().of(u64::from(found.id));
        if deleted.is_empty() {
            return Ok(chunks.collect());
        }
        let mut kept = Vec::new();
        for chunk in chunks {
            kept.extend(chunks::without(chunk, deleted).map_err(StorageError::Unreadable)?);
        }
        Ok(kept)
    }
}

/// The samples of a [`ChunkSeriesSet`].
#[derive(Debug)]
pub struct SampleSet<C> {
    set: C,
    chunks: Option<Vec<RawChunk>>,
    scratch: SampleBuffer,
    left: usize,
}

impl<C: ChunkSeriesSet> SampleSet<C> {
    /// Decodes what `set` hands out. At most `limit` series, 0 for all.
    pub fn new(set: C, limit: usize) -> SampleSet<C> {
        let left = if limit == 0 { usize::MAX } else { limit };
        SampleSet { set, chunks: None, scratch: SampleBuffer::default(), left }
    }
}

impl<C: ChunkSeriesSet> SeriesSet for SampleSet<C> {
    fn advance(&mut self) -> Result<bool, StorageError> {
        self.chunks = None;
        if self.left == 0 {
            return Ok(false);
        }
        self.left -= 1;
        self.set.advance()
    }

    fn labels(&self) -> &Labels {
        self.set.labels()
    }

    fn fill(
        &mut self,
        min_time_ms: i64,
        max_time_ms: i64,
        into: &mut SampleBuffer,
    ) -> Result<(), StorageError> {
        if self.chunks.is_none() {
            self.chunks = Some(self.set.chunks()?);
        }
        let mut end = i64::MIN;
        for chunk in self.chunks.iter().flatten() {
            if chunk.max_t < min_time_ms || chunk.min_t > max_time_ms {
                continue;
            }
            let decode = |into: &mut SampleBuffer| {
                chunks::decode(chunk.encoding, &chunk.data, min_time_ms, max_time_ms, into)
                    .map_err(|reason| StorageError::Unreadable(format!("{}: {reason}", self.set.labels())))
            };
            if chunk.min_t > end {
                decode(into)?;
            } else {
                self.scratch.clear();
                decode(&mut self.scratch)?;
                append_merged(into, &mut self.scratch);
            }
            end = end.max(chunk.max_t);
        }
        Ok(())
    }

    fn warnings(&self) -> Vec<String> {
        self.set.warnings()
    }
}
