//! `helmCharts`: what Helm is asked, and its answer as resources. Helm itself is run through a door.
//!
//! The arguments, the environment and the way in which values are merged are those of Kustomize's
//! HelmChartInflationGenerator.

use std::path::{Path, PathBuf};

use gantry_yaml::{FileId, Node, Span, parse_documents};
use regex::Regex;
use serde::Deserialize;

use crate::HelmOptions;
use crate::build::{Context, Target};
use crate::door::{Call, Finished};
use crate::error::{Error, Result};
use crate::fs::normal;
use crate::kustomization::{Ignored, item_span};
use crate::merge::strategic_merge;
use crate::patch::place_all;
use crate::resource::{Resource, resources_from};
use crate::schema::Rules;

/// Where charts are, from the kustomization, unless it says otherwise.
pub(crate) const DEFAULT_HOME: &str = "charts";
const MERGE_RULES: [&str; 3] = ["merge", "override", "replace"];
/// A build of more charts is refused.
const MOST_CHARTS: usize = 1000;
/// Helm's major versions whose arguments are these.
const VERSIONS: [&str; 2] = ["3", "4"];

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct Chart {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) repo: String,
    pub(crate) release_name: String,
    pub(crate) namespace: String,
    pub(crate) additional_values_files: Vec<String>,
    pub(crate) values_file: String,
    /// Taken from the node, with its places.
    pub(crate) values_inline: Option<Ignored>,
    pub(crate) values_merge: String,
    #[serde(rename = "includeCRDs")]
    pub(crate) include_crds: bool,
    pub(crate) skip_hooks: bool,
    pub(crate) api_versions: Vec<String>,
    pub(crate) kube_version: String,
    pub(crate) name_template: String,
    pub(crate) skip_tests: bool,
    pub(crate) debug: bool,
    pub(crate) devel: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct Globals {
    pub(crate) chart_home: String,
    pub(crate) config_home: String,
}

/// An item of the deprecated `helmChartInflationGenerator`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct OldChart {
    chart_name: String,
    chart_version: String,
    chart_repo_url: String,
    chart_home: String,
    #[serde(rename = "chartRepoName")]
    _chart_repo_name: String,
    #[serde(rename = "helmBin")]
    _helm_bin: String,
    helm_home: String,
    values: String,
    values_local: Option<Ignored>,
    values_merge: String,
    release_name: String,
    #[serde(rename = "releaseNamespace")]
    _release_namespace: String,
    #[serde(rename = "extraArgs")]
    _extra_args: Vec<String>,
}

/// The fields of a chart and of the globals where both stand in one object.
const CHART_FIELDS: [&str; 17] = [
    "name",
    "version",
    "repo",
    "releaseName",
    "namespace",
    "additionalValuesFiles",
    "valuesFile",
    "valuesInline",
    "valuesMerge",
    "includeCRDs",
    "skipHooks",
    "apiVersions",
    "kubeVersion",
    "nameTemplate",
    "skipTests",
    "debug",
    "devel",
];
const GLOBAL_FIELDS: [&str; 2] = ["chartHome", "configHome"];

/// One chart with all that it is rendered from.
struct Rendering<'a> {
    chart: Chart,
    helm: &'a HelmOptions,
    target: &'a Target<'a>,
    /// Absolute.
    home: PathBuf,
    config_home: PathBuf,
    values: Option<&'a Node>,
    span: Span,
}

