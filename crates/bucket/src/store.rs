//! The blocks of a bucket as a store.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use gantry_prom_model::{Labels, Matcher};
use gantry_tsdb::block::{Block, ChunkSeriesSet, META_FILE, ReadAt};
use parking_lot::RwLock;

use crate::bucket::{Bucket, BucketError};
use crate::cache::RangeCache;
use crate::fetch::{BlockView, Fetcher, FetcherOptions};
use crate::proxy::merge;
use crate::source::ObjectSource;
use crate::storeapi::{
    LabelsAnswer, LabelsQuery, SeriesQuery, SeriesStream, Sorted, StoreApi, StoreError, StoreInfo,
    matchers_within,
};

/// How a [`BucketStore`] reads.
#[derive(Debug, Clone, Copy)]
pub struct BucketStoreOptions {
    /// What is not shown.
    pub fetcher: FetcherOptions,
    /// Bytes of indices and chunks that are kept in memory.
    pub cache_bytes: usize,
    /// Blocks that end before this are not shown.
    pub min_time_ms: i64,
    /// Blocks that begin after this are not shown.
    pub max_time_ms: i64,
    /// A question that reads more series than this in one block is refused; 0 for no limit.
    pub max_series: u64,
}

impl Default for BucketStoreOptions {
    fn default() -> BucketStoreOptions {
        BucketStoreOptions {
            fetcher: FetcherOptions::default(),
            cache_bytes: 64 << 20,
            min_time_ms: i64::MIN,
            max_time_ms: i64::MAX,
            max_series: 0,
        }
    }
}

#[derive(Debug, Clone)]
struct Shown {
    view: Arc<BlockView>,
    block: Arc<Block>,
}

/// Blocks in a bucket, looked at by [`sync`](Self::sync).
#[derive(Debug)]
pub struct BucketStore {
    bucket: Bucket,
    fetcher: Fetcher,
    options: BucketStoreOptions,
    cache: Arc<RangeCache>,
    shown: RwLock<Option<Arc<Vec<Shown>>>>,
}

/// What a look at the bucket changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Synced {
    /// Blocks shown.
    pub blocks: usize,
    /// Blocks that cannot be read, and why.
    pub failed: Vec<(String, String)>,
}

impl BucketStore {
    /// Over a bucket; it shows nothing before the first [`sync`](Self::sync).
    pub fn new(bucket: Bucket, options: BucketStoreOptions) -> BucketStore {
        BucketStore {
            fetcher: Fetcher::new(bucket.clone(), options.fetcher),
            bucket,
            options,
            cache: Arc::new(RangeCache::new(options.cache_bytes)),
            shown: RwLock::new(None),
        }
    }

    fn open(&self, view: &BlockView) -> Result<Block, String> {
        let ulid = view.ulid();
        let size = |name: &str| {
            view.files.get(name).copied().ok_or_else(|| format!("object {ulid}/{name} does not exist"))
        };
        let name = format!("{ulid}/index");
        let index = ObjectSource::index(self.bucket.clone(), &name, size("index")?, self.cache.clone());
        let mut segments: Vec<Arc<dyn ReadAt>> = Vec::new();
        for (name, bytes) in
            view.files.range("chunks/".to_owned()..).take_while(|(n, _)| n.starts_with("chunks/"))
        {
            let name = format!("{ulid}/{name}");
            let source = ObjectSource::segment(self.bucket.clone(), &name, *bytes, self.cache.clone());
            segments.push(Arc::new(source));
        }
        Block::from_sources(view.meta.clone(), Arc::new(index), segments).map_err(|error| error.to_string())
    }

    /// Looks at the bucket: new blocks are shown, those that went are not.
    ///
    /// # Errors
    /// When the bucket cannot be listed; what was shown stays.
    pub fn sync(&self, now_ms: i64) -> Result<Synced, BucketError> {
        let found = self.fetcher.fetch(now_ms)?;
        let before = self.shown.read().clone().unwrap_or_default();
        let known: HashMap<&str, &Shown> = before.iter().map(|shown| (shown.view.ulid(), shown)).collect();
        let mut synced = Synced { blocks: 0, failed: found.failed };
        let mut shown = Vec::new();
        for view in found.blocks {
            let meta = &view.meta;
            if meta.max_time <= self.options.min_time_ms || meta.min_time > self.options.max_time_ms {
                continue;
            }
            match known.get(view.ulid()) {
                Some(known) => shown.push(Shown { view, block: known.block.clone() }),
                None => match self.open(&view) {
                    Ok(block) => shown.push(Shown { block: Arc::new(block), view }),
                    Err(reason) => synced.failed.push((view.ulid().to_owned(), reason)),
                },
            }
        }
        synced.blocks = shown.len();
        *self.shown.write() = Some(Arc::new(shown));
        Ok(synced)
    }

    fn shown(&self) -> Result<Arc<Vec<Shown>>, StoreError> {
        self.shown.read().clone().ok_or_else(|| StoreError::Unavailable {
            store: self.name(),
            reason: "the bucket has not been looked at yet".into(),
        })
    }

    /// The blocks that answer a question, of each stretch of time those with the coarsest resolution that will do.
    fn blocks_for(
        &self,
        min_ms: i64,
        max_ms: i64,
        max_resolution_ms: i64,
        matchers: &[Matcher],
    ) -> Result<Vec<(Shown, Vec<Matcher>)>, StoreError> {
        let mut groups: BTreeMap<Labels, Vec<Shown>> = BTreeMap::new();
        for shown in self.shown()?.iter() {
            groups.entry(shown.view.labels.clone()).or_default().push(shown.clone());
        }
        let mut found = Vec::new();
        for (labels, blocks) in groups {
            let Some(rest) = matchers_within(matchers, &labels) else { continue };
            for shown in cover(&blocks, min_ms, max_ms, max_resolution_ms) {
                found.push((shown, rest.clone()));
            }
        }
        Ok(found)
    }

