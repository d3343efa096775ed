//! Calls of the user's functions: what of the engine's context goes over, and what comes back.

use std::sync::Arc;
use std::time::Duration;

use gantry_operator::{Ctx, Handler, HandlerError, HandlerResult, Question, Reason, handler};
use kube::core::DynamicObject;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::declared::{Declared, seconds};
use crate::feed::Feed;
use crate::register::with_options;
use crate::session::{Raised, Said, Session};
use crate::worker::Worker;

/// What is said to the object whose handler a dying process was running.
const DIED_DELAY: Duration = Duration::from_secs(1);

/// What calls need, whatever they call.
#[derive(Clone)]
pub(crate) struct Calls {
    pub(crate) worker: Worker,
    pub(crate) feed: Arc<Feed>,
    /// The operator is ending.
    pub(crate) exiting: CancellationToken,
}

/// One handler for one kind of objects.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) position: usize,
    pub(crate) resource: Arc<str>,
}

#[derive(Serialize)]
struct Frame<'a> {
    op: &'static str,
    id: u64,
    handler: usize,
    resource: &'a str,
    reason: &'static str,
    body: &'a Value,
    old: &'a Value,
    new: &'a Value,
    diff: Vec<(&'static str, &'a [String], &'a Value, &'a Value)>,
    #[serde(rename = "type")]
    event: Option<&'static str>,
    retry: u32,
    started: f64,
    runtime: f64,
    changes: bool,
}

/// The same for a sub-handler, whose object is known over there.
#[derive(Serialize)]
struct PartFrame<'a> {
    op: &'static str,
    id: u64,
    of: u64,
    index: usize,
    old: &'a Value,
    new: &'a Value,
    diff: Vec<(&'static str, &'a [String], &'a Value, &'a Value)>,
    retry: u32,
    started: f64,
    runtime: f64,
    changes: bool,
}

/// An exception that is neither temporary nor permanent.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct Exception {
    message: String,
    #[source]
    trace: Trace,
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Trace(String);

/// Cancels a call that nobody waits for any more.
struct Guard {
    session: Arc<Session>,
    id: u64,
    answered: bool,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.session.forget_call(self.id);
        if !self.answered {
            self.session.try_send(&json!({ "op": "cancel", "id": self.id }));
        }
    }
}

impl Calls {
    /// Calls a handler.
    pub(crate) async fn call(&self, target: &Target, context: Ctx<DynamicObject>) -> HandlerResult<Value> {
        let session = self.session().await?;
        let id = session.next_id();
        session.note_call(id, context.clone());
        let mut guard = Guard { session: session.clone(), id, answered: false };
        let beside = matches!(context.reason(), Reason::Daemon | Reason::Timer);
        let uid = context.body().pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default();
        let _live = beside.then(|| self.feed.live(uid));
        let frame = frame_of("call", id, target, &context, true);
        let answer = session.request(id, &frame).await.map_err(|_| died())?;
        let said = match beside {
            true => self.wait_beside(&session, id, target, &context, answer).await?,
            false => answer.await.map_err(|_| died())?,
        };
        guard.answered = true;
        take(&session, id, &context, said)
    }

    /// Waits for a daemon or timer, and passes on that it has to stop.
    async fn wait_beside(
        &self,
        session: &Arc<Session>,
        id: u64,
        target: &Target,
        context: &Ctx<DynamicObject>,
        mut answer: oneshot::Receiver<Said>,
    ) -> HandlerResult<Said> {
        tokio::select! {
            biased;
            said = &mut answer => return said.map_err(|_| died()),
            () = context.stopped().cancelled() => {}
        }
        let reason = match self.feed.newest(&target.resource, context.key()) {
            _ if self.exiting.is_cancelled() => "OPERATOR_EXITING",
            Some(object) if object.metadata.deletion_timestamp.is_none() => "FILTERS_MISMATCH",
            _ => "RESOURCE_DELETED",
        };
        // Not dropped when many wait: the daemon would never hear of it. If it cannot be told, it has ended.
        let _ = session.send(&json!({ "op": "stop", "id": id, "reason": reason })).await;
        tokio::select! {
            biased;
            said = &mut answer => return said.map_err(|_| died()),
            () = context.cancelled().cancelled() => {}
        }
        let _ = session.send(&json!({ "op": "stop", "id": id, "reason": "DAEMON_CANCELLED" })).await;
        let _ = session.send(&json!({ "op": "cancel", "id": id })).await;
        answer.await.map_err(|_| died())
    }

    /// Asks the filters of a handler that are functions.
    pub(crate) async fn accepts(
        &self,
        target: &Target,
        context: Ctx<DynamicObject>,
        question: Question,
    ) -> HandlerResult<bool> {
        answered(self.ask("ask", target, &context, question == Question::Calls).await)
    }

    /// Asks for the initial delay of a daemon or timer.
    pub(crate) async fn delay(&self, target: &Target, context: Ctx<DynamicObject>) -> Duration {
        let asked = self.ask("delay", target, &context, true).await;
        told(asked, "an initial delay").and_then(|answer| answer.as_f64()).map_or(Duration::ZERO, seconds)
    }

    async fn ask(
        &self,
        op: &'static str,
        target: &Target,
        context: &Ctx<DynamicObject>,
        changes: bool,
    ) -> HandlerResult<Said> {
        let session = self.session().await?;
        let id = session.next_id();
        let answer = session.request(id, &frame_of(op, id, target, context, changes)).await;
        answer.map_err(|_| died())?.await.map_err(|_| died())
    }

    async fn session(&self) -> HandlerResult<Arc<Session>> {
        self.worker.session().await.ok_or_else(died)
    }
}

