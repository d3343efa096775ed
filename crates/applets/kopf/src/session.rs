//! The conversation with one worker process: frames of JSON, each preceded by its length in four bytes.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gantry_operator::Ctx;
use kube::core::DynamicObject;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::declared::Declared;
use crate::feed::Feed;

/// Longest frame: an object has at most some megabytes, and a call carries it a few times.
const MAX_FRAME_BYTES: usize = 64 * 1024 * 1024;
/// Frames that may wait to be sent.
const OUTGOING: usize = 1024;

/// What the worker says.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Said {
    pub(crate) op: String,
    pub(crate) id: u64,
    pub(crate) result: Value,
    pub(crate) patch: Option<Value>,
    /// What the patch does to the whole object is kept over there.
    pub(crate) transforms: bool,
    pub(crate) settings: Option<Value>,
    pub(crate) error: Option<Raised>,
    /// Of `execute`: the call whose sub-handlers these are.
    pub(crate) call: u64,
    pub(crate) parts: Vec<Declared>,
    /// Of `event`.
    #[serde(rename = "ref")]
    pub(crate) regarding: Value,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) trace: String,
}

/// An exception.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Raised {
    pub(crate) kind: String,
    pub(crate) message: String,
    pub(crate) trace: String,
    pub(crate) delay: Option<f64>,
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unanswered {
    #[error("the worker process ended while it was asked")]
    Ended,
    #[error("a frame for the worker process cannot be made: {0}")]
    Encode(String),
}

pub(crate) struct Session {
    outgoing: mpsc::Sender<Vec<u8>>,
    pending: Mutex<HashMap<u64, oneshot::Sender<Said>>>,
    /// Calls of handlers under way, which may ask for their sub-handlers.
    calls: Mutex<HashMap<u64, Ctx<DynamicObject>>>,
    next_id: AtomicU64,
    pub(crate) ended: CancellationToken,
}

/// What the worker asks of the engine on its own.
pub(crate) trait Asks: Send + Sync {
    fn execute(&self, session: &Arc<Session>, context: Option<Ctx<DynamicObject>>, said: Said);
    fn event(&self, said: Said);
}

impl Session {
    /// Begins to talk over `reader` and `writer`.
    pub(crate) fn begin<R, W>(mut reader: R, writer: W, feed: Arc<Feed>, asks: Arc<dyn Asks>) -> Arc<Session>
    where
        R: AsyncRead + Unpin + Send + 'static,
        W: AsyncWrite + Unpin + Send + 'static,
    {
        let (outgoing, queue) = mpsc::channel(OUTGOING);
        let session = Arc::new(Session {
            outgoing,
            pending: Mutex::default(),
            calls: Mutex::default(),
            next_id: AtomicU64::new(1),
            ended: CancellationToken::new(),
        });
        let ended = session.ended.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = ended.cancelled() => {}
                outcome = write_all(writer, queue, &feed) => if let Err(error) = outcome {
                    tracing::debug!(%error, "the worker process takes no more frames");
                }
            }
        });
        let reading = session.clone();
        tokio::spawn(async move {
            loop {
                match read::<Said, _>(&mut reader).await {
                    Ok(Some(said)) => reading.hear(said, &*asks),
                    Ok(None) => break,
                    Err(error) => {
                        tracing::error!(%error, "the worker process cannot be understood");
                        break;
                    }
                }
            }
            reading.ended.cancel();
            // Whoever waits hears that there is no answer.
            reading.pending.lock().clear();
            reading.calls.lock().clear();
        });
        session
    }

    fn hear(self: &Arc<Self>, said: Said, asks: &dyn Asks) {
        match said.op.as_str() {
            "execute" => {
                let context = self.calls.lock().get(&said.call).cloned();
                asks.execute(self, context, said);
            }
            "event" => asks.event(said),
            _ => {
                let waiting = self.pending.lock().remove(&said.id);
                if let Some(waiting) = waiting {
                    // Nobody waits any more for what was cancelled.
                    let _ = waiting.send(said);
                }
            }
        }
    }

    pub(crate) fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Sends a frame that is answered; its `id` must be one of [`next_id`](Session::next_id).
    pub(crate) async fn request(
        &self,
        id: u64,
        frame: &impl Serialize,
    ) -> Result<oneshot::Receiver<Said>, Unanswered> {
        let (answer, answered) = oneshot::channel();
        self.pending.lock().insert(id, answer);
        if self.ended.is_cancelled() {
            self.pending.lock().remove(&id);
            return Err(Unanswered::Ended);
        }
        let sent = self.send(frame).await;
        if sent.is_err() {
            self.pending.lock().remove(&id);
        }
        sent.map(|()| answered)
    }

    /// Sends a frame with an `id` and waits for the answer.
    pub(crate) async fn ask(&self, mut frame: Value) -> Result<Said, Unanswered> {
        let id = self.next_id();
        if let Some(fields) = frame.as_object_mut() {
            fields.insert("id".to_owned(), id.into());
        }
        self.request(id, &frame).await?.await.map_err(|_| Unanswered::Ended)
    }

    pub(crate) async fn send(&self, frame: &impl Serialize) -> Result<(), Unanswered> {
        let data = encode(frame).map_err(|error| Unanswered::Encode(error.to_string()))?;
        tokio::select! {
            biased;
            () = self.ended.cancelled() => Err(Unanswered::Ended),
            sent = self.outgoing.send(data) => sent.map_err(|_| Unanswered::Ended),
        }
    }

    /// Sends a frame without waiting, from where there is no time to wait; it is lost when too many wait.
    pub(crate) fn try_send(&self, frame: &impl Serialize) {
        if let Ok(data) = encode(frame)
            && let Err(error) = self.outgoing.try_send(data)
        {
            tracing::debug!(%error, "a frame for the worker process was dropped");
        }
    }

    pub(crate) fn note_call(&self, id: u64, context: Ctx<DynamicObject>) {
        self.calls.lock().insert(id, context);
    }

    pub(crate) fn forget_call(&self, id: u64) {
        self.calls.lock().remove(&id);
        self.pending.lock().remove(&id);
    }
}

