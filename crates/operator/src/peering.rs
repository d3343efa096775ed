//! Peering: operators that see each other on one object, so that the one with the highest priority works alone.
//!
//! Each writes `status.<identity> = {priority, lifetime, lastseen}` again and again. Whoever sees a living peer with
//! a higher priority pauses; peers of the same priority all pause. This is Kopf's way, on Kopf's objects.

use std::sync::Arc;
use std::time::Duration;

use gantry_clock::Clock;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, ApiResource, Patch, PatchParams};
use kube::core::DynamicObject;
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::informer::{InformerSettings, Informers};
use crate::key::Key;

/// The lifetime of peers that do not tell theirs.
const DEFAULT_LIFETIME_SECONDS: i64 = 60;
/// How long before its entry runs out an operator renews it.
const RENEWAL_AHEAD: Duration = Duration::from_secs(8);

/// One operator among its peers.
pub struct Peering {
    client: Client,
    clock: Arc<dyn Clock>,
    resource: ApiResource,
    key: Key,
    identity: String,
    priority: i64,
    lifetime: Duration,
}

/// What an operator sees of the others.
#[derive(Debug, Default, PartialEq)]
struct Sight {
    paused: bool,
    dead: Vec<String>,
    /// When the first of those that make it pause runs out.
    until_ms: Option<i64>,
}

impl Peering {
    /// `namespace` is empty for a cluster-scoped peering object.
    #[allow(clippy::too_many_arguments, reason = "each is a fact about the operator that is used once")]
    pub fn new(
        client: Client,
        clock: Arc<dyn Clock>,
        resource: ApiResource,
        namespace: &str,
        name: &str,
        identity: &str,
        priority: i64,
        lifetime: Duration,
    ) -> Peering {
        let (key, identity) = (Key::new(namespace, name), identity.to_owned());
        Peering { client, clock, resource, key, identity, priority, lifetime }
    }

    fn api(&self) -> Api<DynamicObject> {
        match self.key.namespace() {
            "" => Api::all_with(self.client.clone(), &self.resource),
            namespace => Api::namespaced_with(self.client.clone(), namespace, &self.resource),
        }
    }

    /// Whether the peering object is there.
    pub async fn exists(&self) -> Result<bool, kube::Error> {
        Ok(self.api().get_opt(self.key.name()).await?.is_some())
    }

    /// Writes this operator's entry, or takes it away when `lifetime` is zero; returns false when the peering object
    /// is not there.
    pub async fn touch(&self, lifetime: Duration) -> Result<bool, kube::Error> {
        let entry = match lifetime.as_secs() {
            0 => Value::Null,
            seconds => {
                let now = Timestamp::from_millisecond(self.clock.now_ms()).unwrap_or(Timestamp::UNIX_EPOCH);
                let lastseen = format!("{now:.6}").replace('Z', "+00:00");
                json!({ "priority": self.priority, "lifetime": seconds, "lastseen": lastseen })
            }
        };
        self.write(json!({ self.identity.clone(): entry })).await
    }

