//! Dates of the proleptic Gregorian calendar in UTC.

/// A moment taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Civil {
    pub(crate) year: i64,
    /// 1 to 12
    pub(crate) month: i64,
    /// 1 to 31
    pub(crate) day: i64,
    pub(crate) hour: i64,
    pub(crate) minute: i64,
    pub(crate) second: i64,
    /// 0 is Sunday
    pub(crate) weekday: i64,
    /// From 1
    pub(crate) year_day: i64,
}

pub(crate) fn is_leap_year(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

pub(crate) fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap_year(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

impl Civil {
    pub(crate) fn from_unix_seconds(seconds: i64) -> Civil {
        let days = seconds.div_euclid(86_400);
        let second_of_day = seconds.rem_euclid(86_400);
        // Years are counted from March, so that the leap day is the last of its year; eras have 400 years.
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_from_march = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_from_march + 2) / 153;
        let day = day_from_march - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        let before: i64 = (1..month).map(|earlier| days_in_month(year, earlier)).sum();
        Civil {
            year,
            month,
            day,
            hour: second_of_day / 3_600,
            minute: second_of_day / 60 % 60,
            second: second_of_day % 60,
            weekday: (days + 4).rem_euclid(7),
            year_day: before + day,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_days() {
        let epoch = Civil::from_unix_seconds(0);
        assert_eq!((epoch.year, epoch.month, epoch.day, epoch.weekday, epoch.year_day), (1970, 1, 1, 4, 1));
        let leap = Civil::from_unix_seconds(1_709_210_096);
        assert_eq!(
            (leap.year, leap.month, leap.day, leap.hour, leap.minute, leap.second),
            (2024, 2, 29, 12, 34, 56)
        );
        assert_eq!((leap.weekday, leap.year_day), (4, 60));
        let before = Civil::from_unix_seconds(-1);
        assert_eq!((before.year, before.month, before.day, before.second), (1969, 12, 31, 59));
    }
}
