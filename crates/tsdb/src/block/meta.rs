//! `meta.json`: what a block holds and where it comes from.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::BlockError;

/// The file's name.
pub const META_FILE: &str = "meta.json";

/// Counts over a block.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BlockStats {
    /// Samples.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_samples: u64,
    /// Float samples, where the writer told them apart.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_float_samples: u64,
    /// Histogram samples, where the writer told them apart.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_histogram_samples: u64,
    /// Series.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_series: u64,
    /// Chunks.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_chunks: u64,
    /// Deleted ranges.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_tombstones: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A block that another was made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockDesc {
    /// Its name.
    pub ulid: String,
    /// Its first time.
    pub min_time: i64,
    /// The time before which it ends.
    pub max_time: i64,
}

/// Where a block comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Compaction {
    /// 1 for a block of the head, one more than the highest of its parents for others.
    pub level: u32,
    /// The blocks of level 1 that its samples were in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
    /// The blocks it was made from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<BlockDesc>,
    /// The block holds nothing and can go.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub deletable: bool,
    /// A compaction of it failed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub failed: bool,
    /// Words about its making.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<String>,
}

/// The content of `meta.json`. What we do not know of it is kept as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockMeta {
    /// The block's name, and its folder's.
    pub ulid: String,
    /// First time.
    pub min_time: i64,
    /// The time before which it ends.
    pub max_time: i64,
    /// Counts.
    #[serde(default)]
    pub stats: BlockStats,
    /// Origin.
    #[serde(default)]
    pub compaction: Compaction,
    /// Always 1.
    pub version: u32,
    /// What others added, such as Thanos' section.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl BlockMeta {
    /// Reads the file in a block's folder.
    ///
    /// # Errors
    /// When it cannot be read, is not JSON of this form, or has another version.
    pub fn read(dir: &Path) -> Result<BlockMeta, BlockError> {
        let path = dir.join(META_FILE);
        let text = fs::read(&path).map_err(BlockError::io("read", &path))?;
        BlockMeta::parse(&path.display().to_string(), &text)
    }

    /// Reads the file's content; `file` is its name for errors.
    ///
    /// # Errors
    /// When it is not JSON of this form, or has another version.
    pub fn parse(file: &str, text: &[u8]) -> Result<BlockMeta, BlockError> {
        let meta: BlockMeta = serde_json::from_slice(text).map_err(|error| {
            let reason = format!("{error} (line {}, column {})", error.line(), error.column());
            BlockError::corrupt(file, 0, reason)
        })?;
        if meta.version != 1 {
            let reason = format!("meta version {} is not known, 1 is", meta.version);
            return Err(BlockError::corrupt(file, 0, reason));
        }
        Ok(meta)
    }

    /// The file's content.
    ///
    /// # Errors
    /// Never for what this program makes.
    pub fn encode(&self) -> Result<Vec<u8>, BlockError> {
        let mut out = Vec::new();
        let format = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        let mut serializer = serde_json::Serializer::with_formatter(&mut out, format);
        self.serialize(&mut serializer).map_err(|error| BlockError::Invalid(error.to_string()))?;
        Ok(out)
    }

    /// Replaces the file in a block's folder, durably and at once.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, dir: &Path) -> Result<(), BlockError> {
        let path = dir.join(META_FILE);
        let partial = dir.join("meta.json.tmp");
        let mut file = File::create(&partial).map_err(BlockError::io("create", &partial))?;
        file.write_all(&self.encode()?).map_err(BlockError::io("write", &partial))?;
        file.sync_all().map_err(BlockError::io("sync", &partial))?;
        fs::rename(&partial, &path).map_err(BlockError::io("rename", &partial))?;
        sync_dir(dir)
    }
}

/// Makes a folder's entries durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), BlockError> {
    File::open(dir).and_then(|file| file.sync_all()).map_err(BlockError::io("sync folder", dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_added_stays() {
        let text = br#"{"ulid":"01BKGTZQ1SYQJTR4PB43C8PD98","minTime":-5,"maxTime":7,"stats":{"numSamples":3},
            "compaction":{"level":1,"sources":["01BKGTZQ1SYQJTR4PB43C8PD98"]},"version":1,"thanos":{"labels":{"a":"b"}}}"#;
        let meta = BlockMeta::parse("meta.json", text).unwrap();
        assert_eq!((meta.min_time, meta.stats.num_samples, meta.compaction.level), (-5, 3, 1));
        let again = BlockMeta::parse("meta.json", &meta.encode().unwrap()).unwrap();
        assert_eq!(again, meta);
        assert_eq!(again.other["thanos"]["labels"]["a"], "b");
    }

    #[test]
    fn another_version_is_named() {
        let text = br#"{"ulid":"x","minTime":0,"maxTime":1,"version":3}"#;
        assert!(BlockMeta::parse("f", text).unwrap_err().to_string().contains("version 3"));
        assert!(BlockMeta::parse("f", b"{").unwrap_err().to_string().starts_with("f at byte 0"));
    }
}
