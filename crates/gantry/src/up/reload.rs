//! What the files say, followed while `up` runs: a saved file is built, checked and applied, and what changed is told
//! object by object. Files that are wrong change nothing that runs.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use gantry_apimachinery::{Kind, Value};
use gantry_kustomize::watch::{Recording, Watcher};
use gantry_kustomize::{Build, Options};
use gantry_operator::apply::{Change, ObjectRef};
use serde_json::json;
use tokio::io::unix::AsyncFd;
use tokio_util::sync::CancellationToken;

use super::project::LoadedProject;
use super::steps::Steps;
use super::{Error, RunningUp, preflight};

/// Saving several files, or one in several steps, is one change.
const SETTLE: Duration = Duration::from_millis(40);
/// More differing fields of an object than these are only counted.
const FIELDS_SHOWN: usize = 4;
const MOST_VALUE_CHARS: usize = 40;

/// The last good build, and word of what happens to its files.
pub(super) struct Sources {
    watcher: AsyncFd<Watcher>,
    /// A file has changed and the change was not acted on yet.
    dirty: bool,
    /// Set when the build before was refused: the next good one is said even if it changes nothing.
    failed: bool,
}

/// What changed in one object.
struct Changed {
    id: ObjectRef,
    change: Change,
    fields: Vec<String>,
}

// === impl Sources ===

impl Sources {
    /// Builds `dir` and watches what the build looked at.
    pub(super) fn build(dir: &Path, also: Option<&Path>) -> Result<(Sources, Build), Error> {
        let watcher = Watcher::new().map_err(|error| format!("cannot watch files: {error}"))?;
        #[expect(
            deprecated,
            reason = "the descriptor is the watcher's own for as long as it lives, as `register` asks"
        )]
        let watcher = AsyncFd::new(watcher)?;
        let mut sources = Sources { watcher, dirty: false, failed: false };
        let build = sources.rebuild(dir, also)?;
        Ok((sources, build))
    }

    /// Watches first and reads then, until what is watched is what was read.
    fn rebuild(&mut self, dir: &Path, also: Option<&Path>) -> Result<Build, Error> {
        let recording = Recording::default();
        let built = gantry_kustomize::build(&recording, dir, &Options::default());
        let mut paths = recording.into_paths();
        paths.extend(also.map(Path::to_owned));
        self.watcher
            .get_mut()
            .watch(paths)
            .map_err(|error| format!("cannot watch the files of {}: {error}", dir.display()))?;
        Ok(built?)
    }

    /// Until a file that counts has changed and nothing more has for a moment. Dropped before, it loses nothing.
    async fn changed(&mut self) -> Result<(), Error> {
        while !self.dirty {
            self.take_events().await?;
        }
        while let Ok(more) = tokio::time::timeout(SETTLE, self.take_events()).await {
            more?;
        }
        self.dirty = false;
        Ok(())
    }

    /// Until a file that counts has changed; never when files cannot be watched, which `changed` then says.
    async fn touched(&mut self) {
        while !self.dirty {
            if self.take_events().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    async fn take_events(&mut self) -> std::io::Result<()> {
        let mut guard = self.watcher.readable_mut().await?;
        guard.clear_ready();
        self.dirty |= !guard.get_inner_mut().changed()?.is_empty();
        Ok(())
    }
}

// === impl RunningUp ===

impl RunningUp {
    /// Follows the files until `ended`.
    pub(crate) async fn follow(&mut self, steps: &mut Steps, ended: &CancellationToken) -> Result<(), Error> {
        loop {
            let Some(changed) = ended.run_until_cancelled(self.sources.changed()).await else {
                return Ok(());
            };
            changed?;
            steps.restart_clock();
            match self.reload(steps).await {
                Ok(changed) => {
                    self.sources.failed = false;
                    if changed {
                        self.until_ready_or_changed(steps, ended).await;
                    }
                }
                Err(error) => {
                    self.sources.failed = true;
                    steps.failed("not applied", &error.to_string());
                }
            }
        }
    }

    /// What is not ready is said, unless the files change again before: then they decide.
    async fn until_ready_or_changed(&mut self, steps: &mut Steps, ended: &CancellationToken) {
        tokio::select! {
            ready = super::wait_until_ready(&self.stack, steps, ended) => {
                if let Err(error) = ready && !ended.is_cancelled() {
                    steps.failed("not ready", &error.to_string());
                }
            }
            // The loop asks again and finds the same change.
            () = self.sources.touched() => {}
        }
    }

    /// Whether any object changed.
    async fn reload(&mut self, steps: &mut Steps) -> Result<bool, Error> {
        let build = self.sources.rebuild(&self.dir, self.project.file.as_deref())?;
        let project = LoadedProject::find(&self.dir)?;
        if project != self.project {
            steps.warn("gantry.yaml has changed; it is read when `up` starts, so restart to use it");
            self.project = project;
        }
        for warning in build.warnings.iter().filter(|warning| !self.warned.contains(warning)) {
            steps.warn(warning);
        }
        preflight::check(&build.objects, &self.node, |value| super::place_of(&build, value))?;
        let changed = self.apply_changes(&build.objects).await?;
        self.warned = build.warnings;
        self.objects = build.objects;
        if changed.is_empty() && !self.sources.failed {
            return Ok(false);
        }
        steps.done("applied", &count(&changed));
        for object in &changed {
            steps.item(
                &json!({"object": object.id, "change": object.change, "fields": object.fields}),
                &line(object),
            );
        }
        Ok(!changed.is_empty())
    }

    /// Applies the objects that differ from the last build, and removes those that it no longer has.
    async fn apply_changes(&mut self, objects: &[Value]) -> Result<Vec<Changed>, Error> {
        let mut before = HashMap::new();
        for (index, object) in self.objects.iter().enumerate() {
            before.insert(ObjectRef::of(object, index)?, object);
        }
        let previous: Vec<ObjectRef> = self.state_dir.read_applied()?;
        let mut applier = self.applier();
        let mut changed = Vec::new();
        let mut current = Vec::with_capacity(objects.len());
        for (index, object) in objects.iter().enumerate() {
            let named = ObjectRef::of(object, index)?;
            let last = before.get(&named).copied();
            if last == Some(object) {
                // What the server calls it: with the namespace that was filled in.
                let known = previous.iter().find(|id| is_same(id, &named));
                current.push(known.cloned().unwrap_or(named));
                continue;
            }
            let (id, change) = applier.apply(object, index).await?;
            current.push(id.clone());
            if change != Change::Unchanged {
                let fields = last.map(|last| differences(last, object)).unwrap_or_default();
                changed.push(Changed { id, change, fields });
            }
        }
        for id in applier.prune(&previous, &current).await? {
            changed.push(Changed { id, change: Change::Pruned, fields: Vec::new() });
        }
        self.state_dir.write_applied(&current)?;
        Ok(changed)
    }
}

/// The same object, whether or not the namespace has been filled in.
fn is_same(known: &ObjectRef, named: &ObjectRef) -> bool {
    let plain = |id: &ObjectRef| (id.api_version.clone(), id.kind.clone(), id.name.clone());
    plain(known) == plain(named)
        && (named.namespace == known.namespace
            || named.namespace.is_none() && known.namespace.as_deref() == Some("default"))
}

fn count(changed: &[Changed]) -> String {
    let of = |change: Change| changed.iter().filter(|object| object.change == change).count();
    let parts = [
        (of(Change::Created), "created"),
        (of(Change::Configured), "configured"),
        (of(Change::Pruned), "pruned"),
    ];
    let parts: Vec<String> = parts
        .iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, word)| format!("{number} {word}"))
        .collect();
    if parts.is_empty() { "nothing to change".to_owned() } else { parts.join(", ") }
}

