//! Whole builds and edits over files in memory, and the same builds by the real kustomize where kubectl is there.

mod builds;
mod edits;
mod errors;
mod explain;
mod hostile;
mod oracle;
mod properties;
mod validate;

use std::path::Path;

use gantry_kustomize::{Build, Error, Memory, Options, build};

/// The build of `/app/over` (or `/app`, when that is where the kustomization is) from `path` → text.
pub(crate) fn run(files: &[(&str, &str)]) -> Result<Build, Error> {
    let mut fs = Memory::default();
    for (path, text) in files {
        fs.insert(format!("/app/{path}"), *text);
    }
    let overlay = files.iter().any(|(path, _)| path.starts_with("over/"));
    build(&fs, Path::new(if overlay { "/app/over" } else { "/app" }), &Options::default())
}

#[track_caller]
pub(crate) fn built(files: &[(&str, &str)]) -> String {
    run(files).unwrap_or_else(|error| panic!("{error}")).to_yaml()
}
