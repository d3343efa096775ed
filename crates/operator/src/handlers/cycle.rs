//! One pass over the handlers that react to changes: which are concerned, which are due, how far each came.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::annotations::ascii_json;
use super::call::{CallDetails, accepts_change, outcome_of, unanswered};
use super::cause::{Cause, Situation, detect, reacts};
use super::children::{Subrefs, wait_of};
use super::context::{Ctx, HandlerResult, Reason};
use super::diff::{Diff, resolve};
use super::engine::{HandlerEngine, View};
use super::essence::{essence, without_annotations, without_fields};
use super::patch::Patch;
use super::progress::{Outcome, Record, fetch};
use super::registry::{Changing, ErrorsMode, Question};
use super::{Lifecycle, Persistence, Subject, blake2b};
use crate::controller::ReconcileError;

const LAST_HANDLED_DIGEST: &str = "last-handled-digest";

/// An object, why it is looked at, and what will be written when the pass ends.
pub(super) struct Cycle<K> {
    pub(super) view: Arc<View<K>>,
    pub(super) reason: Reason,
    pub(super) old: Value,
    pub(super) new: Value,
    pub(super) diff: Diff,
    pub(super) patch: Patch,
    /// Around what is called: empty for handlers, the parent's for sub-handlers.
    pub(super) subrefs: Subrefs,
}

/// What a first look says, before anything is called.
pub(super) struct Pass<K> {
    cycle: Arc<Cycle<K>>,
    cause: Cause,
    known: bool,
    changed: bool,
    first_seen: bool,
    /// At least one handler has to do with the object, if not for this reason then for another.
    pub(super) concerned: bool,
    /// A handler has to be called before the object may go.
    pub(super) holds: bool,
}

impl<K: Subject> HandlerEngine<K> {
    /// Fails when a filter gives no answer: neither a handler nor the end of an object may be missed for that.
    pub(super) async fn look_through(
        &self,
        view: &Arc<View<K>>,
        deleting: bool,
        held: bool,
    ) -> Result<Pass<K>, ReconcileError> {
        let now_ms = self.clock.now_ms();
        let mut new = essence(&view.body, &self.extra_fields);
        without_annotations(&mut new, &self.last_handled_keys);
        without_annotations(&mut new, &self.names.keys(LAST_HANDLED_DIGEST));
        without_fields(&mut new, &self.settings.ignored_fields);
        let (known, old) = self.last_handled(view, &new);
        let diff = Diff::between(&old, &new);
        let changed = known
            && if self.settings.persistence == Persistence::Lean { old != new } else { !diff.is_empty() };
        let first_seen = self.memories.lock().get(&view.key).is_some_and(|memory| memory.first_seen);
        let cause = detect(Situation { deleting, held, known, changed, first_seen });
        let reason = match cause {
            Cause::Because(reason) => reason,
            Cause::Free => Reason::Delete,
            Cause::Nothing => Reason::Update,
        };
        let cycle = Arc::new(Cycle {
            view: view.clone(),
            reason,
            old,
            new,
            diff,
            patch: Patch::default(),
            subrefs: Subrefs::default(),
        });
        let (mut concerned, mut holds) = (false, false);
        for changing in &self.handlers.changing {
            let ends = changing.reason == Some(Reason::Delete) && !changing.handler.optional;
            // Once both are known there is nothing left to ask.
            if (!concerned || (ends && !holds))
                && self
                    .matches(&cycle, changing, now_ms, Question::Concerns)
                    .await
                    .map_err(|error| unanswered(&changing.handler, &error))?
            {
                concerned = true;
                holds |= ends;
            }
        }
        Ok(Pass { cycle, cause, known, changed, first_seen, concerned, holds })
    }

