//! Starting a container: address, volumes, environment, command, port check, process, hook, probes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::slot::{Live, Phase};
use super::{Event, HOST_IP, RETRY, Worker};
use crate::action::{Action, in_go_words};
use crate::cluster::Severity;
use crate::command::{self, CommandError, Wanted};
use crate::env;
use crate::expand::expand;
use crate::isolation::mounts::Mount;
use crate::isolation::{self, Isolation, PodNetworks, Sandbox};
use crate::ports;
use crate::probe::{ProbeKind, ProbeTask};
use crate::runtime::{Running, StartSpec};
use crate::services;
use crate::status::Role;
use crate::volumes;

pub(super) const CREATING: &str = "ContainerCreating";
pub(super) const CONFIG_ERROR: &str = "CreateContainerConfigError";

/// A port that is taken is looked at again after this time.
const PORT_RETRY: Duration = Duration::from_secs(1);
/// A command that cannot be found is looked for again after this time.
const COMMAND_RETRY: Duration = Duration::from_secs(5);
const HOOK_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

/// Why a container was not started.
struct Refusal {
    reason: &'static str,
    /// Reason of the event, where it differs.
    event: &'static str,
    message: String,
    retry: Duration,
}

impl Worker {
    /// Address and volumes; false when they are not there yet.
    pub(super) async fn prepare(&mut self) -> bool {
        if self.ip.is_none() {
            let taken = if self.is_on_host_network() {
                Ok(HOST_IP)
            } else {
                self.shared.ips.lock().take(&self.name.uid)
            };
            match taken {
                Ok(ip) => self.ip = Some(ip),
                Err(error) => {
                    self.warn_once(None, "FailedCreatePodSandBox", error.to_string());
                    self.volumes_due = Instant::now() + RETRY;
                    return false;
                }
            }
        }
        if let Some(networks) = self.networks().filter(|_| self.sandbox.is_none()) {
            match self.attach_network(networks.clone()).await {
                Ok(sandbox) => self.sandbox = Some(Arc::new(sandbox)),
                Err(error) => {
                    let message = format!("cannot give the pod a network: {}", in_go_words(&error));
                    self.warn_once(None, "FailedCreatePodSandBox", message);
                    self.volumes_due = Instant::now() + RETRY;
                    return false;
                }
            }
        }
        if Instant::now() < self.volumes_due {
            return self.volumes_generation.is_some();
        }
        let stamp = Timestamp::now().strftime("%Y_%m_%d_%H_%M_%S.%9f").to_string();
        if !self.prepare_account(&stamp).await {
            return self.volumes_generation.is_some();
        }
        match self.write_volumes(&stamp).await {
            Ok(generation) => {
                self.volumes_generation = Some(generation);
                self.volumes_due = Instant::now() + self.shared.config.volume_sync_interval;
                true
            }
            Err(message) => {
                self.warn_once(None, "FailedMount", message);
                self.volumes_due = Instant::now() + RETRY;
                // Running containers keep what they have; a first start needs its volumes.
                self.volumes_generation.is_some()
            }
        }
    }

    async fn attach_network(&self, networks: PodNetworks) -> std::io::Result<Sandbox> {
        let (uid, address) = (self.name.uid.clone(), self.ip.unwrap_or(HOST_IP));
        let hostname = isolation::files::hostname(&self.pod);
        let attaching = tokio::task::spawn_blocking(move || {
            let network = networks.attach(&uid, address)?;
            Ok(Sandbox { networks, network, hostname })
        });
        attaching.await.unwrap_or_else(|error| Err(std::io::Error::other(error)))
    }

    async fn write_volumes(&self, stamp: &str) -> Result<u64, String> {
        let generation = self.input.borrow().references_generation;
        let volumes = self.pod.spec.as_ref().and_then(|s| s.volumes.as_deref()).unwrap_or_default();
        if volumes.is_empty() {
            return Ok(generation);
        }
        let (maps, secrets) = referenced_by_volumes(&self.pod);
        let references = self.shared.cluster.references(&self.name.namespace, &maps, &secrets).await;
        let references = references.map_err(|e| e.to_string())?;
        let (pod_ip, host_ip) = (self.ip.unwrap_or(HOST_IP).to_string(), self.host_ip().to_string());
        let facts = self.facts(&pod_ip, &host_ip);
        volumes::materialise(volumes, &facts, &references, &self.dir.join("volumes"), stamp)
            .map_err(|e| e.to_string())?;
        Ok(generation)
    }

