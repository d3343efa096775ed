//! A master's decisions: what each message of a worker, each passing second and each wish of the user changes, and what
//! is to be sent for it. No socket and no clock: both are arguments.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use serde_json::{Map, Value};

use super::LOCUST_VERSION;
use super::csv::utc;
use super::dispatch::{Dispatcher, MOST_USERS, Step, UserClass};
use super::exceptions::{Exception, Exceptions};
use super::message::{ClassDescription, FromMaster, FromWorker, LocustFile, Message, Version};
use super::stats::Stats;
use super::user_classes::UserClasses;
use super::workers::{WorkerState, Workers};

const CPU_WARNING: f64 = 90.0;
const MOST_TEXT: usize = 64 * 1024;
const MOST_LOGS: usize = 500;

/// What does not change while the master lives.
#[derive(Clone, Default)]
pub struct Config {
    /// What a worker without a locustfile gets.
    pub locustfiles: Vec<LocustFile>,
    /// Instead of files: why there are none.
    pub no_locustfiles: Option<String>,
    /// The classes, where the master knows them before any worker tells.
    pub classes: Vec<ClassDescription>,
    /// Told to workers with every spawn, as Locust's own options.
    pub options: Map<String, Value>,
    pub stop_timeout: f64,
    pub reset_stats: bool,
    pub enable_rebalancing: bool,
    /// Every entry keeps its last seconds, for the full history.
    pub full_history: bool,
    /// What exceptions say they happened on, instead of the worker's id.
    pub node_name: Option<String>,
}

/// The state of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Ready,
    Spawning,
    Running,
    Stopping,
    Stopped,
}

/// What came of the wish to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartOutcome {
    Started,
    NoWorkers,
    /// No worker has told which user classes there are.
    NoClasses,
    /// What was asked for cannot be done, and why; a run that goes on is left as it is.
    Refused(String),
}

/// A worker as `/stats/requests` shows it.
#[derive(Clone, Debug)]
pub struct WorkerView {
    pub id: String,
    pub state: &'static str,
    pub user_count: i64,
    pub cpu_usage: f64,
    pub memory_usage: u64,
}

/// Messages to send, and what else must happen.
#[derive(Debug, Default)]
pub(super) struct Effects {
    pub(super) messages: Vec<(String, FromMaster)>,
    /// A ramp was begun (or must be gone on with).
    pub(super) ramp: bool,
    /// The last worker left during a run.
    pub(super) last_left: bool,
}

pub struct Master {
    config: Config,
    host: Option<String>,
    pub stats: Stats,
    exceptions: Exceptions,
    worker_logs: IndexMap<String, Vec<String>>,
    workers: Workers,
    classes: UserClasses,
    dispatcher: Option<Dispatcher>,
    state: State,
    target: u64,
    rate: f64,
    spawning_completed: bool,
    last_timestamp: f64,
    /// Users by class when the run was stopped, for the report.
    final_classes: BTreeMap<String, i64>,
    worker_cpu_warned: bool,
}

// === impl State ===

impl State {
    pub fn name(self) -> &'static str {
        match self {
            State::Ready => "ready",
            State::Spawning => "spawning",
            State::Running => "running",
            State::Stopping => "stopping",
            State::Stopped => "stopped",
        }
    }

    pub fn is_active(self) -> bool {
        matches!(self, State::Spawning | State::Running)
    }
}

// === impl Master: what is asked of it ===

impl Master {
    pub fn new(config: Config, now: f64) -> Master {
        Master {
            stats: Stats::new(now, config.full_history),
            classes: UserClasses::new(config.classes.clone()),
            config,
            host: None,
            exceptions: Exceptions::default(),
            worker_logs: IndexMap::new(),
            workers: Workers::default(),
            dispatcher: None,
            state: State::Ready,
            target: 0,
            rate: 0.0,
            spawning_completed: false,
            last_timestamp: 0.0,
            final_classes: BTreeMap::new(),
            worker_cpu_warned: false,
        }
    }

    pub fn state(&self) -> State {
        self.state
    }

