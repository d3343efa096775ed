//! `fn run`: the functions that a package declares, run over the objects in it.
//!
//! Invariant: nothing is written here. A file in which no object changed keeps every byte, and no path leads out of the
//! package.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};
use std::rc::Rc;

use gantry_yaml::{FileId, Node, parse_documents};

use super::styled::{Item, Value};
use super::{INDEX, Object, PATH, Printing, styled, written};
use crate::FunctionOptions;
use crate::door::Doors;
use crate::error::{Error, Result};
use crate::fs::FileSystem;
use crate::function::Function;
use crate::loader::{LoadRestrictor, Loader};
use crate::resource::Resource;

const FUNCTION: &str = "config.kubernetes.io/function";
/// By this number an object is known again when it comes back.
const ID: &str = "config.k8s.io/id";
/// A function in a folder of this name is for the folder above.
const FUNCTIONS: &str = "functions";
/// A package with more functions is refused.
const MOST_FUNCTIONS: usize = 1000;

/// What is run.
#[derive(Debug)]
pub struct Run<'a> {
    pub objects: Vec<Object>,
    /// Run these, and not those that the objects declare.
    pub functions: Vec<Object>,
    /// Functions of the objects see all of them, and not only those beside and below.
    pub global: bool,
    pub options: FunctionOptions,
    /// Where programs run: an absolute path.
    pub directory: &'a Path,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Ran {
    pub objects: Vec<Object>,
    /// What each function said about objects, as YAML; empty where it said nothing.
    pub results: Vec<String>,
    /// What the functions wrote to their error streams.
    pub notes: Vec<String>,
    /// The functions that were run.
    pub names: Vec<String>,
}

/// Files of the package to write and to remove, by their paths from the package.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub writes: BTreeMap<String, String>,
    pub removals: BTreeSet<String>,
}

/// The configuration of a function that is named on the command line: `ConfigMap`, or another kind, with these data.
pub fn function_object(spec: &str, kind: &str, data: &[(String, String)]) -> Object {
    let mut item = Item::mapping();
    item.entry("apiVersion", || Item::string("v1"));
    item.entry("kind", || Item::string(kind));
    if let Some(metadata) = item.entry("metadata", Item::mapping) {
        metadata.entry("name", || Item::string("function-input"));
        if let Some(annotations) = metadata.entry("annotations", Item::mapping) {
            annotations.entry(FUNCTION, || Item::string(spec));
        }
    }
    if let Some(values) = item.entry("data", Item::mapping) {
        for (key, value) in data {
            values.entry(key, || Item::plain(value));
        }
    }
    Object { item, path: String::new(), index: 0 }
}

/// Runs the functions, deepest folders first, each over the objects in its scope.
pub fn run(fs: &dyn FileSystem, doors: Doors<'_>, run: Run<'_>) -> Result<Ran> {
    let loader = Loader::new(fs, doors, run.directory, LoadRestrictor::None, Rc::default())?;
    let is_explicit = !run.functions.is_empty();
    let mut declared = if is_explicit { run.functions } else { run.objects.clone() };
    if !is_explicit {
        // Deepest first; beside each other by path and place.
        declared.sort_by_key(|object| {
            let scope = scope_of(object);
            let depth = if scope.is_empty() { 0 } else { scope.split('/').count() };
            (std::cmp::Reverse(depth), scope.to_owned(), object.path.clone(), object.index)
        });
    }
    let mut ran = Ran { objects: run.objects, ..Ran::default() };
    for object in declared {
        let Some(function) = function_of(&object)? else { continue };
        if ran.names.len() >= MOST_FUNCTIONS {
            return Err(Error::new(format!("a package runs at most {MOST_FUNCTIONS} functions")));
        }
        ran.names.push(function.name());
        let scope = if is_explicit || run.global { "" } else { scope_of(&object) };
        let (inputs, others): (Vec<Object>, Vec<Object>) =
            std::mem::take(&mut ran.objects).into_iter().partition(|object| is_in_scope(object, scope));
        let answer = one(&function, &object, &inputs, scope, &loader, &run.options)?;
        ran.objects = answer.objects;
        ran.objects.extend(others);
        ran.results.push(answer.results);
        ran.notes.extend(Some(answer.notes).filter(|notes| !notes.is_empty()));
        if ran.objects.is_empty() {
            break;
        }
    }
    Ok(ran)
}