    /// Starts a container, or leaves it waiting with the reason.
    pub(super) async fn start(&mut self, index: usize) {
        let container = self.slots[index].spec.clone();
        let attempt = self.slots[index].next_attempt;
        let spec = match self.start_spec(&container, attempt).await {
            Ok(spec) => spec,
            Err(refusal) => return self.refuse(index, refusal),
        };
        // Where the pod has a network of its own nobody else can have its ports.
        if self.slots[index].role != Role::Init
            && self.sandbox.is_none()
            && let Some(refusal) = self.check_ports(&container)
        {
            return self.refuse(index, refusal);
        }
        let command = spec.program.display().to_string();
        match self.shared.runtime.start(spec).await {
            Ok(running) => {
                if attempt > 0 {
                    self.slots[index].restart_count += 1;
                }
                tracing::debug!(pod = %self.name, container = container.name, pid = running.pid, command, "started");
                let message =
                    format!("Started container {} (pid {}: {command})", container.name, running.pid);
                self.event(Some(&container.name), Severity::Normal, "Started", message);
                self.attach(index, running, false);
            }
            Err(error) => {
                let message = error.to_string();
                let retry = self.shared.config.backoff_initial;
                let refusal = Refusal { reason: "RunContainerError", event: "Failed", message, retry };
                self.refuse(index, refusal);
            }
        }
    }

    fn refuse(&mut self, index: usize, refusal: Refusal) {
        let Refusal { reason, event, message, retry } = refusal;
        let name = self.slots[index].spec.name.clone();
        self.warn_once(Some(&name), event, message.clone());
        if let Phase::Terminated { state, .. } = &self.slots[index].phase {
            self.slots[index].last = Some(state.clone());
        }
        self.slots[index].wait(reason, Some(message), retry);
    }

    async fn start_spec(&self, container: &Container, attempt: u32) -> Result<StartSpec, Refusal> {
        let config = &self.shared.config;
        let config_error =
            |message: String| Refusal { reason: CONFIG_ERROR, event: "Failed", message, retry: RETRY };
        let command_error = |error: CommandError| {
            let retry = COMMAND_RETRY;
            Refusal { reason: error.reason(), event: error.reason(), message: error.to_string(), retry }
        };
        let annotations = self.pod.metadata.annotations.clone().unwrap_or_default();
        let wanted = Wanted {
            container: &container.name,
            image: container.image.as_deref().unwrap_or_default(),
            command: container.command.as_deref().unwrap_or_default(),
            args: container.args.as_deref().unwrap_or_default(),
            annotations: &annotations,
        };
        let words = command::resolve(wanted, config).map_err(command_error)?;

        let (maps, secrets) = referenced_by_env(container);
        let references = self.shared.cluster.references(&self.name.namespace, &maps, &secrets).await;
        let references = references.map_err(|e| config_error(e.to_string()))?;
        let services = self.shared.cluster.services(&self.name.namespace);
        let links = self.pod.spec.as_ref().and_then(|s| s.enable_service_links).unwrap_or(true);
        let announced_services = services::announced(&services, &self.name.namespace, links);
        let addresses = config.service_addresses.as_ref();
        if let Some(addresses) = addresses {
            services::served(&announced_services, addresses).await;
        }
        let services = services::variables(&announced_services, addresses);

        let container_dir = self.dir.join("containers").join(&container.name);
        let root = container_dir.join("root");
        let working_dir = match container.working_dir.as_deref() {
            Some(dir) => root.join(dir.trim_start_matches('/')),
            None => root.clone(),
        };
        let (pod_ip, host_ip) = (self.ip.unwrap_or(HOST_IP).to_string(), self.host_ip().to_string());
        let announced = announced(&self.pod, container, &pod_ip);
        let facts = self.facts(&pod_ip, &host_ip);
        let mut env = env::build(container, &facts, &references, services, announced, &config.host_env)
            .map_err(|e| config_error(e.to_string()))?;

        std::fs::create_dir_all(&root).map_err(|e| config_error(format!("{}: {e}", root.display())))?;
        let expand_with =
            |text: &str, env: &BTreeMap<String, String>| expand(text, |name| env.get(name).cloned());
        let declared = self.pod.spec.as_ref().and_then(|s| s.volumes.as_deref()).unwrap_or_default();
        let read_only = volumes::read_only(declared);
        let namespace = self.sandbox.as_ref().map(|_| read_only.as_slice());
        let sub_path = |s: &str| expand_with(s, &env);
        let volumes::Mounted { variables, mounts } =
            volumes::mount(container, sub_path, &self.dir.join("volumes"), &root, namespace)
                .map_err(|e| config_error(e.to_string()))?;
        for (name, value) in variables {
            env.entry(name).or_insert(value);
        }
        let isolation = self.isolation(container, mounts).map_err(|e| config_error(e.to_string()))?;

        let mut words = words.iter().map(|word| expand_with(word, &env));
        let program = words.next().unwrap_or_default();
        let program = command::locate(&program, &container.name, config).map_err(command_error)?;
        Ok(StartSpec {
            key: self.key(&container.name, attempt),
            pod: self.name.clone(),
            program,
            args: words.collect(),
            env,
            working_dir,
            container_dir,
            stdin: container.stdin == Some(true),
            isolation,
        })
    }

