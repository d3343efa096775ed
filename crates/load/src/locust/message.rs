//! The messages between master and worker: msgpack `[type, data, node_id]`, in the shapes that Locust 2.47 sends.
//!
//! What is read is lenient where other workers differ from stock ones (boomer sends whole numbers for times and no
//! first_seen); what is written is exactly Locust's.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, SerializeTuple, Serializer};
use serde::{Deserialize as DeserializeDerive, Serialize as SerializeDerive};

use super::number::Number;

/// Seconds since 1970 of a far future; what is reckoned with times up to it fits every number here.
const LATEST: f64 = 1e11;
/// Nested deeper than this is refused.
const MOST_DEPTH: usize = 64;

#[derive(Debug, thiserror::Error)]
pub enum WireError {
    #[error("not a message of {from}: {error}")]
    Decode { from: &'static str, error: rmp_serde::decode::Error },
    #[error("cannot encode {kind}: {error}")]
    Encode { kind: &'static str, error: rmp_serde::encode::Error },
}

/// A message and who it is from (or about).
#[derive(Debug)]
pub struct Message<T> {
    pub body: T,
    pub node_id: String,
}

/// The version a worker tells when it is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Version {
    Text(String),
    /// -1: it asks not to be compared.
    Unchecked,
    /// Nothing: older than 2.0.
    None,
}

/// What a worker says.
#[derive(Debug)]
pub enum FromWorker {
    ClientReady(Version),
    ClientStopped,
    Heartbeat {
        state: String,
        cpu: f64,
        memory: u64,
    },
    Spawning,
    SpawningComplete {
        user_classes_count: BTreeMap<String, i64>,
        user_count: i64,
    },
    Stats(Box<StatsReport>),
    Exception {
        msg: String,
        traceback: String,
    },
    Logs {
        worker_id: String,
        logs: Vec<String>,
    },
    Quit,
    /// Asks for the locustfile.
    Locustfile {
        version: Option<String>,
    },
    /// What the shim beside a distributed locustfile tells about it.
    Described(Described),
    /// A message of the user's own.
    Other(String),
}

/// What a master says.
#[derive(Debug)]
pub enum FromMaster {
    Ack {
        index: Option<i64>,
    },
    Spawn {
        /// Seconds since 1970; strictly increasing.
        timestamp: f64,
        user_classes_count: BTreeMap<String, i64>,
        host: Option<String>,
        stop_timeout: f64,
        parsed_options: serde_json::Map<String, serde_json::Value>,
    },
    SpawningComplete {
        user_count: i64,
    },
    Heartbeat,
    Stop,
    Quit,
    Reconnect,
    /// The JSON of a user class's new settings.
    UpdateUserClass(serde_json::Value),
    Locustfile(Result<Vec<LocustFile>, String>),
    Other(String),
}

/// One file for a worker that has none: its text, or where to download it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocustFile {
    Source { filename: String, contents: String },
    Url(String),
}

/// One report of a worker: what happened since its last.
#[derive(Debug, Default, DeserializeDerive, SerializeDerive)]
#[serde(default)]
pub struct StatsReport {
    pub stats: Vec<EntryReport>,
    pub stats_total: EntryReport,
    pub errors: BTreeMap<String, ErrorReport>,
    pub user_classes_count: BTreeMap<String, i64>,
    pub user_count: i64,
    /// Exact latencies, from workers that send them.
    #[serde(
        rename = "x_gantry_latencies",
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub latencies: Vec<LatencyReport>,
}