impl Globals {
    /// What is said wins over what was.
    pub(crate) fn take(&mut self, other: Globals) {
        if !other.chart_home.is_empty() {
            self.chart_home = other.chart_home;
        }
        if !other.config_home.is_empty() {
            self.config_home = other.config_home;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.chart_home.is_empty() && self.config_home.is_empty()
    }
}

impl OldChart {
    pub(crate) fn split(self) -> (Chart, Globals) {
        let chart = Chart {
            name: self.chart_name,
            version: self.chart_version,
            repo: self.chart_repo_url,
            values_file: self.values,
            values_inline: self.values_local,
            values_merge: self.values_merge,
            release_name: self.release_name,
            ..Chart::default()
        };
        (chart, Globals { chart_home: self.chart_home, config_home: self.helm_home })
    }
}

impl Context<'_> {
    /// The resources of an item of `helmCharts`, or of the deprecated list behind it.
    pub(crate) fn chart(&self, target: &Target<'_>, chart: &Chart, index: usize) -> Result<Vec<Resource>> {
        let items = |field: &str| target.node.get(field).and_then(Node::as_sequence).unwrap_or_default();
        let own = items("helmCharts");
        let (field, index, values) = match own.get(index) {
            Some(_) => ("helmCharts", index, "valuesInline"),
            None => ("helmChartInflationGenerator", index - own.len(), "valuesLocal"),
        };
        let node = items(field).get(index);
        let span = item_span(&target.node, field, index);
        if target.kustomization.helm_charts.len() > MOST_CHARTS {
            return Err(Error::at(format!("more than {MOST_CHARTS} charts"), span));
        }
        let mut chart = chart.clone();
        if chart.namespace.is_empty() {
            chart.namespace.clone_from(&target.chart_namespace);
        }
        let globals = target.kustomization.helm_globals.clone().unwrap_or_default();
        self.render(target, chart, globals, node.and_then(|node| node.get(values)), span)
    }

    /// The resources of a `HelmChartInflationGenerator` in a file of its own.
    pub(crate) fn chart_plugin(&self, target: &Target<'_>, config: &Node) -> Result<Vec<Resource>> {
        let only = |fields: &[&str]| {
            let mut node = config.clone();
            if let Some(entries) = node.as_mapping_mut() {
                entries.retain(|(key, _)| key.text().is_some_and(|key| fields.contains(&key)));
            }
            node
        };
        let chart: Chart = crate::plugin::read(&only(&CHART_FIELDS))?;
        let globals: Globals = crate::plugin::read(&only(&GLOBAL_FIELDS))?;
        self.render(target, chart, globals, config.get("valuesInline"), config.span)
    }

    fn render(
        &self,
        target: &Target<'_>,
        mut chart: Chart,
        globals: Globals,
        values: Option<&Node>,
        span: Span,
    ) -> Result<Vec<Resource>> {
        let refused = |message: String| {
            Error::at(format!("trouble configuring builtin HelmChartInflationGenerator: {message}"), span)
        };
        let Some(helm) = &self.options.helm else {
            return Err(refused("must specify --enable-helm".to_owned()));
        };
        if helm.command.is_empty() {
            return Err(refused("must specify --helm-command".to_owned()));
        }
        if chart.name.is_empty() {
            return Err(refused("chart name cannot be empty".to_owned()));
        }
        if chart.values_merge.is_empty() {
            chart.values_merge = "override".to_owned();
        }
        if !MERGE_RULES.contains(&chart.values_merge.as_str()) {
            return Err(refused(format!("valuesMerge must be one of [{}]", MERGE_RULES.join(" "))));
        }
        for (what, word) in
            [("name", &chart.name), ("releaseName", &chart.release_name), ("repo", &chart.repo)]
        {
            if word.starts_with('-') {
                return Err(refused(format!("{what} '{word}' begins with a dash")));
            }
        }
        // What was said on the command line wins.
        if !helm.kube_version.is_empty() {
            chart.kube_version.clone_from(&helm.kube_version);
        }
        if !helm.api_versions.is_empty() {
            chart.api_versions.clone_from(&helm.api_versions);
        }
        chart.debug |= helm.debug;
        let programs = target.loader.doors.programs;
        let config_home = match globals.config_home.as_str() {
            "" => programs.scratch().map_err(|error| Error::at(error, span))?.join("helm"),
            home => PathBuf::from(home),
        };
        let home = if globals.chart_home.is_empty() { DEFAULT_HOME } else { &globals.chart_home };
        let mut home = normal(&target.loader.root.join(home));
        if !chart.version.is_empty() && !chart.repo.is_empty() {
            home.push(format!("{}-{}", chart.name, chart.version));
        }
        let mut rendering = Rendering { chart, helm, target, home, config_home, values, span };
        let mut made = rendering.resources().map_err(|error| error.or_at(span))?;
        made.iter_mut().for_each(|resource| resource.of_chart = true);
        Ok(made)
    }
}

