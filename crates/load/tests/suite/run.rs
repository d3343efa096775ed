//! Whole runs: counts, both latencies, failures by kind, stopping, thresholds, series.

use std::sync::Arc;

use gantry_clock::SystemClock;
use gantry_load::{Options, Run, Scenario, Summary, Target};
use gantry_prom_model::Registry;

use crate::server;

fn start(text: &str, registry: Option<Registry>) -> (Run, server::Seen) {
    let (address, seen) = server::start();
    let scenario = Scenario::parse("test.yaml", text).unwrap();
    let target = Some(Target::parse(&format!("http://{address}")).unwrap());
    let run = Run::start(scenario, Arc::new(SystemClock::new()), Options { target, threads: 2, registry });
    (run.unwrap(), seen)
}

fn wait(run: &Run) -> Arc<Summary> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(run.wait())
}

#[test]
fn an_open_load_sends_every_arrival_once() {
    let text = "duration: 2s\narrivals: {rate: 100/s}\nseed: 4\nrequests:\n- {path: '/a/{1..3}', weight: 3, name: a}\n- {path: /chunked, name: b}\n";
    let registry = Registry::new();
    let (run, seen) = start(text, Some(registry.clone()));
    let summary = wait(&run);
    assert_eq!((summary.total.requests, summary.total.failed), (200, 0), "{}", summary.to_text());
    assert_eq!(seen.lock().unwrap().len(), 200);
    assert_eq!(summary.total.intended.count, 200);
    assert!(summary.passed && summary.ended_early.is_none());
    let metrics = registry.encode();
    let by_name = |name: &str| summary.requests.iter().find(|r| r.name == name).map_or(0, |r| r.requests);
    assert!(
        metrics
            .contains(&format!("gantry_load_requests_total{{code=\"200\",request=\"a\"}} {}", by_name("a"))),
        "{metrics}"
    );
    assert!(
        metrics.contains("gantry_load_request_duration_seconds_count{from=\"intended\",request=\"b\"}"),
        "{metrics}"
    );

    // The same seed chooses the same requests, in whatever order the threads send them.
    let (again, seen_again) = start(text, None);
    wait(&again);
    let paths = |seen: &server::Seen| {
        let mut paths: Vec<String> =
            seen.lock().unwrap().iter().filter_map(|head| head.lines().next().map(str::to_owned)).collect();
        paths.sort();
        paths
    };
    assert_eq!(paths(&seen), paths(&seen_again));
}

#[test]
fn latency_from_the_intended_start_shows_what_a_stall_hides() {
    // One connection and a server that takes 200 ms: requests are due every 50 ms, so they queue.
    let text = "duration: 1s\narrivals: {rate: 20/s, max_in_flight: 1}\nrequests: [/sleep/200]\n";
    let (address, _) = server::start();
    let scenario = Scenario::parse("test.yaml", text).unwrap();
    let target = Some(Target::parse(&format!("http://{address}")).unwrap());
    let options = Options { target, threads: 1, registry: None };
    let summary = wait(&Run::start(scenario, Arc::new(SystemClock::new()), options).unwrap());
    assert_eq!((summary.total.requests, summary.total.failed), (20, 0));
    let (intended, sent) = (summary.total.intended, summary.total.sent);
    // The last one was due at 0.95 s and could not be sent before 3.8 s.
    assert!(intended.max_ms.is_some_and(|ms| ms > 2800.0), "{intended:?}");
    assert!(intended.p50_ms > sent.p50_ms, "{intended:?} {sent:?}");
}

#[test]
fn users_wait_for_their_answers_and_think() {
    let text = "duration: 1s\nusers: {count: 3, think: 100ms}\nrequests: [/sleep/100]\n";
    let (run, _) = start(text, None);
    let summary = wait(&run);
    // Each takes 200 ms or more per turn: at most five turns begin within the second.
    assert!((3..=15).contains(&summary.total.requests), "{}", summary.to_text());
    assert!(summary.total.sent.p50_ms.is_some_and(|ms| ms >= 100.0));
    assert_eq!(summary.generator.connects, 3, "connections are kept");
}

