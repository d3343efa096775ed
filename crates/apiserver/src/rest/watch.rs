//! Watching: what happens to a collection from a revision on, as a stream of lines.
//!
//! Invariant: events come in order of revision, each once. A watcher that falls out of the window gets 410 and its end.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gantry_apimachinery::{Map, Value, protobuf};
use tokio::sync::watch::Receiver;
use tokio::time::Instant;

use crate::negotiate::{Format, Shape};
use crate::query::ListOptions;
use crate::response;
use crate::rest::selection::Selection;
use crate::rest::{Answer, Call, present};
use crate::service::BoxError;
use crate::status::Failure;
use crate::store::{Event, EventKind, Object, watch_line};
use crate::table;

/// How many events are taken from the store at a time.
const BATCH: usize = 256;
/// Watches end after half an hour unless they ask otherwise; clients reconnect.
const DEFAULT_TIMEOUT_SECONDS: u64 = 1800;
/// How often a watcher that wants bookmarks learns the current revision.
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);

struct Watcher {
    call: Call,
    selection: Selection,
    /// Everything up to here has been sent.
    revision: u64,
    changes: Receiver<u64>,
    ready: VecDeque<Bytes>,
    deadline: Instant,
    next_bookmark: Option<Instant>,
    table_columns: table::Columns,
    done: bool,
}

pub(crate) fn watch(call: Call) -> Answer {
    let options = ListOptions::parse(&call.query, true)?;
    let mut selection_query = call.query.clone();
    if let Some(name) = &call.path.name {
        // An old form: watching one object by its path.
        let fields = call.query.get("fieldSelector").unwrap_or_default();
        let comma = if fields.is_empty() { "" } else { "," };
        selection_query =
            selection_query.with("fieldSelector", format!("{fields}{comma}metadata.name={name}"));
    }
    let selection = Selection::parse(&selection_query, &call.resource)?;
    let content_type = match call.accepted.format {
        Format::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
        _ => "application/json",
    };
    let timeout = Duration::from_secs(options.timeout_seconds.unwrap_or(DEFAULT_TIMEOUT_SECONDS));
    let now = Instant::now();
    let mut watcher = Watcher {
        changes: call.server.store.subscribe(&call.resource.collection),
        selection,
        revision: 0,
        ready: VecDeque::new(),
        deadline: now + timeout,
        next_bookmark: options.bookmarks.then_some(now + BOOKMARK_INTERVAL),
        table_columns: table::Columns::Shown,
        done: false,
        call,
    };
    watcher.start(&options);
    let stream = futures::stream::unfold(watcher, |mut watcher| async move {
        let piece = watcher.next().await?;
        Some((Ok::<Bytes, BoxError>(piece), watcher))
    });
    Ok(response::stream(content_type, stream))
}

impl Watcher {
    fn start(&mut self, options: &ListOptions) {
        let store = &self.call.server.store;
        let from_now = matches!(options.resource_version, None | Some(0));
        let send_initial = options.send_initial_events.unwrap_or(from_now);
        if let Some(version) = options.resource_version.filter(|version| *version > store.revision()) {
            // The client knows a future that this server has not seen; what comes up to it is not new to the client.
            self.revision = version;
            return;
        }
        if !send_initial {
            self.revision = options.resource_version.unwrap_or_else(|| store.revision());
            return;
        }
        let (listing, _) = store.list(
            &self.call.resource.collection,
            self.call.path.namespace.as_deref(),
            None,
            usize::MAX,
            |object| self.selection.matches(object),
        );
        self.revision = listing.revision;
        for object in &listing.objects {
            let line = self.line(EventKind::Added, object, None);
            self.ready.push_back(line);
        }
        if options.send_initial_events == Some(true) && options.bookmarks {
            let bookmark = self.bookmark(true);
            self.ready.push_back(bookmark);
        }
    }

