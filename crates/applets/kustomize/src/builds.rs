//! Builds of one or several folders: side by side in one process, and where their output goes.
//!
//! Invariant: the output is in the order of the arguments, and a stream is written whole or not at all.

use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gantry_kustomize::remote::{Repository, unsupported};
use gantry_kustomize::{
    Build, Disk, Documents, Doors, FileSystem, LoadRestrictor, Options, Order, Source, build_with,
};

use crate::doors::{Fetcher, Processes};
use crate::{validate, write_each, write_out};

/// What all builds of one call share.
pub(crate) struct Builder {
    options: Options,
    pub(crate) fetcher: Fetcher,
    program_time: Duration,
    is_validating: bool,
}

// === impl Builder ===

impl Builder {
    pub(crate) fn new(options: Options, fetcher: Fetcher, program_time: Duration) -> Builder {
        Builder { options, fetcher, program_time, is_validating: false }
    }

    /// Refuses what does not fit its schema.
    pub(crate) fn validating(self) -> Builder {
        Builder { is_validating: true, ..self }
    }

    /// For many builds: files that several of them name are parsed once. One build alone would only pay for it.
    pub(crate) fn shared(options: Options, fetcher: Fetcher, program_time: Duration) -> Builder {
        let options = Options { documents: Some(Arc::new(Documents::default())), ..options };
        Builder::new(options, fetcher, program_time)
    }

    /// What a plain `build` does.
    pub(crate) fn plain(fetcher: Fetcher, program_time: Duration) -> Builder {
        let options =
            Options { load_restrictor: LoadRestrictor::RootOnly, order: Order::Legacy, ..Options::default() };
        Builder::new(options, fetcher, program_time)
    }

    /// `folder` is a path or the address of a folder in a repository.
    pub(crate) fn build(&self, fs: &dyn FileSystem, folder: &str) -> Result<Build, String> {
        if let Some(reason) = unsupported(folder) {
            return Err(reason);
        }
        let processes = Processes::new(self.program_time);
        let doors = Doors { remote: &self.fetcher, programs: &processes };
        let built = match Repository::parse(folder) {
            Ok(repository) => build_with(fs, doors, Source::Repository(&repository), &self.options),
            Err(_) => {
                let dir = std::path::absolute(folder).map_err(|error| format!("'{folder}': {error}"))?;
                build_with(fs, doors, Source::Directory(&dir), &self.options)
            }
        };
        let mut built = built.map_err(|error| error.to_string())?;
        if self.is_validating {
            built.warnings.extend(validate::check(&built)?);
        }
        Ok(built)
    }

    /// One outcome for each folder, in their order; as many at a time as there are cores.
    pub(crate) fn build_all<F: FileSystem + Sync>(
        &self,
        fs: &F,
        folders: &[String],
    ) -> Vec<Result<Build, String>> {
        if let [only] = folders {
            return vec![self.build(fs, only)];
        }
        let outcomes: Vec<Mutex<Result<Build, String>>> =
            folders.iter().map(|_| Mutex::new(Err("it was not built".to_owned()))).collect();
        let next = AtomicUsize::new(0);
        let take = || {
            let index = next.fetch_add(1, Ordering::Relaxed);
            folders.get(index).zip(outcomes.get(index))
        };
        let work = || {
            while let Some((folder, outcome)) = take() {
                *outcome.lock().unwrap_or_else(PoisonError::into_inner) = self.build(fs, folder);
            }
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            for _ in 1..cores.min(folders.len()) {
                scope.spawn(work);
            }
            work();
        });
        outcomes
            .into_iter()
            .map(|outcome| outcome.into_inner().unwrap_or_else(PoisonError::into_inner))
            .collect()
    }
}

/// Builds once and writes.
pub(crate) fn build_once(builder: &Builder, folders: &[String], output: Option<&Path>) -> Result<(), String> {
    let outcomes = builder.build_all(&Disk, folders);
    builder.fetcher.save_lock()?;
    for (folder, outcome) in folders.iter().zip(&outcomes) {
        warn(folders, folder, outcome);
    }
    let builds = all_or_why(folders, outcomes)?;
    match output.filter(|path| path.is_dir()) {
        Some(path) => write_folders(path, folders, &builds),
        None => write_out(output, stream(&builds)),
    }
}

