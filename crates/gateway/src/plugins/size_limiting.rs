//! `request-size-limiting`: how large a request's body may be.

use super::settings::Settings;
use super::{Answer, MAX_PLUGIN_BODY_BYTES, Plugin, Request};

pub(crate) struct SizeLimiting {
    max_bytes: u64,
    needs_length: bool,
}

impl SizeLimiting {
    pub(crate) fn new(settings: &Settings<'_>) -> SizeLimiting {
        let unit: u64 = match settings.text("size_unit").as_deref() {
            Some("bytes") => 1,
            Some("kilobytes") => 1 << 10,
            _ => 1 << 20,
        };
        let size = settings.number("allowed_payload_size").unwrap_or(128.0).max(0.0) as u64;
        SizeLimiting {
            max_bytes: size.saturating_mul(unit),
            needs_length: settings.flag("require_content_length", false),
        }
    }
}

impl Plugin for SizeLimiting {
    fn access(&self, request: &mut Request<'_>) -> Result<(), Answer> {
        let too_large = || {
            if request.head.expects_continue {
                Answer::error(417, "Request size limit exceeded")
            } else {
                Answer::error(413, "Request size limit exceeded")
            }
        };
        match request.head.content_length {
            Some(length) if length > self.max_bytes => Err(too_large()),
            Some(_) => Ok(()),
            None if self.needs_length => Err(Answer::error(411, "A valid Content-Length header is required")),
            None => match &request.body {
                Some(body) if body.len() as u64 > self.max_bytes => Err(too_large()),
                _ => Ok(()),
            },
        }
    }

    /// Bodies of unknown length are read as far as they may be long, but never further than what may be held in memory:
    /// they are read before anybody is known to be allowed to send them. Longer ones are answered with 413.
    fn reads_unknown_body(&self) -> Option<usize> {
        let longest = usize::try_from(self.max_bytes).unwrap_or(usize::MAX).saturating_add(1);
        Some(longest.min(MAX_PLUGIN_BODY_BYTES))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn no_setting_lets_a_body_fill_the_memory() {
        let of = |config| SizeLimiting::new(&Settings(&config)).reads_unknown_body();
        assert_eq!(of(json!({})), Some(MAX_PLUGIN_BODY_BYTES));
        assert_eq!(of(json!({"allowed_payload_size": 1e18})), Some(MAX_PLUGIN_BODY_BYTES));
        assert_eq!(of(json!({"allowed_payload_size": 4, "size_unit": "bytes"})), Some(5));
    }
}
