//! The native histogram: exponential buckets of eight resolutions, or custom bounds.

mod arithmetic;
mod layout;
mod reset;

pub use arithmetic::{HistogramError, HistogramSum, Reconciled};
pub use layout::HistogramBucket;

use std::fmt;
use std::sync::Arc;

/// The schema number of histograms with custom bounds.
pub const CUSTOM_BUCKETS_SCHEMA: i32 = -53;

/// Whether a schema is one of the exponential ones, `-4` (a bucket per factor of 65536) to `8` (256 per doubling).
pub fn is_exponential_schema(schema: i32) -> bool {
    (-4..=8).contains(&schema)
}

/// Whether a histogram's counts started again since the sample before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum CounterResetHint {
    /// Not known; it has to be found out by comparison.
    #[default]
    Unknown,
    /// They did.
    Reset,
    /// They did not.
    NotReset,
    /// The counts may fall at any time.
    Gauge,
}

/// A run of consecutive buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Span {
    /// Empty buckets since the end of the span before; for the first span the index of its first bucket.
    pub offset: i32,
    /// Buckets in the run.
    pub length: u32,
}

/// A histogram whose counts are floats, the form everything is computed in. Counts are absolute, one for each
/// bucket of the spans in order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FloatHistogram {
    pub counter_reset_hint: CounterResetHint,
    /// `-4..=8`, or [`CUSTOM_BUCKETS_SCHEMA`]. Bucket `i` of an exponential schema `n` holds the values in
    /// `(b^(i-1), b^i]` with `b = 2^(2^-n)`.
    pub schema: i32,
    /// Values up to this magnitude are counted in `zero_count`.
    pub zero_threshold: f64,
    pub zero_count: f64,
    pub count: f64,
    pub sum: f64,
    pub positive_spans: Vec<Span>,
    pub negative_spans: Vec<Span>,
    pub positive_buckets: Vec<f64>,
    pub negative_buckets: Vec<f64>,
    /// Upper bounds of custom buckets, rising, without `+Inf`; shared because every sample of a series has the
    /// same. Empty for exponential schemas.
    pub custom_values: Arc<[f64]>,
}

// === impl FloatHistogram ===

impl FloatHistogram {
    pub fn uses_custom_buckets(&self) -> bool {
        self.schema == CUSTOM_BUCKETS_SCHEMA
    }

    /// Whether this sample says that the series ended.
    pub fn is_stale(&self) -> bool {
        crate::is_stale_nan(self.sum)
    }
}

impl fmt::Display for FloatHistogram {
    /// `{count:4, sum:5, [-0.5,0.5]:1, (0.5,1]:3}`, only buckets that hold something.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{count:{}, sum:{}", crate::format_float(self.count), crate::format_float(self.sum))?;
        for bucket in self.buckets_unclipped() {
            if bucket.count != 0.0 {
                write!(f, ", {bucket}")?;
            }
        }
        f.write_str("}")
    }
}
