//! Calling one handler once: may it be called, with what, and what came of it.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use k8s_openapi::api::core::v1::ObjectReference;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::children::Subrefs;
use super::context::{Ctx, CtxInner, HandlerError, HandlerResult, Reason};
use super::cycle::Cycle;
use super::diff::Diff;
use super::engine::{HandlerEngine, View};
use super::patch::Patch;
use super::progress::{Outcome, Record};
use super::registry::{ErrorsMode, Handler, Question};
use crate::controller::{ReconcileError, panic_text};

/// What differs from call to call.
pub(super) struct CallDetails {
    pub(super) reason: Reason,
    pub(super) old: Value,
    pub(super) new: Value,
    pub(super) diff: Diff,
    pub(super) event: Option<&'static str>,
    pub(super) retry: u32,
    pub(super) started_ms: i64,
    pub(super) runtime: Duration,
    pub(super) patch: Patch,
    pub(super) stopped: CancellationToken,
    pub(super) cancelled: CancellationToken,
    pub(super) subrefs: Subrefs,
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
            started_ms: 0,
            runtime: Duration::ZERO,
            patch: patch.clone(),
            stopped: CancellationToken::new(),
            cancelled: CancellationToken::new(),
            subrefs: Subrefs::default(),
        }
    }
}

/// Whether the filters of an event handler, timer or daemon accept an object.
pub(super) async fn accepts_body<K>(
    handler: &Handler<K>,
    context: &Ctx<K>,
    question: Question,
) -> HandlerResult<bool> {
    let body = context.body();
    let accepted = handler.filter.accepts(body)
        && handler.field.as_ref().is_none_or(|field| field.accepts_value(&[body]))
        && handler.when.as_ref().is_none_or(|when| when(context));
    match &handler.asks {
        Some(ask) if accepted => ask(context.clone(), question).await,
        _ => Ok(accepted),
    }
}

/// Whether the filters of a handler accept a change; `context` is made only when a filter needs it.
pub(super) async fn accepts_change<K>(
    handler: &Handler<K>,
    cycle: &Arc<Cycle<K>>,
    question: Question,
    context: impl Fn() -> Ctx<K>,
) -> HandlerResult<bool> {
    if !handler.filter.accepts(&cycle.view.body) {
        return Ok(false);
    }
    if let Some(field) = &handler.field {
        let changes = question == Question::Concerns || field.accepts_change(&cycle.old, &cycle.new);
        if !changes || !field.accepts_value(&[&cycle.new, &cycle.old]) {
            return Ok(false);
        }
    }
    let accepted = handler.when.as_ref().is_none_or(|when| when(&context()));
    match &handler.asks {
        Some(ask) if accepted => ask(context(), question).await,
        _ => Ok(accepted),
    }
}

/// Why an object cannot be gone through when a filter of one of its handlers gives no answer.
pub(super) fn unanswered<K>(handler: &Handler<K>, error: &HandlerError) -> ReconcileError {
    format!("a filter of the handler '{}' gave no answer: {error}", handler.id).into()
}

impl<K> HandlerEngine<K> {
    pub(super) fn context(&self, view: &Arc<View<K>>, handler: &Handler<K>, details: CallDetails) -> Ctx<K> {
        let inner = CtxInner {
            reason: details.reason,
            handler: handler.id.clone(),
            view: view.clone(),
            old: details.old,
            new: details.new,
            diff: details.diff,
            event: details.event,
            retry: details.retry,
            started_ms: details.started_ms,
            runtime: details.runtime,
            patch: details.patch,
            stopped: details.stopped,
            cancelled: details.cancelled,
            client: self.client.clone(),
            recorder: self.recorder.clone(),
            reference: self.reference(view),
            engine: self.me.clone(),
            subrefs: details.subrefs,
        };
        Ctx { inner: Arc::new(inner) }
    }

