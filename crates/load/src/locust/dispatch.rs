//! Who starts which users, when: Locust's dispatcher. Classes follow the Kullback-Leibler divergence from their weights,
//! users of a fixed count come first, workers take turns (across hosts first), and each step gives absolute counts.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::time::Duration;

/// Users of a run. Each costs memory here and a step of the dispatcher.
pub const MOST_USERS: u64 = 10_000_000;

/// A user class as the dispatcher sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct UserClass {
    pub name: String,
    pub weight: f64,
    /// So many users whatever the weights say; 0: by weight.
    pub fixed_count: u64,
}

/// Spreads users over workers, step by step.
pub struct Dispatcher {
    workers: Vec<String>,
    /// All classes ever given, sorted by name; the columns of `counts`.
    all_classes: Vec<UserClass>,
    /// Which of them take part now.
    classes: Vec<usize>,
    /// Users by worker and class.
    counts: HashMap<String, Vec<i64>>,
    /// In the order in which they were started.
    active: Vec<(usize, usize)>,
    /// Workers by the number that `active` has for them.
    names: Vec<String>,
    current: u64,
    target: u64,
    per_step: u64,
    pause: Duration,
    users: UserOrder,
    next_worker: usize,
    rebalance: bool,
    try_fixed: bool,
    in_progress: bool,
    started: bool,
}

/// What to do after the counts of a step were sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Wait this long, then take the next step.
    Next(Duration),
    /// That was the last.
    Last,
}

#[derive(Default)]
struct UserOrder {
    weighted: KlOrder,
    fixed: KlOrder,
    /// How many of `fixed` are still to come.
    fixed_left: u64,
}

/// Yields classes so that their shares stay as near to the weights as whole users allow.
#[derive(Default)]
struct KlOrder {
    heap: BinaryHeap<Candidate>,
}

struct Candidate {
    /// How much choosing this once more would take off the divergence; the least comes first.
    gain: f64,
    /// Weight plus how often it was chosen, plus one.
    next: f64,
    weight: f64,
    name: String,
    class: usize,
}

// === impl KlOrder ===

impl Ord for Candidate {
    fn cmp(&self, other: &Candidate) -> Ordering {
        let by_gain = self.gain.total_cmp(&other.gain).then(self.next.total_cmp(&other.next));
        // A heap gives its greatest first.
        by_gain.then(self.weight.total_cmp(&other.weight)).then_with(|| self.name.cmp(&other.name)).reverse()
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Candidate) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Candidate) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Candidate {}

impl KlOrder {
    fn new<'a>(classes: impl Iterator<Item = (usize, &'a str, f64)>) -> KlOrder {
        let positive = classes.filter(|(_, _, weight)| *weight > 0.0 && weight.is_finite());
        let heap = positive.map(|(class, name, weight)| Candidate {
            gain: weight * (weight / (weight + 1.0)).log2(),
            next: weight + 1.0,
            weight,
            name: name.to_owned(),
            class,
        });
        KlOrder { heap: heap.collect() }
    }

    fn next(&mut self) -> Option<usize> {
        let mut first = self.heap.peek_mut()?;
        let class = first.class;
        first.gain = first.weight * (first.next / (first.next + 1.0)).log2();
        first.next += 1.0;
        Some(class)
    }
}

// === impl Dispatcher ===

impl Dispatcher {
    pub fn new(workers: impl IntoIterator<Item = String>, mut classes: Vec<UserClass>) -> Dispatcher {
        classes.sort_by(|a, b| a.name.cmp(&b.name));
        classes.dedup_by(|a, b| a.name == b.name);
        let mut dispatcher = Dispatcher {
            workers: workers.into_iter().collect(),
            classes: (0..classes.len()).collect(),
            all_classes: classes,
            counts: HashMap::new(),
            active: Vec::new(),
            names: Vec::new(),
            current: 0,
            target: 0,
            per_step: 1,
            pause: Duration::ZERO,
            users: UserOrder::default(),
            next_worker: 0,
            rebalance: false,
            try_fixed: true,
            in_progress: false,
            started: true,
        };
        dispatcher.sort_workers();
        dispatcher.empty_counts();
        dispatcher.users = dispatcher.user_order();
        dispatcher
    }

