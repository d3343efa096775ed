//! A master that runs: its router, its seconds, its ramps, around the decisions of [`Master`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gantry_clock::Clock;
use parking_lot::{Mutex, MutexGuard};
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::dispatch::Step;
use super::master::{Config, Effects, Master, StartOutcome, State};
use super::message::{FromMaster, decode_from_worker, encode_from_master};
use crate::zmtp::{Inbound, Router, RouterConfig, RouterHandle};

const SECOND: Duration = Duration::from_secs(1);
const HISTORY_EVERY: Duration = Duration::from_secs(5);
const REPORT_POLL: Duration = Duration::from_millis(10);
/// Workers stop their users within the stop timeout and this.
const STOP_MARGIN: Duration = Duration::from_secs(60);
/// How long last reports are waited for, beyond the stop timeout.
const LAST_REPORTS: Duration = Duration::from_secs(10);
/// Messages handled under one lock.
const BATCH: usize = 64;

#[derive(Clone, Copy, Debug)]
pub struct ServerConfig {
    /// Where workers connect.
    pub addr: SocketAddr,
    /// How long workers may take to report their users after a ramp.
    pub report_wait: Duration,
}

#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("cannot listen for workers on {addr}: {error}")]
    Bind { addr: SocketAddr, error: std::io::Error },
}

/// A running master; the last clone that is dropped ends it.
#[derive(Clone)]
pub struct MasterHandle {
    shared: Arc<Shared>,
    /// Ends the tasks with the last handle.
    _tasks: Arc<JoinSet<()>>,
    local_addr: SocketAddr,
}

struct Shared {
    master: Mutex<Master>,
    router: RouterHandle,
    clock: Arc<dyn Clock>,
    /// Counts wishes: a new number ends the ramp that goes on and begins the next.
    ramps: watch::Sender<u64>,
    /// The last worker left during a run.
    abandoned: watch::Sender<bool>,
    report_wait: Duration,
}

// === impl MasterHandle ===

