//! What the node agent is told by whoever starts it; it reads no flag and no environment variable.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::isolation::PodNetworks;

/// An IPv4 network, for example `127.77.0.0/17`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    pub network: Ipv4Addr,
    pub prefix: u8,
}

/// Why a CIDR was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not an IPv4 network such as 127.77.0.0/17")]
pub struct CidrError {
    pub text: String,
}

/// Looks up where a TCP port of a Service is really reached; `None` while nobody serves it. Asked with the Service's
/// namespace, its name and the port that it declares.
#[derive(Clone)]
pub struct ServiceAddresses(Arc<ServiceLookup>);

type ServiceLookup = dyn Fn(&str, &str, u16) -> Option<SocketAddr> + Send + Sync;

/// Everything the agent needs to know. [`Config::new`] gives upstream's intervals.
#[derive(Clone, Debug)]
pub struct Config {
    pub node_name: String,
    /// Pod directories, process records and logs live under it.
    pub state_dir: PathBuf,
    /// The addresses given to pods; without `networks` they must be addresses of the loopback interface (127.0.0.0/8 on
    /// Linux).
    pub pod_cidr: Cidr,
    /// Image (with or without tag) → the local command that stands for its entrypoint. `{args}` is where the
    /// container's args go (at the end when absent). An empty command runs the container's own `command`.
    pub images: BTreeMap<String, Vec<String>>,
    /// Directory that relative commands (`./bin/x`) are resolved against.
    pub base_dir: PathBuf,
    /// What the command word `gantry` stands for.
    pub self_exe: Option<PathBuf>,
    /// Environment of the host; only `PATH`, `HOME`, `LANG` and `TMPDIR` reach a pod.
    pub host_env: BTreeMap<String, String>,
    /// Where a user maps an image, named in the message about an unmapped one (`gantry.yaml`).
    pub images_file: String,
    /// First restart delay and its cap; it doubles with every crash.
    pub backoff_initial: Duration,
    pub backoff_max: Duration,
    /// Resource usage is read this often.
    pub usage_interval: Duration,
    /// Until a container has been ready once, startup and readiness probes also run this often. Such extra probes
    /// can only succeed: their failures do not count. `None` keeps to the probes' own periods.
    pub eager_probe_interval: Option<Duration>,
    /// How long `BeforeStop` may take before SIGTERM is sent anyway.
    pub before_stop_timeout: Duration,
    pub lease_interval: Duration,
    /// Volumes of changed ConfigMaps are rewritten at the latest after this time.
    pub volume_sync_interval: Duration,
    pub log_max_bytes: u64,
    pub log_max_files: usize,
    pub max_pods: u32,
    pub version: String,
    /// Where Services are reached, when that may differ from their cluster address: pods' variables name this.
    pub service_addresses: Option<ServiceAddresses>,
    /// Gives pods networks and mounts of their own, with addresses out of `pod_cidr`. Without it they share this
    /// machine's, and what an earlier start left of the former is ended.
    pub networks: Option<PodNetworks>,
}

// === impl Config ===

impl Config {
    pub fn new(node_name: impl Into<String>, state_dir: impl Into<PathBuf>) -> Config {
        Config {
            node_name: node_name.into(),
            state_dir: state_dir.into(),
            pod_cidr: Cidr { network: Ipv4Addr::new(127, 77, 0, 0), prefix: 17 },
            images: BTreeMap::new(),
            base_dir: PathBuf::from("."),
            self_exe: None,
            host_env: BTreeMap::new(),
            images_file: "gantry.yaml".into(),
            backoff_initial: Duration::from_secs(10),
            backoff_max: Duration::from_secs(300),
            usage_interval: Duration::from_secs(1),
            eager_probe_interval: None,
            before_stop_timeout: Duration::from_secs(5),
            lease_interval: Duration::from_secs(10),
            volume_sync_interval: Duration::from_secs(60),
            log_max_bytes: 10 << 20,
            log_max_files: 3,
            max_pods: 110,
            version: env!("CARGO_PKG_VERSION").into(),
            service_addresses: None,
            networks: None,
        }
    }
}

// === impl ServiceAddresses ===

impl ServiceAddresses {
    pub fn new(
        lookup: impl Fn(&str, &str, u16) -> Option<SocketAddr> + Send + Sync + 'static,
    ) -> ServiceAddresses {
        ServiceAddresses(Arc::new(lookup))
    }

    pub(crate) fn get(&self, namespace: &str, name: &str, port: u16) -> Option<SocketAddr> {
        (self.0)(namespace, name, port)
    }
}

impl std::fmt::Debug for ServiceAddresses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServiceAddresses")
    }
}

// === impl Cidr ===

impl Cidr {
    /// Addresses in the network, its first (network) and last (broadcast) included.
    pub fn size(self) -> u32 {
        1u32.checked_shl(32 - u32::from(self.prefix)).unwrap_or(u32::MAX)
    }

    pub fn nth(self, n: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.network).wrapping_add(n))
    }

    /// Position of `address` in the network.
    pub fn index_of(self, address: Ipv4Addr) -> Option<u32> {
        let index = u32::from(address).checked_sub(u32::from(self.network))?;
        (index < self.size()).then_some(index)
    }
}

impl std::str::FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Cidr, CidrError> {
        let parsed = || {
            let (address, prefix) = text.split_once('/')?;
            let prefix: u8 = prefix.parse().ok().filter(|p| (8..=30).contains(p))?;
            let address: Ipv4Addr = address.parse().ok()?;
            let mask = u32::MAX << (32 - u32::from(prefix));
            Some(Cidr { network: Ipv4Addr::from(u32::from(address) & mask), prefix })
        };
        parsed().ok_or_else(|| CidrError { text: text.into() })
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cidr_reads_and_refuses() {
        let cidr: Cidr = "127.77.9.9/17".parse().unwrap();
        assert_eq!(cidr.to_string(), "127.77.0.0/17");
        assert_eq!(cidr.size(), 32768);
        assert_eq!(cidr.index_of("127.77.1.0".parse().unwrap()), Some(256));
        assert_eq!(cidr.index_of("127.77.128.0".parse().unwrap()), None);
        for bad in ["", "127.0.0.1", "127.0.0.1/33", "x/8", "::1/64"] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
    }
}
