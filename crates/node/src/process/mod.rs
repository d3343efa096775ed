//! Containers as processes of this machine, each the leader of its own process group.
//!
//! Every process is recorded before and right after its start ([`record`]), supervised through its pid and start
//! time, and ended together with whatever it left behind. A process that was started by an earlier life of this
//! program is adopted: its logs, probes and stop work as before, only its exit status stays unknown, since it is not
//! our child any more. Orphans go to init; this program does not make itself their reaper, and waits only for
//! members it knows (which matters when it is pid 1 itself).

mod cgroup;
mod entry;
mod record;
mod sample;
mod session;
mod terminal;
mod tree;

use std::collections::{BTreeMap, HashMap};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;
use rustix::process::{Pid, Signal};
use tokio::io::AsyncReadExt;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use crate::isolation;
use crate::logs::{self, Capture, Limits, LogWriter, Pipes};
use crate::procfs;
use crate::runtime::{
    Adoptable, Attachment, ContainerKey, ContainerSample, ExecOutput, Exit, Found, PodRef, Running, Runtime,
    RuntimeError, Session, SessionSpec, StartSpec, StopSignal,
};
pub(crate) use cgroup::Delegation;
use cgroup::Group;
use entry::Entry as Surroundings;
pub(crate) use entry::{inherit, inherited};
pub(crate) use record::ProcessId;
use record::{ID_VARIABLE, Record};
pub use terminal::Terminal;
use tree::Tree;

/// How long the pipes of an ended container may keep delivering.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// A killed group is empty when the kernel has torn down its processes, which takes milliseconds.
const GROUP_TRIES: u32 = 100;
const GROUP_RETRY: Duration = Duration::from_millis(10);
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// Runs of a container whose logs are kept: this one, and the one that `kubectl logs --previous` shows.
const LOGS_KEPT: usize = 2;
/// What somebody who is attached may lag behind, in reads of a pipe.
const ATTACHED_CHUNKS: usize = 256;
const EXEC_OUTPUT_BYTES: usize = 10 * 1024;
/// Entering namespaces takes milliseconds.
const ENTER_TIMEOUT: Duration = Duration::from_secs(20);
const FAILURE_BYTES: u64 = 4 * 1024;
/// Exit code shown for a container whose status nobody collected.
const UNKNOWN_EXIT_CODE: i32 = 137;

/// The process runtime. Cloning shares it.
#[derive(Clone)]
pub struct ProcessRuntime {
    inner: Arc<Inner>,
}

struct Inner {
    limits: Limits,
    boot_id: String,
    /// Where containers get groups of their own; without it the process tree is read.
    delegation: Option<Delegation>,
    /// This program, which enters the namespaces of isolated pods; `None` when pods are not isolated.
    launcher: Option<PathBuf>,
    containers: Mutex<HashMap<ContainerKey, Entry>>,
}

struct Entry {
    pod: PodRef,
    process: ProcessId,
    started_at: Timestamp,
    env: BTreeMap<String, String>,
    working_dir: PathBuf,
    tree: Tree,
    group: Option<Group>,
    isolated: bool,
    grown: watch::Receiver<u64>,
    attached: broadcast::Sender<(logs::Stream, Bytes)>,
    exit: watch::Receiver<Option<Exit>>,
    /// What feeds the container's standard input, where somebody may attach to it.
    stdin: Option<std::fs::File>,
}

/// What a container was started with, as far as somebody may ask for it later.
struct Given {
    env: BTreeMap<String, String>,
    working_dir: PathBuf,
    group: Option<Group>,
    stdin: Option<std::fs::File>,
}

/// What the task that waits for a container needs to close its account.
struct Ending {
    key: ContainerKey,
    record: Record,
    container_dir: PathBuf,
    capture: tokio::task::JoinHandle<()>,
    ended: CancellationToken,
    exit: watch::Sender<Option<Exit>>,
}

// === impl ProcessRuntime ===

impl ProcessRuntime {
    /// Resource usage is read from the process tree.
    pub fn new(limits: Limits) -> ProcessRuntime {
        ProcessRuntime::build(limits, None, None)
    }

