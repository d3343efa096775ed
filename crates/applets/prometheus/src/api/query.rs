//! `query`, `query_range` and the endpoints about queries themselves.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use gantry_promql::{Cancellation, Engine, QueryError, QueryResult, parse};
use gantry_tsdb::SeriesExemplars;

use super::answer::{
    Answer, ApiError, ErrorKind, TRUNCATED, float_text, push_labels, push_query_value, push_time,
};
use super::params::Params;
use super::{PrometheusApi, Shared};

/// A range query answers at most this many points per series.
const MAX_POINTS: i64 = 11_000;

/// Ends the query when the client goes away: the handler is then dropped, and this with it.
struct CancelOnDrop(Cancellation);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Runs a query on a blocking thread, when there is room for one more.
async fn run(
    shared: &Arc<Shared>,
    params: &Params,
    evaluate: impl FnOnce(&Engine, &Cancellation) -> Result<QueryResult, QueryError> + Send + 'static,
) -> Result<QueryResult, ApiError> {
    let mut options = shared.engine.options().clone();
    if let Some(timeout) = params.duration("timeout")? {
        options.timeout = options.timeout.min(Duration::from_millis(timeout.max(0).unsigned_abs()));
    }
    if let Some(lookback) = params.duration("lookback_delta")? {
        if lookback <= 0 {
            return Err(ApiError::bad("invalid parameter \"lookback_delta\": must be positive"));
        }
        options.lookback = Duration::from_millis(lookback.unsigned_abs());
    }
    let waiting = tokio::time::timeout(options.timeout, shared.queries.clone().acquire_owned()).await;
    let permit = match waiting {
        Ok(Ok(permit)) => permit,
        Ok(Err(_)) => return Err(ApiError::new(ErrorKind::Unavailable, "the server is shutting down")),
        Err(_) => return Err(ApiError::new(ErrorKind::Timeout, "query timed out in query queue")),
    };
    let cancellation = Cancellation::new();
    let guard = CancelOnDrop(cancellation.clone());
    let done = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        evaluate(&Engine::new(options), &cancellation)
    })
    .await;
    drop(guard);
    match done {
        Ok(result) => Ok(result?),
        Err(error) => Err(ApiError::new(ErrorKind::Internal, format!("the query failed: {error}"))),
    }
}

fn answer(result: &QueryResult, limit: usize, with_stats: bool, seconds: f64) -> Answer {
    let mut answer =
        Answer { warnings: result.warnings.clone(), infos: result.infos.clone(), ..Answer::default() };
    if push_query_value(&mut answer.data, &result.value, limit) {
        answer.warnings.push(TRUNCATED.into());
    }
    if with_stats {
        let stats = serde_json::json!({
            "timings": {
                "evalTotalTime": seconds, "resultSortTime": 0.0, "queryPreparationTime": 0.0,
                "innerEvalTime": seconds, "execQueueTime": 0.0, "execTotalTime": seconds
            },
            "samples": {
                "totalQueryableSamples": result.stats.samples_read,
                "peakSamples": result.stats.peak_samples
            }
        });
        answer.data.push_str(",\"stats\":");
        answer.data.push_str(&stats.to_string());
    }
    answer.data.push('}');
    answer
}

fn query_text(params: &Params) -> String {
    params.get("query").unwrap_or("").to_owned()
}

pub(super) async fn instant(State(api): State<PrometheusApi>, params: Params) -> Result<Answer, ApiError> {
    let limit = params.limit()?;
    let time_ms = params.time("time")?.unwrap_or_else(|| api.shared.clock.now_ms());
    let query = query_text(&params);
    let expr = parse(&query).map_err(|error| ApiError::invalid("query", &error.to_string()))?;
    let storage = api.shared.storage(&params)?;
    let started = api.shared.clock.monotonic();
    let result = run(&api.shared, &params, move |engine, cancellation| {
        engine.instant_expr(&*storage, &query, &expr, time_ms, cancellation)
    })
    .await?;
    let seconds = api.shared.clock.monotonic().saturating_sub(started).as_secs_f64();
    Ok(answer(&result, limit, params.get("stats").is_some(), seconds))
}

