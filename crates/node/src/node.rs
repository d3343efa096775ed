//! The agent: one worker per pod bound to this node, its registration, usage readings, and logs for whoever asks.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use gantry_clock::Clock;
use gantry_operator::{Change, Informer, Key, Operator};
use gantry_prom_model::{Gather, MetricFamily};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cluster::BeforeStop;
use crate::config::Config;
use crate::ip::IpPool;
use crate::isolation;
use crate::isolation::dns::NameServer;
use crate::kube_cluster::KubeCluster;
use crate::pod::{self, Input, Shared};
use crate::process::{Delegation, ProcessRuntime};
use crate::registration::{self, Registration};
use crate::runtime::{ContainerKey, PodRef, Runtime};
use crate::usage::{self, UsageSnapshot};

/// Why the node could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {path} as the node's state directory: {source}")]
pub struct NodeError {
    pub path: String,
    pub source: std::io::Error,
}

/// What shutting down does to pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// Their processes end, within this grace at most; their objects stay.
    StopPods { grace: Duration },
    /// Their processes go on and are adopted by the next start.
    LeavePods,
}

/// A node that runs pods. Cloning shares it.
#[derive(Clone)]
pub struct Node {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) shared: Arc<Shared>,
    pub(crate) pods: Informer<Pod>,
    config_maps: Informer<ConfigMap>,
    secrets: Informer<Secret>,
    registration: Registration,
    clock: Arc<dyn Clock>,
    usage: watch::Sender<Arc<UsageSnapshot>>,
    dirty: Arc<Dirty>,
    /// Taken by the run.
    name_server: Mutex<Option<NameServer>>,
}

/// Keys to look at. Bounded by the number of objects, since a key waits once however often it changes.
#[derive(Default)]
struct Dirty {
    pods: Mutex<BTreeSet<Key>>,
    namespaces: Mutex<BTreeSet<String>>,
    notify: Notify,
}

struct WorkerHandle {
    key: Key,
    input: watch::Sender<Input>,
}

impl Node {
    /// Prepares a node that runs pods as processes. Registers the informers it reads, so it must be called before
    /// the operator runs.
    pub fn new(
        config: Config,
        operator: &Operator,
        before_stop: Option<Arc<dyn BeforeStop>>,
    ) -> Result<Node, NodeError> {
        let limits = crate::logs::Limits { max_bytes: config.log_max_bytes, max_files: config.log_max_files };
        let delegation = match Delegation::find(&std::path::absolute(&config.state_dir).unwrap_or_default()) {
            Ok(delegation) => Some(delegation),
            Err(reason) => {
                tracing::debug!(%reason, "resource usage is read from the process tree");
                None
            }
        };
        let launcher = config.networks.as_ref().map(|networks| networks.config().launcher.clone());
        let runtime = Arc::new(ProcessRuntime::build(limits, delegation, launcher));
        Node::with_runtime(config, operator, runtime, before_stop)
    }

    pub fn with_runtime(
        config: Config,
        operator: &Operator,
        runtime: Arc<dyn Runtime>,
        before_stop: Option<Arc<dyn BeforeStop>>,
    ) -> Result<Node, NodeError> {
        // Links in volumes are absolute, so the directory must be.
        let state_dir = std::path::absolute(&config.state_dir).unwrap_or_else(|_| config.state_dir.clone());
        let config = Config { state_dir, ..config };
        private_dir(&config.state_dir.join("pods"))
            .map_err(|source| NodeError { path: config.state_dir.display().to_string(), source })?;
        if config.networks.is_none() {
            isolation::end_holder(&config.state_dir);
        }
        let name_server = config.networks.clone().map(|networks| NameServer::new(operator, networks));
        let capacity = registration::capacity(&config);
        let registration = Registration {
            client: operator.client().clone(),
            config: config.clone(),
            clock: operator.clock().clone(),
            runtime_name: runtime.name(),
            usage_source: runtime.usage_source(),
            capacity: capacity.clone(),
        };
        let shared = Arc::new(Shared {
            ips: Mutex::new(IpPool::new(config.pod_cidr, config.networks.is_none())),
            cluster: Arc::new(KubeCluster::new(operator)),
            config,
            runtime,
            before_stop,
            allocatable: capacity,
        });
        let (usage, _) = watch::channel(Arc::new(UsageSnapshot::default()));
        Ok(Node {
            inner: Arc::new(Inner {
                shared,
                pods: operator.informer(),
                config_maps: operator.informer(),
                secrets: operator.informer(),
                registration,
                clock: operator.clock().clone(),
                usage,
                dirty: Arc::default(),
                name_server: Mutex::new(name_server),
            }),
        })
    }

