//! Questions and answers to messages and back.

use bytes::Bytes;
use gantry_prom_model::{Labels, MatchOp, Matcher};
use gantry_tsdb::chunks::encoding;

use super::messages::{self as wire, Label};
use super::{
    AggrChunk, Aggregate, Budget, EncodedChunk, LabelsQuery, PartialResponse, SeriesQuery, Shard, StoreError,
    StoreSeries,
};

/// Milliseconds that fit every store's arithmetic.
const MAX_MS: i64 = i64::MAX / 4;

pub(crate) fn labels_to_wire(labels: &Labels) -> Vec<Label> {
    labels.iter().map(|(name, value)| Label { name: name.to_owned(), value: value.to_owned() }).collect()
}

pub(crate) fn labels_from_wire(labels: &[Label]) -> Labels {
    let sorted = labels.windows(2).all(|pair| pair[0].name < pair[1].name)
        && labels.iter().all(|label| !label.value.is_empty());
    let pairs = labels.iter().map(|label| (label.name.as_str(), label.value.as_str()));
    if sorted { Labels::from_sorted(pairs) } else { Labels::from_pairs(pairs) }
}

fn matchers_to_wire(matchers: &[Matcher]) -> Vec<wire::LabelMatcher> {
    let one = |matcher: &Matcher| wire::LabelMatcher {
        kind: match matcher.op {
            MatchOp::Equal => 0,
            MatchOp::NotEqual => 1,
            MatchOp::Regex => 2,
            MatchOp::NotRegex => 3,
        },
        name: matcher.name.to_string(),
        value: matcher.value.to_string(),
    };
    matchers.iter().map(one).collect()
}

fn matchers_from_wire(matchers: &[wire::LabelMatcher]) -> Result<Vec<Matcher>, StoreError> {
    let mut found = Vec::with_capacity(matchers.len());
    for matcher in matchers {
        let op = match matcher.kind {
            0 => MatchOp::Equal,
            1 => MatchOp::NotEqual,
            2 => MatchOp::Regex,
            3 => MatchOp::NotRegex,
            other => {
                return Err(StoreError::Invalid(format!("matcher type {other} is not known, 0 to 3 are")));
            }
        };
        let matcher = Matcher::new(op, &matcher.name, &matcher.value)
            .map_err(|error| StoreError::Invalid(error.to_string()))?;
        found.push(matcher);
    }
    Ok(found)
}

/// Raw samples (0) are wanted always: a store has the one or the other.
fn aggregates_from_wire(aggregates: &[i32]) -> Vec<Aggregate> {
    let of = |number: &i32| match number {
        1 => Some(Aggregate::Count),
        2 => Some(Aggregate::Sum),
        3 => Some(Aggregate::Min),
        4 => Some(Aggregate::Max),
        5 => Some(Aggregate::Counter),
        _ => None,
    };
    aggregates.iter().filter_map(of).collect()
}

fn partial_from_wire(disabled: bool, strategy: i32) -> PartialResponse {
    if disabled || strategy == 1 { PartialResponse::Abort } else { PartialResponse::Warn }
}

fn limit_from_wire(limit: i64) -> usize {
    usize::try_from(limit).unwrap_or(0)
}

pub(crate) fn series_to_wire(query: &SeriesQuery, batch: i64) -> wire::SeriesRequest {
    let aborts = query.partial == PartialResponse::Abort;
    wire::SeriesRequest {
        min_time: query.min_ms,
        max_time: query.max_ms,
        matchers: matchers_to_wire(&query.matchers),
        max_resolution_window: query.max_resolution_ms,
        aggregates: query.aggregates.iter().map(|aggregate| *aggregate as i32 + 1).collect(),
        partial_response_disabled: aborts,
        partial_response_strategy: i32::from(aborts),
        skip_chunks: query.skip_chunks,
        step: query.step_ms,
        range: query.range_ms,
        query_hints: Some(wire::QueryHints {
            step_millis: query.step_ms,
            func: Some(wire::Func { name: query.function.clone() }).filter(|func| !func.name.is_empty()),
            grouping: None,
            range: Some(wire::Range { millis: query.range_ms }).filter(|range| range.millis > 0),
        }),
        shard_info: query.shard.as_ref().map(|shard| wire::ShardInfo {
            shard_index: shard.index as i64,
            total_shards: shard.total as i64,
            by: shard.by,
            labels: shard.labels.clone(),
        }),
        without_replica_labels: query.without.clone(),
        limit: i64::try_from(query.limit).unwrap_or(0),
        response_batch_size: batch,
    }
}

