//! Evaluation.

use crate::annotations::Annotations;
use crate::ast::Expr;
use crate::engine::{Cancellation, EngineOptions, QueryError, Steps};
use crate::value::{QueryStats, QueryValue};
use gantry_prom_model::Queryable;
use std::time::Instant;

/// Evaluates one query.
pub(crate) struct Evaluator<'a> {
    annotations: Annotations,
    stats: QueryStats,
    _storage: &'a dyn Queryable,
}

impl<'a> Evaluator<'a> {
    pub(crate) fn new(
        _options: &'a EngineOptions,
        storage: &'a dyn Queryable,
        annotations: Annotations,
        _steps: Steps,
        _is_instant: bool,
        _cancellation: &'a Cancellation,
        _deadline: Option<Instant>,
    ) -> Self {
        Evaluator { annotations, stats: QueryStats::default(), _storage: storage }
    }

    pub(crate) fn run(&mut self, expr: &Expr) -> Result<QueryValue, QueryError> {
        Err(QueryError::Execution(format!("evaluating {expr} is not possible yet")))
    }

    pub(crate) fn finish(self) -> (Annotations, QueryStats) {
        (self.annotations, self.stats)
    }
}
