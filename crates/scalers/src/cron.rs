//! `cron`: desired replicas inside a window that two cron expressions open and close, in a time zone.
//!
//! Expressions are the standard five fields; days of month and week are alternatives of each other when both are given.

use std::sync::Arc;

use async_trait::async_trait;
use gantry_clock::Clock;
use jiff::civil::{DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, Zoned};

use crate::config::TriggerConfig;
use crate::parameters::{Field, Fields, META};
use crate::scaler::{Reading, Scaler, ScalerError};
use crate::spec::{Amount, MetricSpec, MetricType, metric_name};

/// No schedule is looked for further ahead than this.
const YEARS_AHEAD: i16 = 8;

/// A cron expression, as one set of bits per field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Schedule {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    any_day: bool,
    any_weekday: bool,
}

pub(crate) struct Cron {
    name: String,
    metric_type: MetricType,
    zone: TimeZone,
    start: Schedule,
    end: Schedule,
    replicas: i64,
    clock: Arc<dyn Clock>,
}

// === impl Schedule ===

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

impl Schedule {
    pub(crate) fn parse(text: &str) -> Result<Schedule, String> {
        let text = match text.trim() {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            other => other,
        };
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields.as_slice() else {
            return Err(format!("expected 5 fields, found {}: {text:?}", fields.len()));
        };
        let (minutes, _) = field("minute", minutes, 0, 59, &[])?;
        let (hours, _) = field("hour", hours, 0, 23, &[])?;
        let (days, any_day) = field("day of month", days, 1, 31, &[])?;
        let (months, _) = field("month", months, 1, 12, &MONTHS)?;
        let (weekdays, any_weekday) = field("day of week", weekdays, 0, 6, &WEEKDAYS)?;
        Ok(Schedule { minutes, hours, days, months, weekdays, any_day, any_weekday })
    }

    /// The first moment after `now`; `None` when there is none within years.
    pub(crate) fn next(&self, now: &Zoned) -> Option<Zoned> {
        let mut at = now.datetime().checked_add(Span::new().minutes(1)).ok()?;
        at = DateTime::from_parts(at.date(), Time::new(at.hour(), at.minute(), 0, 0).ok()?);
        let last_year = at.year().saturating_add(YEARS_AHEAD);
        while at.year() <= last_year {
            if self.months & (1 << at.month()) == 0 {
                at = midnight(at.date().first_of_month().checked_add(Span::new().months(1)).ok()?);
            } else if !self.day_matches(at) {
                at = midnight(at.date().checked_add(Span::new().days(1)).ok()?);
            } else if self.hours & (1 << at.hour()) == 0 {
                let hour = DateTime::from_parts(at.date(), Time::new(at.hour(), 0, 0, 0).ok()?);
                at = hour.checked_add(Span::new().hours(1)).ok()?;
            } else if self.minutes & (1 << at.minute()) == 0 {
                at = at.checked_add(Span::new().minutes(1)).ok()?;
            } else {
                let found = at.to_zoned(now.time_zone().clone()).ok()?;
                if found.timestamp() > now.timestamp() {
                    return Some(found);
                }
                // The clock was set back: this local time has passed already.
                at = at.checked_add(Span::new().minutes(1)).ok()?;
            }
        }
        None
    }

    fn day_matches(&self, at: DateTime) -> bool {
        let day = self.days & (1 << at.day()) != 0;
        let weekday = self.weekdays & (1 << at.weekday().to_sunday_zero_offset()) != 0;
        if self.any_day || self.any_weekday { day && weekday } else { day || weekday }
    }
}

fn midnight(date: jiff::civil::Date) -> DateTime {
    DateTime::from_parts(date, Time::midnight())
}

