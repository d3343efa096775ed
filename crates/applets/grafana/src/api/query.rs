//! `POST /api/ds/query`: queries in, data frames out.

use axum::Json;
use axum::extract::State;
use gantry_dashboards::{Answer, Dashboard, PlannedQuery, Request, Sources, When, plan, range, series_name};
use http::StatusCode;
use serde_json::{Value, json};

use super::reply::{Failure, Reply};
use crate::Grafana;

const MOST_QUERIES: usize = 200;
const DEFAULT_POINTS: u64 = 1500;

pub(super) async fn query(State(grafana): State<Grafana>, Json(body): Json<Value>) -> Result<Reply, Failure> {
    let queries = body.get("queries").and_then(Value::as_array).filter(|queries| !queries.is_empty());
    let queries = queries.ok_or_else(|| Failure::bad("no queries found"))?;
    if queries.len() > MOST_QUERIES {
        return Err(Failure::bad(format!(
            "{} queries; at most {MOST_QUERIES} are sent at once",
            queries.len()
        )));
    }
    let text = |name: &str| match body.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    };
    let locale = grafana.locale(0);
    let request = Request { from: text("from"), to: text("to"), locale, ..Request::default() };
    let permit = grafana.shared.views.acquire().await;
    let _permit = permit.map_err(|error| Failure::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()))?;
    let mut results = serde_json::Map::new();
    for query in queries {
        let ref_id = query.get("refId").and_then(Value::as_str).unwrap_or("A").to_owned();
        let result = match run(&grafana, query, &request).await {
            Ok(frames) => json!({ "status": 200, "frames": frames }),
            Err(error) => json!({ "status": 400, "error": error, "errorSource": "downstream", "frames": [] }),
        };
        results.insert(ref_id, result);
    }
    Ok(Reply(json!({ "results": results })))
}

/// One query as if it were the only one of a panel as wide as it asks for.
async fn run(grafana: &Grafana, query: &Value, request: &Request) -> Result<Vec<Value>, String> {
    let points =
        query.get("maxDataPoints").and_then(Value::as_u64).unwrap_or(DEFAULT_POINTS).clamp(1, 11_000);
    let mut target = query.clone();
    // Of a query over the API the step is a wish for the least one.
    if target.get("interval").and_then(Value::as_str).is_none_or(str::is_empty)
        && let Some(ms) = query.get("intervalMs").and_then(Value::as_u64).filter(|ms| *ms > 0)
    {
        target["interval"] = json!(format!("{ms}ms"));
    }
    let panel = json!({ "type": "timeseries", "maxDataPoints": points, "datasource": query.get("datasource"), "targets": [target] });
    let dashboard = Dashboard::from_value(json!({ "panels": [panel] })).map_err(|error| error.to_string())?;
    let (from_ms, to_ms) = range(&dashboard, request);
    let scope = gantry_dashboards::Scope {
        from_ms,
        to_ms,
        locale: request.locale,
        ..gantry_dashboards::Scope::default()
    };
    let sources = &grafana.shared.datasources;
    let plan = plan(&dashboard.panels[0], &scope, &sources.list(), 0);
    if let Some(error) = plan.errors.first() {
        return Err(error.clone());
    }
    let mut frames = Vec::new();
    for planned in &plan.queries {
        let source = sources.open(&planned.source.uid).ok_or("the data source cannot be asked")?;
        let answer = match planned.when {
            When::Range { start_ms, end_ms, step_ms } => {
                source.range(&planned.expr, start_ms, end_ms, step_ms).await
            }
            When::Instant { time_ms } => source.instant(&planned.expr, time_ms).await,
        };
        frames.extend(data_frames(planned, &answer.map_err(|error| error.to_string())?));
    }
    Ok(frames)
}

fn data_frames(query: &PlannedQuery, answer: &Answer) -> Vec<Value> {
    let (kind, result, step) = match query.when {
        When::Range { step_ms, .. } => ("timeseries-multi", "matrix", Some(step_ms)),
        When::Instant { .. } => ("numeric-multi", "vector", None),
    };
    let executed = match step {
        Some(step) => format!("Expr: {}\nStep: {}s", query.expr, step as f64 / 1000.0),
        None => format!("Expr: {}", query.expr),
    };
    let frame = |one: &gantry_dashboards::Series| {
        let labels: serde_json::Map<String, Value> =
            one.labels.iter().map(|(name, value)| (name.to_owned(), json!(value))).collect();
        let name = if query.legend.is_empty() || query.legend == "__auto" {
            series_name(&one.labels)
        } else {
            query.legend.clone()
        };
        // JSON has no such numbers: they are told by their place.
        let places = |what: fn(f64) -> bool| -> Vec<usize> {
            one.values.iter().enumerate().filter(|(_, value)| what(**value)).map(|(at, _)| at).collect()
        };
        let (nan, inf, neg) =
            (places(f64::is_nan), places(|v| v == f64::INFINITY), places(|v| v == f64::NEG_INFINITY));
        let values: Vec<Option<f64>> =
            one.values.iter().map(|value| Some(*value).filter(|v| v.is_finite())).collect();
        let mut data = json!({ "values": [one.times_ms, values] });
        if !(nan.is_empty() && inf.is_empty() && neg.is_empty()) {
            data["entities"] = json!([null, { "NaN": nan, "Inf": inf, "NegInf": neg }]);
        }
        let config = step.map_or_else(|| json!({}), |step| json!({ "interval": step }));
        json!({
            "schema": {
                "refId": query.ref_id, "name": name,
                "meta": { "type": kind, "typeVersion": [0, 1], "custom": { "resultType": result }, "executedQueryString": executed },
                "fields": [
                    { "name": "Time", "type": "time", "typeInfo": { "frame": "time.Time" }, "config": config },
                    { "name": "Value", "type": "number", "typeInfo": { "frame": "float64" }, "labels": labels,
                      "config": { "displayNameFromDS": name } },
                ],
            },
            "data": data,
        })
    };
    answer.series.iter().map(frame).collect()
}
