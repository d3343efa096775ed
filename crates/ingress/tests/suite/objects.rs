//! Kong's objects and HTTPRoutes through an API server: definitions that come late, plugins, consumers, status.

use crate::{World, eventually, get, target};
use gantry_ingress::DEFINITIONS;
use gantry_operator::install_definitions;
use k8s_openapi::api::core::v1::{Event, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// An API for objects of one of the kinds that are not built in.
pub(crate) fn api(world: &World, object: &Value) -> Api<DynamicObject> {
    api_in(world, object, "default")
}

/// The same in a namespace.
pub(crate) fn api_in(world: &World, object: &Value, namespace: &str) -> Api<DynamicObject> {
    let (group, version) = object["apiVersion"].as_str().unwrap().split_once('/').unwrap();
    let kind = object["kind"].as_str().unwrap();
    let plural = match kind {
        "GatewayClass" => "gatewayclasses".to_owned(),
        "KongUpstreamPolicy" => "kongupstreampolicies".to_owned(),
        other => format!("{}s", other.to_ascii_lowercase()),
    };
    let resource = ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: format!("{group}/{version}"),
        kind: kind.to_owned(),
        plural,
    };
    let is_cluster_wide = ["GatewayClass", "KongClusterPlugin"].contains(&kind);
    match is_cluster_wide {
        true => Api::all_with(world.client.clone(), &resource),
        false => Api::namespaced_with(world.client.clone(), namespace, &resource),
    }
}

pub(crate) async fn create(world: &World, object: Value) {
    let typed: DynamicObject = serde_json::from_value(object.clone()).unwrap();
    api(world, &object).create(&PostParams::default(), &typed).await.unwrap();
}

pub(crate) async fn catalog(world: &World) {
    let target = target().await;
    let _: Service = world
        .create(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "catalog"},
            "spec": {"ports": [{"name": "http", "port": 8080}]},
        }))
        .await;
    let _: EndpointSlice = world
        .create(json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": "catalog-1", "labels": {"kubernetes.io/service-name": "catalog"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [target.ip().to_string()], "conditions": {"ready": true}}],
            "ports": [{"name": "http", "port": target.port(), "protocol": "TCP"}],
        }))
        .await;
}

async fn get_with(world: &World, host: &str, path: &str, field: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(world.proxy).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{field}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

pub(crate) async fn told(world: &World, text: &str) {
    eventually(text, || async {
        let events = world.api::<Event>().list(&Default::default()).await.unwrap();
        let says = |event: &Event| event.message.as_deref().is_some_and(|message| message.contains(text));
        events.items.iter().any(says).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_guarded_route_is_closed_until_its_plugin_is_there_and_then_asks_for_a_key() {
    let world = World::start().await;
    catalog(&world).await;
    let _: Ingress = world
        .create(json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "metadata": {"name": "shop", "annotations": {"konghq.com/plugins": "auth"}},
            "spec": {"ingressClassName": "kong", "rules": [{"host": "shop.localhost", "http": {"paths": [
                {"path": "/", "pathType": "Prefix",
                 "backend": {"service": {"name": "catalog", "port": {"name": "http"}}}},
            ]}}]},
        }))
        .await;
    // Nobody has defined Kong's kinds yet.
    eventually("the closed route", || async {
        get(world.proxy, "shop.localhost", "/").await.starts_with("HTTP/1.1 503").then_some(())
    })
    .await;
    told(&world, "no KongPlugin or KongClusterPlugin was found for default/auth").await;

    install_definitions(&world.client, DEFINITIONS).await.unwrap();
    install_definitions(&world.client, DEFINITIONS).await.unwrap();
    let _: Secret = world
        .create(json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "ann-key", "labels": {"konghq.com/credential": "key-auth"}},
            "stringData": {"key": "hunter2"},
        }))
        .await;
    create(
        &world,
        json!({"apiVersion": "configuration.konghq.com/v1", "kind": "KongConsumer",
            "metadata": {"name": "ann", "annotations": {"kubernetes.io/ingress.class": "kong"}},
            "username": "ann", "credentials": ["ann-key", "lost"]}),
    )
    .await;
    let auth = json!({"apiVersion": "configuration.konghq.com/v1", "kind": "KongPlugin",
        "metadata": {"name": "auth"}, "plugin": "key-auth", "config": {"key_names": ["k"]}});
    create(&world, auth.clone()).await;
    eventually("the question for a key", || async {
        get(world.proxy, "shop.localhost", "/").await.starts_with("HTTP/1.1 401").then_some(())
    })
    .await;
    eventually("the answer to a key", || async {
        get_with(&world, "shop.localhost", "/", "k: hunter2").await.contains("200 OK").then_some(())
    })
    .await;
    told(&world, "credential \"lost\" failure: there is no secret \"lost\"").await;

    // A plugin that breaks closes again.
    let broken = Patch::Merge(json!({"config": {"key_names": "none"}}));
    api(&world, &auth).patch("auth", &PatchParams::default(), &broken).await.unwrap();
    eventually("the closed route", || async {
        let answer = get_with(&world, "shop.localhost", "/", "k: hunter2").await;
        answer.starts_with("HTTP/1.1 503").then_some(())
    })
    .await;
    told(&world, "KongPlugin default/auth: invalid config.key_names").await;
}