    /// What the container has to itself: the pod's network, its files, and then its own volumes.
    fn isolation(&self, container: &Container, volumes: Vec<Mount>) -> std::io::Result<Option<Isolation>> {
        let Some(sandbox) = self.sandbox.clone() else { return Ok(None) };
        let address = self.ip.unwrap_or(HOST_IP);
        let mut mounts = isolation::files::write(&self.pod, address, &self.dir.join("network"))?;
        mounts.extend(self.account_mount());
        mounts.retain(|mount| !volumes.iter().any(|volume| volume.target == mount.target));
        mounts.extend(volumes);
        let working_dir = container.working_dir.as_deref().filter(|dir| dir.starts_with('/'));
        Ok(Some(Isolation { sandbox, mounts, working_dir: working_dir.map(Into::into) }))
    }

    fn check_ports(&mut self, container: &Container) -> Option<Refusal> {
        let address = self.ip.unwrap_or(HOST_IP);
        let tcp =
            container.ports.iter().flatten().filter(|p| p.protocol.as_deref().unwrap_or("TCP") == "TCP");
        let numbers: Vec<u16> = tcp.filter_map(|p| u16::try_from(p.container_port).ok()).collect();
        let Some(conflict) = ports::check(address, numbers) else {
            if self.ports.is_some() {
                self.ports = Some(None);
            }
            return None;
        };
        let runtime = self.shared.runtime.clone();
        let pod_of = |pid| runtime.pod_of_process(pid).map(|pod| pod.to_string());
        let message = conflict.message(&self.name.to_string(), address, pod_of);
        self.ports = Some(Some((conflict.reason().into(), message.clone())));
        Some(Refusal { reason: conflict.reason(), event: conflict.reason(), message, retry: PORT_RETRY })
    }

