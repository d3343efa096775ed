//! One pass over a bucket: what is contained in others goes, blocks are merged and made coarser, old ones go.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gantry_prom_model::Labels;
use gantry_tsdb::block::{Block, BlockMeta, META_FILE, new_ulid};
use gantry_tsdb::compact::merge_blocks;

use super::downsample::{FIVE_MINUTES_FROM_MS, FIVE_MINUTES_MS, HOUR_FROM_MS, HOUR_MS, downsample_block};
use super::planner::Planner;
use super::retention::{Retention, expired};
use crate::bucket::{Bucket, BucketError};
use crate::fetch::{BlockView, Fetcher, FetcherOptions, Found};
use crate::meta::{DeletionMark, NoCompactMark, Source, no_compact_mark_key};
use crate::shipper::upload_block;

/// Why compaction ends.
#[derive(Debug, thiserror::Error)]
pub enum CompactError {
    /// The bucket cannot be read or written; another time it may.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// Blocks of one stream overlap. Merging them would hide a mistake, so a person has to look.
    #[error(
        "blocks {blocks} of the stream {stream} overlap; two stores with the same external labels upload to this bucket, or vertical compaction has to be allowed"
    )]
    Overlap {
        /// The blocks.
        blocks: String,
        /// Their external labels.
        stream: String,
    },
    /// A block cannot be merged or made coarser.
    #[error("{action} block {ulid}: {reason}")]
    Block {
        /// What was being done.
        action: &'static str,
        /// To which block.
        ulid: String,
        /// Why it failed.
        reason: String,
    },
}

/// How a [`Compactor`] works.
#[derive(Debug, Clone)]
pub struct CompactorOptions {
    /// A folder for blocks under work; what it holds is removed.
    pub dir: PathBuf,
    /// How blocks are chosen.
    pub planner: Planner,
    /// Whether blocks that overlap are merged.
    pub vertical: bool,
    /// Whether coarser versions are made.
    pub downsample: bool,
    /// How long blocks are kept.
    pub retention: Retention,
    /// Fresh blocks younger than this are not touched.
    pub consistency_delay_ms: i64,
    /// Marked blocks are removed after this.
    pub delete_delay_ms: i64,
}

/// What a pass did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pass {
    /// Names of merged blocks.
    pub compacted: Vec<String>,
    /// Names of coarser blocks.
    pub downsampled: Vec<String>,
    /// Names of blocks marked for deletion.
    pub marked: Vec<String>,
    /// Names of blocks removed.
    pub deleted: Vec<String>,
}

/// Compacts a bucket. There must be one per bucket.
#[derive(Debug)]
pub struct Compactor {
    bucket: Bucket,
    fetcher: Fetcher,
    options: CompactorOptions,
}

/// A block without a meta for this long will get none.
const PARTIAL_MS: i64 = 48 * 3600 * 1000;

impl Compactor {
    /// Over a bucket.
    pub fn new(bucket: Bucket, options: CompactorOptions) -> Compactor {
        // Blocks marked half the delay ago are on their way out: nobody merges them any more.
        let fetcher = FetcherOptions {
            ignore_deletion_marks_ms: options.delete_delay_ms / 2,
            ..FetcherOptions::default()
        };
        Compactor { fetcher: Fetcher::new(bucket.clone(), fetcher), bucket, options }
    }

    /// Does all there is to do at `now_ms`.
    ///
    /// # Errors
    /// When the bucket fails, blocks overlap that must not, or a block is damaged.
    pub fn pass(&self, now_ms: i64) -> Result<Pass, CompactError> {
        let mut pass = Pass::default();
        self.empty_folder()?;
        loop {
            let found = self.look(now_ms, &mut pass)?;
            if !self.compact_once(&found, now_ms, &mut pass)? {
                break;
            }
        }
        if self.options.downsample {
            self.downsample(&self.look(now_ms, &mut pass)?, FIVE_MINUTES_MS, now_ms, &mut pass)?;
            self.downsample(&self.look(now_ms, &mut pass)?, HOUR_MS, now_ms, &mut pass)?;
        }
        for view in self.look(now_ms, &mut pass)?.blocks {
            if expired(&view.meta, view.thanos.downsample.resolution, &self.options.retention, now_ms) {
                self.mark(view.ulid(), "its retention is over", now_ms, &mut pass)?;
            }
        }
        self.delete(now_ms, &mut pass)?;
        Ok(pass)
    }

    fn empty_folder(&self) -> Result<(), CompactError> {
        let dir = &self.options.dir;
        if dir.exists() {
            fs::remove_dir_all(dir).map_err(BucketError::file("remove", dir))?;
        }
        fs::create_dir_all(dir).map_err(BucketError::file("create folder", dir))?;
        Ok(())
    }

