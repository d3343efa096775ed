//! Where a resource came from and what changed it, as the annotations that `buildMetadata` asks for.

use crate::remote::{Repository, without_credentials};
use crate::resource::Resource;

pub(crate) const ORIGIN: &str = "config.kubernetes.io/origin";
pub(crate) const TRANSFORMATIONS: &str = "alpha.config.kubernetes.io/transformations";

/// A file, relative to where the build began, or a generator or transformer configured there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origin {
    path: String,
    repository: String,
    reference: String,
    configured_in: String,
    configured_by: Option<ConfiguredBy>,
}

#[derive(Clone, Debug)]
struct ConfiguredBy {
    api_version: String,
    kind: String,
    name: String,
    namespace: String,
}

impl Origin {
    pub(crate) fn enter(&self, path: &str) -> Origin {
        if let Ok(repository) = Repository::parse(path) {
            return Origin {
                path: repository.root().to_owned(),
                repository: without_credentials(&repository.url()).into_owned(),
                reference: repository.reference().to_owned(),
                ..Origin::default()
            };
        }
        let joined = if self.path.is_empty() { path.to_owned() } else { format!("{}/{path}", self.path) };
        let clean = crate::fs::normal(std::path::Path::new(&joined));
        Origin {
            path: clean.to_string_lossy().into_owned(),
            repository: self.repository.clone(),
            reference: self.reference.clone(),
            ..Origin::default()
        }
    }

    /// The origin of what a generator or transformer configured in `file` makes or changes.
    pub(crate) fn generated(&self, file: &str, api_version: &str, kind: &str, name: &str) -> Origin {
        Origin {
            path: String::new(),
            repository: self.repository.clone(),
            reference: self.reference.clone(),
            configured_in: self.enter(file).path,
            configured_by: Some(ConfiguredBy {
                api_version: api_version.to_owned(),
                kind: kind.to_owned(),
                name: name.to_owned(),
                namespace: String::new(),
            }),
        }
    }

    /// The origin of what a plugin makes or changes; `config_origin` is the text on its configuration.
    pub(crate) fn of_plugin(
        config_origin: &str,
        api_version: &str,
        kind: &str,
        name: &str,
        namespace: &str,
    ) -> Origin {
        let noted = |key: &str| {
            config_origin.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default().to_owned()
        };
        Origin {
            path: String::new(),
            repository: noted("repo: "),
            reference: noted("ref: "),
            configured_in: noted("path: "),
            configured_by: Some(ConfiguredBy {
                api_version: api_version.to_owned(),
                kind: kind.to_owned(),
                name: name.to_owned(),
                namespace: namespace.to_owned(),
            }),
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        if !self.path.is_empty() {
            text.push_str(&format!("path: {}\n", self.path));
        }
        if !self.repository.is_empty() {
            text.push_str(&format!("repo: {}\n", self.repository));
        }
        if !self.reference.is_empty() {
            text.push_str(&format!("ref: {}\n", self.reference));
        }
        if !self.configured_in.is_empty() {
            text.push_str(&format!("configuredIn: {}\n", self.configured_in));
        }
        if let Some(ConfiguredBy { api_version, kind, name, namespace }) = &self.configured_by {
            text.push_str("configuredBy:\n");
            for (key, value) in
                [("apiVersion", api_version), ("kind", kind), ("name", name), ("namespace", namespace)]
            {
                if !value.is_empty() {
                    text.push_str(&format!("  {key}: {value}\n"));
                }
            }
        }
        text
    }

    /// Says on the resource where it came from, unless something says so already.
    pub(crate) fn note(&self, resource: &mut Resource) {
        if resource.annotation(ORIGIN).is_none() {
            resource.set_annotation(ORIGIN, &self.text());
        }
    }

    /// The same for the configuration of a plugin, which hands it on to what it makes.
    pub(crate) fn note_config(&self, resource: &mut Resource) {
        resource.set_annotation(ORIGIN, &self.text());
    }

    /// Adds to the list of what changed a resource. One that has no origin was made by this.
    pub(crate) fn note_transformation(&self, resource: &mut Resource) {
        if resource.annotation(ORIGIN).is_none() {
            resource.set_annotation(ORIGIN, &self.text());
            return;
        }
        let mut text = resource.annotation(TRANSFORMATIONS).unwrap_or_default().to_owned();
        for (index, line) in self.text().lines().enumerate() {
            text.push_str(if index == 0 { "- " } else { "  " });
            text.push_str(line);
            text.push('\n');
        }
        resource.set_annotation(TRANSFORMATIONS, &text);
    }
}
