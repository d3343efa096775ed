//! Lets old samples go, from memory and from the log.

use std::sync::atomic::Ordering;

use super::Head;
use crate::error::TsdbError;
use crate::wal::{self, CheckpointStats};

/// What a truncation did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Truncation {
    /// Series removed.
    pub series: usize,
    /// Chunks removed.
    pub chunks: usize,
    /// The checkpoint, if there were segments to replace.
    pub checkpoint: Option<CheckpointStats>,
}

impl Head {
    /// Drops the chunks that end before `min_ms` and the series that have none left; samples before it are refused
    /// from now on. A chunk that reaches over `min_ms` stays whole.
    ///
    /// # Errors
    /// Never yet; the signature leaves room for chunks on disk.
    pub fn truncate_memory(&self, min_ms: i64) -> Result<Truncation, TsdbError> {
        let _one_at_a_time = self.truncating.lock();
        self.min_valid_ms.fetch_max(min_ms, Ordering::AcqRel);
        let mut chunks = 0;
        let mut candidates = 0usize;
        {
            let index = self.index.read();
            for slot in index.all() {
                if let Some(series) = index.series(slot) {
                    let (removed, empty) = series.truncate(min_ms);
                    chunks += removed;
                    candidates += usize::from(empty);
                }
            }
        }
        let mut removed = Vec::new();
        if candidates > 0 {
            let segment = self.log.lock().writer.segment();
            let mut index = self.index.write();
            removed = index.remove_if(|series| series.truncate(min_ms).1);
            let mut gone = self.gone.lock();
            gone.extend(removed.iter().map(|reference| (*reference, segment)));
        }
        self.shrink_range(min_ms);
        self.counters.truncations.inc();
        self.counters.chunks_removed.add(chunks as u64);
        self.counters.series_removed.add(removed.len() as u64);
        Ok(Truncation { series: removed.len(), chunks, checkpoint: None })
    }

    fn shrink_range(&self, min_ms: i64) {
        let index = self.index.read();
        let oldest =
            index.all().iter().filter_map(|slot| index.series(slot)?.range()).map(|(min, _)| min).min();
        match oldest {
            // Samples that are committed meanwhile only lower it again.
            Some(oldest) => {
                self.min_ms.store(oldest.min(self.max_ms.load(Ordering::Acquire)), Ordering::Release)
            }
            None => {
                self.min_ms.fetch_max(min_ms, Ordering::AcqRel);
            }
        }
    }

    /// Replaces the older two thirds of the log's segments by a checkpoint of what is still in memory. Ends the open
    /// segment first, so that a log that is smaller than one segment shrinks too.
    ///
    /// # Errors
    /// When the log cannot be read or written; the log is then as it was.
    pub fn truncate_wal(&self, min_ms: i64) -> Result<Option<CheckpointStats>, TsdbError> {
        let _one_at_a_time = self.truncating.lock();
        let segments = wal::list_segments(&self.wal_dir)?;
        let (Some(first), Some(last)) = (segments.first(), segments.last()) else { return Ok(None) };
        let (first, last) = (first.index, last.index);
        self.log.lock().writer.next_segment()?;
        if last <= first {
            return Ok(None);
        }
        let to = first + (last - first) * 2 / 3;
        let mut gone = self.gone.lock();
        let stats = {
            let keep = |reference: u64| {
                self.index.read().by_ref(reference).is_some()
                    || gone.get(&reference).is_some_and(|until| *until > to)
            };
            wal::checkpoint(&self.wal_dir, to, min_ms, self.options.writer(), keep)?
        };
        gone.retain(|_, until| *until > to);
        drop(gone);
        self.log.lock().writer.truncate(to + 1)?;
        wal::delete_checkpoints_before(&self.wal_dir, to)?;
        self.counters.checkpoints.inc();
        Ok(Some(stats))
    }
}