/// Says what a build warns of; with several, which one it is.
fn warn(folders: &[String], folder: &str, outcome: &Result<Build, String>) {
    let Ok(built) = outcome else { return };
    for warning in &built.warnings {
        match folders {
            [_] => eprintln!("{warning}"),
            _ => eprintln!("{folder}: {warning}"),
        }
    }
}

/// All builds, or the message about those that failed, which names each.
pub(crate) fn all_or_why(
    folders: &[String],
    outcomes: Vec<Result<Build, String>>,
) -> Result<Vec<Build>, String> {
    let mut builds = Vec::with_capacity(outcomes.len());
    let mut failures = Vec::new();
    for (folder, outcome) in folders.iter().zip(outcomes) {
        match outcome {
            Ok(built) => builds.push(built),
            Err(message) if folders.len() == 1 => failures.push(message),
            Err(message) => failures.push(format!("{folder}: {message}")),
        }
    }
    if failures.is_empty() { Ok(builds) } else { Err(failures.join("\nError: ")) }
}

/// The objects of all builds as one stream of documents.
pub(crate) fn stream(builds: &[Build]) -> String {
    if let [only] = builds {
        return only.to_yaml();
    }
    let texts: Vec<String> = builds.iter().map(Build::to_yaml).filter(|text| !text.is_empty()).collect();
    texts.join("---\n")
}

/// One file per object: in the folder itself for one build, in a folder of its own for each of several.
fn write_folders(path: &Path, folders: &[String], builds: &[Build]) -> Result<(), String> {
    if let [only] = builds {
        return write_each(path, only);
    }
    for (name, built) in names(folders)?.iter().zip(builds) {
        let own = path.join(name);
        std::fs::create_dir_all(&own).map_err(|error| format!("{}: {error}", own.display()))?;
        write_each(&own, built)?;
    }
    Ok(())
}

/// What sets the folders apart: their paths from the folder above all of them; of an address what can be a path.
fn names(folders: &[String]) -> Result<Vec<PathBuf>, String> {
    let mut paths = Vec::with_capacity(folders.len());
    for folder in folders {
        let path = if Repository::parse(folder).is_ok() {
            let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
            std::path::absolute(folder.chars().map(plain).collect::<String>())
        } else {
            std::fs::canonicalize(folder)
        };
        let path = path.map_err(|error| format!("'{folder}': {error}"))?;
        if paths.contains(&path) {
            return Err(format!(
                "{folder}: this folder is named twice, and its files would be written twice"
            ));
        }
        paths.push(path);
    }
    let parents: Vec<Vec<Component<'_>>> =
        paths.iter().map(|path| path.parent().unwrap_or(path).components().collect()).collect();
    let shared = |depth: usize| {
        let first = parents.first().and_then(|parent| parent.get(depth));
        first.is_some() && parents.iter().all(|parent| parent.get(depth) == first)
    };
    let depth = (0..).take_while(|depth| shared(*depth)).count();
    Ok(paths.iter().map(|path| path.components().skip(depth).collect()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_told_apart_by_their_paths() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| {
            let path = root.path().join(name);
            std::fs::create_dir_all(&path).unwrap();
            path.display().to_string()
        };
        let found = |folders: &[&str]| {
            let folders: Vec<String> = folders.iter().map(|name| path(name)).collect();
            names(&folders)
        };
        assert_eq!(found(&["overlays/dev", "overlays/prod"]).unwrap(), [Path::new("dev"), Path::new("prod")]);
        assert_eq!(found(&["a/dev", "b/dev"]).unwrap(), [Path::new("a/dev"), Path::new("b/dev")]);
        assert_eq!(found(&["x", "x/over"]).unwrap(), [Path::new("x"), Path::new("x/over")]);
        assert!(found(&["a/dev", "a/../a/dev"]).unwrap_err().contains("named twice"));
    }
}
