//! Thanos' own cases: joining replicas, planning compactions, downsampling, merging answers; and blocks of others.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use gantry_bucket::compact::Planner;
use gantry_bucket::compact::downsample::{
    CounterReader, Sample, downsample_aggregates, downsample_raw, expand,
};
use gantry_bucket::dedup::{Algorithm, dedup, split_overlaps};
use gantry_bucket::storeapi::{
    AggrChunk, Aggregate, EncodedChunk, LabelsAnswer, LabelsQuery, SeriesQuery, SeriesStream, StoreApi,
    StoreError, StoreInfo, StoreSeries,
};
use gantry_bucket::{Endpoint, Proxy};
use gantry_prom_model::{Labels, SampleBuffer, stale_nan};
use gantry_tsdb::block::{Block, BlockMeta, ChunkSeriesSet, FileSource, IndexReader};
use gantry_tsdb::chunks::xor::XorAppender;
use gantry_tsdb::chunks::{decode, encoding};
use serde_json::Value;

use super::Case;

fn load(data: &Path, file: &str) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(data.join("thanos").join(file)).ok()?).ok()
}

fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn samples(value: &Value) -> Vec<Sample> {
    let number = |value: &Value| match value.as_str() {
        Some("StaleNaN") => stale_nan(),
        Some(_) => f64::NAN,
        None => value.as_f64().unwrap_or(f64::NAN),
    };
    let all = value.as_array().map_or(&[][..], Vec::as_slice);
    all.iter().map(|sample| (sample[0].as_i64().unwrap_or(0), number(&sample[1]))).collect()
}

fn buffer(samples: &[Sample]) -> SampleBuffer {
    let mut buffer = SampleBuffer::default();
    samples.iter().for_each(|(t, v)| buffer.push(*t, *v));
    buffer
}

fn same(found: &[Sample], wanted: &[Sample]) -> Result<(), String> {
    let equal = found.len() == wanted.len()
        && found.iter().zip(wanted).all(|(found, wanted)| {
            found.0 == wanted.0
                && (found.1 == wanted.1
                    || (found.1.is_nan() && wanted.1.is_nan())
                    || (found.1 - wanted.1).abs() <= 1e-9 * wanted.1.abs())
        });
    if equal { Ok(()) } else { Err(format!("found {found:?}\nwanted {wanted:?}")) }
}

fn labels(value: &Value) -> Labels {
    let pairs = value.as_object().into_iter().flatten();
    Labels::from_pairs(pairs.map(|(name, value)| (name.as_str(), value.as_str().unwrap_or(""))))
}

fn name(case: &Value, index: usize) -> String {
    let given = case["name"].as_str().or(case["title"].as_str());
    given.map_or_else(|| format!("case {}", index + 1), str::to_owned)
}

// === deduplication ===

fn series_set(case: &Value, algorithm: Algorithm, data: &Value) -> Result<(), String> {
    let is_counter = case["isCounter"] == true;
    // Neighbours with the same labels are replicas.
    let mut groups: Vec<(Labels, Vec<SampleBuffer>)> = Vec::new();
    for series in list(case, "input") {
        let (labels, one) = (labels(&series["lset"]), buffer(&samples(&series["samples"])));
        match groups.last_mut() {
            Some((last, replicas)) if *last == labels => replicas.push(one),
            _ => groups.push((labels, vec![one])),
        }
    }
    let wanted = list(case, "exp");
    if groups.len() != wanted.len() {
        return Err(format!("found {} series, wanted {}", groups.len(), wanted.len()));
    }
    for ((found_labels, replicas), wanted) in groups.into_iter().zip(wanted) {
        if found_labels != labels(&wanted["lset"]) {
            return Err(format!("found {found_labels}, wanted {}", labels(&wanted["lset"])));
        }
        let expected = match wanted["samples"].get("$id") {
            Some(_) => samples(&data["expected_issue2401_rate_dedup"]),
            None => samples(&wanted["samples"]),
        };
        let joined = dedup(replicas, algorithm, is_counter);
        let found: Vec<Sample> = joined.timestamps.into_iter().zip(joined.values).collect();
        same(&found, &expected)?;
    }
    Ok(())
}

