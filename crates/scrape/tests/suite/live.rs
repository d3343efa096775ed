//! Scraping over real sockets, and the coming and going of targets.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use gantry_clock::SystemClock;
use gantry_prom_model::{Gather, Registry};
use gantry_scrape::{Config, FileDiscoverer, Health, InProcess, Job, Scraping, Static};

use crate::common::{Store, read, store};

/// Serves one answer per path until the test ends.
struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

fn serve() -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            counted.fetch_add(1, Ordering::SeqCst);
            std::thread::spawn(move || answer(stream));
        }
    });
    Server { address, connections }
}

fn answer(mut stream: TcpStream) {
    let mut buffer = Vec::new();
    let mut chunk = [0; 1024];
    loop {
        let Ok(count @ 1..) = stream.read(&mut chunk) else { return };
        buffer.extend_from_slice(&chunk[..count]);
        let Some(end) = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { continue };
        let request = String::from_utf8_lossy(&buffer[..end]).to_lowercase();
        buffer.drain(..end + 4);
        let path = request.split(' ').nth(1).unwrap_or("").to_owned();
        let text = "# TYPE hits counter\nhits_total 7\n";
        let (status, kind, extra, body): (&str, &str, &str, Vec<u8>) = match path.as_str() {
            "/plain" => ("200 OK", "text/plain; version=0.0.4", "", b"hits_total 7\n".to_vec()),
            "/open" => {
                ("200 OK", "application/openmetrics-text; version=1.0.0", "", format!("{text}# EOF\n").into())
            }
            "/gzip" => {
                assert!(request.contains("accept-encoding: gzip"));
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(b"hits_total 7\n").unwrap();
                ("200 OK", "text/plain", "Content-Encoding: gzip\r\n", encoder.finish().unwrap())
            }
            "/moved" => ("302 Found", "text/plain", "Location: /plain\r\n", Vec::new()),
            "/auth" if request.contains("authorization: basic dtpw") => {
                ("200 OK", "text/plain", "", b"hits_total 7\n".to_vec())
            }
            "/auth" => ("401 Unauthorized", "text/plain", "", Vec::new()),
            "/html" => ("200 OK", "text/html", "", b"<html>".to_vec()),
            "/large" => ("200 OK", "text/plain", "", vec![b'\n'; 100_000]),
            "/hang" => {
                std::thread::sleep(Duration::from_secs(60));
                return;
            }
            _ => ("404 Not Found", "text/plain", "", Vec::new()),
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{extra}Content-Length: {}\r\n\r\n",
            body.len()
        );
        if stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body)).is_err() {
            return;
        }
    }
}

fn jobs(text: &str) -> Vec<Job> {
    let config = Config::parse("test.yml", text).unwrap();
    config
        .scrape_configs
        .into_iter()
        .map(|config| Job {
            discoverers: vec![Box::new(Static::from_config(&config.static_configs))],
            config,
        })
        .collect()
}

fn scraping(store: &Store) -> Scraping {
    Scraping::new(store.db.clone(), Arc::new(SystemClock::new()), &Registry::new(), 0)
}

