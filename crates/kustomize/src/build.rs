//! The pipeline: resources, generators, components, transformers, per directory; names and order after the root.

use std::cell::RefCell;
use std::rc::Rc;

use gantry_yaml::{FileId, Node, Span, parse_documents};

use crate::config::{Config, FieldSpec, merge_specs};
use crate::crd;
use crate::door::Doors;
use crate::error::{Error, Result};
use crate::fs::FileSystem;
use crate::generate::{self, generate};
use crate::id::ResId;
use crate::kustomization::{FILE_NAMES, GeneratorOptions, Kustomization, Var, item_span};
use crate::loader::{Files, Loader};
use crate::order;
use crate::origin::Origin;
use crate::patch;
use crate::plugin::{self, Plugin};
use crate::remote;
use crate::resmap::{ResMap, near_miss};
use crate::resource::{Resource, resources_from};
use crate::schema::Rules;
use crate::selector::{Matcher, Selector};
use crate::trail::{self, Trail};
use crate::transform::{self, End, Subjects};
use crate::{Options, Order, Source, nameref, replacement, vars};

/// What all directories of a build share.
pub(crate) struct Context<'a> {
    pub(crate) options: &'a Options,
    pub(crate) rules: RefCell<Rules>,
    openapi_set: RefCell<bool>,
    pub(crate) warnings: RefCell<Vec<String>>,
    pub(crate) build_metadata: RefCell<Vec<String>>,
    /// What changed what, where somebody asks.
    pub(crate) trail: Option<RefCell<Trail>>,
}

/// What was gathered so far: resources, field specifications, variables.
#[derive(Default)]
pub(crate) struct Accumulator {
    pub(crate) map: ResMap,
    specs: Specs,
    vars: Vec<Var>,
}

/// One directory with its kustomization.
pub(crate) struct Target<'a> {
    pub(crate) loader: Loader<'a>,
    pub(crate) kustomization: Kustomization,
    pub(crate) node: Node,
    pub(crate) file_name: &'static str,
    /// The namespace that charts get where they do not say: the nearest one said on the way here.
    pub(crate) chart_namespace: String,
}

/// What a build comes to before it is printed.
pub(crate) struct Outcome {
    pub(crate) resources: Vec<Resource>,
    pub(crate) files: Files,
    pub(crate) warnings: Vec<String>,
}

/// Builds one kustomization.
pub(crate) fn run(
    fs: &dyn FileSystem,
    doors: Doors<'_>,
    source: Source<'_>,
    options: &Options,
) -> Result<Outcome> {
    run_watched(fs, doors, source, options, None).map(|(outcome, _)| outcome)
}

/// The same, with a trail that it fills.
pub(crate) fn run_watched(
    fs: &dyn FileSystem,
    doors: Doors<'_>,
    source: Source<'_>,
    options: &Options,
    trail: Option<RefCell<Trail>>,
) -> Result<(Outcome, Option<Trail>)> {
    let files = Rc::new(RefCell::new(Files::default()));
    let loader = match source {
        Source::Directory(dir) => Loader::new(fs, doors, dir, options.load_restrictor, files.clone())?,
        Source::Repository(repository) => Loader::new_remote(fs, doors, repository, files.clone())?,
    };
    let context = Context {
        options,
        rules: RefCell::default(),
        openapi_set: RefCell::new(false),
        warnings: RefCell::default(),
        build_metadata: RefCell::default(),
        trail,
    };
    let resources = context.root(&loader).map_err(|error| loader.locate(error))?;
    let files = files.borrow().clone();
    let outcome = Outcome { resources, files, warnings: context.warnings.into_inner() };
    Ok((outcome, context.trail.map(RefCell::into_inner)))
}

/// The field specifications in force. Most builds never have any but the defaults, which are not copied.
#[derive(Default)]
enum Specs {
    #[default]
    Unset,
    Defaults,
    Custom(Box<Config>),
}

impl Specs {
    fn get(&self) -> &Config {
        match self {
            Specs::Unset | Specs::Defaults => Config::defaults(),
            Specs::Custom(config) => config,
        }
    }

