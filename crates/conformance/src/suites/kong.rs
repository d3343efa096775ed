//! The gateway's router against the reference's recorded matches and path table.

use std::collections::BTreeMap;
use std::path::Path;

use gantry_gateway::entities::{Protocol, Route};
use gantry_gateway::router::{Explanation, Flavour, Headers, Request, Router, Scratch, path};
use serde_json::Value;

use super::Case;

/// Headers as a recorded request has them.
struct Recorded(Vec<(String, String)>);

impl Headers for Recorded {
    fn each_value(&self, name: &str, found: &mut dyn FnMut(&[u8])) {
        for (_, value) in self.0.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name)) {
            found(value.as_bytes());
        }
    }
}

/// What of a service decides about the outcome.
struct ServiceFacts {
    name: String,
    protocol: Option<Protocol>,
    path: String,
}

fn read(data: &Path, file: &str) -> Option<Value> {
    let text = std::fs::read_to_string(data.join("kong").join(file)).ok()?;
    serde_json::from_str(&text).ok()
}

/// `kong/router_traditional_cases.json`: a set of routes, a request, the match.
pub(crate) fn router_traditional(data: &Path) -> Option<Vec<Case>> {
    let data = read(data, "router_traditional_cases.json")?;
    let cases = data["cases"].as_array()?;
    let judged = cases.iter().map(|case| {
        let name = case["test"].as_str().unwrap_or_default();
        let set = case["routes"].as_str().unwrap_or_default();
        Case::new(name, matched(case, &data["routes"][set]))
    });
    Some(judged.collect())
}

/// Reads one definition as the recorder wrote it: a Lua table that is empty is `{}` even where a list is meant, and
/// what a schema would fill in is absent.
fn definition(definition: &Value) -> Result<(Route, Option<ServiceFacts>), String> {
    let mut route = definition["route"].clone();
    let fields = route.as_object_mut().ok_or("a route that is no object")?;
    fields.entry("strip_path").or_insert(Value::Bool(false));
    for list in ["paths", "hosts", "methods", "snis", "sources", "destinations"] {
        if fields.get(list).is_some_and(Value::is_object) {
            fields.insert(list.to_owned(), Value::Array(Vec::new()));
        }
    }
    let route: Route = serde_json::from_value(route).map_err(|error| error.to_string())?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let service = definition.get("service").map(|service| ServiceFacts {
        name: text(&service["name"]),
        protocol: serde_json::from_value(service["protocol"].clone()).ok(),
        path: service["path"].as_str().unwrap_or("/").to_owned(),
    });
    Ok((route, service))
}

fn matched(case: &Value, set: &Value) -> Result<(), String> {
    let mut routes = Vec::new();
    let mut services = Vec::new();
    for entry in set.as_array().ok_or("no routes")? {
        let (route, service) = definition(entry)?;
        routes.push(route);
        services.push(service);
    }
    let given = &case["request"];
    let text = |name: &str| given.get(name).and_then(Value::as_str);
    let number =
        |name: &str| given.get(name).and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok());
    let address = |name: &str| text(name).and_then(|ip| ip.parse().ok());
    let is_whole = case["call"] == "exec";
    let raw = if is_whole { text("request_uri") } else { text("path") }.unwrap_or_default();
    let without_query = raw.split_once('?').map_or(raw, |(path, _)| path);
    let request_path = if is_whole {
        path::normalize(without_query.as_bytes()).into_owned()
    } else {
        raw.as_bytes().to_vec()
    };
    let headers = Recorded(headers(given, is_whole));
    let host = if is_whole { text("http_host") } else { text("host") };
    let request = Request {
        method: text("method").unwrap_or_default().as_bytes(),
        path: &request_path,
        host,
        scheme: text("scheme").unwrap_or(if is_whole { "http" } else { "" }),
        sni: text("sni"),
        src_ip: address("src_ip"),
        src_port: number("src_port"),
        dst_ip: address("dst_ip"),
        dst_port: number("dst_port"),
        query: b"",
        headers: &headers,
    };
    let expected = &case["expected"];
    let router = match Router::new(&routes, Flavour::Traditional) {
        Ok(router) => router,
        Err(_) if expected.get("error").is_some() => return Ok(()),
        Err(error) => return Err(error.to_string()),
    };
    let found = match (router.select(&request, &mut Scratch::default()), expected.is_null()) {
        (None, true) => return Ok(()),
        (None, false) => return Err(format!("nothing matched, expected {}", expected["route_id"])),
        (Some(found), true) => return Err(format!("matched {}, expected nothing", routes[found.route].id)),
        (Some(found), false) => found,
    };
    let route = &routes[found.route];
    same("route", &expected["route_id"], Some(&route.id).filter(|_| !expected["route_id"].is_null()))?;
    explained(&router.explain(&request, &found), &expected["matches"])?;
    let Some(service) = &services[found.route] else { return Ok(()) };
    same("service", &expected["service_name"], Some(&service.name))?;
    if !service.protocol.is_some_and(Protocol::is_http) {
        return Ok(());
    }
    let upstream_path = path::upstream_path(
        service.path.as_bytes(),
        &request_path,
        found.postfix(&request_path),
        route.strip_path,
        route.path_handling,
    );
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    same("upstream path", &expected["upstream_uri"], Some(&lossy(&upstream_path)))?;
    let prefix = found.prefix_len.filter(|_| route.strip_path).map(|len| lossy(&request_path[..len]));
    same("prefix", &expected["prefix"], prefix.as_ref())?;
    let upstream_host = host.filter(|_| route.preserve_host).map(str::to_owned);
    same("upstream host", &expected["upstream_host"], upstream_host.as_ref())
}