fn line(object: &Changed) -> String {
    let word = match object.change {
        Change::Created => "created",
        Change::Configured => "configured",
        Change::Unchanged => "unchanged",
        Change::Pruned => "pruned",
    };
    let mut text = format!("{} {word}", object.id);
    for field in &object.fields {
        text.push_str("\n      ");
        text.push_str(field);
    }
    text
}

/// `path: old → new` for each field that differs, the first few of them.
fn differences(old: &Value, new: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare(&mut String::new(), Some(old), Some(new), &mut found);
    let more = found.len().saturating_sub(FIELDS_SHOWN);
    found.truncate(FIELDS_SHOWN);
    if more > 0 {
        found.push(format!("and {more} more"));
    }
    found
}

fn compare(path: &mut String, old: Option<&Value>, new: Option<&Value>, found: &mut Vec<String>) {
    if old == new {
        return;
    }
    let length = path.len();
    match (old.map(|value| &value.kind), new.map(|value| &value.kind)) {
        (Some(Kind::Object(old)), Some(Kind::Object(new))) => {
            let gone = old.keys().filter(|key| !new.contains_key(key));
            for key in new.keys().chain(gone) {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(key);
                compare(path, old.get(key), new.get(key), found);
                path.truncate(length);
            }
        }
        (Some(Kind::Array(old)), Some(Kind::Array(new))) if old.len() == new.len() => {
            for (index, (old, new)) in old.iter().zip(new).enumerate() {
                path.push_str(&format!("[{index}]"));
                compare(path, Some(old), Some(new), found);
                path.truncate(length);
            }
        }
        _ => {
            let (old, new) = (shown(path, old), shown(path, new));
            found.push(format!("{path}: {old} → {new}"));
        }
    }
}

/// A value in a few characters; nothing of a Secret.
fn shown(path: &str, value: Option<&Value>) -> String {
    let Some(value) = value else { return "–".to_owned() };
    if path.starts_with("data.") || path.starts_with("stringData.") {
        return "(…)".to_owned();
    }
    let text = match value.as_str() {
        Some(text) => text.to_owned(),
        None => serde_json::to_string(value).unwrap_or_default(),
    };
    let mut short: String = text.chars().take(MOST_VALUE_CHARS).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short.replace('\n', "⏎")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn differing_fields_are_told_by_path() {
        let old = json(r#"{"spec":{"replicas":1,"c":[{"image":"a:1"}],"gone":true}}"#);
        let new = json(r#"{"spec":{"replicas":2,"c":[{"image":"a:2"}],"new":"x"}}"#);
        assert_eq!(
            differences(&old, &new),
            ["spec.replicas: 1 → 2", "spec.c[0].image: a:1 → a:2", "spec.new: – → x", "spec.gone: true → –"]
        );
    }

    #[test]
    fn what_a_secret_holds_is_not_told() {
        let old = json(r#"{"kind":"Secret","data":{"key":"aHVudGVyMg=="}}"#);
        let new = json(r#"{"kind":"Secret","data":{"key":"b3RoZXI="}}"#);
        assert_eq!(differences(&old, &new), ["data.key: (…) → (…)"]);
    }

    #[test]
    fn many_differences_are_counted() {
        let old = json(r#"{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1}"#);
        let new = json(r#"{"a":2,"b":2,"c":2,"d":2,"e":2,"f":2}"#);
        assert_eq!(differences(&old, &new).len(), FIELDS_SHOWN + 1);
        assert_eq!(differences(&old, &new)[FIELDS_SHOWN], "and 2 more");
    }
}
