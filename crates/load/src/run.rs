//! A run: threads that send, and one that collects every second, judges and keeps the timeline.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use gantry_clock::Clock;
use gantry_prom_model::Registry;
use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

use crate::encode::encode;
use crate::executor::{self, Target, Work};
use crate::recorder::{Recorder, Window};
use crate::scenario::{Load, Scenario};
use crate::series::Series;
use crate::summary::{
    GeneratorSummary, LatencySummary, RequestSnapshot, RequestSummary, Snapshot, Summary, share,
};
use crate::threshold::Judge;
use crate::tls::{Trust, client_config};

const SECOND: Duration = Duration::from_secs(1);
/// Two hours at one snapshot per second; a longer run keeps every second, third … one.
const MOST_SNAPSHOTS: usize = 7200;
/// With fewer users (or in flight) than this per thread, another thread costs more than it gives.
const LEAST_PER_THREAD: u64 = 8;

/// What a run needs beyond its scenario.
#[derive(Default)]
pub struct Options {
    /// Instead of the scenario's target.
    pub target: Option<Target>,
    /// Threads that send; 0: one per core, fewer when the load is small.
    pub threads: usize,
    /// Where the series of the run are registered: `gantry_load_…`.
    pub registry: Option<Registry>,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("where to: the scenario has no target, and none was given")]
    NoTarget,
    #[error("target {target}: {error}")]
    Resolve { target: String, error: std::io::Error },
    #[error("target {target}: the name has no address")]
    NoAddress { target: String },
    #[error("target {target}: {reason}")]
    Tls { target: String, reason: String },
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}

/// A run that goes on. Dropping it stops the load without waiting.
pub struct Run {
    stop: watch::Sender<bool>,
    snapshots: watch::Receiver<Option<Snapshot>>,
    summary: watch::Receiver<Option<Arc<Summary>>>,
}

/// Wakes the collector before its second is over.
#[derive(Default)]
struct Ended {
    flag: Mutex<bool>,
    changed: Condvar,
}

struct Collector {
    scenario: Arc<Scenario>,
    target: String,
    clock: Arc<dyn Clock>,
    start: Duration,
    started_ms: i64,
    recorders: Vec<Recorder>,
    names: Vec<String>,
    series: Series,
    judges: Vec<Judge>,
    whole: Window,
    timeline: Vec<Snapshot>,
    /// Every how many seconds one is kept.
    stride: u64,
    seconds: u64,
    last_collection: Duration,
    ended_early: Option<String>,
}

// === impl Run ===

impl Run {
    /// Resolves the target and starts the threads; the first request is due now.
    pub fn start(scenario: Scenario, clock: Arc<dyn Clock>, options: Options) -> Result<Run, StartError> {
        let target = options.target.or_else(|| scenario.target.clone()).ok_or(StartError::NoTarget)?;
        let name = target.to_string();
        let addresses =
            target.resolve().map_err(|error| StartError::Resolve { target: name.clone(), error })?;
        if addresses.is_empty() {
            return Err(StartError::NoAddress { target: name });
        }
        let tls = match (target.is_https(), &scenario.trust) {
            (false, _) => None,
            (true, None) => {
                let reason = "say how its certificate is checked: tls: {ca: PEM} or tls: {insecure: true}";
                return Err(StartError::Tls { target: name, reason: reason.to_owned() });
            }
            (true, Some(trust)) => Some(
                tls_for(&target, trust).map_err(|reason| StartError::Tls { target: name.clone(), reason })?,
            ),
        };
        let threads = thread_count(&scenario, options.threads);
        let scenario = Arc::new(scenario);
        let encoded = Arc::new(encode(&scenario, &target));
        let names: Vec<String> = scenario.requests.iter().map(|request| request.name.clone()).collect();
        let recorders: Vec<Recorder> = (0..threads).map(|_| Recorder::new(names.len())).collect();
        let (stop, stopping) = watch::channel(false);
        let start = clock.monotonic();
        let ended = Arc::new(Ended::default());
        let mut senders = Vec::with_capacity(recorders.len());
        for (index, recorder) in (0_u64..).zip(&recorders) {
            let work = Work {
                scenario: scenario.clone(),
                encoded: encoded.clone(),
                addresses: addresses.clone(),
                tls: tls.clone(),
                clock: clock.clone(),
                start,
                index,
                threads,
                recorder: recorder.clone(),
                stop: stopping.clone(),
            };
            senders.push(spawn(&format!("load-{index}"), move || executor::run(work))?);
        }
        let registry = options.registry.unwrap_or_default();
        let series = Series::new(&registry, &names);
        let collector = Collector {
            target: name,
            started_ms: clock.now_ms(),
            clock,
            start,
            recorders,
            series,
            judges: scenario.thresholds.load.iter().map(|threshold| Judge::new(threshold, &names)).collect(),
            whole: Window::new(names.len()),
            names,
            scenario,
            timeline: Vec::new(),
            stride: 1,
            seconds: 0,
            last_collection: start,
            ended_early: None,
        };
        let (snapshot_sender, snapshots) = watch::channel(None);
        let (summary_sender, summary) = watch::channel(None);
        let stopper = stop.clone();
        let waiting = ended.clone();
        spawn("load-wait", move || {
            let failed = senders.into_iter().find_map(|sender| match sender.join() {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(format!("a thread could not start: {error}")),
                Err(_) => Some("a thread ended by a panic".to_owned()),
            });
            *waiting.flag.lock() = true;
            waiting.changed.notify_all();
            failed
        })
        .and_then(|waiter| {
            spawn("load-collect", move || {
                let summary = collector.run(&ended, &stopper, &snapshot_sender, waiter);
                let _ = summary_sender.send(Some(Arc::new(summary)));
            })
        })?;
        Ok(Run { stop, snapshots, summary })
    }

