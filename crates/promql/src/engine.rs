//! The engine: limits, instant and range queries.

use crate::annotations::Annotations;
use crate::ast::{Expr, ValueType};
use crate::eval::Evaluator;
use crate::value::{QueryResult, QueryValue};
use crate::{ParseError, parse};
use gantry_prom_model::{Queryable, StorageError};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Limits and semantics of an [`Engine`].
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// How old a sample may be to stand for "now".
    pub lookback: Duration,
    /// Samples a query may hold at once.
    pub max_samples: usize,
    /// Bytes a query may hold at once.
    pub max_bytes: usize,
    /// After this long a query is ended.
    pub timeout: Duration,
    /// Step of subqueries that give none.
    pub default_subquery_step: Duration,
    /// Whether `__name__` is removed at the end of a query instead of by each function.
    pub delayed_name_removal: bool,
    /// Whether `__type__` and `__unit__` count as part of the name.
    pub type_and_unit_labels: bool,
    /// Whether start times of samples are taken into account by the rate family.
    pub use_start_timestamps: bool,
}

impl Default for EngineOptions {
    fn default() -> Self {
        EngineOptions {
            lookback: Duration::from_secs(300),
            max_samples: 50_000_000,
            max_bytes: 2 << 30,
            timeout: Duration::from_secs(120),
            default_subquery_step: Duration::from_secs(60),
            delayed_name_removal: false,
            type_and_unit_labels: false,
            use_start_timestamps: false,
        }
    }
}

/// Why a query has no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum QueryError {
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The query cannot be evaluated.
    #[error("{0}")]
    Execution(String),
    #[error(
        "query processing would load too many samples into memory: {what} needs more than the limit of {limit}"
    )]
    TooManySamples { what: String, limit: usize },
    #[error("query processing would take too much memory: {what} needs more than the limit of {limit} bytes")]
    TooManyBytes { what: String, limit: usize },
    #[error("query timed out after {0:?}")]
    Timeout(Duration),
    #[error("query was canceled")]
    Canceled,
}

/// Ends a running query from another thread.
#[derive(Debug, Clone, Default)]
pub struct Cancellation {
    is_canceled: Arc<AtomicBool>,
}

impl Cancellation {
    pub fn new() -> Self {
        Cancellation::default()
    }

    pub fn cancel(&self) {
        self.is_canceled.store(true, Ordering::Relaxed);
    }

    pub fn is_canceled(&self) -> bool {
        self.is_canceled.load(Ordering::Relaxed)
    }
}

/// The steps of a range query; an instant query has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Steps {
    pub(crate) start_ms: i64,
    pub(crate) end_ms: i64,
    /// Above zero.
    pub(crate) step_ms: i64,
}

impl Steps {
    pub(crate) fn instant(time_ms: i64) -> Self {
        Steps { start_ms: time_ms, end_ms: time_ms, step_ms: 1 }
    }

    pub(crate) fn count(&self) -> usize {
        if self.end_ms < self.start_ms {
            return 0;
        }
        usize::try_from((self.end_ms - self.start_ms) / self.step_ms + 1).unwrap_or(usize::MAX)
    }

    pub(crate) fn time(&self, step: usize) -> i64 {
        self.start_ms + step as i64 * self.step_ms
    }

    pub(crate) fn last_time(&self) -> i64 {
        self.time(self.count().saturating_sub(1))
    }
}

/// More steps than this are refused whatever the memory budget.
const MAX_STEPS: usize = 20_000_000;
/// Trees deeper than this are evaluated on a thread with a stack of their own.
const SHALLOW_DEPTH: u32 = 100;
const DEEP_STACK_BYTES: usize = 512 << 20;
/// The largest time a query may name, so that sums of times and durations do not overflow.
const MAX_TIME_MS: i64 = i64::MAX / 4;

/// Evaluates queries. Cheap to share; holds no state between queries.
#[derive(Debug, Clone, Default)]
pub struct Engine {
    options: EngineOptions,
}

// === impl Engine ===

impl Engine {
    pub fn new(options: EngineOptions) -> Self {
        Engine { options }
    }

