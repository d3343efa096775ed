//! One native user: its tasks, its connection, its cookies, until it is told to stop.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use gantry_clock::Clock;
use tokio::sync::Notify;

use super::program::{Body, RequestPlan, Step, Task, UserPlan, Wait};
use super::recorder::{Sample, WorkerStats};
use super::value::{Frame, Value, requote_path};
use crate::client::{Client, Shared};
use crate::executor::Target;
use crate::plan::Rng;
use crate::recorder::Failure;
use crate::timer::Timers;

/// As requests has it.
const MOST_REDIRECTS: usize = 30;
const MOST_COOKIES: usize = 200;
/// A request without a timeout; nobody waits longer.
const FOREVER: Duration = Duration::from_secs(24 * 3600);
/// After a connection was refused, so that a user without wait time does not spin.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);
const USER_AGENT: &str = concat!("gantry-locust/", env!("CARGO_PKG_VERSION"));

/// What the users of one thread share.
pub(super) struct Thread {
    pub(super) timers: Rc<Timers>,
    pub(super) clock: std::sync::Arc<dyn Clock>,
    pub(super) stats: RefCell<WorkerStats>,
}

/// Where a user's requests go.
pub(super) struct Host {
    pub(super) target: Target,
    pub(super) shared: Shared,
}

/// How a user is told to stop.
#[derive(Default)]
pub(super) struct Life {
    /// After this task.
    stopping: Cell<bool>,
    waiting: Cell<bool>,
    kill: Notify,
}

/// The user as its steps change it.
struct User {
    client: Client,
    cookies: Vec<(String, String)>,
    rng: Rng,
    variables: Vec<Value>,
    /// When pacing was last asked, and what it answered.
    last_pacing: Duration,
    last_wait: Duration,
}

// === impl Life ===

impl Life {
    /// Ends the user after its task, or at once when it only waits.
    pub(super) fn stop(&self) {
        self.stopping.set(true);
        if self.waiting.get() {
            self.kill.notify_one();
        }
    }

    /// Ends the user at once.
    pub(super) fn kill(&self) {
        self.stopping.set(true);
        self.kill.notify_one();
    }
}

/// Runs a user until its life ends.
pub(super) async fn run(thread: Rc<Thread>, plan: Rc<UserPlan>, host: Result<Rc<Host>, String>, seed: u64, number: u64, life: Rc<Life>) {
    let mut user = User {
        client: Client::keeping(),
        cookies: Vec::new(),
        rng: Rng::new(seed, number),
        variables: vec![Value::None; plan.variables],
        last_pacing: thread.timers.now(),
        last_wait: Duration::ZERO,
    };
    let host = host.as_ref().map(|host| &**host).map_err(String::as_str);
    let killed = tokio::select! {
        biased;
        () = life.kill.notified() => true,
        () = user.live(&thread, &plan, host, &life) => false,
    };
    if killed {
        // A request that was cut leaves its connection in an unknown state.
        user.client = Client::keeping();
    }
    user.steps(&thread, &plan, host, &life, &plan.on_stop).await;
}

// === impl User ===

impl User {
    async fn live(&mut self, thread: &Thread, plan: &UserPlan, host: Result<&Host, &str>, life: &Life) {
        self.steps(thread, plan, host, life, &plan.on_start).await;
        let sum: u64 = plan.tasks.iter().map(|task| u64::from(task.weight)).sum();
        while !life.stopping.get() {
            let Some(task) = pick(&plan.tasks, self.rng.below(sum)) else { return };
            self.steps(thread, plan, host, life, &task.steps).await;
            if life.stopping.get() {
                return;
            }
            self.wait(thread, plan.wait, life).await;
        }
    }

    async fn wait(&mut self, thread: &Thread, wait: Wait, life: &Life) {
        let seconds = |seconds: f64| Duration::try_from_secs_f64(seconds).unwrap_or_default();
        let pause = match wait {
            Wait::None => Duration::ZERO,
            Wait::Constant(time) => seconds(time),
            Wait::Between(least, most) => seconds(least + self.rng.unit() * (most - least)),
            Wait::Poisson(rate) => seconds(self.rng.exponential(1.0 / rate)),
            Wait::Pacing(time) => {
                let now = thread.timers.now();
                let ran = now.saturating_sub(self.last_pacing).saturating_sub(self.last_wait);
                self.last_wait = seconds(time).saturating_sub(ran);
                self.last_pacing = now;
                self.last_wait
            }
        };
        life.waiting.set(true);
        if pause.is_zero() {
            // Users that share a thread take turns.
            tokio::task::yield_now().await;
        } else {
            thread.timers.sleep_until(thread.timers.now() + pause).await;
        }
        life.waiting.set(false);
    }

