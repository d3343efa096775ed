//! The Node object and its Lease: how the rest of the cluster sees this machine.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use gantry_clock::Clock;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{
    Namespace, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeSpec, NodeStatus, NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference, Time};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::config::Config;
use crate::pod::HOST_IP;
use crate::procfs;

/// Says on the Node object what resource usage is read from.
const USAGE_ANNOTATION: &str = "gantry.dev/resource-usage";
const LEASE_NAMESPACE: &str = "kube-node-lease";
/// The status is written again at least this often, so that heartbeat times move.
const STATUS_INTERVAL: Duration = Duration::from_secs(300);
const RETRY: Duration = Duration::from_millis(500);

/// What the machine has, as capacity and allocatable (nothing is held back for the system).
pub(crate) fn capacity(config: &Config) -> BTreeMap<String, Quantity> {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let memory_kib = procfs::meminfo("MemTotal").unwrap_or(0) / 1024;
    let disk_kib = rustix::fs::statvfs(&config.state_dir).map_or(0, |s| s.f_blocks * s.f_frsize / 1024);
    [
        ("cpu", cpus.to_string()),
        ("memory", format!("{memory_kib}Ki")),
        ("ephemeral-storage", format!("{disk_kib}Ki")),
        ("pods", config.max_pods.to_string()),
    ]
    .map(|(name, amount)| (name.to_string(), Quantity(amount)))
    .into()
}

pub(crate) struct Registration {
    pub(crate) client: Client,
    pub(crate) config: Config,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) runtime_name: &'static str,
    /// What resource usage is read from.
    pub(crate) usage_source: String,
    pub(crate) capacity: BTreeMap<String, Quantity>,
}

