//! A worker that joins a Locust master and runs native users: one thread, one runtime, one connection to the master.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gantry_clock::Clock;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, LocalSet};

use super::super::LOCUST_VERSION;
use super::super::message::{FromMaster, FromWorker, Version, decode_from_master, encode_from_worker};
use super::program::{Program, UserPlan};
use super::recorder::WorkerStats;
use super::user::{self, Host, Life, Thread};
use crate::client::Shared;
use crate::executor::Target;
use crate::timer::Timers;
use crate::tls::{Trust, client_config};
use crate::zmtp::{Dealer, DealerConfig};

const HEARTBEAT_EVERY: Duration = Duration::from_secs(1);
const REPORT_EVERY: Duration = Duration::from_secs(3);
const READY_EVERY: Duration = Duration::from_secs(5);
const MOST_READY: u32 = 60;
/// Without a word of the master for so long, the worker ends.
const MASTER_TIMEOUT: Duration = Duration::from_secs(60);
const CPU_EVERY: u32 = 10;
const FLUSH_WAIT: Duration = Duration::from_secs(2);

/// Whose worker, and as whom.
#[derive(Clone)]
pub struct WorkerConfig {
    pub master_host: String,
    pub master_port: u16,
    /// `<hostname>_<anything unique>`.
    pub id: String,
    pub seed: u64,
    /// How the certificate of an `https` host is checked.
    pub trust: Option<Trust>,
    pub reset_stats: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    #[error("cannot start the worker: {0}")]
    Start(std::io::Error),
    #[error("the master at {host}:{port} did not answer")]
    NoMaster { host: String, port: u16 },
    #[error("the master has said nothing for {} s", MASTER_TIMEOUT.as_secs())]
    Lost,
}

/// A native worker; [`Worker::run`] takes a thread of its own.
pub struct Worker {
    program: Arc<Program>,
    config: WorkerConfig,
    clock: Arc<dyn Clock>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Ready,
    Spawning,
    Running,
}

struct Running {
    life: Rc<Life>,
    task: JoinHandle<()>,
}

/// The worker on its thread.
struct Local {
    config: WorkerConfig,
    thread: Rc<Thread>,
    plans: Vec<Rc<UserPlan>>,
    users: RefCell<HashMap<String, Vec<Running>>>,
    hosts: RefCell<HashMap<String, Result<Rc<Host>, String>>>,
    host: RefCell<Option<String>>,
    stop_timeout: std::cell::Cell<f64>,
    state: std::cell::Cell<State>,
    numbers: std::cell::Cell<u64>,
    out: mpsc::Sender<Bytes>,
}

// === impl Worker ===

impl Worker {
    pub fn new(program: Arc<Program>, config: WorkerConfig, clock: Arc<dyn Clock>) -> Worker {
        Worker { program, config, clock }
    }

    /// Joins the master and does what it says until it says to quit, or until `stop` turns true.
    ///
    /// # Errors
    /// When the thread has no runtime, or the master does not answer any more.
    pub fn run(self, stop: watch::Receiver<bool>) -> Result<(), WorkerError> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(WorkerError::Start)?;
        LocalSet::new().block_on(&runtime, async move {
            let timers = Timers::new(self.clock.clone()).map_err(WorkerError::Start)?;
            let driving = timers.clone();
            let driver = tokio::task::spawn_local(async move { driving.drive().await });
            let result = self.serve(timers, stop).await;
            driver.abort();
            result
        })
    }

    async fn serve(self, timers: Rc<Timers>, mut stop: watch::Receiver<bool>) -> Result<(), WorkerError> {
        let config = self.config;
        let mut dealer = Dealer::connect(DealerConfig::new(&config.master_host, config.master_port, &config.id));
        let thread = Thread { timers, clock: self.clock, stats: RefCell::new(WorkerStats::default()) };
        let local = Rc::new(Local {
            config,
            thread: Rc::new(thread),
            plans: self.program.users.iter().cloned().map(Rc::new).collect(),
            users: RefCell::default(),
            hosts: RefCell::default(),
            host: RefCell::default(),
            stop_timeout: std::cell::Cell::new(0.0),
            state: std::cell::Cell::new(State::Ready),
            numbers: std::cell::Cell::new(0),
            out: dealer.sender(),
        });
        local.join_master(&mut dealer, &mut stop).await?;
        local.say(FromWorker::Described(self.program.described())).await;
        let result = local.follow_master(&mut dealer, &mut stop).await;
        local.stop_users(true).await;
        local.report().await;
        if result.is_err() || *stop.borrow() {
            local.say(FromWorker::Quit).await;
        }
        drop(local);
        // What is queued is written before the connection is closed.
        let _ = tokio::time::timeout(FLUSH_WAIT, dealer.close()).await;
        result
    }
}

// === impl Local ===

impl Local {
    async fn say(&self, message: FromWorker) {
        match encode_from_worker(&message, &self.config.id) {
            Ok(body) => drop(self.out.send(body).await),
            Err(error) => tracing::error!(target: "locust.runners", %error, "message not sent"),
        }
    }