    pub fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    pub fn set_host(&mut self, host: Option<String>) {
        self.host = host.filter(|host| !host.is_empty());
    }

    /// The one host all classes name, when no host was given.
    pub fn effective_host(&self) -> Option<String> {
        self.host.clone().or_else(|| self.classes.common_host())
    }

    /// Every class that is known, chosen or not.
    pub fn classes(&self) -> &[ClassDescription] {
        self.classes.all()
    }

    pub fn shapes(&self) -> &[String] {
        self.classes.shapes()
    }

    /// The classes that take part.
    pub fn chosen_classes(&self) -> Vec<ClassDescription> {
        self.classes.chosen()
    }

    /// Only these classes; all when `None`. Names that are not known are an error.
    ///
    /// # Errors
    /// The names that no worker knows.
    pub fn choose_classes(&mut self, names: Option<Vec<String>>) -> Result<(), Vec<String>> {
        self.classes.choose(names)
    }

    /// Whether it is known which users could be started.
    pub fn knows_classes(&self) -> bool {
        !self.classes.all().is_empty()
    }

    pub fn option(&self, name: &str) -> Option<&Value> {
        self.config.options.get(name)
    }

    pub fn set_option(&mut self, name: &str, value: Value) {
        self.config.options.insert(name.to_owned(), value);
    }

    pub fn stop_timeout(&self) -> f64 {
        self.config.stop_timeout
    }

    pub fn user_count(&self) -> i64 {
        self.workers.user_count()
    }

    pub fn worker_count(&self) -> usize {
        self.workers.count()
    }

    pub fn ready_count(&self) -> usize {
        self.workers.ready_count()
    }

    pub fn workers(&self) -> Vec<WorkerView> {
        let view = |(id, worker): (&str, &super::workers::Worker)| WorkerView {
            id: id.to_owned(),
            state: worker.state.name(),
            user_count: worker.user_count(),
            cpu_usage: worker.cpu,
            memory_usage: worker.memory,
        };
        self.workers.iter().map(view).collect()
    }

    /// Users by class: those reported, or (after the run) those there were when it was stopped.
    pub fn spawned(&self) -> BTreeMap<String, i64> {
        match self.state {
            State::Stopping | State::Stopped => self.final_classes.clone(),
            _ => self.workers.user_classes(),
        }
    }

    pub fn reported_classes(&self) -> BTreeMap<String, i64> {
        self.workers.user_classes()
    }

    pub fn exceptions(&self) -> impl Iterator<Item = &Exception> {
        self.exceptions.iter()
    }

    pub fn worker_logs(&self) -> &IndexMap<String, Vec<String>> {
        &self.worker_logs
    }

    /// Whether a worker was too busy at some time of this run.
    pub fn worker_cpu_warned(&self) -> bool {
        self.worker_cpu_warned
    }

    /// Whether anything failed, which decides the exit code.
    pub fn failed(&self) -> bool {
        !self.stats.errors.is_empty() || !self.exceptions.is_empty()
    }

    pub fn reset_stats(&mut self, now: f64) {
        self.stats.reset(now);
        self.exceptions.clear();
    }

    /// A last point for the charts, unless one is from this moment or there is none at all.
    pub fn remember_last(&mut self, now: f64) {
        let last = self.stats.total.last_request_timestamp.unwrap_or(now);
        if self.stats.history.last().is_none_or(|point| (point.at_ms as f64) < last * 1000.0) {
            let users = self.user_count();
            self.stats.remember(utc(last), now, users);
        }
    }

    /// A point for the charts, while a run goes on.
    pub fn remember(&mut self, now: f64) {
        if self.state != State::Ready && self.state != State::Stopped {
            let users = self.user_count();
            self.stats.remember(utc(now), now, users);
        }
    }
}

// === impl Master: starting and stopping ===

