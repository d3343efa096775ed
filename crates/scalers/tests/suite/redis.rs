//! Lists and streams of a real Redis: lengths, pushes, and what happens when it goes away and comes back.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gantry_clock::SystemClock;
use gantry_scalers::{KeyspaceEvents, Settings};

use crate::server::{Server, eventually, free_port, program, scaler, scaler_of};

fn start(port: u16) -> Option<Server> {
    let redis = program("redis-server", &[])?;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut command = Command::new(redis);
    command.current_dir(folder.path()).args([
        "--port",
        &port.to_string(),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
    ]);
    Some(Server::start(&mut command, port, folder))
}

async fn client(port: u16) -> redis::aio::MultiplexedConnection {
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}")).expect("a client");
    client.get_multiplexed_async_connection().await.expect("a connection")
}

/// Which keyspace events the server sends.
async fn events_of(redis: &mut redis::aio::MultiplexedConnection) -> String {
    let asked: Vec<String> = redis::cmd("CONFIG")
        .arg("GET")
        .arg("notify-keyspace-events")
        .query_async(redis)
        .await
        .expect("the server says");
    asked.into_iter().nth(1).unwrap_or_default()
}

#[tokio::test]
async fn a_server_that_sends_no_events_is_left_as_it_is() {
    let Some(server) = start(free_port()) else { return };
    let address = format!("127.0.0.1:{}", server.port);
    let scaler = scaler("redis", &[("address", &address), ("listName", "jobs")]);
    let heard = Arc::new(AtomicU64::new(0));
    let counter = heard.clone();
    let _subscription = scaler.subscribe(Arc::new(move || {
        counter.fetch_add(1, Ordering::SeqCst);
    }));
    eventually("the list is looked at", async || heard.load(Ordering::SeqCst) > 0).await;
    let mut redis = client(server.port).await;
    assert_eq!(events_of(&mut redis).await, "");
}

#[tokio::test]
async fn whatever_has_elements_is_counted() {
    let Some(server) = start(free_port()) else { return };
    let address = format!("127.0.0.1:{}", server.port);
    let mut redis = client(server.port).await;
    let (): () = redis::pipe()
        .cmd("RPUSH")
        .arg("list")
        .arg(1)
        .arg(2)
        .arg(3)
        .cmd("SADD")
        .arg("set")
        .arg(1)
        .arg(2)
        .cmd("HSET")
        .arg("hash")
        .arg("a")
        .arg(1)
        .cmd("SET")
        .arg("text")
        .arg("x")
        .cmd("XADD")
        .arg("stream")
        .arg("*")
        .arg("k")
        .arg("v")
        .cmd("XADD")
        .arg("stream")
        .arg("*")
        .arg("k")
        .arg("v")
        .cmd("XGROUP")
        .arg("CREATE")
        .arg("stream")
        .arg("group")
        .arg(0)
        .cmd("XREADGROUP")
        .arg("GROUP")
        .arg("group")
        .arg("me")
        .arg("COUNT")
        .arg(1)
        .arg("STREAMS")
        .arg("stream")
        .arg(">")
        .ignore()
        .query_async(&mut redis)
        .await
        .expect("the server takes them");
    for (list, expected) in [("list", 3.0), ("set", 2.0), ("hash", 1.0), ("nothing", 0.0)] {
        let scaler =
            scaler("redis", &[("address", &address), ("listName", list), ("activationListLength", "2")]);
        let reading = scaler.read("").await.expect("a reading");
        assert_eq!((reading.value, reading.active), (expected, expected > 2.0), "{list}");
    }
    let text = scaler("redis", &[("address", &address), ("listName", "text")]);
    assert!(text.read("").await.is_err(), "a string has no length");
    let stream = |extra: &[(&str, &str)]| {
        let mut metadata = vec![("address", address.as_str()), ("stream", "stream")];
        metadata.extend_from_slice(extra);
        scaler("redis-streams", &metadata)
    };
    let group = ("consumerGroup", "group");
    for (scaler, expected) in
        [(stream(&[]), 2.0), (stream(&[group]), 1.0), (stream(&[group, ("lagCount", "1")]), 1.0)]
    {
        assert_eq!(scaler.read("").await.expect("a reading").value, expected);
    }
}

#[tokio::test]
async fn a_push_is_heard_and_a_lost_server_is_an_error_until_it_is_back() {
    let port = free_port();
    let Some(server) = start(port) else { return };
    let address = format!("127.0.0.1:{port}");
    let settings =
        Settings { keyspace_events: KeyspaceEvents::Enable, ..Settings::new(Arc::new(SystemClock::new())) };
    let scaler = scaler_of(settings, "redis", &[("address", &address), ("listName", "jobs")]);
    let heard = Arc::new(AtomicU64::new(0));
    let counter = heard.clone();
    let _subscription = scaler.subscribe(Arc::new(move || {
        counter.fetch_add(1, Ordering::SeqCst);
    }));
    eventually("the subscription holds", async || heard.load(Ordering::SeqCst) > 0).await;
    let before = heard.load(Ordering::SeqCst);
    let mut redis = client(port).await;
    assert_ne!(events_of(&mut redis).await, "", "the server was asked");
    let (): () = redis::cmd("RPUSH").arg("other").arg(1).query_async(&mut redis).await.expect("pushed");
    let (): () = redis::cmd("RPUSH").arg("jobs").arg(1).query_async(&mut redis).await.expect("pushed");
    eventually("the push is heard", async || heard.load(Ordering::SeqCst) > before).await;
    assert_eq!(scaler.read("").await.expect("a reading").value, 1.0);
    drop(server);
    assert!(scaler.read("").await.is_err(), "a server that is gone is not an empty list");
    let _again = start(port);
    eventually("it is read again", async || scaler.read("").await.is_ok()).await;
}
