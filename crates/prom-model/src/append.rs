//! Writing samples: what a storage offers to scraping, rules and receivers.

use crate::{Exemplar, FloatHistogram, Labels, Metadata, StorageError};
use std::sync::Arc;

/// A storage's short name for a series, valid as long as the storage runs. A storage that dropped the series
/// meanwhile answers with the new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesRef(pub u64);

/// Why a sample was not taken.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    #[error("out of order sample")]
    OutOfOrder,
    #[error("duplicate sample for timestamp")]
    DuplicateForTimestamp,
    /// Older than what the storage can still take.
    #[error("out of bounds")]
    OutOfBounds,
    /// Older than the out-of-order window.
    #[error("too old sample")]
    TooOld,
    #[error("invalid sample: {0}")]
    Invalid(String),
    #[error("out of order exemplar")]
    OutOfOrderExemplar,
    #[error("exemplar for an unknown series")]
    UnknownSeries,
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Something samples can be written to.
pub trait Appendable: Send + Sync {
    /// A batch. Nothing of it is visible or durable before [`Appender::commit`].
    fn appender(&self) -> Box<dyn Appender + '_>;
}

impl<A: Appendable + ?Sized> Appendable for Arc<A> {
    fn appender(&self) -> Box<dyn Appender + '_> {
        (**self).appender()
    }
}

/// A batch of samples; dropped without a commit it is rolled back.
pub trait Appender: Send {
    /// Adds a float sample. `series` is what an earlier call returned for the same labels, which saves the
    /// look-up; `None` looks the labels up.
    ///
    /// # Errors
    /// When this sample cannot be taken; the rest of the batch is not affected.
    fn append(
        &mut self,
        series: Option<SeriesRef>,
        labels: &Labels,
        timestamp_ms: i64,
        value: f64,
    ) -> Result<SeriesRef, AppendError>;

    /// Adds a native histogram sample.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    fn append_histogram(
        &mut self,
        series: Option<SeriesRef>,
        labels: &Labels,
        timestamp_ms: i64,
        histogram: &FloatHistogram,
    ) -> Result<SeriesRef, AppendError>;

    /// Notes when the counting behind a sample began; called before the sample itself. Storages that keep no
    /// start times ignore it.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    fn append_start_timestamp(
        &mut self,
        _series: Option<SeriesRef>,
        _labels: &Labels,
        _timestamp_ms: i64,
        _start_ms: i64,
    ) -> Result<(), AppendError> {
        Ok(())
    }

    /// Adds an exemplar to a series that has samples.
    ///
    /// # Errors
    /// When the exemplar is out of order or the series unknown. Storages without exemplars accept all.
    fn append_exemplar(
        &mut self,
        _series: SeriesRef,
        _labels: &Labels,
        _exemplar: &Exemplar,
    ) -> Result<(), AppendError> {
        Ok(())
    }

    /// Notes a series' type, help and unit.
    ///
    /// # Errors
    /// When the series is unknown. Storages without metadata accept all.
    fn update_metadata(
        &mut self,
        _series: SeriesRef,
        _labels: &Labels,
        _metadata: &Metadata,
    ) -> Result<(), AppendError> {
        Ok(())
    }

    /// Makes the batch durable and visible.
    ///
    /// # Errors
    /// When it could not be written; then nothing of it counts as acknowledged.
    fn commit(self: Box<Self>) -> Result<(), AppendError>;

    /// Forgets the batch.
    fn rollback(self: Box<Self>);
}