impl Master {
    /// Begins to bring the run to so many users; the steps follow with [`Master::ramp_step`].
    pub(super) fn start(&mut self, users: u64, rate: f64, now: f64) -> StartOutcome {
        if users > MOST_USERS {
            return StartOutcome::Refused(format!("{users} users: at most {MOST_USERS} can be run"));
        }
        // Counts that the user chose in its place would look like the shape's own.
        if let Some(shape) = self.classes.shapes().first() {
            return StartOutcome::Refused(format!(
                "{shape}: load shapes are not run yet; remove the class, or run this file with locust itself"
            ));
        }
        self.spawning_completed = false;
        self.target = users;
        let active = self.workers.active();
        if active.is_empty() {
            tracing::warn!(
                target: "locust.runners",
                "You can't start a distributed test before at least one worker processes has connected"
            );
            return StartOutcome::NoWorkers;
        }
        let chosen = self.classes.chosen();
        if chosen.is_empty() {
            tracing::error!(target: "locust.runners", "No User class found! No worker has told which it can run");
            return StartOutcome::NoClasses;
        }
        self.rate = rate;
        let classes = chosen.iter().map(|class| UserClass {
            name: class.name.clone(),
            weight: class.weight,
            fixed_count: class.fixed_count,
        });
        let count = active.len();
        if self.dispatcher.is_none() {
            self.dispatcher = Some(Dispatcher::new(active, classes.collect()));
        }
        tracing::info!(
            target: "locust.runners",
            "Sending spawn jobs of {users} users at {rate:.2} spawn rate to {count} ready workers"
        );
        if rate / count as f64 > 100.0 {
            tracing::warn!(
                target: "locust.runners",
                "Your selected spawn rate is very high (>100/worker), and this is known to sometimes cause issues. \
                 Do you really need to ramp up that fast?"
            );
        }
        if !self.state.is_active() {
            self.stats.clear(now);
            self.exceptions.clear();
            self.worker_cpu_warned = false;
        }
        self.state = State::Spawning;
        let names: Vec<String> = chosen.into_iter().map(|class| class.name).collect();
        if let Some(dispatcher) = &mut self.dispatcher {
            dispatcher.begin(users, rate, Some(&names));
        }
        StartOutcome::Started
    }

    /// The next step of the ramp and what it sends; `None` when there is none.
    pub(super) fn ramp_step(&mut self, now: f64) -> Option<(Vec<(String, FromMaster)>, Step)> {
        let step = self.dispatcher.as_mut()?.step()?;
        // A worker drops a spawn that is not newer than its last.
        self.last_timestamp = if now > self.last_timestamp { now } else { self.last_timestamp + 1e-4 };
        let timestamp = self.last_timestamp;
        let spawn = |counts| FromMaster::Spawn {
            timestamp,
            user_classes_count: counts,
            host: self.host.clone(),
            stop_timeout: self.config.stop_timeout,
            parsed_options: self.config.options.clone(),
        };
        let dispatcher = self.dispatcher.as_ref()?;
        let messages =
            dispatcher.counts().map(|(worker, counts)| (worker.to_owned(), spawn(counts))).collect();
        Some((messages, step))
    }

    /// Whether the workers report as many users as they were told to run.
    pub(super) fn all_reported(&self) -> bool {
        self.user_count() == self.target as i64
    }

    /// The ramp is over: every worker hears of it.
    pub(super) fn ramp_finished(&mut self, now: f64, in_time: bool) -> Vec<(String, FromMaster)> {
        let Some(dispatcher) = self.dispatcher.as_ref().filter(|_| self.state == State::Spawning) else {
            return Vec::new();
        };
        let user_count = dispatcher.totals().values().sum();
        self.state = State::Running;
        if self.config.reset_stats {
            tracing::info!(target: "locust.runners", "Resetting stats\n");
            self.stats.reset(now);
        }
        self.spawning_completed = true;
        let prefix = if in_time {
            "All users spawned"
        } else {
            "Spawning is complete and report waittime is expired, but not all reports received from workers"
        };
        let reported = self.workers.user_classes();
        let list: Vec<String> =
            reported.iter().map(|(class, count)| format!("\"{class}\": {count}")).collect();
        let total: i64 = reported.values().sum();
        tracing::info!(target: "locust.runners", "{prefix}: {{{}}} ({total} total users)", list.join(", "));
        self.to_all(|| FromMaster::SpawningComplete { user_count })
    }

