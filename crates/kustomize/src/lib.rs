//! Kustomization directories in, objects out.
//!
//! Invariant: [`Build::to_yaml`] is byte for byte what `kustomize build` prints for the same directory.
#![forbid(unsafe_code)]

mod build;
mod config;
mod crd;
mod documents;
pub mod door;
pub mod edit;
mod error;
pub mod explain;
mod field;
pub mod fs;
mod function;
mod generate;
mod hash;
mod helm;
mod id;
mod json6902;
mod kustomization;
mod loader;
pub mod localize;
mod merge;
mod merge3;
mod nameref;
mod order;
mod origin;
pub mod package;
pub mod parts;
mod patch;
mod path;
mod plugin;
pub mod remote;
mod replacement;
mod resmap;
mod resource;
mod schema;
mod selector;
mod shared;
mod trail;
mod transform;
pub mod validate;
mod vars;
pub mod watch;
mod written;

use std::path::Path;
use std::sync::Arc;

use gantry_apimachinery::Value;

pub use documents::Documents;
pub use door::Doors;
pub use error::Error;
pub use fs::{Disk, FileSystem, Memory};
pub use loader::{Files, LoadRestrictor};
pub use plugin::builtin_plugins;
pub use trail::{FieldChange, Layer, LayerKind, Step};

/// How the output is ordered where the kustomization does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Order {
    /// By kind: namespaces and definitions first, webhooks last.
    #[default]
    Legacy,
    /// As the resources were read.
    None,
}

#[derive(Clone, Debug, Default)]
pub struct Options {
    pub load_restrictor: LoadRestrictor,
    pub order: Order,
    /// Label every object `app.kubernetes.io/managed-by`.
    pub managed_by_label: bool,
    /// Refuse what has no effect, such as a patch whose target is not there, instead of warning of it.
    pub strict: bool,
    /// How Helm charts are rendered; they are refused when there is nothing.
    pub helm: Option<HelmOptions>,
    pub functions: FunctionOptions,
    /// Files that other builds of this process have parsed.
    pub documents: Option<Arc<Documents>>,
    /// Merge lists of custom resources by the keys that their definitions give. Upstream replaces such lists.
    pub merge_by_definitions: bool,
}

/// How charts are rendered. What is said here wins over a chart's own fields.
#[derive(Clone, Debug, Default)]
pub struct HelmOptions {
    /// The program, by name or path.
    pub command: String,
    pub api_versions: Vec<String>,
    pub kube_version: String,
    pub debug: bool,
}

/// What functions may do.
#[derive(Clone, Debug, Default)]
pub struct FunctionOptions {
    /// Whether there may be generators and transformers that are not built in.
    pub enabled: bool,
    /// Whether they may be programs of this machine.
    pub exec: bool,
    /// Whether those that say so get a network.
    pub network: bool,
    /// The network's name; the host's when empty.
    pub network_name: String,
    /// `type=bind,src=…,dst=…[,rw=true]`, for every container.
    pub mounts: Vec<String>,
    /// `KEY=value`, or `KEY` to hand on; for every container.
    pub environment: Vec<String>,
    /// Run containers as whoever builds, and not as nobody.
    pub as_current_user: bool,
}

/// What to build.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// An absolute path.
    Directory(&'a Path),
    Repository(&'a remote::Repository),
}

/// What a kustomization stands for.
#[derive(Debug)]
pub struct Build {
    /// Each object with the places its parts were read from.
    pub objects: Vec<Value>,
    /// What each object was called where it was written, before prefixes, namespaces and hashes.
    pub originals: Vec<Original>,
    /// The files those places refer to.
    pub files: Files,
    /// Deprecated fields, patches without a target, unused variables: for stderr.
    pub warnings: Vec<String>,
}

/// A name with its namespace, empty for none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Original {
    pub namespace: String,
    pub name: String,
}

/// Builds the kustomization in `dir`, an absolute path, from files alone.
pub fn build(fs: &dyn FileSystem, dir: &Path, options: &Options) -> Result<Build, Error> {
    build_with(fs, Doors::closed(), Source::Directory(dir), options)
}

/// Builds a kustomization; what is remote and what runs goes through the doors.
pub fn build_with(
    fs: &dyn FileSystem,
    doors: Doors<'_>,
    source: Source<'_>,
    options: &Options,
) -> Result<Build, Error> {
    let outcome = build::run(fs, doors, source, options)?;
    let mut objects = Vec::with_capacity(outcome.resources.len());
    let originals = outcome.resources.iter().map(resource::Resource::original).collect();
    for resource in outcome.resources {
        let value = gantry_apimachinery::from_yaml(&resource.node)
            .map_err(|error| Error::at(error.message(), error.span()))?;
        objects.push(value);
    }
    Ok(Build { objects, originals, files: outcome.files, warnings: outcome.warnings })
}

impl Build {
    /// The objects as a stream of YAML documents.
    pub fn to_yaml(&self) -> String {
        let mut text = String::new();
        for (index, object) in self.objects.iter().enumerate() {
            if index > 0 {
                text.push_str("---\n");
            }
            gantry_yaml::emit_to(&mut text, object);
        }
        text
    }
}
