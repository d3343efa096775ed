//! Kubernetes timestamps from and to milliseconds since the Unix epoch.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use k8s_openapi::jiff::Timestamp;

/// The API's time, which has whole seconds.
pub fn time_from_ms(ms: i64) -> Time {
    Time(Timestamp::from_second(ms.div_euclid(1000)).unwrap_or(Timestamp::UNIX_EPOCH))
}

/// The API's time with microseconds, as leases and events use it.
pub fn micro_time_from_ms(ms: i64) -> MicroTime {
    MicroTime(Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH))
}

pub fn time_to_ms(time: &Time) -> i64 {
    time.0.as_millisecond()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_seconds_round_down() {
        assert_eq!(time_to_ms(&time_from_ms(1_999)), 1_000);
        assert_eq!(time_to_ms(&time_from_ms(-1)), -1_000);
        assert_eq!(time_from_ms(i64::MAX), Time(Timestamp::UNIX_EPOCH));
    }
}
