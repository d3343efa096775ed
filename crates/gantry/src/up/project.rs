//! `gantry.yaml`: what a project says about running on a machine without a container engine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use gantry_bucket::ObjectStorage;
use gantry_bucket::config::Kind;
use serde::Deserialize;

pub(super) const FILE_NAME: &str = "gantry.yaml";

/// The file's content. Unknown fields are refused with their place.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Project {
    /// Image (with or without tag) → the local command that stands for its entry point.
    #[serde(default)]
    pub images: BTreeMap<String, Vec<String>>,
    /// Where the blocks of the metric store go, to be queried from other machines: Thanos' `type`, `config`, `prefix`.
    #[serde(default)]
    pub object_storage: Option<ObjectStorage>,
    /// Labels that tell this store apart from others in the same object storage.
    #[serde(default)]
    pub external_labels: BTreeMap<String, String>,
    /// A rules file of prometheus-adapter: which series are metrics of pods and objects, for HorizontalPodAutoscalers.
    #[serde(default)]
    pub metric_rules: Option<PathBuf>,
    /// Whose network pods are in.
    #[serde(default)]
    pub pod_network: PodNetwork,
}

/// Whose network pods are in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PodNetwork {
    /// Their own where this machine allows it, else this machine's.
    #[default]
    Auto,
    /// Their own, or nothing starts.
    Isolated,
    /// This machine's: each pod has a loopback address.
    Host,
}

/// A project and the folder that its relative commands start from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LoadedProject {
    pub project: Project,
    /// The file, when there is one.
    pub file: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ProjectError {
    #[error("cannot read {path}: {error}", path = path.display())]
    Read { path: PathBuf, error: std::io::Error },
    #[error("{0}")]
    Yaml(#[from] gantry_yaml::Error),
    #[error("{path}: objectStorage: {error}", path = path.display())]
    ObjectStorage { path: PathBuf, error: gantry_bucket::ConfigError },
    #[error("{path}: images.{image}: the command is empty; write the program and its arguments as a list", path = path.display())]
    EmptyCommand { path: PathBuf, image: String },
}

impl LoadedProject {
    /// The nearest `gantry.yaml` at or above `dir`; none is an empty project.
    pub(super) fn find(dir: &Path) -> Result<LoadedProject, ProjectError> {
        let Some(file) = dir.ancestors().map(|folder| folder.join(FILE_NAME)).find(|file| file.is_file())
        else {
            return Ok(LoadedProject { project: Project::default(), file: None });
        };
        let text = std::fs::read_to_string(&file)
            .map_err(|error| ProjectError::Read { path: file.clone(), error })?;
        let mut project: Project = gantry_yaml::from_str(&file.display().to_string(), &text)?;
        if let Some((image, _)) = project.images.iter().find(|(_, command)| command.is_empty()) {
            return Err(ProjectError::EmptyCommand { path: file, image: image.clone() });
        }
        if let Some(storage) = &mut project.object_storage {
            storage.check().map_err(|error| ProjectError::ObjectStorage { path: file.clone(), error })?;
            if storage.kind == Kind::Filesystem {
                let folder = file.parent().unwrap_or(Path::new("."));
                storage.config.directory = folder.join(&storage.config.directory).display().to_string();
            }
        }
        Ok(LoadedProject { project, file: Some(file) })
    }

    /// The folder that relative commands start from.
    pub(super) fn folder(&self) -> PathBuf {
        self.file.as_deref().and_then(Path::parent).unwrap_or(Path::new(".")).to_owned()
    }
}
