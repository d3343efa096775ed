//! What rules are evaluated with: storage, engine, clock, and where their alerts go.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gantry_clock::Clock;
use gantry_prom_model::{Appendable, Labels, Queryable};
use gantry_promql::ast::Expr;
use gantry_promql::{Cancellation, Engine, QueryResult, QueryValue, Value, VectorSample};

use crate::metrics::RuleMetrics;
use crate::notify::Notification;

/// Where alerts go. Called from an evaluation, so it must not wait.
pub trait Notify: Send + Sync {
    /// Takes alerts that have begun, go on or have ended.
    fn notify(&self, alerts: Vec<Notification>);
}

/// What the rules of one configuration are evaluated with.
pub struct Environment {
    /// Where expressions read.
    pub storage: Arc<dyn Queryable>,
    /// Where results are written.
    pub appendable: Arc<dyn Appendable>,
    pub engine: Engine,
    pub clock: Arc<dyn Clock>,
    pub notify: Arc<dyn Notify>,
    /// `$externalLabels` of templates.
    pub external_labels: Labels,
    /// Where people reach this server, without a slash at the end.
    pub external_url: Arc<str>,
    /// An alert that goes on is sent again after this long.
    pub resend_delay_ms: i64,
    /// After a longer outage the state of alerts is not restored.
    pub outage_tolerance_ms: i64,
    /// An alert that is restored waits at least this long before it fires.
    pub for_grace_period_ms: i64,
    /// Rules that may be evaluated beside those of their groups' own threads.
    pub extra_threads: Arc<AtomicUsize>,
    pub metrics: RuleMetrics,
    /// Ends evaluations when the server ends.
    pub cancellation: Cancellation,
}

/// The right to one thread more; given back when dropped.
pub(crate) struct ThreadPermit<'e>(&'e AtomicUsize);

impl Drop for ThreadPermit<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

impl Environment {
    pub(crate) fn thread_permit(&self) -> Option<ThreadPermit<'_>> {
        let take = |free: usize| free.checked_sub(1);
        let taken = self.extra_threads.fetch_update(Ordering::AcqRel, Ordering::Acquire, take);
        taken.ok().map(|_| ThreadPermit(&self.extra_threads))
    }

    pub(crate) fn evaluate(
        &self,
        query: &str,
        expr: &Expr,
        time_ms: i64,
    ) -> Result<Vec<VectorSample>, String> {
        let result = self.engine.instant_expr(&*self.storage, query, expr, time_ms, &self.cancellation);
        vector(result.map_err(|error| error.to_string())?)
    }

    /// As [`evaluate`](Self::evaluate) for a query of a template.
    pub(crate) fn evaluate_text(&self, query: &str, time_ms: i64) -> Result<Vec<VectorSample>, String> {
        let expr = gantry_promql::parse(query).map_err(|error| error.to_string())?;
        self.evaluate(query, &expr, time_ms)
    }
}

/// The samples of a result that rules can do something with.
pub(crate) fn vector(result: QueryResult) -> Result<Vec<VectorSample>, String> {
    match result.value {
        QueryValue::Vector(samples) => Ok(samples),
        QueryValue::Scalar { timestamp_ms, value } => {
            Ok(vec![VectorSample { labels: Labels::empty(), timestamp_ms, value: Value::Float(value) }])
        }
        _ => Err("rule result is not a vector or scalar".into()),
    }
}
