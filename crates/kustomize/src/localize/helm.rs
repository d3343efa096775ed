//! The files of Helm charts: values files as other files, and local chart homes whole.

use std::path::{Path, PathBuf};

use gantry_yaml::Node;

use super::fields::items;
use super::{Localizer, Root, relative};
use crate::error::{Error, Result};
use crate::fs::normal;
use crate::helm::DEFAULT_HOME;

/// A chart home nests no deeper.
const MOST_DEPTH: usize = 64;

impl<'a> Localizer<'a> {
    pub(super) fn charts(&mut self, at: &Root<'a>, node: &mut Node) -> Result<()> {
        for (index, chart) in items(node, "helmChartInflationGenerator").iter_mut().enumerate() {
            self.path_of(at, chart, "values").map_err(|error| {
                error.wrap(format!("unable to localize helmChartInflationGenerator entry {index} values"))
            })?;
            self.home_of(at, chart).map_err(|error| {
                error.wrap(format!("unable to copy helmChartInflationGenerator entry {index}"))
            })?;
        }
        for (index, chart) in items(node, "helmCharts").iter_mut().enumerate() {
            self.path_of(at, chart, "valuesFile").map_err(|error| {
                error.wrap(format!("unable to localize helmCharts entry {index} valuesFile"))
            })?;
            for item in items(chart, "additionalValuesFiles") {
                self.replace(at, item, Localizer::file).map_err(|error| {
                    error.wrap(format!("unable to localize helmCharts entry {index} additionalValuesFiles"))
                })?;
            }
        }
        let has_charts = !items(node, "helmCharts").is_empty();
        match node.get_mut("helmGlobals").filter(|globals| !globals.is_null()) {
            Some(globals) => {
                self.home_of(at, globals).map_err(|error| error.wrap("unable to copy helmGlobals"))
            }
            None if has_charts => {
                self.home(at, "").map_err(|error| error.wrap("unable to copy default chart home")).map(drop)
            }
            None => Ok(()),
        }
    }

    /// Copies the chart home that `chartHome` names, or else the default one.
    pub(super) fn home_of(&mut self, at: &Root<'a>, node: &mut Node) -> Result<()> {
        match node.get_mut("chartHome").filter(|home| !home.is_null()) {
            Some(home) => self.replace(at, home, Localizer::home),
            None => self.home(at, "").map(drop),
        }
    }

    /// The path of a chart home in the copy. One that is not there stays named: Helm may make it.
    fn home(&mut self, at: &Root<'a>, entry: &str) -> Result<String> {
        let path = Path::new(if entry.is_empty() { DEFAULT_HOME } else { entry });
        if path.is_absolute() {
            return Err(Error::new(format!("absolute path {entry:?} not handled in alpha")));
        }
        let own = self
            .copied_home(at, path)
            .map_err(|error| error.wrap(format!("unable to copy home {entry:?}")))?;
        Ok(if entry.is_empty() { String::new() } else { own.display().to_string() })
    }

    fn copied_home(&mut self, at: &Root<'a>, path: &Path) -> Result<PathBuf> {
        let root = &at.loader.root;
        let folder = normal(&root.join(path));
        let own = relative(root, &folder);
        if self.fs.canonical(&folder).is_err() {
            return Ok(own);
        }
        let entered =
            self.enter(at, &own.display().to_string()).map_err(|error| error.wrap("invalid chart home"))?;
        let is_default = folder == root.join(DEFAULT_HOME);
        let own = if is_default { own } else { relative(root, &entered.root) };
        self.tree(&entered.root, &at.place.join(&own), 0)?;
        Ok(own)
    }

    /// Copies a folder; links in it are left out.
    fn tree(&mut self, folder: &Path, place: &Path, depth: usize) -> Result<()> {
        let failed = |error: std::io::Error| Error::new(format!("'{}': {error}", folder.display()));
        if depth > MOST_DEPTH {
            return Err(Error::new(format!(
                "'{}': a chart home nests deeper than {MOST_DEPTH}",
                folder.display()
            )));
        }
        let place = super::inside(place)?;
        self.copy.folders.insert(place.clone());
        for name in self.fs.list(folder).map_err(failed)? {
            let path = folder.join(&name);
            // Where a link leads is another place than its own.
            if !self.fs.canonical(&path).is_ok_and(|found| found == path) {
                continue;
            }
            let own = place.join(&name);
            if self.fs.is_dir(&path) {
                self.tree(&path, &own, depth + 1)?;
            } else if !self.copy.files.contains_key(&own) {
                let content = self.fs.read(&path).map_err(failed)?;
                self.keep(own, content)?;
            }
        }
        Ok(())
    }
}
