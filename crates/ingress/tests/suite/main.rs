//! The controller against the embedded API server and a running gateway: objects in, requests through.

mod objects;
mod tls;
mod translation;

use gantry_apiserver::{ApiServer, UserInfo};
use gantry_clock::SystemClock;
use gantry_gateway::Gateway;
use gantry_ingress::{AddressTable, Config, DEFINITIONS};
use gantry_operator::{Operator, install_definitions};
use k8s_openapi::api::core::v1::{Event, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// Everything that runs; ends with the value.
struct World {
    client: Client,
    gateway: Gateway,
    proxy: SocketAddr,
    addresses: AddressTable,
    cancel: CancellationToken,
    _server: ApiServer,
}

impl Drop for World {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

impl World {
    async fn start() -> World {
        World::start_with(Config::default(), false).await
    }

    /// The same with the definitions of Kong's kinds and the Gateway API's.
    async fn start_with_kinds() -> World {
        World::start_with(Config::default(), true).await
    }

    async fn start_with(config: Config, has_kinds: bool) -> World {
        let clock = Arc::new(SystemClock::new());
        let server = ApiServer::open(gantry_apiserver::Config::ephemeral(clock.clone())).await.unwrap();
        let client = Client::new(server.service_as(UserInfo::admin()), "default");
        if has_kinds {
            install_definitions(&client, DEFINITIONS).await.unwrap();
        }
        let gateway = Gateway::start(gantry_gateway::Config {
            proxy_listen: vec!["127.0.0.1:0".parse().unwrap()],
            ..gantry_gateway::Config::default()
        })
        .unwrap();
        let operator = Operator::new(client.clone(), clock);
        let config = Config { published_ips: vec!["127.0.0.1".into()], ..config };
        let addresses = gantry_ingress::register(&operator, gateway.clone(), config);
        let cancel = CancellationToken::new();
        tokio::spawn({
            let cancel = cancel.clone();
            async move { operator.run(cancel).await }
        });
        let proxy = gateway.listeners()[0].0;
        World { client, gateway, proxy, addresses, cancel, _server: server }
    }

    fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), "default")
    }

    async fn create<K>(&self, object: Value) -> K
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Serialize
            + DeserializeOwned
            + Clone
            + Debug,
    {
        let object: K = serde_json::from_value(object).unwrap();
        self.api::<K>().create(&PostParams::default(), &object).await.unwrap()
    }

    async fn endpoints(&self, target: SocketAddr, conditions: Value) {
        let patch = json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "endpoints": [{"addresses": [target.ip().to_string()], "conditions": conditions}],
        });
        let api = self.api::<EndpointSlice>();
        api.patch("catalog-1", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }
}

/// Polls until `check` is satisfied: objects take a moment to arrive.
async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, check: impl Fn() -> F) -> T {
    for _ in 0..1_000 {
        if let Some(value) = check().await {
            return value;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} did not happen");
}

async fn get(address: SocketAddr, host: &str, path: &str) -> String {
    let Ok(mut stream) = TcpStream::connect(address).await else { return "no connection".into() };
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

async fn target() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut request = [0u8; 4096];
                while matches!(stream.read(&mut request).await, Ok(1..)) {
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\ncatalog";
                    let _ = stream.write_all(answer).await;
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn an_ingress_and_its_service_are_served_and_a_leaving_endpoint_is_not() {
    let world = World::start().await;
    let target = target().await;
    let service: Service = world
        .create(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "catalog"},
            "spec": {"selector": {"app": "catalog"}, "ports": [{"name": "http", "port": 8080}]},
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
    let _: Ingress = world
        .create(json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "shop"},
            "spec": {"ingressClassName": "kong", "rules": [{"host": "shop.localhost", "http": {"paths": [
                {"path": "/products", "pathType": "Prefix",
                 "backend": {"service": {"name": "catalog", "port": {"name": "http"}}}},
                {"path": "/nowhere", "pathType": "Prefix",
                 "backend": {"service": {"name": "nobody", "port": {"number": 80}}}},
            ]}}]},
        }))
        .await;
    eventually("the route", || async {
        get(world.proxy, "shop.localhost", "/products/1").await.contains("200 OK").then_some(())
    })
    .await;
    assert!(get(world.proxy, "shop.localhost", "/productsX").await.starts_with("HTTP/1.1 404"));
    assert!(get(world.proxy, "shop.localhost", "/nowhere").await.starts_with("HTTP/1.1 503"));

    let cluster_ip = service.spec.unwrap().cluster_ip.unwrap();
    let address =
        eventually("the service's address", || async { world.addresses.address("default", "catalog", 8080) })
            .await;
    assert_eq!(address.to_string(), format!("{cluster_ip}:8080"));
    assert!(get(address, "catalog", "/anything").await.contains("200 OK"));

    eventually("the published address", || async {
        let ingress = world.api::<Ingress>().get("shop").await.unwrap();
        let entries = ingress.status?.load_balancer?.ingress?;
        (entries[0].ip.as_deref() == Some("127.0.0.1")).then_some(())
    })
    .await;
    eventually("the event", || async {
        let events = world.api::<Event>().list(&Default::default()).await.unwrap();
        let is_told = |event: &Event| {
            event.message.as_deref().is_some_and(|text| text.contains("no service \"nobody\""))
        };
        events.items.iter().any(is_told).then_some(())
    })
    .await;

    world.endpoints(target, json!({"ready": true, "serving": true, "terminating": true})).await;
    world.gateway.drained(target).await;
    let gone = get(world.proxy, "shop.localhost", "/products/1").await;
    assert!(gone.starts_with("HTTP/1.1 503"), "{gone}");
    world.endpoints(target, json!({"ready": true})).await;
    eventually("the endpoint's return", || async {
        get(world.proxy, "shop.localhost", "/products/1").await.contains("200 OK").then_some(())
    })
    .await;

    world.api::<Service>().delete("catalog", &Default::default()).await.unwrap();
    eventually("the listener's end", || async {
        (world.addresses.all().iter().all(|(port, _)| port.service.name() != "catalog")).then_some(())
    })
    .await;
}
