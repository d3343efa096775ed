//! Registering handlers: which function is called for what, with which options.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::context::{Ctx, HandlerResult, Reason};
use super::diff::parse_path;
use super::filter::{Expect, FieldFilter, Filter};

type Called = Pin<Box<dyn Future<Output = HandlerResult<Value>> + Send>>;
type Call<K> = Arc<dyn Fn(Ctx<K>) -> Called + Send + Sync>;
type When<K> = Arc<dyn Fn(&Ctx<K>) -> bool + Send + Sync>;
type Asked<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type Ask<K> = Arc<dyn Fn(Ctx<K>, Question) -> Asked<HandlerResult<bool>> + Send + Sync>;
type AskDelay<K> = Arc<dyn Fn(Ctx<K>) -> Asked<Duration> + Send + Sync>;

/// What a filter that is a function is asked about an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Whether the handler has anything to do with it, now or later.
    Concerns,
    /// Whether it is to be called for this change.
    Calls,
}

/// What an error that says nothing of retries means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorsMode {
    /// The handler counts as done.
    Ignored,
    /// Try again after the back-off.
    Temporary,
    /// Never try again.
    Permanent,
}

/// How a daemon or timer that is told to stop is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Stopping {
    /// How long it may take after it was told; nothing waits for nothing.
    pub backoff: Option<Duration>,
    /// How long it may take after its [`Ctx::cancelled`] resolved; then it is cut. Without it, it is waited for.
    pub timeout: Option<Duration>,
}

/// A handler function with its options. A plain `async fn(Ctx<K>) -> HandlerResult` is one with the defaults.
pub struct Handler<K> {
    pub(crate) call: Call<K>,
    pub(crate) id: String,
    pub(crate) named: bool,
    pub(crate) field: Option<FieldFilter>,
    pub(crate) filter: Filter,
    pub(crate) when: Option<When<K>>,
    pub(crate) asks: Option<Ask<K>>,
    pub(crate) errors: Option<ErrorsMode>,
    pub(crate) retries: Option<u32>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) backoff: Option<Duration>,
    pub(crate) optional: bool,
    pub(crate) deleted: bool,
    pub(crate) initial_delay: Duration,
    pub(crate) asks_delay: Option<AskDelay<K>>,
    pub(crate) idle: Option<Duration>,
    pub(crate) sharp: bool,
    pub(crate) stopping: Option<Stopping>,
}