fn overlap_split(data: &Value) -> Result<(), String> {
    let chunks = |series: &Value| -> Vec<(i64, i64)> {
        let one =
            |chunk: &Value| (chunk["MinTime"].as_i64().unwrap_or(0), chunk["MaxTime"].as_i64().unwrap_or(0));
        list(series, "chunks").iter().map(one).collect()
    };
    let mut found = Vec::new();
    for series in list(data, "input") {
        let mut hands = split_overlaps(chunks(series), |chunk| *chunk);
        if hands.is_empty() {
            hands.push(Vec::new());
        }
        found.extend(hands.into_iter().map(|hand| (labels(&series["lset"]), hand)));
    }
    let wanted: Vec<_> =
        list(data, "expected").iter().map(|series| (labels(&series["lset"]), chunks(series))).collect();
    if found == wanted { Ok(()) } else { Err(format!("found {found:?}\nwanted {wanted:?}")) }
}

pub(crate) fn deduplication(data: &Path) -> Option<Vec<Case>> {
    let data = load(data, "dedup_query_time.json")?;
    let mut cases = vec![Case::new("overlap split", overlap_split(&data["overlap_split"]))];
    for (index, case) in list(&data, "penalty_two_iterators").iter().enumerate() {
        let replicas = vec![buffer(&samples(&case["a"])), buffer(&samples(&case["b"]))];
        let joined = dedup(replicas, Algorithm::Penalty, case["isCounter"] == true);
        let found: Vec<Sample> = joined.timestamps.into_iter().zip(joined.values).collect();
        cases.push(Case::new(format!("two replicas {}", index + 1), same(&found, &samples(&case["exp"]))));
    }
    for (key, algorithm) in
        [("penalty_series_set", Algorithm::Penalty), ("chain_series_set", Algorithm::Chain)]
    {
        for (index, case) in list(&data, key).iter().enumerate() {
            let outcome = series_set(case, algorithm, &data);
            cases.push(Case::new(format!("{key}: {}", name(case, index)), outcome));
        }
    }
    Some(cases)
}

// === planner ===

/// The number in `ulid(n)` or `{"$call": "ulid.MustNew", "args": [n, …]}`.
fn ulid_number(text: &str) -> u64 {
    let digits = text.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit);
    digits.collect::<String>().parse().unwrap_or(0)
}

fn metas(value: &[Value]) -> Vec<(BlockMeta, u64)> {
    let one = |value: &Value| {
        let stats = &value["Stats"];
        let index = list(&value["Thanos"], "Files").first().and_then(|file| file["SizeBytes"].as_u64());
        let meta = BlockMeta {
            ulid: ulid_number(value["ULID"].as_str().unwrap_or("")).to_string(),
            min_time: value["MinTime"].as_i64().unwrap_or(0),
            max_time: value["MaxTime"].as_i64().unwrap_or(0),
            stats: gantry_tsdb::block::BlockStats {
                num_series: stats["NumSeries"].as_u64().unwrap_or(0),
                num_tombstones: stats["NumTombstones"].as_u64().unwrap_or(0),
                ..Default::default()
            },
            compaction: gantry_tsdb::block::Compaction {
                failed: value["Compaction"]["Failed"] == true,
                ..Default::default()
            },
            version: 1,
            other: Default::default(),
        };
        (meta, index.unwrap_or(0))
    };
    value.iter().map(one).collect()
}

fn planned(case: &Value, max_index_bytes: u64) -> Result<(), String> {
    let mut metas = metas(list(case, "metas"));
    // The planner is given blocks by their first time.
    metas.sort_by_key(|(meta, _)| meta.min_time);
    let refs: Vec<&BlockMeta> = metas.iter().map(|(meta, _)| meta).collect();
    let marks = case["noCompactMarks"].as_object().into_iter().flatten();
    let excluded: HashSet<String> = marks.map(|(key, _)| ulid_number(key).to_string()).collect();
    let planner = Planner { ranges: vec![20, 60, 180, 540, 1620], max_index_bytes };
    let size = |meta: &BlockMeta| {
        metas.iter().find(|(other, _)| other.ulid == meta.ulid).map_or(0, |(_, bytes)| *bytes)
    };
    let plan = planner.plan(&refs, &excluded, size);
    let found: Vec<String> = plan.blocks.iter().map(|meta| meta.ulid.clone()).collect();
    let wanted: Vec<String> =
        self::metas(list(case, "expected")).into_iter().map(|(meta, _)| meta.ulid).collect();
    if found != wanted {
        return Err(format!("found {found:?}, wanted {wanted:?}"));
    }
    match case["expectedMarks"].as_u64() {
        Some(marks) if marks != plan.too_large.len() as u64 => {
            Err(format!("marked {} blocks, wanted {marks}", plan.too_large.len()))
        }
        _ => Ok(()),
    }
}

