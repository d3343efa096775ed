//! Dashboards: search, read, save, delete.

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use serde_json::{Value, json};

use super::reply::{Failure, Reply, apart, iso, pairs};
use crate::Grafana;
use crate::store::{Save, Stored, slug};

const MOST_HITS: usize = 5000;

fn url(stored: &Stored) -> String {
    format!("/d/{}/{}", stored.parsed.uid, slug(&stored.parsed.title))
}

pub(super) async fn search(State(grafana): State<Grafana>, RawQuery(query): RawQuery) -> Response {
    apart(grafana, move |grafana| Ok(hits(grafana, query.as_deref()))).await
}

fn hits(grafana: &Grafana, query: Option<&str>) -> Reply {
    let pairs = pairs(query);
    let all = |name: &str| {
        pairs.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).collect::<Vec<_>>()
    };
    let one = |name: &str| all(name).first().copied().unwrap_or_default();
    let (words, kind) = (one("query").to_lowercase(), one("type"));
    let (tags, uids) = (all("tag"), all("dashboardUIDs"));
    let folders: Vec<&str> = all("folderUIDs").into_iter().chain(all("folderUids")).collect();
    let limit = one("limit").parse().unwrap_or(1000).min(MOST_HITS);
    let page = one("page").parse::<usize>().unwrap_or(1).max(1);
    let store = grafana.shared.store.read();
    let mut hits: Vec<Value> = Vec::new();
    if kind != "dash-db" && tags.is_empty() && uids.is_empty() && folders.is_empty() {
        hits.extend(store.folders().filter(|folder| folder.title.to_lowercase().contains(&words)).map(|folder| {
            json!({
                "id": folder.id, "uid": folder.uid, "title": folder.title, "uri": format!("db/{}", slug(&folder.title)),
                "url": format!("/dashboards/f/{}/{}", folder.uid, slug(&folder.title)), "slug": "", "type": "dash-folder",
                "tags": [], "isStarred": false, "sortMeta": 0,
            })
        }));
    }
    let is_wanted = |one: &&Stored| {
        let board = &one.parsed;
        board.title.to_lowercase().contains(&words)
            && tags.iter().all(|tag| board.tags.iter().any(|own| own == tag))
            && (uids.is_empty() || uids.contains(&board.uid.as_str()))
            && (folders.is_empty()
                || folders.contains(&one.folder_uid.as_str())
                || (one.folder_uid.is_empty() && folders.contains(&"general")))
    };
    if kind != "dash-folder" {
        let mut found: Vec<&Stored> = store.dashboards().filter(is_wanted).collect();
        found.sort_by_key(|one| one.parsed.title.to_lowercase());
        hits.extend(found.into_iter().map(|one| {
            let mut hit = json!({
                "id": one.id, "uid": one.parsed.uid, "title": one.parsed.title, "uri": format!("db/{}", slug(&one.parsed.title)),
                "url": url(one), "slug": "", "type": "dash-db", "tags": one.parsed.tags, "isStarred": false, "sortMeta": 0,
            });
            if let Some(folder) = store.folder(&one.folder_uid) {
                hit["folderId"] = json!(folder.id);
                hit["folderUid"] = json!(folder.uid);
                hit["folderTitle"] = json!(folder.title);
                hit["folderUrl"] = json!(format!("/dashboards/f/{}/{}", folder.uid, slug(&folder.title)));
            }
            hit
        }));
    }
    Reply(hits.into_iter().skip((page - 1).saturating_mul(limit)).take(limit).collect())
}

pub(super) async fn tags(State(grafana): State<Grafana>) -> Response {
    apart(grafana, |grafana| Ok(counted_tags(grafana))).await
}

fn counted_tags(grafana: &Grafana) -> Reply {
    let store = grafana.shared.store.read();
    let mut counts: std::collections::BTreeMap<&str, usize> = std::collections::BTreeMap::new();
    for tag in store.dashboards().flat_map(|one| &one.parsed.tags) {
        *counts.entry(tag).or_default() += 1;
    }
    Reply(counts.into_iter().map(|(term, count)| json!({ "term": term, "count": count })).collect())
}