    /// Calls what is due; returns when to go on, or nothing when all is done.
    pub(super) async fn handle(&self, pass: &Pass<K>) -> Result<Option<Duration>, ReconcileError> {
        let Cause::Because(reason) = pass.cause else { return Ok(None) };
        let (cycle, now_ms) = (&pass.cycle, self.clock.now_ms());
        let mut selected: Vec<&Changing<K>> = Vec::new();
        for changing in &self.handlers.changing {
            let twice = selected.iter().any(|known| known.handler.id == changing.handler.id);
            if !twice
                && reacts(changing, reason, pass.first_seen)
                && self
                    .matches(cycle, changing, now_ms, Question::Calls)
                    .await
                    .map_err(|error| unanswered(&changing.handler, &error))?
            {
                selected.push(changing);
            }
        }
        let mut records = self.records(cycle, &selected, now_ms);
        self.call_due(cycle, &selected, &mut records, now_ms).await;
        let wait = wait_of(&records, self.clock.now_ms());
        match wait {
            Some(_) => self.note_records(cycle, &selected, &records),
            None => self.wipe_records(cycle, &records),
        }
        if wait.is_none() {
            if !selected.is_empty() {
                self.log_end(cycle, &records);
            }
            if !pass.known || pass.changed {
                self.note_handled(cycle);
            }
        }
        self.apply(&cycle.view, &cycle.patch).await?;
        if wait.is_none()
            && let Some(memory) = self.memories.lock().get_mut(&cycle.view.key)
        {
            memory.first_seen = false;
            memory.handled = Some(cycle.new.clone());
        }
        Ok(wait)
    }

