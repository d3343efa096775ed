//! Which blocks of one stream are to become one, and which are too large for that.

use std::collections::HashSet;

use gantry_tsdb::block::BlockMeta;
use gantry_tsdb::compact::{select_overlapping, split_by_range};

const HOUR_MS: i64 = 3600 * 1000;
/// Lengths of blocks by level, as Thanos has them.
pub const RANGES_MS: [i64; 5] = [HOUR_MS, 2 * HOUR_MS, 8 * HOUR_MS, 48 * HOUR_MS, 14 * 24 * HOUR_MS];
/// The index of a block has 32-bit places of 16 bytes: larger ones cannot be written.
pub const MAX_INDEX_BYTES: u64 = 64 << 30;

/// Plans the compactions of one stream: blocks of the same external labels and resolution.
#[derive(Debug, Clone)]
pub struct Planner {
    /// Lengths of blocks by level.
    pub ranges: Vec<i64>,
    /// The indices of blocks that are merged have together less than seventeen twentieths of this.
    pub max_index_bytes: u64,
}

impl Default for Planner {
    fn default() -> Planner {
        Planner { ranges: RANGES_MS.to_vec(), max_index_bytes: MAX_INDEX_BYTES }
    }
}

/// What is to be done.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan<'m> {
    /// The blocks to be merged; none when there is nothing to do.
    pub blocks: Vec<&'m BlockMeta>,
    /// Blocks whose index is too large; they are to be marked as not to be compacted.
    pub too_large: Vec<&'m BlockMeta>,
}

impl Planner {
    /// Plans the next compaction. `metas` are sorted by their first time; `excluded` are not to be compacted;
    /// `index_bytes` is the size of a block's index.
    pub fn plan<'m>(
        &self,
        metas: &[&'m BlockMeta],
        excluded: &HashSet<String>,
        index_bytes: impl Fn(&BlockMeta) -> u64,
    ) -> Plan<'m> {
        let mut excluded = excluded.clone();
        let mut too_large: Vec<&BlockMeta> = Vec::new();
        // Some room is left: a merged index is a little larger than its parts.
        let limit = (self.max_index_bytes as f64 * 0.85) as u64;
        loop {
            let blocks = self.select(metas, &excluded);
            let mut total = 0u64;
            let mut largest: Option<(&'m BlockMeta, u64)> = None;
            let mut over = None;
            for meta in &blocks {
                let bytes = index_bytes(meta);
                if largest.is_none_or(|(_, most)| most < bytes) {
                    largest = Some((meta, bytes));
                }
                total = total.saturating_add(bytes);
                if total >= limit {
                    over = largest;
                    break;
                }
            }
            let Some((meta, _)) = over else { return Plan { blocks, too_large } };
            excluded.insert(meta.ulid.clone());
            too_large.push(meta);
        }
    }

    fn select<'m>(&self, metas: &[&'m BlockMeta], excluded: &HashSet<String>) -> Vec<&'m BlockMeta> {
        let is_excluded = |meta: &BlockMeta| excluded.contains(&meta.ulid);
        let mut free: Vec<&BlockMeta> = metas.iter().copied().filter(|meta| !is_excluded(meta)).collect();
        let overlapping = select_overlapping(&free);
        if !overlapping.is_empty() {
            return overlapping;
        }
        // The newest block is left alone, so that there is time to look after it.
        let Some((newest, settled)) = metas.split_last() else { return Vec::new() };
        if !is_excluded(newest) {
            free.pop();
        }
        let found = self.select_range(settled, &is_excluded);
        if !found.is_empty() {
            return found;
        }
        let large = self.ranges.get(self.ranges.len() / 2).copied().unwrap_or(i64::MAX);
        for meta in free.iter().rev() {
            if meta.max_time - meta.min_time < large {
                break;
            }
            if meta.stats.num_tombstones as f64 / (meta.stats.num_series + 1) as f64 > 0.05 {
                return vec![meta];
            }
        }
        Vec::new()
    }

    fn select_range<'m>(
        &self,
        metas: &[&'m BlockMeta],
        is_excluded: &impl Fn(&BlockMeta) -> bool,
    ) -> Vec<&'m BlockMeta> {
        let Some(last) = metas.last() else { return Vec::new() };
        for range in self.ranges.iter().skip(1) {
            for part in split_by_range(metas, *range) {
                if part.len() < 2 || part.iter().any(|meta| meta.compaction.failed) {
                    continue;
                }
                let (oldest, newest) = (part[0], part[part.len() - 1]);
                let is_full = newest.max_time - oldest.min_time == *range;
                if !is_full && newest.max_time > last.min_time {
                    continue;
                }
                // Neighbours between excluded blocks, so that a merged block never spans an excluded one.
                let found = part.split(|meta| is_excluded(meta)).find(|run| run.len() > 1);
                if let Some(run) = found {
                    return run.to_vec();
                }
            }
        }
        Vec::new()
    }
}
