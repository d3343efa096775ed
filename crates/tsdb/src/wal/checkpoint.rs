//! Checkpoints: what is still needed of the oldest segments, rewritten, so that those can be removed.

use std::fs;
use std::path::{Path, PathBuf};

use super::reader::SegmentedReader;
use super::record::{self, Record, RecordKind};
use super::segment::sync_dir;
use super::writer::{Writer, WriterOptions};
use super::{WalError, list_segments};

const PREFIX: &str = "checkpoint.";
/// Records are written in batches of about this size.
const BATCH_BYTES: usize = 1024 * 1024;

/// What a checkpoint kept and dropped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CheckpointStats {
    /// Series kept.
    pub series: u64,
    /// Series dropped.
    pub dropped_series: u64,
    /// Samples kept, of any kind.
    pub samples: u64,
    /// Samples dropped.
    pub dropped_samples: u64,
}

/// The newest whole checkpoint in `dir`: its folder and the last segment it stands for.
///
/// # Errors
/// When the folder cannot be read.
pub fn last_checkpoint(dir: &Path) -> Result<Option<(PathBuf, u32)>, WalError> {
    Ok(checkpoints(dir)?.into_iter().max_by_key(|(_, index)| *index))
}

fn checkpoints(dir: &Path) -> Result<Vec<(PathBuf, u32)>, WalError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(WalError::io("read folder", dir)(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(WalError::io("read folder", dir))?;
        let name = entry.file_name();
        let index =
            name.to_str().and_then(|name| name.strip_prefix(PREFIX)).and_then(|rest| rest.parse().ok());
        if let Some(index) = index
            && entry.path().is_dir()
        {
            found.push((entry.path(), index));
        }
    }
    Ok(found)
}

/// Removes the checkpoints older than `index`, and what an interrupted one left.
///
/// # Errors
/// When one cannot be removed.
pub fn delete_checkpoints_before(dir: &Path, index: u32) -> Result<(), WalError> {
    for (path, found) in checkpoints(dir)? {
        if found < index {
            fs::remove_dir_all(&path).map_err(WalError::io("remove", &path))?;
        }
    }
    Ok(())
}

/// Rewrites the last checkpoint and all segments up to `to` as `checkpoint.<to>`: series for which `keep` holds,
/// samples at or after `min_t`, tombstones that reach to it, and the last metadata of each kept series.
/// The segments themselves stay; the caller removes them.
///
/// # Errors
/// When the log is corrupt or the checkpoint cannot be written; a part-written one is never picked up.
pub fn checkpoint(
    dir: &Path,
    to: u32,
    min_t: i64,
    options: WriterOptions,
    mut keep: impl FnMut(u64) -> bool,
) -> Result<CheckpointStats, WalError> {
    let target = dir.join(format!("{PREFIX}{to:08}"));
    let partial = dir.join(format!("{PREFIX}{to:08}.tmp"));
    if partial.exists() {
        fs::remove_dir_all(&partial).map_err(WalError::io("remove", &partial))?;
    }
    let mut output = Output {
        writer: Writer::open(&partial, options)?,
        batch: Vec::new(),
        batch_bytes: 0,
        stats: CheckpointStats::default(),
        metadata: std::collections::BTreeMap::new(),
    };
    let previous = last_checkpoint(dir)?;
    let from = previous.as_ref().map_or(0, |(_, index)| index + 1);
    if let Some((path, _)) = &previous {
        let mut reader = SegmentedReader::open(path, 0)?;
        output.copy(&mut reader, min_t, &mut keep)?;
    }
    if list_segments(dir)?.iter().any(|segment| segment.index >= from && segment.index <= to) {
        let mut reader = SegmentedReader::open(dir, from)?;
        reader.limit(to);
        output.copy(&mut reader, min_t, &mut keep)?;
    }
    output.flush_metadata()?;
    output.flush()?;
    output.writer.sync()?;
    let stats = output.stats;
    drop(output);
    if target.exists() {
        fs::remove_dir_all(&target).map_err(WalError::io("remove", &target))?;
    }
    fs::rename(&partial, &target).map_err(WalError::io("rename", &partial))?;
    sync_dir(dir)?;
    Ok(stats)
}

