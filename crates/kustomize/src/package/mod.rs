//! Packages: folders of files with objects, as `cfg` looks at them. No kustomization is built.
//!
//! Invariant: nothing is written here. What is printed keeps comments, quotes and braces as they were read.

mod find;
mod grep;
mod order;
mod run;
mod styled;
mod tree;
mod written;

use std::path::{Path, PathBuf};

use gantry_yaml::FileId;

use crate::error::{Error, Result};
use crate::fs::FileSystem;
use styled::{Item, Value};

pub use grep::Query;
pub use run::{Changes, Ran, Run, changes, function_object, run};
pub use tree::{Fields, Structure, has_owners, tree};

/// A package with more is not read.
const MOST_FILES: usize = 100_000;
const MOST_DEPTH: usize = 64;

/// Says that a folder is a package of its own.
pub const PACKAGE_FILE: &str = "Krmfile";
const IGNORE_FILE: &str = ".krmignore";
const LOCAL: &str = "config.kubernetes.io/local-config";
/// Where an object was read, in the older and in the newer spelling.
const PATH: [&str; 2] = ["config.kubernetes.io/path", "internal.config.kubernetes.io/path"];
const INDEX: [&str; 2] = ["config.kubernetes.io/index", "internal.config.kubernetes.io/index"];

/// One object of a package.
#[derive(Clone, Debug)]
pub struct Object {
    item: Item,
    /// Its file, from the package; empty for what came from a stream.
    path: String,
    /// Its number in the file.
    index: usize,
}

/// How objects are printed.
#[derive(Clone, Debug, Default)]
pub struct Printing {
    /// Sort fields as people expect them.
    pub format: bool,
    /// Say in annotations where each object was read.
    pub annotate: bool,
    /// Leave annotations that say so as they are.
    pub keep: bool,
    pub strip_comments: bool,
    /// Each object in braces.
    pub flow: bool,
    /// Kind and version of a list that has the objects as its items.
    pub wrap: Option<(String, String)>,
}

// === impl Object ===

impl Object {
    fn text_at(&self, path: &[&str]) -> &str {
        self.item.text_at(path).unwrap_or_default()
    }

    /// Empty where it has none.
    pub fn kind(&self) -> &str {
        self.text_at(&["kind"])
    }

    fn annotation(&self, key: &str) -> Option<&str> {
        self.item.text_at(&["metadata", "annotations", key])
    }

    /// Whether it says that it is not for a cluster.
    pub fn is_local(&self) -> bool {
        self.annotation(LOCAL).is_some()
    }

    fn annotate(&mut self) {
        let metadata = self.item.entry("metadata", Item::mapping);
        let Some(annotations) = metadata.and_then(|item| item.entry("annotations", Item::mapping)) else {
            return;
        };
        let index = self.index.to_string();
        let paths = PATH.iter().map(|key| (*key, self.path.as_str())).filter(|(_, path)| !path.is_empty());
        let mut notes: Vec<(&str, &str)> =
            INDEX.iter().map(|key| (*key, index.as_str())).chain(paths).collect();
        notes.sort_unstable();
        for (key, value) in notes {
            annotations.remove(key);
            annotations.entry(key, || Item::quoted(value));
        }
    }

    /// Forgets where it was read.
    fn forget(&mut self) {
        let Some(metadata) = self.item.entry_if_there("metadata") else { return };
        let Some(annotations) = metadata.entry_if_there("annotations") else { return };
        INDEX.iter().chain(&PATH).for_each(|key| annotations.remove(key));
        if annotations.entries().is_empty() {
            metadata.remove("annotations");
        }
        if metadata.entries().is_empty() {
            self.item.remove("metadata");
        }
    }
}

