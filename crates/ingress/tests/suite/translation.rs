//! Kong's objects and HTTPRoutes into entities, without a server.

use base64::Engine as _;
use gantry_gateway::entities::{Plugin, Snapshot};
use gantry_ingress::{Input, Kind, Translation, Translator};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::sync::Arc;

/// Objects by kind, put into an input.
fn input(objects: &[Value]) -> Input<'static> {
    fn all<T: DeserializeOwned>(objects: &[Value], kind: &str) -> Vec<Arc<T>> {
        let of_kind = objects.iter().filter(|object| object["kind"] == kind);
        of_kind.map(|object| Arc::new(serde_json::from_value(object.clone()).unwrap())).collect()
    }
    Input {
        class: "kong",
        claims_classless: true,
        ingresses: all(objects, "Ingress"),
        services: all(objects, "Service"),
        endpoint_slices: all(objects, "EndpointSlice"),
        secrets: all(objects, "Secret"),
        namespaces: all(objects, "Namespace"),
        plugins: all(objects, "KongPlugin"),
        cluster_plugins: all(objects, "KongClusterPlugin"),
        consumers: all(objects, "KongConsumer"),
        upstream_policies: all(objects, "KongUpstreamPolicy"),
        gateway_classes: all(objects, "GatewayClass"),
        gateways: all(objects, "Gateway"),
        listener_sets: all(objects, "ListenerSet"),
        config_maps: all(objects, "ConfigMap"),
        http_routes: all(objects, "HTTPRoute"),
        tls_routes: all(objects, "TLSRoute"),
        reference_grants: all(objects, "ReferenceGrant"),
    }
}

fn translated(objects: &[Value]) -> Translation {
    Translator::new().translate(&input(objects))
}

fn service(name: &str) -> Value {
    json!({"kind": "Service", "metadata": {"name": name, "namespace": "shop"},
        "spec": {"ports": [{"name": "http", "port": 80}]}})
}

fn ingress(annotations: Value) -> Value {
    json!({"kind": "Ingress", "metadata": {"name": "web", "namespace": "shop", "annotations": annotations},
        "spec": {"rules": [{"http": {"paths": [{"path": "/", "pathType": "Prefix",
            "backend": {"service": {"name": "catalog", "port": {"number": 80}}}}]}}]}})
}

fn plugin(name: &str, fields: Value) -> Value {
    let mut object = json!({"kind": "KongPlugin", "metadata": {"name": name, "namespace": "shop"}});
    object.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    object
}

fn secret(name: &str, kind: &str, fields: Value) -> Value {
    let data = fields.as_object().unwrap().iter().map(|(name, value)| {
        let bytes = k8s_openapi::ByteString(value.as_str().unwrap().as_bytes().to_vec());
        (name.clone(), serde_json::to_value(bytes).unwrap())
    });
    json!({"kind": "Secret", "metadata": {"name": name, "namespace": "shop", "labels": {"konghq.com/credential": kind}},
        "data": data.collect::<serde_json::Map<_, _>>()})
}

fn consumer(name: &str, credentials: Value, annotations: Value) -> Value {
    json!({"kind": "KongConsumer", "metadata": {"name": name, "namespace": "shop", "annotations": annotations},
        "username": name, "credentials": credentials})
}

fn named<'s>(snapshot: &'s Snapshot, name: &str) -> Vec<&'s Plugin> {
    snapshot.plugins.iter().filter(|plugin| plugin.name == name).collect()
}

fn is_closed(translation: &Translation) -> bool {
    let snapshot = &translation.snapshot;
    snapshot.routes.iter().all(|route| route.service.is_none())
        && !named(snapshot, "request-termination").is_empty()
}

fn messages(translation: &Translation) -> Vec<(Kind, String)> {
    translation.problems.iter().map(|problem| (problem.subject.kind, problem.message.clone())).collect()
}

