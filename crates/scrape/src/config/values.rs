//! Durations and sizes as configuration files write them.

use gantry_clock::{format_prometheus_duration, parse_prometheus_duration};
use serde::{Deserialize, Deserializer};

/// A duration such as `1m30s`, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Milliseconds(pub i64);

impl Milliseconds {
    /// As a standard duration; a negative one is zero.
    pub fn duration(self) -> std::time::Duration {
        std::time::Duration::from_millis(u64::try_from(self.0).unwrap_or(0))
    }
}

impl std::fmt::Display for Milliseconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&format_prometheus_duration(self.0))
    }
}

impl<'de> Deserialize<'de> for Milliseconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Milliseconds, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_prometheus_duration(&text).map(Milliseconds).map_err(serde::de::Error::custom)
    }
}

/// A number of bytes such as `10MB` (powers of 1024, as Prometheus reads them).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ByteSize(pub u64);

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ByteSize, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_bytes(&text).map(ByteSize).ok_or_else(|| {
            serde::de::Error::custom(format!(
                "{text:?} is not a size; write a number and B, KB, MB, GB, TB, PB or EB"
            ))
        })
    }
}

/// Reads `512MB` and the like.
pub(crate) fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let exponent = match unit.trim() {
        "" | "B" => 0,
        "KB" | "KiB" => 1,
        "MB" | "MiB" => 2,
        "GB" | "GiB" => 3,
        "TB" | "TiB" => 4,
        "PB" | "PiB" => 5,
        "EB" | "EiB" => 6,
        _ => return None,
    };
    if unit.is_empty() && number != "0" {
        return None;
    }
    let bytes = number.parse::<f64>().ok()? * 1024f64.powi(exponent);
    (bytes < 1.8e19).then_some(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::parse_bytes;

    #[test]
    fn sizes() {
        assert_eq!(parse_bytes("0"), Some(0));
        assert_eq!(parse_bytes("15MB"), Some(15 * 1024 * 1024));
        assert_eq!(parse_bytes("1.5KB"), Some(1536));
        assert_eq!(parse_bytes("100"), None);
        assert_eq!(parse_bytes("x"), None);
        assert_eq!(parse_bytes("99999999EB"), None);
    }
}
