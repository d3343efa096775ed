//! The kustomization file: its fields, its deprecated spellings, what makes it invalid.

use std::collections::BTreeMap;

use gantry_yaml::{Data, Node, Span};
use serde::Deserialize;

use crate::config::FieldSpec;
use crate::error::{Error, Result};
use crate::helm::{Chart, Globals, OldChart};
use crate::replacement::ReplacementField;
use crate::selector::Selector;

pub(crate) const FILE_NAMES: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct Kustomization {
    pub(crate) api_version: String,
    pub(crate) kind: String,
    pub(crate) metadata: Option<Ignored>,
    pub(crate) resources: Vec<String>,
    pub(crate) components: Vec<String>,
    pub(crate) bases: Vec<String>,
    pub(crate) crds: Vec<String>,
    pub(crate) namespace: String,
    pub(crate) name_prefix: String,
    pub(crate) name_suffix: String,
    pub(crate) labels: Vec<Label>,
    pub(crate) common_labels: BTreeMap<String, String>,
    pub(crate) common_annotations: BTreeMap<String, String>,
    pub(crate) images: Vec<Image>,
    pub(crate) replicas: Vec<Replica>,
    pub(crate) patches: Vec<Patch>,
    pub(crate) patches_strategic_merge: Vec<String>,
    #[serde(rename = "patchesJson6902")]
    pub(crate) patches_json6902: Vec<Patch>,
    pub(crate) replacements: Vec<ReplacementField>,
    pub(crate) vars: Vec<Var>,
    pub(crate) config_map_generator: Vec<Generator>,
    pub(crate) secret_generator: Vec<Generator>,
    pub(crate) generator_options: Option<GeneratorOptions>,
    pub(crate) helm_charts: Vec<Chart>,
    pub(crate) helm_chart_inflation_generator: Vec<OldChart>,
    pub(crate) helm_globals: Option<Globals>,
    pub(crate) generators: Vec<String>,
    pub(crate) transformers: Vec<String>,
    pub(crate) validators: Vec<String>,
    pub(crate) configurations: Vec<String>,
    pub(crate) openapi: BTreeMap<String, String>,
    pub(crate) sort_options: Option<SortOptions>,
    pub(crate) build_metadata: Vec<String>,
}

/// Every field, for case-insensitive spelling.
const FIELDS: &[&str] = &[
    "apiVersion",
    "kind",
    "metadata",
    "resources",
    "components",
    "bases",
    "crds",
    "namespace",
    "namePrefix",
    "nameSuffix",
    "labels",
    "commonLabels",
    "commonAnnotations",
    "images",
    "replicas",
    "patches",
    "patchesStrategicMerge",
    "patchesJson6902",
    "replacements",
    "vars",
    "configMapGenerator",
    "secretGenerator",
    "generatorOptions",
    "helmCharts",
    "helmChartInflationGenerator",
    "helmGlobals",
    "generators",
    "transformers",
    "validators",
    "configurations",
    "openapi",
    "sortOptions",
    "buildMetadata",
];

