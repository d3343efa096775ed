//! One thread of load: its share of the users or of the arrivals, on a runtime of its own.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::net::{SocketAddr, ToSocketAddrs};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use gantry_clock::Clock;
use rustls::pki_types::ServerName;
use tokio::sync::watch;
use tokio::task::LocalSet;

use crate::client::{Client, Exchange, Shared};
use crate::encode::Encoded;
use crate::plan::{Arrivals, Level, Rng, Spread, Think};
use crate::recorder::{Failure, Recorder};
use crate::scenario::{Load, Scenario};
use crate::timer::Timers;

/// Arrivals that may wait for one of `max_in_flight` connections, per thread; later ones are dropped and counted.
const MOST_WAITING: usize = 100_000;

/// How long a user waits at least after it could not connect.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);

/// Where the requests go: `http://host:port/prefix`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    https: bool,
    host: String,
    port: u16,
    authority: String,
    prefix: String,
}

/// What a thread needs; the same for all but `index`.
pub(crate) struct Work {
    pub(crate) scenario: Arc<Scenario>,
    pub(crate) encoded: Arc<Vec<Encoded>>,
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) tls: Option<(Arc<rustls::ClientConfig>, ServerName<'static>)>,
    pub(crate) clock: Arc<dyn Clock>,
    /// The clock's `monotonic` at which the scenario's time 0 is.
    pub(crate) start: Duration,
    pub(crate) index: u64,
    pub(crate) threads: u64,
    pub(crate) recorder: Recorder,
    /// True: no new request; those in flight may end within the grace period.
    pub(crate) stop: watch::Receiver<bool>,
}

struct Thread {
    work: Work,
    shared: Shared,
    timers: Rc<Timers>,
    stopped: Cell<bool>,
    /// Running sums of the requests' weights.
    weights: Vec<u64>,
}

// === impl Target ===

impl Target {
    /// `http://` or `https://`, a host, and optionally a port and a path prefix.
    pub fn parse(url: &str) -> Result<Target, String> {
        let problem = |why: &str| format!("target {url:?}: {why}");
        let uri: http::Uri = url.parse().map_err(|error| problem(&format!("not a URL: {error}")))?;
        let https = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(problem("expected http://HOST:PORT or https://HOST:PORT")),
        };
        if uri.query().is_some() {
            return Err(problem("a query belongs to the path of a request"));
        }
        let authority = uri.authority().ok_or_else(|| problem("no host"))?;
        if authority.as_str().contains('@') {
            return Err(problem("user and password belong in an authorization header"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(if https { 443 } else { 80 });
        let prefix = uri.path().trim_end_matches('/').to_owned();
        Ok(Target { https, host, port, authority: authority.as_str().to_owned(), prefix })
    }

    pub fn is_https(&self) -> bool {
        self.https
    }

    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(crate) fn resolve(&self) -> std::io::Result<Vec<SocketAddr>> {
        Ok((self.host.as_str(), self.port).to_socket_addrs()?.collect())
    }

    pub(crate) fn server_name(&self) -> Result<ServerName<'static>, String> {
        ServerName::try_from(self.host.clone()).map_err(|error| format!("host {:?}: {error}", self.host))
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.prefix)
    }
}

/// Runs this thread's share until the scenario or `stop` ends it.
pub(crate) fn run(work: Work) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async move {
        let timers = Timers::new(work.clock.clone())?;
        let shared = Shared::new(timers.clone(), work.addresses.clone(), work.tls.clone());
        let mut sum = 0;
        let weights = work.scenario.requests.iter().map(|request| {
            sum += u64::from(request.weight);
            sum
        });
        let weights = weights.collect();
        Rc::new(Thread { work, shared, timers, stopped: Cell::new(false), weights }).run().await;
        Ok(())
    })
}

