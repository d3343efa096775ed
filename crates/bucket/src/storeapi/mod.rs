//! What a store offers: its series as encoded chunks, its labels, and what it holds.
//!
//! Everything that has series implements [`StoreApi`]: the local store, blocks in a bucket, another process over gRPC,
//! and many of these behind one [`Proxy`](crate::Proxy). Calls block; who is asynchronous makes them on a thread of
//! their own.

mod chunk;
pub mod messages;
mod order;
pub(crate) mod translate;

pub use chunk::{AggrChunk, Aggregate, EncodedChunk};
pub use order::Budget;
pub(crate) use order::{Sorted, relabel};

use gantry_prom_model::{Labels, Matcher, StorageError};

/// Why a store does not answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// It cannot be reached, or not read; another time it may.
    #[error("{store}: {reason}")]
    Unavailable {
        /// Which store.
        store: String,
        /// Why.
        reason: String,
    },
    /// The question is wrong.
    #[error("{0}")]
    Invalid(String),
    /// One of several stores failed, and the question forbids partial answers.
    #[error("{0}")]
    Aborted(String),
    /// A limit was hit.
    #[error("{what} exceeds the limit of {limit}")]
    Limit {
        /// What is too much.
        what: String,
        /// The limit.
        limit: u64,
    },
}

impl From<StoreError> for StorageError {
    fn from(error: StoreError) -> StorageError {
        match error {
            StoreError::Limit { what, limit } => StorageError::LimitExceeded { what, limit },
            other => StorageError::Unreadable(other.to_string()),
        }
    }
}

impl From<StorageError> for StoreError {
    fn from(error: StorageError) -> StoreError {
        match error {
            StorageError::LimitExceeded { what, limit } => StoreError::Limit { what, limit },
            other => StoreError::Unavailable { store: "store".into(), reason: other.to_string() },
        }
    }
}

/// What happens when one of several stores fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PartialResponse {
    /// The answer lacks its series and says so in a warning.
    #[default]
    Warn,
    /// There is no answer.
    Abort,
}

/// A part of the series, by the hash of some of their labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    /// Which part.
    pub index: u64,
    /// Of how many.
    pub total: u64,
    /// Whether `labels` are those that count, or those that do not.
    pub by: bool,
    /// Labels.
    pub labels: Vec<String>,
}

impl Shard {
    /// Whether the series belongs to the part.
    pub fn holds(&self, series: &Labels) -> bool {
        if self.total < 2 {
            return true;
        }
        let mut hash = xxhash_rust::xxh64::Xxh64::new(0);
        for (name, value) in series.iter() {
            let is_listed = self.labels.iter().any(|label| label == name);
            if is_listed == self.by {
                hash.update(name.as_bytes());
                hash.update(&[0xff]);
                hash.update(value.as_bytes());
                hash.update(&[0xff]);
            }
        }
        hash.digest() % self.total == self.index
    }
}

/// A question for series.
#[derive(Debug, Clone, Default)]
pub struct SeriesQuery {
    /// First time that is of interest.
    pub min_ms: i64,
    /// Last time that is of interest.
    pub max_ms: i64,
    /// What series have to fulfil.
    pub matchers: Vec<Matcher>,
    /// Coarsest resolution that will do; 0 for raw samples.
    pub max_resolution_ms: i64,
    /// What is wanted of downsampled chunks.
    pub aggregates: Vec<Aggregate>,
    /// Only labels are wanted.
    pub skip_chunks: bool,
    /// Labels to be taken off before series are sorted and joined.
    pub without: Vec<String>,
    /// At most so many series; 0 for all.
    pub limit: usize,
    /// What happens when one of several stores fails.
    pub partial: PartialResponse,
    /// Only a part of the series.
    pub shard: Option<Shard>,
    /// Step of the query.
    pub step_ms: i64,
    /// Range of the selector.
    pub range_ms: i64,
    /// Function around the selector, empty for none.
    pub function: String,
    /// What its answer may hold in memory where it has to be sorted.
    pub budget: Budget,
}

/// A question for label names or values.
#[derive(Debug, Clone, Default)]
pub struct LabelsQuery {
    /// First time.
    pub min_ms: i64,
    /// Last time.
    pub max_ms: i64,
    /// What the series have to fulfil.
    pub matchers: Vec<Matcher>,
    /// Labels that do not count.
    pub without: Vec<String>,
    /// At most so many; 0 for all.
    pub limit: usize,
    /// What happens when one of several stores fails.
    pub partial: PartialResponse,
}

