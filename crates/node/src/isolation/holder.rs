//! The process that holds the pods' networks: it lives in a user and a network namespace of its own, makes and joins
//! devices there, and hands out sockets. It copies no traffic and reads no object.
//!
//! It outlives the node that started it, so that pods which outlive the node keep their network; the next node connects
//! to it again, or ends it.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};
use socket2::{Domain, Protocol, Socket, Type};

use super::netlink::{End, Hop, LOOPBACK, Netlink, TABLE_LOCAL, TABLE_MAIN};
use super::protocol::{self, Layout, MOST_DESCRIPTORS, Reply, Request};

/// Large, since no wire is on the way: most datagrams and windows pass whole.
const MTU: u32 = 65_520;
const POD_DEVICE: u32 = 100;
const OUTSIDE_DEVICE: u32 = 50;
/// Device indices of pods follow from their addresses.
const FIRST_POD_PORT: u32 = 1_000;
/// The end of the way out; nobody sees these two addresses.
const OUTSIDE_NEAR: Ipv4Addr = Ipv4Addr::new(169, 254, 30, 1);
const OUTSIDE_FAR: Ipv4Addr = Ipv4Addr::new(169, 254, 30, 2);
const TABLE_DIVERTED: u8 = 50;
const TABLE_OUTSIDE: u8 = 60;
/// After the rules that every namespace begins with (the last is 32767).
const RULE_DIVERTED: u32 = 40_000;
const RULE_OUTSIDE: u32 = 50_000;
/// Namespaces that one process holds; a node runs fewer pods.
const MOST_PODS: usize = 4_096;

/// Why a request failed.
#[derive(Debug)]
struct Failure {
    doing: String,
    error: io::Error,
}

type Outcome = Result<(Reply, Vec<OwnedFd>), Failure>;

/// One pod's network.
struct PodNet {
    netns: OwnedFd,
    address: Ipv4Addr,
    port: u32,
}

/// The network that a packet reaches when no pod and no Service has its address.
struct Outside {
    /// Keeps the namespace.
    _netns: OwnedFd,
    packets: OwnedFd,
    injector: OwnedFd,
}

#[derive(Default)]
struct State {
    layout: Option<Layout>,
    outside: Option<Outside>,
    pods: BTreeMap<String, PodNet>,
}

struct Holder {
    entered: Result<(), Failure>,
    netlink: Option<Netlink>,
    state: Mutex<State>,
}

/// Serves whoever connects to the listening socket, until one of them says that it is over.
pub(super) fn run(listener: OwnedFd) -> io::Result<()> {
    let entered = enter();
    let netlink = match &entered {
        Ok(()) => Some(Netlink::open()?),
        Err(_) => None,
    };
    let holder = Arc::new(Holder { entered, netlink, state: Mutex::default() });
    loop {
        let client = match rustix::net::accept_with(&listener, SocketFlags::CLOEXEC) {
            Ok(client) => client,
            Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNABORTED) => continue,
            Err(error) => return Err(error.into()),
        };
        let holder = holder.clone();
        std::thread::Builder::new().stack_size(256 * 1024).spawn(move || holder.serve(&client))?;
    }
}

/// A user namespace in which we may lay out networks, and the first network.
fn enter() -> Result<(), Failure> {
    let identity = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    doing("make a user namespace", unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNET))?;
    // Others of the same user, the node among them, may look into /proc as with any process.
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::Dumpable);
    let (uid, gid) = identity;
    if uid == 0 {
        // Its parent, which has the privilege, maps all users.
        return Ok(());
    }
    let write = |file: &str, text: String| doing(format!("write {file}"), std::fs::write(file, text));
    write("/proc/self/setgroups", "deny".into())?;
    write("/proc/self/uid_map", format!("{uid} {uid} 1"))?;
    write("/proc/self/gid_map", format!("{gid} {gid} 1"))
}

/// Of the calling thread.
#[allow(deprecated)]
fn unshare(namespaces: UnshareFlags) -> io::Result<()> {
    // The checked function is deprecated for the sake of descriptor tables, which are not unshared here.
    Ok(rustix::thread::unshare(namespaces)?)
}

