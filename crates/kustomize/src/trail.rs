//! What each step of a build changed, field by field: the observer behind `explain`.
//!
//! Invariant: a build that nobody asks about has no trail, and all that this costs it is one look for it per step. What a
//! build makes is the same with and without.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use gantry_apimachinery::difference::differences;
use gantry_apimachinery::field_path::{FieldPath, Step as PathStep, identity_of, key_values};
use gantry_apimachinery::{Kind, Value};
use gantry_yaml::{Node, Span};
use smol_str::SmolStr;

use crate::build::{Context, Target};
use crate::error::{Error, Result};
use crate::id::ResId;
use crate::json6902::Operation;
use crate::kustomization::item_span;
use crate::loader::Loader;
use crate::origin::{ORIGIN, TRANSFORMATIONS};
use crate::resmap::ResMap;
use crate::resource::Resource;

/// What a directory is to the build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerKind {
    /// It builds on no other.
    Base,
    Component,
    /// It changes what others have.
    Overlay,
}

impl LayerKind {
    pub fn name(self) -> &'static str {
        match self {
            LayerKind::Base => "base",
            LayerKind::Component => "component",
            LayerKind::Overlay => "overlay",
        }
    }
}

/// One directory of a build.
#[derive(Clone, Debug)]
pub struct Layer {
    pub kind: LayerKind,
    pub dir: PathBuf,
}

/// One thing that a layer did.
#[derive(Clone, Debug)]
pub struct Step {
    /// Index of the layer.
    pub layer: usize,
    /// The field of the kustomization file, with its index: `namePrefix`, `patches[1]`. After the root's own fields:
    /// `nameSuffixHash`, `nameReference`, `vars`, `managedByLabel`.
    pub field: String,
    /// Where the field stands.
    pub place: Span,
}

/// One field that a step changed; `None` where it is not there.
#[derive(Clone, Debug)]
pub struct FieldChange {
    pub path: FieldPath,
    pub old: Option<Value>,
    pub new: Option<Value>,
    /// Where that is said.
    pub at: Span,
    /// Whether the new value was read there, with what is below it.
    pub(crate) read: bool,
}

/// The history of one object.
#[derive(Clone, Debug)]
pub(crate) struct Track {
    pub(crate) id: ResId,
    /// The identities it had before.
    pub(crate) earlier: Vec<ResId>,
    /// The object as it is now, each value with the place it was last read from.
    pub(crate) state: Value,
    pub(crate) made_by: usize,
    pub(crate) made_at: Span,
    /// By step, in order.
    pub(crate) changes: Vec<(usize, Vec<FieldChange>)>,
    /// The step that took it away.
    pub(crate) removed: Option<(usize, Span)>,
    /// It is in the result.
    pub(crate) built: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Trail {
    pub(crate) layers: Vec<Layer>,
    by_dir: HashMap<PathBuf, usize>,
    pub(crate) steps: Vec<Step>,
    /// By the serial number of the resource, which counts from 1.
    pub(crate) tracks: Vec<Track>,
    /// Who was there when a layer last looked.
    rosters: HashMap<usize, Vec<u32>>,
    /// The patches of the step that is under way.
    brought: Brought,
}

/// What patches say, by which the place of a change is found.
#[derive(Debug, Default)]
struct Brought {
    documents: Vec<Value>,
    /// Operation, JSON pointer and place.
    operations: Vec<(String, String, Span)>,
}

// === impl Context ===

impl Context<'_> {
    /// Notes what a step of a layer changed, if anybody asks.
    pub(crate) fn seen(
        &self,
        map: &mut ResMap,
        target: &Target<'_>,
        field: &str,
        index: Option<usize>,
    ) -> Result<()> {
        match &self.trail {
            None => Ok(()),
            Some(trail) => trail.borrow_mut().seen(map.resources_mut(), target, field, index),
        }
    }

    /// Notes resources that were just added at the end.
    pub(crate) fn seen_new(
        &self,
        map: &mut ResMap,
        target: &Target<'_>,
        field: &str,
        index: usize,
    ) -> Result<()> {
        let Some(trail) = &self.trail else { return Ok(()) };
        let mut trail = trail.borrow_mut();
        let step = trail.step(target, field, Some(index));
        for resource in map.resources_mut().iter_mut().rev().take_while(|resource| resource.serial == 0) {
            trail.track(resource, step)?;
        }
        Ok(())
    }

