//! The controllers that make objects happen: Deployments, ReplicaSets, StatefulSets, DaemonSets, Jobs, CronJobs,
//! endpoints, scheduling, garbage collection, namespaces.
//!
//! Each follows its upstream controller's rules in a pure function from objects to writes; the rest reads the
//! operator's shared stores and carries the writes out. None polls.
#![forbid(unsafe_code)]

mod claim;
mod cronjob;
mod daemonset;
mod deployment;
mod endpoints;
mod gc;
pub mod health;
mod inventory;
mod job;
mod namespace;
mod pod_control;
mod pods;
mod replicaset;
mod scheduler;
mod service_account;
mod statefulset;
mod stores;

use std::sync::Arc;

use gantry_operator::Operator;
use tokio_util::sync::CancellationToken;

/// Which controllers run, and what they need to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// PEM certificates published to each namespace as `kube-root-ca.crt`; nothing is published without.
    pub root_ca: Option<String>,
    /// Bind pending pods to a ready node.
    pub scheduler: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config { root_ca: None, scheduler: true }
    }
}

/// All controllers of this room.
#[derive(Clone, Copy, Debug)]
pub struct Controllers;

impl Controllers {
    /// Adds the controllers to `operator`, which runs them with everything else it has.
    pub fn register(operator: &Operator, config: Config) {
        let stores = stores::Stores::new(operator);
        deployment::register(operator, &stores);
        replicaset::register(operator, &stores);
        endpoints::register(operator, &stores);
        job::register(operator, &stores);
        cronjob::register(operator);
        statefulset::register(operator, &stores);
        daemonset::register(operator, &stores);
        service_account::register(operator, config.root_ca);
        if config.scheduler {
            scheduler::register(operator);
        }
        register_housekeeping(operator);
    }
}

/// Garbage collection and the end of namespaces, which hear of every object of every kind.
fn register_housekeeping(operator: &Operator) {
    let inventory = inventory::Inventory::new(operator.informers());
    let collector = gc::register(operator, &inventory);
    let namespaces = namespace::register(operator, &inventory);
    operator.task("inventory", move |cancel| async move {
        let hear = Arc::new(move |id: &inventory::ObjectId, change: gantry_operator::MetaChange<'_>| {
            collector.hear(id, change);
            namespaces.hear(id, change);
        });
        tokio::select! {
            () = cancel.cancelled() => {}
            () = inventory.follow(hear) => {}
        }
    });
}

/// Runs the controllers alone until `cancel`.
pub async fn run(
    client: kube::Client,
    clock: Arc<dyn gantry_clock::Clock>,
    config: Config,
    cancel: CancellationToken,
) {
    let operator = Operator::new(client, clock);
    Controllers::register(&operator, config);
    operator.run(cancel).await;
}