/// Names or values, and what the user should know about them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelsAnswer {
    /// Sorted, each once.
    pub values: Vec<String>,
    /// What is missing.
    pub warnings: Vec<String>,
}

/// A series of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreSeries {
    /// Its labels.
    pub labels: Labels,
    /// Its chunks, rising by their first time; they may overlap.
    pub chunks: Vec<AggrChunk>,
}

/// Series one after the other, in the order of their labels.
pub trait SeriesStream: Send {
    /// The next series; `None` at the end.
    ///
    /// # Errors
    /// When the store cannot go on.
    fn next(&mut self) -> Result<Option<StoreSeries>, StoreError>;

    /// What the user should know, complete at the end.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }
}

/// What a store holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreInfo {
    /// What kind of store it is, such as `sidecar`.
    pub component: String,
    /// External labels; none answers every question.
    pub label_sets: Vec<Labels>,
    /// First time it has.
    pub min_ms: i64,
    /// Last time it has.
    pub max_ms: i64,
    /// Whether it takes labels off before it sorts.
    pub supports_without: bool,
}

impl StoreInfo {
    /// Whether some series of the store can fulfil the matchers in the range.
    pub fn may_have(&self, min_ms: i64, max_ms: i64, matchers: &[Matcher]) -> bool {
        if self.max_ms < min_ms || max_ms < self.min_ms {
            return false;
        }
        self.label_sets.is_empty()
            || self.label_sets.iter().any(|external| matchers_within(matchers, external).is_some())
    }
}

/// Something that has series.
pub trait StoreApi: Send + Sync {
    /// How errors name it.
    fn name(&self) -> String;

    /// What it holds; `None` while it does not know.
    fn info(&self) -> Option<StoreInfo>;

    /// Series with their chunks, sorted without the labels of `without`.
    ///
    /// # Errors
    /// When the question is wrong or the store cannot be read.
    fn series(&self, query: &SeriesQuery) -> Result<Box<dyn SeriesStream>, StoreError>;

    /// Names of labels.
    ///
    /// # Errors
    /// As [`series`](Self::series).
    fn label_names(&self, query: &LabelsQuery) -> Result<LabelsAnswer, StoreError>;

    /// Values of a label.
    ///
    /// # Errors
    /// As [`series`](Self::series).
    fn label_values(&self, name: &str, query: &LabelsQuery) -> Result<LabelsAnswer, StoreError>;
}

/// The matchers that series without these external labels still have to fulfil; `None` when the external labels do
/// not fulfil theirs.
pub fn matchers_within(matchers: &[Matcher], external: &Labels) -> Option<Vec<Matcher>> {
    let mut rest = Vec::new();
    for matcher in matchers {
        match external.get(&matcher.name) {
            Some(value) if !matcher.matches(value) => return None,
            Some(_) => {}
            None => rest.push(matcher.clone()),
        }
    }
    Some(rest)
}

/// Series that are in memory already.
pub(crate) struct Ready {
    pub(crate) series: std::vec::IntoIter<StoreSeries>,
}

impl SeriesStream for Ready {
    fn next(&mut self) -> Result<Option<StoreSeries>, StoreError> {
        Ok(self.series.next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn external_labels_answer_their_matchers() {
        let external = Labels::from_pairs([("cluster", "eu"), ("replica", "a")]);
        let matchers = [Matcher::equal("cluster", "eu"), Matcher::equal("job", "x")];
        assert_eq!(matchers_within(&matchers, &external), Some(vec![Matcher::equal("job", "x")]));
        assert_eq!(matchers_within(&[Matcher::equal("cluster", "us")], &external), None);
        let info = StoreInfo {
            component: "store".into(),
            label_sets: vec![external],
            min_ms: 10,
            max_ms: 20,
            supports_without: true,
        };
        assert!(info.may_have(20, 30, &matchers) && !info.may_have(21, 30, &matchers));
        assert!(!info.may_have(10, 30, &[Matcher::not_equal("replica", "a")]));
    }

    #[test]
    fn shards_part_the_series() {
        for id in 0..50 {
            let series = Labels::from_pairs([("pod", id.to_string()), ("le", "1".into())]);
            let holds = |by, labels: &[&str], index| {
                let labels = labels.iter().map(ToString::to_string).collect();
                Shard { index, total: 3, by, labels }.holds(&series)
            };
            assert_eq!((0..3).filter(|index| holds(true, &["pod"], *index)).count(), 1);
            for index in 0..3 {
                assert_eq!(holds(true, &["pod"], index), holds(false, &["le"], index));
            }
        }
    }
}
