//! A server over made-up data, in process and on a socket.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use gantry_applet_prometheus::{Prometheus, Settings};
use gantry_clock::ManualClock;
use gantry_prom_model::{Appendable, Labels, Registry};
use gantry_serve::{ListenConfig, Listener};
use gantry_tsdb::Db;
use tokio_util::sync::CancellationToken;

/// A whole hour, so that the figures below are round.
pub(crate) const T0: i64 = 1_700_000_000_000 - 1_700_000_000_000 % 3_600_000;
/// Samples of each series, one every 15 s.
pub(crate) const STEPS: i64 = 200;

pub(crate) fn fill(db: &Db) {
    for step in 0..STEPS {
        let mut batch = db.appender();
        let t = T0 + step * 15_000 + 137;
        let mut add = |pairs: &[(&str, &str)], value: f64| {
            batch.append(None, &Labels::from_pairs(pairs.iter().copied()), t, value).unwrap();
        };
        for (index, instance) in ["10.0.0.1:9100", "10.0.0.2:9100", "10.0.0.3:9100"].iter().enumerate() {
            let base = [("instance", *instance), ("job", "node")];
            let with = |extra: &[(&'static str, &'static str)]| [&base[..], extra].concat();
            let wave = (step as f64 / 10.0 + index as f64).sin();
            add(&with(&[("__name__", "up")]), 1.0);
            add(&with(&[("__name__", "node_load1")]), 2.0 + wave);
            for mode in ["idle", "user"] {
                let share = if mode == "idle" { 12.0 } else { 3.0 };
                add(
                    &with(&[("__name__", "node_cpu_seconds_total"), ("mode", mode)]),
                    share * step as f64 + wave,
                );
            }
            // A counter that starts again half-way.
            let requests = (step % 100) * (index as i64 + 1) * 7;
            add(&with(&[("__name__", "http_requests_total"), ("code", "200")]), requests as f64);
            let mut cumulative = 0.0;
            for (bound, each) in [("0.1", 5.0), ("0.5", 3.0), ("1.0", 1.0), ("+Inf", 0.5)] {
                cumulative += each * step as f64 * (index as f64 + 1.0);
                add(&with(&[("__name__", "latency_seconds_bucket"), ("le", bound)]), cumulative);
            }
        }
        batch.commit().unwrap();
    }
}

pub(crate) struct Server {
    pub(crate) prometheus: Arc<Prometheus>,
    pub(crate) clock: Arc<ManualClock>,
    _dir: Option<tempfile::TempDir>,
}

/// A server whose clock stands still just after the last sample.
pub(crate) fn server() -> Server {
    let dir = tempfile::tempdir().unwrap();
    let mut server = server_at(dir.path());
    server._dir = Some(dir);
    fill(server.prometheus.db());
    server
}

pub(crate) fn server_at(dir: &Path) -> Server {
    let clock = Arc::new(ManualClock::new(T0 + STEPS * 15_000));
    let registry = Registry::new();
    let prometheus = Prometheus::open(Settings::new(dir), clock.clone(), &registry).unwrap();
    Server { prometheus: Arc::new(prometheus), clock, _dir: None }
}

/// Serves on a free port of the loopback address until the token is cancelled.
pub(crate) async fn listen(server: &Server, stop: &CancellationToken) -> SocketAddr {
    let listener = Listener::bind(ListenConfig::plain("127.0.0.1:0".parse().unwrap())).await.unwrap();
    let address = listener.local_addr();
    let (router, stop) = (server.prometheus.api().router(), stop.clone());
    tokio::spawn(async move { listener.serve(router, stop).await });
    address
}

pub(crate) fn program(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file());
    if found.is_none() {
        println!("skipped: {name} not found");
    }
    found
}
