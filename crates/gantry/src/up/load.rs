//! Load from the console: the project's scenarios, driven through this `up`'s own gateway, one run at a time.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gantry_clock::Clock;
use gantry_console::{LoadControl, LoadRequest, LoadRun, LoadScenario, LoadThreshold, LoadView, LoadWish};
use gantry_load::{Options, Run, Scenario, Snapshot, Summary, Target};
use gantry_prom_model::Registry;
use parking_lot::Mutex;

const MOST_SCENARIOS: usize = 50;
/// Files looked at for them.
const MOST_FILES: usize = 500;
/// The page asks every second; the folders are read again after this long.
const LOOK_EVERY_MS: i64 = 2_000;
const MOST_BYTES: u64 = 256 * 1024;
/// An hour of seconds; a longer run shows its last hour.
const MOST_POINTS: usize = 3600;

/// Implements the console's [`LoadControl`] for a running stack.
pub(super) struct LoadFromPage {
    folders: Vec<PathBuf>,
    gateway: SocketAddr,
    registry: Registry,
    clock: Arc<dyn Clock>,
    current: Arc<Mutex<Option<Current>>>,
    /// The scenarios found last, and when.
    found: Mutex<Option<(i64, Vec<LoadScenario>)>>,
}

/// The run that goes on, or the last one.
struct Current {
    /// `None` when it is over.
    run: Option<Arc<Run>>,
    number: u64,
    shown: LoadRun,
}

// === impl LoadFromPage ===

impl LoadFromPage {
    /// Scenarios are looked for in the kustomization's folder and in those above it up to the project's.
    pub(super) fn new(
        dir: &Path,
        project: &Path,
        gateway: SocketAddr,
        registry: Registry,
        clock: Arc<dyn Clock>,
    ) -> Arc<LoadFromPage> {
        let mut folders: Vec<PathBuf> = Vec::new();
        for folder in dir.ancestors() {
            folders.push(folder.to_owned());
            if folder == project || !dir.starts_with(project) {
                break;
            }
        }
        Arc::new(LoadFromPage {
            folders,
            gateway,
            registry,
            clock,
            current: Arc::default(),
            found: Mutex::default(),
        })
    }

    fn scenarios(&self) -> Vec<LoadScenario> {
        let now_ms = self.clock.now_ms();
        let mut kept = self.found.lock();
        if let Some((at_ms, found)) = &*kept
            && now_ms - at_ms < LOOK_EVERY_MS
        {
            return found.clone();
        }
        let mut found = Vec::new();
        for folder in &self.folders {
            let Ok(entries) = std::fs::read_dir(folder) else { continue };
            let mut paths: Vec<PathBuf> =
                entries.flatten().map(|entry| entry.path()).filter(|path| is_yaml(path)).collect();
            paths.sort_unstable();
            paths.truncate(MOST_FILES);
            for path in paths {
                if found.len() < MOST_SCENARIOS
                    && let Some(scenario) = scenario(&path)
                {
                    found.push(scenario);
                }
            }
        }
        *kept = Some((now_ms, found.clone()));
        found
    }
}

fn is_yaml(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
}

/// The file, if it is a scenario: it has requests. One with a mistake is shown too, and told so when it is started.
fn scenario(path: &Path) -> Option<LoadScenario> {
    if std::fs::metadata(path).ok()?.len() > MOST_BYTES {
        return None;
    }
    let text = std::fs::read_to_string(path).ok()?;
    if !text.lines().any(|line| line.starts_with("requests:")) {
        return None;
    }
    let name = path.file_name()?.to_string_lossy().into_owned();
    Some(LoadScenario { name, text })
}

impl LoadControl for LoadFromPage {
    fn view(&self) -> LoadView {
        let run = self.current.lock().as_ref().map(|current| {
            let mut shown = current.shown.clone();
            if shown.running {
                shown.seconds = (self.clock.now_ms() - shown.started_ms) as f64 / 1000.0;
            }
            shown
        });
        LoadView { scenarios: self.scenarios(), run }
    }

