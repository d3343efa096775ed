//! `tsdb`: looks into a data folder without changing it. A folder that a server uses can be looked into as well.

use std::collections::{HashMap, HashSet};
use std::io::{Result, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gantry_clock::{format_go_duration, format_rfc3339};
use gantry_prom_model::{Labels, METRIC_NAME, MatchOp, Matcher, SampleBuffer, format_float};
use gantry_tsdb::MergedChunks;
use gantry_tsdb::block::{Block, ChunkSeriesSet};
use gantry_tsdb::chunks;

/// The blocks of a folder, by their first time, and the folders that hold none that can be read.
fn blocks(dir: &Path) -> std::result::Result<(Vec<Arc<Block>>, Vec<String>), String> {
    let entries = std::fs::read_dir(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let (mut found, mut broken) = (Vec::new(), Vec::new());
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let is_block = path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.len() == 26);
        if !is_block || !path.join("meta.json").is_file() {
            continue;
        }
        match Block::open(&path) {
            Ok(block) => found.push(Arc::new(block)),
            Err(error) => broken.push(format!("{}: {error}", path.display())),
        }
    }
    found.sort_by_key(|block| block.meta().min_time);
    Ok((found, broken))
}

fn fail(err: &mut dyn Write, reason: &str) -> Result<u8> {
    writeln!(err, "{reason}")?;
    Ok(1)
}

fn duration(ms: i64) -> String {
    format_go_duration(ms.saturating_mul(1_000_000))
}

/// Columns as wide as their widest cell and two more, at least 13; the last is not filled.
fn table(rows: &[Vec<String>], out: &mut dyn Write) -> Result<()> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            let widest = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
            (widest.unwrap_or(0) + 2).max(13)
        })
        .collect();
    for row in rows {
        let last = row.len().saturating_sub(1);
        for (column, cell) in row.iter().enumerate() {
            if column == last {
                writeln!(out, "{cell}")?;
            } else {
                write!(out, "{cell:width$}", width = widths[column])?;
            }
        }
    }
    Ok(())
}

