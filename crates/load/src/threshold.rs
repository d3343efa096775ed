//! Thresholds: what must hold over the whole run or over every window of it, in a line such as `p99 < 250ms`.

use std::fmt;
use std::time::Duration;

use serde::de::Deserializer;
use serde::{Deserialize, Serialize};

use crate::recorder::{Counts, Window};
use crate::scenario::fields::{ShortOrLong, Time, parse_time, short_or_long};

const LONGEST_WINDOW: Duration = Duration::from_secs(300);

/// All thresholds of a scenario.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thresholds {
    /// Judged by the load engine on its own measurements.
    #[serde(default)]
    pub load: Vec<Threshold>,
    /// Judged by whoever has the metrics of the run: `prove` asks the metric store.
    #[serde(default)]
    pub promql: Vec<PromqlThreshold>,
}

/// One condition on the measurements.
#[derive(Clone, Debug, PartialEq)]
pub struct Threshold {
    metric: Metric,
    comparison: Comparison,
    /// Seconds for latencies; shares for `error_rate`.
    bound: f64,
    /// As it stands in the file.
    pub text: String,
    /// Judged on this request alone.
    pub request: Option<String>,
    /// Judged on every window of this length instead of the whole run.
    pub over: Option<Duration>,
    /// A window that breaks it ends the run.
    pub abort: bool,
    /// Windows that end earlier than this are not judged.
    pub after: Duration,
}

/// A PromQL comparison that must hold: its result is not empty.
#[derive(Clone, Debug, PartialEq)]
pub struct PromqlThreshold {
    pub name: String,
    pub expr: String,
    pub when: When,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum When {
    /// At the end of the load.
    #[default]
    End,
    /// At every step from the start of the load to its end.
    Always,
    /// At one step of the load at least.
    Once,
}

/// How a threshold came out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    pub threshold: String,
    pub passed: bool,
    /// What was measured, in the words of the threshold; for windows the first that broke it, else the worst.
    pub measured: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Metric {
    Quantile { q: f64, sent: bool },
    Max { sent: bool },
    Mean { sent: bool },
    Rate,
    Requests,
    Errors,
    ErrorRate,
    LagP99,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Equal,
    NotEqual,
}

/// Judges thresholds while the run goes on.
pub(crate) struct Judge {
    threshold: Threshold,
    request: Option<usize>,
    /// The windows of one second that make up the last `over`.
    recent: std::collections::VecDeque<Window>,
    broken: Option<String>,
    last: Option<String>,
}

// === impl Thresholds ===

impl Thresholds {
    pub(crate) fn check_names(&self, names: &[&str]) -> Result<(), String> {
        for threshold in &self.load {
            if let Some(request) = threshold.request.as_deref().filter(|request| !names.contains(request)) {
                let known = names.join(", ");
                return Err(format!(
                    "threshold {:?}: no request is named {request:?} (there are: {known})",
                    threshold.text
                ));
            }
        }
        Ok(())
    }
}

// === impl Threshold ===

impl Threshold {
    /// `METRIC OP VALUE`, for example `p99 < 250ms`, `error_rate <= 1%`, `rate > 100`.
    pub fn parse(text: &str) -> Result<Threshold, String> {
        let operators = [
            ("<=", Comparison::LessOrEqual),
            (">=", Comparison::GreaterOrEqual),
            ("==", Comparison::Equal),
            ("!=", Comparison::NotEqual),
            ("<", Comparison::Less),
            (">", Comparison::Greater),
        ];
        let found = operators.iter().find_map(|(sign, comparison)| {
            let (metric, value) = text.split_once(sign)?;
            Some((metric.trim(), *comparison, value.trim()))
        });
        let (metric, comparison, value) =
            found.ok_or_else(|| format!("expected a comparison such as \"p99 < 250ms\", found {text:?}"))?;
        let metric = Metric::parse(metric)?;
        let bound = metric.parse_value(value)?;
        Ok(Threshold {
            metric,
            comparison,
            bound,
            text: text.trim().to_owned(),
            request: None,
            over: None,
            abort: false,
            after: Duration::ZERO,
        })
    }

    fn measure(&self, counts: &Counts, window: &Window, seconds: f64) -> Option<f64> {
        let latencies = |sent| if sent { &counts.sent } else { &counts.intended };
        let from_us = |us: u64| us as f64 / 1e6;
        match self.metric {
            Metric::Quantile { q, sent } => latencies(sent).quantile_us(q).map(from_us),
            Metric::Max { sent } => {
                Some(latencies(sent)).filter(|l| l.count() > 0).map(|l| from_us(l.max_us()))
            }
            Metric::Mean { sent } => latencies(sent).mean_us().map(|us| us / 1e6),
            Metric::Rate => (seconds > 0.0).then(|| counts.requests as f64 / seconds),
            Metric::Requests => Some(counts.requests as f64),
            Metric::Errors => Some(counts.failed() as f64),
            Metric::ErrorRate => {
                (counts.requests > 0).then(|| counts.failed() as f64 / counts.requests as f64)
            }
            Metric::LagP99 => window.lag.quantile_us(0.99).map(from_us),
        }
    }

