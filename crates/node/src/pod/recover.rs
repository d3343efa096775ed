//! Taking up a pod that an earlier life of the program ran.

use std::net::Ipv4Addr;

use super::slot::Phase;
use super::{HOST_IP, Worker};
use crate::runtime::{Adoptable, Found};
use crate::status::{self, Role};

impl Worker {
    /// Adopts containers that still run and takes in the end of those that do not.
    pub(super) async fn recover(&mut self) {
        let shown_ip: Option<Ipv4Addr> = self.shown.pod_ip.as_deref().and_then(|ip| ip.parse().ok());
        let phase = self.shown.phase.clone().unwrap_or_default();
        let ended_for_good = matches!(phase.as_str(), "Succeeded" | "Failed");
        let policy = status::restart_policy(&self.pod).to_string();
        let pod_text = self.pod_text();

        let adoptable = self.adoptable(shown_ip);
        let mut adopted = false;
        for index in 0..self.slots.len() {
            let name = self.slots[index].spec.name.clone();
            let dir = self.dir.join("containers").join(&name);
            let shown = self.shown.container_statuses.iter().flatten();
            let shown = shown.chain(self.shown.init_container_statuses.iter().flatten());
            let shown_restarts = shown.filter(|s| s.name == name).map(|s| s.restart_count).next();
            let found = self.shared.runtime.recover(&self.name, &name, &dir, adoptable).await;
            let restarts =
                |attempt: u32| shown_restarts.unwrap_or(0).max(i32::try_from(attempt).unwrap_or(i32::MAX));
            match found {
                Some(Found::Running(running)) => {
                    adopted = true;
                    self.slots[index].restore(running.attempt, running.id.clone(), restarts(running.attempt));
                    tracing::info!(pod = %self.name, container = name, pid = running.pid, "adopted");
                    self.attach(index, running, true);
                }
                Some(Found::Ended { attempt, id, started_at, exit }) => {
                    let config = &self.shared.config;
                    let slot = &mut self.slots[index];
                    let restart = !ended_for_good
                        && match slot.role {
                            Role::Sidecar => true,
                            Role::Init => exit.code != 0 && policy != "Never",
                            Role::Main => policy == "Always" || (policy == "OnFailure" && exit.code != 0),
                        };
                    slot.restore(attempt, id, restarts(attempt));
                    slot.end(started_at, &exit, None, restart, &pod_text, config);
                }
                None => {}
            }
        }
        if adopted && let Some(ip) = shown_ip {
            self.ip = Some(ip);
            if ip != HOST_IP {
                self.shared.ips.lock().adopt(ip, &self.name.uid);
            }
        }
        if ended_for_good {
            self.keep_shown_end();
        } else if !adopted {
            self.initialise_again();
        }
    }

    /// A process is of use where its pod's address still leads to it.
    fn adoptable(&self, shown_ip: Option<Ipv4Addr>) -> Adoptable {
        let config = &self.shared.config;
        let has_address = shown_ip.is_some_and(|ip| config.pod_cidr.index_of(ip).is_some());
        match &config.networks {
            None if self.is_on_host_network() || has_address => Adoptable::OnHostNetwork,
            Some(_) if self.is_on_host_network() => Adoptable::OnHostNetwork,
            Some(networks) if has_address && networks.attached().contains(&self.name.uid) => {
                Adoptable::InNamespaces
            }
            _ => Adoptable::Nothing,
        }
    }

    /// A pod that had ended stays as it was shown, even where its directory is gone.
    fn keep_shown_end(&mut self) {
        for slot in &mut self.slots {
            let statuses =
                self.shown.container_statuses.iter().chain(&self.shown.init_container_statuses).flatten();
            let shown = statuses
                .filter(|s| s.name == slot.spec.name)
                .find_map(|s| Some((s.state.as_ref()?.terminated.clone()?, s.restart_count)));
            if let Some((state, restarts)) = shown {
                slot.phase = Phase::Terminated { state, retry_at: None };
                slot.restart_count = restarts;
            }
        }
        if self.shown.phase.as_deref() == Some("Failed") && self.shown.reason.is_some() {
            let text = |s: &Option<String>| s.clone().unwrap_or_default();
            self.failed = Some((text(&self.shown.reason), text(&self.shown.message)));
        }
    }

    /// No container of the pod has survived, so its init containers run again, as after a reboot.
    fn initialise_again(&mut self) {
        for slot in self.slots.iter_mut().filter(|s| s.role == Role::Init && s.next_attempt > 0) {
            slot.phase = Phase::Waiting { reason: "PodInitializing".into(), message: None, retry_at: None };
        }
    }
}
