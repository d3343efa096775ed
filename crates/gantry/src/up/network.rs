//! Which addresses one state folder uses for its pods and Services, so that several `up`s live side by side.
//!
//! Linux lets any process bind any address in 127.0.0.0/8. A folder gets a slice of 32,768 addresses that follows
//! from its path: the same on every start, and almost surely not its neighbour's. Pods with a network of their own get
//! the same slice of 10.0.0.0/8, or the next one that this machine has no route to, since they could not reach it.

use std::net::Ipv4Addr;
use std::path::Path;

use sha2::{Digest, Sha256};

/// Both are /18 networks: 16,384 addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Network {
    pub pods: Ipv4Addr,
    pub services: Ipv4Addr,
}

pub(super) const PREFIX: u8 = 18;

/// Pods and Services together.
pub(super) const BOTH_PREFIX: u8 = 17;

/// The low end is left to what people bind by hand, and the high end beside [`gateways`].
const SECOND_OCTETS: std::ops::RangeInclusive<u8> = 16..=250;

/// 254 addresses.
pub(super) const GATEWAYS_PREFIX: u8 = 24;

/// The slice of a state folder for Gateways, in this machine's network whatever pods have.
pub(super) fn gateways(state_dir: &Path) -> Ipv4Addr {
    let digest = Sha256::digest(state_dir.as_os_str().as_encoded_bytes());
    Ipv4Addr::new(127, 251 + digest[2] % 4, digest[3], 0)
}

impl Network {
    pub(super) fn of(state_dir: &Path) -> Network {
        let digest = Sha256::digest(state_dir.as_os_str().as_encoded_bytes());
        let span = SECOND_OCTETS.end() - SECOND_OCTETS.start() + 1;
        let second = SECOND_OCTETS.start() + digest[0] % span;
        let half = if digest[1] & 1 == 0 { 0 } else { 128 };
        Network {
            pods: Ipv4Addr::new(127, second, half, 0),
            services: Ipv4Addr::new(127, second, half + 64, 0),
        }
    }

    /// The addresses of pods that have a network of their own. `routes` is the text of `/proc/net/route`.
    pub(super) fn isolated(state_dir: &Path, routes: &str) -> Network {
        let [_, first, half, _] = Network::of(state_dir).pods.octets();
        let taken: Vec<(u32, u32)> = routes.lines().filter_map(route).collect();
        let slice = |second: u8| Ipv4Addr::new(10, second, half, 0);
        let is_free = |second: &u8| {
            let base = u32::from(slice(*second));
            let own_mask = u32::MAX << (32 - u32::from(BOTH_PREFIX));
            !taken.iter().any(|(network, mask)| (base ^ network) & mask & own_mask == 0)
        };
        let after = (first..=*SECOND_OCTETS.end()).chain(*SECOND_OCTETS.start()..first);
        let second = after.into_iter().find(is_free).unwrap_or(first);
        Network { pods: slice(second), services: Ipv4Addr::new(10, second, half + 64, 0) }
    }

    /// Of the Service `kubernetes`, which the API server gives the first one.
    pub(super) fn kubernetes(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.services) + 1)
    }

    pub(super) fn holds(&self, address: Ipv4Addr) -> bool {
        (u32::from(address) ^ u32::from(self.pods)) >> (32 - u32::from(BOTH_PREFIX)) == 0
    }
}

/// Network and mask of a line of `/proc/net/route`, unless it is the default.
fn route(line: &str) -> Option<(u32, u32)> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    // In the order of the bytes on the wire, printed as a number of this machine.
    let number = |at: usize| u32::from_str_radix(fields.get(at)?, 16).ok().map(u32::from_be);
    let (network, mask) = (number(1)?, number(7)?);
    (mask != 0).then_some((network, mask))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_keeps_its_addresses_and_another_gets_others() {
        let here = Network::of(Path::new("/home/ann/shop/.gantry"));
        assert_eq!(here, Network::of(Path::new("/home/ann/shop/.gantry")));
        assert_ne!(here, Network::of(Path::new("/home/bob/shop/.gantry")));
        assert_eq!(here.pods.octets()[0], 127);
        assert!(here.holds(here.services) && !here.holds(Ipv4Addr::LOCALHOST));
        assert_eq!(u32::from(here.services) - u32::from(here.pods), 1 << (32 - PREFIX));
    }

    #[test]
    fn a_slice_that_the_machine_has_a_route_to_is_left_to_it() {
        let folder = Path::new("/home/ann/shop/.gantry");
        let free = Network::isolated(folder, "");
        let [ten, second, half, zero] = free.pods.octets();
        assert_eq!((ten, zero, half % 128), (10, 0, 0));
        assert_eq!(free.services.octets(), [10, second, half + 64, 0]);
        // As the kernel prints 10.SECOND.0.0/16 on this machine.
        let network = u32::from(Ipv4Addr::new(10, second, 0, 0)).to_be();
        let mask = u32::from(Ipv4Addr::new(255, 255, 0, 0)).to_be();
        let header = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT";
        let line =
            |network: u32, mask: u32| format!("eth0\t{network:08X}\t0\t0001\t0\t0\t0\t{mask:08X}\t0\t0\t0");
        let routes = format!("{header}\n{}\n{}\n", line(0, 0), line(network, mask));
        assert_ne!(Network::isolated(folder, &routes), free);
        assert_eq!(Network::isolated(folder, &format!("{header}\n{}\n", line(0, 0))), free);
    }
}
