//! Writes a volume's files so that a reader sees the old set or the new one, never a mixture.
//!
//! Layout, as the kubelet's: every file lives in a timestamped directory, `..data` is a symlink to the current one
//! and is swapped by rename, and each visible name is a symlink through `..data`.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

/// The files of a volume: relative path → content and permission bits.
pub(crate) type Payload = BTreeMap<String, File>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    pub content: Vec<u8>,
    pub mode: u32,
}

const DATA: &str = "..data";
const NEXT: &str = "..data_tmp";

/// Makes `dir` hold exactly `payload`; `stamp` names the new directory and must differ between calls.
/// Returns whether anything changed.
pub(crate) fn write(dir: &Path, payload: &Payload, stamp: &str) -> io::Result<bool> {
    for path in payload.keys() {
        check(path)?;
    }
    std::fs::create_dir_all(dir)?;
    let current = std::fs::read_link(dir.join(DATA)).ok();
    if let Some(current) = &current
        && holds(&dir.join(current), payload)
    {
        return Ok(false);
    }

    let version = format!("..{stamp}");
    let into = dir.join(&version);
    std::fs::DirBuilder::new().mode(0o755).create(&into)?;
    for (path, file) in payload {
        let target = into.join(path);
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let mut options = std::fs::OpenOptions::new();
        let mut handle = options.write(true).create_new(true).mode(file.mode).open(&target)?;
        io::Write::write_all(&mut handle, &file.content)?;
        handle.set_permissions(std::fs::Permissions::from_mode(file.mode))?;
    }

    let next = dir.join(NEXT);
    match std::fs::remove_file(&next) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    symlink(&version, &next)?;
    std::fs::rename(&next, dir.join(DATA))?;

    let visible: BTreeSet<&str> = payload.keys().filter_map(|p| p.split('/').next()).collect();
    for name in &visible {
        let link = dir.join(name);
        if std::fs::symlink_metadata(&link).is_err() {
            symlink(Path::new(DATA).join(name), link)?;
        }
    }
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("..") {
            let old = name != DATA && *name != version && entry.file_type()?.is_dir();
            if old {
                std::fs::remove_dir_all(entry.path())?;
            }
        } else if !visible.contains(&*name) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(true)
}

/// A path of a payload is relative, has no `..`, and does not hide among our own names.
fn check(path: &str) -> io::Result<()> {
    let normal = Path::new(path).components().all(|c| matches!(c, Component::Normal(_)));
    if path.is_empty() || !normal || path.starts_with("..") {
        let message =
            format!("volume path \"{path}\" must be relative and must not contain or start with '..'");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    Ok(())
}

fn holds(version: &Path, payload: &Payload) -> bool {
    let mut found = 0;
    let mut pending: Vec<PathBuf> = vec![version.to_path_buf()];
    while let Some(dir) = pending.pop() {
        let Ok(entries) = std::fs::read_dir(&dir) else { return false };
        for entry in entries {
            let Ok(entry) = entry else { return false };
            let path = entry.path();
            if path.is_dir() {
                pending.push(path);
                continue;
            }
            let relative = path.strip_prefix(version).ok().and_then(Path::to_str);
            let Some(file) = relative.and_then(|r| payload.get(r)) else { return false };
            let same_mode =
                entry.metadata().is_ok_and(|m| m.permissions().mode() & 0o777 == file.mode & 0o777);
            if !same_mode || std::fs::read(&path).ok().as_deref() != Some(&file.content) {
                return false;
            }
            found += 1;
        }
    }
    found == payload.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(files: &[(&str, &str)]) -> Payload {
        files
            .iter()
            .map(|(p, c)| (p.to_string(), File { content: c.as_bytes().to_vec(), mode: 0o644 }))
            .collect()
    }

    #[test]
    fn swaps_the_whole_set() {
        let dir = tempfile::tempdir().unwrap();
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).ok();
        assert!(write(dir.path(), &payload(&[("a", "1"), ("sub/b", "2")]), "v1").unwrap());
        assert_eq!((read("a").as_deref(), read("sub/b").as_deref()), (Some("1"), Some("2")));
        assert!(!write(dir.path(), &payload(&[("a", "1"), ("sub/b", "2")]), "v2").unwrap());

        assert!(write(dir.path(), &payload(&[("a", "3"), ("c", "4")]), "v3").unwrap());
        assert_eq!((read("a").as_deref(), read("c").as_deref(), read("sub/b")), (Some("3"), Some("4"), None));
        let mut names: Vec<_> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["..data", "..v3", "a", "c"]);
    }

    #[test]
    fn a_changed_mode_is_a_change() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = payload(&[("a", "1")]);
        write(dir.path(), &files, "v1").unwrap();
        files.get_mut("a").unwrap().mode = 0o400;
        assert!(write(dir.path(), &files, "v2").unwrap());
        let mode = std::fs::metadata(dir.path().join("a")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o400);
    }

    #[test]
    fn paths_that_leave_the_volume_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["", "/etc/x", "../x", "a/../b", "..data", "..x/y"] {
            assert!(write(dir.path(), &payload(&[(path, "")]), "v").is_err(), "{path}");
        }
    }
}
