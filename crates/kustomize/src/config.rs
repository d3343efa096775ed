//! Which fields a transformer touches: field specifications, the default ones and the user's.

use std::sync::OnceLock;

use gantry_yaml::Node;
use serde::Deserialize;
use smol_str::SmolStr;

use crate::error::{Error, Result};
use crate::id::Gvk;

/// A field of some kinds of objects, by its path. An empty group, version or kind means any.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub(crate) struct FieldSpec {
    #[serde(default)]
    pub(crate) path: String,
    #[serde(default)]
    pub(crate) group: SmolStr,
    #[serde(default)]
    pub(crate) version: SmolStr,
    #[serde(default)]
    pub(crate) kind: SmolStr,
    #[serde(default)]
    pub(crate) create: bool,
}

/// Fields that hold the name of an object of some kind.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct NameReference {
    #[serde(default)]
    pub(crate) group: SmolStr,
    #[serde(default)]
    pub(crate) version: SmolStr,
    #[serde(default)]
    pub(crate) kind: SmolStr,
    #[serde(default)]
    pub(crate) field_specs: Vec<FieldSpec>,
}

/// The field specifications of every transformer; also what a file named by `configurations` may hold.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct Config {
    pub(crate) name_prefix: Vec<FieldSpec>,
    pub(crate) name_suffix: Vec<FieldSpec>,
    pub(crate) namespace: Vec<FieldSpec>,
    pub(crate) common_labels: Vec<FieldSpec>,
    pub(crate) template_labels: Vec<FieldSpec>,
    pub(crate) volume_claim_template_labels: Vec<FieldSpec>,
    pub(crate) labels: Vec<FieldSpec>,
    pub(crate) common_annotations: Vec<FieldSpec>,
    pub(crate) name_reference: Vec<NameReference>,
    pub(crate) var_reference: Vec<FieldSpec>,
    pub(crate) images: Vec<FieldSpec>,
    pub(crate) replicas: Vec<FieldSpec>,
}

const TABLE: &str = include_str!("../data/kustomize@5.8.1/field-specs.tsv");

impl FieldSpec {
    pub(crate) fn gvk(&self) -> Gvk {
        Gvk { group: self.group.clone(), version: self.version.clone(), kind: self.kind.clone() }
    }

    pub(crate) fn matches(&self, gvk: &Gvk) -> bool {
        (self.kind.is_empty() || self.kind == gvk.kind)
            && (self.group.is_empty() || self.group == gvk.group)
            && (self.version.is_empty() || self.version == gvk.version)
    }

    /// Whether this covers the other: the same path, and a kind that the other selects.
    fn covers(&self, other: &FieldSpec) -> bool {
        self.path == other.path && self.gvk().is_selected(&other.gvk())
    }

    /// The names along the path; `\/` belongs to a name, `[]` at a name's end says that a list is there.
    pub(crate) fn steps(&self) -> Vec<String> {
        split_path(&self.path)
    }
}

/// Splits at `/`, except where it is escaped.
pub fn split_path(path: &str) -> Vec<String> {
    let mut steps: Vec<String> = Vec::new();
    for part in path.split('/') {
        match steps.last_mut() {
            Some(last) if last.ends_with('\\') => {
                last.pop();
                last.push('/');
                last.push_str(part);
            }
            _ => steps.push(part.to_owned()),
        }
    }
    steps
}

/// Adds the specifications that are not covered yet. The same field with another `create` is a contradiction.
pub(crate) fn merge_specs(into: &mut Vec<FieldSpec>, more: &[FieldSpec]) -> Result<()> {
    for spec in more {
        match into.iter().find(|old| old.covers(spec)) {
            None => into.push(spec.clone()),
            Some(old) if old.create == spec.create => {}
            Some(_) => {
                return Err(Error::new(format!(
                    "conflicting fieldspecs: 'create' differs for path '{}' of kind '{}'",
                    spec.path, spec.kind
                )));
            }
        }
    }
    Ok(())
}

impl Config {
    /// The default configuration.
    pub(crate) fn defaults() -> &'static Config {
        static DEFAULTS: OnceLock<Config> = OnceLock::new();
        DEFAULTS.get_or_init(|| Config::parse(TABLE))
    }

    fn parse(table: &'static str) -> Config {
        let mut config = Config::default();
        for line in table.lines().filter(|line| !line.starts_with('#')) {
            let columns: Vec<&'static str> = line.split('\t').collect();
            let [name, path, group, version, kind, create, ref referred @ ..] = columns[..] else { continue };
            let text = |word: &'static str| if word == "-" { SmolStr::default() } else { word.into() };
            let spec = FieldSpec {
                path: path.to_owned(),
                group: text(group),
                version: text(version),
                kind: text(kind),
                create: create == "+",
            };
            let list = match name {
                "namePrefix" => &mut config.name_prefix,
                "nameSuffix" => &mut config.name_suffix,
                "namespace" => &mut config.namespace,
                "commonLabels" => &mut config.common_labels,
                "templateLabels" => &mut config.template_labels,
                "volumeClaimTemplateLabels" => &mut config.volume_claim_template_labels,
                "commonAnnotations" => &mut config.common_annotations,
                "varReference" => &mut config.var_reference,
                "images" => &mut config.images,
                "replicas" => &mut config.replicas,
                _ => {
                    if let [group, version, kind] = *referred {
                        config.add_reference(text(group), text(version), text(kind), spec);
                    }
                    continue;
                }
            };
            list.push(spec);
        }
        config
    }

    fn add_reference(&mut self, group: SmolStr, version: SmolStr, kind: SmolStr, spec: FieldSpec) {
        let same =
            |old: &&mut NameReference| old.group == group && old.version == version && old.kind == kind;
        match self.name_reference.iter_mut().find(same) {
            Some(old) => old.field_specs.push(spec),
            None => self.name_reference.push(NameReference { group, version, kind, field_specs: vec![spec] }),
        }
    }

    pub(crate) fn merge(&mut self, other: &Config) -> Result<()> {
        merge_specs(&mut self.name_prefix, &other.name_prefix)?;
        merge_specs(&mut self.name_suffix, &other.name_suffix)?;
        merge_specs(&mut self.namespace, &other.namespace)?;
        merge_specs(&mut self.common_labels, &other.common_labels)?;
        merge_specs(&mut self.template_labels, &other.template_labels)?;
        merge_specs(&mut self.volume_claim_template_labels, &other.volume_claim_template_labels)?;
        merge_specs(&mut self.labels, &other.labels)?;
        merge_specs(&mut self.common_annotations, &other.common_annotations)?;
        merge_specs(&mut self.var_reference, &other.var_reference)?;
        merge_specs(&mut self.images, &other.images)?;
        merge_specs(&mut self.replicas, &other.replicas)?;
        for reference in &other.name_reference {
            let NameReference { group, version, kind, field_specs } = reference;
            let same = |old: &&mut NameReference| {
                old.group == *group && old.version == *version && old.kind == *kind
            };
            match self.name_reference.iter_mut().find(same) {
                Some(old) => merge_specs(&mut old.field_specs, field_specs)?,
                None => self.name_reference.push(reference.clone()),
            }
        }
        Ok(())
    }

    /// What a configuration file says.
    pub(crate) fn from_node(node: &Node) -> Result<Config> {
        if node.is_null() {
            return Ok(Config::default());
        }
        gantry_yaml::from_node(node).map_err(|error| Error::at(error.message(), error.span()))
    }
}
