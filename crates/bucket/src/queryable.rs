//! Stores as what the query engine reads: replicas joined, the right aggregate of downsampled chunks.

use std::collections::BTreeSet;
use std::sync::Arc;

use gantry_prom_model::{
    Labels, Matcher, Querier, Queryable, SampleBuffer, SelectHints, SeriesSet, StorageError,
};
use gantry_tsdb::chunks;
use parking_lot::Mutex;

use crate::compact::downsample::CounterReader;
use crate::dedup::{Algorithm, dedup, is_counter_function, split_overlaps};
use crate::storeapi::{
    AggrChunk, Aggregate, Budget, EncodedChunk, LabelsAnswer, LabelsQuery, PartialResponse, SeriesQuery,
    SeriesStream, StoreApi, StoreSeries,
};

/// How stores are read for a query.
#[derive(Debug, Clone, Default)]
pub struct FanOutOptions {
    /// Labels that tell replicas apart.
    pub replica_labels: Vec<String>,
    /// Whether replicas become one series.
    pub dedup: bool,
    /// How.
    pub algorithm: Algorithm,
    /// What happens when a store fails.
    pub partial: PartialResponse,
    /// Coarsest resolution that will do; 0 for raw samples.
    pub max_resolution_ms: i64,
}

/// Stores behind the engine's reading interface.
pub struct FanOut {
    store: Arc<dyn StoreApi>,
    options: FanOutOptions,
}

impl FanOut {
    /// Reads `store`.
    pub fn new(store: Arc<dyn StoreApi>, options: FanOutOptions) -> FanOut {
        FanOut { store, options }
    }
}

impl Queryable for FanOut {
    fn querier(&self, min_time_ms: i64, max_time_ms: i64) -> Result<Box<dyn Querier + '_>, StorageError> {
        Ok(Box::new(FanOutQuerier {
            fan_out: self,
            min_ms: min_time_ms,
            max_ms: max_time_ms,
            warnings: Mutex::default(),
        }))
    }
}

struct FanOutQuerier<'f> {
    fan_out: &'f FanOut,
    min_ms: i64,
    max_ms: i64,
    /// What was said about questions for labels, each word once.
    warnings: Mutex<BTreeSet<String>>,
}

/// The aggregates that a function needs of a downsampled chunk.
fn aggregates(function: &str) -> Vec<Aggregate> {
    if function.starts_with("min") {
        return vec![Aggregate::Min];
    }
    if function.starts_with("max") {
        return vec![Aggregate::Max];
    }
    if function == "count" || function.starts_with("count_") {
        return vec![Aggregate::Count];
    }
    if function.starts_with("sum_") {
        return vec![Aggregate::Sum];
    }
    if is_counter_function(function) || matches!(function, "xrate" | "xincrease") {
        return vec![Aggregate::Counter];
    }
    vec![Aggregate::Count, Aggregate::Sum]
}

impl FanOutQuerier<'_> {
    fn labels_query(&self, matchers: &[Matcher], limit: usize) -> LabelsQuery {
        let options = &self.fan_out.options;
        LabelsQuery {
            min_ms: self.min_ms,
            max_ms: self.max_ms,
            matchers: matchers.to_vec(),
            without: if options.dedup { options.replica_labels.clone() } else { Vec::new() },
            limit,
            partial: options.partial,
        }
    }

    fn keep(&self, answer: LabelsAnswer) -> Vec<String> {
        self.warnings.lock().extend(answer.warnings);
        answer.values
    }
}

impl Querier for FanOutQuerier<'_> {
    fn select<'a>(
        &'a self,
        _sorted: bool,
        hints: &SelectHints,
        matchers: &[Matcher],
    ) -> Result<Box<dyn SeriesSet + 'a>, StorageError> {
        let options = &self.fan_out.options;
        let hinted = hints.start_ms != 0 || hints.end_ms != 0;
        let function = hints.function.unwrap_or("");
        let wanted = aggregates(function);
        let query = SeriesQuery {
            min_ms: if hinted { self.min_ms.max(hints.start_ms) } else { self.min_ms },
            max_ms: if hinted { self.max_ms.min(hints.end_ms) } else { self.max_ms },
            matchers: matchers.to_vec(),
            max_resolution_ms: options.max_resolution_ms,
            aggregates: wanted.clone(),
            skip_chunks: function == "series",
            without: if options.dedup { options.replica_labels.clone() } else { Vec::new() },
            limit: hints.limit,
            partial: options.partial,
            shard: None,
            step_ms: hints.step_ms,
            range_ms: hints.range_ms,
            function: function.to_owned(),
            budget: Budget::default(),
        };
        let stream = self.fan_out.store.series(&query)?;
        Ok(Box::new(FanOutSet {
            stream,
            current: None,
            filled: None,
            wanted,
            dedup: options.dedup,
            algorithm: options.algorithm,
            is_counter: is_counter_function(function),
            counts_resets: function == "resets",
        }))
    }

    fn label_names(&self, matchers: &[Matcher], limit: usize) -> Result<Vec<String>, StorageError> {
        let answer = self.fan_out.store.label_names(&self.labels_query(matchers, limit))?;
        Ok(self.keep(answer))
    }

    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        limit: usize,
    ) -> Result<Vec<String>, StorageError> {
        let answer = self.fan_out.store.label_values(name, &self.labels_query(matchers, limit))?;
        Ok(self.keep(answer))
    }

    fn warnings(&self) -> Vec<String> {
        self.warnings.lock().iter().cloned().collect()
    }
}