    /// Ends the run; `tell`: workers are to stop their users (and not about to be told to quit).
    pub(super) fn stop(&mut self, tell: bool) -> Vec<(String, FromMaster)> {
        if matches!(self.state, State::Ready | State::Stopped | State::Stopping) {
            return Vec::new();
        }
        self.final_classes = self.workers.user_classes();
        self.state = State::Stopping;
        self.dispatcher = None;
        if tell { self.to_all(|| FromMaster::Stop) } else { Vec::new() }
    }

    /// Ends everything: each worker is to send its last report and go.
    pub(super) fn quit(&mut self) -> Vec<(String, FromMaster)> {
        self.stop(false);
        for (_, worker) in self.workers.iter_mut() {
            worker.reported_last = false;
        }
        self.to_all(|| FromMaster::Quit)
    }

    /// Those that were told to quit and have not sent their last report.
    pub(super) fn not_reported(&self) -> Vec<String> {
        let waiting =
            self.workers.iter().filter(|(_, worker)| worker.state.is_active() && !worker.reported_last);
        waiting.map(|(id, _)| id.to_owned()).collect()
    }

    fn to_all(&self, message: impl Fn() -> FromMaster) -> Vec<(String, FromMaster)> {
        self.workers.iter().map(|(id, _)| (id.to_owned(), message())).collect()
    }

    /// Sets attributes of a user class: here, where weights and fixed counts decide who is started, and on all workers.
    /// Those that come later are told when they come, and all of them once the class is known.
    pub(super) fn update_user_class(
        &mut self,
        settings: &Value,
    ) -> Result<Vec<(String, FromMaster)>, String> {
        if !self.classes.set(settings)? {
            return Ok(Vec::new());
        }
        if !self.state.is_active() {
            // It counts with the weights that it was made with.
            self.dispatcher = None;
        }
        Ok(self.to_all(|| FromMaster::UpdateUserClass(settings.clone())))
    }

    /// Classes that have settings and that no worker has told of.
    pub fn unknown_settings(&self) -> Vec<String> {
        self.classes.unknown_settings()
    }

    /// What all workers are to be told of classes that were not known before.
    fn settings_of(&self, new: &[String]) -> Vec<(String, FromMaster)> {
        let settings = self.classes.settings_of(new);
        settings.flat_map(|settings| self.to_all(|| FromMaster::UpdateUserClass(settings.clone()))).collect()
    }
}

// === impl Master: what workers say ===

impl Master {
    pub(super) fn handle(&mut self, peer: &str, message: Message<FromWorker>, now: f64) -> Effects {
        let mut effects = Effects::default();
        let id = if message.node_id.is_empty() { peer } else { &message.node_id };
        match message.body {
            FromWorker::Locustfile { version } => {
                self.send_locustfiles(peer, version.as_deref(), &mut effects);
                return effects;
            }
            FromWorker::ClientReady(version) => self.client_ready(peer, &version, &mut effects),
            FromWorker::ClientStopped => {
                if self.workers.remove(id).is_none() {
                    tracing::warn!(target: "locust.runners", "Received client_stopped message from an unknown worker: {id}.");
                    return effects;
                }
                self.redistribute_without(id, &mut effects, now);
                let index = self.workers.index(id);
                tracing::info!(target: "locust.runners", "{id} (index {index}) reported that it has stopped");
            }
            FromWorker::Heartbeat { state, cpu, memory } => {
                self.heartbeat(id, &state, cpu, memory, now, &mut effects);
            }
            FromWorker::Spawning => match self.workers.get_mut(id) {
                Some(worker) => worker.state = WorkerState::Spawning,
                None => Master::dismiss(id, "spawning", &mut effects),
            },
            FromWorker::SpawningComplete { user_classes_count, .. } => match self.workers.get_mut(id) {
                Some(worker) => {
                    worker.state = WorkerState::Running;
                    worker.users = user_classes_count;
                }
                None => Master::dismiss(id, "spawning_complete", &mut effects),
            },
            FromWorker::Stats(report) => {
                let new = self.classes.learn(report.user_classes_count.keys());
                effects.messages.extend(self.settings_of(&new));
                match self.workers.get_mut(id) {
                    Some(worker) => {
                        worker.users.clone_from(&report.user_classes_count);
                        worker.reported_last = true;
                    }
                    None => {
                        tracing::info!(target: "locust.runners", "Discarded report from unrecognized worker {id}")
                    }
                }
                self.stats.merge(*report, now);
            }
            FromWorker::Exception { msg, traceback } => self.exception(id, msg, traceback),
            FromWorker::Logs { worker_id, logs } => self.logs(id, worker_id, logs),
            FromWorker::Quit => self.worker_quit(id, &mut effects, now),
            FromWorker::Described(described) => {
                let new = self.classes.describe(described);
                effects.messages.extend(self.settings_of(&new));
            }
            FromWorker::Other(kind) => {
                let index = self.workers.index(id);
                tracing::warn!(
                    target: "locust.runners",
                    "Unknown message type received from worker {id} (index {index}): {kind}"
                );
            }
        }
        self.check_stopped();
        effects
    }

