//! `konghq.com/*` annotations of Ingresses and Services, and what they change of routes and services.
//!
//! An annotation that narrows who may pass and cannot be read, or that cannot be served, closes what it stands on: its
//! route answers an error, because a route that was meant to be protected must not be open by mistake. Any other that
//! cannot be read leaves its default in place. Both are told.

use gantry_gateway::entities::{PathHandling, Plugin, Protocol, Route, Service};
use gantry_kong_model::entity_id;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;
use std::collections::BTreeMap;

const PREFIX: &str = "konghq.com/";
/// Annotations whose effect is not built, the last three where they stand on a route: what they ask for changes who may
/// pass or how the service is reached.
const CLOSING: [&str; 4] =
    ["override", "client-cert", "ca-certificates-secrets", "ca-certificates-configmaps"];

/// Annotations that narrow which requests a route takes, or which endpoints get them: without them it would be more than
/// was meant.
const NARROWING: [&str; 6] = ["methods", "protocols", "snis", "tls-verify", "tls-verify-depth", "protocol"];

pub(crate) struct Annotations<'a>(Option<&'a BTreeMap<String, String>>);

/// What is wrong with an annotation.
pub(crate) struct Fault {
    pub(crate) message: String,
    /// Whether the route must not be served as if nothing were there.
    pub(crate) closes: bool,
}

fn list(value: &str) -> Vec<String> {
    value.split(',').map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
}

pub(crate) fn protocol(text: &str) -> Option<Protocol> {
    Some(match text {
        "http" => Protocol::Http,
        "https" => Protocol::Https,
        "grpc" => Protocol::Grpc,
        "grpcs" => Protocol::Grpcs,
        "tcp" => Protocol::Tcp,
        "tls" => Protocol::Tls,
        "tls_passthrough" => Protocol::TlsPassthrough,
        "udp" => Protocol::Udp,
        "ws" => Protocol::Ws,
        "wss" => Protocol::Wss,
        _ => return None,
    })
}

impl<'a> Annotations<'a> {
    pub(crate) fn of(meta: &'a ObjectMeta) -> Annotations<'a> {
        Annotations(meta.annotations.as_ref())
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        self.0?.get(&format!("{PREFIX}{name}")).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// A value that `read` understands; a fault says what was found and what would be accepted.
    fn read<T>(
        &self,
        name: &str,
        accepted: &str,
        faults: &mut Vec<Fault>,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.get(name)?;
        let value = read(text);
        if value.is_none() {
            let closes = NARROWING.contains(&name);
            let end = if closes { "; its routes answer 503" } else { "" };
            let message = format!("annotation {PREFIX}{name}: found {text:?}, expected {accepted}{end}");
            faults.push(Fault { message, closes });
        }
        value
    }

    fn flag(&self, name: &str, faults: &mut Vec<Fault>) -> Option<bool> {
        self.read(name, "true or false", faults, |text| text.trim().to_ascii_lowercase().parse().ok())
    }

    fn number(&self, name: &str, faults: &mut Vec<Fault>) -> Option<i64> {
        self.read(name, "a whole number", faults, |text| text.trim().parse().ok())
    }

    /// What cannot be served here.
    fn closing(&self, names: &[&str], faults: &mut Vec<Fault>) {
        for name in names {
            if let Some(value) = self.get(name) {
                let instead = match *name {
                    "override" => ": KongIngress is deprecated, use annotations and a KongUpstreamPolicy",
                    _ => "",
                };
                let message = format!(
                    "annotation {PREFIX}{name}: {value:?} is not supported{instead}; its routes answer 503"
                );
                faults.push(Fault { message, closes: true });
            }
        }
    }

    /// References to plugins, `name` or `namespace:name`.
    pub(crate) fn plugins(&self) -> Vec<String> {
        self.get("plugins").map(list).unwrap_or_default()
    }

    /// The Secret with the certificate that a Service's endpoints are shown.
    pub(crate) fn client_certificate(&self) -> Option<&'a str> {
        self.get("client-cert").map(str::trim)
    }

    /// The objects with the authorities that a Service's endpoints are checked against: kind and name.
    pub(crate) fn authorities(&self) -> Vec<(&'static str, String)> {
        let of = |name: &str, kind: &'static str| {
            self.get(name).map(list).unwrap_or_default().into_iter().map(move |name| (kind, name))
        };
        let secrets = of("ca-certificates-secrets", "Secret");
        secrets.chain(of("ca-certificates-configmaps", "ConfigMap")).collect()
    }

