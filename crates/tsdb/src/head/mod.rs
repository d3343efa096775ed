//! The head: the newest samples, in memory, with every one of them in the log first.
//!
//! Invariants: one batch at a time goes to the log and then into memory, so both have the same order; a series'
//! log record is written before the first record that uses its number.

mod appender;
mod counters;
mod cut;
mod exemplars;
mod index;
mod query;
mod replay;
mod series;
mod symbols;
mod truncate;

pub use appender::from_record as float_histogram;
pub use counters::{Counters, CountersSnapshot};
pub use exemplars::SeriesExemplars;
pub use index::Cardinality;
pub use replay::ReplayStats;
pub use truncate::Truncation;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use gantry_prom_model::{AppendError, Labels, StorageError};
use parking_lot::{Mutex, RwLock};

use crate::error::TsdbError;
use crate::wal::{Compression, SEGMENT_BYTES, Writer, WriterOptions};
use index::{Full, Index};
use series::MemSeries;

/// How the head keeps samples.
#[derive(Debug, Clone, Copy)]
pub struct HeadOptions {
    /// Milliseconds that a chunk may span, aligned to the epoch.
    pub chunk_range_ms: i64,
    /// More series than this are refused.
    pub max_series: usize,
    /// Bytes of a log segment.
    pub wal_segment_bytes: u64,
    /// Compression of log records.
    pub wal_compression: Compression,
    /// Exemplars kept in memory; 0 keeps none.
    pub max_exemplars: usize,
}

impl Default for HeadOptions {
    fn default() -> HeadOptions {
        HeadOptions {
            chunk_range_ms: 2 * 60 * 60 * 1000,
            max_series: 20_000_000,
            wal_segment_bytes: SEGMENT_BYTES,
            wal_compression: Compression::Snappy,
            max_exemplars: 100_000,
        }
    }
}

impl HeadOptions {
    fn writer(&self) -> WriterOptions {
        WriterOptions { segment_bytes: self.wal_segment_bytes, compression: self.wal_compression }
    }
}

/// After this many bytes a new record of series is begun, so that none comes near the size of a segment.
const SERIES_RECORD_BYTES: usize = 1 << 20;

/// The log's writer.
#[derive(Debug)]
struct Log {
    writer: Writer,
    /// Encoding space, kept between batches.
    buffer: Vec<u8>,
}

/// Series in memory, in front of a log.
#[derive(Debug)]
pub struct Head {
    options: HeadOptions,
    wal_dir: PathBuf,
    index: RwLock<Index>,
    /// Series records that are made but not yet in the log: whoever commits next writes them first.
    unlogged: Mutex<Vec<Vec<u8>>>,
    log: Mutex<Log>,
    last_ref: AtomicU64,
    /// Samples before this time are refused.
    min_valid_ms: AtomicI64,
    min_ms: AtomicI64,
    max_ms: AtomicI64,
    /// Series that went, with the last segment that may still mention them.
    gone: Mutex<HashMap<u64, u32>>,
    truncating: Mutex<()>,
    exemplars: exemplars::Exemplars,
    counters: Counters,
}

/// Numbers about the head at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeadStats {
    /// Series in memory.
    pub series: usize,
    /// Chunks in memory.
    pub chunks: usize,
    /// Interned texts.
    pub symbols: usize,
    /// Time of the oldest sample, `i64::MAX` without one.
    pub min_time_ms: i64,
    /// Time of the newest sample, `i64::MIN` without one.
    pub max_time_ms: i64,
    /// Bytes of heap that series and index hold, from their capacities.
    pub heap_bytes: usize,
}