pub(super) async fn home() -> Reply {
    Reply(json!({ "redirectUri": "/#/dashboards" }))
}

pub(super) async fn get(State(grafana): State<Grafana>, Path(uid): Path<String>) -> Response {
    apart(grafana, move |grafana| shown(grafana, &uid)).await
}

fn shown(grafana: &Grafana, uid: &str) -> Result<Reply, Failure> {
    let store = grafana.shared.store.read();
    let one = store.get(uid).ok_or_else(|| Failure::not_found("Dashboard"))?;
    let folder = store.folder(&one.folder_uid);
    let mut dashboard = (*one.json).clone();
    if dashboard.get("apiVersion").is_none() && dashboard.is_object() {
        dashboard["id"] = json!(one.id);
        dashboard["uid"] = json!(one.parsed.uid);
        dashboard["version"] = json!(one.version);
    }
    let is_fixed = one.origin.is_some() && !one.editable;
    Ok(Reply(json!({
        "meta": {
            "type": "db", "canSave": !is_fixed, "canEdit": true, "canAdmin": true, "canStar": false, "canDelete": one.origin.is_none(),
            "slug": slug(&one.parsed.title), "url": url(one), "expires": "0001-01-01T00:00:00Z", "created": iso(one.created_ms),
            "updated": iso(one.updated_ms), "updatedBy": "admin", "createdBy": "admin", "version": one.version, "hasAcl": false,
            "isFolder": false, "folderId": folder.map_or(0, |folder| folder.id), "folderUid": one.folder_uid,
            "folderTitle": folder.map_or("General", |folder| folder.title.as_str()),
            "folderUrl": folder.map_or_else(String::new, |folder| format!("/dashboards/f/{}/{}", folder.uid, slug(&folder.title))),
            "provisioned": one.origin.is_some(), "provisionedExternalId": one.origin.clone().unwrap_or_default(),
        },
        "dashboard": dashboard,
    })))
}

pub(super) async fn save(State(grafana): State<Grafana>, Json(body): Json<Value>) -> Response {
    apart(grafana, move |grafana| saved(grafana, &body)).await
}

fn saved(grafana: &Grafana, body: &Value) -> Result<Reply, Failure> {
    let Some(dashboard) = body.get("dashboard").filter(|dashboard| dashboard.is_object()) else {
        return Err(Failure::bad("bad request data: expected an object with \"dashboard\""));
    };
    let mut store = grafana.shared.store.write();
    let by_id = body.get("folderId").and_then(Value::as_u64).filter(|id| *id > 0);
    let folder_uid = match (body.get("folderUid").and_then(Value::as_str), by_id) {
        (Some(uid), _) => Some(uid.to_owned()),
        (None, Some(id)) => {
            let folder =
                store.folders().find(|folder| folder.id == id).ok_or_else(|| Failure::not_found("folder"))?;
            Some(folder.uid.clone())
        }
        (None, None) => None,
    };
    let save = Save {
        dashboard: dashboard.clone(),
        folder_uid,
        overwrite: body.get("overwrite").and_then(Value::as_bool).unwrap_or(false),
        now_ms: grafana.shared.clock.now_ms(),
    };
    let saved = store.save(save)?;
    Ok(Reply(json!({
        "id": saved.id, "uid": saved.parsed.uid, "url": url(saved), "status": "success", "version": saved.version,
        "slug": slug(&saved.parsed.title), "folderUid": saved.folder_uid,
    })))
}

pub(super) async fn delete(State(grafana): State<Grafana>, Path(uid): Path<String>) -> Response {
    apart(grafana, move |grafana| {
        let gone = grafana.shared.store.write().delete(&uid)?;
        let title = &gone.parsed.title;
        Ok(Reply(json!({ "id": gone.id, "title": title, "message": format!("Dashboard {title} deleted") })))
    })
    .await
}
