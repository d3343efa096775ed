//! A data folder: its lock, its head, its blocks, and what is done to them from time to time.
//!
//! Invariant: a sample leaves the head only when it is in a block that has its name, and when nobody reads who does
//! not know the block.

mod blocks;
mod query;

pub use query::DbChunks;

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use gantry_prom_model::{Appendable, Appender};
use parking_lot::{Mutex, RwLock};

use crate::block::{Block, new_ulid};
use crate::error::TsdbError;
use crate::head::{Head, HeadOptions, ReplayStats, Truncation};
use blocks::Blocks;

/// How a [`Db`] keeps samples. The length of the first blocks is the head's `chunk_range_ms`.
#[derive(Debug, Clone, Copy)]
pub struct DbOptions {
    /// The head.
    pub head: HeadOptions,
    /// Blocks that end longer than this before the newest, and samples of the head older than this, are dropped.
    pub retention_ms: i64,
    /// The oldest blocks are dropped while all files together are larger than this; 0 for no limit.
    pub retention_bytes: u64,
    /// Blocks are merged up to this length; `None` for a tenth of the retention, at most 31 days.
    pub max_block_ms: Option<i64>,
    /// When the head holds more bytes than this, its oldest samples become a block before their time.
    pub max_head_bytes: usize,
    /// Told before each step of writing a block that changes the disk; a test ends the process there.
    pub step: fn(&'static str),
}

const HOUR_MS: i64 = 60 * 60 * 1000;

impl Default for DbOptions {
    fn default() -> DbOptions {
        DbOptions {
            head: HeadOptions::default(),
            retention_ms: 15 * 24 * HOUR_MS,
            retention_bytes: 0,
            max_block_ms: None,
            max_head_bytes: 4 << 30,
            step: |_| {},
        }
    }
}

impl DbOptions {
    /// Lengths of blocks by level.
    fn ranges(&self) -> Vec<i64> {
        let first = self.head.chunk_range_ms.max(1);
        let longest = self.max_block_ms.unwrap_or((self.retention_ms / 10).min(31 * 24 * HOUR_MS));
        crate::compact::ranges(first, longest.max(first))
    }
}

/// What [`Db::maintain`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Maintenance {
    /// Names of blocks written from the head.
    pub cut: Vec<String>,
    /// Names of blocks made from others.
    pub compacted: Vec<String>,
    /// Names of blocks removed because their time was over or the folder too large.
    pub expired: Vec<String>,
    /// What left the head.
    pub truncation: Option<Truncation>,
}

impl Maintenance {
    /// Whether there was nothing to do.
    pub fn is_empty(&self) -> bool {
        *self == Maintenance::default()
    }
}

/// The blocks at one moment. Who reads holds the moment it began with.
#[derive(Debug, Default)]
struct State {
    /// By their first time.
    blocks: Vec<Arc<Block>>,
}

/// The store of one data folder.
#[derive(Debug)]
pub struct Db {
    dir: PathBuf,
    options: DbOptions,
    head: Head,
    replay: ReplayStats,
    state: RwLock<Arc<State>>,
    /// Earlier moments that someone may still read.
    earlier: Mutex<Vec<Weak<State>>>,
    /// Samples before this are in blocks and may leave the head.
    truncate_before: Mutex<Option<i64>>,
    maintaining: Mutex<()>,
    _lock: File,
}

/// How long a truncation waits for those who read; then it is done at the next occasion.
const READERS_WAIT: Duration = Duration::from_secs(5);