impl Rendering<'_> {
    fn resources(&mut self) -> Result<Vec<Resource>> {
        self.check_version()?;
        if !self.target.loader.is_dir(&self.folder()) {
            self.pull()?;
        }
        let additional = self.additional_values()?;
        let values = self.values_file()?;
        let rendered = self.run(template_arguments(&self.chart, &self.folder(), &values, &additional))?;
        let output =
            String::from_utf8(rendered.output).map_err(|_| Error::new("helm's output is not UTF-8 text"))?;
        self.parse(&output)
    }

    fn folder(&self) -> PathBuf {
        self.home.join(&self.chart.name)
    }

    fn check_version(&self) -> Result<()> {
        let answer = self.run(vec!["version".to_owned(), "--short".to_owned()])?;
        let text = String::from_utf8_lossy(&answer.output).into_owned();
        let pattern =
            Regex::new(r"v?(\d+)(\.\d+)+").map_err(|error| Error::new(format!("helm version: {error}")))?;
        let Some(found) = pattern.captures(&text) else {
            return Err(Error::new(format!("cannot find version string in {}", text.trim())));
        };
        let major = found.get(1).map_or("", |major| major.as_str());
        if VERSIONS.contains(&major) {
            return Ok(());
        }
        let found = found.get(0).map_or("", |all| all.as_str()).trim_start_matches('v');
        Err(Error::new(format!("this plugin requires helm V3 or V4 but got v{found}")))
    }

    /// Fetches the chart into its home, which in a fetched repository is not ours to write to.
    fn pull(&mut self) -> Result<()> {
        if self.chart.repo.is_empty() {
            return Err(Error::new(format!(
                "no repo specified for pull, no chart found at '{}'",
                self.folder().display()
            )));
        }
        if self.target.loader.tree.is_some() {
            let scratch = self.target.loader.doors.programs.scratch().map_err(Error::new)?;
            let version = if self.chart.version.is_empty() { "latest" } else { &self.chart.version };
            self.home = scratch.join("charts").join(format!("{}-{version}", self.chart.name));
            if self.target.loader.is_dir(&self.folder()) {
                return Ok(());
            }
        }
        self.run(pull_arguments(&self.chart, &self.home)).map(drop)
    }

    fn additional_values(&self) -> Result<Vec<PathBuf>> {
        let loader = &self.target.loader;
        let files = self.chart.additional_values_files.iter();
        files
            .map(|file| {
                loader.load(file).map_err(|error| error.wrap("could not load additionalValuesFile"))?;
                Ok(normal(&loader.root.join(file)))
            })
            .collect()
    }

    /// The chart's own values, or those that are named instead of them.
    fn base_values(&self) -> Result<Vec<u8>> {
        let loader = &self.target.loader;
        if !self.chart.values_file.is_empty() {
            return Ok(loader.load(&self.chart.values_file)?.1);
        }
        let own = self.folder().join("values.yaml");
        match own.strip_prefix(&loader.root) {
            Ok(below) => Ok(loader.load(&below.to_string_lossy())?.1),
            // Only where it was pulled to a folder of the build's.
            Err(_) if loader.tree.is_some() => loader.read_anywhere(&own),
            Err(_) => Ok(loader.load(&own.to_string_lossy())?.1),
        }
    }

    /// A new file with the values that Helm gets.
    fn values_file(&self) -> Result<PathBuf> {
        let inline =
            self.values.filter(|values| values.as_mapping().is_some_and(|entries| !entries.is_empty()));
        let content = match inline {
            None => self.base_values()?,
            Some(inline) if self.chart.values_merge == "replace" => gantry_yaml::emit(inline).into_bytes(),
            Some(inline) => {
                let text = String::from_utf8(self.base_values()?)
                    .map_err(|_| Error::new("the chart's values are not UTF-8 text"))?;
                let mut documents = parse_documents(FileId(0), &text).map_err(|error| {
                    Error::new(format!(
                        "values of chart '{}', line {}: {}",
                        self.chart.name,
                        error.span().line(),
                        error.message()
                    ))
                })?;
                let mut values =
                    if documents.is_empty() { Node::null(self.span) } else { documents.swap_remove(0) };
                if values.as_mapping().is_none() {
                    values = Node::mapping(self.span);
                }
                let merged = merge_values(values, inline, self.chart.values_merge == "override")?;
                gantry_yaml::emit(&merged).into_bytes()
            }
        };
        let name = format!("{}-kustomize-values.yaml", self.chart.name.replace('/', "_"));
        self.target.loader.doors.programs.scratch_file(&name, &content).map_err(Error::new)
    }

    fn run(&self, arguments: Vec<String>) -> Result<Finished> {
        let home = self.config_home.display();
        let call = Call {
            program: self.helm.command.clone(),
            arguments,
            directory: None,
            environment: vec![
                ("HELM_CONFIG_HOME".to_owned(), home.to_string()),
                ("HELM_CACHE_HOME".to_owned(), format!("{home}/.cache")),
                ("HELM_DATA_HOME".to_owned(), format!("{home}/.data")),
            ],
            input: Vec::new(),
        };
        let shown = format!("'{} {}'", call.program, call.arguments.join(" "));
        let finished = self.target.loader.doors.programs.run(&call).map_err(|error| {
            Error::new(format!("unable to run: {shown} (is '{}' installed?): {error}", call.program))
        })?;
        if finished.success {
            return Ok(finished);
        }
        let said = finished.errors.trim();
        Err(Error::new(format!("{said}: unable to run: {shown}: {}", finished.status)))
    }

    /// Reads what Helm rendered. It may say things before the first document.
    fn parse(&self, output: &str) -> Result<Vec<Resource>> {
        let read = |text: &str| {
            let mut documents = parse_documents(FileId(0), text).map_err(|error| {
                Error::new(format!("helm's output, line {}: {}", error.span().line(), error.message()))
            })?;
            documents.iter_mut().for_each(|document| place_all(document, self.span));
            resources_from(documents)
        };
        read(output).or_else(|error| match output.find("\n---\n") {
            Some(at) => read(&output[at + 1..]),
            None => Err(error.wrap("could not parse bytes into resource map")),
        })
    }
}

