//! Plugins seen from both sides: what clients get, what targets see.

use crate::support::{Echo, Running, Wire, shop};
use gantry_clock::Clock;
use gantry_gateway::Config;
use gantry_gateway::entities::{
    BasicCredential, Consumer, Group, JwtCredential, KeyCredential, Plugin, Route, Snapshot,
};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

fn plugin(name: &str, config: Value) -> Plugin {
    Plugin { id: format!("{name}-1"), name: name.into(), config, ..Plugin::default() }
}

fn with(echo: &Echo, plugins: Vec<Plugin>) -> Snapshot {
    let consumer =
        |id: &str, name: &str| Consumer { id: id.into(), username: Some(name.into()), ..Consumer::default() };
    Snapshot {
        plugins,
        consumers: vec![consumer("c1", "ann"), consumer("c2", "bob")],
        keyauth_credentials: vec![
            KeyCredential {
                id: "k1".into(),
                consumer: "c1".into(),
                key: "ann-key".into(),
                ..KeyCredential::default()
            },
            KeyCredential {
                id: "k2".into(),
                consumer: "c2".into(),
                key: "bob-key".into(),
                ..KeyCredential::default()
            },
        ],
        basicauth_credentials: vec![BasicCredential {
            id: "b1".into(),
            consumer: "c1".into(),
            username: "ann".into(),
            password: gantry_kong_model::hash_basic_password("c1", "open"),
            ..BasicCredential::default()
        }],
        jwt_secrets: vec![JwtCredential {
            id: "j1".into(),
            consumer: "c1".into(),
            key: "issuer".into(),
            secret: Some("secret".into()),
            algorithm: Some("HS256".into()),
            ..JwtCredential::default()
        }],
        acls: vec![Group {
            id: "g1".into(),
            consumer: "c1".into(),
            group: "staff".into(),
            ..Group::default()
        }],
        ..shop(&[echo.address])
    }
}

async fn get(client: &mut Wire, target: &str, fields: &str) -> (String, String) {
    client.exchange(&format!("GET {target} HTTP/1.1\r\nHost: shop.org\r\n{fields}\r\n")).await
}

fn message(body: &str) -> String {
    let json: Value = serde_json::from_str(body).unwrap();
    json["message"].as_str().unwrap().to_owned()
}

/// A clock that stands still until it is moved.
struct Still(AtomicI64);

impl Clock for Still {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.now_ms() as u64)
    }
}