#[test]
fn a_plugin_is_put_on_what_names_it() {
    let auth =
        plugin("auth", json!({"plugin": "key-auth", "config": {"key_names": ["k"]}, "instance_name": "a"}));
    let found = translated(&[service("catalog"), ingress(json!({"konghq.com/plugins": "auth"})), auth]);
    assert_eq!(messages(&found), []);
    let [one] = named(&found.snapshot, "key-auth")[..] else { panic!("{:?}", found.snapshot.plugins) };
    assert_eq!(one.route.as_deref(), Some("shop.web.catalog..80"));
    assert_eq!(one.config, json!({"key_names": ["k"]}));
    assert!(one.instance_name.as_deref().unwrap().starts_with("a-"));
    assert_eq!(one.tags[0], "k8s-name:auth");
    assert!(found.snapshot.routes[0].service.is_some());
}

#[test]
fn a_missing_or_broken_plugin_closes_the_route_and_is_told() {
    let asks = ingress(json!({"konghq.com/plugins": "auth"}));
    let found = translated(&[service("catalog"), asks.clone()]);
    assert!(is_closed(&found));
    let missing = "no KongPlugin or KongClusterPlugin was found for shop/auth".to_owned();
    assert_eq!(messages(&found), [(Kind::Ingress, missing)]);

    for broken in [
        json!({"plugin": "rate-limiting", "config": {"minute": "many"}}),
        json!({"plugin": "no-such-plugin"}),
        json!({"plugin": "oauth2", "config": {"enable_client_credentials": true}}),
        json!({}),
        json!({"plugin": "key-auth", "ordering": {"before": {"access": ["cors"]}}}),
        json!({"plugin": "key-auth", "protocols": ["gopher"]}),
        json!({"plugin": "key-auth", "configFrom": {"secretKeyRef": {"name": "none", "key": "k"}}}),
    ] {
        let found = translated(&[service("catalog"), asks.clone(), plugin("auth", broken.clone())]);
        assert!(is_closed(&found), "{broken}");
        let told: Vec<Kind> = messages(&found).into_iter().map(|(kind, _)| kind).collect();
        assert_eq!(told, [Kind::Ingress, Kind::KongPlugin], "{broken}");
    }
}

#[test]
fn a_plugin_of_a_service_stands_before_all_its_routes() {
    let mut guarded = service("catalog");
    guarded["metadata"]["annotations"] = json!({"konghq.com/plugins": "auth"});
    let found =
        translated(&[guarded.clone(), ingress(json!({})), plugin("auth", json!({"plugin": "key-auth"}))]);
    assert_eq!(named(&found.snapshot, "key-auth")[0].service.as_deref(), Some("shop.catalog.80"));
    assert!(is_closed(&translated(&[guarded, ingress(json!({}))])));
}

#[test]
fn routes_and_consumers_that_name_one_plugin_are_combined() {
    let limit =
        plugin("limit", json!({"plugin": "rate-limiting", "config": {"minute": 5, "policy": "local"}}));
    let asks = json!({"konghq.com/plugins": "limit"});
    let found =
        translated(&[service("catalog"), ingress(asks.clone()), consumer("ann", json!([]), asks), limit]);
    let [one] = named(&found.snapshot, "rate-limiting")[..] else { panic!("{:?}", found.snapshot.plugins) };
    assert!(one.route.is_some() && one.consumer.as_deref() == Some(&found.snapshot.consumers[0].id));
}

#[test]
fn a_reference_into_another_namespace_needs_a_grant() {
    let mut far = plugin("auth", json!({"plugin": "key-auth"}));
    far["metadata"]["namespace"] = json!("security");
    let grant = json!({"kind": "ReferenceGrant", "metadata": {"name": "g", "namespace": "security"}, "spec": {
        "from": [{"group": "networking.k8s.io", "kind": "Ingress", "namespace": "shop"}],
        "to": [{"group": "configuration.konghq.com", "kind": "KongPlugin"}]}});
    let asks = ingress(json!({"konghq.com/plugins": "security:auth"}));
    assert!(is_closed(&translated(&[service("catalog"), asks.clone(), far.clone()])));
    let found = translated(&[service("catalog"), asks, far, grant]);
    assert_eq!(named(&found.snapshot, "key-auth").len(), 1);
    assert_eq!(messages(&found), []);
}

