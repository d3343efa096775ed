//! What the names of a cluster mean: Services, their endpoints and pods, after the specification of Kubernetes'
//! DNS-based service discovery.

use std::net::{IpAddr, Ipv4Addr};

use gantry_operator::{Informer, Key, Operator};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::message::{A, ANY, CNAME, PTR, Record, SRV};
use crate::config::Cidr;

const DOMAIN: &str = "cluster.local";
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// What is known about a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    Records(Vec<Record>),
    /// An alias of a name that somebody else knows.
    External(String),
    /// The name is there, but not with records of the kind asked for.
    NoRecords,
    NoSuchName,
    /// Not a name of the cluster.
    Foreign,
}

pub(super) struct Zone {
    services: Informer<Service>,
    slices: Informer<EndpointSlice>,
    cluster: Cidr,
}

/// An address behind a Service.
struct Endpoint {
    address: Ipv4Addr,
    hostname: Option<String>,
    ready: bool,
    /// Name, protocol and number.
    ports: Vec<(String, String, u16)>,
}

impl Zone {
    /// Registers the informers it reads.
    pub(super) fn new(operator: &Operator, cluster: Cidr) -> Zone {
        Zone { services: operator.informer(), slices: operator.informer(), cluster }
    }

    pub(super) fn meaning(&self, name: &str, kind: u16) -> Meaning {
        if let Some(reversed) = name.strip_suffix(".in-addr.arpa") {
            return self.reverse(reversed, kind);
        }
        if name == "localhost" || name.ends_with(".localhost") {
            return of_kind(vec![Record::Address(Ipv4Addr::LOCALHOST)], kind);
        }
        let Some(within) = name.strip_suffix(DOMAIN) else { return Meaning::Foreign };
        let Some(within) = within.strip_suffix('.') else {
            return if within.is_empty() { Meaning::NoRecords } else { Meaning::Foreign };
        };
        let labels: Vec<&str> = within.split('.').collect();
        match labels.as_slice() {
            ["svc" | "pod"] | [_, "svc" | "pod"] => Meaning::NoRecords,
            [service, namespace, "svc"] => self.service(service, namespace, kind),
            [host, service, namespace, "svc"] => self.endpoint(host, service, namespace, kind),
            [port, protocol, service, namespace, "svc"] => {
                self.port(port, protocol, service, namespace, kind)
            }
            [dashed, _, "pod"] => match dashed.replace('-', ".").parse::<Ipv4Addr>() {
                Ok(address) => of_kind(vec![Record::Address(address)], kind),
                Err(_) => Meaning::NoSuchName,
            },
            _ => Meaning::NoSuchName,
        }
    }

    fn service(&self, name: &str, namespace: &str, kind: u16) -> Meaning {
        let Some(service) = self.services.get(&Key::new(namespace, name)) else { return Meaning::NoSuchName };
        let spec = service.spec.as_ref();
        if spec.and_then(|spec| spec.type_.as_deref()) == Some("ExternalName") {
            let target = spec.and_then(|spec| spec.external_name.clone()).unwrap_or_default();
            return Meaning::External(target.trim_end_matches('.').to_ascii_lowercase());
        }
        let records = match cluster_ip(&service) {
            Some(address) => vec![Record::Address(address)],
            None => self
                .endpoints(&service, name, namespace)
                .into_iter()
                .map(|endpoint| Record::Address(endpoint.address))
                .collect(),
        };
        // A headless Service without endpoints has no name, as cluster DNS has it.
        if records.is_empty() { Meaning::NoSuchName } else { of_kind(records, kind) }
    }

    /// One endpoint of a headless Service, by its host name or its address.
    fn endpoint(&self, host: &str, name: &str, namespace: &str, kind: u16) -> Meaning {
        let Some(service) = self.services.get(&Key::new(namespace, name)) else { return Meaning::NoSuchName };
        let mut records: Vec<Record> = self
            .endpoints(&service, name, namespace)
            .into_iter()
            .filter(|endpoint| endpoint.label() == host)
            .map(|endpoint| Record::Address(endpoint.address))
            .collect();
        records.dedup();
        if records.is_empty() { Meaning::NoSuchName } else { of_kind(records, kind) }
    }

