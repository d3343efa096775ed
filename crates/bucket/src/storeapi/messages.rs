//! The StoreAPI on the wire: messages by their field numbers (see NOTICE).

use prost::{Message, Oneof};

macro_rules! messages {
    ($($(#[$meta:meta])* $name:ident { $($body:tt)* })*) => {
        $($(#[$meta])* #[derive(Clone, PartialEq, Message)] pub struct $name { $($body)* })*
    };
}

messages! {
    /// A label.
    Label {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(string, tag = "2")]
        pub value: String,
    }
    /// Labels.
    LabelSet {
        #[prost(message, repeated, tag = "1")]
        pub labels: Vec<Label>,
    }
    /// A condition; types are 0 `=`, 1 `!=`, 2 `=~`, 3 `!~`.
    LabelMatcher {
        #[prost(int32, tag = "1")]
        pub kind: i32,
        #[prost(string, tag = "2")]
        pub name: String,
        #[prost(string, tag = "3")]
        pub value: String,
    }
    /// The function around a selector.
    Func {
        #[prost(string, tag = "1")]
        pub name: String,
    }
    /// `by` or `without`.
    Grouping {
        #[prost(bool, tag = "1")]
        pub by: bool,
        #[prost(string, repeated, tag = "3")]
        pub labels: Vec<String>,
    }
    /// A selector's range.
    Range {
        #[prost(int64, tag = "1")]
        pub millis: i64,
    }
    /// What the question is for.
    QueryHints {
        #[prost(int64, tag = "1")]
        pub step_millis: i64,
        #[prost(message, optional, tag = "2")]
        pub func: Option<Func>,
        #[prost(message, optional, tag = "4")]
        pub grouping: Option<Grouping>,
        #[prost(message, optional, tag = "5")]
        pub range: Option<Range>,
    }
    /// A part of the series.
    ShardInfo {
        #[prost(int64, tag = "1")]
        pub shard_index: i64,
        #[prost(int64, tag = "2")]
        pub total_shards: i64,
        #[prost(bool, tag = "3")]
        pub by: bool,
        #[prost(string, repeated, tag = "4")]
        pub labels: Vec<String>,
    }
    /// A question for series.
    SeriesRequest {
        #[prost(int64, tag = "1")]
        pub min_time: i64,
        #[prost(int64, tag = "2")]
        pub max_time: i64,
        #[prost(message, repeated, tag = "3")]
        pub matchers: Vec<LabelMatcher>,
        #[prost(int64, tag = "4")]
        pub max_resolution_window: i64,
        #[prost(int32, repeated, tag = "5")]
        pub aggregates: Vec<i32>,
        #[prost(bool, tag = "6")]
        pub partial_response_disabled: bool,
        #[prost(int32, tag = "7")]
        pub partial_response_strategy: i32,
        #[prost(bool, tag = "8")]
        pub skip_chunks: bool,
        #[prost(int64, tag = "10")]
        pub step: i64,
        #[prost(int64, tag = "11")]
        pub range: i64,
        #[prost(message, optional, tag = "12")]
        pub query_hints: Option<QueryHints>,
        #[prost(message, optional, tag = "13")]
        pub shard_info: Option<ShardInfo>,
        #[prost(string, repeated, tag = "14")]
        pub without_replica_labels: Vec<String>,
        #[prost(int64, tag = "15")]
        pub limit: i64,
        #[prost(int64, tag = "16")]
        pub response_batch_size: i64,
    }
    /// Encoded samples; types are 0 floats, 1 and 2 histograms.
    Chunk {
        #[prost(int32, tag = "1")]
        pub kind: i32,
        #[prost(bytes = "bytes", tag = "2")]
        pub data: bytes::Bytes,
        #[prost(uint64, tag = "3")]
        pub hash: u64,
    }
    /// Samples of a time range.
    AggrChunk {
        #[prost(int64, tag = "1")]
        pub min_time: i64,
        #[prost(int64, tag = "2")]
        pub max_time: i64,
        #[prost(message, optional, tag = "3")]
        pub raw: Option<Chunk>,
        #[prost(message, optional, tag = "4")]
        pub count: Option<Chunk>,
        #[prost(message, optional, tag = "5")]
        pub sum: Option<Chunk>,
        #[prost(message, optional, tag = "6")]
        pub min: Option<Chunk>,
        #[prost(message, optional, tag = "7")]
        pub max: Option<Chunk>,
        #[prost(message, optional, tag = "8")]
        pub counter: Option<Chunk>,
    }
    /// A series, or a part of one.
    Series {
        #[prost(message, repeated, tag = "1")]
        pub labels: Vec<Label>,
        #[prost(message, repeated, tag = "2")]
        pub chunks: Vec<AggrChunk>,
    }
    /// Several series.
    SeriesBatch {
        #[prost(message, repeated, tag = "1")]
        pub series: Vec<Series>,
    }
    /// A frame of an answer.
    SeriesResponse {
        #[prost(oneof = "Frame", tags = "1, 2, 3, 4")]
        pub frame: Option<Frame>,
    }
    /// A message of another kind, which we pass over.
    Any {
        #[prost(string, tag = "1")]
        pub type_url: String,
        #[prost(bytes = "bytes", tag = "2")]
        pub value: bytes::Bytes,
    }
    /// A question for label names.
    LabelNamesRequest {
        #[prost(bool, tag = "1")]
        pub partial_response_disabled: bool,
        #[prost(int32, tag = "2")]
        pub partial_response_strategy: i32,
        #[prost(int64, tag = "3")]
        pub start: i64,
        #[prost(int64, tag = "4")]
        pub end: i64,
        #[prost(message, repeated, tag = "6")]
        pub matchers: Vec<LabelMatcher>,
        #[prost(string, repeated, tag = "7")]
        pub without_replica_labels: Vec<String>,
        #[prost(int64, tag = "8")]
        pub limit: i64,
    }
    /// Label names.
    LabelNamesResponse {
        #[prost(string, repeated, tag = "1")]
        pub names: Vec<String>,
        #[prost(string, repeated, tag = "2")]
        pub warnings: Vec<String>,
    }
    /// A question for a label's values.
    LabelValuesRequest {
        #[prost(string, tag = "1")]
        pub label: String,
        #[prost(bool, tag = "2")]
        pub partial_response_disabled: bool,
        #[prost(int32, tag = "3")]
        pub partial_response_strategy: i32,
        #[prost(int64, tag = "4")]
        pub start: i64,
        #[prost(int64, tag = "5")]
        pub end: i64,
        #[prost(message, repeated, tag = "7")]
        pub matchers: Vec<LabelMatcher>,
        #[prost(string, repeated, tag = "8")]
        pub without_replica_labels: Vec<String>,
        #[prost(int64, tag = "9")]
        pub limit: i64,
    }
    /// A label's values.
    LabelValuesResponse {
        #[prost(string, repeated, tag = "1")]
        pub values: Vec<String>,
        #[prost(string, repeated, tag = "2")]
        pub warnings: Vec<String>,
    }
    /// A question for what a store holds.
    InfoRequest {}
    /// What one local store holds.
    TsdbInfo {
        #[prost(message, optional, tag = "1")]
        pub labels: Option<LabelSet>,
        #[prost(int64, tag = "2")]
        pub min_time: i64,
        #[prost(int64, tag = "3")]
        pub max_time: i64,
    }
    /// What a store holds and can do.
    StoreDetails {
        #[prost(int64, tag = "1")]
        pub min_time: i64,
        #[prost(int64, tag = "2")]
        pub max_time: i64,
        #[prost(bool, tag = "3")]
        pub supports_sharding: bool,
        #[prost(bool, tag = "5")]
        pub supports_without_replica_labels: bool,
        #[prost(message, repeated, tag = "6")]
        pub tsdb_infos: Vec<TsdbInfo>,
    }
    /// What a process offers.
    InfoResponse {
        #[prost(message, repeated, tag = "1")]
        pub label_sets: Vec<LabelSet>,
        #[prost(string, tag = "2")]
        pub component_type: String,
        #[prost(message, optional, tag = "3")]
        pub store: Option<StoreDetails>,
    }
}

/// What a frame holds.
#[derive(Clone, PartialEq, Oneof)]
pub enum Frame {
    /// A series, or a part of one.
    #[prost(message, tag = "1")]
    Series(Series),
    /// What the user should know.
    #[prost(string, tag = "2")]
    Warning(String),
    /// What the store tells of itself.
    #[prost(message, tag = "3")]
    Hints(Any),
    /// Several series.
    #[prost(message, tag = "4")]
    Batch(SeriesBatch),
}
