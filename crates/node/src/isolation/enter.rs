//! What a process of a pod does before it becomes the pod's program: it enters the pod's namespaces.
//!
//! It is this program again, with a verb that is not in its help and one thread, because a program with many threads
//! can neither enter a user namespace nor do between fork and exec what is done here.

use std::ffi::OsString;
use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::thread::{
    CapabilitySet, LinkNameSpaceType, ThreadNameSpaceType, UnshareFlags, move_into_link_name_space,
    move_into_thread_name_spaces, remove_capability_from_bounding_set,
};
use serde::{Deserialize, Serialize};

use super::mounts::{self, Mount};

/// The first argument of a process that is to enter a pod.
pub(crate) const ENTER_VERB: &str = "pod-enter";
/// The first argument of the process that holds the networks.
pub(super) const HOLDER_VERB: &str = "pod-networks";

/// A kernel takes 128 KiB as one argument. A command line may be longer, and is passed in a file in memory then.
const ARGUMENT_BYTES: usize = 96 * 1024;

/// As a shell says that a command cannot be run or was not found.
const CANNOT_RUN: i32 = 126;
const NOT_FOUND: i32 = 127;

/// Where to go, and what to become.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Entrance {
    pub(crate) place: Place,
    /// The first of these that exists.
    pub(crate) working_dirs: Vec<PathBuf>,
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
}

/// Descriptors are numbers of ones that the process has been started with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Place {
    /// A new container of a pod.
    Container {
        user_namespace: RawFd,
        network: RawFd,
        hostname: String,
        mounts: Vec<Mount>,
        /// An empty folder.
        staging: PathBuf,
        /// Where a failure is written; closed by the program's start.
        failure: RawFd,
    },
    /// Beside this process.
    Beside { pid: u32 },
}

// === impl Entrance ===

impl Entrance {
    /// The argument that says it, and the descriptor that a process with this argument must inherit.
    pub(super) fn argument(&self) -> io::Result<(String, Option<OwnedFd>)> {
        let text = serde_json::to_string(self)?;
        if text.len() <= ARGUMENT_BYTES {
            return Ok((text, None));
        }
        let descriptor = rustix::fs::memfd_create("entrance", rustix::fs::MemfdFlags::CLOEXEC)?;
        let mut file = std::fs::File::from(descriptor);
        file.write_all(text.as_bytes())?;
        file.rewind()?;
        Ok((file.as_raw_fd().to_string(), Some(file.into())))
    }

    fn read(argument: &str) -> Option<Entrance> {
        let Ok(number) = argument.parse::<RawFd>() else { return serde_json::from_str(argument).ok() };
        // Whoever gives the verb by hand has opened nothing.
        if number <= 2 || std::fs::symlink_metadata(format!("/proc/self/fd/{number}")).is_err() {
            return None;
        }
        serde_json::from_reader(std::fs::File::from(crate::process::inherited(number))).ok()
    }
}

/// Runs the verbs that only this program gives itself; `None` when the arguments are no such verb.
pub fn verb(args: &[OsString]) -> Option<ExitCode> {
    let verb = args.get(1)?.to_str()?;
    if verb == HOLDER_VERB {
        return Some(hold());
    }
    (verb == ENTER_VERB).then(|| enter(args.get(2)))
}

fn hold() -> ExitCode {
    let listener = io::stdin().as_fd().try_clone_to_owned();
    match listener.and_then(super::holder::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: holding the pods' networks: {error}");
            ExitCode::FAILURE
        }
    }
}