    fn port(&self, port: &str, protocol: &str, name: &str, namespace: &str, kind: u16) -> Meaning {
        let (Some(port), Some(protocol)) = (port.strip_prefix('_'), protocol.strip_prefix('_')) else {
            return Meaning::NoSuchName;
        };
        let Some(service) = self.services.get(&Key::new(namespace, name)) else { return Meaning::NoSuchName };
        let target = format!("{name}.{namespace}.svc.{DOMAIN}");
        let named = |found: &str, of: &str| found == port && of.eq_ignore_ascii_case(protocol);
        let records: Vec<Record> = if cluster_ip(&service).is_some() {
            let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
            ports
                .filter(|p| {
                    named(p.name.as_deref().unwrap_or_default(), p.protocol.as_deref().unwrap_or("TCP"))
                })
                .filter_map(|p| {
                    Some(Record::Server { port: u16::try_from(p.port).ok()?, target: target.clone() })
                })
                .collect()
        } else {
            let endpoints = self.endpoints(&service, name, namespace);
            let of_endpoint = |endpoint: &Endpoint| {
                let target = format!("{}.{target}", endpoint.label());
                let found = endpoint.ports.iter().find(|(name, of, _)| named(name, of))?;
                Some(Record::Server { port: found.2, target })
            };
            endpoints.iter().filter_map(of_endpoint).collect()
        };
        if records.is_empty() { Meaning::NoSuchName } else { of_kind(records, kind) }
    }

    fn reverse(&self, reversed: &str, kind: u16) -> Meaning {
        let octets: Vec<&str> = reversed.split('.').rev().collect();
        let Ok(address) = octets.join(".").parse::<Ipv4Addr>() else { return Meaning::Foreign };
        // Nobody else has names for these, and asking takes time where there is no network (RFC 6303).
        if address.is_loopback() || address.is_link_local() || address.octets()[0] == 0 {
            return Meaning::NoSuchName;
        }
        if self.cluster.index_of(address).is_none() {
            return Meaning::Foreign;
        }
        let services = self.services.list();
        let service = services.iter().find(|service| cluster_ip(service) == Some(address)).map(|service| {
            let text = |field: &Option<String>| field.clone().unwrap_or_default();
            format!("{}.{}.svc.{DOMAIN}", text(&service.metadata.name), text(&service.metadata.namespace))
        });
        let name = service.or_else(|| self.name_of_endpoint(address));
        name.map_or(Meaning::NoSuchName, |name| of_kind(vec![Record::Pointer(name)], kind))
    }

    /// Of a headless Service.
    fn name_of_endpoint(&self, address: Ipv4Addr) -> Option<String> {
        self.services.list().iter().filter(|service| cluster_ip(service).is_none()).find_map(|service| {
            let name = service.metadata.name.as_deref()?;
            let namespace = service.metadata.namespace.as_deref()?;
            let endpoints = self.endpoints(service, name, namespace);
            let endpoint = endpoints.iter().find(|endpoint| endpoint.address == address)?;
            Some(format!("{}.{name}.{namespace}.svc.{DOMAIN}", endpoint.label()))
        })
    }

    fn endpoints(&self, service: &Service, name: &str, namespace: &str) -> Vec<Endpoint> {
        let all = service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses) == Some(true);
        let mut found = Vec::new();
        for slice in self.slices.list() {
            let of_service = slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME));
            if slice.metadata.namespace.as_deref() != Some(namespace)
                || of_service.map(String::as_str) != Some(name)
            {
                continue;
            }
            found.extend(endpoints_of(&slice).into_iter().filter(|endpoint| all || endpoint.ready));
        }
        found
    }
}

fn endpoints_of(slice: &EndpointSlice) -> Vec<Endpoint> {
    let ports: Vec<(String, String, u16)> = slice
        .ports
        .iter()
        .flatten()
        .filter_map(|port| {
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".into());
            Some((port.name.clone().unwrap_or_default(), protocol, u16::try_from(port.port?).ok()?))
        })
        .collect();
    let mut found = Vec::new();
    for endpoint in slice.endpoints.iter().flatten() {
        let ready = endpoint.conditions.as_ref().is_none_or(|conditions| conditions.ready.unwrap_or(true));
        for address in endpoint.addresses.iter().filter_map(|text| text.parse::<IpAddr>().ok()) {
            let IpAddr::V4(address) = address else { continue };
            found.push(Endpoint {
                address,
                hostname: endpoint.hostname.clone(),
                ready,
                ports: ports.clone(),
            });
        }
    }
    found
}

impl Endpoint {
    fn label(&self) -> String {
        self.hostname.clone().unwrap_or_else(|| self.address.to_string().replace('.', "-"))
    }
}

fn cluster_ip(service: &Service) -> Option<Ipv4Addr> {
    service.spec.as_ref()?.cluster_ip.as_deref()?.parse().ok()
}

/// Those of `records` that were asked for.
fn of_kind(records: Vec<Record>, kind: u16) -> Meaning {
    let wanted = |record: &Record| match record {
        Record::Address(_) => kind == A,
        Record::Alias(_) => kind == CNAME,
        Record::Pointer(_) => kind == PTR,
        Record::Server { .. } => kind == SRV,
    };
    let records: Vec<Record> = records.into_iter().filter(|record| kind == ANY || wanted(record)).collect();
    if records.is_empty() { Meaning::NoRecords } else { Meaning::Records(records) }
}
