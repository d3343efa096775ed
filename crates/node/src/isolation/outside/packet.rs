//! IPv4 packets (RFC 791) with TCP (RFC 9293), UDP (RFC 768) and ICMP (RFC 792) in them, as far as the first packets of
//! connections need it. What is cut short or not understood is no packet, never a panic.

use std::net::SocketAddrV4;

use crate::isolation::Flow;

pub(super) const IP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
const TCP_HEADER: usize = 20;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;
const TTL: u8 = 64;
/// Of a packet that is quoted in an error.
const QUOTED_BYTES: usize = 8;

/// A packet that leaves the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packet<'a> {
    /// The first packet of a TCP connection.
    Opening(Flow),
    Datagram(Flow, &'a [u8]),
}

/// Why a connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreachable {
    Network = 0,
    Host = 1,
    Port = 3,
}

impl Packet<'_> {
    pub(super) fn parse(packet: &[u8]) -> Option<Packet<'_>> {
        let (header, payload) = split(packet)?;
        let is_fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0;
        if is_fragment {
            return None;
        }
        let port = |at: usize| Some(u16::from_be_bytes(payload.get(at..at + 2)?.try_into().ok()?));
        let address = |at: usize| -> [u8; 4] { [header[at], header[at + 1], header[at + 2], header[at + 3]] };
        let flow = Flow {
            source: SocketAddrV4::new(address(12).into(), port(0)?),
            destination: SocketAddrV4::new(address(16).into(), port(2)?),
        };
        if flow.source.port() == 0 || flow.destination.port() == 0 {
            return None;
        }
        match header[9] {
            TCP => {
                let flags = payload.get(..TCP_HEADER)?[13] & (FIN | SYN | RST | ACK);
                (flags == SYN).then_some(Packet::Opening(flow))
            }
            UDP => {
                let length = usize::from(port(4)?);
                Some(Packet::Datagram(flow, payload.get(UDP_HEADER..length)?))
            }
            _ => None,
        }
    }
}

/// The header and what it carries, without what the link has added.
fn split(packet: &[u8]) -> Option<(&[u8], &[u8])> {
    let first = *packet.first()?;
    let header_bytes = usize::from(first & 0x0f) * 4;
    if first >> 4 != 4 || header_bytes < IP_HEADER {
        return None;
    }
    let length = usize::from(u16::from_be_bytes(packet.get(2..4)?.try_into().ok()?));
    if length < header_bytes {
        return None;
    }
    packet.get(..length)?.split_at_checked(header_bytes)
}

/// The same TCP packet with its sum, which a device that is none has not computed.
pub(super) fn summed(packet: &[u8]) -> Option<Vec<u8>> {
    let (header, payload) = split(packet)?;
    let mut payload = payload.to_vec();
    payload.get_mut(16..18)?.fill(0);
    let sum = transport_sum(&header[12..20], TCP, &payload);
    payload[16..18].copy_from_slice(&sum.to_be_bytes());
    Some([header, &payload].concat())
}

/// A datagram from `flow`'s destination back to its source.
pub(super) fn datagram_back(flow: Flow, data: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(UDP_HEADER + data.len()).ok()?;
    let mut payload = Vec::with_capacity(usize::from(length));
    payload.extend(flow.destination.port().to_be_bytes());
    payload.extend(flow.source.port().to_be_bytes());
    payload.extend(length.to_be_bytes());
    payload.extend([0, 0]);
    payload.extend(data);
    let header = header(flow, UDP, payload.len())?;
    let sum = match transport_sum(&header[12..20], UDP, &payload) {
        0 => 0xffff,
        sum => sum,
    };
    payload[6..8].copy_from_slice(&sum.to_be_bytes());
    Some([header.as_slice(), &payload].concat())
}

/// What a closed port answers to the opening packet.
pub(super) fn reset(opening: &[u8], flow: Flow) -> Option<Vec<u8>> {
    let (_, payload) = split(opening)?;
    let sequence = u32::from_be_bytes(payload.get(4..8)?.try_into().ok()?);
    let mut answer = Vec::with_capacity(TCP_HEADER);
    answer.extend(flow.destination.port().to_be_bytes());
    answer.extend(flow.source.port().to_be_bytes());
    answer.extend([0; 4]);
    answer.extend(sequence.wrapping_add(1).to_be_bytes());
    answer.extend([5 << 4, RST | ACK, 0, 0, 0, 0, 0, 0]);
    let header = header(flow, TCP, answer.len())?;
    let sum = transport_sum(&header[12..20], TCP, &answer);
    answer[16..18].copy_from_slice(&sum.to_be_bytes());
    Some([header.as_slice(), &answer].concat())
}

