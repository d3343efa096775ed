//! KongUpstreamPolicies: how the upstreams of a Service choose among their targets.

use crate::annotations::Annotations;
use crate::kinds::UpstreamPolicySpec;
use crate::subject::{Kind, Subject};
use crate::translate::Building;
use gantry_gateway::entities::{Algorithm, HashOn, Upstream};
use k8s_openapi::api::core::v1::Service;
use serde_json::Value;

/// What of a policy is not done here.
fn unsupported(spec: &UpstreamPolicySpec) -> Vec<&'static str> {
    let fields =
        [(spec.healthchecks.is_some(), "healthchecks"), (spec.sticky_sessions.is_some(), "stickySessions")];
    fields.into_iter().filter(|(is_given, _)| *is_given).map(|(_, name)| name).collect()
}

/// Names as Kong writes them, those of a map's own entries left as they are.
fn snake_case(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let entries = map.iter().map(|(name, value)| {
                let mut snake = String::with_capacity(name.len() + 4);
                for c in name.chars() {
                    if c.is_ascii_uppercase() {
                        snake.push('_');
                    }
                    snake.push(c.to_ascii_lowercase());
                }
                let value = if name == "headers" { value.clone() } else { snake_case(value) };
                (snake, value)
            });
            Value::Object(entries.collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(snake_case).collect()),
        other => other.clone(),
    }
}

/// What is hashed, and under which name.
struct Hashed {
    on: HashOn,
    name: Option<String>,
    cookie_path: Option<String>,
}

fn hashed(value: &Value) -> Result<Hashed, String> {
    let text = |field: &str| value[field].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let of = |on: HashOn, name: Option<String>| Hashed { on, name, cookie_path: text("cookiePath") };
    for (field, on) in [
        ("header", HashOn::Header),
        ("cookie", HashOn::Cookie),
        ("queryArg", HashOn::QueryArg),
        ("uriCapture", HashOn::UriCapture),
    ] {
        if let Some(name) = text(field) {
            return Ok(of(on, Some(name)));
        }
    }
    let input = text("input").unwrap_or_else(|| "none".to_owned());
    match input.as_str() {
        "none" => Ok(of(HashOn::None, None)),
        "consumer" => Ok(of(HashOn::Consumer, None)),
        "ip" => Ok(of(HashOn::Ip, None)),
        "path" => Ok(of(HashOn::Path, None)),
        other => Err(format!("input: found {other:?}, expected none, consumer, ip or path")),
    }
}

/// Puts what is hashed into the upstream's fields.
fn apply_hashing(spec: &UpstreamPolicySpec, upstream: &mut Upstream) -> Result<(), String> {
    if let Some(value) = &spec.hash_on {
        let Hashed { on, name, cookie_path } = hashed(value).map_err(|reason| format!("hashOn: {reason}"))?;
        upstream.hash_on = on;
        match on {
            HashOn::Header => upstream.hash_on_header = name,
            HashOn::Cookie => upstream.hash_on_cookie = name,
            HashOn::QueryArg => upstream.hash_on_query_arg = name,
            HashOn::UriCapture => upstream.hash_on_uri_capture = name,
            _ => {}
        }
        if let Some(path) = cookie_path {
            upstream.hash_on_cookie_path = path;
        }
    }
    if let Some(value) = &spec.hash_on_fallback {
        let Hashed { on, name, .. } = hashed(value).map_err(|reason| format!("hashOnFallback: {reason}"))?;
        upstream.hash_fallback = on;
        match on {
            HashOn::Header => upstream.hash_fallback_header = name,
            HashOn::Cookie => upstream.hash_on_cookie = name,
            HashOn::QueryArg => upstream.hash_fallback_query_arg = name,
            HashOn::UriCapture => upstream.hash_fallback_uri_capture = name,
            _ => {}
        }
    }
    Ok(())
}

impl Building<'_> {
    /// Changes an upstream as the policy of the Service says; what is not done is told at the Service.
    pub(crate) fn apply_upstream_policy(&mut self, service: &Service, upstream: &mut Upstream) {
        let Some(name) = Annotations::of(&service.metadata).upstream_policy() else { return };
        let subject = Subject::of(Kind::Service, &service.metadata);
        let namespace = service.metadata.namespace.as_deref();
        let is_meant = |meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta| {
            meta.name.as_deref() == Some(name) && meta.namespace.as_deref() == namespace
        };
        let policies = &self.input.upstream_policies;
        let Some(policy) = policies.iter().find(|policy| is_meant(&policy.metadata)) else {
            let namespace = namespace.unwrap_or_default();
            self.problem(
                &subject,
                format!("failed fetching KongUpstreamPolicy {namespace}/{name}: not found"),
            );
            return;
        };
        let spec = &policy.spec;
        upstream.slots = spec.slots.unwrap_or(upstream.slots);
        upstream.healthchecks = spec.healthchecks.as_ref().map(snake_case);
        match spec.algorithm.as_deref() {
            None | Some("round-robin") => {}
            Some("least-connections") => upstream.algorithm = Algorithm::LeastConnections,
            Some("consistent-hashing") => upstream.algorithm = Algorithm::ConsistentHashing,
            Some("latency") => upstream.algorithm = Algorithm::Latency,
            Some(other) => {
                let message = format!(
                    "KongUpstreamPolicy {name:?}: algorithm: found {other:?}, this gateway does round-robin, least-connections, consistent-hashing or latency; round-robin is used"
                );
                self.problem(&subject, message);
            }
        }
        if let Err(reason) = apply_hashing(spec, upstream) {
            self.problem(&subject, format!("KongUpstreamPolicy {name:?}: {reason}"));
        }
        let fields = unsupported(spec);
        if !fields.is_empty() {
            let fields = fields.join(", ");
            self.problem(
                &subject,
                format!("KongUpstreamPolicy {name:?}: {fields}: not done by this gateway"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_hashed_goes_to_the_fields_of_its_kind() {
        let applied = |hash_on: Value, fallback: Value| {
            let spec = UpstreamPolicySpec {
                hash_on: Some(hash_on),
                hash_on_fallback: Some(fallback),
                ..UpstreamPolicySpec::default()
            };
            let mut upstream = Upstream::default();
            apply_hashing(&spec, &mut upstream).map(|()| upstream)
        };
        let upstream = applied(json!({"header": "x-session"}), json!({"input": "ip"})).unwrap();
        assert_eq!(
            (upstream.hash_on, upstream.hash_on_header.as_deref()),
            (HashOn::Header, Some("x-session"))
        );
        assert_eq!(upstream.hash_fallback, HashOn::Ip);
        let upstream = applied(json!({"cookie": "c", "cookiePath": "/a"}), json!({})).unwrap();
        assert_eq!((upstream.hash_on_cookie.as_deref(), &*upstream.hash_on_cookie_path), (Some("c"), "/a"));
        assert!(applied(json!({"input": "moon"}), json!({})).unwrap_err().starts_with("hashOn: input"));
    }

    #[test]
    fn names_become_kongs_but_those_of_headers_stay() {
        let given = json!({"active": {"httpPath": "/", "headers": {"X-Health": ["a"]}}});
        assert_eq!(snake_case(&given), json!({"active": {"http_path": "/", "headers": {"X-Health": ["a"]}}}));
    }
}