/// The folder whose objects a function sees.
fn scope_of(object: &Object) -> &str {
    let folder = object.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    match folder.rsplit_once('/') {
        Some((above, FUNCTIONS)) => above,
        None if folder == FUNCTIONS => "",
        _ => folder,
    }
}

fn is_in_scope(object: &Object, scope: &str) -> bool {
    let own = scope_of(object);
    scope.is_empty() || own == scope || own.strip_prefix(scope).is_some_and(|rest| rest.starts_with('/'))
}

fn function_of(object: &Object) -> Result<Option<Function>> {
    let text = written::document(&object.item);
    let at = |error: &str| {
        let place = if object.path.is_empty() { "function".to_owned() } else { object.path.clone() };
        Error::new(format!("{place}: {error}"))
    };
    let nodes = parse_documents(FileId(0), &text).map_err(|error| at(error.message()))?;
    let node: Option<Node> = nodes.into_iter().next();
    let Some(node) = node else { return Ok(None) };
    Function::of(&Resource::new(node)).map_err(|error| at(error.message()))
}

struct Answer {
    objects: Vec<Object>,
    results: String,
    notes: String,
}

fn one(
    function: &Function,
    config: &Object,
    inputs: &[Object],
    scope: &str,
    loader: &Loader<'_>,
    options: &FunctionOptions,
) -> Result<Answer> {
    let named = |reason: String| {
        let place = if config.path.is_empty() { String::new() } else { format!("{}: ", config.path) };
        Error::new(format!("{place}function {}: {reason}", function.name()))
    };
    let mut call = function.call(loader, options).map_err(|error| named(error.message().to_owned()))?;
    call.input = resource_list(config, inputs).into_bytes();
    let finished = loader.doors.programs.run(&call).map_err(named)?;
    let text =
        String::from_utf8(finished.output).map_err(|_| named("its output is not UTF-8 text".to_owned()));
    let parsed = text.and_then(|text| {
        styled::documents(FileId(0), &text)
            .map_err(|error| named(format!("line {} of its output: {}", error.span.line(), error.message())))
    });
    if !finished.success {
        let results = parsed.ok().map(|documents| take_list(documents).1).unwrap_or_default();
        let said = [finished.errors.trim(), results.trim()].join("\n");
        return Err(named(format!("{}: {}", finished.status, said.trim())));
    }
    let (items, results) = take_list(parsed?);
    let mut numbers: BTreeMap<String, usize> = BTreeMap::new();
    let mut objects = Vec::with_capacity(items.len());
    for mut item in items {
        let annotation =
            |item: &Item, key: &str| item.text_at(&["metadata", "annotations", key]).map(str::to_owned);
        let known = annotation(&item, ID)
            .and_then(|id| id.parse::<usize>().ok())
            .and_then(|id| inputs.get(id.checked_sub(1)?));
        let path = PATH.iter().rev().find_map(|key| annotation(&item, key));
        let own = || known.map(|known| known.path.clone()).filter(|path| !path.is_empty());
        let path = path.or_else(own).unwrap_or_else(|| default_path(&item, scope));
        check_path(&path).map_err(named)?;
        let index = INDEX.iter().rev().find_map(|key| annotation(&item, key)?.parse().ok());
        let next = numbers.entry(path.clone()).or_insert(0);
        let index = index.unwrap_or(*next);
        *next = (*next).max(index + 1);
        if let Some(annotations) =
            item.entry_if_there("metadata").and_then(|metadata| metadata.entry_if_there("annotations"))
        {
            annotations.remove(ID);
        }
        let mut object = Object { item, path, index };
        object.forget();
        if let Some(known) = known {
            let mut before = known.clone();
            before.forget();
            // What did not change is as it was; what did has the comments that it had.
            if node_of(&before.item) == node_of(&object.item) {
                object.item = before.item;
            } else {
                copy_comments(&before.item, &mut object.item);
            }
        }
        objects.push(object);
    }
    Ok(Answer { objects, results, notes: finished.errors.trim().to_owned() })
}

