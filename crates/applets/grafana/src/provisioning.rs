//! The files under `provisioning/`: data sources, and folders of dashboards that are read again when they change.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::datasource::Entry;
use crate::store::Provided;

const MOST_FILES: usize = 10_000;
const DEEPEST: usize = 12;

/// What the data source files say.
#[derive(Debug, Default)]
pub(crate) struct SourceFiles {
    pub(crate) delete: Vec<String>,
    pub(crate) entries: Vec<Entry>,
}

/// A folder of dashboard files.
#[derive(Clone, Debug)]
pub(crate) struct Provider {
    pub(crate) name: String,
    folder: String,
    folder_uid: String,
    path: PathBuf,
    editable: bool,
    folders_from_files: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SourceFile {
    #[serde(default)]
    datasources: Vec<SourceSpec>,
    #[serde(default)]
    delete_datasources: Vec<Deleted>,
}

#[derive(Deserialize)]
struct Deleted {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SourceSpec {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    uid: String,
    #[serde(default)]
    url: String,
    #[serde(default)]
    access: String,
    #[serde(default)]
    is_default: bool,
    #[serde(default)]
    basic_auth: bool,
    #[serde(default)]
    basic_auth_user: String,
    #[serde(default)]
    editable: bool,
    #[serde(default)]
    json_data: Option<Map<String, Value>>,
    #[serde(default)]
    secure_json_data: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProviderFile {
    #[serde(default)]
    providers: Vec<ProviderSpec>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProviderSpec {
    name: String,
    #[serde(default)]
    folder: String,
    #[serde(default)]
    folder_uid: String,
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    allow_ui_updates: bool,
    options: ProviderOptions,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProviderOptions {
    #[serde(default)]
    path: PathBuf,
    #[serde(default)]
    folders_from_files_structure: bool,
}

/// Where `$NAME` in a file comes from.
pub(crate) type Environment<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// `$NAME`, `${NAME}`, `$__env{NAME}` and `$__file{PATH}` replaced; `$$` is a dollar.
fn expand(text: &str, environment: &Environment<'_>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let braced = |text: &'_ str| text.find('}').map(|end| (text[..end].to_owned(), end + 1));
        if let Some((path, length)) = rest.strip_prefix("__file{").and_then(braced) {
            let read =
                std::fs::read_to_string(&path).map_err(|error| format!("cannot read {path}: {error}"))?;
            out.push_str(read.trim());
            rest = &rest["__file{".len() + length..];
            continue;
        }
        let name = match (rest.strip_prefix("__env{"), rest.strip_prefix('{')) {
            (Some(inner), _) => braced(inner).map(|(name, length)| (name, "__env{".len() + length)),
            (None, Some(inner)) => braced(inner).map(|(name, length)| (name, 1 + length)),
            (None, None) => {
                let length = rest.bytes().take_while(|b| *b == b'_' || b.is_ascii_alphanumeric()).count();
                (length > 0).then(|| (rest[..length].to_owned(), length))
            }
        };
        match name {
            Some((name, length)) => {
                out.push_str(&environment(&name).unwrap_or_default());
                rest = &rest[length..];
            }
            None => out.push('$'),
        }
    }
    out.push_str(rest);
    Ok(out)
}

fn expand_map(
    map: Option<Map<String, Value>>,
    environment: &Environment<'_>,
) -> Result<Map<String, Value>, String> {
    let mut map = map.unwrap_or_default();
    for value in map.values_mut() {
        if let Value::String(text) = value {
            *text = expand(text, environment)?;
        }
    }
    Ok(map)
}

/// The YAML files of a folder, in the order of their names. A folder that is not there has none.
fn yaml_files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml"))
        .collect();
    files.sort();
    files
}

fn read<T: serde::de::DeserializeOwned>(file: &Path) -> Result<T, String> {
    let text =
        std::fs::read_to_string(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    gantry_yaml::from_str(&file.display().to_string(), &text).map_err(|error| error.to_string())
}

/// All data sources of `provisioning/datasources`.
///
/// # Errors
/// The file and place that cannot be read.
pub(crate) fn datasources(folder: &Path, environment: &Environment<'_>) -> Result<SourceFiles, String> {
    let mut out = SourceFiles::default();
    for file in yaml_files(&folder.join("datasources")) {
        let read: SourceFile = read(&file)?;
        let wrong = |error: String| format!("{}: {error}", file.display());
        out.delete.extend(read.delete_datasources.into_iter().map(|one| one.name));
        for spec in read.datasources {
            let text = |text: String| expand(&text, environment).map_err(wrong);
            out.entries.push(Entry {
                uid: text(spec.uid)?,
                name: text(spec.name)?,
                kind: spec.kind,
                url: text(spec.url)?,
                access: spec.access,
                is_default: spec.is_default,
                basic_auth: spec.basic_auth,
                basic_auth_user: text(spec.basic_auth_user)?,
                json_data: expand_map(spec.json_data, environment).map_err(wrong)?,
                secure_json_data: expand_map(spec.secure_json_data, environment).map_err(wrong)?,
                read_only: !spec.editable,
                ..Entry::default()
            });
        }
    }
    Ok(out)
}

/// All providers of `provisioning/dashboards`.
///
/// # Errors
/// The file and place that cannot be read.
pub(crate) fn providers(folder: &Path, environment: &Environment<'_>) -> Result<Vec<Provider>, String> {
    let mut out = Vec::new();
    for file in yaml_files(&folder.join("dashboards")) {
        let read: ProviderFile = read(&file)?;
        for spec in read.providers {
            if !matches!(spec.kind.as_str(), "" | "file") {
                return Err(format!(
                    "{}: provider {}: type {:?} is not known; file is",
                    file.display(),
                    spec.name,
                    spec.kind
                ));
            }
            let path = expand(&spec.options.path.to_string_lossy(), environment);
            let path = path.map_err(|error| format!("{}: {error}", file.display()))?;
            out.push(Provider {
                name: spec.name,
                folder: spec.folder,
                folder_uid: spec.folder_uid,
                path: PathBuf::from(path),
                editable: spec.allow_ui_updates,
                folders_from_files: spec.options.folders_from_files_structure,
            });
        }
    }
    Ok(out)
}

impl Provider {
    /// The dashboards that are in its folder now, and what could not be read.
    pub(crate) fn dashboards(&self) -> (Vec<Provided>, Vec<String>) {
        let (mut found, mut problems) = (Vec::new(), Vec::new());
        self.walk(&self.path, 0, &mut found, &mut problems);
        found.sort_by(|a, b| a.origin.cmp(&b.origin));
        (found, problems)
    }

    fn walk(&self, folder: &Path, depth: usize, found: &mut Vec<Provided>, problems: &mut Vec<String>) {
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) => return problems.push(format!("{}: {error}", folder.display())),
        };
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            let is_hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
            if found.len() >= MOST_FILES || is_hidden {
                continue;
            }
            if path.is_dir() && depth < DEEPEST {
                self.walk(&path, depth + 1, found, problems);
            } else if path.extension().is_some_and(|extension| extension == "json") {
                match std::fs::read_to_string(&path) {
                    Ok(text) => found.push(Provided {
                        origin: path.display().to_string(),
                        text,
                        folder: self.folder_of(&path),
                        folder_uid: self.folder_uid.clone(),
                        editable: self.editable,
                    }),
                    Err(error) => problems.push(format!("{}: {error}", path.display())),
                }
            }
        }
    }

