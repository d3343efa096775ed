//! One container of a pod: what it does, how often it has run, and when it may run again.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, ContainerStateTerminated};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::runtime::{Exit, Running};
use crate::status::{Role, State, View};

pub(super) struct Slot {
    pub(super) spec: Container,
    pub(super) role: Role,
    pub(super) phase: Phase,
    pub(super) last: Option<ContainerStateTerminated>,
    /// The number that the next start gets.
    pub(super) next_attempt: u32,
    pub(super) restart_count: i32,
    pub(super) ready: bool,
    /// Delay before the next restart; the first is immediate.
    delay: Duration,
    last_id: Option<String>,
}

pub(super) enum Phase {
    /// Not running; `retry_at` is when to try (again).
    Waiting {
        reason: String,
        message: Option<String>,
        retry_at: Option<Instant>,
    },
    Running(Box<Live>),
    Terminated {
        state: ContainerStateTerminated,
        retry_at: Option<Instant>,
    },
}

/// A running container.
pub(super) struct Live {
    pub(super) running: Running,
    /// Ends probes and other tasks of this run.
    pub(super) life: CancellationToken,
    pub(super) started: watch::Sender<bool>,
    pub(super) has_startup_probe: bool,
    pub(super) has_readiness_probe: bool,
    /// postStart has finished, or there is none.
    pub(super) hook_done: bool,
    pub(super) stopping: bool,
}

impl Slot {
    pub(super) fn new(spec: Container, role: Role, waiting_reason: &str) -> Slot {
        Slot {
            spec,
            role,
            phase: Phase::Waiting { reason: waiting_reason.into(), message: None, retry_at: None },
            last: None,
            next_attempt: 0,
            restart_count: 0,
            ready: false,
            delay: Duration::ZERO,
            last_id: None,
        }
    }

    pub(super) fn live(&self) -> Option<&Live> {
        match &self.phase {
            Phase::Running(live) => Some(live),
            _ => None,
        }
    }

    pub(super) fn live_mut(&mut self) -> Option<&mut Live> {
        match &mut self.phase {
            Phase::Running(live) => Some(live),
            _ => None,
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.live().is_some()
    }

    pub(super) fn exit_code(&self) -> Option<i32> {
        match &self.phase {
            Phase::Terminated { state, .. } => Some(state.exit_code),
            _ => None,
        }
    }

    /// Started in the sense of the status: running, hook done, startup probe passed.
    pub(super) fn is_started(&self) -> bool {
        self.live().is_some_and(|live| live.hook_done && *live.started.borrow())
    }

    /// A sidecar that runs and has started, so that the containers after it may.
    pub(super) fn is_started_sidecar(&self) -> bool {
        self.role == Role::Sidecar && self.is_started()
    }

    pub(super) fn retry_at(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Waiting { retry_at, .. } | Phase::Terminated { retry_at, .. } => *retry_at,
            Phase::Running(_) => None,
        }
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.retry_at().is_none_or(|at| at <= now)
    }

    pub(super) fn wait(&mut self, reason: &str, message: Option<String>, retry_in: Duration) {
        let retry_at = Some(Instant::now() + retry_in);
        self.phase = Phase::Waiting { reason: reason.into(), message, retry_at };
        self.ready = false;
    }

    /// Takes in a start. `first` is false when the container has run before.
    pub(super) fn run(&mut self, live: Live) {
        self.next_attempt = live.running.attempt + 1;
        self.last_id = Some(live.running.id.clone());
        if let Phase::Terminated { state, .. } = &self.phase {
            self.last = Some(state.clone());
        }
        self.phase = Phase::Running(Box::new(live));
        self.ready = false;
    }

