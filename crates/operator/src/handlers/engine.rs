//! The work on one object: hear what happened, hold it while there is something to do at its end, and go through
//! its handlers.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use kube::Client;
use kube::api::ApiResource;
use kube::core::DynamicObject;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::annotations::KeyNames;
use super::background::Background;
use super::call::{CallDetails, accepts_body, outcome_of, unanswered};
use super::context::Reason;
use super::memo::Memo;
use super::patch::Patch;
use super::progress::{Outcome, Record};
use super::registry::{ErrorsMode, Handlers, Question};
use super::{HandlerSettings, Shared, Subject};
use crate::controller::{Action, ReconcileError, Trigger};
use crate::events::Recorder;
use crate::informer::{AnyInformer, Change, Informer};
use crate::key::Key;
use crate::operator::Operator;
use crate::writes::Writes;

const LAST_HANDLED: &str = "last-handled-configuration";
/// Events of one object that wait for its event handlers; the oldest go first when there are more.
const EVENTS_PER_OBJECT: usize = 1000;

pub(crate) struct HandlerEngine<K> {
    pub(super) me: Weak<HandlerEngine<K>>,
    pub(super) client: Client,
    pub(super) clock: Arc<dyn gantry_clock::Clock>,
    pub(super) recorder: Recorder,
    pub(super) resource: ApiResource,
    pub(super) settings: HandlerSettings,
    pub(super) handlers: Handlers<K>,
    /// Of records and of notes of our own.
    pub(super) names: KeyNames,
    /// The keys of the last-handled essence.
    pub(super) last_handled_keys: Vec<String>,
    /// Marks of the prefixes we write under, where they need one.
    pub(super) markers: Vec<String>,
    pub(super) extra_fields: Vec<Vec<String>>,
    pub(super) store: Informer<DynamicObject>,
    pub(super) writes: Writes,
    pub(super) memories: Mutex<HashMap<Key, Memory>>,
    /// The server has no status subresource for this kind.
    pub(super) status_is_inline: AtomicBool,
    /// Asks for another look at an object.
    pub(super) trigger: OnceLock<Trigger>,
}

/// What is remembered of an object between its changes.
pub(super) struct Memory {
    uid: Option<String>,
    pub(super) first_seen: bool,
    memo: Memo,
    events: VecDeque<(Option<&'static str>, Arc<DynamicObject>)>,
    /// Events were dropped, and it was said, since the queue was last empty.
    dropped_events: bool,
    /// The essence handled last in this process, for lean persistence.
    pub(super) handled: Option<Value>,
    pub(super) background: Background,
}

/// One look at an object.
pub(crate) struct View<K> {
    pub(crate) key: Key,
    pub(crate) raw: Arc<DynamicObject>,
    pub(crate) body: Arc<Value>,
    pub(crate) object: Arc<K>,
    pub(crate) memo: Memo,
}

pub(crate) fn register<K: Subject>(
    operator: &Operator,
    resource: ApiResource,
    settings: HandlerSettings,
    handlers: Handlers<K>,
    needs: Vec<Arc<dyn AnyInformer>>,
) {
    let store = operator.informers().dynamic(&resource);
    let names = KeyNames::new(&settings.prefix, settings.v1_names);
    let (diff_names, note) = match &settings.last_handled {
        Some(own) => (KeyNames::new(&own.prefix, own.v1_names), own.name.as_str()),
        None => (names.clone(), LAST_HANDLED),
    };
    let mut markers: Vec<String> = [&names, &diff_names].into_iter().filter_map(KeyNames::marker).collect();
    markers.dedup();
    let last_handled_keys = diff_names.keys(note);
    let engine: Shared<K> = Arc::new_cyclic(|me| HandlerEngine {
        me: me.clone(),
        client: operator.client().clone(),
        clock: operator.clock().clone(),
        recorder: operator.recorder(&operator.settings().name),
        last_handled_keys,
        markers,
        names,
        extra_fields: handlers.extra_fields(),
        resource,
        settings,
        handlers,
        store: store.clone(),
        writes: Writes::new(operator.clock().clone()),
        memories: Mutex::default(),
        status_is_inline: AtomicBool::new(false),
        trigger: OnceLock::new(),
    });
    let hearing = engine.clone();
    // Subscribed before the controller, so that what is heard is noted before the work on it begins.
    store.subscribe(move |change| hearing.hear(change)).keep();
    let name = format!("handlers of {}", engine.resource.plural);
    let concurrency = engine.settings.concurrency;
    let ending = engine.clone();
    operator.task(&name, move |cancel| async move {
        cancel.cancelled().await;
        ending.stop_all().await;
    });
    let mut controller = operator.controller_of(&name, store).concurrency(concurrency);
    for informer in needs {
        controller = controller.reads_any(informer);
    }
    // Nothing was set before: this is the only place that does.
    let _ = engine.trigger.set(controller.trigger());
    controller.reconcile(move |key| {
        let engine = engine.clone();
        async move { engine.reconcile(key).await }
    });
}

impl<K: Subject> HandlerEngine<K> {
    fn is_ours(&self, key: &Key) -> bool {
        let filter = self.settings.namespaces.as_ref().filter(|_| !key.namespace().is_empty());
        filter.is_none_or(|filter| (filter.0)(key.namespace()))
    }

