//! From objects to entities: one pure function over what the stores hold.

use crate::annotations::{Annotations, closed};
use crate::class::Class;
use crate::paths::route_paths;
use gantry_gateway::entities::{Plugin, Route, Service as GatewayService, Snapshot, Target, Upstream};
use gantry_operator::Key;
use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{HTTPIngressPath, Ingress, IngressBackend, IngressServiceBackend};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// What is translated.
pub struct Input<'a> {
    pub class: &'a str,
    /// Whether Ingresses without a class are taken.
    pub claims_classless: bool,
    pub ingresses: Vec<Arc<Ingress>>,
    pub services: Vec<Arc<Service>>,
    pub endpoint_slices: Vec<Arc<EndpointSlice>>,
}

/// Something an object asks for that cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Problem {
    pub ingress: Key,
    pub message: String,
}

/// The outcome: entities, and what could not be made into one.
#[derive(Debug, Default)]
pub struct Translation {
    pub snapshot: Snapshot,
    pub problems: Vec<Problem>,
    /// Ingresses of our class.
    pub claimed: Vec<Key>,
}

/// The gateway's name of the upstream behind a Service's port.
pub(crate) fn upstream_name(key: &Key, port: &str) -> String {
    format!("{}.{}.{port}.svc", key.name(), key.namespace())
}

pub(crate) fn service_name(key: &Key, port: &str) -> String {
    format!("{}.{}.{port}", key.namespace(), key.name())
}

/// The Service behind an upstream of ours: what to scale when a request waits there.
pub fn service_of_upstream(upstream: &str) -> Option<Key> {
    let mut parts = upstream.split('.');
    let (name, namespace) = (parts.next()?, parts.next()?);
    let (_port, end) = (parts.next()?, parts.next()?);
    (end == "svc" && parts.next().is_none()).then(|| Key::new(namespace, name))
}

/// Tags as Kong's ingress controller writes them.
fn tags(meta: &ObjectMeta, kind: &str, group: &str) -> Vec<String> {
    let mut tags = vec![
        format!("k8s-name:{}", meta.name.as_deref().unwrap_or_default()),
        format!("k8s-namespace:{}", meta.namespace.as_deref().unwrap_or_default()),
        format!("k8s-kind:{kind}"),
    ];
    tags.extend(meta.uid.as_ref().map(|uid| format!("k8s-uid:{uid}")));
    if !group.is_empty() {
        tags.push(format!("k8s-group:{group}"));
    }
    tags.push("k8s-version:v1".to_owned());
    tags
}

/// The ports of a Service that carry TCP.
pub(crate) fn tcp_ports(service: &Service) -> impl Iterator<Item = &ServicePort> {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    ports.iter().filter(|port| port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP"))
}

struct Building<'a> {
    services: HashMap<Key, &'a Service>,
    slices: HashMap<Key, Vec<&'a EndpointSlice>>,
    /// By name, so that what several Ingresses share is there once.
    gateway_services: BTreeMap<String, GatewayService>,
    upstreams: BTreeMap<String, Upstream>,
    routes: BTreeMap<String, Route>,
    plugins: BTreeMap<String, Plugin>,
    /// Annotations of Services that were not understood, by the gateway's name of the service.
    service_faults: BTreeMap<String, Vec<String>>,
    problems: Vec<Problem>,
}

/// Translates everything.
pub fn translate(input: &Input<'_>) -> Translation {
    let mut slices: HashMap<Key, Vec<&EndpointSlice>> = HashMap::new();
    for slice in &input.endpoint_slices {
        let meta = &slice.metadata;
        let Some(service) = meta.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME_LABEL)) else {
            continue;
        };
        let key = Key::new(meta.namespace.as_deref().unwrap_or_default(), service);
        slices.entry(key).or_default().push(slice);
    }
    let mut building = Building {
        services: input.services.iter().map(|service| (Key::of(&**service), &**service)).collect(),
        slices,
        gateway_services: BTreeMap::new(),
        upstreams: BTreeMap::new(),
        routes: BTreeMap::new(),
        plugins: BTreeMap::new(),
        service_faults: BTreeMap::new(),
        problems: Vec::new(),
    };
    for service in &input.services {
        for port in tcp_ports(service) {
            building.add_service(&Key::of(&**service), service, port, &port.port.to_string());
        }
    }
    let class = Class { name: input.class, is_default: input.claims_classless };
    let mut claimed = Vec::new();
    for ingress in input.ingresses.iter().filter(|ingress| class.claims(ingress)) {
        claimed.push(Key::of(&**ingress));
        building.add_ingress(ingress);
    }
    let Building { gateway_services, upstreams, routes, plugins, mut problems, .. } = building;
    problems.sort();
    problems.dedup();
    let snapshot = Snapshot {
        services: gateway_services.into_values().collect(),
        routes: routes.into_values().collect(),
        upstreams: upstreams.into_values().collect(),
        plugins: plugins.into_values().collect(),
        ..Snapshot::default()
    };
    Translation { snapshot, problems, claimed }
}

