//! Folders of dashboards.

use axum::Json;
use axum::extract::{Path, State};
use axum::response::Response;
use serde_json::{Value, json};

use super::reply::{Failure, Reply, apart};
use crate::Grafana;
use crate::store::{Folder, slug};

fn shown(folder: &Folder) -> Value {
    json!({
        "id": folder.id, "uid": folder.uid, "title": folder.title, "parentUid": folder.parent_uid, "version": 1,
        "url": format!("/dashboards/f/{}/{}", folder.uid, slug(&folder.title)), "hasAcl": false, "canSave": true,
        "canEdit": true, "canAdmin": true, "canDelete": !folder.provisioned,
    })
}

fn word(body: &Value, name: &str) -> String {
    body.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

pub(super) async fn list(State(grafana): State<Grafana>) -> Response {
    apart(grafana, |grafana| Ok(Reply(grafana.shared.store.read().folders().map(shown).collect()))).await
}

pub(super) async fn get(State(grafana): State<Grafana>, Path(uid): Path<String>) -> Response {
    apart(grafana, move |grafana| {
        let store = grafana.shared.store.read();
        store.folder(&uid).map(|folder| Reply(shown(folder))).ok_or_else(|| Failure::not_found("folder"))
    })
    .await
}

pub(super) async fn create(State(grafana): State<Grafana>, Json(body): Json<Value>) -> Response {
    apart(grafana, move |grafana| {
        let (title, parent) = (word(&body, "title"), word(&body, "parentUid"));
        let made = grafana.shared.store.write().make_folder(Some(word(&body, "uid")), &title, &parent)?;
        Ok(Reply(shown(&made)))
    })
    .await
}

pub(super) async fn rename(
    State(grafana): State<Grafana>,
    Path(uid): Path<String>,
    Json(body): Json<Value>,
) -> Response {
    apart(grafana, move |grafana| {
        Ok(Reply(shown(&grafana.shared.store.write().rename_folder(&uid, &word(&body, "title"))?)))
    })
    .await
}

pub(super) async fn delete(State(grafana): State<Grafana>, Path(uid): Path<String>) -> Response {
    apart(grafana, move |grafana| {
        let folder = grafana.shared.store.write().delete_folder(&uid)?;
        let message = format!("Folder {} deleted", folder.title);
        Ok(Reply(json!({ "id": folder.id, "title": folder.title, "message": message })))
    })
    .await
}