fn template_arguments(chart: &Chart, folder: &Path, values: &Path, additional: &[PathBuf]) -> Vec<String> {
    let mut arguments = vec!["template".to_owned()];
    let mut add = |words: &[&str]| arguments.extend(words.iter().map(|word| (*word).to_owned()));
    match chart.release_name.as_str() {
        "" => add(&["--generate-name"]),
        name => add(&[name]),
    }
    add(&[&folder.to_string_lossy()]);
    for (flag, value) in [("--namespace", &chart.namespace), ("--name-template", &chart.name_template)] {
        if !value.is_empty() {
            add(&[flag, value]);
        }
    }
    for file in std::iter::once(values).chain(additional.iter().map(PathBuf::as_path)) {
        add(&["-f", &file.to_string_lossy()]);
    }
    for version in &chart.api_versions {
        add(&["--api-versions", version]);
    }
    if !chart.kube_version.is_empty() {
        add(&["--kube-version", &chart.kube_version]);
    }
    for (flag, wanted) in [
        ("--include-crds", chart.include_crds),
        ("--skip-tests", chart.skip_tests),
        ("--no-hooks", chart.skip_hooks),
        ("--debug", chart.debug),
        ("--devel", chart.devel),
    ] {
        if wanted {
            add(&[flag]);
        }
    }
    arguments
}

fn pull_arguments(chart: &Chart, home: &Path) -> Vec<String> {
    let mut arguments: Vec<String> = vec!["pull".into(), "--untar".into(), "--untardir".into()];
    arguments.push(home.to_string_lossy().into_owned());
    if chart.repo.starts_with("oci://") {
        arguments.push(format!("{}/{}", chart.repo.trim_end_matches('/'), chart.name));
    } else {
        arguments.extend(["--repo".to_owned(), chart.repo.clone(), chart.name.clone()]);
    }
    if !chart.version.is_empty() {
        arguments.extend(["--version".to_owned(), chart.version.clone()]);
    }
    arguments
}