pub(crate) fn planner(data: &Path) -> Option<Vec<Case>> {
    let data = load(data, "compact_planner.json")?;
    let mut cases = Vec::new();
    for (key, max_index_bytes) in [
        ("TestPlanners_Plan_Compatibility", u64::MAX),
        ("TestRangeWithFailedCompactionWontGetSelected", u64::MAX),
        ("TestTSDBBasedPlanner_PlanWithNoCompactMarks", u64::MAX),
        ("TestLargeTotalIndexSizeFilter_Plan", 100),
    ] {
        for (index, case) in list(&data, key).iter().enumerate() {
            let mut case = case.clone();
            if key == "TestRangeWithFailedCompactionWontGetSelected"
                && let Some(first) = case["metas"].get_mut(1)
            {
                // The case says so in its name alone: one of its blocks has failed.
                first["Compaction"] = serde_json::json!({"Failed": true});
            }
            cases.push(Case::new(format!("{key}: {}", name(&case, index)), planned(&case, max_index_bytes)));
        }
    }
    Some(cases)
}

// === downsampling ===

const AGGREGATES: [(&str, Aggregate); 5] = [
    ("count", Aggregate::Count),
    ("sum", Aggregate::Sum),
    ("min", Aggregate::Min),
    ("max", Aggregate::Max),
    ("counter", Aggregate::Counter),
];

fn encode(samples: &[Sample]) -> EncodedChunk {
    let mut open = XorAppender::new();
    samples.iter().for_each(|(t, v)| {
        open.append(*t, *v);
    });
    EncodedChunk { encoding: encoding::XOR, data: Bytes::from(open.finish()) }
}

fn aggregate_chunk(value: &Value) -> AggrChunk {
    let mut chunk = AggrChunk { min_t: i64::MAX, max_t: i64::MIN, raw: None, aggregates: Default::default() };
    for (key, aggregate) in AGGREGATES {
        let part = samples(&value[key]);
        if part.is_empty() {
            continue;
        }
        for (t, _) in &part {
            chunk.min_t = chunk.min_t.min(*t);
            chunk.max_t = chunk.max_t.max(*t);
        }
        chunk.aggregates[aggregate as usize] = Some(encode(&part));
    }
    chunk
}

fn decoded(part: &EncodedChunk) -> Vec<Sample> {
    let mut buffer = SampleBuffer::default();
    let _ = decode(part.encoding, &part.data, i64::MIN, i64::MAX, &mut buffer);
    buffer.timestamps.into_iter().zip(buffer.values).collect()
}

fn overlap(ranges: &[(i64, i64)]) -> Result<(), String> {
    match ranges.windows(2).find(|pair| pair[1].0 <= pair[0].1) {
        Some(pair) => Err(format!("chunks overlap at {}", pair[1].0)),
        None => Ok(()),
    }
}

fn coarse(case: &Value) -> Result<Vec<AggrChunk>, String> {
    let resolution = case["resolution"].as_i64().unwrap_or(0);
    if case.get("inRaw").is_some() {
        let mut all = Vec::new();
        let chunks: Vec<Vec<Sample>> = list(case, "inRaw").iter().map(samples).collect();
        let range = |chunk: &Vec<Sample>| Some((chunk.first()?.0, chunk.last()?.0));
        overlap(&chunks.iter().filter_map(range).collect::<Vec<_>>())?;
        for chunk in &chunks {
            expand(&buffer(chunk), &mut all);
        }
        return Ok(downsample_raw(&all, resolution));
    }
    let chunks: Vec<AggrChunk> = list(case, "inAggr").iter().map(aggregate_chunk).collect();
    overlap(&chunks.iter().map(|chunk| (chunk.min_t, chunk.max_t)).collect::<Vec<_>>())?;
    downsample_aggregates(&chunks, resolution - 1, resolution)
}

