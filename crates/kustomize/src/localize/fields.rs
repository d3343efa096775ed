//! The fields of a kustomization file that name files and directories.

use gantry_yaml::{Data, Node, Scalar, Style, Tag};

use super::{Localizer, Root};
use crate::error::{Error, Result};

/// How the path in a field is copied.
type CopyPath<'a> = fn(&mut Localizer<'a>, &Root<'a>, &str) -> Result<String>;

impl<'a> Localizer<'a> {
    pub(super) fn fields(&mut self, at: &Root<'a>, node: &mut Node) -> Result<()> {
        if let Some(path) = node.get_mut("openapi").and_then(|openapi| openapi.get_mut("path")) {
            self.replace(at, path, Localizer::file)
                .map_err(|error| error.wrap("unable to localize openapi path"))?;
        }
        let lists: [(&str, CopyPath<'a>); 5] = [
            ("bases", Localizer::directory),
            ("components", Localizer::directory),
            ("configurations", Localizer::file),
            ("crds", Localizer::file),
            ("resources", Localizer::resource),
        ];
        for (field, copy) in lists {
            for item in items(node, field) {
                self.replace(at, item, copy)
                    .map_err(|error| error.wrap(format!("unable to localize {field} entry")))?;
            }
        }
        for field in ["configMapGenerator", "secretGenerator"] {
            for generator in items(node, field) {
                self.generator(at, generator)
                    .map_err(|error| error.wrap(format!("unable to localize {field}")))?;
            }
        }
        self.charts(at, node)?;
        for field in ["patches", "patchesJson6902"] {
            for item in items(node, field) {
                self.path_of(at, item, "path")
                    .map_err(|error| error.wrap(format!("unable to localize {field}")))?;
            }
        }
        for item in items(node, "patchesStrategicMerge") {
            let span = item.span;
            let entry = item.text().unwrap_or_default().to_owned();
            let own = self
                .objects(at, &entry, span)
                .map_err(|error| error.wrap("unable to localize patchesStrategicMerge entry").or_at(span))?;
            set(item, own);
        }
        for item in items(node, "replacements") {
            self.path_of(at, item, "path")
                .map_err(|error| error.wrap("unable to localize replacements entry"))?;
        }
        Ok(())
    }

    fn generator(&mut self, at: &Root<'a>, generator: &mut Node) -> Result<()> {
        self.path_of(at, generator, "env")
            .map_err(|error| error.wrap("unable to localize generator env file"))?;
        for item in items(generator, "envs") {
            self.replace(at, item, Localizer::file)
                .map_err(|error| error.wrap("unable to localize generator envs file"))?;
        }
        for item in items(generator, "files") {
            self.replace(at, item, Localizer::file_source)?;
        }
        Ok(())
    }

    /// `path`, or `key=path`.
    pub(super) fn file_source(&mut self, at: &Root<'a>, source: &str) -> Result<String> {
        let (key, path) = crate::generate::file_source(source)?;
        let own =
            self.file(at, path).map_err(|error| error.wrap(format!("invalid file source {source:?}")))?;
        Ok(if path == source { own } else { format!("{key}={own}") })
    }

    /// Copies what a key of a mapping names, if it is there.
    pub(super) fn path_of(&mut self, at: &Root<'a>, node: &mut Node, key: &str) -> Result<()> {
        match node.get_mut(key) {
            Some(path) => self.replace(at, path, Localizer::file),
            None => Ok(()),
        }
    }

    /// Copies what a scalar names, and puts the copy's path in its place.
    pub(super) fn replace(&mut self, at: &Root<'a>, node: &mut Node, copy: CopyPath<'a>) -> Result<()> {
        if node.is_null() {
            return Ok(());
        }
        let span = node.span;
        let Some(path) = node.text().map(str::to_owned) else {
            return Err(Error::at(format!("expected a path, found a {}", node.type_name()), span));
        };
        let own = copy(self, at, &path).map_err(|error| error.or_at(span))?;
        set(node, own);
        Ok(())
    }
}

pub(super) fn set(node: &mut Node, text: String) {
    node.data = Data::Scalar(Scalar { text: text.into(), tag: Tag::Str, style: Style::Plain });
}

/// The items of a list field.
pub(super) fn items<'n>(node: &'n mut Node, field: &str) -> &'n mut [Node] {
    match node.get_mut(field).and_then(Node::as_sequence_mut) {
        Some(items) => items,
        None => &mut [],
    }
}
