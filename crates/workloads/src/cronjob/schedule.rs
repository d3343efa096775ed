//! Cron schedules as Kubernetes reads them: five fields or a descriptor, looked up in a time zone.
//!
//! Where both the day of the month and the day of the week are restricted, either is enough. A time that a change of
//! the clock leaves out does not come; one that it repeats comes twice.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// A day may be years away (29 February), but not for ever (31 June).
const HORIZON: SignedDuration = SignedDuration::from_hours(5 * 366 * 24);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ScheduleError {
    #[error("expected exactly 5 fields, found {found}: [{text}]")]
    Fields { found: usize, text: String },
    #[error(
        "unrecognized descriptor: {0}; @yearly, @monthly, @weekly, @daily, @hourly and @every DURATION are known"
    )]
    Descriptor(String),
    #[error("failed to parse {what} from {text:?}: {reason}")]
    Field { what: &'static str, text: String, reason: String },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Schedule {
    Fields { minutes: u64, hours: u64, days: Days, months: u64 },
    Every(SignedDuration),
}

/// Sets of days as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Days {
    of_month: u64,
    of_week: u64,
    /// Both must hold, since one of them holds always.
    both: bool,
}

struct Unit {
    what: &'static str,
    least: u32,
    most: u32,
    names: &'static [&'static str],
}