/// Reads the objects in the YAML files of a folder and of those below, or those of one file. With `own_only`, folders
/// that are packages of their own are left out. `path` is absolute.
pub fn read(fs: &dyn FileSystem, path: &Path, own_only: bool) -> Result<Vec<Object>> {
    let root = fs.canonical(path).map_err(|error| Error::new(format!("{}: {error}", path.display())))?;
    let mut files = Vec::new();
    let base = if fs.is_dir(&root) {
        walk(fs, &root, own_only, 0, &mut files)?;
        root
    } else {
        files.push(root.clone());
        root.parent().unwrap_or(&root).to_owned()
    };
    let mut objects = Vec::new();
    for file in files {
        let named = |error: Error| {
            let span = error.span;
            let place = format!("{}:{}:{}", file.display(), span.line().max(1), span.column().max(1));
            Error::new(format!("{place}: {}", error.message()))
        };
        let bytes = fs.read(&file).map_err(|error| Error::new(format!("{}: {error}", file.display())))?;
        let text = String::from_utf8(bytes).map_err(|_| named(Error::new("this is not UTF-8 text")))?;
        let own = file.strip_prefix(&base).unwrap_or(&file).display().to_string();
        let items = styled::documents(FileId(0), &text).map_err(named)?;
        objects.extend(items.into_iter().enumerate().map(|(index, item)| Object {
            item,
            path: own.clone(),
            index,
        }));
    }
    Ok(objects)
}

/// Reads the objects of a stream; the items of a list that is alone in it count as objects.
pub fn read_stream(text: &str) -> Result<Vec<Object>> {
    let items = styled::documents(FileId(0), text).map_err(|error| {
        let span = error.span;
        Error::new(format!(
            "standard input:{}:{}: {}",
            span.line().max(1),
            span.column().max(1),
            error.message()
        ))
    })?;
    let items = match items.as_slice() {
        [only] if matches!(only.text_at(&["kind"]), Some("List" | "ResourceList")) => match only.get("items")
        {
            Some(Item { value: Value::Sequence { items, .. }, .. }) => items.clone(),
            _ => items,
        },
        _ => items,
    };
    let object = |(index, item): (usize, Item)| {
        let path = PATH.iter().find_map(|key| item.text_at(&["metadata", "annotations", key]));
        Object { path: path.unwrap_or_default().to_owned(), index, item }
    };
    Ok(items.into_iter().enumerate().map(object).collect())
}

/// The YAML files of a folder, in the order of their names; links to folders are not followed.
fn walk(
    fs: &dyn FileSystem,
    folder: &Path,
    own_only: bool,
    depth: usize,
    files: &mut Vec<PathBuf>,
) -> Result<()> {
    let shown = folder.display();
    if depth > MOST_DEPTH {
        return Err(Error::new(format!("{shown}: a package nests at most {MOST_DEPTH} folders")));
    }
    let names = fs.list(folder).map_err(|error| Error::new(format!("{shown}: {error}")))?;
    if names.iter().any(|name| name == IGNORE_FILE) {
        return Err(Error::new(format!(
            "{shown}/{IGNORE_FILE}:1:1: ignore files are not supported: move the file away, or name the folders to read"
        )));
    }
    for name in names {
        let path = folder.join(&name);
        if fs.is_dir(&path) {
            let is_link = !fs.canonical(&path).is_ok_and(|found| found == path);
            let is_package = fs.canonical(&path.join(PACKAGE_FILE)).is_ok();
            let is_of_another = own_only && is_package;
            if !is_link && !is_of_another {
                walk(fs, &path, own_only, depth + 1, files)?;
            }
        } else if name.ends_with(".yaml") || name.ends_with(".yml") {
            files.push(path);
            if files.len() > MOST_FILES {
                return Err(Error::new(format!("{shown}: a package has at most {MOST_FILES} files")));
            }
        }
    }
    Ok(())
}

