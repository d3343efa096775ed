//! Blocks into fewer, longer blocks, and out when their time is over.

mod plan;

pub use plan::{plan, ranges, select_overlapping, select_range, split_by_range};

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use gantry_prom_model::SampleBuffer;

use crate::block::{
    Block, BlockDesc, BlockError, BlockMeta, BlockWriter, ChunkSeriesSet, Compaction, RawChunk, Symbols,
};
use crate::chunks;
use crate::merge::{MergedChunks, append_merged};

/// The meta of a block made from these.
pub fn merged_meta(ulid: &str, parents: &[&BlockMeta]) -> BlockMeta {
    let sources: BTreeSet<&String> = parents.iter().flat_map(|meta| &meta.compaction.sources).collect();
    let mut parents: Vec<&BlockMeta> = parents.to_vec();
    parents.sort_by_key(|meta| meta.min_time);
    BlockMeta {
        ulid: ulid.to_owned(),
        min_time: parents.iter().map(|meta| meta.min_time).min().unwrap_or(0),
        max_time: parents.iter().map(|meta| meta.max_time).max().unwrap_or(0),
        stats: Default::default(),
        compaction: Compaction {
            level: parents.iter().map(|meta| meta.compaction.level).max().unwrap_or(0) + 1,
            sources: sources.into_iter().cloned().collect(),
            parents: parents
                .iter()
                .map(|meta| BlockDesc {
                    ulid: meta.ulid.clone(),
                    min_time: meta.min_time,
                    max_time: meta.max_time,
                })
                .collect(),
            ..Compaction::default()
        },
        version: 1,
        other: Default::default(),
    }
}

/// All symbols of the blocks, sorted.
///
/// # Errors
/// When a block's cannot be read.
pub fn merged_symbols(blocks: &[Arc<Block>]) -> Result<Vec<String>, BlockError> {
    let mut all: Vec<String> = Vec::new();
    for block in blocks {
        let symbols: Arc<Symbols> = block.index().symbols()?;
        all.extend(symbols.iter().map(str::to_owned));
        all.sort_unstable();
        all.dedup();
    }
    Ok(all)
}

/// Writes a block named `ulid` in the folder `dir` with all that `blocks` hold. `None`, and no block, when they hold
/// nothing.
///
/// # Errors
/// When one of them cannot be read, or the new one not be written.
pub fn merge_blocks(
    dir: &Path,
    ulid: &str,
    blocks: &[Arc<Block>],
    step: fn(&'static str),
) -> Result<Option<BlockMeta>, BlockError> {
    let metas: Vec<&BlockMeta> = blocks.iter().map(|block| block.meta()).collect();
    let symbols = merged_symbols(blocks)?;
    let mut writer = BlockWriter::create(dir, ulid, symbols.iter().map(String::as_str), step)?;
    let mut sets: Vec<Box<dyn ChunkSeriesSet>> = Vec::new();
    for block in blocks {
        sets.push(Box::new(block.select(&[], i64::MIN, i64::MAX)?));
    }
    let unreadable = |error: gantry_prom_model::StorageError| BlockError::Invalid(error.to_string());
    let mut merged = MergedChunks::new(sets);
    while merged.advance().map_err(unreadable)? {
        let found = merged.chunks().map_err(unreadable)?;
        let joined = without_overlap(found)
            .map_err(|reason| BlockError::Invalid(format!("{}: {reason}", merged.labels())))?;
        writer.add(merged.labels(), &joined)?;
    }
    writer.finish(merged_meta(ulid, &metas))
}

/// Chunks, rising by their first time, of which none overlaps another: those that do are decoded and written anew, and
/// of two samples with one time the one of the earlier chunk stays.
///
/// # Errors
/// What is wrong with a chunk that had to be decoded.
pub fn without_overlap(chunks: Vec<RawChunk>) -> Result<Vec<RawChunk>, String> {
    let mut out: Vec<RawChunk> = Vec::with_capacity(chunks.len());
    let mut run: Vec<RawChunk> = Vec::new();
    let mut end = i64::MIN;
    for chunk in chunks {
        if !run.is_empty() && chunk.min_t > end {
            flush(&mut run, &mut out)?;
        }
        end = if run.is_empty() { chunk.max_t } else { end.max(chunk.max_t) };
        run.push(chunk);
    }
    flush(&mut run, &mut out)?;
    Ok(out)
}

fn flush(run: &mut Vec<RawChunk>, out: &mut Vec<RawChunk>) -> Result<(), String> {
    if run.len() <= 1 {
        out.append(run);
        return Ok(());
    }
    let (mut all, mut one) = (SampleBuffer::default(), SampleBuffer::default());
    for chunk in run.drain(..) {
        one.clear();
        chunks::decode(chunk.encoding, &chunk.data, i64::MIN, i64::MAX, &mut one)?;
        append_merged(&mut all, &mut one);
    }
    out.extend(chunks::encode(&all));
    Ok(())
}
