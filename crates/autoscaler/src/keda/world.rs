//! The cluster as sources see it: pods, ConfigMaps and Secrets, Services by name, and the metric store beside it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use gantry_apimachinery::selector::Selector;
use gantry_operator::{Informer, Key, Operator, explain};
use gantry_scalers::{
    Cluster, Hear, LocalMetrics, LocalQueryError, PodPlace, Resolve, ResourceKind, Subscription,
};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Client;
use kube::api::Api;
use parking_lot::Mutex;

use super::resolve::secret_data;
use crate::query::MetricsQuery;

/// What `kubernetes-workload` and `kubernetes-resource` read.
pub(crate) struct Objects {
    pub client: Client,
    pub pods: Informer<Pod>,
}

#[async_trait]
impl Cluster for Objects {
    fn pods(&self, namespace: &str, selector: &Selector) -> Vec<PodPlace> {
        let pods = self.pods.list_in(namespace).into_iter();
        let matching = pods.filter(|pod| {
            let labels = pod.metadata.labels.as_ref();
            selector.matches(|name| labels.and_then(|labels| labels.get(name)).map(String::as_str))
        });
        matching
            .map(|pod| PodPlace {
                phase: pod.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default(),
                node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
            })
            .collect()
    }

    fn hear_pods(&self, namespace: &str, hear: Hear) -> Option<Subscription> {
        let namespace = namespace.to_owned();
        let subscription = self.pods.subscribe(move |change| {
            if change.object().metadata.namespace.as_deref() == Some(&namespace) {
                hear();
            }
        });
        Some(Subscription::new(move || drop(subscription)))
    }

    async fn value(
        &self,
        kind: ResourceKind,
        namespace: &str,
        name: &str,
        key: &str,
    ) -> Result<String, String> {
        let failed = |error: kube::Error| match &error {
            kube::Error::Api(status) if status.code == 404 => format!("{namespace}/{name} not found"),
            _ => explain(&error),
        };
        let data = match kind {
            ResourceKind::ConfigMap => {
                let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
                api.get(name).await.map_err(failed)?.data.unwrap_or_default()
            }
            ResourceKind::Secret => {
                let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
                secret_data(&api.get(name).await.map_err(failed)?)
            }
        };
        data.get(key).cloned().ok_or_else(|| format!("key {key} not found in {namespace}/{name}"))
    }
}

/// Pods may be in a network that this process is not in.
pub trait Reach: Send + Sync + 'static {
    /// Where one connects to instead of `address`; `None` when that can be connected to as it is.
    fn reach(&self, address: SocketAddr) -> Option<SocketAddr>;
}

/// What pods call this machine. Their environment holds these names, and a trigger may read its address there.
const THIS_MACHINE: [&str; 2] = ["host.gantry.internal", "host.docker.internal"];

fn is_this_machine(host: &str) -> bool {
    THIS_MACHINE.iter().any(|name| host.trim_end_matches('.').eq_ignore_ascii_case(name))
}

/// Leads `service.namespace[.svc[.DOMAIN]]` to a ready endpoint, where no cluster DNS does.
pub(crate) struct Services {
    services: Informer<Service>,
    slices: Informer<EndpointSlice>,
    reach: Option<Arc<dyn Reach>>,
    next: AtomicU64,
}

impl Services {
    pub(crate) fn new(operator: &Operator, reach: Option<Arc<dyn Reach>>) -> Services {
        Services {
            services: operator.informer(),
            slices: operator.informer(),
            reach,
            next: AtomicU64::new(0),
        }
    }

    /// A ready endpoint of the Service that `host` names.
    fn endpoint(&self, host: &str, port: u16) -> Option<SocketAddr> {
        let mut labels = host.trim_end_matches('.').split('.');
        let (name, namespace) = (labels.next()?, labels.next()?);
        if labels.next().is_some_and(|label| label != "svc") {
            return None;
        }
        let service = self.services.get(&Key::new(namespace, name))?;
        let ports = service.spec.as_ref()?.ports.as_ref()?;
        let wanted = ports.iter().find(|given| given.port == i32::from(port))?;
        let slices = self.slices.list_in(namespace);
        let of_service = slices.iter().filter(|slice| {
            let labels = slice.metadata.labels.as_ref();
            labels.and_then(|labels| labels.get("kubernetes.io/service-name")).is_some_and(|of| of == name)
        });
        let mut addresses: Vec<SocketAddr> = Vec::new();
        for slice in of_service {
            let name_of = |name: &Option<String>| name.clone().unwrap_or_default();
            let target =
                slice.ports.iter().flatten().find(|given| name_of(&given.name) == name_of(&wanted.name));
            let Some(target) = target.and_then(|given| u16::try_from(given.port?).ok()) else { continue };
            for endpoint in slice.endpoints.iter().flatten() {
                let is_ready = endpoint.conditions.as_ref().is_none_or(|c| c.ready.unwrap_or(true));
                let ips = endpoint.addresses.iter().filter_map(|address| address.parse().ok());
                addresses.extend(ips.filter(|_| is_ready).map(|ip| SocketAddr::new(ip, target)));
            }
        }
        let count = u64::try_from(addresses.len()).ok().filter(|count| *count > 0)?;
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % count;
        addresses.get(usize::try_from(turn).ok()?).copied()
    }
}

