//! What happened to one collection lately: a bounded window of events that watches read from any revision in it.
//!
//! Invariant: events are in order of revision, and none with a revision above `compacted` is missing. Watchers hold a
//! cursor, not a queue, so a slow one costs nothing; one that falls out of the window is told so.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use tokio::sync::watch;

use super::object::Object;

/// The window ends at whichever bound is reached first.
const MAX_EVENTS: usize = 10_000;
const MAX_BYTES: usize = 8 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    Added,
    Modified,
    Deleted,
}

/// A change to an object. For a deletion, `object` is the last state under the revision of the deletion.
pub struct Event {
    pub kind: EventKind,
    pub object: Arc<Object>,
    pub previous: Option<Arc<Object>>,
    /// The line every watcher of the stored version gets, made once.
    line: OnceLock<Bytes>,
}

pub(crate) struct Feed {
    events: VecDeque<Arc<Event>>,
    bytes: usize,
    compacted: u64,
    latest: watch::Sender<u64>,
}

/// The asked-for revision is older than the window.
#[derive(Debug, PartialEq, Eq)]
pub struct Expired {
    pub oldest: u64,
}

impl Event {
    pub(crate) fn new(kind: EventKind, object: Arc<Object>, previous: Option<Arc<Object>>) -> Event {
        Event { kind, object, previous, line: OnceLock::new() }
    }

    pub fn revision(&self) -> u64 {
        self.object.revision
    }

    /// The event as a line of a watch, with the object as it is stored.
    pub fn line(&self) -> Bytes {
        self.line.get_or_init(|| watch_line(self.kind.name(), &self.object.bytes)).clone()
    }
}

impl EventKind {
    pub fn name(self) -> &'static str {
        match self {
            EventKind::Added => "ADDED",
            EventKind::Modified => "MODIFIED",
            EventKind::Deleted => "DELETED",
        }
    }
}

/// `{"type":…,"object":…}` and a line feed.
pub fn watch_line(kind: &str, object: &[u8]) -> Bytes {
    let mut line = Vec::with_capacity(object.len() + 32 + kind.len());
    line.extend_from_slice(b"{\"type\":\"");
    line.extend_from_slice(kind.as_bytes());
    line.extend_from_slice(b"\",\"object\":");
    line.extend_from_slice(object);
    line.extend_from_slice(b"}\n");
    line.into()
}

impl Feed {
    /// A feed that knows nothing of what happened up to `compacted`.
    pub(crate) fn new(compacted: u64) -> Feed {
        Feed { events: VecDeque::new(), bytes: 0, compacted, latest: watch::Sender::new(compacted) }
    }

    pub(crate) fn push(&mut self, event: Event) {
        self.bytes += event.object.bytes.len();
        self.events.push_back(Arc::new(event));
        while self.events.len() > MAX_EVENTS || (self.bytes > MAX_BYTES && self.events.len() > 1) {
            let Some(oldest) = self.events.pop_front() else { break };
            self.bytes -= oldest.object.bytes.len();
            self.compacted = oldest.revision();
        }
    }

    pub(crate) fn wake(&self, revision: u64) {
        self.latest.send_replace(revision);
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.latest.subscribe()
    }

    /// Up to `limit` events after `revision`.
    pub(crate) fn after(&self, revision: u64, limit: usize) -> Result<Vec<Arc<Event>>, Expired> {
        if revision < self.compacted {
            return Err(Expired { oldest: self.compacted });
        }
        let start = self.events.partition_point(|event| event.revision() <= revision);
        Ok(self.events.iter().skip(start).take(limit).cloned().collect())
    }

    /// Events after `revision`, newest first.
    pub(crate) fn back_to(&self, revision: u64) -> Result<impl Iterator<Item = &Arc<Event>>, Expired> {
        if revision < self.compacted {
            return Err(Expired { oldest: self.compacted });
        }
        Ok(self.events.iter().rev().take_while(move |event| event.revision() > revision))
    }
}
