//! A Prometheus, ours or theirs, as a store: over its remote-read API, in streamed chunks.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use gantry_prom_model::{Labels, MatchOp, Matcher};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use parking_lot::RwLock;
use prost::Message;
use serde::Deserialize;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::storeapi::messages::{Label, LabelMatcher};
use crate::storeapi::translate::labels_from_wire;
use crate::storeapi::{
    AggrChunk, LabelsAnswer, LabelsQuery, Ready, SeriesQuery, SeriesStream, StoreApi, StoreError, StoreInfo,
    StoreSeries, matchers_within, relabel,
};

#[derive(Clone, PartialEq, Message)]
struct ReadRequest {
    #[prost(message, repeated, tag = "1")]
    queries: Vec<Query>,
    #[prost(int32, repeated, tag = "2")]
    accepted: Vec<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct Query {
    #[prost(int64, tag = "1")]
    start_ms: i64,
    #[prost(int64, tag = "2")]
    end_ms: i64,
    #[prost(message, repeated, tag = "3")]
    matchers: Vec<LabelMatcher>,
}

#[derive(Clone, PartialEq, Message)]
struct ChunkedAnswer {
    #[prost(message, repeated, tag = "1")]
    series: Vec<ChunkedSeries>,
    #[prost(int64, tag = "2")]
    query_index: i64,
}

#[derive(Clone, PartialEq, Message)]
struct ChunkedSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    chunks: Vec<ReadChunk>,
}

#[derive(Clone, PartialEq, Message)]
struct ReadChunk {
    #[prost(int64, tag = "1")]
    min_ms: i64,
    #[prost(int64, tag = "2")]
    max_ms: i64,
    /// As blocks name encodings.
    #[prost(int32, tag = "3")]
    encoding: i32,
    #[prost(bytes = "bytes", tag = "4")]
    data: Bytes,
}

/// The answer type that sends chunks as they are.
const STREAMED_CHUNKS: i32 = 1;
/// A frame larger than this is not read.
const MAX_FRAME_BYTES: u64 = 64 << 20;
/// An answer of JSON larger than this is not read.
const MAX_JSON_BYTES: usize = 64 << 20;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

#[derive(Deserialize)]
struct ListAnswer {
    #[serde(default)]
    data: Vec<String>,
    #[serde(default)]
    error: String,
}

type HttpClient = Client<HttpConnector, Full<Bytes>>;

/// A Prometheus over HTTP. What it has is asked by [`poll`](Self::poll).
#[derive(Debug)]
pub struct RemoteRead {
    /// `http://host:port`, and perhaps a path.
    url: String,
    client: HttpClient,
    runtime: Handle,
    min_time_ms: i64,
    external: RwLock<Option<Labels>>,
}

impl RemoteRead {
    /// The server at `url`; samples before `min_time_ms` are not asked for.
    ///
    /// # Errors
    /// When the URL is not one of HTTP.
    pub fn new(url: &str, runtime: Handle, min_time_ms: i64) -> Result<Arc<RemoteRead>, String> {
        let url = url.trim_end_matches('/').to_owned();
        let parsed: http::Uri = url.parse().map_err(|error| format!("URL {url:?}: {error}"))?;
        if parsed.scheme_str() != Some("http") || parsed.host().is_none() {
            return Err(format!("URL {url:?}: http://host:port is expected"));
        }
        let client = Client::builder(TokioExecutor::new()).build_http();
        Ok(Arc::new(RemoteRead { url, client, runtime, min_time_ms, external: RwLock::default() }))
    }

    fn failed(&self, reason: impl Into<String>) -> StoreError {
        StoreError::Unavailable { store: self.url.clone(), reason: reason.into() }
    }

