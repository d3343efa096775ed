//! Ending a pod: nobody sends it work, hooks run, SIGTERM, the grace, SIGKILL; sidecars last.

use std::time::Duration;

use tokio::time::Instant;

use super::{Event, HOST_IP, Worker};
use crate::action::{Action, Target};
use crate::cluster::Severity;
use crate::runtime::StopSignal;
use crate::status::Role;

/// After a preStop hook has used up the grace, a process still gets this long to react to SIGTERM.
const LEAST_GRACE: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StopReason {
    /// The object carries a deletion time and is removed at the end.
    Deleted,
    /// The object is gone already.
    Removed,
    /// The node shuts down; the object stays.
    Shutdown,
    /// The pod has failed; the object stays until somebody deletes it.
    Deadline,
}

pub(super) struct Stop {
    pub(super) reason: StopReason,
    pub(super) deadline: Instant,
    /// Nobody sends the pod work any more, so signals may be sent.
    pub(super) released: bool,
}

impl Worker {
    /// Begins to end the pod, or shortens an end that has begun.
    pub(super) fn begin_stop(&mut self, reason: StopReason, grace: Duration) {
        let deadline = Instant::now() + grace;
        if let Some(stop) = &mut self.stop {
            let shortened = deadline < stop.deadline;
            let escalated = stop.reason != reason;
            stop.deadline = stop.deadline.min(deadline);
            if escalated && stop.reason != StopReason::Removed {
                stop.reason = reason;
            }
            stop.released |= grace.is_zero();
            if shortened && grace.is_zero() {
                for slot in self.slots.iter().filter(|s| s.is_running()) {
                    self.kill(&slot.spec.name);
                }
            }
            return;
        }
        let running = self.slots.iter().any(|s| s.is_running());
        let ask_first = self.shared.before_stop.clone().filter(|_| running && !grace.is_zero());
        self.stop = Some(Stop { reason, deadline, released: ask_first.is_none() });
        if let Some(door) = ask_first {
            let (pod, events) = (self.name.clone(), self.events.clone());
            let limit = self.shared.config.before_stop_timeout.min(grace);
            tokio::spawn(async move {
                if tokio::time::timeout(limit, door.before_stop(&pod)).await.is_err() {
                    tracing::warn!(%pod, ?limit, "requests may still be sent to a pod that stops");
                }
                let _ = events.send(Event::Released).await;
            });
        }
    }

    /// Stops what may be stopped now.
    pub(super) fn advance_stop(&mut self) {
        let Some(stop) = self.stop.as_ref().filter(|stop| stop.released) else { return };
        let grace = stop.deadline.saturating_duration_since(Instant::now());
        let mains_run = self.slots.iter().any(|s| s.is_running() && s.role != Role::Sidecar);
        let due: Vec<String> = self
            .slots
            .iter()
            .filter(|s| s.live().is_some_and(|l| !l.stopping) && !(mains_run && s.role == Role::Sidecar))
            .map(|s| s.spec.name.clone())
            .collect();
        for container in due {
            self.event(
                Some(&container),
                Severity::Normal,
                "Killing",
                format!("Stopping container {container}"),
            );
            self.stop_container(&container, grace);
        }
    }

    /// Runs the container's preStop hook and signals; its end arrives as an event.
    pub(super) fn stop_container(&mut self, container: &str, grace: Duration) {
        let address = self.ip.unwrap_or(HOST_IP);
        let Some(slot) = self.slots.iter_mut().find(|s| s.spec.name == container) else { return };
        let hook = slot.spec.lifecycle.as_ref().and_then(|l| l.pre_stop.clone());
        let hook = hook.map(|hook| Action::of_hook(&hook, &slot.spec, address));
        let Some(live) = slot.live_mut() else { return };
        if std::mem::replace(&mut live.stopping, true) {
            return;
        }
        // Probes of a container that stops must not restart it.
        live.life.cancel();
        let attempt = live.running.attempt;
        let exit = live.running.exit.clone();
        let target = self.target(container, attempt);
        let (cluster, pod, name) = (self.shared.cluster.clone(), self.name.clone(), container.to_string());
        tokio::spawn(async move {
            let begun = Instant::now();
            if let Some(action) = hook.filter(|_| !grace.is_zero()) {
                let done = tokio::time::timeout(grace, action.run(&target, grace)).await;
                let failure = match done {
                    Ok(Ok(())) => None,
                    Ok(Err(message)) => Some(message),
                    Err(_) => Some(format!("it did not end within the grace period of {grace:?}")),
                };
                if let Some(message) = failure {
                    let text = format!("PreStopHook failed: {message}");
                    cluster.event(&pod, Some(&name), Severity::Warning, "FailedPreStopHook", text);
                }
            }
            let left = match grace.is_zero() {
                true => Duration::ZERO,
                false => grace.saturating_sub(begun.elapsed()).max(LEAST_GRACE.min(grace)),
            };
            signal_and_wait(&target, exit, left).await;
        });
    }

    fn kill(&self, container: &str) {
        if let Some(live) = self.slots.iter().find(|s| s.spec.name == container).and_then(|s| s.live()) {
            self.shared.runtime.signal(&self.key(container, live.running.attempt), StopSignal::Kill);
        }
    }
}

async fn signal_and_wait(
    target: &Target,
    mut exit: tokio::sync::watch::Receiver<Option<crate::runtime::Exit>>,
    grace: Duration,
) {
    if !grace.is_zero() {
        target.runtime.signal(&target.key, StopSignal::Terminate);
        let ended = exit.wait_for(Option::is_some);
        if tokio::time::timeout(grace, ended).await.is_ok() {
            return;
        }
    }
    target.runtime.signal(&target.key, StopSignal::Kill);
}