const MINUTE: Unit = Unit { what: "minute", least: 0, most: 59, names: &[] };
const HOUR: Unit = Unit { what: "hour", least: 0, most: 23, names: &[] };
const DAY: Unit = Unit { what: "day of the month", least: 1, most: 31, names: &[] };
const MONTH: Unit = Unit {
    what: "month",
    least: 1,
    most: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
const WEEKDAY: Unit = Unit {
    what: "day of the week",
    least: 0,
    most: 6,
    names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
};

impl Schedule {
    pub(crate) fn parse(text: &str) -> Result<Schedule, ScheduleError> {
        let text = text.trim();
        if let Some(descriptor) = text.strip_prefix('@') {
            let fields = match descriptor {
                "yearly" | "annually" => "0 0 1 1 *",
                "monthly" => "0 0 1 * *",
                "weekly" => "0 0 * * 0",
                "daily" | "midnight" => "0 0 * * *",
                "hourly" => "0 * * * *",
                other => return every(other).ok_or_else(|| ScheduleError::Descriptor(text.to_owned())),
            };
            return Schedule::parse(fields);
        }
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields[..] else {
            return Err(ScheduleError::Fields { found: fields.len(), text: text.to_owned() });
        };
        let (of_month, any_day) = field(day, &DAY)?;
        let (of_week, any_weekday) = field(weekday, &WEEKDAY)?;
        Ok(Schedule::Fields {
            minutes: field(minute, &MINUTE)?.0,
            hours: field(hour, &HOUR)?.0,
            days: Days { of_month, of_week, both: any_day || any_weekday },
            months: field(month, &MONTH)?.0,
        })
    }

    /// The first time after `from`, if there is one within five years.
    pub(crate) fn next(&self, from: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let (minutes, hours, days, months) = match self {
            Schedule::Every(period) => {
                let next = from.checked_add(*period).ok()?;
                return Timestamp::from_second(next.as_second()).ok();
            }
            Schedule::Fields { minutes, hours, days, months } => (*minutes, *hours, *days, *months),
        };
        let end = from.checked_add(HORIZON).ok()?;
        let mut at =
            Timestamp::from_second(from.as_second().div_euclid(60).checked_add(1)?.checked_mul(60)?).ok()?;
        while at < end {
            let local = zone.to_datetime(at);
            let later = if !has(months, local.month()) {
                let first = local.date().first_of_month().checked_add(jiff::Span::new().months(1)).ok()?;
                start_of(first.into(), zone)?
            } else if !days.has(local) {
                start_of(local.date().tomorrow().ok()?.into(), zone)?
            } else if !has(hours, local.hour()) {
                at.checked_add(SignedDuration::from_mins(60 - i64::from(local.minute()))).ok()?
            } else if !has(minutes, local.minute()) {
                at.checked_add(SignedDuration::from_mins(1)).ok()?
            } else {
                return Some(at);
            };
            // The start of a day that a change of the clock has moved back must not hold up the search.
            at = later.max(at.checked_add(SignedDuration::from_mins(1)).ok()?);
        }
        None
    }

    /// The last time after `earliest` and not after `now`.
    pub(crate) fn most_recent(
        &self,
        earliest: Timestamp,
        now: Timestamp,
        zone: &TimeZone,
    ) -> Option<Timestamp> {
        if let Schedule::Every(period) = self {
            let periods = now.duration_since(earliest).as_secs() / period.as_secs();
            let elapsed = SignedDuration::from_secs(periods.checked_mul(period.as_secs())?);
            return (periods > 0).then(|| earliest.checked_add(elapsed).ok()).flatten();
        }
        // The shortest look back that finds anything is the cheapest.
        for hours in [1, 24, 31 * 24, 366 * 24, 5 * 366 * 24] {
            let begin = now.checked_sub(SignedDuration::from_hours(hours)).ok()?.max(earliest);
            let mut found = None;
            let mut at = begin;
            while let Some(next) = self.next(at, zone).filter(|next| *next <= now) {
                found = Some(next);
                at = next;
            }
            if found.is_some() || begin == earliest {
                return found;
            }
        }
        None
    }
}

impl Days {
    fn has(self, local: DateTime) -> bool {
        let of_month = has(self.of_month, local.day());
        let of_week = has(self.of_week, local.weekday().to_sunday_zero_offset());
        if self.both { of_month && of_week } else { of_month || of_week }
    }
}

fn has(set: u64, member: i8) -> bool {
    u32::try_from(member).is_ok_and(|bit| set & (1 << bit) != 0)
}

fn start_of(midnight: DateTime, zone: &TimeZone) -> Option<Timestamp> {
    zone.to_timestamp(midnight).ok()
}

fn every(descriptor: &str) -> Option<Schedule> {
    let nanos = gantry_clock::parse_go_duration(descriptor.strip_prefix("every ")?.trim()).ok()?;
    let seconds = (nanos / 1_000_000_000).max(1);
    (nanos > 0).then(|| Schedule::Every(SignedDuration::from_secs(seconds)))
}

/// The members of a field, and whether it is `*`.
fn field(text: &str, unit: &Unit) -> Result<(u64, bool), ScheduleError> {
    let wrong = |reason: String| ScheduleError::Field { what: unit.what, text: text.to_owned(), reason };
    let mut set = 0u64;
    let mut any = false;
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => {
                let step = step.parse::<u32>().ok().filter(|step| *step > 0);
                (range, Some(step.ok_or_else(|| wrong("the step must be a positive number".to_owned()))?))
            }
            None => (part, None),
        };
        let (from, to) = match range {
            "*" | "?" => {
                any |= step.is_none_or(|step| step == 1);
                (unit.least, unit.most)
            }
            range => match range.split_once('-') {
                Some((from, to)) => (member(from, unit).map_err(wrong)?, member(to, unit).map_err(wrong)?),
                None => {
                    let from = member(range, unit).map_err(wrong)?;
                    // `5/15` goes on to the end.
                    (from, if step.is_some() { unit.most } else { from })
                }
            },
        };
        if from > to {
            return Err(wrong(format!("beginning of range ({from}) beyond end of range ({to})")));
        }
        let step = usize::try_from(step.unwrap_or(1)).unwrap_or(usize::MAX);
        set |= (from..=to).step_by(step).fold(0, |set, member| set | 1 << member);
    }
    Ok((set, any))
}

