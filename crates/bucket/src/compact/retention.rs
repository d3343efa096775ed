//! Blocks whose time is over, by their resolution.

use gantry_tsdb::block::BlockMeta;

/// How long blocks are kept, in milliseconds; 0 for ever.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retention {
    /// Blocks of raw samples.
    pub raw_ms: i64,
    /// Blocks of five minutes.
    pub five_minutes_ms: i64,
    /// Blocks of an hour.
    pub hour_ms: i64,
}

/// Whether a block of this resolution is to go.
pub fn expired(meta: &BlockMeta, resolution_ms: i64, retention: &Retention, now_ms: i64) -> bool {
    let keep_ms = match resolution_ms {
        0 => retention.raw_ms,
        super::downsample::FIVE_MINUTES_MS => retention.five_minutes_ms,
        super::downsample::HOUR_MS => retention.hour_ms,
        _ => 0,
    };
    // Whole seconds, as the times of marks are.
    let end_ms = meta.max_time / 1000 * 1000;
    keep_ms > 0 && now_ms > end_ms.saturating_add(keep_ms)
}
