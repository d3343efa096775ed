//! Pod addresses: one per pod, out of a CIDR; one of the loopback interface is checked to be bindable before it is given
//! out.

use std::collections::HashMap;
use std::net::{Ipv4Addr, TcpListener};

use crate::config::Cidr;

/// Why no address could be given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum IpError {
    #[error("no pod address is left in {cidr}: {used} are in use")]
    Exhausted { cidr: Cidr, used: usize },
    #[error(
        "cannot bind addresses of {cidr} ({error}): on Linux any network inside 127.0.0.0/8 works without configuration"
    )]
    NotLocal { cidr: Cidr, error: String },
}

/// Addresses by the uid of the pod that holds them. The next one is searched after the last given, so that an
/// address rests as long as possible before it is used again.
#[derive(Debug)]
pub(crate) struct IpPool {
    cidr: Cidr,
    held: HashMap<Ipv4Addr, String>,
    next: u32,
    /// Addresses are those of this machine, rather than of networks that pods have of their own.
    on_host: bool,
}

const BIND_TRIES: u32 = 16;

impl IpPool {
    pub(crate) fn new(cidr: Cidr, on_host: bool) -> IpPool {
        // The first address is the network's own, which Linux refuses for some sockets.
        IpPool { cidr, held: HashMap::new(), next: 1, on_host }
    }

    /// Marks an address as held, for pods found after a restart.
    pub(crate) fn adopt(&mut self, address: Ipv4Addr, uid: &str) {
        if let Some(index) = self.cidr.index_of(address) {
            self.held.insert(address, uid.into());
            self.next = self.next.max(index + 1);
        }
    }

    /// The pod's address, a new one if it has none yet.
    pub(crate) fn take(&mut self, uid: &str) -> Result<Ipv4Addr, IpError> {
        if let Some((address, _)) = self.held.iter().find(|(_, holder)| *holder == uid) {
            return Ok(*address);
        }
        let usable = self.cidr.size().saturating_sub(2);
        let mut failed = 0;
        for step in 0..usable {
            let index = 1 + (self.next - 1 + step) % usable;
            let address = self.cidr.nth(index);
            if self.held.contains_key(&address) {
                continue;
            }
            if self.on_host
                && let Err(error) = TcpListener::bind((address, 0))
            {
                failed += 1;
                if failed == BIND_TRIES {
                    return Err(IpError::NotLocal { cidr: self.cidr, error: error.to_string() });
                }
                continue;
            }
            self.held.insert(address, uid.into());
            self.next = index + 1;
            return Ok(address);
        }
        Err(IpError::Exhausted { cidr: self.cidr, used: self.held.len() })
    }

    pub(crate) fn release(&mut self, uid: &str) {
        self.held.retain(|_, holder| holder != uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_rests_and_runs_out() {
        let mut pool = IpPool::new("127.99.3.0/29".parse().unwrap(), true);
        pool.adopt("127.99.3.1".parse().unwrap(), "old");
        let first = pool.take("a").unwrap();
        assert_eq!(first, Ipv4Addr::new(127, 99, 3, 2));
        assert_eq!(pool.take("a").unwrap(), first);
        pool.release("a");
        assert_eq!(pool.take("b").unwrap(), Ipv4Addr::new(127, 99, 3, 3));
        for uid in ["c", "d", "e", "f"] {
            pool.take(uid).unwrap();
        }
        assert!(matches!(pool.take("g"), Err(IpError::Exhausted { used: 6, .. })));
    }

    #[test]
    fn a_foreign_network_is_refused_with_the_reason() {
        let mut pool = IpPool::new("203.0.113.0/24".parse().unwrap(), true);
        assert!(matches!(pool.take("a"), Err(IpError::NotLocal { .. })));
        let mut pool = IpPool::new("203.0.113.0/24".parse().unwrap(), false);
        assert_eq!(pool.take("a"), Ok(Ipv4Addr::new(203, 0, 113, 1)));
    }
}
