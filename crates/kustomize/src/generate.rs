//! ConfigMaps and Secrets from literals, files and environment files.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gantry_yaml::{Node, Span};

use crate::error::{Error, Result};
use crate::kustomization::{Generator, GeneratorOptions};
use crate::loader::Loader;
use crate::resource::{Behavior, Resource};

/// What a generator makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    ConfigMap,
    Secret,
}

/// Base64 of a Secret is broken into lines of this length where it is longer.
const SECRET_LINE: usize = 70;

/// The resource that a generator's entry describes. `span` is the entry's place.
pub(crate) fn generate(
    kind: Kind,
    entry: &Generator,
    global: Option<&GeneratorOptions>,
    loader: &Loader<'_>,
    span: Span,
) -> Result<Resource> {
    if entry.name.is_empty() {
        return Err(Error::at("a configmap must have a name", span));
    }
    let kind_name = match kind {
        Kind::ConfigMap => "ConfigMap",
        Kind::Secret => "Secret",
    };
    let mut node = Node::mapping(span);
    node.set("apiVersion", Node::string("v1", span));
    node.set("kind", Node::string(kind_name, span));
    let mut metadata = Node::mapping(span);
    metadata.set("name", Node::string(entry.name.as_str(), span));
    if !entry.namespace.is_empty() {
        metadata.set("namespace", Node::string(entry.namespace.as_str(), span));
    }
    node.set("metadata", metadata);
    if kind == Kind::Secret {
        let secret_type = if entry.secret_type.is_empty() { "Opaque" } else { &entry.secret_type };
        node.set("type", Node::string(secret_type, span));
    }
    let mut data = Node::mapping(span);
    let mut binary = Node::mapping(span);
    for (key, value) in pairs(entry, loader).map_err(|error| error.wrap("loading KV pairs").or_at(span))? {
        match (kind, String::from_utf8(value)) {
            (Kind::ConfigMap, Ok(text)) => data.set(&key, Node::string(text, span)),
            (Kind::ConfigMap, Err(error)) => {
                binary.set(&key, Node::string(encode(error.as_bytes()), span));
            }
            (Kind::Secret, Ok(text)) => data.set(&key, Node::string(encode(text.as_bytes()), span)),
            (Kind::Secret, Err(error)) => data.set(&key, Node::string(encode(error.as_bytes()), span)),
        }
    }
    if data.as_mapping().is_some_and(|entries| !entries.is_empty()) {
        node.set("data", data);
    }
    if binary.as_mapping().is_some_and(|entries| !entries.is_empty()) {
        node.set("binaryData", binary);
    }
    let options = merged_options(entry.options.as_ref(), global);
    let mut resource = Resource::new(node);
    for (key, value) in &options.labels {
        resource.set_label(key, value);
    }
    for (key, value) in &options.annotations {
        resource.set_annotation(key, value);
    }
    if options.immutable {
        resource.node.set("immutable", Node::plain("true", span));
    }
    resource.behavior = Behavior::parse(&entry.behavior);
    resource.needs_hash = !options.disable_name_suffix_hash;
    resource.annotated = true;
    Ok(resource)
}

/// An entry's own options win over the kustomization's, key by key.
fn merged_options(own: Option<&GeneratorOptions>, global: Option<&GeneratorOptions>) -> GeneratorOptions {
    let mut merged = global.cloned().unwrap_or_default();
    if let Some(own) = own {
        merged.labels.extend(own.labels.clone());
        merged.annotations.extend(own.annotations.clone());
        merged.disable_name_suffix_hash |= own.disable_name_suffix_hash;
        merged.immutable |= own.immutable;
    }
    merged
}

/// Standard base64; long texts get line breaks, which the reader of a Secret skips.
pub(crate) fn encode(bytes: &[u8]) -> String {
    let encoded = STANDARD.encode(bytes);
    if encoded.len() <= SECRET_LINE {
        return encoded;
    }
    let mut lines = String::with_capacity(encoded.len() + encoded.len() / SECRET_LINE + 1);
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(SECRET_LINE.min(rest.len()));
        lines.push_str(line);
        lines.push('\n');
        rest = after;
    }
    lines
}

