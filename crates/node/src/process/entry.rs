//! What a pod's process does between fork and exec; the only unsafe code of this room.
//!
//! The closure runs in the forked child of a program with many threads, so it only makes system calls: no allocation,
//! no lock.

use std::fs::File;
use std::os::fd::OwnedFd;

use tokio::process::Command;

/// How a process enters its surroundings.
#[derive(Debug, Default)]
pub(super) struct Entry {
    /// An open `cgroup.procs`.
    pub(super) cgroup: Option<File>,
    /// The process leads a session whose terminal is this one; else it leads a process group.
    pub(super) terminal: Option<OwnedFd>,
}

impl Entry {
    /// Applied to a command whose other settings are complete.
    #[allow(unsafe_code)]
    pub(super) fn apply(self, command: &mut Command) {
        let Entry { cgroup, terminal } = self;
        if terminal.is_none() {
            command.process_group(0);
        }
        if cgroup.is_none() && terminal.is_none() {
            return;
        }
        let enter = move || {
            if let Some(cgroup) = &cgroup {
                rustix::io::write(cgroup, b"0")?;
            }
            if let Some(terminal) = &terminal {
                rustix::process::setsid()?;
                rustix::process::ioctl_tiocsctty(terminal)?;
            }
            Ok(())
        };
        // SAFETY: the closure only makes system calls on descriptors that it owns.
        unsafe {
            command.pre_exec(enter);
        }
    }
}
