//! ConfigMap and Secret generators of a kustomization. What a change comes to is generated once, so that nothing is
//! written that a build would refuse.

use gantry_yaml::Node;

use super::document::Document;
use super::tree;
use super::{GeneratorChange, GeneratorSources, glob};
use crate::error::{Error, Result};
use crate::fs::FileSystem;
use crate::generate::{self, Kind};
use crate::kustomization::{Generator, GeneratorOptions};
use crate::resource::Behavior;

fn field_of(kind: Kind) -> &'static str {
    match kind {
        Kind::ConfigMap => "configMapGenerator",
        Kind::Secret => "secretGenerator",
    }
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::ConfigMap => "ConfigMap",
        Kind::Secret => "Secret",
    }
}

fn is_entry(entry: &Node, name: &str, namespace: &str) -> bool {
    entry.text_at(&["name"]) == Some(name)
        && tree::is_same_namespace(entry.text_at(&["namespace"]).unwrap_or_default(), namespace)
}

/// Adds sources to the generator of that name and namespace, or a generator with them.
pub(super) fn add(
    fs: &dyn FileSystem,
    document: &mut Document<'_>,
    kind: Kind,
    sources: &GeneratorSources,
    notes: &mut Vec<String>,
) -> Result<()> {
    let files =
        expand(fs, document, sources, notes).map_err(|error| error.wrap("failed to expand file source"))?;
    check(sources, &files).map_err(|error| error.wrap("failed to validate flags"))?;
    let doing = format!("failed to create {}", kind_name(kind).to_lowercase());
    let field = field_of(kind);
    let position =
        document.items(field).iter().position(|entry| is_entry(entry, &sources.name, &sources.namespace));
    let mut entry = match position {
        Some(index) => document.items(field)[index].clone(),
        None => {
            let secret_type = match (kind, sources.secret_type.as_str()) {
                (Kind::ConfigMap, _) => "",
                (Kind::Secret, "") => "Opaque",
                (Kind::Secret, secret_type) => secret_type,
            };
            tree::filled(&[("name", &sources.name), ("namespace", &sources.namespace), ("type", secret_type)])
        }
    };
    tree::append(&mut entry, "literals", &sources.literals);
    tree::append(&mut entry, "files", &files);
    if let Some(env) = entry.remove("env") {
        tree::append(&mut entry, "envs", &[env.text().unwrap_or_default().to_owned()]);
    }
    if !sources.env_file.is_empty() {
        tree::append(&mut entry, "envs", std::slice::from_ref(&sources.env_file));
    }
    if sources.disable_name_suffix_hash {
        let mut options = entry.get("options").cloned().unwrap_or_else(|| tree::mapping([]));
        tree::set(&mut options, "disableNameSuffixHash", tree::boolean(true));
        replace(&mut entry, "options", options);
    }
    if !sources.behavior.is_empty() {
        tree::set(&mut entry, "behavior", tree::string(&sources.behavior));
    }
    validate(document, kind, &entry).map_err(|error| error.wrap(doing))?;
    document.change_list(field, |entries| match position {
        Some(index) => entries[index] = entry,
        None => entries.push(entry),
    });
    Ok(())
}

/// Changes literals, and the namespace, of a generator that is there.
pub(super) fn set(document: &mut Document<'_>, kind: Kind, change: &GeneratorChange) -> Result<()> {
    if change.literals.is_empty() && change.new_namespace.is_empty() {
        return Err(Error::new(
            "failed to validate flags: at least one of [--from-literal, --new-namespace] must be specified",
        ));
    }
    let doing = format!("failed to create {}", kind_name(kind).to_lowercase());
    let field = field_of(kind);
    let found =
        document.items(field).iter().position(|entry| is_entry(entry, &change.name, &change.namespace));
    let Some(index) = found else {
        let name = kind_name(kind);
        let message = format!(
            "{doing}: could not set new {name} value: unable to find {name} with name \"{}\"",
            change.name
        );
        return Err(document.field_error(message, field));
    };
    let mut entry = document.items(field)[index].clone();
    for literal in &change.literals {
        set_literal(&mut entry, literal).map_err(|error| {
            error.wrap(format!("{doing}: failed to update literal sources")).or_at(entry.span)
        })?;
    }
    if !change.new_namespace.is_empty() {
        tree::set(&mut entry, "namespace", tree::string(&change.new_namespace));
    }
    validate(document, kind, &entry)
        .map_err(|error| error.wrap(format!("{doing}: failed to validate {} structure", kind_name(kind))))?;
    document.change_list(field, |entries| entries[index] = entry);
    Ok(())
}