impl Thread {
    async fn run(self: Rc<Self>) {
        let driver = self.clone();
        let driver = tokio::task::spawn_local(async move { driver.timers.drive().await });
        let grace = self.work.scenario.grace;
        let mut stop = self.work.stop.clone();
        let this = self.clone();
        let stopper = tokio::task::spawn_local(async move {
            // An error means that the handle is gone, which ends the run too.
            let _ = stop.wait_for(|stop| *stop).await;
            this.stopped.set(true);
            this.timers.end();
        });
        let end = self.work.start + self.work.scenario.duration();
        let load: std::pin::Pin<Box<dyn Future<Output = ()>>> = match &self.work.scenario.load {
            Load::Users { level, think } => Box::pin(self.clone().users(level.clone(), *think)),
            Load::Arrivals { level, spread, max_in_flight } => {
                Box::pin(self.clone().arrivals(level.clone(), *spread, *max_in_flight))
            }
        };
        let deadline = async {
            self.timers.sleep_until(end).await;
            // The precise timers have ended by now when the run was stopped, so the runtime's serve here.
            tokio::time::sleep(grace).await;
        };
        tokio::select! {
            () = load => {}
            () = deadline => {
                let unfinished = self.work.recorder.gauges().in_flight.load(Ordering::Relaxed);
                tracing::info!(unfinished, "the grace period ended before every request did");
            }
        }
        driver.abort();
        stopper.abort();
    }

    fn over(&self) -> bool {
        self.stopped.get()
    }

    fn choose(&self, rng: &mut Rng) -> (usize, usize) {
        let total = self.weights.last().copied().unwrap_or(0);
        let draw = rng.below(total);
        let request = self.weights.partition_point(|sum| *sum <= draw);
        let variants = self.work.encoded.get(request).map_or(0, |encoded| encoded.variants.len());
        let variant = if variants > 1 { rng.below(variants as u64) as usize } else { 0 };
        (request, variant)
    }

    /// Sends one request that was due at `due`; returns when it ended and whether the target was reached.
    async fn send(
        &self,
        client: &mut Client,
        due: Duration,
        request: usize,
        variant: usize,
    ) -> (Duration, bool) {
        let began = self.timers.now();
        let known = self.work.encoded.get(request).zip(self.work.scenario.requests.get(request));
        let Some((encoded, described)) = known else { return (began, false) };
        let Some(bytes) = encoded.variants.get(variant) else { return (began, false) };
        let in_flight = InFlight::begin(&self.work.recorder, request);
        let exchange = client.exchange(&self.shared, bytes, encoded.is_head, described.timeout).await;
        in_flight.end(due, began, &exchange, |status| described.expect.contains(status));
        let connects = self.shared.connects.replace(0);
        if connects > 0 {
            self.work.recorder.gauges().connects.fetch_add(connects, Ordering::Relaxed);
        }
        let reached = !matches!(exchange.outcome, Err(Failure::Connect | Failure::Tls));
        (exchange.finished, reached)
    }

    // === closed: users ===

    async fn users(self: Rc<Self>, level: Level, think: Think) {
        let most = level.max().ceil() as u64;
        let mine = (0..most).filter(|user| user % self.work.threads == self.work.index);
        let tasks: Vec<_> = mine
            .map(|user| tokio::task::spawn_local(self.clone().user(user, level.clone(), think)))
            .collect();
        // Dropped before they end when the grace period is over: the tasks must not outlive this.
        let tasks = AbortAll(tasks);
        tasks.join().await;
    }

    async fn user(self: Rc<Self>, number: u64, level: Level, think: Think) {
        let mut rng = Rng::new(self.work.scenario.seed, number);
        let mut client = Client::new();
        let start = self.work.start;
        let mut due = start;
        while let Some(active) = level.next_above(number as f64, due.saturating_sub(start)) {
            due = due.max(start + active);
            let here = Presence::new(&self.work.recorder, &self.timers, due).await;
            while !self.over() && level.at(due.saturating_sub(start)) > number as f64 {
                self.timers.sleep_until(due).await;
                // Behind schedule, the level may have fallen or the run ended meanwhile.
                if self.over() || level.at(self.timers.now().saturating_sub(start)) <= number as f64 {
                    break;
                }
                let (request, variant) = self.choose(&mut rng);
                let (finished, reached) = self.send(&mut client, due, request, variant).await;
                // A refused connection costs nothing, so a user without think time would spin on it.
                let pause = if reached { Duration::ZERO } else { REFUSED_PAUSE };
                due = finished + think.next(&mut rng).max(pause);
            }
            self.timers.sleep_until(due.min(start + level.duration())).await;
            drop(here);
            if self.over() {
                return;
            }
            due = due.max(self.timers.now());
        }
    }

    // === open: arrivals ===

