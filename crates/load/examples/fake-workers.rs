//! Many workers of a Locust master that run no users: they only report, so that what is measured is the master.
//!
//!     fake-workers PORT WORKERS NAMES SECONDS

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gantry_load::locust::{
    EntryReport, FromMaster, FromWorker, Number, StatsReport, Version, decode_from_master, encode_from_worker,
};
use gantry_load::zmtp::{Dealer, DealerConfig};

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

/// What a busy worker reports every three seconds: 300 requests of each name, over 40 response times.
fn report(names: usize, users: i64) -> StatsReport {
    let at = now();
    let entry = |name: String, factor: i64| EntryReport {
        name,
        method: "GET".to_owned(),
        last_request_timestamp: Some(at),
        start_time: at - 3.0,
        num_requests: 300 * factor,
        total_response_time: 6000.0 * factor as f64,
        min_response_time: Some(Number::Float(1.25)),
        total_content_length: 300_000 * factor,
        response_times: (1..=40).map(|ms| (Number::Int(ms), 300 * factor / 40)).collect(),
        num_reqs_per_sec: (1..=3).map(|second| (at as i64 - second, 100 * factor)).collect(),
        ..EntryReport::default()
    };
    StatsReport {
        stats: (0..names).map(|index| entry(format!("/page/{index}"), 1)).collect(),
        stats_total: entry("Aggregated".to_owned(), names as i64),
        user_classes_count: BTreeMap::from([("Shopper".to_owned(), users)]),
        user_count: users,
        ..StatsReport::default()
    }
}

async fn worker(port: u16, number: usize, names: usize) -> Option<()> {
    let id = format!("host{}_{number:032x}", number % 20);
    let mut dealer = Dealer::connect(DealerConfig::new("127.0.0.1", port, &id));
    let encode = |body: FromWorker| encode_from_worker(&body, &id).ok();
    dealer.send(encode(FromWorker::ClientReady(Version::Text("2.47.0".to_owned())))?).await;
    let mut users = 0;
    let mut state = "ready";
    // Workers do not report in step.
    let shift = Duration::from_millis(number as u64 * 37 % 3000);
    let start = tokio::time::Instant::now();
    let mut heartbeats = tokio::time::interval_at(start + shift / 3, Duration::from_secs(1));
    let mut reports = tokio::time::interval_at(start + shift, Duration::from_secs(3));
    loop {
        tokio::select! {
            heard = dealer.recv() => {
                match decode_from_master(&heard?).ok()?.body {
                    FromMaster::Spawn { user_classes_count, .. } => {
                        users = user_classes_count.values().sum();
                        state = "running";
                        dealer.send(encode(FromWorker::Spawning)?).await;
                        let done = FromWorker::SpawningComplete { user_classes_count, user_count: users };
                        dealer.send(encode(done)?).await;
                    }
                    FromMaster::Quit => return Some(()),
                    _ => {}
                }
            }
            _ = heartbeats.tick() => {
                let beat = FromWorker::Heartbeat { state: state.to_owned(), cpu: 12.5, memory: 50_000_000 };
                dealer.send(encode(beat)?).await;
            }
            _ = reports.tick() => {
                dealer.send(encode(FromWorker::Stats(Box::new(report(names, users))))?).await;
            }
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let numbers: Vec<usize> = std::env::args().skip(1).map(|text| text.parse()).collect::<Result<_, _>>()?;
    let [port, workers, names, seconds] = numbers.as_slice() else {
        return Err("usage: fake-workers PORT WORKERS NAMES SECONDS".into());
    };
    let port = u16::try_from(*port)?;
    for number in 0..*workers {
        tokio::spawn(worker(port, number, *names));
    }
    tokio::time::sleep(Duration::from_secs(*seconds as u64)).await;
    Ok(())
}
