//! A configuration made ready to serve: checked, indexed, with every name resolved to what it means.

use crate::balancer::{
    Balancer, ResolvedTarget, UpstreamState, host_header, resolved_targets, rotation_of, split_target,
};
use crate::entities::{Algorithm, PathHandling, Protocol, Route, Service, Snapshot, Target, Upstream};
use crate::entrances::{self, CompiledEntrance};
use crate::hashing::Hashing;
use crate::metrics::{Metrics, ScopeMetrics};
use crate::mirrors::CompiledMirror;
use crate::plugins::chain::{Chain, Plugins};
use crate::plugins::consumers::Consumers;
use crate::router::{Flavour, Router, RouterError};
use crate::upstream_tls::{TlsSettings, UpstreamTls};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// An entity that cannot be used: which one, which field, and why.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("{entity} {name:?}: {field}: {reason}")]
pub struct ConfigError {
    pub entity: &'static str,
    pub name: String,
    pub field: String,
    pub reason: String,
}

impl From<RouterError> for ConfigError {
    fn from(error: RouterError) -> ConfigError {
        ConfigError { entity: "route", name: error.route, field: error.field, reason: error.reason }
    }
}

/// What of the node outlives a configuration.
pub(crate) struct Node<'n> {
    pub(crate) flavour: Flavour,
    /// Authorities in PEM.
    pub(crate) trusted: Option<&'n str>,
    pub(crate) balancer: &'n Balancer,
    pub(crate) metrics: &'n Metrics,
    pub(crate) tls_settings: &'n TlsSettings,
}

pub(crate) struct CompiledService {
    /// `None` where targets are spoken to in the clear.
    pub(crate) tls: Option<Arc<UpstreamTls>>,
    pub(crate) path: Vec<u8>,
    pub(crate) retries: u16,
    pub(crate) connect_timeout: Duration,
    pub(crate) read_timeout: Duration,
    pub(crate) write_timeout: Duration,
    pub(crate) is_enabled: bool,
    pub(crate) upstream: Arc<UpstreamState>,
    /// What decides the target of a request; `None` where nothing of it does.
    pub(crate) hashing: Option<Hashing>,
    /// For requests that reach the service without a route.
    pub(crate) metrics: Arc<ScopeMetrics>,
}

pub(crate) struct CompiledRoute {
    pub(crate) strip_path: bool,
    pub(crate) preserve_host: bool,
    pub(crate) path_handling: PathHandling,
    pub(crate) accepts_http: bool,
    pub(crate) accepts_https: bool,
    pub(crate) https_redirect_status: u16,
    pub(crate) service: Option<Arc<CompiledService>>,
    pub(crate) metrics: Arc<ScopeMetrics>,
    /// `None` when no plugin applies.
    pub(crate) chain: Option<Arc<Chain>>,
    pub(crate) label: Arc<str>,
    pub(crate) service_label: Arc<str>,
    pub(crate) request_timeout: Option<Duration>,
    pub(crate) mirrors: Option<Arc<[CompiledMirror]>>,
    shares: Option<Shares>,
}

/// Routes that take requests in the place of one, by their weights.
struct Shares {
    /// Numbers of routes, each as often as its weight asks.
    order: Vec<u32>,
    cursor: AtomicUsize,
}

impl CompiledRoute {
    /// The route that takes the next request.
    pub(crate) fn taken_by<'c>(&'c self, all: &'c [CompiledRoute]) -> &'c CompiledRoute {
        let Some(shares) = &self.shares else { return self };
        let at = shares.cursor.fetch_add(1, Ordering::Relaxed) % shares.order.len().max(1);
        shares.order.get(at).and_then(|number| all.get(*number as usize)).unwrap_or(self)
    }
}

/// An upstream some of whose targets are names, to be looked up again and again.
pub(crate) struct NamedUpstream {
    pub(crate) state: Arc<UpstreamState>,
    pub(crate) upstream: Upstream,
}

pub(crate) struct Compiled {
    pub(crate) generation: u64,
    pub(crate) router: Router,
    /// In the order the router numbers them.
    pub(crate) routes: Vec<CompiledRoute>,
    services: HashMap<String, Arc<CompiledService>>,
    entrances: HashMap<String, CompiledEntrance>,
    pub(crate) named: Vec<NamedUpstream>,
    pub(crate) consumers: Arc<Consumers>,
    pub(crate) no_label: Arc<str>,
    /// What stands in for the service of a route that has none: nothing answers there.
    pub(crate) no_service: Arc<CompiledService>,
}

