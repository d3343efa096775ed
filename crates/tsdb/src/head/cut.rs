//! Writes the oldest samples of the head as a block.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use gantry_prom_model::Labels;

use super::Head;
use super::series::MemSeries;
use crate::block::{BlockMeta, BlockWriter, Compaction, RawChunk};
use crate::chunks;
use crate::error::TsdbError;

impl Head {
    /// Refuses samples before `min_ms` from now on, batches that are under way included, so that what is older does
    /// not change any more.
    pub(crate) fn close_before(&self, min_ms: i64) {
        // Under the log's lock: a batch is checked and stored under it, so none is between the two.
        let _log = self.log.lock();
        self.min_valid_ms.fetch_max(min_ms, Ordering::AcqRel);
    }

    /// Writes the samples with `min_ms <= t < end_ms` as a block named `ulid` in the folder `dir`. Nothing of them may
    /// change meanwhile, see [`Head::close_before`]. `None`, and no block, when there are none.
    ///
    /// # Errors
    /// When the block cannot be written; nothing is left of it then.
    pub(crate) fn write_block(
        &self,
        dir: &Path,
        ulid: &str,
        (min_ms, end_ms): (i64, i64),
        step: fn(&'static str),
    ) -> Result<Option<BlockMeta>, TsdbError> {
        let mut found: Vec<(Labels, Arc<MemSeries>)> = Vec::new();
        {
            let index = self.index.read();
            for slot in index.all() {
                if let Some(series) = index.series(slot)
                    && series.range().is_some_and(|(min, max)| min < end_ms && min_ms <= max)
                {
                    found.push((index.labels(slot), series.clone()));
                }
            }
        }
        found.sort_unstable_by(|left, right| left.0.cmp(&right.0));
        let mut symbols: Vec<&str> = {
            let texts: HashSet<&str> =
                found.iter().flat_map(|(labels, _)| labels.iter()).flat_map(|(n, v)| [n, v]).collect();
            texts.into_iter().collect()
        };
        symbols.sort_unstable();
        let mut writer = BlockWriter::create(dir, ulid, symbols.into_iter(), step)?;
        for (labels, series) in &found {
            let mut kept: Vec<RawChunk> = Vec::new();
            for chunk in series.raw_chunks(min_ms, end_ms - 1) {
                let part = chunks::clip(chunk, min_ms, end_ms - 1).map_err(|reason| TsdbError::Damaged {
                    what: format!("a chunk in memory of {labels}"),
                    reason,
                })?;
                kept.extend(part);
            }
            writer.add(labels, &kept)?;
        }
        let meta = BlockMeta {
            ulid: ulid.to_owned(),
            min_time: min_ms,
            max_time: end_ms,
            stats: Default::default(),
            compaction: Compaction { level: 1, sources: vec![ulid.to_owned()], ..Compaction::default() },
            version: 1,
            other: Default::default(),
        };
        Ok(writer.finish(meta)?)
    }
}
