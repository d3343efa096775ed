//! The list-and-watch loop that keeps a store equal to the server.
//!
//! A 410 lists again; any other failure pauses with growing back-off and continues. Nothing ends the loop but
//! its cancellation. One object that cannot be decoded is skipped, counted and logged, and hides no other.
//!
//! The loop knows texts and a [`Sink`]: it is compiled once, and for each kind only what decodes and stores.

use std::time::Duration;

use futures::StreamExt;
use gantry_clock::{Backoff, BackoffConfig};
use http_body_util::BodyExt;
use kube::Client;
use kube::api::{ApiResource, ListParams, Request, WatchParams};
use kube::client::Body;
use kube::core::ObjectMeta;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

use super::store::Store;
use super::{InformerSettings, Object};
use crate::key::Key;

/// A single watch event may not be larger than this; API servers refuse objects of a tenth of it.
const MAX_EVENT_BYTES: usize = 32 << 20;

pub(super) struct Reflector {
    pub(super) client: Client,
    pub(super) settings: InformerSettings,
    pub(super) resource: ApiResource,
    pub(super) url: String,
    /// Only metadata is asked for.
    pub(super) metadata_only: bool,
    pub(super) sink: Box<dyn Sink>,
}

/// Where the loop puts what it hears.
pub(super) trait Sink: Send + Sync {
    /// For a fresh list.
    fn begin(&self) -> Box<dyn Listing>;
    /// Takes a new or modified object; gives its resourceVersion.
    fn apply(&self, object: &RawValue) -> Option<String>;
    /// Takes the last state of an object that is gone; gives its resourceVersion.
    fn remove(&self, object: &RawValue) -> Option<String>;
    /// Notes a sign of life from the server and the resourceVersion it carried.
    fn note_seen(&self, resource_version: &str);
}

/// What was listed so far.
pub(super) trait Listing: Send {
    fn add(&mut self, object: &RawValue);
    /// Puts the list in place of what there was.
    fn replace(self: Box<Self>, resource_version: &str);
}

/// Decodes into a store.
pub(super) struct Decoded<K: Object> {
    pub(super) store: Store<K>,
    pub(super) kind: String,
}

struct Objects<K: Object> {
    into: Decoded<K>,
    objects: Vec<K>,
}

#[derive(Debug, thiserror::Error)]
enum ReflectError {
    #[error("the resourceVersion is too old to continue the watch")]
    Expired,
    #[error("the server answered {code} {reason}: {message}")]
    Status { code: u16, reason: String, message: String },
    #[error("request failed: {0}")]
    Client(#[from] kube::Error),
    #[error("request could not be built: {0}")]
    Request(#[from] kube::core::request::Error),
    #[error("answer is not a list: {0}")]
    Decode(#[from] serde_json::Error),
    #[error("connection broke: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    #[error("nothing was heard for {0:?}")]
    Idle(Duration),
    #[error("an event is larger than {MAX_EVENT_BYTES} bytes")]
    TooLarge,
}

#[derive(Deserialize)]
struct RawList<'a> {
    #[serde(default)]
    metadata: RawListMeta,
    // A list without elements may carry null.
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct RawListMeta {
    #[serde(default)]
    resource_version: String,
    #[serde(default, rename = "continue")]
    continue_token: Option<String>,
}

#[derive(Deserialize)]
struct RawEvent<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize)]
struct MetaOnly {
    #[serde(default)]
    metadata: ObjectMeta,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawStatus {
    code: u16,
    reason: String,
    message: String,
}

// === impl Decoded ===

impl<K: Object> Decoded<K> {
    fn decode(&self, raw: &RawValue) -> Option<K> {
        match serde_json::from_str::<K>(raw.get()) {
            Ok(mut object) => {
                object.meta_mut().managed_fields = None;
                Some(object)
            }
            Err(error) => {
                self.store.count_decode_error();
                skipped(&self.kind, raw, &error);
                None
            }
        }
    }
}

impl<K: Object> Sink for Decoded<K> {
    fn begin(&self) -> Box<dyn Listing> {
        let into = Decoded { store: self.store.clone(), kind: self.kind.clone() };
        Box::new(Objects { into, objects: Vec::new() })
    }