impl Compiled {
    /// A configuration in which nothing is found.
    pub(crate) fn empty(balancer: &Balancer, metrics: &Metrics) -> Compiled {
        Compiled {
            generation: 0,
            router: Router::default(),
            routes: Vec::new(),
            services: HashMap::new(),
            entrances: HashMap::new(),
            named: Vec::new(),
            consumers: Arc::default(),
            no_label: Arc::from(""),
            no_service: no_service(balancer, metrics),
        }
    }

    pub(crate) fn service(&self, name: &str) -> Option<&Arc<CompiledService>> {
        self.services.get(name)
    }

    pub(crate) fn entrance(&self, name: &str) -> Option<&CompiledEntrance> {
        self.entrances.get(name)
    }
}

fn check_service(service: &Service) -> Result<(), ConfigError> {
    let error = |field: &str, reason: String| ConfigError {
        entity: "service",
        name: service.label().to_owned(),
        field: field.to_owned(),
        reason,
    };
    if service.host.is_empty() {
        return Err(error("host", "is required".into()));
    }
    if !matches!(service.protocol, Protocol::Http | Protocol::Https | Protocol::Tcp) {
        let reason = format!("{:?} is not supported yet, use http, https or tcp", service.protocol.as_str());
        return Err(error("protocol", reason));
    }
    if service.path.as_deref().is_some_and(|path| !path.starts_with('/')) {
        return Err(error("path", "should start with: /".into()));
    }
    for (field, value) in [
        ("connect_timeout", service.connect_timeout),
        ("read_timeout", service.read_timeout),
        ("write_timeout", service.write_timeout),
    ] {
        if !(1..=2_147_483_646).contains(&value) {
            return Err(error(field, format!("{value} is not between 1 and 2147483646 milliseconds")));
        }
    }
    Ok(())
}

fn check_upstream(upstream: &Upstream) -> Result<(), ConfigError> {
    let error = |field: &str, reason: String| ConfigError {
        entity: "upstream",
        name: upstream.name.clone(),
        field: field.to_owned(),
        reason,
    };
    if upstream.name.is_empty() {
        return Err(error("name", "is required".into()));
    }
    Hashing::of(upstream).map_err(|field| error(field, "is required".into()))?;
    for target in &upstream.targets {
        if split_target(&target.target).is_none() {
            return Err(error("targets", format!("{:?} is not host:port", target.target)));
        }
    }
    Ok(())
}

/// Every upstream in use: the declared ones, and one for each service whose host is not among them.
fn all_upstreams(snapshot: &Snapshot) -> Result<HashMap<String, Upstream>, ConfigError> {
    let mut upstreams: HashMap<String, Upstream> = HashMap::new();
    for upstream in &snapshot.upstreams {
        check_upstream(upstream)?;
        if upstreams.insert(upstream.name.clone(), upstream.clone()).is_some() {
            return Err(ConfigError {
                entity: "upstream",
                name: upstream.name.clone(),
                field: "name".into(),
                reason: "is used twice".into(),
            });
        }
    }
    let declared: HashSet<String> = upstreams.keys().cloned().collect();
    for service in &snapshot.services {
        if declared.contains(&service.host) {
            continue;
        }
        let host =
            if service.host.contains(':') { format!("[{}]", service.host) } else { service.host.clone() };
        let address = format!("{host}:{}", service.port);
        let target = Target { target: address.clone(), ..Target::default() };
        let name = implicit_name(service);
        upstreams.insert(name.clone(), Upstream { name, targets: vec![target], ..Upstream::default() });
    }
    Ok(upstreams)
}

fn implicit_name(service: &Service) -> String {
    format!("{}:{}", service.host, service.port)
}

/// The routes that the router knows first, then those that only take another's requests.
fn listed_first(routes: &[Route]) -> (Cow<'_, [Route]>, usize) {
    let listed = routes.iter().filter(|route| !route.extras.is_share).count();
    if listed == routes.len() {
        return (Cow::Borrowed(routes), listed);
    }
    let mut ordered = routes.to_vec();
    ordered.sort_by_key(|route| route.extras.is_share);
    (Cow::Owned(ordered), listed)
}

