//! From objects to entities: one pure function over what the stores hold.

use crate::class::Class;
use crate::consumers::Known;
use crate::kinds::{
    Gateway, GatewayClass, HttpRoute, KongClusterPlugin, KongConsumer, KongPlugin, KongUpstreamPolicy,
    ListenerSet, ReferenceGrant, TlsRoute,
};
use crate::listeners::{self, Way};
use crate::plugins::Asked;
use crate::subject::{Problem, Subject};
use gantry_gateway::entities::{
    CaCertificate, Certificate, Plugin, Route, Service as GatewayService, Snapshot, Upstream,
};
use gantry_kong_model::{Model, entity_id};
use gantry_operator::Key;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::Ingress;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// What is translated.
#[derive(Default)]
pub struct Input<'a> {
    pub class: &'a str,
    /// Whether objects without a class are taken.
    pub claims_classless: bool,
    pub ingresses: Vec<Arc<Ingress>>,
    pub services: Vec<Arc<Service>>,
    pub endpoint_slices: Vec<Arc<EndpointSlice>>,
    pub secrets: Vec<Arc<Secret>>,
    pub config_maps: Vec<Arc<ConfigMap>>,
    pub namespaces: Vec<Arc<Namespace>>,
    pub plugins: Vec<Arc<KongPlugin>>,
    pub cluster_plugins: Vec<Arc<KongClusterPlugin>>,
    pub consumers: Vec<Arc<KongConsumer>>,
    pub upstream_policies: Vec<Arc<KongUpstreamPolicy>>,
    pub gateway_classes: Vec<Arc<GatewayClass>>,
    pub gateways: Vec<Arc<Gateway>>,
    pub listener_sets: Vec<Arc<ListenerSet>>,
    pub http_routes: Vec<Arc<HttpRoute>>,
    pub tls_routes: Vec<Arc<TlsRoute>>,
    pub reference_grants: Vec<Arc<ReferenceGrant>>,
}

/// The outcome: entities, and what could not be made into one.
#[derive(Debug, Default)]
pub struct Translation {
    /// As Kong's controller would write it.
    pub snapshot: Snapshot,
    /// Routes that stand in the place of those of a name: one for each host and path, in the Gateway API's order.
    pub ordered: BTreeMap<String, Vec<Route>>,
    pub problems: Vec<Problem>,
    /// Ingresses of our class.
    pub claimed: Vec<Key>,
    /// The Services behind the upstreams of HTTPRoutes.
    pub behind: BTreeMap<String, Vec<Key>>,
    /// What became of each HTTPRoute at each of its parents that is ours.
    pub attachments: BTreeMap<Key, Vec<crate::attach::Attachment>>,
    /// The same of TLSRoutes.
    pub tls_attachments: BTreeMap<Key, Vec<crate::attach::Attachment>>,
    /// The ports of Gateways that are served.
    pub ways: Vec<Way>,
}

impl Translation {
    /// What the gateway is given.
    pub fn for_gateway(&self) -> Snapshot {
        let mut snapshot = self.snapshot.clone();
        if self.ordered.is_empty() {
            return snapshot;
        }
        let routes = std::mem::take(&mut snapshot.routes);
        for route in routes {
            match route.name.as_ref().and_then(|name| self.ordered.get(name)) {
                None => snapshot.routes.push(route),
                Some(parts) => {
                    for part in parts {
                        let mut part = part.clone();
                        // A route that was closed is closed whoever would take its requests.
                        if route.service.is_none() || !part.extras.is_share {
                            part.service.clone_from(&route.service);
                        }
                        if part.extras.is_share {
                            stand_before(&mut snapshot.plugins, route.label(), part.label());
                        }
                        snapshot.routes.push(part);
                    }
                }
            }
        }
        snapshot
    }
}

