//! The Admin API: entities in, routes out.

use crate::support::{Echo, Running};
use bytes::Bytes;
use gantry_gateway::admin::{Admin, AdminConfig, Persist};
use gantry_gateway::entities::Snapshot;
use gantry_kong_model::{Entities, Seeded};
use http::{Method, Request};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use std::sync::Arc;

#[derive(Default)]
struct Kept(Mutex<Entities>);

impl Persist for Kept {
    fn load(&self) -> Result<Entities, String> {
        Ok(self.0.lock().clone())
    }

    fn save(&self, entities: &Entities) -> Result<(), String> {
        *self.0.lock() = entities.clone();
        Ok(())
    }
}

fn admin(running: &Running, store: Option<Arc<dyn Persist>>) -> Admin {
    Admin::new(AdminConfig {
        gateway: running.gateway.clone(),
        store,
        generate: Box::new(Seeded::new(1, 1_700_000_000)),
        node_id: "n1".into(),
        hostname: "h1".into(),
        settings: Map::new(),
    })
    .unwrap()
}

fn ask(admin: &Admin, method: Method, target: &str, kind: &str, body: &str) -> (u16, Value) {
    let request = Request::builder()
        .method(method)
        .uri(target)
        .header("content-type", kind)
        .body(Bytes::from(body.to_owned()))
        .unwrap();
    let response = admin.respond(&request);
    (response.status().as_u16(), serde_json::from_slice(response.body()).unwrap_or(Value::Null))
}

fn send(admin: &Admin, method: Method, target: &str, body: Value) -> (u16, Value) {
    ask(admin, method, target, "application/json", &body.to_string())
}

fn get(admin: &Admin, target: &str) -> (u16, Value) {
    ask(admin, Method::GET, target, "", "")
}

#[tokio::test]
async fn what_is_created_is_served_and_survives() {
    let echo = Echo::start().await;
    let running = Running::start(Snapshot::default());
    let kept = Arc::new(Kept::default());
    let api = admin(&running, Some(kept.clone()));
    let url = format!("http://{}/api", echo.address);
    let (status, service) = send(&api, Method::POST, "/services", json!({"name": "shop", "url": url}));
    assert_eq!((status, &service["retries"]), (201, &json!(5)), "{service}");
    let form = "paths[]=/shop&methods=GET&strip_path=false&name=all";
    let (status, route) =
        ask(&api, Method::POST, "/services/shop/routes", "application/x-www-form-urlencoded", form);
    assert_eq!(
        (status, &route["paths"], &route["strip_path"]),
        (201, &json!(["/shop"]), &json!(false)),
        "{route}"
    );
    let mut client = running.connect().await;
    let (_, body) = client.exchange("GET /shop HTTP/1.1\r\nHost: any\r\n\r\n").await;
    assert!(body.starts_with("GET /api/shop HTTP/1.1\r\n"), "{body}");

    assert_eq!(send(&api, Method::POST, "/consumers", json!({"username": "ann"})).0, 201);
    let (status, key) = send(&api, Method::POST, "/consumers/ann/key-auth", json!({}));
    assert_eq!((status, key["key"].as_str().unwrap().len()), (201, 32), "{key}");
    let (status, plugin) = send(&api, Method::POST, "/routes/all/plugins", json!({"name": "key-auth"}));
    assert_eq!((status, &plugin["config"]["key_names"]), (201, &json!(["apikey"])), "{plugin}");
    let (head, _) = client.exchange("GET /shop HTTP/1.1\r\nHost: any\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 401"), "{head}");

    let (status, changed) = send(&api, Method::PATCH, "/services/shop", json!({"retries": 1}));
    assert_eq!((status, &changed["retries"], &changed["name"]), (200, &json!(1), &json!("shop")));
    let again = admin(&running, Some(kept));
    assert_eq!(get(&again, "/services/shop").1["retries"], 1);
    assert_eq!(get(&again, "/plugins").1["data"].as_array().unwrap().len(), 1);

    assert_eq!(send(&again, Method::DELETE, "/services/shop", json!({})).0, 400, "a route refers to it");
    assert_eq!(send(&again, Method::DELETE, "/routes/all", json!({})).0, 204);
    assert_eq!(get(&again, "/plugins").1["data"], json!([]), "a route takes its plugins along");
    assert_eq!(send(&again, Method::DELETE, "/services/shop", json!({})).0, 204);
    assert_eq!(send(&again, Method::DELETE, "/services/shop", json!({})).0, 204);
    assert_eq!(get(&again, "/services/shop"), (404, json!({"message": "Not found"})));
}