impl Head {
    /// Reads the log in `wal_dir` back (repairing a torn tail) and opens it for appending. Samples before
    /// `min_valid_ms` are left out.
    ///
    /// # Errors
    /// When the log cannot be read or written.
    pub fn open(
        wal_dir: &Path,
        options: HeadOptions,
        min_valid_ms: i64,
    ) -> Result<(Head, ReplayStats), TsdbError> {
        let mut index = Index::default();
        let exemplars = exemplars::Exemplars::new(options.max_exemplars);
        let (stats, replayed) = replay::replay(wal_dir, &options, min_valid_ms, &mut index, &exemplars)?;
        let writer = Writer::open(wal_dir, options.writer())?;
        let head = Head {
            options,
            wal_dir: wal_dir.to_path_buf(),
            index: RwLock::new(index),
            unlogged: Mutex::new(Vec::new()),
            log: Mutex::new(Log { writer, buffer: Vec::new() }),
            last_ref: AtomicU64::new(replayed.last_ref),
            min_valid_ms: AtomicI64::new(min_valid_ms),
            min_ms: AtomicI64::new(replayed.min_ms),
            max_ms: AtomicI64::new(replayed.max_ms),
            gone: Mutex::new(HashMap::new()),
            truncating: Mutex::new(()),
            exemplars,
            counters: Counters::default(),
        };
        Ok((head, stats))
    }

    /// What was counted since the start.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Times of the oldest and the newest sample, `None` while there is none.
    pub fn time_range(&self) -> Option<(i64, i64)> {
        let range = (self.min_ms.load(Ordering::Acquire), self.max_ms.load(Ordering::Acquire));
        (range.0 <= range.1).then_some(range)
    }

    /// Number of series in memory.
    pub fn series_count(&self) -> usize {
        self.index.read().len()
    }

    /// Counts everything; takes time proportional to the number of series.
    pub fn stats(&self) -> HeadStats {
        let index = self.index.read();
        let (mut chunks, mut heap_bytes) = (0, index.heap_bytes());
        for slot in index.all() {
            if let Some(series) = index.series(slot) {
                let (count, bytes) = series.weight();
                chunks += count;
                heap_bytes += bytes;
            }
        }
        let (min_time_ms, max_time_ms) = self.time_range().unwrap_or((i64::MAX, i64::MIN));
        HeadStats {
            series: index.len(),
            chunks,
            symbols: index.symbol_count(),
            min_time_ms,
            max_time_ms,
            heap_bytes,
        }
    }

    /// What takes room: series per metric, values per label.
    pub fn cardinality(&self) -> Cardinality {
        self.index.read().cardinality()
    }

    /// Number of the log segment that is written to.
    pub fn wal_segment(&self) -> u32 {
        self.log.lock().writer.segment()
    }

    /// Makes what was logged survive a power cut.
    ///
    /// # Errors
    /// When the sync fails.
    pub fn sync(&self) -> Result<(), TsdbError> {
        Ok(self.log.lock().writer.sync()?)
    }

    fn series_for(&self, labels: &Labels) -> Result<Arc<MemSeries>, AppendError> {
        if let Some(series) = self.index.read().by_labels(labels.iter()) {
            return Ok(series.clone());
        }
        let mut index = self.index.write();
        if index.len() >= self.options.max_series && index.by_labels(labels.iter()).is_none() {
            let limit = self.options.max_series as u64;
            return Err(StorageError::LimitExceeded { what: "number of series".into(), limit }.into());
        }
        let make = || MemSeries::new(self.last_ref.fetch_add(1, Ordering::AcqRel) + 1);
        let (series, new) = index.get_or_insert(labels.iter(), make).map_err(|Full| {
            StorageError::LimitExceeded { what: "size of the index".into(), limit: u64::from(u32::MAX) }
        })?;
        if new {
            self.counters.series_created.inc();
            // Before the lock on the index ends, so that nobody can use the series without its record being queued.
            let pairs: Vec<_> = labels.iter().collect();
            let mut unlogged = self.unlogged.lock();
            if unlogged.last().is_none_or(|record| record.len() > SERIES_RECORD_BYTES) {
                unlogged.push(Vec::new());
            }
            if let Some(record) = unlogged.last_mut() {
                crate::wal::encode_series(record, series.reference, pairs.into_iter());
            }
        }
        Ok(series)
    }

    fn widen(&self, min: i64, max: i64) {
        self.min_ms.fetch_min(min, Ordering::AcqRel);
        self.max_ms.fetch_max(max, Ordering::AcqRel);
    }
}