/// The chart's values and those of the kustomization as a strategic merge without a schema: a list replaces a list, a null
/// takes away what it meets, and something of another kind is refused.
fn merge_values(chart: Node, inline: &Node, overrides: bool) -> Result<Node> {
    let span = inline.span;
    let rules = Rules::default();
    let merged = if overrides {
        strategic_merge(chart, inline, &rules)
    } else {
        strategic_merge(inline.clone(), &chart, &rules)
    };
    let merged = merged.map_err(|error| Error::new(error.message()).wrap("could not merge values"))?;
    Ok(merged.unwrap_or_else(|| Node::mapping(span)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(text: &str) -> Node {
        parse_documents(FileId(0), text).unwrap().remove(0)
    }

    #[track_caller]
    fn merged(chart: &str, inline: &str, overrides: bool, expected: &str) {
        let values = merge_values(node(chart), &node(inline), overrides).unwrap();
        assert_eq!(gantry_yaml::emit(&values), expected);
    }

    // What the real kustomize gave helm for the same values.
    #[test]
    fn overriding_values_win_and_take_away_with_null() {
        let chart = "replicas: 2\nimage: {tag: '1'}\na: true\nlist: [1]\nb: {c: 2, d: 0}\nem: {}\n";
        let inline = "{replicas: 3, a: false, image: {}, list: [], z: null, b: {c: null, d: 5}, em: {q: 1}, m: {k: null}}";
        let expected =
            "a: false\nb:\n  d: 5\nem:\n  q: 1\nimage:\n  tag: \"1\"\nlist: []\nm: {}\nreplicas: 3\n";
        merged(chart, inline, true, expected);
        merged(
            "l: [{name: a, v: 1}, {name: b}]\n",
            "l: [{name: a, w: 2}]\n",
            true,
            "l:\n- name: a\n  w: 2\n",
        );
        merged("a: 1\nb: null\n", "a: null\nb: null\n", true, "{}\n");
    }

    #[test]
    fn merged_values_leave_to_the_chart_what_it_says() {
        merged(
            "a: 1\ne: ''\nl: [1]\nd: {x: null}\n",
            "{a: 2, e: x, l: [2], d: {x: {q: 1}}, z: null}",
            false,
            "a: 1\nd: {}\ne: \"\"\nl:\n- 1\nz: null\n",
        );
    }

    #[test]
    fn values_of_another_kind_are_refused() {
        for (chart, inline) in
            [("m: {b: 1}\n", "m: word\n"), ("m: [1]\n", "m: word\n"), ("m: word\n", "m: {b: 1}\n")]
        {
            let refused = merge_values(node(chart), &node(inline), true).expect_err(inline);
            assert!(
                refused.message().starts_with("could not merge values: ")
                    && refused.message().contains("wrong node kind"),
                "{refused}"
            );
        }
    }

    #[test]
    fn arguments_come_in_helms_order() {
        let chart = Chart {
            name: "web".into(),
            namespace: "shop".into(),
            api_versions: vec!["a/v1".into(), "b/v2".into()],
            kube_version: "1.30".into(),
            include_crds: true,
            skip_tests: true,
            skip_hooks: true,
            ..Chart::default()
        };
        let found =
            template_arguments(&chart, Path::new("/c/web"), Path::new("/t/v.yaml"), &["/k/more.yaml".into()]);
        let expected = "template --generate-name /c/web --namespace shop -f /t/v.yaml -f /k/more.yaml --api-versions a/v1 \
                        --api-versions b/v2 --kube-version 1.30 --include-crds --skip-tests --no-hooks";
        assert_eq!(found.join(" "), expected);
    }

    #[test]
    fn a_chart_of_a_registry_is_pulled_by_its_address() {
        let mut chart =
            Chart { name: "web".into(), repo: "oci://r.example/charts/".into(), ..Chart::default() };
        assert_eq!(
            pull_arguments(&chart, Path::new("/c")).join(" "),
            "pull --untar --untardir /c oci://r.example/charts/web"
        );
        chart.repo = "https://r.example".into();
        chart.version = "1.2".into();
        assert_eq!(
            pull_arguments(&chart, Path::new("/c")).join(" "),
            "pull --untar --untardir /c --repo https://r.example web --version 1.2"
        );
    }
}