    /// Begins a ramp to `target` users (at most [`MOST_USERS`]) at `rate` per second, from where things are.
    pub fn begin(&mut self, target: u64, rate: f64, classes: Option<&[String]>) {
        if let Some(chosen) = classes {
            let chosen: Vec<usize> = (0..self.all_classes.len())
                .filter(|index| chosen.contains(&self.all_classes[*index].name))
                .collect();
            if chosen != self.classes {
                self.classes = chosen;
                self.users = self.user_order();
            }
        }
        self.target = target.min(MOST_USERS);
        // The way may be down, too. A pause belongs to a step that long, so a rate beyond it makes no longer pause.
        self.per_step = (rate.floor() as u64).clamp(1, self.target.max(self.current).max(1));
        self.pause = Duration::try_from_secs_f64(self.per_step as f64 / rate).unwrap_or(Duration::MAX);
        self.started = false;
        self.in_progress = true;
    }

    /// Moves on by one step; the counts to send are then in [`Dispatcher::counts`]. `None` when the ramp is over.
    pub fn step(&mut self) -> Option<Step> {
        if !self.in_progress {
            return None;
        }
        let first = !self.started;
        self.started = true;
        if std::mem::take(&mut self.rebalance) {
            if self.current == self.target {
                return Some(self.last());
            }
            return Some(Step::Next(Duration::ZERO));
        }
        match self.current.cmp(&self.target) {
            Ordering::Equal if first => Some(self.last()),
            Ordering::Equal => {
                self.in_progress = false;
                None
            }
            Ordering::Less => {
                if self.add() {
                    Some(self.after_step())
                } else {
                    Some(self.last())
                }
            }
            Ordering::Greater => {
                self.remove();
                Some(self.after_step())
            }
        }
    }

    fn last(&mut self) -> Step {
        self.in_progress = false;
        Step::Last
    }

    fn after_step(&mut self) -> Step {
        if self.current == self.target { self.last() } else { Step::Next(self.pause) }
    }

    /// Whether a ramp goes on.
    pub fn in_progress(&self) -> bool {
        self.in_progress
    }

    /// The users each worker is to have, by class: absolute numbers, every class named.
    pub fn counts(&self) -> impl Iterator<Item = (&str, BTreeMap<String, i64>)> {
        self.workers.iter().filter_map(|worker| {
            let row = self.counts.get(worker)?;
            let named = self.all_classes.iter().zip(row).map(|(class, count)| (class.name.clone(), *count));
            Some((worker.as_str(), named.collect()))
        })
    }

    /// The users of all workers together, by class.
    pub fn totals(&self) -> BTreeMap<String, i64> {
        let mut totals: BTreeMap<String, i64> =
            self.all_classes.iter().map(|class| (class.name.clone(), 0)).collect();
        for row in self.counts.values() {
            for (class, count) in self.all_classes.iter().zip(row) {
                *totals.entry(class.name.clone()).or_insert(0) += count;
            }
        }
        totals
    }

    pub fn add_worker(&mut self, worker: &str) {
        if !self.workers.iter().any(|known| known == worker) {
            self.workers.push(worker.to_owned());
        }
        self.sort_workers();
        self.redistribute();
    }

    pub fn remove_worker(&mut self, worker: &str) {
        self.workers.retain(|known| known != worker);
        self.sort_workers();
        if !self.workers.is_empty() {
            self.redistribute();
        }
    }

    /// One worker of every host, then the second of every host, and so on.
    fn sort_workers(&mut self) {
        self.workers.sort_unstable();
        let mut per_host: HashMap<&str, usize> = HashMap::new();
        let mut ranked: Vec<(usize, String)> = Vec::with_capacity(self.workers.len());
        for worker in &self.workers {
            let host = worker.split('_').next().unwrap_or_default();
            let rank = per_host.entry(host).or_insert(0);
            ranked.push((*rank, worker.clone()));
            *rank += 1;
        }
        ranked.sort_unstable();
        self.workers = ranked.into_iter().map(|(_, worker)| worker).collect();
    }

    fn empty_counts(&mut self) {
        self.counts =
            self.workers.iter().map(|worker| (worker.clone(), vec![0; self.all_classes.len()])).collect();
        self.names = self.workers.clone();
        self.active.clear();
        self.next_worker = 0;
    }

