//! Networks and file systems of pods' own, without root and without helper programs.
//!
//! One process of ours, the *holder* ([`holder`]), lives in a user namespace, which makes it root over networks that it
//! makes itself. It lays out a network as a cluster has one: every pod is a network namespace, joined by a pair of
//! devices to the holder's own, which routes between them. All traffic between pods, and between pods and Services,
//! stays in the kernel.
//!
//! ```text
//!   pod 10.77.0.5 ─eth0─┐                       ┌─ 127.0.0.1:8000, seen by the user
//!   pod 10.77.0.6 ─eth0─┤ holder: routes        │
//!                       ├─ 10.77.64.0/18 ◀──────┤ gateway (this process), by sockets made in the holder
//!                       ├─ 169.254.20.10 ◀──────┤ name server (this process)
//!                       └─ everything else ─────┴─▶ sockets of the machine's own network ([`outside`])
//! ```
//!
//! A socket belongs to the namespace in which it was made, not to that of its user. So the holder makes sockets and
//! hands them over, and this process listens on Services' addresses and connects to pods as if it were there: nothing
//! is copied on the way. Only what leaves the cluster is: the first packet of such a connection is read as a packet,
//! then the connection is diverted to a listener, and its bytes are passed on.
//!
//! A container's process is this program again ([`enter`]), which enters the namespaces, mounts files and volumes at
//! their places ([`mounts`]) and becomes the container's program: its process id, its group and its streams are those
//! that a pod without namespaces has.
//!
//! The holder outlives a node that is killed, as its pods do; the next one finds both. Where a machine does not allow
//! all this, [`PodNetworks::start`] says why, having tried it.

pub(crate) mod dns;
mod enter;
pub(crate) mod files;
mod forwards;
mod holder;
pub(crate) mod mounts;
mod netlink;
pub(crate) mod outside;
mod protocol;

use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use serde::{Deserialize, Serialize};
use tokio::net::{TcpSocket, TcpStream};

use crate::config::Cidr;
use crate::process::ProcessId;
use crate::procfs;
pub use enter::verb;
pub(crate) use enter::{ENTER_VERB, Entrance, Place};
pub use forwards::Forwards;
use mounts::Mount;
pub(crate) use netlink::Flow;
use protocol::{Layout, Reply, Request};

/// The first hop of every pod.
const ROUTER: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// Where pods ask for names.
pub(crate) const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(169, 254, 20, 10);
/// What pods reach this machine's loopback address by.
pub(crate) const HOST: Ipv4Addr = Ipv4Addr::new(169, 254, 20, 1);

const SOCKET: &str = "networks.sock";
const RECORD: &str = "networks.json";
const BACKLOG: i32 = 4_096;
/// A holder that does not answer within this time is not going to.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
const END_TRIES: u32 = 200;
const END_RETRY: Duration = Duration::from_millis(10);
const FAILURE_BYTES: u64 = 4_096;

/// Where pods get their networks.
#[derive(Clone, Debug)]
pub struct NetworksConfig {
    /// The node's; the holder's socket and record lie in it.
    pub state_dir: PathBuf,
    /// This program, started again to enter namespaces; it must pass its arguments to [`verb`] first of all.
    pub launcher: PathBuf,
    /// Holds the addresses of pods and of Services.
    pub cluster: Cidr,
    pub services: Cidr,
}

/// Why pods share this machine's network.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{reason}{hint}")]
pub struct NotIsolated {
    pub reason: String,
    hint: &'static str,
}

/// The networks of all pods of a node. Clones are the same ones.
#[derive(Clone)]
pub struct PodNetworks {
    inner: Arc<Inner>,
}

struct Inner {
    config: NetworksConfig,
    user_namespace: OwnedFd,
    holder: ProcessId,
    /// Only when this process started it.
    child: Mutex<Option<Child>>,
    /// Laying out takes milliseconds, and sockets must not wait for it.
    layout: Mutex<Channel>,
    /// For connections out of the pods' network, which must wait for neither.
    diversions: Mutex<Channel>,
    sockets: Mutex<Sockets>,
}

/// A connection to the holder, on which one request follows the reply to the one before.
struct Channel {
    state_dir: PathBuf,
    /// None after a request without an answer: its reply may still come, and is not that to the next request.
    socket: Option<OwnedFd>,
}

