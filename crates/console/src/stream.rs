//! Live updates as server-sent events: one task asks the source and feeds every open page the same bytes.
//!
//! Invariants: the source is asked at most twice a second however many pages are open, and not at all when none is;
//! a page that does not read is dropped, it holds nobody up.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::channel::Channel;
use http_body_util::{BodyExt, Full};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::Source;
use crate::service::Body;

/// Open pages at most.
const MOST_PAGES: usize = 64;
const LEAST_PAUSE: Duration = Duration::from_millis(500);
/// A comment at least this often tells the page that the connection lives.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// The newest message, shared by all pages; `None` before the first.
type Message = Option<Bytes>;

#[derive(Clone)]
pub(crate) struct Hub {
    source: Arc<dyn Source>,
    messages: Arc<Mutex<Option<watch::Sender<Message>>>>,
}

impl Hub {
    pub(crate) fn new(source: Arc<dyn Source>) -> Hub {
        Hub { source, messages: Arc::default() }
    }

    /// The stream for one page.
    pub(crate) fn connect(&self) -> Response<Body> {
        let mut messages = self.messages.lock();
        let receiver = match &*messages {
            Some(sender) if sender.receiver_count() >= MOST_PAGES => {
                let text = Full::from("too many pages are open\n").boxed();
                let mut response = Response::new(text);
                *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                return response;
            }
            Some(sender) => sender.subscribe(),
            None => {
                let (sender, receiver) = watch::channel(None);
                *messages = Some(sender);
                tokio::spawn(self.clone().feed());
                receiver
            }
        };
        drop(messages);
        let (sender, body) = Channel::<Bytes, Infallible>::new(1);
        tokio::spawn(send(receiver, sender));
        let mut response = Response::new(body.boxed());
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }

    /// Runs while pages are open.
    async fn feed(self) {
        let mut changes = self.source.subscribe();
        let mut closed = false;
        loop {
            let snapshot = self.source.snapshot();
            let text = serde_json::to_string(&snapshot).unwrap_or_default();
            let message = Bytes::from(format!("event: snapshot\ndata: {text}\n\n"));
            {
                let mut messages = self.messages.lock();
                match &*messages {
                    Some(sender) if sender.receiver_count() > 0 => drop(sender.send_replace(Some(message))),
                    _ => {
                        *messages = None;
                        return;
                    }
                }
            }
            tokio::time::sleep(LEAST_PAUSE).await;
            if closed {
                tokio::time::sleep(HEARTBEAT).await;
            } else {
                // Nothing changed is news too: `now_ms` moves on, and the page sees that we live.
                let changed = tokio::time::timeout(HEARTBEAT, changes.changed()).await;
                closed = matches!(changed, Ok(Err(_)));
            }
        }
    }
}

/// Copies the newest message to one page until either side is gone; messages it is too slow for are skipped.
async fn send(
    mut receiver: watch::Receiver<Message>,
    mut sender: http_body_util::channel::Sender<Bytes, Infallible>,
) {
    receiver.mark_changed();
    while receiver.changed().await.is_ok() {
        let message = receiver.borrow_and_update().clone();
        if let Some(message) = message
            && sender.send_data(message).await.is_err()
        {
            return;
        }
    }
}