    /// Looks at the bucket; blocks that others contain are marked.
    fn look(&self, now_ms: i64, pass: &mut Pass) -> Result<Found, CompactError> {
        let mut found = self.fetcher.fetch(now_ms)?;
        for (ulid, reason) in &found.failed {
            tracing::warn!(%ulid, %reason, "a block cannot be read and is left alone");
        }
        for view in &found.duplicates {
            self.mark(view.ulid(), "its samples are in another block", now_ms, pass)?;
        }
        let fresh = |view: &BlockView| {
            let made_ms = ulid::Ulid::from_string(view.ulid()).map_or(0, |ulid| ulid.timestamp_ms() as i64);
            let is_ours =
                view.thanos.source.starts_with("compactor") || view.thanos.source == "bucket.repair";
            !is_ours && made_ms > now_ms.saturating_sub(self.options.consistency_delay_ms)
        };
        // One that is marked is on its way out, though others may still read it.
        found.blocks.retain(|view| view.deletion_ms.is_none() && !fresh(view));
        Ok(found)
    }

    fn mark(&self, ulid: &str, details: &str, now_ms: i64, pass: &mut Pass) -> Result<(), CompactError> {
        if DeletionMark::read(&self.bucket, ulid)?.is_none() {
            DeletionMark::write(&self.bucket, ulid, details, now_ms)?;
            pass.marked.push(ulid.to_owned());
        }
        Ok(())
    }

    /// Merges the first blocks that are to be; whether there were any.
    fn compact_once(&self, found: &Found, now_ms: i64, pass: &mut Pass) -> Result<bool, CompactError> {
        let mut streams: BTreeMap<(i64, Labels), Vec<Arc<BlockView>>> = BTreeMap::new();
        for view in &found.blocks {
            let key = (view.thanos.downsample.resolution, view.labels.clone());
            streams.entry(key).or_default().push(view.clone());
        }
        for ((resolution, labels), views) in streams {
            let metas: Vec<&BlockMeta> = views.iter().map(|view| &view.meta).collect();
            let excluded: HashSet<String> =
                views.iter().filter(|view| view.no_compact).map(|view| view.ulid().to_owned()).collect();
            let index_bytes = |meta: &BlockMeta| {
                let view = views.iter().find(|view| view.ulid() == meta.ulid);
                view.and_then(|view| view.files.get("index")).copied().unwrap_or(0)
            };
            let plan = self.options.planner.plan(&metas, &excluded, index_bytes);
            for meta in &plan.too_large {
                self.exclude(&meta.ulid, now_ms)?;
            }
            if plan.blocks.is_empty() {
                continue;
            }
            let overlaps = plan.blocks.windows(2).any(|pair| pair[1].min_time < pair[0].max_time);
            let names: Vec<&str> = plan.blocks.iter().map(|meta| meta.ulid.as_str()).collect();
            if overlaps && !self.options.vertical {
                return Err(CompactError::Overlap { blocks: names.join(", "), stream: labels.to_string() });
            }
            self.merge(&names, resolution, &labels, now_ms, pass)?;
            return Ok(true);
        }
        Ok(false)
    }

    fn exclude(&self, ulid: &str, now_ms: i64) -> Result<(), CompactError> {
        let mark = NoCompactMark {
            id: ulid.to_owned(),
            version: 1,
            details: "its index is too large to be merged with others".into(),
            no_compact_time: now_ms / 1000,
            reason: "index-size-exceeding".into(),
        };
        let name = no_compact_mark_key(ulid);
        let text = serde_json::to_vec(&mark)
            .map_err(|error| BucketError::Content { name: name.clone(), reason: error.to_string() })?;
        Ok(self.bucket.put(&name, text)?)
    }

    fn merge(
        &self,
        names: &[&str],
        resolution: i64,
        labels: &Labels,
        now_ms: i64,
        pass: &mut Pass,
    ) -> Result<(), CompactError> {
        let failed = |action| {
            move |error: &dyn std::fmt::Display| CompactError::Block {
                action,
                ulid: names.join(", "),
                reason: error.to_string(),
            }
        };
        let mut parents = Vec::new();
        for ulid in names {
            parents.push(Arc::new(self.download(ulid)?));
        }
        let ulid = new_ulid(now_ms);
        let dir = &self.options.dir;
        let merged = merge_blocks(dir, &ulid, &parents, |_| {}).map_err(|error| failed("merge")(&error))?;
        if merged.is_some() {
            upload_block(&self.bucket, &dir.join(&ulid), labels, Source::Compactor, resolution, now_ms)?;
            pass.compacted.push(ulid.clone());
        }
        drop(parents);
        for parent in names {
            self.mark(parent, "it was merged into another block", now_ms, pass)?;
            remove(&dir.join(parent))?;
        }
        remove(&dir.join(&ulid))
    }

