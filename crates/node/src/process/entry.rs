//! What a pod's process does between fork and exec, and what it inherits; the only unsafe code of this room.
//!
//! The closures run in the forked child of a program with many threads, so they only make system calls: no allocation,
//! no lock.

use std::fs::File;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use rustix::io::{FdFlags, fcntl_setfd};
use tokio::process::Command;

/// How a process enters its surroundings.
#[derive(Debug, Default)]
pub(super) struct Entry {
    /// An open `cgroup.procs`.
    pub(super) cgroup: Option<File>,
    /// The process leads a session whose terminal is this one; else it leads a process group.
    pub(super) terminal: Option<OwnedFd>,
    /// Stay open in the process, under the same numbers.
    pub(super) inherited: Vec<OwnedFd>,
}

impl Entry {
    /// Applied to a command whose other settings are complete.
    #[allow(unsafe_code)]
    pub(super) fn apply(self, command: &mut Command) {
        let Entry { cgroup, terminal, inherited } = self;
        if terminal.is_none() {
            command.process_group(0);
        }
        if cgroup.is_none() && terminal.is_none() && inherited.is_empty() {
            return;
        }
        let enter = move || {
            keep_open(&inherited)?;
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

fn keep_open(descriptors: &[OwnedFd]) -> io::Result<()> {
    for descriptor in descriptors {
        fcntl_setfd(descriptor, FdFlags::empty())?;
    }
    Ok(())
}

/// The descriptors stay open in the process that is started, under the same numbers.
#[allow(unsafe_code)]
pub(crate) fn inherit(command: &mut std::process::Command, descriptors: Vec<OwnedFd>) {
    use std::os::unix::process::CommandExt;
    // SAFETY: the closure only makes system calls on descriptors that it owns.
    unsafe {
        command.pre_exec(move || keep_open(&descriptors));
    }
}

/// A descriptor that this process has been started with and told the number of, closed when it becomes another program.
#[allow(unsafe_code)]
pub(crate) fn inherited(number: RawFd) -> OwnedFd {
    // SAFETY: whoever started this process opened the descriptor for it alone, and it is taken once.
    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
    let _ = fcntl_setfd(&descriptor, FdFlags::CLOEXEC);
    descriptor
}
