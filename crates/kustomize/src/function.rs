//! KRM functions: a program or a container that reads a ResourceList and writes one.
//!
//! Format: config.kubernetes.io/v1 `ResourceList`, the function named by the annotation `config.kubernetes.io/function`.
//! What runs goes through a door; a place in the user's files stays with all that the function did not change.

use std::collections::BTreeMap;
use std::path::Path;

use gantry_yaml::{Data, FileId, Node, Span, parse_documents};
use serde::Deserialize;

use crate::FunctionOptions;
use crate::door::{Call, Finished};
use crate::error::{Error, Result};
use crate::fs::normal;
use crate::id::ResId;
use crate::loader::Loader;
use crate::patch::place_all;
use crate::plugin::read;
use crate::resmap::ResMap;
use crate::resource::{Behavior, Resource, child, resources_from, set_text};

const ANNOTATIONS: [&str; 2] = ["config.kubernetes.io/function", "config.k8s.io/function"];
const CONTAINER_ANNOTATION: &str = "config.kubernetes.io/container";
const LOCAL: &str = "config.kubernetes.io/local-config";
const NEEDS_HASH: &str = "kustomize.config.k8s.io/needs-hash";
const BEHAVIOR: &str = "kustomize.config.k8s.io/behavior";
/// On every input: its place in the list, and a number by which it is known again when it has another name.
const INDEX: [&str; 2] = ["config.kubernetes.io/index", "internal.config.kubernetes.io/index"];
const NUMBER: [&str; 2] = ["config.k8s.io/id", "internal.config.kubernetes.io/id"];
/// Of what a function says, no more than this is shown.
const MOST_RESULTS: usize = 50;
const MOST_WORDS: usize = 4096;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    container: Container,
    starlark: Option<crate::kustomization::Ignored>,
    exec: Exec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Exec {
    path: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Container {
    image: String,
    network: bool,
    mounts: Vec<Mount>,
    envs: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Mount {
    #[serde(rename = "type")]
    kind: String,
    src: String,
    dst: String,
    rw: bool,
}

/// What a function says about the objects it was given.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Verdict {
    message: String,
    severity: String,
    resource_ref: Option<Reference>,
    field: Option<Field>,
    file: Option<File>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Reference {
    api_version: String,
    kind: String,
    name: String,
    namespace: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Field {
    path: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct File {
    path: String,
}

/// A function that a configuration names.
pub(crate) struct Function {
    spec: Spec,
    /// The configuration as the function gets it.
    config: Node,
    /// How the function is called in messages.
    id: String,
    span: Span,
}

/// What came back.
struct Answer {
    resources: Vec<Resource>,
    warnings: Vec<String>,
}

impl Function {
    /// The function that a configuration names, if it names one; its mounts are checked.
    pub(crate) fn of(config: &Resource) -> Result<Option<Function>> {
        let span = config.span();
        let id = config.original_id().to_string();
        let spec = if let Some(text) = ANNOTATIONS.iter().find_map(|key| config.annotation(key)) {
            parse_spec(text).map_err(|reason| {
                Error::at(
                    format!("plugin {id} has an annotation {} that is wrong: {reason}", ANNOTATIONS[0]),
                    span,
                )
            })?
        } else if let Some(node) = config.node.at(&["metadata", "configFn"]).filter(|node| !node.is_null()) {
            read(node)?
        } else if let Some(image) = config.annotation(CONTAINER_ANNOTATION) {
            Spec {
                container: Container { image: image.to_owned(), ..Container::default() },
                ..Spec::default()
            }
        } else {
            return Ok(None);
        };
        for mount in &spec.container.mounts {
            let must = if Path::new(&mount.src).is_absolute() {
                "be relative to"
            } else if normal(Path::new(&mount.src)).starts_with("..") {
                "be under"
            } else {
                continue;
            };
            return Err(Error::at(
                format!(
                    "plugin {id} with mount path '{}' is not permitted; mount paths must {must} the current kustomization directory",
                    mount.src
                ),
                span,
            ));
        }
        let mut own = config.clone();
        own.remove_annotation(crate::origin::ORIGIN);
        // The input of a generator is its own configuration, which is no object to apply.
        own.set_annotation(LOCAL, "true");
        Ok(Some(Function { spec, config: own.node, id, span }))
    }

    /// What the function makes of nothing but its configuration, and what it said besides.
    pub(crate) fn generate(
        &self,
        loader: &Loader<'_>,
        options: &FunctionOptions,
    ) -> Result<(Vec<Resource>, Vec<String>)> {
        let Answer { mut resources, warnings } = self.run(&[], &[], loader, options)?;
        for resource in &mut resources {
            if let Some(text) = resource.annotation(NEEDS_HASH) {
                resource.needs_hash = go_bool(text).ok_or_else(|| {
                    Error::at(
                        format!("the annotation \"{NEEDS_HASH}\" contains an invalid value (\"{text}\")"),
                        self.span,
                    )
                })?;
            }
            resource.behavior = Behavior::parse(resource.annotation(BEHAVIOR).unwrap_or_default());
            resource.annotated = true;
            resource.remove_annotation(NEEDS_HASH);
            resource.remove_annotation(BEHAVIOR);
        }
        Ok((resources, warnings))
    }

    /// Puts what the function answers in the place of the resources; returns what it said besides.
    pub(crate) fn transform(
        &self,
        map: &mut ResMap,
        loader: &Loader<'_>,
        options: &FunctionOptions,
    ) -> Result<Vec<String>> {
        let inputs: Vec<Node> =
            map.iter().enumerate().map(|(index, resource)| numbered(&resource.node, index)).collect();
        let Answer { resources: answered, warnings } = self.run(&inputs, map.resources(), loader, options)?;
        let resources = map.resources_mut();
        let before: BTreeMap<String, usize> =
            resources.iter().enumerate().map(|(index, old)| (key_of(&old.current_id()), index)).collect();
        let mut kept = vec![false; resources.len()];
        let mut fresh: Vec<(Option<usize>, Resource)> = Vec::new();
        let mut seen: BTreeMap<String, ()> = BTreeMap::new();
        for mut new in answered {
            let number = take_notes(&mut new);
            let id = new.current_id();
            if seen.insert(key_of(&id), ()).is_some() {
                return Err(Error::at(
                    format!("plugin {} generated duplicate resource: {id}", self.id),
                    self.span,
                ));
            }
            match before.get(&key_of(&id)) {
                Some(&index) => {
                    keep_places(&mut new.node, &resources[index].node);
                    resources[index].node = new.node;
                    resources[index].shared.clear();
                    resources[index].annotated = true;
                    kept[index] = true;
                }
                None => fresh.push((number.filter(|number| *number < kept.len()), new)),
            }
        }
        for (number, mut new) in fresh {
            // One that only has another name is still known by its earlier ones.
            if let Some(old) = number.filter(|number| !kept[*number]).and_then(|number| resources.get(number))
            {
                keep_places(&mut new.node, &old.node);
                new = Resource { node: new.node, shared: Vec::new(), ..old.clone() };
            }
            new.annotated = true;
            resources.push(new);
            kept.push(true);
        }
        let mut kept = kept.into_iter();
        resources.retain(|_| kept.next().unwrap_or(true));
        Ok(warnings)
    }

    fn run(
        &self,
        inputs: &[Node],
        objects: &[Resource],
        loader: &Loader<'_>,
        options: &FunctionOptions,
    ) -> Result<Answer> {
        let mut call = self.call(loader, options)?;
        call.input = self.resource_list(inputs).into_bytes();
        let finished = loader.doors.programs.run(&call).map_err(|error| self.failed(&error))?;
        let parsed = std::str::from_utf8(&finished.output)
            .map_err(|_| "its output is not UTF-8 text".to_owned())
            .and_then(|text| self.parse(text));
        // Whoever fails often writes something else than a list.
        let (nodes, verdicts) = match parsed {
            Ok(parsed) => parsed,
            Err(_) if !finished.success => (Vec::new(), Vec::new()),
            Err(reason) => return Err(self.failed(&reason)),
        };
        let lines: Vec<(bool, String)> = verdicts
            .iter()
            .take(MOST_RESULTS)
            .map(|verdict| (verdict.severity == "error", verdict.line(objects, loader)))
            .collect();
        if !finished.success || verdicts.iter().any(|verdict| verdict.severity == "error") {
            return Err(self.failed(&reason_of(&finished, &lines)));
        }
        let mut warnings: Vec<String> =
            lines.into_iter().map(|(_, line)| format!("{}: {line}", self.id)).collect();
        let said = shortened(finished.errors.trim());
        if !said.is_empty() {
            warnings.push(said);
        }
        let resources = resources_from(nodes).map_err(|error| error.or_at(self.span))?;
        Ok(Answer { resources, warnings })
    }

    fn failed(&self, reason: &str) -> Error {
        Error::at(format!("couldn't execute function {}: {reason}", self.id), self.span)
    }

    /// How the function is called in messages.
    pub(crate) fn name(&self) -> String {
        let Spec { container, exec, .. } = &self.spec;
        let named = [&container.image, &exec.path].into_iter().find(|name| !name.is_empty());
        named.unwrap_or(&self.id).clone()
    }

    /// The program that the function is, without its input.
    pub(crate) fn call(&self, loader: &Loader<'_>, options: &FunctionOptions) -> Result<Call> {
        let refused = |reason: String| Error::at(format!("plugin {}: {reason}", self.id), self.span);
        let Spec { container, starlark, exec } = &self.spec;
        if !container.image.is_empty() {
            if container.network && !options.network {
                return Err(refused("network required but not enabled with --network".to_owned()));
            }
            let program = loader.doors.programs.container_engine().map_err(refused)?;
            let user =
                if options.as_current_user { loader.doors.programs.user() } else { "nobody".to_owned() };
            let arguments = container.arguments(options, &user, &loader.root);
            return Ok(Call { program, arguments, directory: Some(loader.root.clone()), ..Call::default() });
        }
        if !exec.path.is_empty() {
            if !options.exec {
                return Err(refused(format!(
                    "it runs the program '{}': allow that with --enable-exec",
                    exec.path
                )));
            }
            return Ok(Call {
                program: exec.path.clone(),
                directory: Some(loader.root.clone()),
                ..Call::default()
            });
        }
        Err(refused(if starlark.is_some() {
            "starlark functions are not supported; known are exec and container".to_owned()
        } else {
            "it names neither exec.path nor container.image".to_owned()
        }))
    }

    /// The list that the function reads. One that gets no objects gets its configuration as one.
    fn resource_list(&self, inputs: &[Node]) -> String {
        let mut list = Node::mapping(Span::NONE);
        list.set("apiVersion", Node::string("config.kubernetes.io/v1", Span::NONE));
        list.set("kind", Node::string("ResourceList", Span::NONE));
        let items = if inputs.is_empty() { vec![numbered(&self.config, 0)] } else { inputs.to_vec() };
        list.set("items", Node::new(Data::Sequence(items), Span::NONE));
        list.set("functionConfig", self.config.clone());
        gantry_yaml::emit(&list)
    }

    /// The objects of an answer, a list or bare documents, and what it says about them.
    fn parse(&self, text: &str) -> std::result::Result<(Vec<Node>, Vec<Verdict>), String> {
        let documents = parse_documents(FileId(0), text)
            .map_err(|error| format!("line {} of its output: {}", error.span().line(), error.message()))?;
        let (mut nodes, mut verdicts) = (Vec::new(), Vec::new());
        for mut document in documents {
            place_all(&mut document, self.span);
            if document.text_at(&["kind"]) != Some("ResourceList") {
                nodes.push(document);
                continue;
            }
            if let Some(results) = document.remove("results") {
                verdicts.extend(read_verdicts(&results)?);
            }
            match document.remove("items") {
                Some(Node { data: Data::Sequence(items), .. }) => nodes.extend(items),
                Some(items) if !items.is_null() => {
                    return Err(format!("items of its output are a {}, expected a list", items.type_name()));
                }
                _ => {}
            }
        }
        Ok((nodes, verdicts))
    }
}

fn parse_spec(text: &str) -> std::result::Result<Spec, String> {
    let documents = parse_documents(FileId(0), text).map_err(|error| error.message().to_owned())?;
    match documents.first() {
        Some(node) => read(node).map_err(|error| error.message().to_owned()),
        None => Ok(Spec::default()),
    }
}

/// A list, or the older object that has it as `items`.
fn read_verdicts(results: &Node) -> std::result::Result<Vec<Verdict>, String> {
    let items = results.get("items").unwrap_or(results);
    let items = items.as_sequence().unwrap_or_default();
    items
        .iter()
        .map(|item| read(item).map_err(|error| format!("results of its output: {}", error.message())))
        .collect()
}

impl Container {
    fn arguments(&self, options: &FunctionOptions, user: &str, root: &Path) -> Vec<String> {
        let network = match (self.network, options.network_name.as_str()) {
            (false, _) => "none",
            (true, "") => "host",
            (true, name) => name,
        };
        let mut arguments: Vec<String> =
            ["run", "--rm", "-i", "-a", "STDIN", "-a", "STDOUT", "-a", "STDERR"].map(str::to_owned).to_vec();
        arguments.extend(["--network", network, "--user", user].map(str::to_owned));
        arguments.push("--security-opt=no-new-privileges".to_owned());
        let named = options.mounts.iter().map(|text| Mount::parse(text));
        for mount in self.mounts.iter().cloned().chain(named) {
            arguments.extend(["--mount".to_owned(), mount.argument(root)]);
        }
        for pair in environment(&self.envs, &options.environment) {
            arguments.extend(["-e".to_owned(), pair]);
        }
        arguments.push(self.image.clone());
        arguments
    }
}

/// The variables of a container: pairs by name, then those that are handed on. What the command line says wins.
fn environment(own: &[String], said: &[String]) -> Vec<String> {
    let mut pairs: BTreeMap<&str, &str> =
        BTreeMap::from([("LOG_TO_STDERR", "true"), ("STRUCTURED_RESULTS", "true")]);
    let mut handed_on: Vec<&str> = Vec::new();
    for text in own.iter().chain(said) {
        match text.split_once('=') {
            Some((key, value)) => {
                pairs.insert(key, value);
            }
            None if handed_on.contains(&text.as_str()) => {}
            None => handed_on.push(text),
        }
    }
    let pairs = pairs.iter().map(|(key, value)| format!("{key}={value}"));
    pairs.chain(handed_on.iter().map(|key| (*key).to_owned())).collect()
}

impl Mount {
    fn parse(text: &str) -> Mount {
        let mut mount = Mount::default();
        for (key, value) in text.split(',').filter_map(|option| option.split_once('=')) {
            match key {
                "type" => mount.kind = value.to_owned(),
                "src" | "source" => mount.src = value.to_owned(),
                "dst" | "target" => mount.dst = value.to_owned(),
                "rw" => mount.rw = value == "true",
                _ => {}
            }
        }
        mount
    }

    /// A path is from the kustomization's folder; the name of a volume stays one.
    fn argument(&self, root: &Path) -> String {
        let source = if self.kind == "volume" {
            self.src.clone()
        } else {
            normal(&root.join(&self.src)).to_string_lossy().into_owned()
        };
        let mode = if self.rw { "" } else { ",readonly" };
        format!("type={},source={source},target={}{mode}", self.kind, self.dst)
    }
}

impl Verdict {
    /// One line, and the place in the user's files where it is known.
    fn line(&self, objects: &[Resource], loader: &Loader<'_>) -> String {
        let severity = if self.severity.is_empty() { "info" } else { &self.severity };
        let mut line = format!("[{severity}]");
        let mut span = Span::NONE;
        if let Some(Reference { api_version, kind, name, namespace }) = &self.resource_ref {
            let parts = [api_version, kind, namespace, name];
            let parts: Vec<&str> =
                parts.iter().map(|part| part.as_str()).filter(|part| !part.is_empty()).collect();
            line.push_str(&format!(" {}", parts.join("/")));
            let is_meant = |object: &&Resource| {
                (api_version.is_empty() || object.api_version() == api_version)
                    && (kind.is_empty() || object.kind() == kind)
                    && object.name() == name
                    && (namespace.is_empty() || object.namespace() == namespace)
            };
            if let Some(object) = objects.iter().find(is_meant) {
                let path = self.field.as_ref().map_or("", |field| &field.path);
                span = deepest(&object.node, path).span;
            }
        }
        if let Some(field) = self.field.as_ref().filter(|field| !field.path.is_empty()) {
            line.push_str(&format!(" {}", field.path));
        }
        if let Some(file) = self.file.as_ref().filter(|file| span.is_none() && !file.path.is_empty()) {
            line.push_str(&format!(" ({})", file.path));
        }
        line.push_str(&format!(": {}", shortened(&self.message)));
        if let Some(place) = loader.describe(span) {
            line.push_str(&format!("\n    at {}", place.replace('\n', "\n  ")));
        }
        line
    }
}

/// The node at a path such as `spec.containers[0].image`, or the nearest one above it.
fn deepest<'a>(node: &'a Node, path: &str) -> &'a Node {
    let mut node = node;
    for step in path.split(['.', '[']).map(|step| step.trim_end_matches(']')).filter(|step| !step.is_empty())
    {
        let below = match &node.data {
            Data::Sequence(items) => step.parse::<usize>().ok().and_then(|index| items.get(index)),
            _ => node.get(step),
        };
        match below {
            Some(below) => node = below,
            None => break,
        }
    }
    node
}

fn reason_of(finished: &Finished, lines: &[(bool, String)]) -> String {
    let mut reason = if finished.success { "it reports errors".to_owned() } else { finished.status.clone() };
    // Errors first: they are why.
    for wanted in [true, false] {
        for (_, line) in lines.iter().filter(|(is_error, _)| *is_error == wanted) {
            reason.push_str(&format!("\n  {line}"));
        }
    }
    let said = shortened(finished.errors.trim());
    if !said.is_empty() {
        reason.push_str(&format!("\n{said}"));
    }
    reason
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(MOST_WORDS) {
        Some((end, _)) => format!("{} …", &text[..end]),
        None => text.to_owned(),
    }
}

fn go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Two identities are the same when this is.
fn key_of(id: &ResId) -> String {
    format!("{}/{}/{}", id.gvk, id.name, id.effective_namespace())
}

fn numbered(node: &Node, index: usize) -> Node {
    let mut node = node.clone();
    let span = node.span;
    let metadata = child(&mut node, "metadata", || Node::mapping(span));
    let annotations = child(metadata, "annotations", || Node::mapping(span));
    for key in INDEX {
        set_text(annotations, key, &index.to_string());
    }
    for key in NUMBER {
        set_text(annotations, key, &(index + 1).to_string());
    }
    node
}

/// Takes away what [`numbered`] put there; the index of the input that this was.
fn take_notes(resource: &mut Resource) -> Option<usize> {
    let number = NUMBER.iter().find_map(|key| resource.annotation(key)?.parse::<usize>().ok());
    for key in INDEX.iter().chain(&NUMBER) {
        resource.remove_annotation(key);
    }
    number.and_then(|number| number.checked_sub(1))
}

/// What is as it was keeps its place.
fn keep_places(new: &mut Node, old: &Node) {
    new.span = old.span;
    match (&mut new.data, &old.data) {
        (Data::Mapping(entries), Data::Mapping(_)) => {
            for (key, value) in entries {
                let before = key.text().and_then(|name| old.get(name));
                if let Some(before) = before {
                    keep_places(value, before);
                }
            }
        }
        (Data::Sequence(items), Data::Sequence(before)) => {
            items.iter_mut().zip(before).for_each(|(item, before)| keep_places(item, before));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_gets_nothing_that_is_not_allowed() {
        let container = Container { image: "example/fn:1".into(), ..Container::default() };
        let found = container.arguments(&FunctionOptions::default(), "nobody", Path::new("/k"));
        let expected = "run --rm -i -a STDIN -a STDOUT -a STDERR --network none --user nobody \
                        --security-opt=no-new-privileges -e LOG_TO_STDERR=true -e STRUCTURED_RESULTS=true example/fn:1";
        assert_eq!(found.join(" "), expected);
    }

    #[test]
    fn mounts_and_variables_of_both_sides_are_joined() {
        let container = Container {
            image: "fn".into(),
            network: true,
            mounts: vec![Mount { kind: "bind".into(), src: "./data".into(), dst: "/data".into(), rw: true }],
            envs: vec!["A=own".into(), "HOME".into()],
        };
        let options = FunctionOptions {
            network: true,
            mounts: vec!["type=volume,src=cache,dst=/cache".into()],
            environment: vec!["A=said".into(), "HOME".into(), "TERM".into()],
            ..FunctionOptions::default()
        };
        let found = container.arguments(&options, "1:2", Path::new("/k")).join(" ");
        for part in [
            "--network host --user 1:2",
            "--mount type=bind,source=/k/data,target=/data --mount type=volume,source=cache,target=/cache,readonly",
            "-e A=said -e LOG_TO_STDERR=true -e STRUCTURED_RESULTS=true -e HOME -e TERM fn",
        ] {
            assert!(found.contains(part), "{found}");
        }
    }

    #[test]
    fn a_field_path_leads_as_deep_as_the_object_goes() {
        let node =
            parse_documents(FileId(0), "spec:\n  containers:\n  - {name: a}\n  - {name: b, image: x}\n");
        let node = node.unwrap().remove(0);
        assert_eq!(deepest(&node, "spec.containers[1].image").text(), Some("x"));
        assert_eq!(deepest(&node, "spec.containers[1].missing.more").span.line(), 4);
        assert_eq!(deepest(&node, "").span.line(), 1);
    }
}