/// Lists the blocks, and gives the exit code.
///
/// # Errors
/// When the list cannot be written.
pub fn list(dir: &Path, is_for_people: bool, out: &mut dyn Write, err: &mut dyn Write) -> Result<u8> {
    let (blocks, broken) = match blocks(dir) {
        Ok(found) => found,
        Err(reason) => return fail(err, &reason),
    };
    let header =
        ["BLOCK ULID", "MIN TIME", "MAX TIME", "DURATION", "NUM SAMPLES", "NUM CHUNKS", "NUM SERIES", "SIZE"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for block in &blocks {
        let meta = block.meta();
        let time = |ms: i64| match is_for_people {
            true => format!(
                "{} +0000 UTC",
                format_rfc3339(ms / 1000 * 1000).replace('T', " ").trim_end_matches('Z')
            ),
            false => ms.to_string(),
        };
        let size = match is_for_people {
            true => base2(block.size_bytes()),
            false => block.size_bytes().to_string(),
        };
        rows.push(vec![
            meta.ulid.clone(),
            time(meta.min_time),
            time(meta.max_time),
            duration(meta.max_time - meta.min_time),
            meta.stats.num_samples.to_string(),
            meta.stats.num_chunks.to_string(),
            meta.stats.num_series.to_string(),
            size,
        ]);
    }
    table(&rows, out)?;
    for reason in &broken {
        writeln!(err, "{reason}")?;
    }
    Ok(u8::from(!broken.is_empty()))
}

/// `1MiB512KiB`: every unit that is not zero.
fn base2(bytes: u64) -> String {
    let mut left = bytes;
    let mut text = String::new();
    for (unit, name) in [(1u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "B")]
    {
        if left >= unit {
            text.push_str(&format!("{}{name}", left / unit));
            left %= unit;
        }
    }
    if text.is_empty() { "0B".into() } else { text }
}

/// Prints samples, one a line: of blocks, and of the log where a head is.
///
/// # Errors
/// When they cannot be written.
pub fn dump(
    dir: &Path,
    selectors: &[Vec<Matcher>],
    (min_ms, max_ms): (i64, i64),
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<u8> {
    let (blocks, broken) = match blocks(dir) {
        Ok(found) => found,
        Err(reason) => return fail(err, &reason),
    };
    let head = match open_head(dir) {
        Ok(head) => head,
        Err(reason) => return fail(err, &reason),
    };
    for matchers in selectors {
        let mut sets: Vec<Box<dyn ChunkSeriesSet>> = Vec::new();
        for block in blocks.iter().filter(|block| block.overlaps(min_ms, max_ms)) {
            match block.select(matchers, min_ms, max_ms) {
                Ok(set) => sets.push(Box::new(set)),
                Err(error) => return fail(err, &error.to_string()),
            }
        }
        if let Some((head, _)) = &head {
            sets.push(head.chunk_series(matchers, min_ms, max_ms));
        }
        let mut merged = MergedChunks::new(sets);
        if let Err(reason) = dump_set(&mut merged, (min_ms, max_ms), out)? {
            return fail(err, &reason);
        }
    }
    for reason in &broken {
        writeln!(err, "{reason}")?;
    }
    Ok(u8::from(!broken.is_empty()))
}

/// The head of a folder, read from a copy of its log: a log that is read is also repaired, and this one may be in use.
fn open_head(dir: &Path) -> std::result::Result<Option<(HeadView, CopiedLog)>, String> {
    let wal = dir.join("wal");
    if !wal.is_dir() {
        return Ok(None);
    }
    let copy = CopiedLog::of(&wal)?;
    let head = HeadView::open(&copy.dir)?;
    Ok(Some((head, copy)))
}

/// A copy of a log, gone when it is dropped.
struct CopiedLog {
    dir: PathBuf,
}

impl CopiedLog {
    fn of(wal: &Path) -> std::result::Result<CopiedLog, String> {
        let name = format!("gantry-promtool-{}", std::process::id());
        let copied = CopiedLog { dir: std::env::temp_dir().join(name) };
        copy(wal, &copied.dir)
            .map_err(|error| format!("the log {} cannot be copied: {error}", wal.display()))?;
        Ok(copied)
    }
}

impl Drop for CopiedLog {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

struct HeadView(gantry_tsdb::Head);

impl HeadView {
    fn open(wal: &Path) -> std::result::Result<HeadView, String> {
        let options = gantry_tsdb::HeadOptions::default();
        let (head, _) = gantry_tsdb::Head::open(wal, options, i64::MIN).map_err(|error| error.to_string())?;
        Ok(HeadView(head))
    }

    fn chunk_series(&self, matchers: &[Matcher], min_ms: i64, max_ms: i64) -> Box<dyn ChunkSeriesSet> {
        self.0.raw_series(matchers, min_ms, max_ms)
    }
}

fn dump_set(
    set: &mut dyn ChunkSeriesSet,
    (min_ms, max_ms): (i64, i64),
    out: &mut dyn Write,
) -> Result<std::result::Result<(), String>> {
    loop {
        match set.advance() {
            Ok(true) => {}
            Ok(false) => return Ok(Ok(())),
            Err(error) => return Ok(Err(error.to_string())),
        }
        let chunks = match set.chunks() {
            Ok(chunks) => chunks,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let mut samples = SampleBuffer::default();
        let mut next = SampleBuffer::default();
        for chunk in chunks {
            next.clear();
            if let Err(reason) = chunks::decode(chunk.encoding, &chunk.data, min_ms, max_ms, &mut next) {
                return Ok(Err(format!("{}: {reason}", set.labels())));
            }
            gantry_tsdb::append_merged(&mut samples, &mut next);
        }
        let labels = set.labels();
        for (t, v) in samples.timestamps.iter().zip(&samples.values) {
            writeln!(out, "{labels} {} {t}", format_float(*v))?;
        }
        for (t, h) in samples.histogram_timestamps.iter().zip(&samples.histograms) {
            writeln!(out, "{labels} {h} {t}")?;
        }
    }
}

/// Numbers by text, the largest first.
type Counts = HashMap<String, u64>;

fn top(out: &mut dyn Write, title: &str, counts: &Counts, limit: usize) -> Result<()> {
    let mut sorted: Vec<(&String, &u64)> = counts.iter().collect();
    sorted.sort_by(|left, right| right.1.cmp(left.1).then_with(|| left.0.cmp(right.0)));
    writeln!(out, "\n{title}")?;
    for (text, count) in sorted.into_iter().take(limit) {
        writeln!(out, "{count} {text}")?;
    }
    Ok(())
}

/// Says what takes room in a block (the newest, when none is named).
///
/// # Errors
/// When it cannot be written.
pub fn analyze(
    dir: &Path,
    block_id: Option<&str>,
    matchers: &[Matcher],
    limit: usize,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<u8> {
    let found = blocks(dir).and_then(|(mut blocks, _)| match block_id {
        Some(id) => blocks
            .into_iter()
            .find(|block| block.meta().ulid == id)
            .ok_or_else(|| format!("block {id} is not in {}", dir.display())),
        None => blocks.pop().ok_or_else(|| format!("{} has no block", dir.display())),
    });
    let block = match found {
        Ok(block) => block,
        Err(reason) => return fail(err, &reason),
    };
    match Analysis::of(&block, matchers) {
        Ok(analysis) => {
            analysis.print(&block, limit, out)?;
            Ok(0)
        }
        Err(reason) => fail(err, &reason),
    }
}

#[derive(Default)]
struct Analysis {
    series: u64,
    entries: u64,
    pairs: Counts,
    uncovered_pairs: HashMap<String, f64>,
    uncovered_names: HashMap<String, f64>,
    value_bytes: HashMap<String, HashSet<String>>,
    series_by_metric: Counts,
}

impl Analysis {
    fn of(block: &Arc<Block>, matchers: &[Matcher]) -> std::result::Result<Analysis, String> {
        let meta = block.meta();
        let span = (meta.max_time - meta.min_time).max(1);
        let everything =
            [Matcher::new(MatchOp::Regex, METRIC_NAME, ".*").map_err(|error| error.to_string())?];
        let matchers = if matchers.is_empty() { &everything[..] } else { matchers };
        let mut set =
            block.select(matchers, meta.min_time, meta.max_time).map_err(|error| error.to_string())?;
        let mut found = Analysis::default();
        while set.advance().map_err(|error| error.to_string())? {
            let chunks = set.chunks().map_err(|error| error.to_string())?;
            let covered = match (chunks.first(), chunks.last()) {
                (Some(first), Some(last)) => last.max_t - first.min_t,
                _ => 0,
            };
            found.add(set.labels(), (span - covered).max(0) as f64 / span as f64);
        }
        Ok(found)
    }

    fn add(&mut self, labels: &Labels, uncovered: f64) {
        self.series += 1;
        for (name, value) in labels.iter() {
            self.entries += 1;
            let pair = format!("{name}={value}");
            *self.uncovered_pairs.entry(pair.clone()).or_default() += uncovered;
            *self.uncovered_names.entry(name.to_owned()).or_default() += uncovered;
            *self.pairs.entry(pair).or_default() += 1;
            self.value_bytes.entry(name.to_owned()).or_default().insert(value.to_owned());
        }
        *self.series_by_metric.entry(labels.metric_name().unwrap_or("").to_owned()).or_default() += 1;
    }

    fn print(&self, block: &Arc<Block>, limit: usize, out: &mut dyn Write) -> Result<()> {
        let meta = block.meta();
        writeln!(out, "Block ID: {}", meta.ulid)?;
        writeln!(out, "Duration: {}", duration(meta.max_time - meta.min_time))?;
        writeln!(out, "Total Series: {}", self.series)?;
        writeln!(out, "Label names: {}", self.value_bytes.len())?;
        writeln!(out, "Postings (unique label pairs): {}", self.pairs.len())?;
        writeln!(out, "Postings entries (total label pairs): {}", self.entries)?;
        let whole = |counts: &HashMap<String, f64>| -> Counts {
            counts.iter().map(|(text, share)| (text.clone(), *share as u64)).collect()
        };
        top(out, "Label pairs most involved in churning:", &whole(&self.uncovered_pairs), limit)?;
        top(out, "Label names most involved in churning:", &whole(&self.uncovered_names), limit)?;
        top(out, "Most common label pairs:", &self.pairs, limit)?;
        let bytes: Counts = self
            .value_bytes
            .iter()
            .map(|(name, values)| (name.clone(), values.iter().map(|value| value.len() as u64).sum()))
            .collect();
        top(out, "Label names with highest cumulative label value length:", &bytes, limit)?;
        let cardinality: Counts =
            self.value_bytes.iter().map(|(name, values)| (name.clone(), values.len() as u64)).collect();
        top(out, "Highest cardinality labels:", &cardinality, limit)?;
        top(out, "Highest cardinality metric names:", &self.series_by_metric, limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_tables_are_as_the_original_prints_them() {
        assert_eq!(base2(0), "0B");
        assert_eq!(base2((1 << 20) + (512 << 10) + 3), "1MiB512KiB3B");
        let mut out = Vec::new();
        let rows = [vec!["A".to_owned(), "B".into()], vec!["a longer cell than that".into(), "b".into()]];
        table(&rows, &mut out).expect("it is written");
        let text = String::from_utf8(out).expect("text");
        assert_eq!(text, "A                        B\na longer cell than that  b\n");
    }
}