struct Sockets {
    channel: Channel,
    /// Made in advance, many by one message.
    spare: Vec<OwnedFd>,
}

/// What a pod's containers share.
#[derive(Debug)]
pub(crate) struct Sandbox {
    pub(crate) networks: PodNetworks,
    pub(crate) network: OwnedFd,
    pub(crate) hostname: String,
}

/// What a container gets besides its program.
#[derive(Clone, Debug)]
pub struct Isolation {
    pub(crate) sandbox: Arc<Sandbox>,
    pub(crate) mounts: Vec<Mount>,
    /// As the container's author names it; used where it exists.
    pub(crate) working_dir: Option<PathBuf>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    boot_id: String,
    process: ProcessId,
}

/// A program that is to be started in a pod: its command line, and what it must inherit.
pub(crate) struct Launch {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
    pub(crate) inherited: Vec<OwnedFd>,
    pub(crate) failure: OwnedFd,
}

// === impl NotIsolated ===

impl NotIsolated {
    fn new(doing: &str, error: &io::Error) -> NotIsolated {
        let hint = match error.raw_os_error() {
            Some(libc::ENOSPC) => {
                " (the limit of namespaces is reached; raise it with `sudo sysctl user.max_user_namespaces=10000 user.max_net_namespaces=10000`)"
            }
            Some(libc::EPERM | libc::EACCES)
                if setting("kernel/apparmor_restrict_unprivileged_userns") == "1" =>
            {
                " (AppArmor restricts user namespaces; `sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0` allows them)"
            }
            Some(libc::EPERM | libc::EACCES) if setting("kernel/unprivileged_userns_clone") == "0" => {
                " (`sudo sysctl kernel.unprivileged_userns_clone=1` allows user namespaces)"
            }
            _ => "",
        };
        NotIsolated { reason: format!("cannot {doing}: {}", crate::action::in_go_words(error)), hint }
    }
}

fn setting(name: &str) -> String {
    std::fs::read_to_string(format!("/proc/sys/{name}")).unwrap_or_default().trim().to_owned()
}

// === impl PodNetworks ===