    /// Runs until `cancel`, then shuts down as told and returns when that is done. The operator must be running, and
    /// must go on running until this has returned, since the last statuses are written through it.
    pub async fn run(&self, cancel: CancellationToken, shutdown: Shutdown) {
        let inner = &self.inner;
        let keep = tokio::spawn({
            let inner = inner.clone();
            async move { inner.registration.keep().await }
        });
        let sampling = tokio::spawn(inner.clone().sample_forever());
        let mut network_services = JoinSet::new();
        inner.serve_networks(&mut network_services);
        let _subscriptions = inner.subscribe();
        tokio::select! {
            _ = cancel.cancelled() => {}
            _ = async {
                inner.pods.synced().await;
                inner.config_maps.synced().await;
                inner.secrets.synced().await;
            } => {
                inner.end_leftovers().await;
                inner.run_pods(cancel, shutdown).await;
            }
        }
        keep.abort();
        sampling.abort();
        network_services.shutdown().await;
        if let Some(networks) = inner.shared.config.networks.clone()
            && let Shutdown::StopPods { .. } = shutdown
        {
            let _ = tokio::task::spawn_blocking(move || networks.end()).await;
        }
    }

    /// The newest reading of what pods use.
    pub fn usage(&self) -> Arc<UsageSnapshot> {
        self.inner.usage.borrow().clone()
    }

    /// Changes with every reading.
    pub fn watch_usage(&self) -> watch::Receiver<Arc<UsageSnapshot>> {
        self.inner.usage.subscribe()
    }

    /// The node's name.
    pub fn name(&self) -> &str {
        &self.inner.shared.config.node_name
    }

    /// The families of the kubelet's `/metrics/resource`.
    pub fn resource_metrics(&self) -> Vec<MetricFamily> {
        usage::resource_families(&self.usage())
    }

    /// Runs a command in a running container, with its environment and working directory, and waits for it.
    pub async fn exec(
        &self,
        namespace: &str,
        pod: &str,
        container: Option<&str>,
        command: &[String],
        timeout: Duration,
    ) -> Result<crate::runtime::ExecOutput, crate::LogError> {
        let (key, _) = self.container(namespace, pod, container)?;
        let result = self.inner.shared.runtime.exec(&key, command, timeout).await;
        result.map_err(|error| crate::LogError::Exec(error.to_string()))
    }

    /// The pod's container by name (its only or first one without a name) and that container's directory.
    pub(crate) fn container(
        &self,
        namespace: &str,
        pod: &str,
        container: Option<&str>,
    ) -> Result<(ContainerKey, std::path::PathBuf), crate::LogError> {
        let object = self
            .inner
            .pods
            .get(&Key::new(namespace, pod))
            .ok_or_else(|| crate::LogError::NoPod { pod: format!("{namespace}/{pod}") })?;
        let reference = pod::pod_ref(&object);
        let spec = object.spec.as_ref();
        let containers = spec.map(|s| s.containers.as_slice()).unwrap_or_default();
        let init = spec.and_then(|s| s.init_containers.as_deref()).unwrap_or_default();
        let default = object.metadata.annotations.as_ref().and_then(|a| a.get(DEFAULT_CONTAINER));
        let wanted = container.or(default.map(String::as_str));
        let found = match wanted {
            Some(name) => containers.iter().chain(init).find(|c| c.name == name),
            None => containers.first(),
        };
        let found = found.ok_or_else(|| crate::LogError::NoContainer {
            container: wanted.unwrap_or_default().into(),
            pod: format!("{namespace}/{pod}"),
            has: containers.iter().chain(init).map(|c| c.name.clone()).collect::<Vec<_>>().join(", "),
        })?;
        let pods_dir = self.inner.shared.config.state_dir.join("pods");
        let dir = pods_dir.join(&reference.uid).join("containers").join(&found.name);
        let attempt = crate::logs::latest_attempt(&dir).unwrap_or(0);
        Ok((ContainerKey { pod_uid: reference.uid, container: found.name.clone(), attempt }, dir))
    }
}

