//! A gateway with one route to one target: `proxy LISTEN TARGET [ROUTES]`. What `benches/gateway.sh` measures.
//!
//! A request for `guarded.test` meets key-auth (key `secret`) and rate-limiting, others meet no plugin.

use gantry_gateway::entities::{Consumer, KeyCredential, Plugin, Route, Service, Snapshot, Target, Upstream};
use gantry_gateway::{Config, Gateway};
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: proxy LISTEN TARGET [ROUTES]";
    let listen = arguments.next().ok_or(usage)?.parse()?;
    let target = arguments.next().ok_or(usage)?;
    let more_routes: usize = arguments.next().map_or(Ok(0), |count| count.parse())?;
    let config = Config { proxy_listen: vec![listen], threads: Some(1), ..Config::default() };
    let gateway = Gateway::start(config)?;
    let route = |name: String, path: String| Route {
        id: name.clone(),
        name: Some(name),
        paths: Some(vec![path]),
        strip_path: false,
        service: Some("target".into()),
        ..Route::default()
    };
    let mut routes = vec![route("all".into(), "/".into())];
    routes.extend((0..more_routes).map(|i| route(format!("r{i}"), format!("/route/{i}/"))));
    routes.push(Route { hosts: Some(vec!["guarded.test".into()]), ..route("guarded".into(), "/".into()) });
    let guard = |name: &str, config| Plugin {
        id: name.into(),
        name: name.into(),
        config,
        route: Some("guarded".into()),
        ..Plugin::default()
    };
    gateway.apply(Snapshot {
        plugins: vec![
            guard("key-auth", serde_json::json!({})),
            guard("rate-limiting", serde_json::json!({"hour": 1_000_000_000})),
        ],
        consumers: vec![Consumer { id: "c".into(), username: Some("c".into()), ..Consumer::default() }],
        keyauth_credentials: vec![KeyCredential {
            id: "k".into(),
            consumer: "c".into(),
            key: "secret".into(),
            ..KeyCredential::default()
        }],
        services: vec![Service {
            id: "target".into(),
            name: Some("target".into()),
            host: "targets".into(),
            ..Service::default()
        }],
        routes,
        upstreams: vec![Upstream {
            name: "targets".into(),
            targets: vec![Target { target, ..Target::default() }],
            ..Upstream::default()
        }],
        ..Snapshot::default()
    })?;
    loop {
        std::thread::park();
    }
}
