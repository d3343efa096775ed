//! `gantry up --detach`: the same `up` in a process of its own session, watched until it is ready.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use super::UpOptions;
use super::control::VerbResult;
use super::state::StateDir;
use super::steps::Output;

const POLL: Duration = Duration::from_millis(20);

/// Starts `up` in the background, shows its steps, and returns when it is ready (or has failed: then with its code).
pub(crate) fn detach(options: &UpOptions) -> VerbResult {
    let state_dir = StateDir::open(&options.data_dir)?;
    // Fail here, in the user's terminal, when the folder is taken.
    drop(state_dir.lock()?);
    state_dir.clear_state();
    let log_path = state_dir.log();
    let describe = |error: std::io::Error| format!("cannot open {}: {error}", log_path.display());
    let log = OpenOptions::new().create(true).append(true).open(&log_path).map_err(describe)?;
    let mut reader = File::open(&log_path).map_err(describe)?;
    reader.seek(SeekFrom::End(0)).map_err(describe)?;

    let mut child = background_command(options)?
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(describe)?)
        .stderr(log)
        .spawn()
        .map_err(|error| format!("cannot start the background process: {error}"))?;
    let code = follow_until_ready(&state_dir, &mut child, &mut reader)?;
    if code.is_none() && options.output == Output::Text {
        println!(
            "\nrunning in the background as pid {}; `gantry down` ends it, its log is {}",
            child.id(),
            log_path.display()
        );
    }
    Ok(code.unwrap_or(ExitCode::SUCCESS))
}

fn background_command(options: &UpOptions) -> Result<Command, Box<dyn std::error::Error>> {
    let program = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    let mut command = Command::new(program);
    let ports = options.ports;
    let ports = format!(
        "apiserver={},gateway={},metrics={},console={}",
        ports.apiserver, ports.gateway, ports.metrics, ports.console
    );
    command
        .arg("up")
        .arg(&options.dir)
        .arg("--data-dir")
        .arg(&options.data_dir)
        .args(["--ports", &ports])
        .args(["--output", if options.output == Output::Json { "json" } else { "text" }])
        // A group of its own: Ctrl-C in this terminal is not meant for it.
        .process_group(0);
    Ok(command)
}

/// `None` when it is ready; its exit code when it ended before.
fn follow_until_ready(
    state_dir: &StateDir,
    child: &mut Child,
    log: &mut File,
) -> Result<Option<ExitCode>, Box<dyn std::error::Error>> {
    loop {
        let ready = state_dir.read_state()?.is_some_and(|state| state.ready && state.pid == child.id());
        let ended = child.try_wait()?;
        let mut text = Vec::new();
        log.read_to_end(&mut text)?;
        std::io::stdout().write_all(&text)?;
        std::io::stdout().flush()?;
        if let Some(status) = ended {
            let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
            return Ok(Some(ExitCode::from(code)));
        }
        if ready {
            return Ok(None);
        }
        std::thread::sleep(POLL);
    }
}
