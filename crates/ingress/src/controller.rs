//! The loop: whenever an object changes, everything is translated anew, applied, and told to the Ingresses.

use crate::addresses::AddressTable;
use crate::attach::is_ours;
use crate::class::is_default;
use crate::refused::{leave_out, plugin_label};
use crate::sources::Sources;
use crate::subject::{Kind, Problem, Subject};
use crate::translate::{Input, Translation, Translator};
use crate::ways::{GatewayAddresses, Ways};
use gantry_gateway::entities::Snapshot;
use gantry_gateway::{Gateway, Network};
use gantry_operator::{
    Action, Clock, EventType, Key, Operator, ReconcileError, Recorder, Trigger, time_from_ms,
};
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{Api, Patch, PatchParams};
use parking_lot::Mutex;
use serde_json::json;
use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Changes that come within this time of one another are applied together.
const COALESCE: Duration = Duration::from_millis(3);
/// A Service address that could not be bound is tried again.
const RETRY_ADDRESSES: Duration = Duration::from_secs(5);

/// How Ingresses are served.
#[derive(Clone)]
pub struct Config {
    /// The class whose Ingresses are ours.
    pub class: String,
    /// Whether Ingresses that name no class are ours too, even when the class is not the cluster's default.
    pub claims_classless: bool,
    /// Whether the gateway listens on the cluster addresses of Services.
    pub listens_on_services: bool,
    /// Written to `status.loadBalancer` of the Ingresses served, and to the status of Gateways.
    pub published_ips: Vec<String>,
    /// Where all routes are served over TLS, as soon as there is a certificate to present.
    pub tls_listen: Option<SocketAddr>,
    /// From which Gateways get addresses of their own, on which they listen on their own ports. Without it their routes are
    /// served on the gateway's own addresses only.
    pub gateway_addresses: Option<GatewayAddresses>,
    /// A network beside this machine's own, whose addresses the gateway also listens on.
    pub network: Option<Arc<dyn Network>>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            class: "kong".to_owned(),
            claims_classless: false,
            listens_on_services: true,
            published_ips: Vec::new(),
            tls_listen: None,
            gateway_addresses: None,
            network: None,
        }
    }
}

struct Controller {
    config: Config,
    gateway: Gateway,
    translator: Translator,
    sources: Sources,
    recorder: Recorder,
    addresses: AddressTable,
    ways: Ways,
    client: kube::Client,
    clock: Arc<dyn Clock>,
    /// What has been told already, so that it is told once.
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    problems: HashSet<Problem>,
    unserved: HashSet<(Key, String)>,
    config_errors: HashSet<String>,
    /// What was translated last; the same again is not applied again.
    applied: Option<Snapshot>,
}

/// The key under which everything is reconciled.
pub(crate) fn everything() -> Key {
    Key::cluster("configuration")
}

/// Registers the controller with `operator`; returns where Services are reached once it runs.
pub fn register(operator: &Operator, gateway: Gateway, config: Config) -> AddressTable {
    let addresses = AddressTable::default();
    let controller = Arc::new(Controller {
        config,
        gateway,
        translator: Translator::new(),
        sources: Sources::new(operator),
        recorder: operator.recorder("ingress"),
        addresses: addresses.clone(),
        ways: Ways::default(),
        client: operator.client().clone(),
        clock: operator.clock().clone(),
        told: Mutex::default(),
    });
    let sources = &controller.sources;
    let engine = operator
        .controller::<Ingress>("ingress")
        .concurrency(1)
        .watches_informer(&sources.ingresses, |_| vec![everything()])
        .watches_informer(&sources.classes, |_| vec![everything()])
        .watches_informer(&sources.services, |_| vec![everything()])
        .watches_informer(&sources.slices, |_| vec![everything()])
        .watches_informer(&sources.secrets, |_| vec![everything()])
        .watches_informer(&sources.config_maps, |_| vec![everything()])
        .watches_informer(&sources.namespaces, |_| vec![everything()]);
    follow_kinds(operator, &controller, engine.trigger());
    engine.reconcile(move |key| {
        let controller = Arc::clone(&controller);
        async move {
            if key == everything() { controller.configure().await } else { controller.publish(&key).await }
        }
    });
    addresses
}

fn follow_kinds(operator: &Operator, controller: &Arc<Controller>, changed: Trigger) {
    let (controller, inner) = (Arc::clone(controller), operator.clone());
    operator.task("kinds of Kong and the Gateway API", move |cancel| async move {
        controller.sources.follow(&inner, &changed, cancel).await;
    });
}

impl Controller {
    fn claims_classless(&self) -> bool {
        let class = self.sources.classes.get(&Key::cluster(&self.config.class));
        self.config.claims_classless || class.is_some_and(|class| is_default(&class))
    }