/// Checks `snapshot`, then puts its targets into rotation and returns the rest to be swapped in. Nothing changes when
/// there is an error.
pub(crate) fn compile(
    snapshot: &Snapshot,
    node: &Node<'_>,
    previous: &Compiled,
) -> Result<Compiled, ConfigError> {
    let upstreams = all_upstreams(snapshot)?;
    let by_reference = services_by_reference(snapshot)?;
    for route in &snapshot.routes {
        let mirrors = route.extras.mirrors.iter().map(|mirror| mirror.service.as_str());
        for (field, name) in route
            .service
            .as_deref()
            .map(|name| ("service", name))
            .into_iter()
            .chain(mirrors.map(|name| ("mirrors", name)))
        {
            if !by_reference.contains_key(name) {
                return Err(ConfigError {
                    entity: "route",
                    name: route.label().to_owned(),
                    field: field.into(),
                    reason: format!("there is no service {name:?}"),
                });
            }
        }
    }
    let (ordered, listed) = listed_first(&snapshot.routes);
    let router = Router::new(ordered.get(..listed).unwrap_or_default(), node.flavour)?;
    let plugins = Plugins::new(snapshot)?;

    let mut settings = HashMap::new();
    for (name, service) in &by_reference {
        let upstream =
            upstreams.get(&service.host).and_then(|upstream| upstream.client_certificate.as_deref());
        let tls = node.tls_settings.of_service(service, upstream, snapshot, node.trusted)?;
        settings.insert(*name, tls);
    }
    let mut services: HashMap<String, Arc<CompiledService>> = HashMap::new();
    for (name, service) in &by_reference {
        let tls = settings.remove(name).flatten();
        let compiled = compile_service(service, tls, &upstreams, node.balancer, node.metrics);
        services.insert((*name).to_owned(), compiled);
    }
    let entrances = entrances::compile(snapshot, &ordered, &services, node.flavour, &previous.entrances)?;
    let numbers: HashMap<&str, u32> = ordered
        .iter()
        .enumerate()
        .filter(|(_, route)| route.extras.is_share)
        .map(|(number, route)| (route.label(), number as u32))
        .collect();
    let routes = ordered.iter().map(|route| {
        let service = route.service.as_deref().and_then(|name| by_reference.get(name)).copied();
        let chain = plugins.chain(route, service);
        CompiledRoute {
            shares: shares_of(route, &numbers),
            ..compile_route(route, &by_reference, &services, node.metrics, chain)
        }
    });
    let routes = routes.collect();
    let named = install_targets(&upstreams, node.balancer, node.metrics);
    Ok(Compiled {
        generation: previous.generation + 1,
        router,
        routes,
        services,
        entrances,
        named,
        consumers: Arc::new(Consumers::new(snapshot)),
        no_label: Arc::clone(&previous.no_label),
        no_service: Arc::clone(&previous.no_service),
    })
}

fn services_by_reference(snapshot: &Snapshot) -> Result<HashMap<&str, &Service>, ConfigError> {
    let mut by_reference: HashMap<&str, &Service> = HashMap::new();
    for service in &snapshot.services {
        check_service(service)?;
        let names = service.name.as_deref().into_iter().chain(Some(service.id.as_str()));
        for name in names.filter(|name| !name.is_empty()) {
            if by_reference.insert(name, service).is_some_and(|known| !std::ptr::eq(known, service)) {
                return Err(ConfigError {
                    entity: "service",
                    name: name.to_owned(),
                    field: "name".into(),
                    reason: "is used twice".into(),
                });
            }
        }
    }
    Ok(by_reference)
}

fn shares_of(route: &Route, numbers: &HashMap<&str, u32>) -> Option<Shares> {
    let known = route.extras.shares.iter().filter_map(|share| {
        numbers.get(share.route.as_str()).map(|number| (*number, u64::from(share.weight)))
    });
    let (all, weights): (Vec<u32>, Vec<u64>) = known.unzip();
    let order: Vec<u32> =
        rotation_of(weights).into_iter().filter_map(|at| all.get(at as usize).copied()).collect();
    (!order.is_empty()).then(|| Shares { order, cursor: AtomicUsize::new(0) })
}

/// A service without a target.
fn no_service(balancer: &Balancer, metrics: &Metrics) -> Arc<CompiledService> {
    let service = Service { host: String::new(), ..Service::default() };
    let upstreams = HashMap::from([(String::new(), Upstream::default())]);
    compile_service(&service, None, &upstreams, balancer, metrics)
}

