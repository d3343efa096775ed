//! Calendar functions.

use crate::calendar::{Civil, days_in_month};

/// The value of a calendar function at a time in seconds; `None` when the name is not one.
pub(super) fn date_function(name: &str) -> Option<fn(f64) -> f64> {
    fn civil(seconds: f64) -> Civil {
        // Times that no calendar reaches are clamped; they would only be garbage otherwise.
        Civil::from_unix_seconds((seconds as i64).clamp(-(1 << 53), 1 << 53))
    }
    Some(match name {
        "day_of_month" => |seconds| civil(seconds).day as f64,
        "day_of_week" => |seconds| civil(seconds).weekday as f64,
        "day_of_year" => |seconds| civil(seconds).year_day as f64,
        "days_in_month" => |seconds| {
            let date = civil(seconds);
            days_in_month(date.year, date.month) as f64
        },
        "hour" => |seconds| civil(seconds).hour as f64,
        "minute" => |seconds| civil(seconds).minute as f64,
        "month" => |seconds| civil(seconds).month as f64,
        "year" => |seconds| civil(seconds).year as f64,
        _ => return None,
    })
}
