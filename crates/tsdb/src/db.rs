//! A data folder: its lock, its head, and what is done to it from time to time.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};

use gantry_prom_model::{Appendable, Appender, Querier, Queryable, StorageError};

use crate::error::TsdbError;
use crate::head::{Head, HeadOptions, ReplayStats, Truncation};

/// How a [`Db`] keeps samples.
#[derive(Debug, Clone, Copy)]
pub struct DbOptions {
    /// The head.
    pub head: HeadOptions,
    /// Samples older than this, counted from now, are dropped.
    pub retention_ms: i64,
    /// The head is truncated when its oldest sample is older than the retention by this much.
    pub truncate_every_ms: i64,
    /// When the head holds more bytes than this, its oldest samples go before their time.
    pub max_head_bytes: usize,
}

impl Default for DbOptions {
    fn default() -> DbOptions {
        let hour = 60 * 60 * 1000;
        DbOptions {
            head: HeadOptions::default(),
            retention_ms: 15 * 24 * hour,
            truncate_every_ms: hour / 2,
            max_head_bytes: 4 << 30,
        }
    }
}

/// The store of one data folder.
#[derive(Debug)]
pub struct Db {
    dir: PathBuf,
    options: DbOptions,
    head: Head,
    replay: ReplayStats,
    truncated_at_ms: AtomicI64,
    _lock: File,
}

impl Db {
    /// Opens the folder (made when missing) and reads its log back.
    ///
    /// # Errors
    /// When another process has the folder, or its files cannot be read or written.
    pub fn open(dir: &Path, options: DbOptions, now_ms: i64) -> Result<Db, TsdbError> {
        fs::create_dir_all(dir).map_err(TsdbError::io("create folder", dir))?;
        let lock = lock(dir)?;
        warn_of_blocks(dir);
        let min_valid = now_ms.saturating_sub(options.retention_ms);
        let (head, replay) = Head::open(&dir.join("wal"), options.head, min_valid)?;
        Ok(Db {
            dir: dir.to_path_buf(),
            options,
            head,
            replay,
            truncated_at_ms: AtomicI64::new(now_ms),
            _lock: lock,
        })
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The newest samples.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// What was read back at the start.
    pub fn replay_stats(&self) -> ReplayStats {
        self.replay
    }

    /// How long samples are kept, in milliseconds.
    pub fn retention_ms(&self) -> i64 {
        self.options.retention_ms
    }

    /// Drops what is older than the retention, when it is time to; call it about once a minute.
    ///
    /// # Errors
    /// When the log cannot be shortened; the samples in memory are gone all the same.
    pub fn maintain(&self, now_ms: i64) -> Result<Option<Truncation>, TsdbError> {
        let over = self.over_budget();
        let last = self.truncated_at_ms.load(Ordering::Acquire);
        if over.is_none() && now_ms.saturating_sub(last) < self.options.truncate_every_ms {
            return Ok(None);
        }
        self.truncated_at_ms.store(now_ms, Ordering::Release);
        let bound = now_ms.saturating_sub(self.options.retention_ms).max(over.unwrap_or(i64::MIN));
        if self.head.time_range().is_none_or(|(oldest, _)| oldest >= bound) {
            return Ok(None);
        }
        let mut done = self.head.truncate_memory(bound)?;
        done.checkpoint = self.head.truncate_wal(bound)?;
        Ok(Some(done))
    }

    /// The time before which samples have to go when the head is too large: a quarter of its range, but never its
    /// newest hour, so that queries about now always have an answer.
    fn over_budget(&self) -> Option<i64> {
        let bytes = self.head.stats().heap_bytes;
        if bytes <= self.options.max_head_bytes {
            return None;
        }
        let (oldest, newest) = self.head.time_range()?;
        let bound = (oldest + (newest - oldest) / 4).min(newest.saturating_sub(60 * 60 * 1000));
        if bound <= oldest {
            return None;
        }
        tracing::warn!(
            head_bytes = bytes,
            limit = self.options.max_head_bytes,
            dropped_before_ms = bound,
            "the head is larger than allowed: its oldest samples go before their retention ends"
        );
        Some(bound)
    }

    /// Makes everything durable; the store can be used afterwards.
    ///
    /// # Errors
    /// When the sync fails.
    pub fn sync(&self) -> Result<(), TsdbError> {
        self.head.sync()
    }
}

fn lock(dir: &Path) -> Result<File, TsdbError> {
    let path = dir.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(TsdbError::io("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(TsdbError::Locked { dir: dir.to_path_buf() }),
        Err(TryLockError::Error(source)) => Err(TsdbError::io("lock", path)(source)),
    }
}

/// Blocks that another program left stay untouched, but their samples are not in our answers: that must be said.
fn warn_of_blocks(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    let blocks = entries.flatten().filter(|entry| entry.path().join("meta.json").is_file()).count();
    if blocks > 0 {
        tracing::warn!(blocks, dir = %dir.display(), "blocks in the data folder are kept but not read");
    }
}

impl Appendable for Db {
    fn appender(&self) -> Box<dyn Appender + '_> {
        self.head.appender()
    }
}

impl Queryable for Db {
    fn querier(&self, min_time_ms: i64, max_time_ms: i64) -> Result<Box<dyn Querier + '_>, StorageError> {
        self.head.querier(min_time_ms, max_time_ms)
    }
}