    /// The name of the KongUpstreamPolicy of a Service.
    pub(crate) fn upstream_policy(&self) -> Option<&'a str> {
        self.get("upstream-policy")
    }

    fn tags(&self) -> Vec<String> {
        self.get("tags").map(list).unwrap_or_default()
    }

    /// The host names a route has besides its rule's.
    fn aliases(&self) -> Vec<String> {
        self.get("host-aliases").map(list).unwrap_or_default()
    }

    /// Changes a route as its Ingress says.
    pub(crate) fn change_route(&self, route: &mut Route, faults: &mut Vec<Fault>) {
        if let Some(strip) = self.flag("strip-path", faults) {
            route.strip_path = strip;
        }
        if let Some(preserve) = self.flag("preserve-host", faults) {
            route.preserve_host = preserve;
        }
        if let Some(buffers) = self.flag("request-buffering", faults) {
            route.request_buffering = buffers;
        }
        if let Some(buffers) = self.flag("response-buffering", faults) {
            route.response_buffering = buffers;
        }
        if let Some(priority) = self.number("regex-priority", faults) {
            route.regex_priority = priority;
        }
        let protocols = self.read("protocols", "protocols such as http,https", faults, |text| {
            let all: Option<Vec<Protocol>> = list(text).iter().map(|text| protocol(text)).collect();
            all.filter(|all| !all.is_empty())
        });
        if let Some(protocols) = protocols {
            route.protocols = protocols;
        }
        let methods = self.read("methods", "methods such as GET,POST", faults, |text| {
            let all: Vec<String> = list(text).iter().map(|method| method.to_ascii_uppercase()).collect();
            let are_methods = all.iter().all(|method| method.bytes().all(|byte| byte.is_ascii_uppercase()));
            (are_methods && !all.is_empty()).then_some(all)
        });
        if let Some(methods) = methods {
            route.methods = Some(methods);
        }
        let status = self.read("https-redirect-status-code", "426, 301, 302, 307 or 308", faults, |text| {
            text.trim().parse().ok().filter(|status| [426, 301, 302, 307, 308].contains(status))
        });
        if let Some(status) = status {
            route.https_redirect_status_code = status;
        }
        let handling = self.read("path-handling", "v0 or v1", faults, |text| match text {
            "v0" => Some(PathHandling::V0),
            "v1" => Some(PathHandling::V1),
            _ => None,
        });
        if let Some(handling) = handling {
            route.path_handling = handling;
        }
        let snis = self.read("snis", "server names such as a.org,b.org", faults, |text| {
            Some(list(text)).filter(|all| !all.is_empty())
        });
        if let Some(snis) = snis {
            route.snis = Some(snis);
        }
        if let Some(hosts) = &mut route.hosts {
            for alias in self.aliases() {
                if !hosts.contains(&alias) {
                    hosts.push(alias);
                }
            }
        }
        let separator = self.get("headers-separator").unwrap_or(",");
        let start = format!("{PREFIX}headers.");
        for (name, value) in self.0.into_iter().flatten() {
            if let Some(header) = name.strip_prefix(&start) {
                let values = value.split(separator).map(|value| value.trim().to_owned()).collect();
                route.headers.get_or_insert_default().insert(header.to_owned(), values);
            }
        }
        if let Some(prefix) = self.get("regex-prefix").filter(|prefix| !prefix.is_empty()) {
            for path in route.paths.iter_mut().flatten() {
                if let Some(pattern) = path.strip_prefix(prefix) {
                    *path = format!("~{pattern}");
                }
            }
        }
        route.tags.extend(self.tags());
        self.closing(&CLOSING, faults);
    }

    /// Changes a service as its Kubernetes Service says; the host to send, where one is given, goes to the upstream.
    pub(crate) fn change_service(&self, service: &mut Service, faults: &mut Vec<Fault>) -> Option<String> {
        if let Some(protocol) = self.read("protocol", "a protocol such as http", faults, protocol) {
            service.protocol = protocol;
        }
        let path = self.read("path", "a path that begins with /", faults, |text| {
            text.starts_with('/').then(|| text.to_owned())
        });
        if let Some(path) = path {
            service.path = Some(path);
        }
        let retries = self.number("retries", faults).and_then(|retries| u16::try_from(retries).ok());
        service.retries = retries.unwrap_or(service.retries);
        for (name, timeout) in [
            ("connect-timeout", &mut service.connect_timeout),
            ("read-timeout", &mut service.read_timeout),
            ("write-timeout", &mut service.write_timeout),
        ] {
            if let Some(value) = self.number(name, faults).and_then(|value| u64::try_from(value).ok()) {
                *timeout = value;
            }
        }
        // A check that cannot be read must not be left out.
        let verify = self.flag("tls-verify", faults);
        service.tls_verify = verify.or(service.tls_verify);
        let depth = self.number("tls-verify-depth", faults).and_then(|depth| u16::try_from(depth).ok());
        service.tls_verify_depth = depth.or(service.tls_verify_depth);
        service.tags.extend(self.tags());
        self.closing(&CLOSING[..1], faults);
        self.get("host-header").map(str::to_owned)
    }

    /// The plugin that rewrites the path, where the Ingress asks for that: `$1` stands for what the path captured.
    pub(crate) fn rewrite(&self, route: &str) -> Option<Plugin> {
        let mut uri = String::new();
        let mut rest = self.get("rewrite")?;
        while let Some(at) = rest.find('$') {
            uri.push_str(&rest[..at]);
            let digits = rest[at + 1..].bytes().take_while(u8::is_ascii_digit).count();
            if digits == 0 {
                uri.push('$');
            } else {
                uri.push_str(&format!("$(uri_captures[{}])", &rest[at + 1..at + 1 + digits]));
            }
            rest = &rest[at + 1 + digits..];
        }
        uri.push_str(rest);
        Some(Plugin {
            id: entity_id("plugins", &format!("request-transformer:route/{route}")),
            name: "request-transformer".to_owned(),
            config: json!({"replace": {"uri": uri}}),
            route: Some(route.to_owned()),
            ..Plugin::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(pairs: &[(&str, &str)]) -> (Route, Vec<String>, bool) {
        let all =
            pairs.iter().map(|(name, value)| (format!("{PREFIX}{name}"), (*value).to_owned())).collect();
        let annotations = Annotations(Some(&all));
        let mut route = Route { hosts: Some(vec!["shop.org".into()]), ..Route::default() };
        let mut faults = Vec::new();
        annotations.change_route(&mut route, &mut faults);
        let closes = faults.iter().any(|fault| fault.closes);
        (route, faults.into_iter().map(|fault| fault.message).collect(), closes)
    }

    #[test]
    fn a_route_is_what_its_annotations_say() {
        let (route, faults, _) = changed(&[
            ("strip-path", "true"),
            ("methods", "get, POST"),
            ("protocols", "https"),
            ("https-redirect-status-code", "308"),
            ("host-aliases", "a.org,b.org"),
            ("headers.x-kind", "a,b"),
            ("regex-priority", "10"),
            ("tags", "x"),
        ]);
        assert_eq!(faults, Vec::<String>::new());
        assert!(route.strip_path);
        assert_eq!(route.methods.as_deref().unwrap(), ["GET", "POST"]);
        assert_eq!(route.protocols, [Protocol::Https]);
        assert_eq!(route.https_redirect_status_code, 308);
        assert_eq!(route.hosts.as_deref().unwrap(), ["shop.org", "a.org", "b.org"]);
        assert_eq!(route.headers.unwrap()["x-kind"], ["a", "b"]);
        assert_eq!((route.regex_priority, route.tags), (10, vec!["x".to_owned()]));
    }

    #[test]
    fn what_is_not_understood_is_told_and_what_protects_closes() {
        let (_, faults, closes) = changed(&[("strip-path", "maybe")]);
        assert_eq!(faults, ["annotation konghq.com/strip-path: found \"maybe\", expected true or false"]);
        assert!(!closes);
        for (name, value) in
            [("methods", "G3T"), ("methods", ","), ("protocols", "htps"), ("protocols", ","), ("snis", " ")]
        {
            let (_, faults, closes) = changed(&[(name, value)]);
            assert!(closes && faults[0].ends_with("; its routes answer 503"), "{name}: {faults:?}");
        }
        let (_, faults, closes) = changed(&[("client-cert", "auth")]);
        assert!(closes && faults[0].contains("konghq.com/client-cert"), "{faults:?}");
    }

    #[test]
    fn a_rewrite_is_a_plugin_of_the_route() {
        let all = BTreeMap::from([(format!("{PREFIX}rewrite"), "/api/$1/x".to_owned())]);
        let plugin = Annotations(Some(&all)).rewrite("shop.web").unwrap();
        assert_eq!(plugin.config["replace"]["uri"], "/api/$(uri_captures[1])/x");
    }
}