    /// Says that it is ready until the master has heard it.
    async fn join_master(&self, dealer: &mut Dealer, stop: &mut watch::Receiver<bool>) -> Result<(), WorkerError> {
        for attempt in 0..MOST_READY {
            self.say(FromWorker::ClientReady(Version::Text(LOCUST_VERSION.to_owned()))).await;
            let until = tokio::time::Instant::now() + READY_EVERY;
            loop {
                tokio::select! {
                    heard = dealer.recv() => {
                        let Some(heard) = heard else { break };
                        if let Ok(message) = decode_from_master(&heard)
                            && matches!(message.body, FromMaster::Ack { .. })
                        {
                            return Ok(());
                        }
                    }
                    () = tokio::time::sleep_until(until) => break,
                    _ = stop.wait_for(|stop| *stop) => return Ok(()),
                }
            }
            if attempt >= 5 {
                tracing::info!(
                    target: "locust.runners",
                    "Failed to connect to master {}:{}, retry {attempt}/{MOST_READY}.",
                    self.config.master_host,
                    self.config.master_port
                );
            }
        }
        Err(WorkerError::NoMaster { host: self.config.master_host.clone(), port: self.config.master_port })
    }

    async fn follow_master(
        self: &Rc<Self>,
        dealer: &mut Dealer,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<(), WorkerError> {
        let mut heartbeats = tokio::time::interval(HEARTBEAT_EVERY);
        let mut reports = tokio::time::interval(REPORT_EVERY);
        let mut usage = Usage::default();
        let mut last_heard = tokio::time::Instant::now();
        let mut last_spawn = f64::NEG_INFINITY;
        loop {
            tokio::select! {
                heard = dealer.recv() => {
                    let Some(heard) = heard else { return Err(WorkerError::Lost) };
                    last_heard = tokio::time::Instant::now();
                    match decode_from_master(&heard) {
                        Ok(message) => {
                            if matches!(message.body, FromMaster::Quit) {
                                tracing::info!(target: "locust.runners", "Got quit message from master, shutting down...");
                                return Ok(());
                            }
                            self.obey(message.body, &mut last_spawn).await;
                        }
                        Err(error) => tracing::error!(target: "locust.runners", "{error}"),
                    }
                }
                _ = heartbeats.tick() => {
                    if last_heard.elapsed() > MASTER_TIMEOUT {
                        return Err(WorkerError::Lost);
                    }
                    let state = match self.state.get() {
                        State::Ready => "ready",
                        State::Spawning => "spawning",
                        State::Running => "running",
                    };
                    let (cpu, memory) = usage.now(&*self.thread.clock);
                    self.say(FromWorker::Heartbeat { state: state.to_owned(), cpu, memory }).await;
                }
                _ = reports.tick() => self.report().await,
                _ = stop.wait_for(|stop| *stop) => return Ok(()),
            }
        }
    }

    async fn obey(self: &Rc<Self>, message: FromMaster, last_spawn: &mut f64) {
        match message {
            FromMaster::Spawn { timestamp, user_classes_count, host, stop_timeout, .. } => {
                self.say(FromWorker::Spawning).await;
                if timestamp <= *last_spawn {
                    return;
                }
                *last_spawn = timestamp;
                self.host.replace(host);
                self.stop_timeout.set(stop_timeout);
                if self.state.get() == State::Ready {
                    self.thread.stats.borrow_mut().clear();
                    // Names may mean other addresses by now.
                    self.hosts.borrow_mut().clear();
                }
                self.state.set(State::Spawning);
                self.bring_to(&user_classes_count);
            }
            FromMaster::SpawningComplete { .. } if self.config.reset_stats => {
                self.thread.stats.borrow_mut().clear();
            }
            FromMaster::Stop => {
                let local = self.clone();
                tokio::task::spawn_local(async move {
                    local.stop_users(false).await;
                    // What was measured up to the end belongs to this run.
                    local.report().await;
                    local.say(FromWorker::ClientStopped).await;
                    local.say(FromWorker::ClientReady(Version::Text(LOCUST_VERSION.to_owned()))).await;
                    local.state.set(State::Ready);
                });
            }
            FromMaster::Other(kind) => {
                tracing::warn!(target: "locust.runners", "Unknown message type received: {kind}");
            }
            _ => {}
        }
    }

    /// Starts and stops users until each class has as many as it is to have.
    fn bring_to(self: &Rc<Self>, counts: &BTreeMap<String, i64>) {
        let mut surplus = Vec::new();
        for (class, &wanted) in counts {
            let wanted = usize::try_from(wanted).unwrap_or(0);
            let Some(plan) = self.plans.iter().find(|plan| plan.name == *class).cloned() else {
                if wanted > 0 {
                    tracing::error!(target: "locust.runners", "the master asks for users of {class}, which this locustfile does not have");
                }
                continue;
            };
            let host = self.host_of(&plan);
            let mut users = self.users.borrow_mut();
            let running = users.entry(class.clone()).or_default();
            running.retain(|user| !user.task.is_finished());
            while running.len() < wanted {
                let number = self.numbers.get();
                self.numbers.set(number + 1);
                let life = Rc::new(Life::default());
                let future =
                    user::run(self.thread.clone(), plan.clone(), host.clone(), self.config.seed, number, life.clone());
                running.push(Running { life, task: tokio::task::spawn_local(future) });
            }
            let keep = wanted.min(running.len());
            surplus.extend(running.drain(keep..));
        }
        let local = self.clone();
        tokio::task::spawn_local(async move {
            local.end(surplus, false).await;
            let user_classes_count = local.counts();
            let user_count = user_classes_count.values().sum();
            local.state.set(State::Running);
            local.say(FromWorker::SpawningComplete { user_classes_count, user_count }).await;
        });
    }

    async fn stop_users(&self, at_once: bool) {
        let all: Vec<Running> = self.users.borrow_mut().drain().flat_map(|(_, users)| users).collect();
        self.end(all, at_once).await;
    }

    /// Lets users end their tasks within the stop timeout, and ends them then.
    async fn end(&self, users: Vec<Running>, at_once: bool) {
        let timeout = Duration::try_from_secs_f64(self.stop_timeout.get()).unwrap_or_default();
        if !at_once && !timeout.is_zero() {
            users.iter().for_each(|user| user.life.stop());
            let until = self.thread.timers.now() + timeout;
            while users.iter().any(|user| !user.task.is_finished()) && self.thread.timers.now() < until {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        users.iter().for_each(|user| user.life.kill());
        for mut user in users {
            // on_stop has the time that a request may take, and no more.
            if tokio::time::timeout(FLUSH_WAIT, &mut user.task).await.is_err() {
                user.task.abort();
            }
        }
    }

    fn counts(&self) -> BTreeMap<String, i64> {
        let users = self.users.borrow();
        let count = |plan: &Rc<UserPlan>| {
            let running = users.get(&plan.name).map_or(0, |users| users.iter().filter(|user| !user.task.is_finished()).count());
            (plan.name.clone(), running as i64)
        };
        self.plans.iter().map(count).collect()
    }

    async fn report(&self) {
        let now = self.thread.clock.now_ms() as f64 / 1000.0;
        let report = self.thread.stats.borrow_mut().report(now, self.counts());
        self.say(FromWorker::Stats(Box::new(report))).await;
    }

    /// Where the users of a class send: the master's host, or that of the class.
    fn host_of(&self, plan: &UserPlan) -> Result<Rc<Host>, String> {
        let host = self.host.borrow().clone().or_else(|| plan.host.clone());
        let url = host.ok_or_else(|| {
            "LocustError('You must specify the base host. Either in the host attribute in the User class, or on the \
             command line using the --host option.')"
                .to_owned()
        })?;
        if let Some(known) = self.hosts.borrow().get(&url) {
            return known.clone();
        }
        let resolved = self.resolve(&url).map(Rc::new).map_err(|reason| format!("InvalidURL({reason:?})"));
        self.hosts.borrow_mut().insert(url, resolved.clone());
        resolved
    }

    fn resolve(&self, url: &str) -> Result<Host, String> {
        let target = Target::parse(url)?;
        let addresses = target.resolve().map_err(|error| format!("{url}: {error}"))?;
        let tls = match (target.is_https(), &self.config.trust) {
            (false, _) => None,
            (true, None) => return Err(format!("{url}: there is nothing to check its certificate with")),
            (true, Some(trust)) => Some((client_config(trust)?, target.server_name()?)),
        };
        Ok(Host { target, shared: Shared::new(self.thread.timers.clone(), addresses, tls) })
    }
}

/// CPU and memory of this worker.
#[derive(Default)]
struct Usage {
    asked: u32,
    cpu: f64,
    last: Option<(Duration, Duration)>,
}

impl Usage {
    /// Percent of a core over the last ten seconds, and bytes.
    fn now(&mut self, clock: &dyn Clock) -> (f64, u64) {
        if self.asked.is_multiple_of(CPU_EVERY) {
            let used = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
            let used = Duration::new(used.tv_sec.try_into().unwrap_or(0), used.tv_nsec.try_into().unwrap_or(0));
            let wall = clock.monotonic();
            if let Some((used_before, wall_before)) = self.last {
                let share = used.saturating_sub(used_before).as_secs_f64()
                    / wall.saturating_sub(wall_before).as_secs_f64().max(1e-3);
                self.cpu = (share * 1000.0).round() / 10.0;
            }
            self.last = Some((used, wall));
        }
        self.asked = self.asked.wrapping_add(1);
        let pages = std::fs::read_to_string("/proc/self/statm").ok();
        let resident = pages.as_deref().and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
        (self.cpu, resident.unwrap_or(0) * rustix::param::page_size() as u64)
    }
}