/// The part of a packet by which an error is found to be about it.
pub(super) fn quotation(packet: &[u8]) -> Option<Vec<u8>> {
    let (head, payload) = split(packet)?;
    Some([head, payload.get(..QUOTED_BYTES)?].concat())
}

/// What a router answers that has no way to the destination of the quoted packet.
pub(super) fn unreachable(quotation: &[u8], flow: Flow, why: Unreachable) -> Option<Vec<u8>> {
    let mut answer = vec![3, why as u8, 0, 0, 0, 0, 0, 0];
    answer.extend(quotation);
    let sum = !folded(sum_of(&answer, 0));
    answer[2..4].copy_from_slice(&sum.to_be_bytes());
    Some([header(flow, ICMP, answer.len())?.as_slice(), &answer].concat())
}

/// From the destination back to the source. The kernel fills in its sum.
fn header(flow: Flow, protocol: u8, payload_bytes: usize) -> Option<[u8; IP_HEADER]> {
    let length = u16::try_from(IP_HEADER + payload_bytes).ok()?;
    let mut header = [0; IP_HEADER];
    header[0] = 0x45;
    header[2..4].copy_from_slice(&length.to_be_bytes());
    header[8] = TTL;
    header[9] = protocol;
    header[12..16].copy_from_slice(&flow.destination.ip().octets());
    header[16..20].copy_from_slice(&flow.source.ip().octets());
    Some(header)
}

/// Over the payload and the pseudo-header: addresses, protocol, length.
fn transport_sum(addresses: &[u8], protocol: u8, payload: &[u8]) -> u16 {
    let sum = sum_of(addresses, u64::from(protocol) + payload.len() as u64);
    !folded(sum_of(payload, sum))
}

fn sum_of(bytes: &[u8], start: u64) -> u64 {
    let pairs =
        bytes.chunks(2).map(|pair| u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0)));
    pairs.fold(start, u64::wrapping_add)
}

fn folded(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn flow() -> Flow {
        Flow { source: "10.77.0.5:40000".parse().unwrap(), destination: "192.0.2.9:53".parse().unwrap() }
    }

    fn back(flow: Flow) -> Flow {
        Flow { source: flow.destination, destination: flow.source }
    }

    /// The sum over a valid packet and its pseudo-header is all ones.
    fn is_valid(packet: &[u8], protocol: u8) -> bool {
        let (header, payload) = split(packet).unwrap();
        transport_sum(&header[12..20], protocol, payload) == 0
    }

    fn opening() -> Vec<u8> {
        let mut tcp = vec![0; TCP_HEADER];
        tcp[0..2].copy_from_slice(&40_000u16.to_be_bytes());
        tcp[2..4].copy_from_slice(&53u16.to_be_bytes());
        tcp[4..8].copy_from_slice(&u32::MAX.to_be_bytes());
        tcp[12] = 5 << 4;
        tcp[13] = SYN;
        tcp[16] = 9;
        [header(back(flow()), TCP, tcp.len()).unwrap().as_slice(), &tcp].concat()
    }

    #[test]
    fn a_datagram_goes_there_and_back() {
        let there = datagram_back(back(flow()), b"hello").unwrap();
        assert_eq!(Packet::parse(&there), Some(Packet::Datagram(flow(), b"hello")));
        assert!(is_valid(&there, UDP));
        let mut fragment = there.clone();
        fragment[6] = 0x20;
        assert_eq!(Packet::parse(&fragment), None);
    }

    #[test]
    fn an_opening_is_summed_refused_and_quoted() {
        let packet = opening();
        assert_eq!(Packet::parse(&packet), Some(Packet::Opening(flow())));
        assert!(!is_valid(&packet, TCP));
        assert!(is_valid(&summed(&packet).unwrap(), TCP));
        let refusal = reset(&packet, flow()).unwrap();
        assert!(is_valid(&refusal, TCP));
        assert_eq!(&refusal[IP_HEADER + 8..IP_HEADER + 12], &[0; 4], "it acknowledges the opening");
        let error = unreachable(&quotation(&packet).unwrap(), flow(), Unreachable::Host).unwrap();
        assert_eq!(folded(sum_of(&error[IP_HEADER..], 0)), 0xffff);
        assert_eq!(error[IP_HEADER + 8..IP_HEADER + 8 + IP_HEADER], packet[..IP_HEADER]);
    }

    proptest! {
        #[test]
        fn no_packet_makes_a_panic(mut packet in prop::collection::vec(any::<u8>(), 0..120), protocol in 0u8..20) {
            if packet.len() > 9 {
                packet[0] = 0x45;
                packet[2] = 0;
                packet[9] = protocol;
            }
            let _ = Packet::parse(&packet);
            let _ = summed(&packet);
            let _ = reset(&packet, flow());
            let _ = quotation(&packet).and_then(|quoted| unreachable(&quoted, flow(), Unreachable::Port));
        }
    }
}