    /// A layer's own steps begin: who is gone after one of them was taken away by it.
    pub(crate) fn seen_before(&self, map: &ResMap, target: &Target<'_>) {
        if let Some(trail) = &self.trail {
            let mut trail = trail.borrow_mut();
            let layer = trail.layer(target);
            trail.rosters.insert(layer, map.iter().map(|resource| resource.serial).collect());
        }
    }

    /// A layer builds on another one.
    pub(crate) fn seen_below(&self, target: &Target<'_>) {
        if let Some(trail) = &self.trail {
            let mut trail = trail.borrow_mut();
            let layer = trail.layer(target);
            if trail.layers[layer].kind == LayerKind::Base {
                trail.layers[layer].kind = LayerKind::Overlay;
            }
        }
    }

    /// The strategic merge patches of the step that is under way.
    pub(crate) fn seen_patches(&self, patches: &[Resource]) {
        if let Some(trail) = &self.trail {
            let documents =
                patches.iter().filter_map(|patch| gantry_apimachinery::from_yaml(&patch.node).ok());
            trail.borrow_mut().brought.documents.extend(documents);
        }
    }

    /// The JSON patch operations of the step that is under way.
    pub(crate) fn seen_operations(&self, operations: &[Operation]) {
        if let Some(trail) = &self.trail {
            let places = operations.iter().map(Operation::place);
            let places = places.map(|(op, path, span)| (op.to_owned(), path.to_owned(), span));
            trail.borrow_mut().brought.operations.extend(places);
        }
    }

    pub(crate) fn is_watched(&self) -> bool {
        self.trail.is_some()
    }

    /// The build has come to its end: these are the objects.
    pub(crate) fn seen_result(&self, resources: &[Resource], target: &Target<'_>) -> Result<()> {
        let Some(trail) = &self.trail else { return Ok(()) };
        let mut trail = trail.borrow_mut();
        let step = trail.step(target, "buildMetadata", None);
        let place = trail.steps[step].place;
        for resource in resources {
            let value = value_of(resource, true)?;
            let Some(track) = trail.tracks.get_mut(serial_index(resource)) else { continue };
            track.built = true;
            track.update(value, resource, step, &mut |change| change.at = place);
        }
        Ok(())
    }
}

/// A trail to be filled, for a build that is asked about.
pub(crate) fn begin() -> Option<RefCell<Trail>> {
    Some(RefCell::default())
}

fn serial_index(resource: &Resource) -> usize {
    (resource.serial as usize).wrapping_sub(1)
}

// === impl Trail ===

impl Trail {
    fn layer(&mut self, target: &Target<'_>) -> usize {
        let dir: &Path = &target.loader.root;
        if let Some(&layer) = self.by_dir.get(dir) {
            return layer;
        }
        let kind = if target.kustomization.is_component() { LayerKind::Component } else { LayerKind::Base };
        self.layers.push(Layer { kind, dir: dir.to_owned() });
        self.by_dir.insert(dir.to_owned(), self.layers.len() - 1);
        self.layers.len() - 1
    }

    fn step(&mut self, target: &Target<'_>, field: &str, index: Option<usize>) -> usize {
        let layer = self.layer(target);
        let node = &target.node;
        let place = match index {
            Some(index) => item_span(node, field, index),
            None => node.get(field).map_or(Span::NONE, |value| value.span),
        };
        let field = match index {
            Some(index) => format!("{field}[{index}]"),
            None => field.to_owned(),
        };
        self.steps.push(Step { layer, field, place });
        self.steps.len() - 1
    }

    /// Gives a resource that is new a history of its own.
    fn track(&mut self, resource: &mut Resource, step: usize) -> Result<()> {
        let state = value_of(resource, false)?;
        self.tracks.push(Track {
            id: resource.current_id(),
            earlier: Vec::new(),
            made_at: state.span,
            state,
            made_by: step,
            changes: Vec::new(),
            removed: None,
            built: false,
        });
        resource.serial = u32::try_from(self.tracks.len())
            .map_err(|_| Error::new("there are more objects than can be explained"))?;
        Ok(())
    }

