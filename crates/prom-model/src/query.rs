//! Reading series: what a storage offers to the query engine and the HTTP API.
//!
//! The engine works one series at a time: a [`SeriesSet`] names a series and fills the caller's columns with
//! its samples of a time range. No sample is boxed, and a storage may decode straight into the columns.

use crate::{FloatHistogram, Labels, Matcher};
use std::sync::Arc;

/// A read that failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StorageError {
    /// The data is damaged or cannot be read.
    #[error("{0}")]
    Unreadable(String),
    /// A limit of the storage was hit.
    #[error("{what} exceeds the limit of {limit}")]
    LimitExceeded { what: String, limit: u64 },
    /// The storage is closing.
    #[error("the storage is shutting down")]
    Closed,
}

/// Something that can be asked for series.
pub trait Queryable: Send + Sync {
    /// A view over the samples with `min_time_ms <= t <= max_time_ms`.
    ///
    /// # Errors
    /// When the storage cannot be read.
    fn querier(&self, min_time_ms: i64, max_time_ms: i64) -> Result<Box<dyn Querier + '_>, StorageError>;
}

impl<Q: Queryable + ?Sized> Queryable for Arc<Q> {
    fn querier(&self, min_time_ms: i64, max_time_ms: i64) -> Result<Box<dyn Querier + '_>, StorageError> {
        (**self).querier(min_time_ms, max_time_ms)
    }
}

/// What the caller is going to do with the series; a storage may use it or not.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SelectHints {
    /// First time that will be read, in milliseconds.
    pub start_ms: i64,
    /// Last time that will be read.
    pub end_ms: i64,
    /// Step of the query; 0 when unknown.
    pub step_ms: i64,
    /// Length of the range selector; 0 for an instant selector.
    pub range_ms: i64,
    /// Function or aggregation around the selector, `series` when only the labels are wanted.
    pub function: Option<&'static str>,
    /// Labels of a `by` or `without` around the selector.
    pub grouping: Vec<String>,
    /// Whether `grouping` is of a `by`.
    pub by: bool,
    /// At most this many series are wanted; 0 for no limit.
    pub limit: usize,
}

impl SelectHints {
    /// Hints for a plain read of a time range.
    pub fn range(start_ms: i64, end_ms: i64) -> Self {
        SelectHints { start_ms, end_ms, ..SelectHints::default() }
    }
}

/// A view over a time range of a storage.
pub trait Querier: Send + Sync {
    /// The series that fulfil all matchers. With `sorted` they come in the order of their labels.
    ///
    /// # Errors
    /// When the storage cannot be read or one of its limits is hit.
    fn select<'a>(
        &'a self,
        sorted: bool,
        hints: &SelectHints,
        matchers: &[Matcher],
    ) -> Result<Box<dyn SeriesSet + 'a>, StorageError>;

    /// Sorted names of the labels of the series that fulfil the matchers, at most `limit` (0: all).
    ///
    /// # Errors
    /// As [`select`](Self::select).
    fn label_names(&self, matchers: &[Matcher], limit: usize) -> Result<Vec<String>, StorageError>;

    /// Sorted values of one label over the series that fulfil the matchers, at most `limit` (0: all).
    ///
    /// # Errors
    /// As [`select`](Self::select).
    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        limit: usize,
    ) -> Result<Vec<String>, StorageError>;

    /// Things the user should know about the names and values that were given; those about series come with the
    /// series.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }
}

/// A cursor over series; before the first [`advance`](Self::advance) it stands on none.
pub trait SeriesSet: Send {
    /// Moves to the next series; `false` when there is none.
    ///
    /// # Errors
    /// When the storage cannot be read.
    fn advance(&mut self) -> Result<bool, StorageError>;

    /// The labels of the series the cursor stands on.
    fn labels(&self) -> &Labels;

