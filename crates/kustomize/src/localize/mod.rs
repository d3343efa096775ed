//! `localize`: a copy of a kustomization and of all that it names, in which nothing is remote any more.
//!
//! Invariant: nothing is written here, and every path of the copy lies inside of it. The copy's kustomization files have
//! the form that upstream writes: known fields only, sorted, without empty ones.

mod address;
mod fields;
mod helm;
mod plugins;
mod written;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use gantry_yaml::{Node, Span};

use crate::door::Doors;
use crate::error::{Error, Result};
use crate::fs::{FileSystem, normal};
use crate::kustomization::{FILE_NAMES, Kustomization, normalise_keys};
use crate::loader::{LoadRestrictor, Loader};
use crate::remote::{Repository, is_http, is_surely_repository};
use crate::resource::{Resource, resources_from};
use crate::{Source, patch};

/// A copy with more is refused.
const MOST_FILES: usize = 100_000;
const MOST_BYTES: usize = 1 << 30;
const MOST_ROOTS: usize = 10_000;

/// The begin of the copy's name where the caller has none.
const NAME: &str = "localized";

/// What is to be copied.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub source: Source<'a>,
    /// How the caller names it.
    pub shown: &'a str,
    /// The folder that local references may not leave: an absolute path; without one it is the kustomization's own.
    pub scope: Option<&'a Path>,
}

/// The copy. Paths are from its root.
#[derive(Debug, Default)]
pub struct Localized {
    pub files: BTreeMap<PathBuf, Vec<u8>>,
    /// Folders that are there even when no file is in them.
    pub folders: BTreeSet<PathBuf>,
    /// The folder of the kustomization that was asked for.
    pub target: PathBuf,
    /// What upstream names the copy where nothing else is said.
    pub default_name: String,
}

/// Copies a kustomization. What is remote comes through the doors.
pub fn localize(fs: &dyn FileSystem, doors: Doors<'_>, request: Request<'_>) -> Result<Localized> {
    let shown = request.shown;
    let files = Rc::default();
    let loader = match request.source {
        Source::Directory(dir) => Loader::new(fs, doors, dir, LoadRestrictor::RootOnly, files),
        Source::Repository(repository) => {
            check_reference(repository)?;
            Loader::new_remote(fs, doors, repository, files)
        }
    };
    let loader =
        loader.map_err(|error| error.wrap(format!("unable to establish localize target {shown:?}")))?;
    let scope = scope(fs, &loader, request).map_err(|error| {
        let said = request.scope.map(|scope| scope.display().to_string()).unwrap_or_default();
        error.wrap(format!("invalid localize scope {said:?}"))
    })?;
    let target = relative(&scope, &loader.root);
    let default_name = default_name(&loader, request.source);
    let copy = Localized { target: target.clone(), default_name, ..Localized::default() };
    let mut localizer = Localizer { fs, scope, copy, bytes: 0, visited: HashSet::new() };
    let local = matches!(request.source, Source::Directory(_));
    let root = Root { loader, place: target, local };
    localizer.root(&root).map_err(|error| error.wrap(format!("unable to localize target {shown:?}")))?;
    Ok(localizer.copy)
}

fn check_reference(repository: &Repository) -> Result<()> {
    if repository.reference().is_empty() {
        let raw = repository.raw();
        return Err(Error::new(format!(
            "localize remote root {raw:?} missing ref query string parameter: a copy is of one version, as ?ref=v1"
        )));
    }
    Ok(())
}

fn scope(fs: &dyn FileSystem, loader: &Loader<'_>, request: Request<'_>) -> Result<PathBuf> {
    let shown = request.shown;
    if let Some(tree) = &loader.tree {
        return match request.scope {
            None => Ok(tree.clone()),
            Some(scope) => Err(Error::new(format!(
                "scope {:?} specified for remote localize target {shown:?}",
                scope.display().to_string()
            ))),
        };
    }
    let Some(said) = request.scope else { return Ok(loader.root.clone()) };
    let said_text = said.display();
    let scope = fs
        .canonical(said)
        .map_err(|error| Error::new(format!("unable to establish localize scope: '{said_text}': {error}")))?;
    if !fs.is_dir(&scope) {
        return Err(Error::new(format!(
            "unable to establish localize scope: '{said_text}' is not a directory"
        )));
    }
    if !loader.root.starts_with(&scope) {
        return Err(Error::new(format!(
            "localize scope \"{said_text}\" does not contain target {shown:?} at \"{}\"",
            loader.root.display()
        )));
    }
    Ok(scope)
}

fn default_name(loader: &Loader<'_>, source: Source<'_>) -> String {
    let last = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    match source {
        Source::Directory(_) => match last(&loader.root) {
            Some(name) => format!("{NAME}-{name}"),
            None => NAME.to_owned(),
        },
        Source::Repository(repository) => {
            let of_repository = || last(Path::new(repository.path().trim_end_matches('/')));
            let is_whole = loader.tree.as_ref() == Some(&loader.root);
            let name = if is_whole { of_repository() } else { last(&loader.root) };
            format!("{NAME}-{}-{}", name.unwrap_or_default(), repository.reference().replace('/', "-"))
        }
    }
}

