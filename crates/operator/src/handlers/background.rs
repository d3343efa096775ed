//! Timers and daemons: tasks that run beside an object for as long as it lives and is wanted.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use super::call::{CallDetails, accepts_body, outcome_of, unanswered};
use super::context::{HandlerError, Reason};
use super::patch::Patch;
use super::progress::{Outcome, Record};
use super::registry::{ErrorsMode, Question, Stopping, TimedKind};
use super::{Shared, Subject};
use crate::controller::ReconcileError;
use crate::key::Key;

/// The tasks of one object, by the position of their handler.
#[derive(Default)]
pub(crate) struct Background {
    tasks: HashMap<usize, Task>,
    changed_at: Duration,
    essence: Option<Value>,
}

/// One task, running or ended.
struct Task {
    signals: Signals,
    plan: Stopping,
    abort: AbortHandle,
    /// It was told to stop; one that ended on its own is not started again.
    stopping: bool,
}

/// What a task is told, and how it tells that it has ended.
#[derive(Clone, Default)]
struct Signals {
    stopped: CancellationToken,
    cancelled: CancellationToken,
    ended: CancellationToken,
}

impl Background {
    /// Notes what is configured now; a difference ends the idle time.
    pub(super) fn note_essence(&mut self, essence: &Value, now: Duration) {
        if self.essence.as_ref() != Some(essence) {
            self.essence = Some(essence.clone());
            self.changed_at = now;
        }
    }

    pub(super) fn idle_for(&self, now: Duration) -> Duration {
        now.saturating_sub(self.changed_at)
    }

    fn changed_at(&self) -> Duration {
        self.changed_at
    }

    /// Starts the task of a handler unless it was started before.
    pub(super) fn start<K: Subject>(
        &mut self,
        engine: &Shared<K>,
        handler: usize,
        key: &Key,
        plan: Stopping,
    ) {
        self.tasks.retain(|_, task| !(task.stopping && task.signals.ended.is_cancelled()));
        self.tasks.entry(handler).or_insert_with(|| {
            let signals = Signals::default();
            let (engine, key, told) = (engine.clone(), key.clone(), signals.clone());
            let running = tokio::spawn(async move {
                // Also when it is cut.
                let _ended = told.ended.clone().drop_guard();
                run(&engine, handler, &key, &told).await;
            });
            Task { signals, plan, abort: running.abort_handle(), stopping: false }
        });
    }

    /// Whether the task of a handler ended on its own.
    pub(super) fn has_ended(&self, handler: usize) -> bool {
        self.tasks.get(&handler).is_some_and(|task| !task.stopping && task.signals.ended.is_cancelled())
    }

    /// Whether any task still runs.
    pub(super) fn is_busy(&self) -> bool {
        self.tasks.values().any(|task| !task.signals.ended.is_cancelled())
    }

    /// Tells the tasks of the chosen handlers to stop; `when_ended` is called after each that was running.
    pub(super) fn stop(&mut self, chosen: impl Fn(usize) -> bool, when_ended: &Arc<dyn Fn() + Send + Sync>) {
        for (_, task) in self.tasks.iter_mut().filter(|(handler, _)| chosen(**handler)) {
            if task.stopping || task.signals.ended.is_cancelled() {
                continue;
            }
            task.stopping = true;
            let ending = end(task.signals.clone(), task.plan, task.abort.clone());
            let when_ended = when_ended.clone();
            tokio::spawn(async move {
                ending.await;
                when_ended();
            });
        }
    }

    /// Ends all tasks: each may take as long as its plan says, or `grace` when that is without end.
    pub(super) async fn end_all(self, grace: Duration) {
        let endings = self.tasks.into_values().map(|task| {
            let plan = match task.plan {
                Stopping { backoff, timeout: None } => {
                    Stopping { backoff: Some(backoff.unwrap_or(grace)), timeout: Some(Duration::ZERO) }
                }
                plan => plan,
            };
            end(task.signals, plan, task.abort)
        });
        futures::future::join_all(endings).await;
    }

    /// Tells all tasks to stop without waiting.
    pub(super) fn signal(&self) {
        for task in self.tasks.values() {
            task.signals.stopped.cancel();
        }
    }
}

/// Ends a task step by step: tell it, insist, cut it.
async fn end(signals: Signals, plan: Stopping, abort: AbortHandle) {
    signals.stopped.cancel();
    let within = |patience: Duration| {
        let ended = signals.ended.clone();
        async move { tokio::time::timeout(patience, ended.cancelled()).await.is_ok() }
    };
    if let Some(backoff) = plan.backoff
        && within(backoff).await
    {
        return;
    }
    let Some(timeout) = plan.timeout else {
        signals.ended.cancelled().await;
        return;
    };
    signals.cancelled.cancel();
    if !within(timeout).await {
        abort.abort();
        signals.ended.cancelled().await;
    }
}

