//! Accounting by cgroup v2, where one is delegated to this program: a child group per run of a container.
//!
//! A group counts what its processes have used even when they have ended, and ends them all at once; `/proc` can only
//! be polled. Delegated means that we may make groups below our own. Memory is counted only where the memory
//! controller can be handed on, which the kernel refuses while a group with processes has children that use it; when
//! we are alone in our group we move into a leaf of our own. Format: the kernel's `admin-guide/cgroup-v2`.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use crate::runtime::ContainerKey;

const CONTROLLERS: &str = "+memory +pids";
const LEAF: &str = "gantry";

/// The group below which pods' groups are made.
#[derive(Clone, Debug)]
pub(crate) struct Delegation {
    base: PathBuf,
    memory: bool,
}

/// The group of one run of a container.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    dir: PathBuf,
}

/// Why resource usage is not read from cgroups.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoCgroup {
    #[error("no cgroup2 file system is mounted")]
    NotMounted,
    #[error("this program is in no cgroup of version 2 below {}", .0.display())]
    NotMember(PathBuf),
    #[error("{} is not delegated to this user: {error}", dir.display())]
    NotDelegated { dir: PathBuf, error: io::Error },
    #[error("{} has no cpu.stat", .0.display())]
    NoStatistics(PathBuf),
}

// === impl Delegation ===

impl Delegation {
    /// Makes the group of this state directory below our own group, or says why that is not possible.
    pub(crate) fn find(state_dir: &Path) -> Result<Delegation, NoCgroup> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let (root, mount) = mounts.lines().find_map(cgroup2_mount).ok_or(NoCgroup::NotMounted)?;
        let own = own_path(Path::new("/proc/self/cgroup"))
            .and_then(|path| Some(mount.join(path.strip_prefix(&root).ok()?)))
            .ok_or_else(|| NoCgroup::NotMember(mount.clone()))?;
        // A restart in the same terminal is in the leaf that the earlier life made.
        let own = if own.ends_with(LEAF) { own.parent().unwrap_or(&own).to_owned() } else { own };
        Delegation::below(&own, state_dir)
    }

    fn below(own: &Path, state_dir: &Path) -> Result<Delegation, NoCgroup> {
        let base = own.join(format!("gantry-pods-{:08x}", fingerprint(state_dir)));
        make(&base).map_err(|error| NoCgroup::NotDelegated { dir: own.to_owned(), error })?;
        if usage_ns(&base).is_none() {
            let _ = std::fs::remove_dir(&base);
            return Err(NoCgroup::NoStatistics(base));
        }
        let memory = hand_on(own).and_then(|()| hand_on(&base)).is_ok() && has_memory(&base);
        Ok(Delegation { base, memory })
    }

    /// For the log and the Node object.
    pub(crate) fn describe(&self) -> &'static str {
        match self.memory {
            true => "cgroup v2: cpu and memory",
            false => {
                "cgroup v2: cpu; memory from the process tree, since the memory controller is not delegated"
            }
        }
    }

    /// Groups of containers that go on running stay for the next start.
    pub(crate) fn remove_if_empty(&self) {
        let _ = std::fs::remove_dir(&self.base);
    }

    /// The group of a run, made if it is not there.
    pub(crate) fn group(&self, key: &ContainerKey) -> io::Result<Group> {
        let pod = self.base.join(&key.pod_uid);
        make(&pod)?;
        if self.memory {
            hand_on(&pod)?;
        }
        let dir = pod.join(group_name(key));
        make(&dir)?;
        Ok(Group { dir })
    }
}

// === impl Group ===

