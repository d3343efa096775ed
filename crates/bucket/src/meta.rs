//! What Thanos adds to a block: its section of `meta.json`, and the marks beside it.

use std::collections::BTreeMap;
use std::path::Path;

use gantry_prom_model::Labels;
use gantry_tsdb::block::BlockMeta;
use serde::{Deserialize, Serialize};

use crate::bucket::{Bucket, BucketError};

/// The section's name in `meta.json`.
const SECTION: &str = "thanos";

/// Who made a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A sidecar, or a store of ours that uploads.
    Sidecar,
    /// A compactor.
    Compactor,
}

impl Source {
    /// As `meta.json` has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Source::Sidecar => "sidecar",
            Source::Compactor => "compactor",
        }
    }
}

/// The resolution of a block.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Downsample {
    /// Milliseconds of a window; 0 for raw samples.
    pub resolution: i64,
}

/// A file of a block.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockFile {
    /// Its name within the block.
    pub rel_path: String,
    /// Its size; `meta.json` has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
}

/// What a reader need not fetch more than.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexStats {
    /// Bytes of the largest series entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub series_max_size: Option<u64>,
    /// Bytes of the largest chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunk_max_size: Option<u64>,
}

/// The section. What we do not know of it is kept as it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ThanosMeta {
    /// Version of the section: 1, or 0 when it was written before there was one.
    #[serde(default)]
    pub version: u32,
    /// External labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Resolution.
    #[serde(default)]
    pub downsample: Downsample,
    /// Who made it.
    #[serde(default)]
    pub source: String,
    /// Names of the chunk segments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub segment_files: Vec<String>,
    /// All files, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<BlockFile>,
    /// Sizes.
    #[serde(default)]
    pub index_stats: IndexStats,
    /// Other keys.
    #[serde(flatten)]
    pub other: serde_json::Map<String, serde_json::Value>,
}

impl ThanosMeta {
    /// The section of a block; `None` when it has none.
    ///
    /// # Errors
    /// When there is one of another form.
    pub fn of(meta: &BlockMeta) -> Result<Option<ThanosMeta>, String> {
        let Some(section) = meta.other.get(SECTION) else { return Ok(None) };
        let section: ThanosMeta =
            serde_json::from_value(section.clone()).map_err(|error| format!("thanos section: {error}"))?;
        if section.version > 1 {
            return Err(format!("thanos section version {} is not known, 1 is", section.version));
        }
        Ok(Some(section))
    }

    /// Puts the section into a block's meta.
    ///
    /// # Errors
    /// Never for what this program makes.
    pub fn put(&self, meta: &mut BlockMeta) -> Result<(), String> {
        let section = serde_json::to_value(self).map_err(|error| error.to_string())?;
        meta.other.insert(SECTION.to_owned(), section);
        Ok(())
    }

    /// The external labels.
    pub fn external_labels(&self) -> Labels {
        Labels::from_pairs(&self.labels)
    }
}

/// Marks a block as to be removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletionMark {
    /// The block.
    pub id: String,
    /// Always 1.
    pub version: u32,
    /// Why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub details: String,
    /// When it was marked, in seconds since the epoch.
    pub deletion_time: i64,
}

/// Marks a block as not to be compacted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoCompactMark {
    /// The block.
    pub id: String,
    /// Always 1.
    pub version: u32,
    /// Why, for a person.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub details: String,
    /// When it was marked, in seconds since the epoch.
    pub no_compact_time: i64,
    /// Why, for a program.
    pub reason: String,
}

/// Why a mark cannot be read or written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum MarkError {
    /// The object cannot be had.
    #[error(transparent)]
    Bucket(#[from] BucketError),
}

const DELETION_MARK: &str = "deletion-mark.json";
const NO_COMPACT_MARK: &str = "no-compact-mark.json";

/// The name of a block's deletion mark.
pub fn deletion_mark_key(ulid: &str) -> String {
    format!("{ulid}/{DELETION_MARK}")
}

pub(crate) fn no_compact_mark_key(ulid: &str) -> String {
    format!("{ulid}/{NO_COMPACT_MARK}")
}

fn read_mark<M: serde::de::DeserializeOwned>(bucket: &Bucket, name: &str) -> Result<Option<M>, BucketError> {
    let content = match bucket.get(name) {
        Ok(content) => content,
        Err(BucketError::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let mark = serde_json::from_slice(&content);
    mark.map(Some).map_err(|error| BucketError::Content { name: name.to_owned(), reason: error.to_string() })
}

impl DeletionMark {
    /// The block's mark, if it has one.
    ///
    /// # Errors
    /// When that cannot be told.
    pub fn read(bucket: &Bucket, ulid: &str) -> Result<Option<DeletionMark>, BucketError> {
        read_mark(bucket, &deletion_mark_key(ulid))
    }

    /// Marks a block at `now_ms`; one that is marked stays as it is.
    ///
    /// # Errors
    /// When the mark cannot be written.
    pub fn write(bucket: &Bucket, ulid: &str, details: &str, now_ms: i64) -> Result<(), BucketError> {
        let name = deletion_mark_key(ulid);
        if bucket.exists(&name)? {
            return Ok(());
        }
        let mark = DeletionMark {
            id: ulid.to_owned(),
            version: 1,
            details: details.to_owned(),
            deletion_time: now_ms / 1000,
        };
        let text = serde_json::to_vec(&mark)
            .map_err(|error| BucketError::Content { name: name.clone(), reason: error.to_string() })?;
        bucket.put(&name, text)
    }
}

impl NoCompactMark {
    /// The block's mark, if it has one.
    ///
    /// # Errors
    /// When that cannot be told.
    pub fn read(bucket: &Bucket, ulid: &str) -> Result<Option<NoCompactMark>, BucketError> {
        read_mark(bucket, &no_compact_mark_key(ulid))
    }
}

/// A time as RFC 3339 in UTC.
pub fn rfc3339(ms: i64) -> String {
    let (days, in_day) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    // Days to a date of the Gregorian calendar, by eras of 400 years that begin in March.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hours, minutes, seconds) = (in_day / 3_600_000, in_day / 60_000 % 60, in_day / 1000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{:03}Z", in_day % 1000)
}

/// The files of a local block with their sizes, `meta.json` without one, sorted.
pub(crate) fn list_files(dir: &Path) -> Result<Vec<BlockFile>, BucketError> {
    let mut files = vec![
        BlockFile { rel_path: "index".into(), size_bytes: Some(file_bytes(&dir.join("index"))?) },
        BlockFile { rel_path: "meta.json".into(), size_bytes: None },
    ];
    let chunks = dir.join("chunks");
    for entry in std::fs::read_dir(&chunks).map_err(BucketError::file("read folder", &chunks))? {
        let entry = entry.map_err(BucketError::file("read folder", &chunks))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let size_bytes = Some(file_bytes(&entry.path())?);
        files.push(BlockFile { rel_path: format!("chunks/{name}"), size_bytes });
    }
    files.sort_by(|left, right| left.rel_path.cmp(&right.rel_path));
    Ok(files)
}

fn file_bytes(path: &Path) -> Result<u64, BucketError> {
    Ok(std::fs::metadata(path).map_err(BucketError::file("stat", path))?.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_dates() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(951_782_400_123), "2000-02-29T00:00:00.123Z");
        assert_eq!(rfc3339(1_700_000_000_000), "2023-11-14T22:13:20.000Z");
        assert_eq!(rfc3339(-1), "1969-12-31T23:59:59.999Z");
    }
}
