//! Changes to kustomization files: `create`, and what `edit add`, `set`, `remove` and `fix` do.
//!
//! Invariant: an entry that a change touches gets the form that upstream writes; every other byte of the file stays.
//! Nothing is written here: an [`Outcome`] says what the caller is to write.

mod add;
mod create;
mod document;
mod fix;
mod generator;
mod glob;
mod labels;
mod overlay;
mod patch;
mod remove;
mod rewrite;
mod set;
pub(crate) mod source;
mod tree;
mod vars;

use std::path::{Path, PathBuf};

use document::Document;

use crate::door::Doors;
use crate::error::Result;
use crate::fs::FileSystem;

pub use crate::transform::split_image;
pub use create::Create;
pub use labels::Pairs;
pub use patch::PatchEntry;

/// What a change comes to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Files with the text that they are to have.
    pub writes: Vec<(PathBuf, String)>,
    /// Files that are no longer needed.
    pub removals: Vec<PathBuf>,
    /// For stderr: what was asked for and not done.
    pub notes: Vec<String>,
    /// For stdout: what was done, where the command says so.
    pub report: String,
}

/// What `edit add` adds.
#[derive(Clone, Debug)]
pub enum Addition {
    /// Files, directories and URLs; patterns are expanded. Unverified ones are taken as they are.
    Resources {
        patterns: Vec<String>,
        verify: bool,
    },
    Components(Vec<String>),
    /// Directories, which become resources.
    Bases(Vec<String>),
    Transformers(Vec<String>),
    Generators(Vec<String>),
    Patch(PatchEntry),
    ConfigMap(GeneratorSources),
    Secret(GeneratorSources),
    Labels(LabelChange),
    Annotations {
        pairs: Pairs,
        force: bool,
    },
    BuildMetadata(Vec<String>),
}

/// What `edit set` sets.
#[derive(Clone, Debug)]
pub enum Setting {
    Images(Vec<ImageChange>),
    Namespace(String),
    NamePrefix(String),
    NameSuffix(String),
    Replicas(Vec<(String, i64)>),
    Labels(LabelChange),
    Annotations(Pairs),
    ConfigMap(GeneratorChange),
    Secret(GeneratorChange),
    BuildMetadata(Vec<String>),
}

/// What `edit remove` removes.
#[derive(Clone, Debug)]
pub enum Removal {
    /// Entries that fit one of the patterns.
    Resources(Vec<String>),
    Components(Vec<String>),
    Transformers(Vec<String>),
    /// The patch that is exactly this one.
    Patch(PatchEntry),
    Labels {
        keys: Vec<String>,
        ignore_missing: bool,
    },
    Annotations {
        keys: Vec<String>,
        ignore_missing: bool,
    },
    BuildMetadata(Vec<String>),
    ConfigMaps {
        names: Vec<String>,
        namespace: String,
    },
    Secrets {
        names: Vec<String>,
        namespace: String,
    },
}

/// Labels, and how far they reach.
#[derive(Clone, Debug, Default)]
pub struct LabelChange {
    pub pairs: Pairs,
    /// Whether a label that is there may get another value.
    pub force: bool,
    /// Under `labels` instead of `commonLabels`, which reaches selectors.
    pub without_selector: bool,
    /// With `without_selector`: in templates too.
    pub include_templates: bool,
}

/// An image under its name in the resources, and what it becomes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageChange {
    pub name: String,
    pub new_name: Part,
    pub new_tag: Part,
    pub digest: Part,
}

/// One part of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Part {
    /// No such part.
    #[default]
    None,
    /// As it is in the file: `*`.
    Keep,
    Is(String),
}

/// Where the data of a ConfigMap or Secret comes from.
#[derive(Clone, Debug, Default)]
pub struct GeneratorSources {
    pub name: String,
    pub namespace: String,
    /// Paths or `key=path`; patterns are expanded.
    pub files: Vec<String>,
    /// `key=value`.
    pub literals: Vec<String>,
    pub env_file: String,
    pub behavior: String,
    pub disable_name_suffix_hash: bool,
    /// A new Secret's type.
    pub secret_type: String,
}

/// What changes in a generator that is there.
#[derive(Clone, Debug, Default)]
pub struct GeneratorChange {
    pub name: String,
    pub namespace: String,
    /// `key=value` with keys that are there.
    pub literals: Vec<String>,
    /// Empty where the namespace stays.
    pub new_namespace: String,
}

/// Makes a kustomization file in `dir`, an absolute path.
pub fn create(fs: &dyn FileSystem, dir: &Path, create: &Create) -> Result<Outcome> {
    create_with(fs, Doors::closed(), dir, create)
}

/// [`create`]; an address is looked up through the doors.
pub fn create_with(fs: &dyn FileSystem, doors: Doors<'_>, dir: &Path, create: &Create) -> Result<Outcome> {
    create::create(fs, doors, dir, create)
}

/// Adds to the kustomization file in `dir`.
pub fn add(fs: &dyn FileSystem, dir: &Path, addition: &Addition) -> Result<Outcome> {
    add_with(fs, Doors::closed(), dir, addition)
}

/// [`add`]; an address is looked up through the doors.
pub fn add_with(fs: &dyn FileSystem, doors: Doors<'_>, dir: &Path, addition: &Addition) -> Result<Outcome> {
    edited(fs, dir, |document, notes| add::add(fs, doors, document, addition, notes))
}

/// Sets parts of the kustomization file in `dir`.
pub fn set(fs: &dyn FileSystem, dir: &Path, setting: &Setting) -> Result<Outcome> {
    edited(fs, dir, |document, _| set::set(document, setting))
}

/// Removes from the kustomization file in `dir`.
pub fn remove(fs: &dyn FileSystem, dir: &Path, removal: &Removal) -> Result<Outcome> {
    edited(fs, dir, |document, notes| remove::remove(document, removal, notes))
}

/// Moves deprecated fields of the kustomization file in `dir` to those that replace them; with `vars` these too, which
/// changes the files that use them.
pub fn fix(fs: &dyn FileSystem, dir: &Path, vars: bool) -> Result<Outcome> {
    fix::fix(fs, dir, vars)
}

fn edited(
    fs: &dyn FileSystem,
    dir: &Path,
    change: impl FnOnce(&mut Document<'_>, &mut Vec<String>) -> Result<()>,
) -> Result<Outcome> {
    let mut document = Document::open(fs, dir)?;
    let mut outcome = Outcome::default();
    change(&mut document, &mut outcome.notes).map_err(|error| document.loader.locate(error))?;
    if let Some(text) = document.rewritten()? {
        outcome.writes.push((document.path(), text));
    }
    Ok(outcome)
}
