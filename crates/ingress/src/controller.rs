//! The loop: whenever an object changes, everything is translated anew, applied, and told to the Ingresses.

use crate::addresses::AddressTable;
use crate::class::is_default;
use crate::translate::{Input, Problem, Translation, translate};
use gantry_gateway::entities::Snapshot;
use gantry_gateway::{Gateway, Network};
use gantry_operator::{Action, EventType, Informer, Key, Operator, ReconcileError, Recorder};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use kube::api::{Api, Patch, PatchParams};
use parking_lot::Mutex;
use serde_json::json;
use std::collections::HashSet;
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
    /// Written to `status.loadBalancer` of the Ingresses served.
    pub published_ips: Vec<String>,
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
            network: None,
        }
    }
}

struct Controller {
    config: Config,
    gateway: Gateway,
    ingresses: Informer<Ingress>,
    classes: Informer<IngressClass>,
    services: Informer<Service>,
    slices: Informer<EndpointSlice>,
    recorder: Recorder,
    addresses: AddressTable,
    client: kube::Client,
    /// What has been told already, so that it is told once.
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    problems: HashSet<Problem>,
    unserved: HashSet<(Key, String)>,
    config_error: Option<String>,
    /// What was translated last; the same again is not applied again.
    applied: Option<Snapshot>,
}

/// The key under which everything is reconciled.
fn everything() -> Key {
    Key::cluster("configuration")
}

/// Registers the controller with `operator`; returns where Services are reached once it runs.
pub fn register(operator: &Operator, gateway: Gateway, config: Config) -> AddressTable {
    let addresses = AddressTable::default();
    let controller = Arc::new(Controller {
        config,
        gateway,
        ingresses: operator.informer(),
        classes: operator.informer(),
        services: operator.informer(),
        slices: operator.informer(),
        recorder: operator.recorder("ingress"),
        addresses: addresses.clone(),
        client: operator.client().clone(),
        told: Mutex::default(),
    });
    let ingresses = controller.ingresses.clone();
    let engine = operator
        .controller::<Ingress>("ingress")
        .concurrency(1)
        .watches_informer(&ingresses, |_| vec![everything()])
        .watches_informer(&controller.classes.clone(), |_| vec![everything()])
        .watches_informer(&controller.services.clone(), |_| vec![everything()])
        .watches_informer(&controller.slices.clone(), |_| vec![everything()]);
    engine.trigger().now(everything());
    engine.reconcile(move |key| {
        let controller = Arc::clone(&controller);
        async move {
            if key == everything() { controller.configure().await } else { controller.publish(&key).await }
        }
    });
    addresses
}

impl Controller {
    fn claims_classless(&self) -> bool {
        let class = self.classes.get(&Key::cluster(&self.config.class));
        self.config.claims_classless || class.is_some_and(|class| is_default(&class))
    }

    async fn configure(&self) -> Result<Action, ReconcileError> {
        tokio::time::sleep(COALESCE).await;
        let services = self.services.list();
        let translation = translate(&Input {
            class: &self.config.class,
            claims_classless: self.claims_classless(),
            ingresses: self.ingresses.list(),
            services: services.clone(),
            endpoint_slices: self.slices.list(),
        });
        self.apply(&translation);
        self.tell(&translation.problems);
        if !self.config.listens_on_services {
            return Ok(Action::await_change());
        }
        let is_ours = |ip| self.config.network.as_ref().is_some_and(|network| network.owns(ip));
        let unserved = self.addresses.reconcile(&self.gateway, &services, &is_ours);
        let all: HashSet<(Key, String)> =
            unserved.into_iter().map(|unserved| (unserved.service, unserved.message)).collect();
        let before = std::mem::replace(&mut self.told.lock().unserved, all.clone());
        for (key, message) in all.difference(&before) {
            if let Some(service) = self.services.get(key) {
                let message = format!("the gateway cannot serve this service: {message}");
                self.recorder.event(&*service, EventType::Warning, "GatewayListenFailed", message);
            }
        }
        Ok(if all.is_empty() { Action::await_change() } else { Action::requeue_after(RETRY_ADDRESSES) })
    }

    /// Applies what was translated. Only an object of a user's can make the gateway refuse it, so the culprit is left
    /// out and told; the rest is served.
    fn apply(&self, translation: &Translation) {
        let mut told = self.told.lock();
        if told.applied.as_ref() == Some(&translation.snapshot) {
            return;
        }
        let mut snapshot = translation.snapshot.clone();
        told.applied = Some(snapshot.clone());
        let mut closed_plugins = 0;
        loop {
            let error = match self.gateway.apply(snapshot.clone()) {
                Ok(generation) => {
                    tracing::debug!(generation, routes = snapshot.routes.len(), "gateway configured");
                    return;
                }
                Err(error) => error,
            };
            // A plugin that cannot be run takes the routes it stands on with it: they must not be open without it.
            if error.entity == "plugin" {
                closed_plugins += 1;
                for plugin in snapshot.plugins.iter_mut() {
                    let is_culprit = error.name == format!("{} {}", plugin.name, plugin.id);
                    if is_culprit && plugin.name != "request-termination" {
                        plugin.name = "request-termination".to_owned();
                        plugin.config = json!({"status_code": 503});
                    }
                }
            }
            let (routes, services) = (snapshot.routes.len(), snapshot.services.len());
            snapshot.routes.retain(|route| error.entity != "route" || route.label() != error.name);
            snapshot.services.retain(|service| error.entity != "service" || service.label() != error.name);
            let message = error.to_string();
            if told.config_error.as_ref() != Some(&message) {
                tracing::warn!(%error, "left out of the gateway's configuration");
                if let Some(ingress) = self.owner(translation, error.entity, &error.name) {
                    let reason = "KongConfigurationApplyFailed";
                    self.recorder.event(&*ingress, EventType::Warning, reason, message.clone());
                }
                told.config_error = Some(message);
            }
            let is_smaller = routes != snapshot.routes.len() || services != snapshot.services.len();
            if !is_smaller && (error.entity != "plugin" || closed_plugins > snapshot.plugins.len()) {
                return;
            }
        }
    }

    fn owner(&self, translation: &Translation, entity: &str, name: &str) -> Option<Arc<Ingress>> {
        let route =
            translation.snapshot.routes.iter().find(|route| entity == "route" && route.label() == name)?;
        let tag =
            |prefix: &str| route.tags.iter().find_map(|tag| tag.strip_prefix(prefix)).unwrap_or_default();
        self.ingresses.get(&Key::new(tag("k8s-namespace:"), tag("k8s-name:")))
    }

    fn tell(&self, problems: &[Problem]) {
        let all: HashSet<Problem> = problems.iter().cloned().collect();
        let before = std::mem::replace(&mut self.told.lock().problems, all.clone());
        for problem in all.difference(&before) {
            if let Some(ingress) = self.ingresses.get(&problem.ingress) {
                let reason = "KongConfigurationTranslationFailed";
                self.recorder.event(&*ingress, EventType::Warning, reason, problem.message.clone());
            }
        }
    }

    /// Writes where an Ingress is served, if it is ours and does not say so yet.
    async fn publish(&self, key: &Key) -> Result<Action, ReconcileError> {
        let Some(ingress) = self.ingresses.get(key) else { return Ok(Action::await_change()) };
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
    }
}
