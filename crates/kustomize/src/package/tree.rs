//! A package as a tree: folders with objects, or owners with what they own, and chosen fields of each object.

use std::collections::{BTreeMap, HashMap};

use super::find::{find, steps};
use super::styled::Item;
use super::written::shown;
use super::{Object, order};
use crate::error::{Error, Result};

/// Owners nest no deeper.
const MOST_DEPTH: usize = 64;

/// What the branches are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Structure {
    Directory,
    Owners,
}

/// Paths of fields that are shown.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    paths: Vec<Vec<String>>,
}

/// Where containers are, each with the fields in it shown as branches of the container.
const CONTAINERS: [&str; 3] =
    ["spec.containers", "spec.template.spec.containers", "spec.jobTemplate.spec.template.spec.containers"];

// === impl Fields ===

impl Fields {
    /// A path as `spec.replicas`.
    pub fn add(&mut self, path: &str) -> Result<()> {
        self.paths.push(steps(path)?);
        Ok(())
    }

    /// A field of every container.
    pub fn add_of_containers(&mut self, field: &str) {
        for containers in CONTAINERS {
            let containers = containers.split('.').map(str::to_owned);
            self.paths.push(containers.chain(["[name=.*]".to_owned(), field.to_owned()]).collect());
        }
    }
}

struct Branch {
    label: String,
    below: Vec<Branch>,
}

impl Branch {
    fn new(label: impl Into<String>) -> Branch {
        Branch { label: label.into(), below: Vec::new() }
    }

    fn write(&self, out: &mut String, before: &str) {
        for (index, branch) in self.below.iter().enumerate() {
            let is_last = index + 1 == self.below.len();
            let (edge, pad) = if is_last { ("└── ", "    ") } else { ("├── ", "│   ") };
            out.push_str(&format!("{before}{edge}{}\n", branch.label));
            branch.write(out, &format!("{before}{pad}"));
        }
    }
}

/// The tree of a package that is called `root`. `is_package` says which folders below are packages of their own.
pub fn tree(
    objects: &[Object],
    root: &str,
    structure: Structure,
    fields: &Fields,
    is_package: &dyn Fn(&str) -> bool,
) -> Result<String> {
    let branch = match structure {
        Structure::Directory => of_folders(objects, root, fields, is_package)?,
        Structure::Owners => of_owners(objects, fields)?,
    };
    let mut out = format!("{}\n", branch.label);
    branch.write(&mut out, "");
    Ok(out)
}

/// Whether one of the objects says that another owns it.
pub fn has_owners(objects: &[Object]) -> bool {
    objects.iter().any(|object| {
        object.item.get("metadata").is_some_and(|metadata| metadata.get("ownerReferences").is_some())
    })
}

