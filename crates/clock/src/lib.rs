//! The clock trait, Go and Prometheus durations, back-off.
