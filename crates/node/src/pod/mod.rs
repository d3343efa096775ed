//! One pod from its first container to its last: a task that takes in events and makes the pod's processes match.
//!
//! Every change goes through [`Worker::advance`], which looks at the slots and does the next thing; every status
//! goes through [`Worker::publish`], which writes it only when it differs from what was shown.

mod account;
mod recover;
mod slot;
mod start;
mod stop;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::action::{Dialer, Target};
use crate::cluster::{BeforeStop, Cluster, ClusterError, Severity};
use crate::config::Config;
use crate::downward;
use crate::ip::IpPool;
use crate::isolation::{self, PodNetworks, Sandbox};
use crate::logs::{self, LogOptions, Reader};
use crate::probe::{ProbeDecision, ProbeKind};
use crate::runtime::{ContainerKey, PodRef, Runtime};
use crate::status::{self, Role};
use slot::{Phase, Slot};
use stop::{Stop, StopReason};

/// Address shown as the node's, and of pods on the host network.
pub(crate) const HOST_IP: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// A setup step that failed is tried again after this time, or when a ConfigMap, Secret or the pod changes.
const RETRY: Duration = Duration::from_secs(2);
const EVENTS: usize = 64;
const REMOVE_TRIES: u32 = 60;

/// What all workers of a node share.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) cluster: Arc<dyn Cluster>,
    pub(crate) before_stop: Option<Arc<dyn BeforeStop>>,
    pub(crate) ips: Mutex<IpPool>,
    pub(crate) allocatable: BTreeMap<String, Quantity>,
}

/// The newest that the agent knows about a pod.
#[derive(Clone, Debug)]
pub(crate) struct Input {
    pub(crate) pod: Arc<Pod>,
    /// The object is gone: its processes end at once.
    pub(crate) removed: bool,
    /// The node shuts down: processes end, the object stays. Holds the longest grace to give.
    pub(crate) shutdown: Option<Duration>,
    /// Grows when a ConfigMap or Secret changed.
    pub(crate) references_generation: u64,
}

enum Event {
    Probe(ProbeDecision),
    Exited {
        container: String,
        attempt: u32,
    },
    HookDone {
        container: String,
        attempt: u32,
        result: Result<(), String>,
    },
    /// Nobody sends the pod work any more.
    Released,
}

struct Worker {
    shared: Arc<Shared>,
    input: watch::Receiver<Input>,
    pod: Arc<Pod>,
    name: PodRef,
    dir: PathBuf,
    slots: Vec<Slot>,
    ip: Option<Ipv4Addr>,
    /// What its containers share, unless that is this machine's.
    sandbox: Option<Arc<Sandbox>>,
    account: account::Account,
    start_time: Timestamp,
    events: mpsc::Sender<Event>,
    decisions: mpsc::Sender<ProbeDecision>,
    status: watch::Sender<serde_json::Value>,
    shown: PodStatus,
    stop: Option<Stop>,
    /// As `status::Facts::ports`.
    ports: Option<Option<(String, String)>>,
    failed: Option<(String, String)>,
    volumes_generation: Option<u64>,
    volumes_due: Instant,
    last_warning: String,
}

/// Runs a pod until its processes have ended for good and its object is gone or the node shuts down.
pub(crate) async fn run(shared: Arc<Shared>, input: watch::Receiver<Input>) {
    let pod = input.borrow().pod.clone();
    let name = pod_ref(&pod);
    if let Some(wrong) = unsafe_name(&pod) {
        let message = format!("\"{wrong}\" cannot be a file name, so the pod cannot be run");
        shared.cluster.event(&name, None, Severity::Warning, "Failed", message);
        return;
    }
    let (events, mut received) = mpsc::channel(EVENTS);
    let (decisions, mut decided) = mpsc::channel(EVENTS);
    let (status, to_write) = watch::channel(serde_json::Value::Null);
    let writer = tokio::spawn(write_statuses(shared.clone(), name.clone(), to_write));
    let mut worker = Worker {
        dir: shared.config.state_dir.join("pods").join(&name.uid),
        slots: slots(&pod),
        ip: None,
        sandbox: None,
        account: account::Account::default(),
        start_time: previous_start(&pod).unwrap_or_else(Timestamp::now),
        shown: pod.status.clone().unwrap_or_default(),
        stop: None,
        ports: None,
        failed: None,
        volumes_generation: None,
        volumes_due: Instant::now(),
        last_warning: String::new(),
        shared,
        input,
        pod,
        name,
        events,
        decisions,
        status,
    };
    worker.recover().await;
    worker.take_input();
    loop {
        worker.advance().await;
        worker.publish();
        if worker.is_finished() {
            break;
        }
        let wake = worker.next_wake();
        tokio::select! {
            changed = worker.input.changed() => match changed {
                Ok(()) => worker.take_input(),
                // The agent is gone without a shutdown: leave the processes as they are, for the next start.
                Err(_) => return,
            },
            Some(event) = received.recv() => worker.handle(event),
            Some(decision) = decided.recv() => worker.handle(Event::Probe(decision)),
            _ = tokio::time::sleep_until(wake) => {}
        }
    }
    writer.abort();
    worker.finish().await;
}

