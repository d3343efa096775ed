//! Services and their endpoints as the gateway's services and upstreams.

use crate::annotations::{Annotations, Fault};
use crate::plugins::{Asked, Scope};
use crate::secrets::{authority_of, certificate_of};
use crate::subject::{Kind, Subject, tags};
use crate::translate::Building;
use gantry_gateway::entities::{Service as GatewayService, Target, Upstream};
use gantry_kong_model::entity_id;
use gantry_operator::Key;
use k8s_openapi::api::core::v1::{Service, ServicePort};

/// The gateway's name of the upstream behind a Service's port.
pub(crate) fn upstream_name(key: &Key, port: &str) -> String {
    format!("{}.{}.{port}.svc", key.name(), key.namespace())
}

pub(crate) fn service_name(key: &Key, port: &str) -> String {
    format!("{}.{}.{port}", key.namespace(), key.name())
}

/// The Service behind an upstream of ours: what to scale when a request waits there.
pub(crate) fn service_of_upstream(upstream: &str) -> Option<Key> {
    let mut parts = upstream.split('.');
    let (name, namespace) = (parts.next()?, parts.next()?);
    let (_port, end) = (parts.next()?, parts.next()?);
    (end == "svc" && parts.next().is_none()).then(|| Key::new(namespace, name))
}

/// The ports of a Service that carry TCP.
pub(crate) fn tcp_ports(service: &Service) -> impl Iterator<Item = &ServicePort> {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    ports.iter().filter(|port| port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP"))
}

/// The ports of a Service, for a message.
pub(crate) fn known_ports(service: &Service) -> String {
    let known: Vec<String> = tcp_ports(service)
        .map(|port| match &port.name {
            None => port.port.to_string(),
            Some(name) => format!("{} ({name})", port.port),
        })
        .collect();
    known.join(", ")
}

fn target(host: &str, port: i32) -> Target {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    Target { target: format!("{host}:{port}"), ..Target::default() }
}

impl Building<'_> {
    /// Every port, for the Service's own addresses.
    pub(crate) fn add_service_ports(&mut self, service: &Service) {
        let key = Key::of(service);
        for port in tcp_ports(service) {
            self.add_service(&key, service, port, &port.port.to_string());
        }
    }

    /// The gateway's service of a port, by `label` where Kong's controller calls it so.
    pub(crate) fn add_service(
        &mut self,
        key: &Key,
        service: &Service,
        port: &ServicePort,
        label: &str,
    ) -> String {
        let name = service_name(key, label);
        if self.gateway_services.contains_key(&name) {
            return name;
        }
        let upstream = upstream_name(key, label);
        let gateway_service = GatewayService {
            id: entity_id("services", &name),
            name: Some(name.clone()),
            host: upstream.clone(),
            port: u16::try_from(port.port).unwrap_or(80),
            path: Some("/".to_owned()),
            tags: tags(&service.metadata, "Service", ""),
            ..GatewayService::default()
        };
        let entity = Upstream {
            id: entity_id("upstreams", &upstream),
            name: upstream.clone(),
            targets: self.targets(key, service, port),
            tags: tags(&service.metadata, "Service", ""),
            ..Upstream::default()
        };
        self.put_service(gateway_service, entity, &[service]);
        name
    }

    /// Adds a service and its upstream as the annotations of the Services behind it change them.
    pub(crate) fn put_service(
        &mut self,
        mut gateway_service: GatewayService,
        mut upstream: Upstream,
        services: &[&Service],
    ) {
        let name = gateway_service.name.clone().unwrap_or_default();
        for service in services {
            let mut faults = Vec::new();
            let annotations = Annotations::of(&service.metadata);
            let host_header = annotations.change_service(&mut gateway_service, &mut faults);
            upstream.host_header = host_header.or(upstream.host_header.take());
            self.apply_upstream_policy(service, &mut upstream);
            for message in self.apply_certificates(service, &mut gateway_service) {
                faults.push(Fault { message, closes: true });
            }
            if faults.iter().any(|fault| fault.closes) {
                self.closed_services.insert(name.clone());
            }
            let service_name = service.metadata.name.as_deref().unwrap_or_default();
            for fault in faults {
                let message = format!("service {service_name:?}: {}", fault.message);
                self.service_faults.entry(name.clone()).or_default().push(message);
            }
        }
        self.gateway_services.insert(name, gateway_service);
        self.upstreams.insert(upstream.name.clone(), upstream);
    }

    /// What a Service's endpoints are shown and checked against; what cannot be had is told, and closes the routes.
    fn apply_certificates(&mut self, service: &Service, gateway_service: &mut GatewayService) -> Vec<String> {
        let annotations = Annotations::of(&service.metadata);
        let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
        let mut faults = Vec::new();
        if let Some(name) = annotations.client_certificate() {
            match certificate_of(self.input, &Key::new(namespace, name)) {
                Ok(certificate) => {
                    gateway_service.client_certificate = Some(self.present(certificate, &[]));
                }
                Err(message) => {
                    faults
                        .push(format!("annotation konghq.com/client-cert: {message}; its routes answer 503"));
                }
            }
        }
        let mut ids = Vec::new();
        for (kind, name) in annotations.authorities() {
            match authority_of(self.input, kind, &Key::new(namespace, &name)) {
                Ok(authority) => {
                    ids.push(authority.id.clone());
                    self.authorities.insert(authority.id.clone(), authority);
                }
                Err(message) => faults.push(format!(
                    "annotation konghq.com/ca-certificates-{}s: {message}; its routes answer 503",
                    kind.to_ascii_lowercase()
                )),
            }
        }
        if !ids.is_empty() {
            gateway_service.ca_certificates = Some(ids);
        }
        faults
    }

    /// Notes what the annotations of a Service ask for where a route leads to it.
    pub(crate) fn refer(&mut self, name: &str, service: &Service, by: &Subject) {
        for message in self.service_faults.get(name).cloned().unwrap_or_default() {
            self.problem(by, message);
        }
        let subject = Subject::of(Kind::Service, &service.metadata);
        for reference in Annotations::of(&service.metadata).plugins() {
            let scope = Scope::Service(name.to_owned());
            let asked = Asked { subject: subject.clone(), scope, reference };
            if !self.asked.contains(&asked) {
                self.asked.push(asked);
            }
        }
    }

    /// The ready endpoints; those that are terminating are not among them, whatever else they are.
    pub(crate) fn targets(&self, key: &Key, service: &Service, port: &ServicePort) -> Vec<Target> {
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
}
