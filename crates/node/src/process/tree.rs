//! Which processes belong to a container, and what they have used, from successive looks at `/proc`.
//!
//! A process belongs when it is the root, is in the root's process group, descends from a member, or was a member
//! at the last look: so a daemon that left its group stays known. CPU time of members that have ended is in their
//! parent's account when the parent is a member that waited for them, and is kept here otherwise.

use std::collections::{HashMap, HashSet};

use crate::procfs::Stat;

#[derive(Debug, Clone)]
pub(crate) struct Tree {
    root: u32,
    root_start: u64,
    members: HashMap<u32, Member>,
    departed_ticks: u64,
    highest_ticks: u64,
}

#[derive(Debug, Clone, Copy)]
struct Member {
    start_ticks: u64,
    parent: u32,
    ticks: u64,
    rss_pages: u64,
    zombie: bool,
}

impl Tree {
    pub(crate) fn new(root: u32, root_start: u64) -> Tree {
        Tree { root, root_start, members: HashMap::new(), departed_ticks: 0, highest_ticks: 0 }
    }

    /// Takes in a new look at all processes.
    pub(crate) fn update(&mut self, all: &[Stat]) {
        let mut children: HashMap<u32, Vec<&Stat>> = HashMap::new();
        let mut pending: Vec<&Stat> = Vec::new();
        for stat in all {
            children.entry(stat.ppid).or_default().push(stat);
            let is_root = stat.pid == self.root && stat.start_ticks == self.root_start;
            let in_group = stat.pgrp == self.root && stat.start_ticks >= self.root_start;
            let known = self.members.get(&stat.pid).is_some_and(|m| m.start_ticks == stat.start_ticks);
            if is_root || in_group || known {
                pending.push(stat);
            }
        }
        let mut members: HashMap<u32, Member> = HashMap::new();
        while let Some(stat) = pending.pop() {
            let member = Member {
                start_ticks: stat.start_ticks,
                parent: stat.ppid,
                ticks: stat.own_ticks.saturating_add(stat.reaped_ticks),
                rss_pages: stat.rss_pages,
                zombie: stat.state == 'Z',
            };
            if members.insert(stat.pid, member).is_none() {
                pending.extend(children.get(&stat.pid).into_iter().flatten().copied());
            }
        }
        for (pid, old) in &self.members {
            let gone = members.get(pid).is_none_or(|now| now.start_ticks != old.start_ticks);
            let waited_for = members.contains_key(&old.parent);
            if gone && !waited_for {
                self.departed_ticks = self.departed_ticks.saturating_add(old.ticks);
            }
        }
        self.members = members;
        let now: u64 = self.members.values().map(|m| m.ticks).fold(self.departed_ticks, u64::saturating_add);
        // A child that its parent did not wait for takes its time with it; a counter must not fall.
        self.highest_ticks = self.highest_ticks.max(now);
    }

    pub(crate) fn ticks(&self) -> u64 {
        self.highest_ticks
    }

    pub(crate) fn rss_pages(&self) -> u64 {
        self.members.values().map(|m| m.rss_pages).sum()
    }

    pub(crate) fn contains(&self, pid: u32) -> bool {
        self.members.contains_key(&pid)
    }

    pub(crate) fn alive(&self) -> impl Iterator<Item = u32> + '_ {
        self.members.iter().filter(|(_, m)| !m.zombie).map(|(pid, _)| *pid)
    }

    /// Dead members other than the root whose parent is `reaper`, for it to wait for.
    pub(crate) fn zombies_of(&self, reaper: u32) -> HashSet<u32> {
        let orphans = self.members.iter().filter(|(_, m)| m.zombie && m.parent == reaper);
        orphans.map(|(pid, _)| *pid).filter(|pid| *pid != self.root).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(pid: u32, ppid: u32, pgrp: u32, start: u64, own: u64, reaped: u64) -> Stat {
        Stat {
            pid,
            comm: String::new(),
            state: 'S',
            ppid,
            pgrp,
            session: 1,
            own_ticks: own,
            reaped_ticks: reaped,
            start_ticks: start,
            rss_pages: 10,
        }
    }

    #[test]
    fn descendants_group_and_daemons_belong() {
        let mut tree = Tree::new(100, 5);
        let child = stat(101, 100, 100, 6, 3, 0);
        let left_group = stat(102, 101, 102, 7, 4, 0);
        tree.update(&[
            stat(1, 0, 1, 0, 99, 0),
            stat(100, 1, 100, 5, 2, 0),
            child.clone(),
            left_group.clone(),
        ]);
        assert_eq!((tree.ticks(), tree.rss_pages()), (9, 30));
        // The middle one ends, waited for by the root; its child becomes an orphan of init, yet stays known.
        tree.update(&[stat(100, 1, 100, 5, 2, 3), Stat { ppid: 1, ..left_group }]);
        assert!(tree.contains(102));
        assert_eq!(tree.ticks(), 9);
        // The orphan ends: init takes its account, we keep it.
        tree.update(&[stat(100, 1, 100, 5, 2, 3)]);
        assert_eq!(tree.ticks(), 9);
        tree.update(&[stat(100, 1, 100, 5, 12, 3)]);
        assert_eq!(tree.ticks(), 19);
    }

    #[test]
    fn a_reused_pid_is_a_stranger() {
        let mut tree = Tree::new(100, 5);
        tree.update(&[stat(100, 1, 100, 5, 2, 0), stat(101, 100, 100, 6, 1, 0)]);
        tree.update(&[stat(100, 1, 100, 5, 2, 1), stat(101, 1, 101, 50, 40, 0)]);
        assert!(!tree.contains(101));
        assert_eq!(tree.ticks(), 3);
        let mut other = Tree::new(100, 4);
        other.update(&[stat(100, 1, 7, 5, 2, 0)]);
        assert!(!other.contains(100));
    }

    #[test]
    fn zombies_are_named_for_their_reaper() {
        let mut tree = Tree::new(100, 5);
        let zombie = Stat { state: 'Z', ..stat(103, 9, 100, 8, 1, 0) };
        tree.update(&[stat(100, 9, 100, 5, 2, 0), zombie]);
        assert_eq!(tree.zombies_of(9), HashSet::from([103]));
        assert_eq!(tree.alive().collect::<Vec<_>>(), [100]);
    }
}