fn doing<T>(what: impl Into<String>, result: io::Result<T>) -> Result<T, Failure> {
    result.map_err(|error| Failure { doing: what.into(), error })
}

/// Runs `work` in another thread, whose namespaces are its own to change.
fn elsewhere<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| match std::thread::Builder::new().spawn_scoped(scope, work) {
        Ok(thread) => {
            thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread ended with a panic")))
        }
        Err(error) => Err(error),
    })
}

/// A network namespace with `lo`, and what `also` opens in it.
fn new_netns<T: Send>(also: impl FnOnce() -> io::Result<T> + Send) -> io::Result<(OwnedFd, Netlink, T)> {
    elsewhere(|| {
        unshare(UnshareFlags::NEWNET)?;
        let netns = rustix::fs::open(
            "/proc/thread-self/ns/net",
            rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        )?;
        let netlink = Netlink::open()?;
        netlink.set_up(LOOPBACK)?;
        Ok((netns, netlink, also()?))
    })
}

/// Written in the calling thread's network namespace.
fn set(setting: &str, value: &str) -> io::Result<()> {
    std::fs::write(format!("/proc/sys/net/{setting}"), value)
        .map_err(|error| io::Error::new(error.kind(), format!("net/{setting}: {error}")))
}

// === impl Holder ===

impl Holder {
    fn serve(&self, client: &OwnedFd) {
        while let Ok(Some((request, _))) = protocol::receive::<Request>(client) {
            let sent = match self.answer(request) {
                Ok((reply, descriptors)) => {
                    let descriptors: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
                    protocol::send(client, &reply, &descriptors)
                }
                Err(failure) => protocol::send(client, &failure.reply(), &[]),
            };
            if sent.is_err() {
                return;
            }
        }
    }

    fn answer(&self, request: Request) -> Outcome {
        let done = |()| (Reply::Done, Vec::new());
        match request {
            Request::Hello => self.hello(),
            Request::Configure(layout) => self.configure(layout).map(done),
            Request::TcpSockets { count } => {
                let sockets = (0..count.min(MOST_DESCRIPTORS)).map(|_| tcp_socket().map(OwnedFd::from));
                let sockets: io::Result<Vec<OwnedFd>> = sockets.collect();
                Ok((Reply::Done, doing("open sockets", sockets)?))
            }
            Request::TcpListener { address, backlog } => {
                one(format!("listen on {address}"), tcp_listener(address, backlog, false))
            }
            Request::DivertedListener { address } => {
                one(format!("listen for {address}"), tcp_listener(address, 128, true))
            }
            Request::UdpSocket { address } => one(format!("bind {address}"), udp_socket(address)),
            Request::Outside => self.outside(),
            Request::Divert { flow, diverted } => {
                let netlink = self.netlink()?;
                let change = match diverted {
                    true => netlink.add_flow_rule(RULE_DIVERTED, TABLE_DIVERTED, flow),
                    false => netlink.delete_flow_rule(RULE_DIVERTED, TABLE_DIVERTED, flow),
                };
                doing("divert a connection", change).map(done)
            }
            Request::Attach { uid, address } => self.attach(uid, address),
            Request::Detach { uid } => self.detach(&uid).map(done),
            Request::PodSocket { uid } => self.pod_socket(&uid),
            Request::Pods => Ok((Reply::Pods(self.state.lock().pods.keys().cloned().collect()), Vec::new())),
            Request::End => std::process::exit(0),
        }
    }

    fn netlink(&self) -> Result<&Netlink, Failure> {
        self.netlink.as_ref().ok_or_else(|| Failure {
            doing: "change the network".into(),
            error: io::Error::other("there is no namespace for it"),
        })
    }

    fn hello(&self) -> Outcome {
        if let Err(failure) = &self.entered {
            return Err(failure.again());
        }
        let namespace = std::fs::File::open("/proc/self/ns/user");
        let namespace = doing("open the user namespace", namespace)?;
        Ok((Reply::Process(std::process::id()), vec![namespace.into()]))
    }

