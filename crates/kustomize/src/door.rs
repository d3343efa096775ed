//! What a build asks of the world beyond its files. The engine only asks: an applet opens these doors.

use std::path::PathBuf;

use crate::remote::Repository;

/// The way to files of other machines. Whoever is asked twice for the same thing within a build answers the same.
pub trait Remote {
    /// The absolute path of a checked-out tree of the repository.
    fn tree(&self, repository: &Repository) -> Result<PathBuf, FetchError>;

    /// The absolute path of a file with what is at an http or https address.
    fn file(&self, address: &str) -> Result<PathBuf, FetchError>;
}

/// Why something was not fetched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The server answered, but with no file.
    #[error("HTTP Error: status code {0}")]
    Status(u16),
    #[error("{0}")]
    Failed(String),
}

/// The way to other programs.
pub trait Programs {
    /// Runs a program to its end, within bounds of time and output. An error when it could not be run or kept to.
    fn run(&self, call: &Call) -> Result<Finished, String>;

    /// The path of a new file with this content; it is gone when the build is over.
    fn scratch_file(&self, name: &str, content: &[u8]) -> Result<PathBuf, String>;

    /// A folder of the build's own; it is gone when the build is over.
    fn scratch(&self) -> Result<PathBuf, String>;

    /// The program that runs containers with docker's arguments.
    fn container_engine(&self) -> Result<String, String>;

    /// `uid:gid` of whoever builds.
    fn user(&self) -> String;
}

/// A program to run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// A path, from `directory`, or a name that is looked up.
    pub program: String,
    pub arguments: Vec<String>,
    /// Where it runs; where the build was started when there is none.
    pub directory: Option<PathBuf>,
    /// Set beside what the build's own environment has.
    pub environment: Vec<(String, String)>,
    pub input: Vec<u8>,
}

/// What a program left behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finished {
    pub success: bool,
    /// How it ended, as in `exit status 1`.
    pub status: String,
    pub output: Vec<u8>,
    /// What it wrote to its error stream.
    pub errors: String,
}

/// The doors of a build.
#[derive(Clone, Copy)]
pub struct Doors<'a> {
    pub remote: &'a dyn Remote,
    pub programs: &'a dyn Programs,
}

/// No way out: everything remote and every program is refused.
#[derive(Clone, Copy, Debug, Default)]
pub struct Closed;

const ONLY_BUILD: &str =
    "only `gantry kustomize build` does that; write its output to a file and name the file";

impl Remote for Closed {
    fn tree(&self, repository: &Repository) -> Result<PathBuf, FetchError> {
        Err(FetchError::Failed(format!(
            "remote base '{}' is not fetched here: {ONLY_BUILD}",
            repository.shown()
        )))
    }

    fn file(&self, address: &str) -> Result<PathBuf, FetchError> {
        Err(FetchError::Failed(format!("remote file '{address}' is not fetched here: {ONLY_BUILD}")))
    }
}

impl Programs for Closed {
    fn run(&self, call: &Call) -> Result<Finished, String> {
        Err(format!("'{}' is not run here: {ONLY_BUILD}", call.program))
    }

    fn scratch_file(&self, name: &str, _content: &[u8]) -> Result<PathBuf, String> {
        Err(format!("'{name}' is not written here: {ONLY_BUILD}"))
    }

    fn scratch(&self) -> Result<PathBuf, String> {
        Err(format!("no folder is made here: {ONLY_BUILD}"))
    }

    fn container_engine(&self) -> Result<String, String> {
        Err(format!("containers are not run here: {ONLY_BUILD}"))
    }

    fn user(&self) -> String {
        String::new()
    }
}

impl Doors<'static> {
    /// Doors that lead nowhere.
    pub fn closed() -> Doors<'static> {
        Doors { remote: &Closed, programs: &Closed }
    }
}
