//! Events as they are told: each written once, in order, under whatever type its author chose.
//!
//! [`Recorder`](crate::Recorder) counts repeats and bounds what one object may say; this does neither.

use std::sync::Arc;
use std::time::Duration;

use gantry_clock::Clock;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use kube::Client;
use kube::api::{Api, PostParams};
use kube::core::ObjectMeta;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::moment::{micro_time_from_ms, time_from_ms};

/// Events that may wait to be written; more are dropped.
const QUEUED: usize = 1024;
/// Longest message the API accepts, and what stands for what is cut out of its middle.
const MESSAGE_CHARS: usize = 1024;
const CUT: &str = "...";
/// Pauses between tries to write an event.
const PAUSES_MS: [u64; 5] = [1000, 1000, 2000, 3000, 5000];

/// One event.
#[derive(Clone, Debug)]
pub struct PlainEvent {
    pub regarding: ObjectReference,
    /// `Normal`, `Warning`, or any other word.
    pub kind: String,
    pub reason: String,
    pub message: String,
    /// What the event's own name begins with.
    pub name_prefix: String,
    pub component: String,
    pub instance: String,
}

/// Takes events to be written. Cloning shares the queue.
#[derive(Clone)]
pub struct EventPoster {
    queue: mpsc::Sender<PlainEvent>,
}

impl EventPoster {
    /// Begins to write events, until `cancel` and until what is queued then is written. Objects without namespace
    /// have their events in `default_namespace`.
    pub fn start(
        client: Client,
        clock: Arc<dyn Clock>,
        default_namespace: &str,
        cancel: CancellationToken,
    ) -> (EventPoster, tokio::task::JoinHandle<()>) {
        let (queue, mut events) = mpsc::channel::<PlainEvent>(QUEUED);
        let default_namespace = default_namespace.to_owned();
        let writing = tokio::spawn(async move {
            loop {
                let event = tokio::select! {
                    biased;
                    event = events.recv() => event,
                    () = cancel.cancelled() => None,
                };
                let Some(event) = event else { return };
                write(&client, &*clock, &default_namespace, event, &cancel).await;
            }
        });
        (EventPoster { queue }, writing)
    }

    /// Puts an event into the queue; it is dropped when the queue is full.
    pub fn post(&self, event: PlainEvent) {
        // Events about events would never end.
        if event.regarding.kind.as_deref() == Some("Event") {
            return;
        }
        if let Err(error) = self.queue.try_send(event) {
            tracing::warn!(%error, "an event was dropped");
        }
    }
}

async fn write(
    client: &Client,
    clock: &dyn Clock,
    default_namespace: &str,
    told: PlainEvent,
    cancel: &CancellationToken,
) {
    let namespace = told.regarding.namespace.clone().filter(|namespace| !namespace.is_empty());
    let namespace = namespace.unwrap_or_else(|| default_namespace.to_owned());
    let now_ms = clock.now_ms();
    let event = Event {
        metadata: ObjectMeta {
            generate_name: Some(told.name_prefix),
            namespace: Some(namespace.clone()),
            ..ObjectMeta::default()
        },
        action: Some("Action?".to_owned()),
        involved_object: ObjectReference { namespace: Some(namespace.clone()), ..told.regarding },
        type_: Some(told.kind),
        reason: Some(told.reason),
        message: Some(shortened(&told.message)),
        first_timestamp: Some(time_from_ms(now_ms)),
        last_timestamp: Some(time_from_ms(now_ms)),
        event_time: Some(micro_time_from_ms(now_ms)),
        reporting_component: Some(told.component.clone()),
        reporting_instance: Some(told.instance),
        source: Some(EventSource { component: Some(told.component), host: None }),
        ..Event::default()
    };
    let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
    let mut pauses = PAUSES_MS.iter();
    loop {
        match api.create(&PostParams::default(), &event).await {
            Ok(_) => return,
            Err(kube::Error::Api(status)) if status.code < 500 => {
                tracing::warn!(reason = event.reason, error = status.message, "an event was refused");
                return;
            }
            Err(error) => {
                let Some(pause) = pauses.next().filter(|_| !cancel.is_cancelled()) else {
                    tracing::warn!(reason = event.reason, %error, "an event was not written");
                    return;
                };
                tokio::time::sleep(Duration::from_millis(*pause)).await;
            }
        }
    }
}

/// The message as the API accepts it: what is too long loses its middle.
fn shortened(message: &str) -> String {
    let count = message.chars().count();
    if count <= MESSAGE_CHARS {
        return message.to_owned();
    }
    let kept = MESSAGE_CHARS - CUT.len();
    let (front, back) = (kept / 2, kept - kept / 2);
    let begin: String = message.chars().take(front).collect();
    let end: String = message.chars().skip(count - back).collect();
    format!("{begin}{CUT}{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_messages_lose_their_middle() {
        let message = format!("begin{}end", "é".repeat(2000));
        let cut = shortened(&message);
        assert_eq!(cut.chars().count(), MESSAGE_CHARS);
        assert!(cut.starts_with("beginé") && cut.contains("é...é") && cut.ends_with("éend"));
        assert_eq!(shortened("short"), "short");
    }
}