/// Waits until `done` holds; the bound only ends a test that will fail.
async fn until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..1500 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("waited in vain until {what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_answer() {
    let server = serve();
    let store = store();
    let scraping = scraping(&store);
    let mut text = String::from("global: {scrape_interval: 500ms, scrape_timeout: 300ms}\nscrape_configs:\n");
    let fields = [
        ("plain", ""),
        ("open", ""),
        ("gzip", ""),
        ("moved", ""),
        ("auth", "  basic_auth: {username: u, password: 'p'}\n"),
        ("html", ""),
        ("large", "  body_size_limit: 1KB\n"),
        ("hang", ""),
        ("absent", ""),
    ];
    for (name, extra) in fields {
        text.push_str(&format!(
            "- job_name: {name}\n  metrics_path: /{name}\n{extra}  static_configs: [{{targets: ['{}']}}]\n",
            server.address
        ));
    }
    scraping.apply(jobs(&text));
    let all_scraped = || {
        let view = scraping.targets();
        view.active.len() == fields.len() && view.active.iter().all(|t| t.status.health != Health::Unknown)
    };
    until("all targets are scraped", all_scraped).await;
    let view = scraping.targets();
    let status = |pool: &str| view.active.iter().find(|target| target.pool == pool).unwrap().status.clone();
    for pool in ["plain", "open", "gzip", "moved", "auth"] {
        assert_eq!((status(pool).last_error.as_str(), status(pool).last_samples), ("", 1), "{pool}");
    }
    for (pool, expected) in [
        ("html", "unsupported Content-Type \"text/html\""),
        ("large", "body size limit exceeded"),
        ("hang", "context deadline exceeded"),
        ("absent", "server returned HTTP status 404 Not Found"),
    ] {
        assert!(status(pool).last_error.contains(expected), "{pool}: {}", status(pool).last_error);
    }
    scraping.shutdown().await;
    let found = read(&*store.db);
    assert_eq!(found.keys().filter(|series| series.contains("hits_total")).count(), 5);
    assert!(
        found.values().flatten().all(|(_, value)| value != "stale"),
        "a shutdown is not the end of a series"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_kept() {
    let server = serve();
    let store = store();
    let scraping = scraping(&store);
    scraping.apply(jobs(&format!(
        "scrape_configs: [{{job_name: a, scrape_interval: 200ms, metrics_path: /plain, static_configs: [{{targets: ['{}']}}]}}]",
        server.address
    )));
    let mut stored = scraping.stored();
    let first = tokio::time::timeout(Duration::from_secs(20), stored.wait_for(|scrapes| *scrapes > 0)).await;
    first.expect("word of the first scrape").expect("it still scrapes");
    let ups =
        || read(&*store.db).iter().find(|(series, _)| series.contains("\"up\"")).map_or(0, |(_, s)| s.len());
    assert!(ups() >= 1, "what there is word of can be read");
    until("it is scraped ten times", || ups() >= 10).await;
    scraping.shutdown().await;
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn targets_come_and_go_with_their_file() {
    let store = store();
    let scraping = scraping(&store);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("targets.json");
    let server = serve();
    let targets = format!(r#"[{{"targets": ["{}"], "labels": {{"team": "shop"}}}}]"#, server.address);
    std::fs::write(&file, &targets).unwrap();
    let text = "scrape_configs: [{job_name: a, scrape_interval: 50ms, metrics_path: /plain, file_sd_configs: [{files: ['targets.json']}]}]";
    let config = Config::parse("t.yml", text).unwrap().scrape_configs.remove(0);
    let discoverer = FileDiscoverer::new(&config.file_sd_configs[0], dir.path());
    scraping.apply(vec![Job { config, discoverers: vec![Box::new(discoverer)] }]);
    let hits = || {
        let all = read(&*store.db);
        all.into_iter().find(|(series, _)| series.contains("hits_total")).map(|(_, samples)| samples)
    };
    until("it is scraped", || hits().is_some()).await;
    assert!(read(&*store.db).keys().any(|series| series.contains("team=\"shop\"")));
    std::fs::write(&file, "[]").unwrap();
    until("its series are stale", || hits().unwrap().last().unwrap().1 == "stale").await;
    assert!(scraping.targets().active.is_empty());
    std::fs::write(&file, &targets).unwrap();
    until("it is scraped again", || hits().unwrap().last().unwrap().1 == "7").await;
    scraping.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_configuration_takes_over_without_a_gap() {
    let store = store();
    let scraping = scraping(&store);
    let registry = Registry::new();
    registry.counter("hits_total", "Hits.").inc_by(7);
    let gather: Arc<dyn Gather> = Arc::new(registry);
    let local = |limit: u64| {
        let text =
            format!("scrape_configs: [{{job_name: gateway, scrape_interval: 30ms, target_limit: {limit}}}]");
        let config = Config::parse("t.yml", &text).unwrap().scrape_configs.remove(0);
        let targets = ["a", "b"].map(|name| (name.to_owned(), gather.clone()));
        vec![Job { config, discoverers: vec![Box::new(InProcess::new(targets))] }]
    };
    scraping.apply(local(0));
    let up = || scraping.targets().active.iter().filter(|target| target.status.health == Health::Up).count();
    until("both are up", || up() == 2).await;
    scraping.apply(local(0));
    until("both are up again", || up() == 2).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let found = read(&*store.db);
    assert_eq!(found.keys().filter(|series| series.contains("hits_total")).count(), 2);
    assert!(found.values().flatten().all(|(_, value)| value != "stale"), "a reload ended a series");
    scraping.apply(local(1));
    let refused = || {
        scraping
            .targets()
            .active
            .iter()
            .filter(|t| t.status.last_error.starts_with("target_limit exceeded"))
            .count()
    };
    until("both are refused", || refused() == 2).await;
    scraping.shutdown().await;
}