    fn reference(&self, view: &View<K>) -> ObjectReference {
        let meta = &view.raw.metadata;
        ObjectReference {
            api_version: Some(self.resource.api_version.clone()),
            kind: Some(self.resource.kind.clone()),
            name: meta.name.clone(),
            namespace: meta.namespace.clone(),
            uid: meta.uid.clone(),
            ..Default::default()
        }
    }

    /// Calls a handler unless its time or its tries are over; a panic is an error like any other.
    pub(super) async fn call(
        &self,
        handler: &Handler<K>,
        context: Ctx<K>,
        default_mode: ErrorsMode,
        record: &Record,
    ) -> Result<Value, HandlerError> {
        let view = context.inner.view.clone();
        let title = title_of(context.reason());
        self.log_about(&view, tracing::Level::DEBUG, &format!("{title} '{}' is invoked.", handler.id), "");
        if let Some(message) = gave_up(handler, title, record, self.clock.now_ms()) {
            return Err(HandlerError::Permanent(message));
        }
        let called =
            std::panic::AssertUnwindSafe(async { (handler.call)(context).await }).catch_unwind().await;
        let result = called.unwrap_or_else(|panic| {
            Err(HandlerError::Other(format!("panicked: {}", panic_text(&*panic)).into()))
        });
        let now_ms = self.clock.now_ms();
        let told = match &result {
            Ok(_) => Some((tracing::Level::INFO, format!("{title} '{}' succeeded.", handler.id))),
            Err(error) => {
                let seen = Verdict::of(handler, record, error, default_mode, self, now_ms);
                seen.told(handler, title, error)
            }
        };
        if let Some((level, text)) = told {
            let details = result.as_ref().err().map(details_of).unwrap_or_default();
            self.log_about(&view, level, &text, &details);
        }
        result
    }

    /// Logs about an object in the words that users of Kopf know.
    pub(super) fn log_about(&self, view: &View<K>, level: tracing::Level, text: &str, details: &str) {
        let (namespace, name) = (view.key.namespace(), view.key.name());
        let (kind, api) = (self.resource.kind.as_str(), self.resource.api_version.as_str());
        let uid = view.raw.metadata.uid.as_deref().unwrap_or("");
        // A level cannot be a variable in these macros.
        if level == tracing::Level::ERROR {
            tracing::error!(target: "objects", namespace, name, kind, api, uid, details, "{text}");
        } else if level == tracing::Level::INFO {
            tracing::info!(target: "objects", namespace, name, kind, api, uid, details, "{text}");
        } else {
            tracing::debug!(target: "objects", namespace, name, kind, api, uid, details, "{text}");
        }
    }
}

fn title_of(reason: Reason) -> &'static str {
    match reason {
        Reason::Timer => "Timer",
        Reason::Daemon => "Daemon",
        _ => "Handler",
    }
}

/// What stands behind an error that wraps another: a trace, usually.
fn details_of(error: &HandlerError) -> String {
    match error {
        HandlerError::Other(error) => error.source().map(ToString::to_string).unwrap_or_default(),
        _ => String::new(),
    }
}

/// Why a handler is not tried again, if its time or its tries are over.
fn gave_up<K>(handler: &Handler<K>, title: &str, record: &Record, now_ms: i64) -> Option<String> {
    if handler.timeout.is_some_and(|timeout| runtime(record, now_ms) >= timeout) {
        let after = seconds(runtime(record, now_ms));
        return Some(format!("{title} '{}' has timed out after {after} seconds.", handler.id));
    }
    handler.retries.filter(|retries| record.retries >= *retries)?;
    Some(format!("{title} '{}' has exceeded {} retries.", handler.id, record.retries))
}

fn runtime(record: &Record, now_ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(now_ms.saturating_sub(record.started_ms)).unwrap_or(0))
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

/// What an error means for its handler.
enum Verdict {
    Ignore,
    Again(Duration),
    Never,
    /// It might be tried again, but would then be over its time …
    TooLate,
    /// … or over its tries.
    TooOften,
    /// Sub-handlers go on.
    Parts(Duration),
}