/// The samples of one name since the last report; field names and their order are Locust's.
#[derive(Clone, Debug, Default, DeserializeDerive, SerializeDerive)]
#[serde(default)]
pub struct EntryReport {
    #[serde(deserialize_with = "null_is_default")]
    pub name: String,
    #[serde(deserialize_with = "null_is_default")]
    pub method: String,
    #[serde(deserialize_with = "moment_or_none")]
    pub last_request_timestamp: Option<f64>,
    #[serde(deserialize_with = "moment")]
    pub start_time: f64,
    pub num_requests: i64,
    pub num_none_requests: i64,
    pub num_failures: i64,
    pub total_response_time: f64,
    #[serde(deserialize_with = "number_or_zero")]
    pub max_response_time: MaxNumber,
    pub min_response_time: Option<Number>,
    pub total_content_length: i64,
    #[serde(with = "pairs")]
    pub response_times: Vec<(Number, i64)>,
    #[serde(serialize_with = "pairs::serialize", deserialize_with = "per_second")]
    pub num_reqs_per_sec: Vec<(i64, i64)>,
    #[serde(serialize_with = "pairs::serialize", deserialize_with = "per_second")]
    pub num_fail_per_sec: Vec<(i64, i64)>,
}

/// A number whose default is 0.
#[derive(Clone, Copy, Debug, SerializeDerive)]
#[serde(transparent)]
pub struct MaxNumber(pub Number);

#[derive(Clone, Debug, Default, PartialEq, DeserializeDerive, SerializeDerive)]
#[serde(default)]
pub struct ErrorReport {
    #[serde(deserialize_with = "null_is_default")]
    pub name: String,
    #[serde(deserialize_with = "null_is_default")]
    pub method: String,
    #[serde(deserialize_with = "null_is_default")]
    pub error: String,
    pub occurrences: i64,
    #[serde(deserialize_with = "moment_or_none")]
    pub first_seen: Option<f64>,
    #[serde(deserialize_with = "moment_or_none")]
    pub last_seen: Option<f64>,
}

/// Exact latencies of one name: counts per microsecond.
#[derive(Clone, Debug, Default, PartialEq, Eq, DeserializeDerive, SerializeDerive)]
pub struct LatencyReport {
    pub name: String,
    pub method: String,
    #[serde(with = "pairs")]
    pub us: Vec<(u64, u32)>,
}

/// What a locustfile holds, as told by the shim that runs beside it.
#[derive(Clone, Debug, Default, PartialEq, DeserializeDerive, SerializeDerive)]
#[serde(default)]
pub struct Described {
    pub classes: Vec<ClassDescription>,
    /// Names of load shapes; the first is the one that runs.
    pub shapes: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, DeserializeDerive, SerializeDerive)]
pub struct ClassDescription {
    pub name: String,
    #[serde(default = "one")]
    pub weight: f64,
    #[serde(default)]
    pub fixed_count: u64,
    #[serde(default)]
    pub host: Option<String>,
    #[serde(default)]
    pub tasks: Vec<TaskDescription>,
}

/// A task by name, how often it is in its set, and the tasks within when it is a set itself.
#[derive(Clone, Debug, Default, PartialEq, DeserializeDerive, SerializeDerive)]
#[serde(default)]
pub struct TaskDescription {
    pub name: String,
    pub count: u64,
    pub tasks: Vec<TaskDescription>,
}

fn one() -> f64 {
    1.0
}

// === reading ===

/// # Errors
/// When the bytes are not a message a worker could have sent.
pub fn decode_from_worker(bytes: &[u8]) -> Result<Message<FromWorker>, WireError> {
    decode(bytes).map_err(|error| WireError::Decode { from: "a worker", error })
}

/// # Errors
/// When the bytes are not a message a master could have sent.
pub fn decode_from_master(bytes: &[u8]) -> Result<Message<FromMaster>, WireError> {
    decode(bytes).map_err(|error| WireError::Decode { from: "a master", error })
}

fn decode<T: Body>(bytes: &[u8]) -> Result<Message<T>, rmp_serde::decode::Error> {
    let mut deserializer = rmp_serde::Deserializer::from_read_ref(bytes);
    deserializer.set_max_depth(MOST_DEPTH);
    Message::deserialize(&mut deserializer)
}

/// Reads the data that belongs to a message type.
trait Body: Sized {
    fn read<'de, A: SeqAccess<'de>>(kind: String, seq: &mut A) -> Result<Self, A::Error>;
}