#[tokio::test]
async fn errors_have_kongs_codes() {
    let running = Running::start(Snapshot::default());
    let api = admin(&running, Some(Arc::new(Kept::default())));
    let (status, error) = send(&api, Method::POST, "/services", json!({"name": "a"}));
    assert_eq!(status, 400);
    assert_eq!(
        error,
        json!({
            "code": 2,
            "name": "schema violation",
            "message": "schema violation (host: required field missing)",
            "fields": {"host": "required field missing"},
        })
    );
    send(&api, Method::POST, "/services", json!({"name": "a", "host": "a"}));
    let (status, error) = send(&api, Method::POST, "/services", json!({"name": "a", "host": "b"}));
    assert_eq!((status, &error["code"]), (409, &json!(5)));
    assert_eq!(error["message"], "UNIQUE violation detected on '{name=\"a\"}'");
    let gone = json!({"paths": ["/"], "service": {"id": "7fca84d6-7d37-4a74-a7b0-93e576089a41"}});
    assert_eq!(send(&api, Method::POST, "/routes", gone).1["code"], 3);
    assert_eq!(send(&api, Method::POST, "/nothing", json!({})).0, 404);
    assert_eq!(ask(&api, Method::POST, "/services", "application/json", "{").0, 400);
    assert_eq!(ask(&api, Method::POST, "/services", "text/plain", "a").0, 415);
    let deep = format!("{}a=1", "a.".repeat(1 << 20));
    let (status, error) = ask(&api, Method::POST, "/services", "application/x-www-form-urlencoded", &deep);
    assert_eq!((status, &error["message"]), (400, &json!("field names nest deeper than 32")));
    assert_eq!(
        send(
            &api,
            Method::POST,
            "/plugins",
            json!({"name": "oauth2", "config": {"scopes": ["a"], "enable_client_credentials": true}})
        )
        .0,
        400
    );
    assert_eq!(get(&api, "/plugins").1["data"], json!([]), "what the gateway refuses is not kept");
    let (status, put) = send(&api, Method::PUT, "/services/new", json!({"host": "new"}));
    assert_eq!((status, &put["name"]), (200, &json!("new")));
}

