//! What the files say, followed while `up` runs: a saved file is built, checked and applied, and what changed is told
//! object by object. Files that are wrong change nothing that runs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use gantry_apimachinery::Value;
use gantry_kustomize::watch::{Recording, Watcher};
use gantry_kustomize::{Build, Options};
use gantry_operator::explain;
use serde_json::json;
use tokio::io::unix::AsyncFd;
use tokio_util::sync::CancellationToken;

use super::applied::count;
use super::project::LoadedProject;
use super::steps::Steps;
use super::{Error, RunningUp, preflight};

/// Saving several files, or one in several steps, is one change.
const SETTLE: Duration = Duration::from_millis(40);

/// The kustomization, and word of what happens to the files that its builds look at.
pub(super) struct Sources {
    dir: PathBuf,
    /// Or why files cannot be watched, which stops nothing else.
    watcher: Result<AsyncFd<Watcher>, String>,
    /// A file has changed and the change was not acted on yet.
    dirty: bool,
    /// Set when the build before was refused: the next good one is said even if it changes nothing.
    failed: bool,
}

// === impl Sources ===

impl Sources {
    pub(super) fn new(dir: &Path) -> Sources {
        let watcher = Watcher::new().and_then(|watcher| {
            #[expect(
                deprecated,
                reason = "the descriptor is the watcher's own for as long as it lives, as `register` asks"
            )]
            AsyncFd::new(watcher)
        });
        let watcher = watcher.map_err(|error| error.to_string());
        Sources { dir: dir.to_owned(), watcher, dirty: false, failed: false }
    }

    /// Builds, and watches what the build looked at. A file that was saved in between counts as changed.
    pub(super) fn build(&mut self, project: &LoadedProject) -> Result<Build, gantry_kustomize::Error> {
        let recording = Recording::default();
        let built = gantry_kustomize::build(&recording, &self.dir, &Options::default());
        let project_file = project.file.clone().unwrap_or_else(|| self.dir.join(super::project::FILE_NAME));
        recording.note(&project_file);
        if let Some(rules) = &project.project.metric_rules {
            recording.note(&project.folder().join(rules));
        }
        if let Ok(watcher) = &mut self.watcher {
            let watcher = watcher.get_mut();
            // A build that broke off has not seen everything that counts.
            let watched =
                if built.is_ok() { watcher.watch(recording) } else { watcher.watch_more(recording) };
            match watched.and_then(|()| watcher.changed()) {
                Ok(missed) => self.dirty |= !missed.is_empty(),
                Err(error) => self.watcher = Err(error.to_string()),
            }
        }
        built
    }

    /// Why a saved file would not be noticed.
    pub(super) fn unwatched(&self) -> Option<&str> {
        self.watcher.as_ref().err().map(String::as_str)
    }

    /// Until a file that counts has changed and nothing more has for a moment; never where files cannot be watched.
    /// Dropped before, it loses nothing.
    async fn changed(&mut self) {
        self.touched().await;
        while tokio::time::timeout(SETTLE, self.take_events()).await.is_ok() {}
        self.dirty = false;
    }

    /// Until a file that counts has changed.
    async fn touched(&mut self) {
        while !self.dirty {
            self.take_events().await;
        }
    }

    async fn take_events(&mut self) {
        let Ok(watcher) = &mut self.watcher else { return std::future::pending().await };
        let taken = async {
            let mut guard = watcher.readable_mut().await?;
            guard.clear_ready();
            guard.get_inner_mut().changed()
        };
        match taken.await {
            Ok(changed) => self.dirty |= !changed.is_empty(),
            Err(error) => {
                tracing::warn!(%error, "files are not watched any more");
                self.watcher = Err(error.to_string());
            }
        }
    }
}

// === impl RunningUp ===

impl RunningUp {
    /// Follows the files until `ended`.
    pub(crate) async fn follow(&mut self, steps: &mut Steps, ended: &CancellationToken) {
        while ended.run_until_cancelled(self.sources.changed()).await.is_some() {
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
                    steps.failed("not applied", &explain(error.as_ref()));
                }
            }
        }
    }

    /// What is not ready is said, unless the files change again before: then they decide.
    async fn until_ready_or_changed(&mut self, steps: &mut Steps, ended: &CancellationToken) {
        tokio::select! {
            ready = super::wait_until_ready(&self.stack, &self.applied, steps, ended) => {
                if let Err(error) = ready && !ended.is_cancelled() {
                    steps.failed("not ready", &explain(error.as_ref()));
                }
            }
            // The loop asks again and finds the same change.
            () = self.sources.touched() => {}
        }
    }

    /// Whether any object changed.
    async fn reload(&mut self, steps: &mut Steps) -> Result<bool, Error> {
        let project = LoadedProject::find(&self.sources.dir)?;
        if project != self.project {
            steps.warn("gantry.yaml has changed; it is read when `up` starts, so restart to use it");
            self.project = project;
        }
        let rules = super::custom_metrics::text(&self.project);
        if rules != self.metric_rules {
            steps.warn(
                "the file of metricRules has changed; it is read when `up` starts, so restart to use it",
            );
            self.metric_rules = rules;
        }
        let build = self.sources.build(&self.project)?;
        let mut warnings = build.warnings.clone();
        warnings.extend(preflight::rules_passed_over(&build.objects));
        for warning in warnings.iter().filter(|warning| !self.warned.contains(warning)) {
            steps.warn(warning);
        }
        let place_of = |value: &Value| super::place_of(&build, value);
        preflight::check(&build.objects, &self.node, place_of)?;
        let mut changed = Vec::new();
        let updated = self
            .applied
            .update(self.stack.client(), &self.state_dir, &build.objects, place_of, &mut changed)
            .await;
        self.warned = warnings;
        if updated.is_ok() && (!changed.is_empty() || self.sources.failed) {
            steps.done("applied", &count(&changed, build.objects.len()));
        }
        for object in &changed {
            steps.item(&json!(object), &object.in_words());
        }
        updated.map(|()| !changed.is_empty())
    }
}
