//! Folders of dashboards.

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};

use super::reply::{Failure, Reply};
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

pub(super) async fn list(State(grafana): State<Grafana>) -> Reply {
    Reply(grafana.shared.store.read().folders().map(shown).collect())
}

pub(super) async fn get(State(grafana): State<Grafana>, Path(uid): Path<String>) -> Result<Reply, Failure> {
    let store = grafana.shared.store.read();
    store.folder(&uid).map(|folder| Reply(shown(folder))).ok_or_else(|| Failure::not_found("folder"))
}

pub(super) async fn create(
    State(grafana): State<Grafana>,
    Json(body): Json<Value>,
) -> Result<Reply, Failure> {
    let uid = Some(word(&body, "uid"));
    let folder =
        grafana.shared.store.write().make_folder(uid, &word(&body, "title"), &word(&body, "parentUid"))?;
    Ok(Reply(shown(&folder)))
}

pub(super) async fn rename(
    State(grafana): State<Grafana>,
    Path(uid): Path<String>,
    Json(body): Json<Value>,
) -> Result<Reply, Failure> {
    Ok(Reply(shown(&grafana.shared.store.write().rename_folder(&uid, &word(&body, "title"))?)))
}

pub(super) async fn delete(
    State(grafana): State<Grafana>,
    Path(uid): Path<String>,
) -> Result<Reply, Failure> {
    let folder = grafana.shared.store.write().delete_folder(&uid)?;
    Ok(Reply(
        json!({ "id": folder.id, "title": folder.title, "message": format!("Folder {} deleted", folder.title) }),
    ))
}