    /// Resource usage is read from cgroups below `delegation`, where there is one. `launcher` starts what runs in
    /// namespaces.
    pub(crate) fn build(
        limits: Limits,
        delegation: Option<Delegation>,
        launcher: Option<PathBuf>,
    ) -> ProcessRuntime {
        let boot_id = procfs::boot_id();
        let inner = Inner { limits, boot_id, delegation, launcher, containers: Mutex::default() };
        ProcessRuntime { inner: Arc::new(inner) }
    }

    /// The run's cgroup; without one its use is read from the process tree.
    fn group(&self, key: &ContainerKey) -> Option<Group> {
        let made = self.inner.delegation.as_ref()?.group(key);
        made.inspect_err(|error| tracing::warn!(%error, container = key.container, "cannot make a cgroup"))
            .ok()
    }

    /// What starts a command beside a process that has namespaces of its own.
    fn entering(
        &self,
        beside: Option<u32>,
        command: &[String],
        working_dir: &Path,
    ) -> std::io::Result<Option<session::Entering<'_>>> {
        let (Some(pid), Some(launcher)) = (beside, &self.inner.launcher) else { return Ok(None) };
        let (args, inherited) = isolation::beside(pid, command, working_dir)?;
        Ok(Some(session::Entering { launcher, args, inherited }))
    }

    fn prepare(&self, container_dir: &Path, attempt: u32) -> std::io::Result<(Pipes, Capture)> {
        let pipes = Pipes::create(container_dir)?;
        let writer = LogWriter::open(&logs::path(container_dir, attempt), self.inner.limits)?;
        let capture = Capture::open(&pipes, writer)?;
        Ok((pipes, capture))
    }

    /// Registers a running process and starts its log capture; the caller then waits for its end.
    fn register(
        &self,
        record: Record,
        process: ProcessId,
        container_dir: &Path,
        capture: Capture,
        given: Given,
    ) -> (Running, Ending) {
        let key = ContainerKey {
            pod_uid: record.pod.uid.clone(),
            container: record.container.clone(),
            attempt: record.attempt,
        };
        let (grow, grown) = watch::channel(0);
        let (attached, _) = broadcast::channel(ATTACHED_CHUNKS);
        let (exit, exit_seen) = watch::channel(None);
        let ended = CancellationToken::new();
        let capture = tokio::spawn(capture.run(ended.clone(), grow, attached.clone()));
        let running = Running {
            attempt: record.attempt,
            id: container_id(&key, process),
            pid: process.pid,
            started_at: record.started_at,
            exit: exit_seen.clone(),
        };
        let entry = Entry {
            pod: record.pod.clone(),
            process,
            started_at: record.started_at,
            env: given.env,
            working_dir: given.working_dir,
            tree: Tree::new(process.pid, process.start_ticks),
            group: given.group,
            isolated: record.isolated,
            grown,
            attached,
            exit: exit_seen,
            stdin: given.stdin,
        };
        self.inner.containers.lock().insert(key.clone(), entry);
        let ending = Ending { key, record, container_dir: container_dir.into(), capture, ended, exit };
        (running, ending)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(delegation) = &self.delegation {
            delegation.remove_if_empty();
        }
    }
}

impl Inner {
    /// Ends what the container left, completes its log and record, and tells everybody.
    async fn close(&self, ending: Ending, exit: Exit) {
        let Ending { key, mut record, container_dir, mut capture, ended, exit: tell } = ending;
        let entry = self.containers.lock().remove(&key);
        if let Some(entry) = entry {
            kill_group(entry.process.pid, Signal::KILL);
            for pid in entry.tree.alive().filter(|pid| *pid != entry.process.pid) {
                kill_if_member(pid, &key);
            }
            if let Some(group) = entry.group {
                end_group(group).await;
            }
        }
        let id = record::id_of(&key);
        // The scan reads one small file per process of the machine; it must not hold up other tasks.
        let strays = tokio::task::spawn_blocking(move || kill_by_id(|found| found == id)).await;
        if let Ok(count @ 1..) = strays {
            tracing::debug!(container = key.container, count, "ended processes left by a container");
        }
        ended.cancel();
        if tokio::time::timeout(DRAIN_TIMEOUT, &mut capture).await.is_err() {
            capture.abort();
        }
        record.exit = Some(exit.clone());
        if let Err(error) = record.write(&container_dir)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, dir = %container_dir.display(), "cannot record the end of a container");
        }
        tell.send_replace(Some(exit));
    }
}

