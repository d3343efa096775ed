//! Built-in generators and transformers that stand in files of their own (`generators`, `transformers`).

use std::collections::BTreeMap;

use gantry_yaml::{Node, Span};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::FunctionOptions;
use crate::build::{Context, Target};
use crate::config::FieldSpec;
use crate::error::{Error, Result};
use crate::field::{Create, visit};
use crate::function::Function;
use crate::generate::{self, generate};
use crate::kustomization::{Generator, GeneratorOptions, Image, Patch, Replica};
use crate::origin::{ORIGIN, Origin, TRANSFORMATIONS};
use crate::replacement::ReplacementField;
use crate::resmap::ResMap;
use crate::resource::{Resource, resources_from};
use crate::selector::{Matcher, Selector};
use crate::transform::{self, End, Subjects};

/// The configuration of one generator or transformer.
pub(crate) struct Plugin {
    config: Resource,
    /// What runs, where that is not built in.
    function: Option<Function>,
    pub(crate) span: Span,
}

/// Validators may put this label on what they looked at.
const VALIDATED_BY: &str = "validated-by";

const BUILTIN: [&str; 17] = [
    "AnnotationsTransformer",
    "ConfigMapGenerator",
    "HashTransformer",
    "HelmChartInflationGenerator",
    "IAMPolicyGenerator",
    "ImageTagTransformer",
    "LabelTransformer",
    "NamespaceTransformer",
    "PatchJson6902Transformer",
    "PatchStrategicMergeTransformer",
    "PatchTransformer",
    "PrefixSuffixTransformer",
    "PrefixTransformer",
    "ReplacementTransformer",
    "ReplicaCountTransformer",
    "SecretGenerator",
    "SuffixTransformer",
];
const VALUE_ADD: &str = "ValueAddTransformer";

/// The kinds of built-in generators and transformers, sorted.
pub fn builtin_plugins() -> impl Iterator<Item = &'static str> {
    BUILTIN.into_iter().chain([VALUE_ADD])
}

/// Annotations that upstream keeps for itself and never prints.
const INTERNAL: [&str; 4] = [
    "config.kubernetes.io/path",
    "config.kubernetes.io/index",
    "config.k8s.io/id",
    "internal.config.kubernetes.io/",
];

/// Reads a part of a configuration.
pub(crate) fn read<T: DeserializeOwned>(node: &Node) -> Result<T> {
    gantry_yaml::from_node(node).map_err(|error| Error::at(error.message(), error.span()))
}

/// Annotations are strings in the end, and the map goes when it is empty.
pub(crate) fn finish_annotations(resource: &mut Resource) {
    if resource.node.at(&["metadata", "annotations"]).is_none() {
        return;
    }
    let mut annotations = resource.string_map(&["metadata", "annotations"]);
    annotations.retain(|(key, _)| {
        !INTERNAL.iter().any(|own| key == own || (own.ends_with('/') && key.starts_with(own)))
    });
    resource.set_metadata_map("annotations", &annotations);
}

/// The text of a resource without the label of whoever validated it.
pub(crate) fn without_verdict(resource: &Resource) -> String {
    let mut node = resource.node.clone();
    if let Some(metadata) = node.get_mut("metadata")
        && let Some(labels) = metadata.get_mut("labels")
        && labels.remove(VALIDATED_BY).is_some()
        && labels.as_mapping().is_some_and(<[_]>::is_empty)
    {
        metadata.remove("labels");
    }
    gantry_yaml::emit(&node)
}

/// Every field of a plugin's configuration, at any depth.
const KNOWN: &[&str] = &[
    "annotationSelector",
    "annotations",
    "apiVersion",
    "behavior",
    "cloud",
    "count",
    "create",
    "delimiter",
    "digest",
    "disableNameSuffixHash",
    "encoding",
    "env",
    "envs",
    "fieldPath",
    "fieldPaths",
    "fieldSpecs",
    "filePathPosition",
    "files",
    "group",
    "imageTag",
    "immutable",
    "index",
    "jsonOp",
    "kind",
    "kubernetesService",
    "labelSelector",
    "labels",
    "literals",
    "name",
    "namespace",
    "newName",
    "newTag",
    "notSelector",
    "options",
    "patch",
    "patches",
    "path",
    "paths",
    "prefix",
    "projectId",
    "reject",
    "replacements",
    "replica",
    "select",
    "selector",
    "serviceAccount",
    "setRoleBindingSubjects",
    "source",
    "sourceValue",
    "suffix",
    "tagSuffix",
    "target",
    "targetFilePath",
    "targets",
    "type",
    "unsetOnly",
    "value",
    "version",
];
/// Fields whose keys are the user's.
const FREE: &[&str] = &["annotations", "labels"];

