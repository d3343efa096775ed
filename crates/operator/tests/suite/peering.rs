//! Peers that see each other on one object.

use std::sync::Arc;
use std::time::Duration;

use gantry_operator::{Peering, SystemClock};
use kube::api::{ApiResource, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::stage::{Stage, Widget};

/// What an operator is told first about whether to pause, when the peering object says this.
async fn first_word(stage: &Stage, name: &str, status: Value) -> bool {
    stage.make(name, 1).await;
    let change = Patch::Merge(json!({ "status": status }));
    stage.widgets().patch_status(name, &PatchParams::default(), &change).await.expect("a status");
    let (resource, clock) = (ApiResource::erase::<Widget>(&()), Arc::new(SystemClock::new()));
    let lifetime = Duration::from_secs(60);
    let peering = Peering::new(stage.client.clone(), clock, resource, "default", name, "me", 5, lifetime);
    let (tell, mut told) = watch::channel(true);
    let cancel = CancellationToken::new();
    let keeping = tokio::spawn(peering.keep(tell, cancel.clone()));
    let heard = tokio::time::timeout(Duration::from_secs(30), told.changed()).await;
    heard.expect("a bound").expect("a word");
    let paused = *told.borrow();
    cancel.cancel();
    keeping.await.expect("an end");
    paused
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_told_before_the_peers_have_been_seen() {
    let stage = Stage::set().await;
    let peer = json!({ "priority": 9, "lifetime": 60, "lastseen": "2999-01-01T00:00:00.000000+00:00" });
    assert!(first_word(&stage, "crowded", json!({ "other": peer })).await);
    assert!(!first_word(&stage, "lonely", json!({})).await);
}
