//! The operator: one set of informers and everything that runs over it.

use std::sync::Arc;
use std::time::Duration;

use gantry_clock::Clock;
use kube::Client;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::controller::{Controller, Engine};
use crate::informer::{Informer, InformerSettings, Informers, Object};
use crate::metrics::OperatorMetrics;

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
/// Everything is registered first; [`run`](Operator::run) then works until it is cancelled.
#[derive(Clone)]
pub struct Operator {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Settings,
    informers: Informers,
    metrics: OperatorMetrics,
    engines: Mutex<Vec<Engine>>,
}

impl Operator {
    pub fn new(client: Client, clock: Arc<dyn Clock>) -> Operator {
        Operator::with_settings(client, clock, Settings::default())
    }

    pub fn with_settings(client: Client, clock: Arc<dyn Clock>, settings: Settings) -> Operator {
        let informers = Informers::new(client, clock.clone(), settings.informers.clone());
        let metrics = OperatorMetrics::new(clock);
        Operator { inner: Arc::new(Inner { settings, informers, metrics, engines: Mutex::default() }) }
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

    pub(crate) fn add_engine(&self, engine: Engine) {
        self.inner.engines.lock().push(engine);
    }

    /// Runs everything registered so far until `cancel`, then lets begun work end.
    pub async fn run(&self, cancel: CancellationToken) {
        // Watches outlive the work, so that the last reconciliations still see what they wrote.
        let watches = CancellationToken::new();
        let _end_watches = watches.clone().drop_guard();
        self.inner.informers.start(watches);
        let engines = std::mem::take(&mut *self.inner.engines.lock());
        let grace = self.inner.settings.shutdown_grace;
        let mut running = JoinSet::new();
        for engine in engines {
            let engine = Arc::new(engine);
            let metrics = self.inner.metrics.controller(&engine);
            let cancel = cancel.clone();
            running.spawn(async move { engine.run(cancel, grace, metrics).await });
        }
        cancel.cancelled().await;
        while running.join_next().await.is_some() {}
    }
}
