//! Leader election through a Lease (`coordination.k8s.io/v1`), by the algorithm of client-go.
//!
//! Of all candidates for a lease at most one acts at a time, as long as their clocks run at about the same speed:
//! a candidate measures how long *it* has seen the lease unchanged and never compares its clock with the holder's.
//! A holder that could not renew in time stops before others may begin.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use gantry_clock::{Backoff, BackoffConfig, Clock};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::Client;
use kube::api::{Api, PostParams};
use kube::core::ObjectMeta;
use tokio_util::sync::CancellationToken;

use crate::moment::micro_time_from_ms;
use crate::operator::Operator;

/// Which lease is held, by whom and for how long.
#[derive(Clone, Debug)]
pub struct LeaseSettings {
    pub namespace: String,
    pub name: String,
    /// Tells this candidate from all others: a pod's name, or host name and a random part.
    pub identity: String,
    /// How long others wait after the last renewal that they saw; whole seconds are written.
    pub lease_duration: Duration,
    /// How long a holder goes on trying to renew before it gives up.
    pub renew_deadline: Duration,
    /// Pause between two tries.
    pub retry_period: Duration,
    /// Give the lease back at the end, so that the next holder need not wait for it to run out.
    pub release_on_cancel: bool,
}

impl LeaseSettings {
    /// The lease `namespace/name` for the candidate `identity`, with client-go's times: 15 s, 10 s and 2 s.
    pub fn new(namespace: &str, name: &str, identity: &str) -> LeaseSettings {
        LeaseSettings {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            identity: identity.to_owned(),
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
            release_on_cancel: true,
        }
    }
}

/// Settings with which no election could be safe.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    #[error("leader election: {field} is empty, it must name something")]
    Empty { field: &'static str },
    #[error(
        "leader election: lease duration {lease:?} must be at least a second and longer than the renew deadline {renew:?}"
    )]
    LeaseTooShort { lease: Duration, renew: Duration },
    #[error(
        "leader election: renew deadline {renew:?} must be longer than 1.2 times the retry period {retry:?}"
    )]
    DeadlineTooShort { renew: Duration, retry: Duration },
    #[error("leader election: the retry period is zero, it must be longer")]
    NoRetryPeriod,
}

/// Why leading ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeadEnd {
    /// The work ended, or it was cancelled before it began.
    Ended,
    /// The lease could not be renewed in time: another may lead now.
    Lost,
}

/// One candidate for one lease.
pub struct LeaderElection {
    api: Api<Lease>,
    clock: Arc<dyn Clock>,
    settings: LeaseSettings,
    pause: Backoff,
    observed: Option<Observed>,
}

/// The lease as it was seen last, and since when it has looked like that.
struct Observed {
    lease: Lease,
    since: Duration,
}

/// Tries end with a factor between one and this many retry periods.
const JITTER: f64 = 1.2;

// === impl LeaderElection ===

