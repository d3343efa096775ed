//! `up --detach`, `status`, `logs`, `down`: the same from another terminal.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{Shop, gantry, processes_below};

#[test]
fn a_detached_up_is_seen_and_ended_from_elsewhere() {
    let shop = Shop::copy();
    let data_dir = shop.data_dir();
    let run = |verb: &str, args: &[&str]| {
        let output = gantry().arg(verb).args(args).arg("--data-dir").arg(&data_dir).output().expect("starts");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };

    let (code, text) = run("status", &[]);
    assert_eq!(code, Some(1), "{text}");

    let overlay = shop.overlay();
    let (code, text) = run("up", &[overlay.to_str().expect("UTF-8"), "--detach", "--ports", "auto"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("gantry down"), "{text}");

    let (code, text) = run("status", &["--output", "json"]);
    assert_eq!(code, Some(0), "{text}");
    let status: serde_json::Value = serde_json::from_str(&text).expect("one JSON object");
    assert_eq!(status["running"], true);

    let output = shop.up_command().output().expect("starts");
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("is in use by pid"),
        "a second up took the folder"
    );

    let (code, text) = run("logs", &["catalog"]);
    assert_eq!(code, Some(0));
    assert!(text.contains("catalog"), "{text}");

    let (code, text) = run("down", &["--purge"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(!data_dir.exists());
    assert_eq!(processes_below(&data_dir), Vec::<u32>::new());
}

#[test]
fn what_was_made_by_hand_does_not_hold_up_the_next_start() {
    let shop = Shop::copy();
    let up = shop.up();
    let Some(made) = up.kubectl(&["run", "by-hand", "--image=nowhere", "-n", "shop-dev"]) else { return };
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    drop(up);
    let up = shop.up();
    assert_eq!(up.get("gateway", "shop.localhost", "/products").0, 200);
}

#[test]
fn the_end_is_timed_from_when_it_was_asked_for() {
    let shop = Shop::copy();
    let up = shop.up();
    std::thread::sleep(Duration::from_millis(300));
    let asked = Instant::now();
    up.signal(Signal::TERM);
    let line = up.says("the end", |line| line["step"] == "ended");
    let took = Duration::from_secs_f64(line["ms"].as_f64().expect("a number") / 1e3);
    assert!(took <= asked.elapsed(), "{line}");
}

#[test]
fn a_signal_that_comes_twice_is_one_request_to_end() {
    let shop = Shop::copy();
    let mut up = shop.up();
    up.signal(Signal::TERM);
    std::thread::sleep(Duration::from_millis(20));
    up.signal(Signal::TERM);
    assert_eq!(up.wait().code(), Some(0));
    assert_eq!(processes_below(&shop.data_dir()), Vec::<u32>::new());
}
