//! `status/*`: what runs, with which settings, and how full it is.

use axum::extract::State;
use serde_json::{Value, json};

use super::PrometheusApi;
use super::answer::{Answer, ApiError};
use super::params::{Params, format_rfc3339};

/// The release of Prometheus whose API this is; clients choose what they ask for by it.
const API_VERSION: &str = "3.14.0";
/// Entries in each list of the head's statistics.
const TOP: usize = 10;
/// A client may ask for at most this many.
const MAX_TOP: usize = 10_000;

pub(super) async fn build_info() -> Answer {
    Answer::value(&json!({
        "version": API_VERSION,
        "revision": concat!("gantry-", env!("CARGO_PKG_VERSION")),
        "branch": "",
        "buildUser": "",
        "buildDate": "",
        "goVersion": "",
    }))
}

pub(super) async fn config(State(api): State<PrometheusApi>) -> Answer {
    Answer::value(&json!({"yaml": &*api.shared.state.read().config_text}))
}

pub(super) async fn flags(State(api): State<PrometheusApi>) -> Answer {
    let flags: serde_json::Map<String, Value> =
        api.shared.flags.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect();
    Answer::value(&Value::Object(flags))
}

pub(super) async fn runtime_info(State(api): State<PrometheusApi>) -> Answer {
    let shared = &api.shared;
    let state = shared.state.read();
    let directory = std::env::current_dir().map(|path| path.display().to_string()).unwrap_or_default();
    let retention = shared.db.as_ref().map_or(0, |db| db.retention_ms());
    Answer::value(&json!({
        "startTime": format_rfc3339(shared.started_ms),
        "CWD": directory,
        "hostname": std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim(),
        "serverTime": format_rfc3339(shared.clock.now_ms()),
        "reloadConfigSuccess": state.config_loaded,
        "lastConfigTime": format_rfc3339(state.config_loaded_ms),
        "corruptionCount": 0,
        "goroutineCount": 0,
        "GOMAXPROCS": std::thread::available_parallelism().map_or(1, usize::from),
        "GOMEMLIMIT": 0,
        "GOGC": "",
        "GODEBUG": "",
        "storageRetention": gantry_clock::format_prometheus_duration(retention),
    }))
}

fn top(mut entries: Vec<(String, u64)>, limit: usize) -> Value {
    entries.sort_by(|left, right| right.1.cmp(&left.1).then_with(|| left.0.cmp(&right.0)));
    entries.truncate(limit);
    entries.into_iter().map(|(name, value)| json!({"name": name, "value": value})).collect()
}

pub(super) async fn tsdb(State(api): State<PrometheusApi>, params: Params) -> Result<Answer, ApiError> {
    let limit = match params.limit()? {
        0 => TOP,
        limit if limit > MAX_TOP => return Err(ApiError::invalid("limit", "limit must not exceed 10000")),
        limit => limit,
    };
    let Some(db) = api.shared.db.clone() else {
        return Err(ApiError::new(super::answer::ErrorKind::Unavailable, "there is no local storage"));
    };
    let numbers = tokio::task::spawn_blocking(move || (db.head().stats(), db.head().cardinality())).await;
    let (stats, cardinality) =
        numbers.map_err(|error| ApiError::new(super::answer::ErrorKind::Internal, error.to_string()))?;
    Ok(Answer::value(&json!({
        "headStats": {
            "numSeries": stats.series,
            "numLabelPairs": cardinality.label_pairs,
            "chunkCount": stats.chunks,
            "minTime": stats.min_time_ms,
            "maxTime": stats.max_time_ms,
        },
        "seriesCountByMetricName": top(cardinality.series_by_metric, limit),
        "labelValueCountByLabelName": top(cardinality.values_by_label, limit),
        "memoryInBytesByLabelName": top(cardinality.bytes_by_label, limit),
        "seriesCountByLabelValuePair": top(cardinality.series_by_pair, limit),
    })))
}

pub(super) async fn wal_replay() -> Answer {
    Answer::json(r#"{"min":0,"max":0,"current":0}"#)
}

/// The blocks of the store, as their own `meta.json`s describe them.
pub(super) async fn blocks(State(api): State<PrometheusApi>) -> Result<Answer, ApiError> {
    let Some(db) = &api.shared.db else {
        return Err(ApiError::new(super::answer::ErrorKind::Unavailable, "there is no local storage"));
    };
    let blocks: Vec<Value> =
        db.blocks().iter().filter_map(|block| serde_json::to_value(block.meta()).ok()).collect();
    Ok(Answer::value(&json!({"blocks": blocks})))
}

/// What this server can do, by Prometheus' names; what is missing here is off.
pub(super) async fn features(State(api): State<PrometheusApi>) -> Answer {
    let receives = api.shared.doors.receiver.is_some();
    Answer::value(&json!({
        "api": {
            "exclude_alerts": true,
            "label_values_match": true,
            "lifecycle": api.shared.reload.is_some(),
            "query_stats": true,
            "query_warnings": true,
            "remote_write_receiver": receives,
            "time_range_labels": true,
            "time_range_series": true,
        },
        "promql": {"anchored": true, "at_modifier": true, "negative_offset": true, "smoothed": true, "subqueries": true},
        "tsdb": {"exemplar_storage": true, "native_histograms": true, "out_of_order": false},
    }))
}

/// Nothing that an administrator has to be told is kept beside the log.
pub(super) async fn notifications() -> Answer {
    Answer::json("[]")
}
