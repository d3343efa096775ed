//! Reads files for one directory of a build: keeps to its root, forbids cycles, remembers every file's name.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use gantry_yaml::{FileId, Span};

use crate::error::{Error, Result};
use crate::fs::{FileSystem, normal};

/// What files a kustomization may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LoadRestrictor {
    /// Only files in or below its own directory.
    #[default]
    RootOnly,
    None,
}

/// The files of a build by [`FileId`], as [`Span::file`] refers to them.
#[derive(Debug, Default, Clone)]
pub struct Files {
    paths: Vec<PathBuf>,
}

impl Files {
    /// The path of a file; `None` for an id that is not of this build.
    pub fn path(&self, file: FileId) -> Option<&Path> {
        self.paths.get(usize::from(file.0)).map(PathBuf::as_path)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Path> {
        self.paths.iter().map(PathBuf::as_path)
    }

    fn add(&mut self, path: PathBuf) -> FileId {
        // Beyond the last id, files share it: places get vague, nothing breaks.
        let last = usize::from(u16::MAX);
        if self.paths.len() <= last {
            self.paths.push(path);
        }
        FileId((self.paths.len() - 1).min(last) as u16)
    }
}

/// The way to the files of one directory.
#[derive(Clone)]
pub(crate) struct Loader<'a> {
    fs: &'a dyn FileSystem,
    pub(crate) root: PathBuf,
    restrictor: LoadRestrictor,
    /// The directories whose kustomizations led here, outermost first, this one last.
    ancestors: Vec<PathBuf>,
    files: Rc<RefCell<Files>>,
}

const MAX_DEPTH: usize = 64;

impl<'a> Loader<'a> {
    pub(crate) fn new(
        fs: &'a dyn FileSystem,
        dir: &Path,
        restrictor: LoadRestrictor,
        files: Rc<RefCell<Files>>,
    ) -> Result<Loader<'a>> {
        let shown = dir.display();
        let root = fs.canonical(dir).map_err(|error| {
            Error::new(format!("'{shown}' doesn't exist: must build at directory: {error}"))
        })?;
        if !fs.is_dir(&root) {
            return Err(Error::new(format!("must build at directory: '{shown}': file is not directory")));
        }
        Ok(Loader { fs, ancestors: vec![root.clone()], root, restrictor, files })
    }

    /// A loader for another directory that this one's kustomization names.
    pub(crate) fn enter(&self, path: &str) -> Result<Loader<'a>> {
        if path.is_empty() {
            return Err(Error::new("unable to load root, path is empty"));
        }
        if is_remote(path) {
            return Err(Error::new(format!(
                "remote base '{path}' is not supported: fetch it and name the directory"
            )));
        }
        if Path::new(path).is_absolute() {
            return Err(Error::new(format!("new root '{path}' cannot be absolute")));
        }
        let wanted = normal(&self.root.join(path));
        let shown = wanted.display();
        let root = self.fs.canonical(&wanted).map_err(|error| {
            Error::new(format!(
                "must build at directory: not a valid directory: evalsymlink failure on '{shown}' : {}",
                not_there(&wanted, &error)
            ))
        })?;
        if !self.fs.is_dir(&root) {
            return Err(Error::new(format!("must build at directory: '{shown}': file is not directory")));
        }
        if let Some(ancestor) = self.ancestors.iter().find(|ancestor| ancestor.starts_with(&root)) {
            return Err(Error::new(format!(
                "cycle detected: candidate root '{}' contains visited root '{}'",
                root.display(),
                ancestor.display()
            )));
        }
        if self.ancestors.len() >= MAX_DEPTH {
            return Err(Error::new(format!("kustomizations nest deeper than {MAX_DEPTH} directories")));
        }
        let mut inner = self.clone();
        inner.ancestors.push(root.clone());
        inner.root = root;
        Ok(inner)
    }

    /// The file at a path that this directory's kustomization names.
    pub(crate) fn load(&self, path: &str) -> Result<(FileId, Vec<u8>)> {
        if is_http(path) {
            return Err(Error::new(format!(
                "remote file '{path}' is not supported: fetch it and name the file"
            )));
        }
        let wanted = normal(&self.root.join(path));
        let shown = wanted.display();
        let found = self.fs.canonical(&wanted).map_err(|error| {
            Error::new(format!("evalsymlink failure on '{shown}' : {}", not_there(&wanted, &error)))
        })?;
        if self.fs.is_dir(&found) {
            return Err(Error::new(format!("read {shown}: is a directory")));
        }
        if self.restrictor == LoadRestrictor::RootOnly && !found.starts_with(&self.root) {
            return Err(Error::new(format!(
                "security; file '{}' is not in or below '{}'",
                found.display(),
                self.root.display()
            )));
        }
        let bytes = self.fs.read(&found).map_err(|error| Error::new(format!("'{shown}': {error}")))?;
        Ok((self.files.borrow_mut().add(found), bytes))
    }

    pub(crate) fn load_text(&self, path: &str) -> Result<(FileId, String)> {
        let (file, bytes) = self.load(path)?;
        let text = String::from_utf8(bytes).map_err(|_| Error::new(format!("'{path}' is not UTF-8 text")))?;
        Ok((file, text))
    }

    /// Whether a file of this name is directly in the root.
    pub(crate) fn has(&self, name: &str) -> bool {
        let path = self.root.join(name);
        self.fs.canonical(&path).is_ok() && !self.fs.is_dir(&path)
    }

    /// `file:line:col` and the line itself for a place; `None` for a place the program made.
    pub(crate) fn describe(&self, span: Span) -> Option<String> {
        if span.is_none() {
            return None;
        }
        let path = self.files.borrow().path(span.file())?.to_owned();
        let head = format!("{}:{}:{}", path.display(), span.line(), span.column());
        let text = self.fs.read(&path).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let line = text.as_deref().and_then(|text| text.lines().nth(span.line() - 1));
        Some(match line {
            Some(line) => {
                let line: String = line.chars().take(160).collect();
                format!("{head}\n    {} | {line}", span.line())
            }
            None => head,
        })
    }

    /// Gives an error with a span the place it stands for.
    pub(crate) fn locate(&self, error: Error) -> Error {
        if error.has_place() {
            return error;
        }
        match self.describe(error.span) {
            Some(place) => error.with_place(place),
            None => error,
        }
    }
}

fn not_there(path: &Path, error: &std::io::Error) -> String {
    if error.kind() == std::io::ErrorKind::NotFound {
        format!("'{}' doesn't exist: no such file or directory", path.display())
    } else {
        error.to_string()
    }
}

fn is_http(path: &str) -> bool {
    path.starts_with("http://") || path.starts_with("https://")
}

fn is_remote(path: &str) -> bool {
    is_http(path)
        || ["git::", "ssh://", "git@", "file://", "github.com/", "github.com:", "gh:"]
            .iter()
            .any(|prefix| path.starts_with(prefix))
}