    fn holds(&self, value: f64) -> bool {
        match self.comparison {
            Comparison::Less => value < self.bound,
            Comparison::LessOrEqual => value <= self.bound,
            Comparison::Greater => value > self.bound,
            Comparison::GreaterOrEqual => value >= self.bound,
            Comparison::Equal => value == self.bound,
            Comparison::NotEqual => value != self.bound,
        }
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        if let Some(request) = &self.request {
            write!(f, " for {request:?}")?;
        }
        match self.over {
            Some(window) => write!(f, " over every {window:?}"),
            None => Ok(()),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ThresholdLong {
    expr: Threshold,
    request: Option<String>,
    over: Option<Time>,
    #[serde(default)]
    abort: bool,
    after: Option<Time>,
}

impl<'de> ShortOrLong<'de> for Threshold {
    type Long = ThresholdLong;
    const EXPECTED: &'static str = "a comparison such as \"p99 < 250ms\", or a mapping with expr";

    fn short(text: &str) -> Result<Threshold, String> {
        Threshold::parse(text)
    }

    fn long(long: ThresholdLong) -> Result<Threshold, String> {
        let over = long.over.map(Time::get);
        let seconds = Duration::from_secs(1)..=LONGEST_WINDOW;
        if over.is_some_and(|over| !seconds.contains(&over) || over.subsec_nanos() > 0) {
            return Err("over: expected whole seconds, 1s to 5m".to_owned());
        }
        if long.abort && over.is_none() {
            return Err("abort needs a window: add over, for example over: 5s".to_owned());
        }
        let after = long.after.map(Time::get).unwrap_or_default();
        Ok(Threshold { request: long.request, over, abort: long.abort, after, ..long.expr })
    }
}

impl<'de> Deserialize<'de> for Threshold {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Threshold, D::Error> {
        short_or_long(deserializer)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PromqlLong {
    name: Option<String>,
    expr: String,
    #[serde(default)]
    when: When,
}

impl<'de> ShortOrLong<'de> for PromqlThreshold {
    type Long = PromqlLong;
    const EXPECTED: &'static str = "a PromQL comparison, or a mapping with expr";

    fn short(text: &str) -> Result<PromqlThreshold, String> {
        Ok(PromqlThreshold { name: text.to_owned(), expr: text.to_owned(), when: When::End })
    }

    fn long(long: PromqlLong) -> Result<PromqlThreshold, String> {
        let name = long.name.unwrap_or_else(|| long.expr.clone());
        Ok(PromqlThreshold { name, expr: long.expr, when: long.when })
    }
}

impl<'de> Deserialize<'de> for PromqlThreshold {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<PromqlThreshold, D::Error> {
        short_or_long(deserializer)
    }
}

// === impl Metric ===

impl Metric {
    fn parse(text: &str) -> Result<Metric, String> {
        let (name, sent) = match text.strip_prefix("send_") {
            Some(name) => (name, true),
            None => (text, false),
        };
        let quantile = || {
            let percent = name.strip_prefix('p')?.parse::<f64>().ok()?;
            (percent > 0.0 && percent <= 100.0).then_some(Metric::Quantile { q: percent / 100.0, sent })
        };
        match (name, sent) {
            ("max", _) => Ok(Metric::Max { sent }),
            ("mean", _) => Ok(Metric::Mean { sent }),
            ("rate", false) => Ok(Metric::Rate),
            ("requests", false) => Ok(Metric::Requests),
            ("errors", false) => Ok(Metric::Errors),
            ("error_rate", false) => Ok(Metric::ErrorRate),
            ("lag_p99", false) => Ok(Metric::LagP99),
            _ => quantile().ok_or_else(|| {
                format!(
                    "no metric {text:?}: there are p50, p99, p99.9 (any percentile), max, mean, each also as send_…, \
                     and rate, requests, errors, error_rate, lag_p99"
                )
            }),
        }
    }

    fn is_time(self) -> bool {
        matches!(self, Metric::Quantile { .. } | Metric::Max { .. } | Metric::Mean { .. } | Metric::LagP99)
    }

    fn parse_value(self, text: &str) -> Result<f64, String> {
        if self.is_time() {
            return parse_time(text).map(|time| time.as_secs_f64());
        }
        let percent = text.strip_suffix('%').map(str::trim);
        let rate = text.strip_suffix("/s").map(str::trim).filter(|_| self == Metric::Rate);
        let number = percent.or(rate).unwrap_or(text);
        let value = number.parse::<f64>().ok().filter(|value| value.is_finite());
        let value = value.ok_or_else(|| format!("expected a number, found {text:?}"))?;
        match percent {
            Some(_) if self != Metric::ErrorRate => {
                Err(format!("a percentage is for error_rate only: {text:?}"))
            }
            Some(_) => Ok(value / 100.0),
            None => Ok(value),
        }
    }

    fn print(self, value: f64) -> String {
        match self {
            _ if self.is_time() => format!("{} ms", crate::summary::three_digits(value * 1000.0)),
            Metric::ErrorRate => format!("{} %", crate::summary::three_digits(value * 100.0)),
            Metric::Rate => format!("{}/s", crate::summary::three_digits(value)),
            _ => format!("{value}"),
        }
    }
}

// === impl Judge ===

impl Judge {
    pub(crate) fn new(threshold: &Threshold, names: &[String]) -> Judge {
        let request =
            threshold.request.as_ref().and_then(|wanted| names.iter().position(|name| name == wanted));
        Judge { threshold: threshold.clone(), request, recent: Default::default(), broken: None, last: None }
    }

    /// One more second is over; `elapsed` since the start. Returns why the run must end, if it must.
    pub(crate) fn second(&mut self, window: &Window, elapsed: Duration) -> Option<String> {
        let over = self.threshold.over?;
        let seconds = over.as_secs() as usize;
        self.recent.push_back(window.clone());
        if self.recent.len() > seconds {
            self.recent.pop_front();
        }
        if self.recent.len() < seconds || elapsed < self.threshold.after || self.broken.is_some() {
            return None;
        }
        let mut whole = Window::new(window.requests.len());
        self.recent.iter().for_each(|part| whole.merge(part));
        let value = self.threshold.measure(&self.counts(&whole), &whole, over.as_secs_f64())?;
        let measured = self.threshold.metric.print(value);
        if self.threshold.holds(value) {
            self.last = Some(measured);
            return None;
        }
        self.broken = Some(format!("{measured} at {} s", elapsed.as_secs()));
        self.threshold.abort.then(|| format!("{}: {measured}", self.threshold))
    }

    /// The verdict, given everything that was counted in `seconds`.
    pub(crate) fn verdict(self, whole: &Window, seconds: f64) -> Outcome {
        let threshold = self.threshold.to_string();
        if self.threshold.over.is_some() {
            let passed = self.broken.is_none() && self.last.is_some();
            let measured = self.broken.or(self.last).unwrap_or_else(|| "no full window".to_owned());
            return Outcome { threshold, passed, measured };
        }
        let value = self.threshold.measure(&self.counts(whole), whole, seconds);
        match value {
            None => Outcome { threshold, passed: false, measured: "nothing".to_owned() },
            Some(value) => Outcome {
                threshold,
                passed: self.threshold.holds(value),
                measured: self.threshold.metric.print(value),
            },
        }
    }

    fn counts(&self, window: &Window) -> Counts {
        match self.request.and_then(|index| window.requests.get(index)) {
            Some(counts) => counts.clone(),
            None => window.total(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_with_their_units() {
        let parse = |text| Threshold::parse(text).map(|t| (t.metric, t.comparison, t.bound));
        assert_eq!(
            parse("p99 < 250ms"),
            Ok((Metric::Quantile { q: 0.99, sent: false }, Comparison::Less, 0.25))
        );
        assert_eq!(parse("send_max<=1s"), Ok((Metric::Max { sent: true }, Comparison::LessOrEqual, 1.0)));
        assert_eq!(parse("error_rate == 0"), Ok((Metric::ErrorRate, Comparison::Equal, 0.0)));
        assert_eq!(parse("error_rate <= 1%"), Ok((Metric::ErrorRate, Comparison::LessOrEqual, 0.01)));
        assert_eq!(parse("rate > 100/s"), Ok((Metric::Rate, Comparison::Greater, 100.0)));
        for wrong in ["p99", "p99 < 5", "p0 < 1s", "p101 < 1s", "rate > fast", "errors < 1%", "send_rate > 1"]
        {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_window_that_breaks_it_is_the_verdict() {
        let mut threshold = Threshold::parse("error_rate == 0").unwrap();
        threshold.over = Some(Duration::from_secs(2));
        threshold.abort = true;
        let mut judge = Judge::new(&threshold, &["a".to_owned()]);
        let mut good = Window::new(1);
        good.requests[0].requests = 10;
        let recorder = crate::recorder::Recorder::new(1);
        recorder.record_failure(0, crate::recorder::Failure::Timeout);
        let bad = recorder.take();
        assert_eq!(judge.second(&bad, Duration::from_secs(1)), None, "half a window is not judged");
        let why = judge.second(&good, Duration::from_secs(2));
        assert!(why.is_some_and(|why| why.contains("9.09 %")));
        let verdict = judge.verdict(&good, 3.0);
        assert_eq!((verdict.passed, verdict.measured.as_str()), (false, "9.09 % at 2 s"));
    }

    #[test]
    fn nothing_measured_does_not_pass() {
        let judge = Judge::new(&Threshold::parse("p99 < 1s").unwrap(), &[]);
        assert!(!judge.verdict(&Window::new(1), 1.0).passed);
    }
}
