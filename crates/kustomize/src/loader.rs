//! Reads files for one directory of a build: keeps to its root, forbids cycles, remembers every file's name.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use gantry_yaml::{FileId, Span};

use crate::door::{Doors, FetchError};
use crate::error::{Error, Result};
use crate::fs::{FileSystem, normal};
use crate::remote::{Repository, is_http, unsupported, without_credentials};

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
    /// What a person calls a fetched file, or a folder of fetched files.
    addresses: Vec<(PathBuf, String)>,
}

impl Files {
    /// The path of a file; `None` for an id that is not of this build.
    pub fn path(&self, file: FileId) -> Option<&Path> {
        self.paths.get(usize::from(file.0)).map(PathBuf::as_path)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Path> {
        self.paths.iter().map(PathBuf::as_path)
    }

    /// From now on what is at or below `path` is shown by its address.
    fn name(&mut self, path: PathBuf, address: String) {
        if !self.addresses.iter().any(|(known, _)| *known == path) {
            self.addresses.push((path, address));
        }
    }

    /// What a person calls a file of this build: its path, or the address it was fetched from.
    pub fn shown(&self, path: &Path) -> String {
        let named =
            self.addresses.iter().find_map(|(root, address)| Some((address, path.strip_prefix(root).ok()?)));
        match named {
            Some((address, below)) if below.as_os_str().is_empty() => address.clone(),
            Some((address, below)) => format!("{address}//{}", below.display()),
            None => path.display().to_string(),
        }
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
    pub(crate) doors: Doors<'a>,
    pub(crate) root: PathBuf,
    restrictor: LoadRestrictor,
    /// The directories whose kustomizations led here, outermost first, this one last.
    ancestors: Vec<PathBuf>,
    /// The addresses of repositories that led here.
    repositories: Vec<String>,
    /// The tree of the repository that this directory is in.
    pub(crate) tree: Option<PathBuf>,
    files: Rc<RefCell<Files>>,
}

const MAX_DEPTH: usize = 64;

impl<'a> Loader<'a> {
    pub(crate) fn new(
        fs: &'a dyn FileSystem,
        doors: Doors<'a>,
        dir: &Path,
        restrictor: LoadRestrictor,
        files: Rc<RefCell<Files>>,
    ) -> Result<Loader<'a>> {
        let shown = dir.display();
        let root = fs.canonical(dir).map_err(|error| {
            Error::new(format!(
                "must build at directory: not a valid directory: evalsymlink failure on '{shown}' : {}",
                what_is_missing(fs, dir, &error)
            ))
        })?;
        if !fs.is_dir(&root) {
            return Err(Error::new(format!("must build at directory: '{shown}': file is not directory")));
        }
        Ok(Loader {
            fs,
            doors,
            ancestors: vec![root.clone()],
            root,
            restrictor,
            repositories: Vec::new(),
            tree: None,
            files,
        })
    }

    /// A loader for a folder of a repository, with nothing around it.
    pub(crate) fn new_remote(
        fs: &'a dyn FileSystem,
        doors: Doors<'a>,
        repository: &Repository,
        files: Rc<RefCell<Files>>,
    ) -> Result<Loader<'a>> {
        let nowhere = Loader {
            fs,
            doors,
            root: PathBuf::new(),
            restrictor: LoadRestrictor::RootOnly,
            ancestors: Vec::new(),
            repositories: Vec::new(),
            tree: None,
            files,
        };
        nowhere.enter_repository(repository)
    }

    /// A loader for another directory that this one's kustomization names.
    pub(crate) fn enter(&self, path: &str) -> Result<Loader<'a>> {
        if path.is_empty() {
            return Err(Error::new("unable to load root, path is empty"));
        }
        if let Some(reason) = unsupported(path) {
            return Err(Error::new(reason));
        }
        match Repository::parse(path) {
            Ok(repository) => return self.enter_repository(&repository),
            Err(reason) if is_http(path) => {
                return Err(Error::new(format!("'{path}' is no repository: {reason}")));
            }
            Err(_) => {}
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
        if let Some(tree) = self.tree.as_ref().filter(|tree| !root.starts_with(tree)) {
            return Err(Error::new(format!(
                "security; bases in kustomizations found in cloned git repos must be within the repo, but base '{}' is outside '{}'",
                root.display(),
                tree.display()
            )));
        }
        if let Some(ancestor) = self.ancestors.iter().find(|ancestor| ancestor.starts_with(&root)) {
            return Err(Error::new(format!(
                "cycle detected: candidate root '{}' contains visited root '{}'",
                root.display(),
                ancestor.display()
            )));
        }
        self.below(root)
    }