/// Plugins read their fields in any letter case and pass over what they do not know.
fn lenient(node: &mut Node) {
    match &mut node.data {
        gantry_yaml::Data::Scalar(_) => {}
        gantry_yaml::Data::Sequence(items) => items.iter_mut().for_each(lenient),
        gantry_yaml::Data::Mapping(entries) => entries.retain_mut(|(key, value)| {
            let known = key.text().and_then(|text| KNOWN.iter().find(|name| name.eq_ignore_ascii_case(text)));
            let Some(name) = known else {
                return matches!(key.text(), Some("allowNameChange" | "allowKindChange"));
            };
            *key = Node::string(*name, key.span);
            if !FREE.contains(name) {
                lenient(value);
            }
            true
        }),
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Settings {
    field_specs: Vec<FieldSpec>,
    prefix: String,
    suffix: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    image_tag: Option<Image>,
    replica: Option<Replica>,
    unset_only: bool,
    set_role_binding_subjects: String,
    replacements: Vec<ReplacementField>,
    path: String,
    patch: String,
    json_op: String,
    options: BTreeMap<String, bool>,
    target: Option<Selector>,
    paths: Vec<String>,
    patches: String,
    value: String,
    target_file_path: String,
    targets: Vec<ValueTarget>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ValueTarget {
    selector: Option<Selector>,
    not_selector: Option<Selector>,
    field_path: String,
    file_path_position: usize,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PolicySettings {
    cloud: String,
    kubernetes_service: PolicyName,
    service_account: PolicyAccount,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PolicyName {
    name: String,
    namespace: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PolicyAccount {
    name: String,
    project_id: String,
}

impl Plugin {
    pub(crate) fn new(config: Resource, options: &FunctionOptions) -> Result<Plugin> {
        let span = config.span();
        let kind = config.kind();
        if config.api_version() != "builtin" {
            let id = config.current_id();
            if !options.enabled {
                return Err(Error::at(
                    format!(
                        "external plugins disabled; unable to load external plugin '{id}': allow it with --enable-alpha-plugins"
                    ),
                    span,
                ));
            }
            let Some(function) = Function::of(&config)? else {
                return Err(Error::at(
                    format!(
                        "plugin {id} is not supported: neither built in (apiVersion: builtin) nor a function (annotation config.kubernetes.io/function)"
                    ),
                    span,
                ));
            };
            return Ok(Plugin { config, function: Some(function), span });
        }
        if !BUILTIN.contains(&kind) && kind != VALUE_ADD {
            let near = gantry_yaml::nearest(kind, &BUILTIN);
            let hint = near.map_or(String::new(), |near| format!(", did you mean {near}?"));
            return Err(Error::at(format!("unable to load builtin {}{hint}", config.gvk()), span));
        }
        Ok(Plugin { config, function: None, span })
    }

    fn name(&self) -> &str {
        self.config.name()
    }

    /// The configuration proper, without what every object has.
    fn settings<T: DeserializeOwned>(&self) -> Result<T> {
        let mut node = self.config.node.clone();
        for field in ["apiVersion", "kind", "metadata"] {
            node.remove(field);
        }
        lenient(&mut node);
        read(&node)
    }

    fn generator(&self) -> Result<Generator> {
        const FIELDS: [&str; 9] =
            ["name", "namespace", "behavior", "literals", "files", "envs", "env", "options", "type"];
        let mut node = self.config.node.clone();
        lenient(&mut node);
        if let Some(entries) = node.as_mapping_mut() {
            entries.retain(|(key, _)| key.text().is_some_and(|text| FIELDS.contains(&text)));
        }
        read(&node)
    }

    /// Where this was configured, for the annotations on what it makes and changes.
    fn origin(&self) -> Origin {
        let config = &self.config;
        Origin::of_plugin(
            config.annotation(ORIGIN).unwrap_or_default(),
            config.api_version(),
            config.kind(),
            config.name(),
            config.namespace(),
        )
    }
}

impl Context<'_> {
    fn notes(&self) -> bool {
        self.has_metadata("originAnnotations") || self.has_metadata("transformerAnnotations")
    }

    /// What a generator configured in its own file makes.
    pub(crate) fn generate_with(&self, target: &Target<'_>, plugin: &Plugin) -> Result<Vec<Resource>> {
        let mut made = match plugin.config.kind() {
            _ if let Some(function) = &plugin.function => {
                let (made, said) = function.generate(&target.loader, &self.options.functions)?;
                said.into_iter().for_each(|line| self.warn(line));
                made
            }
            "HelmChartInflationGenerator" => self.chart_plugin(target, &plugin.config.node)?,
            kind @ ("ConfigMapGenerator" | "SecretGenerator") => {
                let mut entry: Generator = plugin.generator()?;
                if entry.name.is_empty() {
                    entry.name = plugin.name().to_owned();
                }
                if entry.namespace.is_empty() {
                    entry.namespace = plugin.config.namespace().to_owned();
                }
                let of = if kind == "SecretGenerator" {
                    generate::Kind::Secret
                } else {
                    generate::Kind::ConfigMap
                };
                let none: Option<&GeneratorOptions> = None;
                vec![generate(of, &entry, none, &target.loader, plugin.span)?]
            }
            "IAMPolicyGenerator" => vec![service_account(plugin)?],
            other => {
                return Err(Error::at(format!("{other} is no generator"), plugin.span));
            }
        };
        if self.notes() {
            made.iter_mut().for_each(|resource| plugin.origin().note(resource));
        }
        Ok(made)
    }

    /// Runs a transformer configured in its own file.
    pub(crate) fn transform_with(
        &self,
        target: &Target<'_>,
        plugin: &Plugin,
        map: &mut ResMap,
    ) -> Result<()> {
        self.transform_plugin(target, plugin, map)
            .map_err(|error| target.loader.locate(error.or_at(plugin.span)))?;
        if self.notes() {
            let origin = plugin.origin();
            map.resources_mut().iter_mut().for_each(|resource| origin.note_transformation(resource));
        }
        Ok(())
    }

    fn transform_plugin(&self, target: &Target<'_>, plugin: &Plugin, map: &mut ResMap) -> Result<()> {
        if let Some(function) = &plugin.function {
            let said = function.transform(map, &target.loader, &self.options.functions)?;
            said.into_iter().for_each(|line| self.warn(line));
            return Ok(());
        }
        let kind = plugin.config.kind();
        let generators =
            ["ConfigMapGenerator", "SecretGenerator", "IAMPolicyGenerator", "HelmChartInflationGenerator"];
        if generators.contains(&kind) {
            return map.absorb_all(self.generate_with(target, plugin)?);
        }
        let s: Settings = plugin.settings()?;
        match kind {
            "NamespaceTransformer" => {
                let subjects = match s.set_role_binding_subjects.as_str() {
                    "" | "defaultOnly" => Subjects::DefaultOnly,
                    "allServiceAccounts" => Subjects::AllServiceAccounts,
                    "none" => Subjects::None,
                    other => {
                        return Err(Error::new(format!(
                            "invalid value {other} for setRoleBindingSubjects: must be one of defaultOnly, allServiceAccounts, none"
                        )));
                    }
                };
                transform::namespace(map, plugin.config.namespace(), &s.field_specs, subjects, s.unset_only)
            }
            "PrefixTransformer" => transform::affix(map, End::Prefix, &s.prefix, &s.field_specs),
            "SuffixTransformer" => transform::affix(map, End::Suffix, &s.suffix, &s.field_specs),
            "PrefixSuffixTransformer" => {
                transform::affix(map, End::Prefix, &s.prefix, &s.field_specs)?;
                transform::affix(map, End::Suffix, &s.suffix, &s.field_specs)
            }
            "LabelTransformer" => transform::entries(map, &s.labels, &s.field_specs),
            "AnnotationsTransformer" => transform::entries(map, &s.annotations, &s.field_specs),
            "ImageTagTransformer" => match &s.image_tag {
                Some(image) => transform::image(map, image, &s.field_specs),
                None => Err(Error::new("ImageTagTransformer needs an imageTag")),
            },
            "ReplicaCountTransformer" => match &s.replica {
                Some(replica) => transform::replicas(map, replica, &s.field_specs),
                None => Err(Error::new("ReplicaCountTransformer needs a replica")),
            },
            "PatchTransformer" => {
                let entry = Patch { path: s.path, patch: s.patch, target: s.target, options: s.options };
                self.patch(target, map, &entry, plugin.span, false)
            }
            "PatchStrategicMergeTransformer" => {
                if s.paths.is_empty() && s.patches.is_empty() {
                    return Err(Error::new("empty file path and empty patch content"));
                }
                let mut patches = Vec::new();
                for path in &s.paths {
                    patches.extend(self.strategic_texts(target, path, plugin.span)?);
                }
                if !s.patches.is_empty() {
                    let documents =
                        crate::patch::parse(gantry_yaml::FileId(0), &s.patches, Some(plugin.span))?;
                    let mut inline = resources_from(documents)?;
                    inline.iter_mut().for_each(crate::patch::make_legacy);
                    patches.extend(inline);
                }
                if patches.is_empty() {
                    return Err(Error::new(format!(
                        "patch appears to be empty; files=[{}], Patch={}",
                        s.paths.join(" "),
                        s.patches
                    )));
                }
                crate::patch::by_identity(map, &patches, Default::default(), &self.rules.borrow())
            }
            "PatchJson6902Transformer" => {
                let entry = Patch { path: s.path, patch: s.json_op, target: s.target, ..Patch::default() };
                self.legacy_json_patch(target, map, &entry, plugin.span)
            }
            "ReplacementTransformer" => self.replacements(target, map, &s.replacements, "replacements"),
            "HashTransformer" => {
                transform::hashes(map);
                Ok(())
            }
            _ => {
                let mut settings = s;
                if !settings.target_file_path.is_empty() {
                    let (file, text) = target.loader.load_text(&settings.target_file_path)?;
                    let documents = gantry_yaml::parse_documents(file, &text)
                        .map_err(|error| Error::at(error.message(), error.span()))?;
                    for mut document in documents.into_iter().filter(|document| !document.is_null()) {
                        lenient(&mut document);
                        let more: Settings = read(&document)?;
                        settings.targets.extend(more.targets);
                    }
                }
                add_value(map, &settings)
            }
        }
    }
}

/// The Kubernetes service account bound to one of a cloud.
fn service_account(plugin: &Plugin) -> Result<Resource> {
    let settings: PolicySettings = plugin.settings()?;
    if settings.cloud != "gke" {
        return Err(Error::at(
            format!("cloud provider {} is not supported; known is gke", settings.cloud),
            plugin.span,
        ));
    }
    let mut node = Node::mapping(plugin.span);
    node.set("apiVersion", Node::string("v1", plugin.span));
    node.set("kind", Node::string("ServiceAccount", plugin.span));
    let mut resource = Resource::new(node);
    let PolicyAccount { name, project_id } = settings.service_account;
    let account = format!("{name}@{project_id}.iam.gserviceaccount.com");
    resource.set_annotation("iam.gke.io/gcp-service-account", &account);
    resource.set_name(&settings.kubernetes_service.name);
    resource.set_namespace(&settings.kubernetes_service.namespace);
    Ok(resource)
}

/// Sets a value, or one part of a path-like value, in the fields of the targets.
fn add_value(map: &mut ResMap, settings: &Settings) -> Result<()> {
    for target in &settings.targets {
        let selects = target.selector.as_ref().map(Matcher::new).transpose()?;
        let rejects = target.not_selector.as_ref().map(Matcher::new).transpose()?;
        let spec = FieldSpec { path: target.field_path.clone(), create: true, ..FieldSpec::default() };
        for resource in map.resources_mut() {
            let wanted = selects.as_ref().is_none_or(|matcher| matcher.matches(resource))
                && !rejects.as_ref().is_some_and(|matcher| matcher.matches(resource));
            if !wanted || (spec.path == "metadata/namespace" && resource.gvk().is_cluster_scoped()) {
                continue;
            }
            visit(&mut resource.node, &spec, Create::Scalar, &mut |node| {
                let value = if target.file_path_position == 0 {
                    settings.value.clone()
                } else {
                    let text = node.text().unwrap_or_default();
                    let mut parts: Vec<&str> = text.split('/').collect();
                    let place = (target.file_path_position - 1).min(parts.len());
                    parts.insert(place, &settings.value);
                    parts.join("/")
                };
                *node = Node::string(value, node.span);
                Ok(())
            })?;
        }
    }
    Ok(())
}

impl Resource {
    /// Takes away the notes that the build did not ask for.
    pub(crate) fn drop_notes(&mut self, keep_origin: bool, keep_transformations: bool) {
        if !keep_origin {
            self.remove_annotation(ORIGIN);
        }
        if !keep_transformations {
            self.remove_annotation(TRANSFORMATIONS);
        }
    }
}
