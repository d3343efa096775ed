//! Who holds a port that a pod wants, told before the pod's process fails on it.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, TcpListener};

use crate::procfs;

/// A port that cannot be bound at the pod's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Conflict {
    /// Somebody listens there.
    Taken { port: u16, holder: Option<Holder> },
    /// A port below the machine's limit for unprivileged users.
    Privileged { port: u16 },
    /// Any other refusal.
    Refused { port: u16, error: String },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holder {
    pub pid: u32,
    pub comm: String,
    /// It listens on all addresses rather than on one.
    pub wildcard: bool,
}

/// The first of `ports` that cannot be bound at `address` now.
pub(crate) fn check(address: Ipv4Addr, ports: impl IntoIterator<Item = u16>) -> Option<Conflict> {
    for port in ports {
        // The listening socket is closed again at once; nothing has been accepted, so no TIME_WAIT remains.
        let error = match TcpListener::bind((address, port)) {
            Ok(_) => continue,
            Err(error) => error,
        };
        return Some(match error.kind() {
            ErrorKind::AddrInUse => Conflict::Taken { port, holder: holder(address, port) },
            ErrorKind::PermissionDenied => Conflict::Privileged { port },
            _ => Conflict::Refused { port, error: error.to_string() },
        });
    }
    None
}

fn holder(address: Ipv4Addr, port: u16) -> Option<Holder> {
    let listening: Vec<_> = procfs::listeners()
        .into_iter()
        .filter(|l| l.port == port && (l.address.is_unspecified() || l.address == IpAddr::V4(address)))
        .collect();
    let inodes: Vec<u64> = listening.iter().map(|l| l.inode).collect();
    let owners = procfs::socket_owners(&inodes);
    listening.iter().find_map(|l| {
        let pid = *owners.get(&l.inode)?;
        let comm = procfs::stat(pid)?.comm;
        Some(Holder { pid, comm, wildcard: l.address.is_unspecified() })
    })
}

impl Conflict {
    /// Reason of the pod's `PortsAvailable` condition.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Conflict::Taken { .. } => "PortInUse",
            Conflict::Privileged { .. } => "PortPrivileged",
            Conflict::Refused { .. } => "PortRefused",
        }
    }

    /// What happened, between whom, and what to do. `pod_of` names the pod of a process of ours.
    pub(crate) fn message(
        &self,
        pod: &str,
        address: Ipv4Addr,
        pod_of: impl Fn(u32) -> Option<String>,
    ) -> String {
        match self {
            Conflict::Taken { port, holder: Some(holder) } => {
                let at =
                    if holder.wildcard { format!("0.0.0.0:{port}") } else { format!("{address}:{port}") };
                let who = format!("process {} ({})", holder.pid, holder.comm);
                match pod_of(holder.pid) {
                    Some(other) => format!(
                        "pod {pod} cannot listen on {address}:{port}: {who} of pod {other} listens on {at}; make its program listen on $POD_IP:$PORT instead of all addresses, or change a containerPort"
                    ),
                    None => format!(
                        "pod {pod} cannot listen on {address}:{port}: {who} on this machine, which is no pod, listens on {at}; end it, or change the containerPort"
                    ),
                }
            }
            Conflict::Taken { port, holder: None } => format!(
                "pod {pod} cannot listen on {address}:{port}: a process of another user listens there (`sudo ss -ltnp 'sport = :{port}'` names it); end it, or change the containerPort"
            ),
            Conflict::Privileged { port } => format!(
                "pod {pod} cannot listen on {address}:{port}: ports below 1024 are reserved for root on this machine; use a containerPort of 1024 or more, or allow it with `sudo sysctl net.ipv4.ip_unprivileged_port_start=0`"
            ),
            Conflict::Refused { port, error } => {
                format!("pod {pod} cannot listen on {address}:{port}: {error}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_both_sides() {
        let socket = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let address = Ipv4Addr::new(127, 99, 7, 7);
        let conflict = check(address, [port]).unwrap();
        assert_eq!(conflict.reason(), "PortInUse");
        let text = conflict.message("ns/new", address, |_| Some("ns/old".into()));
        for part in ["pod ns/new", "pod ns/old", &format!("0.0.0.0:{port}"), "$POD_IP"] {
            assert!(text.contains(part), "{text}");
        }
        let text = conflict.message("ns/new", address, |_| None);
        assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
        drop(socket);
    }

    #[test]
    fn a_free_port_is_no_conflict() {
        let address = Ipv4Addr::new(127, 99, 7, 8);
        let socket = TcpListener::bind((address, 0)).unwrap();
        let port = socket.local_addr().unwrap().port();
        assert!(check(address, [port]).is_some());
        drop(socket);
        assert_eq!(check(address, [port]), None);
    }
}