    async fn arrivals(self: Rc<Self>, level: Level, spread: Spread, max_in_flight: u64) {
        let pool = Rc::new(Pool {
            idle: RefCell::default(),
            waiting: RefCell::default(),
            free: Cell::new(max_in_flight.div_ceil(self.work.threads).max(1)),
            senders: RefCell::default(),
        });
        let arrivals = Arrivals::new(&level, spread, self.work.scenario.seed);
        for (number, offset) in arrivals.filter(|(number, _)| number % self.work.threads == self.work.index) {
            let due = self.work.start + offset;
            self.timers.sleep_until(due).await;
            if self.over() {
                break;
            }
            let (request, variant) = self.choose(&mut Rng::new(self.work.scenario.seed, number));
            let arrival = Arrival { due, request, variant };
            if pool.free.get() > 0 {
                pool.free.set(pool.free.get() - 1);
                let sender = self.clone().sender(pool.clone(), arrival);
                pool.senders.borrow_mut().spawn_local(sender);
            } else if pool.waiting.borrow().len() < MOST_WAITING {
                pool.waiting.borrow_mut().push_back(arrival);
            } else {
                self.work.recorder.record_failure(request, Failure::Dropped);
            }
            // Senders that are done leave a result each.
            let mut senders = pool.senders.borrow_mut();
            while senders.try_join_next().is_some() {}
        }
        std::future::poll_fn(|context| {
            let mut senders = pool.senders.borrow_mut();
            loop {
                match senders.poll_join_next(context) {
                    std::task::Poll::Ready(Some(_)) => {}
                    std::task::Poll::Ready(None) => return std::task::Poll::Ready(()),
                    std::task::Poll::Pending => return std::task::Poll::Pending,
                }
            }
        })
        .await;
        // What still waits when the run is stopped was due and never sent.
        for arrival in pool.waiting.borrow_mut().drain(..) {
            self.work.recorder.record_failure(arrival.request, Failure::Dropped);
        }
    }

    async fn sender(self: Rc<Self>, pool: Rc<Pool>, first: Arrival) {
        let mut client = pool.idle.borrow_mut().pop().unwrap_or_else(Client::new);
        let mut next = Some(first);
        while let Some(arrival) = next {
            self.send(&mut client, arrival.due, arrival.request, arrival.variant).await;
            next = if self.over() { None } else { pool.waiting.borrow_mut().pop_front() };
        }
        pool.free.set(pool.free.get() + 1);
        pool.idle.borrow_mut().push(client);
    }
}

/// The connections of one thread and the arrivals that wait for one.
struct Pool {
    idle: RefCell<Vec<Client>>,
    waiting: RefCell<VecDeque<Arrival>>,
    free: Cell<u64>,
    senders: RefCell<tokio::task::JoinSet<()>>,
}

struct Arrival {
    due: Duration,
    request: usize,
    variant: usize,
}

/// Counts a request as in flight; dropped without [`InFlight::end`], it is recorded as unfinished.
struct InFlight<'a> {
    recorder: &'a Recorder,
    request: usize,
    ended: bool,
}

impl<'a> InFlight<'a> {
    fn begin(recorder: &'a Recorder, request: usize) -> InFlight<'a> {
        recorder.gauges().in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight { recorder, request, ended: false }
    }

    fn end(
        mut self,
        due: Duration,
        began: Duration,
        exchange: &Exchange,
        expected: impl FnOnce(u16) -> bool,
    ) {
        self.ended = true;
        self.recorder.record(self.request, due, began, exchange, expected);
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.recorder.gauges().in_flight.fetch_sub(1, Ordering::Relaxed);
        if !self.ended {
            self.recorder.record_failure(self.request, Failure::Unfinished);
        }
    }
}

/// Counts a user as present from the moment it is due.
struct Presence<'a>(&'a Recorder);

impl<'a> Presence<'a> {
    async fn new(recorder: &'a Recorder, timers: &Timers, due: Duration) -> Presence<'a> {
        timers.sleep_until(due).await;
        recorder.user_came();
        Presence(recorder)
    }
}

impl Drop for Presence<'_> {
    fn drop(&mut self) {
        self.0.user_left();
    }
}

struct AbortAll(Vec<tokio::task::JoinHandle<()>>);

impl AbortAll {
    async fn join(mut self) {
        for task in &mut self.0 {
            let _ = task.await;
        }
    }
}

impl Drop for AbortAll {
    fn drop(&mut self) {
        self.0.iter().for_each(tokio::task::JoinHandle::abort);
    }
}