impl Verdict {
    /// Looks ahead to whether the next try would still be allowed.
    fn of<K>(
        handler: &Handler<K>,
        record: &Record,
        error: &HandlerError,
        default_mode: ErrorsMode,
        engine: &HandlerEngine<K>,
        now_ms: i64,
    ) -> Verdict {
        let delay = match error {
            HandlerError::Permanent(_) => return Verdict::Never,
            HandlerError::Unfinished { delay } => return Verdict::Parts(*delay),
            HandlerError::Temporary { delay, .. } => *delay,
            HandlerError::Other(_) => match handler.errors.unwrap_or(default_mode) {
                ErrorsMode::Ignored => return Verdict::Ignore,
                ErrorsMode::Permanent => return Verdict::Never,
                ErrorsMode::Temporary => handler.backoff.unwrap_or(engine.settings.default_backoff),
            },
        };
        let ahead = runtime(record, now_ms).saturating_add(delay);
        if handler.timeout.is_some_and(|timeout| ahead >= timeout) {
            return Verdict::TooLate;
        }
        if handler.retries.is_some_and(|retries| record.retries.saturating_add(1) >= retries) {
            return Verdict::TooOften;
        }
        Verdict::Again(delay)
    }

    /// How to tell it, and how loudly; nothing when sub-handlers go on.
    fn told<K>(
        &self,
        handler: &Handler<K>,
        title: &str,
        error: &HandlerError,
    ) -> Option<(tracing::Level, String)> {
        let id = format!("{title} '{}'", handler.id);
        let temporary = matches!(error, HandlerError::Temporary { .. });
        let timeout = handler.timeout.map_or(0.0, seconds);
        let retries = handler.retries.unwrap_or(0);
        let text = match self {
            Verdict::Parts(_) => return None,
            Verdict::Ignore => format!("{id} failed with an exception and will ignore it: {error}"),
            Verdict::Never => match error {
                HandlerError::Permanent(message) if message.starts_with(&id) => message.clone(),
                HandlerError::Permanent(message) => format!("{id} failed permanently: {message}"),
                _ => format!("{id} failed with an exception and will stop now: {error}"),
            },
            Verdict::TooLate if temporary => {
                format!("{id} failed temporarily but will time out after {timeout} seconds: {error}")
            }
            Verdict::TooOften if temporary => {
                format!("{id} failed temporarily but will exceed {retries} retries: {error}")
            }
            Verdict::TooLate => format!(
                "{id} failed with an exception and will stop now (it would time out in {timeout} seconds on the next attempt): {error}"
            ),
            Verdict::TooOften => format!(
                "{id} failed with an exception and will stop now (it would exceed {retries} retries on the next attempt): {error}"
            ),
            Verdict::Again(_) if temporary => format!("{id} failed temporarily: {error}"),
            Verdict::Again(delay) => format!(
                "{id} failed with an exception and will try again in {} seconds: {error}",
                seconds(*delay)
            ),
        };
        Some((tracing::Level::ERROR, text))
    }
}

/// What came of a call, to be noted in the handler's record.
pub(super) fn outcome_of<K>(
    handler: &Handler<K>,
    record: &Record,
    error: Option<HandlerError>,
    default_mode: ErrorsMode,
    engine: &HandlerEngine<K>,
    now_ms: i64,
) -> Outcome {
    let Some(error) = error else { return Outcome::Done };
    let verdict = Verdict::of(handler, record, &error, default_mode, engine, now_ms);
    match verdict {
        Verdict::Ignore => Outcome::Done,
        Verdict::Again(delay) | Verdict::Parts(delay) => Outcome::Again {
            delay_ms: i64::try_from(delay.as_millis()).unwrap_or(i64::MAX),
            message: error.to_string(),
        },
        Verdict::Never => Outcome::Failed(error.to_string()),
        Verdict::TooLate | Verdict::TooOften => {
            let told = verdict.told(handler, "Handler", &error).map(|(_, text)| text);
            Outcome::Failed(told.unwrap_or_else(|| error.to_string()))
        }
    }
}
