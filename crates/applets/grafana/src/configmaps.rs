//! Dashboards in ConfigMaps: every one labelled `grafana_dashboard` is shown, and follows its ConfigMap.

use gantry_operator::Informer;
use k8s_openapi::api::core::v1::ConfigMap;

use crate::Grafana;
use crate::store::Provided;

const LABEL: &str = "grafana_dashboard";
const FOLDER: [&str; 2] = ["grafana_folder", "k8s-sidecar-target-directory"];

/// What the informer's ConfigMaps provide now.
fn provided(configmaps: &Informer<ConfigMap>) -> Vec<Provided> {
    let mut out = Vec::new();
    for map in configmaps.list() {
        let metadata = &map.metadata;
        if !metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(LABEL)) {
            continue;
        }
        let annotation = |name: &&str| metadata.annotations.as_ref()?.get(*name).cloned();
        let folder = FOLDER.iter().find_map(annotation).unwrap_or_default();
        let (namespace, name) =
            (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default());
        for (file, text) in map.data.iter().flatten().filter(|(file, _)| file.ends_with(".json")) {
            out.push(Provided {
                origin: format!("configmap {namespace}/{name}: {file}"),
                text: text.clone(),
                folder: folder.rsplit('/').next().unwrap_or_default().to_owned(),
                folder_uid: String::new(),
                editable: false,
            });
        }
    }
    out.sort_by(|a, b| a.origin.cmp(&b.origin));
    out
}

/// Follows the ConfigMaps for as long as their informer lives.
pub(crate) async fn follow(grafana: Grafana, configmaps: Informer<ConfigMap>) {
    let mut changes = configmaps.changes();
    loop {
        changes.borrow_and_update();
        let (own, list) = (grafana.clone(), provided(&configmaps));
        // Who saves has the store until the disk has it.
        let _ = tokio::task::spawn_blocking(move || own.provide("configmaps", list)).await;
        if changes.changed().await.is_err() {
            return;
        }
    }
}