    /// Appends the current series' samples with `min_time_ms <= t <= max_time_ms` to the columns, in the order
    /// of time. Calls for the same series must go forward in time without overlap.
    ///
    /// # Errors
    /// When the samples cannot be decoded.
    fn fill(
        &mut self,
        min_time_ms: i64,
        max_time_ms: i64,
        into: &mut SampleBuffer,
    ) -> Result<(), StorageError>;

    /// Things the user should know about an otherwise complete answer.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Samples of one series in columns: floats, and histograms apart. Each column pair rises in time, and no time
/// is in both.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SampleBuffer {
    /// Times of the float samples.
    pub timestamps: Vec<i64>,
    /// Values of the float samples, stale markers included.
    pub values: Vec<f64>,
    /// Start times of the float samples, parallel to `timestamps`, or empty when none is known; 0 is unknown.
    pub start_timestamps: Vec<i64>,
    /// Times of the histogram samples.
    pub histogram_timestamps: Vec<i64>,
    /// Histogram samples; one whose sum is the stale marker is a stale marker.
    pub histograms: Vec<Arc<FloatHistogram>>,
    /// Start times of the histogram samples, parallel to `histogram_timestamps`, or empty.
    pub histogram_start_timestamps: Vec<i64>,
}

impl SampleBuffer {
    /// Empties the columns and keeps their memory.
    pub fn clear(&mut self) {
        self.timestamps.clear();
        self.values.clear();
        self.start_timestamps.clear();
        self.histogram_timestamps.clear();
        self.histograms.clear();
        self.histogram_start_timestamps.clear();
    }

    pub fn is_empty(&self) -> bool {
        self.timestamps.is_empty() && self.histogram_timestamps.is_empty()
    }

    pub fn len(&self) -> usize {
        self.timestamps.len() + self.histogram_timestamps.len()
    }

    pub fn push(&mut self, timestamp_ms: i64, value: f64) {
        self.timestamps.push(timestamp_ms);
        self.values.push(value);
        if !self.start_timestamps.is_empty() {
            self.start_timestamps.push(0);
        }
    }

    /// A float sample whose counting began at `start_ms` (0: unknown).
    pub fn push_with_start(&mut self, timestamp_ms: i64, value: f64, start_ms: i64) {
        if start_ms != 0 && self.start_timestamps.is_empty() {
            self.start_timestamps.resize(self.timestamps.len(), 0);
            self.start_timestamps.push(start_ms);
        } else if !self.start_timestamps.is_empty() {
            self.start_timestamps.push(start_ms);
        }
        self.timestamps.push(timestamp_ms);
        self.values.push(value);
    }

    pub fn push_histogram(&mut self, timestamp_ms: i64, histogram: Arc<FloatHistogram>) {
        self.push_histogram_with_start(timestamp_ms, histogram, 0);
    }

    /// A histogram sample whose counting began at `start_ms` (0: unknown).
    pub fn push_histogram_with_start(
        &mut self,
        timestamp_ms: i64,
        histogram: Arc<FloatHistogram>,
        start_ms: i64,
    ) {
        if start_ms != 0 && self.histogram_start_timestamps.is_empty() {
            self.histogram_start_timestamps.resize(self.histogram_timestamps.len(), 0);
            self.histogram_start_timestamps.push(start_ms);
        } else if !self.histogram_start_timestamps.is_empty() {
            self.histogram_start_timestamps.push(start_ms);
        }
        self.histogram_timestamps.push(timestamp_ms);
        self.histograms.push(histogram);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_times_stay_parallel() {
        let mut buffer = SampleBuffer::default();
        buffer.push(1, 1.0);
        assert!(buffer.start_timestamps.is_empty());
        buffer.push_with_start(2, 2.0, 1);
        buffer.push(3, 3.0);
        assert_eq!(buffer.start_timestamps, [0, 1, 0]);
        assert_eq!(buffer.timestamps.len(), buffer.values.len());
    }
}
