//! Head, write-ahead log, blocks, compaction.
//!
//! Invariant: a sample is acknowledged when the write of its log record has returned, and what was acknowledged is
//! there after the process was killed at any moment.
#![forbid(unsafe_code)]

pub mod bits;
pub mod block;
pub mod chunks;
mod codec;
pub mod compact;
mod db;
mod error;
mod head;
mod merge;
pub mod wal;

pub use db::{Db, DbChunks, DbOptions, Maintenance};
pub use error::TsdbError;
pub use head::{
    Cardinality, Counters, CountersSnapshot, Head, HeadOptions, HeadStats, ReplayStats, SeriesExemplars,
    Truncation, float_histogram,
};
pub use merge::{MergedChunks, append_merged};