    /// The newest second, `None` before the first is over. Await `changed` on it for the next; it is closed at the end.
    pub fn snapshots(&self) -> watch::Receiver<Option<Snapshot>> {
        self.snapshots.clone()
    }

    /// Sends no further request; those in flight may end within the scenario's grace period.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// What the run came to, when it is over.
    pub async fn wait(&self) -> Arc<Summary> {
        let mut summary = self.summary.clone();
        match summary.wait_for(Option::is_some).await {
            Ok(found) => found.clone().unwrap_or_default(),
            // The collector is gone without a word: it panicked.
            Err(_) => Arc::new(Summary {
                ended_early: Some("the collector ended without a summary".to_owned()),
                ..Summary::default()
            }),
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.stop();
    }
}

fn spawn<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, StartError> {
    thread::Builder::new().name(name.to_owned()).spawn(body).map_err(StartError::Thread)
}

fn tls_for(
    target: &Target,
    trust: &Trust,
) -> Result<(Arc<rustls::ClientConfig>, rustls::pki_types::ServerName<'static>), String> {
    Ok((client_config(trust)?, target.server_name()?))
}

fn thread_count(scenario: &Scenario, wanted: usize) -> u64 {
    if wanted > 0 {
        return (wanted as u64).min(256);
    }
    let cores = thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let parallel = match &scenario.load {
        Load::Users { level, .. } => level.max() as u64,
        // A thread sends tens of thousands per second; this leaves room for slow machines.
        Load::Arrivals { level, .. } => (level.max() / 500.0) as u64,
    };
    cores.min(parallel.div_ceil(LEAST_PER_THREAD)).max(1)
}

// === impl Ended ===

impl Ended {
    /// True as soon as every sender is gone, false when `time` is over first.
    fn wait(&self, time: Duration) -> bool {
        let mut flag = self.flag.lock();
        if !*flag {
            let _ = self.changed.wait_for(&mut flag, time);
        }
        *flag
    }
}

// === impl Collector ===

impl Collector {
    fn run(
        mut self,
        ended: &Ended,
        stop: &watch::Sender<bool>,
        snapshots: &watch::Sender<Option<Snapshot>>,
        waiter: JoinHandle<Option<String>>,
    ) -> Summary {
        loop {
            let next = self.start + SECOND * u32::try_from(self.seconds + 1).unwrap_or(u32::MAX);
            let over = ended.wait(next.saturating_sub(self.clock.monotonic()));
            if !over && self.clock.monotonic() < next {
                continue;
            }
            let (snapshot, abort) = self.collect();
            snapshots.send_replace(Some(snapshot));
            if let Some(reason) = abort {
                self.ended_early.get_or_insert(reason);
                stop.send_replace(true);
            }
            if over {
                break;
            }
        }
        if *stop.borrow() {
            self.ended_early.get_or_insert_with(|| "stopped".to_owned());
        }
        if let Ok(Some(problem)) = waiter.join() {
            self.ended_early = Some(problem);
        }
        self.finish()
    }