#[tokio::test]
async fn an_http_route_is_served_and_says_what_became_of_it() {
    let world = World::start_with_kinds().await;
    catalog(&world).await;
    for object in [
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": "kong"},
            "spec": {"controllerName": "konghq.com/kic-gateway-controller"}}),
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "gw"},
            "spec": {"gatewayClassName": "kong", "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]}}),
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "r"},
        "spec": {"parentRefs": [{"name": "gw"}], "hostnames": ["r.localhost"], "rules": [
            {"matches": [{"path": {"type": "PathPrefix", "value": "/a"}}],
             "backendRefs": [{"name": "catalog", "port": 8080}]},
            {"matches": [{"path": {"type": "PathPrefix", "value": "/a/old"}}],
             "filters": [{"type": "RequestRedirect", "requestRedirect":
                {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/a/new"}}}]},
            {"matches": [{"path": {"type": "Exact", "value": "/a/gone"}}],
             "backendRefs": [{"name": "nobody", "port": 80}]},
        ]}}),
    ] {
        create(&world, object).await;
    }
    eventually("the route", || async {
        get(world.proxy, "r.localhost", "/a").await.contains("200 OK").then_some(())
    })
    .await;
    assert!(get(world.proxy, "r.localhost", "/a/b").await.contains("200 OK"));
    assert!(get(world.proxy, "r.localhost", "/ab").await.starts_with("HTTP/1.1 404"));
    assert!(get(world.proxy, "r.localhost", "/a/gone").await.starts_with("HTTP/1.1 500"));
    let moved = get(world.proxy, "r.localhost", "/a/old/x").await;
    assert!(
        moved.starts_with("HTTP/1.1 302") && moved.contains("Location: http://r.localhost/a/new/x\r\n"),
        "{moved}"
    );

    let route = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute"});
    eventually("the route's status", || async {
        let found = api(&world, &route).get("r").await.unwrap();
        let conditions = &found.data["status"]["parents"][0]["conditions"];
        let reason = |kind: &str| {
            let list = conditions.as_array()?;
            list.iter().find(|one| one["type"] == kind).map(|one| one["reason"].clone())
        };
        (reason("Accepted")? == "Accepted" && reason("ResolvedRefs")? == "BackendNotFound").then_some(())
    })
    .await;
    let gateway = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway"});
    eventually("the gateway's status", || async {
        let status = api(&world, &gateway).get("gw").await.unwrap().data["status"].clone();
        let is_attached = status["listeners"][0]["attachedRoutes"] == 1;
        (is_attached && status["addresses"][0]["value"] == "127.0.0.1").then_some(())
    })
    .await;
}
