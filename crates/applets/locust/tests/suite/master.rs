//! The master with raw workers of our own: what every address answers, without any Python.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gantry_load::locust::{
    EntryReport, FromMaster, FromWorker, Number, StatsReport, Version, decode_from_master, encode_from_worker,
};
use gantry_load::zmtp::{Dealer, DealerConfig};

use crate::harness::{Process, applet, free_port, get_json, http, locustfile, until};

/// A worker that says what it is told to say.
struct RawWorker {
    dealer: Dealer,
    id: String,
    /// Whether its heartbeats say that it runs users.
    running: Arc<AtomicBool>,
}

impl RawWorker {
    fn connect(port: u16, id: &str) -> RawWorker {
        let dealer = Dealer::connect(DealerConfig::new("127.0.0.1", port, id));
        RawWorker { dealer, id: id.to_owned(), running: Arc::default() }
    }

    /// Keeps the master from thinking that it is gone, however slow the machine is.
    fn beat(&self) {
        let (out, id, running) = (self.dealer.sender(), self.id.clone(), self.running.clone());
        tokio::spawn(async move {
            loop {
                let state = if running.load(Ordering::SeqCst) { "running" } else { "ready" };
                let beat = FromWorker::Heartbeat { state: state.to_owned(), cpu: 1.0, memory: 1 };
                if out.send(encode_from_worker(&beat, &id).unwrap()).await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        });
    }

    async fn say(&self, body: FromWorker) {
        assert!(self.dealer.send(encode_from_worker(&body, &self.id).unwrap()).await);
    }

    /// The next message that is not the echo of a heartbeat.
    async fn hear(&mut self) -> FromMaster {
        loop {
            let heard = tokio::time::timeout(crate::harness::PATIENCE, self.dealer.recv()).await;
            let message =
                decode_from_master(&heard.expect("an answer in time").expect("the connection lives"));
            match message.unwrap().body {
                FromMaster::Heartbeat => {}
                other => return other,
            }
        }
    }
}

fn report(requests: i64, now: f64) -> StatsReport {
    let entry = EntryReport {
        name: "/a".to_owned(),
        method: "GET".to_owned(),
        start_time: now,
        last_request_timestamp: Some(now + 1.0),
        num_requests: requests,
        total_response_time: 3.5 * requests as f64,
        min_response_time: Some(Number::Float(3.5)),
        response_times: vec![(Number::Int(4), requests)],
        num_reqs_per_sec: vec![(now as i64, requests)],
        ..EntryReport::default()
    };
    let total = EntryReport { name: "Aggregated".to_owned(), method: String::new(), ..entry.clone() };
    let user_classes_count = BTreeMap::from([("Shopper".to_owned(), 0)]);
    StatsReport { stats: vec![entry], stats_total: total, user_classes_count, ..StatsReport::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_raw_worker_goes_through_a_whole_run() {
    let folder = tempfile::tempdir().unwrap();
    let file = locustfile(folder.path(), "# nothing is read of it here\n");
    let (port, web) = (free_port(), free_port());
    let mut command = applet();
    command
        .args(["--master", "--master-bind-host", "127.0.0.1", "--web-host", "127.0.0.1", "-f"])
        .arg(&file)
        .args([
            "--master-bind-port",
            &port.to_string(),
            "--web-port",
            &web.to_string(),
            "--web-base-path",
            "/load",
        ]);
    let _master = Process::start(command, folder.path().join("master.log"));
    until("the web interface answers", || get_json(web, "/load/state"));

    let mut asking = RawWorker::connect(port, "box_download_locustfile_1");
    asking.say(FromWorker::Locustfile { version: Some("2.47.0".to_owned()) }).await;
    let FromMaster::Locustfile(Ok(files)) = asking.hear().await else { panic!("no files") };
    assert_eq!(files.len(), 2, "the file and what describes it");

    let mut worker = RawWorker::connect(port, "box_1");
    worker.say(FromWorker::ClientReady(Version::Unchecked)).await;
    assert!(matches!(worker.hear().await, FromMaster::Ack { index: Some(0) }));
    worker.beat();
    worker.say(FromWorker::Stats(Box::new(report(0, 1000.0)))).await;
    until("the class is known", || get_json(web, "/load/tasks")?["total"].get("Shopper").cloned());
    let answer = http(web, "POST", "/load/swarm", "user_count=x&spawn_rate=1").unwrap().2;
    assert!(answer.contains("Invalid user_count value: 'x' (must be an integer)"), "{answer}");
    let answer = http(web, "POST", "/load/swarm", "user_count=2").unwrap().2;
    assert!(answer.contains("Missing or invalid user_count or spawn_rate from /swarm request"), "{answer}");
    let answer =
        http(web, "POST", "/load/swarm", "user_count=2&spawn_rate=9&host=http%3A%2F%2F127.0.0.1&run_time=1h")
            .unwrap()
            .2;
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    let expected = serde_json::json!({
        "success": true, "message": "Swarming started", "host": "http://127.0.0.1", "run_time": 3600,
    });
    assert_eq!(answer, expected);
    let FromMaster::Spawn { user_classes_count, host, .. } = worker.hear().await else { panic!("no spawn") };
    assert_eq!((user_classes_count["Shopper"], host.as_deref()), (2, Some("http://127.0.0.1")));
    worker.running.store(true, Ordering::SeqCst);
    worker.say(FromWorker::Spawning).await;
    worker.say(FromWorker::SpawningComplete { user_classes_count, user_count: 2 }).await;
    assert!(matches!(worker.hear().await, FromMaster::SpawningComplete { user_count: 2 }));
    worker.say(FromWorker::Stats(Box::new(report(10, 2000.0)))).await;
    worker
        .say(FromWorker::Exception { msg: "boom".to_owned(), traceback: "line 1\nline 2".to_owned() })
        .await;
    let total = until("the report is counted", || {
        let total = get_json(web, "/load/stats/requests")?["stats"].as_array()?.last()?.clone();
        (total["num_requests"] == 10).then_some(total)
    });
    assert_eq!(
        (total["avg_response_time"].as_f64(), total["min_response_time"].as_f64()),
        (Some(3.5), Some(4.0))
    );
    let exceptions = until("the exception is counted", || {
        let exceptions = get_json(web, "/load/exceptions")?;
        (!exceptions["exceptions"].as_array()?.is_empty()).then_some(exceptions)
    });
    assert_eq!(exceptions["exceptions"][0]["nodes"], "box_1");
    let (_, _, csv) = http(web, "GET", "/load/exceptions/csv", "").unwrap();
    assert!(csv.ends_with("1,boom,\"line 1\nline 2\",box_1\r\n"), "{csv:?}");
    for (path, kind) in [
        ("/load/", "text/html"),
        ("/load/stats/report", "text/html"),
        ("/load/assets/page.js", "text/javascript"),
    ] {
        let (status, head, _) = http(web, "GET", path, "").unwrap();
        assert!(status == 200 && head.contains(kind), "{path}: {head}");
    }
    assert_eq!(http(web, "GET", "/load/stats/requests_full_history/csv", "").unwrap().0, 404);
    assert_eq!(http(web, "POST", "/load/stats/reset", "").unwrap().2, "ok");
    let stopping = std::thread::spawn(move || http(web, "POST", "/load/stop", "").unwrap());
    assert!(matches!(worker.hear().await, FromMaster::Stop));
    worker.running.store(false, Ordering::SeqCst);
    worker.say(FromWorker::ClientStopped).await;
    assert!(stopping.join().unwrap().2.contains("Test stopped"));
}
