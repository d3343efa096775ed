//! Which file and line set each value of a build, and what every layer changed on the way.

use std::path::Path;

use gantry_apimachinery::Value;
use gantry_apimachinery::field_path::{FieldPath, Missing, follow};
use gantry_yaml::Span;

use crate::door::Doors;
use crate::error::Error;
use crate::fs::FileSystem;
use crate::id::ResId;
use crate::loader::Files;
use crate::trail::{FieldChange, Layer, Step, Track, Trail};
use crate::{Options, Source, build, trail};

/// Near misses that are named.
const MOST_NEAR: usize = 3;

/// A build with the history of each of its objects.
#[derive(Debug)]
pub struct Explained {
    trail: Trail,
    /// The files that places refer to.
    pub files: Files,
    pub warnings: Vec<String>,
}

/// Which object is meant, in the words of a person.
#[derive(Clone, Debug, Default)]
pub struct Wanted<'a> {
    /// Kinds that the word before the name may stand for: group (`None` for any), version (`None` for any), kind in any
    /// letter case.
    pub kinds: Vec<WantedKind>,
    pub name: &'a str,
    pub namespace: Option<&'a str>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WantedKind {
    pub group: Option<String>,
    pub version: Option<String>,
    pub kind: String,
}

/// Why there is nothing to tell about an object.
#[derive(Debug, thiserror::Error)]
pub enum NotFound {
    #[error("{wanted}: several objects have this name: {}; choose one by its namespace (-n)", found.join(", "))]
    Several { wanted: String, found: Vec<String> },
    #[error("{wanted}: the build has no such object: {field} took it away")]
    Removed { wanted: String, field: String, at: Span },
    #[error("{wanted}: the build has no such object{}", hint(near))]
    Nothing { wanted: String, near: Vec<String> },
}

fn hint(near: &[String]) -> String {
    if near.is_empty() { String::new() } else { format!(", did you mean {}?", near.join(" or ")) }
}

/// The history of one object.
#[derive(Clone, Copy, Debug)]
pub struct History<'t> {
    trail: &'t Trail,
    track: &'t Track,
}

/// What a step did to an object.
#[derive(Clone, Copy, Debug)]
pub struct ObjectStep<'t> {
    pub step: &'t Step,
    /// Where the object was read or made; `None` for a step that changed it.
    pub made_at: Option<Span>,
    pub changes: &'t [FieldChange],
}

/// One field with all that happened to it.
#[derive(Debug)]
pub struct FieldHistory<'t> {
    pub path: FieldPath,
    pub value: &'t Value,
    /// Where the value is said that the field has in the end.
    pub set_at: Span,
    pub steps: Vec<FieldStep<'t>>,
}

/// What a step did to a field, or to a part of it.
#[derive(Debug)]
pub struct FieldStep<'t> {
    pub step: &'t Step,
    pub path: FieldPath,
    pub old: Option<&'t Value>,
    pub new: Option<&'t Value>,
    pub at: Span,
}

/// Builds a kustomization as [`crate::build_with`] does, and remembers what each step changed.
pub fn explain(
    fs: &dyn FileSystem,
    doors: Doors<'_>,
    source: Source<'_>,
    options: &Options,
) -> Result<Explained, Error> {
    let (outcome, trail) = build::run_watched(fs, doors, source, options, trail::begin())?;
    Ok(Explained { trail: trail.unwrap_or_default(), files: outcome.files, warnings: outcome.warnings })
}

// === impl Explained ===

impl Explained {
    /// Every object of the build.
    pub fn objects(&self) -> impl Iterator<Item = &Value> {
        self.trail.tracks.iter().filter(|track| track.built).map(|track| &track.state)
    }

