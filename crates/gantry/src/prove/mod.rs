//! `gantry prove`: the loop as a verdict. Bring up, wait, drive the load, assert, report.

mod assertions;
mod observe;
mod world;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use gantry_clock::{Clock, SystemClock};
use gantry_load::report::{Assertion, Event, Report};
use gantry_load::{Options, PromqlThreshold, Run, Scenario, Snapshot, Summary, Target, When};
use gantry_yaml::Node;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use self::assertions::{Assertions, Verdict, judge_path, judge_recovery};
use self::observe::Observed;
use self::world::World;
use crate::up::control::VerbResult;
use crate::up::steps::{Output, Steps};

/// How long a scenario without `recover` waits for the replicas to come back before the path is judged.
const DEFAULT_RECOVERY: Duration = Duration::from_secs(120);
/// The step of range queries for thresholds that must hold `always` or `once`.
const QUERY_STEP: Duration = Duration::from_secs(1);

pub(crate) struct ProveOptions {
    pub dir: PathBuf,
    pub scenario: PathBuf,
    pub context: Option<String>,
    /// Where PromQL thresholds are asked when the cluster is not ours.
    pub prometheus: Option<String>,
    pub junit: PathBuf,
    pub report: PathBuf,
    pub data_dir: Option<PathBuf>,
    pub output: Output,
}

type Error = Box<dyn std::error::Error>;

pub(crate) fn prove(options: &ProveOptions) -> VerbResult {
    // Everything that can be wrong in files is found before anything is started.
    let (scenario, assertions) = read_scenario(&options.scenario)?;
    crate::up::logging();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut steps = Steps::new(options.output);
    let passed = runtime.block_on(run(options, scenario, &assertions, &mut steps))?;
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn read_scenario(path: &Path) -> Result<(Scenario, Assertions), Error> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {name}: {error}"))?;
    let scenario = Scenario::parse(&name, &text)?;
    let documents = gantry_yaml::parse_documents(gantry_yaml::FileId(0), &text)?;
    let assertions = match documents.first().and_then(|node: &Node| node.get("prove")) {
        None => Assertions::default(),
        Some(node) => gantry_yaml::from_node(node).map_err(|error| error.in_file(&name, &text))?,
    };
    Ok((scenario, assertions))
}

async fn run(
    options: &ProveOptions,
    mut scenario: Scenario,
    assertions: &Assertions,
    steps: &mut Steps,
) -> Result<bool, Error> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let interrupted = CancellationToken::new();
    tokio::spawn(cancel_on_signal(interrupted.clone()));
    let world = World::make(options, steps, &interrupted).await?;
    let outcome = async {
        let target = world.target(&mut scenario)?;
        let observed = Observed::default();
        let watching = CancellationToken::new();
        let _stop_watching = watching.clone().drop_guard();
        tokio::spawn(observed.clone().run(world.client(), clock.clone(), watching.clone()));

        let thresholds = scenario.thresholds.promql.clone();
        let summary = drive(scenario, target, &world, &clock, steps, &interrupted).await?;
        let load_ended = clock.now_ms();
        steps.done("load", &format!("{} requests, {} failed", summary.total.requests, summary.total.failed));

        let mut verdicts = Vec::new();
        for threshold in &thresholds {
            let verdict = judge_threshold(&world, threshold, summary.started_ms, load_ended).await;
            verdicts.push(("promql", verdict));
        }
        let recovered = recovery(assertions, &observed, &interrupted).await;
        if let Some(took) = recovered {
            steps.done("recovery", &format!("{:.1} s after the load", took.as_secs_f64()));
        }
        for path in &assertions.replicas {
            verdicts.push(("replicas", judge_path(path, &observed.path(&path.target))));
        }
        if let Some(recover) = &assertions.recover {
            verdicts.push(("recovery", judge_recovery(recover, recovered)));
        }
        let events = world.events(summary.started_ms).await.unwrap_or_else(|error| {
            // Who may not read Events still gets a verdict.
            steps
                .warn(&format!("the report shows no rescales: {}", gantry_operator::explain(error.as_ref())));
            Vec::new()
        });
        Ok::<_, Error>(make_report(&summary, &observed, events, verdicts, clock.now_ms()))
    }
    .await;
    world.end(steps).await;
    let report = outcome?;
    write(&options.junit, &report.to_junit())?;
    write(&options.report, &report.to_html())?;
    say(options, &report, steps);
    Ok(report.passed())
}

async fn cancel_on_signal(cancel: CancellationToken) {
    crate::up::signals::ended_by_user().await;
    cancel.cancel();
}

