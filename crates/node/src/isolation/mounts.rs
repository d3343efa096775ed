//! What a container sees in its file system: the machine's own tree, with the pod's files and volumes at their places.
//!
//! Invariant: nothing is written outside of the container. Where a mount needs a place that the machine does not have,
//! the folder that would hold it is shadowed: a file system in memory takes its place, in which every entry of the
//! old folder is mounted again beside the new one. All of it ends with the last process of the container.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, StatVfsMountFlags};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind_recursive, mount_change,
    mount_remount, unmount,
};
use serde::{Deserialize, Serialize};

/// A folder with more entries is not shadowed.
const MOST_ENTRIES: usize = 8_192;
const MOST_LINKS: usize = 16;
const OLD_ROOT: &str = ".old-root";
/// What a program may write beside the mounts in a shadowed folder.
const SHADOW: &std::ffi::CStr = c"mode=755,size=16m";

/// A file or folder of the node, and where the container finds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mount {
    pub(crate) source: PathBuf,
    /// Absolute.
    pub(crate) target: PathBuf,
    pub(crate) read_only: bool,
}

struct View<'a> {
    /// An empty folder, where a new root begins.
    staging: &'a Path,
    /// Folders in memory, whose missing entries may be made.
    shadows: Vec<PathBuf>,
    /// Places where something of the pod is mounted.
    mounted: Vec<PathBuf>,
    has_old_root: bool,
}

/// Makes `mounts`, outer ones first, in the mount namespace of this process, which nobody else must be in.
pub(super) fn apply(mounts: &[Mount], staging: &Path) -> io::Result<()> {
    told(
        "make the mounts private",
        "/",
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
            .map_err(io::Error::from),
    )?;
    let mut ordered: Vec<&Mount> = mounts.iter().collect();
    ordered.sort_by_key(|mount| mount.target.components().count());
    // Opened first: a mount may hide where another comes from.
    let sources: Vec<OwnedFd> = ordered
        .iter()
        .map(|mount| told("open", mount.source.display(), open_path(&mount.source)))
        .collect::<io::Result<_>>()?;
    let mut view = View { staging, shadows: Vec::new(), mounted: Vec::new(), has_old_root: false };
    for (mount, source) in ordered.iter().zip(&sources) {
        let is_dir = std::fs::metadata(reopened(source))?.is_dir();
        let target = told("make room for", mount.target.display(), view.place(&mount.target, is_dir, 0))?;
        let made = bind(source, &target, mount.read_only);
        told("mount", format!("{} at {}", mount.source.display(), mount.target.display()), made)?;
        view.mounted.push(target);
    }
    if view.has_old_root {
        let old_root = Path::new("/").join(OLD_ROOT);
        told("leave", "the old root", unmount(&old_root, UnmountFlags::DETACH).map_err(io::Error::from))?;
        std::fs::remove_dir(old_root)?;
    }
    Ok(())
}

/// An error that says what was done, to what.
fn told<T>(doing: &str, what: impl std::fmt::Display, result: io::Result<T>) -> io::Result<T> {
    result.map_err(|error| {
        io::Error::new(error.kind(), format!("cannot {doing} {what}: {}", crate::action::in_go_words(&error)))
    })
}