    fn apply(&self, raw: &RawValue) -> Option<String> {
        match self.decode(raw) {
            Some(object) => {
                let newest = object.meta().resource_version.clone();
                self.store.apply(object);
                newest
            }
            None => meta_of(raw).resource_version,
        }
    }

    fn remove(&self, raw: &RawValue) -> Option<String> {
        let meta = meta_of(raw);
        let key = Key::new(meta.namespace.as_deref().unwrap_or(""), meta.name.as_deref().unwrap_or(""));
        self.store.remove(&key, self.decode(raw));
        meta.resource_version
    }

    fn note_seen(&self, resource_version: &str) {
        self.store.note_seen(resource_version);
    }
}

impl<K: Object> Listing for Objects<K> {
    fn add(&mut self, raw: &RawValue) {
        self.objects.extend(self.into.decode(raw));
    }

    fn replace(self: Box<Self>, resource_version: &str) {
        self.into.store.replace(self.objects, resource_version);
    }
}

// === impl Reflector ===

impl Reflector {
    /// Runs until one of the two is cancelled.
    pub(super) fn start(self, cancel: CancellationToken, stop: CancellationToken) {
        tokio::spawn(async move {
            tokio::select! {
                () = cancel.cancelled() => {}
                () = stop.cancelled() => {}
                () = self.run() => {}
            }
        });
    }

    async fn run(self) {
        let (initial, max) = self.settings.backoff;
        let config = BackoffConfig { initial, max, ..BackoffConfig::default() };
        // The kind's name is the seed: kinds that fail together do not come back together.
        let seed =
            self.resource.kind.bytes().fold(0u64, |seed, byte| seed.wrapping_mul(31) + u64::from(byte));
        let mut backoff = Backoff::new(config, seed);
        let mut resource_version: Option<String> = None;
        loop {
            let outcome = match &mut resource_version {
                None => self.list().await.map(|version| resource_version = Some(version)),
                Some(version) => self.watch(version, &mut backoff).await,
            };
            match outcome {
                Ok(()) => {
                    if resource_version.is_some() {
                        continue;
                    }
                }
                Err(ReflectError::Expired) => {
                    tracing::debug!(kind = %self.resource.kind, "watch expired, listing again");
                    resource_version = None;
                }
                Err(error) => {
                    tracing::warn!(kind = %self.resource.kind, %error, attempts = backoff.attempts(), "watch interrupted");
                }
            }
            tokio::time::sleep(backoff.next_delay()).await;
        }
    }

    /// Lists everything, page by page, into the store and returns where to watch from.
    async fn list(&self) -> Result<String, ReflectError> {
        let mut listing = self.sink.begin();
        let mut params = ListParams::default();
        if self.settings.page_size > 0 {
            params = params.limit(self.settings.page_size);
        }
        loop {
            let request = Request::new(self.url.clone());
            let request =
                if self.metadata_only { request.list_metadata(&params)? } else { request.list(&params)? };
            let text = self.fetch(request).await?;
            let list: RawList<'_> = serde_json::from_slice(&text)?;
            for raw in list.items.unwrap_or_default() {
                listing.add(raw);
            }
            match list.metadata.continue_token.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => {
                    listing.replace(&list.metadata.resource_version);
                    return Ok(list.metadata.resource_version);
                }
            }
        }
    }