pub(crate) fn series_from_wire(request: &wire::SeriesRequest) -> Result<SeriesQuery, StoreError> {
    let hints = request.query_hints.as_ref();
    let function = hints.and_then(|hints| hints.func.as_ref()).map(|func| func.name.clone());
    Ok(SeriesQuery {
        min_ms: request.min_time.max(-MAX_MS),
        max_ms: request.max_time.min(MAX_MS),
        matchers: matchers_from_wire(&request.matchers)?,
        max_resolution_ms: request.max_resolution_window,
        aggregates: aggregates_from_wire(&request.aggregates),
        skip_chunks: request.skip_chunks,
        without: request.without_replica_labels.clone(),
        limit: limit_from_wire(request.limit),
        partial: partial_from_wire(request.partial_response_disabled, request.partial_response_strategy),
        shard: request.shard_info.as_ref().filter(|shard| shard.total_shards > 1).map(|shard| Shard {
            index: shard.shard_index.unsigned_abs(),
            total: shard.total_shards.unsigned_abs(),
            by: shard.by,
            labels: shard.labels.clone(),
        }),
        step_ms: request.step,
        range_ms: request.range,
        function: function.unwrap_or_default(),
        budget: Budget::default(),
    })
}

pub(crate) fn names_to_wire(query: &LabelsQuery) -> wire::LabelNamesRequest {
    let aborts = query.partial == PartialResponse::Abort;
    wire::LabelNamesRequest {
        partial_response_disabled: aborts,
        partial_response_strategy: i32::from(aborts),
        start: query.min_ms,
        end: query.max_ms,
        matchers: matchers_to_wire(&query.matchers),
        without_replica_labels: query.without.clone(),
        limit: i64::try_from(query.limit).unwrap_or(0),
    }
}

pub(crate) fn names_from_wire(request: &wire::LabelNamesRequest) -> Result<LabelsQuery, StoreError> {
    Ok(LabelsQuery {
        min_ms: request.start.max(-MAX_MS),
        max_ms: request.end.min(MAX_MS),
        matchers: matchers_from_wire(&request.matchers)?,
        without: request.without_replica_labels.clone(),
        limit: limit_from_wire(request.limit),
        partial: partial_from_wire(request.partial_response_disabled, request.partial_response_strategy),
    })
}

pub(crate) fn values_to_wire(label: &str, query: &LabelsQuery) -> wire::LabelValuesRequest {
    let aborts = query.partial == PartialResponse::Abort;
    wire::LabelValuesRequest {
        label: label.to_owned(),
        partial_response_disabled: aborts,
        partial_response_strategy: i32::from(aborts),
        start: query.min_ms,
        end: query.max_ms,
        matchers: matchers_to_wire(&query.matchers),
        without_replica_labels: query.without.clone(),
        limit: i64::try_from(query.limit).unwrap_or(0),
    }
}

pub(crate) fn values_from_wire(request: &wire::LabelValuesRequest) -> Result<LabelsQuery, StoreError> {
    Ok(LabelsQuery {
        min_ms: request.start.max(-MAX_MS),
        max_ms: request.end.min(MAX_MS),
        matchers: matchers_from_wire(&request.matchers)?,
        without: request.without_replica_labels.clone(),
        limit: limit_from_wire(request.limit),
        partial: partial_from_wire(request.partial_response_disabled, request.partial_response_strategy),
    })
}

/// Encodings are counted from 0 here and from 1 in blocks.
fn chunk_to_wire(chunk: &EncodedChunk) -> wire::Chunk {
    let kind = i32::from(chunk.encoding).saturating_sub(i32::from(encoding::XOR));
    wire::Chunk { kind, data: chunk.data.clone(), hash: chunk.hash() }
}

fn chunk_from_wire(chunk: wire::Chunk) -> EncodedChunk {
    let encoding = match chunk.kind {
        0 => encoding::XOR,
        1 => encoding::HISTOGRAM,
        2 => encoding::FLOAT_HISTOGRAM,
        // A kind that we do not read is refused where the samples are read.
        other => u8::try_from(other.saturating_add(1)).unwrap_or(u8::MAX - 1),
    };
    EncodedChunk { encoding, data: chunk.data }
}

pub(crate) fn answer_to_wire(series: &StoreSeries) -> wire::Series {
    let chunk = |chunk: &AggrChunk| {
        let part = |aggregate| chunk.get(aggregate).map(chunk_to_wire);
        wire::AggrChunk {
            min_time: chunk.min_t,
            max_time: chunk.max_t,
            raw: chunk.raw.as_ref().map(chunk_to_wire),
            count: part(Aggregate::Count),
            sum: part(Aggregate::Sum),
            min: part(Aggregate::Min),
            max: part(Aggregate::Max),
            counter: part(Aggregate::Counter),
        }
    };
    wire::Series { labels: labels_to_wire(&series.labels), chunks: series.chunks.iter().map(chunk).collect() }
}

pub(crate) fn answer_from_wire(series: wire::Series) -> StoreSeries {
    let chunk = |chunk: wire::AggrChunk| AggrChunk {
        min_t: chunk.min_time,
        max_t: chunk.max_time,
        raw: chunk.raw.map(chunk_from_wire),
        aggregates: [chunk.count, chunk.sum, chunk.min, chunk.max, chunk.counter]
            .map(|part| part.map(chunk_from_wire).filter(|part: &EncodedChunk| part.data != Bytes::new())),
    };
    StoreSeries {
        labels: labels_from_wire(&series.labels),
        chunks: series.chunks.into_iter().map(chunk).collect(),
    }
}
