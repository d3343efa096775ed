//! All jobs: discovers their targets, keeps one loop per target, and shows them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use gantry_clock::Clock;
use gantry_prom_model::{Appendable, Labels, Metadata, Registry};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::ScrapeConfig;
use crate::counters::Counters;
use crate::discover::{Discoverer, GroupSink, GroupUpdate, TargetGroup};
use crate::http_client::Dialer;
use crate::target::{Outcome, Target, populate};
use crate::target_loop::{Shared, TargetLoop, TargetStatus};

/// Changes of groups are gathered for this long before the loops are changed.
const SETTLE: Duration = Duration::from_millis(50);
/// Group updates that may wait.
const PENDING_UPDATES: usize = 64;

/// A job and where its targets come from.
pub struct Job {
    /// How it is scraped; [`ScrapeConfig::complete`]d.
    pub config: ScrapeConfig,
    /// Where its targets come from.
    pub discoverers: Vec<Box<dyn Discoverer>>,
}

/// A target that is scraped, as the API shows it.
#[derive(Debug, Clone)]
pub struct ActiveTarget {
    /// Its job.
    pub pool: String,
    /// The target.
    pub target: Arc<Target>,
    /// Its last scrape.
    pub status: TargetStatus,
}

/// All targets, as the API shows them.
#[derive(Debug, Clone, Default)]
pub struct TargetsView {
    /// Those that are scraped.
    pub active: Vec<ActiveTarget>,
    /// Labels of those that relabelling dropped, with their job.
    pub dropped: Vec<(String, Labels)>,
    /// How many were dropped per job, those that are not kept for display among them.
    pub dropped_counts: BTreeMap<String, usize>,
}

/// A metric's metadata at one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetMetadata {
    /// The target's labels.
    pub target: Labels,
    /// The metric.
    pub metric: String,
    /// What the target says of it.
    pub metadata: Metadata,
}

#[derive(Default)]
struct Pool {
    config: Arc<ScrapeConfig>,
    groups: BTreeMap<(usize, String), TargetGroup>,
    loops: HashMap<u64, TargetLoop>,
    /// Loops of the configuration before, which go on until it is known whether their targets stay.
    inherited: HashMap<u64, TargetLoop>,
    /// Discoverers that have not said anything yet.
    silent: BTreeSet<usize>,
    dropped: Vec<Labels>,
    dropped_count: usize,
    refused: Arc<Mutex<Option<String>>>,
}

impl Pool {
    fn running(&self) -> impl Iterator<Item = &TargetLoop> {
        self.loops.values().chain(self.inherited.values())
    }
}

type Pools = Arc<RwLock<BTreeMap<String, Pool>>>;

/// Scrapes. Stops when it is [shut down](Scraping::shutdown); dropped, it stops without waiting.
pub struct Scraping {
    shared: Shared,
    pools: Pools,
    /// Ends the discoverers and the loops of the configuration that runs now.
    generation: Mutex<CancellationToken>,
    tasks: TaskTracker,
}

impl Scraping {
    /// Scrapes into `storage`. `offset_seed` moves the targets' places in the interval.
    pub fn new(
        storage: Arc<dyn Appendable>,
        clock: Arc<dyn Clock>,
        registry: &Registry,
        offset_seed: u64,
    ) -> Scraping {
        let shutdown = CancellationToken::new();
        Scraping {
            generation: Mutex::new(shutdown.child_token()),
            shared: Shared {
                storage,
                clock,
                counters: Arc::new(Counters::new(registry)),
                offset_seed,
                shutdown,
                dialer: None,
                stored: watch::Sender::new(0),
            },
            pools: Pools::default(),
            tasks: TaskTracker::new(),
        }
    }

    /// Targets at addresses that `dialer` owns are reached through it. To be told before the first [`Scraping::apply`].
    pub fn reaching(mut self, dialer: Arc<dyn Dialer>) -> Scraping {
        self.shared.dialer = Some(dialer);
        self
    }

