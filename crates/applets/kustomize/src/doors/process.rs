//! Runs a program to its end, with a bound on how long it may take and on how much it may write.

use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use gantry_kustomize::door::Finished;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// Of what is written to the error stream, the end is what matters.
const MOST_ERRORS: usize = 64 << 10;

/// What a program may use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) time: Duration,
    pub(crate) output_bytes: usize,
}

/// Whether what the program starts ends with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    /// It stays in the foreground, where it can ask for a passphrase.
    Ours,
    /// A group of its own, all of which is ended when time is up.
    Own,
}

enum Event {
    Output(Vec<u8>, bool),
    Errors(Vec<u8>),
    Ended(std::io::Result<ExitStatus>),
}

/// Runs the command with `input`. The message of an error says why there is no result.
pub(crate) fn run(
    mut command: Command,
    input: Vec<u8>,
    bounds: Bounds,
    group: Group,
) -> Result<Finished, String> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if group == Group::Own {
        command.process_group(0);
    }
    let mut child = command.spawn().map_err(|error| spawn_error(&command, &error))?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let (sender, events) = mpsc::channel();
    if let Some(mut stdin) = child.stdin.take() {
        // A program need not read all of its input.
        thread::spawn(move || drop(stdin.write_all(&input)));
    }
    if let Some(stdout) = child.stdout.take() {
        let sender = sender.clone();
        thread::spawn(move || read_output(stdout, bounds.output_bytes, &sender));
    }
    if let Some(stderr) = child.stderr.take() {
        let sender = sender.clone();
        thread::spawn(move || read_errors(stderr, &sender));
    }
    thread::spawn(move || drop(sender.send(Event::Ended(child.wait()))));
    let end = || {
        // One that is gone already needs no ending.
        let _ = match (pid, group) {
            (Some(pid), Group::Own) => kill_process_group(pid, Signal::KILL),
            (Some(pid), Group::Ours) => kill_process(pid, Signal::TERM),
            (None, _) => Ok(()),
        };
    };

    let deadline = Instant::now() + bounds.time;
    let (mut status, mut output, mut errors) = (None, None, None);
    while status.is_none() || output.is_none() || errors.is_none() {
        let left = deadline.saturating_duration_since(Instant::now());
        match events.recv_timeout(left) {
            Ok(Event::Output(bytes, true)) => output = Some(bytes),
            Ok(Event::Output(_, false)) => {
                end();
                return Err(format!("it wrote more than {} bytes", bounds.output_bytes));
            }
            Ok(Event::Errors(bytes)) => errors = Some(String::from_utf8_lossy(&bytes).into_owned()),
            Ok(Event::Ended(Ok(ended))) => status = Some(ended),
            Ok(Event::Ended(Err(error))) => return Err(error.to_string()),
            Err(RecvTimeoutError::Timeout) => {
                end();
                return Err(format!("hit {:?} timeout", bounds.time));
            }
            Err(RecvTimeoutError::Disconnected) => return Err("it was lost sight of".to_owned()),
        }
    }
    // It may have left others behind, with its streams closed.
    if group == Group::Own {
        end();
    }
    let status = status.unwrap_or_default();
    Ok(Finished {
        success: status.success(),
        status: describe(status),
        output: output.unwrap_or_default(),
        errors: errors.unwrap_or_default(),
    })
}

fn spawn_error(command: &Command, error: &std::io::Error) -> String {
    let program = Path::new(command.get_program()).display().to_string();
    match error.kind() {
        std::io::ErrorKind::NotFound => format!("'{program}' was not found"),
        std::io::ErrorKind::PermissionDenied => format!("'{program}' may not be executed"),
        _ => format!("'{program}': {error}"),
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// Sends all that is written, or word that it is too much.
fn read_output(stream: impl Read, most: usize, to: &Sender<Event>) {
    let mut bytes = Vec::new();
    let limit = most as u64 + 1;
    // What cannot be read any more is at its end.
    drop(stream.take(limit).read_to_end(&mut bytes));
    let fits = bytes.len() <= most;
    drop(to.send(Event::Output(bytes, fits)));
}

/// Sends the end of what is written.
fn read_errors(mut stream: impl Read, to: &Sender<Event>) {
    let mut kept = Vec::new();
    let mut buffer = [0; 8192];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        kept.extend_from_slice(&buffer[..count]);
        if kept.len() > MOST_ERRORS {
            kept.drain(..kept.len() - MOST_ERRORS);
        }
    }
    drop(to.send(Event::Errors(kept)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    const AMPLE: Bounds = Bounds { time: Duration::from_secs(60), output_bytes: 1 << 20 };

    #[test]
    fn a_program_reads_its_input_and_says_how_it_ended() {
        let found = run(shell("cat; echo why >&2; exit 3"), b"in".to_vec(), AMPLE, Group::Own).unwrap();
        assert_eq!((found.output.as_slice(), found.errors.as_str()), (b"in".as_slice(), "why\n"));
        assert_eq!((found.success, found.status.as_str()), (false, "exit status 3"));
    }

    #[test]
    fn one_that_does_not_read_is_no_trouble() {
        let found = run(shell("true"), vec![b'x'; 1 << 20], AMPLE, Group::Own).unwrap();
        assert!(found.success);
    }

    #[test]
    fn time_and_output_are_bounded() {
        let short = Bounds { time: Duration::from_millis(100), ..AMPLE };
        let error = run(shell("sleep 600 & sleep 600"), Vec::new(), short, Group::Own).unwrap_err();
        assert_eq!(error, "hit 100ms timeout");
        let small = Bounds { output_bytes: 1000, ..AMPLE };
        let error = run(shell("yes"), Vec::new(), small, Group::Own).unwrap_err();
        assert_eq!(error, "it wrote more than 1000 bytes");
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = run(Command::new("./no-such-program"), Vec::new(), AMPLE, Group::Own).unwrap_err();
        assert_eq!(error, "'./no-such-program' was not found");
    }
}
