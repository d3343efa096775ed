//! Annotations that are written over the API. They live as long as the process.

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::reply::{Failure, Reply, pairs};
use crate::Grafana;

const MOST: usize = 10_000;

/// The newest annotations; older ones go.
#[derive(Default)]
pub(crate) struct Annotations {
    list: Mutex<Vec<Value>>,
}

pub(super) async fn list(State(grafana): State<Grafana>, RawQuery(query): RawQuery) -> Reply {
    let pairs = pairs(query.as_deref());
    let one = |name: &str| pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let number = |name: &str| one(name).and_then(|text| text.parse::<i64>().ok());
    let tags: Vec<&str> =
        pairs.iter().filter(|(key, _)| key == "tags").map(|(_, value)| value.as_str()).collect();
    let (from, to) = (number("from").unwrap_or(i64::MIN), number("to").unwrap_or(i64::MAX));
    let limit = number("limit").and_then(|limit| usize::try_from(limit).ok()).unwrap_or(100);
    let fits = |one_annotation: &&Value| {
        let at = |name: &str| one_annotation[name].as_i64().unwrap_or(0);
        let own: Vec<&str> =
            one_annotation["tags"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        at("timeEnd") >= from
            && at("time") <= to
            && one("dashboardUID").is_none_or(|uid| one_annotation["dashboardUID"] == uid)
            && tags.iter().all(|tag| own.contains(tag))
    };
    let list = grafana.shared.annotations.list.lock();
    Reply(list.iter().rev().filter(fits).take(limit).cloned().collect())
}

pub(super) async fn create(
    State(grafana): State<Grafana>,
    Json(body): Json<Value>,
) -> Result<Reply, Failure> {
    let Some(text) = body.get("text").and_then(Value::as_str).filter(|text| !text.is_empty()) else {
        return Err(Failure::bad("text field should not be empty"));
    };
    let time = body.get("time").and_then(Value::as_i64).filter(|time| *time > 0);
    let time = time.unwrap_or_else(|| grafana.shared.clock.now_ms());
    let mut list = grafana.shared.annotations.list.lock();
    let id = list.last().and_then(|last| last["id"].as_u64()).unwrap_or(0) + 1;
    list.push(json!({
        "id": id, "dashboardUID": body.get("dashboardUID"), "panelId": body.get("panelId").and_then(Value::as_i64).unwrap_or(0),
        "time": time, "timeEnd": body.get("timeEnd").and_then(Value::as_i64).unwrap_or(time), "text": text,
        "tags": body.get("tags").filter(|tags| tags.is_array()).cloned().unwrap_or_else(|| json!([])),
    }));
    if list.len() > MOST {
        list.remove(0);
    }
    Ok(Reply(json!({ "id": id, "message": "Annotation added" })))
}

pub(super) async fn delete(State(grafana): State<Grafana>, Path(id): Path<u64>) -> Result<Reply, Failure> {
    let mut list = grafana.shared.annotations.list.lock();
    let at = list.iter().position(|one| one["id"] == id).ok_or_else(|| Failure::not_found("annotation"))?;
    list.remove(at);
    Ok(Reply(json!({ "message": "Annotation deleted" })))
}
