//! Threads with native workers, and what they take from the machine: a name, authorities to trust.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use gantry_clock::{Clock, SystemClock};
use gantry_load::Trust;
use gantry_load::locust::native::{Program, Worker, WorkerConfig, WorkerError};
use tokio::sync::watch;

const POLL: Duration = Duration::from_millis(20);
const END_WAIT: Duration = Duration::from_secs(10);
/// Where Debian, Fedora and Alpine keep the authorities that the machine trusts.
const BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Native workers, each on a thread of its own.
pub(crate) struct NativeWorkers {
    threads: Vec<JoinHandle<Result<(), WorkerError>>>,
    stop: watch::Sender<bool>,
    code: i32,
}

impl NativeWorkers {
    pub(crate) fn start(
        program: Program,
        count: u32,
        master: (&str, u16),
        reset_stats: bool,
    ) -> Result<NativeWorkers, String> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let program = Arc::new(program);
        let stop = watch::Sender::new(false);
        let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let trust = trust()?;
        let mut threads = Vec::new();
        for index in 0..count {
            let unique = std::fs::read_to_string("/proc/sys/kernel/random/uuid")
                .map_err(|error| format!("no random number for the worker's id: {error}"))?;
            let unique = unique.trim().replace('-', "");
            let config = WorkerConfig {
                master_host: master.0.to_owned(),
                master_port: master.1,
                id: format!("{}_{unique}", hostname.trim()),
                seed: u64::from_str_radix(unique.get(..16).unwrap_or("0"), 16).unwrap_or(0),
                trust: trust.clone(),
                reset_stats,
            };
            let worker = Worker::new(program.clone(), config, clock.clone());
            let stopping = stop.subscribe();
            let thread = std::thread::Builder::new()
                .name(format!("worker-{index}"))
                .spawn(move || worker.run(stopping))
                .map_err(|error| format!("cannot start a thread: {error}"))?;
            threads.push(thread);
        }
        Ok(NativeWorkers { threads, stop, code: 0 })
    }

    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// The exit code when a worker has ended.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        let before = self.threads.len();
        self.join_finished();
        (self.threads.len() < before).then_some(self.code)
    }

    fn join_finished(&mut self) {
        let (finished, going) = self.threads.drain(..).partition::<Vec<_>, _>(JoinHandle::is_finished);
        self.threads = going;
        for thread in finished {
            match thread.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::error!(target: "locust.runners", "{error}");
                    self.code = 1;
                }
                Err(_) => {
                    tracing::error!(target: "locust.runners", "a worker ended by a panic");
                    self.code = 2;
                }
            }
        }
    }

    pub(crate) async fn wait(&mut self) -> i32 {
        loop {
            self.join_finished();
            if self.threads.is_empty() {
                return self.code;
            }
            tokio::time::sleep(POLL).await;
        }
    }

    pub(crate) async fn end(&mut self) {
        self.stop();
        if tokio::time::timeout(END_WAIT, self.wait()).await.is_err() {
            tracing::warn!(target: "locust.runners", "a worker thread did not end in time");
        }
    }
}

/// The authorities that requests would use: those named by the environment, else the machine's.
fn trust() -> Result<Option<Trust>, String> {
    for name in ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"] {
        if let Some(path) = std::env::var_os(name).filter(|path| !path.is_empty()) {
            let text = std::fs::read_to_string(Path::new(&path));
            let text = text.map_err(|error| format!("{name}={}: {error}", Path::new(&path).display()))?;
            return Ok(Some(Trust::Authorities(text)));
        }
    }
    let found = BUNDLES.iter().find_map(|path| std::fs::read_to_string(path).ok());
    Ok(found.map(Trust::Authorities))
}