/// The folder, if it is a package, and those below that are, in the order in which they are found; always the folder.
pub fn packages(fs: &dyn FileSystem, root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = vec![root.to_owned()];
    let mut open = vec![(root.to_owned(), 0)];
    while let Some((folder, depth)) = open.pop() {
        if depth > MOST_DEPTH {
            return Err(Error::new(format!(
                "{}: a package nests at most {MOST_DEPTH} folders",
                folder.display()
            )));
        }
        let names = fs.list(&folder).map_err(|error| Error::new(format!("{}: {error}", folder.display())))?;
        let below = names.iter().map(|name| folder.join(name));
        let is_own = |path: &PathBuf| {
            let parent =
                fs.canonical(&folder).map(|folder| folder.join(path.file_name().unwrap_or_default()));
            fs.is_dir(path) && parent.is_ok_and(|own| fs.canonical(path).is_ok_and(|found| found == own))
        };
        let folders: Vec<PathBuf> = below.filter(is_own).collect();
        if folder != root && names.iter().any(|name| name == PACKAGE_FILE) {
            found.push(folder);
        }
        open.extend(folders.into_iter().rev().map(|folder| (folder, depth + 1)));
    }
    Ok(found)
}

/// How many objects there are of each kind, sorted.
pub fn count(objects: &[Object]) -> Vec<(String, usize)> {
    let mut counts = std::collections::BTreeMap::new();
    for object in objects {
        *counts.entry(object.kind().to_owned()).or_insert(0) += 1;
    }
    counts.into_iter().collect()
}

