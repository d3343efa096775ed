//! Handlers: functions that are told what happened to an object, in the manner of Kopf.
//!
//! The engine compares each object with what was handled last, calls the handlers that care, one at a time per
//! object, keeps their progress on the object itself until all are done, and retries what failed. With the
//! default settings an object can be handed over from and to an operator written with Kopf.

mod annotations;
mod background;
mod blake2b;
mod call;
mod cause;
mod children;
mod context;
mod cycle;
mod diff;
mod engine;
mod essence;
mod filter;
mod index;
mod memo;
mod patch;
mod progress;
mod registry;
mod write;

use std::sync::Arc;
use std::time::Duration;

use kube::api::ApiResource;
use kube::core::DynamicObject;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

pub use annotations::KeyNames;
pub use context::{Ctx, HandlerError, HandlerResult, Reason};
pub use diff::{Diff, DiffItem, Operation};
pub use filter::Expect;
pub use index::Index;
pub use memo::Memo;
pub use patch::Patch;
pub use registry::{ErrorsMode, Handler, IntoHandler, Question, Stopping, handler};

use crate::informer::{AnyInformer, Informer, Object};
use crate::operator::Operator;
use registry::{Handlers, TimedKind};

/// Which handlers of an object are called before its progress is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifecycle {
    /// One, the one with the fewest tries; its progress is safe before the next is called. Kopf's way.
    OneAtATime,
    /// All that are due, one after the other; one write for all of them.
    AllAtOnce,
}

/// Where handlers keep what they have handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// The whole last-handled essence, as Kopf does: after a restart `old` and `diff` are exact.
    Full,
    /// Only its digest: small objects; after a restart an update has no `old`.
    Lean,
}

/// How handlers of one operator keep their state on objects.
#[derive(Clone, Debug)]
pub struct HandlerSettings {
    /// Under which prefix annotations are written.
    pub prefix: String,
    /// Also write annotation names of Kopf's older scheme.
    pub v1_names: bool,
    pub finalizer: String,
    pub lifecycle: Lifecycle,
    pub persistence: Persistence,
    /// Under which prefix and name the last-handled essence is kept; the prefix above unless said otherwise.
    pub last_handled: Option<LastHandledName>,
    /// Fields that never count as configuration.
    pub ignored_fields: Vec<Vec<String>>,
    /// Pause after errors of handlers that name none.
    pub default_backoff: Duration,
    /// How long at most to wait for our own write to come back before going on with what is there.
    pub consistency: Duration,
    /// Only objects of namespaces for which this is true; cluster-scoped objects always.
    pub namespaces: Option<NamespaceFilter>,
    /// Also hold objects with timers and daemons by a finalizer, as Kopf does.
    pub hold_for_timers: bool,
    /// At most this many objects of a kind are handled at the same time.
    pub concurrency: usize,
    /// How long a daemon may take to end after it was told to.
    pub daemon_grace: Duration,
}

/// Where the last-handled essence is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastHandledName {
    pub prefix: String,
    pub name: String,
    /// Also under the older scheme's name.
    pub v1_names: bool,
}

/// Which namespaces are looked at.
#[derive(Clone)]
pub struct NamespaceFilter(pub Arc<dyn Fn(&str) -> bool + Send + Sync>);

impl std::fmt::Debug for NamespaceFilter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NamespaceFilter")
    }
}

impl Default for HandlerSettings {
    fn default() -> Self {
        HandlerSettings {
            prefix: annotations::KOPF_PREFIX.to_owned(),
            v1_names: true,
            finalizer: format!("{}/KopfFinalizerMarker", annotations::KOPF_PREFIX),
            lifecycle: Lifecycle::OneAtATime,
            persistence: Persistence::Full,
            last_handled: None,
            ignored_fields: Vec::new(),
            default_backoff: Duration::from_secs(60),
            consistency: Duration::from_secs(5),
            namespaces: None,
            hold_for_timers: false,
            concurrency: 16,
            daemon_grace: Duration::from_secs(5),
        }
    }
}

/// A kind that handlers can be written for.
pub trait Subject: kube::Resource + DeserializeOwned + Send + Sync + 'static {}

impl<K: kube::Resource + DeserializeOwned + Send + Sync + 'static> Subject for K {}

/// Handlers of kind `K` being registered; goes on to the next kind with [`on`](On::on) or to [`run`](On::run).
#[must_use = "handlers are registered by `run`, `on` or `done`"]
pub struct On<K: Subject> {
    operator: Operator,
    resource: ApiResource,
    settings: HandlerSettings,
    handlers: Handlers<K>,
    needs: Vec<Arc<dyn AnyInformer>>,
}