    fn evaluate(&mut self, value: &Value) -> Value {
        value.evaluate(&mut Frame { variables: &mut self.variables, rng: &mut self.rng })
    }

    async fn steps(&mut self, thread: &Thread, plan: &UserPlan, host: Result<&Host, &str>, life: &Life, steps: &[Step]) {
        for step in steps {
            match step {
                Step::Request(request) => self.request(thread, host, request).await,
                Step::Sleep(time) => {
                    let time = self.evaluate(time).number();
                    let pause = Duration::try_from_secs_f64(time).unwrap_or_default();
                    thread.timers.sleep_until(thread.timers.now() + pause).await;
                }
                Step::Wait => self.wait(thread, plan.wait, life).await,
                Step::Assign(variable, value) => {
                    let value = self.evaluate(value);
                    if let Some(slot) = self.variables.get_mut(*variable) {
                        *slot = value;
                    }
                }
                Step::Repeat { variable, from, to, steps } => {
                    let (from, to) = (self.evaluate(from).number() as i64, self.evaluate(to).number() as i64);
                    for number in from..to {
                        if let Some(slot) = self.variables.get_mut(*variable) {
                            *slot = Value::Int(number);
                        }
                        // A future that holds itself must be boxed.
                        Box::pin(self.steps(thread, plan, host, life, steps)).await;
                    }
                }
            }
        }
    }

    async fn request(&mut self, thread: &Thread, host: Result<&Host, &str>, plan: &RequestPlan) {
        let mut path = self.evaluate(&plan.path).text();
        if let Some(params) = &plan.params {
            let params = self.evaluate(params);
            let mut query = String::new();
            params.write_form(&mut query);
            if !query.is_empty() {
                path.push(if path.contains('?') { '&' } else { '?' });
                path.push_str(&query);
            }
        }
        let prefix = host.map_or("", |host| host.target.prefix());
        let mut path = requote_path(&format!("{prefix}{path}"));
        if path.is_empty() {
            path.push('/');
        }
        let name = match &plan.name {
            Some(name) => self.evaluate(name).text(),
            None => path.clone(),
        };
        let host = match host {
            Ok(host) => host,
            Err(reason) => {
                let now = thread.timers.now();
                self.record(thread, plan, &name, now, 0, Some(reason.to_owned()));
                thread.timers.sleep_until(now + REFUSED_PAUSE).await;
                return;
            }
        };
        let timeout = plan.timeout.and_then(|time| Duration::try_from_secs_f64(time).ok()).unwrap_or(FOREVER);
        let (kind, body) = self.body(&plan.body);
        let headers: Vec<(String, String)> =
            plan.headers.iter().map(|(name, value)| (name.clone(), self.evaluate(value).text())).collect();
        let began = thread.timers.now();
        let mut method = plan.method.as_str();
        let mut bytes = encode(host, method, &path, &headers, kind, &body, &self.cookies);
        let mut redirects = 0;
        let error = loop {
            let is_head = method == "HEAD";
            let exchange = self.client.exchange(&host.shared, &bytes, is_head, timeout).await;
            let status = match exchange.outcome {
                Ok(status) => status,
                Err(failure) => break Some(failure_text(failure)),
            };
            self.keep_cookies();
            if !plan.follow_redirects || !matches!(status, 301 | 302 | 303 | 307 | 308) {
                break self.status_error(status, &name);
            }
            let Some(location) = self.client.answer().kept().location.clone() else {
                break self.status_error(status, &name);
            };
            redirects += 1;
            if redirects > MOST_REDIRECTS {
                break Some(format!("TooManyRedirects('Exceeded {MOST_REDIRECTS} redirects.')"));
            }
            let Some(next) = same_host(host, &path, &location) else {
                break Some(format!("InvalidURL('the native engine does not follow a redirect to another host: {location}')"));
            };
            path = next;
            let changed = match status {
                303 if method != "HEAD" => true,
                302 => method != "HEAD",
                301 => method == "POST",
                _ => false,
            };
            bytes = if changed {
                method = "GET";
                encode(host, method, &path, &headers, None, "", &self.cookies)
            } else {
                encode(host, method, &path, &headers, kind, &body, &self.cookies)
            };
        };
        let refused = error.as_ref().is_some_and(|error| error.starts_with("ConnectionRefused"));
        let length = if error.is_none() || redirects > 0 { self.client.answer().body_bytes() } else { 0 };
        self.record(thread, plan, &name, began, length, error);
        if refused {
            thread.timers.sleep_until(thread.timers.now() + REFUSED_PAUSE).await;
        }
    }

    fn body(&mut self, body: &Body) -> (Option<&'static str>, String) {
        let mut text = String::new();
        match body {
            Body::None => return (None, text),
            Body::Json(value) => {
                self.evaluate(value).write_json(&mut text);
                (Some("application/json"), text)
            }
            Body::Data(value) => {
                let value = self.evaluate(value);
                value.write_form(&mut text);
                let is_form = matches!(value, Value::Dict(_));
                (is_form.then_some("application/x-www-form-urlencoded"), text)
            }
        }
    }