    /// A second has passed.
    pub(super) fn second(&mut self, now: f64) -> Effects {
        let mut effects = Effects::default();
        let silence = self.workers.second();
        for id in &silence.went_missing {
            tracing::info!(
                target: "locust.runners",
                "Worker {id} failed to send heartbeat, setting state to missing."
            );
            if let Some(dispatcher) = &mut self.dispatcher {
                dispatcher.remove_worker(id);
                if self.config.enable_rebalancing && self.state == State::Running && self.spawning_completed {
                    self.start(self.target, self.rate, now);
                    effects.ramp = true;
                }
            }
            if self.workers.count() == 0 {
                tracing::info!(target: "locust.runners", "The last worker went missing, stopping test.");
                effects.messages.extend(self.stop(true));
                self.check_stopped();
            }
        }
        if !silence.forgotten.is_empty() && self.state.is_active() && self.workers.count() > 0 {
            // Without a dispatcher the ramp begins from nothing, with the workers that are left.
            self.dispatcher = None;
            self.start(self.target, self.rate, now);
            effects.ramp = true;
        }
        effects
    }

    fn client_ready(&mut self, peer: &str, version: &Version, effects: &mut Effects) {
        match version {
            Version::None => {
                tracing::error!(
                    target: "locust.runners",
                    "An old (pre 2.0) worker tried to connect ({peer}). That's not going to work."
                );
                return;
            }
            Version::Text(version) if version.get(..4) != LOCUST_VERSION.get(..4) => {
                tracing::warn!(
                    target: "locust.runners",
                    "A worker ({peer}) running a different version ({version}) connected, master version is {LOCUST_VERSION}"
                );
            }
            _ => {}
        }
        let index = self.workers.index(peer);
        effects.messages.push((peer.to_owned(), FromMaster::Ack { index: Some(index) }));
        let settings = self.classes.settings().map(FromMaster::UpdateUserClass);
        effects.messages.extend(settings.map(|settings| (peer.to_owned(), settings)));
        let known = self.workers.ready(peer);
        let connected = self.workers.count();
        if known {
            tracing::debug!(
                target: "locust.runners",
                "{peer} (index {index}) reported as ready (duplicate message). {connected} workers connected."
            );
        } else {
            tracing::info!(
                target: "locust.runners",
                "{peer} (index {index}) reported as ready. {connected} workers connected."
            );
        }
        self.redistribute_with(peer, effects);
    }

    fn redistribute_with(&mut self, id: &str, effects: &mut Effects) {
        let Some(dispatcher) = &mut self.dispatcher else { return };
        dispatcher.add_worker(id);
        let in_progress = dispatcher.in_progress();
        if !in_progress && self.state == State::Running {
            self.start(self.target, self.rate, self.last_timestamp);
            effects.ramp = true;
        }
    }

