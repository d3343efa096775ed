//! What the node asks of the process that holds the pods' networks, over a Unix socket that keeps messages apart: a JSON
//! request, then a JSON reply with the descriptors that were asked for.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::netlink::Flow;

const MESSAGE_BYTES: usize = 64 * 1024;
/// In one reply.
pub(super) const MOST_DESCRIPTORS: usize = 32;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// Its process id; its user namespace.
    Hello,
    /// Lays out the network that all pods are connected to. Nothing happens when that is done.
    Configure(Layout),
    /// TCP sockets that are neither bound nor connected.
    TcpSockets {
        count: usize,
    },
    TcpListener {
        address: SocketAddrV4,
        backlog: i32,
    },
    UdpSocket {
        address: SocketAddrV4,
    },
    /// A listener at an address that is not ours, for connections that are diverted to it.
    DivertedListener {
        address: SocketAddrV4,
    },
    /// What leaves the cluster as packets, and where packets that come from there are written.
    Outside,
    /// Packets of the connection go to a `DivertedListener`.
    Divert {
        flow: Flow,
        diverted: bool,
    },
    /// Gives the pod a network of its own; the same one when it has one.
    Attach {
        uid: String,
        address: Ipv4Addr,
    },
    Detach {
        uid: String,
    },
    /// A TCP socket inside of the pod.
    PodSocket {
        uid: String,
    },
    /// The pods that are attached.
    Pods,
    End,
}

/// The addresses of the pods' network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Layout {
    /// Pods and Services together.
    pub(super) cluster: (Ipv4Addr, u8),
    pub(super) services: (Ipv4Addr, u8),
    pub(super) router: Ipv4Addr,
    pub(super) dns: Ipv4Addr,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    Done,
    Process(u32),
    Pods(Vec<String>),
    Refused { doing: String, errno: i32, message: String },
}

/// Sends one message.
pub(super) fn send(
    socket: impl AsFd,
    message: &impl Serialize,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let text = serde_json::to_vec(message)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("too many descriptors for one message"));
    }
    rustix::net::sendmsg(socket, &[IoSlice::new(&text)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives one message; `None` when the other side has gone.
pub(super) fn receive<T: DeserializeOwned>(socket: impl AsFd) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut text = vec![0; MESSAGE_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut parts = [IoSliceMut::new(&mut text)];
        match rustix::net::recvmsg(&socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other?,
        }
    };
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    if received.bytes == 0 {
        return Ok(None);
    }
    Ok(Some((serde_json::from_slice(&text[..received.bytes])?, descriptors)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    #[test]
    fn a_message_carries_descriptors() {
        let flags = SocketFlags::CLOEXEC;
        let (near, far) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        send(&near, &Reply::Process(7), &[file.as_fd(), file.as_fd()]).unwrap();
        send(&near, &Reply::Done, &[]).unwrap();
        drop(near);
        let (reply, descriptors) = receive::<Reply>(&far).unwrap().unwrap();
        assert!(matches!(reply, Reply::Process(7)) && descriptors.len() == 2);
        let (reply, descriptors) = receive::<Reply>(&far).unwrap().unwrap();
        assert!(matches!(reply, Reply::Done) && descriptors.is_empty());
        assert!(receive::<Reply>(&far).unwrap().is_none());
    }
}