    /// Whether the object was handled before, and its essence then.
    fn last_handled(&self, view: &View<K>, new: &Value) -> (bool, Value) {
        let annotations = view.body.pointer("/metadata/annotations").and_then(Value::as_object);
        let find = |keys: &[String]| {
            keys.iter().filter_map(|key| annotations?.get(key)?.as_str().map(str::to_owned)).next()
        };
        match self.settings.persistence {
            Persistence::Full => {
                match find(&self.last_handled_keys).and_then(|text| serde_json::from_str(&text).ok()) {
                    Some(Value::Null) | None => (false, Value::Null),
                    Some(old) => (true, old),
                }
            }
            Persistence::Lean => match find(&self.names.keys(LAST_HANDLED_DIGEST)) {
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

    pub(super) fn records(&self, cycle: &Cycle<K>, selected: &[&Changing<K>], now_ms: i64) -> Vec<Record> {
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
    pub(super) async fn call_due(
        &self,
        cycle: &Arc<Cycle<K>>,
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
            let context = self.cycle_context(cycle, changing, Some(record), self.clock.now_ms());
            let subrefs = context.inner.subrefs.clone();
            let called = self.call(handler, context, ErrorsMode::Temporary, record).await;
            if let Ok(result) = &called {
                cycle.patch.result(&handler.id, result);
            }
            let now_ms = self.clock.now_ms();
            let outcome: Outcome =
                outcome_of(handler, record, called.err(), ErrorsMode::Temporary, self, now_ms);
            *record = record.after(&outcome, now_ms).with_subrefs(subrefs.taken());
        }
    }

    /// Writes down how far each handler came.
    pub(super) fn note_records(&self, cycle: &Cycle<K>, selected: &[&Changing<K>], records: &[Record]) {
        let annotations = cycle.view.body.pointer("/metadata/annotations").and_then(Value::as_object);
        let mut changes = Map::new();
        for (changing, record) in selected.iter().zip(records) {
            let text = record.encode();
            for key in self.names.keys(&changing.handler.id) {
                if annotations.and_then(|annotations| annotations.get(&key)?.as_str()) != Some(&text) {
                    changes.insert(key, json!(text));
                }
            }
        }
        self.mark(annotations, &mut changes);
        if !changes.is_empty() {
            cycle.patch.merge(json!({ "metadata": { "annotations": changes } }));
        }
    }

    /// Removes the records of all handlers and of their sub-handlers.
    fn wipe_records(&self, cycle: &Cycle<K>, records: &[Record]) {
        let annotations = cycle.view.body.pointer("/metadata/annotations").and_then(Value::as_object);
        let now_ms = self.clock.now_ms();
        let mut changes = Map::new();
        let mut wipe = |id: &str| {
            for key in self.names.keys(id) {
                // A sub-handler's record may be on its way with this very write.
                changes.insert(key, Value::Null);
            }
        };
        for changing in &self.handlers.changing {
            let id = &changing.handler.id;
            let known = self
                .names
                .keys(id)
                .iter()
                .any(|key| annotations.is_some_and(|annotations| annotations.contains_key(key)));
            if known {
                wipe(id);
                let left = fetch(&cycle.view.body, &self.names, id, now_ms);
                left.iter().flat_map(|record| &record.subrefs).for_each(|id| wipe(id));
            }
        }
        records.iter().flat_map(|record| &record.subrefs).for_each(|id| wipe(id));
        if !changes.is_empty() {
            cycle.patch.merge(json!({ "metadata": { "annotations": changes } }));
        }
    }

    fn note_handled(&self, cycle: &Cycle<K>) {
        let (keys, text) = match self.settings.persistence {
            Persistence::Full => (self.last_handled_keys.clone(), format!("{}\n", ascii_json(&cycle.new))),
            Persistence::Lean => (self.names.keys(LAST_HANDLED_DIGEST), digest(&cycle.new)),
        };
        let annotations = cycle.view.body.pointer("/metadata/annotations").and_then(Value::as_object);
        let mut changes: Map<String, Value> = keys.into_iter().map(|key| (key, json!(text))).collect();
        self.mark(annotations, &mut changes);
        cycle.patch.merge(json!({ "metadata": { "annotations": changes } }));
    }

    /// Shows other operators that this prefix is one's own.
    fn mark(&self, annotations: Option<&Map<String, Value>>, changes: &mut Map<String, Value>) {
        for marker in &self.markers {
            let prefix = marker.split_once('/').map_or("", |(prefix, _)| prefix);
            let written = changes.keys().any(|key| key.split_once('/').is_some_and(|(own, _)| own == prefix));
            if written && !annotations.is_some_and(|annotations| annotations.contains_key(marker)) {
                changes.insert(marker.clone(), json!("yes"));
            }
        }
    }

    fn log_end(&self, cycle: &Cycle<K>, records: &[Record]) {
        let title = match cycle.reason {
            Reason::Create => "Creation",
            Reason::Delete => "Deletion",
            Reason::Resume => "Resuming",
            _ => "Updating",
        };
        let succeeded = records.iter().filter(|record| record.success).count();
        let failed = records.iter().filter(|record| record.failure).count();
        self.log_about(
            &cycle.view,
            tracing::Level::INFO,
            &format!("{title} is processed: {succeeded} succeeded; {failed} failed."),
            "",
        );
    }

    /// Whether a handler's filters accept the object in this pass.
    pub(super) async fn matches(
        &self,
        cycle: &Arc<Cycle<K>>,
        changing: &Changing<K>,
        now_ms: i64,
        question: Question,
    ) -> HandlerResult<bool> {
        let context = || self.cycle_context(cycle, changing, None, now_ms);
        accepts_change(&changing.handler, cycle, question, context).await
    }

    fn cycle_context(
        &self,
        cycle: &Arc<Cycle<K>>,
        changing: &Changing<K>,
        record: Option<&Record>,
        now_ms: i64,
    ) -> Ctx<K> {
        let at = |value: &Value, path: &[String]| resolve(value, path).cloned().unwrap_or(Value::Null);
        let (old, new, diff) = match &changing.handler.field {
            Some(field) => {
                (at(&cycle.old, &field.path), at(&cycle.new, &field.path), cycle.diff.reduce(&field.path))
            }
            None => (cycle.old.clone(), cycle.new.clone(), cycle.diff.clone()),
        };
        let started_ms = record.map_or(now_ms, |record| record.started_ms);
        let details = CallDetails {
            old,
            new,
            diff,
            retry: record.map_or(0, |record| record.retries),
            started_ms,
            runtime: Duration::from_millis(u64::try_from(now_ms.saturating_sub(started_ms)).unwrap_or(0)),
            subrefs: cycle.subrefs.inner(),
            ..CallDetails::of(cycle.reason, &cycle.patch)
        };
        self.context(&cycle.view, &changing.handler, details)
    }
}

fn digest(value: &Value) -> String {
    let mut sorted = value.clone();
    sorted.sort_all_objects();
    let digest: [u8; 16] = blake2b::digest(sorted.to_string().as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
