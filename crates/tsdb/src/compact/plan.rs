//! Which blocks are to become one: levelled ranges, as Prometheus and Thanos choose them.

use crate::block::BlockMeta;

/// Lengths of blocks by level: `first`, and each three times the one before, up to and including `longest`.
pub fn ranges(first: i64, longest: i64) -> Vec<i64> {
    let mut ranges = vec![first];
    for _ in 0..9 {
        let next = ranges.last().copied().unwrap_or(first).saturating_mul(3);
        if next > longest {
            break;
        }
        ranges.push(next);
    }
    ranges
}

/// The blocks to be merged next, or the one to be rewritten for its deletions; empty when all is as it should be.
/// `metas` are sorted by their first time.
pub fn plan<'m>(metas: &[&'m BlockMeta], ranges: &[i64]) -> Vec<&'m BlockMeta> {
    let overlapping = select_overlapping(metas);
    if !overlapping.is_empty() {
        return overlapping;
    }
    // The newest block is left alone, so that whoever copies new blocks has a whole block's time for it.
    let Some((_, settled)) = metas.split_last() else { return Vec::new() };
    let found = select_range(settled, ranges);
    if !found.is_empty() {
        return found;
    }
    select_deleted(settled, ranges)
}

/// The first run of blocks that overlap one another.
pub fn select_overlapping<'m>(metas: &[&'m BlockMeta]) -> Vec<&'m BlockMeta> {
    let mut found: Vec<&BlockMeta> = Vec::new();
    let Some((first, rest)) = metas.split_first() else { return found };
    let mut before = first;
    let mut end = first.max_time;
    for meta in rest {
        if meta.min_time < end {
            if found.is_empty() {
                found.push(before);
            }
            found.push(meta);
        } else if !found.is_empty() {
            break;
        }
        end = end.max(meta.max_time);
        before = meta;
    }
    found
}

/// The blocks of the lowest level that fill their next range.
pub fn select_range<'m>(metas: &[&'m BlockMeta], ranges: &[i64]) -> Vec<&'m BlockMeta> {
    let Some(last) = metas.last() else { return Vec::new() };
    for range in ranges.iter().skip(1) {
        for part in split_by_range(metas, *range) {
            if part.iter().any(|meta| meta.compaction.failed) {
                continue;
            }
            let (Some(oldest), Some(newest)) = (part.first(), part.last()) else { continue };
            // Full, or behind the newest block, so that no other block of the range will come.
            let is_full = newest.max_time - oldest.min_time == *range;
            if part.len() > 1 && (is_full || newest.max_time <= last.min_time) {
                return part;
            }
        }
    }
    Vec::new()
}

/// Groups neighbours that lie within one range counted from the epoch; a block that lies in none is left out.
pub fn split_by_range<'m>(metas: &[&'m BlockMeta], range: i64) -> Vec<Vec<&'m BlockMeta>> {
    let mut groups: Vec<Vec<&BlockMeta>> = Vec::new();
    let mut index = 0;
    while let Some(meta) = metas.get(index) {
        let start = meta.min_time.div_euclid(range) * range;
        if meta.max_time > start + range {
            index += 1;
            continue;
        }
        let mut group = Vec::new();
        while let Some(meta) = metas.get(index).filter(|meta| meta.max_time <= start + range) {
            group.push(*meta);
            index += 1;
        }
        groups.push(group);
    }
    groups
}

/// A large block of which more than a twentieth is deleted.
fn select_deleted<'m>(metas: &[&'m BlockMeta], ranges: &[i64]) -> Vec<&'m BlockMeta> {
    let large = ranges.get(ranges.len() / 2).copied().unwrap_or(i64::MAX);
    for meta in metas.iter().rev() {
        let (deleted, series) = (meta.stats.num_tombstones, meta.stats.num_series);
        if meta.max_time - meta.min_time < large {
            if deleted > 0 && deleted >= series {
                return vec![meta];
            }
            break;
        }
        if deleted as f64 / (series + 1) as f64 > 0.05 {
            return vec![meta];
        }
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metas(times: &[(i64, i64)]) -> Vec<BlockMeta> {
        let one = |(min_time, max_time): &(i64, i64)| BlockMeta {
            ulid: format!("{min_time}-{max_time}"),
            min_time: *min_time,
            max_time: *max_time,
            stats: Default::default(),
            compaction: Default::default(),
            version: 1,
            other: Default::default(),
        };
        times.iter().map(one).collect()
    }

    fn planned(times: &[(i64, i64)]) -> Vec<(i64, i64)> {
        let metas = metas(times);
        let metas: Vec<&BlockMeta> = metas.iter().collect();
        plan(&metas, &[20, 60, 180]).iter().map(|meta| (meta.min_time, meta.max_time)).collect()
    }

    #[test]
    fn levels() {
        assert_eq!(ranges(2, 60), [2, 6, 18, 54]);
        assert_eq!(planned(&[]), []);
        assert_eq!(planned(&[(0, 20)]), []);
        assert_eq!(planned(&[(0, 20), (20, 40), (40, 60)]), []);
        assert_eq!(planned(&[(0, 20), (20, 40), (40, 60), (60, 80)]), [(0, 20), (20, 40), (40, 60)]);
        // A gap: the range is behind the newest settled block.
        assert_eq!(planned(&[(0, 20), (20, 40), (60, 80), (80, 100)]), [(0, 20), (20, 40)]);
        assert_eq!(planned(&[(0, 60), (60, 120), (120, 180), (180, 200)]), [(0, 60), (60, 120), (120, 180)]);
        assert_eq!(planned(&[(0, 20), (10, 30), (30, 50)]), [(0, 20), (10, 30)]);
        assert_eq!(planned(&[(-60, -40), (-40, -20), (-20, 0), (0, 20)]), [(-60, -40), (-40, -20), (-20, 0)]);
    }
}
