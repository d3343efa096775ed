//! The parts of `/proc` that tell who runs, for how long, and who listens.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

/// One line of `/proc/<pid>/stat`. Times are clock ticks, memory is pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    pub pid: u32,
    pub comm: String,
    pub state: char,
    pub ppid: u32,
    pub pgrp: u32,
    pub session: u32,
    /// User and system time of the process itself.
    pub own_ticks: u64,
    /// User and system time of children that it has waited for.
    pub reaped_ticks: u64,
    /// Ticks since boot; with the pid it names a process for as long as the machine runs.
    pub start_ticks: u64,
    pub rss_pages: u64,
}

/// A TCP socket in state LISTEN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listener {
    pub address: IpAddr,
    pub port: u16,
    pub inode: u64,
}

pub(crate) fn parse_stat(line: &str) -> Option<Stat> {
    // The name may hold anything, spaces and parentheses included, so the last one closes it.
    let open = line.find('(')?;
    let close = line.rfind(')')?;
    let pid = line.get(..open)?.trim().parse().ok()?;
    let comm = line.get(open + 1..close)?.to_string();
    let fields: Vec<&str> = line.get(close + 1..)?.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    let id = |index: usize| fields.get(index)?.parse::<i64>().ok().map(|n| u32::try_from(n).unwrap_or(0));
    Some(Stat {
        pid,
        comm,
        state: fields.first()?.chars().next()?,
        ppid: id(1)?,
        pgrp: id(2)?,
        session: id(3)?,
        own_ticks: number(11)?.saturating_add(number(12)?),
        reaped_ticks: number(13)?.saturating_add(number(14)?),
        start_ticks: number(19)?,
        rss_pages: number(21)?,
    })
}

pub(crate) fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/stat")).ok()?))
}

/// Every process that can be seen.
pub(crate) fn all() -> Vec<Stat> {
    pids().filter_map(stat).collect()
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The process is there, is not a zombie, and is the one that started at `start_ticks`.
pub(crate) fn is_alive(pid: u32, start_ticks: u64) -> bool {
    stat(pid).is_some_and(|s| s.start_ticks == start_ticks && !matches!(s.state, 'Z' | 'X'))
}

/// Changes with every boot: pids of another boot mean nothing.
pub(crate) fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_string()
}

/// The value of `name` in the environment a process was started with.
pub(crate) fn environment_variable(pid: u32, name: &str) -> Option<String> {
    let environ = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
    let value = environ
        .split(|b| *b == 0)
        .find_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="))?;
    Some(String::from_utf8_lossy(value).into_owned())
}

/// Pids whose starting environment holds `name`, with its value.
pub(crate) fn with_environment_variable(name: &str) -> Vec<(u32, String)> {
    pids().filter_map(|pid| Some((pid, environment_variable(pid, name)?))).collect()
}

/// Proportional share of memory, in bytes; `None` where the kernel does not say.
pub(crate) fn pss_bytes(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("Pss:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Every TCP socket that listens, IPv4 and IPv6.
pub(crate) fn listeners() -> Vec<Listener> {
    let mut found = Vec::new();
    for file in ["/proc/net/tcp", "/proc/net/tcp6"] {
        if let Ok(text) = std::fs::read_to_string(file) {
            found.extend(text.lines().filter_map(parse_listener));
        }
    }
    found
}

fn parse_listener(line: &str) -> Option<Listener> {
    const LISTEN: &str = "0A";
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let (address, port) = fields.get(1)?.split_once(':')?;
    if *fields.get(3)? != LISTEN {
        return None;
    }
    // Addresses are printed as native-endian 32-bit words.
    let word = |at: usize| u32::from_str_radix(address.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    let address = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut bytes = [0u8; 16];
            for part in 0..4 {
                bytes[part * 4..part * 4 + 4].copy_from_slice(&word(part * 8)?);
            }
            IpAddr::V6(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(Listener { address, port: u16::from_str_radix(port, 16).ok()?, inode: fields.get(9)?.parse().ok()? })
}

/// The processes that hold the given sockets; sockets of other users' processes are not found without privilege.
pub(crate) fn socket_owners(inodes: &[u64]) -> HashMap<u64, u32> {
    let mut owners = HashMap::new();
    for pid in pids() {
        let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        for entry in entries.flatten() {
            let inode = std::fs::read_link(entry.path()).ok().and_then(|link| socket_inode(&link));
            if let Some(inode) = inode.filter(|i| inodes.contains(i)) {
                owners.entry(inode).or_insert(pid);
            }
        }
        if owners.len() == inodes.len() {
            break;
        }
    }
    owners
}

fn socket_inode(link: &Path) -> Option<u64> {
    link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// Total CPU time of the machine in ticks (idle and iowait left out) from `/proc/stat`.
pub(crate) fn machine_busy_ticks() -> u64 {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let Some(line) = text.lines().next() else { return 0 };
    let numbers: Vec<u64> = line.split_ascii_whitespace().skip(1).filter_map(|n| n.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal; guest time is part of user.
    numbers.iter().take(8).enumerate().filter(|(i, _)| !matches!(i, 3 | 4)).map(|(_, n)| n).sum()
}

/// A value of `/proc/meminfo` in bytes.
pub(crate) fn meminfo(name: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces() {
        let line = "42 (a) b (c) S 1 40 39 0 -1 4194560 1 2 3 4 10 20 30 40 20 0 1 0 777 1000 55 18446744073709551615";
        let stat = parse_stat(line).unwrap();
        assert_eq!((stat.pid, stat.comm.as_str(), stat.state), (42, "a) b (c", 'S'));
        assert_eq!((stat.ppid, stat.pgrp, stat.session), (1, 40, 39));
        assert_eq!((stat.own_ticks, stat.reaped_ticks), (30, 70));
        assert_eq!((stat.start_ticks, stat.rss_pages), (777, 55));
        for bad in ["", "1", "1 (x", "1 (x) S 1", ") 1 ("] {
            assert_eq!(parse_stat(bad), None, "{bad}");
        }
    }

    #[test]
    fn finds_who_listens() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let found =
            listeners().into_iter().find(|l| l.port == address.port() && l.address == address.ip()).unwrap();
        assert_eq!(socket_owners(&[found.inode]).get(&found.inode), Some(&std::process::id()));
    }

    #[test]
    fn knows_this_process() {
        let own = stat(std::process::id()).unwrap();
        assert!(is_alive(own.pid, own.start_ticks));
        assert!(!is_alive(own.pid, own.start_ticks + 1));
        assert!(meminfo("MemTotal").unwrap() > 0);
        assert!(machine_busy_ticks() > 0);
    }
}
