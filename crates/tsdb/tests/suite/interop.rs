//! The folder goes to the real Prometheus and comes back.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use gantry_tsdb::{Db, DbOptions};

use crate::common::{append, labels, read_all};

pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file());
    if found.is_none() {
        println!("skipped: {name} not found");
    }
    found
}

pub(crate) fn now_ms() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64
}

pub(crate) struct Server(Child, pub(crate) u16);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn start(prometheus: &Path, config: &str, dir: &Path, more: &[&str]) -> Server {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let file = dir.join("prometheus.yml");
    fs::write(&file, config.replace("PORT", &port.to_string())).unwrap();
    let child = Command::new(prometheus)
        .arg(format!("--config.file={}", file.display()))
        .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .arg("--log.level=warn")
        .args(more)
        .stdout(Stdio::null())
        .stderr(fs::File::create(dir.join("stderr")).unwrap())
        .spawn()
        .unwrap();
    let server = Server(child, port);
    let deadline = Instant::now() + Duration::from_secs(60);
    while !get(port, "/-/ready").is_some_and(|answer| answer.starts_with("HTTP/1.1 200")) {
        let log = fs::read_to_string(dir.join("stderr")).unwrap_or_default();
        assert!(Instant::now() < deadline, "prometheus is not ready: {log}");
        std::thread::sleep(Duration::from_millis(50));
    }
    server
}

pub(crate) fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

#[test]
fn prometheus_reads_our_log() {
    let Some(prometheus) = program("prometheus") else { return };
    let dir = tempfile::tempdir().unwrap();
    let now = now_ms();
    let db = Db::open(&dir.path().join("data"), DbOptions::default(), now).unwrap();
    let start_ms = now - 600_000;
    for step in 0..60 {
        append(&db, 30, start_ms + step * 10_000, |id| (id as i64 * step) as f64 / 4.0);
    }
    let ours = read_all(&db);
    drop(db);
    let server = start(&prometheus, "global: {}\n", dir.path(), &[]);
    let query = format!("/api/v1/query?query=sum_over_time(requests_total[30m])&time={}", now / 1000);
    let answer = get(server.1, &query).unwrap();
    for id in (0..30).step_by(2) {
        let sum: f64 = ours[&labels(id).to_string()].iter().map(|(_, bits)| f64::from_bits(*bits)).sum();
        let expected = format!(
            "\"id\":\"{id}\",\"instance\":\"10.0.0.{}:9090\",\"job\":\"shop\"}},\"value\":[{},\"{sum}\"]",
            id % 7,
            now / 1000
        );
        assert!(answer.contains(&expected), "{expected} is not in {answer}");
    }
    let log = fs::read_to_string(dir.path().join("stderr")).unwrap();
    assert!(!log.contains("orrupt") && !log.contains("nknown series"), "{log}");
}

/// `{labels} value time` lines of `promtool tsdb dump`.
pub(crate) fn dump(promtool: &Path, dir: &Path) -> BTreeMap<String, Vec<(i64, u64)>> {
    let output = Command::new(promtool).args(["tsdb", "dump"]).arg(dir).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut found: BTreeMap<String, Vec<(i64, u64)>> = BTreeMap::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let (rest, time) = line.rsplit_once(' ').unwrap();
        let (series, value) = rest.rsplit_once(' ').unwrap();
        let value: f64 = value.replace("+Inf", "inf").parse().unwrap();
        found.entry(series.to_owned()).or_default().push((time.parse().unwrap(), value.to_bits()));
    }
    found
}

#[test]
fn promtool_dumps_what_we_wrote() {
    let Some(promtool) = program("promtool") else { return };
    let dir = tempfile::tempdir().unwrap();
    let now = now_ms();
    let db = Db::open(dir.path(), DbOptions::default(), now).unwrap();
    for step in 0..500 {
        append(&db, 10, now - 3_000_000 + step * 5_000, |id| ((id as i64 + 1) * step) as f64 / 3.0);
    }
    let ours = read_all(&db);
    drop(db);
    let theirs = dump(&promtool, dir.path());
    assert_eq!(theirs.len(), ours.len());
    assert_eq!(theirs.values().collect::<Vec<_>>(), ours.values().collect::<Vec<_>>());
}

#[test]
fn we_read_what_prometheus_wrote() {
    let (Some(prometheus), Some(promtool)) = (program("prometheus"), program("promtool")) else { return };
    let dir = tempfile::tempdir().unwrap();
    let config = "global: {scrape_interval: 200ms}\nscrape_configs:\n- job_name: self\n  static_configs:\n  - targets: ['localhost:PORT']\n";
    let server = start(&prometheus, config, dir.path(), &[]);
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let answer = get(server.1, "/api/v1/query?query=count_over_time(up[1m])>10").unwrap();
        if answer.contains("\"value\"") {
            break;
        }
        assert!(Instant::now() < deadline, "prometheus does not scrape itself: {answer}");
        std::thread::sleep(Duration::from_millis(100));
    }
    // Killed, not stopped: its log ends wherever it was.
    drop(server);
    let data = dir.path().join("data");
    let theirs = dump(&promtool, &data);
    let db = Db::open(&data, DbOptions::default(), now_ms()).unwrap();
    let ours = read_all(&db);
    assert!(ours.len() > 200, "{} series", ours.len());
    assert_eq!(theirs.len(), ours.len());
    let (theirs, ours): (Vec<_>, Vec<_>) = (sorted(theirs), sorted(ours));
    assert_eq!(theirs, ours);
    drop(db);
    // And back again: what we appended to is still theirs to read.
    let db = Db::open(&data, DbOptions::default(), now_ms()).unwrap();
    append(&db, 5, now_ms(), |id| id as f64);
    drop(db);
    assert_eq!(dump(&promtool, &data).len(), theirs.len() + 5);
}

/// By samples alone: the two print label names in another form. A dump writes all NaNs alike.
pub(crate) fn sorted(series: BTreeMap<String, Vec<(i64, u64)>>) -> Vec<Vec<(i64, u64)>> {
    let plain = |bits: u64| if f64::from_bits(bits).is_nan() { f64::NAN.to_bits() } else { bits };
    let mut samples: Vec<Vec<(i64, u64)>> = series
        .into_values()
        .map(|samples| samples.into_iter().map(|(t, bits)| (t, plain(bits))).collect())
        .collect();
    samples.sort_unstable();
    samples
}