fn headers(given: &Value, is_whole: bool) -> Vec<(String, String)> {
    let mut headers = Vec::new();
    for (name, value) in given.get("headers").and_then(Value::as_object).into_iter().flatten() {
        if is_whole && name == "host" {
            continue;
        }
        let values = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        for value in values.iter().filter_map(Value::as_str) {
            headers.push((name.clone(), value.to_owned()));
        }
    }
    headers
}

fn same(what: &str, expected: &Value, found: Option<&String>) -> Result<(), String> {
    if expected.as_str() == found.map(String::as_str) {
        return Ok(());
    }
    Err(format!("{what} {found:?}, expected {expected}"))
}

fn explained(found: &Explanation, expected: &Value) -> Result<(), String> {
    let of = |name: &str| expected.get(name).cloned().unwrap_or_default();
    same("host", &of("host"), found.host.as_ref())?;
    same("uri", &of("uri"), found.uri.as_ref())?;
    same("method", &of("method"), found.method.as_ref())?;
    same("sni", &of("sni"), found.sni.as_ref())?;
    same("source", &of("src_ip"), found.src_ip.as_ref())?;
    same("destination", &of("dst_ip"), found.dst_ip.as_ref())?;
    for (name, port) in [("src_port", found.src_port), ("dst_port", found.dst_port)] {
        if of(name).as_u64() != port.map(u64::from) {
            return Err(format!("{name} {port:?}, expected {}", of(name)));
        }
    }
    for (name, pairs) in [("headers", &found.headers), ("uri_captures", &found.captures)] {
        let found: BTreeMap<&str, &str> =
            pairs.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let expected = of(name);
        let wanted: BTreeMap<&str, &str> = expected
            .as_object()
            .into_iter()
            .flatten()
            .filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
            .collect();
        if found != wanted {
            return Err(format!("{name} {found:?}, expected {wanted:?}"));
        }
    }
    Ok(())
}

/// `kong/router_path_handling.json`: service path, route path, options and request path to the path that is sent.
pub(crate) fn router_path_handling(data: &Path) -> Option<Vec<Case>> {
    let data = read(data, "router_path_handling.json")?;
    let rows = data["cases"].as_array()?;
    Some(rows.iter().map(|row| Case::new(row.to_string(), path_row(row))).collect())
}

fn path_row(row: &Value) -> Result<(), String> {
    let text = |name: &str| row.get(name).and_then(Value::as_str);
    let route = Route {
        hosts: Some(vec!["host".to_owned()]),
        paths: text("route_path").map(|path| vec![path.to_owned()]),
        strip_path: row["strip_path"].as_bool().unwrap_or_default(),
        path_handling: serde_json::from_value(row["path_handling"].clone())
            .map_err(|error| error.to_string())?,
        ..Route::default()
    };
    let router =
        Router::new(std::slice::from_ref(&route), Flavour::Traditional).map_err(|error| error.to_string())?;
    let request_path = path::normalize(text("request_path").unwrap_or_default().as_bytes()).into_owned();
    let headers = Recorded(Vec::new());
    let request = Request {
        method: b"GET",
        path: &request_path,
        host: Some("host"),
        scheme: "http",
        sni: None,
        src_ip: None,
        src_port: None,
        dst_ip: None,
        dst_port: None,
        query: b"",
        headers: &headers,
    };
    let found = router.select(&request, &mut Scratch::default()).ok_or("nothing matched")?;
    let upstream_path = path::upstream_path(
        text("service_path").unwrap_or("/").as_bytes(),
        &request_path,
        found.postfix(&request_path),
        route.strip_path,
        route.path_handling,
    );
    same("path", &row["expected_path"], Some(&String::from_utf8_lossy(&upstream_path).into_owned()))
}