impl Resolve for Services {
    fn resolve(&self, host: &str, port: u16) -> Option<SocketAddr> {
        if is_this_machine(host) {
            return Some(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port));
        }
        let address = match host.parse() {
            Ok(ip) => SocketAddr::new(ip, port),
            Err(_) => self.endpoint(host, port)?,
        };
        let instead = self.reach.as_ref().and_then(|reach| reach.reach(address));
        Some(instead.unwrap_or(address))
    }
}

/// The metric store of this process, for triggers whose `serverAddress` is one of its own.
pub(crate) struct OwnStore {
    queries: Arc<dyn MetricsQuery>,
    addresses: Vec<String>,
    listeners: Arc<Mutex<Listeners>>,
}

/// A push reads all sources of an object, among them those of other programs.
const BETWEEN_WORDS: Duration = Duration::from_millis(250);

#[derive(Default)]
struct Listeners {
    hears: Vec<(u64, Hear)>,
    next: u64,
    is_running: bool,
}

impl OwnStore {
    pub(crate) fn new(queries: Arc<dyn MetricsQuery>, addresses: Vec<String>) -> OwnStore {
        OwnStore { queries, addresses, listeners: Arc::default() }
    }
}

#[async_trait]
impl LocalMetrics for OwnStore {
    fn answers_for(&self, address: &str) -> bool {
        let plain = |address: &str| address.trim_end_matches('/').to_ascii_lowercase();
        self.addresses.iter().any(|own| plain(own) == plain(address))
    }

    async fn query(&self, promql: &str) -> Result<Vec<f64>, LocalQueryError> {
        let series = self.queries.query(promql).await.map_err(|error| LocalQueryError(error.0))?;
        Ok(series.into_iter().map(|(_, value)| value).collect())
    }

    fn hear(&self, hear: Hear) -> Option<Subscription> {
        let changes = self.queries.changes()?;
        let mut listeners = self.listeners.lock();
        let id = listeners.next;
        listeners.next += 1;
        listeners.hears.push((id, hear));
        if !listeners.is_running {
            listeners.is_running = true;
            tokio::spawn(tell(changes, self.listeners.clone()));
        }
        let all = self.listeners.clone();
        Some(Subscription::new(move || all.lock().hears.retain(|(other, _)| *other != id)))
    }
}

/// Tells all listeners of new samples until none is left or the store is gone.
async fn tell(mut changes: tokio::sync::watch::Receiver<u64>, listeners: Arc<Mutex<Listeners>>) {
    while changes.changed().await.is_ok() {
        let hears: Vec<Hear> = {
            let mut listeners = listeners.lock();
            if listeners.hears.is_empty() {
                listeners.is_running = false;
                return;
            }
            listeners.hears.iter().map(|(_, hear)| hear.clone()).collect()
        };
        for hear in hears {
            hear();
        }
        // Each target's samples come by themselves: what comes in this time is one word.
        tokio::time::sleep(BETWEEN_WORDS).await;
    }
    listeners.lock().is_running = false;
}

#[cfg(test)]
mod tests {
    use gantry_prom_model::Labels;
    use tokio::sync::watch;

    use super::*;
    use crate::query::QueryError;

    struct Store(watch::Sender<u64>);

    #[async_trait]
    impl MetricsQuery for Store {
        async fn query(&self, _promql: &str) -> Result<Vec<(Labels, f64)>, QueryError> {
            Ok(Vec::new())
        }

        fn changes(&self) -> Option<watch::Receiver<u64>> {
            Some(self.0.subscribe())
        }
    }

    #[test]
    fn this_machine_is_known_by_the_names_that_pods_have_for_it() {
        for host in ["host.gantry.internal", "host.docker.internal.", "HOST.gantry.internal"] {
            assert!(is_this_machine(host), "{host}");
        }
        for host in ["gantry.internal", "redis.queue.svc.cluster.local", "my.host.gantry.internal"] {
            assert!(!is_this_machine(host), "{host}");
        }
    }

    #[tokio::test]
    async fn new_samples_are_told_to_whoever_still_listens() {
        let store = Arc::new(Store(watch::Sender::new(0)));
        let own = OwnStore::new(store.clone(), Vec::new());
        let heard = Arc::new(AtomicU64::new(0));
        let listen = || {
            let heard = heard.clone();
            let hear: Hear = Arc::new(move || {
                heard.fetch_add(1, Ordering::Relaxed);
            });
            own.hear(hear).expect("the store tells")
        };
        let until = async |words: u64| {
            let all = async {
                while heard.load(Ordering::Relaxed) < words {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(20), all).await.expect("it is told");
            assert_eq!(heard.load(Ordering::Relaxed), words);
        };
        let (first, second) = (listen(), listen());
        store.0.send_modify(|stored| *stored += 1);
        until(2).await;
        drop(second);
        store.0.send_modify(|stored| *stored += 1);
        until(3).await;
        drop(first);
        let _third = listen();
        store.0.send_modify(|stored| *stored += 1);
        until(4).await;
    }
}