/// The objects as text. `config` is what a list has as its function's configuration.
pub fn print(objects: &[Object], printing: &Printing, config: Option<&Object>) -> String {
    let mut items = Vec::with_capacity(objects.len());
    for object in objects {
        let mut object = object.clone();
        if printing.annotate {
            object.annotate();
        } else if !printing.keep {
            object.forget();
        }
        if printing.format {
            order::sort(&mut object.item);
        }
        if printing.strip_comments {
            object.item.strip_comments();
        }
        if let (true, Value::Mapping { flow, .. }) = (printing.flow, &mut object.item.value) {
            *flow = true;
        }
        items.push(object.item);
    }
    let Some((kind, version)) = &printing.wrap else {
        let texts: Vec<String> = items.iter().map(written::document).collect();
        return texts.join("---\n");
    };
    items.iter_mut().for_each(Item::lift_head);
    let mut entries = vec![
        (Item::string("apiVersion"), Item::string(version)),
        (Item::string("kind"), Item::string(kind)),
        (Item::string("items"), Item::new(Value::Sequence { items, flow: false })),
    ];
    if let Some(config) = config {
        let mut config = config.clone();
        config.forget();
        entries.push((Item::string("functionConfig"), config.item));
    }
    written::document(&Item::new(Value::Mapping { entries, flow: printing.flow }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::Memory;

    const ODD: &str = "# about it\nkind: Deployment # kind\napiVersion: apps/v1\nspec:\n    template:\n        spec:\n            \
                       containers:\n            # second\n            - image: \"b:1\"   # tag\n              name: 'b'\n            \
                       - {name: a, args: [x, \"y\"]}\n    text: |\n        one\n          # two\n    replicas: 3\nmetadata:\n    \
                       labels: # of it\n        z: 'yes'\n    name: web\n# the end\n";

    fn package(files: &[(&str, &str)]) -> Memory {
        let mut fs = Memory::default();
        files.iter().for_each(|(path, text)| fs.insert(*path, *text));
        fs
    }

    fn printed(text: &str, printing: &Printing) -> String {
        print(&read_stream(text).unwrap(), printing, None)
    }

    #[test]
    fn what_is_printed_has_its_comments_quotes_and_braces() {
        let found = printed(ODD, &Printing::default());
        let expected = "# about it\nkind: Deployment # kind\napiVersion: apps/v1\nspec:\n  template:\n    spec:\n      \
                        containers:\n      # second\n      - image: \"b:1\" # tag\n        name: 'b'\n      \
                        - {name: a, args: [x, \"y\"]}\n  text: |\n    one\n      # two\n  replicas: 3\nmetadata:\n  \
                        labels: # of it\n    z: 'yes'\n  name: web\n# the end\n";
        assert_eq!(found, expected);
        assert_eq!(printed(expected, &Printing::default()), expected, "printing again changes nothing");
    }

    #[test]
    fn formatting_sorts_fields_and_lists_that_have_no_order() {
        let found = printed(ODD, &Printing { format: true, strip_comments: true, ..Printing::default() });
        let expected = "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\n  labels:\n    z: 'yes'\nspec:\n  \
                        replicas: 3\n  template:\n    spec:\n      containers:\n      - {name: a, args: [x, \"y\"]}\n      \
                        - name: 'b'\n        image: \"b:1\"\n  text: |\n    one\n      # two\n";
        assert_eq!(found, expected);
    }

    #[test]
    fn documents_are_told_apart_and_may_say_where_they_were_read() {
        let fs = package(&[
            ("/p/a.yaml", "kind: A\nmetadata:\n  name: a\n# of a\n---\nkind: B # b\n"),
            ("/p/sub/b.yml", "kind: C\n"),
            ("/p/not.json", "{}"),
        ]);
        let objects = read(&fs, Path::new("/p"), false).unwrap();
        let found = print(&objects, &Printing { annotate: true, ..Printing::default() }, None);
        let notes = |index: &str, path: &str, pad: &str| {
            format!(
                "{pad}  config.kubernetes.io/index: '{index}'\n{pad}  config.kubernetes.io/path: '{path}'\n{pad}  \
                 internal.config.kubernetes.io/index: '{index}'\n{pad}  internal.config.kubernetes.io/path: '{path}'\n"
            )
        };
        let expected = format!(
            "kind: A\nmetadata:\n  name: a\n  annotations:\n{}# of a\n---\nkind: B # b\nmetadata:\n  annotations:\n{}---\n\
             kind: C\nmetadata:\n  annotations:\n{}",
            notes("0", "a.yaml", "  "),
            notes("1", "a.yaml", "  "),
            notes("0", "sub/b.yml", "  ")
        );
        assert_eq!(found, expected);
        assert_eq!(
            printed(&found, &Printing::default()),
            "kind: A\nmetadata:\n  name: a\n# of a\n---\nkind: B # b\n---\nkind: C\n"
        );
        assert_eq!(count(&objects), [("A".into(), 1), ("B".into(), 1), ("C".into(), 1)]);
    }

    #[test]
    fn a_list_is_taken_apart_and_put_together() {
        let list = "apiVersion: v1\nkind: List\nitems:\n- kind: A\n  metadata:\n    name: a\n- kind: B\n";
        let objects = read_stream(list).unwrap();
        assert_eq!(objects.len(), 2);
        let printing = Printing { wrap: Some(("List".into(), "v1".into())), ..Printing::default() };
        assert_eq!(print(&objects, &printing, None), list);
        let config = &objects[1];
        assert!(print(&objects, &printing, Some(config)).ends_with("functionConfig:\n  kind: B\n"));
    }

    #[test]
    fn packages_below_are_found_and_may_be_left_out() {
        let fs = package(&[
            ("/p/a.yaml", "kind: A\n"),
            ("/p/sub/Krmfile", ""),
            ("/p/sub/b.yaml", "kind: B\n"),
            ("/p/plain/c.yaml", "kind: C\n"),
        ]);
        assert_eq!(packages(&fs, Path::new("/p")).unwrap(), [Path::new("/p"), Path::new("/p/sub")]);
        assert_eq!(read(&fs, Path::new("/p"), true).unwrap().len(), 2);
        assert_eq!(read(&fs, Path::new("/p"), false).unwrap().len(), 3);
    }

    #[test]
    fn what_cannot_be_read_is_named_with_its_place() {
        let fs = package(&[("/p/a.yaml", "a: [1\n"), ("/q/.krmignore", "x"), ("/q/a.yaml", "a: 1\n")]);
        let error = |path: &str| read(&fs, Path::new(path), false).unwrap_err().to_string();
        assert!(error("/p").starts_with("/p/a.yaml:"), "{}", error("/p"));
        assert!(error("/q").starts_with("/q/.krmignore:1:1: ignore files are not supported"));
        assert!(error("/r").contains("/r"));
    }
}
