//! The scenario file: who sends what, when, and what must hold.
//!
//! Every check is made while the file is read, so that each message carries the place it is about.

pub(crate) mod fields;

use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer};

pub use self::fields::{Body, Expect, PathPattern};
use self::fields::{Headers, Method, Name, Rate, ShortOrLong, Time, short_or_long};
use crate::executor::Target;
use crate::plan::{Level, Spread, Think};
use crate::threshold::Thresholds;
use crate::tls::Trust;

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT_GRACE: Duration = Duration::from_secs(10);
const MOST_USERS: f64 = 1_000_000.0;
const MOST_REQUESTS: usize = 1000;

/// The file could not be used; the text names file, line and column.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct ScenarioError(#[from] gantry_yaml::Error);

/// A checked scenario.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub name: String,
    pub target: Option<Target>,
    pub seed: u64,
    pub load: Load,
    /// Sent with every request that does not set them itself.
    pub headers: Vec<(String, String)>,
    pub requests: Vec<Request>,
    pub thresholds: Thresholds,
    /// How long requests in flight may take after the end.
    pub grace: Duration,
    /// Whether a connection serves more than one request.
    pub keep_alive: bool,
    pub trust: Option<Trust>,
}

/// How requests are started.
#[derive(Clone, Debug, PartialEq)]
pub enum Load {
    /// Closed: each user waits for its answer, thinks, and sends the next.
    Users { level: Level, think: Think },
    /// Open: requests are due whatever the target does.
    Arrivals { level: Level, spread: Spread, max_in_flight: u64 },
}

/// One kind of request.
#[derive(Clone, Debug)]
pub struct Request {
    pub name: String,
    pub weight: u32,
    pub method: String,
    pub path: PathPattern,
    pub headers: Vec<(String, String)>,
    pub body: Body,
    pub expect: Expect,
    pub timeout: Duration,
}

// === impl Scenario ===

impl Scenario {
    /// Reads a scenario; `file` is its name in messages.
    pub fn parse(file: &str, text: &str) -> Result<Scenario, ScenarioError> {
        Ok(gantry_yaml::from_str(file, text)?)
    }

    /// From the first request due to the end of the last stage.
    pub fn duration(&self) -> Duration {
        self.load.level().duration()
    }

    /// The same load, cut off or held on at its last level so that it lasts `duration`.
    pub fn set_duration(&mut self, duration: Duration) {
        let level = match &mut self.load {
            Load::Users { level, .. } | Load::Arrivals { level, .. } => level,
        };
        *level = level.lasting(duration);
    }
}

impl Load {
    /// Users or requests per second over time.
    pub fn level(&self) -> &Level {
        match self {
            Load::Users { level, .. } | Load::Arrivals { level, .. } => level,
        }
    }
}

// === the file's shape ===

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    name: Option<String>,
    target: Option<TargetField>,
    #[serde(default)]
    seed: u64,
    duration: Option<Time>,
    users: Option<UsersField>,
    arrivals: Option<ArrivalsField>,
    #[serde(default)]
    headers: Headers,
    timeout: Option<Time>,
    requests: Vec<RequestField>,
    #[serde(default)]
    thresholds: Thresholds,
    grace: Option<Time>,
    #[serde(default = "yes")]
    keep_alive: bool,
    tls: Option<TlsField>,
    /// Assertions on what the load does to a whole system: for whoever runs that system.
    #[serde(rename = "prove")]
    _prove: Option<de::IgnoredAny>,
}

struct TargetField(Target);

impl<'de> Deserialize<'de> for TargetField {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Target::parse(&text).map(TargetField).map_err(de::Error::custom)
    }
}