fn downsampled(case: &Value) -> Result<(), String> {
    let fails = case.get("expectedDownsamplingErr").is_some();
    let found = match coarse(case) {
        Ok(_) if fails => return Err("an error was wanted".into()),
        Err(_) if fails => return Ok(()),
        other => other?,
    };
    let wanted = list(case, "expected");
    if found.len() != wanted.len() {
        return Err(format!("found {} chunks, wanted {}", found.len(), wanted.len()));
    }
    for (found, wanted) in found.iter().zip(wanted) {
        for (key, aggregate) in AGGREGATES {
            let part = found.get(aggregate).map(decoded).unwrap_or_default();
            same(&part, &samples(&wanted[key])).map_err(|reason| format!("{key}: {reason}"))?;
        }
    }
    Ok(())
}

fn counter_resets(case: &Value) -> Result<(), String> {
    let (mut reader, mut found) = (CounterReader::default(), SampleBuffer::default());
    for chunk in list(case, "chunks") {
        reader.read(&buffer(&samples(chunk)), &mut found);
    }
    let found: Vec<Sample> = found.timestamps.into_iter().zip(found.values).collect();
    same(&found, &samples(&case["expected"]))
}

pub(crate) fn downsampling(data: &Path) -> Option<Vec<Case>> {
    let data = load(data, "downsample.json")?;
    let mut cases = Vec::new();
    for (index, case) in list(&data, "downsample").iter().enumerate() {
        cases.push(Case::new(name(case, index), downsampled(case)));
    }
    for (index, case) in list(&data, "apply_counter_resets").iter().enumerate() {
        cases.push(Case::new(format!("counter: {}", name(case, index)), counter_resets(case)));
    }
    let mut expanded = Vec::new();
    expand(&buffer(&samples(&data["expand_chunk"]["in"])), &mut expanded);
    cases.push(Case::new("expand chunk", same(&expanded, &samples(&data["expand_chunk"]["out"]))));
    Some(cases)
}

// === merged answers ===

/// A store whose answer is given.
struct Given(Vec<StoreSeries>);

struct GivenStream(std::vec::IntoIter<StoreSeries>);

impl SeriesStream for GivenStream {
    fn next(&mut self) -> Result<Option<StoreSeries>, StoreError> {
        Ok(self.0.next())
    }
}

impl StoreApi for Given {
    fn name(&self) -> String {
        "given".into()
    }

    fn info(&self) -> Option<StoreInfo> {
        Some(StoreInfo {
            component: "given".into(),
            label_sets: Vec::new(),
            min_ms: i64::MIN,
            max_ms: i64::MAX,
            supports_without: true,
        })
    }

    fn series(&self, _: &SeriesQuery) -> Result<Box<dyn SeriesStream>, StoreError> {
        Ok(Box::new(GivenStream(self.0.clone().into_iter())))
    }

    fn label_names(&self, _: &LabelsQuery) -> Result<LabelsAnswer, StoreError> {
        Ok(LabelsAnswer::default())
    }

    fn label_values(&self, _: &str, _: &LabelsQuery) -> Result<LabelsAnswer, StoreError> {
        Ok(LabelsAnswer::default())
    }
}

/// `storeSeriesResponse(t, labels, chunk1, …)`.
fn response(value: &Value) -> Option<StoreSeries> {
    let args = list(value, "args");
    let given = args.get(1)?;
    let labels = match given.get("$call") {
        Some(_) => {
            let texts: Vec<&str> = list(given, "args").iter().filter_map(Value::as_str).collect();
            Labels::from_pairs(texts.chunks(2).filter_map(|pair| Some((*pair.first()?, *pair.get(1)?))))
        }
        None => labels(given),
    };
    let chunk = |value: &Value| {
        let samples = samples(value);
        let EncodedChunk { encoding, data } = encode(&samples);
        Some(AggrChunk::raw(samples.first()?.0, samples.last()?.0, encoding, data))
    };
    Some(StoreSeries { labels, chunks: args.get(2..)?.iter().filter_map(chunk).collect() })
}

