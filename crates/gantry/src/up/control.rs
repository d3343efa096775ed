//! `gantry down` and `gantry status`: what they do to an `up` that runs in another process.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::json;

use super::state::{State, StateDir, StateError};
use super::steps::{Output, Steps};

/// Longer than the drain of `up` itself, so that `down` does not give up on an orderly end.
const DOWN_TIMEOUT: Duration = Duration::from_secs(60);

/// The `up` that runs on the folder, if one does.
pub(crate) fn running(data_dir: &Path) -> Result<Option<(StateDir, State)>, StateError> {
    let Some(dir) = StateDir::existing(data_dir) else { return Ok(None) };
    let state = dir.read_state()?.filter(State::is_alive);
    Ok(state.map(|state| (dir, state)))
}

/// Ends a running `up` and waits for it; with `purge`, forgets everything it kept.
pub(crate) fn down(data_dir: &Path, purge: bool, output: Output) -> VerbResult {
    let mut steps = Steps::new(output);
    match running(data_dir)? {
        None => steps.done("down", &format!("nothing runs on {}", data_dir.display())),
        Some((_, state)) => {
            end(&state)?;
            steps.done("down", &format!("ended pid {} and every process it had started", state.pid));
        }
    }
    if purge && let Some(dir) = StateDir::existing(data_dir) {
        let lock = dir.lock()?;
        std::fs::remove_dir_all(dir.root())
            .map_err(|error| format!("cannot remove {}: {error}", dir.root().display()))?;
        drop(lock);
        steps.done("purged", &dir.root().display().to_string());
    }
    Ok(ExitCode::SUCCESS)
}

fn end(state: &State) -> Result<(), String> {
    let pid = rustix::process::Pid::from_raw(state.pid.cast_signed())
        .ok_or_else(|| format!("{} is not a process id", state.pid))?;
    rustix::process::kill_process(pid, rustix::process::Signal::TERM)
        .map_err(|error| format!("cannot signal pid {}: {error}", state.pid))?;
    let deadline = Instant::now() + DOWN_TIMEOUT;
    while state.is_alive() {
        if Instant::now() > deadline {
            return Err(format!(
                "pid {} did not end within {} s; its log says what it waits for; `kill -9 {}` ends it, and the next \
                 `gantry up` cleans up",
                state.pid,
                DOWN_TIMEOUT.as_secs(),
                state.pid
            ));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

pub(crate) fn not_running(data_dir: &Path, steps: &Steps) -> ExitCode {
    let text = format!("nothing runs on {}; start with `gantry up DIR`", data_dir.display());
    steps.report(&json!({"running": false}), &text);
    ExitCode::from(1)
}

/// The result of a verb: an exit code, or an error for standard error.
pub(crate) type VerbResult = Result<ExitCode, Box<dyn std::error::Error>>;