    /// The object that is meant: by the name it has, or else by one that it had.
    pub fn object(&self, wanted: &Wanted<'_>) -> Result<History<'_>, NotFound> {
        let built = || self.trail.tracks.iter().filter(|track| track.built);
        let now: Vec<&Track> = built().filter(|track| wanted.fits(&track.id)).collect();
        let found = if now.is_empty() {
            built().filter(|track| track.earlier.iter().any(|id| wanted.fits(id))).collect()
        } else {
            now
        };
        match found[..] {
            [track] => Ok(History { trail: &self.trail, track }),
            [] => Err(self.nothing(wanted)),
            _ => {
                let found = found.iter().map(|track| shown(&track.id)).collect();
                Err(NotFound::Several { wanted: wanted.shown(), found })
            }
        }
    }

    fn nothing(&self, wanted: &Wanted<'_>) -> NotFound {
        let fits = |track: &&Track| wanted.fits(&track.id) || track.earlier.iter().any(|id| wanted.fits(id));
        let removed = self.trail.tracks.iter().filter(|track| !track.built).find(fits);
        if let Some((step, at)) = removed.and_then(|track| track.removed) {
            let field = self.trail.steps.get(step).map_or_else(String::new, |step| step.field.clone());
            return NotFound::Removed { wanted: wanted.shown(), field, at };
        }
        let built: Vec<&Track> = self.trail.tracks.iter().filter(|track| track.built).collect();
        let nothing = |near: Vec<&Track>| {
            let mut near: Vec<String> = near.into_iter().map(|track| shown(&track.id)).collect();
            near.dedup();
            near.truncate(MOST_NEAR);
            NotFound::Nothing { wanted: wanted.shown(), near }
        };
        // The same name elsewhere, then a name like it of the same kind, then of any.
        let same_name: Vec<&Track> =
            built.iter().copied().filter(|track| track.ids().any(|id| id.name == wanted.name)).collect();
        if !same_name.is_empty() {
            return nothing(same_name);
        }
        let of_kind = |track: &&Track| wanted.kinds.iter().any(|kind| kind.fits(&track.id));
        for tracks in [built.iter().copied().filter(of_kind).collect::<Vec<_>>(), built.clone()] {
            let names: Vec<&str> =
                tracks.iter().flat_map(|track| track.ids()).map(|id| id.name.as_str()).collect();
            if let Some(near) = gantry_yaml::nearest(wanted.name, &names) {
                return nothing(
                    tracks.into_iter().filter(|track| track.ids().any(|id| id.name == near)).collect(),
                );
            }
        }
        nothing(Vec::new())
    }

    pub fn layer(&self, step: &Step) -> Option<&Layer> {
        self.trail.layers.get(step.layer)
    }

    /// The file of a place, as the build read it; `None` for a place the program made.
    pub fn file(&self, at: Span) -> Option<&Path> {
        self.files.path(at.file()).filter(|_| !at.is_none())
    }
}

fn shown(id: &ResId) -> String {
    let namespace = if id.namespace.is_empty() { String::new() } else { format!(" in {}", id.namespace) };
    format!("{}/{}{namespace}", id.gvk.kind, id.name)
}

impl WantedKind {
    fn fits(&self, id: &ResId) -> bool {
        self.kind.eq_ignore_ascii_case(&id.gvk.kind)
            && self.group.as_deref().is_none_or(|group| group == id.gvk.group)
            && self.version.as_deref().is_none_or(|version| version == id.gvk.version)
    }
}

impl Wanted<'_> {
    fn fits(&self, id: &ResId) -> bool {
        let namespace = |wanted: &str| {
            let asked = ResId { namespace: wanted.into(), ..id.clone() };
            asked.effective_namespace() == id.effective_namespace()
        };
        id.name == self.name
            && self.namespace.is_none_or(namespace)
            && self.kinds.iter().any(|kind| kind.fits(id))
    }

    fn shown(&self) -> String {
        let kind = self.kinds.first().map_or("", |kind| kind.kind.as_str());
        match self.namespace {
            Some(namespace) => format!("{kind}/{} in {namespace}", self.name),
            None => format!("{kind}/{}", self.name),
        }
    }
}

// === impl History ===

impl<'t> History<'t> {
    /// The object as the build makes it.
    pub fn object(&self) -> &'t Value {
        &self.track.state
    }

    pub fn kind(&self) -> &'t str {
        &self.track.id.gvk.kind
    }

    /// All steps that made or changed the object, in order.
    pub fn steps(&self) -> Vec<ObjectStep<'t>> {
        let step = |index: usize| self.trail.steps.get(index);
        let made = step(self.track.made_by).map(|step| ObjectStep {
            step,
            made_at: Some(self.track.made_at),
            changes: &[],
        });
        let changes =
            self.track.changes.iter().filter_map(|(index, changes)| {
                Some(ObjectStep { step: step(*index)?, made_at: None, changes })
            });
        made.into_iter().chain(changes).collect()
    }

    /// The fields a path leads to, each with its history.
    pub fn fields(&self, path: &FieldPath) -> Result<Vec<FieldHistory<'t>>, Missing> {
        let found = path.find(&self.track.state)?;
        Ok(found.into_iter().map(|(path, value)| self.field(path, value)).collect())
    }

    fn field(&self, path: FieldPath, value: &'t Value) -> FieldHistory<'t> {
        let mut steps = Vec::new();
        // What the field was when the object was made, once the first change of it has said so.
        let mut first: Option<Option<&Value>> = None;
        let mut set_at = None;
        for (index, changes) in &self.track.changes {
            let Some(step) = self.trail.steps.get(*index) else { continue };
            for change in changes {
                if let Some(rest) = path.below(&change.path) {
                    // The field itself, or something that holds it.
                    let part =
                        |value: &'t Option<Value>| value.as_ref().and_then(|value| follow(value, rest));
                    let (old, new) = (part(&change.old), part(&change.new));
                    first.get_or_insert(old);
                    if old == new {
                        continue;
                    }
                    let own = new.map_or(Span::NONE, |new| new.span);
                    let at = if change.read && !own.is_none() { own } else { change.at };
                    set_at = Some(at);
                    steps.push(FieldStep { step, path: path.clone(), old, new, at });
                } else if change.path.below(&path).is_some() {
                    let (old, new) = (change.old.as_ref(), change.new.as_ref());
                    steps.push(FieldStep { step, path: change.path.clone(), old, new, at: change.at });
                }
            }
        }
        let initial = first.unwrap_or(Some(value));
        if let (Some(initial), Some(step)) = (initial, self.trail.steps.get(self.track.made_by)) {
            let at = if initial.span.is_none() { self.track.made_at } else { initial.span };
            set_at.get_or_insert(at);
            // A field that only changed inside is told as it is in the end.
            steps.insert(0, FieldStep { step, path: path.clone(), old: None, new: Some(initial), at });
        }
        FieldHistory { path, value, set_at: set_at.unwrap_or(Span::NONE), steps }
    }
}
