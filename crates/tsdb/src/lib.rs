//! Head, write-ahead log, blocks, compaction.
//!
//! Invariant: a sample is acknowledged when the write of its log record has returned, and what was acknowledged is
//! there after the process was killed at any moment.
#![forbid(unsafe_code)]

pub mod bits;
pub mod chunks;
mod codec;
mod db;
mod error;
mod head;
pub mod wal;

pub use db::{Db, DbOptions};
pub use error::TsdbError;
pub use head::{
    Cardinality, Counters, CountersSnapshot, Head, HeadOptions, HeadStats, ReplayStats, Truncation,
};
