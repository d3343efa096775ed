//! Which loopback addresses one state folder uses for its pods and Services, so that several `up`s live side by side.
//!
//! Linux lets any process bind any address in 127.0.0.0/8. A folder gets a quarter-million-address slice that follows
//! from its path: the same on every start, and almost surely not its neighbour's.

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

/// The low and the high end are left to what people bind by hand.
const SECOND_OCTETS: std::ops::RangeInclusive<u8> = 16..=250;

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
        assert_eq!(u32::from(here.services) - u32::from(here.pods), 1 << (32 - PREFIX));
    }
}
