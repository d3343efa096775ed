//! The few requests of rtnetlink (RFC 3549, the kernel's `rtnetlink(7)`) by which networks are laid out.
//!
//! One message is sent, and its acknowledgement read before the next.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const RTM_NEWRULE: u16 = 32;
const RTM_DELRULE: u16 = 33;

const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_GSO_MAX_SEGS: u16 = 40;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PREFSRC: u16 = 7;
const FRA_DST: u16 = 1;
const FRA_SRC: u16 = 2;
const FRA_PRIORITY: u16 = 6;
const FRA_IP_PROTO: u16 = 22;
const FRA_SPORT_RANGE: u16 = 23;
const FRA_DPORT_RANGE: u16 = 24;

const AF_INET: u8 = 2;
const IFF_UP: u32 = 1;
const RTPROT_BOOT: u8 = 3;
const RTNH_F_ONLINK: u32 = 4;
const FR_ACT_TO_TBL: u8 = 1;
const IPPROTO_TCP: u8 = 6;

/// The index of `lo` in every network namespace.
pub(super) const LOOPBACK: u32 = 1;
pub(super) const TABLE_MAIN: u8 = 254;
pub(super) const TABLE_LOCAL: u8 = 255;

/// A socket that changes the network namespace it was opened in, whichever that of its user is.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: OwnedFd,
}

/// One end of a pair of devices. Its index is chosen by us, so that nobody has to ask for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct End<'a> {
    pub(super) name: &'a str,
    pub(super) index: u32,
    /// Where a packet that the kernel has joined is cut again, for those who read packets.
    pub(super) segments_packets: bool,
}

/// What a route does with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hop {
    /// The address is on the link of this device.
    Link {
        device: u32,
        source: Option<Ipv4Addr>,
    },
    /// Through a router on the link of this device.
    Via {
        device: u32,
        router: Ipv4Addr,
        source: Option<Ipv4Addr>,
    },
    /// The address is our own.
    Local,
    Unreachable,
}

/// A connection, as the kernel's policy rules tell it from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub(crate) struct Flow {
    pub(crate) source: std::net::SocketAddrV4,
    pub(crate) destination: std::net::SocketAddrV4,
}

// === impl Netlink ===

impl Netlink {
    pub(super) fn open() -> io::Result<Netlink> {
        let flags = SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        Ok(Netlink { socket })
    }

    pub(super) fn set_up(&self, device: u32) -> io::Result<()> {
        self.send(RTM_NEWLINK, 0, Body::link(device, IFF_UP, IFF_UP))
    }

    /// A pair of devices, the far one in another network namespace.
    pub(super) fn add_pair(
        &self,
        near: End<'_>,
        far: End<'_>,
        far_netns: impl AsFd,
        mtu: u32,
    ) -> io::Result<()> {
        let mut body = Body::link(near.index, 0, 0);
        body.end(near, mtu);
        let info = body.open(IFLA_LINKINFO);
        body.attribute(IFLA_INFO_KIND, b"veth");
        let data = body.open(IFLA_INFO_DATA);
        let peer = body.open(VETH_INFO_PEER);
        body.bytes.extend(Body::link(far.index, 0, 0).bytes);
        body.end(far, mtu);
        let descriptor = std::os::fd::AsRawFd::as_raw_fd(&far_netns.as_fd());
        body.attribute(IFLA_NET_NS_FD, &descriptor.to_ne_bytes());
        for at in [peer, data, info] {
            body.close(at);
        }
        self.send(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body)
    }

    pub(super) fn delete_link(&self, device: u32) -> io::Result<()> {
        self.send(RTM_DELLINK, 0, Body::link(device, 0, 0))
    }

    pub(super) fn add_address(&self, device: u32, address: Ipv4Addr) -> io::Result<()> {
        let mut body = Body { bytes: vec![AF_INET, 32, 0, 0] };
        body.bytes.extend(device.to_ne_bytes());
        body.attribute(IFA_LOCAL, &address.octets());
        body.attribute(IFA_ADDRESS, &address.octets());
        self.send(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, body)
    }

    pub(super) fn add_route(&self, to: Ipv4Addr, prefix: u8, hop: Hop, table: u8) -> io::Result<()> {
        const UNIVERSE: u8 = 0;
        const LINK: u8 = 253;
        const HOST: u8 = 254;
        let (scope, kind, flags) = match hop {
            Hop::Link { .. } => (LINK, 1, 0),
            Hop::Via { .. } => (UNIVERSE, 1, RTNH_F_ONLINK),
            Hop::Local => (HOST, 2, 0),
            Hop::Unreachable => (UNIVERSE, 7, 0),
        };
        let mut body = Body { bytes: vec![AF_INET, prefix, 0, 0, table, RTPROT_BOOT, scope, kind] };
        body.bytes.extend(flags.to_ne_bytes());
        if prefix > 0 {
            body.attribute(RTA_DST, &to.octets());
        }
        let (device, router, source) = match hop {
            Hop::Link { device, source } => (Some(device), None, source),
            Hop::Via { device, router, source } => (Some(device), Some(router), source),
            Hop::Local => (Some(LOOPBACK), None, None),
            Hop::Unreachable => (None, None, None),
        };
        if let Some(device) = device {
            body.attribute(RTA_OIF, &device.to_ne_bytes());
        }
        if let Some(router) = router {
            body.attribute(RTA_GATEWAY, &router.octets());
        }
        if let Some(source) = source {
            body.attribute(RTA_PREFSRC, &source.octets());
        }
        self.send(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, body)
    }