/// The bits of one field, and whether it says `*`.
fn field(what: &str, text: &str, least: u32, most: u32, names: &[&str]) -> Result<(u64, bool), String> {
    let wrong = |part: &str| format!("{what} {part:?} must be within {least}-{most}");
    let number = |text: &str| -> Option<u32> {
        if let Some(index) = names.iter().position(|name| name.eq_ignore_ascii_case(text)) {
            return Some(least + u32::try_from(index).ok()?);
        }
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse().ok()).flatten()
    };
    let (mut bits, mut any) = (0u64, false);
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => {
                let step = number(step).filter(|step| *step > 0).ok_or_else(|| wrong(part))?;
                (range, Some(step))
            }
            None => (part, None),
        };
        let (from, to) = if range == "*" || range == "?" {
            any |= step.is_none_or(|step| step == 1);
            (least, most)
        } else if let Some((from, to)) = range.split_once('-') {
            (number(from).ok_or_else(|| wrong(part))?, number(to).ok_or_else(|| wrong(part))?)
        } else {
            let from = number(range).ok_or_else(|| wrong(part))?;
            // A step without an end goes to the end of the field.
            (from, if step.is_some() { most } else { from })
        };
        if from < least || to > most || from > to {
            return Err(wrong(part));
        }
        let step = usize::try_from(step.unwrap_or(1)).unwrap_or(usize::MAX);
        bits |= (from..=to).step_by(step).fold(0, |bits, value| bits | (1u64 << value));
    }
    Ok((bits, any))
}

// === impl Cron ===

impl Cron {
    pub(crate) fn new(config: &TriggerConfig, clock: Arc<dyn Clock>) -> Result<Cron, ScalerError> {
        let mut fields = Fields::of(config);
        let start_text: String = fields.required(Field::new(&["start"], META));
        let end_text: String = fields.required(Field::new(&["end"], META));
        let zone_name: String = fields.required(Field::new(&["timezone"], META));
        let replicas: i64 = fields.required(Field::new(&["desiredReplicas"], META));
        fields.require(start_text != end_text || start_text.is_empty(), || {
            "start and end must not be the same".into()
        });
        let mut schedule = |name: &str, text: &str| {
            let parsed = Schedule::parse(text);
            if let (Err(error), false) = (&parsed, text.is_empty()) {
                let message = format!("error parsing {name} schedule: {error}");
                fields.require(false, || message);
            }
            parsed.ok()
        };
        let (start, end) = (schedule("start", &start_text), schedule("end", &end_text));
        let zone = TimeZone::get(&zone_name);
        fields.require(zone.is_ok() || zone_name.is_empty(), || {
            format!("unable to load timezone {zone_name:?}: it is not in the time zone database")
        });
        let metric_type = MetricType::external(config.metric_type);
        fields.require(metric_type.is_ok(), || metric_type.clone().err().unwrap_or_default());
        fields.finish()?;
        let lost = |what: &str| ScalerError::Metadata {
            kind: config.kind.clone(),
            message: format!("{what} could not be read"),
        };
        let base = format!("cron-{zone_name}-{}-{}", plain(&start_text), plain(&end_text));
        Ok(Cron {
            name: metric_name(config.index, &base),
            metric_type: metric_type.unwrap_or(MetricType::AverageValue),
            zone: zone.map_err(|_| lost("timezone"))?,
            start: start.ok_or_else(|| lost("start"))?,
            end: end.ok_or_else(|| lost("end"))?,
            replicas,
            clock,
        })
    }

    fn local(&self, now_ms: i64) -> Option<Zoned> {
        Some(Timestamp::from_millisecond(now_ms).ok()?.to_zoned(self.zone.clone()))
    }

    /// Inside the window the end comes before the next start.
    fn is_open(&self, now_ms: i64) -> bool {
        let Some(now) = self.local(now_ms) else { return false };
        match (self.start.next(&now), self.end.next(&now)) {
            (Some(start), Some(end)) => end <= start,
            (None, Some(_)) => true,
            _ => false,
        }
    }
}