impl Building<'_> {
    fn add_service(&mut self, key: &Key, service: &Service, port: &ServicePort, label: &str) -> String {
        let name = service_name(key, label);
        if self.gateway_services.contains_key(&name) {
            return name;
        }
        let upstream = upstream_name(key, label);
        let tags = tags(&service.metadata, "Service", "");
        let mut gateway_service = GatewayService {
            id: name.clone(),
            name: Some(name.clone()),
            host: upstream.clone(),
            port: u16::try_from(port.port).unwrap_or(80),
            path: Some("/".to_owned()),
            tags: tags.clone(),
            ..GatewayService::default()
        };
        let targets = self.targets(key, service, port);
        let mut faults = Vec::new();
        let annotations = Annotations::of(&service.metadata);
        let host_header = annotations.change_service(&mut gateway_service, &mut faults);
        if faults.iter().any(|fault| fault.closes) {
            let plugin = closed(&name, false);
            self.plugins.insert(plugin.id.clone(), plugin);
        }
        if !faults.is_empty() {
            let messages =
                faults.into_iter().map(|fault| format!("service {:?}: {}", key.name(), fault.message));
            self.service_faults.insert(name.clone(), messages.collect());
        }
        let entity = Upstream {
            id: upstream.clone(),
            name: upstream.clone(),
            targets,
            tags,
            host_header,
            ..Upstream::default()
        };
        self.gateway_services.insert(name.clone(), gateway_service);
        self.upstreams.insert(upstream, entity);
        name
    }

    /// The ready endpoints; those that are terminating are not among them, whatever else they are.
    fn targets(&self, key: &Key, service: &Service, port: &ServicePort) -> Vec<Target> {
        let spec = service.spec.as_ref();
        if let Some(name) =
            spec.and_then(|spec| spec.external_name.as_deref()).filter(|name| !name.is_empty())
        {
            return vec![target(name, port.port)];
        }
        let mut targets = Vec::new();
        for slice in self.slices.get(key).into_iter().flatten() {
            let named =
                |other: Option<&str>| other.unwrap_or_default() == port.name.as_deref().unwrap_or_default();
            let ports = slice.ports.as_deref().unwrap_or_default();
            let Some(number) =
                ports.iter().find(|port| named(port.name.as_deref())).and_then(|port| port.port)
            else {
                continue;
            };
            for endpoint in slice.endpoints.iter().flatten() {
                let conditions = endpoint.conditions.as_ref();
                let is_ready = conditions.and_then(|conditions| conditions.ready).unwrap_or(true);
                let is_leaving = conditions.and_then(|conditions| conditions.terminating).unwrap_or(false);
                if is_ready && !is_leaving {
                    targets.extend(endpoint.addresses.iter().map(|address| target(address, number)));
                }
            }
        }
        targets.sort_by(|a, b| a.target.cmp(&b.target));
        targets.dedup_by(|a, b| a.target == b.target);
        targets
    }

    /// The gateway service behind an Ingress backend.
    fn backend(
        &mut self,
        backend: &IngressBackend,
        ingress: &Key,
    ) -> Result<(String, String, String), String> {
        let Some(reference) = &backend.service else {
            return Err("a backend without a service is not supported".to_owned());
        };
        let namespace = ingress.namespace();
        let key = Key::new(namespace, &reference.name);
        let Some(service) = self.services.get(&key).copied() else {
            return Err(format!("there is no service {:?} in namespace {namespace:?}", reference.name));
        };
        let label = port_label(reference);
        let Some(port) = tcp_ports(service).find(|port| is_named(port, reference)) else {
            let known: Vec<String> = tcp_ports(service)
                .map(|port| {
                    port.name
                        .clone()
                        .map_or_else(|| port.port.to_string(), |name| format!("{} ({name})", port.port))
                })
                .collect();
            return Err(format!(
                "service {:?} has no port {label:?}, it has: {}",
                reference.name,
                known.join(", ")
            ));
        };
        let name = self.add_service(&key, service, port, &label);
        for message in self.service_faults.get(&name).into_iter().flatten() {
            self.problems.push(Problem { ingress: ingress.clone(), message: message.clone() });
        }
        Ok((name, reference.name.clone(), label))
    }

    fn add_ingress(&mut self, ingress: &Ingress) {
        let key = Key::of(ingress);
        let Some(spec) = &ingress.spec else { return };
        let default = spec.default_backend.as_ref();
        for rule in spec.rules.iter().flatten() {
            let host = rule.host.as_deref().unwrap_or_default();
            match &rule.http {
                Some(http) => {
                    for path in &http.paths {
                        self.add_path(ingress, &key, host, path);
                    }
                }
                // A rule without paths sends its host to the default backend.
                None => {
                    if let Some(backend) = default {
                        self.add_default(ingress, &key, host, backend);
                    }
                }
            }
        }
        if let Some(backend) = default {
            self.add_default(ingress, &key, "", backend);
        }
    }

    fn add_path(&mut self, ingress: &Ingress, key: &Key, host: &str, path: &HTTPIngressPath) {
        let paths = route_paths(path.path.as_deref().unwrap_or_default(), &path.path_type);
        let (service, backend_name, port) = match self.backend(&path.backend, key) {
            Ok((service, name, port)) => (Some(service), name, port),
            Err(message) => {
                self.problems.push(Problem { ingress: key.clone(), message });
                let reference = path.backend.service.as_ref();
                let name = reference.map(|reference| reference.name.clone()).unwrap_or_default();
                (None, name, reference.map(port_label).unwrap_or_default())
            }
        };
        let name =
            format!("{}.{}.{backend_name}.{}.{port}", key.namespace(), key.name(), host.replace('*', "_"));
        let route =
            self.routes.entry(name.clone()).or_insert_with(|| route(ingress, name.clone(), host, service));
        let known = route.paths.get_or_insert_default();
        for path in paths {
            if !known.contains(&path) {
                known.push(path);
            }
        }
        self.annotate(ingress, key, &name);
    }

    fn add_default(&mut self, ingress: &Ingress, key: &Key, host: &str, backend: &IngressBackend) {
        let service = match self.backend(backend, key) {
            Ok((service, _, _)) => service,
            Err(message) => {
                self.problems.push(Problem { ingress: key.clone(), message });
                return;
            }
        };
        let mut name = format!("{}.{}", key.namespace(), key.name());
        if !host.is_empty() {
            name = format!("{name}.{}", host.replace('*', "_"));
        }
        let mut route = route(ingress, name.clone(), host, Some(service));
        route.paths = Some(vec!["/".to_owned()]);
        self.routes.insert(name.clone(), route);
        self.annotate(ingress, key, &name);
    }

    /// Lets the annotations of the Ingress change its route.
    fn annotate(&mut self, ingress: &Ingress, key: &Key, name: &str) {
        let annotations = Annotations::of(&ingress.metadata);
        let mut faults = Vec::new();
        if let Some(route) = self.routes.get_mut(name) {
            // The tags of annotations are added once, however many paths the route has.
            route.tags = tags(&ingress.metadata, "Ingress", "networking.k8s.io");
            annotations.change_route(route, &mut faults);
        }
        let closes = faults.iter().any(|fault| fault.closes).then(|| closed(name, true));
        for plugin in annotations.rewrite(name).into_iter().chain(closes) {
            self.plugins.insert(plugin.id.clone(), plugin);
        }
        for fault in faults {
            self.problems.push(Problem { ingress: key.clone(), message: fault.message });
        }
    }
}

