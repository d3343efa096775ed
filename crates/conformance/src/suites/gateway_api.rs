//! The Gateway API's conformance requests: manifests in, a request through a running gateway, the answer judged.
//!
//! Every Service has one endpoint, a server that answers what it was asked; its name is what the cases call the backend.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use gantry_gateway::Gateway;
use gantry_ingress::{CONTROLLER_NAME, Translator};
use serde_json::{Map, Value, json};

use super::Case;
use super::kic_golden::{input, objects};

const CLASS: &str = "kong";
const NAMESPACE: &str = "gateway-conformance-infra";
/// A name for requests that are meant for the gateway's address.
const ANY_HOST: &str = "gateway.invalid";
/// Tells the answering server to add fields, as the suite's own does.
const SET_HEADER: &str = "x-echo-set-header";

/// `gateway-api/http_expectations.json`: each request of each test is a case.
pub(crate) fn cases(data: &Path) -> Option<Vec<Case>> {
    let folder = data.join("gateway-api");
    let text = std::fs::read_to_string(folder.join("http_expectations.json")).ok()?;
    let tests: Vec<Value> = serde_json::from_str(&text).ok()?;
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Some(Case::not_started("start a runtime", error)),
    };
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let config = gantry_gateway::Config { proxy_listen: vec![loopback], ..Default::default() };
    let gateway = match runtime.block_on(async { Gateway::start(config) }) {
        Ok(gateway) => gateway,
        Err(error) => return Some(Case::not_started("start the gateway", error)),
    };
    let Some(proxy) = gateway.listeners().first().map(|listener| listener.0) else {
        return Some(Case::not_started("start the gateway", "it listens nowhere"));
    };
    let world = World { gateway, translator: Translator::new() };
    let mut out = Vec::new();
    for test in &tests {
        let expectations = test["expect"].as_array().map(Vec::as_slice).unwrap_or_default();
        let name = test["test"].as_str().unwrap_or_default();
        let readable: Vec<&Value> = expectations.iter().filter(|one| is_readable(one)).collect();
        if readable.is_empty() {
            continue;
        }
        let ready = world.apply(&folder, test);
        for (number, expectation) in readable.into_iter().enumerate() {
            let outcome = match &ready {
                Ok(()) => judge(proxy, expectation),
                Err(error) => Err(error.clone()),
            };
            out.push(Case::new(format!("{name} {number}"), outcome));
        }
    }
    runtime.block_on(world.gateway.shutdown(Duration::ZERO));
    Some(out)
}

/// Whether all of the request is known: some are put together by the suite's own code.
fn is_readable(expectation: &Value) -> bool {
    let is_code = |value: &Value| value.get("$expr").is_some();
    let request = &expectation["Request"];
    !is_code(&request["Host"])
        && !is_code(&request["Path"])
        && !is_code(&expectation["Response"])
        && !is_code(&expectation["Response"]["StatusCode"])
        && !is_code(&expectation["Response"]["StatusCodes"])
}

struct World {
    gateway: Gateway,
    translator: Translator,
}

