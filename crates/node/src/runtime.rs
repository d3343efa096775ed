//! What the agent asks of whatever runs containers. `process` implements it today; container engines can follow.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use k8s_openapi::jiff::Timestamp;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{broadcast, oneshot, watch};

use crate::isolation::Isolation;
use crate::logs::Stream;
pub use crate::process::Terminal;

/// A pod, as people and records name it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct PodRef {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

impl std::fmt::Display for PodRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// One run of a container of a pod. Attempts count from 0 and grow with every restart.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContainerKey {
    pub pod_uid: String,
    pub container: String,
    pub attempt: u32,
}

/// All that is needed to start a container.
#[derive(Clone, Debug)]
pub struct StartSpec {
    pub key: ContainerKey,
    pub pod: PodRef,
    /// Absolute path.
    pub program: PathBuf,
    pub args: Vec<String>,
    /// The complete environment.
    pub env: BTreeMap<String, String>,
    pub working_dir: PathBuf,
    /// Holds the container's record, pipes and logs.
    pub container_dir: PathBuf,
    /// Its standard input stays open for whoever attaches.
    pub stdin: bool,
    /// Network, host name and mounts of its own; `None` shares those of this machine.
    pub isolation: Option<Isolation>,
}

/// A container that runs.
#[derive(Clone, Debug)]
pub struct Running {
    pub attempt: u32,
    /// As `containerID` shows it.
    pub id: String,
    pub pid: u32,
    pub started_at: Timestamp,
    /// Becomes `Some` when the container has ended and its log is complete.
    pub exit: watch::Receiver<Option<Exit>>,
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Exit {
    /// 128 + signal when a signal ended it.
    pub code: i32,
    pub signal: Option<i32>,
    pub finished_at: Timestamp,
    /// False when nobody was there to collect the exit status; `code` is then 137.
    pub known: bool,
}

/// What a restart finds of a container.
#[derive(Clone, Debug)]
pub enum Found {
    /// It still runs and is supervised again.
    Running(Running),
    /// It has ended.
    Ended { attempt: u32, id: String, started_at: Timestamp, exit: Exit },
}

/// Which processes of an earlier life can still be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adoptable {
    OnHostNetwork,
    InNamespaces,
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopSignal {
    Terminate,
    Kill,
}

/// Result of a command run beside a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecOutput {
    pub code: i32,
    /// Both outputs, cut at 10 KiB.
    pub output: String,
}

/// A command to run beside a container, connected to its caller.
#[derive(Clone, Debug)]
pub struct SessionSpec {
    pub command: Vec<String>,
    pub stdin: bool,
    /// The command gets a terminal, whose output is one stream.
    pub tty: bool,
}

/// Its streams and its end. When `hang_up` is dropped without a word the command is told that its caller has gone.
pub struct Session {
    pub stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    pub outputs: Vec<(Stream, Box<dyn AsyncRead + Send + Unpin>)>,
    pub resize: Option<Terminal>,
    /// The exit code; 128 + signal when a signal ended it.
    pub exit: oneshot::Receiver<i32>,
    pub hang_up: oneshot::Sender<()>,
}

/// A view of a running container's own streams.
pub struct Attachment {
    /// What it writes from now on. A slow reader misses some.
    pub output: broadcast::Receiver<(Stream, Bytes)>,
    /// `None` when the container was started without `stdin`.
    pub stdin: Option<tokio::net::unix::pipe::Sender>,
    pub exit: watch::Receiver<Option<Exit>>,
}

#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    #[error("cannot start {}: {source}", program.display())]
    Spawn { program: PathBuf, source: io::Error },
    #[error("cannot prepare {}: {source}", path.display())]
    Prepare { path: PathBuf, source: io::Error },
    #[error("container \"{0}\" is not running")]
    NotRunning(String),
    #[error("command {program} timed out after {after:?}")]
    Timeout { program: String, after: Duration },
}

/// Cumulative use of one running container.
#[derive(Clone, Debug, PartialEq)]
pub struct ContainerSample {
    pub key: ContainerKey,
    pub pod: PodRef,
    pub started_at: Timestamp,
    /// Never decreases during one run.
    pub cpu_ns: u64,
    pub working_set_bytes: u64,
    pub processes: usize,
}

/// Runs containers. All methods may be called for containers that have ended meanwhile.
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// As in a node's `containerRuntimeVersion`, for example `process`.
    fn name(&self) -> &'static str;

    /// What resource usage is read from, for people.
    fn usage_source(&self) -> String;

    async fn start(&self, spec: StartSpec) -> Result<Running, RuntimeError>;

    /// Takes up a container of an earlier life of this program again, from its directory.
    /// One that `adoptable` leaves out is ended.
    async fn recover(
        &self,
        pod: &PodRef,
        container: &str,
        container_dir: &Path,
        adoptable: Adoptable,
    ) -> Option<Found>;

    /// Ends all that an earlier life left of a pod, and returns how many processes that were.
    async fn end_leftovers(&self, pod_uid: &str, pod_dir: &Path) -> usize;

    /// Signals every process of the container.
    fn signal(&self, key: &ContainerKey, signal: StopSignal);

    /// Runs a command with the container's environment and working directory.
    async fn exec(
        &self,
        key: &ContainerKey,
        command: &[String],
        timeout: Duration,
    ) -> Result<ExecOutput, RuntimeError>;

    /// Runs a command with the container's environment and working directory, connected to the caller.
    async fn session(&self, key: &ContainerKey, spec: &SessionSpec) -> Result<Session, RuntimeError>;

    /// Connects to what a running container reads and writes.
    fn attach(&self, key: &ContainerKey) -> Result<Attachment, RuntimeError>;

    /// Ends what a container reads, as `stdinOnce` wants it after the first who was attached.
    fn close_stdin(&self, key: &ContainerKey);

    /// Reads the use of all running containers.
    fn sample(&self) -> Vec<ContainerSample>;

    /// Changes whenever the container's log has grown; closed when it has ended.
    fn log_growth(&self, key: &ContainerKey) -> Option<watch::Receiver<u64>>;

    /// The pod whose container the process belongs to.
    fn pod_of_process(&self, pid: u32) -> Option<PodRef>;
}