fn data<'de, T: Deserialize<'de>, A: SeqAccess<'de>>(seq: &mut A) -> Result<T, A::Error> {
    seq.next_element()?.ok_or_else(|| de::Error::custom("a message has three parts"))
}

impl<'de, T: Body> Deserialize<'de> for Message<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Message<T>, D::Error> {
        struct Parts<T>(std::marker::PhantomData<T>);
        impl<'de, T: Body> Visitor<'de> for Parts<T> {
            type Value = Message<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of type, data and node id")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Message<T>, A::Error> {
                let kind: String = data(&mut seq)?;
                let body = T::read(kind, &mut seq)?;
                let node_id: Option<String> = data(&mut seq)?;
                Ok(Message { body, node_id: node_id.unwrap_or_default() })
            }
        }
        deserializer.deserialize_seq(Parts(std::marker::PhantomData))
    }
}

#[derive(Default, DeserializeDerive)]
#[serde(default)]
struct HeartbeatData {
    state: String,
    current_cpu_usage: f64,
    current_memory_usage: f64,
}

#[derive(Default, DeserializeDerive)]
#[serde(default)]
struct SpawnedData {
    user_classes_count: BTreeMap<String, i64>,
    user_count: i64,
}

#[derive(Default, DeserializeDerive)]
#[serde(default)]
struct ExceptionData {
    msg: String,
    traceback: String,
}

#[derive(Default, DeserializeDerive)]
#[serde(default)]
struct LogsData {
    worker_id: String,
    logs: Vec<String>,
}

#[derive(Default, DeserializeDerive)]
#[serde(default)]
struct VersionData {
    version: Option<String>,
}