impl World {
    fn apply(&self, folder: &Path, test: &Value) -> Result<(), String> {
        let mut all = Vec::new();
        let base = "base-manifests.yaml".to_owned();
        let manifests = test["manifests"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let named = manifests.map(|name| name.replacen("tests/", "conformance/", 1));
        for file in std::iter::once(base).chain(named) {
            let path = folder.join(&file);
            let text = std::fs::read_to_string(&path).map_err(|error| format!("{file}: {error}"))?;
            all.extend(objects(&text.replace("{GATEWAY_CLASS_NAME}", CLASS)));
        }
        all.push(json!({"kind": "GatewayClass", "metadata": {"name": CLASS},
            "spec": {"controllerName": CONTROLLER_NAME}}));
        for object in &mut all {
            let has_namespace = object["metadata"]["namespace"].is_string();
            if !has_namespace && object["kind"] != "GatewayClass" && object["kind"] != "Namespace" {
                object["metadata"]["namespace"] = json!("default");
            }
        }
        let slices: Vec<Value> =
            all.iter().filter(|object| object["kind"] == "Service").filter_map(endpoint).collect();
        all.extend(slices);
        let translation = self.translator.translate(&input(&all)?);
        self.gateway.apply(translation.for_gateway()).map_err(|error| error.to_string())?;
        Ok(())
    }
}

/// A slice with one server for all ports of a Service.
fn endpoint(service: &Value) -> Option<Value> {
    let (name, namespace) =
        (service["metadata"]["name"].as_str()?, service["metadata"]["namespace"].as_str()?);
    let listener = TcpListener::bind("127.0.0.1:0").ok()?;
    let address = listener.local_addr().ok()?;
    let (own_name, own_namespace) = (name.to_owned(), namespace.to_owned());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (name, namespace) = (own_name.clone(), own_namespace.clone());
            std::thread::spawn(move || {
                // A client that went away has nothing to be told.
                let _ = echo(stream, &name, &namespace);
            });
        }
    });
    let ports: Vec<Value> = service["spec"]["ports"]
        .as_array()?
        .iter()
        .map(|port| json!({"name": port["name"], "port": address.port(), "protocol": "TCP"}))
        .collect();
    Some(json!({"kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": namespace, "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address.ip().to_string()], "conditions": {"ready": true}}],
        "ports": ports}))
}

/// Fields by lower-case name, several of a name joined.
type Fields = BTreeMap<String, String>;

/// The first line and the fields of a message.
fn read_head(reader: &mut impl BufRead) -> std::io::Result<Option<(String, Fields)>> {
    let mut first = String::new();
    if reader.read_line(&mut first)? == 0 {
        return Ok(None);
    }
    let mut fields = Fields::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            return Ok(Some((first.trim_end().to_owned(), fields)));
        }
        let Some((name, value)) = line.trim_end().split_once(':') else { continue };
        let value = value.trim();
        let known = fields.entry(name.to_ascii_lowercase());
        known.and_modify(|known| *known = format!("{known},{value}")).or_insert_with(|| value.to_owned());
    }
}

/// Answers requests with what they were, until the connection ends.
fn echo(stream: TcpStream, name: &str, namespace: &str) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    while let Some((first, fields)) = read_head(&mut reader)? {
        let length = fields.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        std::io::copy(&mut Read::by_ref(&mut reader).take(length), &mut std::io::sink())?;
        let mut words = first.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        std::thread::sleep(asked_delay(path));
        let body = json!({"service": name, "namespace": namespace, "method": method, "path": path, "fields": fields});
        let body = body.to_string();
        let mut extra = String::new();
        for pair in fields.get(SET_HEADER).map(String::as_str).unwrap_or_default().split(',') {
            if let Some((name, value)) = pair.split_once(':') {
                extra.push_str(&format!("{}: {}\r\n", name.trim(), value.trim()));
            }
        }
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{extra}\r\n", body.len());
        writer.write_all(head.as_bytes())?;
        if method != "HEAD" {
            writer.write_all(body.as_bytes())?;
        }
    }
    Ok(())
}

/// How long the answer is to take: `delay=1s` in the query.
fn asked_delay(path: &str) -> Duration {
    let text = path.split_once("delay=").map_or("", |(_, text)| text.split('&').next().unwrap_or_default());
    let (unit, number) = match text.strip_suffix("ms") {
        Some(number) => (1, number),
        None => (1_000, text.trim_end_matches('s')),
    };
    Duration::from_millis(number.parse::<u64>().unwrap_or(0) * unit)
}

struct Answer {
    status: u64,
    fields: Fields,
    body: String,
}

