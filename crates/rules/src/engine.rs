//! The rules of a configuration, each group on its own schedule.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gantry_clock::Clock;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::environment::Environment;
use crate::file::RuleFile;
use crate::group::{Group, GroupDefaults};
use crate::schedule::{due_before, group_hash, next_turn};

const NANOS_PER_MS: i64 = 1_000_000;

/// How rules are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RulesOptions {
    /// Whether alerts look for their state before a restart. Off where the storage is always new.
    pub restore: bool,
}

impl Default for RulesOptions {
    fn default() -> Self {
        RulesOptions { restore: true }
    }
}

/// All groups, running.
pub struct Rules {
    groups: Mutex<BTreeMap<(String, String), Running>>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    /// The first configuration restores; groups that a reload brings begin anew.
    is_restored: AtomicBool,
}

struct Running {
    group: Arc<Group>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl std::fmt::Debug for Rules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rules").field("groups", &self.groups()).finish_non_exhaustive()
    }
}

// === impl Rules ===

impl Rules {
    /// None yet.
    pub fn new(options: RulesOptions) -> Rules {
        Rules {
            groups: Mutex::default(),
            tasks: TaskTracker::new(),
            shutdown: CancellationToken::new(),
            is_restored: AtomicBool::new(!options.restore),
        }
    }

    /// Evaluates these files' groups (each file with its name) from now on. A group that is written as before goes on;
    /// one that changed hands its alerts and series over. Within a tokio runtime.
    pub fn apply(
        &self,
        files: Vec<(String, RuleFile)>,
        defaults: GroupDefaults,
        environment: &Arc<Environment>,
    ) {
        let is_restored = self.is_restored.swap(true, Ordering::AcqRel);
        let mut groups = self.groups.lock();
        if self.shutdown.is_cancelled() {
            return;
        }
        let mut before = std::mem::take(&mut *groups);
        for (file, read) in files {
            for definition in read.groups {
                let group = Group::new(&file, definition, defaults, environment.clone(), is_restored);
                let key = (group.file.clone(), group.name.clone());
                let running = match before.remove(&key) {
                    Some(old) if old.group.is_same_definition(&group) => {
                        old.group.set_environment(environment.clone());
                        old
                    }
                    old => self.start(group, old),
                };
                groups.insert(key, running);
            }
        }
        for gone in before.into_values() {
            self.end(gone);
        }
    }

    fn start(&self, group: Group, old: Option<Running>) -> Running {
        let group = Arc::new(group);
        let stop = self.shutdown.child_token();
        let (own, own_stop) = (group.clone(), stop.clone());
        let task = self.tasks.spawn(async move {
            if let Some(old) = old {
                old.stop.cancel();
                let _ = old.task.await;
                own.take_over(&old.group);
            }
            run(&own, &own_stop).await;
        });
        Running { group, stop, task }
    }

    /// Ends a group whose series nobody writes any more.
    fn end(&self, gone: Running) {
        let shutdown = self.shutdown.clone();
        self.tasks.spawn(async move {
            gone.stop.cancel();
            let _ = gone.task.await;
            let environment = gone.group.environment();
            environment.metrics.forget(&gone.group.key());
            let ended_ms = environment.clock.now_ms();
            // A rule that moved to another group has written its series by then, and the markers are refused.
            let twice = Duration::from_millis(gone.group.interval_ms.unsigned_abs().saturating_mul(2));
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(twice) => {}
            }
            let group = gone.group;
            let _ = tokio::task::spawn_blocking(move || group.end(ended_ms)).await;
        });
    }

    /// The groups, by file and name.
    pub fn groups(&self) -> Vec<Arc<Group>> {
        self.groups.lock().values().map(|running| running.group.clone()).collect()
    }

    /// Ends all evaluation; those under way are ended too. Series are not marked stale.
    pub async fn shutdown(&self) {
        self.shutdown.cancel();
        for running in self.groups.lock().values() {
            running.group.environment().cancellation.cancel();
        }
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Rules {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

fn now_ns(clock: &dyn Clock) -> i64 {
    clock.now_ms().saturating_mul(NANOS_PER_MS)
}

/// Waits until a time of the clock; `false` when the group is to end.
async fn wait_until(group: &Group, at_ns: i64, stop: &CancellationToken) -> bool {
    let wait = at_ns.saturating_sub(now_ns(&*group.environment().clock));
    tokio::select! {
        biased;
        () = stop.cancelled() => false,
        () = tokio::time::sleep(Duration::from_nanos(u64::try_from(wait).unwrap_or(0))) => true,
    }
}

/// Evaluates a group on its schedule until it is told to stop.
async fn run(group: &Arc<Group>, stop: &CancellationToken) {
    let interval_ns = group.interval_ms.saturating_mul(NANOS_PER_MS);
    let key = group.key();
    {
        let metrics = &group.environment().metrics;
        metrics.interval_seconds.with([&key]).set(group.interval_ms as f64 / 1000.0);
        metrics.rules.with([&key]).set(group.rules.len() as f64);
        metrics.missed.with([&key]);
    }
    let hash = group_hash(&group.file, &group.name);
    let mut at_ns = due_before(now_ns(&*group.environment().clock), hash, interval_ns) + interval_ns;
    if !wait_until(group, at_ns, stop).await {
        return;
    }
    let needs_restoring =
        group.rules.iter().any(|rule| rule.alerting().is_some_and(|alerting| !alerting.is_restored()));
    // The state is restored after the second turn, when what alerts depend on has been scraped and recorded.
    let mut turns = 0u64;
    loop {
        iterate(group, at_ns).await;
        turns += 1;
        if needs_restoring && turns == 2 {
            let (restoring, now_ms) = (group.clone(), group.environment().clock.now_ms());
            let _ = tokio::task::spawn_blocking(move || restoring.restore(now_ms)).await;
        }
        if !wait_until(group, at_ns + interval_ns, stop).await {
            return;
        }
        let environment = group.environment();
        let (next_ns, missed) = next_turn(at_ns, now_ns(&*environment.clock), interval_ns);
        if missed > 0 {
            environment.metrics.missed.with([&key]).inc_by(missed);
            environment.metrics.iterations.with([&key]).inc_by(missed);
        }
        at_ns = next_ns;
    }
}

async fn iterate(group: &Arc<Group>, at_ns: i64) {
    group.environment().metrics.iterations.with([&group.key()]).inc();
    let group = group.clone();
    let time_ms = at_ns.div_euclid(NANOS_PER_MS);
    if let Err(error) = tokio::task::spawn_blocking(move || group.evaluate(time_ms)).await {
        tracing::error!(%error, "a group of rules could not be evaluated");
    }
}