#[test]
fn configuration_comes_from_secrets_and_is_never_told() {
    let asks = ingress(json!({"konghq.com/plugins": "limit"}));
    let source = json!({"secretKeyRef": {"name": "conf", "key": "c"}});
    let whole = plugin("limit", json!({"plugin": "rate-limiting", "configFrom": source}));
    let found = translated(&[
        service("catalog"),
        asks.clone(),
        whole.clone(),
        secret("conf", "", json!({"c": "minute: 5\npolicy: local\n"})),
    ]);
    assert_eq!(named(&found.snapshot, "rate-limiting")[0].config, json!({"minute": 5, "policy": "local"}));
    let patched = plugin(
        "limit",
        json!({"plugin": "request-transformer", "config": {}, "configPatches": [
            {"path": "/add/headers", "valueFrom": source}]}),
    );
    let found = translated(&[
        service("catalog"),
        asks.clone(),
        patched,
        secret("conf", "", json!({"c": "[\"x-a:1\"]"})),
    ]);
    let expected = json!({"add": {"headers": ["x-a:1"]}});
    assert_eq!(named(&found.snapshot, "request-transformer")[0].config, expected);
    for bad in ["hunter2: [", "minute: hunter2", "hunter2"] {
        let found = translated(&[
            service("catalog"),
            asks.clone(),
            whole.clone(),
            secret("conf", "", json!({"c": bad})),
        ]);
        assert!(is_closed(&found), "{bad}");
        assert!(!format!("{:?}", found.problems).contains("hunter2"), "{:?}", found.problems);
    }
}

#[test]
fn consumers_have_the_credentials_of_their_secrets() {
    let found = translated(&[
        consumer("ann", json!(["key", "basic", "jwt", "acl", "none", "other"]), json!({})),
        secret("key", "key-auth", json!({"key": "hunter2"})),
        secret("basic", "basic-auth", json!({"username": "ann", "password": "hunter2"})),
        secret("jwt", "jwt", json!({"key": "issuer", "secret": "hunter2"})),
        secret("acl", "acl", json!({"group": "admins"})),
        secret("other", "hmac-auth", json!({"username": "hunter2"})),
    ]);
    let snapshot = &found.snapshot;
    let id = &snapshot.consumers[0].id;
    assert_eq!(
        (&snapshot.keyauth_credentials[0].consumer, &*snapshot.keyauth_credentials[0].key),
        (id, "hunter2")
    );
    assert_eq!(snapshot.basicauth_credentials[0].password.len(), 40);
    assert_eq!(snapshot.jwt_secrets[0].algorithm.as_deref(), Some("HS256"));
    assert_eq!(snapshot.acls[0].group, "admins");
    let told = messages(&found);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(
        told.iter().all(|(kind, text)| *kind == Kind::KongConsumer && !text.contains("hunter2")),
        "{told:?}"
    );
}

#[test]
fn a_key_stays_with_the_older_consumer() {
    let mut old = consumer("zoe", json!(["a"]), json!({}));
    old["metadata"]["creationTimestamp"] = json!("2020-01-01T00:00:00Z");
    let mut young = consumer("ann", json!(["b"]), json!({}));
    young["metadata"]["creationTimestamp"] = json!("2021-01-01T00:00:00Z");
    let same = |name: &str| secret(name, "key-auth", json!({"key": "hunter2"}));
    let found = translated(&[old, young, same("a"), same("b")]);
    let [key] = &found.snapshot.keyauth_credentials[..] else { panic!("{found:?}") };
    let zoe = found.snapshot.consumers.iter().find(|one| one.username.as_deref() == Some("zoe")).unwrap();
    assert_eq!(key.consumer, zoe.id);
    assert_eq!(found.problems[0].subject.key.name(), "ann");
}