    fn each_label(
        &self,
        query: &LabelsQuery,
        read: impl Fn(&Block, &Labels, &[Matcher]) -> Result<Vec<String>, StoreError>,
    ) -> Result<LabelsAnswer, StoreError> {
        let mut values = BTreeSet::new();
        for (shown, rest) in self.blocks_for(query.min_ms, query.max_ms, 0, &query.matchers)? {
            values.extend(read(&shown.block, &shown.view.labels, &rest)?);
        }
        let limit = if query.limit == 0 { usize::MAX } else { query.limit };
        Ok(LabelsAnswer { values: values.into_iter().take(limit).collect(), warnings: Vec::new() })
    }

    fn unreadable(&self, error: impl std::fmt::Display) -> StoreError {
        StoreError::Unavailable { store: self.name(), reason: error.to_string() }
    }
}

/// The blocks of one group over a range: the coarsest allowed resolution, and in its gaps the next finer one.
fn cover(blocks: &[Shown], min_ms: i64, max_ms: i64, max_resolution_ms: i64) -> Vec<Shown> {
    let mut resolutions: Vec<i64> = blocks
        .iter()
        .map(|shown| shown.view.thanos.downsample.resolution)
        .filter(|resolution| *resolution <= max_resolution_ms)
        .collect();
    resolutions.sort_unstable_by_key(|resolution| std::cmp::Reverse(*resolution));
    resolutions.dedup();
    let mut found = Vec::new();
    fill(blocks, min_ms, max_ms, &resolutions, &mut found);
    let mut seen = BTreeSet::new();
    found.retain(|shown| seen.insert(shown.view.ulid().to_owned()));
    found
}

fn fill(blocks: &[Shown], min_ms: i64, max_ms: i64, resolutions: &[i64], found: &mut Vec<Shown>) {
    let Some((resolution, finer)) = resolutions.split_first() else { return };
    let mut start = min_ms;
    for shown in blocks.iter().filter(|shown| shown.view.thanos.downsample.resolution == *resolution) {
        let meta = &shown.view.meta;
        if meta.max_time <= min_ms {
            continue;
        }
        if meta.min_time > max_ms {
            break;
        }
        if start < meta.min_time {
            fill(blocks, start, meta.min_time - 1, finer, found);
        }
        found.push(shown.clone());
        start = start.max(meta.max_time);
    }
    if start <= max_ms {
        fill(blocks, start, max_ms, finer, found);
    }
}

impl StoreApi for BucketStore {
    fn name(&self) -> String {
        format!("store of bucket {}", self.bucket.name())
    }

    fn info(&self) -> Option<StoreInfo> {
        let shown = self.shown.read().clone()?;
        let mut label_sets: Vec<Labels> = shown.iter().map(|shown| shown.view.labels.clone()).collect();
        label_sets.sort();
        label_sets.dedup();
        Some(StoreInfo {
            component: "store".into(),
            label_sets,
            // Without blocks the range is empty: nobody has to ask.
            min_ms: shown.iter().map(|shown| shown.view.meta.min_time).min().unwrap_or(i64::MAX),
            max_ms: shown.iter().map(|shown| shown.view.meta.max_time).max().unwrap_or(i64::MIN),
            supports_without: true,
        })
    }

    fn series(&self, query: &SeriesQuery) -> Result<Box<dyn SeriesStream>, StoreError> {
        let mut streams: Vec<Box<dyn SeriesStream>> = Vec::new();
        let blocks = self.blocks_for(query.min_ms, query.max_ms, query.max_resolution_ms, &query.matchers)?;
        for (shown, rest) in blocks {
            let set = shown
                .block
                .select(&rest, query.min_ms, query.max_ms)
                .map_err(|error| self.unreadable(error))?;
            if self.options.max_series > 0 && set.selected() as u64 > self.options.max_series {
                return Err(StoreError::Limit {
                    what: format!("number of series in block {}", shown.view.ulid()),
                    limit: self.options.max_series,
                });
            }
            let boxed: Box<dyn ChunkSeriesSet> = Box::new(set);
            streams.push(Box::new(Sorted::new(boxed, shown.view.labels.clone(), query)));
        }
        Ok(merge(streams, query.limit))
    }

    fn label_names(&self, query: &LabelsQuery) -> Result<LabelsAnswer, StoreError> {
        self.each_label(query, |block, external, matchers| {
            let mut names = block.index().label_names_of(matchers).map_err(|error| self.unreadable(error))?;
            if !names.is_empty() {
                names.extend(external.iter().map(|(name, _)| name.to_owned()));
            }
            names.retain(|name| !query.without.contains(name));
            Ok(names)
        })
    }

    fn label_values(&self, name: &str, query: &LabelsQuery) -> Result<LabelsAnswer, StoreError> {
        self.each_label(query, |block, external, matchers| match external.get(name) {
            _ if query.without.iter().any(|label| label == name) => Ok(Vec::new()),
            Some(value) if matchers.is_empty() => Ok(vec![value.to_owned()]),
            Some(value) => {
                let found = block.index().select(matchers).map_err(|error| self.unreadable(error))?;
                Ok(if found.is_empty() { Vec::new() } else { vec![value.to_owned()] })
            }
            None => block.index().label_values_of(name, matchers).map_err(|error| self.unreadable(error)),
        })
    }
}

/// The name of a block's meta.
pub(crate) fn meta_key(ulid: &str) -> String {
    format!("{ulid}/{META_FILE}")
}