    fn seen(
        &mut self,
        resources: &mut [Resource],
        target: &Target<'_>,
        field: &str,
        index: Option<usize>,
    ) -> Result<()> {
        let step = self.step(target, field, index);
        let layer = self.steps[step].layer;
        let brought = std::mem::take(&mut self.brought);
        self.adopt(resources, layer);
        let pairs = pairs_of(target, field, index);
        let reads = matches!(field, "generators" | "transformers");
        let step_place = self.steps[step].place;
        let by_entry = if field == "generators" { self.generator_steps(target) } else { HashMap::new() };
        for resource in resources.iter_mut() {
            let step = by_entry.get(&resource.span()).copied().unwrap_or(step);
            if resource.serial == 0 {
                self.track(resource, step)?;
                continue;
            }
            let value = value_of(resource, false)?;
            let Some(track) = self.tracks.get_mut(serial_index(resource)) else { continue };
            let made_at = track.made_at;
            let mut place = |change: &mut FieldChange| {
                if !brought.is_empty() {
                    (change.at, change.read) = brought.place(change).unwrap_or((step_place, false));
                    return;
                }
                let own = change.new.as_ref().map_or(Span::NONE, |new| new.span);
                let before = change.old.as_ref().map_or(Span::NONE, |old| old.span);
                if reads && !own.is_none() && own != before {
                    (change.at, change.read) = (own, true);
                } else if !place_pairs(change, &pairs) {
                    // The hash is of what the generator made.
                    change.at = if field == "nameSuffixHash" { made_at } else { step_place };
                }
            };
            track.update(value, resource, step, &mut place);
        }
        if field == "nameReference" {
            self.place_references(step);
        }
        let now: Vec<u32> = resources.iter().map(|resource| resource.serial).collect();
        let present: HashSet<u32> = now.iter().copied().collect();
        let before = self.rosters.insert(layer, now).unwrap_or_default();
        for serial in before.into_iter().filter(|serial| !present.contains(serial)) {
            if let Some(track) = self.tracks.get_mut((serial as usize).wrapping_sub(1)) {
                let at = brought.documents.first().map_or(step_place, |document| document.span);
                track.removed = Some((step, at));
            }
        }
        Ok(())
    }

    /// A step for each generator in the kustomization file, by its place: what it makes has that place.
    fn generator_steps(&mut self, target: &Target<'_>) -> HashMap<Span, usize> {
        let mut steps = HashMap::new();
        for field in ["configMapGenerator", "secretGenerator", "helmCharts"] {
            let count = target.node.get(field).and_then(Node::as_sequence).map_or(0, <[_]>::len);
            for index in 0..count {
                let step = self.step(target, field, Some(index));
                steps.insert(self.steps[step].place, step);
            }
        }
        steps
    }

    /// A function may have written an object anew: it is known by its identity, if the one that had it is gone.
    fn adopt(&self, resources: &mut [Resource], layer: usize) {
        if resources.iter().all(|resource| resource.serial != 0) {
            return;
        }
        let present: HashSet<u32> = resources.iter().map(|resource| resource.serial).collect();
        let roster = self.rosters.get(&layer).map(Vec::as_slice).unwrap_or_default();
        let gone = roster.iter().filter(|serial| !present.contains(serial));
        let gone: HashMap<&ResId, u32> = gone
            .filter_map(|&serial| Some((&self.tracks.get((serial as usize).wrapping_sub(1))?.id, serial)))
            .collect();
        for resource in resources.iter_mut().filter(|resource| resource.serial == 0) {
            resource.serial = gone.get(&resource.current_id()).copied().unwrap_or(0);
        }
    }

    /// A name that follows its object was said where the object was made.
    fn place_references(&mut self, step: usize) {
        let mut made: HashMap<SmolStr, Span> = HashMap::new();
        for track in &self.tracks {
            made.insert(track.id.name.clone(), track.made_at);
        }
        for track in &mut self.tracks {
            let Some((last, changes)) = track.changes.last_mut() else { continue };
            for change in changes.iter_mut().filter(|_| *last == step) {
                let name = change.new.as_ref().and_then(Value::as_str);
                if let Some(span) = name.and_then(|name| made.get(name)) {
                    change.at = *span;
                }
            }
        }
    }
}