/// Runs the load to its end, with a line of progress every second on a terminal.
async fn drive(
    scenario: Scenario,
    target: Target,
    world: &World,
    clock: &Arc<dyn Clock>,
    steps: &Steps,
    interrupted: &CancellationToken,
) -> Result<Arc<Summary>, Error> {
    let total = scenario.duration();
    let options = Options { target: Some(target), threads: 1, registry: Some(world.load_registry()) };
    let run = Run::start(scenario, clock.clone(), options)?;
    let mut snapshots = run.snapshots();
    let mut waiting = std::pin::pin!(run.wait());
    loop {
        tokio::select! {
            summary = &mut waiting => {
                steps.progress(None);
                return Ok(summary);
            }
            Ok(()) = snapshots.changed() => {
                let line = snapshots.borrow_and_update().as_ref().map(|snapshot| progress_line(snapshot, total));
                steps.progress(line.as_deref());
            }
            () = interrupted.cancelled() => return Err("interrupted before the load had ended".into()),
        }
    }
}

fn progress_line(snapshot: &Snapshot, total: Duration) -> String {
    let p99 = snapshot.intended.p99_ms.map(|ms| format!("{ms:.0} ms")).unwrap_or_else(|| "–".to_owned());
    format!(
        "{:>3.0} of {:.0} s  {:>6.0}/s  p99 {p99}  {} failed",
        snapshot.elapsed,
        total.as_secs_f64(),
        snapshot.rate,
        snapshot.total_failed
    )
}

/// Waits until every judged path has reached its last count and everything is healthy; gives the time it took.
async fn recovery(
    assertions: &Assertions,
    observed: &Observed,
    interrupted: &CancellationToken,
) -> Option<Duration> {
    if assertions.recover.is_none() && assertions.replicas.is_empty() {
        return None;
    }
    let within = assertions.recover.as_ref().map_or(DEFAULT_RECOVERY, |recover| recover.within);
    let began = tokio::time::Instant::now();
    while began.elapsed() <= within && !interrupted.is_cancelled() {
        let paths_done =
            assertions.replicas.iter().all(|path| judge_path(path, &observed.path(&path.target)).passed);
        if paths_done && observed.latest().iter().all(|workload| workload.healthy) {
            return Some(began.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    None
}

async fn judge_threshold(world: &World, threshold: &PromqlThreshold, from_ms: i64, to_ms: i64) -> Verdict {
    let verdict = |passed: bool, observed: String| Verdict { name: threshold.name.clone(), observed, passed };
    match threshold.when {
        When::End => match world.query(&threshold.expr, to_ms).await {
            Ok(values) if values.is_empty() => verdict(false, format!("{} gave nothing", threshold.expr)),
            Ok(values) => verdict(true, show(&values)),
            Err(error) => verdict(false, error),
        },
        When::Always | When::Once => {
            match world.count_steps(&threshold.expr, from_ms, to_ms, QUERY_STEP).await {
                Ok((held, steps)) => {
                    let passed = if threshold.when == When::Always { held == steps } else { held > 0 };
                    verdict(passed, format!("held at {held} of {steps} steps of {} s", QUERY_STEP.as_secs()))
                }
                Err(error) => verdict(false, error),
            }
        }
    }
}

fn show(values: &[f64]) -> String {
    let shown: Vec<String> = values.iter().take(8).map(|value| format!("{value}")).collect();
    shown.join(", ")
}

fn make_report(
    summary: &Summary,
    observed: &Observed,
    events: Vec<Event>,
    verdicts: Vec<(&'static str, Verdict)>,
    now_ms: i64,
) -> Report {
    let mut report = Report::of_run(summary);
    report.lanes.push(observed.lane(now_ms));
    report.events.extend(events);
    report.seconds = ((now_ms - report.started_ms) as f64 / 1000.0).max(report.seconds);
    report.assertions.extend(verdicts.into_iter().map(|(group, verdict)| Assertion {
        group: group.to_owned(),
        name: verdict.name,
        passed: verdict.passed,
        message: verdict.observed,
        seconds: summary.seconds,
    }));
    report
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    std::fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()).into())
}

fn say(options: &ProveOptions, report: &Report, steps: &Steps) {
    let mut text = String::from("\n");
    for assertion in &report.assertions {
        let mark = if assertion.passed { steps.paint("32", "✓") } else { steps.paint("31", "✗") };
        text.push_str(&format!("{mark} {}  ({})\n", assertion.name, assertion.message));
    }
    let verdict = if report.passed() { steps.paint("32", "proved") } else { steps.paint("31", "not proved") };
    text.push_str(&format!("\n{verdict}: {} and {}", options.report.display(), options.junit.display()));
    let assertions: Vec<_> = report
        .assertions
        .iter()
        .map(|a| json!({"group": a.group, "name": a.name, "passed": a.passed, "message": a.message}))
        .collect();
    let value = json!({
        "passed": report.passed(),
        "assertions": assertions,
        "report": options.report,
        "junit": options.junit,
    });
    steps.report(&value, &text);
}
