//! Word of changed keys: one subscription per endpoint to Redis' keyspace events, or one pipelined poll without them.
//!
//! Invariant: a listener hears of every change after it was told, also of those while the connection was lost, because
//! all listeners are called when it is back.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::StreamExt;
use parking_lot::Mutex;
use redis::{ConnectionAddr, RedisResult};
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Connection;
use super::endpoint::{client, timeouts};
use crate::http::Resolve;
use crate::scaler::{Hear, Subscription};

/// What may be done to hear of changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyspaceEvents {
    /// Sources are only polled.
    Off,
    /// Listen where the server already sends events; its configuration is not changed.
    #[default]
    Listen,
    /// Ask a server on this machine to send events (`CONFIG SET notify-keyspace-events`) where it does not and permits
    /// it; others may be shared, so their configuration is not changed.
    Enable,
}

/// Lists, sets, sorted sets, hashes, streams, generic commands and expiry, on channels named by key.
const WANTED: &str = "Klszhtgx";
/// Without events keys are looked at this often.
const POLL: Duration = Duration::from_millis(200);
/// Pauses after a lost connection grow from the first to the last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// A number that differs when elements came or went.
const COUNT_SCRIPT: &str = "local kind = redis.call('TYPE', KEYS[1])['ok'] \
     local counts = {list='LLEN', set='SCARD', zset='ZCARD', hash='HLEN', stream='XLEN', string='STRLEN'} \
     return counts[kind] and redis.call(counts[kind], KEYS[1]) or 0";

pub(super) struct Keyspace {
    to: Connection,
    resolve: Option<Arc<dyn Resolve>>,
    events: KeyspaceEvents,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    listeners: HashMap<String, Vec<(u64, Hear)>>,
    next: u64,
    /// Ends the task that listens; there is one while there are listeners.
    running: Option<DropGuard>,
}

/// Why listening ended.
enum Ended {
    /// The server sends no events and may not be told to.
    NotPermitted,
    Lost,
}

impl Keyspace {
    pub(super) fn new(
        to: Connection,
        resolve: Option<Arc<dyn Resolve>>,
        events: KeyspaceEvents,
    ) -> Arc<Keyspace> {
        Arc::new(Keyspace { to, resolve, events, state: Mutex::default(), changed: Notify::new() })
    }

    pub(super) fn hear(self: &Arc<Keyspace>, key: &str, hear: Hear) -> Subscription {
        let mut state = self.state.lock();
        let id = state.next;
        state.next += 1;
        state.listeners.entry(key.to_owned()).or_default().push((id, hear));
        if state.running.is_none() {
            let cancel = CancellationToken::new();
            state.running = Some(cancel.clone().drop_guard());
            let keyspace = Arc::downgrade(self);
            tokio::spawn(async move {
                tokio::select! {
                    () = cancel.cancelled() => {}
                    () = run(keyspace) => {}
                }
            });
        }
        drop(state);
        self.changed.notify_one();
        let (keyspace, key) = (Arc::downgrade(self), key.to_owned());
        Subscription::new(move || {
            let Some(keyspace) = keyspace.upgrade() else { return };
            let mut state = keyspace.state.lock();
            if let Some(listeners) = state.listeners.get_mut(&key) {
                listeners.retain(|(other, _)| *other != id);
                if listeners.is_empty() {
                    state.listeners.remove(&key);
                }
            }
            if state.listeners.is_empty() {
                state.running = None;
            }
            keyspace.changed.notify_one();
        })
    }

    fn keys(&self) -> Vec<String> {
        self.state.lock().listeners.keys().cloned().collect()
    }

    fn tell(&self, key: &str) {
        let hears: Vec<Hear> = match self.state.lock().listeners.get(key) {
            Some(listeners) => listeners.iter().map(|(_, hear)| hear.clone()).collect(),
            None => return,
        };
        for hear in hears {
            hear();
        }
    }

    fn tell_all(&self) {
        for key in self.keys() {
            self.tell(&key);
        }
    }