pub(crate) fn pod_ref(pod: &Pod) -> PodRef {
    PodRef {
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        name: pod.metadata.name.clone().unwrap_or_default(),
        uid: pod.metadata.uid.clone().unwrap_or_default(),
    }
}

fn slots(pod: &Pod) -> Vec<Slot> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let init = spec.init_containers.as_deref().unwrap_or_default();
    let reason = if init.is_empty() { "ContainerCreating" } else { "PodInitializing" };
    let role = |c: &Container| match c.restart_policy.as_deref() {
        Some("Always") => Role::Sidecar,
        _ => Role::Init,
    };
    let init = init.iter().map(|c| Slot::new(c.clone(), role(c), reason));
    init.chain(spec.containers.iter().map(|c| Slot::new(c.clone(), Role::Main, reason))).collect()
}

fn previous_start(pod: &Pod) -> Option<Timestamp> {
    pod.status.as_ref()?.start_time.as_ref().map(|t| t.0)
}

/// A name of the pod that would leave its directory.
fn unsafe_name(pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref();
    let containers = spec.iter().flat_map(|s| s.containers.iter().chain(s.init_containers.iter().flatten()));
    let volumes = spec.iter().flat_map(|s| s.volumes.iter().flatten()).map(|v| v.name.clone());
    let names = containers.map(|c| c.name.clone()).chain(volumes).chain(pod.metadata.uid.clone());
    let safe = |name: &str| {
        !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0']) && name.len() < 256
    };
    names.into_iter().find(|name| !safe(name))
}

/// Writes the newest status, skipping those that were replaced while a write was under way.
async fn write_statuses(shared: Arc<Shared>, pod: PodRef, mut statuses: watch::Receiver<serde_json::Value>) {
    while statuses.changed().await.is_ok() {
        let mut delay = Duration::from_millis(50);
        loop {
            let status = statuses.borrow_and_update().clone();
            match shared.cluster.write_status(&pod, status).await {
                Ok(()) => break,
                Err(ClusterError::Gone(_)) => return,
                Err(error) => {
                    tracing::debug!(%pod, %error, "pod status not written, trying again");
                    tokio::time::sleep(delay).await;
                    delay = (delay * 2).min(RETRY);
                }
            }
        }
    }
}

impl Worker {
    fn take_input(&mut self) {
        let input = self.input.borrow_and_update().clone();
        if input.pod.metadata.uid == self.pod.metadata.uid {
            self.pod = input.pod.clone();
        }
        if self.volumes_generation.is_some_and(|g| g != input.references_generation) {
            self.volumes_due = Instant::now();
            self.retry_configuration();
        }
        if input.removed {
            self.begin_stop(StopReason::Removed, Duration::ZERO);
        } else if let Some(grace) = input.shutdown {
            self.begin_stop(StopReason::Shutdown, self.grace().min(grace));
        } else if self.pod.metadata.deletion_timestamp.is_some() {
            let grace = self.pod.metadata.deletion_grace_period_seconds.and_then(|s| u64::try_from(s).ok());
            let grace = grace.map_or_else(|| self.grace(), Duration::from_secs);
            self.begin_stop(StopReason::Deleted, grace);
        }
    }