    fn input(&self) -> Input<'_> {
        let sources = &self.sources;
        Input {
            class: &self.config.class,
            claims_classless: self.claims_classless(),
            ingresses: sources.ingresses.list(),
            services: sources.services.list(),
            endpoint_slices: sources.slices.list(),
            secrets: sources.secrets.list(),
            config_maps: sources.config_maps.list(),
            namespaces: sources.namespaces.list(),
            plugins: sources.plugins.list(),
            cluster_plugins: sources.cluster_plugins.list(),
            consumers: sources.consumers.list(),
            upstream_policies: sources.policies.list(),
            gateway_classes: sources.gateway_classes.list(),
            gateways: sources.gateways.list(),
            listener_sets: sources.listener_sets.list(),
            http_routes: sources.http_routes.list(),
            tls_routes: sources.tls_routes.list(),
            reference_grants: sources.grants.list(),
        }
    }

    async fn configure(&self) -> Result<Action, ReconcileError> {
        if !self.sources.are_known() {
            return Ok(Action::await_change());
        }
        tokio::time::sleep(COALESCE).await;
        let input = self.input();
        let translation = self.translator.translate(&input);
        self.addresses.set_behind(translation.behind.clone());
        self.apply(&translation);
        let own = self.own_addresses(&input);
        let mut problems = translation.problems.clone();
        let unopened = self.open_ways(&input, &translation, &own);
        let is_open = unopened.is_empty();
        problems.extend(unopened);
        self.tell(&problems);
        let mut again =
            if self.config.listens_on_services { self.listen(&input) } else { Action::await_change() };
        if !is_open {
            again = Action::requeue_after(RETRY_ADDRESSES);
        }
        let now = serde_json::to_value(time_from_ms(self.clock.now_ms()))?;
        crate::status::publish(
            &self.client,
            &input,
            &translation,
            &|gateway: &Key| {
                let own = own.get(gateway).map(IpAddr::to_string);
                own.into_iter().chain(self.config.published_ips.iter().cloned()).collect()
            },
            now.as_str().unwrap_or_default(),
        )
        .await?;
        Ok(again)
    }

    /// The addresses of Gateways of ours.
    fn own_addresses(&self, input: &Input<'_>) -> BTreeMap<Key, IpAddr> {
        let ours = input.gateways.iter().map(|gateway| &**gateway).filter(|gateway| is_ours(input, gateway));
        let range = self.config.gateway_addresses;
        range.map(|range| range.assign(&ours.collect::<Vec<_>>())).unwrap_or_default()
    }

    /// Opens the ports of Gateways and the address for TLS; gives what could not be opened, at whom it is missed.
    fn open_ways(
        &self,
        input: &Input<'_>,
        translation: &Translation,
        own: &BTreeMap<Key, IpAddr>,
    ) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (key, message) in self.ways.reconcile(&self.gateway, &translation.ways, own) {
            let object = input.gateways.iter().find(|gateway| Key::of(&***gateway) == key);
            let subject = object.map(|gateway| Subject::of(Kind::Gateway, &gateway.metadata));
            problems.extend(subject.map(|subject| Problem { subject, message }));
        }
        let presents =
            translation.snapshot.certificates.iter().any(|certificate| !certificate.snis.is_empty());
        let Some(address) = self.config.tls_listen.filter(|_| presents) else { return problems };
        if let Err(error) = self.ways.open_tls(&self.gateway, address) {
            let with_tls = input.ingresses.iter().filter(|ingress| {
                ingress.spec.as_ref().is_some_and(|spec| spec.tls.as_ref().is_some_and(|tls| !tls.is_empty()))
                    && translation.claimed.contains(&Key::of(&***ingress))
            });
            problems.extend(with_tls.map(|ingress| Problem {
                subject: Subject::of(Kind::Ingress, &ingress.metadata),
                message: format!("tls is not served: {error}"),
            }));
        }
        problems
    }

    /// Opens the addresses of Services.
    fn listen(&self, input: &Input<'_>) -> Action {
        let is_ours = |ip| self.config.network.as_ref().is_some_and(|network| network.owns(ip));
        let unserved = self.addresses.reconcile(&self.gateway, &input.services, &is_ours);
        let all: HashSet<(Key, String)> =
            unserved.into_iter().map(|unserved| (unserved.service, unserved.message)).collect();
        let before = std::mem::replace(&mut self.told.lock().unserved, all.clone());
        for (key, message) in all.difference(&before) {
            if let Some(service) = self.sources.services.get(key) {
                let message = format!("the gateway cannot serve this service: {message}");
                self.recorder.event(&*service, EventType::Warning, "GatewayListenFailed", message);
            }
        }
        if all.is_empty() { Action::await_change() } else { Action::requeue_after(RETRY_ADDRESSES) }
    }

    /// Applies what was translated. Only an object of a user's can make the gateway refuse it, so the culprit is left
    /// out and told; the rest is served.
    fn apply(&self, translation: &Translation) {
        let wanted = translation.for_gateway();
        let mut told = self.told.lock();
        if told.applied.as_ref() == Some(&wanted) {
            return;
        }
        let mut snapshot = wanted.clone();
        told.applied = Some(wanted);
        let mut errors = HashSet::new();
        // Each round takes something out, of a route first its service, so there are no more rounds than things.
        let most = 2 * snapshot.routes.len()
            + snapshot.services.len()
            + snapshot.upstreams.len()
            + snapshot.plugins.len()
            + snapshot.certificates.len()
            + snapshot.entrances.len()
            + 1;
        for _ in 0..most {
            let error = match self.gateway.apply(snapshot.clone()) {
                Ok(generation) => {
                    tracing::debug!(generation, routes = snapshot.routes.len(), "gateway configured");
                    break;
                }
                Err(error) => error,
            };
            let message = error.to_string();
            let culprit = self.culprit(&snapshot, error.entity, &error.name);
            if !leave_out(&mut snapshot, error.entity, &error.name) {
                tracing::error!(%error, "the gateway keeps the configuration it has");
                break;
            }
            if !told.config_errors.contains(&message) {
                tracing::warn!(%error, "left out of the gateway's configuration");
                if let Some(subject) = culprit {
                    let reason = "KongConfigurationApplyFailed";
                    let reference = subject.reference();
                    self.recorder.event_about(reference, EventType::Warning, reason, message.clone());
                }
            }
            errors.insert(message);
        }
        told.config_errors = errors;
    }

    /// The object that an entity was made from, as its tags name it.
    fn culprit(&self, snapshot: &Snapshot, entity: &str, name: &str) -> Option<Subject> {
        let tags = match entity {
            "route" => &snapshot.routes.iter().find(|route| route.label() == name)?.tags,
            "service" => &snapshot.services.iter().find(|service| service.label() == name)?.tags,
            "upstream" => &snapshot.upstreams.iter().find(|upstream| upstream.name == name)?.tags,
            "plugin" => &snapshot.plugins.iter().find(|plugin| plugin_label(plugin) == name)?.tags,
            _ => return None,
        };
        let tag = |prefix: &str| tags.iter().find_map(|tag| tag.strip_prefix(prefix)).unwrap_or_default();
        let kinds = [
            Kind::Ingress,
            Kind::Service,
            Kind::HttpRoute,
            Kind::TlsRoute,
            Kind::KongPlugin,
            Kind::KongClusterPlugin,
            Kind::KongConsumer,
        ];
        let kind = kinds.into_iter().find(|kind| kind.name() == tag("k8s-kind:"))?;
        let key = Key::new(tag("k8s-namespace:"), tag("k8s-name:"));
        Some(Subject { kind, key, uid: tag("k8s-uid:").to_owned() })
    }

    fn tell(&self, problems: &[Problem]) {
        let all: HashSet<Problem> = problems.iter().cloned().collect();
        let before = std::mem::replace(&mut self.told.lock().problems, all);
        for problem in problems.iter().filter(|problem| !before.contains(*problem)) {
            let reason = "KongConfigurationTranslationFailed";
            let message = problem.message.clone();
            self.recorder.event_about(problem.subject.reference(), EventType::Warning, reason, message);
        }
    }

    /// Writes where an Ingress is served, if it is ours and does not say so yet.
    async fn publish(&self, key: &Key) -> Result<Action, ReconcileError> {
        let Some(ingress) = self.sources.ingresses.get(key) else { return Ok(Action::await_change()) };
        let class = crate::class::Class { name: &self.config.class, is_default: self.claims_classless() };
        if self.config.published_ips.is_empty() || !class.claims(&ingress) {
            return Ok(Action::await_change());
        }
        let status = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref());
        let published = status.and_then(|balancer| balancer.ingress.as_deref()).unwrap_or_default();
        let published: Vec<&str> = published.iter().filter_map(|entry| entry.ip.as_deref()).collect();
        if published == self.config.published_ips {
            return Ok(Action::await_change());
        }
        let entries: Vec<_> = self.config.published_ips.iter().map(|ip| json!({"ip": ip})).collect();
        let patch = Patch::Merge(json!({"status": {"loadBalancer": {"ingress": entries}}}));
        let api: Api<Ingress> = Api::namespaced(self.client.clone(), key.namespace());
        match api.patch_status(key.name(), &PatchParams::default(), &patch).await {
            Ok(_) => Ok(Action::await_change()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(Action::await_change()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.addresses.close(&self.gateway);
        self.ways.close(&self.gateway);
    }
}
