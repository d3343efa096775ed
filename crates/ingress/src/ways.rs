//! Addresses of the ports of Gateways, and of TLS for all routes, as listeners of the gateway.
//!
//! Every Gateway has an address of its own, so that two may have the same port. An address stays a Gateway's for as long as
//! its status says so; a new one follows from its name.

use crate::addresses::bind;
use crate::kinds::Gateway as GatewayObject;
use crate::listeners::Way;
use gantry_gateway::{Gateway, Listener, Mode};
use gantry_operator::Key;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// From which Gateways get their addresses: `prefix` bits of `network`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GatewayAddresses {
    pub network: Ipv4Addr,
    pub prefix: u8,
}

impl GatewayAddresses {
    /// How many addresses there are, the first and the last left out.
    fn size(self) -> u32 {
        1u32.checked_shl(32 - u32::from(self.prefix.clamp(1, 30))).map_or(1, |all| all - 2)
    }

    fn at(self, number: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.network).wrapping_add(1 + number % self.size()))
    }

    fn has(self, address: Ipv4Addr) -> bool {
        let number = u32::from(address).wrapping_sub(u32::from(self.network));
        (1..=self.size()).contains(&number)
    }

    /// The address of each Gateway; one that finds none free has none.
    pub(crate) fn assign(self, gateways: &[&GatewayObject]) -> BTreeMap<Key, IpAddr> {
        let mut out: BTreeMap<Key, Ipv4Addr> = BTreeMap::new();
        let mut taken = BTreeSet::new();
        let mut sorted: Vec<&&GatewayObject> = gateways.iter().collect();
        sorted.sort_by_key(|gateway| {
            let created = gateway.metadata.creation_timestamp.as_ref().map(|time| time.0.as_second());
            (created, Key::of(**gateway))
        });
        for gateway in &sorted {
            let said = gateway.status.iter().flat_map(|status| &status.addresses);
            let said = said.filter_map(|address| address.value.parse::<Ipv4Addr>().ok());
            if let Some(own) = said.into_iter().find(|address| self.has(*address) && !taken.contains(address))
            {
                taken.insert(own);
                out.insert(Key::of(**gateway), own);
            }
        }
        for gateway in sorted {
            let key = Key::of(*gateway);
            if out.contains_key(&key) {
                continue;
            }
            let name = format!("{}/{}", key.namespace(), key.name());
            let digest = ring::digest::digest(&ring::digest::SHA256, name.as_bytes());
            let start = digest.as_ref().iter().take(4).fold(0u32, |sum, byte| sum << 8 | u32::from(*byte));
            let free = (0..self.size().min(1 << 16))
                .map(|step| self.at(start.wrapping_add(step) % self.size()))
                .find(|address| !taken.contains(address));
            if let Some(address) = free {
                taken.insert(address);
                out.insert(key, address);
            }
        }
        out.into_iter().map(|(key, address)| (key, IpAddr::from(address))).collect()
    }
}

struct Open {
    wanted: SocketAddr,
    bound: SocketAddr,
}

/// What is open.
#[derive(Default)]
pub(crate) struct Ways {
    /// By the entrance's name.
    open: Mutex<BTreeMap<String, Open>>,
    tls: Mutex<Option<SocketAddr>>,
}

impl Ways {
    /// Opens and closes listeners until they are those of `ways`; a listener that stays is not touched. Gives what could
    /// not be opened, and why.
    pub(crate) fn reconcile(
        &self,
        gateway: &Gateway,
        ways: &[Way],
        addresses: &BTreeMap<Key, IpAddr>,
    ) -> Vec<(Key, String)> {
        let wanted: BTreeMap<&str, (&Way, SocketAddr)> = ways
            .iter()
            .filter_map(|way| {
                let address = *addresses.get(&way.gateway)?;
                Some((way.entrance.as_str(), (way, SocketAddr::new(address, way.port))))
            })
            .collect();
        let mut open = self.open.lock();
        open.retain(|entrance, known| {
            let stays = wanted.get(entrance.as_str()).is_some_and(|(_, address)| *address == known.wanted);
            if !stays {
                gateway.unlisten(known.bound);
            }
            stays
        });
        let mut failed = Vec::new();
        for (entrance, (way, wanted)) in wanted {
            if open.contains_key(entrance) {
                continue;
            }
            match bind(gateway, wanted, &Mode::Entrance { name: entrance.to_owned() }) {
                Ok(bound) => {
                    tracing::info!(gateway = %way.gateway, port = way.port, address = %bound, "listens");
                    open.insert(entrance.to_owned(), Open { wanted, bound });
                }
                Err(error) => {
                    failed.push((way.gateway.clone(), format!("port {} is not served: {error}", way.port)));
                }
            }
        }
        failed
    }

    /// Listens for all routes over TLS, once; an error says why not.
    pub(crate) fn open_tls(&self, gateway: &Gateway, address: SocketAddr) -> Result<(), String> {
        let mut tls = self.tls.lock();
        if tls.is_some() {
            return Ok(());
        }
        let settings = gateway.tls(None).map_err(|error| error.to_string())?;
        let listener = Listener { address, mode: Mode::Proxy, tls: Some(Arc::clone(&settings)) };
        let bound = gateway.listen(listener).map_err(|error| error.to_string())?;
        tracing::info!(address = %bound, "listens for TLS");
        *tls = Some(bound);
        Ok(())
    }

    /// Closes all listeners.
    pub(crate) fn close(&self, gateway: &Gateway) {
        for (_, open) in std::mem::take(&mut *self.open.lock()) {
            gateway.unlisten(open.bound);
        }
        if let Some(bound) = self.tls.lock().take() {
            gateway.unlisten(bound);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const RANGE: GatewayAddresses = GatewayAddresses { network: Ipv4Addr::new(127, 94, 0, 0), prefix: 29 };

    fn gateway(name: &str, addresses: Value) -> GatewayObject {
        serde_json::from_value(json!({"metadata": {"name": name, "namespace": "shop"},
            "status": {"addresses": addresses}}))
        .unwrap()
    }

    #[test]
    fn every_gateway_has_an_address_and_keeps_it() {
        let names = ["a", "b", "c", "d", "e", "f"];
        let all: Vec<GatewayObject> = names.iter().map(|name| gateway(name, json!([]))).collect();
        let first = RANGE.assign(&all.iter().collect::<Vec<_>>());
        let distinct: BTreeSet<&IpAddr> = first.values().collect();
        assert_eq!((first.len(), distinct.len()), (6, 6));
        let said = first[&Key::new("shop", "f")].to_string();
        let kept = gateway("f", json!([{"type": "IPAddress", "value": said}]));
        let foreign = gateway("a", json!([{"type": "IPAddress", "value": "127.0.0.1"}]));
        let again = RANGE.assign(&[&kept, &foreign]);
        assert_eq!(again[&Key::new("shop", "f")].to_string(), said);
        assert!(again[&Key::new("shop", "a")] != again[&Key::new("shop", "f")]);
        let many: Vec<GatewayObject> = (0..8).map(|i| gateway(&format!("g{i}"), json!([]))).collect();
        assert_eq!(RANGE.assign(&many.iter().collect::<Vec<_>>()).len(), 6, "no more than there are");
    }
}
