//! Informers and level-triggered controllers against a server.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use gantry_operator::{Action, EventType, Key};
use gantry_prom_model::Gather;
use k8s_openapi::api::core::v1::{ConfigMap, Event};
use kube::ResourceExt;
use kube::api::{Api, ApiResource, DeleteParams, PostParams};
use serde_json::json;

use crate::stage::{Stage, Widget, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_watch_serves_all_views_of_a_kind() {
    let stage = Stage::set().await;
    let operator = stage.operator();
    let widgets = operator.informer::<Widget>();
    let by_size = widgets.index(|widget| vec![widget.spec.size.to_string()]);
    let metadata = operator.informers().metadata(&ApiResource::erase::<Widget>(&()));
    let maps = operator.informers().metadata(&ApiResource::erase::<ConfigMap>(&()));
    for number in 0..1200 {
        stage.make(&format!("w{number}"), number % 3).await;
    }
    let running = stage.run(operator.clone());
    operator.informers().synced().await;
    assert_eq!((widgets.len(), metadata.object_count()), (1200, 1200), "three pages");
    assert!(!metadata.is_metadata_only() && maps.is_metadata_only());
    assert_eq!(by_size.get("2").len(), 400);
    let gone = Key::new("default", "w7");
    stage.widgets().delete("w7", &DeleteParams::default()).await.expect("deleted");
    eventually("the deletion", || async { widgets.get(&gone).is_none().then_some(()) }).await;
    assert!(metadata.metadata(&gone).is_none());
    let families = operator.gather();
    let objects = families.iter().find(|family| &*family.name == "gantry_operator_informer_objects");
    assert!(objects.is_some_and(|family| family.metrics.len() == 2));
    running.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_makes_and_mends_what_it_owns() {
    let stage = Stage::set().await;
    let operator = stage.operator();
    let calls = Arc::new(AtomicUsize::new(0));
    let controller = operator.controller::<Widget>("widgets").owns::<ConfigMap>();
    let (widgets, client, counter) = (controller.store(), stage.client.clone(), calls.clone());
    let recorder = operator.recorder("widget-controller");
    controller.reconcile(move |key| {
        let (widgets, client, counter) = (widgets.clone(), client.clone(), counter.clone());
        let recorder = recorder.clone();
        async move {
            // The first call fails, the second panics: neither must be the last.
            match counter.fetch_add(1, Ordering::SeqCst) {
                0 => return Err("not yet".into()),
                1 => panic!("once"),
                _ => {}
            }
            let Some(widget) = widgets.get(&key) else { return Ok(Action::await_change()) };
            let maps: Api<ConfigMap> = Api::namespaced(client, key.namespace());
            if maps.get_opt(key.name()).await?.is_none() {
                let owner = kube::Resource::controller_owner_ref(&*widget, &());
                let map = serde_json::from_value(json!({
                    "metadata": { "name": key.name(), "ownerReferences": [owner] }
                }))?;
                maps.create(&PostParams::default(), &map).await?;
                recorder.event(&*widget, EventType::Normal, "Made", "made its map");
            }
            Ok(Action::requeue_after(Duration::from_secs(3600)))
        }
    });
    let running = stage.run(operator);
    stage.make("a", 1).await;
    let maps: Api<ConfigMap> = Api::namespaced(stage.client.clone(), "default");
    let first = eventually("the map", || async { maps.get_opt("a").await.expect("an answer") }).await;
    maps.delete("a", &DeleteParams::default()).await.expect("deleted");
    eventually("another map", || async {
        maps.get_opt("a").await.expect("an answer").filter(|map| map.uid() != first.uid())
    })
    .await;
    let events: Api<Event> = Api::namespaced(stage.client.clone(), "default");
    eventually("one event that counts twice", || async {
        let events = events.list(&Default::default()).await.ok()?.items;
        let made: Vec<_> = events.iter().filter(|event| event.reason.as_deref() == Some("Made")).collect();
        (made.len() == 1 && made.first()?.count == Some(2)).then_some(())
    })
    .await;
    running.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kind_defined_later_is_watched_from_then_on() {
    let stage = Stage::set().await;
    let operator = stage.operator();
    let running = stage.run(operator.clone());
    let late = operator.informer::<Widget>();
    stage.make("a", 1).await;
    eventually("the widget", || async { late.get(&Key::new("default", "a")) }).await;
    running.end().await;
}