#[async_trait]
impl Runtime for ProcessRuntime {
    fn name(&self) -> &'static str {
        "process"
    }

    fn usage_source(&self) -> String {
        self.inner.delegation.as_ref().map_or("process tree", Delegation::describe).to_owned()
    }

    async fn start(&self, spec: StartSpec) -> Result<Running, RuntimeError> {
        let dir = spec.container_dir.clone();
        let prepare = |source| RuntimeError::Prepare { path: dir.clone(), source };
        let (pipes, capture) = self.prepare(&dir, spec.key.attempt).map_err(prepare)?;
        logs::prune(&dir, LOGS_KEPT);
        std::fs::create_dir_all(&spec.working_dir).map_err(prepare)?;
        let (stdout, stderr) = pipes.writers().map_err(prepare)?;
        let (stdin, feed) = match spec.stdin {
            true => Pipes::stdin(&dir).map(|(reader, feed)| (reader.into(), Some(feed))).map_err(prepare)?,
            false => (Stdio::null(), None),
        };
        let mut record = Record {
            pod: spec.pod,
            container: spec.key.container.clone(),
            attempt: spec.key.attempt,
            boot_id: self.inner.boot_id.clone(),
            started_at: Timestamp::now(),
            process: None,
            exit: None,
            isolated: spec.isolation.is_some(),
        };
        record.write(&dir).map_err(prepare)?;

        let mut env = spec.env;
        env.insert(ID_VARIABLE.into(), record::id_of(&spec.key));
        let group = self.group(&spec.key);
        let cgroup = group.as_ref().map(Group::entrance).transpose().map_err(prepare)?;
        let mut inherited = Vec::new();
        let mut failure = None;
        let mut command = match &spec.isolation {
            None => {
                let mut command = tokio::process::Command::new(&spec.program);
                command.args(&spec.args).current_dir(&spec.working_dir);
                command
            }
            Some(isolation) => {
                let staging = dir.join("view");
                std::fs::create_dir_all(&staging).map_err(prepare)?;
                let launch = isolation
                    .launch(&spec.program, &spec.args, &spec.working_dir, &staging)
                    .map_err(prepare)?;
                inherited = launch.inherited;
                failure = Some(launch.failure);
                let mut command = tokio::process::Command::new(launch.program);
                command.args(launch.args).current_dir("/");
                command
            }
        };
        command.env_clear().envs(&env).stdin(stdin).stdout(stdout).stderr(stderr);
        Surroundings { cgroup, terminal: None, inherited }.apply(&mut command);
        let program = spec.program;
        let mut child =
            command.spawn().map_err(|source| RuntimeError::Spawn { program: program.clone(), source })?;
        // The command holds our copy of what tells a failure, whose end is the program's start.
        drop(command);
        // Nothing has waited for the child yet, so even one that has ended is still listed.
        let pid = child.id().unwrap_or(0);
        let start_ticks = procfs::stat(pid).map_or(0, |s| s.start_ticks);
        let process = ProcessId { pid, start_ticks };
        record.process = Some(process);
        if let Err(source) = record.write(&dir) {
            kill_group(pid, Signal::KILL);
            let _ = child.wait().await;
            return Err(prepare(source));
        }
        if let Some(failure) = failure
            && let Err(source) = entered(failure).await
        {
            kill_group(pid, Signal::KILL);
            let _ = child.wait().await;
            return Err(RuntimeError::Spawn { program, source });
        }

        let given = Given { env, working_dir: spec.working_dir, group, stdin: feed };
        let (running, ending) = self.register(record, process, &dir, capture, given);
        let inner = self.inner.clone();
        tokio::spawn(async move {
            let status = child.wait().await;
            let finished_at = Timestamp::now();
            let exit = match status {
                Ok(status) => {
                    let signal = status.signal();
                    let code = status.code().or(signal.map(|s| 128 + s)).unwrap_or(UNKNOWN_EXIT_CODE);
                    Exit { code, signal, finished_at, known: true }
                }
                Err(_) => Exit { code: UNKNOWN_EXIT_CODE, signal: None, finished_at, known: false },
            };
            inner.close(ending, exit).await;
        });
        Ok(running)
    }

    async fn recover(
        &self,
        pod: &PodRef,
        container: &str,
        container_dir: &Path,
        adoptable: Adoptable,
    ) -> Option<Found> {
        let mut record = Record::read(container_dir)?;
        let attempt = record.attempt;
        let key = ContainerKey { pod_uid: pod.uid.clone(), container: container.into(), attempt };
        let started_at = record.started_at;
        let same_boot = record.boot_id == self.inner.boot_id;
        let id = record.process.map(|p| container_id(&key, p)).unwrap_or_default();
        if let Some(exit) = record.exit {
            return Some(Found::Ended { attempt, id, started_at, exit });
        }
        let alive = record.process.filter(|p| same_boot && procfs::is_alive(p.pid, p.start_ticks));
        // What runs in the other kind of surroundings has an address that leads nowhere now.
        let alive = alive.filter(|process| {
            let stays = match adoptable {
                Adoptable::OnHostNetwork => !record.isolated,
                Adoptable::InNamespaces => record.isolated,
                Adoptable::Nothing => false,
            };
            if !stays {
                kill_group(process.pid, Signal::KILL);
            }
            stays
        });
        if let Some(process) = alive
            && let Ok((_, capture)) = self.prepare(container_dir, attempt)
        {
            let env = process_environment(process.pid);
            let working_dir = std::fs::read_link(format!("/proc/{}/cwd", process.pid)).unwrap_or_default();
            let group = Group::of_process(process.pid, &key);
            let given = Given { env, working_dir, group, stdin: None };
            let (running, ending) = self.register(record, process, container_dir, capture, given);
            let inner = self.inner.clone();
            tokio::spawn(async move {
                wait_for_stranger(process).await;
                let exit = unknown_exit();
                inner.close(ending, exit).await;
            });
            return Some(Found::Running(running));
        }
        if same_boot {
            let stray = record::id_of(&key);
            let _ = tokio::task::spawn_blocking(move || kill_by_id(|found| found == stray)).await;
        }
        let exit = unknown_exit();
        record.exit = Some(exit.clone());
        if let Err(error) = record.write(container_dir) {
            tracing::warn!(%error, dir = %container_dir.display(), "cannot record the end of a container");
        }
        Some(Found::Ended { attempt, id, started_at, exit })
    }

    async fn end_leftovers(&self, pod_uid: &str, pod_dir: &Path) -> usize {
        let mut ended = 0;
        let containers = std::fs::read_dir(pod_dir.join("containers")).into_iter().flatten().flatten();
        for record in containers.filter_map(|entry| Record::read(&entry.path())) {
            let alive = record
                .process
                .filter(|p| record.boot_id == self.inner.boot_id && procfs::is_alive(p.pid, p.start_ticks));
            if let Some(process) = alive {
                kill_group(process.pid, Signal::KILL);
                ended += 1;
            }
        }
        let uid = pod_uid.to_string();
        let strays =
            tokio::task::spawn_blocking(move || kill_by_id(|id| record::pod_uid_of(id) == uid)).await;
        ended + strays.unwrap_or(0)
    }

    fn signal(&self, key: &ContainerKey, signal: StopSignal) {
        let signal = match signal {
            StopSignal::Terminate => Signal::TERM,
            StopSignal::Kill => Signal::KILL,
        };
        let containers = self.inner.containers.lock();
        // An entry is removed when its process has been waited for, so the group cannot be a stranger's.
        if let Some(entry) = containers.get(key) {
            kill_group(entry.process.pid, signal);
        }
    }

    async fn exec(
        &self,
        key: &ContainerKey,
        command: &[String],
        timeout: Duration,
    ) -> Result<ExecOutput, RuntimeError> {
        let not_running = || RuntimeError::NotRunning(key.container.clone());
        let (env, working_dir, beside) = {
            let containers = self.inner.containers.lock();
            let entry = containers.get(key).ok_or_else(not_running)?;
            (entry.env.clone(), entry.working_dir.clone(), entry.isolated.then_some(entry.process.pid))
        };
        let Some((program, args)) = command.split_first() else { return Err(not_running()) };
        let spawn_failed = |source| RuntimeError::Spawn { program: program.into(), source };
        let entering = self.entering(beside, command, &working_dir).map_err(spawn_failed)?;
        let mut inherited = Vec::new();
        let mut command = match entering {
            Some(entering) => {
                inherited = entering.inherited;
                let mut command = tokio::process::Command::new(entering.launcher);
                command.args(entering.args).current_dir("/");
                command
            }
            None => {
                let mut command = tokio::process::Command::new(program);
                command.args(args).current_dir(working_dir);
                command
            }
        };
        command.env_clear().envs(&env);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Surroundings { cgroup: None, terminal: None, inherited }.apply(&mut command);
        let mut child = command.spawn().map_err(spawn_failed)?;
        drop(command);
        let pid = child.id();
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let work = async {
            let (out, err) = tokio::join!(read_some(out), read_some(err));
            (child.wait().await, out, err)
        };
        let finished = tokio::time::timeout(timeout, work).await;
        let Ok((status, mut output, errors)) = finished else {
            if let Some(pid) = pid {
                kill_group(pid, Signal::KILL);
            }
            let _ = child.wait().await;
            return Err(RuntimeError::Timeout { program: program.clone(), after: timeout });
        };
        let status = status.map_err(spawn_failed)?;
        output.extend(errors);
        output.truncate(EXEC_OUTPUT_BYTES);
        let code = status.code().or(status.signal().map(|s| 128 + s)).unwrap_or(UNKNOWN_EXIT_CODE);
        Ok(ExecOutput { code, output: String::from_utf8_lossy(&output).into_owned() })
    }

    async fn session(&self, key: &ContainerKey, spec: &SessionSpec) -> Result<Session, RuntimeError> {
        let (env, working_dir, group, beside) = {
            let containers = self.inner.containers.lock();
            let entry = containers.get(key).ok_or_else(|| RuntimeError::NotRunning(key.container.clone()))?;
            let beside = entry.isolated.then_some(entry.process.pid);
            (entry.env.clone(), entry.working_dir.clone(), entry.group.clone(), beside)
        };
        let program = || spec.command.first().cloned().unwrap_or_default().into();
        let entering = self
            .entering(beside, &spec.command, &working_dir)
            .map_err(|source| RuntimeError::Spawn { program: program(), source })?;
        session::start(
            spec,
            session::Place { env, working_dir: &working_dir, group: group.as_ref(), entering },
        )
    }

    fn attach(&self, key: &ContainerKey) -> Result<Attachment, RuntimeError> {
        let containers = self.inner.containers.lock();
        let entry = containers.get(key).ok_or_else(|| RuntimeError::NotRunning(key.container.clone()))?;
        let feed = entry.stdin.as_ref().map(|feed| {
            let feed = feed.try_clone()?;
            rustix::io::ioctl_fionbio(&feed, true)?;
            tokio::net::unix::pipe::Sender::from_file(feed)
        });
        let stdin = feed
            .transpose()
            .map_err(|source: std::io::Error| RuntimeError::Prepare { path: "stdin.pipe".into(), source })?;
        Ok(Attachment { output: entry.attached.subscribe(), stdin, exit: entry.exit.clone() })
    }

    fn close_stdin(&self, key: &ContainerKey) {
        if let Some(entry) = self.inner.containers.lock().get_mut(key) {
            entry.stdin = None;
        }
    }

    fn sample(&self) -> Vec<ContainerSample> {
        self.inner.sample()
    }

    fn log_growth(&self, key: &ContainerKey) -> Option<watch::Receiver<u64>> {
        Some(self.inner.containers.lock().get(key)?.grown.clone())
    }

    fn pod_of_process(&self, pid: u32) -> Option<PodRef> {
        let containers = self.inner.containers.lock();
        if let Some(entry) = containers.values().find(|e| e.process.pid == pid || e.tree.contains(pid)) {
            return Some(entry.pod.clone());
        }
        if let Some(entry) =
            containers.values().find(|e| e.group.as_ref().is_some_and(|group| group.pids().contains(&pid)))
        {
            return Some(entry.pod.clone());
        }
        let id = procfs::environment_variable(pid, ID_VARIABLE)?;
        let uid = record::pod_uid_of(&id);
        containers.values().find(|e| e.pod.uid == uid).map(|e| e.pod.clone())
    }
}