/// Gives a handler function options: `handler(f).retries(3).label("app", "web")`.
pub fn handler<K, F, Fut, T>(function: F) -> Handler<K>
where
    F: Fn(Ctx<K>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = HandlerResult<T>> + Send + 'static,
    T: Serialize,
{
    let id = id_of(std::any::type_name::<F>());
    let call: Call<K> = Arc::new(move |context| {
        let called = function(context);
        Box::pin(async move { Ok(serde_json::to_value(called.await?)?) })
    });
    Handler {
        call,
        named: !id.is_empty(),
        id,
        field: None,
        filter: Filter::default(),
        when: None,
        asks: None,
        errors: None,
        retries: None,
        timeout: None,
        backoff: None,
        optional: false,
        deleted: false,
        initial_delay: Duration::ZERO,
        asks_delay: None,
        idle: None,
        sharp: false,
        stopping: None,
    }
}

/// The function's own name; empty for closures.
fn id_of(type_name: &str) -> String {
    let last = type_name.rsplit("::").next().unwrap_or("");
    if last.contains("closure") { String::new() } else { last.split('<').next().unwrap_or("").to_owned() }
}

/// Anything that can serve as a handler.
pub trait IntoHandler<K, Marker> {
    fn into_handler(self) -> Handler<K>;
}

/// Marks functions.
pub struct IsFunction;
/// Marks handlers that have their options already.
pub struct IsHandler;

impl<K, F, Fut, T> IntoHandler<K, (IsFunction, T)> for F
where
    F: Fn(Ctx<K>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = HandlerResult<T>> + Send + 'static,
    T: Serialize,
{
    fn into_handler(self) -> Handler<K> {
        handler(self)
    }
}

impl<K> IntoHandler<K, IsHandler> for Handler<K> {
    fn into_handler(self) -> Handler<K> {
        self
    }
}

impl<K> Handler<K> {
    /// Under which name its progress and its result are kept; the function's name unless said otherwise.
    pub fn id(mut self, id: &str) -> Self {
        id.clone_into(&mut self.id);
        self.named = true;
        self
    }

    /// Only objects whose label is as expected.
    pub fn label(mut self, name: &str, expect: impl Into<Expect>) -> Self {
        self.filter.label(name, expect.into());
        self
    }

    /// Only objects whose annotation is as expected.
    pub fn annotation(mut self, name: &str, expect: impl Into<Expect>) -> Self {
        self.filter.annotation(name, expect.into());
        self
    }

    /// Only objects whose field (`spec.mode`) is as expected.
    pub fn field_is(mut self, path: &str, expect: impl Into<Expect>) -> Self {
        self.filter.field(path, expect.into());
        self
    }

    /// About the field at `path` alone: only objects that have it, and `old`, `new` and `diff` are its own. An
    /// update handler is called only when it changes.
    pub fn field(mut self, path: &str) -> Self {
        self.field.get_or_insert_default().path = parse_path(path);
        self
    }

    /// The handler's own field must be as expected, before a change or after it.
    pub fn value(mut self, expect: impl Into<Expect>) -> Self {
        self.field.get_or_insert_default().value = Some(expect.into());
        self
    }

    /// The handler's own field must have been as expected before the change.
    pub fn old_value(mut self, expect: impl Into<Expect>) -> Self {
        self.field.get_or_insert_default().old = Some(expect.into());
        self
    }

    /// The handler's own field must be as expected after the change.
    pub fn new_value(mut self, expect: impl Into<Expect>) -> Self {
        self.field.get_or_insert_default().new = Some(expect.into());
        self
    }

    /// Like [`when`](Handler::when), for an answer that takes its time and may fail. An error is no answer: the object
    /// is looked at again later, and until then nothing is done that only a yes or a no allows.
    pub fn when_asked<F, Fut>(mut self, ask: F) -> Self
    where
        F: Fn(Ctx<K>, Question) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = HandlerResult<bool>> + Send + 'static,
    {
        self.asks = Some(Arc::new(move |context, question| Box::pin(ask(context, question))));
        self
    }

    /// What an error means that is neither temporary nor permanent; to be tried again unless said otherwise.
    pub fn errors(mut self, mode: ErrorsMode) -> Self {
        self.errors = Some(mode);
        self
    }

    /// Only when `test` says so; asked after all other filters.
    pub fn when(mut self, test: impl Fn(&Ctx<K>) -> bool + Send + Sync + 'static) -> Self {
        self.when = Some(Arc::new(test));
        self
    }

    /// Gives up after this many tries.
    pub fn retries(mut self, tries: u32) -> Self {
        self.retries = Some(tries);
        self
    }

    /// Gives up this long after the first try.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Pause after an error that names no delay; 60 s unless said otherwise.
    pub fn backoff(mut self, backoff: Duration) -> Self {
        self.backoff = Some(backoff);
        self
    }

    /// A delete handler that may be skipped: it does not hold the object with a finalizer.
    pub fn optional(mut self) -> Self {
        self.optional = true;
        self
    }

    /// A resume handler that is also called for objects that are being deleted.
    pub fn deleted(mut self) -> Self {
        self.deleted = true;
        self
    }

    /// How a daemon or timer is ended; the settings' grace, then a cut, unless said otherwise.
    pub fn stopping(mut self, stopping: Stopping) -> Self {
        self.stopping = Some(stopping);
        self
    }

    /// Like [`initial_delay`](Handler::initial_delay), computed for each object.
    pub fn initial_delay_asked<F, Fut>(mut self, ask: F) -> Self
    where
        F: Fn(Ctx<K>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Duration> + Send + 'static,
    {
        self.asks_delay = Some(Arc::new(move |context| Box::pin(ask(context))));
        self
    }

    /// A timer or daemon starts this long after its object is seen.
    pub fn initial_delay(mut self, delay: Duration) -> Self {
        self.initial_delay = delay;
        self
    }

    /// A timer fires only when the object has not changed for this long.
    pub fn idle(mut self, idle: Duration) -> Self {
        self.idle = Some(idle);
        self
    }

    /// A timer counts its interval from start to start instead of from end to start.
    pub fn sharp(mut self) -> Self {
        self.sharp = true;
        self
    }
}

/// A handler that reacts to changes.
pub(crate) struct Changing<K> {
    /// Nothing for a field handler, which reacts to whatever changes its field.
    pub(crate) reason: Option<Reason>,
    pub(crate) handler: Handler<K>,
}

/// A handler that runs beside its object.
pub(crate) struct Timed<K> {
    pub(crate) kind: TimedKind,
    pub(crate) handler: Handler<K>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimedKind {
    /// Runs once until it is stopped.
    Daemon,
    /// Fires every interval; without one, whenever the object has been idle again, or once.
    Timer(Option<Duration>),
}

/// All handlers of one kind.
pub(crate) struct Handlers<K> {
    pub(crate) changing: Vec<Changing<K>>,
    pub(crate) events: Vec<Handler<K>>,
    pub(crate) timed: Vec<Timed<K>>,
}

impl<K> Handlers<K> {
    pub(crate) fn new() -> Handlers<K> {
        Handlers { changing: Vec::new(), events: Vec::new(), timed: Vec::new() }
    }

    pub(crate) fn add_changing(&mut self, reason: Option<Reason>, handler: Handler<K>) {
        let mut handler = self.with_id(handler, reason.map_or("field", Reason::as_str));
        if let Some(field) = &mut handler.field {
            field.needs_change = matches!(reason, None | Some(Reason::Update));
        }
        self.changing.push(Changing { reason, handler });
    }

    pub(crate) fn add_event(&mut self, handler: Handler<K>) {
        let handler = self.with_id(handler, "event");
        self.events.push(handler);
    }

    pub(crate) fn add_timed(&mut self, kind: TimedKind, handler: Handler<K>) {
        let handler = self.with_id(handler, if kind == TimedKind::Daemon { "daemon" } else { "timer" });
        self.timed.push(Timed { kind, handler });
    }

    fn with_id(&self, mut handler: Handler<K>, otherwise: &str) -> Handler<K> {
        if !handler.named {
            // Closures have no name; they are numbered in the order in which they are registered.
            let number = self.changing.len() + self.events.len() + self.timed.len() + 1;
            handler.id = format!("{otherwise}_{number}");
        }
        handler.with_field_in_id()
    }

    /// Fields that handlers follow and that the essence would leave out otherwise.
    pub(crate) fn extra_fields(&self) -> Vec<Vec<String>> {
        let timed = self.timed.iter().map(|timed| &timed.handler);
        let all = self.changing.iter().map(|changing| &changing.handler).chain(&self.events).chain(timed);
        let paths = all.filter_map(|handler| Some(handler.field.as_ref()?.path.clone()));
        paths.filter(|path| !path.is_empty()).collect()
    }
}

impl<K> Handler<K> {
    /// Handlers of one function for several fields keep records of their own.
    pub(crate) fn with_field_in_id(mut self) -> Self {
        if let Some(field) = self.field.as_ref().filter(|field| !field.path.is_empty()) {
            self.id = format!("{}/{}", self.id, field.path.join("."));
        }
        self
    }
}