    fn hear(&self, change: &Change<DynamicObject>) {
        let object = change.object();
        let key = Key::of(&**object);
        if !self.is_ours(&key) {
            return;
        }
        let name = key.clone();
        let mut memories = self.memories.lock();
        let uid = object.metadata.uid.clone();
        if memories.get(&key).is_some_and(|known| known.uid != uid)
            && let Some(former) = memories.remove(&key)
        {
            former.background.signal();
        }
        let (event, listed) = match change {
            Change::Applied { listed: true, .. } => (None, true),
            Change::Applied { old: None, .. } => (Some("ADDED"), false),
            Change::Applied { .. } => (Some("MODIFIED"), false),
            Change::Deleted(_) => (Some("DELETED"), false),
        };
        let memory = memories.entry(key).or_insert_with(|| Memory {
            uid,
            first_seen: listed,
            memo: Memo::default(),
            events: VecDeque::new(),
            dropped_events: false,
            handled: None,
            background: Background::default(),
        });
        if !self.handlers.events.is_empty() {
            if memory.events.len() >= EVENTS_PER_OBJECT {
                memory.events.pop_front();
                if !std::mem::replace(&mut memory.dropped_events, true) {
                    tracing::warn!(
                        key = %name,
                        most = EVENTS_PER_OBJECT,
                        "event handlers are too slow for the changes of an object: its oldest events are dropped"
                    );
                }
            }
            memory.events.push_back((event, object.clone()));
        }
    }

    async fn reconcile(&self, key: Key) -> Result<Action, ReconcileError> {
        if !self.is_ours(&key) {
            return Ok(Action::await_change());
        }
        self.call_event_handlers(&key).await;
        let Some(raw) = self.store.get(&key) else {
            self.writes.forget(&key);
            let memory = self.memories.lock().remove(&key);
            if let Some(memory) = memory {
                memory.background.end_all(self.settings.daemon_grace).await;
            }
            return Ok(Action::await_change());
        };
        if !self.writes.settled_within(&key, self.settings.consistency) {
            return Ok(Action::requeue_after(Duration::from_millis(200)));
        }
        let view = Arc::new(self.view(&key, raw)?);
        let deleting = view.raw.metadata.deletion_timestamp.is_some();
        let held = self.is_held(&view);
        self.tend_background(&view, deleting).await?;
        let pass = self.look_through(&view, deleting, held).await?;
        let hold = pass.holds || self.background_holds(&view).await?;
        if hold != held && !(deleting && hold) {
            self.set_held(&view, hold).await?;
            return Ok(Action::await_change());
        }
        if pass.concerned
            && let Some(wait) = self.handle(&pass).await?
        {
            return Ok(Action::requeue_after(wait));
        }
        if deleting && held {
            // The end of each task asks for another look.
            let busy = self.memories.lock().get(&view.key).is_some_and(|memory| memory.background.is_busy());
            if !busy {
                self.release(&view).await?;
            }
        }
        Ok(Action::await_change())
    }

    pub(super) fn view(&self, key: &Key, raw: Arc<DynamicObject>) -> Result<View<K>, ReconcileError> {
        let body = self.whole(&raw)?;
        let object: K = serde_json::from_value(body.clone())
            .map_err(|error| format!("{} {key} cannot be read: {error}", self.resource.kind))?;
        let memo = self.memories.lock().get(key).map(|memory| memory.memo.clone()).unwrap_or_default();
        Ok(View { key: key.clone(), raw, body: Arc::new(body), object: Arc::new(object), memo })
    }

