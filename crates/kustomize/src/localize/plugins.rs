//! Built-in generators, transformers and validators in their plugin form: the paths in their configurations.

use gantry_yaml::{Data, Node, Span};

use super::fields::{items, set};
use super::{Localizer, Place, Root, load_objects};
use crate::config::FieldSpec;
use crate::error::{Error, Result};
use crate::field::{Create, visit};
use crate::resource::Resource;

/// What the paths in a field name.
#[derive(Clone, Copy)]
enum Names {
    Files,
    /// `key=path`.
    FileSources,
    /// Files with objects, or objects.
    Objects,
}

const FIELDS: [(&str, &str, Names); 12] = [
    ("ConfigMapGenerator", "env", Names::Files),
    ("ConfigMapGenerator", "envs", Names::Files),
    ("ConfigMapGenerator", "files", Names::FileSources),
    ("SecretGenerator", "env", Names::Files),
    ("SecretGenerator", "envs", Names::Files),
    ("SecretGenerator", "files", Names::FileSources),
    ("HelmChartInflationGenerator", "valuesFile", Names::Files),
    ("HelmChartInflationGenerator", "additionalValuesFiles", Names::Files),
    ("PatchTransformer", "path", Names::Files),
    ("PatchJson6902Transformer", "path", Names::Files),
    ("ReplacementTransformer", "replacements/path", Names::Files),
    ("PatchStrategicMergeTransformer", "paths", Names::Objects),
];

impl<'a> Localizer<'a> {
    pub(super) fn plugins(&mut self, at: &Root<'a>, node: &mut Node) -> Result<()> {
        for field in ["generators", "transformers", "validators"] {
            for item in items(node, field) {
                let span = item.span;
                let entry = item.text().unwrap_or_default().to_owned();
                let (mut plugins, place) = load_objects(at, &entry, span)
                    .map_err(|error| error.wrap(format!("unable to load {field} entry")))?;
                for plugin in &mut plugins {
                    self.plugin(at, plugin).map_err(|error| error.or_at(span))?;
                }
                let texts: Vec<String> =
                    plugins.iter().map(|plugin| gantry_yaml::emit(&plugin.node)).collect();
                let text = texts.join("---\n");
                let own = match place {
                    Place::Inline => text,
                    Place::File => self.file_with(at, &entry, text.into_bytes()).map_err(|error| {
                        error.wrap(format!("unable to localize {field} entry")).or_at(span)
                    })?,
                };
                set(item, own);
            }
        }
        Ok(())
    }

    fn plugin(&mut self, at: &Root<'a>, plugin: &mut Resource) -> Result<()> {
        if plugin.api_version() != "builtin" {
            return Ok(());
        }
        let kind = plugin.kind().to_owned();
        let id = plugin.current_id().to_string();
        for (_, path, names) in FIELDS.iter().filter(|(of, ..)| *of == kind) {
            let spec = FieldSpec { path: (*path).to_owned(), ..FieldSpec::default() };
            visit(&mut plugin.node, &spec, Create::Nothing, &mut |field| self.all(at, field, *names))
                .map_err(|error| error.wrap(format!("considering field '{path}' of object {id}")))?;
        }
        if kind == "HelmChartInflationGenerator" {
            self.home_of(at, &mut plugin.node).map_err(|error| error.wrap(format!("plugin {id}")))?;
        }
        Ok(())
    }

    fn all(&mut self, at: &Root<'a>, field: &mut Node, names: Names) -> Result<()> {
        match &mut field.data {
            Data::Sequence(items) => items.iter_mut().try_for_each(|item| self.one(at, item, names)),
            Data::Scalar(_) => self.one(at, field, names),
            Data::Mapping(_) => Err(Error::at("expected sequence or scalar node", field.span)),
        }
    }

    fn one(&mut self, at: &Root<'a>, item: &mut Node, names: Names) -> Result<()> {
        match names {
            Names::Files => self.replace(at, item, Localizer::file),
            Names::FileSources => self.replace(at, item, Localizer::file_source),
            Names::Objects => {
                self.replace(at, item, |localizer, at, entry| localizer.objects(at, entry, Span::NONE))
            }
        }
    }
}