/// Returns when a process has become its program, or why it could not enter its namespaces.
async fn entered(failure: std::os::fd::OwnedFd) -> std::io::Result<()> {
    rustix::io::ioctl_fionbio(&failure, true)?;
    let mut pipe = tokio::net::unix::pipe::Receiver::from_owned_fd(failure)?.take(FAILURE_BYTES);
    let mut text = Vec::new();
    let reading = pipe.read_to_end(&mut text);
    match tokio::time::timeout(ENTER_TIMEOUT, reading).await {
        Ok(read) => read?,
        Err(_) => return Err(std::io::ErrorKind::TimedOut.into()),
    };
    match text.is_empty() {
        true => Ok(()),
        false => Err(std::io::Error::other(String::from_utf8_lossy(&text).into_owned())),
    }
}

/// Ends what is left in a container's group and removes it.
async fn end_group(group: Group) {
    for _ in 0..GROUP_TRIES {
        if group.remove() {
            return;
        }
        if !group.kill() {
            group.pids().into_iter().for_each(kill);
        }
        tokio::time::sleep(GROUP_RETRY).await;
    }
    tracing::warn!(?group, "cannot remove a container's cgroup");
}

fn container_id(key: &ContainerKey, process: ProcessId) -> String {
    format!("process://{}-{}-{}-{}", key.pod_uid, key.container, key.attempt, process.pid)
}