impl Body for FromWorker {
    fn read<'de, A: SeqAccess<'de>>(kind: String, seq: &mut A) -> Result<FromWorker, A::Error> {
        Ok(match kind.as_str() {
            "client_ready" => FromWorker::ClientReady(data(seq)?),
            "heartbeat" => {
                let HeartbeatData { state, current_cpu_usage, current_memory_usage } = data(seq)?;
                FromWorker::Heartbeat { state, cpu: current_cpu_usage, memory: current_memory_usage as u64 }
            }
            "spawning_complete" => {
                let SpawnedData { user_classes_count, user_count } = data(seq)?;
                FromWorker::SpawningComplete { user_classes_count, user_count }
            }
            "stats" => FromWorker::Stats(data(seq)?),
            "exception" => {
                let ExceptionData { msg, traceback } = data(seq)?;
                FromWorker::Exception { msg, traceback }
            }
            "logs" => {
                let LogsData { worker_id, logs } = data(seq)?;
                FromWorker::Logs { worker_id, logs }
            }
            "locustfile" => {
                let VersionData { version } = data(seq)?;
                FromWorker::Locustfile { version }
            }
            "x_gantry_describe" => FromWorker::Described(data(seq)?),
            _ => {
                let _: IgnoredAny = data(seq)?;
                match kind.as_str() {
                    "client_stopped" => FromWorker::ClientStopped,
                    "spawning" => FromWorker::Spawning,
                    "quit" => FromWorker::Quit,
                    _ => FromWorker::Other(kind),
                }
            }
        })
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Version, D::Error> {
        struct VersionVisitor;
        impl<'de> Visitor<'de> for VersionVisitor {
            type Value = Version;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a version, -1 or nothing")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Version, E> {
                Ok(if text.is_empty() { Version::None } else { Version::Text(text.to_owned()) })
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Version, E> {
                Ok(if value == -1 { Version::Unchecked } else { Version::Text(value.to_string()) })
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Version, E> {
                Ok(if value == 0 { Version::None } else { Version::Text(value.to_string()) })
            }

            fn visit_unit<E: de::Error>(self) -> Result<Version, E> {
                Ok(Version::None)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Version, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Version::None)
            }
        }
        deserializer.deserialize_any(VersionVisitor)
    }
}

#[derive(DeserializeDerive)]
struct SpawnData {
    timestamp: f64,
    user_classes_count: BTreeMap<String, i64>,
    #[serde(default)]
    host: Option<String>,
    #[serde(default)]
    stop_timeout: Option<f64>,
    /// Only a few options are of interest, and others may hold what JSON cannot.
    #[serde(default, rename = "parsed_options")]
    _parsed_options: IgnoredAny,
}

#[derive(Default, DeserializeDerive)]
#[serde(default)]
struct AckData {
    index: Option<i64>,
}

#[derive(DeserializeDerive)]
#[serde(untagged)]
enum FileData {
    Url(String),
    Source { filename: String, contents: String },
}

#[derive(Default, DeserializeDerive)]
#[serde(default)]
struct FilesData {
    locustfiles: Vec<FileData>,
    error: Option<String>,
}

impl Body for FromMaster {
    fn read<'de, A: SeqAccess<'de>>(kind: String, seq: &mut A) -> Result<FromMaster, A::Error> {
        Ok(match kind.as_str() {
            "ack" => {
                let ack: Option<AckData> = data(seq)?;
                FromMaster::Ack { index: ack.and_then(|ack| ack.index) }
            }
            "spawn" => {
                let SpawnData { timestamp, user_classes_count, host, stop_timeout, .. } = data(seq)?;
                let stop_timeout = stop_timeout.unwrap_or(0.0);
                let parsed_options = serde_json::Map::new();
                FromMaster::Spawn { timestamp, user_classes_count, host, stop_timeout, parsed_options }
            }
            "spawning_complete" => {
                let SpawnedData { user_count, .. } = data(seq)?;
                FromMaster::SpawningComplete { user_count }
            }
            "locustfile" => {
                let FilesData { locustfiles, error } = data(seq)?;
                let files = locustfiles.into_iter().map(|file| match file {
                    FileData::Url(url) => LocustFile::Url(url),
                    FileData::Source { filename, contents } => LocustFile::Source { filename, contents },
                });
                FromMaster::Locustfile(match error {
                    Some(error) => Err(error),
                    None => Ok(files.collect()),
                })
            }
            _ => {
                let _: IgnoredAny = data(seq)?;
                match kind.as_str() {
                    "heartbeat" => FromMaster::Heartbeat,
                    "stop" => FromMaster::Stop,
                    "quit" => FromMaster::Quit,
                    "reconnect" => FromMaster::Reconnect,
                    _ => FromMaster::Other(kind),
                }
            }
        })
    }
}

fn null_is_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(d: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}

fn checked_moment<E: de::Error>(seconds: f64) -> Result<f64, E> {
    if (0.0..=LATEST).contains(&seconds) {
        return Ok(seconds);
    }
    Err(E::custom(format!("time {seconds}: expected seconds since 1970, at most {LATEST}")))
}

fn moment<'de, D: Deserializer<'de>>(d: D) -> Result<f64, D::Error> {
    checked_moment(f64::deserialize(d)?)
}

fn moment_or_none<'de, D: Deserializer<'de>>(d: D) -> Result<Option<f64>, D::Error> {
    Option::<f64>::deserialize(d)?.map(checked_moment).transpose()
}

fn per_second<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<(i64, i64)>, D::Error> {
    let seconds: Vec<(i64, i64)> = pairs::deserialize(d)?;
    for (second, _) in &seconds {
        checked_moment(*second as f64)?;
    }
    Ok(seconds)
}

fn number_or_zero<'de, D: Deserializer<'de>>(d: D) -> Result<MaxNumber, D::Error> {
    Ok(Option::<Number>::deserialize(d)?.map_or_else(MaxNumber::default, MaxNumber))
}

impl Default for MaxNumber {
    fn default() -> MaxNumber {
        MaxNumber(Number::ZERO)
    }
}

/// Maps with number keys as lists of pairs: they are only ever walked.
mod pairs {
    use std::fmt;
    use std::marker::PhantomData;

    use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
    use serde::ser::{Serialize, Serializer};

