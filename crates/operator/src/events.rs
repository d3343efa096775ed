//! Kubernetes events about objects: what was done to them and why, as `kubectl describe` shows it.
//!
//! Recording never waits and never fails: events go through a bounded queue to one writer, which counts repeats
//! on the event already written and lets an object that says too much wait its turn.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use gantry_clock::Clock;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::core::ObjectMeta;
use kube::{Client, Resource};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::moment::time_from_ms;

/// Events that may wait to be written; more are dropped.
const QUEUED: usize = 1024;
/// Distinct events remembered for counting repeats.
const REMEMBERED: usize = 4096;
/// An object may say this much at once …
const BURST: f64 = 25.0;
/// … and then one more per this time.
const REFILL: Duration = Duration::from_secs(300);
/// Longest message the API accepts.
const MESSAGE_CHARS: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventType {
    Normal,
    Warning,
}

impl EventType {
    fn as_str(self) -> &'static str {
        match self {
            EventType::Normal => "Normal",
            EventType::Warning => "Warning",
        }
    }
}

/// Writes events in the name of one component. Cloning shares the queue.
#[derive(Clone)]
pub struct Recorder {
    component: Arc<str>,
    queue: mpsc::Sender<Note>,
}

#[derive(Clone, Debug)]
struct Note {
    component: Arc<str>,
    regarding: ObjectReference,
    kind: EventType,
    reason: String,
    message: String,
}

/// The receiving end, which writes.
pub(crate) struct EventWriter {
    client: Client,
    clock: Arc<dyn Clock>,
    notes: mpsc::Receiver<Note>,
    known: HashMap<Identity, Known>,
    budget: HashMap<String, Budget>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Identity {
    component: Arc<str>,
    uid: String,
    object: String,
    kind: EventType,
    reason: String,
    message: String,
}

struct Known {
    namespace: String,
    name: String,
    count: i32,
    last_used: u64,
}

struct Budget {
    left: f64,
    at: Duration,
}

// === impl Recorder ===

impl Recorder {
    /// Records that `reason` (one CamelCase word) happened to `object`.
    pub fn event<K>(&self, object: &K, kind: EventType, reason: &str, message: impl Into<String>)
    where
        K: Resource<DynamicType = ()>,
    {
        self.event_about(object.object_ref(&()), kind, reason, message);
    }

    /// Like [`event`](Recorder::event), for an object known by reference.
    pub fn event_about(
        &self,
        regarding: ObjectReference,
        kind: EventType,
        reason: &str,
        message: impl Into<String>,
    ) {
        let message: String = message.into();
        let message = match message.char_indices().nth(MESSAGE_CHARS) {
            Some((cut, _)) => message.get(..cut).unwrap_or_default().to_owned(),
            None => message,
        };
        let note =
            Note { component: self.component.clone(), regarding, kind, reason: reason.to_owned(), message };
        if let Err(error) = self.queue.try_send(note) {
            tracing::debug!(%error, "event dropped");
        }
    }

    /// The same queue under another component's name.
    pub fn named(&self, component: &str) -> Recorder {
        Recorder { component: component.into(), queue: self.queue.clone() }
    }
}

// === impl EventWriter ===

pub(crate) fn channel(client: Client, clock: Arc<dyn Clock>, component: &str) -> (Recorder, EventWriter) {
    let (queue, notes) = mpsc::channel(QUEUED);
    let recorder = Recorder { component: component.into(), queue };
    (recorder, EventWriter { client, clock, notes, known: HashMap::new(), budget: HashMap::new() })
}

/// An event writer that can be taken once to be run.
pub(crate) type WriterSlot = Mutex<Option<EventWriter>>;

impl EventWriter {
    /// Writes until `cancel`, then what is still queued.
    pub(crate) async fn run(mut self, cancel: CancellationToken) {
        let mut used = 0u64;
        loop {
            let note = tokio::select! {
                biased;
                note = self.notes.recv() => note,
                () = cancel.cancelled() => return,
            };
            let Some(note) = note else { return };
            used += 1;
            let about = format!(
                "{}/{}",
                note.regarding.kind.as_deref().unwrap_or(""),
                note.regarding.name.as_deref().unwrap_or("")
            );
            if let Err(error) = self.write(note, used).await {
                tracing::debug!(about, %error, "event was not written");
            }
        }
    }

    async fn write(&mut self, note: Note, used: u64) -> Result<(), kube::Error> {
        let now = time_from_ms(self.clock.now_ms());
        if !self.may_say(&note) {
            return Ok(());
        }
        let identity = Identity {
            component: note.component.clone(),
            uid: note.regarding.uid.clone().unwrap_or_default(),
            object: format!(
                "{:?}/{:?}/{:?}",
                note.regarding.kind, note.regarding.namespace, note.regarding.name
            ),
            kind: note.kind,
            reason: note.reason.clone(),
            message: note.message.clone(),
        };
        if let Some(known) = self.known.get_mut(&identity) {
            let patch = serde_json::json!({ "count": known.count.saturating_add(1), "lastTimestamp": now });
            let api: Api<Event> = Api::namespaced(self.client.clone(), &known.namespace);
            match api.patch(&known.name, &PatchParams::default(), &Patch::Merge(&patch)).await {
                Ok(_) => {
                    known.count = known.count.saturating_add(1);
                    known.last_used = used;
                    return Ok(());
                }
                // It was deleted meanwhile: write it anew.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(error),
            }
        }
        let namespace = note.regarding.namespace.clone().filter(|namespace| !namespace.is_empty());
        let namespace = namespace.unwrap_or_else(|| "default".to_owned());
        let object_name = note.regarding.name.clone().unwrap_or_default();
        let name = format!("{object_name}.{:x}{used:04x}", self.clock.now_ms().unsigned_abs());
        let event = Event {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(namespace.clone()),
                ..ObjectMeta::default()
            },
            count: Some(1),
            first_timestamp: Some(now.clone()),
            last_timestamp: Some(now),
            involved_object: note.regarding,
            message: Some(note.message),
            reason: Some(note.reason),
            reporting_component: Some(note.component.to_string()),
            reporting_instance: Some(String::new()),
            source: Some(EventSource { component: Some(note.component.to_string()), host: None }),
            type_: Some(note.kind.as_str().to_owned()),
            ..Event::default()
        };
        let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        api.create(&PostParams::default(), &event).await?;
        self.known.insert(identity, Known { namespace, name, count: 1, last_used: used });
        self.forget_oldest();
        Ok(())
    }

    fn may_say(&mut self, note: &Note) -> bool {
        let now = self.clock.monotonic();
        if self.budget.len() > REMEMBERED {
            self.budget.retain(|_, budget| now.saturating_sub(budget.at) < REFILL);
        }
        let object = format!("{}|{:?}|{:?}", note.component, note.regarding.uid, note.regarding.name);
        let budget = self.budget.entry(object).or_insert(Budget { left: BURST, at: now });
        let refilled = now.saturating_sub(budget.at).as_secs_f64() / REFILL.as_secs_f64();
        budget.left = (budget.left + refilled).min(BURST);
        budget.at = now;
        if budget.left < 1.0 {
            return false;
        }
        budget.left -= 1.0;
        true
    }

    fn forget_oldest(&mut self) {
        if self.known.len() <= REMEMBERED {
            return;
        }
        let mut ages: Vec<u64> = self.known.values().map(|known| known.last_used).collect();
        ages.sort_unstable();
        let cut = ages.get(REMEMBERED / 4).copied().unwrap_or(0);
        self.known.retain(|_, known| known.last_used > cut);
    }
}