fn pairs(entry: &Generator, loader: &Loader<'_>) -> Result<Vec<(String, Vec<u8>)>> {
    let mut pairs: Vec<(String, Vec<u8>)> = Vec::new();
    let env = Some(&entry.env).filter(|env| !env.is_empty());
    for path in entry.envs.iter().chain(env) {
        let (_, text) =
            loader.load(path).map_err(|error| error.wrap(format!("env source files: [{path}]")))?;
        env_file(&text, &mut pairs).map_err(|error| error.wrap(format!("env source file '{path}'")))?;
    }
    for literal in &entry.literals {
        let (key, value) = literal
            .split_once('=')
            .filter(|(key, _)| !key.is_empty())
            .ok_or_else(|| Error::new(format!("invalid literal source {literal}, expected key=value")))?;
        pairs.push((key.to_owned(), without_quotes(value).as_bytes().to_vec()));
    }
    for file in &entry.files {
        let (key, path) = file_source(file)?;
        let (_, content) =
            loader.load(path).map_err(|error| error.wrap(format!("file sources: [{file}]")))?;
        pairs.push((key.to_owned(), content));
    }
    let mut seen: BTreeMap<&str, ()> = BTreeMap::new();
    for (key, _) in &pairs {
        if !is_key(key) {
            return Err(Error::new(format!(
                "\"{key}\" is not a valid key name: it must consist of letters, digits, '-', '_' or '.'"
            )));
        }
        if seen.insert(key, ()).is_some() {
            return Err(Error::new(format!("configmap {} illegally repeats the key `{key}`", entry.name)));
        }
    }
    // Keys come out sorted, which the hash and the merge rely on.
    pairs.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(pairs)
}

fn is_key(key: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !key.is_empty() && key.len() <= 253 && key != "." && !key.starts_with("..") && key.chars().all(fits)
}

/// The key and the path of a file source.
pub(crate) fn file_source(source: &str) -> Result<(&str, &str)> {
    match source.split_once('=') {
        None => Ok((source.rsplit('/').next().unwrap_or(source), source)),
        Some(("", path)) => {
            Err(Error::new(format!("missing key name for file path \"{path}\" in source \"{source}\"")))
        }
        Some((key, "")) => {
            Err(Error::new(format!("missing file path for key name \"{key}\" in source \"{source}\"")))
        }
        Some((_, path)) if path.contains('=') => {
            Err(Error::new(format!("source \"{source}\" key name or file path contains '='")))
        }
        Some(pair) => Ok(pair),
    }
}

fn without_quotes(text: &str) -> &str {
    for quote in ['"', '\''] {
        if let Some(inner) = text.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote)) {
            return inner;
        }
        // One lone quote loses itself on both sides.
        if text.len() == 1 && text.starts_with(quote) {
            return text;
        }
    }
    text
}

fn env_file(content: &[u8], pairs: &mut Vec<(String, Vec<u8>)>) -> Result<()> {
    for (number, line) in content.split(|byte| *byte == b'\n').enumerate() {
        let text = std::str::from_utf8(line)
            .map_err(|_| Error::new(format!("line {} has invalid utf8 bytes", number + 1)))?;
        let text = text.strip_suffix('\r').unwrap_or(text);
        let text = if number == 0 { text.strip_prefix('\u{feff}').unwrap_or(text) } else { text };
        let text = text.trim_start();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if key.is_empty() || key.starts_with(|c: char| c.is_ascii_digit()) || !key.chars().all(fits) {
            return Err(Error::new(format!(
                "\"{key}\" is not a valid key name (line {}): it must consist of letters, digits, '_', '-' or '.', and not start with a digit",
                number + 1
            )));
        }
        pairs.push((key.to_owned(), value.as_bytes().to_vec()));
    }
    Ok(())
}
