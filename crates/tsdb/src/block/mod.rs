//! Blocks: immutable folders of the series of a time range, in Prometheus' own format (`docs/block.md`).
//!
//! Invariant: a folder with a ULID for a name is whole. It is written under another name, made durable, and then
//! renamed.

mod chunks;
mod index;
mod index_writer;
mod meta;
mod query;
mod source;
mod symbols;
mod tombstones;
mod writer;

pub use chunks::{ChunkReader, ChunkWriter, SEGMENT_MAX_BYTES};
pub use index::{ChunkMeta, IndexReader, SeriesEntry};
pub use index_writer::IndexWriter;
pub use meta::{BlockDesc, BlockMeta, BlockStats, Compaction, META_FILE};
pub use query::{BlockSeries, ChunkSeriesSet, RawChunk, SampleSet};
pub use source::{COALESCE_GAP_BYTES, FileSource, ReadAt, coalesce, cut_out};
pub use symbols::Symbols;
pub use tombstones::{Intervals, Tombstones};
pub use writer::{BlockWriter, NewSeries, new_ulid};

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gantry_prom_model::{Matcher, StorageError};

/// Suffix of the folder of a block that is being written.
pub(crate) const CREATION_SUFFIX: &str = ".tmp-for-creation";
/// Suffix of the folder of a block that is being removed.
pub(crate) const DELETION_SUFFIX: &str = ".tmp-for-deletion";

/// What can go wrong with a block.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// The operating system refused.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The bytes are not what the format says.
    #[error("{file} at byte {offset}: {reason}")]
    Corrupt {
        /// The file or object.
        file: String,
        /// Where.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// An object could not be fetched.
    #[error("read {name}: {reason}")]
    Fetch {
        /// The object.
        name: String,
        /// Why it failed.
        reason: String,
    },
    /// What is to be written does not fit the format.
    #[error("write block: {0}")]
    Invalid(String),
}

impl BlockError {
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> BlockError {
        let path = path.into();
        move |source| BlockError::Io { action, path, source }
    }

    pub(crate) fn corrupt(file: impl Into<String>, offset: u64, reason: impl Into<String>) -> BlockError {
        BlockError::Corrupt { file: file.into(), offset, reason: reason.into() }
    }
}

impl From<BlockError> for StorageError {
    fn from(error: BlockError) -> StorageError {
        StorageError::Unreadable(error.to_string())
    }
}

/// A block that can be read, wherever its bytes are.
#[derive(Debug)]
pub struct Block {
    meta: BlockMeta,
    index: IndexReader,
    chunks: ChunkReader,
    tombstones: Tombstones,
    size_bytes: u64,
    dir: Option<PathBuf>,
}

impl Block {
    /// Opens the block in a local folder.
    ///
    /// # Errors
    /// When a file of it cannot be read or is not what the format says.
    pub fn open(dir: &Path) -> Result<Block, BlockError> {
        let meta = BlockMeta::read(dir)?;
        let index = IndexReader::open(Arc::new(FileSource::open(&dir.join("index"))?))?;
        let mut segments: Vec<Arc<dyn ReadAt>> = Vec::new();
        for path in segment_files(&dir.join("chunks"))? {
            segments.push(Arc::new(FileSource::open(&path)?));
        }
        let tombstones = Tombstones::read(&dir.join("tombstones"))?;
        let chunk_bytes: u64 = segments.iter().map(|segment| segment.size()).sum();
        let file_bytes = |name| fs::metadata(dir.join(name)).map_or(0, |found| found.len());
        let size_bytes = chunk_bytes + index.size() + file_bytes(META_FILE) + file_bytes("tombstones");
        let chunks = ChunkReader::new(segments)?;
        Ok(Block { meta, index, chunks, tombstones, size_bytes, dir: Some(dir.to_path_buf()) })
    }

    /// A block whose files are read through `index` and `segments`.
    ///
    /// # Errors
    /// When the index is not what the format says.
    pub fn from_sources(
        meta: BlockMeta,
        index: Arc<dyn ReadAt>,
        segments: Vec<Arc<dyn ReadAt>>,
    ) -> Result<Block, BlockError> {
        let size_bytes = index.size() + segments.iter().map(|segment| segment.size()).sum::<u64>();
        let index = IndexReader::open(index)?;
        // Whether a segment is one is seen when a chunk of it is read: its checksum then fails.
        let chunks = ChunkReader::unchecked(segments);
        Ok(Block { meta, index, chunks, tombstones: Tombstones::default(), size_bytes, dir: None })
    }

    /// What the block holds.
    pub fn meta(&self) -> &BlockMeta {
        &self.meta
    }

    /// The folder, for a local block.
    pub fn dir(&self) -> Option<&Path> {
        self.dir.as_deref()
    }

    /// The index.
    pub fn index(&self) -> &IndexReader {
        &self.index
    }

    /// The chunks.
    pub fn chunks(&self) -> &ChunkReader {
        &self.chunks
    }

    /// Deleted ranges.
    pub fn tombstones(&self) -> &Tombstones {
        &self.tombstones
    }

    /// Bytes of all files.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Whether the block has samples in `min_ms..=max_ms`.
    pub fn overlaps(&self, min_ms: i64, max_ms: i64) -> bool {
        self.meta.min_time <= max_ms && min_ms < self.meta.max_time
    }

    /// The series that fulfil the matchers and have chunks in `min_ms..=max_ms`, in the order of their labels.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn select(
        self: &Arc<Self>,
        matchers: &[Matcher],
        min_ms: i64,
        max_ms: i64,
    ) -> Result<BlockSeries, BlockError> {
        BlockSeries::new(self.clone(), matchers, min_ms, max_ms)
    }
}

/// The files of a `chunks` folder in the order of their numbers.
pub(crate) fn segment_files(dir: &Path) -> Result<Vec<PathBuf>, BlockError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(BlockError::io("read folder", dir)(error)),
    };
    let mut files: Vec<(u64, PathBuf)> = Vec::new();
    for entry in entries {
        let entry = entry.map_err(BlockError::io("read folder", dir))?;
        if let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
            files.push((number, entry.path()));
        }
    }
    files.sort_unstable();
    for pair in files.windows(2) {
        if let [(before, _), (after, path)] = pair
            && before + 1 != *after
        {
            let reason = format!("segment {:06} is missing", before + 1);
            return Err(BlockError::corrupt(path.display().to_string(), 0, reason));
        }
    }
    Ok(files.into_iter().map(|(_, path)| path).collect())
}