    /// One second more: its snapshot, and why the run must end if it must.
    fn collect(&mut self) -> (Snapshot, Option<String>) {
        self.seconds += 1;
        let now = self.clock.monotonic();
        let elapsed = now.saturating_sub(self.start);
        let window_seconds = now.saturating_sub(self.last_collection).as_secs_f64().max(1e-6);
        self.last_collection = now;
        let mut window = Window::new(self.names.len());
        let (mut users, mut in_flight) = (0, 0);
        for recorder in &self.recorders {
            window.merge(&recorder.take());
            users += recorder.gauges().users.load(Ordering::Relaxed);
            in_flight += recorder.gauges().in_flight.load(Ordering::Relaxed);
        }
        self.whole.merge(&window);
        self.series.add(&window);
        let target = self.scenario.load.level().at(elapsed);
        self.series.users.set(users as f64);
        self.series.in_flight.set(in_flight as f64);
        self.series.target.set(target);
        let total = window.total();
        let requests = self.names.iter().zip(&window.requests).map(|(name, counts)| {
            let latency = LatencySummary::of(&counts.intended);
            RequestSnapshot {
                name: name.clone(),
                rate: counts.requests as f64 / window_seconds,
                failed: counts.failed(),
                p50_ms: latency.p50_ms,
                p99_ms: latency.p99_ms,
            }
        });
        let snapshot = Snapshot {
            at_ms: self.clock.now_ms(),
            elapsed: elapsed.as_secs_f64(),
            target,
            users,
            in_flight,
            rate: total.requests as f64 / window_seconds,
            failed: total.failed(),
            error_rate: share(total.failed(), total.requests),
            intended: LatencySummary::of(&total.intended),
            sent: LatencySummary::of(&total.sent),
            lag_p99_ms: window.lag.quantile_us(0.99).map(|us| us as f64 / 1000.0),
            total_requests: self.whole.requests.iter().map(|counts| counts.requests).sum(),
            total_failed: self.whole.requests.iter().map(|counts| counts.failed()).sum(),
            requests: requests.collect(),
        };
        self.keep(&snapshot);
        let abort = self.judges.iter_mut().filter_map(|judge| judge.second(&window, elapsed)).next();
        (snapshot, abort)
    }

    fn keep(&mut self, snapshot: &Snapshot) {
        if self.timeline.len() >= MOST_SNAPSHOTS {
            let mut index = 0;
            self.timeline.retain(|_| {
                index += 1;
                index % 2 == 0
            });
            self.stride *= 2;
        }
        if self.seconds.is_multiple_of(self.stride) {
            self.timeline.push(snapshot.clone());
        }
    }

    fn finish(self) -> Summary {
        // Requests that end in the grace period belong to the load, not to a longer run.
        let ran = self.last_collection.saturating_sub(self.start).min(self.scenario.duration());
        let seconds = ran.as_secs_f64().max(1e-6);
        let connects = self.recorders.iter().map(|r| r.gauges().connects.load(Ordering::Relaxed)).sum();
        let whole = &self.whole;
        let thresholds: Vec<_> = self.judges.into_iter().map(|judge| judge.verdict(whole, seconds)).collect();
        let failed_abort = self.ended_early.as_ref().is_some_and(|reason| reason != "stopped");
        Summary {
            scenario: self.scenario.name.clone(),
            target: self.target,
            started_ms: self.started_ms,
            seconds,
            total: RequestSummary::of("all", &whole.total(), seconds),
            requests: self
                .names
                .iter()
                .zip(&whole.requests)
                .map(|(name, counts)| RequestSummary::of(name, counts, seconds))
                .collect(),
            generator: GeneratorSummary::of(whole, self.recorders.len() as u64, connects),
            passed: !failed_abort && thresholds.iter().all(|outcome| outcome.passed),
            thresholds,
            ended_early: self.ended_early,
            timeline: self.timeline,
        }
    }
}