fn folder_of(object: &Object) -> &str {
    object.path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

fn file_of(object: &Object) -> &str {
    object.path.rsplit('/').next().unwrap_or_default()
}

fn of_folders(
    objects: &[Object],
    root: &str,
    fields: &Fields,
    is_package: &dyn Fn(&str) -> bool,
) -> Result<Branch> {
    let mut folders: BTreeMap<&str, Vec<&Object>> = BTreeMap::new();
    for object in objects.iter().filter(|object| !object.kind().is_empty()) {
        folders.entry(folder_of(object)).or_default().push(object);
    }
    let mut made: BTreeMap<&str, Branch> = BTreeMap::new();
    for (folder, mut objects) in folders {
        let name = folder.rsplit('/').next().unwrap_or_default();
        let label = match folder {
            "" => root.to_owned(),
            folder if is_package(folder) => format!("Pkg: {name}"),
            _ => name.to_owned(),
        };
        objects.sort_by_cached_key(|object| sort_key(object));
        let below = objects.iter().map(|object| of_object(object, file_of(object), fields));
        made.insert(folder, Branch { label, below: below.collect::<Result<_>>()? });
    }
    let mut top = made.remove("").unwrap_or_else(|| Branch::new(root));
    // Deepest first: each goes below the nearest folder above it that has objects too.
    let names: Vec<&str> = made.keys().copied().collect();
    let mut loose: Vec<(&str, Branch)> = Vec::new();
    for name in names.iter().rev() {
        let Some(branch) = made.remove(name) else { continue };
        let above = names.iter().filter(|above| is_below(name, above)).max_by_key(|above| above.len());
        match above.and_then(|above| made.get_mut(above)) {
            // Folders come after objects, in order.
            Some(above) => {
                let objects = above.below.iter().take_while(|branch| branch.label.starts_with('[')).count();
                above.below.insert(objects, branch);
            }
            None => loose.push((*name, branch)),
        }
    }
    top.below.extend(loose.into_iter().rev().map(|(_, branch)| branch));
    Ok(top)
}

fn is_below(folder: &str, above: &str) -> bool {
    folder.strip_prefix(above).is_some_and(|rest| rest.starts_with('/'))
}

/// By file, namespace, name, kind and version.
fn sort_key(object: &Object) -> [String; 5] {
    let metadata = |key: &str| object.text_at(&["metadata", key]).to_owned();
    [
        file_of(object).to_owned(),
        metadata("namespace"),
        metadata("name"),
        object.kind().to_owned(),
        object.text_at(&["apiVersion"]).to_owned(),
    ]
}

fn of_object(object: &Object, place: &str, fields: &Fields) -> Result<Branch> {
    let (name, namespace) =
        (object.text_at(&["metadata", "name"]), object.text_at(&["metadata", "namespace"]));
    let full = if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") };
    let mut branch = Branch::new(format!("[{place}]  {} {full}", object.kind()));
    branch.below = chosen(&object.item, fields)?;
    Ok(branch)
}

/// The fields, and their values, of each container of a list.
type Containers = BTreeMap<String, Vec<(String, String)>>;

/// The chosen fields that the object has: values, and containers by number with their values.
fn chosen(item: &Item, fields: &Fields) -> Result<Vec<Branch>> {
    let mut values: BTreeMap<(usize, String), Branch> = BTreeMap::new();
    let mut nested: BTreeMap<&str, Containers> = BTreeMap::new();
    for path in &fields.paths {
        let found = find(item, path)?;
        let name = path.join(".");
        let containers = CONTAINERS.iter().find(|containers| name.starts_with(**containers));
        for found in &found {
            let text = shown(found.item);
            match containers {
                Some(containers) => {
                    let field = path.last().cloned().unwrap_or_default();
                    let elements = nested.entry(*containers).or_default();
                    elements.entry(found.matches.join("/")).or_default().push((field, text));
                }
                None => {
                    values.entry(order::key(&name)).or_insert_with(|| Branch::new(format!("{name}: {text}")));
                }
            }
        }
    }
    for (containers, elements) in nested {
        let mut branch = Branch::new(containers);
        for (index, (_, mut fields)) in elements.into_iter().enumerate() {
            fields.sort_by_cached_key(|(field, text)| (order::key(field), text.clone()));
            let below = fields.iter().map(|(field, text)| Branch::new(format!("{field}: {text}")));
            branch.below.push(Branch { label: index.to_string(), below: below.collect() });
        }
        values.insert(order::key(containers), branch);
    }
    Ok(values.into_values().collect())
}

fn of_owners(objects: &[Object], fields: &Fields) -> Result<Branch> {
    let id = |kind: &str, namespace: &str, name: &str| format!("{kind} {namespace}/{name}");
    let mut own: HashMap<String, usize> = HashMap::new();
    for (index, object) in objects.iter().enumerate() {
        let metadata = |key: &str| object.text_at(&["metadata", key]);
        own.insert(id(object.kind(), metadata("namespace"), metadata("name")), index);
    }
    let mut below: Vec<Vec<usize>> = vec![Vec::new(); objects.len()];
    let mut free = Vec::new();
    for (index, object) in objects.iter().enumerate() {
        let references = object.item.get("metadata").and_then(|metadata| metadata.get("ownerReferences"));
        let first = match references.map(|references| &references.value) {
            Some(super::styled::Value::Sequence { items, .. }) => items.first(),
            _ => None,
        };
        let Some(owner) = first else {
            free.push(index);
            continue;
        };
        let part = |key: &str| owner.text_at(&[key]).unwrap_or_default();
        let owner = id(part("kind"), object.text_at(&["metadata", "namespace"]), part("name"));
        let owner = own.get(&owner).ok_or_else(|| {
            Error::new(format!("owner '{owner}' not found in input, but found as an owner of input objects"))
        })?;
        below[*owner].push(index);
    }
    let mut root = Branch::new(".");
    root.below = branches(objects, &below, free, fields, 0)?;
    Ok(root)
}

fn branches(
    objects: &[Object],
    below: &[Vec<usize>],
    mut indices: Vec<usize>,
    fields: &Fields,
    depth: usize,
) -> Result<Vec<Branch>> {
    if depth > MOST_DEPTH {
        return Err(Error::new(format!("owners nest deeper than {MOST_DEPTH}")));
    }
    indices.sort_by_cached_key(|index| sort_key(&objects[*index]));
    let mut made = Vec::with_capacity(indices.len());
    for index in indices {
        let mut branch = of_object(&objects[index], "Resource", fields)?;
        branch.below.extend(branches(objects, below, below[index].clone(), fields, depth + 1)?);
        made.push(branch);
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::fs::Memory;
    use crate::package::{read, read_stream};

    #[test]
    fn folders_have_their_objects_and_then_the_folders_below() {
        let mut fs = Memory::default();
        let deployment = "kind: Deployment\nmetadata: {name: web, namespace: shop}\nspec:\n  replicas: 3\n  template:\n    \
                          spec:\n      containers:\n      - {name: b, image: b:1, ports: [{containerPort: 80}]}\n      \
                          - name: a\n        image: \"a:1\" # new\n";
        for (path, text) in [
            ("/p/z.yaml", "kind: Service\nmetadata: {name: z}\n---\nno: kind\n"),
            ("/p/a.yaml", deployment),
            ("/p/sub/deep/x.yaml", "kind: ConfigMap\nmetadata: {name: x}\n"),
            ("/p/sub/y.yaml", "kind: ConfigMap\nmetadata: {name: y}\n"),
            ("/p/alone/down/q.yaml", "kind: ConfigMap\nmetadata: {name: q}\n"),
        ] {
            fs.insert(path, text);
        }
        let objects = read(&fs, Path::new("/p"), false).unwrap();
        let mut fields = Fields::default();
        fields.add("spec.replicas").unwrap();
        fields.add_of_containers("image");
        fields.add_of_containers("ports");
        let found = tree(&objects, "p", Structure::Directory, &fields, &|folder| folder == "sub").unwrap();
        let expected = "\
p
├── [a.yaml]  Deployment shop/web
│   ├── spec.replicas: 3
│   └── spec.template.spec.containers
│       ├── 0
│       │   └── image: a:1
│       └── 1
│           ├── image: b:1
│           └── ports: [{containerPort: 80}]
├── [z.yaml]  Service z
├── down
│   └── [q.yaml]  ConfigMap q
└── Pkg: sub
    ├── [y.yaml]  ConfigMap y
    └── deep
        └── [x.yaml]  ConfigMap x
";
        // Files come before the namespace in the order: a.yaml, z.yaml.
        assert_eq!(found, expected, "{found}");
    }

    #[test]
    fn owners_have_what_they_own() {
        let text = "kind: Pod\nmetadata:\n  name: p\n  namespace: n\n  ownerReferences: [{kind: Set, name: s}]\n---\n\
                    kind: Set\nmetadata: {name: s, namespace: n}\n---\nkind: Alone\nmetadata: {name: a}\n";
        let objects = read_stream(text).unwrap();
        assert!(has_owners(&objects));
        let found = tree(&objects, "x", Structure::Owners, &Fields::default(), &|_| false).unwrap();
        assert_eq!(
            found,
            ".\n├── [Resource]  Alone a\n└── [Resource]  Set n/s\n    └── [Resource]  Pod n/p\n"
        );
        let error = tree(&objects[..1], "x", Structure::Owners, &Fields::default(), &|_| false).unwrap_err();
        assert!(error.message().contains("owner 'Set n/s' not found"), "{error}");
    }
}