    fn below(&self, root: PathBuf) -> Result<Loader<'a>> {
        if self.ancestors.len() >= MAX_DEPTH {
            return Err(Error::new(format!("kustomizations nest deeper than {MAX_DEPTH} directories")));
        }
        let mut inner = self.clone();
        inner.ancestors.push(root.clone());
        inner.root = root;
        Ok(inner)
    }

    fn enter_repository(&self, repository: &Repository) -> Result<Loader<'a>> {
        if let Some(before) = self.repositories.iter().find(|before| before.starts_with(repository.raw())) {
            return Err(Error::new(format!(
                "cycle detected: URI '{}' referenced by previous URI '{before}'",
                repository.raw()
            )));
        }
        let tree = self.doors.remote.tree(repository).map_err(|error| Error::new(error.to_string()))?;
        let tree =
            self.fs.canonical(&tree).map_err(|error| Error::new(format!("'{}': {error}", tree.display())))?;
        self.files.borrow_mut().name(tree.clone(), repository.shown());
        let folder = repository.root();
        let shown = format!("{}//{folder}", repository.shown());
        let root = self
            .fs
            .canonical(&normal(&tree.join(folder)))
            .map_err(|error| Error::new(format!("'{shown}' doesn't exist: {}", reason(&error))))?;
        if !self.fs.is_dir(&root) {
            return Err(Error::new(format!("'{shown}' refers to a file; expecting directory")));
        }
        if !root.starts_with(&tree) {
            return Err(Error::new(format!("'{shown}' refers to directory outside of the repository")));
        }
        let mut inner = self.below(root)?;
        // What was fetched may not read this machine's files, whatever the build's own files may.
        inner.restrictor = LoadRestrictor::RootOnly;
        inner.repositories.push(repository.raw().to_owned());
        inner.tree = Some(tree);
        Ok(inner)
    }

    /// The file at a path that this directory's kustomization names.
    pub(crate) fn load(&self, path: &str) -> Result<(FileId, Vec<u8>)> {
        if is_http(path) {
            return self.load_address(path);
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

    fn load_address(&self, address: &str) -> Result<(FileId, Vec<u8>)> {
        let found = self.doors.remote.file(address).map_err(|error| {
            let mut refused = Error::new(error.to_string());
            refused.answered = matches!(error, FetchError::Status(_));
            refused
        })?;
        let bytes = self.fs.read(&found).map_err(|error| Error::new(format!("'{address}': {error}")))?;
        let mut files = self.files.borrow_mut();
        files.name(found.clone(), without_credentials(address).into_owned());
        Ok((files.add(found), bytes))
    }

    /// What a kustomization names, without the rule that it must be below the root.
    pub(crate) fn read_anywhere(&self, path: &Path) -> Result<Vec<u8>> {
        self.fs.read(path).map_err(|error| Error::new(format!("'{}': {}", path.display(), reason(&error))))
    }

    pub(crate) fn is_dir(&self, path: &Path) -> bool {
        self.fs.is_dir(path)
    }

    pub(crate) fn load_text(&self, path: &str) -> Result<(FileId, String)> {
        let (file, bytes) = self.load(path)?;
        let text = String::from_utf8(bytes).map_err(|_| Error::new(format!("'{path}' is not UTF-8 text")))?;
        Ok((file, text))
    }

    /// Where a file that was loaded is.
    pub(crate) fn path_of(&self, file: FileId) -> PathBuf {
        self.files.borrow().path(file).map(Path::to_owned).unwrap_or_default()
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
        let head = format!("{}:{}:{}", self.files.borrow().shown(&path), span.line(), span.column());
        let text = self.fs.read(&path).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let line = text.as_deref().and_then(|text| text.lines().nth(span.line() - 1));
        Some(match line {
            Some(line) => {
                let line: String = line.chars().take(160).collect();
                format!("{head}\n    {} | {}", span.line(), without_credentials(&line))
            }
            None => head,
        })
    }

    /// Gives an error with a span the place it stands for.
    pub(crate) fn locate(&self, error: Error) -> Error {
        if error.has_place() {
            return error;
        }
        let Some(mut place) = self.describe(error.span) else { return error };
        for (words, span) in &error.also {
            if let Some(other) = self.describe(*span) {
                place.push_str(&format!("\n  {words} {other}"));
            }
        }
        error.with_place(place)
    }
}

/// The first part of a path that is not there.
fn what_is_missing(fs: &dyn FileSystem, path: &Path, error: &std::io::Error) -> String {
    let mut known = Path::new("/");
    for part in path.ancestors().collect::<Vec<_>>().into_iter().rev() {
        if fs.canonical(part).is_err() {
            let name = |path: &Path| path.file_name().unwrap_or(path.as_os_str()).display().to_string();
            let what = name(path);
            return match name(part) {
                missing if missing == what => format!("'{what}' doesn't exist in '{}'", known.display()),
                missing => {
                    format!("'{what}' doesn't exist: there is no '{missing}' in '{}'", known.display())
                }
            };
        }
        known = part;
    }
    error.to_string()
}

fn not_there(path: &Path, error: &std::io::Error) -> String {
    if error.kind() == std::io::ErrorKind::NotFound {
        format!("'{}' doesn't exist: no such file or directory", path.display())
    } else {
        error.to_string()
    }
}

fn reason(error: &std::io::Error) -> String {
    if error.kind() == std::io::ErrorKind::NotFound {
        "no such file or directory".to_owned()
    } else {
        error.to_string()
    }
}
