//! The write-ahead log in Prometheus' format: segments of 32 KiB pages holding checksummed fragments of records.
//!
//! The format is written down byte by byte in `docs/wal.md`. A record is durable against the death of this
//! process when [`Writer::log`] has returned; against the death of the machine when [`Writer::sync`] has.

mod checkpoint;
mod reader;
mod record;
mod segment;
mod tail;
mod writer;

pub use checkpoint::{CheckpointStats, checkpoint, delete_checkpoints_before, last_checkpoint};
pub use reader::{Fault, LogRecord, Reader, SegmentedReader, repair};
pub use record::{
    Buckets, ExemplarRecord, HistogramRecord, MetadataRecord, MetricType, Record, RecordKind, SampleRecord,
    SeriesRecord, Span, TombstoneRecord, decode, encode_exemplars, encode_histograms, encode_metadata,
    encode_samples, encode_series, encode_tombstones, record_kind,
};
pub use segment::{SegmentFile, list_segments, segment_path};
pub use tail::{Followed, Place, Tail};
pub use writer::{Compression, Writer, WriterOptions};

use std::path::PathBuf;

/// Bytes of a page; a fragment never crosses one.
pub const PAGE_BYTES: usize = 32 * 1024;
/// Bytes of a segment when nothing else is configured.
pub const SEGMENT_BYTES: u64 = 128 * 1024 * 1024;
/// Type, length and checksum before each fragment.
pub(crate) const HEADER_BYTES: usize = 7;

/// Fragment types: the low three bits of the first header byte.
pub(crate) mod fragment {
    pub(crate) const PAGE_TERM: u8 = 0;
    pub(crate) const FULL: u8 = 1;
    pub(crate) const FIRST: u8 = 2;
    pub(crate) const MIDDLE: u8 = 3;
    pub(crate) const LAST: u8 = 4;
    pub(crate) const TYPE_MASK: u8 = 0b0000_0111;
    pub(crate) const SNAPPY: u8 = 0b0000_1000;
    pub(crate) const ZSTD: u8 = 0b0001_0000;
    pub(crate) const UNUSED: u8 = 0b1110_0000;
}

/// What can go wrong with the log.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// The operating system refused.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The bytes are not a log.
    #[error("corrupt write-ahead log {}, segment {segment} at byte {offset}: {reason}", dir.display())]
    Corrupt {
        /// The log's folder.
        dir: PathBuf,
        /// The segment with the fault.
        segment: u32,
        /// Where in it the fault begins.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// A record does not fit a segment.
    #[error("a record of {bytes} bytes does not fit a segment of {segment_bytes} bytes")]
    TooLarge {
        /// Its encoded size.
        bytes: usize,
        /// The configured segment size.
        segment_bytes: u64,
    },
    /// Segment numbers are not consecutive.
    #[error("write-ahead log {} lacks segment {missing}", dir.display())]
    MissingSegment {
        /// The log's folder.
        dir: PathBuf,
        /// The number that should be there.
        missing: u32,
    },
}

impl WalError {
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> WalError {
        let path = path.into();
        move |source| WalError::Io { action, path, source }
    }
}
