//! Reads a log back into memory, record by record: no more is held than the head itself and one record.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use gantry_prom_model::Labels;

use super::HeadOptions;
use super::appender::from_record;
use super::exemplars::{Exemplars, Stored};
use super::index::Index;
use super::series::{MemSeries, Taken};
use crate::error::TsdbError;
use crate::wal::{self, Record, SegmentedReader, WalError};

/// What a replay found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReplayStats {
    /// Series made.
    pub series: u64,
    /// Samples stored, histograms included.
    pub samples: u64,
    /// Samples whose series has no record.
    pub unknown_series: u64,
    /// Samples left out because they are too old, out of order, or there already.
    pub dropped: u64,
    /// Bytes that a fault in the log cost.
    pub lost_bytes: u64,
}

/// Where the head continues.
#[derive(Debug, Clone, Copy)]
pub(super) struct Replayed {
    pub(super) last_ref: u64,
    pub(super) min_ms: i64,
    pub(super) max_ms: i64,
}

struct Loader<'i> {
    index: &'i mut Index,
    exemplars: &'i Exemplars,
    chunk_range: i64,
    min_valid: i64,
    /// Numbers of a series beyond its first: a log may name the same labels twice.
    aliases: HashMap<u64, u64>,
    stats: ReplayStats,
    replayed: Replayed,
}

pub(super) fn replay(
    dir: &Path,
    options: &HeadOptions,
    min_valid: i64,
    index: &mut Index,
    exemplars: &Exemplars,
) -> Result<(ReplayStats, Replayed), TsdbError> {
    let mut loader = Loader {
        index,
        exemplars,
        chunk_range: options.chunk_range_ms,
        min_valid,
        aliases: HashMap::new(),
        stats: ReplayStats::default(),
        replayed: Replayed { last_ref: 0, min_ms: i64::MAX, max_ms: i64::MIN },
    };
    remove_partial_checkpoints(dir)?;
    let mut from = 0;
    if let Some((path, checkpointed)) = wal::last_checkpoint(dir)? {
        from = checkpointed + 1;
        loader.load(&path, 0, options)?;
    }
    loader.load(dir, from, options)?;
    Ok((loader.stats, loader.replayed))
}

fn remove_partial_checkpoints(dir: &Path) -> Result<(), TsdbError> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Ok(()) };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name.starts_with("checkpoint.") && name.ends_with(".tmp")) {
            std::fs::remove_dir_all(entry.path()).map_err(TsdbError::io("remove", entry.path()))?;
        }
    }
    Ok(())
}

impl Loader<'_> {
    fn load(&mut self, dir: &Path, from: u32, options: &HeadOptions) -> Result<(), TsdbError> {
        let mut reader = SegmentedReader::open(dir, from)?;
        match reader.for_each(|record| self.record(record)) {
            Ok(()) => Ok(()),
            Err(WalError::Corrupt { dir, segment, offset, reason }) => {
                let lost = wal::repair(&dir, segment, offset, options.writer())?;
                self.stats.lost_bytes += lost;
                tracing::warn!(
                    wal = %dir.display(), segment, offset, lost_bytes = lost, %reason,
                    "write-ahead log was damaged; kept everything before the damage"
                );
                Ok(())
            }
            Err(other) => Err(other.into()),
        }
    }

    fn record(&mut self, record: &[u8]) -> Result<(), String> {
        match wal::decode(record)? {
            Record::Series(series) => {
                for entry in series {
                    self.series(entry.series, &entry.labels)?;
                }
            }
            Record::Samples(samples) => {
                for sample in samples {
                    let range = self.chunk_range;
                    self.store(sample.series, sample.t, |series| {
                        series.append(sample.t, sample.v, range).unwrap_or(Taken::Already)
                    });
                }
            }
            Record::Histograms(samples) => {
                for sample in samples {
                    let (series, t, range) = (sample.series, sample.t, self.chunk_range);
                    let histogram = Arc::new(from_record(sample));
                    self.store(series, t, |series| {
                        series.append_histogram(t, histogram, range).unwrap_or(Taken::Already)
                    });
                }
            }
            Record::Exemplars(found) => {
                for record in found {
                    let reference = *self.aliases.get(&record.series).unwrap_or(&record.series);
                    let labels = Labels::from_pairs(record.labels.iter().copied());
                    self.exemplars.add(reference, Stored { labels, t: record.t, v: record.v });
                }
            }
            Record::Tombstones(_) | Record::Metadata(_) | Record::Skipped(_) => {}
        }
        Ok(())
    }

    fn series(&mut self, reference: u64, labels: &[(&str, &str)]) -> Result<(), String> {
        self.replayed.last_ref = self.replayed.last_ref.max(reference);
        if !labels.is_sorted_by(|left, right| left.0 < right.0) {
            return Err("labels of a series are not sorted".into());
        }
        let (series, new) = self
            .index
            .get_or_insert(labels.iter().copied(), || MemSeries::new(reference))
            .map_err(|_| "more label texts than fit in memory".to_string())?;
        if new {
            self.stats.series += 1;
        } else if series.reference != reference {
            self.aliases.insert(reference, series.reference);
        }
        Ok(())
    }

    fn store(&mut self, reference: u64, t: i64, append: impl FnOnce(&MemSeries) -> Taken) {
        if t < self.min_valid {
            self.stats.dropped += 1;
            return;
        }
        let known =
            self.index.by_ref(reference).or_else(|| self.index.by_ref(*self.aliases.get(&reference)?));
        let Some(series) = known else {
            self.stats.unknown_series += 1;
            return;
        };
        if append(series) == Taken::Already {
            self.stats.dropped += 1;
            return;
        }
        self.stats.samples += 1;
        self.replayed.min_ms = self.replayed.min_ms.min(t);
        self.replayed.max_ms = self.replayed.max_ms.max(t);
    }
}