pub(super) async fn range(State(api): State<PrometheusApi>, params: Params) -> Result<Answer, ApiError> {
    let limit = params.limit()?;
    let start_ms = params.required_time("start")?;
    let end_ms = params.required_time("end")?;
    if end_ms < start_ms {
        return Err(ApiError::invalid("end", "end timestamp must not be before start time"));
    }
    let step_ms = match params.duration("step")? {
        Some(step) => step,
        None => return Err(ApiError::invalid("step", "cannot parse \"\" to a valid duration")),
    };
    if step_ms <= 0 {
        let reason = "zero or negative query resolution step widths are not accepted. Try a positive integer";
        return Err(ApiError::invalid("step", reason));
    }
    if (end_ms - start_ms) / step_ms > MAX_POINTS {
        return Err(ApiError::bad(
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
        ));
    }
    let query = query_text(&params);
    let expr = parse(&query).map_err(|error| ApiError::invalid("query", &error.to_string()))?;
    let storage = api.shared.storage(&params)?;
    let started = api.shared.clock.monotonic();
    let result = run(&api.shared, &params, move |engine, cancellation| {
        engine.range_expr(&*storage, &query, &expr, (start_ms, end_ms, step_ms), cancellation)
    })
    .await;
    let result = match result {
        // What kind of expression it is, is the client's business.
        Err(error) if error.message.starts_with("invalid expression type") => {
            return Err(ApiError::invalid("query", &error.message));
        }
        other => other?,
    };
    let seconds = api.shared.clock.monotonic().saturating_sub(started).as_secs_f64();
    Ok(answer(&result, limit, params.get("stats").is_some(), seconds))
}

pub(super) async fn format(params: Params) -> Result<Answer, ApiError> {
    let query = query_text(&params);
    let expr = parse(&query).map_err(|error| ApiError::invalid("query", &error.to_string()))?;
    Ok(Answer::value(&serde_json::Value::String(super::pretty::pretty(&expr))))
}

pub(super) async fn parsed(params: Params) -> Result<Answer, ApiError> {
    let query = query_text(&params);
    let expr = parse(&query).map_err(|error| ApiError::invalid("query", &error.to_string()))?;
    Ok(Answer::value(&super::tree::tree(&expr)))
}

pub(super) async fn exemplars(State(api): State<PrometheusApi>, params: Params) -> Result<Answer, ApiError> {
    let query = query_text(&params);
    let expr = parse(&query).map_err(|error| ApiError::bad(error.to_string()))?;
    let (start, end) = (params.time("start")?, params.time("end")?);
    if end.zip(start).is_some_and(|(end, start)| end < start) {
        return Err(ApiError::invalid("end", "end timestamp must not be before start timestamp"));
    }
    let Some(db) = api.shared.db.clone() else { return Ok(Answer::json("[]")) };
    let (start, end) = (start.unwrap_or(i64::MIN), end.unwrap_or(i64::MAX));
    let found = tokio::task::spawn_blocking(move || {
        let mut found: Vec<SeriesExemplars> = Vec::new();
        for selector in expr.selectors() {
            for series in db.head().exemplars(&selector.matchers, start, end) {
                if !found.iter().any(|known| known.labels == series.labels) {
                    found.push(series);
                }
            }
        }
        found.sort_by(|left, right| left.labels.iter().cmp(right.labels.iter()));
        found
    })
    .await
    .map_err(|error| ApiError::new(ErrorKind::Internal, error.to_string()))?;
    Ok(Answer::json(exemplars_json(&found)))
}

fn exemplars_json(found: &[SeriesExemplars]) -> String {
    let mut out = String::from("[");
    for (index, series) in found.iter().enumerate() {
        out.push_str(if index > 0 { ",{\"seriesLabels\":" } else { "{\"seriesLabels\":" });
        push_labels(&mut out, &series.labels);
        out.push_str(",\"exemplars\":[");
        for (index, exemplar) in series.exemplars.iter().enumerate() {
            out.push_str(if index > 0 { ",{\"labels\":" } else { "{\"labels\":" });
            push_labels(&mut out, &exemplar.labels);
            out.push_str(",\"value\":\"");
            out.push_str(&float_text(exemplar.value));
            out.push_str("\",\"timestamp\":");
            push_time(&mut out, exemplar.timestamp_ms.unwrap_or(0));
            out.push('}');
        }
        out.push_str("]}");
    }
    out.push(']');
    out
}