const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

impl Gather for Node {
    fn gather(&self) -> Vec<MetricFamily> {
        self.resource_metrics()
    }
}

impl Inner {
    /// Names for pods, and the way out of their network.
    fn serve_networks(&self, tasks: &mut JoinSet<()>) {
        if let Some(server) = self.name_server.lock().take() {
            tasks.spawn(async move {
                if let Err(error) = server.run().await {
                    tracing::error!(%error, "pods cannot resolve names");
                }
            });
        }
        if let Some(networks) = self.shared.config.networks.clone() {
            tasks.spawn(async move {
                if let Err(error) = isolation::outside::run(networks).await {
                    tracing::error!(%error, "pods cannot reach anything outside of their network");
                }
            });
        }
    }

    fn subscribe(&self) -> [gantry_operator::Subscription; 3] {
        let dirty = self.dirty.clone();
        let pods = self.pods.subscribe(move |change: &Change<Pod>| {
            let (old, new) = change.sides();
            if let Some(pod) = new.or(old) {
                dirty.pods.lock().insert(Key::of(&**pod));
                dirty.notify.notify_one();
            }
        });
        let config_maps = hear_namespaces(&self.config_maps, self.dirty.clone());
        let secrets = hear_namespaces(&self.secrets, self.dirty.clone());
        [pods, config_maps, secrets]
    }

    async fn sample_forever(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(self.shared.config.usage_interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let runtime = self.shared.runtime.clone();
            let Ok(samples) = tokio::task::spawn_blocking(move || runtime.sample()).await else { continue };
            let at = Timestamp::from_millisecond(self.clock.now_ms()).unwrap_or_default();
            self.usage.send_replace(Arc::new(usage::snapshot(samples, at)));
        }
    }

    fn is_ours(&self, pod: &Pod) -> bool {
        let node = pod.spec.as_ref().and_then(|s| s.node_name.as_deref());
        node == Some(self.shared.config.node_name.as_str())
    }

    /// Ends processes of pods that are gone, and keeps the addresses of those that are not.
    async fn end_leftovers(&self) {
        let mut known = HashSet::new();
        for pod in self.pods.list().iter().filter(|p| self.is_ours(p)) {
            let reference = pod::pod_ref(pod);
            let ip = pod.status.as_ref().and_then(|s| s.pod_ip.as_deref()).and_then(|ip| ip.parse().ok());
            let ended = pod.status.as_ref().and_then(|s| s.phase.as_deref());
            if let Some(ip) = ip.filter(|_| !matches!(ended, Some("Succeeded" | "Failed"))) {
                self.shared.ips.lock().adopt(ip, &reference.uid);
            }
            known.insert(reference.uid);
        }
        if let Some(networks) = &self.shared.config.networks {
            for uid in networks.attached().iter().filter(|uid| !known.contains(*uid)) {
                networks.detach(uid);
            }
        }
        let dirs =
            std::fs::read_dir(self.shared.config.state_dir.join("pods")).into_iter().flatten().flatten();
        for entry in dirs {
            let uid = entry.file_name().to_string_lossy().into_owned();
            if known.contains(&uid) {
                continue;
            }
            let count = self.shared.runtime.end_leftovers(&uid, &entry.path()).await;
            tracing::info!(pod_uid = uid, processes = count, "ended what was left of a pod that is gone");
            pod::remove_dir(&entry.path());
        }
    }