fn member(text: &str, unit: &Unit) -> Result<u32, String> {
    let lower = text.to_ascii_lowercase();
    let named = unit.names.iter().position(|name| *name == lower).and_then(|at| u32::try_from(at).ok());
    let number = match named {
        Some(at) => at + unit.least,
        None => text.parse().map_err(|_| format!("{text:?} is not a {}", unit.what))?,
    };
    match (unit.least..=unit.most).contains(&number) {
        true => Ok(number),
        false => Err(format!("{number} is not between {} and {}", unit.least, unit.most)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(schedule: &str, from: &str, zone: &str) -> String {
        let zone = TimeZone::get(zone).expect("a zone");
        let next = Schedule::parse(schedule).expect(schedule).next(from.parse().expect(from), &zone);
        next.map(|next| next.to_string()).unwrap_or_default()
    }

    #[test]
    fn the_next_time_follows_every_kind_of_field() {
        let cases = [
            ("* * * * *", "2026-11-28T10:00:00Z", "2026-11-28T10:01:00Z"),
            ("*/15 * * * *", "2026-11-28T10:46:30Z", "2026-11-28T11:00:00Z"),
            ("5/20 * * * *", "2026-11-28T10:05:00Z", "2026-11-28T10:25:00Z"),
            ("0 9-17/4 * * MON-FRI", "2026-11-28T10:00:00Z", "2026-11-30T09:00:00Z"),
            ("30 2 1 JAN,jul *", "2026-02-01T00:00:00Z", "2026-07-01T02:30:00Z"),
            ("0 0 13 * fri", "2026-11-09T00:00:00Z", "2026-11-13T00:00:00Z"),
            ("0 0 15 * fri", "2026-11-13T00:00:00Z", "2026-11-15T00:00:00Z"),
            ("0 0 29 2 *", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"),
            ("0 0 31 6 ?", "2026-01-01T00:00:00Z", ""),
            ("@hourly", "2026-11-28T10:00:00Z", "2026-11-28T11:00:00Z"),
            ("@weekly", "2026-11-28T10:00:00Z", "2026-11-29T00:00:00Z"),
            ("@yearly", "2026-11-28T10:00:00Z", "2027-01-01T00:00:00Z"),
            ("@every 1h30m", "2026-11-28T10:00:00Z", "2026-11-28T11:30:00Z"),
        ];
        for (schedule, from, expected) in cases {
            assert_eq!(next(schedule, from, "UTC"), expected, "{schedule}");
        }
    }

    #[test]
    fn zones_and_their_changes_of_the_clock() {
        assert_eq!(next("0 9 * * *", "2026-11-28T10:00:00Z", "Asia/Tokyo"), "2026-11-29T00:00:00Z");
        // 02:30 does not exist on 29 March 2026 in Berlin.
        assert_eq!(next("30 2 * * *", "2026-03-28T12:00:00Z", "Europe/Berlin"), "2026-03-30T00:30:00Z");
        // 02:30 comes twice on 25 October.
        assert_eq!(next("30 2 * * *", "2026-10-24T12:00:00Z", "Europe/Berlin"), "2026-10-25T00:30:00Z");
        assert_eq!(next("30 2 * * *", "2026-10-25T00:30:00Z", "Europe/Berlin"), "2026-10-25T01:30:00Z");
    }

    #[test]
    fn the_most_recent_time_is_found_however_long_ago() {
        let recent = |schedule: &str, earliest: &str| {
            let schedule = Schedule::parse(schedule).expect(schedule);
            let now = "2026-11-28T10:00:30Z".parse().expect("a time");
            let found = schedule.most_recent(earliest.parse().expect(earliest), now, &TimeZone::UTC);
            found.map(|found| found.to_string()).unwrap_or_default()
        };
        assert_eq!(recent("* * * * *", "2020-01-01T00:00:00Z"), "2026-11-28T10:00:00Z");
        assert_eq!(recent("@yearly", "2020-01-01T00:00:00Z"), "2026-01-01T00:00:00Z");
        assert_eq!(recent("@every 7s", "2026-11-28T10:00:00Z"), "2026-11-28T10:00:28Z");
        assert_eq!(recent("0 12 * * *", "2026-11-28T00:00:00Z"), "");
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        for bad in [
            "",
            "* * * *",
            "60 * * * *",
            "* * 0 * *",
            "* * * * 7",
            "5-1 * * * *",
            "*/0 * * * *",
            "x * * * *",
            "@often",
            "@every x",
        ] {
            assert!(Schedule::parse(bad).is_err(), "{bad}");
        }
    }
}