    fn redistribute_without(&mut self, id: &str, effects: &mut Effects, now: f64) {
        let Some(dispatcher) = &mut self.dispatcher else { return };
        dispatcher.remove_worker(id);
        let in_progress = dispatcher.in_progress();
        if !in_progress && self.state == State::Running && self.workers.count() > 0 {
            self.start(self.target, self.rate, now);
            effects.ramp = true;
        }
    }

    fn heartbeat(&mut self, id: &str, state: &str, cpu: f64, memory: u64, _now: f64, effects: &mut Effects) {
        let index = self.workers.index(id);
        let Some(worker) = self.workers.get_mut(id) else {
            tracing::debug!(target: "locust.runners", "Got heartbeat message from unknown worker {id}");
            return;
        };
        worker.alive();
        let healed = worker.state == WorkerState::Missing;
        worker.state = WorkerState::parse(state);
        worker.cpu = cpu;
        worker.memory = memory;
        if !worker.cpu_warned && cpu > CPU_WARNING {
            worker.cpu_warned = true;
            self.worker_cpu_warned = true;
            tracing::warn!(
                target: "locust.runners",
                "Worker {id} (index {index}) exceeded cpu threshold (will only log this once per worker)"
            );
        }
        effects.messages.push((id.to_owned(), FromMaster::Heartbeat));
        if healed {
            tracing::info!(
                target: "locust.runners",
                "Worker {id} self-healed with heartbeat, setting state to {state}."
            );
            self.redistribute_with(id, effects);
        }
    }

    fn dismiss(id: &str, kind: &str, effects: &mut Effects) {
        tracing::warn!(
            target: "locust.runners",
            "Got {kind} message from unknown worker {id}. Asking worker to quit."
        );
        effects.messages.push((id.to_owned(), FromMaster::Quit));
    }

    fn worker_quit(&mut self, id: &str, effects: &mut Effects, now: f64) {
        if self.workers.remove(id).is_none() {
            return;
        }
        self.redistribute_without(id, effects, now);
        let (index, ready) = (self.workers.index(id), self.workers.ready_count());
        tracing::info!(target: "locust.runners", "Worker '{id}' (index {index}) quit. {ready} workers ready.");
        if self.workers.count() == 0 {
            tracing::info!(target: "locust.runners", "The last worker quit, stopping test.");
            effects.messages.extend(self.stop(true));
            effects.last_left = true;
        }
    }

    fn send_locustfiles(&self, peer: &str, version: Option<&str>, effects: &mut Effects) {
        if version.is_none() {
            tracing::error!(
                target: "locust.runners",
                "A very old worker version requested locustfile. This probably won't work."
            );
        }
        let answer = match &self.config.no_locustfiles {
            Some(reason) => Err(reason.clone()),
            None => Ok(self.config.locustfiles.clone()),
        };
        effects.messages.push((peer.to_owned(), FromMaster::Locustfile(answer)));
    }

    fn exception(&mut self, id: &str, mut msg: String, mut traceback: String) {
        let node = self.config.node_name.clone().unwrap_or_else(|| id.to_owned());
        truncate(&mut msg);
        truncate(&mut traceback);
        self.exceptions.add(node, msg, traceback);
    }

    fn logs(&mut self, id: &str, worker_id: String, mut logs: Vec<String>) {
        if !self.workers.contains(id) {
            return;
        }
        let too_many = logs.len().saturating_sub(MOST_LOGS);
        logs.drain(..too_many);
        logs.iter_mut().for_each(truncate);
        self.worker_logs.insert(worker_id, logs);
        self.worker_logs.retain(|known, _| known == id || self.workers.contains(known));
    }

    fn check_stopped(&mut self) {
        let all_ready = self.workers.iter().all(|(_, worker)| worker.state == WorkerState::Ready);
        let none_active = !self.workers.is_empty() && self.workers.count() == 0;
        let none_left = self.workers.is_empty() && self.state != State::Ready;
        if (self.state == State::Stopping && all_ready) || none_active || none_left {
            self.state = State::Stopped;
        }
    }
}

