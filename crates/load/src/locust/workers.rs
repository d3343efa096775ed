//! The workers a master knows: their state by what they said and by how long they said nothing.

use std::collections::{BTreeMap, HashMap};

use indexmap::IndexMap;

/// Heartbeats a worker may miss before it is missing, and seconds it may be missing before it is forgotten.
const LIVENESS: i32 = 3;
const DEAD: i32 = -60;
/// Numbers are remembered for this many ids that came and went.
const MOST_INDEXES: usize = 100_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WorkerState {
    Ready,
    Spawning,
    Running,
    Missing,
    /// Something else it said of itself.
    Other,
}

#[derive(Clone, Debug)]
pub(super) struct Worker {
    pub(super) state: WorkerState,
    heartbeat: i32,
    pub(super) cpu: f64,
    pub(super) cpu_warned: bool,
    pub(super) memory: u64,
    pub(super) users: BTreeMap<String, i64>,
    /// Since it was told to quit, it has sent its last report.
    pub(super) reported_last: bool,
}

/// In the order in which they came.
#[derive(Default)]
pub(super) struct Workers {
    by_id: IndexMap<String, Worker>,
    indexes: HashMap<String, i64>,
    next_index: i64,
}

/// What a second without word changed.
#[derive(Default, Debug, PartialEq, Eq)]
pub(super) struct Silence {
    pub(super) went_missing: Vec<String>,
    pub(super) forgotten: Vec<String>,
}

// === impl WorkerState ===

impl WorkerState {
    pub(super) fn parse(text: &str) -> WorkerState {
        match text {
            "ready" => WorkerState::Ready,
            "spawning" => WorkerState::Spawning,
            "running" => WorkerState::Running,
            "missing" => WorkerState::Missing,
            _ => WorkerState::Other,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            WorkerState::Ready => "ready",
            WorkerState::Spawning => "spawning",
            WorkerState::Running => "running",
            WorkerState::Missing => "missing",
            WorkerState::Other => "cleanup",
        }
    }

    pub(super) fn is_active(self) -> bool {
        matches!(self, WorkerState::Ready | WorkerState::Spawning | WorkerState::Running)
    }
}

// === impl Worker ===

impl Worker {
    fn new() -> Worker {
        Worker {
            state: WorkerState::Ready,
            heartbeat: LIVENESS,
            cpu: 0.0,
            cpu_warned: false,
            memory: 0,
            users: BTreeMap::new(),
            reported_last: false,
        }
    }

    pub(super) fn user_count(&self) -> i64 {
        self.users.values().fold(0, |sum, count| sum.saturating_add(*count))
    }

    pub(super) fn alive(&mut self) {
        self.heartbeat = LIVENESS;
    }
}

// === impl Workers ===

impl Workers {
    /// Notes a worker that is ready; true when it was known already.
    pub(super) fn ready(&mut self, id: &str) -> bool {
        self.by_id.insert(id.to_owned(), Worker::new()).is_some()
    }

    /// A number that stays with the id while the master lives.
    pub(super) fn index(&mut self, id: &str) -> i64 {
        if let Some(index) = self.indexes.get(id) {
            return *index;
        }
        let index = self.next_index;
        self.next_index += 1;
        if self.indexes.len() < MOST_INDEXES {
            self.indexes.insert(id.to_owned(), index);
        }
        index
    }

    pub(super) fn get_mut(&mut self, id: &str) -> Option<&mut Worker> {
        self.by_id.get_mut(id)
    }

    pub(super) fn contains(&self, id: &str) -> bool {
        self.by_id.contains_key(id)
    }

    pub(super) fn remove(&mut self, id: &str) -> Option<Worker> {
        self.by_id.shift_remove(id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Worker)> {
        self.by_id.iter().map(|(id, worker)| (id.as_str(), worker))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&str, &mut Worker)> {
        self.by_id.iter_mut().map(|(id, worker)| (id.as_str(), worker))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Those that can be given users: ready ones first, then running, then spawning.
    pub(super) fn active(&self) -> Vec<String> {
        let of =
            |state| self.iter().filter(move |(_, worker)| worker.state == state).map(|(id, _)| id.to_owned());
        of(WorkerState::Ready).chain(of(WorkerState::Running)).chain(of(WorkerState::Spawning)).collect()
    }

    pub(super) fn count(&self) -> usize {
        self.by_id.values().filter(|worker| worker.state.is_active()).count()
    }

    pub(super) fn ready_count(&self) -> usize {
        self.by_id.values().filter(|worker| worker.state == WorkerState::Ready).count()
    }

    pub(super) fn user_count(&self) -> i64 {
        self.by_id.values().fold(0, |sum, worker| sum.saturating_add(worker.user_count()))
    }

    /// The users that active workers say they run.
    pub(super) fn user_classes(&self) -> BTreeMap<String, i64> {
        let mut sums: BTreeMap<String, i64> = BTreeMap::new();
        for worker in self.by_id.values().filter(|worker| worker.state.is_active()) {
            for (class, count) in &worker.users {
                let sum = sums.entry(class.clone()).or_insert(0);
                *sum = sum.saturating_add(*count);
            }
        }
        sums
    }

    /// A second has passed.
    pub(super) fn second(&mut self) -> Silence {
        let mut silence = Silence::default();
        for (id, worker) in &mut self.by_id {
            if worker.state == WorkerState::Missing && worker.heartbeat <= DEAD {
                silence.forgotten.push(id.clone());
            }
            if worker.heartbeat < 0 && worker.state != WorkerState::Missing {
                worker.state = WorkerState::Missing;
                worker.users.clear();
                silence.went_missing.push(id.clone());
            } else {
                worker.heartbeat = worker.heartbeat.saturating_sub(1);
            }
        }
        for id in &silence.forgotten {
            self.by_id.shift_remove(id);
        }
        silence
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_worker_goes_missing_and_is_forgotten_later() {
        let mut workers = Workers::default();
        assert!(!workers.ready("a"));
        let missing = (1..100).find(|_| !workers.second().went_missing.is_empty());
        assert_eq!(missing, Some(5));
        assert_eq!((workers.count(), workers.iter().count()), (0, 1));
        let forgotten = (1..100).find(|_| !workers.second().forgotten.is_empty());
        assert_eq!(forgotten, Some(60));
        assert!(workers.is_empty());
    }

    #[test]
    fn indexes_stay() {
        let mut workers = Workers::default();
        assert_eq!((workers.index("a"), workers.index("b"), workers.index("a")), (0, 1, 0));
    }
}
