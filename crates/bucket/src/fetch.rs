//! The blocks in a bucket: listed, their metas read once, and those left out that nobody should read.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use gantry_prom_model::Labels;
use gantry_tsdb::block::{BlockMeta, META_FILE};
use parking_lot::Mutex;

use crate::bucket::{Bucket, BucketError, Listed};
use crate::meta::{DeletionMark, ThanosMeta, deletion_mark_key, no_compact_mark_key};

/// What a [`Fetcher`] leaves out.
#[derive(Debug, Clone, Copy)]
pub struct FetcherOptions {
    /// Blocks that were marked for deletion longer ago than this are not shown.
    pub ignore_deletion_marks_ms: i64,
    /// Whether a block that is contained in another one is not shown.
    pub without_duplicates: bool,
}

impl Default for FetcherOptions {
    fn default() -> FetcherOptions {
        FetcherOptions { ignore_deletion_marks_ms: 24 * 3600 * 1000, without_duplicates: true }
    }
}

/// A block in a bucket.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockView {
    /// Its meta.
    pub meta: BlockMeta,
    /// Thanos' section of it.
    pub thanos: ThanosMeta,
    /// Its external labels.
    pub labels: Labels,
    /// Objects and their sizes, by their name within the block.
    pub files: BTreeMap<String, u64>,
    /// When it was marked for deletion, in milliseconds since the epoch.
    pub deletion_ms: Option<i64>,
    /// Whether it is marked as not to be compacted.
    pub no_compact: bool,
}

impl BlockView {
    /// The block's name.
    pub fn ulid(&self) -> &str {
        &self.meta.ulid
    }
}

/// What a look at the bucket found.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// The blocks to be read, by their first time.
    pub blocks: Vec<Arc<BlockView>>,
    /// Blocks that are contained in others.
    pub duplicates: Vec<Arc<BlockView>>,
    /// Blocks that are marked long enough to be left alone.
    pub deleted: Vec<Arc<BlockView>>,
    /// Names of blocks without a `meta.json`, with the time of their newest object.
    pub partial: Vec<(String, i64)>,
    /// Blocks that cannot be read, and why.
    pub failed: Vec<(String, String)>,
}

/// Looks at a bucket again and again; a meta is read once.
#[derive(Debug)]
pub struct Fetcher {
    bucket: Bucket,
    options: FetcherOptions,
    metas: Mutex<HashMap<String, Arc<(BlockMeta, ThanosMeta)>>>,
}

impl Fetcher {
    /// Over a bucket.
    pub fn new(bucket: Bucket, options: FetcherOptions) -> Fetcher {
        Fetcher { bucket, options, metas: Mutex::default() }
    }

    fn meta(&self, ulid: &str) -> Result<Arc<(BlockMeta, ThanosMeta)>, String> {
        if let Some(meta) = self.metas.lock().get(ulid) {
            return Ok(meta.clone());
        }
        let name = format!("{ulid}/{META_FILE}");
        let text = self.bucket.get(&name).map_err(|error| error.to_string())?;
        let meta = BlockMeta::parse(&name, &text).map_err(|error| error.to_string())?;
        if meta.ulid != ulid {
            return Err(format!("object {name} is the meta of block {}", meta.ulid));
        }
        let thanos = ThanosMeta::of(&meta).map_err(|reason| format!("object {name}: {reason}"))?;
        let read = Arc::new((meta, thanos.unwrap_or_default()));
        self.metas.lock().insert(ulid.to_owned(), read.clone());
        Ok(read)
    }

    /// Looks at the bucket.
    ///
    /// # Errors
    /// When it cannot be listed, or a mark cannot be read. A block that cannot be read is in the answer instead.
    pub fn fetch(&self, now_ms: i64) -> Result<Found, BucketError> {
        let mut objects: BTreeMap<String, Vec<Listed>> = BTreeMap::new();
        for object in self.bucket.list("")? {
            let Some((ulid, _)) = object.name.split_once('/') else { continue };
            if ulid.len() == 26 && ulid::Ulid::from_string(ulid).is_ok() {
                objects.entry(ulid.to_owned()).or_default().push(object);
            }
        }
        self.metas.lock().retain(|ulid, _| objects.contains_key(ulid));
        let mut found = Found::default();
        let mut all = Vec::new();
        for (ulid, objects) in objects {
            let has = |name: &str| objects.iter().any(|object| object.name == name);
            if !has(&format!("{ulid}/{META_FILE}")) {
                let newest = objects.iter().map(|object| object.modified_ms).max().unwrap_or(0);
                found.partial.push((ulid, newest));
                continue;
            }
            let read = match self.meta(&ulid) {
                Ok(read) => read,
                Err(reason) => {
                    found.failed.push((ulid, reason));
                    continue;
                }
            };
            let deletion_ms = if has(&deletion_mark_key(&ulid)) {
                DeletionMark::read(&self.bucket, &ulid)?.map(|mark| mark.deletion_time.saturating_mul(1000))
            } else {
                None
            };
            let no_compact = has(&no_compact_mark_key(&ulid));
            let files = objects
                .iter()
                .filter_map(|object| {
                    Some((object.name.strip_prefix(&ulid)?.strip_prefix('/')?.to_owned(), object.bytes))
                })
                .collect();
            let (meta, thanos) = (read.0.clone(), read.1.clone());
            let labels = thanos.external_labels();
            let view = Arc::new(BlockView { meta, thanos, labels, files, deletion_ms, no_compact });
            let is_deleted = deletion_ms
                .is_some_and(|marked| now_ms.saturating_sub(marked) > self.options.ignore_deletion_marks_ms);
            if is_deleted { found.deleted.push(view) } else { all.push(view) }
        }
        let duplicates: HashSet<String> =
            if self.options.without_duplicates { duplicates(&all) } else { HashSet::new() };
        for view in all {
            if duplicates.contains(view.ulid()) {
                found.duplicates.push(view)
            } else {
                found.blocks.push(view)
            }
        }
        found.blocks.sort_by(|left, right| {
            (left.meta.min_time, left.ulid()).cmp(&(right.meta.min_time, right.ulid()))
        });
        Ok(found)
    }
}

/// Blocks all of whose sources are in another block of the same labels and resolution.
fn duplicates(blocks: &[Arc<BlockView>]) -> HashSet<String> {
    let mut groups: HashMap<(&Labels, i64), Vec<&BlockView>> = HashMap::new();
    for block in blocks {
        groups.entry((&block.labels, block.thanos.downsample.resolution)).or_default().push(block);
    }
    let mut found = HashSet::new();
    for group in groups.values_mut() {
        // The block with most sources first; of those with as many, the older one.
        group.sort_by(|left, right| {
            let count = |block: &BlockView| block.meta.compaction.sources.len();
            count(right).cmp(&count(left)).then_with(|| left.meta.ulid.cmp(&right.meta.ulid))
        });
        let mut kept: Vec<HashSet<&String>> = Vec::new();
        for block in group {
            let sources = &block.meta.compaction.sources;
            let is_contained = !sources.is_empty()
                && kept.iter().any(|kept| sources.iter().all(|source| kept.contains(source)));
            if is_contained {
                found.insert(block.meta.ulid.clone());
            } else {
                kept.push(sources.iter().collect());
            }
        }
    }
    found
}