fn open_path(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

/// A name of what is open, whatever has been mounted above it since.
fn reopened(descriptor: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", descriptor.as_raw_fd()))
}

fn bind(source: &OwnedFd, target: &Path, read_only: bool) -> io::Result<()> {
    mount_bind_recursive(reopened(source), target)?;
    if read_only {
        let flags = MountFlags::BIND | MountFlags::RDONLY | kept_flags(target)?;
        mount_remount(target, flags, "")?;
    }
    Ok(())
}

/// Restrictions of the file system below, which a remount must not lift.
fn kept_flags(target: &Path) -> io::Result<MountFlags> {
    let set = rustix::fs::statvfs(target)?.f_flag;
    let mut flags = MountFlags::empty();
    for (found, flag) in [
        (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
        (StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
        (StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
    ] {
        if set.contains(found) {
            flags |= flag;
        }
    }
    Ok(flags)
}

impl View<'_> {
    /// An existing path for `target`, made where it is missing.
    fn place(&mut self, target: &Path, is_dir: bool, links: usize) -> io::Result<PathBuf> {
        if links > MOST_LINKS {
            return Err(io::Error::other("too many symbolic links"));
        }
        let mut at = PathBuf::from("/");
        let mut rest = target.components().filter(|part| *part != Component::RootDir).peekable();
        while let Some(part) = rest.next() {
            let Component::Normal(name) = part else {
                return Err(io::Error::other("the path is not absolute and plain"));
            };
            let next = at.join(name);
            let is_last = rest.peek().is_none();
            match std::fs::symlink_metadata(&next) {
                Ok(found) if found.is_symlink() => {
                    // What the link names may be missing, and then that is what has to be made.
                    let named = at.join(std::fs::read_link(&next)?);
                    let whole = rest.fold(normal(&named), |path, part| path.join(part));
                    return self.place(&whole, is_dir, links + 1);
                }
                Ok(found) if is_last && found.is_dir() == is_dir => return Ok(next),
                Ok(_) if is_last => {
                    let (has, needs) = if is_dir { ("a file", "a folder") } else { ("a folder", "a file") };
                    return Err(io::Error::other(format!(
                        "{} is {has}, and {needs} is mounted",
                        next.display()
                    )));
                }
                Ok(found) if found.is_dir() => at = next,
                Ok(_) => return Err(io::Error::other(format!("{} is not a folder", next.display()))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    if !self.may_write(&at) {
                        self.shadow(&at)?;
                    }
                    if is_last && !is_dir {
                        std::fs::File::create(&next)?;
                        return Ok(next);
                    }
                    std::fs::create_dir(&next)?;
                    if self.shadows.contains(&at) {
                        self.shadows.push(next.clone());
                    }
                    at = next;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(at)
    }

    fn may_write(&self, folder: &Path) -> bool {
        let in_volume = || self.mounted.iter().any(|mounted| folder.starts_with(mounted));
        self.shadows.iter().any(|shadow| shadow == folder) || in_volume()
    }

    /// Puts a folder in memory in the place of `folder`, with all that it held.
    fn shadow(&mut self, folder: &Path) -> io::Result<()> {
        let is_root = folder == Path::new("/");
        let place = if is_root { self.staging } else { folder };
        let old = open_path(folder)?;
        mount(c"tmpfs", place, c"tmpfs", MountFlags::NOSUID | MountFlags::NODEV, SHADOW)?;
        for (count, entry) in std::fs::read_dir(reopened(&old))?.enumerate() {
            if count >= MOST_ENTRIES {
                return Err(io::Error::other(format!(
                    "{} has too many entries to add one",
                    folder.display()
                )));
            }
            let entry = entry?;
            let copy = place.join(entry.file_name());
            let kind = entry.file_type()?;
            if kind.is_symlink() {
                std::os::unix::fs::symlink(std::fs::read_link(entry.path())?, copy)?;
                continue;
            }
            match kind.is_dir() {
                true => std::fs::create_dir(&copy)?,
                false => drop(std::fs::File::create(&copy)?),
            }
            // What we may not even see stays an empty entry.
            match mount_bind_recursive(entry.path(), &copy) {
                Ok(()) | Err(rustix::io::Errno::ACCESS | rustix::io::Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if is_root {
            // Sources are still mounted from there.
            let old_root = place.join(OLD_ROOT);
            std::fs::create_dir(&old_root)?;
            rustix::process::pivot_root(place, &old_root)?;
            std::env::set_current_dir("/")?;
            self.has_old_root = true;
        }
        self.shadows.push(folder.to_owned());
        Ok(())
    }
}

/// `path` without `.` and `..`; its links are resolved one by one while it is walked.
fn normal(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_made_plain() {
        assert_eq!(normal(Path::new("/etc/../run/./x")), Path::new("/run/x"));
        assert_eq!(normal(Path::new("/../..")), Path::new("/"));
    }
}