impl MasterHandle {
    /// Listens for workers. Within a tokio runtime.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn start(
        config: Config,
        server: ServerConfig,
        clock: Arc<dyn Clock>,
    ) -> Result<MasterHandle, ServeError> {
        let addr = server.addr;
        let router =
            Router::bind(RouterConfig::new(addr)).await.map_err(|error| ServeError::Bind { addr, error })?;
        let local_addr = router.local_addr();
        let shared = Arc::new(Shared {
            master: Mutex::new(Master::new(config, seconds(&*clock))),
            router: router.handle(),
            clock,
            ramps: watch::Sender::new(0),
            abandoned: watch::Sender::new(false),
            report_wait: server.report_wait,
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(listen(shared.clone(), router.serve()));
        tasks.spawn(every_second(shared.clone()));
        tasks.spawn(run_ramps(shared.clone()));
        Ok(MasterHandle { shared, _tasks: Arc::new(tasks), local_addr })
    }

    /// Where workers connect.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The master itself, to look at and to change settings. Not to be held across an await.
    pub fn lock(&self) -> MutexGuard<'_, Master> {
        self.shared.master.lock()
    }

    /// Seconds since 1970.
    pub fn now(&self) -> f64 {
        seconds(&*self.shared.clock)
    }

    /// Brings the run to so many users, at so many per second.
    pub fn swarm(&self, users: u64, rate: f64) -> StartOutcome {
        self.shared.abandoned.send_replace(false);
        let outcome = self.shared.master.lock().start(users, rate, self.now());
        if outcome == StartOutcome::Started {
            self.shared.ramps.send_modify(|number| *number += 1);
        }
        outcome
    }

    /// Ends the run and waits until no worker has users any more.
    pub async fn stop(&self) {
        let messages = self.shared.master.lock().stop(true);
        if messages.is_empty() {
            return;
        }
        self.shared.ramps.send_modify(|number| *number += 1);
        self.shared.send(messages);
        let timeout = STOP_MARGIN + duration(self.lock().stop_timeout());
        let stopped = self.until(|master| master.user_count() == 0);
        if tokio::time::timeout(timeout, stopped).await.is_err() {
            tracing::error!(target: "locust.runners", "Timeout waiting for all workers to stop");
        }
    }

    /// Ends the run, lets every worker send its last report and go.
    pub async fn quit(&self) {
        let messages = self.shared.master.lock().quit();
        self.shared.ramps.send_modify(|number| *number += 1);
        self.shared.send(messages);
        let timeout = LAST_REPORTS + duration(self.lock().stop_timeout());
        let router = &self.shared.router;
        let reported = self.until(|master| master.not_reported().iter().all(|id| !router.is_connected(id)));
        if tokio::time::timeout(timeout, reported).await.is_err() {
            let late = self.lock().not_reported();
            tracing::warn!(target: "locust.runners", "No last report from {}", late.join(", "));
        }
    }

    async fn until(&self, holds: impl Fn(&Master) -> bool) {
        while !holds(&self.lock()) {
            tokio::time::sleep(REPORT_POLL).await;
        }
    }

    /// Changes settings of the user class that `user_class_name` names, here and on every worker.
    ///
    /// # Errors
    /// When the locustfile has no such class, or there are too many settings.
    pub fn update_user_class(&self, settings: &Value) -> Result<(), String> {
        let messages = self.lock().update_user_class(settings)?;
        self.shared.send(messages);
        Ok(())
    }

    /// Returns when the last worker has left during a run.
    pub async fn abandoned(&self) {
        let mut abandoned = self.shared.abandoned.subscribe();
        if abandoned.wait_for(|gone| *gone).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

// === impl Shared ===

impl Shared {
    fn now(&self) -> f64 {
        seconds(&*self.clock)
    }

    fn apply(&self, effects: Effects) {
        if effects.ramp {
            self.ramps.send_modify(|number| *number += 1);
        }
        if effects.last_left {
            self.abandoned.send_replace(true);
        }
        self.send(effects.messages);
    }

    fn send(&self, messages: Vec<(String, FromMaster)>) {
        for (peer, message) in messages {
            match encode_from_master(&message, &peer) {
                Ok(body) => {
                    if let Err(error) = self.router.send(&peer, body) {
                        tracing::debug!(target: "locust.runners", %error, "message not sent");
                    }
                }
                Err(error) => tracing::error!(target: "locust.runners", %error, "message not sent"),
            }
        }
    }
}

async fn listen(shared: Arc<Shared>, mut inbound: mpsc::Receiver<Inbound>) {
    let mut batch = Vec::with_capacity(BATCH);
    while inbound.recv_many(&mut batch, BATCH).await > 0 {
        for event in batch.drain(..) {
            let Inbound::Message { peer, body, held: _held } = event else { continue };
            match decode_from_worker(&body) {
                Ok(message) => {
                    let effects = shared.master.lock().handle(&peer, message, shared.now());
                    shared.apply(effects);
                }
                Err(error) => {
                    tracing::error!(target: "locust.runners", "Unrecognized message detected: {error} from {peer}");
                }
            }
        }
    }
}

async fn every_second(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(SECOND);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut next_history = shared.clock.monotonic();
    // The first tick is at once; nobody has missed a heartbeat yet.
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let effects = shared.master.lock().second(shared.now());
        shared.apply(effects);
        if shared.clock.monotonic() >= next_history {
            next_history = shared.clock.monotonic() + HISTORY_EVERY;
            shared.master.lock().remember(shared.now());
        }
    }
}

async fn run_ramps(shared: Arc<Shared>) {
    let mut ramps = shared.ramps.subscribe();
    while ramps.changed().await.is_ok() {
        ramps.borrow_and_update();
        if run_ramp(&shared, &mut ramps).await {
            finish_ramp(&shared, &mut ramps).await;
        }
    }
}

/// False when another wish came first.
async fn run_ramp(shared: &Shared, ramps: &mut watch::Receiver<u64>) -> bool {
    loop {
        let began = tokio::time::Instant::now();
        let Some((messages, step)) = shared.master.lock().ramp_step(shared.now()) else { return true };
        shared.send(messages);
        let Step::Next(pause) = step else { return true };
        let Some(next) = began.checked_add(pause) else { return false };
        tokio::select! {
            () = tokio::time::sleep_until(next) => {}
            _ = ramps.changed() => {
                ramps.mark_changed();
                return false;
            }
        }
    }
}

async fn finish_ramp(shared: &Shared, ramps: &mut watch::Receiver<u64>) {
    let until = tokio::time::Instant::now() + shared.report_wait;
    let in_time = loop {
        {
            let master = shared.master.lock();
            if master.state() != State::Spawning {
                return;
            }
            if master.all_reported() {
                break true;
            }
        }
        if tokio::time::Instant::now() >= until {
            break false;
        }
        tokio::select! {
            () = tokio::time::sleep(REPORT_POLL) => {}
            _ = ramps.changed() => {
                ramps.mark_changed();
                return;
            }
        }
    };
    let messages = shared.master.lock().ramp_finished(shared.now(), in_time);
    shared.send(messages);
}

fn seconds(clock: &dyn Clock) -> f64 {
    clock.now_ms() as f64 / 1000.0
}

fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}