    fn download(&self, ulid: &str) -> Result<Block, CompactError> {
        let dir = self.options.dir.join(ulid);
        fs::create_dir_all(dir.join("chunks")).map_err(BucketError::file("create folder", &dir))?;
        for object in self.bucket.list(ulid)? {
            let Some(file) = object.name.strip_prefix(ulid).and_then(|name| name.strip_prefix('/')) else {
                continue;
            };
            let is_segment =
                file.strip_prefix("chunks/").is_some_and(|name| name.bytes().all(|b| b.is_ascii_digit()));
            if is_segment || file == "index" || file == META_FILE {
                self.bucket.get_file(&object.name, &dir.join(file))?;
            }
        }
        Block::open(&dir).map_err(|error| CompactError::Block {
            action: "open",
            ulid: ulid.to_owned(),
            reason: error.to_string(),
        })
    }

    /// Makes the coarser versions that are missing.
    fn downsample(
        &self,
        found: &Found,
        to_ms: i64,
        now_ms: i64,
        pass: &mut Pass,
    ) -> Result<(), CompactError> {
        let (from_ms, at_least_ms) = if to_ms == FIVE_MINUTES_MS {
            (0, FIVE_MINUTES_FROM_MS)
        } else {
            (FIVE_MINUTES_MS, HOUR_FROM_MS)
        };
        // The sources of all coarse blocks of a stream: what is among them is made already.
        let mut made: BTreeMap<&Labels, HashSet<&String>> = BTreeMap::new();
        for view in found.blocks.iter().filter(|view| view.thanos.downsample.resolution == to_ms) {
            made.entry(&view.labels).or_default().extend(&view.meta.compaction.sources);
        }
        for view in found.blocks.iter().filter(|view| view.thanos.downsample.resolution == from_ms) {
            let sources = &view.meta.compaction.sources;
            let is_made =
                made.get(&view.labels).is_some_and(|made| sources.iter().all(|source| made.contains(source)));
            if is_made || view.meta.max_time - view.meta.min_time < at_least_ms {
                continue;
            }
            let block = Arc::new(self.download(view.ulid())?);
            let ulid = new_ulid(now_ms);
            let dir = &self.options.dir;
            let coarse = downsample_block(dir, &ulid, &block, from_ms, to_ms).map_err(|error| {
                CompactError::Block {
                    action: "downsample",
                    ulid: view.ulid().to_owned(),
                    reason: error.to_string(),
                }
            })?;
            if coarse.is_some() {
                upload_block(&self.bucket, &dir.join(&ulid), &view.labels, Source::Compactor, to_ms, now_ms)?;
                pass.downsampled.push(ulid.clone());
            }
            drop(block);
            remove(&dir.join(view.ulid()))?;
            remove(&dir.join(&ulid))?;
        }
        Ok(())
    }

    /// Removes blocks that were marked long enough ago, and what never became a block.
    fn delete(&self, now_ms: i64, pass: &mut Pass) -> Result<(), CompactError> {
        let found = self.fetcher.fetch(now_ms)?;
        let marked = found.blocks.iter().chain(&found.duplicates).chain(&found.deleted);
        let over = marked.filter(|view| {
            view.deletion_ms
                .is_some_and(|marked| now_ms.saturating_sub(marked) > self.options.delete_delay_ms)
        });
        let mut names: Vec<String> = over.map(|view| view.ulid().to_owned()).collect();
        let partial =
            found.partial.into_iter().filter(|(_, newest)| now_ms.saturating_sub(*newest) > PARTIAL_MS);
        names.extend(partial.map(|(ulid, _)| ulid));
        for ulid in names {
            self.remove_block(&ulid)?;
            pass.deleted.push(ulid);
        }
        Ok(())
    }

    /// The meta first, so that nobody takes what is left for a block; the mark last, so that it is tried again.
    fn remove_block(&self, ulid: &str) -> Result<(), BucketError> {
        let mark = crate::meta::deletion_mark_key(ulid);
        self.bucket.delete(&format!("{ulid}/{META_FILE}"))?;
        for object in self.bucket.list(ulid)? {
            if object.name != mark {
                self.bucket.delete(&object.name)?;
            }
        }
        self.bucket.delete(&mark)
    }
}

fn remove(dir: &Path) -> Result<(), CompactError> {
    if dir.exists() {
        fs::remove_dir_all(dir).map_err(BucketError::file("remove", dir))?;
    }
    Ok(())
}