impl PodNetworks {
    /// Takes up the networks of an earlier start, or makes new ones, and tries them. Takes some milliseconds.
    pub fn start(config: NetworksConfig) -> Result<PodNetworks, NotIsolated> {
        let failed = |doing: &'static str| move |error: io::Error| NotIsolated::new(doing, &error);
        crate::node::private_dir(&config.state_dir).map_err(failed("use the state folder"))?;
        if let Some(networks) = PodNetworks::adopt(&config) {
            return Ok(networks);
        }
        end_holder(&config.state_dir);
        let listener = listen(&config.state_dir).map_err(failed("listen on the holder's socket"))?;
        let child = Command::new(&config.launcher)
            .arg(enter::HOLDER_VERB)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(listener))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(failed("start the holder of pods' networks"))?;
        let pid = child.id();
        let holder = ProcessId { pid, start_ticks: procfs::stat(pid).map_or(0, |stat| stat.start_ticks) };
        let record = Record { boot_id: procfs::boot_id(), process: holder };
        let path = config.state_dir.join(RECORD);
        let recorded = serde_json::to_vec(&record).map_err(io::Error::from);
        let made = recorded
            .and_then(|text| std::fs::write(path, text))
            .map_err(failed("record the holder of pods' networks"))
            .and_then(|()| PodNetworks::connect(&config, holder));
        match made {
            Ok(networks) => {
                *networks.inner.child.lock() = Some(child);
                if let Err(error) = networks.lay_out().and_then(|()| networks.try_out()) {
                    networks.end();
                    return Err(error);
                }
                Ok(networks)
            }
            Err(error) => {
                end_child(child);
                forget(&config.state_dir);
                Err(error)
            }
        }
    }

    fn adopt(config: &NetworksConfig) -> Option<PodNetworks> {
        let holder = living_holder(&config.state_dir)?;
        let networks = PodNetworks::connect(config, holder).ok()?;
        networks.lay_out().ok()?;
        Some(networks)
    }

    fn connect(config: &NetworksConfig, holder: ProcessId) -> Result<PodNetworks, NotIsolated> {
        let failed = |error: io::Error| NotIsolated::new("reach the holder of pods' networks", &error);
        let mut layout = Channel::dial(&config.state_dir).map_err(failed)?;
        let channel = Channel::dial(&config.state_dir).map_err(failed)?;
        let diversions = Channel::dial(&config.state_dir).map_err(failed)?;
        let (reply, mut descriptors) = layout
            .ask(&Request::Hello)
            .map_err(|error| NotIsolated::new(error.doing("make a user namespace"), &error.error))?;
        let user_namespace = match (reply, descriptors.pop()) {
            (Reply::Process(pid), Some(namespace)) if pid == holder.pid => namespace,
            _ => return Err(failed(io::Error::other("it is another process"))),
        };
        let inner = Inner {
            config: config.clone(),
            user_namespace,
            holder,
            child: Mutex::new(None),
            layout: Mutex::new(layout),
            diversions: Mutex::new(diversions),
            sockets: Mutex::new(Sockets { channel, spare: Vec::new() }),
        };
        Ok(PodNetworks { inner: Arc::new(inner) })
    }

    fn lay_out(&self) -> Result<(), NotIsolated> {
        if rustix::process::geteuid().is_root() {
            let mapped = map_users(self.inner.holder.pid);
            mapped.map_err(|error| NotIsolated::new("map users into a namespace", &error))?;
        }
        let Cidr { network, prefix } = self.inner.config.cluster;
        let Cidr { network: services, prefix: services_prefix } = self.inner.config.services;
        let layout = Layout {
            cluster: (network, prefix),
            services: (services, services_prefix),
            router: ROUTER,
            dns: NAME_SERVER,
        };
        self.ask(&Request::Configure(layout))
            .map(|_| ())
            .map_err(|error| NotIsolated::new(error.doing("lay out a network"), &error.error))
    }

    /// Whether a pod's process could be started: limits and policies show only then.
    fn try_out(&self) -> Result<(), NotIsolated> {
        const TRIAL: &str = "trial";
        let failed = |error: io::Error| NotIsolated::new("start a process in a pod of its own", &error);
        // The network's own address, which no pod gets.
        let network = self.attach(TRIAL, self.inner.config.cluster.network).map_err(failed)?;
        let staging = self.inner.config.state_dir.join(TRIAL);
        let tried = std::fs::create_dir_all(&staging).and_then(|()| {
            let sandbox = Sandbox { networks: self.clone(), network, hostname: TRIAL.into() };
            // A place that no machine has, so that the whole way is gone.
            let mount =
                Mount { source: staging.clone(), target: "/gantry-trial/mounted".into(), read_only: true };
            let isolation = Isolation { sandbox: Arc::new(sandbox), mounts: vec![mount], working_dir: None };
            let launch = isolation.launch(Path::new(""), &[], Path::new("/"), &staging)?;
            let mut command = Command::new(&launch.program);
            command.args(&launch.args).env_clear().stdin(Stdio::null());
            command.stdout(Stdio::null()).stderr(Stdio::null());
            crate::process::inherit(&mut command, launch.inherited);
            let mut child = command.spawn()?;
            drop(command);
            let mut text = String::new();
            std::fs::File::from(launch.failure).take(FAILURE_BYTES).read_to_string(&mut text)?;
            match (child.wait()?.success(), text.is_empty()) {
                (true, true) => Ok(()),
                (_, true) => Err(io::Error::other("it ended with a failure")),
                (_, false) => Err(io::Error::other(text)),
            }
        });
        self.detach(TRIAL);
        let _ = std::fs::remove_dir(&staging);
        tried.map_err(failed)
    }

    /// Whether the address is one of a pod or a Service.
    pub fn owns(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.inner.config.cluster.index_of(address).is_some(),
            IpAddr::V6(_) => false,
        }
    }

    /// A socket for a connection to an address that [`PodNetworks::owns`]; it does not block.
    pub fn tcp_socket(&self) -> io::Result<OwnedFd> {
        let mut sockets = self.inner.sockets.lock();
        if let Some(socket) = sockets.spare.pop() {
            return Ok(socket);
        }
        let request = Request::TcpSockets { count: protocol::MOST_DESCRIPTORS };
        let (_, made) = sockets.channel.ask(&request)?;
        sockets.spare = made;
        sockets.spare.pop().ok_or_else(nothing_sent)
    }

    /// Connects to an address that [`PodNetworks::owns`].
    pub async fn connect_tcp(&self, address: SocketAddr) -> io::Result<TcpStream> {
        self.tcp_connector()?.connect(address).await
    }

    /// As [`PodNetworks::tcp_socket`], ready to connect.
    pub fn tcp_connector(&self) -> io::Result<TcpSocket> {
        Ok(TcpSocket::from_std_stream(std::net::TcpStream::from(self.tcp_socket()?)))
    }

    /// Listens on an address that [`PodNetworks::owns`]; does not block.
    pub fn listen_tcp(&self, address: SocketAddr) -> io::Result<std::net::TcpListener> {
        let request = Request::TcpListener { address: v4(address)?, backlog: BACKLOG };
        self.one(&request).map(std::net::TcpListener::from)
    }

    pub(crate) fn listen_dns(&self) -> io::Result<(std::net::UdpSocket, std::net::TcpListener)> {
        let address = SocketAddrV4::new(NAME_SERVER, 53);
        let udp = self.one(&Request::UdpSocket { address })?;
        let tcp = self.one(&Request::TcpListener { address, backlog: BACKLOG })?;
        Ok((udp.into(), tcp.into()))
    }

    pub(crate) fn listen_diverted(&self, address: SocketAddrV4) -> io::Result<std::net::TcpListener> {
        let (_, mut descriptors) =
            self.inner.diversions.lock().ask(&Request::DivertedListener { address })?;
        descriptors.pop().map(std::net::TcpListener::from).ok_or_else(nothing_sent)
    }

    pub(crate) fn divert(&self, flow: Flow, diverted: bool) -> io::Result<()> {
        let mut channel = self.inner.diversions.lock();
        Ok(channel.ask(&Request::Divert { flow, diverted }).map(drop)?)
    }

    /// Packets that leave the cluster, and where packets that come from there are written.
    pub(crate) fn outside(&self) -> io::Result<(OwnedFd, OwnedFd)> {
        let (_, mut descriptors) = self.ask(&Request::Outside)?;
        match (descriptors.pop(), descriptors.pop()) {
            (Some(injector), Some(packets)) => Ok((packets, injector)),
            _ => Err(nothing_sent()),
        }
    }

    /// Gives the pod its network, the same one when it has one.
    pub(crate) fn attach(&self, uid: &str, address: Ipv4Addr) -> io::Result<OwnedFd> {
        self.one(&Request::Attach { uid: uid.to_owned(), address })
    }

    pub(crate) fn detach(&self, uid: &str) {
        if let Err(error) = self.ask(&Request::Detach { uid: uid.to_owned() }) {
            tracing::warn!(pod_uid = uid, error = %io::Error::from(error), "a pod's network is not removed");
        }
    }

    /// The uids of the pods that have a network.
    pub(crate) fn attached(&self) -> Vec<String> {
        match self.ask(&Request::Pods) {
            Ok((Reply::Pods(uids), _)) => uids,
            _ => Vec::new(),
        }
    }

    /// Connects to a port inside of the pod, where programs that listen only on 127.0.0.1 answer too.
    pub(crate) async fn connect_inside(&self, uid: &str, port: u16) -> io::Result<TcpStream> {
        let socket = self.one(&Request::PodSocket { uid: uid.to_owned() })?;
        let socket = TcpSocket::from_std_stream(std::net::TcpStream::from(socket));
        socket.connect((Ipv4Addr::LOCALHOST, port).into()).await
    }

    /// Ends the holder, and with it every network. Its pods must have ended.
    pub fn end(&self) {
        let _ = self.ask(&Request::End);
        if let Some(child) = self.inner.child.lock().take() {
            end_child(child);
        }
        end_holder(&self.inner.config.state_dir);
    }

    pub(crate) fn config(&self) -> &NetworksConfig {
        &self.inner.config
    }

    fn ask(&self, request: &Request) -> Result<(Reply, Vec<OwnedFd>), Refused> {
        self.inner.layout.lock().ask(request)
    }

    fn one(&self, request: &Request) -> io::Result<OwnedFd> {
        let (_, mut descriptors) = self.ask(request)?;
        descriptors.pop().ok_or_else(nothing_sent)
    }
}