    /// Spreads as many users as there are over the workers that there are now, as if from nothing.
    fn redistribute(&mut self) {
        let wanted = self.current;
        self.empty_counts();
        self.try_fixed = true;
        self.users = self.user_order();
        self.current = 0;
        while self.current < wanted && self.start_one() {}
        self.rebalance = true;
    }

    fn user_order(&self) -> UserOrder {
        let weighted = self.classes.iter().filter_map(|&index| {
            let class = self.all_classes.get(index)?;
            (class.fixed_count == 0).then_some((index, class.name.as_str(), class.weight))
        });
        UserOrder { weighted: KlOrder::new(weighted), ..UserOrder::default() }
    }

    /// The class of the next user; `None` when no class may have more.
    fn next_class(&mut self) -> Option<usize> {
        loop {
            if self.users.fixed_left > 0 {
                self.users.fixed_left -= 1;
                return self.users.fixed.next();
            }
            if !std::mem::take(&mut self.try_fixed) {
                return self.users.weighted.next();
            }
            let missing: Vec<(usize, i64)> = self
                .classes
                .iter()
                .filter_map(|&index| {
                    let running: i64 = self.counts.values().filter_map(|row| row.get(index)).sum();
                    // Counts are what workers and users say, so they may be anything.
                    let fixed = self.all_classes.get(index)?.fixed_count;
                    let missing = i64::try_from(fixed).unwrap_or(i64::MAX).saturating_sub(running);
                    (fixed > 0 && missing > 0).then_some((index, missing))
                })
                .collect();
            let counts = missing.iter().map(|(_, count)| count.unsigned_abs());
            self.users.fixed_left = counts.fold(0, u64::saturating_add);

            self.users.fixed = KlOrder::new(missing.iter().filter_map(|&(index, count)| {
                Some((index, self.all_classes.get(index)?.name.as_str(), count as f64))
            }));
        }
    }

    fn start_one(&mut self) -> bool {
        let Some(class) = self.next_class() else { return false };
        let number = self.next_worker % self.names.len().max(1);
        self.next_worker = number + 1;
        let Some(row) = self.names.get(number).and_then(|worker| self.counts.get_mut(worker)) else {
            return false;
        };
        if let Some(count) = row.get_mut(class) {
            *count += 1;
        }
        self.active.push((number, class));
        self.current += 1;
        true
    }

    /// False when no class may have more users.
    fn add(&mut self) -> bool {
        let until = self.current.saturating_add(self.per_step).min(self.target);
        while self.current < until {
            if !self.start_one() {
                return false;
            }
        }
        true
    }