struct Output {
    writer: Writer,
    batch: Vec<Vec<u8>>,
    batch_bytes: usize,
    stats: CheckpointStats,
    metadata: std::collections::BTreeMap<u64, (record::MetricType, String, String)>,
}

impl Output {
    fn copy(
        &mut self,
        reader: &mut SegmentedReader,
        min_t: i64,
        keep: &mut impl FnMut(u64) -> bool,
    ) -> Result<(), WalError> {
        let mut failed = None;
        reader.for_each(|bytes| {
            if failed.is_none() {
                self.filter(bytes, min_t, keep)?;
                if self.batch_bytes > BATCH_BYTES
                    && let Err(error) = self.flush()
                {
                    failed = Some(error);
                }
            }
            Ok(())
        })?;
        failed.map_or(Ok(()), Err)
    }

    fn push(&mut self, encoded: Vec<u8>) {
        if encoded.len() > 1 {
            self.batch_bytes += encoded.len();
            self.batch.push(encoded);
        }
    }

    fn flush(&mut self) -> Result<(), WalError> {
        let records: Vec<&[u8]> = self.batch.iter().map(Vec::as_slice).collect();
        self.writer.log(&records)?;
        self.batch.clear();
        self.batch_bytes = 0;
        Ok(())
    }

    fn flush_metadata(&mut self) -> Result<(), WalError> {
        let metadata = std::mem::take(&mut self.metadata);
        let entries: Vec<_> = metadata
            .iter()
            .map(|(series, (kind, unit, help))| record::MetadataRecord {
                series: *series,
                kind: *kind,
                unit,
                help,
            })
            .collect();
        for part in entries.chunks(1000) {
            let mut encoded = Vec::new();
            record::encode_metadata(&mut encoded, part);
            self.push(encoded);
            if self.batch_bytes > BATCH_BYTES {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn filter(&mut self, bytes: &[u8], min_t: i64, keep: &mut impl FnMut(u64) -> bool) -> Result<(), String> {
        let mut encoded = Vec::new();
        match record::decode(bytes)? {
            Record::Series(series) => {
                for entry in series {
                    if keep(entry.series) {
                        self.stats.series += 1;
                        record::encode_series(&mut encoded, entry.series, entry.labels.iter().copied());
                    } else {
                        self.stats.dropped_series += 1;
                    }
                }
            }
            Record::Samples(mut samples) => {
                let before = samples.len();
                samples.retain(|sample| sample.t >= min_t && keep(sample.series));
                self.count(before, samples.len());
                record::encode_samples(&mut encoded, &samples);
            }
            Record::Histograms(mut samples) => {
                let before = samples.len();
                samples.retain(|sample| sample.t >= min_t && keep(sample.series));
                self.count(before, samples.len());
                for kind in [
                    RecordKind::Histograms,
                    RecordKind::FloatHistograms,
                    RecordKind::CustomHistograms,
                    RecordKind::CustomFloatHistograms,
                ] {
                    let mut part = Vec::new();
                    record::encode_histograms(&mut part, kind, &samples);
                    self.push(part);
                }
            }
            Record::Tombstones(mut tombstones) => {
                tombstones.retain(|tombstone| tombstone.max_t >= min_t && keep(tombstone.series));
                record::encode_tombstones(&mut encoded, &tombstones);
            }
            Record::Exemplars(mut exemplars) => {
                exemplars.retain(|exemplar| exemplar.t >= min_t && keep(exemplar.series));
                record::encode_exemplars(&mut encoded, &exemplars);
            }
            Record::Metadata(metadata) => {
                for entry in metadata {
                    if keep(entry.series) {
                        let value = (entry.kind, entry.unit.to_string(), entry.help.to_string());
                        self.metadata.insert(entry.series, value);
                    }
                }
            }
            Record::Skipped(_) => {}
        }
        self.push(encoded);
        Ok(())
    }

    fn count(&mut self, before: usize, kept: usize) {
        self.stats.samples += kept as u64;
        self.stats.dropped_samples += (before - kept) as u64;
    }
}