impl<K: Subject> On<K> {
    pub(crate) fn new(operator: Operator, resource: ApiResource) -> On<K> {
        On {
            operator,
            resource,
            settings: HandlerSettings::default(),
            handlers: Handlers::new(),
            needs: Vec::new(),
        }
    }

    /// How the handlers of this kind keep their state.
    pub fn settings(mut self, settings: HandlerSettings) -> Self {
        self.settings = settings;
        self
    }

    /// Called once for an object that was never handled.
    pub fn create<M>(mut self, handler: impl IntoHandler<K, M>) -> Self {
        self.handlers.add_changing(Some(Reason::Create), handler.into_handler());
        self
    }

    /// Called when what users configure of an object has changed.
    pub fn update<M>(mut self, handler: impl IntoHandler<K, M>) -> Self {
        self.handlers.add_changing(Some(Reason::Update), handler.into_handler());
        self
    }

    /// Called before an object goes. Unless it is optional, a finalizer holds the object until it succeeded.
    pub fn delete<M>(mut self, handler: impl IntoHandler<K, M>) -> Self {
        self.handlers.add_changing(Some(Reason::Delete), handler.into_handler());
        self
    }

    /// Called once per start for objects that are there already.
    pub fn resume<M>(mut self, handler: impl IntoHandler<K, M>) -> Self {
        self.handlers.add_changing(Some(Reason::Resume), handler.into_handler());
        self
    }

    /// Called when the field at `path` (`spec.size`) appears, changes or goes; `old`, `new` and `diff` are its own.
    pub fn field<M>(mut self, path: &str, handler: impl IntoHandler<K, M>) -> Self {
        self.handlers.add_changing(None, handler.into_handler().field(path));
        self
    }

    /// Called for every watched event, without retries.
    pub fn event<M>(mut self, handler: impl IntoHandler<K, M>) -> Self {
        self.handlers.add_event(handler.into_handler());
        self
    }

    /// Called again and again for each object, `interval` after it ended.
    pub fn timer<M>(mut self, interval: Duration, handler: impl IntoHandler<K, M>) -> Self {
        self.handlers.add_timed(TimedKind::Timer(Some(interval)), handler.into_handler());
        self
    }

    /// Called for each object whenever it has not changed for the handler's idle time; once if that is not given.
    pub fn timer_when_idle<M>(mut self, handler: impl IntoHandler<K, M>) -> Self {
        self.handlers.add_timed(TimedKind::Timer(None), handler.into_handler());
        self
    }

    /// Runs beside each object until [`Ctx::stopped`] says that it has to end.
    pub fn daemon<M>(mut self, handler: impl IntoHandler<K, M>) -> Self {
        self.handlers.add_timed(TimedKind::Daemon, handler.into_handler());
        self
    }

    /// Waits for a complete list of `informer` before the first handler is called.
    pub fn reads<S: Object>(mut self, informer: &Informer<S>) -> Self {
        self.needs.push(informer.erased());
        self
    }

    /// Completes this kind and goes on with another.
    pub fn on<J>(self) -> On<J>
    where
        J: Subject + kube::Resource<DynamicType = ()>,
    {
        self.done().on::<J>()
    }

    /// Completes this kind.
    pub fn done(self) -> Operator {
        let On { operator, resource, settings, handlers, needs } = self;
        engine::register(&operator, resource, settings, handlers, needs);
        operator
    }

    /// Completes this kind and runs the operator until `cancel`.
    pub async fn run(self, cancel: CancellationToken) {
        self.done().run(cancel).await;
    }
}

impl Operator {
    /// Begins to register handlers of kind `K`.
    pub fn on<K>(&self) -> On<K>
    where
        K: Subject + kube::Resource<DynamicType = ()>,
    {
        On::new(self.clone(), ApiResource::erase::<K>(&()))
    }

    /// Begins to register handlers of a kind named at run time.
    pub fn on_dynamic(&self, resource: &ApiResource) -> On<DynamicObject> {
        On::new(self.clone(), resource.clone())
    }

    /// An index over kind `K`: what each object contributes, found by key. Complete before anything runs.
    pub fn index<K, I, V>(
        &self,
        entries_of: impl Fn(&K) -> Vec<(I, V)> + Send + Sync + 'static,
    ) -> Index<I, V>
    where
        K: crate::informer::Object<DynamicType = ()>,
        I: Eq + std::hash::Hash + Clone + Send + Sync + 'static,
        V: Clone + Send + Sync + 'static,
    {
        Index::over(&self.informer::<K>(), entries_of)
    }
}

/// What the engine knows of handlers, shared with their background tasks.
type Shared<K> = Arc<engine::HandlerEngine<K>>;