    pub(super) fn deserialize<'de, D, K, V>(deserializer: D) -> Result<Vec<(K, V)>, D::Error>
    where
        D: Deserializer<'de>,
        K: Deserialize<'de>,
        V: Deserialize<'de>,
    {
        struct Pairs<K, V>(PhantomData<(K, V)>);
        impl<'de, K: Deserialize<'de>, V: Deserialize<'de>> Visitor<'de> for Pairs<K, V> {
            type Value = Vec<(K, V)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of numbers")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<(K, V)>, A::Error> {
                // What a peer says its map holds is no reason to allocate for it.
                let mut pairs = Vec::with_capacity(map.size_hint().unwrap_or(0).min(1024));
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(pairs)
            }
        }
        deserializer.deserialize_map(Pairs(PhantomData))
    }

    pub(super) fn serialize<S, K, V>(pairs: &[(K, V)], serializer: S) -> Result<S::Ok, S::Error>
    where
        S: Serializer,
        K: Serialize,
        V: Serialize,
    {
        serializer.collect_map(pairs.iter().map(|(key, value)| (key, value)))
    }
}

// === writing ===

/// # Errors
/// When a value cannot be encoded; none of these types can cause it.
pub fn encode_from_master(body: &FromMaster, node_id: &str) -> Result<Bytes, WireError> {
    encode(body, body.kind(), node_id)
}

/// # Errors
/// When a value cannot be encoded; none of these types can cause it.
pub fn encode_from_worker(body: &FromWorker, node_id: &str) -> Result<Bytes, WireError> {
    encode(body, body.kind(), node_id)
}

fn encode(body: &impl Serialize, kind: &'static str, node_id: &str) -> Result<Bytes, WireError> {
    struct Parts<'a, T>(&'static str, &'a T, &'a str);
    impl<T: Serialize> Serialize for Parts<'_, T> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut tuple = serializer.serialize_tuple(3)?;
            tuple.serialize_element(self.0)?;
            tuple.serialize_element(self.1)?;
            tuple.serialize_element(self.2)?;
            tuple.end()
        }
    }
    let mut out = Vec::with_capacity(256);
    let mut serializer = rmp_serde::Serializer::new(&mut out).with_struct_map();
    Parts(kind, body, node_id)
        .serialize(&mut serializer)
        .map_err(|error| WireError::Encode { kind, error })?;
    Ok(Bytes::from(out))
}

impl FromMaster {
    fn kind(&self) -> &'static str {
        match self {
            FromMaster::Ack { .. } => "ack",
            FromMaster::Spawn { .. } => "spawn",
            FromMaster::SpawningComplete { .. } => "spawning_complete",
            FromMaster::Heartbeat => "heartbeat",
            FromMaster::Stop => "stop",
            FromMaster::Quit => "quit",
            FromMaster::Reconnect => "reconnect",
            FromMaster::UpdateUserClass(_) => "update_user_class",
            FromMaster::Locustfile(_) => "locustfile",
            FromMaster::Other(_) => "other",
        }
    }
}

impl Serialize for FromMaster {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            FromMaster::Ack { index } => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("index", index)?;
                map.end()
            }
            FromMaster::Spawn { timestamp, user_classes_count, host, stop_timeout, parsed_options } => {
                let mut map = serializer.serialize_map(Some(5))?;
                map.serialize_entry("timestamp", timestamp)?;
                map.serialize_entry("user_classes_count", user_classes_count)?;
                map.serialize_entry("host", host)?;
                map.serialize_entry("stop_timeout", stop_timeout)?;
                map.serialize_entry("parsed_options", parsed_options)?;
                map.end()
            }
            FromMaster::SpawningComplete { user_count } => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("user_count", user_count)?;
                map.end()
            }
            FromMaster::UpdateUserClass(settings) => settings.serialize(serializer),
            FromMaster::Locustfile(Err(error)) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("error", error)?;
                map.end()
            }
            FromMaster::Locustfile(Ok(files)) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("locustfiles", files)?;
                map.end()
            }
            _ => serializer.serialize_unit(),
        }
    }
}