    /// Adds what is not covered by what is there already: who comes first wins.
    fn merge(&mut self, other: Specs) -> Result<()> {
        match (&mut *self, other) {
            (_, Specs::Unset) | (Specs::Defaults, Specs::Defaults) => {}
            (Specs::Unset, other) => *self = other,
            (Specs::Defaults, Specs::Custom(other)) => {
                let mut merged = Config::defaults().clone();
                merged.merge(&other)?;
                *self = Specs::Custom(Box::new(merged));
            }
            (Specs::Custom(own), other) => own.merge(other.get())?,
        }
        Ok(())
    }
}

impl Accumulator {
    fn absorb(&mut self, other: Accumulator) -> Result<()> {
        self.map.append_all(other.map.into_resources())?;
        self.specs.merge(other.specs)?;
        vars::extend(&mut self.vars, &other.vars)
    }
}

impl Context<'_> {
    fn root(&self, loader: &Loader<'_>) -> Result<Vec<Resource>> {
        let target = self.load(loader)?;
        self.set_openapi(&target)?;
        *self.build_metadata.borrow_mut() = target.kustomization.build_metadata.clone();
        let mut accumulator = self.accumulate(&target, Accumulator::default(), &Origin::default())?;
        let config = std::mem::take(&mut accumulator.specs);
        let config = config.get();
        transform::hashes(&mut accumulator.map);
        self.seen(&mut accumulator.map, &target, "nameSuffixHash", None)?;
        nameref::fix(&mut accumulator.map, &config.name_reference)?;
        self.seen(&mut accumulator.map, &target, "nameReference", None)?;
        let unused = vars::resolve(&mut accumulator.map, &accumulator.vars, &config.var_reference)?;
        self.seen(&mut accumulator.map, &target, "vars", None)?;
        if !unused.is_empty() {
            self.warn(format!("well-defined vars that were never replaced: {}", unused.join(",")));
        }
        let mut resources = accumulator.map.into_resources();
        resources.retain(|resource| resource.annotation("config.kubernetes.io/local-config").is_none());
        self.sort(&target.kustomization, &mut resources);
        if self.has_metadata("managedByLabel") || self.options.managed_by_label {
            for resource in &mut resources {
                resource.set_label("app.kubernetes.io/managed-by", concat!("kustomize-", "v5.8.1"));
            }
        }
        let keep_origin = self.has_metadata("originAnnotations");
        let keep_transformations = self.has_metadata("transformerAnnotations");
        for resource in &mut resources {
            resource.drop_notes(keep_origin, keep_transformations);
            plugin::finish_annotations(resource);
        }
        self.seen_result(&resources, &target)?;
        Ok(resources)
    }

    fn sort(&self, kustomization: &Kustomization, resources: &mut [Resource]) {
        match &kustomization.sort_options {
            Some(sort) if sort.order == "legacy" => {
                let lists = sort.legacy_sort_options.as_ref();
                order::legacy(resources, lists.map(|lists| (&lists.order_first[..], &lists.order_last[..])));
            }
            Some(_) => {}
            None if self.options.order == Order::Legacy => order::legacy(resources, None),
            None => {}
        }
    }

    pub(crate) fn warn(&self, warning: String) {
        self.warnings.borrow_mut().push(warning);
    }

    /// Says that something had no effect: a warning, or an error where the build is to be strict.
    fn idle(&self, target: &Target<'_>, message: &str, span: Span) -> Result<()> {
        if self.options.strict {
            return Err(Error::at(message, span));
        }
        let place = target.loader.describe(span).map_or(String::new(), |place| format!("\n  at {place}"));
        self.warn(format!("{message}{place}"));
        Ok(())
    }

    fn hint(&self, map: &ResMap, wanted: &ResId) -> String {
        let near = if wanted.name.is_empty() { None } else { near_miss(map.resources(), wanted) };
        near.map_or(String::new(), |near| format!("; did you mean {near}?"))
    }

    pub(crate) fn has_metadata(&self, word: &str) -> bool {
        self.build_metadata.borrow().iter().any(|have| have == word)
    }

    /// Reads the kustomization file of a directory.
    fn load<'l>(&self, loader: &Loader<'l>) -> Result<Target<'l>> {
        let found: Vec<&'static str> = FILE_NAMES.into_iter().filter(|name| loader.has(name)).collect();
        let root = loader.root.display();
        let file_name = match found[..] {
            [name] => name,
            [] => {
                return Err(Error::new(format!(
                    "unable to find one of 'kustomization.yaml', 'kustomization.yml' or 'Kustomization' in directory '{root}'"
                )));
            }
            _ => return Err(Error::new(format!("Found multiple kustomization files under: {root}"))),
        };
        let (file, text) = loader.load_text(file_name)?;
        let read = || -> Result<(Node, Kustomization)> {
            let documents =
                gantry_yaml::parse_documents_with(file, &text, gantry_yaml::DuplicateKeys::LastWins)
                    .map_err(|error| {
                        Error::at(format!("invalid Kustomization: {}", error.message()), error.span())
                    })?;
            let top = Span::new(file, 1, 1);
            let mut node = documents.into_iter().next().unwrap_or_else(|| Node::null(top));
            crate::kustomization::normalise_keys(&mut node);
            let kustomization = Kustomization::from_node(node.clone(), &mut self.warnings.borrow_mut())?;
            Ok((node, kustomization))
        };
        let (node, kustomization) = read().map_err(|error| loader.locate(error))?;
        let chart_namespace = kustomization.namespace.clone();
        Ok(Target { loader: loader.clone(), kustomization, node, file_name, chart_namespace })
    }

    /// The first OpenAPI document that a build names holds for all of it.
    fn set_openapi(&self, target: &Target<'_>) -> Result<()> {
        let openapi = &target.kustomization.openapi;
        if openapi.is_empty() || *self.openapi_set.borrow() {
            return Ok(());
        }
        let span = target.node.get("openapi").map_or(Span::NONE, |node| node.span);
        match (openapi.get("version"), openapi.get("path")) {
            (Some(_), Some(_)) => {
                return Err(Error::at("builtin version and custom schema provided, cannot use both", span));
            }
            (Some(version), None) if version != "v1.21.2" && version != "v1212" && version != "v1.20.4" => {
                return Err(Error::at(
                    format!("the specified OpenAPI version is not built in: {version}; known is v1.21.2"),
                    span,
                ));
            }
            (None, Some(path)) => {
                let (file, text) = target.loader.load_text(path).map_err(|error| error.or_at(span))?;
                let documents = parse_documents(file, &text).map_err(|error| malformed(&error, path))?;
                if let Some(document) = documents.first() {
                    self.rules.borrow_mut().read_openapi(document);
                }
            }
            _ => {}
        }
        *self.openapi_set.borrow_mut() = true;
        Ok(())
    }

    /// Runs the pipeline of one directory on top of what is there (for a component: its parent's resources).
    fn accumulate(
        &self,
        target: &Target<'_>,
        accumulator: Accumulator,
        origin: &Origin,
    ) -> Result<Accumulator> {
        self.accumulate_here(target, accumulator, origin).map_err(|error| target.loader.locate(error))
    }

    fn accumulate_here(
        &self,
        target: &Target<'_>,
        accumulator: Accumulator,
        origin: &Origin,
    ) -> Result<Accumulator> {
        let Target { loader, kustomization, node, .. } = target;
        let mut accumulator = self
            .resources(target, accumulator, &kustomization.resources, "resources", origin)
            .map_err(|error| error.wrap("accumulating resources"))?;
        if self.options.merge_by_definitions {
            let definitions = accumulator.map.iter().filter(|r| r.kind() == "CustomResourceDefinition");
            definitions.for_each(|definition| self.rules.borrow_mut().read_definition(&definition.node));
        }
        let mut own = Specs::Unset;
        for (index, path) in kustomization.configurations.iter().enumerate() {
            let span = item_span(node, "configurations", index);
            let (file, text) = loader.load_text(path).map_err(|error| error.or_at(span))?;
            for document in parse_documents(file, &text).map_err(|error| malformed(&error, path))? {
                own.merge(Specs::Custom(Box::new(Config::from_node(&document)?)))?;
            }
        }
        own.merge(Specs::Defaults)?;
        accumulator.specs.merge(own)?;
        for (index, path) in kustomization.crds.iter().enumerate() {
            let span = item_span(node, "crds", index);
            let (file, text) = loader.load_text(path).map_err(|error| error.or_at(span))?;
            for document in parse_documents(file, &text).map_err(|error| malformed(&error, path))? {
                accumulator.specs.merge(Specs::Custom(Box::new(crd::config_of(&document))))?;
            }
        }
        self.generators(target, &mut accumulator, origin)?;
        accumulator = self
            .components(target, accumulator, origin)
            .map_err(|error| error.wrap("accumulating components"))?;
        self.transformers(target, &mut accumulator, origin)?;
        self.validators(target, &mut accumulator, origin)?;
        vars::merge(&mut accumulator.map, &mut accumulator.vars, &kustomization.vars).map_err(|error| {
            error.wrap("merging vars").or_at(node.get("vars").map_or(Span::NONE, |node| node.span))
        })?;
        Ok(accumulator)
    }

    /// Adds the resources of each path: a file, or else a directory.
    pub(crate) fn resources(
        &self,
        target: &Target<'_>,
        mut accumulator: Accumulator,
        paths: &[String],
        field: &str,
        origin: &Origin,
    ) -> Result<Accumulator> {
        for (index, path) in paths.iter().enumerate() {
            let span = item_span(&target.node, field, index);
            if let Some(reason) = remote::unsupported(path) {
                return Err(Error::at(reason, span));
            }
            let as_file = if remote::is_surely_repository(path) {
                Err(Error::new("URL is a git repository"))
            } else {
                self.add_file(target, &mut accumulator, path, origin)
            };
            let not_a_file = match as_file {
                Ok(()) => {
                    self.seen_new(&mut accumulator.map, target, field, index)?;
                    continue;
                }
                Err(error) => error.wrap(format!("accumulating resources from '{path}'")),
            };
            // A repository's page is no YAML, and one behind a login is not found.
            if (not_a_file.malformed || not_a_file.answered) && !remote::is_http_repository(path) {
                return Err(not_a_file.or_at(span));
            }
            let base = match target.loader.enter(path) {
                Ok(base) => base,
                Err(_) if not_a_file.malformed => return Err(not_a_file),
                Err(error) => {
                    return Err(error
                        .wrap(format!("accumulation err='{}'", not_a_file.message()))
                        .or_at(span));
                }
            };
            let below = origin.enter(path);
            accumulator = self.directory(target, &base, accumulator, false, &below).map_err(|error| {
                let of_file = not_a_file.message();
                error.wrap(format!("accumulation err='{of_file}'")).or_at(span)
            })?;
        }
        Ok(accumulator)
    }

    fn add_file(
        &self,
        target: &Target<'_>,
        accumulator: &mut Accumulator,
        path: &str,
        origin: &Origin,
    ) -> Result<()> {
        let (file, text) = target.loader.load_text(path)?;
        let documents = match &self.options.documents {
            Some(known) => known.parse(&target.loader.path_of(file), file, &text),
            None => parse_documents(file, &text),
        };
        let mut resources = read_resources(documents, path).map_err(|error| target.loader.locate(error))?;
        if self.has_metadata("originAnnotations") || self.has_metadata("transformerAnnotations") {
            let of_file = origin.enter(path);
            resources.iter_mut().for_each(|resource| of_file.note(resource));
        }
        accumulator.map.append_all(resources).map_err(|error| {
            let mut error = target.loader.locate(error).wrap("merging resources");
            error.malformed = true;
            error
        })
    }

    fn directory(
        &self,
        parent: &Target<'_>,
        loader: &Loader<'_>,
        accumulator: Accumulator,
        component: bool,
        origin: &Origin,
    ) -> Result<Accumulator> {
        self.seen_below(parent);
        let root = loader.root.display();
        let mut target = self
            .load(loader)
            .map_err(|error| error.wrap(format!("couldn't make target for path '{root}'")))?;
        if target.chart_namespace.is_empty() {
            target.chart_namespace.clone_from(&parent.chart_namespace);
        }
        self.set_openapi(&target).map_err(|error| loader.locate(error))?;
        let kind = &target.kustomization.kind;
        let kind_span = target.node.get("kind").map_or(target.node.span, |node| node.span);
        if component != target.kustomization.is_component() {
            let message = if component {
                format!("expected kind 'Component' for path '{root}' but got '{kind}'")
            } else {
                format!("expected kind != 'Component' for path '{root}'")
            };
            return Err(loader.locate(Error::at(message, kind_span)));
        }
        let recursed = |error: Error| error.wrap(format!("recursed accumulation of path '{root}'"));
        if component {
            return self.accumulate(&target, accumulator, origin).map_err(recursed);
        }
        let inner = self.accumulate(&target, Accumulator::default(), origin).map_err(recursed)?;
        let mut accumulator = accumulator;
        accumulator
            .absorb(inner)
            .map_err(|error| loader.locate(error).wrap(format!("recursed merging from path '{root}'")))?;
        Ok(accumulator)
    }

    fn components(
        &self,
        target: &Target<'_>,
        mut accumulator: Accumulator,
        origin: &Origin,
    ) -> Result<Accumulator> {
        for (index, path) in target.kustomization.components.iter().enumerate() {
            let span = item_span(&target.node, "components", index);
            let base = target.loader.enter(path).map_err(|error| error.wrap("loader.New").or_at(span))?;
            accumulator = self
                .directory(target, &base, accumulator, true, &origin.enter(path))
                .map_err(|error| error.wrap("accumulateDirectory").or_at(span))?;
        }
        Ok(accumulator)
    }

    fn generators(&self, target: &Target<'_>, accumulator: &mut Accumulator, origin: &Origin) -> Result<()> {
        let Target { loader, kustomization, node, .. } = target;
        let global: Option<&GeneratorOptions> = kustomization.generator_options.as_ref();
        let lists = [
            (generate::Kind::ConfigMap, "configMapGenerator", &kustomization.config_map_generator),
            (generate::Kind::Secret, "secretGenerator", &kustomization.secret_generator),
        ];
        let mut made = Vec::new();
        for (kind, field, entries) in lists {
            for (index, entry) in entries.iter().enumerate() {
                let mut resource = generate(kind, entry, global, loader, item_span(node, field, index))?;
                if self.has_metadata("originAnnotations") || self.has_metadata("transformerAnnotations") {
                    let generator = match kind {
                        generate::Kind::ConfigMap => "ConfigMapGenerator",
                        generate::Kind::Secret => "SecretGenerator",
                    };
                    origin.generated(target.file_name, "builtin", generator, "").note(&mut resource);
                }
                if self.is_watched()
                    && let Some(entry) =
                        node.get(field).and_then(Node::as_sequence).and_then(|e| e.get(index))
                {
                    trail::place_data(&mut resource, entry, loader)?;
                }
                made.push(resource);
            }
        }
        for (index, chart) in kustomization.helm_charts.iter().enumerate() {
            let mut rendered = self.chart(target, chart, index)?;
            if self.has_metadata("originAnnotations") || self.has_metadata("transformerAnnotations") {
                let of_chart =
                    origin.generated(target.file_name, "builtin", "HelmChartInflationGenerator", "");
                rendered.iter_mut().for_each(|resource| of_chart.note(resource));
            }
            made.extend(rendered);
        }
        let plugins = self.plugins(target, &kustomization.generators, "generators", origin)?;
        for plugin in plugins {
            made.extend(self.generate_with(target, &plugin)?);
        }
        if made.is_empty() {
            return Ok(());
        }
        self.seen_before(&accumulator.map, target);
        accumulator.map.absorb_all(made)?;
        self.seen(&mut accumulator.map, target, "generators", None)
    }

    fn transformers(
        &self,
        target: &Target<'_>,
        accumulator: &mut Accumulator,
        origin: &Origin,
    ) -> Result<()> {
        let config = accumulator.specs.get();
        let map = &mut accumulator.map;
        self.seen_before(map, target);
        let Target { kustomization: k, node, .. } = target;
        let span_of = |field: &str| node.get(field).map_or(node.span, |value| value.span);
        let note = |map: &mut ResMap, kind: &str| {
            if self.has_metadata("transformerAnnotations") {
                let of_transformer = origin.generated(target.file_name, "builtin", kind, "");
                map.resources_mut()
                    .iter_mut()
                    .for_each(|resource| of_transformer.note_transformation(resource));
            }
        };
        if !k.patches_strategic_merge.is_empty() {
            self.legacy_patches(target, map)?;
            note(map, "PatchStrategicMergeTransformer");
            self.seen(map, target, "patchesStrategicMerge", None)?;
        }
        for (index, entry) in k.patches.iter().enumerate() {
            let span = item_span(node, "patches", index);
            self.patch(target, map, entry, span, true)?;
            note(map, "PatchTransformer");
            self.seen(map, target, "patches", Some(index))?;
        }
        if !k.namespace.is_empty() {
            transform::namespace(map, &k.namespace, &config.namespace, Subjects::default(), false)
                .map_err(|error| error.or_at(span_of("namespace")))?;
            note(map, "NamespaceTransformer");
            self.seen(map, target, "namespace", None)?;
        }
        if !k.name_prefix.is_empty() {
            transform::affix(map, End::Prefix, &k.name_prefix, &config.name_prefix)?;
            note(map, "PrefixTransformer");
            self.seen(map, target, "namePrefix", None)?;
        }
        if !k.name_suffix.is_empty() {
            transform::affix(map, End::Suffix, &k.name_suffix, &config.name_suffix)?;
            note(map, "SuffixTransformer");
            self.seen(map, target, "nameSuffix", None)?;
        }
        for (index, label) in k.labels.iter().enumerate() {
            let mut specs = label.fields.clone();
            if label.include_selectors {
                merge_specs(&mut specs, &config.common_labels)?;
            } else {
                if label.include_templates {
                    merge_specs(&mut specs, &config.template_labels)?;
                }
                if label.include_volume_claim_templates {
                    merge_specs(&mut specs, &config.volume_claim_template_labels)?;
                }
                merge_specs(&mut specs, &config.labels)?;
                let own =
                    FieldSpec { path: "metadata/labels".to_owned(), create: true, ..FieldSpec::default() };
                merge_specs(&mut specs, &[own])?;
            }
            transform::entries(map, &label.pairs, &specs).map_err(|error| error.or_at(span_of("labels")))?;
            note(map, "LabelTransformer");
            self.seen(map, target, "labels", Some(index))?;
        }
        if !k.common_labels.is_empty() {
            transform::entries(map, &k.common_labels, &config.common_labels)
                .map_err(|error| error.or_at(span_of("commonLabels")))?;
        }
        // Upstream has a transformer for these beside those of `labels`, whether there are any or not.
        if !k.labels.is_empty() || !k.common_labels.is_empty() {
            note(map, "LabelTransformer");
            self.seen(map, target, "commonLabels", None)?;
        }
        if !k.common_annotations.is_empty() {
            transform::entries(map, &k.common_annotations, &config.common_annotations)
                .map_err(|error| error.or_at(span_of("commonAnnotations")))?;
            note(map, "AnnotationsTransformer");
            self.seen(map, target, "commonAnnotations", None)?;
        }
        for (index, entry) in k.patches_json6902.iter().enumerate() {
            let span = item_span(node, "patchesJson6902", index);
            self.legacy_json_patch(target, map, entry, span)?;
            note(map, "PatchJson6902Transformer");
            self.seen(map, target, "patchesJson6902", Some(index))?;
        }
        for (index, replica) in k.replicas.iter().enumerate() {
            transform::replicas(map, replica, &config.replicas)
                .map_err(|error| error.or_at(item_span(node, "replicas", index)))?;
            note(map, "ReplicaCountTransformer");
            self.seen(map, target, "replicas", Some(index))?;
        }
        for (index, image) in k.images.iter().enumerate() {
            transform::image(map, image, &config.images)
                .map_err(|error| error.or_at(item_span(node, "images", index)))?;
            note(map, "ImageTagTransformer");
            self.seen(map, target, "images", Some(index))?;
        }
        if !k.replacements.is_empty() {
            self.replacements(target, map, &k.replacements, "replacements")?;
            note(map, "ReplacementTransformer");
            self.seen(map, target, "replacements", None)?;
        }
        let plugins = self.plugins(target, &k.transformers, "transformers", origin)?;
        for plugin in &plugins {
            self.transform_with(target, plugin, map)?;
            self.seen(map, target, "transformers", None)?;
        }
        Ok(())
    }

    fn validators(&self, target: &Target<'_>, accumulator: &mut Accumulator, origin: &Origin) -> Result<()> {
        for plugin in self.plugins(target, &target.kustomization.validators, "validators", origin)? {
            let before: Vec<String> = accumulator.map.iter().map(plugin::without_verdict).collect();
            self.transform_with(target, &plugin, &mut accumulator.map)?;
            self.seen(&mut accumulator.map, target, "validators", None)?;
            let after: Vec<String> = accumulator.map.iter().map(plugin::without_verdict).collect();
            if before.iter().ne(after.iter()) {
                return Err(Error::at("validator shouldn't modify the resource map", plugin.span));
            }
        }
        Ok(())
    }

    pub(crate) fn patch(
        &self,
        target: &Target<'_>,
        map: &mut ResMap,
        entry: &crate::kustomization::Patch,
        span: Span,
        empty_passes: bool,
    ) -> Result<()> {
        let Some(loaded) = patch::load(entry, &target.loader, span, empty_passes)? else { return Ok(()) };
        match &loaded {
            patch::Loaded::Strategic(patches) => self.seen_patches(patches),
            patch::Loaded::Json(operations) => self.seen_operations(operations),
        }
        let matched = patch::apply(map, entry, loaded, &self.rules.borrow(), span)?;
        if matched {
            return Ok(());
        }
        let wanted = entry.target.as_ref().map(Selector::plain_id).unwrap_or_default();
        let hint = self.hint(map, &wanted);
        self.idle(target, &format!("patch without a target, nothing is patched{hint}"), span)
    }

    /// `patchesStrategicMerge`: paths or inline texts.
    pub(crate) fn legacy_patches(&self, target: &Target<'_>, map: &mut ResMap) -> Result<()> {
        let entries = &target.kustomization.patches_strategic_merge;
        let mut patches = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            let mut span = item_span(&target.node, "patchesStrategicMerge", index);
            if span.is_none() {
                span = item_span(&target.node, "patches", index);
            }
            patches.extend(self.strategic_texts(target, entry, span)?);
        }
        self.seen_patches(&patches);
        patch::by_identity(map, &patches, patch::Changes::default(), &self.rules.borrow())
    }

    /// The patches in a file, or in a text that is no path.
    pub(crate) fn strategic_texts(
        &self,
        target: &Target<'_>,
        entry: &str,
        span: Span,
    ) -> Result<Vec<Resource>> {
        let loaded = target.loader.load_text(entry);
        let (file, text, inline_at) = match loaded {
            Ok((file, text)) => (file, text, None),
            Err(error) if !entry.contains(':') && !entry.contains('\n') => return Err(error.or_at(span)),
            Err(_) => (FileId(0), entry.to_owned(), Some(span)),
        };
        let documents = patch::parse(file, &text, inline_at)?;
        let mut patches = resources_from(documents).map_err(|error| error.or_at(span))?;
        patches.iter_mut().for_each(patch::make_legacy);
        if patches.is_empty() {
            return Err(Error::at("patch appears to be empty; files=[], Inline patch=", span));
        }
        Ok(patches)
    }

    pub(crate) fn legacy_json_patch(
        &self,
        target: &Target<'_>,
        map: &mut ResMap,
        entry: &crate::kustomization::Patch,
        span: Span,
    ) -> Result<()> {
        if entry.path.is_empty() && entry.patch.trim().is_empty() {
            return Err(Error::at("empty file path and empty jsonOp", span));
        }
        if !entry.path.is_empty() && !entry.patch.trim().is_empty() {
            return Err(Error::at("must specify a file path or jsonOp, not both", span));
        }
        let Some(selector) = &entry.target else {
            return Err(Error::at("must specify the target field of patchesJson6902", span));
        };
        let (file, text, inline) = match entry.path.as_str() {
            "" => (FileId(0), entry.patch.clone(), Some(span)),
            path => {
                let (file, text) = target.loader.load_text(path).map_err(|error| error.or_at(span))?;
                (file, text, None)
            }
        };
        let documents = patch::parse(file, &text, inline)?;
        let operations = documents.first().and_then(crate::json6902::operations).ok_or_else(|| {
            Error::at(
                "cannot unmarshal string into Go value of type jsonpatch.Patch: not a list of operations",
                span,
            )
        })?;
        let matcher = Matcher::new(selector).map_err(|error| error.or_at(span))?;
        self.seen_operations(&operations);
        let mut matched = false;
        for resource in map.resources_mut().iter_mut().filter(|resource| matcher.matches(resource)) {
            matched = true;
            patch::json(resource, &operations)?;
        }
        if matched {
            return Ok(());
        }
        let hint = self.hint(map, &selector.plain_id());
        self.idle(target, &format!("patch without a target, nothing is patched{hint}"), span)
    }

    pub(crate) fn replacements(
        &self,
        target: &Target<'_>,
        map: &mut ResMap,
        entries: &[replacement::ReplacementField],
        field: &str,
    ) -> Result<()> {
        for (index, entry) in entries.iter().enumerate() {
            let span = item_span(&target.node, field, index);
            if entry.path.is_empty() {
                let node = target.node.get(field).and_then(|list| list.as_sequence()?.get(index));
                self.replace(target, map, entry, node, span)?;
                continue;
            }
            if entry.source.is_some() || !entry.targets.is_empty() {
                return Err(Error::at("cannot specify both path and inline replacement", span));
            }
            let (file, text) = target.loader.load_text(&entry.path).map_err(|error| error.or_at(span))?;
            for document in parse_documents(file, &text).map_err(|error| malformed(&error, &entry.path))? {
                let nodes = match document.as_sequence() {
                    Some(items) => items.to_vec(),
                    None => vec![document],
                };
                for node in nodes.iter().filter(|node| !node.is_null()) {
                    let replacement: replacement::ReplacementField = plugin::read(node)?;
                    self.replace(target, map, &replacement, Some(node), node.span)?;
                }
            }
        }
        Ok(())
    }

    /// Applies one replacement, and says which of its targets select nothing. `node` is where it is written.
    fn replace(
        &self,
        target: &Target<'_>,
        map: &mut ResMap,
        entry: &replacement::ReplacementField,
        node: Option<&Node>,
        span: Span,
    ) -> Result<()> {
        let idle = replacement::apply(map.resources_mut(), entry).map_err(|error| error.or_at(span))?;
        for place in idle {
            let written = node.and_then(|node| node.get("targets")?.as_sequence()?.get(place));
            let wanted = entry.targets.get(place).and_then(|target| target.select.as_ref());
            let hint = self.hint(map, &wanted.map(Selector::plain_id).unwrap_or_default());
            let message = format!("replacement target selects nothing, nothing is replaced{hint}");
            self.idle(target, &message, written.map_or(span, |node| node.span))?;
        }
        Ok(())
    }

    /// The plugin configurations that a field names: inline, in files, or in directories.
    fn plugins(
        &self,
        target: &Target<'_>,
        entries: &[String],
        field: &str,
        origin: &Origin,
    ) -> Result<Vec<Plugin>> {
        let mut accumulator = Accumulator::default();
        let mut paths = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            let span = item_span(&target.node, field, index);
            let inline = patch::parse(FileId(0), entry, Some(span))
                .and_then(resources_from)
                .ok()
                .filter(|resources| !resources.is_empty());
            match inline {
                Some(mut resources) => {
                    resources
                        .iter_mut()
                        .for_each(|resource| origin.enter(target.file_name).note_config(resource));
                    accumulator.map.append_all(resources)?;
                }
                None => paths.push(entry.clone()),
            }
        }
        let of_files = self.plugin_files(target, &paths, field, origin)?;
        accumulator.absorb(of_files)?;
        let doing = match field {
            "generators" => "loading generator plugins: failed to load generator",
            _ => "loading transformer plugins",
        };
        accumulator
            .map
            .into_resources()
            .into_iter()
            .map(|resource| Plugin::new(resource, &self.options.functions).map_err(|error| error.wrap(doing)))
            .collect()
    }

    fn plugin_files(
        &self,
        target: &Target<'_>,
        paths: &[String],
        field: &str,
        origin: &Origin,
    ) -> Result<Accumulator> {
        let noted = self.build_metadata.borrow().clone();
        let wants_origin = noted.iter().any(|word| word.ends_with("Annotations"));
        if wants_origin {
            self.build_metadata.borrow_mut().push("originAnnotations".to_owned());
        }
        let read = self.resources(target, Accumulator::default(), paths, field, origin);
        *self.build_metadata.borrow_mut() = noted;
        read
    }
}

/// Why a file is not YAML, so that nothing else is tried with its path.
fn malformed(error: &gantry_yaml::Error, path: &str) -> Error {
    let mut refused = Error::at(
        format!(
            "MalformedYAMLError: yaml: line {}: {} in File: {path}",
            error.span().line(),
            error.message()
        ),
        error.span(),
    );
    refused.malformed = true;
    refused
}

/// The resources in a file's documents.
fn read_resources(
    documents: std::result::Result<Vec<Node>, gantry_yaml::Error>,
    path: &str,
) -> Result<Vec<Resource>> {
    let documents = documents.map_err(|error| malformed(&error, path))?;
    resources_from(documents).map_err(|error| {
        let mut error = error;
        error.malformed = true;
        error
    })
}
