//! What a handler is given, and how it says that it failed.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use kube::Client;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::children::Subrefs;
use super::diff::Diff;
use super::engine::{HandlerEngine, View};
use super::memo::Memo;
use super::patch::Patch;
use crate::events::{EventType, Recorder};
use crate::key::Key;

/// Why a handler is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    Create,
    Update,
    Delete,
    Resume,
    /// A watched event, whatever it means.
    Event,
    Timer,
    Daemon,
}

impl Reason {
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Create => "create",
            Reason::Update => "update",
            Reason::Delete => "delete",
            Reason::Resume => "resume",
            Reason::Event => "event",
            Reason::Timer => "timer",
            Reason::Daemon => "daemon",
        }
    }
}

/// How a handler failed. Any error type turns into [`HandlerError::Other`] with `?`.
#[derive(Debug)]
pub enum HandlerError {
    /// Try again after this delay.
    Temporary { message: String, delay: Duration },
    /// Never try again.
    Permanent(String),
    /// Try again after the handler's back-off.
    Other(Box<dyn std::error::Error + Send + Sync>),
    /// Sub-handlers are not done yet: call again after this delay. Nobody failed.
    Unfinished { delay: Duration },
}

impl HandlerError {
    pub fn temporary(message: impl Into<String>, delay: Duration) -> HandlerError {
        HandlerError::Temporary { message: message.into(), delay }
    }

    pub fn permanent(message: impl Into<String>) -> HandlerError {
        HandlerError::Permanent(message.into())
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HandlerError::Temporary { message, .. } | HandlerError::Permanent(message) => {
                f.write_str(message)
            }
            HandlerError::Other(error) => error.fmt(f),
            HandlerError::Unfinished { .. } => Ok(()),
        }
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for HandlerError {
    fn from(error: E) -> HandlerError {
        HandlerError::Other(Box::new(error))
    }
}

/// What a handler returns; a result that is not null is written to `status.<handler id>`.
pub type HandlerResult<T = ()> = Result<T, HandlerError>;

/// One call of a handler: the object, what happened to it, and the means to act. Cloning is cheap.
pub struct Ctx<K> {
    pub(crate) inner: Arc<CtxInner<K>>,
}

pub(crate) struct CtxInner<K> {
    pub(crate) reason: Reason,
    pub(crate) handler: String,
    pub(crate) view: Arc<View<K>>,
    pub(crate) old: Value,
    pub(crate) new: Value,
    pub(crate) diff: Diff,
    pub(crate) event: Option<&'static str>,
    pub(crate) retry: u32,
    pub(crate) started_ms: i64,
    pub(crate) runtime: Duration,
    pub(crate) patch: Patch,
    pub(crate) stopped: CancellationToken,
    pub(crate) cancelled: CancellationToken,
    pub(crate) client: Client,
    pub(crate) recorder: Recorder,
    pub(crate) reference: k8s_openapi::api::core::v1::ObjectReference,
    pub(crate) engine: Weak<HandlerEngine<K>>,
    pub(crate) subrefs: Subrefs,
}

impl<K> Clone for Ctx<K> {
    fn clone(&self) -> Self {
        Ctx { inner: self.inner.clone() }
    }
}

impl<K> Ctx<K> {
    pub fn reason(&self) -> Reason {
        self.inner.reason
    }

    /// The object as it is now.
    pub fn object(&self) -> &Arc<K> {
        &self.inner.view.object
    }

    /// The object as the server sent it, with fields that its type may not know.
    pub fn body(&self) -> &Value {
        &self.inner.view.body
    }

    pub fn key(&self) -> &Key {
        &self.inner.view.key
    }

    pub fn name(&self) -> &str {
        self.inner.view.key.name()
    }

    pub fn namespace(&self) -> &str {
        self.inner.view.key.namespace()
    }

    /// The essence handled last, or the field's former value in a field handler; null when there was none.
    pub fn old(&self) -> &Value {
        &self.inner.old
    }

    /// The essence now, or the field's value in a field handler; null when there is none.
    #[expect(clippy::new_ret_no_self, reason = "`old` and `new` are what every user of Kopf calls them")]
    pub fn new(&self) -> &Value {
        &self.inner.new
    }

    /// The differences between the two.
    pub fn diff(&self) -> &Diff {
        &self.inner.diff
    }

    /// `ADDED`, `MODIFIED` or `DELETED` in an event handler; nothing for objects found by listing.
    pub fn event(&self) -> Option<&'static str> {
        self.inner.event
    }

    /// How often the handler was tried before for this reason.
    pub fn retry(&self) -> u32 {
        self.inner.retry
    }

    /// When it was tried first, in milliseconds since the epoch.
    pub fn started_ms(&self) -> i64 {
        self.inner.started_ms
    }

    /// Time since the first try.
    pub fn runtime(&self) -> Duration {
        self.inner.runtime
    }

    /// Changes to make to the object when the handler ends, even if it fails.
    pub fn patch(&self) -> &Patch {
        &self.inner.patch
    }

    /// What the handlers of this object remember.
    pub fn memo(&self) -> &Memo {
        &self.inner.view.memo
    }

    pub fn client(&self) -> &Client {
        &self.inner.client
    }

    /// Resolves when a daemon or timer has to end; also ends with the operator.
    pub fn stopped(&self) -> &CancellationToken {
        &self.inner.stopped
    }

    /// Resolves when a daemon or timer that was told to stop has not ended in time and is to end at once.
    pub fn cancelled(&self) -> &CancellationToken {
        &self.inner.cancelled
    }

    /// Records an event about the object.
    pub fn event_normal(&self, reason: &str, message: impl Into<String>) {
        self.inner.recorder.event_about(self.inner.reference.clone(), EventType::Normal, reason, message);
    }

    /// Records a warning about the object.
    pub fn event_warning(&self, reason: &str, message: impl Into<String>) {
        self.inner.recorder.event_about(self.inner.reference.clone(), EventType::Warning, reason, message);
    }

    pub(crate) fn handler(&self) -> &str {
        &self.inner.handler
    }
}
