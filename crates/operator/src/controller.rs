//! Level-triggered controllers: for each object that may need work, look at what is there and make it right.
//!
//! A reconciler is given a key, never an event. It reads the shared stores, writes through the client and says
//! when it wants to be asked again. Any number of secondary kinds can point at the primary one.

use std::collections::HashMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource;
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::explain::explain;
use crate::informer::{AnyInformer, Change, Informer, Informers, Object};
use crate::key::Key;
use crate::metrics::ControllerMetrics;
use crate::operator::Operator;
use crate::queue::{RetryDelay, Work, WorkQueue};

/// Why a reconciliation failed; it is logged, counted and tried again with growing delay.
pub type ReconcileError = Box<dyn std::error::Error + Send + Sync>;

/// What to do with a key after a successful reconciliation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Action {
    again: Option<Duration>,
}

impl Action {
    /// Reconcile again when something changes.
    pub const fn await_change() -> Action {
        Action { again: None }
    }

    /// Reconcile again after `delay`, or earlier when something changes.
    pub const fn requeue_after(delay: Duration) -> Action {
        Action { again: Some(delay) }
    }

    /// The delay after which to reconcile again.
    pub fn delay(self) -> Option<Duration> {
        self.again
    }

    /// Whichever asks for an earlier reconciliation.
    #[must_use]
    pub fn or_earlier(self, other: Action) -> Action {
        match (self.again, other.again) {
            (Some(own), Some(other)) => Action::requeue_after(own.min(other)),
            (own, other) => Action { again: own.or(other) },
        }
    }
}

type Outcome = Result<Action, ReconcileError>;
type Reconcile<T> = Arc<dyn Fn(T) -> Pin<Box<dyn Future<Output = Outcome> + Send>> + Send + Sync>;

/// A controller being put together; [`reconcile`](Controller::reconcile) completes and registers it.
#[must_use = "a controller does nothing before `reconcile` registers it"]
pub struct Controller<K: Object> {
    operator: Operator,
    name: String,
    primary: Informer<K>,
    queue: Arc<WorkQueue>,
    concurrency: usize,
    needs: Vec<Arc<dyn AnyInformer>>,
}

/// Asks for reconciliations from outside the watches: a timer, a metric, another room.
#[derive(Clone)]
pub struct Trigger {
    queue: Arc<WorkQueue>,
}

/// A complete controller, ready to be run by the operator.
pub(crate) struct Engine<T: Work = Key> {
    name: String,
    queue: Arc<WorkQueue<T>>,
    concurrency: usize,
    needs: Vec<Arc<dyn AnyInformer>>,
    reconcile: Reconcile<T>,
}

