//! A command beside a container whose streams are connected to somebody: `kubectl exec`.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use tokio::process::Command;

use super::cgroup::Group;
use super::entry::Entry as Surroundings;
use super::terminal::Terminal;
use super::{UNKNOWN_EXIT_CODE, kill_group};
use crate::runtime::{RuntimeError, Session, SessionSpec};

/// A command whose caller has gone gets this long between the hang-up and its end.
const HANGUP_GRACE: Duration = Duration::from_secs(2);

pub(super) struct Place<'a> {
    pub(super) env: BTreeMap<String, String>,
    pub(super) working_dir: &'a Path,
    pub(super) group: Option<&'a Group>,
    /// What is started in the place of the command, to enter the container's namespaces.
    pub(super) entering: Option<Entering<'a>>,
}

pub(super) struct Entering<'a> {
    pub(super) launcher: &'a Path,
    pub(super) args: Vec<String>,
    pub(super) inherited: Vec<OwnedFd>,
}

pub(super) fn start(spec: &SessionSpec, place: Place<'_>) -> Result<Session, RuntimeError> {
    let program = spec.command.first().cloned().unwrap_or_default();
    let failed = |source| RuntimeError::Spawn { program: program.clone().into(), source };
    let mut env = place.env;
    if spec.tty {
        env.entry("TERM".into()).or_insert_with(|| "xterm".into());
    }
    let mut inherited = Vec::new();
    let mut command = match place.entering {
        Some(entering) => {
            inherited = entering.inherited;
            let mut command = Command::new(entering.launcher);
            command.args(entering.args).current_dir("/");
            command
        }
        None => {
            let mut command = Command::new(&program);
            command.args(spec.command.iter().skip(1)).current_dir(place.working_dir);
            command
        }
    };
    command.env_clear().envs(env);
    let cgroup = place.group.map(Group::entrance).transpose().map_err(failed)?;
    let mut terminal = None;
    let mut controlling = None;
    if spec.tty {
        let (master, slave) = Terminal::open().map_err(failed)?;
        let copy = || slave.try_clone().map(Stdio::from).map_err(failed);
        command.stdin(copy()?).stdout(copy()?).stderr(copy()?);
        controlling = Some(slave);
        terminal = Some(master);
    } else {
        command.stdin(if spec.stdin { Stdio::piped() } else { Stdio::null() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
    }
    Surroundings { cgroup, terminal: controlling, inherited }.apply(&mut command);
    let mut child = command.spawn().map_err(failed)?;
    // The command holds the slave side of the terminal, and the terminal ends only when nobody does.
    drop(command);
    let pid = child.id().unwrap_or(0);
    let (hang_up, hung_up) = tokio::sync::oneshot::channel::<()>();
    let (tell, exit) = tokio::sync::oneshot::channel();
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    tokio::spawn(async move {
        let status = tokio::select! {
            status = child.wait() => status,
            _ = hung_up => {
                kill_group(pid, Signal::HUP);
                let ended = tokio::time::timeout(HANGUP_GRACE, child.wait()).await;
                if ended.is_err() {
                    kill_group(pid, Signal::KILL);
                }
                child.wait().await
            }
        };
        use std::os::unix::process::ExitStatusExt;
        let code = status.ok().and_then(|s| s.code().or(s.signal().map(|signal| 128 + signal)));
        let _ = tell.send(code.unwrap_or(UNKNOWN_EXIT_CODE));
    });
    let mut session = Session { stdin: None, outputs: Vec::new(), resize: None, exit, hang_up };
    match terminal {
        Some(terminal) => {
            session.stdin = Some(Box::new(terminal.clone()));
            session.outputs.push((crate::logs::Stream::Stdout, Box::new(terminal.clone())));
            session.resize = Some(terminal);
        }
        None => {
            session.stdin = stdin.map(|s| Box::new(s) as _);
            session.outputs.extend(stdout.map(|s| (crate::logs::Stream::Stdout, Box::new(s) as _)));
            session.outputs.extend(stderr.map(|s| (crate::logs::Stream::Stderr, Box::new(s) as _)));
        }
    }
    Ok(session)
}
