//! `gantry up`: the one place where all engines meet. Builds, starts, applies, waits, and ends everything again.

mod applied;
pub(crate) mod control;
mod custom_metrics;
pub(crate) mod detach;
mod doors;
mod keda;
pub(crate) mod load;
pub(crate) mod logs;
pub(crate) mod metrics;
mod network;
mod page;
mod pod_network;
pub(crate) mod ports;
mod preflight;
mod project;
mod reload;
mod scaling;
mod sharing;
pub(crate) mod signals;
pub(crate) mod stack;
pub(crate) mod state;
mod state_metrics;
pub(crate) mod status;
pub(crate) mod steps;
mod type_docs;
mod vpa;
mod wake;

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use gantry_apimachinery::Value;
use gantry_kustomize::Build;
use gantry_workloads::health::{Workload, survey};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use self::applied::{Applied, count};
use self::control::VerbResult;
use self::ports::Ports;
use self::project::LoadedProject;
use self::reload::Sources;
use self::stack::{Stack, StackConfig};
use self::state::{Addresses, Lock, State, StateDir, process_start_time};
use self::steps::{Output, Steps};

/// A workload that is not ready by then is an error; nothing in a laptop's loop takes longer.
const READY_TIMEOUT: Duration = Duration::from_secs(120);
/// Nobody should look at a silent terminal for longer: what is waited for is said, and again when that changes.
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) type Error = Box<dyn std::error::Error>;

#[derive(Clone, Debug)]
pub(crate) struct UpOptions {
    pub dir: PathBuf,
    pub data_dir: PathBuf,
    pub ports: Ports,
    pub output: Output,
}

/// Everything that runs, and the folder it holds.
pub(crate) struct RunningUp {
    pub stack: Stack,
    pub addresses: Addresses,
    state_dir: StateDir,
    project: LoadedProject,
    /// What can be run here is judged again with every change.
    node: gantry_node::Config,
    sources: Sources,
    applied: Applied,
    /// What the file of `metricRules` held.
    metric_rules: Option<String>,
    warned: Vec<String>,
    _lock: Lock,
}

/// `gantry up DIR`, until a signal ends it.
pub(crate) fn run_in_foreground(options: &UpOptions) -> VerbResult {
    logging();
    // One thread for requests and one for everything else is what a small machine has to give.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut steps = Steps::new(options.output);
    runtime.block_on(async {
        let ended = CancellationToken::new();
        let signal = ended.clone();
        tokio::spawn(async move {
            signals::ended_by_user().await;
            signal.cancel();
        });
        let mut running = match RunningUp::start(options, &mut steps, &ended).await {
            Err(_) if ended.is_cancelled() => {
                return Err("interrupted before everything was ready; what had been started is ended".into());
            }
            started => started?,
        };
        announce(&running, &steps);
        running.follow(&mut steps, &ended).await;
        running.end(&mut steps).await;
        Ok(ExitCode::SUCCESS)
    })
}

/// Logs go to standard error, so that standard output stays what `--output` says. `RUST_LOG` chooses how much.
pub(crate) fn logging() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    // An embedding program may have chosen its own.
    let _ = subscriber.try_init();
}

// === impl RunningUp ===

impl RunningUp {
    /// Brings everything up, or ends what it had started and says why.
    pub(crate) async fn start(
        options: &UpOptions,
        steps: &mut Steps,
        ended: &CancellationToken,
    ) -> Result<RunningUp, Error> {
        let dir = std::path::absolute(&options.dir)?;
        let project = LoadedProject::find(&dir)?;
        let mut sources = Sources::new(&dir);
        let build = sources.build(&project)?;
        for warning in &build.warnings {
            steps.warn(warning);
        }
        steps.done("built", &format!("{}: {} objects", options.dir.display(), build.objects.len()));

        let state_dir = StateDir::open(&options.data_dir)?;
        let lock = state_dir.lock()?;
        let config = StackConfig::new(&state_dir, &options.dir, &project, options.ports)?;
        preflight::check(&build.objects, &config.node, |value| place_of(&build, value))?;
        let passed_over = preflight::rules_passed_over(&build.objects);
        for warning in &passed_over {
            steps.warn(warning);
        }
        let node = config.node.clone();

        let stack = Stack::start(config, steps).await?;
        let addresses = stack.addresses();
        let mut state = State {
            pid: std::process::id(),
            pid_start_time: process_start_time(std::process::id()).unwrap_or(0),
            dir: options.dir.clone(),
            ready: false,
            addresses: Some(addresses.clone()),
            kubeconfig: state_dir.kubeconfig(),
        };
        let mut running = RunningUp {
            stack,
            addresses,
            state_dir,
            metric_rules: custom_metrics::text(&project),
            project,
            node,
            sources,
            applied: Applied::default(),
            warned: build.warnings.iter().cloned().chain(passed_over).collect(),
            _lock: lock,
        };
        let brought = async {
            running.state_dir.write_state(&state)?;
            running.apply(&build, steps).await?;
            wait_until_ready(&running.stack, &running.applied, steps, ended).await?;
            state.ready = true;
            running.state_dir.write_state(&state)?;
            Ok::<_, Error>(())
        };
        match brought.await {
            Ok(()) => Ok(running),
            Err(error) => {
                running.end(&mut Steps::silent()).await;
                Err(error)
            }
        }
    }

