//! Load from the console: the project's scenario is offered, started, watched and stopped through `up`'s gateway.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{PATIENCE, Shop};

/// The status and the body of a JSON post, as the page sends it.
fn post(address: SocketAddr, path: &str, origin: &str, body: &Value) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("the console listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    let body = body.to_string();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\norigin: {origin}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).expect("the console reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the console answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    (status, body.to_owned())
}

#[test]
fn load_is_started_watched_and_stopped_from_the_console() {
    let shop = Shop::copy();
    let up = shop.up();
    let console = up.address("console");
    let own = format!("http://{console}");
    let view = || -> Value {
        let (status, body) = up.get("console", "localhost", "/api/load");
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).expect("JSON")
    };
    let offered = view();
    let names: Vec<&str> =
        offered["scenarios"].as_array().unwrap().iter().filter_map(|s| s["name"].as_str()).collect();
    assert_eq!(names, ["load.yaml"], "the scenario beside the overlays is found, and nothing else");

    let text = "name: from the page\ntarget: http://shop.localhost\nduration: 10m\nusers: 2\nrequests: [/products]\n";
    let wish = json!({"name": "load.yaml", "text": text});
    assert_eq!(post(console, "/api/load/start", "http://example.com", &wish).0, 403);
    let (status, reason) =
        post(console, "/api/load/start", &own, &json!({"name": "x.yaml", "text": "users: 2\n"}));
    assert!(status == 400 && reason.starts_with("x.yaml:"), "{status} {reason}");
    assert_eq!(post(console, "/api/load/start", &own, &wish).0, 200);
    let (status, reason) = post(console, "/api/load/start", &own, &wish);
    assert!(status == 400 && reason.contains("is still running"), "{status} {reason}");

    let wait = |what: &str, holds: &dyn Fn(&Value) -> bool| -> Value {
        let began = Instant::now();
        loop {
            let run = view()["run"].clone();
            if holds(&run) {
                return run;
            }
            assert!(began.elapsed() < PATIENCE, "waited in vain until {what}: {run}");
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    let run =
        wait("requests are answered", &|run| run["total_requests"].as_u64().is_some_and(|count| count > 20));
    assert_eq!((run["running"].as_bool(), run["total_failed"].as_u64()), (Some(true), Some(0)), "{run}");
    assert_eq!(post(console, "/api/load/stop", &own, &json!({})).0, 200);
    let run = wait("the run is over", &|run| run["running"] == false);
    assert_eq!(run["ended_early"], "stopped");
}