    fn folder_of(&self, file: &Path) -> String {
        if !self.folders_from_files {
            return self.folder.clone();
        }
        let below = file.parent().and_then(|folder| folder.strip_prefix(&self.path).ok());
        let name = below.and_then(|below| below.file_name()).map(|name| name.to_string_lossy().into_owned());
        name.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_with_their_variables() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("datasources")).unwrap();
        std::fs::create_dir_all(dir.path().join("dashboards/Team")).unwrap();
        let secret = dir.path().join("secret");
        std::fs::write(&secret, "hush\n").unwrap();
        let text = format!(
            "apiVersion: 1\ndatasources:\n- name: prometheus\n  type: prometheus\n  url: http://$HOST:9090\n  \
             jsonData: {{timeInterval: 30s}}\n  secureJsonData: {{basicAuthPassword: \"$__file{{{}}}\"}}\n",
            secret.display()
        );
        std::fs::write(dir.path().join("datasources/a.yaml"), text).unwrap();
        let environment = |name: &str| (name == "HOST").then(|| "prom".to_owned());
        let files = datasources(dir.path(), &environment).unwrap();
        assert_eq!(files.entries[0].url, "http://prom:9090");
        assert_eq!(files.entries[0].secret("basicAuthPassword"), Some("hush"));
        assert_eq!(files.entries[0].interval_ms(), 30_000);
        let boards = dir.path().join("dashboards");
        let text = format!(
            "apiVersion: 1\nproviders:\n- name: p\n  options: {{path: {}, foldersFromFilesStructure: true}}\n",
            boards.display()
        );
        std::fs::write(boards.join("p.yaml"), text).unwrap();
        std::fs::write(boards.join("Team/x.json"), "{}").unwrap();
        let providers = providers(dir.path(), &environment).unwrap();
        let (found, problems) = providers[0].dashboards();
        assert_eq!((found.len(), found[0].folder.as_str(), problems.len()), (1, "Team", 0));
        std::fs::write(boards.join("p.yaml"), "providers:\n- name: p\n  type: git\n  options: {}\n").unwrap();
        assert!(super::providers(dir.path(), &environment).unwrap_err().contains("git"));
    }

    #[test]
    fn dollars_are_expanded() {
        let environment = |name: &str| (name == "A").then(|| "1".to_owned());
        for (text, wanted) in
            [("$A-${A}-$__env{A}", "1-1-1"), ("a$$b", "a$b"), ("$", "$"), ("${open", "${open")]
        {
            assert_eq!(expand(text, &environment).as_deref(), Ok(wanted));
        }
    }
}