    /// The next piece of the stream: all lines that are ready, or what comes; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if !self.ready.is_empty() {
                return Some(self.drain());
            }
            if self.done {
                return None;
            }
            self.collect();
            if !self.ready.is_empty() || self.done {
                continue;
            }
            let bookmark_at = self.next_bookmark.unwrap_or(self.deadline);
            tokio::select! {
                changed = self.changes.changed() => {
                    if changed.is_err() {
                        self.done = true;
                    }
                }
                () = tokio::time::sleep_until(self.deadline) => self.done = true,
                () = tokio::time::sleep_until(bookmark_at), if bookmark_at < self.deadline => {
                    self.next_bookmark = Some(Instant::now() + BOOKMARK_INTERVAL);
                    let bookmark = self.bookmark(false);
                    self.ready.push_back(bookmark);
                }
            }
        }
    }

    fn drain(&mut self) -> Bytes {
        if self.ready.len() == 1 {
            return self.ready.pop_front().unwrap_or_default();
        }
        let mut all = Vec::with_capacity(self.ready.iter().map(Bytes::len).sum());
        for line in self.ready.drain(..) {
            all.extend_from_slice(&line);
        }
        all.into()
    }

    fn collect(&mut self) {
        loop {
            // Seen before reading, so that what comes during the read wakes us again.
            self.changes.borrow_and_update();
            let result =
                self.call.server.store.events_after(&self.call.resource.collection, self.revision, BATCH);
            let (events, complete) = match result {
                Ok(read) => read,
                Err(expired) => {
                    let failure = Failure::expired(format!(
                        "too old resource version: {} ({})",
                        self.revision, expired.oldest
                    ));
                    self.ready.push_back(self.piece("ERROR", &response::to_json(&failure.to_value())));
                    self.done = true;
                    return;
                }
            };
            let full = events.len() == BATCH;
            for event in &events {
                self.revision = event.revision();
                if let Some(line) = self.event_line(event) {
                    self.ready.push_back(line);
                }
            }
            if !full {
                self.revision = self.revision.max(complete);
                return;
            }
            if !self.ready.is_empty() {
                return;
            }
        }
    }

    /// The line for an event as this watcher's selection sees it: an object that stops matching is deleted for it.
    fn event_line(&mut self, event: &Arc<Event>) -> Option<Bytes> {
        let namespace = self.call.path.namespace.as_deref();
        if namespace.is_some_and(|namespace| namespace != event.object.key.namespace) {
            return None;
        }
        if self.selection.is_everything() {
            return Some(self.line(event.kind, &event.object, Some(event)));
        }
        let matched = event.previous.as_ref().is_some_and(|previous| self.selection.matches(previous));
        let matches = event.kind != EventKind::Deleted && self.selection.matches(&event.object);
        match (matched, matches) {
            (false, true) => Some(self.line(EventKind::Added, &event.object, None)),
            (true, true) => Some(self.line(EventKind::Modified, &event.object, Some(event))),
            (true, false) if event.kind == EventKind::Deleted => {
                Some(self.line(EventKind::Deleted, &event.object, Some(event)))
            }
            (true, false) => {
                // What it was, under the revision at which it stopped matching.
                let mut value = event.previous.as_ref()?.value();
                *value.entry_at(&["metadata", "resourceVersion"]) = event.revision().to_string().into();
                let line = self.value_line(EventKind::Deleted, value, event.previous.as_ref()?);
                Some(line)
            }
            (false, false) => None,
        }
    }

    fn line(&mut self, kind: EventKind, object: &Object, event: Option<&Arc<Event>>) -> Bytes {
        let stored = self.call.resource.api_version() == self.call.resource.stored_version;
        let is_json = self.call.accepted.format != Format::Protobuf;
        if self.call.accepted.shape == Shape::Object && stored && is_json {
            return match event {
                Some(event) => event.line(),
                None => watch_line(kind.name(), &object.bytes),
            };
        }
        let json = match self.call.accepted.shape {
            Shape::Table => self.table_row(object),
            _ => present::shaped(&self.call, object),
        };
        self.piece(kind.name(), &json)
    }

    /// One event in the format of the stream.
    fn piece(&self, event: &str, json: &[u8]) -> Bytes {
        if self.call.accepted.format == Format::Protobuf {
            let value: Value = serde_json::from_slice(json).unwrap_or_default();
            if let Some(frame) = protobuf::watch_frame(event, &value) {
                return frame.into();
            }
        }
        watch_line(event, json)
    }

    fn value_line(&mut self, kind: EventKind, value: Value, object: &Object) -> Bytes {
        let json = match self.call.accepted.shape {
            Shape::Table => self.table_row(object),
            Shape::Metadata => response::to_json(&present::metadata_only(&value)).into(),
            Shape::Object => {
                response::to_json(&crate::convert::from_stored(&self.call.resource, value)).into()
            }
        };
        self.piece(kind.name(), &json)
    }

    /// Only the first table of a watch describes its columns.
    fn table_row(&mut self, object: &Object) -> Bytes {
        let columns = std::mem::replace(&mut self.table_columns, table::Columns::Hidden);
        let meta = table::ListMeta { revision: object.revision.to_string(), ..table::ListMeta::default() };
        table::render(&self.call, &[object], &meta, columns)
    }

    fn bookmark(&self, initial_events_end: bool) -> Bytes {
        let resource = &self.call.resource;
        let mut metadata = Map::new();
        metadata.insert("resourceVersion", self.revision.to_string());
        metadata.insert("creationTimestamp", Value::NULL);
        if initial_events_end {
            let mut annotations = Map::new();
            annotations.insert("k8s.io/initial-events-end", "true");
            metadata.insert("annotations", annotations);
        }
        let mut object = Map::new();
        let (kind, api_version) = match self.call.accepted.shape {
            Shape::Metadata => ("PartialObjectMetadata", "meta.k8s.io/v1".to_owned()),
            _ => (resource.kind.as_str(), resource.api_version()),
        };
        object.insert("kind", kind);
        object.insert("apiVersion", api_version);
        object.insert("metadata", metadata);
        self.piece("BOOKMARK", &response::to_json(&object.into()))
    }
}