impl LeaderElection {
    pub fn new(
        client: Client,
        clock: Arc<dyn Clock>,
        settings: LeaseSettings,
    ) -> Result<LeaderElection, LeaseError> {
        for (field, value) in
            [("namespace", &settings.namespace), ("name", &settings.name), ("identity", &settings.identity)]
        {
            if value.is_empty() {
                return Err(LeaseError::Empty { field });
            }
        }
        let (lease, renew, retry) = (settings.lease_duration, settings.renew_deadline, settings.retry_period);
        if lease <= renew || lease < Duration::from_secs(1) {
            return Err(LeaseError::LeaseTooShort { lease, renew });
        }
        if retry.is_zero() {
            return Err(LeaseError::NoRetryPeriod);
        }
        if renew <= retry.mul_f64(JITTER) {
            return Err(LeaseError::DeadlineTooShort { renew, retry });
        }
        let longest = retry.saturating_mul(2).mul_f64(1.1);
        let pause = BackoffConfig { initial: longest, max: longest, factor: 1.0, jitter: 1.0 - 1.0 / 2.2 };
        // Candidates differ by identity, and so do their pauses.
        let seed = settings.identity.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |seed, byte| {
            (seed ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        let api = Api::namespaced(client, &settings.namespace);
        Ok(LeaderElection { api, clock, settings, pause: Backoff::new(pause, seed), observed: None })
    }

    /// Who holds the lease, as far as this candidate has seen; nothing when nobody does.
    pub fn leader(&self) -> Option<&str> {
        let holder = self.observed.as_ref()?.lease.spec.as_ref()?.holder_identity.as_deref();
        holder.filter(|holder| !holder.is_empty())
    }

    /// Waits until the lease is ours, then runs `work`, which has to end soon after its token is cancelled: because
    /// `cancel` is, or because the lease is lost. The lease is kept until `work` has ended, then given back; when it is
    /// lost, `work` is cut (dropped) before another may lead.
    pub async fn lead<F, Fut>(mut self, cancel: CancellationToken, work: F) -> LeadEnd
    where
        F: FnOnce(CancellationToken) -> Fut,
        Fut: Future<Output = ()>,
    {
        tokio::select! {
            biased;
            () = cancel.cancelled() => return LeadEnd::Ended,
            () = self.acquire() => {}
        }
        tracing::info!(lease = self.settings.name, identity = self.settings.identity, "became the leader");
        let leading = cancel.child_token();
        let working = work(leading.clone());
        tokio::pin!(working);
        let lost = tokio::select! {
            biased;
            () = &mut working => false,
            () = self.keep() => true,
        };
        if lost {
            tracing::error!(lease = self.settings.name, "the lease was not renewed in time and is lost");
            leading.cancel();
            // Others wait this much longer than we tried to renew. Work that goes on beyond it would go on beside theirs.
            let LeaseSettings { lease_duration, renew_deadline, retry_period, .. } = self.settings;
            let left = lease_duration.saturating_sub(renew_deadline).saturating_sub(retry_period);
            if tokio::time::timeout(left, working).await.is_err() {
                tracing::error!(
                    lease = self.settings.name,
                    ?left,
                    "work under a lost lease did not end and is cut"
                );
            }
            return LeadEnd::Lost;
        }
        if self.settings.release_on_cancel {
            self.release().await;
        }
        LeadEnd::Ended
    }

    async fn acquire(&mut self) {
        while !self.try_once().await {
            tokio::time::sleep(self.pause.next_delay()).await;
        }
    }

    /// Renews again and again; returns when that did not succeed for as long as the deadline says.
    async fn keep(&mut self) {
        loop {
            let period = self.settings.retry_period;
            tokio::time::sleep(period).await;
            let renewed = tokio::time::timeout(self.settings.renew_deadline, async {
                while !self.try_once().await {
                    tokio::time::sleep(period).await;
                }
            });
            if renewed.await.is_err() {
                return;
            }
        }
    }

    /// Takes or renews the lease if that is allowed; returns whether it is ours now.
    async fn try_once(&mut self) -> bool {
        match self.take_or_renew().await {
            Ok(ours) => ours,
            Err(error) => {
                tracing::warn!(lease = self.settings.name, %error, "the lease could not be taken or renewed");
                false
            }
        }
    }

    async fn take_or_renew(&mut self) -> Result<bool, kube::Error> {
        // While nobody else has touched it, a renewal needs no look at it first.
        if self.is_ours() && self.is_valid() {
            let known = self.observed.as_ref().map(|observed| observed.lease.clone()).unwrap_or_default();
            match self.write(known).await {
                Ok(()) => return Ok(true),
                Err(error) => tracing::debug!(%error, "the lease has changed, reading it"),
            }
        }
        let Some(found) = self.api.get_opt(&self.settings.name).await? else {
            let meta = ObjectMeta {
                name: Some(self.settings.name.clone()),
                namespace: Some(self.settings.namespace.clone()),
                ..ObjectMeta::default()
            };
            let lease = Lease { metadata: meta, spec: Some(self.next_spec(None)) };
            let made = self.api.create(&PostParams::default(), &lease).await?;
            self.observe(made);
            return Ok(true);
        };
        if self.observed.as_ref().is_none_or(|observed| observed.lease.spec != found.spec) {
            self.observe(found.clone());
        }
        let held = self.leader().is_some();
        if held && !self.is_ours() && self.is_valid() {
            return Ok(false);
        }
        self.write(found).await?;
        Ok(true)
    }

    async fn write(&mut self, mut lease: Lease) -> Result<(), kube::Error> {
        lease.spec = Some(self.next_spec(lease.spec.as_ref()));
        let written = self.api.replace(&self.settings.name, &PostParams::default(), &lease).await?;
        self.observe(written);
        Ok(())
    }

    /// What to write as the holder from now on.
    fn next_spec(&self, before: Option<&LeaseSpec>) -> LeaseSpec {
        let now = micro_time_from_ms(self.clock.now_ms());
        let transitions = before.and_then(|before| before.lease_transitions).unwrap_or(0);
        let stays = before.and_then(|before| before.holder_identity.as_deref())
            == Some(self.settings.identity.as_str());
        let kept = before.cloned().unwrap_or_default();
        LeaseSpec {
            holder_identity: Some(self.settings.identity.clone()),
            lease_duration_seconds: i32::try_from(self.settings.lease_duration.as_secs()).ok(),
            acquire_time: if stays { kept.acquire_time.clone() } else { Some(now.clone()) },
            renew_time: Some(now),
            lease_transitions: Some(match before {
                Some(_) if !stays => transitions.saturating_add(1),
                _ => transitions,
            }),
            ..kept
        }
    }

    /// Gives the lease back, unless somebody else has it by now.
    async fn release(&mut self) {
        let Some(observed) = self.observed.as_ref().filter(|_| self.is_ours()) else { return };
        let mut lease = observed.lease.clone();
        let now = micro_time_from_ms(self.clock.now_ms());
        let transitions = lease.spec.as_ref().and_then(|spec| spec.lease_transitions);
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(String::new()),
            lease_duration_seconds: Some(1),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            lease_transitions: transitions,
            ..LeaseSpec::default()
        });
        let params = PostParams::default();
        let giving = self.api.replace(&self.settings.name, &params, &lease);
        match tokio::time::timeout(self.settings.renew_deadline, giving).await {
            Ok(Ok(lease)) => self.observe(lease),
            Ok(Err(error)) => {
                tracing::warn!(lease = self.settings.name, %error, "the lease was not given back");
            }
            Err(_) => tracing::warn!(lease = self.settings.name, "the lease was not given back in time"),
        }
    }

