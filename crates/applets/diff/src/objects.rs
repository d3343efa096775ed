//! One side of a comparison: the objects of a kustomization, of a folder of manifests, or of files, with their places.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::ArgMatches;
use gantry_apimachinery::Value;
use gantry_kustomize::Original;
use gantry_kustomize::remote::Repository;
use gantry_yaml::{FileId, Span};

/// A manifest may be this large.
const MOST_FILE_BYTES: u64 = 64 << 20;
/// A folder may hold this many manifests, and so may all files together.
const MOST_FILES: usize = 10_000;
const MOST_DEPTH: usize = 32;
const KUSTOMIZATIONS: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// An object with the names by which it is found again.
#[derive(Clone, Debug)]
pub struct Object {
    pub value: Value,
    /// What it was called where it was written, before prefixes, namespaces and hashes.
    pub original: Option<Original>,
}

#[derive(Debug, Default)]
pub struct Objects {
    pub objects: Vec<Object>,
    files: Vec<PathBuf>,
    pub warnings: Vec<String>,
}

impl Objects {
    /// What a directory holds: a kustomization where it has one, else its manifests; a file is a manifest itself.
    pub fn of_directory(dir: &str, matches: &ArgMatches, recursive: bool) -> Result<Objects, String> {
        let path = Path::new(dir);
        let plain = path.is_dir() && !KUSTOMIZATIONS.iter().any(|name| path.join(name).exists());
        if (plain || path.is_file()) && Repository::parse(dir).is_err() {
            return Objects::of_files(&[dir.to_owned()], recursive);
        }
        Objects::of_kustomization(dir, matches)
    }

    pub fn of_kustomization(dir: &str, matches: &ArgMatches) -> Result<Objects, String> {
        let built = gantry_applet_kustomize::build(dir, matches)?;
        let files = built.files.iter().map(Path::to_owned).collect();
        let objects = built.objects.into_iter().zip(built.originals);
        let objects = objects.map(|(value, original)| Object { value, original: Some(original) }).collect();
        Ok(Objects { objects, files, warnings: built.warnings })
    }

    /// The objects in files and in the manifests of folders; `-` is standard input.
    pub fn of_files(paths: &[String], recursive: bool) -> Result<Objects, String> {
        let mut all = Objects::default();
        for path in paths {
            if path == "-" {
                let mut text = String::new();
                let mut input = std::io::stdin().lock().take(MOST_FILE_BYTES + 1);
                input.read_to_string(&mut text).map_err(|error| format!("standard input: {error}"))?;
                if text.len() as u64 > MOST_FILE_BYTES {
                    return Err(format!("standard input: larger than {MOST_FILE_BYTES} bytes"));
                }
                all.read(PathBuf::from("-"), &text)?;
                continue;
            }
            let mut found = Vec::new();
            if Path::new(path).is_dir() {
                manifests(Path::new(path), recursive, 0, &mut found)?;
                if found.is_empty() {
                    return Err(format!(
                        "{path}: no kustomization and no manifest (.yaml, .yml, .json) in it"
                    ));
                }
            } else {
                found.push(PathBuf::from(path));
            }
            for file in found {
                let size = std::fs::metadata(&file).map(|data| data.len());
                if size.is_ok_and(|size| size > MOST_FILE_BYTES) {
                    return Err(format!("{}: larger than {MOST_FILE_BYTES} bytes", file.display()));
                }
                let text =
                    std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
                all.read(file, &text)?;
            }
        }
        Ok(all)
    }

    fn read(&mut self, file: PathBuf, text: &str) -> Result<(), String> {
        if self.files.len() >= MOST_FILES {
            return Err(format!("more than {MOST_FILES} files"));
        }
        let id = FileId(self.files.len() as u16);
        let shown = file.display().to_string();
        self.files.push(file);
        let documents = gantry_apimachinery::parse_yaml(id, text).map_err(|error| {
            format!("{shown}:{}:{}: {}", error.span().line(), error.span().column(), error.message())
        })?;
        for document in documents {
            self.add(document, &shown, 0)?;
        }
        Ok(())
    }

    /// A list stands for its items.
    fn add(&mut self, document: Value, file: &str, depth: usize) -> Result<(), String> {
        let place = |what: &str, span: Span| format!("{file}:{}:{}: {what}", span.line(), span.column());
        let kind = document.str_at(&["kind"]).unwrap_or_default();
        if kind.ends_with("List") && document.get("items").is_some_and(|items| items.as_array().is_some()) {
            if depth >= MOST_DEPTH {
                return Err(place("lists nest too deeply", document.span));
            }
            let items = document.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
            return items.into_iter().try_for_each(|item| self.add(item, file, depth + 1));
        }
        for (field, path) in [
            ("apiVersion", &["apiVersion"][..]),
            ("kind", &["kind"]),
            ("metadata.name", &["metadata", "name"]),
        ] {
            if document.str_at(path).is_none_or(str::is_empty) {
                return Err(place(&format!("an object without {field}"), document.span));
            }
        }
        self.objects.push(Object { value: document, original: None });
        Ok(())
    }

    /// `file:line:col` of a value; `None` where the program made it.
    pub fn place(&self, value: &Value) -> Option<String> {
        let span = value.span;
        let file = self.files.get(usize::from(span.file().0)).filter(|_| !span.is_none())?;
        Some(format!("{}:{}:{}", file.display(), span.line(), span.column()))
    }
}

/// The manifests in a folder, in the order of their names.
fn manifests(dir: &Path, recursive: bool, depth: usize, found: &mut Vec<PathBuf>) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", dir.display());
    if depth > MOST_DEPTH {
        return Err(format!("{}: folders nest too deeply", dir.display()));
    }
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        entries.push(entry.map_err(failed)?.path());
    }
    entries.sort();
    for path in entries {
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        if path.is_dir() {
            if recursive {
                manifests(&path, recursive, depth + 1, found)?;
            }
        } else if matches!(extension, "yaml" | "yml" | "json") {
            found.push(path);
        }
        if found.len() > MOST_FILES {
            return Err(format!("{}: more than {MOST_FILES} manifests", dir.display()));
        }
    }
    Ok(())
}
