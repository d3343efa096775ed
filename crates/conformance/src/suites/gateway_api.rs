//! The Gateway API's conformance requests: manifests in, a request through a running gateway, the answer judged.
//!
//! Every Service has one endpoint, a server that answers what it was asked; its name is what the cases call the backend.
//! The expectations do not say which Gateway and port they are for. A test goes through those that its routes name in
//! order: a request is for the one before it, or, where that has no such answer, for one of those that follow.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use gantry_gateway::Gateway;
use serde_json::{Map, Value};

use super::Case;
use super::gateway_world::{ANY_HOST, Answer, Door, World};

const NAMESPACE: &str = "gateway-conformance-infra";
/// Requests from which the share of a mirror is told, and how far it may be off, in percent.
const MIRROR_SAMPLE: usize = 100;
const MIRROR_TOLERANCE: usize = 10;
/// Looks at whether a copy has arrived, ten milliseconds apart.
const MIRROR_LOOKS: usize = 300;
/// In tests of this feature a request that nothing is said about must not get in.
const CLIENT_CERTIFICATES: &str = "SupportGatewayFrontendClientCertificateValidation";

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
    let world = match World::new(gateway) {
        Ok(world) => world,
        Err(error) => return Some(Case::not_started("start the gateway", error)),
    };
    let mut out = Vec::new();
    for test in &tests {
        let expectations = test["expect"].as_array().map(Vec::as_slice).unwrap_or_default();
        let name = test["test"].as_str().unwrap_or_default();
        let readable: Vec<&Value> = expectations.iter().filter(|one| is_readable(one)).collect();
        if readable.is_empty() {
            continue;
        }
        let mut hosts: Vec<String> = readable
            .iter()
            .filter_map(|one| one["Request"]["Host"].as_str())
            .map(|host| host.split(':').next().unwrap_or_default().to_owned())
            .collect();
        hosts.push(ANY_HOST.to_owned());
        hosts.sort();
        hosts.dedup();
        let ready = world.apply(&folder, test, &hosts);
        let features = test["features"].as_array().into_iter().flatten();
        let checks_clients = features.into_iter().any(|feature| feature == CLIENT_CERTIFICATES);
        let mut at = 0;
        for (number, expectation) in readable.into_iter().enumerate() {
            let outcome = match &ready {
                Ok(doors) => judge_in_order(&world, doors, &mut at, expectation, checks_clients),
                Err(error) => Err(error.clone()),
            };
            out.push(Case::new(format!("{name} {number}"), outcome));
        }
    }
    runtime.block_on(world.gateway.shutdown(Duration::ZERO));
    Some(out)
}

/// Judges at the door of the request before; where the answer is another one and something is to be found, at those that
/// follow. A refusal is only ever asked of the door that is due.
fn judge_in_order(
    world: &World,
    doors: &[Door],
    at: &mut usize,
    expectation: &Value,
    checks_clients: bool,
) -> Result<(), String> {
    let (has_answer, has_backend) = (!expectation["Response"].is_null(), !expectation["Backend"].is_null());
    if checks_clients && !has_answer && !has_backend {
        let secure = doors.iter().filter(|door| door.is_tls);
        let got_in = secure.filter_map(|door| world.ask(door, expectation, false).ok()).next();
        return got_in
            .map_or(Ok(()), |answer| Err(format!("let in without a certificate: {}", answer.status)));
    }
    let port = expectation["Request"]["Host"].as_str().and_then(|host| host.split_once(':')?.1.parse().ok());
    let fits = |door: &Door| port.is_none_or(|port: u16| port == door.port);
    let seeks = has_backend
        || !expectation["RedirectRequest"].is_null()
        || expectation["Response"]["StatusCode"] == 200;
    let first = (*at..doors.len()).find(|&number| fits(&doors[number])).unwrap_or(0);
    let outcome = judge(world, &doors[first], expectation, checks_clients);
    if outcome.is_ok() {
        *at = first;
    }
    if outcome.is_ok() || !seeks {
        return outcome;
    }
    for number in (first + 1..doors.len()).filter(|&number| fits(&doors[number])) {
        if judge(world, &doors[number], expectation, checks_clients).is_ok() {
            *at = number;
            return Ok(());
        }
    }
    outcome
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

/// How often a mirror has seen the path of an expectation.
fn copies(world: &World, expectation: &Value, mirror: &Value) -> Result<usize, String> {
    let path = expectation["Request"]["Path"].as_str().unwrap_or("/");
    let service = constant(&mirror["BackendRef"]["Name"])?.unwrap_or_default();
    let namespace = constant(&mirror["BackendRef"]["Namespace"])?.unwrap_or_default();
    Ok(world.seen(&namespace, &service, path))
}

/// Judges who gets copies of a request, with as many further ones as that takes.
fn mirrored(
    world: &World,
    door: &Door,
    expectation: &Value,
    mirrors: &[(&Value, usize)],
) -> Result<(), String> {
    for (mirror, before) in mirrors {
        let percent = match mirror["Percent"].get("$expr").and_then(Value::as_str) {
            None => 100,
            Some(code) => {
                let digits = code.rsplit('(').next().unwrap_or_default().trim_end_matches(')');
                digits.parse::<usize>().map_err(|_| format!("the share {code} is not known"))?
            }
        };
        // One has been asked already.
        let requests = if percent == 100 { 1 } else { MIRROR_SAMPLE };
        for _ in 1..requests {
            world.ask(door, expectation, false)?;
        }
        let (wanted, slack) = (requests * percent / 100, if requests == 1 { 0 } else { MIRROR_TOLERANCE });
        let mut found = 0;
        for _ in 0..MIRROR_LOOKS {
            found = copies(world, expectation, mirror)? - before;
            if found + slack >= wanted {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        if found.abs_diff(wanted) > slack {
            let service = constant(&mirror["BackendRef"]["Name"])?.unwrap_or_default();
            return Err(format!("{service} got {found} copies of {requests} requests, expected {wanted}"));
        }
    }
    Ok(())
}

fn judge(world: &World, door: &Door, expectation: &Value, shows_certificate: bool) -> Result<(), String> {
    let mirrors = expectation["MirroredTo"].as_array().into_iter().flatten();
    let mirrors: Vec<(&Value, usize)> = mirrors
        .map(|mirror| Ok((mirror, copies(world, expectation, mirror)?)))
        .collect::<Result<_, String>>()?;
    let answer = world.ask(door, expectation, shows_certificate)?;
    mirrored(world, door, expectation, &mirrors)?;
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
    use super::{Answer, constant, reached};
    use crate::suites::gateway_world::Fields;
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