/// The sub-handlers that a call of the worker's has asked for.
pub(crate) fn parts_of(
    session: &Arc<Session>,
    call: u64,
    parts: Vec<Declared>,
) -> Vec<Handler<DynamicObject>> {
    let handlers = parts.into_iter().enumerate().map(|(index, declared)| {
        let calling = session.clone();
        let part = handler(move |context: Ctx<DynamicObject>| {
            let session = calling.clone();
            async move { part(&session, call, index, context).await }
        });
        let mut part = with_options(part, &declared);
        if declared.asks {
            let asking = session.clone();
            part = part.when_asked(move |context, question| {
                let session = asking.clone();
                async move {
                    let changes = question == Question::Calls;
                    let id = session.next_id();
                    let frame = part_frame("ask_part", id, call, index, &context, changes);
                    let asked = async {
                        let answer = session.request(id, &frame).await.map_err(|_| died())?;
                        answer.await.map_err(|_| died())
                    };
                    answered(asked.await)
                }
            });
        }
        part
    });
    handlers.collect()
}

async fn part(
    session: &Arc<Session>,
    call: u64,
    index: usize,
    context: Ctx<DynamicObject>,
) -> HandlerResult<Value> {
    let id = session.next_id();
    session.note_call(id, context.clone());
    let mut guard = Guard { session: session.clone(), id, answered: false };
    let frame = part_frame("part", id, call, index, &context, true);
    let answer = session.request(id, &frame).await.map_err(|_| died())?;
    let said = answer.await.map_err(|_| died())?;
    guard.answered = true;
    take(session, id, &context, said)
}

/// Takes what a call returned, and what it wants changed.
fn take(session: &Arc<Session>, id: u64, context: &Ctx<DynamicObject>, said: Said) -> HandlerResult<Value> {
    if let Some(patch) = said.patch {
        context.patch().merge(patch);
    }
    if said.transforms {
        let kept = Arc::new(Kept { session: session.clone(), id });
        context.patch().transform(move |body| {
            let kept = kept.clone();
            async move {
                let asked =
                    kept.session.ask(json!({ "op": "transform", "call": kept.id, "body": body })).await;
                let said = asked.map_err(|_| died())?;
                match said.error {
                    Some(raised) => Err(error_of(raised)),
                    None => Ok(said.result),
                }
            }
        });
    }
    match said.error {
        // It ended as it was told to.
        Some(raised) if raised.kind == "cancelled" => Ok(Value::Null),
        Some(raised) => Err(error_of(raised)),
        None => Ok(said.result),
    }
}

/// Transformations that wait over there.
struct Kept {
    session: Arc<Session>,
    id: u64,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.session.try_send(&json!({ "op": "drop", "call": self.id }));
    }
}

fn frame_of<'a>(
    op: &'static str,
    id: u64,
    target: &'a Target,
    context: &'a Ctx<DynamicObject>,
    changes: bool,
) -> Frame<'a> {
    Frame {
        op,
        id,
        handler: target.position,
        resource: &target.resource,
        reason: context.reason().as_str(),
        body: context.body(),
        old: context.old(),
        new: context.new(),
        diff: diff_of(context),
        event: context.event(),
        retry: context.retry(),
        started: context.started_ms() as f64 / 1000.0,
        runtime: context.runtime().as_secs_f64(),
        changes,
    }
}

fn part_frame<'a>(
    op: &'static str,
    id: u64,
    of: u64,
    index: usize,
    context: &'a Ctx<DynamicObject>,
    changes: bool,
) -> PartFrame<'a> {
    PartFrame {
        op,
        id,
        of,
        index,
        old: context.old(),
        new: context.new(),
        diff: diff_of(context),
        retry: context.retry(),
        started: context.started_ms() as f64 / 1000.0,
        runtime: context.runtime().as_secs_f64(),
        changes,
    }
}

fn diff_of(context: &Ctx<DynamicObject>) -> Vec<(&'static str, &[String], &Value, &Value)> {
    let items = context.diff().items.iter();
    items.map(|item| (item.operation.as_str(), item.path.as_slice(), &item.old, &item.new)).collect()
}

fn error_of(raised: Raised) -> HandlerError {
    match raised.kind.as_str() {
        "temporary" => {
            HandlerError::Temporary { message: raised.message, delay: seconds(raised.delay.unwrap_or(0.0)) }
        }
        "unfinished" => HandlerError::Unfinished { delay: seconds(raised.delay.unwrap_or(0.0)) },
        "permanent" => HandlerError::Permanent(raised.message),
        _ => HandlerError::Other(Box::new(Exception { message: raised.message, trace: Trace(raised.trace) })),
    }
}

fn died() -> HandlerError {
    HandlerError::temporary("the worker process ended while it ran this handler", DIED_DELAY)
}

/// What a filter says. An exception or a process that died is neither yes nor no.
fn answered(asked: HandlerResult<Said>) -> HandlerResult<bool> {
    let said = asked?;
    if let Some(raised) = said.error {
        tracing::error!(details = raised.trace, "a filter failed: {}", raised.message);
        return Err(error_of(raised));
    }
    let told = said.result.as_bool();
    told.ok_or_else(|| HandlerError::Other(format!("a filter said {}, not yes or no", said.result).into()))
}

/// The answer to a question; an exception is logged and is no answer.
fn told(asked: HandlerResult<Said>, what: &str) -> Option<Value> {
    match asked {
        Ok(Said { error: Some(raised), .. }) => {
            tracing::error!(details = raised.trace, "{what} failed: {}", raised.message);
            None
        }
        Ok(said) => Some(said.result),
        Err(error) => {
            tracing::error!("{what} was not asked: {error}");
            None
        }
    }
}
