//! The block folders of a data folder: opened, merged, and removed.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::{Db, Maintenance};
use crate::block::{Block, BlockError, BlockMeta, CREATION_SUFFIX, DELETION_SUFFIX, META_FILE, new_ulid};
use crate::compact::{merge_blocks, plan};
use crate::error::TsdbError;

/// The blocks of a folder.
pub(super) struct Blocks<'d> {
    dir: &'d Path,
}

impl<'d> Blocks<'d> {
    pub(super) fn new(dir: &'d Path) -> Blocks<'d> {
        Blocks { dir }
    }

    /// Removes what interrupted work left, and opens the blocks, by their first time. A block that is contained in
    /// another is removed.
    pub(super) fn open_all(&self) -> Result<Vec<Arc<Block>>, TsdbError> {
        let mut blocks = Vec::new();
        let entries = fs::read_dir(self.dir).map_err(TsdbError::io("read folder", self.dir))?;
        for entry in entries {
            let entry = entry.map_err(TsdbError::io("read folder", self.dir))?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let path = entry.path();
            let is_interrupted = [CREATION_SUFFIX, DELETION_SUFFIX]
                .iter()
                .any(|suffix| name.strip_suffix(suffix).is_some_and(is_ulid));
            if is_interrupted {
                fs::remove_dir_all(&path).map_err(TsdbError::io("remove", &path))?;
            } else if is_ulid(name) && path.join(META_FILE).is_file() {
                blocks.push(Arc::new(Block::open(&path)?));
            }
        }
        let replaced: HashSet<String> = blocks
            .iter()
            .flat_map(|block| &block.meta().compaction.parents)
            .map(|parent| parent.ulid.clone())
            .collect();
        let mut kept = Vec::new();
        for block in blocks {
            if replaced.contains(&block.meta().ulid) || block.meta().compaction.deletable {
                self.remove(&block)?;
            } else {
                kept.push(block);
            }
        }
        kept.sort_by_key(|block| block.meta().min_time);
        Ok(kept)
    }

    /// Removes a block's folder, at once as seen by the next start.
    pub(super) fn remove(&self, block: &Block) -> Result<(), TsdbError> {
        let ulid = &block.meta().ulid;
        let (path, partial) = (self.dir.join(ulid), self.dir.join(format!("{ulid}{DELETION_SUFFIX}")));
        fs::rename(&path, &partial).map_err(TsdbError::io("rename", &path))?;
        fs::remove_dir_all(&partial).map_err(TsdbError::io("remove", &partial))
    }
}

fn is_ulid(name: &str) -> bool {
    name.len() == 26 && ulid::Ulid::from_string(name).is_ok()
}

impl Db {
    /// Merges blocks until each has the length of its level.
    pub(super) fn compact(&self, now_ms: i64, done: &mut Maintenance) -> Result<(), TsdbError> {
        let ranges = self.options.ranges();
        loop {
            let blocks = self.blocks();
            let metas: Vec<&BlockMeta> = blocks.iter().map(|block| block.meta()).collect();
            let wanted: HashSet<&str> = plan(&metas, &ranges).iter().map(|meta| meta.ulid.as_str()).collect();
            if wanted.is_empty() {
                return Ok(());
            }
            let (parents, mut others): (Vec<_>, Vec<_>) =
                blocks.iter().cloned().partition(|block| wanted.contains(block.meta().ulid.as_str()));
            let ulid = new_ulid(now_ms);
            let merged = match merge_blocks(&self.dir, &ulid, &parents, self.options.step) {
                Ok(merged) => merged,
                Err(error) => {
                    self.mark_failed(parents, others)?;
                    return Err(error.into());
                }
            };
            if merged.is_some() {
                others.push(Arc::new(Block::open(&self.dir.join(&ulid))?));
                done.compacted.push(ulid);
            }
            others.sort_by_key(|block| block.meta().min_time);
            self.replace_state(others);
            for parent in parents {
                (self.options.step)("remove a parent");
                Blocks::new(&self.dir).remove(&parent)?;
            }
        }
    }

    /// Notes in the blocks that they cannot be merged, so that it is not tried for ever.
    fn mark_failed(&self, parents: Vec<Arc<Block>>, mut others: Vec<Arc<Block>>) -> Result<(), BlockError> {
        for parent in parents {
            let dir = self.dir.join(&parent.meta().ulid);
            let mut meta = parent.meta().clone();
            meta.compaction.failed = true;
            meta.write(&dir)?;
            others.push(Arc::new(Block::open(&dir)?));
        }
        others.sort_by_key(|block| block.meta().min_time);
        self.replace_state(others);
        Ok(())
    }

    /// Removes the blocks whose time is over, and the oldest while the folder is too large.
    pub(super) fn expire(&self, done: &mut Maintenance) -> Result<(), TsdbError> {
        let mut blocks = self.blocks();
        // Newest first: that one is never removed for its time.
        blocks.sort_by_key(|block| std::cmp::Reverse(block.meta().max_time));
        let Some(newest) = blocks.first().map(|block| block.meta().max_time) else { return Ok(()) };
        let mut bytes =
            if self.options.retention_bytes > 0 { folder_bytes(&self.dir.join("wal")) } else { 0 };
        let mut kept = Vec::new();
        let mut expired = Vec::new();
        for block in blocks {
            bytes += block.size_bytes();
            let too_old = newest.saturating_sub(block.meta().max_time) > self.options.retention_ms;
            let too_much = self.options.retention_bytes > 0 && bytes > self.options.retention_bytes;
            if too_old || too_much || !expired.is_empty() { expired.push(block) } else { kept.push(block) }
        }
        if expired.is_empty() {
            return Ok(());
        }
        kept.sort_by_key(|block| block.meta().min_time);
        self.replace_state(kept);
        for block in expired {
            Blocks::new(&self.dir).remove(&block)?;
            done.expired.push(block.meta().ulid.clone());
        }
        Ok(())
    }
}

fn folder_bytes(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => folder_bytes(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}