    /// Counts the scrapes whose samples are stored; it changes when there are new ones to query.
    pub fn stored(&self) -> watch::Receiver<u64> {
        self.shared.stored.subscribe()
    }

    /// Takes these jobs in place of those that ran before. Targets that stay go on under the new settings; the
    /// series of those that go are marked stale. Must be called within a tokio runtime.
    pub fn apply(&self, jobs: Vec<Job>) {
        let generation = self.shared.shutdown.child_token();
        std::mem::replace(&mut *self.generation.lock(), generation.clone()).cancel();
        let mut fresh: BTreeMap<String, Pool> = BTreeMap::new();
        let (sender, receiver) = mpsc::channel(PENDING_UPDATES);
        for job in jobs {
            let name = job.config.job_name.clone();
            let silent = (0..job.discoverers.len()).collect();
            for (index, discoverer) in job.discoverers.into_iter().enumerate() {
                let sink = GroupSink { origin: (name.clone(), index), sender: sender.clone() };
                self.tasks.spawn(discoverer.run(sink, generation.clone()));
            }
            fresh.insert(name, Pool { config: Arc::new(job.config), silent, ..Pool::default() });
        }
        let mut pools = self.pools.write();
        for (name, old) in std::mem::take(&mut *pools) {
            let running = old.loops.into_iter().chain(old.inherited);
            match fresh.get_mut(&name) {
                Some(pool) if !pool.silent.is_empty() => pool.inherited = running.collect(),
                _ => {
                    running.for_each(|(_, running)| self.track(running));
                    self.shared.counters.pool_targets.remove([&name]);
                }
            }
        }
        *pools = fresh;
        drop(pools);
        let coordinator =
            Coordinator { pools: self.pools.clone(), shared: self.shared.clone(), tasks: self.tasks.clone() };
        self.tasks.spawn(coordinator.run(receiver, generation));
    }

    fn track(&self, running: TargetLoop) {
        let task = running.stop();
        self.tasks.spawn(async move {
            let _ = task.await;
        });
    }

    /// All targets now.
    pub fn targets(&self) -> TargetsView {
        let mut view = TargetsView::default();
        for (name, pool) in &*self.pools.read() {
            let mut active: Vec<ActiveTarget> = pool
                .running()
                .map(|running| ActiveTarget {
                    pool: name.clone(),
                    target: running.target.clone(),
                    status: running.status.lock().clone(),
                })
                .collect();
            active.sort_by(|left, right| left.target.labels.cmp(&right.target.labels));
            view.active.append(&mut active);
            view.dropped.extend(pool.dropped.iter().map(|labels| (name.clone(), labels.clone())));
            view.dropped_counts.insert(name.clone(), pool.dropped_count);
        }
        view
    }

    /// The names of the jobs.
    pub fn pools(&self) -> Vec<String> {
        self.pools.read().keys().cloned().collect()
    }

    /// What targets say of their metrics: of one metric when `metric` is given, at most `limit` entries (0: all).
    pub fn metadata(&self, metric: Option<&str>, limit: usize) -> Vec<TargetMetadata> {
        let mut found = Vec::new();
        for pool in self.pools.read().values() {
            for running in pool.running() {
                let cache = running.metadata.lock();
                let target = || running.target.labels.clone();
                let entry = |(name, metadata): (&str, &Metadata)| TargetMetadata {
                    target: target(),
                    metric: name.to_owned(),
                    metadata: metadata.clone(),
                };
                match metric {
                    Some(name) => found.extend(cache.get(name).map(|metadata| entry((name, metadata)))),
                    None => found.extend(cache.iter().map(entry)),
                }
                if limit > 0 && found.len() >= limit {
                    found.truncate(limit);
                    return found;
                }
            }
        }
        found
    }

