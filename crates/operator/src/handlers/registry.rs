//! Registering handlers: which function is called for what, with which options.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::context::{Ctx, HandlerResult, Reason};
use super::diff::parse_path;
use super::filter::{Expect, Filter};

type Called = Pin<Box<dyn Future<Output = HandlerResult<Value>> + Send>>;
type Call<K> = Arc<dyn Fn(Ctx<K>) -> Called + Send + Sync>;
type When<K> = Arc<dyn Fn(&Ctx<K>) -> bool + Send + Sync>;

/// A handler function with its options. A plain `async fn(Ctx<K>) -> HandlerResult` is one with the defaults.
pub struct Handler<K> {
    pub(crate) call: Call<K>,
    pub(crate) id: String,
    pub(crate) named: bool,
    pub(crate) field: Option<Vec<String>>,
    pub(crate) filter: Filter,
    pub(crate) when: Option<When<K>>,
    pub(crate) retries: Option<u32>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) backoff: Duration,
    pub(crate) optional: bool,
    pub(crate) initial_delay: Duration,
    pub(crate) idle: Duration,
    pub(crate) sharp: bool,
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
        retries: None,
        timeout: None,
        backoff: Duration::from_secs(60),
        optional: false,
        initial_delay: Duration::ZERO,
        idle: Duration::ZERO,
        sharp: false,
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
        self.backoff = backoff;
        self
    }

    /// A delete handler that may be skipped: it does not hold the object with a finalizer.
    pub fn optional(mut self) -> Self {
        self.optional = true;
        self
    }

    /// A timer or daemon starts this long after its object is seen.
    pub fn initial_delay(mut self, delay: Duration) -> Self {
        self.initial_delay = delay;
        self
    }

    /// A timer fires only when the object has not changed for this long.
    pub fn idle(mut self, idle: Duration) -> Self {
        self.idle = idle;
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

pub(crate) struct Timed<K> {
    /// Nothing for a daemon, which runs once until it is stopped.
    pub(crate) interval: Option<Duration>,
    pub(crate) handler: Handler<K>,
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

    pub(crate) fn add_changing(&mut self, reason: Option<Reason>, field: Option<&str>, handler: Handler<K>) {
        let mut handler = self.with_id(handler, reason.map_or("field", Reason::as_str));
        if let Some(field) = field {
            handler.id = format!("{}/{field}", handler.id);
            handler.field = Some(parse_path(field));
        }
        self.changing.push(Changing { reason, handler });
    }

    pub(crate) fn add_event(&mut self, handler: Handler<K>) {
        let handler = self.with_id(handler, "event");
        self.events.push(handler);
    }

    pub(crate) fn add_timed(&mut self, interval: Option<Duration>, handler: Handler<K>) {
        let handler = self.with_id(handler, if interval.is_some() { "timer" } else { "daemon" });
        self.timed.push(Timed { interval, handler });
    }

    fn with_id(&self, mut handler: Handler<K>, otherwise: &str) -> Handler<K> {
        if !handler.named {
            // Closures have no name; they are numbered in the order in which they are registered.
            let number = self.changing.len() + self.events.len() + self.timed.len() + 1;
            handler.id = format!("{otherwise}_{number}");
        }
        handler
    }

    /// Fields that handlers follow and that the essence would leave out otherwise.
    pub(crate) fn extra_fields(&self) -> Vec<Vec<String>> {
        self.changing.iter().filter_map(|changing| changing.handler.field.clone()).collect()
    }
}
