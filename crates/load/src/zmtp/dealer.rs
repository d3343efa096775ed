//! The DEALER: connects under an identity, and again when the connection is lost; messages wait meanwhile.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::codec::Decoder;
use super::router::{handshake, pump};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// To whom and as whom.
#[derive(Clone, Debug)]
pub struct DealerConfig {
    pub host: String,
    pub port: u16,
    pub identity: String,
    /// Messages that may wait in either direction.
    pub queue: usize,
}

/// One connection that is kept up; dropping it closes it after what was queued is written.
pub struct Dealer {
    outgoing: mpsc::Sender<Bytes>,
    incoming: mpsc::Receiver<Bytes>,
}

// === impl DealerConfig ===

impl DealerConfig {
    pub fn new(host: &str, port: u16, identity: &str) -> DealerConfig {
        DealerConfig { host: host.to_owned(), port, identity: identity.to_owned(), queue: 1000 }
    }
}

// === impl Dealer ===

impl Dealer {
    /// Begins to connect, in the background. Within a tokio runtime.
    pub fn connect(config: DealerConfig) -> Dealer {
        let (outgoing, to_send) = mpsc::channel(config.queue.max(1));
        let (received, incoming) = mpsc::channel(config.queue.max(1));
        tokio::spawn(keep_connected(config, to_send, received));
        Dealer { outgoing, incoming }
    }

    /// Queues a message; waits while the queue is full. False when the connection task has ended.
    pub async fn send(&self, body: Bytes) -> bool {
        self.outgoing.send(body).await.is_ok()
    }

    /// Another way to queue messages, for tasks beside the one that receives.
    pub fn sender(&self) -> mpsc::Sender<Bytes> {
        self.outgoing.clone()
    }

    /// The next message of the master.
    pub async fn recv(&mut self) -> Option<Bytes> {
        self.incoming.recv().await
    }
}

async fn keep_connected(
    config: DealerConfig,
    mut to_send: mpsc::Receiver<Bytes>,
    received: mpsc::Sender<Bytes>,
) {
    let mut pause = FIRST_PAUSE;
    while !received.is_closed() || !to_send.is_empty() {
        match connected(&config, &mut to_send, &received).await {
            // Both ways are used up: the owner is gone.
            Ok(()) if to_send.is_closed() => return,
            Ok(()) => pause = FIRST_PAUSE,
            Err(error) => {
                tracing::debug!(host = %config.host, port = config.port, %error, "not connected to the master");
                if received.is_closed() {
                    return;
                }
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn connected(
    config: &DealerConfig,
    to_send: &mut mpsc::Receiver<Bytes>,
    received: &mpsc::Sender<Bytes>,
) -> std::io::Result<()> {
    let mut stream = TcpStream::connect((config.host.as_str(), config.port)).await?;
    let mut reading = BytesMut::with_capacity(8 * 1024);
    let mut decoder = Decoder::default();
    let shake = handshake(&mut stream, "DEALER", config.identity.as_bytes(), &mut reading, &mut decoder);
    tokio::time::timeout(HANDSHAKE_TIMEOUT, shake).await??;
    pump(&mut stream, &mut reading, &mut decoder, to_send, |body| async move {
        // The owner may be gone while its last messages are still to be written.
        let _ = received.send(body).await;
        true
    })
    .await
}