    /// Containers that wait for a ConfigMap or Secret need not wait for their next try.
    fn retry_configuration(&mut self) {
        for slot in &mut self.slots {
            if let Phase::Waiting { reason, retry_at, .. } = &mut slot.phase
                && (reason == start::CONFIG_ERROR || reason == start::CREATING)
            {
                *retry_at = None;
            }
        }
    }

    fn grace(&self) -> Duration {
        let seconds = self.pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds);
        Duration::from_secs(seconds.and_then(|s| u64::try_from(s).ok()).unwrap_or(30))
    }

    /// Does whatever is due.
    async fn advance(&mut self) {
        if self.stop.is_some() {
            return self.advance_stop();
        }
        if self.is_terminal() {
            return;
        }
        if let Some(deadline) = self.deadline()
            && Timestamp::now() >= deadline
        {
            let message = "Pod was active on the node longer than the specified deadline".to_string();
            self.failed = Some(("DeadlineExceeded".into(), message));
            self.begin_stop(StopReason::Deadline, self.grace());
            return self.advance_stop();
        }
        if !self.prepare().await {
            return;
        }
        let now = Instant::now();
        for index in 0..self.slots.len() {
            let slot = &self.slots[index];
            let settled = match slot.role {
                Role::Init => slot.exit_code() == Some(0),
                Role::Sidecar => slot.is_started(),
                Role::Main => true,
            };
            let may_run = match &slot.phase {
                Phase::Running(_) => false,
                Phase::Waiting { .. } => slot.is_due(now),
                Phase::Terminated { retry_at, .. } => retry_at.is_some() && slot.is_due(now),
            };
            if may_run && !(slot.role == Role::Init && settled) {
                self.start(index).await;
            }
            if !settled && !self.slots[index].is_started_sidecar() {
                // Later containers wait for this one.
                return;
            }
        }
    }

    fn deadline(&self) -> Option<Timestamp> {
        let seconds = self.pod.spec.as_ref()?.active_deadline_seconds?;
        self.start_time.checked_add(Duration::from_secs(u64::try_from(seconds).ok()?)).ok()
    }

    /// The pod has ended by itself: all containers are done and none will run again.
    fn is_terminal(&self) -> bool {
        if self.failed.is_some() {
            return true;
        }
        let done = |slot: &Slot| matches!(&slot.phase, Phase::Terminated { retry_at: None, .. });
        let mains = || self.slots.iter().filter(|s| s.role == Role::Main);
        let init_failed = self
            .slots
            .iter()
            .any(|s| s.role == Role::Init && done(s) && s.exit_code().is_some_and(|c| c != 0));
        init_failed || (mains().count() > 0 && mains().all(done))
    }

    fn next_wake(&self) -> Instant {
        let hour = Instant::now() + Duration::from_secs(3600);
        let retries = self.slots.iter().filter_map(Slot::retry_at);
        let deadline = self.deadline().map(|deadline| {
            let left = Duration::try_from(deadline.duration_since(Timestamp::now())).unwrap_or_default();
            Instant::now() + left
        });
        let volumes = (!self.is_terminal() && self.stop.is_none()).then_some(self.volumes_due);
        let due = retries.filter(|_| self.stop.is_none() && !self.is_terminal());
        let earliest = due.chain(deadline).chain(volumes).fold(hour, Instant::min);
        // A retry that waits for an earlier container is in the past: it must not spin.
        earliest.max(Instant::now() + Duration::from_millis(20))
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Probe(decision) => self.take_decision(decision),
            Event::Exited { container, attempt } => self.take_exit(&container, attempt),
            Event::HookDone { container, attempt, result } => self.take_hook(&container, attempt, result),
            Event::Released => {
                if let Some(stop) = &mut self.stop {
                    stop.released = true;
                }
            }
        }
    }

    fn running_slot(&mut self, container: &str, attempt: u32) -> Option<&mut Slot> {
        let of_run = |s: &&mut Slot| {
            s.spec.name == container && s.live().is_some_and(|l| l.running.attempt == attempt)
        };
        self.slots.iter_mut().find(of_run)
    }

    fn take_decision(&mut self, decision: ProbeDecision) {
        let Some(slot) = self.running_slot(&decision.container, decision.attempt) else { return };
        match (decision.kind, decision.success) {
            (ProbeKind::Readiness, ready) => slot.ready = ready,
            (ProbeKind::Startup, true) => {
                let without_readiness = slot.live().is_some_and(|live| !live.has_readiness_probe);
                slot.ready |= without_readiness;
                if let Some(live) = slot.live_mut() {
                    live.started.send_replace(true);
                }
            }
            (ProbeKind::Liveness, true) => {}
            (ProbeKind::Liveness, false) | (ProbeKind::Startup, false) => {
                let (probe, what) = match decision.kind {
                    ProbeKind::Startup => (slot.spec.startup_probe.as_ref(), "startup"),
                    _ => (slot.spec.liveness_probe.as_ref(), "liveness"),
                };
                let grace = probe.and_then(|p| p.termination_grace_period_seconds);
                let grace = grace.and_then(|s| u64::try_from(s).ok()).map(Duration::from_secs);
                let message =
                    format!("Container {} failed {what} probe, will be restarted", decision.container);
                self.event(Some(&decision.container), Severity::Normal, "Killing", message);
                let grace = grace.unwrap_or_else(|| self.grace());
                self.stop_container(&decision.container, grace);
            }
        }
    }

    fn take_hook(&mut self, container: &str, attempt: u32, result: Result<(), String>) {
        let grace = self.grace();
        let Some(slot) = self.running_slot(container, attempt) else { return };
        match result {
            Ok(()) => {
                if let Some(live) = slot.live_mut() {
                    live.hook_done = true;
                    if !live.has_startup_probe {
                        live.started.send_replace(true);
                    }
                }
            }
            Err(message) => {
                let message = format!("PostStartHook failed: {message}");
                self.event(Some(container), Severity::Warning, "FailedPostStartHook", message);
                self.stop_container(container, grace);
            }
        }
    }

    fn take_exit(&mut self, container: &str, attempt: u32) {
        let policy = status::restart_policy(&self.pod).to_string();
        let stopping = self.stop.is_some();
        let (pod, shared, dir) = (self.pod_text(), self.shared.clone(), self.dir.clone());
        let Some(slot) = self.running_slot(container, attempt) else { return };
        let Some(live) = slot.live() else { return };
        let Some(exit) = live.running.exit.borrow().clone() else { return };
        let started_at = live.running.started_at;
        let restart = !stopping
            && match slot.role {
                Role::Sidecar => true,
                Role::Init => exit.code != 0 && policy != "Never",
                Role::Main => policy == "Always" || (policy == "OnFailure" && exit.code != 0),
            };
        let wants_log = slot.spec.termination_message_policy.as_deref() == Some("FallbackToLogsOnError");
        let message = (wants_log && exit.code != 0)
            .then(|| last_words(&dir.join("containers").join(container), attempt))
            .flatten();
        if let Some(delay) = slot.end(started_at, &exit, message, restart, &pod, &shared.config) {
            tracing::debug!(pod, container, ?delay, "container backs off");
            let message = format!("Back-off restarting failed container {container} in pod {pod}");
            self.event(Some(container), Severity::Warning, "BackOff", message);
        }
    }

    /// `name_namespace(uid)`, as the kubelet names pods in messages.
    fn pod_text(&self) -> String {
        format!("{}_{}({})", self.name.name, self.name.namespace, self.name.uid)
    }

    fn key(&self, container: &str, attempt: u32) -> ContainerKey {
        ContainerKey { pod_uid: self.name.uid.clone(), container: container.into(), attempt }
    }

    fn target(&self, container: &str, attempt: u32) -> Target {
        Target {
            runtime: self.shared.runtime.clone(),
            key: self.key(container, attempt),
            address: self.ip.unwrap_or(HOST_IP),
            dialer: Dialer { networks: self.shared.config.networks.clone() },
        }
    }

    fn is_on_host_network(&self) -> bool {
        self.pod.spec.as_ref().and_then(|s| s.host_network) == Some(true)
    }

    /// The networks of pods, if this pod has one of its own.
    fn networks(&self) -> Option<&PodNetworks> {
        self.shared.config.networks.as_ref().filter(|_| !self.is_on_host_network())
    }

    /// What the pod's programs reach this machine by.
    fn host_ip(&self) -> Ipv4Addr {
        self.networks().map_or(HOST_IP, |_| isolation::HOST)
    }

    fn facts<'a>(&'a self, pod_ip: &'a str, host_ip: &'a str) -> downward::Facts<'a> {
        downward::Facts {
            pod: &self.pod,
            pod_ip,
            host_ip,
            node_name: &self.shared.config.node_name,
            allocatable: &self.shared.allocatable,
        }
    }

    fn event(&self, container: Option<&str>, severity: Severity, reason: &str, message: String) {
        self.shared.cluster.event(&self.name, container, severity, reason, message);
    }

    /// A warning that is told once, however often the step is tried.
    fn warn_once(&mut self, container: Option<&str>, reason: &str, message: String) {
        if self.last_warning != message {
            self.event(container, Severity::Warning, reason, message.clone());
            self.last_warning = message;
        }
    }

    fn build_status(&self) -> PodStatus {
        let views: Vec<_> = self.slots.iter().map(Slot::view).collect();
        let host_ip = HOST_IP.to_string();
        status::build(
            &views,
            &status::Facts {
                pod: &self.pod,
                previous: &self.shown,
                pod_ip: self.ip.map(|ip| ip.to_string()),
                host_ip: &host_ip,
                start_time: self.start_time,
                ports: self.ports.clone(),
                failed: self.failed.as_ref().map(|(reason, message)| (reason.as_str(), message.as_str())),
                now: Timestamp::now(),
            },
        )
    }

    fn publish(&mut self) {
        let status = self.build_status();
        if status != self.shown {
            self.status.send_replace(patch_of(&status));
            self.shown = status;
        }
    }

    fn is_finished(&self) -> bool {
        let over = self.stop.as_ref().is_some_and(|stop| stop.reason != StopReason::Deadline);
        over && self.slots.iter().all(|slot| !slot.is_running())
    }

    /// Cleans up after the last process.
    async fn finish(self) {
        let cluster = &self.shared.cluster;
        let reason = self.stop.as_ref().map(|stop| stop.reason);
        if let Some(networks) = self.networks().cloned() {
            let uid = self.name.uid.clone();
            let _ = tokio::task::spawn_blocking(move || networks.detach(&uid)).await;
        }
        self.shared.ips.lock().release(&self.name.uid);
        if reason != Some(StopReason::Removed)
            && let Err(error) = cluster.write_status(&self.name, patch_of(&self.build_status())).await
        {
            tracing::debug!(pod = %self.name, %error, "last pod status not written");
        }
        if reason == Some(StopReason::Shutdown) {
            return;
        }
        remove_dir(&self.dir);
        if reason != Some(StopReason::Deleted) {
            return;
        }
        for attempt in 0..REMOVE_TRIES {
            match cluster.remove(&self.name).await {
                Ok(()) | Err(ClusterError::Gone(_)) => return,
                Err(error) => {
                    tracing::warn!(pod = %self.name, %error, attempt, "terminated pod not removed, trying again");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }
}

/// The end of a failed run's log, for `FallbackToLogsOnError`: 80 lines, 2048 bytes.
fn last_words(container_dir: &std::path::Path, attempt: u32) -> Option<String> {
    let options = LogOptions { tail_lines: Some(80), ..LogOptions::default() };
    let mut reader = Reader::open(&logs::path(container_dir, attempt), options).ok()?;
    let text = reader.read(1 << 20).ok()??;
    let tail = &text[text.len().saturating_sub(2048)..];
    (!tail.is_empty()).then(|| String::from_utf8_lossy(tail).into_owned())
}

/// Removes a pod's directory without following links that lead out of it.
pub(crate) fn remove_dir(dir: &std::path::Path) {
    if let Err(error) = std::fs::remove_dir_all(dir)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(%error, dir = %dir.display(), "cannot remove a pod's directory");
    }
}

/// A merge patch that makes the pod's status equal to `status` in every field the node owns.
fn patch_of(status: &PodStatus) -> serde_json::Value {
    let mut patch = serde_json::to_value(status).unwrap_or_default();
    if let Some(fields) = patch.as_object_mut() {
        for name in ["reason", "message", "podIP", "podIPs", "initContainerStatuses", "containerStatuses"] {
            fields.entry(name).or_insert(serde_json::Value::Null);
        }
    }
    patch
}
