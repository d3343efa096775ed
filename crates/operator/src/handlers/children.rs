//! Sub-handlers: parts of a handler's work that are retried on their own, with records of their own.
//!
//! A sub-handler `part` of the handler `make` has the id `make/part`. Its record lives on the object as long as
//! that of its parent, which is called again until all its parts are done.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::Subject;
use super::context::{Ctx, HandlerError, HandlerResult};
use super::cycle::Cycle;
use super::engine::HandlerEngine;
use super::progress::Record;
use super::registry::{Changing, Handler, Question};

/// The ids of sub-handlers called within a handler, of all depths; shared with the handlers around it.
#[derive(Clone, Default)]
pub(crate) struct Subrefs {
    scopes: Vec<Arc<Mutex<BTreeSet<String>>>>,
}

impl Subrefs {
    /// A scope within these: what is noted there is noted here too.
    pub(crate) fn inner(&self) -> Subrefs {
        let mut scopes = self.scopes.clone();
        scopes.push(Arc::default());
        Subrefs { scopes }
    }

    fn note(&self, id: &str) {
        for scope in &self.scopes {
            scope.lock().insert(id.to_owned());
        }
    }

    /// What was noted in the innermost scope.
    pub(crate) fn taken(&self) -> BTreeSet<String> {
        self.scopes.last().map(|scope| std::mem::take(&mut *scope.lock())).unwrap_or_default()
    }
}

impl<K: Subject> Ctx<K> {
    /// Calls `handlers` as parts of this one: each until it succeeds or gives up, one or all per call as the
    /// lifecycle says. Fails with [`HandlerError::Unfinished`], to be returned, while some are not done.
    pub async fn execute(&self, handlers: Vec<Handler<K>>) -> HandlerResult {
        let Some(engine) = self.inner.engine.upgrade() else {
            return Err(HandlerError::permanent("the operator has ended"));
        };
        engine.execute(self, handlers).await
    }
}

impl<K: Subject> HandlerEngine<K> {
    async fn execute(&self, parent: &Ctx<K>, handlers: Vec<Handler<K>>) -> HandlerResult {
        let now_ms = self.clock.now_ms();
        let cycle = Arc::new(Cycle {
            view: parent.inner.view.clone(),
            reason: parent.inner.reason,
            old: parent.inner.old.clone(),
            new: parent.inner.new.clone(),
            diff: parent.inner.diff.clone(),
            patch: parent.inner.patch.clone(),
            subrefs: parent.inner.subrefs.clone(),
        });
        let mut children: Vec<Changing<K>> = Vec::new();
        for mut handler in handlers {
            handler.id = format!("{}/{}", parent.handler(), handler.id);
            let child = Changing { reason: None, handler: handler.with_field_in_id() };
            let known = children.iter().any(|other| other.handler.id == child.handler.id);
            if !known && self.matches(&cycle, &child, now_ms, Question::Calls).await? {
                children.push(child);
            }
        }
        let selected: Vec<&Changing<K>> = children.iter().collect();
        let mut records = self.records(&cycle, &selected, now_ms);
        self.call_due(&cycle, &selected, &mut records, now_ms).await;
        self.note_records(&cycle, &selected, &records);
        for child in &children {
            parent.inner.subrefs.note(&child.handler.id);
        }
        match wait_of(&records, self.clock.now_ms()) {
            None => Ok(()),
            Some(delay) => Err(HandlerError::Unfinished { delay }),
        }
    }
}

/// When the next of the unfinished is due; nothing when all are finished.
pub(super) fn wait_of(records: &[Record], now_ms: i64) -> Option<Duration> {
    let unfinished = records.iter().filter(|record| !record.is_finished());
    let wait =
        unfinished.map(|record| record.delayed_ms.unwrap_or(now_ms).saturating_sub(now_ms).max(0)).min()?;
    Some(Duration::from_millis(u64::try_from(wait).unwrap_or(0)))
}