#[tokio::test]
async fn a_key_lets_its_consumer_in_and_the_service_learns_who_it_is() {
    let echo = Echo::start().await;
    let config = json!({"hide_credentials": true});
    let running = Running::start(with(&echo, vec![plugin("key-auth", config)]));
    let mut client = running.connect().await;
    let (head, body) = get(&mut client, "/", "").await;
    assert!(head.starts_with("HTTP/1.1 401 Unauthorized\r\n"), "{head}");
    assert!(head.contains("WWW-Authenticate: Key\r\n"), "{head}");
    assert_eq!(message(&body), "No API key found in request");
    let (head, body) = get(&mut client, "/", "apikey: wrong\r\n").await;
    assert!(head.starts_with("HTTP/1.1 401"), "{head}");
    assert_eq!(message(&body), "Unauthorized");
    assert_eq!(echo.requests(), 0);
    let (head, body) = get(&mut client, "/a?x=1&apikey=ann-key", "X-Consumer-Username: root\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(body.starts_with("GET /a?x=1 HTTP/1.1\r\n"), "{body}");
    assert!(body.contains("X-Consumer-Username: ann\r\n") && !body.contains("root"), "{body}");
    let (_, body) = get(&mut client, "/", "ApiKey: bob-key\r\n").await;
    assert!(body.contains("X-Consumer-Username: bob\r\n") && !body.contains("bob-key"), "{body}");
}

#[tokio::test]
async fn limits_are_counted_for_each_consumer_and_begin_anew_with_the_window() {
    let echo = Echo::start().await;
    let clock = Arc::new(Still(AtomicI64::new(1_700_000_000_000)));
    let config = Config { clock: Some(clock.clone()), ..Config::default() };
    let of_bob = Plugin {
        id: "rate-limiting-2".into(),
        consumer: Some("c2".into()),
        ..plugin("rate-limiting", json!({"minute": 5}))
    };
    let plugins = vec![
        plugin("rate-limiting", json!({"minute": 2, "hour": 100})),
        plugin("key-auth", json!({})),
        of_bob,
    ];
    let running = Running::with(config, with(&echo, plugins));
    let mut client = running.connect().await;
    for left in ["1", "0"] {
        let (head, _) = get(&mut client, "/", "apikey: ann-key\r\n").await;
        assert!(head.contains(&format!("X-RateLimit-Remaining-Minute: {left}\r\n")), "{head}");
        assert!(head.contains("X-RateLimit-Limit-Hour: 100\r\n"), "{head}");
    }
    let (head, body) = get(&mut client, "/", "apikey: ann-key\r\n").await;
    assert!(head.starts_with("HTTP/1.1 429 Too Many Requests\r\n"), "{head}");
    assert!(head.contains("Retry-After: "), "{head}");
    assert_eq!(message(&body), "API rate limit exceeded");
    let (head, _) = get(&mut client, "/", "apikey: bob-key\r\n").await;
    assert!(head.contains("X-RateLimit-Remaining-Minute: 4\r\n"), "the consumer's own instance: {head}");
    running.gateway.apply(running_snapshot(&echo)).unwrap();
    let (head, _) = get(&mut client, "/", "apikey: ann-key\r\n").await;
    assert!(head.starts_with("HTTP/1.1 429"), "counters outlive configurations: {head}");
    clock.0.fetch_add(60_000, Ordering::SeqCst);
    let (head, _) = get(&mut client, "/", "apikey: ann-key\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
}

fn running_snapshot(echo: &Echo) -> Snapshot {
    with(
        echo,
        vec![plugin("rate-limiting", json!({"minute": 2, "hour": 100})), plugin("key-auth", json!({}))],
    )
}

#[tokio::test]
async fn the_nearest_scope_wins_and_scopes_are_not_merged() {
    let echo = Echo::start().await;
    let add = |value: &str| json!({"add": {"headers": [format!("X-Scope:{value}")]}});
    let scoped = |value: &str, service: Option<&str>, route: Option<&str>| Plugin {
        id: format!("t-{value}"),
        service: service.map(str::to_owned),
        route: route.map(str::to_owned),
        ..plugin("request-transformer", add(value))
    };
    let mut snapshot = with(&echo, vec![scoped("global", None, None)]);
    let running = Running::start(snapshot.clone());
    let mut client = running.connect().await;
    for (value, service, route) in [
        ("service", Some("s1"), None),
        ("route", None, Some("shop-route")),
        ("both", Some("shop"), Some("r1")),
    ] {
        snapshot.plugins.push(scoped(value, service, route));
        running.gateway.apply(snapshot.clone()).unwrap();
        let (_, body) = get(&mut client, "/", "").await;
        assert!(body.contains(&format!("X-Scope: {value}\r\n")), "{value}: {body}");
        assert_eq!(body.matches("X-Scope").count(), 1, "{body}");
    }
}

#[tokio::test]
async fn other_ways_to_prove_who_one_is() {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let echo = Echo::start().await;
    let running = Running::start(with(&echo, vec![plugin("basic-auth", json!({}))]));
    let mut client = running.connect().await;
    let (head, _) = get(&mut client, "/", "Authorization: Basic YW5uOndyb25n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 401") && head.contains("Basic realm=\"service\""), "{head}");
    let (_, body) = get(&mut client, "/", "Authorization: Basic YW5uOm9wZW4=\r\n").await;
    assert!(body.contains("X-Credential-Identifier: ann\r\n"), "{body}");

    let config = json!({"claims_to_verify": ["exp"]});
    let clock = Arc::new(Still(AtomicI64::new(1_000_000)));
    let settings = Config { clock: Some(clock), ..Config::default() };
    let running = Running::with(settings, with(&echo, vec![plugin("jwt", config)]));
    let mut client = running.connect().await;
    let token = |claims: Value, secret: &str| {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&json!({"alg": "HS256", "typ": "JWT"})), part(&claims));
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
        let signature = ring::hmac::sign(&key, signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    };
    for (claims, secret, expected) in [
        (json!({"iss": "issuer", "exp": 2_000}), "secret", "HTTP/1.1 200"),
        (json!({"iss": "issuer", "exp": 2_000}), "other", "HTTP/1.1 401"),
        (json!({"iss": "issuer", "exp": 10}), "secret", "HTTP/1.1 401"),
        (json!({"iss": "nobody", "exp": 2_000}), "secret", "HTTP/1.1 401"),
    ] {
        let (head, body) =
            get(&mut client, "/", &format!("Authorization: Bearer {}\r\n", token(claims.clone(), secret)))
                .await;
        assert!(head.starts_with(expected), "{claims}: {head}{body}");
    }
    let (head, _) = get(&mut client, "/", "Authorization: Bearer a.b\r\n").await;
    assert!(head.starts_with("HTTP/1.1 401"), "{head}");
}