    fn remove(&mut self) {
        let until = self.current.saturating_sub(self.per_step).max(self.target);
        while self.current > until {
            let Some((number, class)) = self.active.pop() else { break };
            let row = self.names.get(number).and_then(|worker| self.counts.get_mut(worker));
            if let Some(count) = row.and_then(|row| row.get_mut(class)) {
                *count -= 1;
            }
            self.current -= 1;
            self.try_fixed = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(name: &str, weight: f64, fixed_count: u64) -> UserClass {
        UserClass { name: name.to_owned(), weight, fixed_count }
    }

    fn workers(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn run(dispatcher: &mut Dispatcher) -> Vec<(Vec<i64>, Step)> {
        let mut steps = Vec::new();
        while let Some(step) = dispatcher.step() {
            let counts = dispatcher.counts().map(|(_, counts)| counts.values().sum()).collect();
            steps.push((counts, step));
        }
        steps
    }

    #[test]
    fn classes_follow_their_weights() {
        // What Locust 2.47 starts for these weights.
        for (weights, expected) in [
            ([5.0, 1.0, 0.0], "AABAAAAABAAAAABAAAAABAAA"),
            ([5.0, 3.0, 1.0], "ABACBAABAABACBAABAABACBAABAABA"),
        ] {
            let classes = (0..3).zip(["A", "B", "C"]).zip(weights);
            let mut order = KlOrder::new(classes.map(|((index, name), weight)| (index, name, weight)));
            let text: String = expected.chars().map(|_| ["A", "B", "C"][order.next().unwrap()]).collect();
            assert_eq!(text, expected);
        }
    }

    #[test]
    fn a_ramp_takes_whole_users_per_step() {
        let mut dispatcher = Dispatcher::new(workers(&["a_1", "b_1"]), vec![class("U", 1.0, 0)]);
        dispatcher.begin(5, 2.5, None);
        let pause = Duration::from_secs_f64(2.0 / 2.5);
        let steps = run(&mut dispatcher);
        let expected =
            vec![(vec![1, 1], Step::Next(pause)), (vec![2, 2], Step::Next(pause)), (vec![3, 2], Step::Last)];
        assert_eq!(steps, expected);
        dispatcher.begin(2, 10.0, None);
        assert_eq!(run(&mut dispatcher), vec![(vec![1, 1], Step::Last)]);
        dispatcher.begin(2, 1.0, None);
        assert_eq!(run(&mut dispatcher), vec![(vec![1, 1], Step::Last)]);
    }

    #[test]
    fn fixed_counts_come_first_and_are_kept() {
        let classes = vec![class("Admin", 1.0, 2), class("Shopper", 3.0, 0)];
        let mut dispatcher = Dispatcher::new(workers(&["a_1"]), classes);
        dispatcher.begin(6, 100.0, None);
        run(&mut dispatcher);
        assert_eq!(dispatcher.totals(), BTreeMap::from([("Admin".to_owned(), 2), ("Shopper".to_owned(), 4)]));
        // Down below the fixed count and up again: the missing ones come first.
        dispatcher.begin(1, 100.0, None);
        run(&mut dispatcher);
        dispatcher.begin(3, 100.0, None);
        run(&mut dispatcher);
        assert_eq!(dispatcher.totals()["Admin"], 2);
    }

    #[test]
    fn only_fixed_classes_cannot_fill_more_than_their_count() {
        let mut dispatcher = Dispatcher::new(workers(&["a_1"]), vec![class("Admin", 1.0, 2)]);
        dispatcher.begin(5, 100.0, None);
        let steps = run(&mut dispatcher);
        assert_eq!(steps, vec![(vec![2], Step::Last)]);
    }

    #[test]
    fn numbers_have_bounds() {
        let classes = vec![class("A", 1.0, u64::MAX), class("B", 1.0, u64::MAX), class("C", 1.0, 1 << 62)];
        let mut dispatcher = Dispatcher::new(workers(&["a_1"]), classes);
        dispatcher.begin(2, f64::MAX, None);
        assert_eq!(run(&mut dispatcher), vec![(vec![2], Step::Last)]);
        dispatcher.begin(u64::MAX, 1e300, None);
        assert_eq!(dispatcher.target, MOST_USERS);
        // From there the way is as far as the rate says.
        dispatcher.begin(0, 2.0, None);
        assert_eq!(dispatcher.per_step, 2);
        assert_eq!(run(&mut dispatcher), vec![(vec![0], Step::Last)]);
    }

    #[test]
    fn hosts_take_turns() {
        let dispatcher =
            Dispatcher::new(workers(&["a_1", "a_2", "a_3", "b_1", "c_1"]), vec![class("U", 1.0, 0)]);
        let order: Vec<_> = dispatcher.counts().map(|(worker, _)| worker.to_owned()).collect();
        assert_eq!(order, ["a_1", "b_1", "c_1", "a_2", "a_3"]);
    }

    #[test]
    fn users_of_a_lost_worker_move_to_the_others() {
        let mut dispatcher = Dispatcher::new(workers(&["a_1", "b_1"]), vec![class("U", 1.0, 0)]);
        dispatcher.begin(7, 100.0, None);
        run(&mut dispatcher);
        dispatcher.remove_worker("a_1");
        dispatcher.begin(7, 100.0, None);
        assert_eq!(run(&mut dispatcher), vec![(vec![7], Step::Last)]);
        dispatcher.add_worker("c_1");
        dispatcher.begin(7, 100.0, None);
        assert_eq!(run(&mut dispatcher), vec![(vec![4, 3], Step::Last)]);
    }

    #[test]
    fn a_worker_that_joins_during_the_ramp_gets_its_share() {
        let mut dispatcher = Dispatcher::new(workers(&["a_1"]), vec![class("U", 1.0, 0)]);
        dispatcher.begin(4, 2.0, None);
        assert_eq!(dispatcher.step(), Some(Step::Next(Duration::from_secs(1))));
        dispatcher.add_worker("b_1");
        assert_eq!(dispatcher.step(), Some(Step::Next(Duration::ZERO)));
        assert_eq!(run(&mut dispatcher), vec![(vec![2, 2], Step::Last)]);
    }
}