impl std::fmt::Debug for PodNetworks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PodNetworks({})", self.inner.config.cluster)
    }
}

fn nothing_sent() -> io::Error {
    io::Error::other("the holder of pods' networks sent no socket")
}

fn v4(address: SocketAddr) -> io::Result<SocketAddrV4> {
    match address {
        SocketAddr::V4(address) => Ok(address),
        SocketAddr::V6(_) => Err(io::Error::from(io::ErrorKind::AddrNotAvailable)),
    }
}

/// A request that the holder refused, or did not answer.
#[derive(Debug)]
struct Refused {
    doing: Option<String>,
    error: io::Error,
}

impl Refused {
    fn doing<'a>(&'a self, otherwise: &'a str) -> &'a str {
        self.doing.as_deref().unwrap_or(otherwise)
    }
}

impl From<Refused> for io::Error {
    fn from(refused: Refused) -> io::Error {
        refused.error
    }
}

// === impl Channel ===

impl Channel {
    fn dial(state_dir: &Path) -> io::Result<Channel> {
        Ok(Channel { state_dir: state_dir.to_owned(), socket: Some(dial(state_dir)?) })
    }

    /// Asks, over a new connection if the last request on this one had no answer.
    fn ask(&mut self, request: &Request) -> Result<(Reply, Vec<OwnedFd>), Refused> {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => dial(&self.state_dir).map_err(|error| Refused { doing: None, error })?,
        };
        let answer = ask(&socket, request);
        // A refusal is an answer.
        if !matches!(&answer, Err(Refused { doing: None, .. })) {
            self.socket = Some(socket);
        }
        answer
    }
}