fn resource_list(config: &Object, inputs: &[Object]) -> String {
    let numbered = |(index, object): (usize, &Object)| {
        let mut object = object.clone();
        object.annotate();
        if let Some(annotations) =
            object.item.entry_if_there("metadata").and_then(|metadata| metadata.entry_if_there("annotations"))
        {
            annotations.remove(ID);
            annotations.entry(ID, || Item::quoted(&(index + 1).to_string()));
        }
        object
    };
    let objects: Vec<Object> = inputs.iter().enumerate().map(numbered).collect();
    let wrap = Some(("ResourceList".to_owned(), "config.kubernetes.io/v1".to_owned()));
    let printing = Printing { keep: true, wrap, ..Printing::default() };
    super::print(&objects, &printing, Some(config))
}

/// The objects and the results of what a function wrote: a list, or bare documents.
fn take_list(documents: Vec<Item>) -> (Vec<Item>, String) {
    let (mut items, mut results) = (Vec::new(), String::new());
    for document in documents {
        if document.text_at(&["kind"]) != Some("ResourceList") {
            items.push(document);
            continue;
        }
        if let Some(found) = document.get("results") {
            results.push_str(&written::document(found));
        }
        if let Some(Item { value: Value::Sequence { items: found, .. }, .. }) = document.get("items") {
            items.extend(found.iter().cloned().map(|mut item| {
                item.lower_head();
                item
            }));
        }
    }
    (items, results)
}

fn node_of(item: &Item) -> Option<Node> {
    parse_documents(FileId(0), &written::document(item)).ok()?.into_iter().next()
}

/// The file of an object that a function made, where it says none.
fn default_path(item: &Item, scope: &str) -> String {
    let part = |path: &[&str]| item.text_at(path).unwrap_or_default().to_lowercase().replace('/', "_");
    let name = format!("{}_{}.yaml", part(&["kind"]), part(&["metadata", "name"]));
    if scope.is_empty() { name } else { format!("{scope}/{name}") }
}

fn check_path(path: &str) -> std::result::Result<(), String> {
    let is_inside = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    if is_inside && !path.is_empty() {
        return Ok(());
    }
    Err(format!("it puts an object into '{path}', which is no file of the package"))
}

/// Gives each part the comments of the part that it was.
fn copy_comments(before: &Item, after: &mut Item) {
    if after.head.is_empty() {
        after.head.clone_from(&before.head);
    }
    if after.line.is_empty() {
        after.line.clone_from(&before.line);
    }
    if after.foot.is_empty() {
        after.foot.clone_from(&before.foot);
    }
    match (&before.value, &mut after.value) {
        (Value::Mapping { entries: old, .. }, Value::Mapping { entries: new, .. }) => {
            for (name, value) in new {
                let known = old.iter().find(|(known, _)| known.text() == name.text());
                if let Some((known, known_value)) = known {
                    copy_comments(known, name);
                    copy_comments(known_value, value);
                }
            }
        }
        (Value::Sequence { items: old, .. }, Value::Sequence { items: new, .. }) => {
            let is_named = old.iter().chain(new.iter()).all(|item| item.get("name").is_some());
            for (index, item) in new.iter_mut().enumerate() {
                let same = |old: &&Item| old.text_at(&["name"]) == item.text_at(&["name"]);
                let known = if is_named { old.iter().find(same) } else { old.get(index) };
                if let Some(known) = known {
                    copy_comments(known, item);
                }
            }
        }
        _ => {}
    }
}

/// What is to be written so that the files hold `after` and not `before`.
pub fn changes(before: &[Object], after: &[Object]) -> Changes {
    let by_file = |objects: &[Object]| {
        let mut files: BTreeMap<String, Vec<Object>> = BTreeMap::new();
        for object in objects {
            files.entry(object.path.clone()).or_default().push(object.clone());
        }
        files.values_mut().for_each(|objects| objects.sort_by_key(|object| object.index));
        let printed = |objects: Vec<Object>| super::print(&objects, &Printing::default(), None);
        files.into_iter().map(|(path, objects)| (path, printed(objects))).collect::<BTreeMap<_, _>>()
    };
    let (old, new) = (by_file(before), by_file(after));
    let removals = old.keys().filter(|path| !new.contains_key(*path)).cloned().collect();
    let writes = new.into_iter().filter(|(path, text)| old.get(path) != Some(text)).collect();
    Changes { writes, removals }
}
