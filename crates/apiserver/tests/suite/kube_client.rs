//! kube-rs in process: typed calls, a watcher, a reflector store.

use std::time::Duration;

use futures::StreamExt;
use gantry_apiserver::UserInfo;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api as KubeApi, DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, reflector, watcher};

use crate::harness::Api;

fn config_map(name: &str) -> ConfigMap {
    serde_json::from_str(&format!(r#"{{"metadata":{{"name":"{name}"}},"data":{{"k":"1"}}}}"#)).unwrap()
}

#[tokio::test]
async fn a_reflector_follows() {
    let api = Api::start().await;
    let client = kube::Client::new(api.server.service_as(UserInfo::admin()), "default");
    let maps: KubeApi<ConfigMap> = KubeApi::default_namespaced(client.clone());
    maps.create(&PostParams::default(), &config_map("before")).await.unwrap();
    for initial in [watcher::Config::default(), watcher::Config::default().streaming_lists()] {
        let (reader, writer) = reflector::store();
        let stream = watcher(maps.clone(), initial).reflect(writer).applied_objects();
        let following = tokio::spawn(stream.for_each(|_| async {}));
        reader.wait_until_ready().await.unwrap();
        maps.create(&PostParams::default(), &config_map("later")).await.unwrap();
        maps.patch("later", &PatchParams::default(), &Patch::Merge(serde_json::json!({"data": {"k": "2"}})))
            .await
            .unwrap();
        wait_for(|| {
            reader
                .state()
                .iter()
                .any(|map| map.data.as_ref().is_some_and(|data| data.get("k").is_some_and(|k| k == "2")))
        })
        .await;
        maps.delete("later", &DeleteParams::default()).await.unwrap();
        wait_for(|| reader.state().len() == 1).await;
        following.abort();
    }
    let deployments: KubeApi<Deployment> = KubeApi::default_namespaced(client);
    assert!(deployments.get_opt("absent").await.unwrap().is_none());
}

async fn wait_for(condition: impl Fn() -> bool) {
    for _ in 0..500 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not happen within five seconds");
}