    fn observe(&mut self, lease: Lease) {
        self.observed = Some(Observed { lease, since: self.clock.monotonic() });
    }

    fn is_ours(&self) -> bool {
        self.leader() == Some(self.settings.identity.as_str())
    }

    /// Whether the holder that was seen last still has time to renew.
    fn is_valid(&self) -> bool {
        let Some(observed) = &self.observed else { return false };
        let seconds = observed.lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds).unwrap_or(0);
        let duration = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        self.clock.monotonic().saturating_sub(observed.since) < duration
    }
}

impl Operator {
    /// Like [`run`](Operator::run), but only while it holds the lease: waits for it, works, and ends when cancelled
    /// or when the lease is lost. A process that lost it is to be started anew, as nothing runs twice.
    pub async fn run_as_leader(
        &self,
        lease: LeaseSettings,
        cancel: CancellationToken,
    ) -> Result<LeadEnd, LeaseError> {
        let election = LeaderElection::new(self.client().clone(), self.clock().clone(), lease)?;
        Ok(election.lead(cancel, |leading| self.run(leading)).await)
    }
}

#[cfg(test)]
mod tests {
    use gantry_clock::ManualClock;

    use super::*;

    fn candidate(settings: LeaseSettings, clock: &ManualClock) -> Result<LeaderElection, LeaseError> {
        let config = kube::Config::new("http://127.0.0.1:1".parse().expect("a valid address"));
        let client = Client::try_from(config).expect("a client that is never used");
        LeaderElection::new(client, Arc::new(clock.clone()), settings)
    }