/// Removes generators by name in one namespace. Some must be there; the others are noted.
pub(super) fn remove(
    document: &mut Document<'_>,
    kind: Kind,
    names: &[String],
    namespace: &str,
    notes: &mut Vec<String>,
) -> Result<()> {
    let field = field_of(kind);
    let what = kind_name(kind).to_lowercase();
    let is_there = |name: &String| document.items(field).iter().any(|entry| is_entry(entry, name, namespace));
    let (found, missing): (Vec<&String>, Vec<&String>) = names.iter().partition(|name| is_there(name));
    if found.is_empty() {
        let message = format!("no specified {what}(s) were found in the {} file", document.file_name);
        return Err(document.field_error(message, field));
    }
    notes.extend(missing.iter().map(|name| format!("{what} {name} doesn't exist in kustomization file")));
    document.change_list(field, |entries| {
        entries.retain(|entry| !names.iter().any(|name| is_entry(entry, name, namespace)));
    });
    Ok(())
}

fn replace(entry: &mut Node, key: &str, value: Node) {
    match entry.get_mut(key) {
        Some(old) => *old = value,
        None => tree::set(entry, key, value),
    }
}

/// `key=value` with both parts; the value has no further `=`, as upstream has it.
fn literal_parts(literal: &str) -> Result<(&str, &str)> {
    literal.split_once('=').filter(|(_, value)| !value.contains('=')).ok_or_else(|| {
        Error::new(
            "failed to update resource: invalid format: literal values must be specified in the key=value format",
        )
    })
}

fn set_literal(entry: &mut Node, literal: &str) -> Result<()> {
    let (key, _) = literal_parts(literal)?;
    let has_key = |item: &&mut Node| {
        item.text().and_then(|text| text.split_once('=')).is_some_and(|(name, _)| name == key)
    };
    let literals = entry.get_mut("literals").and_then(Node::as_sequence_mut);
    match literals.and_then(|items| items.iter_mut().find(has_key)) {
        Some(item) => {
            item.data = tree::string(literal).data;
            Ok(())
        }
        None => Err(Error::new(format!("failed to update resource: key '{key}' not found in resource"))),
    }
}

fn check(sources: &GeneratorSources, files: &[String]) -> Result<()> {
    if sources.env_file.is_empty() && files.is_empty() && sources.literals.is_empty() {
        return Err(Error::new("at least from-env-file, or from-file or from-literal must be set"));
    }
    if !sources.env_file.is_empty() && (!files.is_empty() || !sources.literals.is_empty()) {
        return Err(Error::new("from-env-file cannot be combined with from-file or from-literal"));
    }
    if !sources.behavior.is_empty() && Behavior::parse(&sources.behavior) == Behavior::Unspecified {
        return Err(Error::new("invalid behavior: must be one of \"create\", \"merge\", or \"replace\""));
    }
    Ok(())
}

/// File sources with their patterns replaced by what matches; with a key a pattern stands for one file.
fn expand(
    fs: &dyn FileSystem,
    document: &Document<'_>,
    sources: &GeneratorSources,
    notes: &mut Vec<String>,
) -> Result<Vec<String>> {
    let mut files = Vec::new();
    for source in &sources.files {
        let (key, pattern) = match source.split_once('=') {
            Some((_, path)) if path.contains('=') => {
                return Err(Error::new(format!("source \"{source}\" key name or file path contains '='")));
            }
            Some((key, pattern)) => (key, pattern),
            None => ("", source.as_str()),
        };
        let found = glob::files(fs, &document.loader.root, pattern)?;
        if found.is_empty() {
            notes.push(format!("{pattern} has no match"));
        }
        match (key, found.as_slice()) {
            ("", _) => files.extend(found),
            (key, [only]) => files.push(format!("{key}={only}")),
            _ => {
                return Err(Error::new(format!(
                    "pattern '{source}' catches files [{}], should catch only one",
                    found.join(" ")
                )));
            }
        }
    }
    Ok(files)
}

fn validate(document: &Document<'_>, kind: Kind, entry: &Node) -> Result<()> {
    let span = if entry.span.is_none() { document.span() } else { entry.span };
    let typed: Generator = gantry_yaml::from_node(entry)
        .map_err(|error| Error::at(error.message(), error.span()).or_at(span))?;
    let options: Option<GeneratorOptions> = match document.get("generatorOptions") {
        Some(options) => Some(
            gantry_yaml::from_node(options)
                .map_err(|error| Error::at(error.message(), error.span()).or_at(span))?,
        ),
        None => None,
    };
    generate::generate(kind, &typed, options.as_ref(), &document.loader, span).map(|_| ())
}