impl Track {
    /// Every identity it has or had.
    pub(crate) fn ids(&self) -> impl Iterator<Item = &ResId> {
        self.earlier.iter().chain(std::iter::once(&self.id))
    }

    /// Takes over what the object is now, and notes what that changes.
    fn update(
        &mut self,
        mut value: Value,
        resource: &Resource,
        step: usize,
        place: &mut dyn FnMut(&mut FieldChange),
    ) {
        if value == self.state {
            return;
        }
        let mut changes = Vec::new();
        for difference in differences(&self.state, &value) {
            let mut change = FieldChange {
                path: difference.path,
                old: difference.old.cloned(),
                new: difference.new.cloned(),
                at: Span::NONE,
                read: false,
            };
            place(&mut change);
            changes.push(change);
        }
        self.changes.push((step, changes));
        keep_places(&mut value, &self.state);
        self.state = value;
        let id = resource.current_id();
        if id != self.id || id.namespace != self.id.namespace {
            self.earlier.push(std::mem::replace(&mut self.id, id));
        }
    }
}

/// What did not change is still said where it was said.
fn keep_places(new: &mut Value, old: &Value) {
    if new == old {
        *new = old.clone();
        return;
    }
    match (&mut new.kind, &old.kind) {
        (Kind::Object(new), Kind::Object(old)) => {
            for (key, value) in new.iter_mut() {
                if let Some(old) = old.get(key) {
                    keep_places(value, old);
                }
            }
        }
        (Kind::Array(new), Kind::Array(old)) => {
            let keys = identity_of(&[new, old]);
            let by_key: Option<HashMap<_, &Value>> = keys
                .map(|keys| old.iter().filter_map(|item| Some((key_values(item, keys)?, item))).collect());
            for (index, item) in new.iter_mut().enumerate() {
                let before = match (&by_key, keys) {
                    (Some(by_key), Some(keys)) => {
                        key_values(item, keys).and_then(|key| by_key.get(&key).copied())
                    }
                    _ => old.get(index),
                };
                if let Some(before) = before {
                    keep_places(item, before);
                }
            }
        }
        _ => {}
    }
}

/// The object with its places. Notes that the build keeps in annotations are left out until they are part of the result.
fn value_of(resource: &Resource, with_notes: bool) -> Result<Value> {
    let mut value = gantry_apimachinery::from_yaml(&resource.node)
        .map_err(|error| Error::at(error.message(), error.span()))?;
    let metadata = value.get_mut("metadata").and_then(Value::as_object_mut);
    if let Some(metadata) = metadata
        && let Some(annotations) = metadata.get_mut("annotations")
    {
        if let Some(annotations) = annotations.as_object_mut().filter(|_| !with_notes) {
            annotations.retain(|key, _| key != ORIGIN && key != TRANSFORMATIONS);
        }
        if annotations.is_null() || annotations.as_object().is_some_and(gantry_apimachinery::Map::is_empty) {
            metadata.remove("annotations");
        }
    }
    Ok(value)
}

/// The entries of a map in the kustomization file that become entries of the objects.
fn pairs_of(target: &Target<'_>, field: &str, index: Option<usize>) -> Vec<(SmolStr, Span)> {
    let value = target.node.get(field);
    let map = match field {
        "commonLabels" | "commonAnnotations" => value,
        "labels" => value
            .and_then(Node::as_sequence)
            .and_then(|entries| entries.get(index.unwrap_or_default())?.get("pairs")),
        _ => None,
    };
    let entries = map.and_then(Node::as_mapping).unwrap_or_default();
    entries.iter().filter_map(|(key, value)| Some((SmolStr::new(key.text()?), value.span))).collect()
}

