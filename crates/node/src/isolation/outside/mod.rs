//! The way out of the pods' network: what is sent to an address that is neither a pod's nor a Service's.
//!
//! Such packets arrive here one by one. A datagram is sent on by a socket of this machine, and what comes back is
//! written as a packet. Of a TCP connection only the first packet arrives: when the connection has been made on behalf
//! of the pod, that packet is written back, with a rule by which it and its successors reach a listener; both ends are
//! then ordinary sockets, and a refusal reaches the pod as one.

mod packet;
mod tcp;
mod udp;

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{RecvFlags, SendFlags};
use tokio::io::unix::AsyncFd;

use super::{HOST, PodNetworks};
use packet::Packet;

/// The largest packet there is.
const PACKET_BYTES: usize = 65_535;
/// After a failure that may be over soon: a device that is down for a moment, no descriptor or memory left.
const PAUSE: Duration = Duration::from_millis(50);

/// Passes on what leaves the pods' network until it is dropped.
pub(crate) async fn run(networks: PodNetworks) -> io::Result<()> {
    let (packets, injector) = networks.outside()?;
    #[allow(deprecated)]
    // Sound for a descriptor that is owned; the checked constructor for such is not there yet.
    let packets = AsyncFd::new(packets)?;
    let injector = Arc::new(Injector { socket: injector });
    let mut connections = tcp::Connections::new(networks, injector.clone());
    let mut flows = udp::Flows::new(injector);
    let mut buffer = vec![0; PACKET_BYTES];
    let mut is_failing = false;
    loop {
        let mut ready = packets.readable().await?;
        let received = ready.try_io(|packets| {
            let (count, _) = rustix::net::recv(packets.get_ref(), &mut buffer[..], RecvFlags::empty())?;
            Ok(count)
        });
        let count = match received {
            Ok(Ok(count)) => count,
            Ok(Err(error)) => {
                // The way out is that of all pods: it does not end with one failure.
                if !std::mem::replace(&mut is_failing, true) {
                    tracing::warn!(%error, "packets that leave the pods' network are not received; trying again");
                }
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            Err(_would_block) => continue,
        };
        is_failing = false;
        let packet = &buffer[..count];
        match Packet::parse(packet) {
            Some(Packet::Opening(flow)) => connections.open(flow, packet),
            Some(Packet::Datagram(flow, data)) => flows.send(flow, data, packet),
            None => {}
        }
    }
}

/// The address that stands for this machine's loopback leads there; all others are what they say.
fn real(destination: SocketAddrV4) -> SocketAddrV4 {
    match *destination.ip() {
        HOST => SocketAddrV4::new(Ipv4Addr::LOCALHOST, destination.port()),
        _ => destination,
    }
}

/// Writes packets that come from outside.
struct Injector {
    socket: OwnedFd,
}

impl Injector {
    /// A packet that does not fit now is lost, as on any network.
    fn write(&self, packet: Option<Vec<u8>>) {
        let Some(packet) = packet else { return };
        let Some(to) = packet.get(16..20).and_then(|octets| <[u8; 4]>::try_from(octets).ok()) else { return };
        let to = SocketAddrV4::new(Ipv4Addr::from(to), 0);
        if let Err(error) = rustix::net::sendto(&self.socket, &packet, SendFlags::empty(), &to) {
            tracing::debug!(%error, %to, "a packet into the pods' network is lost");
        }
    }
}