#[test]
fn a_custom_id_is_no_way_into_anothers_account() {
    let mut old = consumer("admin", json!([]), json!({}));
    old["metadata"]["creationTimestamp"] = json!("2020-01-01T00:00:00Z");
    let mut young = consumer("eve", json!(["b"]), json!({}));
    young["metadata"]["creationTimestamp"] = json!("2021-01-01T00:00:00Z");
    young.as_object_mut().unwrap().remove("username");
    young["custom_id"] = json!("admin");
    let found = translated(&[old, young, secret("b", "key-auth", json!({"key": "hunter2"}))]);
    let [admin] = &found.snapshot.consumers[..] else { panic!("{found:?}") };
    assert_eq!(admin.username.as_deref(), Some("admin"));
    assert_eq!(found.snapshot.keyauth_credentials, []);
    assert_eq!(found.problems[0].subject.key.name(), "eve");
}

#[test]
fn a_global_plugin_is_for_all_and_a_broken_one_closes_all() {
    let global = |config: Value| {
        json!({"kind": "KongClusterPlugin", "metadata": {"name": "g", "labels": {"global": "true"}},
            "plugin": "key-auth", "config": config})
    };
    let found = translated(&[service("catalog"), ingress(json!({})), global(json!({}))]);
    let [one] = named(&found.snapshot, "key-auth")[..] else { panic!("{:?}", found.snapshot.plugins) };
    assert_eq!((&one.route, &one.service, &one.consumer), (&None, &None, &None));
    assert!(is_closed(&translated(&[service("catalog"), ingress(json!({})), global(json!({"nothing": 1}))])));
}

#[test]
fn two_plugins_of_a_kind_in_one_place_close_it() {
    let found = translated(&[
        service("catalog"),
        ingress(json!({"konghq.com/plugins": "a,b"})),
        plugin("a", json!({"plugin": "key-auth"})),
        plugin("b", json!({"plugin": "key-auth", "config": {"key_names": ["x"]}})),
    ]);
    assert!(is_closed(&found));
    assert!(found.problems[0].message.contains("another key-auth plugin in the same place"), "{found:?}");
}

#[test]
fn what_a_policy_asks_for_and_is_not_done_is_told() {
    let mut guided = service("catalog");
    guided["metadata"]["annotations"] = json!({"konghq.com/upstream-policy": "p"});
    let policy = |spec: Value| json!({"kind": "KongUpstreamPolicy", "metadata": {"name": "p", "namespace": "shop"}, "spec": spec});
    let found =
        translated(&[guided.clone(), policy(json!({"algorithm": "least-connections", "slots": 100}))]);
    assert_eq!(messages(&found), []);
    let upstream = serde_json::to_value(&found.snapshot.upstreams[0]).unwrap();
    assert_eq!((&upstream["algorithm"], &upstream["slots"]), (&json!("least-connections"), &json!(100)));
    let hashes = json!({"algorithm": "consistent-hashing", "hashOn": {"header": "x"},
        "hashOnFallback": {"input": "ip"}});
    let found = translated(&[guided.clone(), policy(hashes)]);
    assert_eq!(messages(&found), []);
    let upstream = serde_json::to_value(&found.snapshot.upstreams[0]).unwrap();
    assert_eq!((&upstream["hash_on_header"], &upstream["hash_fallback"]), (&json!("x"), &json!("ip")));
    let odd = json!({"algorithm": "sticky-sessions", "healthchecks": {"active": {}}});
    let found = translated(&[guided, policy(odd)]);
    assert_eq!(found.problems.len(), 2, "{found:?}");
}