/// Puts the plugins of a route before one that takes its requests, but for those that it has an instance of its own of.
fn stand_before(plugins: &mut Vec<Plugin>, route: &str, share: &str) {
    let own: Vec<String> = plugins
        .iter()
        .filter(|plugin| plugin.route.as_deref() == Some(share))
        .map(|plugin| plugin.name.clone())
        .collect();
    let of_route = plugins.iter().filter(|plugin| {
        plugin.route.as_deref() == Some(route) && (plugin.name == TERMINATION || !own.contains(&plugin.name))
    });
    let copies: Vec<Plugin> = of_route
        .map(|plugin| Plugin {
            id: entity_id("plugins", &format!("{}:{share}", plugin.id)),
            route: Some(share.to_owned()),
            ..plugin.clone()
        })
        .collect();
    plugins.extend(copies);
}

const TERMINATION: &str = "request-termination";

/// Translates; holds Kong's schemas, which are read once.
pub struct Translator {
    model: Model,
}

impl Default for Translator {
    fn default() -> Translator {
        Translator::new()
    }
}

/// What is being put together.
pub(crate) struct Building<'a> {
    pub(crate) input: &'a Input<'a>,
    pub(crate) model: &'a Model,
    pub(crate) services: HashMap<Key, &'a Service>,
    pub(crate) slices: HashMap<Key, Vec<&'a EndpointSlice>>,
    pub(crate) secrets: HashMap<Key, &'a Secret>,
    /// By name, so that what several Ingresses share is there once.
    pub(crate) gateway_services: BTreeMap<String, GatewayService>,
    pub(crate) upstreams: BTreeMap<String, Upstream>,
    pub(crate) routes: BTreeMap<String, Route>,
    pub(crate) ordered: BTreeMap<String, Vec<Route>>,
    /// By id.
    pub(crate) plugins: BTreeMap<String, Plugin>,
    pub(crate) behind: BTreeMap<String, Vec<Key>>,
    /// By id.
    pub(crate) certificates: BTreeMap<String, Certificate>,
    pub(crate) authorities: BTreeMap<String, CaCertificate>,
    pub(crate) consumers: Known,
    /// Annotations of Services that were not understood, by the gateway's name of the service.
    pub(crate) service_faults: BTreeMap<String, Vec<String>>,
    /// Services that no route may lead to.
    pub(crate) closed_services: BTreeSet<String>,
    pub(crate) asked: Vec<Asked>,
    pub(crate) problems: BTreeSet<Problem>,
}

impl Translator {
    pub fn new() -> Translator {
        Translator { model: Model::load() }
    }

    /// Translates everything.
    pub fn translate(&self, input: &Input<'_>) -> Translation {
        let mut building = Building::new(input, &self.model);
        for service in &input.services {
            building.add_service_ports(service);
        }
        let class = Class { name: input.class, is_default: input.claims_classless };
        let mut claimed = Vec::new();
        for ingress in input.ingresses.iter().filter(|ingress| class.claims(ingress)) {
            claimed.push(Key::of(&**ingress));
            building.add_ingress(ingress);
        }
        let bound = listeners::all(input);
        let mut entrances = building.add_entrances(&bound);
        let tls_attachments = building.add_tls_routes(&bound, &mut entrances.0);
        let attachments = building.add_http_routes(&bound);
        building.add_consumers(&class);
        building.attach_plugins(&class);
        building.close_routes_of_closed_services();
        let mut translation = building.finish();
        translation.claimed = claimed;
        translation.attachments = attachments;
        translation.tls_attachments = tls_attachments;
        (translation.snapshot.entrances, translation.ways) = entrances;
        translation
    }
}

