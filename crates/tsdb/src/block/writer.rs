//! Writes a block: under another name first, durable before it gets its own.

use std::fs;
use std::path::{Path, PathBuf};

use gantry_prom_model::Labels;

use super::chunks::{ChunkWriter, SEGMENT_MAX_BYTES};
use super::index::ChunkMeta;
use super::index_writer::IndexWriter;
use super::meta::sync_dir;
use super::query::RawChunk;
use super::tombstones::Tombstones;
use super::{BlockError, BlockMeta, BlockStats, CREATION_SUFFIX};

/// A series for a new block.
#[derive(Debug, Clone)]
pub struct NewSeries {
    /// Its labels.
    pub labels: Labels,
    /// Its chunks, rising, without overlap.
    pub chunks: Vec<RawChunk>,
}

/// A name for a new block made at `now_ms`.
pub fn new_ulid(now_ms: i64) -> String {
    let random = ulid::Ulid::new().random();
    ulid::Ulid::from_parts(u64::try_from(now_ms).unwrap_or(0), random).to_string()
}

/// A block that is being written. Dropped before [`finish`](Self::finish) it leaves nothing.
#[derive(Debug)]
pub struct BlockWriter {
    parent: PathBuf,
    partial: Option<PathBuf>,
    index: Option<IndexWriter>,
    chunks: Option<ChunkWriter>,
    stats: BlockStats,
    places: Vec<ChunkMeta>,
    /// Told before each step that changes the disk.
    step: fn(&'static str),
}

impl BlockWriter {
    /// Begins a block in the folder `parent`. `symbols` are all names and values of labels that will come, sorted.
    ///
    /// # Errors
    /// When its files cannot be made.
    pub fn create<'s>(
        parent: &Path,
        ulid: &str,
        symbols: impl Iterator<Item = &'s str>,
        step: fn(&'static str),
    ) -> Result<BlockWriter, BlockError> {
        let partial = parent.join(format!("{ulid}{CREATION_SUFFIX}"));
        if partial.exists() {
            fs::remove_dir_all(&partial).map_err(BlockError::io("remove", &partial))?;
        }
        step("make the folder");
        fs::create_dir_all(&partial).map_err(BlockError::io("create folder", &partial))?;
        let mut writer = BlockWriter {
            parent: parent.to_path_buf(),
            partial: Some(partial.clone()),
            index: None,
            chunks: None,
            stats: BlockStats::default(),
            places: Vec::new(),
            step,
        };
        writer.chunks = Some(ChunkWriter::create(&partial.join("chunks"), SEGMENT_MAX_BYTES)?);
        writer.index = Some(IndexWriter::create(&partial.join("index"), symbols)?);
        Ok(writer)
    }

    /// Adds a series; series come in the order of their labels. One without chunks is left out.
    ///
    /// # Errors
    /// When it cannot be written, or comes out of order.
    pub fn add(&mut self, labels: &Labels, chunks: &[RawChunk]) -> Result<(), BlockError> {
        let (Some(index), Some(out)) = (&mut self.index, &mut self.chunks) else { return Ok(()) };
        if chunks.is_empty() {
            return Ok(());
        }
        self.places.clear();
        for chunk in chunks {
            let reference = out.write(chunk.encoding, &chunk.data)?;
            self.places.push(ChunkMeta { reference, min_t: chunk.min_t, max_t: chunk.max_t });
            self.stats.num_samples += chunk.samples();
        }
        index.add_series(labels, &self.places)?;
        self.stats.num_series += 1;
        self.stats.num_chunks += chunks.len() as u64;
        Ok(())
    }

    /// Bytes of the largest series entry and of the largest chunk so far.
    pub fn largest(&self) -> (u64, u64) {
        let series = self.index.as_ref().map_or(0, IndexWriter::series_max_bytes);
        (series, self.chunks.as_ref().map_or(0, ChunkWriter::chunk_max_bytes))
    }

    /// Makes the block whole under its name, with `meta` but for the counts; `None`, and no block, when it has no
    /// series.
    ///
    /// # Errors
    /// When it cannot be written; nothing is left then.
    pub fn finish(mut self, meta: BlockMeta) -> Result<Option<BlockMeta>, BlockError> {
        let (Some(partial), Some(index), Some(chunks)) =
            (self.partial.clone(), self.index.take(), self.chunks.take())
        else {
            return Ok(None);
        };
        if self.stats.num_series == 0 {
            return Ok(None);
        }
        (self.step)("sync the chunks");
        chunks.finish()?;
        (self.step)("sync the index");
        index.finish()?;
        let meta = BlockMeta { stats: self.stats, ..meta };
        (self.step)("write the meta file");
        meta.write(&partial)?;
        Tombstones::default().write(&partial.join("tombstones"))?;
        (self.step)("sync the folder");
        sync_dir(&partial)?;
        (self.step)("rename the folder");
        let target = self.parent.join(&meta.ulid);
        fs::rename(&partial, &target).map_err(BlockError::io("rename", &partial))?;
        self.partial = None;
        (self.step)("sync the parent");
        sync_dir(&self.parent)?;
        Ok(Some(meta))
    }
}

impl Drop for BlockWriter {
    fn drop(&mut self) {
        if let Some(partial) = &self.partial
            && let Err(error) = fs::remove_dir_all(partial)
        {
            tracing::warn!(path = %partial.display(), %error, "an unfinished block could not be removed");
        }
    }
}