/// An expression as part of a name.
fn plain(expression: &str) -> String {
    let mut text = String::with_capacity(expression.len());
    for c in expression.chars() {
        match c {
            ' ' => {}
            '*' => text.push('x'),
            '/' => text.push_str("Sl"),
            '?' => text.push_str("Qm"),
            ',' => text.push_str("Cm"),
            other => text.push(other),
        }
    }
    text
}

#[async_trait]
impl Scaler for Cron {
    async fn metrics(&self) -> Result<Vec<MetricSpec>, ScalerError> {
        let target = Amount::of(1.0);
        Ok(vec![MetricSpec::External { name: self.name.clone(), metric_type: self.metric_type, target }])
    }

    async fn read(&self, _metric: &str) -> Result<Reading, ScalerError> {
        let active = self.is_open(self.clock.now_ms());
        let value = if active { self.replicas as f64 } else { 0.0 };
        Ok(Reading { value, active })
    }

    fn next_change_ms(&self, now_ms: i64) -> Option<i64> {
        let now = self.local(now_ms)?;
        let edges = [self.start.next(&now), self.end.next(&now)];
        edges.into_iter().flatten().map(|edge| edge.timestamp().as_millisecond()).min()
    }
}

#[cfg(test)]
mod tests {
    use gantry_clock::ManualClock;

    use super::*;

    fn next(expression: &str, after: &str) -> String {
        let after: Zoned = after.parse().unwrap();
        Schedule::parse(expression)
            .unwrap()
            .next(&after)
            .map(|z| z.datetime().to_string())
            .unwrap_or_default()
    }

    #[test]
    fn the_next_moment() {
        let at = "2026-11-28T06:59:30[UTC]";
        assert_eq!(next("0 * * * *", at), "2026-11-28T07:00:00");
        assert_eq!(next("*/15 9-17 * * Mon-Fri", at), "2026-11-30T09:00:00");
        assert_eq!(next("0 0 29 2 *", at), "2028-02-29T00:00:00");
        assert_eq!(next("0 0 1 * Sun", at), "2026-11-29T00:00:00");
        assert_eq!(next("0 0 31 2 *", at), "");
        assert_eq!(next("@monthly", at), "2026-12-01T00:00:00");
        // Half past two is skipped in spring, and comes only once per schedule in autumn.
        assert_eq!(next("30 2 * * *", "2026-03-29T01:00:00[Europe/Berlin]"), "2026-03-29T03:30:00");
    }

    #[test]
    fn what_is_no_expression() {
        for wrong in [
            "",
            "* * * *",
            "60 * * * *",
            "-30 * * * *",
            "5-3 * * * *",
            "*/0 * * * *",
            "* * 0 * *",
            "a * * * *",
        ] {
            assert!(Schedule::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn the_window_opens_and_closes_by_the_clock() {
        let mut config = TriggerConfig::new("cron");
        for (name, value) in [
            ("timezone", "Asia/Kolkata"),
            ("start", "30 * * * *"),
            ("end", "45 * * * *"),
            ("desiredReplicas", "10"),
        ] {
            config.metadata.insert(name.into(), value.into());
        }
        let at = |text: &str| text.parse::<Timestamp>().unwrap().as_millisecond();
        let clock = ManualClock::new(at("2026-11-28T00:59:59Z"));
        let cron = Cron::new(&config, Arc::new(clock.clone())).unwrap();
        assert_eq!(cron.read("").await.unwrap(), Reading { value: 0.0, active: false });
        // Kolkata is half an hour off: its half hours are our whole ones.
        assert_eq!(cron.next_change_ms(clock.now_ms()), Some(at("2026-11-28T01:00:00Z")));
        clock.set_wall_ms(at("2026-11-28T01:00:00Z"));
        assert_eq!(cron.read("").await.unwrap(), Reading { value: 10.0, active: true });
        clock.set_wall_ms(at("2026-11-28T01:15:00Z"));
        assert!(!cron.read("").await.unwrap().active);
        assert_eq!(
            cron.metrics().await.unwrap()[0].external_name(),
            Some("s0-cron-Asia-Kolkata-30xxxx-45xxxx")
        );
    }
}