impl Group {
    /// The group that a process of an earlier life was put into.
    pub(crate) fn of_process(pid: u32, key: &ContainerKey) -> Option<Group> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
        let (root, mount) = mounts.lines().find_map(cgroup2_mount)?;
        let path = own_path(Path::new(&format!("/proc/{pid}/cgroup")))?;
        let dir = mount.join(path.strip_prefix(&root).ok()?);
        let expected = Path::new(&key.pod_uid).join(group_name(key));
        dir.ends_with(expected).then_some(Group { dir })
    }

    /// Where a process writes `0` to enter.
    pub(crate) fn entrance(&self) -> io::Result<File> {
        OpenOptions::new().write(true).open(self.dir.join("cgroup.procs"))
    }

    pub(crate) fn cpu_ns(&self) -> Option<u64> {
        usage_ns(&self.dir)
    }

    /// Memory in use without the page cache that can be dropped at once; `None` without the memory controller.
    pub(crate) fn working_set_bytes(&self) -> Option<u64> {
        let current: u64 = read(&self.dir.join("memory.current"))?.trim().parse().ok()?;
        let inactive = field(&read(&self.dir.join("memory.stat"))?, "inactive_file").unwrap_or(0);
        Some(current.saturating_sub(inactive))
    }

    pub(crate) fn pids(&self) -> Vec<u32> {
        let text = read(&self.dir.join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Ends every process of the group; false where the kernel cannot (before 5.14).
    pub(crate) fn kill(&self) -> bool {
        std::fs::write(self.dir.join("cgroup.kill"), "1").is_ok()
    }

    /// Removes the group and, when it was the last, its pod's. False while a process is left in it.
    pub(crate) fn remove(&self) -> bool {
        let gone = match std::fs::remove_dir(&self.dir) {
            Ok(()) => true,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        if gone && let Some(pod) = self.dir.parent() {
            let _ = std::fs::remove_dir(pod);
        }
        gone
    }
}

fn group_name(key: &ContainerKey) -> String {
    format!("{}-{}", key.container, key.attempt)
}

/// Root and mount point of a line of `mountinfo` that mounts cgroup2.
fn cgroup2_mount(line: &str) -> Option<(PathBuf, PathBuf)> {
    let (front, back) = line.split_once(" - ")?;
    if back.split(' ').next() != Some("cgroup2") {
        return None;
    }
    let mut fields = front.split(' ').skip(3);
    Some((fields.next()?.into(), fields.next()?.into()))
}

fn own_path(file: &Path) -> Option<PathBuf> {
    read(file)?.lines().find_map(|line| Some(PathBuf::from(line.strip_prefix("0::")?)))
}

fn make(dir: &Path) -> io::Result<()> {
    match std::fs::create_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Lets the children of `dir` use what `dir` can count. When we are the only process in `dir`, we make way.
fn hand_on(dir: &Path) -> io::Result<()> {
    let control = dir.join("cgroup.subtree_control");
    let available = read(&dir.join("cgroup.controllers")).unwrap_or_default();
    let wanted: Vec<&str> = CONTROLLERS
        .split(' ')
        .filter(|controller| available.split_whitespace().any(|name| name == &controller[1..]))
        .collect();
    if wanted.is_empty() {
        return Err(io::Error::other("no controller is available"));
    }
    let wanted = wanted.join(" ");
    let refused = match std::fs::write(&control, &wanted) {
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    let procs = read(&dir.join("cgroup.procs")).unwrap_or_default();
    if refused.raw_os_error() != Some(libc::EBUSY) || procs.trim() != std::process::id().to_string() {
        return Err(refused);
    }
    let leaf = dir.join(LEAF);
    make(&leaf)?;
    std::fs::write(leaf.join("cgroup.procs"), "0")?;
    std::fs::write(&control, &wanted)
}

fn has_memory(base: &Path) -> bool {
    let enabled = read(&base.join("cgroup.subtree_control")).unwrap_or_default();
    enabled.split_whitespace().any(|name| name == "memory")
}

fn usage_ns(dir: &Path) -> Option<u64> {
    field(&read(&dir.join("cpu.stat"))?, "usage_usec")?.checked_mul(1000)
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

fn read(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// Tells state directories apart in the name of their group; the same on every start.
fn fingerprint(path: &Path) -> u32 {
    let bytes = path.as_os_str().as_encoded_bytes();
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_unified_mount_among_others() {
        let unified =
            "40 31 0:35 /a /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate";
        let old = "41 31 0:36 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu";
        assert_eq!(cgroup2_mount(unified), Some(("/a".into(), "/sys/fs/cgroup/unified".into())));
        assert_eq!(cgroup2_mount(old), None);
        assert_eq!(cgroup2_mount("x"), None);
    }

    #[test]
    fn reads_what_a_group_has_used() {
        let dir = tempfile::tempdir().unwrap();
        let group = Group { dir: dir.path().to_owned() };
        assert_eq!((group.cpu_ns(), group.working_set_bytes()), (None, None));
        std::fs::write(dir.path().join("cpu.stat"), "usage_usec 12\nuser_usec 7\nsystem_usec 5\n").unwrap();
        std::fs::write(dir.path().join("memory.current"), "1000\n").unwrap();
        std::fs::write(dir.path().join("memory.stat"), "anon 1\ninactive_file 300\nactive_file 2\n").unwrap();
        std::fs::write(dir.path().join("cgroup.procs"), "4\n5\n").unwrap();
        assert_eq!((group.cpu_ns(), group.working_set_bytes()), (Some(12_000), Some(700)));
        assert_eq!(group.pids(), [4, 5]);
    }

    #[test]
    fn a_folder_that_is_no_cgroup_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(Delegation::below(dir.path(), dir.path()), Err(NoCgroup::NoStatistics(_))));
        let nowhere = dir.path().join("none");
        assert!(matches!(Delegation::below(&nowhere, dir.path()), Err(NoCgroup::NotDelegated { .. })));
    }
}