    fn lease_of(holder: &str, transitions: i32) -> Lease {
        let spec = LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(15),
            lease_transitions: Some(transitions),
            acquire_time: Some(micro_time_from_ms(5)),
            ..LeaseSpec::default()
        };
        Lease { spec: Some(spec), ..Lease::default() }
    }

    #[tokio::test]
    async fn a_lease_is_valid_for_as_long_as_it_was_seen_unchanged() {
        // The holder's clock is of no interest, only how long the lease has looked the same.
        let clock = ManualClock::new(1_000_000);
        let mut election = candidate(LeaseSettings::new("default", "l", "me"), &clock).expect("settings");
        assert!(!election.is_valid());
        election.observe(lease_of("other", 3));
        assert_eq!(
            (election.leader(), election.is_ours(), election.is_valid()),
            (Some("other"), false, true)
        );
        clock.set_wall_ms(900_000_000);
        clock.advance(Duration::from_millis(14_999));
        assert!(election.is_valid());
        clock.advance(Duration::from_millis(1));
        assert!(!election.is_valid());
        election.observe(lease_of("", 3));
        assert_eq!(election.leader(), None);
    }

    #[tokio::test]
    async fn transitions_are_counted_and_renewals_keep_the_time_of_acquisition() {
        let clock = ManualClock::new(7_000);
        let election = candidate(LeaseSettings::new("default", "l", "me"), &clock).expect("settings");
        let first = election.next_spec(None);
        assert_eq!((first.lease_transitions, first.acquire_time), (Some(0), Some(micro_time_from_ms(7_000))));
        let taken = election.next_spec(lease_of("other", 3).spec.as_ref());
        assert_eq!((taken.lease_transitions, taken.acquire_time), (Some(4), Some(micro_time_from_ms(7_000))));
        let kept = election.next_spec(lease_of("me", 3).spec.as_ref());
        assert_eq!((kept.lease_transitions, kept.acquire_time), (Some(3), Some(micro_time_from_ms(5))));
        assert_eq!(kept.renew_time, Some(micro_time_from_ms(7_000)));
    }

    #[tokio::test]
    async fn settings_that_cannot_be_safe_are_refused() {
        let settings = || LeaseSettings::new("default", "l", "me");
        let second = Duration::from_secs(1);
        for (settings, message) in [
            (LeaseSettings { identity: String::new(), ..settings() }, "identity is empty"),
            (
                LeaseSettings { lease_duration: second * 10, ..settings() },
                "longer than the renew deadline 10s",
            ),
            (LeaseSettings { retry_period: second * 9, ..settings() }, "1.2 times the retry period 9s"),
            (LeaseSettings { retry_period: Duration::ZERO, ..settings() }, "retry period is zero"),
        ] {
            let error = candidate(settings, &ManualClock::new(0)).err().expect("refused").to_string();
            assert!(error.contains(message), "{error}");
        }
    }

    #[tokio::test]
    async fn pauses_between_tries_lie_between_one_and_two_point_two_periods() {
        let mut election =
            candidate(LeaseSettings::new("default", "l", "me"), &ManualClock::new(0)).expect("settings");
        let pauses: Vec<Duration> = (0..50).map(|_| election.pause.next_delay()).collect();
        let (low, high) = (Duration::from_millis(1_999), Duration::from_millis(4_401));
        assert!(pauses.iter().all(|pause| (low..high).contains(pause)), "{pauses:?}");
        assert!(pauses.windows(2).any(|pair| pair[0] != pair[1]));
    }
}