    /// Watches a running container: its end, its hook, its probes. `adopted` means that it ran before this program
    /// did: its hook is done, and it keeps the readiness that its pod shows.
    pub(super) fn attach(&mut self, index: usize, running: Running, adopted: bool) {
        let container = self.slots[index].spec.clone();
        let attempt = running.attempt;
        let life = CancellationToken::new();
        let hook = container.lifecycle.as_ref().and_then(|l| l.post_start.clone()).filter(|_| !adopted);
        let shown = self.shown.container_statuses.iter().flatten().find(|s| s.name == container.name);
        let was_started = adopted && shown.is_some_and(|s| s.started == Some(true));
        let was_ready = adopted && shown.is_some_and(|s| s.ready);
        let has_startup_probe = container.startup_probe.is_some() && !was_started;
        let has_readiness_probe = container.readiness_probe.is_some();
        let (started, started_seen) = watch::channel(hook.is_none() && !has_startup_probe);

        let mut exit = running.exit.clone();
        let (events, name) = (self.events.clone(), container.name.clone());
        tokio::spawn(async move {
            if exit.wait_for(Option::is_some).await.is_ok() {
                // The worker may be gone, and then nobody needs to know.
                let _ = events.send(Event::Exited { container: name, attempt }).await;
            }
        });
        if let Some(hook) = hook.clone() {
            let action = Action::of_hook(&hook, &container, self.ip.unwrap_or(HOST_IP));
            let target = self.target(&container.name, attempt);
            let (events, name) = (self.events.clone(), container.name.clone());
            let life = life.clone();
            tokio::spawn(async move {
                tokio::select! {
                    _ = life.cancelled() => {}
                    result = action.run(&target, HOOK_TIMEOUT) => {
                        let _ = events.send(Event::HookDone { container: name, attempt, result }).await;
                    }
                }
            });
        }
        let probes = [
            (ProbeKind::Startup, container.startup_probe.as_ref().filter(|_| has_startup_probe)),
            (ProbeKind::Readiness, container.readiness_probe.as_ref()),
            (ProbeKind::Liveness, container.liveness_probe.as_ref()),
        ];
        for (kind, probe) in probes {
            let Some(probe) = probe else { continue };
            let task = ProbeTask {
                kind,
                probe: probe.clone(),
                container: container.clone(),
                pod: self.name.clone(),
                target: self.target(&container.name, attempt),
                started: started_seen.clone(),
                eager: self.shared.config.eager_probe_interval,
                cluster: self.shared.cluster.clone(),
            };
            tokio::spawn(task.run(self.decisions.clone(), life.clone()));
        }
        let hook_done = hook.is_none();
        let slot = &mut self.slots[index];
        slot.run(Live {
            running,
            life,
            started,
            has_startup_probe,
            has_readiness_probe,
            hook_done,
            stopping: false,
        });
        slot.ready = was_ready || !has_readiness_probe;
    }
}

fn announced(pod: &Pod, container: &Container, pod_ip: &str) -> BTreeMap<String, String> {
    let spec = pod.spec.as_ref();
    let hostname = spec.and_then(|s| s.hostname.clone()).or_else(|| pod.metadata.name.clone());
    let mut variables = BTreeMap::new();
    variables.insert("POD_IP".to_string(), pod_ip.to_string());
    variables.insert("HOSTNAME".to_string(), hostname.unwrap_or_default());
    if let Some(port) = container.ports.iter().flatten().next() {
        variables.insert("PORT".to_string(), port.container_port.to_string());
    }
    variables
}

fn referenced_by_env(container: &Container) -> (Vec<String>, Vec<String>) {
    let mut maps = BTreeSet::new();
    let mut secrets = BTreeSet::new();
    for source in container.env_from.iter().flatten() {
        maps.extend(source.config_map_ref.as_ref().map(|r| r.name.clone()));
        secrets.extend(source.secret_ref.as_ref().map(|r| r.name.clone()));
    }
    for source in container.env.iter().flatten().filter_map(|v| v.value_from.as_ref()) {
        maps.extend(source.config_map_key_ref.as_ref().map(|r| r.name.clone()));
        secrets.extend(source.secret_key_ref.as_ref().map(|r| r.name.clone()));
    }
    (maps.into_iter().collect(), secrets.into_iter().collect())
}

fn referenced_by_volumes(pod: &Pod) -> (Vec<String>, Vec<String>) {
    let mut maps = BTreeSet::new();
    let mut secrets = BTreeSet::new();
    for volume in pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()) {
        maps.extend(volume.config_map.as_ref().map(|s| s.name.clone()));
        secrets.extend(volume.secret.as_ref().and_then(|s| s.secret_name.clone()));
        for source in volume.projected.iter().flat_map(|p| p.sources.iter().flatten()) {
            maps.extend(source.config_map.as_ref().map(|s| s.name.clone()));
            secrets.extend(source.secret.as_ref().map(|s| s.name.clone()));
        }
    }
    (maps.into_iter().collect(), secrets.into_iter().collect())
}