impl Registration {
    /// Makes the Node where it is not there and writes its status; returns its uid.
    pub(crate) async fn register(&self) -> Result<String, kube::Error> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let name = &self.config.node_name;
        let existing = nodes.get_opt(name).await?;
        let node = match existing {
            Some(node) => node,
            None => match nodes.create(&PostParams::default(), &self.node()).await {
                Err(kube::Error::Api(status)) if status.code == 409 => nodes.get(name).await?,
                created => created?,
            },
        };
        let annotations = json!({USAGE_ANNOTATION: self.usage_source});
        let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
        nodes.patch(name, &PatchParams::default(), &patch).await?;
        self.write_status().await?;
        Ok(node.metadata.uid.unwrap_or_default())
    }

    /// Keeps the Node's status and its Lease fresh; never returns.
    pub(crate) async fn keep(&self) {
        let mut uid = None;
        let mut status_due = self.clock.monotonic();
        loop {
            let result = async {
                let owner = match &uid {
                    Some(uid) => String::clone(uid),
                    None => self.register().await?,
                };
                if self.clock.monotonic() >= status_due {
                    self.write_status().await?;
                    status_due = self.clock.monotonic() + STATUS_INTERVAL;
                }
                self.renew_lease(&owner).await?;
                Ok::<String, kube::Error>(owner)
            };
            match result.await {
                Ok(owner) => {
                    uid = Some(owner);
                    tokio::time::sleep(self.config.lease_interval).await;
                }
                Err(error) => {
                    tracing::warn!(%error, node = self.config.node_name, "cannot renew the node's registration");
                    // The Node may have been deleted: it is made again.
                    uid = None;
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    async fn renew_lease(&self, owner: &str) -> Result<(), kube::Error> {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), LEASE_NAMESPACE);
        let name = &self.config.node_name;
        let now = MicroTime(self.now());
        let patch = Patch::Merge(json!({"spec": {"renewTime": now, "holderIdentity": name}}));
        match leases.patch(name, &PatchParams::default(), &patch).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            patched => return patched.map(drop),
        }
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(LEASE_NAMESPACE.into()),
                owner_references: Some(vec![OwnerReference {
                    api_version: "v1".into(),
                    kind: "Node".into(),
                    name: name.clone(),
                    uid: owner.into(),
                    ..OwnerReference::default()
                }]),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(name.clone()),
                lease_duration_seconds: Some(40),
                renew_time: Some(now),
                ..LeaseSpec::default()
            }),
        };
        let params = PostParams::default();
        match leases.create(&params, &lease).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {
                let namespaces: Api<Namespace> = Api::all(self.client.clone());
                let namespace = Namespace {
                    metadata: ObjectMeta { name: Some(LEASE_NAMESPACE.into()), ..ObjectMeta::default() },
                    ..Namespace::default()
                };
                namespaces.create(&params, &namespace).await?;
                leases.create(&params, &lease).await.map(drop)
            }
            created => created.map(drop),
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(self.clock.now_ms()).unwrap_or_default()
    }

    fn node(&self) -> Node {
        let name = &self.config.node_name;
        let labels = [
            ("kubernetes.io/hostname", name.as_str()),
            ("kubernetes.io/os", "linux"),
            ("kubernetes.io/arch", architecture()),
            ("beta.kubernetes.io/os", "linux"),
            ("beta.kubernetes.io/arch", architecture()),
        ];
        Node {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                labels: Some(labels.map(|(k, v)| (k.to_string(), v.to_string())).into()),
                ..ObjectMeta::default()
            },
            spec: Some(NodeSpec {
                pod_cidr: Some(self.config.pod_cidr.to_string()),
                pod_cidrs: Some(vec![self.config.pod_cidr.to_string()]),
                ..NodeSpec::default()
            }),
            status: None,
        }
    }

    async fn write_status(&self) -> Result<(), kube::Error> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let patch = Patch::Merge(json!({"status": self.status()}));
        nodes.patch_status(&self.config.node_name, &PatchParams::default(), &patch).await.map(drop)
    }

    fn status(&self) -> NodeStatus {
        let now = Time(self.now());
        let condition = |name: &str, status: &str, reason: &str, message: &str| NodeCondition {
            type_: name.into(),
            status: status.into(),
            reason: Some(reason.into()),
            message: Some(message.into()),
            last_heartbeat_time: Some(now.clone()),
            last_transition_time: Some(now.clone()),
        };
        let address = |kind: &str, address: String| NodeAddress { type_: kind.into(), address };
        NodeStatus {
            capacity: Some(self.capacity.clone()),
            allocatable: Some(self.capacity.clone()),
            conditions: Some(vec![
                condition("MemoryPressure", "False", "KubeletHasSufficientMemory", "memory is not watched"),
                condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "disk space is not watched"),
                condition("PIDPressure", "False", "KubeletHasSufficientPID", "process ids are not watched"),
                condition("Ready", "True", "KubeletReady", "the node runs pods as processes"),
            ]),
            addresses: Some(vec![
                address("InternalIP", HOST_IP.to_string()),
                address("Hostname", self.config.node_name.clone()),
            ]),
            daemon_endpoints: Some(NodeDaemonEndpoints::default()),
            node_info: Some(self.system_info()),
            ..NodeStatus::default()
        }
    }

    fn system_info(&self) -> NodeSystemInfo {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_string();
        let os_release = read("/etc/os-release");
        let os_image = os_release.lines().find_map(|l| l.strip_prefix("PRETTY_NAME="));
        NodeSystemInfo {
            architecture: architecture().into(),
            boot_id: procfs::boot_id(),
            container_runtime_version: format!("{}://{}", self.runtime_name, self.config.version),
            kernel_version: read("/proc/sys/kernel/osrelease"),
            kube_proxy_version: String::new(),
            kubelet_version: format!("v1.36.0-gantry.{}", self.config.version),
            machine_id: read("/etc/machine-id"),
            operating_system: "linux".into(),
            os_image: os_image.unwrap_or("Linux").trim_matches('"').into(),
            system_uuid: read("/etc/machine-id"),
            ..NodeSystemInfo::default()
        }
    }
}

/// The architecture under Go's name.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
