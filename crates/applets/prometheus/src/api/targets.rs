//! `targets` and their metadata.

use std::collections::BTreeMap;

use axum::extract::State;
use gantry_prom_model::{Labels, Metadata};
use gantry_promql::parse_selector;
use gantry_scrape::TargetsView;
use serde_json::{Map, Value, json};

use super::PrometheusApi;
use super::answer::{Answer, ApiError, ErrorKind};
use super::params::{Params, format_rfc3339};

fn object(labels: &Labels) -> Value {
    Value::Object(labels.iter().map(|(name, value)| (name.to_owned(), Value::from(value))).collect())
}

fn view(api: &PrometheusApi) -> TargetsView {
    api.shared.scraping.as_ref().map(|scraping| scraping.targets()).unwrap_or_default()
}

pub(super) async fn targets(State(api): State<PrometheusApi>, params: Params) -> Result<Answer, ApiError> {
    let state = params.get("state").unwrap_or("any").to_lowercase();
    let pool = params.get("scrapePool");
    let view = view(&api);
    let of_pool = |name: &str| pool.is_none_or(|wanted| wanted == name);
    let mut active = Vec::new();
    if state != "dropped" {
        for target in view.active.iter().filter(|target| of_pool(&target.pool)) {
            let last_scrape = match target.status.last_scrape_ms {
                Some(ms) => format_rfc3339(ms),
                None => "0001-01-01T00:00:00Z".into(),
            };
            active.push(json!({
                "discoveredLabels": object(&target.target.discovered),
                "labels": object(&target.target.labels),
                "scrapePool": target.pool,
                "scrapeUrl": target.target.url,
                "globalUrl": target.target.url,
                "lastError": target.status.last_error,
                "lastScrape": last_scrape,
                "lastScrapeDuration": target.status.last_scrape_seconds,
                "health": target.status.health.as_str(),
                "scrapeInterval": gantry_clock::format_prometheus_duration(target.target.interval_ms),
                "scrapeTimeout": gantry_clock::format_prometheus_duration(target.target.timeout_ms),
            }));
        }
    }
    let mut data = Map::new();
    data.insert("activeTargets".into(), active.into());
    if state == "active" {
        data.insert("droppedTargets".into(), json!([]));
        data.insert("droppedTargetCounts".into(), Value::Null);
    } else {
        let dropped: Vec<Value> = view
            .dropped
            .iter()
            .filter(|(name, _)| of_pool(name))
            .map(|(name, labels)| json!({"discoveredLabels": object(labels), "scrapePool": name}))
            .collect();
        let counts: BTreeMap<&String, &usize> =
            view.dropped_counts.iter().filter(|(name, _)| of_pool(name)).collect();
        data.insert("droppedTargets".into(), dropped.into());
        data.insert("droppedTargetCounts".into(), json!(counts));
    }
    Ok(Answer::value(&Value::Object(data)))
}

pub(super) async fn pools(State(api): State<PrometheusApi>) -> Answer {
    let pools = api.shared.scraping.as_ref().map(|scraping| scraping.pools()).unwrap_or_default();
    Answer::value(&json!({"scrapePools": pools}))
}

pub(super) async fn target_metadata(
    State(api): State<PrometheusApi>,
    params: Params,
) -> Result<Answer, ApiError> {
    let limit = params.limit()?;
    let matchers = match params.get("match_target") {
        Some(text) => {
            parse_selector(text).map_err(|error| ApiError::invalid("match_target", &error.to_string()))?
        }
        None => Vec::new(),
    };
    let metric = params.get("metric");
    let Some(scraping) = &api.shared.scraping else { return Ok(Answer::json("[]")) };
    let mut found = scraping.metadata(metric, 0);
    found.retain(|entry| matchers.iter().all(|matcher| matcher.matches_labels(&entry.target)));
    found.sort_by(|left, right| (&left.target, &left.metric).cmp(&(&right.target, &right.metric)));
    if limit > 0 {
        found.truncate(limit);
    }
    if found.is_empty() {
        return Err(ApiError::new(ErrorKind::NotFound, "specified metadata not found"));
    }
    let entries: Vec<Value> = found
        .iter()
        .map(|entry| {
            let mut value = Map::new();
            value.insert("target".into(), object(&entry.target));
            if metric.is_none() {
                value.insert("metric".into(), entry.metric.clone().into());
            }
            value.extend(describe(&entry.metadata));
            Value::Object(value)
        })
        .collect();
    Ok(Answer::value(&Value::Array(entries)))
}

fn describe(metadata: &Metadata) -> [(String, Value); 3] {
    [
        ("type".into(), metadata.kind.as_str().into()),
        ("help".into(), metadata.help.clone().into()),
        ("unit".into(), metadata.unit.clone().into()),
    ]
}

pub(super) async fn metadata(State(api): State<PrometheusApi>, params: Params) -> Result<Answer, ApiError> {
    let limit = params.limit()?;
    let number = |name: &str| -> Result<usize, ApiError> {
        let text = params.get(name).unwrap_or("0");
        text.parse().map_err(|_| ApiError::bad(format!("{name} must be a number")))
    };
    let per_metric = number("limit_per_metric")?;
    let found = api.shared.scraping.as_ref().map(|scraping| scraping.metadata(params.get("metric"), 0));
    let scraped = found.unwrap_or_default().into_iter().map(|entry| (entry.metric, entry.metadata));
    let received = api.shared.doors.receiver.as_ref().map(|receiver| receiver.metadata()).unwrap_or_default();
    let wanted = |metric: &str| params.get("metric").is_none_or(|wanted| wanted == metric);
    let mut by_metric: BTreeMap<String, Vec<Metadata>> = BTreeMap::new();
    for (metric, metadata) in scraped.chain(received.into_iter().filter(|(metric, _)| wanted(metric))) {
        let known = by_metric.entry(metric).or_default();
        if !known.contains(&metadata) && (per_metric == 0 || known.len() < per_metric) {
            known.push(metadata);
        }
    }
    let shown = if limit == 0 { usize::MAX } else { limit };
    let data: Map<String, Value> = by_metric
        .into_iter()
        .take(shown)
        .map(|(metric, entries)| {
            let entries: Vec<Value> =
                entries.iter().map(|entry| Value::Object(describe(entry).into_iter().collect())).collect();
            (metric, entries.into())
        })
        .collect();
    Ok(Answer::value(&Value::Object(data)))
}