fn ask(proxy: SocketAddr, expectation: &Value) -> Result<Answer, String> {
    let request = &expectation["Request"];
    if request["Protocol"].get("$expr").is_some() {
        return Err("the request is not in HTTP/1.1".to_owned());
    }
    let text = |value: &Value, absent: &str| value.as_str().unwrap_or(absent).to_owned();
    let method = text(&request["Method"], "GET");
    let mut head = format!(
        "{method} {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n",
        text(&request["Path"], "/"),
        text(&request["Host"], ANY_HOST)
    );
    let pairs = |value: &Value| -> Vec<(String, String)> {
        let map = value.as_object().cloned().unwrap_or_default();
        map.into_iter().map(|(name, value)| (name, text(&value, ""))).collect()
    };
    for (name, value) in pairs(&request["Headers"]) {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let set: Vec<String> = pairs(&expectation["BackendSetResponseHeaders"])
        .into_iter()
        .map(|(name, value)| format!("{name}:{value}"))
        .collect();
    if !set.is_empty() {
        head.push_str(&format!("{SET_HEADER}: {}\r\n", set.join(",")));
    }
    head.push_str("Content-Length: 0\r\n\r\n");
    let asked = || -> std::io::Result<Option<Answer>> {
        let mut stream = TcpStream::connect(proxy)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.write_all(head.as_bytes())?;
        let mut reader = BufReader::new(stream);
        let Some((first, fields)) = read_head(&mut reader)? else { return Ok(None) };
        let mut body = String::new();
        reader.read_to_string(&mut body)?;
        let status = first.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        Ok(Some(Answer { status, fields, body }))
    };
    asked().map_err(|error| error.to_string())?.ok_or_else(|| "no answer".to_owned())
}

/// What the suite's constants are called in the expectations; `None` when nothing is expected.
fn constant(value: &Value) -> Result<Option<String>, String> {
    let code = value.get("$expr").and_then(Value::as_str);
    let known = match code {
        None => return Ok(value.as_str().map(str::to_owned)),
        Some("confsuite.InfraBackendServiceNameV1") => "infra-backend-v1",
        Some("confsuite.InfraBackendServiceNameV2") => "infra-backend-v2",
        Some("confsuite.InfraBackendServiceNameV3") => "infra-backend-v3",
        Some("ns" | "confsuite.InfrastructureNamespace") => NAMESPACE,
        Some("confsuite.WebBackendNamespace") => "gateway-conformance-web-backend",
        Some("suite.AppBackendNamespace") => "gateway-conformance-app-backend",
        Some(other) => return Err(format!("the suite's constant {other} is not known")),
    };
    Ok(Some(known.to_owned()))
}

fn same(what: &str, expected: &str, found: &str) -> Result<(), String> {
    if expected == found { Ok(()) } else { Err(format!("{what} {found:?}, expected {expected:?}")) }
}

fn judge(proxy: SocketAddr, expectation: &Value) -> Result<(), String> {
    if !expectation["MirroredTo"].is_null() {
        return Err("requests are not mirrored".to_owned());
    }
    let answer = ask(proxy, expectation)?;
    let expected = &expectation["Response"];
    let codes: Vec<u64> = match (&expected["StatusCodes"], &expected["StatusCode"]) {
        (Value::Array(codes), _) => {
            let code = |code: &Value| code.as_u64().ok_or_else(|| format!("status code {code} is not known"));
            codes.iter().map(code).collect::<Result<_, _>>()?
        }
        (_, code) => vec![code.as_u64().unwrap_or(200)],
    };
    if !codes.contains(&answer.status) {
        return Err(format!("status {}, expected {codes:?}: {}", answer.status, answer.body));
    }
    let ignores_space = expected["IgnoreWhitespace"].as_bool().unwrap_or_default();
    let tidy = |text: &str| if ignores_space { text.replace(' ', "") } else { text.replace(", ", ",") };
    for (name, value) in expected["Headers"].as_object().into_iter().flatten() {
        let found = answer.fields.get(&name.to_ascii_lowercase()).cloned().unwrap_or_default();
        same(name, &tidy(value.as_str().unwrap_or_default()), &tidy(&found))?;
    }
    for (name, values) in expected["ValidHeaderValues"].as_object().into_iter().flatten() {
        let found = answer.fields.get(&name.to_ascii_lowercase()).cloned().unwrap_or_default();
        let fits = |value: &Value| value.as_str().is_some_and(|value| tidy(value) == tidy(&found));
        if !values.as_array().is_some_and(|values| values.iter().any(fits)) {
            return Err(format!("{name} {found:?}, expected one of {values}"));
        }
    }
    for name in expected["AbsentHeaders"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if answer.fields.contains_key(&name.to_ascii_lowercase()) {
            return Err(format!("{name} is there"));
        }
    }
    if let Some(redirect) = expectation["RedirectRequest"].as_object() {
        return redirected(expectation, redirect, &answer);
    }
    if answer.status == 200 {
        return reached(expectation, &answer);
    }
    Ok(())
}

/// Judges what the backend saw.
fn reached(expectation: &Value, answer: &Answer) -> Result<(), String> {
    if expectation["Backend"].is_null() && expectation["ExpectedRequest"].is_null() {
        return Ok(());
    }
    // Only this method's answers have no body that says who gave them.
    if expectation["Request"]["Method"] == "HEAD" {
        return Ok(());
    }
    let seen: Value =
        serde_json::from_str(&answer.body).map_err(|_| format!("not a backend's: {}", answer.body))?;
    let seen_text = |name: &str| seen[name].as_str().unwrap_or_default();
    for (what, wanted, found) in [
        ("backend", &expectation["Backend"], seen_text("service")),
        ("namespace", &expectation["Namespace"], seen_text("namespace")),
    ] {
        if let Some(wanted) = constant(wanted)? {
            same(what, &wanted, found)?;
        }
    }
    let (request, expected) = (&expectation["Request"], &expectation["ExpectedRequest"]);
    let of = |name: &str| expected["Request"][name].as_str().or(request[name].as_str());
    same("path", of("Path").unwrap_or("/"), seen_text("path"))?;
    if let Some(host) = of("Host") {
        same("host", host, seen["fields"]["host"].as_str().unwrap_or_default())?;
    }
    same("method", of("Method").unwrap_or("GET"), seen_text("method"))?;
    for (name, value) in expected["Request"]["Headers"].as_object().into_iter().flatten() {
        let found = seen["fields"][name.to_ascii_lowercase()].as_str().unwrap_or_default();
        same(name, value.as_str().unwrap_or_default(), found)?;
    }
    for name in expected["AbsentHeaders"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !seen["fields"][name.to_ascii_lowercase()].is_null() {
            return Err(format!("the backend saw {name}"));
        }
    }
    Ok(())
}

/// Judges where the client was sent.
fn redirected(expectation: &Value, redirect: &Map<String, Value>, answer: &Answer) -> Result<(), String> {
    let location = answer.fields.get("location").ok_or("no Location")?;
    let (scheme, rest) = location.split_once("://").ok_or_else(|| format!("Location {location:?}"))?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (host, port) = authority.split_once(':').unwrap_or((authority, ""));
    let usual = |scheme: &str| if scheme == "https" { "443" } else { "80" }.to_owned();
    let given = |name: &str| redirect.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let asked = |name: &str, absent: &str| expectation["Request"][name].as_str().unwrap_or(absent).to_owned();
    let wanted_scheme = given("Scheme").unwrap_or("http");
    same("scheme", wanted_scheme, scheme)?;
    same("host", &given("Host").map_or_else(|| asked("Host", ANY_HOST), str::to_owned), host)?;
    let wanted_port = given("Port").map_or_else(|| usual(wanted_scheme), str::to_owned);
    same("port", &wanted_port, &if port.is_empty() { usual(scheme) } else { port.to_owned() })?;
    same("path", &given("Path").map_or_else(|| asked("Path", "/"), str::to_owned), path)
}

#[cfg(test)]
mod tests {
    use super::{Answer, Fields, constant, reached};
    use serde_json::json;

    #[test]
    fn an_answer_without_a_body_is_no_backends() {
        let answer = Answer { status: 200, fields: Fields::new(), body: String::new() };
        assert!(reached(&json!({"Backend": "infra-backend-v1"}), &answer).is_err());
        let head = json!({"Backend": "infra-backend-v1", "Request": {"Method": "HEAD"}});
        assert_eq!(reached(&head, &answer), Ok(()));
    }

    #[test]
    fn a_constant_that_is_not_known_is_an_error() {
        assert!(constant(&json!({"$expr": "tc.backend"})).is_err());
        assert_eq!(constant(&json!(null)), Ok(None));
    }
}