#[test]
fn failures_are_counted_by_kind() {
    let text = "duration: 1s\narrivals: 50\ntimeout: 300ms\nrequests:\n- /status/503\n- /hang\n- /cut\n- /garbage\n- {path: /status/404, expect: 404}\n";
    let (run, _) = start(&text.replace("arrivals: 50", "arrivals: {rate: 50}"), None);
    let summary = wait(&run);
    let kinds: Vec<(&str, &str)> = summary
        .requests
        .iter()
        .flat_map(|r| r.failures.iter().map(|(kind, _)| (r.name.as_str(), kind.as_str())))
        .collect();
    let expected = [
        ("GET /status/503", "status"),
        ("GET /hang", "timeout"),
        ("GET /cut", "closed"),
        ("GET /garbage", "protocol"),
    ];
    assert_eq!(kinds, expected, "{}", summary.to_text());
    for row in &summary.requests {
        let failed: u64 = row.failures.iter().map(|(_, count)| count).sum();
        assert_eq!(failed, if row.name.ends_with("404") { 0 } else { row.requests }, "{row:?}");
    }
}

#[test]
fn nobody_at_the_target_is_a_failure_and_no_spin() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let scenario = Scenario::parse("t.yaml", "duration: 1s\nusers: 2\nrequests: [/]\n").unwrap();
    let target = Some(Target::parse(&format!("http://{gone}")).unwrap());
    let options = Options { target, threads: 1, registry: None };
    let summary = wait(&Run::start(scenario, Arc::new(SystemClock::new()), options).unwrap());
    assert!((2..=20).contains(&summary.total.requests), "{}", summary.to_text());
    assert_eq!(summary.total.failures, [("connect".to_owned(), summary.total.requests)]);
}

#[test]
fn stopping_ends_the_run_after_what_is_in_flight() {
    let (run, seen) = start("duration: 1h\nusers: {count: 4, think: 30m}\nrequests: [/sleep/100]\n", None);
    while seen.lock().unwrap().len() < 4 {
        std::thread::yield_now();
    }
    run.stop();
    let summary = wait(&run);
    assert_eq!((summary.total.requests, summary.total.failed), (4, 0));
    assert_eq!(summary.ended_early.as_deref(), Some("stopped"));
}

#[test]
fn a_request_that_outlives_the_grace_period_is_unfinished() {
    let (run, _) = start("duration: 500ms\ngrace: 100ms\nusers: 2\nrequests: [/hang]\n", None);
    let summary = wait(&run);
    assert_eq!(summary.total.failures, [("unfinished".to_owned(), 2)]);
}

#[test]
fn a_broken_threshold_fails_the_run_and_may_end_it() {
    let text = "duration: 1h\narrivals: {rate: 20}\nrequests: [/status/500]\nthresholds:\n  load:\n  - {expr: error_rate == 0, over: 1s, abort: true}\n  - send_p99 < 1h\n";
    let (run, _) = start(text, None);
    let summary = wait(&run);
    assert!(!summary.passed);
    assert!(summary.ended_early.as_ref().is_some_and(|why| why.contains("error_rate == 0")), "{summary:?}");
    let verdicts: Vec<bool> = summary.thresholds.iter().map(|outcome| outcome.passed).collect();
    assert_eq!(verdicts, [false, true]);
    assert!(summary.to_text().contains("FAILED  error_rate == 0 over every 1s"));
}

#[test]
fn bodies_and_headers_are_sent_as_written() {
    let text = "duration: 100ms\narrivals: {rate: 10}\nheaders: {x-all: '1', accept: text/plain}\nrequests:\n- {method: POST, path: /p, json: {a: [1, true]}, headers: {Accept: '*/*', host: shop.example}}\n";
    let (run, seen) = start(text, None);
    wait(&run);
    let seen = seen.lock().unwrap();
    let expected = format!(
        "POST /p HTTP/1.1\r\nuser-agent: gantry-load/{}\r\ncontent-type: application/json\r\ncontent-length: 16\r\n\
         x-all: 1\r\nAccept: */*\r\nhost: shop.example\r\n\r\n{{\"a\":[1,true]}}",
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(seen.first(), Some(&expected.replace("content-length: 16", "content-length: 14")));
}