#[tokio::test]
async fn nobody_takes_over_an_entity_by_its_id() {
    let running = Running::start(Snapshot::default());
    let api = admin(&running, Some(Arc::new(Kept::default())));
    let make = |name: &str| send(&api, Method::POST, "/consumers", json!({"username": name})).1["id"].clone();
    let (ann, bob) = (make("ann"), make("bob"));
    let (status, error) = send(&api, Method::POST, "/consumers", json!({"id": ann, "username": "eve"}));
    assert_eq!((status, &error["code"], &error["name"]), (400, &json!(3), &json!("primary key violation")));
    assert_eq!(error["fields"], json!({"id": ann}));
    let (status, changed) = send(&api, Method::PATCH, "/consumers/bob", json!({"id": ann, "custom_id": "b"}));
    assert_eq!((status, &changed["id"], &changed["custom_id"]), (200, &bob, &json!("b")), "{changed}");
    assert_eq!(get(&api, "/consumers/ann").1["id"], ann);

    let key = send(&api, Method::POST, "/consumers/ann/key-auth", json!({"key": "open"})).1;
    let target = format!("/consumers/bob/key-auth/{}", key["id"].as_str().unwrap());
    assert_eq!(send(&api, Method::PUT, &target, json!({"key": "other"})).1["code"], 3);
    let kept = get(&api, "/consumers/ann/key-auth").1;
    assert_eq!(kept["data"], json!([key]), "{kept}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn changes_made_at_once_are_all_kept() {
    let running = Running::start(Snapshot::default());
    let api = Arc::new(admin(&running, Some(Arc::new(Kept::default()))));
    send(&api, Method::POST, "/services", json!({"name": "a", "host": "a"}));
    for round in 0..50 {
        let all = ["retries", "connect_timeout", "read_timeout", "write_timeout"];
        let tasks: Vec<_> = all
            .iter()
            .map(|field| {
                let api = Arc::clone(&api);
                let body = json!({*field: 100 + round});
                tokio::task::spawn_blocking(move || send(&api, Method::PATCH, "/services/a", body).0)
            })
            .collect();
        for task in tasks {
            assert_eq!(task.await.unwrap(), 200);
        }
        let service = get(&api, "/services/a").1;
        for field in all {
            assert_eq!(service[field], 100 + round, "{field}: {service}");
        }
    }
}

#[tokio::test]
async fn lists_come_in_pages_and_by_tag() {
    let running = Running::start(Snapshot::default());
    let api = admin(&running, Some(Arc::new(Kept::default())));
    for i in 0..5 {
        let tags = if i % 2 == 0 { json!(["even", "all"]) } else { json!(["all"]) };
        send(&api, Method::POST, "/consumers", json!({"username": format!("u{i}"), "tags": tags}));
    }
    let mut seen = Vec::new();
    let mut next = "/consumers?size=2".to_owned();
    loop {
        let (status, page) = get(&api, &next);
        assert_eq!(status, 200, "{page}");
        seen.extend(page["data"].as_array().unwrap().iter().map(|entity| entity["username"].clone()));
        match page["next"].as_str() {
            Some(link) => next = link.to_owned(),
            None => break,
        }
    }
    assert_eq!(seen.len(), 5);
    let count = |target: &str| get(&api, target).1["data"].as_array().unwrap().len();
    assert_eq!(
        (count("/consumers?tags=even,all"), count("/consumers?tags=even/all"), count("/tags/even")),
        (3, 5, 3)
    );
    assert_eq!(get(&api, "/consumers?size=0").0, 400);
    assert_eq!(get(&api, "/consumers?offset=%21").0, 400);
}

#[tokio::test]
async fn without_a_store_the_configuration_comes_as_a_whole() {
    let echo = Echo::start().await;
    let running = Running::start(Snapshot::default());
    let api = admin(&running, None);
    assert_eq!(get(&api, "/status").1["configuration_hash"], "0".repeat(32));
    let (status, error) = send(&api, Method::POST, "/services", json!({"host": "a"}));
    assert_eq!((status, &error["code"]), (405, &json!(12)));
    let text = format!(
        "_format_version: \"3.0\"\nservices:\n- name: shop\n  url: http://{}\n  routes:\n  - paths: [/]\n    name: all\n",
        echo.address
    );
    let (status, made) = send(&api, Method::POST, "/config", json!({"config": text}));
    assert_eq!(status, 201, "{made}");
    assert_eq!(ask(&api, Method::POST, "/config?check_hash=1", "text/yaml", &text).0, 304);
    let mut client = running.connect().await;
    let (head, _) = client.exchange("GET / HTTP/1.1\r\nHost: any\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let broken = text.replace("paths: [/]", "paths: [a]");
    let (status, error) = ask(&api, Method::POST, "/config?flatten_errors=1", "text/yaml", &broken);
    assert_eq!((status, &error["code"]), (400, &json!(14)), "{error}");
    assert_eq!(error["flattened_errors"][0]["entity_name"], "all", "{error}");
    let (head, _) = client.exchange("GET / HTTP/1.1\r\nHost: any\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200"), "the configuration before stays: {head}");
    let reason = api.load_declarative("kong.yml", &broken).unwrap_err();
    assert!(reason.contains("kong.yml:6:"), "{reason}");
}