fn compile_service(
    service: &Service,
    tls: Option<Arc<UpstreamTls>>,
    upstreams: &HashMap<String, Upstream>,
    balancer: &Balancer,
    metrics: &Metrics,
) -> Arc<CompiledService> {
    let upstream =
        if upstreams.contains_key(&service.host) { service.host.clone() } else { implicit_name(service) };
    Arc::new(CompiledService {
        tls,
        path: service.path.as_deref().unwrap_or("/").as_bytes().to_vec(),
        retries: service.retries,
        connect_timeout: Duration::from_millis(service.connect_timeout),
        read_timeout: Duration::from_millis(service.read_timeout),
        write_timeout: Duration::from_millis(service.write_timeout),
        is_enabled: service.enabled,
        hashing: upstreams
            .get(&upstream)
            .filter(|upstream| upstream.algorithm == Algorithm::ConsistentHashing)
            .and_then(|upstream| Hashing::of(upstream).ok().flatten()),
        upstream: balancer.upstream(&upstream, || metrics.upstream(&upstream)),
        metrics: metrics.scope(service.label(), ""),
    })
}

fn compile_route(
    route: &Route,
    by_reference: &HashMap<&str, &Service>,
    services: &HashMap<String, Arc<CompiledService>>,
    metrics: &Metrics,
    chain: Option<Arc<Chain>>,
) -> CompiledRoute {
    let reference = route.service.as_deref().unwrap_or_default();
    let service_label = by_reference.get(reference).map_or("", |service| service.label());
    CompiledRoute {
        strip_path: route.strip_path,
        preserve_host: route.preserve_host,
        path_handling: route.path_handling,
        accepts_http: route.protocols.contains(&Protocol::Http),
        accepts_https: route.protocols.contains(&Protocol::Https),
        https_redirect_status: route.https_redirect_status_code,
        service: services.get(reference).cloned(),
        metrics: metrics.scope(service_label, route.label()),
        chain,
        label: Arc::from(route.label()),
        service_label: Arc::from(service_label),
        request_timeout: route.extras.request_timeout.map(Duration::from_millis),
        mirrors: (!route.extras.mirrors.is_empty()).then(|| {
            let known = route.extras.mirrors.iter();
            known
                .filter_map(|mirror| Some(CompiledMirror::new(mirror, services.get(&mirror.service)?)))
                .collect()
        }),
        shares: None,
    }
}

fn install_targets(
    upstreams: &HashMap<String, Upstream>,
    balancer: &Balancer,
    metrics: &Metrics,
) -> Vec<NamedUpstream> {
    let mut named = Vec::new();
    metrics.reset_health();
    for (name, upstream) in upstreams {
        let state = balancer.upstream(name, || metrics.upstream(name));
        let (resolved, has_names) = resolved_targets(upstream);
        for target in &resolved {
            let address = target.address.to_string();
            metrics.set_health(name, &address, &address, "healthchecks_off");
        }
        if has_names {
            named.push(NamedUpstream { state, upstream: upstream.clone() });
        } else {
            balancer.set_targets(&state, upstream.algorithm, &resolved);
        }
    }
    balancer.retain(|name| {
        let stays = upstreams.contains_key(name);
        if !stays {
            metrics.forget_upstream(name);
        }
        stays
    });
    named
}

/// Looks the names of `named` up and puts what was found into rotation. A name that cannot be resolved keeps the
/// addresses it had.
pub(crate) async fn refresh(named: &NamedUpstream, balancer: &Balancer) {
    let (mut targets, _) = resolved_targets(&named.upstream);
    for target in &named.upstream.targets {
        let Some((host, port)) = split_target(&target.target) else { continue };
        if host.parse::<std::net::IpAddr>().is_ok() {
            continue;
        }
        match tokio::net::lookup_host((host.as_str(), port)).await {
            Ok(addresses) => targets.extend(addresses.map(|address| ResolvedTarget {
                address,
                host: host_header(&named.upstream, &host, port),
                weight: target.weight,
            })),
            Err(error) => {
                tracing::warn!(upstream = named.state.name, host, %error, "cannot resolve target");
                return;
            }
        }
    }
    targets.dedup_by_key(|target| target.address);
    balancer.set_targets(&named.state, named.upstream.algorithm, &targets);
}