#[test]
fn a_service_over_https_shows_and_trusts_what_its_annotations_name() {
    let mut secure = service("catalog");
    secure["metadata"]["annotations"] = json!({
        "konghq.com/protocol": "https", "konghq.com/tls-verify": "true",
        "konghq.com/ca-certificates-configmaps": "ca", "konghq.com/client-cert": "own",
    });
    let found = translated(&[secure.clone(), ingress(json!({}))]);
    assert!(is_closed(&found));
    let told: Vec<String> = messages(&found).into_iter().map(|(_, message)| message).collect();
    assert!(
        told.iter().any(|text| text.contains("konghq.com/client-cert: there is no secret \"own\"")),
        "{told:?}"
    );

    let made = rcgen::generate_simple_self_signed(vec!["gateway".to_owned()]).unwrap();
    let coded = |text: String| base64::engine::general_purpose::STANDARD.encode(text);
    let own = json!({"kind": "Secret", "metadata": {"name": "own", "namespace": "shop", "uid": "u1"},
        "data": {"tls.crt": coded(made.cert.pem()), "tls.key": coded(made.signing_key.serialize_pem())}});
    let authority = json!({"kind": "ConfigMap", "metadata": {"name": "ca", "namespace": "shop"},
        "data": {"id": "c1", "cert": made.cert.pem()}});
    let found = translated(&[secure.clone(), ingress(json!({})), own.clone(), authority]);
    assert!(!is_closed(&found), "{:?}", messages(&found));
    let service = &found.snapshot.services[0];
    assert_eq!(service.client_certificate.as_deref(), Some("u1"));
    assert_eq!(
        (service.tls_verify, service.ca_certificates.as_deref()),
        (Some(true), Some(&["c1".to_owned()][..]))
    );
    assert_eq!(found.snapshot.ca_certificates[0].id, "c1");

    secure["metadata"]["annotations"] =
        json!({"konghq.com/protocol": "https", "konghq.com/tls-verify": "maybe"});
    assert!(is_closed(&translated(&[secure, ingress(json!({}))])));
}

#[test]
fn backends_with_filters_of_their_own_are_routes_of_their_own() {
    let header = |value: &str| {
        json!([{"type": "RequestHeaderModifier",
        "requestHeaderModifier": {"set": [{"name": "x-backend", "value": value}]}}])
    };
    let auth = json!([{"type": "ExtensionRef",
        "extensionRef": {"group": "configuration.konghq.com", "kind": "KongPlugin", "name": "auth"}}]);
    let rule = json!([{"filters": auth, "backendRefs": [
        {"name": "catalog", "port": 80, "weight": 3, "filters": header("one")},
        {"name": "other", "port": 80, "filters": header("two")}]}]);
    let mut objects = gateway_objects(http_listener());
    objects.extend([service("other"), http_route(json!({"rules": rule}))]);
    let closed = translated(&objects).for_gateway();
    assert!(closed.routes.iter().all(|route| route.service.is_none()), "the plugin that guards is missing");
    objects.push(plugin("auth", json!({"plugin": "key-auth"})));
    let lowered = translated(&objects).for_gateway();
    let shares: Vec<&gantry_gateway::entities::Route> =
        lowered.routes.iter().filter(|route| route.extras.is_share).collect();
    assert_eq!(shares.len(), 2);
    let split = lowered.routes.iter().find(|route| !route.extras.shares.is_empty()).unwrap();
    let weights: Vec<u32> = split.extras.shares.iter().map(|share| share.weight).collect();
    assert_eq!(weights, [3, 1]);
    for share in shares {
        let of = |name: &str| {
            let own = lowered.plugins.iter().filter(|one| one.route.as_deref() == Some(share.label()));
            own.filter(|one| one.name == name).count()
        };
        assert_eq!((of("key-auth"), of("request-transformer")), (1, 1), "{}", share.label());
    }
}

#[test]
fn a_tls_route_passes_the_names_on_that_its_listener_has() {
    let listener = json!({"name": "tls", "port": 443, "protocol": "TLS", "hostname": "*.shop.org",
        "tls": {"mode": "Passthrough"}});
    let mut objects = gateway_objects(listener);
    objects.push(json!({"kind": "TLSRoute", "metadata": {"name": "r", "namespace": "shop"}, "spec": {
        "parentRefs": [{"name": "gw"}], "hostnames": ["a.shop.org", "b.org"],
        "rules": [{"backendRefs": [{"name": "catalog", "port": 80}]}]}}));
    let found = translated(&objects);
    let attachment = &found.tls_attachments.values().next().unwrap()[0];
    assert_eq!((attachment.accepted.reason, attachment.resolved.reason), ("Accepted", "ResolvedRefs"));
    let [entrance] = found.snapshot.entrances.as_slice() else { panic!("{found:?}") };
    let passed: Vec<(&str, &str)> =
        entrance.passthrough.iter().map(|one| (one.hostname.as_str(), one.service.as_str())).collect();
    assert_eq!(passed, [("a.shop.org", "tlsroute.shop.r.0")]);
    // An HTTPRoute has no place there.
    objects.push(http_route(json!({"rules": [{"backendRefs": backend()}]})));
    assert_eq!(reasons(&translated(&objects)).0, "NotAllowedByListeners");
}