    async fn write(&self, status: Value) -> Result<bool, kube::Error> {
        let (api, params) = (self.api(), PatchParams::default());
        let change = Patch::Merge(json!({ "status": status }));
        let missing = |error: &kube::Error| matches!(error, kube::Error::Api(status) if status.code == 404);
        let mut written = api.patch_status(self.key.name(), &params, &change).await;
        if written.as_ref().is_err_and(missing) {
            // Kopf's own definitions know no status subresource.
            written = api.patch(self.key.name(), &params, &change).await;
        }
        match written {
            Ok(_) => Ok(true),
            Err(error) if missing(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Keeps the entry alive and tells whether to pause, until `cancel`; then takes the entry away. `paused` has to be
    /// true at first: nothing is told before the peers have been seen.
    pub async fn keep(self, paused: watch::Sender<bool>, cancel: CancellationToken) {
        let settings = InformerSettings {
            namespace: Some(self.key.namespace().to_owned()).filter(|namespace| !namespace.is_empty()),
            ..InformerSettings::default()
        };
        let informers = Informers::new(self.client.clone(), self.clock.clone(), settings);
        let peers = informers.dynamic(&self.resource);
        let mut changes = peers.changes();
        informers.start(cancel.child_token());
        let mut renewal = Duration::ZERO;
        let (mut synced, mut told) = (false, false);
        loop {
            let now = self.clock.monotonic();
            if renewal <= now {
                if let Err(error) = self.touch(self.lifetime).await {
                    tracing::warn!(peering = %self.key, %error, "the entry among the peers was not renewed");
                }
                renewal = now + self.lifetime.saturating_sub(RENEWAL_AHEAD).max(Duration::from_secs(1));
            }
            let now_ms = self.clock.now_ms();
            let status =
                peers.get(&self.key).and_then(|object| object.data.get("status")?.as_object().cloned());
            let sight = self.look(&status.unwrap_or_default(), now_ms);
            if !sight.dead.is_empty() {
                let gone: Map<String, Value> =
                    sight.dead.iter().map(|id| (id.clone(), Value::Null)).collect();
                if let Err(error) = self.write(Value::Object(gone)).await {
                    tracing::debug!(peering = %self.key, %error, "dead peers were not removed");
                }
            }
            if synced {
                self.tell(&paused, sight.paused, !std::mem::replace(&mut told, true));
            }
            let renewal_in = renewal.saturating_sub(self.clock.monotonic());
            let deadline =
                sight.until_ms.map(|until| u64::try_from(until.saturating_sub(now_ms)).unwrap_or(0));
            let wait = deadline.map_or(renewal_in, |ms| renewal_in.min(Duration::from_millis(ms.max(10))));
            tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                () = tokio::time::sleep(wait) => {}
                () = peers.synced(), if !synced => synced = true,
                // Nobody changes an informer that is gone; the sleep goes on then.
                Ok(()) = changes.changed() => {}
            }
        }
        if let Err(error) = self.touch(Duration::ZERO).await {
            tracing::warn!(peering = %self.key, %error, "the entry among the peers was not taken away");
        }
    }

    fn tell(&self, paused: &watch::Sender<bool>, now: bool, first: bool) {
        paused.send_if_modified(|known| {
            if *known == now && !first {
                return false;
            }
            match now {
                false if first => {}
                true => tracing::warn!(peering = %self.key, "pausing: another operator has a priority as high or higher"),
                false => tracing::info!(peering = %self.key, "resuming: the other operators are gone"),
            }
            *known = now;
            true
        });
    }

    fn look(&self, status: &Map<String, Value>, now_ms: i64) -> Sight {
        let mut sight = Sight::default();
        for (identity, entry) in status.iter().filter(|(_, entry)| entry.is_object()) {
            let number = |name: &str| entry.get(name).and_then(Value::as_i64);
            let lastseen = entry.get("lastseen").and_then(Value::as_str);
            let seen_ms =
                lastseen.and_then(|text| text.parse::<Timestamp>().ok()).map(Timestamp::as_millisecond);
            let lifetime = number("lifetime").unwrap_or(DEFAULT_LIFETIME_SECONDS);
            let deadline = seen_ms.unwrap_or(now_ms).saturating_add(lifetime.saturating_mul(1000));
            if deadline <= now_ms {
                sight.dead.push(identity.clone());
            } else if *identity != self.identity && number("priority").unwrap_or(0) >= self.priority {
                sight.paused = true;
                sight.until_ms = Some(sight.until_ms.map_or(deadline, |known| known.min(deadline)));
            }
        }
        sight
    }
}

#[cfg(test)]
mod tests {
    use gantry_clock::ManualClock;

    use super::*;

    #[tokio::test]
    async fn peers_of_equal_or_higher_priority_make_it_pause_while_they_live() {
        let config = kube::Config::new("http://127.0.0.1:1".parse().expect("a valid address"));
        let client = Client::try_from(config).expect("a client that is never used");
        let resource = ApiResource::erase::<k8s_openapi::api::core::v1::ConfigMap>(&());
        let lifetime = Duration::from_secs(60);
        let clock = Arc::new(ManualClock::new(0));
        let peering = Peering::new(client, clock, resource, "default", "default", "me", 5, lifetime);
        let entry = |priority: i64, lifetime: i64| json!({ "priority": priority, "lifetime": lifetime, "lastseen": "1970-01-01T00:00:10.000000+00:00" });
        let look = |status: Value, now_ms| peering.look(status.as_object().expect("a status"), now_ms);
        assert_eq!(look(json!({ "me": entry(5, 60), "low": entry(4, 60) }), 20_000), Sight::default());
        let equal = look(json!({ "me": entry(5, 60), "equal": entry(5, 60), "high": entry(9, 30) }), 20_000);
        assert_eq!(equal, Sight { paused: true, dead: vec![], until_ms: Some(40_000) });
        let dead = look(json!({ "high": entry(9, 30), "broken": 7, "mute": { "priority": 1 } }), 40_000);
        assert_eq!(dead, Sight { paused: false, dead: vec!["high".into()], until_ms: None });
    }
}