fn unknown_exit() -> Exit {
    Exit { code: UNKNOWN_EXIT_CODE, signal: None, finished_at: Timestamp::now(), known: false }
}

fn kill_group(pid: u32, signal: Signal) {
    // A group of 0 or 1 would be our own or everybody's.
    if let Some(group) = i32::try_from(pid).ok().filter(|p| *p > 1).and_then(Pid::from_raw) {
        let _ = rustix::process::kill_process_group(group, signal);
    }
}

fn kill_if_member(pid: u32, key: &ContainerKey) {
    if procfs::environment_variable(pid, ID_VARIABLE).as_deref() == Some(&record::id_of(key)) {
        kill(pid);
    }
}

pub(crate) fn kill(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().filter(|p| *p > 1).and_then(Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, Signal::KILL);
    }
}

/// Ends every process whose starting environment carries a wanted container id.
fn kill_by_id(wanted: impl Fn(&str) -> bool) -> usize {
    let mut count = 0;
    for (pid, id) in procfs::with_environment_variable(ID_VARIABLE) {
        if wanted(&id) && pid != std::process::id() {
            kill(pid);
            count += 1;
        }
    }
    count
}

/// Returns when a process that is not our child has ended. Polled: only an adopted container is waited for this way.
async fn wait_for_stranger(process: ProcessId) {
    while procfs::is_alive(process.pid, process.start_ticks) {
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

fn process_environment(pid: u32) -> BTreeMap<String, String> {
    let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let entries = environ.split(|b| *b == 0).filter_map(|entry| {
        let text = String::from_utf8_lossy(entry);
        text.split_once('=').map(|(name, value)| (name.to_string(), value.to_string()))
    });
    entries.filter(|(name, _)| !name.is_empty()).collect()
}

/// Reads to the end but keeps only the beginning, so that the command never blocks on a full pipe.
async fn read_some(from: Option<impl tokio::io::AsyncRead + Unpin>) -> Vec<u8> {
    let mut kept = Vec::new();
    let Some(mut from) = from else { return kept };
    let mut buffer = [0u8; 4096];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        let room = EXEC_OUTPUT_BYTES.saturating_sub(kept.len());
        kept.extend_from_slice(&buffer[..n.min(room)]);
    }
    kept
}

#[cfg(test)]
mod tests;