    fn configure(&self, layout: Layout) -> Result<(), Failure> {
        let mut state = self.state.lock();
        match &state.layout {
            Some(known) if *known == layout => return Ok(()),
            Some(_) => {
                let error = io::Error::other("it has other addresses");
                return Err(Failure { doing: "use the network of an earlier start".into(), error });
            }
            None => {}
        }
        let netlink = self.netlink()?;
        doing("set up lo", netlink.set_up(LOOPBACK))?;
        for (setting, value) in [
            ("ipv4/ip_forward", "1"),
            ("ipv4/conf/all/rp_filter", "0"),
            ("ipv4/conf/default/rp_filter", "0"),
            ("ipv4/conf/all/send_redirects", "0"),
            ("ipv4/conf/default/send_redirects", "0"),
            ("ipv4/ip_unprivileged_port_start", "0"),
        ] {
            doing("change a setting", set(setting, value))?;
        }
        doing("add the router's address", netlink.add_address(LOOPBACK, layout.router))?;
        doing("add the name server's address", netlink.add_address(LOOPBACK, layout.dns))?;
        let (cluster, cluster_prefix) = layout.cluster;
        let unreachable = netlink.add_route(cluster, cluster_prefix, Hop::Unreachable, TABLE_MAIN);
        doing("add a route", unreachable)?;
        let (services, services_prefix) = layout.services;
        doing("add a route", netlink.add_route(services, services_prefix, Hop::Local, TABLE_LOCAL))?;
        state.outside = Some(make_outside(netlink)?);
        state.layout = Some(layout);
        Ok(())
    }

    /// The descriptors are of one open file: whoever asks next gets what is left.
    fn outside(&self) -> Outcome {
        let state = self.state.lock();
        let copies = state
            .outside
            .as_ref()
            .map(|outside| Ok(vec![outside.packets.try_clone()?, outside.injector.try_clone()?]));
        let missing = || Err(io::Error::other("the network is not laid out"));
        let copies = doing("open the way out", copies.unwrap_or_else(missing))?;
        Ok((Reply::Done, copies))
    }

    fn attach(&self, uid: String, address: Ipv4Addr) -> Outcome {
        let netlink = self.netlink()?;
        let mut state = self.state.lock();
        let failed =
            |text: &str| Failure { doing: "attach a pod".into(), error: io::Error::other(text.to_owned()) };
        let layout = state.layout.ok_or_else(|| failed("the network is not laid out"))?;
        if let Some(pod) = state.pods.get(&uid).filter(|pod| pod.address == address) {
            return one("open a pod's network", pod.netns.try_clone());
        }
        if state.pods.len() >= MOST_PODS {
            return Err(failed("there are too many pods"));
        }
        let (network, _) = layout.cluster;
        let port = FIRST_POD_PORT + u32::from(address).wrapping_sub(u32::from(network));
        let (netns, inside, ()) = doing("make a network namespace", new_netns(prepare_pod))?;
        let near = End { name: &format!("pod{port}"), index: port, segments_packets: false };
        let far = End { name: "eth0", index: POD_DEVICE, segments_packets: false };
        doing("connect a pod", netlink.add_pair(near, far, &netns, MTU))?;
        let pod = PodNet { netns, address, port };
        let connected = || {
            netlink.set_up(port)?;
            netlink.add_route(
                address,
                32,
                Hop::Link { device: port, source: Some(layout.router) },
                TABLE_MAIN,
            )?;
            inside.add_address(POD_DEVICE, address)?;
            inside.set_up(POD_DEVICE)?;
            let link = Hop::Link { device: POD_DEVICE, source: Some(address) };
            inside.add_route(layout.router, 32, link, TABLE_MAIN)?;
            let router = Hop::Via { device: POD_DEVICE, router: layout.router, source: Some(address) };
            inside.add_route(Ipv4Addr::UNSPECIFIED, 0, router, TABLE_MAIN)
        };
        if let Err(error) = connected() {
            let _ = netlink.delete_link(port);
            return Err(Failure { doing: "connect a pod".into(), error });
        }
        let copy = one("open a pod's network", pod.netns.try_clone())?;
        state.pods.insert(uid, pod);
        Ok(copy)
    }