fn target(host: &str, port: i32) -> Target {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    Target { target: format!("{host}:{port}"), ..Target::default() }
}

fn port_label(reference: &IngressServiceBackend) -> String {
    match &reference.port {
        Some(port) => match (&port.name, port.number) {
            (Some(name), _) if !name.is_empty() => name.clone(),
            (_, Some(number)) => number.to_string(),
            _ => String::new(),
        },
        None => String::new(),
    }
}

fn is_named(port: &ServicePort, reference: &IngressServiceBackend) -> bool {
    match &reference.port {
        Some(wanted) => match (&wanted.name, wanted.number) {
            (Some(name), _) if !name.is_empty() => port.name.as_deref() == Some(name),
            (_, Some(number)) => port.port == number,
            _ => false,
        },
        None => false,
    }
}

/// A route as the annotations' defaults make it.
fn route(ingress: &Ingress, name: String, host: &str, service: Option<String>) -> Route {
    let created = ingress.metadata.creation_timestamp.as_ref();
    Route {
        id: name.clone(),
        name: Some(name),
        hosts: (!host.is_empty()).then(|| vec![host.to_owned()]),
        strip_path: false,
        preserve_host: true,
        created_at: created.map(|time| time.0.as_second()),
        service,
        tags: tags(&ingress.metadata, "Ingress", "networking.k8s.io"),
        ..Route::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn object<T: serde::de::DeserializeOwned>(value: Value) -> Arc<T> {
        Arc::new(serde_json::from_value(value).unwrap())
    }

    fn service() -> Arc<Service> {
        object(json!({
            "metadata": {"name": "catalog", "namespace": "shop"},
            "spec": {"clusterIP": "127.96.0.5", "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
        }))
    }

    fn slice(conditions: &[Value]) -> Arc<EndpointSlice> {
        let endpoints: Vec<Value> = conditions
            .iter()
            .enumerate()
            .map(|(i, conditions)| json!({"addresses": [format!("127.1.0.{i}")], "conditions": conditions}))
            .collect();
        object(json!({
            "metadata": {"name": "catalog-1", "namespace": "shop", "labels": {SERVICE_NAME_LABEL: "catalog"}},
            "addressType": "IPv4",
            "endpoints": endpoints,
            "ports": [{"name": "http", "port": 8080}],
        }))
    }

    fn ingress(spec: Value) -> Arc<Ingress> {
        object(json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": spec}))
    }

    fn translated(ingresses: Vec<Arc<Ingress>>, slices: Vec<Arc<EndpointSlice>>) -> Translation {
        translate(&Input {
            class: "kong",
            claims_classless: false,
            ingresses,
            services: vec![service()],
            endpoint_slices: slices,
        })
    }

    fn path(path: &str, port: Value) -> Value {
        json!({"path": path, "pathType": "Prefix", "backend": {"service": {"name": "catalog", "port": port}}})
    }

    #[test]
    fn names_tags_and_paths_are_those_of_kongs_controller() {
        let web = ingress(json!({
            "ingressClassName": "kong",
            "rules": [{"host": "shop.org", "http": {"paths": [path("/a", json!({"number": 80})), path("/b", json!({"number": 80}))]}}],
        }));
        let translation = translated(vec![web], vec![]);
        assert_eq!(translation.problems, []);
        let [route] = translation.snapshot.routes.as_slice() else { panic!("{translation:?}") };
        assert_eq!(route.name.as_deref(), Some("shop.web.catalog.shop.org.80"));
        assert_eq!(route.paths.as_deref().unwrap(), ["/a/", "~/a$", "/b/", "~/b$"]);
        assert_eq!(route.tags[2..], ["k8s-kind:Ingress", "k8s-group:networking.k8s.io", "k8s-version:v1"]);
        assert!(route.preserve_host && !route.strip_path);
        let service = &translation.snapshot.services[0];
        assert_eq!(service.name.as_deref(), Some("shop.catalog.80"));
        assert_eq!(service.host, "catalog.shop.80.svc");
        assert_eq!(service_of_upstream(&service.host), Some(Key::new("shop", "catalog")));
        assert_eq!(service_of_upstream("example.org"), None);
    }

    #[test]
    fn only_ready_endpoints_that_stay_are_targets() {
        let slices = vec![slice(&[
            json!({"ready": true}),
            json!({"ready": false}),
            json!({"ready": true, "serving": true, "terminating": true}),
            json!({}),
        ])];
        let translation = translated(vec![], slices);
        let targets: Vec<&str> =
            translation.snapshot.upstreams[0].targets.iter().map(|target| target.target.as_str()).collect();
        assert_eq!(targets, ["127.1.0.0:8080", "127.1.0.3:8080"]);
    }

    #[test]
    fn references_that_lead_nowhere_are_told_and_answered_without_a_service() {
        let web = ingress(json!({
            "ingressClassName": "kong",
            "rules": [{"host": "shop.org", "http": {"paths": [
                path("/a", json!({"number": 81})),
                {"path": "/b", "pathType": "Exact", "backend": {"service": {"name": "nobody", "port": {"name": "http"}}}},
            ]}}],
        }));
        let translation = translated(vec![web], vec![]);
        let messages: Vec<&str> =
            translation.problems.iter().map(|problem| problem.message.as_str()).collect();
        assert_eq!(
            messages,
            [
                "service \"catalog\" has no port \"81\", it has: 80 (http)",
                "there is no service \"nobody\" in namespace \"shop\"",
            ]
        );
        assert!(translation.snapshot.routes.iter().all(|route| route.service.is_none()));
    }

    #[test]
    fn other_classes_are_left_alone_and_a_default_backend_takes_the_rest() {
        let spec = |class: Value| json!({"ingressClassName": class, "defaultBackend": {"service": {"name": "catalog", "port": {"name": "http"}}}});
        let translation = translated(vec![ingress(spec(json!("nginx"))), ingress(spec(json!(null)))], vec![]);
        assert!(translation.claimed.is_empty() && translation.snapshot.routes.is_empty());
        let translation = translated(vec![ingress(spec(json!("kong")))], vec![]);
        let route = &translation.snapshot.routes[0];
        assert_eq!((route.name.as_deref(), &route.hosts), (Some("shop.web"), &None));
        assert_eq!(route.service.as_deref(), Some("shop.catalog.http"));
    }
}