    async fn get(client: HttpClient, url: String) -> Result<Bytes, String> {
        let request =
            http::Request::get(&url).body(Full::new(Bytes::new())).map_err(|error| error.to_string())?;
        let ask = async {
            let response = client.request(request).await.map_err(|error| error.to_string())?;
            let status = response.status();
            let body = http_body_util::Limited::new(response.into_body(), MAX_JSON_BYTES);
            let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
            // An error is told in the body as well.
            if status.is_server_error() { Err(format!("status {status}")) } else { Ok(body) }
        };
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, ask).await;
        answer.unwrap_or_else(|_| Err(format!("no answer within {ANSWER_TIMEOUT:?}")))
    }

    /// Reads the server's external labels.
    ///
    /// # Errors
    /// When it does not answer, or has none.
    pub async fn poll(&self) -> Result<Labels, String> {
        #[derive(Deserialize)]
        struct Answer {
            data: ConfigText,
        }
        #[derive(Deserialize)]
        struct ConfigText {
            yaml: String,
        }
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Config {
            global: Global,
        }
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Global {
            external_labels: std::collections::BTreeMap<String, String>,
        }
        let body = RemoteRead::get(self.client.clone(), format!("{}/api/v1/status/config", self.url)).await?;
        let answer: Answer = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
        let config: Config =
            gantry_yaml::from_str("status/config", &answer.data.yaml).map_err(|error| error.to_string())?;
        let external = Labels::from_pairs(&config.global.external_labels);
        if external.is_empty() {
            return Err(format!("{} has no external labels; set global.external_labels", self.url));
        }
        *self.external.write() = Some(external.clone());
        Ok(external)
    }

    fn external(&self) -> Result<Labels, StoreError> {
        self.external.read().clone().ok_or_else(|| self.failed("its external labels are not known yet"))
    }

    /// A list from the JSON API; waits here while the runtime asks.
    fn list(&self, path: &str, query: &LabelsQuery, matchers: &[Matcher]) -> Result<Vec<String>, StoreError> {
        let mut url = format!(
            "{}/api/v1/{path}?start={}&end={}",
            self.url,
            seconds(query.min_ms.max(self.min_time_ms)),
            seconds(query.max_ms)
        );
        if !matchers.is_empty() {
            let texts: Vec<String> = matchers.iter().map(ToString::to_string).collect();
            url.push_str(&format!("&match[]={}", escape(&format!("{{{}}}", texts.join(",")))));
        }
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        let client = self.client.clone();
        self.runtime.spawn(async move {
            let _ = sender.send(RemoteRead::get(client, url).await);
        });
        let body = receiver
            .recv()
            .unwrap_or_else(|_| Err("the program is ending".into()))
            .map_err(|reason| self.failed(reason))?;
        let answer: ListAnswer =
            serde_json::from_slice(&body).map_err(|error| self.failed(error.to_string()))?;
        if answer.error.is_empty() { Ok(answer.data) } else { Err(self.failed(answer.error)) }
    }
}

/// Prometheus takes seconds; far times are as good as the ends of what it has.
fn seconds(ms: i64) -> f64 {
    ms.clamp(-9_000_000_000_000, 9_000_000_000_000) as f64 / 1000.0
}