    fn detach(&self, uid: &str) -> Result<(), Failure> {
        let Some(pod) = self.state.lock().pods.remove(uid) else { return Ok(()) };
        doing("disconnect a pod", self.netlink()?.delete_link(pod.port))
    }

    fn pod_socket(&self, uid: &str) -> Outcome {
        let netns = self.state.lock().pods.get(uid).map(|pod| pod.netns.try_clone());
        let unknown = || Err(io::Error::from(io::ErrorKind::NotFound));
        let netns = doing("find a pod's network", netns.unwrap_or_else(unknown))?;
        one("open a socket in a pod", in_netns(&netns, || tcp_socket().map(OwnedFd::from)))
    }
}

fn in_netns<T: Send>(netns: &OwnedFd, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    elsewhere(|| {
        move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))?;
        work()
    })
}

/// As container engines do: any user's program may listen on any port, and ask whether somebody is there.
fn prepare_pod() -> io::Result<()> {
    set("ipv4/ip_unprivileged_port_start", "0")?;
    let _ = set("ipv4/ping_group_range", "0 2147483647");
    Ok(())
}

/// A namespace whose one device receives what has no other way to go.
fn make_outside(netlink: &Netlink) -> Result<Outside, Failure> {
    let opened = new_netns(|| {
        // It only looks on; whatever it is sent must not be sent on.
        set("ipv4/ip_forward", "0")?;
        set("ipv4/conf/all/rp_filter", "0")?;
        let packets = rustix::net::socket_with(
            AddressFamily::PACKET,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            Some(rustix::net::eth::IP),
        )?;
        let injector = rustix::net::socket_with(
            AddressFamily::INET,
            SocketType::RAW,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            Some(rustix::net::ipproto::RAW),
        )?;
        Ok((packets, injector))
    });
    let (netns, inside, (packets, injector)) = doing("make the way out", opened)?;
    let laid = || {
        let near = End { name: "outside", index: OUTSIDE_DEVICE, segments_packets: true };
        let far = End { name: "outside", index: OUTSIDE_DEVICE, segments_packets: true };
        netlink.add_pair(near, far, &netns, MTU)?;
        netlink.add_address(OUTSIDE_DEVICE, OUTSIDE_NEAR)?;
        netlink.set_up(OUTSIDE_DEVICE)?;
        inside.add_address(OUTSIDE_DEVICE, OUTSIDE_FAR)?;
        inside.set_up(OUTSIDE_DEVICE)?;
        let everywhere = Ipv4Addr::UNSPECIFIED;
        let via = |router| Hop::Via { device: OUTSIDE_DEVICE, router, source: None };
        inside.add_route(everywhere, 0, via(OUTSIDE_NEAR), TABLE_MAIN)?;
        netlink.add_route(everywhere, 0, via(OUTSIDE_FAR), TABLE_OUTSIDE)?;
        netlink.add_rule(RULE_OUTSIDE, TABLE_OUTSIDE)?;
        netlink.add_route(everywhere, 0, Hop::Local, TABLE_DIVERTED)
    };
    doing("lay out the way out", laid())?;
    Ok(Outside { _netns: netns, packets, injector })
}

fn tcp_socket() -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn tcp_listener(address: SocketAddrV4, backlog: i32, is_foreign: bool) -> io::Result<OwnedFd> {
    let socket = tcp_socket()?;
    socket.set_reuse_address(true)?;
    if is_foreign {
        socket.set_ip_transparent_v4(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    Ok(socket.into())
}

fn udp_socket(address: SocketAddrV4) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn one(what: impl Into<String>, descriptor: io::Result<OwnedFd>) -> Outcome {
    Ok((Reply::Done, vec![doing(what, descriptor)?]))
}

// === impl Failure ===

impl Failure {
    fn reply(&self) -> Reply {
        let errno = self.error.raw_os_error().unwrap_or(0);
        Reply::Refused { doing: self.doing.clone(), errno, message: crate::action::in_go_words(&self.error) }
    }

    fn again(&self) -> Failure {
        let error = match self.error.raw_os_error() {
            Some(errno) => io::Error::from_raw_os_error(errno),
            None => io::Error::new(self.error.kind(), self.error.to_string()),
        };
        Failure { doing: self.doing.clone(), error }
    }
}