/// Places a change that is one of the entries, or a map of them. False when it is none.
fn place_pairs(change: &mut FieldChange, pairs: &[(SmolStr, Span)]) -> bool {
    let place = |key: &str| pairs.iter().find(|(own, _)| own == key).map(|(_, span)| *span);
    if let Some(PathStep::Field(key)) = change.path.steps().last()
        && let Some(span) = place(key)
    {
        change.at = span;
        return true;
    }
    let Some(Kind::Object(map)) = change.new.as_mut().map(|new| &mut new.kind) else { return false };
    let Some(first) = map.keys().next().and_then(|key| place(key)) else { return false };
    for (key, value) in map.iter_mut() {
        value.span = place(key).unwrap_or(value.span);
    }
    (change.at, change.read) = (first, true);
    true
}

// === impl Brought ===

impl Brought {
    fn is_empty(&self) -> bool {
        self.documents.is_empty() && self.operations.is_empty()
    }

    /// Where the patches say what changed, and whether the value was read there.
    fn place(&self, change: &FieldChange) -> Option<(Span, bool)> {
        let mut files = self.documents.iter().map(|document| document.span);
        let mut operations = self.operations.iter().map(|(_, _, span)| *span);
        if let Some(new) = change.new.as_ref().filter(|new| !new.span.is_none())
            && (files.any(|span| span.file() == new.span.file())
                || operations.any(|span| span.file() == new.span.file()))
        {
            return Some((new.span, true));
        }
        if let Some(document) = self.documents.iter().max_by_key(|document| depth(document, &change.path)) {
            return Some((change.path.nearest(document).span, false));
        }
        let named = |pointer: &str| {
            let last = pointer.rsplit('/').next().unwrap_or_default().replace("~1", "/").replace("~0", "~");
            matches!(change.path.steps().last(), Some(PathStep::Field(name)) if *name == last)
        };
        let by_name = self.operations.iter().find(|(_, pointer, _)| named(pointer));
        let removing =
            |operation: &&(String, String, Span)| matches!(operation.0.as_str(), "remove" | "move");
        by_name
            .or_else(|| self.operations.iter().find(removing))
            .or_else(|| self.operations.first())
            .map(|(_, _, span)| (*span, false))
    }
}

/// How far a path leads into a document.
fn depth(document: &Value, path: &FieldPath) -> usize {
    match path.find(document) {
        Ok(_) => path.steps().len(),
        Err(missing) => missing.reached.steps().len(),
    }
}

// === the data of generators ===

/// Gives the data of a generated ConfigMap or Secret the places they come from: the literal, the file, the line of an
/// environment file. `entry` is the generator as it stands in the kustomization file.
pub(crate) fn place_data(resource: &mut Resource, entry: &Node, loader: &Loader<'_>) -> Result<()> {
    let mut places: HashMap<String, Span> = HashMap::new();
    let list = |field: &str| entry.get(field).and_then(Node::as_sequence).unwrap_or_default().iter();
    for file in list("envs").chain(entry.get("env")) {
        let Some(path) = file.as_str().filter(|path| !path.is_empty()) else { continue };
        let (id, bytes) = loader.load(path)?;
        for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
            let line = String::from_utf8_lossy(line);
            let line = line.trim_start_matches('\u{feff}').trim_start();
            let key = line.trim_end_matches('\r').split('=').next().unwrap_or_default();
            if !key.is_empty() && !key.starts_with('#') {
                places.insert(key.to_owned(), Span::new(id, index + 1, 1));
            }
        }
    }
    for literal in list("literals") {
        if let Some((key, _)) = literal.text().and_then(|text| text.split_once('=')) {
            places.insert(key.to_owned(), literal.span);
        }
    }
    for file in list("files") {
        let Some(source) = file.text() else { continue };
        let (key, path) =
            source.split_once('=').unwrap_or((source.rsplit('/').next().unwrap_or(source), source));
        let (id, _) = loader.load(path)?;
        places.insert(key.to_owned(), Span::new(id, 1, 1));
    }
    for field in ["data", "binaryData"] {
        let data = resource.node.get_mut(field).and_then(Node::as_mapping_mut);
        for (key, value) in data.into_iter().flatten() {
            if let Some(span) = key.text().and_then(|key| places.get(key)) {
                value.span = *span;
            }
        }
    }
    Ok(())
}