    /// Follows changes until the server ends the watch; `version` moves along.
    async fn watch(&self, version: &mut String, backoff: &mut Backoff) -> Result<(), ReflectError> {
        let seconds = u32::try_from(self.settings.watch_timeout.as_secs()).unwrap_or(290).clamp(1, 294);
        let params = WatchParams::default().timeout(seconds);
        let request = Request::new(self.url.clone());
        let request = if self.metadata_only {
            request.watch_metadata(&params, version)?
        } else {
            request.watch(&params, version)?
        };
        let mut body = self.send(request).await?.into_data_stream();
        let mut pending: Vec<u8> = Vec::new();
        loop {
            let next = tokio::time::timeout(self.settings.idle_timeout, body.next()).await;
            let Some(chunk) = next.map_err(|_| ReflectError::Idle(self.settings.idle_timeout))? else {
                return Ok(());
            };
            let chunk = chunk.map_err(|error| ReflectError::Body(error.into()))?;
            let mut rest: &[u8] = &chunk;
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let (line, after) = rest.split_at(end);
                rest = after.get(1..).unwrap_or_default();
                if pending.is_empty() {
                    self.event(line, version)?;
                } else {
                    pending.extend_from_slice(line);
                    self.event(&pending, version)?;
                    pending.clear();
                }
                backoff.reset();
            }
            if pending.len() + rest.len() > MAX_EVENT_BYTES {
                return Err(ReflectError::TooLarge);
            }
            pending.extend_from_slice(rest);
        }
    }

    fn event(&self, line: &[u8], version: &mut String) -> Result<(), ReflectError> {
        if line.iter().all(u8::is_ascii_whitespace) {
            return Ok(());
        }
        let event: RawEvent<'_> = serde_json::from_slice(line)?;
        match event.kind {
            "ADDED" | "MODIFIED" => {
                advance(version, self.sink.apply(event.object));
            }
            "DELETED" => advance(version, self.sink.remove(event.object)),
            "BOOKMARK" => {
                let newest = meta_of(event.object).resource_version;
                self.sink.note_seen(newest.as_deref().unwrap_or(""));
                advance(version, newest);
            }
            "ERROR" => {
                let status: RawStatus = serde_json::from_str(event.object.get()).unwrap_or_default();
                return Err(failure(status));
            }
            other => {
                tracing::debug!(kind = %self.resource.kind, event = other, "unknown watch event skipped")
            }
        }
        Ok(())
    }

    async fn fetch(&self, request: http::Request<Vec<u8>>) -> Result<bytes::Bytes, ReflectError> {
        let body = self.send(request).await?;
        let whole = body.collect().await.map_err(|error| ReflectError::Body(error.into()))?;
        self.sink.note_seen("");
        Ok(whole.to_bytes())
    }

    async fn send(&self, request: http::Request<Vec<u8>>) -> Result<Body, ReflectError> {
        let response = self.client.send(request.map(Body::from)).await?;
        let code = response.status();
        if code.is_success() {
            return Ok(response.into_body());
        }
        let whole = response.into_body().collect().await.map_err(|error| ReflectError::Body(error.into()))?;
        let mut status: RawStatus = serde_json::from_slice(&whole.to_bytes()).unwrap_or_default();
        status.code = code.as_u16();
        Err(failure(status))
    }
}

fn failure(status: RawStatus) -> ReflectError {
    if status.code == 410 || status.reason == "Expired" || status.reason == "Gone" {
        ReflectError::Expired
    } else {
        ReflectError::Status { code: status.code, reason: status.reason, message: status.message }
    }
}

fn skipped(kind: &str, raw: &RawValue, error: &serde_json::Error) {
    let meta = meta_of(raw);
    let (namespace, name) = (meta.namespace.unwrap_or_default(), meta.name.unwrap_or_default());
    tracing::warn!(kind, namespace, name, %error, "object skipped: it cannot be decoded");
}

fn meta_of(raw: &RawValue) -> ObjectMeta {
    serde_json::from_str::<MetaOnly>(raw.get()).map(|object| object.metadata).unwrap_or_default()
}

fn advance(version: &mut String, newest: Option<String>) {
    if let Some(newest) = newest.filter(|newest| !newest.is_empty()) {
        *version = newest;
    }
}
