//! The stores that a translation reads. Kinds that are defined by others are watched once the server serves them.

use crate::kinds::{
    GATEWAY_GROUP, Gateway, GatewayClass, HttpRoute, KONG_GROUP, KongClusterPlugin, KongConsumer, KongPlugin,
    KongUpstreamPolicy, ListenerSet, ReferenceGrant, TlsRoute,
};
use gantry_operator::{Informer, Object, Operator, Trigger, served_plurals};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often the server is asked for kinds that it did not serve yet.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// How long the first list of a kind is waited for.
const FIRST_LIST: Duration = Duration::from_secs(10);

/// An informer, once its kind is served.
pub(crate) struct Optional<K: Object>(Mutex<Option<Informer<K>>>);

impl<K: Object<DynamicType = ()>> Default for Optional<K> {
    fn default() -> Optional<K> {
        Optional(Mutex::new(None))
    }
}

impl<K: Object<DynamicType = ()>> Optional<K> {
    pub(crate) fn list(&self) -> Vec<Arc<K>> {
        self.informer().map(|informer| informer.list()).unwrap_or_default()
    }

    pub(crate) fn informer(&self) -> Option<Informer<K>> {
        self.0.lock().clone()
    }

    /// Whether the store holds every object of the kind; so it does where the kind is not served.
    fn is_complete(&self) -> bool {
        self.informer().is_none_or(|informer| informer.has_synced())
    }

    /// Begins to watch the kind where it is served; returns whether it is watched now.
    async fn begin(&self, operator: &Operator, served: &[String], changed: &Trigger) -> bool {
        if self.informer().is_some() {
            return true;
        }
        let resource = kube::api::ApiResource::erase::<K>(&());
        if !served.contains(&format!("{}/{}", resource.api_version, resource.plural)) {
            return false;
        }
        let informer = operator.informer::<K>();
        // A kind that may not be listed must not hold up the watches of the others; what needs it stays closed.
        if tokio::time::timeout(FIRST_LIST, informer.synced()).await.is_err() {
            tracing::warn!(kind = resource.kind, "no complete list yet");
        }
        let changed = changed.clone();
        *self.0.lock() = Some(informer.clone());
        informer.subscribe(move |_| changed.now(crate::controller::everything())).keep();
        true
    }
}

/// Everything that is read.
pub(crate) struct Sources {
    pub(crate) ingresses: Informer<Ingress>,
    pub(crate) classes: Informer<IngressClass>,
    pub(crate) services: Informer<Service>,
    pub(crate) slices: Informer<EndpointSlice>,
    pub(crate) secrets: Informer<Secret>,
    pub(crate) config_maps: Informer<ConfigMap>,
    pub(crate) namespaces: Informer<Namespace>,
    pub(crate) plugins: Optional<KongPlugin>,
    pub(crate) cluster_plugins: Optional<KongClusterPlugin>,
    pub(crate) consumers: Optional<KongConsumer>,
    pub(crate) policies: Optional<KongUpstreamPolicy>,
    pub(crate) gateway_classes: Optional<GatewayClass>,
    pub(crate) gateways: Optional<Gateway>,
    pub(crate) listener_sets: Optional<ListenerSet>,
    pub(crate) http_routes: Optional<HttpRoute>,
    pub(crate) tls_routes: Optional<TlsRoute>,
    pub(crate) grants: Optional<ReferenceGrant>,
    /// Whether it is known which kinds are served, and every global plugin: before, a plugin that is not seen may only be
    /// not seen yet.
    known: Mutex<bool>,
}

impl Sources {
    pub(crate) fn new(operator: &Operator) -> Sources {
        Sources {
            ingresses: operator.informer(),
            classes: operator.informer(),
            services: operator.informer(),
            slices: operator.informer(),
            secrets: operator.informer(),
            config_maps: operator.informer(),
            namespaces: operator.informer(),
            plugins: Optional::default(),
            cluster_plugins: Optional::default(),
            consumers: Optional::default(),
            policies: Optional::default(),
            gateway_classes: Optional::default(),
            gateways: Optional::default(),
            listener_sets: Optional::default(),
            http_routes: Optional::default(),
            tls_routes: Optional::default(),
            grants: Optional::default(),
            known: Mutex::new(false),
        }
    }

    pub(crate) fn are_known(&self) -> bool {
        *self.known.lock()
    }

    /// Looks for kinds until all are watched or `cancel`.
    pub(crate) async fn follow(&self, operator: &Operator, changed: &Trigger, cancel: CancellationToken) {
        loop {
            let looked = cancel.run_until_cancelled(self.look(operator, changed)).await;
            match looked {
                None | Some(Ok(true)) => return,
                Some(Ok(false)) => {}
                Some(Err(error)) => {
                    tracing::warn!(%error, "cannot ask which kinds of Kong and of the Gateway API are served");
                }
            }
            if cancel.run_until_cancelled(tokio::time::sleep(LOOK_AGAIN)).await.is_none() {
                return;
            }
        }
    }

    async fn look(&self, operator: &Operator, changed: &Trigger) -> Result<bool, kube::Error> {
        let mut served = Vec::new();
        for (group, version) in
            [(KONG_GROUP, "v1"), (KONG_GROUP, "v1beta1"), (GATEWAY_GROUP, "v1"), (GATEWAY_GROUP, "v1beta1")]
        {
            let group_version = format!("{group}/{version}");
            for plural in served_plurals(operator.client(), &group_version).await? {
                served.push(format!("{group_version}/{plural}"));
            }
        }
        let watched = [
            self.grants.begin(operator, &served, changed).await,
            self.plugins.begin(operator, &served, changed).await,
            self.cluster_plugins.begin(operator, &served, changed).await,
            self.consumers.begin(operator, &served, changed).await,
            self.policies.begin(operator, &served, changed).await,
            self.gateway_classes.begin(operator, &served, changed).await,
            self.gateways.begin(operator, &served, changed).await,
            self.listener_sets.begin(operator, &served, changed).await,
            self.http_routes.begin(operator, &served, changed).await,
            self.tls_routes.begin(operator, &served, changed).await,
        ];
        // Nothing names a global plugin, so a route that lacks one cannot be told from a route that never had one.
        if !self.are_known() && !self.cluster_plugins.is_complete() {
            tracing::error!(
                kind = "KongClusterPlugin",
                "no complete list: nothing is configured until the global plugins are known"
            );
            return Ok(false);
        }
        let was_known = std::mem::replace(&mut *self.known.lock(), true);
        if !was_known {
            changed.now(crate::controller::everything());
        }
        Ok(watched.iter().all(|is_watched| *is_watched))
    }
}
