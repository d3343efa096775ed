//! Cluster addresses of Services: which are taken, and the next free one.

use std::collections::HashSet;
use std::net::Ipv4Addr;

use gantry_apimachinery::Value;
use parking_lot::Mutex;

use crate::store::Store;

/// A block of IPv4 addresses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AddressRange {
    base: u32,
    prefix: u8,
}

impl AddressRange {
    /// `prefix` is at most 30.
    pub fn new(base: Ipv4Addr, prefix: u8) -> AddressRange {
        let prefix = prefix.min(30);
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
        AddressRange { base: u32::from(base) & mask, prefix }
    }

    /// Reads `127.96.0.0/12`.
    pub fn parse(text: &str) -> Option<AddressRange> {
        let (base, prefix) = text.split_once('/')?;
        Some(AddressRange::new(base.parse().ok()?, prefix.parse().ok().filter(|prefix| *prefix <= 30)?))
    }

    fn size(self) -> u32 {
        1 << (32 - u32::from(self.prefix))
    }

    pub fn contains(self, address: Ipv4Addr) -> bool {
        u32::from(address).wrapping_sub(self.base) < self.size()
    }

    /// The first usable address, which the API server itself has.
    pub fn first(self) -> Ipv4Addr {
        Ipv4Addr::from(self.base + 1)
    }
}

impl std::fmt::Display for AddressRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.base), self.prefix)
    }
}

pub(crate) struct Addresses {
    pub(crate) range: AddressRange,
    taken: Mutex<Taken>,
}

struct Taken {
    addresses: HashSet<u32>,
    next: u32,
}

impl Addresses {
    pub(crate) fn new(range: AddressRange, store: &Store) -> Addresses {
        let (listing, _) = store.list("/services", None, None, usize::MAX, |_| true);
        let addresses = listing
            .objects
            .iter()
            .filter_map(|service| cluster_ip(&service.value()))
            .map(u32::from)
            .collect();
        Addresses { range, taken: Mutex::new(Taken { addresses, next: 1 }) }
    }

    /// A free address, which is taken from now on. `None` when there is none.
    pub(crate) fn allocate(&self) -> Option<Ipv4Addr> {
        let mut taken = self.taken.lock();
        // The network's own address, the API server's and the last one are never given out.
        let usable = self.range.size() - 3;
        for _ in 0..usable {
            taken.next = taken.next % usable + 1;
            let address = self.range.base + 1 + taken.next;
            if taken.addresses.insert(address) {
                return Some(Ipv4Addr::from(address));
            }
        }
        None
    }

    /// Takes a chosen address; false if another has it.
    pub(crate) fn take(&self, address: Ipv4Addr) -> bool {
        self.taken.lock().addresses.insert(u32::from(address))
    }

    pub(crate) fn release(&self, address: Ipv4Addr) {
        self.taken.lock().addresses.remove(&u32::from(address));
    }
}

/// The cluster address of a Service that has one.
pub(crate) fn cluster_ip(service: &Value) -> Option<Ipv4Addr> {
    service.str_at(&["spec", "clusterIP"])?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_given_once_and_come_back() {
        let range = AddressRange::parse("127.96.0.0/29").unwrap();
        let addresses = Addresses::new(range, &Store::ephemeral());
        let given: Vec<Ipv4Addr> = std::iter::from_fn(|| addresses.allocate()).collect();
        assert_eq!(given.len(), 5);
        assert!(given.iter().all(|address| range.contains(*address) && *address != range.first()));
        assert!(!addresses.take(given[0]));
        addresses.release(given[0]);
        assert_eq!(addresses.allocate(), Some(given[0]));
    }
}
