//! A store in this process as a data source: no socket, no JSON.

use std::sync::Arc;

use async_trait::async_trait;
use gantry_dashboards::{Answer, DataSource, Series, SourceError};
use gantry_prom_model::{Labels, MatchOp, Matcher, Queryable, SelectHints};
use gantry_promql::{Engine, QueryResult, QueryValue, Value};
use tokio::sync::Semaphore;

/// Queries on the processor at once.
const AT_ONCE: usize = 4;
const MOST_VALUES: usize = 50_000;

/// The engine over a store.
#[derive(Clone)]
pub struct Local {
    engine: Engine,
    storage: Arc<dyn Queryable>,
    permits: Arc<Semaphore>,
}

fn wrong(error: impl std::fmt::Display) -> SourceError {
    SourceError(error.to_string())
}

// === impl Local ===

impl Local {
    pub fn new(engine: Engine, storage: Arc<dyn Queryable>) -> Local {
        Local { engine, storage, permits: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Runs on a thread that may block, when it is its turn.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Engine, &dyn Queryable) -> Result<T, SourceError> + Send + 'static,
    ) -> Result<T, SourceError> {
        let permit = self.permits.clone().acquire_owned().await.map_err(wrong)?;
        let (engine, storage) = (self.engine.clone(), self.storage.clone());
        let task = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work(&engine, &*storage)
        });
        task.await.map_err(wrong)?
    }
}

fn float(value: &Value) -> Option<f64> {
    match value {
        Value::Float(value) => Some(*value),
        Value::Histogram(_) => None,
    }
}

fn answer(result: QueryResult) -> Result<Answer, SourceError> {
    let series = match result.value {
        QueryValue::Matrix(list) => list
            .into_iter()
            .map(|one| {
                let points =
                    one.points.iter().filter_map(|point| Some((point.timestamp_ms, float(&point.value)?)));
                let (times_ms, values) = points.unzip();
                Series { labels: one.labels, times_ms, values }
            })
            .filter(|series| !series.values.is_empty())
            .collect(),
        QueryValue::Vector(list) => list
            .into_iter()
            .filter_map(|one| {
                let values = vec![float(&one.value)?];
                Some(Series { labels: one.labels, times_ms: vec![one.timestamp_ms], values })
            })
            .collect(),
        QueryValue::Scalar { timestamp_ms, value } => {
            vec![Series { labels: Labels::empty(), times_ms: vec![timestamp_ms], values: vec![value] }]
        }
        QueryValue::String { .. } => {
            return Err(wrong("the query answers with a text, which no panel can show"));
        }
    };
    Ok(Answer { series, warnings: result.warnings })
}

fn matchers(selector: &str) -> Result<Vec<Matcher>, SourceError> {
    gantry_promql::parse_selector(selector).map_err(wrong)
}

#[async_trait]
impl DataSource for Local {
    async fn range(
        &self,
        expr: &str,
        start_ms: i64,
        end_ms: i64,
        step_ms: i64,
    ) -> Result<Answer, SourceError> {
        let expr = expr.to_owned();
        self.run(move |engine, storage| {
            answer(engine.range(storage, &expr, start_ms, end_ms, step_ms).map_err(wrong)?)
        })
        .await
    }

    async fn instant(&self, expr: &str, time_ms: i64) -> Result<Answer, SourceError> {
        let expr = expr.to_owned();
        self.run(move |engine, storage| answer(engine.instant(storage, &expr, time_ms).map_err(wrong)?)).await
    }

    async fn label_values(
        &self,
        label: &str,
        selector: Option<&str>,
        start_ms: i64,
        end_ms: i64,
    ) -> Result<Vec<String>, SourceError> {
        let matchers = selector.map(matchers).transpose()?.unwrap_or_default();
        let label = label.to_owned();
        self.run(move |_, storage| {
            let querier = storage.querier(start_ms, end_ms).map_err(wrong)?;
            querier.label_values(&label, &matchers, MOST_VALUES).map_err(wrong)
        })
        .await
    }

    async fn label_names(&self, start_ms: i64, end_ms: i64) -> Result<Vec<String>, SourceError> {
        self.run(move |_, storage| {
            let querier = storage.querier(start_ms, end_ms).map_err(wrong)?;
            querier.label_names(&[], MOST_VALUES).map_err(wrong)
        })
        .await
    }

    async fn series(&self, selector: &str, start_ms: i64, end_ms: i64) -> Result<Vec<Labels>, SourceError> {
        let mut matchers = matchers(selector)?;
        if matchers.is_empty() {
            matchers.push(Matcher::new(MatchOp::NotEqual, "__name__", "").map_err(wrong)?);
        }
        self.run(move |_, storage| {
            let querier = storage.querier(start_ms, end_ms).map_err(wrong)?;
            let hints = SelectHints { function: Some("series"), ..SelectHints::range(start_ms, end_ms) };
            let mut set = querier.select(true, &hints, &matchers).map_err(wrong)?;
            let mut labels = Vec::new();
            while labels.len() < MOST_VALUES && set.advance().map_err(wrong)? {
                labels.push(set.labels().clone());
            }
            Ok(labels)
        })
        .await
    }
}