/// The way from one directory to another place, by text.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let common = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    let up = from.components().skip(common).map(|_| Component::ParentDir);
    let way: PathBuf = up.chain(to.components().skip(common)).collect();
    if way.as_os_str().is_empty() { PathBuf::from(".") } else { way }
}

/// A directory with a kustomization, and where its copy is.
struct Root<'a> {
    loader: Loader<'a>,
    /// From the root of the copy.
    place: PathBuf,
    /// Whether only local references led here: those stay within the scope.
    local: bool,
}

struct Localizer<'a> {
    fs: &'a dyn FileSystem,
    scope: PathBuf,
    copy: Localized,
    bytes: usize,
    /// Directories that are done, each with the place of its copy.
    visited: HashSet<(PathBuf, PathBuf)>,
}

impl<'a> Localizer<'a> {
    fn root(&mut self, at: &Root<'a>) -> Result<()> {
        if !self.visited.insert((at.loader.root.clone(), at.place.clone())) {
            return Ok(());
        }
        if self.visited.len() > MOST_ROOTS {
            return Err(Error::new(format!("a copy has at most {MOST_ROOTS} kustomizations")));
        }
        self.copy.folders.insert(at.place.clone());
        self.root_here(at).map_err(|error| at.loader.locate(error))
    }

    fn root_here(&mut self, at: &Root<'a>) -> Result<()> {
        let (file_name, mut node) = read(&at.loader)?;
        self.fields(at, &mut node)?;
        self.plugins(at, &mut node)?;
        let text = written::text(node);
        self.keep(at.place.join(file_name), text.into_bytes())
    }

    /// Copies a file, if one is named; its path in the copy.
    fn file(&mut self, at: &Root<'a>, path: &str) -> Result<String> {
        if path.is_empty() {
            return Ok(String::new());
        }
        let content = load(at, path)?;
        self.file_with(at, path, content)
    }

    /// Puts content where the copy has the file of this path.
    fn file_with(&mut self, at: &Root<'a>, path: &str, content: Vec<u8>) -> Result<String> {
        let own = if is_http(path) {
            self.check_room(at, "file", path)?;
            address::of_file(path)
        } else {
            // Where links lead: the copy has none, and the way through them may leave it.
            let file = self
                .fs
                .canonical(&normal(&at.loader.root.join(path)))
                .map_err(|error| Error::new(format!("'{path}': {error}")))?;
            relative(&at.loader.root, &file)
        };
        self.keep(at.place.join(&own), content)?;
        Ok(own.display().to_string())
    }

    /// Copies another kustomization, if one is named; its path in the copy.
    fn directory(&mut self, at: &Root<'a>, path: &str) -> Result<String> {
        if path.is_empty() {
            return Ok(String::new());
        }
        let repository = Repository::parse(path).ok();
        if let Some(repository) = &repository {
            check_reference(repository)?;
        }
        let loader = self.enter(at, path)?;
        let (own, local) = match (&repository, &loader.tree) {
            (Some(repository), Some(tree)) => {
                self.check_room(at, "root", path)?;
                (address::of_root(repository, &relative(tree, &loader.root)), false)
            }
            _ => (relative(&at.loader.root, &loader.root), at.local),
        };
        let own = normal(&own);
        let place = inside(&at.place.join(&own))?;
        let root = Root { loader, place, local };
        self.root(&root).map_err(|error| error.wrap(format!("unable to localize root {path:?}")))?;
        Ok(own.display().to_string())
    }