fn ask(channel: &OwnedFd, request: &Request) -> Result<(Reply, Vec<OwnedFd>), Refused> {
    let gone = |error: io::Error| Refused { doing: None, error };
    protocol::send(channel, request, &[]).map_err(gone)?;
    match protocol::receive::<Reply>(channel).map_err(gone)? {
        Some((Reply::Refused { doing, errno, message }, _)) => {
            let error =
                if errno == 0 { io::Error::other(message) } else { io::Error::from_raw_os_error(errno) };
            Err(Refused { doing: Some(doing), error })
        }
        Some(answer) => Ok(answer),
        None => {
            Err(gone(io::Error::new(io::ErrorKind::UnexpectedEof, "the holder of pods' networks has ended")))
        }
    }
}

/// All users that exist here exist there, under the same numbers.
fn map_users(pid: u32) -> io::Result<()> {
    for kind in ["uid_map", "gid_map"] {
        let own = std::fs::read_to_string(format!("/proc/self/{kind}"))?;
        let mut text = String::new();
        for line in own.lines() {
            let mut fields = line.split_ascii_whitespace();
            if let (Some(first), Some(_), Some(count)) = (fields.next(), fields.next(), fields.next()) {
                text.push_str(&format!("{first} {first} {count}\n"));
            }
        }
        match std::fs::write(format!("/proc/{pid}/{kind}"), text) {
            // Written by the start that this holder is adopted from.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && is_mapped(pid, kind) => {}
            outcome => outcome?,
        }
    }
    Ok(())
}

fn is_mapped(pid: u32, kind: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/{kind}")).is_ok_and(|text| !text.trim().is_empty())
}

// === the holder's life ===

/// A socket's path may be no longer than 108 bytes, a state folder's may be.
fn socket_address(dir: &OwnedFd) -> io::Result<SocketAddrUnix> {
    Ok(SocketAddrUnix::new(format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd()))?)
}