fn enter(argument: Option<&OsString>) -> ExitCode {
    let entrance = argument.and_then(|text| Entrance::read(text.to_str()?));
    let Some(entrance) = entrance else {
        eprintln!("error: {ENTER_VERB} is for the node's own use");
        return ExitCode::from(2);
    };
    let (error, code) = become_program(entrance);
    eprintln!("error: {error}");
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

/// Returns only when it failed: why, and the exit code for it.
fn become_program(entrance: Entrance) -> (io::Error, i32) {
    let mut failure = None;
    let entered = match entrance.place {
        Place::Container { user_namespace, network, hostname, mounts, staging, failure: pipe } => {
            let user_namespace = crate::process::inherited(user_namespace);
            let network = crate::process::inherited(network);
            failure = Some(std::fs::File::from(crate::process::inherited(pipe)));
            enter_container(&user_namespace, &network, &hostname, &mounts, &staging)
        }
        Place::Beside { pid } => enter_beside(pid),
    };
    let (error, code) = match entered {
        Err(error) => (error, CANNOT_RUN),
        Ok(()) if entrance.program.as_os_str().is_empty() => std::process::exit(0),
        Ok(()) => {
            let _ = entrance.working_dirs.iter().find(|dir| std::env::set_current_dir(dir).is_ok());
            let error = Command::new(&entrance.program).args(&entrance.args).exec();
            let code = if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { CANNOT_RUN };
            let text = format!("{}: {}", entrance.program.display(), crate::action::in_go_words(&error));
            (io::Error::new(error.kind(), text), code)
        }
    };
    if let Some(mut pipe) = failure {
        let _ = pipe.write_all(error.to_string().as_bytes());
    }
    (error, code)
}

fn enter_container(
    user_namespace: &OwnedFd,
    network: &OwnedFd,
    hostname: &str,
    wanted: &[Mount],
    staging: &std::path::Path,
) -> io::Result<()> {
    let is_root = rustix::process::geteuid().is_root();
    move_into_link_name_space(user_namespace.as_fd(), Some(LinkNameSpaceType::User))?;
    move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
    unshare()?;
    rustix::system::sethostname(hostname.as_bytes())?;
    mounts::apply(wanted, staging)?;
    if is_root {
        drop_capabilities()?;
    }
    Ok(())
}

#[allow(deprecated)]
fn unshare() -> io::Result<()> {
    // The checked function is deprecated for the sake of descriptor tables, which are not unshared here.
    Ok(rustix::thread::unshare(UnshareFlags::NEWNS | UnshareFlags::NEWUTS)?)
}

fn enter_beside(pid: u32) -> io::Result<()> {
    let gone = || io::Error::other(format!("process {pid} is not there"));
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(gone)?;
    let is_root = rustix::process::geteuid().is_root();
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    let namespaces = ThreadNameSpaceType::USER
        | ThreadNameSpaceType::NETWORK
        | ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME;
    move_into_thread_name_spaces(process.as_fd(), namespaces)?;
    if is_root { drop_capabilities() } else { Ok(()) }
}

/// What root in a container has: the list that container engines agree on. Other users have none after exec.
fn drop_capabilities() -> io::Result<()> {
    let kept = CapabilitySet::CHOWN
        | CapabilitySet::DAC_OVERRIDE
        | CapabilitySet::FSETID
        | CapabilitySet::FOWNER
        | CapabilitySet::MKNOD
        | CapabilitySet::NET_RAW
        | CapabilitySet::SETGID
        | CapabilitySet::SETUID
        | CapabilitySet::SETFCAP
        | CapabilitySet::SETPCAP
        | CapabilitySet::NET_BIND_SERVICE
        | CapabilitySet::SYS_CHROOT
        | CapabilitySet::KILL
        | CapabilitySet::AUDIT_WRITE;
    for bit in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        if kept.contains(capability) {
            continue;
        }
        match remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // The kernel knows no more.
            Err(rustix::io::Errno::INVAL) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::IntoRawFd;

    #[test]
    fn a_command_line_of_any_length_arrives() {
        for length in [10, 1_000_000] {
            let entrance = Entrance {
                place: Place::Beside { pid: 1 },
                working_dirs: Vec::new(),
                program: "sh".into(),
                args: vec!["x".repeat(length)],
            };
            let (argument, descriptor) = entrance.argument().unwrap();
            assert!(argument.len() <= ARGUMENT_BYTES);
            // As the process has it that inherits it.
            let _inherited = descriptor.map(IntoRawFd::into_raw_fd);
            assert_eq!(Entrance::read(&argument).unwrap().args, entrance.args);
        }
        assert!(["0", "-1", "1000000", "{}", ""].iter().all(|argument| Entrance::read(argument).is_none()));
    }
}