struct UsersField {
    count: u32,
    ramp: Option<Time>,
    think: Think,
    stages: Vec<UserStage>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UsersLong {
    #[serde(default)]
    count: u32,
    ramp: Option<Time>,
    think: Option<Think>,
    #[serde(default)]
    stages: Vec<UserStage>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UserStage {
    duration: Time,
    users: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ArrivalsField {
    #[serde(default)]
    rate: Rate,
    ramp: Option<Time>,
    #[serde(default)]
    spread: SpreadField,
    #[serde(default = "thousand")]
    max_in_flight: u32,
    #[serde(default)]
    stages: Vec<RateStage>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RateStage {
    duration: Time,
    rate: Rate,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "lowercase")]
enum SpreadField {
    #[default]
    Even,
    Poisson,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ThinkLong {
    constant: Option<Time>,
    between: Option<[Time; 2]>,
    exponential: Option<Time>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TlsField {
    /// PEM text of the authorities that may have signed the target's certificate.
    ca: Option<String>,
    #[serde(default)]
    insecure: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RequestLong {
    name: Option<Name>,
    #[serde(default = "one")]
    weight: u32,
    #[serde(default)]
    method: Method,
    path: PathPattern,
    #[serde(default)]
    headers: Headers,
    body: Option<String>,
    json: Option<serde_json::Value>,
    #[serde(default)]
    expect: Expect,
    timeout: Option<Time>,
}

/// `/path` or `POST /path` as one word, or a mapping.
struct RequestField {
    request: Request,
    has_timeout: bool,
}

fn yes() -> bool {
    true
}

fn one() -> u32 {
    1
}

fn thousand() -> u32 {
    1000
}

impl<'de> Deserialize<'de> for Scenario {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Scenario, D::Error> {
        short_or_long(deserializer)
    }
}

impl<'de> ShortOrLong<'de> for Scenario {
    type Long = File;
    const EXPECTED: &'static str = "a scenario: a mapping with requests, and users or arrivals";

    fn short(text: &str) -> Result<Scenario, String> {
        Err(format!("expected {}, found {text:?}", Self::EXPECTED))
    }

    fn long(file: File) -> Result<Scenario, String> {
        file.check()
    }
}

impl File {
    fn check(self) -> Result<Scenario, String> {
        let load = match (self.users, self.arrivals) {
            (Some(users), None) => users.check(self.duration)?,
            (None, Some(arrivals)) => arrivals.check(self.duration)?,
            (Some(_), Some(_)) => return Err("give either users or arrivals, not both".to_owned()),
            (None, None) => return Err("give users (closed load) or arrivals (open load)".to_owned()),
        };
        if load.level().duration().is_zero() || load.level().max() <= 0.0 {
            return Err("nothing would be sent: the load is never above 0".to_owned());
        }
        let timeout = self.timeout.map_or(DEFAULT_TIMEOUT, Time::get);
        let mut requests = Vec::with_capacity(self.requests.len());
        for RequestField { mut request, has_timeout } in self.requests {
            if !has_timeout {
                request.timeout = timeout;
            }
            requests.push(request);
        }
        if requests.is_empty() || requests.len() > MOST_REQUESTS {
            return Err(format!("requests: expected 1 to {MOST_REQUESTS} of them"));
        }
        if requests.iter().all(|request| request.weight == 0) {
            return Err("requests: every weight is 0".to_owned());
        }
        for (index, request) in requests.iter().enumerate() {
            if requests.iter().take(index).any(|earlier| earlier.name == request.name) {
                return Err(format!("requests: two are named {:?}; give one another name", request.name));
            }
        }
        self.thresholds
            .check_names(&requests.iter().map(|request| request.name.as_str()).collect::<Vec<_>>())?;
        let trust = match self.tls {
            None => None,
            Some(TlsField { ca: Some(pem), insecure: false }) => Some(Trust::Authorities(pem)),
            Some(TlsField { ca: None, insecure: true }) => Some(Trust::Anything),
            Some(_) => return Err("tls: give either ca (PEM text) or insecure: true".to_owned()),
        };
        let target = self.target.map(|field| field.0);
        Ok(Scenario {
            name: self.name.unwrap_or_else(|| "load".to_owned()),
            target,
            seed: self.seed,
            load,
            headers: self.headers.get(),
            requests,
            thresholds: self.thresholds,
            grace: self.grace.map_or(DEFAULT_GRACE, Time::get),
            keep_alive: self.keep_alive,
            trust,
        })
    }
}

/// The stages of a level: as given, or one ramp and one plateau from the short form.
fn level(
    first: f64,
    ramp: Option<Time>,
    stages: Vec<(Duration, f64)>,
    duration: Option<Time>,
) -> Result<Level, String> {
    if !stages.is_empty() {
        if ramp.is_some() || duration.is_some() {
            return Err("stages have durations of their own: remove ramp and duration".to_owned());
        }
        return Ok(Level::new(first, &stages));
    }
    let duration = duration.ok_or("how long: give duration, or stages")?.get();
    let ramp = ramp.map_or(Duration::ZERO, Time::get);
    if ramp > duration {
        return Err("ramp is longer than duration".to_owned());
    }
    let start = if ramp.is_zero() { first } else { 0.0 };
    Ok(Level::new(start, &[(ramp, first), (duration - ramp, first)]))
}

impl<'de> ShortOrLong<'de> for UsersField {
    type Long = UsersLong;
    const EXPECTED: &'static str = "a number of users, or a mapping with count or stages";

    fn short(text: &str) -> Result<UsersField, String> {
        let count = text.parse().map_err(|_| format!("expected a number of users, found {text:?}"))?;
        Ok(UsersField { count, ramp: None, think: Think::Constant(Duration::ZERO), stages: Vec::new() })
    }

    fn long(long: UsersLong) -> Result<UsersField, String> {
        let think = long.think.unwrap_or(Think::Constant(Duration::ZERO));
        Ok(UsersField { count: long.count, ramp: long.ramp, think, stages: long.stages })
    }
}

impl<'de> Deserialize<'de> for UsersField {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<UsersField, D::Error> {
        short_or_long(deserializer)
    }
}

impl UsersField {
    fn check(self, duration: Option<Time>) -> Result<Load, String> {
        let stages =
            self.stages.into_iter().map(|stage| (stage.duration.get(), f64::from(stage.users))).collect();
        let level = level(f64::from(self.count), self.ramp, stages, duration)?;
        if level.max() > MOST_USERS {
            return Err(format!("users: at most {MOST_USERS}"));
        }
        Ok(Load::Users { level, think: self.think })
    }
}

impl<'de> ShortOrLong<'de> for Think {
    type Long = ThinkLong;
    const EXPECTED: &'static str = "a time such as 200ms, or one of constant, between and exponential";

    fn short(text: &str) -> Result<Think, String> {
        fields::parse_time(text).map(Think::Constant)
    }

    fn long(long: ThinkLong) -> Result<Think, String> {
        match (long.constant, long.between, long.exponential) {
            (Some(time), None, None) => Ok(Think::Constant(time.get())),
            (None, Some([least, most]), None) if least.get() <= most.get() => {
                Ok(Think::Between(least.get(), most.get()))
            }
            (None, Some(_), None) => Err("between needs the smaller time first".to_owned()),
            (None, None, Some(mean)) => Ok(Think::Exponential(mean.get())),
            _ => Err("give exactly one of constant, between and exponential".to_owned()),
        }
    }
}

impl<'de> Deserialize<'de> for Think {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Think, D::Error> {
        short_or_long(deserializer)
    }
}

impl ArrivalsField {
    fn check(self, duration: Option<Time>) -> Result<Load, String> {
        let stages =
            self.stages.into_iter().map(|stage| (stage.duration.get(), stage.rate.per_second())).collect();
        let level = level(self.rate.per_second(), self.ramp, stages, duration)?;
        let spread = match self.spread {
            SpreadField::Even => Spread::Even,
            SpreadField::Poisson => Spread::Poisson,
        };
        if self.max_in_flight == 0 {
            return Err("arrivals: max_in_flight must be at least 1".to_owned());
        }
        Ok(Load::Arrivals { level, spread, max_in_flight: self.max_in_flight.into() })
    }
}

impl<'de> ShortOrLong<'de> for RequestField {
    type Long = RequestLong;
    const EXPECTED: &'static str = "a path, or a mapping with path, method, weight …";

    fn short(text: &str) -> Result<RequestField, String> {
        let (method, path) = match text.split_once(' ') {
            None => (Method::default(), text),
            Some((method, path)) => (Method::parse(method)?, path.trim()),
        };
        let path = PathPattern::parse(path)?;
        RequestField::long(RequestLong {
            name: None,
            weight: 1,
            method,
            path,
            headers: Headers::default(),
            body: None,
            json: None,
            expect: Expect::default(),
            timeout: None,
        })
    }

    fn long(long: RequestLong) -> Result<RequestField, String> {
        let method = long.method.get();
        let body = match (long.body, long.json) {
            (None, None) => Body::none(),
            (Some(text), None) => Body::text(text),
            (None, Some(value)) => Body::json(&value),
            (Some(_), Some(_)) => return Err("give either body or json, not both".to_owned()),
        };
        let timeout = long.timeout.map_or(DEFAULT_TIMEOUT, Time::get);
        if timeout.is_zero() {
            return Err("a timeout of 0 lets nothing through".to_owned());
        }
        let name = long.name.map_or_else(|| format!("{method} {}", long.path), Name::get);
        let request = Request {
            name,
            weight: long.weight,
            method,
            path: long.path,
            headers: long.headers.get(),
            body,
            expect: long.expect,
            timeout,
        };
        Ok(RequestField { request, has_timeout: long.timeout.is_some() })
    }
}

impl<'de> Deserialize<'de> for RequestField {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RequestField, D::Error> {
        short_or_long(deserializer)
    }
}