fn merged(case: &Value) -> Result<(), String> {
    let stores = list(case, "input").iter().map(|set| {
        let series = list(set, "bufferedResponses").iter().filter_map(response).collect();
        Endpoint { store: Arc::new(Given(series)), strict: true }
    });
    let proxy = Proxy::new(stores.collect());
    let query = SeriesQuery { min_ms: i64::MIN, max_ms: i64::MAX, ..SeriesQuery::default() };
    let mut stream = proxy.series(&query).map_err(|error| error.to_string())?;
    let mut found = Vec::new();
    while let Some(series) = stream.next().map_err(|error| error.to_string())? {
        let chunks: Vec<ChunkKey> = series.chunks.iter().map(chunk_key).collect();
        found.push((series.labels, chunks));
    }
    let wanted = joined(list(case, "exp").iter().filter_map(response));
    if found == wanted { Ok(()) } else { Err(format!("found {found:?}\nwanted {wanted:?}")) }
}

/// A chunk by its times and samples.
type ChunkKey = (i64, i64, Vec<(i64, u64)>);

fn chunk_key(chunk: &AggrChunk) -> ChunkKey {
    let samples = chunk.raw.as_ref().map(decoded).unwrap_or_default();
    (chunk.min_t, chunk.max_t, samples.into_iter().map(|(t, v)| (t, v.to_bits())).collect())
}

/// The expectation is that of the step that sorts. Theirs has another behind it, which joins neighbours that are the same
/// series and takes each chunk once, in the order of time; ours does both, so the second is done here to the expectation.
fn joined(sorted: impl Iterator<Item = StoreSeries>) -> Vec<(Labels, Vec<ChunkKey>)> {
    let mut all: Vec<(Labels, Vec<ChunkKey>)> = Vec::new();
    for series in sorted {
        let chunks = series.chunks.iter().map(chunk_key);
        match all.last_mut() {
            Some((labels, known)) if *labels == series.labels => {
                known.extend(chunks);
                known.sort();
                known.dedup();
            }
            _ => all.push((series.labels, chunks.collect())),
        }
    }
    all
}

pub(crate) fn store_merge(data: &Path) -> Option<Vec<Case>> {
    let data = load(data, "storeapi_merge.json")?;
    let cases = list(&data, "TestProxyResponseTreeSort").iter().enumerate();
    Some(cases.map(|(index, case)| Case::new(name(case, index), merged(case))).collect())
}

// === blocks of others ===

fn whole_block(dir: &Path) -> Result<(), String> {
    let block = Arc::new(Block::open(dir).map_err(|error| error.to_string())?);
    let mut set = block.select(&[], i64::MIN, i64::MAX).map_err(|error| error.to_string())?;
    let (mut series, mut chunks, mut count) = (0, 0, 0);
    while set.advance().map_err(|error| error.to_string())? {
        series += 1;
        for chunk in set.chunks().map_err(|error| error.to_string())? {
            let mut samples = SampleBuffer::default();
            decode(chunk.encoding, &chunk.data, i64::MIN, i64::MAX, &mut samples)?;
            chunks += 1;
            count += samples.len() as u64;
        }
    }
    let stats = block.meta().stats;
    let found = (series, chunks, count);
    let wanted = (stats.num_series, stats.num_chunks, stats.num_samples);
    if found == wanted { Ok(()) } else { Err(format!("found {found:?}, the meta says {wanted:?}")) }
}

fn whole_index(file: &Path) -> Result<(), String> {
    let source = FileSource::open(file).map_err(|error| error.to_string())?;
    let index = IndexReader::open(Arc::new(source)).map_err(|error| error.to_string())?;
    let all = index.all_postings().map_err(|error| error.to_string())?;
    if all.is_empty() {
        return Err("it has no series".into());
    }
    for name in index.label_names() {
        let values = index.label_values(name).map_err(|error| error.to_string())?;
        if values.is_empty() {
            return Err(format!("label {name} has no values"));
        }
    }
    index.symbols().map(drop).map_err(|error| error.to_string())
}

pub(crate) fn tsdb_format(data: &Path) -> Option<Vec<Case>> {
    let blocks = data.join("promql/tsdb_format/testdata");
    let raw = data.join("thanos/raw");
    if !blocks.is_dir() {
        return None;
    }
    Some(vec![
        Case::new("block with an index of version 1", whole_block(&blocks.join("index_format_v1"))),
        Case::new("index of version 1", whole_index(&raw.join("index_format_v1/index"))),
        Case::new("index with chunks out of order", whole_index(&raw.join("out_of_order_chunks_index"))),
    ])
}