impl<'a> Building<'a> {
    fn new(input: &'a Input<'a>, model: &'a Model) -> Building<'a> {
        let mut slices: HashMap<Key, Vec<&EndpointSlice>> = HashMap::new();
        for slice in &input.endpoint_slices {
            let meta = &slice.metadata;
            let Some(service) = crate::kinds::label(meta, SERVICE_NAME_LABEL) else { continue };
            let key = Key::new(meta.namespace.as_deref().unwrap_or_default(), service);
            slices.entry(key).or_default().push(slice);
        }
        Building {
            input,
            model,
            services: input.services.iter().map(|service| (Key::of(&**service), &**service)).collect(),
            slices,
            secrets: input.secrets.iter().map(|secret| (Key::of(&**secret), &**secret)).collect(),
            gateway_services: BTreeMap::new(),
            upstreams: BTreeMap::new(),
            routes: BTreeMap::new(),
            ordered: BTreeMap::new(),
            plugins: BTreeMap::new(),
            behind: BTreeMap::new(),
            certificates: BTreeMap::new(),
            authorities: BTreeMap::new(),
            consumers: Known::default(),
            service_faults: BTreeMap::new(),
            closed_services: BTreeSet::new(),
            asked: Vec::new(),
            problems: BTreeSet::new(),
        }
    }

    pub(crate) fn problem(&mut self, subject: &Subject, message: impl Into<String>) {
        self.problems.insert(Problem { subject: subject.clone(), message: message.into() });
    }

    /// Nothing but an error is answered on the route: it is cut off from its service, whatever its plugins do.
    pub(crate) fn close_route(&mut self, name: &str, status: u16, message: &str) {
        if let Some(route) = self.routes.get_mut(name) {
            route.service = None;
            let plugin = termination(&format!("route/{name}"), status, message);
            self.put(Plugin { route: Some(name.to_owned()), ..plugin });
        }
    }

    /// The same for everything a consumer asks for.
    pub(crate) fn close_consumer(&mut self, id: &str) {
        let plugin = termination(&format!("consumer/{id}"), 503, INCOMPLETE);
        self.put(Plugin { consumer: Some(id.to_owned()), ..plugin });
    }

    pub(crate) fn put(&mut self, plugin: Plugin) {
        self.plugins.insert(plugin.id.clone(), plugin);
    }

    fn close_routes_of_closed_services(&mut self) {
        let is_closed = |route: &&Route| {
            route.service.as_ref().is_some_and(|service| self.closed_services.contains(service))
        };
        let names: Vec<String> =
            self.routes.values().filter(is_closed).filter_map(|route| route.name.clone()).collect();
        for name in names {
            self.close_route(&name, 503, INCOMPLETE);
        }
    }

    fn finish(self) -> Translation {
        let snapshot = Snapshot {
            services: self.gateway_services.into_values().collect(),
            routes: self.routes.into_values().collect(),
            upstreams: self.upstreams.into_values().collect(),
            plugins: self.plugins.into_values().collect(),
            consumers: self.consumers.consumers,
            keyauth_credentials: self.consumers.keys,
            basicauth_credentials: self.consumers.basic,
            jwt_secrets: self.consumers.jwt,
            acls: self.consumers.groups,
            certificates: self.certificates.into_values().collect(),
            ca_certificates: self.authorities.into_values().collect(),
            ..Snapshot::default()
        };
        Translation {
            snapshot,
            ordered: self.ordered,
            behind: self.behind,
            problems: self.problems.into_iter().collect(),
            ..Translation::default()
        }
    }
}

/// What a client reads where something was left out that may protect a route.
pub(crate) const INCOMPLETE: &str = "the route is not configured completely";

/// The plugin that answers in the place of what cannot be served as it was asked for.
pub(crate) fn termination(scope: &str, status: u16, message: &str) -> Plugin {
    Plugin {
        id: entity_id("plugins", &format!("closed:{scope}")),
        name: TERMINATION.to_owned(),
        config: json!({"status_code": status, "message": message}),
        ..Plugin::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::service_of_upstream;
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
        Translator::new().translate(&Input {
            class: "kong",
            ingresses,
            services: vec![service()],
            endpoint_slices: slices,
            ..Input::default()
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