    async fn apply(&mut self, build: &Build, steps: &mut Steps) -> Result<(), Error> {
        let mut changed = Vec::new();
        let place_of = |value: &Value| place_of(build, value);
        let (client, objects) = (self.stack.client(), &build.objects);
        self.applied.update(client, &self.state_dir, objects, place_of, &mut changed).await?;
        steps.done("applied", &count(&changed, objects.len()));
        Ok(())
    }

    /// Drains, ends every process that was started, and closes the stores.
    pub(crate) async fn end(self, steps: &mut Steps) {
        // What lies between is the user's time, not ours.
        steps.restart_clock();
        self.stack.end().await;
        self.state_dir.clear_state();
        steps.done("ended", "requests drained, every process that was started has ended");
    }
}

/// Waits for every workload; what is not from the files (made by hand, by an operator) holds nothing up for long.
async fn wait_until_ready(
    stack: &Stack,
    applied: &Applied,
    steps: &mut Steps,
    ended: &CancellationToken,
) -> Result<(), Error> {
    let began = tokio::time::Instant::now();
    let deadline = began + READY_TIMEOUT;
    let mut change = stack.changes();
    let mut patient_until = began + PATIENCE;
    let mut said = String::new();
    loop {
        let workloads = survey(&stack.client()).await?;
        let unready = workloads.iter().filter(|workload| !workload.healthy);
        let (waiting, others): (Vec<&Workload>, Vec<&Workload>) =
            unready.partition(|workload| began.elapsed() < PATIENCE || applied.holds(workload));
        if waiting.is_empty() && stack.routes_are_ready() {
            if !others.is_empty() {
                steps.warn(&format!("not ready, and not from these files:{}", lines(&others)));
            }
            let pods: i32 = workloads.iter().map(|workload| workload.ready).sum();
            steps.done("pods ready", &format!("{pods} in {} workloads", workloads.len()));
            return Ok(());
        }
        if tokio::time::Instant::now() > deadline || ended.is_cancelled() {
            return Err(not_ready(&waiting).into());
        }
        if tokio::time::Instant::now() > patient_until {
            patient_until += PATIENCE;
            let text = match waiting.is_empty() {
                true => "still waiting for the gateway's routes".to_owned(),
                false => format!("still waiting:{}", lines(&waiting)),
            };
            if text != said {
                steps.warn(&text);
                said = text;
            }
        }
        // Woken by whatever changed, and looked at again soon in any case.
        let _ = tokio::time::timeout(Duration::from_millis(100), change.changed()).await;
    }
}

fn not_ready(waiting: &[&Workload]) -> String {
    format!("not ready after {} s:{}", READY_TIMEOUT.as_secs(), lines(waiting))
}

/// A line for each, with its reason.
fn lines(waiting: &[&Workload]) -> String {
    let mut text = String::new();
    for workload in waiting {
        let Workload { kind, namespace, name, ready, desired, reason, .. } = workload;
        text.push_str(&format!(
            "\n  {}/{name} in {namespace}: {ready} of {desired} ready; {reason}",
            kind.to_lowercase()
        ));
    }
    text
}

fn announce(running: &RunningUp, steps: &Steps) {
    let addresses = &running.addresses;
    let kubeconfig = running.state_dir.kubeconfig();
    let mut text = format!("\nready in {:.2} s\n\n", steps.elapsed().as_secs_f64());
    text.push_str(&address_lines(addresses, &kubeconfig));
    text.push_str(&match running.sources.unwatched() {
        None => "\nwhat is saved is applied\n".to_owned(),
        Some(reason) => format!("\nfiles are not watched, so a change needs a restart: {reason}\n"),
    });
    text.push_str("\ntry next:\n");
    for command in next_commands(running, &kubeconfig) {
        text.push_str(&format!("  {command}\n"));
    }
    let value = json!({
        "ready": true,
        "seconds": steps.elapsed().as_secs_f64(),
        "addresses": addresses,
        "kubeconfig": kubeconfig,
        "next": next_commands(running, &kubeconfig),
    });
    steps.report(&value, text.trim_end());
}

/// The four addresses, one a line, as `up` and `status` show them.
pub(crate) fn address_lines(addresses: &Addresses, kubeconfig: &Path) -> String {
    format!(
        "  API server   https://{}   KUBECONFIG={}\n  gateway      http://{}\n  metrics      http://{}\n  console      http://{}\n",
        addresses.api_server,
        kubeconfig.display(),
        addresses.gateway,
        addresses.metrics,
        addresses.console
    )
}

fn next_commands(running: &RunningUp, kubeconfig: &Path) -> Vec<String> {
    let mut commands = vec![format!("kubectl --kubeconfig {} get pods -A", kubeconfig.display())];
    let gateway = running.addresses.gateway;
    commands.push(match running.stack.first_route() {
        Some((host, path)) => format!("curl -H 'Host: {host}' http://{gateway}{path}"),
        None => format!("curl http://{gateway}/"),
    });
    commands.push(format!(
        "curl 'http://{}/api/v1/query?query=sum(rate(kong_http_requests_total[1m]))'",
        running.addresses.metrics
    ));
    commands
}

/// `file:line:col` of a value that was read from a file.
fn place_of(build: &Build, value: &Value) -> Option<String> {
    let span = value.span;
    let file = build.files.path(span.file()).filter(|_| !span.is_none())?.display();
    Some(format!("{file}:{}:{}", span.line(), span.column()))
}