impl Db {
    /// Opens the folder (made when missing), its blocks, and reads its log back.
    ///
    /// # Errors
    /// When another process has the folder, or its files cannot be read or written.
    pub fn open(dir: &Path, options: DbOptions, now_ms: i64) -> Result<Db, TsdbError> {
        fs::create_dir_all(dir).map_err(TsdbError::io("create folder", dir))?;
        let lock = lock(dir)?;
        let blocks = Blocks::new(dir).open_all()?;
        let in_blocks = blocks.iter().map(|block| block.meta().max_time).max().unwrap_or(i64::MIN);
        let min_valid = now_ms.saturating_sub(options.retention_ms).max(in_blocks);
        let (head, replay) = Head::open(&dir.join("wal"), options.head, min_valid)?;
        Ok(Db {
            dir: dir.to_path_buf(),
            options,
            head,
            replay,
            state: RwLock::new(Arc::new(State { blocks })),
            earlier: Mutex::default(),
            truncate_before: Mutex::default(),
            maintaining: Mutex::default(),
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

    /// The blocks, by their first time.
    pub fn blocks(&self) -> Vec<Arc<Block>> {
        self.state().blocks.clone()
    }

    /// Bytes of all blocks.
    pub fn block_bytes(&self) -> u64 {
        self.state().blocks.iter().map(|block| block.size_bytes()).sum()
    }

    /// First and last time of all samples, `None` while there is none.
    pub fn time_range(&self) -> Option<(i64, i64)> {
        let blocks = self.state().blocks.iter().fold(None, |range: Option<(i64, i64)>, block| {
            let (min, max) = (block.meta().min_time, block.meta().max_time - 1);
            Some(range.map_or((min, max), |range| (range.0.min(min), range.1.max(max))))
        });
        match (blocks, self.head.time_range()) {
            (Some(blocks), Some(head)) => Some((blocks.0.min(head.0), blocks.1.max(head.1))),
            (blocks, head) => blocks.or(head),
        }
    }

    /// What was read back at the start.
    pub fn replay_stats(&self) -> ReplayStats {
        self.replay
    }

    /// How long samples are kept, in milliseconds.
    pub fn retention_ms(&self) -> i64 {
        self.options.retention_ms
    }

    fn state(&self) -> Arc<State> {
        self.state.read().clone()
    }

    fn replace_state(&self, blocks: Vec<Arc<Block>>) {
        let next = Arc::new(State { blocks });
        let before = std::mem::replace(&mut *self.state.write(), next);
        let mut earlier = self.earlier.lock();
        earlier.retain(|moment| moment.strong_count() > 0);
        earlier.push(Arc::downgrade(&before));
    }

    /// Writes blocks, merges them, and drops what is too old, as far as it is time to; call it about once a minute.
    ///
    /// # Errors
    /// When a block or the log cannot be written. No sample is lost by that; the next call tries again.
    pub fn maintain(&self, now_ms: i64) -> Result<Maintenance, TsdbError> {
        let _one_at_a_time = self.maintaining.lock();
        let mut done = Maintenance::default();
        self.truncate_cut(&mut done)?;
        // While someone still reads what is to go, no further block is written: it would begin at the same place.
        while self.truncate_before.lock().is_none()
            && let Some((start, end)) = self.next_cut()
        {
            self.cut(start, end, now_ms, &mut done)?;
            self.truncate_cut(&mut done)?;
        }
        self.drop_old_head(now_ms, &mut done)?;
        self.compact(now_ms, &mut done)?;
        self.expire(&mut done)?;
        Ok(done)
    }

    /// The range that is to become a block: one range of the head's chunks when one and a half are in it, or all but
    /// the newest half range when the head is too large.
    fn next_cut(&self) -> Option<(i64, i64)> {
        let (oldest, newest) = self.head.time_range()?;
        let in_blocks = self.state().blocks.iter().map(|block| block.meta().max_time).max();
        let range = self.options.head.chunk_range_ms.max(1);
        // Blocks follow one another without a gap, so that those of a level fill its range.
        let oldest = match in_blocks {
            Some(end) => oldest.div_euclid(range).saturating_mul(range).max(end),
            None => oldest,
        };
        if newest.saturating_sub(oldest) > range + range / 2 {
            return Some((oldest, oldest.div_euclid(range).saturating_add(1).saturating_mul(range)));
        }
        let bytes = self.head.stats().heap_bytes;
        // What is newer than half a range may still get older neighbours.
        let end = newest.saturating_sub(range / 2);
        if bytes <= self.options.max_head_bytes || end <= oldest {
            return None;
        }
        // A head that is mostly new would become a crowd of tiny blocks.
        if newest.saturating_sub(oldest) < range / 2 + range / 8 {
            return None;
        }
        tracing::info!(
            head_bytes = bytes,
            limit = self.options.max_head_bytes,
            "the head is larger than allowed: its oldest samples become a block before their time"
        );
        Some((oldest, end))
    }

    fn cut(&self, start: i64, end: i64, now_ms: i64, done: &mut Maintenance) -> Result<(), TsdbError> {
        self.head.close_before(end);
        let ulid = new_ulid(now_ms);
        let written = self.head.write_block(&self.dir, &ulid, (start, end), self.options.step)?;
        if written.is_some() {
            let mut blocks = self.blocks();
            blocks.push(Arc::new(Block::open(&self.dir.join(&ulid))?));
            blocks.sort_by_key(|block| block.meta().min_time);
            self.replace_state(blocks);
            done.cut.push(ulid);
        }
        *self.truncate_before.lock() = Some(end);
        Ok(())
    }

    /// Lets what is in blocks go from the head, when nobody reads any more who does not know the blocks.
    fn truncate_cut(&self, done: &mut Maintenance) -> Result<(), TsdbError> {
        let Some(before) = *self.truncate_before.lock() else { return Ok(()) };
        let mut waited = Duration::ZERO;
        let pause = Duration::from_millis(5);
        while self.earlier.lock().iter().any(|moment| moment.strong_count() > 0) {
            if waited >= READERS_WAIT {
                return Ok(());
            }
            std::thread::sleep(pause);
            waited += pause;
        }
        (self.options.step)("truncate the head");
        let mut truncation = self.head.truncate_memory(before)?;
        (self.options.step)("truncate the log");
        truncation.checkpoint = self.head.truncate_wal(before)?;
        *self.truncate_before.lock() = None;
        let total = done.truncation.get_or_insert_default();
        total.series += truncation.series;
        total.chunks += truncation.chunks;
        total.checkpoint = truncation.checkpoint.or(total.checkpoint);
        Ok(())
    }

    /// A retention shorter than a block has to be kept by the head itself.
    fn drop_old_head(&self, now_ms: i64, done: &mut Maintenance) -> Result<(), TsdbError> {
        let bound = now_ms.saturating_sub(self.options.retention_ms);
        let slack = (self.options.head.chunk_range_ms / 8).max(1);
        if self.head.time_range().is_none_or(|(oldest, _)| oldest >= bound.saturating_sub(slack)) {
            return Ok(());
        }
        let mut truncation = self.head.truncate_memory(bound)?;
        if truncation.chunks == 0 {
            return Ok(());
        }
        truncation.checkpoint = self.head.truncate_wal(bound)?;
        let total = done.truncation.get_or_insert_default();
        total.series += truncation.series;
        total.chunks += truncation.chunks;
        total.checkpoint = truncation.checkpoint.or(total.checkpoint);
        Ok(())
    }

    /// Makes everything durable; the store can be used afterwards.
    ///
    /// # Errors
    /// When the sync fails.
    pub fn sync(&self) -> Result<(), TsdbError> {
        self.head.sync()
    }
}

const LOCK_TRIES: u32 = 50;
const LOCK_PAUSE: std::time::Duration = std::time::Duration::from_millis(10);

fn lock(dir: &Path) -> Result<File, TsdbError> {
    let path = dir.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(TsdbError::io("open", &path))?;
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            // A process that is just being started has this one's files until it is another program.
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(source)) => return Err(TsdbError::io("lock", path)(source)),
        }
    }
    Err(TsdbError::Locked { dir: dir.to_path_buf() })
}

impl Appendable for Db {
    fn appender(&self) -> Box<dyn Appender + '_> {
        self.head.appender()
    }
}
