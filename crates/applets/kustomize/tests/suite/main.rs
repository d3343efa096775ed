//! The doors with real programs and servers of this machine: git over file:// and HTTP on loopback, helm and functions
//! played by scripts; and the answers of `explain` and `build --validate`.

mod builds;
mod explain;
mod functions;
mod git;
mod helm;
mod http;
mod localize;
mod oracle;
mod packages;

use std::path::{Path, PathBuf};
use std::time::Duration;

use gantry_applet_kustomize::doors::{Cache, Fetcher, Processes};
use gantry_kustomize::remote::Repository;
use gantry_kustomize::{Build, Disk, Doors, Error, Options, Source, build_with};

pub(crate) const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\n";

/// A folder of files, and a cache beside them.
pub(crate) struct Project {
    pub(crate) folder: tempfile::TempDir,
}

impl Project {
    pub(crate) fn new(files: &[(&str, &str)]) -> Project {
        let project = Project { folder: tempfile::tempdir().unwrap() };
        files.iter().for_each(|(path, text)| project.write(path, text));
        project
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        std::fs::canonicalize(self.folder.path()).unwrap().join(below)
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub(crate) fn script(&self, path: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt;
        self.write(path, text);
        std::fs::set_permissions(self.path(path), std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub(crate) fn fetcher(&self, offline: bool) -> Fetcher {
        Fetcher::new(Cache::at(self.path("cache")), offline, None).unwrap()
    }

    pub(crate) fn locked(&self) -> Fetcher {
        Fetcher::new(Cache::at(self.path("cache")), false, Some(&self.path("remote.lock"))).unwrap()
    }

    /// Builds the folder `app`.
    pub(crate) fn build(&self, fetcher: &Fetcher, options: &Options) -> Result<Build, Error> {
        built(fetcher, Source::Directory(&self.path("app")), options)
    }

    /// Builds what needs nothing remote.
    pub(crate) fn run(&self, options: &Options) -> Result<Build, Error> {
        self.build(&self.fetcher(true), options)
    }
}

pub(crate) fn built(fetcher: &Fetcher, source: Source<'_>, options: &Options) -> Result<Build, Error> {
    let processes = Processes::new(Duration::from_secs(60));
    build_with(&Disk, Doors { remote: fetcher, programs: &processes }, source, options)
}

pub(crate) fn built_repository(fetcher: &Fetcher, address: &str) -> Result<Build, Error> {
    let repository = Repository::parse(address).unwrap();
    built(fetcher, Source::Repository(&repository), &Options::default())
}

/// Runs git as nobody in particular.
pub(crate) fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = std::process::Command::new("git")
        .args(["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "init.defaultBranch=main"])
        .args(arguments)
        .current_dir(folder)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .output()
        .unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Whether git is here; says so where it is not.
pub(crate) fn has_git() -> bool {
    let there = std::process::Command::new("git").arg("--version").output().is_ok();
    if !there {
        println!("skipped: git not found");
    }
    there
}