    /// Packets that no rule of a higher priority has led anywhere are looked up in `table`.
    pub(super) fn add_rule(&self, priority: u32, table: u8) -> io::Result<()> {
        self.send(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, Body::rule(priority, table, None))
    }

    pub(super) fn add_flow_rule(&self, priority: u32, table: u8, flow: Flow) -> io::Result<()> {
        self.send(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, Body::rule(priority, table, Some(flow)))
    }

    pub(super) fn delete_flow_rule(&self, priority: u32, table: u8, flow: Flow) -> io::Result<()> {
        self.send(RTM_DELRULE, 0, Body::rule(priority, table, Some(flow)))
    }

    fn send(&self, kind: u16, flags: u16, body: Body) -> io::Result<()> {
        let length = 16 + body.bytes.len();
        let mut message = Vec::with_capacity(length);
        message.extend(u32::try_from(length).map_err(io::Error::other)?.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend((NLM_F_REQUEST | NLM_F_ACK | flags).to_ne_bytes());
        message.extend([0; 8]);
        message.extend(body.bytes);
        let kernel = SocketAddrNetlink::new(0, 0);
        rustix::net::sendto(&self.socket, &message, SendFlags::empty(), &kernel)?;
        let mut answer = [0u8; 4096];
        let (count, _) = rustix::net::recv(&self.socket, &mut answer[..], RecvFlags::empty())?;
        acknowledged(&answer[..count])
    }
}

/// The kernel's answer: an error number, zero for success, after the header.
fn acknowledged(answer: &[u8]) -> io::Result<()> {
    let kind = answer.get(4..6).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
    let code = answer.get(16..20).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
    match (kind, code) {
        (Some(NLMSG_ERROR), Some(0)) => Ok(()),
        (Some(NLMSG_ERROR), Some(code)) => Err(io::Error::from_raw_os_error(code.saturating_neg())),
        _ => Err(io::Error::other("the kernel did not acknowledge a netlink request")),
    }
}

/// What follows a message's header: a fixed part and attributes, each aligned to four bytes.
struct Body {
    bytes: Vec<u8>,
}

impl Body {
    fn link(index: u32, flags: u32, change: u32) -> Body {
        let mut bytes = vec![0; 4];
        bytes.extend(index.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(change.to_ne_bytes());
        Body { bytes }
    }

    fn rule(priority: u32, table: u8, flow: Option<Flow>) -> Body {
        let address_bits = if flow.is_some() { 32 } else { 0 };
        let mut body = Body {
            bytes: vec![AF_INET, address_bits, address_bits, 0, table, 0, 0, FR_ACT_TO_TBL, 0, 0, 0, 0],
        };
        body.attribute(FRA_PRIORITY, &priority.to_ne_bytes());
        if let Some(Flow { source, destination }) = flow {
            let range = |port: u16| [port.to_ne_bytes(), port.to_ne_bytes()].concat();
            body.attribute(FRA_DST, &destination.ip().octets());
            body.attribute(FRA_SRC, &source.ip().octets());
            body.attribute(FRA_IP_PROTO, &[IPPROTO_TCP]);
            body.attribute(FRA_SPORT_RANGE, &range(source.port()));
            body.attribute(FRA_DPORT_RANGE, &range(destination.port()));
        }
        body
    }

    fn end(&mut self, end: End<'_>, mtu: u32) {
        let mut name = end.name.as_bytes().to_vec();
        name.push(0);
        self.attribute(IFLA_IFNAME, &name);
        self.attribute(IFLA_MTU, &mtu.to_ne_bytes());
        if end.segments_packets {
            self.attribute(IFLA_GSO_MAX_SEGS, &1u32.to_ne_bytes());
        }
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        let at = self.open(kind);
        self.bytes.extend(value);
        self.close(at);
    }

    /// Begins an attribute that holds others; `close` ends it.
    fn open(&mut self, kind: u16) -> usize {
        let at = self.bytes.len();
        self.bytes.extend([0; 2]);
        self.bytes.extend(kind.to_ne_bytes());
        at
    }

    fn close(&mut self, at: usize) {
        // Attributes of ours hold a name, an address or a few of these.
        let length = u16::try_from(self.bytes.len() - at).unwrap_or(u16::MAX);
        self.bytes[at..at + 2].copy_from_slice(&length.to_ne_bytes());
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_nested_and_aligned() {
        let mut body = Body { bytes: Vec::new() };
        let outer = body.open(18);
        body.attribute(1, b"veth");
        body.attribute(3, b"abc");
        body.close(outer);
        let expected: &[&[u8]] = &[
            &20u16.to_ne_bytes(),
            &18u16.to_ne_bytes(),
            &8u16.to_ne_bytes(),
            &1u16.to_ne_bytes(),
            b"veth",
            &7u16.to_ne_bytes(),
            &3u16.to_ne_bytes(),
            b"abc\0",
        ];
        assert_eq!(body.bytes, expected.concat());
    }

    #[test]
    fn the_kernels_refusal_is_an_error() {
        let answer = |code: i32| {
            let mut bytes = vec![0; 16];
            bytes[4..6].copy_from_slice(&NLMSG_ERROR.to_ne_bytes());
            bytes.extend(code.to_ne_bytes());
            bytes
        };
        assert!(acknowledged(&answer(0)).is_ok());
        assert_eq!(acknowledged(&answer(-1)).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        for cut in 0..20 {
            assert!(acknowledged(&answer(0)[..cut]).is_err());
        }
    }

    #[test]
    fn asking_for_a_device_that_is_not_there_is_refused() {
        // Whoever runs this, such an index does not exist.
        let error = Netlink::open().unwrap().set_up(0x7fff_fff0).unwrap_err();
        assert!(error.raw_os_error().is_some(), "{error}");
    }
}
