//! A record of every change of size, for people and for tests of the loop.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::broadcast;

/// A change of size that was made.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    pub at_ms: i64,
    pub namespace: String,
    /// The autoscaler's object.
    pub autoscaler: String,
    /// `Kind/name` of what was scaled.
    pub target: String,
    /// The metric that asked for the size, as the condition names it; empty when bounds did.
    pub metric: String,
    /// What it was and what it should be, as quantities or percentages.
    pub value: String,
    pub wanted: String,
    pub from: i32,
    pub to: i32,
    /// The reason given in the event, for example `All metrics below target`.
    pub reason: String,
    /// Reasons of the conditions that changed the metric's proposal, for example `ScaleUpLimit`.
    pub policy: Option<String>,
}

/// The newest decisions, and a live stream of them. Cloning shares it.
#[derive(Clone)]
pub struct Decisions {
    recent: Arc<Mutex<VecDeque<Decision>>>,
    live: broadcast::Sender<Decision>,
}

const KEPT: usize = 1024;
const LIVE: usize = 64;

impl Default for Decisions {
    fn default() -> Decisions {
        Decisions { recent: Arc::default(), live: broadcast::Sender::new(LIVE) }
    }
}

impl Decisions {
    /// The kept decisions, oldest first.
    pub fn recent(&self) -> Vec<Decision> {
        self.recent.lock().iter().cloned().collect()
    }

    /// Decisions from now on; a receiver that lags misses the oldest.
    pub fn subscribe(&self) -> broadcast::Receiver<Decision> {
        self.live.subscribe()
    }

    pub(crate) fn record(&self, decision: Decision) {
        let mut recent = self.recent.lock();
        if recent.len() == KEPT {
            recent.pop_front();
        }
        recent.push_back(decision.clone());
        // Nobody may be listening.
        let _ = self.live.send(decision);
    }
}