    /// Listens until the connection is lost.
    async fn listen(&self) -> RedisResult<Ended> {
        let client = client(&self.to, self.resolve.as_deref()).await?;
        if !self.events_come(&client).await? {
            return Ok(Ended::NotPermitted);
        }
        let (mut sink, mut messages) = client.get_async_pubsub().await?.split();
        let prefix = format!("__keyspace@{}__:", self.to.database);
        let mut subscribed: Vec<String> = Vec::new();
        loop {
            let wanted = self.keys();
            for key in wanted.iter().filter(|key| !subscribed.contains(key)) {
                sink.subscribe(format!("{prefix}{key}")).await?;
                // It may have changed before the subscription held.
                self.tell(key);
            }
            for key in subscribed.iter().filter(|key| !wanted.contains(key)) {
                sink.unsubscribe(format!("{prefix}{key}")).await?;
            }
            subscribed = wanted;
            loop {
                tokio::select! {
                    message = messages.next() => {
                        let Some(message) = message else { return Ok(Ended::Lost) };
                        if let Some(key) = message.get_channel_name().strip_prefix(&prefix) {
                            self.tell(key);
                        }
                    }
                    () = self.changed.notified() => break,
                }
            }
        }
    }

    /// Whether the server sends events, after asking it to where that is allowed.
    async fn events_come(&self, client: &redis::Client) -> RedisResult<bool> {
        let mut connection = client.get_multiplexed_async_connection_with_config(&timeouts()).await?;
        let asked: RedisResult<Vec<String>> =
            redis::cmd("CONFIG").arg("GET").arg("notify-keyspace-events").query_async(&mut connection).await;
        let Ok(given) = asked else { return Ok(false) };
        let given = given.into_iter().nth(1).unwrap_or_default();
        let sends = |class: char| given.contains(class) || (given.contains('A') && class != 'K');
        if WANTED.chars().all(sends) {
            return Ok(true);
        }
        if self.events != KeyspaceEvents::Enable || !is_on_this_machine(client.get_connection_info().addr()) {
            return Ok(false);
        }
        // What others asked for is kept.
        let both: String = given.chars().chain(WANTED.chars().filter(|class| !sends(*class))).collect();
        let set: RedisResult<()> = redis::cmd("CONFIG")
            .arg("SET")
            .arg("notify-keyspace-events")
            .arg(&both)
            .query_async(&mut connection)
            .await;
        if set.is_ok() {
            // It outlasts this process, so whoever keeps the server should be able to find out who did it.
            let server = client.get_connection_info().addr();
            tracing::info!(%server, before = %given, now = %both, "asked a redis to send keyspace events");
        }
        Ok(set.is_ok())
    }

    /// Looks at all keys again and again, until the connection is lost.
    async fn poll(&self) -> RedisResult<()> {
        let client = client(&self.to, self.resolve.as_deref()).await?;
        let mut connection = client.get_multiplexed_async_connection_with_config(&timeouts()).await?;
        let mut seen: HashMap<String, redis::Value> = HashMap::new();
        loop {
            let keys = self.keys();
            let mut pipeline = redis::pipe();
            for key in &keys {
                pipeline.cmd("EVAL").arg(COUNT_SCRIPT).arg(1).arg(key);
            }
            let values: Vec<redis::Value> = pipeline.query_async(&mut connection).await?;
            let mut now: HashMap<String, redis::Value> = keys.into_iter().zip(values).collect();
            for (key, value) in &now {
                if seen.get(key) != Some(value) {
                    self.tell(key);
                }
            }
            std::mem::swap(&mut seen, &mut now);
            tokio::time::sleep(POLL).await;
        }
    }
}

fn is_on_this_machine(address: &ConnectionAddr) -> bool {
    match address {
        ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => {
            host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        _ => false,
    }
}

async fn run(keyspace: Weak<Keyspace>) {
    let mut pause = PAUSES.0;
    let mut polls = false;
    loop {
        let Some(keyspace) = keyspace.upgrade() else { return };
        let began = tokio::time::Instant::now();
        let ended = if polls { keyspace.poll().await.map(|()| Ended::Lost) } else { keyspace.listen().await };
        match ended {
            Ok(Ended::NotPermitted) => {
                polls = true;
                continue;
            }
            Ok(Ended::Lost) => {}
            Err(error) => tracing::debug!(%error, "listening to redis ended"),
        }
        if began.elapsed() > PAUSES.1 {
            pause = PAUSES.0;
        }
        // Whoever reads now finds out what became of the server.
        keyspace.tell_all();
        drop(keyspace);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSES.1);
        polls = false;
    }
}
