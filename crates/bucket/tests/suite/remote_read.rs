//! The real Prometheus as a store, over its remote-read API.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gantry_bucket::storeapi::{LabelsQuery, StoreApi};
use gantry_bucket::{FanOutOptions, RemoteRead};

use crate::common::{HOUR, T0, fan_out, read, runtime, store};

fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file());
    if found.is_none() {
        println!("skipped: {name} not found");
    }
    found
}

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn is_ready(port: u16) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        write!(stream, "GET /-/ready HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.0 200"))
}

#[test]
fn prometheus_hands_out_its_chunks() {
    let Some(prometheus) = program("prometheus") else { return };
    let (dir, runtime) = (tempfile::tempdir().unwrap(), runtime());
    let db = store(&dir.path().join("data"), 9, |id, minute| (id as i64 * minute) as f64 / 3.0);
    let end = T0 + 9 * HOUR;
    let ours = read(&db, None, end).unwrap();
    drop(db);
    let config = dir.path().join("prometheus.yml");
    std::fs::write(&config, "global: {external_labels: {cluster: eu}}\n").unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let child = Command::new(prometheus)
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .args(["--storage.tsdb.retention.time=100y", "--log.level=error"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _server = Server(child);
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_ready(port) {
        assert!(Instant::now() < deadline, "prometheus is not ready");
        std::thread::sleep(Duration::from_millis(50));
    }
    let store =
        RemoteRead::new(&format!("http://127.0.0.1:{port}"), runtime.handle().clone(), T0 - HOUR).unwrap();
    assert_eq!(store.info(), None, "not known before it was asked");
    let external = runtime.block_on(store.poll()).unwrap();
    assert_eq!(external.to_string(), "{cluster=\"eu\"}");
    let theirs = read(&fan_out(store.clone(), FanOutOptions::default()), None, end).unwrap();
    assert_eq!(theirs.len(), ours.len());
    for (series, samples) in theirs {
        assert_eq!(samples, ours[&series.replace("cluster=\"eu\", ", "")], "{series}");
    }
    let query = LabelsQuery { min_ms: T0, max_ms: end, ..LabelsQuery::default() };
    let store: Arc<dyn StoreApi> = store;
    assert_eq!(store.label_names(&query).unwrap().values, ["__name__", "cluster", "id", "job"]);
    assert_eq!(store.label_values("cluster", &query).unwrap().values, ["eu"]);
    assert_eq!(store.label_values("id", &query).unwrap().values.len(), 10);
}
