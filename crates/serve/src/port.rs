//! Who holds a TCP port: read from /proc, so that "port taken" can name the process that has it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A process that listens on an address we wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortHolder {
    pub pid: u32,
    /// The process' short name, as `ps -o comm` shows it.
    pub command: String,
}

impl fmt::Display for PortHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {} ({})", self.pid, self.command)
    }
}

/// The process that listens on `addr`, if it can be seen: other users' processes cannot.
pub fn port_holder(addr: SocketAddr) -> Option<PortHolder> {
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| std::fs::read_to_string(table).ok())
        .find_map(|text| listening_inode(&text, addr))?;
    process_with_socket(inode)
}

/// The inode of the socket in state LISTEN (0A) that covers `addr` in a `/proc/net/tcp` table.
fn listening_inode(table: &str, addr: SocketAddr) -> Option<u64> {
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        let (ip, port) = local.split_once(':')?;
        let port = u16::from_str_radix(port, 16).ok()?;
        let ip = kernel_hex_ip(ip)?;
        let covers = ip == addr.ip() || ip.is_unspecified();
        (*state == "0A" && port == addr.port() && covers).then(|| inode.parse().ok()).flatten()
    })
}

/// The kernel prints addresses as 32-bit words in host order.
fn kernel_hex_ip(hex: &str) -> Option<IpAddr> {
    let word = |i: usize| u32::from_str_radix(hex.get(i * 8..i * 8 + 8)?, 16).ok().map(u32::to_ne_bytes);
    match hex.len() {
        8 => Some(IpAddr::V4(Ipv4Addr::from(word(0)?))),
        32 => {
            let mut bytes = [0; 16];
            for i in 0..4 {
                bytes[i * 4..i * 4 + 4].copy_from_slice(&word(i)?);
            }
            Some(IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical())
        }
        _ => None,
    }
}

fn process_with_socket(inode: u64) -> Option<PortHolder> {
    let link = format!("socket:[{inode}]");
    for entry in std::fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(descriptors) = std::fs::read_dir(entry.path().join("fd")) else { continue };
        let holds = descriptors
            .flatten()
            .any(|fd| std::fs::read_link(fd.path()).is_ok_and(|target| target.as_os_str() == link.as_str()));
        if holds {
            let command = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            return Some(PortHolder { pid, command: command.trim().to_owned() });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_process_that_listens() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let holder = port_holder(listener.local_addr().unwrap());
        if cfg!(target_os = "linux") {
            assert_eq!(holder.map(|h| h.pid), Some(std::process::id()));
        }
    }

    #[test]
    fn a_wildcard_listener_covers_every_address() {
        let table = "  sl  local_address rem_address   st tx rx tr tm retrnsmt uid timeout inode\n   \
                     0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 4242 1\n";
        assert_eq!(listening_inode(table, "127.0.0.1:8080".parse().unwrap()), Some(4242));
        assert_eq!(listening_inode(table, "127.0.0.1:8081".parse().unwrap()), None);
    }
}