    /// Ends all scraping and waits until the scrapes under way are stored. Series are not marked stale.
    pub async fn shutdown(&self) {
        self.shared.shutdown.cancel();
        let running: Vec<TargetLoop> = self
            .pools
            .write()
            .values_mut()
            .flat_map(|pool| pool.loops.drain().map(|(_, running)| running))
            .collect();
        running.into_iter().for_each(|running| self.track(running));
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Scraping {
    fn drop(&mut self) {
        self.shared.shutdown.cancel();
    }
}

struct Coordinator {
    pools: Pools,
    shared: Shared,
    tasks: TaskTracker,
}

impl Coordinator {
    async fn run(self, mut receiver: mpsc::Receiver<GroupUpdate>, stop: CancellationToken) {
        loop {
            let first = tokio::select! {
                () = stop.cancelled() => return,
                update = receiver.recv() => update,
            };
            let Some(first) = first else { return };
            let mut updates = vec![first];
            let settled = tokio::time::sleep(SETTLE);
            tokio::pin!(settled);
            loop {
                tokio::select! {
                    () = &mut settled => break,
                    update = receiver.recv() => match update {
                        Some(update) => updates.push(update),
                        None => break,
                    }
                }
            }
            // Under the lock that `apply` takes: a configuration that has been replaced changes nothing any more.
            let mut pools = self.pools.write();
            if stop.is_cancelled() {
                return;
            }
            let mut changed = BTreeSet::new();
            for update in updates {
                let (job, index) = update.origin;
                let Some(pool) = pools.get_mut(&job) else { continue };
                pool.silent.remove(&index);
                for group in update.groups {
                    let key = (index, group.source.clone());
                    if group.targets.is_empty() {
                        pool.groups.remove(&key);
                    } else {
                        pool.groups.insert(key, group);
                    }
                }
                changed.insert(job);
            }
            for job in changed {
                if let Some(pool) = pools.get_mut(&job) {
                    self.sync(&job, pool);
                }
            }
        }
    }

    /// Starts and stops loops so that there is one for each target of the pool's groups.
    fn sync(&self, job: &str, pool: &mut Pool) {
        let keep_dropped =
            pool.config.keep_dropped_targets.filter(|limit| *limit > 0).unwrap_or(u64::MAX) as usize;
        pool.dropped.clear();
        pool.dropped_count = 0;
        let mut wanted: HashMap<u64, Box<Target>> = HashMap::new();
        for group in pool.groups.values() {
            for discovered in &group.targets {
                match populate(&pool.config, group, discovered) {
                    Outcome::Kept(target) => {
                        wanted.insert(target.hash(), target);
                    }
                    Outcome::Dropped(labels) => {
                        pool.dropped_count += 1;
                        if pool.dropped.len() < keep_dropped {
                            pool.dropped.push(labels);
                        }
                    }
                    Outcome::Invalid(reason) => {
                        tracing::warn!(job, %reason, "a discovered target cannot be scraped")
                    }
                }
            }
        }
        let limit = pool.config.target_limit.filter(|limit| *limit > 0);
        *pool.refused.lock() = limit.filter(|limit| wanted.len() as u64 > *limit).map(|limit| {
            self.shared.counters.pool_over_limit.inc();
            format!("target_limit exceeded (number of targets: {}, limit: {limit})", wanted.len())
        });
        self.shared.counters.pool_targets.with([job]).set(wanted.len() as f64);
        let gone: Vec<u64> = pool.loops.keys().filter(|hash| !wanted.contains_key(hash)).copied().collect();
        for hash in gone {
            if let Some(running) = pool.loops.remove(&hash) {
                self.track(running.stop());
            }
        }
        for (hash, target) in wanted {
            if let Some(running) = pool.inherited.remove(&hash) {
                self.track(running.replace());
            }
            pool.loops.entry(hash).or_insert_with(|| {
                TargetLoop::start(
                    Arc::new(*target),
                    pool.config.clone(),
                    self.shared.clone(),
                    pool.refused.clone(),
                )
            });
        }
        if pool.silent.is_empty() {
            pool.inherited.drain().for_each(|(_, running)| self.track(running.stop()));
        }
    }

    fn track(&self, task: tokio::task::JoinHandle<()>) {
        self.tasks.spawn(async move {
            let _ = task.await;
        });
    }
}
