//! Kong's objects and the Gateway API under `up`: keys, limits, what is closed when a plugin is missing, and an HTTPRoute.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::harness::{Shop, Up, gantry, start_up, wait_until};

const OBJECTS: &str = r#"
apiVersion: configuration.konghq.com/v1
kind: KongPlugin
metadata: {name: auth, namespace: shop-dev}
plugin: key-auth
config: {key_names: [apikey]}
---
apiVersion: configuration.konghq.com/v1
kind: KongPlugin
metadata: {name: limit, namespace: shop-dev}
plugin: rate-limiting
config: {year: 2, policy: local, limit_by: consumer}
---
apiVersion: configuration.konghq.com/v1
kind: KongConsumer
metadata: {name: ann, namespace: shop-dev, annotations: {kubernetes.io/ingress.class: kong}}
username: ann
credentials: [ann-key]
---
apiVersion: v1
kind: Secret
metadata: {name: ann-key, namespace: shop-dev, labels: {konghq.com/credential: key-auth}}
stringData: {key: hunter2}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: guarded, namespace: shop-dev, annotations: {konghq.com/plugins: "auth, limit"}}
spec:
  ingressClassName: kong
  rules: [{host: guarded.localhost, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: catalog, port: {name: http}}}}]}}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: forgotten, namespace: shop-dev, annotations: {konghq.com/plugins: nobody}}
spec:
  ingressClassName: kong
  rules: [{host: forgotten.localhost, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: catalog, port: {name: http}}}}]}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: kong}
spec: {controllerName: konghq.com/kic-gateway-controller}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: front, namespace: shop-dev}
spec:
  gatewayClassName: kong
  listeners: [{name: http, port: 80, protocol: HTTP}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: routed, namespace: shop-dev}
spec:
  parentRefs: [{name: front}]
  hostnames: [routed.localhost]
  rules:
  - matches: [{path: {type: PathPrefix, value: /products}}]
    filters:
    - type: ResponseHeaderModifier
      responseHeaderModifier: {set: [{name: X-Team, value: shop}]}
    backendRefs: [{name: catalog, port: 8080}]
  - matches: [{path: {type: PathPrefix, value: /old}}]
    filters:
    - type: RequestRedirect
      requestRedirect: {statusCode: 301, path: {type: ReplacePrefixMatch, replacePrefixMatch: /products}}
"#;

/// The shop with all of the above; nothing of it is known to the shop's own kustomization.
fn up(shop: &Shop) -> Up {
    let folder = shop.file("overlays/kong");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join("kong.yaml"), OBJECTS).expect("the copy is writable");
    let kustomization = "resources:\n- ../dev\n- kong.yaml\n";
    std::fs::write(folder.join("kustomization.yaml"), kustomization).expect("the copy is writable");
    let mut command = gantry();
    command.arg("up").arg(&folder).arg("--data-dir").arg(shop.data_dir());
    command.args(["--ports", "auto", "--output", "json"]);
    start_up(command, &shop.data_dir())
}

/// The head and the body of an answer.
fn ask(up: &Up, host: &str, path: &str, fields: &str) -> String {
    let mut stream = TcpStream::connect(up.address("gateway")).expect("the gateway listens");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\n{fields}Connection: close\r\n\r\n").expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    String::from_utf8_lossy(&answer).into_owned()
}

fn status(answer: &str) -> &str {
    answer.split_ascii_whitespace().nth(1).unwrap_or_default()
}

#[test]
fn kongs_objects_and_an_http_route_are_served() {
    let shop = Shop::copy();
    let up = up(&shop);

    // Objects arrive one by one: what a route needs may come after it.
    let eventually = |host: &str, path: &str, fields: &str, code: &str| {
        let what = format!("{code} from {host}{path}");
        let answered = || Some(ask(&up, host, path, fields)).filter(|answer| status(answer) == code);
        wait_until(&what, answered).expect("waited for")
    };
    eventually("guarded.localhost", "/products", "", "401");
    let key = "apikey: hunter2\r\n";
    eventually("guarded.localhost", "/products", key, "200");
    let answers = [(); 2].map(|()| ask(&up, "guarded.localhost", "/products", key));
    assert_eq!(answers.each_ref().map(|answer| status(answer)), ["200", "429"], "{answers:?}");
    assert_eq!(status(&ask(&up, "guarded.localhost", "/products", "apikey: guess\r\n")), "401");

    let closed = eventually("forgotten.localhost", "/products", "", "503");
    assert!(closed.contains("not configured completely"), "{closed}");

    let routed = eventually("routed.localhost", "/products", "", "200");
    assert!(routed.contains("X-Team: shop"), "{routed}");
    let moved = ask(&up, "routed.localhost:8000", "/old/1?page=2", "");
    assert_eq!(status(&moved), "301", "{moved}");
    assert!(moved.contains("Location: http://routed.localhost:8000/products/1?page=2\r\n"), "{moved}");
    assert_eq!(status(&ask(&up, "routed.localhost", "/productsX", "")), "404");

    let kubectl = |args: &[&str]| {
        let output = up.kubectl(args)?;
        Some(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let told = "no KongPlugin or KongClusterPlugin was found for shop-dev/nobody";
    if kubectl(&["version", "--client"]).is_none() {
        return;
    }
    let events = wait_until("the event", || {
        let events = kubectl(&["-n", "shop-dev", "get", "events", "-o", "json"])?;
        events.contains(told).then_some(events)
    });
    let events = events.expect("waited for");
    assert!(events.contains("KongConfigurationTranslationFailed"), "{events}");
    assert!(!events.contains("hunter2"), "a key is in an event");
    let holds =
        |kind: &str, path: &str| kubectl(&["-n", "shop-dev", "get", kind, "-o", &format!("jsonpath={path}")]);
    let programmed = "{.status.conditions[?(@.type=='Programmed')].status} {.status.addresses[0].value} {.status.listeners[0].attachedRoutes}";
    wait_until("the gateway's status", || {
        let told = holds("gateway/front", programmed)?;
        // Each Gateway listens on a loopback address of its own.
        (told.starts_with("True 127.25") && told.ends_with(" 1")).then_some(())
    });
    let accepted = "{.status.parents[0].conditions[?(@.type=='Accepted')].reason} {.status.parents[0].conditions[?(@.type=='ResolvedRefs')].reason}";
    assert_eq!(holds("httproute/routed", accepted).as_deref(), Some("Accepted ResolvedRefs"));
    assert_eq!(
        holds("gatewayclass/kong", "{.status.conditions[0].type}={.status.conditions[0].status}").as_deref(),
        Some("Accepted=True")
    );
}