    /// Takes in the end of a run; `restart` says whether it will run again. Returns the back-off, if it must wait.
    pub(super) fn end(
        &mut self,
        started_at: Timestamp,
        exit: &Exit,
        message: Option<String>,
        restart: bool,
        pod: &str,
        config: &Config,
    ) -> Option<Duration> {
        let state = ContainerStateTerminated {
            container_id: self.last_id.clone(),
            exit_code: exit.code,
            signal: exit.signal,
            reason: Some(reason_of(exit).into()),
            message: message.or_else(|| (!exit.known).then(|| UNKNOWN.to_string())),
            started_at: Some(Time(started_at)),
            finished_at: Some(Time(exit.finished_at)),
        };
        if let Phase::Running(live) = &self.phase {
            live.life.cancel();
        }
        self.ready = false;
        if !restart {
            self.phase = Phase::Terminated { state, retry_at: None };
            return None;
        }
        let ran = exit.finished_at.duration_since(started_at);
        let ran = Duration::try_from(ran).unwrap_or_default();
        if ran >= config.backoff_max * 2 {
            self.delay = Duration::ZERO;
        }
        let delay = self.delay;
        let grown = if delay.is_zero() { config.backoff_initial } else { delay * 2 };
        self.delay = grown.min(config.backoff_max);
        let retry_at = Some(Instant::now() + delay);
        if delay.is_zero() {
            self.phase = Phase::Terminated { state, retry_at };
            return None;
        }
        self.last = Some(state);
        let message = format!("back-off {delay:?} restarting failed container={} pod={pod}", self.spec.name);
        self.phase = Phase::Waiting { reason: "CrashLoopBackOff".into(), message: Some(message), retry_at };
        Some(delay)
    }

    /// Where a former life of the program left this container.
    pub(super) fn restore(&mut self, attempt: u32, id: String, restart_count: i32) {
        self.next_attempt = attempt + 1;
        self.last_id = Some(id);
        self.restart_count = restart_count;
    }

    pub(super) fn view(&self) -> View<'_> {
        let state = match &self.phase {
            Phase::Waiting { reason, message, .. } => {
                State::Waiting { reason: reason.clone(), message: message.clone() }
            }
            Phase::Running(live) if live.hook_done => State::Running { started_at: live.running.started_at },
            Phase::Running(_) => State::Waiting { reason: "ContainerCreating".into(), message: None },
            Phase::Terminated { state, .. } => State::Terminated(state.clone()),
        };
        let completed = self.role == Role::Init && self.exit_code() == Some(0);
        View {
            spec: &self.spec,
            role: self.role,
            state,
            last: self.last.as_ref(),
            restart_count: self.restart_count,
            ready: completed || (self.is_started() && self.ready),
            started: self.is_started(),
            id: self.last_id.clone(),
        }
    }
}

const UNKNOWN: &str =
    "the process ended while Gantry was not running, so its exit status could not be collected";

fn reason_of(exit: &Exit) -> &'static str {
    match exit {
        Exit { known: false, .. } => "ContainerStatusUnknown",
        Exit { code: 0, .. } => "Completed",
        _ => "Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn back_off_doubles_and_is_forgotten_after_a_long_run() {
        let config = Config::new("n", "/x");
        let spec = Container { name: "c".into(), ..Default::default() };
        let mut slot = Slot::new(spec, Role::Main, "ContainerCreating");
        let second = |s| Timestamp::from_second(s).unwrap();
        let exit = |at| Exit { code: 1, signal: None, finished_at: second(at), known: true };
        let mut delays = Vec::new();
        for _ in 0..8 {
            delays.push(slot.end(second(0), &exit(1), None, true, "p", &config).map_or(0, |d| d.as_secs()));
        }
        assert_eq!(delays, [0, 10, 20, 40, 80, 160, 300, 300]);
        assert!(matches!(&slot.phase, Phase::Waiting { reason, .. } if reason == "CrashLoopBackOff"));
        assert_eq!(slot.end(second(0), &exit(601), None, true, "p", &config), None);
        assert_eq!(slot.end(second(0), &exit(1), None, true, "p", &config), Some(Duration::from_secs(10)));
        slot.end(second(0), &exit(1), None, false, "p", &config);
        assert_eq!(slot.exit_code(), Some(1));
    }
}