/// An engine over whatever its work is about.
pub(crate) trait AnyEngine: Send + Sync {
    fn name(&self) -> &str;
    fn depth(&self) -> usize;
    /// Works until `cancel`, then lets what was begun end within `grace`.
    fn run(
        self: Arc<Self>,
        cancel: CancellationToken,
        grace: Duration,
        metrics: ControllerMetrics,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

// === impl Controller ===

impl<K: Object> Controller<K> {
    pub(crate) fn new(operator: Operator, name: &str, primary: Informer<K>) -> Controller<K> {
        let queue = Arc::new(WorkQueue::new(RetryDelay::default()));
        let needs = vec![primary.erased()];
        Controller { operator, name: name.to_owned(), primary, queue, concurrency: 4, needs }.hears_primary()
    }

    fn hears_primary(self) -> Self {
        let queue = self.queue.clone();
        self.primary.subscribe(move |change| queue.add(Key::of(&**change.object()))).keep();
        self
    }

    /// The shared store of the primary kind.
    pub fn store(&self) -> Informer<K> {
        self.primary.clone()
    }

    pub fn informers(&self) -> &Informers {
        self.operator.informers()
    }

    /// At most this many objects are reconciled at the same time; 4 unless said otherwise.
    pub fn concurrency(mut self, limit: usize) -> Self {
        self.concurrency = limit.max(1);
        self
    }

    /// Objects of kind `S` whose controlling owner is of the primary kind lead to that owner.
    pub fn owns<S>(self) -> Self
    where
        S: Object<DynamicType = ()>,
    {
        let owner = self.primary.resource().clone();
        self.watches(move |object: &S| {
            let namespace = object.meta().namespace.as_deref().unwrap_or("");
            let controller = controller_of(object).filter(|reference| {
                reference.kind == owner.kind && group_of(&reference.api_version) == owner.group
            });
            controller.map(|reference| Key::new(namespace, &reference.name)).into_iter().collect()
        })
    }

    /// Objects of kind `S` lead to the keys that `keys_of` names, for their state before and after a change.
    pub fn watches<S>(self, keys_of: impl Fn(&S) -> Vec<Key> + Send + Sync + 'static) -> Self
    where
        S: Object<DynamicType = ()>,
    {
        let informer = self.operator.informers().of::<S>();
        self.watches_informer(&informer, keys_of)
    }

    /// Like [`watches`](Controller::watches), for an informer of any kind.
    pub fn watches_informer<S: Object>(
        self,
        informer: &Informer<S>,
        keys_of: impl Fn(&S) -> Vec<Key> + Send + Sync + 'static,
    ) -> Self {
        self.hears(informer, move |change| {
            let (old, new) = change.sides();
            let mut keys: Vec<Key> = old.map(|object| keys_of(object)).unwrap_or_default();
            keys.extend(new.map(|object| keys_of(object)).unwrap_or_default());
            keys
        })
    }

    /// Changes of kind `S` lead to the keys that `keys_of` names, which sees both sides of the change.
    pub fn hears<S: Object>(
        mut self,
        informer: &Informer<S>,
        keys_of: impl Fn(&Change<S>) -> Vec<Key> + Send + Sync + 'static,
    ) -> Self {
        let queue = self.queue.clone();
        informer
            .subscribe(move |change| {
                for key in keys_of(change) {
                    queue.add(key);
                }
            })
            .keep();
        self.needs.push(informer.erased());
        self
    }

    /// Waits for a complete list of `informer` before the first reconciliation, without hearing its changes.
    pub fn reads<S: Object>(mut self, informer: &Informer<S>) -> Self {
        self.needs.push(informer.erased());
        self
    }

    pub(crate) fn reads_any(mut self, informer: Arc<dyn AnyInformer>) -> Self {
        self.needs.push(informer);
        self
    }

    /// A way to ask for reconciliations from outside.
    pub fn trigger(&self) -> Trigger {
        Trigger { queue: self.queue.clone() }
    }

    /// Completes the controller: `reconcile` is called with the key of each object that may need work.
    ///
    /// It is also called for objects that are gone. A panic in it counts as an error of that key alone.
    pub fn reconcile<F, Fut>(self, reconcile: F)
    where
        F: Fn(Key) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Action, ReconcileError>> + Send + 'static,
    {
        let reconcile: Reconcile<Key> = Arc::new(move |key| Box::pin(reconcile(key)));
        let engine = Engine::new(self.name, self.queue, self.concurrency, self.needs, reconcile);
        self.operator.add_engine(Arc::new(engine));
    }
}

/// The owner that controls `object`.
pub fn controller_of<K: Resource>(object: &K) -> Option<&OwnerReference> {
    let references = object.meta().owner_references.as_deref().unwrap_or_default();
    references.iter().find(|reference| reference.controller == Some(true))
}

/// The group of an `apiVersion`, empty for the core group.
pub fn group_of(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

// === impl Trigger ===

impl Trigger {
    pub fn now(&self, key: Key) {
        self.queue.add(key);
    }

    pub fn after(&self, key: Key, delay: Duration) {
        self.queue.add_after(key, delay);
    }
}

// === impl Engine ===

impl<T: Work> Engine<T> {
    pub(crate) fn new(
        name: String,
        queue: Arc<WorkQueue<T>>,
        concurrency: usize,
        needs: Vec<Arc<dyn AnyInformer>>,
        reconcile: Reconcile<T>,
    ) -> Engine<T> {
        Engine { name, queue, concurrency, needs, reconcile }
    }

    async fn work(&self, cancel: CancellationToken, grace: Duration, metrics: ControllerMetrics) {
        for informer in &self.needs {
            let mut signal = informer.sync_signal();
            tokio::select! {
                () = cancel.cancelled() => return,
                // A closed signal means that the informer is gone; there is nothing to wait for.
                _ = signal.wait_for(|synced| *synced) => {}
            }
        }
        let mut working: JoinSet<(T, Outcome)> = JoinSet::new();
        let mut keys: HashMap<Id, T> = HashMap::new();
        loop {
            tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                Some(ended) = working.join_next_with_id(), if !working.is_empty() => {
                    self.finish(ended, &mut keys);
                }
                key = self.queue.next(), if working.len() < self.concurrency => {
                    let work = (self.reconcile)(key.clone());
                    let timed = metrics.clone();
                    let worked_on = key.clone();
                    let handle = working.spawn(async move {
                        let started = timed.start();
                        let outcome = AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|panic| {
                            Err(format!("panicked: {}", panic_text(&*panic)).into())
                        });
                        timed.finish(started, outcome.is_ok());
                        (worked_on, outcome)
                    });
                    keys.insert(handle.id(), key);
                }
            }
        }
        let drained = tokio::time::timeout(grace, async { while working.join_next().await.is_some() {} });
        if drained.await.is_err() {
            tracing::warn!(controller = %self.name, left = working.len(), "reconciliations were cut at shutdown");
            working.abort_all();
        }
    }

    fn finish(&self, ended: Result<(Id, (T, Outcome)), tokio::task::JoinError>, keys: &mut HashMap<Id, T>) {
        match ended {
            Ok((id, (key, outcome))) => {
                keys.remove(&id);
                self.queue.done(&key);
                match outcome {
                    Ok(action) => {
                        self.queue.forget(&key);
                        if let Some(delay) = action.delay() {
                            self.queue.add_after(key, delay);
                        }
                    }
                    Err(error) => {
                        let delay = self.queue.add_failed(key.clone());
                        if is_conflict(&*error) {
                            tracing::debug!(controller = %self.name, %key, "object changed meanwhile, trying again");
                        } else {
                            tracing::warn!(controller = %self.name, %key, error = %explain(&*error), ?delay, "reconciliation failed");
                        }
                    }
                }
            }
            Err(error) => {
                if let Some(key) = keys.remove(&error.id()) {
                    tracing::error!(controller = %self.name, %key, %error, "reconciliation was lost");
                    self.queue.done(&key);
                    self.queue.add_failed(key);
                }
            }
        }
    }
}

impl<T: Work> AnyEngine for Engine<T> {
    fn name(&self) -> &str {
        &self.name
    }

    fn depth(&self) -> usize {
        self.queue.depth()
    }

    fn run(
        self: Arc<Self>,
        cancel: CancellationToken,
        grace: Duration,
        metrics: ControllerMetrics,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move { self.work(cancel, grace, metrics).await })
    }
}

/// True when a write lost against a newer version of the object: reading again is the remedy.
pub(crate) fn is_conflict(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut error = Some(error);
    while let Some(current) = error {
        if let Some(kube::Error::Api(status)) = current.downcast_ref::<kube::Error>() {
            return status.code == 409;
        }
        error = current.source();
    }
    false
}

pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "unknown panic".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earlier_request_counts() {
        let second = Action::requeue_after(Duration::from_secs(1));
        assert_eq!(Action::await_change().or_earlier(second), second);
        assert_eq!(second.or_earlier(Action::requeue_after(Duration::from_secs(9))), second);
        assert_eq!(Action::await_change().or_earlier(Action::await_change()).delay(), None);
    }

    #[test]
    fn groups_of_api_versions() {
        assert_eq!(group_of("v1"), "");
        assert_eq!(group_of("apps/v1"), "apps");
    }
}