async fn write_all<W: AsyncWrite + Unpin>(
    mut writer: W,
    mut queue: mpsc::Receiver<Vec<u8>>,
    feed: &Feed,
) -> io::Result<()> {
    loop {
        let data = tokio::select! {
            biased;
            data = queue.recv() => data,
            () = feed.wake.notified() => Some(Vec::new()),
        };
        let Some(data) = data else { return Ok(()) };
        for frame in feed.take() {
            writer.write_all(&encode(&frame)?).await?;
        }
        writer.write_all(&data).await?;
        writer.flush().await?;
    }
}

pub(crate) fn encode(frame: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut data = vec![0; 4];
    serde_json::to_writer(&mut data, frame)?;
    let size = data.len() - 4;
    if size > MAX_FRAME_BYTES {
        return Err(io::Error::other(format!("a frame of {size} bytes is longer than {MAX_FRAME_BYTES}")));
    }
    let size = u32::try_from(size).unwrap_or(u32::MAX);
    data[..4].copy_from_slice(&size.to_be_bytes());
    Ok(data)
}

/// The next frame; nothing at the end.
pub(crate) async fn read<T: serde::de::DeserializeOwned, R: AsyncRead + Unpin>(
    reader: &mut R,
) -> io::Result<Option<T>> {
    let mut size = [0; 4];
    match reader.read_exact(&mut size).await {
        Ok(_) => {}
        Err(error)
            if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error),
    }
    let size = usize::try_from(u32::from_be_bytes(size)).unwrap_or(usize::MAX);
    if size > MAX_FRAME_BYTES {
        return Err(io::Error::other(format!("a frame of {size} bytes is longer than {MAX_FRAME_BYTES}")));
    }
    let mut data = vec![0; size];
    match reader.read_exact(&mut data).await {
        // A structure would be read from a list as well.
        Ok(_) if data.first() != Some(&b'{') => Err(io::Error::other("a frame must be a JSON object")),
        Ok(_) => Ok(Some(serde_json::from_slice(&data)?)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn frames_are_written_and_read() {
        let frame = json!({ "op": "done", "id": 7, "result": [1, "é"] });
        let mut data = encode(&frame).expect("a frame");
        data.extend(encode(&json!({ "op": "event" })).expect("a frame"));
        let mut reader = data.as_slice();
        let said: Said = read(&mut reader).await.expect("readable").expect("a frame");
        assert_eq!((said.op.as_str(), said.id, said.result), ("done", 7, json!([1, "é"])));
        assert_eq!(read::<Value, _>(&mut reader).await.expect("readable"), Some(json!({ "op": "event" })));
        assert_eq!(read::<Value, _>(&mut reader).await.expect("the end"), None);
    }

    #[tokio::test]
    async fn what_is_no_frame_is_an_error_and_no_panic() {
        for data in [&b"\xff\xff\xff\xff"[..], b"\x00\x00\x00\x03{]}", b"\x00\x00\x00\x02[]"] {
            assert!(read::<Said, _>(&mut &data[..]).await.is_err(), "{data:?}");
        }
        for data in [&b""[..], b"\x00", b"\x00\x00\x00\x05{}"] {
            assert!(matches!(read::<Said, _>(&mut &data[..]).await, Ok(None)), "{data:?}");
        }
    }
}