fn escape(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Takes the next whole frame off `buffer`: length, checksum, message.
fn frame(buffer: &mut BytesMut) -> Result<Option<Bytes>, String> {
    let mut len = 0u64;
    let mut at = 0;
    loop {
        let Some(byte) = buffer.get(at) else { return Ok(None) };
        len |= u64::from(byte & 0x7f) << (7 * at).min(63);
        at += 1;
        if *byte < 0x80 {
            break;
        }
        if at > 5 {
            return Err("a frame has an impossible length".into());
        }
    }
    if len > MAX_FRAME_BYTES {
        return Err(format!("a frame of {len} bytes is larger than {MAX_FRAME_BYTES}"));
    }
    let total = at + 4 + len as usize;
    if buffer.len() < total {
        return Ok(None);
    }
    let mut whole = buffer.split_to(total).freeze();
    whole.advance(at);
    let sum = whole.get_u32();
    if crc32c::crc32c(&whole) != sum {
        return Err("the checksum of a frame does not fit".into());
    }
    Ok(Some(whole))
}

async fn read(
    client: HttpClient,
    url: String,
    body: Vec<u8>,
    sender: &mpsc::Sender<Result<ChunkedSeries, String>>,
) -> Result<(), String> {
    let request = http::Request::post(format!("{url}/api/v1/read"))
        .header("Content-Type", "application/x-protobuf")
        .header("Content-Encoding", "snappy")
        .header("X-Prometheus-Remote-Read-Version", "0.1.0")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| error.to_string())?;
    let answer = tokio::time::timeout(ANSWER_TIMEOUT, client.request(request)).await;
    let response = answer.map_err(|_| format!("no answer within {ANSWER_TIMEOUT:?}"))?;
    let response = response.map_err(|error| error.to_string())?;
    let status = response.status();
    let kind =
        response.headers().get("Content-Type").and_then(|kind| kind.to_str().ok()).unwrap_or("").to_owned();
    let mut body = response.into_body();
    if !status.is_success() {
        let text = http_body_util::Limited::new(body, 4096).collect().await;
        let text = text.map(|text| text.to_bytes()).unwrap_or_default();
        return Err(format!("status {status}: {}", String::from_utf8_lossy(&text).trim()));
    }
    if !kind.starts_with("application/x-streamed-protobuf") {
        return Err(format!("it does not stream chunks, but sends {kind:?}"));
    }
    let mut buffer = BytesMut::new();
    while let Some(part) = tokio::time::timeout(ANSWER_TIMEOUT, body.frame())
        .await
        .map_err(|_| format!("no data within {ANSWER_TIMEOUT:?}"))?
    {
        let part = part.map_err(|error| error.to_string())?;
        if let Some(data) = part.data_ref() {
            buffer.extend_from_slice(data);
        }
        while let Some(message) = frame(&mut buffer)? {
            let answer = ChunkedAnswer::decode(message).map_err(|error| error.to_string())?;
            for series in answer.series {
                if sender.send(Ok(series)).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
    if buffer.is_empty() { Ok(()) } else { Err("the answer ends within a frame".into()) }
}

impl StoreApi for RemoteRead {
    fn name(&self) -> String {
        self.url.clone()
    }

    fn info(&self) -> Option<StoreInfo> {
        let external = self.external.read().clone()?;
        Some(StoreInfo {
            component: "sidecar".into(),
            label_sets: vec![external],
            min_ms: self.min_time_ms,
            max_ms: i64::MAX,
            supports_without: true,
        })
    }

    fn series(&self, query: &SeriesQuery) -> Result<Box<dyn SeriesStream>, StoreError> {
        let external = self.external()?;
        let Some(rest) = matchers_within(&query.matchers, &external) else {
            return Ok(crate::proxy::merge(Vec::new(), 0));
        };
        if rest.is_empty() {
            return Err(StoreError::Invalid("no matchers specified (excluding external labels)".into()));
        }
        let kind = |op| match op {
            MatchOp::Equal => 0,
            MatchOp::NotEqual => 1,
            MatchOp::Regex => 2,
            MatchOp::NotRegex => 3,
        };
        let matchers = rest.iter().map(|matcher| LabelMatcher {
            kind: kind(matcher.op),
            name: matcher.name.to_string(),
            value: matcher.value.to_string(),
        });
        let request = ReadRequest {
            queries: vec![Query {
                start_ms: query.min_ms.max(self.min_time_ms),
                end_ms: query.max_ms,
                matchers: matchers.collect(),
            }],
            accepted: vec![STREAMED_CHUNKS],
        };
        let body = snap::raw::Encoder::new()
            .compress_vec(&request.encode_to_vec())
            .map_err(|error| self.failed(error.to_string()))?;
        let (sender, mut receiver) = mpsc::channel(64);
        let (client, url) = (self.client.clone(), self.url.clone());
        self.runtime.spawn(async move {
            if let Err(reason) = read(client, url, body, &sender).await {
                let _ = sender.send(Err(reason)).await;
            }
        });
        let mut all: Vec<StoreSeries> = Vec::new();
        while let Some(series) = receiver.blocking_recv() {
            let series = series.map_err(|reason| self.failed(reason))?;
            let labels = relabel(&labels_from_wire(&series.labels), &external, &query.without);
            let chunks = if query.skip_chunks { Vec::new() } else { series.chunks };
            let chunks = chunks.into_iter().map(|chunk| {
                let encoding = u8::try_from(chunk.encoding).unwrap_or(0);
                AggrChunk::raw(chunk.min_ms, chunk.max_ms, encoding, chunk.data)
            });
            match all.last_mut() {
                // A long series comes in several frames.
                Some(last) if last.labels == labels => last.chunks.extend(chunks),
                _ => all.push(StoreSeries { labels, chunks: chunks.collect() }),
            }
        }
        all.retain(|series| query.shard.as_ref().is_none_or(|shard| shard.holds(&series.labels)));
        all.sort_by(|left, right| left.labels.cmp(&right.labels));
        if query.limit > 0 {
            all.truncate(query.limit);
        }
        Ok(Box::new(Ready { series: all.into_iter() }))
    }

    fn label_names(&self, query: &LabelsQuery) -> Result<LabelsAnswer, StoreError> {
        let external = self.external()?;
        let Some(rest) = matchers_within(&query.matchers, &external) else {
            return Ok(LabelsAnswer::default());
        };
        let mut values = self.list("labels", query, &rest)?;
        if !values.is_empty() {
            values.extend(external.iter().map(|(name, _)| name.to_owned()));
        }
        values.retain(|name| !query.without.contains(name));
        values.sort_unstable();
        values.dedup();
        if query.limit > 0 {
            values.truncate(query.limit);
        }
        Ok(LabelsAnswer { values, warnings: Vec::new() })
    }

    fn label_values(&self, name: &str, query: &LabelsQuery) -> Result<LabelsAnswer, StoreError> {
        let external = self.external()?;
        let Some(rest) = matchers_within(&query.matchers, &external) else {
            return Ok(LabelsAnswer::default());
        };
        if query.without.iter().any(|label| label == name) {
            return Ok(LabelsAnswer::default());
        }
        let mut values = match external.get(name) {
            Some(value) if rest.is_empty() || !self.list("labels", query, &rest)?.is_empty() => {
                vec![value.to_owned()]
            }
            Some(_) => Vec::new(),
            None => self.list(&format!("label/{}/values", escape(name)), query, &rest)?,
        };
        if query.limit > 0 {
            values.truncate(query.limit);
        }
        Ok(LabelsAnswer { values, warnings: Vec::new() })
    }
}
