//! The operator: one set of informers and everything that runs over it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use gantry_clock::Clock;
use gantry_prom_model::{Gather, MetricFamily, Registry};
use kube::Client;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::controller::{Action, AnyEngine, Controller, Engine, ReconcileError};
use crate::events::{self, Recorder, WriterSlot};
use crate::informer::{Informer, InformerSettings, Informers, Object};
use crate::metrics::OperatorMetrics;
use crate::queue::{Work, WorkQueue};

/// How an operator runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Under which name it writes events and fields; also part of its lease holder's identity.
    pub name: String,
    pub informers: InformerSettings,
    /// How long begun work may take to end at shutdown.
    pub shutdown_grace: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            name: "gantry".to_owned(),
            informers: InformerSettings::default(),
            shutdown_grace: Duration::from_secs(10),
        }
    }
}

/// Controllers and handlers over one set of shared informers. Cloning shares it.
///
/// [`run`](Operator::run) works on what is registered, before or while it runs, until it is cancelled.
#[derive(Clone)]
pub struct Operator {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Settings,
    informers: Informers,
    metrics: OperatorMetrics,
    /// Registered and not yet running.
    waiting: Mutex<Vec<Arc<dyn AnyEngine>>>,
    engines: Mutex<Vec<Arc<dyn AnyEngine>>>,
    tasks: Mutex<Vec<(String, Task)>>,
    /// Something was registered while running.
    registered: Notify,
    recorder: Recorder,
    event_writer: WriterSlot,
}

type Task = Box<dyn FnOnce(CancellationToken) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

impl Operator {
    pub fn new(client: Client, clock: Arc<dyn Clock>) -> Operator {
        Operator::with_settings(client, clock, Settings::default())
    }

    pub fn with_settings(client: Client, clock: Arc<dyn Clock>, settings: Settings) -> Operator {
        let informers = Informers::new(client.clone(), clock.clone(), settings.informers.clone());
        let (recorder, event_writer) = events::channel(client, clock.clone(), &settings.name);
        let inner = Inner {
            settings,
            informers,
            metrics: OperatorMetrics::new(clock),
            waiting: Mutex::default(),
            engines: Mutex::default(),
            tasks: Mutex::default(),
            registered: Notify::new(),
            recorder,
            event_writer: Mutex::new(Some(event_writer)),
        };
        Operator { inner: Arc::new(inner) }
    }

    pub fn client(&self) -> &Client {
        self.inner.informers.client()
    }

    pub fn clock(&self) -> &Arc<dyn Clock> {
        self.inner.informers.clock()
    }

    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// The informers that everything in this operator shares.
    pub fn informers(&self) -> &Informers {
        &self.inner.informers
    }

    /// The shared store of kind `K`.
    pub fn informer<K>(&self) -> Informer<K>
    where
        K: Object<DynamicType = ()>,
    {
        self.inner.informers.of::<K>()
    }

    /// A level-triggered controller of kind `K`; `name` appears in logs and metrics.
    pub fn controller<K>(&self, name: &str) -> Controller<K>
    where
        K: Object<DynamicType = ()>,
    {
        Controller::new(self.clone(), name, self.informer::<K>())
    }

    /// Like [`controller`](Operator::controller), over an informer of any kind.
    pub fn controller_of<K: Object>(&self, name: &str, primary: Informer<K>) -> Controller<K> {
        Controller::new(self.clone(), name, primary)
    }

    /// Records events in the name of `component`.
    pub fn recorder(&self, component: &str) -> Recorder {
        self.inner.recorder.named(component)
    }

    /// What this operator counts; the operator itself is what to [`Gather`] from.
    pub fn registry(&self) -> &Registry {
        self.inner.metrics.registry()
    }

    /// A controller of something else than objects of one kind: `work` is called for what is put into `queue`.
    pub fn worker<T, F, Fut>(&self, name: &str, queue: Arc<WorkQueue<T>>, concurrency: usize, work: F)
    where
        T: Work,
        F: Fn(T) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Action, ReconcileError>> + Send + 'static,
    {
        let reconcile = Arc::new(move |item| Box::pin(work(item)) as _);
        let engine = Engine::new(name.to_owned(), queue, concurrency.max(1), Vec::new(), reconcile);
        self.add_engine(Arc::new(engine));
    }

    /// Something that runs beside the controllers from start to `cancel`.
    pub fn task<F, Fut>(&self, name: &str, task: F)
    where
        F: FnOnce(CancellationToken) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let task: Task = Box::new(move |cancel| Box::pin(task(cancel)));
        self.inner.tasks.lock().push((name.to_owned(), task));
        self.inner.registered.notify_one();
    }

    pub(crate) fn add_engine(&self, engine: Arc<dyn AnyEngine>) {
        self.inner.engines.lock().push(engine.clone());
        self.inner.waiting.lock().push(engine);
        self.inner.registered.notify_one();
    }

    /// Runs everything that is registered until `cancel`, then lets begun work end.
    pub async fn run(&self, cancel: CancellationToken) {
        // Watches outlive the work, so that the last reconciliations still see what they wrote.
        let watches = CancellationToken::new();
        let _end_watches = watches.clone().drop_guard();
        self.inner.informers.start(watches);
        let grace = self.inner.settings.shutdown_grace;
        let events_end = CancellationToken::new();
        let event_writer = self.inner.event_writer.lock().take();
        let events = event_writer.map(|writer| tokio::spawn(writer.run(events_end.clone())));
        let mut running = JoinSet::new();
        loop {
            self.begin_registered(&mut running, &cancel);
            tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                () = self.inner.registered.notified() => {}
            }
        }
        // Each engine keeps its own grace; the second one is for tasks that do not.
        let drained = tokio::time::timeout(grace * 2, async { while running.join_next().await.is_some() {} });
        if drained.await.is_err() {
            tracing::warn!("tasks were cut at shutdown");
        }
        events_end.cancel();
        if let Some(events) = events {
            // What could not be written within the grace is dropped: events are best effort.
            let _ = tokio::time::timeout(grace, events).await;
        }
    }
}

impl Operator {
    fn begin_registered(&self, running: &mut JoinSet<()>, cancel: &CancellationToken) {
        let engines = std::mem::take(&mut *self.inner.waiting.lock());
        for engine in engines {
            let metrics = self.inner.metrics.controller(engine.name());
            running.spawn(engine.run(cancel.clone(), self.inner.settings.shutdown_grace, metrics));
        }
        let tasks = std::mem::take(&mut *self.inner.tasks.lock());
        for (name, task) in tasks {
            let work = task(cancel.clone());
            running.spawn(async move {
                work.await;
                tracing::debug!(task = name, "task ended");
            });
        }
    }
}

impl Gather for Operator {
    fn gather(&self) -> Vec<MetricFamily> {
        let engines = self.inner.engines.lock().clone();
        let depths: Vec<(&str, usize)> =
            engines.iter().map(|engine| (engine.name(), engine.depth())).collect();
        self.inner.metrics.refresh(&self.inner.informers, &depths);
        self.inner.metrics.registry().gather()
    }
}
