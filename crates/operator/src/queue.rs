//! The work queue: which objects wait to be worked on, each at most once and never by two workers.
//!
//! Invariants: a key handed out is not handed out again before [`WorkQueue::done`]; a key added meanwhile is
//! handed out once more afterwards; of several delays the shortest counts, and being handed out ends them all.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fmt::Display;
use std::hash::Hash;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::key::Key;

/// How failing keys are retried: `first` doubled with each failure up to `longest`.
#[derive(Clone, Copy, Debug)]
pub struct RetryDelay {
    pub first: Duration,
    pub longest: Duration,
}

impl Default for RetryDelay {
    fn default() -> Self {
        RetryDelay { first: Duration::from_millis(10), longest: Duration::from_secs(60) }
    }
}

/// What work can be about: usually the [`Key`] of an object.
pub trait Work: Clone + Eq + Hash + Display + Send + Sync + 'static {}

impl<T: Clone + Eq + Hash + Display + Send + Sync + 'static> Work for T {}

/// See the module's documentation.
pub struct WorkQueue<T: Work = Key> {
    retry: RetryDelay,
    state: Mutex<State<T>>,
    wake: Notify,
}

struct State<T> {
    ready: VecDeque<T>,
    waiting: HashSet<T>,
    working: HashSet<T>,
    again: HashSet<T>,
    delayed: BTreeMap<(Instant, u64), T>,
    deadline: HashMap<T, (Instant, u64)>,
    failures: HashMap<T, u32>,
    next_ticket: u64,
}

impl<T: Work> WorkQueue<T> {
    pub fn new(retry: RetryDelay) -> WorkQueue<T> {
        let state = State {
            ready: VecDeque::new(),
            waiting: HashSet::new(),
            working: HashSet::new(),
            again: HashSet::new(),
            delayed: BTreeMap::new(),
            deadline: HashMap::new(),
            failures: HashMap::new(),
            next_ticket: 0,
        };
        WorkQueue { retry, state: Mutex::new(state), wake: Notify::new() }
    }

    /// Asks for work on `key` as soon as possible.
    pub fn add(&self, key: T) {
        self.state.lock().add(key);
        self.wake.notify_one();
    }

    /// Asks for work on `key` after `delay`, unless it is due earlier anyway.
    pub fn add_after(&self, key: T, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        // A delay too long for the clock is as good as for ever.
        let Some(due) = Instant::now().checked_add(delay) else { return };
        self.state.lock().delay(key, due);
        self.wake.notify_one();
    }

    /// Asks for work on `key` after the delay its failures have earned, which grows with each call.
    pub fn add_failed(&self, key: T) -> Duration {
        let delay = {
            let mut state = self.state.lock();
            let failures = state.failures.entry(key.clone()).or_insert(0);
            let doubled = 2u32.saturating_pow(*failures);
            *failures = failures.saturating_add(1);
            self.retry.first.saturating_mul(doubled).min(self.retry.longest)
        };
        self.add_after(key, delay);
        delay
    }

    /// Forgets the failures of `key`: its work succeeded.
    pub fn forget(&self, key: &T) {
        self.state.lock().failures.remove(key);
    }

    /// Keys that are ready to be worked on now.
    pub fn depth(&self) -> usize {
        self.state.lock().ready.len()
    }

    /// Waits for a key that is due and nobody works on. Cancel safe.
    pub async fn next(&self) -> T {
        loop {
            let due = {
                let mut state = self.state.lock();
                state.promote(Instant::now());
                if let Some(key) = state.take() {
                    // Another waiter may find more.
                    if !state.ready.is_empty() {
                        self.wake.notify_one();
                    }
                    return key;
                }
                state.delayed.first_key_value().map(|((due, _), _)| *due)
            };
            match due {
                Some(due) => {
                    tokio::select! {
                        () = self.wake.notified() => {}
                        () = tokio::time::sleep_until(due) => {}
                    }
                }
                None => self.wake.notified().await,
            }
        }
    }

    /// Says that the work on `key` ended, well or not.
    pub fn done(&self, key: &T) {
        let mut state = self.state.lock();
        state.working.remove(key);
        if state.again.remove(key) {
            state.add(key.clone());
            self.wake.notify_one();
        }
    }
}

impl<T: Work> State<T> {
    fn add(&mut self, key: T) {
        if self.working.contains(&key) {
            self.again.insert(key);
        } else if self.waiting.insert(key.clone()) {
            self.ready.push_back(key);
        }
    }

    fn delay(&mut self, key: T, due: Instant) {
        if self.waiting.contains(&key) {
            return;
        }
        if let Some(known) = self.deadline.get(&key) {
            if known.0 <= due {
                return;
            }
            self.delayed.remove(known);
        }
        let ticket = (due, self.next_ticket);
        self.next_ticket += 1;
        self.delayed.insert(ticket, key.clone());
        self.deadline.insert(key, ticket);
    }

    fn promote(&mut self, now: Instant) {
        while let Some(entry) = self.delayed.first_entry() {
            if entry.key().0 > now {
                return;
            }
            let key = entry.remove();
            self.deadline.remove(&key);
            self.add(key);
        }
    }

    fn take(&mut self) -> Option<T> {
        let key = self.ready.pop_front()?;
        self.waiting.remove(&key);
        if let Some(ticket) = self.deadline.remove(&key) {
            self.delayed.remove(&ticket);
        }
        self.working.insert(key.clone());
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn queue() -> WorkQueue {
        WorkQueue::new(RetryDelay { first: Duration::from_millis(10), longest: Duration::from_millis(50) })
    }

    fn taken(queue: &WorkQueue) -> Option<Key> {
        queue.next().now_or_never()
    }

    #[tokio::test]
    async fn a_key_is_queued_once_and_worked_on_by_one() {
        let queue = queue();
        let key = Key::cluster("a");
        queue.add(key.clone());
        queue.add(key.clone());
        assert_eq!(taken(&queue), Some(key.clone()));
        queue.add(key.clone());
        assert_eq!(taken(&queue), None, "still being worked on");
        queue.done(&key);
        assert_eq!(taken(&queue), Some(key.clone()));
        queue.done(&key);
        assert_eq!(taken(&queue), None);
    }

    #[tokio::test]
    async fn failures_double_the_delay_up_to_the_longest() {
        let queue = queue();
        let key = Key::cluster("a");
        let delays: Vec<u128> = (0..4).map(|_| queue.add_failed(key.clone()).as_millis()).collect();
        assert_eq!(delays, [10, 20, 40, 50]);
        queue.forget(&key);
        assert_eq!(queue.add_failed(key).as_millis(), 10);
    }

    #[tokio::test]
    async fn the_earliest_delay_counts_and_being_taken_ends_it() {
        let queue = queue();
        let key = Key::cluster("a");
        queue.add_after(key.clone(), Duration::from_secs(3600));
        queue.add_after(key.clone(), Duration::from_millis(1));
        assert_eq!(queue.next().await, key);
        queue.done(&key);
        queue.add_after(key.clone(), Duration::from_secs(3600));
        queue.add(key.clone());
        assert_eq!(taken(&queue), Some(key.clone()));
        queue.done(&key);
        assert!(queue.state.lock().delayed.is_empty());
    }
}