    /// As `raise_for_status` words it.
    fn status_error(&self, status: u16, name: &str) -> Option<String> {
        let kind = match status {
            400..500 => "Client",
            500..600 => "Server",
            _ => return None,
        };
        let reason = &self.client.answer().kept().reason;
        let text = format!("{status} {kind} Error: {reason} for url: {name}");
        Some(format!("HTTPError({})", super::super::number::python_repr(&text)))
    }

    fn keep_cookies(&mut self) {
        for line in &self.client.answer().kept().cookies {
            let mut parts = line.split(';');
            let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else { continue };
            let (name, value) = (name.trim().to_owned(), value.trim().to_owned());
            let expired = parts.any(|part| {
                part.trim().to_ascii_lowercase().strip_prefix("max-age=").is_some_and(|age| age.starts_with(['0', '-']))
            });
            self.cookies.retain(|(known, _)| *known != name);
            if !expired && self.cookies.len() < MOST_COOKIES {
                self.cookies.push((name, value));
            }
        }
    }

    fn record(&self, thread: &Thread, plan: &RequestPlan, name: &str, began: Duration, bytes: u64, error: Option<String>) {
        let us = thread.timers.now().saturating_sub(began).as_nanos() as f64 / 1000.0;
        let now = thread.clock.now_ms() as f64 / 1000.0;
        thread.stats.borrow_mut().record(&Sample { method: &plan.method, name, us, bytes, error, now });
    }
}

fn pick(tasks: &[Task], mut number: u64) -> Option<&Task> {
    tasks.iter().find(|task| {
        let weight = u64::from(task.weight);
        let hit = number < weight;
        number = number.saturating_sub(weight);
        hit
    })
}

fn encode(
    host: &Host,
    method: &str,
    path: &str,
    headers: &[(String, String)],
    kind: Option<&str>,
    body: &str,
    cookies: &[(String, String)],
) -> Vec<u8> {
    let given = |wanted: &str| headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(wanted));
    let mut out = Vec::with_capacity(256 + body.len());
    let mut put = |parts: &[&str]| parts.iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
    put(&[method, " ", path, " HTTP/1.1\r\n"]);
    if !given("host") {
        put(&["Host: ", host.target.authority(), "\r\n"]);
    }
    if !given("user-agent") {
        put(&["User-Agent: ", USER_AGENT, "\r\n"]);
    }
    if !given("accept") {
        put(&["Accept: */*\r\n"]);
    }
    put(&["Connection: keep-alive\r\n"]);
    if let Some(kind) = kind.filter(|_| !given("content-type")) {
        put(&["Content-Type: ", kind, "\r\n"]);
    }
    if !body.is_empty() || !matches!(method, "GET" | "HEAD" | "OPTIONS") {
        put(&["Content-Length: ", &body.len().to_string(), "\r\n"]);
    }
    if !cookies.is_empty() && !given("cookie") {
        let pairs: Vec<String> = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        put(&["Cookie: ", &pairs.join("; "), "\r\n"]);
    }
    for (name, value) in headers {
        // A line break in a value would begin another header.
        put(&[name, ": ", &value.replace(['\r', '\n'], " "), "\r\n"]);
    }
    put(&["\r\n", body]);
    out
}

/// The path that a redirect leads to, when it stays on this host.
fn same_host(host: &Host, path: &str, location: &str) -> Option<String> {
    let location = location.split('#').next().unwrap_or_default();
    if let Some((_, rest)) = location.split_once("://") {
        let at = rest.find('/').unwrap_or(rest.len());
        let own = location.starts_with("https://") == host.target.is_https() && rest[..at] == *host.target.authority();
        return own.then(|| if at == rest.len() { "/".to_owned() } else { requote_path(&rest[at..]) });
    }
    if location.starts_with("//") {
        return None;
    }
    if location.starts_with('/') {
        return Some(requote_path(location));
    }
    let folder = path.split('?').next().unwrap_or_default().rsplit_once('/').map_or("", |(folder, _)| folder);
    Some(requote_path(&format!("{folder}/{location}")))
}

fn failure_text(failure: Failure) -> String {
    match failure {
        Failure::Connect => "ConnectionRefusedError(111, 'Connection refused')".to_owned(),
        Failure::Tls => "SSLError('the TLS handshake failed')".to_owned(),
        Failure::Timeout => "ReadTimeout('read timed out')".to_owned(),
        Failure::Closed => "RemoteDisconnected('Remote end closed connection without response')".to_owned(),
        _ => "ProtocolError('the answer is not HTTP/1.1')".to_owned(),
    }
}