fn open_dir(state_dir: &Path) -> io::Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    Ok(rustix::fs::open(state_dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

fn unix_socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    Ok(rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

fn listen(state_dir: &Path) -> io::Result<OwnedFd> {
    let socket = unix_socket()?;
    rustix::net::bind(&socket, &socket_address(&open_dir(state_dir)?)?)?;
    rustix::net::listen(&socket, 16)?;
    Ok(socket)
}

fn dial(state_dir: &Path) -> io::Result<OwnedFd> {
    let socket = unix_socket()?;
    // The one for sending holds for connecting too.
    for direction in [rustix::net::sockopt::Timeout::Recv, rustix::net::sockopt::Timeout::Send] {
        rustix::net::sockopt::set_socket_timeout(&socket, direction, Some(ANSWER_TIMEOUT))?;
    }
    rustix::net::connect(&socket, &socket_address(&open_dir(state_dir)?)?)?;
    Ok(socket)
}

fn living_holder(state_dir: &Path) -> Option<ProcessId> {
    let record: Record = serde_json::from_slice(&std::fs::read(state_dir.join(RECORD)).ok()?).ok()?;
    let ProcessId { pid, start_ticks } = record.process;
    (record.boot_id == procfs::boot_id() && procfs::is_alive(pid, start_ticks)).then_some(record.process)
}

/// Ends the holder that an earlier start left in the folder, if it did. The networks of its pods end with it.
pub(crate) fn end_holder(state_dir: &Path) {
    if let Some(holder) = living_holder(state_dir) {
        crate::process::kill(holder.pid);
        for _ in 0..END_TRIES {
            if !procfs::is_alive(holder.pid, holder.start_ticks) {
                break;
            }
            std::thread::sleep(END_RETRY);
        }
    }
    forget(state_dir);
}

fn end_child(mut child: Child) {
    let _ = child.kill();
    let _ = child.wait();
}

fn forget(state_dir: &Path) {
    let _ = std::fs::remove_file(state_dir.join(RECORD));
    let _ = std::fs::remove_file(state_dir.join(SOCKET));
}

// === impl Isolation ===

impl Isolation {
    /// How `program` is started in the pod. An empty program ends as soon as it would begin.
    pub(crate) fn launch(
        &self,
        program: &Path,
        args: &[String],
        working_dir: &Path,
        staging: &Path,
    ) -> io::Result<Launch> {
        let networks = &self.sandbox.networks.inner;
        let (failure, tell) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let user_namespace = networks.user_namespace.try_clone()?;
        let network = self.sandbox.network.try_clone()?;
        let place = Place::Container {
            user_namespace: user_namespace.as_raw_fd(),
            network: network.as_raw_fd(),
            hostname: self.sandbox.hostname.clone(),
            mounts: self.mounts.clone(),
            staging: staging.to_owned(),
            failure: tell.as_raw_fd(),
        };
        let entrance = Entrance {
            place,
            working_dirs: self.working_dir.iter().cloned().chain([working_dir.to_owned()]).collect(),
            program: program.to_owned(),
            args: args.to_vec(),
        };
        let (argument, passed) = entrance.argument()?;
        let mut inherited = vec![user_namespace, network, tell];
        inherited.extend(passed);
        Ok(Launch {
            program: networks.config.launcher.clone(),
            args: vec![ENTER_VERB.to_owned(), argument],
            inherited,
            failure,
        })
    }
}

/// How `command` is started beside a process of a pod: the arguments, and what must be inherited.
pub(crate) fn beside(
    pid: u32,
    command: &[String],
    working_dir: &Path,
) -> io::Result<(Vec<String>, Vec<OwnedFd>)> {
    let (program, args) =
        command.split_first().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let entrance = Entrance {
        place: Place::Beside { pid },
        working_dirs: vec![working_dir.to_owned()],
        program: program.into(),
        args: args.to_vec(),
    };
    let (argument, passed) = entrance.argument()?;
    Ok((vec![ENTER_VERB.to_owned(), argument], passed.into_iter().collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_reply_is_not_that_to_the_next_request() {
        let folder = tempfile::tempdir().unwrap();
        let listener = listen(folder.path()).unwrap();
        let mut channel = Channel::dial(folder.path()).unwrap();
        let holder = std::thread::spawn(move || {
            let first = rustix::net::accept(&listener).unwrap();
            protocol::receive::<Request>(&first).unwrap().unwrap();
            rustix::net::send(&first, b"no reply", rustix::net::SendFlags::empty()).unwrap();
            // Whoever got nonsense may have hung up by now.
            let _ = protocol::send(&first, &Reply::Process(1), &[]);
            let second = rustix::net::accept(&listener).unwrap();
            for reply in [
                Reply::Process(2),
                Reply::Refused { doing: "ask".into(), errno: 0, message: "no".into() },
                Reply::Process(3),
            ] {
                protocol::receive::<Request>(&second).unwrap().unwrap();
                protocol::send(&second, &reply, &[]).unwrap();
            }
        });
        channel.ask(&Request::Hello).unwrap_err();
        assert!(matches!(channel.ask(&Request::Hello).unwrap().0, Reply::Process(2)));
        // After a refusal the connection is in step.
        assert_eq!(channel.ask(&Request::Hello).unwrap_err().doing.as_deref(), Some("ask"));
        assert!(matches!(channel.ask(&Request::Hello).unwrap().0, Reply::Process(3)));
        holder.join().unwrap();
    }
}
