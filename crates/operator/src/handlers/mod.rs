//! Handlers: functions that are told what happened to an object, in the manner of Kopf.
//!
//! The engine compares each object with what was handled last, calls the handlers that care, one at a time per
//! object, keeps their progress on the object itself until all are done, and retries what failed. With the
//! default settings an object can be handed over from and to an operator written with Kopf.

mod annotations;
mod background;
mod blake2b;
mod cause;
mod context;
mod diff;
mod engine;
mod essence;
mod filter;
mod index;
mod memo;
mod patch;
mod progress;
mod registry;

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
pub use registry::{Handler, IntoHandler, handler};

use crate::operator::Operator;
use registry::Handlers;

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
    /// Also hold objects with timers and daemons by a finalizer, as Kopf does.
    pub hold_for_timers: bool,
    /// At most this many objects of a kind are handled at the same time.
    pub concurrency: usize,
    /// How long a daemon may take to end after it was told to.
    pub daemon_grace: Duration,
}

impl Default for HandlerSettings {
    fn default() -> Self {
        HandlerSettings {
            prefix: annotations::KOPF_PREFIX.to_owned(),
            v1_names: true,
            finalizer: format!("{}/KopfFinalizerMarker", annotations::KOPF_PREFIX),
            lifecycle: Lifecycle::OneAtATime,
            persistence: Persistence::Full,
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
}

impl<K: Subject> On<K> {
    pub(crate) fn new(operator: Operator, resource: ApiResource) -> On<K> {
        On { operator, resource, settings: HandlerSettings::default(), handlers: Handlers::new() }
    }

    /// How the handlers of this kind keep their state.
    pub fn settings(mut self, settings: HandlerSettings) -> Self {
        self.settings = settings;
        self
    }

    /// Called once for an object that was never handled.
    pub fn create<M>(mut self, handler: impl IntoHandler<K, M>) -> Self {
        self.handlers.add_changing(Some(Reason::Create), None, handler.into_handler());
        self
    }

    /// Called when what users configure of an object has changed.
    pub fn update<M>(mut self, handler: impl IntoHandler<K, M>) -> Self {
        self.handlers.add_changing(Some(Reason::Update), None, handler.into_handler());
        self
    }

    /// Called before an object goes. Unless it is optional, a finalizer holds the object until it succeeded.
    pub fn delete<M>(mut self, handler: impl IntoHandler<K, M>) -> Self {
        self.handlers.add_changing(Some(Reason::Delete), None, handler.into_handler());
        self
    }

    /// Called once per start for objects that are there already.
    pub fn resume<M>(mut self, handler: impl IntoHandler<K, M>) -> Self {
        self.handlers.add_changing(Some(Reason::Resume), None, handler.into_handler());
        self
    }

    /// Called when the field at `path` (`spec.size`) appears, changes or goes; `old`, `new` and `diff` are its own.
    pub fn field<M>(mut self, path: &str, handler: impl IntoHandler<K, M>) -> Self {
        self.handlers.add_changing(None, Some(path), handler.into_handler());
        self
    }

    /// Called for every watched event, without retries.
    pub fn event<M>(mut self, handler: impl IntoHandler<K, M>) -> Self {
        self.handlers.add_event(handler.into_handler());
        self
    }

    /// Called again and again for each object, `interval` after it ended.
    pub fn timer<M>(mut self, interval: Duration, handler: impl IntoHandler<K, M>) -> Self {
        self.handlers.add_timed(Some(interval), handler.into_handler());
        self
    }

    /// Runs beside each object until [`Ctx::stopped`] says that it has to end.
    pub fn daemon<M>(mut self, handler: impl IntoHandler<K, M>) -> Self {
        self.handlers.add_timed(None, handler.into_handler());
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
        let On { operator, resource, settings, handlers } = self;
        engine::register(&operator, resource, settings, handlers);
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