fn truncate(text: &mut String) {
    if text.len() > MOST_TEXT {
        let end = text.floor_char_boundary(MOST_TEXT);
        text.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::locust::message::Described;

    fn say(master: &mut Master, id: &str, body: FromWorker) -> Vec<(String, FromMaster)> {
        master.handle(id, Message { body, node_id: id.to_owned() }, 1000.0).messages
    }

    fn ready(master: &mut Master, id: &str) {
        let told = say(master, id, FromWorker::ClientReady(Version::Text(LOCUST_VERSION.to_owned())));
        assert!(matches!(told.as_slice(), [(_, FromMaster::Ack { .. })]));
    }

    fn spawned(master: &mut Master, id: &str, users: i64) {
        let user_classes_count = BTreeMap::from([("Shopper".to_owned(), users)]);
        say(master, id, FromWorker::SpawningComplete { user_classes_count, user_count: users });
    }

    fn master_with_two() -> Master {
        let class = ClassDescription {
            name: "Shopper".to_owned(),
            weight: 1.0,
            fixed_count: 0,
            host: None,
            tasks: Vec::new(),
        };
        let mut master = Master::new(Config { classes: vec![class], ..Config::default() }, 1000.0);
        ready(&mut master, "a_1");
        ready(&mut master, "b_1");
        master
    }

    fn counts(messages: &[(String, FromMaster)]) -> Vec<(String, i64)> {
        let users = |message: &FromMaster| match message {
            FromMaster::Spawn { user_classes_count, .. } => user_classes_count.values().sum(),
            other => panic!("{other:?}"),
        };
        messages.iter().map(|(id, message)| (id.clone(), users(message))).collect()
    }

    #[test]
    fn a_run_goes_from_ready_to_stopped() {
        let mut master = master_with_two();
        assert_eq!(master.start(4, 100.0, 1000.0), StartOutcome::Started);
        let (messages, step) = master.ramp_step(1000.0).unwrap();
        assert_eq!(counts(&messages), [("a_1".to_owned(), 2), ("b_1".to_owned(), 2)]);
        assert_eq!((step, master.state()), (Step::Last, State::Spawning));
        spawned(&mut master, "a_1", 2);
        assert!(!master.all_reported());
        spawned(&mut master, "b_1", 2);
        assert!(master.all_reported());
        assert_eq!(master.ramp_finished(1001.0, true).len(), 2);
        assert_eq!(master.state(), State::Running);
        assert_eq!(master.stop(true).len(), 2);
        for id in ["a_1", "b_1"] {
            say(&mut master, id, FromWorker::ClientStopped);
        }
        assert_eq!((master.state(), master.spawned()["Shopper"]), (State::Stopped, 4));
        ready(&mut master, "a_1");
        assert_eq!(master.start(1, 1.0, 1002.0), StartOutcome::Started);
    }

    #[test]
    fn more_users_than_can_be_counted_are_refused() {
        let mut master = master_with_two();
        let StartOutcome::Refused(reason) = master.start(MOST_USERS + 1, 1.0, 1000.0) else {
            panic!("started")
        };
        assert_eq!(reason, "10000001 users: at most 10000000 can be run");
        assert_eq!(master.state(), State::Ready);
    }

    #[test]
    fn a_load_shape_is_refused_and_not_ignored() {
        let mut master = master_with_two();
        let described = Described { classes: master.classes().to_vec(), shapes: vec!["Steps".to_owned()] };
        say(&mut master, "a_1", FromWorker::Described(described));
        let StartOutcome::Refused(reason) = master.start(1, 1.0, 1000.0) else { panic!("started") };
        assert!(reason.starts_with("Steps: load shapes are not run yet"), "{reason}");
    }

    #[test]
    fn settings_of_a_class_hold_here_and_on_workers_that_come_later() {
        let mut master = Master::new(Config::default(), 1000.0);
        let settings = serde_json::json!({"user_class_name": "Admin", "fixed_count": 1, "host": "http://a"});
        assert!(master.update_user_class(&settings).unwrap().is_empty(), "nobody is there yet");
        ready(&mut master, "a_1");
        let class = |name: &str| ClassDescription {
            name: name.to_owned(),
            weight: 1.0,
            fixed_count: 0,
            host: None,
            tasks: Vec::new(),
        };
        let classes = vec![class("Admin"), class("Shopper")];
        let told = say(
            &mut master,
            "a_1",
            FromWorker::Described(Described { classes: classes.clone(), shapes: Vec::new() }),
        );
        let [(_, FromMaster::UpdateUserClass(sent))] = told.as_slice() else { panic!("{told:?}") };
        assert_eq!(sent, &settings);
        let weight = serde_json::json!({"user_class_name": "Admin", "weight": 3});
        assert_eq!(master.update_user_class(&weight).unwrap().len(), 1);
        let admin = &master.classes()[0];
        assert_eq!((admin.weight, admin.fixed_count, admin.host.as_deref()), (3.0, 1, Some("http://a")));
        let told = say(&mut master, "b_1", FromWorker::ClientReady(Version::Text(LOCUST_VERSION.to_owned())));
        let [_, (peer, FromMaster::UpdateUserClass(all))] = told.as_slice() else { panic!("{told:?}") };
        assert_eq!((peer.as_str(), &all["fixed_count"], &all["weight"]), ("b_1", &1.into(), &3.into()));
        // A second worker that describes the file does not take the settings away.
        say(&mut master, "b_1", FromWorker::Described(Described { classes, shapes: Vec::new() }));
        assert_eq!(master.classes()[0].fixed_count, 1);
        let unknown = serde_json::json!({"user_class_name": "Other", "weight": 3});
        assert_eq!(
            master.update_user_class(&unknown).unwrap_err(),
            "user class \"Other\": the locustfile has no such class"
        );
    }

    #[test]
    fn timestamps_of_spawns_grow_even_when_the_clock_does_not() {
        let mut master = master_with_two();
        master.start(4, 2.0, 1000.0);
        let time = |messages: Vec<(String, FromMaster)>| match &messages[0].1 {
            FromMaster::Spawn { timestamp, .. } => *timestamp,
            other => panic!("{other:?}"),
        };
        let first = time(master.ramp_step(1000.0).unwrap().0);
        let second = time(master.ramp_step(999.0).unwrap().0);
        assert!(second > first);
    }

    #[test]
    fn without_a_worker_nothing_starts() {
        let mut master = Master::new(Config::default(), 0.0);
        assert_eq!(master.start(1, 1.0, 0.0), StartOutcome::NoWorkers);
        ready(&mut master, "a_1");
        assert_eq!(master.start(1, 1.0, 0.0), StartOutcome::NoClasses);
    }

    #[test]
    fn a_lost_worker_gives_its_users_to_the_others() {
        let mut master = master_with_two();
        master.config.enable_rebalancing = true;
        master.start(4, 100.0, 1000.0);
        master.ramp_step(1000.0);
        spawned(&mut master, "a_1", 2);
        spawned(&mut master, "b_1", 2);
        master.ramp_finished(1000.0, true);
        let mut ramp = false;
        for _ in 0..6 {
            say(
                &mut master,
                "b_1",
                FromWorker::Heartbeat { state: "running".to_owned(), cpu: 1.0, memory: 1 },
            );
            ramp |= master.second(1000.0).ramp;
        }
        assert!(ramp);
        assert_eq!(counts(&master.ramp_step(1006.0).unwrap().0), [("b_1".to_owned(), 4)]);
        assert_eq!(master.worker_count(), 1);
    }

    #[test]
    fn the_last_worker_to_quit_ends_the_run() {
        let mut master = master_with_two();
        master.start(2, 100.0, 1000.0);
        for id in ["a_1", "b_1"] {
            let effects =
                master.handle(id, Message { body: FromWorker::Quit, node_id: id.to_owned() }, 1000.0);
            assert_eq!(effects.last_left, id == "b_1");
        }
        assert_eq!(master.state(), State::Stopped);
    }

    #[test]
    fn strangers_that_spawn_are_asked_to_go() {
        let mut master = Master::new(Config::default(), 0.0);
        let told = say(&mut master, "x", FromWorker::Spawning);
        assert!(matches!(told.as_slice(), [(id, FromMaster::Quit)] if id == "x"));
    }
}