fn gateway_objects(listener: Value) -> Vec<Value> {
    vec![
        json!({"kind": "GatewayClass", "metadata": {"name": "kong"},
            "spec": {"controllerName": "konghq.com/kic-gateway-controller"}}),
        json!({"kind": "Gateway", "metadata": {"name": "gw", "namespace": "shop"},
            "spec": {"gatewayClassName": "kong", "listeners": [listener]}}),
        service("catalog"),
    ]
}

fn http_route(spec: Value) -> Value {
    let mut object = json!({"kind": "HTTPRoute", "metadata": {"name": "r", "namespace": "shop"},
        "spec": {"parentRefs": [{"name": "gw"}]}});
    object["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    object
}

fn with_route(listener: Value, spec: Value) -> Translation {
    let mut objects = gateway_objects(listener);
    objects.push(http_route(spec));
    translated(&objects)
}

fn http_listener() -> Value {
    json!({"name": "http", "port": 80, "protocol": "HTTP"})
}

fn backend() -> Value {
    json!([{"name": "catalog", "port": 80}])
}

/// Reason of Accepted and of ResolvedRefs.
fn reasons(translation: &Translation) -> (&'static str, &'static str) {
    let attachment = &translation.attachments.values().next().unwrap()[0];
    (attachment.accepted.reason, attachment.resolved.reason)
}

#[test]
fn a_route_is_attached_or_told_why_not() {
    let rules = json!([{"backendRefs": backend()}]);
    let reason = |listener: Value, spec: Value| reasons(&with_route(listener, spec));
    assert_eq!(reason(http_listener(), json!({"rules": rules})), ("Accepted", "ResolvedRefs"));
    let other_section = json!({"rules": rules, "parentRefs": [{"name": "gw", "sectionName": "x"}]});
    assert_eq!(reason(http_listener(), other_section).0, "NoMatchingParent");
    let elsewhere = json!({"name": "http", "port": 80, "protocol": "HTTP",
        "allowedRoutes": {"namespaces": {"from": "None"}}});
    assert_eq!(reason(elsewhere, json!({"rules": rules})).0, "NotAllowedByListeners");
    let hosted = json!({"name": "http", "port": 80, "protocol": "HTTP", "hostname": "*.shop.org"});
    assert_eq!(
        reason(hosted.clone(), json!({"rules": rules, "hostnames": ["a.org"]})).0,
        "NoMatchingListenerHostname"
    );
    let found = with_route(hosted, json!({"rules": rules, "hostnames": ["a.shop.org", "b.org"]}));
    assert_eq!(found.snapshot.routes[0].hosts.as_deref().unwrap(), ["a.shop.org"]);
    let stream = json!({"name": "s", "port": 443, "protocol": "TCP"});
    assert_eq!(reason(stream, json!({"rules": rules})).0, "NotAllowedByListeners");
}

#[test]
fn references_that_lead_nowhere_are_told_and_answer_500() {
    for (backends, reason) in [
        (json!([{"name": "nobody", "port": 80}]), "BackendNotFound"),
        (json!([{"name": "catalog", "port": 81}]), "BackendNotFound"),
        (json!([{"name": "catalog", "kind": "Queue", "port": 80}]), "InvalidKind"),
        (json!([{"name": "catalog", "namespace": "far", "port": 80}]), "RefNotPermitted"),
    ] {
        let found = with_route(http_listener(), json!({"rules": [{"backendRefs": backends}]}));
        assert_eq!(reasons(&found), ("Accepted", reason));
        assert!(is_closed(&found), "{reason}");
        assert_eq!(named(&found.snapshot, "request-termination")[0].config["status_code"], 500);
    }
}

#[test]
fn a_filter_that_is_not_supported_closes_its_rule_only() {
    let foreign = json!({"backendRefs": backend(), "matches": [{"path": {"type": "PathPrefix", "value": "/m"}}],
        "filters": [{"type": "ExternalAuth"}]});
    let found = with_route(http_listener(), json!({"rules": [foreign.clone()]}));
    assert_eq!(reasons(&found).0, "UnsupportedValue");
    assert!(is_closed(&found));
    let found = with_route(http_listener(), json!({"rules": [foreign, {"backendRefs": backend()}]}));
    let attachment = &found.attachments.values().next().unwrap()[0];
    assert!(attachment.accepted.holds && attachment.partially_invalid.is_some());
    let served = found.snapshot.routes.iter().filter(|route| route.service.is_some()).count();
    assert_eq!((found.snapshot.routes.len(), served), (2, 1));
}

#[test]
fn what_a_match_cannot_say_is_refused_and_never_widened() {
    let with = |kind: &str| {
        let parameter = json!({"type": kind, "name": "a", "value": "1"});
        let rules = json!([{"backendRefs": backend(), "matches": [{"queryParams": [parameter]}]}]);
        with_route(http_listener(), json!({"rules": rules}))
    };
    let found = with("Near");
    assert_eq!(reasons(&found).0, "UnsupportedValue");
    assert!(found.snapshot.routes.is_empty());
    let pattern = json!([{"path": {"type": "RegularExpression", "value": "/a("}}]);
    let found =
        with_route(http_listener(), json!({"rules": [{"backendRefs": backend(), "matches": pattern}]}));
    assert_eq!(reasons(&found).0, "UnsupportedValue");
    assert!(found.snapshot.routes.is_empty());
    let found = with("Exact");
    assert_eq!(reasons(&found).0, "Accepted");
    assert_eq!(found.snapshot.routes[0].extras.queries[0].name, "a");
}

#[test]
fn a_plugin_may_be_named_by_a_filter() {
    let filter = json!({"type": "ExtensionRef",
        "extensionRef": {"group": "configuration.konghq.com", "kind": "KongPlugin", "name": "auth"}});
    let rules = json!([{"backendRefs": backend(), "filters": [filter]}]);
    let mut objects = gateway_objects(http_listener());
    objects.push(http_route(json!({"rules": rules})));
    assert!(is_closed(&translated(&objects)));
    objects.push(plugin("auth", json!({"plugin": "key-auth"})));
    let found = translated(&objects);
    assert_eq!(named(&found.snapshot, "key-auth")[0].route.as_deref(), Some("httproute.shop.r.0.0"));
}

#[test]
fn a_route_of_several_hosts_and_paths_has_a_place_for_each() {
    let matches = json!([{"path": {"type": "Exact", "value": "/a"}}, {"path": {"type": "PathPrefix", "value": "/long"}}]);
    let rules = json!([{"backendRefs": backend(), "matches": matches}]);
    let found = with_route(http_listener(), json!({"hostnames": ["a.org", "*.shop.org"], "rules": rules}));
    assert_eq!(found.snapshot.routes.len(), 1);
    let lowered = found.for_gateway();
    assert_eq!(lowered.routes.len(), 4);
    let priority = |host: &str, path: &str| {
        let is_meant = |route: &&gantry_gateway::entities::Route| {
            route.hosts.as_deref() == Some(&[host.to_owned()])
                && route.paths.iter().flatten().any(|known| known == path)
        };
        lowered.routes.iter().find(is_meant).unwrap().extras.priority.unwrap()
    };
    assert!(priority("a.org", "/long/") > priority("*.shop.org", "~/a$"));
    assert!(priority("a.org", "~/a$") > priority("a.org", "/long/"));
}