    pub fn options(&self) -> &EngineOptions {
        &self.options
    }

    /// Evaluates `query` at one time.
    ///
    /// # Errors
    /// When the query is not PromQL, a limit is hit, or the storage fails.
    pub fn instant(
        &self,
        storage: &dyn Queryable,
        query: &str,
        time_ms: i64,
    ) -> Result<QueryResult, QueryError> {
        self.instant_expr(storage, query, &parse(query)?, time_ms, &Cancellation::new())
    }

    /// As [`instant`](Self::instant) for an expression that is already parsed; `query` is its text, for the
    /// places in annotations.
    ///
    /// # Errors
    /// When a limit is hit, the query is canceled, or the storage fails.
    pub fn instant_expr(
        &self,
        storage: &dyn Queryable,
        query: &str,
        expr: &Expr,
        time_ms: i64,
        cancellation: &Cancellation,
    ) -> Result<QueryResult, QueryError> {
        self.run(storage, query, expr, Steps::instant(time_ms), true, cancellation)
    }

    /// Evaluates `query` at `start_ms`, `start_ms + step_ms`, … up to `end_ms`.
    ///
    /// # Errors
    /// As [`instant`](Self::instant), and when the query is a range vector or a string.
    pub fn range(
        &self,
        storage: &dyn Queryable,
        query: &str,
        start_ms: i64,
        end_ms: i64,
        step_ms: i64,
    ) -> Result<QueryResult, QueryError> {
        self.range_expr(storage, query, &parse(query)?, (start_ms, end_ms, step_ms), &Cancellation::new())
    }

    /// As [`range`](Self::range) for an expression that is already parsed; the times are start, end and step.
    ///
    /// # Errors
    /// As [`range`](Self::range).
    pub fn range_expr(
        &self,
        storage: &dyn Queryable,
        query: &str,
        expr: &Expr,
        (start_ms, end_ms, step_ms): (i64, i64, i64),
        cancellation: &Cancellation,
    ) -> Result<QueryResult, QueryError> {
        if step_ms <= 0 {
            return Err(QueryError::Execution("the step of a range query must be above zero".to_owned()));
        }
        let found = expr.value_type();
        if !matches!(found, ValueType::Vector | ValueType::Scalar) {
            let message = format!(
                "invalid expression type {:?} for range query, must be Scalar or instant Vector",
                found.documented()
            );
            return Err(QueryError::Execution(message));
        }
        self.run(storage, query, expr, Steps { start_ms, end_ms, step_ms }, false, cancellation)
    }

    fn run(
        &self,
        storage: &dyn Queryable,
        query: &str,
        expr: &Expr,
        steps: Steps,
        is_instant: bool,
        cancellation: &Cancellation,
    ) -> Result<QueryResult, QueryError> {
        if steps.count() > MAX_STEPS {
            let message = format!("the query has {} steps, {MAX_STEPS} are allowed", steps.count());
            return Err(QueryError::Execution(message));
        }
        if steps.start_ms.abs() > MAX_TIME_MS || steps.end_ms.abs() > MAX_TIME_MS {
            return Err(QueryError::Execution("the times of the query are out of range".to_owned()));
        }
        let deadline = Instant::now().checked_add(self.options.timeout);
        let evaluate = || -> Result<QueryResult, QueryError> {
            let annotations = Annotations::new(query);
            let mut evaluator = Evaluator::new(
                &self.options,
                storage,
                annotations,
                steps,
                is_instant,
                cancellation,
                deadline,
            );
            let value: QueryValue = evaluator.run(expr)?;
            let (annotations, stats) = evaluator.finish();
            Ok(QueryResult::new(value, annotations, stats))
        };
        if expr.depth() <= SHALLOW_DEPTH {
            return evaluate();
        }
        std::thread::scope(|scope| {
            let thread =
                std::thread::Builder::new().stack_size(DEEP_STACK_BYTES).spawn_scoped(scope, evaluate);
            let failed = || QueryError::Execution("the query is too deep to be evaluated".to_owned());
            thread.map_err(|_| failed())?.join().map_err(|_| failed())?
        })
    }
}