#[tokio::test]
async fn groups_addresses_and_sizes_are_kept_out() {
    let echo = Echo::start().await;
    let plugins = vec![plugin("key-auth", json!({})), plugin("acl", json!({"allow": ["staff"]}))];
    let running = Running::start(with(&echo, plugins));
    let mut client = running.connect().await;
    let (_, body) = get(&mut client, "/", "apikey: ann-key\r\n").await;
    assert!(body.contains("X-Consumer-Groups: staff\r\n"), "{body}");
    let (head, body) = get(&mut client, "/", "apikey: bob-key\r\n").await;
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");
    assert_eq!(message(&body), "You cannot consume this service");

    let plugins = vec![plugin("ip-restriction", json!({"deny": ["127.0.0.0/8"]}))];
    running.gateway.apply(with(&echo, plugins)).unwrap();
    let (head, body) = get(&mut client, "/", "").await;
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");
    assert_eq!(message(&body), "IP address not allowed: 127.0.0.1");

    let limit = json!({"allowed_payload_size": 4, "size_unit": "bytes"});
    running.gateway.apply(with(&echo, vec![plugin("request-size-limiting", limit)])).unwrap();
    let post = |fields: &str, body: &str| format!("POST / HTTP/1.1\r\nHost: shop.org\r\n{fields}\r\n{body}");
    let chunked = "Transfer-Encoding: chunked\r\n";
    let (head, body) = client.exchange(&post(chunked, "4\r\nshop\r\n0\r\n\r\n")).await;
    assert!(head.starts_with("HTTP/1.1 200") && body.ends_with("|shop"), "{head}{body}");
    for (fields, body) in [("Content-Length: 5\r\n", "shops"), (chunked, "6\r\nshoppe\r\n0\r\n\r\n")] {
        let mut client = running.connect().await;
        let (head, _) = client.exchange(&post(fields, body)).await;
        assert!(head.starts_with("HTTP/1.1 413"), "{head}");
    }
}

#[tokio::test]
async fn requests_and_responses_are_changed_on_the_way() {
    let echo = Echo::start().await;
    let request = json!({
        "http_method": "PUT",
        "remove": {"headers": ["x-gone"], "querystring": ["secret"]},
        "rename": {"headers": ["x-old:x-new"]},
        "add": {"headers": ["x-user:$(headers.x-name)"], "querystring": ["page:1"], "body": ["kind:shop"]},
        "replace": {"body": ["a:2"], "uri": "/moved/$(uri_captures[1])"},
    });
    let request =
        serde_json::from_str(&request.to_string().replace("headers.x-name", "headers[\\\"x-name\\\"]"))
            .unwrap();
    let response = json!({"remove": {"headers": ["x-target"]}, "add": {"headers": ["x-added:1"]}});
    let mut snapshot =
        with(&echo, vec![plugin("request-transformer", request), plugin("response-transformer", response)]);
    snapshot.routes[0].paths = Some(vec!["~/items/(\\d+)".into()]);
    let running = Running::start(snapshot);
    let mut client = running.connect().await;
    let sent = "POST /items/7?secret=1&q=a HTTP/1.1\r\nHost: shop.org\r\nx-gone: 1\r\nx-old: v\r\nx-name: ann\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n{\"a\":1}";
    let (head, body) = client.exchange(sent).await;
    assert!(body.starts_with("PUT /moved/7?q=a&page=1 HTTP/1.1\r\n"), "{body}");
    assert!(body.contains("x-new: v\r\n") && body.contains("x-user: ann\r\n"), "{body}");
    assert!(!body.contains("x-gone") && !body.contains("x-old"), "{body}");
    assert!(body.ends_with("|{\"a\":\"2\",\"kind\":\"shop\"}"), "{body}");
    assert!(head.contains("x-added: 1\r\n") && !head.contains("X-Target"), "{head}");
}