impl Serialize for LocustFile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            LocustFile::Url(url) => serializer.serialize_str(url),
            LocustFile::Source { filename, contents } => {
                let mut map = serializer.serialize_map(Some(2))?;
                map.serialize_entry("filename", filename)?;
                map.serialize_entry("contents", contents)?;
                map.end()
            }
        }
    }
}

impl FromWorker {
    fn kind(&self) -> &'static str {
        match self {
            FromWorker::ClientReady(_) => "client_ready",
            FromWorker::ClientStopped => "client_stopped",
            FromWorker::Heartbeat { .. } => "heartbeat",
            FromWorker::Spawning => "spawning",
            FromWorker::SpawningComplete { .. } => "spawning_complete",
            FromWorker::Stats(_) => "stats",
            FromWorker::Exception { .. } => "exception",
            FromWorker::Logs { .. } => "logs",
            FromWorker::Quit => "quit",
            FromWorker::Locustfile { .. } => "locustfile",
            FromWorker::Described(_) => "x_gantry_describe",
            FromWorker::Other(_) => "other",
        }
    }
}

impl Serialize for FromWorker {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            FromWorker::ClientReady(Version::Text(version)) => serializer.serialize_str(version),
            FromWorker::ClientReady(Version::Unchecked) => serializer.serialize_i64(-1),
            FromWorker::Heartbeat { state, cpu, memory } => {
                let mut map = serializer.serialize_map(Some(3))?;
                map.serialize_entry("state", state)?;
                map.serialize_entry("current_cpu_usage", cpu)?;
                map.serialize_entry("current_memory_usage", memory)?;
                map.end()
            }
            FromWorker::SpawningComplete { user_classes_count, user_count } => {
                let mut map = serializer.serialize_map(Some(2))?;
                map.serialize_entry("user_classes_count", user_classes_count)?;
                map.serialize_entry("user_count", user_count)?;
                map.end()
            }
            FromWorker::Stats(report) => report.serialize(serializer),
            FromWorker::Exception { msg, traceback } => {
                let mut map = serializer.serialize_map(Some(2))?;
                map.serialize_entry("msg", msg)?;
                map.serialize_entry("traceback", traceback)?;
                map.end()
            }
            FromWorker::Logs { worker_id, logs } => {
                let mut map = serializer.serialize_map(Some(2))?;
                map.serialize_entry("worker_id", worker_id)?;
                map.serialize_entry("logs", logs)?;
                map.end()
            }
            FromWorker::Locustfile { version } => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("version", version)?;
                map.end()
            }
            FromWorker::Described(described) => described.serialize(serializer),
            _ => serializer.serialize_unit(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_report_is_read_back() {
        let report = StatsReport {
            stats: vec![EntryReport {
                name: "/a".to_owned(),
                method: "GET".to_owned(),
                last_request_timestamp: Some(12.5),
                num_requests: 3,
                min_response_time: Some(Number::Float(0.25)),
                response_times: vec![(Number::Int(1), 2), (Number::Int(120), 1)],
                num_reqs_per_sec: vec![(12, 3)],
                ..EntryReport::default()
            }],
            latencies: vec![LatencyReport {
                name: "/a".to_owned(),
                method: "GET".to_owned(),
                us: vec![(250, 1)],
            }],
            user_count: 4,
            ..StatsReport::default()
        };
        let bytes = encode_from_worker(&FromWorker::Stats(Box::new(report)), "box_1").unwrap();
        let read = decode_from_worker(&bytes).unwrap();
        assert_eq!(read.node_id, "box_1");
        let FromWorker::Stats(read) = read.body else { panic!("{:?}", read.body) };
        assert_eq!(read.stats[0].response_times, vec![(Number::Int(1), 2), (Number::Int(120), 1)]);
        assert_eq!(read.stats[0].min_response_time, Some(Number::Float(0.25)));
        assert_eq!((read.user_count, read.latencies[0].us.clone()), (4, vec![(250, 1)]));
    }

    #[test]
    fn whole_numbers_and_missing_fields_are_accepted() {
        // As boomer sends it: whole times, no first_seen, nil where Locust has text.
        let value = serde_json::json!(["stats", {
            "stats": [{"name": "/a", "method": null, "start_time": 7, "last_request_timestamp": 9,
                "total_response_time": 15, "min_response_time": 1, "max_response_time": 9, "num_requests": 2,
                "response_times": {}, "unknown": {"x": [1]}}],
            "stats_total": {"name": "Total", "method": "", "start_time": 7},
            "errors": {"k": {"name": "/a", "method": "GET", "error": "no", "occurrences": 2}},
            "user_count": 1,
        }, "boomer_1"]);
        let read = decode_from_worker(&rmp_serde::to_vec(&value).unwrap()).unwrap();
        let FromWorker::Stats(report) = read.body else { panic!("{:?}", read.body) };
        assert_eq!(report.stats[0].total_response_time, 15.0);
        assert_eq!(report.stats[0].max_response_time.0.to_string(), "9");
        assert_eq!((report.errors["k"].occurrences, report.errors["k"].first_seen), (2, None));
    }

    #[test]
    fn times_that_nobody_can_reckon_with_are_refused() {
        let read = |field: &str, time: serde_json::Value| {
            let mut entry = serde_json::json!({"name": "/a", "method": "GET", "start_time": 7});
            entry[field] = time;
            let value = serde_json::json!(["stats", {"stats_total": entry}, "w"]);
            decode_from_worker(&rmp_serde::to_vec(&value).unwrap())
                .map(drop)
                .map_err(|error| error.to_string())
        };
        assert_eq!(read("last_request_timestamp", serde_json::json!(1.7e9)), Ok(()));
        assert_eq!(read("last_request_timestamp", serde_json::Value::Null), Ok(()));
        for (field, time) in [("start_time", -1.0), ("start_time", 1e12), ("last_request_timestamp", 1e300)] {
            let error = read(field, serde_json::json!(time)).unwrap_err();
            assert!(error.contains("expected seconds since 1970"), "{error}");
        }
    }

    #[test]
    fn versions_are_told_apart() {
        let read = |value: serde_json::Value| {
            let bytes = rmp_serde::to_vec(&serde_json::json!(["client_ready", value, "w"])).unwrap();
            match decode_from_worker(&bytes).unwrap().body {
                FromWorker::ClientReady(version) => version,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(read(serde_json::json!("2.47.0")), Version::Text("2.47.0".to_owned()));
        assert_eq!(read(serde_json::json!(-1)), Version::Unchecked);
        assert_eq!(read(serde_json::json!(null)), Version::None);
    }

    #[test]
    fn a_spawn_is_read_back_whatever_its_options_hold() {
        let mut options = serde_json::Map::new();
        options.insert("tags".to_owned(), serde_json::json!(["a", null, {"deep": [1.5]}]));
        let spawn = FromMaster::Spawn {
            timestamp: 3.5,
            user_classes_count: BTreeMap::from([("Shopper".to_owned(), 3)]),
            host: Some("http://127.0.0.1".to_owned()),
            stop_timeout: 1.5,
            parsed_options: options,
        };
        let read = decode_from_master(&encode_from_master(&spawn, "w").unwrap()).unwrap();
        let FromMaster::Spawn { timestamp, user_classes_count, stop_timeout, .. } = read.body else {
            panic!("{:?}", read.body)
        };
        assert_eq!((timestamp, user_classes_count["Shopper"], stop_timeout), (3.5, 3, 1.5));
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_panic(bytes: Vec<u8>) {
            let _ = decode_from_worker(&bytes);
            let _ = decode_from_master(&bytes);
        }

        #[test]
        fn no_damage_to_a_report_makes_a_panic(at in 0_usize..200, with: u8) {
            let report = StatsReport { stats: vec![EntryReport::default()], ..StatsReport::default() };
            let mut bytes = encode_from_worker(&FromWorker::Stats(Box::new(report)), "w").unwrap().to_vec();
            let at = at % bytes.len();
            bytes[at] = with;
            let _ = decode_from_worker(&bytes);
        }
    }
}
