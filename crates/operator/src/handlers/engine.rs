//! The work on one object: find out what happened, call who cares, write down how far it came.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt;
use kube::Client;
use kube::api::{Api, ApiResource, Patch as ApiPatch, PatchParams};
use kube::core::DynamicObject;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use super::annotations::{KeyNames, ascii_json};
use super::background::Background;
use super::cause::{Cause, Situation, detect, select};
use super::context::{Ctx, CtxInner, HandlerError, Reason};
use super::diff::{Diff, resolve};
use super::essence::{essence, without_annotations};
use super::memo::Memo;
use super::patch::Patch;
use super::progress::{Outcome, Record, fetch};
use super::registry::{Changing, Handler, Handlers};
use super::{HandlerSettings, Lifecycle, Persistence, Shared, Subject, blake2b};
use crate::controller::{Action, ReconcileError, panic_text};
use crate::events::Recorder;
use crate::informer::{Change, Informer};
use crate::key::Key;
use crate::operator::Operator;
use crate::writes::Writes;

const LAST_HANDLED: &str = "last-handled-configuration";
const LAST_HANDLED_DIGEST: &str = "last-handled-digest";
/// Events of one object that wait for its event handlers; the oldest go first when there are more.
const EVENTS_PER_OBJECT: usize = 1000;
/// How long to wait at most for our own write to come back before going on with what is there.
const CONSISTENCY: Duration = Duration::from_secs(5);

pub(crate) struct HandlerEngine<K> {
    pub(super) client: Client,
    pub(super) clock: Arc<dyn gantry_clock::Clock>,
    recorder: Recorder,
    pub(super) resource: ApiResource,
    pub(super) settings: HandlerSettings,
    pub(super) handlers: Handlers<K>,
    names: KeyNames,
    extra_fields: Vec<Vec<String>>,
    pub(super) store: Informer<DynamicObject>,
    writes: Writes,
    memories: Mutex<HashMap<Key, Memory>>,
    /// The server has no status subresource for this kind.
    status_is_inline: AtomicBool,
}

