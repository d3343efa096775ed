//! Takes the blocks of a local store up to a bucket, each once.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use gantry_prom_model::Labels;
use gantry_tsdb::block::{BlockMeta, META_FILE};
use serde::{Deserialize, Serialize};

use crate::bucket::{Bucket, BucketError};
use crate::meta::{Downsample, IndexStats, Source, ThanosMeta, list_files, rfc3339};
use crate::store::meta_key;

/// The file in the data folder that says what was uploaded.
const SHIPPER_FILE: &str = "thanos.shipper.json";

/// How a [`Shipper`] works.
#[derive(Debug, Clone)]
pub struct ShipperOptions {
    /// The data folder.
    pub dir: PathBuf,
    /// Labels that tell this store apart; there must be at least one.
    pub external: Labels,
    /// Whether blocks that were merged here are taken too.
    pub upload_compacted: bool,
}

/// What one round did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shipped {
    /// Names of blocks that were uploaded.
    pub uploaded: Vec<String>,
    /// Blocks that could not be, and why.
    pub failed: Vec<(String, String)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ShipperFile {
    version: u32,
    #[serde(default)]
    uploaded: Vec<String>,
}

/// Uploads blocks.
#[derive(Debug)]
pub struct Shipper {
    bucket: Bucket,
    options: ShipperOptions,
}

/// Bytes of the largest series entry and chunk of a block, for the readers of its index.
fn index_stats(dir: &Path) -> Result<IndexStats, BucketError> {
    use gantry_tsdb::block::{Block, ChunkSeriesSet};
    let content = |error: &dyn std::fmt::Display| BucketError::Content {
        name: dir.display().to_string(),
        reason: error.to_string(),
    };
    let block = std::sync::Arc::new(Block::open(dir).map_err(|error| content(&error))?);
    let mut set = block.select(&[], i64::MIN, i64::MAX).map_err(|error| content(&error))?;
    let (mut series, mut chunk) = (0u64, 0u64);
    while set.advance().map_err(|error| content(&error))? {
        let chunks = set.chunks().map_err(|error| content(&error))?;
        // Numbers of the index take at most ten bytes; two per label, three per chunk, and what is around them.
        let entry = 16 + 10 * set.labels().len() as u64 + 24 * chunks.len() as u64;
        series = series.max(entry);
        chunk = chunk.max(chunks.iter().map(|chunk| chunk.data.len() as u64 + 15).max().unwrap_or(0));
    }
    Ok(IndexStats { series_max_size: Some(series), chunk_max_size: Some(chunk) })
}

/// Uploads the block in `dir` with this section in its meta: the files first, `meta.json` last. A block that is there
/// is left alone.
///
/// # Errors
/// When a file cannot be read or an object not be written. What was written is removed or overwritten another time.
pub(crate) fn upload_block(
    bucket: &Bucket,
    dir: &Path,
    labels: &Labels,
    source: Source,
    resolution: i64,
    now_ms: i64,
) -> Result<BlockMeta, BucketError> {
    let unreadable = |reason: String| BucketError::Content { name: dir.display().to_string(), reason };
    let mut meta = BlockMeta::read(dir).map_err(|error| unreadable(error.to_string()))?;
    let ulid = meta.ulid.clone();
    let files = list_files(dir)?;
    let segments = files.iter().filter_map(|file| file.rel_path.strip_prefix("chunks/").map(str::to_owned));
    let mut other = serde_json::Map::new();
    other.insert("upload_time".into(), rfc3339(now_ms).into());
    let section = ThanosMeta {
        version: 1,
        labels: labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        downsample: Downsample { resolution },
        source: source.as_str().to_owned(),
        segment_files: segments.collect(),
        files: files.clone(),
        index_stats: index_stats(dir)?,
        other,
    };
    section.put(&mut meta).map_err(unreadable)?;
    for file in &files {
        if file.rel_path != META_FILE {
            bucket.put_file(&format!("{ulid}/{}", file.rel_path), &dir.join(&file.rel_path))?;
        }
    }
    let text = meta.encode().map_err(|error| unreadable(error.to_string()))?;
    bucket.put(&meta_key(&ulid), text)?;
    Ok(meta)
}

impl Shipper {
    /// Uploads to `bucket`.
    ///
    /// # Errors
    /// When there are no external labels: blocks of two stores could not be told apart.
    pub fn new(bucket: Bucket, options: ShipperOptions) -> Result<Shipper, String> {
        if options.external.is_empty() {
            return Err("no external labels: blocks of several stores in one bucket are told apart by them; set external_labels".into());
        }
        Ok(Shipper { bucket, options })
    }