async fn run<K: Subject>(engine: &Shared<K>, position: usize, key: &Key, told: &Signals) {
    let Some(timed) = engine.handlers.timed.get(position) else { return };
    let handler = &timed.handler;
    let stopped = &told.stopped;
    let reason = if timed.kind == TimedKind::Daemon { Reason::Daemon } else { Reason::Timer };
    let mut delay = handler.initial_delay;
    if let Some(ask) = &handler.asks_delay {
        let Some(view) = engine.look(key) else { return };
        let patch = Patch::default();
        delay = ask(engine.context(&view, handler, CallDetails::of(reason, &patch))).await;
    }
    if !sleep(delay, stopped).await {
        return;
    }
    let mut record = Record::new(engine.clock.now_ms(), reason);
    while !stopped.is_cancelled() {
        let idle = handler.idle.unwrap_or(Duration::ZERO);
        if let Some(left) = idle.checked_sub(engine.idle_for(key)).filter(|left| !left.is_zero()) {
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
            started_ms: record.started_ms,
            runtime: Duration::from_millis(u64::try_from(runtime_ms).unwrap_or(0)),
            stopped: stopped.clone(),
            cancelled: told.cancelled.clone(),
            ..CallDetails::of(reason, &patch)
        };
        let context = engine.context(&view, handler, details);
        let accepted = match accepts_body(handler, &context, Question::Calls).await {
            Ok(accepted) => accepted,
            // It was not called, so no try is counted; it is asked again.
            Err(error) => {
                let pause = match &error {
                    HandlerError::Temporary { delay, .. } => *delay,
                    _ => handler.backoff.unwrap_or(engine.settings.default_backoff),
                };
                let error = unanswered(handler, &error);
                tracing::warn!(%key, %error, "background handler waits");
                if !sleep(pause, stopped).await {
                    return;
                }
                continue;
            }
        };
        let outcome = if accepted {
            let called = engine.call(handler, context, ErrorsMode::Temporary, &record).await;
            if let Ok(result) = &called {
                patch.result(&handler.id, result);
            }
            outcome_of(handler, &record, called.err(), ErrorsMode::Temporary, engine, engine.clock.now_ms())
        } else {
            Outcome::Done
        };
        if let Err(error) = engine.apply(&view, &patch).await {
            tracing::warn!(%key, handler = handler.id, %error, "changes of a background handler were not written");
        }
        let now_ms = engine.clock.now_ms();
        let fresh = Record::new(now_ms, reason);
        let pause = match (&outcome, timed.kind) {
            (Outcome::Again { delay_ms, .. }, _) => {
                record = record.after(&outcome, now_ms);
                Duration::from_millis(u64::try_from(*delay_ms).unwrap_or(0))
            }
            // A timer fires again whatever came of it; a daemon that ended is not run again.
            (_, TimedKind::Timer(Some(interval))) => {
                record = fresh;
                let took = engine.clock.monotonic().saturating_sub(begun);
                if handler.sharp { left_of_grid(interval, took) } else { interval }
            }
            (_, TimedKind::Timer(None)) if handler.idle.is_some() => {
                record = fresh;
                while engine.changed_at(key) <= begun {
                    if !sleep(idle.max(Duration::from_millis(100)), stopped).await {
                        return;
                    }
                }
                Duration::ZERO
            }
            (_, TimedKind::Timer(None) | TimedKind::Daemon) => return,
        };
        if !sleep(pause, stopped).await {
            return;
        }
    }
}

/// Time to the next multiple of `interval` after the start of what took `took`.
fn left_of_grid(interval: Duration, took: Duration) -> Duration {
    if interval.is_zero() {
        return Duration::ZERO;
    }
    let over = took.as_nanos() % interval.as_nanos();
    interval.saturating_sub(Duration::from_nanos(u64::try_from(over).unwrap_or(u64::MAX)))
}

/// Sleeps, unless told to stop; returns whether to go on.
async fn sleep(duration: Duration, stopped: &CancellationToken) -> bool {
    tokio::select! {
        biased;
        () = stopped.cancelled() => false,
        () = tokio::time::sleep(duration) => true,
    }
}

impl<K: Subject> super::engine::HandlerEngine<K> {
    /// Starts and stops the timers and daemons of an object as it is now.
    pub(super) async fn tend_background(
        &self,
        view: &Arc<super::engine::View<K>>,
        deleting: bool,
    ) -> Result<(), ReconcileError> {
        if self.handlers.timed.is_empty() {
            return Ok(());
        }
        let Some(shared) = self.me.upgrade() else { return Ok(()) };
        let patch = Patch::default();
        let mut wanted = Vec::with_capacity(self.handlers.timed.len());
        for timed in &self.handlers.timed {
            let context = self.context(view, &timed.handler, CallDetails::of(Reason::Daemon, &patch));
            let accepted = match deleting {
                true => Ok(false),
                false => accepts_body(&timed.handler, &context, Question::Concerns).await,
            };
            wanted.push(accepted.map_err(|error| unanswered(&timed.handler, &error))?);
        }
        let essence = self
            .handlers
            .timed
            .iter()
            .any(|timed| timed.handler.idle.is_some())
            .then(|| super::essence::essence(&view.body, &self.extra_fields));
        let again: Arc<dyn Fn() + Send + Sync> = {
            let (trigger, key) = (self.trigger.get().cloned(), view.key.clone());
            Arc::new(move || {
                if let Some(trigger) = &trigger {
                    trigger.now(key.clone());
                }
            })
        };
        let mut memories = self.memories.lock();
        let Some(memory) = memories.get_mut(&view.key) else { return Ok(()) };
        if let Some(essence) = essence {
            memory.background.note_essence(&essence, self.clock.monotonic());
        }
        memory.background.stop(|handler| !wanted.get(handler).copied().unwrap_or(false), &again);
        for (index, timed) in self.handlers.timed.iter().enumerate() {
            if wanted.get(index).copied().unwrap_or(false) {
                let cut =
                    Stopping { backoff: Some(self.settings.daemon_grace), timeout: Some(Duration::ZERO) };
                let plan = timed.handler.stopping.unwrap_or(cut);
                memory.background.start(&shared, index, &view.key, plan);
            }
        }
        Ok(())
    }

    /// When the object was last configured differently.
    fn changed_at(&self, key: &Key) -> Duration {
        self.memories.lock().get(key).map_or(Duration::MAX, |memory| memory.background.changed_at())
    }
}

impl Patch {
    /// Puts what a handler returned into the status, under its id.
    pub(super) fn result(&self, id: &str, result: &Value) {
        if !result.is_null() {
            self.merge(json!({ "status": { id: result } }));
        }
    }
}