/// What is remembered of an object between its changes.
struct Memory {
    uid: Option<String>,
    first_seen: bool,
    memo: Memo,
    events: VecDeque<(Option<&'static str>, Arc<DynamicObject>)>,
    /// The essence handled last in this process, for lean persistence.
    handled: Option<Value>,
    background: Background,
}

/// One look at an object.
pub(super) struct View<K> {
    pub(super) key: Key,
    pub(super) raw: Arc<DynamicObject>,
    pub(super) body: Arc<Value>,
    pub(super) object: Arc<K>,
    pub(super) memo: Memo,
}

pub(crate) fn register<K: Subject>(
    operator: &Operator,
    resource: ApiResource,
    settings: HandlerSettings,
    handlers: Handlers<K>,
) {
    let store = operator.informers().dynamic(&resource);
    let engine: Shared<K> = Arc::new(HandlerEngine {
        client: operator.client().clone(),
        clock: operator.clock().clone(),
        recorder: operator.recorder(&operator.settings().name),
        names: KeyNames::new(&settings.prefix, settings.v1_names),
        extra_fields: handlers.extra_fields(),
        resource,
        settings,
        handlers,
        store: store.clone(),
        writes: Writes::new(operator.clock().clone()),
        memories: Mutex::default(),
        status_is_inline: AtomicBool::new(false),
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
    operator.controller_of(&name, store).concurrency(concurrency).reconcile(move |key| {
        let engine = engine.clone();
        async move { HandlerEngine::reconcile(engine, key).await }
    });
}

impl<K: Subject> HandlerEngine<K> {
    fn hear(&self, change: &Change<DynamicObject>) {
        let object = change.object();
        let key = Key::of(&**object);
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
            handled: None,
            background: Background::default(),
        });
        memory.background.note_change(self.clock.monotonic());
        if !self.handlers.events.is_empty() {
            if memory.events.len() >= EVENTS_PER_OBJECT {
                memory.events.pop_front();
            }
            memory.events.push_back((event, object.clone()));
        }
    }

    async fn reconcile(this: Arc<Self>, key: Key) -> Result<Action, ReconcileError> {
        this.call_event_handlers(&key).await;
        let Some(raw) = this.store.get(&key) else {
            this.writes.forget(&key);
            let memory = this.memories.lock().remove(&key);
            if let Some(memory) = memory {
                memory.background.stop(this.settings.daemon_grace).await;
            }
            return Ok(Action::await_change());
        };
        if !this.writes.settled_within(&key, CONSISTENCY) {
            return Ok(Action::requeue_after(Duration::from_millis(200)));
        }
        let view = this.view(&key, raw)?;
        let deleting = view.raw.metadata.deletion_timestamp.is_some();
        let held = this.is_held(&view);
        if !deleting && this.wants_to_hold(&view) != held {
            this.set_held(&view, !held).await?;
            return Ok(Action::await_change());
        }
        this.tend_background(&this, &view, deleting).await;
        if this.handlers.changing.is_empty() && !(deleting && held) {
            return Ok(Action::await_change());
        }
        this.handle(&view, deleting, held).await
    }

    fn view(&self, key: &Key, raw: Arc<DynamicObject>) -> Result<View<K>, ReconcileError> {
        let mut body = serde_json::to_value(&*raw)?;
        if let Some(fields) = body.as_object_mut() {
            // Lists leave the type of their items out.
            fields.entry("apiVersion").or_insert_with(|| json!(self.resource.api_version));
            fields.entry("kind").or_insert_with(|| json!(self.resource.kind));
        }
        let object: K = serde_json::from_value(body.clone())
            .map_err(|error| format!("{} {key} cannot be read: {error}", self.resource.kind))?;
        let memo = self.memories.lock().get(key).map(|memory| memory.memo.clone()).unwrap_or_default();
        Ok(View { key: key.clone(), raw, body: Arc::new(body), object: Arc::new(object), memo })
    }

    async fn call_event_handlers(&self, key: &Key) {
        loop {
            let next = self.memories.lock().get_mut(key).and_then(|memory| memory.events.pop_front());
            let Some((event, raw)) = next else { return };
            let view = match self.view(key, raw) {
                Ok(view) => view,
                Err(error) => {
                    tracing::warn!(%error, "event skipped");
                    continue;
                }
            };
            let patch = Patch::default();
            for handler in &self.handlers.events {
                let details = CallDetails { event, ..CallDetails::of(Reason::Event, &patch) };
                let context = self.context(&view, handler, details);
                if accepts(handler, &context) {
                    // Events cannot be repeated, so neither is a failed handler; the failure was logged.
                    let _ = self.call(handler, context).await;
                }
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

    fn wants_to_hold(&self, view: &View<K>) -> bool {
        let deletes = self.handlers.changing.iter().any(|changing| {
            changing.reason == Some(Reason::Delete)
                && !changing.handler.optional
                && changing.handler.filter.accepts(&view.body)
        });
        let timed = self.settings.hold_for_timers
            && self.handlers.timed.iter().any(|timed| timed.handler.filter.accepts(&view.body));
        deletes || timed
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
        self.write(&view.key, change, false).await
    }

    // --- handling changes ---

    async fn handle(&self, view: &View<K>, deleting: bool, held: bool) -> Result<Action, ReconcileError> {
        let now_ms = self.clock.now_ms();
        let mut new = essence(&view.body, &self.extra_fields);
        for note in [LAST_HANDLED, LAST_HANDLED_DIGEST] {
            without_annotations(&mut new, &self.names.keys(note));
        }
        let (known, old) = self.last_handled(view, &new);
        let diff = Diff::between(&old, &new);
        let changed = known
            && if self.settings.persistence == Persistence::Lean { old != new } else { !diff.is_empty() };
        let first_seen = self.memories.lock().get(&view.key).is_some_and(|memory| memory.first_seen);
        let reason = match detect(Situation { deleting, held, known, changed, first_seen }) {
            Cause::Because(reason) => reason,
            Cause::Free | Cause::Nothing => return Ok(Action::await_change()),
        };
        let cycle = Cycle { view, reason, old: &old, new: &new, diff: &diff, patch: Patch::default() };
        let selected: Vec<&Changing<K>> = select(&self.handlers, reason, first_seen, &old, &new, &diff)
            .into_iter()
            .filter(|changing| {
                accepts(&changing.handler, &self.cycle_context(&cycle, changing, None, now_ms))
            })
            .collect();
        let mut records = self.records(&cycle, &selected, now_ms);
        self.call_due(&cycle, &selected, &mut records, now_ms).await;
        let done = records.iter().all(Record::is_finished);
        self.note_progress(&cycle, &selected, &records, done);
        if done && reason != Reason::Delete && (!known || changed) {
            self.note_handled(&cycle);
        }
        self.apply(view, &cycle.patch).await?;
        if !done {
            let now_ms = self.clock.now_ms();
            let unfinished = records.iter().filter(|record| !record.is_finished());
            let wait = unfinished
                .map(|record| record.delayed_ms.unwrap_or(now_ms).saturating_sub(now_ms).max(0))
                .min();
            return Ok(Action::requeue_after(Duration::from_millis(
                u64::try_from(wait.unwrap_or(0)).unwrap_or(0),
            )));
        }
        self.finish(&cycle, held).await
    }

    async fn finish(&self, cycle: &Cycle<'_, K>, held: bool) -> Result<Action, ReconcileError> {
        if let Some(memory) = self.memories.lock().get_mut(&cycle.view.key) {
            memory.first_seen = false;
            memory.handled = Some(cycle.new.clone());
        }
        if cycle.reason == Reason::Delete && held {
            self.stop_background(&cycle.view.key).await;
            // What was written a moment ago has changed the version; the newest one is with the server.
            let api = self.api(&cycle.view.key);
            match api.get_opt(cycle.view.key.name()).await? {
                Some(raw) if raw.metadata.uid == cycle.view.raw.metadata.uid => {
                    let view = self.view(&cycle.view.key, Arc::new(raw))?;
                    self.set_held(&view, false).await?;
                }
                _ => {}
            }
        }
        Ok(Action::await_change())
    }

    /// Whether the object was handled before, and its essence then.
    fn last_handled(&self, view: &View<K>, new: &Value) -> (bool, Value) {
        let annotations = view.body.pointer("/metadata/annotations").and_then(Value::as_object);
        let find = |note: &str| {
            let keys = self.names.keys(note).into_iter();
            keys.filter_map(|key| annotations?.get(&key)?.as_str().map(str::to_owned)).next()
        };
        match self.settings.persistence {
            Persistence::Full => match find(LAST_HANDLED).and_then(|text| serde_json::from_str(&text).ok()) {
                Some(Value::Null) | None => (false, Value::Null),
                Some(old) => (true, old),
            },
            Persistence::Lean => match find(LAST_HANDLED_DIGEST) {
                None => (false, Value::Null),
                Some(known) if known == digest(new) => (true, new.clone()),
                Some(known) => {
                    let handled =
                        self.memories.lock().get(&view.key).and_then(|memory| memory.handled.clone());
                    (true, handled.filter(|handled| digest(handled) == known).unwrap_or(Value::Null))
                }
            },
        }
    }

    fn records(&self, cycle: &Cycle<'_, K>, selected: &[&Changing<K>], now_ms: i64) -> Vec<Record> {
        let known = |id: &str| fetch(&cycle.view.body, &self.names, id, now_ms);
        let records = selected.iter().map(|changing| match known(&changing.handler.id) {
            // What was finished for one reason is not finished for another.
            Some(record) if record.is_finished() && !record.is_for(cycle.reason) => {
                Record::new(now_ms, cycle.reason)
            }
            Some(record) => Record { purpose: Some(cycle.reason.as_str().to_owned()), ..record },
            None => Record::new(now_ms, cycle.reason),
        });
        records.collect()
    }

    /// Calls handlers that are due: one, or all of them, those with the fewest tries first.
    async fn call_due(
        &self,
        cycle: &Cycle<'_, K>,
        selected: &[&Changing<K>],
        records: &mut [Record],
        now_ms: i64,
    ) {
        let mut due: Vec<usize> = (0..records.len())
            .filter(|index| records.get(*index).is_some_and(|record| record.is_awake(now_ms)))
            .collect();
        due.sort_by_key(|index| records.get(*index).map_or(0, |record| record.retries));
        if self.settings.lifecycle == Lifecycle::OneAtATime {
            due.truncate(1);
        }
        for index in due {
            let (Some(changing), Some(record)) = (selected.get(index), records.get_mut(index)) else {
                continue;
            };
            let handler = &changing.handler;
            let begun_ms = self.clock.now_ms();
            let outcome = match gave_up(handler, record, begun_ms) {
                Some(message) => Outcome::Failed(message),
                None => {
                    let context = self.cycle_context(cycle, changing, Some(record), begun_ms);
                    match self.call(handler, context).await {
                        Ok(Value::Null) => Outcome::Done,
                        Ok(result) => {
                            cycle.patch.merge(json!({ "status": { handler.id.clone(): result } }));
                            Outcome::Done
                        }
                        Err(error) => outcome_of(handler, record, &error, self.clock.now_ms()),
                    }
                }
            };
            *record = record.after(&outcome, self.clock.now_ms());
        }
    }

    /// Writes down how far each handler came, or wipes it all when they are done.
    fn note_progress(&self, cycle: &Cycle<'_, K>, selected: &[&Changing<K>], records: &[Record], done: bool) {
        let annotations = cycle.view.body.pointer("/metadata/annotations").and_then(Value::as_object);
        let mut changes = Map::new();
        if done {
            for changing in &self.handlers.changing {
                for key in self.names.keys(&changing.handler.id) {
                    if annotations.is_some_and(|annotations| annotations.contains_key(&key)) {
                        changes.insert(key, Value::Null);
                    }
                }
            }
        } else {
            for (changing, record) in selected.iter().zip(records) {
                let text = record.encode();
                for key in self.names.keys(&changing.handler.id) {
                    if annotations.and_then(|annotations| annotations.get(&key)?.as_str()) != Some(&text) {
                        changes.insert(key, json!(text));
                    }
                }
            }
            self.mark(annotations, &mut changes);
        }
        if !changes.is_empty() {
            cycle.patch.merge(json!({ "metadata": { "annotations": changes } }));
        }
    }

    fn note_handled(&self, cycle: &Cycle<'_, K>) {
        let (note, text) = match self.settings.persistence {
            Persistence::Full => (LAST_HANDLED, format!("{}\n", ascii_json(cycle.new))),
            Persistence::Lean => (LAST_HANDLED_DIGEST, digest(cycle.new)),
        };
        let annotations = cycle.view.body.pointer("/metadata/annotations").and_then(Value::as_object);
        let mut changes: Map<String, Value> =
            self.names.keys(note).into_iter().map(|key| (key, json!(text))).collect();
        self.mark(annotations, &mut changes);
        cycle.patch.merge(json!({ "metadata": { "annotations": changes } }));
    }

    /// Shows other operators that this prefix is one's own.
    fn mark(&self, annotations: Option<&Map<String, Value>>, changes: &mut Map<String, Value>) {
        if let Some(marker) = self.names.marker()
            && !changes.is_empty()
            && !annotations.is_some_and(|annotations| annotations.contains_key(&marker))
        {
            changes.insert(marker, json!("yes"));
        }
    }

    // --- calling ---

    fn cycle_context(
        &self,
        cycle: &Cycle<'_, K>,
        changing: &Changing<K>,
        record: Option<&Record>,
        now_ms: i64,
    ) -> Ctx<K> {
        let at = |value: &Value, path: &[String]| resolve(value, path).cloned().unwrap_or(Value::Null);
        let (old, new, diff) = match &changing.handler.field {
            Some(path) => (at(cycle.old, path), at(cycle.new, path), cycle.diff.reduce(path)),
            None => (cycle.old.clone(), cycle.new.clone(), cycle.diff.clone()),
        };
        let runtime_ms = record.map_or(0, |record| now_ms.saturating_sub(record.started_ms));
        let details = CallDetails {
            old,
            new,
            diff,
            retry: record.map_or(0, |record| record.retries),
            runtime: Duration::from_millis(u64::try_from(runtime_ms).unwrap_or(0)),
            ..CallDetails::of(cycle.reason, &cycle.patch)
        };
        self.context(cycle.view, &changing.handler, details)
    }

    pub(super) fn context(&self, view: &View<K>, handler: &Handler<K>, details: CallDetails) -> Ctx<K> {
        let meta = &view.raw.metadata;
        let inner = CtxInner {
            reason: details.reason,
            handler: handler.id.clone(),
            key: view.key.clone(),
            object: view.object.clone(),
            body: view.body.clone(),
            old: details.old,
            new: details.new,
            diff: details.diff,
            event: details.event,
            retry: details.retry,
            runtime: details.runtime,
            patch: details.patch,
            memo: view.memo.clone(),
            stopped: details.stopped,
            client: self.client.clone(),
            recorder: self.recorder.clone(),
            reference: k8s_openapi::api::core::v1::ObjectReference {
                api_version: Some(self.resource.api_version.clone()),
                kind: Some(self.resource.kind.clone()),
                name: meta.name.clone(),
                namespace: meta.namespace.clone(),
                uid: meta.uid.clone(),
                ..Default::default()
            },
        };
        Ctx { inner: Arc::new(inner) }
    }

    /// Calls a handler; a panic is an error like any other.
    pub(super) async fn call(&self, handler: &Handler<K>, context: Ctx<K>) -> Result<Value, HandlerError> {
        let (key, id) = (context.key().clone(), context.handler().to_owned());
        let called =
            std::panic::AssertUnwindSafe(async { (handler.call)(context).await }).catch_unwind().await;
        let result = called.unwrap_or_else(|panic| {
            Err(HandlerError::Other(format!("panicked: {}", panic_text(&*panic)).into()))
        });
        match &result {
            Ok(_) => tracing::debug!(kind = %self.resource.kind, %key, handler = id, "handler succeeded"),
            Err(error) => {
                tracing::warn!(kind = %self.resource.kind, %key, handler = id, %error, "handler failed")
            }
        }
        result
    }

    // --- background ---

    async fn tend_background(&self, shared: &Shared<K>, view: &View<K>, deleting: bool) {
        if self.handlers.timed.is_empty() {
            return;
        }
        let mut stopping = Vec::new();
        {
            let mut memories = self.memories.lock();
            let Some(memory) = memories.get_mut(&view.key) else { return };
            for (index, timed) in self.handlers.timed.iter().enumerate() {
                let wanted = !deleting && timed.handler.filter.accepts(&view.body);
                if wanted {
                    memory.background.start(shared, index, &view.key);
                } else {
                    stopping.extend(memory.background.end(index));
                }
            }
        }
        for task in stopping {
            task.stop(self.settings.daemon_grace).await;
        }
    }

    async fn stop_background(&self, key: &Key) {
        let background =
            self.memories.lock().get_mut(key).map(|memory| std::mem::take(&mut memory.background));
        if let Some(background) = background {
            background.stop(self.settings.daemon_grace).await;
        }
    }

    async fn stop_all(&self) {
        let all: Vec<Background> =
            self.memories.lock().values_mut().map(|memory| std::mem::take(&mut memory.background)).collect();
        for background in &all {
            background.signal();
        }
        futures::future::join_all(
            all.into_iter().map(|background| background.stop(self.settings.daemon_grace)),
        )
        .await;
    }

    /// The object as it is now, for a background task.
    pub(super) fn look(&self, key: &Key) -> Option<View<K>> {
        let view = self.view(key, self.store.get(key)?);
        view.map_err(|error| tracing::warn!(%error, "background task waits")).ok()
    }

    /// How long the object has been left alone.
    pub(super) fn idle_for(&self, key: &Key) -> Duration {
        let now = self.clock.monotonic();
        self.memories.lock().get(key).map_or(Duration::ZERO, |memory| memory.background.idle_for(now))
    }

    // --- writing ---

    fn api(&self, key: &Key) -> Api<DynamicObject> {
        match key.namespace() {
            "" => Api::all_with(self.client.clone(), &self.resource),
            namespace => Api::namespaced_with(self.client.clone(), namespace, &self.resource),
        }
    }

    /// Writes what was gathered in `patch`: the status where it lives, and the rest.
    pub(super) async fn apply(&self, view: &View<K>, patch: &Patch) -> Result<(), ReconcileError> {
        let (status, rest) = patch.take();
        if let Some(rest) = rest {
            self.write(&view.key, rest, false).await?;
        }
        if let Some(status) = status {
            self.write(&view.key, status, true).await?;
        }
        Ok(())
    }

    async fn write(&self, key: &Key, change: Value, is_status: bool) -> Result<(), ReconcileError> {
        let api = self.api(key);
        let (params, change) = (PatchParams::default(), ApiPatch::Merge(change));
        let apart = is_status && !self.status_is_inline.load(Ordering::Relaxed);
        let written = if apart {
            api.patch_status(key.name(), &params, &change).await
        } else {
            api.patch(key.name(), &params, &change).await
        };
        match written {
            Ok(object) => {
                self.writes.wrote(key, &self.store, &object);
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.code == 404 && apart => {
                // Either the object is gone or the kind has no such subresource; the second try tells.
                match api.patch(key.name(), &params, &change).await {
                    Ok(object) => {
                        self.status_is_inline.store(true, Ordering::Relaxed);
                        self.writes.wrote(key, &self.store, &object);
                        Ok(())
                    }
                    Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
                    Err(error) => Err(error.into()),
                }
            }
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// One pass over the handlers of an object.
struct Cycle<'a, K> {
    view: &'a View<K>,
    reason: Reason,
    old: &'a Value,
    new: &'a Value,
    diff: &'a Diff,
    patch: Patch,
}

/// What differs from call to call.
pub(super) struct CallDetails {
    pub(super) reason: Reason,
    pub(super) old: Value,
    pub(super) new: Value,
    pub(super) diff: Diff,
    pub(super) event: Option<&'static str>,
    pub(super) retry: u32,
    pub(super) runtime: Duration,
    pub(super) patch: Patch,
    pub(super) stopped: CancellationToken,
}

impl CallDetails {
    pub(super) fn of(reason: Reason, patch: &Patch) -> CallDetails {
        CallDetails {
            reason,
            old: Value::Null,
            new: Value::Null,
            diff: Diff::default(),
            event: None,
            retry: 0,
            runtime: Duration::ZERO,
            patch: patch.clone(),
            stopped: CancellationToken::new(),
        }
    }
}

fn accepts<K>(handler: &Handler<K>, context: &Ctx<K>) -> bool {
    handler.filter.accepts(context.body()) && handler.when.as_ref().is_none_or(|when| when(context))
}

/// Why a handler is not tried again, if its time or its tries are over.
fn gave_up<K>(handler: &Handler<K>, record: &Record, now_ms: i64) -> Option<String> {
    if let Some(timeout) = handler.timeout.filter(|timeout| runtime(record, now_ms) >= *timeout) {
        return Some(format!("Handler '{}' has timed out after {timeout:?}.", handler.id));
    }
    let retries = handler.retries.filter(|retries| record.retries >= *retries)?;
    Some(format!("Handler '{}' has exceeded {retries} retries.", handler.id))
}

fn runtime(record: &Record, now_ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(now_ms.saturating_sub(record.started_ms)).unwrap_or(0))
}

/// Whether a failed handler is tried again; looks ahead to whether the next try would still be allowed.
pub(super) fn outcome_of<K>(
    handler: &Handler<K>,
    record: &Record,
    error: &HandlerError,
    now_ms: i64,
) -> Outcome {
    let message = error.to_string();
    let delay = match error {
        HandlerError::Permanent(_) => return Outcome::Failed(message),
        HandlerError::Temporary { delay, .. } => *delay,
        HandlerError::Other(_) => handler.backoff,
    };
    let too_late =
        handler.timeout.is_some_and(|timeout| runtime(record, now_ms).saturating_add(delay) >= timeout);
    let too_often = handler.retries.is_some_and(|retries| record.retries.saturating_add(1) >= retries);
    if too_late || too_often {
        return Outcome::Failed(message);
    }
    Outcome::Again { delay_ms: i64::try_from(delay.as_millis()).unwrap_or(i64::MAX), message }
}

fn digest(value: &Value) -> String {
    let mut sorted = value.clone();
    sorted.sort_all_objects();
    let digest: [u8; 16] = blake2b::digest(sorted.to_string().as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