#[tokio::test]
async fn pages_of_other_origins_are_answered_as_configured() {
    let echo = Echo::start().await;
    let config = json!({"origins": ["https://a.org", "https://b.org"], "credentials": true, "max_age": 60, "methods": ["GET"]});
    let running = Running::start(with(&echo, vec![plugin("cors", config), plugin("key-auth", json!({}))]));
    let mut client = running.connect().await;
    let preflight = "OPTIONS / HTTP/1.1\r\nHost: shop.org\r\nOrigin: https://a.org\r\nAccess-Control-Request-Method: GET\r\n\r\n";
    let (head, body) = client.exchange(preflight).await;
    assert!(head.starts_with("HTTP/1.1 200") && body.is_empty(), "{head}");
    for field in [
        "Access-Control-Allow-Origin: https://a.org\r\n",
        "Access-Control-Allow-Methods: GET\r\n",
        "Access-Control-Max-Age: 60\r\n",
        "Access-Control-Allow-Credentials: true\r\n",
    ] {
        assert!(head.contains(field), "{field} in {head}");
    }
    let (head, _) = get(&mut client, "/", "Origin: https://b.org\r\n").await;
    assert!(head.starts_with("HTTP/1.1 401"), "{head}");
    assert!(head.contains("Access-Control-Allow-Origin: https://b.org\r\n"), "refusals too: {head}");
    let (head, _) = get(&mut client, "/", "Origin: https://c.org\r\napikey: ann-key\r\n").await;
    assert!(!head.contains("Access-Control-Allow-Origin"), "{head}");
}

#[tokio::test]
async fn a_route_without_a_service_answers_what_its_plugins_say() {
    let echo = Echo::start().await;
    let mut snapshot = with(&echo, vec![]);
    snapshot.routes.push(Route { id: "r2".into(), paths: Some(vec!["/closed".into()]), ..Route::default() });
    let closed = Plugin {
        route: Some("r2".into()),
        ..plugin("request-termination", json!({"status_code": 403, "message": "closed"}))
    };
    snapshot.plugins = vec![closed, plugin("correlation-id", json!({"echo_downstream": true}))];
    let running = Running::start(snapshot.clone());
    let mut client = running.connect().await;
    let ask = "GET /closed HTTP/1.1\r\nHost: other.org\r\n\r\n";
    let (head, body) = client.exchange(ask).await;
    assert!(head.starts_with("HTTP/1.1 403") && head.contains("Kong-Request-ID: "), "{head}");
    assert_eq!(body, "{\"message\":\"closed\"}");
    snapshot.plugins.remove(0);
    running.gateway.apply(snapshot).unwrap();
    let (head, body) = client.exchange(ask).await;
    assert!(head.starts_with("HTTP/1.1 503"), "{head}");
    assert_eq!(message(&body), "no Service found with those values");
}

#[tokio::test]
async fn a_plugin_that_cannot_be_run_is_an_error_and_changes_nothing() {
    let echo = Echo::start().await;
    let running = Running::start(with(&echo, vec![]));
    for (name, config, part) in [
        ("oauth2", json!({}), "not run by this gateway"),
        ("rate-limiting", json!({"minute": 1, "policy": "redis"}), "policy"),
        ("request-transformer", json!({"add": {"headers": ["a:$(1 + 1)"]}}), "not supported"),
        ("response-transformer", json!({"add": {"json": ["a:b"]}}), "json"),
    ] {
        let error = running.gateway.apply(with(&echo, vec![plugin(name, config)])).unwrap_err();
        assert!(error.entity == "plugin" && error.to_string().contains(part), "{error}");
    }
    let mut client = running.connect().await;
    let (head, _) = get(&mut client, "/", "").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
}