    async fn call_event_handlers(&self, key: &Key) {
        loop {
            let next = self.memories.lock().get_mut(key).and_then(|memory| {
                let next = memory.events.pop_front();
                memory.dropped_events &= next.is_some();
                next
            });
            let Some((event, raw)) = next else { return };
            let view = match self.view(key, raw) {
                Ok(view) => Arc::new(view),
                Err(error) => {
                    tracing::warn!(%error, "event skipped");
                    continue;
                }
            };
            let patch = Patch::default();
            let record = Record::new(self.clock.now_ms(), Reason::Event);
            for handler in &self.handlers.events {
                let details = CallDetails { event, ..CallDetails::of(Reason::Event, &patch) };
                let context = self.context(&view, handler, details);
                // Nor can an event wait for a filter that gives no answer.
                let accepted = accepts_body(handler, &context, Question::Calls).await;
                if let Err(error) = &accepted {
                    let error = unanswered(handler, error);
                    tracing::warn!(%key, %error, "event skipped");
                }
                if !matches!(accepted, Ok(true)) {
                    continue;
                }
                // Events cannot be repeated, so neither is a failed handler; the failure is logged.
                let called = self.call(handler, context, ErrorsMode::Ignored, &record).await;
                if let Ok(result) = &called {
                    patch.result(&handler.id, result);
                }
                let now_ms = self.clock.now_ms();
                let _: Outcome =
                    outcome_of(handler, &record, called.err(), ErrorsMode::Ignored, self, now_ms);
            }
            if event != Some("DELETED")
                && let Err(error) = self.apply(&view, &patch).await
            {
                tracing::warn!(key = %key, %error, "changes of an event handler were not written");
            }
        }
    }

    // --- holding ---

    fn is_held(&self, view: &View<K>) -> bool {
        view.raw.metadata.finalizers.iter().flatten().any(|finalizer| *finalizer == self.settings.finalizer)
    }

    /// Whether a timer or daemon that has not ended on its own wants the object to wait for its end.
    async fn background_holds(&self, view: &Arc<View<K>>) -> Result<bool, ReconcileError> {
        if !self.settings.hold_for_timers {
            return Ok(false);
        }
        let patch = Patch::default();
        for (index, timed) in self.handlers.timed.iter().enumerate() {
            let ended =
                self.memories.lock().get(&view.key).is_some_and(|memory| memory.background.has_ended(index));
            let context = self.context(view, &timed.handler, CallDetails::of(Reason::Daemon, &patch));
            if ended {
                continue;
            }
            let accepted = accepts_body(&timed.handler, &context, Question::Concerns).await;
            if accepted.map_err(|error| unanswered(&timed.handler, &error))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Puts the finalizer on or takes it off, unless the object has changed meanwhile.
    async fn set_held(&self, view: &View<K>, hold: bool) -> Result<(), ReconcileError> {
        let known = view.raw.metadata.finalizers.clone().unwrap_or_default();
        let mut finalizers: Vec<String> =
            known.into_iter().filter(|finalizer| *finalizer != self.settings.finalizer).collect();
        if hold {
            finalizers.push(self.settings.finalizer.clone());
        }
        let change = json!({ "metadata": {
            "resourceVersion": view.raw.metadata.resource_version,
            "finalizers": finalizers,
        }});
        self.write(&view.key, change, false).await.map(|_| ())
    }

    /// Lets an object go that is done with.
    async fn release(&self, view: &View<K>) -> Result<(), ReconcileError> {
        // What was written a moment ago has changed the version; the newest one is with the server.
        match self.api(&view.key).get_opt(view.key.name()).await? {
            Some(raw) if raw.metadata.uid == view.raw.metadata.uid => {
                let newest = self.view(&view.key, Arc::new(raw))?;
                if self.is_held(&newest) { self.set_held(&newest, false).await } else { Ok(()) }
            }
            _ => Ok(()),
        }
    }

    // --- background ---

    async fn stop_all(&self) {
        let all: Vec<Background> =
            self.memories.lock().values_mut().map(|memory| std::mem::take(&mut memory.background)).collect();
        let grace = self.settings.daemon_grace;
        futures::future::join_all(all.into_iter().map(|background| background.end_all(grace))).await;
    }

    /// The object as it is now, for a background task.
    pub(super) fn look(&self, key: &Key) -> Option<Arc<View<K>>> {
        let view = self.view(key, self.store.get(key)?);
        view.map_err(|error| tracing::warn!(%error, "background task waits")).ok().map(Arc::new)
    }

    /// How long the object has been left alone.
    pub(super) fn idle_for(&self, key: &Key) -> Duration {
        let now = self.clock.monotonic();
        self.memories.lock().get(key).map_or(Duration::ZERO, |memory| memory.background.idle_for(now))
    }
}