    async fn run_pods(&self, cancel: CancellationToken, shutdown: Shutdown) {
        let mut workers: HashMap<String, WorkerHandle> = HashMap::new();
        // Pods that have ended but whose objects stay, for example for a finalizer.
        let mut finished: HashSet<String> = HashSet::new();
        let mut tasks: JoinSet<String> = JoinSet::new();
        loop {
            tokio::select! {
                _ = cancel.cancelled() => break,
                _ = self.dirty.notify.notified() => {}
                Some(ended) = tasks.join_next(), if !tasks.is_empty() => {
                    match ended {
                        Ok(uid) => {
                            workers.remove(&uid);
                            finished.insert(uid);
                        }
                        Err(error) => tracing::error!(%error, "a pod's worker ended badly"),
                    }
                    continue;
                }
            }
            let namespaces = std::mem::take(&mut *self.dirty.namespaces.lock());
            for worker in workers.values().filter(|w| namespaces.contains(w.key.namespace())) {
                worker.input.send_modify(|input| input.references_generation += 1);
            }
            let keys = std::mem::take(&mut *self.dirty.pods.lock());
            for key in keys {
                self.take_pod(&key, &mut workers, &mut finished, &mut tasks);
            }
        }
        match shutdown {
            Shutdown::LeavePods => tasks.abort_all(),
            Shutdown::StopPods { grace } => {
                for worker in workers.values() {
                    worker.input.send_modify(|input| input.shutdown = Some(grace));
                }
            }
        }
        while tasks.join_next().await.is_some() {}
    }

    fn take_pod(
        &self,
        key: &Key,
        workers: &mut HashMap<String, WorkerHandle>,
        finished: &mut HashSet<String>,
        tasks: &mut JoinSet<String>,
    ) {
        let pod = self.pods.get(key).filter(|pod| self.is_ours(pod));
        let uid = pod.as_ref().and_then(|p| p.metadata.uid.clone()).unwrap_or_default();
        for (other, worker) in workers.iter().filter(|(_, w)| w.key == *key) {
            if *other != uid {
                worker.input.send_modify(|input| input.removed = true);
            }
        }
        let Some(pod) = pod else {
            // Uids are never used again, so forgetting late is harmless and forgetting all is cheap.
            let alive: HashSet<String> =
                self.pods.list().iter().filter_map(|p| p.metadata.uid.clone()).collect();
            finished.retain(|uid| alive.contains(uid));
            return;
        };
        if finished.contains(&uid) {
            return;
        }
        if let Some(worker) = workers.get(&uid) {
            worker.input.send_modify(|input| input.pod = pod.clone());
            return;
        }
        let input = Input { pod, removed: false, shutdown: None, references_generation: 0 };
        let (input, seen) = watch::channel(input);
        let shared = self.shared.clone();
        let task_uid = uid.clone();
        tasks.spawn(async move {
            pod::run(shared, seen).await;
            task_uid
        });
        workers.insert(uid, WorkerHandle { key: key.clone(), input });
    }
}

fn hear_namespaces<K>(informer: &Informer<K>, dirty: Arc<Dirty>) -> gantry_operator::Subscription
where
    K: gantry_operator::Object<DynamicType = ()>,
{
    informer.subscribe(move |change: &Change<K>| {
        let (old, new) = change.sides();
        if let Some(object) = new.or(old) {
            dirty.namespaces.lock().insert(object.meta().namespace.clone().unwrap_or_default());
            dirty.notify.notify_one();
        }
    })
}

/// Secrets are written under it, so nobody else may look.
pub(crate) fn private_dir(dir: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))
}

/// The pod a reference names, for callers that have only its parts.
impl From<(&str, &str, &str)> for PodRef {
    fn from((namespace, name, uid): (&str, &str, &str)) -> PodRef {
        PodRef { namespace: namespace.into(), name: name.into(), uid: uid.into() }
    }
}
