//! Ingresses as routes.

use crate::annotations::Annotations;
use crate::paths::route_paths;
use crate::plugins::{Asked, Scope};
use crate::secrets::certificate_of;
use crate::services::{known_ports, tcp_ports};
use crate::subject::{Kind, Subject, tags};
use crate::translate::{Building, INCOMPLETE};
use gantry_gateway::entities::Route;
use gantry_kong_model::entity_id;
use gantry_operator::Key;
use k8s_openapi::api::core::v1::ServicePort;
use k8s_openapi::api::networking::v1::{HTTPIngressPath, Ingress, IngressBackend, IngressServiceBackend};

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
        id: entity_id("routes", &name),
        name: Some(name),
        hosts: (!host.is_empty()).then(|| vec![host.to_owned()]),
        strip_path: false,
        preserve_host: true,
        created_at: created.map(|time| time.0.as_second()),
        service,
        tags: route_tags(ingress),
        ..Route::default()
    }
}

fn route_tags(ingress: &Ingress) -> Vec<String> {
    tags(&ingress.metadata, Kind::Ingress.name(), Kind::Ingress.group())
}

impl Building<'_> {
    pub(crate) fn add_ingress(&mut self, ingress: &Ingress) {
        let subject = Subject::of(Kind::Ingress, &ingress.metadata);
        let Some(spec) = &ingress.spec else { return };
        for tls in spec.tls.iter().flatten() {
            let Some(name) = tls.secret_name.as_deref().filter(|name| !name.is_empty()) else { continue };
            match certificate_of(self.input, &Key::new(subject.key.namespace(), name)) {
                Ok(certificate) => {
                    self.present(certificate, tls.hosts.as_deref().unwrap_or_default());
                }
                Err(message) => self.problem(&subject, format!("tls: {message}")),
            }
        }
        let default = spec.default_backend.as_ref();
        for rule in spec.rules.iter().flatten() {
            let host = rule.host.as_deref().unwrap_or_default();
            match &rule.http {
                Some(http) => {
                    for path in &http.paths {
                        self.add_path(ingress, &subject, host, path);
                    }
                }
                // A rule without paths sends its host to the default backend.
                None => {
                    if let Some(backend) = default {
                        self.add_default(ingress, &subject, host, backend);
                    }
                }
            }
        }
        if let Some(backend) = default {
            self.add_default(ingress, &subject, "", backend);
        }
    }

    /// The gateway service behind an Ingress backend, the Service's name and its port's.
    fn backend(
        &mut self,
        backend: &IngressBackend,
        ingress: &Subject,
    ) -> Result<(String, String, String), String> {
        let Some(reference) = &backend.service else {
            return Err("a backend without a service is not supported".to_owned());
        };
        let namespace = ingress.key.namespace();
        let key = Key::new(namespace, &reference.name);
        let Some(service) = self.services.get(&key).copied() else {
            return Err(format!("there is no service {:?} in namespace {namespace:?}", reference.name));
        };
        let label = port_label(reference);
        let number = reference.port.as_ref().and_then(|port| port.number);
        // A Service may list no ports, as those that stand for an external name: then the backend's number is meant.
        let own = number.filter(|_| tcp_ports(service).next().is_none());
        let own = own.map(|port| ServicePort { port, ..ServicePort::default() });
        let listed = tcp_ports(service).find(|port| is_named(port, reference));
        let Some(port) = listed.or(own.as_ref()) else {
            let known = known_ports(service);
            return Err(format!("service {:?} has no port {label:?}, it has: {known}", reference.name));
        };
        let name = self.add_service(&key, service, port, &label);
        self.refer(&name, service, ingress);
        Ok((name, reference.name.clone(), label))
    }

    fn add_path(&mut self, ingress: &Ingress, subject: &Subject, host: &str, path: &HTTPIngressPath) {
        let paths = route_paths(path.path.as_deref().unwrap_or_default(), &path.path_type);
        let (service, backend_name, port) = match self.backend(&path.backend, subject) {
            Ok((service, name, port)) => (Some(service), name, port),
            Err(message) => {
                self.problem(subject, message);
                let reference = path.backend.service.as_ref();
                let name = reference.map(|reference| reference.name.clone()).unwrap_or_default();
                (None, name, reference.map(port_label).unwrap_or_default())
            }
        };
        let key = &subject.key;
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
        self.annotate(ingress, subject, &name);
    }

    fn add_default(&mut self, ingress: &Ingress, subject: &Subject, host: &str, backend: &IngressBackend) {
        let service = match self.backend(backend, subject) {
            Ok((service, _, _)) => service,
            Err(message) => {
                self.problem(subject, message);
                return;
            }
        };
        let mut name = format!("{}.{}", subject.key.namespace(), subject.key.name());
        if !host.is_empty() {
            name = format!("{name}.{}", host.replace('*', "_"));
        }
        let mut route = route(ingress, name.clone(), host, Some(service));
        route.paths = Some(vec!["/".to_owned()]);
        self.routes.insert(name.clone(), route);
        self.annotate(ingress, subject, &name);
    }

    /// Lets the annotations of the Ingress change its route.
    fn annotate(&mut self, ingress: &Ingress, subject: &Subject, name: &str) {
        let annotations = Annotations::of(&ingress.metadata);
        let mut faults = Vec::new();
        if let Some(route) = self.routes.get_mut(name) {
            // The tags of annotations are added once, however many paths the route has.
            route.tags = route_tags(ingress);
            annotations.change_route(route, &mut faults);
        }
        if let Some(plugin) = annotations.rewrite(name) {
            self.put(plugin);
        }
        if faults.iter().any(|fault| fault.closes) {
            self.close_route(name, 503, INCOMPLETE);
        }
        for fault in faults {
            self.problem(subject, fault.message);
        }
        self.ask_for_plugins(subject, annotations.plugins(), name);
    }

    /// Notes the plugins that a route's object names.
    pub(crate) fn ask_for_plugins(&mut self, subject: &Subject, references: Vec<String>, route: &str) {
        for reference in references {
            let asked = Asked { subject: subject.clone(), scope: Scope::Route(route.to_owned()), reference };
            if !self.asked.contains(&asked) {
                self.asked.push(asked);
            }
        }
    }
}