struct FanOutSet {
    stream: Box<dyn SeriesStream>,
    current: Option<StoreSeries>,
    /// The samples of the current series, joined.
    filled: Option<SampleBuffer>,
    wanted: Vec<Aggregate>,
    dedup: bool,
    algorithm: Algorithm,
    is_counter: bool,
    counts_resets: bool,
}

static NO_LABELS: std::sync::LazyLock<Labels> = std::sync::LazyLock::new(Labels::empty);

impl FanOutSet {
    /// All samples of the current series. The algorithm looks back, so it needs them whole.
    fn join(&mut self) -> Result<SampleBuffer, StorageError> {
        let Some(series) = &mut self.current else { return Ok(SampleBuffer::default()) };
        let hands = split_overlaps(std::mem::take(&mut series.chunks), |chunk| (chunk.min_t, chunk.max_t));
        // Counters of several replicas are joined without their resets, or a change of replica would look like one.
        let is_aggregated = hands.iter().flatten().any(|chunk| chunk.raw.is_none());
        let as_total = self.is_counter && (is_aggregated || (hands.len() > 1 && !self.counts_resets));
        let mut replicas = Vec::with_capacity(hands.len());
        for hand in hands {
            let mut samples = SampleBuffer::default();
            let mut counter = CounterReader::default();
            for chunk in &hand {
                let read = if as_total {
                    read_counter(chunk, &mut counter, &mut samples)
                } else {
                    read(chunk, &self.wanted, &mut samples)
                };
                read.map_err(|reason| StorageError::Unreadable(format!("{}: {reason}", series.labels)))?;
            }
            replicas.push(samples);
        }
        // Without deduplication chunks that overlap are of one series: all its samples count.
        let algorithm = if self.dedup { self.algorithm } else { Algorithm::Chain };
        Ok(dedup(replicas, algorithm, self.is_counter))
    }
}

fn decode(part: &EncodedChunk, into: &mut SampleBuffer) -> Result<(), String> {
    chunks::decode(part.encoding, &part.data, i64::MIN, i64::MAX, into)
}

/// Appends a chunk of a counter; histograms as they are.
fn read_counter(
    chunk: &AggrChunk,
    counter: &mut CounterReader,
    into: &mut SampleBuffer,
) -> Result<(), String> {
    let Some(part) = chunk.raw.as_ref().or(chunk.get(Aggregate::Counter)) else { return Ok(()) };
    let mut samples = SampleBuffer::default();
    decode(part, &mut samples)?;
    counter.read(&samples, into);
    for (t, histogram) in samples.histogram_timestamps.into_iter().zip(samples.histograms) {
        into.push_histogram(t, histogram);
    }
    Ok(())
}

/// Appends a chunk's samples; of a downsampled one the aggregate, or the average of its windows.
fn read(chunk: &AggrChunk, wanted: &[Aggregate], into: &mut SampleBuffer) -> Result<(), String> {
    if let Some(raw) = &chunk.raw {
        return decode(raw, into);
    }
    if let [Aggregate::Count, Aggregate::Sum] = wanted {
        let (Some(count), Some(sum)) = (chunk.get(Aggregate::Count), chunk.get(Aggregate::Sum)) else {
            return Ok(());
        };
        let (mut counts, mut sums) = (SampleBuffer::default(), SampleBuffer::default());
        decode(count, &mut counts)?;
        decode(sum, &mut sums)?;
        for ((t, sum), count) in sums.timestamps.iter().zip(&sums.values).zip(&counts.values) {
            if *count != 0.0 {
                into.push(*t, sum / count);
            }
        }
        return Ok(());
    }
    match wanted.first().and_then(|aggregate| chunk.get(*aggregate)) {
        Some(part) => decode(part, into),
        None => Ok(()),
    }
}

impl SeriesSet for FanOutSet {
    fn advance(&mut self) -> Result<bool, StorageError> {
        self.filled = None;
        self.current = self.stream.next()?;
        Ok(self.current.is_some())
    }

    fn labels(&self) -> &Labels {
        self.current.as_ref().map_or(&*NO_LABELS, |series| &series.labels)
    }

    fn fill(
        &mut self,
        min_time_ms: i64,
        max_time_ms: i64,
        into: &mut SampleBuffer,
    ) -> Result<(), StorageError> {
        if self.filled.is_none() {
            self.filled = Some(self.join()?);
        }
        let Some(all) = &self.filled else { return Ok(()) };
        let range = |times: &[i64]| {
            let start = times.partition_point(|t| *t < min_time_ms);
            start..times.partition_point(|t| *t <= max_time_ms).max(start)
        };
        let floats = range(&all.timestamps);
        into.timestamps.extend_from_slice(&all.timestamps[floats.clone()]);
        into.values.extend_from_slice(&all.values[floats]);
        for index in range(&all.histogram_timestamps) {
            into.push_histogram(all.histogram_timestamps[index], all.histograms[index].clone());
        }
        Ok(())
    }

    fn warnings(&self) -> Vec<String> {
        self.stream.warnings()
    }
}