    fn start(&self, wish: LoadWish) -> Result<(), String> {
        let name = if wish.name.is_empty() { "scenario" } else { &wish.name };
        let mut scenario = Scenario::parse(name, &wish.text).map_err(|error| error.to_string())?;
        let mut current = self.current.lock();
        if let Some(current) = current.as_ref().filter(|current| current.run.is_some()) {
            return Err(format!("{} is still running; stop it first", current.shown.scenario));
        }
        let target = through_the_gateway(&mut scenario, self.gateway)?;
        let shown = LoadRun {
            scenario: scenario.name.clone(),
            target: format!("{target} (the gateway)"),
            running: true,
            started_ms: self.clock.now_ms(),
            duration: scenario.duration().as_secs_f64(),
            ..LoadRun::default()
        };
        let options =
            Options { target: Some(target), registry: Some(self.registry.clone()), ..Options::default() };
        let run = Run::start(scenario, self.clock.clone(), options).map_err(|error| error.to_string())?;
        let run = Arc::new(run);
        let number = current.as_ref().map_or(0, |current| current.number + 1);
        *current = Some(Current { run: Some(run.clone()), number, shown });
        tokio::spawn(follow(self.current.clone(), run, number));
        Ok(())
    }

    fn stop(&self) {
        if let Some(run) = self.current.lock().as_ref().and_then(|current| current.run.as_ref()) {
            run.stop();
        }
    }
}

/// Sends to the gateway, for the host that the scenario's own target names.
pub(crate) fn through_the_gateway(scenario: &mut Scenario, gateway: SocketAddr) -> Result<Target, String> {
    let names_host = scenario.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host"));
    if let Some(target) = scenario.target.as_ref().filter(|_| !names_host) {
        let text = target.to_string();
        let authority = text.split_once("://").map_or(text.as_str(), |(_, rest)| rest);
        let host = authority.split(['/', ':']).next().unwrap_or_default();
        scenario.headers.push(("Host".to_owned(), host.to_owned()));
    }
    Target::parse(&format!("http://{gateway}"))
}

/// Keeps what the page shows up to date until the run is over.
async fn follow(current: Arc<Mutex<Option<Current>>>, run: Arc<Run>, number: u64) {
    let mut snapshots = run.snapshots();
    while snapshots.changed().await.is_ok() {
        let snapshot = snapshots.borrow_and_update().clone();
        let mut current = current.lock();
        let Some(shown) = current.as_mut().filter(|current| current.number == number) else { return };
        if let Some(snapshot) = snapshot {
            add(&mut shown.shown, &snapshot);
        }
    }
    let summary = run.wait().await;
    if let Some(current) = current.lock().as_mut().filter(|current| current.number == number) {
        finish(&mut current.shown, &summary);
        current.run = None;
    }
}

fn add(shown: &mut LoadRun, snapshot: &Snapshot) {
    let seconds = |ms: Option<f64>| ms.map(|ms| ms / 1000.0);
    shown.total_requests = snapshot.total_requests;
    shown.total_failed = snapshot.total_failed;
    shown.times_ms.push(snapshot.at_ms);
    shown.rate.push(snapshot.rate);
    shown.failed.push(snapshot.failed as f64);
    shown.p50.push(seconds(snapshot.intended.p50_ms));
    shown.p99.push(seconds(snapshot.intended.p99_ms));
    shown.users.push(snapshot.users as f64);
    shown.in_flight.push(snapshot.in_flight as f64);
    if shown.times_ms.len() > MOST_POINTS {
        shown.times_ms.remove(0);
        for column in [&mut shown.rate, &mut shown.failed, &mut shown.users, &mut shown.in_flight] {
            column.remove(0);
        }
        shown.p50.remove(0);
        shown.p99.remove(0);
    }
    let request = |request: &gantry_load::RequestSnapshot| LoadRequest {
        name: request.name.clone(),
        rate: request.rate,
        failed: request.failed,
        p50_seconds: seconds(request.p50_ms),
        p99_seconds: seconds(request.p99_ms),
    };
    shown.requests = snapshot.requests.iter().map(request).collect();
}

fn finish(shown: &mut LoadRun, summary: &Summary) {
    let seconds = |ms: Option<f64>| ms.map(|ms| ms / 1000.0);
    let request = |request: &gantry_load::RequestSummary| LoadRequest {
        name: request.name.clone(),
        rate: request.rate,
        failed: request.failed,
        p50_seconds: seconds(request.intended.p50_ms),
        p99_seconds: seconds(request.intended.p99_ms),
    };
    let threshold = |outcome: &gantry_load::Outcome| LoadThreshold {
        expr: outcome.threshold.clone(),
        passed: outcome.passed,
        measured: outcome.measured.clone(),
    };
    shown.running = false;
    shown.seconds = summary.seconds;
    shown.total_requests = summary.total.requests;
    shown.total_failed = summary.total.failed;
    shown.requests = summary.requests.iter().map(request).collect();
    shown.thresholds = summary.thresholds.iter().map(threshold).collect();
    shown.ended_early.clone_from(&summary.ended_early);
}
