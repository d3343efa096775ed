//! The web console: one page that shows the loop live, embedded compressed, and the small API behind it.
//!
//! The console knows nothing of Kubernetes or of metrics: whoever runs it implements [`Source`]. It only reads, except
//! that a page can start and stop load where [`LoadControl`] is implemented. The page asks no other host for anything.

#![forbid(unsafe_code)]

mod api;
mod assets;
mod load;
mod model;
mod service;
mod stream;

pub use load::{LoadControl, LoadRequest, LoadRun, LoadScenario, LoadThreshold, LoadView, LoadWish};
pub use model::{
    Address, Chart, ChartQuery, Event, Health, Level, Object, Pod, QueryError, RangeQuery, Route, SeriesData,
    Service, Snapshot, Unit,
};
pub use service::{Body, Console, Pages};

use std::future::Future;
use std::pin::Pin;

use tokio::sync::watch;

/// The answer to a [`Source::query_range`].
pub type QueryFuture<'a> = Pin<Box<dyn Future<Output = Result<Vec<SeriesData>, QueryError>> + Send + 'a>>;

/// What the page shows: implemented by whoever has the objects, the metrics and the history.
pub trait Source: Send + Sync + 'static {
    /// The state of everything, now. Called at most twice a second for all open pages together, and once per page load.
    fn snapshot(&self) -> Snapshot;

    /// What happened from `from_ms` to `to_ms` (wall clock, both included), oldest first; the newest when there is
    /// more than a source keeps.
    fn events(&self, from_ms: i64, to_ms: i64) -> Vec<Event>;

    /// Evaluates one of the expressions of [`Snapshot::charts`] at every step of a range.
    fn query_range(&self, query: RangeQuery) -> QueryFuture<'_>;

    /// Changes its value whenever the snapshot or the events have changed.
    fn subscribe(&self) -> watch::Receiver<u64>;
}
