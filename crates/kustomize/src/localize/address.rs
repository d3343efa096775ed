//! Where in the copy a thing from another machine is kept: `localized-files/<host>/<path>[/<ref>]`.

use std::path::{Path, PathBuf};

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::fs::normal;
use crate::remote::Repository;

/// The folder, beside each kustomization that names something remote.
pub(super) const FOLDER: &str = "localized-files";
/// Below it: repositories of this machine, whose paths must not pass for hosts.
const FILE_SCHEME_FOLDER: &str = "file-schemed";
const SCHEMES: [&str; 3] = ["https://", "http://", "ssh://"];

/// What may not stand in the path of a web address as it is. A percent sign stays: what is escaped is so already.
const UNSAFE: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// The place of the file at an http or https address. User, port and query are not part of it.
pub(super) fn of_file(address: &str) -> PathBuf {
    let (_, rest) = address.split_once("://").unwrap_or(("", address));
    let location = rest.split(['?', '#']).next().unwrap_or(rest);
    let (host, path) = location.find('/').map_or((location, ""), |slash| location.split_at(slash));
    let path = utf8_percent_encode(path, UNSAFE).to_string();
    Path::new(FOLDER).join(host_name(host)).join(inside(&path))
}

/// The place of a folder in a repository; `folder` is from the repository's root.
pub(super) fn of_root(repository: &Repository, folder: &Path) -> PathBuf {
    let host = repository.host();
    let place = if host.starts_with("file://") {
        FILE_SCHEME_FOLDER
    } else {
        let rest = SCHEMES.iter().find_map(|scheme| host.strip_prefix(scheme)).unwrap_or(host);
        host_name(rest.trim_end_matches(['/', ':']))
    };
    let path = repository.path();
    let path = path.strip_suffix(".git").unwrap_or(path);
    Path::new(FOLDER).join(place).join(inside(path)).join(inside(repository.reference())).join(folder)
}

/// Without user and port.
fn host_name(host: &str) -> &str {
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    if let Some((address, _)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address;
    }
    host.split_once(':').map_or(host, |(name, _)| name)
}

/// A path that stays where it is put, whatever dots are in it.
fn inside(path: &str) -> PathBuf {
    normal(&Path::new("/").join(path.trim_start_matches('/')))
        .strip_prefix("/")
        .map(|path| path.components().filter(|part| part.as_os_str() != "..").collect())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_kept_by_host_and_path() {
        for (address, place) in [
            ("https://example.com/a/b.yaml", "example.com/a/b.yaml"),
            ("https://me:word@example.com:8443/a.yaml?token=x#y", "example.com/a.yaml"),
            ("http://[::1]:80/a.yaml", "::1/a.yaml"),
            ("https://example.com/a/../../b/./c%2Fd.yaml", "example.com/b/c%2Fd.yaml"),
            ("https://example.com/with space.yaml", "example.com/with%20space.yaml"),
            ("https://example.com/aux/.../.file", "example.com/aux/.../.file"),
        ] {
            assert_eq!(of_file(address), Path::new(FOLDER).join(place), "{address}");
        }
    }

    #[test]
    fn a_root_is_kept_by_host_repository_and_ref() {
        for (address, folder, place) in [
            ("https://github.com/org/repo?ref=v1", "", "github.com/org/repo/v1"),
            ("https://github.com/org/repo.git//a/b?ref=x/y", "a/b", "github.com/org/repo/x/y/a/b"),
            ("git@gitlab.com:org/repo.git?ref=v1", "", "gitlab.com/org/repo/v1"),
            ("ssh://git@example.com:22/org/repo.git?ref=v1", "", "example.com/org/repo/v1"),
            ("file:///srv/repo.git//a?ref=v1", "a", "file-schemed/srv/repo/v1/a"),
        ] {
            let repository = Repository::parse(address).unwrap();
            assert_eq!(of_root(&repository, Path::new(folder)), Path::new(FOLDER).join(place), "{address}");
        }
    }
}
