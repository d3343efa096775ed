//! Repositories through the `git` program: one commit of one ref, checked out without its history.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use gantry_kustomize::remote::without_credentials;

use super::cache::is_commit;
use super::process::{self, Bounds, Group};

/// Git says little; a listing of very many refs is no answer to a question about one.
const MOST_OUTPUT: usize = 4 << 20;

/// A larger tree does not get into the cache.
const MOST_FILES: usize = 500_000;
const MOST_BYTES: u64 = 4 << 30;

/// What a hook or a shell around the build may have set, and what would then be meant instead of the new tree.
const FOREIGN: [&str; 8] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
];

/// The same bytes whatever the user's settings, and no code of the repository's.
const SETTINGS: [&str; 8] = [
    "-c",
    "core.autocrlf=false",
    "-c",
    "core.hooksPath=/dev/null",
    "-c",
    "core.fsmonitor=false",
    "-c",
    "protocol.ext.allow=never",
];

/// A repository to fetch from.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    pub(super) url: String,
    pub(super) timeout: Duration,
}

impl Origin {
    /// The commit that a ref has now; `None` when the repository does not list it.
    pub(super) fn resolve(&self, reference: &str) -> Result<Option<String>, String> {
        let wanted = if reference.is_empty() { "HEAD" } else { reference };
        let listing = self.git(None, &["ls-remote", "--", &self.url, wanted, &format!("{wanted}^{{}}")])?;
        let refs: Vec<(&str, &str)> = listing.lines().filter_map(|line| line.split_once('\t')).collect();
        // Git's own order, a tag's commit before the tag itself.
        let names = ["", "refs/", "refs/tags/", "refs/heads/"].map(|prefix| format!("{prefix}{wanted}"));
        let found = names.iter().find_map(|name| {
            let peeled = format!("{name}^{{}}");
            let get = |wanted: &str| refs.iter().find(|(_, have)| *have == wanted).map(|(commit, _)| *commit);
            get(&peeled).or_else(|| get(name))
        });
        Ok(found.filter(|commit| is_commit(commit)).map(str::to_owned))
    }

    /// Puts the tree of a ref or commit into an empty folder; its commit.
    pub(super) fn check_out(
        &self,
        reference: &str,
        submodules: bool,
        folder: &Path,
    ) -> Result<String, String> {
        let wanted = if reference.is_empty() { "HEAD" } else { reference };
        self.git(Some(folder), &["init", "-q"])?;
        self.git(Some(folder), &["remote", "add", "origin", &self.url])?;
        self.git(Some(folder), &["fetch", "-q", "--depth=1", "origin", wanted])?;
        self.git(Some(folder), &["-c", "advice.detachedHead=false", "checkout", "-q", "FETCH_HEAD"])?;
        let commit = self.git(Some(folder), &["rev-parse", "HEAD"])?.trim().to_owned();
        if !is_commit(&commit) {
            return Err(format!("git names the commit '{commit}', which is no commit id"));
        }
        if submodules {
            self.git(Some(folder), &["submodule", "-q", "update", "--init", "--recursive"])?;
        }
        let removed = std::fs::remove_dir_all(folder.join(".git"));
        removed
            .and_then(|()| check_size(folder))
            .map_err(|error| format!("{}: {error}", folder.display()))?;
        Ok(commit)
    }

    fn git(&self, folder: Option<&Path>, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new("git");
        command.args(SETTINGS).args(arguments);
        for name in FOREIGN {
            command.env_remove(name);
        }
        // Nobody would see the question; ssh and the helpers of credentials may still ask theirs.
        command.env("GIT_TERMINAL_PROMPT", "0").env("LC_ALL", "C");
        command.current_dir(folder.map_or_else(std::env::temp_dir, PathBuf::from));
        let bounds = Bounds { time: self.timeout, output_bytes: MOST_OUTPUT };
        let shown = without_credentials(&format!("git {}", arguments.join(" "))).into_owned();
        let finished = process::run(command, Vec::new(), bounds, Group::Ours).map_err(|error| {
            let hint = if error.contains("timeout") { "; the address may say ?timeout=5m" } else { "" };
            format!("failed to run '{shown}': {error}{hint}")
        })?;
        if finished.success {
            return Ok(String::from_utf8_lossy(&finished.output).into_owned());
        }
        let said = without_credentials(finished.errors.trim()).into_owned();
        Err(format!("failed to run '{shown}': {}: {said}", finished.status))
    }
}

fn check_size(tree: &Path) -> std::io::Result<()> {
    let (mut files, mut bytes) = (0, 0);
    let mut folders = vec![tree.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            // Of a link this is the link itself.
            let about = entry.metadata()?;
            if about.is_dir() {
                folders.push(entry.path());
                continue;
            }
            files += 1;
            bytes += about.len();
            if files > MOST_FILES || bytes > MOST_BYTES {
                return Err(std::io::Error::other(format!(
                    "the repository has more than {MOST_FILES} files or {MOST_BYTES} bytes"
                )));
            }
        }
    }
    Ok(())
}