/// A part whose content is not looked at.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Ignored {}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct Label {
    pub(crate) pairs: BTreeMap<String, String>,
    pub(crate) include_selectors: bool,
    pub(crate) include_templates: bool,
    pub(crate) include_volume_claim_templates: bool,
    pub(crate) fields: Vec<FieldSpec>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct Image {
    pub(crate) name: String,
    pub(crate) new_name: String,
    pub(crate) new_tag: String,
    pub(crate) tag_suffix: String,
    pub(crate) digest: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Replica {
    pub(crate) name: String,
    pub(crate) count: i64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Patch {
    pub(crate) path: String,
    pub(crate) patch: String,
    pub(crate) target: Option<Selector>,
    pub(crate) options: BTreeMap<String, bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct Generator {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) behavior: String,
    pub(crate) literals: Vec<String>,
    pub(crate) files: Vec<String>,
    pub(crate) envs: Vec<String>,
    pub(crate) env: String,
    pub(crate) options: Option<GeneratorOptions>,
    #[serde(rename = "type")]
    pub(crate) secret_type: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct GeneratorOptions {
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) disable_name_suffix_hash: bool,
    pub(crate) immutable: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Var {
    pub(crate) name: String,
    pub(crate) objref: ObjectReference,
    pub(crate) fieldref: FieldReference,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct ObjectReference {
    pub(crate) api_version: String,
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) namespace: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct FieldReference {
    pub(crate) fieldpath: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct SortOptions {
    pub(crate) order: String,
    pub(crate) legacy_sort_options: Option<LegacySortOptions>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct LegacySortOptions {
    pub(crate) order_first: Vec<String>,
    pub(crate) order_last: Vec<String>,
}

impl Kustomization {
    /// What the file says, checked, with deprecated spellings moved to their fields. Adds warnings about those.
    pub(crate) fn from_node(mut node: Node, warnings: &mut Vec<String>) -> Result<Kustomization> {
        let span = node.span;
        normalise_keys(&mut node);
        for (field, instead) in [
            ("bases", "resources"),
            ("patchesJson6902", "patches"),
            ("patchesStrategicMerge", "patches"),
            ("commonLabels", "labels"),
            ("vars", "replacements"),
            ("imageTags", "images"),
            ("helmChartInflationGenerator", "helmCharts"),
        ] {
            if node.get(field).is_some() {
                warnings.push(format!("# Warning: '{field}' is deprecated. Please use '{instead}' instead."));
            }
        }
        move_deprecated(&mut node);
        let mut kustomization: Kustomization = if node.is_null() {
            Kustomization::default()
        } else {
            gantry_yaml::from_node(&node).map_err(|error| {
                let message = error.message();
                Error::at(format!("invalid Kustomization: {message}"), error.span())
            })?
        };
        let beyond_identity = node.as_mapping().is_some_and(|entries| {
            entries
                .iter()
                .any(|(key, value)| !matches!(key.text(), Some("apiVersion" | "kind")) && !is_empty(value))
        });
        kustomization.resources.append(&mut kustomization.bases);
        kustomization.move_old_charts();
        if kustomization.kind.is_empty() {
            kustomization.kind = "Kustomization".to_owned();
        }
        if kustomization.api_version.is_empty() {
            kustomization.api_version = api_version_of(&kustomization.kind).to_owned();
        }
        if !beyond_identity {
            return Err(Error::at("kustomization.yaml is empty", span));
        }
        kustomization.check(&node)?;
        Ok(kustomization)
    }

    pub(crate) fn is_component(&self) -> bool {
        self.kind == "Component"
    }

    /// `helmChartInflationGenerator` is `helmCharts` with other names; where it has folders, the last of them are everyone's.
    fn move_old_charts(&mut self) {
        let mut globals = Globals::default();
        for old in std::mem::take(&mut self.helm_chart_inflation_generator) {
            let (chart, of_chart) = old.split();
            globals.take(of_chart);
            self.helm_charts.push(chart);
        }
        if self.helm_globals.is_none() && !globals.is_empty() {
            self.helm_globals = Some(globals);
        }
    }

    fn check(&self, node: &Node) -> Result<()> {
        let span_of = |field: &str| node.get(field).map_or(node.span, |value| value.span);
        if !matches!(self.kind.as_str(), "Kustomization" | "Component") {
            return Err(Error::at("kind should be Kustomization or Component", span_of("kind")));
        }
        let wanted = api_version_of(&self.kind);
        if self.api_version != wanted {
            return Err(Error::at(
                format!("apiVersion for {} should be {wanted}", self.kind),
                span_of("apiVersion"),
            ));
        }
        for word in &self.build_metadata {
            if !matches!(word.as_str(), "originAnnotations" | "transformerAnnotations" | "managedByLabel") {
                return Err(Error::at(
                    format!(
                        "buildMetadata '{word}' is unknown; known are originAnnotations, transformerAnnotations, managedByLabel"
                    ),
                    span_of("buildMetadata"),
                ));
            }
        }
        if let Some(sort) = &self.sort_options {
            if !matches!(sort.order.as_str(), "fifo" | "legacy") {
                return Err(Error::at(
                    "the field 'sortOptions.order' must be one of [fifo, legacy]",
                    span_of("sortOptions"),
                ));
            }
            if sort.order == "fifo" && sort.legacy_sort_options.is_some() {
                return Err(Error::at(
                    "the field 'sortOptions.legacySortOptions' is set but the selected sort order is 'fifo', not 'legacy'",
                    span_of("sortOptions"),
                ));
            }
        }
        Ok(())
    }
}

/// The place of the n-th item of a list field.
pub(crate) fn item_span(node: &Node, field: &str, index: usize) -> Span {
    let items = node.get(field).and_then(Node::as_sequence).unwrap_or_default();
    items.get(index).map_or(Span::NONE, |item| item.span)
}

pub(crate) fn api_version_of(kind: &str) -> &'static str {
    if kind == "Component" { "kustomize.config.k8s.io/v1alpha1" } else { "kustomize.config.k8s.io/v1beta1" }
}

fn is_empty(node: &Node) -> bool {
    match &node.data {
        Data::Mapping(entries) => entries.is_empty(),
        Data::Sequence(items) => items.is_empty(),
        Data::Scalar(scalar) => scalar.text.is_empty() || node.is_null(),
    }
}

/// Fields may be written in any letter case, as Go's JSON decoder reads them.
pub(crate) fn normalise_keys(node: &mut Node) {
    let Some(entries) = node.as_mapping_mut() else { return };
    for (key, _) in entries {
        let Some(text) = key.text() else { continue };
        let known = FIELDS.iter().find(|field| field.eq_ignore_ascii_case(text));
        if let Some(field) = known.filter(|field| **field != text) {
            *key = Node::string(*field, key.span);
        }
    }
}

/// The fields under the names and in the places in which a [`Kustomization`] has them.
pub(crate) fn for_reading(node: &Node) -> Node {
    let mut node = node.clone();
    normalise_keys(&mut node);
    move_deprecated(&mut node);
    node
}

/// `imageTags` is `images`; strings under `patches` are strategic merge patches; `env` is one of `envs`.
fn move_deprecated(node: &mut Node) {
    if let Some(images) = node.remove("imageTags") {
        node.set("images", images);
    }
    let legacy = node
        .get("patches")
        .and_then(Node::as_sequence)
        .is_some_and(|items| items.first().is_some_and(|item| item.as_str().is_some()));
    if legacy && let Some(patches) = node.remove("patches") {
        node.set("patchesStrategicMerge", patches);
    }
}
