//! Timers and daemons: tasks that run beside an object for as long as it lives and is wanted.

use std::collections::HashMap;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::context::Reason;
use super::engine::{CallDetails, outcome_of};
use super::patch::Patch;
use super::progress::{Outcome, Record};
use super::{Shared, Subject};
use crate::key::Key;

/// The tasks of one object, by the position of their handler.
#[derive(Default)]
pub(crate) struct Background {
    tasks: HashMap<usize, Task>,
    changed_at: Duration,
}

/// One running task.
pub(crate) struct Task {
    stopped: CancellationToken,
    running: JoinHandle<()>,
}

impl Background {
    pub(super) fn note_change(&mut self, now: Duration) {
        self.changed_at = now;
    }

    pub(super) fn idle_for(&self, now: Duration) -> Duration {
        now.saturating_sub(self.changed_at)
    }

    /// Starts the task of a handler unless it was started before; one that has ended is not started again.
    pub(super) fn start<K: Subject>(&mut self, engine: &Shared<K>, handler: usize, key: &Key) {
        self.tasks.entry(handler).or_insert_with(|| {
            let stopped = CancellationToken::new();
            let (engine, key, until) = (engine.clone(), key.clone(), stopped.clone());
            let running = tokio::spawn(async move { run(&engine, handler, &key, &until).await });
            Task { stopped, running }
        });
    }

    /// Takes the task of a handler out, to be stopped.
    pub(super) fn end(&mut self, handler: usize) -> Option<Task> {
        self.tasks.remove(&handler)
    }

    /// Tells all tasks to end.
    pub(super) fn signal(&self) {
        for task in self.tasks.values() {
            task.stopped.cancel();
        }
    }

    /// Ends all tasks, giving each `grace`.
    pub(super) async fn stop(self, grace: Duration) {
        self.signal();
        futures::future::join_all(self.tasks.into_values().map(|task| task.stop(grace))).await;
    }
}

impl Task {
    /// Tells the task to end and cuts it when it does not within `grace`.
    pub(super) async fn stop(self, grace: Duration) {
        self.stopped.cancel();
        let mut running = self.running;
        if tokio::time::timeout(grace, &mut running).await.is_err() {
            running.abort();
        }
    }
}

async fn run<K: Subject>(engine: &Shared<K>, position: usize, key: &Key, stopped: &CancellationToken) {
    let Some(timed) = engine.handlers.timed.get(position) else { return };
    let handler = &timed.handler;
    if !sleep(handler.initial_delay, stopped).await {
        return;
    }
    let reason = if timed.interval.is_some() { Reason::Timer } else { Reason::Daemon };
    let mut record = Record::new(engine.clock.now_ms(), reason);
    while !stopped.is_cancelled() {
        if let Some(left) = handler.idle.checked_sub(engine.idle_for(key)).filter(|left| !left.is_zero()) {
            if !sleep(left, stopped).await {
                return;
            }
            continue;
        }
        let Some(view) = engine.look(key) else { return };
        let begun = engine.clock.monotonic();
        let patch = Patch::default();
        let runtime_ms = engine.clock.now_ms().saturating_sub(record.started_ms);
        let details = CallDetails {
            retry: record.retries,
            runtime: Duration::from_millis(u64::try_from(runtime_ms).unwrap_or(0)),
            stopped: stopped.clone(),
            ..CallDetails::of(reason, &patch)
        };
        let context = engine.context(&view, handler, details);
        let wanted = handler.when.as_ref().is_none_or(|when| when(&context));
        let outcome = if wanted {
            match engine.call(handler, context).await {
                Ok(result) => {
                    if !result.is_null() {
                        patch.merge(serde_json::json!({ "status": { handler.id.clone(): result } }));
                    }
                    Outcome::Done
                }
                Err(error) => outcome_of(handler, &record, &error, engine.clock.now_ms()),
            }
        } else {
            Outcome::Done
        };
        if let Err(error) = engine.apply(&view, &patch).await {
            tracing::warn!(%key, handler = handler.id, %error, "changes of a background handler were not written");
        }
        let pause = match (&outcome, timed.interval) {
            (Outcome::Again { delay_ms, .. }, _) => {
                record = record.after(&outcome, engine.clock.now_ms());
                Duration::from_millis(u64::try_from(*delay_ms).unwrap_or(0))
            }
            (Outcome::Done, Some(interval)) => {
                record = Record::new(engine.clock.now_ms(), reason);
                let took = engine.clock.monotonic().saturating_sub(begun);
                if handler.sharp { interval.saturating_sub(took) } else { interval }
            }
            // A daemon that ended, or anything that failed for good, is not run again.
            (Outcome::Done, None) | (Outcome::Failed(_), _) => return,
        };
        if !sleep(pause, stopped).await {
            return;
        }
    }
}

/// Sleeps, unless told to stop; returns whether to go on.
async fn sleep(duration: Duration, stopped: &CancellationToken) -> bool {
    tokio::select! {
        biased;
        () = stopped.cancelled() => false,
        () = tokio::time::sleep(duration) => true,
    }
}
