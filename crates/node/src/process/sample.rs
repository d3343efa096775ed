//! What running containers use, from their cgroups where they have one, else from the process tree.

use rustix::process::Pid;

use super::{Entry, Inner};
use crate::procfs;
use crate::runtime::ContainerSample;

impl Inner {
    pub(super) fn sample(&self) -> Vec<ContainerSample> {
        if self.containers.lock().is_empty() {
            return Vec::new();
        }
        // Cgroups know their members; as pid 1 we look at all processes anyway, to wait for orphans.
        let own_pid = std::process::id();
        let counted = |entry: &Entry| entry.group.as_ref().is_some_and(|g| g.working_set_bytes().is_some());
        let scan = own_pid == 1 || !self.containers.lock().values().all(counted);
        let all = if scan { procfs::all() } else { Vec::new() };
        let ns_per_tick = 1_000_000_000 / rustix::param::clock_ticks_per_second().max(1);
        let page = rustix::param::page_size() as u64;
        let mut samples = Vec::new();
        for (key, entry) in self.containers.lock().iter_mut() {
            let by_group = entry.group.as_ref().and_then(|g| Some((g, g.cpu_ns()?)));
            if let Some((group, cpu_ns)) = by_group
                && let Some(working_set_bytes) = group.working_set_bytes()
                && !scan
            {
                samples.push(ContainerSample {
                    key: key.clone(),
                    pod: entry.pod.clone(),
                    started_at: entry.started_at,
                    cpu_ns,
                    working_set_bytes,
                    processes: group.pids().len(),
                });
                continue;
            }
            entry.tree.update(&all);
            for pid in entry.tree.zombies_of(own_pid) {
                reap(pid);
            }
            let processes: Vec<u32> = entry.tree.alive().collect();
            let rss = entry.tree.rss_pages() * page;
            // Pages that forked processes share would count once per process; for one process RSS is the same
            // as PSS but for libraries, and far cheaper to read.
            let shared = processes.len() > 1;
            let pss =
                shared.then(|| processes.iter().map(|pid| procfs::pss_bytes(*pid)).sum::<Option<u64>>());
            samples.push(ContainerSample {
                key: key.clone(),
                pod: entry.pod.clone(),
                started_at: entry.started_at,
                cpu_ns: by_group.map_or(entry.tree.ticks() * ns_per_tick, |(_, cpu_ns)| cpu_ns),
                working_set_bytes: by_group
                    .and_then(|(group, _)| group.working_set_bytes())
                    .unwrap_or_else(|| pss.flatten().unwrap_or(rss)),
                processes: processes.len(),
            });
        }
        samples
    }
}

fn reap(pid: u32) {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
    }
}