    fn known(&self) -> Result<BTreeSet<String>, BucketError> {
        let path = self.options.dir.join(SHIPPER_FILE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            Err(error) => return Err(BucketError::file("read", &path)(error)),
        };
        match serde_json::from_slice::<ShipperFile>(&text) {
            Ok(file) if file.version == 1 => Ok(file.uploaded.into_iter().collect()),
            // What is up already is seen in the bucket: a lost file costs a question per block.
            _ => {
                tracing::warn!(path = %path.display(), "the list of uploaded blocks is unreadable and made anew");
                Ok(BTreeSet::new())
            }
        }
    }

    fn remember(&self, uploaded: &BTreeSet<String>) -> Result<(), BucketError> {
        let path = self.options.dir.join(SHIPPER_FILE);
        let partial = self.options.dir.join(format!("{SHIPPER_FILE}.tmp"));
        let file = ShipperFile { version: 1, uploaded: uploaded.iter().cloned().collect() };
        let text = serde_json::to_vec_pretty(&file)
            .map_err(|error| BucketError::Content { name: SHIPPER_FILE.into(), reason: error.to_string() })?;
        fs::write(&partial, text).map_err(BucketError::file("write", &partial))?;
        fs::rename(&partial, &path).map_err(BucketError::file("rename", &partial))
    }

    /// Uploads what is new. A block that fails is tried again the next time.
    ///
    /// # Errors
    /// When the data folder cannot be read or written.
    pub fn sync(&self, now_ms: i64) -> Result<Shipped, BucketError> {
        let known = self.known()?;
        let mut there = BTreeSet::new();
        let mut shipped = Shipped::default();
        for (meta, dir) in local_blocks(&self.options.dir)? {
            let ulid = meta.ulid.clone();
            if known.contains(&ulid) {
                there.insert(ulid);
                continue;
            }
            if meta.stats.num_samples == 0 || (meta.compaction.level > 1 && !self.options.upload_compacted) {
                continue;
            }
            match self.ship(&ulid, &dir, now_ms) {
                Ok(is_new) => {
                    if is_new {
                        shipped.uploaded.push(ulid.clone());
                    }
                    there.insert(ulid);
                }
                Err(error) => shipped.failed.push((ulid, error.to_string())),
            }
        }
        if there != known {
            self.remember(&there)?;
        }
        Ok(shipped)
    }

    /// Whether it had to be uploaded.
    fn ship(&self, ulid: &str, dir: &Path, now_ms: i64) -> Result<bool, BucketError> {
        if self.bucket.exists(&meta_key(ulid))? {
            return Ok(false);
        }
        // The store may merge or remove the block meanwhile: links keep its files.
        let staging = self.options.dir.join("thanos").join("upload").join(ulid);
        let _ = fs::remove_dir_all(&staging);
        let staged = link_block(dir, &staging).and_then(|()| {
            upload_block(&self.bucket, &staging, &self.options.external, Source::Sidecar, 0, now_ms)
        });
        let _ = fs::remove_dir_all(&staging);
        staged.map(|_| true)
    }
}

/// The same files under another folder, without copying them.
fn link_block(from: &Path, to: &Path) -> Result<(), BucketError> {
    let chunks = to.join("chunks");
    fs::create_dir_all(&chunks).map_err(BucketError::file("create folder", &chunks))?;
    let link = |from: &Path, to: &Path| {
        fs::hard_link(from, to)
            .or_else(|_| fs::copy(from, to).map(drop))
            .map_err(BucketError::file("link", from))
    };
    for name in ["index", META_FILE] {
        link(&from.join(name), &to.join(name))?;
    }
    let segments = from.join("chunks");
    for entry in fs::read_dir(&segments).map_err(BucketError::file("read folder", &segments))? {
        let entry = entry.map_err(BucketError::file("read folder", &segments))?;
        link(&entry.path(), &chunks.join(entry.file_name()))?;
    }
    Ok(())
}

/// The whole blocks in a data folder, by their first time.
fn local_blocks(dir: &Path) -> Result<Vec<(BlockMeta, PathBuf)>, BucketError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(BucketError::file("read folder", dir))? {
        let entry = entry.map_err(BucketError::file("read folder", dir))?;
        let is_block = entry.file_name().to_str().is_some_and(|name| ulid::Ulid::from_string(name).is_ok());
        if !is_block {
            continue;
        }
        // One that goes at this moment is not there.
        if let Ok(meta) = BlockMeta::read(&entry.path()) {
            found.push((meta, entry.path()));
        }
    }
    found.sort_by_key(|(meta, _)| meta.min_time);
    Ok(found)
}
