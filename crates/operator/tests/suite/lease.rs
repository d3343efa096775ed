//! Leader election among operators: one works, the next takes over when it goes or falls silent.

use std::sync::Arc;
use std::time::Duration;

use gantry_operator::{LeadEnd, LeaderElection, LeaseSettings, SystemClock};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use parking_lot::Mutex;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::stage::{Stage, Widget, eventually};

fn settings(identity: &str) -> LeaseSettings {
    LeaseSettings {
        lease_duration: Duration::from_secs(2),
        renew_deadline: Duration::from_millis(1500),
        retry_period: Duration::from_millis(50),
        ..LeaseSettings::new("default", "widgets", identity)
    }
}

fn leases(stage: &Stage) -> Api<Lease> {
    Api::namespaced(stage.client.clone(), "default")
}

async fn lease(stage: &Stage, what: &str, wanted: impl Fn(&LeaseSpec) -> bool) -> LeaseSpec {
    let api = leases(stage);
    eventually(what, || async { api.get_opt("widgets").await.ok()??.spec.filter(|spec| wanted(spec)) }).await
}

fn held_by(identity: &str) -> impl Fn(&LeaseSpec) -> bool {
    move |spec| spec.holder_identity.as_deref() == Some(identity)
}

/// An operator that notes whom it created, run by `identity`.
fn candidate(
    stage: &Stage,
    identity: &'static str,
    calls: &Arc<Mutex<Vec<String>>>,
) -> (CancellationToken, tokio::task::JoinHandle<LeadEnd>) {
    let calls = calls.clone();
    let operator = stage
        .operator()
        .on::<Widget>()
        .create(move |ctx: gantry_operator::Ctx<Widget>| {
            calls.lock().push(format!("{identity} {}", ctx.name()));
            async { Ok(()) }
        })
        .done();
    let cancel = CancellationToken::new();
    let until = cancel.clone();
    let running = tokio::spawn(async move {
        operator.run_as_leader(settings(identity), until).await.expect("safe settings")
    });
    (cancel, running)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_operators_one_works_and_the_other_follows() {
    let stage = Stage::set().await;
    let calls = Arc::new(Mutex::new(Vec::new()));
    let (end_first, first) = candidate(&stage, "first", &calls);
    let taken = lease(&stage, "the first to lead", held_by("first")).await;
    assert_eq!((taken.lease_transitions, taken.lease_duration_seconds), (Some(0), Some(2)));
    let (end_second, second) = candidate(&stage, "second", &calls);
    stage.make("a", 1).await;
    eventually("a call", || async { (calls.lock().len() == 1).then_some(()) }).await;
    let renewed =
        lease(&stage, "a renewal", |spec| spec.renew_time != taken.renew_time && held_by("first")(spec))
            .await;
    assert_eq!(renewed.acquire_time, taken.acquire_time);

    end_first.cancel();
    assert_eq!(first.await.expect("an end"), LeadEnd::Ended);
    let followed = lease(&stage, "the second to lead", held_by("second")).await;
    assert_eq!(followed.lease_transitions, Some(1));
    stage.make("b", 1).await;
    eventually("another call", || async { (calls.lock().len() == 2).then_some(()) }).await;
    assert_eq!(*calls.lock(), ["first a", "second b"]);

    end_second.cancel();
    assert_eq!(second.await.expect("an end"), LeadEnd::Ended);
    let released = lease(&stage, "the lease to be given back", held_by("")).await;
    assert_eq!((released.lease_duration_seconds, released.lease_transitions), (Some(1), Some(1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_holder_is_followed_and_a_robbed_one_stops() {
    let stage = Stage::set().await;
    // Whoever wrote this will never renew it.
    let silent = Lease {
        metadata: kube::core::ObjectMeta { name: Some("widgets".into()), ..Default::default() },
        spec: Some(LeaseSpec {
            holder_identity: Some("silent".into()),
            lease_duration_seconds: Some(1),
            lease_transitions: Some(4),
            ..LeaseSpec::default()
        }),
    };
    leases(&stage).create(&Default::default(), &silent).await.expect("a lease");
    let election = LeaderElection::new(stage.client.clone(), Arc::new(SystemClock::new()), settings("next"))
        .expect("ok");
    let leading = tokio::spawn(election.lead(CancellationToken::new(), |told| async move {
        told.cancelled().await;
    }));
    let followed = lease(&stage, "the silent one to be followed", held_by("next")).await;
    assert_eq!(followed.lease_transitions, Some(5));

    let robbed = json!({ "spec": { "holderIdentity": "thief", "leaseDurationSeconds": 3600 } });
    leases(&stage)
        .patch("widgets", &PatchParams::default(), &Patch::Merge(robbed))
        .await
        .expect("a lease of somebody else");
    assert_eq!(leading.await.expect("an end"), LeadEnd::Lost);
    assert_eq!(lease(&stage, "the thief to keep it", held_by("thief")).await.lease_transitions, Some(5));
    leases(&stage).delete("widgets", &DeleteParams::default()).await.expect("deleted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_that_does_not_end_is_cut_when_the_lease_is_lost() {
    let stage = Stage::set().await;
    let election = LeaderElection::new(stage.client.clone(), Arc::new(SystemClock::new()), settings("deaf"))
        .expect("ok");
    let leading = tokio::spawn(election.lead(CancellationToken::new(), |_| std::future::pending()));
    lease(&stage, "the deaf one to lead", held_by("deaf")).await;
    let robbed = json!({ "spec": { "holderIdentity": "thief", "leaseDurationSeconds": 3600 } });
    leases(&stage)
        .patch("widgets", &PatchParams::default(), &Patch::Merge(robbed))
        .await
        .expect("a lease of somebody else");
    let ended = tokio::time::timeout(Duration::from_secs(30), leading).await.expect("a bound");
    assert_eq!(ended.expect("an end"), LeadEnd::Lost);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_a_lease_can_be_cancelled() {
    let stage = Stage::set().await;
    let calls = Arc::new(Mutex::new(Vec::new()));
    let (end_first, first) = candidate(&stage, "first", &calls);
    lease(&stage, "the first to lead", held_by("first")).await;
    let (end_second, second) = candidate(&stage, "second", &calls);
    end_second.cancel();
    assert_eq!(second.await.expect("an end"), LeadEnd::Ended);
    end_first.cancel();
    first.await.expect("an end");
    lease(&stage, "the lease to be given back", held_by("")).await;
}
