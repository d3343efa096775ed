//! The worker process: started, told what to load, watched, and started again when it dies.

use std::future::Future;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use gantry_clock::{Backoff, BackoffConfig};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::feed::Feed;
use crate::python::{BOOTSTRAP, sources};
use crate::session::{Asks, Said, Session, encode, read};

/// How long the process may take to end when it is told to.
const END_GRACE: Duration = Duration::from_secs(5);
/// A process that lived this long is started again at once.
const STABLE: Duration = Duration::from_secs(60);

/// How the process is started.
pub(crate) struct Launch {
    pub(crate) python: PathBuf,
    /// The frame that says what to load and how to log.
    pub(crate) load: Value,
    pub(crate) feed: Arc<Feed>,
    pub(crate) asks: Arc<dyn Asks>,
}

/// Whoever calls handlers: waits for a process that is ready.
#[derive(Clone)]
pub(crate) struct Worker {
    pub(crate) sessions: watch::Receiver<Option<Arc<Session>>>,
}

impl Worker {
    /// The process that is ready, now or soon; nothing when there will be none any more.
    pub(crate) async fn session(&self) -> Option<Arc<Session>> {
        let mut sessions = self.sessions.clone();
        let ready = |session: &Option<Arc<Session>>| {
            session.as_ref().is_some_and(|session| !session.ended.is_cancelled())
        };
        sessions.wait_for(ready).await.ok()?.clone()
    }
}

impl Launch {
    /// Keeps a process running until `stop`. Each new one is given to `prepare` before it is published.
    ///
    /// Ends with an error when the files cannot be loaded or prepared; dying later is no error, but a reason to start
    /// again.
    pub(crate) async fn keep<P, F>(
        self,
        publish: watch::Sender<Option<Arc<Session>>>,
        stop: CancellationToken,
        prepare: P,
    ) -> Result<(), String>
    where
        P: Fn(Arc<Session>) -> F,
        F: Future<Output = Result<(), String>>,
    {
        let config = BackoffConfig { initial: Duration::from_millis(200), ..BackoffConfig::default() };
        let mut backoff = Backoff::new(config, 0);
        loop {
            let begun = tokio::time::Instant::now();
            let (mut child, session) = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                started = self.start() => started?,
            };
            let prepared = tokio::select! {
                biased;
                () = stop.cancelled() => {
                    end(&mut child, &session).await;
                    return Ok(());
                }
                () = session.ended.cancelled() => None,
                prepared = prepare(session.clone()) => Some(prepared),
            };
            if let Some(Err(reason)) = prepared {
                end(&mut child, &session).await;
                return Err(reason);
            }
            if prepared.is_some() {
                self.feed.begin_anew();
                publish.send_replace(Some(session.clone()));
                tokio::select! {
                    biased;
                    () = stop.cancelled() => {
                        end(&mut child, &session).await;
                        return Ok(());
                    }
                    () = session.ended.cancelled() => {}
                }
            }
            publish.send_replace(None);
            let status = tokio::time::timeout(END_GRACE, child.wait()).await;
            let how = match status {
                Ok(Ok(status)) => told(status),
                _ => "closed its socket".to_owned(),
            };
            // It is ended anyway before the next begins.
            let _ = child.kill().await;
            if begun.elapsed() >= STABLE {
                backoff.reset();
            }
            let pause = backoff.next_delay();
            tracing::error!(
                "the worker process {how}; it is started again, and what it was doing is tried again"
            );
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn start(&self) -> Result<(Child, Arc<Session>), String> {
        let cannot = |error: std::io::Error| {
            format!("cannot start the Python interpreter {}: {error}", self.python.display())
        };
        let (ours, theirs) = StdUnixStream::pair().map_err(cannot)?;
        let mut child = Command::new(&self.python)
            .arg("-c")
            .arg(BOOTSTRAP)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .kill_on_drop(true)
            .spawn()
            .map_err(cannot)?;
        ours.set_nonblocking(true).map_err(cannot)?;
        let mut socket = UnixStream::from_std(ours).map_err(cannot)?;
        let talked = async {
            socket.write_all(&encode(&sources())?).await?;
            socket.write_all(&encode(&self.load)?).await?;
            read::<Said, _>(&mut socket).await
        };
        let said = match talked.await {
            Ok(Some(said)) => said,
            _ => {
                let status = child.wait().await.map(told).unwrap_or_else(|error| error.to_string());
                return Err(format!(
                    "the Python interpreter {} {status} at its start",
                    self.python.display()
                ));
            }
        };
        if said.op != "ready" {
            // Its own last words were written to the log.
            let _ = child.wait().await;
            let trace = if said.trace.is_empty() { String::new() } else { format!("{}\n", said.trace) };
            eprint!("{trace}");
            return Err(format!("cannot load the handlers: {}", said.message));
        }
        let (reader, writer) = socket.into_split();
        self.feed.hold();
        Ok((child, Session::begin(reader, writer, self.feed.clone(), self.asks.clone())))
    }
}

/// Tells the process to end, and ends it when it does not.
async fn end(child: &mut Child, session: &Session) {
    // If it cannot be told any more, it has ended.
    let _ = session.send(&json!({ "op": "exit" })).await;
    if tokio::time::timeout(END_GRACE, child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
}

fn told(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("was killed by signal {signal}"),
        (_, Some(code)) => format!("ended with exit code {code}"),
        _ => "ended".to_owned(),
    }
}