    /// A loader for a directory that the kustomization names, if it may name it.
    fn enter(&self, at: &Root<'a>, path: &str) -> Result<Loader<'a>> {
        let loader = at.loader.enter(path).map_err(|error| error.wrap("invalid root reference"))?;
        let is_remote = Repository::parse(path).is_ok();
        if at.local && !is_remote && !loader.root.starts_with(&self.scope) {
            return Err(Error::new(format!(
                "root \"{}\" outside localize scope \"{}\"",
                loader.root.display(),
                self.scope.display()
            )));
        }
        Ok(loader)
    }

    /// Copies a resource: a file, or else a directory.
    fn resource(&mut self, at: &Root<'a>, path: &str) -> Result<String> {
        let as_file = if is_surely_repository(path) {
            Err(Error::new("URL is a git repository"))
        } else {
            load(at, path).and_then(|content| {
                check_resources(&content)
                    .map_err(|error| error.wrap(format!("invalid resource at file {path:?}")))?;
                self.file_with(at, path, content)
            })
        };
        let not_a_file = match as_file {
            Ok(own) => return Ok(own),
            Err(error) => error,
        };
        self.directory(at, path).map_err(|error| {
            let message = format!(
                "could not localize path {path:?} as file: {}; could not localize path {path:?} as directory: {}",
                not_a_file.message(),
                error.message()
            );
            match error.place() {
                Some(place) => Error::new(message).with_place(place.to_owned()),
                None => Error::at(message, error.span),
            }
        })
    }

    /// Copies the file with objects that an entry names; an entry that is itself an object stays.
    fn objects(&mut self, at: &Root<'a>, entry: &str, span: Span) -> Result<String> {
        match load_objects(at, entry, span)? {
            (_, Place::Inline) => Ok(entry.to_owned()),
            (_, Place::File) => self.file(at, entry),
        }
    }

    /// Refuses to mix what is fetched with what the user has in a folder of that name.
    fn check_room(&self, at: &Root<'a>, what: &str, path: &str) -> Result<()> {
        let folder = address::FOLDER;
        if self.fs.canonical(&at.loader.root.join(folder)).is_ok() {
            return Err(Error::new(format!(
                "{} already contains {folder} needed to store {what} {path:?}",
                at.loader.root.display()
            )));
        }
        Ok(())
    }

    fn keep(&mut self, place: PathBuf, content: Vec<u8>) -> Result<()> {
        let place = inside(&place)?;
        self.bytes += content.len();
        if self.bytes > MOST_BYTES || self.copy.files.len() >= MOST_FILES {
            return Err(Error::new(format!("a copy has at most {MOST_FILES} files and {MOST_BYTES} bytes")));
        }
        self.copy.files.insert(place, content);
        Ok(())
    }
}

/// The path without `.` and `..`, if it does not lead out of the copy.
fn inside(place: &Path) -> Result<PathBuf> {
    let place = normal(place);
    if place.starts_with("..") || place.is_absolute() {
        return Err(Error::new(format!("'{}' would be outside of the copy", place.display())));
    }
    Ok(place)
}

fn load(at: &Root<'_>, path: &str) -> Result<Vec<u8>> {
    let (_, content) = at.loader.load(path).map_err(|error| error.wrap("invalid file reference"))?;
    Ok(content)
}

fn check_resources(content: &[u8]) -> Result<()> {
    parsed(content).map(drop)
}

fn parsed(content: &[u8]) -> Result<Vec<Resource>> {
    let text = std::str::from_utf8(content).map_err(|_| Error::new("it is not UTF-8 text"))?;
    patch::parse(gantry_yaml::FileId(0), text, Some(Span::NONE)).and_then(resources_from)
}

/// Where the objects of an entry stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Inline,
    File,
}

/// The objects of an entry that holds them or names a file with them.
fn load_objects(at: &Root<'_>, entry: &str, span: Span) -> Result<(Vec<Resource>, Place)> {
    let inline = match patch::parse(gantry_yaml::FileId(0), entry, Some(span)).and_then(resources_from) {
        Ok(resources) if !resources.is_empty() => return Ok((resources, Place::Inline)),
        Ok(_) => Error::new("it holds no object"),
        Err(error) => error,
    };
    match load(at, entry).and_then(|content| parsed(&content)) {
        Ok(resources) => Ok((resources, Place::File)),
        Err(error) => Err(Error::at(
            format!(
                "unable to load resource entry {entry:?}: when parsing as inline received error: {}\nwhen parsing as \
                 filepath received error: {}",
                inline.message(),
                error.message()
            ),
            span,
        )),
    }
}

/// The kustomization file of a directory, checked as far as its fields go. Deprecated spellings that only a build
/// translates are refused, as upstream does.
fn read(loader: &Loader<'_>) -> Result<(&'static str, Node)> {
    let found: Vec<&'static str> = FILE_NAMES.into_iter().filter(|name| loader.has(name)).collect();
    let root = loader.root.display();
    let file_name = match found[..] {
        [name] => name,
        [] => {
            return Err(Error::new(format!(
                "unable to find one of 'kustomization.yaml', 'kustomization.yml' or 'Kustomization' in directory '{root}'"
            )));
        }
        _ => return Err(Error::new(format!("Found multiple kustomization files under: {root}"))),
    };
    let (file, text) = loader.load_text(file_name)?;
    let invalid = |error: gantry_yaml::Error| {
        Error::at(format!("invalid Kustomization: {}", error.message()), error.span())
    };
    let documents = gantry_yaml::parse_documents_with(file, &text, gantry_yaml::DuplicateKeys::LastWins);
    let top = Span::new(file, 1, 1);
    let mut node = documents.map_err(invalid)?.into_iter().next().unwrap_or_else(|| Node::null(top));
    if node.is_null() {
        node = Node::mapping(top);
    }
    normalise_keys(&mut node);
    let checked: std::result::Result<Kustomization, _> = gantry_yaml::from_node(&node);
    checked.map_err(invalid)?;
    Ok((file_name, node))
}
